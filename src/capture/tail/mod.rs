//! The tail: what the capture logs name, as it is now, into Postgres.

mod apply;
mod beside;
mod compare;
mod conclude;
mod control;
mod file;
mod making;
mod read;
mod trim;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use self::file::LiveFile;
use self::read::{Batch, Search, Wish};
use super::files::Memory;
use super::log::LogPosition;
use super::record::{self, Cursor};
use super::verified;
use super::wanted::captured_files;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, Pack, join_error};
use crate::source::SourceFile;
use crate::store::{Connector, Postgres};

pub use compare::{Compared, Comparison};
pub use control::Holder;
pub(super) use control::holder;

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct TailOptions {
    /// Entries of the log in one batch at most.
    pub entries_max: usize,
    /// Encoded bytes of a batch at most, but for the rows of its last entry.
    pub bytes_max: usize,
    /// Whether another `dual-write run` of the pack is refused; steps of several tails are safe
    /// beside each other, and in each other's way.
    pub exclusive: bool,
    /// Whether applied entries are deleted from the logs.
    pub trims: bool,
}

impl Default for TailOptions {
    fn default() -> Self {
        Self { entries_max: 2_000, bytes_max: 8 << 20, exclusive: false, trims: true }
    }
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Applied {
    /// The file it was about; empty: no file had anything new.
    pub source: String,
    /// Entries of its log that were covered.
    pub changes: u64,
    /// Rows of the target that were written.
    pub rows: u64,
    /// Rows of the target that were deleted.
    pub deleted: u64,
    /// Records and rows that were refused.
    pub rejects: u64,
    /// Rows that wait for others.
    pub held: u64,
    /// The last entry that is applied.
    pub position: LogPosition,
    /// The newest entry that was seen.
    pub last: LogPosition,
    /// Entries of all files that were seen and are not applied.
    pub lag_rows: i64,
    /// Age of the oldest entry of this file that is not applied, by this machine's clock.
    pub lag_seconds: f64,
}

/// Follows the captured changes of one pack.
#[derive(Debug)]
pub struct Tail {
    opened: Arc<OpenedPack>,
    connector: Connector,
    conn: PgConnection,
    options: TailOptions,
    run_id: String,
    sources: Vec<SourceFile>,
    /// Open files; empty while a blocking read has them.
    files: Vec<LiveFile>,
    /// The file looked at first in the next step.
    next: usize,
    /// What was seen of each file: applied and newest entry.
    seen: HashMap<String, (LogPosition, LogPosition)>,
    trimmed: Option<Instant>,
    memory: Memory,
}

/// How often applied entries are deleted from the logs.
const TRIM_EVERY: Duration = Duration::from_secs(2);

impl Tail {
    /// Opens the pack's captured files. Errors: capture is not enabled, or `exclusive` and another
    /// tail of the pack is at work.
    pub async fn open(
        settings: &Settings,
        postgres: &Postgres,
        pack: Pack,
        roots: &[std::path::PathBuf],
        options: TailOptions,
    ) -> Result<Self> {
        let opened = crate::pack::open_as_recorded(settings, postgres, pack, roots).await?;
        Self::over(postgres, Arc::new(opened), options).await
    }

    /// As [`Tail::open`], with a pack that is open already.
    pub async fn over(
        postgres: &Postgres,
        opened: Arc<OpenedPack>,
        options: TailOptions,
    ) -> Result<Self> {
        let connector = postgres.connector();
        let mut conn = connector.dedicated().await?;
        if options.exclusive {
            control::require_alone(&mut conn, &opened.plan.name).await?;
        }
        let run_id = control::begin(&mut conn, &opened, options.exclusive).await?;
        let sources = captured_files(&opened);
        Ok(Self {
            opened,
            connector,
            conn,
            options,
            run_id,
            sources,
            files: Vec::new(),
            next: 0,
            seen: HashMap::new(),
            trimmed: None,
            memory: Memory::default(),
        })
    }

    /// The pack.
    #[must_use]
    pub fn pack(&self) -> &OpenedPack {
        &self.opened
    }

    /// Names of the captured files.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|file| file.relative.as_str())
    }

    /// Applies one batch of one file in one transaction; `source` of the answer is empty where
    /// nothing is new. Safe to be dropped or killed anywhere, and beside other tails.
    ///
    /// Err with [`ErrorKind::SourceChanged`]: the file is halted, and its cursor's row says why.
    pub async fn step(&mut self) -> Result<Applied> {
        self.mend().await?;
        self.open_files().await?;
        for turn in 0..self.files.len() {
            let at = (self.next + turn) % self.files.len();
            // Another tail may be quicker; what it did is seen the next time.
            let mut tries = 0;
            let applied = loop {
                tries += 1;
                match self.step_of(at, &[]).await? {
                    Some(applied) => break applied,
                    None if tries < 100 => {}
                    None => {
                        return Err(Error::new(
                            ErrorKind::StoreConflict,
                            "another tail of the pack is always quicker",
                        ));
                    }
                }
            };
            if applied.changes > 0 || applied.rows > 0 || applied.deleted > 0 {
                self.next = (at + 1) % self.files.len();
                self.trim(false).await;
                return Ok(applied);
            }
        }
        self.trim(false).await;
        Ok(Applied::default())
    }

    /// Applies until nothing is left, or, with `until`, until that entry of `source` is applied.
    pub async fn catch_up(
        &mut self,
        until: Option<(&str, LogPosition)>,
        stop: &Stop,
    ) -> Result<Vec<Applied>> {
        let mut all = Vec::new();
        loop {
            stop.check()?;
            if let Some((source, position)) = until
                && self.position_of(source).await? >= position
            {
                return Ok(all);
            }
            let applied = self.step().await?;
            let is_done = applied.source.is_empty();
            if is_done && until.is_none() {
                return Ok(all);
            }
            if is_done {
                let (source, position) = until.unwrap_or_default();
                if self.position_of(source).await? >= position {
                    return Ok(all);
                }
                return Err(Error::new(
                    ErrorKind::SourceChanged,
                    format!("{source}: its log ends before entry {position}"),
                ));
            }
            all.push(applied);
        }
    }

    /// The last entry of a file that is applied.
    pub async fn position_of(&mut self, source: &str) -> Result<LogPosition> {
        let cursor = record::cursor(&mut self.conn, &self.opened.plan.name, source).await?;
        Ok(cursor.map_or(0, |cursor| cursor.position))
    }

    /// Ends the tail's run. Dropping it does no harm: the run is then ended by the next.
    pub async fn close(mut self) -> Result<()> {
        self.trim(true).await;
        control::end(&mut self.conn, &self.run_id).await?;
        self.conn.close().await?;
        Ok(())
    }

    /// Has the next step ask whether the connection is still there.
    pub(super) fn forget_connection(&mut self) {
        self.files.clear();
    }

    /// A new connection where the old one is gone.
    async fn mend(&mut self) -> Result<()> {
        if self.conn.ping().await.is_ok() {
            return Ok(());
        }
        self.conn = self.connector.dedicated().await?;
        if self.options.exclusive {
            control::require_alone(&mut self.conn, &self.opened.plan.name).await?;
        }
        Ok(())
    }

    async fn open_files(&mut self) -> Result<()> {
        if self.files.len() == self.sources.len() && !self.files.iter().any(LiveFile::was_replaced)
        {
            return Ok(());
        }
        self.files.clear();
        let mut found = Vec::new();
        for file in self.sources.clone() {
            let cursor = self.cursor(&file.relative).await?;
            let opened = Arc::clone(&self.opened);
            let live =
                tokio::task::spawn_blocking(move || LiveFile::open(&opened, &file, &cursor.tables))
                    .await
                    .map_err(join_error)??;
            found.push(live);
        }
        self.files = found;
        Ok(())
    }

    async fn cursor(&mut self, source: &str) -> Result<Cursor> {
        let pack = &self.opened.plan.name;
        record::cursor(&mut self.conn, pack, source).await?.ok_or_else(|| {
            Error::new(ErrorKind::SourceMissing, format!("{source}: capture is not enabled"))
                .advice(format!("`toolkit dual-write enable --pack {pack}` comes first"))
        })
    }

    /// None: another tail applied these changes in between.
    async fn step_of(&mut self, at: usize, searches: &[Search]) -> Result<Option<Applied>> {
        let source = self.files[at].source.relative.clone();
        let pack = self.opened.plan.name.clone();
        let cursor = self.cursor(&source).await?;
        let names: Vec<&str> = siblings(&self.files, at)
            .filter(|place| *place != at)
            .map(|place| self.files[place].source.relative.as_str())
            .collect();
        let beside = if names.is_empty() {
            Vec::new()
        } else {
            record::positions(&mut self.conn, &pack, &names).await?
        };
        let mut wish = Wish {
            cursor: cursor.clone(),
            // A search stands alone.
            entries_max: if searches.is_empty() { self.options.entries_max } else { 0 },
            bytes_max: self.options.bytes_max,
            waiting: Vec::new(),
            searches: searches.to_vec(),
        };
        let mut held = control::held(&mut self.conn, &pack, &source).await?;
        wish.waiting.clone_from(&held.rows);
        let mut batch = match self.read(at, wish).await {
            Ok(batch) => batch,
            Err(error) => {
                if error.kind() == ErrorKind::SourceChanged {
                    control::halt(&mut self.conn, &pack, &source, error.detail()).await?;
                }
                return Err(error);
            }
        };
        self.seen.insert(source.clone(), (batch.position, batch.last));
        // What nothing helped so far is tried again once something has changed.
        held.keep_due(batch.changes > 0);
        read::include(&self.opened, &mut batch, held.deletes.iter().map(|held| &held.stream));
        let is_idle = batch.changes == 0 && held.is_empty() && searches.is_empty();
        let lag_rows = self.seen.values().map(|(applied, last)| last - applied).sum();
        if is_idle {
            control::seen(&mut self.conn, &pack, &source, &batch).await?;
            return Ok(Some(Applied { lag_rows, ..Applied::default() }));
        }
        let lag_seconds = lag_seconds(&batch);
        let (position, last, changes) = (batch.position, batch.last, batch.changes);
        let scene = apply::Scene {
            opened: &self.opened,
            run_id: &self.run_id,
            source: &source,
            cursor: &cursor,
            beside: &beside,
        };
        let done = apply::apply(&mut self.conn, &scene, &batch, &held).await?;
        if done.is_stale {
            return Ok(None);
        }
        Ok(Some(Applied {
            source,
            changes,
            rows: done.rows,
            deleted: done.deleted,
            rejects: done.rejects,
            held: done.held,
            position,
            last,
            lag_rows,
            lag_seconds,
        }))
    }

    /// Reads a batch on a thread that may wait. The files are lent to it.
    async fn read(&mut self, at: usize, wish: Wish) -> Result<Batch> {
        let opened = Arc::clone(&self.opened);
        let mut files = std::mem::take(&mut self.files);
        let (files, batch) = tokio::task::spawn_blocking(move || {
            let batch = read::read(&opened, &mut files, at, &wish);
            (files, batch)
        })
        .await
        .map_err(join_error)?;
        self.files = files;
        batch
    }

    /// Deletes applied entries from the logs, now and then; what cannot be deleted now can later.
    async fn trim(&mut self, is_last: bool) {
        if !self.options.trims
            || (!is_last && self.trimmed.is_some_and(|last| last.elapsed() < TRIM_EVERY))
        {
            return;
        }
        self.trimmed = Some(Instant::now());
        let pack = self.opened.plan.name.clone();
        if !matches!(control::may_trim(&mut self.conn, &pack).await, Ok(true)) {
            return;
        }
        for file in self.sources.clone() {
            let Ok(cursor) = self.cursor(&file.relative).await else { return };
            let (source, installation) = (&file.relative, &cursor.installation);
            let needed = verified::needed_after(&mut self.conn, &pack, source, installation).await;
            let Ok(needed) = needed else { return };
            let kept_from = compare::kept_from(cursor.position, needed);
            let path = file.path.clone();
            let trimmed = tokio::task::spawn_blocking(move || trim::trim(&path, kept_from)).await;
            match trimmed {
                Ok(Ok(rows)) if rows > 0 => tracing::debug!(rows, "log entries deleted"),
                Ok(Err(error)) => tracing::debug!("log of {} not trimmed: {error}", file.relative),
                _ => {}
            }
        }
    }
}

/// The files that have a stream in common with this one, itself among them.
fn siblings(files: &[LiveFile], at: usize) -> impl Iterator<Item = usize> {
    (0..files.len()).filter(move |other| *other == at || files[at].shares_stream(&files[*other]))
}

fn lag_seconds(batch: &Batch) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0.0, |since| since.as_secs_f64());
    batch.waiting_since.map_or(0.0, |since| (now - since).max(0.0))
}
