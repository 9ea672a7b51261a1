//! The certificate: it holds while nothing changed, and every kind of change is named.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::world::World;
use crate::support::{stderr, stdout};

const PACK: &str = r#"
[pack]
name = "mine"
version = 1
[defaults]
zone = "UTC"
redact_members = ["api_key"]

[[stream]]
name = "notes"
source = { sqlite = "app.sqlite", table = "notes" }
target = "public.notes"
key = ["id"]

[[stream]]
name = "papers"
source = { json = "paper-*.json" }
target = "public.papers"
key = ["id"]
[stream.columns]
id = "/id"
title = "/title"
"#;

const TARGET: &str = "
CREATE TABLE notes (id int8 PRIMARY KEY, body text, doc jsonb, at timestamptz);
CREATE TABLE papers (id int8 PRIMARY KEY, title text)";

/// One reject (a time that is none) and one ledger entry (a secret).
const SOURCE: &str = r#"
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, doc TEXT, at TEXT);
INSERT INTO notes VALUES
 (1, 'one', '{"api_key":"sesame-opens"}', '2024-01-01T00:00:00'),
 (2, 'two', '{}', 'no time at all'),
 (3, 'three', '[]', '2024-01-01T00:00:00');
WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
INSERT INTO notes SELECT i, 'note ' || i, NULL, NULL FROM n"#;

async fn moved() -> World {
    let world = World::own(PACK, TARGET, SOURCE).await;
    for id in 1..=3 {
        let text = format!("{{\"id\": {id}, \"title\": \"Paper {id}\"}}");
        std::fs::write(world.source.join(format!("paper-{id}.json")), text).unwrap();
    }
    world.backfill().await;
    world
}

fn path(world: &World, name: &str) -> PathBuf {
    world.database.folder().join(name)
}

#[track_caller]
fn certify(world: &World, name: &str) -> Value {
    let file = path(world, name);
    let done = world.verify_parity(&["--certificate", file.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}{}", stdout(&done), stderr(&done));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// `certificate check`; what no longer holds.
#[track_caller]
fn broken(world: &World, code: i32, more: &[&str]) -> Vec<String> {
    let file = path(world, "c.json");
    let arguments = ["--format", "json", "certificate", "check", file.to_str().unwrap()];
    let done = world.run(&[&arguments[..], more].concat());
    assert_eq!(done.status.code(), Some(code), "{}{}", stdout(&done), stderr(&done));
    let check: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(check["holds"], code == 0);
    let facts = check["facts"].as_array().unwrap();
    let broken = facts.iter().filter(|fact| fact["holds"] == false);
    broken.map(|fact| fact["what"].as_str().unwrap().to_owned()).collect()
}

const TARGET_SIDE: &str = "public.notes, as Postgres holds it";
const SOURCE_SIDE: &str = "public.notes, as the sources have it";

#[tokio::test]
async fn a_certificate_holds_while_nothing_changed() {
    let world = moved().await;
    let certificate = certify(&world, "c.json");
    assert_eq!(certificate["verdict"], "clean");
    assert_eq!(certificate["rows"], 196);
    let table = &certificate["tables"][0];
    assert_eq!((&table["target"], &table["target_rows"]), (&"public.notes".into(), &193.into()));
    assert_eq!(table["source_root"], table["target_root"]);
    assert_eq!(certificate["streams"][0]["rejects"], 1);
    assert_eq!(certificate["streams"][0]["ledger"], 1);
    let files: Vec<&str> = certificate["sources"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|f| f["file"].as_str())
        .collect();
    assert_eq!(files, ["app.sqlite", "paper-1.json", "paper-2.json", "paper-3.json"]);
    assert!(broken(&world, 0, &[]).is_empty());

    let shown = world.run(&["certificate", "show", path(&world, "c.json").to_str().unwrap()]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(text.contains("intact") && text.contains("public.notes"), "{text}");

    // Elsewhere, if it is said where.
    let elsewhere = path(&world, "elsewhere");
    std::fs::rename(&world.source, &elsewhere).unwrap();
    let arguments = ["certificate", "check", "c.json"];
    let gone = world.run(&arguments);
    assert_eq!(gone.status.code(), Some(2), "{}", stdout(&gone));
    assert!(broken(&world, 0, &["--source", elsewhere.to_str().unwrap()]).is_empty());
}

#[tokio::test]
async fn roots_depend_on_no_order_and_two_certificates_of_one_state_agree() {
    let world = moved().await;
    let first = certify(&world, "c.json");
    // The same rows, written in another order and at other places of the file.
    world.sql("CREATE TABLE kept AS TABLE notes").await;
    world.sql("DELETE FROM notes").await;
    world.sql("INSERT INTO notes SELECT * FROM kept ORDER BY body DESC").await;
    world.sql("CLUSTER papers USING papers_pkey; UPDATE toolkit.ledger SET rule = rule").await;
    let second = certify(&world, "d.json");
    for part in ["tables", "streams", "sources", "pack", "not_checked"] {
        assert_eq!(first[part], second[part], "{part}");
    }
    assert_ne!(first["parity_run"], second["parity_run"]);
    assert!(broken(&world, 0, &[]).is_empty());
}

#[tokio::test]
async fn a_row_changed_added_or_removed_is_named_by_its_table_and_side() {
    let world = moved().await;
    certify(&world, "c.json");
    world.sql("UPDATE notes SET body = 'x' WHERE id = 3").await;
    assert_eq!(broken(&world, 1, &[]), ["verdict", TARGET_SIDE]);
    world.sql("UPDATE notes SET body = 'three' WHERE id = 3").await;
    assert!(broken(&world, 0, &[]).is_empty());
    world.sql("INSERT INTO notes VALUES (999, 'more')").await;
    assert_eq!(broken(&world, 1, &[]), ["verdict", TARGET_SIDE]);
    world.sql("DELETE FROM notes WHERE id IN (999, 3)").await;
    assert_eq!(broken(&world, 1, &[]), ["verdict", TARGET_SIDE]);
    let told = world.run(&["certificate", "check", "c.json"]);
    let text = stdout(&told);
    assert!(text.contains("rows 193, root ") && text.contains("rows 192, root "), "{text}");
    assert!(text.contains("NO LONGER HOLDS: 2 of "), "{text}");
}

#[tokio::test]
async fn a_reject_acknowledged_changes_nothing_and_a_deleted_reject_or_ledger_row_is_named() {
    let world = moved().await;
    let issued = certify(&world, "c.json");
    assert_eq!(issued["streams"][0]["reject_states"], serde_json::json!({ "open": 1 }));
    world.sql("UPDATE toolkit.reject SET state = 'acknowledged'").await;
    assert!(broken(&world, 0, &[]).is_empty());
    let told = stdout(&world.run(&["certificate", "check", "c.json"]));
    assert!(told.contains("states of its rejects") && told.contains("acknowledged 1"), "{told}");
    assert!(told.contains("HOLDS") && !told.contains("toolkit parity report"), "{told}");
    world.sql("CREATE TABLE kept AS TABLE toolkit.reject; DELETE FROM toolkit.reject").await;
    assert_eq!(broken(&world, 1, &[]), ["verdict", "stream notes, rejects"]);
    let told = stdout(&world.run(&["certificate", "check", "c.json"]));
    assert!(told.contains("`toolkit rejects list --pack "), "{told}");
    world.sql("INSERT INTO toolkit.reject SELECT * FROM kept").await;
    assert!(broken(&world, 0, &[]).is_empty());
    world.sql("DELETE FROM toolkit.ledger").await;
    assert_eq!(broken(&world, 1, &[]), ["verdict", "stream notes, ledger entries"]);
    let told = stdout(&world.run(&["certificate", "check", "c.json"]));
    assert!(told.contains("`toolkit parity report --run "), "{told}");
}

#[tokio::test]
async fn a_source_that_was_written_to_moved_or_added_is_named_by_its_file() {
    let world = moved().await;
    certify(&world, "c.json");
    // The same content, other bytes.
    std::fs::write(world.source.join("paper-2.json"), "{\"title\":\"Paper 2\",\"id\":2}").unwrap();
    assert_eq!(broken(&world, 1, &[]), ["source file paper-2.json"]);
    let told = stdout(&world.run(&["certificate", "check", "c.json"]));
    assert!(told.contains("make a new certificate") && !told.contains("parity report"), "{told}");
    world.sqlite("CREATE TABLE of_nobody (x)");
    assert_eq!(
        broken(&world, 1, &[]),
        ["source file app.sqlite", "source file paper-2.json"],
        "no row is another"
    );
    world.sqlite("DELETE FROM notes WHERE id = 3");
    std::fs::remove_file(world.source.join("paper-1.json")).unwrap();
    std::fs::write(world.source.join("paper-4.json"), "{\"id\": 4, \"title\": \"Paper 4\"}")
        .unwrap();
    assert_eq!(
        broken(&world, 1, &[]),
        [
            "verdict",
            SOURCE_SIDE,
            "public.papers, as the sources have it",
            "stream notes, records read",
            "source file app.sqlite",
            "source file paper-1.json",
            "source file paper-2.json",
            "source file paper-4.json",
        ]
    );
}

#[tokio::test]
async fn a_whole_stream_whose_source_is_gone_no_longer_holds() {
    let world = moved().await;
    certify(&world, "c.json");
    for id in 1..=3 {
        std::fs::remove_file(world.source.join(format!("paper-{id}.json"))).unwrap();
    }
    let named = broken(&world, 1, &[]);
    assert!(named.contains(&"public.papers, as Postgres holds it".to_owned()), "{named:?}");
    assert!(named.contains(&"stream papers, rejects".to_owned()), "{named:?}");
    assert!(!named.contains(&"verdict".to_owned()), "what is left is equal");
}

#[tokio::test]
async fn another_version_of_the_pack_is_named() {
    let world = moved().await;
    certify(&world, "c.json");
    let file = PathBuf::from(&world.pack).join("pack.toml");
    std::fs::write(&file, PACK.replace("version = 1", "version = 2")).unwrap();
    assert_eq!(broken(&world, 1, &[]), ["pack version", "pack.toml, SHA-256"]);
    std::fs::write(&file, PACK.replace('\n', "\r\n")).unwrap();
    assert!(broken(&world, 0, &[]).is_empty(), "line endings are no difference");
}

#[tokio::test]
async fn an_edited_certificate_is_not_believed() {
    let world = moved().await;
    certify(&world, "c.json");
    let file = path(&world, "c.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from));
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    };
    edit("\"target_rows\": 193", "\"target_rows\": 194");
    assert_eq!(broken(&world, 1, &[]), ["the certificate itself, SHA-256"]);
    let shown = world.run(&["certificate", "show", "c.json"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(stdout(&shown).contains("EDITED"), "{}", stdout(&shown));
    // Layout is not content.
    let value: Value = serde_json::from_str(&text).unwrap();
    std::fs::write(&file, value.to_string()).unwrap();
    assert!(broken(&world, 0, &[]).is_empty());
    for (from, to) in [
        ("\"format_version\": 2", "\"format_version\": 1"),
        ("\"level\": \"full\"", "\"level\": \"full\", \"level\": \"full\""),
        ("{", ""),
    ] {
        edit(from, to);
        let checked = world.run(&["certificate", "check", "c.json"]);
        assert_eq!(checked.status.code(), Some(2), "{to}: {}", stdout(&checked));
        assert_eq!(stdout(&checked), "");
    }
}

#[tokio::test]
async fn anyone_can_recompute_the_digest_of_a_certificate() {
    let world = moved().await;
    let stated = certify(&world, "c.json")["sha256"].as_str().unwrap().to_owned();
    let program = "import json, hashlib, sys; d = json.load(open(sys.argv[1])); d.pop('sha256'); \
                   print(hashlib.sha256(json.dumps(d, sort_keys=True, separators=(',', ':'), \
                   ensure_ascii=False).encode()).hexdigest())";
    let file = path(&world, "c.json");
    let Ok(done) = Command::new("python3").arg("-c").arg(program).arg(&file).output() else {
        println!("SKIPPED: no python3 to recompute with");
        return;
    };
    assert_eq!(stdout(&done).trim(), stated, "{}", stderr(&done));
}

#[tokio::test]
async fn where_anything_differs_no_certificate_is_written() {
    let world = moved().await;
    world.sql("DELETE FROM papers WHERE id = 1").await;
    let done = world.verify_parity(&["--certificate", "c.json"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).contains("no certificate was written"), "{}", stderr(&done));
    assert!(!path(&world, "c.json").exists());
}
