//! `toolkit phase`: where a pack stands between SQLite and Postgres, and how it moves.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::export::{pack_of, rows};
use super::{Outcome, Output, Report, output};
use crate::backup::{self, Checked};
use crate::config::Settings;
use crate::count::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Pack, builtin};
use crate::phase::{
    self, Acceptance, AdvanceOptions, Advanced, Check, CutoverOptions, Gate, HistoryEntry, Phase,
    RollbackOptions, RolledBack, Scene, State, Status, Verdict,
};
use crate::preflight::grouped;
use crate::store::Postgres;

/// Arguments of `toolkit phase`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
  0 bootstrap     the target's schema is made          toolkit migrate up
  1 dual-write    changes in SQLite reach Postgres      toolkit dual-write enable, then run
  2 backfill      history is copied and compared        toolkit backfill, verify-parity (3 times)
  3 read cutover  Postgres is primary, SQLite follows   toolkit dual-write reverse run
  4 decommission  SQLite is sealed                      toolkit backfill --historical

`status` says what is done, what is missing, and the next command to type. `advance` enters the next
phase if its gate is open, and otherwise lists what is missing; every fact is computed from the
stores when it is asked for. `--force --reason` goes on all the same, and that is recorded for good.

The way from 2 to 3 is the cutover: a fence in every SQLite file refuses writes, the last changes are
applied and compared, and one transaction in Postgres changes the route. If that is not done within
--freeze-max, or anything fails, the fence is lifted again and phase 2 goes on. A command that was
killed is made good by the next `phase status`, `phase advance` or `dual-write run`.

--to names the phase that is meant. A command that was killed may have been done all the same, and
repeated without it goes one phase further; with it, a pack that is there already stays there.

`backup-check` dumps the pack's schemas and schema toolkit with pg_dump, restores the dump into a
scratch database, compares every table of both, and drops it again. `status` in phase 2 says whether
that was done and how long ago; the cutover asks for it only where pack.toml says so:
[phase] backup_max_age = \"7d\". pg_dump must be of the server's major version or newer.

`rollback` goes back by one phase. From 3 it applies back what Postgres holds, to the last change.

Exit codes: 0 done, or the gate is open; 1 refused, something is missing; 2 could not be checked.

Examples:
  toolkit phase status
  toolkit phase status --pack unified --source /data/app
  toolkit phase advance --to 3 --pack unified --source /data/app --dry-run
  toolkit phase advance --to 3 --pack unified --source /data/app
  toolkit phase advance --to 3 --pack unified --force --reason 'no cache worth verifying'
  toolkit phase rollback --to 2 --pack unified --source /data/app --reason 'errors in checkout'
  toolkit phase backup-check --pack unified --keep before-cutover.dump
  toolkit phase accept --pack unified")]
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
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, clap::Args)]
struct Sources {
    /// Folder or file with the pack's sources; may be repeated [default: where the newest
    /// verification found them]
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What is done, what is missing, and the next command to type
    Status {
        /// Built-in pack, or the folder of your own pack.toml [default: every built-in pack]
        #[arg(long)]
        pack: Option<String>,
        #[command(flatten)]
        sources: Sources,
    },
    /// Dump the pack, restore it elsewhere, compare every table, and keep that as evidence
    BackupCheck {
        /// Built-in pack, or the folder of your own pack.toml
        #[arg(long)]
        pack: String,
        /// Empty database to restore into, which keeps what was restored [default: a scratch
        /// database on the same server, dropped at the end]
        #[arg(long, value_name = "URL")]
        into: Option<String>,
        /// Keep the dump under this name [default: it is removed]
        #[arg(long, value_name = "FILE")]
        keep: Option<PathBuf>,
    },
    /// Enter the next phase if its gate is open
    Advance {
        #[command(flatten)]
        place: Place,
        /// The phase that is meant: there already, nothing is done; another than the next is refused
        #[arg(long, value_name = "PHASE", value_parser = clap::value_parser!(i16).range(1..=4))]
        to: Option<i16>,
        /// Show the gate, the steps and the present readings, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Go on although the gate is not open; recorded with its reason
        #[arg(long, requires = "reason")]
        force: bool,
        /// Why it is forced
        #[arg(long, value_name = "TEXT", requires = "force")]
        reason: Option<String>,
        /// What a rollback will not bring back (`reverse = "none"`) is known and accepted
        #[arg(long)]
        acknowledge_none: bool,
        /// Longest time in which no store takes writes, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 5000,
              value_parser = clap::value_parser!(u64).range(1..=600_000))]
        freeze_max: u64,
    },
    /// Go back by one phase
    Rollback {
        #[command(flatten)]
        place: Place,
        /// The phase that is meant: there already, nothing is done; another than the one before is
        /// refused
        #[arg(long, value_name = "PHASE", value_parser = clap::value_parser!(i16).range(0..=3))]
        to: Option<i16>,
        /// Why, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Lose rows that could not be written back to SQLite
        #[arg(long)]
        accept_loss: bool,
        /// Say what would be done and what stands against it; change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Every change of phase: who, when, why, on what evidence
    History {
        /// Built-in pack, or the folder of your own pack.toml
        #[arg(long)]
        pack: String,
    },
    /// The acceptance criteria, each with its evidence
    Accept {
        #[command(flatten)]
        place: Place,
    },
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let packs = match &args.action {
        Action::Status { pack: None, .. } => {
            builtin::NAMES.iter().map(|name| Pack::find(name)).collect::<Result<Vec<_>>>()?
        }
        Action::Status { pack: Some(pack), .. }
        | Action::History { pack }
        | Action::BackupCheck { pack, .. } => vec![Pack::find(pack)?],
        Action::Advance { place, .. }
        | Action::Rollback { place, .. }
        | Action::Accept { place } => vec![Pack::find(&place.pack)?],
    };
    let postgres = Postgres::connect(settings).await?;
    let outcome = act(args.action, &packs, settings, output, &postgres).await;
    let closed = postgres.close().await;
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

async fn act(
    action: Action,
    packs: &[Pack],
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    let stop = output.stop();
    let scene_of = |pack, roots| Scene { settings, postgres, pack, roots, stop };
    let scene = |roots: Vec<PathBuf>| match packs.first() {
        Some(pack) => Ok(scene_of(pack, roots)),
        None => Err(Error::new(ErrorKind::Usage, "there is no pack")),
    };
    match action {
        Action::Status { sources, .. } => {
            let mut all = Vec::new();
            for pack in packs {
                all.push(phase::status(&scene_of(pack, sources.source.clone())).await?);
            }
            let outcome = of_gates(all.iter().filter_map(|status| status.gate.as_ref()));
            output.report(&Statuses { packs: all })?;
            outcome
        }
        Action::BackupCheck { pack, into, keep } => {
            let scene = scene(Vec::new())?;
            let (_, set) = pack_of(&pack, None)?;
            let options = backup::Options { into, keep };
            let checking =
                backup::check(settings, postgres, scene.pack, set.as_ref(), &options, stop);
            let checked = Box::pin(checking).await?;
            phase::record_backup(&scene, &checked).await?;
            output.report(&checked)?;
            Ok(if checked.clean { Outcome::Success } else { Outcome::Differences })
        }
        Action::Advance { place, to, dry_run, reason, acknowledge_none, freeze_max, .. } => {
            let to = to.map(Phase::of_number).transpose()?;
            let cutover = CutoverOptions { freeze_max: Duration::from_millis(freeze_max) };
            let options = AdvanceOptions { to, dry_run, force: reason, acknowledge_none, cutover };
            let advanced = phase::advance(&scene(place.sources.source)?, &options).await?;
            output.report(&advanced)?;
            match &advanced {
                Advanced::Already { .. } | Advanced::Entered { .. } => Ok(Outcome::Success),
                Advanced::Refused { gate } | Advanced::Planned { gate, .. } => of_gates([gate]),
            }
        }
        Action::Rollback { place, to, reason, accept_loss, dry_run } => {
            let to = to.map(Phase::of_number).transpose()?;
            let options = RollbackOptions { to, reason, accept_loss, dry_run };
            let done = phase::rollback(&scene(place.sources.source)?, &options).await?;
            output.report(&done)?;
            let is_refused = done.planned.is_some_and(|planned| !planned.objections.is_empty());
            Ok(if is_refused { Outcome::Differences } else { Outcome::Success })
        }
        Action::History { .. } => {
            let mut conn = postgres.dedicated().await?;
            let name = scene(Vec::new())?.name().to_owned();
            let entries = phase::history(&mut conn, &name).await?;
            output.report(&History { pack: name, entries })?;
            Ok(Outcome::Success)
        }
        Action::Accept { place } => {
            let found = phase::accept(&scene(place.sources.source)?).await?;
            output.report(&found)?;
            if found.is_accepted() {
                return Ok(Outcome::Success);
            }
            if found.is_unknown() {
                return Err(Error::new(ErrorKind::StoreFailed, "not every criterion was checked"));
            }
            Ok(Outcome::Differences)
        }
    }
}

/// Open: 0. Something is missing: 1. Nothing is known to be, but not everything was checked: 2.
fn of_gates<'g>(gates: impl IntoIterator<Item = &'g Gate>) -> Result<Outcome> {
    let gates: Vec<&Gate> = gates.into_iter().collect();
    if gates.iter().all(|gate| gate.is_open()) {
        return Ok(Outcome::Success);
    }
    let is_missing = |gate: &&&Gate| !gate.is_open() && !gate.is_unknown();
    if gates.iter().any(|gate| is_missing(&gate)) {
        return Ok(Outcome::Differences);
    }
    let what = "not everything the gate asks for could be checked";
    Err(Error::new(ErrorKind::StoreFailed, what)
        .advice("what could not, and why, is under \"not checked\" in the report"))
}

#[derive(Serialize)]
struct Statuses {
    packs: Vec<Status>,
}

impl Report for Statuses {
    fn text(&self) -> String {
        self.packs.iter().map(status_text).collect::<Vec<_>>().join("\n\n")
    }
}

/// What each phase is, said of a pack that is in it.
fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Bootstrap => "applications read and write SQLite; Postgres is being made ready",
        Phase::DualWrite => {
            "applications read and write SQLite; every change is captured and applied to Postgres"
        }
        Phase::Backfill => {
            "applications read and write SQLite; history is copied to Postgres and compared"
        }
        Phase::Cutover => {
            "applications read and write Postgres; SQLite is fenced and follows it, for a rollback"
        }
        Phase::Decommissioned => "applications read and write Postgres; SQLite is sealed",
    }
}

fn status_text(status: &Status) -> String {
    let state = &status.state;
    let since = state.entered_at.as_ref().map(|at| format!(" since {at}")).unwrap_or_default();
    let mut text = format!(
        "pack {} is in phase {}{since} (generation {}): {}",
        status.pack,
        state.phase,
        state.generation,
        meaning(state.phase)
    );
    if let Some(recovered) = &status.recovered {
        text.push_str(&format!("\n{recovered}"));
    }
    if let Some(gate) = &status.gate {
        text.push_str(&gate_text(gate));
    }
    for check in &status.recommended {
        text.push_str(&format!("\nrecommended\n  {}: {}", check.name, check.finding));
        if let Some(advice) = &check.advice {
            text.push_str(&format!("\n    -> {advice}"));
        }
    }
    for file in &status.sealed {
        let sum = file.sha256.as_deref().unwrap_or("the file was gone");
        let only = if file.read_only { ", read-only" } else { "" };
        text.push_str(&format!("\n  sealed: {} SHA-256 {sum}{only}", file.path));
        match (&file.lsn, &file.parity_run) {
            (Some(lsn), Some(run)) => {
                text.push_str(&format!(", as Postgres was at {lsn}: verification {run}"));
            }
            _ => text.push_str(", not known to be what Postgres held"),
        }
    }
    if let Some(next) = &status.next {
        text.push_str(&format!("\nnext: {next}"));
    }
    text
}

fn already_text(state: &State) -> String {
    let since = state.entered_at.as_ref().map(|at| format!(" since {at}")).unwrap_or_default();
    format!("already in phase {}{since}\nno changes are made", state.phase)
}

fn gate_text(gate: &Gate) -> String {
    let part = |title: &str, verdict: Verdict, with_advice: bool| {
        let checks: Vec<&Check> =
            gate.checks.iter().filter(|check| check.verdict == verdict).collect();
        if checks.is_empty() {
            return String::new();
        }
        let mut text = format!("\n{title}");
        for check in checks {
            text.push_str(&format!("\n  {}: {}", check.name, check.finding));
            if let Some(advice) = check.advice.as_ref().filter(|_| with_advice) {
                text.push_str(&format!("\n    -> {advice}"));
            }
        }
        text
    };
    let mut text = format!("\nthe way to phase {}:", gate.to);
    text.push_str(&part("done", Verdict::Met, false));
    text.push_str(&part("missing", Verdict::Missing, true));
    text.push_str(&part("not checked", Verdict::Unknown, true));
    if gate.is_open() {
        text.push_str("\nnothing is missing");
    }
    text
}

impl Report for Advanced {
    fn text(&self) -> String {
        match self {
            Self::Already { state } => already_text(state),
            Self::Refused { gate } => {
                format!("phase {} is not entered{}\nno changes are made", gate.to, gate_text(gate))
            }
            Self::Planned { gate, steps, readings } => {
                let mut text = gate_text(gate).trim_start().to_owned();
                text.push_str("\nsteps:");
                for (number, step) in steps.iter().enumerate() {
                    text.push_str(&format!("\n  {}. {step}", number + 1));
                }
                for reading in readings {
                    text.push_str(&format!(
                        "\n  {}: {} captured, {} applied, {} behind",
                        reading.source,
                        reading.captured,
                        reading.applied,
                        reading.lag()
                    ));
                }
                text.push_str("\nno changes are made");
                text
            }
            Self::Entered { state, gate, forced, cutover, sealed, position } => {
                let mut text =
                    format!("phase {} is entered: {}", state.phase, meaning(state.phase));
                if *forced {
                    text.push_str(&format!("\nFORCED, and recorded as such{}", gate_text(gate)));
                }
                if let Some(done) = cutover {
                    for step in &done.steps {
                        text.push_str(&format!("\n  {:<24} {:>6} ms", step.step, step.ms));
                    }
                    text.push_str(&format!(
                        "\nno store took writes for {} ms; {} since the last verification compared \
                         before the fence, {} behind it",
                        done.freeze_ms,
                        counted(done.keys_verified_ahead, "change"),
                        done.keys_verified
                    ));
                    for rows in &done.not_compared {
                        text.push_str(&format!("\nNOT COMPARED: {rows}"));
                    }
                    if !done.not_compared.is_empty() {
                        text.push_str(
                            "\n`toolkit verify-parity --level full` compares them now; \
                             `toolkit phase rollback --to 2` is the way back",
                        );
                    }
                }
                if let Some(found) = position {
                    text.push_str(&format!(
                        "\nat {} of Postgres's log SQLite {}: full verification {} of {}; writes \
                         waited {} ms",
                        found.lsn,
                        match found.differing_rows {
                            0 => "held what Postgres held".to_owned(),
                            rows => format!("DIFFERED in {}", counted(rows, "row")),
                        },
                        found.parity_run,
                        counted(found.streams.len(), "stream"),
                        found.hold_ms
                    ));
                }
                for file in sealed {
                    let sum = file.sha256.as_deref().unwrap_or("the file was gone");
                    let only = if file.read_only { "read-only" } else { "NOT read-only" };
                    text.push_str(&format!("\nsealed: {} SHA-256 {sum}, {only}", file.path));
                }
                text
            }
        }
    }
}

impl Report for Checked {
    fn text(&self) -> String {
        let mut table = output::table(["table", "rows", "restored", "equal"]);
        for checked in &self.tables {
            let restored = checked.restored_rows.map_or_else(|| "-".to_owned(), grouped);
            let equal = if checked.is_equal { "yes" } else { "NO" };
            table.add_row([
                checked.table.clone(),
                grouped(checked.rows),
                restored,
                equal.to_owned(),
            ]);
        }
        let differing: Vec<&str> = self
            .tables
            .iter()
            .filter(|table| !table.is_equal)
            .map(|table| table.table.as_str())
            .collect();
        let verdict = if self.clean {
            format!(
                "BACKUP CHECKED: pack {}, {} in {} came back as they were",
                self.pack,
                rows(self.rows),
                output::count(self.tables.len() as u64, "table")
            )
        } else {
            format!("DIFFERENCES: did not come back as they were: {}", differing.join(", "))
        };
        let dump = match &self.kept {
            Some(file) => file.display().to_string(),
            None => "the dump, not kept,".to_owned(),
        };
        format!(
            "{}\n\n{verdict}\n{dump} has {} bytes, SHA-256 {}\ndumped in {:.1} s, restored in {:.1} s, \
             {:.1} s in all",
            table.trim_fmt(),
            grouped(self.bytes),
            self.sha256,
            self.dump_seconds,
            self.restore_seconds,
            self.seconds
        )
    }
}

impl Report for RolledBack {
    fn text(&self) -> String {
        if self.already {
            return already_text(&self.state);
        }
        if let Some(planned) = &self.planned {
            let steps = planned.steps.join("; ");
            let mut text = format!("from phase {} back to {}: {steps}", self.from, planned.to);
            for objection in &planned.objections {
                text.push_str(&format!("\nrefused: {objection}"));
            }
            text.push_str("\nno changes are made");
            return text;
        }
        let mut text = format!(
            "back from phase {} to {}: {}",
            self.from,
            self.state.phase,
            meaning(self.state.phase)
        );
        if self.from == Phase::Cutover {
            text.push_str(&format!("\nno store took writes for {} ms", self.freeze_ms));
        }
        if !self.capture_removed.is_empty() {
            text.push_str(&format!("\ncapture taken out of {}", self.capture_removed.join(", ")));
        }
        text
    }
}

#[derive(Serialize)]
struct History {
    pack: String,
    entries: Vec<HistoryEntry>,
}

impl Report for History {
    fn text(&self) -> String {
        if self.entries.is_empty() {
            return format!("pack {} has never changed its phase", self.pack);
        }
        let mut table = output::table(["at", "from", "to", "kind", "by", "reason"]);
        for entry in &self.entries {
            table.add_row([
                entry.at.clone(),
                entry.from.number().to_string(),
                entry.to.number().to_string(),
                entry.kind.clone(),
                entry.by.clone(),
                entry.reason.clone().unwrap_or_default(),
            ]);
        }
        table.trim_fmt()
    }
}

impl Report for Acceptance {
    fn text(&self) -> String {
        let mut text = format!("pack {} in phase {}", self.pack, self.state.phase);
        for (number, criterion) in self.criteria.iter().enumerate() {
            let verdict = match criterion.check.verdict {
                Verdict::Met => "met",
                Verdict::Missing => "NOT MET",
                Verdict::Unknown => "NOT CHECKED",
            };
            text.push_str(&format!(
                "\n{}. {}: {verdict}\n   {}",
                number + 1,
                criterion.criterion,
                criterion.check.finding
            ));
            if let Some(advice) = &criterion.check.advice {
                text.push_str(&format!("\n   -> {advice}"));
            }
        }
        text.push_str(if self.is_accepted() { "\naccepted" } else { "\nnot accepted" });
        text
    }
}
