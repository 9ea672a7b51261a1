//! What backfill recorded accounts for what differs, and only while the record stands.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _};
use toolkit::demo::Shape;
use toolkit::demo::generate::SECRET_MARK;
use toolkit::parity::{Kind, Level, Options, Report, Verdict};

use crate::support::stdout;
use crate::support::world::{World, lines};

const PACK: &str = r#"
[pack]
name = "mine"
version = 1
[defaults]
zone = "UTC"
redact_members = ["api_key"]

[[stream]]
name = "notes"
source = { sqlite = "app.sqlite", table = "notes" }
target = "public.notes"
key = ["id"]
conflict = { rule = "newer", by = "at" }

[[stream]]
name = "logs"
source = { sqlite = "app.sqlite", table = "logs" }
target = "public.logs"
key = ["id"]
"#;

const TARGET: &str = "
CREATE TABLE notes (id text PRIMARY KEY, body text, doc jsonb, at timestamptz);
CREATE TABLE logs (id int8 PRIMARY KEY, line text)";

const SOURCE: &str = r#"
CREATE TABLE notes (id TEXT PRIMARY KEY, body TEXT, doc TEXT, at TEXT);
CREATE TABLE logs (id INTEGER PRIMARY KEY, line TEXT);
INSERT INTO notes VALUES
 ('n1', 'old', '{}', '2024-01-01T00:00:00'),
 ('n2', 'postgres://u:hunter2@h/d', '{"api_key":"sesame-opens","a":1}', '2024-01-01T00:00:00'),
 ('n3', 'three', '[]', '2024-01-01T00:00:00');
INSERT INTO logs VALUES (1, 'one'), (2, 'two'), (3, 'three');
"#;

fn of_kind(report: &Report, kind: Kind) -> usize {
    report.differences.iter().filter(|difference| difference.kind == kind).count()
}

#[tokio::test]
async fn without_its_reject_or_ledger_row_a_record_is_unaccounted() {
    let (world, _) = World::generated(5, &Shape::tiny()).await;
    world.backfill().await;
    world.assert_clean().await;
    world.sql("CREATE TABLE public.rejects AS TABLE toolkit.reject").await;
    let rejects: usize =
        world.text("SELECT count(*)::text FROM public.rejects").await.parse().unwrap();
    assert!(rejects > 0);
    world.sql("DELETE FROM toolkit.reject").await;
    let report = world.verify().await;
    // Of two rows under one key only the record of the refusal tells which one is meant.
    let repeated: usize = world
        .text("SELECT count(*)::text FROM public.rejects WHERE reason = 'duplicate_key'")
        .await
        .parse()
        .unwrap();
    assert_eq!(
        of_kind(&report, Kind::Unaccounted),
        rejects - repeated,
        "{:#?}",
        report.differences
    );
    assert_eq!(of_kind(&report, Kind::Duplicate), repeated);
    assert_eq!(report.differing_rows, rejects as u64);
    let printed = world.verify_parity(&[]);
    assert_eq!(printed.status.code(), Some(1));
    assert!(!stdout(&printed).contains(SECRET_MARK));
    world.sql("INSERT INTO toolkit.reject SELECT * FROM public.rejects").await;
    world.assert_clean().await;

    let entry = "toolkit.ledger WHERE id = (SELECT min(id) FROM toolkit.ledger WHERE secret)";
    let place = world.text(&format!("SELECT source || ', ' || locator FROM {entry}")).await;
    world.sql(&format!("DELETE FROM {entry}")).await;
    let report = world.verify().await;
    assert_eq!(report.differing_rows, 1, "{:#?}", report.differences);
    assert_eq!(report.differences[0].kind, Kind::Unaccounted);
    assert_eq!(report.differences[0].locator.as_deref(), Some(place.as_str()));
}

#[tokio::test]
async fn a_secret_put_back_is_a_difference_and_is_not_printed() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.assert_clean().await;
    assert_eq!(world.text("SELECT doc->>'api_key' FROM notes WHERE id = 'n2'").await, "***");
    world
        .sql(
            r#"UPDATE notes SET body = 'postgres://u:hunter2@h/d', doc = '{"api_key":"sesame-opens","a":1}'
               WHERE id = 'n2'"#,
        )
        .await;
    let report = world.verify().await;
    let columns: Vec<_> = report.differences.iter().map(|d| d.column.as_deref()).collect();
    assert_eq!(columns, [Some("body"), Some("doc")]);
    let source = world.source.to_str().unwrap();
    let printed = [
        stdout(&world.verify_parity(&[])),
        stdout(&world.run(&["verify-parity", "--pack", &world.pack, "--source", source])),
        world.text("SELECT string_agg(d::text, '') FROM toolkit.parity_difference d").await,
    ];
    for text in printed {
        assert!(text.contains("api_key"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("sesame"), "{text}");
    }
}

#[tokio::test]
async fn a_superseded_row_is_accounted_for_until_the_newer_one_changes() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.sql("INSERT INTO notes VALUES ('n1', 'newer', '{}', '2024-06-01T00:00:00Z')").await;
    world.backfill().await;
    for level in [Level::Full, Level::Counts, Level::Sample { n: 100, seed: 1 }] {
        let report = world.verify_at(level).await;
        assert_eq!(report.verdict, Verdict::Clean, "{level:?}: {:#?}", report.differences);
    }
    assert_eq!(world.verify().await.units[0].superseded, 1);
    world.sql("UPDATE notes SET body = 'tampered' WHERE id = 'n1'").await;
    let found = lines(&world.verify().await.differences);
    assert!(found[0].starts_with("changed public.notes id=n1 "), "{found:?}");
    world.backfill().await;
    world.assert_clean().await;
    world.sql("DELETE FROM notes WHERE id = 'n1'").await;
    assert_eq!(lines(&world.verify().await.differences), ["missing public.notes id=n1"]);
    world.backfill().await;
    world.assert_clean().await;
}

#[tokio::test]
async fn a_value_that_changed_in_the_source_after_the_backfill_is_named() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.sqlite("UPDATE notes SET body = 'four' WHERE id = 'n3'; DELETE FROM logs WHERE id = 2");
    let report = world.verify().await;
    assert_eq!(
        lines(&report.differences),
        ["changed public.notes id=n3 body: 'four' -> 'three'", "extra public.logs id=2"]
    );
    assert_eq!(report.differences[0].locator.as_deref(), Some("app.sqlite, rowid 3"));
}

#[tokio::test]
async fn before_any_backfill_everything_is_missing_and_exit_is_1() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    let printed = world.verify_parity(&[]);
    assert_eq!(printed.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(&stdout(&printed)).unwrap();
    let kinds: Vec<&str> = report["differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|d| d["kind"].as_str())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "missing").count(), 6, "{kinds:?}");
    // Two values of n2 would be stored changed, and there is no record of it yet.
    assert_eq!(kinds.iter().filter(|kind| **kind == "unaccounted").count(), 2, "{kinds:?}");
}

const VERSIONS: &str =
    "SELECT string_agg(id::text || ctid || xmin || xmax, ' ' ORDER BY ctid) FROM ";

#[tokio::test]
async fn verifying_rewrites_no_row_of_the_target_and_none_of_the_source() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.sql("UPDATE notes SET body = 'x' WHERE id = 'n3'").await;
    let file = world.source.join("app.sqlite");
    let state = async || {
        (
            world.text(&format!("{VERSIONS} notes")).await,
            world.text(&format!("{VERSIONS} logs")).await,
            world.text("SELECT count(*)::text FROM toolkit.ledger").await,
            std::fs::read(&file).unwrap(),
        )
    };
    let before = state().await;
    for level in [Level::Full, Level::Counts, Level::Sample { n: 2, seed: 1 }] {
        world.verify_at(level).await;
    }
    assert!(state().await == before);
}

#[tokio::test]
async fn a_writer_between_the_passes_is_not_taken_for_drift() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.sql("UPDATE notes SET body = 'planted' WHERE id = 'n3'").await;
    // The second table is locked, so the verification stands between its first table, already
    // read, and the passes that read both again.
    let mut writer = world.postgres.dedicated().await.unwrap();
    let mut locking = writer.begin().await.unwrap();
    locking.execute("LOCK TABLE logs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let write_meanwhile = async {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted \
                       AND relation = 'logs'::regclass";
        while world.text(waiting).await == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world
            .sql("UPDATE notes SET body = body || ' later'; DELETE FROM notes WHERE id = 'n1'")
            .await;
        world.sql("INSERT INTO notes VALUES ('n9', 'new', '{}', now())").await;
        locking.execute("DELETE FROM logs WHERE id = 1").await.unwrap();
        locking.commit().await.unwrap();
    };
    // Without a record on disk the stores are read again, in the snapshot of the first pass.
    let options = Options { spool_bytes_max: 0, ..Options::default() };
    let (report, ()) = tokio::join!(world.verify_with(&options), write_meanwhile);
    assert!(report.changed_sources.is_empty());
    assert_eq!(
        lines(&report.differences),
        ["changed public.notes id=n3 body: 'three' -> 'planted'"]
    );
    assert!(world.verify().await.differing_rows > 1, "the next one sees what was written");
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_read_is_named_beside_the_differences() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    let mut locking = world.postgres.dedicated().await.unwrap();
    let mut locking = locking.begin().await.unwrap();
    locking.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let write_meanwhile = async {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted \
                       AND relation = 'notes'::regclass";
        while world.text(waiting).await == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.sqlite("INSERT INTO logs VALUES (4, 'four')");
        locking.execute("DELETE FROM notes WHERE id = 'n3'").await.unwrap();
        locking.execute("UPDATE notes SET body = 'x'").await.unwrap();
        locking.rollback().await.unwrap();
        world.sql("INSERT INTO logs VALUES (5, 'five')").await;
    };
    world.sql("INSERT INTO logs VALUES (6, 'six')").await;
    let options = Options { spool_bytes_max: 0, ..Options::default() };
    let (report, ()) = tokio::join!(world.verify_with(&options), write_meanwhile);
    assert_eq!(report.changed_sources, ["app.sqlite"]);
    assert!(lines(&report.differences).contains(&"extra public.logs id=6".to_owned()));
}
