//! A chunk: the encoded rows, rejects and ledger entries of a range of records, in memory,
//! bounded in bytes.

use std::sync::Arc;

use crate::backfill::counts::Counts;
use crate::canonical::BucketSum;
use crate::cast::Original;
use crate::derive::{
    Derived, Deriver, EntryParts, Fate, entry_hash, original_bytes, original_hash, row_locator,
};
use crate::error::Result;
use crate::pack::plan::{OutputPlan, StreamPlan};
use crate::source::{Content, Flow, Locator, Position, SourceRecord, StreamSource};

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

/// A reject as `toolkit.reject` stores it.
#[derive(Debug, Clone)]
pub struct RejectEntry {
    /// Output's name; empty for the record as a whole.
    pub output: String,
    /// Source file.
    pub source: String,
    /// Place in it.
    pub locator: String,
    /// The key, as far as it is known.
    pub key: Option<String>,
    /// Target column at fault.
    pub column: Option<String>,
    /// Stable code.
    pub reason: String,
    /// One sentence.
    pub detail: String,
    /// Original bytes, redacted.
    pub record: Option<Vec<u8>>,
    /// SHA-256 of the redacted bytes.
    pub record_sha256: [u8; 32],
    /// Whether a secret was removed.
    pub secret: bool,
}

/// A ledger entry as `toolkit.ledger` stores it.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// Output's name.
    pub output: String,
    /// Source file.
    pub source: String,
    /// Place in it.
    pub locator: String,
    /// Target column; empty for a whole row.
    pub column: String,
    /// The rule.
    pub rule: String,
    /// JSON pointer inside the value.
    pub path: String,
    /// Original bytes; None for secrets and whole rows.
    pub original: Option<Vec<u8>>,
    /// Hash of the original.
    pub original_hash: [u8; 32],
    /// Whether the original is a secret.
    pub secret: bool,
    /// Digest of the target's row that was kept instead.
    pub target_digest: Option<[u8; 32]>,
}

impl LedgerEntry {
    /// Its identity within the stream.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        entry_hash(&EntryParts {
            output: &self.output,
            source: &self.source,
            locator: &self.locator,
            column: &self.column,
            rule: &self.rule,
            path: &self.path,
            original_hash: self.original_hash,
        })
    }
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
    /// Ledger entries made by casts and rules.
    pub ledger: Vec<LedgerEntry>,
    /// Counts so far; the writer adds what became of the rows.
    pub counts: Counts,
    /// Encoded bytes.
    pub bytes: usize,
    /// Where to go on; None at the end of the source.
    pub next: Option<Position>,
}

/// Reads the next chunk of `source` after `from`.
pub fn read_chunk(
    source: &mut StreamSource,
    from: Option<&Position>,
    deriver: &mut Deriver<'_>,
    limits: ChunkLimits,
    should_stop: &dyn Fn() -> bool,
) -> Result<Chunk> {
    let stream = deriver.stream();
    let mut chunk = Chunk {
        outputs: stream.outputs.iter().map(|_| OutputRows::default()).collect(),
        ..Chunk::default()
    };
    let mut derived = Derived::default();
    let mut last_source: Arc<str> = Arc::from("");
    let next = source.read(from, &mut |record| {
        deriver.derive(record, &mut derived)?;
        if *last_source != *record.file.relative {
            last_source = Arc::from(record.file.relative.as_str());
        }
        chunk.add(stream, record, &derived, deriver, &last_source);
        let is_full = chunk.records.len() >= limits.records_max
            || chunk.bytes >= limits.bytes_max
            || (chunk.records.len() % 256 == 0 && should_stop());
        Ok(if is_full { Flow::Pause } else { Flow::Continue })
    })?;
    chunk.next = next;
    Ok(chunk)
}

impl Chunk {
    fn add(
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
            output.digest.add(&stream.outputs[row.output].layout.row_digest(fields));
            let start = output.buffer.len();
            output.buffer.extend_from_slice(fields);
            let end = output.buffer.len();
            output.rows.push(RowRef { start, end, record: number, element: row.element });
            self.bytes += fields.len() + 16;
        }
        self.add_notes(stream, record, derived);
        self.add_skips(stream, record, derived);
        self.add_refusals(stream, record, derived, deriver);
    }

    fn add_notes(&mut self, stream: &StreamPlan, record: &SourceRecord<'_>, derived: &Derived) {
        for entry in note_entries(stream, record, derived) {
            self.counts.ledgered += 1;
            self.bytes += entry.original.as_ref().map_or(0, Vec::len) + 64;
            self.ledger.push(entry);
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
        for refused in &derived.refusals {
            let output = &stream.outputs[refused.output];
            if refused.output > 0 {
                self.counts.derived.entry(output.name.clone()).or_default().rejected += 1;
            }
            let (bytes, secret) = original_bytes(&record.content, deriver.redactor());
            self.bytes += bytes.len() + 128;
            self.rejects.push(RejectEntry {
                output: output_name(stream, refused.output),
                source: record.file.relative.clone(),
                locator: row_locator(record, output, refused.element),
                key: source_key(record, output, deriver),
                column: refused.column.map(|column| output.columns[column].name.clone()),
                reason: refused.refusal.reason.to_owned(),
                detail: refused.refusal.detail.clone(),
                record_sha256: crate::canonical::sha256(&bytes),
                record: Some(bytes),
                secret,
            });
        }
    }
}

/// Name of an output in rejects and the ledger; empty for the record's own.
#[must_use]
pub fn output_name(stream: &StreamPlan, output: usize) -> String {
    if output == 0 { String::new() } else { stream.outputs[output].name.clone() }
}

/// The ledger entries of the values a record's rows store changed.
pub fn note_entries<'a>(
    stream: &'a StreamPlan,
    record: &'a SourceRecord<'_>,
    derived: &'a Derived,
) -> impl Iterator<Item = LedgerEntry> + 'a {
    derived.notes.iter().map(move |row_note| {
        let row = &derived.rows[row_note.row];
        let output = &stream.outputs[row.output];
        let (original, secret) = match &row_note.note.original {
            Original::Bytes(bytes) => (Some(bytes.clone()), false),
            Original::Secret(_) => (None, true),
        };
        LedgerEntry {
            output: output_name(stream, row.output),
            source: record.file.relative.clone(),
            locator: row_locator(record, output, row.element),
            column: output.columns[row_note.column].name.clone(),
            rule: row_note.note.rule.to_owned(),
            path: row_note.note.path.clone().unwrap_or_default(),
            original,
            original_hash: original_hash(&row_note.note.original),
            secret,
            target_digest: None,
        }
    })
}

/// The ledger entries of the rows a rule left out.
pub fn skip_entries<'a>(
    stream: &'a StreamPlan,
    record: &'a SourceRecord<'_>,
    derived: &'a Derived,
) -> impl Iterator<Item = LedgerEntry> + 'a {
    derived.skips.iter().map(move |skip| {
        let output = &stream.outputs[skip.output];
        LedgerEntry {
            output: output_name(stream, skip.output),
            source: record.file.relative.clone(),
            locator: row_locator(record, output, skip.element),
            column: String::new(),
            rule: skip.rule.clone(),
            path: String::new(),
            original: None,
            original_hash: skip.original_hash,
            secret: false,
            target_digest: None,
        }
    })
}

/// The record's key as the source has it, for people who look for it there.
fn source_key(
    record: &SourceRecord<'_>,
    output: &OutputPlan,
    deriver: &Deriver<'_>,
) -> Option<String> {
    let Content::Columns { names, values, .. } = &record.content else { return None };
    let mut parts = Vec::new();
    for position in &output.key {
        let column = &output.columns[*position];
        for from in &column.from {
            let crate::pack::plan::From::Column(name) = from else { continue };
            let at = names.iter().position(|candidate| candidate.eq_ignore_ascii_case(name))?;
            let shown = crate::derive::show_value(&values[at]);
            let redacted = deriver.redactor().redact_text(shown.as_bytes());
            parts.push(redacted.map_or(shown, |redacted| {
                String::from_utf8_lossy(&redacted.text).into_owned()
            }));
        }
    }
    let text = parts.join(", ");
    // Postgres text holds no NUL.
    (!text.is_empty()).then(|| text.replace('\0', "\u{fffd}").chars().take(400).collect())
}
