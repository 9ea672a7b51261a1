//! Results in `toolkit.parity_run` and `toolkit.parity_difference`.

use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::parity::difference::Difference;
use crate::parity::report::{Report, Verdict};
use crate::source::discover::Input;

/// Differences sent at once.
const AT_ONCE: usize = 1000;

/// What a result is stored with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) settings: &'a serde_json::Value,
    /// The snapshot that was read, as Postgres prints it.
    pub(crate) snapshot: &'a str,
    pub(crate) inputs: &'a [Input],
    pub(crate) pack_version: i32,
    pub(crate) pack_fingerprint: &'a str,
}

impl<'a> Stored<'a> {
    pub(super) fn of(
        opened: &'a OpenedPack,
        settings: &'a serde_json::Value,
        snapshot: &'a str,
    ) -> Self {
        Self {
            settings,
            snapshot,
            inputs: &opened.discovered.inputs,
            pack_version: opened.plan.version,
            pack_fingerprint: &opened.plan.fingerprint,
        }
    }
}

/// Stores the result of a verification in one transaction.
pub(crate) async fn store_report(
    conn: &mut PgConnection,
    stored: Stored<'_>,
    report: &Report,
) -> Result<()> {
    let mut tx = conn.begin().await?;
    let verdict = match report.verdict {
        Verdict::Clean => "clean",
        Verdict::Differences => "differences",
    };
    let totals = json!({
        "differing_rows": report.differing_rows,
        "units": report.units,
        "digests": report.digests,
        "independent": report.independent,
        "not_checked": report.not_checked,
        "outside_slices": report.outside_slices,
        "left_out": report.left_out,
        "unmapped_columns": report.unmapped_columns,
        "changed_sources": report.changed_sources,
        "changing_triggers": report.changing_triggers,
        "snapshot_at": report.snapshot_at,
        "settling": report.settling,
        "against": report.against,
        "stores": report.stores,
        "documents": report.documents,
        "seconds": report.seconds,
        "pack_version": stored.pack_version,
        "pack_fingerprint": stored.pack_fingerprint,
        "encoding_version": crate::canonical::ENCODING_VERSION,
    });
    sqlx::query(include_str!("../sql/parity/insert_run.sql"))
        .bind(&report.run_id)
        .bind(&report.pack)
        .bind(&report.level)
        .bind(verdict)
        .bind(report.seconds)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(text(stored.settings)?)
        .bind(text(&stored.inputs)?)
        .bind(&report.snapshot_lsn)
        .bind(stored.snapshot)
        .bind(text(&totals)?)
        .bind(text(&report.streams)?)
        .bind(against(report))
        .execute(&mut *tx)
        .await?;
    store_differences(&mut tx, &report.run_id, &report.differences).await?;
    tx.commit().await?;
    Ok(())
}

/// Adds to a stored result what was found in stores besides the sources: `report` with it, whose
/// last `added` differences are new.
pub(crate) async fn amend(conn: &mut PgConnection, report: &Report, added: usize) -> Result<()> {
    let mut tx = conn.begin().await?;
    let verdict = match report.verdict {
        Verdict::Clean => "clean",
        Verdict::Differences => "differences",
    };
    let totals = json!({
        "differing_rows": report.differing_rows,
        "units": report.units,
        "against": report.against,
        "stores": report.stores,
        "seconds": report.seconds,
    });
    sqlx::query(include_str!("../sql/parity/amend_run.sql"))
        .bind(&report.run_id)
        .bind(against(report))
        .bind(verdict)
        .bind(text(&totals)?)
        .execute(&mut *tx)
        .await?;
    let known = report.differences.len().saturating_sub(added);
    store_differences(&mut tx, &report.run_id, &report.differences[known..]).await?;
    tx.commit().await?;
    Ok(())
}

fn against(report: &Report) -> String {
    let names: Vec<&str> = report.against.iter().map(|against| against.name()).collect();
    names.join(",")
}

async fn store_differences(
    conn: &mut PgConnection,
    run_id: &str,
    differences: &[Difference],
) -> Result<()> {
    for part in differences.chunks(AT_ONCE) {
        let strings = |get: fn(&Difference) -> Option<String>| {
            part.iter().map(get).map(|value| value.map(without_nul)).collect::<Vec<_>>()
        };
        let keys = part.iter().map(|d| text(&d.key)).collect::<Result<Vec<_>>>()?;
        sqlx::query(include_str!("../sql/parity/insert_differences.sql"))
            .bind(run_id)
            .bind(part.iter().map(|d| d.stream.clone()).collect::<Vec<_>>())
            .bind(part.iter().map(|d| d.target.clone()).collect::<Vec<_>>())
            .bind(part.iter().map(|d| d.kind.name().to_owned()).collect::<Vec<_>>())
            .bind(keys)
            .bind(strings(|d| d.column.clone()))
            .bind(strings(|d| d.source_value.clone()))
            .bind(strings(|d| d.target_value.clone()))
            .bind(strings(|d| d.source_digest.clone()))
            .bind(strings(|d| d.target_digest.clone()))
            .bind(strings(|d| d.locator.clone()))
            .bind(part.iter().map(|d| d.corrected).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Bug, "a parity result is not JSON").because(e))
}
