//! Killed at every moment, nothing is lost: commands and servers are struck at random moments
//! until a seeded plan is fulfilled, and what is left is held to what an undisturbed run leaves.
//!
//! `just torture` strikes a thousand times; `TOOLKIT_TORTURE_KILLS` and `TOOLKIT_TORTURE_SEED`
//! set number and seed. To torture another command, implement [`rack::Scenario`].

mod blow;
pub(crate) mod cluster;
mod copying;
pub(crate) mod rack;

use self::copying::Copying;
use self::rack::{Plan, torture};

#[tokio::test]
async fn struck_at_any_moment_a_backfill_ends_as_if_nothing_had_happened() {
    let plan = Plan::of_environment(5);
    // A short plan is about the copying; a long one has time for indexes built after the load.
    let (records, chunk) = if plan.kills > 10 { (51_000, "1500") } else { (6_000, "300") };
    let mut copying = Copying::new(records, chunk).await;
    let tally = torture(&mut copying, plan).await;
    println!("{tally:?}");
    assert!(tally.total() >= plan.kills);
}
