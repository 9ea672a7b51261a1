//! Carrying out a plan, key by key, in transactions of a few hundred rows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::backfill::{OutputRows, RowRef, merge};
use crate::canonical::{Digest, select_expression};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::OutputPlan;
use crate::pack::{OpenedPack, join_error};
use crate::parity::{Accounts, each_row};
use crate::repair::plan::{Action, Operation, Plan};
use crate::store::{Postgres, quote_ident, replay, sql};

/// Rows repaired in one transaction.
const ACTIONS_AT_ONCE: usize = 500;

/// What became of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// The verification the plan came from.
    pub parity_run: String,
    /// Rows by operation.
    pub repaired: BTreeMap<String, u64>,
    /// Rows left alone, and why.
    pub left_alone: Vec<Outcome>,
}

/// What became of one action.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Slice of the target.
    pub target: String,
    /// Key of the row.
    pub key: serde_json::Map<String, serde_json::Value>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Written, compared again, equal.
    Repaired,
    /// The source no longer yields the row the verification saw.
    SourceChanged,
    /// The target's row is no longer the one the verification saw.
    TargetChanged,
    /// It is already as it should be.
    AlreadyRight,
    /// Postgres refused the row.
    Refused(String),
}

/// Carries out the plan. Every row is re-checked before, and compared again after, in the same
/// transaction. What Postgres refuses is tried again as long as anything else was repaired
/// meanwhile: a row may refer to another one of the plan.
pub async fn apply(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    plan: &Plan,
    stop: &Stop,
) -> Result<Applied> {
    if opened.plan.name != plan.pack {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the plan is for the pack {}, not {}", plan.pack, opened.plan.name),
        )
        .advice("give `--pack` the folder of the pack the plan was made for"));
    }
    let mut conn = postgres.dedicated().await?;
    let source = Source::read(&mut conn, &opened, plan, stop).await?;
    let mut applied = Applied {
        parity_run: plan.parity_run.clone(),
        repaired: BTreeMap::new(),
        left_alone: Vec::new(),
    };
    let mut pending: Vec<&Action> = plan.actions.iter().collect();
    loop {
        let tried = pending.len();
        let refused = pass(&mut conn, &opened, &pending, &source, &mut applied, stop).await?;
        if refused.is_empty() || refused.len() == tried {
            applied.left_alone.extend(refused.into_iter().map(|(_, outcome)| outcome));
            break;
        }
        pending = refused.into_iter().map(|(action, _)| action).collect();
    }
    conn.close().await?;
    Ok(applied)
}

/// Tries every action once; returns those that Postgres refused.
async fn pass<'p>(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    actions: &[&'p Action],
    source: &Source,
    applied: &mut Applied,
    stop: &Stop,
) -> Result<Vec<(&'p Action, Outcome)>> {
    let mut refused = Vec::new();
    for part in actions.chunks(ACTIONS_AT_ONCE) {
        stop.check()?;
        let mut tx = conn.begin().await?;
        replay(&mut tx).await?;
        for action in part {
            let fate = repair_row(&mut tx, opened, action, source).await?;
            let (target, key) = (action.target.clone(), action.key.clone());
            match fate {
                Fate::Repaired => {
                    *applied.repaired.entry(action.operation.name().to_owned()).or_default() += 1;
                }
                Fate::Refused(_) => refused.push((*action, Outcome { target, key, fate })),
                _ => applied.left_alone.push(Outcome { target, key, fate }),
            }
        }
        tx.commit().await?;
    }
    Ok(refused)
}

/// What the source says now about the rows of a plan.
struct Source {
    /// Rows to be written, by (stream, digest), with their output.
    rows: HashMap<(usize, Digest), (usize, Vec<u8>)>,
    /// Keys to be deleted that the source does yield, by (slice, key digest).
    present: HashSet<(usize, Digest)>,
}

impl Source {
    async fn read(
        conn: &mut PgConnection,
        opened: &Arc<OpenedPack>,
        plan: &Plan,
        stop: &Stop,
    ) -> Result<Self> {
        let mut rows: HashSet<(usize, Digest)> = HashSet::new();
        let mut keys: HashSet<(usize, Digest)> = HashSet::new();
        let mut streams: BTreeSet<usize> = BTreeSet::new();
        for action in &plan.actions {
            let stream = stream_of(opened, action)?;
            if action.operation == Operation::Delete {
                let output = output_of(opened, stream, action, None)?;
                let feeds = &opened.plan.units[output.unit].feeds;
                streams.extend(feeds.iter().map(|(stream, _)| *stream));
                let key = held_key_digest(conn, output, action).await?;
                keys.extend(key.map(|key| (output.unit, key)));
            } else if let Some(digest) = action.source_digest.as_deref().and_then(digest_of) {
                streams.insert(stream);
                rows.insert((stream, digest));
            }
        }
        let mut accounts = Vec::new();
        for stream in streams {
            let name = &opened.plan.streams[stream].name;
            accounts.push((stream, Accounts::load(conn, &opened.plan.name, name).await?));
        }
        let (opened, stop) = (Arc::clone(opened), stop.clone());
        let reading = move || Self::walk(&opened, &accounts, &rows, &keys, &stop);
        tokio::task::spawn_blocking(reading).await.map_err(join_error)?
    }

    /// Blocking.
    fn walk(
        opened: &OpenedPack,
        streams: &[(usize, Accounts)],
        rows: &HashSet<(usize, Digest)>,
        keys: &HashSet<(usize, Digest)>,
        stop: &Stop,
    ) -> Result<Self> {
        let mut source = Self { rows: HashMap::new(), present: HashSet::new() };
        for (stream, accounts) in streams {
            let outputs = &opened.plan.streams[*stream].outputs;
            each_row(opened, *stream, accounts, stop, &mut |index, tuple, digest| {
                let output = &outputs[index];
                if rows.contains(&(*stream, *digest)) {
                    source.rows.insert((*stream, *digest), (index, tuple.to_vec()));
                }
                if !keys.is_empty() {
                    let key = (output.unit, output.layout.key_digest(tuple));
                    if keys.contains(&key) {
                        source.present.insert(key);
                    }
                }
            })?;
        }
        Ok(source)
    }
}

fn stream_of(opened: &OpenedPack, action: &Action) -> Result<usize> {
    opened.plan.stream_index(&action.stream).ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!("the plan names stream `{}`, which this pack does not have", action.stream),
        )
        .advice("verify again with this pack, and make a new plan")
    })
}

fn digest_of(text: &str) -> Option<Digest> {
    hex::decode(text).ok()?.try_into().ok()
}

async fn repair_row(
    tx: &mut PgConnection,
    opened: &OpenedPack,
    action: &Action,
    now: &Source,
) -> Result<Fate> {
    let stream = stream_of(opened, action)?;
    let source = action.source_digest.as_deref().and_then(digest_of);
    let row = source.and_then(|digest| now.rows.get(&(stream, digest)));
    let output = output_of(opened, stream, action, row)?;
    if output.is_content {
        let why = "the table has no key: a backfill adds what is missing; what is extra, or there \
                   too often, must be deleted by hand";
        return Ok(Fate::Refused(why.to_owned()));
    }
    let held = held_digest(tx, output, action).await?;
    let goal = if action.operation == Operation::Delete { None } else { source };
    if held == goal && (goal.is_some() || action.operation == Operation::Delete) {
        return Ok(Fate::AlreadyRight);
    }
    if held != action.target_digest.as_deref().and_then(digest_of) {
        return Ok(Fate::TargetChanged);
    }
    if action.operation == Operation::Delete
        && let Some(key) = held_key_digest(tx, output, action).await?
        && now.present.contains(&(output.unit, key))
    {
        return Ok(Fate::SourceChanged);
    }
    let refused = match (action.operation, row) {
        (Operation::Delete, _) => delete_row(tx, output, action).await?,
        (_, None) => return Ok(Fate::SourceChanged),
        (_, Some((_, tuple))) => write_row(tx, output, tuple).await?,
    };
    if let Some(why) = refused {
        return Ok(Fate::Refused(why));
    }
    if held_digest(tx, output, action).await? == goal {
        return Ok(Fate::Repaired);
    }
    Err(Error::new(
        ErrorKind::StoreFailed,
        format!(
            "{}: a row is not what was written to it; a trigger or rule of the table changes it",
            action.target
        ),
    )
    .advice("nothing of this group of rows was kept; look at the table's triggers"))
}

fn output_of<'o>(
    opened: &'o OpenedPack,
    stream: usize,
    action: &Action,
    row: Option<&(usize, Vec<u8>)>,
) -> Result<&'o OutputPlan> {
    let outputs = &opened.plan.streams[stream].outputs;
    if let Some((output, _)) = row {
        return Ok(&outputs[*output]);
    }
    outputs.iter().find(|output| opened.plan.units[output.unit].name == action.target).ok_or_else(
        || {
            Error::new(
                ErrorKind::Usage,
                format!("stream `{}` does not write {}", action.stream, action.target),
            )
            .advice("verify again with this pack, and make a new plan")
        },
    )
}

/// `WHERE` of the action's key as text comparisons, and its values.
fn key_condition(output: &OutputPlan, action: &Action) -> Result<(String, Vec<String>)> {
    let mut parts = Vec::new();
    let mut values = Vec::new();
    for position in &output.key {
        let column = &output.columns[*position];
        let value = action.key.get(&column.name);
        if value.is_some_and(serde_json::Value::is_null) {
            parts.push(format!("{} IS NULL", quote_ident(&column.name)));
            continue;
        }
        let Some(value) = value.and_then(serde_json::Value::as_str) else {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("an action on {} lacks the key column {}", action.target, column.name),
            ));
        };
        let declared = output
            .catalog_column(*position)
            .map_or_else(|| "text".to_owned(), |column| column.declared_type.clone());
        values.push(value.to_owned());
        parts.push(format!("{} = ${}::text::{declared}", quote_ident(&column.name), values.len()));
    }
    Ok((parts.join(" AND "), values))
}

/// Digest of the target's row, locked; None if there is none.
async fn held_digest(
    tx: &mut PgConnection,
    output: &OutputPlan,
    action: &Action,
) -> Result<Option<Digest>> {
    let all: Vec<usize> = (0..output.columns.len()).collect();
    digest_in_target(tx, output, action, &all, " FOR UPDATE").await
}

/// Digest of the key of the target's row, as the source's keys are digested.
async fn held_key_digest(
    conn: &mut PgConnection,
    output: &OutputPlan,
    action: &Action,
) -> Result<Option<Digest>> {
    digest_in_target(conn, output, action, &output.key, "").await
}

async fn digest_in_target(
    conn: &mut PgConnection,
    output: &OutputPlan,
    action: &Action,
    positions: &[usize],
    lock: &str,
) -> Result<Option<Digest>> {
    let (condition, values) = key_condition(output, action)?;
    let columns: Vec<String> = positions
        .iter()
        .map(|position| &output.columns[*position])
        .map(|column| select_expression(column.cast.ty(), &quote_ident(&column.name)))
        .collect();
    let statement = format!(
        "SELECT sha256(record_send(ROW({}))) AS digest FROM {} WHERE {condition}{lock}",
        columns.join(", "),
        output.table.sql_name()
    );
    let mut query = sqlx::query(sql(statement));
    for value in values {
        query = query.bind(value);
    }
    let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
    Ok(row.try_get::<Vec<u8>, _>("digest")?.try_into().ok())
}

async fn delete_row(
    tx: &mut PgConnection,
    output: &OutputPlan,
    action: &Action,
) -> Result<Option<String>> {
    let (condition, values) = key_condition(output, action)?;
    let statement = format!("DELETE FROM {} WHERE {condition}", output.table.sql_name());
    let mut savepoint = tx.begin().await?;
    let mut query = sqlx::query(sql(statement));
    for value in values {
        query = query.bind(value);
    }
    match query.execute(&mut *savepoint).await {
        Ok(_) => {
            savepoint.commit().await?;
            Ok(None)
        }
        Err(error) => {
            savepoint.rollback().await?;
            let error = Error::from(error);
            if error.kind() == ErrorKind::StoreFailed {
                Ok(Some(error.detail().to_owned()))
            } else {
                Err(error)
            }
        }
    }
}

/// Writes what the source says, unconditionally.
async fn write_row(
    tx: &mut PgConnection,
    output: &OutputPlan,
    tuple: &[u8],
) -> Result<Option<String>> {
    let digest = output.layout.row_digest(tuple);
    let row = RowRef { start: 0, end: tuple.len(), record: 0, element: 0, digest };
    let rows = OutputRows { buffer: tuple.to_vec(), rows: vec![row], ..OutputRows::default() };
    let written = merge(tx, output, ConflictRule::SourceWins, &rows, vec![row], false).await?;
    Ok(written.refused.first().map(|(_, refused)| refused.detail.clone()))
}
