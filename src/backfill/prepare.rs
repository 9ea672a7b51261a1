//! What a backfill would do: which streams, from where, into what, and whether a run is resumed.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::backfill::chunk::ChunkLimits;
use crate::backfill::resume::{Unfinished, resumable};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::plan::OutputPlan;
use crate::pack::units::InferredUnit;
use crate::pack::{OpenedPack, Pack, source_guards_key};
use crate::source::StreamSource;
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
    /// Never drop indexes, however empty the target is.
    pub keep_indexes: bool,
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
    /// Units of numeric timestamps that were found in the columns themselves.
    pub inferred_units: Vec<InferredUnit>,
    #[serde(skip)]
    pub(crate) opened: Arc<OpenedPack>,
    #[serde(skip)]
    pub(super) roots: Vec<PathBuf>,
    #[serde(skip)]
    pub(super) options: Options,
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
    #[serde(skip)]
    pub(super) initial_load: bool,
}

/// Finds sources, compiles the plan, and says what a run would do. Changes nothing.
pub async fn prepare(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
    options: Options,
) -> Result<Preparation> {
    let opened = Arc::new(crate::pack::open(settings, postgres, pack, roots).await?);
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
    let mut conn = postgres.dedicated().await?;
    let resumes = match resumable(&mut conn, &opened, &options).await? {
        Unfinished::Resume(run_id) if !options.restart => Some(run_id),
        Unfinished::Differs(error) if !options.restart => return Err(error),
        _ => None,
    };
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
        let mut sources = opened.open_sources(index)?;
        let initial_load = initial_load(&mut conn, &opened, index, &sources).await?;
        streams.push(StreamPreparation {
            stream: stream.name.clone(),
            files: opened.discovered.streams[&stream.name].files.len() as u64,
            records: sources.iter_mut().map(|source| source.estimated_records()).sum(),
            targets: stream.outputs.iter().map(|o| o.table.display_name()).collect(),
            mode: if initial_load { "copy" } else { "merge" },
            index,
            initial_load,
        });
    }
    conn.close().await?;
    if streams.is_empty() {
        return Err(Error::new(
            ErrorKind::SourceMissing,
            format!("no source was found for {}", options.streams.join(", ")),
        ));
    }
    Ok(Preparation {
        pack: opened.plan.name.clone(),
        resumes,
        streams,
        absent,
        inferred_units: opened.units.clone(),
        opened,
        roots: roots.to_vec(),
        options,
    })
}

/// Whether every slice the stream writes is empty, so that COPY may go straight into it. Where no
/// unique key guards the plan's key, the source itself must: a single table by its rowid.
async fn initial_load(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    stream: usize,
    sources: &[StreamSource],
) -> Result<bool> {
    for output in &opened.plan.streams[stream].outputs {
        if !output.key_is_unique && !source_guards_key(output, sources)? {
            return Ok(false);
        }
        let (condition, values) = slice_condition(output);
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

fn slice_condition(output: &OutputPlan) -> (String, Vec<String>) {
    let parts: Vec<String> = output
        .constants
        .iter()
        .enumerate()
        .map(|(at, (position, _))| {
            format!("{}::text = ${}", quote_ident(&output.columns[*position].name), at + 1)
        })
        .collect();
    let condition = if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") };
    (condition, output.constants.iter().map(|(_, value)| value.clone()).collect())
}
