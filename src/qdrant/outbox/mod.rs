//! What Qdrant still has to learn, and who teaches it.
//!
//! Rows of `qdrant_outbox` come into being in the transaction that changes an entity. A worker
//! takes entities with pending rows, never rows after a position: rows commit in another order
//! than they are numbered. It locks each entity's point through load, write, flush and mark, so
//! that no older state can land last, writes the newest state (many rows, one write), and marks
//! what it has seen. Killed anywhere, it has marked nothing that is not durable in Qdrant; the
//! next one writes the same again.
//!
//! An outage of Qdrant, of the embedding endpoint or of Postgres counts as no try of any row, nor
//! does trouble of a server that takes others' points, as of a cluster that has lost a shard.
//! A row that fails for its own sake is tried again later, and parked after [`ATTEMPTS_MAX`] tries.

use std::time::Duration;

mod batch;
mod locks;
mod queue;
mod rebuild;
mod worker;

pub use locks::ensure;
pub use queue::{Status, Troubled, prune, requeue, requeue_all, retry, status};
pub use rebuild::{Plan, Progress, Rebuilt, plan, rebuild};
pub use worker::{Options, Tally, drain, run};

pub(crate) use batch::{Content, contents, expected, stored_digest};
pub(crate) use locks::{locked, queued};

/// Tries of a row before it is parked.
pub const ATTEMPTS_MAX: i32 = 8;

/// How long a settled row is kept where a newer one of its entity is settled.
pub const SETTLED_KEPT: Duration = Duration::from_hours(24);

/// The channel on which every commit with new rows is heard.
pub const CHANNEL: &str = "qdrant_outbox";
