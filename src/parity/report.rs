//! What a verification found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::parity::against::{Against, StoreResult};
use crate::parity::difference::Difference;
use crate::parity::independent::IndependentResult;
use crate::parity::settle::Settling;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing differs.
    Clean,
    /// Something differs.
    Differences,
}

/// A whole verification; as JSON, what `--format json` prints and `--report out.json` holds.
///
/// Every field is always there; `null` says that there is no such value (of a sample at another
/// level, of a column where a whole row is missing). Counts are integers, digests and roots
/// hexadecimal, `seconds` and `upper_bound` floats. Fields are added between versions, and none is
/// taken away or changes its meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Its id in `toolkit.parity_run`.
    pub run_id: String,
    /// The pack.
    pub pack: String,
    /// `counts`, `sample` or `full`.
    pub level: String,
    /// Where the target's digests were made: `client` or `server`.
    pub digests: String,
    /// What was compared with Postgres: `source`, `sidecar`, `qdrant`, `graph`.
    #[serde(default = "sources_alone")]
    pub against: Vec<Against>,
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
    /// Per column: values read a second way, without the casts.
    pub independent: Vec<IndependentResult>,
    /// Streams of the pack that were not checked, because no source of them was found.
    pub not_checked: Vec<String>,
    /// Rows of checked tables that no slice of the pack covers, and so nothing was compared with.
    pub outside_slices: Vec<OutsideSlices>,
    /// Columns of checked tables that the pack does not fill, and so were not compared.
    pub unmapped_columns: Vec<UnmappedColumns>,
    /// Sources that changed while they were read; looked for only where something differs, which
    /// may then be due to that.
    pub changed_sources: Vec<String>,
    /// Rows that were left out on both sides because retention removes them.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Triggers of the compared tables that change rows while they are stored; looked for only
    /// where something differs, which may then be due to them.
    pub changing_triggers: Vec<String>,
    /// Log position of the snapshot that was read.
    pub snapshot_lsn: String,
    /// When the snapshot was taken, by the server's clock: RFC 3339 in UTC.
    pub snapshot_at: String,
    /// Of a verification of live stores: what became of rows that differed at first.
    #[serde(default)]
    pub settling: Option<Settling>,
    /// The stores besides the sources that were compared.
    #[serde(default)]
    pub stores: Vec<StoreResult>,
    /// Of a pack of documents: what Postgres rightly holds beside, or instead of, what they say.
    #[serde(default)]
    pub documents: Option<Documents>,
    /// Seconds from start to end.
    pub seconds: f64,
}

pub(super) fn sources_alone() -> Vec<Against> {
    vec![Against::Source]
}

/// What Postgres rightly holds beside, or instead of, what documents say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// Values and rows that the update policy kept, as the review queue or the ledger accounts for.
    pub reviewed: u64,
    /// Values and rows that documents other than the compared entry told.
    pub elsewhere: u64,
}

/// Rows of a slice that were not compared, because retention removes such rows from the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Slice.
    pub target: String,
    /// What they have in common: `created_at before 2026-01-01 00:00:00+00`.
    pub rule: String,
    /// Such rows of the source.
    pub source_rows: u64,
    /// Such rows that the target still holds.
    pub target_rows: u64,
}

/// Rows of a table that are in no slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideSlices {
    /// The table.
    pub table: String,
    /// Its rows outside every slice.
    pub rows: u64,
}

/// Columns of a table that no output of the pack writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmappedColumns {
    /// The table.
    pub table: String,
    /// Its columns that were not compared.
    pub columns: Vec<String>,
}

/// How the records of a stream are accounted for.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Refused records and rows of which a correction by `toolkit rejects retry` was compared
    /// instead.
    #[serde(default)]
    pub corrected: u64,
    /// Rejects and changed values without a record of them.
    pub unaccounted: u64,
    /// What backfill has recorded about the stream; at level full.
    #[serde(default)]
    pub recorded: Option<Recorded>,
}

/// The recorded rejects and ledger entries of a stream, as counts and roots: digests that do not
/// depend on order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Rejects, in whatever state.
    pub rejects: u64,
    /// Root over their places, records and reasons, hexadecimal.
    pub rejects_root: String,
    /// How many of them are in which state.
    #[serde(default)]
    pub reject_states: BTreeMap<String, u64>,
    /// Ledger entries.
    pub ledger: u64,
    /// Root over their identities, hexadecimal.
    pub ledger_root: String,
}

/// One slice of a target table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitResult {
    /// Slice.
    pub target: String,
    /// What it was compared with. Of a store besides the sources, the side of the source is
    /// Postgres, and that of the target the store.
    #[serde(default)]
    pub against: Against,
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
    /// Root over the rows the source makes the target hold, hexadecimal; at level full. Equal to
    /// the target's root when every row is equal. Where the target rightly holds something newer
    /// (`superseded`), the source's row is left out here and the newer one is in the target's
    /// root, so that the two differ although nothing is wrong.
    #[serde(default)]
    pub source_root: Option<String>,
    /// Root over the rows the target holds.
    #[serde(default)]
    pub target_root: Option<String>,
}

impl UnitResult {
    /// Rows that differ.
    #[must_use]
    pub fn differing(&self) -> u64 {
        self.missing + self.extra + self.changed + self.duplicates
    }
}

/// What a sample says about the whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampleBound {
    /// Keys sampled, uniformly over the keys of both sides.
    pub n: u64,
    /// Sampled keys that differ.
    pub differing: u64,
    /// With 95 % confidence fewer than this share of all rows differ (exact binomial bound; the
    /// sample was everything: 0 if nothing differs).
    pub upper_bound: f64,
}
