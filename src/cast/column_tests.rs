//! What a column promises, whatever its type.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::ErrorKind;
use crate::json::{Json, parse};

type Encoded = Result<(Vec<u8>, Vec<Note>), Refusal>;

fn column(ty: PgType, options: CastOptions) -> ColumnCast {
    ColumnCast::new("c", ty, true, options, None).unwrap()
}

fn encode(column: &ColumnCast, value: Value<'_>) -> Encoded {
    let before = Note { rule: "before", path: None, original: Original::Bytes(vec![1]) };
    let (mut out, mut notes) = (b"before".to_vec(), vec![before.clone()]);
    let result = column.encode(value, &mut out, &mut notes);
    assert_eq!((&out[..6], &notes[0]), (&b"before"[..], &before));
    let (out, notes) = (out.split_off(6), notes.split_off(1));
    if result.is_err() {
        assert!(out.is_empty() && notes.is_empty(), "a refusal leaves nothing behind");
    } else {
        let length = i32::from_be_bytes(out[..4].try_into().unwrap());
        assert_eq!(i64::from(length.max(0)) + 4, i64::try_from(out.len()).unwrap());
    }
    result.map(|()| (out, notes))
}

fn reason(column: &ColumnCast, value: Value<'_>) -> &'static str {
    encode(column, value).unwrap_err().reason
}

fn field(bytes: &[u8]) -> Vec<u8> {
    let mut field = i32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    field.extend_from_slice(bytes);
    field
}

const NULL: [u8; 4] = [0xff; 4];

fn rules(notes: &[Note]) -> Vec<&'static str> {
    notes.iter().map(|note| note.rule).collect()
}

fn all(policy: Policy) -> Policies {
    Policies {
        nul: policy,
        nan: policy,
        invalid_utf8: policy,
        overflow: policy,
        too_long: policy,
        json_duplicate_keys: policy,
        unreadable: if policy == Policy::Null { Policy::Null } else { Policy::Reject },
        orphan: Policy::Reject,
        ..Policies::default()
    }
}

fn with(on: Policies) -> CastOptions {
    CastOptions { on, ..CastOptions::default() }
}

fn cast(name: CastName) -> CastOptions {
    CastOptions { cast: Some(name), ..CastOptions::default() }
}

fn mood() -> PgType {
    PgType::Enum { name: "app.mood".to_owned(), labels: vec!["sad".to_owned(), "ok".to_owned()] }
}

fn every_type() -> Vec<PgType> {
    use PgType as T;
    let scalars = [
        T::Bool,
        T::Int2,
        T::Int4,
        T::Int8,
        T::Float4,
        T::Float8,
        T::Numeric(None),
        T::Numeric(Some((5, 2))),
        T::Numeric(Some((2, -3))),
        T::Text(None),
        T::Text(Some(3)),
        T::Bytea,
        T::Uuid,
        T::Timestamptz,
        T::Timestamp,
        T::Date,
        T::Time,
        T::Interval,
        T::Json,
        T::Jsonb,
        T::Inet,
    ];
    let arrays = scalars.clone().map(|scalar| T::Array(Box::new(scalar)));
    let others = [mood(), T::Ltree, T::Other("citext".to_owned())];
    scalars.into_iter().chain(arrays).chain(others).collect()
}

#[test]
fn every_value_has_an_outcome_for_every_type() {
    let texts: [&[u8]; 22] = [
        b"",
        b"1",
        b"-9223372036854775809",
        b"1e999999999",
        b"NaN",
        b"-infinity",
        b"t",
        b"a\0b",
        b"\xff",
        b"\xed\xa0\x80",
        b"2026-02-06",
        b"9999999-12-31T23:59:60.999999999+15:59:59",
        b"{}",
        b"[[1],null]",
        b"{\"a\":1,\"a\":\"\\u0000\"}",
        b"::1/129",
        b"1 day",
        b"99999999999:00:00",
        b"a..b",
        b"ok",
        b"\"\\ud800\"",
        b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    ];
    let documents: Vec<Json> = texts.iter().filter_map(|text| parse(text).ok()).collect();
    let numbers = [i64::MIN, -1, 0, 1, i64::MAX].map(Value::Integer);
    let reals = [
        0.0,
        -0.0,
        1.5,
        3.0,
        1e18,
        1e300,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ]
    .map(Value::Real);
    let values: Vec<Value<'_>> = [Value::Null]
        .into_iter()
        .chain(numbers)
        .chain(reals)
        .chain(texts.iter().map(|text| Value::Text(text)))
        .chain(texts.iter().map(|text| Value::Blob(text)))
        .chain(documents.iter().map(Value::Json))
        .collect();
    for ty in every_type() {
        for policy in [Policy::Reject, Policy::Replace, Policy::Null] {
            let mut on = all(policy);
            if policy == Policy::Replace {
                on.nan = Policy::Reject;
            }
            let column = column(ty.clone(), with(on));
            for value in &values {
                match encode(&column, *value) {
                    Err(refusal) => {
                        assert!(!refusal.detail.is_empty() && !refusal.reason.is_empty());
                    }
                    Ok((out, notes)) if out == NULL && *value != Value::Null => {
                        let null = matches!(value, Value::Json(Json::Null));
                        assert!(null || !notes.is_empty(), "NULL without a note: {ty:?} {value:?}");
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}

#[test]
fn integers_keep_their_value_or_say_why_not() {
    let int4 = column(PgType::Int4, CastOptions::default());
    let seven = field(&7_i32.to_be_bytes());
    let document = parse(b"7.0").unwrap();
    for value in [Value::Integer(7), Value::Real(7.0), Value::Text(b"7"), Value::Json(&document)] {
        assert_eq!(encode(&int4, value), Ok((seven.clone(), vec![])));
    }
    for text in [&b"12.3"[..], b"toto", b"", b" 7", b"+7", b"07"] {
        assert_eq!(reason(&int4, Value::Text(text)), "wrong_type");
    }
    assert_eq!(reason(&int4, Value::Real(12.3)), "wrong_type");
    assert_eq!(reason(&int4, Value::Blob(b"7")), "wrong_type");
    assert_eq!(reason(&int4, Value::Integer(1 << 31)), "overflow");
    assert_eq!(
        reason(&int4, Value::Text(b"99999999999999999999999999999999999999999999")),
        "overflow"
    );
    assert_eq!(reason(&int4, Value::Real(f64::INFINITY)), "nan");
    let almost = parse(b"0.99999999999999999999").unwrap();
    assert_eq!(reason(&int4, Value::Json(&almost)), "wrong_type");
    let int8 = column(PgType::Int8, CastOptions::default());
    assert_eq!(reason(&int8, Value::Real(9_007_199_254_740_992.0)), "inexact");

    let clamped =
        column(PgType::Int2, with(Policies { overflow: Policy::Replace, ..Policies::default() }));
    let (out, notes) = encode(&clamped, Value::Integer(-70_000)).unwrap();
    assert_eq!(out, field(&i16::MIN.to_be_bytes()));
    let original = Original::Bytes(b"-70000".to_vec());
    assert_eq!(notes, [Note { rule: "overflow", path: None, original }]);
}

#[test]
fn a_null_policy_stores_null_and_notes_the_original() {
    let on = Policies { unreadable: Policy::Null, ..Policies::default() };
    let uuid = column(PgType::Uuid, with(on));
    let (out, notes) = encode(&uuid, Value::Text(b"n/a")).unwrap();
    assert_eq!(out, NULL);
    assert_eq!(notes[0].rule, "invalid_uuid");
    assert_eq!(notes[0].original, Original::Bytes(b"n/a".to_vec()));
}

#[test]
fn text_is_stored_byte_for_byte_or_noted() {
    let text = column(PgType::Text(None), CastOptions::default());
    assert_eq!(
        encode(&text, Value::Text("NULL é ".as_bytes())),
        Ok((field("NULL é ".as_bytes()), vec![]))
    );
    assert_eq!(reason(&text, Value::Text(b"a\0b")), "nul");
    assert_eq!(reason(&text, Value::Text(b"\xff")), "invalid_utf8");
    assert_eq!(reason(&text, Value::Blob(b"plain")), "wrong_type");
    let (out, notes) = encode(&text, Value::Real(0.1)).unwrap();
    assert_eq!((out, rules(&notes)), (field(b"0.1"), vec!["class_to_text"]));
    let tree = parse(b"{\"a\": [1.0]}").unwrap();
    assert_eq!(reason(&text, Value::Json(&tree)), "wrong_type");
    let json_text = column(PgType::Text(None), cast(CastName::JsonText));
    assert_eq!(encode(&json_text, Value::Json(&tree)), Ok((field(b"{\"a\":[1.0]}"), vec![])));

    let lenient = column(PgType::Text(Some(3)), with(all(Policy::Replace)));
    let (out, notes) = encode(&lenient, Value::Text(b"\0\xed\xa0\x80xyz")).unwrap();
    assert_eq!(out, field("\u{fffd}\u{fffd}x".as_bytes()));
    assert_eq!(rules(&notes), ["invalid_utf8", "nul", "too_long"]);
    assert!(
        notes.iter().all(|note| note.original == Original::Bytes(b"\0\xed\xa0\x80xyz".to_vec()))
    );
}

#[test]
fn no_secret_reaches_the_target_a_note_or_a_refusal() {
    let redactor = Arc::new(Redactor::new([7; 32]).with_members(vec!["api_key".to_owned()]));
    let url = b"postgres://u:hunter2@h/db\0";
    let on = all(Policy::Replace);
    for ty in [PgType::Text(None), PgType::Other("citext".to_owned())] {
        let column =
            ColumnCast::new("c", ty, true, with(on.clone()), Some(redactor.clone())).unwrap();
        let (out, notes) = encode(&column, Value::Text(url)).unwrap();
        assert!(!String::from_utf8_lossy(&out).contains("hunter2"));
        assert_eq!(rules(&notes), ["redact_url_password", "nul"]);
        assert!(notes.iter().all(|note| matches!(note.original, Original::Secret(_))));
    }
    let document = parse(b"{\"api_key\":\"hunter2\",\"list\":[\"http://u:hunter2@h\"]}").unwrap();
    for (ty, options) in [
        (PgType::Jsonb, CastOptions::default()),
        (PgType::Json, CastOptions::default()),
        (PgType::Text(None), cast(CastName::JsonText)),
    ] {
        let column = ColumnCast::new("c", ty, true, options, Some(redactor.clone())).unwrap();
        let (out, mut notes) = encode(&column, Value::Json(&document)).unwrap();
        assert!(!String::from_utf8_lossy(&out).contains("hunter2"));
        // jsonb walks the members in the order it stores them.
        notes.sort_by_key(|note| note.rule);
        assert_eq!(rules(&notes), ["redact_member", "redact_url_password"]);
        assert_eq!(notes[1].path.as_deref(), Some("/list/0"));
    }
    let uuid =
        |on| ColumnCast::new("c", PgType::Uuid, true, with(on), Some(redactor.clone())).unwrap();
    let text = b"{\"api_key\":\"hunter2\"}";
    for value in [Value::Text(url), Value::Text(text), Value::Json(&document)] {
        let refusal = encode(&uuid(Policies::default()), value).unwrap_err();
        assert!(!refusal.detail.contains("hunter2"), "{refusal:?}");
        let (_, notes) = encode(&uuid(all(Policy::Null)), value).unwrap();
        assert!(matches!(notes[0].original, Original::Secret(_)));
    }
}

#[test]
fn a_refusal_shows_sixty_escaped_characters() {
    let uuid = column(PgType::Uuid, CastOptions::default());
    let long = "é\n".repeat(100);
    let detail = encode(&uuid, Value::Text(long.as_bytes())).unwrap_err().detail;
    assert!(detail.ends_with(&format!("found text \"{}...\"", "é\\n".repeat(30))), "{detail}");
    let short = encode(&uuid, Value::Text(b"\xff")).unwrap_err().detail;
    assert!(short.ends_with("found text \"\u{fffd}\""), "{short}");
}

#[test]
fn missing_values_are_null_default_or_refused() {
    let not_null = |options| ColumnCast::new("c", PgType::Int4, false, options, None).unwrap();
    assert_eq!(reason(&not_null(CastOptions::default()), Value::Null), "null_not_allowed");
    let with_default = CastOptions { default: Some("-1".to_owned()), ..CastOptions::default() };
    let expected = Ok((field(&(-1_i32).to_be_bytes()), vec![]));
    assert_eq!(encode(&not_null(with_default.clone()), Value::Null), expected);
    assert_eq!(encode(&not_null(with_default), Value::Json(&Json::Null)), expected);
    for (ty, text, bytes) in [
        (PgType::Text(None), "", &b""[..]),
        (PgType::Bytea, "\\x00ff", b"\x00\xff"),
        (PgType::Jsonb, "{}", b"\x01{}"),
        (PgType::Bool, "false", b"\0"),
        (PgType::Timestamptz, "1970-01-01T00:00:00Z", &(-946_684_800_000_000_i64).to_be_bytes()),
        (PgType::Array(Box::new(PgType::Text(None))), "{}", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]),
        (PgType::Interval, "1 day", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        let options = CastOptions { default: Some(text.to_owned()), ..CastOptions::default() };
        assert_eq!(encode(&column(ty, options), Value::Null), Ok((field(bytes), vec![])));
    }
}

#[test]
fn empty_text_becomes_null_only_by_declaration_and_with_a_note() {
    let keep = column(PgType::Text(None), CastOptions::default());
    assert_eq!(encode(&keep, Value::Text(b"")), Ok((field(b""), vec![])));
    let empty = CastOptions { empty: Some(EmptyText::Null), ..CastOptions::default() };
    let (out, notes) = encode(&column(PgType::Int4, empty), Value::Text(b"")).unwrap();
    assert_eq!((out, rules(&notes)), (NULL.to_vec(), vec!["empty_to_null"]));
}

#[test]
fn json_null_and_sql_null_stay_apart() {
    let keep = column(PgType::Jsonb, CastOptions::default());
    assert_eq!(encode(&keep, Value::Null).unwrap().0, NULL);
    assert_eq!(encode(&keep, Value::Json(&Json::Null)).unwrap().0, field(b"\x01null"));
    assert_eq!(encode(&keep, Value::Text(b"null")).unwrap().0, field(b"\x01null"));
    let options = CastOptions { json_null: JsonNull::SqlNull, ..CastOptions::default() };
    let sql_null = column(PgType::Jsonb, options);
    assert_eq!(encode(&sql_null, Value::Text(b"null")), Ok((NULL.to_vec(), vec![])));
}

#[test]
fn json_keeps_its_own_text_unless_a_policy_changes_it() {
    let json = column(PgType::Json, CastOptions::default());
    let text = b" {\"b\": 1.0, \"a\":1, \"a\":2}\n";
    assert_eq!(encode(&json, Value::Text(text)), Ok((field(text), vec![])));
    assert_eq!(reason(&json, Value::Text(b"{\"a\":NaN}")), "nan");
    assert_eq!(reason(&json, Value::Text(b"[\"\\u0000\"]")), "nul");
    assert_eq!(reason(&json, Value::Text(b"[\"\\ud800\"]")), "invalid_utf8");
    assert_eq!(reason(&json, Value::Text(b"{'a':1}")), "invalid_json");
    let lenient = column(PgType::Json, with(all(Policy::Replace)));
    let (out, notes) = encode(&lenient, Value::Text(b"{\"a/b\": [NaN, \"x\\u0000\"]}")).unwrap();
    assert_eq!(out, field("{\"a/b\":[\"NaN\",\"x\u{fffd}\"]}".as_bytes()));
    assert_eq!(rules(&notes), ["nan", "nul"]);
    assert_eq!(notes[0].path.as_deref(), Some("/a~1b/0"));
}

#[test]
fn timestamps_need_an_offset_a_zone_or_a_unit() {
    let plain = column(PgType::Timestamptz, CastOptions::default());
    assert_eq!(reason(&plain, Value::Text(b"2026-02-06T17:40:01")), "naive_timestamp");
    assert_eq!(reason(&plain, Value::Text(b"2026-02-06")), "naive_timestamp");
    assert_eq!(reason(&plain, Value::Integer(1_770_399_601)), "wrong_type");
    assert_eq!(reason(&plain, Value::Text(b"1770399601")), "wrong_type");
    assert_eq!(reason(&plain, Value::Text(b"2026-02-30T00:00:00Z")), "invalid_timestamp");
    let micros = 823_714_801_994_514_i64;
    let expected = Ok((field(&micros.to_be_bytes()), vec![]));
    assert_eq!(encode(&plain, Value::Text(b"2026-02-06T17:40:01.994514+00:00")), expected);

    let zone = |name: &str| CastOptions { zone: Some(name.to_owned()), ..CastOptions::default() };
    let berlin = column(PgType::Timestamptz, zone("Europe/Berlin"));
    assert_eq!(encode(&berlin, Value::Text(b"2026-02-06 18:40:01,994514")), expected);
    assert_eq!(reason(&berlin, Value::Text(b"2026-03-29 02:30:00")), "invalid_timestamp");
    assert_eq!(reason(&berlin, Value::Text(b"2026-10-25 02:30:00")), "ambiguous_timestamp");
    let fixed = column(PgType::Timestamptz, zone("+01:00"));
    assert_eq!(encode(&fixed, Value::Text(b"2026-02-06 18:40:01.994514")), expected);

    let unit = |unit| CastOptions { unit: Some(unit), ..CastOptions::default() };
    let seconds = column(PgType::Timestamptz, unit(EpochUnit::S));
    for value in [
        Value::Real(1_770_399_601.994_514),
        Value::Text(b"1770399601.994514"),
        Value::Text(b"1770399601.9945139"),
        Value::Text(b"2026-02-06T17:40:01.994514Z"),
    ] {
        assert_eq!(encode(&seconds, value), expected, "{value:?}");
    }
    assert_eq!(reason(&seconds, Value::Text(b"1770399601.99451399999999")), "precision");
    // Milliseconds declared as seconds: a year that Postgres does not have.
    assert_eq!(reason(&seconds, Value::Integer(i64::MAX)), "invalid_timestamp");
    let epoch = column(PgType::Timestamptz, cast(CastName::EpochUs));
    assert_eq!(encode(&epoch, Value::Integer(1_770_399_601_994_514)), expected);
    assert_eq!(reason(&epoch, Value::Text(b"2026-02-06T17:40:01Z")), "wrong_type");

    let naive = column(PgType::Timestamp, CastOptions::default());
    assert_eq!(encode(&naive, Value::Text(b"2026-02-06T17:40:01.994514")), expected);
    assert_eq!(reason(&naive, Value::Text(b"2026-02-06T17:40:01Z")), "invalid_timestamp");
}

#[test]
fn enums_take_labels_and_declared_aliases() {
    let aliases =
        BTreeMap::from([("0".to_owned(), "sad".to_owned()), ("fine".to_owned(), "ok".to_owned())]);
    let mood = column(mood(), CastOptions { aliases, ..CastOptions::default() });
    assert_eq!(encode(&mood, Value::Text(b"ok")), Ok((field(b"ok"), vec![])));
    assert_eq!(encode(&mood, Value::Text(b"fine")), Ok((field(b"ok"), vec![])));
    assert_eq!(encode(&mood, Value::Integer(0)), Ok((field(b"sad"), vec![])));
    assert_eq!(reason(&mood, Value::Text(b"OK")), "unknown_label");
}

#[test]
fn arrays_name_the_element_at_fault() {
    let array = |options| column(PgType::Array(Box::new(PgType::Text(Some(2)))), options);
    let document = parse(b"[\"ab\", null, \"abc\"]").unwrap();
    let refusal = encode(&array(CastOptions::default()), Value::Json(&document)).unwrap_err();
    assert_eq!(refusal.reason, "too_long");
    assert!(refusal.detail.starts_with("element 2: "), "{}", refusal.detail);
    let (out, notes) = encode(&array(with(all(Policy::Replace))), Value::Json(&document)).unwrap();
    assert_eq!(notes[0].path.as_deref(), Some("/2"));
    let mut expected = Vec::new();
    for word in [1, 1, 1043, 3, 1, 2] {
        expected.extend_from_slice(&i32::to_be_bytes(word));
    }
    expected.extend_from_slice(b"ab\xff\xff\xff\xff\0\0\0\x02ab");
    assert_eq!(out, field(&expected));
}

#[test]
fn bytes_become_uuids_or_bytea_only_as_declared() {
    let uuid = column(PgType::Uuid, cast(CastName::UuidBytes));
    assert_eq!(encode(&uuid, Value::Blob(&[7; 16])), Ok((field(&[7; 16]), vec![])));
    assert_eq!(reason(&uuid, Value::Blob(&[7; 15])), "invalid_uuid");
    assert_eq!(
        reason(&column(PgType::Uuid, CastOptions::default()), Value::Blob(&[7; 16])),
        "invalid_uuid"
    );
    let bytea = column(PgType::Bytea, CastOptions::default());
    assert_eq!(encode(&bytea, Value::Blob(b"\0\xff")), Ok((field(b"\0\xff"), vec![])));
    assert_eq!(reason(&bytea, Value::Text(b"abc")), "wrong_type");
    let hex = column(PgType::Bytea, cast(CastName::ByteaHex));
    assert_eq!(encode(&hex, Value::Text(b"\\xAB01")), Ok((field(b"\xab\x01"), vec![])));
}

#[test]
fn impossible_declarations_are_refused_before_the_first_value() {
    let plain = CastOptions::default();
    let aliases = BTreeMap::from([("fine".to_owned(), "great".to_owned())]);
    let text = |t: &str| Some(t.to_owned());
    let cases = [
        (PgType::Int4, false, with(Policies { overflow: Policy::Null, ..Policies::default() })),
        (PgType::Int4, true, with(Policies { unreadable: Policy::Replace, ..Policies::default() })),
        (PgType::Int4, true, with(Policies { nan: Policy::Replace, ..Policies::default() })),
        (PgType::Text(None), false, CastOptions { empty: Some(EmptyText::Null), ..plain.clone() }),
        (PgType::Int4, true, cast(CastName::EpochMs)),
        (PgType::Timestamp, true, CastOptions { zone: text("UTC"), ..plain.clone() }),
        (PgType::Timestamptz, true, CastOptions { zone: text("Europe/Bärlin"), ..plain.clone() }),
        (PgType::Time, true, CastOptions { unit: Some(EpochUnit::S), ..plain.clone() }),
        (PgType::Int4, true, CastOptions { infer_unit: true, ..plain.clone() }),
        (PgType::Timestamptz, true, CastOptions { infer_unit: true, ..cast(CastName::EpochMs) }),
        (
            PgType::Array(Box::new(PgType::Timestamptz)),
            true,
            CastOptions { infer_unit: true, ..plain.clone() },
        ),
        (PgType::Int4, true, CastOptions { redact: false, ..plain.clone() }),
        (
            PgType::Timestamptz,
            true,
            CastOptions { unit: Some(EpochUnit::S), ..cast(CastName::EpochMs) },
        ),
        (PgType::Text(None), true, CastOptions { json_null: JsonNull::SqlNull, ..plain.clone() }),
        (mood(), true, CastOptions { aliases: aliases.clone(), ..plain.clone() }),
        (PgType::Text(None), true, CastOptions { aliases, ..plain.clone() }),
        (PgType::Int4, true, CastOptions { default: text("many"), ..plain.clone() }),
        (PgType::Array(Box::new(mood())), true, plain.clone()),
        (PgType::Array(Box::new(PgType::Array(Box::new(PgType::Int4)))), true, plain),
    ];
    for (ty, nullable, options) in cases {
        let shown = format!("{ty:?} {options:?}");
        let error = ColumnCast::new("c", ty, nullable, options, None).expect_err(&shown);
        assert_eq!(error.kind(), ErrorKind::Pack);
        assert!(error.detail().starts_with("column c ("), "{error}");
    }
}

#[test]
fn options_read_from_a_pack_and_refuse_unknown_words() {
    let options: CastOptions = toml::from_str(
        "cast = \"epoch_ms\"\nempty = \"null\"\njson_null = \"keep\"\n[on]\nnul = \"replace\"",
    )
    .unwrap();
    assert_eq!(options.cast, Some(CastName::EpochMs));
    assert!(options.redact);
    assert!(toml::from_str::<CastOptions>("zoen = \"UTC\"").is_err());
}
