//! kill -9 of the built binary: during a drain, and during a rebuild.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use toolkit::qdrant::{Embedded, Target};

use super::stores;
use super::world::World;
use crate::support::toolkit;

/// A world whose collection is in the state folder, which only one process at a time has open.
async fn world(count: u64) -> World {
    // The store of the world is put in place by `look`; until then any will do.
    let mut world = World::new(stores::embedded(), count).await;
    world.settings.embedding.dimension = 384;
    world
}

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = toolkit();
    command
        .args(["--database-url", world.database.url(), "--state-dir"])
        .arg(world.database.folder().join("state"))
        .args(arguments)
        .current_dir(world.database.folder())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Opens the state folder's store and compares.
async fn assert_same(world: &mut World) {
    world.settings = world.database.settings();
    let store = Embedded::open(&world.settings.state_dir).unwrap();
    world.target = Target::new(std::sync::Arc::new(store), &world.settings).unwrap();
    world.embedder = std::sync::Arc::new(toolkit::qdrant::embed::Hashed::new(384));
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_has_marked_nothing_that_qdrant_does_not_keep() {
    let mut world = world(400).await;
    let drain = ["outbox", "drain", "--batch", "8", "--workers", "2"];
    let mut marked = 0;
    for share in [4, 2] {
        let child = command(&world, &drain).spawn().unwrap();
        let enough = 1200 / share;
        while world
            .number("SELECT count(*) FROM qdrant_outbox WHERE processed_at IS NOT NULL")
            .await
            < enough
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kill(child);
        marked =
            world.number("SELECT count(*) FROM qdrant_outbox WHERE processed_at IS NOT NULL").await;
    }
    println!("killed twice, {marked} rows marked before the last drain");
    assert!(command(&world, &drain).status().unwrap().success());
    assert_eq!(world.pending().await, 0);
    assert_same(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rebuild_leaves_the_old_collection_and_the_next_one_ends() {
    let mut world = world(400).await;
    assert!(command(&world, &["outbox", "drain"]).status().unwrap().success());
    let collections = world.database.folder().join("state/qdrant/collections");
    let aliases = world.database.folder().join("state/qdrant/aliases");
    let before = std::fs::read_to_string(aliases.join("anime_database")).unwrap();
    let child = command(&world, &["outbox", "rebuild"]).spawn().unwrap();
    while !aliases.join("anime_database--next").exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    kill(child);
    let after = std::fs::read_to_string(aliases.join("anime_database")).unwrap();
    assert_eq!(before, after);
    world.insert(400..410).await;
    assert!(command(&world, &["outbox", "rebuild"]).status().unwrap().success());
    assert_eq!(std::fs::read_dir(&collections).unwrap().count(), 1);
    assert!(command(&world, &["outbox", "drain"]).status().unwrap().success());
    assert_same(&mut world).await;
}
