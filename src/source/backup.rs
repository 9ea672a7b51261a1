//! Copying a `SQLite` file while its application goes on writing, by `SQLite`'s backup API.
//!
//! With a write-ahead log one read transaction holds one state for the whole copy, and blocks
//! nobody. With a rollback journal a read keeps writers waiting: there the copy goes in short steps,
//! with pauses, and begins over when somebody wrote in between; after some restarts the rest must
//! fit into one step that a writer's patience bears, or the copy is given up.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::error::{Error, ErrorKind, Result};
use crate::source::database::{Database, unreadable};

/// How long a step may keep a writer waiting, as a chunk's read may.
const STEP_MAX: Duration = Duration::from_millis(300);

/// How long a step is meant to take; the machine may be slower at the next.
const STEP_AIM: Duration = Duration::from_millis(80);

/// Between two steps: who waits for the lock is in line before us.
const PAUSE: Duration = Duration::from_millis(20);

/// How often the copy may begin over.
const RESTARTS_MAX: u32 = 8;

/// Pages of the first step, which finds out how fast the disk is.
const FIRST_PAGES: i32 = 64;

/// Copies `from` to the new file `to`, as one file without journal. `on_step` may end it.
pub(super) fn copy(from: &Database, to: &Path, on_step: &dyn Fn() -> Result<()>) -> Result<()> {
    let is_polite = from.blocks_writers()?;
    let source = &from.connection;
    let failed = |error| unreadable(from.path(), error);
    let mut copy = Connection::open(to).map_err(failed)?;
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(failed)?;
    if !is_polite {
        source.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").map_err(failed)?;
    }
    let copied = steps(from, &mut copy, is_polite, on_step);
    if !is_polite {
        source.execute_batch("COMMIT").map_err(failed)?;
    }
    copied?;
    // The copy of a WAL database is one too; as a single file it can be hashed and read alone.
    copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    std::fs::File::open(to)?.sync_all()?;
    Ok(())
}

fn steps(
    from: &Database,
    copy: &mut Connection,
    is_polite: bool,
    on_step: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let failed = |error| unreadable(from.path(), error);
    let backup = Backup::new(&from.connection, copy).map_err(failed)?;
    let (mut pages, mut restarts, mut left) = (FIRST_PAGES, 0, None);
    loop {
        on_step()?;
        let started = Instant::now();
        let result = backup.step(pages).map_err(failed)?;
        let took = started.elapsed();
        if result == StepResult::Done {
            return Ok(());
        }
        if result != StepResult::More {
            // The connection has waited for as long as its patience is.
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(failed(rusqlite::Error::SqliteFailure(code, None)));
        }
        let progress = backup.progress();
        if left.is_some_and(|left| progress.remaining > left - pages) {
            restarts += 1;
        }
        left = Some(progress.remaining);
        let per_page = took / u32::try_from(pages).unwrap_or(1);
        pages = pages_in(STEP_AIM, per_page, pages);
        if !is_polite {
            continue;
        }
        if restarts > RESTARTS_MAX {
            let whole = pages_in(STEP_MAX, per_page, i32::MAX / 4);
            if whole < progress.pagecount {
                return Err(never_still(from.path(), restarts, progress.pagecount, per_page));
            }
            pages = progress.pagecount;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Pages that fit into a time, at most four times as many as `before`.
fn pages_in(time: Duration, per_page: Duration, before: i32) -> i32 {
    let fitting = time.as_nanos() / per_page.as_nanos().max(1);
    i32::try_from(fitting).unwrap_or(i32::MAX).clamp(1, before.saturating_mul(4))
}

fn never_still(path: &Path, restarts: u32, pages: i32, per_page: Duration) -> Error {
    let seconds = per_page.as_secs_f64() * f64::from(pages);
    Error::new(
        ErrorKind::Busy,
        format!(
            "{} was written to {restarts} times while it was being copied, and a copy takes about \
             {seconds:.1} s",
            path.display()
        ),
    )
    .advice(format!(
        "in rollback-journal mode a copy that no write disturbs would lock its application out: \
         pause its writes for {:.0} s, or let it use `PRAGMA journal_mode = WAL`, where copying \
         blocks nobody, or give a backup made by its own means as --source",
        (seconds * 2.0).ceil().max(1.0)
    ))
}
