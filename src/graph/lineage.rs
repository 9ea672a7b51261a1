//! The other recursive questions of the packs: what came from what. Circles in the data end where
//! they close, and are reported.

use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::answer::Meta;
use super::caps::Clamp;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};

/// Steps that are followed at most.
pub const STEPS_MAX: u32 = 1_000;
/// Rows that are given at most.
pub const ROWS_MAX: u32 = 1_000;

/// What is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Pack webtoon: what an artifact was derived from.
    ArtifactUp,
    /// Pack webtoon: what was derived from an artifact.
    ArtifactDown,
    /// Pack webtoon: the presets a style preset inherits from, and the merged config.
    Style,
    /// Pack unified: what a run left behind, and the runs it came from.
    Run,
    /// Pack unified: a paper's runs, chunks and vectors.
    Document,
    /// Pack media: what a medium is related to.
    Media,
}

impl Subject {
    /// One SELECT over `$1` (the id, as text), `$2` (steps) and `$3` (rows).
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Self::ArtifactUp => include_str!("../sql/graph/lineage_artifact_up.sql"),
            Self::ArtifactDown => include_str!("../sql/graph/lineage_artifact_down.sql"),
            Self::Style => include_str!("../sql/graph/lineage_style.sql"),
            Self::Run => include_str!("../sql/graph/lineage_run.sql"),
            Self::Document => include_str!("../sql/graph/lineage_document.sql"),
            Self::Media => include_str!("../sql/graph/lineage_media.sql"),
        }
    }

    fn pack(self) -> &'static str {
        match self {
            Self::ArtifactUp | Self::ArtifactDown | Self::Style => "webtoon",
            Self::Run | Self::Document => "unified",
            Self::Media => "media",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::ArtifactUp | Self::ArtifactDown => "artifact",
            Self::Style => "style preset",
            Self::Run => "run",
            Self::Document => "document",
            Self::Media => "medium",
        }
    }

    fn wants_uuid(self) -> bool {
        !matches!(self, Self::Run | Self::Document)
    }
}

/// Something on a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// From the subject.
    pub depth: i32,
    /// How it follows from its parent.
    pub relation: String,
    /// What it is.
    pub kind: String,
    /// Its id, unique within its kind and run.
    pub id: String,
    /// What it was reached from.
    pub parent: Option<String>,
    /// What people know it by.
    pub label: Option<String>,
    /// What is wrong: a cycle, a parent that is missing, a limit that was met.
    pub problem: Option<String>,
}

/// What [`trace`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lineage {
    /// In one sentence.
    pub summary: String,
    /// The subject and what follows from it, nearest first.
    pub steps: Vec<Step>,
    /// The greatest depth.
    pub depth: i32,
    /// Ids at which a circle closes.
    pub cycles: Vec<String>,
    /// Of a style preset: its config merged with all it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Value>,
    /// Of `steps`.
    pub count: usize,
    /// Limits and time.
    pub meta: Meta,
}

/// Traces `subject` by its id, `steps_max` far.
///
/// # Errors
/// `Usage` for an id that is none or is unknown, `Migration` where the pack is not there,
/// `TimedOut` past the deadline.
pub async fn trace(
    connection: &mut PgConnection,
    subject: Subject,
    id: &str,
    steps_max: u32,
) -> Result<Lineage> {
    if subject.wants_uuid() && Uuid::try_parse(id).is_err() {
        return Err(Error::new(ErrorKind::Usage, format!("this is no uuid: {id:?}")));
    }
    let mut clamp = Clamp::default();
    let steps_max = clamp.limit("max_steps", steps_max, STEPS_MAX);
    let mut session = Session::begin(connection, "lineage").await?;
    let found = sqlx::query(subject.sql())
        .bind(id)
        .bind(i32::try_from(steps_max).unwrap_or(i32::MAX))
        .bind(i64::from(ROWS_MAX) + 1)
        .fetch_all(session.connection().await?)
        .await;
    let rows = found.map_err(|error| missing(subject, session.failed(error)))?;
    let mut steps = Vec::with_capacity(rows.len());
    for row in &rows {
        steps.push(Step {
            depth: row.try_get("depth")?,
            relation: row.try_get("relation")?,
            kind: row.try_get("kind")?,
            id: row.try_get("id")?,
            parent: row.try_get("parent")?,
            label: row.try_get("label")?,
            problem: row.try_get("problem")?,
        });
    }
    if steps.is_empty() {
        let what = format!("there is no {} {id}", subject.noun());
        return Err(Error::new(ErrorKind::Usage, what)
            .advice(format!("it is looked for in pack {}", subject.pack())));
    }
    let effective =
        if subject == Subject::Style { effective(&mut session, id).await? } else { None };
    let mut meta = Meta { clamped: clamp.clamped, ..Meta::default() };
    if steps.len() > ROWS_MAX as usize {
        steps.truncate(ROWS_MAX as usize);
        meta.caps_hit.push("max_rows");
    }
    if steps.iter().any(|step| step.problem.as_deref() == Some("depth limit")) {
        meta.caps_hit.push("max_steps");
    }
    meta.truncated = !meta.caps_hit.is_empty();
    meta.elapsed_ms = session.end().await?;
    Ok(collect(subject, id, steps, effective, meta))
}

fn collect(
    subject: Subject,
    id: &str,
    steps: Vec<Step>,
    effective: Option<Value>,
    mut meta: Meta,
) -> Lineage {
    let is_cycle = |step: &&Step| step.problem.as_deref() == Some("cycle");
    let cycles: Vec<String> = steps.iter().filter(is_cycle).map(|step| step.id.clone()).collect();
    let depth = steps.iter().map(|step| step.depth).max().unwrap_or(0);
    meta.hops_used = u32::try_from(depth).unwrap_or(0);
    let count = steps.len();
    let circles = match cycles.len() {
        0 => String::new(),
        _ => format!("; a circle closes at {}", cycles.join(", ")),
    };
    let summary =
        format!("{} {id}: {count} on its line, {depth} steps deep{circles}", subject.noun());
    Lineage { summary, steps, depth, cycles, effective, count, meta }
}

async fn effective(session: &mut Session<'_>, id: &str) -> Result<Option<Value>> {
    let text: Option<String> = sqlx::query_scalar(include_str!("../sql/graph/effective_style.sql"))
        .bind(id)
        .fetch_optional(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| Error::new(ErrorKind::Bug, "a style config is no JSON").because(e))
}

/// A table that is not there means here that its pack is not.
fn missing(subject: Subject, error: Error) -> Error {
    if error.kind() != ErrorKind::Migration {
        return error;
    }
    let pack = subject.pack();
    Error::new(ErrorKind::Migration, format!("pack {pack} is not in this database"))
        .advice(format!("toolkit migrate up --pack {pack}"))
        .because(error)
}
