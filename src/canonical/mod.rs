//! The one encoding and digest of rows, in Rust and as SQL.
//!
//! The canonical bytes of a row are those of Postgres's `record_send`: `i32` field count, then per
//! field the type's OID as `u32`, an `i32` length (`-1` for NULL) and the binary send form. Before
//! hashing, numeric loses trailing zeros of its scale (`trim_scale`), NaN is one bit pattern,
//! domains count as their base type, varchar as text, and enums, ltree and other extension types
//! travel as text. Inside arrays, scale and the bits of NaN are kept as stored.
//! [`ENCODING_VERSION`] changes whenever a row's bytes would.

pub(crate) mod array;
mod display;
mod layout;
mod literal;
mod sums;
mod tuple;

pub use display::{display_field, display_key, display_row};
pub use layout::{Field, Layout, copy_expression, digest_expression, select_expression};
pub use sums::{BucketSum, Buckets};
pub(crate) use tuple::COPY_SIGNATURE;
pub use tuple::{TupleReader, fields_of, with_nulls};

use sha2::block_api::compress256;
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

/// The words SHA-256 begins with (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256 of what `message` holds, which is padded in place (FIPS 180-4, 5.1.1) and then worth
/// nothing: for digests made by the million, of a few blocks each, where a hasher's own buffer
/// costs more than a tenth (measured at five blocks).
fn sha256_in(message: &mut Vec<u8>) -> Digest {
    const BLOCK: usize = 64;
    let bits = message.len() as u64 * 8;
    message.push(0x80);
    let padded = (message.len() + 8).next_multiple_of(BLOCK);
    message.resize(padded - 8, 0);
    message.extend_from_slice(&bits.to_be_bytes());
    let mut state = INITIAL;
    compress256(&mut state, message.as_chunks::<BLOCK>().0);
    let mut digest = Digest::default();
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_padded_in_place_has_the_same_digest_at_every_length() {
        for length in (0..400).chain([4095, 4096, 4097, 100_003]) {
            let message: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0] ^ 0x5a).collect();
            assert_eq!(sha256_in(&mut message.clone()), sha256(&message), "{length} bytes");
        }
    }
}
