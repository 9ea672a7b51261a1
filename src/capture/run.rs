//! Following the changes of a pack for as long as it is wanted.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::files::RescanOptions;
use super::tail::{Applied, Tail};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// How long to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// One batch.
    Once,
    /// Until nothing is left to be applied.
    CaughtUp,
    /// Until somebody asks to stop.
    Stopped,
}

/// Pauses.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks where nothing was new.
    pub interval: Duration,
    /// The longest between two tries while a store is away.
    pub retry_max: Duration,
    /// Between two looks at the pack's documents.
    pub rescan: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            retry_max: Duration::from_secs(30),
            rescan: Duration::from_secs(5),
        }
    }
}

/// What was done in all.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Followed {
    /// The pack.
    pub pack: String,
    /// Batches.
    pub batches: u64,
    /// Entries of the logs that were applied.
    pub changes: u64,
    /// Rows written.
    pub rows: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Records and rows that were refused.
    pub rejects: u64,
    /// Rows that wait for others, as of the last batch of each file.
    pub held: u64,
    /// Documents that were applied.
    pub documents: u64,
    /// Documents that are not applied, and why, as of the last look.
    pub document_problems: Vec<(String, String)>,
    /// Times a store was away.
    pub retries: u64,
    /// Whether somebody asked to stop.
    pub stopped: bool,
}

/// Tries while a store is away, where the end is awaited: about a minute.
const TRIES_MAX: u32 = 9;

/// Applies changes until `until`. A store that is away is waited for, with growing pauses: for
/// ever with [`Until::Stopped`], else for about a minute.
pub async fn follow(
    tail: &mut Tail,
    until: Until,
    pace: Pace,
    stop: &Stop,
    on_batch: &(dyn Fn(&Applied) + Sync),
) -> Result<Followed> {
    let mut followed = Followed { pack: tail.pack().plan.name.clone(), ..Followed::default() };
    let mut tries = 0_u32;
    let mut scanned: Option<Instant> = None;
    loop {
        if stop.is_requested() {
            followed.stopped = true;
            return Ok(followed);
        }
        let is_due = scanned.is_none_or(|last| last.elapsed() >= pace.rescan);
        if is_due && let Err(error) = look(tail, stop, &mut followed).await {
            if !is_passing(&error) {
                return Err(error);
            }
            tracing::warn!("documents: {error}");
        } else if is_due {
            scanned = Some(Instant::now());
        }
        let pause = match tail.step().await {
            Ok(applied) => {
                tries = 0;
                let is_idle = applied.source.is_empty();
                if !is_idle {
                    followed.add(&applied);
                    on_batch(&applied);
                }
                match until {
                    Until::Once => return Ok(followed),
                    Until::CaughtUp if is_idle => return Ok(followed),
                    _ if is_idle => pace.interval,
                    _ => continue,
                }
            }
            Err(error) if is_passing(&error) => {
                tries += 1;
                followed.retries += 1;
                if until != Until::Stopped && tries >= TRIES_MAX {
                    return Err(error);
                }
                let pause = Duration::from_millis(200 << tries.min(8)).min(pace.retry_max);
                tracing::warn!(tries, "{error}; trying again in {} ms", pause.as_millis());
                tail.forget_connection();
                pause
            }
            Err(error) => return Err(error),
        };
        let _ = stop
            .unless(async {
                tokio::time::sleep(pause).await;
                Ok(())
            })
            .await;
    }
}

async fn look(tail: &mut Tail, stop: &Stop, followed: &mut Followed) -> Result<()> {
    let scan = tail.rescan(RescanOptions::default(), stop).await?;
    followed.documents += scan.applied.len() as u64;
    followed.rows += scan.rows;
    followed.deleted += scan.deleted;
    followed.rejects += scan.rejects;
    followed.document_problems = scan.unfinished;
    followed.document_problems.extend(scan.problems);
    Ok(())
}

/// Whether trying again can help: the server is away or full, rows or the file are locked.
fn is_passing(error: &Error) -> bool {
    error.kind().is_transient() || error.kind() == ErrorKind::StoreExhausted
}

impl Followed {
    fn add(&mut self, applied: &Applied) {
        self.batches += 1;
        self.changes += applied.changes;
        self.rows += applied.rows;
        self.deleted += applied.deleted;
        self.rejects += applied.rejects;
        self.held = applied.held;
    }
}
