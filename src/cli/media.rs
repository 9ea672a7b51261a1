//! `toolkit media`: what only the media tracker's database needs.

use serde::Serialize;

use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::Result;
use crate::media::repartition::{self, Progress, Repartition};
use crate::store::Postgres;

/// Arguments of `toolkit media`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Raise the number of partitions of what users track, one partition at a time
    #[command(after_long_help = REPARTITION)]
    Repartition {
        /// Partitions there are to be: a multiple of what there are now
        #[arg(long, value_name = "N",
              value_parser = clap::value_parser!(u32).range(2..=i64::from(repartition::MODULUS_MAX)))]
        modulus: u32,
        /// Show what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

const REPARTITION: &str = "\
Each partition is copied into the new ones in batches, while triggers repeat every write to it there;
a snapshot compares both by count and digest; then one transaction detaches the old partition,
attaches the new ones and drops the old. The application goes on: it waits for a batch's row locks,
and once a partition for a lock on the table, which is asked for half a second at a time, 120 times.
The table needs room for one partition twice.

Ctrl-C and kill -9 lose nothing: partitions that were split stay split, and the same command goes on
with the next; the one that was being copied is copied anew.

Exit codes: 0 done, or nothing to do; 2 it could not run, and what was finished is kept.

Examples:
  toolkit media repartition --modulus 64 --dry-run
  toolkit media repartition --modulus 64";

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let Action::Repartition { modulus, dry_run } = args.action;
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let work = async {
        let mut conn = postgres.dedicated().await?;
        let plan = repartition::plan(&mut conn, modulus).await?;
        if dry_run || plan.splits.is_empty() {
            return Ok(plan);
        }
        repartition::apply(&mut conn, plan, output.stop(), &say).await
    };
    let done = work.await;
    let closed = postgres.close().await;
    let done = done?;
    closed?;
    output.report(&Shown { is_dry: dry_run, repartition: done })?;
    Ok(Outcome::Success)
}

fn say(progress: Progress<'_>) {
    if progress.is_done {
        tracing::info!("{} is split: {} rows, verified", progress.partition, progress.rows);
    } else {
        tracing::debug!("{}: {} rows copied", progress.partition, progress.rows);
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    is_dry: bool,
    #[serde(flatten)]
    repartition: Repartition,
}

impl Report for Shown {
    fn text(&self) -> String {
        let Repartition { table, modulus, ready, splits, .. } = &self.repartition;
        if splits.is_empty() {
            return format!("{table} has {ready} partitions of modulus {modulus}: nothing to do");
        }
        let mut rows = output::table(["partition", "modulus", "rows", "into"]);
        for split in splits {
            let count = match split.rows {
                Some(rows) => rows.to_string(),
                None => format!("about {}", split.rows_estimate),
            };
            let into: Vec<String> =
                split.remainders.iter().map(|remainder| format!("p{remainder}")).collect();
            rows.add_row([
                split.partition.clone(),
                format!("{} -> {}", split.modulus, split.new_modulus),
                count,
                into.join(" "),
            ]);
        }
        let end = match &self.repartition.run_id {
            Some(run) => format!("each verified by count and digest; run {run}"),
            None => "no changes are made".to_owned(),
        };
        format!("{table}\n\n{}\n\n{end}", rows.trim_fmt())
    }
}
