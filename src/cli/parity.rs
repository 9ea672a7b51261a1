//! `toolkit parity`: verifications that were made before.

use clap::Subcommand;

use super::report_file::{self, ReportFile};
use super::{Outcome, Output};
use crate::config::Settings;
use crate::error::Result;
use crate::parity::{Verdict, stored_run};
use crate::store::Postgres;

/// Arguments of `toolkit parity`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Every verification is stored in toolkit.parity_run, what it named in toolkit.parity_difference.
`report` shows a stored one again, as it was found then; nothing is compared anew.

Exit codes: those of the verification, 0 parity, 1 differences; 2 there is none.

Examples:
  toolkit parity report --run latest
  toolkit parity report --run 6f1d1ff0-0000-4000-8000-000000000001 --report parity.html")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a stored verification again, or write it to files
    Report {
        /// Run id of a verification, or `latest`
        #[arg(long)]
        run: String,
        /// Write it to this file as well: .html (a page), .json or .junit.xml; may be repeated
        #[arg(long, value_name = "FILE", value_parser = report_file::parse)]
        report: Vec<ReportFile>,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let Action::Report { run, report } = args.action;
    report_file::check(&report, None)?;
    let postgres = Postgres::connect(settings).await?;
    let mut conn = postgres.dedicated().await?;
    let stored = stored_run(&mut conn, &run).await;
    drop(conn);
    postgres.close().await?;
    let stored = stored?;
    output.report(&stored.report)?;
    report_file::write(&report, &stored, output)?;
    Ok(match stored.report.verdict {
        Verdict::Clean => Outcome::Success,
        Verdict::Differences => Outcome::Differences,
    })
}
