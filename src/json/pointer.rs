//! JSON pointers, RFC 6901.

use super::Json;

/// The value at an RFC 6901 pointer; the empty pointer is the document. Of duplicate keys the
/// last one is followed.
pub fn pointer<'a>(document: &'a Json, path: &str) -> Option<&'a Json> {
    if path.is_empty() {
        return Some(document);
    }
    path.strip_prefix('/')?.split('/').try_fold(document, step)
}

fn step<'a>(value: &'a Json, token: &str) -> Option<&'a Json> {
    match value {
        Json::Object(_) if token.contains('~') => {
            value.get(&token.replace("~1", "/").replace("~0", "~"))
        }
        Json::Object(_) => value.get(token),
        Json::Array(elements) => elements.get(index(token)?),
        _ => None,
    }
}

/// RFC 6901 array indexes have no sign and no leading zeros.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && !token.is_empty());
    (plain && token.bytes().all(|byte| byte.is_ascii_digit())).then(|| token.parse().ok())?
}

/// Where the writer stands inside a document; text is made only when something has to be named.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Key(&'a [u8]),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Self = Self { parent: None, segment: Segment::Root };

    /// `key` is the key as it is stored: replaced and redacted, so that no pointer tells a secret.
    pub(super) fn key<'b>(&'b self, key: &'b [u8]) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The pointer's text. What is not UTF-8, and U+0000, reads U+FFFD, so that it can be stored.
    pub(super) fn text(&self) -> String {
        let mut segments = Vec::new();
        let mut here = Some(self);
        while let Some(path) = here {
            segments.push(path.segment);
            here = path.parent;
        }
        let mut text = String::new();
        for segment in segments.into_iter().rev() {
            match segment {
                Segment::Root => {}
                Segment::Index(index) => {
                    text.push('/');
                    text.push_str(&index.to_string());
                }
                Segment::Key(key) => {
                    text.push('/');
                    for character in String::from_utf8_lossy(key).chars() {
                        match character {
                            '~' => text.push_str("~0"),
                            '/' => text.push_str("~1"),
                            '\0' => text.push('\u{fffd}'),
                            other => text.push(other),
                        }
                    }
                }
            }
        }
        text
    }

    /// The pointer for a sentence: quoted, shortened, and named where it is empty.
    pub(super) fn place(&self) -> String {
        const CHARACTERS_MAX: usize = 200;
        let text = self.text();
        if text.is_empty() {
            return "the top level".to_owned();
        }
        match text.char_indices().nth(CHARACTERS_MAX) {
            Some((end, _)) => format!("{:?}...", &text[..end]),
            None => format!("{text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    /// The examples of RFC 6901, section 5.
    #[test]
    fn the_examples_of_rfc_6901_hold() {
        let document = parse(
            br#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#,
        )
        .unwrap();
        let number = |path: &str| pointer(&document, path).and_then(Json::as_i64);
        assert_eq!(pointer(&document, ""), Some(&document));
        assert_eq!(pointer(&document, "/foo/0").and_then(Json::as_str), Some("bar"));
        assert_eq!(number("/"), Some(0));
        assert_eq!(number("/a~1b"), Some(1));
        assert_eq!(number("/c%d"), Some(2));
        assert_eq!(number("/i\\j"), Some(5));
        assert_eq!(number("/k\"l"), Some(6));
        assert_eq!(number("/m~0n"), Some(8));
        for missing in ["foo", "/foo/2", "/foo/00", "/foo/-", "/foo/+1", "/foo/bar", "/nope"] {
            assert_eq!(pointer(&document, missing), None, "{missing}");
        }
    }

    #[test]
    fn of_duplicate_keys_the_last_is_followed() {
        let document = parse(br#"{"a":1,"a":{"b":2}}"#).unwrap();
        assert_eq!(pointer(&document, "/a/b").and_then(Json::as_i64), Some(2));
    }

    #[test]
    fn a_path_reads_back_as_the_pointer_it_came_from() {
        let root = Path::ROOT;
        let member = root.key(b"a/b~");
        let element = member.index(3);
        assert_eq!(element.text(), "/a~1b~0/3");
        assert_eq!(root.place(), "the top level");
    }
}
