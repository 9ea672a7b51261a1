//! Whose fault a refusal is: a server that serves nobody, or only some, makes no row a failed one.

use tonic::Status;
use toolkit::qdrant::{Filter, outbox};
use toolkit::{Error, ErrorKind};

use super::front::State;
use super::server::{attempts, world};
use super::stores;
use super::world::World;

/// Characters whose rows wait, and all rows that are parked.
async fn waiting(world: &World) -> (i64, i64) {
    let waiting = "SELECT count(*) FROM qdrant_outbox WHERE processed_at IS NULL \
                   AND entity_type = 'character'";
    let parked = "SELECT count(*) FROM qdrant_outbox WHERE parked_at IS NOT NULL";
    (world.number(waiting).await, world.number(parked).await)
}

/// As a server says it whose disk is full, to writes and removals alike.
fn full() -> Status {
    Status::internal(
        "Service internal error: No space left on device: WAL buffer size exceeds available disk \
         space",
    )
}

/// While everything is refused, each drain says so, oftener than a row has tries, and no row has had
/// one; then all of it goes in.
async fn refused_until_mended(
    world: &World,
    state: &State,
    refusal: Status,
    is_told: impl Fn(&Error),
) {
    state.change(|manner| manner.refusal = Some(refusal));
    for _ in 0..=outbox::ATTEMPTS_MAX {
        is_told(&world.try_drain().await.unwrap_err());
    }
    assert_eq!(attempts(world).await, 0);
    state.change(|manner| manner.refusal = None);
    world.drain().await;
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_a_drain_with_what_to_do_and_parks_nothing() {
    let (world, state) = world(stores::front().await, 5).await;
    world.drain().await;
    world.sql("UPDATE anime SET status = 'ONGOING'").await;
    // Of these the points are right already: they are no proof that the server takes writes.
    world.sql("UPDATE character SET name = name").await;
    refused_until_mended(&world, &state, full(), |error| {
        assert_eq!(error.kind(), ErrorKind::StoreExhausted, "{error}");
        assert!(error.detail().contains("No space left on device"), "{error}");
        assert!(error.advice_text().unwrap().contains("free room"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_waits_until_a_full_disk_has_room() {
    let (world, state) = world(stores::front().await, 5).await;
    world.target.ensure().await.unwrap();
    state.change(|manner| manner.refusal = Some(full()));
    let world = std::sync::Arc::new(world);
    let run = world.follow(&world.stop);
    let asked = || state.requests.load(std::sync::atomic::Ordering::SeqCst);
    let before = asked();
    while asked() < before + 20 && !run.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    state.change(|manner| manner.refusal = None);
    while world.pending().await > 0 && !run.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.stop.request();
    run.await.unwrap().unwrap();
    assert_eq!(attempts(&world).await, 0);
    let (store, name) = (world.target.store(), world.target.name());
    assert_eq!(store.count(name, &Filter::default()).await.unwrap(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_whatever_is_written_is_told_as_it_was_said_and_parks_nothing() {
    let (world, state) = world(stores::front().await, 5).await;
    world.target.ensure().await.unwrap();
    let words = "Bad request: Something that no version has said yet";
    refused_until_mended(&world, &state, Status::invalid_argument(words), |error| {
        assert!(error.detail().contains(words), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_without_replicas_holds_up_its_own_points_alone_and_parks_none_of_them() {
    let (world, state) = world(stores::front().await, 10).await;
    world.target.ensure().await.unwrap();
    state.change(|manner| manner.is_shard_lost = true);
    // All in one batch: one that meets nothing else takes the server for away.
    let options = outbox::Options { batch: 64, workers: 1 };
    let (postgres, target) = (&world.postgres, &world.target);
    let done = outbox::drain(postgres, target, &world.embedder, options, &world.stop).await;
    let tally = done.unwrap();
    assert_eq!((tally.points, tally.failed), (20, 10), "{tally:?}");
    assert_eq!(waiting(&world).await, (10, 0));
    assert_eq!(attempts(&world).await, 0);
    let mut conn = world.postgres.dedicated().await.unwrap();
    let status = outbox::status(&mut conn, 20).await.unwrap();
    assert_eq!((status.waiting_rows, status.troubled.len()), (10, 10), "{status:?}");
    assert!(status.troubled[0].last_error.contains("no active replica"), "{status:?}");
    state.change(|manner| manner.is_shard_lost = false);
    assert_eq!(outbox::retry(&mut conn, None).await.unwrap(), 10);
    assert_eq!(world.drain().await.points, 10);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_whose_points_need_a_shard_key_is_refused_before_anything_is_written() {
    let (world, state) = world(stores::front().await, 2).await;
    world.target.ensure().await.unwrap();
    state.change(|manner| manner.is_sharded_by_key = true);
    let error = world.try_drain().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreFailed, "{error}");
    assert!(error.detail().contains("sharding is custom"), "{error}");
    assert_eq!(attempts(&world).await, 0);
    assert_eq!(world.pending().await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_below_the_size_of_a_batch_slows_payloads_down_and_fails_none() {
    let (world, state) = world(stores::front().await, 16).await;
    world.drain().await;
    world.sql("UPDATE anime SET status = 'ONGOING'").await;
    state.change(|manner| manner.rate = 3);
    let tally = world.drain().await;
    assert_eq!((tally.payloads, tally.failed), (16, 0), "{tally:?}");
    // And later requests are not smaller for it.
    state.change(|manner| manner.rate = usize::MAX);
    world.sql("UPDATE anime SET title = title || '!'").await;
    let store = world.target.store();
    let before = state.requests.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.drain().await.points, 16, "{}", store.describe());
    let asked = state.requests.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(asked < 16, "{asked} requests");
    world.assert_same().await;
}
