//! The plan: which rows are written, and what must still hold when they are.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::parity::Against;

/// Version of the plan's file format.
const FORMAT_VERSION: u32 = 1;

/// A reviewable repair plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this format.
    pub format_version: u32,
    /// Version of the canonical encoding the digests are in.
    pub encoding_version: i32,
    /// The verification it comes from.
    pub parity_run: String,
    /// The pack.
    pub pack: String,
    /// The side whose rows are taken where `sides` does not name the stream's.
    pub from: Side,
    /// The side of single streams.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sides: BTreeMap<String, Side>,
    /// Rows that differed in that verification.
    pub differing_rows: u64,
    /// What to do, in key order.
    pub actions: Vec<Action>,
    /// Differences a repair cannot mend, and what to do instead.
    pub left_alone: BTreeMap<String, u64>,
}

/// Which store is right about a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The source: Postgres is made what it says.
    #[default]
    Source,
    /// Postgres: its row stays. A repair never writes to a source.
    Target,
}

/// The side of every stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sides {
    /// Where `streams` says nothing.
    pub default: Side,
    /// By stream.
    pub streams: BTreeMap<String, Side>,
}

impl Sides {
    /// The side that is right about a stream.
    #[must_use]
    pub fn of(&self, stream: &str) -> Side {
        self.streams.get(stream).copied().unwrap_or(self.default)
    }

    /// Reads `source`, `target`, `STREAM=source` and `STREAM=target`.
    pub fn parse(given: &[String]) -> Result<Self> {
        let side = |text: &str| match text {
            "source" => Ok(Side::Source),
            "target" => Ok(Side::Target),
            _ => Err(Error::new(ErrorKind::Usage, format!("there is no side {text:?}")).advice(
                "a side is source or target, for one stream STREAM=source or STREAM=target",
            )),
        };
        let mut sides = Self::default();
        for text in given {
            match text.rsplit_once('=') {
                Some((stream, of)) => {
                    sides.streams.insert(stream.to_owned(), side(of)?);
                }
                None => sides.default = side(text)?,
            }
        }
        Ok(sides)
    }
}

/// One row to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What to do.
    pub operation: Operation,
    /// Slice of the target.
    pub target: String,
    /// Stream whose source yields the row.
    pub stream: String,
    /// Key columns and their values, as Postgres text.
    pub key: serde_json::Map<String, serde_json::Value>,
    /// Columns that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Digest the source's row must still have, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
    /// Digest the target's row must still have; none: there must be no row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_digest: Option<String>,
}

/// What to do with a row of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// It is missing.
    Insert,
    /// It has another value.
    Update,
    /// The source does not have it.
    Delete,
    /// A point differs: the outbox writes it anew, or removes it.
    Requeue,
    /// Nothing: the target's side was chosen.
    Keep,
}

impl Operation {
    /// Whether it writes a row of the target.
    #[must_use]
    pub fn is_of_rows(self) -> bool {
        !matches!(self, Self::Keep | Self::Requeue)
    }

    /// As shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Requeue => "requeue",
            Self::Keep => "keep",
        }
    }
}

/// Makes the plan for a stored verification; `latest` is the newest one, of `pack` if one is named.
pub async fn plan(
    conn: &mut PgConnection,
    run: &str,
    pack: Option<&str>,
    sides: &Sides,
) -> Result<Plan> {
    let header = sqlx::query(include_str!("../sql/repair/parity_run.sql"))
        .bind(run)
        .bind(pack)
        .fetch_optional(&mut *conn)
        .await?
        .ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no stored verification `{run}`"))
                .advice("`toolkit verify-parity` prints its run id; `latest` is the newest one")
        })?;
    let run_id: String = header.try_get("run_id")?;
    check_streams(conn, &run_id, sides).await?;
    let mut plan = Plan {
        format_version: FORMAT_VERSION,
        encoding_version: header.try_get("encoding_version")?,
        parity_run: run_id.clone(),
        pack: header.try_get("pack")?,
        from: sides.default,
        sides: sides.streams.clone(),
        differing_rows: u64::try_from(header.try_get::<i64, _>("differing_rows")?).unwrap_or(0),
        actions: Vec::new(),
        left_alone: BTreeMap::new(),
    };
    let rows = sqlx::query(include_str!("../sql/repair/differences.sql"))
        .bind(&run_id)
        .fetch_all(conn)
        .await?;
    for row in rows {
        let kind: String = row.try_get("kind")?;
        let (stream, target): (String, String) = (row.try_get("stream")?, row.try_get("target")?);
        let key: String = row.try_get("record_key")?;
        let key: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&key)
            .map_err(|e| Error::new(ErrorKind::Bug, "a stored key is not JSON").because(e))?;
        match Against::of_stream(&stream, &target) {
            Against::Source if plan.pack == crate::anime::PACK => {
                *plan.left_alone.entry(OF_DOCUMENTS.to_owned()).or_default() += 1;
                continue;
            }
            Against::Source => {}
            // An outbox row names its point by a UUID.
            Against::Qdrant if key.get("id").is_some_and(serde_json::Value::is_string) => {
                let columns = row.try_get("columns")?;
                plan.actions.push(Action {
                    operation: Operation::Requeue,
                    target,
                    stream,
                    key,
                    columns,
                    source_digest: None,
                    target_digest: None,
                });
                continue;
            }
            against => {
                let what = format!("{} of {}", kind, against.name());
                *plan.left_alone.entry(what).or_default() += 1;
                continue;
            }
        }
        let operation = match kind.as_str() {
            "missing" => Operation::Insert,
            "changed" => Operation::Update,
            "extra" => Operation::Delete,
            _ => {
                // Unaccounted values have no key and come as one line.
                let lines = u64::try_from(row.try_get::<i64, _>("lines")?).unwrap_or(1);
                let rows = if kind == "unaccounted" { lines } else { 1 };
                *plan.left_alone.entry(kind).or_default() += rows;
                continue;
            }
        };
        let keeps = sides.of(&stream) == Side::Target;
        plan.actions.push(Action {
            operation: if keeps { Operation::Keep } else { operation },
            target,
            stream,
            key,
            columns: row.try_get("columns")?,
            source_digest: row.try_get("source_digest")?,
            target_digest: row.try_get("target_digest")?,
        });
    }
    if plan.actions.is_empty() && plan.left_alone.keys().all(|what| what == OF_DOCUMENTS) {
        refuse_documents(&plan.pack)?;
    }
    Ok(plan)
}

/// What a plan leaves alone of a pack of documents.
const OF_DOCUMENTS: &str = "rows of documents";

/// Rows of documents are many to a record, and the update policy decides which side is right.
fn refuse_documents(pack: &str) -> Result<()> {
    if pack != crate::anime::PACK {
        return Ok(());
    }
    let detail = format!("a repair plan is of rows, and the pack {pack} holds documents");
    Err(Error::new(ErrorKind::Usage, detail).advice(format!(
        "`toolkit backfill --pack {pack} --source FILE --again` fills in what is missing and \
         proposes what differs; `toolkit review accept` makes it what the artifact says"
    )))
}

/// A misspelt stream would be taken from the other side.
async fn check_streams(conn: &mut PgConnection, run_id: &str, sides: &Sides) -> Result<()> {
    let known: Vec<String> = sqlx::query_scalar(
        "SELECT stream ->> 'stream' FROM toolkit.parity_run, \
         jsonb_array_elements(streams) AS stream WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .fetch_all(conn)
    .await?;
    match sides.streams.keys().find(|stream| !known.contains(stream)) {
        None => Ok(()),
        Some(stream) => Err(Error::new(
            ErrorKind::Usage,
            format!("--side names the stream `{stream}`, which that verification did not compare"),
        )
        .advice(format!("it compared: {}", known.join(", ")))),
    }
}

/// Writes the plan as JSON; refuses to overwrite a file.
pub fn write_plan(plan: &Plan, path: &Path) -> Result<()> {
    use std::io::Write as _;
    let text = serde_json::to_string_pretty(plan)
        .map_err(|e| Error::new(ErrorKind::Bug, "a repair plan is not JSON").because(e))?;
    let mut file = std::fs::File::create_new(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
            .advice("name a file that does not exist yet, in a folder you may write to")
    })?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(())
}

/// Reads a plan back; refuses other formats and encodings.
pub fn read_plan(path: &Path) -> Result<Plan> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be read: {error}", path.display()))
    })?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| {
        Error::new(ErrorKind::Usage, format!("{} is not a repair plan: {error}", path.display()))
            .advice(
                "make one with `toolkit repair plan --run ID --out FILE`; by hand, only take \
                     whole actions out of it",
            )
    })?;
    if plan.format_version != FORMAT_VERSION
        || plan.encoding_version != crate::canonical::ENCODING_VERSION
    {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{} was made by another version of toolkit", path.display()),
        )
        .advice("verify again with this version, and make a new plan"));
    }
    check_digests(&plan, path)?;
    Ok(plan)
}

/// A digest that was edited must not read as "there is no row".
fn check_digests(plan: &Plan, path: &Path) -> Result<()> {
    let is_digest = |text: &String| text.len() == 64 && hex::decode(text).is_ok();
    for action in &plan.actions {
        let (source, target) = (&action.source_digest, &action.target_digest);
        let is_whole = match action.operation {
            Operation::Insert => source.is_some() && target.is_none(),
            Operation::Update => source.is_some() && target.is_some(),
            Operation::Delete => target.is_some(),
            Operation::Keep | Operation::Requeue => true,
        };
        if is_whole && [source, target].into_iter().flatten().all(is_digest) {
            continue;
        }
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{}: the {} of a row of {} has not the digests it needs",
                path.display(),
                action.operation.name(),
                action.target
            ),
        )
        .advice("remove whole actions from a plan, or make a new one; do not edit digests"));
    }
    Ok(())
}
