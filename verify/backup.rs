//! `toolkit phase backup-check`: a dump counts once it was restored and every table compared.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};
use toolkit::demo::generate::webtoon;
use toolkit::store::embedded::Programs;
use toolkit::store::sql;

use crate::support::world::World;
use crate::support::{TestDatabase, stderr, stdout, toolkit};

fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    with_programs(database, arguments, None)
}

fn with_programs(database: &TestDatabase, arguments: &[&str], programs: Option<&Path>) -> Output {
    let mut command = toolkit();
    command.args(["--database-url", database.url(), "--state-dir"]);
    command.arg(database.folder().join("state")).args(["--format", "json"]);
    if let Some(folder) = programs {
        command.env("TOOLKIT_POSTGRES_BIN_DIR", folder);
    }
    command.args(arguments).current_dir(database.folder()).output().unwrap()
}

fn json(output: &Output, code: i32) -> Value {
    let shown = format!("{}{}", stdout(output), stderr(output));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    serde_json::from_slice(&output.stdout).expect(&shown)
}

async fn scalar(database: &TestDatabase, query: &str) -> String {
    let mut conn = PgConnection::connect(database.url()).await.unwrap();
    sqlx::query_scalar(sql(query.to_owned())).fetch_one(&mut conn).await.unwrap()
}

async fn execute(database: &TestDatabase, statements: &str) {
    let mut conn = PgConnection::connect(database.url()).await.unwrap();
    conn.execute(sql(statements.to_owned())).await.unwrap();
}

/// Databases that a check has made and not dropped.
const LEFT: &str =
    "SELECT count(*)::text FROM pg_database WHERE datname LIKE 'toolkit\\_backup\\_%'";

/// Other checks may run beside this one.
async fn nothing_is_left(database: &TestDatabase) {
    for _ in 0..100 {
        if scalar(database, LEFT).await == "0" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("scratch databases were left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_loaded_pack_is_restored_compared_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    webtoon(folder.path(), 3, 30).unwrap();
    let world = World::builtin("webtoon", folder.path()).await;
    world.backfill().await;
    let database = &world.database;
    let check = ["phase", "backup-check", "--pack", "webtoon", "--keep", "kept.dump"];
    let checked = json(&run(database, &check), 0);
    assert_eq!(checked["clean"], true, "{checked}");
    assert_eq!(checked["schemas"], serde_json::json!(["toolkit", "webtoon"]));
    assert!(checked["rows"].as_u64().unwrap() > 100, "{checked}");
    let dump = fs::read(database.folder().join("kept.dump")).unwrap();
    assert!(dump.starts_with(b"PGDMP"));
    assert_eq!(checked["bytes"], dump.len() as u64);
    assert_eq!(checked["sha256"], hex::encode(toolkit::canonical::sha256(&dump)));
    let mode = fs::metadata(database.folder().join("kept.dump")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let recorded = "SELECT concat_ws(' ', kind, facts->>'clean', facts->>'sha256', \
        (facts->>'seconds')::float8 > 0) FROM toolkit.evidence WHERE pack = 'webtoon'";
    let sum = checked["sha256"].as_str().unwrap();
    assert_eq!(scalar(database, recorded).await, format!("backup true {sum} t"));
    nothing_is_left(database).await;
    let state = fs::read_dir(database.folder().join("state")).unwrap();
    let names: Vec<String> =
        state.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("backup")), "{names:?}");
    // A backup is never overwritten.
    let again = run(database, &check);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_odd_names_and_the_shared_schema_come_back() {
    let database = TestDatabase::create().await;
    let up = run(&database, &["migrate", "up", "--pack", "anime"]);
    assert!(up.status.success(), "{}", stderr(&up));
    execute(
        &database,
        r#"CREATE SCHEMA "odd ""*"; CREATE EXTENSION IF NOT EXISTS ltree;
        CREATE TABLE "odd ""*"."T 1" (id int PRIMARY KEY, path ltree, f float8, g int
            GENERATED ALWAYS AS (id + 1) STORED);
        INSERT INTO "odd ""*"."T 1" VALUES (1, 'a.b', 'NaN'), (2, NULL, '-0')"#,
    )
    .await;
    let folder = database.folder().join("odd");
    fs::create_dir_all(&folder).unwrap();
    let pack = "[pack]\nname = \"odd\"\nversion = 1\n\n[[stream]]\nname = \"t\"\n\
        source = { sqlite = \"app.sqlite\", table = \"t\" }\ntarget = '\"odd \"\"*\".\"T 1\"'\n\
        key = [\"id\"]\n";
    fs::write(folder.join("pack.toml"), pack).unwrap();
    let checked = json(&run(&database, &["phase", "backup-check", "--pack", "odd"]), 0);
    assert_eq!(checked["schemas"], serde_json::json!(["odd \"*", "toolkit"]));
    let checked = json(&run(&database, &["phase", "backup-check", "--pack", "anime"]), 0);
    assert_eq!(checked["clean"], true, "{checked}");
    assert_eq!(checked["schemas"], serde_json::json!(["public", "toolkit"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_back_is_a_difference_with_exit_1() {
    let database = TestDatabase::create().await;
    let up = run(&database, &["migrate", "up", "--pack", "webtoon"]);
    assert!(up.status.success(), "{}", stderr(&up));
    execute(
        &database,
        "INSERT INTO webtoon.projects (project_id, name) SELECT gen_random_uuid(), n::text \
         FROM generate_series(1, 5) n",
    )
    .await;
    // A pg_dump that leaves a table's rows out.
    let programs = Programs::find(None, None).expect("programs");
    let folder = database.folder().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let shim = |name: &str, more: &str| {
        let script = format!("#!/bin/sh\nexec {} \"$@\" {more}\n", programs.path(name).display());
        fs::write(folder.join(name), script).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    shim("pg_dump", "--exclude-table-data=webtoon.projects");
    shim("pg_restore", "");
    let check = ["phase", "backup-check", "--pack", "webtoon"];
    let checked = json(&with_programs(&database, &check, Some(&folder)), 1);
    let tables = checked["tables"].as_array().unwrap().iter();
    let differing: Vec<&Value> = tables.filter(|table| table["is_equal"] == false).collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert_eq!(differing[0]["table"], "webtoon.projects");
    assert_eq!((&differing[0]["rows"], &differing[0]["restored_rows"]), (&5.into(), &0.into()));
    let recorded = "SELECT facts->>'clean' || (facts->>'differing') FROM toolkit.evidence";
    assert_eq!(scalar(&database, recorded).await, "false[\"webtoon.projects\"]");
    // A restore that fails says why, records nothing and leaves nothing.
    shim("pg_dump", "");
    fs::write(folder.join("pg_restore"), "#!/bin/sh\necho 'no room at all' >&2\nexit 1\n").unwrap();
    let failed = with_programs(&database, &check, Some(&folder));
    assert_eq!(failed.status.code(), Some(2), "{}", stdout(&failed));
    assert!(stderr(&failed).contains("no room at all"), "{}", stderr(&failed));
    assert_eq!(scalar(&database, "SELECT count(*)::text FROM toolkit.evidence").await, "1");
    nothing_is_left(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pg_dump_of_the_servers_version_the_error_names_what_to_install() {
    let database = TestDatabase::create().await;
    let folder = database.folder().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let check = ["phase", "backup-check", "--pack", "webtoon"];
    let missing = with_programs(&database, &check, Some(&folder));
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("postgresql-client-"), "{}", stderr(&missing));
    for name in ["pg_dump", "pg_restore"] {
        let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) 12.22'\n");
        fs::write(folder.join(name), script).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let old = with_programs(&database, &check, Some(&folder));
    assert_eq!(old.status.code(), Some(2));
    assert!(stderr(&old).contains("pg_dump (12)"), "{}", stderr(&old));
    assert_eq!(scalar(&database, LEFT).await.parse::<u32>().map(|_| ()), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_filled_only_if_it_is_empty_and_keeps_what_was_restored() {
    let database = TestDatabase::create().await;
    let up = run(&database, &["migrate", "up", "--pack", "webtoon"]);
    assert!(up.status.success(), "{}", stderr(&up));
    let other = TestDatabase::create().await;
    let check = ["phase", "backup-check", "--pack", "webtoon", "--into", other.url()];
    let checked = json(&run(&database, &check), 0);
    assert!(!checked.to_string().contains("verify@"), "{checked}");
    assert!(checked["into"].as_str().unwrap().contains("***"), "{checked}");
    assert_eq!(scalar(&other, "SELECT count(*)::text FROM webtoon.projects").await, "0");
    let again = run(&database, &check);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("is not empty"), "{}", stderr(&again));
}
