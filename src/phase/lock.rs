//! One change of phase at a time.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};

/// How often, and how many times, the lock is asked for: it is free within moments of the death
/// of whoever held it.
const ASKED: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Tries to be the one who may change the pack's phase. The lock belongs to the session: while it
/// is held nobody else lifts or raises a fence, and a session that is gone cannot commit.
pub(super) async fn try_lock(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.phase.' || $1, 0))",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}

/// As [`try_lock`], with a little patience; fails where another command holds it.
pub(super) async fn lock(conn: &mut PgConnection, pack: &str) -> Result<()> {
    for _ in 0..ASKED {
        if try_lock(conn, pack).await? {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::new(ErrorKind::Busy, format!("the phase of the pack {pack} is being changed"))
        .advice("another `toolkit phase` command is at it: wait for it, then run this one again"))
}

/// Gives it back; a connection that is gone has.
pub(super) async fn unlock(conn: &mut PgConnection, pack: &str) {
    let unlocked =
        sqlx::query("SELECT pg_advisory_unlock(hashtextextended('toolkit.phase.' || $1, 0))")
            .bind(pack)
            .execute(conn)
            .await;
    if let Err(error) = unlocked {
        tracing::debug!(%error, "the phase lock goes with its connection");
    }
}
