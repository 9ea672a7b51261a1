//! Values of every type.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use toolkit::export::{DataFormat, ExportOptions, ImportOptions, export, import, open};
use toolkit::interrupt::Stop;
use toolkit::migrate::{MigrationSet, Options, apply, from_directory, plan};
use toolkit::pack::Pack;
use toolkit::store::{Postgres, quote_literal};

use super::{assert_same, execute, own_pack, text};
use crate::support::TestDatabase;

/// Column, type, and texts that are hard on somebody.
pub(super) const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("flag", "boolean", &["t", "f"]),
    ("small", "smallint", &["-32768", "0", "32767"]),
    ("int", "integer", &["-2147483648", "7"]),
    ("big", "bigint", &["-9223372036854775808", "9223372036854775807"]),
    (
        "exact",
        "numeric",
        &["NaN", "0", "1", "1.0", "1.00", "-0.000", "1e-40", "12345678901234567890.5"],
    ),
    ("money2", "numeric(12,2)", &["0.00", "-9999999999.99"]),
    (
        "single",
        "real",
        &["-0", "0", "Infinity", "-Infinity", "NaN", "1.1754944e-38", "3.4028235e38"],
    ),
    (
        "double",
        "double precision",
        &["-0", "0", "Infinity", "NaN", "5e-324", "0.1", "1.7976931348623157e308"],
    ),
    (
        "words",
        "text",
        &[
            "",
            "null",
            "NULL",
            "\\N",
            "\\.",
            "a\tb\nc\r\nd",
            "\"q\",'",
            "é e\u{301} 🦀\u{2028}",
            " x ",
            "\n\\.\n",
            "\u{1}\u{7f}\\\\",
        ],
    ),
    ("short", "varchar(20)", &["", "\u{feff}x", "{\"a\":1}"]),
    ("padded", "char(6)", &["", "ab", "a  b"]),
    ("bytes", "bytea", &["", "\\x", "\\x00ff0a5c22"]),
    (
        "uid",
        "uuid",
        &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    ),
    (
        "at",
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00+00 BC",
            "2024-02-29 23:59:59.999999+00",
            "294276-12-31 23:59:59.999999+00",
        ],
    ),
    ("local_at", "timestamp", &["infinity", "0044-03-15 12:00:00 BC", "1999-12-31 23:59:60"]),
    ("day", "date", &["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"]),
    ("clock", "time", &["00:00:00", "24:00:00", "12:34:56.789012"]),
    (
        "span",
        "interval",
        &["0", "1 year -2 mons 3 days -04:05:06.000007", "-178000000 years", "30 days", "1 mon"],
    ),
    ("doc", "json", &["null", "\"\"", "{\"b\" : 1, \"b\": 2,\n \"a\":[1.0,1e400]}"]),
    (
        "docb",
        "jsonb",
        &[
            "null",
            "\"null\"",
            "{}",
            "[1, 1.0, 1.00, -0, 1e30]",
            "{\"a\": \"\\\\ \\u00e9 \\n\", \"\": null}",
        ],
    ),
    ("ints", "integer[]", &["{}", "{NULL,1}", "[2:3]={4,5}", "{{1,2},{3,4}}"]),
    ("texts", "text[]", &["{}", "{NULL,\"NULL\",\"\",\"a,b\",\"q\\\"\\\\ \n\"}"]),
    ("numbers", "numeric[]", &["{1.0,1.00,NaN}"]),
    ("mood", "own.mood", &["sad", "it's, \"so\" so", ""]),
    ("path", "ltree", &["", "a.b_c.D"]),
    ("net", "inet", &["192.0.2.1", "192.0.2.0/24", "2001:db8::/32"]),
    ("bits", "bit varying(9)", &["", "101"]),
    ("range", "int4range", &["empty", "[1,5)", "(,)"]),
    ("point_at", "point", &["(1.5,-0)"]),
    ("name with \"q\", é", "own.code", &["A1"]),
];

pub(super) fn migration() -> String {
    let mut columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, ty, _)| format!("\"{}\" {ty}", name.replace('"', "\"\"")))
        .collect();
    columns.insert(0, "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY".to_owned());
    columns.insert(3, "twice bigint GENERATED ALWAYS AS (small * 2) STORED".to_owned());
    format!(
        "CREATE EXTENSION IF NOT EXISTS ltree;\nCREATE SCHEMA own;\n\
         CREATE TYPE own.mood AS ENUM ('sad', 'it''s, \"so\" so', '');\n\
         CREATE DOMAIN own.code AS text CHECK (value <> '');\n\
         CREATE TABLE own.all_types ({});\n\
         CREATE TABLE own.keyless (a text, b numeric, c double precision);\n\
         CREATE TABLE own.by_text (k text COLLATE \"en-x-icu\", v int, PRIMARY KEY (k));",
        columns.join(",\n")
    )
}

/// A row as positions into each column's texts; past their end is NULL, and free text now and then.
fn rows() -> impl Strategy<Value = Vec<(Vec<prop::sample::Index>, String)>> {
    let row = (prop::collection::vec(any::<prop::sample::Index>(), COLUMNS.len()), "\\PC{0,9}");
    prop::collection::vec(row, 1..14)
}

fn inserts(rows: &[(Vec<prop::sample::Index>, String)]) -> String {
    let mut statements = String::new();
    for (number, (picks, free)) in rows.iter().enumerate() {
        let mut values = vec![(number * 3 + 1).to_string()];
        for ((name, ty, texts), pick) in COLUMNS.iter().zip(picks) {
            let at = pick.index(texts.len() + 1);
            values.push(match texts.get(at) {
                None if *name == "words" => quote_literal(free).unwrap(),
                None => "NULL".to_owned(),
                Some(text) => format!("{}::{ty}", quote_literal(text).unwrap()),
            });
        }
        let names: Vec<String> = COLUMNS
            .iter()
            .map(|(name, _, _)| format!("\"{}\"", name.replace('"', "\"\"")))
            .collect();
        let free = quote_literal(free).unwrap();
        statements.push_str(&format!(
            "INSERT INTO own.all_types (id, {}) OVERRIDING SYSTEM VALUE VALUES ({});\n\
             INSERT INTO own.keyless VALUES ({free}, {n} % 3 + 0.00, '-0'), ({free}, {n} % 3, 0), \
             (NULL, NULL, NULL), ('', 1.0, 'NaN');\n\
             INSERT INTO own.by_text VALUES ({free}, {n}) ON CONFLICT DO NOTHING;\n",
            names.join(", "),
            values.join(", "),
            n = number
        ));
    }
    statements
}

async fn migrated(database: &TestDatabase, set: &MigrationSet) -> Postgres {
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let mut conn = postgres.dedicated().await.unwrap();
    let plan = plan(&mut conn, std::slice::from_ref(set)).await.unwrap();
    apply(&mut conn, &plan, &Options::default()).await.unwrap();
    postgres
}

#[test]
fn every_value_of_every_type_comes_back_and_a_second_export_is_the_same_bytes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (there, here, pack, set) = runtime.block_on(async {
        let there = TestDatabase::create().await;
        let folder = own_pack(there.folder(), &migration(), &[("own.all_types", "id")]);
        let set = from_directory("own", &folder).unwrap();
        let pack = Pack::find(folder.to_str().unwrap()).unwrap();
        (there, TestDatabase::create().await, pack, set)
    });
    let postgres = runtime.block_on(migrated(&there, &set));
    let other = runtime.block_on(Postgres::connect(&here.settings())).unwrap();
    let config = Config { cases: 6, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let exports = Cell::new(0);
    let empty = "TRUNCATE own.all_types, own.keyless, own.by_text RESTART IDENTITY";
    let result = TestRunner::new_with_rng(config, rng).run(&rows(), |rows| {
        runtime.block_on(async {
            execute(&there, &format!("{empty};\n{}", inserts(&rows))).await;
            for format in [DataFormat::Jsonl, DataFormat::Csv, DataFormat::Sqlite] {
                let number = exports.get() + 1;
                exports.set(number);
                let (first, second) = (
                    there.folder().join(format!("first{number}")),
                    there.folder().join(format!("second{number}")),
                );
                let options = |folder: &std::path::Path| ExportOptions {
                    folder: folder.to_owned(),
                    format,
                    overwrite: false,
                    sidecar: None,
                };
                let stop = Stop::new();
                let mut conn = postgres.dedicated().await.unwrap();
                export(&mut conn, &pack, Some(&set), &options(&first), &stop, &|_| ())
                    .await
                    .unwrap();
                if number > 1 {
                    execute(&here, empty).await;
                }
                let archive = open(&first, &stop).unwrap();
                let mut conn = other.dedicated().await.unwrap();
                let imported =
                    import(&mut conn, &archive, &ImportOptions::default(), &stop, &|_| ())
                        .await
                        .unwrap();
                assert!(imported.is_equal, "{imported:?}");
                export(&mut conn, &archive.pack, Some(&set), &options(&second), &stop, &|_| ())
                    .await
                    .unwrap();
                assert_same(&first, &second);
                let generated = "SELECT bool_and(twice IS NOT DISTINCT FROM small * 2)::text \
                                 FROM own.all_types";
                assert_eq!(text(&here, generated).await, "true");
            }
        });
        Ok(())
    });
    result.unwrap();
    // The identity gives out what no row has.
    let next = "INSERT INTO own.all_types (small) VALUES (1) RETURNING (id > \
                (SELECT max(id) FROM own.all_types))::text";
    assert_eq!(runtime.block_on(text(&here, next)), "true");
}
