//! A lenient JSON reader for what Python writes, and the text Postgres would store as jsonb.

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

/// Unescaped string bytes: UTF-8 except for lone surrogates, which are kept as WTF-8.
pub type JsonString = Box<[u8]>;
