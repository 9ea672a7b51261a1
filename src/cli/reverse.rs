//! `toolkit dual-write reverse`: after the cutover, changes in Postgres written back to `SQLite`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::{Outcome, Output, Report, output};
use crate::capture::reverse::{
    self, Applied, BATCH_CHANGES, RejectedRow, Reverse, Status, rejects, status,
};
use crate::config::Settings;
use crate::count::{counted, counted_are};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::reverse::{Listed, listing};
use crate::pack::{Pack, open_as_recorded};
use crate::store::Postgres;

/// Longest pause between two tries while a store is away, and between two looks at an empty log.
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Rejected rows that are listed at most.
const LISTED_MAX: i64 = 1_000;

/// Arguments of `toolkit dual-write reverse`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
After the cutover the application writes Postgres. Triggers there log the keys of changed rows, and
`run` writes the rows back to the SQLite files, so that a rollback loses nothing. The files are the
source's own: apart from `dual-write enable|disable`, nothing else in this program writes to them.

A row counts as written back when a backfill would read it from SQLite as the very row Postgres
holds. Only columns that changed are written. What cannot go back is listed by `rejects`:
  refused  the row could not be written; SQLite holds it as it was
  column   it was written, without columns that SQLite has no place for
  row      no stream that is written back has it
An entry goes when a later change of its row could be written. `streams` lists beforehand what goes
back, how well (exact, equivalent, none), and why not better.

The application's triggers in SQLite do not fire for rows written back, and its foreign keys are
not followed: what they did was done in Postgres, and arrives as rows. What they maintain beside
the pack (such as an FTS index) has to be rebuilt after a rollback; `run` names them.

At most 500 changes (--batch) and 48 MiB of rows are applied at a time, in one transaction of each
file. A file or server that is away is tried again after 0.1 s to 5 s, for as long as it takes.

Examples:
  toolkit dual-write reverse streams --pack unified --source /data/app
  toolkit dual-write reverse run --pack unified --source /data/app
  toolkit dual-write reverse run --pack unified --source /data/app --until-caught-up
  toolkit dual-write reverse status --pack unified
  toolkit dual-write reverse rejects --pack unified")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long, value_name = "NAME|DIR")]
    pack: String,
    /// Folder or file with the pack's sources; may be repeated
    #[arg(long, required = true, value_name = "PATH")]
    source: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long, value_name = "NAME|DIR")]
    pack: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Capture changes in Postgres; the cutover does it by itself
    Enable(Place),
    /// Take the capture out of Postgres again; refuses while changes wait
    Disable {
        #[command(flatten)]
        named: Named,
        /// Take it out although changes wait: they stay in `toolkit.reverse_log`
        #[arg(long)]
        force: bool,
    },
    /// Write captured changes back, until Ctrl-C
    Run {
        #[command(flatten)]
        place: Place,
        /// Apply one batch
        #[arg(long, conflicts_with = "until_caught_up")]
        once: bool,
        /// End when the log is empty
        #[arg(long)]
        until_caught_up: bool,
        /// Changes applied together
        #[arg(long, value_name = "N", default_value_t = BATCH_CHANGES,
              value_parser = clap::value_parser!(i64).range(1..=100_000))]
        batch: i64,
        /// Say what one batch would do, and change nothing
        #[arg(long, conflicts_with_all = ["once", "until_caught_up"])]
        dry_run: bool,
    },
    /// How far it is: lag in changes and seconds, rejects; exit 1 where changes are being missed
    Status(Named),
    /// Rows that are not in SQLite as they are in Postgres; exit 1 if there are any
    Rejects {
        #[command(flatten)]
        named: Named,
        /// Have the next `run` try them again, after what was in their way was put right
        #[arg(long)]
        retry: bool,
    },
    /// What goes back, how well, and why not better, per stream and column
    Streams(Place),
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let stop = output.stop();
    match args.action {
        Action::Status(named) => {
            let postgres = stop.unless(Postgres::connect(settings)).await?;
            let pack = Pack::find(&named.pack)?;
            let mut conn = postgres.dedicated().await?;
            let status = status(&mut conn, pack.name()).await?;
            drop(conn);
            postgres.close().await?;
            let is_well = status.missing.is_empty();
            output.report(&status)?;
            Ok(if is_well { Outcome::Success } else { Outcome::Differences })
        }
        Action::Rejects { named, retry } => {
            let postgres = stop.unless(Postgres::connect(settings)).await?;
            let pack = Pack::find(&named.pack)?;
            let mut conn = postgres.dedicated().await?;
            if retry {
                let rows = reverse::retry(&mut conn, pack.name()).await?;
                output.note(format!("{} waiting to be tried again", counted_are(rows, "row")));
            }
            let found = Rejects(rejects(&mut conn, pack.name(), LISTED_MAX).await?);
            drop(conn);
            postgres.close().await?;
            output.report(&found)?;
            Ok(if found.0.is_empty() { Outcome::Success } else { Outcome::Differences })
        }
        Action::Disable { named, force } => disable(&named, force, settings, output).await,
        Action::Enable(place) => {
            let postgres = stop.unless(Postgres::connect(settings)).await?;
            let opened = open(&place, settings, &postgres).await?;
            let mut conn = postgres.dedicated().await?;
            let targets = reverse::enable(&mut conn, &opened.plan).await?;
            drop(conn);
            postgres.close().await?;
            output.report(&Enabled { targets })?;
            Ok(Outcome::Success)
        }
        Action::Streams(place) => {
            let postgres = stop.unless(Postgres::connect(settings)).await?;
            let opened = open(&place, settings, &postgres).await?;
            let listed = Streams(listing(&opened.plan));
            postgres.close().await?;
            output.report(&listed)?;
            Ok(Outcome::Success)
        }
        Action::Run { place, once, until_caught_up, batch, dry_run } => {
            let postgres = stop.unless(Postgres::connect(settings)).await?;
            let opened = Arc::new(open(&place, settings, &postgres).await?);
            let mut reverse = Reverse::open(&postgres, opened, batch).await?;
            for trigger in reverse.application_triggers()? {
                output.note(format!("{trigger} does not fire for rows written back"));
            }
            let applied = if dry_run {
                reverse.preview().await?
            } else if once {
                reverse.step().await?
            } else {
                follow(&mut reverse, until_caught_up, output).await?
            };
            drop(reverse);
            postgres.close().await?;
            output.report(&applied)?;
            if dry_run {
                output.note("no changes are made");
            }
            Ok(if applied.rejected == 0 { Outcome::Success } else { Outcome::Differences })
        }
    }
}

async fn open(
    place: &Place,
    settings: &Settings,
    postgres: &Postgres,
) -> Result<crate::pack::OpenedPack> {
    open_as_recorded(settings, postgres, Pack::find(&place.pack)?, &place.source).await
}

async fn disable(
    named: &Named,
    force: bool,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let pack = Pack::find(&named.pack)?;
    let mut conn = postgres.dedicated().await?;
    let waiting = status(&mut conn, pack.name()).await?.lag_changes;
    if waiting > 0 && !force {
        let what = format!("{} waiting to be written back", counted_are(waiting, "change"));
        return Err(Error::new(ErrorKind::Busy, what).advice(
            "apply them with `toolkit dual-write reverse run --until-caught-up`, or leave them with --force",
        ));
    }
    reverse::disable(&mut conn, pack.name()).await?;
    drop(conn);
    postgres.close().await?;
    output.note(format!("changes of pack {} are no longer captured in Postgres", pack.name()));
    Ok(Outcome::Success)
}

/// Applies until stopped, or until the log is empty; waits while a store is away.
async fn follow(reverse: &mut Reverse, until_caught_up: bool, output: &Output) -> Result<Applied> {
    let stop: &Stop = output.stop();
    let mut total = Applied::default();
    let mut pause = PAUSE_MIN;
    while !stop.is_requested() {
        match reverse.step().await {
            Ok(applied) if applied.changes > 0 => {
                total.add(&applied);
                pause = PAUSE_MIN;
                continue;
            }
            Ok(_) if until_caught_up => break,
            Ok(_) => pause = PAUSE_MIN,
            Err(error) if error.kind().is_transient() => {
                output.note(format!("{error}; trying again"));
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.wait() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(total)
}

#[derive(Debug, Serialize)]
struct Enabled {
    targets: Vec<String>,
}

impl Report for Enabled {
    fn text(&self) -> String {
        format!("changes are captured in {}", self.targets.join(", "))
    }
}

impl Report for Applied {
    fn text(&self) -> String {
        format!(
            "{} applied: {} inserted, {} updated, {} deleted, {} right already, {} not or not \
             wholly written back",
            counted(self.changes, "change"),
            counted(self.inserted, "row"),
            self.updated,
            self.deleted,
            self.unchanged,
            self.rejected
        )
    }
}

impl Report for Status {
    fn text(&self) -> String {
        if self.targets == 0 {
            return format!(
                "pack {}: changes in Postgres are not captured; {} waiting, {}",
                self.pack,
                counted_are(self.lag_changes, "change"),
                counted(self.rejects, "reject")
            );
        }
        let mut text = format!(
            "pack {}: {} captured, {}\n{} waiting, the oldest for {:.1} s\n{} applied, last {}\n{} \
             not in SQLite as in Postgres",
            self.pack,
            counted_are(self.targets, "table"),
            if self.running { "being written back" } else { "nobody writes back" },
            counted_are(self.lag_changes, "change"),
            self.lag_seconds,
            counted(self.changes, "change"),
            self.applied_at.as_deref().unwrap_or("never"),
            counted_are(self.rejects, "row"),
        );
        for target in &self.missing {
            let _ = write!(text, "\n{target}: its capture trigger is gone: changes are missed");
        }
        text
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Rejects(Vec<RejectedRow>);

impl Report for Rejects {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "every row went back".to_owned();
        }
        let mut table = output::table(["kind", "target", "key", "stream", "reason", "detail"]);
        for row in &self.0 {
            table.add_row([
                row.kind.clone(),
                row.target.clone(),
                row.key.join(", "),
                row.stream.clone(),
                row.reason.clone(),
                row.detail.clone(),
            ]);
        }
        table.trim_fmt()
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Streams(Vec<Listed>);

impl Report for Streams {
    fn text(&self) -> String {
        let mut table = output::table(["stream", "target", "column", "back to", "how", "why"]);
        for listed in &self.0 {
            let is_stream = listed.column.is_none();
            table.add_row([
                if is_stream { listed.stream.clone() } else { String::new() },
                if is_stream { listed.target.clone() } else { String::new() },
                listed.column.clone().unwrap_or_default(),
                listed.source.clone().unwrap_or_default(),
                listed.reverse.name().to_owned(),
                listed.reason.clone(),
            ]);
        }
        table.trim_fmt()
    }
}
