//! `toolkit resolve`: edges find targets that were stored after them.

use serde::Serialize;

use super::record::on_connection;
use super::{Outcome, Output, Report};
use crate::anime::resolve::{self, Resolution};
use crate::config::Settings;
use crate::error::Result;

/// Arguments of `toolkit resolve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
An anime's relation may name a target that is not stored yet; its edge then keeps the target's best
reference and all urls. This gives such edges their targets, unites those that turn out to be one (all
urls stay), removes edges of an anime to itself (with a ledger entry), and counts what stays without.
A backfill does it at its end; running it again changes nothing.

Examples:
  toolkit resolve --dry-run
  toolkit --format json resolve | jq .tables")]
pub struct Args {
    /// Say what would be resolved and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let dry_run = args.dry_run;
    let (run_id, resolution) = on_connection(settings, output, async |connection| {
        resolve::resolve(connection, dry_run).await
    })
    .await?;
    let run_id = (!dry_run).then_some(run_id);
    output.report(&Resolving { run_id, resolution })?;
    Ok(Outcome::Success)
}

#[derive(Serialize)]
struct Resolving {
    run_id: Option<String>,
    #[serde(flatten)]
    resolution: Resolution,
}

impl Report for Resolving {
    fn text(&self) -> String {
        let mut text = self.resolution.lines();
        for (table, resolved) in &self.resolution.tables {
            let mut platforms: Vec<(&String, &i64)> = resolved.unresolved.iter().collect();
            platforms.sort_by_key(|(name, count)| (-**count, (*name).clone()));
            let shown: Vec<String> =
                platforms.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if !shown.is_empty() {
                text.push_str(&format!("\nwithout target in {table}: {}", shown.join(", ")));
            }
        }
        match &self.run_id {
            Some(run) => text.push_str(&format!("\nrun {run}")),
            None => text.push_str("\nno changes were made"),
        }
        text
    }
}
