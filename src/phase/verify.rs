//! Verifications as evidence: what held when one began is stored beside its result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::postgres::PgConnection;

use super::basis::Basis;
use super::state::{self, Phase, Route};
use super::{evidence, reversal, scene};
use crate::capture::{self, reverse};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::parity::{
    self, Answer, Event, Follower, KeysBySlice, Lag, Level, Options, Report, Settle, Verdict,
};
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
    let pack = opened.plan.name.clone();
    let (mut captured, mut gap) = (BTreeMap::new(), None);
    if is_followed(&mut conn, &pack).await? {
        options.settle = following(options.settle, &opened, state.reads);
        captured = capture::verified::marks(&mut conn, &pack).await?;
        gap = capture::record::newest_gap(&mut conn, &pack).await?;
    }
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
        "gap": gap,
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

/// How differences settle while one store follows the other.
fn following(asked: Settle, opened: &OpenedPack, reads: Route) -> Settle {
    let is_back = reads == Route::Postgres;
    let what = if is_back { "dual-write reverse run" } else { "dual-write run" };
    let command = scene::command(&opened.pack, &opened.roots, &format!("{what} --until-caught-up"));
    let second = Second { pack: opened.plan.name.clone(), is_back, command };
    match asked {
        Settle::No => Settle::Following(Arc::new(second)),
        Settle::For(limit) if is_back => Settle::FollowingFor(Arc::new(second), limit),
        asked => asked,
    }
}

/// Longest wait for a store that comes no further, before another comparison. The tail may just
/// have lost the server, and tries again within 30 seconds: two such waits.
const PATIENCE: Duration = Duration::from_secs(16);

/// The same while nobody writes back. Whoever does tries again within 5 seconds.
const PATIENCE_ALONE: Duration = Duration::from_secs(6);

/// The store that is not primary, as whoever compares both sees it.
#[derive(Debug)]
struct Second {
    pack: String,
    /// Whether it is `SQLite`.
    is_back: bool,
    command: String,
}

/// What was written to the primary store up to some moment.
enum Mark {
    /// The newest change captured in each file.
    Captured(BTreeMap<String, i64>),
    /// The newest change in the log of the way back.
    Logged(i64),
}

impl Second {
    async fn mark(&self, conn: &mut PgConnection) -> Result<Mark> {
        if self.is_back {
            let newest = "SELECT coalesce(max(id), 0) FROM toolkit.reverse_log WHERE pack = $1";
            let newest = sqlx::query_scalar(newest).bind(&self.pack).fetch_one(conn).await?;
            return Ok(Mark::Logged(newest));
        }
        let files = capture::status(conn, &self.pack).await?.files;
        Ok(Mark::Captured(files.into_iter().map(|file| (file.source, file.captured)).collect()))
    }

    /// Changes up to the mark that the store lacks.
    async fn lacking(&self, conn: &mut PgConnection, mark: &Mark) -> Result<u64> {
        match mark {
            Mark::Captured(wanted) => {
                let files = capture::status(conn, &self.pack).await?.files;
                let lacking = files.iter().map(|file| {
                    let captured = wanted.get(&file.source).copied().unwrap_or(0);
                    u64::try_from(captured.saturating_sub(file.applied)).unwrap_or(0)
                });
                Ok(lacking.sum())
            }
            Mark::Logged(newest) => {
                // What was written back is deleted from the log.
                let lacking: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM toolkit.reverse_log WHERE pack = $1 AND id <= $2",
                )
                .bind(&self.pack)
                .bind(newest)
                .fetch_one(conn)
                .await?;
                Ok(u64::try_from(lacking).unwrap_or(0))
            }
        }
    }

    async fn wait(&self, conn: &mut PgConnection) -> Result<Lag> {
        let mark = self.mark(conn).await?;
        let mut behind = self.lacking(conn, &mark).await?;
        let (before, mut moved_at) = (behind, Instant::now());
        let mut is_applied = true;
        while behind > 0 && moved_at.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.lacking(conn, &mark).await?;
            if now < behind {
                moved_at = Instant::now();
            }
            behind = now;
            if self.is_back && moved_at.elapsed() >= PATIENCE_ALONE {
                is_applied = reverse::status(conn, &self.pack).await?.running;
                if !is_applied {
                    break;
                }
            }
        }
        Ok(Lag { behind, has_moved: behind < before, is_applied })
    }
}

impl Follower for Second {
    fn is_source(&self) -> bool {
        self.is_back
    }

    fn caught_up<'f>(&'f self, conn: &'f mut PgConnection) -> Answer<'f, Lag> {
        Box::pin(self.wait(conn))
    }

    fn waiting<'f>(
        &'f self,
        conn: &'f mut PgConnection,
        opened: &'f OpenedPack,
        keys: &'f KeysBySlice,
    ) -> Answer<'f, KeysBySlice> {
        Box::pin(reverse::waiting(conn, &opened.plan, keys))
    }

    fn command(&self) -> String {
        self.command.clone()
    }
}

/// Whether one store follows the other: capture is installed, whoever is primary.
async fn is_followed(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    let is_known: bool =
        sqlx::query_scalar("SELECT to_regclass('toolkit.capture_cursor') IS NOT NULL")
            .fetch_one(&mut *conn)
            .await?;
    if !is_known {
        return Ok(false);
    }
    crate::capture::record::is_captured(conn, pack).await
}
