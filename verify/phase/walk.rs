//! The whole way.

use super::scene::Stage;

#[tokio::test]
async fn a_pack_walks_from_bootstrap_to_decommission_on_evidence_alone() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let done = stage.advance(0, &[]);
    assert_eq!(stage.place().await, "3 postgres");
    assert!(done["cutover"]["freeze_ms"].as_u64().unwrap() < 5000, "{done}");
    let refused = stage.write("UPDATE item SET amount = 1 WHERE id = 1").unwrap_err();
    assert!(refused.starts_with("toolkit fence:"), "{refused}");
    // Postgres is primary; what is written there goes back.
    stage.scene.execute("INSERT INTO app.item VALUES (1000, 'new', 1)").await;
    let missing = stage.missing();
    assert!(missing.iter().any(|line| line.starts_with("reverse: 1 changes")), "{missing:?}");
    stage.exits(0, &["reverse", "run"], &["--until-caught-up"]);
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    let done = stage.advance(0, &[]);
    assert_eq!(stage.place().await, "4 postgres");
    let sealed = &done["sealed"][0];
    let bytes = std::fs::read(stage.scene.source.join("app.sqlite")).unwrap();
    assert_eq!(sealed["sha256"], toolkit_digest(&bytes), "{done}");
    let refused = stage.write("DELETE FROM item").unwrap_err();
    assert!(refused.contains("toolkit fence") || refused.contains("readonly"), "{refused}");
}

fn toolkit_digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}
