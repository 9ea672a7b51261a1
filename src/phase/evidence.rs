//! `toolkit.evidence`: facts with what they hold for.

use serde::Serialize;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::basis::Basis;
use crate::error::{Error, ErrorKind, Result};

/// A full verification of the whole pack.
pub(super) const PARITY: &str = "parity";
/// How far the files were captured when a verification began that has not ended yet: what was
/// captured since stays in their logs.
pub(super) const PARITY_BEGUN: &str = "parity_begun";
/// Streams without a way back, acknowledged.
pub(super) const NO_WAY_BACK: &str = "acknowledged_none";
/// What a gate that was passed had found.
pub(super) const GATE: &str = "gate";

/// A dump that was restored and compared.
pub(super) const BACKUP: &str = "backup";

/// One stored fact.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Evidence {
    /// Its number.
    pub id: i64,
    /// What kind of fact.
    pub kind: String,
    /// The run or verification it comes from.
    pub run_id: Option<String>,
    /// When it was found, RFC 3339 in UTC.
    pub at: String,
    /// What was found.
    pub facts: Value,
    /// What it holds for.
    #[serde(skip)]
    pub basis: Option<Basis>,
    /// Why it does not hold any more; None: it does.
    pub expired: Option<String>,
}

/// Stores a fact.
pub(super) async fn record(
    conn: &mut PgConnection,
    pack: &str,
    kind: &str,
    run_id: Option<&str>,
    facts: &Value,
    basis: &Basis,
) -> Result<()> {
    let basis = serde_json::to_string(basis)
        .map_err(|e| Error::new(ErrorKind::Bug, "evidence is not JSON").because(e))?;
    sqlx::query(
        "INSERT INTO toolkit.evidence (pack, kind, run_id, facts, basis) \
         VALUES ($1, $2, $3::uuid, $4::jsonb, $5::jsonb)",
    )
    .bind(pack)
    .bind(kind)
    .bind(run_id)
    .bind(facts.to_string())
    .bind(basis)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes back what was said at the beginning of a verification.
pub(super) async fn forget_begun(conn: &mut PgConnection, pack: &str, begun: &str) -> Result<()> {
    sqlx::query("DELETE FROM toolkit.evidence WHERE pack = $1 AND kind = $2 AND run_id = $3::uuid")
        .bind(pack)
        .bind(PARITY_BEGUN)
        .bind(begun)
        .execute(conn)
        .await?;
    Ok(())
}

/// Facts of one kind, newest first, each with whether it holds `now`.
pub(super) async fn list(
    conn: &mut PgConnection,
    pack: &str,
    kind: &str,
    now: &Basis,
) -> Result<Vec<Evidence>> {
    let rows = sqlx::query(include_str!("../sql/phase/evidence.sql"))
        .bind(pack)
        .bind(kind)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let facts: String = row.try_get("facts")?;
            let basis: String = row.try_get("basis")?;
            let basis: Option<Basis> = serde_json::from_str(&basis).ok();
            let stored: Option<String> = row.try_get("expired_because")?;
            let unreadable = || "it was recorded by another version of the toolkit".to_owned();
            let expired = stored.or_else(|| match &basis {
                Some(basis) => basis.expired(now),
                None => Some(unreadable()),
            });
            Ok(Evidence {
                id: row.try_get("id")?,
                kind: kind.to_owned(),
                run_id: row.try_get("run_id")?,
                at: row.try_get("at")?,
                facts: serde_json::from_str(&facts).unwrap_or_default(),
                basis,
                expired,
            })
        })
        .collect()
}

/// Writes down which facts do not hold any more, so that none comes back to life.
pub(super) async fn expire(conn: &mut PgConnection, pack: &str, now: &Basis) -> Result<()> {
    for kind in [PARITY, NO_WAY_BACK] {
        for evidence in list(conn, pack, kind, now).await? {
            let Some(reason) = &evidence.expired else { continue };
            sqlx::query(
                "UPDATE toolkit.evidence SET expired_at = now(), expired_because = $2 \
                 WHERE id = $1 AND expired_at IS NULL",
            )
            .bind(evidence.id)
            .bind(reason)
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(())
}
