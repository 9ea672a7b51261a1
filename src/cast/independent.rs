//! A second way from a source's raw value to the target's type, written in SQL.
//!
//! Backfill and parity derive with the same casts, so a wrong cast would prove itself right.
//! These expressions let Postgres's own input functions read the raw value; nothing here shares
//! code with the casts.

use super::column::ColumnCast;
use super::options::{CastName, JsonNull};
use super::value::{PgType, Value};
use crate::json::{Json, to_source_text};
use crate::store::quote_literal;

/// A source's value before any cast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Whether it is a BLOB: bytes, not text.
    pub is_blob: bool,
    /// Text as stored, numbers and JSON as text; None: NULL or missing.
    pub bytes: Option<Vec<u8>>,
}

impl ColumnCast {
    /// What the source holds for this column, untouched.
    #[must_use]
    pub fn raw(&self, value: Value<'_>) -> Raw {
        let document = matches!(self.ty, PgType::Json | PgType::Jsonb);
        let bytes = match value {
            Value::Null => None,
            Value::Integer(number) => Some(number.to_string().into_bytes()),
            Value::Real(number) => Some(number_text(number)),
            Value::Text(text) | Value::Blob(text) => Some(text.to_vec()),
            Value::Json(Json::Null) if !document || self.options.json_null == JsonNull::SqlNull => {
                None
            }
            Value::Json(Json::String(text)) if !document => Some(text.to_vec()),
            Value::Json(json) => Some(to_source_text(json)),
        };
        Raw { is_blob: matches!(value, Value::Blob(_)), bytes }
    }

    /// The SQL that reads `raw` (a bytea, NULL where the source has nothing) and `is_blob` (a
    /// boolean) into the column's type; None where there is no second way.
    #[must_use]
    pub fn independent_sql(&self) -> Option<String> {
        let ty = self.sql_type();
        let missing = match &self.options.default {
            Some(text) => match &self.ty {
                // Declared as `{}` or as a JSON array.
                PgType::Array(_) if text.starts_with('[') => self.value_sql(&literal(text)?)?,
                _ => format!("{}::{ty}", literal(text)?),
            },
            None => format!("NULL::{ty}"),
        };
        let value = match (&self.ty, self.options.cast) {
            (PgType::Bytea, Some(CastName::ByteaHex)) => format!(
                "CASE WHEN is_blob THEN raw ELSE \
                 decode(regexp_replace({TEXT}, '^\\\\x', '', 'i'), 'hex') END"
            ),
            (PgType::Bytea, _) => "raw".to_owned(),
            // Postgres has no SHA-1 to make the id a second time.
            (PgType::Uuid, Some(CastName::UuidV5)) => return None,
            (PgType::Uuid, _) => format!(
                "CASE WHEN is_blob THEN encode(raw, 'hex')::uuid ELSE {} END",
                self.value_sql(TEXT)?
            ),
            _ => self.value_sql(TEXT)?,
        };
        Some(format!("CASE WHEN raw IS NULL THEN {missing} ELSE {value} END"))
    }

    /// SQL that reads the text expression `text`.
    fn value_sql(&self, text: &str) -> Option<String> {
        let ty = self.sql_type();
        Some(match &self.ty {
            PgType::Int2 | PgType::Int4 | PgType::Int8 => format!("({text})::numeric::{ty}"),
            PgType::Uuid => format!("regexp_replace({text}, '^urn:uuid:', '', 'i')::uuid"),
            PgType::Timestamptz => self.moment_sql(text)?,
            PgType::Timestamp => match self.unit_micros() {
                Some(micros) => format!(
                    "CASE WHEN {} THEN ({}) AT TIME ZONE 'UTC' ELSE ({text})::timestamp END",
                    is_number(text),
                    from_epoch(text, micros)
                ),
                None => format!("({text})::timestamp"),
            },
            PgType::Date => match self.unit_micros() {
                Some(micros) => format!(
                    "CASE WHEN {} THEN (({}) AT TIME ZONE 'UTC')::date ELSE ({text})::date END",
                    is_number(text),
                    from_epoch(text, micros)
                ),
                None => format!("({text})::date"),
            },
            PgType::Interval if self.options.cast == Some(CastName::IntervalSeconds) => {
                format!("(({text})::numeric::text || ' seconds')::interval")
            }
            PgType::Enum { .. } if !self.options.aliases.is_empty() => {
                let mut arms = String::new();
                for (alias, label) in &self.options.aliases {
                    let (alias, label) = (literal(alias)?, literal(label)?);
                    arms.push_str(&format!(" WHEN {alias} THEN {label}"));
                }
                format!("(CASE {text}{arms} ELSE {text} END)::{ty}")
            }
            PgType::Array(_) => {
                let element = self.element.as_deref()?;
                // A JSON null or a JSON string is a document, where documents are the elements.
                let (function, as_json, value) = match element.ty {
                    PgType::Json => ("json_array_elements", "json", COMPACT_DOCUMENT),
                    PgType::Jsonb => ("jsonb_array_elements", "jsonb", "x::text"),
                    _ => ("jsonb_array_elements_text", "jsonb", "x"),
                };
                format!(
                    "(SELECT coalesce(array_agg({} ORDER BY n), '{{}}'::{ty}) FROM \
                     {function}(({text})::{as_json}) WITH ORDINALITY AS e (x, n))",
                    element.value_sql(value)?
                )
            }
            PgType::Text(_) => text.to_owned(),
            _ => format!("({text})::{ty}"),
        })
    }

    /// Text with an offset says itself which moment it is; without one it is in the declared zone.
    fn moment_sql(&self, text: &str) -> Option<String> {
        let mut arms = String::new();
        if let Some(micros) = self.unit_micros() {
            arms.push_str(&format!(" WHEN {} THEN {}", is_number(text), from_epoch(text, micros)));
        }
        if let Some(zone) = &self.options.zone {
            // Postgres takes the sign of a bare offset the other way round, as POSIX does.
            let zone = if zone.starts_with(['+', '-']) {
                format!("{}::interval", literal(zone)?)
            } else {
                literal(zone)?
            };
            arms.push_str(&format!(
                " WHEN {text} !~* ':.*([+-][0-9]|z)' AND {text} !~* 'infinity' \
                 THEN ({text})::timestamp AT TIME ZONE {zone}"
            ));
        }
        Some(if arms.is_empty() {
            format!("({text})::timestamptz")
        } else {
            format!("CASE{arms} ELSE ({text})::timestamptz END")
        })
    }

    fn unit_micros(&self) -> Option<i64> {
        self.unit().map(super::options::EpochUnit::micros)
    }

    /// The type as SQL names it.
    fn sql_type(&self) -> String {
        match &self.ty {
            PgType::Text(_) => "text".to_owned(),
            other => other.name(),
        }
    }
}

/// The raw bytes as text.
const TEXT: &str = "convert_from(raw, 'UTF8')";

/// The element `x` of a JSON array without its white space, as casts write it, who read the whole
/// array. What is escaped may be written in another way then: that text is made unreadable here,
/// by taking it for hexadecimal digits.
const COMPACT_DOCUMENT: &str = concat!(
    r"CASE WHEN x::text LIKE '%\\%' THEN convert_from(decode(x::text, 'hex'), 'UTF8') ",
    r#"ELSE regexp_replace(x::text, '("[^"]*")|\s+', '\1', 'g') END"#
);

fn is_number(text: &str) -> String {
    format!("{text} ~ '^\\s*[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?\\s*$'")
}

/// Days and microseconds apart: together they would not fit a float exactly.
fn from_epoch(text: &str, micros: i64) -> String {
    let number = format!("round(({text})::numeric * {micros})");
    format!(
        "timestamptz 'epoch' + make_interval(days => div({number}, 86400000000)::int) \
         + mod({number}, 86400000000)::float8 * interval '1 microsecond'"
    )
}

/// A literal; None for text no literal can hold.
fn literal(text: &str) -> Option<String> {
    quote_literal(text).ok()
}

/// A REAL with as many digits as it takes to read it back.
fn number_text(number: f64) -> Vec<u8> {
    if number.is_nan() {
        b"NaN".to_vec()
    } else if number.is_infinite() {
        if number > 0.0 { b"Infinity".to_vec() } else { b"-Infinity".to_vec() }
    } else {
        format!("{number:e}").into_bytes()
    }
}
