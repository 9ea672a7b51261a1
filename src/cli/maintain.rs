//! `toolkit maintain`: partitions ahead, retention, and what the server's statistics say.

use super::output;
use super::{Outcome, Output, Report};
use crate::config::Settings;
use crate::error::Result;
use crate::maintain::{self, Upkeep};
use crate::pack::Pack;
use crate::store::Postgres;

/// Arguments of `toolkit maintain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
pack.toml says what is maintained:

  [[partition]]                      monthly partitions (UTC), made ahead
  table = \"observability.token_usage\"
  months_ahead = 3

  [[retention]]                      rows older than that are removed
  table = \"observability.token_usage\"
  column = \"created_at\"
  keep = \"180 days\"                  days, weeks, months or years

A month's rows leave the DEFAULT partition in the transaction that attaches the month. Retention
drops partitions whose rows are all old enough, and deletes other rows 5,000 at a time; what it
removed is recorded in toolkit.retention_removed, and parity leaves rows before the cut-off out, on
both sides, and says how many. In phase 3 nothing is removed. Locks are waited for half a second at
a time, 40 times.

Indexes without use and tables that wait for VACUUM or ANALYZE are only reported.

Exit codes: 0 done; 2 it could not run, and what was finished is kept.

Examples:
  toolkit maintain --pack unified --dry-run
  toolkit --format json maintain --pack unified")]
pub struct Args {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long)]
    pack: String,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let pack = Pack::find(&args.pack)?;
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let done = async {
        let mut conn = postgres.dedicated().await?;
        let plan = maintain::plan(&mut conn, &pack).await?;
        if args.dry_run {
            return Ok(plan);
        }
        maintain::apply(&mut conn, plan, output.stop()).await
    };
    let done = done.await;
    let closed = postgres.close().await;
    let done = done?;
    closed?;
    output.report(&done)?;
    Ok(Outcome::Success)
}

impl Report for Upkeep {
    fn text(&self) -> String {
        let mut parts = vec![partitions(self), retention(self), health(self)];
        parts.retain(|part| !part.is_empty());
        parts.push(match &self.run_id {
            Some(run) => format!("run {run}"),
            None => "no changes are made".to_owned(),
        });
        parts.join("\n\n")
    }
}

fn partitions(upkeep: &Upkeep) -> String {
    let is_dry = upkeep.run_id.is_none();
    let mut lines = Vec::new();
    for table in &upkeep.partitions {
        for month in &table.months {
            let done = match (is_dry, month.is_made) {
                (true, _) => "to be made",
                (false, true) => "made",
                (false, false) => "was there already",
            };
            let rows = match month.rows {
                0 => String::new(),
                rows => format!(", with {rows} rows from DEFAULT"),
            };
            lines.push(format!("{}: {} {done}{rows}", table.table, month.partition));
        }
        if table.months.is_empty() {
            lines.push(format!("{}: every month has its partition", table.table));
        }
        if table.left_in_default > 0 {
            lines.push(format!(
                "{}: {} rows stay in DEFAULT: their dates are in no month from 1970 to ten years \
                 ahead, or in one that another partition covers in part",
                table.table, table.left_in_default
            ));
        }
    }
    lines.join("\n")
}

fn retention(upkeep: &Upkeep) -> String {
    if upkeep.retention.is_empty() {
        return String::new();
    }
    let is_dry = upkeep.run_id.is_none();
    let count = if is_dry { "rows to remove" } else { "rows removed" };
    let mut table = output::table(["table", "kept for", "removed before", count, "partitions"]);
    for policy in &upkeep.retention {
        let of_partitions: u64 = policy.dropped.iter().map(|old| old.rows).sum();
        let rows = if is_dry { policy.rows + of_partitions } else { policy.removed };
        let names: Vec<&str> = policy.dropped.iter().map(|old| old.partition.as_str()).collect();
        table.add_row([
            format!("{} ({})", policy.table, policy.column),
            policy.keep.clone(),
            policy.cutoff.clone(),
            rows.to_string(),
            policy.held_back.clone().unwrap_or_else(|| names.join(", ")),
        ]);
    }
    table.trim_fmt()
}

fn health(upkeep: &Upkeep) -> String {
    let health = &upkeep.health;
    let mut lines = Vec::new();
    let since = health.statistics_since.as_deref().unwrap_or("the database was made");
    for index in &health.unused_indexes {
        lines.push(format!(
            "unused since {since}: {} of {}, {} bytes",
            index.index, index.table, index.bytes
        ));
    }
    for need in &health.needs_vacuum {
        lines.push(format!("needs VACUUM: {}, {} rows ({})", need.table, need.rows, need.why));
    }
    for need in &health.needs_analyze {
        lines.push(format!("needs ANALYZE: {}, {} rows ({})", need.table, need.rows, need.why));
    }
    lines.join("\n")
}
