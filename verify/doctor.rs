//! `toolkit doctor`: what will fail is found before it does, and looking changes nothing.

use std::process::Output;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::backfill::fingerprint;
use crate::support::{TestDatabase, as_role, stderr, stdout, toolkit};

fn doctor(url: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output: Output = toolkit()
        .args(["--format", "json", "--database-url", url, "doctor"])
        .args(more)
        .output()
        .expect("toolkit");
    let report: Value = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
    (output.status.code(), report["findings"].as_array().expect("findings").clone())
}

/// Health and sentence of the finding on `what`.
fn of<'f>(findings: &'f [Value], what: &str) -> Vec<(&'f str, &'f str)> {
    let of_it = |found: &&Value| found["what"].as_str().is_some_and(|name| name.ends_with(what));
    let text = |found: &'f Value, key: &str| found[key].as_str().unwrap_or_default();
    findings
        .iter()
        .filter(of_it)
        .map(|found| (text(found, "health"), text(found, "finding")))
        .collect()
}

#[tokio::test]
async fn a_server_that_fits_is_good_and_one_that_is_not_there_is_a_finding_with_exit_1() {
    let database = TestDatabase::create().await;
    let (code, findings) = doctor(database.url(), &["--pack", "unified"]);
    // A test server may run without fsync, which is as bad as said.
    let others = findings.iter().filter(|found| found["what"] != "durability");
    assert!(others.clone().all(|found| found["health"] != "bad"), "{findings:#?}");
    let is_bad = of(&findings, "durability")[0].0 == "bad";
    assert_eq!(code, Some(i32::from(is_bad)), "{findings:#?}");
    for what in ["connection", "version", "grants", "clock", "pooler"] {
        assert_eq!(of(&findings, what)[0].0, "good", "{what}: {findings:#?}");
    }
    assert!(of(&findings, "unified")[0].1.contains("nothing is migrated"), "{findings:#?}");
    let (code, findings) = doctor("postgres://nobody:secret@127.0.0.1:1/none", &[]);
    assert_eq!(code, Some(1));
    let [(health, sentence)] = of(&findings, "connection")[..] else { panic!("{findings:#?}") };
    assert_eq!(health, "bad");
    assert!(!sentence.contains("secret"), "{sentence}");
}

#[tokio::test]
async fn a_role_without_rights_and_a_read_only_one_are_bad_and_the_grant_is_spelt_out() {
    let database = TestDatabase::create().await;
    let mut conn = PgConnection::connect(database.url()).await.expect("connect");
    let name: String = sqlx::query_scalar("SELECT 'poor_' || current_database()")
        .fetch_one(&mut conn)
        .await
        .expect("name");
    let run = async |conn: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(conn).await.expect(&sql);
    };
    run(
        &mut conn,
        format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'pw'; \
        ALTER ROLE {name} SET default_transaction_read_only = on; \
        ALTER ROLE {name} SET synchronous_commit = off"
        ),
    )
    .await;
    let (code, findings) = doctor(&as_role(database.url(), &name), &[]);
    run(&mut conn, format!("DROP ROLE {name}")).await;
    assert_eq!(code, Some(1), "{findings:#?}");
    assert!(of(&findings, "grants").iter().any(|(health, _)| *health == "bad"), "{findings:#?}");
    assert_eq!(of(&findings, "writes")[0].0, "bad");
    assert_ne!(of(&findings, "durability")[0].0, "good");
    let advice = findings.iter().filter_map(|found| found["advice"].as_str());
    assert!(advice.into_iter().any(|text| text.contains("GRANT CREATE ON DATABASE")));
}

#[tokio::test]
async fn source_files_are_described_and_nothing_beside_them_changes() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let wal = rusqlite::Connection::open(at("wal.db")).expect("open");
    wal.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        .expect("written");
    let old = rusqlite::Connection::open(at("old.db")).expect("open");
    old.execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a)").expect("written");
    drop(old);
    std::fs::write(at("a.json"), "{}").expect("written");
    // The index of the log is shared memory, where readers leave their marks.
    let files = || {
        let mut files = fingerprint(folder.path());
        files.retain(|path, _| !path.to_string_lossy().ends_with("-shm"));
        files
    };
    let before = files();
    let source = folder.path().display().to_string();
    let (code, findings) =
        doctor(database.url(), &["--source", &source, "--source", "/no/such/place"]);
    let after = files();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, state) in before {
        assert!(after[&path] == state, "{} was changed", path.display());
    }
    assert_eq!(code, Some(1));
    assert_eq!(of(&findings, "/no/such/place")[0].0, "bad");
    assert!(of(&findings, "wal.db")[0].1.contains("write-ahead log, UTF-8"), "{findings:#?}");
    let old = of(&findings, "old.db");
    assert!(old[0].1.contains("rollback journal, UTF-16le"), "{findings:#?}");
    assert!(old.iter().any(|(health, _)| *health == "warning"), "{findings:#?}");
    drop(wal);
}
