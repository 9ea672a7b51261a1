//! uuid.

use super::fault::{Changed, Class, Fault};
use super::field::put;
use super::source::Source;

/// Writes a uuid: 32 hex digits of any case, plain or dashed 8-4-4-4-12, in braces or after
/// `urn:uuid:`; with `from_bytes`, a BLOB of 16 bytes.
pub(super) fn write_uuid(
    source: Source<'_>,
    from_bytes: bool,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let bytes = match source {
        Source::Text(text) => parse(text),
        Source::Blob(bytes) if from_bytes => bytes.try_into().ok(),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| {
        let what = if matches!(source, Source::Blob(_)) {
            "a BLOB is a uuid only by the cast uuid_bytes, and with 16 bytes"
        } else {
            "a uuid has 32 hexadecimal digits, plain or as 8-4-4-4-12"
        };
        Fault::new(Class::Unreadable, "invalid_uuid", what)
    })?;
    put(out, bytes);
    Ok(None)
}

/// Writes the uuid of a name in a namespace (version 5, RFC 9562). The empty text names nothing.
pub(super) fn write_named_uuid(
    source: Source<'_>,
    namespace: &uuid::Uuid,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let name = match source {
        Source::Text([]) => {
            let what = "the empty text names nothing";
            return Err(Fault::new(Class::Unreadable, "invalid_uuid", what));
        }
        Source::Text(text) if std::str::from_utf8(text).is_ok() => text,
        Source::Text(_) => {
            let what = "a name is UTF-8";
            return Err(Fault::new(Class::Unreadable, "invalid_utf8", what));
        }
        _ => return Err(Fault::wrong_type("a uuid is made of a name, which is text")),
    };
    put(out, uuid::Uuid::new_v5(namespace, name).into_bytes());
    Ok(None)
}

fn parse(text: &[u8]) -> Option<[u8; 16]> {
    const PREFIX: &[u8] = b"urn:uuid:";
    let text = match text.split_at_checked(PREFIX.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(PREFIX) => rest,
        _ => match text {
            [b'{', inner @ .., b'}'] => inner,
            _ => text,
        },
    };
    let dashed = match text.len() {
        32 => false,
        36 if [8, 13, 18, 23].iter().all(|at| text[*at] == b'-') => true,
        _ => return None,
    };
    let mut bytes = [0; 16];
    let mut at = 0;
    for byte in &mut bytes {
        if dashed && matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        *byte = nibble(text[at])? << 4 | nibble(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling() {
        let plain = parse(b"a0eebc999c0b4ef8bb6d6bb9bd380a11");
        assert!(plain.is_some());
        for text in [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "{A0EEBC999c0b4ef8bb6d6bb9bd380a11}",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "URN:UUID:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert_eq!(parse(text.as_bytes()), plain, "{text}");
        }
    }

    #[test]
    fn a_name_has_the_id_of_the_standard_s_example() {
        // RFC 9562, A.4.
        let dns = uuid::Uuid::NAMESPACE_DNS;
        let mut out = Vec::new();
        write_named_uuid(Source::Text(b"www.example.com"), &dns, &mut out).unwrap();
        assert_eq!(hex::encode(&out[4..]), "2ed6657de927568b95e12665a8aea6a2");
        assert!(write_named_uuid(Source::Text(b""), &dns, &mut out).is_err());
        assert!(write_named_uuid(Source::Integer(1), &dns, &mut out).is_err());
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "{}",
            "a0eebc99",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            " a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "g0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380-11",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
