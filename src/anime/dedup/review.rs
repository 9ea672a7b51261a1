//! The list of candidates, and a person's no.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::anime::PACK;
use crate::anime::dedup::score::Reason;
use crate::error::{Error, ErrorKind, Result};

/// States of a candidate.
pub const STATES: &[&str] = &["open", "merged", "rejected"];

/// Two characters that may be one.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Its number.
    pub id: i64,
    /// From 0 to 1.
    pub score: f64,
    /// One of [`STATES`].
    pub state: String,
    /// The first character.
    pub one: Side,
    /// The second.
    pub other: Side,
    /// What speaks for it and against it, strongest first.
    pub reasons: Vec<Reason>,
    /// Who decided it.
    pub decided_by: Option<String>,
    /// The merge that stands, by its number.
    pub merge: Option<i64>,
}

/// One of two characters.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Anime it appears in.
    pub anime: i64,
}

/// Candidates, best first, and how many there are.
#[derive(Debug, Clone, Serialize)]
pub struct Candidates {
    /// The first of them.
    pub candidates: Vec<Candidate>,
    /// All that were wanted.
    pub total: i64,
}

/// Lists candidates; of one `state`, or one by its number.
pub async fn candidates(
    conn: &mut PgConnection,
    state: Option<&str>,
    id: Option<i64>,
    limit: i64,
) -> Result<Candidates> {
    crate::migrate::require_current(conn, PACK).await?;
    let rows = sqlx::query(include_str!("../../sql/dedup/candidates.sql"))
        .bind(state)
        .bind(id)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let total = match rows.first() {
        Some(row) => row.try_get("total")?,
        None => 0,
    };
    Ok(Candidates { candidates: rows.iter().map(candidate).collect::<Result<_>>()?, total })
}

fn candidate(row: &PgRow) -> Result<Candidate> {
    let side = |which: &str| -> Result<Side> {
        Ok(Side {
            id: row.try_get(format!("{which}_id").as_str())?,
            name: row.try_get(format!("{which}_name").as_str())?,
            anime: row.try_get(format!("{which}_anime").as_str())?,
        })
    };
    let reasons: &str = row.try_get("reasons")?;
    Ok(Candidate {
        id: row.try_get("id")?,
        score: row.try_get("score")?,
        state: row.try_get("state")?,
        one: side("one")?,
        other: side("other")?,
        reasons: serde_json::from_str(reasons).unwrap_or_default(),
        decided_by: row.try_get("decided_by")?,
        merge: row.try_get("merge_id")?,
    })
}

/// What was decided.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Decided {
    /// Numbers of the candidates that were rejected.
    pub rejected: Vec<i64>,
    /// Those that are not open, or not there.
    pub not_open: Vec<i64>,
}

/// Says that candidates are two characters: they are not proposed again.
pub async fn reject(conn: &mut PgConnection, ids: &[i64], by: &str) -> Result<Decided> {
    crate::migrate::require_current(conn, PACK).await?;
    if ids.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no candidate was named"));
    }
    let rejected: Vec<i64> = sqlx::query_scalar(
        "UPDATE character_candidate SET state = 'rejected', decided_at = now(), decided_by = $2 \
         WHERE id = ANY($1) AND state = 'open' RETURNING id",
    )
    .bind(ids)
    .bind(by)
    .fetch_all(conn)
    .await?;
    let not_open = ids.iter().copied().filter(|id| !rejected.contains(id)).collect();
    Ok(Decided { rejected, not_open })
}
