//! Postgres as the oracle of `json::write_jsonb`: the same text, and the same refusals.

use sqlx::{PgPool, Row as _};
use toolkit::cast::{Policies, Policy};
use toolkit::json::{parse, write_jsonb};

#[path = "../src/json/arbitrary.rs"]
mod arbitrary;

use arbitrary::Generator;

const SEED_DEFAULT: u64 = 20_240_229;
const BATCHES: usize = 40;
const BATCH_ROWS: usize = 1000;

/// Duplicate keys are the one anomaly that jsonb's input function takes.
const AS_POSTGRES: Policies = Policies {
    nul: Policy::Reject,
    nan: Policy::Reject,
    invalid_utf8: Policy::Reject,
    overflow: Policy::Reject,
    too_long: Policy::Reject,
    json_duplicate_keys: Policy::Replace,
    unreadable: Policy::Reject,
    orphan: Policy::Reject,
    mixed_units: toolkit::cast::MixedUnits::Reject,
};

/// Returns NULL where jsonb refuses; the bytes go through the same UTF-8 check as a client's.
const CREATE_ORACLE: &str = r"
CREATE FUNCTION pg_temp.jsonb_text(source bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(source, 'UTF8')::jsonb::text;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$";

const ASK_ORACLE: &str = "
SELECT pg_temp.jsonb_text(source) AS stored
FROM unnest($1::bytea[]) WITH ORDINALITY AS document (source, position)
ORDER BY position";

fn ours(source: &[u8]) -> Option<String> {
    let document = parse(source).ok()?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    write_jsonb(&document, &AS_POSTGRES, None, &mut out, &mut notes).ok()?;
    Some(String::from_utf8(out).expect("jsonb text is UTF-8"))
}

/// The limits of numeric, of nesting and of the grammar, where a generator rarely lands.
fn edge_documents() -> Vec<Vec<u8>> {
    let mut documents: Vec<Vec<u8>> = [
        "",
        " ",
        "1e131071",
        "1e131072",
        "0.01e131073",
        "0.01e131074",
        "1e-16383",
        "1e-16384",
        "0e-16383",
        "0e-16384",
        "0E+400000",
        "0e1073741822",
        "0e1073741823",
        "0e-1073741823",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "-0",
        "-0.0",
        "-0.00e1",
        "0e10",
        "1.50e1",
        "10e-1",
        "0.001e3",
        "0.0010e3",
        "1E-5",
        "NaN",
        "-Infinity",
        "Infinity",
        "nan",
        "01",
        "1.",
        ".5",
        "1a",
        "1-2",
        "nullx",
        "\"\u{7f}\u{2028}\u{feff}\"",
        "\"\\ud800\"",
        "\"\\udbff\\udfff\"",
        "\"\\u0000\"",
        "\"\\/\"",
        "\"a\tb\"",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    for digits in [131_071, 131_072, 131_073] {
        documents.push("9".repeat(digits).into_bytes());
    }
    for decimals in [16_383, 16_384] {
        documents.push(format!("-0.{}1", "0".repeat(decimals - 1)).into_bytes());
    }
    documents.push([vec![b'['; 512], vec![b']'; 512]].concat());
    documents
}

/// Holds `write_jsonb` against a live server on generated documents, clean, faulty and damaged.
/// `TOOLKIT_TEST_SEED` replays a failure.
pub(crate) async fn jsonb_text_equals_postgres(pool: &PgPool) {
    let seed = std::env::var("TOOLKIT_TEST_SEED")
        .map_or(SEED_DEFAULT, |text| text.parse().expect("TOOLKIT_TEST_SEED is a number"));
    let mut generator = Generator::seeded(seed);
    let mut connection = pool.acquire().await.expect("a connection");
    sqlx::query(CREATE_ORACLE).execute(&mut *connection).await.expect("the oracle function");
    let (mut stored, mut refused) = (0, 0);
    for batch in 0..=BATCHES {
        let kind = if batch == BATCHES { None } else { Some(batch % 4) };
        let generated = |kind| match kind {
            0 => generator.clean_document(),
            1 => generator.equal_documents().1,
            2 => generator.document(),
            _ => generator.damaged_document(),
        };
        let sources: Vec<Vec<u8>> = match kind {
            Some(kind) => std::iter::repeat_n(kind, BATCH_ROWS).map(generated).collect(),
            None => edge_documents(),
        };
        let rows = sqlx::query(ASK_ORACLE)
            .bind(&sources)
            .fetch_all(&mut *connection)
            .await
            .expect("the oracle answers");
        assert_eq!(rows.len(), sources.len());
        for (row, source) in rows.iter().zip(&sources) {
            let expected: Option<String> = row.get("stored");
            assert_eq!(ours(source), expected, "seed {seed}: {}", source.escape_ascii());
            assert!(kind != Some(0) || expected.is_some(), "seed {seed}: clean but refused");
            if expected.is_some() { stored += 1 } else { refused += 1 }
        }
    }
    assert!(stored > BATCHES * BATCH_ROWS / 2 && refused > 100, "{stored} stored, {refused} not");
}

#[tokio::test]
async fn jsonb_text_equals_what_postgres_prints() {
    // Without a server there is no oracle; the golden cases of the unit tests remain.
    let Ok(url) = std::env::var("TOOLKIT_TEST_POSTGRES_URL") else { return };
    let pool = PgPool::connect(&url).await.expect("TOOLKIT_TEST_POSTGRES_URL answers");
    jsonb_text_equals_postgres(&pool).await;
}
