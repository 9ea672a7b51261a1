//! Kept records in a form that a person can correct, and back.

use std::io::BufRead;

use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;

/// A kept record as one line of JSON: columns and JSON documents as they are, other text as a
/// string, other bytes as `{"$text_hex": "..."}`.
#[must_use]
pub fn editable(bytes: &[u8]) -> String {
    let as_json = crate::json::parse(bytes).ok().and_then(|json| {
        let text = String::from_utf8(json.to_source_text()).ok()?;
        // A document that is itself a string, or not quite JSON, could not be told from text.
        let is_strict = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        (is_strict && !matches!(json, Json::String(_))).then_some(text)
    });
    as_json.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::Value::from(text).to_string(),
        Err(_) => serde_json::json!({ "$text_hex": hex::encode(bytes) }).to_string(),
    })
}

/// The bytes that an editable record stands for.
#[must_use]
pub(super) fn bytes_of(record: &Json) -> Vec<u8> {
    match record {
        Json::String(text) => text.to_vec(),
        Json::Object(members) => match members.as_slice() {
            [(name, Json::String(hex))] if &**name == b"$text_hex" => {
                hex::decode(hex).unwrap_or_else(|_| record.to_source_text())
            }
            _ => record.to_source_text(),
        },
        other => other.to_source_text(),
    }
}

/// A corrected record, by the number of its reject.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrectedLine {
    /// The reject.
    pub id: i64,
    /// The record's bytes.
    pub record: Vec<u8>,
}

/// Reads a file of corrected records: lines as `rejects export` writes them, of which `id` and
/// `record` count.
pub fn corrected_lines(file: &std::path::Path) -> Result<Vec<CorrectedLine>> {
    let unreadable = |error: std::io::Error| {
        let detail = format!("{} cannot be read: {error}", file.display());
        Error::new(ErrorKind::Usage, detail)
            .because(error)
            .advice("`toolkit rejects export --out FILE` writes one; correct `record` in its lines")
    };
    let reader = std::fs::File::open(file).map_err(unreadable)?;
    let mut lines: Vec<CorrectedLine> = Vec::new();
    for (at, line) in std::io::BufReader::new(reader).split(b'\n').enumerate() {
        let line = line.map_err(unreadable)?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let refuse = |what: &str| {
            let detail = format!("{}, line {}: {what}", file.display(), at + 1);
            Error::new(ErrorKind::Usage, detail)
                .advice("each line is an object with `id` and `record`, as `rejects export` writes")
        };
        let json = crate::json::parse(&line).map_err(|error| refuse(&error.to_string()))?;
        let id = json.get("id").and_then(Json::as_i64).ok_or_else(|| refuse("there is no `id`"))?;
        let record = json.get("record").ok_or_else(|| refuse("there is no `record`"))?;
        if lines.iter().any(|earlier| earlier.id == id) {
            return Err(refuse(&format!("reject {id} is there twice")));
        }
        lines.push(CorrectedLine { id, record: bytes_of(record) });
    }
    if lines.is_empty() {
        let detail = format!("{} holds no corrected record", file.display());
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice("its lines are those of `rejects export`, with `record` corrected"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_read_back_as_it_was() {
        for (bytes, line) in [
            (&br#"{"id":1,"x":{"$blob_hex":"ff00"},"r":1.0}"#[..], None),
            (b"[1, 2]", Some("[1,2]")),
            (b"not json", Some("\"not json\"")),
            (b"\"text\"", Some(r#""\"text\"""#)),
            (b"{\"a\":NaN}", Some(r#""{\"a\":NaN}""#)),
            (b"\xff", Some(r#"{"$text_hex":"ff"}"#)),
        ] {
            let text = editable(bytes);
            assert_eq!(text, line.unwrap_or(std::str::from_utf8(bytes).unwrap_or_default()));
            assert!(!text.contains('\n'));
            let back = bytes_of(&crate::json::parse(text.as_bytes()).unwrap());
            assert_eq!(editable(&back), text);
        }
    }
}
