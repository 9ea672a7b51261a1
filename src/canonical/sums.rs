//! Additive sums of row digests per bucket: order-free, duplicate-aware.

use crate::canonical::Digest;

/// Count and 128-bit additive sum of row digests; equal pairs do not cancel as under XOR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketSum {
    /// Rows folded in.
    pub count: u64,
    /// Wrapping sum of the first 16 bytes of each digest, big-endian.
    pub sum: u128,
}

impl BucketSum {
    /// Folds one row in.
    pub fn add(&mut self, digest: &Digest) {
        self.count += 1;
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(head));
    }

    /// Folds another sum in.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Sums by bucket; the bucket of a row is taken from the digest of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    sums: Vec<BucketSum>,
}

impl Buckets {
    /// Number of buckets: 4,096, so that one differing row costs 1/4,096 of a second pass.
    pub const COUNT: usize = 4096;

    /// All empty.
    #[must_use]
    pub fn new() -> Self {
        Self { sums: vec![BucketSum::default(); Self::COUNT] }
    }

    /// Bucket of a key: the first 12 bits of its digest, of which two bytes suffice.
    #[must_use]
    pub fn bucket_of(key: &[u8]) -> usize {
        let byte = |at: usize| usize::from(key.get(at).copied().unwrap_or_default());
        (byte(0) << 4) | (byte(1) >> 4)
    }

    /// Folds one row in.
    pub fn add(&mut self, key: &Digest, row: &Digest) {
        self.sums[Self::bucket_of(key)].add(row);
    }

    /// Sets the sum of a bucket that was folded elsewhere.
    pub fn put(&mut self, bucket: usize, sum: BucketSum) {
        self.sums[bucket % Self::COUNT] = sum;
    }

    /// Buckets whose sums differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<usize> {
        (0..Self::COUNT).filter(|bucket| self.sums[*bucket] != other.sums[*bucket]).collect()
    }

    /// Rows in a bucket.
    #[must_use]
    pub fn count_in(&self, bucket: usize) -> u64 {
        self.sums[bucket].count
    }

    /// One digest over all buckets: the same for the same rows, in whatever order they were folded
    /// in, and another one as soon as a row is added, lost or changed.
    ///
    /// SHA-256 of `"toolkit table root 1\n"` and, per bucket, its count as `u64` and its sum as
    /// `u128`, big-endian.
    #[must_use]
    pub fn root(&self) -> Digest {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new();
        hash.update(b"toolkit table root 1\n");
        for sum in &self.sums {
            hash.update(sum.count.to_be_bytes());
            hash.update(sum.sum.to_be_bytes());
        }
        hash.finalize().into()
    }

    /// Count and sum over all buckets.
    #[must_use]
    pub fn total(&self) -> BucketSum {
        let mut total = BucketSum::default();
        for sum in &self.sums {
            total.merge(sum);
        }
        total
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::sha256;

    fn root(rows: &[(u8, u8)]) -> Digest {
        let mut buckets = Buckets::new();
        for (key, row) in rows {
            buckets.add(&sha256(&[*key]), &sha256(&[*row]));
        }
        buckets.root()
    }

    #[test]
    fn a_root_depends_on_every_row_and_not_on_their_order() {
        let all = root(&[(1, 1), (2, 2), (3, 3)]);
        assert_eq!(all, root(&[(3, 3), (1, 1), (2, 2)]));
        let others: [&[(u8, u8)]; 5] = [
            &[(1, 1), (2, 2)],
            &[(1, 1), (2, 2), (3, 4)],
            &[(1, 2), (2, 1), (3, 3)],
            &[(1, 1), (2, 2), (3, 3), (3, 3)],
            &[],
        ];
        for other in others {
            assert_ne!(all, root(other), "{other:?}");
        }
    }

    fn sum_of(rows: &[&[u8]]) -> BucketSum {
        let mut sum = BucketSum::default();
        for row in rows {
            sum.add(&sha256(row));
        }
        sum
    }

    #[test]
    fn pairs_that_cancel_out_under_xor_do_not_in_a_sum() {
        let xor = |rows: &[&[u8]]| {
            rows.iter().fold([0_u8; 32], |folded, row| {
                let digest = sha256(row);
                std::array::from_fn(|at| folded[at] ^ digest[at])
            })
        };
        let (kept, twice): (&[&[u8]], &[&[u8]]) = (&[b"a", b"b", b"b"], &[b"a", b"c", b"c"]);
        assert_eq!(xor(kept), xor(twice));
        assert_eq!(sum_of(kept).count, sum_of(twice).count);
        assert_ne!(sum_of(kept), sum_of(twice));
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_of_rows_nor_on_how_they_were_merged() {
        let mut merged = sum_of(&[b"c", b"a"]);
        merged.merge(&sum_of(&[b"b"]));
        assert_eq!(merged, sum_of(&[b"a", b"b", b"c"]));
    }
}
