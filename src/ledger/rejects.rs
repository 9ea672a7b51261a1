//! Rejects: list, show, export, acknowledge, purge.

use std::collections::BTreeMap;
use std::io::Write;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::editable::editable;
use super::listing::{self, Listed};
use super::{Bytes, Filter, require_tables};
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
    /// Open, acknowledged, retried (stored corrected) or resolved.
    pub state: String,
    /// Whether a secret was removed from the record.
    pub secret: bool,
    /// `record`: as the source has it; `row`: a row of the target that Postgres refused.
    pub shape: Option<String>,
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

impl Listed for Reject {
    type Group = RejectGroup;
    const GROUPS: &'static str = include_str!("../sql/ledger/reject_groups.sql");
    const ROWS: &'static str = include_str!("../sql/ledger/rejects.sql");
    const NAME: (&'static str, &'static str) = ("reject", "rejects");

    fn group(row: &PgRow) -> Result<RejectGroup> {
        Ok(RejectGroup {
            pack: row.try_get("pack")?,
            stream: row.try_get("stream")?,
            reason: row.try_get("reason")?,
            state: row.try_get("state")?,
            count: row.try_get("count")?,
        })
    }

    fn count(group: &RejectGroup) -> i64 {
        group.count
    }

    fn one(row: &PgRow) -> Result<Self> {
        Ok(Self {
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
            shape: row.try_get("shape")?,
            record_bytes: row.try_get("record_bytes")?,
            record_sha256: row.try_get("record_sha256")?,
            created_at: row.try_get("created_at")?,
            record: row.try_get::<Option<Vec<u8>>, _>("record")?.map(Bytes::of),
        })
    }
}

/// The rejects' kinds and at most `limit` of the rejects themselves.
pub async fn list_rejects(
    conn: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<RejectList> {
    let page = listing::page::<Reject>(conn, filter, limit).await?;
    let (total, groups, more) = (page.total, page.groups, page.more);
    Ok(RejectList { filter: filter.clone(), total, groups, rejects: page.rows, more })
}

/// One reject with its record.
pub async fn reject(conn: &mut PgConnection, id: i64) -> Result<Reject> {
    listing::one(conn, id).await
}

/// Writes every reject that matches as one line of JSON with its record in the form that
/// `rejects retry --file` reads; returns how many. One reject is in memory at a time.
pub async fn export_rejects(
    conn: &mut PgConnection,
    filter: &Filter,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    require_tables(conn).await?;
    let mut rows = listing::select::<Reject>(filter, None, None, true).fetch(conn);
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        let mut reject = Reject::one(&row)?;
        let record = match reject.record.take() {
            None => "null".to_owned(),
            Some(Bytes::Text(text)) => editable(text.as_bytes()),
            Some(Bytes::Hex(hex)) => json!({ "$text_hex": hex }).to_string(),
        };
        let mut line = serde_json::to_string(&reject)
            .map_err(|e| Error::new(ErrorKind::Bug, "a reject is not JSON").because(e))?;
        line.pop();
        let obstacle = match (reject.secret, reject.shape.is_some()) {
            (true, _) => ",\"cannot_retry\":\"a secret was removed, which only the source has\"",
            (false, false) => ",\"cannot_retry\":\"an earlier version recorded it\"",
            (false, true) => "",
        };
        // By hand: the record goes as it is, with numbers and members as they were written.
        writeln!(out, "{line}{obstacle},\"record\":{record}}}")?;
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
         AND (id = ANY($2) OR ($2 IS NULL AND state = 'open')) ORDER BY id",
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
    let (ids, unchanged): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, state)| state == "open");
    let ids: Vec<i64> = ids.into_iter().map(|(id, _)| id).collect();
    let all: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM toolkit.reject WHERE pack = $1 AND state = 'open'",
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
         WHERE id = ANY($1) AND state = 'open' RETURNING id",
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
    sqlx::query(include_str!("../sql/ledger/recorded_run.sql"))
        .bind(&run_id)
        .bind(pack)
        .bind(settings.to_string())
        .bind(json!({ "acknowledged": plan.ids.len(), "open": plan.open }).to_string())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .bind("rejects acknowledge")
        .bind("completed")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Acknowledgement { run_id: Some(run_id), ..plan })
}

/// Which rejects are removed.
#[derive(Debug, Clone, Default)]
pub struct Purge {
    /// The pack.
    pub pack: String,
    /// States; empty: resolved and acknowledged ones.
    pub states: Vec<String>,
    /// Only those that were met first so long ago, in seconds.
    pub older_than_s: Option<u64>,
    /// Whether open and retried ones may go too.
    pub force: bool,
    /// Count and keep everything.
    pub dry_run: bool,
}

/// What a purge removed, or would remove.
#[derive(Debug, Serialize)]
pub struct Purged {
    /// The pack.
    pub pack: String,
    /// The run that recorded it; None for a plan or where there was nothing.
    pub run_id: Option<String>,
    /// How many by state.
    pub by_state: BTreeMap<String, i64>,
}

impl Purged {
    /// What parity can no longer account for.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let lost = |state: &str, what: &str| {
            let count = self.by_state.get(state).copied().unwrap_or(0);
            (count > 0).then(|| format!("{count} {state}: {what}"))
        };
        let unaccounted = "a record that the source still holds is reported as unaccounted for, \
                           until a backfill meets it again";
        let changed = "the corrected row is reported as extra, the source's record as \
                       unaccounted for, and a backfill refuses it again";
        [lost("acknowledged", unaccounted), lost("open", unaccounted), lost("retried", changed)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Removes rejects and records that as a run, in one transaction.
///
/// Errors: open or retried ones without force.
pub async fn purge(conn: &mut PgConnection, wanted: &Purge) -> Result<Purged> {
    require_tables(conn).await?;
    let standard = ["resolved", "acknowledged"].map(str::to_owned);
    let states = if wanted.states.is_empty() { standard.to_vec() } else { wanted.states.clone() };
    let needed = states.iter().find(|state| matches!(state.as_str(), "open" | "retried"));
    if let Some(state) = needed.filter(|_| !wanted.force) {
        let detail = format!("{state} rejects are removed only with --force");
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice("they are what parity and later runs account by; export them first"));
    }
    let mut transaction = conn.begin().await?;
    let rows: Vec<(String, i64)> = sqlx::query_as(include_str!("../sql/ledger/purge.sql"))
        .bind(&wanted.pack)
        .bind(&states)
        .bind(wanted.older_than_s.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)))
        .fetch_all(&mut *transaction)
        .await?;
    let by_state: BTreeMap<String, i64> = rows.into_iter().collect();
    let mut purged = Purged { pack: wanted.pack.clone(), run_id: None, by_state };
    if wanted.dry_run || purged.by_state.is_empty() {
        transaction.rollback().await?;
        return Ok(purged);
    }
    let run_id = uuid::Uuid::new_v4().to_string();
    let settings = json!({ "states": states, "older_than_s": wanted.older_than_s });
    sqlx::query(include_str!("../sql/ledger/recorded_run.sql"))
        .bind(&run_id)
        .bind(&wanted.pack)
        .bind(settings.to_string())
        .bind(json!({ "purged": purged.by_state }).to_string())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .bind("rejects purge")
        .bind("completed")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    purged.run_id = Some(run_id);
    Ok(purged)
}
