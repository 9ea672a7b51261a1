//! Who may work on a pack: everybody of one run at once, or one who starts or ends it.
//!
//! Every session of a backfill holds the pack's lock shared; a run is alive as long as anybody
//! does. Whoever gets it exclusively knows that no backfill of the pack is alive. Locks end with
//! their sessions, also when those are killed.

use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};

/// Tries to be alone with the pack.
pub(super) async fn lock_exclusive(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    call(conn, "SELECT pg_try_advisory_lock(hashtextextended('toolkit.backfill.' || $1, 0))", pack)
        .await
}

/// Is alone with the pack, or says that somebody works on it.
pub(super) async fn require_exclusive(conn: &mut PgConnection, pack: &str) -> Result<()> {
    if lock_exclusive(conn, pack).await? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Busy, format!("a backfill of the pack {pack} is running"))
        .advice("wait for it; after a crash its lock goes within moments"))
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
