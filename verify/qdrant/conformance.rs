//! What every store does, whichever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use toolkit::ErrorKind;
use toolkit::config::QdrantServer;
use toolkit::qdrant::{
    Condition, Distance, Embedded, Filter, Index, Point, PointId, Schema, Server, Vector,
    VectorKind, VectorStore, With,
};
use uuid::Uuid;

use super::stores::{self, Store};

fn schema() -> Schema {
    let distance = Distance::Cosine;
    Schema {
        vectors: [
            ("text".to_owned(), VectorKind::Dense { size: 4, distance }),
            ("image".to_owned(), VectorKind::Multi { size: 3, distance }),
            ("words".to_owned(), VectorKind::Sparse),
        ]
        .into(),
        indexes: [
            ("kind".to_owned(), Index::Keyword),
            ("tags".to_owned(), Index::Keyword),
            ("year".to_owned(), Index::Integer),
            ("nsfw".to_owned(), Index::Bool),
        ]
        .into(),
        ..Schema::default()
    }
}

fn id(number: u128) -> PointId {
    Uuid::from_u128(number).into()
}

fn point(number: u128, text: [f32; 4], payload: Value) -> Point {
    let Value::Object(payload) = payload else { panic!("an object") };
    let vectors = [
        ("text".to_owned(), Vector::Dense(text.to_vec())),
        ("image".to_owned(), Vector::Multi(vec![vec![1.0, 2.0, 2.0], vec![0.0, 3.0, 4.0]])),
        ("words".to_owned(), Vector::Sparse { indices: vec![2, 7], values: vec![0.5, 1.5] }),
    ];
    Point { id: id(number), payload, vectors: vectors.into() }
}

/// A collection of this test's own: a server may be everybody's.
async fn collection(store: &Store) -> String {
    let name = format!("conformance-{}", Uuid::new_v4().simple());
    store.store.create(&name, &schema()).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_by_a_name_that_is_switched_meanwhile_always_finds_a_collection() {
    let given = stores::embedded();
    let is_over = Arc::new(AtomicBool::new(false));
    let make = async |name: &str| {
        let store = &given.store;
        store.create(name, &schema()).await.unwrap();
        store.upsert(name, vec![point(1, [1.0; 4], json!({}))]).await.unwrap();
        store.set_alias("current", name).await.unwrap();
    };
    make("made-0").await;
    let readers = (0..3).map(|_| {
        let (store, is_over) = (Arc::clone(&given.store), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(store.count("current", &Filter::default()).await.unwrap(), 1);
                assert!(store.schema("current").await.unwrap().is_some());
                store.flush("current").await.unwrap();
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for round in 1..40 {
        make(&format!("made-{round}")).await;
        given.store.remove(&format!("made-{}", round - 1)).await.unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(given.store.collections().await.unwrap(), ["made-39"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_come_back_as_they_were_written_with_cosine_vectors_normalised() {
    for store in stores::all().await {
        let name = collection(&store).await;
        let written = point(
            1,
            [3.0, 4.0, 0.0, 0.0],
            json!({ "kind": "a", "tags": ["x", "ü\"\\"], "year": 1999, "nsfw": false,
                    "nested": { "list": [1, [2], {}], "empty": [] }, "big": 9_007_199_254_740_993_i64,
                    "least": i64::MIN, "whole": 1.0, "tenth": 0.1, "none": null, "text": "" }),
        );
        store.store.upsert(&name, vec![written.clone()]).await.unwrap();
        store.store.flush(&name).await.unwrap();
        let found = store.store.retrieve(&name, &[id(1), id(2)], With::ALL).await.unwrap();
        let [found] = found.as_slice() else { panic!("{}: {found:?}", store.name) };
        assert_eq!(found.payload, written.payload, "{}", store.name);
        for (vector, wanted) in &written.vectors {
            let stored = &found.vectors[vector];
            assert!(stored.is_near(wanted, 1e-5), "{} {vector}: {stored:?}", store.name);
        }
        let Vector::Dense(text) = &found.vectors["text"] else { panic!("dense") };
        assert!((text[0] - 0.6).abs() < 1e-5, "{}: {text:?}", store.name);
        let bare = store.store.retrieve(&name, &[id(1)], With::ID).await.unwrap();
        assert!(bare[0].payload.is_empty() && bare[0].vectors.is_empty(), "{}", store.name);
        store.store.remove(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_replaced_whole_and_the_vectors_stay_while_an_upsert_replaces_both() {
    for store in stores::all().await {
        let name = collection(&store).await;
        let first = point(1, [1.0, 0.0, 0.0, 0.0], json!({ "kind": "a", "year": 1 }));
        store.store.upsert(&name, vec![first]).await.unwrap();
        let payload = json!({ "kind": "b" }).as_object().unwrap().clone();
        store.store.set_payloads(&name, vec![(id(1), payload.clone())]).await.unwrap();
        let found = store.store.retrieve(&name, &[id(1)], With::ALL).await.unwrap().remove(0);
        assert_eq!((found.payload, found.vectors.len()), (payload, 3), "{}", store.name);

        let mut second = point(1, [0.0, 1.0, 0.0, 0.0], json!({ "kind": "c" }));
        second.vectors.remove("image");
        store.store.upsert(&name, vec![second]).await.unwrap();
        let found = store.store.retrieve(&name, &[id(1)], With::ALL).await.unwrap().remove(0);
        assert!(!found.vectors.contains_key("image"), "{}", store.name);
        assert_eq!(found.payload["kind"], "c", "{}", store.name);
        assert_eq!(store.store.count(&name, &Filter::default()).await.unwrap(), 1);
        store.store.remove(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_in_the_order_of_ids_and_filters_count_and_search_exactly() {
    for store in stores::all().await {
        let name = collection(&store).await;
        let points = (1..=50_u8).map(|n| {
            let x = f32::from(n) / 50.0;
            let kind = if n % 2 == 0 { "even" } else { "odd" };
            let payload = json!({ "kind": kind, "tags": [kind, "all"], "year": n, "nsfw": n > 40 });
            point(u128::from(n) << 100, [1.0, x, 0.0, 0.0], payload)
        });
        store.store.upsert(&name, points.collect()).await.unwrap();
        let (mut seen, mut from) = (Vec::new(), None);
        loop {
            let page = store
                .store
                .scroll(&name, &Filter::default(), from, 7, With::PAYLOAD)
                .await
                .unwrap();
            assert!(page.points.len() <= 7, "{}", store.name);
            seen.extend(page.points.iter().map(|point| point.id));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 50, "{}", store.name);
        assert!(seen.is_sorted(), "{}", store.name);

        let count = |filter: Filter| {
            let (store, name) = (&store.store, &name);
            async move { store.count(name, &filter).await.unwrap() }
        };
        assert_eq!(count(Filter::is("kind", "even")).await, 25, "{}", store.name);
        assert_eq!(count(Filter::is("tags", "all")).await, 50, "{}", store.name);
        assert_eq!(count(Filter::is("year", 7)).await, 1, "{}", store.name);
        assert_eq!(count(Filter::is("nsfw", true)).await, 10, "{}", store.name);
        let either = Condition::AnyOf("kind".into(), vec!["even".into(), "none".into()]);
        let both = Filter(vec![either, Condition::Is("nsfw".into(), true.into())]);
        assert_eq!(count(both.clone()).await, 5, "{}", store.name);

        let query = Vector::Dense(vec![1.0, 1.0, 0.0, 0.0]);
        let found = store.store.search(&name, "text", query, &both, 3).await.unwrap();
        let years: Vec<_> = found.iter().map(|one| one.payload["year"].as_i64().unwrap()).collect();
        assert_eq!(years, [50, 48, 46], "{}", store.name);
        assert!((found[0].score - 1.0).abs() < 1e-4, "{}", store.name);

        store.store.delete(&name, &[seen[0], seen[1], id(1)]).await.unwrap();
        assert_eq!(count(Filter::default()).await, 48, "{}", store.name);
        store.store.remove(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_read_back_and_what_it_lacks_in_indexes_is_made() {
    for store in stores::all().await {
        let name = format!("conformance-{}", Uuid::new_v4().simple());
        let bare = Schema { indexes: std::collections::BTreeMap::new(), ..schema() };
        assert_eq!(store.store.schema(&name).await.unwrap(), None, "{}", store.name);
        store.store.create(&name, &bare).await.unwrap();
        assert_eq!(store.store.schema(&name).await.unwrap(), Some(bare), "{}", store.name);
        for _ in 0..2 {
            store.store.ensure_indexes(&name, &schema()).await.unwrap();
            assert_eq!(store.store.schema(&name).await.unwrap(), Some(schema()), "{}", store.name);
        }
        let again = store.store.create(&name, &schema()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::StoreFailed, "{}: {again}", store.name);
        assert!(store.store.collections().await.unwrap().contains(&name), "{}", store.name);
        store.store.remove(&name).await.unwrap();
        store.store.remove(&name).await.unwrap();
        assert_eq!(store.store.schema(&name).await.unwrap(), None, "{}", store.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collection_cannot_hold_is_refused_and_leaves_the_rest_alone() {
    for store in stores::all().await {
        let name = collection(&store).await;
        let good = point(1, [1.0, 0.0, 0.0, 0.0], json!({ "kind": "a" }));
        store.store.upsert(&name, vec![good]).await.unwrap();
        let mut short = point(2, [1.0; 4], json!({}));
        short.vectors.insert("text".to_owned(), Vector::Dense(vec![1.0]));
        let mut unknown = point(3, [1.0; 4], json!({}));
        unknown.vectors.insert("nobody's".to_owned(), Vector::Dense(vec![1.0]));
        for bad in [short, unknown] {
            let error = store.store.upsert(&name, vec![bad]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreFailed, "{}: {error}", store.name);
        }
        let error = store.store.count("no-such-collection", &Filter::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreFailed, "{}: {error}", store.name);
        assert_eq!(store.store.count(&name, &Filter::default()).await.unwrap(), 1);
        store.store.remove(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_in_one_step_and_everything_can_be_asked_through_it() {
    for store in stores::all().await {
        let (one, two) = (collection(&store).await, collection(&store).await);
        let first = point(1, [1.0, 0.0, 0.0, 0.0], json!({ "kind": "a" }));
        store.store.upsert(&one, vec![first]).await.unwrap();
        let alias = format!("conformance-alias-{}", Uuid::new_v4().simple());
        let alias = alias.as_str();
        store.store.remove_alias(alias).await.unwrap();
        assert_eq!(store.store.alias(alias).await.unwrap(), None, "{}", store.name);
        store.store.set_alias(alias, &one).await.unwrap();
        assert_eq!(store.store.alias(alias).await.unwrap(), Some(one.clone()), "{}", store.name);
        assert_eq!(store.store.aliases().await.unwrap()[alias], one, "{}", store.name);
        assert_eq!(store.store.count(alias, &Filter::default()).await.unwrap(), 1);
        assert_eq!(store.store.schema(alias).await.unwrap(), Some(schema()), "{}", store.name);
        store.store.set_alias(alias, &two).await.unwrap();
        assert_eq!(store.store.count(alias, &Filter::default()).await.unwrap(), 0);
        let lost = store.store.set_alias(alias, "no-such-collection").await;
        assert!(lost.is_err(), "{}", store.name);
        let taken = store.store.set_alias(&one, &two).await;
        assert!(taken.is_err(), "{}", store.name);
        store.store.remove_alias(alias).await.unwrap();
        store.store.remove(&one).await.unwrap();
        store.store.remove(&two).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_keeps_what_was_written_and_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    store.create("c", &schema()).await.unwrap();
    let points = (1..=9).map(|n| point(n, [1.0, 0.0, 0.0, 0.0], json!({ "year": 1 })));
    store.upsert("c", points.collect()).await.unwrap();
    store.set_alias("a", "c").await.unwrap();
    let second = Embedded::open(folder.path()).err().unwrap();
    assert_eq!(second.kind(), ErrorKind::Busy);
    assert!(second.detail().contains(&std::process::id().to_string()), "{second}");
    store.flush("a").await.unwrap();
    drop(store);
    // Half made by a killed process.
    let half = folder.path().join("qdrant/collections/.making-x");
    std::fs::create_dir(&half).unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    assert!(!half.exists());
    assert_eq!(store.count("a", &Filter::is("year", 1)).await.unwrap(), 9);
    assert_eq!(store.schema("a").await.unwrap(), Some(schema()));
    for name in ["", ".x", "a/b", "..", "a b"] {
        assert_eq!(store.create(name, &schema()).await.unwrap_err().kind(), ErrorKind::Usage);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_denied_at_once_and_never_shown() {
    let store = stores::front().await;
    let url = store.front.as_ref().unwrap().url.clone();
    let server = QdrantServer { api_key: Some("hunter2".to_owned()), ..QdrantServer::new(url) };
    assert!(!format!("{server:?}").contains("hunter2"));
    let error = Server::new(&server).unwrap().schema("c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreDenied);
    assert!(!format!("{error:?}").contains("hunter2"));
    let requests = &store.front.as_ref().unwrap().state.requests;
    assert_eq!(requests.load(std::sync::atomic::Ordering::SeqCst), 1);
}
