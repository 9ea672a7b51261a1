//! Which captured changes a verification has compared: those it began after. Its evidence says so,
//! for each file, and the cutover compares the others.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;

use super::log::{self, LogPosition};
use super::record;
use super::status::status;
use crate::error::Result;
use crate::pack::join_error;
use crate::source::SourceFile;

/// How far a file was captured at some moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The installation that the position belongs to.
    pub installation: String,
    /// The newest entry of its log.
    pub position: LogPosition,
}

/// How far each file of a pack is captured now.
pub async fn marks(conn: &mut PgConnection, pack: &str) -> Result<BTreeMap<String, Mark>> {
    let mut marks = BTreeMap::new();
    for file in status(conn, pack).await?.files {
        if file.installed != Some(true) {
            continue;
        }
        if let Ok(Some(cursor)) = record::cursor(conn, pack, &file.source).await {
            let mark = Mark { installation: cursor.installation, position: file.captured };
            marks.insert(file.source, mark);
        }
    }
    Ok(marks)
}

/// The last change of a file that the newest clean verification of the whole pack has compared;
/// None: none has compared this installation.
pub(super) async fn verified(
    conn: &mut PgConnection,
    pack: &str,
    source: &str,
    installation: &str,
) -> Result<Option<LogPosition>> {
    position(conn, include_str!("../sql/capture/verified.sql"), pack, source, installation).await
}

/// The entry whose successors may still have to be compared: as [`verified`]; before the first
/// clean verification, what the first one that was begun finds compared if it is.
pub(super) async fn needed_after(
    conn: &mut PgConnection,
    pack: &str,
    source: &str,
    installation: &str,
) -> Result<Option<LogPosition>> {
    if let Some(position) = verified(conn, pack, source, installation).await? {
        return Ok(Some(position));
    }
    let begun = include_str!("../sql/capture/verification_begun.sql");
    position(conn, begun, pack, source, installation).await
}

async fn position(
    conn: &mut PgConnection,
    query: &'static str,
    pack: &str,
    source: &str,
    installation: &str,
) -> Result<Option<LogPosition>> {
    let found: Option<Option<LogPosition>> = sqlx::query_scalar(query)
        .bind(pack)
        .bind(source)
        .bind(installation)
        .fetch_optional(conn)
        .await?;
    Ok(found.flatten())
}

/// What the newest clean verification left to be compared in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uncompared {
    /// The file.
    pub source: String,
    /// The last change that was compared; None: no verification has compared this installation.
    pub verified: Option<LogPosition>,
    /// The entry before the oldest one that the log still holds.
    pub forgotten: LogPosition,
    /// The newest change.
    pub captured: LogPosition,
}

impl Uncompared {
    /// The last entry that needs no comparison, as far as the log reaches back.
    #[must_use]
    pub fn from(&self) -> LogPosition {
        self.verified.unwrap_or(0).max(self.forgotten)
    }

    /// Whether the log holds every change after the verification.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.verified.is_some_and(|verified| verified >= self.forgotten)
    }

    /// What a comparison that begins here says nothing of, as a sentence; None: it says all.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        let Self { source, verified, forgotten, .. } = self;
        match verified {
            Some(verified) if verified >= forgotten => None,
            Some(verified) => Some(format!(
                "{source}: rows whose last change is one of the entries {} to {forgotten} of its \
                 log, which are gone",
                verified + 1
            )),
            None if *forgotten == 0 => Some(format!(
                "{source}: rows that have not changed since it is captured; no clean verification \
                 has compared them"
            )),
            None => Some(format!(
                "{source}: rows that have not changed since entry {forgotten} of its log; no clean \
                 verification has compared them"
            )),
        }
    }
}

/// What is left to be compared in each of these files; those without capture are left out.
pub async fn uncompared(
    conn: &mut PgConnection,
    pack: &str,
    files: &[SourceFile],
) -> Result<Vec<Uncompared>> {
    let mut all = Vec::new();
    for file in files {
        let Some(cursor) = record::cursor(conn, pack, &file.relative).await? else { continue };
        let path = file.path.clone();
        let ends = tokio::task::spawn_blocking(move || ends(&path)).await.map_err(join_error)??;
        let Some((forgotten, captured)) = ends else { continue };
        let verified = verified(conn, pack, &file.relative, &cursor.installation).await?;
        let source = file.relative.clone();
        all.push(Uncompared { source, verified, forgotten, captured });
    }
    Ok(all)
}

/// The entry before the oldest one of a log, and the newest. Blocking.
fn ends(path: &Path) -> Result<Option<(LogPosition, LogPosition)>> {
    let Some(newest) = log::position(path)? else { return Ok(None) };
    let oldest = log::oldest(path)?;
    Ok(Some((oldest.map_or(0, |oldest| (oldest - 1).max(0)), newest)))
}
