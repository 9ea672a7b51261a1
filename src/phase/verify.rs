//! Verifications as evidence: what held when one began is stored beside its result.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::basis::Basis;
use super::state::{self, Phase, Route};
use super::{evidence, reversal};
use crate::capture;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::parity::{self, Event, Follower, Level, Options, Report, Settle, Verdict};
use crate::store::Postgres;

/// Verifies, and keeps the result as evidence for the phase gates.
///
/// What the evidence holds for is read before the comparison begins, so that a change during it
/// counts as one after it.
pub async fn verify(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    options: &Options,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let mut conn = postgres.dedicated().await?;
    let basis = Basis::of_opened(&mut conn, &opened).await?;
    let state = state::current(&mut conn, &opened.plan.name).await?;
    let mut options = options.clone();
    if options.settle.is_no() && is_followed(&mut conn, &opened.plan.name).await? {
        let pack = opened.plan.name.clone();
        options.settle = if state.reads == Route::Postgres {
            Settle::Following(Arc::new(WayBack { pack }))
        } else {
            Settle::Following(Arc::new(Tail { pack }))
        };
    }
    let pack = opened.plan.name.clone();
    let captured = if is_followed(&mut conn, &pack).await? {
        capture::verified::marks(&mut conn, &pack).await?
    } else {
        BTreeMap::new()
    };
    let begun = uuid::Uuid::new_v4().to_string();
    if !captured.is_empty() {
        let facts = json!({ "captured": captured });
        evidence::record(&mut conn, &pack, evidence::PARITY_BEGUN, Some(&begun), &facts, &basis)
            .await?;
    }
    let report =
        parity::verify_telling(postgres, Arc::clone(&opened), &options, stop, on_event).await;
    if report.is_err() && !captured.is_empty() {
        // It stays where the server is gone; then the log is longer for a while.
        let _ = evidence::forget_begun(&mut conn, &pack, &begun).await;
    }
    let report = report?;
    let units: serde_json::Map<_, _> = report
        .units
        .iter()
        .map(|unit| (unit.target.clone(), json!([unit.source_rows, unit.target_rows])))
        .collect();
    let left_behind = match state.phase {
        Phase::Cutover => left_behind(&opened, &report),
        _ => BTreeMap::new(),
    };
    let is_clean = report.verdict == Verdict::Clean
        || (report.stores.is_empty() && report.differing_rows == left_behind.values().sum::<u64>());
    // A copy of the sources is not what the application goes on writing.
    let is_copy =
        opened.roots.iter().any(|root| root.join(crate::source::snapshot::MAKER).exists());
    let facts = json!({
        "clean": is_clean,
        "whole": options.level == Level::Full && options.streams.is_empty() && !is_copy,
        "level": report.level,
        "differing_rows": report.differing_rows,
        "rows": units,
        "captured": captured,
        "left_behind": left_behind,
        "not_checked": report.not_checked,
    });
    let run = Some(report.run_id.as_str());
    evidence::record(&mut conn, &report.pack, evidence::PARITY, run, &facts, &basis).await?;
    if !captured.is_empty() {
        evidence::forget_begun(&mut conn, &pack, &begun).await?;
    }
    sqlx::Connection::close(conn).await?;
    Ok(report)
}

/// Differing rows of the slices that the operator gave up when Postgres became primary, since
/// nothing goes back from them; by slice.
fn left_behind(opened: &OpenedPack, report: &Report) -> BTreeMap<String, u64> {
    let given_up = reversal::slices_without_way_back(opened);
    report
        .units
        .iter()
        .filter(|unit| given_up.contains(&unit.target) && unit.differing() > 0)
        .map(|unit| (unit.target.clone(), unit.differing()))
        .collect()
}

/// The tail of a pack, as whoever compares the stores sees it.
#[derive(Debug)]
struct Tail {
    pack: String,
}

/// Longest wait for the tail before another comparison.
const TAIL_PATIENCE: Duration = Duration::from_secs(10);

impl Tail {
    async fn wait(&self, conn: &mut sqlx::PgConnection) -> Result<u64> {
        let started = Instant::now();
        let mut wanted: Option<BTreeMap<String, i64>> = None;
        loop {
            let files = capture::status(conn, &self.pack).await?.files;
            let wanted = wanted.get_or_insert_with(|| {
                files.iter().map(|file| (file.source.clone(), file.captured)).collect()
            });
            let lacking = files.iter().map(|file| {
                let captured = wanted.get(&file.source).copied().unwrap_or(0);
                u64::try_from(captured.saturating_sub(file.applied)).unwrap_or(0)
            });
            let behind: u64 = lacking.sum();
            if behind == 0 || started.elapsed() > TAIL_PATIENCE {
                return Ok(behind);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Follower for Tail {
    fn caught_up<'f>(
        &'f self,
        conn: &'f mut sqlx::PgConnection,
    ) -> Pin<Box<dyn Future<Output = Result<u64>> + Send + 'f>> {
        Box::pin(self.wait(conn))
    }
}

/// What writes back to `SQLite`, as whoever compares the stores sees it.
#[derive(Debug)]
struct WayBack {
    pack: String,
}

impl WayBack {
    async fn wait(&self, conn: &mut sqlx::PgConnection) -> Result<u64> {
        let started = Instant::now();
        let newest: i64 = sqlx::query_scalar(
            "SELECT coalesce(max(id), 0) FROM toolkit.reverse_log WHERE pack = $1",
        )
        .bind(&self.pack)
        .fetch_one(&mut *conn)
        .await?;
        loop {
            // What was written back is deleted from the log.
            let behind: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM toolkit.reverse_log WHERE pack = $1 AND id <= $2",
            )
            .bind(&self.pack)
            .bind(newest)
            .fetch_one(&mut *conn)
            .await?;
            if behind == 0 || started.elapsed() > TAIL_PATIENCE {
                return Ok(u64::try_from(behind).unwrap_or(0));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Follower for WayBack {
    fn is_source(&self) -> bool {
        true
    }

    fn caught_up<'f>(
        &'f self,
        conn: &'f mut sqlx::PgConnection,
    ) -> Pin<Box<dyn Future<Output = Result<u64>> + Send + 'f>> {
        Box::pin(self.wait(conn))
    }
}

/// Whether one store follows the other: capture is installed, whoever is primary.
async fn is_followed(conn: &mut sqlx::PgConnection, pack: &str) -> Result<bool> {
    let is_known: bool =
        sqlx::query_scalar("SELECT to_regclass('toolkit.capture_cursor') IS NOT NULL")
            .fetch_one(&mut *conn)
            .await?;
    if !is_known {
        return Ok(false);
    }
    crate::capture::record::is_captured(conn, pack).await
}
