//! The second pass: rows of differing buckets, judged key by key; and the third, which fetches
//! differing rows whole.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::canonical::{Buckets, Digest};
use crate::pack::OpenedPack;
use crate::parity::accounts::RowAccount;
use crate::parity::difference::{Difference, Kind, changed_columns, key_of};
use crate::parity::fold::is_required;
use crate::parity::walk::Expected;

/// Keys held in memory at once in the second pass.
const KEYS_AT_ONCE: u64 = 400_000;

/// Everything known about one key of a unit.
#[derive(Debug, Default, Clone)]
pub(super) struct KeyState {
    /// Digests of rows the target has to hold.
    pub(super) required: Vec<Digest>,
    /// Rows that gave way to another, by record of the ledger.
    pub(super) gave_way: Vec<RowAccount>,
    /// Digests of the rows the target holds.
    pub(super) target: Vec<Digest>,
    /// Whether just as many rows must be there.
    pub(super) is_content: bool,
}

/// What a key turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Equal,
    /// The target rightly holds something newer.
    Superseded,
    Differs(Kind),
}

impl KeyState {
    /// Adds a row of the source.
    pub(super) fn expect(&mut self, expected: &Expected<'_>) {
        self.is_content |= expected.is_content;
        if is_required(expected) {
            self.required.push(expected.row);
        } else if let Some(account) = expected.account {
            self.gave_way.push(account.clone());
        }
    }

    /// Judges the key.
    pub(super) fn judge(&self) -> Judgement {
        let mut required = self.required.clone();
        required.sort_unstable();
        let mut held = self.target.clone();
        held.sort_unstable();
        // A table without a unique key may rightly hold a key as often as the source has it.
        if held == required && self.gave_way.is_empty() {
            return Judgement::Equal;
        }
        if self.is_content {
            return Judgement::Differs(match (held.len(), required.len()) {
                (held, required) if held < required => Kind::Missing,
                _ => Kind::Duplicate,
            });
        }
        required.dedup();
        match self.target.as_slice() {
            [] if required.is_empty() && self.gave_way.is_empty() => Judgement::Equal,
            [] => Judgement::Differs(Kind::Missing),
            [held] if required.contains(held) => {
                // Two different rows under one key, and no record of why one of them gave way.
                let is_one = required.len() == 1;
                if is_one { Judgement::Equal } else { Judgement::Differs(Kind::Duplicate) }
            }
            [held] if required.is_empty() && !self.gave_way.is_empty() => {
                self.judge_given_way(held)
            }
            [_] if required.is_empty() => Judgement::Differs(Kind::Extra),
            [_] => Judgement::Differs(Kind::Changed),
            [_, ..] if required.is_empty() && self.gave_way.is_empty() => {
                Judgement::Differs(Kind::Extra)
            }
            [_, ..] => Judgement::Differs(Kind::Duplicate),
        }
    }

    /// A tie is no proof that the target is newer: only a recorded newer row (or a rule by which
    /// the target wins) that is still the one that was seen then accounts for the key.
    fn judge_given_way(&self, held: &Digest) -> Judgement {
        if self.gave_way.iter().any(|account| account.row == *held) {
            return Judgement::Equal;
        }
        let accounted = self.gave_way.iter().any(|account| {
            matches!(account.rule.as_str(), "superseded" | "target_wins")
                && account.target.as_ref() == Some(held)
        });
        if accounted { Judgement::Superseded } else { Judgement::Differs(Kind::Changed) }
    }
}

/// What the second pass found in one unit.
#[derive(Debug, Default, Clone)]
pub(super) struct Resolution {
    pub(super) by_kind: BTreeMap<Kind, u64>,
    pub(super) superseded: u64,
    /// Differing keys to be fetched whole, up to the limit.
    pub(super) keys: HashMap<Digest, Kind>,
}

impl Resolution {
    /// Adds the verdicts of a group of keys.
    pub(super) fn judge(&mut self, keys: &HashMap<Digest, KeyState>, keys_max: usize) {
        let mut ordered: Vec<(&Digest, &KeyState)> = keys.iter().collect();
        ordered.sort_unstable_by_key(|(key, _)| **key);
        for (key, state) in ordered {
            self.add(key, state.judge(), keys_max);
        }
    }

    /// Adds one verdict.
    pub(super) fn add(&mut self, key: &Digest, judgement: Judgement, keys_max: usize) {
        match judgement {
            Judgement::Equal => {}
            Judgement::Superseded => self.superseded += 1,
            Judgement::Differs(kind) => {
                *self.by_kind.entry(kind).or_default() += 1;
                if self.keys.len() < keys_max {
                    self.keys.insert(*key, kind);
                }
            }
        }
    }

    /// Rows of a kind.
    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }
}

/// Splits differing buckets into groups whose keys fit in memory together.
pub(super) fn groups(
    differing: &[usize],
    source: &Buckets,
    target: &Buckets,
) -> Vec<HashSet<usize>> {
    let mut groups = Vec::new();
    let mut group = HashSet::new();
    let mut size = 0;
    for bucket in differing {
        size += source.count_in(*bucket) + target.count_in(*bucket);
        group.insert(*bucket);
        if size >= KEYS_AT_ONCE {
            groups.push(std::mem::take(&mut group));
            size = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// The two sides of a differing row, fetched whole.
#[derive(Debug, Default, Clone)]
pub(super) struct RowPair {
    /// (stream, output, tuple, source file and place, digest)
    pub(super) source: Option<SourceRow>,
    pub(super) target: Vec<(Vec<u8>, Digest)>,
}

/// A row of the source, kept.
#[derive(Debug, Clone)]
pub(super) struct SourceRow {
    pub(super) stream: usize,
    pub(super) output: usize,
    pub(super) tuple: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) locator: String,
    pub(super) required: bool,
}

impl RowPair {
    /// Keeps a source row; one the target has to hold is preferred.
    pub(super) fn keep(&mut self, opened: &OpenedPack, expected: &Expected<'_>) {
        let required = is_required(expected);
        let has_better = self.source.as_ref().is_some_and(|kept| kept.required || !required);
        if has_better {
            return;
        }
        let output = &opened.plan.streams[expected.stream].outputs[expected.output];
        let locator = expected.place(output);
        self.source = Some(SourceRow {
            stream: expected.stream,
            output: expected.output,
            tuple: expected.tuple.to_vec(),
            digest: expected.row,
            locator,
            required,
        });
    }

    /// The pair as differences: one per changed column, one for a whole row.
    pub(super) fn differences(
        &self,
        opened: &OpenedPack,
        unit: usize,
        kind: Kind,
    ) -> Vec<Difference> {
        let target_unit = &opened.plan.units[unit];
        let first_feed = target_unit.feeds[0];
        let (stream, output) =
            self.source.as_ref().map_or(first_feed, |source| (source.stream, source.output));
        let output = &opened.plan.streams[stream].outputs[output];
        let redactor = &opened.redactor;
        let target = self.target.first();
        let shown = self
            .source
            .as_ref()
            .map(|source| source.tuple.as_slice())
            .or(target.map(|(tuple, _)| tuple.as_slice()));
        let Some(shown) = shown else { return Vec::new() };
        let base = Difference {
            stream: opened.plan.streams[stream].name.clone(),
            target: target_unit.name.clone(),
            kind,
            key: key_of(output, shown, redactor),
            column: None,
            source_value: None,
            target_value: None,
            source_digest: self.source.as_ref().map(|source| hex::encode(source.digest)),
            target_digest: target.map(|(_, digest)| hex::encode(digest)),
            locator: self.source.as_ref().map(|source| source.locator.clone()),
        };
        let (Kind::Changed, Some(source), Some((held, _))) = (kind, &self.source, target) else {
            return vec![base];
        };
        changed_columns(output, &source.tuple, held, redactor)
            .into_iter()
            .map(|(column, source_value, target_value)| Difference {
                column: Some(column),
                source_value,
                target_value,
                ..base.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(rule: &str, row: u8, target: u8) -> RowAccount {
        RowAccount { rule: rule.to_owned(), row: [row; 32], target: Some([target; 32]) }
    }

    #[test]
    fn a_recorded_newer_row_is_accounted_for_only_while_it_is_the_one_that_was_seen() {
        let mut state =
            KeyState { gave_way: vec![account("superseded", 1, 2)], ..KeyState::default() };
        state.target = vec![[2; 32]];
        assert_eq!(state.judge(), Judgement::Superseded);
        state.target = vec![[3; 32]];
        assert_eq!(state.judge(), Judgement::Differs(Kind::Changed));
        state.target = vec![[1; 32]];
        assert_eq!(state.judge(), Judgement::Equal);
        state.target = vec![];
        assert_eq!(state.judge(), Judgement::Differs(Kind::Missing));
    }

    #[test]
    fn a_tie_does_not_prove_that_the_target_is_newer() {
        let state = KeyState {
            gave_way: vec![account("superseded_tie", 1, 2)],
            target: vec![[2; 32]],
            ..KeyState::default()
        };
        assert_eq!(state.judge(), Judgement::Differs(Kind::Changed));
    }

    #[test]
    fn missing_extra_changed_and_duplicate_are_told_apart() {
        let state = |required: &[u8], target: &[u8]| KeyState {
            is_content: false,
            required: required.iter().map(|byte| [*byte; 32]).collect(),
            gave_way: vec![],
            target: target.iter().map(|byte| [*byte; 32]).collect(),
        };
        assert_eq!(state(&[1], &[1]).judge(), Judgement::Equal);
        assert_eq!(state(&[1, 1], &[1]).judge(), Judgement::Equal);
        assert_eq!(state(&[1], &[]).judge(), Judgement::Differs(Kind::Missing));
        assert_eq!(state(&[], &[1]).judge(), Judgement::Differs(Kind::Extra));
        assert_eq!(state(&[1], &[2]).judge(), Judgement::Differs(Kind::Changed));
        assert_eq!(state(&[1], &[1, 1]).judge(), Judgement::Differs(Kind::Duplicate));
        assert_eq!(state(&[1, 2], &[1]).judge(), Judgement::Differs(Kind::Duplicate));
        assert_eq!(state(&[2, 1, 1], &[1, 1, 2]).judge(), Judgement::Equal);
    }
}
