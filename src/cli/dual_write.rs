//! `toolkit dual-write`: the application goes on writing SQLite, and Postgres follows.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Outcome, Output, Report, output};
use crate::capture::{self, DisableOptions, Disabled, EnableOptions, Enabled};
use crate::config::Settings;
use crate::error::Result;
use crate::pack::Pack;
use crate::store::Postgres;

/// Arguments of `toolkit dual-write`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
`enable` writes to the SQLite files: two tables (toolkit_capture_state, toolkit_capture_log) and
triggers, in one transaction a file, beside the running application. From then on every insert,
update and delete of a captured table leaves its key in the log, in the application's own
transaction. `disable` takes all of it out again; the schema's text is then what it was before.
Every other command opens SQLite files read-only, but for `run`, which deletes applied entries.

Examples:
  toolkit dual-write enable --pack unified --source /data/app --dry-run
  toolkit dual-write enable --pack unified --source /data/app --measure
  toolkit dual-write disable --pack unified --source /data/app")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

/// Which pack, and where its sources are.
#[derive(Debug, clap::Args)]
struct Place {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long)]
    pack: String,
    /// Folder (searched with its subfolders) or file with the pack's sources; may be repeated
    #[arg(long, required = true, value_name = "PATH")]
    source: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install capture in the pack's SQLite files (writes to them)
    Enable {
        #[command(flatten)]
        place: Place,
        /// Say what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Measure what capture costs a single-row write, on scratch copies of the tables
        #[arg(long)]
        measure: bool,
    },
    /// Take capture out of them again (writes to them)
    Disable {
        #[command(flatten)]
        place: Place,
        /// Say what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Drop captured changes that are not applied, and do it whatever the phase is
        #[arg(long)]
        force: bool,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Enable { place, dry_run, measure } => {
            let postgres = Postgres::connect(settings).await?;
            let pack = Pack::find(&place.pack)?;
            let opened =
                crate::pack::open_as_recorded(settings, &postgres, pack, &place.source).await?;
            let options = EnableOptions { dry_run, measure };
            let enabled = capture::enable(&postgres, &opened, &options).await;
            postgres.close().await?;
            output.report(&enabled?)?;
            Ok(Outcome::Success)
        }
        Action::Disable { place, dry_run, force } => {
            let postgres = Postgres::connect(settings).await?;
            let pack = Pack::find(&place.pack)?;
            let files = capture::files_to_disable(&pack, &place.source)?;
            let options = DisableOptions { dry_run, force, decommissioning: false };
            let disabled = capture::disable(&postgres, pack.name(), &files, &options).await;
            postgres.close().await?;
            output.report(&disabled?)?;
            Ok(Outcome::Success)
        }
    }
}

impl Report for Enabled {
    fn text(&self) -> String {
        let mut table = output::table(["file", "capture", "tables"]);
        for file in &self.files {
            let action = match (self.dry_run, file.action) {
                (true, "installed") => "would be installed",
                (true, "repaired") => "would be repaired",
                (_, action) => action,
            };
            table.add_row([file.source.clone(), action.to_owned(), file.tables.join(", ")]);
        }
        let mut text = format!("capture of the pack {}\n\n{table}", self.pack);
        for file in &self.files {
            for cost in &file.costs {
                text.push_str(&format!(
                    "\n{}, {}: a single-row write takes {:.1} us, with capture {:.1} us: {:.2} times \
                     ({} rows inserted, updated and deleted one by one; WAL, synchronous NORMAL)",
                    file.source, cost.table, cost.plain_us, cost.captured_us, cost.ratio, cost.rows
                ));
            }
            if let Some(gap) = &file.gap {
                text.push_str(&format!(
                    "\n{}: {gap}; changes may have been missed: run `toolkit backfill` again, then \
                     `toolkit verify-parity`, and `toolkit repair` for rows that were deleted",
                    file.source
                ));
            }
        }
        if self.dry_run {
            text.push_str("\nno changes are made");
        }
        text
    }
}

impl Report for Disabled {
    fn text(&self) -> String {
        let mut text = format!("capture of the pack {}", self.pack);
        for (path, was_there) in &self.files {
            let what = if *was_there { "taken out" } else { "was not there" };
            text.push_str(&format!("\n  {}: {what}", path.display()));
        }
        if self.dropped_changes > 0 {
            text.push_str(&format!("\n{} changes dropped unapplied", self.dropped_changes));
        }
        text
    }
}
