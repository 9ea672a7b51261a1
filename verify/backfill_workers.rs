//! Several workers, in one process or several: every row once, whoever dies, stops or joins.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::backfill_faults::{assert_as_undisturbed, reaches, shape, start};
use crate::support::backfill::{Move, Report};
use crate::support::{stderr, stdout};

const ITEMS: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.items\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"items\"\n";
const TARGET: &str = "CREATE TABLE public.items (id bigint PRIMARY KEY, body text);";

/// A table of rows 1 to `rows`, and what else `more` says.
async fn items(rows: u32, target: &str, more: &str) -> Move {
    Move::own(
        target,
        ITEMS,
        &format!(
            "PRAGMA synchronous = OFF; CREATE TABLE items (id INTEGER PRIMARY KEY, body TEXT);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO items SELECT i, 'body ' || i FROM n; {more}"
        ),
    )
    .await
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Processes that committed chunks.
async fn committers(scene: &Move) -> BTreeSet<String> {
    sqlx::query_scalar(
        "SELECT DISTINCT split_part(worker, '/', 1) FROM toolkit.chunk WHERE status = 'done'",
    )
    .fetch_all(&scene.pool)
    .await
    .unwrap()
    .into_iter()
    .collect()
}

async fn wait_for_committers(scene: &Move, processes: usize) {
    let begun = Instant::now();
    while committers(scene).await.len() < processes {
        assert!(begun.elapsed() < Duration::from_mins(1), "not {processes} at work");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every row is there once, and the counts of the one run say so.
async fn assert_complete(scene: &Move, rows: u64) {
    let there: i64 = scene.count("items").await;
    assert_eq!(there.cast_unsigned(), rows);
    assert_eq!(scene.count("toolkit.run").await, 1);
    assert_eq!(scene.text("SELECT status FROM toolkit.run").await, "completed");
    let read = "SELECT sum(rows_read)::text || ' ' || sum((counts->'records'->>'inserted')::int8) \
                FROM toolkit.chunk WHERE status = 'done'";
    assert_eq!(scene.text(read).await, format!("{rows} {rows}"));
    assert_eq!(scene.count("toolkit.chunk WHERE status <> 'done'").await, 0);
}

fn finished(child: Child, code: i32) -> (Report, String) {
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{}{text}", stdout(&output));
    (Report::of(&output), text)
}

#[tokio::test]
async fn a_table_is_split_where_its_rows_are_and_no_reader_passes_the_end_of_its_span() {
    let (low, high) = (i64::MIN, i64::MAX);
    let scene = items(
        4000,
        TARGET,
        &format!(
            "INSERT INTO items VALUES ({low}, 'first'), ({low} + 1, 'second'), ({high}, 'last'),
                ({high} - 1, 'last but one'), (0, 'zero');
             INSERT INTO items SELECT id * -1000000000000, body FROM items WHERE id BETWEEN 1 AND 900"
        ),
    )
    .await;
    let report = scene.backfill(0, &["--chunk-records", "20", "--workers", "3"]);
    assert_eq!(report.six("items"), [4905, 0, 0, 0, 0, 0]);
    assert_complete(&scene, 4905).await;
    let spans = "SELECT count(*)::text || ' ' || (max(n) * 4 < sum(n)) FROM \
                 (SELECT sum(rows_read) AS n FROM toolkit.chunk GROUP BY span) s";
    let spans = scene.text(spans).await;
    let (count, is_fair) = spans.split_once(' ').unwrap();
    assert!(count.parse::<u32>().unwrap() > 8, "{spans}");
    assert_eq!(is_fair, "true", "one span has more than a quarter of the rows");
    let gaps = "(SELECT range_to, lead(range_from) OVER (ORDER BY span, chunk_no) AS next, \
                 lead(span) OVER (ORDER BY span, chunk_no) AS more FROM toolkit.chunk) c \
                WHERE more IS NOT NULL AND range_to IS DISTINCT FROM next";
    assert_eq!(scene.count(gaps).await, 0, "ranges leave a gap or overlap");
}

#[tokio::test]
async fn a_table_is_not_split_where_the_order_of_its_rows_decides() {
    let swallow = "CREATE FUNCTION calm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   RETURN NEW; END $$; CREATE TRIGGER calm BEFORE INSERT ON items \
                   FOR EACH ROW EXECUTE FUNCTION calm();";
    for (more, target) in [
        ("a second unique key", "CREATE UNIQUE INDEX ON items (body);"),
        ("a foreign key into itself", "ALTER TABLE items ADD parent bigint REFERENCES items;"),
        ("a trigger", swallow),
    ] {
        let scene = items(3000, &format!("{TARGET}{target}"), "").await;
        scene.backfill(0, &["--chunk-records", "50", "--workers", "2"]);
        assert_eq!(scene.count("toolkit.chunk WHERE span > 0").await, 0, "{more}");
        assert_complete(&scene, 3000).await;
    }
}

#[tokio::test]
async fn text_keys_are_split_unless_a_cast_could_make_two_of_them_one() {
    for (more, splits, rejects) in [
        ("", true, 0),
        ("INSERT INTO items VALUES (NULL, 'a'), (NULL, 'b');", true, 2),
        (
            "INSERT INTO items VALUES ('postgres://u:one@h/d', 'a'), ('postgres://u:two@h/d', 'b');",
            false,
            1,
        ),
    ] {
        let scene = Move::own(
            "CREATE TABLE public.items (id text PRIMARY KEY, body text)",
            ITEMS,
            &format!(
                "CREATE TABLE items (id TEXT PRIMARY KEY COLLATE NOCASE, body TEXT);
                 WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                 INSERT INTO items SELECT 'k' || i, 'body ' || i FROM n; {more}"
            ),
        )
        .await;
        let report =
            scene.backfill(i32::from(rejects > 0), &["--chunk-records", "50", "--workers", "2"]);
        assert_eq!(report.records("items", "rejected"), rejects, "{more}");
        assert_eq!(scene.count("toolkit.chunk WHERE span > 0").await > 0, splits, "{more}");
    }
}

#[tokio::test]
async fn killed_with_four_workers_it_is_resumed_with_one_and_with_three() {
    let (scene, _) = Move::generated(7, &shape()).await;
    let small = ["--chunk-records", "100"];
    for (workers, chunks) in [("4", 30), ("1", 50)] {
        let mut child = start(&scene, &[&small[..], &["--workers", workers]].concat());
        if reaches(&scene, &mut child, chunks).await {
            child.kill().unwrap();
        }
        child.wait().unwrap();
    }
    let spans = "SELECT count(*)::text FROM toolkit.chunk WHERE chunk_no = 0";
    let report = scene.backfill(1, &[&small[..], &["--workers", "3"]].concat());
    assert_eq!(report.0["resumed"], true, "{}", scene.text(spans).await);
    assert_eq!(scene.count("toolkit.run").await, 1);
    assert_as_undisturbed(&scene, &report).await;
}

const SLOWLY: &[&str] = &["--chunk-records", "50", "--workers", "1"];

#[tokio::test]
async fn a_second_process_joins_and_both_report_the_whole_run() {
    let scene = items(20_000, TARGET, "").await;
    let mut first = start(&scene, SLOWLY);
    assert!(reaches(&scene, &mut first, 2).await);
    let second = start(&scene, SLOWLY);
    let (first, _) = finished(first, 0);
    let (second, text) = finished(second, 0);
    assert!(text.contains("joining run"), "{text}");
    assert_eq!((&first.0["joined"], &second.0["joined"]), (&false.into(), &true.into()));
    for report in [first, second] {
        assert_eq!(report.six("items"), [20_000, 0, 0, 0, 0, 0]);
    }
    assert_complete(&scene, 20_000).await;
    assert_eq!(committers(&scene).await.len(), 2, "one did all the work");
}

#[tokio::test]
async fn what_a_killed_process_had_is_finished_by_the_other() {
    let scene = items(20_000, TARGET, "").await;
    let mut first = start(&scene, SLOWLY);
    assert!(reaches(&scene, &mut first, 2).await);
    let second = start(&scene, SLOWLY);
    wait_for_committers(&scene, 2).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let (report, _) = finished(second, 0);
    // The first may have been through before it was killed: its rows are unchanged to the second.
    let [inserted, updated, unchanged, rest @ ..] = report.six("items");
    assert_eq!((inserted + unchanged, updated, rest), (20_000, 0, [0; 3]));
    assert_complete(&scene, 20_000).await;
}

#[tokio::test]
async fn ctrl_c_stops_one_process_and_the_other_goes_on() {
    let scene = items(20_000, TARGET, "").await;
    let mut first = start(&scene, SLOWLY);
    assert!(reaches(&scene, &mut first, 2).await);
    let second = start(&scene, SLOWLY);
    wait_for_committers(&scene, 2).await;
    signal(&first, Signal::SIGINT);
    let (_, text) = finished(first, 2);
    assert!(text.contains("resume with: toolkit backfill --pack"), "{text}");
    assert!(text.contains(" --workers 1"), "{text}");
    finished(second, 0);
    assert_complete(&scene, 20_000).await;
}

#[tokio::test]
async fn a_chunk_taken_over_when_its_lease_expired_is_rolled_back_by_the_first_worker() {
    let scene = items(4000, TARGET, "").await;
    let arguments = ["--chunk-records", "100", "--workers", "1"];
    let mut first = start(&scene, &arguments);
    assert!(reaches(&scene, &mut first, 2).await);
    // Its reader waits for the source in mid-span; what was read before is committed.
    let source = scene.sqlite();
    source.busy_timeout(Duration::from_secs(10)).unwrap();
    source.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut done = -1;
    loop {
        let now = scene.count("toolkit.chunk WHERE status = 'done'").await;
        if now == done {
            break;
        }
        done = now;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    signal(&first, Signal::SIGSTOP);
    let leased = "toolkit.chunk WHERE status = 'pending' AND lease_until > now()";
    assert_eq!(scene.count(leased).await, 1, "it ended before it could be stopped");
    scene.execute("UPDATE toolkit.chunk SET lease_until = now() - interval '1 s' WHERE lease_until > now()").await;
    source.execute_batch("ROLLBACK").unwrap();

    let (second, text) = finished(start(&scene, &arguments), 0);
    assert!(text.contains("joining run") && text.contains("took over chunk"), "{text}");
    assert_eq!(second.six("items"), [4000, 0, 0, 0, 0, 0]);
    signal(&first, Signal::SIGCONT);
    let (first, text) = finished(first, 0);
    assert!(text.contains("was taken over; what was read of it is dropped"), "{text}");
    assert_eq!(first.six("items"), [4000, 0, 0, 0, 0, 0]);
    assert_complete(&scene, 4000).await;
}

#[tokio::test]
async fn a_failing_worker_stops_the_others_and_its_run_is_resumed() {
    let scene = items(20_000, TARGET, "").await;
    let child = start(&scene, &["--chunk-records", "50", "--workers", "3"]);
    wait_for_committers(&scene, 1).await;
    scene.execute("ALTER TABLE items RENAME COLUMN body TO other").await;
    let (_, text) = finished(child, 2);
    assert!(text.contains("stream items"), "{text}");
    assert_eq!(scene.text("SELECT status FROM toolkit.run").await, "failed");
    scene.execute("ALTER TABLE items RENAME COLUMN other TO body").await;
    let report = scene.backfill(0, &["--workers", "2"]);
    assert_eq!(report.0["resumed"], true);
    assert_complete(&scene, 20_000).await;
}

#[tokio::test]
async fn indexes_are_back_after_a_kill_between_drop_and_restore() {
    let target = format!("{TARGET} CREATE INDEX items_body ON items (body);");
    let scene = items(50_000, &target, "").await;
    let index = "SELECT coalesce(to_regclass('items_body')::text, 'gone')";
    let mut child = scene
        .backfill_command(&["--workers", "2", "--chunk-records", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(reaches(&scene, &mut child, 2).await);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.text(index).await, "gone");
    let report = scene.backfill(0, &["--workers", "3"]);
    assert_eq!(report.0["built_indexes"], serde_json::json!(["public.items_body"]));
    assert_eq!(scene.text(index).await, "items_body");
    assert_eq!(scene.count("toolkit.deferred_index WHERE restored_at IS NULL").await, 0);
    assert_complete(&scene, 50_000).await;
}
