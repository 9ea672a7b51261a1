//! A chunk: the encoded rows, rejects and ledger entries of a range of records, in memory,
//! bounded in bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::backfill::counts::Counts;
use crate::canonical::{BucketSum, Digest};
use crate::derive::{
    Derived, Deriver, Fate, LedgerEntry, RejectEntry, note_entries, reject_entries, skip_entries,
};
use crate::error::Result;
use crate::manners::{Amount, Rate};
use crate::pack::plan::StreamPlan;
use crate::source::{Flow, Locator, Position, SourceRecord, StreamSource};

/// When a chunk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Records at most.
    pub records_max: usize,
    /// Encoded bytes at most, but for the last record.
    pub bytes_max: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self { records_max: 50_000, bytes_max: 16 << 20 }
    }
}

impl ChunkLimits {
    /// The limits of each of `workers`, so that together they hold as much as one.
    #[must_use]
    pub fn shared_by(self, workers: usize) -> Self {
        let workers = workers.max(1);
        Self {
            records_max: self.records_max.min((50_000 / workers).max(1)),
            bytes_max: (self.bytes_max / workers).max(64 << 10),
        }
    }

    /// Limits of chunks that come in even portions under a throttle.
    #[must_use]
    pub fn throttled(self, rate: Option<Rate>) -> Self {
        match rate {
            None => self,
            Some(rate @ Rate::Rows(_)) => {
                Self { records_max: self.records_max.min(rate.portion()), ..self }
            }
            Some(rate @ Rate::Bytes(_)) => {
                Self { bytes_max: self.bytes_max.min(rate.portion()), ..self }
            }
        }
    }
}

/// What a row costs beside its fields, about.
const ROW_BYTES: usize = size_of::<RowRef>() + size_of::<RecordRef>();

/// How long a read transaction of `SQLite` stays open: without a write-ahead log its writers wait.
const LOCK_MAX: Duration = Duration::from_millis(300);

/// The rows of one output.
#[derive(Debug, Default)]
pub struct OutputRows {
    /// COPY fields, one row after the other.
    pub buffer: Vec<u8>,
    /// Where each row ends in the buffer and whose it is.
    pub rows: Vec<RowRef>,
    /// Sum of the canonical digests.
    pub digest: BucketSum,
}

/// One row of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef {
    /// Start in the buffer.
    pub start: usize,
    /// End in the buffer.
    pub end: usize,
    /// Position of the record in the chunk.
    pub record: u32,
    /// Element of the record.
    pub element: u32,
    /// Digest of its canonical form.
    pub digest: Digest,
}

impl OutputRows {
    /// Fields of a row.
    #[must_use]
    pub fn fields(&self, row: &RowRef) -> &[u8] {
        &self.buffer[row.start..row.end]
    }
}

/// Where a record of the chunk stands.
#[derive(Debug, Clone)]
pub struct RecordRef {
    /// Source file.
    pub source: Arc<str>,
    /// Place in it.
    pub locator: Locator,
}

/// A ledger entry and the row that stores the changed value.
#[derive(Debug, Clone)]
pub struct NotedRow {
    /// Position of the record in the chunk.
    pub record: u32,
    /// Position of the output.
    pub output: usize,
    /// Element of the record.
    pub element: u32,
    /// The entry.
    pub entry: LedgerEntry,
}

/// A range of records, ready to be written in one transaction.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Rows by output, in the order of the stream's outputs.
    pub outputs: Vec<OutputRows>,
    /// The records, in order.
    pub records: Vec<RecordRef>,
    /// Rejects found by casts.
    pub rejects: Vec<RejectEntry>,
    /// Ledger entries of values that rows store changed, as far as the rows are stored.
    pub notes: Vec<NotedRow>,
    /// Ledger entries of rules that leave rows out.
    pub ledger: Vec<LedgerEntry>,
    /// Counts so far; the writer adds what became of the rows.
    pub counts: Counts,
    /// Encoded bytes.
    pub bytes: usize,
    /// Where to go on; None at the end of the source.
    pub next: Option<Position>,
    /// How far changes were captured when it was read, or before; None: they are not.
    pub position: Option<i64>,
    /// Held by a chunk that one record made far larger than its share, until it is written.
    pub oversize: Option<OwnedSemaphorePermit>,
}

/// Reads the next chunk of `source` after `from`, not beyond `to`.
pub fn read_chunk(
    source: &mut StreamSource,
    from: Option<&Position>,
    to: Option<&Position>,
    deriver: &mut Deriver<'_>,
    limits: ChunkLimits,
    should_stop: &dyn Fn() -> bool,
) -> Result<Chunk> {
    let stream = deriver.stream();
    let mut chunk = Chunk {
        outputs: stream.outputs.iter().map(|_| OutputRows::default()).collect(),
        // Before the rows: what changes in between is then taken for newer, and comes again.
        position: source.capture_position()?,
        ..Chunk::default()
    };
    let mut derived = Derived::default();
    let mut last_source: Arc<str> = Arc::from("");
    // Of SQLite only: a document has no readers' lock, and would be parsed again.
    let holds_lock = matches!(source, StreamSource::Sqlite(_));
    let mut first_at = None;
    let next = source.read_range(from, to, &mut |record| {
        deriver.derive(record, &mut derived)?;
        if *last_source != *record.file.relative {
            last_source = Arc::from(record.file.relative.as_str());
        }
        chunk.add(stream, record, &derived, deriver, &last_source);
        let is_full = chunk.records.len() >= limits.records_max
            || chunk.bytes >= limits.bytes_max
            || (chunk.records.len().is_multiple_of(256) && should_stop())
            || (holds_lock
                && chunk.records.len().is_multiple_of(64)
                && first_at.get_or_insert_with(Instant::now).elapsed() > LOCK_MAX);
        Ok(if is_full { Flow::Pause } else { Flow::Continue })
    })?;
    chunk.next = next;
    Ok(chunk)
}

impl Chunk {
    /// What it costs under a throttle.
    pub(super) fn amount(&self) -> Amount {
        let bytes = self.outputs.iter().map(|output| output.buffer.len() as u64).sum();
        Amount { rows: self.counts.read, bytes }
    }

    /// Its records and rows, for questions about them.
    pub(super) fn shallow(&self) -> Self {
        let outputs = self.outputs.iter().map(|output| OutputRows {
            buffer: output.buffer.clone(),
            rows: output.rows.clone(),
            ..OutputRows::default()
        });
        Self { records: self.records.clone(), outputs: outputs.collect(), ..Self::default() }
    }

    /// The same with the rows of one record.
    pub(super) fn only(&self, record: u32) -> Self {
        let mut only = self.shallow();
        for output in &mut only.outputs {
            output.rows.retain(|row| row.record == record);
        }
        only
    }

    /// Adds a record and what was derived from it.
    pub fn add(
        &mut self,
        stream: &StreamPlan,
        record: &SourceRecord<'_>,
        derived: &Derived,
        deriver: &Deriver<'_>,
        source: &Arc<str>,
    ) {
        let number = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        self.records
            .push(RecordRef { source: Arc::clone(source), locator: record.locator.clone() });
        self.counts.read += 1;
        match derived.fate {
            Fate::Stored => {}
            Fate::Skipped => self.counts.records.skipped += 1,
            Fate::Rejected => self.counts.records.rejected += 1,
        }
        for row in &derived.rows {
            let fields = derived.fields(row);
            let output = &mut self.outputs[row.output];
            let digest = stream.outputs[row.output].layout.row_digest(fields);
            output.digest.add(&digest);
            let start = output.buffer.len();
            output.buffer.extend_from_slice(fields);
            let end = output.buffer.len();
            output.rows.push(RowRef { start, end, record: number, element: row.element, digest });
            self.bytes += fields.len() + ROW_BYTES;
        }
        self.add_notes(stream, record, derived, number);
        self.add_skips(stream, record, derived);
        self.add_refusals(stream, record, derived, deriver);
    }

    fn add_notes(
        &mut self,
        stream: &StreamPlan,
        record: &SourceRecord<'_>,
        derived: &Derived,
        number: u32,
    ) {
        for (note, entry) in derived.notes.iter().zip(note_entries(stream, record, derived)) {
            self.counts.ledgered += 1;
            self.bytes += entry.original.as_ref().map_or(0, Vec::len) + 64;
            let row = &derived.rows[note.row];
            let (output, element) = (row.output, row.element);
            self.notes.push(NotedRow { record: number, output, element, entry });
        }
    }

    fn add_skips(&mut self, stream: &StreamPlan, record: &SourceRecord<'_>, derived: &Derived) {
        for entry in skip_entries(stream, record, derived) {
            let position = stream.outputs.iter().position(|output| output.name == entry.output);
            if let Some(position) = position.filter(|position| *position > 0) {
                let name = &stream.outputs[position].name;
                self.counts.derived.entry(name.clone()).or_default().skipped += 1;
            }
            self.bytes += 64;
            self.ledger.push(entry);
        }
    }

    fn add_refusals(
        &mut self,
        stream: &StreamPlan,
        record: &SourceRecord<'_>,
        derived: &Derived,
        deriver: &Deriver<'_>,
    ) {
        for refused in derived.refusals.iter().filter(|refused| refused.output > 0) {
            let name = &stream.outputs[refused.output].name;
            self.counts.derived.entry(name.clone()).or_default().rejected += 1;
        }
        for entry in reject_entries(stream, record, derived, deriver.redactor()) {
            self.bytes += entry.record.as_ref().map_or(0, Vec::len) + 128;
            self.rejects.push(entry);
        }
    }
}
