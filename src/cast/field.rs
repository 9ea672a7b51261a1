//! One field of binary COPY: a big-endian `i32` length and the bytes.

use super::fault::{Class, Fault};

/// Appends a value of fixed width.
pub(super) fn put<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.reserve(4 + N);
    out.extend_from_slice(&u32::try_from(N).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends SQL NULL.
pub(super) fn put_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

/// Appends bytes as they are.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Fault> {
    let length = i32::try_from(bytes.len()).map_err(|_| too_large())?;
    out.reserve(4 + bytes.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Opens a field whose length is known only when it is written; returns its place.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    at
}

/// Closes the field opened at `at`.
pub(super) fn end(out: &mut [u8], at: usize) -> Result<(), Fault> {
    let length = i32::try_from(out.len() - at - 4).map_err(|_| too_large())?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn too_large() -> Fault {
    Fault {
        show_value: false,
        ..Fault::new(Class::Final, "too_long", "a field of binary COPY holds less than 2 GiB")
    }
}
