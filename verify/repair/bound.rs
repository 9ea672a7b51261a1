//! What a plan is bound to: its database, its pack, its words, the rows as they are by now; and
//! which verification `latest` means.

use super::{PACK, SOURCE, TARGET, World, apply, fates, json, plan, read, tampered, write};
use crate::support::{stderr, stdout, toolkit};

#[tokio::test]
async fn a_plan_is_refused_by_another_database_another_pack_and_once_it_was_edited() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    let good = read(&file);
    let refused = |said: &str| {
        let (code, why) = apply(&world, &file, &[]);
        assert_eq!(code, Some(2), "{why:#}");
        assert!(why.as_str().unwrap().contains(said), "{said}: {why}");
    };
    for edit in ["key", "target", "operation", "columns"] {
        let mut edited = good.clone();
        let action = &mut edited["actions"][0];
        action[edit] = match edit {
            "key" => json!({ "id": "4" }),
            "target" => json!("public.owners"),
            "operation" => json!("keep"),
            _ => json!(["owner"]),
        };
        write(&file, &edited);
        refused("was edited");
    }
    let mut edited = good.clone();
    edited["parity_run"] = json!("00000000-0000-4000-8000-000000000000");
    write(&file, &edited);
    refused("was edited");
    // Layout and the order of members are not content.
    let mut sorted = good.clone();
    sorted["actions"].as_array_mut().unwrap().reverse();
    write(&file, &sorted);
    assert_eq!(apply(&world, &file, &["--dry-run"]).0, Some(0));

    write(&file, &good);
    let pack = std::path::Path::new(&world.pack).join("pack.toml");
    std::fs::write(&pack, PACK.replace("version = 1", "version = 2")).unwrap();
    refused("another mine: then version 1");
    std::fs::write(&pack, PACK).unwrap();
    let other = tampered().await;
    let (code, why) = apply(&other, &file, &[]);
    assert_eq!(code, Some(2), "{why:#}");
    assert!(why.as_str().unwrap().contains("another database"), "{why}");
    assert_eq!(other.verify().await.differing_rows, 3, "nothing was touched");
    assert_eq!(apply(&world, &file, &[]).0, Some(0));
    world.assert_clean().await;
}

/// A lock holds apply between its first look at the source and its group's writing.
#[tokio::test]
async fn a_source_that_changes_while_a_plan_is_applied_is_read_again() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    let mut holder = world.postgres.dedicated().await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE things IN EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let child = toolkit()
        .args(["--database-url", world.database.url(), "--state-dir"])
        .arg(world.database.folder().join("state"))
        .args(["--format", "json", "repair", "apply", file.to_str().unwrap()])
        .args(["--source", world.source.to_str().unwrap(), "--pack", &world.pack])
        .current_dir(world.database.folder())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // What waits to lock rows has read the source.
    let waits = "SELECT count(*)::text FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
                 WHERE NOT l.granted AND a.datname = current_database() \
                 AND a.query LIKE '%FOR UPDATE%'";
    while world.text(waits).await == "0" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.sqlite("UPDATE things SET note = 'zwei' WHERE id = 2");
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}{}", stdout(&done), stderr(&done));
    let report = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(fates(&report), ["source_changed"], "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 1, "update": 1 }));
}

#[tokio::test]
async fn rows_that_no_unique_index_tells_apart_are_left_alone_and_say_so() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.sql("ALTER TABLE things DROP CONSTRAINT things_pkey").await;
    world
        .sql(
            "INSERT INTO things SELECT 7, n, NULL FROM unnest(ARRAY['x', 'y']) AS n;
             INSERT INTO things SELECT * FROM things WHERE id = 1;
             UPDATE things SET note = 'other' WHERE id = 2",
        )
        .await;
    world.verify().await;
    let file = plan(&world, "plan.json");
    assert_eq!(read(&file)["left_alone"], json!({ "duplicate": 1 }));
    world.sql("INSERT INTO things VALUES (2, 'other', 2)").await;
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!((code, &report["repaired"]), (Some(1), &json!({})), "{report:#}");
    for fate in fates(&report) {
        let why = fate["refused"].as_str().unwrap();
        assert!(why.contains("2 rows under this key"), "{why}");
    }
    assert_eq!(world.text("SELECT count(*)::text FROM things WHERE id IN (2, 7)").await, "4");
}

#[tokio::test]
async fn a_row_that_a_trigger_changes_is_refused_by_its_name_and_costs_no_other() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    world
        .sql(
            "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN NEW.note := upper(NEW.note); RETURN NEW; END';
             CREATE TRIGGER shouting BEFORE INSERT OR UPDATE ON things FOR EACH ROW
                 WHEN (NEW.id = 2) EXECUTE FUNCTION shout()",
        )
        .await;
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 1, "update": 1 }));
    let why = fates(&report)[0]["refused"].as_str().unwrap();
    assert!(why.contains("shouting"), "{why}");
    assert_eq!(world.text("SELECT count(*)::text FROM things WHERE id = 2").await, "0");
}

#[tokio::test]
async fn latest_is_the_newest_verification_that_fits_and_is_named() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    let folder = world.database.folder().to_owned();
    let latest = |command: &[&str]| {
        let _ = std::fs::remove_file(folder.join("out.json"));
        let done = world.run(command);
        (done.status.code(), stderr(&done))
    };
    let repair = ["repair", "plan", "--run", "latest", "--out", "out.json"];
    let report = ["parity", "report", "--run", "latest"];
    for command in [&repair[..], &report] {
        let (code, said) = latest(command);
        assert_eq!(code, Some(2));
        assert!(
            said.contains("there is no stored verification") && said.contains("help"),
            "{said}"
        );
    }
    assert_eq!(world.verify_parity(&["--certificate", "c.json"]).status.code(), Some(0));
    world.sql("UPDATE things SET note = 'other' WHERE id = 1").await;
    let full = world.verify().await.run_id;
    world.sql("DELETE FROM things WHERE id = 2").await;
    let checked = world.run(&["certificate", "check", "c.json"]);
    assert_eq!(checked.status.code(), Some(1), "{}", stderr(&checked));
    let counts = world.verify_at(toolkit::parity::Level::Counts).await.run_id;
    let of = |run: &str| format!("latest is verification {run} of pack mine");
    let (code, said) = latest(&repair);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&of(&newest_full(&world, &full).await)), "{said}");
    assert_eq!(read(&folder.join("out.json"))["actions"].as_array().unwrap().len(), 1);
    let (code, said) = latest(&report);
    assert!(code == Some(1) && said.contains(&of(&counts)), "{said}");
    let (code, said) = latest(&["repair", "plan", "--run", &counts, "--out", "out.json"]);
    assert!(code == Some(2) && said.contains("only counted rows"), "{said}");

    world
        .sql(
            "INSERT INTO toolkit.parity_run SELECT gen_random_uuid(), 'yours', level, against, \
        verdict, started_at, finished_at + interval '1 s', tool_version, settings, inputs, \
        snapshot_lsn, snapshot_xmin, totals, streams FROM toolkit.parity_run WHERE level = 'full'",
        )
        .await;
    for command in [&repair[..], &report] {
        let (code, said) = latest(command);
        assert!(code == Some(2) && said.contains("several packs: mine, yours"), "{said}");
        let (_, said) = latest(&[command, &["--pack", "mine"]].concat());
        assert!(said.contains("of pack mine"), "{said}");
    }
}

/// `World::verify` stores three verifications, one for each way.
async fn newest_full(world: &World, first: &str) -> String {
    let newest = world
        .text(
            "SELECT run_id::text FROM toolkit.parity_run WHERE level = 'full' \
             AND settings ->> 'purpose' IS NULL ORDER BY finished_at DESC LIMIT 1",
        )
        .await;
    assert_ne!(newest, first, "it is newer than the first way's");
    newest
}
