//! `verify-parity` after the cutover, by the command: what waits to go back, and what differs.

use serde_json::Value;

use super::scene::Stage;
use crate::support::stderr;

/// Behind the fence, as only the way back may write.
const BEHIND_THE_FENCE: &str = "BEGIN; UPDATE toolkit_capture_state SET mode = 2; \
    UPDATE item SET name = 'here alone' WHERE id = 7; \
    UPDATE toolkit_capture_state SET mode = 1; COMMIT";

const CHANGES: &str = "UPDATE app.item SET name = 'there' WHERE id = 1; \
    DELETE FROM app.item WHERE id = 2; INSERT INTO app.item VALUES (1000, 'new', 1), (1001, 'more', 2)";

#[tokio::test]
async fn what_waits_to_go_back_is_no_difference_and_what_was_written_behind_the_fence_is_one() {
    let stage = Stage::small().await;
    stage.cut_over();
    stage.scene.execute(CHANGES).await;
    let verifications = "toolkit.evidence WHERE kind LIKE 'parity%'";
    let before = stage.scene.count(verifications).await;
    for more in [&["--settle", "1"][..], &["--level", "counts", "--settle", "1"], &[]] {
        let output = stage.run(&["verify-parity"], more);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains("their changes wait to be written back"), "{said}");
        assert!(said.contains("no other row differs"), "{said}");
        let command = format!(
            "`toolkit dual-write reverse run --until-caught-up --pack {} --source {}`",
            stage.scene.pack,
            stage.scene.source.display()
        );
        assert!(said.contains(&command), "{said}");
        let is_said = said.contains("and nothing writes them back");
        assert_eq!(is_said, more.is_empty(), "{said}");
    }
    // What could not be told is no evidence, of either.
    assert_eq!(stage.scene.count(verifications).await, before);
    stage.scene.sqlite().execute_batch(BEHIND_THE_FENCE).unwrap();
    let found = stage.exits(1, &["verify-parity"], &["--settle", "1"]);
    assert_eq!(differing(&found), [("7".to_owned(), "name".to_owned())], "{found}");
    assert_eq!(found["settling"]["waiting"], 4, "{found}");
    stage.exits(0, &["dual-write", "reverse", "run"], &["--until-caught-up"]);
    let found = stage.exits(1, &["verify-parity"], &[]);
    assert_eq!(differing(&found), [("7".to_owned(), "name".to_owned())], "{found}");
    stage.scene.execute("UPDATE app.item SET name = name WHERE id = 7").await;
    stage.exits(0, &["dual-write", "reverse", "run"], &["--until-caught-up"]);
    stage.exits(0, &["verify-parity"], &[]);
}

fn differing(report: &Value) -> Vec<(String, String)> {
    let found = report["differences"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found.map(|one| (text(&one["key"]["id"]), text(&one["column"]))).collect()
}

#[tokio::test]
async fn a_rollback_says_beforehand_what_it_does_and_what_it_would_lose() {
    let stage = Stage::small().await;
    stage.cut_over();
    stage.scene.execute(CHANGES).await;
    let rehearsed = ["--to", "2", "--dry-run"];
    let planned = stage.exits(0, &["phase", "rollback"], &rehearsed);
    let steps = planned["planned"]["steps"].to_string();
    assert!(steps.contains("write 4 changes back to SQLite"), "{planned}");
    assert_eq!(stage.place().await, "3 postgres");
    // Its file has no room for this row.
    stage.scene.execute("ALTER TABLE app.item ALTER name DROP NOT NULL").await;
    stage.scene.execute("UPDATE app.item SET name = NULL WHERE id = 3").await;
    stage.exits(1, &["dual-write", "reverse", "run"], &["--until-caught-up"]);
    let planned = stage.exits(1, &["phase", "rollback"], &rehearsed);
    let objections = planned["planned"]["objections"].to_string();
    assert!(objections.contains("1 row could not be written back to SQLite"), "{planned}");
    let refused = stage.run(&["phase", "rollback"], &["--to", "2"]);
    let list = format!("`toolkit dual-write reverse rejects --pack {}`", stage.scene.pack);
    assert!(stderr(&refused).contains(&list), "{}", stderr(&refused));
    stage.exits(0, &["phase", "rollback"], &["--to", "2", "--dry-run", "--accept-loss"]);
    let planned = stage.run(&["phase", "rollback"], &["--to", "1", "--dry-run"]);
    assert!(stderr(&planned).contains("`--to 2` comes first"), "{}", stderr(&planned));
    assert_eq!(stage.place().await, "3 postgres");
}

#[tokio::test]
async fn status_shows_what_it_knows_where_the_file_is_gone_and_commands_name_the_packs_folder() {
    let stage = Stage::small().await;
    stage.cut_over();
    let refused = stage.run(&["backfill"], &[]);
    let command = format!("`toolkit phase rollback --to 2 --pack {}`", stage.scene.pack);
    assert!(stderr(&refused).contains(&command), "{}", stderr(&refused));
    let file = stage.scene.source.join("app.sqlite");
    let away = stage.scene.database.folder().join("away.sqlite");
    std::fs::rename(&file, &away).unwrap();
    let found = stage.exits(2, &["phase", "status"], &[]);
    assert_eq!(found["packs"][0]["state"]["phase"], "cutover", "{found}");
    let checks = found["packs"][0]["gate"]["checks"].to_string();
    assert!(checks.contains("nothing of the pack"), "{checks}");
}
