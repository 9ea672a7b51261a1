//! The rows of a partition into the new ones, and the proof that they are there.

use sqlx::{Connection as _, PgConnection, Row as _};

use super::catalog::{PartitionSplit, columns};
use super::exchange::locked;
use super::{Progress, catalog};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::store::sql;

/// Rows of a batch: what the application may have to wait for is one batch's row locks.
const BATCH_ROWS: u32 = 10_000;

/// Count and digest of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) digest: String,
}

/// Copies by key, a batch a transaction. Row locks keep a row from changing between its being read
/// and its copy's being visible; later changes are repeated by the triggers.
pub(super) async fn copy(
    conn: &mut PgConnection,
    split: &PartitionSplit,
    stop: &Stop,
    report: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<()> {
    let (columns, _) = columns(conn).await?;
    let columns = columns.join(", ");
    let statement = format!(
        "WITH batch AS (SELECT {columns} FROM ONLY {partition} \
         WHERE (user_id, media_id) > ($1::uuid, $2::uuid) ORDER BY user_id, media_id \
         LIMIT {BATCH_ROWS} FOR NO KEY UPDATE), \
         copied AS (INSERT INTO {staging} ({columns}) SELECT {columns} FROM batch \
                    ON CONFLICT (user_id, media_id) DO NOTHING) \
         SELECT user_id::text, media_id::text, count(*) OVER () FROM batch \
         ORDER BY user_id DESC, media_id DESC LIMIT 1",
        partition = split.quoted(),
        staging = split.quoted_staging(),
    );
    // The least key is below every uuid but itself, which is nobody's.
    let (mut user, mut media) = (uuid::Uuid::nil().to_string(), uuid::Uuid::nil().to_string());
    let mut rows = 0;
    loop {
        if stop.is_requested() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped between two batches")
                .advice("run the same command again: partitions that were split stay split"));
        }
        let batch = locked(conn, split, stop, async |transaction| {
            let batch = sqlx::query(sql(statement.clone()))
                .bind(&user)
                .bind(&media)
                .fetch_optional(transaction)
                .await?;
            Ok(batch)
        })
        .await?;
        let Some(batch) = batch else { return Ok(()) };
        rows += batch.try_get::<i64, _>(2)?.unsigned_abs();
        (user, media) = (batch.try_get(0)?, batch.try_get(1)?);
        report(Progress { partition: &split.partition, rows, is_done: false });
    }
}

/// Compares both sides in one snapshot: the triggers write in the application's own transactions, so
/// that both are equal in every one.
pub(super) async fn verify(conn: &mut PgConnection, split: &PartitionSplit) -> Result<Sums> {
    let mut transaction =
        conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let old = sums(&mut transaction, &split.quoted()).await?;
    let new = sums(&mut transaction, &split.quoted_staging()).await?;
    transaction.rollback().await?;
    if old == new {
        return Ok(old);
    }
    let detail = format!(
        "{} has {} rows and the digest {}, what was copied of it {} and {}",
        split.partition, old.rows, old.digest, new.rows, new.digest
    );
    Err(Error::new(ErrorKind::StoreFailed, detail).advice(
        "nothing was exchanged; find out what writes to the partition past its triggers, and run \
         the command again",
    ))
}

async fn sums(conn: &mut PgConnection, table: &str) -> Result<Sums> {
    let (columns, _) = catalog::columns(conn).await?;
    let statement = format!(
        "SELECT count(*), \
         coalesce(sum(('x' || encode(substr(d, 1, 8), 'hex'))::bit(64)::bigint::numeric), 0)::text \
         || ',' || \
         coalesce(sum(('x' || encode(substr(d, 9, 8), 'hex'))::bit(64)::bigint::numeric), 0)::text \
         FROM (SELECT sha256(record_send(ROW({columns}))) AS d FROM {table}) AS digests",
        columns = columns.join(", "),
    );
    let row = sqlx::query(sql(statement)).fetch_one(conn).await?;
    Ok(Sums { rows: row.try_get::<i64, _>(0)?.unsigned_abs(), digest: row.try_get(1)? })
}
