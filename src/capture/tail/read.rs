//! Reading a batch of the log, and the rows it speaks of, in one read transaction. Blocking.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file::{LiveFile, LiveStream, mark_text};
use super::making::Making;
use crate::backfill::chunk::{Chunk, OutputRows};
use crate::canonical::Digest;
use crate::capture::LOG_TABLE;
use crate::capture::log::{self, LogPosition, failed};
use crate::capture::record::Cursor;
use crate::derive::{Derived, Deriver};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::source::{KeyPart, Position, Stored};

/// How long the read stays open: without a write-ahead log the application's writes wait for it.
const READ_MAX: Duration = Duration::from_millis(300);

/// Rows of one file that are known by their identity: a row that waits for others.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) stream: String,
    pub(super) identity: Position,
    /// Nothing has helped it so far; it is looked at again only beside changes.
    pub(super) is_judged: bool,
}

/// What is asked of a file.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) cursor: Cursor,
    pub(super) entries_max: usize,
    pub(super) bytes_max: usize,
    /// Rows to be looked at beside those of the log.
    pub(super) waiting: Vec<Waiting>,
    /// Rows to be looked at because a document beside them changed.
    pub(super) searches: Vec<Search>,
}

/// Rows of a stream, by values of its source columns.
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) stream: usize,
    pub(super) names: Vec<String>,
    pub(super) values: Vec<Stored>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The last entry that is covered.
    pub(super) position: LogPosition,
    /// When it was written.
    pub(super) mark: Option<String>,
    /// Entries covered.
    pub(super) changes: u64,
    /// The newest entry there is.
    pub(super) last: LogPosition,
    /// When the oldest entry that is not covered was written, in seconds of the Unix epoch.
    pub(super) waiting_since: Option<f64>,
    /// By stream.
    pub(super) streams: Vec<StreamBatch>,
}

/// What a batch says of one stream.
#[derive(Debug)]
pub(super) struct StreamBatch {
    /// Position of the stream.
    pub(super) stream: usize,
    /// The rows that are there now.
    pub(super) chunk: Chunk,
    /// Identities of the chunk's records, in their order, with their own file.
    pub(super) identities: Vec<(String, Position)>,
    /// Keys that rows had or have, by output and digest.
    pub(super) keys: HashMap<(usize, Digest), Vec<u8>>,
    /// Every record that was looked at, there or not: file and place in it.
    pub(super) places: Vec<(String, String)>,
}

impl StreamBatch {
    pub(super) fn new(opened: &OpenedPack, stream: usize) -> Self {
        let outputs = &opened.plan.streams[stream].outputs;
        let outputs = outputs.iter().map(|_| OutputRows::default()).collect();
        Self {
            stream,
            chunk: Chunk { outputs, ..Chunk::default() },
            identities: Vec::new(),
            keys: HashMap::new(),
            places: Vec::new(),
        }
    }
}

/// Reads a batch of file `at`. Rows of one key may stand in several files: `files` are all of them.
///
/// Err with [`ErrorKind::SourceChanged`]: halted.
pub(super) fn read(
    opened: &Arc<OpenedPack>,
    files: &mut [LiveFile],
    at: usize,
    wish: &Wish,
) -> Result<Batch> {
    in_transactions(files, &[at], |files| read_in_transaction(opened, files, at, wish))
}

/// What several files have pending, and what else was asked of one of them.
#[derive(Debug)]
pub(super) enum Together {
    /// All that is pending, in the order asked for, and the rest.
    Whole(Vec<Batch>, Batch),
    /// More is pending in this file than may be read at once.
    Behind(usize),
}

/// As [`read`], of everything that is pending in some files, and after it of `past` of file `at`,
/// which is one of them: each file is seen as it was at one moment.
pub(super) fn read_together(
    opened: &Arc<OpenedPack>,
    files: &mut [LiveFile],
    pending: &[(usize, Wish)],
    at: usize,
    past: &Wish,
) -> Result<Together> {
    let places: Vec<usize> = pending.iter().map(|(place, _)| *place).collect();
    in_transactions(files, &places, |files| {
        let started = Instant::now();
        let mut batches: Vec<Batch> = Vec::with_capacity(pending.len());
        for (place, wish) in pending {
            let busy = batches.iter().position(|batch| batch.changes > 0);
            if let Some(busy) = busy.filter(|_| started.elapsed() > READ_MAX) {
                return Ok(Together::Behind(pending[busy].0));
            }
            let batch = read_in_transaction(opened, files, *place, wish)?;
            if batch.position < batch.last {
                return Ok(Together::Behind(*place));
            }
            batches.push(batch);
        }
        Ok(Together::Whole(batches, read_in_transaction(opened, files, at, past)?))
    })
}

fn in_transactions<T>(
    files: &mut [LiveFile],
    places: &[usize],
    reading: impl FnOnce(&mut [LiveFile]) -> Result<T>,
) -> Result<T> {
    let batch = |files: &[LiveFile], place: usize, sql: &str| {
        let connection = files[place].database.connection();
        connection.execute_batch(sql).map_err(|e| failed(&files[place].name(), e))
    };
    let mut done = Ok(());
    let mut begun = 0;
    for place in places {
        done = batch(files, *place, "BEGIN");
        if done.is_err() {
            break;
        }
        begun += 1;
    }
    let found = match done {
        Ok(()) => reading(files),
        Err(error) => Err(error),
    };
    // A read transaction that cannot be ended is gone with its error.
    let mut ended = Ok(());
    for place in &places[..begun] {
        ended = ended.and(batch(files, *place, "COMMIT"));
    }
    let found = found?;
    ended.map(|()| found)
}

fn read_in_transaction(
    opened: &Arc<OpenedPack>,
    files: &mut [LiveFile],
    at: usize,
    wish: &Wish,
) -> Result<Batch> {
    let name = files[at].name();
    let mut halt = files[at].halt(&opened.plan.name, &wish.cursor)?;
    let mut last = 0;
    if halt.is_none() {
        last = log::last_position(files[at].database.connection(), &name)?;
        halt = files[at].restored(&wish.cursor, last)?;
    }
    if let Some(halt) = halt {
        return Err(halted(&files[at].source.relative, &halt));
    }
    let mut reading = Reading::new(opened, files, at);
    let has_changed = last > wish.cursor.position;
    for waiting in wish.waiting.iter().filter(|row| has_changed || !row.is_judged) {
        reading.look_at(waiting)?;
    }
    for search in &wish.searches {
        reading.search(search)?;
    }
    let mut batch = Batch { position: wish.cursor.position, last, ..Batch::default() };
    batch.mark.clone_from(&wish.cursor.mark);
    if last > wish.cursor.position {
        entries(&mut reading, &name, wish, &mut batch)?;
    }
    batch.streams = reading.finish();
    Ok(batch)
}

/// Gives the batch a part for each of these streams.
pub(super) fn include<'s>(
    opened: &OpenedPack,
    batch: &mut Batch,
    streams: impl Iterator<Item = &'s String>,
) {
    for name in streams {
        let Some(stream) = opened.plan.stream_index(name) else { continue };
        if !batch.streams.iter().any(|known| known.stream == stream) {
            batch.streams.push(StreamBatch::new(opened, stream));
        }
    }
    batch.streams.sort_by_key(|part| part.stream);
}

/// A file whose changes must not be applied.
pub(super) fn halted(source: &str, why: &str) -> Error {
    let advice = if why.contains("older copy") || why.contains("another one") {
        "what the file held in between is gone or not captured. If it is the file you want: \
         `toolkit dual-write disable --force` and `enable`, `toolkit backfill`, then \
         `toolkit verify-parity` and `toolkit repair` for rows that are only in PostgreSQL; \
         otherwise put the newer file back"
    } else {
        "`toolkit dual-write enable` installs capture again; changes may have been missed, so \
         run `toolkit backfill` and `toolkit verify-parity` afterwards, and `toolkit repair` for \
         rows that were deleted meanwhile"
    };
    Error::new(ErrorKind::SourceChanged, format!("{source}: halted: {why}")).advice(advice)
}

/// Goes through the log until the batch is full.
fn entries(reading: &mut Reading<'_>, name: &str, wish: &Wish, batch: &mut Batch) -> Result<()> {
    let width = wish.cursor.tables.iter().map(|table| table.values.len()).max().unwrap_or(0);
    let columns: Vec<String> = ["o", "n"]
        .iter()
        .flat_map(|letter| (1..=width).map(move |n| format!("{letter}{n}")))
        .collect();
    let sql = format!(
        "SELECT seq, stream_table, op, at, {} FROM {LOG_TABLE} WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        columns.join(", ")
    );
    let limit = i64::try_from(wish.entries_max + 1).unwrap_or(i64::MAX);
    let files = &reading.files[reading.at];
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Entry> {
        let values = |first: usize| -> rusqlite::Result<Vec<Stored>> {
            (first..first + width).map(|at| row.get(at)).collect()
        };
        Ok(Entry {
            seq: row.get(0)?,
            table: row.get(1)?,
            op: row.get(2)?,
            at: row.get(3)?,
            old: values(4)?,
            new: values(4 + width)?,
        })
    };
    let mut statement =
        files.database.connection().prepare_cached(&sql).map_err(|e| failed(name, e))?;
    let found: Vec<Entry> = statement
        .query_map([wish.cursor.position, limit], read)
        .and_then(Iterator::collect)
        .map_err(|e| failed(name, e))?;
    drop(statement);
    let started = Instant::now();
    for entry in found {
        let is_full = batch.changes >= wish.entries_max as u64
            || reading.bytes() >= wish.bytes_max
            || (batch.changes > 0 && started.elapsed() > READ_MAX);
        if is_full {
            // Julian days to seconds of the Unix epoch.
            batch.waiting_since = Some((entry.at - 2_440_587.5) * 86_400.0);
            break;
        }
        reading.entry(&entry)?;
        batch.position = entry.seq;
        batch.mark = Some(mark_text(entry.at));
        batch.changes += 1;
    }
    Ok(())
}

/// An entry of the log.
struct Entry {
    seq: LogPosition,
    table: i64,
    op: String,
    at: f64,
    old: Vec<Stored>,
    new: Vec<Stored>,
}

/// A batch in the making.
struct Reading<'a> {
    opened: &'a OpenedPack,
    files: &'a [LiveFile],
    at: usize,
    streams: BTreeMap<usize, Making<'a>>,
}

impl<'a> Reading<'a> {
    fn new(opened: &'a OpenedPack, files: &'a [LiveFile], at: usize) -> Self {
        Self { opened, files, at, streams: BTreeMap::new() }
    }

    fn bytes(&self) -> usize {
        self.streams.values().map(|making| making.batch.chunk.bytes).sum()
    }

    fn making(&mut self, stream: usize) -> &mut Making<'a> {
        let opened = self.opened;
        self.streams.entry(stream).or_insert_with(|| {
            let plan = &opened.plan.streams[stream];
            Making {
                deriver: Deriver::new(plan, Arc::clone(&opened.redactor)),
                derived: Derived::default(),
                batch: StreamBatch::new(opened, stream),
                seen: HashSet::new(),
                searched: HashSet::new(),
                places: HashSet::new(),
            }
        })
    }

    /// Looks at a row that waited.
    fn look_at(&mut self, waiting: &Waiting) -> Result<()> {
        let file = &self.files[self.at];
        let plan = &self.opened.plan;
        for live in &file.streams {
            if plan.streams[live.stream].name != waiting.stream {
                continue;
            }
            let values = values_of(&waiting.identity)?;
            let making = self.making(live.stream);
            making.fetch(file, live, &identity_names(live), &values, true)?;
        }
        Ok(())
    }

    /// Looks at the rows with these values.
    fn search(&mut self, search: &Search) -> Result<()> {
        let file = &self.files[self.at];
        for live in file.streams.iter().filter(|live| live.stream == search.stream) {
            let making = self.making(live.stream);
            making.fetch(file, live, &search.names, &search.values, false)?;
        }
        Ok(())
    }

    /// Takes an entry in: the keys it names, and the rows that are there now.
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let file = &self.files[self.at];
        for live in file.streams.iter().filter(|live| live.captured.number == entry.table) {
            let sides = match entry.op.as_str() {
                "i" => vec![&entry.new],
                "d" | "e" => vec![&entry.old],
                _ => vec![&entry.old, &entry.new],
            };
            for values in sides {
                let values = &values[..live.names.len().min(values.len())];
                self.side(file, live, values)?;
            }
        }
        Ok(())
    }

    fn side(&mut self, file: &'a LiveFile, live: &'a LiveStream, values: &[Stored]) -> Result<()> {
        let files = self.files;
        let making = self.making(live.stream);
        making.name_keys(file, live, values);
        if live.by_key {
            let names: Vec<String> = live.key.iter().map(|at| key_name(live, *at)).collect();
            let key: Vec<Stored> = live.key.iter().map(|at| values[*at].clone()).collect();
            // In reading order: of several rows under one key the first one stands.
            for other in files {
                for found in other.streams.iter().filter(|other| other.stream == live.stream) {
                    making.fetch(other, found, &names, &key, false)?;
                }
            }
        }
        let count = identity_names(live).len();
        making.fetch(file, live, &identity_names(live), &values[..count], true)
    }

    fn finish(self) -> Vec<StreamBatch> {
        self.streams
            .into_values()
            .map(|making| {
                let mut batch = making.batch;
                batch.places = making.places.into_iter().collect();
                batch
            })
            .collect()
    }
}

/// How a search names the logged value: an alias of the rowid as itself.
fn key_name(live: &LiveStream, at: usize) -> String {
    live.captured.values[at].clone()
}

fn identity_names(live: &LiveStream) -> Vec<String> {
    live.captured.identity.names()
}

/// The identity that a position stands for.
fn values_of(position: &Position) -> Result<Vec<Stored>> {
    let unreadable = || Error::new(ErrorKind::RunMismatch, "a stored position cannot be read");
    let bytes = |text: &String| hex::decode(text).map_err(|_| unreadable());
    Ok(match position {
        Position::Rowid(rowid) => vec![Stored::Integer(*rowid)],
        Position::Key(parts) => parts
            .iter()
            .map(|part| {
                Ok(match part {
                    KeyPart::Integer(number) => Stored::Integer(*number),
                    KeyPart::Real(bits) => Stored::Real(f64::from_bits(*bits)),
                    KeyPart::Text(text) => Stored::Text(bytes(text)?),
                    KeyPart::Blob(blob) => Stored::Blob(bytes(blob)?),
                })
            })
            .collect::<Result<_>>()?,
        Position::Ordinal(_) | Position::Document { .. } => return Err(unreadable()),
    })
}
