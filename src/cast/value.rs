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

impl PgType {
    /// The OID of a built-in type, as canonical rows carry it: `varchar(n)` counts as `text`.
    /// None for enums, extension types and arrays of them.
    #[must_use]
    pub fn oid(&self) -> Option<u32> {
        Some(match self {
            Self::Bool => 16,
            Self::Bytea => 17,
            Self::Int8 => 20,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Text(_) => 25,
            Self::Json => 114,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Inet => 869,
            Self::Date => 1082,
            Self::Time => 1083,
            Self::Timestamp => 1114,
            Self::Timestamptz => 1184,
            Self::Interval => 1186,
            Self::Numeric(_) => 1700,
            Self::Uuid => 2950,
            Self::Jsonb => 3802,
            Self::Array(element) => return element.array_oid(),
            Self::Enum { .. } | Self::Ltree | Self::Other(_) => return None,
        })
    }

    /// The OID of the built-in array of this type.
    fn array_oid(&self) -> Option<u32> {
        Some(match self {
            Self::Bool => 1000,
            Self::Bytea => 1001,
            Self::Int8 => 1016,
            Self::Int2 => 1005,
            Self::Int4 => 1007,
            Self::Text(_) => 1009,
            Self::Json => 199,
            Self::Float4 => 1021,
            Self::Float8 => 1022,
            Self::Inet => 1041,
            Self::Date => 1182,
            Self::Time => 1183,
            Self::Timestamp => 1115,
            Self::Timestamptz => 1185,
            Self::Interval => 1187,
            Self::Numeric(_) => 1231,
            Self::Uuid => 2951,
            Self::Jsonb => 3807,
            Self::Array(_) | Self::Enum { .. } | Self::Ltree | Self::Other(_) => return None,
        })
    }

    /// The type's name for a sentence.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Bool => "boolean".to_owned(),
            Self::Int2 => "smallint".to_owned(),
            Self::Int4 => "integer".to_owned(),
            Self::Int8 => "bigint".to_owned(),
            Self::Float4 => "real".to_owned(),
            Self::Float8 => "double precision".to_owned(),
            Self::Numeric(None) => "numeric".to_owned(),
            Self::Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
            Self::Text(None) => "text".to_owned(),
            Self::Text(Some(limit)) => format!("varchar({limit})"),
            Self::Bytea => "bytea".to_owned(),
            Self::Uuid => "uuid".to_owned(),
            Self::Timestamptz => "timestamptz".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Time => "time".to_owned(),
            Self::Interval => "interval".to_owned(),
            Self::Json => "json".to_owned(),
            Self::Jsonb => "jsonb".to_owned(),
            Self::Array(element) => format!("{}[]", element.name()),
            Self::Enum { name, .. } | Self::Other(name) => name.clone(),
            Self::Ltree => "ltree".to_owned(),
            Self::Inet => "inet".to_owned(),
        }
    }
}
