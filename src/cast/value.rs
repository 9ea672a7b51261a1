//! Source values and target types.

use crate::json::Json;

/// A value as a source yields it, borrowed from the reader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL, a missing JSON member or JSON null at a column (a jsonb column keeps JSON null
    /// apart through [`Value::Json`]).
    Null,
    /// `SQLite` INTEGER.
    Integer(i64),
    /// `SQLite` REAL.
    Real(f64),
    /// `SQLite` TEXT or a CSV field: bytes as stored, UTF-8 not yet checked.
    Text(&'a [u8]),
    /// `SQLite` BLOB.
    Blob(&'a [u8]),
    /// A value inside a parsed JSON document.
    Json(&'a Json),
}

/// Postgres types a cast can target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PgType {
    /// boolean
    Bool,
    /// smallint
    Int2,
    /// integer
    Int4,
    /// bigint
    Int8,
    /// real
    Float4,
    /// double precision
    Float8,
    /// numeric, with precision and scale when declared
    Numeric(Option<(u16, i16)>),
    /// text; `varchar(n)` with its limit in characters
    Text(Option<u32>),
    /// bytea
    Bytea,
    /// uuid
    Uuid,
    /// timestamptz: microseconds since 2000-01-01 UTC
    Timestamptz,
    /// timestamp without time zone
    Timestamp,
    /// date: days since 2000-01-01
    Date,
    /// time without time zone
    Time,
    /// interval
    Interval,
    /// json, kept as its own text
    Json,
    /// jsonb, canonicalised as Postgres would store it
    Jsonb,
    /// one-dimensional array of a type
    Array(Box<PgType>),
    /// enum with its labels in order; travels as text
    Enum {
        /// schema-qualified, as `format_type` prints it
        name: String,
        /// labels in sort order
        labels: Vec<String>,
    },
    /// ltree; travels as version byte 1 and text
    Ltree,
    /// inet
    Inet,
    /// any other type: only its text form is known, and SQL casts it
    Other(String),
}
