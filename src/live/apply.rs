//! Applies what was captured as soon as it is committed.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use super::router::ReadRouter;
use crate::pack::Pack;

/// Which sources are applied at once.
#[derive(Debug, Clone)]
pub struct ApplyAtOnce {
    /// The pack.
    pub pack: Pack,
    /// Folders of its sources.
    pub roots: Vec<PathBuf>,
}

/// A task that applies captured changes whenever it is woken.
#[derive(Debug)]
pub(super) struct Applier {
    wake: Arc<Notify>,
}

impl Applier {
    pub(super) fn start(_router: ReadRouter, _apply: ApplyAtOnce) -> Self {
        Self { wake: Arc::default() }
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}
