//! Arrays as the JSON arrays their cast reads.

use super::Stored;
use crate::canonical::display_field;
use crate::cast::value::PgType;

/// The array as a JSON array; nothing for more than one dimension, or a lower bound other than 1.
pub(super) fn documents(element: &PgType, bytes: &[u8]) -> Vec<Stored> {
    elements(element, bytes).map(|text| vec![Stored::text(text)]).unwrap_or_default()
}

fn elements(element: &PgType, bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let dimensions = word(&mut rest)?;
    let (_has_null, _oid) = (word(&mut rest)?, word(&mut rest)?);
    if dimensions == 0 {
        return Some("[]".to_owned());
    }
    let (length, lower) = (word(&mut rest)?, word(&mut rest)?);
    if dimensions != 1 || lower != 1 {
        return None;
    }
    let mut parts = Vec::new();
    for _ in 0..length {
        let Ok(size) = usize::try_from(word(&mut rest)?) else {
            parts.push("null".to_owned());
            continue;
        };
        let (field, after) = rest.split_at_checked(size)?;
        rest = after;
        parts.push(literal(element, field)?);
    }
    // As Python's json.dumps and Postgres's jsonb separate elements.
    Some(format!("[{}]", parts.join(", ")))
}

fn literal(element: &PgType, field: &[u8]) -> Option<String> {
    let shown = match element {
        PgType::Json => return String::from_utf8(field.to_vec()).ok(),
        PgType::Bytea => return None,
        _ => display_field(element, field),
    };
    let is_bare = match element {
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Jsonb => true,
        PgType::Float4 | PgType::Float8 | PgType::Numeric(_) => {
            shown.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        }
        PgType::Bool => return Some(if shown == "t" { "true" } else { "false" }.to_owned()),
        _ => false,
    };
    if is_bare { Some(shown) } else { serde_json::to_string(&shown).ok() }
}

fn word(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}
