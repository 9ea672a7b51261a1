//! One read on both stores: equal, different, or still on the move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};
use sqlx::{Connection as _, PgConnection};

use super::Doing;
use super::canonical::{ShadowRow, digests_of};
use super::file::SqliteFile;
use super::shadow::Order;
use super::tally::Mismatch;
use crate::canonical::{Digest, sha256};
use crate::error::{Error, Result};
use crate::phase::Route;

/// How long a comparison waits before it looks again whether changes on their way have arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The read in `SQLite`.
pub(super) type InSqlite<R> = dyn Fn(&Connection) -> rusqlite::Result<Vec<R>> + Send + Sync;

/// The read in Postgres.
pub(super) type InPostgres<R> =
    dyn for<'s> Fn(&'s mut PgConnection) -> Doing<'s, sqlx::Result<Vec<R>>> + Send + Sync;

/// A read, in both languages.
pub(super) struct BothWays<R> {
    pub(super) name: String,
    pub(super) order: Order,
    pub(super) in_sqlite: Arc<InSqlite<R>>,
    pub(super) in_postgres: Arc<InPostgres<R>>,
}

/// What a comparison found.
pub(super) enum Verdict {
    Equal,
    Differs(Mismatch),
    /// The primary's own result went on changing.
    Unsettled,
}

/// The rows of a result as digests, in the order that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    rows: Vec<Digest>,
}

impl Seen {
    pub(super) fn of<R: ShadowRow>(rows: &[R], order: Order) -> Self {
        let mut rows = digests_of(rows);
        if order == Order::Ignored {
            rows.sort_unstable();
        }
        Self { rows }
    }

    fn digest(&self) -> Digest {
        sha256(&self.rows.concat())
    }

    fn only_here(&self, other: &Self) -> usize {
        let mut others = other.rows.clone();
        others.sort_unstable();
        self.rows.iter().filter(|row| others.binary_search(row).is_err()).count()
    }
}

/// The two stores as comparisons read them: connections of their own, which the application's
/// reads and writes never wait for.
pub(super) struct Stores<'a> {
    pub(super) pack: &'a str,
    pub(super) file: &'a SqliteFile,
    pub(super) postgres: &'a mut PgConnection,
    /// Longest one read of the secondary store may take.
    pub(super) budget: Duration,
    /// Longest to wait for changes on their way.
    pub(super) settle_max: Duration,
    pub(super) primary: Route,
    pub(super) generation: i64,
}

impl Stores<'_> {
    /// Compares the secondary's result with `seen`, the one the application got. Where they
    /// differ, both are read again, with what was captured before the primary's read applied
    /// before the secondary's; a primary that does not change around that read and differs still
    /// is a mismatch.
    pub(super) async fn compare<R>(&mut self, read: &BothWays<R>, seen: Seen) -> Result<Verdict>
    where
        R: ShadowRow + Send + 'static,
    {
        if self.secondary(read).await? == seen {
            return Ok(Verdict::Equal);
        }
        let begun = Instant::now();
        loop {
            let mark = self.mark().await?;
            let before = self.primary(read).await?;
            let has_arrived = self.wait_for(mark, begun).await?;
            let secondary = self.secondary(read).await?;
            if secondary == before {
                return Ok(Verdict::Equal);
            }
            let after = self.primary(read).await?;
            if secondary == after {
                return Ok(Verdict::Equal);
            }
            if has_arrived && before == after {
                return Ok(Verdict::Differs(self.mismatch(read, &before, &secondary)));
            }
            if begun.elapsed() > self.settle_max {
                return Ok(Verdict::Unsettled);
            }
        }
    }

    fn mismatch<R>(&self, read: &BothWays<R>, primary: &Seen, secondary: &Seen) -> Mismatch {
        Mismatch {
            name: read.name.clone(),
            primary: primary.digest(),
            secondary: secondary.digest(),
            detail: serde_json::json!({
                "primary": self.primary.name(),
                "generation": self.generation,
                "rows_primary": primary.rows.len(),
                "rows_secondary": secondary.rows.len(),
                "only_in_primary": primary.only_here(secondary),
                "only_in_secondary": secondary.only_here(primary),
                "order_counts": read.order == Order::Counts,
            }),
        }
    }

    async fn primary<R: ShadowRow + Send + 'static>(&mut self, read: &BothWays<R>) -> Result<Seen> {
        self.read(read, self.primary).await
    }

    async fn secondary<R: ShadowRow + Send + 'static>(
        &mut self,
        read: &BothWays<R>,
    ) -> Result<Seen> {
        let secondary = match self.primary {
            Route::Sqlite => Route::Postgres,
            Route::Postgres => Route::Sqlite,
        };
        self.read(read, secondary).await
    }

    async fn read<R: ShadowRow + Send + 'static>(
        &mut self,
        read: &BothWays<R>,
        store: Route,
    ) -> Result<Seen> {
        let rows = match store {
            Route::Sqlite => {
                let work = Arc::clone(&read.in_sqlite);
                self.file.run_within(self.budget, move |connection| work(connection)).await?
            }
            Route::Postgres => self.in_postgres(read).await?,
        };
        Ok(Seen::of(&rows, read.order))
    }

    /// In a transaction that cannot write and that the server itself ends in time.
    async fn in_postgres<R>(&mut self, read: &BothWays<R>) -> Result<Vec<R>> {
        let mut transaction = self.postgres.begin().await?;
        sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *transaction).await?;
        sqlx::query("SELECT pg_catalog.set_config('statement_timeout', $1, true)")
            .bind(self.budget.as_millis().max(1).to_string())
            .execute(&mut *transaction)
            .await?;
        let rows = (read.in_postgres)(&mut transaction).await.map_err(Error::from)?;
        transaction.rollback().await?;
        Ok(rows)
    }

    /// The newest change of the primary that the secondary may lack; None: nothing is captured.
    async fn mark(&mut self) -> Result<Option<Mark>> {
        match self.primary {
            Route::Sqlite => self.file.run_within(self.budget, newest_captured).await,
            Route::Postgres => {
                let newest: Option<i64> =
                    sqlx::query_scalar("SELECT max(id) FROM toolkit.reverse_log WHERE pack = $1")
                        .bind(self.pack)
                        .fetch_one(&mut *self.postgres)
                        .await?;
                Ok(newest.map(|position| Mark { installation: String::new(), position }))
            }
        }
    }

    /// Whether what was captured up to `mark` has arrived in time.
    async fn wait_for(&mut self, mark: Option<Mark>, begun: Instant) -> Result<bool> {
        let Some(mark) = mark else { return Ok(true) };
        loop {
            let has_arrived: bool = match self.primary {
                Route::Sqlite => {
                    sqlx::query_scalar(
                        "SELECT coalesce(bool_and(position >= $3), true) \
                         FROM toolkit.capture_cursor WHERE pack = $1 AND installation::text = $2",
                    )
                    .bind(self.pack)
                    .bind(&mark.installation)
                    .bind(mark.position)
                    .fetch_one(&mut *self.postgres)
                    .await?
                }
                Route::Postgres => {
                    sqlx::query_scalar(
                        "SELECT NOT EXISTS (SELECT FROM toolkit.reverse_log \
                         WHERE pack = $1 AND id <= $2)",
                    )
                    .bind(self.pack)
                    .bind(mark.position)
                    .fetch_one(&mut *self.postgres)
                    .await?
                }
            };
            if has_arrived || begun.elapsed() > self.settle_max {
                return Ok(has_arrived);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

struct Mark {
    installation: String,
    position: i64,
}

fn newest_captured(connection: &mut Connection) -> rusqlite::Result<Option<Mark>> {
    let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'toolkit_capture_log'";
    if connection.query_row(query, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(None);
    }
    connection
        .query_row(
            "SELECT installation, (SELECT coalesce(max(seq), 0) FROM toolkit_capture_log) \
             FROM toolkit_capture_state",
            [],
            |row| Ok(Mark { installation: row.get(0)?, position: row.get(1)? }),
        )
        .optional()
}
