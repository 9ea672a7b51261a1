//! One target column: every source value becomes a binary COPY field, a field with notes, or a
//! refusal.

use std::borrow::Cow;
use std::sync::Arc;

use super::array::write_array;
use super::decimal::ShortText;
use super::document::{DocumentRules, Stored, secret_of, write_document};
use super::enumeration::write_enum;
use super::fault::{Class, Fault};
use super::field::{put_bytes, put_null};
use super::inet::write_inet;
use super::interval::write_interval;
use super::note::{Note, Original, Policy, Refusal};
use super::number::{Width, write_bool, write_float4, write_float8, write_integer};
use super::numeric::write_numeric;
use super::options::{CastName, CastOptions, EmptyText, EpochUnit, UnitHint};
use super::redact::Redactor;
use super::source::Source;
use super::spelling::{Spelling, Unspelled};
use super::text::{TextRules, write_bytea, write_ltree, write_text};
use super::timestamp::{
    Reading, suggested_unit, write_date, write_time, write_timestamp, write_timestamptz,
};
use super::uuid::{write_named_uuid, write_uuid};
use super::validate;
use super::value::{PgType, Value};
use crate::json::{self, to_source_text};

/// How one target column is made from one source value.
///
/// Total: every [`Value`] has a defined outcome for every [`PgType`]. The hot paths (integers,
/// text, ISO timestamps, empty documents) allocate nothing beside the output.
#[derive(Debug, Clone)]
pub struct ColumnCast {
    pub(super) column: String,
    pub(super) ty: PgType,
    pub(super) nullable: bool,
    pub(super) options: CastOptions,
    pub(super) redactor: Option<Arc<Redactor>>,
    /// Where the server is at hand: how it writes what is known only as text.
    pub(super) spelling: Option<Arc<dyn Spelling>>,
    /// Zone and unit of timestamps.
    pub(super) reading: Reading,
    /// The cast of an array's elements.
    pub(super) element: Option<Box<ColumnCast>>,
    /// The namespace of ids made from names.
    pub(super) namespace: Option<uuid::Uuid>,
    /// The field stored for a missing value.
    pub(super) default_field: Option<Vec<u8>>,
    /// A bug planted by the verifier's own test.
    pub(super) planted: Option<super::planted::Bug>,
}

impl ColumnCast {
    /// A column's cast; combinations that cannot work are refused as [`crate::ErrorKind::Pack`]:
    /// a cast, zone, unit or aliases on a type that has no use for them, a policy that stores NULL
    /// in a column without NULL, a replacement where there is none, an unreadable default.
    pub fn new(
        column: &str,
        ty: PgType,
        nullable: bool,
        options: CastOptions,
        redactor: Option<Arc<Redactor>>,
    ) -> crate::Result<Self> {
        validate::compile(column, ty, nullable, options, redactor)
    }

    /// The column's name.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }

    /// What becomes of a foreign key that leads to no row.
    #[must_use]
    pub fn orphan(&self) -> Policy {
        self.options.on.orphan
    }

    /// The target type.
    #[must_use]
    pub fn ty(&self) -> &PgType {
        &self.ty
    }

    /// The declared unit of numeric timestamps.
    #[must_use]
    pub fn unit(&self) -> Option<EpochUnit> {
        self.reading.unit
    }

    /// Whether the unit of numeric timestamps is to be found in the column itself.
    #[must_use]
    pub fn infers_unit(&self) -> bool {
        self.options.infer_unit
    }

    /// Whether secrets are removed from its values.
    #[must_use]
    pub fn redacts(&self) -> bool {
        self.storing_redactor().is_some()
    }

    /// Sets the unit that was inferred; None leaves numbers refused.
    pub fn set_unit(&mut self, unit: Option<EpochUnit>) {
        self.reading.unit = unit;
    }

    /// Lets the server spell the values of a type that is known only as text.
    pub fn set_spelling(&mut self, spelling: Arc<dyn Spelling>) {
        self.spelling = Some(spelling);
    }

    /// The text stored for a missing value, of a type that is known only as text.
    pub fn default_text(&mut self) -> Option<&mut Vec<u8>> {
        self.default_field.as_mut().filter(|_| matches!(self.ty, PgType::Other(_)))
    }

    /// What a value says about the unit of the column.
    #[must_use]
    pub fn suggested_unit(value: Value<'_>) -> UnitHint {
        suggested_unit(Source::of(value))
    }

    /// Appends the binary COPY field of `value`: a big-endian `i32` length (-1 for NULL) and the
    /// type's send form, and a note for everything that was stored changed. On a refusal `out`
    /// and `notes` are as before.
    pub fn encode(
        &self,
        value: Value<'_>,
        out: &mut Vec<u8>,
        notes: &mut Vec<Note>,
    ) -> Result<(), Refusal> {
        let (length, earlier) = (out.len(), notes.len());
        let Err(fault) = self.write(value, out, notes) else {
            if let Some(bug) = self.planted {
                bug.distort(out, length);
            }
            return Ok(());
        };
        out.truncate(length);
        notes.truncate(earlier);
        if self.policy(fault.class) == Policy::Null {
            put_null(out);
            notes.push(self.note(fault.reason, value));
            return Ok(());
        }
        Err(self.refusal(fault, value))
    }

    fn policy(&self, class: Class) -> Policy {
        let on = &self.options.on;
        match class {
            Class::Nul => on.nul,
            Class::Nan => on.nan,
            Class::InvalidUtf8 => on.invalid_utf8,
            Class::Overflow => on.overflow,
            Class::TooLong => on.too_long,
            Class::Unreadable => on.unreadable,
            Class::Final => Policy::Reject,
        }
    }

    fn write(
        &self,
        value: Value<'_>,
        out: &mut Vec<u8>,
        notes: &mut Vec<Note>,
    ) -> Result<(), Fault> {
        let source = Source::of(value);
        let document = matches!(self.ty, PgType::Json | PgType::Jsonb);
        if matches!(source, Source::Null) && !document {
            return self.write_missing(out);
        }
        // The JSON string "" is a document like any other.
        let empty = match value {
            Value::Json(_) if document => false,
            _ => matches!(source, Source::Text(b"")),
        };
        if empty && self.options.empty == Some(EmptyText::Null) {
            put_null(out);
            notes.push(self.note("empty_to_null", value));
            return Ok(());
        }
        let changed = match &self.ty {
            PgType::Json | PgType::Jsonb => {
                return match write_document(value, &self.document_rules(), out, notes)? {
                    Stored::Written => Ok(()),
                    Stored::Missing => self.write_missing(out),
                };
            }
            PgType::Text(limit) => return write_text(source, &self.text_rules(*limit), out, notes),
            PgType::Other(ty) => return self.write_spelled(ty, value, out, notes),
            PgType::Array(_) => {
                let element = self.element.as_deref().ok_or_else(|| {
                    Fault::new(Class::Final, "wrong_type", "the array's element has no cast")
                })?;
                return write_array(source, element, out, notes);
            }
            scalar => self.write_scalar(scalar, source, out)?,
        };
        if let Some(rule) = changed {
            notes.push(self.note(rule, value));
        }
        Ok(())
    }

    /// A value of a type that only the server can read, as the server writes it.
    fn write_spelled(
        &self,
        ty: &str,
        value: Value<'_>,
        out: &mut Vec<u8>,
        notes: &mut Vec<Note>,
    ) -> Result<(), Fault> {
        let start = out.len();
        write_text(Source::of(value), &self.text_rules(None), out, notes)?;
        let Some(spelling) = &self.spelling else { return Ok(()) };
        let text = std::str::from_utf8(&out[start + 4..]).unwrap_or_default();
        match spelling.respell(text) {
            Ok(spelled) if spelled == text => Ok(()),
            Ok(spelled) => {
                out.truncate(start);
                put_bytes(out, spelled.as_bytes())?;
                notes.push(self.note("respelled", value));
                Ok(())
            }
            Err(Unspelled::NoValue { sqlstate }) if sqlstate == "23514" => {
                Err(Fault::new(Class::Final, "check", format!("a check of {ty} refuses it")))
            }
            Err(Unspelled::TooLong) => {
                let what = "the declared length would shorten or pad it";
                Err(Fault::new(Class::TooLong, "too_long", what))
            }
            Err(Unspelled::NoValue { sqlstate }) => Err(Fault::new(
                Class::Unreadable,
                "invalid_literal",
                format!("Postgres reads no value of {ty} in it (SQLSTATE {sqlstate})"),
            )),
            Err(Unspelled::NotAsked) => {
                Err(Fault::new(Class::Final, "not_asked", "the server could not be asked"))
            }
        }
    }

    fn write_scalar(
        &self,
        ty: &PgType,
        source: Source<'_>,
        out: &mut Vec<u8>,
    ) -> Result<super::fault::Changed, Fault> {
        let on = &self.options.on;
        let cast = self.options.cast;
        match ty {
            PgType::Int2 => write_integer(Width::Int2, source, on, out),
            PgType::Int4 => write_integer(Width::Int4, source, on, out),
            PgType::Int8 => write_integer(Width::Int8, source, on, out),
            PgType::Bool => write_bool(source, out),
            PgType::Float4 => write_float4(source, on, out),
            PgType::Float8 => write_float8(source, on, out),
            PgType::Numeric(typmod) => write_numeric(*typmod, source, on, out),
            PgType::Bytea => write_bytea(source, cast, out),
            PgType::Uuid => match &self.namespace {
                Some(namespace) => write_named_uuid(source, namespace, out),
                None => write_uuid(source, cast == Some(CastName::UuidBytes), out),
            },
            PgType::Timestamptz => write_timestamptz(source, &self.reading, out),
            PgType::Timestamp => write_timestamp(source, &self.reading, out),
            PgType::Date => write_date(source, &self.reading, out),
            PgType::Time => write_time(source, out),
            PgType::Interval => {
                write_interval(source, cast == Some(CastName::IntervalSeconds), out)
            }
            PgType::Enum { name, labels } => {
                write_enum(source, name, labels, &self.options.aliases, out)
            }
            PgType::Ltree => write_ltree(source, out),
            PgType::Inet => write_inet(source, out),
            PgType::Json
            | PgType::Jsonb
            | PgType::Text(_)
            | PgType::Other(_)
            | PgType::Array(_) => Err(Fault::new(Class::Final, "wrong_type", "not a scalar type")),
        }
    }

    /// SQL NULL, or the declared default.
    fn write_missing(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(field) = &self.default_field {
            out.extend_from_slice(field);
            return Ok(());
        }
        if !self.nullable {
            return Err(Fault {
                show_value: false,
                ..Fault::new(
                    Class::Final,
                    "null_not_allowed",
                    "the source has no value, the column is NOT NULL and has no default",
                )
            });
        }
        put_null(out);
        Ok(())
    }

    /// The redactor, where values of this column are stored without their secrets.
    fn storing_redactor(&self) -> Option<&Redactor> {
        self.redactor.as_deref().filter(|_| self.options.redact)
    }

    fn text_rules(&self, limit: Option<u32>) -> TextRules<'_> {
        TextRules {
            limit,
            json_text: self.options.cast == Some(CastName::JsonText),
            policies: &self.options.on,
            redactor: self.storing_redactor(),
        }
    }

    fn document_rules(&self) -> DocumentRules<'_> {
        DocumentRules {
            jsonb: self.ty == PgType::Jsonb,
            json_null: self.options.json_null,
            policies: &self.options.on,
            redactor: self.storing_redactor(),
        }
    }

    /// The note about a value that was computed from another; None where both are one text.
    pub(crate) fn computed_note(&self, original: Value<'_>, computed: Value<'_>) -> Option<Note> {
        if original == Value::Null || bytes_of(original) == bytes_of(computed) {
            return None;
        }
        Some(self.note("computed", original))
    }

    fn note(&self, rule: &'static str, value: Value<'_>) -> Note {
        Note { rule, path: None, original: self.original(value) }
    }

    /// The source's bytes; of a value that holds a secret only its keyed hash, whether or not the
    /// column itself is redacted.
    fn original(&self, value: Value<'_>) -> Original {
        let bytes = bytes_of(value);
        let Some(redactor) = self.redactor.as_deref() else {
            return Original::Bytes(bytes.into_owned());
        };
        let in_document = match value {
            Value::Json(document) => secret_of(document, redactor),
            Value::Text(text) if matches!(text.first(), Some(b'{' | b'[')) => {
                json::parse(text).ok().and_then(|document| secret_of(&document, redactor))
            }
            _ => None,
        };
        let secret =
            in_document.or_else(|| redactor.redact_text(&bytes).map(|found| found.secret_hash));
        secret.map_or_else(|| Original::Bytes(bytes.into_owned()), Original::Secret)
    }

    fn refusal(&self, fault: Fault, value: Value<'_>) -> Refusal {
        if !fault.show_value {
            return Refusal::new(fault.reason, fault.what);
        }
        let class = Source::of(value).class();
        let shown = self.shown(value);
        Refusal::new(fault.reason, format!("{}; found {class}{shown}", fault.what))
    }

    /// The value for a sentence: redacted, shortened, escaped. Arrays and objects stay unseen.
    fn shown(&self, value: Value<'_>) -> String {
        const CHARACTERS_MAX: usize = 60;
        let bytes = match Source::of(value) {
            Source::Tree(_) | Source::Null => return String::new(),
            Source::Blob(blob) => {
                return format!(" of {} bytes", blob.len());
            }
            _ => bytes_of(value),
        };
        let redacted = self.redactor.as_deref().and_then(|redactor| redactor.redact_text(&bytes));
        let bytes = redacted.map_or(bytes, |redacted| Cow::Owned(redacted.text));
        // A document in the wrong column may hold secrets under names that only a parser sees.
        if matches!(bytes.first(), Some(b'{' | b'[')) && bytes.len() > 2 {
            return format!(" of {} bytes that looks like JSON", bytes.len());
        }
        let head = &bytes[..bytes.len().min(CHARACTERS_MAX * 4)];
        let text = String::from_utf8_lossy(head);
        let cut: String = text.chars().take(CHARACTERS_MAX).collect();
        let more = if cut.len() < bytes.len() && text.chars().count() > CHARACTERS_MAX {
            "..."
        } else {
            ""
        };
        format!(" \"{}{more}\"", cut.escape_debug())
    }
}

/// The source's bytes: text and BLOBs as they are, numbers as Postgres prints them, JSON as text.
fn bytes_of(value: Value<'_>) -> Cow<'_, [u8]> {
    match value {
        Value::Null => Cow::Borrowed(b""),
        Value::Integer(n) => Cow::Owned(ShortText::integer(n).bytes().to_vec()),
        Value::Real(x) => Cow::Owned(ShortText::float8(x).bytes().to_vec()),
        Value::Text(bytes) | Value::Blob(bytes) => Cow::Borrowed(bytes),
        Value::Json(json::Json::String(text)) => Cow::Borrowed(text),
        Value::Json(document) => Cow::Owned(to_source_text(document)),
    }
}
