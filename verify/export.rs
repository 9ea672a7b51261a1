//! Archives: what is exported comes back as it was, byte for byte, and nothing else is believed.

mod damage;
mod scenarios;
mod sequences;
mod sqlite;
mod survival;
mod types;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use sqlx::Executor as _;
use toolkit::store::sql;

use crate::support::{TestDatabase, stderr, toolkit};

/// A command of the built binary on a database.
fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    command(database, arguments).output().expect("toolkit")
}

fn command(database: &TestDatabase, arguments: &[&str]) -> std::process::Command {
    let mut command = toolkit();
    command
        .args(["--database-url", database.url(), "--state-dir"])
        .arg(database.folder().join("state"))
        .args(arguments)
        .current_dir(database.folder());
    command
}

/// The same, which has to succeed.
fn done(database: &TestDatabase, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["--format", "json"][..], arguments].concat();
    let output = run(database, &arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn execute(database: &TestDatabase, statements: &str) {
    let pool = database.pool().await;
    let done = pool.execute(sql(statements.to_owned())).await;
    done.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn text(database: &TestDatabase, query: &str) -> String {
    let pool = database.pool().await;
    let found: Option<String> =
        sqlx::query_scalar(sql(query.to_owned())).fetch_one(&pool).await.unwrap();
    found.unwrap_or_else(|| "NULL".to_owned())
}

/// Every file below a folder, by path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            (path, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Names what differs instead of printing it.
fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (files(left), files(right));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    for (name, bytes) in &left {
        assert!(
            bytes == &right[name],
            "{name}:\n{}\n\n{}",
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(&right[name])
        );
    }
}

/// A pack of one's own: its migration, and a stream for each target with its key.
fn own_pack(folder: &Path, migration: &str, targets: &[(&str, &str)]) -> PathBuf {
    let pack = folder.join("pack");
    std::fs::create_dir_all(&pack).unwrap();
    let mut text = "[pack]\nname = \"own\"\nversion = 1\n".to_owned();
    for (target, key) in targets {
        text.push_str(&format!(
            "\n[[stream]]\nname = \"{}\"\nsource = {{ sqlite = \"app.sqlite\", table = \"t\" }}\n\
             target = \"{target}\"\nkey = [\"{key}\"]\n",
            target.replace('.', "_")
        ));
    }
    std::fs::write(pack.join("pack.toml"), text).unwrap();
    std::fs::write(pack.join("V1__own.sql"), migration).unwrap();
    pack
}

/// A database with a pack of one's own, migrated, and rows in it.
async fn own(migration: &str, targets: &[(&str, &str)], rows: &str) -> TestDatabase {
    let database = TestDatabase::create().await;
    let pack = own_pack(database.folder(), migration, targets);
    done(&database, &["migrate", "up", "--pack", "own", "--dir", pack.to_str().unwrap()]);
    execute(&database, rows).await;
    database
}
