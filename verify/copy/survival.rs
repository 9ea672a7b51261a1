//! A copy that is stopped, killed or cut off from its server, and one of a file that is written to:
//! the same command again, and every row is there.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Scene;
use crate::support::{stderr, stdout, toolkit};
use crate::torture::cluster::Cluster;

const ROWS: i64 = 3_000;

/// Slow, and in chunks small enough for something to happen between two of them.
const SLOW: [&str; 2] = ["--throttle", "2000/s"];

fn source() -> String {
    format!(
        "PRAGMA journal_mode = WAL; CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
         CREATE TABLE items (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id),
            body TEXT, at TEXT);
         CREATE INDEX items_parent ON items (parent);
         INSERT INTO parents VALUES (1, 'one'), (2, 'two');
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO items SELECT i, 1 + i % 2, 'body ' || i, '2026-01-01T00:00:00Z' FROM n"
    )
}

fn begin(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn slow_copy(scene: &Scene, more: &[&str]) -> Child {
    let mut command = toolkit();
    command.env("TOOLKIT_STATE_DIR", scene.database.folder().join("state"));
    command.args(["--database-url", scene.database.url(), "--format", "json", "copy", "app.db"]);
    command.args(SLOW).args(more).current_dir(scene.database.folder());
    begin(command)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Waits until there are more chunks than `chunks`; the number there is then.
async fn after(scene: &Scene, chunks: i64) -> i64 {
    let begun = Instant::now();
    loop {
        // Before the first copy there is no such table.
        let is_there = scene.text("SELECT to_regclass('toolkit.chunk')::text").await;
        if is_there != "NULL" {
            let done = "SELECT count(*)::text FROM toolkit.chunk WHERE status = 'done'";
            let done: i64 = scene.text(done).await.parse().unwrap();
            if done > chunks {
                return done;
            }
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "no chunk");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn is_whole(scene: &Scene, report: &Value) {
    assert_eq!(report["is_clean"], true, "{report}");
    assert_eq!(report["backfill"]["resumed"], true, "{report}");
    assert_eq!(scene.text("SELECT count(*)::text FROM app.items").await, ROWS.to_string());
    assert_eq!(scene.text("SELECT count(*)::text FROM toolkit.run").await, "1");
    let index = "SELECT count(*)::text FROM pg_indexes WHERE indexname = 'items_parent'";
    assert_eq!(scene.text(index).await, "1");
}

#[tokio::test]
async fn stopped_by_ctrl_c_a_copy_says_so_and_goes_on_where_it_was() {
    let scene = Scene::of(&source()).await;
    let child = slow_copy(&scene, &[]);
    let chunks = after(&scene, 2).await;
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    let notes = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{}{notes}", stdout(&output));
    assert!(notes.contains("what was copied is kept"), "{notes}");
    assert!(notes.contains("run the same command again"), "{notes}");
    assert_eq!(scene.text("SELECT status FROM toolkit.run").await, "interrupted");
    let report = scene.copy(0, &[]);
    is_whole(&scene, &report).await;
    assert_eq!(report["backfill"]["read"], ROWS + 2);
    let all = scene.text("SELECT count(*)::text FROM toolkit.chunk WHERE status = 'done'").await;
    assert!(all.parse::<i64>().unwrap() > chunks);
}

#[tokio::test]
async fn killed_again_and_again_a_copy_leaves_what_an_undisturbed_one_leaves() {
    let scene = Scene::of(&source()).await;
    let mut chunks = 0;
    for _ in 0..4 {
        let mut child = slow_copy(&scene, &[]);
        chunks = after(&scene, chunks).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    is_whole(&scene, &scene.copy(0, &[])).await;
    // Killed in the comparison, too: it is made again.
    let mut child = slow_copy(&scene, &[]);
    let begun = Instant::now();
    let second = "SELECT count(*)::text FROM toolkit.run WHERE status = 'completed'";
    while scene.text(second).await != "2" {
        assert!(begun.elapsed() < Duration::from_mins(1), "the second copy does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.copy(0, &[])["is_clean"], true);
}

#[tokio::test]
async fn a_copy_whose_server_goes_away_waits_for_it_or_is_run_again() {
    let cluster = Cluster::start_new(&[]);
    cluster.make_database("app", None).await;
    let folder = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(folder.path().join("app.db")).unwrap();
    file.execute_batch(&source()).unwrap();
    let copy = |more: &[&str]| {
        let mut command = toolkit();
        command.env("TOOLKIT_STATE_DIR", folder.path().join("state"));
        command.args(["--database-url", &cluster.url("app"), "--format", "json", "copy", "app.db"]);
        command.args(more).current_dir(folder.path());
        begin(command)
    };
    let done = async |chunks: usize| {
        let begun = Instant::now();
        loop {
            let table = "SELECT coalesce(to_regclass('toolkit.chunk')::text, '')";
            let query = "SELECT chunk_no::text FROM toolkit.chunk WHERE status = 'done'";
            if !cluster.line("app", table).await.is_empty()
                && cluster.lines("app", query).await.len() > chunks
            {
                return;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "no chunk");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Back soon: it goes on by itself.
    let child = copy(&SLOW);
    done(2).await;
    cluster.stop("immediate");
    cluster.start();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["is_clean"], true, "{report}");

    // Away while the copy is ended as well: the same command goes on.
    cluster.execute("app", &["DROP SCHEMA app CASCADE".to_owned()]).await;
    cluster.execute("app", &["DELETE FROM toolkit.chunk".to_owned()]).await;
    let child = copy(&SLOW);
    done(2).await;
    cluster.stop("immediate");
    tokio::time::sleep(Duration::from_millis(300)).await;
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}{}", stdout(&output), stderr(&output));
    cluster.start();
    let output = copy(&[]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["is_clean"], &report["backfill"]["resumed"]), (&true.into(), &true.into()));
    assert_eq!(cluster.line("app", "SELECT count(*)::text FROM app.items").await, ROWS.to_string());
}

/// Inserts rows until it is told to stop, as an application does.
struct Writer {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicI64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(file: PathBuf) -> Self {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(ROWS)));
        let (told, written) = (Arc::clone(&stop), Arc::clone(&last));
        let thread = std::thread::spawn(move || {
            let file = rusqlite::Connection::open(file).unwrap();
            file.busy_timeout(Duration::from_secs(30)).unwrap();
            while !told.load(Ordering::SeqCst) {
                let id = written.load(Ordering::SeqCst) + 1;
                let row = "INSERT INTO items VALUES (?1, 1, 'late', '2026-01-02T00:00:00Z')";
                file.execute(row, [id]).unwrap();
                written.store(id, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, last, thread: Some(thread) }
    }

    fn last(&self) -> i64 {
        self.last.load(Ordering::SeqCst)
    }

    fn end(mut self) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.last()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_file_that_is_written_to_is_copied_beside_its_writer_and_what_came_later_by_the_next() {
    let scene = Scene::of(&source()).await;
    let writer = Writer::start(scene.file.clone());
    let before = writer.last();
    let report = scene.copy(0, &["--snapshot"]);
    let after = writer.last();
    assert_eq!(report["is_clean"], true, "{report}");
    let copied: i64 = scene.text("SELECT count(*)::text FROM app.items").await.parse().unwrap();
    assert!(before <= copied && copied <= after && after > ROWS, "{before} {copied} {after}");
    let folder = report["folder"].as_str().unwrap();
    let verified = scene.tool(&["verify-parity", "--pack", folder, "--snapshot"]);
    assert_eq!(verified.status.code(), Some(0), "{}{}", stdout(&verified), stderr(&verified));

    let all = writer.end();
    let report = scene.copy(0, &["--snapshot"]);
    assert_eq!(report["is_clean"], true, "{report}");
    assert_eq!(scene.text("SELECT count(*)::text FROM app.items").await, all.to_string());
    // The file itself may be read again as well.
    assert_eq!(scene.copy(0, &[])["is_clean"], true);
}

#[tokio::test]
async fn a_copy_with_a_snapshot_that_is_killed_goes_on_with_the_same_one() {
    let scene = Scene::of(&source()).await;
    let mut child = slow_copy(&scene, &["--snapshot"]);
    after(&scene, 2).await;
    child.kill().unwrap();
    child.wait().unwrap();
    scene.execute("INSERT INTO items VALUES (9000, 2, 'later', '2026-01-03T00:00:00Z')");

    // Without --snapshot it would be another file; with another one, another run.
    let refused = scene.tool(&["copy", "app.db"]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("started with --snapshot"), "{text}");

    let report = scene.copy(0, &["--snapshot"]);
    is_whole(&scene, &report).await;
    let report = scene.copy(0, &["--snapshot"]);
    assert_eq!(report["backfill"]["read"], ROWS + 3, "{report}");
    assert_eq!(scene.text("SELECT body FROM app.items WHERE id = 9000").await, "later");
    // Of the copies of runs that are over only the newest is kept.
    let copies = scene.database.folder().join("state/snapshots/copy_app");
    assert_eq!(std::fs::read_dir(copies).unwrap().count(), 1);
}
