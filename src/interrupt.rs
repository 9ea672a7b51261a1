//! A person's wish to stop, as a token that long work looks at between its steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

/// Set once, by Ctrl-C, SIGTERM or a caller; clones share it.
///
/// Work that holds a `Stop` calls [`Stop::check`] between steps that may stand alone (a committed
/// chunk), or selects on [`Stop::wait`] where it sleeps. Nothing is torn down from outside.
#[derive(Debug, Clone)]
pub struct Stop {
    requested: Arc<watch::Sender<bool>>,
    muted: Arc<AtomicBool>,
    because: Arc<OnceLock<String>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A token nobody has set.
    pub fn new() -> Self {
        Self {
            requested: Arc::new(watch::Sender::new(false)),
            muted: Arc::default(),
            because: Arc::default(),
        }
    }

    /// Asks the work to stop; asking again changes nothing.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Asks the work to stop, and says who wishes it; the first reason stays.
    pub fn request_because(&self, reason: impl Into<String>) {
        if !self.is_requested() {
            let _ = self.because.set(reason.into());
        }
        self.request();
    }

    /// Who wishes it, unless it was the person before this process.
    pub fn because(&self) -> Option<&str> {
        self.because.get().map(String::as_str)
    }

    /// Whether stopping was asked for.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Runs `work` to its end, or drops it where it waits and fails when stopping is asked for.
    /// For work that may end anywhere, such as reaching a server.
    pub async fn unless<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.wait() => Err(self.interrupted()),
            done = work => done,
        }
    }

    fn interrupted(&self) -> Error {
        Error::new(ErrorKind::Interrupted, self.because().unwrap_or("stopped on request"))
            .advice("what was finished is kept; run the same command again to go on")
    }

    /// Lets Ctrl-C pass to a program that has the terminal for a while, such as psql.
    pub fn mute(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    /// Whether Ctrl-C is meant for another program.
    pub fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    /// Fails with [`ErrorKind::Interrupted`] once stopping was asked for.
    pub fn check(&self) -> Result<()> {
        if self.is_requested() {
            return Err(self.interrupted());
        }
        Ok(())
    }

    /// Returns when stopping is asked for.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.requested.subscribe().wait_for(|requested| *requested).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_every_clone_whether_it_waits_before_or_after() {
        let stop = Stop::new();
        assert!(stop.check().is_ok());
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.wait().await }
        });
        tokio::task::yield_now().await;
        stop.request();
        waiting.await.unwrap();
        stop.clone().wait().await;
        assert_eq!(stop.check().unwrap_err().kind(), ErrorKind::Interrupted);
        stop.request_because("too late to be the reason");
        assert_eq!(stop.because(), None);
    }

    #[test]
    fn whoever_asked_first_is_named() {
        let stop = Stop::new();
        stop.clone().request_because("stopped by ada");
        stop.request_because("stopped by bob");
        stop.request();
        assert_eq!(stop.check().unwrap_err().detail(), "stopped by ada");
    }
}
