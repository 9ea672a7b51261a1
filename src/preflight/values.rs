//! What a source column, or a place in documents, holds.

use serde::Serialize;

use crate::cast::redact::Redactor;
use crate::cast::{EpochUnit, Value};
use crate::json::Json;
use crate::preflight::documents::DocumentCensus;
use crate::preflight::moments::{Form, MomentCensus};
use crate::preflight::report::{Counted, Place, grouped};

/// Everything counted of one source column or pointer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ValueCensus {
    /// Column, or pointer as in `pack.toml`.
    pub from: String,
    /// The output whose elements a pointer leads into; None for columns.
    pub output: Option<String>,
    /// Target columns it feeds; none if it is left behind.
    pub feeds: Vec<String>,
    /// Values by storage class.
    pub classes: Classes,
    /// Least and greatest INTEGER, or JSON number without fraction.
    pub integers: Option<(i64, i64)>,
    /// Least and greatest of the other finite numbers.
    pub reals: Option<(f64, f64)>,
    /// NaN and infinities.
    pub not_finite: Counted,
    /// Of texts.
    pub text: TextCensus,
    /// Forms of moments, where the target is one or nearly all values look like one.
    pub moments: Option<MomentCensus>,
    /// Of documents, where the target is json or jsonb.
    pub documents: Option<DocumentCensus>,
    /// What a person should know, in words.
    pub remarks: Vec<String>,
    #[serde(skip)]
    pub(super) wants_moments: bool,
    #[serde(skip)]
    pub(super) declared_unit: Option<EpochUnit>,
}

/// Values by storage class; JSON's own classes beside `SQLite`'s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Classes {
    /// A JSON document has nothing at the pointer.
    pub missing: u64,
    /// NULL, or JSON null.
    pub null: u64,
    /// INTEGER, or a JSON number without fraction.
    pub integer: u64,
    /// REAL, or another JSON number.
    pub real: u64,
    /// TEXT, a CSV field or a JSON string.
    pub text: u64,
    /// BLOB.
    pub blob: u64,
    /// JSON true or false.
    pub boolean: u64,
    /// JSON array.
    pub array: u64,
    /// JSON object.
    pub object: u64,
}

impl Classes {
    /// Classes with values, by name; NULL and missing are none.
    pub fn present(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("integer", self.integer),
            ("real", self.real),
            ("text", self.text),
            ("blob", self.blob),
            ("boolean", self.boolean),
            ("array", self.array),
            ("object", self.object),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

impl Classes {
    fn merge(&mut self, other: &Self) {
        self.missing += other.missing;
        self.null += other.null;
        self.integer += other.integer;
        self.real += other.real;
        self.text += other.text;
        self.blob += other.blob;
        self.boolean += other.boolean;
        self.array += other.array;
        self.object += other.object;
    }
}

fn widest<T: PartialOrd>(one: Option<(T, T)>, other: Option<(T, T)>) -> Option<(T, T)> {
    let ((low, high), (least, greatest)) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    let low = if least < low { least } else { low };
    Some((low, if greatest > high { greatest } else { high }))
}

/// Texts of a column.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TextCensus {
    /// Bytes of the shortest and longest.
    pub bytes: Option<(u64, u64)>,
    /// `''`.
    pub empty: u64,
    /// Bytes that are not UTF-8.
    pub invalid_utf8: Counted,
    /// U+0000 inside.
    pub nul: Counted,
}

impl ValueCensus {
    /// A count of a column that no pack knows yet, forms of moments included.
    pub(crate) fn unmapped(from: &str) -> Self {
        let moments = Some(MomentCensus::default());
        Self { from: from.to_owned(), moments, wants_moments: true, ..Self::default() }
    }

    /// Adds what was counted of another part of the column, or of another column.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.classes.merge(&other.classes);
        self.integers = widest(self.integers, other.integers);
        self.reals = widest(self.reals, other.reals);
        self.not_finite.merge(&other.not_finite);
        self.text.bytes = widest(self.text.bytes, other.text.bytes);
        self.text.empty += other.text.empty;
        self.text.invalid_utf8.merge(&other.text.invalid_utf8);
        self.text.nul.merge(&other.text.nul);
        if let (Some(moments), Some(others)) = (&mut self.moments, &other.moments) {
            moments.merge(others);
        }
    }

    /// Counts a column's value.
    pub(crate) fn value(
        &mut self,
        value: Value<'_>,
        redactor: &Redactor,
        place: &dyn Fn() -> Place,
    ) {
        match value {
            Value::Null => self.classes.null += 1,
            Value::Integer(number) => self.integer(number, place),
            Value::Real(number) => self.real(number, place),
            Value::Text(text) => {
                self.text(text, redactor, place);
                if let Some(documents) = &mut self.documents {
                    documents.text(text, place);
                }
            }
            Value::Blob(bytes) => {
                self.classes.blob += 1;
                if let Some(documents) = &mut self.documents {
                    documents.text(bytes, place);
                }
            }
            Value::Json(json) => self.json(json, redactor, place),
        }
    }

    /// Counts what a pointer reaches.
    pub(super) fn json(&mut self, json: &Json, redactor: &Redactor, place: &dyn Fn() -> Place) {
        match json {
            Json::Null => self.classes.null += 1,
            Json::Bool(_) => self.classes.boolean += 1,
            Json::Number(text) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(number), _) => self.integer(number, place),
                (_, number) => self.real(number.unwrap_or(f64::NAN), place),
            },
            Json::String(text) => self.text(text, redactor, place),
            Json::Array(_) => self.classes.array += 1,
            Json::Object(_) => self.classes.object += 1,
        }
        if let Some(documents) = &mut self.documents {
            documents.document(json, place);
        }
    }

    fn integer(&mut self, number: i64, place: &dyn Fn() -> Place) {
        self.classes.integer += 1;
        let (least, greatest) = self.integers.get_or_insert((number, number));
        (*least, *greatest) = ((*least).min(number), (*greatest).max(number));
        if let Some(moments) = &mut self.moments {
            moments.number(number as f64, place);
        }
    }

    fn real(&mut self, number: f64, place: &dyn Fn() -> Place) {
        self.classes.real += 1;
        if !number.is_finite() {
            self.not_finite.add(place);
            return;
        }
        let (least, greatest) = self.reals.get_or_insert((number, number));
        (*least, *greatest) = (least.min(number), greatest.max(number));
        if let Some(moments) = &mut self.moments {
            moments.number(number, place);
        }
    }

    fn text(&mut self, text: &[u8], redactor: &Redactor, place: &dyn Fn() -> Place) {
        self.classes.text += 1;
        let length = text.len() as u64;
        let (least, greatest) = self.text.bytes.get_or_insert((length, length));
        (*least, *greatest) = ((*least).min(length), (*greatest).max(length));
        self.text.empty += u64::from(text.is_empty());
        if memchr::memchr(0, text).is_some() {
            self.text.nul.add(place);
        }
        if std::str::from_utf8(text).is_err() {
            self.text.invalid_utf8.add(place);
        }
        let Some(moments) = &mut self.moments else { return };
        let form = moments.text(text, place);
        if form == Form::Other && moments.other_example.is_none() {
            moments.other_example = Some(shown(text, &self.from, redactor));
        }
    }

    /// Draws conclusions once everything is counted.
    pub(crate) fn finish(&mut self) {
        let (wanted, has_numbers) = (self.wants_moments, self.classes.integer + self.classes.real);
        self.moments = self.moments.take().filter(|moments| {
            let is_empty = moments.forms.is_empty();
            !is_empty && (wanted || (moments.is_likely() && has_numbers == 0))
        });
        if let Some(moments) = &mut self.moments {
            moments.finish();
        }
        self.remarks = self.remarkable();
    }

    fn remarkable(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let classes: Vec<String> = self
            .classes
            .present()
            .map(|(class, count)| format!("{} {class}", grouped(count)))
            .collect();
        let numbers_alone = self.classes.text + self.classes.blob + self.classes.boolean == 0
            && self.classes.array + self.classes.object == 0;
        // A document may be anything; integers among reals are how SQLite keeps whole numbers.
        if classes.len() > 1 && !numbers_alone && self.documents.is_none() {
            remarks.push(format!("mixed classes: {}", classes.join(", ")));
        }
        for (what, counted) in [
            ("not UTF-8", &self.text.invalid_utf8),
            ("with U+0000", &self.text.nul),
            ("NaN or infinite", &self.not_finite),
        ] {
            if self.documents.is_none() {
                remarks.extend(remark(what, counted));
            }
        }
        if let Some(documents) = &self.documents {
            let odd: Vec<String> = documents
                .oddities()
                .map(|(what, counted)| format!("{} {what}", grouped(counted.count)))
                .collect();
            if !odd.is_empty() {
                remarks.push(format!(
                    "JSON: {} valid; {}",
                    grouped(documents.valid),
                    odd.join(", ")
                ));
            }
        }
        if let Some(moments) = &self.moments {
            remarks.extend(self.moment_remarks(moments));
        }
        remarks
    }

    fn moment_remarks(&self, moments: &MomentCensus) -> Vec<String> {
        let mut remarks = Vec::new();
        if !moments.is_uniform() {
            let forms: Vec<String> = moments
                .forms
                .iter()
                .map(|(form, counted)| format!("{} {}", grouped(counted.count), form.name()))
                .collect();
            let example = moments
                .other_example
                .as_ref()
                .filter(|_| self.wants_moments)
                .map(|example| format!(" ({example})"))
                .unwrap_or_default();
            remarks.push(format!("timestamp forms: {}{example}", forms.join(", ")));
        }
        if moments.minority > 0 {
            let minority = moments
                .forms
                .iter()
                .find(|(form, _)| form.unit().is_some() && form.unit() != moments.inferred_unit);
            let first = minority
                .and_then(|(_, counted)| counted.first.as_ref())
                .map(|place| format!(", first at {place}"))
                .unwrap_or_default();
            remarks.push(format!(
                "MIXED UNITS: {} of these numbers are of another unit than most{first}",
                grouped(moments.minority)
            ));
        }
        if let (Some(declared), Some(inferred)) = (self.declared_unit, moments.inferred_unit)
            && declared != inferred
        {
            remarks.push(format!(
                "UNIT: declared {}, but the numbers are of the magnitude of {}",
                declared.name(),
                inferred.name()
            ));
        }
        remarks
    }
}

fn remark(what: &str, counted: &Counted) -> Option<String> {
    let first = counted.first.as_ref()?;
    Some(format!("{} {what}, first at {first}", grouped(counted.count)))
}

/// A value for a sentence: redacted, then shortened and escaped.
fn shown(text: &[u8], name: &str, redactor: &Redactor) -> String {
    const CHARACTERS_MAX: usize = 32;
    let key = name.rsplit('/').next().unwrap_or(name);
    let redacted = redactor
        .redact_member(key.as_bytes(), text)
        .or_else(|| redactor.redact_text(text))
        .map(|redacted| redacted.text);
    let text = redacted.as_deref().unwrap_or(text);
    if matches!(text.first(), Some(b'{' | b'[')) && text.len() > 2 {
        return format!("{} bytes that look like JSON", text.len());
    }
    let head = String::from_utf8_lossy(&text[..text.len().min(CHARACTERS_MAX * 4)]);
    let cut: String = head.chars().take(CHARACTERS_MAX).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}
