//! What a collection is made of: named vectors and payload indexes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// The angle between them; stored normalised.
    #[default]
    Cosine,
    /// The dot product.
    Dot,
    /// The straight line.
    Euclid,
    /// The sum of differences.
    Manhattan,
}

/// A vector's kind and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorKind {
    /// One vector of so many numbers.
    Dense {
        /// How many numbers.
        size: u64,
        /// How they are compared.
        distance: Distance,
    },
    /// Several of so many numbers each, compared by their greatest similarity.
    Multi {
        /// How many numbers each.
        size: u64,
        /// How they are compared.
        distance: Distance,
    },
    /// Numbers by index; no size.
    Sparse,
}

impl VectorKind {
    /// Numbers of one dense vector; None for sparse ones.
    pub fn size(self) -> Option<u64> {
        match self {
            Self::Dense { size, .. } | Self::Multi { size, .. } => Some(size),
            Self::Sparse => None,
        }
    }

    pub(super) fn describe(self) -> String {
        let named = |distance: Distance| format!("{distance:?}").to_lowercase();
        match self {
            Self::Dense { size, distance } => format!("{size} numbers, {}", named(distance)),
            Self::Multi { size, distance } => {
                format!("several of {size} numbers, {}", named(distance))
            }
            Self::Sparse => "sparse".to_owned(),
        }
    }
}

/// Type of a payload index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Index {
    /// Whole texts.
    Keyword,
    /// Whole numbers.
    Integer,
    /// Truth values.
    Bool,
    /// UUIDs; like all that follow, of a type this program does not make.
    Uuid,
    /// Words of texts.
    Text,
    /// Numbers with a fraction.
    Float,
    /// Times.
    Datetime,
    /// Anything else.
    Other,
}

impl Index {
    fn describe(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Vectors and payload indexes of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// Vectors by name.
    pub vectors: BTreeMap<String, VectorKind>,
    /// Indexed payload fields.
    pub indexes: BTreeMap<String, Index>,
    /// Vectors that are stored as something else than 32-bit floats, and as what; never by this
    /// program, which compares numbers with what it wrote.
    pub datatypes: BTreeMap<String, String>,
    /// Whether every write must name a shard key, which this program never does: the collection
    /// was made with `sharding_method: custom`.
    pub has_shard_keys: bool,
}

impl Schema {
    /// How `found` is another collection than this one wants, a line each. Vectors must be
    /// exactly these. A missing index is none of it (it is made), and further ones do no harm.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, wanted) in &self.vectors {
            let wanted_text = wanted.describe();
            match found.vectors.get(name) {
                None => lines.push(format!("vector {name:?} ({wanted_text}) is missing")),
                Some(is) if is != wanted => {
                    lines.push(format!("vector {name:?} is {}, not {wanted_text}", is.describe()));
                }
                Some(_) => {}
            }
        }
        for (name, is) in &found.vectors {
            if !self.vectors.contains_key(name) {
                lines.push(format!("vector {name:?} ({}) is not configured", is.describe()));
            }
        }
        for (name, datatype) in &found.datatypes {
            if self.datatypes.get(name) != Some(datatype) {
                lines.push(format!("vector {name:?} is stored as {datatype}, not float32"));
            }
        }
        if found.has_shard_keys && !self.has_shard_keys {
            lines.push("its sharding is custom, not auto: no point goes in without a key".into());
        }
        for (field, wanted) in &self.indexes {
            if let Some(is) = found.indexes.get(field).filter(|is| *is != wanted) {
                let (is, wanted) = (is.describe(), wanted.describe());
                lines.push(format!("payload index {field:?} is {is}, not {wanted}"));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named_and_a_missing_or_further_index_is_none() {
        let dense = |size| VectorKind::Dense { size, distance: Distance::Cosine };
        let schema = |vectors: &[(&str, VectorKind)], indexes: &[(&str, Index)]| Schema {
            vectors: vectors.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
            indexes: indexes.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
            ..Schema::default()
        };
        let wanted = schema(&[("text", dense(4))], &[("year", Index::Integer)]);
        assert!(wanted.differences(&schema(&[("text", dense(4))], &[])).is_empty());
        let more = [("year", Index::Integer), ("x", Index::Other)];
        assert!(wanted.differences(&schema(&[("text", dense(4))], &more)).is_empty());
        let mut other = schema(
            &[("text", dense(5)), ("more", VectorKind::Sparse)],
            &[("year", Index::Keyword)],
        );
        other.datatypes.insert("text".to_owned(), "float16".to_owned());
        other.has_shard_keys = true;
        assert_eq!(
            wanted.differences(&other),
            [
                "vector \"text\" is 5 numbers, cosine, not 4 numbers, cosine",
                "vector \"more\" (sparse) is not configured",
                "vector \"text\" is stored as float16, not float32",
                "its sharding is custom, not auto: no point goes in without a key",
                "payload index \"year\" is keyword, not integer",
            ]
        );
    }
}
