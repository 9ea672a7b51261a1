//! What the server's statistics say about a pack's tables. Nothing is done about it: whether an
//! index serves a rare report, or when a table may be vacuumed, a person knows.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::pack::Pack;

/// See the module.
#[derive(Debug, Serialize)]
pub struct Health {
    /// Since when the server counts, as it prints it; None: since it was made, or since a crash.
    pub statistics_since: Option<String>,
    /// Indexes that no query used since then. Those that keep a key unique are left out.
    pub unused_indexes: Vec<UnusedIndex>,
    /// Tables with more dead rows than autovacuum is set to leave.
    pub needs_vacuum: Vec<TableNeed>,
    /// Tables with more changed rows than autovacuum is set to leave, those never analyzed, and
    /// partitioned ones, which autovacuum never analyzes.
    pub needs_analyze: Vec<TableNeed>,
}

/// An index nobody used.
#[derive(Debug, Serialize)]
pub struct UnusedIndex {
    /// `schema.table`
    pub table: String,
    /// The index; of a partitioned table its own, for those of all partitions.
    pub index: String,
    /// Bytes on disk, of all partitions together.
    pub bytes: i64,
}

/// A table that waits for something.
#[derive(Debug, Serialize)]
pub struct TableNeed {
    /// `schema.table`
    pub table: String,
    /// Rows that are the reason.
    pub rows: i64,
    /// Why, in a few words.
    pub why: String,
}

/// Asks the server about the tables in the schemas that the pack fills or maintains.
pub(super) async fn look(conn: &mut PgConnection, pack: &Pack) -> Result<Health> {
    let manifest = &pack.manifest;
    let mut schemas: Vec<String> = manifest
        .streams
        .iter()
        .flat_map(|stream| stream.views().into_iter().map(|view| view.target.get_ref().clone()))
        .chain(manifest.partitions.iter().map(|declared| declared.table.get_ref().clone()))
        .chain(manifest.retention.iter().map(|declared| declared.table.get_ref().clone()))
        .filter_map(|table| Some(table.split_once('.')?.0.to_owned()))
        .collect();
    schemas.sort();
    schemas.dedup();
    let since: Option<String> = sqlx::query_scalar(
        "SELECT stats_reset::text FROM pg_catalog.pg_stat_database \
         WHERE datname = current_database()",
    )
    .fetch_optional(&mut *conn)
    .await?
    .flatten();
    let unused = sqlx::query(include_str!("../sql/maintain/unused_indexes.sql"))
        .bind(&schemas)
        .fetch_all(&mut *conn)
        .await?;
    let unused: Result<Vec<UnusedIndex>> = unused
        .iter()
        .map(|row| {
            Ok(UnusedIndex {
                table: row.try_get("table_name")?,
                index: row.try_get("index_name")?,
                bytes: row.try_get("bytes")?,
            })
        })
        .collect();
    Ok(Health {
        statistics_since: since,
        unused_indexes: unused?,
        needs_vacuum: needs(conn, include_str!("../sql/maintain/needs_vacuum.sql"), &schemas)
            .await?,
        needs_analyze: needs(conn, include_str!("../sql/maintain/needs_analyze.sql"), &schemas)
            .await?,
    })
}

async fn needs(
    conn: &mut PgConnection,
    query: &'static str,
    schemas: &[String],
) -> Result<Vec<TableNeed>> {
    let rows = sqlx::query(query).bind(schemas).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(TableNeed {
                table: row.try_get("table_name")?,
                rows: row.try_get("rows")?,
                why: row.try_get("why")?,
            })
        })
        .collect()
}
