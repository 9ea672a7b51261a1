//! One look a second, for all workers of a process: what is asked of the run, whether to wait, and
//! the sign that the process is alive. Another process's clock decides nothing.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::conditions::Cause;
use super::lag::Lag;
use super::{Gate, Manners};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::operator::{host, user_at_host};
use crate::store::Connector;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it looks whether the last chunk is written, once the gate is closed.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// How long a look may take before it is made again on a new connection.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// What a process is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// No further chunk is written for now.
    Paused(String),
    /// Chunks are written again.
    Resumed,
}

/// What is watched.
pub(crate) struct Watched<'a> {
    pub(crate) connector: Connector,
    /// In `toolkit.run`; None: work that is no run, of which nothing can be asked.
    pub(crate) run_id: Option<&'a str>,
    pub(crate) workers: usize,
    pub(crate) manners: &'a Manners,
    pub(crate) gate: Gate,
    /// Set by `toolkit run stop`.
    pub(crate) stop: &'a Stop,
}

/// How a process stands, as `toolkit.run_process` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Copying,
    /// A chunk that was let through is still being written.
    Pausing,
    Paused,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
        }
    }
}

/// Looks after a process's part in a run.
pub(crate) struct Watch<'a> {
    on: Watched<'a>,
    /// This process, in `toolkit.run_process`.
    process: String,
    conn: Option<PgConnection>,
    lag: Lag,
    standing: Standing,
    /// Kinds of the causes that were said.
    said: Vec<&'static str>,
}

impl<'a> Watch<'a> {
    /// Enters the process into the run, and looks for the first time: nothing is written before.
    pub(crate) async fn start(on: Watched<'a>, tell: &(dyn Fn(Told) + Sync)) -> Result<Self> {
        let process = uuid::Uuid::new_v4().to_string();
        let (standing, said) = (Standing::Copying, Vec::new());
        let mut watch = Self { on, process, conn: None, lag: Lag::default(), standing, said };
        let mut conn = watch.session().await?;
        if let Some(run_id) = watch.on.run_id {
            watch.enter(&mut conn, run_id).await?;
        }
        watch.conn = Some(conn);
        watch.look(tell).await?;
        Ok(watch)
    }

    async fn enter(&self, conn: &mut PgConnection, run_id: &str) -> Result<()> {
        sqlx::query(include_str!("../sql/manners/enter_process.sql"))
            .bind(&self.process)
            .bind(run_id)
            .bind(host())
            .bind(i32::try_from(std::process::id()).ok())
            .bind(i32::try_from(self.on.workers).unwrap_or(i32::MAX))
            .bind(user_at_host())
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Looks again and again; while the server is away everything stays as it was.
    pub(crate) async fn keep(&mut self, tell: &(dyn Fn(Told) + Sync)) -> Infallible {
        loop {
            self.rest().await;
            match tokio::time::timeout(LOOK_MAX, self.look(tell)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!("the run cannot be looked at: {error}");
                    self.conn = None;
                }
                Err(_) => self.conn = None,
            }
        }
    }

    /// Until the next look; sooner, where the last chunk is written that was let through.
    async fn rest(&self) {
        if self.standing != Standing::Pausing {
            return tokio::time::sleep(LOOK_EVERY).await;
        }
        for _ in 0..10 {
            tokio::time::sleep(SETTLE_EVERY).await;
            if self.on.gate.is_empty() {
                return;
            }
        }
    }

    /// Takes the process out of the run; its end matters more than this note of it.
    pub(crate) async fn end(mut self) {
        self.on.gate.set_open(true);
        if self.on.run_id.is_none() {
            if let Some(conn) = self.conn.take() {
                let _ = tokio::time::timeout(LOOK_MAX, conn.close()).await;
            }
            return;
        }
        let noted = async {
            let mut conn = match self.conn.take() {
                Some(conn) => conn,
                None => self.session().await?,
            };
            sqlx::query(
                "UPDATE toolkit.run_process SET state = 'ended', seen_at = clock_timestamp(), \
                 paused_since = NULL, reason = NULL WHERE process = $1::uuid",
            )
            .bind(&self.process)
            .execute(&mut conn)
            .await?;
            // Closing alone would let the server take its time to release the lock.
            sqlx::query("SELECT pg_advisory_unlock(hashtextextended('toolkit.process.' || $1, 0))")
                .bind(&self.process)
                .execute(&mut conn)
                .await?;
            conn.close().await?;
            Ok::<(), crate::error::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(LOOK_MAX, noted).await {
            tracing::debug!("the process's end is not recorded: {error}");
        }
    }

    /// A session that proves the process alive. It goes by another name: that it is heard of does
    /// not say that anybody works.
    async fn session(&self) -> Result<PgConnection> {
        let mut conn = self.on.connector.dedicated().await?;
        sqlx::query("SELECT pg_catalog.set_config('application_name', 'toolkit watch', false)")
            .execute(&mut conn)
            .await?;
        sqlx::query("SELECT pg_advisory_lock(hashtextextended('toolkit.process.' || $1, 0))")
            .bind(&self.process)
            .execute(&mut conn)
            .await?;
        Ok(conn)
    }

    async fn look(&mut self, tell: &(dyn Fn(Told) + Sync)) -> Result<()> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.session().await?,
        };
        let mut causes = match self.on.run_id {
            Some(run_id) => self.requests(&mut conn, run_id).await?,
            None => Vec::new(),
        };
        causes.extend(self.on.manners.causes(&mut conn, &mut self.lag).await?);
        let reason = self.settle(&causes, tell);
        if self.on.run_id.is_some() {
            sqlx::query(include_str!("../sql/manners/beat.sql"))
                .bind(&self.process)
                .bind(self.standing.name())
                .bind(reason)
                .execute(&mut conn)
                .await?;
        }
        self.conn = Some(conn);
        Ok(())
    }

    /// What `toolkit run` asks for.
    async fn requests(&self, conn: &mut PgConnection, run_id: &str) -> Result<Vec<Cause>> {
        let row = sqlx::query(include_str!("../sql/manners/requests.sql"))
            .bind(run_id)
            .fetch_one(conn)
            .await?;
        if let Some(by) = row.try_get::<Option<String>, _>("stop_asked_by")? {
            self.on.stop.request_because(format!(
                "run {run_id} was stopped with `toolkit run stop` by {by}"
            ));
        }
        let Some(by) = row.try_get::<Option<String>, _>("pause_asked_by")? else {
            return Ok(Vec::new());
        };
        let at = row.try_get("pause_asked_at")?;
        Ok(vec![Cause::Asked { by, at, run: run_id.to_owned() }])
    }

    /// Opens or closes the gate; says so where it is news. Returns why it is closed.
    fn settle(&mut self, causes: &[Cause], tell: &(dyn Fn(Told) + Sync)) -> Option<String> {
        let kinds: Vec<&'static str> = causes.iter().map(Cause::kind).collect();
        self.on.gate.set_open(causes.is_empty());
        if causes.is_empty() {
            self.standing = Standing::Copying;
            if !self.said.is_empty() {
                tell(Told::Resumed);
            }
            self.said = kinds;
            return None;
        }
        self.standing = if self.on.gate.is_empty() { Standing::Paused } else { Standing::Pausing };
        let reasons: Vec<String> = causes.iter().map(Cause::to_string).collect();
        let reason = reasons.join("; ");
        if self.said != kinds {
            tell(Told::Paused(reason.clone()));
            self.said = kinds;
        }
        Some(reason)
    }
}
