//! The first pass: both sides folded into bucket sums.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::canonical::{Buckets, Digest, Layout};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::Pace;
use crate::pack::OpenedPack;
use crate::pack::plan::SourceKind;
use crate::parity::accounts::{Accounts, RowAccount};
use crate::parity::marks::Marks;
use crate::parity::sample::Sample;
use crate::parity::spool::{Entry, Origin, Place, Short, Spool, short};
use crate::parity::walk::{Expected, SourceWalk, StreamTally};

/// Keys remembered per unit so that repeats of one key count once; beyond it repeats are sorted
/// out in the second pass.
const REMEMBERED_KEYS_MAX: usize = 1_000_000;

/// Bytes of rows handed to the hashing thread at once.
const BATCH_BYTES: usize = 1 << 18;

/// Batches under way.
const BATCHES_MAX: usize = 4;

/// One side of a unit.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) buckets: Buckets,
    /// Buckets to be read again whatever their sums say.
    pub(super) judged: HashSet<usize>,
    /// Rows of the target; of the source, the rows it makes the target hold.
    pub(super) rows: u64,
    /// What was seen, row by row, if that is kept.
    pub(super) spool: Option<Spool>,
    /// Rows that gave way to another, by key.
    pub(super) gave_way: HashMap<Short, Vec<RowAccount>>,
}

impl Side {
    /// An empty side that keeps what it sees, up to so many bytes.
    pub(super) fn new(bytes_max: u64) -> Result<Self> {
        let spool = if bytes_max > 0 { Some(Spool::new(bytes_max)?) } else { None };
        Ok(Self { spool, ..Self::default() })
    }

    /// Keeps an entry. A spool that is full is dropped: the stores are read again then.
    pub(super) fn keep(&mut self, entry: &Entry) {
        if self.spool.as_mut().is_some_and(|spool| !spool.push(entry)) {
            tracing::info!("too many rows to remember: what differs will be read again");
            self.spool = None;
        }
    }
}

/// The source's side of all units, and what was counted per stream.
#[derive(Debug, Default)]
pub(super) struct SourceFold {
    pub(super) units: Vec<Side>,
    pub(super) tallies: Vec<Option<StreamTally>>,
    pub(super) marks: Vec<Marks>,
    pub(super) samples: Vec<Sample>,
}

/// What the first pass does beside the sums.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Keep an entry of every row, up to so many bytes a unit.
    pub(super) bytes_max: u64,
    /// Keep whole rows of this many keys per unit, chosen by this seed.
    pub(super) sample: Option<(usize, u64)>,
}

/// Folds every stream in `streams` into the sides of its units. Blocking: reads and casts here,
/// hashes on a thread of its own.
pub(super) fn fold_source(
    opened: &OpenedPack,
    streams: &[usize],
    accounts: &[Accounts],
    wanted: Wanted,
    (stop, pace): (&Stop, &Pace),
) -> Result<SourceFold> {
    let mut tallies: Vec<Option<StreamTally>> = opened.plan.streams.iter().map(|_| None).collect();
    let mut marks: Vec<Marks> = opened.plan.streams.iter().map(|_| Marks::default()).collect();
    let mut samples: Vec<Sample> = match wanted.sample {
        Some((n, seed)) => opened.plan.units.iter().map(|_| Sample::new(n, seed)).collect(),
        None => Vec::new(),
    };
    let mut hasher = Hasher::new(opened, accounts, wanted.bytes_max)?;
    let units = std::thread::scope(|scope| -> Result<Vec<Side>> {
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let (giving_back, given_back) = channel();
        let hashing = scope.spawn(move || {
            hasher.run(&receiver, &giving_back);
            hasher.finish()
        });
        let mut sending = Sending { sender, given_back, batch: Batch::default() };
        for stream in streams {
            let accounts = &accounts[*stream];
            let walk = SourceWalk { opened, stream: *stream, accounts, stop, pace };
            let tally = walk.all(Some(&mut marks[*stream]), &mut |expected| {
                if !samples.is_empty() {
                    let unit = opened.plan.streams[expected.stream].outputs[expected.output].unit;
                    samples[unit].see(opened, expected);
                }
                sending.add(expected)
            })?;
            tallies[*stream] = Some(tally);
        }
        sending.flush()?;
        drop(sending);
        hashing.join().map_err(|_| Error::new(ErrorKind::Bug, "the hashing thread panicked"))
    })?;
    Ok(SourceFold { units, tallies, marks, samples })
}

/// Rows on their way to the hashing thread.
#[derive(Default)]
struct Batch {
    buffer: Vec<u8>,
    rows: Vec<BatchRow>,
}

struct BatchRow {
    end: usize,
    stream: usize,
    output: usize,
    ordinal: u64,
    /// Kept apart, so that the many rows without it are small.
    known: Option<Box<Known>>,
}

/// What was known of a row before it was hashed.
#[derive(Default)]
struct Known {
    digest: Option<Digest>,
    account: Option<RowAccount>,
}

struct Sending {
    sender: SyncSender<Batch>,
    /// Batches that were hashed, to be filled again: their memory is there already.
    given_back: Receiver<Batch>,
    batch: Batch,
}

impl Known {
    fn of(expected: &Expected<'_>) -> Option<Box<Self>> {
        let (digest, account) = (expected.known_digest(), expected.account);
        (digest.is_some() || account.is_some())
            .then(|| Box::new(Self { digest, account: account.cloned() }))
    }
}

impl Sending {
    fn add(&mut self, expected: &Expected<'_>) -> Result<()> {
        self.batch.buffer.extend_from_slice(expected.tuple);
        self.batch.rows.push(BatchRow {
            end: self.batch.buffer.len(),
            stream: expected.stream,
            output: expected.output,
            ordinal: expected.ordinal,
            known: Known::of(expected),
        });
        if self.batch.buffer.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let empty = self.given_back.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, empty);
        self.sender
            .send(batch)
            .map_err(|_| Error::new(ErrorKind::Bug, "the hashing thread is gone"))
    }
}

/// Folds rows into sides.
struct Hasher<'a> {
    opened: &'a OpenedPack,
    sides: Vec<Side>,
    seen: Vec<HashMap<Short, Short>>,
    may_repeat: Vec<bool>,
}

impl<'a> Hasher<'a> {
    fn new(opened: &'a OpenedPack, accounts: &[Accounts], bytes_max: u64) -> Result<Self> {
        let units = &opened.plan.units;
        Ok(Self {
            opened,
            sides: units.iter().map(|_| Side::new(bytes_max)).collect::<Result<_>>()?,
            seen: units.iter().map(|_| HashMap::new()).collect(),
            may_repeat: (0..units.len()).map(|unit| may_repeat(opened, unit, accounts)).collect(),
        })
    }

    fn run(&mut self, batches: &Receiver<Batch>, giving_back: &Sender<Batch>) {
        while let Ok(mut batch) = batches.recv() {
            let mut start = 0;
            for row in batch.rows.drain(..) {
                let end = row.end;
                self.add(row, &batch.buffer[start..end]);
                start = end;
            }
            // A batch that one huge row made large is not kept.
            if batch.buffer.capacity() <= 4 * BATCH_BYTES {
                batch.buffer.clear();
                // Nobody takes it back when all is sent.
                let _ = giving_back.send(batch);
            }
        }
    }

    fn add(&mut self, row: BatchRow, tuple: &[u8]) {
        let output = &self.opened.plan.streams[row.stream].outputs[row.output];
        let layout: &Layout = &output.layout;
        let key = layout.key_digest(tuple);
        let known = row.known.map(|known| *known).unwrap_or_default();
        let digest = known.digest.unwrap_or_else(|| layout.row_digest(tuple));
        let side = &mut self.sides[output.unit];
        let mut entry = Entry {
            key: short(&key),
            row: short(&digest),
            origin: Origin::Required,
            place: Place { within: u32::try_from(row.stream).unwrap_or(u32::MAX), at: row.ordinal },
        };
        if let Some(account) = known.account {
            entry.origin = Origin::GaveWay;
            side.keep(&entry);
            side.gave_way.entry(entry.key).or_default().push(account);
            return;
        }
        side.keep(&entry);
        if self.may_repeat[output.unit] && is_repeat(&mut self.seen[output.unit], &entry) {
            return;
        }
        side.rows += 1;
        side.buckets.add(&key, &digest);
    }

    /// Where a row gave way to one the source does not have, the target must still hold its key;
    /// what it holds there has no sum to be compared with, so such keys are always judged.
    fn finish(mut self) -> Vec<Side> {
        for (side, seen) in self.sides.iter_mut().zip(&self.seen) {
            for key in side.gave_way.keys().filter(|key| !seen.contains_key(*key)) {
                side.rows += 1;
                side.judged.insert(Buckets::bucket_of(key));
            }
        }
        self.sides
    }
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

fn is_repeat(seen: &mut HashMap<Short, Short>, entry: &Entry) -> bool {
    if let Some(first) = seen.get(&entry.key) {
        return *first == entry.row;
    }
    if seen.len() < REMEMBERED_KEYS_MAX {
        seen.insert(entry.key, entry.row);
    }
    false
}
