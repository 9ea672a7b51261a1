//! How much there is and how long it may take, said before it begins.

use serde_json::Value;

use super::{ROWS, begin, ended, scene, signal, until};
use crate::support::{stderr, stdout};

#[tokio::test]
async fn a_plan_says_how_much_there_is_and_goes_by_an_earlier_run_if_there_is_one() {
    let scene = scene().await;
    let planned = |more: &[&str]| -> Value {
        let report = scene.backfill(0, &[&["--dry-run"], more].concat());
        report.0["forecast"].clone()
    };
    let first = planned(&[]);
    assert_eq!((&first["records"], &first["basis"]), (&ROWS.into(), &"usual".into()), "{first}");
    assert!(first["bytes"].as_u64().unwrap() > 10_000, "{first}");
    let throttled = planned(&["--throttle", "60/s"]);
    assert_eq!((&throttled["seconds"], &throttled["basis"]), (&50.0.into(), &"throttle".into()));

    // A throttled run is no measure of one that is not.
    scene.backfill(0, &["--throttle", "20000/s"]);
    assert_eq!(planned(&[])["basis"], "usual");
    scene.backfill(0, &["--restart", "--chunk-records", "500"]);
    let run =
        scene.text("SELECT run_id::text FROM toolkit.run ORDER BY started_at DESC LIMIT 1").await;
    let later = planned(&[]);
    assert_eq!(later["basis"]["earlier_run"], Value::from(run), "{later}");
    assert!(later["rate"].as_f64().unwrap() > 0.0, "{later}");

    let mut plain = scene.command(&["backfill", "--pack", &scene.pack, "--dry-run", "--source"]);
    let shown = plain.arg(&scene.source).output().unwrap();
    let shown = stdout(&shown) + &stderr(&shown);
    assert!(shown.contains("about 3,000 records") && shown.contains("as run"), "{shown}");
}

#[tokio::test]
async fn long_work_says_so_before_it_begins_and_short_work_does_not() {
    let scene = scene().await;
    let child = begin(&scene, &["--throttle", "60/s"]);
    until(&scene, "toolkit.chunk WHERE status = 'done'").await;
    signal(&child, nix::sys::signal::Signal::SIGINT);
    let (_, notes) = ended(child, 2);
    assert!(notes.contains("about 3,000 records") && notes.contains("by --throttle"), "{notes}");
    let short = scene.run(&[]);
    assert!(!stderr(&short).contains("records,"), "{}", stderr(&short));
    // Of a comparison both sides are read.
    let mut slow = scene.command(&["verify-parity", "--pack", &scene.pack, "--throttle", "6000/s"]);
    let slow = slow.arg("--source").arg(&scene.source).output().unwrap();
    assert!(!stderr(&slow).contains("comparing: "), "{}", stderr(&slow));
    assert_eq!(slow.status.code(), Some(0));
}
