//! Every value that a Postgres column can hold goes back through its cast, with the server as the
//! source of values: what is written is read again as the very value.

use sqlx::Row as _;
use toolkit::canonical::copy_expression;
use toolkit::cast::{CastName, CastOptions, ColumnCast, EpochUnit, PgType, Stored, Value};
use toolkit::store::sql;

use crate::support::TestDatabase;

/// Values per contract.
const VALUES: u32 = 400;

struct Contract {
    ty: PgType,
    sql_type: &'static str,
    options: CastOptions,
    /// SQL over `n` (1..) and `random()`.
    values: &'static str,
    /// SQL condition on `v`: what no spelling of the source can hold.
    lost: &'static str,
}

fn with(
    ty: PgType,
    sql_type: &'static str,
    options: CastOptions,
    values: &'static str,
) -> Contract {
    Contract { ty, sql_type, options, values, lost: "false" }
}

fn plain(ty: PgType, sql_type: &'static str, values: &'static str) -> Contract {
    with(ty, sql_type, CastOptions::default(), values)
}

fn cast(name: CastName) -> CastOptions {
    CastOptions { cast: Some(name), ..CastOptions::default() }
}

fn unit(unit: EpochUnit) -> CastOptions {
    CastOptions { unit: Some(unit), ..CastOptions::default() }
}

fn zone(name: &str) -> CastOptions {
    CastOptions { zone: Some(name.to_owned()), ..CastOptions::default() }
}

const MOMENTS: &str = "CASE n WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' \
    WHEN 3 THEN '4714-11-24 00:00:00+00 BC' WHEN 4 THEN '294276-12-31 23:59:59.999999+00' \
    WHEN 5 THEN '2025-10-26 00:30:00+00' WHEN 6 THEN '2025-10-26 01:30:00+00' \
    WHEN 7 THEN '2025-03-30 01:00:00+00' WHEN 8 THEN '0001-01-01 00:00:00+00' \
    ELSE ('2000-01-01'::timestamptz + (random() - 0.5) * interval '80 years' \
    + (n % 3) * interval '1 microsecond')::text END";

const DOCUMENTS: &str = r#"CASE n % 9 WHEN 0 THEN '{}' WHEN 1 THEN 'null' WHEN 2 THEN '[1, 1.0, 1e3, -0]'
    WHEN 3 THEN '{"z": {"b": 1, "aa": 2}, "ä": "\n\"\\"}' WHEN 4 THEN '"text"' WHEN 5 THEN 'true'
    WHEN 6 THEN (random() * 1e9)::text WHEN 7 THEN '12345678901234567890.0123456789' ELSE '[[], [null]]' END"#;

const TEXTS: &str = "CASE n % 8 WHEN 0 THEN '' WHEN 1 THEN ' a ' WHEN 2 THEN E'a\\nb\\t' WHEN 3 THEN 'π' \
    WHEN 4 THEN '0123' WHEN 5 THEN 'NULL' WHEN 6 THEN repeat('x', 5000) ELSE md5(random()::text) END";

fn contracts() -> Vec<Contract> {
    let floats = "CASE n WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity' WHEN 4 THEN '-0' \
        WHEN 5 THEN '1e-45' WHEN 6 THEN '3.4028235e38' ELSE ((random() - 0.5) * 10 ^ (n % 30))::float4::text END";
    let doubles = "CASE n WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity' WHEN 4 THEN '-0' \
        WHEN 5 THEN '5e-324' WHEN 6 THEN '1.7976931348623157e308' ELSE ((random() - 0.5) * 10 ^ (n % 300))::text END";
    let numbers = "CASE n WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '0.00' WHEN 4 THEN '1e300' \
        WHEN 5 THEN '-1e-300' ELSE round((random() - 0.5)::numeric * 10::numeric ^ (n % 40), n % 20)::text END";
    let integers =
        "CASE n WHEN 1 THEN '0' WHEN 2 THEN '-1' ELSE floor((random() - 0.5) * 60000)::text END";
    let big = "CASE n WHEN 1 THEN '9223372036854775807' WHEN 2 THEN '-9223372036854775808' \
        ELSE floor((random() - 0.5) * 1e18)::int8::text END";
    let labels = PgType::Enum {
        name: "public.mood".to_owned(),
        labels: ["sad", "ok", "very happy"].map(str::to_owned).to_vec(),
    };
    let aliases = [("0", "sad"), ("1", "ok"), ("fine", "ok")];
    let aliases = aliases.map(|(alias, label)| (alias.to_owned(), label.to_owned()));
    let aliased = CastOptions { aliases: aliases.into_iter().collect(), ..CastOptions::default() };
    let moods = "(ARRAY['sad', 'ok', 'very happy'])[1 + n % 3]";
    let intervals = "(floor((random() - 0.5) * 50) || ' months ' || floor((random() - 0.5) * 90) || ' days ' \
        || (random() - 0.5) * 1e6 || ' seconds')::interval::text";
    let array = |element| PgType::Array(Box::new(element));
    vec![
        plain(PgType::Bool, "bool", "(n % 2 = 0)::text"),
        plain(PgType::Int2, "int2", integers),
        plain(PgType::Int4, "int4", integers),
        plain(PgType::Int8, "int8", big),
        plain(PgType::Float4, "float4", floats),
        plain(PgType::Float8, "float8", doubles),
        plain(PgType::Numeric(None), "numeric", numbers),
        plain(PgType::Numeric(Some((10, 2))), "numeric(10,2)", integers),
        plain(PgType::Text(None), "text", TEXTS),
        plain(PgType::Text(Some(9000)), "varchar(9000)", TEXTS),
        plain(PgType::Bytea, "bytea", "decode(md5(random()::text), 'hex')::text"),
        with(PgType::Bytea, "bytea", cast(CastName::ByteaHex), "decode(md5(n::text), 'hex')::text"),
        with(
            PgType::Bytea,
            "bytea",
            cast(CastName::ByteaText),
            "convert_to(md5(n::text), 'utf8')::text",
        ),
        plain(PgType::Uuid, "uuid", "gen_random_uuid()::text"),
        with(PgType::Uuid, "uuid", cast(CastName::UuidBytes), "gen_random_uuid()::text"),
        plain(PgType::Timestamptz, "timestamptz", MOMENTS),
        with(PgType::Timestamptz, "timestamptz", zone("Europe/Vienna"), MOMENTS),
        with(PgType::Timestamptz, "timestamptz", zone("+05:30"), MOMENTS),
        Contract {
            lost: "NOT isfinite(v) OR extract(epoch FROM v) BETWEEN 1e11 AND 4102444800e3",
            ..with(PgType::Timestamptz, "timestamptz", unit(EpochUnit::S), MOMENTS)
        },
        Contract {
            lost: "NOT isfinite(v) OR extract(epoch FROM v) * 1e3 BETWEEN 1e8 AND 4102444800 OR extract(epoch FROM v) * 1e3 BETWEEN 1e14 AND 4102444800e6",
            ..with(PgType::Timestamptz, "timestamptz", cast(CastName::EpochMs), MOMENTS)
        },
        Contract {
            lost: "NOT isfinite(v) OR extract(epoch FROM v) * 1e6 BETWEEN 1e8 AND 4102444800 OR extract(epoch FROM v) * 1e6 BETWEEN 1e11 AND 4102444800e3",
            ..with(PgType::Timestamptz, "timestamptz", cast(CastName::EpochUs), MOMENTS)
        },
        plain(PgType::Timestamp, "timestamp", MOMENTS),
        plain(PgType::Date, "date", MOMENTS),
        plain(PgType::Time, "time", "('00:00'::time + random() * interval '1 day')::text"),
        plain(PgType::Interval, "interval", intervals),
        with(
            PgType::Interval,
            "interval",
            cast(CastName::IntervalSeconds),
            "((random() - 0.5) * 1e6)::numeric || ' seconds'",
        ),
        plain(PgType::Json, "json", DOCUMENTS),
        plain(PgType::Jsonb, "jsonb", DOCUMENTS),
        plain(labels.clone(), "mood", moods),
        with(labels, "mood", aliased, moods),
        plain(PgType::Ltree, "ltree", "'a.b_' || n"),
        plain(
            PgType::Inet,
            "inet",
            "CASE n % 3 WHEN 0 THEN '192.0.2.1/' || n % 33 WHEN 1 THEN '::ffff:' || n ELSE '2001:db8::/64' END",
        ),
        plain(
            array(PgType::Text(None)),
            "text[]",
            r#"CASE n % 4 WHEN 0 THEN '{}' WHEN 1 THEN '{a,NULL,"NULL"}' ELSE '{"a\"b\\",π,""}' END"#,
        ),
        plain(array(PgType::Int8), "int8[]", "'{' || n || ',-9223372036854775808,NULL}'"),
        plain(array(PgType::Float8), "float8[]", "'{' || random() || ',NaN,-Infinity}'"),
        plain(array(PgType::Bool), "bool[]", "'{t,f,NULL}'"),
        plain(array(PgType::Numeric(None)), "numeric[]", "'{1.50,NaN,12345678901234567890.1}'"),
        plain(array(PgType::Jsonb), "jsonb[]", r#"'{"{\"a\": 1}","null"}'"#),
        plain(array(PgType::Uuid), "uuid[]", "'{' || gen_random_uuid() || '}'"),
    ]
}

#[tokio::test]
async fn every_value_of_a_column_goes_back_or_is_one_that_the_source_cannot_hold() {
    let database = TestDatabase::create().await;
    let postgres = toolkit::store::Postgres::connect(&database.settings()).await.unwrap();
    sqlx::raw_sql("CREATE EXTENSION ltree; CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy')")
        .execute(postgres.pool())
        .await
        .unwrap();
    for contract in contracts() {
        let column =
            ColumnCast::new("v", contract.ty.clone(), true, contract.options.clone(), None)
                .unwrap();
        let query = format!(
            "SELECT {}, ({}), v::text FROM (SELECT ({})::{} AS v FROM generate_series(1, {VALUES}) AS s (n)) q",
            copy_expression(&contract.ty, "v"),
            contract.lost,
            contract.values,
            contract.sql_type
        );
        for row in sqlx::query(sql(query)).fetch_all(postgres.pool()).await.unwrap() {
            let field = row.try_get_raw(0).unwrap();
            let (is_lost, shown): (bool, String) = (row.get(1), row.get(2));
            let what = format!("{} {:?} {shown}", contract.sql_type, contract.options.cast);
            let bytes = field.as_bytes().unwrap();
            let back = column.invert(Some(bytes), Value::Null);
            assert_eq!(back.is_err(), is_lost, "{what}: {back:?}");
            let Ok(back) = back else { continue };
            let (mut out, mut notes) = (Vec::new(), Vec::new());
            column.encode(back.value(), &mut out, &mut notes).unwrap();
            let mut wanted = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
            wanted.extend_from_slice(bytes);
            assert!(column.is_same(&out, &wanted), "{what}: {back:?}");
            assert!(notes.is_empty(), "{what}: {notes:?}");
            let spelled = column.spellings(Some(bytes), Value::Null);
            assert_eq!(spelled.first(), Some(&back), "{what}");
        }
        assert_eq!(column.invert(None, Value::Null), Ok(Stored::Null), "{}", contract.sql_type);
    }
    postgres.close().await.unwrap();
}

/// Casts `source` forward, and back in the likeness of `like`.
fn there_and_back(column: &ColumnCast, source: &Stored, like: &Stored) -> Stored {
    let mut out = Vec::new();
    column.encode(source.value(), &mut out, &mut Vec::new()).unwrap();
    let field = (out[..4] != [0xff; 4]).then(|| &out[4..]);
    column.invert(field, like.value()).unwrap()
}

fn text(text: &str) -> Stored {
    Stored::Text(text.as_bytes().to_vec())
}

#[test]
fn a_value_comes_back_byte_for_byte_in_the_likeness_of_its_column() {
    let column = |ty, options| ColumnCast::new("v", ty, true, options, None).unwrap();
    let none = CastOptions::default;
    for (ty, options, values) in [
        (
            PgType::Timestamptz,
            none(),
            vec!["2026-02-06T17:40:01.994514+00:00", "2026-02-06T17:40:01+00:00"],
        ),
        (PgType::Timestamptz, none(), vec!["2026-02-06T17:40:01.120Z", "2026-02-06T17:40:01.000Z"]),
        (
            PgType::Timestamptz,
            zone("UTC"),
            vec!["2026-02-06 17:40:01.994514", "2026-02-06 17:40:01.000000"],
        ),
        (PgType::Timestamptz, none(), vec!["2026-02-06 17:40:01+0200", "2026-07-06 17:40:01+0200"]),
        (
            PgType::Timestamptz,
            zone("Europe/Vienna"),
            vec!["2026-02-06 17:40:01", "2026-07-06 17:40:01"],
        ),
        (PgType::Timestamp, none(), vec!["2026-02-06T17:40:01", "2026-02-06T17:40:02.000001"]),
        (PgType::Date, none(), vec!["2026-02-06", "0044-03-15 BC"]),
        (PgType::Time, none(), vec!["17:40:01", "00:00:00.000001"]),
        (
            PgType::Uuid,
            none(),
            vec!["0b5e2f6cb0d34b0e8f3a8b7c6d5e4f3a", "ffffffffffffffffffffffffffffffff"],
        ),
        (
            PgType::Uuid,
            none(),
            vec!["0B5E2F6C-B0D3-4B0E-8F3A-8B7C6D5E4F3A", "FFFFFFFF-0000-4B0E-8F3A-8B7C6D5E4F3A"],
        ),
        (PgType::Bool, none(), vec!["True", "False"]),
        (PgType::Bool, none(), vec!["Y", "N"]),
        (PgType::Int8, none(), vec!["12", "-9"]),
        (PgType::Numeric(None), none(), vec!["1.5", "-2"]),
        (PgType::Text(None), none(), vec!["12", "", "NULL"]),
        (PgType::Json, none(), vec!["{ \"b\":1,\"a\": 2}", "null"]),
        (PgType::Bytea, cast(CastName::ByteaHex), vec!["0AFF", "FF0A"]),
    ] {
        let column = column(ty, options);
        for value in &values {
            for like in &values {
                let back = there_and_back(&column, &text(value), &text(like));
                assert_eq!(back, text(value), "{value} like {like} as {:?}", column.ty());
            }
        }
    }
    for (options, values) in [
        (unit(EpochUnit::S), vec![Stored::Integer(1_770_000_000), Stored::Integer(-1)]),
        (unit(EpochUnit::S), vec![Stored::Real(1_770_000_000.25)]),
        (cast(CastName::EpochMs), vec![Stored::Integer(1_770_000_000_123)]),
    ] {
        let column = column(PgType::Timestamptz, options);
        for value in &values {
            assert_eq!(there_and_back(&column, value, value), *value);
            assert_eq!(there_and_back(&column, value, &Stored::Null), *value);
        }
    }
}

#[test]
fn a_value_that_would_be_read_as_another_has_no_spelling() {
    let refuses = |ty, options, field: Option<&[u8]>| {
        let column = ColumnCast::new("v", ty, true, options, None).unwrap();
        column.invert(field, Value::Null).unwrap_err().reason
    };
    let default = CastOptions { default: Some("x".to_owned()), ..CastOptions::default() };
    let empty =
        CastOptions { empty: Some(toolkit::cast::EmptyText::Null), ..CastOptions::default() };
    assert_eq!(refuses(PgType::Text(None), default, None), "no_spelling");
    assert_eq!(refuses(PgType::Text(None), empty, Some(b"")), "no_spelling");
    let epoch = cast(CastName::EpochS);
    assert_eq!(refuses(PgType::Timestamptz, epoch, Some(&i64::MAX.to_be_bytes())), "no_spelling");
}
