//! Postgres as the oracle of every cast: generated sources are cast, sent through binary COPY and
//! compared with what Postgres's own input functions make of the same text, byte by byte
//! (`record_send`) and as text. `TOOLKIT_TEST_SEED` replays a failure.

use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use sqlx::{PgConnection, PgPool, Row as _};
use toolkit::cast::{
    CastName, CastOptions, ColumnCast, EpochUnit, PgType, Policies, Policy, Value,
};
use toolkit::json::{Json, parse};

#[path = "cast_oracle/sources.rs"]
mod sources;

use crate::support::TestDatabase;
use sources::{Generate, Given, Item};

const SEED_DEFAULT: u64 = 20_260_206;
const CASES: usize = 3000;

/// One cast and the SQL that says the same.
struct Contract {
    name: &'static str,
    ty: PgType,
    sql_type: &'static str,
    options: CastOptions,
    /// Postgres's own way from `source` (text) to the type.
    oracle: &'static str,
    generate: Generate,
    /// Reasons for which the cast may refuse what Postgres takes.
    stricter: &'static [&'static str],
    /// How many of the generated sources must be stored.
    kept_min: usize,
}

impl Contract {
    fn new(
        name: &'static str,
        ty: PgType,
        sql_type: &'static str,
        oracle: &'static str,
        generate: Generate,
    ) -> Self {
        let options = CastOptions::default();
        Self { name, ty, sql_type, options, oracle, generate, stricter: &[], kept_min: CASES / 6 }
    }

    fn with(mut self, options: CastOptions) -> Self {
        self.options = options;
        self
    }

    fn stricter(mut self, reasons: &'static [&'static str]) -> Self {
        self.stricter = reasons;
        self
    }
}

impl Contract {
    fn keeps(mut self, kept_min: usize) -> Self {
        self.kept_min = kept_min;
        self
    }
}

fn zone(name: &str) -> CastOptions {
    CastOptions { zone: Some(name.to_owned()), ..CastOptions::default() }
}

fn unit(unit: EpochUnit) -> CastOptions {
    CastOptions { unit: Some(unit), ..CastOptions::default() }
}

fn cast(name: CastName) -> CastOptions {
    CastOptions { cast: Some(name), ..CastOptions::default() }
}

fn rounding() -> CastOptions {
    let on = Policies { overflow: Policy::Replace, ..Policies::default() };
    CastOptions { on, ..CastOptions::default() }
}

fn numbers() -> Vec<Contract> {
    let new = Contract::new;
    let numeric = |typmod| PgType::Numeric(typmod);
    vec![
        new("int2", PgType::Int2, "int2", "source::int2", sources::integer)
            .stricter(&["wrong_type"]),
        new("int4", PgType::Int4, "int4", "source::int4", sources::integer)
            .stricter(&["wrong_type"]),
        new("int8", PgType::Int8, "int8", "source::int8", sources::integer)
            .stricter(&["wrong_type", "inexact"]),
        new("bool", PgType::Bool, "bool", "source::bool", sources::boolean)
            .stricter(&["wrong_type"]),
        new("float8", PgType::Float8, "float8", "source::float8", sources::float8)
            .stricter(&["inexact"]),
        new("float4", PgType::Float4, "float4", "source::float4", sources::float4)
            .stricter(&["inexact"]),
        new("numeric", numeric(None), "numeric", "source::numeric", sources::any_decimal),
        new(
            "numeric(10,2)",
            numeric(Some((10, 2))),
            "numeric(10,2)",
            "source::numeric(10,2)",
            sources::decimal,
        )
        .stricter(&["scale"]),
        new(
            "numeric(10,2) rounded",
            numeric(Some((10, 2))),
            "numeric(10,2)",
            "CASE WHEN abs(source::numeric) < 99999999.995 THEN source::numeric(10,2) \
             WHEN source::numeric = 'NaN' THEN 'NaN' \
             ELSE sign(source::numeric) * 99999999.99 END",
            sources::decimal,
        )
        .with(rounding()),
        new(
            "numeric(3,-2) rounded",
            numeric(Some((3, -2))),
            "numeric(3,-2)",
            "CASE WHEN abs(source::numeric) < 99950 THEN source::numeric(3,-2) \
             WHEN source::numeric = 'NaN' THEN 'NaN' \
             ELSE sign(source::numeric) * 99900 END",
            sources::decimal,
        )
        .with(rounding()),
    ]
}

fn times() -> Vec<Contract> {
    let new = Contract::new;
    let berlin = "source::timestamp AT TIME ZONE 'Europe/Berlin'";
    // Skipped 2011-12-30 as a whole.
    let apia = "source::timestamp AT TIME ZONE 'Pacific/Apia'";
    let tz = || PgType::Timestamptz;
    let from_epoch = "timestamptz 'epoch' + make_interval(secs => trunc(source::numeric)::float8) \
                      + (source::numeric % 1 * 1000000)::float8 * interval '1 microsecond'";
    let from_millis = "timestamptz 'epoch' + make_interval(secs => \
                       trunc(source::numeric / 1000)::float8) \
                       + (source::numeric % 1000 * 1000)::float8 * interval '1 microsecond'";
    let naive = &["invalid_timestamp", "ambiguous_timestamp"];
    vec![
        new("timestamptz", tz(), "timestamptz", "source::timestamptz", sources::moment)
            .with(zone("UTC"))
            .stricter(&["precision"]),
        new("timestamptz of a zone", tz(), "timestamptz", berlin, sources::naive_moment)
            .with(zone("Europe/Berlin"))
            .stricter(naive)
            .keeps(CASES * 98 / 100),
        new("timestamptz of another zone", tz(), "timestamptz", apia, sources::naive_moment)
            .with(zone("Pacific/Apia"))
            .stricter(naive)
            .keeps(CASES * 98 / 100),
        new("timestamptz of seconds", tz(), "timestamptz", from_epoch, sources::epoch_seconds)
            .with(unit(EpochUnit::S))
            .stricter(&["mixed_units"]),
        new("timestamptz of milliseconds", tz(), "timestamptz", from_millis, sources::epoch_millis)
            .with(cast(CastName::EpochMs))
            .stricter(&["mixed_units"]),
        new("timestamp", PgType::Timestamp, "timestamp", "source::timestamp", sources::moment)
            .stricter(&["precision", "invalid_timestamp"]),
        new("date", PgType::Date, "date", "source::date", sources::date).stricter(&["precision"]),
        new("time", PgType::Time, "time", "source::time", sources::clock).stricter(&["precision"]),
        new("interval", PgType::Interval, "interval", "source::interval", sources::interval),
        new(
            "interval of seconds",
            PgType::Interval,
            "interval",
            "(source || ' seconds')::interval",
            sources::seconds,
        )
        .with(cast(CastName::IntervalSeconds)),
    ]
}

fn texts() -> Vec<Contract> {
    let new = Contract::new;
    let labels = ["sad", "ok", "happy"].map(str::to_owned).to_vec();
    let mood = PgType::Enum { name: "pg_temp.mood".to_owned(), labels };
    let array = |element| PgType::Array(Box::new(element));
    let json_text = new("json", PgType::Json, "json", "source::json", sources::document);
    vec![
        new("text", PgType::Text(None), "text", "source", sources::text),
        new("varchar(5)", PgType::Text(Some(5)), "varchar(5)", "source", sources::text)
            .stricter(&["too_long"]),
        new("text of a real", PgType::Text(None), "text", "source::float8::text", sources::real),
        new("ltree", PgType::Ltree, "ltree", "source::ltree", sources::path),
        new("bytea", PgType::Bytea, "bytea", "decode(source, 'hex')", sources::blob),
        new("uuid", PgType::Uuid, "uuid", "replace(source, 'urn:uuid:', '')::uuid", sources::uuid)
            .stricter(&["invalid_uuid"]),
        new("enum", mood, "pg_temp.mood", "source::pg_temp.mood", sources::label),
        new("inet", PgType::Inet, "inet", "source::inet", sources::address)
            .stricter(&["invalid_inet"]),
        json_text,
        new("jsonb", PgType::Jsonb, "jsonb", "source::jsonb", sources::document),
        new(
            "int8[]",
            array(PgType::Int8),
            "int8[]",
            "(SELECT coalesce(array_agg(x::int8 ORDER BY n), '{}') \
             FROM jsonb_array_elements_text(source::jsonb) WITH ORDINALITY AS e (x, n))",
            sources::integers,
        ),
        new(
            "varchar(9)[]",
            array(PgType::Text(Some(9))),
            "varchar(9)[]",
            "(SELECT coalesce(array_agg(x::varchar(9) ORDER BY n), '{}') \
             FROM jsonb_array_elements_text(source::jsonb) WITH ORDINALITY AS e (x, n))",
            sources::words,
        )
        .stricter(&["too_long"]),
    ]
}

/// Holds every cast against a live server.
async fn every_cast_stores_what_postgres_would(pool: &PgPool) {
    let seed = std::env::var("TOOLKIT_TEST_SEED")
        .map_or(SEED_DEFAULT, |text| text.parse().expect("TOOLKIT_TEST_SEED is a number"));
    let mut connection = pool.acquire().await.expect("a connection");
    for statement in [
        "SET TimeZone = 'UTC'",
        "SET IntervalStyle = 'postgres'",
        "CREATE EXTENSION IF NOT EXISTS ltree",
        "CREATE TYPE pg_temp.mood AS ENUM ('sad', 'ok', 'happy')",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.expect(statement);
    }
    let mut faults = Vec::new();
    for contract in numbers().into_iter().chain(times()).chain(texts()) {
        faults.extend(hold(&contract, seed, &mut connection).await);
    }
    assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
}

async fn run(connection: &mut PgConnection, statement: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// The first few differences of one contract.
async fn hold(contract: &Contract, seed: u64, connection: &mut PgConnection) -> Vec<String> {
    const SHOWN_MAX: usize = 4;
    let place = contract.name;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let items: Vec<Item> = (0..CASES).map(|_| (contract.generate)(&mut random)).collect();
    let expected = ask(contract, &items, connection).await;
    let column =
        ColumnCast::new("value", contract.ty.clone(), true, contract.options.clone(), None)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
    let (mut kept, mut faults) = (Vec::new(), Vec::new());
    for (item, expected) in items.iter().zip(expected) {
        let document = match &item.given {
            Given::Json => parse(item.source.as_bytes()).ok(),
            _ => None,
        };
        match (encode(&column, item, document.as_ref()), expected) {
            (Ok(field), Some(expected)) if field == expected => kept.push((item, field)),
            (Ok(field), Some(expected)) => faults.push(format!(
                "{place}: {item:?}\n ours {}\n its  {}",
                hex::encode(&field),
                hex::encode(&expected)
            )),
            (Ok(_), None) => faults.push(format!("{place}: only Postgres refuses {item:?}")),
            (Err(_), None) => {}
            (Err(refusal), Some(_)) if contract.stricter.contains(&refusal.reason) => {}
            (Err(refusal), Some(_)) => {
                faults.push(format!("{place}: only the cast refuses {item:?}: {refusal:?}"));
            }
        }
    }
    if kept.len() < contract.kept_min {
        faults.push(format!("{place}: only {} of {CASES} stored", kept.len()));
    }
    if faults.is_empty() {
        faults.extend(copy_and_compare(contract, &kept, connection).await);
    }
    faults.truncate(SHOWN_MAX);
    faults
}

fn encode(
    column: &ColumnCast,
    item: &Item,
    document: Option<&Json>,
) -> Result<Vec<u8>, toolkit::cast::Refusal> {
    let value = match &item.given {
        Given::Text(text) => Value::Text(text),
        Given::Integer(n) => Value::Integer(*n),
        Given::Real(x) => Value::Real(*x),
        Given::Blob(bytes) => Value::Blob(bytes),
        Given::Json => document.map_or(Value::Text(item.source.as_bytes()), Value::Json),
    };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    column.encode(value, &mut out, &mut notes)?;
    Ok(out)
}

/// Length and send form as Postgres's own input makes them; None where it refuses.
async fn ask(
    contract: &Contract,
    items: &[Item],
    connection: &mut PgConnection,
) -> Vec<Option<Vec<u8>>> {
    let function = format!(
        "CREATE OR REPLACE FUNCTION pg_temp.oracle(source text) RETURNS bytea LANGUAGE plpgsql AS \
         $oracle$ BEGIN RETURN substring(record_send(ROW(({})::{})) FROM 9); \
         EXCEPTION WHEN data_exception OR invalid_text_representation OR others THEN \
         RETURN NULL; END $oracle$",
        contract.oracle, contract.sql_type
    );
    run(connection, function).await;
    let texts: Vec<&str> = items.iter().map(|item| item.source.as_str()).collect();
    sqlx::query(
        "SELECT pg_temp.oracle(source) AS field \
         FROM unnest($1::text[]) WITH ORDINALITY AS item (source, place) ORDER BY place",
    )
    .bind(&texts)
    .fetch_all(connection)
    .await
    .expect("the oracle answers")
    .iter()
    .map(|row| row.get("field"))
    .collect()
}

/// Binary COPY of the fields beside their sources, then equality of the texts in the server.
async fn copy_and_compare(
    contract: &Contract,
    kept: &[(&Item, Vec<u8>)],
    connection: &mut PgConnection,
) -> Option<String> {
    let place = contract.name;
    run(
        connection,
        format!(
            "DROP TABLE IF EXISTS pg_temp.stored; \
             CREATE TEMP TABLE stored (source text, value {})",
            contract.sql_type
        ),
    )
    .await;
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (item, field) in kept {
        data.extend_from_slice(&2_i16.to_be_bytes());
        let length = i32::try_from(item.source.len()).expect("sources are short");
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(item.source.as_bytes());
        data.extend_from_slice(field);
    }
    data.extend_from_slice(&(-1_i16).to_be_bytes());
    let mut copy = connection
        .copy_in_raw("COPY pg_temp.stored FROM STDIN (FORMAT binary)")
        .await
        .expect("COPY starts");
    copy.send(data).await.expect("COPY takes the data");
    let rows = copy.finish().await.unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(usize::try_from(rows).expect("few rows"), kept.len(), "{place}");
    let question = format!(
        "SELECT source, value::text AS stored FROM pg_temp.stored \
         WHERE value::text IS DISTINCT FROM ({})::{}::text LIMIT 1",
        contract.oracle, contract.sql_type
    );
    let different = sqlx::query(sqlx::AssertSqlSafe(question))
        .fetch_optional(connection)
        .await
        .unwrap_or_else(|error| panic!("{place}: {error}"));
    different.map(|row| {
        let (source, stored): (String, String) = (row.get("source"), row.get("stored"));
        format!("{place}: {source:?} is stored as {stored:?}")
    })
}

/// A draw from a slice.
fn one_of<'a>(random: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from[random.random_range(0..from.len())]
}

#[tokio::test]
async fn casts_store_what_postgres_would() {
    let database = TestDatabase::create().await;
    every_cast_stores_what_postgres_would(&database.pool().await).await;
}
