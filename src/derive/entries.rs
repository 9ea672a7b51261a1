//! Rejects and ledger entries of a record, made alike by whoever derives it.

use crate::cast::Original;
use crate::cast::redact::Redactor;
use crate::derive::{Derived, original_bytes, row_locator};
use crate::pack::plan::{OutputPlan, StreamPlan};
use crate::source::{Content, SourceRecord};

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

/// The rejects of a record's rows, with its original bytes, redacted.
pub fn reject_entries<'a>(
    stream: &'a StreamPlan,
    record: &'a SourceRecord<'_>,
    derived: &'a Derived,
    redactor: &'a Redactor,
) -> impl Iterator<Item = RejectEntry> + 'a {
    derived.refusals.iter().map(move |refused| {
        let output = &stream.outputs[refused.output];
        let (bytes, secret) = original_bytes(&record.content, redactor);
        RejectEntry {
            output: output_name(stream, refused.output),
            source: record.file.relative.clone(),
            locator: row_locator(record, output, refused.element),
            key: source_key(record, output, redactor),
            column: refused.column.map(|column| output.columns[column].name.clone()),
            reason: refused.refusal.reason.to_owned(),
            detail: refused.refusal.detail.clone(),
            record_sha256: crate::canonical::sha256(&bytes),
            record: Some(bytes),
            secret,
        }
    })
}

/// The record's key as the source has it, for people who look for it there.
fn source_key(
    record: &SourceRecord<'_>,
    output: &OutputPlan,
    redactor: &Redactor,
) -> Option<String> {
    let Content::Columns { names, values, .. } = &record.content else { return None };
    if output.is_content {
        return None;
    }
    let mut parts = Vec::new();
    for position in &output.key {
        let column = &output.columns[*position];
        for from in &column.from {
            let crate::pack::plan::From::Column(name) = from else { continue };
            let at = names.iter().position(|candidate| candidate.eq_ignore_ascii_case(name))?;
            let shown = crate::derive::show_value(&values[at]);
            let redacted = redactor.redact_text(shown.as_bytes());
            parts
                .push(redacted.map_or(shown, |redacted| {
                    String::from_utf8_lossy(&redacted.text).into_owned()
                }));
        }
    }
    let text = parts.join(", ");
    // Postgres text holds no NUL.
    (!text.is_empty()).then(|| text.replace('\0', "\u{fffd}").chars().take(400).collect())
}

/// Identity of a ledger entry: what parity recomputes and looks up. The original itself is not
/// part of it where it is a secret.
fn entry_hash(parts: &EntryParts<'_>) -> [u8; 32] {
    let mut text = Vec::new();
    for part in [parts.output, parts.source, parts.locator, parts.column, parts.rule, parts.path] {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text.extend_from_slice(&parts.original_hash);
    crate::canonical::sha256(&text)
}

/// What identifies a ledger entry within its stream.
#[derive(Debug, Clone, Copy)]
struct EntryParts<'a> {
    /// Output's name.
    output: &'a str,
    /// Source file.
    source: &'a str,
    /// Record and element.
    locator: &'a str,
    /// Target column; empty for a whole row.
    column: &'a str,
    /// The rule.
    rule: &'a str,
    /// JSON pointer inside the value; empty for a scalar.
    path: &'a str,
    /// [`original_hash`] of the note.
    original_hash: [u8; 32],
}

/// SHA-256 of the original bytes; for a secret its keyed hash.
fn original_hash(original: &Original) -> [u8; 32] {
    match original {
        Original::Bytes(bytes) => crate::canonical::sha256(bytes),
        Original::Secret(hash) => *hash,
    }
}
