//! A pack together with what it applies to: its sources, its target, its compiled plan.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cast::PgType;
use crate::cast::redact::Redactor;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::pack::compile::compile;
use crate::pack::manifest::OneOrMany;
use crate::pack::plan::{From, OutputPlan, PackPlan, SourceKind};
use crate::source::StreamSource;
use crate::source::discover::{Discovered, discover};
use crate::source::documents::{DocumentKind, DocumentSource};
use crate::source::sqlite::{Database, TableSource};
use crate::store::Postgres;

/// A pack whose sources were found and whose plan fits the database.
#[derive(Debug)]
pub struct OpenedPack {
    /// The pack.
    pub pack: Pack,
    /// Its plan.
    pub plan: PackPlan,
    /// Its sources.
    pub discovered: Discovered,
    /// Keeps secrets out.
    pub redactor: Arc<Redactor>,
    /// Where the sources were looked for.
    pub roots: Vec<PathBuf>,
}

/// Finds the sources of `pack` below `roots`, checks that they are whole, that the database is
/// migrated, and compiles the plan. Changes nothing.
pub async fn open(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
) -> Result<OpenedPack> {
    open_for(settings, postgres, pack, roots, &[]).await
}

/// As [`open`], for some streams only: files that none of them reads are not checked. No streams:
/// all of them.
pub async fn open_for(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
    streams: &[String],
) -> Result<OpenedPack> {
    let (roots, streams) = (roots.to_vec(), streams.to_vec());
    let (pack, discovered, roots) = tokio::task::spawn_blocking(move || -> Result<_> {
        let discovered = discover(&pack, &roots)?;
        check_whole(&pack, &discovered, &streams)?;
        Ok((pack, discovered, roots))
    })
    .await
    .map_err(join_error)??;
    let redactor = Arc::new(open_redactor(settings, &pack)?);
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    if pack.folder.is_none() {
        crate::migrate::require_current(&mut conn, pack.name()).await?;
    }
    let plan = compile(&pack, &mut conn, &discovered.columns(), &redactor).await?;
    sqlx::Connection::close(conn).await?;
    Ok(OpenedPack { pack, plan, discovered, redactor, roots })
}

/// Checks the files that the streams read, side by side: each is read through once.
fn check_whole(pack: &Pack, discovered: &Discovered, streams: &[String]) -> Result<()> {
    let is_read = |path: &PathBuf| {
        streams.is_empty()
            || streams
                .iter()
                .filter_map(|stream| discovered.streams.get(stream))
                .any(|found| found.files.iter().any(|file| &file.path == path))
    };
    std::thread::scope(|scope| {
        let checks: Vec<_> = databases(pack, discovered)
            .into_iter()
            .filter(|(_, path)| is_read(path))
            .map(|(_, path)| scope.spawn(move || Database::open(path)?.check()))
            .collect();
        for check in checks {
            check.join().map_err(|_| {
                crate::Error::new(crate::ErrorKind::Bug, "checking a source panicked")
            })??;
        }
        Ok(())
    })
}

/// The redactor of this installation, with the pack's secret member names.
pub fn open_redactor(settings: &Settings, pack: &Pack) -> Result<Redactor> {
    std::fs::create_dir_all(&settings.state_dir).map_err(|error| {
        let folder = settings.state_dir.display();
        Error::new(ErrorKind::Io, format!("the state folder {folder} cannot be made: {error}"))
            .advice("name one this user may write with --state-dir or TOOLKIT_STATE_DIR")
    })?;
    let redactor = Redactor::load_or_create(&settings.state_dir.join("redaction.key"))?;
    Ok(redactor.with_members(pack.manifest.defaults.redact_members.clone()))
}

/// Every `SQLite` file once, with the first stream that reads it.
pub(super) fn databases<'d>(
    pack: &'d Pack,
    discovered: &'d Discovered,
) -> Vec<(&'d str, &'d PathBuf)> {
    let mut found: Vec<(&str, &PathBuf)> = Vec::new();
    for stream in &pack.manifest.streams {
        let name = stream.name.get_ref();
        let Some(files) = discovered.streams.get(name) else { continue };
        if stream.source.sqlite == OneOrMany::None {
            continue;
        }
        for file in &files.files {
            if !found.iter().any(|(_, path)| *path == &file.path) {
                found.push((name, &file.path));
            }
        }
    }
    found
}

impl OpenedPack {
    /// The sources that are no longer what they were when the pack was opened. Blocking.
    pub fn changed_sources(&self) -> Result<Vec<String>> {
        let now = discover(&self.pack, &self.roots)?.inputs;
        let mut changed: Vec<String> = self
            .discovered
            .inputs
            .iter()
            .filter(|was| !now.contains(was))
            .map(|was| if was.source.is_empty() { was.stream.clone() } else { was.source.clone() })
            .collect();
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    /// Opens the sources of a stream, in reading order; none if nothing of it was found.
    pub fn open_sources(&self, stream: usize) -> Result<Vec<StreamSource>> {
        let stream = &self.plan.streams[stream];
        let Some(files) = self.discovered.streams.get(&stream.name) else { return Ok(Vec::new()) };
        let documents = |kind: DocumentKind| {
            Ok(vec![StreamSource::Documents(DocumentSource::new(files.files.clone(), kind))])
        };
        match &stream.source {
            SourceKind::Sqlite { table, .. } => files
                .files
                .iter()
                .map(|file| {
                    let companion =
                        stream.companion.clone().map(|pattern| (pattern, files.companions.clone()));
                    Ok(StreamSource::Sqlite(Box::new(TableSource::open(file, table, companion)?)))
                })
                .collect(),
            SourceKind::Json { records, .. } => {
                let (records, beside) = (records.clone(), stream.root_pointers());
                documents(DocumentKind::Json { records, beside })
            }
            SourceKind::Jsonl { .. } => documents(DocumentKind::Jsonl),
            SourceKind::Csv { .. } => documents(DocumentKind::Csv),
        }
    }

    /// Whether any source of the stream was found.
    #[must_use]
    pub fn has_source(&self, stream: usize) -> bool {
        self.discovered.streams.contains_key(&self.plan.streams[stream].name)
    }
}

/// A worker thread that panicked or was cancelled.
pub fn join_error(error: tokio::task::JoinError) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Bug, "a worker thread ended unexpectedly").because(error)
}

/// Whether no two records can be in each other's way: there is no key, or a single table whose INTEGER PRIMARY KEY is
/// the target's integer key.
pub fn source_guards_key(output: &OutputPlan, sources: &[StreamSource]) -> Result<bool> {
    if output.is_content {
        return Ok(true);
    }
    let ([StreamSource::Sqlite(table)], [key]) = (sources, output.key.as_slice()) else {
        return Ok(false);
    };
    let column = &output.columns[*key];
    let ([From::Column(name)], PgType::Int8) = (column.from.as_slice(), column.cast.ty()) else {
        return Ok(false);
    };
    Ok(output.each.is_none()
        && table.integer_key()?.is_some_and(|key| key.eq_ignore_ascii_case(name)))
}
