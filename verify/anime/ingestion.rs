use std::path::Path;

use serde_json::json;
use toolkit::anime::ingest::Options;
use toolkit::demo::generate::anime::{enriched_artifact, offline_database};
use toolkit::error::ErrorKind;

use super::world::{World, entry};
use crate::support::{stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ingestion_changes_nothing_and_says_so() {
    let world = World::new().await;
    let path = world.path("anime_database.json");
    enriched_artifact(&path, 1, 60).unwrap();
    let first = world.ingest(&path).await;
    assert_eq!(first.total.counts.records.inserted, 60, "{first:#?}");
    assert_eq!(first.total.counts.records.rejected, 0);
    let content = world.content().await;
    let outbox = world.text("SELECT count(*)::text FROM qdrant_outbox").await;
    let second = world.ingest(&path).await;
    assert_eq!(second.total.counts.records.unchanged, 60, "{second:#?}");
    assert_eq!(world.content().await, content);
    assert_eq!(world.text("SELECT count(*)::text FROM qdrant_outbox").await, outbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offline_database_is_the_same_as_json_and_as_lines() {
    let mut contents = Vec::new();
    for name in ["anime-offline-database.json", "anime-offline-database.jsonl"] {
        let world = World::new().await;
        let path = world.path(name);
        offline_database(&path, 1, 300).unwrap();
        let report = world.ingest(&path).await;
        assert_eq!(report.total.counts.records.inserted, 300);
        assert_eq!(world.ingest(&path).await.total.counts.records.unchanged, 300);
        let header = "SELECT header ->> 'lastUpdate' FROM ingestion_runs LIMIT 1";
        assert_eq!(world.text(header).await, "2026-11-01");
        contents.push(world.content().await);
    }
    assert_eq!(contents[0], contents[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anime_of_the_offline_database_takes_the_id_its_artifact_gives_it() {
    let world = World::new().await;
    let offline = world.path("anime-offline-database.json");
    offline_database(&offline, 1, 40).unwrap();
    world.ingest(&offline).await;
    let enriched = world.path("anime_database.json");
    enriched_artifact(&enriched, 1, 40).unwrap();
    let report = world.ingest(&enriched).await;
    assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
    assert_eq!(world.text("SELECT count(*)::text FROM anime").await, "40");
    let derived = "SELECT count(*)::text FROM anime_ingestion_state WHERE is_derived_id";
    assert_eq!(world.text(derived).await, "0");
    let ledger = "SELECT count(*)::text FROM toolkit.ledger WHERE rule = 'id_adopted'";
    assert_eq!(world.text(ledger).await, "40");
    let stale = "SELECT count(*)::text FROM graph_edge_expected e WHERE NOT EXISTS (SELECT FROM \
                 graph_edge g WHERE (g.from_id, g.edge_type, g.to_id, g.origin) = (e.from_id, \
                 e.edge_type, e.to_id, e.origin))";
    assert_eq!(world.text(stale).await, "0");
    // The offline database again: it is known, and takes nothing back.
    let content = world.content().await;
    let again = world.ingest(&offline).await;
    let records = again.total.counts.records;
    assert_eq!(records.updated + records.superseded, 40, "{again:#?}");
    assert_eq!(world.ingest(&offline).await.total.counts.records.unchanged, 40);
    let titles = "SELECT count(*)::text FROM anime WHERE synopsis IS NULL";
    assert_eq!(world.text(titles).await, "0");
    assert_ne!(content, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_two_anime_claim_is_refused_with_both_ids_and_the_others_go_on() {
    let world = World::new().await;
    world.say("", &[entry(1, json!({})), entry(2, json!({}))]).await;
    let both = json!({
        "title": "Both", "type": "TV", "episodes": 1, "status": "FINISHED",
        "animeSeason": {"season": "FALL", "year": 2020}, "tags": [], "synonyms": [],
        "sources": ["https://myanimelist.net/anime/1", "https://myanimelist.net/anime/2"],
        "relatedAnime": [],
    });
    // A platform has one id for an anime: the second of a platform is no claim. So another's.
    world.sql("UPDATE anime_xref SET source = 'anilist' WHERE external_id = '2'").await;
    let mut both_claim = both;
    both_claim["sources"] =
        json!(["https://myanimelist.net/anime/1", "https://anilist.co/anime/2"]);
    let report = world.say("", &[both_claim, entry(3, json!({}))]).await;
    assert_eq!(report.total.counts.records.rejected, 1);
    assert_eq!(report.total.counts.records.inserted, 1);
    let detail = world.text("SELECT detail FROM toolkit.reject").await;
    assert!(detail.contains("000000000001") && detail.contains("000000000002"), "{detail}");
    let record = world.text("SELECT convert_from(record, 'UTF8') FROM toolkit.reject").await;
    assert!(record.contains("\"Both\""), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_whole_and_the_rest_of_its_group_is_stored() {
    let world = World::new().await;
    let mut untitled = entry(3, json!({}));
    untitled["anime"]["title"] = json!(null);
    let entries = [
        entry(1, json!({})),
        entry(2, json!({ "synopsis": "nul \u{0} inside" })),
        untitled,
        json!("no object"),
        entry(5, json!({})),
        // Postgres alone can see this: the episode's id is another anime's.
        entry(
            6,
            json!({ "episodes": [{ "id": "00000000-0000-4000-8000-aaaaaaaaaaaa", "episode_number": 1, "title": "x" }] }),
        ),
        entry(
            7,
            json!({ "episodes": [{ "id": "00000000-0000-4000-8000-aaaaaaaaaaaa", "episode_number": 1, "title": "x" }] }),
        ),
        entry(8, json!({})),
    ];
    let path = world.artifact("bad.json", "", &entries);
    let report = world.ingest(&path).await;
    assert_eq!(report.total.counts.records.inserted, 4, "{report:#?}");
    assert_eq!(report.total.counts.records.rejected, 4);
    let reasons = world.texts("SELECT reason FROM toolkit.reject ORDER BY reason").await;
    assert_eq!(reasons, ["nul", "null_not_allowed", "unique_violation", "wrong_type"]);
    // By the command: exit 1, unless they are allowed.
    let source = path.to_str().unwrap();
    let strict = world.run(&["backfill", "--pack", "anime", "--source", source]);
    assert_eq!(strict.status.code(), Some(1), "{}", stderr(&strict));
    let allowed =
        world.run(&["backfill", "--pack", "anime", "--source", source, "--max-rejects", "4"]);
    assert_eq!(allowed.status.code(), Some(0), "{}", stderr(&allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_artifact_is_one_reject_and_what_came_before_is_stored() {
    let world = World::new().await;
    let path = world.artifact("cut.json", "", &[entry(1, json!({})), entry(2, json!({}))]);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 40]).unwrap();
    let report = world.ingest(&path).await;
    assert_eq!(report.total.counts.records.inserted, 1, "{report:#?}");
    assert_eq!(report.total.counts.records.rejected, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_character_of_several_anime_is_stored_once_with_what_each_says() {
    let world = World::new().await;
    let person = |description: &str, role: &str| {
        json!([{ "id": "11111111-0000-4000-8000-000000000001", "name": "Aoi", "role": role,
                 "description": description, "nicknames": ["Ao"], "name_variations": ["Aoi!"] }])
    };
    world
        .say(
            "",
            &[
                entry(1, json!({ "characters": person("tall", "Main") })),
                entry(2, json!({ "characters": person("short", "Supporting") })),
            ],
        )
        .await;
    assert_eq!(world.text("SELECT count(*)::text FROM character").await, "1");
    assert_eq!(world.text("SELECT description FROM character").await, "tall");
    let links = "SELECT role || ' ' || coalesce(meta #>> '{differs,description}', '-') \
                 FROM anime_character ORDER BY anime_id";
    assert_eq!(world.texts(links).await, ["Main -", "Supporting short"]);
    let aliases = world.texts("SELECT alias FROM character_alias ORDER BY alias").await;
    assert_eq!(aliases, ["Ao", "Aoi!"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_character_without_an_id_is_known_by_its_page_or_its_name_and_proposed() {
    let world = World::new().await;
    let people = json!([
        { "name": "Paged", "character_pages": { "anilist": "https://anilist.co/character/7",
                                                 "mal": "https://myanimelist.net/character/9/x" } },
        { "name": "Named only" },
    ]);
    for _ in 0..2 {
        world.say("", &[entry(1, json!({ "characters": people }))]).await;
        // The same again, as another entry: the same rows.
        world.say("", &[entry(1, json!({ "characters": people, "rating": "G" }))]).await;
    }
    assert_eq!(world.text("SELECT count(*)::text FROM character").await, "2");
    let queued = "SELECT field || ' ' || reason || ' ' || (after #>> '{}') FROM review_queue \
                  WHERE entity_type = 'character'";
    assert_eq!(world.texts(queued).await, ["identity named_only Named only"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_shapes_of_relations_give_the_same_edges_with_all_urls() {
    let world = World::new().await;
    let list = json!([
        { "title": "Two", "relation_type": "SEQUEL", "url": "https://myanimelist.net/anime/22" },
        { "title": "Two", "relation_type": "SEQUEL", "url": "https://anilist.co/anime/33" },
        { "title": "Clip", "relation_type": "MUSIC", "url": "https://myanimelist.net/anime/44" },
    ]);
    let groups = json!({
        "SEQUEL": [{ "title": "Two", "url": ["https://myanimelist.net/anime/22", "https://anilist.co/anime/33"] }],
        "MUSIC": [{ "title": "Clip", "url": ["https://myanimelist.net/anime/44"] }],
    });
    let originals = json!([
        { "title": "M", "relation_type": "ADAPTATION", "url": "https://myanimelist.net/manga/5" },
        { "title": "N", "type": "LIGHT_NOVEL", "relation_type": "ORIGINAL WORK", "url": "https://anisearch.com/manga/6,x" },
    ]);
    world
        .say(
            "",
            &[
                entry(1, json!({ "related_anime": list, "relations": originals })),
                entry(2, json!({ "related_anime": groups })),
            ],
        )
        .await;
    let edges = "SELECT concat_ws(' ', relation_type, to_ref_source, to_ref_external_id, to_anime_type, \
                 source_relation_type, to_urls) FROM anime_relation WHERE from_anime_id::text LIKE '%";
    let of = |n: u32| format!("{edges}{n}' ORDER BY 1");
    let wanted = [
        "OTHER mal 44 MUSIC MUSIC {https://myanimelist.net/anime/44}",
        "SEQUEL mal 22 SEQUEL {https://myanimelist.net/anime/22,https://anilist.co/anime/33}",
    ];
    assert_eq!(world.texts(&of(1)).await, wanted);
    assert_eq!(world.texts(&of(2)).await, wanted);
    let works = "SELECT concat_ws(' ', work_type, relation_type, ref_source, ref_external_id) \
                 FROM anime_original_work_relation ORDER BY 1";
    assert_eq!(
        world.texts(works).await,
        ["manga ADAPTATION mal 5", "original_work ADAPTATION anisearch 6"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_url_of_a_platform_is_its_reference_and_the_others_are_kept() {
    let world = World::new().await;
    let sources = json!([
        "https://kitsu.app/anime/10",
        "https://anidb.net/a20",
        "https://kitsu.io/anime/11",
        "https://example.org/a",
        "https://example.org/b",
    ]);
    world.say("", &[entry(1, json!({ "sources": sources }))]).await;
    let xrefs = world.texts("SELECT source || ' ' || external_id FROM anime_xref ORDER BY 1").await;
    assert_eq!(xrefs, ["anidb 20", "kitsu 10", "url https://example.org/a"]);
    assert_eq!(
        world.text("SELECT (meta -> 'extra_urls')::text FROM anime").await,
        r#"["https://kitsu.io/anime/11", "https://example.org/b"]"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_is_not_stored_and_the_ledger_says_so() {
    let world = World::new().await;
    let links = json!({ "mirror": "https://user:hunter2@example.org/x" });
    world.say("", &[entry(1, json!({ "external_links": links }))]).await;
    let link = "SELECT meta #>> '{external_links,mirror}' FROM anime";
    assert_eq!(world.text(link).await, "https://user:***@example.org/x");
    let ledger = "SELECT count(*)::text FROM toolkit.ledger WHERE secret AND original IS NULL";
    assert_eq!(world.text(ledger).await, "1");
    assert_eq!(
        world
            .say("", &[entry(1, json!({ "external_links": links }))])
            .await
            .total
            .counts
            .records
            .unchanged,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_between_groups_goes_on_and_ends_as_an_undisturbed_one() {
    let undisturbed = World::new().await;
    let file = undisturbed.path("anime_database.json");
    enriched_artifact(&file, 5, 40).unwrap();
    undisturbed.ingest(&file).await;
    let world = World::new().await;
    let path = world.path("anime_database.json");
    std::fs::copy(&file, &path).unwrap();
    let source = path.to_str().unwrap();
    let arguments = ["backfill", "--pack", "anime", "--source", source, "--chunk-records", "7"];
    world.kill_at_group(3, &arguments).await;
    let again = world.run_after_a_kill(&arguments);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stdout(&again).contains("resumed"), "{}", stdout(&again));
    assert_eq!(world.content().await, undisturbed.content().await);
    let counts =
        "SELECT (counts -> 'records' ->> 'inserted') FROM toolkit.run WHERE status = 'completed'";
    assert_eq!(world.text(counts).await, "40");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_run_is_not_resumed_with_another_artifact() {
    let world = World::new().await;
    let path = world.artifact("a.json", "", &[entry(1, json!({})), entry(2, json!({}))]);
    world.ingest(&path).await;
    world.sql("UPDATE toolkit.run SET status = 'interrupted'").await;
    world.artifact("a.json", "", &[entry(3, json!({}))]);
    let refused = world.try_ingest(&path, Options::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RunMismatch, "{refused}");
    let restart = Options { restart: true, ..Options::default() };
    assert_eq!(world.try_ingest(&path, restart).await.unwrap().total.counts.records.inserted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_flags_of_tables_are_refused() {
    let world = World::new().await;
    let path = world.artifact("a.json", "", &[entry(1, json!({}))]);
    let source = path.to_str().unwrap();
    let dry = world.run(&["backfill", "--pack", "anime", "--source", source, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_eq!(world.text("SELECT count(*)::text FROM ingestion_runs").await, "0");
    let odd = world.run(&["backfill", "--pack", "anime", "--source", source, "--snapshot"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(stderr(&odd).contains("--snapshot does not apply"), "{}", stderr(&odd));
    let none = world.run(&["backfill", "--pack", "anime"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        stderr(&none).contains("data/qdrant_storage/anime-offline-database.json"),
        "{}",
        stderr(&none)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_artifact_goes_in_whole_and_twice_is_once() {
    let path = Path::new("../shared/data/anime/anime_database.json");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let world = World::new().await;
    let first = world.ingest(path).await;
    assert_eq!(first.total.counts.records.inserted, 28, "{first:#?}");
    assert_eq!(first.total.counts.rejects(), 0);
    assert!(first.total.unknown_words.is_empty(), "{:?}", first.total.unknown_words);
    let counts = "SELECT concat_ws(' ', (SELECT count(*) FROM anime), (SELECT count(*) FROM character), \
                  (SELECT count(*) FROM episode))";
    assert_eq!(world.text(counts).await, "28 60 59");
    let content = world.content().await;
    assert_eq!(world.ingest(path).await.total.counts.records.unchanged, 28);
    assert_eq!(world.content().await, content);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fixtures_become_the_rows_a_person_would_expect() {
    let world = World::new().await;
    let report = world.ingest(Path::new("fixtures/anime")).await;
    assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
    assert_eq!(report.total.unknown_words["second cousin"], 1);
    let anime = "SELECT concat_ws(' | ', title, type, status, episode_count, duration_seconds, season, \
                 meta ->> 'status') FROM anime ORDER BY title";
    assert_eq!(
        world.texts(anime).await,
        [
            "Lamp Song | SPECIAL | FINISHED | 1",
            "Lantern Road | TV | ONGOING | 12 | 1440 | FALL | Currently Airing",
            "Lantern Road: Winter | TV | UPCOMING | 0 | not yet aired",
        ]
    );
    let edges = "SELECT concat_ws(' ', f.title, '-', r.relation_type, '-', t.title, r.to_anime_type) \
                 FROM anime_relation r JOIN anime f ON f.id = r.from_anime_id \
                 LEFT JOIN anime t ON t.id = r.to_anime_id ORDER BY 1";
    assert_eq!(
        world.texts(edges).await,
        [
            "Lamp Song - OTHER - Lantern Road",
            "Lantern Road - OTHER -",
            "Lantern Road - OTHER - Lamp Song MUSIC",
            "Lantern Road - SEQUEL - Lantern Road: Winter",
            "Lantern Road: Winter - PREQUEL - Lantern Road TV",
        ]
    );
    let companies = "SELECT count(*)::text FROM company";
    assert_eq!(world.text(companies).await, "1");
    let extra = "SELECT title FROM anime WHERE meta #>> '{extra_episodes,0,title}' = 'Snow, again'";
    assert_eq!(world.text(extra).await, "Lantern Road: Winter");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_tables_say_that_the_pack_has_none() {
    let world = World::new().await;
    for command in [["verify-parity", "--pack", "anime"], ["pack", "check", "--pack=anime"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--source", "."]);
        let done = world.run(&arguments);
        assert_eq!(done.status.code(), Some(2), "{}", stdout(&done));
    }
    let artifact = world.artifact("a.json", "", &[entry(1, json!({}))]);
    let source = artifact.to_str().unwrap();
    let check = world.run(&["pack", "check", "--pack", "anime", "--source", source]);
    assert_eq!(check.status.code(), Some(2), "{}", stdout(&check));
    assert!(stderr(&check).contains("--dry-run"), "{}", stderr(&check));
}
