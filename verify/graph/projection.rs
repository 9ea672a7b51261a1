//! `graph_edge` is what the junction tables say, and drift is found and mended in both directions.

use toolkit::ErrorKind;
use toolkit::graph::reconcile::{rebuild, reconcile};
use toolkit::graph::{KHop, k_hop, neighbors};

use super::scene::{self, id};
use crate::support::world::World;

/// Anime 1 and 2, characters 3 and 4, company 5, manga 6, an episode 7 of anime 1.
async fn world() -> World {
    let world = scene::world().await;
    let mut statements = "INSERT INTO anime (id, title, type, status) VALUES
                 ('#1', 'one', 'TV', 'FINISHED'), ('#2', 'two', 'TV', 'FINISHED');
             INSERT INTO character (id, name) VALUES ('#3', 'three'), ('#4', 'four');
             INSERT INTO company (id, name) VALUES ('#5', 'five');
             INSERT INTO manga (id, title) VALUES ('#6', 'six');
             INSERT INTO episode (id, anime_id, episode_number, title) VALUES
                 ('#7', '#1', 1, 'seven');
             INSERT INTO anime_relation (from_anime_id, relation_type, to_anime_id) VALUES
                 ('#1', 'SEQUEL', '#2');
             INSERT INTO anime_manga_relation (anime_id, relation_type, manga_id) VALUES
                 ('#1', 'ADAPTATION', '#6');
             INSERT INTO anime_company (anime_id, company_id, role) VALUES
                 ('#1', '#5', 'studio'), ('#1', '#5', 'producer'), ('#2', '#5', 'studio');
             INSERT INTO anime_character (anime_id, character_id) VALUES
                 ('#1', '#3'), ('#2', '#3'), ('#2', '#4')"
        .to_owned();
    for number in 1..8 {
        statements = statements.replace(&format!("#{number}"), &id(number).to_string());
    }
    world.sql(&statements).await;
    world
}

async fn drift(world: &World) -> Vec<(String, String, i64)> {
    let mut connection = world.postgres.dedicated().await.unwrap();
    let found = reconcile(&mut connection, false).await.unwrap();
    found.drift.into_iter().map(|one| (one.drift, one.edge_type, one.edges)).collect()
}

async fn reached(world: &World, start: usize, types: &[&str]) -> Vec<usize> {
    let mut connection = world.postgres.dedicated().await.unwrap();
    let types: Vec<String> = types.iter().map(|name| (*name).to_owned()).collect();
    let answer = neighbors(&mut connection, id(start), &types, 50).await.unwrap();
    let number = |node: &toolkit::graph::Node| (0..9).find(|n| id(*n) == node.id).unwrap();
    let mut numbers: Vec<usize> = answer.node_ids.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn each_junction_row_is_an_edge_there_and_one_back_under_the_documented_names() {
    let world = world().await;
    for (start, edge_type, wanted) in [
        (1, "SEQUEL", vec![2]),
        (2, "PREQUEL", vec![1]),
        (1, "adapted_from", vec![6]),
        (6, "was_adapted_to", vec![1]),
        (1, "features", vec![3]),
        (3, "appears_in", vec![1, 2]),
        (1, "studio", vec![5]),
        (5, "produced", vec![1, 2]),
        (1, "has_episode", vec![7]),
        (7, "episode_of", vec![1]),
        (1, "same_studio", vec![2]),
        (3, "co_appears", vec![4]),
    ] {
        assert_eq!(reached(&world, start, &[edge_type]).await, wanted, "{start} {edge_type}");
    }
    // A company that is studio and producer stays connected when it is one of them no longer.
    world.sql("DELETE FROM anime_company WHERE role = 'studio'").await;
    assert_eq!(reached(&world, 5, &["produced"]).await, [1]);
    assert_eq!(reached(&world, 1, &["same_studio"]).await, Vec::<usize>::new());
    for statement in [
        "UPDATE episode SET title = 'x'",
        "UPDATE episode SET anime_id = (SELECT id FROM anime WHERE title = 'two')",
        "UPDATE anime SET id = gen_random_uuid() WHERE title = 'one'",
        "TRUNCATE anime_relation",
        "DELETE FROM episode",
        "DELETE FROM anime",
    ] {
        world.sql(statement).await;
        assert_eq!(drift(&world).await, [], "{statement}");
    }
    assert_eq!(world.text("SELECT count(*)::text FROM graph_edge").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_found_and_mended_in_both_directions() {
    let world = world().await;
    assert_eq!(drift(&world).await, []);
    world
        .sql(&format!(
            "DELETE FROM graph_edge WHERE edge_type = 'SEQUEL';
             INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type)
                 VALUES ('{}', 'anime', '{}', 'anime', 'OTHER');
             UPDATE graph_edge SET to_type = 'character' WHERE edge_type = 'has_episode'",
            id(2),
            id(1)
        ))
        .await;
    let planted = [
        ("extra".to_owned(), "OTHER".to_owned(), 1),
        ("extra".to_owned(), "has_episode".to_owned(), 1),
        ("missing".to_owned(), "SEQUEL".to_owned(), 1),
        ("missing".to_owned(), "has_episode".to_owned(), 1),
    ];
    let mut found = drift(&world).await;
    found.sort();
    assert_eq!(found, planted);
    assert_eq!(world.run(&["graph", "reconcile"]).status.code(), Some(1));
    assert_eq!(world.run(&["graph", "reconcile", "--repair"]).status.code(), Some(0));
    assert_eq!(world.run(&["graph", "reconcile"]).status.code(), Some(0));
    assert_eq!(drift(&world).await, []);
    let edges = world.text("SELECT count(*)::text FROM graph_edge").await;
    world.sql("DELETE FROM graph_edge WHERE edge_type LIKE '%a%'").await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let (_, after) = rebuild(&mut connection).await.unwrap();
    assert_eq!(after.to_string(), edges);
    assert_eq!(drift(&world).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_character_answers_as_the_one_it_was_merged_into_and_comes_back() {
    let world = world().await;
    let (three, four) = (id(3), id(4));
    let redirect =
        format!("INSERT INTO character_redirect (from_id, to_id) VALUES ('{three}', '{four}')");
    world.sql(&redirect).await;
    assert_eq!(drift(&world).await, []);
    assert_eq!(reached(&world, 1, &["features"]).await, [4]);
    assert_eq!(reached(&world, 4, &["appears_in"]).await, [1, 2]);
    // Asked for the old id, too; and anime 2, which had both, has one.
    assert_eq!(reached(&world, 3, &["appears_in"]).await, [1, 2]);
    assert_eq!(reached(&world, 2, &["features"]).await, [4]);
    // A junction row of the old id that comes later goes to the same place.
    world
        .sql(&format!(
            "DELETE FROM anime_character WHERE anime_id = '{0}';
             INSERT INTO anime_character (anime_id, character_id) VALUES ('{0}', '{three}')",
            id(1)
        ))
        .await;
    assert_eq!(reached(&world, 1, &["features"]).await, [4]);
    // One of two that became the same edge can go.
    world.sql(&format!("DELETE FROM anime_character WHERE character_id = '{four}'")).await;
    assert_eq!(reached(&world, 2, &["features"]).await, [4]);
    assert_eq!(drift(&world).await, []);
    world
        .sql(&format!(
            "INSERT INTO character (id, name) VALUES ('{0}', 'eight');
             INSERT INTO character_redirect (from_id, to_id) VALUES ('{four}', '{0}')",
            id(8)
        ))
        .await;
    assert_eq!(reached(&world, 1, &["features"]).await, [8]);
    assert_eq!(drift(&world).await, []);
    world
        .sql(&format!(
            "UPDATE character_redirect SET to_id = '{}' WHERE from_id = '{three}'",
            id(8)
        ))
        .await;
    assert_eq!(drift(&world).await, []);
    world.sql("DELETE FROM character_redirect").await;
    assert_eq!(reached(&world, 1, &["features"]).await, [3]);
    assert_eq!(drift(&world).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_pack_is_said_to_be_without_it() {
    let world = World::builtin("webtoon", std::path::Path::new("nowhere")).await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let refused = k_hop(&mut connection, &KHop::new(id(1))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Migration);
    assert!(refused.advice_text().unwrap().contains("migrate up --pack anime"));
}
