//! Keys as 16-byte digests, with one limit on how many are remembered in all.

use std::collections::{HashMap, HashSet};

use crate::canonical::Digest;

/// Keys remembered at any one time, over all tables: about 150 MB.
pub const KEYS_MAX: usize = 3_000_000;

/// What may still be remembered.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: KEYS_MAX }
    }

    fn take(&mut self) -> bool {
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }

    /// What was forgotten may be remembered elsewhere.
    pub(super) fn give_back(&mut self, keys: usize) {
        self.left += keys;
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }
}

/// The first 16 bytes of a digest.
pub(super) type Short = [u8; 16];

pub(super) fn short(digest: &Digest) -> Short {
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// 56 bits of a row's digest above the number of its source, so that content and source of the
/// first row under a key are known later.
pub(super) fn mark(digest: &Digest, source: usize) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(head) & !0xff) | u64::try_from(source.min(255)).unwrap_or(255)
}

/// Keys with a mark each.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: HashMap<Short, u64>,
}

/// What a key was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen before.
    New,
    /// The mark of the first.
    Before(u64),
    /// Perhaps seen; the limit is reached.
    Unknown,
}

impl Marks {
    pub(super) fn see(&mut self, key: Short, mark: u64, budget: &mut Budget) -> Seen {
        if let Some(first) = self.marks.get(&key) {
            return Seen::Before(*first);
        }
        if !budget.take() {
            return Seen::Unknown;
        }
        self.marks.insert(key, mark);
        Seen::New
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }
}

/// Keys without marks.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: HashSet<Short>,
    /// Whether some were left out.
    pub(super) is_partial: bool,
}

impl KeySet {
    pub(super) fn insert(&mut self, key: Short, budget: &mut Budget) {
        if self.keys.contains(&key) {
            return;
        }
        if budget.take() {
            self.keys.insert(key);
        } else {
            self.is_partial = true;
        }
    }

    pub(super) fn contains(&self, key: &Short) -> bool {
        self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_a_key_is_unknown_and_never_called_new() {
        let mut budget = Budget { left: 2 };
        let mut marks = Marks::default();
        assert_eq!(marks.see([1; 16], 7, &mut budget), Seen::New);
        let mut keys = KeySet::default();
        keys.insert([1; 16], &mut budget);
        keys.insert([1; 16], &mut budget);
        assert!(!keys.is_partial);
        assert_eq!(marks.see([2; 16], 8, &mut budget), Seen::Unknown);
        assert_eq!(marks.see([1; 16], 9, &mut budget), Seen::Before(7));
        keys.insert([3; 16], &mut budget);
        assert!(keys.is_partial);
        budget.give_back(marks.len());
        assert_eq!(marks.see([2; 16], 8, &mut budget), Seen::New);
    }

    #[test]
    fn a_mark_tells_content_and_source_apart() {
        let (one, other) = ([1; 32], [2; 32]);
        assert_ne!(mark(&one, 0), mark(&other, 0));
        assert_ne!(mark(&one, 0), mark(&one, 1));
        assert_eq!(mark(&one, 0) >> 8, mark(&one, 1) >> 8);
        assert_eq!(mark(&one, 300) & 0xff, 255);
    }
}
