//! The data the self-test works on: a pack, its target, and a source with a column of every type.

use std::path::Path;

use rusqlite::types::Value;

use crate::error::{Error, ErrorKind, Result};

/// Rows of each table.
pub(super) const ROWS: i64 = 16;

/// The row in which every value is NULL.
pub(super) const NULLS: i64 = 1;
/// The row with empty texts, bytes and arrays.
pub(super) const EMPTY: i64 = 2;
/// The row whose texts are `NULL`.
pub(super) const NULL_WORDS: i64 = 3;
/// The row of zeros and JSON nulls.
pub(super) const ZEROS: i64 = 4;
/// The row with composed letters and line ends of two characters.
pub(super) const UNICODE: i64 = 5;
/// An ordinary row.
pub(super) const PLAIN: i64 = 13;

/// What can be done to a column of some type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bool,
    Int,
    Float4,
    Float8,
    Numeric,
    NumericFixed,
    Text,
    Bytea,
    Uuid,
    Timestamptz,
    Timestamp,
    Date,
    Time,
    Interval,
    Json,
    Jsonb,
    Inet,
    Enum,
    Ltree,
    Other,
    Array,
}

/// A column of the table `everything`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) declared: &'static str,
    pub(super) family: Family,
}

const fn column(name: &'static str, declared: &'static str, family: Family) -> Column {
    Column { name, declared, family }
}

const COLUMNS: &[Column] = &[
    column("b", "boolean", Family::Bool),
    column("i2", "smallint", Family::Int),
    column("i4", "integer", Family::Int),
    column("i8", "bigint", Family::Int),
    column("j8", "bigint", Family::Int),
    column("f4", "real", Family::Float4),
    column("f8", "double precision", Family::Float8),
    column("num", "numeric", Family::Numeric),
    column("fixed", "numeric(20,4)", Family::NumericFixed),
    column("amount", "money_amount", Family::Numeric),
    column("t", "text", Family::Text),
    column("t2", "text", Family::Text),
    column("vc", "varchar(60)", Family::Text),
    column("label", "short_text", Family::Text),
    column("raw", "bytea", Family::Bytea),
    column("u", "uuid", Family::Uuid),
    column("tz", "timestamptz", Family::Timestamptz),
    column("ts", "timestamp", Family::Timestamp),
    column("d", "date", Family::Date),
    column("tm", "time", Family::Time),
    column("iv", "interval", Family::Interval),
    column("j", "json", Family::Json),
    column("jb", "jsonb", Family::Jsonb),
    column("net", "inet", Family::Inet),
    column("mood", "mood", Family::Enum),
    column("mac", "macaddr", Family::Other),
    column("a_bool", "boolean[]", Family::Array),
    column("a_i2", "smallint[]", Family::Array),
    column("a_i4", "integer[]", Family::Array),
    column("a_i8", "bigint[]", Family::Array),
    column("a_f4", "real[]", Family::Array),
    column("a_f8", "double precision[]", Family::Array),
    column("a_num", "numeric[]", Family::Array),
    column("a_text", "text[]", Family::Array),
    column("a_vc", "varchar(60)[]", Family::Array),
    column("a_raw", "bytea[]", Family::Array),
    column("a_uuid", "uuid[]", Family::Array),
    column("a_tz", "timestamptz[]", Family::Array),
    column("a_ts", "timestamp[]", Family::Array),
    column("a_date", "date[]", Family::Array),
    column("a_time", "time[]", Family::Array),
    column("a_iv", "interval[]", Family::Array),
    column("a_json", "json[]", Family::Array),
    column("a_jb", "jsonb[]", Family::Array),
    column("a_net", "inet[]", Family::Array),
];

const LTREE: Column = column("tree", "ltree", Family::Ltree);

/// The columns of `everything` beside its key.
pub(super) fn columns(has_ltree: bool) -> Vec<Column> {
    COLUMNS.iter().copied().chain(has_ltree.then_some(LTREE)).collect()
}

/// The tables, those that others refer to first.
pub(super) const TABLES: [&str; 5] = ["everything", "customers", "orders", "archive", "log"];

const PACK: &str = r#"
[pack]
name = "self_test"
version = 1
[defaults]
zone = "UTC"

[[stream]]
name = "everything"
source = { sqlite = "state.sqlite", table = "everything" }
target = "public.everything"
key = ["id"]
[stream.columns]
id = "id"
{columns}

[[stream]]
name = "customers"
source = { sqlite = "state.sqlite", table = "customers" }
target = "public.customers"
key = ["id"]

[[stream]]
name = "orders"
source = { sqlite = "state.sqlite", table = "orders" }
target = "public.orders"
key = ["order_no"]

[[stream]]
name = "archive"
source = { sqlite = "state.sqlite", table = "archive" }
target = "public.archive"
key = ["order_no"]

[[stream]]
name = "log"
source = { sqlite = "state.sqlite", table = "log" }
target = "public.log"
key = ["at", "line"]
[stream.columns]
at = "at"
line = "line"
size = { from = "size", on = { overflow = "null" } }
"#;

/// The text of `pack.toml`.
pub(super) fn pack_text(has_ltree: bool) -> String {
    let line = |column: Column| match column.name {
        "a_raw" => "a_raw = { from = \"a_raw\", cast = \"bytea_text\" }".to_owned(),
        name => format!("{name} = \"{name}\""),
    };
    let lines: Vec<String> = columns(has_ltree).into_iter().map(line).collect();
    PACK.replace("{columns}", &lines.join("\n"))
}

/// The target's tables.
pub(super) fn target_sql(has_ltree: bool) -> String {
    let columns: Vec<String> =
        columns(has_ltree).iter().map(|c| format!("{} {}", c.name, c.declared)).collect();
    format!(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE DOMAIN short_text AS text;
         CREATE DOMAIN money_amount AS numeric;
         CREATE TABLE everything (id bigint PRIMARY KEY, {});
         CREATE TABLE customers (id text PRIMARY KEY, name text, city text);
         CREATE TABLE orders (order_no bigint PRIMARY KEY, customer text REFERENCES customers,
             total numeric, note text);
         CREATE TABLE archive (order_no bigint PRIMARY KEY, customer text, total numeric,
             note text);
         CREATE TABLE log (at timestamptz, line text, size integer)",
        columns.join(", ")
    )
}

/// Keeps every table as it is now in the schema `pristine`.
pub(super) fn keep_sql() -> String {
    let mut text = "CREATE SCHEMA pristine;".to_owned();
    for table in TABLES {
        text.push_str(&format!("CREATE TABLE pristine.{table} AS TABLE public.{table};"));
    }
    text
}

/// Brings every table back to what was kept.
pub(super) fn restore_sql() -> String {
    let mut text = String::new();
    for table in TABLES.iter().rev() {
        text.push_str(&format!("DELETE FROM public.{table};"));
    }
    for table in TABLES {
        text.push_str(&format!("INSERT INTO public.{table} SELECT * FROM pristine.{table};"));
    }
    text
}

/// Writes the source.
pub(super) fn write_source(file: &Path, has_ltree: bool) -> Result<()> {
    fill(file, has_ltree).map_err(|error| {
        Error::new(ErrorKind::Io, "the self-test's source was not written").because(error)
    })
}

fn fill(file: &Path, has_ltree: bool) -> rusqlite::Result<()> {
    let columns = columns(has_ltree);
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let mut connection = rusqlite::Connection::open(file)?;
    let tx = connection.transaction()?;
    tx.execute_batch(&format!(
        "CREATE TABLE everything (id INTEGER PRIMARY KEY, {});
         CREATE TABLE customers (id TEXT PRIMARY KEY, name TEXT, city TEXT);
         CREATE TABLE orders (order_no INTEGER PRIMARY KEY, customer TEXT, total TEXT, note TEXT);
         CREATE TABLE archive (order_no INTEGER PRIMARY KEY, customer TEXT, total TEXT, note TEXT);
         CREATE TABLE log (at TEXT, line TEXT, size)",
        names.join(", ")
    ))?;
    let marks = vec!["?"; columns.len() + 1].join(", ");
    let mut everything = tx.prepare(&format!("INSERT INTO everything VALUES ({marks})"))?;
    for row in 1..=ROWS {
        let values = columns.iter().map(|column| value(column, row));
        everything.execute(rusqlite::params_from_iter(
            std::iter::once(Value::Integer(row)).chain(values),
        ))?;
    }
    drop(everything);
    for row in 1..=ROWS {
        let order = (row, format!("c{}", row % 7 + 1), format!("{row}.50"), format!("note {row}"));
        tx.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", order)?;
        let old = (row + 1000, format!("c{row}"), format!("{row}.75"), format!("old {row}"));
        tx.execute("INSERT INTO archive VALUES (?, ?, ?, ?)", old)?;
        let customer = (format!("c{row}"), format!("name {row}"), format!("city {row}"));
        tx.execute("INSERT INTO customers VALUES (?, ?, ?)", customer)?;
        let line = (format!("2026-07-01T12:00:{row:02}Z"), format!("line {row}"), row * 10);
        tx.execute("INSERT INTO log VALUES (?, ?, ?)", line)?;
    }
    // One record the target cannot hold, and one value it holds only changed.
    tx.execute_batch(
        "INSERT INTO log VALUES ('no moment at all', 'refused', 1),
                                ('2026-07-01T13:00:00Z', 'too much', 99999999999)",
    )?;
    tx.commit()
}

/// A column's value in a row.
fn value(column: &Column, row: i64) -> Value {
    use Family as F;
    if row == NULLS {
        return Value::Null;
    }
    let (day, minute) = (row % 28 + 1, row);
    let text = match column.family {
        F::Bool => return Value::Integer(row % 2),
        F::Int if row == ZEROS => return Value::Integer(0),
        F::Int => return Value::Integer(row * 3 + i64::from(column.name == "j8")),
        F::Float4 | F::Float8 if row == ZEROS => return Value::Real(0.0),
        F::Float4 => return Value::Real(row as f64 + 0.5),
        F::Float8 => return Value::Real(row as f64 + 0.1),
        F::Bytea if row == EMPTY => return Value::Blob(Vec::new()),
        F::Bytea => {
            let [.., last] = row.to_be_bytes();
            return Value::Blob(vec![last, 0, 0xff, last]);
        }
        F::Numeric | F::NumericFixed if row == ZEROS => "0".to_owned(),
        F::Numeric | F::NumericFixed => format!("{row}.25"),
        F::Text => text_value(column.name, row),
        F::Uuid => uuid_text(row),
        F::Timestamptz => format!("2026-07-{day:02}T12:{minute:02}:01.123456+00:00"),
        F::Timestamp => format!("2026-07-{day:02} 12:{minute:02}:01.5"),
        F::Date => format!("2026-07-{day:02}"),
        F::Time => format!("12:{minute:02}:01.25"),
        F::Interval => format!("{row} days 02:03:04.5"),
        F::Json | F::Jsonb => document(row),
        F::Inet => format!("192.0.2.{row}"),
        F::Enum => ["sad", "happy"][usize::from(row % 2 == 1)].to_owned(),
        F::Ltree => format!("top.n{row}"),
        F::Other => format!("08:00:2b:01:02:{row:02x}"),
        F::Array if row == EMPTY => "[]".to_owned(),
        F::Array => array(column.name, row),
    };
    Value::Text(text)
}

fn text_value(column: &str, row: i64) -> String {
    match row {
        EMPTY => String::new(),
        NULL_WORDS => "NULL".to_owned(),
        UNICODE => format!("caf\u{e9}\r\nin column {column}"),
        _ => format!("word {row} of column {column}"),
    }
}

fn uuid_text(row: i64) -> String {
    format!("6ba7b810-9dad-11d1-80b4-00c04fd4{row:04x}")
}

fn document(row: i64) -> String {
    match row {
        EMPTY => r#""""#.to_owned(),
        NULL_WORDS => r#""NULL""#.to_owned(),
        ZEROS => "null".to_owned(),
        _ => format!(r#"{{"n":{row},"s":"word {row}","a":[1,2]}}"#),
    }
}

fn array(column: &str, row: i64) -> String {
    let documents = match (column, row) {
        ("a_json" | "a_jb", NULL_WORDS) => r#"["NULL", null]"#,
        ("a_json" | "a_jb", ZEROS) => "[0, 1.0, [], {}]",
        ("a_json" | "a_jb", UNICODE) => "[\"caf\u{e9}\", {\"k\" : [ \"v  w\" ]}]",
        _ => "",
    };
    if !documents.is_empty() {
        return documents.to_owned();
    }
    let (one, two) = match column {
        "a_bool" => ((row % 2 == 0).to_string(), (row % 2 == 1).to_string()),
        "a_i2" | "a_i4" | "a_i8" => (row.to_string(), (row + 1000).to_string()),
        "a_f4" | "a_f8" => (format!("{row}.5"), "-0.25".to_owned()),
        "a_num" => (format!("{row}.5"), "12345678901234567890.25".to_owned()),
        "a_text" | "a_vc" => (format!("\"{row}, \\\"x\\\"\""), "\"NULL\"".to_owned()),
        "a_raw" => (format!("\"bytes {row}\""), "\"\"".to_owned()),
        "a_uuid" => (format!("\"{}\"", uuid_text(row)), format!("\"{}\"", uuid_text(row + 1))),
        "a_tz" => (format!("\"2026-07-01T12:{row:02}:00Z\""), "\"1999-12-31T23:59:59Z\"".into()),
        "a_ts" => (format!("\"2026-07-01 12:{row:02}:00\""), "\"1999-12-31 23:59:59\"".into()),
        "a_date" => (format!("\"2026-07-{:02}\"", row % 28 + 1), "\"1999-12-31\"".to_owned()),
        "a_time" => (format!("\"12:{row:02}:00\""), "\"00:00:01\"".to_owned()),
        "a_iv" => (format!("\"{row} days\""), "\"00:00:01\"".to_owned()),
        "a_json" | "a_jb" => (format!(r#"{{"n":{row}}}"#), "[1,2]".to_owned()),
        _ => (format!("\"192.0.2.{row}\""), "\"::1\"".to_owned()),
    };
    format!("[{one},{two}]")
}
