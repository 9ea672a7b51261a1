//! The passes of a verification: sums of both sides at once, judgement of what differs, and the
//! differing rows whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use crate::canonical::{Buckets, Digest};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::manners::Pace;
use crate::pack::{OpenedPack, join_error};
use crate::parity::accounts::Accounts;
use crate::parity::against::Against;
use crate::parity::difference::{Difference, Kind};
use crate::parity::fold::{Side, SourceFold, Wanted, fold_source};
use crate::parity::independent::{Independent, SecondReading};
use crate::parity::marks::Marks;
use crate::parity::report::{LeftOut, OutsideSlices, UnitResult};
use crate::parity::resolve::{FoundKey, Limits, Resolution, RowPair, groups};
use crate::parity::sample::{Sample, Sampled, bound};
use crate::parity::settle::Follow;
use crate::parity::spool::{Entry, Origin, Place, Short, short};
use crate::parity::target::{TargetWalk, count_outside, count_removed};
use crate::parity::verify::Found;
use crate::parity::walk::{SourceWalk, StreamTally};

/// What the passes work on.
pub(super) struct Passes<'a> {
    pub(super) opened: &'a Arc<OpenedPack>,
    pub(super) accounts: Arc<Vec<Accounts>>,
    pub(super) streams: Vec<usize>,
    pub(super) units: Vec<usize>,
    pub(super) stop: &'a Stop,
    pub(super) pace: &'a Pace,
    pub(super) conn: &'a mut PgConnection,
    pub(super) differences_max: usize,
    /// Whether the server makes the target's digests.
    pub(super) in_server: bool,
    /// Bytes of one side of one slice kept on disk at most.
    pub(super) spool_bytes_max: u64,
    /// Which differing rows are followed.
    pub(super) follow: Follow,
}

impl Passes<'_> {
    /// Counts, and with `full` every row.
    pub(super) async fn buckets(&mut self, full: bool) -> Result<Found> {
        let bytes_max = if full { self.spool_bytes_max } else { 0 };
        let source = self.fold_in_background(Wanted { bytes_max, sample: None });
        let mut targets: Vec<(usize, Side)> = Vec::new();
        for unit in self.units.clone() {
            targets.push((unit, self.fold_target(unit, bytes_max).await?));
        }
        let mut source = source.await.map_err(join_error)??;
        let marks = Arc::new(std::mem::take(&mut source.marks));
        let mut found = Found {
            tallies: std::mem::take(&mut source.tallies),
            marks: Arc::clone(&marks),
            ..Found::default()
        };
        for (unit, mut target) in targets {
            let left = &mut source.units[unit];
            let mut differing = left.buckets.differing(&target.buckets);
            differing.extend(&left.judged);
            differing.sort_unstable();
            differing.dedup();
            if let Some(only) = self.follow.only(unit) {
                let wanted: HashSet<usize> = only.iter().map(|k| Buckets::bucket_of(k)).collect();
                differing.retain(|bucket| wanted.contains(bucket));
            }
            let mut resolution = if full {
                self.resolve(unit, &differing, left, &mut target).await?
            } else {
                Resolution::default()
            };
            let mut result = self.unit_result(unit, left.rows, target.rows, &resolution);
            if full {
                result.source_root = Some(hex::encode(left.buckets.root()));
                result.target_root = Some(hex::encode(target.buckets.root()));
            } else {
                result.missing = left.rows.saturating_sub(target.rows);
                result.extra = target.rows.saturating_sub(left.rows);
            }
            found.units.push(result);
            found.followed.add(unit, &mut resolution);
            found.differences.append(&mut self.fetch(unit, &resolution.keys, &marks).await?);
        }
        Ok(found)
    }

    async fn fold_target(&mut self, unit: usize, bytes_max: u64) -> Result<Side> {
        if self.in_server {
            let walk = target_walk(self.opened, unit, (self.stop, self.pace));
            let buckets = walk.sums(self.conn).await?;
            let rows = buckets.total().count;
            return Ok(Side { buckets, rows, ..Side::default() });
        }
        let mut side = Side::new(bytes_max)?;
        let walk = target_walk(self.opened, unit, (self.stop, self.pace));
        side.rows = walk
            .all(self.conn, &mut |held| {
                let (key, row) = (held.key(), held.row());
                side.buckets.add(&key, &row);
                side.keep(&held.entry(&key, &row));
                Ok(())
            })
            .await?;
        Ok(side)
    }

    fn unit_result(&self, unit: usize, source: u64, target: u64, found: &Resolution) -> UnitResult {
        UnitResult {
            target: self.opened.plan.units[unit].name.clone(),
            against: Against::Source,
            source_rows: source,
            target_rows: target,
            missing: found.count(Kind::Missing),
            extra: found.count(Kind::Extra),
            changed: found.count(Kind::Changed),
            duplicates: found.count(Kind::Duplicate),
            superseded: found.superseded,
            sample: None,
            source_root: None,
            target_root: None,
        }
    }

    /// Rows of the checked tables that belong to no slice.
    pub(super) async fn outside_slices(&mut self) -> Result<Vec<OutsideSlices>> {
        let all = &self.opened.plan.units;
        let mut tables: Vec<String> =
            self.units.iter().map(|unit| all[*unit].table.display_name()).collect();
        tables.sort();
        tables.dedup();
        let mut outside = Vec::new();
        for table in tables {
            let slices: Vec<_> =
                all.iter().filter(|unit| unit.table.display_name() == table).collect();
            let rows = count_outside(self.conn, &slices).await?;
            if rows > 0 {
                outside.push(OutsideSlices { table, rows });
            }
        }
        Ok(outside)
    }

    /// Rows that retention removes, and that were therefore not compared.
    pub(super) async fn left_out(
        &mut self,
        tallies: &[Option<StreamTally>],
    ) -> Result<Vec<LeftOut>> {
        let mut found = Vec::new();
        for at in &self.units {
            let unit = &self.opened.plan.units[*at];
            if unit.removed.is_empty() {
                continue;
            }
            let of_source = tallies.iter().flatten().filter_map(|tally| tally.removed.get(at));
            let rules: Vec<String> = unit
                .removed
                .iter()
                .map(|before| format!("{} before {}", before.column, before.cutoff))
                .collect();
            found.push(LeftOut {
                target: unit.name.clone(),
                rule: rules.join(" or "),
                source_rows: of_source.sum(),
                target_rows: count_removed(self.conn, unit).await?,
            });
        }
        Ok(found)
    }

    fn fold_in_background(&self, wanted: Wanted) -> tokio::task::JoinHandle<Result<SourceFold>> {
        let streams = self.streams.clone();
        self.on_the_source(move |opened, accounts, (stop, pace)| {
            fold_source(opened, &streams, accounts, wanted, (stop, pace))
        })
    }

    /// Begins work on the source, on a thread of its own.
    fn on_the_source<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OpenedPack, &[Accounts], (&Stop, &Pace)) -> Result<T> + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<T>> {
        let (opened, accounts) = (Arc::clone(self.opened), Arc::clone(&self.accounts));
        let (stop, pace) = (self.stop.clone(), self.pace.clone());
        tokio::task::spawn_blocking(move || work(&opened, &accounts, (&stop, &pace)))
    }

    /// Judges the keys of differing buckets.
    async fn resolve(
        &mut self,
        unit: usize,
        differing: &[usize],
        source: &mut Side,
        target: &mut Side,
    ) -> Result<Resolution> {
        let (stream, output) = self.opened.plan.units[unit].feeds[0];
        let is_content = self.opened.plan.streams[stream].outputs[output].is_content;
        let mut resolution = Resolution::default();
        for group in groups(differing, &source.buckets, &target.buckets) {
            let mut entries = self.target_entries(unit, &group, target).await?;
            entries.append(&mut self.source_entries(unit, &group, source).await?);
            let gave_way = &source.gave_way;
            let limits = Limits {
                keys_max: self.differences_max,
                followed_max: self.follow.max,
                only: self.follow.only(unit),
                waiting: self.follow.waiting.get(&unit),
            };
            resolution.judge(&mut entries, gave_way, is_content, limits);
            self.stop.check()?;
        }
        Ok(resolution)
    }

    async fn target_entries(
        &mut self,
        unit: usize,
        buckets: &HashSet<usize>,
        side: &mut Side,
    ) -> Result<Vec<Entry>> {
        if let Some(spool) = &mut side.spool {
            return entries_in(buckets, |visit| spool.read(visit));
        }
        let walk = target_walk(self.opened, unit, (self.stop, self.pace));
        if self.in_server {
            return walk.entries(self.conn, buckets).await;
        }
        let mut entries = Vec::new();
        walk.all(self.conn, &mut |held| {
            let key = held.key();
            if buckets.contains(&Buckets::bucket_of(&key)) {
                entries.push(held.entry(&key, &held.row()));
            }
            Ok(())
        })
        .await?;
        Ok(entries)
    }

    async fn source_entries(
        &self,
        unit: usize,
        buckets: &HashSet<usize>,
        side: &mut Side,
    ) -> Result<Vec<Entry>> {
        if let Some(spool) = &mut side.spool {
            return entries_in(buckets, |visit| spool.read(visit));
        }
        let buckets = buckets.clone();
        let feeds = &self.opened.plan.units[unit].feeds;
        let is_feed = |stream: &usize| feeds.iter().any(|(feed, _)| feed == stream);
        let streams: Vec<usize> = self.streams.iter().copied().filter(is_feed).collect();
        self.on_the_source(move |opened, accounts, (stop, pace)| {
            let mut entries = Vec::new();
            for stream in streams {
                let accounts = &accounts[stream];
                let walk = SourceWalk { opened, stream, accounts, stop, pace };
                walk.all(None, &mut |expected| {
                    let output = &opened.plan.streams[stream].outputs[expected.output];
                    let key = expected.key();
                    if output.unit == unit && buckets.contains(&Buckets::bucket_of(&key)) {
                        let is_required = expected.account.is_none();
                        entries.push(Entry {
                            key: short(&key),
                            row: short(&expected.row()),
                            origin: if is_required { Origin::Required } else { Origin::GaveWay },
                            place: Place {
                                within: u32::try_from(stream).unwrap_or(u32::MAX),
                                at: expected.ordinal,
                            },
                        });
                    }
                    Ok(())
                })?;
            }
            Ok(entries)
        })
        .await
        .map_err(join_error)?
    }

    /// Fetches the differing rows whole, each from where it was seen.
    async fn fetch(
        &mut self,
        unit: usize,
        keys: &HashMap<Short, FoundKey>,
        marks: &Arc<Vec<Marks>>,
    ) -> Result<Vec<Difference>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pairs = self.fetch_source(unit, keys, marks).await?;
        let mut places: Vec<Place> = keys.values().flat_map(|key| key.target.clone()).collect();
        places.sort_unstable();
        let walk = target_walk(self.opened, unit, (self.stop, self.pace));
        walk.at(self.conn, &places, &mut |held| {
            let pair = pairs.entry(short(&held.key())).or_default();
            pair.target.push((held.tuple.to_vec(), held.row()));
            Ok(())
        })
        .await?;
        let mut ordered: Vec<(&Short, &RowPair)> = pairs.iter().collect();
        ordered.sort_unstable_by_key(|(key, _)| **key);
        Ok(ordered
            .into_iter()
            .filter_map(|(key, pair)| Some((*key, keys.get(key)?, pair)))
            .flat_map(|(key, found, pair)| pair.differences(self.opened, unit, key, found.kind))
            .collect())
    }

    /// Reads the records at these places again, on a thread of its own.
    async fn fetch_source(
        &self,
        unit: usize,
        keys: &HashMap<Short, FoundKey>,
        marks: &Arc<Vec<Marks>>,
    ) -> Result<HashMap<Short, RowPair>> {
        let wanted: HashSet<Short> = keys.keys().copied().collect();
        let mut places: Vec<Place> = keys.values().flat_map(|key| key.source.clone()).collect();
        places.sort_unstable();
        places.dedup();
        let marks = Arc::clone(marks);
        self.on_the_source(move |opened, accounts, (stop, pace)| {
            let mut pairs: HashMap<Short, RowPair> = HashMap::new();
            for of_stream in places.chunk_by(|left, right| left.within == right.within) {
                let stream = of_stream[0].within as usize;
                let ordinals: Vec<u64> = of_stream.iter().map(|place| place.at).collect();
                let accounts = &accounts[stream];
                let walk = SourceWalk { opened, stream, accounts, stop, pace };
                walk.at(&ordinals, &marks[stream], &mut |expected| {
                    let output = &opened.plan.streams[stream].outputs[expected.output];
                    let key = short(&expected.key());
                    if output.unit == unit && wanted.contains(&key) {
                        pairs.entry(key).or_default().keep(opened, expected);
                    }
                    Ok(())
                })?;
            }
            Ok(pairs)
        })
        .await
        .map_err(join_error)?
    }

    /// Whole rows of a uniform sample of keys.
    pub(super) async fn sample(&mut self, n: usize, seed: u64) -> Result<Found> {
        let source = self.fold_in_background(Wanted { bytes_max: 0, sample: Some((n, seed)) });
        let mut targets: Vec<(usize, Sample, u64)> = Vec::new();
        for unit in self.units.clone() {
            let mut sample = Sample::new(n, seed);
            let walk = target_walk(self.opened, unit, (self.stop, self.pace));
            let held = walk
                .all(self.conn, &mut |held| {
                    if let Some(seen) = sample.entry(&held.key()) {
                        let row = held.row();
                        seen.state.target.push(short(&row));
                        seen.rows.target.push((held.tuple.to_vec(), row));
                    }
                    Ok(())
                })
                .await?;
            targets.push((unit, sample, held));
        }
        let mut source = source.await.map_err(join_error)??;
        let mut found = Found {
            tallies: std::mem::take(&mut source.tallies),
            marks: Arc::new(std::mem::take(&mut source.marks)),
            ..Found::default()
        };
        for (unit, target, held) in targets {
            let left = std::mem::take(&mut source.samples[unit]);
            let (sampled, is_whole) = left.merge(target);
            let rows = (source.units[unit].rows, held);
            let mut result = self.judge_sample(unit, &sampled, rows, &mut found);
            let n = sampled.len() as u64;
            result.sample = Some(bound(n, result.differing(), is_whole));
            // Both sides were counted to be sampled: rows that are too few or too many are known,
            // whether or not the sample hit one.
            result.missing = result.missing.max(result.source_rows.saturating_sub(held));
            result.extra = result.extra.max(held.saturating_sub(result.source_rows));
            found.units.push(result);
        }
        Ok(found)
    }

    /// Reads values a second way, in every stream that was read.
    pub(super) async fn second_reading(
        &mut self,
        which: Independent,
        found: &mut Found,
    ) -> Result<()> {
        let marks = Arc::clone(&found.marks);
        let reading = SecondReading {
            opened: self.opened,
            accounts: &self.accounts,
            marks: &marks,
            stop: self.stop,
            pace: self.pace,
            differences_max: self.differences_max,
        };
        for stream in &self.streams {
            let records = found.tallies[*stream].as_ref().map_or(0, |tally| tally.read);
            let differences = &mut found.differences;
            let mut results =
                reading.of_stream(self.conn, *stream, records, which, differences).await?;
            found.independent.append(&mut results);
        }
        Ok(())
    }

    fn judge_sample(
        &self,
        unit: usize,
        sampled: &[(Digest, Sampled)],
        (source_rows, target_rows): (u64, u64),
        found: &mut Found,
    ) -> UnitResult {
        let mut resolution = Resolution::default();
        let mut named = 0;
        for (key, seen) in sampled {
            let Some(kind) = resolution.count_in(seen.state.judge()) else { continue };
            if named < self.differences_max {
                named += 1;
                found.differences.extend(seen.rows.differences(
                    self.opened,
                    unit,
                    short(key),
                    kind,
                ));
            }
        }
        self.unit_result(unit, source_rows, target_rows, &resolution)
    }
}

fn target_walk<'w>(
    opened: &'w OpenedPack,
    unit: usize,
    (stop, pace): (&'w Stop, &'w Pace),
) -> TargetWalk<'w> {
    let target = &opened.plan.units[unit];
    let (stream, output) = target.feeds[0];
    let output = &opened.plan.streams[stream].outputs[output];
    TargetWalk { unit: target, output, stop, pace }
}

/// The entries of some buckets among those `read` hands out.
fn entries_in(
    buckets: &HashSet<usize>,
    read: impl FnOnce(&mut dyn FnMut(Entry)) -> Result<()>,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    read(&mut |entry: Entry| {
        if buckets.contains(&Buckets::bucket_of(&entry.key)) {
            entries.push(entry);
        }
    })?;
    Ok(entries)
}
