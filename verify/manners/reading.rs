//! A verification beside a working application: throttled, waiting, stopped while it waits.

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{ROWS, ended, scene, signal, until};
use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

fn verify(scene: &Move, more: &[&str]) -> Output {
    let mut command = scene.command(&["--format", "json", "verify-parity", "--pack", &scene.pack]);
    command.arg("--source").arg(&scene.source).args(more).output().unwrap()
}

#[track_caller]
fn found(scene: &Move, code: i32, more: &[&str]) -> Value {
    let output = verify(scene, more);
    assert_eq!(output.status.code(), Some(code), "{more:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn begin(scene: &Move, more: &[&str]) -> Child {
    let mut command = scene.command(&["--format", "json", "verify-parity", "--pack", &scene.pack]);
    command.arg("--source").arg(&scene.source).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A session looks for it whether to wait: the first look is made before anything is read.
const WATCHED: &str = "pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'toolkit watch' AND state = 'idle'";

#[tokio::test]
async fn a_throttled_verification_finds_what_a_fast_one_finds() {
    let scene = scene().await;
    scene.backfill(0, &[]);
    for level in ["counts", "sample", "full"] {
        let options = ["--level", level, "--throttle", "60000/s"];
        assert_eq!(found(&scene, 0, &options)["differing_rows"], 0, "{level}");
    }
    scene
        .execute(
            "UPDATE public.items SET body = 'other' WHERE id IN (7, 2999);
             DELETE FROM public.items WHERE id = 1500",
        )
        .await;
    for more in [&[] as &[&str], &["--throttle", "60000/s"], &["--throttle", "4MB/s"]] {
        let report = found(&scene, 1, more);
        assert_eq!(report["differing_rows"], 3, "{more:?}: {report}");
        assert_eq!(report["differences"].as_array().unwrap().len(), 3, "{more:?}");
        assert_eq!(report["units"][0]["source_rows"], ROWS);
    }
    let throttled = "toolkit.parity_run WHERE settings ->> 'throttle' = '60000/s'";
    assert_eq!(scene.count(throttled).await, 4);
}

#[tokio::test]
async fn a_verification_waits_while_it_should_and_holds_no_read_of_the_source_meanwhile() {
    let scene = scene().await;
    scene.backfill(0, &[]);
    let file = scene.database.folder().join("hold on");
    fs::write(&file, "").unwrap();
    let mut child = begin(&scene, &["--pause-file", file.to_str().unwrap()]);
    until(&scene, WATCHED).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let source = scene.sqlite();
        source.busy_timeout(Duration::ZERO).unwrap();
        source.execute_batch("BEGIN EXCLUSIVE; ROLLBACK").expect("a read of the source is open");
    }
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    fs::remove_file(&file).unwrap();
    let (report, notes) = ended(child, 0);
    assert_eq!(notes.matches("paused: --pause-file").count(), 1, "{notes}");
    assert_eq!(notes.matches("goes on").count(), 1, "{notes}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["units"][0]["source_rows"], ROWS);
    // It is no run, and leaves none.
    assert_eq!(scene.count("toolkit.run").await, 1);
    assert_eq!(scene.count("toolkit.run_process WHERE state <> 'ended'").await, 0);
}

#[tokio::test]
async fn ctrl_c_ends_a_verification_that_waits_or_is_slow() {
    let scene = scene().await;
    scene.backfill(0, &[]);
    let file = scene.database.folder().join("hold on");
    fs::write(&file, "").unwrap();
    for more in [["--pause-file", file.to_str().unwrap()], ["--throttle", "5/s"]] {
        let child = begin(&scene, &more);
        until(&scene, WATCHED).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        signal(&child, Signal::SIGINT);
        let (_, notes) = ended(child, 2);
        assert!(notes.contains("stopped on request"), "{notes}");
        assert_eq!(scene.count("toolkit.parity_run").await, 0);
    }
    assert_eq!(found(&scene, 0, &[])["differing_rows"], 0);
}

#[tokio::test]
async fn what_cannot_be_held_back_is_refused_before_anything_is_read() {
    let scene = scene().await;
    scene.backfill(0, &[]);
    for (more, part) in [
        (&["--digest", "server", "--throttle", "5/s"] as &[&str], "--digest server"),
        (&["--pause-while", "SELECT 1"], "--pause-while"),
        (&["--throttle", "fast"], "--throttle"),
        (&["--max-lag", "10"], "--max-lag"),
    ] {
        let output = verify(&scene, more);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}{text}", stdout(&output));
        assert!(text.contains(part), "{more:?}: {text}");
    }
    assert_eq!(scene.count("toolkit.parity_run").await, 0);
}
