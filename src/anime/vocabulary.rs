//! The words of the sources, and the words they are stored as.
//!
//! Relations mix two vocabularies in real data: `MUSIC` or `OVA` as a relation is the format of the
//! target, and says nothing about how the two are related.

/// What an anime is to another, or to what it was made from.
pub const RELATION_TYPES: &[&str] = &[
    "SEQUEL",
    "PREQUEL",
    "SIDE_STORY",
    "PARENT_STORY",
    "SUMMARY",
    "FULL_STORY",
    "ALTERNATIVE",
    "ALTERNATIVE_VERSION",
    "ALTERNATIVE_SETTING",
    "ALTERNATE_UNIVERSE",
    "SHARED_UNIVERSE",
    "SAME_SETTING",
    "CROSSOVER",
    "SAME_FRANCHISE",
    "OTHER_FRANCHISE",
    "OTHER",
    "ADAPTATION",
    "CHARACTER",
    "SPIN_OFF",
    "CONDENSED_VERSION",
    "RECAP",
    "UNKNOWN",
];

/// What kind of anime it is.
pub const FORMATS: &[&str] = &[
    "TV",
    "TV_SHORT",
    "TV_SPECIAL",
    "MOVIE",
    "OVA",
    "ONA",
    "SPECIAL",
    "MUSIC",
    "MUSIC_VIDEO",
    "PV",
    "CM",
    "UNKNOWN",
];

/// Letters and digits of a raw word in upper case, so that case, spaces, hyphens and underscores
/// do not matter.
fn folded(raw: &str) -> String {
    raw.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_uppercase).collect()
}

/// A raw relation type in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation {
    /// One of [`RELATION_TYPES`].
    pub relation: &'static str,
    /// The target's format, where the raw word was one.
    pub format: Option<&'static str>,
    /// Whether the word is in no vocabulary; its text is kept and counted.
    pub is_unknown_word: bool,
}

/// Reads a raw relation type. Missing or empty: `UNKNOWN`.
#[must_use]
pub fn relation(raw: Option<&str>) -> Relation {
    let word = folded(raw.unwrap_or_default());
    let known = |relation| Relation { relation, format: None, is_unknown_word: false };
    if word.is_empty() {
        return known("UNKNOWN");
    }
    if let Some(relation) = RELATION_TYPES.iter().copied().find(|name| folded(name) == word) {
        return known(relation);
    }
    let relation = match word.as_str() {
        "SEQUELS" => "SEQUEL",
        "PREQUELS" => "PREQUEL",
        "PARENT" | "PARENTS" => "PARENT_STORY",
        "SIDESTORIES" | "OMAKE" => "SIDE_STORY",
        "SPINOFFS" => "SPIN_OFF",
        "ALTERNATIVES" => "ALTERNATIVE",
        "REMAKE" | "REMAKES" | "ALTERNATEVERSION" => "ALTERNATIVE_VERSION",
        "ALTERNATEENVIRONMENT" | "ALTERNATESETTING" => "ALTERNATIVE_SETTING",
        "COMPILATION" => "SUMMARY",
        "CONTAINS" => "OTHER",
        "ORIGINALWORK" => "ADAPTATION",
        _ => "",
    };
    if !relation.is_empty() {
        return known(relation);
    }
    match format_word(&word) {
        Some(format) => {
            Relation { relation: "OTHER", format: Some(format), is_unknown_word: false }
        }
        None => Relation { relation: "OTHER", format: None, is_unknown_word: true },
    }
}

/// Reads a raw format; None for a word of no vocabulary.
#[must_use]
pub fn format(raw: &str) -> Option<&'static str> {
    // "TV (Chinese)" and its like: where it was made is no format.
    let plain = raw.split('(').next().unwrap_or(raw);
    format_word(&folded(plain))
}

fn format_word(word: &str) -> Option<&'static str> {
    if let Some(format) = FORMATS.iter().copied().find(|name| folded(name) == word) {
        return Some(format);
    }
    Some(match word {
        "TVSERIES" | "SERIES" => "TV",
        "WEB" => "ONA",
        "OAV" => "OVA",
        "DVDSPECIAL" | "BONUS" | "SPECIALS" => "SPECIAL",
        "FILM" => "MOVIE",
        "PROMO" | "PROMOTIONALVIDEO" => "PV",
        "COMMERCIAL" => "CM",
        _ => return None,
    })
}

/// Reads a raw status; None for a word of no vocabulary.
#[must_use]
pub fn status(raw: &str) -> Option<&'static str> {
    Some(match folded(raw).as_str() {
        "UPCOMING" | "NOTYETAIRED" | "NOTYETRELEASED" | "TBA" | "UNRELEASED" => "UPCOMING",
        "ONGOING" | "CURRENTLYAIRING" | "RELEASING" | "HIATUS" | "CURRENT" | "AIRING" => "ONGOING",
        "FINISHED" | "FINISHEDAIRING" | "COMPLETED" | "COMPLETE" => "FINISHED",
        "CANCELLED" | "CANCELED" => "CANCELLED",
        "UNKNOWN" => "UNKNOWN",
        _ => return None,
    })
}

/// Whether a status may follow another by itself.
#[must_use]
pub fn is_forward(from: &str, to: &str) -> bool {
    match (from, to) {
        _ if from == to => true,
        ("UNKNOWN", _)
        | ("UPCOMING", "ONGOING" | "FINISHED" | "CANCELLED")
        | ("ONGOING", "FINISHED" | "CANCELLED") => true,
        _ => false,
    }
}

/// Reads a raw season; None for anything but the four.
#[must_use]
pub fn season(raw: &str) -> Option<&'static str> {
    Some(match folded(raw).as_str() {
        "SPRING" => "SPRING",
        "SUMMER" => "SUMMER",
        "FALL" | "AUTUMN" => "FALL",
        "WINTER" => "WINTER",
        _ => return None,
    })
}

/// Whether the stated type of an original work is another than manga.
#[must_use]
pub fn is_other_work(kind: &str) -> bool {
    const OTHERS: &[&str] = &["NOVEL", "GAME", "BOOK", "MUSIC", "RADIO", "CARD", "PICTURE", "PLAY"];
    let word = folded(kind);
    OTHERS.iter().any(|other| word.contains(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relation_of_the_vocabulary_is_read_however_it_is_spelled() {
        for name in RELATION_TYPES {
            for spelled in [name.to_lowercase(), name.replace('_', " "), name.replace('_', "-")] {
                assert_eq!(relation(Some(&spelled)).relation, *name, "{spelled}");
            }
        }
    }

    #[test]
    fn spellings_of_the_platforms_are_read() {
        let cases = [
            ("Parent story", "PARENT_STORY"),
            ("PARENT", "PARENT_STORY"),
            ("Spin-off", "SPIN_OFF"),
            ("spinoffs", "SPIN_OFF"),
            ("sideStories", "SIDE_STORY"),
            ("omake", "SIDE_STORY"),
            ("remake", "ALTERNATIVE_VERSION"),
            ("COMPILATION", "SUMMARY"),
            ("CONTAINS", "OTHER"),
            ("Alternate Environment", "ALTERNATIVE_SETTING"),
            ("Alternate Setting", "ALTERNATIVE_SETTING"),
            ("Original Work", "ADAPTATION"),
            ("Alternate Universe", "ALTERNATE_UNIVERSE"),
        ];
        for (raw, wanted) in cases {
            let read = relation(Some(raw));
            assert_eq!((read.relation, read.format, read.is_unknown_word), (wanted, None, false));
        }
        assert_eq!(relation(None).relation, "UNKNOWN");
        assert_eq!(relation(Some(" ")).relation, "UNKNOWN");
    }

    #[test]
    fn a_format_among_the_relations_is_the_targets_and_an_unknown_word_is_said() {
        for raw in ["MUSIC", "SPECIAL", "MOVIE", "ONA", "OVA", "TV", "PV", "CM", "music video"] {
            let read = relation(Some(raw));
            assert_eq!(read.relation, "OTHER");
            assert_eq!(read.format.map(folded), Some(folded(raw)));
        }
        let odd = relation(Some("Cousin"));
        assert_eq!((odd.relation, odd.format, odd.is_unknown_word), ("OTHER", None, true));
    }

    #[test]
    fn formats_and_states_are_read_as_the_platforms_spell_them() {
        let formats = [
            ("tv series", "TV"),
            ("tv-series", "TV"),
            ("web", "ONA"),
            ("Web (chinese)", "ONA"),
            ("music video", "MUSIC_VIDEO"),
            ("dvd special", "SPECIAL"),
            ("oav", "OVA"),
            ("bonus", "SPECIAL"),
            ("TV_SHORT", "TV_SHORT"),
        ];
        for (raw, wanted) in formats {
            assert_eq!(format(raw), Some(wanted), "{raw}");
        }
        assert_eq!(format("vinyl"), None);
        let states = [
            ("currently airing", "ONGOING"),
            ("Finished Airing", "FINISHED"),
            ("not yet aired", "UPCOMING"),
            ("RELEASING", "ONGOING"),
            ("NOT_YET_RELEASED", "UPCOMING"),
            ("hiatus", "ONGOING"),
            ("tba", "UPCOMING"),
            ("completed", "FINISHED"),
            ("current", "ONGOING"),
        ];
        for (raw, wanted) in states {
            assert_eq!(status(raw), Some(wanted), "{raw}");
        }
    }

    #[test]
    fn a_status_goes_forward_only() {
        assert!(is_forward("UPCOMING", "FINISHED"));
        assert!(is_forward("ONGOING", "CANCELLED"));
        assert!(is_forward("UNKNOWN", "UPCOMING"));
        assert!(!is_forward("FINISHED", "ONGOING"));
        assert!(!is_forward("FINISHED", "CANCELLED"));
        assert!(!is_forward("CANCELLED", "ONGOING"));
        assert!(!is_forward("ONGOING", "UNKNOWN"));
    }
}
