//! Raising the number of hash partitions of `interaction.user_media` beside a live application.
//!
//! One partition at a time becomes as many as the new modulus has for it. Its rows are copied into
//! new tables while triggers repeat every write to it there, in the same transaction, so that every
//! snapshot sees both sides equal once the copy is complete; a snapshot proves it, by count and by
//! digest. Then one short transaction detaches the old partition, attaches the new ones and drops the
//! old. A crash leaves the old partition where it was, and what was begun beside it is begun anew.

mod catalog;
mod copy;
mod exchange;

use serde::Serialize;
use sqlx::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::runs::chore;

pub use catalog::{MODULUS_MAX, PartitionSplit, plan};

/// The table whose partitions are raised in number.
pub const TABLE: &str = "interaction.user_media";

/// What is to be done, or, once it was applied, what was done.
#[derive(Debug, Clone, Serialize)]
pub struct Repartition {
    /// The partitioned table.
    pub table: String,
    /// The wanted number of partitions.
    pub modulus: u32,
    /// Partitions that have the modulus already.
    pub ready: usize,
    /// Partitions to split, in the order of their work.
    pub splits: Vec<PartitionSplit>,
    /// Its run; None for a plan that was not applied.
    pub run_id: Option<String>,
}

/// A partition that was split, for whoever shows progress.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The partition at hand.
    pub partition: &'a str,
    /// Rows copied of it.
    pub rows: u64,
    /// Whether the new ones are in its place.
    pub is_done: bool,
}

/// Does what the plan says; returns it with the rows of every partition. Only one repartitioning runs
/// at once.
///
/// # Errors
/// `Busy` where another runs, `Interrupted` between two batches, `StoreFailed` where the two sides
/// differ; the old partition then is still in its place.
pub async fn apply(
    conn: &mut PgConnection,
    mut plan: Repartition,
    stop: &Stop,
    report: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Repartition> {
    let is_alone: bool = sqlx::query_scalar(
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.media.repartition', 0))",
    )
    .fetch_one(&mut *conn)
    .await?;
    if !is_alone {
        return Err(Error::new(ErrorKind::Busy, "a repartitioning is running")
            .advice("wait for it; nothing was changed"));
    }
    let settings = serde_json::json!({ "modulus": plan.modulus });
    let run_id = chore::begin(conn, "media repartition", "media", &settings).await?;
    plan.run_id = Some(run_id.clone());
    let mut done = Ok(());
    for split in &mut plan.splits {
        done = one(conn, split, stop, report).await;
        if done.is_err() {
            // What was begun costs every write of the application; a lost connection leaves it.
            let _ = exchange::clear(conn, split, &Stop::new()).await;
            break;
        }
    }
    let splits: Vec<&PartitionSplit> =
        plan.splits.iter().filter(|split| split.rows.is_some()).collect();
    let counts = serde_json::json!({
        "partitions": splits.len(),
        "rows": splits.iter().filter_map(|split| split.rows).sum::<u64>(),
        "splits": splits,
    });
    chore::end(conn, &run_id, &counts, done.as_ref().err()).await?;
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended('toolkit.media.repartition', 0))")
        .execute(conn)
        .await?;
    done.map(|()| plan)
}

async fn one(
    conn: &mut PgConnection,
    split: &mut PartitionSplit,
    stop: &Stop,
    report: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<()> {
    exchange::clear(conn, split, stop).await?;
    exchange::prepare(conn, split, stop).await?;
    copy::copy(conn, split, stop, report).await?;
    exchange::constrain(conn, split, stop).await?;
    let sums = copy::verify(conn, split).await?;
    exchange::swap(conn, split, stop).await?;
    split.rows = Some(sums.rows);
    split.digest = Some(sums.digest);
    report(Progress { partition: &split.partition, rows: sums.rows, is_done: true });
    Ok(())
}
