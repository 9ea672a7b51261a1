//! `toolkit import`: an archive into a database.

use std::path::PathBuf;

use super::export::{rows, shown};
use super::progress::Progress;
use super::record::on_connection;
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{self, Action, ImportOptions, Imported, import};
use crate::pack::join_error;
use crate::preflight::grouped;

/// Arguments of `toolkit import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Brings an archive that `toolkit export` wrote into a database. Before anything is written, every file
is read and its size, SHA-256 and number of rows are compared with the manifest; links, names that
lead out of the folder, and archives of another version are refused.

Then the archive's migrations are applied, as `toolkit migrate up` does, tables are loaded in the
order of their foreign keys, sequences are moved to where they stood and past the keys, and every table's digests are
compared with the archive's. Tables that refer to each other in a circle are loaded in one
transaction. Triggers of the tables do not fire, nor for anybody else meanwhile are they off: what
they would write into the pack's tables is in the archive.

A table that holds the archive's rows already is left alone, so that an import that was stopped or
killed goes on when it is run again. A table that holds other rows is refused before any row is
written.

The archive's digests show damage and careless edits, not forgery: its migrations are SQL that is
run, so import only what you trust.

Exit codes: 0 every table is what the archive says, 1 one differs, 2 could not run.

Examples:
  toolkit import webtoon-2026-11 --dry-run
  toolkit import webtoon-2026-11
  toolkit --database-url postgres://me@db.example/copy import webtoon-2026-11")]
pub struct Args {
    /// The archive's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Check the archive and the database, say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let (folder, stop) = (args.folder.clone(), output.stop().clone());
    let archive = tokio::task::spawn_blocking(move || export::open(&folder, &stop))
        .await
        .map_err(join_error)??;
    let options = ImportOptions { dry_run: args.dry_run };
    let progress = Progress::new(output);
    let imported = on_connection(settings, output, async |connection| {
        let show = |event| progress.show(shown(event));
        import(connection, &archive, &options, output.stop(), &show).await
    })
    .await
    .map_err(resumable)?;
    output.report(&imported)?;
    Ok(if imported.is_equal { Outcome::Success } else { Outcome::Differences })
}

/// An import that was stopped says how to go on.
fn resumable(error: Error) -> Error {
    if error.kind() != ErrorKind::Interrupted {
        return error;
    }
    Error::new(ErrorKind::Interrupted, "stopped on request; tables that were loaded are kept")
        .advice("run the same command again to go on")
}

impl Report for Imported {
    fn text(&self) -> String {
        let mut table = output::table(["table", "rows", "what", "equal"]);
        for imported in &self.tables {
            let what = match (imported.action, self.dry_run) {
                (Action::Load, true) => "would be loaded",
                (Action::Load, false) => "loaded",
                (Action::Skip, _) => "was there",
            };
            let equal = match imported.is_equal {
                None => "",
                Some(true) => "yes",
                Some(false) => "NO",
            };
            table.add_row([
                imported.table.clone(),
                grouped(imported.rows),
                what.to_owned(),
                equal.to_owned(),
            ]);
        }
        let mut text = table.trim_fmt();
        if !self.migrations.is_empty() {
            let would = if self.dry_run { "would be applied" } else { "applied" };
            text.push_str(&format!("\n\nmigrations {would}: {}", self.migrations.join(", ")));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}"));
        }
        let all = format!(
            "{} in {} of the pack {}",
            rows(self.rows),
            output::count(self.tables.len() as u64, "table"),
            self.pack
        );
        let differing: Vec<&str> = self
            .tables
            .iter()
            .filter(|table| table.is_equal == Some(false))
            .map(|table| table.table.as_str())
            .collect();
        text.push_str(&match (self.dry_run, self.is_equal) {
            (true, _) => format!("\n\nthe archive is sound: {all}; no changes are made"),
            (false, true) => format!("\n\nIMPORTED: {all}, each as the archive says"),
            (false, false) => {
                format!("\n\nDIFFERENCES: not as the archive says: {}", differing.join(", "))
            }
        });
        text
    }
}
