//! Characters of a wave: each stored once, whatever anime they appear in.
//!
//! The first to tell of a character decides what its row says; an anime that says otherwise keeps
//! that at its own appearance (`anime_character.meta.differs`). Where a character appears in one
//! anime alone, that anime may change it.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Doc, Members, canonical, is_missing, number, same};
use crate::anime::entry::{CharacterPart, Entry};
use crate::anime::policy::{Policy, Proposal, Voice, merge};
use crate::anime::store::Waiting;
use crate::anime::store::identity::uuid_of;
use crate::anime::store::load::{Stored, texts};
use crate::anime::store::rows::Rows;
use crate::error::Result;
use crate::json::Json;

/// A character as it will be.
#[derive(Debug, Default)]
struct Member {
    doc: Doc,
    appears_in: HashSet<Uuid>,
    is_stored: bool,
    is_changed: bool,
    aliases: HashSet<String>,
    new_aliases: Vec<String>,
    /// Known by its name alone: the anime it was made for.
    named_in: Option<Uuid>,
    proposals: Vec<(Uuid, Proposal)>,
}

/// A character that is stored.
#[derive(Debug)]
pub(in crate::anime) struct StoredCharacter {
    /// The id it was asked for by.
    pub(in crate::anime) named: Uuid,
    /// Its own; of a merged one, what it became.
    pub(in crate::anime) id: Uuid,
    pub(in crate::anime) doc: Doc,
    pub(in crate::anime) appears_in: HashSet<Uuid>,
    pub(in crate::anime) aliases: HashSet<String>,
}

/// What is stored of some characters.
pub(in crate::anime) async fn characters(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<StoredCharacter>> {
    let rows = sqlx::query(include_str!("../../sql/anime/characters.sql"))
        .bind(texts(ids))
        .fetch_all(tx)
        .await?;
    let character = |row: sqlx::postgres::PgRow| {
        let appears_in: Vec<String> = row.try_get("appears_in")?;
        let aliases: Vec<String> = row.try_get("aliases")?;
        Ok(StoredCharacter {
            named: uuid_of(row.try_get("named")?)?,
            id: uuid_of(row.try_get("id")?)?,
            doc: Doc::of_row(row.try_get("row")?)?,
            appears_in: appears_in.iter().map(|id| uuid_of(id)).collect::<Result<_>>()?,
            aliases: aliases.into_iter().collect(),
        })
    };
    rows.into_iter().map(character).collect()
}

/// What an entry says of an appearance, but for how it differs from the character's row.
pub(in crate::anime) fn link_of(part: &CharacterPart) -> Doc {
    let mut link = Doc::default();
    if let Some(role) = &part.role {
        link.set("role", Json::from(role.as_str()));
    }
    link.set("billing_order", number(part.billing_order));
    link.add_rest("meta", part.link.clone());
    link
}

/// All characters of a wave.
#[derive(Debug, Default)]
pub(super) struct Cast {
    members: BTreeMap<Uuid, Member>,
    redirects: HashMap<Uuid, Uuid>,
}

impl Cast {
    /// Loads what is stored of the characters of some entries.
    pub(super) async fn load(
        tx: &mut PgConnection,
        entries: &[&Entry],
        everyone: &[(usize, Uuid, Voice)],
    ) -> Result<Self> {
        let wanted: HashSet<Uuid> = everyone
            .iter()
            .flat_map(|(at, id, _)| entries[*at].characters.iter().map(|part| part.id_in(*id)))
            .collect();
        let mut cast = Self::default();
        if wanted.is_empty() {
            return Ok(cast);
        }
        let wanted: Vec<Uuid> = wanted.into_iter().collect();
        for StoredCharacter { named, id, doc, appears_in, aliases } in
            characters(tx, &wanted).await?
        {
            if named != id {
                cast.redirects.insert(named, id);
            }
            let member = Member { doc, appears_in, is_stored: true, aliases, ..Member::default() };
            cast.members.insert(id, member);
        }
        Ok(cast)
    }

    /// Where a merged character went.
    pub(super) fn canonical(&self, id: Uuid) -> Uuid {
        self.redirects.get(&id).copied().unwrap_or(id)
    }

    /// Lets an entry's characters appear in its anime.
    pub(super) fn appear(
        &mut self,
        entry: &Entry,
        anime: Uuid,
        voice: Voice,
        stored: &Stored,
        rows: &mut Rows,
    ) {
        let mut links: Vec<(Uuid, Doc)> = Vec::new();
        for part in &entry.characters {
            let named = part.id_in(anime);
            let id = self.canonical(named);
            let member = self.members.entry(id).or_default();
            if let Some((_, link)) = links.iter_mut().find(|(known, _)| *known == id) {
                // The entry has it twice: the second is kept whole at the first, and says nothing
                // against it.
                member.hear(part, anime, Voice::Older);
                add_repeat(link, part);
                continue;
            }
            // What was merged into another says nothing against that one.
            let voice_here = if named == id { voice } else { Voice::Older };
            let differs = member.hear(part, anime, voice_here);
            let mut link = link_of(part);
            if let Some(differs) = differs {
                link.set("meta.differs", differs);
            }
            links.push((id, link));
        }
        for (id, said) in links {
            match stored.links.get(&id) {
                None => rows.link(anime, id, &said, true),
                Some(before) => {
                    let merged = merge(before, &said, &Policy::default(), voice);
                    if merged.is_changed {
                        rows.link(anime, id, &merged.doc, false);
                    }
                }
            }
        }
    }

    /// The rows of the characters themselves.
    pub(super) fn rows(self, rows: &mut Rows, waiting: &mut Vec<Waiting>) {
        for (id, member) in self.members {
            if !member.is_stored {
                rows.insert_character(id, &member.doc);
            } else if member.is_changed {
                rows.update_character(id, &member.doc);
            }
            for alias in &member.new_aliases {
                rows.alias(id, alias);
            }
            let unnamed = member.named_in.filter(|_| !member.is_stored).map(|anime| {
                let name = member.doc.get("name").cloned().unwrap_or(Json::Null);
                let field = "identity".to_owned();
                (anime, Proposal { field, reason: "named_only", before: Json::Null, after: name })
            });
            let proposals = member.proposals.into_iter().chain(unnamed);
            waiting.extend(proposals.map(|(anime_id, proposal)| Waiting {
                entity_type: "character",
                entity_id: id,
                anime_id,
                proposal,
            }));
        }
    }
}

impl Member {
    /// Takes in what an entry says; returns what its row does not say.
    fn hear(&mut self, part: &CharacterPart, anime: Uuid, voice: Voice) -> Option<Json> {
        let is_first = !self.is_stored && self.appears_in.is_empty();
        if is_first {
            self.doc = part.doc.clone();
            self.named_in = (part.id.is_none() && part.page_id.is_none()).then_some(anime);
        } else {
            let is_alone = self.appears_in.iter().all(|other| *other == anime);
            let voice = if is_alone { voice } else { Voice::Older };
            let merged = merge(&self.doc, &part.doc, &Policy::default(), voice);
            self.is_changed |= merged.is_changed;
            self.doc = merged.doc;
            self.proposals.extend(merged.proposals.into_iter().map(|proposal| (anime, proposal)));
        }
        self.appears_in.insert(anime);
        for alias in &part.aliases {
            if self.aliases.insert(alias.clone()) {
                self.new_aliases.push(alias.clone());
            }
        }
        let mut differs = Members::default();
        for (field, value) in &part.doc.0 {
            if !is_missing(Some(value)) && !covers(self.doc.get(field), value) {
                differs.put(field, value.clone());
            }
        }
        (!differs.is_empty()).then(|| differs.rest())
    }
}

/// Whether a stored value says all that another says.
fn covers(stored: Option<&Json>, said: &Json) -> bool {
    let Some(stored) = stored else { return false };
    match (stored, said) {
        (Json::Object(_), Json::Object(members)) => members
            .iter()
            .all(|(key, value)| covers(stored.get(&String::from_utf8_lossy(key)), value)),
        (Json::Array(have), Json::Array(want)) => {
            let have: HashSet<String> = have.iter().map(canonical).collect();
            want.iter().all(|value| have.contains(&canonical(value)))
        }
        _ => same(stored, said),
    }
}

fn add_repeat(link: &mut Doc, part: &CharacterPart) {
    let mut repeat = Members::default();
    for (field, value) in &part.doc.0 {
        repeat.put(field, value.clone());
    }
    if let Some(role) = &part.role {
        repeat.put("role", Json::from(role.as_str()));
    }
    if !part.link.is_empty() {
        repeat.put("appearance", part.link.clone().rest());
    }
    let mut repeats: Vec<Json> =
        link.get("meta.repeats").into_iter().flat_map(|list| list.iter().cloned()).collect();
    repeats.push(repeat.rest());
    link.set("meta.repeats", Json::Array(repeats));
}
