//! How far the way back is, and what did not go back.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::triggers;
use crate::error::Result;

/// The state of a pack's way back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The pack.
    pub pack: String,
    /// Tables whose changes are captured; 0: the way back is not enabled.
    pub targets: i64,
    /// Those of them whose triggers are gone or switched off: changes are being missed.
    pub missing: Vec<String>,
    /// Whether a process applies them now.
    pub running: bool,
    /// Changes in the log.
    pub lag_changes: i64,
    /// Age of the oldest of them.
    pub lag_seconds: f64,
    /// Rows that are not in `SQLite` as they are in Postgres.
    pub rejects: i64,
    /// Changes applied so far.
    pub changes: i64,
    /// When the last of them were, by the server's clock.
    pub applied_at: Option<String>,
}

/// The state of `pack`.
pub async fn status(conn: &mut PgConnection, pack: &str) -> Result<Status> {
    let missing = triggers::missing(conn, pack).await?;
    let row = sqlx::query(include_str!("../../sql/reverse/status.sql"))
        .bind(pack)
        .fetch_one(conn)
        .await?;
    Ok(Status {
        pack: pack.to_owned(),
        targets: row.try_get("targets")?,
        missing,
        running: row.try_get("running")?,
        lag_changes: row.try_get("lag_changes")?,
        lag_seconds: row.try_get("lag_seconds")?,
        rejects: row.try_get("rejects")?,
        changes: row.try_get::<Option<i64>, _>("changes")?.unwrap_or(0),
        applied_at: row.try_get("applied_at")?,
    })
}

/// A row that is not in `SQLite` as it is in Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedRow {
    /// Table.
    pub target: String,
    /// Texts of its key.
    pub key: Vec<String>,
    /// Stream; empty where it is none's that is written back.
    pub stream: String,
    /// `refused`, `column` or `row`.
    pub kind: String,
    /// Columns that were not written.
    pub columns: Vec<String>,
    /// Stable code.
    pub reason: String,
    /// One sentence.
    pub detail: String,
    /// When it was found, by the server's clock.
    pub at: String,
}

/// The newest `limit` of them.
pub async fn rejects(conn: &mut PgConnection, pack: &str, limit: i64) -> Result<Vec<RejectedRow>> {
    let found = sqlx::query(
        "SELECT target, key, stream, kind, columns, reason, detail, at::text AS at \
         FROM toolkit.reverse_reject WHERE pack = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(pack)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<RejectedRow> {
        Ok(RejectedRow {
            target: row.try_get("target")?,
            key: row.try_get("key")?,
            stream: row.try_get("stream")?,
            kind: row.try_get("kind")?,
            columns: row.try_get("columns")?,
            reason: row.try_get("reason")?,
            detail: row.try_get("detail")?,
            at: row.try_get("at")?,
        })
    };
    found.iter().map(read).collect()
}

/// Puts the rejected rows into the log again, to be tried anew: after the file or the mapping was
/// put right. Returns how many.
pub async fn retry(conn: &mut PgConnection, pack: &str) -> Result<u64> {
    let done = sqlx::query(
        "INSERT INTO toolkit.reverse_log (pack, target, op, old_key, new_key) \
         SELECT pack, target, 'U', key, key FROM toolkit.reverse_reject \
         WHERE pack = $1 AND reason <> 'null_key'",
    )
    .bind(pack)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
