//! Whatever is asked ends, says what it left out, and is never text in a statement.

use serde_json::Value;
use sqlx::Executor as _;
use toolkit::ErrorKind;
use toolkit::graph::{Caps, KHop, PathQuery, compare, k_hop, neighbors, path, stubs};

use super::scene::{self, Edges, id};
use crate::support::world::World;
use crate::support::{stderr, stdout};

/// Anime 1 with a hub's edges: characters 100 and on; anime 2 knows two of them.
async fn hub(edges: usize) -> (World, sqlx::PgConnection) {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let mut all = Edges::default();
    (0..edges).for_each(|number| all.join(1, 100 + number, ("features", "appears_in")));
    (0..2).for_each(|number| all.join(2, 100 + number, ("features", "appears_in")));
    all.load(&mut connection).await;
    (world, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_beyond_the_caps_is_clamped_and_said() {
    let (_world, mut connection) = hub(60).await;
    let caps = Caps { hops: 99, results: u32::MAX, fanout_per_hop: 0 };
    let query = KHop { caps, ..KHop::new(id(1)) };
    let answer = k_hop(&mut connection, &query).await.unwrap();
    let clamped: Vec<(&str, u32, u32)> =
        answer.meta.clamped.iter().map(|one| (one.name, one.asked, one.used)).collect();
    assert_eq!(
        clamped,
        [("max_hops", 99, 5), ("max_results", u32::MAX, 50), ("max_fanout_per_hop", 0, 1)]
    );
    assert_eq!(answer.meta.caps_hit, ["max_fanout_per_hop"]);
    let answer = neighbors(&mut connection, id(1), &[], 1_000).await.unwrap();
    assert_eq!((answer.count, answer.meta.truncated), (50, true));
    let query = PathQuery { hops_max: 77, ..PathQuery::new(id(1), id(2)) };
    let answer = path(&mut connection, &query).await.unwrap();
    assert_eq!((answer.meta.clamped[0].used, answer.meta.hops_used, answer.count), (5, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_type_outside_the_vocabulary_is_refused_with_what_is_allowed() {
    let (world, mut connection) = hub(3).await;
    for wrong in ["KNOWS", "SEQUEL'; DROP TABLE graph_edge; --", ""] {
        let types = [wrong.to_owned()];
        let refused = neighbors(&mut connection, id(1), &types, 5).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{wrong}");
        let advice = refused.advice_text().unwrap();
        for name in ["SEQUEL", "SPIN_OFF_OF", "same_studio", "co_appears", "was_adapted_to"] {
            assert!(advice.contains(name), "{advice}");
        }
    }
    let start = id(1).to_string();
    let done = world.run(&["graph", "k-hop", &start, "--edge-types", "SEQUEL,KNOWS"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(stderr(&done).contains("allowed are"), "{}", stderr(&done));
    assert_eq!(world.text("SELECT count(*)::text FROM graph_edge").await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_edges_is_an_empty_success_and_an_unknown_one_an_error() {
    let (world, mut connection) = hub(3).await;
    world
        .sql(&format!(
            "INSERT INTO anime (id, title, type, status) VALUES ('{}', 'alone', 'TV', 'FINISHED')",
            id(7)
        ))
        .await;
    assert_eq!(k_hop(&mut connection, &KHop::new(id(7))).await.unwrap().count, 0);
    let apart = path(&mut connection, &PathQuery::new(id(7), id(1))).await.unwrap();
    assert_eq!((apart.count, apart.meta.truncated), (0, false));
    let unknown = k_hop(&mut connection, &KHop::new(id(8))).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Usage);
    assert!(unknown.detail().contains(&id(8).to_string()));
    let (known, gone) = (id(7).to_string(), id(8).to_string());
    assert_eq!(world.run(&["graph", "neighbors", &known]).status.code(), Some(0));
    assert_eq!(world.run(&["graph", "neighbors", &gone]).status.code(), Some(2));
    assert_eq!(world.run(&["graph", "neighbors", "no-id"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_ended_by_the_server_and_is_an_error_of_its_own() {
    let (world, mut connection) = hub(3).await;
    let mut other = world.postgres.dedicated().await.unwrap();
    other.execute("BEGIN; LOCK TABLE graph_edge IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let late = k_hop(&mut connection, &KHop::new(id(1))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    other.execute("ROLLBACK").await.unwrap();
    // The connection is as good as before, and nothing of the call stays set.
    assert_eq!(k_hop(&mut connection, &KHop::new(id(1))).await.unwrap().count, 4);
    let timeout: String =
        sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut connection).await.unwrap();
    assert_eq!(timeout, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_whose_budget_ends_says_so_and_claims_nothing() {
    let (_world, mut connection) = hub(200).await;
    let query = PathQuery { visited_edges_max: 1, ..PathQuery::new(id(150), id(299)) };
    let answer = path(&mut connection, &query).await.unwrap();
    assert!(answer.meta.truncated && answer.meta.caps_hit.contains(&"max_visited_edges"));
    let query = PathQuery { visited_edges_max: 2, ..PathQuery::new(id(150), id(299)) };
    let answer = path(&mut connection, &query).await.unwrap();
    // Each end has one edge, and they meet in the hub.
    assert_eq!((answer.count, answer.meta.hops_used, answer.meta.truncated), (1, 2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_are_joined_without_reading_the_edges_of_either() {
    let world = super::scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let mut edges = super::scene::Edges::default();
    for leaf in 0..300 {
        edges.join(1, 1_000 + leaf, ("SEQUEL", "PREQUEL"));
        edges.join(2, 2_000 + leaf, ("SEQUEL", "PREQUEL"));
    }
    edges.join(1, 2, ("SIDE_STORY", "PARENT_STORY"));
    edges.load(&mut connection).await;
    for (start, end, hops) in [(1, 2, 1), (1_250, 2, 2), (1, 2_250, 2), (1_250, 2_250, 3)] {
        let query = PathQuery { visited_edges_max: 200, ..PathQuery::new(id(start), id(end)) };
        let answer = path(&mut connection, &query).await.unwrap();
        assert_eq!((answer.count, answer.meta.hops_used), (1, hops), "{answer:?}");
        assert!(!answer.meta.truncated, "{answer:?}");
        assert!(answer.paths[0].rels.iter().any(|rel| rel.edge_type == "SIDE_STORY"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_of_two_types_are_not_compared_and_those_of_one_say_how_they_differ() {
    let (world, mut connection) = hub(60).await;
    let refused = compare(&mut connection, id(1), id(100), 50).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    for (number, title) in [(1, "One"), (2, "Two \"x\"")] {
        world
            .sql(&format!(
                "INSERT INTO anime (id, title, type, status, year) \
                 VALUES ('{}', '{title}', 'TV', 'FINISHED', 199{number})",
                id(number)
            ))
            .await;
    }
    let found = compare(&mut connection, id(1), id(2), 50).await.unwrap();
    let fields: Vec<&str> = found.differences.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["year", "title"]);
    assert_eq!((found.count, found.meta.truncated), (2, false));
    assert!(found.summary.contains("share 2 connections (2 features)"), "{}", found.summary);
    let cut = compare(&mut connection, id(1), id(2), 1).await.unwrap();
    assert_eq!((cut.count, cut.meta.truncated), (1, true));
    let dot = world.run(&["graph", "compare", &id(1).to_string(), &id(2).to_string(), "--dot"]);
    let dot = stdout(&dot);
    assert!(dot.starts_with("digraph toolkit {") && dot.contains("Two \\\"x\\\"\\nanime"), "{dot}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_has_the_shape_that_callers_rely_on() {
    let (world, _connection) = hub(3).await;
    let (start, end) = (id(1).to_string(), id(2).to_string());
    for arguments in [
        vec!["neighbors", &start],
        vec!["k-hop", &start, "--max-hops", "9"],
        vec!["path", &start, &end],
        vec!["compare", &start, &end],
    ] {
        let mut all = vec!["--format", "json", "graph"];
        all.extend(&arguments);
        let done = world.run(&all);
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        let keys: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys[..5], ["summary", "node_ids", "paths", "count", "meta"]);
        assert!(answer["node_ids"][0]["entity_type"].is_string());
        assert!(answer["node_ids"][0]["id"].is_string());
        assert!(answer["paths"][0]["nodes"][0]["id"].is_string());
        assert!(answer["paths"][0]["rels"][0]["edge_type"].is_string());
        for key in ["hops_used", "caps_hit", "clamped", "elapsed_ms", "truncated"] {
            assert!(!answer["meta"][key].is_null(), "{key}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_whose_target_is_not_stored_are_stubs_and_are_not_followed() {
    let world = scene::world().await;
    world
        .sql(&format!(
            "INSERT INTO anime (id, title, type, status) VALUES ('{0}', 'a', 'TV', 'FINISHED');
             INSERT INTO anime_relation (from_anime_id, relation_type, to_title, to_urls, \
                 to_ref_source, to_ref_external_id) \
                 VALUES ('{0}', 'SEQUEL', 'Second', ARRAY['https://x.example/2'], 'mal', '2');
             INSERT INTO anime_manga_relation (anime_id, relation_type, manga_title) \
                 VALUES ('{0}', 'ADAPTATION', 'Book')",
            id(1)
        ))
        .await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    assert_eq!(k_hop(&mut connection, &KHop::new(id(1))).await.unwrap().count, 0);
    let found = stubs(&mut connection, id(1), &[], 50).await.unwrap();
    let titles: Vec<(&str, &str)> = found
        .iter()
        .map(|stub| (stub.edge_type.as_str(), stub.title.as_deref().unwrap()))
        .collect();
    assert_eq!(titles, [("SEQUEL", "Second"), ("adapted_from", "Book")]);
    let only = stubs(&mut connection, id(1), &["sequel".to_owned()], 50).await.unwrap();
    assert_eq!(only[0].urls, ["https://x.example/2"]);
    let shown = stdout(&world.run(&["graph", "neighbors", &id(1).to_string(), "--stubs"]));
    assert!(shown.contains("Second") && shown.contains("https://x.example/2"), "{shown}");
}
