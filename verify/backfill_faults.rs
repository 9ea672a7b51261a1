//! A backfill that is killed, cut off, stopped or read from under its feet.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, setfsuid};
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use toolkit::demo::generate::Shape;
use toolkit::source::sqlite::Database;

use crate::support::backfill::{Move, Report, assert_same, fingerprint};
use crate::support::{stderr, stdout};

const CHUNKS: &[&str] = &["--chunk-records", "100"];

pub(crate) fn shape() -> Shape {
    Shape { token_usage: 16_000, query_cache: 600, ..Shape::demo() }
}

pub(crate) fn start(scene: &Move, more: &[&str]) -> Child {
    scene.backfill_command(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the run has committed `chunks`; false if it ended before.
pub(crate) async fn reaches(scene: &Move, child: &mut Child, chunks: i64) -> bool {
    let start = Instant::now();
    while scene.count("toolkit.chunk WHERE status = 'done'").await < chunks {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "no {chunks} chunks");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

pub(crate) async fn assert_as_undisturbed(scene: &Move, report: &Report) {
    let calm = Move::unified(scene.source.clone()).await;
    let undisturbed = calm.backfill(1, &[]);
    for stream in undisturbed.streams() {
        assert_eq!(report.six(&stream), undisturbed.six(&stream), "{stream}");
    }
    assert_same(&scene.dump().await, &calm.dump().await);
    assert_eq!(scene.rejects().await, calm.rejects().await);
    assert_eq!(scene.count("toolkit.ledger").await, calm.count("toolkit.ledger").await);
    let locks = "pg_locks WHERE locktype = 'advisory' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(scene.count(locks).await, 0, "locks are left");
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a failure is replayed by its seed")]
async fn killed_anywhere_and_run_again_it_leaves_what_an_undisturbed_run_leaves() {
    let seed = rand::rng().random::<u64>();
    eprintln!("seed {seed}");
    let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let (scene, _) = Move::generated(7, &shape()).await;
    for round in 1..=5 {
        let mut child = start(&scene, CHUNKS);
        let done = scene.count("toolkit.chunk WHERE status = 'done'").await;
        if !reaches(&scene, &mut child, done + dice.random_range(1..12)).await {
            break;
        }
        thread::sleep(Duration::from_micros(dice.random_range(0..30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let runs = scene.count("toolkit.run").await;
        assert_eq!(runs, 1, "round {round} started over");
    }
    let report = scene.backfill(1, CHUNKS);
    assert_eq!(report.0["resumed"], true);
    assert_as_undisturbed(&scene, &report).await;
}

#[tokio::test]
async fn a_terminated_session_is_replaced_and_the_run_goes_on() {
    let (scene, _) = Move::generated(7, &shape()).await;
    let mut child = start(&scene, CHUNKS);
    for chunks in [2, 40, 80] {
        if !reaches(&scene, &mut child, chunks).await {
            break;
        }
        scene
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'toolkit' AND datname = current_database()",
            )
            .await;
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("retrying"), "{}", stderr(&output));
    assert_as_undisturbed(&scene, &Report::of(&output)).await;
}

#[tokio::test]
async fn ctrl_c_keeps_whole_chunks_and_says_how_to_resume() {
    let (scene, _) = Move::generated(7, &shape()).await;
    let mut child = start(&scene, CHUNKS);
    assert!(reaches(&scene, &mut child, 5).await);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let resume =
        format!("resume with: toolkit backfill --pack unified --source {}", scene.source.display());
    assert!(text.contains(&resume), "{text}");
    assert_eq!(scene.text("SELECT status FROM toolkit.run").await, "interrupted");
    let report = scene.backfill(1, &[]);
    assert_eq!(report.0["resumed"], true);
    assert_as_undisturbed(&scene, &report).await;
}

const LOG: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"log\"\n";

async fn log_of(mode: &str, rows: u32) -> Move {
    Move::own(
        "CREATE TABLE public.log (id bigint PRIMARY KEY, body text)",
        LOG,
        &format!(
            "PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF;
             CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO log SELECT i, hex(randomblob(100)) FROM n"
        ),
    )
    .await
}

#[tokio::test]
async fn a_source_that_moves_is_reported_and_its_writers_are_never_locked_out() {
    for mode in ["DELETE", "WAL"] {
        let scene = log_of(mode, 30_000).await;
        let file = scene.source.join("app.sqlite");
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let stop = Arc::clone(&stop);
            let connection = Connection::open(&file).unwrap();
            connection.busy_timeout(Duration::from_secs(1)).unwrap();
            thread::spawn(move || {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    connection.execute("UPDATE log SET body = body || 'x' WHERE id = 7", [])?;
                    written += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                Ok::<_, rusqlite::Error>(written)
            })
        };
        let output = scene.run(&[]);
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap().expect("the writer was locked out");
        assert!(written > 5, "{mode}: only {written} writes");
        assert_eq!(output.status.code(), Some(1), "{mode}: {}", stderr(&output));
        let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(report["changed_sources"][0], "app.sqlite (items)", "{mode}");
        assert_eq!(scene.count("log").await, 30_000, "{mode}");
        let output = scene
            .command(&["backfill", "--pack", &scene.pack, "--source"])
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{mode}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn one_commit_into_a_log_that_started_over_is_noticed() {
    let scene = log_of("WAL", 3000).await;
    let application = scene.sqlite();
    application.execute("UPDATE log SET body = 'long log'", []).unwrap();
    let _: i64 =
        application.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0)).unwrap();
    application.execute("UPDATE log SET body = 'first' WHERE id = 1", []).unwrap();
    let before = toolkit::source::sqlite::change_token(&scene.source.join("app.sqlite")).unwrap();
    application.execute("UPDATE log SET body = 'second' WHERE id = 1", []).unwrap();
    let after = toolkit::source::sqlite::change_token(&scene.source.join("app.sqlite")).unwrap();
    assert_ne!(before, after);
}

#[tokio::test]
async fn rows_still_in_the_log_are_read_and_a_closed_database_stays_as_it_was() {
    let scene = log_of("WAL", 100).await;
    let before = fingerprint(&scene.source);
    assert_eq!(before.len(), 1);
    assert_eq!(scene.backfill(0, &[]).records("items", "inserted"), 100);
    assert!(fingerprint(&scene.source) == before, "a cleanly closed database was touched");

    let application = scene.sqlite();
    application.execute("INSERT INTO log VALUES (101, 'in the log')", []).unwrap();
    assert!(fs::metadata(scene.source.join("app.sqlite-wal")).unwrap().len() > 0);
    assert_eq!(scene.backfill(0, &[]).records("items", "inserted"), 1);
    assert_eq!(scene.text("SELECT body FROM log WHERE id = 101").await, "in the log");
}

/// Copies a database as it lies on the disk in mid-write, and lets only its owner write there.
fn frozen(from: &std::path::Path, suffixes: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap();
    for suffix in suffixes {
        let name = format!("app.sqlite{suffix}");
        fs::copy(from.join(&name), folder.path().join(&name)).unwrap();
    }
    folder
}

/// Reads a database as somebody who may not write to its folder.
fn rows_for_a_stranger(folder: &std::path::Path) -> Vec<String> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
    let path = folder.join("app.sqlite");
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let read = thread::spawn(move || {
        if Uid::effective().is_root() {
            setfsuid(nobody.uid);
        }
        let database = Database::open(&path).map_err(|error| error.to_string())?;
        database.check().map_err(|error| error.to_string())?;
        database.tables().map_err(|error| error.to_string())
    });
    let tables = read.join().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    tables.unwrap()
}

#[tokio::test]
async fn what_sqlite_cannot_read_without_writing_is_read_from_a_copy() {
    let scene = log_of("WAL", 100).await;
    let application = scene.sqlite();
    application.execute_batch("CREATE TABLE only_in_the_log (id)").unwrap();
    let folder = frozen(&scene.source, &["", "-wal"]);
    let before = fingerprint(folder.path());
    assert_eq!(rows_for_a_stranger(folder.path()), ["log", "only_in_the_log"]);
    assert!(fingerprint(folder.path()) == before, "the source was touched");

    let scene = log_of("DELETE", 5000).await;
    let mut application = scene.sqlite();
    application.execute_batch("PRAGMA cache_size = 1; PRAGMA synchronous = FULL").unwrap();
    let writing = application.transaction().unwrap();
    writing.execute_batch("CREATE TABLE torn (id); UPDATE log SET body = 'torn'").unwrap();
    let folder = frozen(&scene.source, &["", "-journal"]);
    drop(writing);
    let before = fingerprint(folder.path());
    assert_eq!(rows_for_a_stranger(folder.path()), ["log"]);
    assert!(fingerprint(folder.path()) == before, "the source was touched");
    let report = Report::of(
        &scene
            .command(&["--format", "json", "backfill", "--pack", &scene.pack, "--source"])
            .arg(folder.path())
            .output()
            .unwrap(),
    );
    assert_eq!(report.records("items", "inserted"), 5000);
    assert_eq!(scene.count("log WHERE body = 'torn'").await, 0);
    assert!(fingerprint(folder.path()) == before, "the source was touched");
}
