//! Small flat documents straight to the text that jsonb prints: what most `meta` columns hold.
//!
//! Only what is certain to come out as [`super::write_jsonb`] writes it, and without a note, is
//! written here; everything else is left to it. A property holds the two equal.

use super::number::{literal_length, push_numeric};
use crate::cast::redact::Redactor;

/// Members at most; most documents of this kind have fewer than ten.
const MEMBERS_MAX: usize = 12;

/// Bytes at most: far below every limit of jsonb and of numeric.
const BYTES_MAX: usize = 4096;

/// A member as written.
#[derive(Debug, Clone, Copy, Default)]
struct Member<'a> {
    /// Without its quotes.
    key: &'a [u8],
    value: Scalar<'a>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Scalar<'a> {
    /// null, true or false.
    #[default]
    Null,
    Bool(bool),
    /// Without an exponent.
    Number(&'a str),
    /// Without its quotes; nothing in it is escaped.
    Text(&'a [u8]),
}

/// Appends the text jsonb prints for an object of scalars; false, and nothing appended, where that
/// takes more than copying: escapes, bytes beyond ASCII, nesting, exponents, duplicate keys,
/// secrets, faults.
pub(crate) fn push_flat_object(text: &[u8], redact: Option<&Redactor>, out: &mut Vec<u8>) -> bool {
    if text.len() > BYTES_MAX {
        return false;
    }
    let mut members = [Member::default(); MEMBERS_MAX];
    let Some(count) = read(text, &mut members) else { return false };
    let members = &mut members[..count];
    // As jsonb sorts keys: by length, then bytewise.
    members.sort_unstable_by(|one, other| {
        one.key.len().cmp(&other.key.len()).then_with(|| one.key.cmp(other.key))
    });
    let is_repeated = members.windows(2).any(|pair| pair[0].key == pair[1].key);
    if is_repeated || redact.is_some_and(|redactor| hold_secrets(members, redactor)) {
        return false;
    }
    let start = out.len();
    for (index, member) in members.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"" } else { b", \"" });
        out.extend_from_slice(member.key);
        out.extend_from_slice(b"\": ");
        match member.value {
            Scalar::Null => out.extend_from_slice(b"null"),
            Scalar::Bool(true) => out.extend_from_slice(b"true"),
            Scalar::Bool(false) => out.extend_from_slice(b"false"),
            Scalar::Text(text) => {
                out.push(b'"');
                out.extend_from_slice(text);
                out.push(b'"');
            }
            Scalar::Number(literal) => {
                if push_numeric(out, literal).is_err() {
                    out.truncate(start);
                    return false;
                }
            }
        }
    }
    out.push(b'}');
    true
}

fn hold_secrets(members: &[Member<'_>], redactor: &Redactor) -> bool {
    members.iter().any(|member| {
        redactor.redact_text(member.key).is_some()
            || match member.value {
                Scalar::Text(text) => {
                    redactor.redact_member(member.key, text).is_some()
                        || redactor.redact_text(text).is_some()
                }
                _ => false,
            }
    })
}

/// Reads the members of an object that has at least one; None where it is not of that kind.
fn read<'a>(text: &'a [u8], members: &mut [Member<'a>]) -> Option<usize> {
    let mut rest = skip_space(text).strip_prefix(b"{")?;
    for (index, member) in members.iter_mut().enumerate() {
        (member.key, rest) = string(skip_space(rest))?;
        rest = skip_space(skip_space(rest).strip_prefix(b":")?);
        (member.value, rest) = scalar(rest)?;
        rest = skip_space(rest);
        match rest.split_first()? {
            (b',', after) => rest = after,
            (b'}', after) => return skip_space(after).is_empty().then_some(index + 1),
            _ => return None,
        }
    }
    None
}

fn skip_space(text: &[u8]) -> &[u8] {
    let space = text.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
    &text[space.count()..]
}

/// A string that nothing in is escaped, and what comes after it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    // Mostly of a few bytes, for which a search and a check of their own cost more.
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            b'\\' | ..0x20 | 0x80.. => return None,
            _ => {}
        }
    }
    None
}

fn scalar(text: &[u8]) -> Option<(Scalar<'_>, &[u8])> {
    match text.first()? {
        b'"' => string(text).map(|(inside, rest)| (Scalar::Text(inside), rest)),
        b'-' | b'0'..=b'9' => {
            let (literal, rest) = text.split_at(literal_length(text).ok()?);
            let is_short = literal.iter().all(|byte| !byte.is_ascii_alphabetic());
            let literal = std::str::from_utf8(literal).ok().filter(|_| is_short)?;
            Some((Scalar::Number(literal), rest))
        }
        _ => {
            let words = [
                (&b"null"[..], Scalar::Null),
                (b"true", Scalar::Bool(true)),
                (b"false", Scalar::Bool(false)),
            ];
            // What follows a word is a comma, a brace or space; `nullx` fails there.
            words.into_iter().find_map(|(word, value)| Some((value, text.strip_prefix(word)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::IndexedRandom as _;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::cast::note::{Policies, Policy};
    use crate::json::arbitrary::Generator;
    use crate::json::{Written, parse, write_jsonb};

    /// Whether the text was written; what was written is what the tree of it becomes, without a
    /// note, whatever the policies are.
    fn agrees(text: &[u8], redact: Option<&Redactor>) -> bool {
        let mut flat = b"before".to_vec();
        if !push_flat_object(text, redact, &mut flat) {
            assert_eq!(flat, b"before", "{}", text.escape_ascii());
            return false;
        }
        let document = parse(text).unwrap();
        for policy in [Policy::Reject, Policy::Replace, Policy::Null] {
            let policies = Policies {
                nul: policy,
                nan: policy,
                invalid_utf8: policy,
                overflow: policy,
                json_duplicate_keys: policy,
                ..Policies::default()
            };
            let (mut out, mut notes) = (b"before".to_vec(), Vec::new());
            let written = write_jsonb(&document, &policies, redact, &mut out, &mut notes);
            assert_eq!(written, Ok(Written::Value), "{}", text.escape_ascii());
            assert_eq!(flat.escape_ascii().to_string(), out.escape_ascii().to_string());
            assert!(notes.is_empty(), "{}", text.escape_ascii());
        }
        true
    }

    fn redactor() -> Redactor {
        Redactor::new([1; 32]).with_members(vec!["api_key".into(), "Password".into()])
    }

    #[test]
    fn flat_objects_come_out_as_their_trees_do() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let keys =
            ["a", "b", "aa", "stage", "n", "", "api_key", "PASSWORD", "a:/", "\\u0061", "\u{e9}"];
        let values = [
            "1",
            "-0",
            "0.50",
            "-1.5",
            "12345678901234567890",
            "1e5",
            "01",
            "1.",
            "-",
            "NaN",
            "-Infinity",
            "null",
            "true",
            "false",
            "nul",
            "truex",
            "\"\"",
            "\"x\"",
            "\"a\\\\b\"",
            "\"\\\"\"",
            "\"***\"",
            "\"\u{7f}\"",
            "\"\u{1}\"",
            "\"\u{e9}\"",
            "[]",
            "{}",
            "[1]",
            "",
            "\"postgres://u:secret@h/d\"",
            "\"host=h password=p\"",
            "\"12:30\"",
            "\"open",
        ];
        let spaces = ["", "", "", "", " ", "\n", "\t\r ", "\u{b}"];
        let redactor = redactor();
        let mut written = 0;
        for _ in 0..60_000 {
            let mut text = String::new();
            let space = |text: &mut String, random: &mut ChaCha8Rng| {
                text.push_str(spaces.choose(random).unwrap());
            };
            text.push('{');
            let members = random.random_range(0..4);
            for member in 0..members {
                if member > 0 {
                    text.push(',');
                }
                space(&mut text, &mut random);
                text.push_str(&format!("\"{}\"", keys.choose(&mut random).unwrap()));
                space(&mut text, &mut random);
                text.push(':');
                space(&mut text, &mut random);
                // Mostly what is written here, so that whole objects of it are made.
                let all = if random.random_bool(0.6) { &values[..5] } else { &values[..] };
                text.push_str(all.choose(&mut random).unwrap());
                space(&mut text, &mut random);
            }
            text.push_str(["}", "}", "}", "} ", "}}", ",}", ""].choose(&mut random).unwrap());
            written += u32::from(agrees(text.as_bytes(), None));
            written += u32::from(agrees(text.as_bytes(), Some(&redactor)));
        }
        assert!(written > 5_000, "{written} written");
    }

    #[test]
    fn arbitrary_and_damaged_documents_are_left_alone_or_come_out_as_their_trees_do() {
        let mut generator = Generator::seeded(23);
        let redactor = redactor();
        for _ in 0..5000 {
            agrees(&generator.document(), Some(&redactor));
            agrees(&generator.damaged_document(), None);
        }
    }

    #[test]
    fn the_common_kind_is_written_and_the_rest_is_not() {
        for text in [r#"{"stage": "answer", "n": 1}"#, r#" {"a":-1.50 , "b" :null,"cc":true} "#] {
            assert!(agrees(text.as_bytes(), Some(&redactor())), "{text}");
        }
        let many: Vec<String> = (0..=MEMBERS_MAX).map(|n| format!("\"{n}\":1")).collect();
        let many = format!("{{{}}}", many.join(","));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES_MAX));
        for text in [
            "{}",
            "[]",
            "1",
            r#"{"a":1,"a":2}"#,
            r#"{"a":{}}"#,
            r#"{"a":1e2}"#,
            r#"{"api_key":"x"}"#,
            r#"{"a":"x://u:p@h"}"#,
            "{\"a\":\"\u{e9}\"}",
            "\u{feff}{\"a\":1}",
            &many,
            &long,
        ] {
            assert!(!agrees(text.as_bytes(), Some(&redactor())), "{text}");
        }
    }
}
