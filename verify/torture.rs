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
    let is_long = plan.kills > 10;
    let few = Plan { kills: if is_long { plan.kills / 2 } else { plan.kills }, ..plan };
    let mut copying = Copying::new(6_000, "300").await;
    println!("{:?}", torture(&mut copying, few).await);
    if is_long {
        // Enough records for indexes to be built after the load.
        let mut copying = Copying::new(51_000, "1500").await;
        let rest = Plan { kills: plan.kills - few.kills, seed: !plan.seed };
        println!("{:?}", torture(&mut copying, rest).await);
    }
}
