//! Rows that many records name, handed out once a pass.

use std::collections::HashSet;

/// Rows remembered, 16 bytes each; beyond, some are handed out again, which changes nothing.
const KNOWN_MAX: usize = 1_000_000;

/// What was handed out so far.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    known: HashSet<[u8; 16]>,
    /// Of the record at hand, which may still be refused.
    pending: Vec<[u8; 16]>,
    /// The last row of an output: files are often sorted by what their records name.
    last: Option<(usize, Vec<u8>)>,
}

impl Mentions {
    /// Whether this row of `output` was handed out before; if not, it is pending.
    pub(super) fn is_known(&mut self, output: usize, row: &[u8]) -> bool {
        if self.last.as_ref().is_some_and(|(at, last)| *at == output && last == row) {
            return true;
        }
        let digest = crate::canonical::sha256(&[&output.to_be_bytes()[..], row].concat());
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        if self.known.contains(&short) {
            self.last = Some((output, row.to_vec()));
            return true;
        }
        self.pending.push(short);
        false
    }

    /// The record is stored as far as casts go.
    pub(super) fn keep_pending(&mut self) {
        if self.known.len() + self.pending.len() > KNOWN_MAX {
            self.known.clear();
        }
        self.known.extend(self.pending.drain(..));
    }

    /// The record is refused, and its rows are not handed out.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}
