//! One-dimensional arrays in their binary send form, from JSON arrays.

use super::column::ColumnCast;
use super::fault::{Class, Fault};
use super::field::{begin, end};
use super::note::Note;
use super::source::Source;
use super::value::{PgType, Value};
use crate::json::{self, Json};

/// `varchar`, which has an element OID of its own in arrays.
const VARCHAR: u32 = 1043;

/// The element OID that `array_recv` insists on.
pub(super) fn element_oid(element: &PgType) -> Option<u32> {
    match element {
        PgType::Text(Some(_)) => Some(VARCHAR),
        PgType::Array(_) => None,
        other => other.oid(),
    }
}

/// Writes an array: dimensions, has-null flag, element OID, length, lower bound 1, elements.
/// An empty array has no dimension.
pub(super) fn write_array(
    source: Source<'_>,
    element: &ColumnCast,
    out: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<(), Fault> {
    let parsed;
    let elements = match source {
        Source::Tree(Json::Array(elements)) => elements,
        Source::Text(text) => {
            parsed = json::parse(text).map_err(|error| Fault {
                show_value: false,
                ..Fault::new(Class::Unreadable, "invalid_json", format!("not JSON: {error}"))
            })?;
            match &parsed {
                Json::Array(elements) => elements,
                _ => return Err(Fault::wrong_type("an array is a JSON array")),
            }
        }
        _ => return Err(Fault::wrong_type("an array is a JSON array")),
    };
    let oid = element_oid(element.ty()).unwrap_or(0);
    let at = begin(out);
    let length = i32::try_from(elements.len())
        .map_err(|_| Fault::new(Class::Final, "too_long", "too many elements"))?;
    let has_null = out.len() + 7;
    for word in [i32::from(length > 0).to_be_bytes(), [0; 4], oid.to_be_bytes()] {
        out.extend_from_slice(&word);
    }
    if length > 0 {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
    }
    for (index, value) in elements.iter().enumerate() {
        let (start, earlier) = (out.len(), notes.len());
        element.encode(Value::Json(value), out, notes).map_err(|refusal| Fault {
            show_value: false,
            ..Fault::new(
                Class::Unreadable,
                refusal.reason,
                format!("element {index}: {}", refusal.detail),
            )
        })?;
        if out[start..start + 4] == [0xff; 4] {
            out[has_null] = 1;
        }
        for note in &mut notes[earlier..] {
            note.path = Some(format!("/{index}{}", note.path.as_deref().unwrap_or("")));
        }
    }
    end(out, at)
}
