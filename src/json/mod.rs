//! A lenient JSON reader for what Python writes, and the text Postgres would store as jsonb.
//!
//! [`parse`] keeps every anomaly (duplicate keys, U+0000, lone surrogates, bytes that are not
//! UTF-8, NaN) so that a policy can decide; [`write_jsonb`] applies the policies and writes the
//! text `jsonb_out` would print; [`to_source_text`] writes a document back without losing any of
//! them.

mod escape;
mod flat;
mod jsonb;
mod lexer;
mod number;
mod parse;
mod pointer;
mod stored;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod jsonb_tests;

pub use escape::to_source_text;
pub(crate) use flat::push_flat_object;
pub use jsonb::{Written, write_jsonb};
pub use lexer::ParseError;
pub use parse::{DEPTH_MAX, Prefix, parse, parse_prefix};
pub use pointer::pointer;

/// A parsed JSON document. Numbers keep their source text; members keep their order and
/// duplicates, so that anomalies can be named before a policy decides about them.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// A number as written, or `NaN`, `Infinity`, `-Infinity` as Python writes them.
    Number(Box<str>),
    /// A string after unescaping. U+0000 is kept as `\0`; lone surrogates are kept as WTF-8.
    String(JsonString),
    /// [..]
    Array(Vec<Json>),
    /// {..} in source order, duplicates included
    Object(Vec<(JsonString, Json)>),
}

/// Unescaped string bytes: UTF-8 except for lone surrogates, which are kept as WTF-8, and for
/// raw bytes that were not UTF-8 in the source, which are kept as they were.
pub type JsonString = Box<[u8]>;

/// Where the records of a document stand in whatever array it has.
pub const ANY_MEMBER: &str = "/*";

impl Json {
    /// The value an RFC 6901 pointer reaches; of duplicate keys the last, as jsonb.
    #[must_use]
    pub fn pointer(&self, path: &str) -> Option<&Self> {
        pointer::pointer(self, path)
    }

    /// The elements of the array at `pointer`; at `/*` ([`ANY_MEMBER`]) those of all arrays that are
    /// members of the document, or of the document itself. None where there is no array.
    #[must_use]
    pub fn records(&self, pointer: &str) -> Option<Vec<&Self>> {
        let arrays: Vec<&Self> = match (pointer, self) {
            (ANY_MEMBER, Self::Object(members)) => {
                members.iter().map(|(_, value)| value).filter(|value| value.is_array()).collect()
            }
            (ANY_MEMBER, document) => vec![document],
            _ => self.pointer(pointer).into_iter().collect(),
        };
        let mut records = Vec::new();
        for array in arrays.iter().filter(|array| array.is_array()) {
            records.extend(array.iter());
        }
        arrays.iter().any(|array| array.is_array()).then_some(records)
    }

    fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    /// The document as compact JSON text that [`parse`] reads back to the same.
    #[must_use]
    pub fn to_source_text(&self) -> Vec<u8> {
        escape::to_source_text(self)
    }

    /// Whether this is JSON null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The value of `true` or `false`.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A string's text, if it is valid UTF-8 (no lone surrogates, no invalid bytes).
    pub fn as_str(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// A string's bytes as [`JsonString`] keeps them.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::String(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A number as the nearest double; NaN and infinities only where the source spells them, so
    /// `1e999` is None rather than an infinity nobody wrote.
    pub fn as_f64(&self) -> Option<f64> {
        let Self::Number(text) = self else { return None };
        let value: f64 = text.parse().ok()?;
        (value.is_finite() || number::is_special(text)).then_some(value)
    }

    /// A number written as an integer (no point, no exponent) that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The number's source text.
    pub fn as_number(&self) -> Option<&str> {
        match self {
            Self::Number(text) => Some(text),
            _ => None,
        }
    }

    /// The member `key` of an object; of duplicates the last, as in Python and jsonb.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.members().iter().rev().find(|(name, _)| **name == *key.as_bytes()).map(|(_, v)| v)
    }

    /// The elements of an array; nothing for any other value.
    pub fn iter(&self) -> std::slice::Iter<'_, Self> {
        match self {
            Self::Array(elements) => elements.iter(),
            _ => [].iter(),
        }
    }

    /// The members of an object in source order, duplicates included; empty for any other value.
    pub fn members(&self) -> &[(JsonString, Self)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }
}

impl<'a> IntoIterator for &'a Json {
    type Item = &'a Json;
    type IntoIter = std::slice::Iter<'a, Json>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.as_bytes().into())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(number.to_string().into()),
            serde_json::Value::String(text) => Self::String(text.into_bytes().into()),
            serde_json::Value::Array(elements) => {
                Self::Array(elements.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (key.into_bytes().into(), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accessors_never_invent_a_value() {
        let document =
            parse(br#"{"a":1,"f":1.0,"big":1e999,"n":-Infinity,"a":2,"s":"x","l":[1,2]}"#).unwrap();
        assert_eq!(document.get("a").unwrap().as_i64(), Some(2));
        assert_eq!(document.get("f").unwrap().as_i64(), None);
        assert_eq!(document.get("f").unwrap().as_f64(), Some(1.0));
        assert_eq!(document.get("big").unwrap().as_f64(), None);
        assert_eq!(document.get("n").unwrap().as_f64(), Some(f64::NEG_INFINITY));
        assert_eq!(document.get("s").unwrap().as_str(), Some("x"));
        assert_eq!(document.get("l").unwrap().iter().count(), 2);
        assert_eq!(document.get("missing"), None);
        assert_eq!(Json::String(vec![0xff].into()).as_str(), None);
        assert_eq!(Json::Number("9223372036854775808".into()).as_i64(), None);
    }

    #[test]
    fn serde_values_become_the_same_document() {
        let text = r#"{"a":[null,true,1,-2.5,"é"]}"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(Json::from(value), parse(text.as_bytes()).unwrap());
    }
}
