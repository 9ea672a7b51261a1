//! Which columns make a canonical row, and how each is normalised on either side.

use std::cell::RefCell;

use crate::canonical::{Digest, sha256_in};
use crate::cast::PgType;

/// OID of `text`, the tag of every type that travels as text.
const TEXT_OID: u32 = 25;

/// Where the element's OID stands in an array: after the dimensions and the has-null flag.
const ELEMENT_OID: std::ops::Range<usize> = 8..12;

/// One field of a canonical row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The type's OID in `record_send`.
    pub oid: u32,
    /// Whether trailing zeros of the scale are removed before hashing.
    pub is_numeric: bool,
    /// Leading bytes of the binary form that the text form lacks (ltree's version byte).
    pub skip: usize,
    /// Whether it is an array whose element OID is replaced by that of text (`varchar[]`).
    pub is_text_array: bool,
}

/// The fields of a canonical row, and which of them are its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Fields in the order of the tuple.
    pub fields: Vec<Field>,
    /// Positions of the key fields, in key order.
    pub key: Vec<usize>,
}

impl Layout {
    /// A layout for columns of these types.
    #[must_use]
    pub fn new(types: &[PgType], key: Vec<usize>) -> Self {
        let fields = types
            .iter()
            .map(|ty| Field {
                oid: ty.oid().unwrap_or(TEXT_OID),
                is_numeric: matches!(ty, PgType::Numeric(_)),
                skip: usize::from(matches!(ty, PgType::Ltree)),
                is_text_array: matches!(
                    ty, PgType::Array(element) if matches!(**element, PgType::Text(_))
                ),
            })
            .collect();
        Self { fields, key }
    }

    /// Digest of a whole COPY tuple (without its field count).
    #[must_use]
    pub fn row_digest(&self, tuple: &[u8]) -> Digest {
        digest_in_scratch(self.fields.len(), |canonical| {
            let mut rest = tuple;
            for field in &self.fields {
                rest = field.append_first(rest, canonical);
            }
        })
    }

    /// Digest of the tuple's key fields.
    #[must_use]
    pub fn key_digest(&self, tuple: &[u8]) -> Digest {
        self.digest_of(tuple, self.key.iter().copied())
    }

    /// Digest of some fields of a tuple, in the given order.
    pub fn digest_of(
        &self,
        tuple: &[u8],
        positions: impl ExactSizeIterator<Item = usize>,
    ) -> Digest {
        digest_in_scratch(positions.len(), |canonical| {
            for position in positions {
                let mut rest = tuple;
                for _ in 0..position {
                    rest = split_field(rest).1;
                }
                self.fields[position].append_first(rest, canonical);
            }
        })
    }
}

/// Largest scratch buffer a thread keeps.
const SCRATCH_MAX: usize = 1 << 20;

/// Digest of a field count and the fields `append` writes. Digests are made by the million, so
/// that the buffer is kept from one to the next.
fn digest_in_scratch(count: usize, append: impl FnOnce(&mut Vec<u8>)) -> Digest {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|canonical| {
        canonical.clear();
        canonical.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        append(canonical);
        let digest = sha256_in(canonical);
        if canonical.capacity() > SCRATCH_MAX {
            *canonical = Vec::new();
        }
        digest
    })
}

impl Field {
    /// Appends tag, length and normalised bytes of the first of COPY fields; returns the others.
    /// Most types are hashed as COPY has them, length and NULL included.
    fn append_first<'t>(&self, fields: &'t [u8], canonical: &mut Vec<u8>) -> &'t [u8] {
        let (value, after) = split_field(fields);
        let is_as_copied = !self.is_numeric && self.skip == 0 && !self.is_text_array;
        match value {
            Some(_) if is_as_copied => {
                canonical.extend_from_slice(&self.oid.to_be_bytes());
                canonical.extend_from_slice(&fields[..fields.len() - after.len()]);
            }
            value => self.append(value, canonical),
        }
        after
    }

    /// Appends tag, length and normalised bytes.
    fn append(&self, value: Option<&[u8]>, canonical: &mut Vec<u8>) {
        canonical.extend_from_slice(&self.oid.to_be_bytes());
        let Some(value) = value else {
            canonical.extend_from_slice(&(-1_i32).to_be_bytes());
            return;
        };
        let start = canonical.len();
        canonical.extend_from_slice(&[0; 4]);
        if self.is_numeric {
            trim_numeric(value, canonical);
        } else {
            let start = canonical.len();
            canonical.extend_from_slice(value.get(self.skip..).unwrap_or_default());
            if self.is_text_array && canonical.len() >= start + ELEMENT_OID.end {
                canonical[start + ELEMENT_OID.start..start + ELEMENT_OID.end]
                    .copy_from_slice(&TEXT_OID.to_be_bytes());
            }
        }
        let length = u32::try_from(canonical.len() - start - 4).unwrap_or(u32::MAX);
        canonical[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The first field of COPY fields, and the fields after it.
fn split_field(fields: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some((head, rest)) = fields.split_first_chunk::<4>() else { return (None, &[]) };
    match usize::try_from(i32::from_be_bytes(*head)) {
        Ok(length) if length <= rest.len() => {
            let (value, after) = rest.split_at(length);
            (Some(value), after)
        }
        _ => (None, rest),
    }
}

/// The SQL expression that brings a column to the canonical form of its type: the send form of
/// `ROW(...)` over these is the canonical row.
///
/// Every type is named, because a domain (or `varchar`) would travel with its own OID.
#[must_use]
pub fn select_expression(ty: &PgType, column: &str) -> String {
    match ty {
        PgType::Numeric(_) => format!("pg_catalog.trim_scale({column})"),
        PgType::Float4 => {
            format!("CASE WHEN {column} = 'NaN' THEN 'NaN'::float4 ELSE {column}::float4 END")
        }
        PgType::Float8 => {
            format!("CASE WHEN {column} = 'NaN' THEN 'NaN'::float8 ELSE {column}::float8 END")
        }
        PgType::Ltree => format!("{column}::text"),
        _ => copy_expression(ty, column),
    }
}

/// The SQL expression of the digest that a [`Layout`] makes of these fields: types and expressions.
#[must_use]
pub fn digest_expression(fields: &[(&PgType, String)]) -> String {
    let fields = fields.iter().map(|(ty, field)| select_expression(ty, field));
    format!("sha256(record_send(ROW({})))", fields.collect::<Vec<_>>().join(", "))
}

/// The SQL expression under which COPY OUT hands out a column as [`Layout`] reads it: the binary
/// form that casts write, for tuples that came from either side.
#[must_use]
pub fn copy_expression(ty: &PgType, column: &str) -> String {
    match ty {
        PgType::Ltree => column.to_owned(),
        PgType::Numeric(_) | PgType::Float4 | PgType::Float8 => select_expression(ty, column),
        _ => format!("{column}::{}", canonical_type(ty)),
    }
}

/// The type a field counts as, without modifiers.
fn canonical_type(ty: &PgType) -> String {
    match ty {
        PgType::Array(element) => format!("{}[]", canonical_type(element)),
        PgType::Text(_) | PgType::Enum { .. } | PgType::Ltree | PgType::Other(_) => {
            "text".to_owned()
        }
        PgType::Numeric(_) => "numeric".to_owned(),
        other => other.name(),
    }
}

/// Appends the binary numeric with trailing zeros of its scale removed, as `trim_scale` does.
///
/// Layout of `numeric_send`: digits `i16`, weight `i16`, sign `u16`, display scale `u16`, then
/// base-10000 digits.
pub(crate) fn trim_numeric(bytes: &[u8], out: &mut Vec<u8>) {
    let is_special = bytes.len() < 8 || bytes[4] & 0xC0 == 0xC0;
    if is_special {
        out.extend_from_slice(bytes);
        return;
    }
    let weight = i32::from(i16::from_be_bytes([bytes[2], bytes[3]]));
    let mut digits: Vec<u16> =
        bytes[8..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let fraction_groups = count - 1 - weight;
    let scale = match digits.last() {
        Some(last) if fraction_groups > 0 => {
            let zeros = match last {
                last if last % 1000 == 0 => 3,
                last if last % 100 == 0 => 2,
                last if last % 10 == 0 => 1,
                _ => 0,
            };
            fraction_groups * 4 - zeros
        }
        _ => 0,
    };
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
    let weight = if digits.is_empty() { 0 } else { weight };
    out.extend_from_slice(&i16::try_from(weight).unwrap_or(i16::MAX).to_be_bytes());
    let sign = if digits.is_empty() { [0, 0] } else { [bytes[4], bytes[5]] };
    out.extend_from_slice(&sign);
    out.extend_from_slice(&u16::try_from(scale).unwrap_or(u16::MAX).to_be_bytes());
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}
