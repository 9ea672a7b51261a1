//! `toolkit init`: a commented toolkit.toml and, from a `SQLite` file, a first pack.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::copy::{Choices, planned};
use super::{Outcome, Output, Report};
use crate::copy;
use crate::error::{Error, ErrorKind, Result};
use crate::shell::shell_word;

/// What is written: every setting with its default, all commented out.
const SETTINGS: &str = include_str!("init.toml");

/// Name of the settings file.
const SETTINGS_FILE: &str = "toolkit.toml";

/// Arguments of `toolkit init`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Writes toolkit.toml with every setting, commented out, so that nothing changes until a line is
uncommented. With --from it reads a SQLite file as `toolkit copy --dry-run` does and writes a pack:
a migration with the tables, and pack.toml with the mapping, to be read, changed and run.
What is there already is never overwritten.

Examples:
  toolkit init
  toolkit init --from app.db
  toolkit init --from app.db --pack-dir ./app-pack --zone UTC")]
pub struct Args {
    /// Folder to write to
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// A SQLite file to make a first pack of
    #[arg(long, value_name = "SQLITE_FILE")]
    from: Option<PathBuf>,
    /// Folder of the pack [default: packs/<schema> below the folder]
    #[arg(long, value_name = "DIR", requires = "from")]
    pack_dir: Option<PathBuf>,
    #[command(flatten)]
    choices: Choices,
}

/// What was written, and what to do next.
#[derive(Debug, Serialize)]
struct Outline {
    written: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    next: Vec<String>,
    plan: Option<copy::Plan>,
}

/// Runs the command.
pub async fn run(args: Args, output: &Output) -> Result<Outcome> {
    let mut done = Outline { written: Vec::new(), kept: Vec::new(), next: Vec::new(), plan: None };
    // What can be refused is refused before anything is written.
    if let Some(file) = &args.from {
        let plan = planned(file, &args.choices, output).await?;
        if plan.tables.is_empty() {
            return Err(Error::new(ErrorKind::Usage, format!("{} has no table", file.display()))
                .advice("leave --from out to write toolkit.toml alone"));
        }
        let folder =
            args.pack_dir.clone().unwrap_or_else(|| args.folder.join("packs").join(&plan.schema));
        copy::write_new(&plan, &folder)?;
        done.written.extend(plan.files().map(|(name, _)| folder.join(name)));
        done.next = steps(&plan, &folder);
        done.plan = Some(plan);
    }
    settings_file(&args.folder, &mut done)?;
    if done.next.is_empty() {
        done.next
            .push("toolkit copy app.db --dry-run     what a copy of a file would do".to_owned());
        done.next
            .push("toolkit embedded start            a private server that stays up".to_owned());
    }
    output.report(&done)?;
    Ok(Outcome::Success)
}

fn settings_file(folder: &Path, done: &mut Outline) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::from(error).context(folder.display()))?;
    let path = folder.join(SETTINGS_FILE);
    // Made only if it is not there, whoever else is at it.
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            use std::io::Write as _;
            file.write_all(SETTINGS.as_bytes())
                .map_err(|error| Error::from(error).context(path.display()))?;
            done.written.push(path);
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => done.kept.push(path),
        Err(error) => return Err(Error::from(error).context(path.display())),
    }
    Ok(())
}

fn steps(plan: &copy::Plan, folder: &Path) -> Vec<String> {
    let word = |path: &Path| shell_word(&path.display().to_string());
    let (pack, dir, file) = (&plan.pack, word(folder), word(&plan.source));
    vec![
        format!("toolkit migrate up --pack {pack} --dir {dir}"),
        format!("toolkit pack check --pack {dir} --source {file}"),
        format!("toolkit backfill --pack {dir} --source {file}"),
        format!("toolkit verify-parity --pack {dir} --source {file}"),
    ]
}

impl Report for Outline {
    fn text(&self) -> String {
        let mut lines: Vec<String> =
            self.written.iter().map(|path| format!("wrote {}", path.display())).collect();
        lines.extend(
            self.kept.iter().map(|path| format!("left alone, it is there: {}", path.display())),
        );
        if let Some(plan) = &self.plan {
            lines.push(format!("\n{}\n", plan.text().replace("\n\nno changes are made", "")));
        }
        lines.push("next:".to_owned());
        lines.extend(self.next.iter().map(|step| format!("  {step}")));
        lines.join("\n")
    }
}
