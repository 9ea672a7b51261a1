//! `toolkit migrate lint`: statements that would hurt a live database.

use std::path::{Path, PathBuf};

use super::{Outcome, Output, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::lint::{Lint, LintFile, Severity, files_of, lint};
use crate::migrate::{builtin_or_error, builtin_packs};

/// Arguments of `toolkit migrate lint`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Nothing is connected to and nothing is run. A statement is refused when it stops or breaks an
application that uses the table: an index without CONCURRENTLY, a foreign key or check without NOT
VALID, a changed type, a rename, a drop ... Each finding says the safe form. Tables that the same
file makes are not live, so whatever is done to them there is let through.

A statement that you have judged is let through by a comment right above it, with the reason:

  -- toolkit: allow renaming-table because the application is stopped for this release
  ALTER TABLE orders RENAME TO purchases;

Exit codes: 0 nothing is refused (there may be warnings), 1 something is, 2 could not read.

Examples:
  toolkit migrate lint sql                   every *.sql of a folder, by version
  toolkit migrate lint V7__orders.sql        one file
  toolkit migrate lint sql --installed 6     V1 to V6 are a first installation, on empty tables
  toolkit migrate lint                       the built-in packs")]
pub(super) struct Args {
    /// Files or folders [default: the built-in packs]
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// A built-in pack; may be given more than once
    #[arg(long = "pack", value_name = "PACK", conflicts_with = "paths")]
    packs: Vec<String>,
    /// Files up to this version install the pack for the first time: the tables they make are
    /// empty while they run [default: 0; built-in packs: all their files]
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    installed: i64,
    /// The server's version
    #[arg(long, value_name = "VERSION", default_value = "15")]
    postgres: String,
}

/// Runs `toolkit migrate lint`.
pub(super) fn run(args: &Args, output: &Output) -> Result<Outcome> {
    let mut found = None::<Lint>;
    for files in groups(args)? {
        let next = lint(&files, &args.postgres)?;
        match &mut found {
            None => found = Some(next),
            Some(found) => found.append(next),
        }
    }
    let Some(found) = found else { return Ok(Outcome::Success) };
    output.report(&found)?;
    Ok(if found.passes { Outcome::Success } else { Outcome::Differences })
}

/// Files that build on each other: those of a pack, or of the command line.
fn groups(args: &Args) -> Result<Vec<Vec<LintFile>>> {
    if !args.paths.is_empty() {
        let mut files = Vec::new();
        for path in &args.paths {
            read(path, args.installed, &mut files)?;
        }
        return Ok(vec![files]);
    }
    let names: Vec<String> = if args.packs.is_empty() {
        builtin_packs().map(str::to_owned).collect()
    } else {
        args.packs.clone()
    };
    names
        .iter()
        .map(|name| {
            let mut files = files_of(&builtin_or_error(name)?, i64::MAX);
            for file in &mut files {
                file.name = format!("{name}/{}", file.name);
            }
            Ok(files)
        })
        .collect()
}

fn read(path: &Path, installed: i64, files: &mut Vec<LintFile>) -> Result<()> {
    if !path.is_dir() {
        files.push(read_file(path, installed)?);
        return Ok(());
    }
    let unreadable = |error: std::io::Error| unreadable(path, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("sql")) && !path.is_dir() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("there is no *.sql in {}", path.display()),
        )
        .advice("name the folder that holds the migrations themselves"));
    }
    found.sort_by_key(|path| (version(path), path.clone()));
    for path in found {
        files.push(read_file(&path, installed)?);
    }
    Ok(())
}

fn read_file(path: &Path, installed: i64) -> Result<LintFile> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    let mut file = LintFile::new(path.display().to_string(), &text);
    file.first_installation = version(path).is_some_and(|version| version <= installed);
    Ok(file)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read {}: {error}", path.display())).because(error)
}

/// `V12__add.sql`, `0012_add.sql`: 12.
fn version(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let digits: String =
        name.trim_start_matches(['V', 'v']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

impl Report for Lint {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for hazard in &self.hazards {
            let word = match hazard.severity {
                Severity::Refused => "refused",
                Severity::Warning => "warning",
            };
            let (file, line, column) = (&hazard.file, hazard.line, hazard.column);
            lines.push(format!("{file}:{line}:{column}: {word}: {}", hazard.rule));
            lines.push(format!("  {}", hazard.statement));
            lines.push(format!("  it hurts: {}", hazard.what));
            lines.push(format!("  instead:  {}", hazard.safe));
            lines.push(String::new());
        }
        let refused = self.refused();
        let warnings = self.hazards.len() - refused;
        let verdict = if self.passes { "PASSES" } else { "REFUSED" };
        let allowed = match self.allowed {
            0 => String::new(),
            some => format!(", {some} allowed by comments"),
        };
        lines.push(format!(
            "{verdict}: {} statement(s) in {} file(s): {refused} refused, {warnings} warning(s){allowed}",
            self.statements, self.files
        ));
        lines.join("\n")
    }
}
