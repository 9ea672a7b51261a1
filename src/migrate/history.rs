//! refinery's asynchronous traits over sqlx, and the history tables they keep.

use std::time::Duration;

use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use refinery_core::{Migration as Inner, SchemaVersion};
use sqlx::{Connection, PgConnection, Row};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::set::MigrationSet;
use crate::store::sql;
use crate::{Error, ErrorKind, Result};

/// A connection as refinery sees it. Every batch of statements is one transaction with a bounded
/// wait for locks, which is what keeps a migration and its history row together.
pub(super) struct Session<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) lock_timeout: Duration,
}

impl AsyncTransaction for Session<'_> {
    type Error = sqlx::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, sqlx::Error> {
        let queries: Vec<String> = queries.map(str::to_owned).collect();
        let count = queries.len();
        let limit = format!("SET LOCAL lock_timeout = {}", self.lock_timeout.as_millis());
        let mut transaction = self.connection.begin().await?;
        for query in std::iter::once(limit).chain(queries) {
            if let Err(error) = sqlx::raw_sql(sql(query)).execute(&mut *transaction).await {
                // The connection may be gone; then the server has rolled back already.
                let _ = transaction.rollback().await;
                return Err(error);
            }
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Inner>> for Session<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Inner>, sqlx::Error> {
        let rows = sqlx::query(sql(query.to_owned())).fetch_all(&mut *self.connection).await?;
        rows.into_iter()
            .map(|row| {
                let applied_on: String = row.try_get(2)?;
                let checksum: String = row.try_get(3)?;
                Ok(Inner::applied(
                    row.try_get::<SchemaVersion, _>(0)?,
                    row.try_get(1)?,
                    OffsetDateTime::parse(&applied_on, &Rfc3339).map_err(decode_error)?,
                    checksum.parse().map_err(decode_error)?,
                ))
            })
            .collect()
    }
}

impl AsyncMigrate for Session<'_> {}

fn decode_error(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// What the database says was applied of `set`, by version; empty where there is no history table.
pub(super) async fn read(connection: &mut PgConnection, set: &MigrationSet) -> Result<Vec<Inner>> {
    let table = set.history_table();
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&table)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    let mut session = Session { connection, lock_timeout: Duration::from_secs(3) };
    session.get_applied_migrations(&table).await.map_err(|error| {
        Error::new(
            ErrorKind::Migration,
            format!(
                "the history of pack {} in {table} cannot be read: {}",
                set.pack,
                cause(&error)
            ),
        )
        .because(error)
    })
}

/// The innermost message of a refinery error.
fn cause(error: &refinery_core::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
