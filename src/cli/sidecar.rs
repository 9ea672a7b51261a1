//! `toolkit sidecar`: the ingestion state as a file beside an artifact.

use std::path::PathBuf;

use clap::Subcommand;

use super::record::on_connection;
use super::{Outcome, Output, Report, output};
use crate::anime::sidecar::{self, Differences, Parity, Restored, Written, path_of};
use crate::config::Settings;
use crate::error::Result;

/// Arguments of `toolkit sidecar`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
anime_database.ingestion_state.json, beside anime_database.json: which artifacts were read when, and of
each anime the SHA-256 of its last entry. Postgres is authoritative; the file is its portable backup.
It is written whole or not at all, sorted, and equal state gives equal bytes. A backfill rewrites one
that is there; the first is written by `sidecar write`.

check compares in both directions (exit 1 if anything differs). restore rebuilds ingestion_runs and
anime_ingestion_state after a disaster; it refuses while Postgres has any, unless --replace says that
they may go.

Examples:
  toolkit sidecar write --source data/anime_database.json
  toolkit sidecar check --source data/anime_database.json
  toolkit sidecar restore --source data/anime_database.json --dry-run")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write it from what Postgres holds
    Write {
        #[command(flatten)]
        place: Place,
        /// Say what would be written and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare it with what Postgres holds
    Check(Place),
    /// Rebuild the state tables from it
    Restore {
        #[command(flatten)]
        place: Place,
        /// Throw away the ingestion state that Postgres has
        #[arg(long)]
        replace: bool,
        /// Say what would be restored and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The artifact
    #[arg(long, value_name = "FILE")]
    source: PathBuf,
    /// The sidecar, if it is not beside the artifact
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Place {
    fn file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| path_of(&self.source))
    }
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Write { place, dry_run } => {
            let written = on_connection(settings, output, async |connection| {
                crate::migrate::require_current(connection, crate::anime::PACK).await?;
                sidecar::write(connection, &place.source, &place.file(), dry_run).await
            })
            .await?;
            output.report(&written)?;
            Ok(Outcome::Success)
        }
        Action::Check(place) => {
            let parity = on_connection(settings, output, async |connection| {
                sidecar::check(connection, &place.source, &place.file()).await
            })
            .await?;
            output.report(&parity)?;
            Ok(if parity.is_clean() { Outcome::Success } else { Outcome::Differences })
        }
        Action::Restore { place, replace, dry_run } => {
            let restored = on_connection(settings, output, async |connection| {
                sidecar::restore(connection, &place.file(), replace, dry_run).await
            })
            .await?;
            let is_whole = restored.without_anime.is_empty();
            output.report(&restored)?;
            Ok(if is_whole { Outcome::Success } else { Outcome::Differences })
        }
    }
}

impl Report for Written {
    fn text(&self) -> String {
        let Self { file, runs, anime, dry_run } = self;
        let wrote = if *dry_run { "a dry run: would write" } else { "wrote" };
        format!("{wrote} {}: {runs} runs, {anime} anime", file.display())
    }
}

/// Ids that a list shows of each kind.
const SHOWN: usize = 10;

impl Report for Parity {
    fn text(&self) -> String {
        let mut table =
            output::table(["", "equal", "only in Postgres", "only in the sidecar", "different"]);
        let sides = [("runs", &self.runs), ("anime", &self.anime)];
        for (name, side) in sides {
            table.add_row([
                name.to_owned(),
                side.equal.to_string(),
                side.missing.len().to_string(),
                side.extra.len().to_string(),
                side.stale.len().to_string(),
            ]);
        }
        let mut text = format!("{}\n\n{table}", self.file.display());
        for (name, side) in sides {
            let Differences { missing, extra, stale, .. } = side;
            for (what, ids) in [
                ("only in Postgres", missing),
                ("only in the sidecar", extra),
                ("different", stale),
            ] {
                if !ids.is_empty() {
                    let first: Vec<&str> = ids.iter().take(SHOWN).map(String::as_str).collect();
                    let more = ids.len().saturating_sub(SHOWN);
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    text.push_str(&format!("\n{name}, {what}: {}{more}", first.join(", ")));
                }
            }
        }
        if !self.is_of_artifact {
            text.push_str("\nthe artifact is another than the one it was written beside");
        }
        text.push_str(if self.is_clean() { "\nno differences" } else { "\nthey differ" });
        text
    }
}

impl Report for Restored {
    fn text(&self) -> String {
        let what = if self.dry_run { "a dry run: would restore" } else { "restored:" };
        let mut text = format!("{what} {} runs, {} states", self.runs, self.states);
        if !self.without_anime.is_empty() {
            text.push_str(&format!(
                "\nanime of the sidecar that Postgres does not have: {}; ingest their artifact again",
                self.without_anime.len()
            ));
        }
        text
    }
}
