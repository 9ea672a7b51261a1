//! `toolkit ledger`: what was stored changed, and what a rule left out.

use clap::Subcommand;

use super::record::{
    Listing, listing_text, on_connection, pack_name, place_text, record_text, shown,
};
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::Result;
use crate::ledger::{self, Entry, EntryList, Filter};

/// Arguments of `toolkit ledger`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The ledger, toolkit.ledger, has an entry for every value that was stored changed (a password
redacted, a NUL replaced) and for every record or row that a rule left out (an identical
duplicate), with the original bytes. Of secrets only a keyed hash is kept.

Examples:
  toolkit ledger list --pack unified
  toolkit ledger list --pack unified --stream workflow_runs --rule redact_url_password
  toolkit ledger show 17")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How many entries there are of each kind, and the first of them
    List {
        /// Only this pack: its name, or its folder
        #[arg(long, value_parser = pack_name)]
        pack: Option<String>,
        /// Only this stream
        #[arg(long)]
        stream: Option<String>,
        /// Only this rule
        #[arg(long, visible_alias = "reason")]
        rule: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// One entry with the original
    Show {
        /// Its number
        id: i64,
    },
}

/// Runs `toolkit ledger`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    on_connection(settings, output, async |connection| match args.action {
        Action::List { pack, stream, rule, listing } => {
            let filter = Filter { pack, stream, reason: rule, state: None };
            output.report(&ledger::list_entries(connection, &filter, listing.limit).await?)
        }
        Action::Show { id } => output.report(&ledger::entry(connection, id).await?),
    })
    .await?;
    Ok(Outcome::Success)
}

impl Report for EntryList {
    fn text(&self) -> String {
        if self.groups.is_empty() {
            return "no ledger entries".to_owned();
        }
        let mut groups = output::table(["pack", "stream", "rule", "column", "count"]);
        for group in &self.groups {
            groups.add_row([
                group.pack.clone().unwrap_or_default(),
                group.stream.clone().unwrap_or_default(),
                group.rule.clone(),
                group.column.clone().unwrap_or_default(),
                group.count.to_string(),
            ]);
        }
        let mut entries =
            output::table(["id", "stream", "where", "column", "path", "rule", "original"]);
        for entry in &self.entries {
            entries.add_row([
                entry.id.to_string(),
                entry.stream.clone().unwrap_or_default(),
                shown(&place_text(&entry.source, &entry.locator)),
                entry.column.clone().unwrap_or_default(),
                shown(entry.path.as_deref().unwrap_or_default()),
                entry.rule.clone(),
                original_size(entry),
            ]);
        }
        let end =
            format!("ledger entries: {}; `toolkit ledger show ID` prints an original", self.total);
        listing_text(&groups, &entries, self.more, &end)
    }
}

fn original_size(entry: &Entry) -> String {
    match entry.original_bytes {
        _ if entry.secret => "secret".to_owned(),
        Some(bytes) => format!("{bytes} bytes"),
        None => "in the source".to_owned(),
    }
}

impl Report for Entry {
    fn text(&self) -> String {
        let output = if self.output.is_empty() { "the record itself" } else { &self.output };
        let hash = if self.secret { "keyed hash" } else { "SHA-256" };
        let facts = output::facts([
            ("ledger entry", self.id.to_string()),
            ("pack", self.pack.clone().unwrap_or_default()),
            ("stream", self.stream.clone().unwrap_or_default()),
            ("output", output.to_owned()),
            ("where", shown(&place_text(&self.source, &self.locator))),
            ("column", self.column.clone().unwrap_or_else(|| "the whole row".to_owned())),
            ("path", shown(self.path.as_deref().unwrap_or_default())),
            ("rule", self.rule.clone()),
            ("met first", self.created_at.clone()),
            ("newest run", self.run_id.clone()),
            (hash, self.original_hash.clone()),
        ]);
        let original = match (self.secret, &self.original) {
            (true, _) => "(a secret: not kept)".to_owned(),
            (false, None) => "(a whole row: it is in the source)".to_owned(),
            (false, original) => record_text(original.as_ref()),
        };
        format!("{facts}\n\noriginal:\n{original}")
    }
}
