//! From what is known of a column's values to its type, with the reason in words.

use super::evidence::{Candidate, Declared, Evidence};
use super::schema::Column;
use crate::cast::{CastName, CastOptions, PgType, Value};
use crate::preflight::{Form, grouped};

/// A column's type, how its values are cast, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) ty: PgType,
    pub(super) options: CastOptions,
    /// For a person; empty where the declared type says the same.
    pub(super) why: String,
    /// What a person may want to do about it.
    pub(super) hint: Option<String>,
}

impl Choice {
    fn natural(ty: PgType, why: impl Into<String>) -> Self {
        Self { ty, options: CastOptions::default(), why: why.into(), hint: None }
    }
}

/// Text that must be told apart is not stored as a type that calls different texts equal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    /// The column is in a key or a unique index.
    pub(super) is_unique: bool,
    /// Text stays text.
    pub(super) keep_text: bool,
    /// Numbers of an INTEGER column that look like moments become timestamptz.
    pub(super) epochs: bool,
}

/// Decides on the type of a column.
pub(super) fn choose(column: &Column, evidence: &Evidence, wishes: Wishes) -> Choice {
    let classes = &evidence.census.classes;
    let (numbers, others) = (classes.integer + classes.real, classes.text + classes.blob);
    let declared = Declared::of(&column.declared);
    if numbers + others == 0 {
        return by_declaration(declared, column);
    }
    if let Some(choice) = by_candidate(declared, evidence, wishes) {
        return choice;
    }
    match (classes.integer, classes.real, classes.text, classes.blob) {
        (_, _, 0, 0) => of_numbers(declared, evidence, wishes),
        (0, 0, text, 0) => of_text(evidence, text),
        (0, 0, 0, _) => Choice::natural(PgType::Bytea, ""),
        _ => mixed(evidence),
    }
}

/// No value says anything.
fn by_declaration(declared: Declared, column: &Column) -> Choice {
    let by_default = column.default.as_deref().is_some_and(super::values::is_now);
    let (ty, why) = match declared {
        Declared::Bool => (PgType::Bool, ""),
        Declared::Integer => (PgType::Int8, ""),
        Declared::Real => (PgType::Float8, ""),
        Declared::Decimal(limit) => (PgType::Numeric(limit), ""),
        Declared::Uuid => (PgType::Uuid, ""),
        Declared::Json => (PgType::Jsonb, ""),
        Declared::MomentWithZone => (PgType::Timestamptz, ""),
        Declared::Moment if by_default => (PgType::Timestamptz, "its default is a moment in UTC"),
        Declared::Moment => (PgType::Timestamp, ""),
        Declared::Date => (PgType::Date, ""),
        Declared::Time => (PgType::Time, ""),
        Declared::Blob => (PgType::Bytea, ""),
        Declared::Text => (PgType::Text(None), ""),
        Declared::Open => (PgType::Text(None), "neither a declared type nor a value says more"),
    };
    let mut choice = Choice::natural(ty, why);
    if choice.ty == PgType::Timestamptz {
        choice.options.zone = Some("UTC".to_owned());
    }
    choice
}

/// The best type that took every value.
fn by_candidate(declared: Declared, evidence: &Evidence, wishes: Wishes) -> Option<Choice> {
    let classes = &evidence.census.classes;
    let count = classes.integer + classes.real + classes.text + classes.blob;
    for (candidate, _) in &evidence.alive {
        let is_text = classes.text > 0;
        if (wishes.keep_text && is_text) || !is_sound(candidate, evidence, wishes, declared) {
            continue;
        }
        let all = if count == 1 {
            "the 1 value is".to_owned()
        } else {
            format!("all {} values are", grouped(count))
        };
        let mut options = candidate.options.clone();
        if classes.blob == 0 {
            options.cast = None;
        }
        let (why, hint) = words(candidate, evidence, declared, &all);
        return Some(Choice { ty: candidate.ty.clone(), options, why, hint });
    }
    None
}

/// Whether a type that takes every value also tells them apart, and means what the values mean.
fn is_sound(
    candidate: &Candidate,
    evidence: &Evidence,
    wishes: Wishes,
    declared: Declared,
) -> bool {
    let classes = &evidence.census.classes;
    let has_numbers = classes.integer + classes.real > 0;
    match candidate.ty {
        PgType::Bool => !wishes.is_unique || classes.text == 0,
        PgType::Numeric(_) => has_numbers || declared != Declared::Text,
        PgType::Uuid => evidence.is_one_case() && (classes.text == 0 || classes.blob == 0),
        PgType::Jsonb => !wishes.is_unique && classes.blob == 0 && !has_numbers,
        PgType::Timestamptz | PgType::Timestamp | PgType::Date if has_numbers => {
            let moments = evidence.census.moments.as_ref();
            let unit = moments.and_then(|moments| moments.inferred_unit);
            candidate.options.unit.is_some()
                && candidate.options.unit == unit
                && moments.is_some_and(|moments| moments.minority == 0)
                && classes.text + classes.blob == 0
        }
        PgType::Timestamptz | PgType::Timestamp | PgType::Date | PgType::Time => {
            // A day alone and its midnight are different texts.
            let days = evidence.census.moments.as_ref().map_or(0, |m| m.count(Form::Date));
            classes.blob == 0
                && (days == 0 || days == classes.text)
                && (days == 0 || candidate.ty == PgType::Date)
                && candidate.options.unit.is_none()
                && (!wishes.is_unique || evidence.is_one_shape())
        }
        _ => true,
    }
}

fn words(
    candidate: &Candidate,
    evidence: &Evidence,
    declared: Declared,
    all: &str,
) -> (String, Option<String>) {
    let classes = &evidence.census.classes;
    let spelt = |what: &str| format!("{all} {what}");
    match candidate.ty {
        PgType::Bool => (spelt("0 or 1, or a word for it"), None),
        PgType::Numeric(None) => match declared {
            Declared::Decimal(Some(_)) => (spelt("numbers, some beyond the declared digits"), None),
            _ => (String::new(), None),
        },
        PgType::Uuid if classes.blob > 0 => (spelt("16 bytes"), None),
        PgType::Uuid if evidence.has_capitals() => {
            (spelt("UUIDs; their capitals are not kept"), None)
        }
        PgType::Uuid => (spelt("UUIDs"), None),
        PgType::Jsonb => {
            (spelt("JSON objects or arrays; white space and order of members are not kept"), None)
        }
        PgType::Timestamptz => match (candidate.options.unit, &candidate.options.zone) {
            (Some(unit), _) => (spelt(&format!("{} since 1970", unit.name())), None),
            (None, Some(zone)) => {
                (spelt(&format!("ISO times, without an offset read as {zone}")), None)
            }
            (None, None) => {
                (spelt("ISO times with an offset; the moment is kept, the offset is not"), None)
            }
        },
        PgType::Timestamp => (
            spelt("ISO times without an offset"),
            Some("--zone UTC makes timestamptz of times without an offset".to_owned()),
        ),
        PgType::Date if declared != Declared::Date => (spelt("ISO dates"), None),
        _ => (String::new(), None),
    }
}

fn of_numbers(declared: Declared, evidence: &Evidence, wishes: Wishes) -> Choice {
    let census = &evidence.census;
    let classes = &census.classes;
    if classes.real == 0 {
        return of_integers(declared, evidence, wishes);
    }
    if classes.integer == 0 || declared == Declared::Real {
        let why = if declared == Declared::Integer { "all values are REAL" } else { "" };
        return Choice::natural(PgType::Float8, why);
    }
    let counts = format!("{} INTEGER and {} REAL", grouped(classes.integer), grouped(classes.real));
    if census.not_finite.count == 0 {
        return Choice::natural(PgType::Numeric(None), counts);
    }
    // numeric has an infinity since PostgreSQL 14 only.
    Choice::natural(PgType::Float8, format!("{counts}, infinite ones among them"))
}

fn of_integers(declared: Declared, evidence: &Evidence, wishes: Wishes) -> Choice {
    let census = &evidence.census;
    let Some((_, greatest)) = census.integers else {
        return Choice::natural(PgType::Int8, "");
    };
    if declared == Declared::Real && greatest.unsigned_abs() < 1 << 53 {
        return Choice::natural(PgType::Float8, "");
    }
    let moments = census.moments.as_ref();
    let unit = moments
        .filter(|moments| moments.count(Form::Other) == 0)
        .filter(|moments| moments.minority == 0)
        .and_then(|moments| moments.inferred_unit);
    let named = is_named_as_moment(&census.from);
    let mut choice = Choice::natural(PgType::Int8, "");
    if let Some(unit) =
        unit.filter(|_| named || !matches!(declared, Declared::Integer | Declared::Open))
    {
        let what = format!(
            "all {} values look like {} since 1970",
            grouped(census.classes.integer),
            unit.name()
        );
        if wishes.epochs && named {
            choice.ty = PgType::Timestamptz;
            choice.options.unit = Some(unit);
            choice.why = what;
        } else if named {
            choice.hint = Some(format!("{what}: --epochs makes timestamptz of such columns"));
        }
    }
    if matches!(declared, Declared::Bool) {
        "not all values are 0 or 1".clone_into(&mut choice.why);
    }
    choice
}

/// A name that says time: `created_at`, `last_visit_date`, `expiry`, `timestamp`.
fn is_named_as_moment(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["_at", "date", "time", "_on", "expiry", "modified", "created", "updated", "_ts", "last_used"]
        .iter()
        .any(|part| name.ends_with(part))
        || name == "ts"
        || name.contains("timestamp")
}

fn of_text(evidence: &Evidence, text: u64) -> Choice {
    let census = &evidence.census.text;
    let bad = (census.nul.count + census.invalid_utf8.count).min(text);
    let mut choice = Choice::natural(PgType::Text(None), "");
    if bad == 0 {
        return choice;
    }
    if bad * 2 > text {
        let options = CastOptions { cast: Some(CastName::ByteaText), ..CastOptions::default() };
        let why =
            format!("{} of {} texts hold U+0000 or are not UTF-8", grouped(bad), grouped(text));
        return Choice { ty: PgType::Bytea, options, why, hint: None };
    }
    choice.why = format!(
        "{} of {} texts hold U+0000 or are not UTF-8, which Postgres's text cannot: rejected",
        grouped(bad),
        grouped(text)
    );
    choice.hint = Some(
        "--bad-text replace stores U+FFFD in their place, --bad-text bytea makes such columns bytea"
            .to_owned(),
    );
    choice
}

/// Values of several storage classes: what holds all of them.
fn mixed(evidence: &Evidence) -> Choice {
    let classes = &evidence.census.classes;
    let counts: Vec<String> =
        classes.present().map(|(class, count)| format!("{} {class}", grouped(count))).collect();
    let why = format!("mixed classes: {}", counts.join(", "));
    let has_bad = evidence.census.text.nul.count + evidence.census.text.invalid_utf8.count > 0;
    if classes.blob > 0 || has_bad {
        let options = CastOptions { cast: Some(CastName::ByteaText), ..CastOptions::default() };
        let why = format!("{why}; texts and numbers as the bytes of their text");
        return Choice { ty: PgType::Bytea, options, why, hint: None };
    }
    let options = CastOptions { cast: Some(CastName::Text), ..CastOptions::default() };
    let why = format!("{why}; numbers as their text, with a ledger entry each");
    Choice { ty: PgType::Text(None), options, why, hint: None }
}

/// A type that was asked for, with the cast that suits the values.
pub(super) fn asked(ty: &PgType, evidence: &Evidence, zone: Option<&str>) -> Choice {
    let classes = &evidence.census.classes;
    let mut choice = Choice::natural(ty.clone(), "asked for with --type");
    let unit = evidence.census.moments.as_ref().and_then(|moments| moments.inferred_unit);
    match ty {
        PgType::Bytea if classes.text + classes.integer + classes.real > 0 => {
            choice.options.cast = Some(CastName::ByteaText);
        }
        PgType::Text(_) if classes.integer + classes.real > 0 => {
            choice.options.cast = Some(CastName::Text);
        }
        PgType::Uuid if classes.blob > 0 => choice.options.cast = Some(CastName::UuidBytes),
        PgType::Timestamptz | PgType::Timestamp | PgType::Date => {
            choice.options.unit = unit.filter(|_| classes.integer + classes.real > 0);
            if *ty == PgType::Timestamptz {
                choice.options.zone = zone.map(str::to_owned);
            }
        }
        _ => {}
    }
    choice
}

/// Whether the cast takes a literal of a DEFAULT, as it stands.
pub(super) fn takes_literal(choice: &Choice, value: Value<'_>) -> bool {
    let options = choice.options.clone();
    crate::cast::ColumnCast::new("default", choice.ty.clone(), true, options, None).is_ok_and(
        |cast| {
            let mut notes = Vec::new();
            cast.encode(value, &mut Vec::new(), &mut notes).is_ok() && notes.is_empty()
        },
    )
}
