//! Strings out: as Postgres escapes them, and as the source can be read again.

use super::Json;

/// Bytes that Postgres's `escape_json` does not write as they are.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Appends `text` in double quotes, as `escape_json` of Postgres does
/// (`src/backend/utils/adt/json.c`): DEL and everything above ASCII stay raw.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        push_escaped(out, text);
    }
    out.push(b'"');
}

/// ASCII that no escaping and no policy touches: most strings, told in one vectorised pass.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let odd = |byte: u8| {
        u8::from(byte < 0x20) | u8::from(byte >= 0x80) | u8::from(byte == b'"' || byte == b'\\')
    };
    text.iter().fold(0, |found, &byte| found | odd(byte)) == 0
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(plain) = rest.iter().position(|&byte| ESCAPED[usize::from(byte)]) {
        out.extend_from_slice(&rest[..plain]);
        match rest[plain] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => push_unicode_escape(out, u16::from(control)),
        }
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
}

fn push_unicode_escape(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[usize::from((unit >> shift) & 0xf)]);
    }
}

/// Appends a code point; a surrogate is written as WTF-8 writes it, in three bytes.
pub(super) fn push_code_unit(out: &mut Vec<u8>, code: u32) {
    if let Some(character) = char::from_u32(code) {
        let mut buffer = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    } else {
        let tail = |shift: u32| 0x80 | u8::try_from((code >> shift) & 0x3f).unwrap_or(0);
        out.extend_from_slice(&[0xed, tail(6), tail(0)]);
    }
}

/// The surrogate that WTF-8 `bytes` begin with.
fn leading_surrogate(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0xed, middle @ 0xa0..=0xbf, last @ 0x80..=0xbf, ..] => {
            Some(0xd000 | (u16::from(middle & 0x3f) << 6) | u16::from(last & 0x3f))
        }
        _ => None,
    }
}

/// A text that is partly not UTF-8, cut at its faults.
pub(super) struct Faults<'a> {
    rest: &'a [u8],
}

/// Valid text, and the fault behind it: one surrogate or one maximal invalid sequence.
pub(super) struct Faulty<'a> {
    pub(super) valid: &'a [u8],
    pub(super) invalid: &'a [u8],
}

impl<'a> Faults<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Faults<'a> {
    type Item = Faulty<'a>;

    fn next(&mut self) -> Option<Faulty<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (valid, invalid_length) = match std::str::from_utf8(self.rest) {
            Ok(_) => (self.rest.len(), 0),
            Err(error) => {
                let tail = &self.rest[error.valid_up_to()..];
                let length = match leading_surrogate(tail) {
                    Some(_) => 3,
                    None => error.error_len().unwrap_or(tail.len()),
                };
                (error.valid_up_to(), length)
            }
        };
        let (valid, tail) = self.rest.split_at(valid);
        let (invalid, rest) = tail.split_at(invalid_length);
        self.rest = rest;
        Some(Faulty { valid, invalid })
    }
}

/// Compact JSON that [`super::parse`] reads back as an equal document: `NaN` and its like as they
/// are, U+0000 and lone surrogates as escapes, other invalid bytes raw.
pub fn to_source_text(document: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    push_source(&mut out, document);
    out
}

fn push_source(out: &mut Vec<u8>, value: &Json) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(text) => out.extend_from_slice(text.as_bytes()),
        Json::String(text) => push_source_string(out, text),
        Json::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_source(out, element);
            }
            out.push(b']');
        }
        Json::Object(members) => {
            out.push(b'{');
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_source_string(out, key);
                out.push(b':');
                push_source(out, member);
            }
            out.push(b'}');
        }
    }
}

fn push_source_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    // An escaped high surrogate before an escaped low one would be read back as one character;
    // that only happens to bytes which were raw in the source, so the second goes out raw again.
    let mut after_high = false;
    for part in Faults::of(text) {
        push_escaped(out, part.valid);
        after_high &= part.valid.is_empty();
        match leading_surrogate(part.invalid) {
            Some(unit) if unit < 0xdc00 || !after_high => {
                push_unicode_escape(out, unit);
                after_high = unit < 0xdc00;
            }
            _ => {
                out.extend_from_slice(part.invalid);
                after_high = false;
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn control_characters_are_escaped_as_postgres_does_and_nothing_else() {
        let mut out = Vec::new();
        push_quoted(&mut out, "\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}é\u{2028}".as_bytes());
        let expected = "\"\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}é\u{2028}\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_source_text_reads_back_equal() {
        for text in [
            &b"a\0b"[..],
            b"\xed\xa0\x80",
            b"\xed\xb0\x80\xed\xa0\x80",
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xed\xa0\x80x\xed\xb0\x80",
            b"\xed\xa0\x80\xed\xa0\x80\xed\xb0\x80\xed\xb0\x80",
            b"\xff\xed\xa0",
            b"\xed\xa0\x80\xff\xed\xb0\x80",
        ] {
            let document = Json::String(text.into());
            let written = to_source_text(&document);
            assert_eq!(parse(&written).unwrap(), document, "{}", written.escape_ascii());
        }
        let text = br#"{"a":[NaN,-Infinity,1.50,"\u0000\ud800"],"a":{}}"#;
        assert_eq!(to_source_text(&parse(text).unwrap()), text);
    }
}
