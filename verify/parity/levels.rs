//! What each level finds, what it says about itself, and how a command reports it.

use serde_json::Value;
use toolkit::parity::{Level, Report, Verdict};

use crate::support::world::{World, lines};
use crate::support::{stderr, stdout};

const PACK: &str = r#"
[pack]
name = "mine"
version = 1

[[stream]]
name = "things"
source = { sqlite = "app.sqlite", table = "things" }
target = "public.things"
key = ["id"]
"#;

const TARGET: &str = "CREATE TABLE things (id int8 PRIMARY KEY, note text)";

async fn thousand() -> World {
    let source = "CREATE TABLE things (id INTEGER PRIMARY KEY, note TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO things SELECT i, 'note ' || i FROM n";
    let world = World::own(PACK, TARGET, source).await;
    world.backfill().await;
    world
}

fn named(report: &Report) -> Vec<String> {
    lines(&report.differences)
}

#[tokio::test]
async fn counts_find_rows_that_are_too_few_or_too_many_and_read_no_values() {
    let world = thousand().await;
    assert_eq!(world.verify_at(Level::Counts).await.verdict, Verdict::Clean);
    world.sql("UPDATE things SET note = 'other' WHERE id = 3").await;
    assert_eq!(world.verify_at(Level::Counts).await.verdict, Verdict::Clean);
    world.sql("DELETE FROM things WHERE id IN (4, 5)").await;
    let report = world.verify_at(Level::Counts).await;
    assert_eq!((report.verdict, report.units[0].missing), (Verdict::Differences, 2));
    world.sql("INSERT INTO things SELECT i, '' FROM generate_series(2001, 2005) AS i").await;
    let report = world.verify_at(Level::Counts).await;
    assert_eq!((report.units[0].missing, report.units[0].extra), (0, 3));
}

#[tokio::test]
async fn a_sample_is_the_same_for_one_seed_and_finds_everything_once_it_covers_everything() {
    let world = thousand().await;
    world.sql("UPDATE things SET note = note || '!' WHERE id % 10 = 0").await;
    let sample = |n, seed| world.verify_at(Level::Sample { n, seed });
    let (first, again, other) = (sample(100, 1).await, sample(100, 1).await, sample(100, 2).await);
    assert_eq!(named(&first), named(&again));
    assert_ne!(named(&first), named(&other), "another seed takes other keys");
    for report in [&first, &other] {
        let bound = report.units[0].sample.unwrap();
        assert_eq!((bound.n, bound.differing), (100, report.units[0].changed));
        assert!((0.1..0.35).contains(&bound.upper_bound), "{bound:?} must bound 10 %");
        assert!(report.differing_rows < 100);
    }
    let whole = sample(1000, 3).await;
    assert_eq!(whole.differing_rows, 100);
    assert_eq!(whole.units[0].sample.unwrap().upper_bound.to_string(), "0.1");
}

#[tokio::test]
async fn a_sample_that_misses_a_lost_row_still_says_that_rows_are_missing() {
    let world = thousand().await;
    world.sql("DELETE FROM things WHERE id = 500").await;
    for seed in 0..3 {
        let report = world.verify_at(Level::Sample { n: 1, seed }).await;
        assert_eq!((report.verdict, report.units[0].missing), (Verdict::Differences, 1));
    }
}

#[tokio::test]
async fn identical_rows_of_a_table_without_a_key_are_at_parity_at_every_level() {
    let source = "CREATE TABLE things (id INTEGER, note TEXT);
        INSERT INTO things VALUES (1, 'same'), (1, 'same'), (2, 'one')";
    let world = World::own(PACK, "CREATE TABLE things (id int8, note text)", source).await;
    world.backfill().await;
    for level in [Level::Full, Level::Counts, Level::Sample { n: 10, seed: 1 }] {
        let report = world.verify_at(level).await;
        assert_eq!(report.differing_rows, 0, "{level:?}: {:#?}", report.differences);
    }
}

#[tokio::test]
async fn rows_outside_every_slice_are_said_to_be_not_compared() {
    let pack = PACK.replace("key = [\"id\"]", "key = [\"kind\", \"id\"]")
        + "[stream.columns]\nkind = { value = \"mine\" }\nid = \"id\"\nnote = \"note\"\n";
    let target = "CREATE TABLE things (kind text, id int8, note text, PRIMARY KEY (kind, id))";
    let source = "CREATE TABLE things (id INTEGER PRIMARY KEY, note TEXT);
        INSERT INTO things VALUES (1, 'one')";
    let world = World::own(&pack, target, source).await;
    world.backfill().await;
    assert!(world.assert_clean().await.outside_slices.is_empty());
    world.sql("INSERT INTO things VALUES ('other', 1, ''), ('other', 2, '')").await;
    let report = world.assert_clean().await;
    assert_eq!(report.outside_slices.len(), 1);
    assert_eq!(report.outside_slices[0].rows, 2);
    let shown = world.run(&[
        "verify-parity",
        "--pack",
        &world.pack,
        "--source",
        world.source.to_str().unwrap(),
    ]);
    assert!(stdout(&shown).contains("NOT COMPARED: 2 rows of public.things"), "{}", stdout(&shown));
}

#[tokio::test]
async fn the_report_is_json_of_one_shape_and_exit_codes_are_0_1_and_2() {
    let world = thousand().await;
    let clean = world.verify_parity(&[]);
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
    world.sql("UPDATE things SET note = 'b' WHERE id = 7").await;
    let differs = world.verify_parity(&["--level", "sample", "--n", "1000", "--seed", "5"]);
    assert_eq!(differs.status.code(), Some(1), "{}", stderr(&differs));
    let names = |value: &Value| -> Vec<String> {
        value.as_object().unwrap().keys().map(ToString::to_string).collect()
    };
    let report: Value = serde_json::from_str(&stdout(&differs)).unwrap();
    let expected = "run_id pack level digests against verdict streams units differences \
        differing_rows independent not_checked outside_slices unmapped_columns changed_sources \
        left_out changing_triggers snapshot_lsn snapshot_at settling stores documents seconds";
    assert_eq!(names(&report).join(" "), expected);
    let expected = "stream target kind key column source_value target_value source_digest \
        target_digest locator corrected";
    assert_eq!(names(&report["differences"][0]).join(" "), expected);
    let expected = "target against source_rows target_rows missing extra changed duplicates \
        superseded sample source_root target_root";
    assert_eq!(names(&report["units"][0]).join(" "), expected);
    assert_eq!(names(&report["units"][0]["sample"]).join(" "), "n differing upper_bound");
    let expected = "stream read rejected skipped superseded ledgered corrected \
        unaccounted recorded";
    assert_eq!(names(&report["streams"][0]).join(" "), expected);
    assert_eq!((&report["verdict"], &report["level"]), (&"differences".into(), &"sample".into()));
    assert_eq!(report["differences"][0]["key"], serde_json::json!({ "id": "7" }));
    assert_eq!(report["differences"][0]["locator"], "app.sqlite, rowid 7");

    let unknown = world.verify_parity(&["--stream", "nothing"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    let empty = world.database.folder().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let nothing = World { source: empty, ..world };
    let none = nothing.verify_parity(&[]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    assert_eq!(stdout(&none), "", "what could not be checked has no report");
}
