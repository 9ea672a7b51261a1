//! `toolkit copy` and `toolkit init`: a SQLite file without a pack, whatever is in it.

mod corpus;
mod page;
mod survival;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use sqlx::PgPool;
use toolkit::store::sql;

use crate::support::{TestDatabase, stderr, stdout, toolkit};

/// A database and a file to be copied into it.
pub(crate) struct Scene {
    database: TestDatabase,
    pool: PgPool,
    file: PathBuf,
}

impl Scene {
    async fn of(source: &str) -> Self {
        let database = TestDatabase::create().await;
        let file = database.folder().join("app.db");
        // As most applications' files were written: nothing enforces references.
        let source = format!("PRAGMA foreign_keys = OFF; {source}");
        rusqlite::Connection::open(&file).unwrap().execute_batch(&source).unwrap();
        let pool = database.pool().await;
        Self { database, pool, file }
    }

    fn execute(&self, statements: &str) {
        rusqlite::Connection::open(&self.file).unwrap().execute_batch(statements).unwrap();
    }

    /// The tool, with a state folder of the scene's own.
    fn tool(&self, arguments: &[&str]) -> Output {
        let mut command = toolkit();
        command.env("TOOLKIT_STATE_DIR", self.database.folder().join("state"));
        command.args(["--database-url", self.database.url()]).args(arguments);
        command.current_dir(self.database.folder()).output().unwrap()
    }

    #[track_caller]
    fn copy(&self, code: i32, more: &[&str]) -> Value {
        let arguments: Vec<&str> = ["--format", "json", "copy", "app.db"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let output = self.tool(&arguments);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        serde_json::from_str(&stdout(&output)).unwrap_or(Value::Null)
    }

    async fn text(&self, query: &str) -> String {
        let value: Option<String> =
            sqlx::query_scalar(sql(query.to_owned())).fetch_one(&self.pool).await.unwrap();
        value.unwrap_or_else(|| "NULL".to_owned())
    }
}

/// Copies `file` into a schema of its own: it ends clean, or with rejects and nothing else amiss.
#[track_caller]
pub(crate) fn copies(url: &str, file: &Path, state: &Path, what: &str) {
    let mut command = toolkit();
    command.env("TOOLKIT_STATE_DIR", state).args(["--database-url", url, "--format", "json"]);
    let output = command.arg("copy").arg(file).args(["--schema", "copied"]).output().unwrap();
    let said = stdout(&output) + &stderr(&output);
    if output.status.code() == Some(2) && said.contains("1600 at most") {
        return;
    }
    let report: Value = serde_json::from_str(&stdout(&output)).expect(&said);
    let rejects = report["backfill"]["rejects"].as_u64().unwrap();
    assert_eq!(report["parity"]["verdict"], "clean", "{what}: {said}");
    assert_eq!(output.status.code(), Some(i32::from(rejects > 0)), "{what}: {said}");
    let counts = report["plan"]["tables"].as_array().unwrap();
    let rows: u64 = counts.iter().map(|table| table["rows"].as_u64().unwrap()).sum();
    assert_eq!(report["backfill"]["read"], rows, "{what}: {said}");
}

fn column<'v>(plan: &'v Value, table: &str, column: &str) -> &'v Value {
    let tables = plan["tables"].as_array().unwrap();
    let table = tables.iter().find(|found| found["source"] == table).unwrap();
    let columns = table["columns"].as_array().unwrap();
    columns.iter().find(|found| found["source"] == column).unwrap()
}

const TYPED: &str = "
    CREATE TABLE p (id TEXT PRIMARY KEY, at TEXT, naive TEXT, day TEXT, doc TEXT, flag BOOLEAN,
        price DECIMAL(6,2), ms DATETIME, mixed INTEGER, both, data BLOB, note TEXT);
    INSERT INTO p VALUES
        ('00000000-0000-0000-0000-00000000000a', '2024-01-02T03:04:05+02:00', '2024-01-02 03:04:05',
         '2024-01-02', '{\"a\": [1]}', 1, 12.34, 1700000000123, 1, 1, x'00ff', '12'),
        ('00000000-0000-0000-0000-00000000000b', '2024-01-02T03:04:05.5Z', '2024-01-02 03:04:05.25',
         '2024-02-29', '[]', 0, 0.5, 1700000000456, 'many', 2.5, NULL, 'x');
    CREATE TABLE c (id INTEGER PRIMARY KEY AUTOINCREMENT, p TEXT REFERENCES p);
    INSERT INTO c VALUES (7, NULL), (9, NULL); DELETE FROM c WHERE id = 9;";

#[tokio::test]
async fn types_follow_the_values_and_the_plan_says_how_many_prove_them() {
    let scene = Scene::of(TYPED).await;
    let plan = scene.copy(0, &["--dry-run"]);
    for (name, ty, why) in [
        ("id", "uuid", "all 2 values are UUIDs"),
        ("at", "timestamptz", "all 2 values are ISO times with an offset"),
        ("naive", "timestamp", "all 2 values are ISO times without"),
        ("day", "date", "all 2 values are ISO dates"),
        ("doc", "jsonb", "all 2 values are JSON"),
        ("flag", "boolean", "all 2 values are 0 or 1"),
        ("price", "numeric(6,2)", ""),
        ("ms", "timestamptz", "all 2 values are milliseconds since 1970"),
        ("mixed", "text", "1 integer, 1 text"),
        ("both", "numeric", "1 INTEGER and 1 REAL"),
        ("data", "bytea", ""),
        ("note", "text", ""),
    ] {
        let found = column(&plan, "p", name);
        assert_eq!(found["type"], ty, "{name}: {found}");
        assert!(found["why"].as_str().unwrap().contains(why), "{name}: {found}");
    }
    // A column that refers to a uuid is one, though it holds nothing.
    assert_eq!(column(&plan, "c", "p")["type"], "uuid");
    let kept = scene.copy(0, &["--dry-run", "--keep-text", "--zone", "UTC"]);
    assert_eq!(column(&kept, "p", "id")["type"], "text");
    let asked = scene.copy(0, &["--dry-run", "--zone", "UTC", "--type", "p.doc=text"]);
    assert_eq!(column(&asked, "p", "naive")["type"], "timestamptz");
    assert_eq!(column(&asked, "p", "doc")["type"], "text");
    let none = "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'app'";
    assert_eq!(scene.text(none).await, "0", "a plan changes nothing");
    scene.copy(0, &[]);
    let moment =
        "SELECT (at AT TIME ZONE 'UTC')::text || ms::timestamptz(0) FROM app.p ORDER BY id LIMIT 1";
    assert!(scene.text(moment).await.starts_with("2024-01-02 01:04:05"));
    // AUTOINCREMENT never gives out a number twice.
    assert_eq!(scene.text("INSERT INTO app.c DEFAULT VALUES RETURNING id::text").await, "10");
}

#[tokio::test]
async fn text_that_must_be_told_apart_stays_text() {
    let scene = Scene::of(
        "CREATE TABLE t (at TEXT UNIQUE, doc TEXT UNIQUE, u TEXT UNIQUE);
         INSERT INTO t VALUES ('2024-01-01T00:00:00Z', '{\"a\":1}', '00000000-0000-0000-0000-00000000000a'),
            ('2024-01-01 00:00:00Z', '{\"a\": 1}', '00000000-0000-0000-0000-00000000000A')",
    )
    .await;
    let report = scene.copy(0, &[]);
    for name in ["at", "doc", "u"] {
        assert_eq!(column(&report["plan"], "t", name)["type"], "text", "{name}");
    }
    assert_eq!(scene.text("SELECT count(*)::text FROM app.t").await, "2");
}

/// Everything the server knows of the tables of schema `app`, and every row.
async fn everything(pool: &PgPool) -> Vec<String> {
    let catalog = "
        SELECT 'column ' || c.oid::regclass || ' ' || a.attnum || ' ' || a.attname || ' '
            || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text
            || a.attgenerated::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'app'::regnamespace AND c.relkind = 'r'
        UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' '
            || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'app'::regnamespace
        UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index
            WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'app'::regnamespace)
        UNION ALL SELECT 'sequence ' || sequencename || ' ' || start_value || ' '
            || coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'app'
        ORDER BY 1";
    let mut found: Vec<String> = sqlx::query_scalar(catalog).fetch_all(pool).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'app'::regnamespace \
         AND relkind = 'r' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for table in tables {
        let query = format!(
            "SELECT '{table} ' || coalesce(string_agg(r, ' ' ORDER BY r), '') \
             FROM (SELECT md5(t::text) AS r FROM {table} AS t) AS u"
        );
        found.push(sqlx::query_scalar(sql(query)).fetch_one(pool).await.unwrap());
    }
    found
}

#[tokio::test]
async fn the_emitted_pack_gives_the_same_database() {
    let source = format!("{TYPED}{}", corpus::RICH);
    let (one, other) = (Scene::of(&source).await, Scene::of(&source).await);
    // The very same file: a default of the clock has filled it.
    std::fs::copy(&one.file, &other.file).unwrap();
    one.copy(0, &["--emit-pack", "pack"]);
    std::fs::create_dir(other.database.folder().join("pack")).unwrap();
    for name in ["V1__copy.sql", "pack.toml"] {
        let from = one.database.folder().join("pack").join(name);
        std::fs::copy(from, other.database.folder().join("pack").join(name)).unwrap();
    }
    for arguments in [
        &["migrate", "up", "--pack", "copy_app", "--dir", "pack"][..],
        &["pack", "check", "--pack", "pack", "--source", "app.db"],
        &["backfill", "--pack", "pack", "--source", "app.db"],
        &["verify-parity", "--pack", "pack", "--source", "app.db"],
    ] {
        let output = other.tool(arguments);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    }
    assert_eq!(everything(&one.pool).await, everything(&other.pool).await);
    // What is there is never overwritten by something else.
    std::fs::write(one.database.folder().join("pack/pack.toml"), "# mine").unwrap();
    one.copy(2, &["--emit-pack", "pack"]);
    let kept = std::fs::read_to_string(one.database.folder().join("pack/pack.toml")).unwrap();
    assert_eq!(kept, "# mine");
}

#[tokio::test]
async fn a_second_copy_changes_nothing_and_takes_new_rows_along() {
    let scene = Scene::of(TYPED).await;
    scene.copy(0, &[]);
    let before = everything(&scene.pool).await;
    let again = scene.copy(0, &[]);
    assert_eq!(again["backfill"]["changed_rows"], 0);
    assert_eq!(everything(&scene.pool).await, before);
    scene.execute("INSERT INTO c (p) VALUES (NULL)");
    let more = scene.copy(0, &[]);
    assert_eq!(more["backfill"]["changed_rows"], 1);
    // Another plan than the tables were made by is refused, and named.
    scene.execute("UPDATE p SET note = x'00' WHERE note = 'x'");
    let output = scene.tool(&["copy", "app.db"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("\"note\" bytea"), "{}", stderr(&output));
}

#[tokio::test]
async fn tables_from_elsewhere_are_refused_by_name_and_dropped_ones_are_copied_anew() {
    let scene = Scene::of("CREATE TABLE t (a); CREATE TABLE u (a); INSERT INTO t VALUES (1)").await;
    sqlx::raw_sql("CREATE SCHEMA app; CREATE TABLE app.u (other int)")
        .execute(&scene.pool)
        .await
        .unwrap();
    let output = scene.tool(&["copy", "app.db"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("no copy made: u"), "{said}");
    assert_eq!(scene.text("SELECT (to_regclass('app.t') IS NULL)::text").await, "true");
    for _ in 0..2 {
        sqlx::raw_sql("DROP SCHEMA app CASCADE").execute(&scene.pool).await.unwrap();
        scene.copy(0, &[]);
        assert_eq!(scene.text("SELECT count(*)::text FROM app.t").await, "1");
    }
}

#[tokio::test]
async fn a_copy_that_is_killed_goes_on() {
    let scene = Scene::of(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT); CREATE INDEX by_body ON t (body);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO t SELECT i, 'row ' || i FROM n",
    )
    .await;
    for wait_ms in [300, 700, 1100] {
        let mut command = toolkit();
        command.env("TOOLKIT_STATE_DIR", scene.database.folder().join("state"));
        command.args(["--database-url", scene.database.url(), "copy", "app.db"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.current_dir(scene.database.folder()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    scene.copy(0, &[]);
    assert_eq!(
        scene.text("SELECT count(*) || '/' || sum(id) FROM app.t").await,
        "60000/1800030000"
    );
    assert_eq!(scene.text("SELECT (to_regclass('app.by_body') IS NOT NULL)::text").await, "true");
}

#[tokio::test]
async fn what_is_no_file_to_copy_is_refused_with_what_to_do() {
    let scene = Scene::of("CREATE TABLE t (a)").await;
    let folder = scene.database.folder();
    std::fs::write(folder.join("text.db"), "this is no database at all").unwrap();
    std::fs::write(folder.join("empty.db"), "").unwrap();
    for (arguments, says) in [
        (&["copy", "absent.db"][..], "there is no file"),
        (&["copy", "text.db"], "not a SQLite 3 database"),
        (&["copy", "empty.db"], "too short"),
        (&["copy", "."], "there is no file"),
        (&["copy", "app.db", "--skip", "tt"], "it has: t"),
        (&["copy", "app.db", "--type", "t.b=text"], "it has: a"),
        (&["copy", "app.db", "--type", "t.a=varchar"], "known are"),
        (&["copy", "app.db", "--schema", "toolkit"], "not for tables"),
        (&["copy", "app.db", "--schema", "pg_x"], "not for tables"),
    ] {
        let output = scene.tool(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    let none = scene.tool(&["copy", "app.db", "--skip", "t"]);
    assert_eq!(none.status.code(), Some(0), "{}", stderr(&none));
}

#[tokio::test]
async fn init_writes_what_runs_as_it_stands_and_overwrites_nothing() {
    let scene = Scene::of(TYPED).await;
    let folder = scene.database.folder();
    let output = scene.tool(&["init", "--from", "app.db"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let settings = std::fs::read_to_string(folder.join("toolkit.toml")).unwrap();
    assert!(settings.lines().all(|line| line.is_empty() || line.starts_with('#')), "{settings}");
    for arguments in [
        &["migrate", "up", "--pack", "copy_app", "--dir", "packs/app"][..],
        &["backfill", "--pack", "packs/app", "--source", "app.db"],
        &["verify-parity", "--pack", "packs/app", "--source", "app.db"],
    ] {
        let output = scene.tool(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    }
    std::fs::write(folder.join("toolkit.toml"), "# mine").unwrap();
    std::fs::write(folder.join("packs/app/pack.toml"), "# mine").unwrap();
    assert_eq!(scene.tool(&["init"]).status.code(), Some(0));
    assert_eq!(scene.tool(&["init", "--from", "app.db"]).status.code(), Some(2));
    for name in ["toolkit.toml", "packs/app/pack.toml"] {
        assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), "# mine");
    }
}

#[tokio::test]
async fn the_commands_that_init_prints_run_as_they_are_pasted() {
    let scene = Scene::of(TYPED).await;
    let folder = scene.database.folder();
    let place = folder.join("it's here");
    std::fs::create_dir(&place).unwrap();
    std::fs::rename(&scene.file, place.join("my app.db")).unwrap();
    let output = scene.tool(&["init", "--from", "it's here/my app.db", "--pack-dir", "my pack"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let (_, next) = said.split_once("next:\n").unwrap();
    assert_eq!(next.trim().lines().count(), 4, "{said}");
    let mut lines = String::new();
    for line in next.trim().lines() {
        let words = line.trim().strip_prefix("toolkit ").unwrap();
        lines.push_str(&format!("\"$TOOLKIT\" {words} || exit 1\n"));
    }
    let done = std::process::Command::new("sh")
        .args(["-c", &lines])
        .env("TOOLKIT", crate::support::binary())
        .env("DATABASE_URL", scene.database.url())
        .env("TOOLKIT_STATE_DIR", folder.join("state"))
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(0), "{lines}{}{}", stdout(&done), stderr(&done));
}

#[test]
fn the_settings_file_of_init_is_one_once_its_lines_are_uncommented() {
    let text = include_str!("../src/cli/init.toml");
    let is_setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
    let lines: Vec<&str> = text.lines().filter(is_setting).map(|line| &line[2..]).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("toolkit.toml"), lines.join("\n")).unwrap();
    let output =
        toolkit().args(["embedded", "status"]).current_dir(folder.path()).output().unwrap();
    assert!(!stderr(&output).contains("toolkit.toml"), "{}", stderr(&output));
    assert_eq!(lines.len(), 8);
}

#[tokio::test]
async fn every_file_at_hand_is_copied_clean() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let mut files = Vec::new();
    for entry in walk(&data) {
        if entry.extension().is_some_and(|end| end == "sqlite" || end == "db") {
            files.push(entry);
        }
    }
    if files.is_empty() {
        println!("skipped: there is no ../shared/data with SQLite files");
    }
    for file in files {
        let database = TestDatabase::create().await;
        copies(database.url(), &file, &database.folder().join("state"), &file.to_string_lossy());
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
