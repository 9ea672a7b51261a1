//! What an entry still has to say: whether newer ones were heard since, and what accounts for a
//! value that Postgres holds otherwise.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Doc, stored_json};
use crate::anime::entry::{Entry, Kind};
use crate::anime::parity::values::{alike, covers};
use crate::anime::policy::{Policy, Proposal, Voice, merge};
use crate::anime::store::identity::uuid_of;
use crate::anime::store::load::{State, texts};
use crate::error::Result;
use crate::json::Json;

/// How an entry stands to what was ingested of its anime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is all that was ever heard of the anime.
    Alone,
    /// It is the newest of several.
    Newest,
    /// It is the offline database's entry of an enriched anime.
    Supplement,
    /// Newer ones were heard since: what it says may have been replaced.
    Earlier,
    /// It was not ingested as it is now.
    Unknown,
}

impl Standing {
    pub(super) fn of(state: &State, entry: &Entry) -> Self {
        let heard = Some(&entry.sha256);
        if entry.kind == Kind::Offline && state.is_enriched {
            if state.supplement.as_ref() == heard {
                return Self::Supplement;
            }
        } else if state.payload.as_ref() == heard {
            let is_alone = state.earlier.is_empty() && state.supplement.is_none();
            return if is_alone { Self::Alone } else { Self::Newest };
        }
        if state.earlier.contains(&entry.sha256) { Self::Earlier } else { Self::Unknown }
    }

    pub(super) fn voice(self) -> Voice {
        match self {
            Self::Alone | Self::Newest | Self::Unknown => Voice::Newer,
            Self::Supplement => Voice::Supplement,
            Self::Earlier => Voice::Older,
        }
    }
}

/// A change that was queued, whatever became of it.
#[derive(Debug)]
struct Queued {
    digest: String,
    before: Json,
    after: Json,
    is_accepted: bool,
}

/// The review queue of some anime.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_field: HashMap<(String, Uuid, String), Vec<Queued>>,
    /// What was proposed, and what gave way to it, by anime.
    pub(super) proposed: HashMap<Uuid, Vec<Json>>,
}

impl Queue {
    pub(super) async fn load(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Self> {
        let rows = sqlx::query(
            "SELECT entity_type, entity_id::text AS entity, anime_id::text AS anime, field, \
                    proposal, before::text AS before, after::text AS after, state \
             FROM review_queue WHERE anime_id = ANY($1::uuid[])",
        )
        .bind(texts(ids))
        .fetch_all(conn)
        .await?;
        let mut queue = Self::default();
        for row in rows {
            let entity: String = row.try_get("entity_type")?;
            let id = uuid_of(row.try_get("entity")?)?;
            let queued = Queued {
                digest: row.try_get("proposal")?,
                before: stored_json(row.try_get("before")?)?,
                after: stored_json(row.try_get("after")?)?,
                is_accepted: row.try_get::<&str, _>("state")? == "accepted",
            };
            let known = queue.proposed.entry(uuid_of(row.try_get("anime")?)?).or_default();
            known.push(queued.after.clone());
            if queued.is_accepted {
                known.push(queued.before.clone());
            }
            let field = (entity, id, row.try_get("field")?);
            queue.by_field.entry(field).or_default().push(queued);
        }
        Ok(queue)
    }

    /// Whether the queue accounts for a field that is not what an entry says: this very change was
    /// proposed while the field was what it is now, or a person accepted what it is now.
    pub(super) fn explains(
        &self,
        entity: (&str, Uuid),
        proposal: &Proposal,
        stored: Option<&Json>,
        (said, policy, voice): (&Doc, &Policy, Voice),
    ) -> bool {
        let field = &proposal.field;
        let key = (entity.0.to_owned(), entity.1, field.clone());
        let digest = proposal.digest();
        self.by_field.get(&key).into_iter().flatten().any(|queued| {
            if queued.is_accepted {
                return alike(Some(&queued.after), stored);
            }
            if queued.digest != digest {
                return false;
            }
            let part = |value: Option<&Json>| {
                let mut doc = Doc::default();
                if let Some(value) = value {
                    doc.set(field, value.clone());
                }
                doc
            };
            let then = merge(&part(Some(&queued.before)), &part(said.get(field)), policy, voice);
            alike(then.doc.get(field), stored)
        })
    }

    /// Whether all that an entry says of a field is stored, or gave way to what is stored because a
    /// person accepted that.
    pub(super) fn accepts(
        &self,
        entity: (&str, Uuid),
        field: &str,
        said: &Json,
        stored: Option<&Json>,
    ) -> bool {
        let key = (entity.0.to_owned(), entity.1, field.to_owned());
        let replaced: Vec<&Json> = self
            .by_field
            .get(&key)
            .into_iter()
            .flatten()
            .filter(|queued| queued.is_accepted && covers(stored, &queued.after))
            .map(|queued| &queued.before)
            .collect();
        !replaced.is_empty() && is_said_by(stored, &replaced, said)
    }

    /// Rows of an anime whose deletion a person accepted.
    pub(super) fn deleted(&self, anime: Uuid, table: &str) -> impl Iterator<Item = &Json> {
        let key = ("anime".to_owned(), anime, table.to_owned());
        let queued = self.by_field.get(&key).into_iter().flatten();
        queued.filter(|queued| queued.is_accepted).flat_map(|queued| queued.before.iter())
    }

    /// Whether rows that an entry no longer has were proposed to go, as a whole.
    pub(super) fn has_rows(&self, anime: Uuid, proposal: &Proposal) -> bool {
        let key = ("anime".to_owned(), anime, proposal.field.clone());
        let digest = proposal.digest();
        self.by_field.get(&key).into_iter().flatten().any(|queued| queued.digest == digest)
    }
}

/// Whether each part of a value is in what is stored, or in what it replaced.
fn is_said_by(stored: Option<&Json>, replaced: &[&Json], said: &Json) -> bool {
    if covers(stored, said) || replaced.iter().any(|before| covers(Some(before), said)) {
        return true;
    }
    let known = || stored.into_iter().chain(replaced.iter().copied());
    match said {
        Json::Array(elements) => elements.iter().all(|element| {
            let one = Json::Array(vec![element.clone()]);
            known().any(|known| covers(Some(known), &one))
        }),
        Json::Object(members) => members.iter().all(|(key, value)| {
            let key = String::from_utf8_lossy(key);
            let before: Vec<&Json> =
                replaced.iter().filter_map(|before| before.get(&key)).collect();
            is_said_by(stored.and_then(|stored| stored.get(&key)), &before, value)
        }),
        _ => false,
    }
}
