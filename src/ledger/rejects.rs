//! Rejects: list, show, export, acknowledge.

use std::io::Write;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Bytes, Filter, not_there, require_tables};
use crate::error::{Error, ErrorKind, Result};

/// Rejects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectGroup {
    /// Pack.
    pub pack: String,
    /// Stream.
    pub stream: String,
    /// Stable code.
    pub reason: String,
    /// State.
    pub state: String,
    /// How many.
    pub count: i64,
}

/// One reject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// Its number.
    pub id: i64,
    /// The newest run that met it.
    pub run_id: String,
    /// Pack.
    pub pack: String,
    /// Stream.
    pub stream: String,
    /// Output; empty for the record as a whole.
    pub output: String,
    /// Source file.
    pub source: String,
    /// Place in it.
    pub locator: String,
    /// The source's key, as far as it is known.
    pub key: Option<String>,
    /// Target column at fault.
    pub column: Option<String>,
    /// Stable code.
    pub reason: String,
    /// One sentence.
    pub detail: String,
    /// Open, acknowledged, retried or resolved.
    pub state: String,
    /// Whether a secret was removed from the record.
    pub secret: bool,
    /// Size of the kept record; None if nothing was kept.
    pub record_bytes: Option<i64>,
    /// SHA-256 of the kept record.
    pub record_sha256: String,
    /// When it was met first.
    pub created_at: String,
    /// The whole record, redacted; only where one reject is shown or all are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Bytes>,
}

/// The answer to [`list_rejects`].
#[derive(Debug, Serialize)]
pub struct RejectList {
    /// What was asked for.
    pub filter: Filter,
    /// All that match.
    pub total: i64,
    /// By pack, stream, reason and state.
    pub groups: Vec<RejectGroup>,
    /// The first of them, open ones first, without their records.
    pub rejects: Vec<Reject>,
    /// How many more match.
    pub more: i64,
}

fn group_of(row: &PgRow) -> Result<RejectGroup> {
    Ok(RejectGroup {
        pack: row.try_get("pack")?,
        stream: row.try_get("stream")?,
        reason: row.try_get("reason")?,
        state: row.try_get("state")?,
        count: row.try_get("count")?,
    })
}

fn reject_of(row: &PgRow) -> Result<Reject> {
    Ok(Reject {
        id: row.try_get("id")?,
        run_id: row.try_get("run_id")?,
        pack: row.try_get("pack")?,
        stream: row.try_get("stream")?,
        output: row.try_get("output")?,
        source: row.try_get("source")?,
        locator: row.try_get("locator")?,
        key: row.try_get("record_key")?,
        column: row.try_get("column_name")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        state: row.try_get("state")?,
        secret: row.try_get("secret")?,
        record_bytes: row.try_get("record_bytes")?,
        record_sha256: row.try_get("record_sha256")?,
        created_at: row.try_get("created_at")?,
        record: row.try_get::<Option<Vec<u8>>, _>("record")?.map(Bytes::of),
    })
}

/// The rejects' kinds and at most `limit` of the rejects themselves.
pub async fn list_rejects(
    conn: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<RejectList> {
    require_tables(conn).await?;
    // One snapshot, so that the groups add up to what is listed and what is not.
    let mut snapshot = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let groups = sqlx::query(include_str!("../sql/ledger/reject_groups.sql"))
        .bind(&filter.pack)
        .bind(&filter.stream)
        .bind(&filter.reason)
        .bind(&filter.state)
        .fetch_all(&mut *snapshot)
        .await?;
    let rows = query(filter, None, Some(limit), false).fetch_all(&mut *snapshot).await?;
    snapshot.commit().await?;
    let groups = groups.iter().map(group_of).collect::<Result<Vec<_>>>()?;
    let rejects = rows.iter().map(reject_of).collect::<Result<Vec<_>>>()?;
    let total: i64 = groups.iter().map(|group| group.count).sum();
    let more = total - i64::try_from(rejects.len()).unwrap_or(i64::MAX);
    Ok(RejectList { filter: filter.clone(), total, groups, rejects, more })
}

fn query(
    filter: &Filter,
    id: Option<i64>,
    limit: Option<u32>,
    with_record: bool,
) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(include_str!("../sql/ledger/rejects.sql"))
        .bind(&filter.pack)
        .bind(&filter.stream)
        .bind(&filter.reason)
        .bind(&filter.state)
        .bind(id)
        .bind(limit.map(i64::from))
        .bind(with_record)
}

/// One reject with its record.
pub async fn reject(conn: &mut PgConnection, id: i64) -> Result<Reject> {
    require_tables(conn).await?;
    let filter = Filter::default();
    let row = query(&filter, Some(id), None, true).fetch_optional(conn).await?;
    let row = row.ok_or_else(|| {
        not_there("reject", id).advice("`toolkit rejects list` shows their numbers")
    })?;
    reject_of(&row)
}

/// Writes every reject that matches as one line of JSON, its record as text or hexadecimal;
/// returns how many. One reject is in memory at a time.
pub async fn export_rejects(
    conn: &mut PgConnection,
    filter: &Filter,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    require_tables(conn).await?;
    let mut rows = query(filter, None, None, true).fetch(conn);
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        serde_json::to_writer(&mut *out, &reject_of(&row)?)
            .map_err(|e| Error::new(ErrorKind::Io, "writing the export failed").because(e))?;
        out.write_all(b"\n")?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}

/// Which rejects of a pack are acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Every open one.
    All,
    /// These.
    Ids(Vec<i64>),
}

/// What an acknowledgement changes, or changed.
#[derive(Debug, Serialize)]
pub struct Acknowledgement {
    /// The pack.
    pub pack: String,
    /// The run that recorded it; None for a plan.
    pub run_id: Option<String>,
    /// The rejects concerned.
    pub ids: Vec<i64>,
    /// Rejects that were named but are acknowledged or resolved already.
    pub unchanged: Vec<i64>,
    /// Open rejects of the pack that remain.
    pub open: i64,
}

/// What acknowledging would change. Errors: a number that is no reject of the pack.
pub async fn plan_acknowledgement(
    conn: &mut PgConnection,
    pack: &str,
    which: &Which,
) -> Result<Acknowledgement> {
    require_tables(conn).await?;
    let named = match which {
        Which::All => None,
        Which::Ids(ids) => Some(ids),
    };
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT id, state FROM toolkit.reject WHERE pack = $1 \
         AND (id = ANY($2) OR ($2 IS NULL AND state IN ('open', 'retried'))) ORDER BY id",
    )
    .bind(pack)
    .bind(named)
    .fetch_all(&mut *conn)
    .await?;
    let unknown: Vec<String> = named
        .into_iter()
        .flatten()
        .filter(|id| !rows.iter().any(|(found, _)| found == *id))
        .map(ToString::to_string)
        .collect();
    if !unknown.is_empty() {
        let detail = format!("the pack {pack} has no reject {}", unknown.join(", "));
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice(format!("`toolkit rejects list --pack {pack}` shows its rejects")));
    }
    let is_pending = |state: &str| matches!(state, "open" | "retried");
    let (ids, unchanged): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, state)| is_pending(state));
    let ids: Vec<i64> = ids.into_iter().map(|(id, _)| id).collect();
    let all: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM toolkit.reject WHERE pack = $1 AND state IN ('open', 'retried')",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?;
    let open = all - i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let unchanged = unchanged.into_iter().map(|(id, _)| id).collect();
    Ok(Acknowledgement { pack: pack.to_owned(), run_id: None, ids, unchanged, open })
}

/// Acknowledges rejects and records that as a run, in one transaction.
pub async fn acknowledge(
    conn: &mut PgConnection,
    pack: &str,
    which: &Which,
) -> Result<Acknowledgement> {
    require_tables(conn).await?;
    let mut transaction = conn.begin().await?;
    let mut plan = plan_acknowledgement(&mut transaction, pack, which).await?;
    // A backfill may have resolved some of them since they were looked at.
    plan.ids = sqlx::query_scalar(
        "UPDATE toolkit.reject SET state = 'acknowledged' \
         WHERE id = ANY($1) AND state IN ('open', 'retried') RETURNING id",
    )
    .bind(&plan.ids)
    .fetch_all(&mut *transaction)
    .await?;
    if plan.ids.is_empty() {
        transaction.rollback().await?;
        return Ok(plan);
    }
    plan.ids.sort_unstable();
    let run_id = uuid::Uuid::new_v4().to_string();
    let settings = match which {
        Which::All => json!({ "all": true }),
        Which::Ids(ids) => json!({ "ids": ids }),
    };
    sqlx::query(include_str!("../sql/ledger/acknowledge_run.sql"))
        .bind(&run_id)
        .bind(pack)
        .bind(settings.to_string())
        .bind(json!({ "acknowledged": plan.ids.len(), "open": plan.open }).to_string())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Acknowledgement { run_id: Some(run_id), ..plan })
}
