//! What can happen to a command and its server, and how each is done.

use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::cluster::Cluster;

/// Longest a command may take to end after a blow: it waits for a server for 12 seconds, and may
/// wait for a lock for 30.
const END_MAX: Duration = Duration::from_mins(3);

/// One thing that happens at a random moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// kill -9 of the command.
    KillTool,
    /// kill -9 of the postmaster; started again after a while.
    KillServer,
    /// kill -9 of one of the command's server processes: crash recovery.
    KillBackend,
    /// kill -9 of the command and the postmaster at once.
    KillBoth,
    /// `pg_ctl stop -m immediate`, then start.
    StopImmediate,
    /// `pg_ctl stop -m fast`, then start.
    Restart,
    /// `pg_terminate_backend` of all its sessions.
    Terminate,
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Hangup,
    /// SIGSTOP; the same command a second time beside it; SIGCONT.
    Freeze,
    /// SIGSTOP; its sessions are terminated; the same command a second time, which takes over;
    /// SIGCONT.
    TakeOver,
}

impl Blow {
    const ALL: [(Self, u32); 11] = [
        (Self::KillTool, 6),
        (Self::KillServer, 2),
        (Self::KillBackend, 2),
        (Self::KillBoth, 1),
        (Self::StopImmediate, 1),
        (Self::Restart, 2),
        (Self::Terminate, 3),
        (Self::Interrupt, 1),
        (Self::Hangup, 1),
        (Self::Freeze, 1),
        (Self::TakeOver, 2),
    ];

    /// One by its weight.
    pub(crate) fn draw(dice: &mut ChaCha8Rng) -> Self {
        let total = Self::ALL.iter().map(|(_, weight)| weight).sum();
        let mut left = dice.random_range(0..total);
        for (blow, weight) in Self::ALL {
            if left < weight {
                return blow;
            }
            left -= weight;
        }
        Self::KillTool
    }

    /// Whether the command itself dies of it.
    pub(crate) fn kills_command(self) -> bool {
        matches!(self, Self::KillTool | Self::KillBoth)
    }

    /// Strikes. `second` runs the same command again, to its end.
    pub(crate) async fn strike(
        self,
        cluster: &Cluster,
        database: &str,
        child: &Child,
        dice: &mut ChaCha8Rng,
        second: impl FnOnce(),
    ) {
        let away = Duration::from_millis(dice.random_range(0..1500));
        match self {
            Self::KillTool => signal(child, Signal::SIGKILL),
            Self::Interrupt => signal(child, Signal::SIGINT),
            Self::Hangup => signal(child, Signal::SIGTERM),
            Self::KillServer => {
                cluster.kill();
                sleep(away);
                cluster.start();
            }
            Self::KillBoth => {
                cluster.kill();
                signal(child, Signal::SIGKILL);
                cluster.start();
            }
            Self::KillBackend => {
                let query = format!(
                    "SELECT pid::text FROM pg_stat_activity WHERE datname = '{database}' \
                     AND application_name = 'toolkit' LIMIT 1"
                );
                if let Ok(pid) = cluster.line("postgres", &query).await.parse() {
                    Cluster::kill_process(pid);
                }
            }
            Self::StopImmediate => {
                cluster.stop("immediate");
                sleep(away);
                cluster.start();
            }
            Self::Restart => {
                cluster.stop("fast");
                sleep(away);
                cluster.start();
            }
            Self::Terminate => terminate(cluster, database).await,
            Self::Freeze => {
                signal(child, Signal::SIGSTOP);
                second();
                signal(child, Signal::SIGCONT);
            }
            Self::TakeOver => {
                signal(child, Signal::SIGSTOP);
                terminate(cluster, database).await;
                second();
                signal(child, Signal::SIGCONT);
            }
        }
    }
}

async fn terminate(cluster: &Cluster, database: &str) {
    let query = format!(
        "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
         WHERE datname = '{database}' AND application_name = 'toolkit'"
    );
    cluster.lines("postgres", &query).await;
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
}

/// Waits for the end of a command; one that hangs is a failure.
pub(crate) fn end_of(child: &mut Child, what: &str) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > END_MAX {
            let _ = child.kill();
            panic!("{what}: hangs");
        }
        sleep(Duration::from_millis(5));
    }
}
