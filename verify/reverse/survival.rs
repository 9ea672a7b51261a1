//! The applier as a process: killed anywhere, stores away, and still nothing lost or done twice.
//! `TOOLKIT_TEST_SEED` replays a failure.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::Back;

fn applier(back: &Back, more: &[&str]) -> Command {
    let mut command = crate::support::toolkit();
    command
        .args(["--database-url", back.world.database.url(), "--state-dir"])
        .arg(back.world.database.folder().join("state"))
        .args([
            "--format",
            "json",
            "dual-write",
            "reverse",
            "run",
            "--pack",
            &back.world.pack,
            "--source",
        ])
        .arg(&back.world.source)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits, as long as it takes, until the text a query yields is `wanted`.
async fn until(back: &Back, query: &str, wanted: &str) {
    for _ in 0..600 {
        if back.world.text(query).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{query}: {}", back.world.text(query).await);
}

const WAITING: &str = "SELECT count(*)::text FROM toolkit.reverse_log";

#[tokio::test]
async fn killed_anywhere_it_goes_on_where_it_was() {
    let seed = std::env::var("TOOLKIT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_u64));
    println!("TOOLKIT_TEST_SEED={seed}");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let back = Back::new().await;
    for round in 0..4 {
        back.world
            .sql(&format!(
                "INSERT INTO owners (name, prefs) SELECT 'r{round}-' || n, '{{}}' FROM generate_series(1, 300) n; \
                 UPDATE owners SET seen_at = now() WHERE id % 7 = {round}; \
                 DELETE FROM owners WHERE id > 3 AND id % 5 = {round}"
            ))
            .await;
        let child = applier(&back, &["--batch", "13"]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(dice.random_range(50..900))).await;
        kill(child);
    }
    // The lock of the killed one is free once the server noticed.
    until(&back, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'", "0").await;
    back.catches_up_clean().await;
}

#[tokio::test]
async fn it_waits_for_a_writer_of_the_file_and_for_the_server_and_goes_on() {
    let back = Back::new().await;
    let file = rusqlite::Connection::open(back.world.source.join("app.sqlite")).unwrap();
    let child = applier(&back, &[]).spawn().unwrap();
    back.world.sql("UPDATE owners SET name = 'first' WHERE id = 1").await;
    until(&back, WAITING, "0").await;
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    back.world.sql("UPDATE owners SET name = 'second' WHERE id = 1").await;
    // Its session ends, as when the server is restarted.
    let ended = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND application_name = 'toolkit' AND query LIKE '%reverse%'";
    back.world.text(ended).await;
    assert_eq!(back.source("SELECT name FROM owners WHERE id = 1"), "first");
    file.execute_batch("ROLLBACK").unwrap();
    until(&back, WAITING, "0").await;
    assert_eq!(back.source("SELECT name FROM owners WHERE id = 1"), "second");
    kill(child);
    back.world.assert_clean().await;
}

#[tokio::test]
async fn what_was_written_before_a_crash_and_not_taken_from_the_log_is_found_right() {
    let back = Back::new().await;
    back.world
        .sql("UPDATE owners SET name = 'A' WHERE id = 1; DELETE FROM things; INSERT INTO things VALUES (1, 'n')")
        .await;
    // As after a crash between the two commits: the log is there again.
    back.world.sql("CREATE TABLE kept AS SELECT * FROM toolkit.reverse_log").await;
    back.catches_up_clean().await;
    back.world
        .sql("INSERT INTO toolkit.reverse_log (pack, target, op, old_key, new_key) SELECT pack, target, op, old_key, new_key FROM kept")
        .await;
    let again = back.catches_up_clean().await;
    assert_eq!((again.inserted, again.updated, again.deleted), (0, 0, 0));
}

#[tokio::test]
async fn the_command_ends_when_it_caught_up_and_says_what_did_not_go_back() {
    let back = Back::new().await;
    back.world.sql("UPDATE owners SET name = 'A' WHERE id = 1").await;
    let done = applier(&back, &["--until-caught-up"]).stdout(Stdio::piped()).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &report["updated"]), (Some(0), &serde_json::json!(1)));
    back.world.sql("UPDATE owners SET name = 'B' WHERE id = 1").await;
    let status = |format: &str| {
        back.world.run(&[
            "--format",
            format,
            "dual-write",
            "reverse",
            "status",
            "--pack",
            &back.world.pack,
        ])
    };
    let shown: serde_json::Value = serde_json::from_slice(&status("json").stdout).unwrap();
    assert_eq!((&shown["lag_changes"], &shown["targets"]), (&1.into(), &2.into()));
    let text = String::from_utf8_lossy(&status("table").stdout).into_owned();
    assert!(text.contains("1 change is waiting"), "{text}");
    let refused = back.world.run(&["dual-write", "reverse", "disable", "--pack", &back.world.pack]);
    assert_eq!(refused.status.code(), Some(2), "what waits would be lost");
}
