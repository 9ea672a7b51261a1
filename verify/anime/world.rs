//! A migrated database and artifacts of one test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use toolkit::anime::ingest::{self, Options, Report};
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::store::{Postgres, sql};
use toolkit::{Result, migrate};

use crate::support::{TestDatabase, stderr, toolkit};

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) postgres: Postgres,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let postgres = Postgres::connect(&database.settings()).await.unwrap();
        let mut conn = postgres.dedicated().await.unwrap();
        migrate::up(&mut conn, &["anime"], &migrate::Options::default()).await.unwrap();
        Self { database, postgres }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.database.folder().join(name)
    }

    /// Writes an artifact of these entries, dated if a date is given.
    pub(crate) fn artifact(&self, name: &str, date: &str, entries: &[Value]) -> PathBuf {
        let path = self.path(name);
        let mut document = serde_json::json!({ "repository": "own", "data": entries });
        if !date.is_empty() {
            document["lastUpdate"] = Value::from(date);
        }
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    pub(crate) async fn try_ingest(&self, path: &Path, options: Options) -> Result<Report> {
        let settings = self.database.settings();
        let pack = Pack::find("anime").unwrap();
        let roots = [path.to_path_buf()];
        let ready = ingest::prepare(&settings, &self.postgres, &pack, &roots, options).await?;
        ingest::run(&self.postgres, &ready, &Stop::new(), &|_| ()).await
    }

    pub(crate) async fn ingest(&self, path: &Path) -> Report {
        self.try_ingest(path, Options::default()).await.unwrap()
    }

    /// Ingests entries as an artifact of their own.
    pub(crate) async fn say(&self, date: &str, entries: &[Value]) -> Report {
        let path = self.artifact("said.json", date, entries);
        self.ingest(&path).await
    }

    pub(crate) async fn text(&self, query: &str) -> String {
        let found: Option<Option<String>> = sqlx::query_scalar(sql(query.to_owned()))
            .fetch_optional(self.postgres.pool())
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        found.flatten().unwrap_or_else(|| "NULL".to_owned())
    }

    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        sqlx::query_scalar(sql(query.to_owned()))
            .fetch_all(self.postgres.pool())
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    pub(crate) async fn sql(&self, statement: &str) {
        let mut conn = self.postgres.dedicated().await.unwrap();
        let done = sqlx::raw_sql(sql(statement.to_owned())).execute(&mut conn).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Digest of everything but runs, states' times, the outbox and generated numbers.
    pub(crate) async fn content(&self) -> String {
        let mut parts = Vec::new();
        for (table, without) in [
            ("anime", "'updated_at', 'created_at'"),
            ("manga", "'updated_at', 'created_at'"),
            ("original_work", "'updated_at', 'created_at'"),
            ("episode", "'updated_at', 'created_at'"),
            ("character", "'updated_at', 'created_at'"),
            ("character_alias", ""),
            ("anime_character", ""),
            ("company", ""),
            ("anime_company", ""),
            ("anime_xref", ""),
            ("anime_relation", "'id'"),
            ("anime_manga_relation", "'id'"),
            ("anime_work_relation", "'id'"),
            ("graph_edge", ""),
        ] {
            let query = format!(
                "SELECT coalesce(string_agg(row, E'\\n' ORDER BY row), '') FROM \
                 (SELECT (to_jsonb(t) - ARRAY[{without}]::text[])::text AS row FROM {table} t) AS r"
            );
            parts.push(format!("{table}\n{}", self.text(&query).await));
        }
        parts.join("\n")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = toolkit();
        command
            .args(["--database-url", self.database.url(), "--state-dir"])
            .arg(self.database.folder().join("state"))
            .args(arguments)
            .current_dir(self.database.folder());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("toolkit")
    }

    /// Runs a backfill whose server ends its session at each try of this group, as a kill would, and
    /// kills it once all groups before are there: nothing is tidied up.
    pub(crate) async fn kill_at_group(&self, group: u32, arguments: &[&str]) {
        self.sql(&format!(
            "CREATE FUNCTION stop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.chunk_no = {group} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
             RETURN NEW; END $$; CREATE TRIGGER stop_it BEFORE INSERT ON toolkit.chunk \
             FOR EACH ROW EXECUTE FUNCTION stop_it()"
        ))
        .await;
        let mut child = self.command(arguments).spawn().unwrap();
        let done = "SELECT count(*)::text FROM toolkit.chunk WHERE status = 'done'";
        while self.text(done).await != group.to_string() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        self.sql("DROP TRIGGER stop_it ON toolkit.chunk").await;
    }

    /// As [`World::run`], once the lock of a run that was killed is gone.
    pub(crate) fn run_after_a_kill(&self, arguments: &[&str]) -> Output {
        let mut again = self.run(arguments);
        for _ in 0..100 {
            if again.status.code() != Some(2) || !stderr(&again).contains("is running") {
                break;
            }
            again = self.run(arguments);
        }
        again
    }
}

/// An entry of its own: an id, urls by number, and what the test adds.
pub(crate) fn entry(number: u32, more: Value) -> Value {
    let mut anime = serde_json::json!({
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "title": format!("Anime {number}"),
        "type": "TV",
        "status": "ONGOING",
        "episode_count": 12,
        "sources": [format!("https://myanimelist.net/anime/{number}")],
    });
    let (mut characters, mut episodes) = (Value::Null, Value::Null);
    if let Value::Object(members) = more {
        for (key, value) in members {
            match key.as_str() {
                "characters" => characters = value,
                "episodes" => episodes = value,
                _ => anime[key] = value,
            }
        }
    }
    let mut entry = serde_json::json!({ "anime": anime });
    if !characters.is_null() {
        entry["characters"] = characters;
    }
    if !episodes.is_null() {
        entry["episodes"] = episodes;
    }
    entry
}
