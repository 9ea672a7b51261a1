//! The shop: its application, its operator, and the blows both have to live with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::{binary, cleaned, copy_program, stderr, stdout};
use crate::torture::cluster::Cluster;

const TEMPLATE: &str = "migrated";
pub(super) const DATABASE: &str = "shop";

/// Orders that are there before anything is captured.
const HISTORY: i64 = 1_500;

/// Times one command is struck before it is left alone.
const STRIKES_MAX: u32 = 2;

/// How long anything may take; a loaded machine is slow.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// What the application exits with at the fence.
const FENCED: i32 = 3;

/// Which language the application is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Application {
    Rust,
    Python,
}

pub(super) fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok()
}

/// What was struck, and how often.
#[derive(Debug, Default)]
pub(super) struct Tally {
    blows: BTreeMap<String, u32>,
    /// Commands that had ended before the blow came.
    too_late: u32,
}

impl Tally {
    fn count(&mut self, what: &str) {
        *self.blows.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn total(&self) -> u32 {
        self.blows.values().sum()
    }
}

/// A process that is ended with the test.
struct Running {
    /// What is counted when it is killed.
    what: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(what: &'static str, mut command: Command, log: &Path) -> Self {
        let file = File::options().append(true).create(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { what, child: command.spawn().unwrap(), log: log.to_owned() }
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How, if it has.
    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// See the module.
pub(super) struct Shop {
    pub(super) cluster: Cluster,
    written_in: Application,
    folder: tempfile::TempDir,
    dice: ChaCha8Rng,
    rate: u32,
    round: u32,
    /// Whether the application is, or was, the one that lives on after cutover.
    is_moved: bool,
    /// Whether nobody follows, because a command does that itself.
    is_alone: bool,
    application: Option<Running>,
    follower: Option<Running>,
    pub(super) tally: Tally,
}

impl Shop {
    pub(super) async fn new(written_in: Application) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_program(&binary(), &folder.path().join("toolkit"));
        copy_program(&example(), &folder.path().join("steady_writer"));
        let cluster = Cluster::start_new(&[]);
        cluster.make_database(TEMPLATE, None).await;
        let this = Self {
            cluster,
            written_in,
            folder,
            dice: ChaCha8Rng::seed_from_u64(0),
            rate: 0,
            round: 0,
            is_moved: false,
            is_alone: false,
            application: None,
            follower: None,
            tally: Tally::default(),
        };
        let mut migrate = this.tool_in(TEMPLATE);
        migrate.args(["migrate", "up", "--pack", "shop", "--dir"]).arg(pack());
        let done = migrate.output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        this
    }

    /// A new shop with some history, and new dice.
    pub(super) async fn begin(&mut self, dice: ChaCha8Rng) {
        (self.application, self.follower) = (None, None);
        self.dice = dice;
        self.round += 1;
        self.is_moved = false;
        self.cluster.make_database(DATABASE, Some(TEMPLATE)).await;
        fs::create_dir(self.source()).unwrap();
        let file = rusqlite::Connection::open(self.sqlite()).unwrap();
        let script = fs::read_to_string(examples().join("steady_writer.py")).unwrap();
        let tables = script.split("\"\"\"").nth(3).unwrap();
        file.execute_batch(tables).unwrap();
        file.execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HISTORY}) \
             INSERT INTO orders SELECT i, 'customer ' || i % 97, 100, 1, \
             '2026-01-01T00:00:00.000Z', NULL FROM n; \
             INSERT INTO lines SELECT id, 1, 'tea', 2 FROM orders"
        ))
        .unwrap();
        let journal: String = (1..=HISTORY)
            .flat_map(|id| [format!("? i {id} 1\n"), format!("! i {id} 1\n")])
            .collect();
        fs::write(self.journal(), journal).unwrap();
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join(format!("source-{}", self.round))
    }

    pub(super) fn sqlite(&self) -> PathBuf {
        self.source().join("shop.sqlite")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.folder.path().join(format!("journal-{}", self.round))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}-{}.log", self.round))
    }

    fn tool_in(&self, database: &str) -> Command {
        let mut command = cleaned(Command::new(self.folder.path().join("toolkit")));
        command
            .args(["--database-url", &self.cluster.url(database), "--state-dir"])
            .arg(self.folder.path().join("state"))
            .current_dir(self.folder.path());
        command
    }

    /// A command of the operator: `phase advance`.
    fn tool(&self, words: &str, more: &[&str]) -> Command {
        let mut command = self.tool_in(DATABASE);
        command.args(words.split(' ')).arg("--pack").arg(pack());
        if words != "phase history" {
            command.arg("--source").arg(self.source());
        }
        command.args(more);
        command
    }

    fn run(&self, words: &str, more: &[&str]) -> Output {
        self.tool(words, more).output().unwrap()
    }

    /// Runs a command that nothing disturbs.
    pub(super) fn succeeds(&mut self, words: &str) {
        let done = self.run(words, &[]);
        assert_eq!(done.status.code(), Some(0), "{words}: {}{}", stdout(&done), stderr(&done));
    }

    async fn phase(&self) -> i16 {
        let query =
            "SELECT coalesce((SELECT phase FROM toolkit.phase WHERE pack = 'shop'), 0)::text";
        self.cluster.line(DATABASE, query).await.parse().unwrap()
    }

    /// Runs a command that may be struck, until the pack is in that phase.
    pub(super) async fn until_reached(&mut self, words: &str, phase: i16) {
        let begun = Instant::now();
        let mut strikes = 0;
        // These write the rest back themselves, and let nobody else do it meanwhile.
        self.is_alone = words == "phase rollback" || phase == 4;
        self.tend().await;
        loop {
            let said = self.struck(words, &[], &mut strikes).await;
            if self.phase().await == phase {
                self.is_alone = false;
                println!("  {words}: phase {phase} after {} ms", begun.elapsed().as_millis());
                // What a killed command left half done is completed by the next look at it.
                let status = self.run("phase status", &[]);
                assert_ne!(status.status.code(), Some(2), "{}", stderr(&status));
                return;
            }
            self.tend().await;
            assert!(begun.elapsed() < WAIT_MAX, "{words}: phase {phase} is not reached: {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Runs a command that may be struck, until it succeeds.
    pub(super) async fn until_succeeds(&mut self, words: &str, more: &[&str]) {
        let begun = Instant::now();
        let mut strikes = 0;
        loop {
            let said = self.struck(words, more, &mut strikes).await;
            if said.starts_with("0\n") {
                println!("  {words}: after {} ms", begun.elapsed().as_millis());
                return;
            }
            self.tend().await;
            assert!(begun.elapsed() < WAIT_MAX, "{words} does not succeed: {said}");
        }
    }

    /// One run of a command, with something happening to it, or beside it, at a random moment.
    async fn struck(&mut self, words: &str, more: &[&str], strikes: &mut u32) -> String {
        let log = self.log("operator");
        let _ = fs::remove_file(&log);
        let mut command = Running::start("command", self.tool(words, more), &log);
        if *strikes < STRIKES_MAX && self.dice.random_bool(0.7) {
            *strikes += 1;
            let moment = Duration::from_millis(self.dice.random_range(0..900));
            tokio::time::sleep(moment).await;
            let is_late = command.has_ended().is_some();
            match self.dice.random_range(0..10) {
                0..6 if is_late => self.tally.too_late += 1,
                0..6 => {
                    command.kill();
                    self.tally.count(words);
                }
                6 => self.restart_server().await,
                7 => self.kill_application(),
                _ => self.kill_follower(),
            }
        }
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = command.has_ended() {
                break status.code();
            }
            assert!(begun.elapsed() < WAIT_MAX, "{words} hangs: {}", command.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.tend().await;
        let code = code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
        format!("{code}\n{}", command.said())
    }

    /// Whoever takes part is killed or restarted, one after the other.
    pub(super) async fn disturb(&mut self) {
        self.kill_application();
        self.kill_follower();
        self.restart_server().await;
        self.tend().await;
    }

    async fn restart_server(&mut self) {
        if self.dice.random_bool(0.5) {
            self.cluster.stop("immediate");
            self.tally.count("server, stopped");
        } else {
            self.cluster.kill();
            self.tally.count("server");
        }
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..300))).await;
        self.cluster.start();
    }

    fn kill_application(&mut self) {
        if let Some(mut application) = self.application.take() {
            if application.has_ended().is_none() {
                self.tally.count("application");
            }
            application.kill();
        }
    }

    fn kill_follower(&mut self) {
        if let Some(mut follower) = self.follower.take() {
            if follower.has_ended().is_none() {
                self.tally.count(follower.what);
            }
            follower.kill();
        }
    }

    /// Starts again what was killed, as an operator's service manager does; and the new version of
    /// an application that stopped at the fence, once the cutover is done.
    async fn tend(&mut self) {
        let phase = self.phase().await;
        self.is_moved = phase >= 3;
        let ended = self.application.as_mut().and_then(Running::has_ended);
        if let Some(code) = ended {
            let may_end = self.written_in == Application::Python && code.code() == Some(FENCED);
            let said = self.application.as_ref().map(Running::said).unwrap_or_default();
            assert!(
                may_end || code.code().is_none(),
                "the application ended with {code:?}: {said}"
            );
            self.application = None;
        }
        if self.application.is_none() {
            self.launch();
        }
        if self.is_alone {
            self.kill_follower();
        } else if self.follower.as_mut().is_none_or(|follower| follower.has_ended().is_some()) {
            self.follow(phase);
        }
    }

    fn launch(&mut self) {
        let is_python = self.written_in == Application::Python && !self.is_moved;
        let mut command = if is_python {
            let mut command = Command::new("python3");
            command.arg(examples().join("steady_writer.py"));
            command
        } else {
            let mut command = cleaned(Command::new(self.folder.path().join("steady_writer")));
            command.args(["--database-url", &self.cluster.url(DATABASE)]);
            if self.round.is_multiple_of(2) {
                command.arg("--apply").arg(pack());
            }
            command
        };
        let seed: u32 = self.dice.random();
        command.arg("--file").arg(self.sqlite()).arg("--journal").arg(self.journal()).args([
            "--rate",
            &self.rate.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        self.application = Some(Running::start("application", command, &self.log("application")));
    }

    /// The tail before the cutover, the reverse apply after it.
    fn follow(&mut self, phase: i16) {
        let words = if phase >= 3 { "dual-write reverse run" } else { "dual-write run" };
        let command = self.tool(words, &[]);
        self.follower =
            (1..=3).contains(&phase).then(|| Running::start(words, command, &self.log("follower")));
    }

    /// Starts it, and waits until it writes.
    pub(super) async fn start_application(&mut self, rate: u32) {
        self.rate = rate;
        self.launch();
        self.until_more_is_acknowledged(50).await;
    }

    pub(super) fn start_tail(&mut self) {
        self.follow(1);
    }

    pub(super) fn acknowledged(&self) -> u64 {
        super::journal::read(&self.journal()).1
    }

    async fn until_more_is_acknowledged(&mut self, more: u64) {
        let (begun, before) = (Instant::now(), self.acknowledged());
        while self.acknowledged() < before + more {
            self.tend().await;
            let said = self.application.as_ref().map(Running::said).unwrap_or_default();
            assert!(begun.elapsed() < WAIT_MAX, "nothing is written: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reverse apply instead of the tail; the application goes on in Postgres.
    pub(super) async fn after_cutover(&mut self) {
        self.kill_follower();
        self.until_more_is_acknowledged(100).await;
        self.disturb().await;
        self.until_more_is_acknowledged(100).await;
    }

    /// The tail instead of the reverse apply; the application goes on in SQLite.
    pub(super) async fn after_rollback(&mut self) {
        self.kill_follower();
        if self.written_in == Application::Python {
            self.kill_application();
        }
        self.until_more_is_acknowledged(100).await;
    }

    /// A full verification while the application goes on writing, and whoever follows follows.
    pub(super) async fn verify_beside_the_application(&mut self) {
        self.tend().await;
        let before = self.acknowledged();
        let verified = self.run("verify-parity", &[]);
        assert_eq!(verified.status.code(), Some(0), "{}{}", stdout(&verified), stderr(&verified));
        assert!(self.acknowledged() > before, "nothing was written meanwhile");
    }

    /// The application ends as it was told to; whoever follows catches up and ends.
    pub(super) async fn end(&mut self) {
        self.tend().await;
        let mut application = self.application.take().unwrap();
        application.signal(Signal::SIGTERM);
        let begun = Instant::now();
        while application.has_ended().is_none() {
            assert!(begun.elapsed() < WAIT_MAX, "it does not end: {}", application.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.kill_follower();
        let follow = match self.phase().await {
            3 => "dual-write reverse run",
            4 => return,
            _ => "dual-write run",
        };
        let done = self.run(follow, &["--until-caught-up"]);
        assert_eq!(done.status.code(), Some(0), "{}{}", stdout(&done), stderr(&done));
    }

    pub(super) fn assert_parity(&self) {
        let verified = self.run("verify-parity", &["--independent"]);
        assert_eq!(verified.status.code(), Some(0), "{}{}", stdout(&verified), stderr(&verified));
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn pack() -> PathBuf {
    examples().join("shop")
}

/// `cargo test` builds it beside the binary.
fn example() -> PathBuf {
    let built = binary().parent().unwrap().join("examples/steady_writer");
    assert!(built.exists(), "`cargo build --example steady_writer` comes first");
    built
}
