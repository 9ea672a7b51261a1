//! Changes that capture may have missed: the cutover waits for a backfill and for verifications that
//! began after it was known.

use super::scene::Stage;
use crate::support::{stderr, stdout};

#[tokio::test]
async fn a_cutover_is_possible_again_once_what_may_have_been_missed_is_copied_and_proved() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let trigger = "SELECT name FROM sqlite_schema WHERE name LIKE 'toolkit_capture_%_delete'";
    let trigger: String = stage.scene.sqlite().query_row(trigger, [], |row| row.get(0)).unwrap();
    stage.write(&format!("DROP TRIGGER {trigger}")).unwrap();
    stage.write("DELETE FROM item WHERE id = 5").unwrap();
    let halted = stage.run(&["dual-write", "run"], &["--until-caught-up"]);
    assert!(stderr(&halted).contains("vanished"), "{}", stderr(&halted));
    stage.exits(0, &["dual-write", "enable"], &[]);
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    let missing = stage.missing().join("\n");
    assert!(missing.contains("gap: changes may have been missed"), "{missing}");
    stage.exits(0, &["backfill"], &[]);
    // Copied again, but the verifications know nothing of what vanished.
    let missing = stage.missing().join("\n");
    assert!(!missing.contains("gap:"), "{missing}");
    let parity = "parity: 0 of 2 consecutive clean full verifications; earlier ones began before";
    assert!(missing.contains(parity), "{missing}");
    let found = stage.exits(1, &["verify-parity"], &[]);
    assert_eq!(found["differing_rows"], 1, "{found}");
    let plan = stage.scene.database.folder().join("repair.json");
    let (plan, source) = (plan.to_str().unwrap(), stage.scene.source.to_str().unwrap());
    stage.scene.succeeds(&["repair", "plan", "--run", "latest", "--out", plan]);
    let pack = &stage.scene.pack;
    stage.scene.succeeds(&["repair", "apply", plan, "--pack", pack, "--source", source]);
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    stage.advance(0, &["--to", "3"]);
    assert_eq!(stage.place().await, "3 postgres");
    assert_eq!(stage.scene.count("app.item").await, 199);
}

#[tokio::test]
async fn a_unique_index_of_the_applications_own_is_followed_though_changes_wait() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    stage.write("UPDATE item SET amount = -1 WHERE id = 1").unwrap();
    stage.write("CREATE UNIQUE INDEX item_name ON item (name)").unwrap();
    stage.write("UPDATE item SET amount = -2 WHERE id = 2").unwrap();
    let halted = stage.run(&["dual-write", "run"], &["--until-caught-up"]);
    let said = stderr(&halted);
    assert!(said.contains("halted: table item changed"), "{said}");
    assert!(said.contains("`toolkit dual-write enable`"), "{said}");
    // What waits says which rows changed, whichever indexes there are.
    let enabled = stage.exits(0, &["dual-write", "enable"], &[]);
    assert_eq!(enabled["files"][0]["action"], "repaired", "{enabled}");
    let gap = enabled["files"][0]["gap"].to_string();
    assert!(gap.contains("had no triggers for a unique index of its own"), "{enabled}");
    stage.write("INSERT OR REPLACE INTO item VALUES (900, 'item 3', 3)").unwrap();
    let applied = stage.run(&["dual-write", "run"], &["--until-caught-up"]);
    assert_eq!(applied.status.code(), Some(0), "{}{}", stdout(&applied), stderr(&applied));
    assert_eq!(stage.scene.count("app.item WHERE amount < 0 OR id = 900").await, 3);
    assert_eq!(stage.scene.count("app.item WHERE id = 3").await, 0);
    stage.write("DROP INDEX item_name").unwrap();
    stage.write("UPDATE item SET amount = -3 WHERE id = 4").unwrap();
    stage.exits(0, &["dual-write", "enable"], &[]);
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    assert_eq!(stage.scene.count("app.item WHERE amount = -3").await, 1);
    stage.exits(0, &["backfill"], &[]);
    stage.exits(0, &["verify-parity"], &[]);
}
