//! The verifier is verified, and the verification of the verifier can fail.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::Value;

use crate::support::{TestDatabase, stderr, stdout, toolkit};

/// Every class of drift there has to be a case of.
const CLASSES: &[&str] = &[
    "row dropped",
    "row added",
    "row duplicated",
    "row lost, another doubled",
    "key changed",
    "row moved to another table",
    "foreign key re-pointed",
    "values of two columns swapped",
    "values of two rows swapped",
    "value to NULL",
    "NULL to value",
    "NULL, '', 'NULL', JSON null",
    "one bit flipped",
    "trailing space",
    "upper and lower case",
    "truncated",
    "Unicode NFC and NFD",
    "CRLF and LF",
    "-0 and 0",
    "last bit of a float",
    "last digit of a numeric",
    "integer off by 1",
    "moment off by 1 us",
    "moment off by 1 h",
    "zone dropped",
    "equal to a reader, not in bytes",
    "array order",
    "array elements",
    "json member added or lost",
    "json number 1 and 1.0",
    "json text spelt otherwise",
    "another value",
    "cancels out under a weak hash",
    "source changed after the backfill",
    "record of a reject or change lost",
    "several at once",
    #[cfg(feature = "embedded-qdrant")]
    "vector missing",
    #[cfg(feature = "embedded-qdrant")]
    "vector of another text",
    #[cfg(feature = "embedded-qdrant")]
    "vector that cannot be recomputed",
    #[cfg(feature = "embedded-qdrant")]
    "stale payload",
    #[cfg(feature = "embedded-qdrant")]
    "missing point",
    #[cfg(feature = "embedded-qdrant")]
    "orphan point",
    #[cfg(feature = "embedded-qdrant")]
    "stale sidecar entry",
    #[cfg(feature = "embedded-qdrant")]
    "sidecar entry lost",
    #[cfg(feature = "embedded-qdrant")]
    "sidecar entry too many",
    #[cfg(feature = "embedded-qdrant")]
    "stale sidecar run",
    #[cfg(feature = "embedded-qdrant")]
    "sidecar of another artifact",
];

/// Every change that must not be called a difference.
const HARMLESS: &[&str] = &[
    "nothing",
    "same value written again",
    "numeric scale",
    "jsonb key order, spelling",
    "same value spelt otherwise",
    "order of rows on disk",
    "column the pack does not map",
    "source rewritten, same values",
    #[cfg(feature = "embedded-qdrant")]
    "point written again",
    #[cfg(feature = "embedded-qdrant")]
    "sidecar written otherwise",
];

fn self_test(database: &TestDatabase, more: &[&str]) -> Output {
    toolkit()
        .args(["--database-url", database.url(), "--state-dir"])
        .arg(database.folder().join("state"))
        .args(["--format", "json", "verify-parity", "--self-test", "--seed", "7"])
        .args(more)
        .output()
        .expect("toolkit")
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

fn problems(report: &Value) -> Vec<&Value> {
    let cases = report["cases"].as_array().unwrap().iter();
    let casts = report["casts"].as_array().unwrap().iter();
    cases
        .filter(|case| case["problems"] != Value::Array(Vec::new()))
        .chain(casts.filter(|cast| cast["detail"] != Value::Null))
        .collect()
}

async fn is_there(database: &TestDatabase, name: &Value) -> bool {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(name.as_str().expect("a name"))
        .fetch_one(&database.pool().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_class_of_drift_is_found_in_every_type_and_nothing_else_is() {
    let database = TestDatabase::create().await;
    let output = self_test(&database, &[]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{:#?}", problems(&report));
    assert_eq!(report["passed"], true);
    assert!(!is_there(&database, &report["database"]).await);
    assert!(problems(&report).is_empty(), "{:#?}", problems(&report));
    assert_eq!(report["planted"], report["found"]);
    assert_eq!(report["false_alarms"], 0);
    assert_eq!(report["cast_bugs_planted"], report["cast_bugs_found"]);
    assert!(report["cast_bugs_planted"].as_u64() > Some(50), "{}", report["cast_bugs_planted"]);
    let cases = report["cases"].as_array().unwrap();
    let classes = |is_drift: bool| -> BTreeSet<&str> {
        let of_kind = cases.iter().filter(|case| {
            case["expected"].as_array().is_some_and(|expected| expected.is_empty() != is_drift)
        });
        of_kind.filter_map(|case| case["class"].as_str()).collect()
    };
    assert_eq!(classes(true), CLASSES.iter().copied().collect());
    assert_eq!(classes(false), HARMLESS.iter().copied().collect());
    // Counting promises only what changes a count; the levels that read rows promise all of it.
    let is_derived = |case: &&Value| {
        case["ways"].get("sidecar").is_some() || case["ways"].get("points").is_some()
    };
    for case in cases.iter().filter(|case| !case["expected"].as_array().unwrap().is_empty()) {
        if is_derived(&case) {
            continue;
        }
        for way in ["sample", "client", "server", "re_read"] {
            assert_eq!(case["ways"][way], "found", "{way}: {case:#}");
        }
    }
}

#[tokio::test]
async fn a_verifier_that_misses_a_class_of_drift_fails_the_self_test() {
    let database = TestDatabase::create().await;
    let output = self_test(&database, &["--self-test-forget", "foreign key re-pointed"]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["passed"], false);
    assert!(!is_there(&database, &report["database"]).await);
    let missed: BTreeSet<&str> =
        problems(&report).iter().filter_map(|case| case["class"].as_str()).collect();
    assert_eq!(missed, ["foreign key re-pointed"].into());
    let text = problems(&report)[0]["problems"].to_string();
    assert!(text.contains("client: Missed") && text.contains("server: Missed"), "{text}");
    assert!(!text.contains("counts: Missed"), "{text}");
}

#[tokio::test]
async fn without_the_right_to_create_a_database_the_self_test_says_so() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    let role = format!("plain_{}", uuid::Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'plain'");
    sqlx::query(toolkit::store::sql(create)).execute(&pool).await.unwrap();
    let (_, place) = database.url().split_once("://").unwrap();
    let place = place.split_once('@').map_or(place, |(_, place)| place);
    let output = toolkit()
        .args(["--database-url", &format!("postgres://{role}:plain@{place}"), "--state-dir"])
        .arg(database.folder().join("state"))
        .args(["verify-parity", "--self-test"])
        .output()
        .unwrap();
    let drop = format!("DROP ROLE {role}");
    sqlx::query(toolkit::store::sql(drop)).execute(&pool).await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("CREATEDB"), "{}", stderr(&output));
}

#[test]
fn without_self_test_a_pack_and_a_source_are_asked_for() {
    let output = toolkit().arg("verify-parity").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("--pack") && text.contains("--source"), "{text}");
    let output = toolkit().args(["verify-parity", "--self-test", "--pack", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
