//! A whole migration under an application that never stops writing, with kill -9 of everything
//! that takes part in it, and restarts of the server in between.
//!
//! The application keeps a journal of what it announced and what was acknowledged to it; at the
//! end the store that is then primary has to hold just that.

mod checks;
mod journal;
mod shop;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use self::shop::{Application, Shop};
use crate::torture::rack::Plan;

/// Changes a second.
const RATE: u32 = 500;

/// Rounds of a plain test run.
const ROUNDS: u32 = 5;

#[tokio::test]
async fn killed_at_any_point_a_migration_loses_no_acknowledged_change() {
    rounds(Application::Rust).await;
}

#[tokio::test]
async fn an_application_in_python_stops_at_the_fence_and_loses_no_acknowledged_change() {
    if !shop::has_python() {
        println!("skipped: there is no python3");
        return;
    }
    rounds(Application::Python).await;
}

/// A few rounds, or as many as the kills that are asked for need.
async fn rounds(written_in: Application) {
    let plan = Plan::of_environment(ROUNDS);
    let is_long = plan.kills > 10;
    let mut shop = Shop::new(written_in).await;
    let mut round = 0;
    while if is_long { shop.tally.total() < plan.kills } else { round < plan.kills } {
        let dice = ChaCha8Rng::seed_from_u64(plan.seed ^ u64::from(round));
        println!("{written_in:?}, round {round}, seed {} (TOOLKIT_TORTURE_SEED)", plan.seed);
        shop.begin(dice).await;
        migrate(&mut shop, round % 2 == 1).await;
        round += 1;
        println!("  {} blows in {round} rounds: {:?}", shop.tally.total(), shop.tally);
    }
}

/// Through phases 0 to 4, or through cutover and rollback.
async fn migrate(shop: &mut Shop, rolls_back: bool) {
    shop.start_application(RATE).await;
    shop.succeeds("dual-write enable");
    shop.succeeds("phase advance");
    shop.start_tail();
    shop.until_reached("phase advance", 2).await;
    shop.until_succeeds("backfill", &["--chunk-records", "1000"]).await;
    shop.disturb().await;
    shop.verify_beside_the_application().await;
    shop.until_reached("phase advance", 3).await;
    shop.after_cutover().await;
    if rolls_back {
        shop.until_reached("phase rollback", 2).await;
        shop.after_rollback().await;
        shop.end().await;
        shop.assert_sqlite_holds_the_journal();
        shop.assert_parity();
    } else {
        shop.verify_beside_the_application().await;
        shop.until_reached("phase advance", 4).await;
        shop.end().await;
        shop.assert_postgres_holds_the_journal().await;
    }
    shop.assert_every_phase_has_its_evidence(rolls_back).await;
}
