//! Looking again at the keys that changed last: whether Postgres holds their rows as they are.

use std::sync::Arc;

use sqlx::Connection as _;

use super::apply::{self, Scene};
use super::control::Held;
use super::read::{Batch, Wish};
use super::{Tail, record::Cursor};
use crate::backfill::unconditional::APPLY_SETTINGS;
use crate::error::Result;
use crate::store::sql;

/// Applied entries that stay in each log, to be looked at again behind the fence.
pub(super) const KEPT: i64 = 5_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Entries of the logs that were looked at again.
    pub changes: u64,
    /// Rows that would be written or deleted: they are not in Postgres as they are in the source.
    pub differing: u64,
}

impl Tail {
    /// Derives the rows of the newest `entries` of each log once more and compares their canonical
    /// bytes with those in Postgres, by applying them in a transaction that is rolled back.
    ///
    /// For a source that stands still: what was captured and is not applied yet differs.
    pub async fn compare_newest(&mut self, entries: u32) -> Result<Compared> {
        self.mend().await?;
        self.open_files().await?;
        let mut compared = Compared::default();
        for at in 0..self.files.len() {
            let source = self.files[at].source.relative.clone();
            let cursor = self.cursor(&source).await?;
            let mut from = (cursor.position - i64::from(entries)).max(0);
            while from < cursor.position {
                let wish = Wish {
                    cursor: Cursor { position: from, mark: None, ..cursor.clone() },
                    entries_max: self.options.entries_max,
                    bytes_max: self.options.bytes_max,
                    waiting: Vec::new(),
                    searches: Vec::new(),
                };
                let batch = self.read(at, wish).await?;
                if batch.changes == 0 {
                    break;
                }
                from = batch.position;
                compared.changes += batch.changes;
                compared.differing += self.differing(&source, &cursor, &batch).await?;
            }
        }
        Ok(compared)
    }

    async fn differing(&mut self, source: &str, cursor: &Cursor, batch: &Batch) -> Result<u64> {
        let opened = Arc::clone(&self.opened);
        let scene = Scene { opened: &opened, run_id: &self.run_id, source, cursor };
        let held = Held::default();
        let mut tx = self.conn.begin().await?;
        let settings = format!(
            "{APPLY_SETTINGS}; SET LOCAL \"toolkit.replay\" = 'on'; SET CONSTRAINTS ALL DEFERRED"
        );
        sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
        let mut works = apply::works(&scene, batch, &held);
        let done = apply::write(&mut tx, &mut works, true).await?;
        drop(works);
        tx.rollback().await?;
        Ok(done.rows + done.deleted)
    }
}
