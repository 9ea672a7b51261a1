//! The bytes of a record as a reject keeps them: whole, readable, without secrets.

use crate::cast::Value;
use crate::cast::redact::Redactor;
use crate::source::Content;

/// The original bytes of a record, and whether a secret was removed from them.
///
/// Columns become one JSON object: text that is UTF-8 as a string, other text as
/// `{"$text_hex": ...}`, blobs as `{"$blob_hex": ...}`, infinities as `{"$real": ...}`. Documents
/// are kept as they are.
#[must_use]
pub fn original_bytes(content: &Content<'_>, redactor: &Redactor) -> (Vec<u8>, bool) {
    match content {
        Content::Columns { names, values, .. } => columns(names, values, redactor),
        Content::Json { bytes, .. } | Content::Broken { bytes, .. } => document(bytes, redactor),
        Content::Duplicate { of, .. } => (of.as_bytes().to_vec(), false),
    }
}

fn document(bytes: &[u8], redactor: &Redactor) -> (Vec<u8>, bool) {
    // Escaped slashes would hide a URL from the redactor.
    let escaped = bytes.windows(4).any(|window| window == b"\\/\\/");
    if escaped {
        return (Vec::new(), true);
    }
    match redactor.redact_text(bytes) {
        Some(redacted) => (redacted.text, true),
        None => (bytes.to_vec(), false),
    }
}

fn columns(names: &[String], values: &[Value<'_>], redactor: &Redactor) -> (Vec<u8>, bool) {
    let mut secret = false;
    let mut object = serde_json::Map::new();
    for (name, value) in names.iter().zip(values) {
        let (json, removed) = column(value, redactor);
        secret |= removed;
        object.insert(name.clone(), json);
    }
    (serde_json::Value::Object(object).to_string().into_bytes(), secret)
}

fn column(value: &Value<'_>, redactor: &Redactor) -> (serde_json::Value, bool) {
    use serde_json::json;
    match value {
        Value::Null => (serde_json::Value::Null, false),
        Value::Integer(number) => (json!(number), false),
        Value::Real(number) if number.is_finite() => (json!(number), false),
        Value::Real(number) => (json!({ "$real": number.to_string() }), false),
        Value::Text(text) => {
            let redacted = redactor.redact_text(text);
            let removed = redacted.is_some();
            let text = redacted.map_or_else(|| text.to_vec(), |redacted| redacted.text);
            match String::from_utf8(text) {
                Ok(text) => (json!(text), removed),
                Err(error) => (json!({ "$text_hex": hex::encode(error.as_bytes()) }), removed),
            }
        }
        Value::Blob(blob) => {
            let redacted = redactor.redact_text(blob);
            let removed = redacted.is_some();
            let bytes = redacted.map_or_else(|| blob.to_vec(), |redacted| redacted.text);
            (json!({ "$blob_hex": hex::encode(bytes) }), removed)
        }
        Value::Json(json) => {
            let (bytes, removed) = document(&json.to_source_text(), redactor);
            (json!(String::from_utf8_lossy(&bytes)), removed)
        }
    }
}
