//! A whole verification: snapshot, first pass on both sides at once, second pass where it is
//! needed, verdict, stored result.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::{Manners, Pace, Told};
use crate::pack::{OpenedPack, join_error};
use crate::parity::accounts::Accounts;
use crate::parity::against::Against;
use crate::parity::difference::{Difference, Kind};
use crate::parity::following::{KeysBySlice, Settle};
use crate::parity::independent::{Independent, IndependentResult};
use crate::parity::marks::Marks;
use crate::parity::passes::Passes;
use crate::parity::recorded::{recorded, snapshot_time, unmapped_columns};
use crate::parity::report::{Recorded, Report, StreamResult, UnitResult, Verdict};
use crate::parity::settle::{Follow, Followed, Records, examine_settling};
use crate::parity::store;
use crate::parity::target::begin_snapshot;
use crate::parity::walk::StreamTally;
use crate::runs::{self, Forecast, forecast};
use crate::source::StreamSource;
use crate::store::Postgres;

/// How thoroughly the stores are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Rows per slice.
    Counts,
    /// Whole rows of a uniform sample of keys per slice.
    Sample {
        /// Keys per slice.
        n: usize,
        /// Seed of the choice.
        seed: u64,
    },
    /// Every row.
    Full,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Sample { .. } => "sample",
            Self::Full => "full",
        }
    }
}

/// Where the target's digests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Digests {
    /// In the server where the network is the cost, else in the client.
    #[default]
    Auto,
    /// In the server: it hashes, and only sums go over the network.
    Server,
    /// In the client: rows are streamed, which is fastest on one host.
    Client,
}

impl Digests {
    /// The decision: whether the server makes them.
    fn in_server(self, postgres: &Postgres) -> bool {
        match self {
            Self::Auto => !postgres.is_local(),
            Self::Server => true,
            Self::Client => false,
        }
    }
}

/// What a caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// How thoroughly.
    pub level: Level,
    /// Only slices these streams feed; empty: all.
    pub streams: Vec<String>,
    /// Differing rows named at most; all are counted.
    pub differences_max: usize,
    /// Where the target's digests are made, at level full.
    pub digests: Digests,
    /// Bytes of one side of one slice that level full keeps on disk, in the folder for temporary
    /// files, so that differences are found without reading the stores again; 45 bytes a row.
    pub spool_bytes_max: u64,
    /// Which records are read a second way, without the casts, at levels sample and full.
    pub independent: Independent,
    /// Whether what differs is compared again before it counts, because the stores change.
    pub settle: Settle,
    /// What it is made for.
    pub purpose: Purpose,
    /// How fast it may read, and when it has to wait: both sides together.
    pub manners: Manners,
    /// The snapshot to read, by the name that `pg_export_snapshot` gave it; None: one of its own.
    pub snapshot: Option<String>,
}

/// What a verification is made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// For its own sake.
    #[default]
    Verification,
    /// To see whether a certificate holds: `latest` is never such a one.
    CertificateCheck,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Full,
            streams: Vec::new(),
            differences_max: 100,
            digests: Digests::Auto,
            spool_bytes_max: crate::parity::spool::BYTES_MAX,
            independent: Independent::Sample { n: 1000, seed: 0 },
            settle: Settle::No,
            purpose: Purpose::Verification,
            manners: Manners::default(),
            snapshot: None,
        }
    }
}

/// Progress of a verification.
#[derive(Debug, Clone)]
pub enum Event {
    /// It begins.
    Begun {
        /// The pack.
        pack: String,
        /// Rows of both sides to be read, about.
        rows: u64,
        /// How much there is, and how long it may take.
        forecast: Forecast,
    },
    /// So many more rows were read, of either side.
    Read {
        /// Rows.
        rows: u64,
    },
    /// Nothing is read for now.
    Paused {
        /// Why.
        reason: String,
    },
    /// It goes on.
    Resumed,
    /// All is read.
    Done,
}

impl From<Told> for Event {
    fn from(told: Told) -> Self {
        match told {
            Told::Paused(reason) => Self::Paused { reason },
            Told::Resumed => Self::Resumed,
        }
    }
}

/// A reader that waits in mid-statement or between two is no reason to end its session.
pub(crate) const WAITS_LONG: &str =
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// How often it is said how much was read.
const SAY_EVERY: Duration = Duration::from_millis(250);

/// Verifies the pack's targets against its sources and stores the result.
pub async fn verify(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    verify_telling(postgres, opened, options, stop, &|_| ()).await
}

/// The same, and says how far it is.
pub async fn verify_telling(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    options: &Options,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report> {
    let is_held_back = !options.manners.is_none();
    let digests = match options.digests {
        // One statement that reads a whole table cannot be held back.
        Digests::Auto if is_held_back => Digests::Client,
        digests => digests,
    };
    let in_server = options.level == Level::Full && digests.in_server(postgres);
    let mut conn = postgres.dedicated().await?;
    options.manners.check(&mut conn).await?;
    let sides = if in_server { 1 } else { 2 };
    let records = expected_records(&opened, options)?;
    let pack = opened.plan.name.clone();
    let work = runs::Work::Comparison(options.level.name());
    let amount = (records, opened.source_bytes());
    let forecast = forecast(&mut conn, &pack, work, amount, options.manners.throttle).await?;
    on_event(Event::Begun { pack, rows: sides * records, forecast });
    let pace = Pace::new(&options.manners);
    let examined = async {
        // Large, and part of whatever waits for it.
        let examining =
            Box::pin(examine_settling(&mut conn, &opened, options, in_server, (stop, &pace)));
        tokio::select! {
            examined = examining => examined,
            never = tell_rows(&pace, on_event) => match never {},
        }
    };
    let tell = |told: Told| on_event(Event::from(told));
    let watched = pace.watched(postgres.connector(), &options.manners, stop, &tell, examined).await;
    on_event(Event::Done);
    let Examined { report, snapshot, .. } = watched?;
    let settings = json!({
        "level": options.level.name(),
        "streams": options.streams,
        "looked_in": opened.roots,
        "pack_folder": opened.pack.folder,
        "differences_max": options.differences_max,
        "purpose": match options.purpose {
            Purpose::Verification => serde_json::Value::Null,
            Purpose::CertificateCheck => json!("certificate check"),
        },
        "independent": match options.independent {
            Independent::Sample { n, seed } => json!({ "n": n, "seed": seed }),
            Independent::All => json!("all"),
        },
        "digests": if in_server { "server" } else { "client" },
        "throttle": options.manners.throttle.map(|rate| rate.to_string()),
        "sample": match options.level {
            Level::Sample { n, seed } => json!({ "n": n, "seed": seed }),
            _ => serde_json::Value::Null,
        },
    });
    let stored = store::Stored::of(&opened, &settings, &snapshot);
    store::store_report(&mut conn, stored, &report).await?;
    Ok(report)
}

/// Says again and again how many rows were read.
async fn tell_rows(pace: &Pace, on_event: &(dyn Fn(Event) + Sync)) -> Infallible {
    let mut told = 0;
    loop {
        tokio::time::sleep(SAY_EVERY).await;
        let rows = pace.rows();
        on_event(Event::Read { rows: rows - told });
        told = rows;
    }
}

/// Records of the sources that will be read, about.
fn expected_records(opened: &OpenedPack, options: &Options) -> Result<u64> {
    let mut records = 0;
    for stream in streams_of(opened, &checked_units(opened, options)?) {
        let sources = opened.open_sources(stream)?;
        records += sources.iter().map(StreamSource::estimated_records).sum::<u64>();
    }
    Ok(records)
}

/// What a verification saw.
pub(super) struct Examined {
    pub(super) report: Report,
    /// The snapshot it read, as Postgres prints it.
    pub(super) snapshot: String,
    /// The differing rows that are followed.
    pub(super) followed: Followed,
    /// The records that are not accounted for.
    pub(super) records: Records,
}

/// What one comparison works on.
pub(super) struct Look<'a> {
    pub(super) opened: &'a Arc<OpenedPack>,
    pub(super) options: &'a Options,
    pub(super) in_server: bool,
    pub(super) stop: &'a Stop,
    pub(super) pace: &'a Pace,
    /// Which differing rows are followed.
    pub(super) follow: Follow,
}

impl<'a> Look<'a> {
    /// Begins the snapshot that is read from; returns (LSN, snapshot).
    async fn begin(&self, conn: &mut PgConnection) -> Result<(String, String)> {
        let begun = begin_snapshot(conn, self.options.snapshot.as_deref()).await?;
        if self.pace.is_slow() {
            sqlx::raw_sql(WAITS_LONG).execute(conn).await?;
        }
        Ok(begun)
    }

    /// The passes over `units`, in the snapshot that `conn` has open.
    async fn passes(&self, conn: &'a mut PgConnection, units: Vec<usize>) -> Result<Passes<'a>> {
        let accounts = accounts(conn, self.opened).await?;
        Ok(Passes {
            opened: self.opened,
            accounts: Arc::new(accounts),
            streams: streams_of(self.opened, &units),
            units,
            stop: self.stop,
            pace: self.pace,
            conn,
            differences_max: self.options.differences_max,
            in_server: self.in_server,
            spool_bytes_max: self.options.spool_bytes_max,
            follow: self.follow.clone(),
        })
    }
}

/// Compares the whole rows of some slices, for those that are followed.
pub(super) async fn examine_part(
    conn: &mut PgConnection,
    look: &Look<'_>,
    units: Vec<usize>,
) -> Result<Found> {
    look.begin(conn).await?;
    let waiting = look.follow.ask_waiting(conn, look.opened, &look.options.settle).await?;
    let mut passes = look.passes(conn, units).await?;
    passes.follow.waiting = Arc::new(waiting);
    let mut found = passes.buckets(true).await?;
    found.waiting = Arc::clone(&passes.follow.waiting);
    sqlx::raw_sql("COMMIT").execute(&mut *passes.conn).await?;
    found.unaccounted(look.opened, look.options.differences_max);
    Ok(found)
}

/// Verifies without storing the result, and follows nothing.
pub(super) async fn examine(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    options: &Options,
    in_server: bool,
    stop: &Stop,
) -> Result<Examined> {
    let pace = &Pace::free();
    let look = Look { opened, options, in_server, stop, pace, follow: Follow::default() };
    examine_following(conn, &look).await
}

/// As [`examine`], with the differing rows that are to be followed.
pub(super) async fn examine_following(
    conn: &mut PgConnection,
    look: &Look<'_>,
) -> Result<Examined> {
    let Look { opened, options, in_server, .. } = *look;
    let started = Instant::now();
    let units = checked_units(opened, options)?;
    let (lsn, snapshot) = look.begin(conn).await?;
    let mut passes = look.passes(conn, units).await?;
    let mut found = match options.level {
        Level::Sample { n, seed } => passes.sample(n, seed).await?,
        level => passes.buckets(level == Level::Full).await?,
    };
    if options.level != Level::Counts {
        passes.second_reading(options.independent, &mut found).await?;
    }
    let outside_slices = passes.outside_slices().await?;
    let left_out = passes.left_out(&found.tallies).await?;
    let units = passes.units;
    let is_full = options.level == Level::Full;
    let recorded = if is_full { recorded(passes.conn, opened).await? } else { HashMap::new() };
    let snapshot_at = snapshot_time(passes.conn).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *passes.conn).await?;
    found.unaccounted(opened, options.differences_max);
    let differing_rows = found.units.iter().map(UnitResult::differing).sum::<u64>()
        + found.unaccounted_total()
        + found.independent.iter().map(|result| result.differing).sum::<u64>();
    let is_clean = differing_rows == 0;
    let changed_sources = if is_clean { Vec::new() } else { changed_sources(opened).await? };
    let report = Report {
        run_id: uuid::Uuid::new_v4().to_string(),
        pack: opened.plan.name.clone(),
        level: options.level.name().to_owned(),
        digests: if in_server { "server" } else { "client" }.to_owned(),
        verdict: if is_clean { Verdict::Clean } else { Verdict::Differences },
        streams: found.stream_results(opened, recorded),
        units: found.units,
        independent: found.independent,
        differences: found.differences,
        differing_rows,
        not_checked: not_checked(opened),
        outside_slices,
        left_out,
        unmapped_columns: unmapped_columns(opened, &units),
        changing_triggers: if is_clean { Vec::new() } else { changing_triggers(opened, &units) },
        changed_sources,
        snapshot_lsn: lsn,
        snapshot_at,
        settling: None,
        against: vec![Against::Source],
        stores: Vec::new(),
        documents: None,
        seconds: started.elapsed().as_secs_f64(),
    };
    let records = found.tallies.into();
    Ok(Examined { report, snapshot, followed: found.followed, records })
}

/// What backfill recorded about each stream.
async fn accounts(conn: &mut PgConnection, opened: &OpenedPack) -> Result<Vec<Accounts>> {
    let mut accounts = Vec::new();
    for stream in &opened.plan.streams {
        accounts.push(Accounts::load(conn, &opened.plan.name, &stream.name).await?);
    }
    Ok(accounts)
}

async fn changed_sources(opened: &Arc<OpenedPack>) -> Result<Vec<String>> {
    let opened = Arc::clone(opened);
    tokio::task::spawn_blocking(move || opened.changed_sources()).await.map_err(join_error)?
}

/// The units to check: all that a found stream feeds, or that a wanted stream feeds.
fn checked_units(opened: &OpenedPack, options: &Options) -> Result<Vec<usize>> {
    for name in &options.streams {
        let Some(index) = opened.plan.stream_index(name) else {
            let known: Vec<&str> =
                opened.plan.streams.iter().map(|stream| stream.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the pack {} has no stream `{name}`", opened.plan.name),
            )
            .advice(format!("its streams are: {}", known.join(", "))));
        };
        if !opened.has_source(index) {
            return Err(Error::new(
                ErrorKind::SourceMissing,
                format!("no source of stream `{name}` was found, so it cannot be verified"),
            ));
        }
    }
    let is_checked = |unit: &crate::pack::plan::Unit| {
        unit.feeds.iter().any(|(stream, _)| {
            opened.has_source(*stream)
                && (options.streams.is_empty()
                    || options.streams.contains(&opened.plan.streams[*stream].name))
        })
    };
    let units = opened.plan.units.iter().enumerate();
    Ok(units.filter(|(_, unit)| is_checked(unit)).map(|(index, _)| index).collect())
}

/// Triggers that may have stored other rows than they were given.
fn changing_triggers(opened: &OpenedPack, units: &[usize]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for trigger in units.iter().flat_map(|unit| &opened.plan.units[*unit].table.triggers) {
        let name = format!("{} of {}.{}", trigger.name, trigger.schema, trigger.table);
        if trigger.changes_rows && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn streams_of(opened: &OpenedPack, units: &[usize]) -> Vec<usize> {
    (0..opened.plan.streams.len())
        .filter(|stream| {
            opened.has_source(*stream)
                && units
                    .iter()
                    .any(|unit| opened.plan.units[*unit].feeds.iter().any(|(s, _)| s == stream))
        })
        .collect()
}

fn not_checked(opened: &OpenedPack) -> Vec<String> {
    (0..opened.plan.streams.len())
        .filter(|stream| !opened.has_source(*stream))
        .map(|stream| opened.plan.streams[stream].name.clone())
        .collect()
}

/// What was found, before it becomes a report.
#[derive(Default)]
pub(super) struct Found {
    pub(super) units: Vec<UnitResult>,
    pub(super) differences: Vec<Difference>,
    pub(super) tallies: Vec<Option<StreamTally>>,
    pub(super) independent: Vec<IndependentResult>,
    pub(super) marks: Arc<Vec<Marks>>,
    /// Differing rows that are followed.
    pub(super) followed: Followed,
    /// Of the rows that matter, those whose changes wait to be written back.
    pub(super) waiting: Arc<KeysBySlice>,
}

impl Found {
    fn unaccounted_total(&self) -> u64 {
        self.tallies.iter().flatten().map(|tally| tally.unaccounted).sum()
    }

    /// Names what backfill should have recorded, after the rows that differ.
    fn unaccounted(&mut self, opened: &OpenedPack, differences_max: usize) {
        for (stream, tally) in self.tallies.iter().enumerate() {
            let Some(tally) = tally else { continue };
            let plan = &opened.plan.streams[stream];
            for entry in &tally.examples {
                if self.differences.len() >= differences_max {
                    return;
                }
                let unit = plan.outputs[entry.output].unit;
                self.differences.push(Difference {
                    stream: plan.name.clone(),
                    target: opened.plan.units[unit].name.clone(),
                    kind: Kind::Unaccounted,
                    key: serde_json::Map::new(),
                    column: None,
                    source_value: Some(entry.what.clone()),
                    target_value: None,
                    source_digest: None,
                    target_digest: None,
                    locator: Some(format!("{}, {}", entry.source, entry.locator)),
                    row: None,
                    corrected: false,
                });
            }
        }
    }

    fn stream_results(
        &self,
        opened: &OpenedPack,
        mut recorded: HashMap<usize, Recorded>,
    ) -> Vec<StreamResult> {
        self.tallies
            .iter()
            .enumerate()
            .filter_map(|(stream, tally)| {
                let tally = tally.as_ref()?;
                Some(StreamResult {
                    stream: opened.plan.streams[stream].name.clone(),
                    read: tally.read,
                    rejected: tally.rejected,
                    skipped: tally.skipped,
                    superseded: tally.superseded,
                    ledgered: tally.ledgered,
                    corrected: tally.corrected,
                    unaccounted: tally.unaccounted,
                    recorded: recorded.remove(&stream),
                })
            })
            .collect()
    }
}
