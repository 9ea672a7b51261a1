//! What a backfill would do: which streams, from where, into what, and whether a run is resumed.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::backfill::captured;
use crate::backfill::chunk::ChunkLimits;
use crate::backfill::pack_lock::is_alive;
use crate::backfill::resume::{Unfinished, resumable};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::manners::Manners;
use crate::pack::plan::OutputPlan;
use crate::pack::units::InferredUnit;
use crate::pack::{OpenedPack, Pack, source_guards_key};
use crate::runs::{self, Forecast, forecast};
use crate::source::StreamSource;
use crate::source::snapshot::Snapshot;
use crate::store::{Postgres, quote_ident, sql};

/// What a caller decides.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these streams; empty: all that have a source.
    pub streams: Vec<String>,
    /// Start over instead of resuming an unfinished run.
    pub restart: bool,
    /// When a chunk is full.
    pub limits: ChunkLimits,
    /// Never drop indexes, however empty the target is. So under a throttle: rows that come slowly
    /// are indexed as they come, and to build the indexes at once afterwards would be no throttle.
    pub keep_indexes: bool,
    /// Workers of this process; 0: as many as [`default_workers`] says, and one under a throttle.
    pub workers: usize,
    /// The copy that is read; its folders must be the sources.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Switch the targets' user triggers off for what is written.
    pub disable_triggers: bool,
    /// How fast it may write, and when it has to wait.
    pub manners: Manners,
}

/// Workers where nobody says how many: one a core, four at most. A worker is a reader thread here
/// and a session there; on one machine both sides want the cores.
#[must_use]
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4)
}

/// What a run would do.
#[derive(Debug, Serialize)]
pub struct Preparation {
    /// The pack.
    pub pack: String,
    /// The run it would resume.
    pub resumes: Option<String>,
    /// The streams, in order.
    pub streams: Vec<StreamPreparation>,
    /// Streams of the pack without any source here.
    pub absent: Vec<String>,
    /// Workers of this process at most.
    pub workers: usize,
    /// User triggers of the targets that will fire, or would without `disable_triggers`.
    pub triggers: Vec<String>,
    /// Whether they are switched off.
    pub disable_triggers: bool,
    /// Units of numeric timestamps that were found in the columns themselves.
    pub inferred_units: Vec<InferredUnit>,
    /// Whether changes of the sources are captured, so that they may move.
    pub is_captured: bool,
    /// How much there is, and how long it may take.
    pub forecast: Forecast,
    #[serde(skip)]
    pub(crate) opened: Arc<OpenedPack>,
    #[serde(skip)]
    pub(super) roots: Vec<PathBuf>,
    #[serde(skip)]
    pub(super) options: Options,
}

impl Preparation {
    /// What it was prepared with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// One stream of a [`Preparation`].
#[derive(Debug, Clone, Serialize)]
pub struct StreamPreparation {
    /// Stream.
    pub stream: String,
    /// Source files.
    pub files: u64,
    /// Records, about.
    pub records: u64,
    /// Targets.
    pub targets: Vec<String>,
    /// `copy` into empty slices, else `merge`.
    pub mode: &'static str,
    #[serde(skip)]
    pub(super) index: usize,
    /// Records of each source, about, in their order.
    #[serde(skip)]
    pub(super) source_records: Vec<u64>,
    /// Whether rows may be copied straight into an empty slice.
    #[serde(skip)]
    pub(super) may_copy: bool,
}

/// Finds sources, compiles the plan, and says what a run would do. Changes nothing.
pub async fn prepare(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
    options: Options,
) -> Result<Preparation> {
    let mut opened =
        crate::pack::open_for(settings, postgres, pack, roots, &options.streams).await?;
    let mut conn = postgres.dedicated().await?;
    options.manners.check(&mut conn).await?;
    let is_captured = captured::is_captured(&mut conn, &opened.plan.name).await?;
    if is_captured && options.snapshot.is_none() {
        let mut inputs = std::mem::take(&mut opened.discovered.inputs);
        captured::settle_tokens(&opened, &mut inputs)?;
        opened.discovered.inputs = inputs;
    }
    let opened = Arc::new(opened);
    for name in &options.streams {
        if opened.plan.stream_index(name).is_none() {
            let known: Vec<&str> =
                opened.plan.streams.iter().map(|stream| stream.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the pack {} has no stream `{name}`", opened.plan.name),
            )
            .advice(format!("its streams are: {}", known.join(", "))));
        }
    }
    let resumes = resumed_run(&mut conn, &opened, &options).await?;
    let mut streams = Vec::new();
    let mut absent = Vec::new();
    for (index, stream) in opened.plan.streams.iter().enumerate() {
        if !options.streams.is_empty() && !options.streams.contains(&stream.name) {
            continue;
        }
        if !opened.has_source(index) {
            absent.push(stream.name.clone());
            continue;
        }
        for output in &stream.outputs {
            output.table.require_writable(&mut conn).await?;
        }
        let sources = opened.open_sources(index)?;
        let may_copy = may_copy(&opened, index, &sources)?;
        let is_empty = may_copy && is_empty(&mut conn, &opened, index).await?;
        let source_records: Vec<u64> =
            sources.iter().map(StreamSource::estimated_records).collect();
        streams.push(StreamPreparation {
            stream: stream.name.clone(),
            files: opened.discovered.streams[&stream.name].files.len() as u64,
            records: source_records.iter().sum(),
            targets: stream.outputs.iter().map(|o| o.table.display_name()).collect(),
            mode: if is_empty { "copy" } else { "merge" },
            index,
            source_records,
            may_copy,
        });
    }
    let amount = (streams.iter().map(|stream| stream.records).sum(), opened.source_bytes());
    let throttle = options.manners.throttle;
    let pack_name = &opened.plan.name;
    let forecast = forecast(&mut conn, pack_name, runs::Work::Load, amount, throttle).await?;
    conn.close().await?;
    if streams.is_empty() {
        return Err(Error::new(
            ErrorKind::SourceMissing,
            format!("no source was found for {}", options.streams.join(", ")),
        ));
    }
    Ok(Preparation {
        is_captured,
        forecast,
        triggers: triggers(&opened, &streams),
        disable_triggers: options.disable_triggers,
        pack: opened.plan.name.clone(),
        resumes,
        streams,
        absent,
        workers: match (options.workers, options.manners.throttle) {
            (0, None) => default_workers(),
            // One does it at an even pace; several would only take turns.
            (0, Some(_)) => 1,
            (workers, _) => workers,
        },
        inferred_units: opened.units.clone(),
        opened,
        roots: roots.to_vec(),
        options,
    })
}

/// The run that would be resumed, or joined while it is alive.
async fn resumed_run(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    options: &Options,
) -> Result<Option<String>> {
    if options.restart {
        return Ok(None);
    }
    match resumable(conn, opened, options).await? {
        Unfinished::Resume(run_id) => Ok(Some(run_id)),
        // While it is alive, it is in the way whatever it was started with: starting says so.
        Unfinished::Differs(_) if is_alive(conn, &opened.plan.name).await? => Ok(None),
        Unfinished::Differs(error) => Err(error),
        Unfinished::None => Ok(None),
    }
}

/// Whether rows may go straight into the stream's slices by COPY while those are empty. Where no
/// unique key guards the plan's key, the source itself must: a single table by its rowid.
fn may_copy(opened: &OpenedPack, stream: usize, sources: &[StreamSource]) -> Result<bool> {
    for output in &opened.plan.streams[stream].outputs {
        if !output.key_is_unique && !output.is_content && !source_guards_key(output, sources)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether every slice the stream writes is empty.
pub(super) async fn is_empty(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    stream: usize,
) -> Result<bool> {
    for output in &opened.plan.streams[stream].outputs {
        let (condition, values) = slice_condition(output, 1);
        let statement =
            format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {condition})", output.table.sql_name());
        let mut query = sqlx::query_scalar::<_, bool>(sql(statement));
        for value in values {
            query = query.bind(value);
        }
        if query.fetch_one(&mut *conn).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A sentence for each user trigger of the targets.
fn triggers(opened: &OpenedPack, streams: &[StreamPreparation]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for output in streams.iter().flat_map(|s| &opened.plan.streams[s.index].outputs) {
        for sentence in output.table.trigger_sentences() {
            if !found.contains(&sentence) {
                found.push(sentence);
            }
        }
    }
    found
}

/// Which rows are the output's slice, with parameters from `first` on, and their values.
pub(super) fn slice_condition(output: &OutputPlan, first: usize) -> (String, Vec<String>) {
    let parts: Vec<String> = output
        .constants
        .iter()
        .enumerate()
        .map(|(at, (position, _))| {
            format!("{}::text = ${}", quote_ident(&output.columns[*position].name), at + first)
        })
        .collect();
    let condition = if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") };
    (condition, output.constants.iter().map(|(_, value)| value.clone()).collect())
}
