//! How locks are waited for.

use std::time::Duration;

use rand::Rng as _;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// A lock that is asked for keeps others waiting behind it: not longer than this.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";

/// Tries for a lock.
const TRIES_MAX: u32 = 40;

/// After a try that met a lock: waits a moment, or says who could not be waited for.
pub(super) async fn pause(tries: &mut u32, what: &str, error: Error, stop: &Stop) -> Result<()> {
    *tries += 1;
    if error.kind() != ErrorKind::StoreConflict || *tries >= TRIES_MAX {
        return Err(error.context(what));
    }
    let pause_ms = rand::rng().random_range(50..400);
    let wait = async {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        Ok(())
    };
    stop.unless(wait).await
}
