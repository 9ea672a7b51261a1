//! Whether a pack fits the live database and real sources: every problem found, not the first.

mod sample;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use self::sample::{Sampled, sample};
use crate::cast::redact::Redactor;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::compile::{Compiled, compile_all};
use crate::pack::fault::Fault;
use crate::pack::manifest::StreamManifest;
use crate::pack::opened::databases;
use crate::pack::plan::{OutputPlan, PackPlan};
use crate::pack::units::InferredUnit;
use crate::pack::{OpenedPack, Pack, join_error};
use crate::source::discover::{Discovered, discover_each};
use crate::source::sqlite::Database;
use crate::store::Postgres;

/// Records of each source that are read and cast.
pub const SAMPLE_RECORDS_MAX: u64 = 1_000;

/// What a check found.
#[derive(Debug, Serialize)]
pub struct Check {
    /// The pack.
    pub pack: String,
    /// Its version.
    pub version: i32,
    /// Its `pack.toml`.
    pub file: String,
    /// The database.
    pub database: String,
    /// Per stream, in file order.
    pub streams: Vec<StreamCheck>,
    /// Units of numeric timestamps that were found in the columns themselves.
    pub inferred_units: Vec<InferredUnit>,
    /// What must be put right, by line.
    pub problems: Vec<Finding>,
    /// What may be meant so, by line.
    pub warnings: Vec<Finding>,
}

/// One stream of a [`Check`].
#[derive(Debug, Serialize)]
pub struct StreamCheck {
    /// Stream.
    pub stream: String,
    /// Files found, by their paths below the source folder; None if no sources were given.
    pub sources: Option<Vec<String>>,
    /// Per output.
    pub outputs: Vec<OutputCheck>,
    /// Records read and cast.
    pub sampled: u64,
    /// Records and derived rows among them that a cast refused.
    pub refused: u64,
}

/// One output of a [`StreamCheck`].
#[derive(Debug, Serialize)]
pub struct OutputCheck {
    /// Output.
    pub output: String,
    /// Target table.
    pub target: String,
    /// Columns mapped; None where faults leave it open.
    pub columns: Option<usize>,
}

/// A problem or warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Line in `pack.toml`.
    pub line: usize,
    /// The stream, if it is one stream's.
    pub stream: Option<String>,
    /// One sentence.
    pub detail: String,
    /// What to do, if known.
    pub advice: Option<String>,
}

impl Finding {
    fn new(pack: &Pack, fault: Fault) -> Self {
        let line = crate::pack::manifest::line_of(&pack.text, fault.at);
        Self { line, stream: fault.stream, detail: fault.detail, advice: fault.advice }
    }
}

#[derive(Debug, Default)]
struct Findings {
    problems: Vec<Fault>,
    warnings: Vec<Fault>,
}

/// Checks `pack` against the database and, where there are `roots`, the sources below them.
/// Changes nothing, and creates nothing.
///
/// Errors: the database cannot be asked or lacks migrations of a built-in pack; a root cannot be
/// read or has nothing of the pack.
pub async fn check(postgres: &Postgres, pack: Pack, roots: &[PathBuf]) -> Result<Check> {
    let mut findings = Findings::default();
    let (pack, discovered) = find(pack, roots.to_vec(), &mut findings).await?;
    // Its keyed hashes are never stored, so it needs no key of the installation's.
    let members = pack.manifest.defaults.redact_members.clone();
    let redactor = Arc::new(Redactor::new([0; 32]).with_members(members));
    let mut conn = postgres.dedicated().await?;
    if pack.folder.is_none() {
        crate::migrate::require_current(&mut conn, pack.name()).await?;
    }
    let compiled = compile_all(&pack, &mut conn, &discovered.columns(), &redactor).await?;
    sqlx::Connection::close(conn).await?;
    let Compiled { plan, faults } = compiled;
    findings.problems.extend(faults);
    unenforced_keys(&pack, &plan, &mut findings.warnings);
    firing_triggers(&pack, &plan, &mut findings.warnings);
    let roots_here = roots.to_vec();
    let mut opened =
        OpenedPack { pack, plan, discovered, redactor, roots: roots_here, units: Vec::new() };
    if findings.problems.is_empty() {
        opened.let_server_spell(postgres).await?;
    }
    let (opened, samples) = tokio::task::spawn_blocking(move || -> Result<_> {
        let opened = opened.infer_units()?;
        let samples: Vec<Sampled> =
            (0..opened.plan.streams.len()).map(|stream| sample(&opened, stream)).collect();
        Ok((opened, samples))
    })
    .await
    .map_err(join_error)??;
    Ok(report(postgres, &opened, !roots.is_empty(), samples, findings))
}

/// Finds the sources; what is wrong with a stream's files is a problem of that stream.
async fn find(
    pack: Pack,
    roots: Vec<PathBuf>,
    findings: &mut Findings,
) -> Result<(Pack, Discovered)> {
    if roots.is_empty() {
        return Ok((pack, Discovered::default()));
    }
    if pack.manifest.documents.is_some() {
        let detail = format!("the pack {} reads documents, and maps no columns", pack.name());
        return Err(Error::new(ErrorKind::Usage, detail).advice(format!(
            "leave --source out; `toolkit backfill --pack {} --source FILE --dry-run` shows what \
             would be read",
            pack.name()
        )));
    }
    let (pack, found, problems) = tokio::task::spawn_blocking(move || -> Result<_> {
        let (found, mut errors) = discover_each(&pack, &roots)?;
        for (stream, path) in databases(&pack, &found) {
            let damage = Database::open(path).and_then(|database| database.check());
            errors.extend(damage.err().map(|error| (stream.to_owned(), error)));
        }
        let problems: Vec<Fault> = errors
            .iter()
            .map(|(stream, error)| Fault {
                at: offset_of(&pack, stream),
                stream: Some(stream.clone()),
                detail: error.detail().to_owned(),
                advice: error.advice_text().map(str::to_owned),
            })
            .collect();
        Ok((pack, found, problems))
    })
    .await
    .map_err(join_error)??;
    for stream in &pack.manifest.streams {
        let name = stream.name.get_ref();
        let has_problem = problems.iter().any(|fault| fault.stream.as_ref() == Some(name));
        if !found.streams.contains_key(name) && !has_problem {
            let detail = format!("no source here; looked for {}", patterns(stream).join(", "));
            findings.warnings.push(Fault::new(stream.name.span().start, detail).of(name));
        }
    }
    findings.problems.extend(problems);
    Ok((pack, found))
}

fn patterns(stream: &StreamManifest) -> Vec<String> {
    let source = &stream.source;
    let kinds = [&source.sqlite, &source.json, &source.jsonl, &source.csv];
    kinds.iter().flat_map(|kind| kind.to_vec()).collect()
}

fn manifest_of<'p>(pack: &'p Pack, stream: &str) -> Option<&'p StreamManifest> {
    pack.manifest.streams.iter().find(|manifest| manifest.name.get_ref() == stream)
}

fn offset_of(pack: &Pack, stream: &str) -> usize {
    manifest_of(pack, stream).map_or(0, |manifest| manifest.name.span().start)
}

/// Where the output at `position`, or one of its columns, stands in `pack.toml`.
fn output_offset(pack: &Pack, stream: &str, position: usize, column: Option<&str>) -> usize {
    let views = manifest_of(pack, stream).map(StreamManifest::views).unwrap_or_default();
    let Some(view) = views.get(position) else { return 0 };
    let entry = column.and_then(|column| view.columns.get(column));
    entry.map_or(view.target.span().start, |entry| entry.span().start)
}

fn unenforced_keys(pack: &Pack, plan: &PackPlan, warnings: &mut Vec<Fault>) {
    for stream in &plan.streams {
        for (position, output) in stream.outputs.iter().enumerate() {
            if !output.key_is_unique && !output.is_content {
                let at = output_offset(pack, &stream.name, position, None);
                warnings.push(Fault::new(at, unenforced_key(output)).of(&stream.name).advice(
                    "create a unique index on these columns: without it nothing but this program \
                     keeps two rows from having one key, and looking rows up by it is slow",
                ));
            }
        }
    }
}

fn firing_triggers(pack: &Pack, plan: &PackPlan, warnings: &mut Vec<Fault>) {
    for stream in &plan.streams {
        for (position, output) in stream.outputs.iter().enumerate() {
            for sentence in output.table.trigger_sentences() {
                let at = output_offset(pack, &stream.name, position, None);
                warnings.push(Fault::new(at, sentence).of(&stream.name).advice(
                    "`backfill --disable-triggers` writes without it; foreign keys are checked \
                     all the same",
                ));
            }
        }
    }
}

fn unenforced_key(output: &OutputPlan) -> String {
    let key: Vec<&str> = output.key.iter().map(|at| output.columns[*at].name.as_str()).collect();
    let unique: Vec<String> =
        output.table.unique_keys.iter().map(|key| format!("({})", key.join(", "))).collect();
    let known = if unique.is_empty() { "it has none".to_owned() } else { unique.join(", ") };
    format!(
        "the key ({}) is covered by no unique key of {}: {known}",
        key.join(", "),
        output.table.display_name()
    )
}

fn report(
    postgres: &Postgres,
    opened: &OpenedPack,
    has_roots: bool,
    samples: Vec<Sampled>,
    mut findings: Findings,
) -> Check {
    let pack = &opened.pack;
    let mut streams = Vec::new();
    for manifest in &pack.manifest.streams {
        let name = manifest.name.get_ref();
        let index = opened.plan.stream_index(name);
        let found = opened.discovered.streams.get(name);
        let files = found.map(|found| &found.files[..]).unwrap_or_default();
        let outputs = manifest.views();
        let outputs = outputs.iter().enumerate().map(|(position, view)| OutputCheck {
            output: view.name.get_ref().clone(),
            target: view.target.get_ref().clone(),
            columns: index.map(|at| opened.plan.streams[at].outputs[position].columns.len()),
        });
        streams.push(StreamCheck {
            stream: name.clone(),
            sources: has_roots.then(|| files.iter().map(|file| file.relative.clone()).collect()),
            outputs: outputs.collect(),
            sampled: index.map_or(0, |at| samples[at].records),
            refused: index.map_or(0, |at| samples[at].refused),
        });
    }
    for sampled in samples {
        findings.problems.extend(sampled.problems);
        findings.warnings.extend(sampled.warnings);
    }
    let by_line = |faults: Vec<Fault>| {
        let mut found: Vec<Finding> =
            faults.into_iter().map(|fault| Finding::new(pack, fault)).collect();
        found.sort_by_key(|finding| finding.line);
        found
    };
    Check {
        pack: opened.plan.name.clone(),
        version: opened.plan.version,
        file: pack.file.display().to_string(),
        database: postgres.describe().to_owned(),
        streams,
        inferred_units: opened.units.clone(),
        problems: by_line(findings.problems),
        warnings: by_line(findings.warnings),
    }
}
