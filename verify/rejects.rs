//! `toolkit rejects` and `toolkit ledger` after a real backfill.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{TestDatabase, stderr, stdout, toolkit};
use crate::user_pack::{migrate, run, shop, shop_db};

/// Orders that cannot be stored: a bad time, a bad amount with a password beside it, bytes that
/// are no text, and sixty bad amounts; and one that is stored without its password.
const BAD: &str = r#"
INSERT INTO orders VALUES
    (10, 'Cleo', 'yesterday', 1, '{}', NULL),
    (11, 'Dan', '2025-01-01 00:00:00', 1e9, '{"dsn": "postgres://u:hunter2@db/app"}', NULL),
    (12, CAST(x'ff41' AS TEXT), '2025-01-01 00:00:00', 1, '{}', NULL),
    (13, 'Eve', '2025-01-01 00:00:00', 1, '{"dsn": "postgres://u:hunter2@db/app"}', NULL);
INSERT INTO orders SELECT 100 + value, 'Fay', '2025-01-01 00:00:00', 'much', '{}', NULL
FROM (WITH RECURSIVE n(value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < 60)
      SELECT value FROM n);
"#;

async fn with_rejects() -> TestDatabase {
    let database = TestDatabase::create().await;
    migrate(&database);
    let source = shop_db(database.folder(), BAD);
    let pack = shop();
    let backfill = ["backfill", "--pack", pack.to_str().expect("UTF-8"), "--source"];
    let done = run(&database, &[&backfill[..], &[source.to_str().expect("UTF-8")]].concat());
    assert_eq!(done.status.code(), Some(1), "{}{}", stdout(&done), stderr(&done));
    database
}

fn ask(database: &TestDatabase, arguments: &[&str]) -> String {
    let output = run(database, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    let said = stdout(&output);
    assert!(!said.contains("hunter2"), "{said}");
    said
}

fn json(database: &TestDatabase, arguments: &[&str]) -> Value {
    let said = ask(database, &[&["--format", "json"], arguments].concat());
    serde_json::from_str(&said).expect("JSON")
}

fn id_of(database: &TestDatabase, reason: &str) -> String {
    let found = json(database, &["rejects", "list", "--reason", reason, "--limit", "1"]);
    found["rejects"][0]["id"].to_string()
}

#[tokio::test]
async fn rejects_are_listed_by_kind_first_and_say_how_many_more_there_are() {
    let database = with_rejects().await;
    let text = ask(&database, &["rejects", "list", "--pack", "shop"]);
    let (groups, rest) = text.split_once("\n\n").expect("groups first");
    assert!(groups.contains("invalid_timestamp") && groups.contains("open"), "{text}");
    assert!(rest.contains("shop.db, rowid 10"), "{text}");
    assert!(text.contains("... and 13 more: --limit shows them"), "{text}");
    assert!(text.contains("rejects: 63;"), "{text}");

    let all = json(&database, &["rejects", "list", "--limit", "100"]);
    assert_eq!((&all["total"], &all["more"]), (&63.into(), &0.into()));
    assert_eq!(all["rejects"].as_array().expect("rejects").len(), 63);
    assert!(all["rejects"][0].get("record").is_none(), "a list has no records");
    for (filter, total) in [
        (&["--reason", "invalid_timestamp"][..], 1),
        (&["--rule", "invalid_utf8"], 1),
        (&["--state", "acknowledged"], 0),
        (&["--stream", "orders", "--state", "open"], 63),
        (&["--stream", "none"], 0),
        (&["--pack", "unified"], 0),
    ] {
        let found = json(&database, &[&["rejects", "list"], filter].concat());
        assert_eq!(found["total"], total, "{filter:?}: {found}");
    }
    assert_eq!(ask(&database, &["rejects", "list", "--pack", "unified"]), "no rejects\n");
    let wrong = run(&database, &["rejects", "list", "--state", "opne"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
}

#[tokio::test]
async fn a_reject_is_shown_whole_and_without_its_secret() {
    let database = with_rejects().await;
    let text = ask(&database, &["rejects", "show", &id_of(&database, "invalid_timestamp")]);
    for part in ["shop.db, rowid 10", "\"customer\": \"Cleo\"", "\"placed\": \"yesterday\""] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let secret = ask(&database, &["rejects", "show", &id_of(&database, "overflow")]);
    assert!(secret.contains("a secret was removed") && secret.contains("u:***@db"), "{secret}");

    let missing = run(&database, &["rejects", "show", "999999"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("there is no reject 999999"), "{}", stderr(&missing));
}

#[tokio::test]
async fn rejects_are_exported_whole_one_json_object_a_line_and_nothing_is_overwritten() {
    let database = with_rejects().await;
    let out = database.folder().join("rejects.jsonl");
    let arguments = ["rejects", "export", "--pack", "shop", "--out", "rejects.jsonl"];
    assert!(ask(&database, &arguments).contains("rejects.jsonl: 63"));
    let text = fs::read_to_string(&out).expect("file");
    assert!(!text.contains("hunter2"));
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 63);
    let one = lines.iter().find(|line| line["reason"] == "invalid_timestamp").expect("reject");
    let record = &one["record"];
    assert_eq!((&record["id"], &record["placed"]), (&10.into(), &"yesterday".into()));
    assert_eq!((&one["shape"], &one["state"]), (&"record".into(), &"open".into()));
    assert_eq!(one.get("cannot_retry"), None);
    let bytes = lines.iter().find(|line| line["reason"] == "invalid_utf8").expect("reject");
    assert_eq!(bytes["record"]["customer"]["$text_hex"], "ff41", "{bytes}");
    let secret = lines.iter().find(|line| line["secret"] == true).expect("reject");
    assert!(secret["cannot_retry"].as_str().expect("text").contains("secret"), "{secret}");

    let again = run(&database, &arguments);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
    let nowhere = run(&database, &["rejects", "export", "--out", "no/such/folder/x.jsonl"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("cannot write no/such/folder"), "{}", stderr(&nowhere));
}

#[tokio::test]
async fn acknowledging_changes_what_it_planned_and_leaves_a_run() {
    let database = with_rejects().await;
    let id = id_of(&database, "invalid_timestamp");
    let dry = ask(&database, &["rejects", "acknowledge", "--pack", "shop", &id, "--dry-run"]);
    assert!(dry.contains("no changes are made; would acknowledge 1"), "{dry}");
    assert_eq!(json(&database, &["rejects", "list", "--state", "open"])["total"], 63);

    let unknown = run(&database, &["rejects", "acknowledge", "--pack", "shop", &id, "999999"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("the pack shop has no reject 999999"));
    let other = run(&database, &["rejects", "acknowledge", "--pack", "unified", &id]);
    assert_eq!(other.status.code(), Some(2), "a reject of another pack");
    assert_eq!(json(&database, &["rejects", "list", "--state", "open"])["total"], 63);

    let one = json(&database, &["rejects", "acknowledge", "--pack", "shop", &id]);
    assert_eq!((&one["ids"].to_string(), &one["open"]), (&format!("[{id}]"), &62.into()));
    let again = ask(&database, &["rejects", "acknowledge", "--pack", "shop", &id]);
    assert!(again.contains("nothing to acknowledge") && again.contains("already"), "{again}");
    let all = json(&database, &["rejects", "acknowledge", "--pack", "shop", "--all"]);
    assert_eq!((all["ids"].as_array().expect("ids").len(), &all["open"]), (62, &0.into()));
    let runs: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM toolkit.run WHERE command = 'rejects acknowledge' AND pack = 'shop' \
         AND status = 'completed'",
    )
    .fetch_one(&database.pool().await)
    .await
    .expect("runs");
    assert_eq!(runs, 2);
    for usage in [&["--pack", "shop"][..], &["--pack", "shop", "--all", "1"], &["--all"]] {
        let wrong = run(&database, &[&["rejects", "acknowledge"], usage].concat());
        assert_eq!(wrong.status.code(), Some(2), "{usage:?}");
    }
}

#[tokio::test]
async fn ledger_entries_are_listed_by_kind_and_never_show_a_secret() {
    let database = with_rejects().await;
    let text = ask(&database, &["ledger", "list", "--pack", "shop"]);
    assert!(text.contains("details") && text.contains("secret"), "{text}");
    let list = json(&database, &["ledger", "list", "--stream", "orders", "--limit", "1"]);
    assert!(list["total"].as_i64().expect("total") >= 1, "{list}");
    let entry = list["entries"][0].clone();
    let shown = ask(&database, &["ledger", "show", &entry["id"].to_string()]);
    assert!(shown.contains("shop.db, rowid"), "{shown}");
    let rule = entry["rule"].as_str().expect("rule");
    let filtered = json(&database, &["ledger", "list", "--rule", rule]);
    assert!(filtered["total"].as_i64().expect("total") >= 1);
    assert_eq!(json(&database, &["ledger", "list", "--rule", "none"])["total"], 0);
    let missing = run(&database, &["ledger", "show", "999999"]);
    assert!(stderr(&missing).contains("there is no ledger entry 999999"));
}

#[tokio::test]
async fn a_database_without_the_control_schema_is_named_as_such() {
    let database = TestDatabase::create().await;
    for arguments in [
        &["rejects", "list"][..],
        &["rejects", "show", "1"],
        &["rejects", "export", "--out", "x.jsonl"],
        &["rejects", "acknowledge", "--pack", "shop", "--all"],
        &["ledger", "list"],
        &["ledger", "show", "1"],
    ] {
        let output = run(&database, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("no control schema `toolkit`"), "{said}");
        assert!(said.contains("help: check --database-url"), "{said}");
    }
    assert!(!database.folder().join("x.jsonl").exists());
}

#[test]
fn rejects_of_a_private_cluster_are_listed_too() {
    // The server's own user passes through.
    let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").expect("folder");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .expect("mode");
    let run = |arguments: &[&str]| {
        let state = folder.path().join("state");
        let output = toolkit()
            .arg("--state-dir")
            .arg(Path::new(&state))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .expect("toolkit");
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let folder = shop();
    let (code, said) =
        run(&["migrate", "up", "--pack", "shop", "--dir", folder.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(run(&["rejects", "list"]), (Some(0), "no rejects\n".to_owned()));
    assert_eq!(run(&["ledger", "list"]), (Some(0), "no ledger entries\n".to_owned()));
}

#[tokio::test]
async fn a_packs_folder_names_it_as_well_as_its_name_does() {
    let pack = "[pack]\nname = \"mine\"\nversion = 1\n\n[[stream]]\nname = \"things\"\n\
        source = { sqlite = \"app.sqlite\", table = \"things\" }\n\
        target = \"public.things\"\nkey = [\"id\"]\n";
    let target = "CREATE TABLE things (id int8 PRIMARY KEY, n int4)";
    let source = "CREATE TABLE things (id INTEGER PRIMARY KEY, n);
        INSERT INTO things VALUES (1, 1), (2, 'toto')";
    let world = crate::support::world::World::own(pack, target, source).await;
    assert_eq!(world.backfill().await.rejects, 1);
    for named in [world.pack.as_str(), "mine"] {
        let listed = world.run(&["--format", "json", "rejects", "list", "--pack", named]);
        let listed = crate::support::stdout(&listed);
        assert!(listed.contains("\"things\""), "{named}: {listed}");
    }
}
