//! Comparing stores while the source is written to and the target follows.
//!
//! The source is read and the target's snapshot taken at different moments, so rows that change in
//! between, or are on their way, differ without anything being wrong. So the whole comparison is
//! made again, a few times at most: a row that differed is settled when a later comparison finds
//! it equal, or finds in the target just what the source held at an earlier one. What is never
//! settled differs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::parity::difference::{Difference, Kind};
use crate::parity::report::{Report, Verdict};
use crate::parity::verify::{Examined, Options, examine};

/// Comparisons at most, where no time was given.
const ROUNDS_MAX: u32 = 8;

/// Comparisons in a row that find a row on neither side changed: it differs.
const STILL_ROUNDS: usize = 3;

/// Between two comparisons.
const PAUSE: Duration = Duration::from_millis(400);

/// Differing rows that are followed at most.
const FOLLOWED_MAX: usize = 20_000;

/// Whether what differs is compared again before it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Settle {
    /// The stores stand still: one comparison decides.
    #[default]
    No,
    /// The source is captured: until it is sure that the target does not follow.
    Following,
    /// Until so much time has passed.
    For(Duration),
}

/// What became of rows that differed at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Rows that differed in the first comparison.
    pub differed: u64,
    /// Of them, rows that a later comparison settled.
    pub settled: u64,
    /// Of them, rows that differ, and still changed between the last two comparisons.
    pub unsettled: u64,
    /// Comparisons after the first.
    pub readings: u32,
}

/// A row, or a record that is not accounted for.
type Place = (String, String);

/// What is known of a row that has differed in every comparison.
#[derive(Debug, Clone)]
struct Seen {
    /// Digests of the source's row, of every comparison.
    sources: Vec<Option<String>>,
    target: Option<String>,
    /// Comparisons in a row with these very digests.
    still: usize,
}

/// As `examine`, and again as long as the options say.
pub(super) async fn examine_settling(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    options: &Options,
    in_server: bool,
    stop: &Stop,
) -> Result<Examined> {
    if options.settle == Settle::No {
        return examine(conn, opened, options, in_server, stop).await;
    }
    let started = Instant::now();
    let followed_max = options.differences_max.max(FOLLOWED_MAX);
    let wide = Options { differences_max: followed_max, ..options.clone() };
    let mut unsettled: Option<HashMap<Place, Seen>> = None;
    let mut settling = Settling { differed: 0, settled: 0, unsettled: 0, readings: 0 };
    loop {
        let mut found = examine(conn, opened, &wide, in_server, stop).await?;
        let Some(differing) = named(&found.report) else {
            found.report.differences.truncate(options.differences_max);
            return Ok(found);
        };
        let now = match unsettled {
            None => differing.into_iter().map(|(place, d)| (place, Seen::first(d))).collect(),
            Some(before) => still_unsettled(before, &differing),
        };
        if settling.readings == 0 {
            settling.differed = now.len() as u64;
        }
        let is_over = match options.settle {
            Settle::For(limit) => now.is_empty() || started.elapsed() + PAUSE >= limit,
            _ => {
                now.values().all(|seen| seen.still >= STILL_ROUNDS)
                    || settling.readings + 1 >= ROUNDS_MAX
            }
        };
        if is_over {
            keep(&mut found.report, &now, options.differences_max);
            settling.settled = settling.differed - now.len() as u64;
            let is_moving = |seen: &&Seen| settling.readings > 0 && seen.still == 1;
            settling.unsettled = now.values().filter(is_moving).count() as u64;
            found.report.settling = Some(settling);
            return Ok(found);
        }
        settling.readings += 1;
        unsettled = Some(now);
        stop.unless(async {
            tokio::time::sleep(PAUSE).await;
            Ok(())
        })
        .await?;
    }
}

impl Seen {
    fn first(difference: &Difference) -> Self {
        Self {
            sources: vec![difference.source_digest.clone()],
            target: difference.target_digest.clone(),
            still: 1,
        }
    }
}

fn place(difference: &Difference) -> Place {
    let of_row = serde_json::Value::Object(difference.key.clone()).to_string();
    let of_record = difference.locator.clone().unwrap_or_default();
    let is_row = !difference.key.is_empty();
    (difference.target.clone(), if is_row { of_row } else { of_record })
}

/// The differing rows, each once; None where not all of them are named.
fn named(report: &Report) -> Option<Vec<(Place, &Difference)>> {
    let mut rows: Vec<(Place, &Difference)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for difference in &report.differences {
        let place = place(difference);
        if seen.insert((place.clone(), difference.kind)) {
            rows.push((place, difference));
        }
    }
    (rows.len() as u64 == report.differing_rows).then_some(rows)
}

/// Those that differed before and still do, without a sign that the target follows.
fn still_unsettled(
    before: HashMap<Place, Seen>,
    differing: &[(Place, &Difference)],
) -> HashMap<Place, Seen> {
    let now: HashMap<&Place, &Difference> =
        differing.iter().map(|(place, difference)| (place, *difference)).collect();
    let mut unsettled = HashMap::new();
    for (place, mut seen) in before {
        let Some(difference) = now.get(&place) else { continue };
        let (source, target) = (&difference.source_digest, &difference.target_digest);
        let is_same = seen.sources.last() == Some(source) && seen.target == *target;
        if !is_same && seen.target != *target && seen.sources.contains(target) {
            continue;
        }
        seen.still = if is_same { seen.still + 1 } else { 1 };
        seen.sources.push(source.clone());
        seen.target.clone_from(target);
        unsettled.insert(place, seen);
    }
    unsettled
}

/// Leaves in the report what is not settled.
fn keep(report: &mut Report, unsettled: &HashMap<Place, Seen>, differences_max: usize) {
    report.differences.retain(|difference| unsettled.contains_key(&place(difference)));
    let rows: Vec<(String, String, Kind)> = {
        let mut counted = std::collections::HashSet::new();
        let kept = report.differences.iter().filter(|d| counted.insert((place(d), d.kind)));
        kept.map(|d| (d.target.clone(), d.stream.clone(), d.kind)).collect()
    };
    let count = |target: &str, kind: Kind| {
        rows.iter().filter(|row| row.0 == target && row.2 == kind).count() as u64
    };
    for unit in &mut report.units {
        unit.missing = count(&unit.target, Kind::Missing);
        unit.extra = count(&unit.target, Kind::Extra);
        unit.changed = count(&unit.target, Kind::Changed);
        unit.duplicates = count(&unit.target, Kind::Duplicate);
    }
    for stream in &mut report.streams {
        let of_stream = rows.iter().filter(|row| row.1 == stream.stream);
        stream.unaccounted = of_stream.filter(|row| row.2 == Kind::Unaccounted).count() as u64;
    }
    report.differing_rows = rows.len() as u64;
    report.differences.truncate(differences_max);
    // Sums over rows that were on their way prove nothing.
    for unit in report.units.iter_mut().filter(|unit| unit.source_root != unit.target_root) {
        if unit.differing() == 0 && unit.superseded == 0 {
            (unit.source_root, unit.target_root) = (None, None);
        }
    }
    if rows.is_empty() {
        report.verdict = Verdict::Clean;
        report.changed_sources.clear();
        report.changing_triggers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(source: Option<&str>, target: Option<&str>) -> Difference {
        Difference {
            stream: "s".to_owned(),
            target: "t".to_owned(),
            kind: Kind::Changed,
            key: [("id".to_owned(), "1".into())].into_iter().collect(),
            column: None,
            source_value: None,
            target_value: None,
            source_digest: source.map(str::to_owned),
            target_digest: target.map(str::to_owned),
            locator: None,
        }
    }

    fn follow(rounds: &[Option<(Option<&str>, Option<&str>)>]) -> Option<usize> {
        let mut unsettled: Option<HashMap<Place, Seen>> = None;
        for round in rounds {
            let found = round.map(|(source, target)| difference(source, target));
            let now: Vec<(Place, &Difference)> =
                found.iter().map(|difference| (place(difference), difference)).collect();
            unsettled = Some(match unsettled {
                None => now.into_iter().map(|(place, d)| (place, Seen::first(d))).collect(),
                Some(before) => still_unsettled(before, &now),
            });
        }
        unsettled.unwrap().values().next().map(|seen| seen.still)
    }

    #[test]
    fn a_row_is_settled_by_equality_or_by_what_the_source_held_before() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        assert_eq!(follow(&[Some((b, a)), None]), None);
        assert_eq!(follow(&[Some((b, a)), Some((c, b))]), None);
        // Deleted in the source, and gone from the target when it is there again.
        assert_eq!(follow(&[Some((None, a)), Some((b, None))]), None);
    }

    #[test]
    fn a_row_that_does_not_follow_stays_a_difference() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        assert_eq!(follow(&[Some((b, a)); 3]), Some(3));
        assert_eq!(follow(&[Some((b, a)), Some((c, a))]), Some(1));
        assert_eq!(follow(&[Some((b, a)), Some((b, c))]), Some(1));
        assert_eq!(follow(&[Some((b, None)), Some((c, None))]), Some(1));
    }
}
