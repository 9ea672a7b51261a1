//! Whether the collection still holds what was written to it: somebody may have removed, emptied or
//! replaced it, or restored an older one, while nothing was written that could have failed.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::locks::{arrays, ensure, refill_now};
use crate::anime::points::Entity;
use crate::error::Result;
use crate::qdrant::point::{PointId, With};
use crate::qdrant::target::Target;

/// Entities of each type whose points are looked for.
const LOOKED_FOR: i64 = 8;

/// Looks whether the collection is there, made as configured, and holds the points of some entities
/// that are settled; queues everything if it lacks one. True: something is queued. A collection made
/// of something else is refused.
pub(super) async fn watch(conn: &mut PgConnection, target: &Target) -> Result<bool> {
    let is_refilled = ensure(conn, target).await?;
    let sample = sample(conn).await?;
    let ids: Vec<PointId> = sample.iter().map(|entity| entity.id.into()).collect();
    let found = target.store().retrieve(target.name(), &ids, With::ID).await?;
    let found: HashSet<PointId> = found.iter().map(|point| point.id).collect();
    let missing = sample.iter().filter(|entity| !found.contains(&entity.id.into()));
    let missing: Vec<Entity> = missing.copied().collect();
    if missing.is_empty() {
        return Ok(is_refilled);
    }
    // What was deleted, or changed, between the two looks is as it should be.
    let missing = settled(conn, &missing).await?;
    let (place, name) = (target.store().describe(), target.name());
    let (lost, of) = (missing.len(), sample.len());
    if lost > 0 {
        // Where one is gone others are: what is there already is only read.
        tracing::warn!("{name:?} of {place} lacks {lost} of {of} points it had: it was replaced");
        refill_now(conn, target).await?;
    }
    Ok(is_refilled || lost > 0)
}

/// Settled entities from a random place among the ids on, or from their start.
async fn sample(conn: &mut PgConnection) -> Result<Vec<Entity>> {
    for from in [Uuid::new_v4(), Uuid::nil()] {
        let rows: Vec<(String, String)> =
            sqlx::query_as(include_str!("../../sql/outbox/sample.sql"))
                .bind(from.to_string())
                .bind(LOOKED_FOR)
                .fetch_all(&mut *conn)
                .await?;
        if !rows.is_empty() {
            return entities(&rows);
        }
    }
    Ok(Vec::new())
}

async fn settled(conn: &mut PgConnection, among: &[Entity]) -> Result<Vec<Entity>> {
    let (types, ids) = arrays(among);
    let rows: Vec<(String, String)> = sqlx::query_as(include_str!("../../sql/outbox/settled.sql"))
        .bind(types)
        .bind(ids)
        .fetch_all(conn)
        .await?;
    entities(&rows)
}

fn entities(rows: &[(String, String)]) -> Result<Vec<Entity>> {
    rows.iter().map(|(entity_type, id)| Entity::of_row(entity_type, id)).collect()
}
