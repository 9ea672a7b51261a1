//! `toolkit backfill --preflight`: what is predicted is what happens, and nothing is changed.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use toolkit::demo::generate::{SECRET_MARK, Shape};

use crate::support::backfill::{Move, Report, fingerprint};
use crate::support::{stderr, stdout};

/// Columns of a line of the table at most.
const WIDTH: usize = 100;

#[track_caller]
fn preflight(scene: &Move, code: i32, more: &[&str]) -> Value {
    let arguments = [&["--preflight"], more].concat();
    let output = scene.run(&arguments);
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn table(scene: &Move) -> String {
    let source = scene.source.to_str().unwrap();
    let arguments = ["backfill", "--pack", &scene.pack, "--source", source, "--preflight"];
    stdout(&scene.command(&arguments).output().unwrap())
}

fn stream<'c>(census: &'c Value, name: &str) -> &'c Value {
    let streams = census["streams"].as_array().expect("streams");
    streams.iter().find(|stream| stream["stream"] == name).expect("the stream")
}

fn named<'c>(list: &'c Value, member: &str, name: &str) -> &'c Value {
    let list = list.as_array().expect("a list");
    list.iter().find(|entry| entry[member] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Column `name` of a stream's first output.
fn column<'c>(census: &'c Value, stream_name: &str, name: &str) -> &'c Value {
    named(&stream(census, stream_name)["outputs"][0]["columns"], "column", name)
}

fn values<'c>(census: &'c Value, stream_name: &str, from: &str) -> &'c Value {
    named(&stream(census, stream_name)["values"], "from", from)
}

/// Holds a census against what a first backfill into empty tables then reports, stream by stream.
#[track_caller]
fn assert_predicted(census: &Value, report: &Report) {
    let of = |rows: &Value, classes: &[&str]| -> u64 {
        classes.iter().map(|class| rows[*class].as_u64().unwrap_or(0)).sum()
    };
    let arrived = ["inserted", "updated", "unchanged"];
    for name in report.streams() {
        let predicted = &stream(census, &name)["predicted"];
        let counts = &named(&report.0["streams"], "stream", &name)["counts"];
        let same = |what: &str, predicted: &Value, counts: &Value| {
            assert_eq!(of(predicted, &["stored"]), of(counts, &arrived), "{name}{what}: stored");
            for class in ["superseded", "skipped", "rejected"] {
                assert_eq!(of(predicted, &[class]), of(counts, &[class]), "{name}{what}: {class}");
            }
        };
        assert_eq!(predicted["read"], counts["read"], "{name}: read");
        assert_eq!(predicted["ledgered"], counts["ledgered"], "{name}: ledgered");
        same("", &predicted["records"], &counts["records"]);
        for (output, rows) in predicted["derived"].as_object().unwrap() {
            same(&format!(" + {output}"), rows, &counts["derived"][output]);
        }
    }
    assert_eq!(census["rejects"], report.0["rejects"]);
    assert_eq!(census["read"], report.0["read"]);
}

#[track_caller]
fn assert_narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
    }
}

#[tokio::test]
async fn what_is_predicted_of_generated_data_is_what_the_backfill_then_reports() {
    for (seed, shape) in [(1, Shape::tiny()), (2, Shape::demo()), (3, Shape::tiny().clean())] {
        let (scene, _) = Move::generated(seed, &shape).await;
        let code = i32::from(shape.quirks);
        let census = preflight(&scene, code, &[]);
        assert_eq!(census["rejects"].as_u64() > Some(0), shape.quirks, "seed {seed}");
        assert_narrow(&table(&scene));
        let report = scene.backfill(code, &[]);
        assert_predicted(&census, &report);
        // What the target holds by now changes nothing about what is refused.
        let again = preflight(&scene, code, &[]);
        assert_eq!(again["rejects"], census["rejects"], "seed {seed}");
    }
}

#[tokio::test]
async fn the_casts_of_every_column_sum_up_to_the_rows_that_came_to_them() {
    let (scene, _) = Move::generated(4, &Shape::tiny()).await;
    let census = preflight(&scene, 1, &[]);
    for stream in census["streams"].as_array().unwrap() {
        for output in stream["outputs"].as_array().unwrap() {
            let sums: Vec<u64> = output["columns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|column| {
                    ["lossless", "ledger", "reject"]
                        .iter()
                        .map(|class| column[*class].as_u64().unwrap())
                        .sum()
                })
                .collect();
            assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "{output:#}");
        }
    }
}

#[tokio::test]
async fn nothing_is_changed_in_the_sources_nor_in_the_database() {
    let (scene, _) = Move::generated(5, &Shape { wal: true, ..Shape::tiny() }).await;
    let files = fingerprint(&scene.source);
    let rows = scene.dump().await;
    preflight(&scene, 1, &[]);
    assert_eq!(fingerprint(&scene.source), files);
    assert_eq!(scene.dump().await, rows);
    for table in ["run", "chunk", "reject", "ledger"] {
        assert_eq!(scene.count(&format!("toolkit.{table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn the_exit_code_says_whether_the_rejects_are_within_what_is_allowed() {
    let (scene, _) = Move::generated(6, &Shape::tiny()).await;
    let rejects = preflight(&scene, 1, &[])["rejects"].as_u64().unwrap();
    preflight(&scene, 0, &["--max-rejects", &rejects.to_string()]);
    preflight(&scene, 1, &["--max-rejects", &(rejects - 1).to_string()]);
    preflight(&scene, 0, &["--max-rejects", "100%"]);
    let one = preflight(&scene, 0, &["--stream", "citec_cache", "--max-rejects", "100%"]);
    assert_eq!(one["streams"].as_array().unwrap().len(), 1);
    let unknown = scene.run(&["--preflight", "--stream", "nope"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no stream `nope`"), "{}", stderr(&unknown));
}

#[tokio::test]
async fn no_secret_is_shown() {
    let (scene, _) = Move::generated(7, &Shape::demo()).await;
    let json = preflight(&scene, 1, &[]).to_string();
    for text in [json, table(&scene)] {
        assert!(!text.contains(SECRET_MARK), "{text}");
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test says that it had no data")]
async fn the_shared_sources_are_predicted_as_they_are_moved() {
    // Asked at run time: the project may have been moved since it was built.
    let project = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let shared = PathBuf::from(project).join("../shared/data/unified");
    if !shared.is_dir() {
        eprintln!("skipped: no real data beside the project");
        return;
    }
    let scene = Move::unified(shared.clone()).await;
    let output = scene.run(&["--preflight"]);
    let census: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let code = i32::from(census["rejects"].as_u64() > Some(0));
    assert_eq!(output.status.code(), Some(code));
    let text = table(&scene);
    assert_narrow(&text);
    assert!(text.lines().count() < 80, "{text}");
    assert_predicted(&census, &scene.backfill(code, &[]));
}

const DIRTY_DDL: &str = "
    CREATE TABLE public.people (id bigint PRIMARY KEY, name text NOT NULL, age int2,
        email text UNIQUE, seen timestamptz, born timestamptz, profile jsonb);
    CREATE TABLE public.tags (code text PRIMARY KEY, label text);
    CREATE TABLE public.people_tags (person bigint NOT NULL REFERENCES public.people (id),
        tag text REFERENCES public.tags (code), PRIMARY KEY (person, tag));
    CREATE TABLE public.nodes (id bigint PRIMARY KEY, parent bigint REFERENCES public.nodes (id));
    CREATE TABLE public.adults (id bigint PRIMARY KEY, name text, CHECK (id > 0));";

const DIRTY_SQL: &str = r#"
    PRAGMA foreign_keys = OFF;
    CREATE TABLE people (id INTEGER PRIMARY KEY, name, age, email, seen, born, profile);
    INSERT INTO people VALUES
        (1, 'Ada', 36, 'ada@x', 1751362200, '2025-07-01T09:30:00.5Z', '{"a": 1}'),
        (2, 'Bram', '41', 'bram@x', 1751362201, '2025-07-01T09:30:00Z', '{"a": 1, "a": 2}'),
        (3, NULL, 5, NULL, 1751362202, '2025-07-01 09:30:00', NULL),
        (4, 'Dot', 12.5, 'dot@x', 1751362203, NULL, '{"n": NaN}'),
        (5, 'Eve', 'toto', 'eve@x', 1751362204, NULL, '{broken'),
        (6, 'Fay', 70000, 'fay@x', 1751362205, NULL, NULL),
        (7, CAST(x'4769c3' AS TEXT), 7, 'gio@x', 1751362206, NULL, NULL),
        (8, CAST(x'480048' AS TEXT), 8, 'h@x', 1751362207, NULL, NULL),
        (9, 'Ivo', 9, 'ada@x', 1751362208, NULL, '"\u0000"'),
        (10, 'Jan', 10, 'jan@x', 1751362209000, '2025-07-01', '"\ud800"'),
        (11, 'Kim', 11, 'ada@x', 1751362210, 'yesterday', NULL);
    CREATE TABLE tags (code TEXT PRIMARY KEY, label TEXT) WITHOUT ROWID;
    INSERT INTO tags VALUES ('a', 'A'), ('b', 'B');
    CREATE TABLE people_tags (person INTEGER REFERENCES people (id), tag TEXT);
    INSERT INTO people_tags VALUES (1, 'a'), (1, 'a'), (2, 'b'), (1, 'c'), (99, 'a'), (3, 'a');
    CREATE TABLE nodes (id INTEGER PRIMARY KEY, parent INTEGER);
    INSERT INTO nodes VALUES (1, 2), (2, NULL), (3, 77), (4, 4);
    CREATE VIEW adults AS SELECT id, name FROM people WHERE typeof(age) = 'integer' AND age > 20;
    CREATE TABLE "Größe" (x); CREATE TABLE "GRÖßE" (x, "É", "é");
    CREATE TABLE left_behind (x);"#;

fn dirty_pack() -> String {
    let one = |name: &str, key: &str, more: &str| {
        format!(
            "[[stream]]\nname = \"{name}\"\ntarget = \"public.{name}\"\nkey = [{key}]\n\
             [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"{name}\"\n{more}"
        )
    };
    let people = "[stream.columns]\nid = \"id\"\nname = \"name\"\nage = \"age\"\n\
        email = \"email\"\nseen = { from = \"seen\", unit = \"s\" }\n\
        born = { from = \"born\", on = { unreadable = \"null\" } }\nprofile = \"profile\"\n";
    [
        one("people", "\"id\"", people),
        one("tags", "\"code\"", ""),
        one("people_tags", "\"person\", \"tag\"", ""),
        one("nodes", "\"id\"", ""),
        one("adults", "\"id\"", ""),
    ]
    .concat()
}

async fn dirty() -> Move {
    let long = "l".repeat(70);
    let more = format!("CREATE TABLE \"{long}1\" (x); CREATE TABLE \"{long}2\" (x);");
    Move::own(DIRTY_DDL, &dirty_pack(), &format!("{DIRTY_SQL}{more}")).await
}

#[tokio::test]
async fn what_is_predicted_of_dirty_tables_is_what_the_backfill_then_reports() {
    let scene = dirty().await;
    let census = preflight(&scene, 1, &[]);
    let reports = scene.backfill(1, &[]);
    assert_predicted(&census, &reports);
    // Every reject of the backfill is foreseen under its column and reason.
    let people = stream(&census, "people");
    for (_, locator, column, reason) in scene.rejects().await {
        if !column.is_empty() {
            let columns = &people["outputs"][0]["columns"];
            let reasons = &named(columns, "column", &column)["reasons"];
            assert!(reasons[&reason]["count"].as_u64() > Some(0), "{locator} {column} {reason}");
        }
    }
}

#[tokio::test]
async fn every_cast_is_asked_about_a_row_that_another_refuses() {
    let census = preflight(&dirty().await, 1, &[]);
    for (name, lossless, ledger, reject) in
        [("name", 8, 0, 3), ("age", 8, 0, 3), ("born", 8, 3, 0), ("profile", 6, 0, 5)]
    {
        let column = column(&census, "people", name);
        let counts = ["lossless", "ledger", "reject"].map(|class| column[class].clone());
        assert_eq!(counts, [lossless, ledger, reject].map(Value::from), "{column:#}");
    }
}

#[tokio::test]
async fn every_column_is_counted_by_class_range_form_and_anomaly() {
    let census = preflight(&dirty().await, 1, &[]);
    let age = values(&census, "people", "age");
    assert_eq!(age["classes"]["integer"], 8);
    assert_eq!(age["classes"]["real"], 1);
    assert_eq!(age["classes"]["text"], 2);
    assert_eq!(age["integers"], json!([5, 70000]));
    assert_eq!(age["remarks"][0], "mixed classes: 8 integer, 1 real, 2 text");
    let name = values(&census, "people", "name");
    assert_eq!(name["classes"]["null"], 1);
    assert_eq!(name["text"]["invalid_utf8"]["first"]["locator"], "rowid 7");
    assert_eq!(name["text"]["nul"]["first"]["locator"], "rowid 8");
    let seen = values(&census, "people", "seen");
    assert_eq!(seen["moments"]["inferred_unit"], "s");
    assert_eq!(seen["moments"]["minority"], 1);
    assert!(seen["remarks"].to_string().contains("MIXED UNITS"), "{seen:#}");
    let forms = &values(&census, "people", "born")["moments"]["forms"];
    for form in ["iso_fraction_offset", "iso_offset", "naive", "date", "other"] {
        assert_eq!(forms[form]["count"], 1, "{form}");
    }
    let profile = &values(&census, "people", "profile")["documents"];
    assert_eq!(profile["valid"], 5);
    for odd in ["invalid", "not_finite", "duplicate_keys", "nul", "lone_surrogates"] {
        assert_eq!(profile[odd]["count"], 1, "{odd}");
    }
    let name = column(&census, "people", "name");
    assert_eq!(name["not_null"], true);
    assert_eq!(name["reasons"]["null_not_allowed"]["first"]["locator"], "rowid 3");
}

#[tokio::test]
async fn references_that_lead_nowhere_are_counted_on_either_side() {
    let census = preflight(&dirty().await, 1, &[]);
    let references = &stream(&census, "people_tags")["outputs"][0]["references"];
    let to_people = named(references, "target", "public.people");
    let to_tags = named(references, "target", "public.tags");
    // Person 99 is nowhere; 2 and 3 are refused themselves.
    assert_eq!(to_people["dangling"]["count"], 3, "{to_people:#}");
    assert_eq!(to_tags["dangling"]["first"]["locator"], "rowid 4");
    let nodes = &stream(&census, "nodes")["outputs"][0]["references"][0];
    assert_eq!(nodes["dangling"]["count"], 1, "{nodes:#}");
    assert_eq!(nodes["found"], 2, "a row may refer to a later one and to itself");
    let broken = &census["files"][0]["broken_references"];
    assert_eq!(*broken, json!([{ "table": "people_tags", "parent": "people", "rows": 1 }]));
    let key = &stream(&census, "people_tags")["outputs"][0]["key"];
    assert_eq!(key["repeated"]["count"], 1);
    let left = census["left_to_postgres"].to_string();
    assert!(left.contains("public.adults: check adults_id_check"), "{left}");
}

#[tokio::test]
async fn names_that_postgres_would_confuse_are_named() {
    let census = preflight(&dirty().await, 1, &[]);
    let file = &census["files"][0];
    let kinds: Vec<(&str, Value)> = file["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["kind"].as_str().unwrap(), found["table"].clone()))
        .collect();
    for kind in [
        ("case_twins", Value::Null),
        ("case_twins", json!("GRÖßE")),
        ("cut_twins", Value::Null),
        ("too_long", Value::Null),
    ] {
        assert!(kinds.contains(&kind), "{kind:?} in {kinds:?}");
    }
    assert!(file["unread_tables"].to_string().contains("left_behind"));
    assert!(!file["unread_tables"].to_string().contains("people"));
}

#[tokio::test]
async fn the_table_names_what_is_wrong_and_sums_up_what_is_not_in_narrow_lines() {
    let scene = dirty().await;
    let text = table(&scene);
    assert_narrow(&text);
    for part in [
        "people (app.sqlite): 11 records; predicted: stored",
        "age smallint: lossless",
        "mixed classes: 8 integer, 1 real, 2 text",
        "null_not_allowed, first at rowid 3",
        "MIXED UNITS: 1 of these numbers are of another unit than most, first at rowid 10",
        "unique_collision, first at rowid 11",
        "(person) -> public.people: 3 of 5 references lead nowhere",
        "that differ in letter case only: GRÖßE, Größe",
        "no stream reads:",
        "REJECTS predicted",
        "without a finding",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    // WITHOUT ROWID tables and views have nothing wrong: one line sums them up.
    assert!(
        text.contains("tags (app.sqlite): 2 records; predicted: stored 2, reject 0\n"),
        "{text}"
    );
    assert!(text.contains("adults (app.sqlite): "), "{text}");
}

#[tokio::test]
async fn a_table_of_more_columns_than_postgres_takes_is_refused_in_words() {
    let columns =
        |count: usize| (1..=count).map(|at| format!("c{at} int")).collect::<Vec<_>>().join(", ");
    let ddl = format!("CREATE TABLE public.wide ({}, PRIMARY KEY (c1))", columns(1_600));
    let pack = "[[stream]]\nname = \"wide\"\ntarget = \"public.wide\"\nkey = [\"c1\"]\n\
        [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"wide\"\n";
    let source = format!("CREATE TABLE wide ({});", columns(1_601));
    let scene = Move::own(&ddl, pack, &source).await;
    let output = scene.run(&["--preflight"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{}{text}", stdout(&output));
    for part in ["app.sqlite: table `wide` has 1601 columns", "1600 at most", "help: "] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let pack = pack.replace("[stream.source]", "ignore = [\"c1601\"]\n[stream.source]");
    fs::write(PathBuf::from(&scene.pack).join("pack.toml"), header(&pack)).unwrap();
    let output = scene.run(&["--preflight"]);
    let census: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(census["files"][0]["names"][0]["kind"], "too_many_columns");
}

fn header(streams: &str) -> String {
    format!("[pack]\nname = \"mine\"\nversion = 1\n{streams}")
}

#[tokio::test]
async fn milliseconds_under_a_unit_of_seconds_are_flagged_and_refused() {
    let pack = "[[stream]]\nname = \"log\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
        [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"log\"\n[stream.columns]\n\
        id = \"id\"\nat = { from = \"at\", unit = \"s\" }\n";
    let scene = Move::own(
        "CREATE TABLE public.log (id bigint PRIMARY KEY, at timestamptz)",
        pack,
        "CREATE TABLE log (id INTEGER PRIMARY KEY, at INTEGER);
         INSERT INTO log VALUES (1, 1751362200000), (2, 1751362200001)",
    )
    .await;
    let census = preflight(&scene, 1, &[]);
    let remarks = values(&census, "log", "at")["remarks"].to_string();
    assert!(remarks.contains("UNIT: declared seconds"), "{remarks}");
    assert_eq!(column(&census, "log", "at")["reasons"]["mixed_units"]["count"], 2);
    assert_predicted(&census, &scene.backfill(1, &[]));
}

#[tokio::test]
async fn a_row_refused_for_one_reference_does_not_wait_for_another() {
    let stream = |name: &str| {
        format!(
            "[[stream]]\nname = \"{name}\"\ntarget = \"public.{name}\"\nkey = [\"id\"]\n\
             source = {{ sqlite = \"app.sqlite\", table = \"{name}\" }}\n"
        )
    };
    let scene = Move::own(
        "CREATE TABLE scenes (id bigint PRIMARY KEY);
         CREATE TABLE artifacts (id bigint PRIMARY KEY, scene bigint REFERENCES scenes,
            parent bigint REFERENCES artifacts DEFERRABLE INITIALLY DEFERRED);",
        &format!("{}{}after = [\"scenes\"]\n", stream("scenes"), stream("artifacts")),
        "CREATE TABLE scenes (id INTEGER PRIMARY KEY); INSERT INTO scenes VALUES (1);
         CREATE TABLE artifacts (id INTEGER PRIMARY KEY, scene, parent);
         INSERT INTO artifacts VALUES (1, 1, NULL), (2, 9, NULL), (3, 9, 2), (4, 1, 1);",
    )
    .await;
    let census = preflight(&scene, 1, &[]);
    let report = scene.backfill(1, &[]);
    assert_eq!(report.records("artifacts", "rejected"), 2);
    assert_predicted(&census, &report);
}

#[tokio::test]
async fn broken_lines_and_headers_that_differ_in_case_are_counted_in_csv_files() {
    let pack = "[[stream]]\nname = \"log\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
        ignore = [\"NAME\"]\n[stream.source]\ncsv = \"*.csv\"\n";
    let scene =
        Move::own("CREATE TABLE public.log (id bigint PRIMARY KEY, name text)", pack, "").await;
    fs::write(scene.source.join("log.csv"), "id,name,NAME\n1,a,A\n2,b\n1,c,C\n").unwrap();
    let census = preflight(&scene, 1, &[]);
    let log = stream(&census, "log");
    assert_eq!(log["outputs"][0]["refused"]["wrong_field_count"]["count"], 1, "{log:#}");
    assert_eq!(log["outputs"][0]["refused"]["duplicate_key"]["count"], 1, "{log:#}");
    assert_eq!(census["files"][0]["names"][0]["kind"], "case_twins");
    assert_predicted(&census, &scene.backfill(1, &[]));
}

#[tokio::test]
async fn rows_of_two_files_under_one_key_are_predicted_by_the_conflict_rule() {
    for (rule, rejects) in [("source_wins", 2), ("target_wins", 0)] {
        let pack = format!(
            "[[stream]]\nname = \"log\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
             conflict = {{ rule = \"{rule}\" }}\n[stream.source]\n\
             sqlite = [\"app.sqlite\", \"older.sqlite\"]\ntable = \"log\"\n"
        );
        let ddl = "CREATE TABLE public.log (id bigint PRIMARY KEY, name text)";
        let make = "CREATE TABLE log (id INTEGER, name TEXT);";
        let first = format!("{make} INSERT INTO log VALUES (1, 'a'), (2, 'b'), (2, 'c'), (1, 'a')");
        let scene = Move::own(ddl, &pack, &first).await;
        let older = rusqlite::Connection::open(scene.source.join("older.sqlite")).unwrap();
        let second = format!("{make} INSERT INTO log VALUES (1, 'a'), (2, 'x'), (3, 'd')");
        older.execute_batch(&second).unwrap();
        let code = i32::from(rejects > 0);
        let census = preflight(&scene, code, &[]);
        assert_eq!(census["rejects"], rejects, "{rule}");
        assert_predicted(&census, &scene.backfill(code, &[]));
    }
}
