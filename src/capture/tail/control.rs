//! The tail's rows in the control schema.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::read::{Batch, Waiting};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::source::{KeyPart, Position};

/// Rows and deletions tried again at once.
const HELD_AT_ONCE: i64 = 500;

/// Who follows the changes of a pack.
#[derive(Debug, Clone, Serialize)]
pub struct Holder {
    /// Process of the server that serves it.
    pub backend_pid: i32,
    /// Where it comes from, as the server knows it.
    pub client: String,
    /// Its own process, from its run.
    pub pid: Option<i32>,
}

/// Refuses while another `dual-write run` of the pack is at work; else holds it off for as long as
/// the session lives.
pub(super) async fn require_alone(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let is_alone: bool = sqlx::query_scalar(
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.tail.' || $1, 0))",
    )
    .bind(pack)
    .fetch_one(&mut *conn)
    .await?;
    if is_alone {
        return Ok(());
    }
    let who = match holder(conn, pack).await? {
        Some(Holder { pid: Some(pid), client, .. }) => format!(" by process {pid} on {client}"),
        Some(Holder { backend_pid, client, .. }) => {
            format!(" from {client} (session {backend_pid} of the server)")
        }
        None => String::new(),
    };
    Err(Error::new(
        ErrorKind::Busy,
        format!("changes of the pack {pack} are being applied already{who}"),
    )
    .advice("one is enough: look at it with `toolkit dual-write status`, or stop it first"))
}

/// Who holds others off.
pub(in crate::capture) async fn holder(
    conn: &mut PgConnection,
    pack: &str,
) -> Result<Option<Holder>> {
    let row = sqlx::query(include_str!("../../sql/capture/holder.sql"))
        .bind(pack)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Holder {
        backend_pid: row.try_get("backend_pid")?,
        client: row.try_get("client")?,
        pid: row.try_get("pid")?,
    }))
}

/// A run for what this tail refuses and notes.
pub(super) async fn begin(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    is_exclusive: bool,
) -> Result<String> {
    let run_id = uuid::Uuid::new_v4().to_string();
    if is_exclusive {
        sqlx::query(
            "UPDATE toolkit.run SET status = 'failed', finished_at = now(), \
             error = coalesce(error, 'killed before its end') WHERE pack = $1 \
             AND command = 'dual-write' AND status = 'running' AND settings ->> 'exclusive' = 'true'",
        )
        .bind(&opened.plan.name)
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query(include_str!("../../sql/ledger/recorded_run.sql"))
        .bind(&run_id)
        .bind(&opened.plan.name)
        .bind(format!("{{\"exclusive\": {is_exclusive}}}"))
        .bind("{}")
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .bind("dual-write")
        .bind("running")
        .execute(conn)
        .await?;
    Ok(run_id)
}

pub(super) async fn end(conn: &mut PgConnection, run_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.run SET status = 'completed', finished_at = now() \
         WHERE run_id = $1::uuid AND status = 'running'",
    )
    .bind(run_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes that wait for others.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) rows: Vec<Waiting>,
    pub(super) deletes: Vec<HeldDelete>,
}

/// A key whose row could not be deleted.
#[derive(Debug)]
pub(super) struct HeldDelete {
    pub(super) stream: String,
    pub(super) output: usize,
    pub(super) fields: Vec<u8>,
    is_judged: bool,
}

impl Held {
    /// Leaves what nothing helped so far alone, unless something has changed.
    pub(super) fn keep_due(&mut self, has_changed: bool) {
        self.rows.retain(|row| has_changed || !row.is_judged);
        self.deletes.retain(|delete| has_changed || !delete.is_judged);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.deletes.is_empty()
    }
}

/// What waits in a file.
pub(super) async fn held(conn: &mut PgConnection, pack: &str, source: &str) -> Result<Held> {
    let rows = sqlx::query(include_str!("../../sql/capture/held.sql"))
        .bind(pack)
        .bind(source)
        .bind(HELD_AT_ONCE)
        .fetch_all(conn)
        .await?;
    let mut held = Held::default();
    for row in rows {
        let stream: String = row.try_get("stream")?;
        let identity: Option<String> = row.try_get("identity")?;
        let is_judged = row.try_get("judged")?;
        if row.try_get::<String, _>("kind")? == "row" {
            let place: String = row.try_get("place")?;
            let identity = identity
                .and_then(|text| serde_json::from_str::<Position>(&text).ok())
                .or_else(|| identity_of(&place));
            held.rows.extend(identity.map(|identity| Waiting { stream, identity, is_judged }));
        } else {
            held.deletes.push(HeldDelete {
                stream,
                output: usize::try_from(row.try_get::<i32, _>("output")?).unwrap_or(0),
                fields: row.try_get::<Option<Vec<u8>>, _>("fields")?.unwrap_or_default(),
                is_judged,
            });
        }
    }
    Ok(held)
}

/// The identity behind the text of a locator, where the text tells it.
fn identity_of(locator: &str) -> Option<Position> {
    if let Some(rowid) = locator.strip_prefix("rowid ") {
        return rowid.parse().ok().map(Position::Rowid);
    }
    let parts = locator.strip_prefix("key (")?.strip_suffix(')')?;
    let part = |text: &str| {
        let quoted = |start: &str| {
            text.strip_prefix(start)?.strip_suffix('\'').filter(|inner| !inner.contains('\''))
        };
        if let Some(hex) = quoted("x'") {
            return Some(KeyPart::Blob(hex.to_owned()));
        }
        if let Some(inner) = quoted("'") {
            return Some(KeyPart::Text(hex::encode(inner)));
        }
        text.parse().ok().map(KeyPart::Integer)
    };
    parts.split(", ").map(part).collect::<Option<Vec<_>>>().map(Position::Key)
}

/// Notes why nothing of a file is applied.
pub(super) async fn halt(
    conn: &mut PgConnection,
    pack: &str,
    source: &str,
    why: &str,
) -> Result<()> {
    let why = why.split_once("halted: ").map_or(why, |(_, why)| why);
    sqlx::query(
        "UPDATE toolkit.capture_cursor SET halted = $3, last_error = $3, last_error_at = now() \
         WHERE pack = $1 AND source = $2",
    )
    .bind(pack)
    .bind(source)
    .bind(why)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a file was looked at and had nothing new, at most once a second.
pub(super) async fn seen(
    conn: &mut PgConnection,
    pack: &str,
    source: &str,
    batch: &Batch,
) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.capture_cursor SET seen_at = now(), captured = $3, halted = NULL, \
         waiting_since = NULL WHERE pack = $1 AND source = $2 \
         AND (seen_at IS NULL OR seen_at < now() - interval '1 second' OR captured <> $3 \
              OR halted IS NOT NULL)",
    )
    .bind(pack)
    .bind(source)
    .bind(batch.last)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether applied entries may go: while a backfill is at work, they stay.
pub(super) async fn may_trim(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM toolkit.run \
         WHERE pack = $1 AND command = 'backfill' AND status = 'running')",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}

/// Whether a backfill of the pack has ended, and none is under way: what is not there will not
/// come by itself.
pub(super) async fn is_history_complete(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE status = 'completed') > 0 \
         AND count(*) FILTER (WHERE status = 'running') = 0 \
         FROM toolkit.run WHERE pack = $1 AND command = 'backfill'",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}

/// Whether a backfill of the pack may still write older history.
pub(super) async fn is_backfill_unfinished(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT coalesce((SELECT status IN ('running', 'interrupted', 'failed') FROM toolkit.run \
         WHERE pack = $1 AND command = 'backfill' ORDER BY started_at DESC LIMIT 1), false)",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}
