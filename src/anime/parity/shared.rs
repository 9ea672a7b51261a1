//! Rows that several anime share: what was said of them by anyone, against what they hold.
//!
//! Only digests are kept, eight bytes a leaf, so that an artifact of any size is compared in bounded
//! memory.

use std::collections::HashSet;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::entry::{CharacterPart, Company};
use crate::anime::parity::compare::Told;
use crate::anime::parity::found::{Changed, Found, Row};
use crate::anime::parity::standing::Standing;
use crate::anime::parity::values::{leaves, scalar};
use crate::anime::store::characters::{StoredCharacter, characters};
use crate::anime::store::identity::uuid_of;
use crate::anime::store::load::texts;
use crate::canonical::sha256;
use crate::error::Result;
use crate::json::Json;

/// Leaves remembered at most: 128 MiB.
const LEAVES_MAX: usize = 16 << 20;

/// Rows looked at together.
const PAGE: usize = 500;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Anime of which nothing else was ever heard.
    alone: HashSet<Uuid>,
    characters: Vec<Uuid>,
    companies: Vec<Uuid>,
    said: Vec<u64>,
    /// More was said than is remembered: what nobody said cannot be told.
    is_full: bool,
}

fn digest(id: Uuid, path: &str, leaf: &str) -> u64 {
    let mut bytes = id.as_bytes().to_vec();
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(leaf.as_bytes());
    sha256(&bytes).first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
}

impl Shared {
    pub(super) fn anime(&mut self, told: &Told<'_>) {
        if told.standing == Standing::Alone {
            self.alone.insert(told.anime);
        }
    }

    fn say(&mut self, id: Uuid, path: &str, leaf: &str) {
        if self.said.len() < LEAVES_MAX {
            self.said.push(digest(id, path, leaf));
        } else {
            self.is_full = true;
        }
    }

    pub(super) fn character_said(&mut self, character: &StoredCharacter, part: &CharacterPart) {
        let id = character.id;
        self.characters.push(id);
        for (field, value) in &part.doc.0 {
            leaves(value, &mut field.clone(), &mut |path, leaf| {
                self.say(id, path, &scalar(leaf));
            });
        }
        for alias in &part.aliases {
            self.say(id, "alias", alias);
        }
        if character.named != id {
            // The names of a merged character are aliases of what it became.
            for name in ["name", "name_native"].iter().filter_map(|name| part.doc.text(name)) {
                self.say(id, "alias", name);
            }
        }
    }

    pub(super) fn company_said(&mut self, company: &Company) {
        self.say(company.id, "name", &company.name);
        if let Some(description) = &company.description {
            self.say(company.id, "description", description);
        }
    }

    pub(super) fn company_held(&mut self, company: Uuid) {
        self.companies.push(company);
    }

    /// Compares what is remembered with the rows; returns whether all could be.
    pub(super) async fn compare(
        mut self,
        conn: &mut PgConnection,
        found: &mut Found<'_>,
    ) -> Result<bool> {
        for ids in [&mut self.characters, &mut self.companies] {
            ids.sort_unstable();
            ids.dedup();
        }
        found.tally("character").source += self.characters.len() as u64;
        found.tally("company").source += self.companies.len() as u64;
        found.tally("company").target += self.companies.len() as u64;
        self.said.sort_unstable();
        for page in self.characters.chunks(PAGE) {
            for character in characters(conn, page).await? {
                found.tally("character").target += 1;
                found.tally("character_alias").target += character.aliases.len() as u64;
                if !self.is_full {
                    self.character(&character, found);
                }
            }
        }
        for page in self.companies.chunks(PAGE) {
            self.companies(conn, page, found).await?;
        }
        Ok(!self.is_full)
    }

    fn is_said(&self, id: Uuid, path: &str, leaf: &str) -> bool {
        self.said.binary_search(&digest(id, path, leaf)).is_ok()
    }

    fn character(&self, character: &StoredCharacter, found: &mut Found<'_>) {
        let id = character.id;
        let mut changed: Vec<Changed> = Vec::new();
        for (field, value) in &character.doc.0 {
            let mut is_said = true;
            leaves(value, &mut field.clone(), &mut |path, leaf| {
                is_said &= self.is_said(id, path, &scalar(leaf));
            });
            if !is_said {
                changed.push((field.clone(), None, Some(value.clone())));
            }
        }
        let aliases = character.aliases.iter().filter(|alias| !self.is_said(id, "alias", alias));
        let aliases: Vec<&String> = aliases.collect();
        if !character.appears_in.iter().all(|anime| self.alone.contains(anime)) {
            found.elsewhere += (changed.len() + aliases.len()) as u64;
            return;
        }
        let text = id.to_string();
        found.changed(&Row::new("character", &[("id", &text)]), changed, "");
        for alias in aliases {
            let row = Row::new("character_alias", &[("character_id", &text), ("alias", alias)]);
            found.extra(row, "", "");
        }
    }

    async fn companies(
        &self,
        conn: &mut PgConnection,
        page: &[Uuid],
        found: &mut Found<'_>,
    ) -> Result<()> {
        let rows = sqlx::query(
            "SELECT id::text AS id, name, description, \
                    ARRAY(SELECT l.anime_id::text FROM anime_company l WHERE l.company_id = c.id) \
                        AS anime \
             FROM company c WHERE id = ANY($1::uuid[])",
        )
        .bind(texts(page))
        .fetch_all(conn)
        .await?;
        for row in rows {
            let text: &str = row.try_get("id")?;
            let id = uuid_of(text)?;
            let mut changed: Vec<Changed> = Vec::new();
            for column in ["name", "description"] {
                let value: Option<&str> = row.try_get(column)?;
                if let Some(value) = value.filter(|value| !self.is_said(id, column, value)) {
                    changed.push((column.to_owned(), None, Some(Json::from(value))));
                }
            }
            let anime: Vec<String> = row.try_get("anime")?;
            let anime = anime.iter().map(|id| uuid_of(id)).collect::<Result<Vec<_>>>()?;
            if self.is_full || !anime.iter().all(|anime| self.alone.contains(anime)) {
                found.elsewhere += changed.len() as u64;
                continue;
            }
            found.changed(&Row::new("company", &[("id", text)]), changed, "");
        }
        Ok(())
    }
}
