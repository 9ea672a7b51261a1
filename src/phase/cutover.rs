//! 2 to 3: Postgres becomes primary.
//!
//! A fence is raised in every `SQLite` file, so that no application can write there any more; what
//! was captured before it is applied and compared; then one transaction in Postgres changes phase
//! and route. Its commit is the cutover. Before it nothing has happened but fences, and whoever
//! finds them lifts them while the route says `SQLite`; after it the route says Postgres, and
//! whoever finds anything missing completes it.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::check::{Gate, Verdict};
use super::engines::{Engines, not_now};
use super::files::{self, CapturedFile, Positions};
use super::scene::Scene;
use super::state::{self, Phase, State, Transition, TransitionKind};
use super::{facts, fault, lock, reversal, target_fence};
use crate::count::counted_are;
use crate::error::{Error, ErrorKind, Result};

/// Changes that may be left when the fence is raised.
const LAG_SMALL: i64 = 2_000;

/// How often the tail is asked to catch up before that.
const ATTEMPTS: u32 = 60;

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct CutoverOptions {
    /// Longest time for which no store takes writes; when it is over the fence is lifted again.
    pub freeze_max: Duration,
}

impl Default for CutoverOptions {
    fn default() -> Self {
        Self { freeze_max: Duration::from_secs(5) }
    }
}

/// What a cutover did.
#[derive(Debug, Clone, Serialize)]
pub struct CutoverReport {
    /// From the raising of the first fence to the commit that changed the route.
    pub freeze_ms: u64,
    /// The steps and how long each took.
    pub steps: Vec<CutoverStep>,
    /// Files that were fenced.
    pub files: Vec<String>,
    /// The last entry of each file's log.
    pub positions: Vec<(String, i64)>,
    /// Changes since the last clean verification that were compared before the fence.
    pub keys_verified_ahead: u64,
    /// The rest of them, compared behind it.
    pub keys_verified: u64,
    /// What was compared neither by a verification nor by the cutover, a sentence for each file:
    /// the gate was forced.
    pub not_compared: Vec<String>,
    /// Sequences that were moved, with their new value.
    pub sequences: std::collections::BTreeMap<String, i64>,
}

/// One step of a cutover.
#[derive(Debug, Clone, Serialize)]
pub struct CutoverStep {
    /// What was done.
    pub step: &'static str,
    /// How long it took.
    pub ms: u64,
}

/// The steps, as `--dry-run` shows them.
pub(super) const STEPS: [&str; 10] = [
    "catch up until few captured changes are left, and read every JSON and CSV file",
    "compare what changed since the last verification, while the application goes on",
    "install reverse capture on the targets, silent until the cutover",
    "raise the fence in every SQLite file: the freeze begins",
    "apply the rest of each log, up to its fence",
    "apply JSON and CSV files that were written since",
    "compare the keys that changed since",
    "set sequences past the highest keys",
    "change phase and route in one transaction: the cutover",
    "lift what kept writes from the targets",
];

/// Steps with their times.
struct Clock {
    steps: Vec<CutoverStep>,
    since: Instant,
}

impl Clock {
    fn mark(&mut self, step: &'static str) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.steps.push(CutoverStep { step, ms });
        self.since = Instant::now();
    }
}

/// Carries it out. `conn` holds the pack's phase lock; the commit happens on it and nowhere else,
/// so that whoever has the lock later knows how it ended.
///
/// Any error before the commit lifts the fence and leaves phase 2 as it was.
pub(super) async fn run(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    gate: &Gate,
    kind: TransitionKind,
    reason: Option<&str>,
    options: &CutoverOptions,
) -> Result<(State, CutoverReport)> {
    let opened = scene.open().await?;
    let mut engines = Engines::open(scene, opened).await?;
    let captured = files::captured(conn, scene.name()).await?;
    let mut clock = Clock { steps: Vec::new(), since: Instant::now() };
    approach(scene, conn, &mut engines).await?;
    clock.mark("catch up");
    let keys_verified_ahead = engines.compare_ahead().await?;
    // The tail waited meanwhile.
    catch_up(scene, conn, &mut engines).await?;
    clock.mark("compare what changed");
    engines.prepare_reverse(conn).await?;
    clock.mark("install reverse capture");
    fault::point("cutover.approached")?;

    let frozen = Instant::now();
    let deadline = frozen + options.freeze_max;
    // Not under the time limit, which it keeps by itself: a thread that was left alone could raise
    // its fence after all were lifted.
    let raised = files::raise_all(&captured, deadline).await;
    clock.mark("raise the fence");
    let flipped = match raised {
        Err(error) => Err(Flip::Before(error)),
        Ok(positions) => {
            let behind = behind_fence(scene, conn, &mut engines, positions, kind, &mut clock);
            match tokio::time::timeout_at(deadline.into(), behind).await {
                Ok(Ok(found)) => {
                    let change = change(gate, kind, reason, &found);
                    let flipped = flip(scene, conn, &change, deadline).await;
                    flipped.map(|state| (state, found, frozen.elapsed()))
                }
                Ok(Err(error)) => Err(Flip::Before(error)),
                Err(_) => Err(Flip::Before(too_long(options.freeze_max, &clock))),
            }
        }
    };
    match flipped {
        Ok((state, found, freeze)) => {
            clock.mark("change the route");
            fault::point("cutover.flipped")?;
            engines.close().await;
            let freeze_ms = u64::try_from(freeze.as_millis()).unwrap_or(u64::MAX);
            let report = CutoverReport {
                freeze_ms,
                steps: clock.steps,
                files: captured.into_iter().map(|file| file.source).collect(),
                positions: found.positions,
                keys_verified_ahead,
                keys_verified: found.keys_verified,
                not_compared: found.not_compared,
                sequences: found.sequences,
            };
            Ok((state, report))
        }
        Err(Flip::Before(error)) => {
            fault::point("cutover.failed")?;
            files::lift_all(&captured).await.map_err(|lifting| {
                lifting
                    .context("the cutover failed and a fence was not lifted")
                    .advice("`toolkit phase status` lifts it as soon as the file can be written")
            })?;
            // What could not be taken out now is taken out by the next command.
            if let Err(error) = reversal::remove(conn, scene.name()).await {
                tracing::debug!(%error, "reverse capture stays for a moment");
            }
            Err(error.context("the cutover was given up, the fence is lifted, phase 2 goes on"))
        }
        Err(Flip::Unknown(error)) => resolve(scene, &captured, error).await,
    }
}

fn too_long(freeze_max: Duration, clock: &Clock) -> Error {
    let done: Vec<String> =
        clock.steps.iter().map(|step| format!("{} {} ms", step.step, step.ms)).collect();
    Error::new(
        ErrorKind::Busy,
        format!(
            "the freeze lasted longer than {} ms ({})",
            freeze_max.as_millis(),
            done.join(", ")
        ),
    )
    .advice("try again when less is written, or allow more with --freeze-max")
}

/// Lets the tail come close, while the application goes on.
async fn approach(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    engines: &mut Engines<'_>,
) -> Result<()> {
    catch_up(scene, conn, engines).await?;
    // Reading may take long, for the application and for the files themselves.
    engines.read_files().await?;
    catch_up(scene, conn, engines).await?;
    engines.rescan(conn, false).await?;
    catch_up(scene, conn, engines).await
}

/// Catches up until few changes are left.
async fn catch_up(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    engines: &mut Engines<'_>,
) -> Result<()> {
    let mut lag = i64::MAX;
    for _ in 0..ATTEMPTS {
        scene.stop.check()?;
        lag = engines.catch_up(conn).await?;
        if lag <= LAG_SMALL {
            return Ok(());
        }
    }
    Err(not_now(
        format!(
            "{} still not applied after {ATTEMPTS} attempts",
            counted_are(lag, "captured change")
        ),
        "the application writes faster than the tail applies: wait for a quieter hour",
    ))
}

/// What was found behind the fence.
struct Found {
    positions: Vec<(String, i64)>,
    keys_verified: u64,
    not_compared: Vec<String>,
    sequences: std::collections::BTreeMap<String, i64>,
}

/// Everything between the fence and the flip.
async fn behind_fence(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    engines: &mut Engines<'_>,
    positions: Positions,
    kind: TransitionKind,
    clock: &mut Clock,
) -> Result<Found> {
    fault::point("cutover.fenced")?;
    engines.drain(&positions).await?;
    clock.mark("apply the rest");
    nothing_refused(scene, conn, kind).await?;
    fault::point("cutover.drained")?;
    engines.rescan(conn, true).await?;
    clock.mark("rescan files");
    fault::point("cutover.rescanned")?;
    let keys_verified = engines.compare_rest().await?;
    clock.mark("compare the last keys");
    fault::point("cutover.verified")?;
    let sequences = engines.set_sequences(conn).await?;
    clock.mark("set sequences");
    fault::point("cutover.ready")?;
    scene.stop.check()?;
    let not_compared = engines.not_compared();
    Ok(Found { positions, keys_verified, not_compared, sequences })
}

/// The last changes may have been refused by Postgres: they would be lost.
async fn nothing_refused(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    kind: TransitionKind,
) -> Result<()> {
    let check = facts::rejects_check(scene, conn).await?;
    if check.verdict == Verdict::Met || kind == TransitionKind::Force {
        return Ok(());
    }
    Err(not_now(check.finding, check.advice.unwrap_or_default()))
}

/// How a flip failed.
enum Flip {
    /// Nothing was committed, for certain.
    Before(Error),
    /// The connection broke during the commit.
    Unknown(Error),
}

fn change(gate: &Gate, kind: TransitionKind, reason: Option<&str>, found: &Found) -> Transition {
    let evidence = json!({
        "gate": gate.evidence(),
        "positions": found.positions,
        "keys_verified": found.keys_verified,
        "not_compared": found.not_compared,
        "sequences": found.sequences,
    });
    let reason = reason.map(str::to_owned);
    Transition { from: Phase::Backfill, to: Phase::Cutover, kind, reason, evidence }
}

/// One transaction: the fence of the targets off, phase and route changed.
async fn flip(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    change: &Transition,
    deadline: Instant,
) -> Result<State, Flip> {
    let mut transaction = conn.begin().await.map_err(|error| Flip::Before(error.into()))?;
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    let changing = async {
        sqlx::query("SELECT set_config('lock_timeout', $1, true)")
            .bind(left.to_string())
            .execute(&mut *transaction)
            .await?;
        target_fence::lift(&mut transaction, scene.pack).await?;
        state::transition_in(&mut transaction, scene.name(), change).await
    };
    let state = changing.await.map_err(Flip::Before)?;
    match transaction.commit().await {
        Ok(()) => Ok(state),
        Err(error) => Err(Flip::Unknown(error.into())),
    }
}

/// The commit's answer never came: whoever holds the phase lock next knows that the session is
/// gone, and with it whether its transaction was.
async fn resolve(
    scene: &Scene<'_>,
    captured: &[CapturedFile],
    error: Error,
) -> Result<(State, CutoverReport)> {
    let unknown = |cause: Error| {
        Error::new(
            ErrorKind::StoreUnreachable,
            "the connection broke while the route was being changed, and whether it was is not \
             known yet; SQLite stays fenced until it is",
        )
        .advice("run `toolkit phase status` when the server answers: it completes or undoes it")
        .because(cause)
    };
    let Ok(mut conn) = scene.postgres.dedicated().await else { return Err(unknown(error)) };
    if lock::lock(&mut conn, scene.name()).await.is_err() {
        return Err(unknown(error));
    }
    let Ok(state) = state::current(&mut conn, scene.name()).await else {
        return Err(unknown(error));
    };
    if state.phase == Phase::Cutover {
        return Err(error
            .context("the cutover is done, but its connection broke at the end")
            .advice("see `toolkit phase status`"));
    }
    files::lift_all(captured).await?;
    Err(error.context("the cutover was given up, the fence is lifted, phase 2 goes on"))
}
