//! The plan: which rows are written, and what must still hold when they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::{Error, ErrorKind, Result};
use crate::parity::{Against, ChosenRun, WantedFor, chosen_run};

/// Version of the plan's file format.
pub(super) const FORMAT_VERSION: u32 = 2;

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
    /// Its version at that verification.
    pub pack_version: i32,
    /// SHA-256 of its `pack.toml` at that verification.
    pub pack_fingerprint: String,
    /// The database that was verified: the cluster's system identifier and the database's name.
    pub database: String,
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
    /// SHA-256 over this action and the head of its plan: an action that was edited, or that
    /// stands in another plan, is not carried out.
    pub seal: String,
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

/// Makes the plan for a stored verification; `latest` is the newest one that names rows, of `pack`
/// if one is named. Also returns which one it is.
pub async fn plan(
    conn: &mut PgConnection,
    run: &str,
    pack: Option<&str>,
    sides: &Sides,
) -> Result<(Plan, ChosenRun)> {
    let chosen = chosen_run(conn, run, pack, WantedFor::Repair).await?;
    if chosen.level == "counts" {
        let detail = format!("verification {} only counted rows, and names none", chosen.run_id);
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice("verify at --level full, and plan the repair from that"));
    }
    let header = sqlx::query(include_str!("../sql/repair/parity_run.sql"))
        .bind(&chosen.run_id)
        .fetch_one(&mut *conn)
        .await?;
    let run_id = chosen.run_id.clone();
    check_streams(conn, &run_id, sides).await?;
    let mut plan = Plan {
        format_version: FORMAT_VERSION,
        encoding_version: header.try_get("encoding_version")?,
        parity_run: run_id.clone(),
        pack: chosen.pack.clone(),
        pack_version: header.try_get("pack_version")?,
        pack_fingerprint: header.try_get("pack_fingerprint")?,
        database: database_identity(conn).await?,
        from: sides.default,
        sides: sides.streams.clone(),
        differing_rows: chosen.differing_rows,
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
                    seal: String::new(),
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
            seal: String::new(),
        });
    }
    if plan.actions.is_empty() && plan.left_alone.keys().eq([OF_DOCUMENTS]) {
        refuse_documents(&plan.pack)?;
    }
    plan.seal();
    Ok((plan, chosen))
}

/// Which database this is: a copy of it, and another one of the same server, are others.
pub(super) async fn database_identity(conn: &mut PgConnection) -> Result<String> {
    let identity = sqlx::query_scalar(
        "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || current_database()",
    );
    Ok(identity.fetch_one(conn).await?)
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
