//! The projection against the junction tables it is made of.
//!
//! Triggers keep it in each transaction; what went past them (a restore, a disabled trigger, a
//! hand) is drift, and is found here, in both directions.

use serde::Serialize;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::error::{Error, ErrorKind, Result};

/// Edges of one kind that are too many or too few.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// `missing` or `extra`.
    pub drift: String,
    /// Of the edges.
    pub edge_type: String,
    /// The junction they name; empty where they name none.
    pub origin: String,
    /// How many.
    pub edges: i64,
    /// One of them.
    pub example: String,
}

/// What [`reconcile`] found, and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Edges there are after it.
    pub edges: i64,
    /// Kinds of drift that were found.
    pub drift: Vec<Drift>,
    /// Edges taken away.
    pub removed: u64,
    /// Edges added.
    pub added: u64,
    /// Whether it was to be repaired.
    pub repaired: bool,
}

/// Compares the projection with the junction tables, and repairs it in the same transaction if
/// that is wanted. Writers of junction rows wait meanwhile; readers do not.
///
/// # Errors
/// `Migration` where the pack's tables are not there.
pub async fn reconcile(connection: &mut PgConnection, repairs: bool) -> Result<Reconciled> {
    let begin = if repairs { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
    let mut transaction = connection.begin_with(begin).await?;
    if repairs {
        // What a writer changed and did not commit yet is seen by nobody: its edges are waited for.
        sqlx::raw_sql("LOCK TABLE graph_edge IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .map_err(absent)?;
    }
    let rows = sqlx::query(include_str!("../sql/graph/drift.sql"))
        .fetch_all(&mut *transaction)
        .await
        .map_err(absent)?;
    let drift = rows.iter().map(drift).collect::<Result<Vec<_>>>()?;
    let (mut removed, mut added) = (0, 0);
    if repairs && !drift.is_empty() {
        for (statement, count) in [
            (include_str!("../sql/graph/remove_extra.sql"), &mut removed),
            (include_str!("../sql/graph/add_missing.sql"), &mut added),
        ] {
            *count = sqlx::raw_sql(statement).execute(&mut *transaction).await?.rows_affected();
        }
    }
    let edges = count(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Reconciled { edges, drift, removed, added, repaired: repairs })
}

/// Makes the projection anew from the junction tables, in one transaction, then lets the server
/// learn its statistics. Returns the edges there were and the edges there are.
///
/// # Errors
/// `Migration` where the pack's tables are not there.
pub async fn rebuild(connection: &mut PgConnection) -> Result<(i64, i64)> {
    let mut transaction = connection.begin().await?;
    // Writers of junction rows wait; so do readers, from here to the commit.
    sqlx::raw_sql("LOCK TABLE graph_edge IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .map_err(absent)?;
    let before = count(&mut transaction).await?;
    sqlx::raw_sql("TRUNCATE graph_edge").execute(&mut *transaction).await?;
    sqlx::raw_sql(include_str!("../sql/graph/fill.sql")).execute(&mut *transaction).await?;
    let after = count(&mut transaction).await?;
    transaction.commit().await?;
    // The visibility map, too: without it index-only scans visit the table.
    sqlx::raw_sql("VACUUM (ANALYZE) graph_edge").execute(connection).await?;
    Ok((before, after))
}

async fn count(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM graph_edge").fetch_one(connection).await?)
}

fn drift(row: &sqlx::postgres::PgRow) -> Result<Drift> {
    Ok(Drift {
        drift: row.try_get("drift")?,
        edge_type: row.try_get("edge_type")?,
        origin: row.try_get("origin_table")?,
        edges: row.try_get("edges")?,
        example: row.try_get("example")?,
    })
}

pub(super) fn absent(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if matches!(code.as_deref(), Some("42P01" | "42703" | "42883")) {
        return Error::new(ErrorKind::Migration, "this database has no tables for graph queries")
            .advice("bring it up to date with `toolkit migrate up --pack anime`")
            .because(error);
    }
    error.into()
}
