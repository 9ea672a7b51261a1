//! One change, in whichever store is primary when it commits.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::PgConnection;

use super::Doing;
use super::apply::{Applier, ApplyAtOnce};
use super::file::{FileTransaction, SqliteFile};
use super::router::ReadRouter;
use crate::error::{Error, ErrorKind, Result};
use crate::phase::{Phase, Route};

/// How long a refused change waits between two looks at route and fence.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long one question for the route may take while a change waits for it.
const ASK_MAX: Duration = Duration::from_millis(250);

/// The store that a change writes to, in a transaction that the writer commits or rolls back.
#[derive(Debug)]
pub enum Store<'s> {
    /// `SQLite` is primary.
    Sqlite(&'s mut FileTransaction),
    /// Postgres is primary.
    Postgres(&'s mut PgConnection),
}

/// Why a change was not made, or may not have been.
#[derive(Debug)]
pub enum WriteError<E> {
    /// The change itself failed with the application's error; it was rolled back.
    Refused(E),
    /// The primary store failed or does not answer; nothing was committed.
    Store(Error),
    /// The connection broke while Postgres committed: the change is either there whole or not at
    /// all. Look, or do it again if doing it twice is harmless.
    Uncertain(Error),
    /// A cutover or rollback did not end while the change waited for it; nothing was committed.
    Fenced {
        /// How long it waited.
        waited: Duration,
    },
}

impl<E: fmt::Display> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "the change was rolled back: {error}"),
            Self::Store(error) => write!(f, "the change was not committed: {error}"),
            Self::Uncertain(error) => {
                write!(f, "whether the change was committed is not known: {error}")
            }
            Self::Fenced { waited } => write!(
                f,
                "the file is fenced, and PostgreSQL did not become primary within {} ms",
                waited.as_millis()
            ),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for WriteError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Store(error) | Self::Uncertain(error) => Some(error),
            Self::Fenced { .. } => None,
        }
    }
}

/// What an application decides about its writer.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Run on the file's connection when it is opened, such as `PRAGMA synchronous = NORMAL`.
    pub pragmas: String,
    /// How long a change waits for a cutover or rollback to end.
    pub fence_wait_max: Duration,
    /// Applies each change to Postgres as soon as it is committed in `SQLite`; None leaves that to
    /// `toolkit dual-write run`.
    pub apply: Option<ApplyAtOnce>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let fence_wait_max = Duration::from_secs(30);
        Self { pragmas: String::new(), fence_wait_max, apply: None }
    }
}

/// Writes to the primary store: to the `SQLite` file until cutover, to Postgres after it.
///
/// A change succeeds or fails by the primary store alone. What Postgres still lacks of a change
/// that was committed in `SQLite` stands in the file's capture log, in the same transaction, so
/// that it is applied after whatever happens to this process or the server.
///
/// Several tasks may share a writer; changes in `SQLite` run one after the other, as the file
/// demands, those in Postgres side by side.
#[derive(Debug)]
pub struct DualWriter {
    router: ReadRouter,
    file: SqliteFile,
    fence_wait_max: Duration,
    applier: Option<Applier>,
}

impl DualWriter {
    /// Opens the application's file.
    ///
    /// Refuses with [`ErrorKind::Config`] where the pack is in dual-write but no capture is
    /// installed in the file, because changes would then be lost to Postgres; with
    /// [`ErrorKind::StoreUnreachable`] where the file is fenced and Postgres does not answer.
    pub async fn open(router: &ReadRouter, file: &Path, options: WriterOptions) -> Result<Self> {
        let file = SqliteFile::open(file, &options.pragmas).await?;
        check_capture(router, &file).await?;
        let applier = match options.apply {
            Some(apply) => Some(Applier::start(router.clone(), apply)?),
            None => None,
        };
        let fence_wait_max = options.fence_wait_max;
        Ok(Self { router: router.clone(), file, fence_wait_max, applier })
    }

    /// The route it follows.
    #[must_use]
    pub fn router(&self) -> &ReadRouter {
        &self.router
    }

    /// The file, for reads while `SQLite` is primary.
    #[must_use]
    pub fn file(&self) -> &SqliteFile {
        &self.file
    }

    /// Runs `change` in a transaction of the primary store and commits it.
    ///
    /// `change` may run several times, each time in a new transaction, the one before rolled back:
    /// where a cutover or rollback came between, the next attempt is in the other store.
    pub async fn write<T, E, F>(&self, change: F) -> Result<T, WriteError<E>>
    where
        F: for<'s> Fn(Store<'s>) -> Doing<'s, Result<T, E>>,
    {
        let begun = Instant::now();
        let mut route = self.router.route();
        loop {
            let done = match route {
                Route::Sqlite => self.in_sqlite(&change).await?,
                Route::Postgres => self.in_postgres(&change).await?,
            };
            if let Some(done) = done {
                return Ok(done);
            }
            route = self.primary_after(route, begun).await?;
        }
    }

    /// None: the file is fenced.
    async fn in_sqlite<T, E, F>(&self, change: &F) -> Result<Option<T>, WriteError<E>>
    where
        F: for<'s> Fn(Store<'s>) -> Doing<'s, Result<T, E>>,
    {
        let mut transaction = self.file.begin().await.map_err(WriteError::Store)?;
        let done = change(Store::Sqlite(&mut transaction)).await;
        // Also where the change hides the refusal of one of its statements.
        if transaction.is_fenced() {
            transaction.rollback().await.map_err(WriteError::Store)?;
            return Ok(None);
        }
        match done {
            Ok(done) => {
                transaction.commit().await.map_err(WriteError::Store)?;
                if let Some(applier) = &self.applier {
                    applier.wake();
                }
                Ok(Some(done))
            }
            Err(refused) => {
                transaction.rollback().await.map_err(WriteError::Store)?;
                Err(WriteError::Refused(refused))
            }
        }
    }

    /// None: Postgres is not primary.
    async fn in_postgres<T, E, F>(&self, change: &F) -> Result<Option<T>, WriteError<E>>
    where
        F: for<'s> Fn(Store<'s>) -> Doing<'s, Result<T, E>>,
    {
        let postgres = self.router.postgres().map_err(WriteError::Store)?;
        let wait_max = Duration::from_millis(self.router.settings().connect_timeout_ms.into());
        let begun = tokio::time::timeout(wait_max, postgres.pool().begin()).await;
        let begun = begun.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let mut transaction = begun.map_err(|error| WriteError::Store(error.into()))?;
        // Held to the commit: whoever changes the route waits for it.
        let is_primary: bool = sqlx::query_scalar("SELECT toolkit.hold_route($1, 'postgres')")
            .bind(self.router.pack())
            .fetch_one(&mut *transaction)
            .await
            .map_err(|error| WriteError::Store(error.into()))?;
        if !is_primary {
            let _ = transaction.rollback().await;
            return Ok(None);
        }
        match change(Store::Postgres(&mut transaction)).await {
            Ok(done) => match transaction.commit().await {
                Ok(()) => Ok(Some(done)),
                Err(error @ sqlx::Error::Database(_)) => Err(of_commit(error)),
                Err(error) => Err(WriteError::Uncertain(error.into())),
            },
            Err(refused) => {
                let _ = transaction.rollback().await;
                Err(WriteError::Refused(refused))
            }
        }
    }

    /// Waits until it is clear again which store is primary.
    async fn primary_after<E>(&self, was: Route, begun: Instant) -> Result<Route, WriteError<E>> {
        loop {
            let routed = self.router.refresh(ASK_MAX).await;
            if routed.route != was {
                return Ok(routed.route);
            }
            // A cutover that was given up lifts the fence, and the route stays.
            if was == Route::Sqlite && !self.is_fenced().await {
                return Ok(was);
            }
            let waited = begun.elapsed();
            if waited > self.fence_wait_max {
                return Err(WriteError::Fenced { waited });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn is_fenced(&self) -> bool {
        // A file that cannot be read at this moment is asked again.
        capture_of(&self.file)
            .await
            .map_or(true, |found| found.is_some_and(|found| found.is_fenced))
    }
}

/// The server's own refusal of a commit left nothing behind; its going away may have.
fn of_commit<E>(error: sqlx::Error) -> WriteError<E> {
    let error = Error::from(error);
    match error.kind() {
        ErrorKind::StoreUnreachable => WriteError::Uncertain(error),
        _ => WriteError::Store(error),
    }
}

/// What a file's `toolkit_capture_state` says.
struct Captured {
    pack: String,
    is_fenced: bool,
}

/// None: capture is not installed.
async fn capture_of(file: &SqliteFile) -> Result<Option<Captured>> {
    file.run(|connection| {
        let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'toolkit_capture_state'";
        if connection.query_row(query, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(None);
        }
        let query = "SELECT pack, mode FROM toolkit_capture_state";
        connection
            .query_row(query, [], |row| {
                Ok(Captured { pack: row.get(0)?, is_fenced: row.get::<_, i64>(1)? == 1 })
            })
            .map(Some)
    })
    .await
}

async fn check_capture(router: &ReadRouter, file: &SqliteFile) -> Result<()> {
    let (routed, found) = (router.routed(), capture_of(file).await?);
    let (path, pack) = (file.path().display(), router.pack());
    if let Some(other) = found.as_ref().filter(|found| found.pack != pack) {
        let detail = format!("{path} is captured for the pack {}, not for {pack}", other.pack);
        return Err(Error::new(ErrorKind::Config, detail)
            .advice("open the file of this pack, or name the other pack to the router"));
    }
    if routed.age.is_none() && found.as_ref().is_some_and(|found| found.is_fenced) {
        let detail = format!("{path} is fenced, and PostgreSQL, which may be primary, is away");
        return Err(Error::new(ErrorKind::StoreUnreachable, detail)
            .advice("wait for the server, then start the application again"));
    }
    let is_captured = matches!(routed.phase, Phase::DualWrite | Phase::Backfill | Phase::Cutover);
    if found.is_none() && is_captured {
        let detail = format!(
            "the pack {pack} is in phase {}, but changes in {path} are not captured",
            routed.phase
        );
        return Err(Error::new(ErrorKind::Config, detail).advice(format!(
            "run `toolkit dual-write enable --pack {pack} --source DIR`, then start again; \
             changes that were made meanwhile need a backfill"
        )));
    }
    Ok(())
}
