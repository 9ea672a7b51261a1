//! Live stores: what differs is read again until it agrees, so that a change on its way from one
//! store to the other is no false alarm.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::Connection as _;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::parity::difference::{Difference, Kind};
use crate::parity::report::{Report, UnitResult, Verdict};
use crate::parity::verify::{Examined, Level, Options, examine};
use crate::store::Postgres;

/// Differing rows that are followed; with more than these at once, stores are not merely behind.
const ROWS_MAX: usize = 20_000;
/// Shortest and longest pause before the stores are read again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What became of rows that differed at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Rows that differed at first.
    pub differed: u64,
    /// Of them, rows that agreed later.
    pub settled: u64,
    /// Of them, rows that never agreed and were still changing when they were read last.
    pub unsettled: u64,
    /// How often the stores were read again.
    pub readings: u32,
}

/// A row, or what stands for one where there is no key.
type Followed = (String, Kind, String);
/// What the two sides held.
type Sides = (Option<String>, Option<String>);

/// As [`super::verify`], but without storing: what differs is read again, in fresh snapshots,
/// until it agrees or `limit` has passed. `open` opens the sources anew for each reading.
pub(super) async fn settle(
    postgres: &Postgres,
    open: &impl AsyncFn() -> Result<Arc<OpenedPack>>,
    options: &Options,
    limit: Duration,
    in_server: bool,
    stop: &Stop,
) -> Result<(Arc<OpenedPack>, Examined)> {
    if options.level != Level::Full {
        return Err(Error::new(ErrorKind::Usage, "rows are followed at level full only")
            .advice("leave --settle out, or use --level full"));
    }
    let deadline = Instant::now() + limit;
    let wide =
        Options { differences_max: options.differences_max.max(ROWS_MAX), ..options.clone() };
    let mut conn = postgres.dedicated().await?;
    let opened = open().await?;
    let mut first = examine(&mut conn, &opened, &wide, in_server, stop).await?;
    let mut following = followed(&first.report.differences);
    let mut settling =
        Settling { differed: first.report.differing_rows, settled: 0, unsettled: 0, readings: 0 };
    let is_whole = first.report.differing_rows <= wide.differences_max as u64;
    let mut pause = PAUSES.0;
    while is_whole && !following.is_empty() && Instant::now() + pause < deadline {
        stop.unless(async {
            tokio::time::sleep(pause).await;
            Ok(())
        })
        .await?;
        pause = (pause * 2).min(PAUSES.1);
        let streams: BTreeSet<&String> =
            first.report.differences.iter().map(|difference| &difference.stream).collect();
        let narrow = Options { streams: streams.into_iter().cloned().collect(), ..wide.clone() };
        let again = examine(&mut conn, &open().await?, &narrow, in_server, stop).await?;
        settling.readings += 1;
        let now = followed(&again.report.differences);
        let is_moving =
            |(row, sides): &(&Followed, &Sides)| now.get(*row).is_some_and(|later| later != *sides);
        settling.unsettled = following.iter().filter(is_moving).count() as u64;
        following = now.into_iter().filter(|(row, _)| following.contains_key(row)).collect();
        merge(&mut first.report, again.report, &following);
    }
    settling.settled = settling.differed.saturating_sub(first.report.differing_rows);
    first.report.differences.truncate(options.differences_max);
    first.report.settling = Some(settling);
    conn.close().await?;
    Ok((opened, first))
}

fn followed(differences: &[Difference]) -> HashMap<Followed, Sides> {
    let mut rows = HashMap::new();
    for difference in differences {
        let sides = (difference.source_digest.clone(), difference.target_digest.clone());
        rows.insert(name_of(difference), sides);
    }
    rows
}

fn name_of(difference: &Difference) -> Followed {
    // A row may be missing at first and changed later: its kind is no part of what it is.
    if difference.kind == Kind::Unaccounted || difference.kind == Kind::Miscast {
        let place = format!("{:?} {:?}", difference.locator, difference.column);
        return (difference.target.clone(), difference.kind, place);
    }
    let key = serde_json::to_string(&difference.key).unwrap_or_default();
    (difference.target.clone(), Kind::Changed, key)
}

/// Takes over what a later reading says of the slices that differed, without what differs there
/// only since.
fn merge(report: &mut Report, later: Report, following: &HashMap<Followed, Sides>) {
    let kept: Vec<Difference> = later
        .differences
        .into_iter()
        .filter(|difference| following.contains_key(&name_of(difference)))
        .collect();
    for unit in later.units {
        let Some(earlier) = report.units.iter_mut().find(|known| known.target == unit.target)
        else {
            continue;
        };
        let in_flight = unit.differing();
        let mut unit = recounted(unit, &kept);
        if unit.differing() != in_flight {
            // Both sides are of a moment at which other rows were on their way.
            (unit.source_root, unit.target_root) = (None, None);
        }
        *earlier = unit;
    }
    for stream in later.streams {
        if let Some(earlier) = report.streams.iter_mut().find(|known| known.stream == stream.stream)
        {
            *earlier = stream;
        }
    }
    for column in later.independent {
        let is_same = |known: &&mut crate::parity::IndependentResult| {
            known.target == column.target && known.column == column.column
        };
        if let Some(earlier) = report.independent.iter_mut().find(is_same) {
            *earlier = column;
        }
    }
    report.differing_rows = report.units.iter().map(UnitResult::differing).sum::<u64>()
        + report.streams.iter().map(|stream| stream.unaccounted).sum::<u64>()
        + report.independent.iter().map(|column| column.differing).sum::<u64>();
    let is_clean = report.differing_rows == 0;
    report.verdict = if is_clean { Verdict::Clean } else { Verdict::Differences };
    report.differences = kept;
    report.changed_sources = later.changed_sources;
    report.snapshot_lsn = later.snapshot_lsn;
    report.snapshot_at = later.snapshot_at;
    report.seconds += later.seconds;
}

fn recounted(mut unit: UnitResult, kept: &[Difference]) -> UnitResult {
    let rows = |kind: Kind| {
        let rows: BTreeSet<Followed> = kept
            .iter()
            .filter(|difference| difference.target == unit.target && difference.kind == kind)
            .map(name_of)
            .collect();
        rows.len() as u64
    };
    let [missing, extra, changed, duplicates] =
        [Kind::Missing, Kind::Extra, Kind::Changed, Kind::Duplicate].map(rows);
    (unit.missing, unit.extra, unit.changed, unit.duplicates) =
        (missing, extra, changed, duplicates);
    unit
}
