//! Repair: from a stored verification to a plan a person can review, and from the plan to rows.
//!
//! [`plan`] reads the differences of one verification and proposes, key by key, an insert, update
//! or delete that makes the target what the source says. [`apply`] re-checks each key before it
//! touches it: a row of either side that is no longer the one the verification saw is left alone
//! and reported as stale. After each write the key is compared again, before the commit. A plan is
//! carried out only against the database and the version of the pack it was made for, and only as
//! it was written: whole actions may be taken out of it.

mod apply;
mod file;
mod group;
mod plan;
mod requeue;
mod source;

pub use apply::{Applied, Fate, Outcome, apply, rehearse};
pub use file::{read_plan, write_plan};
pub use plan::{Action, Operation, Plan, Side, Sides, plan};
pub use requeue::{points_of, requeue};
