//! Drift in single values, for every column of every type.

use crate::parity::self_test::case::{Case, Finding};
use crate::parity::self_test::fixture::{
    Column, EMPTY, Family, NULL_WORDS, NULLS, PLAIN, UNICODE, ZEROS,
};

/// A class, the row it is planted in, and the value as an expression over `{c}`.
type Plant = (&'static str, i64, &'static str);

const TEXTS: &[Plant] = &[
    ("one bit flipped", PLAIN, "left({c}, -1) || chr(ascii(right({c}, 1)) # 1)"),
    ("trailing space", PLAIN, "{c} || ' '"),
    ("trailing space", PLAIN, "' ' || {c}"),
    ("upper and lower case", PLAIN, "upper({c})"),
    ("truncated", PLAIN, "left({c}, -1)"),
    ("truncated", PLAIN, "left({c}, 4)"),
    ("NULL, '', 'NULL', JSON null", NULLS, "''"),
    ("NULL, '', 'NULL', JSON null", NULLS, "'NULL'"),
    ("NULL, '', 'NULL', JSON null", NULLS, "'null'"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "NULL"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "'NULL'"),
    ("NULL, '', 'NULL', JSON null", NULL_WORDS, "NULL"),
    ("NULL, '', 'NULL', JSON null", NULL_WORDS, "''"),
    ("Unicode NFC and NFD", UNICODE, "normalize({c}, NFD)"),
    ("CRLF and LF", UNICODE, "replace({c}, E'\\r', '')"),
    ("CRLF and LF", UNICODE, "replace({c}, E'\\n', '')"),
];

const BYTES: &[Plant] = &[
    ("one bit flipped", PLAIN, "set_bit({c}, 0, 1 - get_bit({c}, 0))"),
    ("one bit flipped", PLAIN, "set_bit({c}, 31, 1 - get_bit({c}, 31))"),
    ("truncated", PLAIN, "substr({c}, 1, length({c}) - 1)"),
    ("trailing space", PLAIN, "{c} || '\\x20'"),
    ("NULL, '', 'NULL', JSON null", NULLS, "''"),
    ("NULL, '', 'NULL', JSON null", NULLS, "'NULL'"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "NULL"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "'\\x00'"),
];

/// Of json and jsonb; `{t}` is the type.
const DOCUMENTS: &[Plant] = &[
    ("one bit flipped", PLAIN, "replace({c}::text, 'word', 'vord')::{t}"),
    ("trailing space", PLAIN, "replace({c}::text, 'word 13', 'word 13 ')::{t}"),
    ("truncated", PLAIN, "replace({c}::text, 'word 13', 'word 1')::{t}"),
    ("json number 1 and 1.0", PLAIN, "regexp_replace({c}::text, '\\y13,', '13.0,')::{t}"),
    ("json number 1 and 1.0", PLAIN, "regexp_replace({c}::text, '\\y13,', '\"13\",')::{t}"),
    (
        "json member added or lost",
        PLAIN,
        "overlay({c}::text placing '{\"x\":1,' from 1 for 1)::{t}",
    ),
    ("json member added or lost", PLAIN, "'{\"n\":13,\"s\":\"word 13\"}'::{t}"),
    ("json member added or lost", PLAIN, "'{\"n\":13,\"s\":\"word 13\",\"A\":[1,2]}'::{t}"),
    ("array order", PLAIN, "'{\"n\":13,\"s\":\"word 13\",\"a\":[2,1]}'::{t}"),
    ("NULL, '', 'NULL', JSON null", NULLS, "'null'"),
    ("NULL, '', 'NULL', JSON null", NULLS, "'\"\"'"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "NULL"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "'null'"),
    ("NULL, '', 'NULL', JSON null", NULL_WORDS, "'null'"),
    ("NULL, '', 'NULL', JSON null", NULL_WORDS, "NULL"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "NULL"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "'\"\"'"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "'\"null\"'"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "'{}'"),
];

/// json keeps its own text, so that its spelling counts.
const JSON_TEXTS: &[Plant] = &[
    ("json text spelt otherwise", PLAIN, "({c}::text || ' ')::json"),
    ("json text spelt otherwise", PLAIN, "'{\"s\":\"word 13\",\"n\":13,\"a\":[1,2]}'::json"),
    ("json text spelt otherwise", PLAIN, "replace({c}::text, 'w', '\\u0077')::json"),
];

const MOMENTS: &[Plant] = &[
    ("moment off by 1 us", PLAIN, "{c} + interval '1 microsecond'"),
    ("moment off by 1 us", PLAIN, "{c} - interval '1 microsecond'"),
    ("moment off by 1 h", PLAIN, "{c} + interval '1 hour'"),
    ("moment off by 1 h", PLAIN, "{c} - interval '1 hour'"),
];

const ZONED: &[Plant] = &[
    ("zone dropped", PLAIN, "({c} AT TIME ZONE 'Europe/Vienna') AT TIME ZONE 'UTC'"),
    ("zone dropped", PLAIN, "({c} AT TIME ZONE 'UTC') AT TIME ZONE '+05:30'"),
    ("truncated", PLAIN, "date_trunc('second', {c})"),
    ("another value", PLAIN, "'infinity'"),
];

const INTEGERS: &[Plant] = &[
    ("integer off by 1", PLAIN, "{c} + 1"),
    ("integer off by 1", PLAIN, "{c} - 1"),
    ("one bit flipped", PLAIN, "{c} # 64"),
    ("another value", PLAIN, "-{c}"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "NULL"),
    ("NULL, '', 'NULL', JSON null", NULLS, "0"),
];

const NUMERICS: &[Plant] = &[
    ("last digit of a numeric", PLAIN, "{c} + 0.0001"),
    ("last digit of a numeric", PLAIN, "{c} - 0.0001"),
    ("another value", PLAIN, "-{c}"),
    ("another value", PLAIN, "{c} * 10"),
    ("another value", PLAIN, "'NaN'"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "NULL"),
    ("NULL, '', 'NULL', JSON null", NULLS, "0"),
];

const FLOATS: &[Plant] = &[
    ("-0 and 0", ZEROS, "'-0'"),
    ("another value", PLAIN, "'NaN'"),
    ("another value", PLAIN, "'Infinity'"),
    ("another value", PLAIN, "-{c}"),
    ("NULL, '', 'NULL', JSON null", ZEROS, "NULL"),
    ("NULL, '', 'NULL', JSON null", NULLS, "0"),
];

const ARRAYS: &[Plant] = &[
    ("array order", PLAIN, "ARRAY[{c}[2], {c}[1]]"),
    ("array elements", PLAIN, "{c}[1:1]"),
    ("array elements", PLAIN, "ARRAY[{c}[1], NULL]"),
    ("array elements", PLAIN, "ARRAY[{c}[1], {c}[2], {c}[2]]"),
    ("equal to a reader, not in bytes", PLAIN, "('[0:1]=' || {c}::text)::{t}"),
    ("NULL, '', 'NULL', JSON null", NULLS, "'{}'"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "NULL"),
    ("NULL, '', 'NULL', JSON null", EMPTY, "'{NULL}'"),
];

/// The plants of a type, beside those that every type has.
fn plants_of(column: &Column) -> Vec<Plant> {
    use Family as F;
    let only = |plants: &[Plant]| plants.to_vec();
    match column.family {
        F::Text => only(TEXTS),
        F::Bytea => only(BYTES),
        F::Json => [DOCUMENTS, JSON_TEXTS].concat(),
        F::Jsonb => only(DOCUMENTS),
        F::Timestamptz => [MOMENTS, ZONED].concat(),
        F::Timestamp | F::Time => only(MOMENTS),
        F::Date => vec![
            ("another value", PLAIN, "{c} + 1"),
            ("another value", PLAIN, "{c} - 1"),
            ("another value", PLAIN, "'infinity'"),
        ],
        F::Interval => {
            let days = "{c} - interval '13 days' + interval '312 hours'";
            [MOMENTS, &[("equal to a reader, not in bytes", PLAIN, days)]].concat()
        }
        F::Int => only(INTEGERS),
        F::Numeric | F::NumericFixed => only(NUMERICS),
        // The neighbours of 13.1 and 13.5.
        F::Float8 => {
            let next = [("last bit of a float", PLAIN, "'13.100000000000001'")];
            [FLOATS, &next, &[("last bit of a float", PLAIN, "'13.099999999999998'")]].concat()
        }
        F::Float4 => {
            let next = [("last bit of a float", PLAIN, "'13.500001'")];
            [FLOATS, &next, &[("last bit of a float", PLAIN, "'13.499999'")]].concat()
        }
        F::Bool => vec![("one bit flipped", PLAIN, "NOT {c}")],
        F::Uuid => {
            vec![
                ("one bit flipped", PLAIN, "overlay({c}::text placing '7' from 1 for 1)::uuid"),
                ("one bit flipped", PLAIN, "overlay({c}::text placing 'c' from 36 for 1)::uuid"),
            ]
        }
        F::Inet => vec![
            ("another value", PLAIN, "{c} + 1"),
            ("another value", PLAIN, "set_masklen({c}, 24)"),
        ],
        F::Enum => vec![("another value", PLAIN, "'sad'")],
        F::Ltree => vec![
            ("another value", PLAIN, "{c} || 'x'"),
            ("truncated", PLAIN, "subpath({c}, 0, 1)"),
            ("upper and lower case", PLAIN, "upper({c}::text)::ltree"),
        ],
        F::Other => vec![("another value", PLAIN, "trunc({c})")],
        F::Array => only(ARRAYS),
    }
}

/// The cases of one column.
pub(super) fn cases(column: &Column) -> Vec<Case> {
    let place = format!("everything.{} {}", column.name, column.declared);
    let name = column.name;
    let case = |class: &'static str, row: i64, value: &str| Case {
        class,
        place: place.clone(),
        plant: format!("UPDATE everything SET {name} = {value} WHERE id = {row}"),
        expected: [Finding::changed("everything", format!("id={row}"), name)].into(),
        ..Case::default()
    };
    let mut cases: Vec<Case> = plants_of(column)
        .into_iter()
        .map(|(class, row, value)| {
            case(class, row, &value.replace("{c}", name).replace("{t}", column.declared))
        })
        .collect();
    cases.push(case("value to NULL", 10, "NULL"));
    let from_ten = format!("(SELECT {name} FROM pristine.everything WHERE id = 10)");
    cases.push(case("NULL to value", NULLS, &from_ten));
    let plant = format!(
        "UPDATE everything e SET {name} = o.{name} FROM pristine.everything o \
         WHERE (e.id, o.id) IN ((11, 12), (12, 11))"
    );
    let both = ["id=11", "id=12"].map(|key| Finding::changed("everything", key, name));
    cases.push(Case {
        plant,
        expected: both.into(),
        ..case("values of two rows swapped", 11, name)
    });
    cases
}

/// Two columns of one type with each other's values.
pub(super) fn swapped_columns() -> Vec<Case> {
    [("t", "t2"), ("i8", "j8"), ("num", "fixed"), ("t", "label"), ("j8", "i4")]
        .into_iter()
        .filter(|pair| *pair != ("num", "fixed"))
        .map(|(one, two)| Case {
            class: "values of two columns swapped",
            place: format!("everything.{one}, {two}"),
            plant: format!("UPDATE everything SET {one} = {two}, {two} = {one} WHERE id = 14"),
            expected: [one, two].map(|c| Finding::changed("everything", "id=14", c)).into(),
            ..Case::default()
        })
        .collect()
}
