//! What is stored of a group of anime, beside what ingestion itself looks at.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::Doc;
use crate::anime::entry::Target;
use crate::anime::store::characters::{StoredCharacter, characters};
use crate::anime::store::identity::uuid_of;
use crate::anime::store::load::{self, State, Stored, texts};
use crate::error::Result;

/// A company of an anime.
#[derive(Debug)]
pub(super) struct StoredCompany {
    pub(super) id: Uuid,
    pub(super) role: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
}

/// Where an edge leads.
#[derive(Debug)]
pub(super) struct Lead {
    /// Its primary reference: platform and id.
    pub(super) reference: Option<(String, String)>,
    /// Its target.
    pub(super) to: Option<String>,
    /// References of its target.
    pub(super) owns: Vec<(String, String)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) states: HashMap<Uuid, State>,
    pub(super) stored: HashMap<Uuid, Stored>,
    pub(super) companies: HashMap<Uuid, Vec<StoredCompany>>,
    /// By the id an entry gives them; of a merged one, what it became.
    pub(super) characters: HashMap<Uuid, StoredCharacter>,
    /// Own rows of merged characters.
    pub(super) merged: HashMap<Uuid, Doc>,
    pub(super) leads: HashMap<(Target, i64), Lead>,
}

impl Holdings {
    pub(super) async fn load(
        conn: &mut PgConnection,
        anime: &[Uuid],
        people: HashSet<Uuid>,
    ) -> Result<Self> {
        let mut holdings = Self {
            states: load::states(conn, anime).await?,
            stored: load::stored(conn, anime).await?,
            ..Self::default()
        };
        let people: Vec<Uuid> = people.into_iter().collect();
        for character in characters(conn, &people).await? {
            holdings.characters.insert(character.named, character);
        }
        holdings.load_merged(conn).await?;
        holdings.load_companies(conn, anime).await?;
        holdings.load_leads(conn, anime).await?;
        Ok(holdings)
    }

    async fn load_merged(&mut self, conn: &mut PgConnection) -> Result<()> {
        let all = self.characters.values();
        let merged: Vec<Uuid> = all.filter(|c| c.named != c.id).map(|c| c.named).collect();
        if merged.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(
            "SELECT id::text AS id, (to_jsonb(c) - ARRAY['id', 'created_at', 'updated_at'])::text \
                 AS row FROM character c WHERE id = ANY($1::uuid[])",
        )
        .bind(texts(&merged))
        .fetch_all(conn)
        .await?;
        for row in rows {
            self.merged.insert(uuid_of(row.try_get("id")?)?, Doc::of_row(row.try_get("row")?)?);
        }
        Ok(())
    }

    async fn load_companies(&mut self, conn: &mut PgConnection, anime: &[Uuid]) -> Result<()> {
        let rows = sqlx::query(
            "SELECT l.anime_id::text AS anime, l.company_id::text AS id, l.role, c.name, \
                    c.description \
             FROM anime_company l JOIN company c ON c.id = l.company_id \
             WHERE l.anime_id = ANY($1::uuid[])",
        )
        .bind(texts(anime))
        .fetch_all(conn)
        .await?;
        for row in rows {
            let company = StoredCompany {
                id: uuid_of(row.try_get("id")?)?,
                role: row.try_get("role")?,
                name: row.try_get("name")?,
                description: row.try_get("description")?,
            };
            self.companies.entry(uuid_of(row.try_get("anime")?)?).or_default().push(company);
        }
        Ok(())
    }

    async fn load_leads(&mut self, conn: &mut PgConnection, anime: &[Uuid]) -> Result<()> {
        let rows = sqlx::query(include_str!("../../sql/anime/leads.sql"))
            .bind(texts(anime))
            .fetch_all(conn)
            .await?;
        for row in rows {
            let target = match row.try_get("kind")? {
                "manga" => Target::Manga,
                "work" => Target::Work,
                _ => Target::Anime,
            };
            let pair = |source: Option<String>, id: Option<String>| source.zip(id);
            let sources: Vec<String> = row.try_get("sources")?;
            let ids: Vec<String> = row.try_get("external_ids")?;
            let lead = Lead {
                reference: pair(row.try_get("ref_source")?, row.try_get("ref_id")?),
                to: row.try_get("target")?,
                owns: sources.into_iter().zip(ids).collect(),
            };
            self.leads.insert((target, row.try_get("id")?), lead);
        }
        Ok(())
    }
}
