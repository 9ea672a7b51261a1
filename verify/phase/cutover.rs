//! The cutover and the way back from it: nothing is lost, wherever it is cut off.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::scene::{ROWS, STREAMS, Stage, TABLES};
use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

/// The small pack with a second file.
async fn two_files() -> Stage {
    let tables = format!(
        "{TABLES} CREATE TABLE app.note (id bigint CONSTRAINT note_pkey PRIMARY KEY, body text);"
    );
    let streams = format!(
        "{STREAMS}\n[[stream]]\nname = \"notes\"\nsource = {{ sqlite = \"notes.sqlite\", \
         table = \"note\" }}\ntarget = \"app.note\"\nkey = [\"id\"]\n"
    );
    let stage = Stage::of(Move::own(&tables, &streams, ROWS).await);
    let file = rusqlite::Connection::open(stage.scene.source.join("notes.sqlite")).unwrap();
    file.execute_batch(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO note VALUES (1, 'x');",
    )
    .unwrap();
    stage
}

fn writes_a_note(stage: &Stage, id: i64) -> Result<usize, String> {
    let file = rusqlite::Connection::open(stage.scene.source.join("notes.sqlite")).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    file.execute("INSERT INTO note VALUES (?1, 'y')", [id]).map_err(|error| error.to_string())
}

/// Runs a command that dies, or fails, at a point.
fn at_fault(stage: &Stage, what: &[&str], fault: &str) -> std::process::Output {
    stage.command(what, &[]).env("TOOLKIT_FAULT", fault).output().unwrap()
}

#[tokio::test]
async fn killed_at_any_step_a_cutover_is_undone_or_complete() {
    let stage = two_files().await;
    stage.ready_for_cutover();
    let before =
        ["approached", "half_fenced", "fenced", "drained", "rescanned", "verified", "ready"];
    for (round, point) in before.into_iter().enumerate() {
        let round = 1000 + i64::try_from(round).unwrap();
        stage.write(&format!("INSERT INTO item VALUES ({round}, 'round', 1)")).unwrap();
        let output = at_fault(&stage, &["phase", "advance"], &format!("kill:cutover.{point}"));
        assert_eq!(output.status.code(), None, "{point}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(stage.place().await, "2 sqlite", "{point}");
        // Whoever starts next makes it good.
        let status = stage.exits(0, &["phase", "status"], &[]);
        let recovered = status["packs"][0]["recovered"].to_string();
        assert!(recovered.contains("cut off"), "{point}: {recovered}");
        stage.write("UPDATE item SET amount = amount + 1 WHERE id = 1").unwrap();
        writes_a_note(&stage, round).unwrap();
    }
    let output = at_fault(&stage, &["phase", "advance"], "kill:cutover.flipped");
    assert_eq!(output.status.code(), None, "{}", stderr(&output));
    assert_eq!(stage.place().await, "3 postgres");
    stage.run(&["phase", "status"], &[]);
    assert!(stage.write("DELETE FROM item").unwrap_err().starts_with("toolkit fence:"));
    assert!(writes_a_note(&stage, 9).unwrap_err().starts_with("toolkit fence:"));
    assert_eq!(stage.scene.count("app.item WHERE id >= 1000").await, 7);
    assert_eq!(stage.scene.count("app.note").await, 8);
    assert_eq!(stage.scene.text("SELECT amount::text FROM app.item WHERE id = 1").await, "17");
    // And it is captured for the way back.
    stage.scene.execute("UPDATE app.item SET amount = 5 WHERE id = 2").await;
    assert_eq!(stage.scene.count("toolkit.reverse_log").await, 1);
}

#[tokio::test]
async fn a_cutover_that_fails_at_any_step_leaves_phase_2_as_it_was() {
    let stage = two_files().await;
    stage.ready_for_cutover();
    for point in ["half_fenced", "fenced", "drained", "rescanned", "verified", "ready"] {
        let output = at_fault(&stage, &["phase", "advance"], &format!("fail:cutover.{point}"));
        assert_eq!(output.status.code(), Some(2), "{point}: {}", stdout(&output));
        assert!(stderr(&output).contains("the fence is lifted"), "{point}: {}", stderr(&output));
        assert_eq!(stage.place().await, "2 sqlite", "{point}");
        stage.write("UPDATE item SET amount = amount + 1 WHERE id = 1").unwrap();
        writes_a_note(&stage, stage.scene.count("app.note").await + 100).unwrap();
        stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    }
    let output = stage.run(&["phase", "advance"], &["--freeze-max", "1"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert_eq!(stage.place().await, "2 sqlite");
    stage.write("UPDATE item SET amount = 0 WHERE id = 1").unwrap();
    stage.advance(0, &[]);
    assert_eq!(stage.scene.text("SELECT amount::text FROM app.item WHERE id = 1").await, "0");
}

#[tokio::test]
async fn what_is_not_as_in_sqlite_behind_the_fence_stops_the_cutover() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    stage.write("UPDATE item SET amount = 1 WHERE id = 3").unwrap();
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    stage.scene.execute("UPDATE app.item SET amount = 2 WHERE id = 3").await;
    let output = stage.run(&["phase", "advance"], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("1 row changed since the last verification and is not"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stage.place().await, "2 sqlite");
    stage.write("UPDATE item SET amount = 7 WHERE id = 3").unwrap();
    stage.advance(0, &[]);
    assert_eq!(stage.scene.text("SELECT amount::text FROM app.item WHERE id = 3").await, "7");
}

const MORE: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000) \
                    INSERT INTO item SELECT 20000 + i, 'more', i FROM n";

#[tokio::test]
async fn a_wrong_row_among_any_number_of_changes_since_the_verification_stops_the_cutover() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    stage.write("UPDATE item SET amount = 1 WHERE id = 3").unwrap();
    stage.write(MORE).unwrap();
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    stage.scene.execute("UPDATE app.item SET amount = 2 WHERE id = 3").await;
    let output = stage.run(&["phase", "advance"], &["--to", "3", "--freeze-max", "60000"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("1 row changed since the last verification and is not"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stage.place().await, "2 sqlite");
    stage.write("UPDATE item SET amount = amount WHERE id = 7").unwrap();
    stage.scene.execute("UPDATE app.item SET amount = 1 WHERE id = 3").await;
    let done = stage.advance(0, &["--to", "3"]);
    // All of them before the fence, so that the freeze stays short.
    assert_eq!(done["cutover"]["keys_verified_ahead"], 8002, "{done}");
    assert_eq!(done["cutover"]["keys_verified"], 0, "{done}");
}

#[tokio::test]
async fn changes_that_no_verification_has_compared_stay_in_the_log_or_close_the_gate() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let log = || -> (i64, i64) {
        let query = "SELECT min(seq), count(*) FROM toolkit_capture_log";
        stage.scene.sqlite().query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    stage.write(MORE).unwrap();
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    assert_eq!(log(), (1, 8000));
    stage.exits(0, &["verify-parity"], &[]);
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    assert!(log().1 <= 5001, "{:?}", log());
    assert_eq!(stage.missing(), [""; 0]);
    // As if more had been written than a log may hold.
    stage.write("UPDATE item SET amount = 1 WHERE id < 10").unwrap();
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    stage.write("DELETE FROM toolkit_capture_log WHERE seq <= 8001").unwrap();
    let missing = stage.missing().join("\n");
    assert!(missing.contains("changes: not every change since the last clean"), "{missing}");
    stage.advance(1, &["--to", "3"]);
    stage.exits(0, &["verify-parity"], &[]);
    stage.advance(0, &["--to", "3"]);
}

#[tokio::test]
async fn a_forced_cutover_says_and_records_what_nothing_has_compared() {
    let stage = two_files().await;
    stage.advance(0, &[]);
    stage.exits(0, &["dual-write", "enable"], &[]);
    stage.advance(0, &[]);
    stage.exits(0, &["backfill"], &[]);
    stage.write("UPDATE item SET amount = 1 WHERE id = 3").unwrap();
    let reason = ["--to", "3", "--force", "--reason", "no time to verify"];
    let done = stage.advance(0, &reason);
    assert_eq!(done["cutover"]["keys_verified_ahead"], 1, "{done}");
    let said = done["cutover"]["not_compared"].to_string();
    for expected in ["app.sqlite: rows that have not changed since it is captured", "notes.sqlite"]
    {
        assert!(said.contains(expected), "{said}");
    }
    let recorded = "SELECT evidence ->> 'not_compared' FROM toolkit.phase_transition \
                    WHERE to_phase = 3";
    let recorded = stage.scene.text(recorded).await;
    assert!(recorded.contains("app.sqlite"), "{recorded}");
    stage.exits(0, &["phase", "rollback"], &["--to", "2"]);
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    // Forced or not: with verifications there is nothing to be said.
    let done = stage.advance(0, &reason);
    assert_eq!(done["cutover"]["not_compared"], serde_json::json!([]), "{done}");
}

#[tokio::test]
async fn every_write_acknowledged_before_the_fence_is_in_postgres_after_the_cutover() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let tail = stage.command(&["dual-write", "run"], &[]).stdout(Stdio::null()).spawn();
    let mut tail = tail.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopping) = (stage.scene.source.join("app.sqlite"), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let file = rusqlite::Connection::open(path).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let mut acknowledged = 0_i64;
        while !stopping.load(Ordering::Relaxed) {
            let id = 10_000 + acknowledged;
            match file.execute("INSERT INTO item VALUES (?1, 'live', ?1)", [id]) {
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    assert!(error.to_string().contains("toolkit fence:"), "{error}");
                    break;
                }
            }
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        acknowledged
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let done = stage.advance(0, &["--freeze-max", "30000"]);
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writer.join().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    println!("freeze {} ms, {acknowledged} writes", done["cutover"]["freeze_ms"]);
    assert!(acknowledged > 0);
    assert_eq!(stage.scene.count("app.item WHERE id >= 10000").await, acknowledged);
    stage.scene.is_clean();
}

#[tokio::test]
async fn killed_at_any_step_a_rollback_loses_no_write_of_either_store() {
    let stage = Stage::small().await;
    stage.cut_over();
    let points = ["approached", "locked", "drained", "flipped", "lifted"];
    for (round, point) in points.into_iter().enumerate() {
        let id = 2000 + 10 * round;
        let insert = |id: usize| format!("INSERT INTO app.item VALUES ({id}, 'in postgres', 1)");
        stage.scene.execute(&insert(id)).await;
        let update = format!("UPDATE app.item SET amount = 77 WHERE id = {}", round + 1);
        stage.scene.execute(&update).await;
        let output = at_fault(&stage, &["phase", "rollback"], &format!("kill:rollback.{point}"));
        assert_eq!(output.status.code(), None, "{point}: {}{}", stdout(&output), stderr(&output));
        let place = stage.place().await;
        let is_back = matches!(point, "flipped" | "lifted");
        assert_eq!(place, if is_back { "2 sqlite" } else { "3 postgres" }, "{point}");
        stage.run(&["phase", "status"], &[]);
        if is_back {
            let late = sqlx::query("INSERT INTO app.item VALUES (3000, 'late', 1)")
                .execute(&stage.scene.pool)
                .await;
            assert!(late.unwrap_err().to_string().contains("toolkit fence:"), "{point}");
        } else {
            stage.scene.execute(&insert(id + 1)).await;
            let done = stage.exits(0, &["phase", "rollback"], &["--reason", "errors"]);
            assert_eq!(done["state"]["reads"], "sqlite", "{point}");
        }
        let query = format!("SELECT count(*) FROM item WHERE id BETWEEN {id} AND {}", id + 9);
        let count = |query: &str| -> i64 {
            stage.scene.sqlite().query_row(query, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(&query), if is_back { 1 } else { 2 }, "{point}");
        let updated = count("SELECT count(*) FROM item WHERE amount = 77");
        assert_eq!(updated, i64::try_from(round).unwrap() + 1, "{point}");
        stage
            .write(&format!("INSERT INTO item VALUES ({}, 'in sqlite again', 1)", id + 5))
            .unwrap();
        stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
        for _ in 0..2 {
            stage.exits(0, &["verify-parity"], &[]);
        }
        stage.advance(0, &[]);
    }
}

#[tokio::test]
async fn after_a_rollback_the_way_forward_and_all_the_way_back_is_open() {
    let stage = Stage::small().await;
    let schema = || -> Vec<String> {
        let file = stage.scene.sqlite();
        let mut found =
            file.prepare("SELECT coalesce(sql, '') FROM sqlite_schema ORDER BY 1").unwrap();
        found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let plain = schema();
    stage.cut_over();
    stage.exits(0, &["phase", "rollback"], &["--reason", "a test"]);
    // What was verified before the cutover does not count any more.
    assert!(stage.missing().join("\n").contains("parity: 0 of 2"), "{:?}", stage.missing());
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    stage.advance(0, &[]);
    stage.scene.execute("INSERT INTO app.item VALUES (5000, 'written again', 1)").await;
    stage.exits(0, &["phase", "rollback"], &[]);
    stage.exits(0, &["phase", "rollback"], &[]);
    assert_eq!(stage.place().await, "1 sqlite");
    let done = stage.exits(0, &["phase", "rollback"], &[]);
    assert_eq!(done["capture_removed"][0], "app.sqlite");
    assert_eq!(stage.place().await, "0 sqlite");
    assert_eq!(schema(), plain);
    assert_eq!(stage.run(&["phase", "rollback"], &[]).status.code(), Some(2));
    stage.write("INSERT INTO item VALUES (6000, 'free', 1)").unwrap();
    stage.scene.execute("INSERT INTO app.item VALUES (6001, 'free', 1)").await;
}

#[tokio::test]
async fn killed_while_sealing_decommission_is_completed_at_the_next_start() {
    let stage = two_files().await;
    stage.cut_over();
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    let output = at_fault(&stage, &["phase", "advance"], "kill:decommission.entered");
    assert_eq!(output.status.code(), None, "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stage.place().await, "4 postgres");
    for point in ["seal_put", "capture_removed", "sealed_one"] {
        let fault = format!("kill:decommission.{point}");
        let output = at_fault(&stage, &["phase", "status"], &fault);
        assert_eq!(output.status.code(), None, "{point}: {}{}", stdout(&output), stderr(&output));
    }
    let status = stage.exits(0, &["phase", "status"], &[]);
    let sealed = status["packs"][0]["sealed"].as_array().unwrap();
    assert_eq!(sealed.len(), 2);
    assert!(sealed.iter().all(|file| file["sha256"].is_string()), "{sealed:?}");
    assert!(writes_a_note(&stage, 50).is_err());
    assert_eq!(stage.scene.count("toolkit.reverse_target").await, 0);
    assert_eq!(stage.scene.count("toolkit.capture_cursor").await, 0);
    assert_eq!(stage.run(&["phase", "rollback"], &[]).status.code(), Some(2));
}

#[tokio::test]
async fn a_verification_beside_a_writing_application_is_clean_and_finds_what_does_not_follow() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let mut tail =
        stage.command(&["dual-write", "run"], &[]).stdout(Stdio::null()).spawn().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopping) = (stage.scene.source.join("app.sqlite"), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let file = rusqlite::Connection::open(path).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let mut id = 10_000;
        while !stopping.load(Ordering::Relaxed) {
            id += 1;
            file.execute("INSERT INTO item VALUES (?1, 'live', ?1)", [id]).unwrap();
            file.execute("UPDATE item SET amount = ?1 WHERE id = ?2", [id, id - 3]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    });
    let found = stage.exits(0, &["verify-parity"], &[]);
    println!("{} rows in motion", found["in_motion"]);
    stage.scene.execute("SET toolkit.replay = 'on'; DELETE FROM app.item WHERE id = 9").await;
    let found = stage.exits(1, &["verify-parity"], &[]);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    let rows: Vec<&str> = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| difference["key"]["id"].as_str().unwrap())
        .collect();
    assert!(rows.contains(&"9"), "{rows:?}");
}
