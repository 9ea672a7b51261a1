//! How well a column's values can be written back.

use serde::{Deserialize, Serialize};

use crate::cast::column::ColumnCast;
use crate::cast::options::CastName;
use crate::cast::value::PgType;

/// How a stream is written back after the cutover, and how well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reverse {
    /// Not written back.
    None,
    /// As another spelling of the same value: cast again, it gives the identical canonical value.
    Equivalent,
    /// Byte for byte as the source writes it.
    Exact,
}

impl Reverse {
    /// As in `pack.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Equivalent => "equivalent",
            Self::Exact => "exact",
        }
    }
}

/// The strongest way back of a column, and why it is not stronger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Strength {
    /// The way back.
    pub reverse: Reverse,
    /// What prevents a stronger one; empty where it is exact.
    pub reason: String,
}

impl Strength {
    /// A way back and what stands in the way of a stronger one.
    #[must_use]
    pub fn new(reverse: Reverse, reason: impl Into<String>) -> Self {
        Self { reverse, reason: reason.into() }
    }
}

impl ColumnCast {
    /// How well the cast can be undone: exact where every value has one spelling.
    #[must_use]
    pub fn strength(&self) -> Strength {
        let equivalent = |reason: &str| Strength::new(Reverse::Equivalent, reason);
        if self.default_field.is_some() {
            return equivalent("a missing value and the default are stored alike");
        }
        let cast = self.options.cast;
        match &self.ty {
            PgType::Text(_) if cast == Some(CastName::JsonText) => {
                equivalent("documents and their text are stored alike")
            }
            PgType::Text(_)
            | PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Float8
            | PgType::Json
            | PgType::Ltree => Strength::new(Reverse::Exact, ""),
            PgType::Enum { .. } if self.options.aliases.is_empty() => {
                Strength::new(Reverse::Exact, "")
            }
            PgType::Enum { .. } => equivalent("a label and its aliases are stored alike"),
            PgType::Bytea if cast != Some(CastName::ByteaHex) => Strength::new(Reverse::Exact, ""),
            PgType::Bytea => equivalent("hexadecimal digits are read in either case"),
            PgType::Uuid if cast == Some(CastName::UuidBytes) => {
                equivalent("a uuid is read as bytes and as text")
            }
            PgType::Uuid if cast == Some(CastName::UuidV5) => {
                Strength::new(Reverse::None, "no name can be read from the id it gives")
            }
            PgType::Uuid => equivalent("a uuid is read with and without dashes, in either case"),
            PgType::Bool => equivalent("a boolean is read from 0, 1 and from words"),
            PgType::Timestamptz | PgType::Timestamp if self.reading.only_epoch => {
                Strength::new(Reverse::Exact, "")
            }
            PgType::Timestamptz | PgType::Timestamp | PgType::Date | PgType::Time => {
                equivalent("one moment has several texts (separator, fraction, offset)")
            }
            PgType::Jsonb => equivalent("jsonb keeps no white space, order or repeated keys"),
            PgType::Float4 | PgType::Numeric(_) => equivalent("one number has several texts"),
            PgType::Interval => equivalent("one interval has several texts"),
            PgType::Inet => equivalent("one address has several texts"),
            PgType::Array(_) => equivalent("one array has several JSON texts"),
            PgType::Other(_) => equivalent("the server spells its values anew"),
        }
    }
}
