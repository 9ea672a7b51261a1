//! Near-duplicate characters: proposed with reasons, reviewed by a person, merged, taken back.
//!
//! A merge is one transaction: rows move, what moved is recorded, the redirect is written, and the
//! schema's triggers queue the old point's tombstone and the new one's payload. Nothing is thrown
//! away: the merged character's own row stays under its id, and lookups follow its redirect
//! (`canonical_character`).

mod merge;
mod names;
mod nearest;
mod propose;
mod review;
mod score;
mod vectors;

use std::future::Future;

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::interrupt::Stop;

pub use merge::{Merged, Undone, merge, undo};
pub use propose::{ByName, Proposed, propose};
pub use review::{Candidate, Candidates, Decided, STATES, candidates, reject};
pub use score::{Reason, Scored};
pub use vectors::{ByVector, unsearchable};

/// Two characters worth a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The smaller id.
    pub one: Uuid,
    /// The greater id.
    pub other: Uuid,
    /// How near a search found them, from 0 to 1; None where it does not say.
    pub nearness: Option<f64>,
}

/// What a search for neighbours found.
#[derive(Debug, Clone, Default)]
pub struct Neighbourhood {
    /// Each pair once.
    pub pairs: Vec<Pair>,
    /// Groups that were too large to be pairs: names that very many bear.
    pub crowds: u64,
    /// Pairs that a search by vectors found.
    pub near: u64,
    /// Whether less was searched than could be: candidates that are not found again may still be
    /// some.
    pub is_partial: bool,
}

/// Finds characters that may be the same: by what they have in common, or by their vectors.
pub trait Neighbours: Sync {
    /// All pairs worth a comparison; characters that were merged already are none of them.
    fn pairs(
        &self,
        conn: &mut PgConnection,
        stop: &Stop,
    ) -> impl Future<Output = Result<Neighbourhood>> + Send;
}
