//! Outbox rows and edges are there because the schema writes them, whoever changes the rows.

use serde_json::json;
use toolkit::demo::generate::anime::enriched_artifact;

use super::world::{World, entry};

const PENDING: &str = "SELECT entity_type || ' ' || op || ' ' || right(entity_id::text, 2) \
                       FROM qdrant_outbox WHERE id > coalesce(current_setting('own.seen', true), '0')::bigint \
                       ORDER BY id";

async fn since(world: &World, before: &str) -> Vec<String> {
    world
        .texts(&PENDING.replace("coalesce(current_setting('own.seen', true), '0')::bigint", before))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_an_entity_the_outbox_learns_it_with_a_rising_version() {
    let world = World::new().await;
    let people = json!([{ "id": "11111111-0000-4000-8000-000000000011", "name": "A" }]);
    let episodes = json!([{ "id": "22222222-0000-4000-8000-000000000022", "episode_number": 1, "title": "x" }]);
    world.say("", &[entry(1, json!({ "characters": people, "episodes": episodes }))]).await;
    assert_eq!(
        since(&world, "0").await,
        ["anime upsert 01", "character upsert 11", "episode upsert 22"]
    );
    let last = "SELECT max(id)::text FROM qdrant_outbox";
    let mut seen = world.text(last).await;
    for (statement, wanted) in [
        ("UPDATE anime SET title = 'x'", vec!["anime upsert 01"]),
        // Nothing changes: nothing is queued.
        ("UPDATE anime SET title = 'x'", vec![]),
        ("UPDATE episode SET title = 'y'", vec!["episode upsert 22"]),
        ("INSERT INTO character_alias SELECT id, 'B' FROM character", vec!["character upsert 11"]),
        ("DELETE FROM anime_character", vec!["character upsert 11"]),
        (
            "INSERT INTO character (id, name) VALUES ('11111111-0000-4000-8000-000000000033', 'C'); \
             INSERT INTO character_redirect (from_id, to_id) SELECT '11111111-0000-4000-8000-000000000033', id \
             FROM character WHERE name = 'A'",
            vec!["character upsert 33", "character delete 33", "character upsert 11"],
        ),
        ("DELETE FROM character_redirect", vec!["character upsert 11", "character upsert 33"]),
        ("DELETE FROM anime", vec!["anime delete 01", "episode delete 22"]),
    ] {
        world.sql(statement).await;
        let mut found = since(&world, &seen).await;
        found.sort();
        let mut wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
        wanted.sort();
        assert_eq!(found, wanted, "{statement}");
        seen = world.text(last).await;
    }
    let falling = "SELECT count(*)::text FROM (SELECT version, lag(version) OVER \
                   (PARTITION BY entity_type, entity_id ORDER BY id) AS before FROM qdrant_outbox) v \
                   WHERE before >= version";
    assert_eq!(world.text(falling).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_are_those_of_the_junction_tables_in_both_directions_whatever_happens() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 2, 40).unwrap();
    world.ingest(&path).await;
    let differences = "SELECT (SELECT count(*) FROM (SELECT * FROM graph_edge_expected EXCEPT ALL \
         SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge) a) || ' ' || \
         (SELECT count(*) FROM (SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM \
         graph_edge EXCEPT ALL SELECT * FROM graph_edge_expected) b)";
    assert_eq!(world.text(differences).await, "0 0");
    assert_ne!(world.text("SELECT count(*)::text FROM graph_edge").await, "0");
    for statement in [
        "UPDATE anime_relation SET relation_type = 'SPIN_OFF' WHERE relation_type = 'SEQUEL'",
        "DELETE FROM anime_company WHERE role = 'studio'",
        "DELETE FROM anime WHERE id IN (SELECT id FROM anime ORDER BY id LIMIT 5)",
        "UPDATE anime_relation SET to_anime_id = NULL",
    ] {
        world.sql(statement).await;
        assert_eq!(world.text(differences).await, "0 0", "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequel_and_its_prequel_give_one_edge_each_and_one_can_go_without_the_other() {
    let world = World::new().await;
    let to = |n: u32, relation: &str| {
        json!({ "related_anime": [{ "title": "x", "relation_type": relation,
                                    "url": format!("https://myanimelist.net/anime/{n}") }] })
    };
    world.say("", &[entry(1, to(2, "SEQUEL")), entry(2, to(1, "PREQUEL"))]).await;
    let edges = "SELECT DISTINCT right(from_id::text, 1) || ' ' || edge_type || ' ' || right(to_id::text, 1) \
                 FROM graph_edge ORDER BY 1";
    assert_eq!(world.texts(edges).await, ["1 SEQUEL 2", "2 PREQUEL 1"]);
    assert_eq!(world.text("SELECT count(*)::text FROM graph_edge").await, "4");
    world.sql("DELETE FROM anime_relation WHERE relation_type = 'PREQUEL'").await;
    assert_eq!(world.texts(edges).await, ["1 SEQUEL 2", "2 PREQUEL 1"]);
    world.sql("DELETE FROM anime_relation").await;
    assert!(world.texts(edges).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_traversal_reads_the_index_alone() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 2, 60).unwrap();
    world.ingest(&path).await;
    world.sql("VACUUM ANALYZE graph_edge").await;
    let plan = world
        .texts(
            "EXPLAIN SELECT to_id, to_type, edge_type FROM graph_edge \
             WHERE from_id = '00000000-0000-4000-8000-000000000001' AND edge_type = 'SEQUEL'",
        )
        .await;
    assert!(plan.join("\n").contains("Index Only Scan using graph_edge_pkey"), "{plan:?}");
}
