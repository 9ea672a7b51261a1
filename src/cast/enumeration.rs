//! Enums: a label as it is, or by a declared alias.

use std::collections::BTreeMap;

use super::decimal::ShortText;
use super::fault::{Changed, Class, Fault};
use super::field::put_bytes;
use super::source::Source;

/// Writes a label. Text is a label or an alias; other scalars are labels only through an alias of
/// their text. Case counts.
pub(super) fn write_enum(
    source: Source<'_>,
    name: &str,
    labels: &[String],
    aliases: &BTreeMap<String, String>,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let short;
    let (text, may_be_label) = match source {
        Source::Text(text) => (text, true),
        Source::Integer(n) => {
            short = ShortText::integer(n);
            (short.bytes(), false)
        }
        Source::Real(x) => {
            short = ShortText::float8(x);
            (short.bytes(), false)
        }
        Source::Number(text) => (text.as_bytes(), false),
        Source::Bool(value) => (if value { &b"true"[..] } else { b"false" }, false),
        Source::Null | Source::Blob(_) | Source::Tree(_) => {
            return Err(Fault::wrong_type(format!("a label of {name} is text")));
        }
    };
    if may_be_label && labels.iter().any(|label| label.as_bytes() == text) {
        put_bytes(out, text)?;
        return Ok(None);
    }
    let alias = std::str::from_utf8(text).ok().and_then(|text| aliases.get(text));
    let label = alias.ok_or_else(|| {
        let what = format!("neither a label of {name} nor an alias ({})", some_of(labels));
        Fault::new(Class::Unreadable, "unknown_label", what)
    })?;
    put_bytes(out, label.as_bytes())?;
    Ok(None)
}

fn some_of(labels: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let mut list = labels.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    if labels.len() > SHOWN_MAX {
        list.push_str(", ...");
    }
    list
}
