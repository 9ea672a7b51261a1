//! History beside capture: what was changed after a chunk was read, and is applied, stays.

use crate::canonical::Digest;

/// How a key is named among the places of `toolkit.capture_applied`.
#[must_use]
pub fn key_place(output: usize, digest: &Digest) -> String {
    format!("key {output} {}", hex::encode(&digest[..16]))
}
