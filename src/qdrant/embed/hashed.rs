//! Vectors without a model: words and character n-grams, hashed into so many numbers.
//!
//! Good for finding one name written in two ways, not for meaning. Case, diacritics, width,
//! punctuation and the order of words make no difference; ways to romanise Japanese make little.
//! Deterministic: the same on every machine and in every version that bears this name.

use async_trait::async_trait;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::{Embedded, Embedder, Text};
use crate::error::Result;

/// How much of the vector is names, where there is a description too.
const NAMES_SHARE: f32 = 0.95;

/// Hashed words and n-grams; see the module.
#[derive(Debug, Clone)]
pub struct Hashed {
    dimension: u32,
    name: String,
}

impl Hashed {
    /// Vectors of `dimension` numbers.
    pub fn new(dimension: u32) -> Self {
        Self { dimension, name: format!("hashed-ngrams-1-{dimension}") }
    }

    /// The vector of one text: of length 1, or all zero where there is nothing to hash.
    pub fn vector(&self, text: &str) -> Vec<f32> {
        let (names, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut vector = self.bag(names);
        let rest = self.bag(rest);
        if rest.iter().any(|number| *number != 0.0) {
            let rest_share = (1.0 - NAMES_SHARE * NAMES_SHARE).sqrt();
            for (number, other) in vector.iter_mut().zip(rest) {
                *number = *number * NAMES_SHARE + other * rest_share;
            }
        }
        normalised(vector)
    }

    /// Features counted, dampened by the square root, signed by their hash.
    fn bag(&self, text: &str) -> Vec<f32> {
        let mut counts = std::collections::HashMap::<u64, (u32, f32)>::new();
        let mut count = |feature: u64, weight: f32| {
            let entry = counts.entry(feature).or_insert((0, weight));
            entry.0 += 1;
        };
        for word in words(text) {
            features(&word, 0, &mut count);
            features(&sounded(&word), 1, &mut count);
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        // Sums of floats depend on their order.
        counts.sort_unstable_by_key(|(feature, _)| *feature);
        let mut vector = vec![0.0_f32; self.dimension as usize];
        for (feature, (times, weight)) in counts {
            let place = (feature >> 1) % u64::from(self.dimension);
            let sign = if feature & 1 == 0 { 1.0 } else { -1.0 };
            vector[usize::try_from(place).unwrap_or(0)] += sign * weight * (times as f32).sqrt();
        }
        normalised(vector)
    }
}

#[async_trait]
impl Embedder for Hashed {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn dimension(&self) -> u32 {
        self.dimension
    }

    async fn embed(&self, texts: &[Text]) -> Result<Vec<Embedded>> {
        let (this, texts) = (self.clone(), texts.to_vec());
        let made = tokio::task::spawn_blocking(move || {
            let one =
                |text: &Text| Embedded { vector: this.vector(&text.text), by: this.name.clone() };
            texts.iter().map(one).collect()
        });
        made.await.map_err(crate::pack::join_error)
    }
}

fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if norm > f32::EPSILON {
        for number in &mut vector {
            *number /= norm;
        }
    }
    vector
}

/// Words, folded: without case, diacritics, width and the two Japanese syllabaries' difference.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'ß' => push(&mut words, "ss"),
            'æ' => push(&mut words, "ae"),
            'œ' => push(&mut words, "oe"),
            'ø' => push(&mut words, "o"),
            'ł' => push(&mut words, "l"),
            'đ' | 'ð' => push(&mut words, "d"),
            // An apostrophe joins: Ken'ichi, O'Neil.
            '\'' | '’' | 'ʼ' | '`' => {}
            // Katakana, 0x60 after the hiragana of the same sound.
            'ァ'..='ヶ' => {
                let hiragana = char::from_u32(u32::from(c) - 0x60).unwrap_or(c);
                push(&mut words, hiragana.encode_utf8(&mut [0; 4]));
            }
            c if c.is_alphanumeric() => push(&mut words, c.encode_utf8(&mut [0; 4])),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn push(words: &mut [String], text: &str) {
    if let Some(word) = words.last_mut() {
        word.push_str(text);
    }
}

/// Spellings of one sound, longest first: Hepburn, Kunrei and what is typed without macrons.
const SOUNDS: [(&str, &str); 31] = [
    ("cch", "ty"),
    ("tch", "ty"),
    ("ssh", "sy"),
    ("tsu", "tu"),
    ("shi", "si"),
    ("chi", "ti"),
    ("sha", "sya"),
    ("shu", "syu"),
    ("sho", "syo"),
    ("cha", "tya"),
    ("chu", "tyu"),
    ("cho", "tyo"),
    ("jya", "zya"),
    ("jyu", "zyu"),
    ("jyo", "zyo"),
    ("ja", "zya"),
    ("ju", "zyu"),
    ("jo", "zyo"),
    ("ji", "zi"),
    ("di", "zi"),
    ("dzu", "zu"),
    ("du", "zu"),
    ("fu", "hu"),
    ("wo", "o"),
    ("ou", "o"),
    ("oh", "o"),
    ("mb", "nb"),
    ("mp", "np"),
    ("l", "r"),
    ("v", "b"),
    ("ph", "hu"),
];

/// The word by its sound: one spelling where there are several, no doubled letters.
fn sounded(word: &str) -> String {
    let mut sound = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        match SOUNDS.iter().find(|(written, _)| rest.starts_with(written)) {
            Some((written, spoken)) => {
                sound.push_str(spoken);
                rest = &rest[written.len()..];
            }
            None => {
                sound.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    let mut last = None;
    sound.retain(|c| last.replace(c) != Some(c));
    sound
}

/// The word, and runs of its characters with its ends marked; short runs say less.
fn features(word: &str, kind: u8, count: &mut impl FnMut(u64, f32)) {
    let is_ideographic = word.chars().any(|c| u32::from(c) >= 0x3000);
    count(hash(kind, 0, word.chars()), if is_ideographic { 0.5 } else { 1.0 });
    let marked: Vec<char> =
        std::iter::once('^').chain(word.chars()).chain(std::iter::once('$')).collect();
    for (length, weight) in [(2, 0.45), (3, 0.6), (4, 0.5)] {
        for run in marked.windows(length) {
            count(hash(kind, 1, run.iter().copied()), weight);
        }
    }
    if is_ideographic {
        word.chars().for_each(|c| count(hash(kind, 1, std::iter::once(c)), 0.4));
    }
}

/// FNV-1a, then a mix (of `SplitMix64`) so that every bit depends on every character.
fn hash(kind: u8, class: u8, text: impl Iterator<Item = char>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    add(kind);
    add(class);
    for c in text {
        u32::from(c).to_le_bytes().into_iter().for_each(&mut add);
    }
    hash ^= hash >> 30;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 27;
    hash = hash.wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let hashed = Hashed::new(384);
        hashed.vector(a).iter().zip(hashed.vector(b)).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn case_diacritics_punctuation_and_order_make_no_difference() {
        for (a, b) in [
            ("Monkey D. Luffy", "LUFFY monkey d"),
            ("Éclair Farron", "eclair  farron!"),
            ("Ｎａｒｕｔｏ", "naruto"),
            ("ルフィ", "るふぃ"),
        ] {
            assert!(cosine(a, b) > 0.999, "{a} {b} {}", cosine(a, b));
        }
        assert!(cosine("Ken'ichi Satō", "Kenichi Satou") > 0.8);
        assert!(cosine("Monkey D. Luffy", "Edward Elric") < 0.3);
    }

    #[test]
    fn vectors_have_length_one_and_never_change() {
        let vector = Hashed::new(16).vector("Spike Spiegel\n\nA bounty hunter.");
        let norm: f32 = vector.iter().map(|number| number * number).sum();
        assert!((norm - 1.0).abs() < 1e-5);
        let again = Hashed::new(16).vector("Spike Spiegel\n\nA bounty hunter.");
        assert_eq!(vector, again);
        // A change of this one would make the same texts strangers to stored vectors.
        let first: Vec<String> = vector.iter().take(4).map(|x| format!("{x:.3}")).collect();
        assert_eq!(first, PINNED);
        assert!(Hashed::new(16).vector(" . ").iter().all(|number| *number == 0.0));
    }

    const PINNED: [&str; 4] = ["0.275", "-0.142", "0.176", "0.172"];
}
