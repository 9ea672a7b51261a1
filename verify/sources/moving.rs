//! A writer beside the backfill, with and without a snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use toolkit::source::sqlite::{Database, TableSource};
use toolkit::source::{Flow, SourceFile};

use crate::support::backfill::{Move, fingerprint};
use crate::support::{stderr, stdout};

const DDL: &str = "CREATE TABLE mine_log (id bigint PRIMARY KEY, body text);";
const PACK: &str = "[[stream]]\nname = \"log\"\n\
    source = { sqlite = \"app.sqlite\", table = \"log\" }\n\
    target = \"public.mine_log\"\nkey = [\"id\"]\n";

async fn log_of(mode: &str, rows: u32) -> Move {
    let sql = format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO log SELECT i, 'row ' || i || hex(zeroblob(150)) FROM n"
    );
    Move::own(DDL, PACK, &sql).await
}

fn state(scene: &Move) -> PathBuf {
    scene.database.folder().join("state")
}

/// A command with a state folder of the test's own.
fn command(scene: &Move, name: &str, more: &[&str]) -> std::process::Command {
    let state = state(scene);
    let mut command = scene.command(&["--state-dir", state.to_str().unwrap(), "--format", "json"]);
    command.args([name, "--pack", &scene.pack]).args(more);
    command
}

fn backfill(scene: &Move, more: &[&str]) -> Output {
    command(scene, "backfill", more).arg("--source").arg(&scene.source).output().unwrap()
}

#[track_caller]
fn exits(output: &Output, code: i32) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
    serde_json::from_str(&stdout(output)).unwrap_or_default()
}

/// The copies in the state folder.
fn copies(scene: &Move) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(state(scene).join("snapshots/mine")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// An application that goes on writing, one small transaction after the other, and waits for a
/// second at most.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Vec<String>)>,
}

impl Writer {
    fn start(path: &Path, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (path.to_path_buf(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let connection = Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(1)).unwrap();
            let (mut written, mut failures) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let added = connection.execute(
                    "INSERT INTO log (body) VALUES ('written ' || hex(randomblob(20)))",
                    [],
                );
                let touched = connection.execute(
                    "UPDATE log SET body = body || '.' WHERE id = 1 + abs(random() % 100)",
                    [],
                );
                match added.and(touched) {
                    Ok(_) => written += 1,
                    Err(error) => failures.push(error.to_string()),
                }
                thread::sleep(every);
            }
            (written, failures)
        });
        Self { stop, thread }
    }

    /// Ends it; how often it wrote. It must never have been locked out.
    #[track_caller]
    fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let (written, failures) = self.thread.join().unwrap();
        assert_eq!(failures, Vec::<String>::new(), "the writer was locked out");
        written
    }
}

#[tokio::test]
async fn a_writer_beside_is_never_locked_out_and_a_snapshot_lets_the_run_succeed() {
    for mode in ["DELETE", "WAL"] {
        let scene = log_of(mode, 20_000).await;
        let writer = Writer::start(&scene.source.join("app.sqlite"), Duration::from_millis(5));
        let live = backfill(&scene, &["--chunk-records", "2000"]);
        assert_eq!(exits(&live, 1)["changed_sources"][0], "app.sqlite (log)", "{mode}");
        assert!(writer.stop() > 2, "{mode}");

        let writer = Writer::start(&scene.source.join("app.sqlite"), Duration::from_millis(5));
        let copied = backfill(&scene, &["--chunk-records", "2000", "--snapshot"]);
        let report = exits(&copied, 0);
        assert!(writer.stop() > 2, "{mode}");
        assert_eq!(report["changed_sources"].as_array().unwrap().len(), 0, "{mode}");
        let folder = PathBuf::from(report["snapshot"].as_str().unwrap());
        let copy = folder.join("files/0/app.sqlite");
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let sha256 = toolkit::source::discover::hash_file(&copy).unwrap().0;
        let recorded = "SELECT inputs->0->>'sha256' FROM toolkit.run WHERE status = 'completed' \
                        ORDER BY started_at DESC LIMIT 1";
        assert_eq!(scene.text(recorded).await, sha256, "{mode}");

        exits(&command(&scene, "verify-parity", &["--snapshot"]).output().unwrap(), 0);
        let moved = command(&scene, "verify-parity", &["--source"]);
        let moved = { moved }.arg(&scene.source).output().unwrap();
        exits(&moved, 1);
        assert_eq!(fs::read_dir(folder.join("files/0")).unwrap().count(), 1, "{mode}");
    }
}

#[tokio::test]
async fn rows_that_are_in_the_log_alone_are_in_the_copy_and_the_source_is_not_touched() {
    let scene = log_of("WAL", 100).await;
    let application = scene.sqlite();
    application.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    application.execute("INSERT INTO log VALUES (101, 'in the log')", []).unwrap();
    let before = fingerprint(&scene.source);
    exits(&backfill(&scene, &["--snapshot"]), 0);
    assert_eq!(scene.text("SELECT body FROM public.mine_log WHERE id = 101").await, "in the log");
    // The index of the log is a reader's to note itself in.
    let still = |found: &std::collections::BTreeMap<PathBuf, _>| {
        let mut found: Vec<_> = found.keys().cloned().collect();
        found.sort();
        found
    };
    let after = fingerprint(&scene.source);
    assert_eq!(still(&before), still(&after));
    for name in ["app.sqlite", "app.sqlite-wal"] {
        assert!(before[&scene.source.join(name)] == after[&scene.source.join(name)], "{name}");
    }
}

/// Leaves a run of `more` unfinished, with some chunks committed.
async fn interrupted(scene: &Move, more: &[&str]) {
    scene
        .execute(
            "CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'halted' USING ERRCODE = '53100'; END $$; \
             CREATE TRIGGER halt BEFORE INSERT ON public.mine_log FOR EACH ROW \
             WHEN (NEW.id = 2500) EXECUTE FUNCTION halt()",
        )
        .await;
    let mut arguments = vec!["--chunk-records", "1000"];
    arguments.extend(more);
    exits(&backfill(scene, &arguments), 2);
    scene.execute("DROP TRIGGER halt ON public.mine_log").await;
    assert_eq!(scene.count("public.mine_log").await, 2000);
}

#[tokio::test]
async fn a_run_over_a_moving_source_is_resumed_from_its_copy_alone() {
    let scene = log_of("DELETE", 5000).await;
    interrupted(&scene, &[]).await;
    scene.sqlite().execute("INSERT INTO log (body) VALUES ('later')", []).unwrap();
    let refused = backfill(&scene, &[]);
    exits(&refused, 2);
    assert!(stderr(&refused).contains("--snapshot"), "{}", stderr(&refused));
    let refused = backfill(&scene, &["--snapshot"]);
    exits(&refused, 2);
    assert!(stderr(&refused).contains("started without --snapshot"), "{}", stderr(&refused));

    let scene = log_of("DELETE", 5000).await;
    interrupted(&scene, &["--snapshot"]).await;
    let kept = copies(&scene);
    assert_eq!(kept.len(), 1);
    scene.sqlite().execute("INSERT INTO log (body) VALUES ('later')", []).unwrap();
    let refused = backfill(&scene, &[]);
    exits(&refused, 2);
    assert!(stderr(&refused).contains("was started with --snapshot"), "{}", stderr(&refused));
    let report = exits(&backfill(&scene, &["--snapshot"]), 0);
    assert_eq!((&report["resumed"], &report["read"]), (&true.into(), &5000.into()));
    assert_eq!(copies(&scene), kept);
    assert_eq!(scene.count("public.mine_log").await, 5000);
    exits(&command(&scene, "verify-parity", &["--snapshot"]).output().unwrap(), 0);

    // The next one replaces the copy of the completed run, and finds the row that came later.
    let report = exits(&backfill(&scene, &["--snapshot"]), 0);
    assert_eq!(report["read"], 5001);
    assert!(copies(&scene).len() == 1 && copies(&scene) != kept);
}

#[tokio::test]
async fn a_copy_that_is_not_what_it_was_is_refused() {
    let scene = log_of("DELETE", 5000).await;
    interrupted(&scene, &["--snapshot"]).await;
    let copy = copies(&scene)[0].join("files/0/app.sqlite");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    let changed = Connection::open(&copy).unwrap();
    changed.execute("UPDATE log SET body = 'meddled' WHERE id = 4000", []).unwrap();
    changed.close().unwrap();
    let refused = backfill(&scene, &["--snapshot"]);
    exits(&refused, 2);
    let said = stderr(&refused);
    assert!(said.contains("SHA-256") && said.contains("--restart"), "{said}");
    let report = exits(&backfill(&scene, &["--snapshot", "--restart"]), 0);
    assert_eq!(report["read"], 5000);
    assert_eq!(scene.count("public.mine_log WHERE body = 'meddled'").await, 0);
    assert_eq!(copies(&scene).len(), 1);
}

#[tokio::test]
async fn no_copy_is_made_where_none_is_read() {
    let scene = log_of("WAL", 100).await;
    let before = fingerprint(&scene.source);
    exits(&backfill(&scene, &["--snapshot", "--dry-run"]), 0);
    assert_eq!(copies(&scene), Vec::<PathBuf>::new());
    // A run that cannot begin takes its copy with it.
    scene.execute("DROP TABLE public.mine_log").await;
    exits(&backfill(&scene, &["--snapshot"]), 2);
    assert_eq!(copies(&scene), Vec::<PathBuf>::new());
    assert!(fingerprint(&scene.source) == before);
}

#[tokio::test]
async fn documents_are_copied_too_and_a_copy_below_the_source_is_not_a_source() {
    let scene = Move::own(
        "CREATE TABLE mine_log (id bigint PRIMARY KEY, body text);",
        "[[stream]]\nname = \"log\"\nsource = { jsonl = \"*.jsonl\" }\ntarget = \"public.mine_log\"\n\
         key = [\"id\"]\ncolumns = { id = \"/id\", body = \"/body\" }\n",
        "",
    )
    .await;
    fs::create_dir(scene.source.join("deep")).unwrap();
    fs::write(scene.source.join("deep/a.jsonl"), "{\"id\": 1, \"body\": \"a\"}\n").unwrap();
    let state = scene.source.join("state");
    for _ in 0..2 {
        let mut command = scene.command(&["--state-dir", state.to_str().unwrap(), "backfill"]);
        command.args(["--pack", &scene.pack, "--snapshot", "--source"]).arg(&scene.source);
        exits(&command.output().unwrap(), 0);
    }
    assert_eq!(scene.count("public.mine_log").await, 1);
    let source = "SELECT source FROM toolkit.chunk LIMIT 1";
    assert_eq!(scene.text(source).await, "");
    let copy = walkdir::WalkDir::new(&state).into_iter().flatten();
    assert_eq!(copy.filter(|entry| entry.path().ends_with("files/0/deep/a.jsonl")).count(), 1);
}

#[tokio::test]
async fn what_a_killed_copy_left_is_removed_and_what_is_anothers_stays() {
    let scene = log_of("DELETE", 10).await;
    let home = state(&scene).join("snapshots/mine");
    for (name, manifest) in [("half", false), ("of-another-database", true)] {
        fs::create_dir_all(home.join(name)).unwrap();
        // No process has this id: Linux ends at 2^22.
        fs::write(home.join(name).join(".toolkit-snapshot"), "2147483000").unwrap();
        if manifest {
            fs::write(home.join(name).join("snapshot.json"), "{}").unwrap();
        }
    }
    exits(&backfill(&scene, &["--snapshot"]), 0);
    assert!(!home.join("half").exists());
    assert!(home.join("of-another-database").exists());
    assert_eq!(copies(&scene).len(), 2);
}

#[test]
fn a_read_ends_before_a_writer_has_waited_too_long_whatever_its_visitor_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite");
    let application = Connection::open(&path).unwrap();
    application.busy_timeout(Duration::ZERO).unwrap();
    application
        .execute_batch(
            "CREATE TABLE log (id INTEGER PRIMARY KEY); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80) \
             INSERT INTO log SELECT i FROM n",
        )
        .unwrap();
    let file = SourceFile {
        path,
        relative: "app.sqlite".to_owned(),
        sha256: String::new(),
        size_bytes: 0,
    };
    let mut table = TableSource::open(&file, "log", None).unwrap();
    let (mut from, mut seen, mut reads) = (None, 0, 0);
    loop {
        let next = table.read_range(from.as_ref(), None, &mut |_| {
            seen += 1;
            thread::sleep(Duration::from_millis(10));
            Ok(Flow::Continue)
        });
        reads += 1;
        from = next.unwrap();
        // Nobody reads now.
        application.execute("UPDATE log SET id = id WHERE id = 1", []).unwrap();
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, 80);
    assert!(reads > 1);
}

#[test]
fn a_locked_database_is_waited_for_and_its_holder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let script = "import sqlite3, sys\n\
                  c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                  c.execute('BEGIN EXCLUSIVE')\n\
                  print('locked', flush=True)\n\
                  sys.stdin.read()\n";
    let python = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        println!("skipped: no python3 here");
        return;
    };
    let mut line = String::new();
    let stdout = python.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let error = Database::open_within(&path, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), toolkit::ErrorKind::Busy);
    let advice = error.advice_text().unwrap().to_owned();
    // Where the kernel tells; in some containers it does not.
    if advice.starts_with("process ") {
        assert!(advice.contains(&format!("process {} (python3", python.id())), "{advice}");
    } else {
        println!("/proc/locks tells nothing here");
    }
    let waiting = thread::spawn(move || Database::open_within(&path, Duration::from_secs(10)));
    drop(python.stdin.take());
    python.wait().unwrap();
    assert!(waiting.join().unwrap().is_ok());
}

#[test]
fn a_closed_wal_database_is_read_without_a_trace_or_else_without_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite");
    let sql = "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let before = fingerprint(folder.path());
    assert_eq!(before.len(), 1);
    let patience = Duration::from_secs(1);
    drop(Database::open_with_room(&path, patience, u64::MAX).unwrap());
    assert!(fingerprint(folder.path()) == before);
    // No room for a copy: read in place, as a reader that may not clean up after itself.
    let database = Database::open_with_room(&path, patience, 0).unwrap();
    assert_eq!(database.tables().unwrap(), ["t"]);
    drop(database);
    let after = fingerprint(folder.path());
    assert!(after[&path] == before[&path]);
    for (name, (bytes, _)) in &after {
        let name = name.file_name().unwrap().to_str().unwrap();
        assert!(matches!(name, "app.sqlite" | "app.sqlite-shm") || bytes.is_empty(), "{name}");
    }
}
