//! `toolkit backfill` of a pack of documents.

use std::fmt::Write as _;

use super::backfill::{Args, resumable};
use super::progress::Progress;
use super::{Outcome, Output, Report, output};
use crate::anime::ingest::{self, Options, Preparation};
use crate::anime::resolve::Resolution;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::store::Postgres;

/// Runs the command.
pub(super) async fn run(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    refuse_what_does_not_apply(args, pack)?;
    let postgres = Postgres::connect(settings).await?;
    let outcome = with_postgres(args, pack, settings, output, &postgres).await;
    let closed = postgres.close().await;
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

/// Flags of tables of casts.
fn refuse_what_does_not_apply(args: &Args, pack: &Pack) -> Result<()> {
    let given = [
        (!args.stream.is_empty(), "--stream"),
        (args.preflight, "--preflight"),
        (args.snapshot, "--snapshot"),
        (args.workers.is_some(), "--workers"),
        (args.keep_indexes, "--keep-indexes"),
        (args.disable_triggers, "--disable-triggers"),
    ];
    let Some((_, flag)) = given.iter().find(|(is_given, _)| *is_given) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Usage,
        format!("{flag} does not apply to the pack {}, whose sources are artifacts", pack.name()),
    )
    .advice("leave it out: an artifact is read whole, by one worker, entry by entry"))
}

async fn with_postgres(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    let default = Options::default();
    let options = Options {
        restart: args.restart,
        again: args.again,
        manners: args.manners.manners(),
        entries_max: args.chunk_records.map_or(default.entries_max, |n| n as usize),
        ..default
    };
    let preparation = ingest::prepare(settings, postgres, pack, &args.source, options).await?;
    if args.dry_run {
        output.report(&preparation)?;
        return Ok(Outcome::Success);
    }
    let progress = Progress::new(output);
    let ran =
        ingest::run(postgres, &preparation, output.stop(), &|event| progress.show(event)).await;
    let report = match ran {
        Ok(report) => report,
        // The artifact is not what it was: that is a finding about it, not a failure to run.
        Err(error) if error.kind() == ErrorKind::SourceChanged => {
            output.error(&error);
            return Ok(Outcome::Differences);
        }
        Err(error) => return Err(resumable(error, args)),
    };
    output.report(&report)?;
    let counts = &report.total.counts;
    let is_clean = args.max_rejects.allows(counts.rejects(), counts.read);
    Ok(if is_clean { Outcome::Success } else { Outcome::Differences })
}

impl Report for Preparation {
    fn text(&self) -> String {
        let mut table = output::table(["artifact", "bytes", "sha256", "read before"]);
        for artifact in &self.artifacts {
            table.add_row([
                artifact.file.clone(),
                artifact.bytes.to_string(),
                artifact.sha256[..12].to_owned(),
                if artifact.is_known { "yes, whole" } else { "no" }.to_owned(),
            ]);
        }
        let mut text =
            format!("plan of backfill, pack {}; no changes are made\n\n{table}", self.pack);
        if let Some(run) = &self.resumes {
            let _ = write!(text, "\n\nresumes run {run}");
        }
        text
    }
}

impl Report for ingest::Report {
    fn text(&self) -> String {
        let mut table = output::table([
            "artifact",
            "read",
            "inserted",
            "updated",
            "unchanged",
            "superseded",
            "rejected",
        ]);
        for (file, counts) in &self.artifacts {
            let (read, records) = (counts.counts.read, counts.counts.records);
            table.add_row([
                file.clone(),
                read.to_string(),
                records.inserted.to_string(),
                records.updated.to_string(),
                records.unchanged.to_string(),
                records.superseded.to_string(),
                records.rejected.to_string(),
            ]);
        }
        let mut text = format!("{table}\n");
        if !self.total.counts.derived.is_empty() {
            let mut rows = output::table(["rows of", "inserted", "updated"]);
            for (name, counts) in &self.total.counts.derived {
                let (inserted, updated) = (counts.inserted.to_string(), counts.updated.to_string());
                rows.add_row([name.clone(), inserted, updated]);
            }
            let _ = write!(text, "\n{rows}\n");
        }
        if let Some(resolution) = &self.resolution {
            let _ = write!(text, "\n{}\n", resolution.lines());
        }
        let words: Vec<String> = self
            .total
            .unknown_words
            .iter()
            .map(|(word, count)| format!("{word:?} ({count})"))
            .collect();
        if !words.is_empty() {
            let _ = write!(
                text,
                "\nrelation types of no vocabulary, stored as OTHER: {}",
                words.join(", ")
            );
        }
        if self.open_reviews > 0 {
            let _ = write!(
                text,
                "\nchanges that wait for a person: {} (toolkit review list)",
                self.open_reviews
            );
        }
        for sidecar in &self.sidecars {
            let _ = write!(text, "\nsidecar: {}", sidecar.display());
        }
        let rejects = self.total.counts.rejects();
        if rejects > 0 {
            let _ = write!(
                text,
                "\nrejects: {rejects} (toolkit rejects list --pack {} --state open)",
                self.pack
            );
        }
        let resumed = if self.resumed { ", resumed" } else { "" };
        let _ = write!(
            text,
            "\nrun {}{resumed}: {} entries in {:.1} s, {:.0}/s",
            self.run_id, self.total.counts.read, self.seconds, self.rate
        );
        text
    }
}

impl Resolution {
    /// What the resolver did, for people.
    pub(super) fn lines(&self) -> String {
        let mut table = output::table([
            "edges of",
            "resolved",
            "united",
            "to itself",
            "ambiguous",
            "without target",
        ]);
        for (name, resolved) in &self.tables {
            table.add_row([
                (*name).to_owned(),
                resolved.resolved.to_string(),
                resolved.merged.to_string(),
                resolved.self_edges.to_string(),
                resolved.ambiguous.to_string(),
                resolved.unresolved.values().sum::<i64>().to_string(),
            ]);
        }
        table.to_string()
    }
}
