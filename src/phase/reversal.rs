//! Reverse capture as the phase machine uses it.

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use crate::capture::reverse;
use crate::cast::Reverse;
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::pack::reverse::listing;

/// Changes applied back together.
pub(super) const BATCH: i64 = reverse::BATCH_CHANGES;

/// The streams and outputs of which nothing goes back to `SQLite`, for the operator to
/// acknowledge: `stream -> target: why`.
pub(super) fn no_way_back(opened: &OpenedPack) -> Vec<String> {
    listing(&opened.plan)
        .into_iter()
        .filter(|listed| listed.column.is_none() && listed.reverse == Reverse::None)
        .map(|listed| format!("{} -> {}: {}", listed.stream, listed.target, listed.reason))
        .collect()
}

/// Changes in Postgres that are not applied back, and rows that cannot be.
pub(super) async fn lag(conn: &mut PgConnection, pack: &str) -> Result<(i64, i64)> {
    let status = reverse::status(conn, pack).await?;
    Ok((status.lag_changes, status.rejects))
}

/// Looks for new changes of an application that goes on writing.
const LOOKS: u32 = 50;

/// Whether what waits at this moment is written back within five seconds. The log of a live
/// application is hardly ever empty; what counts is that the way back keeps up.
pub(super) async fn keeps_up(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT max(id) FROM toolkit.reverse_log WHERE pack = $1")
            .bind(pack)
            .fetch_one(&mut *conn)
            .await?;
    let Some(newest) = newest else { return Ok(true) };
    for _ in 0..LOOKS {
        let is_back: bool = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM toolkit.reverse_log WHERE pack = $1 AND id <= $2)",
        )
        .bind(pack)
        .bind(newest)
        .fetch_one(&mut *conn)
        .await?;
        if is_back {
            return Ok(true);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(false)
}

/// Takes its triggers out of the targets; whether there were any.
pub(super) async fn remove(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    let is_there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM toolkit.reverse_target WHERE pack = $1)")
            .bind(pack)
            .fetch_one(&mut *conn)
            .await?;
    if is_there {
        reverse::disable(conn, pack).await?;
    }
    Ok(is_there)
}

/// As stored.
pub(super) fn facts(none: &[String]) -> Value {
    json!({ "streams": none })
}
