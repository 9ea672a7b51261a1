//! What a read returned, as bytes that are equal exactly where both stores hold the same.

use crate::canonical::{Digest, sha256};
use crate::cast::Policies;
use crate::json::{parse, write_jsonb};

/// One value of a row that a read returned, in the target's type domain: a timestamp is an instant
/// whatever text `SQLite` keeps, a flag a `Bool` although `SQLite` has a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// NULL
    Null,
    /// boolean
    Bool(bool),
    /// bigint, and every smaller integer
    Integer(i64),
    /// double precision
    Real(f64),
    /// text: exact bytes, neither trimmed nor normalised
    Text(String),
    /// bytea
    Bytes(Vec<u8>),
    /// timestamptz, as microseconds since 1970-01-01T00:00:00Z
    Instant(i64),
    /// uuid
    Uuid(uuid::Uuid),
    /// jsonb, as text: order of keys and white space make no difference
    Json(String),
}

impl Cell {
    /// OID, length, binary form, as `record_send` has them.
    fn append(&self, canonical: &mut Vec<u8>) {
        let (oid, bytes): (u32, Vec<u8>) = match self {
            Self::Null => {
                // No type: a NULL has none by the time an application holds it.
                canonical.extend_from_slice(&0_u32.to_be_bytes());
                canonical.extend_from_slice(&(-1_i32).to_be_bytes());
                return;
            }
            Self::Bool(value) => (16, vec![u8::from(*value)]),
            Self::Integer(value) => (20, value.to_be_bytes().to_vec()),
            Self::Real(value) if value.is_nan() => (701, f64::NAN.to_be_bytes().to_vec()),
            Self::Real(value) => (701, value.to_be_bytes().to_vec()),
            Self::Text(text) => (25, text.as_bytes().to_vec()),
            Self::Bytes(bytes) => (17, bytes.clone()),
            Self::Instant(micros) => (1184, micros.to_be_bytes().to_vec()),
            Self::Uuid(uuid) => (2950, uuid.as_bytes().to_vec()),
            Self::Json(text) => (3802, as_jsonb(text)),
        };
        canonical.extend_from_slice(&oid.to_be_bytes());
        canonical.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        canonical.extend_from_slice(&bytes);
    }
}

/// The text jsonb would print; what is no JSON counts as it is.
fn as_jsonb(text: &str) -> Vec<u8> {
    let mut printed = Vec::with_capacity(text.len());
    let Ok(document) = parse(text.as_bytes()) else { return text.as_bytes().to_vec() };
    let policies = Policies::default();
    match write_jsonb(&document, &policies, None, &mut printed, &mut Vec::new()) {
        Ok(_) => printed,
        Err(_) => text.as_bytes().to_vec(),
    }
}

/// A row of a read, as the values that must be equal in both stores.
///
/// Implement it for the application's own types; leave out what is rightly different, such as a
/// surrogate key that each store counts itself.
pub trait ShadowRow {
    /// The values, in a fixed order.
    fn cells(&self) -> Vec<Cell>;
}

impl ShadowRow for Vec<Cell> {
    fn cells(&self) -> Vec<Cell> {
        self.clone()
    }
}

macro_rules! cell_from {
    ($($type:ty => $make:expr),* $(,)?) => {$(
        impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                $make(value)
            }
        }
    )*};
}

cell_from! {
    bool => Cell::Bool,
    i16 => |value| Cell::Integer(i64::from(value)),
    i32 => |value| Cell::Integer(i64::from(value)),
    i64 => Cell::Integer,
    f64 => Cell::Real,
    String => Cell::Text,
    &str => |value: &str| Cell::Text(value.to_owned()),
    Vec<u8> => Cell::Bytes,
    uuid::Uuid => Cell::Uuid,
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Digests of the rows a read returned, one each, in the order it returned them.
pub(super) fn digests_of<R: ShadowRow>(rows: &[R]) -> Vec<Digest> {
    rows.iter()
        .map(|row| {
            let cells = row.cells();
            let mut canonical =
                u32::try_from(cells.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
            for cell in &cells {
                cell.append(&mut canonical);
            }
            sha256(&canonical)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(cells: Vec<Cell>) -> Digest {
        digests_of(&[cells])[0]
    }

    #[test]
    fn values_of_other_types_and_other_borders_are_never_equal() {
        let rows: Vec<Vec<Cell>> = vec![
            vec![],
            vec![Cell::Null],
            vec![Cell::Null, Cell::Null],
            vec!["".into()],
            vec!["NULL".into()],
            vec!["a".into(), "b".into()],
            vec!["ab".into(), "".into()],
            vec![1_i64.into()],
            vec![1.0.into()],
            vec!["1".into()],
            vec![true.into()],
            vec![b"1".to_vec().into()],
            vec![(-0.0).into()],
            vec![0.0.into()],
            vec![Cell::Instant(1)],
            vec![Cell::Json("1".to_owned())],
            vec![Cell::Json("1.0".to_owned())],
        ];
        let mut digests: Vec<Digest> = rows.iter().cloned().map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), rows.len());
    }

    #[test]
    fn what_both_stores_may_write_differently_is_equal() {
        let json = |text: &str| digest(vec![Cell::Json(text.to_owned())]);
        assert_eq!(json(r#"{"b": 1, "a":[1,2]}"#), json(r#"{"a": [1, 2], "b": 1}"#));
        assert_eq!(digest(vec![f64::NAN.into()]), digest(vec![(-f64::NAN).into()]));
        assert_eq!(digest(vec![7_i32.into()]), digest(vec![7_i64.into()]));
        assert_eq!(digest(vec![None::<i64>.into()]), digest(vec![Cell::Null]));
    }
}
