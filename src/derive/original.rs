//! The bytes of a record as a reject keeps them: whole, readable, without secrets.

use crate::cast::Value;
use crate::cast::redact::Redactor;
use crate::json::Json;
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
        Content::Json { element, bytes, .. } => match bytes.get() {
            Some(bytes) => document(&bytes, redactor),
            None => document(&element.to_source_text(), redactor),
        },
        Content::Broken { bytes, .. } => document(bytes, redactor),
        Content::Duplicate { of, .. } => (of.as_bytes().to_vec(), false),
    }
}

/// The bytes as they are but for secrets. Where a JSON writer's escapes or a secret member's name
/// keep a secret from being found in the raw bytes, the document is written anew without it.
fn document(bytes: &[u8], redactor: &Redactor) -> (Vec<u8>, bool) {
    let redacted = redactor.redact_text(bytes);
    let removed = redacted.is_some();
    let bytes = redacted.map_or_else(|| bytes.to_vec(), |redacted| redacted.text);
    let Ok(mut json) = crate::json::parse(&bytes) else { return (bytes, removed) };
    if mask(&mut json, redactor) { (json.to_source_text(), true) } else { (bytes, removed) }
}

/// Replaces the secrets in a document's strings; whether there were any.
fn mask(json: &mut Json, redactor: &Redactor) -> bool {
    match json {
        Json::String(text) => {
            let redacted = redactor.redact_text(text);
            let found = redacted.is_some();
            if let Some(redacted) = redacted {
                *text = redacted.text.into();
            }
            found
        }
        Json::Array(elements) => {
            elements.iter_mut().fold(false, |found, element| mask(element, redactor) | found)
        }
        Json::Object(members) => members.iter_mut().fold(false, |found, (key, value)| {
            let secret = match value {
                Json::String(text) => redactor.redact_member(key, text),
                _ => None,
            };
            let here = match secret {
                Some(redacted) => {
                    *value = Json::String(redacted.text.into());
                    true
                }
                None => mask(value, redactor),
            };
            found | here
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
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
            let (text, removed) = document(text, redactor);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> (String, bool) {
        let redactor = Redactor::new([1; 32]).with_members(vec!["api_key".to_owned()]);
        let (bytes, secret) = document(text.as_bytes(), &redactor);
        (String::from_utf8(bytes).unwrap(), secret)
    }

    #[test]
    fn a_document_is_kept_as_it_is_but_for_its_secrets() {
        for plain in ["{ \"a\" : 1.0 }", "not json", "{\"a\": \"http:\\/\\/host\\/\"}"] {
            assert_eq!(kept(plain), (plain.to_owned(), false));
        }
        let slashes = r#"{ "a": "x:\/\/u:pw@h" }"#;
        assert_eq!(kept(slashes), (r#"{ "a": "x:\/\/u:***@h" }"#.to_owned(), true));
        let escaped = r#"{"a": ["x\u003a//u:pw@h", {"API_KEY": "pw", "b": 1.0}]}"#;
        assert_eq!(
            kept(escaped),
            (r#"{"a":["x://u:***@h",{"API_KEY":"***","b":1.0}]}"#.to_owned(), true)
        );
    }
}
