//! Three stores, one content: the artifact, its sidecar and the points against Postgres, by the
//! commands a person would use.

use serde_json::{Value, json};
use toolkit::demo::generate::anime::enriched_artifact;

use super::world::{World, entry};
use crate::support::{stderr, stdout};

const ALL: &str = "source,sidecar,qdrant";

/// A world that was ingested, drained and given its sidecar.
async fn world(count: usize) -> World {
    let world = World::new().await;
    enriched_artifact(&world.path("anime_database.json"), 7, count).unwrap();
    world.ingest(&world.path("anime_database.json")).await;
    hold(&world, &["outbox", "drain"], 0);
    hold(&world, &["sidecar", "write", "--source", "anime_database.json"], 0);
    world
}

/// Runs a command that has to end so.
fn hold(world: &World, arguments: &[&str], code: i32) -> String {
    let done = world.run(arguments);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}{}", stdout(&done), stderr(&done));
    stdout(&done)
}

fn verify(world: &World, against: &str, code: i32) -> Value {
    let mut arguments = vec!["--format", "json", "verify-parity", "--pack", "anime"];
    if against != "qdrant" && against != "graph" {
        arguments.extend(["--source", "anime_database.json"]);
    }
    arguments.extend(["--against", against]);
    serde_json::from_str(&hold(world, &arguments, code)).unwrap()
}

/// Differing things by slice.
fn differing(report: &Value) -> Vec<(String, u64)> {
    let units = report["units"].as_array().unwrap().iter();
    let count = |unit: &Value| -> u64 {
        ["missing", "extra", "changed"].iter().map(|kind| unit[kind].as_u64().unwrap()).sum()
    };
    units
        .map(|unit| (unit["target"].as_str().unwrap().to_owned(), count(unit)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_stores_agree_after_ingestion_and_what_is_changed_behind_them_is_found_and_made_good()
{
    let world = world(20).await;
    let clean = verify(&world, ALL, 0);
    assert_eq!(clean["against"], serde_json::json!(["source", "sidecar", "qdrant", "graph"]));
    assert_eq!(clean["verdict"], "clean");
    let text = hold(
        &world,
        &[
            "verify-parity",
            "--pack",
            "anime",
            "--source",
            "anime_database.json",
            "--against",
            ALL,
            "--report",
            "p.html",
            "--report",
            "p.junit.xml",
            "--report",
            "p.json",
        ],
        0,
    );
    assert!(text.contains("PARITY: Postgres agrees in "), "{text}");
    assert!(text.contains("made anew from the text and compared bit by bit"), "{text}");

    // Behind the outbox, as a restore of a backup would be.
    world
        .sql(
            "ALTER TABLE anime DISABLE TRIGGER USER; \
             UPDATE anime SET season = CASE season WHEN 'FALL' THEN 'WINTER' ELSE 'FALL' END \
             WHERE id = (SELECT min(id::text)::uuid FROM anime); \
             ALTER TABLE anime ENABLE TRIGGER USER; \
             UPDATE anime_ingestion_state SET ingestion_status = 'x' \
             WHERE anime_id = (SELECT max(id::text)::uuid FROM anime)",
        )
        .await;
    let found = verify(&world, "sidecar,qdrant", 1);
    let expected =
        [("sidecar.anime_ingestion_state".to_owned(), 1), ("qdrant.anime".to_owned(), 1)];
    assert_eq!(differing(&found), expected);
    let season = found["differences"].as_array().unwrap().iter().find(|d| d["column"] == "season");
    let season = season.unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!(season["stream"], "qdrant");
    assert!(season["source_value"] != season["target_value"]);

    let run = found["run_id"].as_str().unwrap();
    let shown = hold(&world, &["parity", "report", "--run", run, "--report", "found.html"], 1);
    assert!(shown.contains("qdrant.anime"), "{shown}");
    let plan = hold(&world, &["repair", "plan", "--run", run, "--out", "plan.json"], 0);
    assert!(plan.contains("requeue") && plan.contains("sidecar write"), "{plan}");
    let dry = hold(&world, &["repair", "apply", "plan.json", "--dry-run"], 0);
    assert!(dry.contains("1 point would be queued"), "{dry}");
    assert_eq!(verify(&world, "qdrant", 1)["stores"][0]["on_the_way"], 0);
    hold(&world, &["repair", "apply", "plan.json"], 0);
    let waiting = verify(&world, "qdrant", 1);
    assert_eq!(waiting["stores"][0]["on_the_way"], 1, "{waiting:#}");
    hold(&world, &["outbox", "drain"], 0);
    hold(&world, &["sidecar", "write", "--source", "anime_database.json"], 0);
    assert_eq!(verify(&world, "sidecar,qdrant", 0)["verdict"], "clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_outbox_is_a_difference_and_named_as_on_its_way() {
    let world = world(5).await;
    world.sql("UPDATE anime SET status = 'CANCELLED'").await;
    let report = verify(&world, "qdrant", 1);
    assert_eq!(differing(&report), [("qdrant.anime".to_owned(), 5)]);
    assert_eq!(report["stores"][0]["on_the_way"], 5);
    let first = &report["differences"][0];
    assert!(first["locator"].as_str().unwrap().contains("toolkit outbox drain"), "{first:#}");
    hold(&world, &["outbox", "drain"], 0);
    verify(&world, "qdrant", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_derived_is_made_again_from_postgres_alone() {
    let world = world(10).await;
    let before = hold(&world, &["--format", "json", "outbox", "status"], 0);
    assert!(before.contains("\"pending_rows\": 0"), "{before}");
    std::fs::remove_dir_all(world.path("state").join("qdrant")).unwrap();
    std::fs::remove_file(world.path("anime_database.ingestion_state.json")).unwrap();
    world.sql("DELETE FROM qdrant_outbox").await;
    // What is not there cannot be compared.
    let none = world.run(&["verify-parity", "--pack", "anime", "--against", "qdrant"]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    assert!(stderr(&none).contains("outbox drain"), "{}", stderr(&none));
    let none = world.run(&[
        "verify-parity",
        "--pack",
        "anime",
        "--against",
        "sidecar",
        "--source",
        "anime_database.json",
    ]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    assert!(stderr(&none).contains("sidecar write"), "{}", stderr(&none));

    hold(&world, &["outbox", "rebuild"], 0);
    hold(&world, &["sidecar", "write", "--source", "anime_database.json"], 0);
    assert_eq!(verify(&world, ALL, 0)["verdict"], "clean");
    // Versions go on rising: the sequence is nobody's.
    world.sql("UPDATE anime SET status = 'CANCELLED'").await;
    hold(&world, &["outbox", "drain"], 0);
    verify(&world, "qdrant", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_without_derived_stores_and_a_comparison_without_its_artifact_are_refused() {
    let world = World::new().await;
    for (arguments, says) in [
        (&["--pack", "unified", "--against", "qdrant"][..], "has no sidecar, collection or graph"),
        (&["--pack", "anime", "--against", "sidecar"], "no --source"),
        (&["--pack", "anime", "--against", "nothing"], "nothing"),
    ] {
        let done = world.run(&[&["verify-parity"], arguments].concat());
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {}", stdout(&done));
        assert!(stderr(&done).contains(says), "{arguments:?}: {}", stderr(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_drifted_is_a_difference_each_time_and_names_the_command_that_mends_it() {
    let world = world(10).await;
    let plain = ["verify-parity", "--pack", "anime", "--source", "anime_database.json"];
    assert!(hold(&world, &plain, 0).contains("edges of the graph"));
    world
        .sql(
            "DELETE FROM graph_edge WHERE ctid = (SELECT ctid FROM graph_edge \
             WHERE edge_type = 'has_episode' ORDER BY from_id LIMIT 1); \
             UPDATE graph_edge SET origin = 'episode:odd' WHERE ctid = (SELECT ctid FROM graph_edge \
             WHERE edge_type = 'has_episode' ORDER BY from_id DESC LIMIT 1)",
        )
        .await;
    let found = world.run(&plain);
    assert_eq!(found.status.code(), Some(1), "{}", stderr(&found));
    assert!(stderr(&found).contains("toolkit graph reconcile --repair"), "{}", stderr(&found));
    // Whatever else is compared.
    for against in [ALL, "qdrant", "graph"] {
        let report = verify(&world, against, 1);
        assert_eq!(differing(&report), [("graph.episode".to_owned(), 3)], "{against}");
        let kinds: Vec<_> = report["differences"].as_array().unwrap().iter().collect();
        assert_eq!(kinds.len(), 3, "{report}");
        assert!(kinds.iter().all(|one| one["stream"] == "graph" && one["key"]["from"].is_string()));
    }
    hold(&world, &["graph", "reconcile", "--repair"], 0);
    verify(&world, ALL, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_outbox_print_one_json_document_and_change_nothing_when_dry() {
    let world = World::new().await;
    world.say("", &[entry(1, json!({})), entry(2, json!({}))]).await;
    let pending = "SELECT count(*)::text FROM qdrant_outbox WHERE processed_at IS NULL";
    let all = "SELECT md5(string_agg(o::text, '' ORDER BY o.id)) FROM qdrant_outbox o";
    let before = world.text(all).await;
    for (command, is_changed) in [
        (&["outbox", "requeue", "--dry-run"][..], false),
        (&["outbox", "retry", "--dry-run"], false),
        (&["outbox", "prune", "--older-than", "0", "--dry-run"], false),
        (&["outbox", "drain", "--dry-run"], false),
        (&["outbox", "retry"], false),
        (&["outbox", "prune"], false),
        (&["outbox", "drain"], true),
        (&["outbox", "requeue"], true),
    ] {
        let arguments = [&["--format", "json"], command].concat();
        let done = world.run(&arguments);
        assert_eq!(done.status.code(), Some(0), "{command:?}: {}", stderr(&done));
        let printed: serde_json::Result<Value> = serde_json::from_str(&stdout(&done));
        assert!(printed.is_ok(), "{command:?}: {}", stdout(&done));
        assert_eq!(world.text(all).await != before, is_changed, "{command:?}");
    }
    assert_eq!(world.text(pending).await, "2");
}
