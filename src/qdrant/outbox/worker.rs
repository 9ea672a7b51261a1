//! Workers: claim, lock, load, write, flush, mark; one transaction each batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::postgres::PgListener;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::batch::{Content, contents, write};
use super::locks::{ensure, locked};
use super::{ATTEMPTS_MAX, CHANNEL, SETTLED_KEPT, prune};
use crate::anime::points::Entity;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::qdrant::embed::{Embedder, Text};
use crate::qdrant::point::PointId;
use crate::qdrant::server::is_of_a_server;
use crate::qdrant::target::Target;
use crate::retry::{is_passing, pause};
use crate::store::{Connector, Postgres};

/// Longest wait between two looks at an idle queue, or at a store that is away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Idle workers look this often whether the collection is still there, and has points.
const ENSURE_EVERY: Duration = Duration::from_secs(10);
/// Idle workers remove old settled rows this often.
const PRUNE_EVERY: Duration = Duration::from_mins(10);
/// Longest pause while a store is away.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// How long a worker waits where all that is due is others'.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Longest reason kept beside a row, in characters.
const REASON_MAX: usize = 500;

/// Entities that fail one by one, and nobody succeeds, before the store is at fault.
const SHARED_MIN: usize = 2;

/// How workers work.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rows claimed, and points written, at once.
    pub batch: u32,
    /// Workers at once.
    pub workers: u32,
}

/// What workers did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Rows settled.
    pub rows: u64,
    /// Whole points written, with a vector.
    pub points: u64,
    /// Points whose payload alone was written.
    pub payloads: u64,
    /// Points removed.
    pub removed: u64,
    /// Entities whose point was right already.
    pub unchanged: u64,
    /// Tries that failed for the entity's own sake.
    pub failed: u64,
}

/// A tally that several workers add to.
#[derive(Debug, Default)]
struct Counters([AtomicU64; 6]);

impl Counters {
    fn add(&self, tally: Tally) {
        let parts = [
            tally.rows,
            tally.points,
            tally.payloads,
            tally.removed,
            tally.unchanged,
            tally.failed,
        ];
        for (counter, part) in self.0.iter().zip(parts) {
            counter.fetch_add(part, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Tally {
        let [rows, points, payloads, removed, unchanged, failed] =
            [0, 1, 2, 3, 4, 5].map(|at: usize| self.0[at].load(Ordering::Relaxed));
        Tally { rows, points, payloads, removed, unchanged, failed }
    }
}

/// Works until nothing is due. What waits for a later try, or is parked, stays.
///
/// While a store is away it is tried again for a while, by the one retry policy; then this fails,
/// and nothing is lost.
pub async fn drain(
    postgres: &Postgres,
    target: &Target,
    embedder: &Arc<dyn Embedder>,
    options: Options,
    stop: &Stop,
) -> Result<Tally> {
    work(postgres, target, embedder, options, stop, true).await
}

/// Works until asked to stop, however long a store is away meanwhile.
pub async fn run(
    postgres: &Postgres,
    target: &Target,
    embedder: &Arc<dyn Embedder>,
    options: Options,
    stop: &Stop,
) -> Result<Tally> {
    work(postgres, target, embedder, options, stop, false).await
}

async fn work(
    postgres: &Postgres,
    target: &Target,
    embedder: &Arc<dyn Embedder>,
    options: Options,
    stop: &Stop,
    is_drain: bool,
) -> Result<Tally> {
    let counters = Arc::new(Counters::default());
    let mut crew = JoinSet::new();
    for _ in 0..options.workers.max(1) {
        let worker = Worker {
            connector: postgres.connector(),
            conn: None,
            target: target.clone(),
            embedder: Arc::clone(embedder),
            batch: options.batch.max(1),
            counters: Arc::clone(&counters),
            stop: stop.clone(),
        };
        crew.spawn(worker.work(is_drain));
    }
    let mut outcome = Ok(());
    while let Some(done) = crew.join_next().await {
        outcome = outcome.and(done.map_err(crate::pack::join_error)?);
    }
    outcome.map(|()| counters.read())
}

/// One worker with a connection of its own.
struct Worker {
    connector: Connector,
    conn: Option<PgConnection>,
    target: Target,
    embedder: Arc<dyn Embedder>,
    batch: u32,
    counters: Arc<Counters>,
    stop: Stop,
}

/// What a look at the queue came to.
enum Look {
    /// A batch is done.
    Done,
    /// Others have all that is due.
    Others,
    /// Nothing is due.
    Idle,
}

impl Worker {
    async fn work(mut self, is_drain: bool) -> Result<()> {
        let mut listener = None;
        let mut tries = 0;
        let mut ensured_at: Option<Instant> = None;
        let mut pruned_at: Option<Instant> = None;
        loop {
            if self.stop.is_requested() {
                return if is_drain { self.stop.check() } else { Ok(()) };
            }
            let looked = match self.look(&mut ensured_at).await {
                Ok(looked) => {
                    tries = 0;
                    looked
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_waited_for(&error, is_drain) => {
                    tries += 1;
                    ensured_at = None;
                    // Its transaction is of no use any more.
                    self.conn = None;
                    let wait = if is_drain {
                        // The server client has tried each call for a while already.
                        let Some(wait) = pause(tries) else { return Err(error) };
                        wait
                    } else {
                        Duration::from_millis(200 << tries.min(8)).min(AWAY_MAX)
                    };
                    tracing::warn!(tries, "{error}; the outbox waits");
                    self.rest(wait).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match looked {
                Look::Done => {}
                Look::Others => self.rest(ASK_AGAIN).await,
                Look::Idle => {
                    if pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
                        pruned_at = Some(Instant::now());
                        self.prune().await;
                    }
                    if is_drain {
                        return Ok(());
                    }
                    self.idle(&mut listener).await;
                    ensured_at.take_if(|at| at.elapsed() >= ENSURE_EVERY);
                }
            }
        }
    }

    /// What could not be removed now is the next time.
    async fn prune(&mut self) {
        let Some(conn) = &mut self.conn else { return };
        if let Err(error) = prune(conn, SETTLED_KEPT, &self.stop).await {
            tracing::debug!("settled rows stay: {error}");
            self.conn = None;
        }
    }

    async fn rest(&self, wait: Duration) {
        tokio::select! {
            () = self.stop.wait() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Until something may be due: a notification, or a while.
    async fn idle(&self, listener: &mut Option<PgListener>) {
        if listener.is_none() {
            *listener = self.connector.listen(CHANNEL).await.ok();
        }
        let Some(heard) = listener else { return self.rest(LOOK_EVERY).await };
        let is_broken = tokio::select! {
            () = self.stop.wait() => false,
            () = tokio::time::sleep(LOOK_EVERY) => false,
            heard = heard.recv() => heard.is_err(),
        };
        if is_broken {
            *listener = None;
        }
    }

    /// Does one batch, if anything is due. Being asked to stop drops it where it waits: nothing of
    /// it is marked, and what Qdrant has learnt does no harm.
    async fn look(&mut self, ensured_at: &mut Option<Instant>) -> Result<Look> {
        let stop = self.stop.clone();
        let looked = stop
            .unless(async {
                if ensured_at.is_none() {
                    ensure(connected(&mut self.conn, &self.connector).await?, &self.target).await?;
                    *ensured_at = Some(Instant::now());
                }
                self.step().await
            })
            .await;
        if looked.is_err() {
            // Rolls back, and gives locks up, at once.
            self.conn = None;
        }
        looked
    }

    async fn step(&mut self) -> Result<Look> {
        let conn = connected(&mut self.conn, &self.connector).await?;
        let mut transaction = conn.begin().await?;
        let claimed = claim(&mut transaction, self.batch).await?;
        if claimed.is_empty() {
            return Ok(if is_anything_due(&mut transaction).await? {
                Look::Others
            } else {
                Look::Idle
            });
        }
        let entities = locked(&mut transaction, &claimed).await?;
        if entities.is_empty() {
            return Ok(Look::Others);
        }
        // A row that was queued again may be of a lower version than one that is settled.
        let contents = contents(&mut transaction, &entities, true).await?;
        let collections = self.target.writes_to().await?;
        let task = Task { target: &self.target, embedder: &self.embedder, collections };
        let mut tally = Tally::default();
        // Halves that still have to be tried; one entity that fails is one that failed.
        let mut open = vec![contents.as_slice()];
        let mut refused: Vec<(&[Content], Error)> = Vec::new();
        let mut is_any_written = false;
        while let Some(part) = open.pop() {
            let error = match task.write(part).await {
                Ok(done) => {
                    settle(&mut transaction, part, &mut tally).await?;
                    add(&mut tally, done);
                    is_any_written = true;
                    continue;
                }
                Err(error) => error,
            };
            match task.blame(&error).await {
                Blame::Entities => {}
                Blame::Store(None) => return Err(error),
                // Why nobody is served, not why these were not.
                Blame::Store(Some(why)) => return Err(why),
                Blame::Collection => {
                    let detail = "the collection was replaced while it was written to";
                    return Err(Error::new(ErrorKind::StoreConflict, detail).because(error));
                }
            }
            if part.len() > 1 {
                let (left, right) = part.split_at(part.len() / 2);
                open.extend([left, right]);
                continue;
            }
            // Trouble that may pass and spares nobody is the store's, as of a full disk.
            let is_shared = refused.len() + 1 >= SHARED_MIN || open.is_empty();
            if !is_any_written && is_shared && is_passing(&error) {
                return Err(error);
            }
            refused.push((part, error));
        }
        for (part, error) in refused {
            tally.failed += 1;
            fail(&mut transaction, part, &error).await?;
        }
        transaction.commit().await?;
        self.counters.add(tally);
        Ok(Look::Done)
    }
}

/// What somebody else can mend while a follower waits, as a full disk; whoever waits for the end of
/// a drain is told.
fn is_waited_for(error: &Error, is_drain: bool) -> bool {
    is_passing(error) || (!is_drain && error.kind() == ErrorKind::StoreExhausted)
}

async fn connected<'c>(
    conn: &'c mut Option<PgConnection>,
    connector: &Connector,
) -> Result<&'c mut PgConnection> {
    Ok(match conn {
        Some(conn) => conn,
        none => none.insert(connector.dedicated().await?),
    })
}

fn add(tally: &mut Tally, done: super::batch::Written) {
    tally.points += done.points;
    tally.payloads += done.payloads;
    tally.removed += done.removed;
    tally.unchanged += done.unchanged;
}

/// Writing some entities' points.
struct Task<'a> {
    target: &'a Target,
    embedder: &'a Arc<dyn Embedder>,
    collections: Vec<String>,
}

impl Task<'_> {
    /// Writes to every collection, durably. The numbers are those of the first.
    async fn write(&self, contents: &[Content]) -> Result<super::batch::Written> {
        let mut first = None;
        for (at, into) in self.collections.iter().enumerate() {
            let fallback = (at > 0).then(|| self.collections[0].as_str());
            let done = write(self.target, self.embedder, contents, into, fallback).await?;
            self.target.store().flush(into).await?;
            first.get_or_insert(done);
        }
        Ok(first.unwrap_or_default())
    }

    /// Whose a failure is. These entities' own is a refused write, or trouble that does not pass,
    /// while store and embedder answer everybody else; a store that limits its rate, or is locked,
    /// refuses everybody, and so does one that does not even remove a point that is not there.
    async fn blame(&self, error: &Error) -> Blame {
        match error.kind() {
            ErrorKind::StoreFailed | ErrorKind::StoreUnreachable => {}
            _ => return Blame::Store(None),
        }
        let (store, nobody) = (self.target.store(), PointId::Uuid(Uuid::nil()));
        for collection in &self.collections {
            match store.schema(collection).await {
                Ok(Some(found)) if self.target.schema().differences(&found).is_empty() => {}
                Ok(_) => return Blame::Collection,
                Err(why) => return Blame::Store(Some(why)),
            }
            if let Err(why) = store.delete(collection, &[nobody]).await {
                return Blame::Store(Some(why));
            }
        }
        let probe = Text { id: Uuid::nil().into(), text: "probe".to_owned() };
        match self.embedder.embed(&[probe]).await {
            Ok(_) => Blame::Entities,
            Err(why) => Blame::Store(Some(why)),
        }
    }
}

/// Whose fault a failed write is.
enum Blame {
    Entities,
    /// A rebuild has switched, or somebody removed it, or made another one: it is looked up anew.
    Collection,
    /// Store or embedder, and how it showed where it was asked for something harmless.
    Store(Option<Error>),
}

async fn claim(conn: &mut PgConnection, limit: u32) -> Result<Vec<Entity>> {
    let rows: Vec<(String, String)> = sqlx::query_as(include_str!("../../sql/outbox/claim.sql"))
        .bind(i64::from(limit))
        .bind(Uuid::new_v4().to_string())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|(entity_type, id)| Entity::of_row(entity_type, id)).collect()
}

async fn is_anything_due(conn: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM public.qdrant_outbox WHERE processed_at IS NULL \
         AND parked_at IS NULL AND (next_try_at IS NULL OR next_try_at <= clock_timestamp()))",
    )
    .fetch_one(conn)
    .await?)
}

async fn settle(conn: &mut PgConnection, contents: &[Content], tally: &mut Tally) -> Result<()> {
    let rows: Vec<i64> = contents.iter().flat_map(|content| content.rows.clone()).collect();
    let done =
        sqlx::query(include_str!("../../sql/outbox/mark.sql")).bind(rows).execute(conn).await?;
    tally.rows += done.rows_affected();
    Ok(())
}

async fn fail(conn: &mut PgConnection, contents: &[Content], error: &Error) -> Result<()> {
    let rows: Vec<i64> = contents.iter().flat_map(|content| content.rows.clone()).collect();
    let reason: String = error.to_string().chars().take(REASON_MAX).collect();
    // What a part of a cluster cannot take now, it can take later.
    let tries_max = (!(is_passing(error) && is_of_a_server(error))).then_some(ATTEMPTS_MAX);
    if let Some(content) = contents.first() {
        tracing::warn!("{}: {reason}", content.entity);
    }
    sqlx::query(include_str!("../../sql/outbox/fail.sql"))
        .bind(rows)
        .bind(reason)
        .bind(tries_max)
        .execute(conn)
        .await?;
    Ok(())
}
