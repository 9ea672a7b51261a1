//! A collection that somebody removes, empties or replaces under running workers is made whole, and
//! one made of something else is refused; in every case the workers say so and do not hang.

use std::future::Future;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinHandle;
use toolkit::qdrant::outbox::{self, Tally};
use toolkit::qdrant::{Distance, PointId, Schema, VectorKind};
use toolkit::{ErrorKind, Result};

use super::stores::{self, Store};
use super::world::{OPTIONS, World};

/// Longer than anything here takes; a wait without an end would say nothing.
const PATIENCE: Duration = Duration::from_mins(2);

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: no end to it"))
}

async fn both() -> [Store; 2] {
    [stores::embedded(), stores::front().await]
}

/// Workers that follow, with nothing left to do.
async fn following(world: &Arc<World>) -> JoinHandle<Result<Tally>> {
    let run = tokio::spawn({
        let world = Arc::clone(world);
        async move {
            let (postgres, target) = (&world.postgres, &world.target);
            outbox::run(postgres, target, &world.embedder, OPTIONS, &world.stop).await
        }
    });
    soon("the first fill", settled(world)).await;
    run
}

async fn settled(world: &World) {
    while world.pending().await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until the collection is what Postgres says, and nothing waits.
async fn whole(world: &World) {
    loop {
        settled(world).await;
        let options = toolkit::qdrant::parity::Options::default();
        let report =
            toolkit::qdrant::parity::verify(&world.postgres, &world.target, &options, &world.stop);
        // There may be none just now.
        if report.await.is_ok_and(|report| report.is_clean() && report.on_the_way.count == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What somebody does to a collection.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Dropped,
    Emptied,
    AliasSwitched,
    MadeAnewUnderItsName,
    MostlyLost,
}

impl Deed {
    const ALL: [Self; 5] = [
        Self::Dropped,
        Self::Emptied,
        Self::AliasSwitched,
        Self::MadeAnewUnderItsName,
        Self::MostlyLost,
    ];

    async fn is_done_to(self, world: &World) {
        let (store, name) = (world.target.store(), world.target.name());
        let behind = store.alias(name).await.unwrap().unwrap_or_else(|| name.to_owned());
        let schema = world.target.schema();
        match self {
            Self::Dropped => store.remove(&behind).await.unwrap(),
            Self::Emptied => delete(world, &points(world, |_| true).await).await,
            Self::MostlyLost => delete(world, &points(world, |at| at % 8 != 0).await).await,
            Self::AliasSwitched => {
                store.create("somebody", schema).await.unwrap();
                // The workers may be about to make one.
                while store.set_alias(name, "somebody").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Self::MadeAnewUnderItsName => make_anew(world, schema).await,
        }
    }
}

/// Removes the collection and makes one that bears the name itself.
async fn make_anew(world: &World, schema: &Schema) {
    let (store, name) = (world.target.store(), world.target.name());
    let behind = store.alias(name).await.unwrap().unwrap_or_else(|| name.to_owned());
    store.remove(&behind).await.unwrap();
    // The workers may have been quicker.
    while store.create(name, schema).await.is_err() {
        if let Some(other) = store.alias(name).await.unwrap() {
            store.remove(&other).await.unwrap();
        }
    }
}

async fn delete(world: &World, points: &[PointId]) {
    if !points.is_empty() {
        world.target.store().delete(world.target.name(), points).await.unwrap();
    }
}

async fn points(world: &World, which: impl Fn(usize) -> bool) -> Vec<PointId> {
    let (store, name) = (world.target.store(), world.target.name());
    let filter = toolkit::qdrant::Filter::default();
    let page = store.scroll(name, &filter, None, 1_000, toolkit::qdrant::With::ID).await;
    // Of one that is not there just now, none.
    let points = page.map(|page| page.points).unwrap_or_default();
    let ids = points.iter().map(|point| point.id).enumerate();
    ids.filter(|(at, _)| which(*at)).map(|(_, id)| id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_taken_away_under_idle_workers_is_made_whole() {
    for store in both().await {
        let world = Arc::new(World::new(Arc::clone(&store.store), 12).await);
        let run = following(&world).await;
        for deed in Deed::ALL {
            deed.is_done_to(&world).await;
            soon(&format!("{} {deed:?}", store.name), whole(&world)).await;
        }
        world.stop.request();
        soon("stopping", run).await.unwrap().unwrap();
        assert_eq!(world.number("SELECT max(attempts)::bigint FROM qdrant_outbox").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_made_of_something_else_ends_all_workers_with_the_difference() {
    for store in both().await {
        for size in [32, 48] {
            let world = Arc::new(World::new(Arc::clone(&store.store), 3).await);
            let run = following(&world).await;
            let mut schema = world.target.schema().clone();
            let text = world.target.text_vector().to_owned();
            // The same size with another distance refuses no write.
            let distance = if size == 32 { Distance::Dot } else { Distance::Cosine };
            schema.vectors.insert(text, VectorKind::Dense { size, distance });
            make_anew(&world, &schema).await;
            let error = soon(store.name, run).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreFailed, "{error}");
            assert!(error.detail().contains("not as configured"), "{error}");
            world.target.store().remove(world.target.name()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_fills_a_collection_that_was_emptied() {
    for store in both().await {
        let world = World::new(Arc::clone(&store.store), 5).await;
        world.drain().await;
        Deed::Emptied.is_done_to(&world).await;
        assert_eq!(soon(store.name, world.drain()).await.points, 15);
        world.assert_same().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_end_when_asked_to_whatever_they_wait_for() {
    // Nothing to do; a server that is away.
    for is_away in [false, true] {
        let store = stores::front().await;
        let state = Arc::clone(&store.front.as_ref().unwrap().state);
        let world = Arc::new(World::new(Arc::clone(&store.store), 3).await);
        let run = following(&world).await;
        if is_away {
            state.is_away.store(true, Ordering::SeqCst);
            let asked = state.requests.load(Ordering::SeqCst);
            world.insert(3..6).await;
            soon("asking", async {
                while state.requests.load(Ordering::SeqCst) < asked + 3 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
        world.stop.request();
        soon("stopping", run).await.unwrap().unwrap();
    }
}

/// Runs `outbox run` until it says `until`, sends the signal, and returns exit code and what it said.
async fn stopped_by(
    world: &World,
    url: Option<&str>,
    until: &str,
    signal: Signal,
) -> (i32, String) {
    let mut command = crate::support::toolkit();
    command.args(["--database-url", world.database.url(), "--state-dir"]);
    command.arg(world.database.folder().join("state")).args(["outbox", "run"]);
    if let Some(url) = url {
        command.args(["--qdrant-url", url]);
    }
    command.current_dir(world.database.folder()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let mut is_asked = false;
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push_str(&line);
        said.push('\n');
        if !is_asked && line.contains(until) {
            is_asked = true;
            nix::sys::signal::kill(pid, signal).unwrap();
        }
    }
    (child.wait().await.unwrap().code().unwrap_or(-1), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_and_sigterm_end_the_command_which_says_what_is_left() {
    let mut world = World::new(stores::embedded(), 3).await;
    world.settings.embedding.dimension = 384;
    // Nobody listens there.
    let away = stopped_by(&world, Some("http://127.0.0.1:9"), "does not answer", Signal::SIGTERM);
    let (code, said) = soon("a server that is away", away).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("9 rows are not written yet"), "{said}");
    let idle = stopped_by(&world, None, "following into", Signal::SIGINT);
    let (code, said) = soon("a first fill", idle).await;
    assert!(said.contains("stopped"), "{said}");
    assert!(code == 0 || said.contains("are not written yet"), "{code} {said}");
}
