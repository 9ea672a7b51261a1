//! What a census says: the JSON document, and the numbers its table is made of.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::pack::units::InferredUnit;
use crate::preflight::names::FileCensus;
use crate::preflight::values::ValueCensus;

/// The census of a pack's sources against its target.
#[derive(Debug, Clone, Serialize)]
pub struct Census {
    /// The pack.
    pub pack: String,
    /// Its version.
    pub version: i32,
    /// Per stream, in the order they are copied.
    pub streams: Vec<StreamCensus>,
    /// Streams of the pack without any source here.
    pub absent: Vec<String>,
    /// Per `SQLite` file: names, and references that lead nowhere by its own declarations.
    pub files: Vec<FileCensus>,
    /// What no census can foresee: checks, triggers and types that only Postgres judges.
    pub left_to_postgres: Vec<String>,
    /// Sources that changed while they were counted: the numbers may be of no one moment.
    pub changed_sources: Vec<String>,
    /// Units of numeric timestamps that were found in the columns themselves.
    pub inferred_units: Vec<InferredUnit>,
    /// Records read.
    pub read: u64,
    /// Rejected records and rows that are predicted.
    pub rejects: u64,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// One stream.
#[derive(Debug, Clone, Serialize)]
pub struct StreamCensus {
    /// Stream.
    pub stream: String,
    /// Source files; of many documents the first ones.
    pub sources: Vec<String>,
    /// How many source files there are.
    pub files: u64,
    /// What becomes of its records and of the rows beside them.
    pub predicted: Predicted,
    /// Per output, the record's own first.
    pub outputs: Vec<OutputCensus>,
    /// Per source column or pointer.
    pub values: Vec<ValueCensus>,
}

/// What is predicted of a stream's records. Whether a stored row is new in the target, replaces
/// another or is there already is not told apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Predicted {
    /// Records.
    pub read: u64,
    /// The records' own rows.
    pub records: RowPrediction,
    /// Values stored changed, with a ledger entry each.
    pub ledgered: u64,
    /// Rows beside the records' own, by output.
    pub derived: BTreeMap<String, RowPrediction>,
}

impl Predicted {
    /// Rejected records and rows.
    #[must_use]
    pub fn rejects(&self) -> u64 {
        self.records.rejected + self.derived.values().map(|rows| rows.rejected).sum::<u64>()
    }
}

/// What is predicted of the rows of one output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowPrediction {
    /// In the target afterwards.
    pub stored: u64,
    /// Another row of the source under the same key is kept, by the stream's conflict rule.
    pub superseded: u64,
    /// Left out by a rule: identical duplicates, and what `skip` names.
    pub skipped: u64,
    /// Refused.
    pub rejected: u64,
}

/// Where something was first met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Source file.
    pub source: String,
    /// Place in it.
    pub locator: String,
}

impl std::fmt::Display for Place {
    /// The locator; the file's name with it where the locator alone does not lead to it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.source.rsplit('/').next().unwrap_or_default();
        match self.locator.strip_prefix("document") {
            Some(rest) => write!(f, "{name}{rest}"),
            None if self.locator.starts_with("record") => write!(f, "{name}, {}", self.locator),
            None => f.write_str(&self.locator),
        }
    }
}

/// `4,096`
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How often, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// Where first.
    pub first: Option<Place>,
}

impl Counted {
    /// Adds what was counted elsewhere, after this.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        if self.first.is_none() {
            self.first.clone_from(&other.first);
        }
    }

    /// Counts one more.
    pub(super) fn add(&mut self, place: impl FnOnce() -> Place) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(place());
        }
    }
}

/// How often something is refused or stored changed, and the first time in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How often.
    pub count: u64,
    /// Where first.
    pub first: Place,
    /// One sentence about the first; empty for ledger rules.
    pub detail: String,
}

/// One output of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct OutputCensus {
    /// Output; the first of a stream is the record itself.
    pub output: String,
    /// Target table.
    pub target: String,
    /// Per target column that comes from the source.
    pub columns: Vec<ColumnCensus>,
    /// Rows refused for no single column: documents that cannot be read, keys, references.
    pub refused: BTreeMap<String, Reason>,
    /// Rows left out by a rule.
    pub skipped: BTreeMap<String, Reason>,
    /// Uniqueness of the key.
    pub key: KeyCensus,
    /// Foreign keys of the target.
    pub references: Vec<ReferenceCensus>,
}

/// The planned cast of one target column. Every row that comes to the casts is lossless, ledger or
/// reject here, whatever the other columns say of it; a backfill names only the first column that
/// refuses a row.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnCensus {
    /// Target column.
    pub column: String,
    /// Its type.
    pub ty: String,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Where its value comes from, as in `pack.toml`.
    pub from: Vec<String>,
    /// Can be stored as they are, NULL included.
    pub lossless: u64,
    /// Stored as NULL, among the rows that every column lets through.
    pub nulls: u64,
    /// Can be stored changed, with ledger entries.
    pub ledger: u64,
    /// Refused by this column.
    pub reject: u64,
    /// Ledger entries by rule.
    pub rules: BTreeMap<String, Reason>,
    /// Refusals by reason.
    pub reasons: BTreeMap<String, Reason>,
}

/// Uniqueness of an output's key among the rows of the source.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyCensus {
    /// Key columns.
    pub columns: Vec<String>,
    /// Different keys; None where the source itself keeps them unique and they are not counted.
    pub distinct: Option<u64>,
    /// Rows whose key an earlier row has.
    pub repeated: Counted,
    /// Rows not looked at because too many keys had to be remembered.
    pub not_checked: u64,
}

/// One foreign key of an output's target.
#[derive(Debug, Clone, Serialize)]
pub struct ReferenceCensus {
    /// Constraint.
    pub constraint: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Referenced table.
    pub target: String,
    /// Rows whose reference leads to a row of this pack or of the target as it is.
    pub found: u64,
    /// Rows without a reference.
    pub nulls: u64,
    /// Rows whose reference leads nowhere: refused.
    pub dangling: Counted,
    /// Rows not looked at.
    pub not_checked: u64,
    /// Why not.
    pub not_checked_because: Option<String>,
}
