//! Archives as one SQLite file: a source of their own, with the pack that reads it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;
use toolkit::demo::generate::{MediaShape, Shape, generate, media, webtoon};
use toolkit::store::quote_literal;

use super::scenarios::moved;
use super::types::{COLUMNS, migration};
use super::{assert_same, command, done, execute, own, own_pack, run, text};
use crate::support::world::World;
use crate::support::{TestDatabase, stderr};

/// Writes the archive of a pack.
fn exported(database: &TestDatabase, pack: &str) -> PathBuf {
    let archive = database.folder().join("as-source");
    let out = archive.to_str().unwrap();
    done(database, &["export", "--pack", pack, "--out", out, "--as", "sqlite"]);
    archive
}

/// Fills an empty database from an archive through its own pack, and proves it.
fn filled(to: &TestDatabase, name: &str, archive: &Path) {
    let pack = archive.join("pack");
    let (pack, source) = (pack.to_str().unwrap(), archive.to_str().unwrap());
    done(to, &["migrate", "up", "--pack", name, "--dir", pack]);
    let copied = done(to, &["backfill", "--pack", pack, "--source", source]);
    assert_eq!(copied["rejects"], 0, "{copied}");
    let proved = done(to, &["verify-parity", "--pack", pack, "--source", source, "--independent"]);
    assert_eq!(proved["verdict"], "clean", "{proved}");
    assert_eq!(proved["differing_rows"], 0, "{proved}");
    // Nothing was stored changed.
    let changed = run(to, &["--format", "json", "ledger", "list", "--pack", name]);
    assert!(changed.status.success(), "{}", stderr(&changed));
}

/// The archive of what was filled from an archive holds the same tables.
fn same_tables(left: &Path, right: &Path) {
    let tables = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        manifest["tables"].clone()
    };
    let (left, right) = (tables(left), tables(right));
    for (left, right) in left.as_array().unwrap().iter().zip(right.as_array().unwrap()) {
        assert_eq!(left, right);
    }
}

async fn is_source_of_itself(pack: &str, source: &Path) {
    let world = World::builtin(pack, source).await;
    world.backfill().await;
    let archive = exported(&world.database, pack);
    let to = TestDatabase::create().await;
    filled(&to, pack, &archive);
    same_tables(&archive, &exported(&to, pack));
    moved(&world.database, &TestDatabase::create().await, pack, "sqlite");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_the_webtoon_pack_is_a_source_with_clean_parity_circles_included() {
    let folder = tempfile::tempdir().unwrap();
    webtoon(folder.path(), 5, 40).unwrap();
    is_source_of_itself("webtoon", folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_the_media_pack_is_a_source_with_clean_parity_partitions_included() {
    let folder = tempfile::tempdir().unwrap();
    media(folder.path(), 5, MediaShape { items: 40, users: 4, tracked: 30 }).unwrap();
    is_source_of_itself("media", folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_the_unified_pack_is_a_source_with_clean_parity() {
    let folder = tempfile::tempdir().unwrap();
    drop(generate(folder.path(), 5, &Shape::tiny()).unwrap());
    is_source_of_itself("unified", folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_the_anime_pack_is_a_source_and_its_triggers_write_nothing_twice() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/anime/anime_database.json");
    let from = TestDatabase::create().await;
    done(&from, &["migrate", "up", "--pack", "anime"]);
    let ingested = run(&from, &["backfill", "--pack", "anime", "--source", fixtures]);
    assert_ne!(ingested.status.code(), Some(2), "{}", stderr(&ingested));
    let archive = exported(&from, "anime");
    let to = TestDatabase::create().await;
    filled(&to, "anime", &archive);
    same_tables(&archive, &exported(&to, "anime"));
}

/// One row for each text of the column that has most, NULL where a column has no more.
fn every_value() -> String {
    let rows = COLUMNS.iter().map(|(_, _, texts)| texts.len()).max().unwrap_or(0) + 1;
    let names: Vec<String> =
        COLUMNS.iter().map(|(name, _, _)| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    let mut statements = String::new();
    for row in 0..rows {
        let values: Vec<String> = COLUMNS
            .iter()
            .map(|(_, ty, texts)| match texts.get(row) {
                // A pack has arrays of one dimension that count from 1.
                Some(text) if text.starts_with("[2:3]") || text.starts_with("{{") => {
                    "NULL".to_owned()
                }
                Some(text) => format!("{}::{ty}", quote_literal(text).unwrap()),
                None => "NULL".to_owned(),
            })
            .collect();
        statements.push_str(&format!(
            "INSERT INTO own.all_types ({}) VALUES ({});\n",
            names.join(", "),
            values.join(", ")
        ));
    }
    statements
        + "INSERT INTO own.keyless VALUES ('', 1.00, '-0'), ('', 1.00, '-0'), (NULL, 'NaN', 'NaN'); \
           INSERT INTO own.by_text VALUES ('a', 1), ('A', 2), ('é', NULL);"
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_type_goes_through_the_file_of_an_archive_and_its_pack() {
    let from = own(&migration(), &[("own.all_types", "id")], &every_value()).await;
    let pack = from.folder().join("pack");
    let archive = exported(&from, pack.to_str().unwrap());
    let to = TestDatabase::create().await;
    filled(&to, "own", &archive);
    let again = exported(&to, archive.join("pack").to_str().unwrap());
    same_tables(&archive, &again);
    let generated =
        "SELECT bool_and(twice IS NOT DISTINCT FROM small * 2)::text FROM own.all_types";
    assert_eq!(text(&to, generated).await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_of_several_dimensions_are_kept_by_an_import_and_refused_by_a_backfill() {
    let migration = "CREATE SCHEMA own; CREATE TABLE own.a (id int PRIMARY KEY, v int[]);";
    let rows = "INSERT INTO own.a VALUES (1, '{{1,2},{3,4}}'), (2, '[2:3]={4,5}'), (3, '{6}')";
    let from = own(migration, &[("own.a", "id")], rows).await;
    let pack = from.folder().join("pack");
    let archive = exported(&from, pack.to_str().unwrap());
    let values = "SELECT string_agg(v::text, ' ' ORDER BY id) FROM own.a";
    let to = TestDatabase::create().await;
    done(&to, &["import", archive.to_str().unwrap()]);
    assert_eq!(text(&to, values).await, "{{1,2},{3,4}} [2:3]={4,5} {6}");
    let to = TestDatabase::create().await;
    let pack = archive.join("pack");
    let (pack, source) = (pack.to_str().unwrap(), archive.to_str().unwrap());
    done(&to, &["migrate", "up", "--pack", "own", "--dir", pack]);
    let copied = run(&to, &["backfill", "--pack", pack, "--source", source]);
    assert_eq!(copied.status.code(), Some(1), "{}", stderr(&copied));
    assert_eq!(text(&to, values).await, "{6}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_and_names_that_sqlite_would_take_for_one_do_not_collide() {
    let migration = r#"
        CREATE SCHEMA own; CREATE SCHEMA "Own"; CREATE SCHEMA "own.a"; CREATE SCHEMA "sqlite_own";
        CREATE TABLE own.a (id int PRIMARY KEY, "ID" text, "_rowid_" int, rowid int, oid_ text);
        CREATE TABLE own."A" (id int PRIMARY KEY, v text);
        CREATE TABLE "Own".a (id int PRIMARY KEY, v text);
        CREATE TABLE "own.a".b (id int PRIMARY KEY, "select" text);
        CREATE TABLE own."a.b" (id int PRIMARY KEY, "q""é" text);
        CREATE TABLE sqlite_own.t (id int PRIMARY KEY, v text);"#;
    let rows = r#"
        INSERT INTO own.a VALUES (1, 'own.a', 7, 8, 'x');
        INSERT INTO own."A" VALUES (1, 'own.A');
        INSERT INTO "Own".a VALUES (1, 'Own.a');
        INSERT INTO "own.a".b VALUES (1, '"own.a".b');
        INSERT INTO own."a.b" VALUES (1, 'own."a.b"');
        INSERT INTO sqlite_own.t VALUES (1, 'sqlite_own.t');"#;
    let from = own(migration, &[("own.a", "id")], rows).await;
    let pack = from.folder().join("pack");
    let archive = exported(&from, pack.to_str().unwrap());
    let to = TestDatabase::create().await;
    filled(&to, "own", &archive);
    same_tables(&archive, &exported(&to, archive.join("pack").to_str().unwrap()));
    let to = TestDatabase::create().await;
    done(&to, &["import", archive.to_str().unwrap()]);
    let all = r#"SELECT concat_ws(' ', (SELECT concat("ID", "_rowid_", rowid) FROM own.a),
        (SELECT v FROM own."A"), (SELECT v FROM "Own".a), (SELECT "select" FROM "own.a".b),
        (SELECT "q""é" FROM own."a.b"), (SELECT v FROM sqlite_own.t))"#;
    assert_eq!(text(&to, all).await, "own.a78 own.A Own.a \"own.a\".b own.\"a.b\" sqlite_own.t");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_can_be_asked_for_in_sqlite_as_what_they_are() {
    let migration = "CREATE SCHEMA own; CREATE TABLE own.a (id bigint PRIMARY KEY, yes boolean, \
        exact numeric, f double precision, b bytea, at timestamptz, doc jsonb, l text[]);";
    let rows = "INSERT INTO own.a VALUES (1, true, 1.50, 0.1, '\\x00ff', \
        '2026-01-02 03:04:05.000006+02', '{\"b\": 1, \"a\": [1.0]}', '{a,NULL,\"b,c\"}'), \
        (2, NULL, 'NaN', 'NaN', '', 'infinity', 'null', '{}')";
    let from = own(migration, &[("own.a", "id")], rows).await;
    let archive = exported(&from, from.folder().join("pack").to_str().unwrap());
    let file = Connection::open(archive.join("data/archive.sqlite")).unwrap();
    let row = |id: i64| -> Vec<Value> {
        let query = "SELECT yes, exact, f, b, at, doc, l FROM \"own.a\" WHERE id = ?1";
        file.query_row(query, [id], |row| (0..7).map(|at| row.get(at)).collect()).unwrap()
    };
    let words = |text: &str| Value::Text(text.to_owned());
    assert_eq!(
        row(1),
        [
            Value::Integer(1),
            words("1.50"),
            Value::Real(0.1),
            Value::Blob(vec![0, 255]),
            words("2026-01-02 01:04:05.000006+00"),
            words("{\"a\": [1.0], \"b\": 1}"),
            words("[\"a\",null,\"b,c\"]"),
        ]
    );
    assert_eq!(
        row(2),
        [
            Value::Null,
            words("NaN"),
            words("NaN"),
            Value::Blob(Vec::new()),
            words("infinity"),
            words("null"),
            words("[]"),
        ]
    );
    let json: i64 =
        file.query_row("SELECT json_array_length(l) FROM \"own.a\"", [], |row| row.get(0)).unwrap();
    assert_eq!(json, 3);
    for (pragma, value) in [("application_id", 0x746b_6172), ("user_version", 1)] {
        let found: i64 = file.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap();
        assert_eq!(found, value, "{pragma}");
    }
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_export_is_begun_anew_and_reaches_the_same_bytes() {
    let migration = "CREATE SCHEMA own; CREATE TABLE own.a (id int PRIMARY KEY, v text);";
    let rows = "INSERT INTO own.a SELECT n, repeat(n::text, 60) FROM generate_series(1, 20000) n";
    let from = own(migration, &[("own.a", "id")], rows).await;
    let pack = from.folder().join("pack");
    let whole = exported(&from, pack.to_str().unwrap());
    for after in [30_u64, 90, 200] {
        let out = from.folder().join(format!("killed{after}"));
        let arguments = [
            "export",
            "--pack",
            pack.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
            "--as",
            "sqlite",
        ];
        let mut child = command(&from, &arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let _ = child.kill();
        child.wait().unwrap();
        if !out.join("manifest.json").exists() {
            done(&from, &arguments);
        }
        assert_same(&whole, &out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_or_is_another_one_is_refused_before_the_first_write() {
    let migration = "CREATE SCHEMA own; CREATE TABLE own.a (id int PRIMARY KEY, v text);";
    let from = own(migration, &[("own.a", "id")], "INSERT INTO own.a VALUES (1, 'x')").await;
    let pack = own_pack(&from.folder().join("other"), migration, &[("own.a", "id")]);
    let archive = exported(&from, pack.to_str().unwrap());
    let to = TestDatabase::create().await;
    let file = archive.join("data/archive.sqlite");
    let sound = std::fs::read(&file).unwrap();
    let tampered = |statement: &str| {
        std::fs::write(&file, &sound).unwrap();
        Connection::open(&file).unwrap().execute_batch(statement).unwrap();
    };
    tampered("UPDATE \"own.a\" SET v = 'y'");
    let refused = run(&to, &["import", archive.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("archive.sqlite"), "{}", stderr(&refused));
    for bytes in [&b""[..], b"no database at all", &sound[..sound.len() / 2]] {
        std::fs::write(&file, bytes).unwrap();
        let refused = run(&to, &["import", archive.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    }
    assert_eq!(text(&to, "SELECT to_regnamespace('own')::text").await, "NULL");
    std::fs::write(&file, &sound).unwrap();
    done(&to, &["import", archive.to_str().unwrap()]);
    execute(&to, "DELETE FROM own.a").await;
}
