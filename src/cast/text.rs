//! text, varchar, enum labels, ltree and bytea.

use std::borrow::Cow;

use memchr::memchr;

use super::decimal::ShortText;
use super::fault::{Changed, Class, Fault};
use super::field::{begin, end, put_bytes};
use super::note::{Note, Original, Policies, Policy};
use super::options::CastName;
use super::redact::Redactor;
use super::source::Source;
use crate::json::{Json, to_source_text};

/// How a text column stores its values.
pub(super) struct TextRules<'a> {
    /// Limit in characters.
    pub(super) limit: Option<u32>,
    /// Arrays and objects are stored as JSON text.
    pub(super) json_text: bool,
    pub(super) policies: &'a Policies,
    pub(super) redactor: Option<&'a Redactor>,
}

/// Writes text; what was changed is noted here, because there may be several changes.
pub(super) fn write_text(
    source: Source<'_>,
    rules: &TextRules<'_>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<(), Fault> {
    let short;
    let text = match source {
        Source::Text(text) => return store(text, rules, out, notes),
        Source::Integer(n) => {
            short = ShortText::integer(n);
            short.bytes()
        }
        Source::Real(x) => {
            short = ShortText::float8(x);
            short.bytes()
        }
        Source::Number(text) => text.as_bytes(),
        Source::Bool(value) => {
            if value {
                &b"true"[..]
            } else {
                b"false"
            }
        }
        Source::Tree(tree) if rules.json_text => return store_tree(tree, rules, out, notes),
        Source::Tree(_) => {
            return Err(Fault::wrong_type("a text column takes it only by the cast json_text"));
        }
        Source::Blob(_) => return Err(Fault::wrong_type("a BLOB in a text column")),
        Source::Null => return Err(Fault::wrong_type("text is expected")),
    };
    store(text, rules, out, notes)?;
    let original = Original::Bytes(text.to_vec());
    notes.push(Note { rule: "class_to_text", path: None, original });
    Ok(())
}

/// JSON text keeps U+0000 and lone surrogates as escapes, which text holds well.
fn store_tree(
    tree: &Json,
    rules: &TextRules<'_>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<(), Fault> {
    let Some(redactor) = rules.redactor else {
        return store(&to_source_text(tree), rules, out, notes);
    };
    let mut tree = tree.clone();
    super::document::redact(&mut tree, redactor, notes);
    // Members were redacted by their names; redacting the text again could break its escapes.
    let rules = TextRules { redactor: None, ..*rules };
    store(&to_source_text(&tree), &rules, out, notes)
}

fn store(
    source: &[u8],
    rules: &TextRules<'_>,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<(), Fault> {
    let mut text = Cow::Borrowed(source);
    let mut secret = None;
    let redacted = rules.redactor.and_then(|redactor| redactor.redact_text(source));
    // A character has at least one byte.
    let is_short = rules.limit.is_none_or(|limit| source.len() <= limit as usize);
    if redacted.is_none() && is_short && is_common(source) {
        return put_bytes(out, source);
    }
    if let Some(redacted) = redacted {
        text = Cow::Owned(redacted.text);
        secret = Some(redacted.secret_hash);
    }
    let note = |rule| Note {
        rule,
        path: None,
        original: secret.map_or_else(|| Original::Bytes(source.to_vec()), Original::Secret),
    };
    if secret.is_some() {
        notes.push(note("redact_url_password"));
    }
    if std::str::from_utf8(&text).is_err() {
        if rules.policies.invalid_utf8 != Policy::Replace {
            return Err(Fault::new(Class::InvalidUtf8, "invalid_utf8", "not UTF-8"));
        }
        text = Cow::Owned(valid_utf8(&text));
        notes.push(note("invalid_utf8"));
    }
    if memchr(0, &text).is_some() {
        if rules.policies.nul != Policy::Replace {
            return Err(Fault::new(Class::Nul, "nul", "Postgres's text has no U+0000"));
        }
        text = Cow::Owned(without_nul(&text));
        notes.push(note("nul"));
    }
    if let Some(limit) = rules.limit
        && let Some(end) = beyond(&text, limit)
    {
        if rules.policies.too_long != Policy::Replace {
            let what = format!("longer than {limit} characters");
            return Err(Fault::new(Class::TooLong, "too_long", what));
        }
        text = Cow::Owned(text[..end].to_vec());
        notes.push(note("too_long"));
    }
    put_bytes(out, &text)
}

/// ASCII without U+0000, told in one vectorised pass: what no policy is about.
fn is_common(text: &[u8]) -> bool {
    text.iter().fold(0, |found, byte| found | u8::from(byte.wrapping_sub(1) >= 0x7f)) == 0
}

/// Bytes of the first `limit` characters, when there are more.
fn beyond(text: &[u8], limit: u32) -> Option<usize> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if text.len() <= limit {
        return None;
    }
    text.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80).nth(limit).map(|(at, _)| at)
}

/// U+FFFD for each fault: one surrogate, or one maximal invalid sequence.
pub(super) fn valid_utf8(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    let mut rest = text;
    while let Err(error) = std::str::from_utf8(rest) {
        let (valid, tail) = rest.split_at(error.valid_up_to());
        out.extend_from_slice(valid);
        out.extend_from_slice("\u{fffd}".as_bytes());
        let length = match tail {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            _ => error.error_len().unwrap_or(tail.len()),
        };
        rest = &tail[length..];
    }
    out.extend_from_slice(rest);
    out
}

/// U+FFFD for each U+0000.
pub(super) fn without_nul(text: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == 0).collect::<Vec<_>>().join("\u{fffd}".as_bytes())
}

/// Writes bytea: a BLOB as it is, or text by a declared cast.
pub(super) fn write_bytea(
    source: Source<'_>,
    cast: Option<CastName>,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    match (source, cast) {
        (Source::Blob(bytes), _) => put_bytes(out, bytes)?,
        (Source::Text(text), Some(CastName::ByteaText)) => put_bytes(out, text)?,
        // The class is lost in the bytes, so the ledger keeps it.
        (Source::Integer(n), Some(CastName::ByteaText)) => {
            put_bytes(out, ShortText::integer(n).bytes())?;
            return Ok(Some("class_to_text"));
        }
        (Source::Real(x), Some(CastName::ByteaText)) => {
            put_bytes(out, ShortText::float8(x).bytes())?;
            return Ok(Some("class_to_text"));
        }
        (Source::Text(text), Some(CastName::ByteaHex)) => {
            let digits = text.strip_prefix(b"\\x").unwrap_or(text);
            let bytes = hex::decode(digits)
                .map_err(|_| Fault::wrong_type("not pairs of hexadecimal digits"))?;
            put_bytes(out, &bytes)?;
        }
        _ => {
            let what = "a bytea column takes a BLOB, or text by bytea_text or bytea_hex";
            return Err(Fault::wrong_type(what));
        }
    }
    Ok(None)
}

/// Writes ltree: version byte 1 and the text. Which letters a label may have depends on the
/// server's version and locale, so beyond ASCII (and for `-`) the server decides.
pub(super) fn write_ltree(source: Source<'_>, out: &mut Vec<u8>) -> Result<Changed, Fault> {
    let invalid = || {
        let what = "an ltree is labels of letters, digits and _ joined by dots";
        Fault::new(Class::Unreadable, "invalid_ltree", what)
    };
    let Source::Text(text) = source else { return Err(Fault::wrong_type("an ltree is text")) };
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | 0x80..);
    let labels = |text: &[u8]| {
        text.split(|byte| *byte == b'.')
            .all(|label| !label.is_empty() && label.len() <= 1000 && label.iter().all(known))
    };
    if std::str::from_utf8(text).is_err() || !(text.is_empty() || labels(text)) {
        return Err(invalid());
    }
    let at = begin(out);
    out.push(1);
    out.extend_from_slice(text);
    end(out, at)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_one_replacement() {
        assert_eq!(valid_utf8(b"a\xed\xa0\x80b"), "a\u{fffd}b".as_bytes());
        assert_eq!(valid_utf8(b"\xff\xfe"), "\u{fffd}\u{fffd}".as_bytes());
        assert_eq!(valid_utf8(b"\xe2\x82"), "\u{fffd}".as_bytes());
        assert_eq!(without_nul(b"\0a\0"), "\u{fffd}a\u{fffd}".as_bytes());
    }

    #[test]
    fn common_text_is_what_no_policy_is_about() {
        for byte in 0..=u8::MAX {
            for text in [
                vec![byte],
                [&b"a long enough text, of more than one register "[..], &[byte, b'z']].concat(),
            ] {
                assert_eq!(is_common(&text), byte.is_ascii() && byte != 0, "{byte:#x}");
            }
        }
        assert!(is_common(b""));
    }

    #[test]
    fn limits_count_characters() {
        assert_eq!(beyond("äöü".as_bytes(), 3), None);
        assert_eq!(beyond("äöü".as_bytes(), 2), Some(4));
        assert_eq!(beyond(b"abc", 0), Some(0));
    }
}
