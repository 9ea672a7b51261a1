//! Parity names every kind of difference, and what it names can be queued and made good.

use toolkit::qdrant::outbox;
use toolkit::qdrant::parity::{Reason, mend};
use toolkit::qdrant::{PointId, Vector};

use super::stores;
use super::world::{World, anime, character};

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_difference_is_found_and_made_good_by_mending() {
    let store = stores::front().await;
    let world = World::new(store, 300).await;
    world.drain().await;
    world.assert_same().await;
    let (store, name) = (world.target.store(), world.target.name());
    store.delete(name, &[anime(1).into(), character(299).into()]).await.unwrap();
    let text = world.target.text_vector().to_owned();
    let mut payload = world.point(anime(2)).await.unwrap();
    payload.payload.insert("year".to_owned(), 1.into());
    let mut version = world.point(anime(3)).await.unwrap();
    version.payload.insert("version".to_owned(), 0.into());
    let mut bare = world.point(anime(4)).await.unwrap();
    bare.vectors.clear();
    let mut turned = world.point(anime(5)).await.unwrap();
    if let Some(Vector::Dense(numbers)) = turned.vectors.get_mut(&text) {
        numbers.rotate_right(1);
    }
    let mut hash = world.point(anime(6)).await.unwrap();
    hash.payload.insert("payload_hash".to_owned(), "0".into());
    let mut orphan = world.point(anime(7)).await.unwrap();
    orphan.id = uuid::Uuid::from_u128(77).into();
    let mut number = orphan.clone();
    number.id = PointId::Number(3);
    let planted = vec![payload, version, bare, turned, hash, orphan, number];
    store.upsert(name, planted).await.unwrap();
    // On its way, and so no difference.
    world.sql(&format!("UPDATE anime SET year = 1 WHERE id = '{}'", anime(9))).await;

    let report = world.parity().await;
    let waiting: Vec<_> = report.on_the_way.first.iter().map(|one| one.entity.id).collect();
    assert_eq!(waiting, [anime(9)]);
    let mut missing: Vec<_> = report.missing.first.iter().map(|entity| entity.id).collect();
    missing.sort();
    assert_eq!(missing, [character(299), anime(1)]);
    let stale: Vec<_> =
        report.stale.first.iter().map(|one| (one.entity.id, one.reasons.clone())).collect();
    assert_eq!(
        stale,
        [
            (anime(2), vec![Reason::Payload]),
            (anime(3), vec![Reason::Version]),
            (anime(4), vec![Reason::VectorMissing(text.clone())]),
            (anime(5), vec![Reason::VectorOther(text)]),
            (anime(6), vec![Reason::PayloadHash]),
        ]
    );
    let mut extra: Vec<_> = report.extra.first.iter().map(|one| one.id).collect();
    extra.sort();
    assert_eq!(extra, [PointId::Number(3), uuid::Uuid::from_u128(77).into()]);
    assert_eq!(report.counts["anime"].qdrant, 301);

    // What no outbox row can name.
    store.delete(name, &[PointId::Number(3)]).await.unwrap();
    assert_eq!(mend(&world.postgres, &world.target, &report).await.unwrap(), 8);
    world.drain().await;
    world.assert_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_collection_misses_every_entity_and_a_database_without_entities_none() {
    let world = World::new(stores::embedded(), 400).await;
    world.target.ensure().await.unwrap();
    world.sql("DELETE FROM qdrant_outbox").await;
    let report = world.parity().await;
    assert_eq!((report.missing.count, report.missing.first.len()), (1200, 1000));
    let mut conn = world.postgres.dedicated().await.unwrap();
    outbox::requeue_all(&mut conn).await.unwrap();
    world.drain().await;
    world.assert_same().await;
    world
        .sql(
            "DELETE FROM anime_character; DELETE FROM anime; DELETE FROM character; \
               DELETE FROM qdrant_outbox",
        )
        .await;
    let report = world.parity().await;
    assert_eq!((report.missing.count, report.extra.count), (0, 1200));
}
