use serde_json::json;

use super::world::{World, entry};
use crate::support::{stderr, stdout};

fn to(title: &str, relation: &str, urls: &[&str]) -> serde_json::Value {
    json!({ relation: [{ "title": title, "url": urls }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_finds_a_target_that_is_stored_later_and_running_again_changes_nothing() {
    let world = World::new().await;
    world
        .say("", &[entry(1, json!({ "related_anime": to("Two", "SEQUEL", &["https://myanimelist.net/anime/2"]) }))])
        .await;
    assert_eq!(world.text("SELECT to_anime_id::text FROM anime_relation").await, "NULL");
    let report = world.say("", &[entry(2, json!({}))]).await;
    assert_eq!(report.resolution.unwrap().tables["anime_relation"].resolved, 1);
    assert!(world.text("SELECT to_anime_id::text FROM anime_relation").await.ends_with("02"));
    let edges = "SELECT right(from_id::text, 1) || ' ' || edge_type || ' ' || right(to_id::text, 1) \
                 FROM graph_edge ORDER BY 1";
    assert_eq!(world.texts(edges).await, ["1 SEQUEL 2", "2 PREQUEL 1"]);
    let content = world.content().await;
    let again = world.run(&["resolve"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(world.content().await, content);
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_that_turn_out_to_be_one_are_united_with_all_their_urls() {
    let world = World::new().await;
    let related = json!([
        { "title": "Two", "relation_type": "SEQUEL", "url": "https://myanimelist.net/anime/2" },
        { "title": "Second", "relation_type": "SEQUEL", "url": "https://anilist.co/anime/22" },
        { "title": "Zwei", "relation_type": "sequel", "url": "https://anidb.net/a222" },
    ]);
    world.say("", &[entry(1, json!({ "related_anime": related }))]).await;
    assert_eq!(world.text("SELECT count(*)::text FROM anime_relation").await, "3");
    let sources = json!([
        "https://myanimelist.net/anime/2",
        "https://anilist.co/anime/22",
        "https://anidb.net/anime/222"
    ]);
    // A dry run says so and leaves all as it was.
    let path = world.artifact("two.json", "", &[entry(2, json!({ "sources": sources }))]);
    let options = toolkit::anime::ingest::Options { resolves: false, ..Default::default() };
    world.try_ingest(&path, options).await.unwrap();
    let dry = world.run(&["--format", "json", "resolve", "--dry-run"]);
    assert!(stdout(&dry).contains("\"merged\": 2"), "{}", stdout(&dry));
    assert_eq!(world.text("SELECT count(*)::text FROM anime_relation").await, "3");
    world.run(&["resolve"]);
    let edges = "SELECT to_title || ' ' || to_urls::text || ' ' || (meta -> 'also')::text FROM anime_relation";
    assert_eq!(
        world.texts(edges).await,
        [
            r#"Two {https://myanimelist.net/anime/2,https://anilist.co/anime/22,https://anidb.net/a222} [{"title": "Second"}, {"title": "Zwei", "relation_type": "sequel"}]"#
        ]
    );
    // The same entry with one word more: its items are known as what they became.
    let related = json!([
        { "title": "Two", "relation_type": "SEQUEL", "url": "https://myanimelist.net/anime/2" },
        { "title": "Second", "relation_type": "SEQUEL", "url": "https://anilist.co/anime/22" },
        { "title": "Zwei", "relation_type": "sequel", "url": "https://anidb.net/a222" },
    ]);
    world.say("", &[entry(1, json!({ "related_anime": related, "rating": "G" }))]).await;
    assert_eq!(world.text("SELECT count(*)::text FROM anime_relation").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anime_does_not_relate_to_itself_and_the_ledger_keeps_the_edge() {
    let world = World::new().await;
    let related = to("Me", "OTHER", &["https://myanimelist.net/anime/1"]);
    let report = world.say("", &[entry(1, json!({ "related_anime": related }))]).await;
    assert_eq!(report.resolution.unwrap().tables["anime_relation"].self_edges, 1);
    assert_eq!(world.text("SELECT count(*)::text FROM anime_relation").await, "0");
    let kept = "SELECT convert_from(original, 'UTF8')::jsonb ->> 'to_title' FROM toolkit.ledger \
                WHERE rule = 'self_relation'";
    assert_eq!(world.text(kept).await, "Me");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_resolves_by_any_of_its_urls_unless_they_lead_to_two() {
    let world = World::new().await;
    let by_second =
        to("Two", "SEQUEL", &["https://myanimelist.net/anime/999", "https://anidb.net/a2"]);
    let torn = to(
        "Torn",
        "OTHER",
        &["https://myanimelist.net/anime/998", "https://anidb.net/a2", "https://anidb.net/a3"],
    );
    let of = |n: u32| entry(n, json!({ "sources": [format!("https://anidb.net/a{n}")] }));
    let report = world
        .say(
            "",
            &[
                entry(1, json!({ "related_anime": by_second })),
                of(2),
                of(3),
                entry(4, json!({ "related_anime": torn })),
            ],
        )
        .await;
    let resolved = &report.resolution.unwrap().tables["anime_relation"];
    assert_eq!((resolved.resolved, resolved.ambiguous), (1, 1));
    assert_eq!(resolved.unresolved["mal"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn manga_and_other_works_are_found_and_an_edge_moves_to_where_its_target_is() {
    let world = World::new().await;
    let relations = json!([
        { "title": "M", "relation_type": "ADAPTATION", "url": "https://myanimelist.net/manga/5" },
        { "title": "N", "relation_type": "ADAPTATION", "url": "https://myanimelist.net/manga/6" },
    ]);
    let report = world
        .say("", &[
            entry(1, json!({ "relations": relations })),
            json!({ "manga": { "title": "M", "sources": ["https://myanimelist.net/manga/5"] } }),
            json!({ "original_work": { "title": "N", "kind": "NOVEL", "sources": ["https://myanimelist.net/manga/6"] } }),
        ])
        .await;
    assert_eq!(report.total.counts.rejects(), 0);
    assert_eq!(report.resolution.unwrap().moved, 1);
    let works = "SELECT work_type || ' ' || title FROM anime_original_work_relation \
                 WHERE work_id IS NOT NULL ORDER BY 1";
    assert_eq!(world.texts(works).await, ["manga M", "original_work N"]);
    let edges = "SELECT from_type || ' ' || edge_type || ' ' || to_type FROM graph_edge ORDER BY 1";
    assert_eq!(
        world.texts(edges).await,
        [
            "anime adapted_from manga",
            "anime adapted_from original_work",
            "manga was_adapted_to anime",
            "original_work was_adapted_to anime",
        ]
    );
}
