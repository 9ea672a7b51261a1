//! What the cutover asks of the engines beside it: the tail, the files' rescan, reverse capture,
//! the sequences.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::facts::{Reading, readings};
use super::files::Positions;
use super::scene::Scene;
use crate::capture::files::RescanOptions;
use crate::capture::tail::{Comparison, Tail, TailOptions};
use crate::capture::verified::Uncompared;
use crate::capture::{self, reverse};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;

/// The engines of one pack. The tail's steps are safe beside those of a running `dual-write run`.
pub(super) struct Engines<'a> {
    scene: &'a Scene<'a>,
    opened: Arc<OpenedPack>,
    tail: Tail,
    /// What is compared already of the changes since the last verification.
    comparison: Comparison,
}

impl<'a> Engines<'a> {
    /// Opens what they need.
    pub(super) async fn open(scene: &'a Scene<'a>, opened: Arc<OpenedPack>) -> Result<Self> {
        let options = TailOptions { trims: false, ..TailOptions::default() };
        let tail = Tail::over(scene.postgres, Arc::clone(&opened), options).await?;
        Ok(Self { scene, opened, tail, comparison: Comparison::default() })
    }

    async fn lag(&self, conn: &mut PgConnection) -> Result<i64> {
        let files = capture::captured_files(&self.opened);
        let readings = readings(conn, self.scene.name(), &files).await?;
        Ok(readings.iter().map(Reading::lag).sum())
    }

    /// Applies a batch of each file; returns how many changes are left.
    pub(super) async fn catch_up(&mut self, conn: &mut PgConnection) -> Result<i64> {
        for _ in 0..self.tail.sources().count() {
            self.tail.step().await?;
        }
        self.lag(conn).await
    }

    /// Applies every file's log to its very end, where its fence stands.
    pub(super) async fn drain(&mut self, positions: &Positions) -> Result<()> {
        for (source, position) in positions {
            self.tail.catch_up(Some((source, *position)), self.scene.stop).await?;
        }
        Ok(())
    }

    /// Installs reverse capture; its triggers say nothing of what the toolkit itself writes.
    pub(super) async fn prepare_reverse(&mut self, conn: &mut PgConnection) -> Result<()> {
        reverse::enable(conn, &self.opened.plan).await.map(drop)
    }

    /// Reads every JSON and CSV file and applies those that are not what they were, so that behind
    /// the fence only what was written in between is left.
    pub(super) async fn read_files(&mut self) -> Result<()> {
        let options = RescanOptions { thorough: true, ..RescanOptions::default() };
        self.tail.rescan(options, self.scene.stop).await.map(drop)
    }

    /// Applies JSON and CSV files that are not what they were; `is_last`: every one has to be
    /// whole.
    pub(super) async fn rescan(&mut self, conn: &mut PgConnection, is_last: bool) -> Result<()> {
        let options = RescanOptions { is_last, ..RescanOptions::default() };
        let scan = self.tail.rescan(options, self.scene.stop).await?;
        if scan.is_complete() || !is_last {
            return Ok(());
        }
        let mut named = Vec::new();
        for (file, why) in scan.unfinished.iter().chain(&scan.problems) {
            if !self.is_acknowledged(conn, file).await? {
                named.push(format!("{file}: {why}"));
            }
        }
        if named.is_empty() {
            return Ok(());
        }
        Err(not_now(
            format!("files are not in Postgres as they are: {}", named.join("; ")),
            "wait until whoever writes them is done, or mend them",
        ))
    }

    /// Whether a document is one that somebody has looked at and given up.
    async fn is_acknowledged(&self, conn: &mut PgConnection, file: &str) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "SELECT coalesce(bool_and(state = 'acknowledged'), false) FROM toolkit.reject \
             WHERE pack = $1 AND source = $2 AND state IN ('open', 'acknowledged')",
        )
        .bind(self.scene.name())
        .bind(file)
        .fetch_one(conn)
        .await?)
    }

    /// Compares what changed since the last clean verification, while the application goes on.
    pub(super) async fn compare_ahead(&mut self) -> Result<u64> {
        self.comparison = self.tail.begin_comparison().await?;
        self.tail.compare_ahead(&mut self.comparison, self.scene.stop).await?;
        Ok(self.comparison.ahead)
    }

    /// What no comparison of this cutover says anything of; nothing, unless it is forced.
    pub(super) fn not_compared(&self) -> Vec<String> {
        self.comparison.files.iter().filter_map(Uncompared::unknown).collect()
    }

    /// Compares what is left of it, behind the fence; how many changes they were.
    pub(super) async fn compare_rest(&mut self) -> Result<u64> {
        let compared = self.tail.compare_rest(&self.comparison).await?;
        if compared.differing > 0 {
            return Err(compared.differs());
        }
        Ok(compared.changes)
    }

    /// Sets sequences past the highest keys.
    pub(super) async fn set_sequences(
        &mut self,
        conn: &mut PgConnection,
    ) -> Result<BTreeMap<String, i64>> {
        crate::backfill::sequences_past_keys(conn, &self.opened.plan).await
    }

    /// Ends them.
    pub(super) async fn close(self) {
        if let Err(error) = self.tail.close().await {
            tracing::debug!(%error, "the tail's run is ended by the next");
        }
    }
}

/// The cutover or rollback is not possible as things are.
pub(super) fn not_now(detail: impl Into<String>, advice: impl Into<String>) -> Error {
    Error::new(ErrorKind::Busy, detail).advice(advice)
}
