//! The way back: after the cutover, changes in Postgres are captured there and applied to
//! `SQLite`, so that a rollback loses nothing.
//!
//! | step | where |
//! |---|---|
//! | row triggers that log the keys of changed rows | [`triggers`] |
//! | the log, collapsed to the current row of each key | `changes` |
//! | tables of the files, read as a backfill reads them | `tables`, `file` |
//! | rows written, each read back and compared | `write` |
//! | state, lag, what did not go back | [`status`] |
//! | which rows have not gone back yet | `waiting` |
//!
//! # Contract
//!
//! State-based and idempotent: the log says which keys changed, the current row says what to
//! write. Rows of the log are deleted once written back, never skipped by their number, so that a
//! transaction may commit long after later numbers were given. The files are committed first, the
//! log second: a crash between the two repeats what is there already. One process at a time, by an
//! advisory lock.
//!
//! A row counts as written only when a backfill would read it from the file as the very row that
//! Postgres holds, column by column. What does not is in `toolkit.reverse_reject`, and its row in
//! the file as it was.

mod changes;
mod file;
pub mod status;
mod tables;
pub mod triggers;
mod waiting;
mod write;

pub use status::{RejectedRow, Status, rejects, retry, status};
pub use triggers::{Target, disable, enable, targets};
pub use waiting::waiting;

use std::sync::Arc;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use self::changes::{Batch, Key};
use self::tables::{Orphans, Tables};
use self::write::{Attempted, Fate};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::store::{Connector, Postgres, sql};

/// Changes applied together unless said otherwise.
pub const BATCH_CHANGES: i64 = 500;

/// How often keys are added that stand in a batch's way, before the rest is refused.
const WIDENED_MAX: usize = 50;

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Changes taken from the log.
    pub changes: u64,
    /// Rows inserted into `SQLite`.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Keys whose row was right already.
    pub unchanged: u64,
    /// Keys that were not written back, or not wholly; each is in `toolkit.reverse_reject`.
    pub rejected: u64,
}

impl Applied {
    /// Adds another step's counts.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.unchanged += other.unchanged;
        self.rejected += other.rejected;
    }
}

/// What [`Reverse::finish`] found: the evidence of a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// What the last catch-up did.
    pub applied: Applied,
    /// Changes left in the log: 0.
    pub changes_left: i64,
    /// Rows in `toolkit.reverse_reject`: what the rollback loses unless it is settled first.
    pub rejects: i64,
    /// Postgres's position when nothing could be written any more.
    pub lsn: String,
}

/// Applies captured changes of one pack to its `SQLite` files.
pub struct Reverse {
    opened: Arc<OpenedPack>,
    connector: Connector,
    targets: Arc<Vec<Target>>,
    /// Changes applied together.
    batch: i64,
    /// Holds the advisory lock; None after a failure.
    conn: Option<PgConnection>,
    tables: Option<Tables>,
}

impl std::fmt::Debug for Reverse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reverse").field("pack", &self.opened.plan.name).finish_non_exhaustive()
    }
}

impl Reverse {
    /// Takes the pack's advisory lock and opens its files for writing.
    ///
    /// Fails with [`ErrorKind::Busy`] where another process applies the pack's changes.
    pub async fn open(postgres: &Postgres, opened: Arc<OpenedPack>, batch: i64) -> Result<Self> {
        let targets = Arc::new(targets(&opened.plan));
        let connector = postgres.connector();
        let mut this = Self { opened, connector, targets, batch, conn: None, tables: None };
        this.ready().await?;
        Ok(this)
    }

    /// Connects, locks and opens what is not open.
    async fn ready(&mut self) -> Result<()> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                let mut conn = self.connector.dedicated().await?;
                let pack = &self.opened.plan.name;
                let is_free: bool = sqlx::query_scalar(
                    "SELECT pg_try_advisory_lock(hashtextextended('toolkit reverse ' || $1, 0))",
                )
                .bind(pack)
                .fetch_one(&mut conn)
                .await?;
                if !is_free {
                    let what = format!("another process writes pack {pack} back to SQLite");
                    return Err(Error::new(ErrorKind::Busy, what).advice(
                        "one is enough; `toolkit dual-write reverse status` says how far it is",
                    ));
                }
                conn
            }
        };
        if self.tables.is_none() {
            let orphans = Arc::new(orphans(&mut conn, &self.opened.plan.name).await?);
            let opened = Arc::clone(&self.opened);
            let opening = tokio::task::spawn_blocking(move || Tables::open(&opened, orphans));
            self.tables = Some(opening.await.map_err(join_error)??);
        }
        self.conn = Some(conn);
        Ok(())
    }

    /// Triggers of the application in the files that do not fire for rows written back.
    pub fn application_triggers(&self) -> Result<Vec<String>> {
        self.tables.as_ref().map_or(Ok(Vec::new()), Tables::application_triggers)
    }

    /// Applies one batch; no changes in it: the log is empty.
    pub async fn step(&mut self) -> Result<Applied> {
        self.batch(false).await
    }

    /// What a step would do; nothing is kept.
    pub async fn preview(&mut self) -> Result<Applied> {
        self.batch(true).await
    }

    /// Steps until the log is empty.
    pub async fn catch_up(&mut self, stop: &Stop) -> Result<Applied> {
        let mut total = Applied::default();
        loop {
            stop.check()?;
            let applied = self.step().await?;
            if applied.changes == 0 {
                return Ok(total);
            }
            total.add(&applied);
        }
    }

    async fn batch(&mut self, is_trial: bool) -> Result<Applied> {
        self.ready().await?;
        let done = self.try_batch(is_trial).await;
        if done.is_err() {
            // What is half done is undone by both stores when they are opened anew.
            self.conn = None;
            self.tables = None;
        }
        done
    }

    async fn try_batch(&mut self, is_trial: bool) -> Result<Applied> {
        let Some(conn) = self.conn.as_mut() else {
            return Err(Error::new(ErrorKind::Bug, "a step without a connection"));
        };
        let mut more: Vec<(usize, Key)> = Vec::new();
        for widened in 0.. {
            let plan = &self.opened.plan;
            let batch = changes::read(conn, plan, &self.targets, self.batch, &more).await?;
            if batch.ids.is_empty() {
                return Ok(Applied::default());
            }
            let Some(mut tables) = self.tables.take() else {
                return Err(Error::new(ErrorKind::Bug, "a step without files"));
            };
            let (opened, targets) = (Arc::clone(&self.opened), Arc::clone(&self.targets));
            let writing = tokio::task::spawn_blocking(move || {
                let written = write::write(&opened, &targets, &mut tables, &batch.items, is_trial);
                (written, tables, batch)
            });
            let (written, tables, batch) = writing.await.map_err(join_error)?;
            self.tables = Some(tables);
            let attempted = written?;
            if !attempted.crowded.is_empty() && widened < WIDENED_MAX {
                more.extend(attempted.crowded);
                continue;
            }
            if !attempted.crowded.is_empty() {
                let what = "rows of a batch need unique values of ever more other rows";
                return Err(Error::new(ErrorKind::StoreConflict, what)
                    .advice("apply more changes together with --batch"));
            }
            let applied = count(&batch, &attempted);
            if !is_trial {
                settle(conn, &self.opened, &self.targets, &batch, &attempted, &applied).await?;
            }
            return Ok(applied);
        }
        Err(Error::new(ErrorKind::Bug, "a batch without an end"))
    }

    /// The last catch-up, in the caller's transaction: keeps everyone from writing the targets
    /// until that transaction ends, applies what is left, and proves that nothing is.
    ///
    /// The caller flips the route in the same transaction; rolling it back lets writers go on.
    /// `lock_timeout_ms` of the settings limits the wait for running writers.
    pub async fn finish(&mut self, tx: &mut PgConnection, stop: &Stop) -> Result<Proof> {
        let mut applied = self.catch_up(stop).await?;
        for target in self.targets.iter() {
            let statement = format!("LOCK TABLE {} IN SHARE MODE", target.table.sql_name());
            sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?;
        }
        applied.add(&self.catch_up(stop).await?);
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM toolkit.reverse_log WHERE pack = $1) AS changes, \
             (SELECT count(*) FROM toolkit.reverse_reject WHERE pack = $1) AS rejects, \
             pg_current_wal_lsn()::text AS lsn",
        )
        .bind(&self.opened.plan.name)
        .fetch_one(&mut *tx)
        .await?;
        let changes_left: i64 = row.try_get("changes")?;
        if changes_left > 0 {
            let what = format!("{changes_left} changes are in the log although nothing writes");
            return Err(Error::new(ErrorKind::Bug, what));
        }
        let (rejects, lsn) = (row.try_get("rejects")?, row.try_get("lsn")?);
        Ok(Proof { applied, changes_left, rejects, lsn })
    }
}

/// Foreign keys that were stored as NULL because they led nowhere.
async fn orphans(conn: &mut PgConnection, pack: &str) -> Result<Orphans> {
    let found = sqlx::query_as(
        "SELECT stream, source, locator, coalesce(column_name, '') FROM toolkit.ledger \
         WHERE pack = $1 AND rule = 'orphan' AND stream IS NOT NULL",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().collect())
}

fn count(batch: &Batch, attempted: &Attempted) -> Applied {
    let mut applied = Applied { changes: batch.ids.len() as u64, ..Applied::default() };
    for (fate, left) in attempted.fates.iter().zip(&attempted.left) {
        match fate {
            Some(Fate::Inserted) => applied.inserted += 1,
            Some(Fate::Updated) => applied.updated += 1,
            Some(Fate::Deleted) => applied.deleted += 1,
            Some(Fate::Unchanged) => applied.unchanged += 1,
            Some(Fate::Refused { .. } | Fate::Foreign { .. }) | None => applied.rejected += 1,
        }
        let is_written = !matches!(fate, Some(Fate::Refused { .. } | Fate::Foreign { .. }));
        applied.rejected += u64::from(left.is_some() && is_written);
    }
    applied
}

/// Takes the covered changes out of the log and records what did not go back.
async fn settle(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    targets: &[Target],
    batch: &Batch,
    attempted: &Attempted,
    applied: &Applied,
) -> Result<()> {
    let pack = &opened.plan.name;
    let mut tx = conn.begin().await?;
    sqlx::query("DELETE FROM toolkit.reverse_log WHERE id = ANY ($1)")
        .bind(&batch.ids)
        .execute(&mut *tx)
        .await?;
    for (at, item) in batch.items.iter().enumerate() {
        let target = targets[item.target].name();
        let key: Vec<String> =
            item.key.iter().map(|part| part.clone().unwrap_or_else(|| "NULL".to_owned())).collect();
        sqlx::query(
            "DELETE FROM toolkit.reverse_reject WHERE pack = $1 AND target = $2 AND key = $3",
        )
        .bind(pack)
        .bind(&target)
        .bind(&key)
        .execute(&mut *tx)
        .await?;
        let Some(entry) = entry(opened, attempted, at) else { continue };
        sqlx::query(
            "INSERT INTO toolkit.reverse_reject \
             (pack, target, key, stream, kind, columns, reason, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(pack)
        .bind(&target)
        .bind(&key)
        .bind(&entry.stream)
        .bind(entry.kind)
        .bind(&entry.columns)
        .bind(&entry.reason)
        .bind(&entry.detail)
        .execute(&mut *tx)
        .await?;
    }
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(include_str!("../../sql/reverse/count.sql"))
        .bind(pack)
        .bind(number(applied.changes))
        .bind(number(applied.inserted))
        .bind(number(applied.updated))
        .bind(number(applied.deleted))
        .bind(number(applied.unchanged))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// A row of `toolkit.reverse_reject`.
struct Entry {
    stream: String,
    kind: &'static str,
    columns: Vec<String>,
    reason: String,
    detail: String,
}

fn entry(opened: &OpenedPack, attempted: &Attempted, at: usize) -> Option<Entry> {
    let stream = |at: usize| opened.plan.streams[at].name.clone();
    let columns = Vec::new();
    match &attempted.fates[at] {
        Some(Fate::Refused { stream: of, reason, detail }) => {
            let (reason, detail) = (reason.clone(), detail.clone());
            return Some(Entry { stream: stream(*of), kind: "refused", columns, reason, detail });
        }
        Some(Fate::Foreign { reason, detail }) => {
            let (reason, detail) = ((*reason).to_owned(), detail.clone());
            return Some(Entry { stream: String::new(), kind: "row", columns, reason, detail });
        }
        None => {
            let (reason, detail) = ("not_written".to_owned(), "nothing was done".to_owned());
            return Some(Entry { stream: String::new(), kind: "refused", columns, reason, detail });
        }
        Some(_) => {}
    }
    let (of, columns) = attempted.left[at].clone()?;
    let detail = format!("Postgres holds more than SQLite has columns for: {}", columns.join(", "));
    let reason = "not_reversible".to_owned();
    Some(Entry { stream: stream(of), kind: "column", columns, reason, detail })
}
