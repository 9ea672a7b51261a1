//! A fresh database per test, and the built binary.
#![allow(dead_code, reason = "modules of the harness use different parts")]

pub(crate) mod backfill;
pub(crate) mod markup;
mod server;
pub(crate) mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::str::FromStr;

pub(crate) use self::server::closed_port;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgPool};
use toolkit::config::{Database, Settings};
use toolkit::store::{quote_ident, sql};

/// A database of one test's own; dropped with it.
pub(crate) struct TestDatabase {
    name: String,
    url: String,
    folder: tempfile::TempDir,
}

impl TestDatabase {
    /// An empty UTF8 database on the test server.
    pub(crate) async fn create() -> Self {
        Self::try_create("").await.expect("a database")
    }

    /// The same, ordered as people do and not by bytes; None where the server cannot.
    pub(crate) async fn collated() -> Option<Self> {
        Self::try_create("LOCALE_PROVIDER icu ICU_LOCALE 'en-US'").await
    }

    async fn try_create(options: &str) -> Option<Self> {
        let server = tokio::task::spawn_blocking(server::url).await.unwrap();
        let name = format!("verify_{}", uuid::Uuid::new_v4().simple());
        let statement = format!(
            "CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0 {options}",
            quote_ident(&name)
        );
        let options = PgConnectOptions::from_str(server).unwrap();
        let mut connection = options.connect().await.expect("the test server");
        connection.execute(sql(statement)).await.ok()?;
        connection.close().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Some(Self { url: with_database(server, &name), name, folder })
    }

    /// URL of the database, password included.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Settings that name it, with a state folder of their own.
    pub(crate) fn settings(&self) -> Settings {
        Settings::new(Database::Url(self.url.clone()), self.folder.path().join("state"))
    }

    /// A scratch folder that goes with the database.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A plain pool, not pinned as the toolkit's are.
    pub(crate) async fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(4).connect(&self.url).await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_ident(&self.name));
        // A thread: a test's runtime cannot be blocked on from inside. Best effort.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                if let Ok(options) = PgConnectOptions::from_str(server::url())
                    && let Ok(mut connection) = options.connect().await
                {
                    let _ = connection.execute(sql(statement)).await;
                }
            });
        });
        let _ = dropping.join();
    }
}

/// Replaces a URL's database.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let (before, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = before.split_once("://").expect("a URL");
    let authority = rest.split('/').next().unwrap_or_default();
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{scheme}://{authority}/{database}{query}")
}

/// `url` for another role, whose password is `pw`.
pub(crate) fn as_role(url: &str, role: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let after = rest.split_once('@').map_or(rest, |(_, after)| after);
    format!("{scheme}://{role}:pw@{after}")
}

/// The built binary.
pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_toolkit").into()
}

/// A copy of a program, to be run. Another process makes it: what is open for writing here may be
/// inherited by a child of another test, and nobody can run it meanwhile.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// The built binary, in an environment that names no server and no settings. Its state (the
/// redaction key) is kept beside the build: the default depends on the working folder, and tests
/// would leave one behind for each of theirs.
pub(crate) fn toolkit() -> Command {
    let mut command = cleaned(Command::new(binary()));
    command.env("TOOLKIT_STATE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
    command
}

/// Takes out of a command's environment what changes the toolkit's behaviour.
pub(crate) fn cleaned(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["PG", "QDRANT_", "TOOLKIT_", "DATABASE_URL"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// What a finished command printed on standard output.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a finished command printed on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
