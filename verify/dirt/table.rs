//! Kinds of dirt: what a SQLite file holds, and what becomes of it.

use super::Outcome::{self, Ledger, Reject, Stored};

/// A column of the wide table.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) ty: &'static str,
    /// Options of the column beside `from`, as in `pack.toml`.
    pub(super) options: &'static str,
    /// A value that is stored as it is, as SQL of SQLite.
    pub(super) good: &'static str,
    pub(super) cases: &'static [(&'static str, Outcome)],
}

const fn group(
    name: &'static str,
    ty: &'static str,
    options: &'static str,
    good: &'static str,
    cases: &'static [(&'static str, Outcome)],
) -> Group {
    Group { name, ty, options, good, cases }
}

/// The first sixty letters of `{"a": 1e400}` as jsonb prints it.
const GOOGOLS: &str = "{\"a\": 100000000000000000000000000000000000000000000000000000";

pub(super) const DDL: &str = "CREATE TYPE mood AS ENUM ('fine', 'great'); \
     CREATE DOMAIN mac AS macaddr; CREATE DOMAIN percent AS integer CHECK (VALUE <= 100);";

pub(super) const GROUPS: &[Group] = &[
    group(
        "i2",
        "smallint",
        "",
        "7",
        &[
            ("32767", Stored("32767")),
            ("32768", Reject("overflow")),
            ("'12'", Stored("12")),
            ("'012'", Reject("wrong_type")),
            ("' 12'", Reject("wrong_type")),
            ("12.0", Stored("12")),
            ("12.5", Reject("wrong_type")),
            ("'toto'", Reject("wrong_type")),
            ("''", Reject("wrong_type")),
            ("x'31'", Reject("wrong_type")),
            ("NULL", Stored("NULL")),
        ],
    ),
    group(
        "i4",
        "integer",
        "on = { overflow = \"replace\", nan = \"null\" }",
        "7",
        &[
            ("2147483648", Ledger("2147483647", "overflow")),
            ("-9223372036854775808", Ledger("-2147483648", "overflow")),
            ("9e999", Ledger("NULL", "nan")),
        ],
    ),
    group(
        "i8",
        "bigint",
        "on = { overflow = \"null\" }",
        "7",
        &[
            ("9223372036854775807", Stored("9223372036854775807")),
            ("'9223372036854775808'", Ledger("NULL", "overflow")),
            ("9.007199254740993e15", Ledger("NULL", "inexact")),
            ("'1e3'", Reject("wrong_type")),
        ],
    ),
    group("pct", "percent", "", "7", &[("101", Reject("check")), ("100", Stored("100"))]),
    group(
        "f8",
        "double precision",
        "",
        "1.5",
        &[
            ("'NaN'", Stored("NaN")),
            ("9e999", Stored("Infinity")),
            ("'-0'", Stored("-0")),
            ("'1e400'", Reject("overflow")),
            ("'1e-400'", Reject("overflow")),
            ("9007199254740993", Reject("inexact")),
            ("0.1", Stored("0.1")),
            ("'1,5'", Reject("wrong_type")),
        ],
    ),
    group(
        "f4",
        "real",
        "on = { overflow = \"replace\" }",
        "1.5",
        &[
            ("0.1", Ledger("0.1", "inexact")),
            ("1e39", Ledger("3.4028235e+38", "overflow")),
            ("'0.1'", Stored("0.1")),
        ],
    ),
    group(
        "num",
        "numeric(6,2)",
        "",
        "1.5",
        &[
            ("'1.50'", Stored("1.50")),
            ("'1.555'", Reject("scale")),
            ("10000", Reject("overflow")),
            ("'NaN'", Stored("NaN")),
            ("'1e400'", Reject("overflow")),
        ],
    ),
    group(
        "numr",
        "numeric(6,2)",
        "on = { overflow = \"replace\" }",
        "1.5",
        &[("'1.555'", Ledger("1.56", "scale")), ("1e9", Ledger("9999.99", "overflow"))],
    ),
    group(
        "flag",
        "boolean",
        "",
        "1",
        &[
            ("0", Stored("false")),
            ("'t'", Stored("true")),
            ("'FALSE'", Stored("false")),
            ("'on'", Stored("true")),
            ("2", Reject("wrong_type")),
            ("1.0", Reject("wrong_type")),
            ("'maybe'", Reject("wrong_type")),
        ],
    ),
    group(
        "uid",
        "uuid",
        "",
        "'6b6b6e6c-1b1b-4b1b-8b1b-1b1b1b1b1b1b'",
        &[
            ("'6B6B6E6C1B1B4B1B8B1B1B1B1B1B1B1B'", Stored("6b6b6e6c-1b1b-4b1b-8b1b-1b1b1b1b1b1b")),
            (
                "'{6b6b6e6c-1b1b-4b1b-8b1b-1b1b1b1b1b1b}'",
                Stored("6b6b6e6c-1b1b-4b1b-8b1b-1b1b1b1b1b1b"),
            ),
            (
                "'urn:uuid:6b6b6e6c-1b1b-4b1b-8b1b-1b1b1b1b1b1b'",
                Stored("6b6b6e6c-1b1b-4b1b-8b1b-1b1b1b1b1b1b"),
            ),
            ("'6b6b6e6c'", Reject("invalid_uuid")),
            ("x'6b6b6e6c1b1b4b1b8b1b1b1b1b1b1b1b'", Reject("invalid_uuid")),
        ],
    ),
    group(
        "tz",
        "timestamptz",
        "zone = \"Europe/Vienna\", unit = \"s\"",
        "'2025-07-01T09:30:00Z'",
        &[
            ("'2025-07-01T09:30:00.123456+02:00'", Stored("2025-07-01 07:30:00.123456+00")),
            ("'2025-07-01 09:30:00,5z'", Stored("2025-07-01 09:30:00.5+00")),
            ("'2025-07-01 09:30:00'", Stored("2025-07-01 07:30:00+00")),
            ("'2025-03-30 02:30:00'", Reject("invalid_timestamp")),
            ("'2025-10-26 02:30:00'", Reject("ambiguous_timestamp")),
            ("'2025-07-01'", Stored("2025-06-30 22:00:00+00")),
            ("'2016-12-31T23:59:60Z'", Stored("2017-01-01 00:00:00+00")),
            ("'2025-07-01T24:00:00Z'", Stored("2025-07-02 00:00:00+00")),
            ("'2025-07-01T24:00:01Z'", Reject("invalid_timestamp")),
            ("'2025-07-01T09:30:00.1234567Z'", Reject("precision")),
            ("'2025-02-30T00:00:00Z'", Reject("invalid_timestamp")),
            ("1751362200", Stored("2025-07-01 09:30:00+00")),
            ("1751362200.25", Stored("2025-07-01 09:30:00.25+00")),
            ("'1751362200'", Stored("2025-07-01 09:30:00+00")),
            ("1751362200000", Reject("mixed_units")),
            ("'1751362200000'", Reject("mixed_units")),
            ("1751362200000.5", Reject("mixed_units")),
            ("1751362200000000", Reject("mixed_units")),
            ("0", Stored("1970-01-01 00:00:00+00")),
            ("-86400", Stored("1969-12-31 00:00:00+00")),
            ("'yesterday'", Reject("invalid_timestamp")),
        ],
    ),
    group(
        "tzk",
        "timestamptz",
        "unit = \"ms\", on = { mixed_units = \"keep\", unreadable = \"null\" }",
        "1751362200000",
        &[
            ("1751362200", Stored("1970-01-21 06:29:22.2+00")),
            ("'1751362200123'", Stored("2025-07-01 09:30:00.123+00")),
            ("1751362200000.5", Stored("2025-07-01 09:30:00.0005+00")),
            ("'never'", Ledger("NULL", "invalid_timestamp")),
            ("'2025-07-01 09:30:00'", Ledger("NULL", "naive_timestamp")),
        ],
    ),
    group(
        "ts",
        "timestamp",
        "unit = \"us\"",
        "1751362200000000",
        &[
            ("1751362200123456", Stored("2025-07-01 09:30:00.123456")),
            ("1751362200", Reject("mixed_units")),
            ("'2025-07-01 09:30:00'", Stored("2025-07-01 09:30:00")),
            ("'2025-07-01 09:30:00Z'", Reject("invalid_timestamp")),
        ],
    ),
    group(
        "day",
        "date",
        "",
        "'2025-07-01'",
        &[
            ("'2025-07-01T00:00:00'", Stored("2025-07-01")),
            ("'2025-07-01T12:00:00'", Reject("precision")),
            ("'0000-00-00'", Reject("invalid_timestamp")),
            ("1751328000", Reject("wrong_type")),
        ],
    ),
    group(
        "dayn",
        "date",
        "unit = \"s\"",
        "1751328000",
        &[
            ("1751328001", Reject("precision")),
            ("1751328000000", Reject("mixed_units")),
            ("'2025-07-01'", Stored("2025-07-01")),
        ],
    ),
    group(
        "span",
        "interval",
        "cast = \"interval_seconds\"",
        "90",
        &[
            ("90.5", Stored("00:01:30.5")),
            ("'90'", Stored("00:01:30")),
            ("'soon'", Reject("invalid_interval")),
        ],
    ),
    group(
        "js",
        "jsonb",
        "",
        "'{\"a\": 1}'",
        &[
            (r#"'{"a": "\ud800"}'"#, Reject("invalid_utf8")),
            (r#"'{"a": "\u0000"}'"#, Reject("nul")),
            (r#"'{"a": NaN}'"#, Reject("nan")),
            (r#"'{"a": 1, "a": 2}'"#, Reject("json_duplicate_keys")),
            (r#"'{"a": 1e400}'"#, Stored(GOOGOLS)),
            ("'{'", Reject("invalid_json")),
            ("''", Reject("invalid_json")),
            ("x'7b7d'", Reject("wrong_type")),
            ("12", Stored("12")),
        ],
    ),
    group(
        "jsr",
        "jsonb",
        "on = { nul = \"replace\", nan = \"replace\", invalid_utf8 = \"replace\", \
         json_duplicate_keys = \"replace\" }",
        "'{}'",
        &[
            (r#"'{"a": "\ud800"}'"#, Ledger("{\"a\": \"\u{fffd}\"}", "invalid_utf8")),
            (r#"'{"a": "\u0000"}'"#, Ledger("{\"a\": \"\u{fffd}\"}", "nul")),
            (r#"'{"a": NaN}'"#, Ledger(r#"{"a": "NaN"}"#, "nan")),
            (r#"'{"a": 1, "a": 2}'"#, Ledger(r#"{"a": 2}"#, "json_duplicate_keys")),
        ],
    ),
    group(
        "jt",
        "json",
        "on = { nul = \"null\" }",
        "'{}'",
        &[
            (r#"'{"a":   1.0, "a": 2}'"#, Stored(r#"{"a":   1.0, "a": 2}"#)),
            (r#"'{"a": "\u0000"}'"#, Ledger(r#"{"a":null}"#, "nul")),
            (r#"'{"u": "x://u:pw@h"}'"#, Ledger(r#"{"u":"x://u:***@h"}"#, "redact_url_password")),
        ],
    ),
    group(
        "list",
        "integer[]",
        "",
        "'[1, 2]'",
        &[
            ("'[1, null]'", Stored("{1,NULL}")),
            ("'[1, \"x\"]'", Reject("wrong_type")),
            ("'1,2'", Reject("invalid_json")),
        ],
    ),
    group(
        "en",
        "mood",
        "aliases = { GREAT = \"great\" }",
        "'fine'",
        &[("'GREAT'", Stored("great")), ("'bad'", Reject("unknown_label"))],
    ),
    group(
        "raw",
        "bytea",
        "",
        "x'00ff'",
        &[("x''", Stored("\\x")), ("'text'", Reject("wrong_type"))],
    ),
    group(
        "txt",
        "text",
        "",
        "'a'",
        &[
            ("CAST(x'ff41' AS TEXT)", Reject("invalid_utf8")),
            ("'a' || char(0) || 'b'", Reject("nul")),
            ("'NULL'", Stored("NULL")),
            ("''", Stored("")),
            ("12", Ledger("12", "class_to_text")),
            ("1e300", Ledger("1e+300", "class_to_text")),
            ("'postgres://u:pw@h/db'", Ledger("postgres://u:***@h/db", "redact_url_password")),
        ],
    ),
    group(
        "short",
        "varchar(3)",
        "on = { nul = \"replace\", invalid_utf8 = \"replace\", too_long = \"replace\" }, \
         empty = \"null\"",
        "'abc'",
        &[
            ("CAST(x'ff41' AS TEXT)", Ledger("\u{fffd}A", "invalid_utf8")),
            ("'a' || char(0) || 'b'", Ledger("a\u{fffd}b", "nul")),
            ("'abcd'", Ledger("abc", "too_long")),
            ("''", Ledger("NULL", "empty_to_null")),
        ],
    ),
    group(
        "plain",
        "text",
        "redact = false",
        "'a'",
        &[("'postgres://u:pw@h/db'", Stored("postgres://u:pw@h/db"))],
    ),
    // Known only as text: the server says how a value is written.
    group(
        "mac",
        "macaddr",
        "",
        "'08:00:2b:01:02:03'",
        &[
            ("'08002B:010203'", Ledger("08:00:2b:01:02:03", "respelled")),
            ("'08-00-2b-01-02-03'", Ledger("08:00:2b:01:02:03", "respelled")),
            ("'nonsense'", Reject("invalid_literal")),
        ],
    ),
    group(
        "macd",
        "mac",
        "on = { unreadable = \"null\" }",
        "'08:00:2b:01:02:03'",
        &[
            ("'08002b010203'", Ledger("08:00:2b:01:02:03", "respelled")),
            ("'nonsense'", Ledger("NULL", "invalid_literal")),
        ],
    ),
    group(
        "net",
        "cidr",
        "",
        "'10.0.0.0/8'",
        &[
            ("'10.1'", Ledger("10.1.0.0/16", "respelled")),
            ("'10.0.0.1/8'", Reject("invalid_literal")),
        ],
    ),
    group(
        "host",
        "inet",
        "",
        "'10.0.0.1'",
        &[
            ("'10.0.0.1/8'", Stored("10.0.0.1/8")),
            ("'::FFFF:1.2.3.4'", Stored("::ffff:1.2.3.4/128")),
        ],
    ),
    group(
        "ran",
        "int4range",
        "",
        "'[1,5)'",
        &[("'[1,4]'", Ledger("[1,5)", "respelled")), ("'(5,1)'", Reject("invalid_literal"))],
    ),
    group(
        "trng",
        "tstzrange",
        "",
        "NULL",
        &[(
            "'[2025-07-01T09:30:00+02:00, 2025-07-02 00:00Z)'",
            Ledger(r#"["2025-07-01 07:30:00+00","2025-07-02 00:00:00+00")"#, "respelled"),
        )],
    ),
    group("cash", "money", "", "NULL", &[("'$1,234.567'", Ledger("$1,234.57", "respelled"))]),
    group(
        "bits",
        "bit(4)",
        "",
        "'0101'",
        &[
            ("'x5'", Ledger("0101", "respelled")),
            ("'010'", Reject("too_long")),
            ("'012'", Reject("invalid_literal")),
        ],
    ),
    group("vbit", "bit varying(4)", "", "'01'", &[("'01011'", Reject("too_long"))]),
    group(
        "doc",
        "xml",
        "",
        "'<a/>'",
        &[("'<a></a>'", Stored("<a></a>")), ("'<a>'", Reject("invalid_literal"))],
    ),
    group("words", "tsvector", "", "NULL", &[("'b a b'", Ledger("'a' 'b'", "respelled"))]),
    group(
        "fixed",
        "char(4)",
        "",
        "'ab'",
        &[("'ab  '", Ledger("ab", "respelled")), ("'abcde'", Reject("too_long"))],
    ),
    group(
        "moods",
        "mood[]",
        "",
        "'{fine}'",
        &[
            ("'{fine, great}'", Ledger("{fine,great}", "respelled")),
            ("'{bad}'", Reject("invalid_literal")),
        ],
    ),
];
