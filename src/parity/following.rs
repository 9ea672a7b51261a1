//! One store that follows the other, as a verification beside them sees it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::pack::OpenedPack;

/// Whether what differs is compared again before it counts.
#[derive(Debug, Clone, Default)]
pub enum Settle {
    /// The stores stand still: one comparison decides.
    #[default]
    No,
    /// One store follows the other: until it is sure that it does not.
    Following(Arc<dyn Follower>),
    /// Until so much time has passed.
    For(Duration),
    /// The same, where it is known who follows.
    FollowingFor(Arc<dyn Follower>, Duration),
}

impl Settle {
    /// Whether one comparison decides.
    #[must_use]
    pub fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }

    pub(super) fn follower(&self) -> Option<&Arc<dyn Follower>> {
        match self {
            Self::No | Self::For(_) => None,
            Self::Following(follower) | Self::FollowingFor(follower, _) => Some(follower),
        }
    }

    pub(super) fn limit(&self) -> Option<Duration> {
        match self {
            Self::No | Self::Following(_) => None,
            Self::For(limit) | Self::FollowingFor(_, limit) => Some(*limit),
        }
    }
}

/// Keys of rows by slice, as their positions in the plan: the first half of the keys' digests.
pub type KeysBySlice = HashMap<usize, HashSet<[u8; 16]>>;

/// How far the following store has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Changes that it lacks.
    pub behind: u64,
    /// Whether they became fewer in the meantime.
    pub has_moved: bool,
    /// Whether somebody applies them.
    pub is_applied: bool,
}

/// What a follower answers.
pub type Answer<'f, T> = std::pin::Pin<Box<dyn Future<Output = Result<T>> + Send + 'f>>;

/// Whoever knows how far the following store has come.
pub trait Follower: std::fmt::Debug + Send + Sync {
    /// Whether it is the source that follows the target.
    fn is_source(&self) -> bool {
        false
    }

    /// Waits until the store has what was written to the other before the call, or comes no
    /// further; which of these changes it still lacks then.
    fn caught_up<'f>(&'f self, conn: &'f mut PgConnection) -> Answer<'f, Lag>;

    /// Those of `keys` whose changes the store lacks in the snapshot that `conn` reads; asked where
    /// the source follows.
    fn waiting<'f>(
        &'f self,
        _conn: &'f mut PgConnection,
        _opened: &'f OpenedPack,
        _keys: &'f KeysBySlice,
    ) -> Answer<'f, KeysBySlice> {
        Box::pin(async { Ok(KeysBySlice::new()) })
    }

    /// What to type so that the store gets what it lacks.
    fn command(&self) -> String;
}
