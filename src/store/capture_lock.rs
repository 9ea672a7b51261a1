//! The lock under which captured changes and history are written: changes alone, chunks of history
//! together. It ends with the transaction or the session that has it.

use sqlx::postgres::PgConnection;

use crate::error::Result;

/// For whoever applies changes, until the end of the transaction.
pub(crate) async fn exclusive(tx: &mut PgConnection, pack: &str) -> Result<()> {
    lock(tx, "SELECT pg_advisory_xact_lock(hashtextextended('toolkit.capture.' || $1, 0))", pack)
        .await
}

/// For whoever writes history, until the end of the transaction.
pub(crate) async fn shared(tx: &mut PgConnection, pack: &str) -> Result<()> {
    let statement =
        "SELECT pg_advisory_xact_lock_shared(hashtextextended('toolkit.capture.' || $1, 0))";
    lock(tx, statement, pack).await
}

/// For whoever writes history in several transactions, until [`release`] or the session's end.
pub(crate) async fn keep(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let statement = "SELECT pg_advisory_lock_shared(hashtextextended('toolkit.capture.' || $1, 0))";
    lock(conn, statement, pack).await
}

/// Gives back what [`keep`] took.
pub(crate) async fn release(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let statement =
        "SELECT pg_advisory_unlock_shared(hashtextextended('toolkit.capture.' || $1, 0))";
    lock(conn, statement, pack).await
}

async fn lock(conn: &mut PgConnection, statement: &'static str, pack: &str) -> Result<()> {
    sqlx::query(statement).bind(pack).execute(conn).await?;
    Ok(())
}
