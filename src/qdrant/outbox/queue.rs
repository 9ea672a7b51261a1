//! The queue as a person sees it, and ways to put entities into it.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgConnection;

use super::locks::arrays;
use crate::anime::points::Entity;
use crate::error::Result;
use crate::interrupt::Stop;

/// Rows removed in one transaction.
const PRUNED_AT_ONCE: i64 = 5_000;

/// How the outbox stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Rows that wait and are not parked.
    pub pending_rows: u64,
    /// Entities they are about.
    pub pending_entities: u64,
    /// Of the rows, those that failed and wait for their next try.
    pub waiting_rows: u64,
    /// Rows that failed too often.
    pub parked_rows: u64,
    /// Age of the oldest pending row, in seconds.
    pub oldest_seconds: Option<f64>,
    /// The first rows that failed, parked ones first.
    pub troubled: Vec<Troubled>,
}

/// A row that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Troubled {
    /// Its number, for `outbox retry`.
    pub id: i64,
    /// `anime`, `character` or `episode`.
    pub entity_type: String,
    /// The entity.
    pub entity_id: String,
    /// Version of the change.
    pub version: i64,
    /// Tries so far.
    pub attempts: i32,
    /// Whether it is tried no more.
    pub parked: bool,
    /// Why the last try failed.
    pub last_error: String,
    /// When the change was made, UTC.
    pub queued_at: String,
}

/// Number, type, id, version, tries, whether parked, why, since when.
type Row = (i64, String, String, i64, i32, bool, String, String);

/// How the outbox stands, with at most `limit` rows that failed.
pub async fn status(conn: &mut PgConnection, limit: u32) -> Result<Status> {
    let (pending, entities, waiting, parked, oldest): (i64, i64, i64, i64, Option<f64>) =
        sqlx::query_as(include_str!("../../sql/outbox/status.sql")).fetch_one(&mut *conn).await?;
    let rows: Vec<Row> = sqlx::query_as(include_str!("../../sql/outbox/troubled.sql"))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    let troubled = rows.into_iter().map(|row| Troubled {
        id: row.0,
        entity_type: row.1,
        entity_id: row.2,
        version: row.3,
        attempts: row.4,
        parked: row.5,
        last_error: row.6,
        queued_at: row.7,
    });
    Ok(Status {
        pending_rows: pending.unsigned_abs(),
        pending_entities: entities.unsigned_abs(),
        waiting_rows: waiting.unsigned_abs(),
        parked_rows: parked.unsigned_abs(),
        oldest_seconds: oldest,
        troubled: troubled.collect(),
    })
}

/// Makes parked and waiting rows due again: the named ones, or all. Returns how many.
pub async fn retry(conn: &mut PgConnection, rows: Option<&[i64]>) -> Result<u64> {
    let done = sqlx::query(include_str!("../../sql/outbox/retry.sql"))
        .bind(rows.map(<[i64]>::to_vec))
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Removes rows that were settled longer than `age` ago, but never an entity's newest: its version
/// is what the point is compared with. Returns how many.
pub async fn prune(conn: &mut PgConnection, age: Duration, stop: &Stop) -> Result<u64> {
    let mut removed = 0;
    loop {
        stop.check()?;
        let done = sqlx::query(include_str!("../../sql/outbox/prune.sql"))
            .bind(age.as_secs_f64())
            .bind(PRUNED_AT_ONCE)
            .execute(&mut *conn)
            .await?;
        removed += done.rows_affected();
        if done.rows_affected() < PRUNED_AT_ONCE.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// Queues entities to be written again, or removed where Postgres has them no more; what a repair
/// does. Returns how many rows were queued.
pub async fn requeue(conn: &mut PgConnection, entities: &[Entity]) -> Result<u64> {
    let (types, ids) = arrays(entities);
    let done = sqlx::query(include_str!("../../sql/outbox/requeue.sql"))
        .bind(types)
        .bind(ids)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Queues every entity: an outbox that was dropped is whole again. Points without an entity are
/// not found this way, but by parity or a rebuild.
pub async fn requeue_all(conn: &mut PgConnection) -> Result<u64> {
    let done = sqlx::query(include_str!("../../sql/outbox/requeue_all.sql")).execute(conn).await?;
    Ok(done.rows_affected())
}
