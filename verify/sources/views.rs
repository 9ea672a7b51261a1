//! Views: evaluated once, held on disk, resumed where they were.

use std::path::Path;

use rusqlite::Connection;
use toolkit::cast::Value;
use toolkit::source::sqlite::TableSource;
use toolkit::source::{Content, Flow, Position, SourceFile};

use crate::support::backfill::Move;

fn open(path: &Path) -> TableSource {
    let file = SourceFile {
        path: path.to_path_buf(),
        relative: "app.sqlite".to_owned(),
        sha256: String::new(),
        size_bytes: 0,
    };
    TableSource::open(&file, "seen", None).unwrap()
}

fn some(
    view: &mut TableSource,
    from: Option<&Position>,
    most: usize,
) -> (Vec<String>, Option<Position>) {
    let mut rows = Vec::new();
    let next = view.read_range(from, None, &mut |record| {
        let Content::Columns { values, .. } = &record.content else { panic!("columns") };
        let shown = values.iter().map(|value| match value {
            Value::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
            other => format!("{other:?}"),
        });
        rows.push(format!("{}: {}", record.locator, shown.collect::<Vec<_>>().join(" ")));
        Ok(if rows.len() == most { Flow::Pause } else { Flow::Continue })
    });
    (rows, next.unwrap())
}

#[test]
fn a_paused_view_holds_no_lock_and_is_not_evaluated_again() {
    for mode in ["DELETE", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sqlite");
        let application = Connection::open(&path).unwrap();
        application.busy_timeout(std::time::Duration::ZERO).unwrap();
        let sql = format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE item (id INTEGER PRIMARY KEY, body); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
             INSERT INTO item SELECT i, 'body ' || i FROM n; \
             CREATE VIEW seen AS SELECT id, body FROM item ORDER BY id DESC"
        );
        application.execute_batch(&sql).unwrap();
        let mut view = open(&path);
        let (rows, from) = some(&mut view, None, 10);
        assert_eq!(rows[0], "row 1: Integer(1000) 'body 1000'");
        application.execute_batch("DELETE FROM item").unwrap();
        let (rows, next) = some(&mut view, from.as_ref(), usize::MAX);
        assert_eq!((rows.len(), next), (990, None), "{mode}");
        assert_eq!(rows[989], "row 1000: Integer(1) 'body 1'", "{mode}");
    }
}

#[test]
fn another_process_goes_on_at_the_very_row_and_values_keep_their_storage_class() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite");
    let application = Connection::open(&path).unwrap();
    application
        .execute_batch(
            "CREATE TABLE a (v INTEGER); CREATE TABLE b (v TEXT); \
             INSERT INTO a VALUES (7), (x'00ff'), ('seven'), (NULL), (1.5); \
             INSERT INTO b VALUES ('007'), ('1e3'); \
             CREATE VIEW seen AS SELECT v FROM a UNION ALL SELECT v FROM b",
        )
        .unwrap();
    let (whole, _) = some(&mut open(&path), None, usize::MAX);
    assert_eq!(whole[5..], ["row 6: '007'", "row 7: '1e3'"]);
    let (mut rows, mut from) = (Vec::new(), None);
    loop {
        let (more, next) = some(&mut open(&path), from.as_ref(), 1);
        rows.extend(more);
        if next.is_none() {
            break;
        }
        from = next;
    }
    assert_eq!(rows, whole);
}

#[tokio::test]
async fn a_view_over_many_chunks_is_moved_once_and_leaves_its_source_as_it_was() {
    let scene = Move::own(
        "CREATE TABLE mine_seen (id bigint PRIMARY KEY, body text);",
        "[[stream]]\nname = \"seen\"\nsource = { sqlite = \"app.sqlite\", table = \"seen\" }\n\
         target = \"public.mine_seen\"\nkey = [\"id\"]\n",
        "CREATE TABLE item (id INTEGER PRIMARY KEY, body); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         INSERT INTO item SELECT i, 'body ' || i FROM n; \
         CREATE VIEW seen AS SELECT id, body FROM item WHERE id % 2 = 0",
    )
    .await;
    let before = crate::support::backfill::fingerprint(&scene.source);
    let report = scene.backfill(0, &["--chunk-records", "100"]);
    assert_eq!(report.records("seen", "inserted"), 2500);
    assert_eq!(scene.count("public.mine_seen").await, 2500);
    assert_eq!(scene.backfill(0, &[]).records("seen", "unchanged"), 2500);
    assert!(crate::support::backfill::fingerprint(&scene.source) == before);
}
