//! JSON as Python's `json.dumps` writes it: member order and number spellings are the author's.

use std::fmt::Write as _;

/// A JSON document to be written. Numbers are given by their spelling, so that `NaN`, `1e22`
/// and `-0.0` come out as meant; an object may give one key twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Document {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Document>),
    Map(Vec<(String, Document)>),
}

/// Whether characters beyond ASCII are written as `\uXXXX` (`ensure_ascii`, Python's default).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    Ascii,
    ControlsOnly,
}

/// An object of the members given, in their order.
pub(super) fn map<const N: usize>(members: [(&str, Document); N]) -> Document {
    Document::Map(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

impl Document {
    /// Appends a member to an object; does nothing to other documents.
    pub(super) fn push(&mut self, key: &str, value: impl Into<Document>) {
        if let Self::Map(members) = self {
            members.push((key.to_owned(), value.into()));
        }
    }

    /// The part at a JSON pointer without escapes, as `/agentic/report_questions/0/answer`.
    pub(super) fn at_mut(&mut self, pointer: &str) -> Option<&mut Self> {
        let mut part = self;
        for step in pointer.split('/').skip(1) {
            part = match part {
                Self::Map(members) => {
                    members.iter_mut().find(|(key, _)| key == step).map(|(_, value)| value)?
                }
                Self::List(items) => items.get_mut(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(part)
    }

    /// One line with `", "` and `": "`.
    pub(super) fn compact(&self, escape: Escape) -> String {
        let mut out = String::new();
        self.write(&mut out, escape, None);
        out
    }

    /// `indent=2`, ASCII only, without a final line feed.
    pub(super) fn indented(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Escape::Ascii, Some(0));
        out
    }

    fn write(&self, out: &mut String, escape: Escape, depth: Option<usize>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(spelling) => out.push_str(spelling),
            Self::Text(text) => write_text(out, text, escape),
            Self::List(items) => {
                out.push('[');
                for (position, item) in items.iter().enumerate() {
                    separate(out, position > 0, depth.map(|depth| depth + 1));
                    item.write(out, escape, depth.map(|depth| depth + 1));
                }
                close(out, ']', items.is_empty(), depth);
            }
            Self::Map(members) => {
                out.push('{');
                for (position, (key, value)) in members.iter().enumerate() {
                    separate(out, position > 0, depth.map(|depth| depth + 1));
                    write_text(out, key, escape);
                    out.push_str(": ");
                    value.write(out, escape, depth.map(|depth| depth + 1));
                }
                close(out, '}', members.is_empty(), depth);
            }
        }
    }
}

fn separate(out: &mut String, follows: bool, depth: Option<usize>) {
    match (follows, depth) {
        (true, None) => out.push_str(", "),
        (true, Some(_)) => out.push(','),
        (false, _) => {}
    }
    if let Some(depth) = depth {
        break_line(out, depth);
    }
}

fn close(out: &mut String, bracket: char, is_empty: bool, depth: Option<usize>) {
    if let (false, Some(depth)) = (is_empty, depth) {
        break_line(out, depth);
    }
    out.push(bracket);
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn write_text(out: &mut String, text: &str, escape: Escape) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='\u{7e}' => out.push(character),
            _ if escape == Escape::ControlsOnly && character >= ' ' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

impl From<&str> for Document {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Document {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Document {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Document {
    fn from(value: i64) -> Self {
        Self::Number(value.to_string())
    }
}

impl From<usize> for Document {
    fn from(value: usize) -> Self {
        Self::Number(value.to_string())
    }
}

impl From<f64> for Document {
    /// Rust's `{:?}` is, as Python's `repr`, the shortest spelling that reads back the same.
    fn from(value: f64) -> Self {
        Self::Number(format!("{value:?}"))
    }
}

impl<T: Into<Document>> From<Option<T>> for Document {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Document>> From<Vec<T>> for Document {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_written_as_python_writes_it() {
        let document = map([
            ("a", vec![1_i64, 2].into()),
            ("é", "x\u{1f600}\0\n\\".into()),
            ("n", Document::Number("NaN".into())),
            ("e", Document::List(Vec::new())),
        ]);
        assert_eq!(
            document.compact(Escape::Ascii),
            r#"{"a": [1, 2], "\u00e9": "x\ud83d\ude00\u0000\n\\", "n": NaN, "e": []}"#
        );
        assert_eq!(
            document.compact(Escape::ControlsOnly),
            "{\"a\": [1, 2], \"é\": \"x\u{1f600}\\u0000\\n\\\\\", \"n\": NaN, \"e\": []}"
        );
    }

    #[test]
    fn indented_text_reads_back_as_the_same_value() {
        let document = map([
            ("list", vec![map([("k", 1.5.into())]), map([])].into()),
            ("text", "ü\t".into()),
            ("none", Document::Null),
        ]);
        let text = document.indented();
        assert!(
            text.starts_with("{\n  \"list\": [\n    {\n      \"k\": 1.5\n    },\n    {}\n  ],")
        );
        let read: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(read["text"], "ü\t");
    }
}
