//! Snapshots after each other: what is safe is applied, the rest waits, nothing regresses.

use serde_json::{Value, json};
use toolkit::demo::generate::anime::enriched_entry;

use super::world::{World, entry};
use crate::support::{stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn safe_changes_are_applied_and_others_wait_with_before_and_after() {
    let world = World::new().await;
    let before = json!({
        "source_material": "MANGA", "synopsis": "s", "season": "FALL", "year": 2020,
        "episodes": [{ "episode_number": 1, "title": "one" }],
    });
    world.say("2026-01-01", &[entry(1, before)]).await;
    let after = json!({
        "title": "Other", "type": "ONA", "status": "FINISHED", "episode_count": 13, "rating": "G",
        "source_material": "NOVEL", "season": "FALL", "year": 2020,
        "episodes": [{ "episode_number": 2, "title": "two" }],
    });
    let report = world.say("2026-01-02", &[entry(1, after)]).await;
    assert_eq!(report.total.counts.records.updated, 1);
    let anime = "SELECT concat_ws(' ', title, type, status, episode_count, rating, synopsis, \
                 meta ->> 'source_material') FROM anime";
    assert_eq!(world.text(anime).await, "Anime 1 TV FINISHED 13 G s MANGA");
    let episodes = world.texts("SELECT title FROM episode ORDER BY episode_number").await;
    assert_eq!(episodes, ["one", "two"]);
    let queue = "SELECT concat_ws(' ', field, reason, before, after) FROM review_queue \
                 WHERE state = 'open' AND field <> 'episode' ORDER BY field";
    assert_eq!(
        world.texts(queue).await,
        [
            r#"meta.source_material changed "MANGA" "NOVEL""#,
            r#"synopsis vanished "s" null"#,
            r#"title changed "Anime 1" "Other""#,
            r#"type changed "TV" "ONA""#,
        ]
    );
    let gone = "SELECT before #>> '{0,label}' FROM review_queue WHERE field = 'episode'";
    assert_eq!(world.text(gone).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_goes_back_and_a_count_falls_only_by_a_person() {
    let world = World::new().await;
    world.say("", &[entry(1, json!({ "status": "FINISHED" }))]).await;
    world.say("", &[entry(1, json!({ "status": "ONGOING", "episode_count": 3 }))]).await;
    let anime = "SELECT concat_ws(' ', status, episode_count) FROM anime";
    assert_eq!(world.text(anime).await, "FINISHED 12");
    let listed = world.run(&["--format", "json", "review", "list"]);
    let listed: Value = serde_json::from_str(&stdout(&listed)).unwrap();
    assert_eq!(listed["total"], 2);
    assert_eq!(listed["reviews"][0]["label"], "Anime 1");
    let ids: Vec<String> =
        listed["reviews"].as_array().unwrap().iter().map(|r| r["id"].to_string()).collect();
    // A dry run changes nothing; then one is accepted and one rejected.
    let dry = world.run(&["review", "accept", &ids[0], "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_eq!(world.text(anime).await, "FINISHED 12");
    let outbox = world.text("SELECT count(*)::text FROM qdrant_outbox").await;
    let fell =
        listed["reviews"].as_array().unwrap().iter().find(|r| r["reason"] == "fell").unwrap();
    let back =
        listed["reviews"].as_array().unwrap().iter().find(|r| r["reason"] == "went_back").unwrap();
    let done = world.run(&["review", "accept", &fell["id"].to_string(), "--by", "jane"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    world.run(&["review", "reject", &back["id"].to_string()]);
    assert_eq!(world.text(anime).await, "FINISHED 3");
    assert_ne!(world.text("SELECT count(*)::text FROM qdrant_outbox").await, outbox);
    let who = "SELECT decided_by FROM review_queue WHERE state = 'accepted'";
    assert_eq!(world.text(who).await, "jane");
    // What was rejected is not proposed again.
    world
        .say("", &[entry(1, json!({ "status": "ONGOING", "episode_count": 3, "rating": "G" }))])
        .await;
    let open = "SELECT count(*)::text FROM review_queue WHERE state = 'open'";
    assert_eq!(world.text(open).await, "0");
    // What is decided cannot be decided again.
    let twice = world.run(&["review", "accept", &fell["id"].to_string()]);
    assert_eq!(twice.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn accepting_deletes_the_rows_that_vanished_and_leaves_stale_fields_alone() {
    let world = World::new().await;
    let person = |n: u32| json!({ "id": format!("11111111-0000-4000-8000-{n:012}"), "name": format!("P{n}") });
    let full = json!({
        "characters": [person(1), person(2)], "synopsis": "s",
        "episodes": [{ "episode_number": 1, "title": "one" }, { "episode_number": 2, "title": "two" }],
        "related_anime": [{ "title": "T", "relation_type": "SEQUEL", "url": "https://anidb.net/a9" }],
        "sources": ["https://myanimelist.net/anime/1", "https://anidb.net/a1"],
    });
    world.say("", &[entry(1, full)]).await;
    let thin = json!({
        "characters": [person(1)], "episodes": [{ "episode_number": 1, "title": "one" }],
        "related_anime": [],
    });
    world.say("", &[entry(1, thin)]).await;
    let counts = "SELECT concat_ws(' ', (SELECT count(*) FROM anime_character), (SELECT count(*) FROM episode), \
                  (SELECT count(*) FROM anime_relation), (SELECT count(*) FROM anime_xref))";
    assert_eq!(world.text(counts).await, "2 2 1 2");
    world.sql("UPDATE anime SET synopsis = 'by hand'").await;
    let accepted = world.run(&["review", "accept", "--all"]);
    assert_eq!(accepted.status.code(), Some(1), "{}", stdout(&accepted));
    assert!(stdout(&accepted).contains("left open"), "{}", stdout(&accepted));
    assert_eq!(world.text(counts).await, "1 1 0 1");
    assert_eq!(world.text("SELECT synopsis FROM anime").await, "by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_entry_only_fills_in_and_a_known_one_is_old_news() {
    let world = World::new().await;
    let first = entry(1, json!({ "synopsis": "first", "rating": "G" }));
    let second = entry(1, json!({ "synopsis": "second", "rating": "G" }));
    world.say("2026-01-01", std::slice::from_ref(&first)).await;
    world.say("2026-01-02", &[second]).await;
    assert_eq!(world.text("SELECT synopsis FROM anime").await, "second");
    let again = world.say("2026-01-01", std::slice::from_ref(&first)).await;
    assert_eq!(again.total.counts.records.superseded, 1);
    let old = entry(1, json!({ "synopsis": "third", "rating": "G", "background": "b" }));
    world.say("2025-12-31", &[old]).await;
    let anime = "SELECT concat_ws(' ', synopsis, background) FROM anime";
    assert_eq!(world.text(anime).await, "second b");
    // A correction that goes back to what was said before, in a newer artifact, is heard.
    world.say("2026-01-03", &[first]).await;
    assert_eq!(world.text(anime).await, "first b");
}

/// Changes a snapshot as upstream does, and as it should not.
fn mutate(value: &mut Value, seed: u64, counter: &mut u64) {
    match value {
        Value::Object(members) => {
            let keys: Vec<String> = members.keys().cloned().collect();
            for key in keys {
                *counter += 1;
                let roll = counter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed) >> 33;
                let is_fixed = ["id", "sources", "anime", "episode_number", "name", "title"]
                    .contains(&key.as_str());
                let Some(value) = members.get_mut(&key) else { continue };
                match roll % 13 {
                    0 if !is_fixed => drop(members.remove(&key)),
                    1 if !is_fixed => *value = Value::Null,
                    2 if value.is_string() && !is_fixed => *value = json!(format!("new {counter}")),
                    3 if value.is_number() && !is_fixed => *value = json!(*counter % 30),
                    _ => mutate(value, seed, counter),
                }
            }
        }
        Value::Array(items) => {
            *counter += 1;
            if counter.is_multiple_of(7) && !items.is_empty() {
                items.remove(0);
            }
            for item in items.iter_mut() {
                mutate(item, seed, counter);
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_b_over_a_and_a_again_loses_nothing_and_regresses_nothing() {
    for seed in 0..4 {
        let world = World::new().await;
        let a: Vec<Value> = (0..20).map(|at| enriched_entry(seed, at, 20)).collect();
        let mut b = a.clone();
        let mut counter = seed * 1_000;
        for entry in &mut b {
            mutate(entry, seed, &mut counter);
        }
        assert_eq!(world.say("2026-01-01", &a).await.total.counts.rejects(), 0);
        let missing = "SELECT concat_ws(' ', (SELECT count(*) FROM anime), (SELECT count(*) FROM episode), \
            (SELECT count(*) FROM character), (SELECT count(*) FROM anime_character), \
            (SELECT count(*) FROM anime_xref), (SELECT count(*) FROM character_alias), \
            (SELECT count(*) FROM anime WHERE title IS NOT NULL), \
            (SELECT sum(num_nulls(title_english, title_japanese, rating, season, year, \
                duration_seconds, nsfw, nullif(synopsis, ''))) FROM anime), \
            (SELECT sum(num_nulls(synopsis, aired_at, score)) FROM episode))";
        let watched = "SELECT string_agg(concat_ws(' ', id, title, type, meta ->> 'source_material'), E'\\n' \
                       ORDER BY id) FROM anime";
        let (held, flags) = (world.text(missing).await, world.text(watched).await);
        let episodes = "SELECT sum(episode_count)::text FROM anime";
        let episodes_held: i64 = world.text(episodes).await.parse().unwrap();
        let report = world.say("2026-01-02", &b).await;
        assert_eq!(report.total.counts.rejects(), 0, "seed {seed}: {report:#?}");
        // Nothing that was there is gone, and nothing that is watched has flipped.
        let numbers =
            |text: &str| -> Vec<i64> { text.split(' ').map(|n| n.parse().unwrap()).collect() };
        for (at, (was, is)) in
            numbers(&held).iter().zip(numbers(&world.text(missing).await)).enumerate()
        {
            // The last two count NULLs.
            assert!(if at < 7 { is >= *was } else { is <= *was }, "seed {seed}, {at}: {was} {is}");
        }
        assert_eq!(world.text(watched).await, flags, "seed {seed}");
        assert!(world.text(episodes).await.parse::<i64>().unwrap() >= episodes_held);
        // A again: old news.
        let content = world.content().await;
        let again = world.say("2026-01-01", &a).await;
        assert_eq!(again.total.counts.records.updated, 0, "seed {seed}: {again:#?}");
        assert_eq!(world.content().await, content, "seed {seed}");
        // B again: known.
        let b_again = world.say("2026-01-02", &b).await;
        assert_eq!(b_again.total.counts.records.inserted + b_again.total.counts.records.updated, 0);
        assert_eq!(world.content().await, content, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_lost_one_element_and_gained_another_can_be_accepted_as_it_is_now() {
    let world = World::new().await;
    world.say("2026-01-01", &[entry(1, json!({ "tags": ["a", "b"] }))]).await;
    world.say("2026-01-02", &[entry(1, json!({ "tags": ["b", "c"] }))]).await;
    let tags = "SELECT (meta -> 'tags')::text FROM anime";
    assert_eq!(world.text(tags).await, r#"["a", "b", "c"]"#);
    let accepted = world.run(&["review", "accept", "--all"]);
    assert_eq!(accepted.status.code(), Some(0), "{}{}", stdout(&accepted), stderr(&accepted));
    assert_eq!(world.text(tags).await, r#"["b", "c"]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_is_made_again_is_about_what_is_stored_by_then() {
    let world = World::new().await;
    for (day, count) in [(1, 12), (2, 3), (3, 13), (4, 3)] {
        let said = entry(1, json!({ "episode_count": count, "rating": format!("R{day}") }));
        world.say(&format!("2026-01-0{day}"), &[said]).await;
    }
    let count = "SELECT episode_count::text FROM anime";
    assert_eq!(world.text(count).await, "13");
    let accepted = world.run(&["review", "accept", "--all"]);
    assert_eq!(accepted.status.code(), Some(0), "{}{}", stdout(&accepted), stderr(&accepted));
    assert_eq!(world.text(count).await, "3");
}
