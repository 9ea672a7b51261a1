//! Who an entry is: the anime with its id, or the one that already owns one of its urls.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::entry::Entry;
use crate::cast::Refusal;
use crate::error::{Error, ErrorKind, Result};

/// See the module.
#[derive(Debug)]
pub(in crate::anime) enum Identity {
    /// This one, stored or not.
    Known(Uuid),
    /// The artifact's id, for an anime that is stored under an id made from a url.
    Adopts { old: Uuid, id: Uuid },
    /// Nobody can say.
    Refused(Refusal),
}

impl Identity {
    /// The anime it is about.
    pub(in crate::anime) fn anime(&self) -> Vec<Uuid> {
        match self {
            Self::Known(id) => vec![*id],
            Self::Adopts { old, id } => vec![*old, *id],
            Self::Refused(_) => Vec::new(),
        }
    }
}

/// An anime that owns a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    anime: Uuid,
    is_derived: bool,
}

/// Identities of the entries of a wave, in its order.
pub(in crate::anime) async fn identify(
    tx: &mut PgConnection,
    entries: &[&Entry],
    wave: &[usize],
) -> Result<Vec<Identity>> {
    let references = wave.iter().flat_map(|at| &entries[*at].xrefs).map(|xref| &xref.reference);
    let (sources, external): (Vec<&str>, Vec<&str>) =
        references.map(|reference| (reference.source, reference.external_id.as_str())).unzip();
    let rows = sqlx::query(
        "SELECT x.source, x.external_id, x.anime_id::text AS anime, \
                coalesce(s.is_derived_id, false) AS derived \
         FROM unnest($1::text[], $2::text[]) AS w (source, external_id) \
         JOIN anime_xref x ON x.source = w.source AND x.external_id = w.external_id \
         LEFT JOIN anime_ingestion_state s ON s.anime_id = x.anime_id",
    )
    .bind(sources)
    .bind(external)
    .fetch_all(&mut *tx)
    .await?;
    let mut owners: HashMap<(String, String), Owner> = HashMap::new();
    for row in rows {
        let owner =
            Owner { anime: uuid_of(row.try_get("anime")?)?, is_derived: row.try_get("derived")? };
        owners.insert((row.try_get("source")?, row.try_get("external_id")?), owner);
    }
    let named: Vec<String> =
        wave.iter().filter_map(|at| entries[*at].id).map(|id| id.to_string()).collect();
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT id::text FROM anime WHERE id = ANY($1::uuid[])")
            .bind(named)
            .fetch_all(tx)
            .await?;
    Ok(wave
        .iter()
        .map(|at| {
            let entry = entries[*at];
            let mut claims: Vec<Owner> = Vec::new();
            for xref in &entry.xrefs {
                let key = (xref.reference.source.to_owned(), xref.reference.external_id.clone());
                claims.extend(owners.get(&key).filter(|owner| !claims.contains(owner)));
            }
            let is_stored = entry.id.is_some_and(|id| stored.contains(&id.to_string()));
            one_of(entry, &claims, is_stored)
        })
        .collect())
}

fn one_of(entry: &Entry, claims: &[Owner], is_stored: bool) -> Identity {
    let Some(id) = entry.id else {
        return match (claims, entry.derived_id) {
            ([], Some(derived)) => Identity::Known(derived),
            ([owner], _) => Identity::Known(owner.anime),
            _ => refused(claims.iter().map(|owner| owner.anime)),
        };
    };
    let others: Vec<&Owner> = claims.iter().filter(|owner| owner.anime != id).collect();
    match others.as_slice() {
        [] => Identity::Known(id),
        [other] if other.is_derived && !is_stored => Identity::Adopts { old: other.anime, id },
        _ => refused(std::iter::once(id).chain(others.iter().map(|owner| owner.anime))),
    }
}

fn refused(ids: impl Iterator<Item = Uuid>) -> Identity {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    let detail = format!("its urls belong to several anime: {}", ids.join(" and "));
    Identity::Refused(Refusal::new("several_anime", detail))
}

/// Moves an anime, with all that refers to it, to the id its artifact gives it.
pub(in crate::anime) async fn adopt(tx: &mut PgConnection, old: Uuid, id: Uuid) -> Result<()> {
    for statement in [
        "UPDATE anime SET id = $2::uuid WHERE id = $1::uuid",
        "UPDATE anime_ingestion_state SET is_derived_id = false WHERE $1::uuid <> anime_id \
         AND anime_id = $2::uuid",
        "UPDATE review_queue SET entity_id = $2::uuid WHERE entity_id = $1::uuid",
        "UPDATE review_queue SET anime_id = $2::uuid WHERE anime_id = $1::uuid",
    ] {
        sqlx::query(statement).bind(old.to_string()).bind(id.to_string()).execute(&mut *tx).await?;
    }
    Ok(())
}

pub(in crate::anime) fn uuid_of(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text)
        .map_err(|error| Error::new(ErrorKind::Bug, "the server's uuid is none").because(error))
}
