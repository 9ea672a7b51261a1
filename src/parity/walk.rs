//! Walking a source in the target's type domain: what should be there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::canonical::{Digest, Layout, display_row, sha256, with_nulls};
use crate::derive::{
    CORRECTED, Corrected, Derived, Deriver, Fate, LedgerEntry, note_entries, output_name,
    reject_entries, row_locator, skip_entries,
};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::manners::{Amount, Pace};
use crate::pack::OpenedPack;
use crate::pack::plan::{OutputPlan, StreamPlan};
use crate::parity::accounts::{Accounts, RowAccount};
use crate::parity::marks::Marks;
use crate::source::{Flow, Position, SourceRecord};

/// One row the source yields for a unit.
pub(crate) struct Expected<'a> {
    pub(crate) stream: usize,
    pub(crate) output: usize,
    pub(crate) tuple: &'a [u8],
    /// 0-based number of the record in its stream.
    pub(crate) ordinal: u64,
    /// The recorded decision that the target holds another row, if there is one.
    pub(crate) account: Option<&'a RowAccount>,
    pub(crate) record: &'a SourceRecord<'a>,
    pub(crate) element: u32,
    layout: &'a Layout,
    /// Digest of the row, where it was needed already.
    digest: Option<Digest>,
    derived: &'a Derived,
    /// Position in the record's derived rows.
    number: usize,
    /// References that are stored as NULL because they lead nowhere.
    nulled: &'a [usize],
    /// Whether it stands in place of what the source holds, by a retry.
    pub(crate) is_corrected: bool,
    /// Rows without a key: as many as the source has must be there.
    pub(crate) is_content: bool,
}

impl Expected<'_> {
    /// Digest of the row's key.
    pub(crate) fn key(&self) -> Digest {
        self.layout.key_digest(self.tuple)
    }

    /// Digest of the row.
    pub(crate) fn row(&self) -> Digest {
        self.digest.unwrap_or_else(|| self.layout.row_digest(self.tuple))
    }

    /// Digest of the row, where it was needed already.
    pub(crate) fn known_digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Columns whose value a rule stored changed.
    pub(crate) fn noted_columns(&self) -> Vec<usize> {
        let notes = self.derived.notes.iter().filter(|note| note.row == self.number);
        notes.map(|note| note.column).chain(self.nulled.iter().copied()).collect()
    }

    /// File and place in it, for people.
    pub(crate) fn place(&self, plan: &OutputPlan) -> String {
        let locator = row_locator(self.record, plan, self.element);
        format!("{}, {locator}", self.record.file.relative)
    }
}

/// Something backfill should have recorded and did not.
#[derive(Debug, Clone)]
pub(crate) struct Unaccounted {
    pub(crate) output: usize,
    pub(crate) what: String,
    pub(crate) source: String,
    pub(crate) locator: String,
}

/// What a walk over one stream counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamTally {
    pub(crate) read: u64,
    pub(crate) rejected: u64,
    pub(crate) skipped: u64,
    pub(crate) superseded: u64,
    pub(crate) ledgered: u64,
    /// Refused records and rows in whose place a correction is expected.
    pub(crate) corrected: u64,
    pub(crate) unaccounted: u64,
    /// Rows that retention removed, by unit.
    pub(crate) removed: BTreeMap<usize, u64>,
    pub(crate) examples: Vec<Unaccounted>,
}

/// Examples of unaccounted entries kept in memory.
const EXAMPLES_MAX: usize = 1000;

impl StreamTally {
    fn unaccounted(&mut self, entry: Unaccounted) {
        self.unaccounted += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(entry);
        }
    }
}

/// Receives a row of the source.
pub(crate) type SourceSink<'s> = dyn FnMut(&Expected<'_>) -> Result<()> + 's;

/// Records read in one transaction: in rollback-journal mode an open one blocks writers.
const RECORDS_AT_ONCE: u64 = 50_000;

/// A stream to be walked. Blocking: runs on a thread of its own.
#[derive(Clone, Copy)]
pub(crate) struct SourceWalk<'a> {
    pub(crate) opened: &'a OpenedPack,
    pub(crate) stream: usize,
    pub(crate) accounts: &'a Accounts,
    pub(crate) stop: &'a Stop,
    pub(crate) pace: &'a Pace,
}

/// Records that were read since the reader last asked whether to go on.
struct Portion<'a> {
    pace: &'a Pace,
    stop: &'a Stop,
    read: Amount,
}

impl<'a> Portion<'a> {
    fn new(walk: &SourceWalk<'a>) -> Self {
        Self { pace: walk.pace, stop: walk.stop, read: Amount::default() }
    }

    /// Counts a record, and says whether to pause after it.
    fn count(&mut self, derived: &Derived) -> Flow {
        let bytes: usize = derived.rows.iter().map(|row| derived.fields(row).len()).sum();
        self.read.rows += 1;
        self.read.bytes += bytes as u64;
        let is_due = self.pace.is_slow() && self.pace.is_due(self.read);
        if is_due || self.read.rows >= RECORDS_AT_ONCE { Flow::Pause } else { Flow::Continue }
    }

    /// Accounts for what was read, and waits until the next portion may be.
    fn wait(&mut self) -> Result<()> {
        self.pace.wait_blocking(std::mem::take(&mut self.read), self.stop)
    }
}

impl SourceWalk<'_> {
    /// Derives every record and hands out the rows that are not accounted as rejected or skipped;
    /// leaves marks to come back to.
    pub(crate) fn all(
        &self,
        mut marks: Option<&mut Marks>,
        sink: &mut SourceSink<'_>,
    ) -> Result<StreamTally> {
        let plan = &self.opened.plan.streams[self.stream];
        let mut deriver = Deriver::new(plan, Arc::clone(&self.opened.redactor));
        let mut derived = Derived::default();
        let mut tally = StreamTally::default();
        let mut corrector = Corrector::new(self);
        let mut removed: BTreeMap<usize, u64> = BTreeMap::new();
        let sink = &mut |expected: &Expected<'_>| match self.removed_from(expected) {
            Some(unit) => {
                *removed.entry(unit).or_default() += 1;
                Ok(())
            }
            None => sink(expected),
        };
        for (number, mut source) in self.opened.open_sources(self.stream)?.into_iter().enumerate() {
            let mut from: Option<Position> = None;
            if let Some(marks) = &mut marks {
                marks.set(tally.read, number, None);
            }
            let mut portion = Portion::new(self);
            portion.wait()?;
            loop {
                from = source.read(from.as_ref(), &mut |record| {
                    deriver.derive(record, &mut derived)?;
                    let ordinal = tally.read;
                    let walk = self.record(record, &derived, ordinal);
                    walk.run(&mut tally, deriver.redactor(), sink)?;
                    corrector.corrected(&walk, &mut tally, sink)?;
                    if let Some(marks) = &mut marks
                        && marks.are_due(tally.read)
                    {
                        marks.set(tally.read, number, Some(record.position.clone()));
                    }
                    Ok(portion.count(&derived))
                })?;
                self.stop.check()?;
                portion.wait()?;
                if from.is_none() {
                    break;
                }
            }
        }
        tally.removed = removed;
        Ok(tally)
    }

    /// The unit of a row that retention removed from the target.
    fn removed_from(&self, expected: &Expected<'_>) -> Option<usize> {
        let output = &self.opened.plan.streams[expected.stream].outputs[expected.output];
        let removed = &self.opened.plan.units[output.unit].removed;
        let is_removed = removed.iter().any(|before| before.covers(output, expected.tuple));
        is_removed.then_some(output.unit)
    }

    /// Hands out the rows of the records of these numbers (ascending), without reading the others
    /// more than it must.
    pub(crate) fn at(
        &self,
        ordinals: &[u64],
        marks: &Marks,
        sink: &mut SourceSink<'_>,
    ) -> Result<()> {
        let plan = &self.opened.plan.streams[self.stream];
        let mut deriver = Deriver::new(plan, Arc::clone(&self.opened.redactor));
        let mut derived = Derived::default();
        let mut sources = self.opened.open_sources(self.stream)?;
        let mut corrector = Corrector::new(self);
        let mut wanted = ordinals.iter().copied().peekable();
        while let Some(first) = wanted.peek().copied() {
            let Some(mark) = marks.before(first) else { return Ok(()) };
            let Some(source) = sources.get_mut(mark.source) else { return Ok(()) };
            let mut ordinal = mark.ordinal;
            let mut from = mark.position.clone();
            let mut portion = Portion::new(self);
            portion.wait()?;
            // A reader also pauses by itself, where others wait for it.
            loop {
                self.stop.check()?;
                from = source.read(from.as_ref(), &mut |record| {
                    if wanted.next_if_eq(&ordinal).is_some() {
                        deriver.derive(record, &mut derived)?;
                        let walk = self.record(record, &derived, ordinal);
                        let tally = &mut StreamTally::default();
                        walk.rows(tally, &walk.refused_rows(), sink)?;
                        corrector.corrected(&walk, tally, sink)?;
                    }
                    ordinal += 1;
                    let flow = portion.count(&derived);
                    let is_far = wanted.peek().is_none_or(|next| marks.is_nearer(*next, ordinal));
                    Ok(if is_far { Flow::Pause } else { flow })
                })?;
                portion.wait()?;
                let is_far = wanted.peek().is_none_or(|next| marks.is_nearer(*next, ordinal));
                if from.is_none() || is_far {
                    break;
                }
            }
            // The source ended early: what was there is gone, and the row shown without it.
            if wanted.peek() == Some(&first) {
                wanted.next();
            }
        }
        Ok(())
    }

    fn record<'w>(
        &'w self,
        record: &'w SourceRecord<'w>,
        derived: &'w Derived,
        ordinal: u64,
    ) -> RecordWalk<'w> {
        let plan = &self.opened.plan.streams[self.stream];
        let (stream, accounts) = (self.stream, self.accounts);
        RecordWalk { plan, stream, accounts, record, derived, ordinal, is_corrected: false }
    }
}

/// Whether a derived row was refused by Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    No,
    Itself,
    WithItsRecord,
}

/// Derives the corrections that stand in place of refused records and rows.
struct Corrector<'p> {
    walk: SourceWalk<'p>,
    deriver: Deriver<'p>,
    derived: Derived,
}

impl<'p> Corrector<'p> {
    fn new(walk: &SourceWalk<'p>) -> Self {
        let plan = &walk.opened.plan.streams[walk.stream];
        let deriver = Deriver::new(plan, Arc::clone(&walk.opened.redactor));
        Self { walk: *walk, deriver, derived: Derived::default() }
    }

    /// Hands out the rows that the target holds in place of what the source still has.
    fn corrected(
        &mut self,
        found: &RecordWalk<'_>,
        tally: &mut StreamTally,
        sink: &mut SourceSink<'_>,
    ) -> Result<()> {
        let plan = found.plan;
        for skip in found.derived.skips.iter().filter(|skip| skip.rule == CORRECTED) {
            let place = found.place(skip.output, skip.element);
            let correction = plan.corrections.find(&place, &skip.original_hash);
            tally.corrected += u64::from(correction.is_some());
            match correction.map(|correction| &correction.stored) {
                None => {}
                Some(Corrected::Row(tuple)) => sink(&Expected {
                    stream: found.stream,
                    output: skip.output,
                    tuple,
                    ordinal: found.ordinal,
                    account: None,
                    record: found.record,
                    element: skip.element,
                    layout: &plan.outputs[skip.output].layout,
                    digest: None,
                    derived: found.derived,
                    number: usize::MAX,
                    nulled: &[],
                    is_corrected: true,
                    is_content: plan.outputs[skip.output].is_content,
                })?,
                Some(Corrected::Record(held)) => {
                    let (deriver, derived) = (&mut self.deriver, &mut self.derived);
                    let walk = &self.walk;
                    held.with(|record| -> Result<()> {
                        deriver.derive(record, derived)?;
                        if skip.output > 0 {
                            derived.only(skip.output, skip.element);
                        }
                        let walk = walk.record(record, derived, found.ordinal);
                        let walk = RecordWalk { is_corrected: true, ..walk };
                        // It was counted as the record of the source that it stands for.
                        let read = tally.read;
                        walk.run(tally, deriver.redactor(), sink)?;
                        tally.read = read;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }
}

struct RecordWalk<'a> {
    plan: &'a StreamPlan,
    stream: usize,
    accounts: &'a Accounts,
    record: &'a SourceRecord<'a>,
    derived: &'a Derived,
    ordinal: u64,
    /// Whether the record stands in place of one the source holds.
    is_corrected: bool,
}

impl RecordWalk<'_> {
    fn run(
        &self,
        tally: &mut StreamTally,
        redactor: &crate::cast::redact::Redactor,
        sink: &mut SourceSink<'_>,
    ) -> Result<()> {
        let refused = self.refused_rows();
        self.account(tally, redactor, &refused);
        self.rows(tally, &refused, sink)
    }

    /// Positions of the rows that Postgres refused, by record of the rejects; without the
    /// record's own row none of its rows was written.
    fn refused_rows(&self) -> Vec<Refused> {
        if self.accounts.is_plain() {
            return Vec::new();
        }
        let mut refused: Vec<Refused> = Vec::with_capacity(self.derived.rows.len());
        let mut is_lost = false;
        for row in &self.derived.rows {
            let output = &self.plan.outputs[row.output];
            let tuple = self.derived.fields(row);
            let place = self.place(row.output, row.element);
            let is_refused = self.accounts.has_reject(&place, &refused_sha256(output, tuple));
            is_lost |= is_refused && row.output == 0;
            refused.push(match (is_refused, is_lost) {
                (true, _) => Refused::Itself,
                (false, true) if !output.mention => Refused::WithItsRecord,
                (false, _) => Refused::No,
            });
        }
        refused
    }

    fn place(&self, output: usize, element: u32) -> (String, String, String) {
        (
            output_name(self.plan, output),
            self.record.file.relative.clone(),
            row_locator(self.record, &self.plan.outputs[output], element),
        )
    }

    /// Counts the record, and checks that rejects, skips and changed values are recorded.
    fn account(
        &self,
        tally: &mut StreamTally,
        redactor: &crate::cast::redact::Redactor,
        refused: &[Refused],
    ) {
        tally.read += 1;
        match self.derived.fate {
            Fate::Stored => {}
            Fate::Skipped => tally.skipped += u64::from(!self.is_left_to_a_correction()),
            Fate::Rejected => tally.rejected += 1,
        }
        for (refused, entry) in self.derived.refusals.iter().zip(reject_entries(
            self.plan,
            self.record,
            self.derived,
            redactor,
        )) {
            let place = (entry.output.clone(), entry.source.clone(), entry.locator.clone());
            if refused.output > 0 {
                tally.rejected += 1;
            }
            if !self.accounts.has_reject(&place, &entry.record_sha256) {
                tally.unaccounted(Unaccounted {
                    output: refused.output,
                    what: format!("reject `{}` is not recorded: {}", entry.reason, entry.detail),
                    source: entry.source,
                    locator: entry.locator,
                });
            }
        }
        let notes = note_entries(self.plan, self.record, self.derived);
        for (note, entry) in self.derived.notes.iter().zip(notes) {
            if refused.get(note.row).is_none_or(|refused| *refused == Refused::No) {
                tally.ledgered += 1;
                self.ledgered(tally, entry);
            }
        }
        for entry in skip_entries(self.plan, self.record, self.derived) {
            self.ledgered(tally, entry);
        }
    }

    /// Whether the record itself is left out because a correction stands in its place.
    fn is_left_to_a_correction(&self) -> bool {
        self.derived.skips.iter().any(|skip| skip.output == 0 && skip.rule == CORRECTED)
    }

    fn ledgered(&self, tally: &mut StreamTally, entry: LedgerEntry) {
        if self.accounts.has_entry(&entry.hash()) {
            return;
        }
        let output = self.plan.outputs.iter().position(|output| output.name == entry.output);
        tally.unaccounted(Unaccounted {
            output: output.unwrap_or(0),
            what: format!("ledger entry `{}` of {} is not recorded", entry.rule, entry.column),
            source: entry.source,
            locator: entry.locator,
        });
    }

    fn rows(
        &self,
        tally: &mut StreamTally,
        refused: &[Refused],
        sink: &mut SourceSink<'_>,
    ) -> Result<()> {
        for (number, row) in self.derived.rows.iter().enumerate() {
            match refused.get(number) {
                Some(Refused::Itself) => {
                    tally.rejected += 1;
                    continue;
                }
                Some(Refused::WithItsRecord) => continue,
                Some(Refused::No) | None => {}
            }
            let output = &self.plan.outputs[row.output];
            let mut tuple = self.derived.fields(row);
            let mut digest = None;
            let mut nulled = Vec::new();
            let patched;
            let mut account = None;
            if !self.accounts.is_plain() {
                let place = self.place(row.output, row.element);
                let known = output.layout.row_digest(tuple);
                digest = Some(known);
                account = self.accounts.row(&place, &known);
                match account.map(|account| account.rule.as_str()) {
                    None => {}
                    Some("identical_duplicate") => {
                        tally.skipped += u64::from(row.output == 0);
                        continue;
                    }
                    Some(_) => tally.superseded += u64::from(row.output == 0),
                }
                nulled = self.accounts.nulled(&place, output, tuple);
                if !nulled.is_empty() {
                    tally.ledgered += nulled.len() as u64;
                    patched = with_nulls(tuple, &nulled);
                    tuple = &patched;
                    digest = Some(output.layout.row_digest(tuple));
                }
            }
            sink(&Expected {
                stream: self.stream,
                output: row.output,
                tuple,
                ordinal: self.ordinal,
                account,
                record: self.record,
                element: row.element,
                layout: &output.layout,
                digest,
                derived: self.derived,
                number,
                nulled: &nulled,
                is_corrected: self.is_corrected,
                is_content: output.is_content,
            })?;
        }
        Ok(())
    }
}

/// Identity of a row that Postgres refused, as backfill recorded it.
fn refused_sha256(output: &OutputPlan, tuple: &[u8]) -> Digest {
    sha256(serde_json::Value::Object(display_row(output, tuple)).to_string().as_bytes())
}

/// Hands out every row a stream's source yields and backfill did not refuse: output, tuple, row
/// digest. Blocking.
pub(crate) fn each_row(
    opened: &OpenedPack,
    stream: usize,
    accounts: &Accounts,
    stop: &Stop,
    visit: &mut dyn FnMut(usize, &[u8], &Digest),
) -> Result<()> {
    let pace = &Pace::free();
    SourceWalk { opened, stream, accounts, stop, pace }.all(None, &mut |expected| {
        visit(expected.output, expected.tuple, &expected.row());
        Ok(())
    })?;
    Ok(())
}
