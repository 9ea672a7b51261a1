//! The result as every other pack's: printed, stored, written as a page by the same code.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use sqlx::postgres::PgConnection;

use super::{Comparison, Options};
use crate::anime::PACK;
use crate::anime::ingest::{ArtifactFile, STREAM};
use crate::error::Result;
use crate::pack::Pack;
use crate::parity::{
    Against, IndependentResult, Level, Report, Stored, StreamResult, Verdict, bound, store_report,
};
use crate::source::discover::Input;

/// What was compared.
pub(super) struct Basis<'a> {
    pub(super) lsn: String,
    pub(super) snapshot: String,
    pub(super) pack: &'a Pack,
    pub(super) files: &'a [ArtifactFile],
    pub(super) roots: &'a [PathBuf],
}

pub(super) fn of(
    comparison: &Comparison<'_>,
    basis: &Basis<'_>,
    (snapshot_at, changed_sources, is_whole): (String, Vec<String>, bool),
    clock: Instant,
) -> Report {
    let found = &comparison.found;
    let differing_rows = found.total();
    let is_clean = differing_rows == 0;
    let sum = |count: fn(&super::Counts) -> u64| comparison.counts.values().map(count).sum();
    let read: u64 = sum(|counts| counts.read);
    let stream = StreamResult {
        stream: STREAM.to_owned(),
        read,
        rejected: sum(|counts| counts.rejected),
        skipped: 0,
        superseded: sum(|counts| counts.superseded),
        ledgered: found.reviewed,
        corrected: 0,
        unaccounted: found.unaccounted,
        recorded: None,
    };
    let mut units = found.units();
    if let Level::Sample { n, .. } = comparison.options.level
        && let Some(anime) = units.iter_mut().find(|unit| unit.target == "anime")
    {
        let taken = (n as u64).min(read);
        anime.sample = Some(bound(taken, comparison.differing, taken == read));
    }
    let (checked, lost) = found.leaves;
    let independent = if checked == 0 {
        Vec::new()
    } else {
        vec![IndependentResult {
            stream: STREAM.to_owned(),
            target: "anime".to_owned(),
            column: "every leaf".to_owned(),
            checked,
            differing: lost,
            by_rule: 0,
            unread: 0,
            has_second_way: true,
        }]
    };
    let not_checked = if is_whole {
        Vec::new()
    } else {
        vec!["what nobody said of shared characters and companies: there are too many".to_owned()]
    };
    Report {
        run_id: uuid::Uuid::new_v4().to_string(),
        pack: PACK.to_owned(),
        level: comparison.options.level.name().to_owned(),
        digests: "client".to_owned(),
        against: vec![Against::Source],
        verdict: if is_clean { Verdict::Clean } else { Verdict::Differences },
        streams: vec![stream],
        units,
        differences: found.differences.clone(),
        differing_rows,
        independent,
        not_checked,
        outside_slices: Vec::new(),
        unmapped_columns: Vec::new(),
        changed_sources: if is_clean { Vec::new() } else { changed_sources.clone() },
        left_out: Vec::new(),
        changing_triggers: Vec::new(),
        snapshot_lsn: basis.lsn.clone(),
        snapshot_at,
        settling: None,
        documents: Some(crate::parity::Documents {
            reviewed: found.reviewed,
            elsewhere: found.elsewhere,
        }),
        stores: Vec::new(),
        seconds: clock.elapsed().as_secs_f64(),
    }
}

/// Stores it in `toolkit.parity_run` and `toolkit.parity_difference`.
pub(super) async fn store(
    conn: &mut PgConnection,
    report: &Report,
    basis: &Basis<'_>,
    options: &Options,
) -> Result<()> {
    let settings = json!({
        "level": options.level.name(),
        "streams": [],
        "looked_in": basis.roots,
        "pack_folder": basis.pack.folder,
        "differences_max": options.differences_max,
        "digests": "client",
        "sample": match options.level {
            Level::Sample { n, seed } => json!({ "n": n, "seed": seed }),
            _ => serde_json::Value::Null,
        },
    });
    let input = |file: &ArtifactFile| Input {
        stream: STREAM.to_owned(),
        source: file.file.clone(),
        token: file.sha256.clone(),
        sha256: Some(file.sha256.clone()),
        files: 1,
        bytes: file.bytes,
    };
    let inputs: Vec<Input> = basis.files.iter().map(input).collect();
    let fingerprint = hex::encode(crate::canonical::sha256(basis.pack.text.as_bytes()));
    let stored = Stored {
        settings: &settings,
        snapshot: &basis.snapshot,
        inputs: &inputs,
        pack_version: basis.pack.manifest.pack.version,
        pack_fingerprint: &fingerprint,
    };
    store_report(conn, stored, report).await
}
