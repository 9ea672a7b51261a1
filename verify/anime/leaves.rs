//! Every leaf of an entry is found somewhere in Postgres.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use toolkit::demo::generate::anime::{enriched_entry, offline_entry};
use toolkit::json::Json;

use super::world::World;

/// Texts of all scalars but null, numbers by value, moments by instant.
fn leaves(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Null => {}
        Json::Bool(value) => found.push(value.to_string()),
        // The standard library reads numbers exactly.
        Json::Number(number) => found.push(format!("{:e}", number.parse::<f64>().unwrap())),
        Json::String(_) => found.push(plain(value.as_str().unwrap())),
        Json::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Json::Object(members) => members.iter().for_each(|(_, item)| leaves(item, found)),
    }
}

fn read(text: &str) -> Json {
    toolkit::json::parse(text.as_bytes()).unwrap()
}

/// A column of type timestamptz has one spelling of the instant in UTC.
fn plain(text: &str) -> String {
    match text.strip_suffix('Z') {
        Some(moment) if moment.len() > 18 && moment.as_bytes()[10] == b'T' => {
            format!("{moment}+00:00")
        }
        _ => text.to_owned(),
    }
}

async fn stored(world: &World) -> HashSet<String> {
    let mut found = Vec::new();
    for table in [
        "anime",
        "manga",
        "original_work",
        "episode",
        "character",
        "character_alias",
        "anime_character",
        "anime_relation",
        "anime_manga_relation",
        "anime_work_relation",
        "anime_xref",
        "manga_xref",
        "original_work_xref",
        "company",
        "anime_company",
        "anime_ingestion_state",
    ] {
        for row in world.texts(&format!("SELECT to_jsonb(t)::text FROM {table} t")).await {
            leaves(&read(&row), &mut found);
        }
    }
    found.into_iter().collect()
}

async fn assert_nothing_is_lost(world: &World, entries: &[Value], what: &str) {
    let texts: Vec<String> = entries.iter().map(Value::to_string).collect();
    assert_none_is_lost(world, &texts, what).await;
}

async fn assert_none_is_lost(world: &World, entries: &[String], what: &str) {
    let stored = stored(world).await;
    for entry in entries {
        let mut wanted = Vec::new();
        leaves(&read(entry), &mut wanted);
        let lost: Vec<&String> = wanted.iter().filter(|leaf| !stored.contains(*leaf)).collect();
        assert!(lost.is_empty(), "{what}: lost {lost:?} of {entry}");
    }
}

/// Plants a leaf of its own in every object, and now and then a value of another type.
fn spoil(value: &mut Value, seed: u64, counter: &mut u64) {
    match value {
        Value::Array(items) => {
            if counter.wrapping_mul(seed | 1) % 11 == 3 && !items.is_empty() {
                items.push(json!(format!("odd-{counter}")));
            }
            for item in items.iter_mut() {
                spoil(item, seed, counter);
            }
        }
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                *counter += 1;
                let roll = counter.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) % 41;
                let is_fixed =
                    ["id", "title", "sources", "anime", "manga", "data"].contains(&key.as_str());
                match (roll, &value) {
                    (0, Value::String(_)) if !is_fixed => *value = json!(1_000_000 + *counter),
                    (1, Value::Number(_)) => *value = json!(format!("text-{counter}")),
                    (2, Value::Number(_)) => *value = json!(9_000_000_000_u64 + *counter),
                    (3, Value::String(_)) if !is_fixed => {
                        *value = json!({ "inner": format!("in-{counter}") });
                    }
                    (4, Value::Bool(_)) => *value = json!("yes"),
                    (5, Value::Number(_)) => *value = json!(0.5 + *counter as f64),
                    _ => spoil(value, seed, counter),
                }
            }
            *counter += 1;
            members.insert(format!("planted_{counter}"), json!(format!("leaf-{seed}-{counter}")));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leaf_of_an_entry_is_found_somewhere_whatever_its_shape() {
    let world = World::new().await;
    for seed in 0..3 {
        let mut counter = 0;
        let mut entries: Vec<Value> = (0..25).map(|at| enriched_entry(seed, at, 25)).collect();
        for entry in &mut entries {
            // The same urls under other ids would be other claims.
            let text = entry.to_string().replace("\"https://", &format!("\"https://s{seed}."));
            *entry = serde_json::from_str(&text).unwrap();
            spoil(entry, seed, &mut counter);
        }
        let report = world.say("", &entries).await;
        assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
        assert_nothing_is_lost(&world, &entries, &format!("seed {seed}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leaf_of_the_offline_database_and_of_originals_is_found_somewhere() {
    let world = World::new().await;
    let mut counter = 0;
    let mut entries: Vec<Value> = (0..40).map(|at| offline_entry(3, at, 40)).collect();
    for at in 0..5 {
        let sources =
            [format!("https://myanimelist.net/manga/{at}"), format!("https://kitsu.io/manga/{at}")];
        let thing = json!({ "title": format!("Work {at}"), "type": "NOVEL", "sources": sources,
                            "authors": [{ "name": format!("Writer {at}") }] });
        let key = if at % 2 == 0 { "manga" } else { "original_work" };
        entries.push(json!({ key: thing }));
    }
    for entry in &mut entries {
        spoil(entry, 7, &mut counter);
    }
    let report = world.say("2026-01-01", &entries).await;
    assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
    assert_nothing_is_lost(&world, &entries, "offline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leaf_of_the_real_artifact_is_found_somewhere() {
    let path = Path::new("../shared/data/anime/anime_database.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let world = World::new().await;
    world.ingest(path).await;
    let document = read(&text);
    let entries = document.get("data").unwrap().iter();
    let entries: Vec<String> =
        entries.map(|entry| String::from_utf8(entry.to_source_text()).unwrap()).collect();
    assert_none_is_lost(&world, &entries, "real").await;
}
