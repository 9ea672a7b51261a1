//! What a comparison finds: differences with both values, and counts by table.

use std::collections::BTreeMap;

use crate::anime::doc::canonical;
use crate::cast::redact::Redactor;
use crate::cast::redact_shown;
use crate::json::Json;
use crate::parity::{Difference, Kind, UnitResult, shorten_pair};

/// The stream of all differences.
const STREAM: &str = crate::anime::ingest::STREAM;

/// A row of a table, named by its key.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) table: &'static str,
    pub(super) key: serde_json::Map<String, serde_json::Value>,
}

impl Row {
    pub(super) fn new(table: &'static str, key: &[(&str, &str)]) -> Self {
        let key = key.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        Self { table, key }
    }
}

/// A column with what the source says and what Postgres holds.
pub(super) type Changed = (String, Option<Json>, Option<Json>);

/// Counts of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) source: u64,
    pub(super) target: u64,
    pub(super) missing: u64,
    pub(super) extra: u64,
    pub(super) changed: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Found<'a> {
    redactor: &'a Redactor,
    differences_max: usize,
    pub(super) differences: Vec<Difference>,
    pub(super) tables: BTreeMap<&'static str, Tally>,
    /// Values that Postgres holds otherwise, as the review queue accounts for.
    pub(super) reviewed: u64,
    /// Values and rows that other artifacts told.
    pub(super) elsewhere: u64,
    /// Entries without a record of why they are not stored.
    pub(super) unaccounted: u64,
    /// Leaves read a second way, and those that were found nowhere.
    pub(super) leaves: (u64, u64),
}

impl<'a> Found<'a> {
    pub(super) fn new(redactor: &'a Redactor, differences_max: usize) -> Self {
        Self {
            redactor,
            differences_max,
            differences: Vec::new(),
            tables: BTreeMap::new(),
            reviewed: 0,
            elsewhere: 0,
            unaccounted: 0,
            leaves: (0, 0),
        }
    }

    pub(super) fn tally(&mut self, table: &'static str) -> &mut Tally {
        self.tables.entry(table).or_default()
    }

    /// All that differs so far, named or not.
    pub(super) fn total(&self) -> u64 {
        let rows = self.tables.values().map(|t| t.missing + t.extra + t.changed).sum::<u64>();
        rows + self.unaccounted + self.leaves.1
    }

    pub(super) fn missing(&mut self, row: Row, said: &str, locator: &str) {
        self.tally(row.table).missing += 1;
        self.name(Kind::Missing, row, None, (Some(said.to_owned()), None), locator);
    }

    pub(super) fn extra(&mut self, row: Row, stored: &str, locator: &str) {
        self.tally(row.table).extra += 1;
        self.name(Kind::Extra, row, None, (None, Some(stored.to_owned())), locator);
    }

    /// Columns of a row that differ; the row counts once.
    pub(super) fn changed(&mut self, row: &Row, columns: Vec<Changed>, locator: &str) {
        if columns.is_empty() {
            return;
        }
        self.tally(row.table).changed += 1;
        for (column, said, stored) in columns {
            let values = (said.as_ref().and_then(shown), stored.as_ref().and_then(shown));
            self.name(Kind::Changed, row.clone(), Some(column), values, locator);
        }
    }

    pub(super) fn unaccounted(&mut self, what: &str, locator: &str) {
        self.unaccounted += 1;
        let row = Row::new("anime", &[]);
        self.name(Kind::Unaccounted, row, None, (Some(what.to_owned()), None), locator);
    }

    /// A leaf of an entry that is nowhere among the rows of its anime.
    pub(super) fn lost(&mut self, row: Row, path: String, leaf: &str, locator: &str) {
        self.leaves.1 += 1;
        self.name(Kind::Miscast, row, Some(path), (Some(leaf.to_owned()), None), locator);
    }

    fn name(
        &mut self,
        kind: Kind,
        row: Row,
        column: Option<String>,
        (said, stored): (Option<String>, Option<String>),
        locator: &str,
    ) {
        if self.differences.len() >= self.differences_max {
            return;
        }
        let clean = |text: Option<String>| {
            let text = text?;
            let clean = redact_shown(text.as_bytes(), self.redactor);
            Some(String::from_utf8_lossy(&clean).into_owned())
        };
        let (source_value, target_value) = shorten_pair(clean(said), clean(stored));
        self.differences.push(Difference {
            column,
            source_value,
            target_value,
            locator: Some(locator.to_owned()),
            ..Difference::of_row(STREAM, row.table.to_owned(), kind, row.key)
        });
    }

    pub(super) fn units(&self) -> Vec<UnitResult> {
        let unit = |(table, tally): (&&'static str, &Tally)| UnitResult {
            against: crate::parity::Against::Source,
            target: (*table).to_owned(),
            source_rows: tally.source,
            target_rows: tally.target,
            missing: tally.missing,
            extra: tally.extra,
            changed: tally.changed,
            duplicates: 0,
            superseded: 0,
            sample: None,
            source_root: None,
            target_root: None,
        };
        self.tables.iter().map(unit).collect()
    }
}

/// A value as a person reads it; JSON null is none.
fn shown(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
        other => Some(canonical(other)),
    }
}
