//! Reads on both stores: the primary's result for the application, the comparison for the record.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use super::Doing;
use super::canonical::ShadowRow;
use super::compare::{BothWays, Seen, Stores, Verdict};
use super::file::SqliteFile;
use super::router::ReadRouter;
pub use super::tally::ShadowCounts;
use super::tally::Tally;
use crate::error::{Error, Result};
use crate::phase::{Phase, Route};

/// Reads that wait to be compared at most; more are not compared.
const WAITING_MAX: usize = 64;

/// How often what was found is stored.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// Whether the order of the rows of a read has to be the same in both stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The same rows in any order are equal.
    Ignored,
    /// The read orders its rows, and both stores have to agree.
    Counts,
}

/// What an application decides about comparing its reads.
#[derive(Debug, Clone, Copy)]
pub struct ShadowOptions {
    /// Share of the reads that are compared, 0 to 1.
    pub sampling_rate: f64,
    /// Longest the secondary store may take for one read.
    pub budget: Duration,
    /// Longest to wait for changes on their way before a difference is left undecided.
    pub settle_max: Duration,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            sampling_rate: 0.01,
            budget: Duration::from_millis(500),
            settle_max: Duration::from_secs(5),
        }
    }
}

/// Runs reads on the primary store, and a sample of them on the secondary as well, afterwards and
/// on connections of its own: a slow or failing secondary neither delays nor fails a read.
///
/// Compared is what both stores are meant to hold: in phase 2 once a backfill has completed, and
/// in phase 3. Results are compared as typed rows ([`ShadowRow`]). A difference counts as a
/// mismatch only after what was captured before it has been applied, and while the primary's own
/// result stands still.
///
/// Counts go to `toolkit.shadow_read` by name and hour, mismatches as digests and numbers of rows
/// to `toolkit.shadow_mismatch`; values go nowhere.
#[derive(Debug)]
pub struct ShadowRead {
    router: ReadRouter,
    file: SqliteFile,
    options: ShadowOptions,
    tally: Arc<Tally>,
    jobs: mpsc::Sender<Job>,
}

/// Compares one read, with the means of the workshop.
type Comparison = Box<dyn for<'s> FnOnce(&'s mut Workshop) -> Doing<'s, ()> + Send>;

/// A comparison, or the wish to have all before it stored.
enum Job {
    Compare(Comparison),
    Store(oneshot::Sender<Result<()>>),
}

/// What comparisons work with.
struct Workshop {
    router: ReadRouter,
    file: SqliteFile,
    options: ShadowOptions,
    tally: Arc<Tally>,
    postgres: Option<PgConnection>,
    /// Whether a backfill is known to have completed.
    is_copied: bool,
}

impl ShadowRead {
    /// Opens the application's file for reading, twice.
    pub async fn start(router: &ReadRouter, file: &Path, options: ShadowOptions) -> Result<Self> {
        let tally: Arc<Tally> = Arc::default();
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let workshop = Workshop {
            router: router.clone(),
            file: SqliteFile::open_read_only(file).await?,
            options,
            tally: Arc::clone(&tally),
            postgres: None,
            is_copied: false,
        };
        tokio::spawn(workshop.work(queue));
        let file = SqliteFile::open_read_only(file).await?;
        Ok(Self { router: router.clone(), file, options, tally, jobs })
    }

    /// What was found since the start.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        self.tally.counts()
    }

    /// Runs the read on the primary store and returns its rows; compares a sample of them later.
    ///
    /// `name` stands for the read in the record; it must not hold values. Both closures have to
    /// read without writing; on the secondary they run in a read-only transaction. They may run
    /// several times.
    ///
    /// Fails only as the primary store does.
    pub async fn read<R, S, P>(
        &self,
        name: &str,
        order: Order,
        in_sqlite: S,
        in_postgres: P,
    ) -> Result<Vec<R>>
    where
        R: ShadowRow + Send + 'static,
        S: Fn(&rusqlite::Connection) -> rusqlite::Result<Vec<R>> + Send + Sync + 'static,
        P: for<'s> Fn(&'s mut PgConnection) -> Doing<'s, sqlx::Result<Vec<R>>>
            + Send
            + Sync
            + 'static,
    {
        let routed = self.router.routed();
        let read = BothWays {
            name: name.to_owned(),
            order,
            in_sqlite: Arc::new(in_sqlite),
            in_postgres: Arc::new(in_postgres),
        };
        let rows = match routed.route {
            Route::Sqlite => {
                let work = Arc::clone(&read.in_sqlite);
                self.file.run(move |connection| work(connection)).await?
            }
            Route::Postgres => {
                let postgres = self.router.postgres()?;
                let mut conn = postgres.pool().acquire().await?;
                (read.in_postgres)(&mut conn).await.map_err(Error::from)?
            }
        };
        self.tally.count(|counts| counts.reads += 1);
        let is_compared = matches!(routed.phase, Phase::Backfill | Phase::Cutover);
        if is_compared && rand::rng().random_bool(self.options.sampling_rate.clamp(0.0, 1.0)) {
            let seen = Seen::of(&rows, order);
            let (route, generation) = (routed.route, routed.generation);
            let job: Job = Job::Compare(Box::new(move |workshop| {
                Box::pin(async move { workshop.compare(&read, seen, route, generation).await })
            }));
            if self.jobs.try_send(job).is_err() {
                self.tally.count(|counts| counts.crowded_out += 1);
            }
        }
        Ok(rows)
    }

    /// Waits until every read so far is compared, and stores what was found.
    pub async fn flush(&self) -> Result<()> {
        let (done, result) = oneshot::channel();
        let gone = || Error::new(crate::ErrorKind::Bug, "comparing reads ended");
        self.jobs.send(Job::Store(done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

impl Workshop {
    async fn work(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut clock = tokio::time::interval(STORE_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                job = queue.recv() => match job {
                    Some(Job::Compare(compare)) => compare(&mut self).await,
                    Some(Job::Store(done)) => {
                        let _ = done.send(self.store().await);
                    }
                    None => break,
                },
                // What cannot be stored is kept and tried again.
                _ = clock.tick() => drop(self.store().await),
            }
        }
        drop(self.store().await);
    }

    async fn compare<R>(&mut self, read: &BothWays<R>, seen: Seen, primary: Route, generation: i64)
    where
        R: ShadowRow + Send + 'static,
    {
        let verdict = self.judge(read, seen, primary, generation).await;
        let has_flipped = self.router.routed().generation != generation;
        match verdict {
            Ok(Some(Verdict::Equal)) => self.tally.compared(&read.name, None),
            Ok(Some(Verdict::Differs(mismatch))) if !has_flipped => {
                tracing::warn!(
                    read = read.name,
                    "a read differs between the stores: see toolkit.shadow_mismatch"
                );
                self.tally.compared(&read.name, Some(mismatch));
            }
            Ok(Some(_)) => self.tally.count(|counts| counts.unsettled += 1),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(read = read.name, %error, "a read was not compared");
                self.postgres = None;
                self.tally.count(|counts| counts.unanswered += 1);
            }
        }
    }

    /// None: the secondary is not meant to hold everything yet.
    async fn judge<R>(
        &mut self,
        read: &BothWays<R>,
        seen: Seen,
        primary: Route,
        generation: i64,
    ) -> Result<Option<Verdict>>
    where
        R: ShadowRow + Send + 'static,
    {
        self.connect().await?;
        let Some(conn) = self.postgres.as_mut() else { return Ok(None) };
        if !self.is_copied {
            let is_copied: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM toolkit.run WHERE pack = $1 \
                 AND command = 'backfill' AND status = 'completed')",
            )
            .bind(self.router.pack())
            .fetch_one(&mut *conn)
            .await?;
            if !is_copied {
                return Ok(None);
            }
            self.is_copied = true;
        }
        let mut stores = Stores {
            pack: self.router.pack(),
            file: &self.file,
            postgres: conn,
            budget: self.options.budget,
            settle_max: self.options.settle_max,
            primary,
            generation,
        };
        stores.compare(read, seen).await.map(Some)
    }

    async fn connect(&mut self) -> Result<()> {
        if self.postgres.is_none() {
            self.postgres = Some(self.router.postgres()?.dedicated().await?);
        }
        Ok(())
    }

    async fn store(&mut self) -> Result<()> {
        self.connect().await?;
        let Some(conn) = self.postgres.as_mut() else { return Ok(()) };
        let stored = self.tally.store(conn, self.router.pack()).await;
        if stored.is_err() {
            self.postgres = None;
        }
        stored
    }
}
