//! `toolkit repair`: what a verification found is made good, row by row, and nothing else.

#[path = "repair/bound.rs"]
mod bound;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::world::World;
use crate::support::{stderr, stdout};

const PACK: &str = r#"
[pack]
name = "mine"
version = 1
[defaults]
zone = "UTC"

[[stream]]
name = "owners"
source = { sqlite = "app.sqlite", table = "owners" }
target = "public.owners"
key = ["id"]

[[stream]]
name = "things"
source = { sqlite = "app.sqlite", table = "things" }
target = "public.things"
key = ["id"]
"#;

const TARGET: &str = "
CREATE TABLE owners (id int8 PRIMARY KEY, name text, boss int8 REFERENCES owners (id));
CREATE TABLE things (id int8 PRIMARY KEY, note text, owner int8 REFERENCES owners (id))";

const SOURCE: &str = "
CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT, boss INTEGER);
CREATE TABLE things (id INTEGER PRIMARY KEY, note TEXT, owner INTEGER);
INSERT INTO owners VALUES (1, 'Ada', NULL), (2, 'Grace', 1), (3, 'Edsger', 2);
INSERT INTO things VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3), (4, 'four', NULL);
";

const TAMPERING: &str = "
UPDATE things SET note = 'other' WHERE id = 1;
DELETE FROM things WHERE id = 2;
INSERT INTO things VALUES (9, 'planted', NULL)";

async fn tampered() -> World {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.assert_clean().await;
    world.sql(TAMPERING).await;
    world.verify().await;
    world
}

fn plan(world: &World, name: &str) -> PathBuf {
    let file = world.database.folder().join(name);
    let made = world.run(&["repair", "plan", "--run", "latest", "--out", file.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    file
}

/// Applies a plan: exit code, and the report.
fn apply(world: &World, file: &std::path::Path, more: &[&str]) -> (Option<i32>, Value) {
    let (file, source) = (file.to_str().unwrap(), world.source.to_str().unwrap());
    let mut arguments = vec!["--format", "json", "repair", "apply", file, "--source", source];
    arguments.extend(["--pack", &world.pack]);
    arguments.extend(more);
    let done = world.run(&arguments);
    let report = serde_json::from_str(&stdout(&done));
    (done.status.code(), report.unwrap_or_else(|_| json!(stderr(&done))))
}

fn read(file: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn write(file: &std::path::Path, plan: &Value) {
    std::fs::write(file, plan.to_string()).unwrap();
}

fn fates(report: &Value) -> Vec<&Value> {
    report["left_alone"].as_array().unwrap().iter().map(|left| &left["fate"]).collect()
}

#[tokio::test]
async fn a_plan_names_each_row_once_and_applying_it_ends_in_parity() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    let made = read(&file);
    let actions: Vec<Value> = made["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| json!([action["operation"], action["target"], action["key"]["id"]]))
        .collect();
    for expected in [
        json!(["update", "public.things", "1"]),
        json!(["insert", "public.things", "2"]),
        json!(["delete", "public.things", "9"]),
    ] {
        assert!(actions.contains(&expected), "{made:#}");
    }
    assert_eq!((actions.len(), &made["differing_rows"]), (3, &json!(3)));
    let update = made["actions"].as_array().unwrap().iter().find(|a| a["operation"] == "update");
    assert_eq!(update.unwrap()["columns"], json!(["note"]));

    let again = world.run(&["repair", "plan", "--run", "latest", "--out", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2), "a plan is never overwritten");
    let before = world.text("SELECT string_agg(t::text, ' ' ORDER BY id) FROM things t").await;
    let (code, report) = apply(&world, &file, &["--dry-run"]);
    assert_eq!(code, Some(0));
    assert_eq!(report["repaired"], json!({ "delete": 1, "insert": 1, "update": 1 }));
    let source = world.source.to_str().unwrap();
    let mut rehearsed = vec!["repair", "apply", file.to_str().unwrap(), "--source", source];
    rehearsed.extend(["--pack", &world.pack, "--dry-run"]);
    let said = stdout(&world.run(&rehearsed));
    assert!(said.contains("3 rows would be repaired (1 by delete, "), "{said}");
    assert!(!said.contains("rows repaired") && !said.contains("compared again"), "{said}");
    let after = world.text("SELECT string_agg(t::text, ' ' ORDER BY id) FROM things t").await;
    assert_eq!(before, after, "a dry run changes nothing");

    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 1, "insert": 1, "update": 1 }));
    world.assert_clean().await;
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(fates(&report), vec!["already_right"; 3]);
    world.assert_clean().await;
}

#[tokio::test]
async fn rows_that_changed_since_on_either_side_are_left_alone() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    world.sql("UPDATE things SET note = 'yet another' WHERE id = 1").await;
    world.sqlite("UPDATE things SET note = 'zwei' WHERE id = 2");
    world.sqlite("INSERT INTO things VALUES (9, 'planted', NULL)");
    for more in [&["--dry-run"][..], &[]] {
        let (code, report) = apply(&world, &file, more);
        assert_eq!(code, Some(1), "{report:#}");
        assert_eq!(report["repaired"], json!({}));
        let mut fates = fates(&report);
        fates.sort_by_key(ToString::to_string);
        assert_eq!(fates, ["source_changed", "source_changed", "target_changed"]);
    }
    assert_eq!(world.text("SELECT note FROM things WHERE id = 1").await, "yet another");
    assert_eq!(
        world.text("SELECT note FROM things WHERE id = 9").await,
        "planted",
        "the source has that row by now"
    );
}

#[tokio::test]
async fn an_action_taken_out_by_hand_is_not_carried_out() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    let mut edited = read(&file);
    edited["actions"].as_array_mut().unwrap().retain(|action| action["operation"] != "delete");
    write(&file, &edited);
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!((code, &report["repaired"]), (Some(0), &json!({ "insert": 1, "update": 1 })));
    let left = world.verify().await;
    assert_eq!((left.differing_rows, left.units[1].extra), (1, 1));
}

#[tokio::test]
async fn what_is_no_plan_of_this_pack_and_version_is_refused_with_exit_2() {
    let world = tampered().await;
    let file = plan(&world, "plan.json");
    let good = read(&file);
    let refused = |edit: &dyn Fn(&mut Value)| {
        let mut edited = good.clone();
        edit(&mut edited);
        write(&file, &edited);
        let (code, report) = apply(&world, &file, &[]);
        assert_eq!(code, Some(2), "{edited:#}: {report:#}");
    };
    refused(&|plan| plan["format_version"] = json!(99));
    refused(&|plan| plan["encoding_version"] = json!(0));
    refused(&|plan| plan["surprise"] = json!(1));
    refused(&|plan| plan["pack"] = json!("unified"));
    refused(&|plan| plan["actions"][0]["stream"] = json!("nothing"));
    refused(&|plan| plan["actions"][0]["operation"] = json!("truncate"));
    refused(&|plan| plan["actions"][0]["key"] = json!({}));
    refused(&|plan| {
        for action in plan["actions"].as_array_mut().unwrap() {
            if action["target_digest"].is_string() {
                action["target_digest"] = json!("abc");
            }
        }
    });
    refused(&|plan| *plan = json!([]));
    std::fs::write(&file, "{").unwrap();
    assert_eq!(apply(&world, &file, &[]).0, Some(2));
    assert_eq!(apply(&world, &file.with_file_name("none.json"), &[]).0, Some(2));
    let unknown = world.run(&["repair", "plan", "--run", "none", "--out", "other.json"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(world.verify().await.differing_rows, 3, "nothing was touched");
}

#[tokio::test]
async fn rows_that_refer_to_each_other_are_repaired_in_whatever_order_and_refusals_are_reported() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world.sql("DELETE FROM things; DELETE FROM owners").await;
    world
        .sql(
            "INSERT INTO owners SELECT i, 'extra', nullif(i - 1, 100) \
             FROM generate_series(101, 110) AS i",
        )
        .await;
    world.verify().await;
    let file = plan(&world, "plan.json");
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 10, "insert": 7 }));
    world.assert_clean().await;

    world.sql("INSERT INTO owners VALUES (50, 'extra', NULL)").await;
    world.verify().await;
    let file = plan(&world, "refused.json");
    world.sql("CREATE TABLE pins (owner int8 REFERENCES owners (id))").await;
    world.sql("INSERT INTO pins VALUES (50)").await;
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    let why = fates(&report)[0]["refused"].as_str().unwrap();
    assert!(why.contains("foreign key"), "{why}");
}

#[tokio::test]
async fn rows_of_several_groups_are_repaired_when_all_of_them_are_named() {
    let source = "CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT, boss INTEGER);
        CREATE TABLE things (id INTEGER PRIMARY KEY, note TEXT, owner INTEGER);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
        INSERT INTO things SELECT i, 'note ' || i, NULL FROM n";
    let world = World::own(PACK, TARGET, source).await;
    world.backfill().await;
    world
        .sql("UPDATE things SET note = '' WHERE id % 3 = 0; DELETE FROM things WHERE id % 3 = 1")
        .await;
    assert_eq!(world.verify_parity(&["--max-differences", "100000"]).status.code(), Some(1));
    let file = plan(&world, "plan.json");
    assert_eq!(read(&file)["actions"].as_array().unwrap().len(), 600);
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(0), "{}", report["left_alone"]);
    assert_eq!(report["repaired"], json!({ "insert": 300, "update": 300 }));
    world.assert_clean().await;
}

/// Key types, each with two source values.
const KEYS: &[(&str, &str, &str)] = &[
    ("numeric", "'12345678901234567890.50'", "'0.00100'"),
    ("numeric(6,2)", "'1.5'", "'-2.25'"),
    ("timestamptz", "'2024-03-31T01:30:00.123456Z'", "'0044-03-15 12:00:00+00 BC'"),
    ("date", "'2024-02-29'", "'infinity'"),
    ("time", "'23:59:59.999999'", "'00:00:00'"),
    ("interval", "'1 year 2 mons -3 days'", "'-00:00:00.000001'"),
    ("uuid", "'6f1d1ff0-0000-4000-8000-000000000001'", "'00000000-0000-0000-0000-000000000000'"),
    ("float8", "1e300", "0.1"),
    ("float8", "5e-324", "'NaN'"),
    ("bytea", "x'00ff'", "x''"),
    ("inet", "'10.1.2.3/8'", "'::1'"),
    ("jsonb", r#"'{"b": [1, null], "a": "x"}'"#, "'null'"),
    ("text[]", r#"'["a,b", "NULL", null, "\"\\"]'"#, "'[]'"),
    ("text", "'it''s \\ \"x\" '", "''"),
    ("varchar(9)", "'é'", "'NULL'"),
    ("bool", "1", "0"),
    ("mood", "'ok'", "'sad'"),
    ("small", "7", "8"),
];

#[tokio::test]
async fn rows_are_found_by_keys_of_every_type() {
    let mut pack = "[pack]\nname = \"mine\"\nversion = 1\n[defaults]\nzone = \"UTC\"\n".to_owned();
    let mut target =
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN small AS int4;".to_owned();
    let (mut source, mut tampering) = (String::new(), String::new());
    for (at, (ty, one, two)) in KEYS.iter().enumerate() {
        pack.push_str(&format!(
            "[[stream]]\nname = \"t{at}\"\nsource = {{ sqlite = \"app.sqlite\", table = \"t{at}\" }}\n\
             target = \"public.t{at}\"\nkey = [\"id\"]\n"
        ));
        target.push_str(&format!("CREATE TABLE t{at} (id {ty} PRIMARY KEY, note text);"));
        source.push_str(&format!(
            "CREATE TABLE t{at} (id, note TEXT); \
             INSERT INTO t{at} VALUES ({one}, 'one'), ({two}, 'two');"
        ));
        tampering.push_str(&format!(
            "UPDATE t{at} SET note = 'x' WHERE note = 'one'; DELETE FROM t{at} WHERE note = 'two';"
        ));
    }
    let world = World::own(&pack, &target, &source).await;
    assert_eq!(world.backfill().await.rejects, 0);
    world.assert_clean().await;
    world.sql(&tampering).await;
    assert_eq!(world.verify().await.differing_rows, 2 * KEYS.len() as u64);
    let file = plan(&world, "plan.json");
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["repaired"], json!({ "insert": KEYS.len(), "update": KEYS.len() }));
    world.assert_clean().await;
    // And the other way round: deletions.
    world.sqlite(
        &source
            .replace("CREATE TABLE", "DELETE FROM")
            .replace(" (id, note TEXT)", "")
            .split(';')
            .filter(|part| part.contains("DELETE"))
            .collect::<Vec<_>>()
            .join(";"),
    );
    world.verify().await;
    let (code, report) = apply(&world, &plan(&world, "delete.json"), &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 2 * KEYS.len() }));
    world.assert_clean().await;
}

#[tokio::test]
async fn rows_of_the_side_that_is_right_are_listed_and_stay_as_postgres_holds_them() {
    let world = tampered().await;
    world.sql("UPDATE owners SET name = 'Lovelace' WHERE id = 1").await;
    world.verify().await;
    let file = world.database.folder().join("plan.json");
    let sided = |sides: &[&str]| {
        let _ = std::fs::remove_file(&file);
        let mut arguments =
            vec!["repair", "plan", "--run", "latest", "--out", file.to_str().unwrap()];
        arguments.extend(sides.iter().flat_map(|side| ["--side", side]));
        world.run(&arguments)
    };
    assert_eq!(sided(&["left"]).status.code(), Some(2));
    let misspelt = sided(&["thigns=target"]);
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(stderr(&misspelt).contains("things"), "{}", stderr(&misspelt));
    assert_eq!(sided(&["things=target"]).status.code(), Some(0));
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!((code, &report["kept"]), (Some(0), &json!(3)), "{report:#}");
    assert_eq!(report["repaired"], json!({ "update": 1 }));
    let left = world.verify().await;
    assert_eq!((left.units[0].changed, left.differing_rows), (0, 3));
    assert_eq!(sided(&["target", "things=source"]).status.code(), Some(0));
    assert_eq!(apply(&world, &file, &[]).1["kept"], json!(0));
    world.assert_clean().await;
}

#[tokio::test]
async fn one_row_that_cannot_go_or_come_does_not_hold_back_its_group() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world
        .sql(
            "CREATE TABLE pins (owner int8 REFERENCES owners (id));
             INSERT INTO owners SELECT i, 'extra', NULL FROM generate_series(101, 120) AS i;
             INSERT INTO pins VALUES (110);
             DELETE FROM things;
             CREATE UNIQUE INDEX ON things (note);
             INSERT INTO things VALUES (99, 'two', NULL)",
        )
        .await;
    world.sqlite("DELETE FROM things WHERE id = 4");
    world.verify().await;
    let file = plan(&world, "plan.json");
    let mut edited = read(&file);
    edited["actions"].as_array_mut().unwrap().retain(|action| action["key"]["id"] != "99");
    write(&file, &edited);
    let (code, report) = apply(&world, &file, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 19, "insert": 2 }));
    let left: Vec<(&Value, &Value)> = report["left_alone"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| (&left["key"]["id"], &left["fate"]["refused"]))
        .collect();
    assert_eq!(left.len(), 2, "{report:#}");
    let why = |id: &str| left.iter().find(|(key, _)| *key == id).unwrap().1.as_str().unwrap();
    assert!(why("110").contains("foreign key"), "{}", why("110"));
    assert!(why("2").contains("99"), "it names the row in the way: {}", why("2"));
}

#[tokio::test]
async fn a_row_is_not_deleted_while_its_deletion_would_take_others_along() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    world.backfill().await;
    world
        .sql(
            "CREATE TABLE pins (owner int8 REFERENCES owners (id) ON DELETE CASCADE);
             CREATE TABLE marks (owner int8 REFERENCES owners (id) ON DELETE SET NULL);
             INSERT INTO owners SELECT i, 'extra', NULL FROM generate_series(101, 106) AS i;
             INSERT INTO pins VALUES (101); INSERT INTO marks VALUES (102)",
        )
        .await;
    world.verify().await;
    let (code, report) = apply(&world, &plan(&world, "plan.json"), &[]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["repaired"], json!({ "delete": 4 }));
    let kept = "SELECT (SELECT count(*) FROM pins) || ' ' || (SELECT count(owner) FROM marks)";
    assert_eq!(world.text(kept).await, "1 1");
    let why: Vec<&str> =
        fates(&report).iter().map(|fate| fate["refused"].as_str().unwrap()).collect();
    assert!(why.iter().any(|why| why.contains("pins")), "{why:?}");
    assert!(why.iter().any(|why| why.contains("marks")), "{why:?}");
    world.sql("DELETE FROM pins; DELETE FROM marks").await;
    assert_eq!(apply(&world, &world.database.folder().join("plan.json"), &[]).0, Some(0));
    world.assert_clean().await;
}
