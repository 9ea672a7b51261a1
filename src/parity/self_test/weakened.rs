//! Ways of comparing that are weaker than the verifier's, to show what it would miss with them.

use crate::canonical::{Layout, fields_of, sha256};

/// A weaker way to fold the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weak {
    /// Row digests by XOR: a row that is there twice is not there at all.
    Xor,
    /// Row digests of eight bits.
    EightBits,
    /// Digests of values, not bound to their row.
    ColumnSums,
    /// A row as its values one after the other, without their lengths.
    NoLengths,
    /// NULL as the empty text.
    NullAsEmpty,
}

impl Weak {
    /// Folds COPY tuples.
    pub(super) fn fold(self, layout: &Layout, tuples: &[Vec<u8>]) -> u128 {
        let add = |sum: u128, digest: [u8; 32]| sum.wrapping_add(head(&digest));
        let all = tuples.iter();
        match self {
            Self::Xor => all.fold(0, |sum, tuple| sum ^ head(&layout.row_digest(tuple))),
            Self::EightBits => {
                all.fold(0, |sum, tuple| (sum + u128::from(layout.row_digest(tuple)[0])) & 0xff)
            }
            Self::ColumnSums => all
                .flat_map(|tuple| {
                    (0..layout.fields.len())
                        .map(|at| layout.digest_of(tuple, std::iter::once(at)))
                        .zip(0_u32..)
                })
                .fold(0, |sum, (digest, at)| sum.wrapping_add(head(&digest).rotate_left(at))),
            Self::NoLengths => all.fold(0, |sum, tuple| add(sum, sha256(&bytes_of(tuple, false)))),
            Self::NullAsEmpty => all.fold(0, |sum, tuple| add(sum, sha256(&bytes_of(tuple, true)))),
        }
    }
}

/// Values one after the other; with their lengths if wanted, of NULL as of the empty text.
fn bytes_of(tuple: &[u8], with_lengths: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in fields_of(tuple) {
        let value = range.map_or(&[][..], |range| &tuple[range]);
        if with_lengths {
            bytes.extend_from_slice(&value.len().to_be_bytes());
        }
        bytes.extend_from_slice(value);
    }
    bytes
}

fn head(digest: &[u8; 32]) -> u128 {
    digest.first_chunk().copied().map_or(0, u128::from_be_bytes)
}

/// Texts tried until a digest of eight bits is met again: 1 in 10^17 runs would need more.
const TRIES_MAX: u32 = 10_000;

/// Another text for field `at` of the tuple with which the row's digest begins with the same eight
/// bits.
pub(super) fn same_eight_bits(layout: &Layout, tuple: &[u8], at: usize) -> Option<String> {
    let wanted = layout.row_digest(tuple)[0];
    let fields = fields_of(tuple);
    (0..TRIES_MAX).map(|n| format!("other {n}")).find(|text| {
        let mut other = Vec::with_capacity(tuple.len() + text.len());
        for (position, field) in fields.iter().enumerate() {
            let value = field.clone().map(|range| &tuple[range]);
            let value = if position == at { Some(text.as_bytes()) } else { value };
            let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
            other.extend_from_slice(&length.to_be_bytes());
            other.extend_from_slice(value.unwrap_or_default());
        }
        layout.row_digest(&other)[0] == wanted
    })
}
