//! `toolkit dual-write`: the application goes on writing SQLite, and Postgres follows.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{Outcome, Output, Report, output, reverse};
use crate::capture::run::{Followed, Pace, Until, follow};
use crate::capture::tail::{Applied, Tail, TailOptions};
use crate::capture::{self, DisableOptions, Disabled, EnableOptions, Enabled, Status};
use crate::config::Settings;
use crate::count::{counted, counted_are};
use crate::error::Result;
use crate::pack::Pack;
use crate::phase::{self, Work};
use crate::store::Postgres;

/// Arguments of `toolkit dual-write`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
`enable` writes to the SQLite files: two tables (toolkit_capture_state, toolkit_capture_log) and
triggers, in one transaction a file, beside the running application. From then on every insert,
update and delete of a captured table leaves its key in the log, in the application's own
transaction. `disable` takes all of it out again; the schema's text is then what it was before.
Every other command opens SQLite files read-only, but for `run`, which deletes applied entries.

`run` applies the changed rows as they are now, oldest change first, each batch in one transaction with
its cursor: kill it anywhere. One a pack; a second one says who has it. What Postgres refuses because
of another row (a parent that has not come, a unique value that is taken) waits in
toolkit.capture_held and is tried again after later changes; it is a reject once nothing captured
helps it. An earlier version of a refused row leaves the target: the reject keeps the record whole.
A server or a file that is away is waited for, with pauses of up to 30 s; with --once and
--until-caught-up for about a minute. Applied entries are deleted from the logs in transactions of 500.

The pack's JSON and CSV files are looked at every --rescan seconds: size and time say which may have
changed, SHA-256 whether they did. A changed file is applied in one transaction, with what vanished
from it. One that cannot be parsed is left alone once, because it may be being written; one that is
gone at two looks in a row takes its rows along, unless all files of its stream are gone.

A file whose triggers or tables are not those that were enabled, or that was replaced by an older
copy, is halted: nothing of it is applied, `status` says why (exit 1), and `run` ends with exit 2.

Examples:
  toolkit dual-write enable --pack unified --source /data/app --dry-run
  toolkit dual-write enable --pack unified --source /data/app --measure
  toolkit dual-write run --pack unified --source /data/app
  toolkit dual-write run --pack unified --source /data/app --until-caught-up
  toolkit dual-write status --pack unified --watch
  toolkit dual-write disable --pack unified --source /data/app
  toolkit dual-write reverse run --pack unified --source /data/app      after the cutover")]
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
    /// Apply captured changes to Postgres, until stopped
    Run {
        #[command(flatten)]
        place: Place,
        /// Apply one batch and end
        #[arg(long, conflicts_with = "until_caught_up")]
        once: bool,
        /// End when nothing is left to be applied
        #[arg(long)]
        until_caught_up: bool,
        /// Changes of a batch at most
        #[arg(long, value_name = "N", default_value = "2000",
              value_parser = clap::value_parser!(u32).range(1..=100_000))]
        batch: u32,
        /// Milliseconds between two looks where nothing is new
        #[arg(long, value_name = "MS", default_value = "200",
              value_parser = clap::value_parser!(u32).range(1..=60_000))]
        interval: u32,
        /// Seconds between two looks at the pack's JSON and CSV files
        #[arg(long, value_name = "SECONDS", default_value = "5",
              value_parser = clap::value_parser!(u32).range(1..=86_400))]
        rescan: u32,
    },
    /// How far each file is applied; exit 1 if somebody has to act
    Status {
        /// Built-in pack, or the folder of your own pack.toml
        #[arg(long)]
        pack: String,
        /// Say it again every second, until stopped
        #[arg(long)]
        watch: bool,
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
    /// After the cutover: write changes in Postgres back to SQLite
    Reverse(reverse::Args),
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Enable { place, dry_run, measure } => {
            let postgres = Postgres::connect(settings).await?;
            let pack = Pack::find(&place.pack)?;
            phase::require(&postgres, &pack, Work::Enable).await?;
            let opened =
                crate::pack::open_as_recorded(settings, &postgres, pack, &place.source).await?;
            let options = EnableOptions { dry_run, measure };
            let enabled = capture::enable(&postgres, &opened, &options).await;
            postgres.close().await?;
            output.report(&enabled?)?;
            Ok(Outcome::Success)
        }
        Action::Run { place, once, until_caught_up, batch, interval, rescan } => {
            let until = match (once, until_caught_up) {
                (true, _) => Until::Once,
                (_, true) => Until::CaughtUp,
                _ => Until::Stopped,
            };
            let pace = Pace {
                interval: Duration::from_millis(interval.into()),
                rescan: Duration::from_secs(rescan.into()),
                ..Pace::default()
            };
            let options = TailOptions {
                entries_max: batch as usize,
                exclusive: true,
                ..TailOptions::default()
            };
            run_tail(&place, options, until, pace, settings, output).await
        }
        Action::Status { pack, watch } => {
            let postgres = Postgres::connect(settings).await?;
            let pack = Pack::find(&pack)?;
            let shown = show_status(&postgres, pack.name(), watch, output).await;
            postgres.close().await?;
            shown
        }
        Action::Disable { place, dry_run, force } => {
            let postgres = Postgres::connect(settings).await?;
            let pack = Pack::find(&place.pack)?;
            if !force {
                phase::require(&postgres, &pack, Work::RemoveCapture).await?;
            }
            let files = capture::files_to_disable(&pack, &place.source)?;
            let options = DisableOptions { dry_run, force, decommissioning: false };
            let disabled = capture::disable(&postgres, pack.name(), &files, &options).await;
            postgres.close().await?;
            output.report(&disabled?)?;
            Ok(Outcome::Success)
        }
        Action::Reverse(args) => Box::pin(reverse::run(args, settings, output)).await,
    }
}

async fn run_tail(
    place: &Place,
    options: TailOptions,
    until: Until,
    pace: Pace,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    let postgres = Postgres::connect(settings).await?;
    let pack = Pack::find(&place.pack)?;
    phase::require(&postgres, &pack, Work::Tail).await?;
    phase::recover(&postgres, &pack).await?;
    let mut tail = Tail::open(settings, &postgres, pack, &place.source, options).await?;
    let say = |applied: &Applied| {
        tracing::debug!(
            source = applied.source,
            changes = applied.changes,
            rows = applied.rows,
            deleted = applied.deleted,
            lag = applied.lag_rows,
            "applied"
        );
    };
    let followed = follow(&mut tail, until, pace, output.stop(), &say).await;
    // What was applied is committed; a server that is away cannot be taken leave of.
    let closed = [tail.close().await, postgres.close().await];
    let followed = followed?;
    for closed in closed {
        closed.or_else(|error| if error.kind().is_transient() { Ok(()) } else { Err(error) })?;
    }
    output.report(&followed)?;
    Ok(if followed.rejects > 0 { Outcome::Differences } else { Outcome::Success })
}

async fn show_status(
    postgres: &Postgres,
    pack: &str,
    watch: bool,
    output: &Output,
) -> Result<Outcome> {
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    loop {
        let status = capture::status(&mut conn, pack).await?;
        output.report(&status)?;
        if !watch || output.stop().is_requested() {
            let is_well = !status.needs_attention();
            return Ok(if is_well { Outcome::Success } else { Outcome::Differences });
        }
        let pause = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        };
        if output.stop().unless(pause).await.is_err() {
            return Ok(Outcome::Success);
        }
    }
}

impl Report for Followed {
    fn text(&self) -> String {
        let mut text = format!(
            "pack {}: {} applied in {}: {} written, {} deleted, {} rejected",
            self.pack,
            counted(self.changes, "change"),
            counted(self.batches, "batch"),
            counted(self.rows, "row"),
            self.deleted,
            self.rejects
        );
        if self.held > 0 {
            text.push_str(&format!("; {} held back by other rows", counted_are(self.held, "row")));
        }
        if self.documents > 0 {
            text.push_str(&format!("; {} applied", counted(self.documents, "document")));
        }
        for (name, why) in &self.document_problems {
            text.push_str(&format!("\n{name}: {why}"));
        }
        if self.retries > 0 {
            text.push_str(&format!("; a store was away {}", counted(self.retries, "time")));
        }
        if self.stopped {
            text.push_str("; stopped");
        }
        text
    }
}

impl Report for Status {
    fn text(&self) -> String {
        let mut table = output::table(["file", "capture", "captured", "applied", "lag", "oldest"]);
        for file in &self.files {
            let capture = match (&file.halted, file.installed, file.mode) {
                (Some(_), ..) => "halted".to_owned(),
                (_, Some(false), _) => "gone".to_owned(),
                (_, _, Some(mode)) => mode.to_owned(),
                _ => "not readable from here".to_owned(),
            };
            table.add_row([
                file.source.clone(),
                capture,
                file.captured.to_string(),
                file.applied.to_string(),
                file.lag_rows.to_string(),
                format!("{:.1} s", file.lag_seconds),
            ]);
        }
        let who = match &self.tail {
            Some(holder) => match holder.pid {
                Some(pid) => format!("applied by process {pid} on {}", holder.client),
                None => format!("applied by session {} from {}", holder.backend_pid, holder.client),
            },
            None => "nobody applies them: `toolkit dual-write run`".to_owned(),
        };
        let mut text = format!("changes of the pack {}: {who}\n\n{table}", self.pack);
        for file in &self.files {
            for (what, why) in [
                ("halted", &file.halted),
                ("changes may have been missed", &file.gap),
                ("last error", &file.last_error),
            ] {
                if let Some(why) =
                    why.as_ref().filter(|_| what != "last error" || file.halted.is_none())
                {
                    text.push_str(&format!("\n{}: {what}: {why}", file.source));
                }
            }
        }
        text.push_str(&format!(
            "\n{} held back by others; {} open; {} watched",
            counted_are(self.held, "row"),
            counted_are(self.open_rejects, "reject"),
            counted_are(self.documents, "file")
        ));
        for (source, problem) in &self.document_problems {
            text.push_str(&format!("\n{source}: {problem}"));
        }
        text
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
        for note in &self.notes {
            text.push_str(&format!("\nnote: {note}"));
        }
        for file in &self.files {
            for cost in &file.costs {
                text.push_str(&format!(
                    "\n{}, {}: a single-row write takes {:.1} us, with capture {:.1} us: {:.2} times \
                     ({} inserted, updated and deleted one by one; WAL, synchronous NORMAL)",
                    file.source, cost.table, cost.plain_us, cost.captured_us, cost.ratio,
                    counted(cost.rows, "row")
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
            text.push_str(&format!(
                "\n{} dropped unapplied",
                counted(self.dropped_changes, "change")
            ));
        }
        text
    }
}
