//! The fence of the targets: from a rollback to the next cutover, writes to Postgres that are not
//! the toolkit's own fail.
//!
//! A write of an application may wait for the lock that the rollback holds, and go on when the
//! route says `SQLite` already. Its statement looks at the table's triggers after it has the lock,
//! whatever snapshot its transaction has, so a trigger made under the lock stops it.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::pack::Pack;
use crate::store::catalog::split_name;
use crate::store::{quote_qualified, sql};

/// Name of the trigger.
const TRIGGER: &str = "toolkit_fence";

/// The pack's targets, quoted, each once, in the order in which they are locked.
pub(super) fn targets(pack: &Pack) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for stream in &pack.manifest.streams {
        for view in stream.views() {
            let (schema, table) = split_name(view.target.get_ref())?;
            names.insert(quote_qualified(&schema, &table));
        }
    }
    Ok(names)
}

/// Waits until no transaction is writing to the targets, and keeps others from beginning, until
/// the transaction of `conn` ends. Readers go on.
pub(super) async fn lock(conn: &mut PgConnection, pack: &Pack) -> Result<()> {
    for target in targets(pack)? {
        let statement = format!("LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE");
        sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Raises it, in the transaction of `conn`.
pub(super) async fn raise(conn: &mut PgConnection, pack: &Pack) -> Result<()> {
    for target in targets(pack)? {
        let statement = if stands(conn, &target).await? {
            format!("ALTER TABLE {target} ENABLE TRIGGER {TRIGGER}")
        } else {
            format!(
                "CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE \
                 ON {target} FOR EACH STATEMENT EXECUTE FUNCTION toolkit.refuse_write()"
            )
        };
        sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Lifts it, in the transaction of `conn`. The trigger stays, switched off: to drop it would wait
/// for readers.
pub(super) async fn lift(conn: &mut PgConnection, pack: &Pack) -> Result<()> {
    for target in targets(pack)? {
        if stands(conn, &target).await? {
            let statement = format!("ALTER TABLE {target} DISABLE TRIGGER {TRIGGER}");
            sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
        }
    }
    Ok(())
}

/// Drops it.
pub(super) async fn remove(conn: &mut PgConnection, pack: &Pack) -> Result<()> {
    for target in targets(pack)? {
        if stands(conn, &target).await? {
            let statement = format!("DROP TRIGGER IF EXISTS {TRIGGER} ON {target}");
            sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
        }
    }
    Ok(())
}

async fn stands(conn: &mut PgConnection, target: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger \
         WHERE tgrelid = to_regclass($1) AND tgname = $2)",
    )
    .bind(target)
    .bind(TRIGGER)
    .fetch_one(conn)
    .await?)
}
