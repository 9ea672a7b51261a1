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
    state: RwLock<State>,
}

enum State {
    Closed,
    Open(Box<EdgeShard>),
    /// Its collection was removed: nothing may be made in its folder again.
    Gone,
}

/// What became of work on a shard.
pub(super) enum Tried<T, W> {
    Done(Result<T>),
    /// The shard went before its turn came; the work was not begun.
    Gone(W),
}

impl Shard {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: RwLock::new(State::Closed) }
    }

    /// Reads or updates.
    pub(super) fn read<T, W>(&self, work: W) -> Tried<T, W>
    where
        W: FnOnce(&EdgeShard) -> OperationResult<T>,
    {
        let failed = |error| failure(&self.path, error);
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            match &*state {
                State::Open(shard) => return Tried::Done(work(shard).map_err(failed)),
                State::Gone => return Tried::Gone(work),
                State::Closed => {}
            }
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Closed = &*state {
            match self.load() {
                Ok(shard) => *state = State::Open(Box::new(shard)),
                Err(error) => return Tried::Done(Err(error)),
            }
        }
        match &*state {
            State::Open(shard) => Tried::Done(work(shard).map_err(failed)),
            State::Closed | State::Gone => Tried::Gone(work),
        }
    }

    /// Makes every write so far durable, and the log short; false: the shard is gone.
    pub(super) fn flush(&self) -> Result<bool> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Closed => return Ok(true),
            State::Gone => return Ok(false),
            State::Open(shard) => shard.flush(),
        }
        if closed_log_files(&self.path).len() > CLOSED_LOG_FILES_MAX {
            *state = State::Closed;
            *state = State::Open(Box::new(self.load()?));
        }
        Ok(true)
    }

    /// Flushes, and gives the files back for good.
    pub(super) fn give_up(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::Gone;
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
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let state = std::mem::replace(state, State::Gone);
        if self.path.is_dir() {
            drop(state);
        } else {
            std::mem::forget(state);
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
