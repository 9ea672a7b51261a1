//! A whole verification: snapshot, first pass on both sides at once, second pass where it is
//! needed, verdict, stored result.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::canonical::{Buckets, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::parity::accounts::Accounts;
use crate::parity::difference::{Difference, Kind};
use crate::parity::fold::{Side, SourceFold, fold_source};
use crate::parity::report::{OutsideSlices, Report, StreamResult, UnitResult, Verdict};
use crate::parity::resolve::{KeyState, Resolution, RowPair, groups};
use crate::parity::sample::{Sample, Sampled, bound};
use crate::parity::store;
use crate::parity::walk::{
    Expected, StreamTally, TargetSink, begin_snapshot, count_outside, walk_source, walk_target,
};
use crate::store::Postgres;

/// How thoroughly the stores are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Rows per slice.
    Counts,
    /// Whole rows of a uniform sample of keys per slice.
    Sample {
        /// Keys per slice.
        n: usize,
        /// Seed of the choice.
        seed: u64,
    },
    /// Every row.
    Full,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Sample { .. } => "sample",
            Self::Full => "full",
        }
    }
}

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// How thoroughly.
    pub level: Level,
    /// Only slices these streams feed; empty: all.
    pub streams: Vec<String>,
    /// Differing rows named at most; all are counted.
    pub differences_max: usize,
}

/// Verifies the pack's targets against its sources and stores the result.
pub async fn verify(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    let started = Instant::now();
    let units = checked_units(&opened, options)?;
    let streams: Vec<usize> = streams_of(&opened, &units);
    let mut conn = postgres.dedicated().await?;
    let (lsn, snapshot) = begin_snapshot(&mut conn).await?;
    let mut accounts = Vec::new();
    for stream in &opened.plan.streams {
        accounts.push(Accounts::load(&mut conn, &opened.plan.name, &stream.name).await?);
    }
    let mut verification = Verification {
        opened: &opened,
        accounts: Arc::new(accounts),
        streams,
        units: units.clone(),
        stop,
        conn: &mut conn,
        differences_max: options.differences_max,
    };
    let mut found = match options.level {
        Level::Sample { n, seed } => verification.sample(n, seed).await?,
        level => verification.buckets(level == Level::Full).await?,
    };
    let outside_slices = verification.outside_slices().await?;
    sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
    found.unaccounted(&opened, options.differences_max);
    let differing_rows =
        found.units.iter().map(UnitResult::differing).sum::<u64>() + found.unaccounted_total();
    let is_clean = differing_rows == 0;
    let changed_sources = if is_clean {
        Vec::new()
    } else {
        let opened = Arc::clone(&opened);
        tokio::task::spawn_blocking(move || opened.changed_sources())
            .await
            .map_err(join_error)??
    };
    let report = Report {
        run_id: uuid::Uuid::new_v4().to_string(),
        pack: opened.plan.name.clone(),
        level: options.level.name().to_owned(),
        verdict: if is_clean { Verdict::Clean } else { Verdict::Differences },
        streams: found.stream_results(&opened),
        units: found.units,
        differences: found.differences,
        differing_rows,
        not_checked: not_checked(&opened),
        outside_slices,
        changing_triggers: if is_clean { Vec::new() } else { changing_triggers(&opened, &units) },
        changed_sources,
        snapshot_lsn: lsn,
        seconds: started.elapsed().as_secs_f64(),
    };
    let settings = json!({
        "level": options.level.name(),
        "streams": options.streams,
        "differences_max": options.differences_max,
        "sample": match options.level {
            Level::Sample { n, seed } => json!({ "n": n, "seed": seed }),
            _ => serde_json::Value::Null,
        },
    });
    store::store(&mut conn, &opened, &settings, &snapshot, &report).await?;
    conn.close().await?;
    Ok(report)
}

/// The units to check: all that a found stream feeds, or that a wanted stream feeds.
fn checked_units(opened: &OpenedPack, options: &Options) -> Result<Vec<usize>> {
    for name in &options.streams {
        let Some(index) = opened.plan.stream_index(name) else {
            let known: Vec<&str> =
                opened.plan.streams.iter().map(|stream| stream.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the pack {} has no stream `{name}`", opened.plan.name),
            )
            .advice(format!("its streams are: {}", known.join(", "))));
        };
        if !opened.has_source(index) {
            return Err(Error::new(
                ErrorKind::SourceMissing,
                format!("no source of stream `{name}` was found, so it cannot be verified"),
            ));
        }
    }
    let is_checked = |unit: &crate::pack::plan::Unit| {
        unit.feeds.iter().any(|(stream, _)| {
            opened.has_source(*stream)
                && (options.streams.is_empty()
                    || options.streams.contains(&opened.plan.streams[*stream].name))
        })
    };
    let units = opened.plan.units.iter().enumerate();
    Ok(units.filter(|(_, unit)| is_checked(unit)).map(|(index, _)| index).collect())
}

/// Triggers that may have stored other rows than they were given.
fn changing_triggers(opened: &OpenedPack, units: &[usize]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for trigger in units.iter().flat_map(|unit| &opened.plan.units[*unit].table.triggers) {
        let name = format!("{} of {}.{}", trigger.name, trigger.schema, trigger.table);
        if trigger.changes_rows && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn streams_of(opened: &OpenedPack, units: &[usize]) -> Vec<usize> {
    (0..opened.plan.streams.len())
        .filter(|stream| {
            opened.has_source(*stream)
                && units
                    .iter()
                    .any(|unit| opened.plan.units[*unit].feeds.iter().any(|(s, _)| s == stream))
        })
        .collect()
}

fn not_checked(opened: &OpenedPack) -> Vec<String> {
    (0..opened.plan.streams.len())
        .filter(|stream| !opened.has_source(*stream))
        .map(|stream| opened.plan.streams[stream].name.clone())
        .collect()
}

struct Verification<'a> {
    opened: &'a Arc<OpenedPack>,
    accounts: Arc<Vec<Accounts>>,
    streams: Vec<usize>,
    units: Vec<usize>,
    stop: &'a Stop,
    conn: &'a mut PgConnection,
    differences_max: usize,
}

/// What was found, before it becomes a report.
#[derive(Default)]
struct Found {
    units: Vec<UnitResult>,
    differences: Vec<Difference>,
    tallies: Vec<Option<StreamTally>>,
}

impl Verification<'_> {
    async fn buckets(&mut self, full: bool) -> Result<Found> {
        let source = self.fold_in_background();
        let mut targets: HashMap<usize, Side> = HashMap::new();
        for unit in self.units.clone() {
            let mut side = Side::default();
            self.walk_target(unit, &mut |_, key, row| {
                side.rows += 1;
                side.buckets.add(key, row);
                Ok(())
            })
            .await?;
            targets.insert(unit, side);
        }
        let source = source.await.map_err(join_error)??;
        let mut found = Found { tallies: source.tallies, ..Found::default() };
        for unit in self.units.clone() {
            let (left, right) = (&source.units[unit], &targets[&unit]);
            let mut differing = left.buckets.differing(&right.buckets);
            differing.extend(&left.judged);
            differing.sort_unstable();
            differing.dedup();
            let resolution = if !full || differing.is_empty() {
                Resolution::default()
            } else {
                self.resolve(unit, &differing, &left.buckets, &right.buckets).await?
            };
            let mut result = self.unit_result(unit, left.rows, right.rows, &resolution);
            if !full {
                result.missing = left.rows.saturating_sub(right.rows);
                result.extra = right.rows.saturating_sub(left.rows);
            }
            let mut differences = self.fetch(unit, &resolution).await?;
            found.units.push(result);
            found.differences.append(&mut differences);
        }
        Ok(found)
    }

    fn unit_result(&self, unit: usize, source: u64, target: u64, found: &Resolution) -> UnitResult {
        UnitResult {
            target: self.opened.plan.units[unit].name.clone(),
            source_rows: source,
            target_rows: target,
            missing: found.count(Kind::Missing),
            extra: found.count(Kind::Extra),
            changed: found.count(Kind::Changed),
            duplicates: found.count(Kind::Duplicate),
            superseded: found.superseded,
            sample: None,
        }
    }

    /// Rows of the checked tables that belong to no slice.
    async fn outside_slices(&mut self) -> Result<Vec<OutsideSlices>> {
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

    fn fold_in_background(&self) -> tokio::task::JoinHandle<Result<SourceFold>> {
        let (opened, accounts) = (Arc::clone(self.opened), Arc::clone(&self.accounts));
        let (streams, stop) = (self.streams.clone(), self.stop.clone());
        tokio::task::spawn_blocking(move || fold_source(&opened, &streams, &accounts, &stop))
    }

    async fn walk_target(&mut self, unit: usize, sink: &mut TargetSink<'_>) -> Result<u64> {
        let target = &self.opened.plan.units[unit];
        let (stream, output) = target.feeds[0];
        let output = &self.opened.plan.streams[stream].outputs[output];
        walk_target(self.conn, target, output, self.stop, sink).await
    }

    /// Reads the source rows of one unit whose keys `wanted` accepts, on a thread of its own.
    fn source_rows<T: Send + 'static>(
        &self,
        unit: usize,
        mut state: T,
        mut visit: impl FnMut(&mut T, &OpenedPack, &Expected<'_>) + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<T>> {
        let (opened, accounts) = (Arc::clone(self.opened), Arc::clone(&self.accounts));
        let stop = self.stop.clone();
        let streams: Vec<usize> = self
            .streams
            .iter()
            .copied()
            .filter(|stream| opened.plan.units[unit].feeds.iter().any(|(s, _)| s == stream))
            .collect();
        tokio::task::spawn_blocking(move || {
            for stream in streams {
                walk_source(&opened, stream, &accounts[stream], &stop, &mut |expected| {
                    let output = &opened.plan.streams[expected.stream].outputs[expected.output];
                    if output.unit == unit {
                        visit(&mut state, &opened, expected);
                    }
                    Ok(())
                })?;
            }
            Ok(state)
        })
    }

    async fn resolve(
        &mut self,
        unit: usize,
        differing: &[usize],
        source: &Buckets,
        target: &Buckets,
    ) -> Result<Resolution> {
        let mut resolution = Resolution::default();
        for group in groups(differing, source, target) {
            let group = Arc::new(group);
            let wanted = Arc::clone(&group);
            let rows = self.source_rows(
                unit,
                HashMap::<Digest, KeyState>::new(),
                move |keys, _, expected| {
                    if wanted.contains(&Buckets::bucket_of(&expected.key)) {
                        keys.entry(expected.key).or_default().expect(expected);
                    }
                },
            );
            let mut held: Vec<(Digest, Digest)> = Vec::new();
            self.walk_target(unit, &mut |_, key, row| {
                if group.contains(&Buckets::bucket_of(key)) {
                    held.push((*key, *row));
                }
                Ok(())
            })
            .await?;
            let mut keys = rows.await.map_err(join_error)??;
            for (key, row) in held {
                keys.entry(key).or_default().target.push(row);
            }
            resolution.judge(&keys, self.differences_max);
        }
        Ok(resolution)
    }

    /// Fetches the differing rows whole.
    async fn fetch(&mut self, unit: usize, resolution: &Resolution) -> Result<Vec<Difference>> {
        if resolution.keys.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Arc<HashSet<Digest>> = Arc::new(resolution.keys.keys().copied().collect());
        let filter = Arc::clone(&wanted);
        let rows = self.source_rows(
            unit,
            HashMap::<Digest, RowPair>::new(),
            move |pairs, opened, expected| {
                if filter.contains(&expected.key) {
                    pairs.entry(expected.key).or_default().keep(opened, expected);
                }
            },
        );
        let mut held: Vec<(Digest, Vec<u8>, Digest)> = Vec::new();
        self.walk_target(unit, &mut |tuple, key, row| {
            if wanted.contains(key) {
                held.push((*key, tuple.to_vec(), *row));
            }
            Ok(())
        })
        .await?;
        let mut pairs = rows.await.map_err(join_error)??;
        for (key, tuple, row) in held {
            pairs.entry(key).or_default().target.push((tuple, row));
        }
        let mut ordered: Vec<(&Digest, &RowPair)> = pairs.iter().collect();
        ordered.sort_unstable_by_key(|(key, _)| **key);
        Ok(ordered
            .into_iter()
            .flat_map(|(key, pair)| pair.differences(self.opened, unit, resolution.keys[key]))
            .collect())
    }

    async fn sample(&mut self, n: usize, seed: u64) -> Result<Found> {
        let mut found = Found::default();
        let fold = self.fold_in_background().await.map_err(join_error)??;
        found.tallies = fold.tallies;
        for unit in self.units.clone() {
            let rows = self.source_rows(unit, Sample::new(n, seed), |sample, opened, row| {
                if let Some(seen) = sample.entry(&row.key) {
                    seen.state.expect(row);
                    seen.rows.keep(opened, row);
                }
            });
            let mut target = Sample::new(n, seed);
            let held = self
                .walk_target(unit, &mut |tuple, key, row| {
                    if let Some(seen) = target.entry(key) {
                        seen.state.target.push(*row);
                        seen.rows.target.push((tuple.to_vec(), *row));
                    }
                    Ok(())
                })
                .await?;
            let (sampled, is_whole) = rows.await.map_err(join_error)??.merge(target);
            let mut result =
                self.judge_sample(unit, &sampled, (fold.units[unit].rows, held), &mut found);
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

    fn judge_sample(
        &self,
        unit: usize,
        sampled: &[(Digest, Sampled)],
        (source_rows, target_rows): (u64, u64),
        found: &mut Found,
    ) -> UnitResult {
        let mut resolution = Resolution::default();
        for (key, seen) in sampled {
            resolution.add(key, seen.state.judge(), self.differences_max);
        }
        for (key, seen) in sampled {
            if let Some(kind) = resolution.keys.get(key) {
                found.differences.extend(seen.rows.differences(self.opened, unit, *kind));
            }
        }
        self.unit_result(unit, source_rows, target_rows, &resolution)
    }
}

impl Found {
    fn unaccounted_total(&self) -> u64 {
        self.tallies.iter().flatten().map(|tally| tally.unaccounted).sum()
    }

    /// Names what backfill should have recorded, after the rows that differ.
    fn unaccounted(&mut self, opened: &OpenedPack, differences_max: usize) {
        for (stream, tally) in self.tallies.iter().enumerate() {
            let Some(tally) = tally else { continue };
            let plan = &opened.plan.streams[stream];
            for entry in &tally.examples {
                if self.differences.len() >= differences_max {
                    return;
                }
                let unit = plan.outputs[entry.output].unit;
                self.differences.push(Difference {
                    stream: plan.name.clone(),
                    target: opened.plan.units[unit].name.clone(),
                    kind: Kind::Unaccounted,
                    key: serde_json::Map::new(),
                    column: None,
                    source_value: Some(entry.what.clone()),
                    target_value: None,
                    source_digest: None,
                    target_digest: None,
                    locator: Some(format!("{}, {}", entry.source, entry.locator)),
                });
            }
        }
    }

    fn stream_results(&self, opened: &OpenedPack) -> Vec<StreamResult> {
        self.tallies
            .iter()
            .enumerate()
            .filter_map(|(stream, tally)| {
                let tally = tally.as_ref()?;
                Some(StreamResult {
                    stream: opened.plan.streams[stream].name.clone(),
                    read: tally.read,
                    rejected: tally.rejected,
                    skipped: tally.skipped,
                    superseded: tally.superseded,
                    ledgered: tally.ledgered,
                    unaccounted: tally.unaccounted,
                })
            })
            .collect()
    }
}
