//! Verifications as evidence: what held when one began is stored beside its result.

use std::sync::Arc;

use serde_json::json;

use super::basis::Basis;
use super::evidence;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::parity::{self, Level, Options, Report, Settle, Verdict};
use crate::store::Postgres;

/// Verifies, and keeps the result as evidence for the phase gates.
///
/// What the evidence holds for is read before the comparison begins, so that a change during it
/// counts as one after it.
pub async fn verify(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    let mut conn = postgres.dedicated().await?;
    let basis = Basis::of_opened(&mut conn, &opened).await?;
    let mut options = options.clone();
    if options.settle == Settle::No && is_followed(&mut conn, &opened.plan.name).await? {
        options.settle = Settle::Following;
    }
    let report = parity::verify(postgres, Arc::clone(&opened), &options, stop).await?;
    let units: serde_json::Map<_, _> = report
        .units
        .iter()
        .map(|unit| (unit.target.clone(), json!([unit.source_rows, unit.target_rows])))
        .collect();
    // A copy of the sources is not what the application goes on writing.
    let is_copy =
        opened.roots.iter().any(|root| root.join(crate::source::snapshot::MAKER).exists());
    let facts = json!({
        "clean": report.verdict == Verdict::Clean,
        "whole": options.level == Level::Full && options.streams.is_empty() && !is_copy,
        "level": report.level,
        "differing_rows": report.differing_rows,
        "rows": units,
        "not_checked": report.not_checked,
    });
    let run = Some(report.run_id.as_str());
    evidence::record(&mut conn, &report.pack, evidence::PARITY, run, &facts, &basis).await?;
    sqlx::Connection::close(conn).await?;
    Ok(report)
}

/// Whether one store follows the other: capture is installed, whoever is primary.
async fn is_followed(conn: &mut sqlx::PgConnection, pack: &str) -> Result<bool> {
    let is_known: bool =
        sqlx::query_scalar("SELECT to_regclass('toolkit.capture_cursor') IS NOT NULL")
            .fetch_one(&mut *conn)
            .await?;
    if !is_known {
        return Ok(false);
    }
    crate::capture::record::is_captured(conn, pack).await
}
