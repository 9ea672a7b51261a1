//! Cases of the index that no other module plants.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::backfill::{Move, Report};
use crate::support::{stderr, stdout};

const STREAM: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"log\"\n";

const TABLE: &str = "CREATE TABLE public.log (id bigint PRIMARY KEY, body text)";

fn rows(count: u32, body: &str) -> String {
    format!(
        "CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO log SELECT i, {body} FROM n"
    )
}

#[track_caller]
fn assert_parity(scene: &Move) {
    let mut command = scene.command(&["verify-parity", "--pack", &scene.pack, "--level", "full"]);
    let output = command.arg("--source").arg(&scene.source).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

#[tokio::test]
async fn names_that_a_collation_holds_equal_replace_nothing_and_the_second_is_refused() {
    let source = "CREATE TABLE log (id TEXT COLLATE NOCASE, body TEXT, PRIMARY KEY (id COLLATE \
                  BINARY)); INSERT INTO log VALUES ('google', 'first'), ('Google', 'second'), \
                  ('bing', 'third')";
    let plain = "CREATE TABLE public.log (id text PRIMARY KEY, body text)";
    let scene = Move::own(plain, STREAM, source).await;
    assert_eq!(scene.backfill(0, &[]).six("items"), [3, 0, 0, 0, 0, 0]);
    assert_parity(&scene);

    let folded = format!("{plain}; CREATE UNIQUE INDEX log_name ON public.log (lower(id))");
    let scene = Move::own(&folded, STREAM, source).await;
    for six in [[2, 0, 0, 0, 0, 1], [0, 0, 2, 0, 0, 1]] {
        assert_eq!(scene.backfill(1, &[]).six("items"), six);
        assert_eq!(scene.text("SELECT body FROM log WHERE id = 'google'").await, "first");
        let detail = scene.text("SELECT detail FROM toolkit.reject").await;
        assert!(detail.contains("log_name") && detail.contains("google"), "{detail}");
    }
    assert_parity(&scene);
}

#[tokio::test]
async fn keys_that_postgres_orders_otherwise_are_no_differences() {
    let source = "CREATE TABLE log (id TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID;
         INSERT INTO log VALUES ('a', '1'), ('B', '2'), ('_', '3'), ('ä', '4'), ('z', '5'),
            ('A', '6'), ('a b', '7'), ('a-b', '8'), ('ab', '9'), ('', '10'), ('10', '11'), ('9', '12')";
    let scene = Move::own(
        "CREATE TABLE public.log (id text COLLATE \"und-x-icu\" PRIMARY KEY, body text)",
        STREAM,
        source,
    )
    .await;
    for six in [[12, 0, 0, 0, 0, 0], [0, 0, 12, 0, 0, 0]] {
        assert_eq!(scene.backfill(0, &["--chunk-records", "2"]).six("items"), six);
        assert_parity(&scene);
    }
}

/// As bytes.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[tokio::test]
async fn memory_does_not_grow_with_a_table_of_wide_rows() {
    const ROWS: u32 = 64_000;
    // 128 MiB of text; a loader that counts rows, not bytes, would hold 100 MB a chunk.
    let source = rows(ROWS, "hex(zeroblob(1000)) || hex(randomblob(24))");
    let scene = Move::own(TABLE, STREAM, &format!("PRAGMA synchronous = OFF; {source}")).await;
    let mut child =
        scene.backfill_command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak_memory(child.id()).unwrap_or(peak).max(peak);
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(Report::of(&output).records("items", "inserted"), u64::from(ROWS));
    if peak == 0 {
        println!("skipped: no /proc to read the peak of memory from");
        return;
    }
    println!("peak {} MiB", peak >> 20);
    assert!(peak < 120 << 20, "{} MiB for a table of 128 MiB", peak >> 20);
}

/// Starts a run in small chunks and stops it in the midst.
async fn interrupted(scene: &Move) {
    let mut command = scene.backfill_command(&["--chunk-records", "100"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let done = "toolkit.chunk JOIN toolkit.run r USING (run_id) \
                WHERE r.status = 'running' AND chunk.status = 'done'";
    while scene.count(done).await < 3 {
        assert!(begun.elapsed() < Duration::from_mins(1), "no chunks");
        thread::sleep(Duration::from_millis(2));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_hide_the_run_that_is_to_be_resumed() {
    let scene = Move::own(TABLE, STREAM, &rows(12_000, "'row ' || i")).await;
    scene.backfill(0, &[]);
    scene.execute("TRUNCATE log").await;
    // The first run was made while the clock was a day ahead.
    scene.execute("UPDATE toolkit.run SET started_at = started_at + interval '1 day'").await;
    interrupted(&scene).await;
    let report = scene.backfill(0, &[]);
    assert_eq!(report.0["resumed"], true);
    assert_eq!(report.records("items", "inserted"), 12_000);
    assert_parity(&scene);
    let newest = "SELECT status FROM toolkit.run ORDER BY started_at DESC LIMIT 1";
    assert_eq!(scene.text(newest).await, "completed");
}

#[tokio::test]
async fn a_locked_source_is_waited_for_and_then_its_holder_is_named() {
    let scene = Move::own(TABLE, STREAM, &rows(100, "'row ' || i")).await;
    let application = scene.sqlite();
    application.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let waiting =
        scene.backfill_command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(700));
    application.execute_batch("COMMIT").unwrap();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    application.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let output = scene.run(&[]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("app.sqlite") && text.contains("database is locked"), "{text}");
    let holder = format!("process {}", std::process::id());
    assert!(text.contains(&holder), "{text}");
}
