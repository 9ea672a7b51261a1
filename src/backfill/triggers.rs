//! User triggers of the targets, switched off for as long as rows are written.
//!
//! `ALTER TABLE ... DISABLE TRIGGER` inside each chunk's own transaction, and on again before it
//! commits: nobody else ever sees a trigger that is off, whatever becomes of this process, and
//! there is nothing to restore after it is killed. The price is a lock (SHARE ROW EXCLUSIVE) that
//! other writers of the table wait for until the chunk is committed. `session_replication_role`
//! would need no lock, but switches foreign keys off with the rest.

use sqlx::postgres::PgConnection;

use super::write::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::store::catalog::Trigger;
use crate::store::{quote_ident, quote_qualified, sql};

/// Switches the triggers of the stream's targets off where the run was told to; what to restore.
pub(super) async fn silence(conn: &mut PgConnection, place: &Place<'_>) -> Result<Vec<Trigger>> {
    let mut silenced: Vec<Trigger> = Vec::new();
    if !place.disable_triggers {
        return Ok(silenced);
    }
    for trigger in place.stream.outputs.iter().flat_map(|output| &output.table.triggers) {
        if silenced.contains(trigger) {
            continue;
        }
        alter(conn, trigger, "DISABLE").await.map_err(|error| denied(error, trigger))?;
        silenced.push(trigger.clone());
    }
    Ok(silenced)
}

/// Switches them on again as they were, at the end of the transaction.
pub(super) async fn restore(conn: &mut PgConnection, silenced: &[Trigger]) -> Result<()> {
    if silenced.is_empty() {
        return Ok(());
    }
    // A table with checks still to be made cannot be altered.
    sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *conn).await?;
    for trigger in silenced {
        alter(conn, trigger, if trigger.always { "ENABLE ALWAYS" } else { "ENABLE" }).await?;
    }
    Ok(())
}

/// `ONLY`: the triggers of partitions stand in the list themselves.
async fn alter(conn: &mut PgConnection, trigger: &Trigger, how: &str) -> Result<()> {
    let statement = format!(
        "ALTER TABLE ONLY {} {how} TRIGGER {}",
        quote_qualified(&trigger.schema, &trigger.table),
        quote_ident(&trigger.name)
    );
    sqlx::raw_sql(sql(statement)).execute(conn).await?;
    Ok(())
}

fn denied(error: Error, trigger: &Trigger) -> Error {
    if error.kind() != ErrorKind::StoreDenied {
        return error;
    }
    error
        .context(format!("trigger {} of {}.{}", trigger.name, trigger.schema, trigger.table))
        .advice("--disable-triggers needs the owner of the table; leave it out, or use that role")
}
