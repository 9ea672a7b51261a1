//! `toolkit rejects`: what could not be stored, and why.

use std::fmt::Write as _;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::record::{
    Listing, listing_text, on_connection, pack_name, place_text, record_text, shown,
};
use super::{Outcome, Output, Report, output, rejects_retry};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{
    self, Acknowledgement, Filter, Purge, Purged, Reject, RejectList, STATES, Which,
};

/// Arguments of `toolkit rejects`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A reject is a record that could not be stored, kept whole in toolkit.reject without its secrets.
States: open; acknowledged (a person accepts the loss); retried (stored corrected, while the source
still holds the bad record); resolved (stored as it is, or no longer met by a later backfill).
Listing exits 0 whatever it finds.

Correct the source or pack.toml and run the backfill again: what it can store then is resolved. Or
leave the source alone: export, correct `record` in the file, and retry with it. A retry runs the
records through the same casts, rules and merge as a backfill, without the source; rows that the
target holds already under a record's key are left alone unless --replace lets the stream's
conflict rule decide. Parity then expects the corrected row where the source has the bad one. A
record from which a secret was removed cannot be retried: only its source has it.

purge removes resolved and acknowledged rejects; what parity can no longer account for is said.

Examples:
  toolkit rejects list --pack unified
  toolkit rejects list --pack unified --stream token_usage --state open --limit 10
  toolkit rejects show 17
  toolkit rejects export --pack unified --out rejects.jsonl
  toolkit rejects retry --pack unified --file rejects.jsonl
  toolkit rejects retry --pack unified --stream token_usage --dry-run
  toolkit rejects acknowledge --pack unified 17 18
  toolkit rejects purge --pack unified --older-than 90d --dry-run
  toolkit rejects acknowledge --pack unified --all --dry-run")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How many there are of each kind, and the first of them
    List {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        listing: Listing,
    },
    /// One reject with its whole record
    Show {
        /// Its number
        id: i64,
    },
    /// Write rejects to a file, one JSON object a line, their records fit to be corrected
    Export {
        #[command(flatten)]
        wanted: Wanted,
        /// New file; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Accept rejects: they stay, and are no longer listed as open; a backfill that meets them again
    /// still exits 1 unless --max-rejects allows them
    Acknowledge {
        /// The pack whose rejects they are: its name, or its folder
        #[arg(long, value_parser = pack_name)]
        pack: String,
        /// Every open reject of the pack
        #[arg(long, conflicts_with = "ids", required_unless_present = "ids")]
        all: bool,
        /// Numbers of rejects
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
        /// Print what would be acknowledged and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Try rejects again, as they are kept or corrected: exit 1 if some are refused again
    Retry(rejects_retry::Retrying),
    /// Remove rejects that are resolved or acknowledged
    Purge {
        /// The pack whose rejects they are: its name, or its folder
        #[arg(long, value_parser = pack_name)]
        pack: String,
        /// Only this state; may be repeated
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
        state: Vec<String>,
        /// Only those met first so long ago: 30d, 12h, 45m, 90s
        #[arg(long, value_name = "AGE", value_parser = age)]
        older_than: Option<std::time::Duration>,
        /// Remove open and retried ones too, if their state is asked for
        #[arg(long)]
        force: bool,
        /// Count them and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Wanted {
    /// Only this pack: its name, or its folder
    #[arg(long, value_parser = pack_name)]
    pack: Option<String>,
    /// Only this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only this reason
    #[arg(long, visible_alias = "rule")]
    reason: Option<String>,
    /// Only this state
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    state: Option<String>,
}

impl Wanted {
    fn filter(self) -> Filter {
        let Self { pack, stream, reason, state } = self;
        Filter { pack, stream, reason, state }
    }
}

/// Runs `toolkit rejects`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match &args.action {
        Action::Export { out, .. } => refuse_overwriting(out)?,
        Action::Retry(retry) => return rejects_retry::run(retry, settings, output).await,
        _ => {}
    }
    on_connection(settings, output, async |connection| act(args.action, connection, output).await)
        .await?;
    Ok(Outcome::Success)
}

async fn act(action: Action, connection: &mut sqlx::PgConnection, output: &Output) -> Result<()> {
    match action {
        Action::List { wanted, listing } => {
            let filter = wanted.filter();
            output.report(&ledger::list_rejects(connection, &filter, listing.limit).await?)
        }
        Action::Show { id } => output.report(&ledger::reject(connection, id).await?),
        Action::Export { wanted, out } => {
            let exported = export(connection, &wanted.filter(), &out).await?;
            output.report(&exported)
        }
        Action::Acknowledge { pack, all, ids, dry_run } => {
            let which = if all { Which::All } else { Which::Ids(ids) };
            let done = if dry_run {
                ledger::plan_acknowledgement(connection, &pack, &which).await?
            } else {
                ledger::acknowledge(connection, &pack, &which).await?
            };
            output.report(&done)
        }
        Action::Purge { pack, state, older_than, force, dry_run } => {
            let older_than_s = older_than.map(|age| age.as_secs());
            let purge = Purge { pack, states: state, older_than_s, force, dry_run };
            output.report(&ledger::purge(connection, &purge).await?)
        }
        Action::Retry(_) => Ok(()),
    }
}

fn refuse_overwriting(out: &Path) -> Result<()> {
    if out.exists() {
        return Err(Error::new(ErrorKind::Usage, format!("{} is there already", out.display()))
            .advice("name a new file, or remove that one"));
    }
    Ok(())
}

/// Whole or not at all: the file gets its name when it is complete.
async fn export(
    connection: &mut sqlx::PgConnection,
    filter: &Filter,
    out: &Path,
) -> Result<Exported> {
    let unwritable = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("cannot write {}: {error}", out.display())).because(error)
    };
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
    let rejects =
        ledger::export_rejects(connection, filter, &mut BufWriter::new(file.as_file_mut())).await?;
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist_noclobber(out).map_err(|error| unwritable(error.error))?;
    Ok(Exported { rejects, file: out.display().to_string() })
}

#[derive(Serialize)]
struct Exported {
    rejects: u64,
    file: String,
}

impl Report for Exported {
    fn text(&self) -> String {
        format!("rejects written to {}: {}", self.file, self.rejects)
    }
}

impl Report for RejectList {
    fn text(&self) -> String {
        if self.groups.is_empty() {
            return "no rejects".to_owned();
        }
        let mut groups = output::table(["pack", "stream", "reason", "state", "count"]);
        for group in &self.groups {
            groups.add_row([
                group.pack.clone(),
                group.stream.clone(),
                group.reason.clone(),
                group.state.clone(),
                group.count.to_string(),
            ]);
        }
        let mut rejects =
            output::table(["id", "state", "stream", "where", "key", "column", "detail"]);
        for reject in &self.rejects {
            rejects.add_row([
                reject.id.to_string(),
                reject.state.clone(),
                reject.stream.clone(),
                shown(&place_text(&reject.source, &reject.locator)),
                shown(reject.key.as_deref().unwrap_or_default()),
                reject.column.clone().unwrap_or_default(),
                shown(&format!("{}: {}", reject.reason, reject.detail)),
            ]);
        }
        let end =
            format!("rejects: {}; `toolkit rejects show ID` prints a whole record", self.total);
        listing_text(&groups, &rejects, self.more, &end)
    }
}

impl Report for Reject {
    fn text(&self) -> String {
        let output = if self.output.is_empty() { "the record itself" } else { &self.output };
        let facts = output::facts([
            ("reject", format!("{} ({})", self.id, self.state)),
            ("pack, stream", format!("{}, {}", self.pack, self.stream)),
            ("output", output.to_owned()),
            ("where", shown(&place_text(&self.source, &self.locator))),
            ("key", shown(self.key.as_deref().unwrap_or("unknown"))),
            ("column", self.column.clone().unwrap_or_default()),
            ("reason", self.reason.clone()),
            ("detail", shown(&self.detail)),
            ("met first", self.created_at.clone()),
            ("newest run", self.run_id.clone()),
            ("SHA-256", self.record_sha256.clone()),
        ]);
        let secret = if self.secret { " (a secret was removed)" } else { "" };
        format!("{facts}\n\nrecord{secret}:\n{}", record_text(self.record.as_ref()))
    }
}

impl Report for Purged {
    fn text(&self) -> String {
        if self.by_state.is_empty() {
            return "nothing to remove; nothing was changed".to_owned();
        }
        let counts: Vec<String> =
            self.by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let counts = counts.join(", ");
        let mut text = match &self.run_id {
            None => format!("no changes are made; would remove rejects: {counts}"),
            Some(run) => format!("removed rejects: {counts} (run {run})"),
        };
        for loss in self.losses() {
            let _ = write!(text, "\nparity loses {loss}");
        }
        text
    }
}

impl Report for Acknowledgement {
    fn text(&self) -> String {
        let ids: Vec<String> = self.ids.iter().map(ToString::to_string).collect();
        let mut text = match (&self.run_id, ids.len()) {
            (_, 0) => "nothing to acknowledge; nothing was changed".to_owned(),
            (None, count) => {
                format!("no changes are made; would acknowledge {count}: {}", ids.join(", "))
            }
            (Some(run), count) => format!("acknowledged {count}: {} (run {run})", ids.join(", ")),
        };
        if !self.unchanged.is_empty() {
            let unchanged: Vec<String> = self.unchanged.iter().map(ToString::to_string).collect();
            let _ = write!(text, "\nacknowledged or resolved already: {}", unchanged.join(", "));
        }
        let _ = write!(text, "\nopen rejects of the pack {} that remain: {}", self.pack, self.open);
        text
    }
}

/// `30d`, `12h`, `45m`, `90s`
fn age(text: &str) -> std::result::Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is no age such as 30d, 12h, 45m or 90s");
    let unit = match text.chars().last() {
        Some('d') => 86_400,
        Some('h') => 3_600,
        Some('m') => 60,
        Some('s') => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).map(std::time::Duration::from_secs).ok_or_else(wrong)
}
