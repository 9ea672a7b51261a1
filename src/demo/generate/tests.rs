use super::*;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};

const TABLES: [(&str, &str); 6] = [
    (sqlite::WORKFLOW_STATE, "workflow_runs"),
    (sqlite::WORKFLOW_STATE, "workflow_steps"),
    (sqlite::QUERY_CACHE, "query_cache"),
    (sqlite::TOKEN_USAGE, "token_usage"),
    (sqlite::OPENALEX, "openalex_cache"),
    (sqlite::CITEC, "citec_cache"),
];

fn generated(seed: u64, shape: &Shape) -> (tempfile::TempDir, Generated) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let generated = generate(folder.path(), seed, shape).expect("a generated folder");
    (folder, generated)
}

fn open(folder: &Path, file: &str) -> Connection {
    Connection::open_with_flags(folder.join(file), OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("a readable file")
}

fn json_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    walkdir::WalkDir::new(folder.join("reports"))
        .into_iter()
        .map(|entry| entry.expect("a listed entry"))
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).expect("below the folder");
            (name.to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

fn rows(folder: &Path, file: &str, table: &str) -> Vec<Vec<Value>> {
    let connection = open(folder, file);
    let mut statement = connection
        .prepare(&format!("SELECT rowid, * FROM {table} ORDER BY rowid"))
        .expect("a table");
    let columns = statement.column_count();
    let rows = statement
        .query_map([], |row| (0..columns).map(|column| row.get(column)).collect())
        .expect("rows");
    rows.collect::<rusqlite::Result<_>>().expect("values")
}

fn contents(folder: &Path) -> Vec<Vec<Vec<Value>>> {
    TABLES.iter().map(|(file, table)| rows(folder, file, table)).collect()
}

#[test]
fn one_seed_gives_the_same_bytes_and_rows() {
    let (first, from_first) = generated(7, &Shape::tiny());
    let (second, from_second) = generated(7, &Shape::tiny());
    assert_eq!(json_files(first.path()), json_files(second.path()));
    assert_eq!(contents(first.path()), contents(second.path()));
    assert_eq!(from_first.counts, from_second.counts);
    assert_eq!(from_first.quirks, from_second.quirks);
}

#[test]
fn two_seeds_share_no_file_and_no_row() {
    let (first, _) = generated(7, &Shape::tiny());
    let (second, _) = generated(8, &Shape::tiny());
    let (first_files, second_files) = (json_files(first.path()), json_files(second.path()));
    assert!(first_files.keys().all(|name| !second_files.contains_key(name)));
    for (ours, theirs) in contents(first.path()).iter().zip(contents(second.path())) {
        assert!(ours.iter().all(|row| !theirs.contains(row)));
    }
}

#[test]
fn more_rows_of_one_table_leave_the_others_alone() {
    let (first, _) = generated(7, &Shape::tiny());
    let (second, _) = generated(7, &Shape { token_usage: 99, ..Shape::tiny() });
    assert_eq!(json_files(first.path()), json_files(second.path()));
    let query_cache = |folder| rows(folder, sqlite::QUERY_CACHE, "query_cache");
    assert_eq!(query_cache(first.path()), query_cache(second.path()));
}

#[test]
fn counts_are_what_was_asked_and_what_is_there() {
    for shape in [Shape::tiny(), Shape::demo(), Shape::tiny().clean(), Shape::scaled(500, 40)] {
        let (folder, generated) = generated(3, &shape);
        let counts = generated.counts;
        let there: Vec<usize> = contents(folder.path()).iter().map(Vec::len).collect();
        let asked = [shape.runs, counts.workflow_steps, shape.query_cache, shape.token_usage];
        assert_eq!(there[..4], asked);
        assert_eq!(there[4..], [shape.openalex, shape.citec]);
        assert_eq!(there.iter().sum::<usize>(), counts.sqlite_rows());
        let files = json_files(folder.path());
        let of_kind = |kind: &str| files.keys().filter(|name| name.contains(kind)).count();
        assert_eq!(of_kind("/workflow-report-"), counts.reports);
        assert_eq!(of_kind("/prep-manifest-"), counts.manifests);
        assert_eq!(of_kind("/workstream-comparison-"), counts.comparisons);
        assert_eq!(files.len(), counts.files());
        assert_eq!(shape.quirks, !generated.quirks.is_empty());
    }
}

#[test]
fn an_empty_shape_gives_empty_tables() {
    let shape =
        Shape { runs: 0, token_usage: 0, query_cache: 0, openalex: 0, citec: 0, ..Shape::tiny() };
    let (folder, generated) = generated(1, &shape);
    assert_eq!(generated.counts, Counts::default());
    assert!(contents(folder.path()).iter().all(Vec::is_empty));
}

#[test]
fn a_clean_folder_holds_nothing_to_reject() {
    let (folder, generated) = generated(5, &Shape::demo().clean());
    let mut questions = 0;
    let mut artifacts = 0;
    let (mut documents, mut run_documents) = (BTreeSet::new(), 0);
    for (name, bytes) in json_files(folder.path()) {
        let read: serde_json::Value = serde_json::from_slice(&bytes).expect(&name);
        assert!(bytes.is_ascii() && !bytes.windows(6).any(|window| window == b"\\u0000"), "{name}");
        let asked = read["agentic"]["report_questions"].as_array();
        let ids: BTreeSet<_> =
            asked.into_iter().flatten().map(|question| question["id"].as_str()).collect();
        assert_eq!(ids.len(), asked.map_or(0, Vec::len), "{name}");
        assert!(!ids.contains(&None) && !ids.contains(&Some("")), "{name}");
        questions += ids.len();
        let produced = ["markdown", "pdf"].map(|kind| read["audit_artifacts"][kind].is_object());
        artifacts += produced.into_iter().filter(|is_there| *is_there).count();
        for file in read["files"].as_array().into_iter().flatten() {
            documents.insert(file["sha256"].as_str().expect("a digest").to_owned());
            run_documents += 1;
        }
    }
    let counts = generated.counts;
    assert_eq!((questions, artifacts), (counts.questions, counts.artifacts));
    assert_eq!((documents.len(), run_documents), (counts.documents, counts.run_documents));
    for ((_, table), rows) in TABLES.iter().zip(contents(folder.path())) {
        for value in rows.iter().flatten() {
            assert!(!matches!(value, Value::Blob(_) | Value::Real(_)), "{table}");
            assert!(!matches!(value, Value::Text(text) if text.contains('\0')), "{table}");
        }
    }
}

#[test]
fn every_report_with_content_holds_a_password() {
    let (folder, _) = generated(5, &Shape::tiny());
    for (name, bytes) in json_files(folder.path()) {
        let text = String::from_utf8(bytes).expect("ASCII");
        let expected = name.contains("/workflow-report-") && !text.is_empty();
        assert_eq!(text.contains(SECRET_MARK), expected, "{name}");
    }
}

#[test]
fn cache_keys_are_the_digest_of_their_parts() {
    let (folder, _) = generated(5, &Shape::tiny());
    for row in rows(folder.path(), sqlite::QUERY_CACHE, "query_cache") {
        // rowid, cache_key, query, paper_path, model, context_hash
        let key = tables::cache_key([&row[3], &row[4], &row[2], &row[5]]);
        assert!(row[1] == Value::Null || row[1] == Value::Text(key));
    }
}

#[test]
fn both_journal_modes_are_made() {
    for wal in [false, true] {
        let (folder, _) = generated(5, &Shape { wal, ..Shape::tiny() });
        // Bytes 18 and 19 of the header: 1 rollback journal, 2 WAL.
        for (file, _) in TABLES {
            let header = std::fs::read(folder.path().join(file)).expect("a file");
            assert_eq!(header[18], 1 + u8::from(wal), "{file}");
        }
    }
}

#[test]
fn a_folder_in_use_is_refused() {
    let (folder, _) = generated(5, &Shape::tiny());
    let refused = generate(folder.path(), 5, &Shape::tiny()).expect_err("a refusal");
    assert_eq!(refused.kind(), ErrorKind::Usage);
}

#[test]
fn every_planted_value_is_where_the_list_says() {
    for shape in [Shape::tiny(), Shape::demo()] {
        let (folder, generated) = generated(11, &shape);
        let files = json_files(folder.path());
        for quirk in &generated.quirks {
            match quirk.table {
                Some(table) => assert_planted_in_row(folder.path(), quirk, table),
                None => assert_planted_in_file(&files, quirk),
            }
        }
        let kinds = |outcome| generated.planted(outcome).count();
        // 25 in the four tables, 4 in the workflow tables, 11 in and around files.
        assert_eq!(generated.quirks.len(), 40);
        assert_eq!(kinds(Outcome::Skipped), 2);
        assert_eq!(kinds(Outcome::Ledgered), 2);
        assert_eq!(kinds(Outcome::Rejected), 15);
    }
}

fn assert_planted_in_row(folder: &Path, quirk: &Quirk, table: &str) {
    let column = quirk.field.as_deref().expect("a column");
    let value: Value = open(folder, &quirk.file)
        .query_row(
            &format!("SELECT {column} FROM {table} WHERE rowid = ?1"),
            [quirk.rowid.expect("a rowid")],
            |row| row.get(0),
        )
        .expect("the planted row");
    let holds = |part: &str| matches!(&value, Value::Text(text) if text.contains(part));
    let is_there = match quirk.name {
        "missing_fraction" => holds("+00:00") && !holds("."),
        "null_text" | "null_timestamp" | "null_primary_key" => value == Value::Null,
        "empty_text" => value == Value::Text(String::new()),
        "word_null" => value == Value::Text("NULL".to_owned()),
        "unicode" => holds(prose::HARD_UNICODE),
        "copy_null_marker" => value == Value::Text("\\N".to_owned()),
        "copy_end_marker" => holds("\n\\.\n"),
        "control_characters" => holds("\t") && holds("\r\n") && holds("\r"),
        "nul_in_text" => holds("\0"),
        "blob_in_text" => matches!(value, Value::Blob(_)),
        "backslash_path" => holds("\\\\?\\UNC\\"),
        "tokens_above_int4" => {
            matches!(value, Value::Integer(tokens) if tokens > i64::from(i32::MAX))
        }
        "text_in_integer" | "text_in_epoch" => matches!(value, Value::Text(_)),
        "real_in_integer" => matches!(value, Value::Real(_)),
        "number_spellings" => holds("1e22") && holds("-0.0"),
        "invalid_json" => matches!(&value, Value::Text(text)
            if serde_json::from_str::<serde_json::Value>(text).is_err()),
        "infinity_in_json" => holds(": Infinity"),
        "duplicate_json_key" => {
            matches!(&value, Value::Text(text) if text.matches("\"num_pdfs\"").count() == 2)
        }
        "url_password" => holds(SECRET_MARK),
        other => panic!("no test for {other}"),
    };
    assert!(is_there, "{quirk:?} holds {value:?}");
}

fn assert_planted_in_file(files: &BTreeMap<String, Vec<u8>>, quirk: &Quirk) {
    let bytes = &files[&quirk.file];
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    // NaN is no JSON; everything else about the file still has to be readable.
    let readable = text.replace(": NaN", ": \"NaN\"");
    let read: serde_json::Value = serde_json::from_str(&readable).unwrap_or_default();
    let at = quirk.field.as_deref().and_then(|pointer| read.pointer(pointer));
    let is_there = match quirk.name {
        "nan_in_json" => text.contains(": NaN") && at == Some(&"NaN".into()),
        "nul_in_json" => text.contains("\\u0000") && at.is_some(),
        "empty_file" => bytes.is_empty(),
        "identical_copy" => *bytes == files[&quirk.file.replace("archived/", "")],
        "report_without_manifest" => {
            !files.contains_key(&quirk.file.replace("workflow-report", "prep-manifest"))
        }
        "missing_sha256" => at.is_some_and(|file| file.get("sha256").is_none()),
        "number_spellings" => ["1e22", "-0.0"].iter().all(|spelling| text.contains(spelling)),
        "unicode" => at == Some(&prose::HARD_UNICODE.into()),
        "copy_null_marker" => {
            at.and_then(|answer| answer.as_str()).is_some_and(|text| text.starts_with("\\N\n\\.\t"))
        }
        "empty_question_id" => at.is_some_and(|question| question["id"] == ""),
        "duplicate_question_id" => at.is_some_and(|question| question["id"] == "A01"),
        other => panic!("no test for {other}"),
    };
    assert!(is_there, "{quirk:?}");
}
