//! Repair: from a stored verification to a plan a person can review, and from the plan to rows.
//!
//! [`plan`] reads the differences of one verification and proposes, key by key, an insert, update
//! or delete that makes the target what the source says. [`apply`] re-checks each key before it
//! touches it: a row of either side that is no longer the one the verification saw is left alone
//! and reported as stale. After each write the key is compared again, before the commit.

mod apply;
mod group;
mod plan;
mod requeue;

pub use apply::{Applied, Fate, Outcome, apply, rehearse};
pub use plan::{Action, Operation, Plan, Side, Sides, plan, read_plan, write_plan};
pub use requeue::{points_of, requeue};
