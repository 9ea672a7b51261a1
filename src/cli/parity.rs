//! `toolkit parity`: verifications that were made before.

use clap::Subcommand;

use super::report_file::{self, ReportFile};
use super::{Outcome, Output};
use crate::config::Settings;
use crate::error::Result;
use crate::parity::{Verdict, WantedFor, chosen_run, stored_run};
use crate::store::Postgres;

/// Arguments of `toolkit parity`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Every verification is stored in toolkit.parity_run, what it named in toolkit.parity_difference.
`report` shows a stored one again, as it was found then; nothing is compared anew. `latest` is the
newest one, of --pack if several packs have some; what `certificate check` compared is shown by its
run id only.

Exit codes: those of the verification, 0 parity, 1 differences; 2 there is none.

Examples:
  toolkit parity report --run latest --pack unified
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
        /// The newest verification of this pack, with `--run latest`: its name, or its folder
        #[arg(long, value_parser = super::record::pack_name)]
        pack: Option<String>,
        /// Write it to this file as well: .html (a page), .json or .junit.xml; may be repeated
        #[arg(long, value_name = "FILE", value_parser = report_file::parse)]
        report: Vec<ReportFile>,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let Action::Report { run, pack, report } = args.action;
    report_file::check(&report, None)?;
    let postgres = Postgres::connect(settings).await?;
    let mut conn = postgres.dedicated().await?;
    let found = async {
        let chosen = chosen_run(&mut conn, &run, pack.as_deref(), WantedFor::Report).await?;
        let stored = stored_run(&mut conn, &chosen.run_id).await?;
        Ok((chosen, stored))
    };
    let found: Result<_> = found.await;
    drop(conn);
    postgres.close().await?;
    let (chosen, stored) = found?;
    if let Some(told) = chosen.told() {
        output.note(told);
    }
    output.report(&stored.report)?;
    report_file::write(&report, &stored, output)?;
    Ok(match stored.report.verdict {
        Verdict::Clean => Outcome::Success,
        Verdict::Differences => Outcome::Differences,
    })
}
