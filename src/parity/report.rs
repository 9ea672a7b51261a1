//! What a verification found.

use serde::Serialize;

use crate::parity::difference::Difference;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing differs.
    Clean,
    /// Something differs.
    Differences,
}

/// A whole verification.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its id in `toolkit.parity_run`.
    pub run_id: String,
    /// The pack.
    pub pack: String,
    /// `counts`, `sample` or `full`.
    pub level: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Per stream: how its records are accounted for.
    pub streams: Vec<StreamResult>,
    /// Per slice of a target table.
    pub units: Vec<UnitResult>,
    /// The differences, up to the limit.
    pub differences: Vec<Difference>,
    /// Rows that differ, listed or not.
    pub differing_rows: u64,
    /// Streams of the pack that were not checked, because no source of them was found.
    pub not_checked: Vec<String>,
    /// Rows of checked tables that no slice of the pack covers, and so nothing was compared with.
    pub outside_slices: Vec<OutsideSlices>,
    /// Sources that changed while they were read; looked for only where something differs, which
    /// may then be due to that.
    pub changed_sources: Vec<String>,
    /// Triggers of the compared tables that change rows while they are stored; looked for only
    /// where something differs, which may then be due to them.
    pub changing_triggers: Vec<String>,
    /// Log position of the snapshot that was read.
    pub snapshot_lsn: String,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// Rows of a table that are in no slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutsideSlices {
    /// The table.
    pub table: String,
    /// Its rows outside every slice.
    pub rows: u64,
}

/// How the records of a stream are accounted for.
#[derive(Debug, Clone, Serialize)]
pub struct StreamResult {
    /// Stream.
    pub stream: String,
    /// Records read from the source.
    pub read: u64,
    /// Rejected records and rows that are recorded as such.
    pub rejected: u64,
    /// Records a rule left out.
    pub skipped: u64,
    /// Records whose row gave way to another.
    pub superseded: u64,
    /// Values stored changed, with a ledger entry each.
    pub ledgered: u64,
    /// Rejects and changed values without a record of them.
    pub unaccounted: u64,
}

/// One slice of a target table.
#[derive(Debug, Clone, Serialize)]
pub struct UnitResult {
    /// Slice.
    pub target: String,
    /// Rows the source yields.
    pub source_rows: u64,
    /// Rows the target holds.
    pub target_rows: u64,
    /// Rows in the source only.
    pub missing: u64,
    /// Rows in the target only.
    pub extra: u64,
    /// Rows with another value.
    pub changed: u64,
    /// Keys that occur more than once.
    pub duplicates: u64,
    /// Rows where the target rightly holds something newer.
    pub superseded: u64,
    /// The sample, if only a sample was compared.
    pub sample: Option<SampleBound>,
}

impl UnitResult {
    /// Rows that differ.
    #[must_use]
    pub fn differing(&self) -> u64 {
        self.missing + self.extra + self.changed + self.duplicates
    }
}

/// What a sample says about the whole.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SampleBound {
    /// Keys sampled, uniformly over the keys of both sides.
    pub n: u64,
    /// Sampled keys that differ.
    pub differing: u64,
    /// With 95 % confidence fewer than this share of all rows differ (exact binomial bound; the
    /// sample was everything: 0 if nothing differs).
    pub upper_bound: f64,
}
