//! A rebuild makes the collection anew while it is searched and written to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use toolkit::qdrant::embed::Text;
use toolkit::qdrant::outbox::{self, Rebuilt};
use toolkit::qdrant::{Filter, Payload, Point, PointId, Vector, next_alias};
use toolkit::{ErrorKind, Result};

use super::stores;
use super::world::{World, anime};

async fn rebuild(world: &World, adopt: bool) -> Result<Rebuilt> {
    let (postgres, target) = (&world.postgres, &world.target);
    outbox::rebuild(postgres, target, &world.embedder, adopt, &world.stop, &|_| ()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_and_changes_go_on_during_a_rebuild_and_the_new_collection_has_them() {
    for store in [stores::embedded(), stores::front().await] {
        let world = Arc::new(World::new(Arc::clone(&store.store), 150).await);
        world.drain().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let searching = tokio::spawn({
            let (world, is_over) = (Arc::clone(&world), Arc::clone(&is_over));
            async move {
                let mut searches = 0_u32;
                while !is_over.load(Ordering::SeqCst) {
                    let text = Text { id: PointId::Number(0), text: "Anime 1".to_owned() };
                    let made = world.embedder.embed(&[text]).await.unwrap().remove(0);
                    let (target, filter) = (&world.target, Filter::default());
                    let vector = Vector::Dense(made.vector);
                    let found = target
                        .store()
                        .search(target.name(), target.text_vector(), vector, &filter, 3)
                        .await
                        .unwrap();
                    assert_eq!(found.len(), 3);
                    searches += 1;
                }
                searches
            }
        });
        let changing = tokio::spawn({
            let (world, is_over) = (Arc::clone(&world), Arc::clone(&is_over));
            async move {
                let mut n = 0;
                while !is_over.load(Ordering::SeqCst) {
                    n += 1;
                    let id = anime(n % 150);
                    world.sql(&format!("UPDATE anime SET title = 'T{n}' WHERE id = '{id}'")).await;
                    world.drain().await;
                }
            }
        });
        let before = store.store.alias(world.target.name()).await.unwrap();
        let done = rebuild(&world, false).await.unwrap();
        is_over.store(true, Ordering::SeqCst);
        changing.await.unwrap();
        assert!(searching.await.unwrap() > 0);
        assert_eq!(done.gap_ms, None);
        assert_eq!(done.written, 450);
        world.drain().await;
        world.assert_same().await;
        let after = store.store.alias(world.target.name()).await.unwrap();
        assert_eq!(after, Some(done.collection.clone()), "{}", store.name);
        assert_ne!(after, before);
        assert_eq!(store.store.collections().await.unwrap(), [done.collection]);
        assert_eq!(store.store.alias(&next_alias(world.target.name())).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_removes_points_nobody_has_and_restores_those_somebody_lost_or_changed() {
    let world = World::new(stores::embedded(), 10).await;
    world.drain().await;
    let (store, name) = (world.target.store(), world.target.name());
    store.delete(name, &[anime(1).into()]).await.unwrap();
    let mut changed = world.point(anime(2)).await.unwrap();
    changed.payload.insert("year".to_owned(), 1.into());
    let mut orphan = changed.clone();
    orphan.id = PointId::Number(7);
    // A vector that is not its text's any more is not copied where it can be made anew.
    let mut damaged = world.point(anime(3)).await.unwrap();
    for vector in damaged.vectors.values_mut() {
        if let Vector::Dense(numbers) = vector {
            numbers.rotate_left(1);
        }
    }
    store.upsert(name, vec![changed, orphan, damaged]).await.unwrap();
    assert!(!world.parity().await.is_clean());
    rebuild(&world, false).await.unwrap();
    assert_eq!(world.assert_same().await.points, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_that_name_is_replaced_only_when_told_to_and_its_vectors_are_kept() {
    for store in [stores::embedded(), stores::front().await] {
        let world = World::new(Arc::clone(&store.store), 10).await;
        let name = world.target.name();
        store.store.create(name, world.target.schema()).await.unwrap();
        // As another program has written it: a model's vector, nothing about who made it.
        let mut vector = vec![0.0; 32];
        vector[5] = 1.0;
        let vectors = [(world.target.text_vector().to_owned(), Vector::Dense(vector))];
        let foreign = Point {
            id: anime(4).into(),
            payload: Payload::from_iter([("entity_type".to_owned(), "anime".into())]),
            vectors: vectors.clone().into(),
        };
        store.store.upsert(name, vec![foreign]).await.unwrap();

        let refused = rebuild(&world, false).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
        assert_eq!(store.store.alias(name).await.unwrap(), None);
        let plan = outbox::plan(&world.postgres, &world.target).await.unwrap();
        assert!(plan.adopts && plan.carried == 1 && plan.entities == 30, "{plan:?}");

        let done = rebuild(&world, true).await.unwrap();
        assert!(done.gap_ms.is_some());
        assert_eq!(store.store.alias(name).await.unwrap(), Some(done.collection));
        let kept = world.point(anime(4)).await.unwrap();
        assert!(kept.vectors.iter().eq(vectors.iter().map(|(name, one)| (name, one))));
        assert_eq!(kept.payload["embedder"], "carried");
        world.drain().await;
        let report = world.assert_same().await;
        assert_eq!((report.points, report.carried), (30, 1), "{}", store.name);
        // And by the next one.
        rebuild(&world, false).await.unwrap();
        assert_eq!(world.point(anime(4)).await.unwrap().payload["embedder"], "carried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_rebuild_left_is_removed_and_a_killed_adoption_is_finished() {
    let world = World::new(stores::embedded(), 5).await;
    world.drain().await;
    let (store, name) = (world.target.store(), world.target.name());
    let left = format!("{name}--0123456789ab");
    // Begins alike, and is another program's.
    let foreign = format!("{name}--staging");
    store.create(&foreign, world.target.schema()).await.unwrap();
    store.create(&left, world.target.schema()).await.unwrap();
    store.set_alias(&next_alias(name), &left).await.unwrap();
    // While it is there, workers write to both.
    world.sql("UPDATE anime SET year = 2000").await;
    world.drain().await;
    assert_eq!(store.count(&left, &Filter::default()).await.unwrap(), 5);
    let done = rebuild(&world, false).await.unwrap();
    assert_eq!(done.plan.leftovers, [left]);
    assert!(store.collections().await.unwrap().contains(&foreign));
    store.remove(&foreign).await.unwrap();
    assert_eq!(store.collections().await.unwrap(), std::slice::from_ref(&done.collection));

    // Between the removal of the adopted collection and the alias.
    store.remove_alias(name).await.unwrap();
    store.set_alias(&next_alias(name), &done.collection).await.unwrap();
    world.target.ensure().await.unwrap();
    assert_eq!(store.alias(name).await.unwrap(), Some(done.collection));
    world.assert_same().await;
}
