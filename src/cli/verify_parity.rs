//! `toolkit verify-parity`: proof that source and target hold the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::manners::ManneredArgs;
use super::progress::Progress;
use super::report_file::{self, ReportFile};
use super::{Outcome, Output};
use crate::backfill::newest_snapshot;
use crate::certificate;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{OpenedPack, Pack, join_error};
use crate::parity::{
    self, Against, Digests, Independent, Level, Options, Settle, StoredRun, Verdict, stored_run,
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
that was captured was applied. After the cutover SQLite is what follows: rows whose changes wait to
be written back are no differences, and where nothing else differs but they do not go away, the
answer is exit 2 and the command that writes them back. --settle SECONDS goes on for that long,
whether anything is captured or not.

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
The edges of the graph (table graph_edge) are compared with the junction tables they are made of each
time, whatever --against names; `toolkit graph reconcile --repair` makes them right.

--throttle limits how many rows, of both sides together, are read a second, and --max-load, --max-lag,
--pause-file and --pause-while have both readers wait. What waits holds no read of a source, but it
does hold the one snapshot of Postgres that everything is compared in: for as long as it is open,
VACUUM removes nothing that was deleted or changed since, so that tables much written to grow, and a
replica with hot_standby_feedback on, or asked itself, is held up too. So prefer a slow verification
to one that pauses for long, and end one that should wait for hours: it changes nothing, and Ctrl-C
costs only its time. It is no run, and `toolkit run` does not know it. Rows are hashed in the client
then; --digest server, one statement a table, cannot be held back.

Exit codes: 0 parity, 1 differences, 2 could not check.

Examples:
  toolkit verify-parity --pack unified --source /data/app --level full
  toolkit verify-parity --pack unified --source /data/app --level sample --n 4096
  toolkit verify-parity --pack unified --snapshot
  toolkit verify-parity --pack unified --source /data/app --settle 30
  toolkit verify-parity --pack unified --source /data/app --throttle 20000/s --max-load 8
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
    /// source, the Qdrant collection and the graph's edges, which are compared each time; any of
    /// them, comma separated [default: source]
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
    #[command(flatten)]
    pub(super) manners: ManneredArgs,
    /// Verify the verifier: plant drift of every class in data of its own, and see it found
    #[arg(long, conflicts_with_all = [
        "pack", "source", "snapshot", "stream", "level", "n", "independent", "max_differences",
        "digest", "report", "certificate", "settle", "against", "throttle", "max_lag", "max_load",
        "pause_file", "pause_while",
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
    Graph,
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
            Against::Graph => self.names(AgainstName::Graph),
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
        let detail = format!("the pack {} has no sidecar, collection or graph", pack.name());
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice("of the built-in packs anime has all three; leave --against out"));
    }
    let is_of_files = |against: &Against| matches!(against, Against::Source | Against::Sidecar);
    if args.source.is_empty() && !args.snapshot && args.against().iter().any(is_of_files) {
        return Err(Error::new(ErrorKind::Usage, "no --source was named")
            .advice("the source, and the sidecar beside it, are found by it"));
    }
    if pack.manifest.documents.is_some() {
        return super::verify_documents::run(&args, &pack, settings, output).await;
    }
    if args.digest == DigestName::Server && !args.manners.manners().is_none() {
        return Err(Error::new(ErrorKind::Usage, "--digest server cannot be throttled or paused")
            .advice("the server reads a table in one statement then; leave --digest out"));
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
        manners: args.manners.manners(),
        ..Options::default()
    };
    let opened = Arc::new(crate::pack::open_as_recorded(settings, postgres, pack, &roots).await?);
    let progress = Progress::new(output);
    let on_event = |event| progress.show_comparison(event);
    let verifying =
        crate::phase::verify(postgres, Arc::clone(&opened), &options, output.stop(), &on_event);
    let report = verifying.await?;
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
