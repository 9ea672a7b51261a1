//! `toolkit embedded`: the private cluster.

use std::ffi::OsString;

use clap::Subcommand;
use serde::Serialize;

use super::output::facts;
use super::{Outcome, Output, Report};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::store::embedded::{Embedded, Status, Stopped};

/// Arguments of `toolkit embedded`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The cluster lives under the state folder (--state-dir), listens on a Unix socket in a private
folder, and has one database, `toolkit`. Commands start it on demand and stop it after the last
of them; `start` keeps it up in between, which saves a second per command.

Examples:
  toolkit embedded start                       keep a server up
  toolkit embedded start --listen-port 5499    ... and reachable at 127.0.0.1:5499
  toolkit embedded psql                        an interactive session
  toolkit embedded psql -- -Atc 'SELECT 1'     one query; what follows -- is psql's
  toolkit embedded stop                        stop it once nobody uses it")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the server and keep it up until `stop`
    Start {
        /// Also listen on 127.0.0.1 at this TCP port
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
        listen_port: Option<u16>,
    },
    /// Stop the server, now if nobody uses it, else with the last command that does
    Stop {
        /// Stop at once, ending the sessions of commands that use it
        #[arg(long)]
        now: bool,
    },
    /// Show whether it runs, where, and who keeps it up; starts nothing
    Status,
    /// Open psql on it, starting it if needed
    Psql {
        /// Arguments for psql
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PSQL ARGUMENTS")]
        arguments: Vec<OsString>,
    },
}

/// Runs `toolkit embedded`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let embedded = Embedded::new(settings);
    match args.action {
        Action::Start { listen_port } => output.report(&embedded.start(listen_port).await?)?,
        Action::Stop { now } => {
            output.report(&StopReport { outcome: embedded.stop(now).await? })?;
        }
        Action::Status => output.report(&embedded.status().await?)?,
        Action::Psql { arguments } => psql(&embedded, arguments, output).await?,
    }
    Ok(Outcome::Success)
}

/// A child, not `exec`: the lease is given back, and the server stopped, after psql.
async fn psql(embedded: &Embedded, arguments: Vec<OsString>, output: &Output) -> Result<()> {
    let lease = embedded.acquire().await?;
    output.stop().mute(true);
    let ended = tokio::process::Command::new("psql")
        .args(arguments)
        .envs(lease.client_environment())
        .status()
        .await;
    output.stop().mute(false);
    lease.release().await?;
    let status = ended.map_err(|e| {
        Error::new(ErrorKind::Io, "psql cannot be run")
            .because(e)
            .advice("install it (Debian, Ubuntu: `apt-get install postgresql-client`)")
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::StoreFailed, format!("psql ended with {status}")))
}

impl Report for Status {
    fn text(&self) -> String {
        let state = match (self.running, self.kept, self.in_use) {
            (false, ..) => "stopped",
            (true, true, _) => "running, kept up until `toolkit embedded stop`",
            (true, false, true) => "running until the commands that use it end",
            (true, false, false) => "running, left by a killed command; the next one stops it",
        };
        let mut lines = vec![("server", state.to_owned())];
        if let Some(pid) = self.pid {
            lines.push(("process", pid.to_string()));
            lines.push(("socket folder", self.socket_folder.display().to_string()));
        }
        if let Some(port) = self.listen_port {
            lines.push(("listens at", format!("127.0.0.1:{port}")));
        }
        lines.push(("data folder", self.data_folder.display().to_string()));
        lines.push(("log", self.log_file.display().to_string()));
        facts(lines)
    }
}

#[derive(Serialize)]
struct StopReport {
    outcome: Stopped,
}

impl Report for StopReport {
    fn text(&self) -> String {
        match self.outcome {
            Stopped::Stopped => "stopped",
            Stopped::WasNotRunning => "it was not running",
            Stopped::WhenUnused => "in use; it stops with the last command that uses it",
        }
        .to_owned()
    }
}
