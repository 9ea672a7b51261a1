//! How often a call about points is tried.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::retry::steadily;

/// How long nothing is waited for after waiting was in vain.
const WITHOUT: Duration = Duration::from_secs(30);

/// Waits for what passes by itself, but not again and again: of a cluster one shard may be away,
/// and whoever looks for its points in halves of halves would wait for each of them.
#[derive(Debug)]
pub(super) struct Patience {
    start: Instant,
    /// Milliseconds after `start` until which it is lost.
    lost_until_ms: AtomicU64,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), lost_until_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does a step that may be repeated.
    pub(super) async fn with<T, F: Future<Output = Result<T>>>(
        &self,
        mut step: impl FnMut() -> F,
    ) -> Result<T> {
        if self.now_ms() < self.lost_until_ms.load(Ordering::Relaxed) {
            return step().await;
        }
        let done = steadily(step).await;
        // A limited rate or a lock has its own time.
        let is_away = |error: &Error| error.kind() == ErrorKind::StoreUnreachable;
        if done.as_ref().err().is_some_and(is_away) {
            let until = self.now_ms() + u64::try_from(WITHOUT.as_millis()).unwrap_or(u64::MAX);
            self.lost_until_ms.store(until, Ordering::Relaxed);
        }
        done
    }
}
