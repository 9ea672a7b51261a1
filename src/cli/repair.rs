//! `toolkit repair`: differences made good, reviewably.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::{Outcome, Output, Report, output};
use crate::backfill::newest_snapshot;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::phase::{self, Work};
use crate::repair::{self, Applied, Fate, Operation, Plan};
use crate::store::Postgres;

/// Arguments of `toolkit repair`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A plan is a JSON file with one action per differing row: insert, update or delete, the row's key,
and the digests both sides had. Read it, remove whole actions you do not want, then apply it: to the
database and with the pack it was made for, or it is refused, as is an action that was edited.
Applying locks and re-checks each row first: what changed since the verification, in either store, is
left alone and named. A source that changes while a plan is applied is read again. Rows of one group
of 500 are committed together, each compared again before the commit.

`--run latest` is the newest verification at level full or sample, of --pack if several packs have
one, and it is said which one that was.

Points that differ (`verify-parity --against qdrant`) are queued in the outbox, whose workers write
them anew from Postgres; that needs no source.

Where Postgres is right and the source is wrong, say --side target (or --side STREAM=target): those
rows are listed as kept and stay as they are. A repair never writes to a source.

Examples:
  toolkit repair plan --run latest --pack unified --out repair.json
  toolkit repair apply repair.json --source /data/app --dry-run
  toolkit repair apply repair.json --source /data/app")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a plan that makes Postgres what the source says
    Plan {
        /// Run id of a verification, or `latest`
        #[arg(long)]
        run: String,
        /// The newest verification of this pack, with `--run latest`: its name, or its folder
        #[arg(long, value_parser = super::record::pack_name)]
        pack: Option<String>,
        /// Which side is right: `source` (default), `target`, or for one stream `STREAM=target`.
        /// Rows of the target's side are listed and stay as they are
        #[arg(long, value_name = "SIDE")]
        side: Vec<String>,
        /// File to write; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Carry out a plan
    Apply {
        /// The plan
        file: PathBuf,
        /// Folder or file with the pack's sources; may be repeated. Not needed for points alone
        #[arg(long, value_name = "PATH")]
        source: Vec<PathBuf>,
        /// Read the copy that the newest backfill made and read, instead of the sources: for a plan
        /// from `verify-parity --snapshot`
        #[arg(long, conflicts_with = "source")]
        snapshot: bool,
        /// Folder of your own pack.toml [default: the built-in pack the plan names]
        #[arg(long)]
        pack: Option<String>,
        /// Check each row as it is now, say what would be written, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Plan { run, pack, side, out } => {
            let sides = repair::Sides::parse(&side)?;
            let postgres = Postgres::connect(settings).await?;
            let mut conn = postgres.dedicated().await?;
            let planned = repair::plan(&mut conn, &run, pack.as_deref(), &sides).await;
            drop(conn);
            postgres.close().await?;
            let (plan, chosen) = planned?;
            if let Some(told) = chosen.told() {
                output.note(told);
            }
            repair::write_plan(&plan, &out)?;
            output.report(&plan)?;
            output.note(format!("written to {}; no changes are made", out.display()));
            Ok(Outcome::Success)
        }
        Action::Apply { file, source, snapshot, pack, dry_run } => {
            let plan = repair::read_plan(&file)?;
            let pack = Pack::find(pack.as_deref().unwrap_or(&plan.pack))?;
            let postgres = Postgres::connect(settings).await?;
            phase::require(&postgres, &pack, Work::Repair).await?;
            let mut applied = Applied { is_rehearsal: dry_run, ..Applied::of(&plan) };
            if plan.actions.iter().any(|action| action.operation.is_of_rows()) {
                if source.is_empty() && !snapshot {
                    return Err(Error::new(
                        ErrorKind::Usage,
                        "the plan repairs rows: name --source, or say --snapshot",
                    )
                    .advice("the folder or file that was verified"));
                }
                // Held until the end: the copy is there as long as somebody reads it.
                let copy = if snapshot {
                    Some(newest_snapshot(&postgres, &settings.state_dir, pack.name()).await?)
                } else {
                    None
                };
                let roots = match &copy {
                    Some(copy) => {
                        output.note(format!("reading the copy in {}", copy.folder().display()));
                        copy.roots()
                    }
                    None => source,
                };
                let opened =
                    crate::pack::open_as_recorded(settings, &postgres, pack, &roots).await?;
                let opened = Arc::new(opened);
                applied = if dry_run {
                    repair::rehearse(&postgres, opened, &plan, output.stop()).await?
                } else {
                    repair::apply(&postgres, opened, &plan, output.stop()).await?
                };
            }
            let mut points = repair::points_of(&plan) as u64;
            if points > 0 {
                if !dry_run {
                    let requeued = repair::requeue(settings, &postgres, &plan);
                    points = output.stop().unless(requeued).await?;
                }
                applied.repaired.insert(Operation::Requeue.name().to_owned(), points);
            }
            postgres.close().await?;
            output.report(&applied)?;
            if points > 0 && !dry_run {
                output.note(
                    "queued points are written by `toolkit outbox drain`, or by a worker that runs",
                );
            }
            if dry_run {
                output.note("a dry run: no changes were made");
            }
            let is_done = applied.left_alone.iter().all(|left| left.fate == Fate::AlreadyRight);
            Ok(if is_done { Outcome::Success } else { Outcome::Differences })
        }
    }
}

/// What to expect of rows whose target is right.
const KEPT: &str = "\nkept rows: a repair writes to Postgres alone, so parity goes on naming them until \
    the source is corrected";

impl Report for Plan {
    fn text(&self) -> String {
        let mut table = output::table(["do", "target", "key", "columns"]);
        for action in &self.actions {
            table.add_row([
                action.operation.name().to_owned(),
                action.target.clone(),
                key_text(&action.key),
                action.columns.join(", "),
            ]);
        }
        let mut text = format!(
            "repair plan of pack {}, for verification {}\n\n{table}",
            self.pack, self.parity_run
        );
        if self.actions.iter().any(|action| action.operation == Operation::Keep) {
            text.push_str(KEPT);
        }
        for (kind, rows) in &self.left_alone {
            text.push_str(&format!("\n{kind}: {rows}, not repairable this way"));
            text.push_str(match kind.as_str() {
                "unaccounted" => "; run the backfill again, so that it records them",
                "rows of documents" => {
                    "; `toolkit backfill --again` and `toolkit review` make them right"
                }
                kind if kind.ends_with(" of sidecar") => "; `toolkit sidecar write` writes it anew",
                kind if kind.ends_with(" of qdrant") => {
                    "; `toolkit outbox rebuild` leaves them out"
                }
                _ => "; remove the wrong rows by hand",
            });
        }
        let named = self.actions.len() as u64 + self.left_alone.values().sum::<u64>();
        if named < self.differing_rows {
            text.push_str(&format!(
                "\nnamed were {named} of {}: repair, verify, and repeat, or verify with a greater \
                 --max-differences",
                output::count(self.differing_rows, "differing row")
            ));
        }
        text
    }
}

impl Report for Applied {
    fn text(&self) -> String {
        let queued = self.repaired.get(Operation::Requeue.name()).copied().unwrap_or_default();
        let total = self.repaired.values().sum::<u64>() - queued;
        let parts: Vec<String> = self
            .repaired
            .iter()
            .filter(|(operation, _)| *operation != Operation::Requeue.name())
            .map(|(operation, rows)| format!("{rows} by {operation}"))
            .collect();
        let (done, compared) = if self.is_rehearsal {
            ("would be repaired", "")
        } else {
            ("repaired", ", each compared again")
        };
        let mut text = format!("{} {done}", output::count(total, "row"));
        if !parts.is_empty() {
            text.push_str(&format!(" ({}){compared}", parts.join(", ")));
        }
        let would_be = if self.is_rehearsal { "would be " } else { "" };
        if queued > 0 {
            let points = output::count(queued, "point");
            text.push_str(&format!("\n{points} {would_be}queued in the outbox"));
        }
        if self.kept > 0 {
            text.push_str(&format!("\n{} {would_be}kept as Postgres holds them{KEPT}", self.kept));
        }
        for left in &self.left_alone {
            let why = match &left.fate {
                Fate::AlreadyRight | Fate::Repaired => "already right".to_owned(),
                Fate::SourceChanged => "the source's row changed since".to_owned(),
                Fate::TargetChanged => "the target's row changed since".to_owned(),
                Fate::Refused(why) => format!("refused: {why}"),
            };
            text.push_str(&format!("\nleft alone: {} {}: {why}", left.target, key_text(&left.key)));
        }
        text
    }
}

fn key_text(key: &serde_json::Map<String, serde_json::Value>) -> String {
    let parts: Vec<String> = key
        .iter()
        .map(|(column, value)| match value {
            serde_json::Value::String(text) => format!("{column}={text}"),
            other => format!("{column}={other}"),
        })
        .collect();
    parts.join(", ")
}
