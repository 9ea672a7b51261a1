//! Back by one phase.
//!
//! From 3 the order is what keeps every acknowledged write: writers of the targets are locked out;
//! what Postgres holds and `SQLite` does not is applied back, to the last change; in the same
//! transaction the targets get a fence of their own, and phase and route change. Its commit is the
//! moment `SQLite` becomes primary; only then are the fences of the files lifted. At no instant do
//! both stores take writes, and whoever finds fences standing while the route says `SQLite` lifts
//! them.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::meant::{self, Standing, Way};
use super::scene::Scene;
use super::state::{self, Phase, State, Transition, TransitionKind};
use super::{fault, files, lock, recover, reversal, target_fence};
use crate::capture::reverse::{self, Reverse};
use crate::capture::{self, DisableOptions};
use crate::count::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::source::SourceFile;

/// What the operator decides.
#[derive(Debug, Clone, Default)]
pub struct RollbackOptions {
    /// The phase that is meant; None: the one before, whichever it is. A rollback that was cut off
    /// may have been done all the same, and repeating it would go one phase further.
    pub to: Option<Phase>,
    /// Why, for the history.
    pub reason: Option<String>,
    /// Lose rows that could not be written back to `SQLite`.
    pub accept_loss: bool,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
}

/// What a rollback would do.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedRollback {
    /// The phase it leads to.
    pub to: Phase,
    /// What it does, in order.
    pub steps: Vec<String>,
    /// What it would be refused for as things are.
    pub objections: Vec<String>,
}

/// What a rollback did.
#[derive(Debug, Clone, Serialize)]
pub struct RolledBack {
    /// From.
    pub from: Phase,
    /// Where the pack stands now.
    pub state: State,
    /// Whether it stood there before: nothing was changed.
    pub already: bool,
    /// For how long no store took writes.
    pub freeze_ms: u64,
    /// What the last catch-up of the reverse apply did.
    pub reverse: Value,
    /// Files that capture was taken out of.
    pub capture_removed: Vec<String>,
    /// What it would do, where that was all that was asked for; `state` is as it is then.
    pub planned: Option<PlannedRollback>,
}

/// Goes back by one phase.
///
/// Errors: phase 0 and 4 have no way back; the phase before is not the one that is meant; rows that
/// could not be written back to `SQLite` would be lost, unless `accept_loss`.
pub async fn rollback(scene: &Scene<'_>, options: &RollbackOptions) -> Result<RolledBack> {
    let mut scene = scene.clone();
    let mut conn = scene.postgres.dedicated().await?;
    if options.dry_run {
        let planned = plan(&scene, &mut conn, options).await;
        conn.close().await?;
        return planned;
    }
    lock::lock(&mut conn, scene.name()).await?;
    recover::recover_locked(scene.postgres, &mut conn, scene.pack).await?;
    scene.remember_roots(&mut conn).await?;
    let done = rollback_locked(&scene, &mut conn, options).await;
    lock::unlock(&mut conn, scene.name()).await;
    conn.close().await?;
    done
}

async fn rollback_locked(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    options: &RollbackOptions,
) -> Result<RolledBack> {
    let state = state::current(conn, scene.name()).await?;
    let reason = options.reason.as_deref();
    if is_there(scene, &state, options)? {
        return Ok(RolledBack::already(state));
    }
    match state.phase {
        Phase::Bootstrap | Phase::Decommissioned => Err(no_way(scene, state.phase)),
        Phase::DualWrite => to_bootstrap(scene, conn, reason).await,
        Phase::Backfill => step_back(scene, conn, Phase::Backfill, reason).await,
        Phase::Cutover => to_backfill(scene, conn, options).await,
    }
}

/// Whether the pack is in the phase that is meant. From the last phase no rollback leads anywhere,
/// whichever is meant.
fn is_there(scene: &Scene<'_>, state: &State, options: &RollbackOptions) -> Result<bool> {
    Ok(state.phase != Phase::Decommissioned
        && meant::standing(scene.name(), state.phase, Way::Rollback, options.to)?
            == Standing::There)
}

fn no_way(scene: &Scene<'_>, phase: Phase) -> Error {
    if phase == Phase::Bootstrap {
        let what =
            format!("the pack {} is in phase 0: there is nothing to go back to", scene.name());
        return Error::new(ErrorKind::Usage, what);
    }
    let what = format!("the pack {} is decommissioned: SQLite is sealed", scene.name());
    Error::new(ErrorKind::Usage, what)
        .advice("what Postgres holds can be exported; there is no way back to the sealed files")
}

/// What it would do, and what stands against it.
async fn plan(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    options: &RollbackOptions,
) -> Result<RolledBack> {
    let state = state::current(conn, scene.name()).await?;
    if is_there(scene, &state, options)? {
        return Ok(RolledBack::already(state));
    }
    let (from, Some(to)) = (state.phase, state.phase.previous()) else {
        return Err(no_way(scene, state.phase));
    };
    let (mut steps, mut objections) = (Vec::new(), Vec::new());
    match from {
        Phase::Decommissioned => return Err(no_way(scene, from)),
        Phase::DualWrite => {
            let files = files::captured(conn, scene.name()).await?;
            let named: Vec<&str> = files.iter().map(|file| file.source.as_str()).collect();
            steps.push(format!("take capture out of {}", named.join(", ")));
        }
        Phase::Cutover => {
            let found = reverse::status(conn, scene.name()).await?;
            let changes = counted(found.lag_changes, "change");
            steps.push(format!("write {changes} back to SQLite while applications go on"));
            steps.push("keep writers out of Postgres and write the last ones back".to_owned());
            if found.rejects > 0 && !options.accept_loss {
                objections.push(would_lose(found.rejects));
            }
            if found.running {
                objections.push("stop `toolkit dual-write reverse run` first".to_owned());
            }
        }
        Phase::Bootstrap | Phase::Backfill => {}
    }
    steps.push("change the phase".to_owned());
    if from == Phase::Cutover {
        steps.push("lift the fences of the SQLite files".to_owned());
    }
    let planned = Some(PlannedRollback { to, steps, objections });
    Ok(RolledBack { planned, ..RolledBack::plain(from, state) })
}

fn would_lose(rows: i64) -> String {
    format!(
        "{} could not be written back to SQLite (toolkit.reverse_reject): a rollback would lose that",
        counted(rows, "row")
    )
}

impl RolledBack {
    /// From one phase to another, with nothing beside.
    fn plain(from: Phase, state: State) -> Self {
        let capture_removed = Vec::new();
        let already = false;
        let reverse = Value::Null;
        Self { from, state, already, freeze_ms: 0, reverse, capture_removed, planned: None }
    }

    /// The pack is in the phase that is meant.
    fn already(state: State) -> Self {
        Self { already: true, ..Self::plain(state.phase, state) }
    }
}

fn change(from: Phase, to: Phase, reason: Option<&str>, evidence: Value) -> Transition {
    let reason = reason.map(str::to_owned);
    Transition { from, to, kind: TransitionKind::Rollback, reason, evidence }
}

/// 2 to 1: nothing but the phase.
async fn step_back(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    from: Phase,
    reason: Option<&str>,
) -> Result<RolledBack> {
    let to = from.previous().unwrap_or(from);
    let state = state::transition(conn, scene.name(), &change(from, to, reason, json!([]))).await?;
    Ok(RolledBack::plain(from, state))
}

/// 1 to 0: capture is taken out of the files. Postgres does not follow any more, so what was not
/// applied is dropped; `SQLite` has it.
async fn to_bootstrap(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    reason: Option<&str>,
) -> Result<RolledBack> {
    let captured = files::captured(conn, scene.name()).await?;
    let files: Vec<SourceFile> = captured
        .iter()
        .filter(|file| file.path.exists())
        .map(|file| SourceFile {
            path: file.path.clone(),
            relative: file.source.clone(),
            sha256: String::new(),
            size_bytes: 0,
        })
        .collect();
    let options = DisableOptions { force: true, decommissioning: false, dry_run: false };
    capture::disable(scene.postgres, scene.name(), &files, &options).await?;
    fault::point("rollback.capture_removed")?;
    target_fence::remove(conn, scene.pack).await?;
    let mut done = step_back(scene, conn, Phase::DualWrite, reason).await?;
    done.capture_removed = files.into_iter().map(|file| file.relative).collect();
    Ok(done)
}

/// 3 to 2: `SQLite` is primary again, and has everything.
async fn to_backfill(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    options: &RollbackOptions,
) -> Result<RolledBack> {
    let opened = scene.open().await?;
    let mut reverse = Reverse::open(scene.postgres, Arc::clone(&opened), reversal::BATCH)
        .await
        .map_err(reversal::is_at_work)?;
    reverse.catch_up(scene.stop).await?;
    fault::point("rollback.approached")?;
    let frozen = Instant::now();
    let mut transaction = conn.begin().await?;
    state::hold_changes(&mut transaction, scene.name()).await?;
    target_fence::lock(&mut transaction, scene.pack).await?;
    fault::point("rollback.locked")?;
    let proof = reverse.finish(&mut transaction, scene.stop).await?;
    if proof.rejects > 0 && !options.accept_loss {
        let rejects = scene.command_without_sources("dual-write reverse rejects");
        return Err(Error::new(ErrorKind::Busy, would_lose(proof.rejects)).advice(format!(
            "`{rejects}` lists them: settle them, or accept that with --accept-loss"
        )));
    }
    fault::point("rollback.drained")?;
    target_fence::raise(&mut transaction, scene.pack).await?;
    let evidence = json!({ "reverse": proof, "accepted_loss": proof.rejects });
    let reason = options.reason.as_deref();
    let change = change(Phase::Cutover, Phase::Backfill, reason, evidence.clone());
    let state = state::transition_in(&mut transaction, scene.name(), &change).await?;
    // A broken connection here leaves SQLite fenced, until somebody who has the phase lock knows
    // what was committed.
    transaction.commit().await.map_err(|error| {
        Error::from(error)
            .context("the connection broke while the route was being changed")
            .advice("run `toolkit phase status` when the server answers: it knows, and goes on")
    })?;
    fault::point("rollback.flipped")?;
    let captured = files::captured(conn, scene.name()).await?;
    files::lift_all(&captured).await?;
    let freeze_ms = u64::try_from(frozen.elapsed().as_millis()).unwrap_or(u64::MAX);
    fault::point("rollback.lifted")?;
    drop(reverse);
    reversal::remove(conn, scene.name()).await?;
    Ok(RolledBack { freeze_ms, reverse: evidence, ..RolledBack::plain(Phase::Cutover, state) })
}
