//! Live stores: a change on its way is no difference, and a difference is not waited away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use toolkit::parity::{Options, Report, Settle};

use crate::support::world::World;

const PACK: &str = r#"
[pack]
name = "mine"
version = 1

[[stream]]
name = "notes"
source = { sqlite = "app.sqlite", table = "notes" }
target = "public.notes"
key = ["id"]
"#;
const TARGET: &str = "CREATE TABLE notes (id int8 PRIMARY KEY, note text)";
const SOURCE: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
    INSERT INTO notes SELECT i, 'note ' || i FROM n";

async fn settled(world: &World, limit: Duration) -> Report {
    let options = Options { settle: Settle::For(limit), ..Options::default() };
    world.verify_with(&options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_on_their_way_settle_and_a_real_difference_stays() {
    let world = Arc::new(World::own(PACK, TARGET, SOURCE).await);
    world.backfill().await;
    world.sql("UPDATE notes SET note = 'wrong' WHERE id = 7; DELETE FROM notes WHERE id = 8").await;
    let stop = Arc::new(AtomicBool::new(false));
    // Whatever it writes to the source, it writes to the target half a second later.
    let writer = tokio::spawn({
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        async move {
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                let id = 20 + version % 150;
                let change = format!("UPDATE notes SET note = 'v{version}' WHERE id = {id}");
                world.sqlite(&change);
                tokio::time::sleep(Duration::from_millis(500)).await;
                world.sql(&change).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let report = settled(&world, Duration::from_secs(6)).await;
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    let settling = report.settling.unwrap();
    assert!(settling.readings >= 2 && settling.differed >= 2, "{settling:?}");
    assert_eq!(settling.settled, settling.differed - 2, "{settling:?}");
    assert_eq!((report.differing_rows, report.units[0].changed), (2, 1), "{report:#?}");
    let keys: Vec<_> = report.differences.iter().map(|found| found.key["id"].clone()).collect();
    assert_eq!(keys, ["7", "8"]);
    let mut conn = world.postgres.dedicated().await.unwrap();
    let stored = toolkit::parity::stored_run(&mut conn, &report.run_id).await.unwrap();
    assert_eq!(stored.report.settling, Some(settling));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_never_agrees_while_it_changes_is_unsettled_and_a_difference() {
    let world = Arc::new(World::own(PACK, TARGET, SOURCE).await);
    world.backfill().await;
    world.sqlite("UPDATE notes SET note = 'ahead' WHERE id = 3");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        async move {
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                world.sqlite(&format!("UPDATE notes SET note = 'ahead {version}' WHERE id = 3"));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let report = settled(&world, Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    let settling = report.settling.unwrap();
    assert_eq!((settling.differed, settling.settled, settling.unsettled), (1, 0, 1));
    assert_eq!(report.differing_rows, 1);
}

#[tokio::test]
async fn stores_that_agree_are_read_once_and_the_command_says_what_settled() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    let clean = world.verify_parity(&["--settle"]);
    assert_eq!(clean.status.code(), Some(0));
    let report: Report = serde_json::from_slice(&clean.stdout).unwrap();
    assert_eq!(report.settling.unwrap().readings, 0);
    world.sql("DELETE FROM notes WHERE id = 8").await;
    let differs = world.verify_parity(&["--settle", "1"]);
    assert_eq!(differs.status.code(), Some(1));
    let report: Report = serde_json::from_slice(&differs.stdout).unwrap();
    assert_eq!((report.settling.unwrap().settled, report.units[0].missing), (0, 1));
}
