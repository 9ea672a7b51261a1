//! Applies what was captured as soon as it is committed, so that Postgres lags by moments.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::router::ReadRouter;
use crate::capture::tail::{Tail, TailOptions};
use crate::error::Result;
use crate::pack::Pack;
use crate::phase::Route;

/// How long nothing is tried after a failure: `toolkit dual-write run` has it, or the next change.
const PAUSE: Duration = Duration::from_secs(1);

/// Which sources are applied at once, and how much of it.
#[derive(Debug, Clone)]
pub struct ApplyAtOnce {
    /// The pack.
    pub pack: Pack,
    /// Folders of its sources.
    pub roots: Vec<PathBuf>,
    /// Time spent on what one change woke it for, at most; the rest is left to the next change and
    /// to `toolkit dual-write run`, which goes on beside it.
    pub budget: Duration,
}

/// Applies captured changes whenever it is woken; ends with its owner, after the step it is at.
#[derive(Debug)]
pub(super) struct Applier {
    wake: mpsc::Sender<()>,
}

impl Applier {
    /// Must be called within a tokio runtime. It has a thread of its own: reading a file waits.
    pub(super) fn start(router: ReadRouter, apply: ApplyAtOnce) -> Result<Self> {
        let (wake, woken) = mpsc::channel(1);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("apply".to_owned())
            .spawn(move || runtime.block_on(follow(&router, &apply, woken)))?;
        Ok(Self { wake })
    }

    pub(super) fn wake(&self) {
        // Full: it is awake, and will look again.
        let _ = self.wake.try_send(());
    }
}

async fn follow(router: &ReadRouter, apply: &ApplyAtOnce, mut woken: mpsc::Receiver<()>) {
    let mut tail: Option<Tail> = None;
    while woken.recv().await.is_some() {
        if router.route() != Route::Sqlite {
            tail = None;
            continue;
        }
        let work = apply_some(router, apply, &mut tail, Instant::now());
        match tokio::time::timeout(apply.budget, work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "captured changes are left to the tail");
                tail = None;
                tokio::time::sleep(PAUSE).await;
            }
            // Dropped in the middle of a step, which leaves nothing half done: its files and
            // connection are opened anew.
            Err(_) => tail = None,
        }
    }
}

async fn apply_some(
    router: &ReadRouter,
    apply: &ApplyAtOnce,
    tail: &mut Option<Tail>,
    begun: Instant,
) -> Result<()> {
    if tail.is_none() {
        let postgres = router.postgres()?;
        // Who trims the logs is `dual-write run`.
        let options = TailOptions { trims: false, ..TailOptions::default() };
        let (pack, roots) = (apply.pack.clone(), &apply.roots);
        *tail = Some(Tail::open(router.settings(), &postgres, pack, roots, options).await?);
    }
    let Some(tail) = tail else { return Ok(()) };
    while begun.elapsed() < apply.budget {
        if tail.step().await?.source.is_empty() {
            break;
        }
    }
    Ok(())
}
