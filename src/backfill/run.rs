//! A whole backfill: resume or start, stream after stream, sequences, verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::backfill::counts::Counts;
use crate::backfill::indexes;
use crate::backfill::merge::can_copy_direct;
use crate::backfill::prepare::{Preparation, StreamPreparation};
use crate::backfill::resume::{settings_json, show};
use crate::backfill::sequences::set_sequences;
use crate::backfill::stream::Copying;
use crate::backfill::write::to_json;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::units::InferredUnit;
use crate::pack::{OpenedPack, join_error};
use crate::source::discover::discover;
use crate::store::Postgres;

/// Tries without a chunk between them while the store is away: 12 seconds of waiting in all.
const TRIES_MAX: u32 = 6;

/// Progress of a run.
#[derive(Debug, Clone)]
pub enum Event {
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
    /// Per stream.
    pub streams: Vec<StreamReport>,
    /// Streams of the pack without any source here.
    pub absent: Vec<String>,
    /// Units of numeric timestamps that were found in the columns themselves.
    pub inferred_units: Vec<InferredUnit>,
    /// Sequences that were moved forward, as `sequence -> value`.
    pub sequences: BTreeMap<String, i64>,
    /// Indexes built after the load, of this run or of one that was killed before it could.
    pub built_indexes: Vec<String>,
    /// Sources that changed while they were read.
    pub changed_sources: Vec<String>,
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

/// Runs what was prepared.
pub async fn run(
    postgres: &Postgres,
    preparation: &Preparation,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let opened = &preparation.opened;
    let started = Instant::now();
    let mut conn = postgres.dedicated().await?;
    lock_pack(&mut conn, &opened.plan.name).await?;
    let run_id = begin(&mut conn, preparation).await?;
    let outcome = load(postgres, preparation, &run_id, stop, on_event, &mut conn).await;
    let (rates, built_indexes) = match outcome {
        Ok(done) => done,
        Err(error) => {
            give_up(postgres, &run_id, &error).await;
            return Err(error);
        }
    };
    let mut report = Report {
        run_id: run_id.clone(),
        pack: opened.plan.name.clone(),
        resumed: preparation.resumes.is_some(),
        streams: Vec::new(),
        absent: preparation.absent.clone(),
        inferred_units: preparation.inferred_units.clone(),
        sequences: set_sequences(&mut conn, preparation).await?,
        built_indexes,
        changed_sources: changed_sources(preparation).await?,
        rejects: 0,
        read: 0,
        changed_rows: 0,
        seconds: 0.0,
    };
    let mut totals = Counts::default();
    for stream in &preparation.streams {
        let counts = counts_of(&mut conn, &run_id, &stream.stream).await?;
        totals.add(&counts);
        resolve_old_rejects(&mut conn, &run_id, opened, &stream.stream).await?;
        let rate = rates.get(&stream.stream).copied().unwrap_or_default();
        report.streams.push(StreamReport { stream: stream.stream.clone(), counts, rate });
    }
    report.rejects = totals.rejects();
    report.read = totals.read;
    report.changed_rows = totals.changed_rows();
    report.seconds = started.elapsed().as_secs_f64();
    let error = (!report.changed_sources.is_empty())
        .then(|| format!("changed while being read: {}", report.changed_sources.join(", ")));
    end(&mut conn, &run_id, "completed", Some(&totals), error.as_deref()).await?;
    conn.close().await?;
    Ok(report)
}

/// Marks the run; the store may be the very thing that failed, and the error itself matters more.
async fn give_up(postgres: &Postgres, run_id: &str, error: &Error) {
    let status = if error.kind() == ErrorKind::Interrupted { "interrupted" } else { "failed" };
    let Ok(mut conn) = postgres.dedicated().await else { return };
    if let Err(error) = end(&mut conn, run_id, status, None, Some(error.detail())).await {
        tracing::warn!("run {run_id} could not be marked {status}: {error}");
    }
}

/// Copies all streams between dropping and restoring indexes. An interrupted or failed load
/// leaves them to the run that resumes it.
async fn load(
    postgres: &Postgres,
    preparation: &Preparation,
    run_id: &str,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
    conn: &mut PgConnection,
) -> Result<(BTreeMap<String, f64>, Vec<String>)> {
    let mut built = Vec::new();
    if preparation.resumes.is_none() {
        built = indexes::restore(conn).await?;
    }
    if !preparation.options.keep_indexes {
        for table in bulk_targets(preparation) {
            let dropped = indexes::defer(conn, run_id, table).await?;
            if dropped > 0 {
                let table = table.display_name();
                tracing::info!(table, dropped, "empty target: indexes are built after the load");
            }
        }
    }
    let rates = copy_streams(postgres, preparation, run_id, stop, on_event, conn).await?;
    built.extend(indexes::restore(conn).await?);
    Ok((rates, built))
}

/// Tables that large first loads go into.
fn bulk_targets(preparation: &Preparation) -> Vec<&crate::store::catalog::Table> {
    let mut tables: Vec<&crate::store::catalog::Table> = Vec::new();
    let large = preparation
        .streams
        .iter()
        .filter(|stream| stream.initial_load && stream.records >= indexes::WORTHWHILE_RECORDS);
    for stream in large {
        for output in &preparation.opened.plan.streams[stream.index].outputs {
            let table = output.table.as_ref();
            if !tables.iter().any(|known| known.display_name() == table.display_name()) {
                tables.push(table);
            }
        }
    }
    tables
}

async fn copy_streams(
    postgres: &Postgres,
    preparation: &Preparation,
    run_id: &str,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
    conn: &mut PgConnection,
) -> Result<BTreeMap<String, f64>> {
    let mut rates = BTreeMap::new();
    for stream in &preparation.streams {
        let started = Instant::now();
        on_event(Event::Stream { name: stream.stream.clone(), records: stream.records });
        let read = AtomicU64::new(0);
        let on_chunk = |counts: &Counts, _bytes: usize| {
            read.fetch_add(counts.read, Ordering::Relaxed);
            on_event(Event::Chunk { records: counts.read, rejects: counts.rejects() });
        };
        let (mut tries, mut read_before) = (1, 0);
        while let Err(error) = copy_stream(preparation, stream, run_id, stop, &on_chunk, conn).await
        {
            stop.check()?;
            let read_now = read.load(Ordering::Relaxed);
            if read_now > read_before {
                (tries, read_before) = (1, read_now);
            }
            let is_passing =
                matches!(error.kind(), ErrorKind::StoreUnreachable | ErrorKind::StoreConflict);
            if !is_passing || tries >= TRIES_MAX {
                return Err(error.context(format!("stream {}", stream.stream)));
            }
            tracing::warn!(stream = stream.stream, tries, "{error}; retrying");
            reconnect(postgres, &preparation.pack, stop, conn, tries).await?;
            tries += 1;
        }
        on_event(Event::StreamDone);
        let records = read.load(Ordering::Relaxed);
        rates.insert(
            stream.stream.clone(),
            records as f64 / started.elapsed().as_secs_f64().max(0.001),
        );
    }
    Ok(rates)
}

/// Waits, longer from try to try, and makes a new connection, locked as the first was. While
/// there is none, the old one stays and the next try fails like this one.
async fn reconnect(
    postgres: &Postgres,
    pack: &str,
    stop: &Stop,
    conn: &mut PgConnection,
    tries: u32,
) -> Result<()> {
    let pause = Duration::from_millis(200 << tries);
    stop.unless(async {
        tokio::time::sleep(pause).await;
        Ok(())
    })
    .await?;
    if let Ok(mut fresh) = postgres.dedicated().await {
        // The server may not have noticed yet that the old session is gone.
        for wait in [100, 400, 1600] {
            match lock_pack(&mut fresh, pack).await {
                Ok(()) => {
                    *conn = fresh;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Busy => {
                    // The old connection may be whole, with the lock: then it goes on.
                    if conn.ping().await.is_ok() {
                        return Ok(());
                    }
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                Err(_) => return Ok(()),
            }
        }
        return lock_pack(&mut fresh, pack).await;
    }
    Ok(())
}

async fn copy_stream(
    preparation: &Preparation,
    stream: &StreamPreparation,
    run_id: &str,
    stop: &Stop,
    on_chunk: &(dyn Fn(&Counts, usize) + Sync),
    conn: &mut PgConnection,
) -> Result<()> {
    let opened = &preparation.opened;
    let initial_load = begin_stream(conn, run_id, stream).await?;
    let outputs = &opened.plan.streams[stream.index].outputs;
    let copying = Copying {
        opened,
        stream: stream.index,
        run_id,
        direct: outputs.iter().map(|output| initial_load && can_copy_direct(output)).collect(),
        initial_load,
        limits: preparation.options.limits,
        stop,
        on_chunk,
    };
    for source in opened.open_sources(stream.index)? {
        copying.copy(conn, source).await?;
    }
    sqlx::query(
        "UPDATE toolkit.stream_state SET state = 'done' WHERE run_id = $1::uuid AND stream = $2",
    )
    .bind(run_id)
    .bind(&stream.stream)
    .execute(conn)
    .await?;
    Ok(())
}

/// One backfill of a pack at a time; the lock ends with its session, also when that is killed.
pub(super) async fn lock_pack(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let locked: bool = sqlx::query_scalar(
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.backfill.' || $1, 0))",
    )
    .bind(pack)
    .fetch_one(&mut *conn)
    .await?;
    if locked {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Busy, format!("another backfill of the pack {pack} is running"))
        .advice("wait for it; after a crash its lock goes within moments"))
}

async fn begin(conn: &mut PgConnection, preparation: &Preparation) -> Result<String> {
    let opened = &preparation.opened;
    if let Some(run_id) = &preparation.resumes {
        sqlx::query(
            "UPDATE toolkit.run SET status = 'running', error = NULL, pid = $2 \
             WHERE run_id = $1::uuid",
        )
        .bind(run_id)
        .bind(i32::try_from(std::process::id()).ok())
        .execute(conn)
        .await?;
        return Ok(run_id.clone());
    }
    sqlx::query(
        "UPDATE toolkit.run SET status = 'failed', finished_at = now(), \
         error = coalesce(error, 'given up: a later run started over') \
         WHERE pack = $1 AND command = 'backfill' AND status IN ('running', 'interrupted')",
    )
    .bind(&opened.plan.name)
    .execute(&mut *conn)
    .await?;
    let run_id = uuid::Uuid::new_v4().to_string();
    sqlx::query(include_str!("../sql/backfill/begin_run.sql"))
        .bind(&run_id)
        .bind(&opened.plan.name)
        .bind(opened.plan.version)
        .bind(to_json(&settings_json(opened, &preparation.options))?)
        .bind(to_json(&opened.discovered.inputs)?)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .execute(conn)
        .await?;
    Ok(run_id)
}

async fn begin_stream(
    conn: &mut PgConnection,
    run_id: &str,
    stream: &StreamPreparation,
) -> Result<bool> {
    sqlx::query(
        "INSERT INTO toolkit.stream_state (run_id, stream, initial_load, state) \
         VALUES ($1::uuid, $2, $3, 'copying') ON CONFLICT (run_id, stream) DO NOTHING",
    )
    .bind(run_id)
    .bind(&stream.stream)
    .bind(stream.initial_load)
    .execute(&mut *conn)
    .await?;
    let initial_load = sqlx::query_scalar(
        "SELECT initial_load FROM toolkit.stream_state WHERE run_id = $1::uuid AND stream = $2",
    )
    .bind(run_id)
    .bind(&stream.stream)
    .fetch_one(conn)
    .await?;
    Ok(initial_load)
}

async fn end(
    conn: &mut PgConnection,
    run_id: &str,
    status: &str,
    counts: Option<&Counts>,
    error: Option<&str>,
) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.run SET status = $2, finished_at = now(), counts = $3::jsonb, error = $4 \
         WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .bind(status)
    .bind(counts.map(to_json).transpose()?)
    .bind(error)
    .execute(conn)
    .await?;
    Ok(())
}

async fn counts_of(conn: &mut PgConnection, run_id: &str, stream: &str) -> Result<Counts> {
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT counts::text FROM toolkit.chunk \
         WHERE run_id = $1::uuid AND stream = $2 AND status = 'done'",
    )
    .bind(run_id)
    .bind(stream)
    .fetch_all(conn)
    .await?;
    let mut counts = Counts::default();
    for row in rows {
        let chunk: Counts = serde_json::from_str(&row)
            .map_err(|e| Error::new(ErrorKind::Bug, "stored counts cannot be read").because(e))?;
        counts.add(&chunk);
    }
    Ok(counts)
}

/// Rejects of earlier runs that this complete run did not meet again, in the files it read, are
/// resolved, corrected ones whose source is no longer what was refused among them. The ledger is history and stays.
async fn resolve_old_rejects(
    conn: &mut PgConnection,
    run_id: &str,
    opened: &OpenedPack,
    stream: &str,
) -> Result<()> {
    let files: Vec<String> = opened
        .discovered
        .streams
        .get(stream)
        .map(|found| found.files.iter().map(|file| file.relative.clone()).collect())
        .unwrap_or_default();
    sqlx::query(
        "UPDATE toolkit.reject SET state = 'resolved' WHERE pack = $2 AND stream = $3 \
         AND run_id <> $1::uuid AND source = ANY($4) \
         AND (state = 'open' OR (state = 'retried' AND NOT EXISTS (\
           SELECT 1 FROM toolkit.ledger AS l \
           WHERE l.run_id = $1::uuid AND l.pack = $2 AND l.stream = $3 \
             AND l.rule = 'corrected_by_retry' AND l.output = reject.output \
             AND l.source = reject.source AND l.locator = reject.locator \
             AND l.original_hash = reject.record_sha256)))",
    )
    .bind(run_id)
    .bind(&opened.plan.name)
    .bind(stream)
    .bind(files)
    .execute(conn)
    .await?;
    Ok(())
}

/// Sources whose change token is no longer the one the run started with.
async fn changed_sources(preparation: &Preparation) -> Result<Vec<String>> {
    let (opened, roots) = (Arc::clone(&preparation.opened), preparation.roots.clone());
    tokio::task::spawn_blocking(move || {
        let now = discover(&opened.pack, &roots)?;
        let before = &opened.discovered.inputs;
        let changed = now.inputs.iter().filter(|input| !before.contains(input));
        Ok(changed.map(|input| format!("{} ({})", show(input), input.stream)).collect())
    })
    .await
    .map_err(join_error)?
}
