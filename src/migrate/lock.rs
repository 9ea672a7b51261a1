//! One migrator at a time.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::interrupt::Stop;
use crate::{Error, ErrorKind, Result};

/// The advisory lock's two keys: "tool" and "migr" in ASCII.
const KEYS: (i32, i32) = (0x746f_6f6c, 0x6d69_6772);

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Takes the lock on `connection`, waiting at most `wait`. It belongs to the session, so it goes
/// with the connection whatever becomes of this process.
pub(super) async fn acquire(
    connection: &mut PgConnection,
    wait: Duration,
    stop: &Stop,
) -> Result<()> {
    let deadline = Instant::now() + wait;
    let mut pause = Duration::from_millis(50);
    let mut announced = String::new();
    loop {
        stop.check()?;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(KEYS.0)
            .bind(KEYS.1)
            .fetch_one(&mut *connection)
            .await?;
        if taken {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let holder = holder(connection).await?;
        if left.is_zero() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "another migrator holds the migration lock after {} s: {holder}",
                    wait.as_secs()
                ),
            )
            .advice("wait for it to finish, or end it with pg_terminate_backend(<pid>)"));
        }
        if holder != announced {
            tracing::info!(holder, "waiting for another migrator");
            announced = holder;
        }
        // A wish to stop is heard at the top of the loop.
        let _ = tokio::time::timeout(jittered(pause).min(left), stop.wait()).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Gives the lock back. A connection that is gone has given it back already.
pub(super) async fn release(connection: &mut PgConnection) {
    let released = sqlx::query("SELECT pg_advisory_unlock($1, $2)")
        .bind(KEYS.0)
        .bind(KEYS.1)
        .execute(connection)
        .await;
    if let Err(error) = released {
        tracing::warn!(%error, "the migration lock goes with its connection");
    }
}

async fn holder(connection: &mut PgConnection) -> Result<String> {
    let holder: Option<String> =
        sqlx::query_scalar(include_str!("../sql/migration_lock_holder.sql"))
            .bind(KEYS.0)
            .bind(KEYS.1)
            .fetch_optional(connection)
            .await?;
    Ok(holder.unwrap_or_else(|| "a session that has just ended".to_owned()))
}

/// Half to whole of `pause`, so that two that wait do not keep step.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}
