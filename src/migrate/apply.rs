//! Carrying a plan out.

use std::time::{Duration, Instant};

use refinery_core::{AsyncMigrate, Migration as Inner, Target};
use serde::Serialize;
use sqlx::PgConnection;

use super::history::{self, Session};
use super::optional::{Optional, optional_extensions};
use super::plan::{Plan, Stage, plan};
use super::set::{Migration, MigrationSet, NO_TRANSACTION_HEADER, builtin_or_error};
use super::{lock, step};
use crate::error::kind_of_sqlx;
use crate::interrupt::Stop;
use crate::{Error, ErrorKind, Result};

/// Bounds of [`apply`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest wait of one statement for a lock.
    pub lock_timeout: Duration,
    /// How often a migration is tried that waited in vain for a lock, or lost a deadlock.
    pub attempts: u32,
    /// Longest wait for another migrator to finish.
    pub wait: Duration,
    /// Looked at between migrations and attempts.
    pub stop: Stop,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(3),
            attempts: 5,
            wait: Duration::from_mins(1),
            stop: Stop::new(),
        }
    }
}

/// What [`apply`] did to one pack.
#[derive(Debug, Clone, Serialize)]
pub struct AppliedStage {
    /// The pack.
    pub pack: String,
    /// The migrations it applied.
    pub applied: Vec<AppliedFile>,
    /// File names of planned migrations that another migrator applied in the meantime.
    pub by_others: Vec<String>,
}

/// A migration that was applied.
#[derive(Debug, Clone, Serialize)]
pub struct AppliedFile {
    /// Name of its file.
    pub file_name: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What [`apply`] did.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// Pack by pack, in order.
    pub stages: Vec<AppliedStage>,
    /// What the schemas use of the server's optional parts.
    pub optional: Vec<Optional>,
}

impl Applied {
    /// Whether this call changed nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| stage.applied.is_empty())
    }
}

/// Plans and applies built-in packs.
pub async fn up(
    connection: &mut PgConnection,
    packs: &[&str],
    options: &Options,
) -> Result<Applied> {
    let sets = packs.iter().map(|pack| builtin_or_error(pack)).collect::<Result<Vec<_>>>()?;
    let plan = plan(connection, &sets).await?;
    apply(connection, &plan, options).await
}

/// Carries out `plan` on a dedicated connection (it holds the migration lock meanwhile). What
/// another migrator applied since the plan was made is not applied again.
///
/// On an error the migrations before the failing one stay applied; of the failing one nothing does,
/// unless it is marked as running without a transaction.
pub async fn apply(
    connection: &mut PgConnection,
    plan: &Plan,
    options: &Options,
) -> Result<Applied> {
    let stages = if plan.is_empty() {
        Vec::new()
    } else {
        lock::acquire(connection, options.wait, &options.stop).await?;
        let stages = apply_locked(connection, plan, options).await;
        lock::release(connection).await;
        stages?
    };
    Ok(Applied { stages, optional: optional_extensions(connection).await? })
}

async fn apply_locked(
    connection: &mut PgConnection,
    plan: &Plan,
    options: &Options,
) -> Result<Vec<AppliedStage>> {
    create_bookkeeping(connection).await?;
    let mut stages = Vec::with_capacity(plan.stages.len());
    for planned in &plan.stages {
        let pack = planned.set.pack.clone();
        let now = Stage::compute(&planned.set, &history::read(connection, &planned.set).await?)?;
        if let Some(unplanned) = now.pending.iter().find(|v| !planned.pending.contains(v)) {
            return Err(Error::new(
                ErrorKind::Migration,
                format!(
                    "pack {pack}: V{unplanned} was applied when the plan was made, and is not now"
                ),
            )
            .advice("something changed the database meanwhile; run the command again"));
        }
        let mut stage = AppliedStage { pack, applied: Vec::new(), by_others: Vec::new() };
        for migration in planned.migrations() {
            let file_name = migration.file_name.clone();
            if now.pending.contains(&migration.version()) {
                let start = Instant::now();
                apply_patiently(connection, &now.set, migration, options).await?;
                let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                stage.applied.push(AppliedFile { file_name, elapsed_ms });
            } else {
                stage.by_others.push(file_name);
            }
        }
        stages.push(stage);
    }
    Ok(stages)
}

/// The schema of the history tables and the table of steps, which no migration can create, since
/// they have to be there before the first one.
async fn create_bookkeeping(connection: &mut PgConnection) -> Result<()> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('toolkit.migration_step') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
    if exists {
        return Ok(());
    }
    let sql = concat!(
        "CREATE SCHEMA IF NOT EXISTS toolkit;\n",
        include_str!("../sql/migration_step.sql")
    );
    sqlx::raw_sql(sql).execute(connection).await.map_err(|error| {
        let error = Error::from(error).context("creating schema toolkit");
        if error.kind() == ErrorKind::StoreDenied {
            return error.advice("GRANT CREATE ON DATABASE <name> TO <user>, or use another user");
        }
        error
    })?;
    Ok(())
}

/// Tries again, after a pause, what only stood in another session's way.
async fn apply_patiently(
    connection: &mut PgConnection,
    set: &MigrationSet,
    migration: &Migration,
    options: &Options,
) -> Result<()> {
    let mut pause = Duration::from_millis(200);
    for attempt in 1.. {
        options.stop.check()?;
        let error = match apply_once(connection, set, migration, options).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::StoreConflict {
            return Err(error);
        }
        if attempt >= options.attempts {
            return Err(error.context(format!("gave up after {attempt} attempts")).advice(
                "another session holds a lock that the migration needs: see pg_blocking_pids() \
                     and pg_stat_activity, or allow more with --lock-timeout",
            ));
        }
        tracing::info!(file = migration.file_name, attempt, %error, "trying again");
        tokio::time::sleep(lock::jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    Ok(())
}

async fn apply_once(
    connection: &mut PgConnection,
    set: &MigrationSet,
    migration: &Migration,
    options: &Options,
) -> Result<()> {
    let version = migration.version();
    let target = if migration.transactional {
        Target::Version(version)
    } else {
        step::run(connection, &set.pack, migration, options.lock_timeout).await?;
        // Only the history row is left to write.
        Target::FakeVersion(version)
    };
    let files: Vec<Inner> = set.migrations.iter().map(|file| file.inner.clone()).collect();
    let mut session = Session { connection, lock_timeout: options.lock_timeout };
    session
        .migrate(&files, true, true, false, target, &set.history_table())
        .await
        .map(|_| ())
        .map_err(|error| failure(set, migration, error))
}

/// Says which file failed and where in it; the kind decides whether it is tried again.
fn failure(set: &MigrationSet, migration: &Migration, error: refinery_core::Error) -> Error {
    use std::error::Error as _;
    let place = format!("pack {}: {}", set.pack, migration.file_name);
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<sqlx::Error>()) else {
        return Error::new(ErrorKind::Migration, format!("{place}: {error}")).because(error);
    };
    // What the server says about the statement itself is a failed migration; everything else
    // (connection, privilege, conflict, room) keeps its kind.
    let kind = match kind_of_sqlx(cause) {
        ErrorKind::StoreFailed => ErrorKind::Migration,
        kind => kind,
    };
    let sqlx::Error::Database(refusal) = cause else {
        return Error::new(kind, format!("{place}: PostgreSQL: {cause}")).because(error);
    };
    let code = refusal.code().unwrap_or_default().into_owned();
    let line = refusal
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .and_then(|refusal| line_of(migration.sql(), &refusal.position()?))
        .map(|line| format!(" line {line}"))
        .unwrap_or_default();
    let kept = if migration.transactional { "; nothing of this migration was kept" } else { "" };
    let detail = format!("{place}{line}: {} (SQLSTATE {code}){kept}", refusal.message());
    let advice = match code.as_str() {
        "25001" => format!("make {NO_TRANSACTION_HEADER:?} the first line of the file"),
        "42501" => "grant the migrating user what the statement needs, or use another".to_owned(),
        _ => {
            "mend the file (it is applied nowhere yet, unless elsewhere) and run the command again"
                .to_owned()
        }
    };
    Error::new(kind, detail).advice(advice).because(error)
}

/// The line of a 1-based position in characters.
fn line_of(sql: &str, position: &sqlx::postgres::PgErrorPosition<'_>) -> Option<usize> {
    let sqlx::postgres::PgErrorPosition::Original(position) = position else { return None };
    let before = sql.chars().take(position.saturating_sub(1));
    Some(before.filter(|c| *c == '\n').count() + 1)
}
