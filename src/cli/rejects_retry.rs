//! `toolkit rejects retry`: refused records, corrected or as they are, into Postgres.

use std::path::PathBuf;

use super::{Outcome, Output, Report, output};
use crate::backfill::{self, Retry, RetryOptions};
use crate::config::Settings;
use crate::error::Result;
use crate::ledger;
use crate::pack::Pack;
use crate::store::Postgres;

/// Arguments of `toolkit rejects retry`.
#[derive(Debug, clap::Args)]
pub(super) struct Retrying {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long)]
    pack: String,
    /// Corrected records: lines of `rejects export`, of which `id` and `record` count
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only this reject; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<i64>,
    /// Only this stream; may be repeated
    #[arg(long, value_name = "NAME")]
    stream: Vec<String>,
    /// Let the conflict rule replace rows that the target holds under the records' keys
    #[arg(long)]
    replace: bool,
    /// Try everything and keep nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(super) async fn run(args: &Retrying, settings: &Settings, output: &Output) -> Result<Outcome> {
    let pack = Pack::find(&args.pack)?;
    let options = RetryOptions {
        ids: args.id.clone(),
        streams: args.stream.clone(),
        corrected: args.file.as_deref().map(ledger::corrected_lines).transpose()?,
        replace: args.replace,
        dry_run: args.dry_run,
    };
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let done = if pack.manifest.documents.is_some() {
        crate::anime::retry::retry(settings, &postgres, &pack, &options, output.stop()).await
    } else {
        backfill::retry(settings, &postgres, pack, &options, output.stop()).await
    };
    let closed = postgres.close().await;
    let done = done?;
    closed?;
    output.report(&done)?;
    Ok(if done.is_complete() { Outcome::Success } else { Outcome::Differences })
}

impl Report for Retry {
    fn text(&self) -> String {
        let tried = self.resolved.len() + self.retried.len() + self.refused.len();
        if tried + self.left.len() == 0 {
            return format!("the pack {} has no open reject to try again", self.pack);
        }
        let mut text = String::new();
        if !self.refused.is_empty() {
            let mut table = output::table(["id", "column", "refused again"]);
            for refused in &self.refused {
                table.add_row([
                    refused.id.to_string(),
                    refused.column.clone().unwrap_or_default(),
                    format!("{}: {}", refused.reason, refused.detail),
                ]);
            }
            text.push_str(&format!("{}\n\n", table.trim_fmt()));
        }
        for left in &self.left {
            text.push_str(&format!("reject {} was not tried: {}\n", left.id, left.why));
        }
        let run = match &self.run_id {
            Some(run) => format!("run {run}"),
            None if self.dry_run => "no changes are made; it would be".to_owned(),
            None => return text + "nothing was to be tried; no changes were made",
        };
        text.push_str(&format!(
            "{run}: {} stored as kept (resolved), {} stored corrected (retried), {} refused again, \
             {} not tried",
            self.resolved.len(),
            self.retried.len(),
            self.refused.len(),
            self.left.len()
        ));
        if self.new_rejects > 0 {
            let verb = if self.new_rejects == 1 { "is a new reject" } else { "are new rejects" };
            let rows = output::count(self.new_rejects, "row");
            text.push_str(&format!("; {rows} beside them {verb}"));
        }
        text
    }
}
