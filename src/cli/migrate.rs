//! `toolkit migrate`: the target's schema.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use sqlx::PgConnection;

use super::{Outcome, Output, Report, migrate_lint, output};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::{
    self, Applied, Drift, MigrationSet, Optional, Options, Plan, Stage, State, Status, builtin,
    builtin_packs, from_directory,
};
use crate::store::Postgres;

/// Arguments of `toolkit migrate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each migration is one transaction with its row in toolkit.migrations_<pack>. A file whose first
line is `-- toolkit: no-transaction` runs statement by statement instead, and an interrupted
CREATE INDEX CONCURRENTLY in it is dropped and redone by the next run. The control schema `toolkit`
always comes first.

A migration that was edited after it was applied, is applied but has no file, or is older than an
applied one, is refused.

Examples:
  toolkit migrate up --dry-run               the plan; no changes are made
  toolkit migrate up                         all built-in packs
  toolkit migrate up --pack mine --dir ./sql files V1__name.sql, V2__name.sql, ...
  toolkit migrate status                     exit 1 unless everything is applied")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Apply what is pending
    Up {
        #[command(flatten)]
        packs: Packs,
        /// Print the plan and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Longest wait of one statement for a lock (500ms, 3s, 2m); then the migration is tried
        /// again, up to five times in all
        #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
        lock_timeout: Duration,
        /// Longest wait for another migrator to finish
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
        wait: Duration,
    },
    /// Show every migration and how it stands; exit 1 unless all are applied as they are
    Status {
        #[command(flatten)]
        packs: Packs,
    },
    /// Show what `up` would apply
    Plan {
        #[command(flatten)]
        packs: Packs,
    },
    /// Find statements that would lock, rewrite or break a live table
    Lint(migrate_lint::Args),
    /// Compare the live catalog with a freshly migrated one; exit 1 where it has drifted
    Verify {
        #[command(flatten)]
        packs: Packs,
    },
}

#[derive(Debug, clap::Args)]
struct Packs {
    /// A pack; may be given more than once [default: all built-in packs]
    #[arg(long = "pack", value_name = "PACK")]
    names: Vec<String>,
    /// Folder with the pack's V<version>__<name>.sql, for one pack that is not built in
    #[arg(long, value_name = "DIR", requires = "names")]
    dir: Option<PathBuf>,
}

impl Packs {
    fn sets(&self) -> Result<Vec<MigrationSet>> {
        if let Some(dir) = &self.dir {
            let [name] = self.names.as_slice() else {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("--dir belongs to one --pack, not {}", self.names.len()),
                ));
            };
            return Ok(vec![from_directory(name, dir)?]);
        }
        if self.names.is_empty() {
            return Ok(builtin_packs().filter_map(builtin).collect());
        }
        self.names.iter().map(|name| migrate::builtin_or_error(name)).collect()
    }
}

/// Runs `toolkit migrate`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    // What is wrong with the files is said before a server is started.
    let sets = match &args.action {
        Action::Lint(args) => return migrate_lint::run(args, output),
        Action::Up { packs, .. }
        | Action::Status { packs }
        | Action::Plan { packs }
        | Action::Verify { packs } => packs.sets()?,
    };
    let postgres = Postgres::connect(settings).await?;
    if let Action::Verify { .. } = &args.action {
        let outcome = verify(settings, &postgres, &sets, output).await;
        postgres.close().await?;
        return outcome;
    }
    let mut connection = postgres.dedicated().await?;
    let outcome = act(args.action, &sets, &mut connection, output).await;
    drop(connection);
    postgres.close().await?;
    outcome
}

/// Only packs that have been applied can have drifted; a pack that is named must have been.
async fn verify(
    settings: &Settings,
    postgres: &Postgres,
    sets: &[MigrationSet],
    output: &Output,
) -> Result<Outcome> {
    let mut connection = postgres.dedicated().await?;
    let mut report = VerifyReport { is_current: true, packs: Vec::new(), not_applied: Vec::new() };
    for set in sets {
        let status = migrate::status(&mut connection, set).await?;
        if status.entries.iter().all(|entry| entry.state == State::Pending) {
            report.not_applied.push(set.pack.clone());
            continue;
        }
        status.check()?;
        if !status.is_current() {
            return Err(Error::new(
                ErrorKind::Migration,
                format!("pack {}: migrations are pending", set.pack),
            )
            .advice("run `toolkit migrate up` first, so that there is one thing to compare with"));
        }
        report.packs.push(migrate::drift(settings, postgres, set, output.stop()).await?);
    }
    drop(connection);
    report.is_current = report.packs.iter().all(Drift::is_none);
    output.report(&report)?;
    if let [only] = sets
        && report.packs.is_empty()
    {
        return Err(Error::new(
            ErrorKind::Migration,
            format!("pack {} is not applied to this database", only.pack),
        )
        .advice(format!("run `toolkit migrate up --pack {}`", only.pack)));
    }
    Ok(if report.is_current { Outcome::Success } else { Outcome::Differences })
}

#[derive(Serialize)]
struct VerifyReport {
    is_current: bool,
    packs: Vec<Drift>,
    not_applied: Vec<String>,
}

impl Report for VerifyReport {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for drift in &self.packs {
            lines.extend(drift.entries.iter().map(|entry| format!("DRIFT {entry}")));
            if !drift.others.is_empty() {
                lines.push(format!(
                    "made by no migration, and left alone: {}",
                    drift.others.join(", ")
                ));
            }
            let (pack, objects) = (&drift.pack, drift.objects);
            lines.push(match drift.entries.len() {
                0 => format!("pack {pack}: all {objects} objects are as its migrations make them"),
                some => format!("pack {pack}: {some} of {objects} objects have drifted"),
            });
        }
        if !self.not_applied.is_empty() {
            lines.push(format!("not applied here: {}", self.not_applied.join(", ")));
        }
        lines.join("\n")
    }
}

async fn act(
    action: Action,
    sets: &[MigrationSet],
    connection: &mut PgConnection,
    output: &Output,
) -> Result<Outcome> {
    match action {
        Action::Status { .. } => {
            let mut packs = Vec::with_capacity(sets.len());
            for set in sets {
                packs.push(migrate::status(connection, set).await?);
            }
            let optional = migrate::optional_extensions(connection).await?;
            let is_current = packs.iter().all(Status::is_current);
            output.report(&StatusReport { is_current, packs, optional })?;
            Ok(if is_current { Outcome::Success } else { Outcome::Differences })
        }
        Action::Plan { .. } | Action::Up { dry_run: true, .. } => {
            let plan = migrate::plan(connection, sets).await?;
            output.report(&PlanReport::new(&plan))?;
            Ok(Outcome::Success)
        }
        Action::Up { lock_timeout, wait, .. } => {
            let plan = migrate::plan(connection, sets).await?;
            let options =
                Options { lock_timeout, wait, stop: output.stop().clone(), ..Options::default() };
            output.report(&migrate::apply(connection, &plan, &options).await?)?;
            Ok(Outcome::Success)
        }
        // Answered without this connection.
        Action::Lint(_) | Action::Verify { .. } => Ok(Outcome::Success),
    }
}

/// `500ms`, `3s`, `2m`; above zero, since a lock timeout of 0 would be no limit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let per_unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("write a number and a unit: 500ms, 3s or 2m".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is not a whole number"))?;
    match number.checked_mul(per_unit_ms) {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("from 1ms to 1440m".to_owned()),
    }
}

#[derive(Serialize)]
struct StatusReport {
    is_current: bool,
    packs: Vec<Status>,
    optional: Vec<Optional>,
}

impl Report for StatusReport {
    fn text(&self) -> String {
        let mut table = output::table(["PACK", "VERSION", "NAME", "STATE", "APPLIED ON"]);
        for status in &self.packs {
            for entry in &status.entries {
                let applied_on = entry.applied_on.as_deref().unwrap_or("");
                table.add_row([
                    status.pack.as_str(),
                    &entry.version.to_string(),
                    &entry.name,
                    state_text(entry.state),
                    applied_on,
                ]);
            }
        }
        let mut lines = vec![table.trim_fmt(), String::new()];
        lines.extend(optional_lines(&self.optional));
        lines.extend(self.packs.iter().map(|status| match status.check() {
            Ok(()) if status.is_current() => format!("pack {}: up to date", status.pack),
            Ok(()) => format!("pack {}: pending; run `toolkit migrate up`", status.pack),
            Err(error) => {
                format!("{}\n  help: {}", error.detail(), error.advice_text().unwrap_or_default())
            }
        }));
        lines.join("\n")
    }
}

fn state_text(state: State) -> &'static str {
    match state {
        State::Applied => "applied",
        State::Pending => "pending",
        State::Divergent => "divergent",
        State::Missing => "missing file",
        State::OutOfOrder => "out of order",
    }
}

#[derive(Serialize)]
struct PlanReport<'a> {
    is_empty: bool,
    packs: Vec<PlannedPack<'a>>,
    optional: &'a [Optional],
}

#[derive(Serialize)]
struct PlannedPack<'a> {
    pack: &'a str,
    applied: usize,
    pending: Vec<PlannedFile<'a>>,
}

#[derive(Serialize)]
struct PlannedFile<'a> {
    file_name: &'a str,
    transactional: bool,
}

impl<'a> PlanReport<'a> {
    fn new(plan: &'a Plan) -> Self {
        let packs = plan.stages.iter().map(PlannedPack::new).collect();
        Self { is_empty: plan.is_empty(), packs, optional: &plan.optional }
    }
}

impl<'a> PlannedPack<'a> {
    fn new(stage: &'a Stage) -> Self {
        let planned = |file: &'a migrate::Migration| PlannedFile {
            file_name: &file.file_name,
            transactional: file.transactional,
        };
        Self {
            pack: &stage.set.pack,
            applied: stage.set.migrations.len() - stage.pending.len(),
            pending: stage.migrations().map(planned).collect(),
        }
    }
}

impl Report for PlanReport<'_> {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for pack in &self.packs {
            let PlannedPack { pack, applied, pending } = pack;
            lines.push(format!("pack {pack}: {} pending, {applied} applied", pending.len()));
            lines.extend(pending.iter().map(|file| {
                let how = if file.transactional { "" } else { "  (outside a transaction)" };
                format!("  {}{how}", file.file_name)
            }));
        }
        lines.extend(optional_lines(self.optional));
        lines.push(if self.is_empty { "nothing to do" } else { "no changes are made" }.to_owned());
        lines.join("\n")
    }
}

impl Report for Applied {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for stage in &self.stages {
            let pack = &stage.pack;
            lines.extend(stage.applied.iter().map(|file| {
                format!("pack {pack}: applied {} ({} ms)", file.file_name, file.elapsed_ms)
            }));
            lines.extend(stage.by_others.iter().map(|file| {
                format!("pack {pack}: {file} was applied by another migrator meanwhile")
            }));
        }
        if self.is_empty() {
            lines.push("up to date; nothing was changed".to_owned());
        }
        lines.extend(optional_lines(&self.optional));
        lines.join("\n")
    }
}

fn optional_lines(parts: &[Optional]) -> impl Iterator<Item = String> + '_ {
    parts.iter().map(|part| format!("{}: {}", part.name, part.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_a_unit_and_a_bound() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["3", "s", "", "0s", "-1s", "1.5s", "3h", "99999999999999999999s", "1441m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
