//! The captured `SQLite` files of a pack as Postgres knows them, and their fences.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::fault;
use crate::capture::fence::{self, FenceState};
use crate::error::Result;
use crate::pack::join_error;

/// A captured file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CapturedFile {
    /// As checkpoints name it.
    pub(super) source: String,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// Every file of the pack that is captured.
pub(super) async fn captured(conn: &mut PgConnection, pack: &str) -> Result<Vec<CapturedFile>> {
    let rows = sqlx::query(
        "SELECT source, path FROM toolkit.capture_cursor \
         WHERE pack = $1 AND installation IS NOT NULL AND path IS NOT NULL ORDER BY source",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let path: String = row.try_get("path")?;
            Ok(CapturedFile { source: row.try_get("source")?, path: path.into() })
        })
        .collect()
}

/// The final position of each file's log, once all are fenced.
pub(super) type Positions = Vec<(String, i64)>;

/// Raises every fence, one file after the other, by `deadline`.
pub(super) async fn raise_all(files: &[CapturedFile], deadline: Instant) -> Result<Positions> {
    let mut positions = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let path = file.path.clone();
        let patience =
            deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let raised = tokio::task::spawn_blocking(move || fence::raise_within(&path, patience));
        let fenced = raised.await.map_err(join_error)??;
        positions.push((file.source.clone(), fenced.position));
        if number == 0 {
            fault::point("cutover.half_fenced")?;
        }
    }
    Ok(positions)
}

/// Lifts every fence that stands; the files whose fence stood. A file that is gone has none.
pub(super) async fn lift_all(files: &[CapturedFile]) -> Result<Vec<String>> {
    let mut lifted = Vec::new();
    for file in files {
        let path = file.path.clone();
        let lifting = move || {
            let stood = path.exists() && fence::state(&path)? == FenceState::Raised;
            if stood {
                fence::lift(&path)?;
            }
            Ok(stood)
        };
        let stood: Result<bool> = tokio::task::spawn_blocking(lifting).await.map_err(join_error)?;
        if stood? {
            lifted.push(file.source.clone());
        }
    }
    Ok(lifted)
}

/// The files whose captured tables still take writes.
pub(super) async fn unfenced(files: &[CapturedFile]) -> Result<Vec<CapturedFile>> {
    let files = files.to_vec();
    let looking = move || {
        let mut open = Vec::new();
        for file in files {
            if file.path.exists() && fence::state(&file.path)? == FenceState::Open {
                open.push(file);
            }
        }
        Ok(open)
    };
    tokio::task::spawn_blocking(looking).await.map_err(join_error)?
}
