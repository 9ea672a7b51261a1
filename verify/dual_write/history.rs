//! A backfill beside a moving, captured source: the captured change wins over older history.

use std::process::{Child, Output, Stdio};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::scene::Scene;
use crate::support::{stderr, stdout};

/// Rows enough for chunks of one.
fn fill(scene: &Scene) {
    scene
        .application()
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) \
             INSERT INTO item SELECT 'n' || i, 'name' || i, i, 1000 + i FROM n; \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
             INSERT INTO pair SELECT 100 + i, 'n', 'note' || i FROM n; \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) \
             INSERT INTO parent SELECT 100 + i, 'parent' || i FROM n; \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) \
             INSERT INTO child SELECT 100 + i, 131 - i + 0, NULL, 'c' FROM n",
        )
        .unwrap();
}

/// Everything changes: content, keys, and whether it is there.
const CHANGES: &str = "BEGIN;
    UPDATE item SET price = -price;
    UPDATE item SET sku = sku || 'x' WHERE rank % 3 = 0;
    DELETE FROM item WHERE rank % 5 = 0;
    INSERT INTO item SELECT 'new' || rank, 'new' || rank, 1, rank + 5000 FROM item WHERE rank > 1000;
    UPDATE pair SET note = note || '!' WHERE a > 100; DELETE FROM pair WHERE a % 4 = 0;
    UPDATE pair SET b = 'moved' WHERE a % 7 = 0;
    DELETE FROM parent WHERE id > 110 AND id % 3 = 0;
    UPDATE parent SET id = id + 1000 WHERE id > 110 AND id % 3 = 1;
    UPDATE child SET note = 'later' WHERE id % 2 = 0;
    COMMIT;";

fn start(scene: &Scene, workers: &str) -> Child {
    scene
        .place
        .backfill_command(&["--chunk-records", "1", "--workers", workers])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn chunks_done(scene: &Scene, stream: &str) -> i64 {
    let query = format!("toolkit.chunk WHERE status = 'done' AND stream = '{stream}'");
    scene.place.count(&query).await
}

/// Waits for the stream's first chunks, then keeps any more of them from being committed.
async fn stall(scene: &Scene, stream: &str) -> PgConnection {
    let mut conn = scene.postgres.dedicated().await.unwrap();
    while chunks_done(scene, stream).await < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    sqlx::raw_sql("BEGIN; LOCK TABLE toolkit.chunk IN EXCLUSIVE MODE")
        .execute(&mut conn)
        .await
        .unwrap();
    // A chunk that waits to be committed was read before what the test changes next.
    let waiting = "pg_locks WHERE NOT granted AND relation = 'toolkit.chunk'::regclass";
    while scene.place.count(waiting).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    conn
}

fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_change_wins_when_the_tail_comes_before_the_chunk() {
    for (workers, stream) in [("1", "item"), ("1", "pair"), ("1", "child"), ("3", "item")] {
        let scene = Scene::captured().await;
        fill(&scene);
        scene.catch_up(7).await;
        scene.place.execute("TRUNCATE app.item, app.pair, app.parent, app.child, app.plain").await;
        let child = start(&scene, workers);
        let stalled = stall(&scene, stream).await;
        scene.application().execute_batch(CHANGES).unwrap();
        scene.catch_up(50).await;
        stalled.close().await.unwrap();
        ended(child);
        let superseded = scene
            .place
            .text(
                "SELECT sum((counts -> 'records' ->> 'superseded')::int)::text FROM toolkit.chunk",
            )
            .await;
        assert_ne!(superseded, "0", "{workers} {stream}: the chunk was read before the change");
        scene.catch_up(50).await;
        scene.assert_clean(&format!("{workers} workers, {stream}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_change_wins_when_the_chunk_comes_before_the_tail() {
    for workers in ["1", "3"] {
        let scene = Scene::captured().await;
        fill(&scene);
        let child = start(&scene, workers);
        let stalled = stall(&scene, "item").await;
        scene.application().execute_batch(CHANGES).unwrap();
        stalled.close().await.unwrap();
        ended(child);
        scene.catch_up(11).await;
        scene.assert_clean(workers).await;
        assert_eq!(scene.place.rejects().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moving_source_is_copied_and_resumed_while_both_go_on() {
    let scene = Scene::captured().await;
    fill(&scene);
    let mut child = start(&scene, "2");
    let stalled = stall(&scene, "item").await;
    child.kill().unwrap();
    child.wait().unwrap();
    stalled.close().await.unwrap();
    let application = scene.application();
    application.execute_batch(CHANGES).unwrap();
    let child = start(&scene, "2");
    let mut tail = scene.tail(5).await;
    for round in 0..40 {
        let sql = format!(
            "INSERT OR REPLACE INTO item VALUES ('w{}', 'w{round}', {round}, NULL); \
             DELETE FROM pair WHERE a = {}; UPDATE child SET note = 'r{round}' WHERE id = {}",
            round % 7,
            100 + round,
            100 + round % 30
        );
        application.execute_batch(&sql).unwrap();
        tail.step().await.unwrap();
    }
    let output = ended(child);
    assert!(stdout(&output).contains("\"resumed\": true"), "{}", stdout(&output));
    tail.catch_up(None, &toolkit::interrupt::Stop::new()).await.unwrap();
    scene.assert_clean("resumed").await;
}
