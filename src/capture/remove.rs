//! Taking capture out of the files of a pack again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::install::drop_trigger;
use super::log::{self, failed};
use super::record;
use super::{FENCE_PREFIX, LOG_TABLE, STATE_TABLE, TRIGGER_PREFIX, fence};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::join_error;
use crate::source::SourceFile;
use crate::store::Postgres;

/// What a caller of [`disable`] decides.
#[derive(Debug, Clone, Default)]
pub struct DisableOptions {
    /// Take it out although changes are not applied, or the route says Postgres.
    pub force: bool,
    /// The application has been moved for good: the route may say Postgres.
    pub decommissioning: bool,
    /// Say what would be done and change nothing.
    pub dry_run: bool,
}

/// What [`disable`] did.
#[derive(Debug, Clone, Serialize)]
pub struct Disabled {
    /// The pack.
    pub pack: String,
    /// Files, and whether capture was in them.
    pub files: Vec<(PathBuf, bool)>,
    /// Changes that were captured and never applied.
    pub dropped_changes: i64,
}

/// Takes capture and fence out of the pack's files, so that their schema is what it was before.
/// Works on whatever is left of an installation.
///
/// Errors: the route says Postgres, or changes are not applied, unless `force` says otherwise.
pub async fn disable(
    postgres: &Postgres,
    pack: &str,
    files: &[SourceFile],
    options: &DisableOptions,
) -> Result<Disabled> {
    let mut conn = postgres.dedicated().await?;
    if !options.force && !options.decommissioning {
        require_route_to_sqlite(&mut conn, pack).await?;
    }
    let mut disabled = Disabled { pack: pack.to_owned(), files: Vec::new(), dropped_changes: 0 };
    for file in files {
        let cursor = record::cursor(&mut conn, pack, &file.relative).await?;
        let (path, name, chosen) = (file.path.clone(), pack.to_owned(), options.clone());
        let applied = cursor.as_ref().map(|cursor| cursor.position);
        let (was_there, dropped) =
            tokio::task::spawn_blocking(move || uninstall(&path, &name, applied, &chosen))
                .await
                .map_err(join_error)??;
        if !options.dry_run {
            sqlx::query(include_str!("../sql/capture/forget.sql"))
                .bind(pack)
                .bind(&file.relative)
                .execute(&mut conn)
                .await?;
        }
        disabled.files.push((file.path.clone(), was_there));
        disabled.dropped_changes += dropped;
    }
    conn.close().await?;
    Ok(disabled)
}

/// Refuses while applications write to Postgres: without capture and fence, two stores would be
/// primary.
async fn require_route_to_sqlite(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let reads: Option<Option<String>> = sqlx::query_scalar(
        "SELECT to_jsonb(p) ->> 'reads' FROM toolkit.phase AS p WHERE p.pack = $1 LIMIT 1",
    )
    .bind(pack)
    .fetch_optional(conn)
    .await?;
    if reads.flatten().as_deref() != Some("postgres") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Busy,
        format!(
            "the pack {pack} reads PostgreSQL: the fence keeps its old files from being written"
        ),
    )
    .advice("`toolkit phase advance --to 4`, or `toolkit phase rollback --to 2`, comes first"))
}

/// One transaction in one file; whether anything was there, and how many changes were dropped
/// unapplied. Blocking.
fn uninstall(
    path: &Path,
    pack: &str,
    applied: Option<i64>,
    options: &DisableOptions,
) -> Result<(bool, i64)> {
    let shown = path.display().to_string();
    let mut connection = log::open_for_writing(path, Duration::from_secs(10))?;
    let tx = fence::immediate(&mut connection, &shown)?;
    let state = log::state_in(&tx, &shown)?;
    if let Some(state) = state.filter(|state| state.pack != pack) {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("{shown} is captured for the pack {}, not {pack}", state.pack),
        ));
    }
    let has_log = log::has_table(&tx, &shown, LOG_TABLE)?;
    let mut dropped = 0;
    if has_log && let Some(applied) = applied {
        dropped = (log::last_position(&tx, &shown)? - applied).max(0);
        if dropped > 0 && !options.force {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("{shown}: {dropped} captured changes are not applied to PostgreSQL"),
            )
            .advice(
                "`toolkit dual-write run --until-caught-up` applies them; --force drops them",
            ));
        }
    }
    let mut names = fence::triggers_named(&tx, &shown, TRIGGER_PREFIX)?;
    names.extend(fence::triggers_named(&tx, &shown, FENCE_PREFIX)?);
    for name in &names {
        drop_trigger(&tx, &shown, name)?;
    }
    let has_state = log::has_table(&tx, &shown, STATE_TABLE)?;
    tx.execute_batch(&format!(
        "DROP TABLE IF EXISTS {LOG_TABLE}; DROP TABLE IF EXISTS {STATE_TABLE}"
    ))
    .map_err(|e| failed(&shown, e))?;
    if options.dry_run {
        tx.rollback().map_err(|e| failed(&shown, e))?;
    } else {
        tx.commit().map_err(|e| failed(&shown, e))?;
    }
    Ok((has_state || has_log || !names.is_empty(), dropped))
}
