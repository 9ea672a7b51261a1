//! Each gate refuses with what is missing, and opens with it.

use serde_json::Value;

use super::scene::{ROWS, STREAMS, Stage, TABLES};
use crate::support::backfill::Move;
use crate::support::{TestDatabase, stderr, stdout, toolkit};

/// What a refused advance names, as `name: finding`.
#[track_caller]
fn refused(stage: &Stage) -> String {
    let refused = stage.advance(1, &[]);
    assert_eq!(refused["outcome"], "refused", "{refused}");
    let checks = refused["gate"]["checks"].as_array().unwrap();
    let missing: Vec<String> = checks
        .iter()
        .filter(|check| check["verdict"] == "missing")
        .map(|check| {
            format!("{}: {}", check["name"].as_str().unwrap(), check["finding"].as_str().unwrap())
        })
        .collect();
    missing.join("\n")
}

#[tokio::test]
async fn a_database_without_or_with_half_the_migrations_is_told_to_migrate_first() {
    for made in ["", "CREATE SCHEMA toolkit; CREATE TABLE toolkit.phase (id bigint, pack text)"] {
        told_to_migrate(made).await;
    }
}

async fn told_to_migrate(made: &'static str) {
    let database = TestDatabase::create().await;
    sqlx::raw_sql(made).execute(&database.pool().await).await.unwrap();
    let status = |arguments: &[&str]| {
        let mut command = toolkit();
        command.args(["--database-url", database.url()]).args(arguments);
        command.current_dir(database.folder()).output().unwrap()
    };
    let output = status(&["phase", "status"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("pack unified is in phase 0 bootstrap"), "{text}");
    assert!(text.contains("next: toolkit migrate up --pack unified"), "{text}");
    let output = status(&["phase", "history", "--pack", "unified"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
}

#[tokio::test]
async fn bootstrap_is_not_left_while_the_live_catalog_differs_from_the_migrated_one() {
    let stage = Stage::small().await;
    let drifts = [
        (
            "ALTER TABLE app.item ADD COLUMN extra text",
            "ALTER TABLE app.item DROP COLUMN extra",
            "column app.item.extra is made by no migration",
        ),
        (
            "ALTER TABLE app.item ALTER COLUMN amount TYPE integer",
            "ALTER TABLE app.item ALTER COLUMN amount TYPE bigint",
            "column app.item.amount is `integer`, migrations make it `bigint`",
        ),
        (
            "ALTER TABLE app.item ALTER COLUMN amount SET DEFAULT 7",
            "ALTER TABLE app.item ALTER COLUMN amount DROP DEFAULT",
            "column app.item.amount is `bigint DEFAULT 7`",
        ),
        (
            "ALTER TABLE app.item DROP CONSTRAINT item_pkey",
            "ALTER TABLE app.item ADD CONSTRAINT item_pkey PRIMARY KEY (id)",
            "constraint app.item.item_pkey is missing",
        ),
        (
            "CREATE INDEX item_name ON app.item (name)",
            "DROP INDEX app.item_name",
            "index app.item.item_name is made by no migration",
        ),
        (
            "ALTER TABLE app.item RENAME TO thing",
            "ALTER TABLE app.thing RENAME TO item",
            "relation app.item is missing",
        ),
    ];
    for (change, undo, words) in drifts {
        stage.scene.execute(change).await;
        let said = refused(&stage);
        assert!(said.contains(words), "{change}: {said}");
        stage.scene.execute(undo).await;
    }
    // Tables beside the pack's are named and let be.
    stage.scene.execute("CREATE TABLE app.other (x int)").await;
    let done = stage.advance(0, &[]);
    assert!(done["gate"].to_string().contains("app.other"), "{done}");
    assert_eq!(stage.place().await, "1 sqlite");
    let leftovers = "pg_database WHERE datname LIKE 'toolkit_drift_%' AND NOT EXISTS \
                     (SELECT FROM pg_stat_activity a WHERE a.datname = pg_database.datname)";
    // Other tests of this server may be at it.
    assert!(stage.scene.count(leftovers).await < 5);
}

#[tokio::test]
async fn dual_write_is_not_left_before_capture_moves() {
    let stage = Stage::small().await;
    stage.advance(0, &[]);
    let said = refused(&stage);
    assert!(said.contains("capture: app.sqlite is not captured"), "{said}");
    stage.exits(0, &["dual-write", "enable"], &[]);
    stage.write("UPDATE item SET amount = amount + 1").unwrap();
    let said = refused(&stage);
    assert!(
        said.contains("captured changes are not applied: app.sqlite (200 changes behind)"),
        "{said}"
    );
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    stage.advance(0, &[]);
    assert_eq!(stage.place().await, "2 sqlite");
    // What the phase rests on is not taken away.
    let output = stage.run(&["dual-write", "disable"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("phase rollback"), "{}", stderr(&output));
}

#[tokio::test]
async fn backfill_is_left_only_when_all_is_copied_accounted_for_and_verified_in_a_row() {
    let stage = Stage::small().await;
    stage.advance(0, &[]);
    stage.exits(0, &["dual-write", "enable"], &[]);
    stage.advance(0, &[]);
    let said = refused(&stage);
    assert!(said.contains("backfill: not copied to the end"), "{said}");
    assert!(said.contains("parity: 0 of 2 consecutive clean"), "{said}");
    stage.write("INSERT INTO item VALUES (500, 'bad', 'no number')").unwrap();
    stage.exits(1, &["backfill"], &[]);
    stage.exits(1, &["dual-write", "run"], &["--until-caught-up"]);
    let said = refused(&stage);
    assert!(!said.contains("backfill:"), "{said}");
    assert!(said.contains("rejects: 1 reject is neither corrected nor acknowledged"), "{said}");
    stage.scene.execute("UPDATE toolkit.reject SET state = 'acknowledged'").await;
    stage.exits(0, &["verify-parity"], &[]);
    let said = refused(&stage);
    assert!(said.contains("parity: 1 of 2") && !said.contains("rejects:"), "{said}");
    // A sample proves nothing here, and a difference starts the count anew.
    stage.exits(0, &["verify-parity"], &["--level", "sample"]);
    stage.scene.execute("UPDATE app.item SET name = 'other' WHERE id = 7").await;
    stage.exits(1, &["verify-parity"], &[]);
    stage.scene.execute("UPDATE app.item SET name = 'item 7' WHERE id = 7").await;
    stage.exits(0, &["verify-parity"], &[]);
    let said = refused(&stage);
    assert!(said.contains("parity: 1 of 2") && said.contains("found differences"), "{said}");
    stage.exits(0, &["verify-parity"], &[]);
    let planned = stage.advance(0, &["--dry-run"]);
    assert_eq!(planned["steps"].as_array().unwrap().len(), 10, "{planned}");
    assert_eq!(stage.place().await, "2 sqlite");
}

#[tokio::test]
async fn evidence_expires_with_newer_rejects_and_with_every_change_of_schema_or_pack() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    assert_eq!(stage.missing(), [""; 0]);
    let expired = |words: &str| {
        let missing = stage.missing().join("\n");
        assert!(missing.contains("parity: 0 of 2") && missing.contains(words), "{missing}");
    };
    stage.scene.execute("ALTER TABLE app.item ADD COLUMN later text").await;
    expired("the target's schema was changed");
    stage.scene.execute("ALTER TABLE app.item DROP COLUMN later").await;
    assert_eq!(stage.missing(), [""; 0]);
    stage.write("CREATE INDEX later ON item (name)").unwrap();
    expired("the source's schema was changed");
    stage.write("DROP INDEX later").unwrap();
    let pack = stage.scene.database.folder().join("pack/pack.toml");
    let text = std::fs::read_to_string(&pack).unwrap();
    std::fs::write(&pack, text.replace("version = 1", "version = 2")).unwrap();
    expired("the pack was version 1 and is 2 now");
    std::fs::write(&pack, format!("{text}\n# a remark\n")).unwrap();
    expired("pack.toml was changed");
    std::fs::write(&pack, &text).unwrap();
    stage.write("INSERT INTO item VALUES (501, 'bad', 'no number')").unwrap();
    stage.exits(1, &["dual-write", "run"], &["--until-caught-up"]);
    stage.scene.execute("UPDATE toolkit.reject SET state = 'acknowledged'").await;
    expired("records were rejected since (0 then, 1 now)");
}

#[tokio::test]
async fn a_forced_advance_needs_a_reason_and_is_recorded_with_what_was_missing() {
    let stage = Stage::small().await;
    stage.advance(0, &[]);
    assert_eq!(stage.run(&["phase", "advance"], &["--force"]).status.code(), Some(2));
    let done = stage.advance(0, &["--force", "--reason", "nothing writes here"]);
    assert_eq!(done["forced"], true);
    let history = stage.scene.command(&["--format", "json", "phase", "history", "--pack"]);
    let mut history = history;
    let output = history.arg(&stage.scene.pack).output().unwrap();
    let history: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entries = history["entries"].as_array().unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["advance", "force"]);
    let forced = &entries[1];
    assert_eq!(forced["reason"], "nothing writes here");
    assert!(forced["by"].as_str().unwrap().contains('('), "{forced}");
    assert!(forced["evidence"].to_string().contains("is not captured"), "{forced}");
}

#[tokio::test]
async fn what_cannot_be_checked_is_no_refusal() {
    let stage = Stage::small().await;
    stage.advance(0, &[]);
    let mut command = stage.scene.command(&["phase", "advance", "--pack", &stage.scene.pack]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("--source"), "{}", stderr(&output));
    assert_eq!(stage.place().await, "1 sqlite");
}

#[tokio::test]
async fn a_stream_without_a_way_back_is_acknowledged_before_the_cutover() {
    let streams = format!("{STREAMS}reverse = \"none\"\n");
    let stage = Stage::of(Move::own(TABLES, &streams, ROWS).await);
    stage.ready_for_cutover();
    let said = refused(&stage);
    assert!(
        said.contains("way_back: a rollback after the cutover will not bring back: items"),
        "{said}"
    );
    stage.advance(0, &["--acknowledge-none"]);
    assert_eq!(stage.place().await, "3 postgres");
}

#[tokio::test]
async fn a_command_repeated_with_the_phase_that_is_meant_goes_no_further() {
    let stage = Stage::small().await;
    stage.cut_over();
    let stays = |words: &str, to: &str| {
        let done = stage.exits(0, &["phase", words], &["--to", to]);
        let text = stage.scene.command(&["phase", words, "--to", to, "--pack", &stage.scene.pack]);
        (done, stdout(&{ text }.output().unwrap()))
    };
    let (done, said) = stays("advance", "3");
    assert_eq!(done["outcome"], "already", "{done}");
    assert!(said.contains("already in phase 3 read cutover"), "{said}");
    assert_eq!(stage.place().await, "3 postgres");
    // Killed after it was done: without --to the next one would go down to 1.
    let mut killed = stage.command(&["phase", "rollback"], &["--to", "2"]);
    let killed = killed.env("TOOLKIT_FAULT", "kill:rollback.flipped").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", stderr(&killed));
    for _ in 0..2 {
        let (done, said) = stays("rollback", "2");
        assert_eq!(done["already"], true, "{done}");
        assert!(said.contains("already in phase 2 backfill"), "{said}");
        assert_eq!(stage.place().await, "2 sqlite");
    }
    stage.write("INSERT INTO item VALUES (7000, 'the fence is lifted', 1)").unwrap();
    let refused = |words: &str, to: &str, said: &str| {
        let output = stage.run(&["phase", words], &["--to", to]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    };
    refused("rollback", "0", "`--to 1` comes first");
    refused("rollback", "3", "rollback does not lead to phase 3");
    refused("advance", "4", "`--to 3` comes first");
    refused("advance", "1", "advance does not lead to phase 1");
    refused("advance", "5", "1..=4");
    assert_eq!(stage.place().await, "2 sqlite");
    let next = stage.run(&["phase", "status"], &[]);
    let next: Value = serde_json::from_slice(&next.stdout).unwrap();
    assert!(next["packs"][0]["next"].as_str().unwrap().contains("verify-parity"), "{next}");
    stage.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
    for _ in 0..2 {
        stage.exits(0, &["verify-parity"], &[]);
    }
    let next = stage.exits(0, &["phase", "status"], &[]);
    let next = next["packs"][0]["next"].as_str().unwrap();
    assert!(next.starts_with("toolkit phase advance --to 3 --pack "), "{next}");
}

/// `phase backup-check`, which needs no sources.
#[track_caller]
fn backup_check(stage: &Stage) {
    let mut command = stage.scene.command(&["phase", "backup-check", "--pack"]);
    let output = command.arg(&stage.scene.pack).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

#[tokio::test]
async fn a_backup_is_recommended_before_the_cutover_and_stops_nothing() {
    let stage = Stage::small().await;
    stage.ready_for_cutover();
    let status = stage.exits(0, &["phase", "status"], &[]);
    let recommended = &status["packs"][0]["recommended"][0];
    assert_eq!(recommended["verdict"], "missing", "{status}");
    assert!(recommended["advice"].as_str().unwrap().contains("phase backup-check"), "{status}");
    assert!(status["packs"][0]["next"].as_str().unwrap().contains("advance"), "{status}");
    backup_check(&stage);
    let status = stage.exits(0, &["phase", "status"], &[]);
    let recommended = &status["packs"][0]["recommended"][0];
    assert_eq!(recommended["verdict"], "met", "{status}");
    assert!(recommended["finding"].as_str().unwrap().contains(" ago ("), "{status}");
    assert_eq!(stage.advance(0, &[])["outcome"], "entered");
}

#[tokio::test]
async fn a_pack_may_demand_a_backup_that_is_not_too_old() {
    let streams = STREAMS.replace("[phase]\n", "[phase]\nbackup_max_age = \"1d\"\n");
    let stage = Stage::of(Move::own(TABLES, &streams, ROWS).await);
    stage.ready_for_cutover();
    let said = refused(&stage);
    assert!(said.contains("backup: no backup was ever restored and compared"), "{said}");
    backup_check(&stage);
    let aged = "UPDATE toolkit.evidence SET at = at - interval '25 hours' WHERE kind = 'backup'";
    stage.scene.execute(aged).await;
    let said = refused(&stage);
    assert!(said.contains("it may be 24.0 hours old at most"), "{said}");
    backup_check(&stage);
    assert_eq!(stage.advance(0, &[])["outcome"], "entered");
}
