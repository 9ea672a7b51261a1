//! `toolkit backfill`: history into Postgres.

use std::path::PathBuf;
use std::sync::Arc;

use super::manners::ManneredArgs;
use super::progress::Progress;
use super::{Outcome, Output, Report, backfill_documents, output};
use crate::backfill::{self, Options, Preparation, StreamReport};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::pack::units::InferredUnit;
use crate::phase::{self, Work};
use crate::preflight;
use crate::shell::shell_word;
use crate::source::snapshot::Snapshot;
use crate::store::Postgres;

/// Arguments of `toolkit backfill`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Reads the pack's SQLite files and JSON artifacts, read-only, and writes them to Postgres in chunks.
A chunk's rows, rejects, ledger entries, counts and checkpoint commit together: kill the process at
any moment and run the same command again. Every record ends in exactly one count:

  read = inserted + updated + unchanged + superseded + skipped + rejected

  superseded  the target held something newer, by the stream's conflict rule
  skipped     a rule left it out (an identical duplicate), with a ledger entry
  rejected    it cannot be stored; kept whole in toolkit.reject with the reason
  ledgered    values stored changed (a password redacted), each with a ledger entry
  derived     rows made from a record beside its own, counted per target

--preflight reads every record through the same casts and says, before anything is copied, what is
in each column and what will be stored, stored changed (ledger) or rejected; exit 1 if rejects are
predicted. It remembers 3,000,000 keys at most and says what it did not check beyond. CHECK
constraints and triggers are left to Postgres; so is what the target already holds under a key. Of
two different rows of the source under one key the later is refused, unless the conflict rule says
otherwise.

A second run re-reads everything and changes nothing.

A row whose foreign key leads to no row yet waits in toolkit.held_row and is tried again when all
streams are copied; rows that refer to each other in a circle are then stored together. Only what
leads nowhere even so is rejected as `orphan`, or stored as NULL where pack.toml says
`on = { orphan = \"null\" }`, with a ledger entry.

The targets' own triggers fire, and are named in the plan and the report. --disable-triggers switches
them off inside the transaction of each chunk, never the foreign keys' own: nobody else sees them off,
nothing is left off after a kill, and other writers of the table wait while a chunk is written.

A table without a key is loaded with `key = \"content\"`: what it held when the run began is counted
by digest, and only what is not there, or not as often as in the source, is appended.

Without --snapshot the sources must stay as they are: one that changes ends the run with exit 1.
--snapshot copies them first, SQLite files by SQLite's backup API beside a writing application, into
<state folder>/snapshots/<pack>/<run>, and reads the copy; a run is resumed from the same copy, if
its SHA-256 is the same, and verify-parity --snapshot compares with it. A file in rollback-journal
mode is copied in steps of at most 0.3 s; it begins over when it was written to, 8 times at most.

Limits: the chunks of N workers hold 50,000 / N records or 16 MiB / N each, whichever comes first, so
that memory does not grow with N; a record of a file that is read piece by piece (JSON lines, CSV, an
array of records) has at most 256 MiB; a chunk is tried 6 times while the server is away.

Large tables are split into spans, stored when the stream begins, that --workers copy side by side.
The same command, started again while it runs, joins in with workers of its own; with other inputs or
settings, or --restart, it is refused. Workers lease chunks for 60 s at a time: what a dead one had
is taken over by the others, or by the next run, with as many workers as you like. Not split: documents,
views, tables WITHOUT ROWID, tables whose rows may share a key in the target, and targets with
triggers, further unique keys or foreign keys into themselves, where the order of rows matters.
Default and 4 at most without --workers: one worker a core; more pay where the server has more cores.

Beside a working application --throttle limits how fast it writes: by one worker unless --workers
says more, in small chunks, and with the target's indexes kept, which a first load else drops and
builds at once afterwards. --max-load, --max-lag, --pause-file and --pause-while have it wait; a
replica's lag is what it says itself, or how long ago what it lacks was written if it is silent; one
that is not connected counts for nothing. `toolkit run pause|resume|stop` do so from another
terminal, for all processes of the run. What waits has its next chunk in memory, and neither a
transaction nor a lock of a table nor a read of a source; its leases stay its own. The reason is said
once, and when it goes on. A condition that cannot be answered counts as true.

The pack anime reads enriched artifacts and the offline database (JSON, JSON lines) entry by entry,
up to 256 of them or 2 MiB in a transaction. An entry whose canonical JSON is known is skipped. What an
artifact may change of an anime by itself is in pack.toml; the rest waits in `toolkit review`. Edges
find their targets at the end, as `toolkit resolve` does. A sidecar beside the artifact is rewritten.

Examples:
  toolkit backfill --pack anime --source anime_database.json
  toolkit backfill --pack unified --source /data/app --preflight
  toolkit backfill --pack unified --source /data/app --dry-run
  toolkit backfill --pack unified --source /data/app
  toolkit backfill --pack unified --source /data/app --workers 8
  toolkit backfill --pack unified --source /data/app --snapshot
  toolkit backfill --pack unified --source /data/app --throttle 5000/s --max-load 8 --max-lag 10s
  toolkit backfill --pack unified --source /data/app --pause-while 'SELECT EXISTS (SELECT FROM
    public.jobs WHERE is_running)' --pause-file /run/no-backfill
  toolkit backfill --pack ./my-pack --source app.db --stream orders
  toolkit --format json backfill --pack unified --source /data/app | jq .streams")]
// Flags of a command line, each a choice of its own.
#[allow(clippy::struct_excessive_bools)]
pub struct Args {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long)]
    pub(super) pack: String,
    /// Folder (searched with its subfolders) or file with the pack's sources; may be repeated. The
    /// pack anime looks where the offline database usually lies if none is given
    #[arg(long, value_name = "PATH")]
    pub(super) source: Vec<PathBuf>,
    /// Only this stream; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) stream: Vec<String>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Count what the sources hold and what each cast will make of it, and change nothing
    #[arg(long, conflicts_with_all = ["dry_run", "restart", "keep_indexes", "disable_triggers"])]
    pub(super) preflight: bool,
    /// Start over instead of resuming an unfinished run
    #[arg(long)]
    pub(super) restart: bool,
    /// Keep the target's indexes during a first load into empty tables, which is slower
    #[arg(long)]
    pub(super) keep_indexes: bool,
    /// Workers of this process: a reader thread and a database session each [default: one a core,
    /// at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) workers: Option<u16>,
    /// Copy the sources first and read the copy, so that the application may go on writing
    #[arg(long, conflicts_with = "preflight")]
    pub(super) snapshot: bool,
    /// Import an offline copy after decommission: rows that Postgres holds already stay as they are,
    /// unless the pack's conflict rule says that the copy's is newer
    #[arg(long, conflicts_with_all = ["preflight", "snapshot"])]
    pub(super) historical: bool,
    /// Switch the targets' own triggers off while their rows are written (needs the tables' owner)
    #[arg(long)]
    pub(super) disable_triggers: bool,
    /// Of the pack anime: hear entries again whose canonical JSON is known; what Postgres lacks is
    /// filled in, what it holds otherwise waits in `toolkit review`
    #[arg(long)]
    pub(super) again: bool,
    #[command(flatten)]
    pub(super) manners: ManneredArgs,
    /// Rejects that still count as success: a number, or a percentage of the records read
    #[arg(long, value_name = "N|P%", default_value = "0", value_parser = tolerance)]
    pub(super) max_rejects: Tolerance,
    /// Records of a chunk at most; for tests of what happens between chunks
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) chunk_records: Option<u32>,
}

impl Args {
    fn limits(&self) -> backfill::ChunkLimits {
        let default = backfill::ChunkLimits::default();
        let records_max = self.chunk_records.map_or(default.records_max, |n| n as usize);
        backfill::ChunkLimits { records_max, ..default }
    }
}

/// How many rejects are acceptable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Tolerance {
    Rows(u64),
    Percent(f64),
}

fn tolerance(text: &str) -> std::result::Result<Tolerance, String> {
    let wrong = || format!("`{text}` is neither a number of rejects nor a percentage such as 0.1%");
    match text.strip_suffix('%') {
        Some(percent) => percent
            .parse::<f64>()
            .ok()
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(Tolerance::Percent)
            .ok_or_else(wrong),
        None => text.parse().map(Tolerance::Rows).map_err(|_| wrong()),
    }
}

impl Tolerance {
    pub(super) fn allows(self, rejects: u64, read: u64) -> bool {
        match self {
            Self::Rows(most) => rejects <= most,
            Self::Percent(percent) => rejects as f64 * 100.0 <= percent * read as f64,
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let pack = Pack::find(&args.pack)?;
    if args.again && pack.manifest.documents.is_none() {
        return Err(Error::new(ErrorKind::Usage, "--again is for packs of documents")
            .advice("a backfill of tables reads every record each time"));
    }
    if pack.manifest.documents.is_some() {
        return Box::pin(backfill_documents::run(&args, &pack, settings, output)).await;
    }
    if args.source.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no --source was given").advice(format!(
            "name the folder or file with the sources of the pack {}",
            pack.name()
        )));
    }
    let postgres = Postgres::connect(settings).await?;
    let outcome = with_postgres(&args, pack, settings, output, &postgres).await;
    let closed = postgres.close().await;
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

async fn with_postgres(
    args: &Args,
    pack: Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    if args.preflight {
        return preflight(args, pack, settings, output, postgres).await;
    }
    let work = if args.historical { Work::Historical } else { Work::Backfill };
    phase::require(postgres, &pack, work).await?;
    let pack = if args.historical { pack.for_history() } else { pack };
    let snapshot = snapshot(args, &pack, settings, output, postgres).await?;
    let roots = snapshot.as_ref().map_or_else(|| args.source.clone(), |copy| copy.roots());
    let options = Options {
        streams: args.stream.clone(),
        restart: args.restart,
        limits: args.limits(),
        keep_indexes: args.keep_indexes,
        workers: args.workers.map_or(0, usize::from),
        snapshot,
        disable_triggers: args.disable_triggers || pack.manifest.defaults.disable_triggers,
        manners: args.manners.manners(),
    };
    let preparation = backfill::prepare(settings, postgres, pack, &roots, options).await?;
    if args.dry_run {
        output.report(&preparation)?;
        return Ok(Outcome::Success);
    }
    let progress = Progress::new(output);
    progress.expect(&preparation.forecast);
    let ran =
        backfill::run(postgres, &preparation, output.stop(), &|event| progress.show(event)).await;
    let report = match ran {
        Ok(report) => report,
        // The source is not what it was: that is a finding about it, not a failure to run.
        Err(error) if error.kind() == ErrorKind::SourceChanged => {
            output.error(&error);
            return Ok(Outcome::Differences);
        }
        Err(error) => return Err(resumable(error, args)),
    };
    output.report(&report)?;
    let is_clean =
        args.max_rejects.allows(report.rejects, report.read) && report.changed_sources.is_empty();
    Ok(if is_clean { Outcome::Success } else { Outcome::Differences })
}

/// The copy to read: that of the run to resume, else a new one, which a dry run does not make.
async fn snapshot(
    args: &Args,
    pack: &Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Option<Arc<Snapshot>>> {
    if !args.snapshot {
        return Ok(None);
    }
    let state_dir = &settings.state_dir;
    if !args.restart
        && let Some(kept) = backfill::kept_snapshot(postgres, state_dir, pack.name()).await?
    {
        output.note(format!("reading the copy in {}", kept.folder().display()));
        return Ok(Some(kept));
    }
    if args.dry_run {
        output.note("a run would copy the sources first; no copy is made, the sources are read");
        return Ok(None);
    }
    let made = backfill::make_snapshot(state_dir, pack, &args.source, output.stop()).await?;
    output.note(format!(
        "the sources were copied to {}: it holds what they hold, secrets included, readable by its \
         owner alone, until the next run with --snapshot begins",
        made.folder().display()
    ));
    Ok(Some(made))
}

async fn preflight(
    args: &Args,
    pack: Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<Outcome> {
    let options = preflight::Options { streams: args.stream.clone() };
    let progress = Progress::new(output);
    let on_event = |event| progress.show(counted(event));
    let census = preflight::census(
        settings,
        postgres,
        pack,
        &args.source,
        &options,
        output.stop(),
        &on_event,
    )
    .await?;
    output.report(&census)?;
    let is_clean = args.max_rejects.allows(census.rejects, census.read);
    Ok(if is_clean { Outcome::Success } else { Outcome::Differences })
}

/// Counting shows its progress as copying does.
fn counted(event: preflight::Event) -> backfill::Event {
    match event {
        preflight::Event::Stream { name, records } => backfill::Event::Stream { name, records },
        preflight::Event::Records { records, rejects } => {
            backfill::Event::Chunk { records, rejects }
        }
        preflight::Event::StreamDone => backfill::Event::StreamDone,
    }
}

/// A run that was stopped or cut off says how to go on.
pub(super) fn resumable(error: Error, args: &Args) -> Error {
    let sources: Vec<String> = args
        .source
        .iter()
        .map(|path| format!("--source {}", shell_word(&path.display().to_string())))
        .collect();
    let mut more: Vec<String> =
        args.stream.iter().map(|name| format!(" --stream {name}")).collect();
    more.extend(args.workers.map(|workers| format!(" --workers {workers}")));
    for (is_given, flag) in [
        (args.snapshot, " --snapshot"),
        (args.historical, " --historical"),
        (args.keep_indexes, " --keep-indexes"),
        (args.disable_triggers, " --disable-triggers"),
        (args.again, " --again"),
    ] {
        if is_given {
            more.push(flag.to_owned());
        }
    }
    more.extend(args.manners.words(shell_word));
    let resume = format!(
        "resume with: toolkit backfill --pack {} {}{}",
        shell_word(&args.pack),
        sources.join(" "),
        more.concat()
    );
    match error.kind() {
        ErrorKind::Interrupted => {
            let detail = format!("{}; committed chunks are kept", error.detail());
            Error::new(ErrorKind::Interrupted, detail).advice(resume)
        }
        ErrorKind::StoreUnreachable
        | ErrorKind::StoreConflict
        | ErrorKind::StoreExhausted
        | ErrorKind::StoreFailed
        | ErrorKind::StoreDenied
        | ErrorKind::SourceUnreadable
        | ErrorKind::Io => {
            let advice = match error.advice_text() {
                Some(advice) => format!("{advice}\n        {resume}"),
                None => format!("committed chunks are kept; when the cause is gone {resume}"),
            };
            error.advice(advice)
        }
        _ => error,
    }
}

impl Report for Preparation {
    fn text(&self) -> String {
        let mut table = output::table(["stream", "files", "records", "mode", "targets"]);
        for stream in &self.streams {
            table.add_row([
                stream.stream.clone(),
                stream.files.to_string(),
                stream.records.to_string(),
                stream.mode.to_owned(),
                unique(&stream.targets).join(", "),
            ]);
        }
        let mut text =
            format!("plan of backfill, pack {}; no changes are made\n\n{table}", self.pack);
        text.push_str(&format!("\n\n{}", self.forecast.sentence()));
        text.push_str(&format!("\nworkers: {} at most", self.workers));
        if let Some(run) = &self.resumes {
            text.push_str(&format!("\nresumes run {run}, or joins it while it is alive"));
        }
        text.push_str(&units_text(&self.inferred_units));
        text.push_str(&absent(&self.absent));
        text.push_str(&triggers(&self.triggers, self.disable_triggers));
        text
    }
}

/// How numbers are read as timestamps, where the columns decided.
pub(super) fn units_text(units: &[InferredUnit]) -> String {
    let lines: Vec<String> = units.iter().map(InferredUnit::sentence).collect();
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.join("\n")) }
}

fn unique(names: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        if !seen.contains(name) {
            seen.push(name.clone());
        }
    }
    seen
}

fn triggers(sentences: &[String], disabled: bool) -> String {
    let so = if disabled { "switched off: " } else { "" };
    let lines: Vec<String> = sentences.iter().map(|sentence| format!("\n{so}{sentence}")).collect();
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

fn absent(streams: &[String]) -> String {
    if streams.is_empty() {
        return String::new();
    }
    format!("\n\nno source here for: {}", streams.join(", "))
}

impl Report for backfill::Report {
    fn text(&self) -> String {
        let mut table = output::table([
            "stream",
            "read",
            "inserted",
            "updated",
            "unchanged",
            "superseded",
            "skipped",
            "rejected",
            "ledgered",
            "rows/s",
        ]);
        for stream in &self.streams {
            table.add_row(record_row(stream));
            for (name, rows) in &stream.counts.derived {
                table.add_row([
                    format!("  + {name}"),
                    String::new(),
                    rows.inserted.to_string(),
                    rows.updated.to_string(),
                    rows.unchanged.to_string(),
                    rows.superseded.to_string(),
                    rows.skipped.to_string(),
                    rows.rejected.to_string(),
                    String::new(),
                    String::new(),
                ]);
            }
        }
        let units = units_text(&self.inferred_units);
        let mut text = format!("{table}{units}{}", absent(&self.absent));
        text.push_str(&triggers(&self.triggers, self.triggers_disabled));
        for note in &self.sequence_notes {
            text.push_str(&format!("\n{note}"));
        }
        for (sequence, value) in &self.sequences {
            text.push_str(&format!("\nsequence {sequence} set to {value}"));
        }
        for index in &self.built_indexes {
            text.push_str(&format!("\nindex {index} built after the load"));
        }
        for source in &self.changed_sources {
            text.push_str(&format!(
                "\nCHANGED while it was read: {source}. Stop its writer, or read a copy with \
                 --snapshot, or use dual-write, and run again."
            ));
        }
        if let Some(copy) = &self.snapshot {
            text.push_str(&format!(
                "\nread from the copy in {}; `toolkit verify-parity --snapshot` compares with it",
                copy.display()
            ));
        }
        text.push_str(&format!("\n\n{}", self.verdict()));
        text
    }
}

fn record_row(stream: &StreamReport) -> [String; 10] {
    let records = &stream.counts.records;
    [
        stream.stream.clone(),
        stream.counts.read.to_string(),
        records.inserted.to_string(),
        records.updated.to_string(),
        records.unchanged.to_string(),
        records.superseded.to_string(),
        records.skipped.to_string(),
        records.rejected.to_string(),
        stream.counts.ledgered.to_string(),
        format!("{:.0}", stream.rate),
    ]
}

impl backfill::Report {
    fn verdict(&self) -> String {
        let what = if self.changed_rows == 0 {
            "nothing changed: the target already held every record".to_owned()
        } else {
            format!("{} rows inserted or updated", self.changed_rows)
        };
        let rejects = match self.rejects {
            0 => "no rejects".to_owned(),
            n => format!(
                "{n} REJECTED, kept in toolkit.reject: `toolkit rejects list --pack {}` says why",
                self.pack
            ),
        };
        let resumed = match (self.resumed, self.joined) {
            (true, _) => " (resumed)",
            (_, true) => " (joined)",
            _ => "",
        };
        format!(
            "run {}{resumed}: {} records read in {:.1} s; {what}; {rejects}",
            self.run_id, self.read, self.seconds
        )
    }
}
