//! Natural keys: `type:title:year[:creator]`.
//!
//! Two importers of the application spelled the type of one item differently (`lightnovel:...`,
//! `light_novel:...`). Ids are made of the key, so one spelling has to stand for all.

use crate::cast::Refusal;

/// Types the application knows, in its own spelling.
const TYPES: &[&str] = &[
    "anime",
    "audiobook",
    "book",
    "comic",
    "game",
    "light_novel",
    "live_event",
    "manga",
    "movie",
    "music",
    "podcast",
    "show",
    "visual_novel",
    "web_novel",
    "web_series",
    "webtoon",
];

/// A media type in its one spelling: of a known type the application's, of others lower case with
/// underscores between words.
///
/// ```
/// use toolkit::media::key::media_type;
/// assert_eq!(media_type("lightnovel"), "light_novel");
/// assert_eq!(media_type("Light Novel"), "light_novel");
/// assert_eq!(media_type("Audio-Book"), "audiobook");
/// assert_eq!(media_type("boardGame"), "board_game");
/// ```
#[must_use]
pub fn media_type(spelled: &str) -> String {
    let snake = snake_case(spelled);
    let squashed = snake.replace('_', "");
    let known = TYPES.iter().find(|known| known.replace('_', "") == squashed);
    known.map_or(snake, |known| (*known).to_owned())
}

/// Lower case, words joined by `_`; a capital after a small letter begins a word.
#[must_use]
pub fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    let mut was_small = false;
    for letter in name.trim().chars() {
        if letter == '_' || letter == '-' || letter.is_whitespace() {
            if !snake.ends_with('_') {
                snake.push('_');
            }
            was_small = false;
            continue;
        }
        if letter.is_uppercase() && was_small {
            snake.push('_');
        }
        was_small = letter.is_lowercase() || letter.is_numeric();
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// A title or name as keys spell it: lower case, runs of anything but letters and digits as `-`.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_alphanumeric() {
            slug.extend(letter.to_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// A key with its type in the one spelling.
pub fn external_id(given: &str) -> Result<String, Refusal> {
    let trimmed = given.trim();
    let parts: Vec<&str> = trimmed.split(':').collect();
    let is_key = matches!(parts.as_slice(), [kind, title, ..] if !kind.is_empty() && !title.is_empty())
        && (3..=4).contains(&parts.len());
    if !is_key {
        let shown: String = given.chars().take(80).collect();
        let detail =
            format!("a key is type:title:year[:creator]; found \"{}\"", shown.escape_debug());
        return Err(Refusal::new("invalid_natural_key", detail));
    }
    let (kind, rest) = trimmed.split_once(':').unwrap_or((trimmed, ""));
    Ok(format!("{}:{rest}", media_type(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_importers_keys_become_one() {
        for key in ["lightnovel:a-b:2021:c", "light_novel:a-b:2021:c", "Light Novel:a-b:2021:c"] {
            assert_eq!(external_id(key).unwrap(), "light_novel:a-b:2021:c");
        }
        for none in ["", "a", "a:b", ":b:2020", "a::2020", "a:b:2020:c:d"] {
            assert_eq!(external_id(none).unwrap_err().reason, "invalid_natural_key", "{none}");
        }
    }

    #[test]
    fn every_known_type_is_its_own_spelling() {
        for known in TYPES {
            assert_eq!(media_type(known), *known);
        }
        assert_eq!(slug("Ballad of the Sea God's Daughter!"), "ballad-of-the-sea-god-s-daughter");
    }
}
