//! A record that was kept whole, as a record again: what a reject stores, and what a person makes
//! of it.

use std::sync::Arc;

use crate::cast::{Refusal, Value};
use crate::derive::original_bytes;
use crate::json::Json;
use crate::pack::plan::{SourceKind, StreamPlan};
use crate::source::{Content, Locator, Position, RawBytes, SourceFile, SourceRecord};

/// One value of a kept record.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// A kept record.
#[derive(Debug)]
pub struct HeldRecord {
    file: SourceFile,
    locator: Locator,
    content: Held,
}

#[derive(Debug)]
enum Held {
    Columns { names: Arc<[String]>, cells: Vec<Cell> },
    Document { json: Json, bytes: Vec<u8>, is_whole: bool },
    Broken { bytes: Vec<u8>, refusal: Refusal },
}

impl HeldRecord {
    /// Reads a kept record of `stream`: an object of columns as [`original_bytes`] writes it, or
    /// the bytes of a document, of a line, or of one record of a document's array. `locator` is that
    /// of the record or of a row made of it.
    ///
    /// Errors: one sentence about what cannot be read.
    pub fn read(
        stream: &StreamPlan,
        source: &str,
        locator: &str,
        sha256: &str,
        bytes: &[u8],
    ) -> Result<Self, String> {
        let locator = locator_of(locator).ok_or_else(|| {
            format!("`{locator}` is a place that no stored record can be read for")
        })?;
        let file = SourceFile {
            path: source.into(),
            relative: source.to_owned(),
            sha256: sha256.to_owned(),
            size_bytes: bytes.len() as u64,
        };
        let content = match &stream.source {
            SourceKind::Sqlite { .. } | SourceKind::Csv { .. } => columns(bytes)?,
            SourceKind::Json { records, .. } => document(bytes, records.as_deref(), &locator)?,
            SourceKind::Jsonl { .. } => document(bytes, None, &locator)?,
        };
        Ok(Self { file, locator, content })
    }

    /// Hands the record to whoever reads records.
    pub fn with<T>(&self, read: impl FnOnce(&SourceRecord<'_>) -> T) -> T {
        let position = Position::Ordinal(0);
        let values: Vec<Value<'_>>;
        let content = match &self.content {
            Held::Columns { names, cells } => {
                values = cells.iter().map(Cell::value).collect();
                Content::Columns { names, values: &values, companion: None }
            }
            Held::Document { json, bytes, is_whole } => Content::Json {
                element: json,
                root: if *is_whole { json } else { &NOT_KEPT },
                bytes: RawBytes::Held(bytes),
            },
            Held::Broken { bytes, refusal } => Content::Broken { bytes, refusal: refusal.clone() },
        };
        read(&SourceRecord { file: &self.file, locator: self.locator.clone(), position, content })
    }

    /// The record as a reject keeps it, without secrets.
    #[must_use]
    pub fn bytes(&self, redactor: &crate::cast::redact::Redactor) -> Vec<u8> {
        self.with(|record| original_bytes(&record.content, redactor).0)
    }

    /// Names of its columns; none of a document.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        match &self.content {
            Held::Columns { names, .. } => names,
            Held::Document { .. } | Held::Broken { .. } => &[],
        }
    }
}

/// What stands beside a record of an array.
static NOT_KEPT: Json = Json::Null;

/// Names of the columns that a kept record has; none if it is no object of columns.
#[must_use]
pub fn held_columns(bytes: &[u8]) -> Vec<String> {
    match columns(bytes) {
        Ok(Held::Columns { names, .. }) => names.to_vec(),
        _ => Vec::new(),
    }
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(n) => Value::Integer(*n),
            Self::Real(x) => Value::Real(*x),
            Self::Text(text) => Value::Text(text),
            Self::Blob(blob) => Value::Blob(blob),
        }
    }

    fn of(json: &Json) -> Result<Self, String> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Integer(i64::from(*flag)),
            Json::Number(text) => match text.parse::<i64>() {
                Ok(number) => Self::Integer(number),
                Err(_) => Self::Real(
                    text.parse().map_err(|_| format!("the number {text} cannot be read"))?,
                ),
            },
            Json::String(text) => Self::Text(text.to_vec()),
            Json::Array(_) => Self::Text(json.to_source_text()),
            Json::Object(members) => match members.as_slice() {
                [(name, Json::String(text))] => match (&**name, std::str::from_utf8(text)) {
                    (b"$text_hex", Ok(hex)) => Self::Text(bytes_of(hex)?),
                    (b"$blob_hex", Ok(hex)) => Self::Blob(bytes_of(hex)?),
                    (b"$real", Ok(text)) => Self::Real(
                        text.parse().map_err(|_| format!("$real: `{text}` is no number"))?,
                    ),
                    _ => Self::Text(json.to_source_text()),
                },
                _ => Self::Text(json.to_source_text()),
            },
        })
    }
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|_| "bytes are given as pairs of hexadecimal digits".to_owned())
}

fn columns(bytes: &[u8]) -> Result<Held, String> {
    let Ok(Json::Object(members)) = crate::json::parse(bytes) else {
        return Err("a record of a table is an object of its columns".to_owned());
    };
    let mut names = Vec::with_capacity(members.len());
    let mut cells = Vec::with_capacity(members.len());
    for (name, value) in &members {
        let name = String::from_utf8_lossy(name).into_owned();
        cells.push(Cell::of(value).map_err(|what| format!("column {name}: {what}"))?);
        names.push(name);
    }
    Ok(Held::Columns { names: names.into(), cells })
}

/// A document, or a record of one: that is kept without what stands around it.
fn document(bytes: &[u8], records: Option<&str>, locator: &Locator) -> Result<Held, String> {
    let is_whole = match (records, locator) {
        (None, _) => true,
        (Some(_), Locator::Element(_)) => false,
        (Some(_), _) => {
            return Err("the whole document was refused: correct the file itself".to_owned());
        }
    };
    match crate::json::parse(bytes) {
        Ok(json) => Ok(Held::Document { json, bytes: bytes.to_vec(), is_whole }),
        Err(error) if is_whole => {
            let refusal = Refusal::new("invalid_json", error.to_string());
            Ok(Held::Broken { bytes: bytes.to_vec(), refusal })
        }
        Err(error) => Err(format!("the record is no JSON: {error}")),
    }
}

/// The record's place in the text of a locator, which may go on with a row made of it.
fn locator_of(text: &str) -> Option<Locator> {
    let number = |rest: &str| rest.split(',').next().and_then(|digits| digits.parse().ok());
    if let Some(rest) = text.strip_prefix("rowid ") {
        let first = rest.split(',').next()?;
        return first.parse().ok().map(Locator::Rowid);
    }
    if let Some(rest) = text.strip_prefix("row ") {
        return number(rest).map(Locator::Ordinal);
    }
    if let Some(rest) = text.strip_prefix("record ") {
        return number(rest).map(Locator::Element);
    }
    if let Some(rest) = text.strip_prefix("line ") {
        return number(rest).map(Locator::Line);
    }
    if let Some(rest) = text.strip_prefix("key ") {
        return Some(Locator::Key(rest.to_owned()));
    }
    text.starts_with("document").then_some(Locator::Document)
}
