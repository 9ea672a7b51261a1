//! Upkeep of a pack's tables: monthly partitions made ahead, rows removed by retention, indexes
//! that nobody uses, tables that wait for VACUUM or ANALYZE.
//!
//! [`plan`] looks and changes nothing; [`apply`] does what a plan says, in small transactions
//! beside a live application. Both are safe to repeat, and a crash leaves nothing half done: a
//! month's partition and the rows it takes out of DEFAULT, a part of the rows removed and their
//! record, are one transaction each.

mod health;
mod months;
mod remove;
mod wait;

pub use health::{Health, TableNeed, UnusedIndex};
pub use months::{MonthPlan, PartitionPlan};
pub use remove::{PartitionToDrop, RetentionPlan};

use serde::Serialize;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{Pack, upkeep};
use crate::phase::{self, Phase};
use crate::runs::chore;

/// What is to be done, or, once it was applied, what was done.
#[derive(Debug, Serialize)]
pub struct Upkeep {
    /// The pack.
    pub pack: String,
    /// Its run, once it was applied.
    pub run_id: Option<String>,
    /// The phase the pack is in.
    pub phase: Phase,
    /// Per partitioned table.
    pub partitions: Vec<PartitionPlan>,
    /// Per policy.
    pub retention: Vec<RetentionPlan>,
    /// What only a person can decide.
    pub health: Health,
}

/// Looks what there is to do for `pack`. Changes nothing.
pub async fn plan(conn: &mut PgConnection, pack: &Pack) -> Result<Upkeep> {
    let faults = upkeep::faults(pack);
    if let Some(error) = crate::pack::fault::first_error(pack, &faults) {
        return Err(error);
    }
    crate::migrate::require_current(conn, crate::migrate::CONTROL_PACK).await?;
    let phase = phase::current(conn, pack.name()).await?.phase;
    let mut partitions = Vec::new();
    for declared in &pack.manifest.partitions {
        partitions.push(months::plan(conn, pack, declared).await?);
    }
    let mut retention = Vec::new();
    for declared in &pack.manifest.retention {
        retention.push(remove::plan(conn, pack, declared, phase).await?);
    }
    let health = health::look(conn, pack).await?;
    let pack = pack.name().to_owned();
    Ok(Upkeep { pack, run_id: None, phase, partitions, retention, health })
}

/// Does what the plan says; returns it with what was done. Only one upkeep of a pack runs at once.
pub async fn apply(conn: &mut PgConnection, mut upkeep: Upkeep, stop: &Stop) -> Result<Upkeep> {
    let is_alone: bool = sqlx::query_scalar(
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.maintain.' || $1, 0))",
    )
    .bind(&upkeep.pack)
    .fetch_one(&mut *conn)
    .await?;
    if !is_alone {
        let detail = format!("an upkeep of the pack {} is running", upkeep.pack);
        return Err(Error::new(ErrorKind::Busy, detail).advice("wait for it; nothing was changed"));
    }
    let run_id = chore::begin(conn, "maintain", &upkeep.pack, &serde_json::json!({})).await?;
    upkeep.run_id = Some(run_id.clone());
    let done = apply_all(conn, &mut upkeep, &run_id, stop).await;
    let counts = serde_json::json!({
        "partitions": upkeep.partitions.iter().map(PartitionPlan::made).sum::<usize>(),
        "rows_removed": upkeep.retention.iter().map(|policy| policy.removed).sum::<u64>(),
    });
    chore::end(conn, &run_id, &counts, done.as_ref().err()).await?;
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended('toolkit.maintain.' || $1, 0))")
        .bind(&upkeep.pack)
        .execute(conn)
        .await?;
    done.map(|()| upkeep)
}

async fn apply_all(
    conn: &mut PgConnection,
    upkeep: &mut Upkeep,
    run_id: &str,
    stop: &Stop,
) -> Result<()> {
    for table in &mut upkeep.partitions {
        months::apply(conn, table, stop).await?;
    }
    for policy in &mut upkeep.retention {
        remove::apply(conn, &upkeep.pack, run_id, policy, stop).await?;
    }
    Ok(())
}
