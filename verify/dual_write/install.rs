//! Installing capture, the fence, and taking both out again.

use rusqlite::Connection;
use toolkit::capture::{self, fence};

use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

const DDL: &str = "CREATE SCHEMA app;
    CREATE TABLE app.item (sku text PRIMARY KEY, name text, price float8);
    CREATE TABLE app.pair (a bigint, b text, note text, PRIMARY KEY (a, b));
    CREATE TABLE app.plain (id bigint PRIMARY KEY, body text);";

const STREAMS: &str = r#"
[[stream]]
name = "item"
source = { sqlite = "app.sqlite", table = "item" }
target = "app.item"
key = ["sku"]
[stream.columns]
sku = "sku"
name = "name"
price = "price"
[[stream]]
name = "pair"
source = { sqlite = "app.sqlite", table = "pair" }
target = "app.pair"
key = ["a", "b"]
[stream.columns]
a = "a"
b = "b"
note = "note"
[[stream]]
name = "plain"
source = { sqlite = "app.sqlite", table = "order" }
target = "app.plain"
key = ["id"]
[stream.columns]
id = "id"
body = "se\"lect"
"#;

const SOURCE: &str = "CREATE TABLE item (sku TEXT PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, \
      price REAL);
    CREATE UNIQUE INDEX item_expr ON item (lower(name), coalesce(price, 0)) WHERE price > 0;
    CREATE TABLE pair (a INTEGER, b TEXT, note TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE \"order\" (id INTEGER PRIMARY KEY AUTOINCREMENT, \"se\"\"lect\" TEXT);
    CREATE VIEW v AS SELECT * FROM item;
    CREATE TRIGGER app_trigger AFTER INSERT ON item BEGIN SELECT 1; END;
    INSERT INTO item VALUES ('a', 'Ann', 1.5), ('b', 'Bob', NULL);
    INSERT INTO pair VALUES (1, 'x', 'n');";

pub(super) fn schema(file: &Connection) -> Vec<(String, String, Option<String>)> {
    let mut statement = file.prepare("SELECT type, name, sql FROM sqlite_schema").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn dual_write(scene: &Move, code: i32, action: &str, more: &[&str]) -> String {
    let mut command = scene.command(&["dual-write", action, "--pack", &scene.pack]);
    let output = command.arg("--source").arg(&scene.source).args(more).output().unwrap();
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[tokio::test]
async fn disable_leaves_the_schema_as_it_was_in_text_and_order() {
    for journal in ["wal", "delete"] {
        let scene = Move::own(DDL, STREAMS, SOURCE).await;
        let application = scene.sqlite();
        application.pragma_update(None, "journal_mode", journal).unwrap();
        let before = schema(&application);
        let said = dual_write(&scene, 0, "enable", &["--dry-run"]);
        assert!(said.contains("would be installed"), "{said}");
        assert_eq!(schema(&application), before);
        dual_write(&scene, 0, "enable", &[]);
        let enabled = schema(&application);
        assert!(enabled.len() > before.len());
        let said = dual_write(&scene, 0, "enable", &["--measure"]);
        assert!(said.contains("unchanged"), "{said}");
        assert!(said.contains("times"), "{said}");
        assert_eq!(schema(&application), enabled);
        application.execute("UPDATE item SET price = 2 WHERE sku = 'a'", []).unwrap();
        let said = dual_write(&scene, 2, "disable", &[]);
        assert!(said.contains("1 captured changes are not applied"), "{said}");
        dual_write(&scene, 0, "disable", &["--force"]);
        assert_eq!(schema(&application), before, "{journal}");
        dual_write(&scene, 0, "disable", &[]);
        let check: String =
            application.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

#[tokio::test]
async fn what_vanished_is_made_good_and_said() {
    let scene = Move::own(DDL, STREAMS, SOURCE).await;
    dual_write(&scene, 0, "enable", &[]);
    let application = scene.sqlite();
    let whole = schema(&application);
    application
        .execute_batch(
            "DROP TRIGGER toolkit_capture_1_update; DROP TRIGGER toolkit_capture_2_insert",
        )
        .unwrap();
    let said = dual_write(&scene, 0, "enable", &[]);
    assert!(said.contains("triggers of table item had vanished"), "{said}");
    assert!(said.contains("toolkit backfill"), "{said}");
    let mut again = schema(&application);
    let mut whole = whole;
    again.sort();
    whole.sort();
    assert_eq!(again, whole);
}

#[tokio::test]
async fn behind_the_fence_every_write_fails_and_the_log_stands_still() {
    let scene = Move::own(DDL, STREAMS, SOURCE).await;
    dual_write(&scene, 0, "enable", &[]);
    let path = scene.source.join("app.sqlite");
    let application = scene.sqlite();
    application.execute("INSERT INTO pair VALUES (2, 'y', NULL)", []).unwrap();
    let before = schema(&application);
    assert_eq!(fence::state(&path).unwrap(), fence::FenceState::Open);
    let fenced = fence::raise(&path).unwrap();
    assert_eq!(fenced.position, 1);
    assert_eq!(fence::raise(&path).unwrap().position, 1, "it may be repeated");
    for write in [
        "INSERT INTO item VALUES ('c', 'c', 1)",
        "UPDATE pair SET note = 'z'",
        "DELETE FROM \"order\" WHERE id = 1 OR 1",
        "INSERT OR REPLACE INTO item VALUES ('a', 'Ann', 1)",
    ] {
        let refused = application.execute(write, []);
        match refused {
            Err(error) => assert!(
                error.to_string().starts_with(fence::FENCE_MESSAGE_PREFIX),
                "{write}: {error}"
            ),
            // A DELETE that finds no row changes nothing.
            Ok(rows) => assert_eq!(rows, 0, "{write}"),
        }
    }
    assert_eq!(capture::position(&path).unwrap(), Some(1));
    fence::lift(&path).unwrap();
    fence::lift(&path).unwrap();
    assert_eq!(schema(&application), before);
    application.execute("UPDATE pair SET note = 'z'", []).unwrap();
    assert!(capture::position(&path).unwrap() > Some(1));
}

#[tokio::test]
async fn the_application_may_drop_a_column_that_no_key_and_no_index_names() {
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.t (id bigint PRIMARY KEY, name text, n bigint)";
    let streams = "[[stream]]\nname = 't'\nsource = { sqlite = 'app.sqlite', table = 't' }\n\
        target = 'app.t'\nkey = ['id']\nignore = ['more']\n[stream.columns]\n\
        id = 'id'\nname = 'name'\nn = 'n'\n";
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER, more TEXT); \
        CREATE UNIQUE INDEX t_name ON t (lower(name), n + 1); \
        INSERT INTO t VALUES (1, 'Ann', 1, 'm'), (2, 'Bob', 2, 'm');";
    let scene = Move::own(ddl, streams, source).await;
    dual_write(&scene, 0, "enable", &[]);
    scene.backfill(0, &[]);
    let file = scene.sqlite();
    file.execute_batch("ALTER TABLE t DROP COLUMN more").unwrap();
    let pack = std::path::Path::new(&scene.pack).join("pack.toml");
    let text = std::fs::read_to_string(&pack).unwrap().replace("ignore = ['more']\n", "");
    std::fs::write(&pack, text).unwrap();
    let said = dual_write(&scene, 2, "run", &["--until-caught-up"]);
    assert!(said.contains("halted: table t changed"), "{said}");
    dual_write(&scene, 0, "enable", &[]);
    file.execute_batch("INSERT OR REPLACE INTO t VALUES (3, 'BOB', 2)").unwrap();
    dual_write(&scene, 0, "run", &["--until-caught-up"]);
    let ids = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM app.t";
    assert_eq!(scene.text(ids).await, "1 3");
}
