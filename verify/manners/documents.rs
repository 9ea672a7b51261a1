//! The same for the pack of documents, whose backfill has a way of its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use toolkit::demo::generate::anime::enriched_artifact;

use super::{asked, chunks, ended, signal, until};
use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

const ENTRIES: usize = 60;

async fn scene() -> Move {
    let make = |folder: &Path| {
        enriched_artifact(&folder.join("anime_database.json"), 1, ENTRIES).unwrap();
    };
    Move::builtin("anime", make).await
}

fn begin(scene: &Move, more: &[&str]) -> Child {
    let mut command = scene.backfill_command(&["--chunk-records", "2"]);
    command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The rows of the pack are those of an undisturbed run.
#[track_caller]
fn is_whole(scene: &Move) {
    let output = scene.run(&["--chunk-records", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["total"]["read"], ENTRIES, "{report}");
    scene.is_clean();
}

#[tokio::test]
async fn entries_wait_while_a_file_is_there_and_after_run_pause() {
    let scene = scene().await;
    let file = scene.database.folder().join("hold on");
    fs::write(&file, "").unwrap();
    let child = begin(&scene, &["--pause-file", file.to_str().unwrap(), "--throttle", "40/s"]);
    until(&scene, "toolkit.run_process WHERE state = 'paused'").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(chunks(&scene).await, 0, "it wrote before it looked");
    fs::remove_file(&file).unwrap();
    until(&scene, "toolkit.chunk WHERE status = 'done'").await;
    let paused = asked(&scene, &["pause", "latest"]);
    assert_eq!(paused["not_yet"], serde_json::json!([]), "{paused}");
    let before = chunks(&scene).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(chunks(&scene).await, before, "a group was written while paused");
    asked(&scene, &["resume", "latest"]);
    let (report, notes) = ended(child, 0);
    assert!(notes.contains("paused: --pause-file") && notes.contains("paused: asked"), "{notes}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["total"]["read"], ENTRIES, "{report}");
    let most = "SELECT max(rows_read)::text FROM toolkit.chunk";
    assert_eq!(scene.text(most).await, "2");
    is_whole(&scene);
}

#[tokio::test]
async fn entries_stop_between_two_groups_and_go_on_where_they_were() {
    let scene = scene().await;
    let child = begin(&scene, &["--throttle", "20/s"]);
    until(&scene, "toolkit.chunk WHERE status = 'done'").await;
    let stopped = asked(&scene, &["stop", "latest"]);
    assert_eq!(stopped["not_yet"], serde_json::json!([]), "{stopped}");
    let (_, notes) = ended(child, 2);
    assert!(notes.contains("was stopped with `toolkit run stop` by"), "{notes}");
    assert!(notes.contains("resume with: ") && notes.contains("--throttle 20/s"), "{notes}");
    assert!(chunks(&scene).await > 0);

    // Ctrl-C and kill -9 in the middle of it, then the same again.
    for kills in [Signal::SIGINT, Signal::SIGKILL] {
        let before = chunks(&scene).await;
        let child = begin(&scene, &["--throttle", "20/s"]);
        let more = format!("(SELECT FROM toolkit.chunk HAVING count(*) > {before}) p");
        until(&scene, &more).await;
        signal(&child, kills);
        child.wait_with_output().unwrap();
    }
    let output = scene.run(&["--chunk-records", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["resumed"], &report["total"]["read"]), (&true.into(), &ENTRIES.into()));
    assert_eq!(scene.count("toolkit.run WHERE command = 'backfill'").await, 1);
    is_whole(&scene);
}

#[tokio::test]
async fn a_verification_of_documents_waits_and_is_throttled_too() {
    let scene = scene().await;
    scene.backfill_command(&[]).output().unwrap();
    let file = scene.database.folder().join("hold on");
    fs::write(&file, "").unwrap();
    let mut command = scene.command(&["--format", "json", "verify-parity", "--pack", "anime"]);
    command.arg("--source").arg(&scene.source);
    command.args(["--pause-file", file.to_str().unwrap(), "--throttle", "400/s"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let watched = "pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'toolkit watch' AND state = 'idle'";
    until(&scene, watched).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    fs::remove_file(&file).unwrap();
    let (report, notes) = ended(child, 0);
    assert!(notes.contains("paused: --pause-file") && notes.contains("goes on"), "{notes}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["differing_rows"], 0, "{report}");
}
