//! The wish that a run pause, go on or stop.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::list::by_id;
use super::show::processes;
use super::{Process, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::operator::user_at_host;

/// How long the answer of the run's processes is waited for: their current chunk may be a large one.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What became of a wish.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// The run, as it is now.
    pub run: Run,
    /// Whether it was so already.
    pub was_so: bool,
    /// Processes that work on the run and have not done it yet: their chunk is still being written.
    pub not_yet: Vec<Process>,
    /// Why its processes wait even so: their own flags.
    pub paused_because: Vec<String>,
}

/// Asks the run `name` to pause, and waits up to ten seconds until all of its processes have
/// written their chunk. It stays paused, also when it is resumed after a stop or a crash, until
/// [`resume`].
pub async fn pause(conn: &mut PgConnection, name: &str, stop: &Stop) -> Result<Asked> {
    let run = super::find(conn, name).await?;
    require_unfinished(&run, "pause")?;
    sqlx::query(include_str!("../sql/runs/pause.sql"))
        .bind(&run.run)
        .bind(user_at_host())
        .execute(&mut *conn)
        .await?;
    let was_so = run.pause_asked_by.is_some();
    answered(conn, &run, was_so, stop, |process| process.state == "paused").await
}

/// Takes the wish back, and waits until the run's processes go on, unless flags of their own have
/// them wait.
pub async fn resume(conn: &mut PgConnection, name: &str, stop: &Stop) -> Result<Asked> {
    let run = super::find(conn, name).await?;
    require_unfinished(&run, "resume")?;
    sqlx::query(
        "UPDATE toolkit.run SET pause_asked_at = NULL, pause_asked_by = NULL \
         WHERE run_id = $1::uuid",
    )
    .bind(&run.run)
    .execute(&mut *conn)
    .await?;
    let was_so = run.pause_asked_by.is_none();
    let goes_on = |process: &Process| {
        // A reason of its own is one that does not name this command.
        !process.reason.as_deref().is_some_and(|reason| reason.contains("`toolkit run resume"))
    };
    answered(conn, &run, was_so, stop, goes_on).await
}

/// Asks all processes of the run `name` to end as by Ctrl-C, and waits up to ten seconds for it.
pub async fn stop(conn: &mut PgConnection, name: &str, stop: &Stop) -> Result<Asked> {
    let run = super::find(conn, name).await?;
    require_unfinished(&run, "stop")?;
    if !run.is_alive {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("nobody works on run {}: it is {}", run.run, run.state),
        )
        .advice("its command, run again, goes on with it; with --restart it starts over"));
    }
    sqlx::query(include_str!("../sql/runs/stop.sql"))
        .bind(&run.run)
        .bind(user_at_host())
        .execute(&mut *conn)
        .await?;
    let was_so = run.state == "stopping";
    answered(conn, &run, was_so, stop, |_| false).await
}

/// Waits until the live processes of the run are as wished, or have gone.
async fn answered(
    conn: &mut PgConnection,
    run: &Run,
    was_so: bool,
    stop: &Stop,
    is_so: impl Fn(&Process) -> bool,
) -> Result<Asked> {
    let begun = Instant::now();
    loop {
        let alive: Vec<Process> =
            processes(conn, &run.run).await?.into_iter().filter(Process::is_alive).collect();
        let not_yet: Vec<Process> = alive.iter().filter(|one| !is_so(one)).cloned().collect();
        if not_yet.is_empty() || begun.elapsed() >= ANSWER_MAX {
            let mut paused_because: Vec<String> =
                alive.into_iter().filter_map(|one| one.reason).collect();
            paused_because.sort();
            paused_because.dedup();
            let run = by_id(conn, &run.run).await?;
            return Ok(Asked { run, was_so, not_yet, paused_because });
        }
        let wait = async {
            tokio::time::sleep(LOOK_EVERY).await;
            Ok(())
        };
        stop.unless(wait).await?;
    }
}

/// Refuses runs that nothing can be wished of any more.
fn require_unfinished(run: &Run, wish: &str) -> Result<()> {
    if run.is_unfinished {
        return Ok(());
    }
    let (id, state) = (&run.run, &run.state);
    let detail = if run.command == "backfill" {
        format!("run {id} has ended ({state}): there is nothing to {wish}")
    } else {
        let command = &run.command;
        format!("run {id} is one of `{command}` ({state}), which takes no requests")
    };
    Err(Error::new(ErrorKind::Usage, detail).advice(
        "`toolkit run list --unfinished` shows the runs that work or can be resumed; of a pack, \
         that is its newest backfill",
    ))
}
