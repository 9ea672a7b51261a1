//! Artifacts against Postgres.

use serde_json::{Value, json};
use toolkit::anime::ingest;
use toolkit::anime::parity::{Options, verify};
use toolkit::demo::generate::anime::{enriched_artifact, offline_database};
use toolkit::interrupt::Stop;
use toolkit::manners::Manners;
use toolkit::pack::Pack;
use toolkit::parity::{Kind, Level, Report, Verdict};

use super::world::{World, entry};
use crate::support::{stderr, stdout};

async fn compare(world: &World, path: &std::path::Path, level: Level) -> Report {
    let (settings, pack) = (world.database.settings(), Pack::find("anime").unwrap());
    let options = Options { level, differences_max: 100, manners: Manners::default() };
    let roots = [path.to_path_buf()];
    verify(&settings, &world.postgres, &pack, &roots, &options, &Stop::new(), &|_| ())
        .await
        .unwrap()
}

/// What is named: kind, table, column, both values.
fn named(report: &Report) -> Vec<String> {
    report
        .differences
        .iter()
        .map(|d| {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            format!(
                "{} {} {} {} {}",
                d.kind.name(),
                d.target,
                value(&d.column),
                value(&d.source_value),
                value(&d.target_value)
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ingested_is_at_parity_at_every_level_in_all_shapes_and_one_over_the_other() {
    let world = World::new().await;
    let offline = world.path("anime-offline-database.json");
    offline_database(&offline, 1, 60).unwrap();
    let enriched = world.path("anime_database.json");
    enriched_artifact(&enriched, 1, 60).unwrap();
    world.ingest(&offline).await;
    let report = compare(&world, &offline, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    world.ingest(&enriched).await;
    for path in [&offline, &enriched] {
        for level in [Level::Counts, Level::Sample { n: 20, seed: 3 }, Level::Full] {
            let report = compare(&world, path, level).await;
            assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
            assert_eq!(report.streams[0].read, 60);
        }
    }
    world.ingest(&offline).await;
    for path in [&offline, &enriched] {
        let report = compare(&world, path, Level::Full).await;
        assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_artifact_is_at_parity_and_every_leaf_of_it_is_looked_for() {
    let path = std::path::Path::new("../shared/data/anime/anime_database.json");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let world = World::new().await;
    world.ingest(path).await;
    let report = compare(&world, path, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    assert!(report.independent[0].checked > 1_000, "{:#?}", report.independent);
}

fn people(at: u32) -> Value {
    json!([{ "id": format!("11111111-0000-4000-8000-{at:012}"), "name": "Aoi", "role": "Main",
             "name_native": "葵", "description": "tall", "nicknames": ["Ao"], "gender": "Female",
             "voice_actors": [{ "name": "V", "language": "Japanese" }] },
           { "id": "11111111-0000-4000-8000-00000000ffff", "name": "Shared", "role": "Supporting",
             "name_variations": ["S"], "description": format!("seen in {at}") }])
}

fn scene() -> Vec<Value> {
    let of = |at: u32| {
        entry(
            at,
            json!({
                "synopsis": "s", "year": 2020, "tags": ["a", "b", "c"], "title_english": "E",
                "sources": [format!("https://myanimelist.net/anime/{at}"),
                            format!("https://anilist.co/anime/{at}7")],
                "staff_data": { "studios": [{ "name": "Kumo Works", "description": "d" }] },
                "related_anime": [{ "title": "Two", "relation_type": "SEQUEL",
                                    "url": "https://myanimelist.net/anime/2" },
                                  { "title": "Gone", "relation_type": "OTHER",
                                    "url": "https://myanimelist.net/anime/99" }],
                "relations": [{ "title": "M", "relation_type": "ADAPTATION",
                                "url": "https://myanimelist.net/manga/5" }],
                "characters": people(at),
                "episodes": [{ "episode_number": 1, "title": "One", "score": 2.5,
                               "aired": "2020-10-06T15:00:00Z" },
                             { "episode_number": 2, "title": "Two" }],
            }),
        )
    };
    vec![
        of(1),
        entry(2, json!({})),
        of(3),
        json!({ "manga": { "title": "M", "authors": ["W"],
                           "sources": ["https://myanimelist.net/manga/5"] } }),
    ]
}

/// A tampering, and what has to be named of it.
const TAMPERINGS: &[(&str, &str)] = &[
    ("UPDATE anime SET title = 'X' WHERE year = 2020", "changed anime title Anime 1 X"),
    ("UPDATE anime SET year = 2021 WHERE year = 2020", "changed anime year 2020 2021"),
    ("UPDATE anime SET synopsis = NULL", "changed anime synopsis s -"),
    ("UPDATE anime SET background = 'more' WHERE year = 2020", "changed anime background - more"),
    ("UPDATE anime SET episode_count = 13", "changed anime episode_count 12 13"),
    ("UPDATE anime SET status = 'FINISHED'", "changed anime status ONGOING FINISHED"),
    (
        "UPDATE anime SET meta = jsonb_set(meta, '{tags,1}', '\"z\"') WHERE year = 2020",
        "changed anime meta.tags",
    ),
    ("UPDATE anime SET meta = meta - 'tags'", "changed anime meta.tags"),
    ("UPDATE anime SET meta = meta || '{\"own\": 1}'", "changed anime meta.own - 1"),
    (
        "UPDATE anime SET meta = jsonb_set(meta, '{tags}', '[\"a\",\"b\",\"c\",\"d\"]') WHERE year = 2020",
        "changed anime meta.tags",
    ),
    ("DELETE FROM anime WHERE year IS NULL", "missing anime - Anime 2 -"),
    (
        "INSERT INTO anime (id, title, type, status) VALUES (gen_random_uuid(), 'Own', 'TV', 'UNKNOWN')",
        "extra anime - - Own",
    ),
    ("DELETE FROM episode WHERE episode_number = 2", "missing episode - Two -"),
    ("UPDATE episode SET score = 3 WHERE score = 2.5", "changed episode score 2.5 3"),
    (
        "UPDATE episode SET aired_at = aired_at + interval '1 microsecond' WHERE aired_at IS NOT NULL",
        "changed episode aired_at",
    ),
    (
        "INSERT INTO episode (id, anime_id, episode_number, title) SELECT gen_random_uuid(), id, 9, 'Own' FROM anime",
        "extra episode - - Own",
    ),
    ("DELETE FROM anime_character", "missing anime_character - Main -"),
    ("UPDATE anime_character SET role = 'Extra'", "changed anime_character role Main Extra"),
    ("UPDATE anime_character SET billing_order = 5", "changed anime_character billing_order 0 5"),
    (
        "UPDATE anime_character SET meta = meta - 'voice_actors'",
        "changed anime_character meta.voice_actors",
    ),
    (
        "UPDATE anime_character SET meta = meta - 'differs'",
        "changed character description seen in 3 seen in 1",
    ),
    (
        "INSERT INTO anime_character (anime_id, character_id, role) SELECT a.id, c.id, 'Own' FROM anime a, character c WHERE a.year IS NULL AND c.name = 'Aoi'",
        "extra anime_character - - Own",
    ),
    ("UPDATE character SET name = 'X' WHERE name = 'Aoi'", "changed character name Aoi X"),
    (
        "UPDATE character SET description = 'X' WHERE name = 'Shared'",
        "changed character description seen in 1 X",
    ),
    ("UPDATE character SET age = '9'", "changed character age - 9"),
    ("DELETE FROM character_alias WHERE alias = 'S'", "missing character_alias"),
    ("INSERT INTO character_alias SELECT id, 'Own' FROM character", "extra character_alias"),
    ("UPDATE character_alias SET alias = 'Oa' WHERE alias = 'Ao'", "missing character_alias"),
    (
        "DELETE FROM anime_xref WHERE source = 'anilist'",
        "missing anime_xref - https://anilist.co/anime/17 -",
    ),
    (
        "UPDATE anime_xref SET url = 'https://x' WHERE source = 'anilist'",
        "changed anime_xref url https://anilist.co/anime/17 https://x",
    ),
    (
        "UPDATE anime_xref SET external_id = external_id || '8' WHERE source = 'anilist'",
        "changed anime_xref external_id 17 178",
    ),
    (
        "INSERT INTO anime_xref SELECT id, 'own', id::text, 'https://own' FROM anime",
        "extra anime_xref - - https://own",
    ),
    ("DELETE FROM anime_company", "missing anime_company - Kumo Works -"),
    ("UPDATE company SET name = 'Kumo'", "changed company name - Kumo"),
    ("UPDATE company SET description = NULL", "changed company description d -"),
    ("UPDATE anime_company SET role = 'licensor'", "missing anime_company"),
    (
        "DELETE FROM anime_relation WHERE to_anime_id IS NULL",
        "missing anime_relation - https://myanimelist.net/anime/99 -",
    ),
    (
        "UPDATE anime_relation SET relation_type = 'PREQUEL' WHERE relation_type = 'SEQUEL'",
        "missing anime_relation",
    ),
    (
        "UPDATE anime_relation SET to_title = 'X' WHERE to_anime_id IS NULL",
        "changed anime_relation to_title Gone X",
    ),
    (
        "UPDATE anime_relation SET to_anime_id = (SELECT id FROM anime WHERE title = 'Anime 3') \
         WHERE from_anime_id = (SELECT id FROM anime WHERE title = 'Anime 1') AND to_anime_id IS NOT NULL",
        "changed anime_relation to_anime_id",
    ),
    (
        "UPDATE anime_relation SET to_ref_external_id = '98' WHERE to_anime_id IS NULL",
        "changed anime_relation to_ref_external_id mal 99 mal 98",
    ),
    (
        "UPDATE anime_relation SET to_urls = to_urls || 'https://own'::text",
        "changed anime_relation to_urls - https://own",
    ),
    (
        "INSERT INTO anime_relation (from_anime_id, relation_type, to_urls) SELECT id, 'OTHER', '{https://own}' FROM anime",
        "extra anime_relation - - https://own",
    ),
    (
        "UPDATE anime_manga_relation SET manga_title = NULL",
        "changed anime_manga_relation manga_title M -",
    ),
    ("UPDATE manga SET title = 'X'", "changed manga title M X"),
    ("UPDATE manga SET meta = '{}'", "changed manga meta.authors"),
    (
        "UPDATE anime_ingestion_state SET last_payload_sha256 = 'x'",
        "changed anime_ingestion_state last_payload_sha256",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_tampering_is_named_by_table_column_and_both_values_and_a_reordering_is_none() {
    let world = World::new().await;
    let path = world.artifact("anime_database.json", "", &scene());
    world.ingest(&path).await;
    let clean = compare(&world, &path, Level::Full).await;
    assert_eq!(clean.verdict, Verdict::Clean, "{:#?}", named(&clean));
    let mut missed = Vec::new();
    world
        .sql(
            "CREATE SCHEMA kept; DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM \
             pg_tables WHERE schemaname = 'public' LOOP \
             EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%I', t, t); END LOOP; END $$",
        )
        .await;
    for (tampering, wanted) in TAMPERINGS {
        world.sql(tampering).await;
        let report = compare(&world, &path, Level::Full).await;
        let found = named(&report);
        if !found.iter().any(|line| line.starts_with(wanted)) {
            missed.push(format!("{tampering}: wanted {wanted}, got {found:#?}"));
        }
        assert!(report.verdict == Verdict::Differences || !missed.is_empty());
        // Back to what it was, all tables as one.
        world
            .sql(
                "SET session_replication_role = replica; DO $$ DECLARE t text; BEGIN FOR t IN \
                 SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP \
                 EXECUTE format('DELETE FROM public.%I', t); \
                 EXECUTE format('INSERT INTO public.%I SELECT * FROM kept.%I', t, t); \
                 END LOOP; END $$",
            )
            .await;
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    // Rows in another order, members in another order, lists in another order.
    world
        .sql(
            "UPDATE anime SET meta = jsonb_set(meta, '{tags}', '[\"c\",\"a\",\"b\"]') \
             WHERE year = 2020; UPDATE anime SET updated_at = now(); \
             CREATE INDEX by_title ON anime (title DESC); CLUSTER anime USING by_title",
        )
        .await;
    let mut entries = scene();
    entries.reverse();
    let reordered = world.artifact("anime_database.json", "", &entries);
    let report = compare(&world, &reordered, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_kept_and_what_was_refused_is_accounted_for_and_what_was_not_is_named() {
    let world = World::new().await;
    world.say("2026-01-01", &[entry(1, json!({ "synopsis": "old", "tags": ["a", "b"] }))]).await;
    let newer = [
        entry(1, json!({ "title": "Other", "tags": ["a"], "episode_count": 3 })),
        entry(2, json!({ "synopsis": "nul \u{0} inside" })),
        json!("no object"),
    ];
    let path = world.artifact("newer.json", "2026-02-01", &newer);
    let ingested = world.ingest(&path).await;
    assert_eq!(ingested.total.counts.rejects(), 2, "{ingested:#?}");
    let report = compare(&world, &path, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    assert_eq!(report.streams[0].rejected, 2);
    assert!(report.documents.unwrap().reviewed >= 3, "{:?}", report.documents);
    // The older artifact is accounted for too: newer ones were heard since.
    let older = world.artifact(
        "old.json",
        "2026-01-01",
        &[entry(1, json!({ "synopsis": "old", "tags": ["a", "b"] }))],
    );
    let report = compare(&world, &older, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    assert_eq!(report.streams[0].superseded, 1);
    // A value that the queue does not explain, and a refusal without its record.
    world
        .sql("UPDATE anime SET title = 'Third'; DELETE FROM toolkit.reject WHERE reason = 'nul'")
        .await;
    let report = compare(&world, &path, Level::Full).await;
    let kinds: Vec<Kind> = report.differences.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [Kind::Unaccounted, Kind::Changed], "{:#?}", named(&report));
    assert_eq!(named(&report)[1], "changed anime title Other Third");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_differs_exits_by_it_and_what_it_advises_makes_it_good() {
    let world = World::new().await;
    let path = world.artifact("anime_database.json", "", &scene());
    world.ingest(&path).await;
    let source = path.to_str().unwrap();
    let parity = ["verify-parity", "--pack", "anime", "--source", source];
    let clean = world.run(&parity);
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
    assert!(stdout(&clean).contains("PARITY"), "{}", stdout(&clean));
    world
        .sql(
            "UPDATE anime SET title = 'X' WHERE title = 'Anime 1'; \
             DELETE FROM anime_character; DELETE FROM anime_relation WHERE to_anime_id IS NULL",
        )
        .await;
    let differs = world.run(&parity);
    assert_eq!(differs.status.code(), Some(1), "{}", stdout(&differs));
    let text = stdout(&differs);
    assert!(text.contains("source:   'Anime 1'") && text.contains("postgres: 'X'"), "{text}");
    assert!(stderr(&differs).contains("--again"), "{}", stderr(&differs));
    let json =
        world.run(&["--format", "json", "verify-parity", "--pack", "anime", "--source", source]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["verdict"], "differences");
    let plan =
        world.run(&["repair", "plan", "--run", "latest", "--pack", "anime", "--out", "p.json"]);
    assert_eq!(plan.status.code(), Some(2), "{}", stdout(&plan));
    assert!(stderr(&plan).contains("--again"), "{}", stderr(&plan));
    let again = world.run(&["backfill", "--pack", "anime", "--source", source, "--again"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let accepted = world.run(&["review", "accept", "--all"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", stderr(&accepted));
    let good = world.run(&parity);
    assert_eq!(good.status.code(), Some(0), "{}", stdout(&good));
    let missing = world.run(&["verify-parity", "--pack", "anime", "--source", "/nowhere"]);
    assert_eq!(missing.status.code(), Some(2), "{}", stdout(&missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_accepted_is_no_difference_to_the_artifact_that_said_otherwise() {
    let world = World::new().await;
    let edge = |at: u32| {
        json!({ "title": "Two", "relation_type": "SEQUEL",
                "url": format!("https://myanimelist.net/anime/{at}") })
    };
    let before = json!({
        "type": "MOVIE", "status": "FINISHED", "synopsis": "s", "tags": ["a", "b"],
        "sources": ["https://myanimelist.net/anime/1", "https://anilist.co/anime/7"],
        "related_anime": [edge(2), edge(3)],
        "characters": people(1),
        "episodes": [{ "episode_number": 1, "title": "One" }, { "episode_number": 2 }],
    });
    let first = world.artifact("first.json", "2026-01-01", &[entry(1, before)]);
    world.ingest(&first).await;
    let after = json!({
        "title": "Other", "type": "OVA", "status": "ONGOING", "episode_count": 3, "tags": ["b"],
        "related_anime": [edge(2)], "characters": [people(1)[0]],
        "episodes": [{ "episode_number": 1, "title": "One" }],
    });
    let second = world.artifact("second.json", "2026-01-02", &[entry(1, after)]);
    world.ingest(&second).await;
    let accepted = world.run(&["review", "accept", "--all"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", stderr(&accepted));
    for path in [&first, &second] {
        for level in [Level::Counts, Level::Full] {
            let report = compare(&world, path, level).await;
            assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
        }
    }
    // What nobody accepted is a difference all the same.
    world.sql("UPDATE anime SET title = 'Tampered', synopsis = 'tampered'").await;
    world.sql("DELETE FROM episode WHERE episode_number = 1").await;
    let report = compare(&world, &second, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Differences);
    let found = named(&report);
    assert!(found.iter().any(|line| line.starts_with("missing episode")), "{found:#?}");
    assert!(found.iter().any(|line| line.contains("Tampered")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_artifact_agrees_after_a_change_of_the_offline_database_was_accepted() {
    let world = World::new().await;
    let enriched = world.artifact("anime_database.json", "", &[entry(1, json!({}))]);
    world.ingest(&enriched).await;
    let offline = json!({
        "title": "Elsewhere", "type": "OVA", "status": "ONGOING", "episodes": 12,
        "sources": ["https://myanimelist.net/anime/1"],
    });
    let offline = world.artifact("anime-offline-database.json", "", &[offline]);
    world.ingest(&offline).await;
    let accepted = world.run(&["review", "accept", "--all"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", stderr(&accepted));
    for path in [&enriched, &offline] {
        let report = compare(&world, path, Level::Full).await;
        assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_character_that_an_entry_has_twice_keeps_what_the_first_says_and_nothing_is_lost() {
    let world = World::new().await;
    let id = "11111111-0000-4000-8000-000000000001";
    let twice = json!([
        { "id": id, "name": "Aoi", "age": "17", "favorites": 5 },
        { "id": id, "name": "Aoi H.", "role": "Main", "gender": "Female" },
    ]);
    let path = world.artifact("a.json", "", &[entry(1, json!({ "characters": twice }))]);
    world.ingest(&path).await;
    let row = world.text("SELECT concat_ws(' ', name, age, gender) FROM character").await;
    assert_eq!(row, "Aoi 17 Female");
    assert_eq!(world.text("SELECT count(*)::text FROM review_queue").await, "0");
    let report = compare(&world, &path, Level::Full).await;
    assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    let again = ingest::Options { again: true, ..ingest::Options::default() };
    let report = world.try_ingest(&path, again).await.unwrap();
    assert_eq!(report.total.counts.records.unchanged, 1, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enriched_entry_that_knows_less_than_the_offline_database_is_at_parity_with_it() {
    let world = World::new().await;
    let offline = json!({
        "title": "Elsewhere", "type": "TV", "status": "FINISHED", "episodes": 12,
        "sources": ["https://myanimelist.net/anime/1"],
    });
    let offline = world.artifact("anime-offline-database.json", "", &[offline]);
    world.ingest(&offline).await;
    let less = json!({
        "type": "UNKNOWN", "status": "UNKNOWN", "episode_count": 0, "source_material": "UNKNOWN",
    });
    let enriched = world.artifact("anime_database.json", "", &[entry(1, less)]);
    world.ingest(&enriched).await;
    let row = "SELECT concat_ws(' ', type, status, episode_count, meta ->> 'source_material') \
               FROM anime";
    assert_eq!(world.text(row).await, "TV FINISHED 12 UNKNOWN");
    for path in [&offline, &enriched] {
        let report = compare(&world, path, Level::Full).await;
        assert_eq!(report.verdict, Verdict::Clean, "{:#?}", named(&report));
    }
}
