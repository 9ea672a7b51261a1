//! The position at which the `SQLite` files hold what Postgres holds: what a seal is worth.
//!
//! Applications go on writing Postgres, so the log of the way back is never empty for long. For a
//! moment they are held off: what is left is written back, and a snapshot is taken. Then they go
//! on, while the files, which nobody can write any more, are compared with that snapshot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::scene::Scene;
use super::{fault, reversal, target_fence};
use crate::capture::reverse::{Proof, Reverse};
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::pack::plan::SourceKind;
use crate::parity::{self, Level, Options, Verdict};

/// Where both stores were the same.
#[derive(Debug, Clone, Serialize)]
pub struct Position {
    /// Position of Postgres's log.
    pub lsn: String,
    /// The full verification of the files at that very position.
    pub parity_run: String,
    /// Streams that were compared: those that `SQLite` files feed.
    pub streams: Vec<String>,
    /// Rows that differed: 0, unless the phase is forced.
    pub differing_rows: u64,
    /// For how long no write was taken.
    pub hold_ms: u64,
    /// The last changes written back.
    pub reverse: Proof,
}

impl Position {
    /// Whether the files hold what Postgres held.
    pub(super) fn is_exact(&self) -> bool {
        self.differing_rows == 0 && self.reverse.rejects == 0
    }
}

/// A position, and the lock that keeps the files as they are until it is let go.
pub(super) struct Kept {
    pub(super) position: Position,
    _reverse: Reverse,
}

/// Brings the files to a position and compares them there. Writes wait for `hold_max` at most for
/// it to begin, and then for as long as the last changes take.
///
/// Errors: another process writes back.
pub(super) async fn reach(
    scene: &Scene<'_>,
    opened: Arc<OpenedPack>,
    hold_max: Duration,
) -> Result<Kept> {
    let mut reverse = Reverse::open(scene.postgres, Arc::clone(&opened), reversal::BATCH)
        .await
        .map_err(reversal::is_at_work)?;
    reverse.catch_up(scene.stop).await?;
    fault::point("decommission.caught_up")?;
    let mut holder = scene.postgres.dedicated().await?;
    let mut exporter = scene.postgres.dedicated().await?;
    let began = Instant::now();
    let (proof, snapshot) = hold(scene, &mut holder, &mut exporter, &mut reverse, hold_max).await?;
    holder.close().await?;
    let hold_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    fault::point("decommission.held")?;
    let streams = streams(&opened);
    let options = Options {
        level: Level::Full,
        streams: streams.clone(),
        snapshot: Some(snapshot),
        ..Options::default()
    };
    let report = parity::verify(scene.postgres, opened, &options, scene.stop).await?;
    exporter.close().await?;
    let is_clean = report.verdict == Verdict::Clean;
    let position = Position {
        lsn: proof.lsn.clone(),
        parity_run: report.run_id,
        streams,
        differing_rows: if is_clean { 0 } else { report.differing_rows.max(1) },
        hold_ms,
        reverse: proof,
    };
    Ok(Kept { position, _reverse: reverse })
}

/// Holds writers off, writes back what is left, and takes a snapshot; `exporter` keeps it.
async fn hold(
    scene: &Scene<'_>,
    holder: &mut PgConnection,
    exporter: &mut PgConnection,
    reverse: &mut Reverse,
    hold_max: Duration,
) -> Result<(Proof, String)> {
    let mut holding = holder.begin().await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(hold_max.as_millis().max(1).to_string())
        .execute(&mut *holding)
        .await?;
    target_fence::lock(&mut holding, scene.pack).await?;
    let proof = reverse.finish(&mut holding, scene.stop).await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *exporter)
        .await?;
    let snapshot =
        sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut *exporter).await?;
    holding.rollback().await?;
    Ok((proof, snapshot))
}

/// The streams that the files to be sealed feed, and that can be written back.
fn streams(opened: &OpenedPack) -> Vec<String> {
    let none = reversal::no_way_back(opened);
    opened
        .plan
        .streams
        .iter()
        .enumerate()
        .filter(|(index, stream)| {
            matches!(stream.source, SourceKind::Sqlite { .. })
                && opened.has_source(*index)
                && !none.iter().any(|one| one.starts_with(&format!("{} -> ", stream.name)))
        })
        .map(|(_, stream)| stream.name.clone())
        .collect()
}
