//! Names as they are compared: spellings of one name fold together, others stay apart.

use std::collections::HashSet;

use crate::anime::doc::folded_name;

/// A name with its words sorted, marks and long vowels taken off: `Yūko Satou` and `Sato Yuko` are
/// one. Names in scripts without words are their letters.
pub(super) fn reduced(name: &str) -> String {
    let folded = folded_name(name);
    let mut words: Vec<String> = folded.split(' ').map(word).collect();
    words.retain(|word| !word.is_empty());
    if words.iter().any(|word| !word.is_ascii()) {
        return words.concat();
    }
    words.sort();
    words.join(" ")
}

fn word(word: &str) -> String {
    let plain: String = word.chars().flat_map(unmarked).collect();
    let mut short = String::with_capacity(plain.len());
    for letter in plain.chars() {
        let is_long = match letter {
            'u' => short.ends_with('o') || short.ends_with('u'),
            'o' | 'a' | 'i' | 'e' => short.ends_with(letter),
            _ => false,
        };
        if !is_long {
            short.push(letter);
        }
    }
    short
}

/// Letters with a mark, as people leave it off. Of `oh` for a long o the h stays: too many names
/// have one of their own.
fn unmarked(letter: char) -> impl Iterator<Item = char> {
    let plain = match letter {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' => "a",
        'è' | 'é' | 'ê' | 'ë' | 'ē' => "e",
        'ì' | 'í' | 'î' | 'ï' | 'ī' => "i",
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ō' => "o",
        'ù' | 'ú' | 'û' | 'ü' | 'ū' => "u",
        'ñ' => "n",
        'ç' => "c",
        'ß' => "ss",
        _ => "",
    };
    let own = plain.is_empty().then_some(letter);
    plain.chars().chain(own)
}

/// Whether a name is written in Latin letters.
pub(super) fn is_latin(name: &str) -> bool {
    name.chars().filter(|letter| letter.is_alphabetic()).all(|letter| (letter as u32) < 0x250)
}

/// How alike two reduced names are, from 0 to 1: pairs of letters they share (Dice).
pub(super) fn likeness(one: &str, other: &str) -> f64 {
    if one == other {
        return 1.0;
    }
    let pairs = |name: &str| -> HashSet<(char, char)> {
        let letters: Vec<char> = format!(" {name} ").chars().collect();
        letters.windows(2).map(|pair| (pair[0], pair[1])).collect()
    };
    let (one, other) = (pairs(one), pairs(other));
    let shared = one.intersection(&other).count() as f64;
    2.0 * shared / (one.len() + other.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_reduce_to_one() {
        for (one, other) in [
            ("Yūko Satou", "Sato Yuko"),
            ("Monkey D. Luffy", "Luffy, Monkey D"),
            ("Shinobu Oshino", "OSHINO  Shinobu"),
            ("Kyōko", "Kyouko"),
        ] {
            assert_eq!(reduced(one), reduced(other), "{one} / {other}");
        }
        for (one, other) in [("Yuki", "Yuka"), ("葵", "蒼"), ("Aoi", "Aoi II")] {
            assert_ne!(reduced(one), reduced(other), "{one} / {other}");
        }
        assert_eq!(reduced("佐藤 優子"), reduced("佐藤優子"));
    }

    #[test]
    fn likeness_is_symmetric_and_between_nothing_and_one() {
        for (one, other) in [("abc", "abd"), ("", "x"), ("", ""), ("猫", "犬")] {
            let there = likeness(one, other);
            assert!((0.0..=1.0).contains(&there));
            assert!((there - likeness(other, one)).abs() < f64::EPSILON);
        }
        assert!(likeness("shinobu oshino", "shinobu oshimo") > 0.8);
    }
}
