//! Arguments, output, one file per command; the only place that prints.
//!
//! # Adding a command
//!
//! 1. `src/cli/<command>.rs` with `pub struct Args` (clap) and
//!    `pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome>`;
//! 2. a `pub mod`, a variant of [`Command`] and an arm of [`Command::run`] here.
//!
//! Exit codes: 0 success, 1 differences or rejects, 2 could not run (130 when a second Ctrl-C
//! ends the process at once).

pub mod backfill;
mod backfill_documents;
pub mod bench;
pub mod certificate;
pub mod copy;
pub mod dedup;
pub mod demo;
mod demo_anime;
pub mod doctor;
pub mod dual_write;
pub mod embedded;
pub mod export;
pub mod grants;
pub mod graph;
pub mod import;
pub mod init;
pub mod ledger;
pub mod maintain;
pub mod media;
pub mod migrate;
pub mod outbox;
pub mod output;
pub mod pack;
pub mod parity;
mod parity_text;
pub mod phase;
pub mod ping;
pub mod rejects;
pub mod repair;
pub mod resolve;
pub mod reverse;
pub mod review;
pub mod run;
pub mod sidecar;
pub mod verify_parity;

mod manners;
mod migrate_lint;
mod preflight;
mod progress;
mod query;
mod record;
mod rejects_retry;
mod report_file;
mod self_test;
mod signals;
mod verify_documents;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

pub use self::output::{Output, Report};
use crate::config::{Flags, Format, LogFormat, Settings, Surroundings};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;

/// How a command that ran to its end turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it should be: exit 0.
    Success,
    /// Stores differ, or records were rejected: exit 1.
    Differences,
}

impl Outcome {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Success => ExitCode::SUCCESS,
            Self::Differences => ExitCode::from(1),
        }
    }
}

/// Could not run; also clap's for usage errors.
const EXIT_FAILED: u8 = 2;

/// Move application state from SQLite, JSON and CSV into PostgreSQL, and prove nothing was lost
#[derive(Debug, Parser)]
#[command(version, max_term_width = 104, after_help = EXIT_CODES, after_long_help = INTRODUCTION)]
#[command(subcommand_required = true, arg_required_else_help = false)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 success, 1 differences or rejects, 2 could not run. --help says more.";

const INTRODUCTION: &str = "\
Without --database-url or DATABASE_URL, toolkit makes and runs a private PostgreSQL cluster under
.toolkit (as root: under /var/lib/toolkit), and stops it when no command uses it any more.

Settings come from flags, then the environment, then toolkit.toml here (or --config FILE):

  database_url = \"postgres://app@db.example:5432/app?sslmode=verify-full\"
  state_dir = \".toolkit\"
  format = \"table\"                # or \"json\"
  log_format = \"text\"             # or \"json\"
  statement_timeout_ms = 0        # 0: no limit
  lock_timeout_ms = 30000
  connect_timeout_ms = 10000
  connections_max = 8

Exit codes:
  0  success; nothing differs, nothing was rejected
  1  it ran to its end, and found differences or rejected records
  2  it could not run, or was stopped

Ctrl-C stops after the current step, and what was finished is kept; a second one stops at once.

Examples:
  toolkit embedded start                       a private server that stays up
  toolkit --format json embedded status        its state, for a program
  toolkit embedded psql -- -c 'SELECT 1'       ask it something";

#[derive(Debug, Subcommand)]
enum Command {
    /// A SQLite file into Postgres in one line: tables, keys, rows, and the proof
    Copy(copy::Args),
    /// Write a commented toolkit.toml here and, from a SQLite file, a first pack
    Init(init::Args),
    /// The whole job on generated data, told step by step
    Demo(demo::Args),
    /// Find what stands in the way: server, machine, source files, phase
    Doctor(doctor::Args),
    /// The private PostgreSQL cluster: start, stop, look at it, talk to it
    Embedded(embedded::Args),
    /// Bring the target's schema up to date, or say how it stands
    Migrate(migrate::Args),
    /// Move history from SQLite, JSON and CSV into Postgres, in resumable chunks
    Backfill(backfill::Args),
    /// Changes of artifacts that wait for a person: list, show, accept, reject
    Review(review::Args),
    /// Characters that may be one: propose, review, merge, undo
    Dedup(dedup::Args),
    /// Let relations find targets that were stored after them
    Resolve(resolve::Args),
    /// The ingestion state as a file beside an artifact: write, check, restore
    Sidecar(sidecar::Args),
    /// Records that could not be stored: list, show, export, acknowledge
    Rejects(rejects::Args),
    /// Values stored changed and records a rule left out: list, show
    Ledger(ledger::Args),
    /// Capture changes in the SQLite files and apply them to Postgres while the application runs
    DualWrite(dual_write::Args),
    /// Prove that the target holds what the source holds, or name each difference
    VerifyParity(verify_parity::Args),
    /// Verifications made before: show one again, or write it as a page
    Parity(parity::Args),
    /// Check later whether what was proved still holds
    Certificate(certificate::Args),
    /// Bring changes to the Qdrant collection: follow, drain, rebuild
    Outbox(outbox::Args),
    /// Where a pack stands between SQLite and Postgres: status, advance, rollback, history, accept
    Phase(phase::Args),
    /// What runs here: list, show, pause, resume, stop
    Run(run::Args),
    /// Make differences good: a plan to review, then its execution
    Repair(repair::Args),
    /// Ask a question that a pack's documents ask, by name
    Query(query::Args),
    /// Bounded questions to the graph of anime: neighbors, k-hop, path, compare, lineage
    Graph(graph::Args),
    /// The least rights an application's role needs: print, give, check
    Grants(grants::Args),
    /// A pack's tables as a portable archive: JSON lines, CSV or SQLite, with digests
    Export(export::Args),
    /// Bring an archive into an empty database, and prove that it arrived
    Import(import::Args),
    /// Measure on your own data: graph
    Bench(bench::Args),
    /// Make partitions ahead, remove what retention no longer keeps, report what waits
    Maintain(maintain::Args),
    /// What only the media tracker's database needs: more partitions
    Media(media::Args),
    /// Now `dual-write reverse`
    #[command(hide = true)]
    Reverse(reverse::Args),
    /// Show a pack's mapping, or check it against the database and the sources
    Pack(pack::Args),
    /// Reach the server the settings name, and show what it is
    Ping(ping::Args),
}

impl Command {
    async fn run(self, settings: &Settings, output: &Output) -> Result<Outcome> {
        match self {
            Self::Copy(args) => copy::run(args, settings, output).await,
            Self::Init(args) => init::run(args, output).await,
            Self::Demo(args) => Box::pin(demo::run(args, settings, output)).await,
            Self::Doctor(args) => doctor::run(args, settings, output).await,
            Self::Embedded(args) => embedded::run(args, settings, output).await,
            Self::Migrate(args) => migrate::run(args, settings, output).await,
            Self::Backfill(args) => backfill::run(args, settings, output).await,
            Self::Review(args) => review::run(args, settings, output).await,
            Self::Dedup(args) => dedup::run(args, settings, output).await,
            Self::Resolve(args) => resolve::run(args, settings, output).await,
            Self::Sidecar(args) => sidecar::run(args, settings, output).await,
            Self::Rejects(args) => rejects::run(args, settings, output).await,
            Self::Ledger(args) => ledger::run(args, settings, output).await,
            Self::DualWrite(args) => dual_write::run(args, settings, output).await,
            Self::VerifyParity(args) => Box::pin(verify_parity::run(args, settings, output)).await,
            Self::Parity(args) => parity::run(args, settings, output).await,
            Self::Certificate(args) => certificate::run(args, settings, output).await,
            Self::Outbox(args) => outbox::run(args, settings, output).await,
            Self::Phase(args) => phase::run(args, settings, output).await,
            Self::Repair(args) => repair::run(args, settings, output).await,
            Self::Run(args) => run::run(args, settings, output).await,
            Self::Query(args) => query::run(args, settings, output).await,
            Self::Media(args) => Box::pin(media::run(args, settings, output)).await,
            Self::Graph(args) => graph::run(args, settings, output).await,
            Self::Grants(args) => grants::run(args, settings, output).await,
            Self::Export(args) => Box::pin(export::run(args, settings, output)).await,
            Self::Import(args) => Box::pin(import::run(args, settings, output)).await,
            Self::Bench(args) => bench::run(args, settings, output).await,
            Self::Maintain(args) => maintain::run(args, settings, output).await,
            Self::Reverse(args) => Box::pin(reverse::run(args, settings, output)).await,
            Self::Pack(args) => pack::run(args, settings, output).await,
            Self::Ping(args) => ping::run(args, settings, output).await,
        }
    }
}

/// Parses the command line, runs the command, prints what failed; the process's whole life.
pub fn main_entry() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // --help and --version come this way too, with 0. A reader that left is fine.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(EXIT_FAILED));
        }
    };
    let stop = Stop::new();
    let early =
        Output::with(Format::default(), cli.flags.log_format.unwrap_or_default(), stop.clone());
    let settings =
        match Surroundings::of_process().and_then(|here| Settings::resolve(&cli.flags, &here)) {
            Ok(settings) => settings,
            Err(error) => {
                early.error(&error);
                return ExitCode::from(EXIT_FAILED);
            }
        };
    start_logs(&settings);
    let output = Output::new(&settings, stop);
    match in_runtime(cli.command.run(&settings, &output), &output) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            output.error(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs to the end, with signals heard. A panic, which is a bug, exits like any failure, not
/// with a code of its own.
fn in_runtime(work: impl Future<Output = Result<Outcome>>, output: &Output) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Io, "the async runtime did not start").because(e))?;
    let run = AssertUnwindSafe(|| {
        runtime.block_on(async {
            signals::listen(output)?;
            work.await
        })
    });
    std::panic::catch_unwind(run).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Bug, "toolkit panicked; the message is above")
            .advice("please report it with the command and that message"))
    })
}

/// Logs on standard error. `TOOLKIT_LOG` takes a filter in tracing's syntax.
fn start_logs(settings: &Settings) {
    let default = match settings.verbosity {
        0 => "warn,toolkit=info",
        1 => "info,toolkit=debug",
        _ => "debug,toolkit=trace",
    };
    // sqlx logs statements and connection parameters; neither may reach a log.
    let text = std::env::var("TOOLKIT_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::builder().parse_lossy(format!("{text},sqlx=error,qdrant_edge=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder
            .without_time()
            .with_target(settings.verbosity > 0)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
    };
    // A second start in one process (a test's) keeps the first.
    drop(started);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_settings_file_shown_by_help_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let shown: Vec<&str> = INTRODUCTION.lines().filter(|line| line.contains(" = ")).collect();
        assert_eq!(shown.len(), 8);
        std::fs::write(folder.path().join("toolkit.toml"), shown.join("\n")).unwrap();
        let here = Surroundings::new(folder.path().to_owned(), false, |_| None);
        let settings = Settings::resolve(&Flags::default(), &here).unwrap();
        // What it shows besides the server are the defaults.
        let default = Settings::new(settings.database.clone(), folder.path().join(".toolkit"));
        assert_eq!(format!("{settings:?}"), format!("{default:?}"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
