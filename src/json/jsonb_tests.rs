//! What jsonb would print, pinned by examples taken from Postgres 15 and by properties.

use super::arbitrary::Generator;
use super::{Json, Written, parse, write_jsonb};
use crate::cast::note::{Note, Original, Policies, Policy, Refusal};
use crate::cast::redact::Redactor;

const LENIENT: Policies = Policies {
    nul: Policy::Replace,
    nan: Policy::Replace,
    invalid_utf8: Policy::Replace,
    overflow: Policy::Replace,
    too_long: Policy::Reject,
    json_duplicate_keys: Policy::Replace,
    unreadable: Policy::Reject,
    orphan: Policy::Reject,
    mixed_units: crate::cast::MixedUnits::Reject,
};

fn all_null() -> Policies {
    Policies {
        nul: Policy::Null,
        nan: Policy::Null,
        invalid_utf8: Policy::Null,
        overflow: Policy::Null,
        json_duplicate_keys: Policy::Null,
        ..Policies::default()
    }
}

fn write_with(
    source: &[u8],
    policies: &Policies,
    redact: Option<&Redactor>,
) -> Result<(String, Vec<Note>, Written), Refusal> {
    let document = parse(source).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let written = write_jsonb(&document, policies, redact, &mut out, &mut notes)?;
    Ok((String::from_utf8(out).unwrap(), notes, written))
}

fn write(source: &str) -> String {
    let (text, notes, written) = write_with(source.as_bytes(), &Policies::default(), None).unwrap();
    assert!(notes.is_empty());
    assert_eq!(written, Written::Value);
    text
}

fn refusal(source: &[u8]) -> Refusal {
    write_with(source, &Policies::default(), None).unwrap_err()
}

fn note(rule: &'static str, path: &str, original: &[u8]) -> Note {
    Note { rule, path: Some(path.into()), original: Original::Bytes(original.into()) }
}

#[test]
fn documents_print_as_postgres_prints_them() {
    for (source, expected) in [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        ("null", "null"),
        ("\"\"", "\"\""),
        ("[1,[2,[]],{}]", "[1, [2, []], {}]"),
        (
            r#"{"bb":1,"a":2,"c":3,"":4,"aa":{"b":[true,false]}}"#,
            r#"{"": 4, "a": 2, "c": 3, "aa": {"b": [true, false]}, "bb": 1}"#,
        ),
        (r#"{"é":1,"zz":2,"B":3,"z":4}"#, r#"{"B": 3, "z": 4, "zz": 2, "é": 1}"#),
        (r#""\u00e9\u0001\/\ud83d\ude00\u001f\u007f""#, "\"é\\u0001/😀\\u001f\u{7f}\""),
        (
            "[1e22,1.10,-0,-0.0,1E-5,1.5e3]",
            "[10000000000000000000000, 1.10, 0, 0.0, 0.00001, 1500]",
        ),
    ] {
        assert_eq!(write(source), expected, "{source}");
    }
}

#[test]
fn equal_documents_give_equal_bytes() {
    let mut generator = Generator::seeded(1);
    for _ in 0..2000 {
        let (first, second) = generator.equal_documents();
        let write = |source: &[u8]| write_with(source, &LENIENT, None).unwrap().0;
        assert_eq!(write(&first), write(&second), "{}", first.escape_ascii());
    }
}

#[test]
fn what_was_written_is_written_the_same_again() {
    let mut generator = Generator::seeded(2);
    for _ in 0..2000 {
        let (once, ..) = write_with(&generator.document(), &LENIENT, None).unwrap();
        assert_eq!(write(&once), once);
    }
}

#[test]
fn clean_documents_leave_no_note_but_duplicates() {
    let mut generator = Generator::seeded(3);
    for _ in 0..2000 {
        let (_, notes, _) = write_with(&generator.clean_document(), &LENIENT, None).unwrap();
        assert!(notes.iter().all(|note| note.rule == "json_duplicate_keys"));
    }
}

#[test]
fn anomalies_are_refused_by_default_with_their_place() {
    for (source, reason, place) in [
        (&br#"{"a":[1,"x\u0000y"]}"#[..], "nul", "the string at \"/a/1\" holds U+0000"),
        (br#"{"a":{"b\u0000":1}}"#, "nul", "the key at \"/a/b\u{fffd}\" holds U+0000"),
        (br#""\u0000""#, "nul", "the string at the top level"),
        (br#"["\ud800"]"#, "invalid_utf8", "the string at \"/0\" is not UTF-8"),
        (b"{\"\xff\":1}", "invalid_utf8", "the key at \"/\u{fffd}\""),
        (b"[NaN]", "nan", "the number at \"/0\" is NaN"),
        (b"-Infinity", "nan", "the number at the top level is -Infinity"),
        (b"{\"n\":1e131072}", "overflow", "the number at \"/n\" is 1e131072, beyond"),
        (br#"{"x":{"a":1,"b":2,"a":1}}"#, "json_duplicate_keys", "at \"/x\" holds the key \"a\""),
    ] {
        let refusal = refusal(source);
        assert_eq!(refusal.reason, reason, "{}", source.escape_ascii());
        assert!(refusal.detail.contains(place), "{}", refusal.detail);
    }
}

#[test]
fn replacements_are_noted_with_their_original() {
    let source = br#"{"k\u0000":"a\u0000\ud800b","n":[NaN,1],"d":{"z":[1, 2]},"d":0}"#;
    let (text, notes, written) = write_with(source, &LENIENT, None).unwrap();
    assert_eq!(text, "{\"d\": 0, \"n\": [\"NaN\", 1], \"k\u{fffd}\": \"a\u{fffd}\u{fffd}b\"}");
    assert_eq!(written, Written::Value);
    assert_eq!(
        notes,
        [
            note("nul", "/k\u{fffd}", b"k\0"),
            note("json_duplicate_keys", "/d", br#"{"z":[1,2]}"#),
            note("nan", "/n/0", b"NaN"),
            note("nul", "/k\u{fffd}", b"a\0\xed\xa0\x80b"),
            note("invalid_utf8", "/k\u{fffd}", b"a\0\xed\xa0\x80b"),
        ]
    );
}

#[test]
fn null_policies_make_json_null_but_keep_keys() {
    let source = br#"{"k\u0000":"a\u0000","n":[NaN,1e999999],"d":1,"d":"\udc00"}"#;
    let (text, notes, _) = write_with(source, &all_null(), None).unwrap();
    assert_eq!(text, "{\"d\": null, \"n\": [null, null], \"k\u{fffd}\": null}");
    assert_eq!(notes.len(), 6);
    let (text, _, written) = write_with(b"NaN", &all_null(), None).unwrap();
    assert_eq!((text.as_str(), written), ("null", Written::Null));
    assert_eq!(write_with(b"null", &all_null(), None).unwrap().2, Written::Value);
}

#[test]
fn keys_that_collide_once_replaced_are_duplicates() {
    let source = br#"{"a\u0000":1,"a\ud800":2,"a\ufffd":3}"#;
    let (text, notes, _) = write_with(source, &LENIENT, None).unwrap();
    assert_eq!(text, "{\"a\u{fffd}\": 3}");
    assert_eq!(notes.iter().filter(|note| note.rule == "json_duplicate_keys").count(), 2);
    let strict = Policies { json_duplicate_keys: Policy::Reject, ..LENIENT };
    assert_eq!(write_with(source, &strict, None).unwrap_err().reason, "json_duplicate_keys");
}

#[test]
fn a_dropped_duplicate_is_held_to_the_policies_too() {
    let policies = Policies { nul: Policy::Reject, ..LENIENT };
    let refused = write_with(br#"{"a":["\u0000"],"a":1}"#, &policies, None).unwrap_err();
    assert_eq!(refused.reason, "nul");
    let (_, notes, _) = write_with(br#"{"a":["\u0000"],"a":1}"#, &LENIENT, None).unwrap();
    assert_eq!(notes, [note("json_duplicate_keys", "/a", br#"["\u0000"]"#)]);
}

#[test]
fn a_refusal_leaves_output_and_notes_as_they_were() {
    let document = parse(br#"{"a":NaN,"b":"\u0000"}"#).unwrap();
    let policies = Policies { nul: Policy::Reject, ..LENIENT };
    let (mut out, mut notes) = (b"before".to_vec(), Vec::new());
    assert!(write_jsonb(&document, &policies, None, &mut out, &mut notes).is_err());
    assert_eq!((out.as_slice(), notes.len()), (&b"before"[..], 0));
}

#[test]
fn strings_beyond_the_limit_of_jsonb_are_refused() {
    let document = Json::Array(vec![Json::String(vec![0; 268_435_456].into())]);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let refusal = write_jsonb(&document, &LENIENT, None, &mut out, &mut notes).unwrap_err();
    assert_eq!(refusal.reason, "too_long");
}

/// Taken from Postgres 15, which fails to allocate one element or member later.
#[test]
fn containers_beyond_the_limits_of_jsonb_are_refused() {
    let refused = |document: &Json| {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        write_jsonb(document, &LENIENT, None, &mut out, &mut notes).unwrap_err()
    };
    let elements = refused(&Json::Array(vec![Json::Null; (1 << 24) + 1]));
    assert_eq!(elements.reason, "too_long");
    assert!(elements.detail.contains("has 16777217 elements"), "{}", elements.detail);
    let members = refused(&Json::Object(vec![(Box::default(), Json::Null); (1 << 23) + 1]));
    assert!(members.detail.contains("has 8388609 members"), "{}", members.detail);
}

#[test]
fn no_secret_reaches_output_notes_pointers_or_refusals() {
    let redactor = Redactor::new([7; 32]).with_members(vec!["api_key".into()]);
    let source = br#"{
        "postgres://u:hunter2@h/d": "x\u0000",
        "url": "redis://:hunter2@h\u0000",
        "API_KEY": "hunter2",
        "list": ["host=h password=hunter2"],
        "twice": {"api_key": "hunter2", "http://a:hunter2@b": ["http://a:hunter2@b", 1]},
        "twice": 1
    }"#;
    let (text, notes, _) = write_with(source, &LENIENT, Some(&redactor)).unwrap();
    assert!(!format!("{text}{notes:?}").contains("hunter2"));
    assert!(notes.iter().all(|note| match &note.original {
        Original::Bytes(bytes) => memchr::memmem::find(bytes, b"hunter2").is_none(),
        Original::Secret(_) => true,
    }));
    assert!(text.contains("\"url\": \"redis://:***@h\u{fffd}\""));
    assert!(text.contains("\"API_KEY\": \"***\""));
    let of = |rule: &str| notes.iter().filter(|note| note.rule == rule).count();
    assert_eq!((of("redact_member"), of("redact_url_password"), of("nul")), (2, 5, 2));
    let dropped = notes.iter().find(|note| note.rule == "json_duplicate_keys").unwrap();
    let expected = br#"{"api_key":"***","http://a:***@b":["http://a:***@b",1]}"#;
    assert_eq!(dropped.original, Original::Bytes(expected.to_vec()));
    let refused = write_with(source, &Policies::default(), Some(&redactor)).unwrap_err();
    assert!(!refused.detail.contains("hunter2"), "{}", refused.detail);
}

#[test]
fn what_is_redacted_once_is_not_redacted_again() {
    let redactor = Redactor::new([7; 32]).with_members(vec!["api_key".into()]);
    let source = br#"{"api_key": "s", "u": "ftp://a:b@c"}"#;
    let (once, ..) = write_with(source, &LENIENT, Some(&redactor)).unwrap();
    let (again, notes, _) = write_with(once.as_bytes(), &LENIENT, Some(&redactor)).unwrap();
    assert_eq!((again, notes), (once, vec![]));
}
