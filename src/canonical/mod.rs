//! The one encoding and digest of rows, in Rust and as SQL.
//!
//! The canonical bytes of a row are those of Postgres's `record_send`: `i32` field count, then per
//! field the type's OID as `u32`, an `i32` length (`-1` for NULL) and the binary send form. Before
//! hashing, numeric loses trailing zeros of its scale (`trim_scale`), NaN is one bit pattern,
//! domains count as their base type, varchar as text, and enums, ltree and other extension types
//! travel as text. Inside arrays, scale and the bits of NaN are kept as stored.
//! [`ENCODING_VERSION`] changes whenever a row's bytes would.

mod display;
mod layout;
mod literal;
mod sums;
mod tuple;

pub use display::{display_field, display_key, display_row};
pub use layout::{Field, Layout, copy_expression, select_expression};
pub use sums::{BucketSum, Buckets};
pub(crate) use tuple::COPY_SIGNATURE;
pub use tuple::{TupleReader, fields_of, with_nulls};

use sha2::{Digest as _, Sha256};

/// Version of the encoding; digests of different versions are never compared.
pub const ENCODING_VERSION: i32 = 1;

/// SHA-256 of a canonical row.
pub type Digest = [u8; 32];

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
