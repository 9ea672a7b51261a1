//! What the later gates rely on, read from the stores: capture, backfill, rejects, verifications.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::basis::Basis;
use super::check::Check;
use super::evidence;
use super::scene::Scene;
use super::state::State;
use crate::capture;
use crate::count::{counted, counted_are};
use crate::error::Result;
use crate::pack::{OpenedPack, join_error};
use crate::source::SourceFile;

/// How long a cursor that is behind is watched for a move.
const WATCHED: Duration = Duration::from_secs(5);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How far one file's captured changes are applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// The file, as checkpoints name it.
    pub source: String,
    /// What stands in the file; None: capture is not installed there.
    pub installation: Option<String>,
    /// The installation that Postgres follows.
    pub followed: Option<String>,
    /// The newest captured change.
    pub captured: i64,
    /// The newest applied change.
    pub applied: i64,
    /// Whether writes to the file fail.
    pub is_fenced: bool,
    /// Why nothing of the file is applied.
    pub halted: Option<String>,
    /// Changes that may have been missed, until a backfill ends.
    pub gap: Option<String>,
}

impl Reading {
    /// Captured changes that are not applied.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.captured - self.applied
    }

    fn objection(&self) -> Option<String> {
        let source = &self.source;
        if self.installation.is_none() {
            return Some(format!("{source} is not captured"));
        }
        if self.installation != self.followed {
            return Some(format!("{source} carries a capture that Postgres does not follow"));
        }
        self.halted.as_ref().map(|why| format!("{source} is halted: {why}"))
    }
}

/// How far every captured file is; files in the pack's order.
pub(super) async fn readings(
    conn: &mut PgConnection,
    pack: &str,
    files: &[SourceFile],
) -> Result<Vec<Reading>> {
    let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
    let looking = move || -> Result<Vec<_>> {
        paths.iter().map(|path| Ok((capture::state(path)?, capture::position(path)?))).collect()
    };
    let found = tokio::task::spawn_blocking(looking).await.map_err(join_error)??;
    let mut readings = Vec::with_capacity(files.len());
    for (file, (state, position)) in files.iter().zip(found) {
        let row = sqlx::query(include_str!("../sql/phase/reading.sql"))
            .bind(pack)
            .bind(&file.relative)
            .fetch_optional(&mut *conn)
            .await?;
        let text = |name: &str| -> Result<Option<String>> {
            row.as_ref().map_or(Ok(None), |row| Ok(row.try_get(name)?))
        };
        readings.push(Reading {
            source: file.relative.clone(),
            is_fenced: state.as_ref().is_some_and(|state| state.mode == 1),
            installation: state.filter(|state| state.pack == pack).map(|state| state.installation),
            followed: text("installation")?,
            captured: position.unwrap_or(0),
            applied: row.as_ref().map_or(Ok(0), |row| row.try_get("position"))?,
            halted: text("halted")?,
            gap: text("gap")?,
        });
    }
    Ok(readings)
}

/// Capture is installed in every `SQLite` file, Postgres follows it, and its cursor moves, or the
/// file is idle: nothing is behind at two looks.
pub(super) async fn capture_check(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    opened: &OpenedPack,
) -> Result<Check> {
    let files = capture::captured_files(opened);
    if files.is_empty() {
        let finding = "the pack has no SQLite files here; its other files are rescanned by hash";
        return Ok(Check::met("capture", finding));
    }
    let first = readings(conn, scene.name(), &files).await?;
    if let Some(check) = not_followed(scene, &first) {
        return Ok(check);
    }
    moving(scene, conn, &files, first).await
}

/// Capture is installed in every file and nothing halts it. What is captured and not applied yet
/// is applied by the cutover itself.
pub(super) fn followed_check(scene: &Scene<'_>, readings: &[Reading]) -> Check {
    not_followed(scene, readings).unwrap_or_else(|| {
        let lag: i64 = readings.iter().map(Reading::lag).sum();
        let finding = format!(
            "{} captured, {} behind at this moment",
            counted_are(readings.len(), "file"),
            counted(lag, "change")
        );
        Check::met("capture", finding).with(json!(readings))
    })
}

fn not_followed(scene: &Scene<'_>, first: &[Reading]) -> Option<Check> {
    let objections: Vec<String> = first.iter().filter_map(Reading::objection).collect();
    if objections.is_empty() {
        return None;
    }
    let advice = scene.command("dual-write enable");
    Some(Check::missing("capture", objections.join("; "), advice).with(json!(first)))
}

/// Watches the files until each has moved or is idle.
async fn moving(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    files: &[SourceFile],
    first: Vec<Reading>,
) -> Result<Check> {
    let mut still: Vec<usize> = (0..first.len()).collect();
    let started = tokio::time::Instant::now();
    let mut last = first.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        scene.stop.check()?;
        let now = readings(conn, scene.name(), files).await?;
        still.retain(|at| {
            let is_idle = first[*at].lag() == 0 && now[*at].lag() == 0;
            !is_idle && now[*at].applied <= first[*at].applied
        });
        last.clone_from(&now);
        if still.is_empty() || started.elapsed() > WATCHED {
            break;
        }
    }
    if still.is_empty() {
        let lag: i64 = last.iter().map(Reading::lag).sum();
        let finding = format!(
            "{} captured and applied, {} behind at the last of two looks",
            counted_are(last.len(), "file"),
            counted(lag, "change")
        );
        return Ok(Check::met("capture", finding).with(json!(last)));
    }
    let named: Vec<String> = still
        .iter()
        .map(|at| format!("{} ({} behind)", last[*at].source, counted(last[*at].lag(), "change")))
        .collect();
    Ok(Check::missing(
        "capture",
        format!("captured changes are not applied: {}", named.join(", ")),
        scene.command("dual-write run"),
    )
    .with(json!(last)))
}

/// Every stream that has sources was copied to its end, by a run of this very pack that began in
/// this phase.
pub(super) async fn backfill_check(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    opened: &OpenedPack,
) -> Result<Check> {
    let wanted: Vec<&str> = opened
        .plan
        .streams
        .iter()
        .enumerate()
        .filter(|(index, _)| opened.has_source(*index))
        .map(|(_, stream)| stream.name.as_str())
        .collect();
    let rows = sqlx::query(include_str!("../sql/phase/copied.sql"))
        .bind(scene.name())
        .bind(&opened.plan.fingerprint)
        .fetch_all(&mut *conn)
        .await?;
    let mut copied = Vec::new();
    let mut runs = BTreeSet::new();
    for row in &rows {
        copied.push(row.try_get::<String, _>("stream")?);
        runs.insert(row.try_get::<String, _>("run_id")?);
    }
    let open: Vec<&str> =
        wanted.iter().filter(|name| !copied.iter().any(|done| done == *name)).copied().collect();
    let facts = json!({ "streams": wanted, "not_copied": open, "runs": runs });
    if !open.is_empty() {
        let finding = format!(
            "not copied to the end by a backfill that began in phase 2: {}",
            open.join(", ")
        );
        let advice = scene.command("backfill");
        return Ok(Check::missing("backfill", finding, advice).with(facts));
    }
    let unfinished: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM toolkit.run WHERE pack = $1 AND command = 'backfill' \
         AND status IN ('running', 'interrupted')",
    )
    .bind(scene.name())
    .fetch_one(conn)
    .await?;
    if unfinished > 0 {
        let advice = scene.command("backfill");
        return Ok(
            Check::missing("backfill", "a backfill is running or unfinished", advice).with(facts)
        );
    }
    let streams = wanted.len();
    Ok(Check::met("backfill", format!("{} copied to the end", counted_are(streams, "stream")))
        .with(facts))
}

/// No reject is open, and no captured change waits for another row.
pub(super) async fn rejects_check(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<Check> {
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE state = 'open') AS open, \
                count(*) FILTER (WHERE state = 'acknowledged') AS acknowledged \
         FROM toolkit.reject WHERE pack = $1",
    )
    .bind(scene.name())
    .fetch_one(&mut *conn)
    .await?;
    let (open, acknowledged): (i64, i64) = (row.try_get("open")?, row.try_get("acknowledged")?);
    let held: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM toolkit.capture_held \
         WHERE pack = $1 AND (kind = 'delete' OR NOT judged)",
    )
    .bind(scene.name())
    .fetch_one(conn)
    .await?;
    let facts = json!({ "open": open, "acknowledged": acknowledged, "held_changes": held });
    let pack = scene.name();
    if open > 0 {
        let advice = format!(
            "toolkit rejects list --pack {pack}, then `rejects retry` or `rejects acknowledge`"
        );
        let finding = format!("{} neither corrected nor acknowledged", counted_are(open, "reject"));
        return Ok(Check::missing("rejects", finding, advice).with(facts));
    }
    if held > 0 {
        let held = counted_are(held, "captured change");
        let finding = format!("{held} waiting for other rows (toolkit.capture_held)");
        let advice = scene.command("dual-write status");
        return Ok(Check::missing("rejects", finding, advice).with(facts));
    }
    let finding =
        format!("no reject is open; {} acknowledged", counted_are(acknowledged, "reject"));
    Ok(Check::met("rejects", finding).with(facts))
}

/// The newest verifications: enough of them full, clean, one after the other, of this very pack,
/// and nothing expired. With `since`, only those begun at that generation or later count.
pub(super) async fn parity_check(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    now: &Basis,
    since: Option<&State>,
) -> Result<Check> {
    let wanted = scene.pack.manifest.phase.clean_runs as usize;
    let gap = capture::record::newest_gap(conn, scene.name()).await?;
    let mut clean = Vec::new();
    let mut left_behind = BTreeSet::new();
    let mut stopped_by = None;
    for found in evidence::list(conn, scene.name(), evidence::PARITY, now).await? {
        let run = found.run_id.clone().unwrap_or_default();
        if let Some(state) = since
            && found.basis.as_ref().is_none_or(|basis| basis.generation < state.generation)
        {
            stopped_by = Some("earlier ones were made before the last change of phase".to_owned());
            break;
        }
        if let Some(why) = &found.expired {
            stopped_by = Some(format!("verification {run} expired: {why}"));
            break;
        }
        if gap.is_some() && found.facts["gap"] != json!(gap) {
            let why = "earlier ones began before changes may have been missed";
            stopped_by = Some(why.to_owned());
            break;
        }
        if found.facts["clean"] != true {
            stopped_by = Some(format!("verification {run} of {} found differences", found.at));
            break;
        }
        if found.facts["whole"] == true {
            clean.push(run);
            let slices = found.facts["left_behind"].as_object();
            left_behind.extend(slices.into_iter().flatten().map(|(slice, _)| slice.clone()));
        }
    }
    let facts = json!({
        "wanted": wanted,
        "clean": clean,
        "stopped_by": stopped_by,
        "left_behind": left_behind,
    });
    let have = clean.len();
    if have >= wanted {
        let mut finding = format!(
            "the last {} clean, one after the other",
            counted_are(have, "full verification")
        );
        if !left_behind.is_empty() {
            let slices = left_behind.into_iter().collect::<Vec<_>>().join(", ");
            finding.push_str(&format!(
                ", but for {slices}: nothing is written back from there, and that was acknowledged"
            ));
        }
        return Ok(Check::met("parity", finding).with(facts));
    }
    let why = stopped_by.map(|why| format!("; {why}")).unwrap_or_default();
    Ok(Check::missing(
        "parity",
        format!("{have} of {wanted} consecutive clean full verifications{why}"),
        scene.command("verify-parity --level full"),
    )
    .with(facts))
}

/// Every change since the newest clean verification is still in the logs, so that the cutover can
/// compare it. Without such a verification `parity_check` has said what is missing.
pub(super) async fn uncompared_check(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    files: &[SourceFile],
) -> Result<Check> {
    let left = capture::verified::uncompared(conn, scene.name(), files).await?;
    let facts = json!(left);
    let broken: Vec<&str> =
        left.iter().filter(|file| !file.is_whole()).map(|file| file.source.as_str()).collect();
    if broken.is_empty() {
        let changes: i64 = left.iter().map(|file| file.captured - file.from()).sum();
        let finding = format!(
            "{} since the last clean verification; the cutover compares each",
            counted(changes, "captured change")
        );
        return Ok(Check::met("changes", finding).with(facts));
    }
    let finding = format!(
        "not every change since the last clean verification is known any more: the log of {} \
         reaches back 1,000,000 changes at most",
        broken.join(", ")
    );
    let advice = scene.command("verify-parity --level full");
    Ok(Check::missing("changes", finding, advice).with(facts))
}

/// No change may have been missed.
pub(super) fn gap_check(scene: &Scene<'_>, readings: &[Reading]) -> Option<Check> {
    let gaps: Vec<String> = readings
        .iter()
        .filter_map(|reading| Some(format!("{}: {}", reading.source, reading.gap.as_ref()?)))
        .collect();
    if gaps.is_empty() {
        return None;
    }
    let finding = format!("changes may have been missed: {}", gaps.join("; "));
    Some(Check::missing("gap", finding, scene.command("backfill")).with(json!(gaps)))
}
