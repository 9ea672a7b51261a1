//! Seeded generator of JSON source texts that lean on the edges. The oracle test against a live
//! server includes this file too, so it depends on nothing of the crate.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Strings as they stand between the quotes of a source text.
const CLEAN_PIECES: &[&[u8]] = &[
    b"a",
    b"b",
    b"ab",
    b"z",
    b"Key",
    b" ",
    b"/",
    b"~",
    b"\\/",
    b"\\\"",
    b"\\\\",
    b"\\b",
    b"\\f",
    b"\\n",
    b"\\r",
    b"\\t",
    b"\\u0001",
    b"\\u001F",
    b"\\u007f",
    b"\x7f",
    b"\\u0080",
    b"\\u2028",
    b"\xe2\x80\xa8",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"\\ud83d\\ude00",
    b"\\uD83D\\uDE00",
    b"\xf0\x9f\x98\x80",
    b"\\uffff",
    b"\\ufffd",
    b"\xef\xbb\xbf",
    b"null",
    b"{}",
    b"'",
    b",",
    b":",
    b"\\u0022",
    b"\\u005c",
    b"\\u0041",
];

const FAULTY_PIECES: &[&[u8]] = &[
    b"\\u0000",
    b"\\ud800",
    b"\\udfff",
    b"\\udc00\\ud800",
    b"\\ud800x",
    b"\\ud83d\\ud83d\\ude00",
    b"\xff",
    b"\xc3",
    b"\xe2\x80",
    b"\xed\xa0\x80",
    b"\xed\xb0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
];

const FAULTY_NUMBERS: &[&str] =
    &["NaN", "Infinity", "-Infinity", "1e131072", "1e-16384", "0e1073741823", "-1E+999999999999"];

/// Few, so that objects hold duplicates.
const COMMON_KEYS: &[&str] = &["", "a", "b", "aa", "ab", "B", "\\u0061", "\u{e9}", "zz"];

/// The generator; equal seeds give equal documents.
pub(crate) struct Generator {
    random: ChaCha8Rng,
    faults: bool,
}

impl Generator {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), faults: false }
    }

    /// A document that parses; it may hold what jsonb refuses.
    pub(crate) fn document(&mut self) -> Vec<u8> {
        self.faults = self.random.random_bool(0.3);
        let value = self.value(0);
        let mut out = Vec::new();
        self.render(&value, &mut out);
        out
    }

    /// A document that jsonb takes; duplicate keys included.
    pub(crate) fn clean_document(&mut self) -> Vec<u8> {
        self.faults = false;
        let value = self.value(0);
        let mut out = Vec::new();
        self.render(&value, &mut out);
        out
    }

    /// Two texts of one value: members in another order, other white space. No duplicate keys.
    pub(crate) fn equal_documents(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.faults = false;
        let mut value = self.value(0);
        number_keys(&mut value);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        self.render(&value, &mut first);
        self.shuffle(&mut value);
        self.render(&value, &mut second);
        (first, second)
    }

    /// A document with a few bytes cut, doubled or changed; mostly no longer JSON.
    pub(crate) fn damaged_document(&mut self) -> Vec<u8> {
        let mut text = self.document();
        for _ in 0..self.random.random_range(1..4) {
            let position = self.random.random_range(0..=text.len());
            match self.random.random_range(0..4) {
                0 => text.truncate(position),
                1 => text.insert(
                    position,
                    *b"\"\\{}[],:019eE+-.nt \x01u".choose(&mut self.random).unwrap(),
                ),
                2 if position < text.len() => {
                    text.remove(position);
                }
                _ if position < text.len() => text[position] ^= 1 << self.random.random_range(0..7),
                _ => {}
            }
        }
        text
    }

    fn value(&mut self, depth: usize) -> Source {
        let kinds = if depth > 4 { 4 } else { 7 };
        match self.random.random_range(0..kinds) {
            0 => Source::Scalar(
                (*["null", "true", "false"].choose(&mut self.random).unwrap()).into(),
            ),
            1 | 2 => Source::Scalar(self.number().into_bytes()),
            3 => Source::Scalar(self.string()),
            4 => {
                let count = self.random.random_range(0..5);
                Source::Array((0..count).map(|_| self.value(depth + 1)).collect())
            }
            _ => {
                let count = self.random.random_range(0..8);
                Source::Object((0..count).map(|_| (self.key(), self.value(depth + 1))).collect())
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        if self.random.random_bool(0.6) {
            let key = COMMON_KEYS.choose(&mut self.random).unwrap();
            format!("\"{key}\"").into_bytes()
        } else {
            self.string()
        }
    }

    fn string(&mut self) -> Vec<u8> {
        let mut text = vec![b'"'];
        for _ in 0..self.random.random_range(0..6) {
            let faulty = self.faults && self.random.random_bool(0.15);
            let pieces = if faulty { FAULTY_PIECES } else { CLEAN_PIECES };
            text.extend_from_slice(pieces.choose(&mut self.random).unwrap());
        }
        text.push(b'"');
        text
    }

    fn number(&mut self) -> String {
        if self.faults && self.random.random_bool(0.1) {
            return (*FAULTY_NUMBERS.choose(&mut self.random).unwrap()).to_owned();
        }
        let mut text = String::new();
        if self.random.random_bool(0.4) {
            text.push('-');
        }
        let integer_digits = self.random.random_range(0..9);
        match integer_digits {
            0..3 => text.push('0'),
            count => {
                text.push(char::from(self.random.random_range(b'1'..=b'9')));
                self.digits(&mut text, count * count / 2);
            }
        }
        if self.random.random_bool(0.5) {
            text.push('.');
            let count = self.random.random_range(1..9);
            self.digits(&mut text, count);
        }
        if self.random.random_bool(0.3) {
            text.push(if self.random.random() { 'e' } else { 'E' });
            text.push_str(["", "+", "-"].choose(&mut self.random).unwrap());
            let exponent = match self.random.random_range(0..20) {
                // At the edge of numeric's 16383 decimals, or safely inside with all of ours.
                0 => self.random.random_range(0..=if self.faults { 17_000 } else { 16_370 }),
                1 => self.random.random_range(0..=300),
                _ => self.random.random_range(0..=12),
            };
            text.push_str(&exponent.to_string());
        }
        text
    }

    fn digits(&mut self, text: &mut String, count: usize) {
        for _ in 0..count {
            let zero = self.random.random_bool(0.4);
            text.push(if zero { '0' } else { char::from(self.random.random_range(b'0'..=b'9')) });
        }
    }

    fn shuffle(&mut self, value: &mut Source) {
        match value {
            Source::Scalar(_) => {}
            Source::Array(elements) => {
                for element in elements {
                    self.shuffle(element);
                }
            }
            Source::Object(members) => {
                members.shuffle(&mut self.random);
                for (_, member) in members {
                    self.shuffle(member);
                }
            }
        }
    }

    fn render(&mut self, value: &Source, out: &mut Vec<u8>) {
        self.space(out);
        match value {
            Source::Scalar(text) => out.extend_from_slice(text),
            Source::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.render(element, out);
                }
                self.space(out);
                out.push(b']');
            }
            Source::Object(members) => {
                out.push(b'{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.space(out);
                    out.extend_from_slice(key);
                    self.space(out);
                    out.push(b':');
                    self.render(member, out);
                }
                self.space(out);
                out.push(b'}');
            }
        }
        self.space(out);
    }

    fn space(&mut self, out: &mut Vec<u8>) {
        if self.random.random_bool(0.1) {
            out.extend_from_slice(
                [&b" "[..], b"\n", b"\t\r\n", b"  "].choose(&mut self.random).unwrap(),
            );
        }
    }
}

enum Source {
    /// Its source text.
    Scalar(Vec<u8>),
    Array(Vec<Source>),
    /// Keys with their quotes.
    Object(Vec<(Vec<u8>, Source)>),
}

/// Makes the keys of every object differ by appending their position.
fn number_keys(value: &mut Source) {
    match value {
        Source::Scalar(_) => {}
        Source::Array(elements) => elements.iter_mut().for_each(number_keys),
        Source::Object(members) => {
            for (position, (key, member)) in members.iter_mut().enumerate() {
                key.pop();
                key.extend_from_slice(format!("#{position}\"").as_bytes());
                number_keys(member);
            }
        }
    }
}
