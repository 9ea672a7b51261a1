//! How far a run is, and who works on it.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::Run;
use crate::error::{Error, ErrorKind, Result};

/// All about a run.
#[derive(Debug, Clone, Serialize)]
pub struct Detail {
    /// What the list says of it.
    #[serde(flatten)]
    pub run: Run,
    /// Why its processes wait, each reason once; none: nobody waits.
    pub paused_because: Vec<String>,
    /// Its streams.
    pub streams: Vec<StreamProgress>,
    /// Records a second over the last minute in which any were committed.
    pub rate: Option<f64>,
    /// Seconds left at that rate, about; none while nobody copies or where it cannot be told.
    pub seconds_left: Option<f64>,
    /// Rejects it recorded.
    pub rejects: i64,
    /// Of these, those nobody has dealt with.
    pub open_rejects: i64,
    /// Rows that wait for others.
    pub held_rows: i64,
    /// Ledger entries it recorded, by rule.
    pub ledger: BTreeMap<String, i64>,
    /// Processes that work on it or did, the newest first, 100 at most.
    pub workers: Vec<Process>,
}

/// A stream of a run.
#[derive(Debug, Clone, Serialize)]
pub struct StreamProgress {
    /// Its name.
    pub stream: String,
    /// `planned`, `copying` or `done`.
    pub state: String,
    /// Records, about; none: nobody counted.
    pub records_expected: Option<i64>,
    /// Records read and committed.
    pub rows_read: i64,
    /// Chunks committed.
    pub chunks_done: i64,
    /// Spans that are not at their end.
    pub chunks_pending: i64,
}

/// A process of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Its id in `toolkit.run_process`.
    pub process: String,
    /// Where it runs.
    pub host: String,
    /// Its number there.
    pub pid: Option<i32>,
    /// Its workers at most.
    pub workers: i32,
    /// Who started it.
    pub begun_by: String,
    /// `copying`, `pausing` (a chunk is still being written), `paused`, `ended`, or `gone`: it went
    /// without saying so.
    pub state: String,
    /// Why it waits.
    pub reason: Option<String>,
    /// Since when.
    pub paused_since: Option<String>,
    /// When it began.
    pub began_at: String,
    /// Its last sign of life; about once a second while it works.
    pub seen_at: String,
    /// Seconds since then.
    pub silent_seconds: f64,
}

impl Process {
    fn of(row: &PgRow) -> Result<Self> {
        Ok(Self {
            process: row.try_get("process")?,
            host: row.try_get("host")?,
            pid: row.try_get("pid")?,
            workers: row.try_get("workers")?,
            begun_by: row.try_get("begun_by")?,
            state: row.try_get("state")?,
            reason: row.try_get("reason")?,
            paused_since: row.try_get("paused_since")?,
            began_at: row.try_get("began_at")?,
            seen_at: row.try_get("seen_at")?,
            silent_seconds: row.try_get("silent_seconds")?,
        })
    }

    /// Whether it works or waits.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state.as_str(), "ended" | "gone")
    }
}

/// Looks at the run `name`: an id, the beginning of one, or `latest`.
pub async fn show(conn: &mut PgConnection, name: &str) -> Result<Detail> {
    let run = super::find(conn, name).await?;
    let streams = streams(conn, &run.run).await?;
    let workers = processes(conn, &run.run).await?;
    let totals = sqlx::query(include_str!("../sql/runs/totals.sql"))
        .bind(&run.run)
        .fetch_one(&mut *conn)
        .await?;
    let ledger: String = totals.try_get("ledger")?;
    let ledger = serde_json::from_str(&ledger)
        .map_err(|e| Error::new(ErrorKind::Bug, "ledger counts cannot be read").because(e))?;
    let rate: Option<f64> = totals.try_get("rate")?;
    let mut paused_because: Vec<String> = Vec::new();
    for reason in workers.iter().filter(|one| one.is_alive()).filter_map(|one| one.reason.clone()) {
        if !paused_because.contains(&reason) {
            paused_because.push(reason);
        }
    }
    Ok(Detail {
        seconds_left: (run.state == "running").then(|| seconds_left(&streams, rate)).flatten(),
        paused_because,
        streams,
        rate,
        rejects: totals.try_get("rejects")?,
        open_rejects: totals.try_get("open_rejects")?,
        held_rows: totals.try_get("held_rows")?,
        ledger,
        workers,
        run,
    })
}

/// What is left to read, at this rate. Where a stream's records are unknown, so is the time.
fn seconds_left(streams: &[StreamProgress], rate: Option<f64>) -> Option<f64> {
    let rate = rate.filter(|rate| *rate > 0.0)?;
    let mut left = 0;
    for stream in streams.iter().filter(|stream| stream.state != "done") {
        left += (stream.records_expected? - stream.rows_read).max(0);
    }
    (!streams.is_empty()).then(|| left as f64 / rate)
}

async fn streams(conn: &mut PgConnection, run: &str) -> Result<Vec<StreamProgress>> {
    let rows =
        sqlx::query(include_str!("../sql/runs/streams.sql")).bind(run).fetch_all(conn).await?;
    let of = |row: &PgRow| {
        Ok(StreamProgress {
            stream: row.try_get("stream")?,
            state: row.try_get("state")?,
            records_expected: row.try_get("records_expected")?,
            rows_read: row.try_get("rows_read")?,
            chunks_done: row.try_get("chunks_done")?,
            chunks_pending: row.try_get("chunks_pending")?,
        })
    };
    rows.iter().map(of).collect()
}

pub(super) async fn processes(conn: &mut PgConnection, run: &str) -> Result<Vec<Process>> {
    let rows =
        sqlx::query(include_str!("../sql/runs/processes.sql")).bind(run).fetch_all(conn).await?;
    rows.iter().map(Process::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(state: &str, expected: Option<i64>, read: i64) -> StreamProgress {
        StreamProgress {
            stream: "s".to_owned(),
            state: state.to_owned(),
            records_expected: expected,
            rows_read: read,
            chunks_done: 1,
            chunks_pending: 1,
        }
    }

    #[test]
    fn the_time_left_is_told_only_where_rate_and_records_are_known() {
        let streams = [stream("done", None, 9), stream("copying", Some(100), 40)];
        assert_eq!(seconds_left(&streams, Some(20.0)), Some(3.0));
        assert_eq!(seconds_left(&streams, None), None);
        assert_eq!(seconds_left(&streams, Some(0.0)), None);
        assert_eq!(seconds_left(&[stream("planned", None, 0)], Some(20.0)), None);
        assert_eq!(seconds_left(&[stream("copying", Some(5), 9)], Some(20.0)), Some(0.0));
        assert_eq!(seconds_left(&[], Some(20.0)), None);
    }
}
