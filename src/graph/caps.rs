//! What no caller can exceed.

use std::time::Duration;

use super::answer::Clamped;

/// What one call may take in the server, all its statements together.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Limits of a traversal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Steps from the start.
    pub hops: u32,
    /// Nodes in the answer.
    pub results: u32,
    /// Edges looked at per node.
    pub fanout_per_hop: u32,
}

impl Caps {
    /// The most of each that is ever done.
    pub const MAX: Self = Self { hops: 5, results: 50, fanout_per_hop: 50 };
    /// Edges a path search visits.
    pub const VISITED_EDGES: u32 = 60_000;
    /// Chains a path search gives.
    pub const CHAINS: usize = 10;
    /// Edges a comparison looks at on each side.
    pub const COMPARED_EDGES: u32 = 15_000;
}

/// Collects what was asked for and is not done.
#[derive(Debug, Default)]
pub(super) struct Clamp {
    pub(super) clamped: Vec<Clamped>,
}

impl Clamp {
    /// `asked`, from 1 to `max`.
    pub(super) fn limit(&mut self, name: &'static str, asked: u32, max: u32) -> u32 {
        let used = asked.clamp(1, max);
        if used != asked {
            self.clamped.push(Clamped { name, asked, used });
        }
        used
    }
}
