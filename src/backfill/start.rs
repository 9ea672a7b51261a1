//! Beginning, resuming or joining a run: exactly one process does what comes first.

use sqlx::postgres::PgConnection;

use crate::backfill::captured;
use crate::backfill::content;
use crate::backfill::indexes;
use crate::backfill::pack_lock::{Waiting, lock_exclusive, lock_shared, share, unlock_shared};
use crate::backfill::prepare::{Preparation, StreamPreparation, is_empty};
use crate::backfill::resume::{Unfinished, joinable, resumable, settings_json};
use crate::backfill::write::to_json;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::operator::user_at_host;
use crate::store::Connector;
use crate::store::catalog::Table;

/// How a process came to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Started,
    Resumed,
    Joined,
}

/// A run this process takes part in.
pub(super) struct Started {
    pub(super) run_id: String,
    pub(super) role: Role,
    /// Indexes of an earlier run, built now.
    pub(super) built_indexes: Vec<String>,
}

/// Starts or resumes a run if nobody works on the pack; else joins the run that is alive. The
/// session holds the pack's lock, shared, when this returns.
pub(super) async fn start(
    conn: &mut PgConnection,
    connector: &Connector,
    preparation: &Preparation,
    stop: &Stop,
) -> Result<Started> {
    let pack = &preparation.pack;
    let mut waiting = Waiting::default();
    loop {
        if lock_exclusive(conn, pack).await? {
            let started = begin(conn, connector, preparation).await?;
            if !share(conn, pack).await? {
                return Err(Error::new(ErrorKind::Bug, "a lock that was held was not there"));
            }
            return Ok(started);
        }
        if preparation.options.restart {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("another backfill of the pack {pack} is running; it is not started over"),
            )
            .advice("stop its processes first, or leave --restart out to join it"));
        }
        // Whoever starts a run stores what it is started with before anything else.
        let is_in = lock_shared(conn, pack).await?;
        let joined = joinable(conn, &preparation.opened, &preparation.options).await?;
        match joined {
            Some(run_id) if is_in && is_begun(conn, &run_id, preparation).await? => {
                return Ok(Started { run_id, role: Role::Joined, built_indexes: Vec::new() });
            }
            _ if is_in => {
                unlock_shared(conn, pack).await?;
            }
            _ => {}
        }
        waiting.pause(conn, pack, false, stop).await?;
    }
}

/// Alone with the pack: what was prepared may be old, so everything is asked again.
async fn begin(
    conn: &mut PgConnection,
    connector: &Connector,
    preparation: &Preparation,
) -> Result<Started> {
    let (opened, options) = (&preparation.opened, &preparation.options);
    let resumes = match resumable(conn, opened, options).await? {
        _ if options.restart => None,
        Unfinished::Resume(run_id) => Some(run_id),
        Unfinished::Differs(error) => return Err(error),
        Unfinished::None => None,
    };
    let role = if resumes.is_some() { Role::Resumed } else { Role::Started };
    let run_id = match resumes {
        Some(run_id) => resume_run(conn, run_id).await?,
        None => begin_run(conn, preparation).await?,
    };
    if preparation.is_captured {
        captured::announce(conn, &preparation.pack, role == Role::Started).await?;
    }
    let mut built_indexes = Vec::new();
    if role == Role::Started {
        built_indexes = indexes::restore(connector, preparation.workers).await?;
    }
    let mut into_empty = Vec::new();
    for stream in &preparation.streams {
        let outputs = &opened.plan.streams[stream.index].outputs;
        content::remember(conn, &run_id, &opened.plan, outputs).await?;
        let initial_load = stream.may_copy && is_empty(conn, opened, stream.index).await?;
        if initial_load {
            into_empty.push(stream);
        }
        sqlx::query(
            "INSERT INTO toolkit.stream_state AS s \
               (run_id, stream, initial_load, state, records_expected) \
             VALUES ($1::uuid, $2, $3, 'planned', $4) ON CONFLICT (run_id, stream) DO UPDATE \
             SET initial_load = EXCLUDED.initial_load, \
                 records_expected = EXCLUDED.records_expected WHERE s.state = 'planned'",
        )
        .bind(&run_id)
        .bind(&stream.stream)
        .bind(initial_load)
        .bind(i64::try_from(stream.records).ok())
        .execute(&mut *conn)
        .await?;
    }
    if !options.keep_indexes && options.manners.throttle.is_none() {
        for table in bulk_targets(preparation, &into_empty) {
            let dropped = indexes::defer(conn, &run_id, table).await?;
            if dropped > 0 {
                let table = table.display_name();
                tracing::info!(table, dropped, "empty target: indexes are built after the load");
            }
        }
    }
    Ok(Started { run_id, role, built_indexes })
}

async fn resume_run(conn: &mut PgConnection, run_id: String) -> Result<String> {
    sqlx::query(include_str!("../sql/backfill/resume_run.sql"))
        .bind(&run_id)
        .bind(i32::try_from(std::process::id()).ok())
        .execute(conn)
        .await?;
    Ok(run_id)
}

async fn begin_run(conn: &mut PgConnection, preparation: &Preparation) -> Result<String> {
    let opened = &preparation.opened;
    sqlx::query(
        "UPDATE toolkit.run SET status = 'failed', finished_at = now(), \
         error = coalesce(error, 'given up: a later run started over') \
         WHERE pack = $1 AND command = 'backfill' AND status IN ('running', 'interrupted')",
    )
    .bind(&opened.plan.name)
    .execute(&mut *conn)
    .await?;
    let mut inputs = opened.discovered.inputs.clone();
    let run_id = match &preparation.options.snapshot {
        Some(snapshot) => {
            snapshot.stamp(&mut inputs);
            snapshot.run_id().to_owned()
        }
        None => uuid::Uuid::new_v4().to_string(),
    };
    sqlx::query(include_str!("../sql/backfill/begin_run.sql"))
        .bind(&run_id)
        .bind(&opened.plan.name)
        .bind(opened.plan.version)
        .bind(to_json(&settings_json(opened, &preparation.options))?)
        .bind(to_json(&inputs)?)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .bind(user_at_host())
        .execute(conn)
        .await?;
    Ok(run_id)
}

/// Tables that large first loads go into.
fn bulk_targets<'p>(
    preparation: &'p Preparation,
    into_empty: &[&StreamPreparation],
) -> Vec<&'p Table> {
    let mut tables: Vec<&Table> = Vec::new();
    let large = into_empty.iter().filter(|stream| stream.records >= indexes::WORTHWHILE_RECORDS);
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

/// Whether whoever started the run got as far as letting others in.
async fn is_begun(
    conn: &mut PgConnection,
    run_id: &str,
    preparation: &Preparation,
) -> Result<bool> {
    let streams: i64 =
        sqlx::query_scalar("SELECT count(*) FROM toolkit.stream_state WHERE run_id = $1::uuid")
            .bind(run_id)
            .fetch_one(conn)
            .await?;
    Ok(usize::try_from(streams).is_ok_and(|streams| streams >= preparation.streams.len()))
}
