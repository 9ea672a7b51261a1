//! Values of `pack.toml` that may be written in more than one form.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::{ColumnManifest, ColumnOptions};

/// A string or a list of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OneOrMany {
    /// `"a"`
    One(String),
    /// `["a", "b"]`
    Many(Vec<String>),
    /// nothing
    #[default]
    None,
}

impl OneOrMany {
    /// As a slice-like list.
    #[must_use]
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
            Self::None => Vec::new(),
        }
    }
}

/// `key = ["id"]`, or `key = "content"` for a table without a key: a row is known by all it holds.
#[derive(Debug, Clone, Default)]
pub struct Key {
    /// Columns of the target.
    pub columns: Vec<Spanned<String>>,
    /// The whole row.
    pub is_content: bool,
}

impl std::ops::Deref for Key {
    type Target = [Spanned<String>];

    fn deref(&self) -> &Self::Target {
        &self.columns
    }
}

// Written by hand: an untagged enum would hide which key is unknown and on which line.
impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor;
        impl<'de> Visitor<'de> for OneOrManyVisitor {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E>(self, one: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(one.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of columns, or \"content\" for a table without a key")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key, E> {
                if text == "content" {
                    return Ok(Key { columns: Vec::new(), is_content: true });
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Key, A::Error> {
                let columns = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Key { columns, is_content: false })
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for ColumnManifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = ColumnManifest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source column's name or a table of column options")
            }
            fn visit_str<E>(self, from: &str) -> Result<ColumnManifest, E> {
                Ok(ColumnManifest::From(from.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnManifest, A::Error> {
                ColumnOptions::deserialize(MapAccessDeserializer::new(map))
                    .map(|options| ColumnManifest::Full(Box::new(options)))
            }
        }
        deserializer.deserialize_any(ColumnVisitor)
    }
}
