//! The pack `unified` over a generated source: files and tables move together.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use toolkit::capture::files::RescanOptions;
use toolkit::capture::tail::{Tail, TailOptions};
use toolkit::demo::generate::Shape;
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::store::Postgres;

use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

fn dual_write(scene: &Move, action: &str, more: &[&str]) -> (i32, String) {
    let mut command = scene.command(&["dual-write", action, "--pack", &scene.pack]);
    let output = command.arg("--source").arg(&scene.source).args(more).output().unwrap();
    (output.status.code().unwrap(), format!("{}{}", stdout(&output), stderr(&output)))
}

fn files(folder: &Path, start: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start))
        .collect();
    found.sort();
    found
}

fn open(scene: &Move, name: &str) -> Connection {
    let file = Connection::open(files(&scene.source, name).remove(0)).unwrap();
    file.pragma_update(None, "journal_mode", "wal").unwrap();
    file
}

/// A report that has questions, as JSON.
fn report(scene: &Move) -> (PathBuf, serde_json::Value) {
    files(&scene.source, "workflow-report-")
        .into_iter()
        .find_map(|path| {
            let json: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).ok()?;
            let questions = json["agentic"]["report_questions"].as_array()?;
            let has_ids =
                questions.iter().all(|q| q["id"].as_str().is_some_and(|id| !id.is_empty()));
            (questions.len() > 2 && has_ids).then_some((path, json))
        })
        .expect("a report with questions")
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_documents_of_the_unified_pack_move_together() {
    let (scene, _) = Move::generated(7, &Shape::demo()).await;
    let (code, said) = dual_write(&scene, "enable", &[]);
    assert_eq!(code, 0, "{said}");
    scene.backfill(1, &[]);
    let (_, said) = dual_write(&scene, "run", &["--until-caught-up"]);
    scene.is_clean();

    let state = open(&scene, "ragonometrics_workflow_state");
    let cache = open(&scene, "ragonometrics_query_cache");
    let usage = open(&scene, "ragonometrics_token_usage");
    state
        .execute_batch(
            "UPDATE workflow_runs SET status = 'archived' WHERE rowid % 3 = 0; \
             INSERT INTO workflow_runs VALUES ('feed', '2026-02-06T17:40:01+00:00', 'running', \
               NULL, NULL, '{}'); \
             INSERT OR REPLACE INTO workflow_steps SELECT run_id, step, 'again', started_at, \
               finished_at, output_json FROM workflow_steps WHERE rowid % 4 = 0; \
             DELETE FROM workflow_steps WHERE rowid % 9 = 0",
        )
        .unwrap();
    cache
        .execute_batch(
            "INSERT OR REPLACE INTO query_cache SELECT cache_key, query, paper_path, model, \
               context_hash, answer || '!', created_at FROM query_cache WHERE rowid % 2 = 0; \
             DELETE FROM query_cache WHERE rowid % 7 = 0",
        )
        .unwrap();
    usage
        .execute_batch(
            "INSERT INTO token_usage (created_at, model, operation, input_tokens, output_tokens, \
               total_tokens, meta) SELECT created_at, model, 'live', 1, 2, 3, '{}' FROM token_usage \
               WHERE id % 5 = 0; \
             UPDATE token_usage SET created_at = '2027-01-05T00:00:00+00:00' WHERE id % 11 = 0",
        )
        .unwrap();
    // A report changes: a question goes, one comes, and what its run takes from it is another.
    let (path, mut json) = report(&scene);
    json["started_at"] = "2026-03-01T00:00:00+00:00".into();
    let questions = json["agentic"]["report_questions"].as_array_mut().unwrap();
    let mut fresh = questions.remove(0);
    fresh["id"] = "fresh".into();
    questions.push(fresh);
    std::fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    // The run that has just begun gets its report.
    json["run_id"] = "feed".into();
    let new = path.with_file_name("workflow-report-feed.json");
    std::fs::write(&new, serde_json::to_vec(&json).unwrap()).unwrap();
    let copy = scene.source.join("deep");
    std::fs::create_dir_all(&copy).unwrap();

    let (_, said) = {
        drop(said);
        dual_write(&scene, "run", &["--until-caught-up"])
    };
    assert!(said.contains("documents applied"), "{said}");
    scene.is_clean();
    let started = scene
        .text("SELECT started_at::date::text FROM workflow.run_records WHERE run_id = 'feed' AND record_kind = 'run'")
        .await;
    assert_eq!(started, "2026-03-01", "the run has what its report says");

    // A manifest that others share documents with goes; a report goes.
    std::fs::remove_file(files(&scene.source, "prep-manifest-").remove(0)).unwrap();
    std::fs::remove_file(&new).unwrap();
    let (_, said) = dual_write(&scene, "run", &["--until-caught-up"]);
    assert!(said.contains("its rows go, too"), "{said}");
    let (code, status) = {
        let output =
            scene.command(&["dual-write", "status", "--pack", "unified"]).output().unwrap();
        (output.status.code(), stdout(&output))
    };
    assert_eq!(code, Some(1), "{status}");
    dual_write(&scene, "run", &["--until-caught-up"]);
    scene.is_clean();
    let started = scene
        .text("SELECT started_at::text FROM workflow.run_records WHERE run_id = 'feed' AND record_kind = 'run'")
        .await;
    assert_eq!(started, "NULL", "its report is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_document_is_left_alone_until_it_is_whole() {
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.line (id bigint PRIMARY KEY, v text);
        CREATE TABLE app.doc (id text PRIMARY KEY, v text);
        CREATE TABLE app.t (id bigint PRIMARY KEY);";
    let streams = "[[stream]]\nname = 'line'\ntarget = 'app.line'\nkey = ['id']\n\
         conflict = { rule = 'target_wins' }\nsource = { jsonl = '*.jsonl' }\n\
         [stream.columns]\nid = '/id'\nv = '/v'\n\
         [[stream]]\nname = 'doc'\ntarget = 'app.doc'\nkey = ['id']\n\
         source = { json = 'doc-*.json' }\n[stream.columns]\nid = '/id'\nv = '/v'\n\
         [[stream]]\nname = 't'\ntarget = 'app.t'\nkey = ['id']\n\
         source = { sqlite = 'app.sqlite', table = 't' }\n[stream.columns]\nid = 'id'\n";
    let scene = Move::own(ddl, streams, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    let write = |name: &str, text: &str| std::fs::write(scene.source.join(name), text).unwrap();
    write("a.jsonl", "{\"id\":1,\"v\":\"a1\"}\n{\"id\":2,\"v\":\"a2\"}\n");
    write("b.jsonl", "{\"id\":2,\"v\":\"b2\"}\n{\"id\":3,\"v\":\"b3\"}\n");
    write("doc-1.json", "{\"id\":\"d1\",\"v\":\"one\"}");
    scene.backfill(0, &[]);
    dual_write(&scene, "enable", &[]);
    let settings = scene.database.settings();
    let postgres = Postgres::connect(&settings).await.unwrap();
    let mut tail = Tail::open(
        &settings,
        &postgres,
        Pack::find(&scene.pack).unwrap(),
        std::slice::from_ref(&scene.source),
        TailOptions::default(),
    )
    .await
    .unwrap();
    let stop = Stop::new();
    let quick = RescanOptions::default();
    let scan = tail.rescan(quick, &stop).await.unwrap();
    assert_eq!((scan.applied.len(), scan.rows, scan.deleted), (3, 0, 0), "{scan:?}");
    scene.is_clean();

    // Half of it is there: nothing of it is stored, and what was stays.
    write("doc-1.json", "{\"id\":\"d1\",\"v\":\"two");
    write("a.jsonl", "{\"id\":1,\"v\":\"new\"}\n{\"id\":5,\"v\":");
    let scan = tail.rescan(quick, &stop).await.unwrap();
    assert_eq!(scan.unfinished.len(), 2, "{scan:?}");
    assert_eq!(scene.text("SELECT v FROM app.doc").await, "one");
    assert_eq!(scene.text("SELECT v FROM app.line WHERE id = 1").await, "a1");
    // The rest comes.
    write("doc-1.json", "{\"id\":\"d1\",\"v\":\"two, whole\"}");
    let scan = tail.rescan(quick, &stop).await.unwrap();
    assert_eq!(scene.text("SELECT v FROM app.doc").await, "two, whole");
    // The other one stays as it is: its last line is a reject now.
    assert_eq!(scan.rejects, 1, "{scan:?}");
    assert_eq!(scene.text("SELECT v FROM app.line WHERE id = 1").await, "new");
    scene.is_clean();

    // A shared key goes to the other file when its owner lets go of it; equal files count once.
    write("a.jsonl", "{\"id\":1,\"v\":\"new\"}\n");
    write("doc-2.json", "{\"id\":\"d1\",\"v\":\"two, whole\"}");
    tail.rescan(quick, &stop).await.unwrap();
    assert_eq!(scene.text("SELECT v FROM app.line WHERE id = 2").await, "b2");
    assert_eq!(scene.rejects().await, []);
    scene.is_clean();
    // Behind a fence, files that are gone are gone at once, and a copy takes their place.
    std::fs::remove_file(scene.source.join("doc-1.json")).unwrap();
    std::fs::remove_file(scene.source.join("b.jsonl")).unwrap();
    let scan = tail
        .rescan(RescanOptions { is_last: true, ..RescanOptions::default() }, &stop)
        .await
        .unwrap();
    assert!(scan.is_complete(), "{scan:?}");
    assert_eq!(scan.vanished, ["b.jsonl", "doc-1.json"]);
    scene.is_clean();
    // A folder that is not there is no reason to delete everything.
    std::fs::remove_file(scene.source.join("doc-2.json")).unwrap();
    let scan = tail
        .rescan(RescanOptions { is_last: true, ..RescanOptions::default() }, &stop)
        .await
        .unwrap();
    assert!(!scan.is_complete());
    assert_eq!(scene.count("app.doc").await, 1);
}

const DOCUMENTS: &str = "CREATE SCHEMA app; CREATE TABLE app.parent (id text PRIMARY KEY); \
    CREATE TABLE app.doc (id text PRIMARY KEY, v text, parent text REFERENCES app.parent); \
    CREATE TABLE app.t (id bigint PRIMARY KEY);";

const DOCUMENT_STREAMS: &str = "[[stream]]\nname = 'doc'\ntarget = 'app.doc'\nkey = ['id']\n\
    source = { json = 'doc-*.json' }\n[stream.columns]\nid = '/id'\nv = '/v'\n\
    parent = '/parent'\n\
    [[stream]]\nname = 't'\ntarget = 'app.t'\nkey = ['id']\n\
    source = { sqlite = 'app.sqlite', table = 't' }\n[stream.columns]\nid = 'id'\n";

/// A captured pack of documents, and its tail.
async fn documents(count: usize) -> (Move, Tail) {
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY)";
    let scene = Move::own(DOCUMENTS, DOCUMENT_STREAMS, source).await;
    for number in 0..count {
        document(&scene, number, "one", "null");
    }
    dual_write(&scene, "enable", &[]);
    let settings = scene.database.settings();
    let postgres = Postgres::connect(&settings).await.unwrap();
    let pack = Pack::find(&scene.pack).unwrap();
    let roots = std::slice::from_ref(&scene.source);
    let tail = Tail::open(&settings, &postgres, pack, roots, TailOptions::default()).await;
    (scene, tail.unwrap())
}

fn document(scene: &Move, number: usize, value: &str, parent: &str) {
    let text = format!("{{\"id\":\"{number}\",\"v\":\"{value}\",\"parent\":{parent}}}");
    std::fs::write(scene.source.join(format!("doc-{number}.json")), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_fence_only_documents_are_read_that_were_written_since() {
    let (scene, mut tail) = documents(300).await;
    let stop = Stop::new();
    let thorough = RescanOptions { thorough: true, ..RescanOptions::default() };
    let last = RescanOptions { is_last: true, ..RescanOptions::default() };
    let scan = tail.rescan(thorough, &stop).await.unwrap();
    assert_eq!((scan.read, scan.applied.len(), scan.rows), (300, 300, 300));
    let scan = tail.rescan(last, &stop).await.unwrap();
    assert_eq!((scan.read, scan.applied.len()), (0, 0), "{scan:?}");
    // Of the same size, and with its time set back.
    let path = scene.source.join("doc-7.json");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    document(&scene, 7, "two", "null");
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let scan = tail.rescan(last, &stop).await.unwrap();
    assert_eq!((scan.read, scan.applied), (1, vec!["doc-7.json".to_owned()]));
    assert_eq!(scene.text("SELECT v FROM app.doc WHERE id = '7'").await, "two");
    // What vouches for a file is kept: another process need not read it either.
    let settings = scene.database.settings();
    let postgres = Postgres::connect(&settings).await.unwrap();
    let pack = Pack::find(&scene.pack).unwrap();
    let roots = std::slice::from_ref(&scene.source);
    let options = TailOptions::default();
    let mut other = Tail::open(&settings, &postgres, pack, roots, options).await.unwrap();
    let scan = other.rescan(RescanOptions::default(), &stop).await.unwrap();
    assert_eq!((scan.read, scan.applied.len()), (1, 0), "{scan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_written_again_within_the_clocks_step_is_found() {
    let (scene, mut tail) = documents(1).await;
    let stop = Stop::new();
    let path = scene.source.join("doc-0.json");
    tail.rescan(RescanOptions::default(), &stop).await.unwrap();
    for round in 0..30 {
        let value = format!("{round:03}");
        document(&scene, 0, &value, "null");
        // Twice in a row: between two steps of the clock nothing but the bytes differs.
        let scan = tail.rescan(RescanOptions::default(), &stop).await.unwrap();
        assert_eq!(scan.read, 1, "it was written just now");
        let again = format!("{:03}", 999 - round);
        document(&scene, 0, &again, "null");
        tail.rescan(RescanOptions::default(), &stop).await.unwrap();
        assert_eq!(scene.text("SELECT v FROM app.doc").await, again, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_wait_for_rows_are_not_tried_again_and_again() {
    let (scene, mut tail) = documents(2).await;
    let stop = Stop::new();
    document(&scene, 0, "one", "\"nobody\"");
    let position = "SELECT last_value::text FROM toolkit.capture_file_position";
    let tried = || async { scene.text(position).await.parse::<i64>().unwrap() };
    tail.rescan(RescanOptions::default(), &stop).await.unwrap();
    let before = tried().await;
    let last = RescanOptions { is_last: true, ..RescanOptions::default() };
    let scan = tail.rescan(last, &stop).await.unwrap();
    assert!(!scan.is_complete(), "{scan:?}");
    assert!(tried().await - before <= 2, "once at each of two looks");
    // What it waited for comes.
    scene.execute("INSERT INTO app.parent VALUES ('nobody')").await;
    let scan = tail.rescan(last, &stop).await.unwrap();
    assert!(scan.is_complete(), "{scan:?}");
    assert_eq!(scene.count("app.doc").await, 2);
}
