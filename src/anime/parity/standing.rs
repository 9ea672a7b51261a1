//! What an entry still has to say: whether newer ones were heard since, and what accounts for a
//! value that Postgres holds otherwise.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Doc, stored_json};
use crate::anime::entry::{Entry, Kind};
use crate::anime::parity::values::alike;
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
    /// What was proposed, by anime.
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
            let after = stored_json(row.try_get("after")?)?;
            queue.proposed.entry(uuid_of(row.try_get("anime")?)?).or_default().push(after.clone());
            let queued = Queued {
                digest: row.try_get("proposal")?,
                before: stored_json(row.try_get("before")?)?,
                after,
                is_accepted: row.try_get::<&str, _>("state")? == "accepted",
            };
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

    /// Whether rows that an entry no longer has were proposed to go, as a whole.
    pub(super) fn has_rows(&self, anime: Uuid, proposal: &Proposal) -> bool {
        let key = ("anime".to_owned(), anime, proposal.field.clone());
        let digest = proposal.digest();
        self.by_field.get(&key).into_iter().flatten().any(|queued| queued.digest == digest)
    }
}
