//! Groups of plain entries are written two at a time, and nobody can tell from what is stored.

use serde_json::{Value, json};
use toolkit::anime::ingest::Options;
use toolkit::demo::generate::anime::offline_database;

use super::world::World;
use crate::support::stderr;

fn offline(at: usize, sources: &[&str], episodes: u32) -> Value {
    json!({
        "sources": sources, "title": format!("Anime {at}"), "type": "TV", "status": "ONGOING",
        "episodes": episodes, "animeSeason": { "season": "FALL", "year": 2000 },
        "relatedAnime": [format!("https://myanimelist.net/anime/{}", 100 + at + 1)],
        "studios": [format!("Studio {}", at / 7), "Every Studio"], "producers": ["Every Studio"],
    })
}

/// Forty entries, in groups of three: the entries 13 and 16, of the two halves of a pair, are about
/// one anime that is stored already, and Postgres alone can refuse 19 and 22.
fn entries() -> Vec<Value> {
    let mut entries: Vec<Value> = (0..40)
        .map(|at| offline(at, &[&format!("https://myanimelist.net/anime/{}", 100 + at)], 12))
        .collect();
    entries[13] = offline(13, &["https://myanimelist.net/anime/1"], 13);
    entries[16] = offline(16, &["https://anilist.co/anime/2"], 16);
    entries
}

async fn ingested(entries_max: usize) -> (World, toolkit::anime::ingest::Report) {
    let world = World::new().await;
    let both = ["https://myanimelist.net/anime/1", "https://anilist.co/anime/2"];
    world.say("2026-01-01", &[offline(0, &both, 11)]).await;
    world
        .sql(
            "ALTER TABLE anime ADD CHECK (title NOT IN ('Anime 19', 'Anime 22')); \
             CREATE TABLE writer (pid int); \
             CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO writer VALUES (pg_backend_pid()); RETURN NULL; END $$; \
             CREATE TRIGGER note_writer AFTER INSERT ON anime_xref \
             FOR EACH STATEMENT EXECUTE FUNCTION note_writer()",
        )
        .await;
    let path = world.artifact("all.json", "2026-02-01", &entries());
    let options = Options { entries_max, ..Options::default() };
    let report = world.try_ingest(&path, options).await.unwrap();
    (world, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_two_groups_at_a_time_is_what_one_after_the_other_would_have_stored() {
    let (alone, expected) = ingested(1_000).await;
    let (paired, report) = ingested(3).await;
    let writers = "SELECT count(DISTINCT pid)::text FROM writer";
    assert_eq!(alone.text(writers).await, "1");
    assert_ne!(paired.text(writers).await, "1");
    assert_eq!(report.total.counts.records, expected.total.counts.records);
    assert_eq!(report.total.counts.records.rejected, 2, "{report:#?}");
    assert_eq!(paired.content().await, alone.content().await);
    let rejects = "SELECT reason || ' ' || locator FROM toolkit.reject ORDER BY 1";
    assert_eq!(paired.texts(rejects).await, alone.texts(rejects).await);
    let episodes = "SELECT episode_count::text FROM anime JOIN anime_xref ON anime_id = id \
                    WHERE source = 'anilist' AND external_id = '2'";
    assert_eq!(paired.text(episodes).await, "16");
    let outbox = "SELECT count(*)::text FROM anime a WHERE NOT EXISTS \
                  (SELECT FROM qdrant_outbox o WHERE o.entity_id = a.id)";
    assert_eq!(paired.text(outbox).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_half_of_a_pair_is_killed_what_is_stored_is_the_beginning_and_the_rest_follows() {
    let undisturbed = World::new().await;
    let file = undisturbed.path("anime-offline-database.jsonl");
    offline_database(&file, 3, 60).unwrap();
    undisturbed.ingest(&file).await;
    for stopped in [4, 5] {
        let world = World::new().await;
        let path = world.path("anime-offline-database.jsonl");
        std::fs::copy(&file, &path).unwrap();
        let source = path.to_str().unwrap();
        let arguments = ["backfill", "--pack", "anime", "--source", source, "--chunk-records", "5"];
        world.kill_at_group(stopped, &arguments).await;
        let last = "SELECT max(chunk_no)::text FROM toolkit.chunk";
        assert_eq!(world.text(last).await, (stopped - 1).to_string());
        let beginning = (stopped * 5).to_string();
        assert_eq!(world.text("SELECT count(*)::text FROM anime_ingestion_state").await, beginning);
        let again = world.run_after_a_kill(&arguments);
        assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
        assert_eq!(world.content().await, undisturbed.content().await);
    }
}
