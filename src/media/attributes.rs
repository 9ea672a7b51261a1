//! Attributes of media: keys in one spelling, lists as lists, lengths as numbers with their unit in
//! the name. What the source had stays beside what was made of it.

use crate::cast::Refusal;
use crate::json::{Json, JsonString};
use crate::media::key::snake_case;

/// Keys the application's importers wrote, and the document's.
const RENAMED: &[(&str, &str)] = &[
    ("genre", "genres"),
    ("platform", "platforms"),
    ("game_engine", "engine"),
    ("number_of_episodes", "episode_count"),
    ("number_of_seasons", "season_count"),
    ("number_of_videos", "video_count"),
];

/// Keys whose text is a list with commas.
const LISTS: &[&str] = &["genres", "platforms"];

/// The normalised attributes of an item of `media_type`; its own members come first, in their
/// order.
///
/// Errors: two spellings of one key that do not say the same.
pub fn normalised(given: &Json, media_type: &str) -> Result<Json, Refusal> {
    let Json::Object(given) = given else { return Ok(given.clone()) };
    let mut members = given.clone();
    for (key, value) in given {
        let Ok(key) = std::str::from_utf8(key) else { continue };
        let snake = snake_case(key);
        let renamed = RENAMED.iter().find(|(from, _)| *from == snake);
        let name = renamed.map_or(snake.as_str(), |(_, to)| to);
        let value = if LISTS.contains(&name) { listed(value) } else { value.clone() };
        if name == key && value == *own(given, key) {
            continue;
        }
        if name == key {
            // A list under its own name that was written as a text.
            let written = own(given, key).clone();
            set(&mut members, key, value);
            add(&mut members, key, &format!("{key}_text"), written)?;
            continue;
        }
        add(&mut members, key, name, value)?;
    }
    for (name, number) in measures(&members, media_type) {
        let is_there = members.iter().any(|(key, _)| **key == *name.as_bytes());
        if !is_there {
            members.push((name.as_bytes().into(), Json::Number(number.into())));
        }
    }
    Ok(Json::Object(members))
}

fn own<'a>(members: &'a [(JsonString, Json)], key: &str) -> &'a Json {
    let found = members.iter().rev().find(|(name, _)| **name == *key.as_bytes());
    found.map_or(&Json::Null, |(_, value)| value)
}

fn set(members: &mut [(JsonString, Json)], key: &str, value: Json) {
    if let Some((_, old)) = members.iter_mut().rev().find(|(name, _)| **name == *key.as_bytes()) {
        *old = value;
    }
}

fn add(
    members: &mut Vec<(JsonString, Json)>,
    key: &str,
    name: &str,
    value: Json,
) -> Result<(), Refusal> {
    let Some((_, there)) = members.iter().rev().find(|(other, _)| **other == *name.as_bytes())
    else {
        members.push((name.as_bytes().into(), value));
        return Ok(());
    };
    let there = if LISTS.contains(&name) { listed(there) } else { there.clone() };
    if there == value || value == Json::Null {
        return Ok(());
    }
    let detail = format!(
        "the attributes `{}` and `{name}` are one, and do not say the same",
        key.escape_debug()
    );
    Err(Refusal::new("attribute_collision", detail))
}

/// A text with commas as a list; anything else as it is.
fn listed(value: &Json) -> Json {
    let Json::String(text) = value else { return value.clone() };
    let parts = text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let parts = parts.filter(|part| !part.is_empty()).map(|part| Json::String(part.into()));
    Json::Array(parts.collect())
}

/// Numbers with their unit that the texts of an item's length and capacity say.
fn measures(members: &[(JsonString, Json)], media_type: &str) -> Vec<(&'static str, String)> {
    let text = |key: &str| own(members, key).as_str().map(str::to_lowercase);
    let mut found = Vec::new();
    if let Some(length) = text("media_length") {
        found.extend(length_of(&length, media_type));
    }
    if let Some((number, unit)) = text("capacity").as_deref().and_then(leading_number)
        && matches!(
            unit,
            "seats" | "attendees" | "guests" | "participants" | "spectators" | "standing"
        )
        && !number.contains('.')
    {
        found.push(("capacity_persons", number));
    }
    found
}

/// `260 pages`, `7 minutes per episode`, `2 hours 5 minutes`, `3:45`, `1.2 million words`, ...;
/// what is not such a text gives nothing.
fn length_of(text: &str, media_type: &str) -> Vec<(&'static str, String)> {
    // What stands in brackets says how the number is meant, not what it counts.
    let text = text.split('(').next().unwrap_or_default().trim();
    if let Some(seconds) = clock(text) {
        return vec![("duration_seconds", seconds)];
    }
    if let Some((range, "minutes per episode")) = text.split_once(' ')
        && let Some((least, most)) = range.split_once('-')
        && is_count(least)
        && is_count(most)
    {
        return vec![
            ("episode_minutes_min", least.to_owned()),
            ("episode_minutes_max", most.to_owned()),
        ];
    }
    let Some((number, unit)) = leading_number(text) else { return Vec::new() };
    let is_whole = !number.contains('.');
    let hours = unit.strip_prefix("hours").or_else(|| unit.strip_prefix("hour"));
    let name = match unit {
        "minutes per episode" => "episode_minutes",
        "pages" | "page" => "page_count",
        "volumes" | "volume" | "volume ogn" => "volume_count",
        "chapters" | "chapter" => "chapter_count",
        "issues" | "issue" | "issue limited series" => "issue_count",
        "minutes" | "minute" if matches!(media_type, "movie" | "show" | "anime") => {
            "runtime_minutes"
        }
        "minutes" | "minute" => "duration_minutes",
        "days" | "day" => "duration_days",
        "words" => "word_count",
        "million words" => {
            return millions(&number).map(|n| ("word_count", n)).into_iter().collect();
        }
        "hours" | "hour" if matches!(media_type, "game" | "visual_novel") => {
            return vec![("playtime_hours", number)];
        }
        _ => {
            let minutes = hours.and_then(|rest| in_minutes(&number, rest.trim()));
            return minutes.map(|minutes| ("duration_minutes", minutes)).into_iter().collect();
        }
    };
    if is_whole { vec![(name, number)] } else { Vec::new() }
}

/// `14,000 seats` as (`14000`, `seats`).
fn leading_number(text: &str) -> Option<(String, &str)> {
    let (number, unit) = text.trim().split_once(' ')?;
    let mut groups = number.split(',');
    let first = groups.next()?;
    let is_grouped = groups.clone().next().is_some();
    let are_whole = groups.all(|group| group.len() == 3 && is_count(group));
    let (whole, fraction) = first.split_once('.').unwrap_or((first, "0"));
    let is_number = is_count(whole) && is_count(fraction) && are_whole;
    let fits = !is_grouped || (whole.len() <= 3 && !first.contains('.'));
    (is_number && fits).then(|| (number.replace(',', ""), unit.trim()))
}

fn is_count(text: &str) -> bool {
    (1..=9).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0') || text.len() == 3)
}

/// `3:45` in seconds.
fn clock(text: &str) -> Option<String> {
    let (minutes, seconds) = text.split_once(':')?;
    let is_clock = is_count(minutes)
        && seconds.len() == 2
        && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = seconds.parse().ok().filter(|seconds| *seconds < 60)?;
    let minutes: u64 = minutes.parse().ok().filter(|_| is_clock)?;
    Some((minutes * 60 + seconds).to_string())
}

/// `1.2` million, exactly.
fn millions(number: &str) -> Option<String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let zeros = 6_usize.checked_sub(fraction.len())?;
    let digits = format!("{whole}{fraction}{}", "0".repeat(zeros));
    digits.parse::<u64>().ok().map(|count| count.to_string())
}

/// Hours, and what follows them: nothing, or minutes.
fn in_minutes(hours: &str, rest: &str) -> Option<String> {
    let more: u64 = if rest.is_empty() {
        0
    } else {
        let (number, "minutes" | "minute") = leading_number(rest)? else { return None };
        number.parse().ok()?
    };
    let (whole, fraction) = hours.split_once('.').unwrap_or((hours, "0"));
    let tenths: u64 = if fraction.len() == 1 { fraction.parse().ok()? } else { return None };
    let minutes = whole.parse::<u64>().ok()? * 60 + tenths * 6 + more;
    Some(minutes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, media_type: &str) -> String {
        let given = crate::json::parse(text.as_bytes()).unwrap();
        match normalised(&given, media_type) {
            Ok(json) => String::from_utf8(json.to_source_text()).unwrap(),
            Err(refusal) => refusal.reason.to_owned(),
        }
    }

    #[test]
    fn originals_stay_beside_the_normalised_keys() {
        for (given, expected) in [
            (r#"{"genre":"A, B"}"#, r#"{"genre":"A, B","genres":["A","B"]}"#),
            (r#"{"platform":"PC"}"#, r#"{"platform":"PC","platforms":["PC"]}"#),
            (r#"{"game_engine":"Unity"}"#, r#"{"game_engine":"Unity","engine":"Unity"}"#),
            (r#"{"pageCount":3}"#, r#"{"pageCount":3,"page_count":3}"#),
            (r#"{"genres":["A"],"genre":"A"}"#, r#"{"genres":["A"],"genre":"A"}"#),
            (r#"{"genres":["A"],"genre":"B"}"#, "attribute_collision"),
            (r#"{"Page Count":3,"pageCount":4}"#, "attribute_collision"),
            (r#"{"genres":"A,B"}"#, r#"{"genres":["A","B"],"genres_text":"A,B"}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("[1]", "[1]"),
        ] {
            assert_eq!(of(given, "book"), expected, "{given}");
        }
    }

    #[test]
    fn lengths_become_numbers_where_they_parse() {
        for (length, media_type, expected) in [
            ("7 minutes per episode", "anime", r#""episode_minutes":7"#),
            ("260 pages", "book", r#""page_count":260"#),
            ("95 minutes", "movie", r#""runtime_minutes":95"#),
            ("40 Minutes", "podcast", r#""duration_minutes":40"#),
            ("2 hours 5 minutes", "audiobook", r#""duration_minutes":125"#),
            ("3:45", "music", r#""duration_seconds":225"#),
            (
                "5-8 minutes per episode",
                "web_series",
                r#""episode_minutes_min":5,"episode_minutes_max":8"#,
            ),
            ("1.25 Million Words", "web_novel", r#""word_count":1250000"#),
            ("12 Volumes (Ongoing)", "manga", r#""volume_count":12"#),
            ("40 Hours (Main Story)", "game", r#""playtime_hours":40"#),
            ("3 Hours", "live_event", r#""duration_minutes":180"#),
            ("2 Days", "live_event", r#""duration_days":2"#),
        ] {
            let found = of(&format!(r#"{{"media_length":"{length}"}}"#), media_type);
            assert_eq!(found, format!(r#"{{"media_length":"{length}",{expected}}}"#));
        }
        for none in
            ["Infinite (MMO)", "60+ Hours (Mastery)", "", "pages", "3:75", "1,2 pages", "-3 pages"]
        {
            let given = format!(r#"{{"media_length":"{none}"}}"#);
            assert_eq!(of(&given, "game"), given);
        }
        assert_eq!(
            of(r#"{"capacity":"14,000 Seats"}"#, "live_event"),
            r#"{"capacity":"14,000 Seats","capacity_persons":14000}"#
        );
        assert_eq!(
            of(r#"{"capacity":"6 People/Hour"}"#, "live_event"),
            r#"{"capacity":"6 People/Hour"}"#
        );
    }
}
