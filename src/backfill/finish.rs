//! Ending a run: exactly one of its processes does what comes last.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::backfill::counts::Counts;
use crate::backfill::pack_lock::{Waiting, lock_end, unlock_end};
use crate::backfill::prepare::Preparation;
use crate::backfill::resume::show;
use crate::backfill::sequences::{Sequences, set_sequences};
use crate::backfill::write::to_json;
use crate::backfill::{captured, content, early, held, indexes, recall};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::source::discover::discover;
use crate::store::Connector;

/// What the end of a run did, for the reports of all its processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    pub(super) sequences: BTreeMap<String, i64>,
    pub(super) sequence_notes: Vec<String>,
    pub(super) built_indexes: Vec<String>,
    pub(super) changed_sources: Vec<String>,
}

/// Ends the run whose chunks are all done, or waits for the process that does; a process that is
/// killed in between leaves it to the next. May be repeated.
pub(super) async fn finish(
    conn: &mut PgConnection,
    connector: &Connector,
    preparation: &Preparation,
    run_id: &str,
    stop: &Stop,
) -> Result<Summary> {
    let mut waiting = Waiting::default();
    while !lock_end(conn, &preparation.pack).await? {
        waiting.pause(conn, &preparation.pack, true, stop).await?;
    }
    let done = end_once(conn, connector, preparation, run_id, stop).await;
    unlock_end(conn, &preparation.pack).await?;
    done
}

async fn end_once(
    conn: &mut PgConnection,
    connector: &Connector,
    preparation: &Preparation,
    run_id: &str,
    stop: &Stop,
) -> Result<Summary> {
    let row = sqlx::query(
        "SELECT status, summary::text AS summary FROM toolkit.run WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .fetch_one(&mut *conn)
    .await?;
    let stored: Option<String> = row.try_get("summary")?;
    match row.try_get::<String, _>("status")?.as_str() {
        "running" => {}
        "completed" => {
            return Ok(stored
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default());
        }
        status => {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("run {run_id} was ended ({status}) by another process"),
            )
            .advice("run the same command again to go on"));
        }
    }
    let waited = |error: Error| error.context("rows that waited for others");
    let mut built_indexes = Vec::new();
    let settling = held::Settling { preparation, run_id, stop };
    held::settle(conn, &settling).await.map_err(waited)?;
    while early::fill_in(conn, &settling).await.map_err(waited)? > 0 {
        // To take rows out without the indexes of foreign keys could take for ever.
        built_indexes.extend(indexes::restore(connector, preparation.workers).await?);
        recall::call_back(conn, &settling).await.map_err(waited)?;
        held::settle(conn, &settling).await.map_err(waited)?;
    }
    built_indexes.extend(indexes::restore(connector, preparation.workers).await?);
    let Sequences { moved, notes } = set_sequences(conn, preparation).await?;
    let summary = Summary {
        built_indexes,
        sequences: moved,
        sequence_notes: notes,
        changed_sources: changed_sources(preparation).await?,
    };
    let mut totals = Counts::default();
    for stream in &preparation.streams {
        totals.add(&counts_of(conn, run_id, &stream.stream).await?);
        resolve_old_rejects(conn, run_id, &preparation.opened, &stream.stream).await?;
    }
    content::forget(conn, &preparation.pack).await?;
    let error = (!summary.changed_sources.is_empty())
        .then(|| format!("changed while being read: {}", summary.changed_sources.join(", ")));
    sqlx::query(
        "UPDATE toolkit.run SET status = 'completed', finished_at = now(), counts = $2::jsonb, \
         error = $3, summary = $4::jsonb WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .bind(to_json(&totals)?)
    .bind(error)
    .bind(to_json(&summary)?)
    .execute(conn)
    .await?;
    Ok(summary)
}

/// What became of a stream's records in the whole run.
pub(super) async fn counts_of(
    conn: &mut PgConnection,
    run_id: &str,
    stream: &str,
) -> Result<Counts> {
    // One by one: a throttled run has many small chunks.
    let mut rows = sqlx::query_scalar::<_, String>(
        "SELECT counts::text FROM toolkit.chunk \
         WHERE run_id = $1::uuid AND stream = $2 AND status = 'done'",
    )
    .bind(run_id)
    .bind(stream)
    .fetch(conn);
    let mut counts = Counts::default();
    while let Some(row) = rows.try_next().await? {
        let chunk: Counts = serde_json::from_str(&row)
            .map_err(|e| Error::new(ErrorKind::Bug, "stored counts cannot be read").because(e))?;
        counts.add(&chunk);
    }
    Ok(counts)
}

/// Rejects of earlier runs that this complete run did not meet again, in the files it read, are
/// resolved, corrected ones whose source is no longer what was refused among them. The ledger is
/// history and stays.
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
         AND met_during IS DISTINCT FROM $1::uuid \
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
    .bind(&files)
    .execute(&mut *conn)
    .await?;
    // A reference that is no longer stored as NULL: its entry is history, and says so.
    sqlx::query(
        "UPDATE toolkit.ledger SET rule = 'orphan_found' WHERE pack = $2 AND stream = $3 \
         AND run_id <> $1::uuid AND rule = 'orphan' AND source = ANY($4)",
    )
    .bind(run_id)
    .bind(&opened.plan.name)
    .bind(stream)
    .bind(&files)
    .execute(conn)
    .await?;
    Ok(())
}

/// Sources whose change token is no longer the one the run started with.
async fn changed_sources(preparation: &Preparation) -> Result<Vec<String>> {
    let (opened, roots) = (Arc::clone(&preparation.opened), preparation.roots.clone());
    let is_captured = preparation.is_captured && preparation.options.snapshot.is_none();
    tokio::task::spawn_blocking(move || {
        let mut now = discover(&opened.pack, &roots)?;
        if is_captured {
            captured::settle_tokens(&opened, &mut now.inputs)?;
        }
        let before = &opened.discovered.inputs;
        let changed = now.inputs.iter().filter(|input| !before.contains(input));
        Ok(changed.map(|input| format!("{} ({})", show(input), input.stream)).collect())
    })
    .await
    .map_err(join_error)?
}
