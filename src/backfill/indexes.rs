//! Bulk loading without secondary indexes: dropped on a target proved empty, recorded, restored.
//!
//! Maintaining indexes is most of the cost of loading a narrow table. Only non-unique indexes go,
//! only from a table that is empty under an exclusive lock, and in the transaction that records
//! their definitions; whatever run comes next restores them if this one cannot.

use std::sync::{Arc, Mutex};

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::pack::join_error;
use crate::store::catalog::Table;
use crate::store::{Connector, quote_qualified, sql};

/// Loads below this many records keep their indexes: rebuilding would cost more than it saves.
pub(super) const WORTHWHILE_RECORDS: u64 = 50_000;

/// Memory of the server for building indexes, all that are built at once together.
const SORT_MIB: usize = 512;

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
/// could not, several at once; returns their names.
pub(super) async fn restore(connector: &Connector, workers: usize) -> Result<Vec<String>> {
    let mut conn = connector.dedicated().await?;
    let waiting: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM toolkit.deferred_index WHERE restored_at IS NULL ORDER BY id",
    )
    .fetch_all(&mut conn)
    .await?;
    let builders = workers.min(waiting.len());
    let waiting = Arc::new(Mutex::new(waiting.into_iter()));
    let mut building = JoinSet::new();
    for _ in 0..builders {
        let mut conn = connector.dedicated().await?;
        let waiting = Arc::clone(&waiting);
        building.spawn(async move {
            let mut built = Vec::new();
            loop {
                let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                let Some(id) = next else { break };
                built.extend(build(&mut conn, id, builders).await?.map(|name| (id, name)));
            }
            conn.close().await?;
            Ok::<_, Error>(built)
        });
    }
    let mut built = Vec::new();
    while let Some(done) = building.join_next().await {
        built.extend(done.map_err(join_error)??);
    }
    built.sort_unstable();
    conn.close().await?;
    Ok(built.into_iter().map(|(_, name)| name).collect())
}

/// Builds one recorded index, in the transaction that records it; None where it is there.
async fn build(conn: &mut PgConnection, id: i64, builders: usize) -> Result<Option<String>> {
    let mut tx = conn.begin().await?;
    // Two runs of different packs may come here at once; the row decides who builds it.
    let row = sqlx::query(
        "SELECT table_schema, index_name, definition FROM toolkit.deferred_index \
         WHERE id = $1 AND restored_at IS NULL FOR UPDATE",
    )
    .bind(id)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let schema: String = row.try_get("table_schema")?;
    let index: String = row.try_get("index_name")?;
    let definition: String = row.try_get("definition")?;
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(quote_qualified(&schema, &index))
        .fetch_one(&mut *tx)
        .await?;
    if !exists {
        let memory = SORT_MIB / builders.max(1);
        let settings = format!("SET LOCAL maintenance_work_mem = '{memory}MB'");
        sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
        sqlx::raw_sql(sql(definition)).execute(&mut *tx).await?;
    }
    sqlx::query("UPDATE toolkit.deferred_index SET restored_at = now() WHERE id = $1")
        .bind(id)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((!exists).then(|| format!("{schema}.{index}")))
}
