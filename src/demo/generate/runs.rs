//! Runs: workflow state in `SQLite` and, beside it, manifests and reports as files.

use super::dice::{Dice, iso, whole_second};
use super::document::{Document, Escape, map};
use super::prose::{self, Paper};
use super::quirk::{Outcome, Quirk};
use super::sqlite::{self, Insert, Writer, text};
use super::{Scene, reports, stream};
use crate::Result;
use rusqlite::types::Value;
use std::collections::HashSet;

const SCHEMA: &str = "CREATE TABLE workflow_runs (
            run_id TEXT PRIMARY KEY,
            created_at TEXT,
            status TEXT,
            papers_dir TEXT,
            config_hash TEXT,
            metadata_json TEXT
        );
    CREATE TABLE workflow_steps (
            run_id TEXT,
            step TEXT,
            status TEXT,
            started_at TEXT,
            finished_at TEXT,
            output_json TEXT,
            PRIMARY KEY (run_id, step)
        );";

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All eight steps.
    Full,
    /// Prep and report only.
    ValidateOnly,
    /// Prep failed; only the report follows.
    PrepFailed,
    /// The process died in `ingest`: status `running` for ever, no report.
    Crashed,
}

/// Kinds by run number; five of any first eight runs are full ones, which is what the planted
/// peculiarities of reports need.
const KINDS: [Kind; 16] = [
    Kind::Full,
    Kind::Full,
    Kind::ValidateOnly,
    Kind::Full,
    Kind::PrepFailed,
    Kind::Full,
    Kind::Crashed,
    Kind::Full,
    Kind::Full,
    Kind::ValidateOnly,
    Kind::Full,
    Kind::Full,
    Kind::Full,
    Kind::Full,
    Kind::Crashed,
    Kind::Full,
];

/// One run, before its outputs.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) number: usize,
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Microseconds since the Unix epoch.
    pub(super) started: i64,
    pub(super) duration: i64,
    pub(super) papers_dir: String,
    pub(super) corpus_hash: String,
    pub(super) config_hash: String,
    pub(super) git_sha: String,
    pub(super) model: &'static str,
    pub(super) workstream: Option<&'static str>,
    pub(super) parent: Option<String>,
    /// The run whose answers were taken over, and when it had finished.
    pub(super) reused_from: Option<(String, i64)>,
}

impl Run {
    pub(super) fn finished(&self) -> i64 {
        self.started + self.duration
    }

    /// Every other report is of the later format, with workstream and git keys.
    pub(super) fn is_later_format(&self) -> bool {
        self.number % 2 == 1
    }

    /// Path of one of this run's files as the application wrote it: with backslashes when it
    /// ran on Windows, as it did for the later format.
    pub(super) fn path_of(&self, stem: &str, extension: &str) -> String {
        let separator = if self.is_later_format() { '\\' } else { '/' };
        format!("reports{separator}{stem}-{}.{extension}", self.id)
    }

    fn status(&self) -> &'static str {
        match self.kind {
            Kind::Full | Kind::ValidateOnly => "completed",
            Kind::PrepFailed => "failed",
            Kind::Crashed => "running",
        }
    }
}

/// What is planted into the report of a full run, by the run's place among the full ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportPlant {
    None,
    Values,
    Nan,
    Nul,
    Empty,
    Copy,
}

impl ReportPlant {
    fn of(run: &Run, full_before: usize, quirky: bool) -> Self {
        let plants = [Self::Values, Self::Nan, Self::Nul, Self::Empty, Self::Copy];
        let planted = quirky && run.kind == Kind::Full;
        if planted { plants.get(full_before).copied().unwrap_or(Self::None) } else { Self::None }
    }
}

pub(super) fn generate(scene: &mut Scene<'_>, runs: usize) -> Result<()> {
    let mut dice = Dice::new(scene.seed, stream::RUNS);
    let writer = Writer::create(scene.folder, sqlite::WORKFLOW_STATE, scene.wal, SCHEMA)?;
    let mut insert_run =
        writer.prepare("INSERT INTO workflow_runs VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut insert_step =
        writer.prepare("INSERT INTO workflow_steps VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut full: usize = 0;
    let (mut first_full, mut last_full): (Option<Run>, Option<Run>) = (None, None);
    let mut documents = HashSet::new();
    for number in 0..runs {
        let (run, papers) = plan(&mut dice, scene.papers, number, runs, last_full.as_ref());
        let plant = ReportPlant::of(&run, full, scene.quirky);
        workflow_run(scene, &mut insert_run, &run, plant)?;
        let outputs = outputs(&mut dice, &run, &papers);
        steps(scene, &mut insert_step, &run, &outputs, plant)?;
        if plant != ReportPlant::Copy {
            manifest(scene, &run, &papers, plant, &mut documents)?;
        }
        if run.kind != Kind::Crashed {
            report(scene, &run, &outputs, plant)?;
        }
        if run.kind == Kind::Full {
            full += 1;
            first_full.get_or_insert_with(|| run.clone());
            last_full = Some(run);
        }
    }
    drop((insert_run, insert_step));
    scene.counts.workflow_runs = runs;
    scene.counts.documents = documents.len();
    if let (Some(baseline), Some(variant)) = (first_full, last_full) {
        let id = format!("{}-gpt5-vs-gpt5-nano-v1", &baseline.id[..8]);
        let file = format!("reports/workstream-comparison-{id}.json");
        scene.write(&file, &reports::comparison(&id, &baseline, &variant).indented())?;
        scene.counts.comparisons = 1;
    }
    writer.finish("")
}

fn plan<'p>(
    dice: &mut Dice,
    papers: &'p [Paper],
    number: usize,
    runs: usize,
    last_full: Option<&Run>,
) -> (Run, Vec<&'p Paper>) {
    let kind = KINDS[number % KINDS.len()];
    let taken = if kind == Kind::PrepFailed { 0 } else { 1 + dice.index(4) };
    let first = dice.index(papers.len());
    let papers: Vec<&Paper> =
        papers.iter().cycle().skip(first).take(taken.min(papers.len())).collect();
    let papers_dir = match papers.as_slice() {
        [only] => only.path.clone(),
        _ => dice.pick(&["papers", "\\papers", "\\\\ARCHIVE\\Share\\papers"]).to_owned(),
    };
    let workstreams = ["labels-and-demand", "tariff-incidence", "größenvorteile"];
    let in_workstream = number % 2 == 1 && dice.chance(60);
    let reuses = number % 3 == 2 || number % 8 == 7;
    let run = Run {
        number,
        id: dice.uuid_hex(),
        kind,
        started: dice.moment(number, runs),
        duration: dice.between(60_000_000, 1_500_000_000),
        papers_dir,
        corpus_hash: dice.digest_hex(),
        config_hash: dice.digest_hex(),
        git_sha: dice.digest_hex()[..40].to_owned(),
        model: dice.pick(&["gpt-5", "gpt-5-nano"]),
        workstream: in_workstream.then(|| dice.pick(&workstreams)),
        parent: last_full.filter(|_| in_workstream).map(|run| run.id.clone()),
        reused_from: last_full.filter(|_| reuses).map(|run| (run.id.clone(), run.finished())),
    };
    (run, papers)
}

/// The outputs of a run's finished steps, in order.
fn outputs(dice: &mut Dice, run: &Run, papers: &[&Paper]) -> Vec<(&'static str, Document)> {
    let mut outputs = vec![("prep", reports::prep(run, papers))];
    if run.kind == Kind::Full {
        let found = papers.len();
        // Every sixteenth run asks the whole set, the others a part of it.
        let questions =
            if run.number % 16 == 15 { prose::QUESTIONS_MAX } else { 4 + dice.index(20) };
        outputs.push(("ingest", map([("num_pdfs", found.into()), ("num_papers", found.into())])));
        outputs.push(("enrich", map([("openalex", found.into()), ("citec", 0_i64.into())])));
        let series = map([("GDPC1", 120_i64.into()), ("FEDFUNDS", 120_i64.into())]);
        outputs.push(("econ_data", map([("status", "fetched".into()), ("series_counts", series)])));
        outputs.push(("agentic", reports::agentic(dice, run, questions)));
        let indexed = map([
            ("database_url", true.into()),
            ("database_reachable", true.into()),
            ("status", "indexed".into()),
        ]);
        outputs.push(("index", indexed));
        let chunks = dice.between(8, 90);
        let evaluated = map([
            ("avg_chunks_per_paper", (chunks as f64).into()),
            ("max_chunks", chunks.into()),
            ("min_chunks", chunks.into()),
        ]);
        outputs.push(("evaluate", evaluated));
    }
    if run.kind != Kind::Crashed {
        let path = run.path_of("workflow-report", "json");
        outputs.push(("report", map([("report_path", path.into())])));
    }
    if let Some((run_id, finished)) = &run.reused_from {
        let origin = [("run_id", run_id.as_str().into()), ("finished_at", iso(*finished).into())];
        outputs[0].1.push("_reused_from", map(origin));
    }
    outputs
}

fn workflow_run(
    scene: &mut Scene<'_>,
    insert: &mut Insert<'_>,
    run: &Run,
    plant: ReportPlant,
) -> Result<()> {
    let mut row = [
        text(run.id.clone()),
        text(iso(run.started)),
        text(run.status()),
        text(run.papers_dir.clone()),
        text(run.config_hash.clone()),
        text(r#"{"config_path": "config.toml"}"#),
    ];
    let planted = match plant {
        ReportPlant::Empty => {
            row[3] = Value::Null;
            Some(("null_text", "papers_dir"))
        }
        ReportPlant::Copy => {
            row[1] = text(iso(whole_second(run.started)));
            Some(("missing_fraction", "created_at"))
        }
        _ => None,
    };
    if let Some((name, column)) = planted {
        let rowid = i64::try_from(run.number + 1).ok();
        let key = run.id.clone();
        scene.quirks.push(of_row(name, ("workflow_runs", column), rowid, key, Outcome::Stored));
    }
    insert.row(&row)
}

fn of_row(
    name: &'static str,
    (table, column): (&'static str, &str),
    rowid: Option<i64>,
    key: String,
    outcome: Outcome,
) -> Quirk {
    let (file, field) = (sqlite::WORKFLOW_STATE.to_owned(), Some(column.to_owned()));
    Quirk { name, file, table: Some(table), rowid, key, field, outcome }
}

fn steps(
    scene: &mut Scene<'_>,
    insert: &mut Insert<'_>,
    run: &Run,
    outputs: &[(&'static str, Document)],
    plant: ReportPlant,
) -> Result<()> {
    let mut at = run.started + 7_000;
    for (step, output) in outputs {
        let mut json = output.compact(Escape::ControlsOnly);
        let planted = match (plant, *step) {
            (ReportPlant::Nan, "ingest") => {
                json = String::from(r#"{"num_pdfs": 1, "num_papers": 1, "num_pdfs": 2}"#);
                Some(("duplicate_json_key", Outcome::Rejected))
            }
            (ReportPlant::Nul, "index") => {
                let url = reports::database_url(run.number);
                let reason = format!("could not connect to {url}: timeout");
                let failed = map([("status", "skipped".into()), ("reason", reason.into())]);
                json = failed.compact(Escape::ControlsOnly);
                Some(("url_password", Outcome::Ledgered))
            }
            _ => None,
        };
        scene.counts.workflow_steps += 1;
        if let Some((name, outcome)) = planted {
            let rowid = i64::try_from(scene.counts.workflow_steps).ok();
            let key = format!("{}/{step}", run.id);
            let place = ("workflow_steps", "output_json");
            scene.quirks.push(of_row(name, place, rowid, key, outcome));
        }
        let status =
            if *step == "prep" && run.kind == Kind::PrepFailed { "failed" } else { "completed" };
        let finished = at + run.duration / 9;
        insert.row(&[
            text(run.id.clone()),
            text(*step),
            text(status),
            text(iso(at)),
            text(iso(finished)),
            text(json),
        ])?;
        at = finished + 1_000;
    }
    if run.kind == Kind::Crashed {
        scene.counts.workflow_steps += 1;
        insert.row(&[
            text(run.id.clone()),
            text("ingest"),
            text("running"),
            text(iso(at)),
            Value::Null,
            text("{}"),
        ])?;
    }
    Ok(())
}

fn manifest(
    scene: &mut Scene<'_>,
    run: &Run,
    papers: &[&Paper],
    plant: ReportPlant,
    documents: &mut HashSet<String>,
) -> Result<()> {
    let file = format!("reports/prep-manifest-{}.json", run.id);
    let mut manifest = reports::manifest(run, papers);
    let mut hashed = papers;
    if plant == ReportPlant::Values {
        if let Some(Document::Map(members)) = manifest.at_mut("/files/0") {
            members.retain(|(key, _)| key != "sha256");
        }
        hashed = papers.get(1..).unwrap_or_default();
        let quirk = Quirk::of_file("missing_sha256", file.clone(), &run.id, Outcome::Ledgered);
        scene.quirks.push(quirk.at("/files/0"));
    }
    documents.extend(hashed.iter().map(|paper| paper.sha256.clone()));
    scene.counts.run_documents += hashed.len();
    scene.counts.manifests += 1;
    scene.write(&file, &manifest.indented())
}

fn report(
    scene: &mut Scene<'_>,
    run: &Run,
    outputs: &[(&'static str, Document)],
    plant: ReportPlant,
) -> Result<()> {
    let name = format!("workflow-report-{}.json", run.id);
    let file = format!("reports/{name}");
    let mut document = reports::report(run, outputs);
    let of_file = |name, outcome| Quirk::of_file(name, file.clone(), &run.id, outcome);
    match plant {
        ReportPlant::Values => plant_values(scene, &mut document, &file, &run.id),
        ReportPlant::Nan => {
            let pointer = "/agentic/report_questions/0/confidence_score";
            set(&mut document, pointer, Document::Number("NaN".to_owned()));
            scene.quirks.push(of_file("nan_in_json", Outcome::Rejected).at(pointer));
        }
        ReportPlant::Nul => {
            let pointer = "/agentic/report_questions/0/answer";
            set(&mut document, pointer, "before the NUL\0after it".into());
            scene.quirks.push(of_file("nul_in_json", Outcome::Rejected).at(pointer));
        }
        ReportPlant::Empty => {
            scene.quirks.push(of_file("empty_file", Outcome::Rejected));
            scene.counts.reports += 1;
            return scene.write(&file, "");
        }
        ReportPlant::Copy => {
            scene.quirks.push(of_file("report_without_manifest", Outcome::Stored));
            let copy = format!("reports/archived/{name}");
            scene.write(&copy, &document.indented())?;
            scene.counts.reports += 1;
            scene.quirks.push(Quirk::of_file("identical_copy", copy, &run.id, Outcome::Skipped));
        }
        ReportPlant::None => {}
    }
    scene.counts.reports += 1;
    if run.kind == Kind::Full {
        if let Some(Document::List(asked)) = document.at_mut("/agentic/report_questions") {
            scene.counts.questions += asked.len();
        }
        scene.counts.artifacts += if run.is_later_format() { 2 } else { 0 };
    }
    scene.counts.workstream_links += usize::from(run.workstream.is_some());
    scene.write(&file, &document.indented())
}

fn set(document: &mut Document, pointer: &str, value: Document) {
    if let Some(part) = document.at_mut(pointer) {
        *part = value;
    }
}

/// Values that are stored as they are, and two questions that cannot be stored beside them.
fn plant_values(scene: &mut Scene<'_>, document: &mut Document, file: &str, run_id: &str) {
    let number = |spelling: &str| Document::Number(spelling.to_owned());
    let series = map([
        ("GDPC1", number("123456789012345678901234567890")),
        ("FEDFUNDS", number("1e22")),
        ("UNRATE", number("-0.0")),
    ]);
    set(document, "/econ_data/series_counts", series);
    set(document, "/agentic/report_questions/0/answer", prose::HARD_UNICODE.into());
    set(document, "/agentic/report_questions/1/answer", "\\N\n\\.\ttab\r\n''NULL".into());
    let mut planted = vec![
        ("number_spellings", "/econ_data/series_counts".to_owned(), Outcome::Stored),
        ("unicode", "/agentic/report_questions/0/answer".to_owned(), Outcome::Stored),
        ("copy_null_marker", "/agentic/report_questions/1/answer".to_owned(), Outcome::Stored),
    ];
    if let Some(Document::List(asked)) = document.at_mut("/agentic/report_questions") {
        let question = |id: &str| {
            map([
                ("id", id.into()),
                ("category", prose::category(0).into()),
                ("question", prose::question(1).into()),
                ("answer", "planted".into()),
            ])
        };
        let at = |position: usize| format!("/agentic/report_questions/{position}");
        planted.push(("empty_question_id", at(asked.len()), Outcome::Skipped));
        asked.push(question(""));
        planted.push(("duplicate_question_id", at(asked.len()), Outcome::Rejected));
        asked.push(question("A01"));
    }
    for (name, pointer, outcome) in planted {
        scene.quirks.push(Quirk::of_file(name, file.to_owned(), run_id, outcome).at(pointer));
    }
}
