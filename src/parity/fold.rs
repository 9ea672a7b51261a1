//! The first pass: both sides folded into bucket sums.

use std::collections::{HashMap, HashSet};

use crate::canonical::{Buckets, Digest};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::pack::plan::SourceKind;
use crate::parity::accounts::Accounts;
use crate::parity::walk::{Expected, StreamTally, walk_source};

/// Keys remembered per unit so that repeats of one key count once; beyond it repeats are sorted
/// out in the second pass.
const REMEMBERED_KEYS_MAX: usize = 1_000_000;

/// One side of a unit.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) buckets: Buckets,
    /// Buckets to be read again whatever their sums say.
    pub(super) judged: HashSet<usize>,
    /// Rows of the target; of the source, the rows it makes the target hold.
    pub(super) rows: u64,
}

/// The source's side of all units, and what was counted per stream.
#[derive(Debug, Default)]
pub(super) struct SourceFold {
    pub(super) units: Vec<Side>,
    pub(super) tallies: Vec<Option<StreamTally>>,
}

/// Folds every stream in `streams` into the sides of its units. Blocking.
pub(super) fn fold_source(
    opened: &OpenedPack,
    streams: &[usize],
    accounts: &[Accounts],
    stop: &Stop,
) -> Result<SourceFold> {
    let mut fold = SourceFold {
        units: opened.plan.units.iter().map(|_| Side::default()).collect(),
        tallies: opened.plan.streams.iter().map(|_| None).collect(),
    };
    let mut seen: Vec<HashMap<[u8; 16], [u8; 16]>> =
        opened.plan.units.iter().map(|_| HashMap::new()).collect();
    let mut gave_way: Vec<HashMap<[u8; 16], usize>> =
        opened.plan.units.iter().map(|_| HashMap::new()).collect();
    let may_repeat: Vec<bool> =
        (0..opened.plan.units.len()).map(|unit| may_repeat(opened, unit, accounts)).collect();
    for stream in streams {
        let sides = &mut fold.units;
        let tally = walk_source(opened, *stream, &accounts[*stream], stop, &mut |expected| {
            let unit = opened.plan.streams[expected.stream].outputs[expected.output].unit;
            if !is_required(expected) {
                let bucket = Buckets::bucket_of(&expected.key);
                gave_way[unit].extend(expected.key.first_chunk().map(|key| (*key, bucket)));
                return Ok(());
            }
            if may_repeat[unit] && is_repeat(&mut seen[unit], &expected.key, &expected.row) {
                return Ok(());
            }
            sides[unit].rows += 1;
            sides[unit].buckets.add(&expected.key, &expected.row);
            Ok(())
        })?;
        fold.tallies[*stream] = Some(tally);
    }
    // Where a row gave way to one the source does not have, the target must still hold its key;
    // what it holds there has no sum to be compared with, so such keys are always judged.
    for (unit, keys) in gave_way.iter().enumerate() {
        for (_, bucket) in keys.iter().filter(|(key, _)| !seen[unit].contains_key(*key)) {
            fold.units[unit].rows += 1;
            fold.units[unit].judged.insert(*bucket);
        }
    }
    Ok(fold)
}

/// Whether the target has to hold this very row.
pub(super) fn is_required(expected: &Expected<'_>) -> bool {
    expected.account.is_none()
}

/// Whether one key can come from two records: never from one `SQLite` file whose unique key
/// guards it, possibly from several files or documents, and wherever rows gave way to others.
fn may_repeat(opened: &OpenedPack, unit: usize, accounts: &[Accounts]) -> bool {
    let feeds = &opened.plan.units[unit].feeds;
    let is_content = |(stream, output): &(usize, usize)| {
        opened.plan.streams[*stream].outputs[*output].is_content
    };
    if feeds.iter().any(is_content) {
        return false;
    }
    let [(stream, _)] = feeds.as_slice() else { return true };
    if accounts[*stream].has_rows() {
        return true;
    }
    let stream = &opened.plan.streams[*stream];
    let files = opened.discovered.streams.get(&stream.name).map_or(0, |found| found.files.len());
    !matches!(stream.source, SourceKind::Sqlite { .. }) || files > 1
}

fn is_repeat(seen: &mut HashMap<[u8; 16], [u8; 16]>, key: &Digest, row: &Digest) -> bool {
    let (Some(key), Some(row)) = (key.first_chunk::<16>(), row.first_chunk::<16>()) else {
        return false;
    };
    if let Some(first) = seen.get(key) {
        return first == row;
    }
    if seen.len() < REMEMBERED_KEYS_MAX {
        seen.insert(*key, *row);
    }
    false
}
