//! One case: what is planted, and what each way of verifying has to say about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::parity::self_test::weakened::Weak;
use crate::parity::{Difference, Kind, Report, Verdict};

/// A way of verifying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Level counts.
    Counts,
    /// Level sample, with room for every key.
    Sample,
    /// Level sample, with room for a few keys.
    FewKeys,
    /// Level full, digests made by the client, differences found from disk.
    Client,
    /// Level full, digests made by the server.
    Server,
    /// Level full, digests made by the client, both stores read again.
    ReRead,
    /// Of what is derived from Postgres: the sidecar.
    Sidecar,
    /// The collection of points.
    Points,
}

impl Way {
    /// Those that compare tables with sources.
    pub const OF_TABLES: [Self; 6] =
        [Self::Counts, Self::Sample, Self::FewKeys, Self::Client, Self::Server, Self::ReRead];

    /// Those that compare what is derived with tables.
    pub const OF_DERIVED: [Self; 2] = [Self::Sidecar, Self::Points];

    /// A heading.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Sample => "sample",
            Self::FewKeys => "few keys",
            Self::Client => "client",
            Self::Server => "server",
            Self::ReRead => "re-read",
            Self::Sidecar => "sidecar",
            Self::Points => "points",
        }
    }
}

/// A difference as a case expects it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How the row differs.
    pub kind: Kind,
    /// Table.
    pub target: String,
    /// `column=value` of the key, comma separated.
    pub key: String,
    /// Column, where one value differs.
    pub column: Option<String>,
}

impl Finding {
    pub(super) fn row(kind: Kind, table: &str, key: impl Into<String>) -> Self {
        Self { kind, target: format!("public.{table}"), key: key.into(), column: None }
    }

    pub(super) fn changed(table: &str, key: impl Into<String>, column: &str) -> Self {
        Self { column: Some(column.to_owned()), ..Self::row(Kind::Changed, table, key) }
    }

    pub(super) fn of(difference: &Difference) -> Self {
        let key: Vec<String> = difference
            .key
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("NULL")))
            .collect();
        Self {
            kind: difference.kind,
            target: difference.target.clone(),
            key: key.join(","),
            column: difference.column.clone(),
        }
    }
}

/// One case.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) class: &'static str,
    /// Table, or table and column with its type.
    pub(super) place: String,
    /// Statements in the target.
    pub(super) plant: String,
    /// Statements in the source.
    pub(super) in_source: String,
    /// Statements in the target after its rows are restored.
    pub(super) undo: String,
    /// What has to be found; empty: nothing.
    pub(super) expected: BTreeSet<Finding>,
    /// Rows the target has more than the source, by table.
    pub(super) surplus: BTreeMap<String, i64>,
    /// Whether it counts on rows beside those it names, and so cannot be planted beside others.
    pub(super) stands_alone: bool,
    /// A way of comparing that must not see it, and the table.
    pub(super) weak: Option<(Weak, String)>,
}

impl Case {
    /// Whether it has to be found at all.
    pub(super) fn is_drift(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Records of rejects or changed values that are lost.
    fn unaccounted(&self) -> u64 {
        self.expected.iter().filter(|f| f.kind == Kind::Unaccounted).count() as u64
    }

    /// Whether it can be planted beside `other`, so that what is found is what either expects.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        self.expected.iter().all(|mine| {
            other.expected.iter().all(|theirs| {
                let is_same_row = mine.target == theirs.target && mine.key == theirs.key;
                let are_columns = mine.column.is_some() && theirs.column.is_some();
                !is_same_row || (are_columns && mine.column != theirs.column)
            })
        })
    }

    /// The one table in which it changes nothing but values of the target, if it does.
    pub(super) fn values_of(&self) -> Option<&str> {
        let first = self.expected.first()?;
        let is_one = |f: &Finding| f.column.is_some() && f.target == first.target;
        let is_plain = self.in_source.is_empty() && self.undo.is_empty();
        (is_plain && self.expected.iter().all(is_one)).then_some(&first.target)
    }

    /// The ways it is looked at: of changed values there are many, and nothing new to say about
    /// samples of a few keys.
    pub(super) fn ways(&self) -> impl Iterator<Item = Way> + use<> {
        let is_values = self.values_of().is_some();
        Way::OF_TABLES.into_iter().filter(move |way| !is_values || *way != Way::FewKeys)
    }

    /// Both planted at once.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.plant.push_str(";\n");
        self.plant.push_str(&other.plant);
        self.expected.extend(other.expected.iter().cloned());
        for (table, rows) in &other.surplus {
            *self.surplus.entry(table.clone()).or_default() += rows;
        }
        self.surplus.retain(|_, rows| *rows != 0);
        self
    }
}

/// What a way of verifying said about a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exactly what was planted was found.
    Found,
    /// Nothing was found where nothing is to be found.
    Clean,
    /// This way does not promise to find it, and found nothing else.
    NotPromised,
    /// What was planted was not found, or not all of it.
    Missed,
    /// Something was found that was not planted.
    FalseAlarm,
}

impl Outcome {
    /// Whether it is as promised.
    #[must_use]
    pub fn is_good(self) -> bool {
        !matches!(self, Self::Missed | Self::FalseAlarm)
    }
}

/// Judges what was reported about a case; with what was missed or too much, if anything was.
pub(super) fn judge(case: &Case, way: Way, report: &Report) -> (Outcome, Option<String>) {
    if way == Way::Counts {
        return judge_counts(case, report);
    }
    let found: BTreeSet<Finding> = report.differences.iter().map(Finding::of).collect();
    let missed: Vec<&Finding> = case.expected.difference(&found).collect();
    let alarms: Vec<&Finding> = found.difference(&case.expected).collect();
    let is_clean = report.verdict == Verdict::Clean;
    if !alarms.is_empty() || (!is_clean && !case.is_drift()) {
        return (Outcome::FalseAlarm, Some(format!("not planted: {alarms:?}")));
    }
    if way == Way::FewKeys {
        let is_promised = !case.surplus.is_empty() || case.unaccounted() > 0;
        return match (is_clean, is_promised) {
            (true, true) => (Outcome::Missed, Some("another number of rows".to_owned())),
            // Whether it is among the few is a matter of luck.
            (_, false) if case.is_drift() => (Outcome::NotPromised, None),
            (true, false) => (Outcome::Clean, None),
            (false, _) => (Outcome::Found, None),
        };
    }
    if !missed.is_empty() || (is_clean && case.is_drift()) {
        return (Outcome::Missed, Some(format!("not found: {missed:?}")));
    }
    (if case.is_drift() { Outcome::Found } else { Outcome::Clean }, None)
}

fn judge_counts(case: &Case, report: &Report) -> (Outcome, Option<String>) {
    let mut surplus: BTreeMap<String, i64> = BTreeMap::new();
    for unit in &report.units {
        let rows = unit.extra.cast_signed() - unit.missing.cast_signed();
        if rows != 0 {
            surplus.insert(unit.target.clone(), rows);
        }
    }
    let unaccounted: u64 = report.streams.iter().map(|stream| stream.unaccounted).sum();
    let is_as_planted = surplus == case.surplus && unaccounted == case.unaccounted();
    let is_silent = surplus.is_empty() && unaccounted == 0;
    let is_consistent = is_silent == (report.verdict == Verdict::Clean);
    if is_as_planted && is_consistent {
        let outcome = match (is_silent, case.is_drift()) {
            (true, true) => Outcome::NotPromised,
            (true, false) => Outcome::Clean,
            (false, _) => Outcome::Found,
        };
        return (outcome, None);
    }
    let detail = format!("rows {surplus:?} instead of {:?}", case.surplus);
    let is_missed = case.surplus.iter().any(|(table, rows)| surplus.get(table) != Some(rows))
        || unaccounted < case.unaccounted();
    (if is_missed { Outcome::Missed } else { Outcome::FalseAlarm }, Some(detail))
}
