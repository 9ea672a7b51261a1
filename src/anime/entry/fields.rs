//! Scalar members that have a column.

use uuid::Uuid;

use crate::anime::doc::{Doc, Members, is_missing, number};
use crate::anime::entry::EpisodePart;
use crate::cast::Refusal;
use crate::json::Json;

/// What a column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Text that must be there.
    Name,
    /// Text.
    Text,
    /// A whole number of four bytes.
    Int,
    /// true or false.
    Bool,
    /// Any number.
    Number,
    /// A moment with its zone.
    Moment,
}

type Spec = &'static [(&'static str, &'static str, Takes)];

/// Member, column, what it takes.
pub(super) const ANIME: Spec = &[
    ("title", "title", Takes::Name),
    ("title_english", "title_english", Takes::Text),
    ("title_japanese", "title_japanese", Takes::Text),
    ("rating", "rating", Takes::Text),
    ("year", "year", Takes::Int),
    ("episode_count", "episode_count", Takes::Int),
    ("duration", "duration_seconds", Takes::Int),
    ("nsfw", "nsfw", Takes::Bool),
    ("synopsis", "synopsis", Takes::Text),
    ("background", "background", Takes::Text),
];

pub(super) const OFFLINE: Spec =
    &[("title", "title", Takes::Name), ("episodes", "episode_count", Takes::Int)];

pub(super) const SEASON: Spec = &[("year", "year", Takes::Int)];

pub(super) const ORIGINAL: Spec = &[
    ("title", "title", Takes::Name),
    ("title_english", "title_english", Takes::Text),
    ("title_japanese", "title_japanese", Takes::Text),
];

const EPISODE: Spec = &[
    ("season_number", "season_number", Takes::Int),
    ("title", "title", Takes::Text),
    ("title_japanese", "title_japanese", Takes::Text),
    ("title_romaji", "title_romaji", Takes::Text),
    ("synopsis", "synopsis", Takes::Text),
    ("aired", "aired_at", Takes::Moment),
    ("duration", "duration_seconds", Takes::Int),
    ("filler", "filler", Takes::Bool),
    ("recap", "recap", Takes::Bool),
    ("score", "score", Takes::Number),
];

/// Those of a character; its name is another's to take.
pub(super) const CHARACTER: Spec = &[
    ("name", "name", Takes::Text),
    ("name_native", "name_native", Takes::Text),
    ("description", "description", Takes::Text),
    ("gender", "gender", Takes::Text),
    ("age", "age", Takes::Text),
    ("favorites", "favorites", Takes::Int),
];

/// Fills columns. A member that its column holds exactly is taken out; one that had to be read (a
/// number written as text) stays beside it; one that cannot be read just stays.
pub(super) fn take(thing: &mut Members, spec: Spec, doc: &mut Doc) -> Result<(), Refusal> {
    for (member, column, takes) in spec {
        let read = thing.get(member).and_then(|value| takes.read(value));
        if *takes == Takes::Name && is_missing(read.as_ref().map(|(value, _)| value)) {
            let detail = format!("the entry has no {member}, and its row needs one");
            return Err(Refusal::new("null_not_allowed", detail));
        }
        let Some((value, is_exact)) = read else {
            take_null(thing, member);
            continue;
        };
        doc.set(column, value);
        if is_exact {
            thing.take(member);
        }
    }
    Ok(())
}

impl Takes {
    /// The column's value, and whether it says all that the member says.
    fn read(self, value: &Json) -> Option<(Json, bool)> {
        match (self, value) {
            (Self::Name | Self::Text, Json::String(_)) | (Self::Bool, Json::Bool(_)) => {
                Some((value.clone(), true))
            }
            // A number where a text belongs reads as its digits.
            (Self::Name | Self::Text, Json::Number(digits)) => {
                Some((Json::from(digits.as_ref()), false))
            }
            (Self::Int, Json::Number(_)) => match value.as_i64() {
                Some(whole) => i32::try_from(whole).ok().map(|_| (number(whole), true)),
                None => whole(value.as_f64()?).map(|whole| (number(whole), false)),
            },
            (Self::Int, Json::String(_)) => {
                let whole: i32 = value.as_str()?.trim().parse().ok()?;
                Some((number(whole.into()), false))
            }
            (Self::Number, Json::Number(_)) => Some((value.clone(), true)),
            (Self::Moment, Json::String(_)) => {
                let (text, is_exact) = moment(value.as_str()?)?;
                Some((Json::from(text.as_str()), is_exact))
            }
            _ => None,
        }
    }
}

fn whole(value: f64) -> Option<i64> {
    let fits = value.fract() == 0.0 && value.abs() <= f64::from(i32::MAX);
    #[allow(clippy::cast_possible_truncation, reason = "in range and whole")]
    fits.then_some(value as i64)
}

/// A moment in the spelling of Postgres's jsonb, and whether the source's spelling follows from
/// it: RFC 3339 in UTC, without a fraction that is cut.
pub(super) fn moment(text: &str) -> Option<(String, bool)> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    let micros = stamp.as_microsecond();
    let stored = jiff::Timestamp::from_microsecond(micros).ok()?;
    let spelled = stored.to_string();
    let plain = spelled.strip_suffix('Z').unwrap_or(&spelled).to_owned();
    let is_exact =
        [format!("{plain}Z"), format!("{plain}+00:00")].iter().any(|known| known == text);
    Some((format!("{plain}+00:00"), is_exact))
}

/// Takes a member out if it is spelled just so.
pub(super) fn take_if_spelled(thing: &mut Members, key: &str, text: &str) {
    if thing.text(key) == Some(text) {
        thing.take(key);
    }
}

/// Takes a null out: no value is what NULL says.
pub(super) fn take_null(thing: &mut Members, key: &str) {
    if thing.get(key).is_some_and(Json::is_null) {
        thing.take(key);
    }
}

/// `{value, unit}` in seconds, where the unit is known.
pub(super) fn offline_duration(thing: &mut Members, doc: &mut Doc) {
    let Some(duration) = thing.get("duration") else { return };
    let unit = duration.get("unit").and_then(Json::as_str).unwrap_or_default();
    let factor = match unit.to_ascii_uppercase().as_str() {
        "SECONDS" => 1,
        "MINUTES" => 60,
        "HOURS" => 3600,
        _ => return,
    };
    let seconds = duration.get("value").and_then(Json::as_i64).and_then(|n| n.checked_mul(factor));
    let Some(seconds) = seconds.filter(|seconds| i32::try_from(*seconds).is_ok()) else { return };
    doc.set("duration_seconds", number(seconds));
    if unit == "SECONDS" && duration.members().len() == 2 {
        thing.take("duration");
    }
}

/// An episode with a number; None for what cannot be a row.
pub(super) fn episode(value: &Json) -> Option<EpisodePart> {
    let Json::Object(_) = value else { return None };
    let mut thing = Members::of(value.clone());
    let number = thing.get("episode_number").and_then(Json::as_i64)?;
    i32::try_from(number).ok()?;
    thing.take("episode_number");
    let mut doc = Doc::default();
    take(&mut thing, EPISODE, &mut doc).ok()?;
    if doc.get("title").is_none() {
        // The column must have one; the number is what people would call it by.
        doc.set("title", Json::from(format!("Episode {number}").as_str()));
    }
    let id = thing.text("id").and_then(|text| Uuid::parse_str(text).ok());
    if let Some(id) = id {
        take_if_spelled(&mut thing, "id", &id.to_string());
    }
    doc.set("episode_number", self::number(number));
    doc.add_rest("meta", thing);
    Some(EpisodePart { id, number, doc })
}
