//! The whole way.

use sha2::Digest as _;
use toolkit::demo::generate::Shape;

use super::scene::Stage;
use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

#[tokio::test]
async fn a_pack_walks_from_bootstrap_to_decommission_on_evidence_alone() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let done = stage.advance(0, &[]);
    assert_eq!(stage.place().await, "3 postgres");
    assert!(done["cutover"]["freeze_ms"].as_u64().unwrap() < 5000, "{done}");
    let refused = stage.write("UPDATE item SET amount = 1 WHERE id = 1").unwrap_err();
    assert!(refused.starts_with("toolkit fence:"), "{refused}");
    let output = stage.run(&["backfill"], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("Postgres is primary"), "{}", stderr(&output));
    // Postgres is primary; what is written there goes back.
    stage.scene.execute("INSERT INTO app.item VALUES (1000, 'new', 1)").await;
    let missing = stage.missing().join("\n");
    assert!(missing.contains("parity: 0 of 2"), "{missing}");
    stage.exits(0, &["dual-write", "reverse", "run"], &["--until-caught-up"]);
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    let path = stage.scene.source.join("app.sqlite");
    let offline = stage.scene.database.folder().join("offline");
    std::fs::create_dir(&offline).unwrap();
    std::fs::copy(&path, offline.join("app.sqlite")).unwrap();
    let done = stage.advance(0, &[]);
    assert_eq!(stage.place().await, "4 postgres");
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(done["sealed"][0]["sha256"], hex::encode(sha2::Sha256::digest(&bytes)), "{done}");
    let refused = stage.write("DELETE FROM item").unwrap_err();
    assert!(refused.contains("toolkit fence") || refused.contains("readonly"), "{refused}");
    history_comes_from_offline_copies_alone(&stage, &offline.join("app.sqlite")).await;
}

async fn history_comes_from_offline_copies_alone(stage: &Stage, copy: &std::path::Path) {
    for what in [&["backfill"][..], &["dual-write", "enable"], &["dual-write", "run"]] {
        let output = stage.run(what, &[]);
        assert_eq!(output.status.code(), Some(2), "{what:?}");
        assert!(stderr(&output).contains("--historical"), "{what:?}: {}", stderr(&output));
    }
    stage.scene.execute("UPDATE app.item SET name = 'newer' WHERE id = 1").await;
    stage.scene.execute("DELETE FROM app.item WHERE id = 2").await;
    let mut command = stage.scene.command(&["backfill", "--historical", "--pack"]);
    let output = command.arg(&stage.scene.pack).arg("--source").arg(copy).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stage.scene.text("SELECT name FROM app.item WHERE id = 1").await, "newer");
    assert_eq!(stage.scene.count("app.item WHERE id = 2").await, 1);
}

#[tokio::test]
async fn the_unified_pack_walks_to_the_cutover_and_is_accepted_with_its_lineage() {
    let shape = Shape { runs: 6, token_usage: 400, query_cache: 100, ..Shape::demo() };
    let (scene, _) = Move::generated(11, &shape).await;
    let stage = Stage::of(scene);
    let before = stage.exits(1, &["phase", "accept"], &[]);
    assert!(before.to_string().contains("SQLite is primary"), "{before}");
    stage.advance(0, &[]);
    stage.exits(0, &["dual-write", "enable"], &[]);
    stage.run(&["dual-write", "run"], &["--until-caught-up"]);
    stage.advance(0, &[]);
    stage.run(&["backfill"], &[]);
    stage.run(&["dual-write", "run"], &["--until-caught-up"]);
    stage.scene.execute("UPDATE toolkit.reject SET state = 'acknowledged'").await;
    for _ in 0..3 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    let refused = stage.advance(1, &[]);
    assert!(refused.to_string().contains("reports -> workflow.run_records"), "{refused}");
    // Hashing and looking again at what was refused takes its time in a debug build.
    let done = stage.advance(0, &["--acknowledge-none", "--freeze-max", "120000"]);
    println!("freeze {} ms: {}", done["cutover"]["freeze_ms"], done["cutover"]["steps"]);
    assert_eq!(done["cutover"]["files"].as_array().unwrap().len(), 5, "{done}");
    let found = stage.exits(1, &["phase", "accept"], &[]);
    assert!(found.to_string().contains("no shadow read is recorded"), "{found}");
    let read = "INSERT INTO toolkit.shadow_read VALUES ('unified', 'usage', now(), 5000, 0)";
    stage.scene.execute(read).await;
    let found = stage.exits(0, &["phase", "accept"], &[]);
    let verdicts: Vec<&str> = found["criteria"]
        .as_array()
        .unwrap()
        .iter()
        .map(|criterion| criterion["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["met"; 4], "{found}");
    stage
        .scene
        .execute(
            "UPDATE toolkit.shadow_read SET mismatches = 1; \
             INSERT INTO indexing.pipeline_runs (id) VALUES (1); \
             UPDATE ingestion.run_documents SET run_id = 'lost' WHERE ctid = \
             (SELECT min(ctid) FROM ingestion.run_documents)",
        )
        .await;
    let found = stage.exits(1, &["phase", "accept"], &[]).to_string();
    assert!(found.contains("1 of 5000 shadow reads differed"), "{found}");
    assert!(found.contains("1 values of ingestion.run_documents.run_id"), "{found}");
}
