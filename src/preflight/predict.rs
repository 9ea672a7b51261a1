//! What a backfill will make of a stream's records: its own casts, then its rules about keys.

use std::collections::{BTreeMap, HashSet};

use crate::derive::{Derived, Fate, output_name, row_locator};
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::{OutputPlan, StreamPlan};
use crate::preflight::keys::{Marks, Seen, Short, mark, short};
use crate::preflight::references::References;
use crate::preflight::report::{
    ColumnCensus, KeyCensus, OutputCensus, Place, Predicted, Reason, RowPrediction,
};
use crate::source::SourceRecord;

/// Predicts one stream.
#[derive(Debug)]
pub(super) struct Predictor<'p> {
    index: usize,
    predicted: Predicted,
    outputs: Vec<OutputTally<'p>>,
}

/// Counts of one output.
#[derive(Debug)]
struct OutputTally<'p> {
    output: &'p OutputPlan,
    name: String,
    columns: Vec<ColumnTally>,
    /// Rows that came to the casts.
    cast: u64,
    refused: BTreeMap<String, Reason>,
    skipped: BTreeMap<String, Reason>,
    rows: RowPrediction,
    /// None where the source itself keeps the key unique.
    seen: Option<Marks>,
    key: KeyCensus,
    uniques: Vec<Unique>,
}

/// A unique key of the target other than the plan's.
#[derive(Debug)]
struct Unique {
    positions: Vec<usize>,
    seen: Marks,
}

#[derive(Debug, Default)]
struct ColumnTally {
    nulls: u64,
    ledger: u64,
    reject: u64,
    rules: BTreeMap<String, Reason>,
    reasons: BTreeMap<String, Reason>,
}

/// What becomes of a row whose values can all be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowFate {
    Stored,
    Superseded,
    Skipped,
    Rejected,
}

fn count(reasons: &mut BTreeMap<String, Reason>, name: &str, place: &dyn Fn() -> Place, why: &str) {
    if let Some(reason) = reasons.get_mut(name) {
        reason.count += 1;
        return;
    }
    let reason = Reason { count: 1, first: place(), detail: why.to_owned() };
    reasons.insert(name.to_owned(), reason);
}

impl<'p> Predictor<'p> {
    /// `guarded` says of each output whether the source itself keeps its key unique.
    pub(super) fn new(stream: &'p StreamPlan, index: usize, guarded: &[bool]) -> Self {
        let outputs = stream.outputs.iter().enumerate().map(|(at, output)| OutputTally {
            output,
            name: output_name(stream, at),
            columns: output.columns.iter().map(|_| ColumnTally::default()).collect(),
            cast: 0,
            refused: BTreeMap::new(),
            skipped: BTreeMap::new(),
            rows: RowPrediction::default(),
            seen: (!guarded[at]).then(Marks::default),
            key: KeyCensus {
                columns: output.key.iter().map(|at| output.columns[*at].name.clone()).collect(),
                ..KeyCensus::default()
            },
            uniques: uniques(output),
        });
        Self { index, predicted: Predicted::default(), outputs: outputs.collect() }
    }

    pub(super) fn rejects(&self) -> u64 {
        self.outputs.iter().map(|output| output.rows.rejected).sum()
    }

    /// Looks at one derived record of source number `source`.
    pub(super) fn see(
        &mut self,
        record: &SourceRecord<'_>,
        derived: &Derived,
        source: usize,
        references: &mut References,
    ) {
        self.predicted.read += 1;
        self.see_skips(record, derived);
        self.see_refusals(record, derived);
        self.see_casts(record, derived);
        // Rows of one record under one key are told apart from those of two.
        let mut here: HashSet<(usize, Short)> = HashSet::new();
        let mut is_lost = derived.fate == Fate::Rejected;
        for (at, row) in derived.rows.iter().enumerate() {
            let fields = derived.fields(row);
            let tally = &mut self.outputs[row.output];
            tally.see_cast(fields);
            if is_lost {
                continue;
            }
            // A value of a row that is refused is not stored, changed or not.
            let notes = derived.notes.iter().filter(|note| note.row == at).count() as u64;
            let place = || place(record, tally.output, row.element);
            let key = short(&tally.output.layout.key_digest(fields));
            let is_twin = !here.insert((row.output, key));
            let scene = Scene { source, is_twin, place: &place };
            let mut fate = match &mut tally.seen {
                None => RowFate::Stored,
                Some(seen) => {
                    let found = seen.see(
                        key,
                        mark(&tally.output.layout.row_digest(fields), source),
                        &mut references.budget,
                    );
                    let judge = Judge {
                        output: tally.output,
                        key: &mut tally.key,
                        refused: &mut tally.refused,
                        skipped: &mut tally.skipped,
                    };
                    judge.row(fields, found, &scene)
                }
            };
            if fate == RowFate::Stored && is_unique_elsewhere(tally, fields, key, references) {
                count(&mut tally.refused, "unique_collision", &place, &collision(tally.output));
                fate = RowFate::Rejected;
            }
            if fate == RowFate::Stored {
                let verdict =
                    references.follow(self.index, row.output, tally.output, fields, &place);
                if let Some(detail) = verdict.dangling {
                    count(&mut tally.refused, "orphan", &place, &detail);
                    fate = RowFate::Rejected;
                } else {
                    for at in verdict.nulled {
                        tally.columns[at].ledger += 1;
                        count(&mut tally.columns[at].rules, "orphan", &place, "");
                        self.predicted.ledgered += 1;
                    }
                    references.store(self.index, row.output, tally.output, fields);
                }
            }
            tally.rows.add(fate);
            self.predicted.ledgered += if fate == RowFate::Rejected { 0 } else { notes };
            is_lost = row.output == 0 && fate == RowFate::Rejected;
        }
    }

    fn see_skips(&mut self, record: &SourceRecord<'_>, derived: &Derived) {
        for skip in &derived.skips {
            let tally = &mut self.outputs[skip.output];
            tally.rows.skipped += 1;
            let place = || place(record, tally.output, skip.element);
            count(&mut tally.skipped, &skip.rule, &place, "");
        }
    }

    fn see_refusals(&mut self, record: &SourceRecord<'_>, derived: &Derived) {
        for refused in &derived.refusals {
            let tally = &mut self.outputs[refused.output];
            tally.rows.rejected += 1;
            let place = || place(record, tally.output, refused.element);
            let (reason, detail) = (refused.refusal.reason, &refused.refusal.detail);
            match refused.column {
                // Found once all casts had let the row through, so that none is asked again.
                Some(column) if reason == "null_key" => {
                    tally.cast += 1;
                    tally.columns[column].reject += 1;
                    count(&mut tally.columns[column].reasons, reason, &place, detail);
                }
                // Its column is among the surveyed.
                Some(_) => tally.cast += 1,
                None => count(&mut tally.refused, reason, &place, detail),
            }
        }
    }

    /// Values stored changed, and what the casts say of the rows that one of them refused.
    fn see_casts(&mut self, record: &SourceRecord<'_>, derived: &Derived) {
        let mut last = None;
        for noted in &derived.notes {
            let row = &derived.rows[noted.row];
            let tally = &mut self.outputs[row.output];
            let place = || place(record, tally.output, row.element);
            let column = &mut tally.columns[noted.column];
            // Notes of one value follow one another.
            if last != Some((noted.row, noted.column)) {
                column.ledger += 1;
                last = Some((noted.row, noted.column));
            }
            count(&mut column.rules, noted.note.rule, &place, "");
        }
        for cast in &derived.surveyed {
            let tally = &mut self.outputs[cast.output];
            let place = || place(record, tally.output, cast.element);
            let column = &mut tally.columns[cast.column];
            match &cast.outcome {
                Ok(rules) => {
                    column.ledger += u64::from(!rules.is_empty());
                    for rule in rules {
                        count(&mut column.rules, rule, &place, "");
                    }
                }
                Err(refusal) => {
                    column.reject += 1;
                    count(&mut column.reasons, refusal.reason, &place, &refusal.detail);
                }
            }
        }
    }

    /// Ends the stream; gives the keys' room back.
    pub(super) fn finish(mut self, references: &mut References) -> (Predicted, Vec<OutputCensus>) {
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (at, mut tally) in self.outputs.into_iter().enumerate() {
            let finished = references.finish(self.index, at);
            for late in finished.late {
                for column in &late.nulled {
                    let reason =
                        Reason { count: 0, first: late.first.clone(), detail: String::new() };
                    let tally = &mut tally.columns[*column];
                    tally.ledger += late.rows;
                    tally.rules.entry("orphan".to_owned()).or_insert(reason).count += late.rows;
                    self.predicted.ledgered += late.rows;
                }
                if !late.nulled.is_empty() {
                    continue;
                }
                let (rows, first, detail) = (late.rows, late.first, late.detail);
                let rows = rows.min(tally.rows.stored);
                tally.rows.stored -= rows;
                tally.rows.rejected += rows;
                let reason = Reason { count: 0, first, detail };
                tally.refused.entry("orphan".to_owned()).or_insert(reason).count += rows;
            }
            for seen in tally.seen.iter().chain(tally.uniques.iter().map(|unique| &unique.seen)) {
                references.budget.give_back(seen.len());
            }
            if at == 0 {
                self.predicted.records = tally.rows;
            } else {
                self.predicted.derived.insert(tally.name.clone(), tally.rows);
            }
            outputs.push(tally.census(finished.references));
        }
        (self.predicted, outputs)
    }
}

fn place(record: &SourceRecord<'_>, output: &OutputPlan, element: u32) -> Place {
    Place { source: record.file.relative.clone(), locator: row_locator(record, output, element) }
}

/// Where a row comes from.
struct Scene<'a> {
    source: usize,
    /// Whether an earlier row of the same record has its key.
    is_twin: bool,
    place: &'a dyn Fn() -> Place,
}

/// Judges a row by its key.
struct Judge<'a> {
    output: &'a OutputPlan,
    key: &'a mut KeyCensus,
    refused: &'a mut BTreeMap<String, Reason>,
    skipped: &'a mut BTreeMap<String, Reason>,
}

impl Judge<'_> {
    /// As the merge of a backfill does: identical rows are skipped; of different ones the later is
    /// refused, unless the conflict rule chooses, or they come from different files. A backfill
    /// sees this within a chunk only, and time ends chunks too: what it merges over an earlier
    /// chunk's row is predicted as a reject here.
    fn row(self, fields: &[u8], found: Seen, scene: &Scene<'_>) -> RowFate {
        let first = match found {
            Seen::New => return RowFate::Stored,
            Seen::Unknown => {
                self.key.not_checked += 1;
                return RowFate::Stored;
            }
            Seen::Before(first) => first,
        };
        self.key.repeated.add(scene.place);
        let own = mark(&self.output.layout.row_digest(fields), scene.source);
        let same_source = first & 0xff == own & 0xff;
        if first == own {
            count(self.skipped, "identical_duplicate", scene.place, "");
            return RowFate::Skipped;
        }
        if !same_source && first >> 8 == own >> 8 {
            // The target then holds the very row: unchanged.
            return RowFate::Stored;
        }
        match self.output.conflict {
            ConflictRule::Newer if !scene.is_twin => RowFate::Superseded,
            ConflictRule::TargetWins => RowFate::Superseded,
            ConflictRule::SourceWins | ConflictRule::Newer => {
                let detail = format!(
                    "an earlier row of the source has the same ({}) with other content",
                    self.key.columns.join(", ")
                );
                count(self.refused, "duplicate_key", scene.place, &detail);
                RowFate::Rejected
            }
        }
    }
}

/// Whether a row of another key has its values in a further unique key of the target.
fn is_unique_elsewhere(
    tally: &mut OutputTally<'_>,
    fields: &[u8],
    key: Short,
    references: &mut References,
) -> bool {
    let mut head = [0; 8];
    head.copy_from_slice(&key[..8]);
    let own = u64::from_be_bytes(head);
    let ranges = crate::canonical::fields_of(fields);
    let layout = &tally.output.layout;
    tally.uniques.iter_mut().any(|unique| {
        // NULLs are different from one another.
        if unique.positions.iter().any(|at| ranges[*at].is_none()) {
            return false;
        }
        let digest = short(&layout.digest_of(fields, unique.positions.iter().copied()));
        match unique.seen.see(digest, own, &mut references.budget) {
            Seen::Before(first) => first != own,
            Seen::New | Seen::Unknown => false,
        }
    })
}

fn collision(output: &OutputPlan) -> String {
    format!(
        "an earlier row has its values in another unique key of {}",
        output.table.display_name()
    )
}

/// The unique keys of the target beside the plan's, as far as the output writes them.
fn uniques(output: &OutputPlan) -> Vec<Unique> {
    let own: Vec<&str> = output.key.iter().map(|at| output.columns[*at].name.as_str()).collect();
    let others = output.table.unique_keys.iter().filter(|columns| {
        columns.len() != own.len() || columns.iter().any(|column| !own.contains(&column.as_str()))
    });
    others
        .filter_map(|columns| {
            let position = |name: &String| output.columns.iter().position(|c| c.name == *name);
            let positions: Option<Vec<usize>> = columns.iter().map(position).collect();
            positions.map(|positions| Unique { positions, seen: Marks::default() })
        })
        .collect()
}

impl RowPrediction {
    fn add(&mut self, fate: RowFate) {
        *match fate {
            RowFate::Stored => &mut self.stored,
            RowFate::Superseded => &mut self.superseded,
            RowFate::Skipped => &mut self.skipped,
            RowFate::Rejected => &mut self.rejected,
        } += 1;
    }
}

impl OutputTally<'_> {
    fn see_cast(&mut self, fields: &[u8]) {
        self.cast += 1;
        let mut at = 0;
        for column in &mut self.columns {
            let Some(head) = fields.get(at..at + 4) else { return };
            let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            column.nulls += u64::from(length < 0);
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
    }

    fn census(mut self, references: Vec<crate::preflight::ReferenceCensus>) -> OutputCensus {
        self.key.distinct = self.seen.as_ref().map(|seen| seen.len() as u64);
        let planned = self.output.columns.iter().enumerate().zip(self.columns);
        let columns = planned.filter(|((_, column), _)| column.constant.is_none()).map(
            |((at, column), tally)| ColumnCensus {
                column: column.name.clone(),
                ty: column.cast.ty().name(),
                not_null: self.output.catalog_column(at).is_some_and(|c| c.not_null),
                from: column.from.iter().map(ToString::to_string).collect(),
                lossless: self.cast - (tally.ledger + tally.reject).min(self.cast),
                nulls: tally.nulls,
                ledger: tally.ledger,
                reject: tally.reject,
                rules: tally.rules,
                reasons: tally.reasons,
            },
        );
        OutputCensus {
            output: self.output.name.clone(),
            target: self.output.table.display_name(),
            columns: columns.collect(),
            refused: self.refused,
            skipped: self.skipped,
            key: self.key,
            references,
        }
    }
}
