//! A source value seen by a scalar cast, JSON scalars unwrapped.

use crate::json::Json;

use super::value::Value;

/// A source value as scalar casts read it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    /// A JSON number as written, `NaN` and infinities included.
    Number(&'a str),
    Text(&'a [u8]),
    Blob(&'a [u8]),
    /// A JSON array or object.
    Tree(&'a Json),
}

impl<'a> Source<'a> {
    pub(super) fn of(value: Value<'a>) -> Self {
        match value {
            Value::Null | Value::Json(Json::Null) => Self::Null,
            Value::Integer(n) => Self::Integer(n),
            Value::Real(x) => Self::Real(x),
            Value::Text(text) => Self::Text(text),
            Value::Blob(bytes) => Self::Blob(bytes),
            Value::Json(Json::Bool(b)) => Self::Bool(*b),
            Value::Json(Json::Number(text)) => Self::Number(text),
            Value::Json(Json::String(text)) => Self::Text(text),
            Value::Json(tree @ (Json::Array(_) | Json::Object(_))) => Self::Tree(tree),
        }
    }

    /// The class as a person reads it in a refusal.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Bool(_) => "JSON boolean",
            Self::Integer(_) => "INTEGER",
            Self::Real(_) => "REAL",
            Self::Number(_) => "JSON number",
            Self::Text(_) => "text",
            Self::Blob(_) => "BLOB",
            Self::Tree(Json::Array(_)) => "JSON array",
            Self::Tree(_) => "JSON object",
        }
    }
}
