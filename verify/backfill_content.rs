//! Tables without a key: appended to, known by content, each row as often as the source has it.

use std::process::Stdio;
use std::time::Duration;

use crate::support::backfill::Move;

const TABLE: &str = "CREATE TABLE public.log (at timestamptz, what text, n numeric, doc jsonb)";
const STREAM: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.log\"\nkey = \"content\"\n\
    source = { sqlite = \"app.sqlite\", table = \"log\" }\n";
const ROWS: &str = "CREATE TABLE log (at TEXT, what TEXT, n TEXT, doc TEXT);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
    INSERT INTO log SELECT '2026-01-01T00:00:00Z', 'w' || (i % 700), NULL, NULL FROM n;
    INSERT INTO log VALUES (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL),
        (NULL, 'a', '1.0', '{\"a\": 1}'), (NULL, 'a', '1.00', '{\"a\":1}'), (NULL, 'a', '1', '{\"a\": 1.0}');";

#[tokio::test]
async fn duplicates_keep_their_number_and_a_second_run_adds_nothing() {
    for chunk in ["7", "100000"] {
        let scene = Move::own(TABLE, STREAM, ROWS).await;
        let report = scene.backfill(0, &["--chunk-records", chunk]);
        assert_eq!(report.six("items"), [3005, 0, 0, 0, 0, 0]);
        scene.is_clean();
        for arguments in [&["--chunk-records", "50"][..], &["--restart"]] {
            let again = scene.backfill(0, arguments);
            assert_eq!(again.six("items"), [0, 0, 3005, 0, 0, 0]);
        }
        assert_eq!(scene.count("log WHERE what IS NULL").await, 2);
        assert_eq!(scene.count("toolkit.content_row").await, 0);
        scene
            .sqlite()
            .execute_batch(
                "INSERT INTO log VALUES (NULL, NULL, NULL, NULL), (NULL, 'new', NULL, NULL)",
            )
            .unwrap();
        assert_eq!(scene.backfill(0, &[]).six("items"), [2, 0, 3005, 0, 0, 0]);
        scene.is_clean();
    }
}

#[tokio::test]
async fn a_row_too_few_or_too_many_is_a_difference_and_only_what_is_missing_is_added() {
    let scene = Move::own(TABLE, STREAM, ROWS).await;
    scene.backfill(0, &[]);
    let one = "ctid = (SELECT min(ctid) FROM log WHERE what = 'w5')";
    scene.execute(&format!("DELETE FROM log WHERE {one}")).await;
    assert_eq!(scene.parity(), 1);
    assert_eq!(scene.backfill(0, &[]).six("items"), [1, 0, 3004, 0, 0, 0]);
    scene.is_clean();
    scene.execute(&format!("INSERT INTO log SELECT * FROM log WHERE {one}")).await;
    assert_eq!(scene.parity(), 1);
    assert_eq!(scene.backfill(0, &[]).six("items"), [0, 0, 3005, 0, 0, 0]);
    assert_eq!(scene.parity(), 1);
}

#[tokio::test]
async fn killed_and_resumed_or_restarted_nothing_comes_twice() {
    for last in [&[][..], &["--restart"]] {
        let scene = Move::own(TABLE, STREAM, ROWS).await;
        scene
            .execute("INSERT INTO log SELECT '2026-01-01Z', 'w5' FROM generate_series(1, 2)")
            .await;
        for _ in 0..3 {
            let done = scene.count("toolkit.chunk WHERE status = 'done'").await;
            let mut child = scene
                .backfill_command(&["--chunk-records", "10"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            while scene.count("toolkit.chunk WHERE status = 'done'").await < done + 20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        scene.backfill(0, last);
        assert_eq!(scene.count("log").await, 3005);
        scene.is_clean();
    }
}

#[tokio::test]
async fn two_streams_may_feed_one_table_without_a_key() {
    let streams =
        format!("{STREAM}{}", STREAM.replace("items", "more").replace("\"log\" }", "\"again\" }"));
    let source = format!("{ROWS} CREATE TABLE again AS SELECT * FROM log LIMIT 100;");
    let scene = Move::own(TABLE, &streams, &source).await;
    scene.execute("INSERT INTO log (what) VALUES ('a')").await;
    scene.backfill(0, &[]);
    assert_eq!(scene.count("log").await, 3106);
    assert_eq!(scene.backfill(0, &[]).six("more"), [0, 0, 100, 0, 0, 0]);
}
