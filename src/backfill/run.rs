//! A whole backfill: start, resume or join, stream after stream, sequences, verdict.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use crate::backfill::counts::Counts;
use crate::backfill::early;
use crate::backfill::finish::{Summary, counts_of, finish};
use crate::backfill::lease::{Field, Worker};
use crate::backfill::merge::can_copy_direct;
use crate::backfill::pack_lock::{lock_exclusive, lock_shared, unlock_shared};
use crate::backfill::parents::{self, Parents};
use crate::backfill::prepare::{Preparation, StreamPreparation};
use crate::backfill::snapshot::settle;
use crate::backfill::spans::{self, Extent};
use crate::backfill::start::{Role, Started, start};
use crate::backfill::stream::{Work, copy};
use crate::backfill::write::Sifting;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::{Gate, Told, Watch, Watched};
use crate::pack::units::InferredUnit;
use crate::retry::{is_passing, pause};
use crate::source::StreamSource;
use crate::store::{Connector, Postgres};

/// Progress of a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run of another process, still alive, is taken part in.
    Joined {
        /// Its id in `toolkit.run`.
        run_id: String,
    },
    /// A stream begins.
    Stream {
        /// Its name.
        name: String,
        /// Records, about.
        records: u64,
    },
    /// A chunk is committed.
    Chunk {
        /// Records in it.
        records: u64,
        /// Rejected ones among them.
        rejects: u64,
    },
    /// The stream is done.
    StreamDone,
    /// No further chunk is written for now.
    Paused {
        /// Why.
        reason: String,
    },
    /// Chunks are written again.
    Resumed,
}

impl From<Told> for Event {
    fn from(told: Told) -> Self {
        match told {
            Told::Paused(reason) => Self::Paused { reason },
            Told::Resumed => Self::Resumed,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The run's id in `toolkit.run`.
    pub run_id: String,
    /// The pack.
    pub pack: String,
    /// Whether an unfinished run was resumed.
    pub resumed: bool,
    /// Whether another process's run was joined; counts are then of the run as a whole.
    pub joined: bool,
    /// Workers of this process at most.
    pub workers: usize,
    /// Per stream.
    pub streams: Vec<StreamReport>,
    /// Streams of the pack without any source here.
    pub absent: Vec<String>,
    /// User triggers of the targets.
    pub triggers: Vec<String>,
    /// Whether they were switched off for what this run wrote.
    pub triggers_disabled: bool,
    /// Sequences that need somebody's attention.
    pub sequence_notes: Vec<String>,
    /// Units of numeric timestamps that were found in the columns themselves.
    pub inferred_units: Vec<InferredUnit>,
    /// Sequences that were moved forward, as `sequence -> value`.
    pub sequences: BTreeMap<String, i64>,
    /// Indexes built after the load, of this run or of one that was killed before it could.
    pub built_indexes: Vec<String>,
    /// Sources that changed while they were read.
    pub changed_sources: Vec<String>,
    /// The copy that was read instead of the sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<PathBuf>,
    /// Rejected records and rows.
    pub rejects: u64,
    /// Records read.
    pub read: u64,
    /// Rows inserted or updated.
    pub changed_rows: u64,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// One stream of a [`Report`].
#[derive(Debug, Clone, Serialize)]
pub struct StreamReport {
    /// Stream.
    pub stream: String,
    /// What became of its records.
    pub counts: Counts,
    /// Records per second in this process.
    pub rate: f64,
}

/// Runs what was prepared; takes part in the same run of other processes if one is alive.
pub async fn run(
    postgres: &Postgres,
    preparation: &Preparation,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let clock = Instant::now();
    let connector = postgres.connector();
    let mut conn = connector.dedicated().await?;
    let started = start(&mut conn, &connector, preparation, stop).await?;
    if let Some(snapshot) = &preparation.options.snapshot {
        settle(&mut conn, &preparation.pack, snapshot).await?;
    }
    if started.role == Role::Joined {
        on_event(Event::Joined { run_id: started.run_id.clone() });
    }
    let gate = Gate::new(&preparation.options.manners);
    let watched = Watched {
        connector: connector.clone(),
        run_id: Some(&started.run_id),
        workers: preparation.workers,
        manners: &preparation.options.manners,
        gate: gate.clone(),
        stop,
    };
    let tell = |told: Told| on_event(Event::from(told));
    let mut crew = Vec::new();
    let mut leader = Leader { connector, conn, preparation, run_id: &started.run_id, gate, stop };
    let outcome = match Watch::start(watched, &tell).await {
        Ok(mut watch) => {
            let outcome = tokio::select! {
                outcome = leader.load(&mut crew, on_event) => outcome,
                never = watch.keep(&tell) => match never {},
            };
            watch.end().await;
            outcome
        }
        Err(error) => Err(error),
    };
    dismiss(crew, &preparation.pack).await;
    let (rates, summary) = match outcome {
        Ok(done) => done,
        Err(error) => {
            leader.give_up(&error).await;
            return Err(error);
        }
    };
    let report = leader.report(&started, rates, summary, clock).await?;
    leader.conn.close().await?;
    Ok(report)
}

/// What a process does but once, beside its workers.
struct Leader<'a> {
    connector: Connector,
    /// Holds the pack's lock, shared, until the report is made.
    conn: PgConnection,
    preparation: &'a Preparation,
    run_id: &'a str,
    gate: Gate,
    stop: &'a Stop,
}

impl Leader<'_> {
    /// Copies all streams, then ends the run, or waits until another process has.
    async fn load(
        &mut self,
        crew: &mut Vec<Worker>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<(BTreeMap<String, f64>, Summary)> {
        let mut rates = BTreeMap::new();
        for stream in &self.preparation.streams {
            let clock = Instant::now();
            on_event(Event::Stream { name: stream.stream.clone(), records: stream.records });
            let records = self.copy_stream(stream, crew, on_event).await?;
            on_event(Event::StreamDone);
            let seconds = clock.elapsed().as_secs_f64().max(0.001);
            rates.insert(stream.stream.clone(), records as f64 / seconds);
        }
        let (preparation, run_id, stop) = (self.preparation, self.run_id, self.stop);
        let connector = self.connector.clone();
        let gate = self.gate.clone();
        let pass = stop.unless(async { Ok(gate.pass().await) }).await?;
        let summary = self
            .steadily(async |conn| finish(conn, &connector, preparation, run_id, stop).await)
            .await?;
        drop(pass);
        Ok((rates, summary))
    }

    /// Copies a stream's sources, one after the other; returns the records this process copied.
    async fn copy_stream(
        &mut self,
        stream: &StreamPreparation,
        crew: &mut Vec<Worker>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<u64> {
        let opened = &self.preparation.opened;
        let run_id = self.run_id;
        let initial_load =
            self.steadily(async |conn| initial_load(conn, run_id, &stream.stream).await).await?;
        let outputs = &opened.plan.streams[stream.index].outputs;
        let read = Mutex::new(0);
        let on_chunk = |event: Event| {
            if let (Event::Chunk { records, .. }, Ok(mut read)) = (&event, read.lock()) {
                *read += records;
            }
            on_event(event);
        };
        let (workers, options) = (self.preparation.workers, &self.preparation.options);
        let sources = opened.open_sources(stream.index)?;
        let early = match sources.as_slice() {
            [_] if initial_load => self.early(stream.index).await?,
            _ => Vec::new(),
        };
        let parents = self.parents(stream.index, initial_load).await?;
        for (source, records) in sources.into_iter().zip(&stream.source_records) {
            let work = Work {
                opened: opened.clone(),
                connector: self.connector.clone(),
                run_id: run_id.to_owned(),
                stream: stream.index,
                source: source.name().to_owned(),
                direct: outputs
                    .iter()
                    .map(|output| initial_load && can_copy_direct(output))
                    .collect(),
                parents: parents.clone(),
                early: early.clone(),
                initial_load,
                sifting: outputs.iter().map(|_| Sifting::default()).collect(),
                disable_triggers: options.disable_triggers,
                is_captured: self.preparation.is_captured,
                limits: options.limits.shared_by(workers).throttled(options.manners.throttle),
                gate: self.gate.clone(),
                stop: self.stop.clone(),
                oversize: Arc::new(Semaphore::new(1)),
                failed: Stop::new(),
            };
            let (source, pending) = self.plan(stream, source, *records).await?;
            let sources = readers(source, workers.min(pending))?;
            copy(work, crew, sources, &on_chunk).await?;
        }
        self.steadily(async |conn| end_stream(conn, run_id, &stream.stream).await).await?;
        Ok(read.into_inner().unwrap_or_default())
    }

    /// Of each output of a stream, the foreign keys that are looked after here.
    async fn parents(&mut self, stream: usize, initial_load: bool) -> Result<Vec<Option<Parents>>> {
        let opened = Arc::clone(&self.preparation.opened);
        let mut found = Vec::new();
        for output in &opened.plan.streams[stream].outputs {
            let is_direct = initial_load && can_copy_direct(output);
            found.push(if is_direct {
                self.steadily(async |conn| parents::of(conn, output).await).await?
            } else {
                None
            });
        }
        Ok(found)
    }

    /// Which references of a stream are filled in when all streams are copied.
    async fn early(&mut self, stream: usize) -> Result<Vec<usize>> {
        let (run_id, opened) = (self.run_id, Arc::clone(&self.preparation.opened));
        if self.preparation.is_captured || !can_copy_direct(&opened.plan.streams[stream].outputs[0])
        {
            return Ok(Vec::new());
        }
        let found = self
            .steadily(async |conn| early::forward(conn, &opened.plan, run_id, stream).await)
            .await?;
        if found.is_empty() || spans::records_are_apart(opened, stream).await? {
            return Ok(found);
        }
        Ok(Vec::new())
    }

    async fn plan(
        &mut self,
        stream: &StreamPreparation,
        source: StreamSource,
        records: u64,
    ) -> Result<(StreamSource, usize)> {
        let (run_id, opened) = (self.run_id, &self.preparation.opened);
        let extent = Extent {
            records,
            limits: self.preparation.options.limits,
            is_captured: self.preparation.is_captured,
        };
        let name = source.name().to_owned();
        let mut source = Some(source);
        self.steadily(async |conn| {
            let field = Field { run_id, stream: &stream.stream, source: &name };
            // A try before this one took it along when it failed.
            let source = match source.take() {
                Some(source) => source,
                None => reopened(opened.open_sources(stream.index)?, &name)?,
            };
            spans::plan(conn, opened, stream.index, field, source, &extent).await
        })
        .await
    }

    /// Does a step that may be repeated until it succeeds, with a new connection where needed.
    async fn steadily<T>(
        &mut self,
        mut step: impl AsyncFnMut(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let mut tries = 1;
        loop {
            let error = match step(&mut self.conn).await {
                Ok(done) => return Ok(done),
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
            if self.conn.ping().await.is_err()
                && let Ok(mut conn) = self.connector.dedicated().await
                && lock_shared(&mut conn, &self.preparation.pack).await.unwrap_or(false)
            {
                self.conn = conn;
            }
        }
    }

    /// Marks the run, if nobody else works on it; the store may be the very thing that failed,
    /// and the error itself matters more.
    async fn give_up(&mut self, error: &Error) {
        let status = if error.kind() == ErrorKind::Interrupted { "interrupted" } else { "failed" };
        if self.conn.ping().await.is_err() {
            let Ok(conn) = self.connector.dedicated().await else { return };
            self.conn = conn;
        }
        if let Err(error) = self.try_to_mark(status, error.detail()).await {
            tracing::warn!("run {} could not be marked {status}: {error}", self.run_id);
        }
    }

    async fn try_to_mark(&mut self, status: &str, error: &str) -> Result<()> {
        let pack = &self.preparation.pack;
        unlock_shared(&mut self.conn, pack).await?;
        // Sessions of this process that broke may take a moment to go.
        for _ in 0..5 {
            if lock_exclusive(&mut self.conn, pack).await? {
                sqlx::query(
                    "UPDATE toolkit.run SET status = $2, finished_at = now(), error = $3 \
                     WHERE run_id = $1::uuid AND status = 'running'",
                )
                .bind(self.run_id)
                .bind(status)
                .bind(error)
                .execute(&mut self.conn)
                .await?;
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn report(
        &mut self,
        started: &Started,
        rates: BTreeMap<String, f64>,
        summary: Summary,
        clock: Instant,
    ) -> Result<Report> {
        let mut built_indexes = started.built_indexes.clone();
        built_indexes.extend(summary.built_indexes);
        let mut report = Report {
            run_id: started.run_id.clone(),
            pack: self.preparation.pack.clone(),
            resumed: started.role == Role::Resumed,
            joined: started.role == Role::Joined,
            workers: self.preparation.workers,
            streams: Vec::new(),
            absent: self.preparation.absent.clone(),
            inferred_units: self.preparation.inferred_units.clone(),
            triggers: self.preparation.triggers.clone(),
            triggers_disabled: self.preparation.disable_triggers,
            sequence_notes: summary.sequence_notes,
            sequences: summary.sequences,
            built_indexes,
            changed_sources: summary.changed_sources,
            snapshot: self
                .preparation
                .options
                .snapshot
                .as_ref()
                .map(|copy| copy.folder().to_path_buf()),
            rejects: 0,
            read: 0,
            changed_rows: 0,
            seconds: 0.0,
        };
        let mut totals = Counts::default();
        for stream in &self.preparation.streams {
            let counts = counts_of(&mut self.conn, &started.run_id, &stream.stream).await?;
            totals.add(&counts);
            let rate = rates.get(&stream.stream).copied().unwrap_or_default();
            report.streams.push(StreamReport { stream: stream.stream.clone(), counts, rate });
        }
        report.rejects = totals.rejects();
        report.read = totals.read;
        report.changed_rows = totals.changed_rows();
        report.seconds = clock.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// Ends the workers' sessions. What they did is committed; a connection that broke since then
/// matters to nobody.
async fn dismiss(crew: Vec<Worker>, pack: &str) {
    for mut worker in crew {
        // Closing alone would let the server take its time to release the lock.
        if unlock_shared(&mut worker.conn, pack).await.is_ok() {
            let _ = worker.conn.close().await;
        }
    }
}

/// As many readers of a source as there are workers to use them; one, where it has but one.
fn readers(source: StreamSource, workers: usize) -> Result<Vec<StreamSource>> {
    let mut readers = Vec::new();
    for _ in 1..workers {
        let Some(reader) = source.reopen()? else { break };
        readers.push(reader);
    }
    if workers > 0 {
        readers.push(source);
    }
    Ok(readers)
}

fn reopened(sources: Vec<StreamSource>, name: &str) -> Result<StreamSource> {
    sources.into_iter().find(|source| source.name() == name).ok_or_else(|| {
        Error::new(ErrorKind::SourceChanged, format!("the source {name} is no longer there"))
    })
}

async fn initial_load(conn: &mut PgConnection, run_id: &str, stream: &str) -> Result<bool> {
    let initial_load = sqlx::query_scalar(
        "SELECT initial_load FROM toolkit.stream_state WHERE run_id = $1::uuid AND stream = $2",
    )
    .bind(run_id)
    .bind(stream)
    .fetch_one(conn)
    .await?;
    Ok(initial_load)
}

async fn end_stream(conn: &mut PgConnection, run_id: &str, stream: &str) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.stream_state SET state = 'done' \
         WHERE run_id = $1::uuid AND stream = $2 AND state <> 'done'",
    )
    .bind(run_id)
    .bind(stream)
    .execute(conn)
    .await?;
    Ok(())
}
