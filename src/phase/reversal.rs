//! Reverse capture as the phase machine uses it.

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use crate::capture::reverse;
use crate::cast::Reverse;
use crate::error::{Error, ErrorKind, Result};
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

/// The slices that nothing is written back from: whatever feeds them has no way back.
pub(super) fn slices_without_way_back(opened: &OpenedPack) -> Vec<String> {
    let none: Vec<(String, String)> = listing(&opened.plan)
        .into_iter()
        .filter(|listed| listed.column.is_none() && listed.reverse == Reverse::None)
        .map(|listed| (listed.stream, listed.target))
        .collect();
    let is_none = |stream: &str, slice: &str| {
        none.iter().any(|(known, target)| known == stream && target == slice)
    };
    let units = opened.plan.units.iter().filter(|unit| {
        unit.feeds.iter().all(|(at, _)| is_none(&opened.plan.streams[*at].name, &unit.name))
    });
    units.map(|unit| unit.name.clone()).collect()
}

/// What another process that writes back means for whoever has to do it alone.
pub(super) fn is_at_work(error: Error) -> Error {
    if error.kind() != ErrorKind::Busy {
        return error;
    }
    error.advice(
        "stop `toolkit dual-write reverse run` first (Ctrl-C): this command writes the last \
         changes back itself, and nothing may be written after them",
    )
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
