//! `toolkit backfill` over whole folders: everything is accounted for, nothing is done twice.

use std::path::PathBuf;
use std::process::Stdio;

use toolkit::demo::generate::{Outcome, Quirk, SECRET_MARK, Shape};

use crate::support::backfill::{Move, Report, assert_same};
use crate::support::stderr;

const SEED: u64 = 20_260_206;

/// What the pack makes of a quirk: it replaces duplicate keys and NaN in documents, and says so
/// in the ledger; everything else is as the generator's default policies have it.
fn outcome_in_pack(quirk: &Quirk) -> Outcome {
    match quirk.name {
        "duplicate_json_key" | "nan_in_json" | "infinity_in_json" => Outcome::Ledgered,
        _ => quirk.outcome,
    }
}

fn locator_of(quirk: &Quirk) -> String {
    let element = quirk.field.as_deref().and_then(|field| field.rsplit('/').next());
    match (quirk.rowid, quirk.name, element) {
        (Some(rowid), ..) => format!("rowid {rowid}"),
        (None, "duplicate_question_id" | "empty_question_id", Some(element)) => {
            format!("document, question {element}")
        }
        (None, "missing_sha256", Some(element)) => format!("document, document {element}"),
        _ => "document".to_owned(),
    }
}

#[tokio::test]
async fn every_record_is_inserted_skipped_or_rejected_exactly_once() {
    let (scene, generated) = Move::generated(SEED, &Shape::demo()).await;
    let report = scene.backfill(1, &[]);
    assert_eq!(report.0["resumed"], false);
    for stream in report.streams() {
        let six = report.six(&stream);
        assert_eq!(report.read(&stream), six.iter().sum::<u64>(), "{stream}: {six:?}");
        assert_eq!(six[1..4], [0, 0, 0], "{stream}: nothing was there before");
    }
    let counts = generated.counts;
    for (stream, read) in [
        ("workflow_runs", counts.workflow_runs),
        ("workflow_steps", counts.workflow_steps),
        ("query_cache", counts.query_cache),
        ("token_usage", counts.token_usage),
        ("openalex_cache", counts.openalex),
        ("citec_cache", counts.citec),
        ("reports", counts.reports),
        ("prep_manifests", counts.manifests),
        ("workstream_comparisons", counts.comparisons),
    ] {
        assert_eq!(report.read(stream), read as u64, "{stream}");
    }
    stored_rows_are_the_inserted_ones(&scene, &report).await;

    let rejects = scene.rejects().await;
    assert_eq!(report.0["rejects"].as_u64().unwrap(), rejects.len() as u64);
    let planned =
        generated.quirks.iter().filter(|quirk| outcome_in_pack(quirk) == Outcome::Rejected).count();
    assert_eq!(rejects.len(), planned, "{rejects:#?}");
    for quirk in &generated.quirks {
        ends_as_planned(&scene, quirk).await;
    }
    assert_eq!(
        scene.count("ingestion.run_documents").await,
        i64::try_from(counts.run_documents).unwrap()
    );
}

async fn stored_rows_are_the_inserted_ones(scene: &Move, report: &Report) {
    for (stream, slice) in [
        ("workflow_runs", "workflow.run_records WHERE record_kind = 'run'"),
        ("workflow_steps", "workflow.run_records WHERE record_kind = 'step'"),
        ("reports", "workflow.run_records WHERE record_kind = 'report'"),
        ("prep_manifests", "ingestion.prep_manifests"),
        ("query_cache", "retrieval.query_cache"),
        ("token_usage", "observability.token_usage"),
        ("openalex_cache", "enrichment.openalex_cache"),
        ("citec_cache", "enrichment.citec_cache"),
    ] {
        let stored = scene.count(slice).await;
        assert_eq!(stored, report.records(stream, "inserted").cast_signed(), "{stream}");
    }
    for (stream, output, slice) in [
        ("reports", "question", "workflow.run_records WHERE record_kind = 'question'"),
        (
            "reports",
            "workstream_link",
            "workflow.run_records WHERE record_kind = 'workstream_link'",
        ),
        ("prep_manifests", "document", "ingestion.documents"),
        ("prep_manifests", "run_document", "ingestion.run_documents"),
    ] {
        let stored = scene.count(slice).await;
        assert_eq!(stored, report.derived(stream, output, "inserted").cast_signed(), "{output}");
    }
}

async fn ends_as_planned(scene: &Move, quirk: &Quirk) {
    let locator = locator_of(quirk);
    let place = format!("source = '{}' AND locator = '{locator}'", quirk.file);
    let rejects = scene.count(&format!("toolkit.reject WHERE {place}")).await;
    let ledger = scene.count(&format!("toolkit.ledger WHERE {place}")).await;
    match outcome_in_pack(quirk) {
        Outcome::Rejected => assert_eq!(rejects, 1, "{quirk:?}"),
        Outcome::Ledgered | Outcome::Skipped => {
            assert!(rejects == 0 && ledger > 0, "{quirk:?}: {rejects} rejects, {ledger} entries");
        }
        Outcome::Stored => assert_eq!(rejects, 0, "{quirk:?}"),
    }
}

#[tokio::test]
async fn a_second_run_changes_nothing_not_even_a_row_version() {
    let (scene, _) = Move::generated(SEED, &Shape::demo()).await;
    let first = scene.backfill(1, &[]);
    let before = row_versions(&scene).await;
    let rejects = scene.rejects().await;
    let ledger = scene.count("toolkit.ledger").await;
    for more in [&[][..], &["--chunk-records", "17"]] {
        let again = scene.backfill(1, more);
        assert_eq!(again.0["changed_rows"], 0);
        for stream in first.streams() {
            let (was, is) = (first.six(&stream), again.six(&stream));
            assert_eq!(is[2] + is[3], was[0], "{stream}: unchanged or superseded, {is:?}");
            assert_eq!((is[0], is[1], is[4], is[5]), (0, 0, was[4], was[5]), "{stream}");
        }
        assert!(row_versions(&scene).await == before, "rows were rewritten");
        assert_eq!(scene.rejects().await, rejects);
        assert_eq!(scene.count("toolkit.ledger").await, ledger, "{more:?}");
    }
    assert_eq!(again_with_allowance(&scene, "100%"), 0);
    assert_eq!(again_with_allowance(&scene, &(rejects.len() - 1).to_string()), 1);
    assert_eq!(again_with_allowance(&scene, &rejects.len().to_string()), 0);
}

fn again_with_allowance(scene: &Move, allowance: &str) -> i32 {
    scene.run(&["--max-rejects", allowance]).status.code().unwrap()
}

async fn row_versions(scene: &Move) -> Vec<String> {
    let mut versions = Vec::new();
    for (schema, table) in scene.tables().await {
        if schema == "toolkit" {
            continue;
        }
        let query = format!(
            "SELECT string_agg(ctid::text || xmin::text, ' ' ORDER BY ctid) FROM {schema}.{table}"
        );
        versions.push(format!("{table}: {}", scene.text(&query).await));
    }
    versions
}

#[tokio::test]
async fn chunk_size_makes_no_difference() {
    let (whole, _) = Move::generated(SEED, &Shape::tiny()).await;
    let (pieces, _) = Move::generated(SEED, &Shape::tiny()).await;
    let (first, second) = (whole.backfill(1, &[]), pieces.backfill(1, &["--chunk-records", "1"]));
    for stream in first.streams() {
        assert_eq!(first.six(&stream), second.six(&stream), "{stream}");
    }
    assert_same(&whole.dump().await, &pieces.dump().await);
    assert_eq!(whole.rejects().await, pieces.rejects().await);
}

#[tokio::test]
async fn rejects_keep_the_whole_record_and_no_secret_is_stored_anywhere() {
    let (scene, generated) = Move::generated(SEED, &Shape::demo()).await;
    let output = scene.run(&[]);
    assert_eq!(scene.holding(SECRET_MARK).await, Vec::<String>::new());
    assert!(!stderr(&output).contains(SECRET_MARK));
    assert!(scene.count("toolkit.ledger WHERE secret").await > 0);
    let kept = "SELECT convert_from(record, 'UTF8') FROM toolkit.reject WHERE source LIKE";
    for quirk in &generated.quirks {
        if quirk.name == "nul_in_text" {
            let query = format!("{kept} '%query_cache%' AND locator = '{}'", locator_of(quirk));
            let record: serde_json::Value =
                serde_json::from_str(&scene.text(&query).await).unwrap();
            assert_eq!(record["answer"], "before the NUL\0after it");
            assert_eq!(record["cache_key"], quirk.key.as_str());
            assert_eq!(record.as_object().unwrap().len(), 7);
        }
        if quirk.name == "nul_in_json" {
            let text = scene.text(&format!("{kept} '{}' LIMIT 1", quirk.file)).await;
            let original = std::fs::read_to_string(generated.folder.join(&quirk.file)).unwrap();
            let original = mask(&original);
            assert!(text == original, "a reject that is not the document:\n{text}");
        }
    }
}

fn mask(document: &str) -> String {
    let mut masked = String::new();
    let mut rest = document;
    while let Some(at) = rest.find(SECRET_MARK) {
        let end = at + rest[at..].find('@').unwrap();
        masked.push_str(&rest[..at]);
        masked.push_str("***");
        rest = &rest[end..];
    }
    masked + rest
}

#[tokio::test]
async fn an_interrupted_run_is_not_resumed_over_other_inputs_and_restart_is_safe() {
    let (scene, generated) = Move::generated(SEED, &Shape::tiny()).await;
    interrupt(&scene).await;
    let file = generated.folder.join("sqlite/ragonometrics_token_usage.sqlite");
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute(
            "INSERT INTO token_usage (created_at, meta) VALUES ('2026-02-06T17:40:01+00:00', '{}')",
            [],
        )
        .unwrap();
    drop(other);
    let refused = scene.run(&[]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(
        text.contains("ragonometrics_token_usage.sqlite of stream token_usage changed"),
        "{text}"
    );
    assert!(text.contains("--restart"), "{text}");

    let report = scene.backfill(1, &["--restart"]);
    assert_eq!(report.0["resumed"], false);
    let fresh = Move::unified(generated.folder.clone()).await;
    fresh.backfill(1, &[]);
    assert_same(&scene.dump().await, &fresh.dump().await);

    interrupt(&scene).await;
    scene.execute("UPDATE toolkit.run SET settings = settings || '{\"pack_version\": 0}'").await;
    let text = stderr(&scene.run(&[]));
    assert!(text.contains("pack_version was 0, is 1") && text.contains("--restart"), "{text}");
}

/// Leaves an unfinished run with committed chunks behind.
async fn interrupt(scene: &Move) {
    scene.backfill(1, &["--chunk-records", "5", "--restart"]);
    scene
        .execute(
            "WITH newest AS (SELECT run_id FROM toolkit.run ORDER BY started_at DESC LIMIT 1) \
             UPDATE toolkit.run SET status = 'running' WHERE run_id = (TABLE newest)",
        )
        .await;
}

#[tokio::test]
async fn beside_a_running_backfill_one_with_other_settings_or_over_again_is_refused() {
    let (scene, _) = Move::generated(SEED, &Shape::scaled(20_000, 500)).await;
    let mut first =
        scene.backfill_command(&["--chunk-records", "100"]).stdout(Stdio::null()).spawn().unwrap();
    while scene.count("toolkit.chunk WHERE status = 'done'").await < 3 {
        assert!(first.try_wait().unwrap().is_none(), "the first ended too early");
    }
    for (arguments, help) in [
        (["--stream", "token_usage"].as_slice(), "help: wait for it"),
        (&["--restart"], "help: stop"),
    ] {
        let second = scene.run(arguments);
        let text = stderr(&second);
        assert_eq!(second.status.code(), Some(2), "{text}");
        assert!(text.contains("another backfill of the pack unified is running"), "{text}");
        assert!(text.contains(help), "{text}");
    }
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(scene.count("toolkit.run").await, 1);
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test says that it had no data")]
async fn the_real_applications_folder_moves_whole() {
    // Asked at run time: the project may have been moved since it was built.
    let project = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let folder = PathBuf::from(project).join("../shared/data/unified");
    if !folder.is_dir() {
        eprintln!("skipped: no real data beside the project");
        return;
    }
    let scene = Move::unified(folder).await;
    let report = scene.backfill(0, &["--max-rejects", "0.1%"]);
    let rejects = scene.rejects().await;
    assert!(rejects.is_empty(), "{rejects:#?}");
    for (kind, rows) in [
        ("run", 200),
        ("step", 1213),
        ("report", 220),
        ("question", 2848),
        ("artifact", 33),
        ("workstream_link", 6),
    ] {
        let slice = format!("workflow.run_records WHERE record_kind = '{kind}'");
        assert_eq!(scene.count(&slice).await, rows, "{kind}: {}", report.0);
    }
    for (schema, table) in scene.tables().await {
        let query = format!(
            "SELECT (regexp_matches(t::text, '[a-z+]+://[^\\s/:@\"]*:([^*\\s/@\"][^\\s/@\"]*)@'))[1] \
             FROM {schema}.\"{table}\" t LIMIT 1"
        );
        assert_eq!(scene.text(&query).await, "no row", "{schema}.{table}");
    }
}
