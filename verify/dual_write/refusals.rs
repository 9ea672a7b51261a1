//! What capture says beforehand, and what a foreign key that leads nowhere becomes.

use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

fn dual_write(scene: &Move, action: &str, more: &[&str]) -> (i32, String) {
    let mut command = scene.command(&["dual-write", action, "--pack", &scene.pack]);
    let output = command.arg("--source").arg(&scene.source).args(more).output().unwrap();
    (output.status.code().unwrap(), format!("{}{}", stdout(&output), stderr(&output)))
}

fn stream(name: &str, table: &str, target: &str, key: &str, columns: &str) -> String {
    format!(
        "[[stream]]\nname = '{name}'\nsource = {{ sqlite = 'app.sqlite', table = '{table}' }}\n\
         target = 'app.{target}'\nkey = {key}\n[stream.columns]\n{columns}\n"
    )
}

#[tokio::test]
async fn a_foreign_key_that_leads_nowhere_is_null_by_the_tail_as_by_a_backfill() {
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.parent (id bigint PRIMARY KEY); \
        CREATE TABLE app.child (id bigint PRIMARY KEY, parent bigint REFERENCES app.parent);";
    let child = "id = 'id'\nparent = { from = 'parent', on = { orphan = 'null' } }";
    let streams = stream("parent", "parent", "parent", "['id']", "id = 'id'")
        + &stream("child", "child", "child", "['id']", child);
    let source = "CREATE TABLE parent (id INTEGER PRIMARY KEY); \
        CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER); \
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1), (2, 99);";
    let scene = Move::own(ddl, &streams, source).await;
    dual_write(&scene, "enable", &[]);
    scene.backfill(0, &[]);
    scene.is_clean();
    let nulls = "SELECT string_agg(id::text, ',' ORDER BY id) FROM app.child WHERE parent IS NULL";
    assert_eq!(scene.text(nulls).await, "2");

    scene
        .sqlite()
        .execute_batch(
            "INSERT INTO child VALUES (3, 77), (4, 1); \
        UPDATE child SET parent = 98 WHERE id = 2",
        )
        .unwrap();
    let (code, said) = dual_write(&scene, "run", &["--until-caught-up"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(scene.text(nulls).await, "2,3");
    assert_eq!(scene.rejects().await, []);
    let ledger = "SELECT string_agg(convert_from(original, 'UTF8'), ',' ORDER BY locator) \
                  FROM toolkit.ledger WHERE rule = 'orphan'";
    assert_eq!(scene.text(ledger).await, "98,77");
    scene.is_clean();
    // The parent comes: the row refers to it at last.
    scene.sqlite().execute_batch("INSERT INTO parent VALUES (77)").unwrap();
    dual_write(&scene, "run", &["--until-caught-up"]);
    assert_eq!(scene.text(nulls).await, "2");
    assert_eq!(scene.text(ledger).await, "98");
    scene.is_clean();
}

#[tokio::test]
async fn keys_that_no_index_finds_and_tables_that_are_not_there_are_named_beforehand() {
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.a (code text PRIMARY KEY); \
        CREATE TABLE app.b (code text PRIMARY KEY); CREATE TABLE app.c (id bigint PRIMARY KEY);";
    let streams = stream("a", "a", "a", "['code']", "code = 'code'")
        + &stream("b", "b", "b", "['code']", "code = 'code'")
        + &stream("c", "c", "c", "['id']", "id = 'id'").replace("app.sqlite", "other.sqlite");
    let source = "CREATE TABLE a (code TEXT); CREATE TABLE b (code TEXT); \
        CREATE INDEX b_code ON b (code);";
    let scene = Move::own(ddl, &streams, source).await;
    let (code, said) = dual_write(&scene, "enable", &["--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no index helps to find a row of \"a\" by (\"code\")"), "{said}");
    assert!(!said.contains("row of \"b\""), "{said}");
    assert!(said.contains("stream c: no file with its table was found"), "{said}");
}

#[tokio::test]
async fn every_stream_that_cannot_be_captured_is_named_before_anything_is_installed() {
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.a (id bigint PRIMARY KEY); \
        CREATE TABLE app.v (id bigint PRIMARY KEY); CREATE TABLE app.both (id bigint PRIMARY KEY);";
    let streams = stream("a", "a", "a", "['id']", "id = 'id'")
        + &stream("v", "v", "v", "['id']", "id = 'id'")
        + &stream("old", "old", "both", "['id']", "id = 'id'")
        + &stream("new", "new", "both", "['id']", "id = 'id'");
    let source = "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE VIEW v AS SELECT id FROM a; \
        CREATE TABLE old (id INTEGER PRIMARY KEY); CREATE TABLE new (id INTEGER PRIMARY KEY);";
    let scene = Move::own(ddl, &streams, source).await;
    let (code, said) = dual_write(&scene, "enable", &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("stream v: changes cannot be captured"), "{said}");
    assert!(said.contains("streams old, new: changes cannot be captured"), "{said}");
    assert!(said.contains("kind = { value = "), "{said}");
    let left: i64 = scene
        .sqlite()
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'toolkit%'", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn streams_of_one_target_whose_keys_a_constant_tells_apart_are_captured_side_by_side() {
    let ddl = "CREATE SCHEMA app; \
        CREATE TABLE app.both (kind text, id bigint, name text, PRIMARY KEY (kind, id));";
    let columns = |kind: &str| format!("kind = {{ value = '{kind}' }}\nid = 'id'\nname = 'name'");
    let streams = stream("old", "old", "both", "['kind', 'id']", &columns("old"))
        + &stream("new", "new", "both", "['kind', 'id']", &columns("new"));
    let source = "CREATE TABLE old (id INTEGER PRIMARY KEY, name TEXT); \
        CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT); \
        INSERT INTO old VALUES (1, 'a'), (2, 'b'); INSERT INTO new VALUES (1, 'c'), (2, 'd');";
    let scene = Move::own(ddl, &streams, source).await;
    let (code, said) = dual_write(&scene, "enable", &[]);
    assert_eq!(code, 0, "{said}");
    scene.backfill(0, &[]);
    // The same ids stand in both: what happens to one row is none of the other's business.
    scene
        .sqlite()
        .execute_batch("DELETE FROM old WHERE id = 1; UPDATE new SET id = 3 WHERE id = 2")
        .unwrap();
    let (code, said) = dual_write(&scene, "run", &["--until-caught-up"]);
    assert_eq!(code, 0, "{said}");
    let rows = "SELECT string_agg(kind || id || name, ' ' ORDER BY kind, id) FROM app.both";
    assert_eq!(scene.text(rows).await, "new1c new3d old2b");
    scene.is_clean();
}
