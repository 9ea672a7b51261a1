//! Running `toolkit backfill` on sources made by a test, and looking at what it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sqlx::{PgPool, Row};
use toolkit::demo::generate::{Generated, Shape, generate};
use toolkit::store::{quote_ident, sql};

use super::{TestDatabase, stderr, stdout, toolkit};

/// Rows as sorted text, by table.
pub(crate) type Dump = BTreeMap<String, Vec<String>>;

/// A migrated database and a folder of sources.
pub(crate) struct Move {
    pub(crate) database: TestDatabase,
    pub(crate) pool: PgPool,
    pub(crate) pack: String,
    pub(crate) source: PathBuf,
}

impl Move {
    /// The pack `unified`, migrated, with a generated source.
    pub(crate) async fn generated(seed: u64, shape: &Shape) -> (Self, Generated) {
        let database = TestDatabase::create().await;
        let source = database.folder().join("source");
        fs::create_dir(&source).unwrap();
        let generated = generate(&source, seed, shape).unwrap();
        (Self::over(database, "unified", source).await, generated)
    }

    /// The pack `unified`, migrated, over a folder.
    pub(crate) async fn unified(source: PathBuf) -> Self {
        Self::over(TestDatabase::create().await, "unified", source).await
    }

    /// A built-in pack, migrated, over a folder that `make` fills.
    pub(crate) async fn builtin(pack: &str, make: fn(&Path)) -> Self {
        let database = TestDatabase::create().await;
        let source = database.folder().join("source");
        fs::create_dir(&source).unwrap();
        make(&source);
        let pool = database.pool().await;
        let this = Self { database, pool, pack: pack.to_owned(), source };
        this.succeeds(&["migrate", "up", "--pack", pack]);
        this
    }

    async fn over(database: TestDatabase, pack: &str, source: PathBuf) -> Self {
        let pool = database.pool().await;
        let this = Self { database, pool, pack: pack.to_owned(), source };
        this.succeeds(&["migrate", "up"]);
        this
    }

    /// A pack of the test's own: DDL, `pack.toml` below its header, and one SQLite file
    /// `app.sqlite` filled by `source`.
    pub(crate) async fn own(ddl: &str, streams: &str, source: &str) -> Self {
        Self::own_in(TestDatabase::create().await, ddl, streams, source).await
    }

    /// The same in a database of the test's choice.
    pub(crate) async fn own_in(
        database: TestDatabase,
        ddl: &str,
        streams: &str,
        source: &str,
    ) -> Self {
        let folder = database.folder().join("pack");
        let files = database.folder().join("source");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&files).unwrap();
        fs::write(folder.join("V1__tables.sql"), ddl).unwrap();
        let header = "[pack]\nname = \"mine\"\nversion = 1\n";
        fs::write(folder.join("pack.toml"), format!("{header}{streams}")).unwrap();
        if !source.is_empty() {
            let file = rusqlite::Connection::open(files.join("app.sqlite")).unwrap();
            file.execute_batch(source).unwrap();
        }
        let pool = database.pool().await;
        let pack = folder.to_str().unwrap().to_owned();
        let this = Self { database, pool, pack, source: files };
        this.succeeds(&["migrate", "up", "--pack", "mine", "--dir", &this.pack]);
        this
    }

    /// `app.sqlite`, for writing.
    pub(crate) fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.source.join("app.sqlite")).unwrap()
    }

    /// The tool with this database.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = toolkit();
        command
            .args(["--database-url", self.database.url()])
            .args(arguments)
            .current_dir(self.database.folder());
        command
    }

    /// `toolkit backfill` over the source.
    pub(crate) fn backfill_command(&self, more: &[&str]) -> Command {
        let mut command = self.command(&["--format", "json", "backfill", "--pack", &self.pack]);
        command.arg("--source").arg(&self.source).args(more);
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> Output {
        self.backfill_command(more).output().unwrap()
    }

    /// Runs a backfill that has to exit with `code`; its report.
    #[track_caller]
    pub(crate) fn backfill(&self, code: i32, more: &[&str]) -> Report {
        let output = self.run(more);
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        Report::of(&output)
    }

    /// Exit code of a full verification.
    pub(crate) fn parity(&self) -> i32 {
        self.verify().status.code().unwrap()
    }

    pub(crate) fn verify(&self) -> Output {
        let mut command = self.command(&["verify-parity", "--pack", &self.pack, "--level", "full"]);
        command.arg("--source").arg(&self.source).output().unwrap()
    }

    /// A full verification finds no difference.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let output = self.verify();
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    }

    #[track_caller]
    pub(crate) fn succeeds(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    }

    /// A single text; NULL as `NULL`.
    pub(crate) async fn text(&self, query: &str) -> String {
        let row: Option<Option<String>> =
            sqlx::query_scalar(sql(query.to_owned())).fetch_optional(&self.pool).await.unwrap();
        row.map_or_else(|| "no row".to_owned(), |text| text.unwrap_or_else(|| "NULL".to_owned()))
    }

    pub(crate) async fn count(&self, from: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {from}");
        sqlx::query_scalar(sql(query)).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn execute(&self, statements: &str) {
        sqlx::raw_sql(sql(statements.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// Every row of every table of the application, as sorted text; `id`s the database gives
    /// out itself are left out.
    pub(crate) async fn dump(&self) -> Dump {
        let mut dump = Dump::new();
        for (schema, table) in self.tables().await {
            if schema == "toolkit" || table.starts_with("refinery") {
                continue;
            }
            let columns: Vec<String> = sqlx::query_scalar(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = ($1 || '.' || $2)::regclass \
                 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            )
            .bind(quote_ident(&schema))
            .bind(quote_ident(&table))
            .fetch_all(&self.pool)
            .await
            .unwrap();
            let columns: Vec<String> = columns
                .iter()
                .filter(|column| !(table == "run_records" && *column == "id"))
                .map(|column| match column.as_str() {
                    // A comparison knows no time of its own; the column's default is now().
                    "created_at" | "updated_at" if table == "run_records" => format!(
                        "CASE WHEN artifact_type IS DISTINCT FROM 'workstream_comparison' \
                         THEN {column} END"
                    ),
                    _ => quote_ident(column),
                })
                .collect();
            let query = format!(
                "SELECT ROW({})::text FROM {}.{} ORDER BY 1",
                columns.join(", "),
                quote_ident(&schema),
                quote_ident(&table)
            );
            let rows = sqlx::query_scalar(sql(query)).fetch_all(&self.pool).await.unwrap();
            dump.insert(format!("{schema}.{table}"), rows);
        }
        dump
    }

    /// Ordinary tables, partitions included, parents not.
    pub(crate) async fn tables(&self) -> Vec<(String, String)> {
        sqlx::query(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' \
             AND n.nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
        .into_iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
    }

    /// Tables and columns that hold `needle` in a text, JSON, array or bytea column.
    pub(crate) async fn holding(&self, needle: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (schema, table) in self.tables().await {
            let query = format!(
                "SELECT count(*) FROM {}.{} t WHERE t::text LIKE '%' || $1 || '%' \
                 OR t::text LIKE '%' || $2 || '%'",
                quote_ident(&schema),
                quote_ident(&table)
            );
            let count: i64 = sqlx::query_scalar(sql(query))
                .bind(needle)
                .bind(hex::encode(needle))
                .fetch_one(&self.pool)
                .await
                .unwrap();
            if count > 0 {
                found.push(format!("{schema}.{table}: {count}"));
            }
        }
        found
    }

    /// `(source, locator, column, reason)` of the open rejects.
    pub(crate) async fn rejects(&self) -> Vec<(String, String, String, String)> {
        sqlx::query_as(
            "SELECT source, locator, coalesce(column_name, ''), reason FROM toolkit.reject \
             WHERE state = 'open' ORDER BY stream, source, locator, column_name, reason",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}

/// The JSON a backfill prints.
pub(crate) struct Report(pub(crate) Value);

impl Report {
    pub(crate) fn of(output: &Output) -> Self {
        Self(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    fn stream(&self, name: &str) -> &Value {
        let streams = self.0["streams"].as_array().expect("streams");
        &streams.iter().find(|stream| stream["stream"] == name).expect("the stream")["counts"]
    }

    pub(crate) fn streams(&self) -> Vec<String> {
        let streams = self.0["streams"].as_array().expect("streams");
        streams.iter().map(|stream| stream["stream"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn read(&self, stream: &str) -> u64 {
        self.stream(stream)["read"].as_u64().unwrap()
    }

    pub(crate) fn records(&self, stream: &str, class: &str) -> u64 {
        self.stream(stream)["records"][class].as_u64().unwrap()
    }

    pub(crate) fn derived(&self, stream: &str, output: &str, class: &str) -> u64 {
        self.stream(stream)["derived"][output][class].as_u64().unwrap_or(0)
    }

    /// The six counts in the order of the sum: inserted, updated, unchanged, superseded, skipped,
    /// rejected.
    pub(crate) fn six(&self, stream: &str) -> [u64; 6] {
        ["inserted", "updated", "unchanged", "superseded", "skipped", "rejected"]
            .map(|class| self.records(stream, class))
    }
}

/// Fails with the first rows that differ of two dumps.
#[track_caller]
pub(crate) fn assert_same(left: &Dump, right: &Dump) {
    assert!(left.keys().eq(right.keys()), "{:?} {:?}", left.keys(), right.keys());
    for (table, rows) in left {
        let others = &right[table];
        let only = |these: &[String], those: &[String]| {
            let found = these.iter().find(|row| !those.contains(row));
            found.map(|row| row.chars().take(2000).collect::<String>())
        };
        assert!(
            rows == others,
            "{table}: {} and {} rows; only left: {:?}; only right: {:?}",
            rows.len(),
            others.len(),
            only(rows, others),
            only(others, rows)
        );
    }
}

/// Names, sizes, bytes and modification times of everything below a folder.
pub(crate) fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let modified = entry.metadata().unwrap().modified().unwrap();
            found.insert(entry.path().to_owned(), (fs::read(entry.path()).unwrap(), modified));
        }
    }
    found
}
