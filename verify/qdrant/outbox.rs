//! The collection follows Postgres, whatever happens to Qdrant meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use toolkit::qdrant::Vector;
use toolkit::qdrant::embed::{Embedded, Embedder, Hashed, Text};
use toolkit::qdrant::outbox;
use toolkit::{Error, ErrorKind, Result};

use super::stores;
use super::world::{World, anime, character};

#[tokio::test(flavor = "multi_thread")]
async fn every_change_reaches_every_store_and_a_second_drain_has_nothing_to_do() {
    for store in [stores::embedded(), stores::front().await] {
        let world = World::new(Arc::clone(&store.store), 40).await;
        let tally = world.drain().await;
        assert_eq!(tally.points, 120, "{}: {tally:?}", store.name);
        assert_eq!(world.pending().await, 0);
        let report = world.assert_same().await;
        assert_eq!(report.points, 120);
        assert!(report.counts.values().all(|counts| counts.postgres == counts.qdrant));

        let point = world.point(anime(3)).await.unwrap();
        assert_eq!(point.payload["entity_type"], "anime");
        assert_eq!(point.payload["genres"], serde_json::json!(["Drama"]));
        assert_eq!(point.payload["year"], 1993);
        let person = world.point(character(3)).await.unwrap();
        assert_eq!(person.payload["anime_ids"], serde_json::json!([anime(3)]));

        assert_eq!(world.drain().await, outbox::Tally::default(), "{}", store.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_no_embedded_text_leaves_the_vector_and_one_of_text_makes_another() {
    let world = World::new(stores::embedded(), 5).await;
    world.drain().await;
    let before = world.point(anime(1)).await.unwrap();
    world.sql(&format!("UPDATE anime SET status = 'ONGOING' WHERE id = '{}'", anime(1))).await;
    let tally = world.drain().await;
    assert_eq!((tally.points, tally.payloads), (0, 1), "{tally:?}");
    let after = world.point(anime(1)).await.unwrap();
    assert_eq!(after.vectors, before.vectors);
    assert_eq!(after.payload["status"], "ONGOING");
    let version = |payload: &toolkit::qdrant::Payload| payload["version"].as_i64().unwrap();
    assert!(version(&after.payload) > version(&before.payload));

    world.sql(&format!("UPDATE anime SET title = 'Renamed' WHERE id = '{}'", anime(1))).await;
    let tally = world.drain().await;
    assert_eq!((tally.points, tally.payloads), (1, 0), "{tally:?}");
    assert_ne!(world.point(anime(1)).await.unwrap().vectors, before.vectors);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_other_names_survive_a_change_of_text() {
    let database = crate::support::TestDatabase::create().await;
    let mut settings = database.settings();
    settings.embedding.dimension = 32;
    let image = toolkit::config::VectorSetting {
        size: Some(3),
        distance: None,
        multi: true,
        sparse: false,
    };
    settings.qdrant.vectors.insert("image_vector".to_owned(), image);
    let kept = stores::embedded();
    let target = toolkit::qdrant::Target::new(Arc::clone(&kept.store), &settings).unwrap();
    let world = World::over(database, settings, target, 1).await;
    world.drain().await;
    let mut point = world.point(anime(0)).await.unwrap();
    point.vectors.insert("image_vector".to_owned(), Vector::Multi(vec![vec![0.0, 0.6, 0.8]]));
    let name = world.target.name();
    world.target.store().upsert(name, vec![point]).await.unwrap();
    world.sql("UPDATE anime SET title = 'Renamed'").await;
    world.drain().await;
    let point = world.point(anime(0)).await.unwrap();
    assert!(point.vectors.contains_key("image_vector"));
    assert_eq!(point.payload["title"], "Renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_merged_entities_lose_their_points() {
    let world = World::new(stores::embedded(), 5).await;
    world.drain().await;
    world
        .sql(&format!(
            "DELETE FROM anime WHERE id = '{}'; \
             INSERT INTO character_redirect (from_id, to_id) VALUES ('{}', '{}')",
            anime(0),
            character(1),
            character(2)
        ))
        .await;
    world.drain().await;
    // The anime with its episode, and the merged character.
    assert_eq!(world.assert_same().await.points, 12);
    for gone in [anime(0), character(1)] {
        assert_eq!(world.point(gone).await, None);
    }
    world.sql("DELETE FROM character_redirect").await;
    world.drain().await;
    assert!(world.point(character(1)).await.is_some());
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_qdrant_loses_nothing_and_counts_as_no_try() {
    let store = stores::front().await;
    let state = Arc::clone(&store.front.as_ref().unwrap().state);
    let world = Arc::new(World::new(Arc::clone(&store.store), 10).await);
    state.is_away.store(true, Ordering::SeqCst);
    let run = world.follow(&world.stop);
    while state.requests.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.insert(10..20).await;
    assert_eq!(world.number("SELECT max(attempts)::bigint FROM qdrant_outbox").await, 0);
    state.is_away.store(false, Ordering::SeqCst);
    while world.pending().await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.stop.request();
    run.await.unwrap().unwrap();
    let report = world.target.store();
    assert_eq!(
        report.count(world.target.name(), &toolkit::qdrant::Filter::default()).await.unwrap(),
        60
    );
    assert_eq!(world.number("SELECT max(attempts)::bigint FROM qdrant_outbox").await, 0);
}

/// Refuses one text for ever.
struct Fussy(Hashed);

#[async_trait]
impl Embedder for Fussy {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn dimension(&self) -> u32 {
        self.0.dimension()
    }

    async fn embed(&self, texts: &[Text]) -> Result<Vec<Embedded>> {
        if texts.iter().any(|text| text.text.contains("Anime 7")) {
            return Err(Error::new(ErrorKind::StoreFailed, "too much"));
        }
        self.0.embed(texts).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_row_holds_nobody_up_is_parked_after_its_tries_and_comes_back_on_request() {
    let mut world = World::new(stores::embedded(), 20).await;
    world.embedder = Arc::new(Fussy(Hashed::new(32)));
    for _ in 0..outbox::ATTEMPTS_MAX {
        world.drain().await;
        // The pause between tries passes at once.
        world.sql("UPDATE qdrant_outbox SET next_try_at = now() WHERE processed_at IS NULL").await;
    }
    assert_eq!(world.pending().await, 1);
    let mut conn = world.postgres.dedicated().await.unwrap();
    let status = outbox::status(&mut conn, 10).await.unwrap();
    assert_eq!((status.parked_rows, status.pending_rows), (1, 0), "{status:?}");
    let troubled = &status.troubled[0];
    assert_eq!(troubled.entity_id, anime(7).to_string());
    assert!(troubled.parked && troubled.last_error.contains("too much"), "{troubled:?}");
    assert_eq!(world.drain().await, outbox::Tally::default());

    world.embedder = Arc::new(Hashed::new(32));
    assert_eq!(outbox::retry(&mut conn, None).await.unwrap(), 1);
    assert_eq!(world.drain().await.points, 1);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_and_writers_at_once_leave_the_newest_state() {
    let world = Arc::new(World::new(stores::front().await, 30).await);
    let writers = (0..3_u64).map(|writer| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for round in 0..20 {
                let id = anime((writer * 7 + round) % 30);
                let change = format!(
                    "UPDATE anime SET title = 'W{writer} R{round}', year = {round} WHERE id = '{id}'"
                );
                world.sql(&change).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let drains = (0..3).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.drain().await })
    });
    for done in drains.collect::<Vec<_>>() {
        done.await.unwrap();
    }
    for done in writers {
        done.await.unwrap();
    }
    world.drain().await;
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_and_a_collection_that_were_lost_are_made_again_from_postgres_alone() {
    let world = World::new(stores::embedded(), 10).await;
    world.drain().await;
    world.lose_collection().await;
    world.sql("DELETE FROM qdrant_outbox").await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    assert_eq!(outbox::requeue_all(&mut conn).await.unwrap(), 30);
    assert_eq!(world.drain().await.points, 30);
    world.assert_same().await;
    // With the outbox alone lost, nothing differs, and nothing is written twice.
    world.sql("DELETE FROM qdrant_outbox").await;
    world.assert_same().await;
}

/// Until the collection has so many points, and nothing waits.
async fn until_points_are(world: &World, count: u64) {
    let (store, name) = (world.target.store(), world.target.name());
    let is_whole = async {
        loop {
            let found = store.count(name, &toolkit::qdrant::Filter::default()).await;
            if found.is_ok_and(|found| found == count) && world.pending().await == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(3), is_whole).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_fill_a_collection_again_that_was_taken_away_or_emptied() {
    for given in [stores::embedded(), stores::front().await] {
        let world = Arc::new(World::new(given, 10).await);
        let stop = toolkit::interrupt::Stop::new();
        let run = world.follow(&stop);
        until_points_are(&world, 30).await;

        world.lose_collection().await;
        until_points_are(&world, 30).await;

        let (store, name) = (world.target.store(), world.target.name());
        let all = toolkit::qdrant::Filter::default();
        let page = store.scroll(name, &all, None, 100, toolkit::qdrant::With::ID).await.unwrap();
        let ids: Vec<_> = page.points.iter().map(|point| point.id).collect();
        store.delete(name, &ids).await.unwrap();
        until_points_are(&world, 30).await;

        stop.request();
        run.await.unwrap().unwrap();
        world.assert_same().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_made_otherwise_is_refused_with_the_difference() {
    let world = World::new(stores::embedded(), 1).await;
    world.drain().await;
    let mut settings = world.settings.clone();
    settings.embedding.dimension = 48;
    let store = Arc::clone(world.target.store());
    let target = toolkit::qdrant::Target::new(store, &settings).unwrap();
    let error = target.ensure().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreFailed);
    let wanted = "vector \"text_vector\" is 32 numbers, cosine, not 48 numbers, cosine";
    assert!(error.detail().contains(wanted), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_that_start_on_an_empty_store_make_one_collection() {
    for _ in 0..3 {
        let world = World::new(stores::front().await, 30).await;
        let (postgres, target) = (&world.postgres, &world.target);
        let options = outbox::Options { batch: 2, workers: 8 };
        outbox::drain(postgres, target, &world.embedder, options, &world.stop).await.unwrap();
        assert_eq!(target.store().collections().await.unwrap().len(), 1);
        assert_eq!(world.assert_same().await.points, 90);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_changes_is_heard_by_whoever_listens() {
    let world = World::new(stores::embedded(), 0).await;
    let mut listener =
        sqlx::postgres::PgListener::connect_with(world.postgres.pool()).await.unwrap();
    listener.listen(outbox::CHANNEL).await.unwrap();
    world.insert(0..3).await;
    let heard = tokio::time::timeout(std::time::Duration::from_secs(30), listener.recv()).await;
    assert_eq!(heard.unwrap().unwrap().channel(), outbox::CHANNEL);
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_rows_go_but_for_the_newest_of_each_entity_and_versions_go_on_rising() {
    let world = World::new(stores::embedded(), 5).await;
    for year in 0..3 {
        world.sql(&format!("UPDATE anime SET year = {year}")).await;
        world.drain().await;
    }
    world.sql("UPDATE anime SET year = 9").await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    let day = outbox::SETTLED_KEPT;
    assert_eq!(outbox::prune(&mut conn, day, &world.stop).await.unwrap(), 0);
    let none = std::time::Duration::ZERO;
    // Of each anime the row of its insertion and three of changes: a newer one waits, and stays.
    assert_eq!(outbox::prune(&mut conn, none, &world.stop).await.unwrap(), 20);
    assert_eq!(world.pending().await, 5);
    let before = world.point(anime(1)).await.unwrap().payload["version"].as_i64().unwrap();
    world.drain().await;
    let after = world.point(anime(1)).await.unwrap().payload["version"].as_i64().unwrap();
    assert!(after > before);
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_an_entry_that_no_payload_can_hold_stop_nobody() {
    let world = World::new(stores::embedded(), 3).await;
    let odd = r#"{"genres": ["Drama", 1e400, null, {"a": 1}, ["b"]], "tags": "none"}"#;
    world.sql(&format!("UPDATE anime SET meta = '{odd}' WHERE id = '{}'", anime(1))).await;
    world.drain().await;
    let point = world.point(anime(1)).await.unwrap();
    assert_eq!(point.payload["genres"], serde_json::json!(["Drama"]));
    assert!(!point.payload.contains_key("tags"));
    world.assert_same().await;
}
