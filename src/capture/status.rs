//! How far each captured file is applied.

use std::path::PathBuf;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::log;
use super::tail::Holder;
use crate::error::Result;
use crate::pack::join_error;

/// How the dual-write of a pack stands.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The pack.
    pub pack: String,
    /// Who applies its changes at this moment.
    pub tail: Option<Holder>,
    /// Its captured files.
    pub files: Vec<FileStatus>,
    /// Captured changes that wait for others.
    pub held: i64,
    /// Open rejects of the pack.
    pub open_rejects: i64,
    /// Files of the pack that were rescanned, and those with a problem.
    pub documents: i64,
    /// Documents that vanished or could not be applied.
    pub document_problems: Vec<(String, String)>,
}

/// One captured file.
#[derive(Debug, Clone, Serialize)]
pub struct FileStatus {
    /// Its name in checkpoints.
    pub source: String,
    /// Where it was when capture was enabled.
    pub path: Option<PathBuf>,
    /// Whether capture is in the file now; None: the file cannot be read from here.
    pub installed: Option<bool>,
    /// `capture`, `fenced` or `replay`.
    pub mode: Option<&'static str>,
    /// The newest entry of its log.
    pub captured: i64,
    /// The last entry that is applied.
    pub applied: i64,
    /// Entries that are not applied.
    pub lag_rows: i64,
    /// Age of the oldest of them in seconds, as far as it is known.
    pub lag_seconds: f64,
    /// Entries applied since capture was enabled.
    pub changes: i64,
    /// Rows written and deleted for them.
    pub rows_applied: i64,
    /// Why nothing is applied until somebody acts.
    pub halted: Option<String>,
    /// Changes that may have been missed.
    pub gap: Option<String>,
    /// What went wrong last, if nothing went right since.
    pub last_error: Option<String>,
    /// Seconds since the tail last looked at it.
    pub seen_seconds_ago: Option<f64>,
}

impl Status {
    /// Whether somebody has to act.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        !self.document_problems.is_empty()
            || self.files.iter().any(|file| {
                file.halted.is_some() || file.gap.is_some() || file.installed == Some(false)
            })
    }
}

/// Reads how the dual-write of a pack stands: from Postgres, and from the files where they can be
/// read.
pub async fn status(conn: &mut PgConnection, pack: &str) -> Result<Status> {
    let rows = sqlx::query(include_str!("../sql/capture/status.sql"))
        .bind(pack)
        .fetch_all(&mut *conn)
        .await?;
    let mut files = Vec::new();
    for row in rows {
        let path: Option<String> = row.try_get("path")?;
        let mut file = FileStatus {
            source: row.try_get("source")?,
            path: path.map(PathBuf::from),
            installed: None,
            mode: None,
            captured: row.try_get("captured")?,
            applied: row.try_get("position")?,
            lag_rows: 0,
            lag_seconds: row.try_get("waiting_seconds")?,
            changes: row.try_get("changes")?,
            rows_applied: row.try_get("rows_applied")?,
            halted: row.try_get("halted")?,
            gap: row.try_get("gap")?,
            last_error: row.try_get("last_error")?,
            seen_seconds_ago: row.try_get("seen_seconds_ago")?,
        };
        if let Some(path) = file.path.clone() {
            let found = tokio::task::spawn_blocking(move || {
                let state = log::state(&path);
                let installed = state.map(|state| (state, log::position(&path)));
                let oldest = log::oldest_after(&path, file.applied);
                (installed, oldest, file)
            })
            .await
            .map_err(join_error)?;
            let (installed, oldest, moved) = found;
            file = moved;
            if let Ok((state, position)) = installed {
                file.installed = Some(state.is_some());
                file.mode = state.map(|state| match state.mode {
                    0 => "capture",
                    1 => "fenced",
                    _ => "replay",
                });
                if let Ok(Some(position)) = position {
                    file.captured = position;
                    file.lag_seconds = oldest.ok().flatten().unwrap_or(0.0);
                }
            }
        }
        file.lag_rows = (file.captured - file.applied).max(0);
        files.push(file);
    }
    let row = sqlx::query(include_str!("../sql/capture/status_totals.sql"))
        .bind(pack)
        .fetch_one(&mut *conn)
        .await?;
    let problems: Vec<(String, String)> = sqlx::query_as(
        "SELECT source, coalesce(problem, 'it vanished; its rows stay until it is back or \
         acknowledged') FROM toolkit.capture_file WHERE pack = $1 \
         AND (problem IS NOT NULL OR vanished_at IS NOT NULL) ORDER BY source",
    )
    .bind(pack)
    .fetch_all(&mut *conn)
    .await?;
    Ok(Status {
        pack: pack.to_owned(),
        tail: super::tail::holder(conn, pack).await?,
        files,
        held: row.try_get("held")?,
        open_rejects: row.try_get("open_rejects")?,
        documents: row.try_get("documents")?,
        document_problems: problems,
    })
}
