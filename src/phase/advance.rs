//! The gates, and the way through them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::check::{Check, Gate, Verdict};
use super::cutover::{self, CutoverOptions, CutoverReport};
use super::decommission::{self, Decommissioned, SealedFile};
use super::meant::{self, Standing, Way};
use super::position::Position;
use super::scene::Scene;
use super::state::{self, Phase, State, Transition, TransitionKind};
use super::{backup, bootstrap, evidence, facts, lock, recover, reversal};
use crate::capture::{self, reverse};
use crate::count::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;

/// What the operator decides.
#[derive(Debug, Clone, Default)]
pub struct AdvanceOptions {
    /// The phase that is meant; None: the next, whichever it is.
    pub to: Option<Phase>,
    /// Show the gate and the steps, change nothing.
    pub dry_run: bool,
    /// Go on although the gate is not open, for this reason.
    pub force: Option<String>,
    /// Streams and columns without a way back to `SQLite` are known and accepted.
    pub acknowledge_none: bool,
    /// Of the cutover.
    pub cutover: CutoverOptions,
}

/// How an advance ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Advanced {
    /// The pack is in the phase that is meant; nothing was changed.
    Already {
        /// Where the pack stands.
        state: State,
    },
    /// The gate is not open; nothing was changed.
    Refused {
        /// What is missing.
        gate: Gate,
    },
    /// What would be done.
    Planned {
        /// What the gate says.
        gate: Gate,
        /// The steps, in order.
        steps: Vec<&'static str>,
        /// How far the captured files are.
        readings: Vec<facts::Reading>,
    },
    /// The phase was entered.
    Entered {
        /// Where the pack stands.
        state: State,
        /// What was found; of a forced one, what was missing too.
        gate: Gate,
        /// Whether it was forced.
        forced: bool,
        /// What the cutover did.
        cutover: Option<Box<CutoverReport>>,
        /// The sealed files.
        sealed: Vec<SealedFile>,
        /// Where the sealed files and Postgres were the same.
        position: Option<Box<Position>>,
    },
}

/// Where a pack stands, and what the next gate asks for.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The pack.
    pub pack: String,
    /// Its phase and route.
    pub state: State,
    /// The gate to the next phase; None in phase 4.
    pub gate: Option<Gate>,
    /// What the gate does not ask for, and a careful operator has.
    pub recommended: Vec<Check>,
    /// The next command to type.
    pub next: Option<String>,
    /// What an earlier command had left half done.
    pub recovered: Option<String>,
    /// The sealed files.
    pub sealed: Vec<SealedFile>,
}

/// Says where the pack stands. Makes good what a crash left first.
pub async fn status(scene: &Scene<'_>) -> Result<Status> {
    let recovered = recover::recover(scene.postgres, scene.pack).await?;
    let mut status = observe(scene).await?;
    status.recovered = recovered.map(|done| done.sentence());
    Ok(status)
}

/// As [`status`], and changes nothing: what a crash left half done stays so.
pub async fn observe(scene: &Scene<'_>) -> Result<Status> {
    let mut scene = scene.clone();
    let mut conn = scene.postgres.dedicated().await?;
    scene.remember_roots(&mut conn).await?;
    let state = state::current(&mut conn, scene.name()).await?;
    let gate = match state.phase.next() {
        Some(_) => Some(gate(&scene, &mut conn, &state).await?),
        None => None,
    };
    let recommended = recommended(&scene, &mut conn, &state).await?;
    let next = gate.as_ref().map(|gate| next_command(&scene, gate));
    let sealed = if state.phase == Phase::Decommissioned {
        decommission::sealed(&mut conn, scene.name()).await?
    } else {
        Vec::new()
    };
    conn.close().await?;
    let pack = scene.name().to_owned();
    Ok(Status { pack, state, gate, recommended, next, recovered: None, sealed })
}

/// Before the cutover, a backup that is known to be one; where the pack demands it, the gate says so.
async fn recommended(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    state: &State,
) -> Result<Vec<Check>> {
    let is_demanded = scene.pack.manifest.phase.backup_max_age.is_some();
    if state.phase != Phase::Backfill || is_demanded {
        return Ok(Vec::new());
    }
    let now = scene.basis_without_sources(conn).await?;
    Ok(vec![backup::backup_check(scene, conn, &now).await?])
}

fn next_command(scene: &Scene<'_>, gate: &Gate) -> String {
    gate.missing()
        .find_map(|check| check.advice.clone())
        .unwrap_or_else(|| scene.command(&format!("phase advance --to {}", gate.to.number())))
}

/// Enters the next phase if its gate is open, or if somebody forces it.
pub async fn advance(scene: &Scene<'_>, options: &AdvanceOptions) -> Result<Advanced> {
    let mut scene = scene.clone();
    let mut conn = scene.postgres.dedicated().await?;
    lock::lock(&mut conn, scene.name()).await?;
    let advanced = advance_locked(&mut scene, &mut conn, options).await;
    lock::unlock(&mut conn, scene.name()).await;
    // A connection that broke has said so already.
    let _ = conn.close().await;
    advanced
}

async fn advance_locked(
    scene: &mut Scene<'_>,
    conn: &mut PgConnection,
    options: &AdvanceOptions,
) -> Result<Advanced> {
    crate::migrate::require_current(conn, crate::migrate::CONTROL_PACK).await?;
    recover::recover_locked(scene.postgres, conn, scene.pack).await?;
    scene.remember_roots(conn).await?;
    let state = state::current(conn, scene.name()).await?;
    match meant::standing(scene.name(), state.phase, Way::Advance, options.to)? {
        Standing::There => return Ok(Advanced::Already { state }),
        Standing::Before => {}
    }
    let Some(to) = state.phase.next() else {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the pack {} is in phase 4, the last one", scene.name()),
        ));
    };
    if options.acknowledge_none && to == Phase::Cutover && !options.dry_run {
        acknowledge(scene, conn).await?;
    }
    let gate = gate(scene, conn, &state).await?;
    if options.dry_run {
        return planned(scene, conn, gate).await;
    }
    if !gate.is_open() && options.force.is_none() {
        if gate.is_unknown() {
            return Err(unknown(&gate));
        }
        return Ok(Advanced::Refused { gate });
    }
    let mut forced = !gate.is_open();
    let kind = if forced { TransitionKind::Force } else { TransitionKind::Advance };
    if !scene.roots.is_empty() {
        let now = scene.basis(conn).await?;
        evidence::expire(conn, scene.name(), &now).await?;
        let facts = gate.evidence();
        evidence::record(conn, scene.name(), evidence::GATE, None, &facts, &now).await?;
    }
    let reason = options.force.as_deref();
    let (mut report, mut sealed, mut position) = (None, Vec::new(), None);
    let state = match to {
        Phase::Cutover => {
            let (state, done) =
                cutover::run(scene, conn, &gate, kind, reason, &options.cutover).await?;
            report = Some(Box::new(done));
            state
        }
        Phase::Decommissioned => {
            let hold_max = options.cutover.freeze_max;
            match decommission::run(scene, conn, &gate, kind, reason, hold_max).await? {
                Decommissioned::Entered { state, files, position: found } => {
                    forced |= found.as_ref().is_none_or(|found| !found.is_exact());
                    (sealed, position) = (files, found.map(Box::new));
                    state
                }
                Decommissioned::NotExact(check) => {
                    let mut gate = gate;
                    gate.checks.push(check);
                    return Ok(Advanced::Refused { gate });
                }
            }
        }
        _ => {
            let reason = reason.map(str::to_owned);
            let evidence = gate.evidence();
            let change = Transition { from: state.phase, to, kind, reason, evidence };
            state::transition(conn, scene.name(), &change).await?
        }
    };
    Ok(Advanced::Entered { state, gate, forced, cutover: report, sealed, position })
}

fn unknown(gate: &Gate) -> Error {
    let said: Vec<String> =
        gate.missing().map(|check| format!("{} {}", check.name, check.finding)).collect();
    let error =
        Error::new(ErrorKind::StoreFailed, format!("phase {}: {}", gate.to, said.join("; ")));
    match gate.missing().find_map(|check| check.advice.clone()) {
        Some(advice) => error.advice(advice),
        None => error,
    }
}

async fn planned(scene: &Scene<'_>, conn: &mut PgConnection, gate: Gate) -> Result<Advanced> {
    let steps: Vec<&'static str> = match gate.to {
        Phase::Cutover => cutover::STEPS.to_vec(),
        Phase::Decommissioned => vec![
            "write back the last changes, holding writers off for that moment",
            "compare every row of the SQLite files with Postgres as it was then",
            "change the phase in one transaction, and write down which files are to be sealed",
            "make every table of each SQLite file refuse writes",
            "take capture out, write the journal into the file, take its write permission away",
            "record its SHA-256",
            "take reverse capture out of the targets",
        ],
        _ => vec!["change the phase in one transaction"],
    };
    let mut readings = Vec::new();
    if gate.to >= Phase::Backfill
        && let Ok(opened) = scene.open().await
    {
        let files = capture::captured_files(&opened);
        readings = facts::readings(conn, scene.name(), &files).await?;
    }
    Ok(Advanced::Planned { gate, steps, readings })
}

/// Records that the streams without a way back are known.
async fn acknowledge(scene: &Scene<'_>, conn: &mut PgConnection) -> Result<()> {
    let opened = scene.open().await?;
    let none = reversal::no_way_back(&opened);
    let now = scene.basis(conn).await?;
    let facts = reversal::facts(&none);
    evidence::record(conn, scene.name(), evidence::NO_WAY_BACK, None, &facts, &now).await
}

/// What the gate to the next phase says.
async fn gate(scene: &Scene<'_>, conn: &mut PgConnection, state: &State) -> Result<Gate> {
    let to = state.phase.next().unwrap_or(state.phase);
    let checks = match state.phase {
        Phase::Bootstrap => bootstrap::checks(scene, conn).await?,
        _ => match scene.open().await {
            Ok(opened) => with_sources(scene, conn, state, opened).await?,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => vec![Check::unknown("sources", &error)],
        },
    };
    Ok(Gate { from: state.phase, to, checks })
}

async fn with_sources(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    state: &State,
    opened: Arc<OpenedPack>,
) -> Result<Vec<Check>> {
    match state.phase {
        Phase::DualWrite => Ok(vec![facts::capture_check(scene, conn, &opened).await?]),
        Phase::Backfill => to_cutover(scene, conn, state, &opened).await,
        _ => to_decommission(scene, conn, state).await,
    }
}

async fn to_cutover(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    state: &State,
    opened: &OpenedPack,
) -> Result<Vec<Check>> {
    let now = scene.basis(conn).await?;
    let files = capture::captured_files(opened);
    let readings = facts::readings(conn, scene.name(), &files).await?;
    let mut checks = vec![
        facts::followed_check(scene, &readings),
        facts::backfill_check(scene, conn, opened).await?,
        facts::rejects_check(scene, conn).await?,
        facts::parity_check(scene, conn, &now, Some(state)).await?,
        way_back_check(scene, conn, opened, &now).await?,
    ];
    let is_verified =
        checks.iter().any(|check| check.name == "parity" && check.verdict == Verdict::Met);
    if is_verified {
        checks.push(facts::uncompared_check(scene, conn, &files).await?);
    }
    checks.extend(facts::gap_check(scene, &readings));
    if scene.pack.manifest.phase.backup_max_age.is_some() {
        checks.push(backup::backup_check(scene, conn, &now).await?);
    }
    Ok(checks)
}

/// Every stream without a way back to `SQLite` is acknowledged.
async fn way_back_check(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    opened: &OpenedPack,
    now: &super::Basis,
) -> Result<Check> {
    let none = reversal::no_way_back(opened);
    let facts = reversal::facts(&none);
    if none.is_empty() {
        return Ok(Check::met("way_back", "every stream can be written back to SQLite").with(facts));
    }
    let known = evidence::list(conn, scene.name(), evidence::NO_WAY_BACK, now).await?;
    let is_known = known.iter().any(|known| {
        known.basis.as_ref().is_some_and(|b| b.pack_fingerprint == now.pack_fingerprint)
            && known.facts == facts
    });
    if is_known {
        let finding = format!("without a way back, acknowledged: {}", none.join("; "));
        return Ok(Check::met("way_back", finding).with(facts));
    }
    Ok(Check::missing(
        "way_back",
        format!("a rollback after the cutover will not bring back: {}", none.join("; ")),
        scene.command("phase advance --to 3 --acknowledge-none"),
    )
    .with(facts))
}

async fn to_decommission(
    scene: &Scene<'_>,
    conn: &mut PgConnection,
    state: &State,
) -> Result<Vec<Check>> {
    let now = scene.basis(conn).await?;
    let window = scene.pack.manifest.phase.release_window.as_secs_f64();
    let passed = state.seconds_in_phase.unwrap_or_default();
    let facts = json!({ "seconds": passed, "wanted_seconds": window });
    let waited = if passed >= window {
        let finding = format!("the release window of {} has passed", span(window));
        Check::met("window", finding)
    } else {
        Check::missing(
            "window",
            format!("{} of the release window of {} are left", span(window - passed), span(window)),
            "wait; until then `toolkit phase rollback --to 2` loses nothing",
        )
    };
    let status = reverse::status(conn, scene.name()).await?;
    let (lag, rejects) = (status.lag_changes, status.rejects);
    let reverse_facts = json!({ "changes": lag, "rejects": rejects, "missing": status.missing });
    let reverse = if rejects > 0 {
        Check::missing(
            "reverse",
            format!("{} could not be written back to SQLite", counted(rejects, "row")),
            format!("toolkit dual-write reverse rejects --pack {}", scene.name()),
        )
    } else if !status.missing.is_empty() {
        Check::missing(
            "reverse",
            format!("changes are missed: no capture in {}", status.missing.join(", ")),
            scene.command("dual-write reverse enable"),
        )
    } else {
        let finding = match lag {
            0 => "every change in Postgres is written back to SQLite".to_owned(),
            lag => format!(
                "{} in Postgres wait to be written back; the seal does that first",
                counted(lag, "change")
            ),
        };
        Check::met("reverse", finding)
    };
    Ok(vec![
        waited.with(facts),
        facts::parity_check(scene, conn, &now, Some(state)).await?,
        reverse.with(reverse_facts),
    ])
}

/// Seconds as people say them.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s >= 172_800.0 => format!("{:.1} days", s / 86_400.0),
        s if s >= 7_200.0 => format!("{:.1} hours", s / 3_600.0),
        s if s >= 120.0 => format!("{:.1} minutes", s / 60.0),
        s => format!("{s:.0} seconds"),
    }
}
