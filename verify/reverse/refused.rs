//! What cannot go back is said, row by row, and everything else goes on.

use toolkit::demo::Shape;

use super::Back;
use crate::support::world::World;

const PACK: &str = r#"
[pack]
name = "mine"
version = 1
[[stream]]
name = "notes"
source = { sqlite = "app.sqlite", table = "notes" }
target = "public.notes"
key = ["id"]
ignore = ["must"]
columns = { id = "id", body = "body", at = { from = "at", unit = "s" }, mail = "mail", kind = { value = "note" } }
"#;

const TARGET: &str =
    "CREATE TABLE notes (id int8 PRIMARY KEY, body text, at timestamptz, mail text, kind text)";

const SOURCE: &str = "
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT CHECK (length(body) < 8), at INTEGER,
    mail TEXT UNIQUE ON CONFLICT REPLACE, must TEXT NOT NULL);
INSERT INTO notes VALUES (1, 'one', 1770000000, 'a@x', 'm'), (2, 'two', 1770000001, 'b@x', 'm'),
    (3, 'three', NULL, 'postgres://u:hunter2@h/d', 'm')";

async fn notes() -> Back {
    Back::over(World::own(PACK, TARGET, SOURCE).await).await
}

async fn reasons(back: &Back) -> Vec<(String, String, String)> {
    let mut found: Vec<_> = back
        .rejects()
        .await
        .into_iter()
        .map(|row| (row.key.join(","), row.kind, row.reason))
        .collect();
    found.sort();
    found
}

fn entry(key: &str, kind: &str, reason: &str) -> (String, String, String) {
    (key.to_owned(), kind.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_row_that_sqlite_refuses_is_kept_visible_until_it_goes_back_and_the_rest_goes_on() {
    let back = notes().await;
    back.world
        .sql(
            "UPDATE notes SET body = 'much too long' WHERE id = 1; \
             UPDATE notes SET body = 'fine' WHERE id = 2; \
             INSERT INTO notes VALUES (4, 'new', NULL, NULL, 'note')",
        )
        .await;
    let applied = back.catch_up().await;
    assert_eq!((applied.updated, applied.rejected), (1, 2));
    assert_eq!(back.source("SELECT id, body FROM notes ORDER BY id"), "1|one 2|fine 3|three");
    let expected =
        [entry("1", "refused", "refused_by_sqlite"), entry("4", "refused", "refused_by_sqlite")];
    assert_eq!(reasons(&back).await, expected);
    assert_eq!(back.log().await, "0");
    back.world
        .sql("UPDATE notes SET body = 'short' WHERE id = 1; DELETE FROM notes WHERE id = 4")
        .await;
    back.catches_up_clean().await;
}

#[tokio::test]
async fn a_moment_that_the_columns_unit_cannot_tell_is_refused() {
    let back = notes().await;
    back.world
        .sql(
            "UPDATE notes SET at = 'infinity' WHERE id = 1; \
             UPDATE notes SET at = '0044-03-15 BC' WHERE id = 2",
        )
        .await;
    back.catch_up().await;
    // Before Christ is a number of seconds like any other.
    assert_eq!(reasons(&back).await, [entry("1", "refused", "no_spelling")]);
    let epoch =
        back.world.text("SELECT extract(epoch FROM at)::int8::text FROM notes WHERE id = 2");
    let rows = back.source("SELECT at FROM notes WHERE id < 3 ORDER BY id");
    assert_eq!(rows, format!("1770000000 {}", epoch.await));
}

#[tokio::test]
async fn a_unique_value_that_only_sqlite_insists_on_evicts_no_row() {
    let back = notes().await;
    back.world.sql("UPDATE notes SET mail = 'b@x' WHERE id = 1").await;
    back.catch_up().await;
    assert_eq!(reasons(&back).await, [entry("1", "refused", "unique")]);
    assert_eq!(back.source("SELECT count(*) FROM notes"), "3");
}

#[tokio::test]
async fn a_redacted_value_stays_in_the_file_as_it_was_and_a_new_secret_is_refused_without_a_word_of_it()
 {
    let back = notes().await;
    assert!(!back.world.text("SELECT mail FROM notes WHERE id = 3").await.contains("hunter2"));
    back.world.sql("UPDATE notes SET body = 'other' WHERE id = 3").await;
    back.catches_up_clean().await;
    let row = back.source("SELECT body, mail FROM notes WHERE id = 3");
    assert_eq!(row, "other|postgres://u:hunter2@h/d");
    back.world.sql("UPDATE notes SET mail = 'postgres://u:topsecret@h/d' WHERE id = 1").await;
    back.catch_up().await;
    let rejects = back.rejects().await;
    assert_eq!(rejects[0].reason, "no_spelling");
    assert!(!format!("{rejects:?}").contains("topsecret"));
}

#[tokio::test]
async fn what_has_no_place_in_the_file_is_named_and_the_rest_of_the_row_goes_back() {
    let back = notes().await;
    back.world.sql("UPDATE notes SET kind = 'other', body = 'b' WHERE id = 1").await;
    let applied = back.catch_up().await;
    assert_eq!((applied.updated, applied.rejected), (1, 1));
    let rejects = back.rejects().await;
    assert_eq!(
        (rejects[0].kind.as_str(), &rejects[0].columns),
        ("column", &vec!["kind".to_owned()])
    );
    assert_eq!(back.source("SELECT body FROM notes WHERE id = 1"), "b");
}

#[tokio::test]
async fn a_row_of_no_stream_that_is_written_back_is_listed() {
    let (world, _) = World::generated(4, &Shape::tiny()).await;
    let back = Back::over(world).await;
    back.world
        .sql(
            "INSERT INTO workflow.run_records (run_id, record_kind, step, record_key) \
             VALUES ('r', 'report', 'report', 'main'), ('r', 'run', '', 'main')",
        )
        .await;
    let applied = back.catch_up().await;
    assert_eq!(applied.inserted, 1);
    let kind = "SELECT kind || ' ' || reason || ' ' || array_to_string(key, ',') \
                FROM toolkit.reverse_reject WHERE kind = 'row'";
    assert_eq!(back.world.text(kind).await, "row not_reversible r,report,report,main");
}
