//! Rounds of blows against a scenario, drawn from a seed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::blow::{Blow, end_of};
use super::cluster::Cluster;

/// A piece of work that may be struck at any moment and run again, with the same result.
pub(crate) trait Scenario {
    /// The server it works with.
    fn cluster(&self) -> &Cluster;
    /// Its database there.
    fn database(&self) -> &str;
    /// A folder for what commands say.
    fn folder(&self) -> &Path;
    /// Makes everything as it is before the work.
    async fn begin(&mut self);
    /// The work: a command that does it, or what is left of it.
    fn command(&self) -> Command;
    /// What the command exits with once the work is done.
    fn exit_code(&self) -> i32;
    /// Fails unless everything is as an undisturbed run leaves it.
    async fn audit(&self);
}

/// How hard, and from which seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kills: u32,
    pub(crate) seed: u64,
}

/// The seed of every plain test run.
const SEED_DEFAULT: u64 = 20_261_121;

impl Plan {
    /// `TOOLKIT_TORTURE_KILLS` (else `kills`) and `TOOLKIT_TORTURE_SEED` (else drawn, but for the
    /// few kills of every test run, which a gate should be able to repeat).
    pub(crate) fn of_environment(kills: u32) -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let asked = number("TOOLKIT_TORTURE_KILLS");
        let drawn = || if asked.is_some() { rand::rng().random() } else { SEED_DEFAULT };
        let seed = number("TOOLKIT_TORTURE_SEED").unwrap_or_else(drawn);
        let kills = asked.map_or(kills, |n| u32::try_from(n).unwrap());
        Self { kills, seed }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rounds: u32,
    pub(crate) kills: BTreeMap<Blow, u32>,
    /// Commands that had ended before the blow came.
    pub(crate) missed: u32,
    /// Struck commands that did their work to the end nevertheless.
    pub(crate) survived: u32,
}

impl Tally {
    pub(crate) fn total(&self) -> u32 {
        self.kills.values().sum()
    }
}

/// Strikes until the plan is fulfilled. Every round begins afresh, is struck one to ten times
/// with a run after each blow, ends with an undisturbed run, and is audited.
#[expect(clippy::print_stderr, reason = "a failure is replayed by its seed")]
pub(crate) async fn torture(scenario: &mut impl Scenario, plan: Plan) -> Tally {
    eprintln!("seed {} (TOOLKIT_TORTURE_SEED)", plan.seed);
    let begun = Instant::now();
    let mut tally = Tally::default();
    let calm = calm_run(scenario).await;
    eprintln!("undisturbed: {} ms", calm.as_millis());
    while tally.total() < plan.kills {
        // A round's dice are its own: rounds before it do not shift them.
        let mut dice = ChaCha8Rng::seed_from_u64(plan.seed ^ u64::from(tally.rounds));
        tally.rounds += 1;
        scenario.begin().await;
        let blows = dice.random_range(1..=10).min(plan.kills - tally.total());
        for _ in 0..blows {
            let blow = Blow::draw(&mut dice);
            struck_run(scenario, blow, calm, &mut dice, &mut tally).await;
        }
        undisturbed(scenario);
        scenario.audit().await;
        if plan.kills > 10 {
            eprintln!(
                "round {}: {} of {} kills {:?}, {} too late, {} survived, {} s",
                tally.rounds,
                tally.total(),
                plan.kills,
                tally.kills,
                tally.missed,
                tally.survived,
                begun.elapsed().as_secs()
            );
        }
    }
    tally
}

/// How long the work takes when nothing happens; also the check of the scenario itself.
async fn calm_run(scenario: &mut impl Scenario) -> Duration {
    scenario.begin().await;
    let begun = Instant::now();
    undisturbed(scenario);
    let calm = begun.elapsed();
    scenario.audit().await;
    calm
}

async fn struck_run(
    scenario: &impl Scenario,
    blow: Blow,
    calm: Duration,
    dice: &mut ChaCha8Rng,
    tally: &mut Tally,
) {
    let said = scenario.folder().join("struck.log");
    let mut child = spawn(scenario.command(), &said);
    let moment = dice.random_range(0.0..1.05);
    sleep(calm.mul_f64(moment));
    if child.try_wait().unwrap().is_some() {
        tally.missed += 1;
    } else {
        *tally.kills.entry(blow).or_default() += 1;
    }
    let second = || {
        let said = scenario.folder().join("second.log");
        let mut second = spawn(scenario.command(), &said);
        let status = end_of(&mut second, "the second command");
        assert_ended_well(scenario, status.code(), blow, &said);
    };
    blow.strike(scenario.cluster(), scenario.database(), &child, dice, second).await;
    let status = end_of(&mut child, &format!("the command after {blow:?}"));
    if blow.kills_command() && status.code().is_none() {
        return;
    }
    assert_ended_well(scenario, status.code(), blow, &said);
    if status.code() == Some(scenario.exit_code()) {
        tally.survived += 1;
    }
}

/// A struck command did its work, or says with exit code 2 what to do.
fn assert_ended_well(scenario: &impl Scenario, code: Option<i32>, blow: Blow, said: &Path) {
    let text = std::fs::read_to_string(said).unwrap_or_default();
    assert!(!text.contains("panicked"), "{blow:?}: {text}");
    if code == Some(scenario.exit_code()) {
        return;
    }
    // A second Ctrl-C, which nobody sent, would be 130.
    assert_eq!(code, Some(2), "{blow:?}: {text}");
    assert!(text.contains("help: "), "{blow:?}, no advice: {text}");
}

fn undisturbed(scenario: &impl Scenario) {
    let said = scenario.folder().join("undisturbed.log");
    // The sessions of a killed command may live for moments.
    for pause_ms in [0, 200, 1000, 5000] {
        sleep(Duration::from_millis(pause_ms));
        let mut child = spawn(scenario.command(), &said);
        let status = end_of(&mut child, "the undisturbed command");
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        if text.contains("another backfill of the pack") {
            continue;
        }
        assert_eq!(status.code(), Some(scenario.exit_code()), "undisturbed: {text}");
        return;
    }
    panic!("the lock of a killed command stays");
}

fn spawn(mut command: Command, said: &Path) -> Child {
    let file = File::create(said).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap()
}
