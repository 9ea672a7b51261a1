//! Reading a batch of the log, and the rows it speaks of, in one read transaction. Blocking.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backfill::chunk::{Chunk, OutputRows};
use crate::canonical::Digest;
use crate::capture::log::{self, CaptureState, LogPosition, failed};
use crate::capture::record::{CapturedTable, Cursor};
use crate::capture::shape::Identity;
use crate::capture::{LOG_TABLE, keys};
use crate::cast::Value;
use crate::derive::{Derived, DerivedKey, Deriver};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::source::sqlite::{Database, TableShape};
use crate::source::{Content, KeyPart, Locator, Position, SourceFile, SourceRecord, Stored};

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
    fn new(opened: &OpenedPack, stream: usize) -> Self {
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

/// A captured file, open.
#[derive(Debug)]
pub(super) struct LiveFile {
    pub(super) source: SourceFile,
    database: Database,
    inode: u64,
    streams: Vec<LiveStream>,
    /// The schema's number when it was last compared.
    schema_version: Option<i64>,
}

/// A stream in one file.
#[derive(Debug)]
struct LiveStream {
    stream: usize,
    shape: TableShape,
    /// Number of its table, its identity, and what the log keeps of it.
    captured: CapturedTable,
    /// Names under which the pack knows the logged values.
    names: Arc<[String]>,
    /// Positions in the logged values of the columns that keys are made of.
    key: Vec<usize>,
    /// Whether rows have to be looked for by their key, too: the identity may change (VACUUM), or
    /// several rows may share a key.
    by_key: bool,
}

impl LiveFile {
    /// Opens a file that capture is installed in.
    pub(super) fn open(
        opened: &OpenedPack,
        file: &SourceFile,
        tables: &[CapturedTable],
    ) -> Result<Self> {
        let database = Database::open_live(&file.path)?;
        let files = opened.discovered.streams.iter().filter(|(_, found)| found.files.len() > 1);
        let shared: HashSet<&str> = files.map(|(name, _)| name.as_str()).collect();
        let mut streams = Vec::new();
        for (index, stream) in opened.plan.streams.iter().enumerate() {
            let Some(found) = opened.discovered.streams.get(&stream.name) else { continue };
            let Some(table) = keys::table_of(stream) else { continue };
            if !found.files.iter().any(|known| known.path == file.path) {
                continue;
            }
            let captured = tables.iter().find(|known| known.table.eq_ignore_ascii_case(table));
            let Some(captured) = captured else {
                let detail = format!("{}: table {table} is not captured", file.relative);
                return Err(Error::new(ErrorKind::SourceChanged, detail)
                    .advice("the pack has changed: run `toolkit dual-write enable` again"));
            };
            let companion =
                stream.companion.clone().map(|pattern| (pattern, found.companions.clone()));
            let shape = TableShape::of(&database, file, table, companion)?;
            let wanted = keys::key_columns(stream)?;
            let (names, key) = logged(captured, &wanted);
            let is_shared = shared.contains(stream.name.as_str());
            let by_key = is_shared || !is_known_by_identity(captured, &key);
            streams.push(LiveStream {
                stream: index,
                shape,
                captured: captured.clone(),
                names: names.into(),
                key,
                by_key,
            });
        }
        let inode = inode(&file.path);
        Ok(Self { source: file.clone(), database, inode, streams, schema_version: None })
    }

    /// Whether the path leads to another file by now.
    pub(super) fn was_replaced(&self) -> bool {
        inode(&self.source.path) != self.inode
    }

    pub(super) fn set_companions(&mut self, stream: usize, files: &BTreeMap<String, PathBuf>) {
        for live in self.streams.iter_mut().filter(|live| live.stream == stream) {
            live.shape.set_companions(files.clone());
        }
    }

    fn name(&self) -> String {
        self.source.path.display().to_string()
    }

    /// Why nothing of this file may be applied; None: nothing stands against it.
    fn halt(&mut self, pack: &str, cursor: &Cursor) -> Result<Option<String>> {
        let (file, connection) = (self.name(), self.database.connection());
        let Some(CaptureState { installation, pack: owner, .. }) =
            log::state_in(connection, &file)?
        else {
            return Ok(Some("capture was taken out of the file".to_owned()));
        };
        if installation != cursor.installation || owner != pack {
            return Ok(Some(format!(
                "the file's capture is another one ({installation}, not {})",
                cursor.installation
            )));
        }
        let version: i64 = connection
            .query_row("PRAGMA schema_version", [], |row| row.get(0))
            .map_err(|e| failed(&file, e))?;
        if self.schema_version == Some(version) {
            return Ok(None);
        }
        if !log::has_table(connection, &file, LOG_TABLE)? {
            return Ok(Some("the capture log vanished".to_owned()));
        }
        for table in &cursor.tables {
            if let Some(difference) = table.difference(connection, &file)? {
                return Ok(Some(difference));
            }
        }
        self.schema_version = Some(version);
        Ok(None)
    }

    /// Whether the entry at the cursor is the one that was applied: an older copy of the file has
    /// another history.
    fn restored(&self, cursor: &Cursor, last: LogPosition) -> Result<Option<String>> {
        if cursor.position == 0 {
            return Ok(None);
        }
        let file = self.name();
        let mark: Option<f64> =
            rusqlite::OptionalExtension::optional(self.database.connection().query_row(
                &format!("SELECT at FROM {LOG_TABLE} WHERE seq = ?1"),
                [cursor.position],
                |row| row.get(0),
            ))
            .map_err(|e| failed(&file, e))?;
        let is_same = mark.map(mark_text) == cursor.mark;
        if last >= cursor.position && (is_same || cursor.mark.is_none()) {
            return Ok(None);
        }
        Ok(Some(format!(
            "the file was replaced by an older copy: its log ends at {last}, changes up to {} are \
             applied",
            cursor.position
        )))
    }
}

fn inode(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |found| found.ino())
}

fn mark_text(at: f64) -> String {
    format!("{:016x}", at.to_bits())
}

/// Names under which the pack knows the logged values, and which of them keys are made of.
fn logged(captured: &CapturedTable, wanted: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut names = captured.values.clone();
    if let Identity::Rowid { column: Some(column), .. } = &captured.identity {
        names[0].clone_from(column);
    }
    let is_wanted = |name: &String| wanted.iter().any(|key| key.eq_ignore_ascii_case(name));
    let key = (0..names.len()).filter(|at| is_wanted(&names[*at])).collect();
    (names, key)
}

/// Whether a key is made of just what a row is known by, so that no other row can have it, and a
/// row keeps its identity for as long as it keeps its key.
fn is_known_by_identity(captured: &CapturedTable, key: &[usize]) -> bool {
    let count = match &captured.identity {
        Identity::Rowid { column: None, .. } => return false,
        Identity::Rowid { .. } => 1,
        Identity::Key { columns } => columns.len(),
    };
    (0..count).all(|at| key.contains(&at))
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
    let name = files[at].name();
    let begin = |sql: &str| {
        files[at].database.connection().execute_batch(sql).map_err(|e| failed(&name, e))
    };
    begin("BEGIN")?;
    let done = read_in_transaction(opened, files, at, wish);
    // A read transaction that cannot be ended is gone with its error.
    let ended = files[at].database.connection().execute_batch("COMMIT");
    let batch = done?;
    ended.map_err(|e| failed(&name, e))?;
    Ok(batch)
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

/// One stream's part of it.
struct Making<'a> {
    deriver: Deriver<'a>,
    derived: Derived,
    batch: StreamBatch,
    /// Records that are in the chunk.
    seen: HashSet<(String, Locator)>,
    /// What was searched for.
    searched: HashSet<Vec<u8>>,
    places: HashSet<(String, String)>,
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

impl Making<'_> {
    /// The keys of a row with these values; they are looked after whether or not it is there.
    fn name_keys(&mut self, file: &LiveFile, live: &LiveStream, values: &[Stored]) {
        let values: Vec<Value<'_>> = values.iter().map(value_of).collect();
        let record = SourceRecord {
            file: &file.source,
            locator: Locator::Rowid(0),
            position: Position::Rowid(0),
            content: Content::Columns { names: &live.names, values: &values, companion: None },
        };
        for key in self.deriver.keys(&record) {
            self.add_key(key);
        }
    }

    fn add_key(&mut self, key: DerivedKey) {
        let output = &self.deriver.stream().outputs[key.output];
        let digest = output.layout.key_digest(&key.fields);
        self.batch.keys.entry((key.output, digest)).or_insert(key.fields);
    }

    /// Adds the rows that are found by these columns; `is_identity`: and says which row was meant.
    fn fetch(
        &mut self,
        file: &LiveFile,
        live: &LiveStream,
        names: &[String],
        values: &[Stored],
        is_identity: bool,
    ) -> Result<()> {
        if is_identity {
            let locator = live.shape.locator_of(values).to_string();
            self.places.insert((file.source.relative.clone(), locator));
        }
        if !self.searched.insert(search_key(file, names, values)) {
            return Ok(());
        }
        let (deriver, derived, batch, seen) =
            (&mut self.deriver, &mut self.derived, &mut self.batch, &mut self.seen);
        let mut found = Vec::new();
        live.shape.visit_where(&file.database, names, values, &mut |record| {
            if !seen.insert((file.source.relative.clone(), record.locator.clone())) {
                return Ok(());
            }
            deriver.derive(record, derived)?;
            let source = Arc::from(record.file.relative.as_str());
            let plan = deriver.stream();
            batch.chunk.add(plan, record, derived, deriver, &source);
            batch.identities.push((file.source.relative.clone(), record.position.clone()));
            found.push((file.source.relative.clone(), record.locator.to_string()));
            for key in deriver.keys(record) {
                let digest = plan.outputs[key.output].layout.key_digest(&key.fields);
                batch.keys.entry((key.output, digest)).or_insert(key.fields);
            }
            Ok(())
        })?;
        self.places.extend(found);
        Ok(())
    }
}

fn search_key(file: &LiveFile, names: &[String], values: &[Stored]) -> Vec<u8> {
    let mut key = format!("{}\0{}\0", file.source.relative, names.join("\0")).into_bytes();
    for value in values {
        let (tag, bytes): (u8, Vec<u8>) = match value {
            Stored::Null => (0, Vec::new()),
            Stored::Integer(number) => (1, number.to_be_bytes().to_vec()),
            Stored::Real(number) => (2, number.to_bits().to_be_bytes().to_vec()),
            Stored::Text(text) => (3, text.clone()),
            Stored::Blob(blob) => (4, blob.clone()),
        };
        key.push(tag);
        key.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        key.extend_from_slice(&bytes);
    }
    key
}

fn value_of(value: &Stored) -> Value<'_> {
    match value {
        Stored::Null => Value::Null,
        Stored::Integer(number) => Value::Integer(*number),
        Stored::Real(number) => Value::Real(*number),
        Stored::Text(text) => Value::Text(text),
        Stored::Blob(blob) => Value::Blob(blob),
    }
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
