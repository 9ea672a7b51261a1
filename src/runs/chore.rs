//! How a command of one process that changes tables is recorded as a run.

use serde_json::Value;
use sqlx::PgConnection;

use crate::error::{Error, ErrorKind, Result};

/// Records that it begins; the id of the run. What a crash left of an earlier one is ended: whoever
/// begins holds the command's lock.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    command: &str,
    pack: &str,
    settings: &Value,
) -> Result<String> {
    sqlx::query(
        "UPDATE toolkit.run SET status = 'failed', finished_at = now(), error = 'it was killed' \
         WHERE pack = $1 AND command = $2 AND status = 'running'",
    )
    .bind(pack)
    .bind(command)
    .execute(&mut *conn)
    .await?;
    let run_id = uuid::Uuid::new_v4().to_string();
    sqlx::query(
        "INSERT INTO toolkit.run (run_id, command, pack, status, tool_version, pid, settings) \
         VALUES ($1::uuid, $2, $3, 'running', $4, $5, $6::jsonb)",
    )
    .bind(&run_id)
    .bind(command)
    .bind(pack)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(i32::try_from(std::process::id()).unwrap_or_default())
    .bind(settings.to_string())
    .execute(conn)
    .await?;
    Ok(run_id)
}

/// Records how it ended, and what it did.
pub(crate) async fn end(
    conn: &mut PgConnection,
    run_id: &str,
    counts: &Value,
    error: Option<&Error>,
) -> Result<()> {
    let status = match error.map(Error::kind) {
        None => "completed",
        Some(ErrorKind::Interrupted) => "interrupted",
        Some(_) => "failed",
    };
    let ended = sqlx::query(
        "UPDATE toolkit.run SET status = $2, finished_at = now(), error = $3, counts = $4::jsonb \
         WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .bind(status)
    .bind(error.map(Error::detail))
    .bind(counts.to_string())
    .execute(conn)
    .await;
    match (ended, error) {
        // The first failure is the one to tell.
        (_, Some(_)) | (Ok(_), None) => Ok(()),
        (Err(error), None) => Err(error.into()),
    }
}
