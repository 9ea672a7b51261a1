//! `toolkit verify-parity`: proof that source and target hold the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::record::shown as escaped;
use super::report_file::{self, ReportFile};
use super::{Outcome, Output, Report, output};
use crate::backfill::newest_snapshot;
use crate::certificate;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{OpenedPack, Pack, join_error};
use crate::parity::{
    self, Against, Difference, Digests, Independent, Kind, Level, Options, Settle, StoredRun,
    UnitResult, Verdict, stored_run,
};
use crate::store::Postgres;

/// Arguments of `toolkit verify-parity`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Reads the sources again, brings every record into the target's types by the same casts backfill
uses, and compares canonical rows with those in Postgres, read in one snapshot. Nothing is changed
but the stored result (toolkit.parity_run, toolkit.parity_difference).

  counts  rows per slice; finds lost and added rows when they do not cancel out
  sample  whole rows of --n keys per slice, chosen uniformly over the keys of both stores
  full    every row

Kinds of difference:
  missing      in the source, not in Postgres      extra       in Postgres, not in the source
  changed      another value in a column           duplicate   one key more than once
  unaccounted  refused or stored changed, without a reject or ledger entry that says so
  miscast      the cast reads the source's value otherwise than a second, independent way does

The second way lets Postgres's own input functions read the raw values of the source: of 1,000
records per stream, or with --independent of all.

Where capture is installed the application may go on writing: what differs at first is compared
again, row by row, and counts if it is never found equal, nor the target found to follow, though all
that was captured was applied. --settle SECONDS goes on for that long, whether anything is captured
or not.

Rejects, skips, superseded rows and ledgered values that backfill recorded are accounted for and
are no differences.

--report writes what was found to a file as well; the name says the format, and --report may be
repeated. Files appear whole, after the comparison; one that could not be written is refused before
it starts.

  FILE.html       one page to read, send or print: verdict, counts, differences side by side,
                  history, what was not checked; needs no network and no script
  FILE.json       what --format json prints
  FILE.junit.xml  a test case per table and stream, for a CI system

--certificate writes, if nothing differs, a file that says so: roots and counts of both sides,
fingerprints of the sources and the pack, and its own SHA-256. `toolkit certificate check FILE` says
later whether it still holds. If anything differs no certificate is written.

--self-test needs neither pack nor source. In a database of its own, which it creates on the server
and drops again, and a source in the folder for temporary files, it plants every class of drift in
every supported type, one at a time and several at once (drawn by --seed), verifies in each way
there is, and prints how many of how many were found; it also makes changes that are no drift, and
plants bugs in the casts. Exit 1 if anything was missed, or reported without being there. The role
must be allowed to create databases; the private cluster's is.

The pack anime compares artifacts, entry by entry: heard again, an entry must change no row and
propose nothing that the review queue has not. Rows beyond an entry are differences where nothing
else was ever heard of the anime; else other artifacts told them, and they are counted. The second
way looks for every leaf of an entry among the rows of its anime. What differs is made good by
`toolkit backfill --again` and `toolkit review`.

--against compares Postgres with what is derived from it, alone or besides the sources: the sidecar
(ingestion state, entry by entry) and the Qdrant collection (ids in both directions, payloads and
their digests, versions, of every vector presence, dimension and length; vectors of the offline
embedder are made anew and compared bit by bit). Postgres is right: missing is in Postgres alone,
extra in the other store alone. What waits in the outbox differs too, and is marked as on its way;
--settle SECONDS gives it time. `toolkit repair plan` queues points that differ in the outbox.

Exit codes: 0 parity, 1 differences, 2 could not check.

Examples:
  toolkit verify-parity --pack unified --source /data/app --level full
  toolkit verify-parity --pack unified --source /data/app --level sample --n 4096
  toolkit verify-parity --pack unified --snapshot
  toolkit verify-parity --pack unified --source /data/app --settle 30
  toolkit verify-parity --pack unified --source /data/app --report parity.html --report p.junit.xml
  toolkit verify-parity --pack anime --source anime_database.json --against source,sidecar,qdrant
  toolkit --format json verify-parity --pack unified --source /data/app | jq .differences
  toolkit verify-parity --pack anime --source anime_database.json
  toolkit verify-parity --self-test")]
pub struct Args {
    /// Built-in pack, or the folder of your own pack.toml
    #[arg(long, required_unless_present = "self_test")]
    pack: Option<String>,
    /// Folder (searched with its subfolders) or file with the pack's sources; may be repeated
    #[arg(long, required_unless_present_any = ["snapshot", "self_test", "against"], value_name = "PATH")]
    pub(super) source: Vec<PathBuf>,
    /// What Postgres is compared with: its sources, and of the pack anime the sidecar beside the
    /// source and the Qdrant collection; any of them, comma separated [default: source]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STORES")]
    pub(super) against: Vec<AgainstName>,
    /// Compare with the copy that the newest backfill read, instead of the sources
    #[arg(long, conflicts_with = "source")]
    pub(super) snapshot: bool,
    /// Only what this stream feeds; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) stream: Vec<String>,
    /// How thoroughly
    #[arg(long, value_enum, default_value_t = LevelName::Full)]
    level: LevelName,
    /// Keys per slice at level sample
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    n: u32,
    /// Seed of the sample or of the self-test's draws; the same seed takes the same [default: random, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Read every record a second way, without the casts, instead of 1,000 per stream
    #[arg(long)]
    pub(super) independent: bool,
    /// Stores that change meanwhile: compare them again until what differs agrees, for so many seconds
    /// at most [default with --settle alone: 10]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) settle: Option<u32>,
    /// Differing rows that are named; all are counted
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) max_differences: u32,
    /// Where Postgres rows are hashed at level full: in the server (least network), in the client
    /// (fastest on one host); auto: client for the private cluster, sockets and loopback
    #[arg(long, value_enum, default_value_t = DigestName::Auto)]
    digest: DigestName,
    /// Write the result to this file as well: .html (a page), .json or .junit.xml; may be repeated
    #[arg(long, value_name = "FILE", value_parser = report_file::parse)]
    pub(super) report: Vec<ReportFile>,
    /// If nothing differs, write a certificate to this file; only for whole packs at level full
    #[arg(long, value_name = "FILE", conflicts_with = "stream")]
    pub(super) certificate: Option<PathBuf>,
    /// Verify the verifier: plant drift of every class in data of its own, and see it found
    #[arg(long, conflicts_with_all = [
        "pack", "source", "snapshot", "stream", "level", "n", "independent", "max_differences",
        "digest", "report", "certificate", "settle", "against",
    ])]
    self_test: bool,
    /// Tries this class of drift alone, and expects it without planting it, to see that fail
    #[arg(long, hide = true, requires = "self_test", value_name = "CLASS")]
    self_test_forget: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DigestName {
    Auto,
    Server,
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum AgainstName {
    Source,
    Sidecar,
    Qdrant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LevelName {
    Counts,
    Sample,
    Full,
}

impl Args {
    /// What Postgres is compared with, each once, the sources first.
    pub(super) fn against(&self) -> Vec<Against> {
        let is_wanted = |against: &Against| match against {
            Against::Source => self.against.is_empty() || self.names(AgainstName::Source),
            Against::Sidecar => self.names(AgainstName::Sidecar),
            Against::Qdrant => self.names(AgainstName::Qdrant),
        };
        Against::ALL.into_iter().filter(is_wanted).collect()
    }

    fn names(&self, wanted: AgainstName) -> bool {
        self.against.contains(&wanted)
    }

    /// How thoroughly, with the seed of a sample.
    pub(super) fn level(&self, output: &Output) -> Level {
        match self.level {
            LevelName::Counts => Level::Counts,
            LevelName::Full => Level::Full,
            LevelName::Sample => {
                let seed = self.seed.unwrap_or_else(rand::random);
                output.note(format!("sampling with --seed {seed}"));
                Level::Sample { n: self.n as usize, seed }
            }
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let Some(pack) = &args.pack else {
        let seed = args.seed.unwrap_or_else(rand::random);
        let options = parity::self_test::Options { seed, forget: args.self_test_forget };
        return super::self_test::run(&options, settings, output).await;
    };
    let pack = Pack::find(pack)?;
    if args.certificate.is_some() && args.level != LevelName::Full {
        return Err(Error::new(ErrorKind::Usage, "a certificate needs --level full")
            .advice("only a comparison of every row proves what a certificate says"));
    }
    report_file::check(&args.report, args.certificate.as_deref())?;
    if pack.manifest.documents.is_none() && args.against() != [Against::Source] {
        let detail = format!("the pack {} has neither sidecar nor collection", pack.name());
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice("of the built-in packs anime has both; leave --against out"));
    }
    if args.source.is_empty() && !args.snapshot && args.against() != [Against::Qdrant] {
        return Err(Error::new(ErrorKind::Usage, "no --source was named")
            .advice("the source, and the sidecar beside it, are found by it"));
    }
    if pack.manifest.documents.is_some() {
        return super::verify_documents::run(&args, &pack, settings, output).await;
    }
    let postgres = Postgres::connect(settings).await?;
    let found = with_postgres(&args, pack, settings, output, &postgres).await;
    let closed = postgres.close().await;
    let report = found?;
    closed?;
    Ok(match report.verdict {
        Verdict::Clean => Outcome::Success,
        Verdict::Differences => Outcome::Differences,
    })
}

async fn with_postgres(
    args: &Args,
    pack: Pack,
    settings: &Settings,
    output: &Output,
    postgres: &Postgres,
) -> Result<parity::Report> {
    let roots = if args.snapshot {
        let copy = newest_snapshot(postgres, &settings.state_dir, pack.name()).await?;
        output.note(format!("comparing with the copy in {}", copy.folder().display()));
        copy.roots()
    } else {
        args.source.clone()
    };
    let level = args.level(output);
    let options = Options {
        level,
        streams: args.stream.clone(),
        differences_max: args.max_differences as usize,
        digests: match args.digest {
            DigestName::Auto => Digests::Auto,
            DigestName::Server => Digests::Server,
            DigestName::Client => Digests::Client,
        },
        independent: if args.independent {
            Independent::All
        } else {
            Independent::Sample { n: 1000, seed: args.seed.unwrap_or_else(rand::random) }
        },
        settle: args
            .settle
            .map_or(Settle::No, |seconds| Settle::For(Duration::from_secs(seconds.into()))),
        ..Options::default()
    };
    let opened = Arc::new(crate::pack::open_as_recorded(settings, postgres, pack, &roots).await?);
    let report =
        crate::phase::verify(postgres, Arc::clone(&opened), &options, output.stop()).await?;
    output.report(&report)?;
    if args.report.is_empty() && args.certificate.is_none() {
        return Ok(report);
    }
    let mut conn = postgres.dedicated().await?;
    let stored = stored_run(&mut conn, &report.run_id).await?;
    let stored = Arc::new(StoredRun { report: report.clone(), ..stored });
    report_file::write(&args.report, &stored, output)?;
    if let Some(path) = &args.certificate {
        certify(stored, opened, path, output).await?;
    }
    Ok(report)
}

async fn certify(
    run: Arc<StoredRun>,
    opened: Arc<OpenedPack>,
    path: &Path,
    output: &Output,
) -> Result<()> {
    if run.report.verdict != Verdict::Clean {
        let older = if path.exists() { "; the one there is an older one" } else { "" };
        output.note(format!(
            "no certificate was written to {}: there are differences{older}",
            path.display()
        ));
        return Ok(());
    }
    let issued = tokio::task::spawn_blocking(move || certificate::issue(&run, &opened));
    let issued = issued.await.map_err(join_error)??;
    let digest = certificate::write(&issued, path)?;
    output.note(format!("certificate written to {}, SHA-256 {digest}", path.display()));
    Ok(())
}

impl Report for parity::Report {
    fn text(&self) -> String {
        let mut text = units_table(&self.units).to_string();
        if !self.streams.is_empty() {
            text.push_str("\n\n");
            text.push_str(&streams_table(self).to_string());
        }
        if !self.differences.is_empty() {
            text.push_str("\n\n");
            text.push_str(&differences_text(&self.differences));
        }
        if let Some(line) = independent_line(self) {
            text.push_str(&format!("\n\n{line}"));
        }
        if !self.not_checked.is_empty() {
            text.push_str(&format!(
                "\n\nNOT CHECKED, no source found: {}",
                self.not_checked.join(", ")
            ));
        }
        let of_sources = self.units.iter().filter(|unit| unit.against == Against::Source);
        let extra: u64 = of_sources.map(|unit| unit.extra).sum();
        if extra > 0 && self.documents.is_none() {
            text.push_str(&format!(
                "\n\n{} of the target stand in no source that was given: give each that the \
                 backfill had, for what comes from one left out is extra too",
                output::count(extra, "row")
            ));
        }
        for outside in &self.outside_slices {
            text.push_str(&format!(
                "\n\nNOT COMPARED: {} of {}, in no slice of the pack",
                output::count(outside.rows, "row"),
                outside.table
            ));
        }
        for left_out in &self.left_out {
            text.push_str(&format!(
                "\n\nNOT COMPARED: {} of the source with {}, which retention removed from {}; the \
                 target still holds {} of that age",
                output::count(left_out.source_rows, "row"),
                left_out.rule,
                left_out.target,
                left_out.target_rows
            ));
        }
        for unmapped in &self.unmapped_columns {
            text.push_str(&format!(
                "\n\nNOT COMPARED: columns of {} that the pack does not fill: {}",
                unmapped.table,
                unmapped.columns.join(", ")
            ));
        }
        for trigger in &self.changing_triggers {
            text.push_str(&format!(
                "\n\nhint: trigger {trigger} may change rows as they are stored, which then differ \
                 from the source; `backfill --disable-triggers` stores them as they are"
            ));
        }
        if !self.changed_sources.is_empty() {
            text.push_str(&format!(
                "\n\nCHANGED while being read: {}; what differs may be due to that, so verify \
                 again when the application is still",
                self.changed_sources.join(", ")
            ));
        }
        for line in left_out(self) {
            text.push_str(&format!("\n\n{line}"));
        }
        for store in &self.stores {
            text.push_str(&format!("\n\nagainst {}: {}", store.against.name(), store.place));
            for note in &store.notes {
                text.push_str(&format!("\n  {note}"));
            }
        }
        text.push_str(&format!("\n\n{}", verdict(self)));
        text
    }
}

/// What of the source is not in Postgres, or not as it was, and is no difference because backfill
/// recorded it.
fn left_out(report: &parity::Report) -> Vec<String> {
    let sum = |count: fn(&parity::StreamResult) -> u64| report.streams.iter().map(count).sum();
    let pack = &report.pack;
    let kinds: [(u64, &str, String); 4] = [
        (
            sum(|stream| stream.rejected),
            "rejected, and not in Postgres",
            format!("toolkit rejects list --pack {pack}"),
        ),
        (
            sum(|stream| stream.corrected),
            "refused, and compared as corrected instead",
            format!("toolkit rejects list --pack {pack} --state retried"),
        ),
        (
            sum(|stream| stream.skipped),
            "left out by a rule, and not in Postgres",
            format!("toolkit ledger list --pack {pack}"),
        ),
        (
            sum(|stream| stream.ledgered),
            "stored changed by a rule",
            format!("toolkit ledger list --pack {pack}"),
        ),
    ];
    let mut lines: Vec<String> = kinds
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, command)| format!("of the source {count} {what}: `{command}`"))
        .collect();
    if let Some(documents) = report.documents {
        for (count, what) in [
            (
                documents.reviewed,
                "are otherwise in Postgres by the update policy: `toolkit review list`, \
                 `toolkit ledger list --pack anime`",
            ),
            (documents.elsewhere, "in Postgres come from other artifacts, or newer entries"),
        ] {
            if count > 0 {
                lines.push(format!("{count} values and rows {what}"));
            }
        }
    }
    if let Some(settling) = report.settling.filter(|settling| settling.differed > 0) {
        lines.push(format!(
            "{} differed at first: {} agreed when read again ({}), still changing: {}",
            output::count(settling.differed, "row"),
            settling.settled,
            output::count(settling.readings.into(), "more reading"),
            settling.unsettled
        ));
        if settling.beyond > 0 {
            lines.push(format!(
                "too many to be followed, and counted as differing: {}; let `toolkit dual-write \
                 run` catch up, then verify again",
                output::count(settling.beyond, "row")
            ));
        }
        if settling.behind > 0 {
            lines.push(format!(
                "the following store still lacked {}: see `toolkit dual-write status`, and verify \
                 again when it has caught up",
                output::count(settling.behind, "change")
            ));
        }
    }
    lines
}

impl parity::Report {
    /// The differences and the verdict, without the tables.
    pub(super) fn findings(&self) -> String {
        format!("{}\n\n{}", differences_text(&self.differences), verdict(self))
    }
}

/// What the second reading of the casts says, in a sentence.
fn independent_line(report: &parity::Report) -> Option<String> {
    let columns = &report.independent;
    let checked: u64 = columns.iter().map(|column| column.checked).sum();
    let differing: u64 = columns.iter().map(|column| column.differing).sum();
    let unread: u64 = columns.iter().map(|column| column.unread).sum();
    if checked + unread == 0 {
        return None;
    }
    let mut line = format!(
        "second reading of the casts: {differing} of {} in {} differ",
        output::count(checked, "value"),
        output::count(columns.iter().filter(|c| c.checked > 0).count() as u64, "column")
    );
    if unread > 0 {
        line.push_str(&format!(
            "; {} could be read by the cast alone",
            output::count(unread, "value")
        ));
    }
    let alone: Vec<String> = columns
        .iter()
        .filter(|column| !column.has_second_way)
        .map(|column| format!("{}.{}", column.target, column.column))
        .collect();
    if !alone.is_empty() {
        line.push_str(&format!("; no second way for {}", alone.join(", ")));
    }
    Some(line)
}

fn units_table(units: &[UnitResult]) -> comfy_table::Table {
    let mut table = output::table([
        "target",
        "source rows",
        "target rows",
        "missing",
        "extra",
        "changed",
        "duplicate",
        "superseded",
        "sample",
    ]);
    for unit in units {
        table.add_row([
            unit.target.clone(),
            unit.source_rows.to_string(),
            unit.target_rows.to_string(),
            unit.missing.to_string(),
            unit.extra.to_string(),
            unit.changed.to_string(),
            unit.duplicates.to_string(),
            unit.superseded.to_string(),
            unit.sample.map(sample_text).unwrap_or_default(),
        ]);
    }
    table
}

fn sample_text(sample: parity::SampleBound) -> String {
    let percent = sample.upper_bound * 100.0;
    // A bound from a part is always above the part's own share.
    if sample.upper_bound * sample.n as f64 <= sample.differing as f64 {
        return format!("{} of {} differ: that is every row", sample.differing, sample.n);
    }
    format!(
        "{} of {} differ: fewer than {} % at 95 % confidence",
        sample.differing,
        sample.n,
        if percent < 0.01 { format!("{percent:.4}") } else { format!("{percent:.2}") }
    )
}

fn streams_table(report: &parity::Report) -> comfy_table::Table {
    let mut table = output::table([
        "stream",
        "read",
        "rejected",
        "skipped",
        "superseded",
        "ledgered",
        "unaccounted",
    ]);
    for stream in &report.streams {
        table.add_row([
            stream.stream.clone(),
            stream.read.to_string(),
            stream.rejected.to_string(),
            stream.skipped.to_string(),
            stream.superseded.to_string(),
            stream.ledgered.to_string(),
            stream.unaccounted.to_string(),
        ]);
    }
    table
}

fn differences_text(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(difference_text).collect();
    lines.join("\n")
}

fn difference_text(difference: &Difference) -> String {
    let key: Vec<String> = difference
        .key
        .iter()
        .map(|(column, value)| match value {
            serde_json::Value::String(text) => format!("{column}={}", escaped(text)),
            other => format!("{column}={other}"),
        })
        .collect();
    let place = difference.locator.as_deref().map(escaped);
    let place = place.map(|place| format!("  ({place})")).unwrap_or_default();
    let head = format!(
        "{:<11} {} [{}] {}{place}",
        difference.kind.name().to_uppercase(),
        difference.target,
        difference.stream,
        key.join(", ")
    );
    let against = Against::of_stream(&difference.stream, &difference.target);
    let (left, right) = against.sides();
    let is_bare = difference.source_value.is_none() && difference.target_value.is_none();
    match (difference.kind, &difference.column) {
        // Only digests are at hand.
        (Kind::Changed, Some(column)) if is_bare && against == Against::Sidecar => {
            format!("{head}\n            {column}")
        }
        (Kind::Changed, Some(column)) => format!(
            "{head}\n            column {column}\n              {:<9} {}\n              {:<9} {}",
            if difference.corrected {
                "correction, not the source:".to_owned()
            } else {
                format!("{left}:")
            },
            shown(difference.source_value.as_deref()),
            format!("{right}:"),
            shown(difference.target_value.as_deref())
        ),
        (Kind::Miscast, Some(column)) => format!(
            "{head}\n            column {column}\n              second way: {}\n              the cast:   {}",
            shown(difference.source_value.as_deref()),
            shown(difference.target_value.as_deref())
        ),
        (Kind::Unaccounted, _) => {
            format!(
                "{head}\n            {}",
                difference.source_value.as_deref().map(escaped).unwrap_or_default()
            )
        }
        _ if difference.corrected && difference.source_value.is_some() => format!(
            "{head}\n            as it was corrected, not as the source has it: {}",
            difference.source_value.as_deref().map(escaped).unwrap_or_default()
        ),
        _ => match difference.source_value.as_ref().or(difference.target_value.as_ref()) {
            Some(row) if !row.is_empty() => format!("{head}\n            {}", escaped(row)),
            _ => head,
        },
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |text| format!("'{}'", escaped(text)))
}

/// What is equal where more than the sources, or something else, was compared.
fn clean_of_stores(report: &parity::Report) -> String {
    let parts: Vec<String> = report
        .against
        .iter()
        .map(|against| {
            let units = report.units.iter().filter(|unit| unit.against == *against);
            let rows: u64 = units.map(|unit| unit.target_rows).sum();
            match against {
                parity::Against::Source => format!("{rows} rows with what the sources say"),
                parity::Against::Sidecar => format!("{rows} entries of the sidecar"),
                parity::Against::Qdrant => format!("{rows} points of Qdrant"),
            }
        })
        .collect();
    format!("PARITY: Postgres agrees in {}", parts.join(", "))
}

fn verdict(report: &parity::Report) -> String {
    let rows: u64 = report.units.iter().map(|unit| unit.source_rows).sum();
    let named: std::collections::BTreeSet<String> = report
        .differences
        .iter()
        .map(|d| format!("{} {:?} {:?}", d.target, d.key, d.locator))
        .collect();
    let slices = output::count(report.units.len() as u64, "slice");
    let corrected: u64 = report.streams.iter().map(|stream| stream.corrected).sum();
    let head = match report.verdict {
        Verdict::Clean if report.level == "counts" => {
            format!("COUNTS AGREE: {} in {slices}", output::count(rows, "row"))
        }
        Verdict::Clean if report.level == "sample" => {
            format!("NO DIFFERENCE in the sample of {slices}")
        }
        Verdict::Clean if !report.stores.is_empty() => clean_of_stores(report),
        Verdict::Clean if report.documents.is_some() => {
            let read: u64 = report.streams.iter().map(|stream| stream.read).sum();
            format!("PARITY: every value of all {read} entries is in Postgres or accounted for")
        }
        Verdict::Clean => {
            let all = match rows {
                1 => format!("the one row of {slices} is"),
                _ => format!("all {rows} rows of {slices} are"),
            };
            format!("PARITY: {all} equal, byte for byte in canonical form")
        }
        Verdict::Differences => format!(
            "DIFFERENCES: {} {}{}",
            output::count(report.differing_rows, "row"),
            if report.differing_rows == 1 { "differs" } else { "differ" },
            if (named.len() as u64) < report.differing_rows {
                format!(", {} of them named above", named.len())
            } else {
                String::new()
            }
        ),
    };
    let head = match corrected {
        0 => head,
        n => format!("{head}; {} as corrected, not as in the source", output::count(n, "record")),
    };
    format!(
        "{head} (level {}, {} digests, {:.1} s, snapshot at {}, run {})",
        report.level, report.digests, report.seconds, report.snapshot_lsn, report.run_id
    )
}
