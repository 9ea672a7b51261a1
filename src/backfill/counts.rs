//! What became of records and rows, and the sum that must hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of the rows of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RowCounts {
    /// New in the target.
    pub inserted: u64,
    /// Replaced other content.
    pub updated: u64,
    /// Already there, byte for byte.
    pub unchanged: u64,
    /// The target kept its own content.
    pub superseded: u64,
    /// Left out by a rule, with a ledger entry.
    pub skipped: u64,
    /// Refused, kept as rejects.
    pub rejected: u64,
    /// Waiting for the rows their foreign keys lead to; none when a run has ended.
    #[serde(skip_serializing_if = "is_none")]
    pub held: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl RowCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.inserted
            + self.updated
            + self.unchanged
            + self.superseded
            + self.skipped
            + self.rejected
            + self.held
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.superseded += other.superseded;
        self.skipped += other.skipped;
        self.rejected += other.rejected;
        self.held += other.held;
    }
}

/// What became of the records of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// What became of them: `read` equals the sum of these.
    pub records: RowCounts,
    /// Values stored changed, with a ledger entry each.
    pub ledgered: u64,
    /// Rows derived beside the record's own, by output.
    pub derived: BTreeMap<String, RowCounts>,
}

impl Counts {
    /// Whether every record ended in exactly one count.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.read == self.records.total()
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.records.add(&other.records);
        self.ledgered += other.ledgered;
        for (output, counts) in &other.derived {
            self.derived.entry(output.clone()).or_default().add(counts);
        }
    }

    /// Rejected records and rows.
    #[must_use]
    pub fn rejects(&self) -> u64 {
        self.records.rejected + self.derived.values().map(|rows| rows.rejected).sum::<u64>()
    }

    /// Whether the target was changed.
    #[must_use]
    pub fn changed_rows(&self) -> u64 {
        let of = |rows: &RowCounts| rows.inserted + rows.updated;
        of(&self.records) + self.derived.values().map(of).sum::<u64>()
    }
}
