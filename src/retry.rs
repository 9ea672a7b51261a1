//! The one retry policy: what passes by itself is tried again, after longer and longer pauses;
//! everything else fails at once.

use std::time::Duration;

use crate::error::{Error, Result};

/// Tries without progress between them while a store is away: 12 seconds of waiting in all.
pub const TRIES_MAX: u32 = 6;

/// Whether trying again, after a while and with a new connection, can help.
pub fn is_passing(error: &Error) -> bool {
    error.kind().is_transient()
}

/// The pause before a try, longer from try to try; None: that was enough of them.
pub fn pause(tries: u32) -> Option<Duration> {
    (tries < TRIES_MAX).then(|| Duration::from_millis(200 << tries))
}

/// Does a step that may be repeated until it succeeds, fails for good, or was tried often enough.
pub async fn steadily<T, F: Future<Output = Result<T>>>(mut step: impl FnMut() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        let error = match step().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(pause) = pause(tries).filter(|_| is_passing(&error)) else {
            return Err(error);
        };
        tracing::warn!(tries, "{error}; retrying");
        tries += 1;
        tokio::time::sleep(pause).await;
    }
}
