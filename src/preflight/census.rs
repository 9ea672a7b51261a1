//! Reading every record once, counting, predicting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;

use crate::cast::PgType;
use crate::config::Settings;
use crate::derive::{Derived, Deriver, Pointers, row_locator};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::plan::{From, PlannedColumn, StreamPlan};
use crate::pack::{OpenedPack, Pack, join_error, source_guards_key};
use crate::preflight::documents::DocumentCensus;
use crate::preflight::moments::MomentCensus;
use crate::preflight::names;
use crate::preflight::predict::Predictor;
use crate::preflight::references::References;
use crate::preflight::report::{Census, Place, Predicted, StreamCensus};
use crate::preflight::values::ValueCensus;
use crate::source::discover::discover;
use crate::source::{Content, Flow, SourceRecord, StreamSource};
use crate::store::Postgres;

/// How long a read transaction of `SQLite` stays open: without a write-ahead log its writers wait.
const LOCK_MAX: Duration = Duration::from_millis(300);

/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 64;

/// Source files a stream's census names.
const FILES_NAMED_MAX: usize = 5;

/// What a caller decides.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these streams; empty: all that have a source.
    pub streams: Vec<String>,
}

/// Progress of a census.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stream begins.
    Stream {
        /// Its name.
        name: String,
        /// Records, about.
        records: u64,
    },
    /// Records were counted.
    Records {
        /// How many.
        records: u64,
        /// Rejects predicted among them.
        rejects: u64,
    },
    /// The stream is done.
    StreamDone,
}

/// Counts what the sources of `pack` below `roots` hold, and predicts what a backfill will make of
/// it. Changes nothing, neither in the sources nor in the database.
///
/// Errors: as a backfill's before it copies; a table that no Postgres table can hold.
pub async fn census(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
    options: &Options,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Census> {
    let started = Instant::now();
    let opened = Arc::new(open(settings, postgres, pack, roots).await?);
    let (chosen, absent) = choose(&opened, options)?;
    let mut conn = postgres.dedicated().await?;
    let left_to_postgres = left_to_postgres(&mut conn, &opened, &chosen).await?;
    let references = stop.unless(References::read(&mut conn, &opened.plan, &chosen)).await?;
    conn.close().await?;
    let (sender, mut events) = mpsc::channel(16);
    let work = Work { opened: Arc::clone(&opened), stop: stop.clone(), events: sender };
    let streams = chosen.clone();
    let working = tokio::task::spawn_blocking(move || work.streams(&streams, references));
    while let Some(event) = events.recv().await {
        on_event(event);
    }
    let streams = working.await.map_err(join_error)??;
    let (roots, here) = (roots.to_vec(), Arc::clone(&opened));
    let (files, changed_sources) = tokio::task::spawn_blocking(move || -> Result<_> {
        let files = names::files(&here.plan, &here.discovered, &chosen)?;
        Ok((files, changed_sources(&here, &roots)?))
    })
    .await
    .map_err(join_error)??;
    Ok(Census {
        pack: opened.plan.name.clone(),
        version: opened.plan.version,
        read: streams.iter().map(|stream| stream.predicted.read).sum(),
        rejects: streams.iter().map(|stream| stream.predicted.rejects()).sum(),
        streams,
        absent,
        files,
        left_to_postgres,
        changed_sources,
        inferred_units: opened.units.clone(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

async fn open(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
) -> Result<OpenedPack> {
    let error = match crate::pack::open(settings, postgres, pack.clone(), roots).await {
        Ok(opened) => return Ok(opened),
        Err(error) if error.kind() == ErrorKind::Pack => error,
        Err(error) => return Err(error),
    };
    let roots = roots.to_vec();
    tokio::task::spawn_blocking(move || {
        names::refuse_wide_tables(&discover(&pack, &roots)?, &pack)
    })
    .await
    .map_err(join_error)??;
    Err(error)
}

/// The streams to read, in copy order, and those without a source.
fn choose(opened: &OpenedPack, options: &Options) -> Result<(Vec<usize>, Vec<String>)> {
    let plan = &opened.plan;
    if let Some(name) = options.streams.iter().find(|name| plan.stream_index(name).is_none()) {
        let known: Vec<&str> = plan.streams.iter().map(|stream| stream.name.as_str()).collect();
        let detail = format!("the pack {} has no stream `{name}`", plan.name);
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice(format!("its streams are: {}", known.join(", "))));
    }
    let wanted =
        plan.streams.iter().enumerate().filter(|(_, stream)| {
            options.streams.is_empty() || options.streams.contains(&stream.name)
        });
    let (mut chosen, mut absent) = (Vec::new(), Vec::new());
    for (index, stream) in wanted {
        if opened.has_source(index) {
            chosen.push(index);
        } else {
            absent.push(stream.name.clone());
        }
    }
    if chosen.is_empty() {
        let detail = format!("no source was found for {}", absent.join(", "));
        return Err(Error::new(ErrorKind::SourceMissing, detail));
    }
    Ok((chosen, absent))
}

/// Constraints, triggers and types of the targets that only Postgres judges.
async fn left_to_postgres(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    chosen: &[usize],
) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for output in chosen.iter().flat_map(|at| &opened.plan.streams[*at].outputs) {
        let table = &output.table;
        let mut of_table: Vec<String> =
            sqlx::query_scalar(include_str!("../sql/preflight/judged_by_postgres.sql"))
                .bind(&table.schema)
                .bind(&table.name)
                .fetch_all(&mut *conn)
                .await?;
        of_table.extend(table.triggers.iter().map(|trigger| format!("trigger {}", trigger.name)));
        if table.is_partitioned() {
            of_table.push("a partition for every row".to_owned());
        }
        for what in of_table {
            let line = format!("{}: {what}", table.display_name());
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
    Ok(found)
}

fn changed_sources(opened: &OpenedPack, roots: &[PathBuf]) -> Result<Vec<String>> {
    let now = discover(&opened.pack, roots)?;
    let changed = now.inputs.iter().filter(|input| !opened.discovered.inputs.contains(input));
    let mut names: Vec<String> = changed
        .map(|input| match input.source.as_str() {
            "" => format!("documents of {}", input.stream),
            source => source.to_owned(),
        })
        .collect();
    names.dedup();
    Ok(names)
}

/// What the reading thread holds.
struct Work {
    opened: Arc<OpenedPack>,
    stop: Stop,
    events: mpsc::Sender<Event>,
}

impl Work {
    fn streams(&self, chosen: &[usize], mut references: References) -> Result<Vec<StreamCensus>> {
        let mut found: Vec<StreamCensus> = Vec::with_capacity(chosen.len());
        // References into a later stream are judged when all are read.
        let mut waiting: Vec<(usize, Predictor<'_>)> = Vec::new();
        for index in chosen {
            let stream = &self.opened.plan.streams[*index];
            let (predictor, values) = self
                .stream(*index, &mut references)
                .map_err(|error| error.context(format!("stream {}", stream.name)))?;
            let files = &self.opened.discovered.streams[&stream.name].files;
            let mut census = StreamCensus {
                stream: stream.name.clone(),
                sources: files.iter().take(FILES_NAMED_MAX).map(|f| f.relative.clone()).collect(),
                files: files.len() as u64,
                predicted: Predicted::default(),
                outputs: Vec::new(),
                values: values.finish(),
            };
            if references.waits_for_later(*index) {
                waiting.push((found.len(), predictor));
            } else {
                (census.predicted, census.outputs) = predictor.finish(&mut references);
            }
            found.push(census);
        }
        for (at, predictor) in waiting {
            (found[at].predicted, found[at].outputs) = predictor.finish(&mut references);
        }
        Ok(found)
    }

    fn stream(
        &self,
        index: usize,
        references: &mut References,
    ) -> Result<(Predictor<'_>, Values<'_>)> {
        let stream = &self.opened.plan.streams[index];
        let mut sources = self.opened.open_sources(index)?;
        let records = sources.iter().map(StreamSource::estimated_records).sum();
        self.say(Event::Stream { name: stream.name.clone(), records });
        let guarded = stream
            .outputs
            .iter()
            .map(|output| source_guards_key(output, &sources))
            .collect::<Result<Vec<_>>>()?;
        let mut counting = Counting {
            predictor: Predictor::new(stream, index, &guarded),
            values: Values::new(stream, &self.opened),
            deriver: Deriver::new(stream, Arc::clone(&self.opened.redactor)).surveying(),
            derived: Derived::default(),
            references,
        };
        for (number, source) in sources.iter_mut().enumerate() {
            self.source(source, number, &mut counting)?;
        }
        self.say(Event::StreamDone);
        Ok((counting.predictor, counting.values))
    }

    fn source(
        &self,
        source: &mut StreamSource,
        number: usize,
        counting: &mut Counting<'_, '_>,
    ) -> Result<()> {
        let holds_lock = matches!(source, StreamSource::Sqlite(_));
        let mut from = None;
        loop {
            let (started, rejects) = (Instant::now(), counting.predictor.rejects());
            let mut records = 0;
            from = source.read(from.as_ref(), &mut |record| {
                counting.record(record, number)?;
                records += 1;
                let is_look = records % LOOK_EVERY == 0;
                if is_look {
                    self.stop.check()?;
                }
                let is_over = holds_lock && is_look && started.elapsed() > LOCK_MAX;
                Ok(if is_over { Flow::Pause } else { Flow::Continue })
            })?;
            let rejects = counting.predictor.rejects() - rejects;
            self.say(Event::Records { records, rejects });
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// A caller that no longer listens is no failure.
    fn say(&self, event: Event) {
        let _ = self.events.blocking_send(event);
    }
}

/// One stream being counted.
struct Counting<'p, 'r> {
    predictor: Predictor<'p>,
    values: Values<'p>,
    deriver: Deriver<'p>,
    derived: Derived,
    references: &'r mut References,
}

impl Counting<'_, '_> {
    fn record(&mut self, record: &SourceRecord<'_>, source: usize) -> Result<()> {
        self.deriver.derive(record, &mut self.derived)?;
        self.predictor.see(record, &self.derived, source, self.references);
        self.values.see(record);
        Ok(())
    }
}

/// The values of one stream: its columns, then its pointers.
struct Values<'p> {
    stream: &'p StreamPlan,
    redactor: Arc<crate::cast::redact::Redactor>,
    pointers: Pointers<'p>,
    /// Of `SQLite` and CSV; of several files all, as the first to have them spells them.
    columns: Vec<ValueCensus>,
    pointed: Vec<ValueCensus>,
    /// Positions in `columns` of the columns of the file at hand.
    layout: (String, Vec<usize>),
}

impl<'p> Values<'p> {
    fn new(stream: &'p StreamPlan, opened: &OpenedPack) -> Self {
        let found = opened.discovered.streams.get(&stream.name);
        let names = found.and_then(|found| found.columns.clone()).unwrap_or_default();
        let columns = names.into_iter().map(|name| {
            let draws = |from: &From| {
                matches!(from, From::Column(column) if column.eq_ignore_ascii_case(&name))
            };
            tally(stream, name.clone(), None, &draws)
        });
        let columns = columns.collect();
        let pointers = Pointers::new(stream);
        let pointed = pointers.all().iter().map(|pointer| {
            let draws = |from: &From| from == pointer.from;
            tally(stream, pointer.from.to_string(), Some(pointer.output), &draws)
        });
        let pointed = pointed.collect();
        let redactor = Arc::clone(&opened.redactor);
        Self { stream, redactor, pointers, columns, pointed, layout: (String::new(), Vec::new()) }
    }

    fn see(&mut self, record: &SourceRecord<'_>) {
        if let Content::Columns { names, values, .. } = &record.content {
            if self.layout.0 != record.file.relative || self.layout.1.len() != names.len() {
                self.layout = (record.file.relative.clone(), self.positions(names));
            }
            let place = || Place {
                source: record.file.relative.clone(),
                locator: record.locator.to_string(),
            };
            for (value, at) in values.iter().zip(&self.layout.1) {
                if let Some(column) = self.columns.get_mut(*at) {
                    column.value(*value, &self.redactor, &place);
                }
            }
        }
        let (stream, all, pointed) = (self.stream, self.pointers.all(), &mut self.pointed);
        let redactor = &self.redactor;
        self.pointers.visit(record, &mut |number, element, json| {
            let output = &stream.outputs[all[number].output];
            let place = || Place {
                source: record.file.relative.clone(),
                locator: row_locator(record, output, element),
            };
            match json {
                Some(json) => pointed[number].json(json, redactor, &place),
                None => pointed[number].classes.missing += 1,
            }
        });
    }

    /// Where the file's columns stand; one that nobody knows stands nowhere.
    fn positions(&self, names: &[String]) -> Vec<usize> {
        let find = |name: &String| {
            let columns = || self.columns.iter();
            columns()
                .position(|column| column.from == *name)
                .or_else(|| columns().position(|c| c.from.eq_ignore_ascii_case(name)))
                .unwrap_or(usize::MAX)
        };
        names.iter().map(find).collect()
    }

    fn finish(self) -> Vec<ValueCensus> {
        let mut all = self.columns;
        all.extend(self.pointed);
        for values in &mut all {
            values.finish();
        }
        all
    }
}

/// An empty census of what some target columns draw from.
fn tally(
    stream: &StreamPlan,
    from: String,
    output: Option<usize>,
    draws: &dyn Fn(&From) -> bool,
) -> ValueCensus {
    let mut census = ValueCensus { from, ..ValueCensus::default() };
    census.output = output.map(|at| stream.outputs[at].name.clone());
    let outputs = stream.outputs.iter().enumerate();
    let outputs = outputs.filter(|(at, _)| output.is_none_or(|only| only == *at));
    for (_, planned) in outputs {
        let fed = |column: &&PlannedColumn| column.from.iter().any(draws);
        for column in planned.columns.iter().filter(fed) {
            census.feeds.push(format!("{}.{}", planned.table.display_name(), column.name));
            match column.cast.ty() {
                PgType::Json | PgType::Jsonb => {
                    census.documents.get_or_insert_default();
                }
                PgType::Timestamptz | PgType::Timestamp | PgType::Date => {
                    census.wants_moments = true;
                    census.declared_unit = census.declared_unit.or(column.cast.unit());
                }
                _ => {}
            }
        }
    }
    // Of documents only the columns that want moments are looked at: texts may be whole pages.
    if census.documents.is_none() {
        census.moments = Some(MomentCensus::default());
    }
    if census.documents.is_some() {
        census.documents = Some(DocumentCensus::default());
    }
    census
}
