//! From a source record to the rows it becomes, through the plan's casts.
//!
//! Backfill and parity both derive with this code, so they disagree only if a store does.

mod conflict;
mod corrections;
mod entries;
mod held;
mod keys;
mod mention;
mod original;
mod pointed;
mod raw;
mod reach;
mod resolve;

pub use conflict::is_newer;
pub use corrections::{CORRECTED, Corrected, Correction, Corrections};
pub use entries::{
    LedgerEntry, RejectEntry, note_entries, output_name, reject_entries, skip_entries,
};
pub use held::{HeldRecord, held_columns};
pub use keys::{DerivedKey, key_fields};
pub use original::original_bytes;
pub use pointed::{PointedVisitor, Pointer, Pointers};
pub use reach::{Reach, Unreached};

use std::ops::Range;
use std::sync::Arc;

use crate::cast::redact::Redactor;
use crate::cast::{Note, Refusal, Value};
use crate::error::Result;
use crate::json::Json;
use crate::pack::plan::{From, OutputPlan, StreamPlan};
use crate::source::{Content, SourceRecord};

/// The rows, notes and refusals of one record; reused from record to record.
#[derive(Debug, Default)]
pub struct Derived {
    /// Encoded COPY fields of all rows, one after the other.
    pub buffer: Vec<u8>,
    /// Rows in output order.
    pub rows: Vec<Row>,
    /// Ledger notes.
    pub notes: Vec<RowNote>,
    /// Rows (or the whole record) that could not be stored.
    pub refusals: Vec<RowRefusal>,
    /// Rows that a rule left out, with the ledger rule.
    pub skips: Vec<RowSkip>,
    /// What every cast says of the rows that one of them refused; only if asked for.
    pub surveyed: Vec<SurveyedCast>,
    /// What becomes of the record as such.
    pub fate: Fate,
}

/// What one cast says of a value in a refused row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedCast {
    /// Position of the output.
    pub output: usize,
    /// Element of the record.
    pub element: u32,
    /// Column of the output.
    pub column: usize,
    /// The rules under which it would store something else, or why it refuses.
    pub outcome: std::result::Result<Vec<&'static str>, Refusal>,
}

/// One derived row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position of the output.
    pub output: usize,
    /// Element of the record it comes from; 0 for the record itself.
    pub element: u32,
    /// Where its fields stand in [`Derived::buffer`].
    pub range: Range<usize>,
}

/// A ledger note of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowNote {
    /// Position in [`Derived::rows`].
    pub row: usize,
    /// Column of the output.
    pub column: usize,
    /// What was changed.
    pub note: Note,
}

/// A refused row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRefusal {
    /// Position of the output; 0 refuses the record.
    pub output: usize,
    /// Element of the record.
    pub element: u32,
    /// Column of the output, if one is at fault.
    pub column: Option<usize>,
    /// Why.
    pub refusal: Refusal,
}

/// A row that a rule left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSkip {
    /// Position of the output.
    pub output: usize,
    /// Element of the record.
    pub element: u32,
    /// The rule's name.
    pub rule: String,
    /// SHA-256 of what was left out.
    pub original_hash: [u8; 32],
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fate {
    /// It has at least its own row.
    #[default]
    Stored,
    /// A rule left it out.
    Skipped,
    /// It is refused as a whole; it has no rows.
    Rejected,
}

/// Derives the rows of one stream's records.
#[derive(Debug)]
pub struct Deriver<'p> {
    stream: &'p StreamPlan,
    redactor: Arc<Redactor>,
    resolver: resolve::Resolver,
    scratch: Vec<Note>,
    surveys: bool,
    order: Vec<usize>,
    mentions: mention::Mentions,
}

impl<'p> Deriver<'p> {
    /// A deriver for the records of `stream`.
    #[must_use]
    pub fn new(stream: &'p StreamPlan, redactor: Arc<Redactor>) -> Self {
        let resolver = resolve::Resolver::default();
        Self {
            stream,
            redactor,
            resolver,
            scratch: Vec::new(),
            surveys: false,
            order: stream.writing_order(),
            mentions: mention::Mentions::default(),
        }
    }

    /// The same, asking every cast about a row that one of them refuses.
    #[must_use]
    pub fn surveying(self) -> Self {
        Self { surveys: true, ..self }
    }

    /// The stream's plan.
    #[must_use]
    pub fn stream(&self) -> &'p StreamPlan {
        self.stream
    }

    /// Derives the rows of `record` into `out`, which is emptied first.
    pub fn derive(&mut self, record: &SourceRecord<'_>, out: &mut Derived) -> Result<()> {
        out.clear();
        self.resolver.see(match &record.content {
            Content::Columns { names, .. } => Some(names),
            _ => None,
        });
        match &record.content {
            Content::Broken { refusal, .. } => {
                out.reject(0, 0, None, refusal.clone());
            }
            Content::Duplicate { sha256, .. } => {
                out.fate = Fate::Skipped;
                out.skips.push(RowSkip {
                    output: 0,
                    element: 0,
                    rule: "identical_duplicate".to_owned(),
                    original_hash: crate::canonical::sha256(sha256.as_bytes()),
                });
            }
            content => match self.computed(content) {
                Err(refusal) => out.reject(0, 0, None, refusal),
                Ok(computed) => {
                    if let Some(context) = context_of(record, computed.as_ref()) {
                        self.outputs(&context, out);
                    }
                }
            },
        }
        if !self.stream.corrections.is_empty() {
            self.stream.corrections.leave_out(self.stream, record, &self.redactor, out);
        }
        let failure = self.stream.spelling.as_ref().and_then(|spelling| spelling.take_failure());
        failure.map_or(Ok(()), |error| Err(error.context("asking how a value is written")))
    }

    /// Hands out the values from which the wanted columns of a record's rows are made.
    pub fn values(
        &mut self,
        record: &SourceRecord<'_>,
        wanted: &[(usize, usize)],
        visit: &mut dyn FnMut((usize, usize), Value<'_>),
    ) {
        let computed = self.computed(&record.content).ok().flatten();
        let Some(context) = context_of(record, computed.as_ref()) else { return };
        for (index, output) in self.stream.outputs.iter().enumerate() {
            let columns = wanted.iter().filter(|(at, _)| *at == index);
            let columns: Vec<(usize, usize)> = columns.copied().collect();
            if columns.is_empty() {
                continue;
            }
            let elements = match &output.each {
                None => vec![None],
                Some(each) => {
                    context.members(each).into_iter().map(|(_, element)| Some(element)).collect()
                }
            };
            for element in elements {
                let inner = resolve::Context { element: element.or(context.element), ..context };
                for (output_at, column) in &columns {
                    let from = &output.columns[*column].from;
                    visit((*output_at, *column), inner.first(from));
                }
            }
        }
    }

    fn computed(&self, content: &Content<'_>) -> std::result::Result<Option<Json>, Refusal> {
        let Some(compute) = self.stream.compute else { return Ok(None) };
        match content {
            Content::Json { element, .. } => compute(element).map(Some),
            Content::Columns { names, values, .. } => compute(&object_of(names, values)).map(Some),
            Content::Broken { .. } | Content::Duplicate { .. } => Ok(None),
        }
    }

    /// The redactor that keeps secrets out of everything stored.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    fn outputs(&mut self, context: &resolve::Context<'_>, out: &mut Derived) {
        for at in 0..self.order.len() {
            let index = self.order[at];
            let output = &self.stream.outputs[index];
            let before = (out.rows.len(), out.notes.len());
            match &output.each {
                None => self.row(index, output, 0, context, out),
                Some(each) => self.elements(index, output, each, context, out),
            }
            if out.fate == Fate::Rejected {
                self.mentions.forget_pending();
                return;
            }
            if output.mention
                && let Some(row) = out.rows.get(before.0)
                && self.mentions.is_known(index, &out.buffer[row.range.clone()])
            {
                out.buffer.truncate(row.range.start);
                out.rows.truncate(before.0);
                out.notes.truncate(before.1);
            }
        }
        self.mentions.keep_pending();
    }

    fn elements(
        &mut self,
        index: usize,
        output: &OutputPlan,
        each: &From,
        context: &resolve::Context<'_>,
        out: &mut Derived,
    ) {
        let members = context.members(each);
        for (position, (key, element)) in members.into_iter().enumerate() {
            let position_text = position.to_string();
            let inner = resolve::Context {
                element: Some(element),
                element_key: Some(key.unwrap_or(position_text.as_bytes())),
                ..*context
            };
            let number = u32::try_from(position).unwrap_or(u32::MAX);
            self.row(index, output, number, &inner, out);
        }
    }

    fn row(
        &mut self,
        index: usize,
        output: &OutputPlan,
        element: u32,
        context: &resolve::Context<'_>,
        out: &mut Derived,
    ) {
        if output.when.as_ref().is_some_and(|when| context.is_empty(when)) {
            return;
        }
        if let Some((value, rule)) = &output.skip
            && context.is_empty(value)
        {
            let original = context.element.map(Json::to_source_text).unwrap_or_default();
            out.skips.push(RowSkip {
                output: index,
                element,
                rule: rule.clone(),
                original_hash: crate::canonical::sha256(&original),
            });
            if index == 0 {
                out.fate = Fate::Skipped;
            }
            return;
        }
        let start = out.buffer.len();
        let notes_before = out.notes.len();
        for (position, column) in output.columns.iter().enumerate() {
            if let Some(constant) = &column.constant {
                out.buffer.extend_from_slice(constant);
                continue;
            }
            self.scratch.clear();
            let value = self.resolver.of_column((index, position), &column.from, context);
            match column.cast.encode(value, &mut out.buffer, &mut self.scratch) {
                // Hardly any value has one.
                Ok(()) if self.scratch.is_empty() && column.original.is_none() => {}
                Ok(()) if self.scratch.is_empty() => {
                    let original = column.original.as_ref().and_then(|original| {
                        let original = context.first(std::slice::from_ref(original));
                        column.cast.computed_note(original, value)
                    });
                    let row = out.rows.len();
                    out.notes.extend(original.map(|note| RowNote { row, column: position, note }));
                }
                Ok(()) => out.notes.extend(self.scratch.drain(..).map(|note| RowNote {
                    row: out.rows.len(),
                    column: position,
                    note,
                })),
                Err(refusal) => {
                    out.buffer.truncate(start);
                    out.notes.truncate(notes_before);
                    out.reject(index, element, Some(position), refusal);
                    if self.surveys {
                        self.survey(index, output, element, context, out);
                    }
                    return;
                }
            }
        }
        if let Some(position) = null_key(output, &out.buffer[start..]) {
            out.buffer.truncate(start);
            out.notes.truncate(notes_before);
            let refusal = Refusal::new("null_key", "the key is NULL, so no row can be found by it");
            out.reject(index, element, Some(position), refusal);
            return;
        }
        out.rows.push(Row { output: index, element, range: start..out.buffer.len() });
    }
}

impl Deriver<'_> {
    /// Asks every cast of a refused row.
    fn survey(
        &mut self,
        index: usize,
        output: &OutputPlan,
        element: u32,
        context: &resolve::Context<'_>,
        out: &mut Derived,
    ) {
        let end = out.buffer.len();
        for (position, column) in output.columns.iter().enumerate() {
            if column.constant.is_some() {
                continue;
            }
            self.scratch.clear();
            let value = context.first(&column.from);
            let outcome = column.cast.encode(value, &mut out.buffer, &mut self.scratch);
            let outcome = outcome.map(|()| self.scratch.iter().map(|note| note.rule).collect());
            out.buffer.truncate(end);
            out.surveyed.push(SurveyedCast { output: index, element, column: position, outcome });
        }
    }
}

/// What the `from`s of a record can reach; None where it holds no values.
fn context_of<'a>(
    record: &'a SourceRecord<'_>,
    computed: Option<&'a Json>,
) -> Option<resolve::Context<'a>> {
    let plain = resolve::Context {
        file: record.file,
        names: &[],
        values: &[],
        element: None,
        root: None,
        computed,
        element_key: None,
    };
    match &record.content {
        Content::Columns { names, values, companion } => {
            Some(resolve::Context { names, values, root: *companion, ..plain })
        }
        Content::Json { element, root, .. } => {
            Some(resolve::Context { element: Some(element), root: Some(root), ..plain })
        }
        Content::Broken { .. } | Content::Duplicate { .. } => None,
    }
}

/// A record with columns as an object of them, for functions that compute.
fn object_of(names: &[String], values: &[Value<'_>]) -> Json {
    let members = names.iter().zip(values).map(|(name, value)| {
        let value = match value {
            Value::Null => Json::Null,
            Value::Integer(number) => Json::Number(number.to_string().into()),
            Value::Real(number) => Json::Number(number.to_string().into()),
            Value::Text(bytes) | Value::Blob(bytes) => Json::String((*bytes).into()),
            Value::Json(json) => (*json).clone(),
        };
        (name.as_bytes().into(), value)
    });
    Json::Object(members.collect())
}

/// The first key column whose field is NULL.
fn null_key(output: &OutputPlan, fields: &[u8]) -> Option<usize> {
    if output.is_content {
        return None;
    }
    let mut at = 0;
    for position in 0..=output.key.iter().copied().max()? {
        let head = fields.get(at..at + 4)?;
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if length < 0 && output.key.contains(&position) {
            return Some(position);
        }
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    None
}

impl Derived {
    /// Empties everything, keeping the allocations.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.rows.clear();
        self.notes.clear();
        self.refusals.clear();
        self.skips.clear();
        self.surveyed.clear();
        self.fate = Fate::Stored;
    }

    /// Encoded fields of a row.
    #[must_use]
    pub fn fields(&self, row: &Row) -> &[u8] {
        &self.buffer[row.range.clone()]
    }

    fn reject(&mut self, output: usize, element: u32, column: Option<usize>, refusal: Refusal) {
        if output == 0 {
            self.buffer.clear();
            self.rows.clear();
            self.notes.clear();
            self.skips.clear();
            self.refusals.clear();
            self.fate = Fate::Rejected;
        }
        self.refusals.push(RowRefusal { output, element, column, refusal });
    }
}

/// Locator text of a row of a record: the record's own, and the element where there is one.
#[must_use]
pub fn row_locator(record: &SourceRecord<'_>, output: &OutputPlan, element: u32) -> String {
    if output.each.is_some() {
        format!("{}, {} {element}", record.locator, output.name)
    } else {
        record.locator.to_string()
    }
}

/// A value of a record as a short text for keys in rejects.
#[must_use]
pub fn show_value(value: &Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Blob(blob) => format!("x'{}'", hex::encode(blob)),
        Value::Json(json) => match json {
            Json::String(text) => String::from_utf8_lossy(text).into_owned(),
            other => String::from_utf8_lossy(&other.to_source_text()).into_owned(),
        },
    }
}
