//! A uniform sample over the keys of both sides: the keys with the n smallest seeded hashes.
//!
//! The n smallest hashes of a union are among the n smallest of either side, so two passes that
//! each keep n keys suffice, and every key of either store has the same chance.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::canonical::Digest;
use crate::pack::OpenedPack;
use crate::parity::report::SampleBound;
use crate::parity::resolve::{KeyState, RowPair};
use crate::parity::walk::Expected;

/// Sampled keys of one side, or of both after [`Sample::merge`].
#[derive(Debug, Default)]
pub(super) struct Sample {
    size: usize,
    seed: u64,
    keys: BTreeMap<(u64, Digest), Sampled>,
    /// Whether a key was left out for want of room.
    is_partial: bool,
}

/// What was seen of a sampled key.
#[derive(Debug, Default, Clone)]
pub(super) struct Sampled {
    pub(super) state: KeyState,
    pub(super) rows: RowPair,
}

impl Sample {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        Self { size, seed, ..Self::default() }
    }

    /// The entry of a key, if it is among the sampled so far.
    pub(super) fn entry(&mut self, key: &Digest) -> Option<&mut Sampled> {
        let rank = (self.rank(key), *key);
        if !self.keys.contains_key(&rank) {
            if self.keys.len() >= self.size {
                self.is_partial = true;
                let worst = *self.keys.last_key_value()?.0;
                if rank >= worst {
                    return None;
                }
                self.keys.pop_last();
            }
            self.keys.insert(rank, Sampled::default());
        }
        self.keys.get_mut(&rank)
    }

    /// Keeps a row of the source, if its key is among the sampled so far.
    pub(super) fn see(&mut self, opened: &OpenedPack, expected: &Expected<'_>) {
        if let Some(seen) = self.entry(&expected.key()) {
            seen.state.expect(expected);
            seen.rows.keep(opened, expected);
        }
    }

    fn rank(&self, key: &Digest) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(key);
        let digest: Digest = hash.finalize().into();
        digest.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
    }

    /// The n smallest keys of both sides together, and whether these are all keys there are.
    pub(super) fn merge(mut self, other: Self) -> (Vec<(Digest, Sampled)>, bool) {
        let mut is_whole = !self.is_partial && !other.is_partial;
        for (rank, seen) in other.keys {
            let entry = self.keys.entry(rank).or_default();
            entry.state.required.extend(seen.state.required);
            entry.state.gave_way.extend(seen.state.gave_way);
            entry.state.target.extend(seen.state.target);
            entry.state.is_content |= seen.state.is_content;
            entry.rows.source = entry.rows.source.take().or(seen.rows.source);
            entry.rows.target.extend(seen.rows.target);
        }
        is_whole &= self.keys.len() <= self.size;
        let keys = self.keys.into_iter().take(self.size);
        (keys.map(|((_, key), seen)| (key, seen)).collect(), is_whole)
    }
}

/// The bound a sample supports.
///
/// With no difference among n, the share p of differing rows satisfies `(1-p)^n >= 0.05`. With k
/// differences the Clopper-Pearson bound is found by bisection on the binomial tail. A sample of
/// everything leaves nothing to bound.
pub(crate) fn bound(n: u64, differing: u64, is_whole: bool) -> SampleBound {
    let upper_bound = if is_whole {
        differing as f64 / n.max(1) as f64
    } else if n == 0 {
        1.0
    } else if differing == 0 {
        1.0 - 0.05_f64.powf(1.0 / n as f64)
    } else {
        clopper_pearson(n, differing)
    };
    SampleBound { n, differing, upper_bound }
}

fn clopper_pearson(n: u64, differing: u64) -> f64 {
    if differing >= n {
        return 1.0;
    }
    let (mut low, mut high) = (differing as f64 / n as f64, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if tail(n, differing, middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// P(X <= k) of a binomial with n tries of chance p.
fn tail(n: u64, k: u64, p: f64) -> f64 {
    let mut log_choose = 0.0_f64;
    let mut sum = 0.0;
    for i in 0..=k {
        if i > 0 {
            log_choose += ((n - i + 1) as f64).ln() - (i as f64).ln();
        }
        sum += (log_choose + i as f64 * p.ln() + (n - i) as f64 * (1.0 - p).ln()).exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_sample_of_4096_bounds_drift_below_0_08_percent() {
        let bound = bound(4096, 0, false);
        assert!((0.0007..0.00074).contains(&bound.upper_bound), "{bound:?}");
    }

    #[test]
    fn differences_in_a_sample_widen_the_bound_as_clopper_and_pearson_say() {
        // One of 100: the one-sided 95 % bound is 4.656 % (tables of Clopper-Pearson).
        let bound = bound(100, 1, false);
        assert!((0.0465..0.0467).contains(&bound.upper_bound), "{bound:?}");
    }

    #[test]
    fn the_sample_of_a_union_does_not_depend_on_which_side_a_key_is_on() {
        let keys: Vec<Digest> =
            (0..200_u32).map(|n| crate::canonical::sha256(&n.to_be_bytes())).collect();
        let mut all = Sample::new(20, 7);
        for key in &keys {
            all.entry(key);
        }
        let (mut left, mut right) = (Sample::new(20, 7), Sample::new(20, 7));
        for (at, key) in keys.iter().enumerate() {
            if at % 3 != 0 {
                left.entry(key);
            }
            if at % 3 != 1 {
                right.entry(key);
            }
        }
        let together: Vec<Digest> = left.merge(right).0.into_iter().map(|(key, _)| key).collect();
        let alone: Vec<Digest> = all.keys.into_keys().map(|(_, key)| key).collect();
        assert_eq!(together, alone);
    }
}
