//! A backfill beside a working application: throttled, waiting, paused, stopped from outside.

mod documents;
mod estimates;
mod reading;
mod replica;

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::backfill_faults::{reaches, start};
use crate::support::backfill::{Move, Report};
use crate::support::{stderr, stdout};

const ITEMS: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.items\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"items\"\n";
const ROWS: i64 = 3_000;
/// Chunks enough for something to happen between two of them.
const SMALL: &[&str] = &["--chunk-records", "20", "--workers", "2"];

async fn scene() -> Move {
    Move::own(
        "CREATE TABLE public.items (id bigint PRIMARY KEY, body text);",
        ITEMS,
        &format!(
            "PRAGMA synchronous = OFF; CREATE TABLE items (id INTEGER PRIMARY KEY, body TEXT);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO items SELECT i, 'body ' || i FROM n;"
        ),
    )
    .await
}

fn with(more: &[&str]) -> Vec<String> {
    SMALL.iter().chain(more).map(|&word| word.to_owned()).collect()
}

fn begin(scene: &Move, more: &[&str]) -> Child {
    let words = with(more);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    start(scene, &words)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn ended(child: Child, code: i32) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let texts = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "{}{}", texts.0, texts.1);
    texts
}

fn run(scene: &Move, words: &[&str]) -> Output {
    scene.command(&[&["--format", "json", "run"], words].concat()).output().unwrap()
}

#[track_caller]
fn asked(scene: &Move, words: &[&str]) -> Value {
    let output = run(scene, words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(scene: &Move, words: &[&str], part: &str) {
    let output = run(scene, words);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {}{text}", stdout(&output));
    assert!(text.contains(part) && text.contains("help: "), "{words:?}: {text}");
}

async fn chunks(scene: &Move) -> i64 {
    scene.count("toolkit.chunk WHERE status = 'done'").await
}

/// Waits until `from` has a row.
async fn until(scene: &Move, from: &str) {
    let begun = Instant::now();
    while scene.count(from).await == 0 {
        assert!(begun.elapsed() < Duration::from_mins(2), "never a row in {from}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const WAITS: &str = "toolkit.run_process WHERE state = 'paused'";

/// While a process waits it commits no chunk, and keeps no transaction open.
async fn stands_still(scene: &Move) -> i64 {
    until(scene, WAITS).await;
    let before = chunks(scene).await;
    let open = "pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%' \
                AND application_name LIKE 'toolkit%' AND xact_start < now() - interval '1 second'";
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(scene.count(open).await, 0, "a transaction is open");
    }
    assert_eq!(chunks(scene).await, before, "a chunk was committed while paused");
    // The source may be written to: nobody reads it at this moment.
    let source = scene.sqlite();
    source.busy_timeout(Duration::ZERO).unwrap();
    source.execute_batch("BEGIN EXCLUSIVE; ROLLBACK").expect("a read of the source is open");
    before
}

#[tokio::test]
async fn a_throttled_first_load_keeps_indexes_and_is_one_workers() {
    let scene = Move::own(
        "CREATE TABLE public.items (id bigint PRIMARY KEY, body text);
         CREATE INDEX items_body ON public.items (body);",
        ITEMS,
        "PRAGMA synchronous = OFF; CREATE TABLE items (id INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO items SELECT i, 'body ' || i FROM n;",
    )
    .await;
    let calm = scene.backfill(0, &["--throttle", "500k/s"]);
    assert_eq!(calm.0["workers"], 1, "{}", calm.0);
    assert_eq!(calm.0["built_indexes"], serde_json::json!([]), "{}", calm.0);
    assert_eq!(scene.count("toolkit.deferred_index").await, 0);
    scene.execute("TRUNCATE public.items").await;
    let fast = scene.backfill(0, &["--restart"]);
    assert_eq!(fast.0["built_indexes"], serde_json::json!(["public.items_body"]), "{}", fast.0);
    let several = scene.backfill(0, &["--throttle", "500k/s", "--workers", "2"]);
    assert_eq!(several.0["workers"], 2);
    scene.is_clean();
}

async fn is_whole(scene: &Move) {
    assert_eq!(scene.count("items").await, ROWS);
    assert_eq!(scene.count("toolkit.run").await, 1);
    assert_eq!(scene.text("SELECT status FROM toolkit.run").await, "completed");
    assert_eq!(
        scene.count("toolkit.run_process WHERE state = 'paused' OR reason IS NOT NULL").await,
        0
    );
    scene.is_clean();
}

#[tokio::test]
async fn a_throttled_backfill_moves_everything_in_small_portions() {
    for (rate, portion) in [("20000/s", 1_000), ("2000", 100), ("200KB/s", 1_000)] {
        let scene = scene().await;
        let report = scene.backfill(0, &["--throttle", rate, "--workers", "3"]);
        assert_eq!(report.six("items"), [ROWS.unsigned_abs(), 0, 0, 0, 0, 0], "{rate}");
        let most = "SELECT max(rows_read)::text FROM toolkit.chunk";
        assert!(scene.text(most).await.parse::<u64>().unwrap() <= portion, "{rate}");
        is_whole(&scene).await;
    }
}

#[tokio::test]
async fn a_pause_file_stops_chunks_until_it_is_removed() {
    let scene = scene().await;
    let file = scene.database.folder().join("hold on");
    fs::write(&file, "").unwrap();
    let child = begin(&scene, &["--pause-file", file.to_str().unwrap()]);
    assert_eq!(stands_still(&scene).await, 0, "it wrote before it looked");
    let listed = asked(&scene, &["list"]);
    assert_eq!(listed["runs"][0]["state"], "paused", "{listed}");
    fs::remove_file(&file).unwrap();
    let (report, notes) = ended(child, 0);
    assert_eq!(notes.matches("paused: --pause-file").count(), 1, "{notes}");
    assert_eq!(notes.matches("goes on").count(), 1, "{notes}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["streams"][0]["counts"]["read"], ROWS);
    is_whole(&scene).await;
}

#[tokio::test]
async fn a_query_that_says_true_stops_chunks_until_it_says_otherwise() {
    let scene = scene().await;
    scene.execute("CREATE TABLE public.busy (yes boolean); INSERT INTO busy VALUES (true)").await;
    let mut child = begin(&scene, &["--pause-while", "SELECT bool_or(yes) FROM public.busy"]);
    stands_still(&scene).await;
    // A condition that cannot be answered any more is no leave to go on.
    scene.execute("ALTER TABLE public.busy RENAME TO away").await;
    let unanswered = "toolkit.run_process WHERE reason LIKE '%could not be answered%'";
    until(&scene, unanswered).await;
    assert!(child.try_wait().unwrap().is_none());
    scene.execute("DELETE FROM public.away; ALTER TABLE public.away RENAME TO busy").await;
    let (_, notes) = ended(child, 0);
    assert!(notes.contains("paused: --pause-while says true"), "{notes}");
    is_whole(&scene).await;
}

#[tokio::test]
async fn other_peoples_active_sessions_stop_chunks_and_the_toolkits_own_do_not() {
    let scene = scene().await;
    let sleeper = tokio::spawn({
        let pool = scene.pool.clone();
        async move { sqlx::query("SELECT pg_sleep(600)").execute(&pool).await }
    });
    let asleep = "pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'";
    until(&scene, asleep).await;
    let child = begin(&scene, &["--max-load", "0"]);
    stands_still(&scene).await;
    // Tests of other names use the server too: it goes on only in a moment without them.
    let reason = scene.text("SELECT reason FROM toolkit.run_process").await;
    assert!(reason.contains("active backend") && reason.contains("--max-load 0"), "{reason}");
    signal(&child, Signal::SIGINT);
    let (_, notes) = ended(child, 2);
    assert!(notes.contains("resume with: ") && notes.contains("--max-load 0"), "{notes}");
    scene.execute(&format!("SELECT pg_cancel_backend(pid) FROM {asleep}")).await;
    assert!(sleeper.await.unwrap().is_err());
    let report = scene.backfill(0, &["--max-load", "1000", "--max-lag", "1s"]);
    assert_eq!(report.records("items", "inserted"), ROWS.unsigned_abs());
    scene.is_clean();
}

#[tokio::test]
async fn conditions_that_cannot_be_asked_are_refused_before_anything_is_begun() {
    let scene = scene().await;
    for query in [
        "SELECT 1",
        "SELECT true, false",
        "SELECT true FROM generate_series(1, 2)",
        "SELECT * FROM nowhere",
        "SELECT pg_sleep(9) IS NULL",
        "DELETE FROM public.items RETURNING true",
        "SELECT true; DROP TABLE public.items",
        "COMMIT",
        "",
    ] {
        let output = scene.run(&["--pause-while", query]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{query}: {text}");
        assert!(text.contains("--pause-while") && text.contains("help: "), "{query}: {text}");
    }
    for (flag, value) in [("--throttle", "fast"), ("--throttle", "0"), ("--max-lag", "10")] {
        assert_eq!(scene.run(&[flag, value]).status.code(), Some(2), "{flag} {value}");
    }
    assert_eq!(scene.count("toolkit.run").await, 0);
    // NULL and no row are no reason to wait.
    for query in ["SELECT NULL::boolean", "SELECT true WHERE false"] {
        scene.backfill(0, &["--pause-while", query]);
    }
    scene.is_clean();
}

#[tokio::test]
async fn run_pause_stops_every_process_and_outlives_them_until_run_resume() {
    let scene = scene().await;
    let slow = ["--throttle", "60/s"];
    let mut first = begin(&scene, &slow);
    assert!(reaches(&scene, &mut first, 2).await);
    let second = begin(&scene, &slow);
    until(&scene, "(SELECT FROM toolkit.run_process HAVING count(*) > 1) p").await;
    let paused = asked(&scene, &["pause", "latest"]);
    assert_eq!(paused["not_yet"], serde_json::json!([]), "{paused}");
    let before = stands_still(&scene).await;
    assert!(before > 0);
    let shown = asked(&scene, &["show", "latest"]);
    assert_eq!((&shown["state"], &shown["processes"]), (&"paused".into(), &2.into()), "{shown}");
    assert!(shown["paused_because"][0].as_str().unwrap().contains("asked for by"), "{shown}");
    assert_eq!(shown["streams"][0]["records_expected"], ROWS);
    assert_eq!(shown["streams"][0]["chunks_done"], before);
    let id = shown["run"].as_str().unwrap().to_owned();

    // Killed while it waits, it is resumed and waits again.
    for mut child in [first, second] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let third = begin(&scene, &[]);
    let waits = "(SELECT FROM toolkit.run_process WHERE state = 'paused' HAVING count(*) > 2) p";
    until(&scene, waits).await;
    assert_eq!(stands_still(&scene).await, before);
    let again = asked(&scene, &["pause", &id[..8]]);
    assert_eq!(again["was_so"], true, "{again}");
    let resumed = asked(&scene, &["resume", &id[..8]]);
    assert_eq!(resumed["was_so"], false, "{resumed}");
    let (report, notes) = ended(third, 0);
    assert!(notes.contains("paused: asked for by") && notes.contains(&id), "{notes}");
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["resumed"], true);
    assert_eq!(scene.text("SELECT status FROM toolkit.run").await, "completed");
    assert_eq!(scene.count("items").await, ROWS);
    scene.is_clean();
    for wish in ["pause", "resume", "stop"] {
        refused(&scene, &[wish, &id], "has ended (completed)");
    }
}

#[tokio::test]
async fn run_stop_ends_a_run_at_work_and_a_paused_one_and_both_are_resumed() {
    let scene = scene().await;
    let mut child = begin(&scene, &["--throttle", "60/s"]);
    assert!(reaches(&scene, &mut child, 2).await);
    let stopped = asked(&scene, &["stop", "latest"]);
    assert_eq!(stopped["not_yet"], serde_json::json!([]), "{stopped}");
    let (_, notes) = ended(child, 2);
    assert!(notes.contains("was stopped with `toolkit run stop` by"), "{notes}");
    assert!(notes.contains("resume with: ") && notes.contains("--throttle 60/s"), "{notes}");
    let status = scene.text("SELECT status || ' ' || error FROM toolkit.run").await;
    assert!(status.starts_with("interrupted run") && status.contains("run stop"), "{status}");
    let locks = "pg_locks WHERE locktype = 'advisory' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until(&scene, &format!("(SELECT WHERE NOT EXISTS (SELECT FROM {locks})) p")).await;
    refused(&scene, &["stop", "latest"], "nobody works on run");

    let file = scene.database.folder().join("wait");
    fs::write(&file, "").unwrap();
    let child = begin(&scene, &["--pause-file", file.to_str().unwrap()]);
    let before = stands_still(&scene).await;
    asked(&scene, &["stop", "latest"]);
    ended(child, 2);
    assert_eq!(chunks(&scene).await, before);
    let report = scene.backfill(0, &[]);
    assert_eq!(report.0["resumed"], true);
    is_whole(&scene).await;
}

#[tokio::test]
async fn ctrl_c_ends_a_paused_run_cleanly() {
    let scene = scene().await;
    let file = scene.database.folder().join("wait");
    fs::write(&file, "").unwrap();
    let child = begin(&scene, &["--pause-file", file.to_str().unwrap()]);
    until(&scene, WAITS).await;
    signal(&child, Signal::SIGINT);
    let (_, notes) = ended(child, 2);
    assert!(notes.contains("stopped on request; committed chunks are kept"), "{notes}");
    assert_eq!(scene.count("toolkit.run_process WHERE state <> 'ended'").await, 0);
    fs::remove_file(&file).unwrap();
    assert_eq!(scene.backfill(0, &[]).six("items"), [ROWS.unsigned_abs(), 0, 0, 0, 0, 0]);
    scene.is_clean();
}

#[tokio::test]
async fn runs_that_are_unknown_or_ambiguous_are_refused_with_advice() {
    let scene = scene().await;
    refused(&scene, &["show", "latest"], "nothing was ever backfilled here");
    refused(&scene, &["show", "abc"], "is no id of a run");
    refused(&scene, &["pause", "0000-nonsense'--"], "is no id of a run");
    refused(&scene, &["stop", "00000000"], "there is no run 00000000 here");
    assert_eq!(asked(&scene, &["list"])["runs"], serde_json::json!([]));
    for id in ["aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"] {
        scene
            .execute(&format!(
                "INSERT INTO toolkit.run (run_id, command, pack, status, tool_version) \
                 VALUES ('{id}', 'maintain', 'mine', 'completed', '0')"
            ))
            .await;
    }
    refused(&scene, &["show", "aaaaaaaa"], "several runs begin with aaaaaaaa");
    refused(&scene, &["stop", "aaaaaaaa-0000-4000-8000-000000000002"], "takes no requests");
    scene.backfill(0, &[]);
    let listed = scene.command(&["run", "list"]).output().unwrap();
    assert!(stdout(&listed).contains("completed"), "{}", stdout(&listed));
    let shown = scene.command(&["run", "show", "latest"]).output().unwrap();
    assert!(stdout(&shown).contains("items"), "{}{}", stdout(&shown), stderr(&shown));
}

#[tokio::test]
async fn a_copy_waits_and_is_stopped_like_a_backfill() {
    let scene = scene().await;
    let file = scene.database.folder().join("wait");
    fs::write(&file, "").unwrap();
    let source = scene.source.join("app.sqlite");
    let copy = |more: &[&str]| {
        let mut command = scene.command(&["--format", "json", "copy", source.to_str().unwrap()]);
        command.args(["--schema", "mirror"]).args(more);
        command
    };
    let child = copy(&["--pause-file", file.to_str().unwrap(), "--throttle", "10MB/s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(&scene, WAITS).await;
    asked(&scene, &["stop", "latest"]);
    let (_, notes) = ended(child, 2);
    assert!(notes.contains("`toolkit run stop` by"), "{notes}");
    let done = copy(&["--throttle", "10MB/s"]).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}{}", stdout(&done), stderr(&done));
    assert_eq!(scene.count("mirror.items").await, ROWS);
    assert_eq!(Report::of(&done).0["is_clean"], true);
}
