//! `toolkit rejects retry` and `purge`: a refused record goes in corrected, and parity knows.

use serde_json::{Value, json};

use crate::support::world::World;
use crate::support::{stderr, stdout};

const PACK: &str = r#"
[pack]
name = "people"
version = 1
[[stream]]
name = "people"
source = { sqlite = "app.sqlite", table = "people" }
target = "public.people"
key = ["id"]
[[stream]]
name = "visits"
source = { sqlite = "app.sqlite", table = "visits" }
target = "public.visits"
key = ["id"]
after = ["people"]
[[stream]]
name = "reports"
source = { json = "report*.json" }
[[stream.output]]
name = "reports"
target = "public.reports"
key = ["id"]
columns = { id = "/id", score = "/score" }
[[stream.output]]
name = "questions"
target = "public.questions"
key = ["report", "number"]
each = "/questions"
columns = { report = "^/id", number = "@key", points = "/points" }
"#;

const TARGET: &str = "
CREATE TABLE people (id bigint PRIMARY KEY, email text CONSTRAINT people_email_key UNIQUE,
    age integer CONSTRAINT grown CHECK (age < 100), loaded timestamptz DEFAULT now());
CREATE TABLE visits (id bigint PRIMARY KEY, person bigint REFERENCES people);
CREATE TABLE reports (id text PRIMARY KEY, score numeric);
CREATE TABLE questions (report text, number integer, points integer,
    PRIMARY KEY (report, number));";

const SOURCE: &str = "
CREATE TABLE people (id INTEGER PRIMARY KEY, email, age);
INSERT INTO people VALUES (1, 'a@x', 20), (2, 'b@x', 'old'), (3, 'c@x', 'forty'),
    (4, 'a@x', 30), (5, 'postgres://u:hunter2@h', 'many'), (6, 'f@x', 120);
CREATE TABLE visits (id INTEGER PRIMARY KEY, person);
INSERT INTO visits VALUES (1, 1), (2, 2);";

async fn world() -> World {
    World::own(PACK, TARGET, SOURCE).await
}

pub(super) struct Retried(pub(super) Value, pub(super) Option<i32>);

impl Retried {
    pub(super) fn ids(&self, member: &str) -> usize {
        self.0[member].as_array().map_or(0, Vec::len)
    }
}

pub(super) fn retry(world: &World, more: &[&str]) -> Retried {
    let arguments =
        [&["--format", "json", "rejects", "retry", "--pack", &world.pack], more].concat();
    let output = world.run(&arguments);
    let report = serde_json::from_slice(&output.stdout);
    Retried(
        report.unwrap_or_else(|_| panic!("{}{}", stdout(&output), stderr(&output))),
        output.status.code(),
    )
}

/// Exports all open rejects and lets `correct` change each line; None leaves a line out.
pub(super) fn corrected(world: &World, file: &str, correct: impl Fn(&mut Value) -> bool) -> String {
    let path = world.database.folder().join(file);
    let out = path.to_str().unwrap().to_owned();
    let done = world.run(&["rejects", "export", "--state", "open", "--out", &out]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .filter_map(|mut line| correct(&mut line).then(|| line.to_string()))
        .collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    out
}

async fn reject_of(world: &World, locator: &str, what: &str) -> String {
    world
        .text(&format!(
            "SELECT {what} FROM toolkit.reject WHERE locator = '{locator}' ORDER BY id LIMIT 1"
        ))
        .await
}

fn fix_people(line: &mut Value) -> bool {
    match (line["stream"].as_str(), line["locator"].as_str()) {
        (Some("people"), Some("rowid 2")) => line["record"]["age"] = json!(21),
        (Some("people"), Some("rowid 3")) => line["record"]["age"] = json!("fourty"),
        (Some("people"), Some("rowid 4")) => line["record"]["email"] = json!("d@x"),
        _ => return false,
    }
    true
}

#[tokio::test]
async fn corrected_records_go_in_and_parity_accepts_exactly_them() {
    let world = world().await;
    let first = world.backfill().await;
    assert_eq!(first.rejects, 6, "five people and an orphan");
    let both = reject_of(&world, "rowid 4", "detail").await;
    let other = "people_email_key (email) is held by the row id=1 of public.people";
    assert!(both.contains(other), "{both}");
    let file = corrected(&world, "people.jsonl", fix_people);

    let dry = retry(&world, &["--file", &file, "--dry-run"]);
    assert_eq!((dry.ids("retried"), dry.ids("refused"), dry.1), (2, 1, Some(1)), "{}", dry.0);
    assert_eq!(world.text("SELECT count(*)::text FROM people").await, "1");
    let done = retry(&world, &["--file", &file]);
    assert_eq!((done.ids("retried"), done.ids("refused"), done.1), (2, 1, Some(1)), "{}", done.0);
    assert_eq!(done.0["refused"][0]["reason"], "wrong_type");
    assert_eq!(reject_of(&world, "rowid 3", "state").await, "open");
    assert_eq!(reject_of(&world, "rowid 2", "state").await, "retried");
    assert_eq!(world.text("SELECT age::text FROM people WHERE id = 2").await, "21");
    let run = "SELECT status || ' ' || (counts ->> 'retried') FROM toolkit.run \
               WHERE command = 'rejects retry'";
    assert_eq!(world.text(run).await, "completed 2");
    world.assert_clean().await;

    // Given again it is a finding, not a second row.
    let again = retry(&world, &["--file", &file]);
    assert_eq!((again.ids("left"), again.ids("retried"), again.1), (2, 0, Some(1)));
    let lines = std::fs::read_to_string(&file).unwrap();
    let stored: Vec<&str> = lines.lines().filter(|line| !line.contains("rowid 3\"")).collect();
    let whole = world.database.folder().join("stored.jsonl");
    std::fs::write(&whole, stored.join("\n")).unwrap();
    let given = ["rejects", "retry", "--pack", &world.pack, "--file", whole.to_str().unwrap()];
    let done = world.run(&given);
    let said = stdout(&done);
    assert_eq!(done.status.code(), Some(0), "all of it is stored: {said}");
    assert!(said.contains("retried already") && !said.contains("would be"), "{said}");
    std::fs::write(&whole, stored.join("\n").replace("d@x", "e@x")).unwrap();
    let done = world.run(&given);
    assert_eq!(done.status.code(), Some(1), "another correction is not stored");
    assert!(stdout(&done).contains("another record than the file's"), "{}", stdout(&done));

    // A later backfill leaves the corrections alone, and counts what they stand for.
    let second = world.backfill().await;
    let people = &second.streams[0].counts;
    assert!(people.is_balanced());
    assert_eq!((people.records.skipped, people.records.rejected), (2, 3), "{people:?}");
    assert_eq!(world.text("SELECT age::text FROM people WHERE id = 2").await, "21");
    assert_eq!(world.text("SELECT email FROM people WHERE id = 4").await, "d@x");
    let clean = world.assert_clean().await;
    assert_eq!((clean.streams[0].corrected, clean.streams[0].skipped), (2, 0));
    let said = stdout(&world.run(&[
        "verify-parity",
        "--pack",
        &world.pack,
        "--source",
        world.source.to_str().unwrap(),
    ]));
    assert!(said.contains("2 records as corrected, not as in the source"), "{said}");

    world.sql("UPDATE people SET age = 22 WHERE id = 2; DELETE FROM people WHERE id = 4").await;
    let report = world.verify().await;
    let lines = crate::support::world::lines(&report.differences);
    assert_eq!(
        lines,
        ["changed public.people id=2 age: '21' -> '22'", "missing public.people id=4"]
            .map(str::to_owned)
            .into_iter()
            .filter(|line| lines.contains(line))
            .collect::<Vec<_>>()
    );
    assert_eq!(report.differing_rows, 2);
    assert!(report.differences.iter().all(|difference| difference.corrected), "not the source's");
    let file = world.database.folder().join("corrected.html");
    let shown = ["parity", "report", "--run", &report.run_id, "--report", file.to_str().unwrap()];
    let said = stdout(&world.run(&shown));
    assert!(said.contains("correction, not the source: '21'"), "{said}");
    assert!(!said.contains("source:   '21'"), "{said}");
    let page = std::fs::read_to_string(file).unwrap();
    assert!(page.contains("It was corrected to") && !page.contains("The source has"), "{page}");
}

#[tokio::test]
async fn a_file_of_corrections_that_is_empty_or_not_there_is_named_with_advice() {
    let world = world().await;
    for (name, content) in
        [("none.jsonl", None), ("empty.jsonl", Some("")), ("blank", Some("\n\n"))]
    {
        let file = world.database.folder().join(name);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let file = file.to_str().unwrap();
        let done = world.run(&["rejects", "retry", "--pack", &world.pack, "--file", file]);
        assert_eq!(done.status.code(), Some(2), "{}", stdout(&done));
        let said = stderr(&done);
        assert!(said.contains(name) && said.contains("rejects export"), "{said}");
    }
}

#[tokio::test]
async fn a_correction_ends_when_the_source_is_corrected() {
    let world = world().await;
    world.backfill().await;
    let file = corrected(&world, "people.jsonl", fix_people);
    retry(&world, &["--file", &file]);
    world.sqlite("UPDATE people SET age = 25 WHERE id = 2");
    let report = world.backfill().await;
    assert_eq!(report.streams[0].counts.records.updated, 1);
    assert_eq!(world.text("SELECT age::text FROM people WHERE id = 2").await, "25");
    assert_eq!(reject_of(&world, "rowid 2", "state").await, "resolved");
    assert_eq!(reject_of(&world, "rowid 4", "state").await, "retried");
    world.assert_clean().await;
}

#[tokio::test]
async fn what_stood_in_the_way_is_gone_and_the_same_record_goes_in() {
    let world = world().await;
    world.backfill().await;
    world.sql("ALTER TABLE people DROP CONSTRAINT grown").await;
    let file = corrected(&world, "people.jsonl", fix_people);
    retry(&world, &["--file", &file]);
    // The parent of visit 2 came with the correction.
    let visits = retry(&world, &["--stream", "visits"]);
    assert_eq!((visits.ids("resolved"), visits.1), (1, Some(0)), "{}", visits.0);
    let grown = reject_of(&world, "rowid 6", "id::text").await;
    let one = retry(&world, &["--id", &grown]);
    assert_eq!((one.ids("resolved"), one.1), (1, Some(0)), "{}", one.0);
    assert_eq!(reject_of(&world, "rowid 6", "state").await, "resolved");
    world.assert_clean().await;
    let unknown = world.run(&["rejects", "retry", "--pack", &world.pack, "--id", "99999"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stdout(&unknown));
}

#[tokio::test]
async fn a_record_without_its_secret_is_not_tried() {
    let world = world().await;
    world.backfill().await;
    let file = corrected(&world, "secret.jsonl", |line| {
        let is_secret = line["secret"] == true;
        if is_secret {
            assert!(line["cannot_retry"].as_str().unwrap().contains("secret"), "{line}");
            assert!(!line.to_string().contains("hunter2"));
            line["record"]["age"] = json!(5);
        }
        is_secret
    });
    let done = retry(&world, &["--file", &file]);
    assert_eq!((done.ids("left"), done.1), (1, Some(1)), "{}", done.0);
    assert!(done.0["left"][0]["why"].as_str().unwrap().contains("only the source has"));
    assert_eq!(reject_of(&world, "rowid 5", "state").await, "open");
    // Nor is a secret taken from a corrected record.
    let file = corrected(&world, "new.jsonl", |line| {
        line["record"]["email"] = json!("postgres://u:hunter3@h");
        line["record"]["age"] = json!(5);
        line["stream"] == "people" && line["locator"] == "rowid 3"
    });
    let done = retry(&world, &["--file", &file]);
    assert_eq!((done.ids("left"), done.1), (1, Some(1)), "{}", done.0);
}

#[tokio::test]
async fn documents_and_the_rows_inside_them_are_corrected() {
    let world = world().await;
    let write = |name: &str, text: &str| std::fs::write(world.source.join(name), text).unwrap();
    write(
        "report1.json",
        r#"{"id": "one", "score": 1, "questions": [{"points": 1}, {"points": "x"}]}"#,
    );
    write(
        "report2.json",
        "{\"id\": \"two\", \"score\": \"bad\",\n \"questions\": [{\"points\": 3}]}",
    );
    write("report3.json", "{\"id\": \"three\", ");
    world.backfill().await;
    let file = corrected(&world, "reports.jsonl", |line| {
        match line["source"].as_str().unwrap() {
            "report1.json" => line["record"]["questions"][1]["points"] = json!(2),
            "report2.json" => line["record"]["score"] = json!(2.5),
            "report3.json" => line["record"] = json!("{\"id\": \"three\", \"score\": 3}"),
            _ => return false,
        }
        true
    });
    let done = retry(&world, &["--file", &file]);
    assert_eq!((done.ids("retried"), done.1), (3, Some(0)), "{}", done.0);
    let scores = "SELECT string_agg(id || score, ' ' ORDER BY id) FROM reports";
    assert_eq!(world.text(scores).await, "one1 three3 two2.5");
    let points = "SELECT string_agg(report || number || points, ' ' ORDER BY 1) FROM questions";
    assert_eq!(
        world.text(&points.replace("ORDER BY 1", "ORDER BY report, number")).await,
        "one01 one12 two03"
    );
    world.assert_clean().await;
    let again = world.backfill().await;
    let reports = &again.streams.iter().find(|stream| stream.stream == "reports").unwrap().counts;
    assert_eq!((reports.records.skipped, reports.records.rejected), (2, 0), "{reports:?}");
    assert_eq!(reports.derived["questions"].skipped, 1, "{reports:?}");
    world.assert_clean().await;
    world.sql("UPDATE questions SET points = 9 WHERE report = 'two'").await;
    assert_eq!(world.verify().await.differing_rows, 1);
}

#[tokio::test]
async fn a_retry_replaces_no_row_unless_it_is_told_to() {
    let world = world().await;
    world.backfill().await;
    let steal = |line: &mut Value| {
        line["record"]["id"] = json!(1);
        line["record"]["age"] = json!(50);
        line["stream"] == "people" && line["locator"] == "rowid 2"
    };
    let file = corrected(&world, "steal.jsonl", steal);
    let done = retry(&world, &["--file", &file]);
    assert_eq!((done.ids("refused"), done.1), (1, Some(1)), "{}", done.0);
    assert_eq!(done.0["refused"][0]["reason"], "duplicate_key");
    assert_eq!(world.text("SELECT age::text FROM people WHERE id = 1").await, "20");
    let done = retry(&world, &["--file", &file, "--replace"]);
    assert_eq!((done.ids("retried"), done.1), (1, Some(0)), "{}", done.0);
    assert_eq!(world.text("SELECT age::text FROM people WHERE id = 1").await, "50");
}

#[tokio::test]
async fn purging_takes_settled_rejects_only_and_says_what_parity_loses() {
    let world = world().await;
    world.backfill().await;
    let file = corrected(&world, "people.jsonl", fix_people);
    retry(&world, &["--file", &file]);
    let purge = |more: &[&str]| {
        let output = world.run(&[&["rejects", "purge", "--pack", "people"], more].concat());
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, said) = purge(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing to remove"), "{said}");
    for state in ["open", "retried"] {
        let (code, said) = purge(&["--state", state]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("--force"), "{said}");
    }
    let all = world.run(&["rejects", "acknowledge", "--pack", "people", "--all"]);
    assert_eq!(all.status.code(), Some(0), "{}", stderr(&all));
    let (_, said) = purge(&["--older-than", "1h"]);
    assert!(said.contains("nothing to remove"), "{said}");
    let (_, said) = purge(&["--dry-run"]);
    assert!(said.contains("no changes are made; would remove rejects: 4 acknowledged"), "{said}");
    assert!(said.contains("parity loses 4 acknowledged"), "{said}");
    world.assert_clean().await;
    let (code, said) = purge(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.verify().await.differing_rows, 4);
    let left = "SELECT string_agg(DISTINCT state, ' ') FROM toolkit.reject";
    assert_eq!(world.text(left).await, "retried");
}
