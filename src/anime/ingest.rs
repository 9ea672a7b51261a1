//! A run: artifacts are read, written group by group, checkpointed, resolved.
//!
//! One process at a time writes the pack. A group's rows, rejects, ledger entries, counts and
//! checkpoint commit together: killed anywhere, the same command goes on after the last group.

mod group;
mod pair;
mod prepare;
pub(in crate::anime) mod reader;
mod record;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::anime::ingest::group::{Place, Written};
use crate::anime::ingest::pair::Half;
use crate::anime::ingest::reader::{Group, GroupLimits, Item};
use crate::anime::resolve::{self, Resolution};
use crate::anime::retry;
use crate::anime::store::Artifact;
use crate::backfill::{Event, is_passing, pause, release_exclusive, require_exclusive, to_json};
use crate::cast::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::{Amount, Gate, Manners, Rate, Told, Watch, Watched};
use crate::pack::join_error;
use crate::store::{Connector, Postgres};

pub use group::EntryCounts;
pub(in crate::anime) use group::{STREAM, refusal_of};
pub(in crate::anime) use prepare::artifacts;
pub use prepare::{ArtifactFile, Preparation, prepare};

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Start over instead of resuming an unfinished run.
    pub restart: bool,
    /// Entries of a group at most.
    pub entries_max: usize,
    /// Whether edges are resolved at the end.
    pub resolves: bool,
    /// Hear entries again that are known: what is missing in Postgres is filled in, what differs is
    /// proposed to review.
    pub again: bool,
    /// How fast it may write, and when it has to wait.
    pub manners: Manners,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            restart: false,
            entries_max: 1024,
            resolves: true,
            again: false,
            manners: Manners::default(),
        }
    }
}

/// How many plain records an entry weighs as much as, about.
const ENTRY_WEIGHT: usize = 8;

/// Bytes of a group's entries at most, but for the last of them.
pub(in crate::anime) const GROUP_BYTES_MAX: usize = 2 << 20;

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The run's id in `toolkit.run`.
    pub run_id: String,
    /// The pack.
    pub pack: String,
    /// Whether an unfinished run was resumed.
    pub resumed: bool,
    /// What became of the entries, by artifact.
    pub artifacts: BTreeMap<String, EntryCounts>,
    /// Of all of them.
    pub total: EntryCounts,
    /// What the resolver did at the end.
    pub resolution: Option<Resolution>,
    /// Changes that wait for a person, all in all.
    pub open_reviews: i64,
    /// The sidecars that were there and were brought up to date.
    pub sidecars: Vec<PathBuf>,
    /// Entries per second in this process.
    pub rate: f64,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// Runs what was prepared.
pub async fn run(
    postgres: &Postgres,
    preparation: &Preparation,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let clock = Instant::now();
    let connector = postgres.connector();
    let mut conn = connector.dedicated().await?;
    require_exclusive(&mut conn, &preparation.pack).await?;
    let manners = &preparation.options.manners;
    let gate = Gate::new(manners);
    let watching = (connector.clone(), gate.clone());
    let (id, corrected) = (String::new(), Arc::default());
    let beside = None;
    let mut run = Run { connector, conn, beside, preparation, stop, gate, id, corrected };
    let resumed = run.begin().await?;
    run.corrected = Arc::new(retry::corrected(&mut run.conn).await?.into_iter().collect());
    let run_id = run.id.clone();
    let (connector, gate) = watching;
    let watched = Watched { connector, run_id: Some(&run_id), workers: 1, manners, gate, stop };
    let tell = |told: Told| on_event(Event::from(told));
    let done = match Watch::start(watched, &tell).await {
        Ok(mut watch) => {
            let done = tokio::select! {
                done = run.ingest(on_event) => done,
                never = watch.keep(&tell) => match never {},
            };
            watch.end().await;
            done
        }
        Err(error) => Err(error),
    };
    let (rate, resolution) = match done {
        Ok(done) => done,
        Err(error) => {
            run.give_up(&error).await;
            // What cannot be released ends with the session.
            let _ = release_exclusive(&mut run.conn, &preparation.pack).await;
            return Err(error);
        }
    };
    let mut report = run.finish(resumed, resolution).await?;
    report.rate = rate;
    report.seconds = clock.elapsed().as_secs_f64();
    release_exclusive(&mut run.conn, &preparation.pack).await?;
    run.conn.close().await?;
    Ok(report)
}

struct Run<'a> {
    connector: Connector,
    /// Holds the pack's lock.
    conn: PgConnection,
    /// For the second of two groups at a time.
    beside: Option<PgConnection>,
    preparation: &'a Preparation,
    stop: &'a Stop,
    /// Asked before each group is written.
    gate: Gate,
    /// In `toolkit.run`.
    id: String,
    /// Records that are stored corrected.
    corrected: Arc<HashSet<[u8; 32]>>,
}

impl Run<'_> {
    async fn ingest(
        &mut self,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<(f64, Option<Resolution>)> {
        let clock = Instant::now();
        let mut entries = 0;
        for artifact in &self.preparation.artifacts {
            // Entries of real artifacts have 1.5 KB and more; it is a guess for the progress bar.
            let records = artifact.bytes / 1_500 + 1;
            on_event(Event::Stream { name: artifact.file.clone(), records });
            entries += self.artifact(artifact, on_event).await?;
            on_event(Event::StreamDone);
        }
        let rate = entries as f64 / clock.elapsed().as_secs_f64().max(0.001);
        if !self.preparation.options.resolves {
            return Ok((rate, None));
        }
        let run_id = self.id.clone();
        let resolution = resolve::apply(&mut self.conn, &run_id, false).await?;
        Ok((rate, Some(resolution)))
    }

    fn limits(&self) -> GroupLimits {
        let options = &self.preparation.options;
        let most =
            GroupLimits { entries_max: options.entries_max.max(1), bytes_max: GROUP_BYTES_MAX };
        throttled(most, options.manners.throttle)
    }

    /// Reads an artifact from where it was left; returns the entries of this process.
    async fn artifact(
        &mut self,
        artifact: &ArtifactFile,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<u64> {
        let (from, mut number, is_done) = self.standing(&artifact.file).await?;
        let run = self.ingestion_run(artifact).await?;
        let mut shared = Artifact {
            run,
            date: self.header_date(run).await?,
            again: self.preparation.options.again,
        };
        let mut entries = 0;
        if !is_done {
            let limits = self.limits();
            let (run_id, corrected) = (self.id.clone(), Arc::clone(&self.corrected));
            let redactor = Arc::clone(&self.preparation.redactor);
            let (mut groups, thread) =
                reader::start(artifact.source.clone(), from, redactor, limits);
            let mut ahead = groups.recv().await;
            while let Some(group) = ahead {
                self.stop.check()?;
                self.remember_header(&group, &mut shared).await?;
                ahead = groups.recv().await;
                let is_alone = self.preparation.options.manners.throttle.is_some();
                let together = ahead.take_if(|next| !is_alone && pair::are_apart(&group, next));
                let mut left: Vec<Group> = [group].into_iter().chain(together).collect();
                entries += left.iter().map(|group| group.items.len() as u64).sum::<u64>();
                let admitted = async { Ok(self.gate.admit(amount(&left)).await) };
                let pass = self.stop.unless(admitted).await?;
                let mut place = Place {
                    run_id: &run_id,
                    corrected: &corrected,
                    pack: &self.preparation.pack,
                    file: &artifact.file,
                    artifact: &shared,
                    policy: &self.preparation.policy,
                    number,
                };
                if let [first, second] = left.as_slice() {
                    let done = self.pair(place, [&first.items, &second.items], on_event).await;
                    left.drain(..done);
                    place.number += i64::try_from(done).unwrap_or_default();
                }
                for group in &left {
                    place.number = self.group(place, &group.items, on_event).await?;
                }
                number = place.number;
                drop(pass);
                if ahead.is_none() {
                    ahead = groups.recv().await;
                }
            }
            thread.await.map_err(join_error)??;
            self.end_of_file(&artifact.file, number).await?;
        }
        sqlx::query(
            "UPDATE ingestion_runs SET status = 'completed', finished_at = now(), error = NULL, \
             counts = $2::jsonb WHERE id = $1",
        )
        .bind(run)
        .bind(to_json(&self.counts(Some(&artifact.file)).await?)?)
        .execute(&mut self.conn)
        .await?;
        Ok(entries)
    }

    /// Writes two groups side by side; returns how many of them are committed.
    async fn pair(
        &mut self,
        place: Place<'_>,
        items: [&[Item]; 2],
        on_event: &(dyn Fn(Event) + Sync),
    ) -> usize {
        let mut beside = match self.beside.take() {
            Some(conn) => conn,
            None => match self.connector.dedicated().await {
                Ok(conn) => conn,
                Err(error) => {
                    tracing::debug!("no second connection: {error}");
                    return 0;
                }
            },
        };
        let next = Place { number: place.number + 1, ..place };
        let first = Half { conn: &mut self.conn, place, items: items[0] };
        let second = Half { conn: &mut beside, place: next, items: items[1] };
        let done = Box::pin(pair::write(first, second)).await;
        for (counts, items) in done.iter().zip(items) {
            let rejects = counts.counts.records.rejected;
            on_event(Event::Chunk { records: items.len() as u64, rejects });
        }
        // One that was in trouble is closed, and what it had not committed is gone at once.
        if done.len() == items.len() {
            self.beside = Some(beside);
        } else if let Err(error) = beside.close().await {
            tracing::debug!("the second connection: {error}");
        }
        done.len()
    }

    /// Writes a group; in halves where Postgres refuses a value, down to the entry that has it.
    /// Returns the next group's number.
    async fn group(
        &mut self,
        mut place: Place<'_>,
        items: &[Item],
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<i64> {
        let all: Vec<&Item> = items.iter().collect();
        let mut left = vec![all];
        while let Some(part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            let written = match self.steadily(place, &part, None).await? {
                Written::Refused(error) if part.len() > 1 => {
                    tracing::debug!("a group is split: {error}");
                    let (first, second) = part.split_at(part.len() / 2);
                    left.push(second.to_vec());
                    left.push(first.to_vec());
                    continue;
                }
                Written::Refused(error) => {
                    let refusal = refusal_of(&error);
                    self.steadily(place, &part, Some(&refusal)).await?
                }
                done @ Written::Done(_) => done,
            };
            let Written::Done(counts) = written else {
                return Err(Error::new(ErrorKind::Bug, "a reject was refused itself"));
            };
            let rejects = counts.counts.records.rejected;
            on_event(Event::Chunk { records: part.len() as u64, rejects });
            place.number += 1;
        }
        Ok(place.number)
    }

    /// Writes a group, again with a new connection while the server is away.
    async fn steadily(
        &mut self,
        place: Place<'_>,
        items: &[&Item],
        refused: Option<&Refusal>,
    ) -> Result<Written> {
        let mut tries = 1;
        loop {
            let error = match group::write(&mut self.conn, place, items, refused).await {
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            self.stop.check()?;
            let Some(pause) = pause(tries).filter(|_| is_passing(&error)) else {
                return Err(error);
            };
            tracing::warn!(tries, "{error}; retrying");
            tries += 1;
            let wait = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            self.stop.unless(wait).await?;
            // The lost session's lock may take a moment to go.
            if self.conn.ping().await.is_err()
                && let Ok(mut conn) = self.connector.dedicated().await
                && require_exclusive(&mut conn, &self.preparation.pack).await.is_ok()
            {
                self.conn = conn;
            }
        }
    }
}

/// Of a group; small enough to come in even portions under a throttle. An entry becomes many rows,
/// so its portion is smaller than a record's.
pub(in crate::anime) fn throttled(most: GroupLimits, rate: Option<Rate>) -> GroupLimits {
    match rate {
        None => most,
        Some(rate @ Rate::Rows(_)) => GroupLimits {
            entries_max: most.entries_max.min(rate.portion().div_ceil(ENTRY_WEIGHT)),
            ..most
        },
        Some(rate @ Rate::Bytes(_)) => {
            GroupLimits { bytes_max: most.bytes_max.min(rate.portion()), ..most }
        }
    }
}

/// What a group costs under a throttle.
pub(in crate::anime) fn amount(groups: &[Group]) -> Amount {
    let items = || groups.iter().flat_map(|group| &group.items);
    let bytes = items().map(|item| item.bytes.len() as u64).sum();
    Amount { rows: items().count() as u64, bytes }
}
