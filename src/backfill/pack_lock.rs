//! Who may work on a pack: everybody of one run at once, or one who starts or ends it.
//!
//! Every session of a backfill holds the pack's lock shared; a run is alive as long as anybody
//! does. Whoever gets it exclusively knows that no backfill of the pack is alive. Locks end with
//! their sessions, also when those are killed.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// Tries to be alone with the pack.
pub(super) async fn lock_exclusive(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(conn, "SELECT pg_try_advisory_lock(hashtextextended('toolkit.backfill.' || $1, 0))", pack)
        .await
}

/// Is alone with the pack, or says that somebody works on it.
pub(crate) async fn require_exclusive(conn: &mut PgConnection, pack: &str) -> Result<()> {
    if lock_exclusive(conn, pack).await? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Busy, format!("a backfill of the pack {pack} is running"))
        .advice("wait for it; after a crash its lock goes within moments"))
}

/// Lets others in. Ending the session alone would let the server take its time.
pub(crate) async fn release_exclusive(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(conn, "SELECT pg_advisory_unlock(hashtextextended('toolkit.backfill.' || $1, 0))", pack)
        .await
}

/// Tries to be one of those who work on the pack.
pub(super) async fn lock_shared(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(
        conn,
        "SELECT pg_try_advisory_lock_shared(hashtextextended('toolkit.backfill.' || $1, 0))",
        pack,
    )
    .await
}

/// Whether anybody works on the pack at this moment.
pub(super) async fn is_alive(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    // Given back at the end of the statement, which is a transaction of its own.
    let is_alone = call(
        conn,
        "SELECT pg_try_advisory_xact_lock(hashtextextended('toolkit.backfill.' || $1, 0))",
        pack,
    )
    .await?;
    Ok(!is_alone)
}

/// Lets others in without letting go.
pub(super) async fn share(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(lock_shared(conn, pack).await?
        && call(
            conn,
            "SELECT pg_advisory_unlock(hashtextextended('toolkit.backfill.' || $1, 0))",
            pack,
        )
        .await?)
}

/// Leaves those who work on the pack.
pub(super) async fn unlock_shared(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(
        conn,
        "SELECT pg_advisory_unlock_shared(hashtextextended('toolkit.backfill.' || $1, 0))",
        pack,
    )
    .await
}

/// Tries to be the one who ends a run, while others may still wait for its end.
pub(super) async fn lock_end(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(
        conn,
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.backfill.end.' || $1, 0))",
        pack,
    )
    .await
}

/// How long the processes that hold a lock may be silent while somebody waits for it.
const SILENCE_SECONDS: f64 = 60.0;

/// Waits for a lock, as long as anybody works for it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    asked: u32,
}

impl Waiting {
    /// Waits a moment for the pack's lock, or for that of its end. Fails where those who hold it
    /// have been silent for a minute: a process that was stopped keeps its locks for ever.
    pub(super) async fn pause(
        &mut self,
        conn: &mut PgConnection,
        pack: &str,
        is_end: bool,
        stop: &Stop,
    ) -> Result<()> {
        self.asked += 1;
        if self.asked.is_multiple_of(ASKED_PER_LOOK) {
            let lock = if is_end { "toolkit.backfill.end." } else { "toolkit.backfill." };
            let holders: Option<String> =
                sqlx::query_scalar(include_str!("../sql/backfill/hung_holder.sql"))
                    .bind(format!("{lock}{pack}"))
                    .bind(SILENCE_SECONDS)
                    .fetch_one(conn)
                    .await?;
            if let Some(holders) = holders {
                return Err(hung(pack, &holders));
            }
        }
        let wait = async {
            tokio::time::sleep(ASK_AGAIN).await;
            Ok(())
        };
        stop.unless(wait).await
    }
}

/// How long to wait before asking again, while another process starts or ends a run.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How often a lock is asked for before its holders are looked at.
const ASKED_PER_LOOK: u32 = 50;

fn hung(pack: &str, holders: &str) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!(
            "another backfill of the pack {pack} has said nothing for {SILENCE_SECONDS} s \
             (sessions {holders} of the server)"
        ),
    )
    .advice("its process may be stopped: let it go on or end it, then run this command again")
}

/// Lets the next one see what was done.
pub(super) async fn unlock_end(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(
        conn,
        "SELECT pg_advisory_unlock(hashtextextended('toolkit.backfill.end.' || $1, 0))",
        pack,
    )
    .await
}

async fn call(conn: &mut PgConnection, statement: &'static str, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(statement).bind(pack).fetch_one(conn).await?)
}
