//! A stored verification, read back with everything a report of it names.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use crate::error::{Error, ErrorKind, Result};
use crate::parity::against::{Against, StoreResult};
use crate::parity::difference::{Difference, Kind};
use crate::parity::independent::IndependentResult;
use crate::parity::report::{
    Documents, LeftOut, OutsideSlices, Report, StreamResult, UnitResult, UnmappedColumns, Verdict,
    sources_alone,
};
use crate::parity::settle::Settling;
use crate::source::discover::Input;

/// Earlier verifications shown.
const HISTORY_MAX: i64 = 30;

/// A verification, where it comes from, and what came before it.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// What was found.
    pub report: Report,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The newest verifications of the pack, oldest first; this one is usually the last.
    pub history: Vec<PastRun>,
}

/// With what, and on what, a verification was made.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// Version of the toolkit.
    pub tool_version: String,
    /// Version of the canonical encoding; 0: not recorded.
    pub encoding_version: i32,
    /// Version of the pack.
    pub pack_version: Option<i32>,
    /// SHA-256 of its `pack.toml`.
    pub pack_fingerprint: String,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// The sources and their change tokens.
    pub sources: Vec<Input>,
    /// Its settings.
    pub settings: StoredSettings,
}

/// Settings of a verification.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct StoredSettings {
    /// The streams asked for; empty: all.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Where the sources were looked for.
    #[serde(default)]
    pub looked_in: Vec<String>,
    /// Folder of a pack that is not built in.
    #[serde(default)]
    pub pack_folder: Option<String>,
    /// Differing rows named at most.
    #[serde(default)]
    pub differences_max: Option<u64>,
    /// The sample, at that level.
    #[serde(default)]
    pub sample: Option<SampleSettings>,
}

/// How keys were sampled.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct SampleSettings {
    /// Keys per slice.
    pub n: u64,
    /// Seed of the choice.
    pub seed: u64,
}

/// An earlier verification of the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PastRun {
    /// Its id.
    pub run_id: String,
    /// Its level.
    pub level: String,
    /// Whether nothing differed.
    pub is_clean: bool,
    /// When it ended, RFC 3339 in UTC.
    pub finished_at: String,
    /// Rows that differed.
    pub differing_rows: u64,
    /// Whether it was restricted to some streams.
    pub is_partial: bool,
}

/// `toolkit.parity_run.totals`; later fields are absent in older runs.
#[derive(Debug, Deserialize)]
struct Totals {
    #[serde(default)]
    settling: Option<Settling>,
    #[serde(default = "sources_alone")]
    against: Vec<Against>,
    #[serde(default)]
    stores: Vec<StoreResult>,
    #[serde(default)]
    documents: Option<Documents>,
    #[serde(default)]
    differing_rows: u64,
    #[serde(default)]
    digests: String,
    #[serde(default)]
    independent: Vec<IndependentResult>,
    #[serde(default)]
    units: Vec<UnitResult>,
    #[serde(default)]
    not_checked: Vec<String>,
    #[serde(default)]
    outside_slices: Vec<OutsideSlices>,
    #[serde(default)]
    left_out: Vec<LeftOut>,
    #[serde(default)]
    unmapped_columns: Vec<UnmappedColumns>,
    #[serde(default)]
    changed_sources: Vec<String>,
    #[serde(default)]
    changing_triggers: Vec<String>,
    #[serde(default)]
    snapshot_at: String,
    #[serde(default)]
    seconds: Option<f64>,
    #[serde(default)]
    pack_version: Option<i32>,
    #[serde(default)]
    pack_fingerprint: String,
    #[serde(default)]
    encoding_version: i32,
}

/// Reads the stored verification of this id. Errors: there is none.
pub async fn stored_run(conn: &mut PgConnection, run_id: &str) -> Result<StoredRun> {
    let mut snapshot = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let header = sqlx::query(include_str!("../sql/parity/stored_run.sql"))
        .bind(run_id)
        .fetch_optional(&mut *snapshot)
        .await?
        .ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no stored verification `{run_id}`"))
        })?;
    let run_id: String = header.try_get("run_id")?;
    let differences = sqlx::query(include_str!("../sql/parity/stored_differences.sql"))
        .bind(&run_id)
        .fetch_all(&mut *snapshot)
        .await?;
    let pack: String = header.try_get("pack")?;
    let history = sqlx::query(include_str!("../sql/parity/history.sql"))
        .bind(&pack)
        .bind(HISTORY_MAX)
        .fetch_all(&mut *snapshot)
        .await?;
    snapshot.commit().await?;
    let totals: Totals = json(&header.try_get::<String, _>("totals")?)?;
    let provenance = Provenance {
        tool_version: header.try_get("tool_version")?,
        encoding_version: totals.encoding_version,
        pack_version: totals.pack_version,
        pack_fingerprint: totals.pack_fingerprint.clone(),
        started_at: header.try_get("started_at")?,
        sources: json(&header.try_get::<String, _>("inputs")?)?,
        settings: json(&header.try_get::<String, _>("settings")?)?,
    };
    let differences = differences.iter().map(difference_of).collect::<Result<Vec<_>>>()?;
    let report = report_of(&header, pack, totals, differences)?;
    let history = history.iter().map(past_run_of).collect::<Result<Vec<_>>>()?;
    Ok(StoredRun { report, provenance, history })
}

fn report_of(
    header: &PgRow,
    pack: String,
    totals: Totals,
    differences: Vec<Difference>,
) -> Result<Report> {
    let streams: Vec<StreamResult> = json(&header.try_get::<String, _>("streams")?)?;
    let is_clean = header.try_get::<&str, _>("verdict")? == "clean";
    let stored_seconds: Option<f64> = header.try_get("seconds")?;
    Ok(Report {
        run_id: header.try_get("run_id")?,
        pack,
        level: header.try_get("level")?,
        digests: totals.digests,
        verdict: if is_clean { Verdict::Clean } else { Verdict::Differences },
        streams,
        units: totals.units,
        differences,
        differing_rows: totals.differing_rows,
        independent: totals.independent,
        not_checked: totals.not_checked,
        outside_slices: totals.outside_slices,
        left_out: totals.left_out,
        unmapped_columns: totals.unmapped_columns,
        changed_sources: totals.changed_sources,
        changing_triggers: totals.changing_triggers,
        snapshot_lsn: header.try_get("lsn")?,
        snapshot_at: totals.snapshot_at,
        settling: totals.settling,
        against: totals.against,
        stores: totals.stores,
        documents: totals.documents,
        seconds: totals.seconds.or(stored_seconds).unwrap_or_default(),
    })
}

fn difference_of(row: &PgRow) -> Result<Difference> {
    let kind: &str = row.try_get("kind")?;
    let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
    let kind = known.ok_or_else(|| {
        Error::new(ErrorKind::Bug, format!("a stored difference is of the unknown kind `{kind}`"))
    })?;
    Ok(Difference {
        stream: row.try_get("stream")?,
        target: row.try_get("target")?,
        kind,
        key: json(&row.try_get::<String, _>("record_key")?)?,
        column: row.try_get("column_name")?,
        source_value: row.try_get("source_value")?,
        target_value: row.try_get("target_value")?,
        source_digest: row.try_get("source_digest")?,
        target_digest: row.try_get("target_digest")?,
        locator: row.try_get("locator")?,
        row: None,
        corrected: row.try_get("corrected")?,
    })
}

fn past_run_of(row: &PgRow) -> Result<PastRun> {
    Ok(PastRun {
        run_id: row.try_get("run_id")?,
        level: row.try_get("level")?,
        is_clean: row.try_get::<&str, _>("verdict")? == "clean",
        finished_at: row.try_get("finished_at")?,
        differing_rows: row.try_get::<i64, _>("differing_rows")?.unsigned_abs(),
        is_partial: row.try_get("is_partial")?,
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Bug, "a stored verification is not of this version's shape")
            .because(error)
            .advice("verify again with this version")
    })
}
