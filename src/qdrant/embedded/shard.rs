//! One shard: opened on first use, flushed by one owner, its log kept short.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use qdrant_edge::{EdgeShard, OperationResult};

use super::convert;
use crate::error::{Error, ErrorKind, Result};
use crate::qdrant::schema::Schema;

/// Closed files of the log, 32 MiB each, that are too many. The engine never reads the log again
/// and never shortens it; only the number of its last operation must not fall.
const CLOSED_LOG_FILES_MAX: usize = 2;

/// A shard's place, and the shard while it is open. Reads and updates share it; flushing, which
/// panics if anything in it is locked, has it alone.
pub(super) struct Shard {
    path: PathBuf,
    open: RwLock<Option<EdgeShard>>,
}

impl Shard {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: RwLock::new(None) }
    }

    /// Reads or updates.
    pub(super) fn read<T>(&self, work: impl FnOnce(&EdgeShard) -> OperationResult<T>) -> Result<T> {
        let failed = |error| failure(&self.path, error);
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(shard) = &*open {
                return work(shard).map_err(failed);
            }
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let shard = match &mut *open {
            Some(shard) => shard,
            closed => closed.insert(self.load()?),
        };
        work(shard).map_err(failed)
    }

    /// Makes every write so far durable, and the log short.
    pub(super) fn flush(&self) -> Result<()> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = &*open {
            shard.flush();
            if closed_log_files(&self.path).len() > CLOSED_LOG_FILES_MAX {
                drop(open.take());
                *open = Some(self.load()?);
            }
        }
        Ok(())
    }

    /// Flushes and gives the files back.
    pub(super) fn close(&self) {
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn load(&self) -> Result<EdgeShard> {
        shorten_log(&self.path);
        EdgeShard::load(&self.path, None)
            .map_err(|error| failure(&self.path, error).advice(damaged(&self.path)))
    }
}

impl Drop for Shard {
    /// The engine flushes when it goes, and panics where it cannot: in a folder that was removed
    /// there is nothing to keep.
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if self.path.is_dir() {
            drop(open);
        } else {
            std::mem::forget(open);
        }
    }
}

/// What to do about files that cannot be read: everything but a carried-over vector is in Postgres.
pub(super) fn damaged(folder: &Path) -> String {
    format!(
        "if its files are damaged, move {} away: `toolkit outbox drain` then fills a new collection \
         from Postgres; vectors that were carried over from another collection are lost with it",
        folder.display()
    )
}

/// Makes a shard with its indexes, durable, and closes it.
pub(super) fn make(path: &Path, schema: &Schema) -> Result<()> {
    let made = EdgeShard::new(path, convert::config(schema)).and_then(|shard| {
        ensure_indexes(&shard, schema)?;
        shard.flush();
        Ok(())
    });
    made.map_err(|error| failure(path, error))
}

/// Makes the indexes that are missing.
pub(super) fn ensure_indexes(shard: &EdgeShard, schema: &Schema) -> OperationResult<()> {
    let found = convert::schema(shard).indexes;
    for (field, index) in &schema.indexes {
        if !found.contains_key(field) {
            shard.update(convert::create_index(field, *index)?)?;
        }
    }
    Ok(())
}

/// Closed files of the log, oldest first.
fn closed_log_files(shard: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(shard.join("wal")) else { return Vec::new() };
    let start = |entry: &fs::DirEntry| {
        entry.file_name().to_str()?.strip_prefix("closed-")?.parse::<u64>().ok()
    };
    let mut files: Vec<_> =
        entries.flatten().filter_map(|entry| Some((start(&entry)?, entry.path()))).collect();
    files.sort();
    files
}

/// Removes the closed files but the newest, which says how far operations are numbered.
fn shorten_log(shard: &Path) {
    let mut files = closed_log_files(shard);
    files.pop();
    for (_, file) in files {
        // What stays takes room, and goes the next time.
        if let Err(error) = fs::remove_file(&file) {
            tracing::warn!("{} cannot be removed: {error}", file.display());
        }
    }
}

/// What the engine refused, as an error of ours.
pub(super) fn failure(path: &Path, error: qdrant_edge::OperationError) -> Error {
    use qdrant_edge::OperationError as E;
    let kind = match &error {
        E::OutOfMemory { .. } => ErrorKind::StoreExhausted,
        E::Timeout { .. } | E::Cancelled { .. } => ErrorKind::StoreUnreachable,
        _ => ErrorKind::StoreFailed,
    };
    Error::new(kind, format!("embedded Qdrant at {}: {error}", path.display())).because(error)
}
