//! Locks of points, and what waits for them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::anime::points::Entity;
use crate::error::Result;
use crate::qdrant::target::Target;

/// Types and ids as two arrays.
pub(super) fn arrays(entities: &[Entity]) -> (Vec<&'static str>, Vec<String>) {
    let types = entities.iter().map(|entity| entity.entity_type.name()).collect();
    let ids = entities.iter().map(|entity| entity.id.to_string()).collect();
    (types, ids)
}

/// Locks the points of those entities that nobody works on, until the transaction ends.
pub(crate) async fn locked(conn: &mut PgConnection, entities: &[Entity]) -> Result<Vec<Entity>> {
    let (types, ids) = arrays(entities);
    let rows: Vec<(String, String)> = sqlx::query_as(include_str!("../../sql/outbox/lock.sql"))
        .bind(types)
        .bind(ids)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|(entity_type, id)| Entity::of_row(entity_type, id)).collect()
}

/// How often a lock that another process has is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// [`Target::ensure`], one process at a time, and what a collection without points needs to be
/// filled: it was lost or emptied, or the settings name another store, and every entity is queued
/// that does not wait already. First the rows: a collection is made only when they are there.
pub async fn ensure(conn: &mut PgConnection, target: &Target) -> Result<()> {
    if !target.has_points().await? {
        let mut transaction = conn.begin().await?;
        alone(&mut transaction).await?;
        if !target.has_points().await? {
            refill(&mut transaction, target).await?;
        }
        transaction.commit().await?;
    }
    ensure_bare(conn, target).await
}

async fn refill(conn: &mut PgConnection, target: &Target) -> Result<()> {
    let done = sqlx::query(include_str!("../../sql/outbox/refill.sql")).execute(conn).await?;
    if done.rows_affected() > 0 {
        let (place, name) = (target.store().describe(), target.name());
        let count = done.rows_affected();
        tracing::warn!(
            "{place} has no points of collection {name:?}: {count} entities are queued for it"
        );
    }
    Ok(())
}

/// [`Target::ensure`], one process at a time; whoever asks fills what is made.
pub(super) async fn ensure_bare(conn: &mut PgConnection, target: &Target) -> Result<()> {
    let mut transaction = conn.begin().await?;
    alone(&mut transaction).await?;
    target.ensure().await?;
    Ok(transaction.rollback().await?)
}

/// Waits until no other process makes the collection, and keeps it so until the transaction ends.
async fn alone(conn: &mut PgConnection) -> Result<()> {
    loop {
        let is_free: bool = sqlx::query_scalar(
            "SELECT pg_try_advisory_xact_lock(hashtextextended('toolkit.qdrant.ensure', 0))",
        )
        .fetch_one(&mut *conn)
        .await?;
        if is_free {
            return Ok(());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Rows that wait for one entity.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    pub(crate) rows: Vec<i64>,
    pub(crate) version: i64,
}

/// What waits for the entities. Whatever is loaded after this holds these rows' changes.
pub(crate) async fn pending(
    conn: &mut PgConnection,
    entities: &[Entity],
) -> Result<HashMap<Entity, Pending>> {
    let rows: Vec<(i64, String, String, i64)> =
        sqlx::query_as(include_str!("../../sql/outbox/pending.sql"))
            .bind(arrays(entities).1)
            .fetch_all(conn)
            .await?;
    let mut found: HashMap<Entity, Pending> = HashMap::new();
    for (row, entity_type, id, version) in rows {
        let waits = found.entry(Entity::of_row(&entity_type, &id)?).or_default();
        waits.rows.push(row);
        waits.version = waits.version.max(version);
    }
    Ok(found)
}

/// Those of the entities for which anything waits.
pub(crate) async fn queued(
    conn: &mut PgConnection,
    entities: &[Entity],
) -> Result<HashSet<Entity>> {
    Ok(pending(conn, entities).await?.into_keys().collect())
}

/// The newest version of each entity that the outbox knows.
pub(super) async fn versions(
    conn: &mut PgConnection,
    entities: &[Entity],
) -> Result<HashMap<Entity, i64>> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as(include_str!("../../sql/outbox/versions.sql"))
            .bind(arrays(entities).1)
            .fetch_all(conn)
            .await?;
    rows.iter()
        .map(|(entity_type, id, version)| Ok((Entity::of_row(entity_type, id)?, *version)))
        .collect()
}
