//! The certificate: what a clean, full verification proved, as a file that can be checked later.
//!
//! It names the verification's snapshot, a root per table and side (a digest over all canonical
//! rows that does not depend on their order), the roots of what is recorded as rejected or changed,
//! and the fingerprints of the sources and of the pack. Its last member, `sha256`, is over the
//! canonical JSON of all others: keys sorted, no whitespace, so that
//! `jq -cjS 'del(.sha256)' FILE | sha256sum` gives it as well.
//!
//! It is issued only for a clean verification of the whole pack at level full: that there is a
//! certificate says that nothing differed. It is a checksum and no signature: it shows that a file
//! was damaged or edited by hand, not who made it; keep it where others cannot write.

mod check;
mod seal;

pub use check::{Check, Fact, check, check_seal};
pub use seal::{Sealed, read, write};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::parity::{LeftOut, OutsideSlices, Report, StoredRun, UnmappedColumns, Verdict};
use crate::source::discover::Discovered;

/// Version of the file format.
pub const FORMAT_VERSION: u32 = 1;

/// A certificate, without its own digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What it says, for a person who opens the file.
    pub statement: String,
    /// `clean`.
    pub verdict: Verdict,
    /// `full`.
    pub level: String,
    /// Rows that were equal, in all tables.
    pub rows: u64,
    /// The verification, in `toolkit.parity_run`.
    pub parity_run: String,
    /// What was read of Postgres.
    pub snapshot: Snapshot,
    /// Version of the toolkit.
    pub tool_version: String,
    /// Version of the canonical encoding that roots are in.
    pub encoding_version: i32,
    /// The pack.
    pub pack: PackFacts,
    /// Where the sources were looked for, as absolute paths.
    pub looked_in: Vec<String>,
    /// Every source file.
    pub sources: Vec<SourceFacts>,
    /// Every slice of a target table.
    pub tables: Vec<TableFacts>,
    /// Every stream that was read.
    pub streams: Vec<StreamFacts>,
    /// What the verification did not check.
    pub not_checked: NotChecked,
}

/// A snapshot of Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Log position.
    pub lsn: String,
    /// RFC 3339 in UTC, by the server's clock.
    pub at: String,
}

/// A pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFacts {
    /// Name.
    pub name: String,
    /// Version.
    pub version: i32,
    /// SHA-256 of `pack.toml`, line endings normalised.
    pub fingerprint: String,
    /// Its folder, absolute; null for one that is built in.
    pub folder: Option<String>,
}

/// A source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFacts {
    /// Path below the folder that was searched.
    pub file: String,
    /// SHA-256 of a document; for `SQLite` the change counters of its header and the state of its
    /// write-ahead log.
    pub fingerprint: String,
    /// Size in bytes.
    pub bytes: u64,
    /// The streams that read it.
    pub streams: Vec<String>,
}

/// A slice of a target table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFacts {
    /// Slice.
    pub target: String,
    /// Rows the sources make it hold.
    pub source_rows: u64,
    /// Rows it holds.
    pub target_rows: u64,
    /// Rows where it rightly holds something newer; if there are any, the roots differ.
    pub superseded: u64,
    /// Root over the rows the sources make it hold.
    pub source_root: String,
    /// Root over the rows it holds.
    pub target_root: String,
}

/// What became of a stream's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamFacts {
    /// Stream.
    pub stream: String,
    /// Records read.
    pub read: u64,
    /// Rejects recorded, in whatever state.
    pub rejects: u64,
    /// Root over them, states included.
    pub rejects_root: String,
    /// Ledger entries recorded.
    pub ledger: u64,
    /// Root over them.
    pub ledger_root: String,
}

/// What the verification did not check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotChecked {
    /// Streams without a source.
    pub streams: Vec<String>,
    /// Rows no stream claims.
    pub outside_slices: Vec<OutsideSlices>,
    /// Rows that retention removes from the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Columns the pack does not fill.
    pub unmapped_columns: Vec<UnmappedColumns>,
}

/// Makes the certificate of a verification. Errors: it is not clean, not of the whole pack at
/// level full, or a source changed while it was read.
///
/// Blocking: looks at the sources once more.
pub fn issue(run: &StoredRun, opened: &OpenedPack) -> Result<Certificate> {
    let report = &run.report;
    if report.verdict != Verdict::Clean
        || report.level != "full"
        || !run.provenance.settings.streams.is_empty()
    {
        return Err(Error::new(
            ErrorKind::Usage,
            "a certificate is issued only for a clean verification of the whole pack at level full",
        ));
    }
    let changed = opened.changed_sources()?;
    if !changed.is_empty() {
        return Err(Error::new(
            ErrorKind::SourceChanged,
            format!(
                "no certificate: {} changed while it was read, so it is not known which content \
                 was compared",
                changed.join(", ")
            ),
        )
        .advice("verify again when the application is still"));
    }
    let tables = table_facts(report);
    let rows = tables.iter().map(|table| table.target_rows).sum();
    Ok(Certificate {
        format_version: FORMAT_VERSION,
        statement: format!(
            "All {rows} rows in {} slices of tables of the pack {} were equal to what its sources \
             yield, byte for byte in canonical form, or rightly newer.",
            tables.len(),
            report.pack
        ),
        verdict: report.verdict,
        level: report.level.clone(),
        rows,
        parity_run: report.run_id.clone(),
        snapshot: Snapshot { lsn: report.snapshot_lsn.clone(), at: report.snapshot_at.clone() },
        tool_version: run.provenance.tool_version.clone(),
        encoding_version: crate::canonical::ENCODING_VERSION,
        pack: pack_facts(opened),
        looked_in: opened.roots.iter().map(|root| absolute(root)).collect(),
        sources: source_facts(&opened.discovered),
        tables,
        streams: stream_facts(report),
        not_checked: NotChecked {
            streams: report.not_checked.clone(),
            outside_slices: report.outside_slices.clone(),
            left_out: report.left_out.clone(),
            unmapped_columns: report.unmapped_columns.clone(),
        },
    })
}

fn absolute(path: &std::path::Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    whole.to_string_lossy().into_owned()
}

fn pack_facts(opened: &OpenedPack) -> PackFacts {
    PackFacts {
        name: opened.plan.name.clone(),
        version: opened.plan.version,
        fingerprint: opened.plan.fingerprint.clone(),
        folder: opened.pack.folder.as_deref().map(absolute),
    }
}

/// Every file once, with all streams that read it.
fn source_facts(discovered: &Discovered) -> Vec<SourceFacts> {
    let mut facts: Vec<SourceFacts> = Vec::new();
    for (stream, files) in &discovered.streams {
        for file in &files.files {
            let is_input = |input: &&crate::source::discover::Input| {
                input.stream == *stream && input.source == file.relative
            };
            let fingerprint = if file.sha256.is_empty() {
                let input = discovered.inputs.iter().find(is_input);
                input.map(|input| input.token.clone()).unwrap_or_default()
            } else {
                format!("sha256={}", file.sha256)
            };
            facts.push(SourceFacts {
                file: file.relative.clone(),
                fingerprint,
                bytes: file.size_bytes,
                streams: vec![stream.clone()],
            });
        }
    }
    facts.sort_by(|a, b| {
        (&a.file, &a.fingerprint, &a.streams).cmp(&(&b.file, &b.fingerprint, &b.streams))
    });
    facts.dedup_by(|next, kept| {
        let is_same = (&next.file, &next.fingerprint) == (&kept.file, &kept.fingerprint);
        if is_same {
            kept.streams.append(&mut next.streams);
        }
        is_same
    });
    facts
}

fn table_facts(report: &Report) -> Vec<TableFacts> {
    let facts = report.units.iter().map(|unit| TableFacts {
        target: unit.target.clone(),
        source_rows: unit.source_rows,
        target_rows: unit.target_rows,
        superseded: unit.superseded,
        source_root: unit.source_root.clone().unwrap_or_default(),
        target_root: unit.target_root.clone().unwrap_or_default(),
    });
    facts.collect()
}

fn stream_facts(report: &Report) -> Vec<StreamFacts> {
    let facts = report.streams.iter().filter_map(|stream| {
        let recorded = stream.recorded.clone()?;
        Some(StreamFacts {
            stream: stream.stream.clone(),
            read: stream.read,
            rejects: recorded.rejects,
            rejects_root: recorded.rejects_root,
            ledger: recorded.ledger,
            ledger_root: recorded.ledger_root,
        })
    });
    facts.collect()
}
