//! The second pass: rows of differing buckets, judged key by key; and the third, which fetches
//! differing rows whole.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::canonical::{Buckets, Digest};
use crate::pack::OpenedPack;
use crate::parity::accounts::RowAccount;
use crate::parity::difference::{Difference, Kind, changed_columns, key_of, rest_of};
use crate::parity::settle::Reading;
use crate::parity::spool::{Entry, Origin, Place, Short, short};
use crate::parity::walk::Expected;

/// Rows held in memory at once in the second pass.
const ROWS_AT_ONCE: u64 = 800_000;

/// Everything known about one key of a unit.
#[derive(Debug, Default, Clone)]
pub(super) struct KeyState {
    /// Digests of rows the target has to hold.
    pub(super) required: Vec<Short>,
    /// Rows that gave way to another, by record of the ledger.
    pub(super) gave_way: Vec<RowAccount>,
    /// Digests of the rows the target holds.
    pub(super) target: Vec<Short>,
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
        match expected.account {
            None => self.required.push(short(&expected.row())),
            Some(account) => self.gave_way.push(account.clone()),
        }
    }

    /// The rows of both sides, for later comparison with themselves.
    pub(super) fn reading(&self, kind: Kind) -> Reading {
        let mut source = self.required.clone();
        source.sort_unstable();
        source.extend(self.gave_way.iter().map(|account| short(&account.row)));
        let mut target = self.target.clone();
        target.sort_unstable();
        Reading { kind, source, target }
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
    fn judge_given_way(&self, held: &Short) -> Judgement {
        if self.gave_way.iter().any(|account| short(&account.row) == *held) {
            return Judgement::Equal;
        }
        let accounted = self.gave_way.iter().any(|account| {
            matches!(account.rule.as_str(), "superseded" | "target_wins")
                && account.target.as_ref().map(short).as_ref() == Some(held)
        });
        if accounted { Judgement::Superseded } else { Judgement::Differs(Kind::Changed) }
    }
}

/// What the second pass keeps of differing keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Keys to be fetched whole at most.
    pub(super) keys_max: usize,
    /// Keys to be followed at most.
    pub(super) followed_max: usize,
    /// The only keys that matter.
    pub(super) only: Option<&'a HashSet<Short>>,
    /// Keys that are not fetched: their rows are on their way back.
    pub(super) waiting: Option<&'a HashSet<Short>>,
}

/// What the second pass found in one unit.
#[derive(Debug, Default)]
pub(super) struct Resolution {
    pub(super) by_kind: BTreeMap<Kind, u64>,
    pub(super) superseded: u64,
    /// Differing keys with the digests of their rows.
    pub(super) followed: Vec<(Short, Reading)>,
    /// Differing keys beyond those.
    pub(super) beyond: u64,
    /// Differing keys to be fetched whole, up to the limit.
    pub(super) keys: HashMap<Short, FoundKey>,
}

/// A key that differs, and where its rows are.
#[derive(Debug)]
pub(super) struct FoundKey {
    pub(super) kind: Kind,
    pub(super) source: Vec<Place>,
    pub(super) target: Vec<Place>,
}

impl Resolution {
    /// Judges the keys of some rows of both sides, in the order of the keys.
    pub(super) fn judge(
        &mut self,
        entries: &mut [Entry],
        gave_way: &HashMap<Short, Vec<RowAccount>>,
        is_content: bool,
        limits: Limits<'_>,
    ) {
        entries.sort_unstable();
        for rows in entries.chunk_by(|left, right| left.key == right.key) {
            let key = rows[0].key;
            if limits.only.is_some_and(|only| !only.contains(&key)) {
                continue;
            }
            let mut state = KeyState { is_content, ..KeyState::default() };
            for entry in rows {
                match entry.origin {
                    Origin::Required => state.required.push(entry.row),
                    Origin::GaveWay => {}
                    Origin::Target => state.target.push(entry.row),
                }
            }
            if let Some(accounts) = gave_way.get(&key) {
                state.gave_way.clone_from(accounts);
            }
            let judgement = state.judge();
            let Some(kind) = self.count_in(judgement) else { continue };
            if self.followed.len() < limits.followed_max {
                self.followed.push((key, state.reading(kind)));
            } else {
                self.beyond += 1;
            }
            let is_waiting = limits.waiting.is_some_and(|waiting| waiting.contains(&key));
            if self.keys.len() < limits.keys_max && !is_waiting {
                let places = |is_target: bool| {
                    let rows = rows.iter();
                    let rows = rows.filter(|row| (row.origin == Origin::Target) == is_target);
                    rows.map(|row| row.place).collect()
                };
                let found = FoundKey { kind, source: places(false), target: places(true) };
                self.keys.insert(key, found);
            }
        }
    }

    /// Counts one verdict; the kind, if it is a difference.
    pub(super) fn count_in(&mut self, judgement: Judgement) -> Option<Kind> {
        match judgement {
            Judgement::Equal => None,
            Judgement::Superseded => {
                self.superseded += 1;
                None
            }
            Judgement::Differs(kind) => {
                *self.by_kind.entry(kind).or_default() += 1;
                Some(kind)
            }
        }
    }

    /// Rows of a kind.
    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }
}

/// Splits differing buckets into groups whose rows fit in memory together.
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
        if size >= ROWS_AT_ONCE {
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
    pub(super) is_corrected: bool,
}

impl RowPair {
    /// Keeps a source row; one the target has to hold is preferred.
    pub(super) fn keep(&mut self, opened: &OpenedPack, expected: &Expected<'_>) {
        let required = expected.account.is_none();
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
            digest: expected.row(),
            locator,
            required,
            is_corrected: expected.is_corrected,
        });
    }

    /// The pair as differences: one per changed column, one for a whole row.
    pub(super) fn differences(
        &self,
        opened: &OpenedPack,
        unit: usize,
        row: Short,
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
            row: Some((unit, row)),
            corrected: self.source.as_ref().is_some_and(|source| source.is_corrected),
        };
        let (Kind::Changed, Some(source), Some((held, _))) = (kind, &self.source, target) else {
            let whole = |is_wanted: bool| is_wanted.then(|| rest_of(output, shown, redactor));
            return vec![Difference {
                source_value: whole(kind == Kind::Missing),
                target_value: whole(kind == Kind::Extra),
                ..base
            }];
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
        state.target = vec![[2; 16]];
        assert_eq!(state.judge(), Judgement::Superseded);
        state.target = vec![[3; 16]];
        assert_eq!(state.judge(), Judgement::Differs(Kind::Changed));
        state.target = vec![[1; 16]];
        assert_eq!(state.judge(), Judgement::Equal);
        state.target = vec![];
        assert_eq!(state.judge(), Judgement::Differs(Kind::Missing));
    }

    #[test]
    fn a_tie_does_not_prove_that_the_target_is_newer() {
        let state = KeyState {
            gave_way: vec![account("superseded_tie", 1, 2)],
            target: vec![[2; 16]],
            ..KeyState::default()
        };
        assert_eq!(state.judge(), Judgement::Differs(Kind::Changed));
    }

    #[test]
    fn missing_extra_changed_and_duplicate_are_told_apart() {
        let state = |required: &[u8], target: &[u8]| KeyState {
            is_content: false,
            required: required.iter().map(|byte| [*byte; 16]).collect(),
            gave_way: vec![],
            target: target.iter().map(|byte| [*byte; 16]).collect(),
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
