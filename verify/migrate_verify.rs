//! `toolkit migrate verify`: every way in which a live catalog can drift from its migrations is
//! named; what is not drift is not.

use std::fs;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{TestDatabase, stderr, stdout, toolkit};

const MIGRATION: &str = "\
CREATE EXTENSION IF NOT EXISTS citext;
CREATE SCHEMA stock;
CREATE TYPE stock.mood AS ENUM ('good', 'bad');
CREATE DOMAIN stock.positive AS int CHECK (VALUE > 0);
CREATE TABLE stock.shelves (id bigint PRIMARY KEY);
CREATE TABLE stock.parts (
    id bigint PRIMARY KEY, name text NOT NULL DEFAULT 'x', price numeric(10,2), mood stock.mood,
    shelf bigint CONSTRAINT parts_shelf REFERENCES stock.shelves,
    CONSTRAINT parts_price CHECK (price > 0), CONSTRAINT parts_name UNIQUE (name)
);
CREATE INDEX parts_mood ON stock.parts (mood);
CREATE VIEW stock.cheap AS SELECT id FROM stock.parts WHERE id < 5;
CREATE SEQUENCE stock.numbers;
CREATE TABLE stock.loose (a int);
CREATE FUNCTION stock.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE INSERT ON stock.parts FOR EACH ROW EXECUTE FUNCTION stock.touch();
";

/// What is done to the live catalog, what is said of it, how it is undone.
const DRIFTS: &[(&str, &str, &str)] = &[
    (
        "ALTER TABLE stock.parts ADD COLUMN extra int",
        "column stock.parts.extra is made by no migration",
        "ALTER TABLE stock.parts DROP COLUMN extra",
    ),
    (
        "ALTER TABLE stock.parts DROP COLUMN mood",
        "column stock.parts.mood is missing",
        "ALTER TABLE stock.parts ADD COLUMN mood stock.mood; CREATE INDEX parts_mood ON stock.parts (mood)",
    ),
    (
        "ALTER TABLE stock.parts ALTER price TYPE numeric(12,2)",
        "column stock.parts.price is `numeric(12,2)`, migrations make it `numeric(10,2)`",
        "ALTER TABLE stock.parts ALTER price TYPE numeric(10,2)",
    ),
    (
        "ALTER TABLE stock.parts ALTER name SET DEFAULT 'y'",
        "column stock.parts.name is `text NOT NULL DEFAULT 'y'::text`",
        "ALTER TABLE stock.parts ALTER name SET DEFAULT 'x'",
    ),
    (
        "ALTER TABLE stock.parts ALTER name DROP NOT NULL",
        "column stock.parts.name is `text DEFAULT",
        "ALTER TABLE stock.parts ALTER name SET NOT NULL",
    ),
    (
        "ALTER TABLE stock.parts DROP CONSTRAINT parts_price",
        "constraint stock.parts.parts_price is missing",
        "ALTER TABLE stock.parts ADD CONSTRAINT parts_price CHECK (price > 0)",
    ),
    (
        "ALTER TABLE stock.parts DROP CONSTRAINT parts_shelf",
        "constraint stock.parts.parts_shelf is missing",
        "ALTER TABLE stock.parts ADD CONSTRAINT parts_shelf FOREIGN KEY (shelf) REFERENCES stock.shelves",
    ),
    (
        "ALTER TABLE stock.parts DROP CONSTRAINT parts_shelf; ALTER TABLE stock.parts ADD CONSTRAINT parts_shelf \
      FOREIGN KEY (shelf) REFERENCES stock.shelves NOT VALID",
        "constraint stock.parts.parts_shelf is",
        "ALTER TABLE stock.parts VALIDATE CONSTRAINT parts_shelf",
    ),
    (
        "ALTER TABLE stock.parts DROP CONSTRAINT parts_name",
        "constraint stock.parts.parts_name is missing",
        "ALTER TABLE stock.parts ADD CONSTRAINT parts_name UNIQUE (name)",
    ),
    (
        "DROP INDEX stock.parts_mood",
        "index stock.parts.parts_mood is missing",
        "CREATE INDEX parts_mood ON stock.parts (mood)",
    ),
    (
        "DROP INDEX stock.parts_mood; CREATE INDEX parts_mood ON stock.parts (mood) WHERE price > 1",
        "index stock.parts.parts_mood is `CREATE INDEX",
        "DROP INDEX stock.parts_mood; CREATE INDEX parts_mood ON stock.parts (mood)",
    ),
    (
        "CREATE INDEX more ON stock.parts (price)",
        "index stock.parts.more is made by no migration",
        "DROP INDEX stock.more",
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'stock.parts_mood'::regclass",
        "INVALID",
        "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'stock.parts_mood'::regclass",
    ),
    (
        "ALTER TABLE stock.parts DISABLE TRIGGER touched",
        "trigger stock.parts.touched is",
        "ALTER TABLE stock.parts ENABLE TRIGGER touched",
    ),
    (
        "DROP TRIGGER touched ON stock.parts",
        "trigger stock.parts.touched is missing",
        "CREATE TRIGGER touched BEFORE INSERT ON stock.parts FOR EACH ROW EXECUTE FUNCTION stock.touch()",
    ),
    (
        "CREATE OR REPLACE FUNCTION stock.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "function stock.touch() is",
        "CREATE OR REPLACE FUNCTION stock.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ),
    (
        "CREATE OR REPLACE VIEW stock.cheap AS SELECT id FROM stock.parts WHERE id < 6",
        "relation stock.cheap is",
        "CREATE OR REPLACE VIEW stock.cheap AS SELECT id FROM stock.parts WHERE id < 5",
    ),
    (
        "DROP VIEW stock.cheap",
        "relation stock.cheap is missing",
        "CREATE VIEW stock.cheap AS SELECT id FROM stock.parts WHERE id < 5",
    ),
    (
        "DROP SEQUENCE stock.numbers",
        "relation stock.numbers is missing",
        "CREATE SEQUENCE stock.numbers",
    ),
    (
        "ALTER TABLE stock.loose SET UNLOGGED",
        "relation stock.loose is",
        "ALTER TABLE stock.loose SET LOGGED",
    ),
    (
        "ALTER DOMAIN stock.positive DROP CONSTRAINT positive_check",
        "type stock.positive is",
        "ALTER DOMAIN stock.positive ADD CONSTRAINT positive_check CHECK (VALUE > 0)",
    ),
    (
        "ALTER TABLE stock.parts ENABLE ROW LEVEL SECURITY",
        "relation stock.parts is",
        "ALTER TABLE stock.parts DISABLE ROW LEVEL SECURITY",
    ),
    (
        "ALTER TABLE stock.parts OWNER TO pg_database_owner",
        "owner stock.parts is `pg_database_owner`",
        "ALTER TABLE stock.parts OWNER TO CURRENT_USER",
    ),
    ("DROP EXTENSION citext", "extension citext is missing", "CREATE EXTENSION citext"),
    // Last: an enum's value cannot be taken back.
    ("ALTER TYPE stock.mood ADD VALUE 'fair'", "type stock.mood is", ""),
];

struct Live {
    database: TestDatabase,
    conn: PgConnection,
}

impl Live {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        fs::write(database.folder().join("V1__stock.sql"), MIGRATION).expect("write");
        let conn = PgConnection::connect(database.url()).await.expect("connect");
        let live = Self { database, conn };
        let (code, text) = live.migrate("up", &[]);
        assert_eq!(code, Some(0), "{text}");
        live
    }

    fn migrate(&self, action: &str, more: &[&str]) -> (Option<i32>, String) {
        let output = toolkit()
            .args(["--database-url", self.database.url(), "migrate", action])
            .args(["--pack", "stock", "--dir", self.database.folder().to_str().expect("UTF-8")])
            .args(more)
            .current_dir(self.database.folder())
            .output()
            .expect("toolkit");
        (output.status.code(), format!("{}{}", stdout(&output), stderr(&output)))
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.expect(sql);
    }
}

#[tokio::test]
async fn a_freshly_migrated_catalog_has_not_drifted_and_each_change_to_it_is_named() {
    let mut live = Live::new().await;
    // What is made in operation, or by nobody's migration elsewhere, is no drift.
    live.run("CREATE TABLE public.mine (a int); CREATE TABLE stock.notes (a int)").await;
    let (code, text) = live.migrate("verify", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("as its migrations make them") && text.contains("stock.notes"), "{text}");
    for (change, said, undo) in DRIFTS {
        live.run(change).await;
        let (code, text) = live.migrate("verify", &[]);
        assert_eq!(code, Some(1), "{change}: {text}");
        assert!(text.contains(said), "{change}: {text}");
        if !undo.is_empty() {
            live.run(undo).await;
        }
    }
    let (_, text) = live.migrate("verify", &["--format", "json"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let entries = report["packs"][0]["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 1, "everything but the last was undone: {text}");
    assert_eq!(entries[0]["kind"], "changed");
}

#[tokio::test]
async fn verify_refuses_a_pack_that_is_not_applied_or_not_wholly() {
    let live = Live::new().await;
    fs::write(live.database.folder().join("V2__more.sql"), "CREATE TABLE stock.more ();")
        .expect("write");
    let (code, text) = live.migrate("verify", &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("pending") && text.contains("migrate up"), "{text}");
    let other = TestDatabase::create().await;
    let output = toolkit()
        .args(["--database-url", other.url(), "migrate", "verify", "--pack", "webtoon"])
        .current_dir(other.folder())
        .output()
        .expect("toolkit");
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("not applied"), "{}", stderr(&output));
}
