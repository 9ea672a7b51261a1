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

/// How a file in rollback-journal mode is copied.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// How long a step may keep a writer waiting, as a chunk's read may.
    step_max: Duration,
    /// How long a step is meant to take; the machine may be slower at the next.
    step_aim: Duration,
    /// Between two steps: who waits for the lock is in line before us.
    pause: Duration,
    /// How often the copy may begin over.
    restarts_max: u32,
}

const MANNERS: Manners = Manners {
    step_max: Duration::from_millis(300),
    step_aim: Duration::from_millis(80),
    pause: Duration::from_millis(20),
    restarts_max: 8,
};

/// Pages of the first step, which finds out how fast the disk is.
const FIRST_PAGES: i32 = 64;

/// Copies `from` to the new file `to`, as one file without journal. `on_step` may end it.
pub(super) fn copy(from: &Database, to: &Path, on_step: &dyn Fn() -> Result<()>) -> Result<()> {
    copy_with(from, to, MANNERS, on_step)
}

fn copy_with(
    from: &Database,
    to: &Path,
    manners: Manners,
    on_step: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let is_polite = from.blocks_writers()?;
    let source = &from.connection;
    let failed = |error| unreadable(from.path(), error);
    let mut copy = Connection::open(to).map_err(failed)?;
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(failed)?;
    if !is_polite {
        source.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").map_err(failed)?;
    }
    let copied = steps(from, &mut copy, is_polite.then_some(manners), on_step);
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
    manners: Option<Manners>,
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
        pages = pages_in(manners.unwrap_or(MANNERS).step_aim, per_page, pages);
        let Some(manners) = manners else { continue };
        if restarts > manners.restarts_max {
            let whole = pages_in(manners.step_max, per_page, i32::MAX / 4);
            if whole < progress.pagecount {
                return Err(never_still(from.path(), restarts, progress.pagecount, per_page));
            }
            pages = progress.pagecount;
        }
        std::thread::sleep(manners.pause);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// Writes on and on, each time to both rows of a pair, while `during` runs.
    fn beside_a_writer<T>(mode: &str, during: impl FnOnce(&Database, &Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sqlite");
        let writer = Connection::open(&path).unwrap();
        writer.busy_timeout(Duration::from_secs(1)).unwrap();
        let sql = format!(
            "PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF; \
             CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER, filler); \
             WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 2000) \
             INSERT INTO pair SELECT i, 0, zeroblob(1000) FROM r"
        );
        writer.execute_batch(&sql).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writing = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let both = "UPDATE pair SET n = n + 1 WHERE id IN (1, 2000)";
                writer.execute_batch(both).expect("the writer was locked out");
                thread::sleep(Duration::from_millis(1));
            }
        });
        let database = Database::open(&path).unwrap();
        let result = during(&database, &folder.path().join("copy.sqlite"));
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        result
    }

    #[test]
    fn a_copy_beside_a_writer_is_one_state_in_one_file() {
        for mode in ["DELETE", "WAL"] {
            beside_a_writer(mode, |database, to| {
                copy(database, to, &|| Ok(())).unwrap();
                assert!(!crate::source::database::sibling(to, "-wal").exists());
                let copy = Connection::open(to).unwrap();
                let text = |sql| copy.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
                assert_eq!(text("PRAGMA integrity_check"), "ok", "{mode}");
                assert_eq!(text("PRAGMA journal_mode"), "delete", "{mode}");
                assert_eq!(
                    text(
                        "SELECT count(DISTINCT n) || ' ' || count(*) FROM pair \
                     WHERE id IN (1, 2000)"
                    ),
                    "1 2",
                    "{mode}"
                );
            });
        }
    }

    #[test]
    fn a_copy_that_cannot_catch_up_is_given_up_with_advice() {
        let hasty = Manners {
            step_max: Duration::ZERO,
            step_aim: Duration::from_micros(1),
            pause: Duration::from_millis(3),
            restarts_max: 3,
        };
        let error = beside_a_writer("DELETE", |database, to| {
            copy_with(database, to, hasty, &|| Ok(())).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.detail().contains("written to 4 times"), "{error}");
        assert!(error.advice_text().unwrap().contains("journal_mode = WAL"));
    }
}
