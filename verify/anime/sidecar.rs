use toolkit::anime::sidecar::{self, path_of};
use toolkit::demo::generate::anime::enriched_artifact;

use super::world::World;
use crate::support::{stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_agrees_with_postgres_until_either_changes() {
    let world = World::new().await;
    let artifact = world.path("anime_database.json");
    enriched_artifact(&artifact, 1, 30).unwrap();
    world.ingest(&artifact).await;
    let source = artifact.to_str().unwrap();
    let beside = path_of(&artifact);
    assert!(beside.ends_with("anime_database.ingestion_state.json"));
    assert!(!beside.exists());
    let missing = world.run(&["sidecar", "check", "--source", source]);
    assert_eq!(missing.status.code(), Some(2), "{}", stdout(&missing));
    let written = world.run(&["sidecar", "write", "--source", source]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    let bytes = std::fs::read(&beside).unwrap();
    world.run(&["sidecar", "write", "--source", source]);
    assert_eq!(std::fs::read(&beside).unwrap(), bytes);
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(document["counts"]["anime"], 30);
    assert_eq!(document["anime"].as_array().unwrap().len(), 30);
    let clean = world.run(&["sidecar", "check", "--source", source]);
    assert_eq!(clean.status.code(), Some(0), "{}", stdout(&clean));
    // One state changed, one gone, one more run: each is named.
    world
        .sql(
            "UPDATE anime_ingestion_state SET last_payload_sha256 = 'x' WHERE anime_id = \
               (SELECT min(anime_id::text)::uuid FROM anime_ingestion_state); \
             DELETE FROM anime_ingestion_state WHERE anime_id = \
               (SELECT max(anime_id::text)::uuid FROM anime_ingestion_state); \
             INSERT INTO ingestion_runs (artifact_uri, artifact_sha256) VALUES ('u', 's')",
        )
        .await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    let parity = sidecar::check(&mut conn, &artifact, &beside).await.unwrap();
    let found = (parity.anime.stale.len(), parity.anime.extra.len(), parity.anime.missing.len());
    assert_eq!(found, (1, 1, 0));
    assert_eq!((parity.runs.missing.len(), parity.runs.equal), (1, 1));
    let differs = world.run(&["sidecar", "check", "--source", source]);
    assert_eq!(differs.status.code(), Some(1));
    // A backfill brings a sidecar that is there up to date.
    world.ingest(&artifact).await;
    let parity = sidecar::check(&mut conn, &artifact, &beside).await.unwrap();
    assert!(parity.anime.is_clean(), "{parity:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_comes_back_from_the_sidecar_after_a_disaster() {
    let world = World::new().await;
    let artifact = world.path("anime_database.json");
    enriched_artifact(&artifact, 1, 30).unwrap();
    world.ingest(&artifact).await;
    let source = artifact.to_str().unwrap();
    let dry = world.run(&["sidecar", "write", "--source", source, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert!(!path_of(&artifact).exists(), "a dry run wrote it");
    world.run(&["sidecar", "write", "--source", source]);
    let bytes = std::fs::read(path_of(&artifact)).unwrap();
    // Postgres is authoritative: while it has anything, nothing is overwritten.
    let refused = world.run(&["sidecar", "restore", "--source", source]);
    assert_eq!(refused.status.code(), Some(2), "{}", stdout(&refused));
    world.sql("DELETE FROM anime_ingestion_state; DELETE FROM ingestion_runs").await;
    let dry = world.run(&["sidecar", "restore", "--source", source, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_eq!(world.text("SELECT count(*)::text FROM ingestion_runs").await, "0");
    let restored = world.run(&["sidecar", "restore", "--source", source]);
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    let mut conn = world.postgres.dedicated().await.unwrap();
    let again = world.path("again.json");
    sidecar::write(&mut conn, &artifact, &again, false).await.unwrap();
    assert_eq!(std::fs::read(again).unwrap(), bytes);
    // What was known is known again, and the next run has a number of its own.
    let known = world.ingest(&artifact).await;
    assert_eq!(known.total.counts.records.unchanged, 30);
    // An anime that is gone is said.
    world.sql("DELETE FROM anime WHERE id = (SELECT min(id::text)::uuid FROM anime)").await;
    let partial = world.run(&["sidecar", "restore", "--source", source, "--replace"]);
    assert_eq!(partial.status.code(), Some(1), "{}", stdout(&partial));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_sidecar_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let artifact = world.path("anime_database.json");
    enriched_artifact(&artifact, 1, 5).unwrap();
    world.ingest(&artifact).await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    let beside = path_of(&artifact);
    sidecar::write(&mut conn, &artifact, &beside, false).await.unwrap();
    let bytes = std::fs::read(&beside).unwrap();
    for broken in [&bytes[..bytes.len() / 2], b"{}".as_slice(), b"", b"[1]"] {
        std::fs::write(&beside, broken).unwrap();
        let error = sidecar::restore(&mut conn, &beside, true, false).await.unwrap_err();
        assert!(error.to_string().contains("sidecar"), "{error}");
        conn = world.postgres.dedicated().await.unwrap();
        let states = "SELECT count(*)::text FROM anime_ingestion_state";
        assert_eq!(world.text(states).await, "5");
    }
}
