//! What stands between a worker and its next chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::{Amount, Manners, Throttle};

/// Lets chunks through, one rate for all of a process; closed while the run is paused. Clones
/// share it.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    throttle: Option<Throttle>,
    is_open: watch::Sender<bool>,
    inside: AtomicUsize,
}

/// A chunk that was let through, until it is written.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Shared>);

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// An open gate.
    pub(crate) fn new(manners: &Manners) -> Self {
        Self(Arc::new(Shared {
            throttle: manners.throttle.map(Throttle::new),
            is_open: watch::Sender::new(true),
            inside: AtomicUsize::new(0),
        }))
    }

    /// Waits until `amount` may be written. Dropped while it waits, nothing is held.
    pub(crate) async fn admit(&self, amount: Amount) -> Pass {
        loop {
            self.opened().await;
            if let Some(throttle) = &self.0.throttle {
                let wait = throttle.take(amount);
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
            }
            // Closed meanwhile: what was saved up then is not all let through at once after it.
            if let Some(pass) = self.enter() {
                return pass;
            }
        }
    }

    /// Waits until work that counts for nothing may be done.
    pub(crate) async fn pass(&self) -> Pass {
        loop {
            self.opened().await;
            if let Some(pass) = self.enter() {
                return pass;
            }
        }
    }

    /// Returns when it is open.
    pub(crate) async fn opened(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }

    /// Counts itself first and looks then: whoever closes sees it inside, or it sees it closed.
    fn enter(&self) -> Option<Pass> {
        self.0.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(Arc::clone(&self.0));
        (*self.0.is_open.borrow()).then_some(pass)
    }

    /// Opens or closes it; what is inside goes on.
    pub(super) fn set_open(&self, is_open: bool) {
        self.0.is_open.send_replace(is_open);
    }

    /// Whether nothing is inside.
    pub(super) fn is_empty(&self) -> bool {
        self.0.inside.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_passes_while_it_is_closed_and_it_is_empty_only_when_all_have_left() {
        let gate = Gate::new(&Manners::default());
        let inside = gate.admit(Amount::default()).await;
        gate.set_open(false);
        assert!(!gate.is_empty());
        assert!(gate.enter().is_none());
        drop(inside);
        assert!(gate.is_empty());
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { drop(gate.pass().await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.set_open(true);
        waiting.await.unwrap();
        assert!(gate.is_empty());
    }
}
