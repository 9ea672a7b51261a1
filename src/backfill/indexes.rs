//! Bulk loading without secondary indexes: dropped on a target proved empty, recorded, restored.
//!
//! Maintaining indexes is most of the cost of loading a narrow table. Only non-unique indexes go,
//! only from a table that is empty under an exclusive lock, and in the transaction that records
//! their definitions; whatever run comes next restores them if this one cannot.

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::error::Result;
use crate::store::catalog::Table;
use crate::store::{quote_qualified, sql};

/// Loads below this many records keep their indexes: rebuilding would cost more than it saves.
pub(super) const WORTHWHILE_RECORDS: u64 = 50_000;

/// Drops and records the non-unique indexes of `table` if it is empty; returns how many.
pub(super) async fn defer(conn: &mut PgConnection, run_id: &str, table: &Table) -> Result<usize> {
    let mut tx = conn.begin().await?;
    let name = table.sql_name();
    sqlx::raw_sql(sql(format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")))
        .execute(&mut *tx)
        .await?;
    let is_empty: bool =
        sqlx::query_scalar(sql(format!("SELECT NOT EXISTS (SELECT 1 FROM {name})")))
            .fetch_one(&mut *tx)
            .await?;
    if !is_empty {
        tx.rollback().await?;
        return Ok(0);
    }
    let indexes: Vec<String> =
        sqlx::query_scalar(include_str!("../sql/backfill/defer_indexes.sql"))
            .bind(run_id)
            .bind(&table.schema)
            .bind(&table.name)
            .fetch_all(&mut *tx)
            .await?;
    for index in &indexes {
        let index = quote_qualified(&table.schema, index);
        sqlx::raw_sql(sql(format!("DROP INDEX {index}"))).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(indexes.len())
}

/// Brings back every recorded index that is not there, of this run or of an earlier one that
/// could not; returns their names.
pub(super) async fn restore(conn: &mut PgConnection) -> Result<Vec<String>> {
    let waiting = sqlx::query(
        "SELECT id, table_schema, index_name, definition FROM toolkit.deferred_index \
         WHERE restored_at IS NULL ORDER BY id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut restored = Vec::new();
    for row in waiting {
        let id: i64 = row.try_get("id")?;
        let schema: String = row.try_get("table_schema")?;
        let index: String = row.try_get("index_name")?;
        let definition: String = row.try_get("definition")?;
        let mut tx = conn.begin().await?;
        // Two runs of different packs may come here at once; the row decides who builds it.
        let is_ours = sqlx::query(
            "SELECT 1 FROM toolkit.deferred_index WHERE id = $1 AND restored_at IS NULL FOR UPDATE",
        )
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
        if is_ours.is_none() {
            continue;
        }
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(quote_qualified(&schema, &index))
            .fetch_one(&mut *tx)
            .await?;
        if !exists {
            sqlx::raw_sql("SET LOCAL maintenance_work_mem = '256MB'").execute(&mut *tx).await?;
            sqlx::raw_sql(sql(definition)).execute(&mut *tx).await?;
            restored.push(format!("{schema}.{index}"));
        }
        sqlx::query("UPDATE toolkit.deferred_index SET restored_at = now() WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(restored)
}
