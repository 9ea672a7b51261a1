//! The way back: from a value a Postgres column holds to one that `SQLite` can store.
//!
//! A cast may read several spellings of one value, so the way back proposes spellings, in the
//! order of their likeness to a value the source already has, and takes the first that the cast
//! itself reads as the very value, without a ledger note. What no spelling gives back is refused:
//! nothing is ever written that would be read as something else.

mod array;
mod moment;
mod strength;

pub use strength::{Reverse, Strength};

use super::column::ColumnCast;
use super::note::Refusal;
use super::options::CastName;
use super::value::{PgType, Value};
use crate::canonical::{Layout, display_field};

/// A value as `SQLite` stores it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// NULL
    Null,
    /// INTEGER
    Integer(i64),
    /// REAL
    Real(f64),
    /// TEXT, as bytes
    Text(Vec<u8>),
    /// BLOB
    Blob(Vec<u8>),
}

impl Stored {
    /// The value as casts read it.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Text(text) => Value::Text(text),
            Self::Blob(blob) => Value::Blob(blob),
        }
    }

    /// A copy of what a source yields; None for a value inside a document.
    #[must_use]
    pub fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(number),
            Value::Real(number) => Self::Real(number),
            Value::Text(text) => Self::Text(text.to_vec()),
            Value::Blob(blob) => Self::Blob(blob.to_vec()),
            Value::Json(_) => return None,
        })
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }
}

impl ColumnCast {
    /// The value that casts to `field` (the type's binary send form; None is NULL), spelled as
    /// `like` is where there are several spellings.
    ///
    /// Refuses with `no_spelling` what the cast reads from no value of `SQLite`: a default that
    /// stands for NULL, a secret that the cast would remove, a moment that the column's unit
    /// cannot tell.
    pub fn invert(&self, field: Option<&[u8]>, like: Value<'_>) -> Result<Stored, Refusal> {
        let found = self.proposals(field, like).into_iter().find(|one| self.reads(one, field));
        found.ok_or_else(|| {
            let what = match field {
                None => "no value of the source is read as NULL here".to_owned(),
                Some(_) => format!(
                    "no value of the source is read as this {} by the column's cast",
                    self.ty.name()
                ),
            };
            Refusal::new("no_spelling", format!("column {}: {what}", self.column))
        })
    }

    /// Every known spelling of `field`, likeliest first: by what a key may be found.
    #[must_use]
    pub fn spellings(&self, field: Option<&[u8]>, like: Value<'_>) -> Vec<Stored> {
        let mut found: Vec<Stored> = Vec::new();
        for one in self.proposals(field, like) {
            if !found.contains(&one) && self.reads(&one, field) {
                found.push(one);
            }
        }
        found
    }

    /// Whether the cast reads `stored` as `field`. A number stored as its text is no change that
    /// matters; any other note is.
    fn reads(&self, stored: &Stored, field: Option<&[u8]>) -> bool {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        self.encode(stored.value(), &mut out, &mut notes).is_ok()
            && notes.iter().all(|note| note.rule == "class_to_text")
            && self.is_same(&out, &tuple_of(field))
    }

    /// Whether two COPY fields are the same canonical value.
    #[must_use]
    pub fn is_same(&self, left: &[u8], right: &[u8]) -> bool {
        if left == right {
            return true;
        }
        let layout = Layout::new(std::slice::from_ref(&self.ty), vec![0]);
        layout.row_digest(left) == layout.row_digest(right)
    }

    fn proposals(&self, field: Option<&[u8]>, like: Value<'_>) -> Vec<Stored> {
        let Some(bytes) = field else {
            return vec![Stored::Null, Stored::text("null"), Stored::text("")];
        };
        let shown = || display_field(&self.ty, bytes);
        let cast = self.options.cast;
        match &self.ty {
            PgType::Bool => booleans(bytes.first() == Some(&1), like),
            PgType::Int2 | PgType::Int4 | PgType::Int8 => numbers(&shown(), like, INTEGER_FIRST),
            PgType::Float4 | PgType::Float8 => {
                let mut found = numbers(&shown(), like, REAL_FIRST);
                if let Ok(four) = <[u8; 4]>::try_from(bytes) {
                    found.push(Stored::Real(f64::from(f32::from_be_bytes(four))));
                }
                found
            }
            PgType::Numeric(_) => numbers(&shown(), like, TEXT_FIRST),
            PgType::Text(_) | PgType::Other(_) | PgType::Inet | PgType::Ltree => {
                numbers(&shown(), like, TEXT_FIRST)
            }
            PgType::Json => vec![Stored::Text(bytes.to_vec())],
            PgType::Jsonb => vec![Stored::Text(bytes.get(1..).unwrap_or_default().to_vec())],
            PgType::Enum { .. } => self.labels(&shown(), like),
            PgType::Bytea => binary(bytes, cast, like),
            PgType::Uuid => uuids(bytes, cast, like),
            PgType::Timestamptz => moment::instants(&self.reading, bytes, like),
            PgType::Timestamp => moment::clocks(&self.reading, bytes, like),
            PgType::Date => moment::dates(&self.reading, bytes, like),
            PgType::Time => moment::times(bytes, like),
            PgType::Interval if cast == Some(CastName::IntervalSeconds) => {
                moment::seconds(bytes, like)
            }
            PgType::Interval => vec![Stored::text(shown())],
            PgType::Array(element) => array::documents(element, bytes),
        }
    }

    /// The label's alias where the source uses one, then the label, then its other aliases.
    fn labels(&self, label: &str, like: Value<'_>) -> Vec<Stored> {
        let of_label = self.options.aliases.iter().filter(|(_, means)| *means == label);
        let mut aliases: Vec<&str> = of_label.map(|(alias, _)| alias.as_str()).collect();
        let used = match like {
            Value::Text(text) => std::str::from_utf8(text).unwrap_or_default().to_owned(),
            Value::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        // Only where the source spells other labels by alias too would an alias be its way.
        let is_alias = self.options.aliases.contains_key(&used);
        aliases.sort_by_key(|alias| *alias != used);
        let mut found = Vec::new();
        for alias in aliases {
            found.push(Stored::text(alias));
            if let Ok(number) = alias.parse() {
                found.push(Stored::Integer(number));
            }
        }
        let integers_first = matches!(like, Value::Integer(_));
        found.sort_by_key(|one| matches!(one, Stored::Integer(_)) != integers_first);
        found.insert(if is_alias { found.len() } else { 0 }, Stored::text(label));
        found
    }
}

/// A COPY field of the bytes.
pub(super) fn tuple_of(field: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + field.map_or(0, <[u8]>::len));
    match field.and_then(|bytes| u32::try_from(bytes.len()).ok().map(|length| (bytes, length))) {
        None => super::field::put_null(&mut out),
        Some((bytes, length)) => {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Integer,
    Real,
    Text,
}

const INTEGER_FIRST: [Class; 3] = [Class::Integer, Class::Text, Class::Real];
const REAL_FIRST: [Class; 3] = [Class::Real, Class::Text, Class::Integer];
const TEXT_FIRST: [Class; 3] = [Class::Text, Class::Integer, Class::Real];

/// A number (or a text that may be one) in the storage classes it has, that of `like` first.
fn numbers(shown: &str, like: Value<'_>, order: [Class; 3]) -> Vec<Stored> {
    let liked = match like {
        Value::Integer(_) => Some(Class::Integer),
        Value::Real(_) => Some(Class::Real),
        Value::Text(_) => Some(Class::Text),
        _ => None,
    };
    let mut classes = order.to_vec();
    classes.sort_by_key(|class| Some(*class) != liked);
    let of_class = |class: Class| match class {
        Class::Text => Some(Stored::text(shown)),
        Class::Integer => shown.parse().ok().map(Stored::Integer),
        // NaN would be stored as NULL.
        Class::Real => shown.parse().ok().filter(|number: &f64| !number.is_nan()).map(Stored::Real),
    };
    classes.into_iter().filter_map(of_class).collect()
}

fn booleans(value: bool, like: Value<'_>) -> Vec<Stored> {
    const WORDS: [(&str, &str); 6] =
        [("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("on", "off"), ("1", "0")];
    let number = Stored::Integer(i64::from(value));
    let spelled = |pair: &(&'static str, &'static str)| if value { pair.0 } else { pair.1 };
    let mut found = Vec::new();
    if let Value::Text(text) = like {
        let text = String::from_utf8_lossy(text);
        let pair = WORDS
            .iter()
            .find(|(yes, no)| text.eq_ignore_ascii_case(yes) || text.eq_ignore_ascii_case(no));
        if let Some(pair) = pair {
            found.push(Stored::text(in_case_of(spelled(pair), &text)));
        }
    }
    found.push(number);
    found.extend(WORDS.iter().map(|pair| Stored::text(spelled(pair))));
    found
}

/// `word` in upper case, capitalised or as it is, as `like` is written.
fn in_case_of(word: &str, like: &str) -> String {
    let is_upper = |c: Option<char>| c.is_some_and(|c| c.is_ascii_uppercase());
    match (is_upper(like.chars().next()), is_upper(like.chars().nth(1))) {
        (true, true) => word.to_ascii_uppercase(),
        (true, false) if like.len() == 1 => word.to_ascii_uppercase(),
        (true, false) => {
            let (head, rest) = word.split_at(1);
            format!("{}{rest}", head.to_ascii_uppercase())
        }
        _ => word.to_owned(),
    }
}

fn binary(bytes: &[u8], cast: Option<CastName>, like: Value<'_>) -> Vec<Stored> {
    let blob = Stored::Blob(bytes.to_vec());
    match cast {
        Some(CastName::ByteaText) if !matches!(like, Value::Blob(_)) => {
            vec![Stored::Text(bytes.to_vec()), blob]
        }
        Some(CastName::ByteaHex) if !matches!(like, Value::Blob(_)) => {
            let like = if let Value::Text(text) = like { text } else { b"" };
            let prefix = if like.starts_with(b"\\x") { "\\x" } else { "" };
            let is_upper = like.iter().any(|byte| (b'A'..=b'F').contains(byte));
            let digits = if is_upper { hex::encode_upper(bytes) } else { hex::encode(bytes) };
            vec![Stored::text(format!("{prefix}{digits}")), blob]
        }
        _ => vec![blob],
    }
}

fn uuids(bytes: &[u8], cast: Option<CastName>, like: Value<'_>) -> Vec<Stored> {
    let Ok(id) = uuid::Uuid::from_slice(bytes) else { return Vec::new() };
    let (plain, dashed) = (id.simple().to_string(), id.hyphenated().to_string());
    let mut texts =
        vec![dashed.clone(), plain.clone(), dashed.to_uppercase(), plain.to_uppercase()];
    if let Value::Text(text) = like {
        let is_upper = text.iter().any(u8::is_ascii_uppercase);
        let score = |one: &String| {
            let differs_in_case = one.bytes().any(|b| b.is_ascii_uppercase()) != is_upper;
            (one.len() != text.len(), differs_in_case)
        };
        texts.sort_by_key(score);
    }
    let mut found: Vec<Stored> = texts.into_iter().map(Stored::text).collect();
    let at =
        if cast == Some(CastName::UuidBytes) && !matches!(like, Value::Text(_)) { 0 } else { 4 };
    found.insert(at, Stored::Blob(bytes.to_vec()));
    found
}
