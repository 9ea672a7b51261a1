//! Which snapshot a run reads, and how long it is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{Pack, join_error};
use crate::source::discover::Input;
use crate::source::snapshot::Snapshot;
use crate::store::Postgres;

/// The snapshot of the run that a backfill of `pack` would resume; None if there is no such run.
pub async fn kept_snapshot(
    postgres: &Postgres,
    state_dir: &Path,
    pack: &str,
) -> Result<Option<Arc<Snapshot>>> {
    let mut conn = postgres.dedicated().await?;
    let row = sqlx::query(include_str!("../sql/backfill/unfinished_run.sql"))
        .bind(pack)
        .fetch_optional(&mut conn)
        .await?;
    match row {
        Some(row) => reopen(state_dir, pack, &row).await.map(Some),
        None => Ok(None),
    }
}

/// The snapshot that the newest backfill of `pack` read.
pub async fn newest_snapshot(
    postgres: &Postgres,
    state_dir: &Path,
    pack: &str,
) -> Result<Arc<Snapshot>> {
    let mut conn = postgres.dedicated().await?;
    let row = sqlx::query(
        "SELECT run_id::text AS run_id, inputs::text AS inputs FROM toolkit.run \
         WHERE pack = $1 AND command = 'backfill' ORDER BY started_at DESC LIMIT 1",
    )
    .bind(pack)
    .fetch_optional(&mut conn)
    .await?;
    let Some(row) = row else {
        let detail = format!("no backfill of the pack {pack} has run against this database");
        return Err(Error::new(ErrorKind::SourceMissing, detail)
            .advice("run `toolkit backfill --snapshot` first"));
    };
    reopen(state_dir, pack, &row).await
}

/// Makes a snapshot of the sources of `pack` below `roots`; removed again unless a run begins
/// with it.
pub async fn make_snapshot(
    state_dir: &Path,
    pack: &Pack,
    roots: &[PathBuf],
    stop: &Stop,
) -> Result<Arc<Snapshot>> {
    let (state_dir, pack, roots) = (state_dir.to_path_buf(), pack.clone(), roots.to_vec());
    let stop = stop.clone();
    tokio::task::spawn_blocking(move || {
        Snapshot::make(&state_dir, &pack, &roots, &|| stop.check()).map(Arc::new)
    })
    .await
    .map_err(join_error)?
}

/// The same of one `SQLite` file, for a pack that is yet to be made of it.
pub async fn make_snapshot_of_file(
    state_dir: &Path,
    pack: &str,
    file: &Path,
    stop: &Stop,
) -> Result<Arc<Snapshot>> {
    let (state_dir, pack, file) = (state_dir.to_path_buf(), pack.to_owned(), file.to_path_buf());
    let stop = stop.clone();
    tokio::task::spawn_blocking(move || {
        Snapshot::make_of_file(&state_dir, &pack, &file, &|| stop.check()).map(Arc::new)
    })
    .await
    .map_err(join_error)?
}

async fn reopen(state_dir: &Path, pack: &str, row: &PgRow) -> Result<Arc<Snapshot>> {
    let run_id: String = row.try_get("run_id")?;
    let inputs: Vec<Input> =
        serde_json::from_str(&row.try_get::<String, _>("inputs")?).unwrap_or_default();
    if !has_snapshot(&inputs) {
        let detail = format!("run {run_id} was started without --snapshot: it read no copy");
        return Err(Error::new(ErrorKind::RunMismatch, detail)
            .advice("leave --snapshot out, or start the backfill over with --restart --snapshot"));
    }
    let (state_dir, pack) = (state_dir.to_path_buf(), pack.to_owned());
    tokio::task::spawn_blocking(move || {
        Snapshot::reopen(&state_dir, &pack, &run_id, &inputs).map(Arc::new)
    })
    .await
    .map_err(join_error)?
}

/// Whether a run with these inputs read a snapshot.
pub(super) fn has_snapshot(inputs: &[Input]) -> bool {
    inputs.iter().any(|input| input.sha256.is_some())
}

/// Keeps the snapshot of a run that has begun, and removes those of the pack's runs before it.
pub(super) async fn settle(conn: &mut PgConnection, pack: &str, snapshot: &Snapshot) -> Result<()> {
    snapshot.keep();
    let over: Vec<String> = sqlx::query_scalar(
        "SELECT run_id::text FROM toolkit.run WHERE pack = $1 AND command = 'backfill' \
         AND status IN ('completed', 'failed')",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    snapshot.remove_others(&over)
}
