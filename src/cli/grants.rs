//! `toolkit grants`: the least rights of an application's role.

use std::path::PathBuf;

use super::export::pack_of;
use super::record::on_connection;
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::Result;
use crate::grants::{self, Grants, Options};

/// Arguments of `toolkit grants`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Prints the GRANT statements that an application's role needs to work with a pack's tables, and no
more; --apply gives what is missing, all or nothing; --check only says what is missing.

  CONNECT                          on the database
  USAGE                            on the pack's schemas and types
  SELECT, INSERT, UPDATE, DELETE   on its tables; SELECT on its views
  USAGE                            on its sequences; behind identity columns none is asked for
  EXECUTE                          on its functions, not on those of triggers
  ALTER DEFAULT PRIVILEGES         for tables and sequences that later migrations make

Of schema toolkit only what the Rust API touches: the route (ReadRouter), the hold on it
(DualWriter), and the tally of compared reads (ShadowRead). --without-api leaves that out; the
triggers that capture changes run with their owner's rights and need none of the application's.

--read-only: SELECT, and functions that are declared STABLE or IMMUTABLE. In schema public, which
others share, only the pack's own tables are named, and nothing is said about later ones.

No right to CREATE, TRUNCATE, REFERENCES or TRIGGER is given, and none is taken away: what a role
may do beyond this is not looked at.

Exit codes: 0 printed, given, or nothing is missing; 1 --check found something missing; 2 could not
run.

Examples:
  toolkit grants --pack webtoon --role studio
  toolkit grants --pack webtoon --role studio --apply
  toolkit grants --pack webtoon --role reports --read-only --without-api --apply
  toolkit grants --pack webtoon --role studio --check
  toolkit grants --pack shop --dir ./shop-pack --role shop | psql shop")]
// Flags of a command line, each a choice of its own.
#[allow(clippy::struct_excessive_bools)]
pub struct Args {
    /// Name of a built-in pack, or the folder of your own
    #[arg(long, value_name = "PACK")]
    pack: String,
    /// Folder of a pack that is named by --pack and not built in
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The application's role, which must be there
    #[arg(long, value_name = "NAME")]
    role: String,
    /// The role reads only
    #[arg(long)]
    read_only: bool,
    /// Nothing of schema toolkit: the application does not use the Rust API
    #[arg(long)]
    without_api: bool,
    /// Give what is missing, in one transaction
    #[arg(long, conflicts_with_all = ["check", "dry_run"])]
    apply: bool,
    /// Say what is missing, and change nothing
    #[arg(long)]
    check: bool,
    /// Print the statements and change nothing, which is the default
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let (pack, set) = pack_of(&args.pack, args.dir.as_deref())?;
    let options =
        Options { role: args.role, read_only: args.read_only, without_api: args.without_api };
    let grants = on_connection(settings, output, async |connection| {
        if args.apply {
            grants::apply(connection, &pack, set.as_ref(), &options).await
        } else {
            grants::plan(connection, &pack, set.as_ref(), &options).await
        }
    })
    .await?;
    let is_lacking = grants.missing().next().is_some();
    if args.check {
        output.report(&Lacking(grants))?;
        return Ok(if is_lacking { Outcome::Differences } else { Outcome::Success });
    }
    output.report(&grants)?;
    Ok(Outcome::Success)
}

/// A script for psql: what is no statement is a comment.
impl Report for Grants {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for grant in &self.grants {
            let is_held = grant.missing.is_empty();
            let note = if is_held && self.applied.is_none() { "  -- has it already" } else { "" };
            lines.push(format!("{};{note}", grant.statement));
        }
        lines.extend(self.notes.iter().map(|note| format!("-- {note}")));
        let all = output::count(self.grants.len() as u64, "statement");
        let missing = self.missing().count();
        lines.push(match self.applied {
            Some(0) => format!("-- role {} had all of it already", self.role),
            Some(given) => format!("-- {given} of {all} given to role {}", self.role),
            None => format!("-- {missing} of {all} needed; no changes are made (--apply)"),
        });
        lines.join("\n")
    }
}

/// The answer of `--check`.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct Lacking(Grants);

impl Report for Lacking {
    fn text(&self) -> String {
        let grants = &self.0;
        let mut lines: Vec<String> = grants
            .missing()
            .map(|grant| format!("lacks {} on {}", grant.missing.join(", "), grant.object))
            .collect();
        lines.extend(grants.notes.iter().cloned());
        let count = grants.missing().count() as u64;
        lines.push(if count == 0 {
            format!("role {} has all it needs of the pack {}", grants.role, grants.pack)
        } else {
            format!(
                "MISSING: role {} lacks {}; `toolkit grants --apply` gives them",
                grants.role,
                output::count(count, "right")
            )
        });
        lines.join("\n")
    }
}
