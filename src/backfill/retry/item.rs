//! One reject on its way back: read, corrected, derived.

use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::{LeftAlone, RefusedAgain};
use crate::backfill::chunk::{Chunk, RecordRef, RowRef};
use crate::canonical::Digest;
use crate::derive::{Derived, Deriver, Fate, HeldRecord, original_bytes};
use crate::error::Result;
use crate::ledger::CorrectedLine;
use crate::pack::OpenedPack;
use crate::pack::plan::{From, Meta, SourceKind, StreamPlan};
use crate::pack::texts::fields_of_texts;
use crate::source::Locator;

/// A reject with what it keeps.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: i64,
    pub(super) output: String,
    pub(super) source: String,
    pub(super) locator: String,
    /// Whether a document could not be parsed: the fault is no single value's.
    pub(super) is_unread: bool,
    pub(super) record: Option<Vec<u8>>,
    pub(super) sha256: Digest,
    pub(super) secret: bool,
    pub(super) shape: Option<String>,
}

impl Kept {
    /// Output, source and place in it.
    pub(super) fn place(&self) -> (&str, &str, &str) {
        (&self.output, &self.source, &self.locator)
    }
}

/// A reject whose rows are in the chunk.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) kept: Kept,
    /// Position of the output that the reject is about.
    pub(super) output: usize,
    /// Element of the record.
    pub(super) element: u32,
    /// Position of the record in the chunk.
    pub(super) record: u32,
    /// What is stored instead of what was kept, without secrets; None: the very same.
    pub(super) corrected: Option<Vec<u8>>,
    /// Digest of its row.
    pub(super) digest: Option<Digest>,
}

/// What a reject is good for.
pub(super) enum Ready {
    Item(Item),
    Refused(RefusedAgain),
    Left(LeftAlone),
}

/// A reject that was read.
pub(super) enum Made {
    Record { item: Item, held: HeldRecord },
    Row { item: Item, fields: Vec<u8> },
    Not(Ready),
}

/// Reads what is kept, or its correction.
pub(super) async fn ready(
    tx: &mut PgConnection,
    opened: &OpenedPack,
    stream: &StreamPlan,
    kept: Kept,
    line: Option<&CorrectedLine>,
) -> Result<Made> {
    let output = stream.outputs.iter().enumerate().position(|(at, output)| {
        if kept.output.is_empty() { at == 0 } else { output.name == kept.output }
    });
    if let Some(why) = obstacle(stream, &kept, output) {
        return Ok(Made::Not(Ready::Left(LeftAlone::new(kept.id, why))));
    }
    let output = output.unwrap_or_default();
    let element = match stream.outputs[output].each {
        None => 0,
        Some(_) => kept.locator.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0),
    };
    let record = kept.record.clone().unwrap_or_default();
    let given = line.map(|line| &line.record).filter(|given| !is_same(given, &record));
    let bytes = given.unwrap_or(&record).clone();
    let id = kept.id;
    let refused = |reason: &str, detail: String| {
        let reason = reason.to_owned();
        Ok(Made::Not(Ready::Refused(RefusedAgain { id, column: None, reason, detail })))
    };
    let item = Item { kept, output, element, record: 0, corrected: given.cloned(), digest: None };
    if item.kept.shape.as_deref() == Some("row") {
        let Ok(serde_json::Value::Object(texts)) = serde_json::from_slice(&bytes) else {
            return refused("invalid_record", "a row is an object of its columns".to_owned());
        };
        return match fields_of_texts(tx, &stream.outputs[output], &texts).await? {
            Ok(fields) => Ok(Made::Row { item, fields }),
            Err(what) => refused("invalid_record", what),
        };
    }
    let sha256 = match stream.source {
        SourceKind::Sqlite { .. } => String::new(),
        _ => hex::encode(item.kept.sha256),
    };
    let held = HeldRecord::read(stream, &item.kept.source, &item.kept.locator, &sha256, &bytes);
    let held = match held {
        Ok(held) => held,
        Err(what) => return refused("invalid_record", what),
    };
    let (clean, holds_secret) =
        held.with(|record| original_bytes(&record.content, &opened.redactor));
    if holds_secret {
        let why = "the corrected record holds a secret, which is stored nowhere but in the \
                   source: correct it there, and run the backfill again";
        let left = LeftAlone::new(item.kept.id, why);
        return Ok(Made::Not(Ready::Left(left)));
    }
    let corrected = item.corrected.is_some().then_some(clean);
    Ok(Made::Record { item: Item { corrected, ..item }, held })
}

/// Whether two records are one, however they are laid out.
pub(super) fn is_same(given: &[u8], kept: &[u8]) -> bool {
    given == kept
        || match (crate::json::parse(given), crate::json::parse(kept)) {
            (Ok(given), Ok(kept)) => given == kept,
            _ => false,
        }
}

/// Why a reject cannot be stored without its source.
fn obstacle(stream: &StreamPlan, kept: &Kept, output: Option<usize>) -> Option<String> {
    let rerun = "correct the source and run the backfill again";
    let Some(output) = output else {
        return Some(format!("the stream has no output `{}` any more", kept.output));
    };
    if kept.secret {
        return Some(format!("a secret was removed from it, which only the source has: {rerun}"));
    }
    if kept.record.is_none() {
        return Some(format!("its record was not kept: {rerun}"));
    }
    let Some(shape) = &kept.shape else {
        return Some("an earlier version recorded it: run the backfill again first".to_owned());
    };
    if shape == "row" {
        // What a record mentions is stored even where the record itself is refused.
        let makes_more = output == 0 && stream.outputs[1..].iter().any(|other| !other.mention);
        return makes_more.then(|| {
            format!("its record makes further rows, which are not kept with this one: {rerun}")
        });
    }
    if stream.companion.is_some() {
        return Some(format!("its stream also reads a document beside each record: {rerun}"));
    }
    if let Some(why) = array_obstacle(stream, kept) {
        return Some(format!("{why}: {rerun}"));
    }
    let needs_sha = stream
        .outputs
        .iter()
        .flat_map(|output| &output.columns)
        .any(|column| column.from.contains(&From::Meta(Meta::FileSha256)));
    let is_part = match &stream.source {
        SourceKind::Sqlite { .. } => false,
        SourceKind::Json { records, .. } => records.is_some(),
        SourceKind::Jsonl { .. } | SourceKind::Csv { .. } => true,
    };
    (needs_sha && is_part).then(|| format!("its row names the SHA-256 of the whole file: {rerun}"))
}

/// Why a record of a document's array cannot be stored by itself.
fn array_obstacle(stream: &StreamPlan, kept: &Kept) -> Option<String> {
    let SourceKind::Json { records: Some(pointer), .. } = &stream.source else { return None };
    if !kept.locator.starts_with("record ") {
        return Some(format!("the whole document was refused, not a record at {pointer}"));
    }
    // Closing it would hide what was not read of the file.
    if kept.is_unread {
        return Some("a fault in the file itself, behind which nothing was read".to_owned());
    }
    let around = stream.root_pointers();
    let first = around.first()?;
    Some(format!("its row takes `^{first}` from around the record, which is not kept with it"))
}

/// Derives the rows of a record; of a row beside the record's own, only that. Blocking.
pub(super) fn derive(
    deriver: &mut Deriver<'_>,
    held: &HeldRecord,
    output: usize,
    element: u32,
) -> Result<Derived> {
    let mut derived = Derived::default();
    held.with(|record| deriver.derive(record, &mut derived))?;
    if output > 0 {
        derived.only(output, element);
    }
    Ok(derived)
}

impl Item {
    /// What the casts have against it.
    pub(super) fn refusal(&self, stream: &StreamPlan, derived: &Derived) -> Option<RefusedAgain> {
        let is_its_own = |output: usize| output == self.output || derived.fate == Fate::Rejected;
        let refused = derived.refusals.iter().find(|refused| is_its_own(refused.output))?;
        let columns = &stream.outputs[refused.output].columns;
        Some(RefusedAgain {
            id: self.kept.id,
            column: refused.column.map(|at| columns[at].name.clone()),
            reason: refused.refusal.reason.to_owned(),
            detail: refused.refusal.detail.clone(),
        })
    }

    /// Puts the rows of a record into the chunk.
    pub(super) fn take(
        &mut self,
        stream: &StreamPlan,
        held: &HeldRecord,
        derived: &Derived,
        deriver: &Deriver<'_>,
        chunk: &mut Chunk,
    ) {
        self.record = u32::try_from(chunk.records.len()).unwrap_or(u32::MAX);
        let own = derived
            .rows
            .iter()
            .find(|row| (row.output, row.element) == (self.output, self.element));
        self.digest = own.map(|row| {
            let layout = &stream.outputs[self.output].layout;
            layout.row_digest(derived.fields(row))
        });
        let source: Arc<str> = Arc::from(self.kept.source.as_str());
        held.with(|record| chunk.add(stream, record, derived, deriver, &source));
    }

    /// Puts a row into the chunk.
    pub(super) fn take_row(&mut self, stream: &StreamPlan, fields: &[u8], chunk: &mut Chunk) {
        self.record = u32::try_from(chunk.records.len()).unwrap_or(u32::MAX);
        let digest = stream.outputs[self.output].layout.row_digest(fields);
        self.digest = Some(digest);
        let source: Arc<str> = Arc::from(self.kept.source.as_str());
        chunk.records.push(RecordRef { source, locator: Locator::Document });
        let rows = &mut chunk.outputs[self.output];
        let start = rows.buffer.len();
        rows.buffer.extend_from_slice(fields);
        let end = rows.buffer.len();
        let (record, element) = (self.record, self.element);
        rows.rows.push(RowRef { start, end, record, element, digest });
    }
}
