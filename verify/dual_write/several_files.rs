//! Streams that several files feed: rows of one key may stand in any of them.

use std::time::Duration;

use rusqlite::Connection;
use toolkit::capture::tail::TailOptions;
use toolkit::interrupt::Stop;
use toolkit::store::Postgres;

use super::scene::Scene;
use crate::support::backfill::Move;

const DDL: &str =
    "CREATE SCHEMA app; CREATE TABLE app.t (k bigint PRIMARY KEY, v text, at timestamptz)";

const STREAMS: &str = "[[stream]]\nname = 't'\ntarget = 'app.t'\nkey = ['k']\n\
     conflict = { rule = 'newer', by = 'at' }\n\
     source = { sqlite = ['app.sqlite', 'other.sqlite'], table = 't' }\n\
     [stream.columns]\nk = 'k'\nv = 'v'\nat = { from = 'at', zone = 'UTC' }\n";

/// Every key stands in both files; captured, copied. The files, the first one of them first.
async fn both_files(rows: u32) -> (Scene, [Connection; 2]) {
    let table = |at: &str| {
        format!(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT, at TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO t SELECT i, 'v', '{at}' FROM n"
        )
    };
    let place = Move::own(DDL, STREAMS, &table("2024-01-01")).await;
    let other = Connection::open(place.source.join("other.sqlite")).unwrap();
    other.execute_batch(&table("2023-01-01")).unwrap();
    let one = place.sqlite();
    let postgres = Postgres::connect(&place.database.settings()).await.unwrap();
    let scene = Scene { place, postgres };
    scene.enable().await;
    scene.place.backfill(0, &[]);
    (scene, [one, other])
}

#[tokio::test]
async fn any_number_of_changes_is_compared_while_another_file_of_the_stream_is_written() {
    let (scene, [one, other]) = both_files(12_000).await;
    one.execute("UPDATE t SET v = 'changed', at = '2025-01-01'", []).unwrap();
    let mut tail = scene.tail_with(TailOptions { trims: false, ..TailOptions::default() }).await;
    tail.catch_up(None, &Stop::new()).await.unwrap();
    let mut comparison = tail.begin_comparison().await.unwrap();
    // Captured, and not applied: what Postgres holds of these keys is not what SQLite holds.
    other.execute("UPDATE t SET v = 'newest', at = '2026-01-01' WHERE k % 40 = 7", []).unwrap();
    tail.compare_ahead(&mut comparison, &Stop::new()).await.unwrap();
    assert_eq!(comparison.ahead, 12_000);
    tail.catch_up(None, &Stop::new()).await.unwrap();
    let rest = tail.compare_rest(&comparison).await.unwrap();
    assert_eq!((rest.changes, rest.differing), (300, 0));
    assert_eq!(scene.place.count("app.t WHERE v = 'newest'").await, 300);
    // And it is a comparison: what is not on its way is found, in either file.
    let mut comparison = tail.begin_comparison().await.unwrap();
    scene.place.execute("UPDATE app.t SET v = 'wrong' WHERE k IN (7, 8)").await;
    other.execute("UPDATE t SET v = 'newer', at = '2027-01-01' WHERE k = 9", []).unwrap();
    tail.compare_ahead(&mut comparison, &Stop::new()).await.unwrap();
    tail.catch_up(None, &Stop::new()).await.unwrap();
    let rest = tail.compare_rest(&comparison).await.unwrap();
    assert!(rest.changes < 500, "only what is doubtful is left for the fence: {rest:?}");
    // Row 7 is named by both logs.
    assert_eq!(rest.differing, 3, "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_read_another_file_before_its_change_was_applied_reads_it_again() {
    let (scene, [one, other]) = both_files(3).await;
    let mut lock = scene.place.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('toolkit.capture.mine', 0))")
        .execute(&mut *lock)
        .await
        .unwrap();
    one.execute("UPDATE t SET v = 'first', at = '2025-01-01' WHERE k = 1", []).unwrap();
    let mut tail = scene.tail(100).await;
    let slow = tokio::spawn(async move {
        tail.catch_up(None, &Stop::new()).await.unwrap();
        tail.close().await.unwrap();
    });
    // It has read both files, and waits to write.
    let waits = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while scene.place.text(waits).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What another tail does with a change of the other file.
    other.execute("UPDATE t SET v = 'second', at = '2026-01-01' WHERE k = 1", []).unwrap();
    let entry = "SELECT seq, at FROM toolkit_capture_log ORDER BY seq DESC LIMIT 1";
    let (position, at): (i64, f64) =
        other.query_row(entry, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    for statement in [
        "UPDATE app.t SET v = 'second', at = '2026-01-01 00:00Z' WHERE k = 1".to_owned(),
        format!(
            "UPDATE toolkit.capture_cursor SET position = {position}, mark = '{:016x}' \
             WHERE source = 'other.sqlite'",
            at.to_bits()
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *lock).await.unwrap();
    }
    lock.commit().await.unwrap();
    slow.await.unwrap();
    assert_eq!(scene.place.text("SELECT v FROM app.t WHERE k = 1").await, "second");
    scene.assert_clean("both are applied").await;
}
