//! Entities as documents: what an artifact says and what a row holds, in one shape.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::cast::redact::Redactor;
use crate::cast::{Note, Policies, Policy, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::json::{Json, JsonString, write_jsonb};

/// The toolkit's own namespace of derived ids.
const NAMESPACE: Uuid = Uuid::from_bytes([
    0x5b, 0x1e, 0x7d, 0x0a, 0x2c, 0x4f, 0x4d, 0x86, 0x9a, 0x3e, 0x61, 0x0c, 0xf7, 0x28, 0xb4, 0xd3,
]);

/// Kinds of derived ids; each kind's names are apart from the others'.
#[derive(Debug, Clone, Copy)]
pub enum Derived<'a> {
    /// An anime, by its best url.
    Anime(&'a str),
    /// A manga, by its best url.
    Manga(&'a str),
    /// Another original work, by its best url.
    Work(&'a str),
    /// An episode, by its anime and number.
    Episode(Uuid, i64),
    /// A character, by its best page.
    CharacterPage(&'a str),
    /// A character of an anime, by its folded name.
    CharacterName(Uuid, &'a str),
    /// A company, by its folded name.
    Company(&'a str),
}

/// `UUIDv5` in the toolkit's namespace.
#[must_use]
pub fn derived_id(of: Derived<'_>) -> Uuid {
    let name = match of {
        Derived::Anime(url) => format!("anime:{url}"),
        Derived::Manga(url) => format!("manga:{url}"),
        Derived::Work(url) => format!("original_work:{url}"),
        Derived::Episode(anime, number) => format!("episode:{anime}:{number}"),
        Derived::CharacterPage(url) => format!("character:{url}"),
        Derived::CharacterName(anime, name) => format!("character:{anime}:{name}"),
        Derived::Company(name) => format!("company:{name}"),
    };
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// A name as it is compared: lower case, runs of anything but letters and digits as one space.
#[must_use]
pub fn folded_name(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_alphanumeric() {
            folded.extend(letter.to_lowercase());
        } else if !folded.is_empty() && !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    let folded = folded.trim_end().to_owned();
    // A name of signs alone, such as `!?`, is its own fold.
    if folded.is_empty() { name.trim().to_owned() } else { folded }
}

/// The members of an object, taken out one by one; what is left is kept as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Members(Vec<(JsonString, Json)>);

impl Members {
    /// The members of an object; of a repeated key the last counts, as in jsonb. Anything but an
    /// object has none.
    #[must_use]
    pub fn of(value: Json) -> Self {
        let Json::Object(members) = value else { return Self::default() };
        Self(members)
    }

    /// The value of a member, which stays.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().rev().find(|(name, _)| **name == *key.as_bytes()).map(|(_, value)| value)
    }

    /// The text of a member, which stays.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Json::as_str)
    }

    /// Takes a member out.
    pub fn take(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().rposition(|(name, _)| **name == *key.as_bytes())?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(name, _)| **name != *key.as_bytes());
        Some(value)
    }

    /// Takes a member out if it is an array.
    pub fn take_array(&mut self, key: &str) -> Vec<Json> {
        match self.take(key) {
            Some(Json::Array(elements)) => elements,
            Some(other) => {
                self.put(key, other);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Adds a member.
    pub fn put(&mut self, key: &str, value: Json) {
        self.0.push((key.as_bytes().into(), value));
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left, as an object.
    #[must_use]
    pub fn rest(self) -> Json {
        Json::Object(self.0)
    }
}

/// An entity by field: columns by name, members of its jsonb columns as `meta.NAME` and
/// `raw_by_source.NAME`. A field that is not there is NULL.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Doc(pub BTreeMap<String, Json>);

/// The jsonb columns whose members are fields.
const JSONB_COLUMNS: [&str; 2] = ["meta", "raw_by_source"];

impl Doc {
    /// A field.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Json> {
        self.0.get(field)
    }

    /// A field's text.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Json::as_str)
    }

    /// Sets a field.
    pub fn set(&mut self, field: &str, value: Json) {
        self.0.insert(field.to_owned(), value);
    }

    /// Adds what is left of an object as fields of a jsonb column.
    pub fn add_rest(&mut self, column: &str, rest: Members) {
        for (key, value) in rest.0 {
            self.0.insert(format!("{column}.{}", String::from_utf8_lossy(&key)), value);
        }
    }

    /// A stored row, as `to_jsonb` prints it.
    pub fn of_row(text: &str) -> Result<Self> {
        let row = stored_json(text)?;
        let mut doc = Self::default();
        for (key, value) in row.members() {
            let name = String::from_utf8_lossy(key).into_owned();
            if JSONB_COLUMNS.contains(&name.as_str()) {
                for (key, value) in value.members() {
                    let key = String::from_utf8_lossy(key);
                    doc.0.insert(format!("{name}.{key}"), value.clone());
                }
            } else if !value.is_null() {
                doc.0.insert(name, value.clone());
            }
        }
        Ok(doc)
    }

    /// A column as text for a statement: scalars by their value, jsonb columns assembled.
    #[must_use]
    pub fn column(&self, column: &str) -> Option<String> {
        if !JSONB_COLUMNS.contains(&column) {
            return match self.get(column)? {
                Json::Null => None,
                Json::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
                other => Some(canonical(other)),
            };
        }
        let prefix = format!("{column}.");
        let members =
            self.0.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let members =
            members.map(|(name, value)| (name.as_bytes()[prefix.len()..].into(), value.clone()));
        Some(canonical(&Json::Object(members.collect())))
    }
}

/// A document that Postgres printed.
pub fn stored_json(text: &str) -> Result<Json> {
    crate::json::parse(text.as_bytes()).map_err(|error| {
        Error::new(ErrorKind::Bug, format!("jsonb from the server is not JSON: {error}"))
    })
}

/// The text jsonb would have. Only for what [`checked`] let pass, or came from the server.
#[must_use]
pub fn canonical(value: &Json) -> String {
    let mut text = Vec::new();
    // What was checked has nothing left that a policy could refuse.
    let _ = write_jsonb(value, &lenient(), None, &mut text, &mut Vec::new());
    String::from_utf8_lossy(&text).into_owned()
}

/// The text jsonb would have, without secrets, or why there is none: U+0000, lone surrogates, NaN,
/// giant numbers.
pub fn checked(
    value: &Json,
    redactor: Option<&Redactor>,
    notes: &mut Vec<Note>,
) -> std::result::Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    write_jsonb(value, &strict(), redactor, &mut text, notes)?;
    Ok(text)
}

/// Of a repeated key the last value counts, as in the artifact's own reader.
fn strict() -> Policies {
    Policies { json_duplicate_keys: Policy::Replace, ..Policies::default() }
}

fn lenient() -> Policies {
    Policies {
        nul: Policy::Replace,
        nan: Policy::Replace,
        invalid_utf8: Policy::Replace,
        overflow: Policy::Replace,
        ..strict()
    }
}

/// Whether two values are the same to jsonb's text.
#[must_use]
pub fn same(one: &Json, other: &Json) -> bool {
    one == other || canonical(one) == canonical(other)
}

/// Whether a value says nothing: null, an empty text, list or object.
#[must_use]
pub fn is_missing(value: Option<&Json>) -> bool {
    match value {
        None | Some(Json::Null) => true,
        Some(Json::String(text)) => text.is_empty(),
        Some(Json::Array(elements)) => elements.is_empty(),
        Some(Json::Object(members)) => members.is_empty(),
        Some(_) => false,
    }
}

/// A whole number.
#[must_use]
pub fn number(value: i64) -> Json {
    Json::Number(value.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_never_change() {
        let anime = derived_id(Derived::Anime("https://myanimelist.net/anime/1"));
        assert_eq!(anime.to_string(), "608ebdb7-c11b-5e94-9ed2-d66d548065fe");
        assert_eq!(anime.get_version_num(), 5);
        assert_ne!(anime, derived_id(Derived::Manga("https://myanimelist.net/anime/1")));
    }

    #[test]
    fn names_fold_to_what_people_compare() {
        assert_eq!(folded_name("  Studio-Deen  Ltd."), "studio deen ltd");
        assert_eq!(folded_name("ねじ式"), "ねじ式");
        assert_eq!(folded_name("!?"), "!?");
    }

    #[test]
    fn a_row_becomes_fields_and_columns_again() {
        let doc = Doc::of_row(
            r#"{"title": "A", "year": 2020, "rating": null, "meta": {"b": [1], "a": 2.50}}"#,
        )
        .unwrap();
        assert_eq!(doc.text("title"), Some("A"));
        assert_eq!(doc.get("rating"), None);
        assert_eq!(doc.column("year").as_deref(), Some("2020"));
        assert_eq!(doc.column("meta").as_deref(), Some(r#"{"a": 2.50, "b": [1]}"#));
        assert_eq!(doc.column("raw_by_source").as_deref(), Some("{}"));
    }
}
