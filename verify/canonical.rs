//! Canonical rows are the same in both languages: the digest of a tuple that Rust encodes, the
//! digest SQL computes of the stored row, and the digest of the tuple COPY OUT hands back.
//! `TOOLKIT_TEST_SEED` replays a failure, `TOOLKIT_TEST_ROWS` runs more rows.

use futures_util::TryStreamExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, Row as _};
use toolkit::canonical::{
    Digest, Layout, TupleReader, copy_expression, display_field, fields_of, select_expression,
};
use toolkit::cast::{CastOptions, ColumnCast, PgType, Value};
use toolkit::store::catalog::{Table, column_list};
use toolkit::store::{Postgres, quote_ident, sql};

use crate::support::TestDatabase;

#[path = "canonical/values.rs"]
mod values;

use values::{Given, Make};

const SEED_DEFAULT: u64 = 20_260_301;
const ROWS_DEFAULT: usize = 400;

/// Columns of the probe: name, declared type, values.
const COLUMNS: &[(&str, &str, Make)] = &[
    ("bool", "bool", values::boolean),
    ("int2", "int2", values::int2),
    ("int4", "int4", values::int4),
    ("int8", "int8", values::int8),
    ("float4", "float4", values::float4),
    ("float8", "float8", values::float8),
    ("numeric", "numeric", values::numeric),
    ("numeric_12_3", "numeric(12,3)", values::small_numeric),
    ("text", "text", values::text),
    ("varchar", "varchar(9)", values::short_text),
    ("varchar_free", "varchar", values::text),
    ("bytea", "bytea", values::blob),
    ("uuid", "uuid", values::uuid),
    ("timestamptz", "timestamptz", values::timestamptz),
    ("timestamp", "timestamp", values::timestamp),
    ("date", "date", values::date),
    ("time", "time", values::time),
    ("interval", "interval", values::interval),
    ("json", "json", values::document),
    ("jsonb", "jsonb", values::document),
    ("mood", "mood", values::mood),
    ("inet", "inet", values::inet),
    ("text_array", "text[]", values::text_array),
    ("varchar_array", "varchar(9)[]", values::short_text_array),
    ("varchar_free_array", "varchar[]", values::text_array),
    ("int8_array", "int8[]", values::int8_array),
    ("int2_array", "int2[]", values::int2_array),
    ("int4_array", "int4[]", values::int4_array),
    ("bool_array", "bool[]", values::bool_array),
    ("float4_array", "float4[]", values::float4_array),
    ("float8_array", "float8[]", values::float8_array),
    ("numeric_array", "numeric[]", values::numeric_array),
    ("numeric_array_8_2", "numeric(8,2)[]", values::small_numeric_array),
    ("uuid_array", "uuid[]", values::uuid_array),
    ("timestamptz_array", "timestamptz[]", values::timestamptz_array),
    ("timestamp_array", "timestamp[]", values::timestamp_array),
    ("date_array", "date[]", values::date_array),
    ("time_array", "time[]", values::time_array),
    ("interval_array", "interval[]", values::interval_array),
    ("inet_array", "inet[]", values::inet_array),
    ("jsonb_array", "jsonb[]", values::jsonb_array),
    ("domain_numeric", "d_numeric", values::small_numeric),
    ("domain_text", "d_text", values::text),
    ("domain_varchar", "d_varchar", values::short_text),
    ("domain_int4", "d_int4", values::int4),
    ("domain_twice", "d_twice", values::int4),
    ("domain_float8", "d_float8", values::float8),
    ("domain_timestamptz", "d_timestamptz", values::timestamptz),
    ("domain_jsonb", "d_jsonb", values::document),
    ("domain_json", "d_json", values::document),
    ("domain_uuid", "d_uuid", values::uuid),
    ("domain_bytea", "d_bytea", values::blob),
    ("domain_interval", "d_interval", values::interval),
    ("domain_text_array", "d_text_array", values::text_array),
    ("domain_mood", "d_mood", values::mood),
    ("macaddr", "macaddr", values::macaddr),
    ("bpchar", "char(4)", values::four_letters),
    ("bits", "bit(4)", values::four_bits),
    ("ltree", "ltree", values::ltree),
];

const TYPES: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN d_numeric AS numeric(12,3);
CREATE DOMAIN d_text AS text;
CREATE DOMAIN d_varchar AS varchar(9);
CREATE DOMAIN d_int4 AS int4 CHECK (VALUE IS NULL OR VALUE > -3000000000);
CREATE DOMAIN d_twice AS d_int4;
CREATE DOMAIN d_float8 AS float8;
CREATE DOMAIN d_timestamptz AS timestamptz;
CREATE DOMAIN d_jsonb AS jsonb;
CREATE DOMAIN d_json AS json;
CREATE DOMAIN d_uuid AS uuid;
CREATE DOMAIN d_bytea AS bytea;
CREATE DOMAIN d_interval AS interval;
CREATE DOMAIN d_text_array AS text[];
CREATE DOMAIN d_mood AS mood;
";

struct Probe {
    table: Table,
    casts: Vec<ColumnCast>,
    makes: Vec<Make>,
    layout: Layout,
}

async fn probe(conn: &mut PgConnection) -> Probe {
    conn.execute(TYPES).await.expect("types");
    let has_ltree = conn.execute("CREATE EXTENSION ltree").await.is_ok();
    if !has_ltree {
        println!("SKIPPED: ltree, this server does not have the extension");
    }
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(name, ..)| has_ltree || *name != "ltree").collect();
    let list: Vec<String> =
        columns.iter().map(|(name, ty, _)| format!("{} {ty}", quote_ident(name))).collect();
    let create = format!("CREATE TABLE probe (id int4 PRIMARY KEY, {})", list.join(", "));
    conn.execute(sql(create)).await.expect("table");
    let table = Table::read(conn, "public", "probe").await.unwrap().unwrap();
    let casts: Vec<ColumnCast> = table
        .columns
        .iter()
        .map(|column| {
            let zone = (column.ty == PgType::Timestamptz).then(|| "UTC".to_owned());
            let options = CastOptions { zone, ..CastOptions::default() };
            ColumnCast::new(&column.name, column.ty.clone(), true, options, None).unwrap()
        })
        .collect();
    let types: Vec<PgType> = table.columns.iter().map(|column| column.ty.clone()).collect();
    let makes = columns.iter().map(|(_, _, make)| *make).collect();
    Probe { layout: Layout::new(&types, vec![0]), table, casts, makes }
}

impl Probe {
    /// One encoded tuple, and how many of its values a cast refused.
    fn tuple(&self, id: usize, random: &mut ChaCha8Rng, refused: &mut [usize]) -> Vec<u8> {
        let mut tuple = Vec::new();
        let key = i64::try_from(id).unwrap();
        self.casts[0].encode(Value::Integer(key), &mut tuple, &mut Vec::new()).unwrap();
        for (at, make) in self.makes.iter().enumerate() {
            let given = make(random);
            let value = match &given {
                Given::Null => Value::Null,
                Given::Integer(n) => Value::Integer(*n),
                Given::Real(x) => Value::Real(*x),
                Given::Text(text) => Value::Text(text.as_bytes()),
                Given::Blob(bytes) => Value::Blob(bytes),
            };
            let encoded = self.casts[at + 1].encode(value, &mut tuple, &mut Vec::new());
            if encoded.is_err() {
                refused[at + 1] += 1;
                tuple.extend_from_slice(&(-1_i32).to_be_bytes());
            }
        }
        tuple
    }

    fn expressions(&self, expression: fn(&PgType, &str) -> String) -> Vec<String> {
        let columns = self.table.columns.iter();
        columns.map(|column| expression(&column.ty, &quote_ident(&column.name))).collect()
    }

    fn column_digests(&self, tuple: &[u8]) -> Vec<Digest> {
        (0..self.casts.len()).map(|at| self.layout.digest_of(tuple, std::iter::once(at))).collect()
    }
}

/// Stores the tuples the way a backfill does: types known only as text are cast by SQL.
async fn store(conn: &mut PgConnection, probe: &Probe, tuples: &[Vec<u8>]) {
    let stage: Vec<String> = probe
        .table
        .columns
        .iter()
        .map(|column| {
            let ty = match &column.ty {
                PgType::Other(_) => "text",
                _ => column.declared_type.as_str(),
            };
            format!("{} {ty}", quote_ident(&column.name))
        })
        .collect();
    conn.execute(sql(format!("CREATE TEMP TABLE stage ({})", stage.join(", ")))).await.unwrap();
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for tuple in tuples {
        data.extend_from_slice(&i16::try_from(probe.casts.len()).unwrap().to_be_bytes());
        data.extend_from_slice(tuple);
    }
    data.extend_from_slice(&(-1_i16).to_be_bytes());
    let mut copy = conn.copy_in_raw("COPY stage FROM STDIN (FORMAT binary)").await.unwrap();
    copy.send(data).await.unwrap();
    copy.finish().await.unwrap();
    let values: Vec<String> = probe
        .table
        .columns
        .iter()
        .map(|column| match &column.ty {
            PgType::Other(ty) => format!("{}::{ty}", quote_ident(&column.name)),
            _ => quote_ident(&column.name),
        })
        .collect();
    let names = column_list(probe.table.columns.iter().map(|column| column.name.as_str()));
    let insert = format!("INSERT INTO probe ({names}) SELECT {} FROM stage", values.join(", "));
    conn.execute(sql(insert)).await.unwrap();
}

/// Per row: the digest of each column and of the whole, as SQL computes them.
async fn ask_sql(conn: &mut PgConnection, probe: &Probe) -> Vec<(Vec<Digest>, Digest)> {
    let expressions = probe.expressions(select_expression);
    let each: Vec<String> =
        expressions.iter().map(|e| format!("sha256(record_send(ROW({e})))")).collect();
    let question = format!(
        "SELECT ARRAY[{}] AS columns, sha256(record_send(ROW({}))) AS row FROM probe ORDER BY id",
        each.join(", "),
        expressions.join(", ")
    );
    let digest = |bytes: Vec<u8>| -> Digest { bytes.try_into().unwrap() };
    conn.fetch_all(sql(question))
        .await
        .unwrap()
        .iter()
        .map(|row| {
            let columns: Vec<Vec<u8>> = row.get("columns");
            (columns.into_iter().map(digest).collect(), digest(row.get("row")))
        })
        .collect()
}

async fn copied_out(conn: &mut PgConnection, probe: &Probe) -> Vec<Vec<u8>> {
    let statement = format!(
        "COPY (SELECT {} FROM probe ORDER BY id) TO STDOUT (FORMAT binary)",
        probe.expressions(copy_expression).join(", ")
    );
    let mut stream = conn.copy_out_raw(&statement).await.unwrap();
    let mut reader = TupleReader::default();
    let mut tuples = Vec::new();
    while let Some(piece) = stream.try_next().await.unwrap() {
        reader.push(&piece);
        while let Some(tuple) = reader.next_tuple().unwrap() {
            tuples.push(tuple.to_vec());
        }
    }
    assert!(reader.is_complete());
    tuples
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test]
async fn every_type_has_one_digest_whether_rust_sql_or_copy_out_computes_it() {
    let seed = number("TOOLKIT_TEST_SEED").unwrap_or(SEED_DEFAULT);
    let rows = number("TOOLKIT_TEST_ROWS")
        .map_or(ROWS_DEFAULT, |rows| usize::try_from(rows).expect("a small number"));
    println!("TOOLKIT_TEST_SEED={seed} TOOLKIT_TEST_ROWS={rows}");
    let database = TestDatabase::create().await;
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let mut conn = postgres.dedicated().await.unwrap();
    let probe = probe(&mut conn).await;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = vec![0; probe.casts.len()];
    let tuples: Vec<Vec<u8>> =
        (0..rows).map(|id| probe.tuple(id, &mut random, &mut refused)).collect();
    store(&mut conn, &probe, &tuples).await;

    let by_sql = ask_sql(&mut conn, &probe).await;
    let by_copy = copied_out(&mut conn, &probe).await;
    assert_eq!((by_sql.len(), by_copy.len()), (rows, rows));
    let mut faults = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (id, tuple) in tuples.iter().enumerate() {
        let (ours, theirs) = (probe.column_digests(tuple), probe.column_digests(&by_copy[id]));
        for (at, column) in probe.table.columns.iter().enumerate() {
            let sides = [("SQL", by_sql[id].0[at]), ("COPY OUT", theirs[at])];
            for (side, digest) in sides.iter().filter(|(_, digest)| *digest != ours[at]) {
                let shown = |tuple: &[u8]| {
                    fields_of(tuple)[at].clone().map(|range| hex::encode(&tuple[range]))
                };
                faults.entry(format!("{} by {side}", column.name)).or_default().push(format!(
                    "row {id}: encoded {:?}, copied out {:?} ({})",
                    shown(tuple),
                    shown(&by_copy[id]),
                    hex::encode(&digest[..4])
                ));
            }
        }
        if faults.is_empty() {
            assert_eq!(probe.layout.row_digest(tuple), by_sql[id].1, "seed {seed}, row {id}");
            assert_eq!(probe.layout.row_digest(&by_copy[id]), by_sql[id].1, "seed {seed}");
        }
    }
    for examples in faults.values_mut() {
        examples.truncate(2);
    }
    assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    for (column, refused) in probe.table.columns.iter().zip(refused) {
        assert!(refused * 2 <= rows, "{}: {refused} of {rows} refused", column.name);
    }
}

/// Keys are shown as text, and repair finds rows by that text.
#[tokio::test]
async fn what_is_shown_of_a_value_is_read_back_by_postgres_as_that_value() {
    let seed = number("TOOLKIT_TEST_SEED").unwrap_or(SEED_DEFAULT);
    println!("TOOLKIT_TEST_SEED={seed}");
    let database = TestDatabase::create().await;
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let mut conn = postgres.dedicated().await.unwrap();
    let probe = probe(&mut conn).await;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = vec![0; probe.casts.len()];
    let tuples: Vec<Vec<u8>> =
        (0..ROWS_DEFAULT).map(|id| probe.tuple(id, &mut random, &mut refused)).collect();
    for (at, column) in probe.table.columns.iter().enumerate() {
        let shown: Vec<Option<String>> = tuples
            .iter()
            .map(|tuple| {
                let field = fields_of(tuple)[at].clone();
                field.map(|range| display_field(&column.ty, &tuple[range]))
            })
            .collect();
        let question = format!(
            "SELECT sha256(record_send(ROW({}))) FROM unnest($1::text[]) \
             WITH ORDINALITY AS u (t, n) ORDER BY n",
            select_expression(&column.ty, &format!("(t::{})", column.declared_type))
        );
        let read: Vec<Vec<u8>> = sqlx::query_scalar(sql(question))
            .bind(&shown)
            .fetch_all(&mut conn)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", column.name));
        for (row, tuple) in tuples.iter().enumerate() {
            let ours = probe.layout.digest_of(tuple, std::iter::once(at));
            assert!(read[row] == ours, "seed {seed}: {} is shown as {:?}", column.name, shown[row]);
        }
    }
}

#[tokio::test]
async fn scale_is_no_difference_and_the_sign_of_zero_is_one() {
    let database = TestDatabase::create().await;
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let mut conn = postgres.dedicated().await.unwrap();
    let same = |ty: &PgType, left: &str, right: &str| {
        format!(
            "SELECT sha256(record_send(ROW({}))) = sha256(record_send(ROW({})))",
            select_expression(ty, left),
            select_expression(ty, right)
        )
    };
    let numeric = PgType::Numeric(None);
    for (ty, left, right, expected) in [
        (&numeric, "1.50::numeric", "1.5::numeric", true),
        (&numeric, "0.000::numeric", "-0.0::numeric", true),
        (&numeric, "100::numeric", "1e2::numeric", true),
        (&numeric, "1.5::numeric", "1.51::numeric", false),
        (&PgType::Float8, "'-0'::float8", "'0'::float8", false),
        (&PgType::Float8, "'NaN'::float8", "-('NaN'::float8)", true),
        (&PgType::Jsonb, r#"'{"a":1,"b":2}'::jsonb"#, r#"'{"b":2, "a":1}'::jsonb"#, true),
        (&PgType::Jsonb, "'1'::jsonb", "'1.0'::jsonb", false),
        (&PgType::Json, r#"'{"a":1}'::json"#, r#"'{"a": 1}'::json"#, false),
    ] {
        let row = conn.fetch_one(sql(same(ty, left, right))).await.unwrap();
        assert_eq!(row.get::<bool, _>(0), expected, "{left} against {right}");
    }
}
