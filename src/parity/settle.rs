//! Comparing stores while one is written to and the other follows.
//!
//! The source is read and the target's snapshot taken at different moments, so rows that change in
//! between, or are on their way, differ without anything being wrong. The first comparison reads
//! everything; what differs in it is followed, row by row, through further ones: a row is settled
//! when a later one finds it equal, or finds in the target just what the source held at an earlier
//! one. What is never settled differs.
//!
//! After the cutover the source is what follows, and the log of what has not gone back yet is read in
//! the very snapshot that is compared: a row that differs and stands in it is on its way, whoever
//! writes it back and when; one that does not stand in it has to agree.
//!
//! Rows that first differ in a later comparison are not followed: they were equal in the first,
//! which is what the verdict is about, and a store that is written to always has some on the way.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;

use crate::count::counted_are;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::Pace;
use crate::pack::OpenedPack;
use crate::parity::difference::{Difference, Kind};
use crate::parity::following::{KeysBySlice, Lag, Settle};
use crate::parity::report::{Report, UnitResult, Verdict};
use crate::parity::resolve::Resolution;
use crate::parity::sample::bound;
use crate::parity::spool::Short;
use crate::parity::verify::{
    Examined, Found, Level, Look, Options, examine_following, examine_part,
};
use crate::parity::walk::StreamTally;

/// Comparisons at most, where no time was given.
const ROUNDS_MAX: u32 = 24;

/// Comparisons in a row that find a row on neither side changed: it differs.
const STILL_ROUNDS: usize = 3;

/// Times in a row that the following store may come no further while somebody is at it, before that
/// counts as how it stays.
const STALLS_MAX: u32 = 2;

/// Between two comparisons.
const PAUSE: Duration = Duration::from_millis(400);

/// Differing rows of a slice that are followed at most: about 100 bytes each.
const FOLLOWED_MAX: usize = 200_000;

/// What became of rows that differed at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Rows that differed in the first comparison.
    pub differed: u64,
    /// Of them, rows that a later comparison settled.
    pub settled: u64,
    /// Of them, rows that differ, and still changed between the last two comparisons.
    pub unsettled: u64,
    /// Comparisons after the first.
    pub readings: u32,
    /// Changes that the following store still lacked when the last comparison began.
    #[serde(default)]
    pub behind: u64,
    /// Rows that differed in the first comparison and were too many to be followed.
    #[serde(default)]
    pub beyond: u64,
    /// Rows that differ because their changes wait to be written back to the source; no
    /// differences.
    #[serde(default)]
    pub waiting: u64,
    /// Whether the source follows the target.
    #[serde(default)]
    pub is_back: bool,
}

/// The rows of one key, as one comparison found them: digests, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) kind: Kind,
    pub(super) source: Vec<Short>,
    pub(super) target: Vec<Short>,
}

impl Reading {
    /// The following store in the place of the target.
    fn turned(mut self, is_back: bool) -> Self {
        if is_back {
            std::mem::swap(&mut self.source, &mut self.target);
        }
        self
    }
}

/// Rows of keys, by slice.
type Rows = HashMap<(usize, Short), Reading>;

/// The differing rows that a comparison found.
#[derive(Debug, Default)]
pub(super) struct Followed {
    rows: Rows,
    beyond: u64,
}

impl Followed {
    /// Takes over what the second pass found in a slice.
    pub(super) fn add(&mut self, unit: usize, found: &mut Resolution) {
        self.beyond += std::mem::take(&mut found.beyond);
        let rows = std::mem::take(&mut found.followed);
        self.rows.extend(rows.into_iter().map(|(key, reading)| ((unit, key), reading)));
    }
}

/// Records of the source that are not accounted for, by stream: source and place.
#[derive(Debug, Default)]
pub(super) struct Records {
    known: HashSet<(usize, String)>,
    /// Streams with more of them than are known one by one.
    crowded: BTreeSet<usize>,
}

impl From<Vec<Option<StreamTally>>> for Records {
    fn from(tallies: Vec<Option<StreamTally>>) -> Self {
        let mut records = Self::default();
        for (stream, tally) in tallies.into_iter().enumerate() {
            let Some(tally) = tally else { continue };
            if tally.unaccounted > tally.examples.len() as u64 {
                records.crowded.insert(stream);
            }
            let places = tally.examples.into_iter();
            let places =
                places.map(|entry| (stream, format!("{}, {}", entry.source, entry.locator)));
            records.known.extend(places);
        }
        records
    }
}

/// Which differing rows a comparison keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Follow {
    /// Of each slice, at most.
    pub(super) max: usize,
    /// The only keys that matter, by slice; None: all.
    keys: Option<Arc<KeysBySlice>>,
    /// Those of them whose changes wait to be written back to the source.
    pub(super) waiting: Arc<KeysBySlice>,
}

impl Follow {
    /// Those of the only keys that matter whose changes the source lacks, in the snapshot that
    /// `conn` reads.
    pub(super) async fn ask_waiting(
        &self,
        conn: &mut PgConnection,
        opened: &OpenedPack,
        settle: &Settle,
    ) -> Result<KeysBySlice> {
        match (settle.follower().filter(|follower| follower.is_source()), &self.keys) {
            (Some(follower), Some(keys)) => follower.waiting(conn, opened, keys).await,
            _ => Ok(KeysBySlice::new()),
        }
    }

    /// The only keys of a slice that matter.
    pub(super) fn only(&self, unit: usize) -> Option<&HashSet<Short>> {
        static NONE: std::sync::LazyLock<HashSet<Short>> = std::sync::LazyLock::new(HashSet::new);
        let keys = self.keys.as_ref()?;
        Some(keys.get(&unit).unwrap_or(&NONE))
    }
}

/// What is known of a row that has differed in every comparison.
#[derive(Debug)]
struct Seen {
    kind: Kind,
    /// The source's rows, of every comparison.
    sources: Vec<Vec<Short>>,
    target: Vec<Short>,
    /// Comparisons in a row with these very rows, while the following store had caught up.
    still: usize,
    /// Whether its changes waited to be written back when it was seen last.
    waits: bool,
}

/// All that is not settled yet.
#[derive(Debug, Default)]
struct Unsettled {
    rows: HashMap<(usize, Short), Seen>,
    records: HashSet<(usize, String)>,
    /// Whether the source follows the target: then each is looked at as the other.
    is_back: bool,
    /// Times in a row that the following store came no further.
    stalls: u32,
}

/// As `examine`, and again, for the rows that differ, as long as the options say.
pub(super) async fn examine_settling(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    options: &Options,
    in_server: bool,
    (stop, pace): (&Stop, &Pace),
) -> Result<Examined> {
    let is_live = !options.settle.is_no();
    let max = if is_live && options.level == Level::Full { FOLLOWED_MAX } else { 0 };
    let follow = Follow { max, ..Follow::default() };
    let look = Look { opened, options, in_server, stop, pace, follow };
    let started = Instant::now();
    let mut first = examine_following(conn, &look).await?;
    if !is_live {
        return Ok(first);
    }
    if first.report.verdict == Verdict::Clean {
        first.report.settling = Some(Settling::default());
        return Ok(first);
    }
    let mut last = None;
    if options.level != Level::Full {
        // Counts and samples of stores in motion prove nothing: the slices are compared whole.
        let follow = Follow { max: FOLLOWED_MAX, ..Follow::default() };
        let look = Look { follow, ..look };
        let mut part = examine_part(conn, &look, differing_units(opened, &first.report)).await?;
        first.followed = std::mem::take(&mut part.followed);
        first.records = std::mem::take(&mut part.tallies).into();
        last = Some(part.differences);
    }
    let is_back = options.settle.follower().is_some_and(|follower| follower.is_source());
    let mut settling = Settling {
        differed: first.followed.rows.len() as u64 + first.followed.beyond,
        beyond: first.followed.beyond,
        is_back,
        ..Settling::default()
    };
    let mut unsettled = Unsettled::first(&first, is_back);
    let mut lag = None;
    while !unsettled.is_over(&options.settle, started.elapsed(), settling.readings) {
        stop.unless(async {
            tokio::time::sleep(PAUSE).await;
            Ok(())
        })
        .await?;
        if let Settle::Following(follower) = &options.settle
            && !unsettled.is_stalled()
        {
            let found = stop.unless(follower.caught_up(conn)).await?;
            unsettled.know(found);
            settling.behind = found.behind;
            lag = Some(found);
        }
        let keys = Some(Arc::new(unsettled.keys()));
        let follow = Follow { max: FOLLOWED_MAX, keys, ..Follow::default() };
        let look = Look { opened, options, in_server, stop, pace, follow };
        let part = examine_part(conn, &look, unsettled.units(opened)).await?;
        settling.readings += 1;
        last = Some(unsettled.next(part, settling.behind == 0));
    }
    settling.waiting = unsettled.leave_waiting();
    let is_settled = settling.differed - settling.beyond - settling.waiting;
    settling.settled = is_settled - unsettled.rows.len() as u64;
    let is_moving = |seen: &&Seen| settling.readings > 0 && seen.still == 1;
    settling.unsettled = unsettled.rows.values().filter(is_moving).count() as u64;
    unsettled.conclude(opened, &mut first, last, settling.beyond);
    if let Some(follower) = options.settle.follower() {
        settling.could_tell(first.report.verdict, lag, &follower.command())?;
    }
    first.report.settling = Some(settling);
    Ok(first)
}

impl Settling {
    /// Fails where what was compared says nothing: nothing differs but rows whose changes wait to
    /// be written back, or too much does to tell these apart.
    fn could_tell(&self, verdict: Verdict, lag: Option<Lag>, command: &str) -> Result<()> {
        let is_crowded = self.beyond > 0 && (self.behind > 0 || self.waiting > 0);
        let is_open = self.waiting > 0 && verdict == Verdict::Clean;
        if !self.is_back || !(is_crowded || is_open) {
            return Ok(());
        }
        let rows = counted_are(self.waiting + self.beyond, "row");
        let nobody = lag.filter(|lag| lag.behind > 0 && !lag.is_applied);
        let nobody = nobody.map_or("", |_| ", and nothing writes them back");
        let others = if is_crowded {
            "too many to tell whether others differ"
        } else {
            "no other row differs"
        };
        let detail = format!(
            "{rows} not in SQLite yet as Postgres has them: their changes wait to be written \
             back{nobody}; {others}"
        );
        let advice = format!("`{command}` writes them back; then verify again");
        Err(Error::new(ErrorKind::Busy, detail).advice(advice))
    }
}

/// The slices in which something differs, by row, by count or by record.
fn differing_units(opened: &OpenedPack, report: &Report) -> Vec<usize> {
    let units = opened.plan.units.iter().enumerate();
    let differs =
        |name: &str| report.units.iter().any(|unit| unit.target == name && unit.differing() > 0);
    let is_fed = |unit: &crate::pack::plan::Unit| {
        let open = report.streams.iter().filter(|stream| stream.unaccounted > 0);
        let mut open = open.filter_map(|stream| opened.plan.stream_index(&stream.stream));
        open.any(|stream| unit.feeds.iter().any(|(feed, _)| *feed == stream))
    };
    let checked = |name: &str| report.units.iter().any(|unit| unit.target == name);
    units
        .filter(|(_, unit)| checked(&unit.name) && (differs(&unit.name) || is_fed(unit)))
        .map(|(index, _)| index)
        .collect()
}

impl Seen {
    fn first(reading: &Reading) -> Self {
        Self {
            kind: reading.kind,
            sources: vec![reading.source.clone()],
            target: reading.target.clone(),
            still: 1,
            waits: false,
        }
    }

    /// Takes a later reading; false: it shows that the target follows.
    fn take(&mut self, reading: Reading, had_caught_up: bool) -> bool {
        let is_same = self.sources.last() == Some(&reading.source) && self.target == reading.target;
        if !is_same && self.target != reading.target && self.sources.contains(&reading.target) {
            return false;
        }
        self.still = match (is_same, had_caught_up) {
            (true, true) => self.still + 1,
            (true, false) => self.still,
            (false, _) => 1,
        };
        self.kind = reading.kind;
        self.sources.push(reading.source);
        self.target = reading.target;
        true
    }
}

impl Unsettled {
    fn first(examined: &Examined, is_back: bool) -> Self {
        let rows = examined.followed.rows.iter();
        let seen = |reading: &Reading| Seen::first(&reading.clone().turned(is_back));
        Self {
            rows: rows.map(|(place, reading)| (*place, seen(reading))).collect(),
            records: examined.records.known.clone(),
            is_back,
            stalls: 0,
        }
    }

    /// Takes note of how far the following store has come.
    fn know(&mut self, lag: Lag) {
        self.stalls = match lag {
            Lag { behind: 0, .. } | Lag { has_moved: true, .. } => 0,
            Lag { is_applied: true, .. } => self.stalls + 1,
            Lag { .. } => STALLS_MAX,
        };
    }

    /// Whether the following store comes no further, so that waiting for it is in vain.
    fn is_stalled(&self) -> bool {
        self.stalls >= STALLS_MAX
    }

    fn is_over(&self, settle: &Settle, elapsed: Duration, readings: u32) -> bool {
        if self.rows.is_empty() && self.records.is_empty() {
            return true;
        }
        if let Some(limit) = settle.limit() {
            // The first comparison does not ask what is on its way back.
            return elapsed + PAUSE >= limit && (readings > 0 || !self.is_back);
        }
        let is_decided = |seen: &Seen| {
            seen.still >= STILL_ROUNDS || (self.is_stalled() && (seen.waits || !self.is_back))
        };
        let enough = if self.is_stalled() { 1 } else { STILL_ROUNDS - 1 };
        readings >= ROUNDS_MAX
            || (readings as usize >= enough && self.rows.values().all(is_decided))
    }

    /// Leaves out the rows that are on their way back; how many.
    fn leave_waiting(&mut self) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|_, seen| !seen.waits);
        (before - self.rows.len()) as u64
    }

    fn keys(&self) -> KeysBySlice {
        let mut keys = KeysBySlice::new();
        for (unit, key) in self.rows.keys() {
            keys.entry(*unit).or_default().insert(*key);
        }
        keys
    }

    /// The slices of the rows, and those that streams with open records feed.
    fn units(&self, opened: &OpenedPack) -> Vec<usize> {
        let mut units: BTreeSet<usize> = self.rows.keys().map(|(unit, _)| *unit).collect();
        let streams: BTreeSet<usize> = self.records.iter().map(|(stream, _)| *stream).collect();
        for (index, unit) in opened.plan.units.iter().enumerate() {
            if unit.feeds.iter().any(|(stream, _)| streams.contains(stream)) {
                units.insert(index);
            }
        }
        units.into_iter().collect()
    }

    /// Leaves what a later comparison still finds differing; its named differences.
    fn next(&mut self, mut part: Found, had_caught_up: bool) -> Vec<Difference> {
        let mut now = std::mem::take(&mut part.followed.rows);
        let is_back = self.is_back;
        self.rows.retain(|place, seen| {
            let reading = now.remove(place).map(|reading| reading.turned(is_back));
            seen.waits = part.waiting.get(&place.0).is_some_and(|keys| keys.contains(&place.1));
            // What did not wait is in the source, however much of the rest did.
            let is_sure = if is_back { !seen.waits } else { had_caught_up };
            reading.is_some_and(|reading| seen.take(reading, is_sure))
        });
        let records: Records = std::mem::take(&mut part.tallies).into();
        self.records
            .retain(|record| records.crowded.contains(&record.0) || records.known.contains(record));
        part.differences
    }

    /// Turns the first comparison's report into what is known at the end. `last`: what the last
    /// comparison named, if there was one after the first.
    fn conclude(
        &self,
        opened: &OpenedPack,
        examined: &mut Examined,
        last: Option<Vec<Difference>>,
        beyond: u64,
    ) {
        let report = &mut examined.report;
        let mut by_unit: HashMap<&str, HashMap<Kind, u64>> = HashMap::new();
        for ((unit, _), seen) in &self.rows {
            let of_unit = by_unit.entry(&opened.plan.units[*unit].name).or_default();
            *of_unit.entry(seen.kind).or_default() += 1;
        }
        for unit in report.units.iter_mut().filter(|unit| unit.differing() > 0) {
            let of_unit = by_unit.remove(&*unit.target).unwrap_or_default();
            let count = |kind: Kind| of_unit.get(&kind).copied().unwrap_or(0);
            // Rows that were too many to be followed keep the counts of the first comparison.
            if beyond == 0 {
                unit.missing = count(Kind::Missing);
                unit.extra = count(Kind::Extra);
                unit.changed = count(Kind::Changed);
                unit.duplicates = count(Kind::Duplicate);
            }
            if let Some(sample) = &mut unit.sample
                && of_unit.is_empty()
            {
                *sample = bound(sample.n, 0, false);
            }
            // Sums over rows that were on their way prove nothing.
            (unit.source_root, unit.target_root) = (None, None);
        }
        for stream in &mut report.streams {
            let Some(index) = opened.plan.stream_index(&stream.stream) else { continue };
            if !examined.records.crowded.contains(&index) {
                let of_stream = self.records.iter().filter(|(stream, _)| *stream == index);
                stream.unaccounted = of_stream.count() as u64;
            }
        }
        self.name(opened, report, last);
        let independent = report.independent.iter().map(|result| result.differing);
        report.differing_rows = report.units.iter().map(UnitResult::differing).sum::<u64>()
            + report.streams.iter().map(|stream| stream.unaccounted).sum::<u64>()
            + independent.sum::<u64>();
        if report.differing_rows == 0 {
            report.verdict = Verdict::Clean;
            report.changed_sources.clear();
            report.changing_triggers.clear();
        }
    }

    /// Leaves in the report the differences that are not settled, as they were seen last.
    fn name(&self, opened: &OpenedPack, report: &mut Report, last: Option<Vec<Difference>>) {
        let is_of_last = |difference: &Difference| {
            difference.row.is_some() || difference.kind == Kind::Unaccounted
        };
        if let Some(last) = last {
            report.differences.retain(|difference| !is_of_last(difference));
            report.differences.splice(0..0, last.into_iter().filter(is_of_last));
        }
        report.differences.retain(|difference| match (&difference.row, &difference.locator) {
            (Some(place), _) => self.rows.contains_key(place),
            (None, Some(place)) if difference.kind == Kind::Unaccounted => {
                let stream = opened.plan.stream_index(&difference.stream);
                stream.is_some_and(|stream| self.records.contains(&(stream, place.clone())))
            }
            _ => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(source: Option<u8>, target: Option<u8>) -> Reading {
        let rows = |row: Option<u8>| row.map(|byte| [byte; 16]).into_iter().collect();
        Reading { kind: Kind::Changed, source: rows(source), target: rows(target) }
    }

    /// Comparisons without a change of a row that was seen so; None: it is settled.
    fn follow(readings: &[(Option<u8>, Option<u8>)]) -> Option<usize> {
        let mut seen = Seen::first(&reading(readings[0].0, readings[0].1));
        for (source, target) in &readings[1..] {
            if !seen.take(reading(*source, *target), true) {
                return None;
            }
        }
        Some(seen.still)
    }

    #[test]
    fn a_row_is_settled_by_what_the_source_held_before() {
        let (a, b, c) = (Some(1), Some(2), Some(3));
        assert_eq!(follow(&[(b, a), (c, b)]), None);
        // Deleted in the source, and gone from the target when it is there again.
        assert_eq!(follow(&[(None, a), (b, None)]), None);
    }

    #[test]
    fn where_the_source_follows_it_is_settled_by_what_the_target_held_before() {
        let (a, b, c) = (Some(1), Some(2), Some(3));
        let turned = |source, target| reading(source, target).turned(true);
        let mut seen = Seen::first(&turned(a, b));
        assert!(!seen.take(turned(b, c), true));
        let mut seen = Seen::first(&turned(a, b));
        assert!(seen.take(turned(a, c), true));
    }

    #[test]
    fn a_row_that_does_not_follow_stays_a_difference() {
        let (a, b, c) = (Some(1), Some(2), Some(3));
        assert_eq!(follow(&[(b, a); 3]), Some(3));
        assert_eq!(follow(&[(b, a), (c, a)]), Some(1));
        assert_eq!(follow(&[(b, a), (b, c)]), Some(1));
        assert_eq!(follow(&[(b, None), (c, None)]), Some(1));
    }

    #[test]
    fn standing_still_proves_nothing_while_the_follower_is_behind() {
        let mut seen = Seen::first(&reading(Some(2), Some(1)));
        for _ in 0..5 {
            assert!(seen.take(reading(Some(2), Some(1)), false));
        }
        assert_eq!(seen.still, 1);
    }

    #[test]
    fn only_the_rows_that_differed_at_first_are_looked_at_again() {
        let keys = Some(Arc::new(HashMap::from([(3, HashSet::from([[7; 16]]))])));
        let follow = Follow { max: 1, keys, ..Follow::default() };
        assert!(follow.only(3).is_some_and(|keys| keys.contains(&[7; 16])));
        assert!(follow.only(4).is_some_and(HashSet::is_empty));
        assert!(Follow::default().only(4).is_none());
    }
}
