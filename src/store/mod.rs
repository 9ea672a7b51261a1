//! Connections to stores.
//!
//! [`Postgres`] is a server by URL or the private cluster of [`embedded`]; both look the same to
//! everything above.

pub(crate) mod capture_lock;
pub mod catalog;
mod copy_text;
pub mod embedded;
mod identifier;
mod postgres;
mod scratch;
mod spelling;
mod url;

pub(crate) use copy_text::encode_copy_row;
pub(crate) use embedded::ClientPrograms;
pub use identifier::{check_identifier, quote_ident, quote_literal, quote_qualified};
pub use postgres::{Connector, Postgres, VERSION_NUM_MIN};
pub(crate) use scratch::ScratchDatabase;
pub use spelling::ServerSpelling;
pub use url::redact_url;

/// Marks SQL text that was put together at run time as fit to be executed.
///
/// sqlx takes only `&'static str` otherwise. Names inside went through [`quote_ident`], values
/// are bound: whoever calls this says so.
pub fn sql(text: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(text)
}

/// Says of the transaction of `conn` that it repeats what the other store already holds: triggers
/// that capture changes for that store are silent until it ends.
pub async fn replay(conn: &mut sqlx::PgConnection) -> crate::Result<()> {
    sqlx::raw_sql("SET LOCAL toolkit.replay = 'on'").execute(conn).await?;
    Ok(())
}
