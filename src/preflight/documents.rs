//! Whether the values of a json or jsonb column are JSON, and what is odd about them.

use serde::Serialize;

use crate::json::{self, Json};
use crate::preflight::report::{Counted, Place};

/// The documents of one column. One document may count under several oddities.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DocumentCensus {
    /// JSON, with or without oddities.
    pub valid: u64,
    /// Not JSON at all.
    pub invalid: Counted,
    /// With NaN or an infinity.
    pub not_finite: Counted,
    /// With an object that has one key twice.
    pub duplicate_keys: Counted,
    /// With U+0000 in a string or key.
    pub nul: Counted,
    /// With half a surrogate pair.
    pub lone_surrogates: Counted,
    /// With bytes that are not UTF-8.
    pub invalid_utf8: Counted,
}

impl DocumentCensus {
    /// Counts a text that should be JSON.
    pub(super) fn text(&mut self, text: &[u8], place: &dyn Fn() -> Place) {
        match json::parse(text) {
            Ok(document) => self.document(&document, place),
            Err(_) => self.invalid.add(place),
        }
    }

    /// Counts a parsed document.
    pub(super) fn document(&mut self, document: &Json, place: &dyn Fn() -> Place) {
        self.valid += 1;
        let mut oddities = Oddities::default();
        oddities.look(document);
        for (found, counted) in [
            (oddities.not_finite, &mut self.not_finite),
            (oddities.duplicate_keys, &mut self.duplicate_keys),
            (oddities.nul, &mut self.nul),
            (oddities.lone_surrogates, &mut self.lone_surrogates),
            (oddities.invalid_utf8, &mut self.invalid_utf8),
        ] {
            if found {
                counted.add(place);
            }
        }
    }

    /// Oddities by name, without those that are not there.
    pub(super) fn oddities(&self) -> impl Iterator<Item = (&'static str, &Counted)> {
        [
            ("not JSON", &self.invalid),
            ("with NaN or Infinity", &self.not_finite),
            ("with a duplicate key", &self.duplicate_keys),
            ("with U+0000", &self.nul),
            ("with a lone surrogate", &self.lone_surrogates),
            ("with bytes that are not UTF-8", &self.invalid_utf8),
        ]
        .into_iter()
        .filter(|(_, counted)| counted.count > 0)
    }
}

#[derive(Debug, Default)]
// Five independent findings about one document.
#[allow(clippy::struct_excessive_bools)]
struct Oddities {
    not_finite: bool,
    duplicate_keys: bool,
    nul: bool,
    lone_surrogates: bool,
    invalid_utf8: bool,
}

impl Oddities {
    /// The parser bounds the depth.
    fn look(&mut self, json: &Json) {
        match json {
            Json::Null | Json::Bool(_) => {}
            Json::Number(text) => {
                self.not_finite |= matches!(&**text, "NaN" | "Infinity" | "-Infinity");
            }
            Json::String(text) => self.string(text),
            Json::Array(elements) => {
                for element in elements {
                    self.look(element);
                }
            }
            Json::Object(members) => {
                let mut keys: Vec<&[u8]> = members.iter().map(|(key, _)| &**key).collect();
                keys.sort_unstable();
                self.duplicate_keys |= keys.windows(2).any(|pair| pair[0] == pair[1]);
                for (key, value) in members {
                    self.string(key);
                    self.look(value);
                }
            }
        }
    }

    fn string(&mut self, text: &[u8]) {
        self.nul |= memchr::memchr(0, text).is_some();
        if std::str::from_utf8(text).is_ok() {
            return;
        }
        // WTF-8: half a surrogate pair is ED A0..BF xx.
        let is_surrogate = text.windows(2).any(|pair| pair[0] == 0xED && pair[1] >= 0xA0);
        if is_surrogate {
            self.lone_surrogates = true;
        } else {
            self.invalid_utf8 = true;
        }
    }
}
