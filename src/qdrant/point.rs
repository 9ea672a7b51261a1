//! Points, their vectors and payloads, and filters over them, whichever store holds them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A point's payload.
pub type Payload = Map<String, Value>;

/// A point's vectors by name.
pub type Vectors = BTreeMap<String, Vector>;

/// What a point is called. The toolkit's own are UUIDs, those of Postgres; a collection of
/// someone else's may hold numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PointId {
    /// A number.
    Number(u64),
    /// A UUID.
    Uuid(Uuid),
}

impl PointId {
    /// The UUID, if it is one.
    pub fn uuid(self) -> Option<Uuid> {
        match self {
            Self::Uuid(uuid) => Some(uuid),
            Self::Number(_) => None,
        }
    }
}

impl From<Uuid> for PointId {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

/// One vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// As many numbers as the collection says.
    Dense(Vec<f32>),
    /// Several dense vectors of one point.
    Multi(Vec<Vec<f32>>),
    /// Numbers by index, ascending.
    Sparse {
        /// Which numbers are not zero.
        indices: Vec<u32>,
        /// Those numbers.
        values: Vec<f32>,
    },
}

impl Vector {
    /// Numbers of one dense vector in it; None for sparse ones, and where there are none.
    pub fn dimension(&self) -> Option<usize> {
        match self {
            Self::Dense(numbers) => Some(numbers.len()),
            Self::Multi(rows) => rows.first().map(Vec::len),
            Self::Sparse { .. } => None,
        }
    }

    /// Whether two vectors are the same to a store that normalises: their cosine is 1 within
    /// `tolerance`, row by row; sparse ones must have the same indices.
    pub fn is_near(&self, other: &Self, tolerance: f32) -> bool {
        match (self, other) {
            (Self::Dense(a), Self::Dense(b)) => near(a, b, tolerance),
            (Self::Multi(a), Self::Multi(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b, tolerance))
            }
            (Self::Sparse { indices: a, values: x }, Self::Sparse { indices: b, values: y }) => {
                a == b && near(x, y, tolerance)
            }
            _ => false,
        }
    }
}

/// Cosine 1 within the tolerance; two zero vectors are alike.
fn near(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let product = norm(a) * norm(b);
    if product <= f32::EPSILON {
        return norm(a) <= f32::EPSILON && norm(b) <= f32::EPSILON;
    }
    let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
    (dot / product - 1.0).abs() <= tolerance
}

/// A point to write, or one that was read (with what was asked for).
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its id.
    pub id: PointId,
    /// Its payload; empty where it was not asked for.
    pub payload: Payload,
    /// Its vectors; empty where they were not asked for.
    pub vectors: Vectors,
}

impl Point {
    /// About how many bytes it is in a request.
    pub(super) fn bytes(&self) -> usize {
        let numbers = |vector: &Vector| match vector {
            Vector::Dense(numbers) => numbers.len(),
            Vector::Multi(rows) => rows.iter().map(Vec::len).sum(),
            Vector::Sparse { indices, values } => indices.len() + values.len(),
        };
        let vectors: usize = self.vectors.values().map(|vector| 4 * numbers(vector)).sum();
        vectors + payload_bytes(&self.payload)
    }
}

/// About how many bytes a payload is in a request.
pub(super) fn payload_bytes(payload: &Payload) -> usize {
    fn value_bytes(value: &Value) -> usize {
        16 + match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(value_bytes).sum(),
            Value::Object(object) => payload_bytes(object),
            _ => 0,
        }
    }
    payload.iter().map(|(key, value)| 16 + key.len() + value_bytes(value)).sum()
}

/// A point that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Its id.
    pub id: PointId,
    /// How near it is, by the vector's distance.
    pub score: f32,
    /// Its payload.
    pub payload: Payload,
}

/// What to read of a point besides its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct With {
    /// Its payload.
    pub payload: bool,
    /// Its vectors.
    pub vectors: bool,
}

impl With {
    /// The id alone.
    pub const ID: Self = Self { payload: false, vectors: false };
    /// The payload.
    pub const PAYLOAD: Self = Self { payload: true, vectors: false };
    /// Everything.
    pub const ALL: Self = Self { payload: true, vectors: true };
}

/// One condition on a payload field; of a list, any element may fulfil it.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The field has this value: text, a whole number or a truth value.
    Is(String, Value),
    /// The field has one of these texts.
    AnyOf(String, Vec<String>),
}

/// Conditions that must all be fulfilled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter(pub Vec<Condition>);

impl Filter {
    /// `field` is `value`.
    pub fn is(field: &str, value: impl Into<Value>) -> Self {
        Self(vec![Condition::Is(field.to_owned(), value.into())])
    }
}

/// SHA-256 of the payload as compact JSON with sorted keys, without the fields `except`; what two
/// stores agree on however they order keys.
pub fn payload_digest(payload: &Payload, except: &[&str]) -> String {
    let kept: BTreeMap<&String, &Value> =
        payload.iter().filter(|(key, _)| !except.contains(&key.as_str())).collect();
    let mut hasher = Sha256::new();
    hasher.update(b"{");
    for (key, value) in kept {
        hasher.update(Value::from(key.as_str()).to_string());
        hasher.update(b":");
        fold(&mut hasher, value);
        hasher.update(b",");
    }
    hex::encode(hasher.finalize())
}

fn fold(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<&String, &Value> = object.iter().collect();
            hasher.update(b"{");
            for (key, value) in sorted {
                hasher.update(Value::from(key.as_str()).to_string());
                hasher.update(b":");
                fold(hasher, value);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                fold(hasher, item);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        scalar => hasher.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_digest_ignores_the_order_of_keys_and_the_fields_it_is_told_to() {
        let digest = |value: Value| payload_digest(value.as_object().unwrap(), &["version"]);
        let one = digest(json!({"a": 1, "b": {"x": [1, 2], "y": "é"}, "version": 1}));
        assert_eq!(one, digest(json!({"version": 2, "b": {"y": "é", "x": [1, 2]}, "a": 1})));
        assert_ne!(one, digest(json!({"a": 1, "b": {"x": [2, 1], "y": "é"}})));
        // Neighbours cannot lend each other a character.
        assert_ne!(digest(json!({"a": ["b", "c"]})), digest(json!({"a": ["b\",\"c"]})));
    }

    #[test]
    fn normalising_does_not_make_a_vector_another_one_but_turning_it_does() {
        let near = |a: &[f32], b: &[f32]| {
            Vector::Dense(a.to_vec()).is_near(&Vector::Dense(b.to_vec()), 1e-5)
        };
        assert!(near(&[3.0, 4.0], &[0.6, 0.8]));
        assert!(!near(&[3.0, 4.0], &[0.8, 0.6]));
        assert!(!near(&[3.0, 4.0], &[0.6, 0.8, 0.0]));
        assert!(!near(&[0.0, 0.0], &[0.6, 0.8]));
    }
}
