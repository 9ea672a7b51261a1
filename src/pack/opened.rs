//! A pack together with what it applies to: its sources, its target, its compiled plan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::cast::PgType;
use crate::cast::redact::Redactor;
use crate::config::Settings;
use crate::derive::{Corrected, Correction, HeldRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::pack::compile::{SourceColumns, compile};
use crate::pack::manifest::OneOrMany;
use crate::pack::plan::{From, OutputPlan, PackPlan, RemovedBefore, SourceKind};
use crate::pack::texts::fields_of_texts;
use crate::pack::units::{self, InferredUnit};
use crate::source::StreamSource;
use crate::source::discover::{Discovered, discover};
use crate::source::documents::{DocumentKind, DocumentSource};
use crate::source::sqlite::{Database, TableSource};
use crate::store::{Postgres, ServerSpelling};

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
    /// Units of numeric timestamps that were found in the columns themselves.
    pub units: Vec<InferredUnit>,
}

/// Finds the sources of `pack` below `roots`, checks that they are whole, that the database is
/// migrated, and compiles the plan. Changes nothing.
pub async fn open(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
) -> Result<OpenedPack> {
    open_with(settings, postgres, pack, roots, &[], false).await
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
    open_with(settings, postgres, pack, roots, streams, false).await
}

/// As [`open`], with inferred units as the newest backfill of this very pack recorded them: what
/// proves a load has to read numbers as the load did.
pub async fn open_as_recorded(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
) -> Result<OpenedPack> {
    open_with(settings, postgres, pack, roots, &[], true).await
}

/// The pack's plan without its sources, for records that are kept elsewhere. `columns` completes
/// streams without a column mapping.
pub async fn open_without_sources(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    columns: &SourceColumns,
) -> Result<OpenedPack> {
    let redactor = Arc::new(open_redactor(settings, &pack)?);
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    let plan = compile(&pack, &mut conn, columns, &redactor).await?;
    let (discovered, roots, units) = (Discovered::default(), Vec::new(), Vec::new());
    let mut opened = OpenedPack { pack, plan, discovered, redactor, roots, units };
    opened.units = units::recorded(&mut conn, &opened).await?;
    units::apply(&mut opened);
    opened.let_server_spell(postgres).await?;
    sqlx::Connection::close(conn).await?;
    Ok(opened)
}

async fn open_with(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    roots: &[PathBuf],
    streams: &[String],
    as_recorded: bool,
) -> Result<OpenedPack> {
    if pack.manifest.documents.is_some() {
        let detail = format!("the pack {} holds documents, and has no streams", pack.name());
        return Err(Error::new(ErrorKind::Usage, detail).advice(
            "its commands are `toolkit backfill` (`--again` over what is stored), `toolkit \
             verify-parity`, `toolkit review` and `toolkit sidecar`",
        ));
    }
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
    let mut opened = OpenedPack { pack, plan, discovered, redactor, roots, units: Vec::new() };
    if as_recorded {
        opened.units = units::recorded(&mut conn, &opened).await?;
    }
    opened.load_corrections(&mut conn).await?;
    opened.load_removed(&mut conn).await?;
    opened.let_server_spell(postgres).await?;
    sqlx::Connection::close(conn).await?;
    if opened.units.is_empty() {
        opened = tokio::task::spawn_blocking(move || opened.infer_units())
            .await
            .map_err(join_error)??;
    }
    units::apply(&mut opened);
    Ok(opened)
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
    /// Bytes of the sources, each file once.
    pub(crate) fn source_bytes(&self) -> u64 {
        let files = self.discovered.streams.values().flat_map(|stream| &stream.files);
        let sizes: BTreeMap<&PathBuf, u64> =
            files.map(|file| (&file.path, file.size_bytes)).collect();
        sizes.values().sum()
    }

    /// Decides the units that `pack.toml` leaves to the columns. Blocking.
    pub(super) fn infer_units(mut self) -> Result<Self> {
        self.units = units::infer(&self)?;
        units::apply(&mut self);
        Ok(self)
    }

    /// Lets the server spell the values of types that are known only as text.
    pub(super) async fn let_server_spell(&mut self, postgres: &Postgres) -> Result<()> {
        let spelling = Arc::new(ServerSpelling::new(postgres.pool().clone()));
        for stream in &mut self.plan.streams {
            let mut is_needed = false;
            for (table, column) in stream.outputs.iter_mut().flat_map(|output| {
                let table = &output.table;
                output.columns.iter_mut().map(move |column| (table, column))
            }) {
                let PgType::Other(ty) = column.cast.ty().clone() else { continue };
                is_needed = true;
                let declared = table.column(&column.name).map_or(&ty, |found| &found.declared_type);
                column.cast.set_spelling(spelling.of_column(&ty, declared));
                let constant = column.constant.as_mut();
                let Some(field) = constant.or(column.cast.default_text()) else { continue };
                let Some(text) = field.get(4..) else { continue };
                let text = String::from_utf8_lossy(text).into_owned();
                let Ok(spelled) = spelling.ask(&ty, declared, &text).await else {
                    if let Some(error) = spelling.take_failure() {
                        return Err(error);
                    }
                    let what = format!("column {}: {text:?} is no value of {ty}", column.name);
                    return Err(Error::new(ErrorKind::Pack, what));
                };
                *field = u32::try_from(spelled.len()).unwrap_or(0).to_be_bytes().to_vec();
                field.extend_from_slice(spelled.as_bytes());
            }
            stream.spelling = is_needed.then(|| Arc::clone(&spelling));
        }
        Ok(())
    }

    /// Reads which refused records were stored corrected.
    async fn load_corrections(&mut self, conn: &mut PgConnection) -> Result<()> {
        let rows = sqlx::query(include_str!("../sql/ledger/corrections.sql"))
            .bind(&self.plan.name)
            .fetch_all(&mut *conn)
            .await?;
        for row in rows {
            let Some(at) = self.plan.stream_index(row.try_get("stream")?) else { continue };
            let place: (String, String, String) =
                (row.try_get("output")?, row.try_get("source")?, row.try_get("locator")?);
            let refused: Vec<u8> = row.try_get("record_sha256")?;
            let kept: Vec<u8> = row.try_get("corrected")?;
            let stream = &self.plan.streams[at];
            let stored = if row.try_get::<String, _>("shape")? == "row" {
                let output = stream.outputs.iter().enumerate().find(|(position, output)| {
                    output.name == place.0 || (*position == 0 && place.0.is_empty())
                });
                let Some((_, output)) = output else { continue };
                let texts = serde_json::from_slice(&kept).unwrap_or_default();
                let Ok(fields) = fields_of_texts(conn, output, &texts).await? else { continue };
                Corrected::Row(fields)
            } else {
                let sha256 = hex::encode(&refused);
                let held = HeldRecord::read(stream, &place.1, &place.2, &sha256, &kept);
                // A correction that can no longer be read accounts for nothing.
                let Ok(held) = held else { continue };
                Corrected::Record(Box::new(held))
            };
            let refused = refused.try_into().unwrap_or_default();
            self.plan.streams[at].corrections.add(place, Correction { refused, stored });
        }
        Ok(())
    }

    /// Reads what retention removed.
    async fn load_removed(&mut self, conn: &mut PgConnection) -> Result<()> {
        let rows = sqlx::query(include_str!("../sql/maintain/removed.sql"))
            .bind(&self.plan.name)
            .fetch_all(conn)
            .await?;
        for row in rows {
            let (schema, name): (String, String) =
                (row.try_get("table_schema")?, row.try_get("table_name")?);
            let removed = RemovedBefore {
                column: row.try_get("column_name")?,
                cutoff: row.try_get("cutoff")?,
                cutoff_micros: row.try_get("cutoff_micros")?,
            };
            for unit in &mut self.plan.units {
                if unit.table.schema == schema && unit.table.name == name {
                    unit.removed.push(removed.clone());
                }
            }
        }
        Ok(())
    }

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
