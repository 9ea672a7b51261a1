//! What a real server does and the engine in this process does not: limits, locks, late answers,
//! other versions, other programs at its port, collections that others change.

use std::sync::Arc;

use qdrant_client::qdrant as grpc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Status;
use toolkit::ErrorKind;
use toolkit::config::QdrantServer;
use toolkit::qdrant::outbox::{self, Options};
use toolkit::qdrant::parity::mend;
use toolkit::qdrant::{Filter, Server, Vector, VectorStore, With};

use super::front::{State, limited};
use super::stores::{self, Store};
use super::world::{World, anime};

/// A world over a front, and what the front may be told.
pub(super) async fn world(store: Store, count: u64) -> (World, Arc<State>) {
    let state = Arc::clone(&store.front.as_ref().unwrap().state);
    (World::new(store, count).await, state)
}

pub(super) async fn attempts(world: &World) -> i64 {
    world.number("SELECT coalesce(max(attempts), 0)::bigint FROM qdrant_outbox").await
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_limits_on_points_pages_and_exact_counts_make_requests_smaller_and_nothing_fail() {
    let (world, state) = world(stores::front().await, 20).await;
    state.change(|manner| {
        manner.upsert_max = 5;
        manner.limit_max = 7;
        manner.is_exact_allowed = false;
    });
    assert_eq!(world.drain().await.points, 60);
    assert_eq!(attempts(&world).await, 0);
    assert_eq!(world.assert_same().await.points, 60);
    let (postgres, target) = (&world.postgres, &world.target);
    let done = outbox::rebuild(postgres, target, &world.embedder, false, &world.stop, &|_| ());
    assert_eq!(done.await.unwrap().written, 60);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_are_too_long_for_one_message_go_in_several() {
    let (world, _) = world(stores::front_with_messages_of(24 << 10).await, 24).await;
    world
        .sql(
            "UPDATE anime SET meta = jsonb_set(meta, '{tags}', \
               (SELECT jsonb_agg(repeat(md5(n::text), 4)) FROM generate_series(1, 40) n))",
        )
        .await;
    let options = Options { batch: 200, workers: 1 };
    let (postgres, target) = (&world.postgres, &world.target);
    let tally = outbox::drain(postgres, target, &world.embedder, options, &world.stop).await;
    assert_eq!(tally.unwrap().points, 72);
    assert_eq!(attempts(&world).await, 0);
    // Payloads alone, and removals.
    world.sql("UPDATE anime SET status = 'ONGOING'").await;
    world.drain().await;
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_rate_a_lock_and_a_late_write_are_waited_for_and_count_as_no_try() {
    let (world, state) = world(stores::front().await, 8).await;
    world.target.ensure().await.unwrap();
    state.change(|manner| {
        manner.refusals =
            [limited(1), Status::failed_precondition("Storage locked: Write access is locked")]
                .into();
        manner.slow_writes = 1;
    });
    assert_eq!(world.drain().await.failed, 0);
    assert_eq!(attempts(&world).await, 0);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_whose_making_was_answered_too_late_is_the_one_that_is_used() {
    for lost in [Status::unavailable("gone"), Status::deadline_exceeded("Timeout: 30s")] {
        let (world, state) = world(stores::front().await, 3).await;
        state.change(|manner| manner.lost_answer = Some(lost));
        world.drain().await;
        let store = world.target.store();
        assert_eq!(store.collections().await.unwrap().len(), 1);
        let found = store.schema(world.target.name()).await.unwrap().unwrap();
        assert_eq!(&found, world.target.schema());
        world.assert_same().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_misread_us_is_refused_before_anything_is_written() {
    let (world, state) = world(stores::front().await, 1).await;
    state.change(|manner| manner.version = "1.7.4");
    let error = world.try_drain().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.detail().contains("1.7.4"), "{error}");
    assert!(world.target.store().collections().await.unwrap().is_empty());
    assert_eq!(world.pending().await, 3);
    // What cannot be read decides nothing.
    for version in ["1.18.3-dev", "", "main"] {
        let store = stores::front().await;
        store.front.as_ref().unwrap().state.change(|manner| manner.version = version);
        assert_eq!(store.store.schema("c").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_keeps_no_whole_floats_is_refused_with_the_difference() {
    let (world, state) = world(stores::front().await, 1).await;
    world.target.ensure().await.unwrap();
    state.change(|manner| manner.datatype = grpc::Datatype::Float16);
    let error = world.target.ensure().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreFailed);
    let wanted = "vector \"text_vector\" is stored as float16, not float32";
    assert!(error.detail().contains(wanted), "{error}");
}

/// Answers HTTP/1 as Qdrant's REST port does; the preface of HTTP/2 with a refusal, or by breaking
/// the connection before one arrives.
async fn rest_port(refuses: bool) -> String {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut start = [0; 3];
                let _ = stream.read_exact(&mut start).await;
                if &start != b"PRI" || refuses {
                    let _ = stream.write_all(ANSWER).await;
                    let _ = stream.shutdown().await;
                    // What is left unread would break the connection, and the answer with it.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_http_is_spoken_is_refused_at_once_with_the_port_to_use() {
    for refuses in [true, false] {
        let server = Server::new(&QdrantServer::new(rest_port(refuses).await)).unwrap();
        let error = server.schema("c").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{refuses}: {error:?}");
        assert!(error.advice_text().unwrap().contains("6334"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_vanished_is_made_anew_with_every_entity() {
    for store in [stores::embedded(), stores::front().await] {
        let name = store.name;
        let world = World::new(store, 10).await;
        world.drain().await;
        world.lose_collection().await;
        world.sql(&format!("UPDATE anime SET year = 1 WHERE id = '{}'", anime(1))).await;
        assert_eq!(world.drain().await.points, 30, "{name}");
        assert_eq!(world.assert_same().await.points, 30, "{name}");
        // And once only.
        assert_eq!(world.drain().await, outbox::Tally::default(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_replaced_behind_our_back_by_an_empty_one_is_filled_anew() {
    let (world, _) = world(stores::front().await, 10).await;
    world.drain().await;
    world.lose_collection().await;
    let (store, target) = (world.target.store(), world.target.name());
    // By somebody's hand, under the name itself.
    store.create(target, world.target.schema()).await.unwrap();
    assert_eq!(world.parity().await.missing.count, 30);
    assert_eq!(world.drain().await.points, 30);
    world.assert_same().await;
    assert_eq!(world.drain().await, outbox::Tally::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_were_lost_behind_our_back_are_found_by_parity_and_filled_in_by_repair() {
    let (world, _) = world(stores::front().await, 10).await;
    world.drain().await;
    let (store, target) = (world.target.store(), world.target.name());
    let page = store.scroll(target, &Filter::default(), None, 29, With::ID).await.unwrap();
    let ids: Vec<_> = page.points.iter().map(|point| point.id).collect();
    store.delete(target, &ids).await.unwrap();
    assert_eq!(world.drain().await.points, 0);
    let report = world.parity().await;
    assert_eq!(report.missing.count, 29);
    assert_eq!(mend(&world.postgres, &world.target, &report).await.unwrap(), 29);
    assert_eq!(world.drain().await.points, 29);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_points_that_is_only_about_right_is_never_taken_for_a_count() {
    let (world, _) = world(stores::front().await, 2).await;
    world.drain().await;
    let (store, name) = (world.target.store(), world.target.name());
    // The front says 7 of every collection, and that it is optimising.
    assert_eq!(store.count(name, &Filter::default()).await.unwrap(), 6);
    let query = Vector::Dense(vec![1.0; 32]);
    let using = world.target.text_vector();
    let found = store.search(name, using, query, &Filter::default(), 3).await.unwrap();
    assert_eq!(found.len(), 3);
}
