//! Carrying out a plan, key by key, in transactions of a few hundred rows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::canonical::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::plan::OutputPlan;
use crate::pack::{OpenedPack, join_error};
use crate::parity::{Accounts, each_row};
use crate::repair::group::Group;
use crate::repair::plan::{Action, Operation, Plan};
use crate::store::{Postgres, replay};

/// Rows repaired in one transaction.
const ACTIONS_AT_ONCE: usize = 500;

/// What became of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// The verification the plan came from.
    pub parity_run: String,
    /// Rows by operation; of a rehearsal those that would be written.
    pub repaired: BTreeMap<String, u64>,
    /// Rows that stay as Postgres holds them, because the plan says so.
    pub kept: u64,
    /// Rows left alone, and why.
    pub left_alone: Vec<Outcome>,
}

impl Applied {
    /// Of a plan of which nothing was carried out yet.
    pub fn of(plan: &Plan) -> Self {
        let kept = plan.actions.iter().filter(|action| action.operation == Operation::Keep);
        Self {
            parity_run: plan.parity_run.clone(),
            repaired: BTreeMap::new(),
            kept: kept.count() as u64,
            left_alone: Vec::new(),
        }
    }
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
    carry_out(postgres, opened, plan, true, stop).await
}

/// Re-checks every row of the plan as [`apply`] would now, and writes nothing: what would be
/// written, and what would be left alone and why. Whether Postgres would take a row is not tried.
pub async fn rehearse(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    plan: &Plan,
    stop: &Stop,
) -> Result<Applied> {
    carry_out(postgres, opened, plan, false, stop).await
}

async fn carry_out(
    postgres: &Postgres,
    opened: Arc<OpenedPack>,
    plan: &Plan,
    writes: bool,
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
    let mut work = Work { opened: &opened, source: &source, writes, applied: Applied::of(plan) };
    let mut pending: Vec<&Action> =
        plan.actions.iter().filter(|action| action.operation.is_of_rows()).collect();
    loop {
        let tried = pending.len();
        let refused = work.pass(&mut conn, &pending, stop).await?;
        if refused.is_empty() || refused.len() == tried {
            work.applied.left_alone.extend(refused.into_iter().map(|(_, outcome)| outcome));
            break;
        }
        pending = refused.into_iter().map(|(action, _)| action).collect();
    }
    let applied = work.applied;
    conn.close().await?;
    Ok(applied)
}

struct Work<'w> {
    opened: &'w OpenedPack,
    source: &'w Source,
    writes: bool,
    applied: Applied,
}

impl<'w> Work<'w> {
    /// Tries every action once; returns those that Postgres refused.
    async fn pass(
        &mut self,
        conn: &mut PgConnection,
        actions: &[&'w Action],
        stop: &Stop,
    ) -> Result<Vec<(&'w Action, Outcome)>> {
        let mut refused = Vec::new();
        for part in actions.chunks(ACTIONS_AT_ONCE) {
            stop.check()?;
            let mut tx = conn.begin().await?;
            replay(&mut tx).await?;
            for group in grouped(self.opened, self.source, part)? {
                let fates = group.repair(&mut tx, self.source, self.writes).await?;
                for (action, fate) in group.actions.iter().zip(fates) {
                    let (target, key) = (action.target.clone(), action.key.clone());
                    match fate {
                        Fate::Repaired => {
                            let operation = action.operation.name().to_owned();
                            *self.applied.repaired.entry(operation).or_default() += 1;
                        }
                        Fate::Refused(_) => refused.push((*action, Outcome { target, key, fate })),
                        _ => self.applied.left_alone.push(Outcome { target, key, fate }),
                    }
                }
            }
            tx.commit().await?;
        }
        Ok(refused)
    }
}

/// What the source says now about the rows of a plan.
#[derive(Debug)]
pub(super) struct Source {
    /// Rows to be written, by (stream, digest), with their output.
    pub(super) rows: HashMap<(usize, Digest), (usize, Vec<u8>)>,
    /// Keys to be deleted that the source does yield, by (slice, key digest).
    pub(super) present: HashSet<(usize, Digest)>,
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
            if action.operation == Operation::Keep {
                continue;
            }
            if action.operation == Operation::Delete {
                let output = output_of(opened, stream, action, None)?;
                let feeds = &opened.plan.units[output.unit].feeds;
                streams.extend(feeds.iter().map(|(stream, _)| *stream));
            } else if let Some(digest) = action.source_digest.as_deref().and_then(digest_of) {
                streams.insert(stream);
                rows.insert((stream, digest));
            }
        }
        let deletions: Vec<&Action> =
            plan.actions.iter().filter(|action| action.operation == Operation::Delete).collect();
        let nothing_yet = Self { rows: HashMap::new(), present: HashSet::new() };
        for part in deletions.chunks(ACTIONS_AT_ONCE) {
            for group in grouped(opened, &nothing_yet, part)? {
                let held = group.held_keys(conn).await?;
                keys.extend(held.into_iter().flatten().map(|key| (group.output.unit, key)));
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

/// Actions on the rows of one output, in the plan's order.
fn grouped<'g>(
    opened: &'g OpenedPack,
    source: &Source,
    actions: &[&'g Action],
) -> Result<Vec<Group<'g>>> {
    let mut groups: Vec<Group<'g>> = Vec::new();
    for action in actions {
        let stream = stream_of(opened, action)?;
        let digest = action.source_digest.as_deref().and_then(digest_of);
        let row = digest.and_then(|digest| source.rows.get(&(stream, digest)));
        let output = output_of(opened, stream, action, row)?;
        let fits = |group: &Group<'_>| {
            group.stream == stream && std::ptr::eq(group.output, output) && group.is_of(action)
        };
        match groups.iter_mut().find(|group| fits(group)) {
            Some(group) => group.actions.push(action),
            None => groups.push(Group { stream, output, actions: vec![action] }),
        }
    }
    Ok(groups)
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

pub(super) fn digest_of(text: &str) -> Option<Digest> {
    hex::decode(text).ok()?.try_into().ok()
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
