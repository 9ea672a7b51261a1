//! Pack `webtoon`: what `SQLAlchemy` wrote into `SQLite`, moved whole, and the questions that the
//! studio's document asks.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use sqlx::{Executor as _, SqlSafeStr as _};
use toolkit::ErrorKind;
use toolkit::backfill::{self, Counts};
use toolkit::query::{self, Limits, Question};

use crate::support::world::World;

fn question(name: &str) -> &'static Question {
    query::find("webtoon", name).unwrap()
}

async fn ask(world: &World, name: &str, arguments: &[&str]) -> Vec<Map<String, Value>> {
    let mut connection = world.postgres.dedicated().await.unwrap();
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let answer = query::ask(&mut connection, question(name), &arguments, Limits::default()).await;
    answer.unwrap_or_else(|error| panic!("{name}: {error}")).rows
}

fn totals(report: &backfill::Report) -> Counts {
    let mut totals = Counts::default();
    report.streams.iter().for_each(|stream| totals.add(&stream.counts));
    totals
}

fn column(rows: &[Map<String, Value>], name: &str) -> Vec<Value> {
    rows.iter().map(|row| row[name].clone()).collect()
}

/// The uuid that ends in `number`.
fn id(number: u8) -> String {
    format!("00000000-0000-0000-0000-0000000000{number:02x}")
}

/// One project 01 and story 02 with scenes 03 and 04; uuids are written `#01`.
async fn studio(more: &str) -> World {
    let world = World::builtin("webtoon", Path::new("nowhere")).await;
    let statements = format!(
        "INSERT INTO webtoon.projects (project_id, name) VALUES ('#01', 'p');
         INSERT INTO webtoon.stories (story_id, project_id, title, default_image_style)
             VALUES ('#02', '#01', 's', 'soft');
         INSERT INTO webtoon.scenes (scene_id, story_id, source_text)
             VALUES ('#03', '#02', 'one'), ('#04', '#02', 'two');
         {more}"
    );
    world.sql(&statements.replace('#', "00000000-0000-0000-0000-0000000000")).await;
    world
}

#[tokio::test]
async fn a_studio_goes_in_whole_and_a_second_run_changes_nothing() {
    let world = World::webtoon(7, 400).await;
    let first = world.backfill().await;
    assert_eq!((totals(&first).records.rejected, totals(&first).read > 500), (0, true));
    world.assert_clean().await;
    let second = world.backfill().await;
    assert_eq!(totals(&second).records.unchanged, totals(&second).read);
}

#[tokio::test]
async fn json_null_and_sql_null_stay_different() {
    let world = World::webtoon(11, 600).await;
    world.backfill().await;
    let file = rusqlite::Connection::open(world.source.join("webtoon.db")).unwrap();
    for (table, column) in [("audit_logs", "old_value"), ("stories", "progress")] {
        let kinds = format!(
            "SELECT count(*) FILTER (WHERE {column} IS NULL) || ' ' || \
             count(*) FILTER (WHERE {column} = 'null')"
        );
        let source: String =
            file.query_row(&format!("{kinds} FROM {table}"), [], |row| row.get(0)).unwrap();
        let target = world.text(&format!("{kinds} FROM webtoon.{table}")).await;
        assert_eq!(target, source, "{table}.{column}");
        let has_both = !source.starts_with("0 ") && !source.ends_with(" 0");
        assert!(table == "stories" || has_both, "{source}");
    }
}

#[tokio::test]
async fn the_real_studio_goes_in_and_its_lineages_and_styles_are_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/webtoon");
    let Ok(truth) = std::fs::read(folder.join("webtoon.truth.json")) else {
        println!("skipped: there is no {}", folder.display());
        return;
    };
    let truth: Value = serde_json::from_slice(&truth).unwrap();
    let world = World::builtin("webtoon", &folder).await;
    assert_eq!(totals(&world.backfill().await).records.rejected, 0);
    world.assert_clean().await;
    for (table, rows) in truth["row_counts"].as_object().unwrap() {
        let count = world.text(&format!("SELECT count(*)::text FROM webtoon.{table}")).await;
        assert_eq!(count, rows.to_string(), "{table}");
    }
    let depths: BTreeMap<String, Value> = ask(&world, "lineage-depths", &[])
        .await
        .into_iter()
        .map(|row| (row["depth"].to_string(), row["artifacts"].clone()))
        .collect();
    let expected: BTreeMap<String, Value> =
        serde_json::from_value(truth["lineage_depth_histogram"].clone()).unwrap();
    assert_eq!(depths, expected);
    assert_eq!(ask(&world, "lineage-cycles", &[]).await, []);
    let mut chains: BTreeMap<String, u64> = BTreeMap::new();
    for (preset, style) in truth["style_effective"].as_object().unwrap() {
        let rows = ask(&world, "effective-style", &[preset]).await;
        assert_eq!((&rows[0]["style_config"], &rows[0]["problems"]), (style, &json!([])));
        *chains.entry(rows[0]["chain_depth"].to_string()).or_default() += 1;
    }
    assert_eq!(json!(chains), truth["style_depth_histogram"]);
    let gone: u64 = ask(&world, "soft-references", &[])
        .await
        .iter()
        .filter(|row| row["source"] == "audit_logs.entity_id")
        .map(|row| row["dangling"].as_u64().unwrap())
        .sum();
    assert_eq!(json!(gone), truth["audit_rows_for_deleted_entities"]);
}

#[tokio::test]
async fn every_question_is_a_statement_that_the_migrated_database_can_prepare() {
    let world = World::builtin("webtoon", Path::new("nowhere")).await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    for question in query::questions("webtoon") {
        let prepared = connection.prepare(question.sql.into_sql_str()).await;
        let statement = prepared.unwrap_or_else(|error| panic!("{}: {error}", question.name));
        let wanted = sqlx::Statement::parameters(&statement).map_or(0, |given| match given {
            sqlx::Either::Left(types) => types.len(),
            sqlx::Either::Right(count) => count,
        });
        assert_eq!(wanted, question.arguments.len(), "{}", question.name);
    }
}

#[tokio::test]
async fn fifty_writers_get_versions_without_a_gap_or_a_duplicate() {
    let world = studio("").await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(16)
        .acquire_timeout(std::time::Duration::from_mins(2))
        .connect(world.database.url())
        .await
        .unwrap();
    let writers = (0..50).map(|writer| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut transaction = pool.begin().await.unwrap();
            sqlx::query("SELECT webtoon.add_artifact($1::text::uuid, 'panel_plan', '{}')")
                .bind(id(3))
                .execute(&mut *transaction)
                .await
                .unwrap();
            // Every fifth gives its version back.
            if writer % 5 == 0 {
                transaction.rollback().await.unwrap();
            } else {
                transaction.commit().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let versions = world
        .text("SELECT string_agg(version::text, ' ' ORDER BY version) FROM webtoon.artifacts")
        .await;
    let expected: Vec<String> = (1..=40).map(|version| version.to_string()).collect();
    assert_eq!(versions, expected.join(" "));
    assert_eq!(ask(&world, "version-anomalies", &[]).await, []);
}

#[tokio::test]
async fn canonical_codes_count_on_from_a_to_z_and_aa_and_know_their_place() {
    let world = studio("").await;
    let codes = "SELECT string_agg(webtoon.canonical_code(n), ' ' ORDER BY n) \
                 FROM unnest(ARRAY[1, 26, 27, 52, 702, 703]) AS n";
    assert_eq!(world.text(codes).await, "CHAR_A CHAR_Z CHAR_AA CHAR_AZ CHAR_ZZ CHAR_AAA");
    let inverse = "SELECT count(*)::text FROM generate_series(1, 2000) AS n \
                   WHERE webtoon.canonical_number(webtoon.canonical_code(n)) IS DISTINCT FROM n";
    assert_eq!(world.text(inverse).await, "0");
    for expected in ["CHAR_A", "CHAR_B"] {
        let added = "INSERT INTO webtoon.characters (character_id, project_id, canonical_code, name) \
                     SELECT gen_random_uuid(), project_id, \
                     webtoon.allocate_canonical_code(project_id), 'c' \
                     FROM webtoon.projects RETURNING canonical_code";
        assert_eq!(world.text(added).await, expected);
    }
    let rows = ask(&world, "project-characters", &[&id(1)]).await;
    assert_eq!(column(&rows, "canonical_code"), [json!("CHAR_A"), json!("CHAR_B")]);
}

#[tokio::test]
async fn a_circle_of_artifacts_or_presets_is_named_and_ends() {
    let world = studio(
        "INSERT INTO webtoon.artifacts (artifact_id, scene_id, type, version) VALUES
             ('#10', '#03', 'plan', 1), ('#11', '#03', 'plan', 2), ('#12', '#03', 'plan', 3);
         UPDATE webtoon.artifacts SET parent_id = '#11' WHERE artifact_id = '#10';
         UPDATE webtoon.artifacts SET parent_id = '#10' WHERE artifact_id IN ('#11', '#12');
         INSERT INTO webtoon.style_presets (preset_id, style_type, name, label, style_config)
             VALUES ('#20', 'image', 'a', 'a', '{\"x\": 1, \"y\": 1}'),
                    ('#21', 'image', 'b', 'b', '{\"y\": null}');
         UPDATE webtoon.style_presets SET parent_id = '#21' WHERE preset_id = '#20';
         UPDATE webtoon.style_presets SET parent_id = '#20' WHERE preset_id = '#21';",
    )
    .await;
    let rows = ask(&world, "lineage", &[&id(0x12)]).await;
    let ids = [0x12, 0x10, 0x11, 0x10].map(|number| json!(id(number)));
    assert_eq!(column(&rows, "artifact_id"), ids);
    assert_eq!(column(&rows, "problem"), [json!(null), json!(null), json!(null), json!("cycle")]);
    let circle = ask(&world, "lineage-cycles", &[]).await;
    assert_eq!(circle.len(), 3);
    let rows = ask(&world, "effective-style", &[&id(0x21)]).await;
    assert_eq!(rows[0]["style_config"], json!({"x": 1, "y": null}));
    assert_eq!(rows[0]["problems"], json!(["cycle"]));
    assert_eq!(ask(&world, "derived", &[&id(0x10)]).await.len(), 4);
}

#[tokio::test]
async fn what_is_out_of_order_is_found_by_its_question() {
    let world = studio(
        "INSERT INTO webtoon.artifacts (artifact_id, scene_id, type, version) VALUES
             ('#10', '#03', 'scene_intent', 2), ('#11', '#03', 'scene_intent', 5);
         INSERT INTO webtoon.environment_anchors (environment_id, description, usage_count)
             VALUES ('#30', 'a room', 2);
         UPDATE webtoon.scenes SET environment_id = '#30', image_style_override = 'own'
             WHERE scene_id = '#03';
         INSERT INTO webtoon.style_presets (preset_id, style_type, name, label)
             VALUES ('#20', 'image', 'own', 'o');
         INSERT INTO webtoon.audit_logs (audit_id, entity_type, entity_id, action, request_id)
             VALUES ('#40', 'scene', '#03', 'create', 'r1'), ('#41', 'scene', '#77', 'made', 'r1');
         INSERT INTO webtoon.images (image_id, image_url) VALUES ('#60', 'u');
         INSERT INTO webtoon.characters (character_id, name) VALUES ('#50', 'c');
         INSERT INTO webtoon.character_variants (variant_id, character_id, generated_image_ids)
             VALUES ('#51', '#50', '[\"#60\", \"#61\", \"2b02fd2f-ee37-4080-893c-cc295c9b330\", null]'),
                    ('#52', '#50', 'null');",
    )
    .await;
    let rows = ask(&world, "version-anomalies", &[]).await;
    assert_eq!((&rows[0]["gaps"], &rows[0]["duplicates"]), (&json!(3), &json!(0)));
    assert_eq!(ask(&world, "missing-artifacts", &[&id(3)]).await.len(), 7);
    assert_eq!(ask(&world, "missing-artifacts", &[]).await.len(), 15);
    let rows = ask(&world, "environment-usage", &[]).await;
    assert_eq!((&rows[0]["scenes"], &rows[0]["agrees"]), (&json!(1), &json!(false)));
    let rows = ask(&world, "scene-styles", &[&id(2)]).await;
    assert_eq!(column(&rows, "image_style"), [json!("own"), json!("soft")]);
    assert_eq!(column(&rows, "decided_by"), [json!("scene"), json!("story")]);
    assert_eq!(column(&rows, "preset_id"), [json!(id(0x20)), json!(null)]);
    let rows = ask(&world, "soft-references", &[]).await;
    let of = |row: &Map<String, Value>| {
        ["references_made", "dangling", "malformed"].map(|name| row[name].as_u64().unwrap())
    };
    assert_eq!(of(&rows[0]), [2, 1, 0]);
    assert_eq!(rows[1]["source"], "character_variants.generated_image_ids");
    assert_eq!(of(&rows[1]), [4, 3, 2]);
    let rows = ask(&world, "value-drift", &[]).await;
    assert_eq!(column(&rows, "value"), [json!("made")]);
    assert_eq!(ask(&world, "audit-request", &["r1"]).await.len(), 2);
    assert_eq!(ask(&world, "audit-entity", &["scene", &id(3)]).await.len(), 1);
}

#[tokio::test]
async fn a_question_asked_wrongly_says_how_it_is_asked() {
    let world = World::builtin("webtoon", Path::new("nowhere")).await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    for arguments in [vec![], vec!["x".to_owned()], vec![id(1), id(2)]] {
        let question = question("lineage");
        let refused = query::ask(&mut connection, question, &arguments, Limits::default()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{arguments:?}");
        assert!(refused.advice_text().unwrap().contains("lineage ARTIFACT"));
    }
    let unknown = query::find("webtoon", "linage").unwrap_err();
    assert!(unknown.advice_text().unwrap().contains("lineage"));
    let done = world.run(&["query", "webtoon", "global-actors"]);
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(0), b"no rows\n".as_slice()));
    assert_eq!(world.run(&["query", "webtoon", "lineage"]).status.code(), Some(2));
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_ended_and_is_an_error_of_its_own() {
    let world = studio("").await;
    let mut other = world.postgres.dedicated().await.unwrap();
    other.execute("BEGIN; LOCK TABLE webtoon.characters IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut connection = world.postgres.dedicated().await.unwrap();
    let limits = Limits { timeout: std::time::Duration::from_millis(50), ..Limits::default() };
    let late = query::ask(&mut connection, question("global-actors"), &[], limits).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    other.execute("ROLLBACK").await.unwrap();
    let again = query::ask(&mut connection, question("global-actors"), &[], limits).await;
    assert_eq!(again.unwrap().rows.len(), 0);
}
