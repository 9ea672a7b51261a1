//! Carrying out a plan, key by key, in transactions of a few hundred rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::canonical::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::pack::plan::OutputPlan;
use crate::repair::group::Group;
use crate::repair::plan::{Action, Operation, Plan, database_identity};
use crate::repair::source::Source;
use crate::store::{Postgres, replay};

/// Rows repaired in one transaction.
pub(super) const ACTIONS_AT_ONCE: usize = 500;

/// What became of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// The verification the plan came from.
    pub parity_run: String,
    /// Nothing was written: the figures say what would be.
    pub is_rehearsal: bool,
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
            is_rehearsal: false,
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
/// transaction; a source that changed meanwhile is read again once the rows are locked. What Postgres refuses is tried again as long as anything else was repaired
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
    let mut conn = postgres.dedicated().await?;
    check_plan(&mut conn, &opened, plan).await?;
    let source = Source::read(&mut conn, &opened, plan, stop).await?;
    let applied = Applied { is_rehearsal: !writes, ..Applied::of(plan) };
    let mut work = Work { opened: &opened, plan, source, writes, applied };
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

/// Refuses a plan that was made for something else.
async fn check_plan(conn: &mut PgConnection, opened: &OpenedPack, plan: &Plan) -> Result<()> {
    let refused = |detail: String, advice: &str| {
        Err(Error::new(ErrorKind::RunMismatch, detail).advice(advice.to_owned()))
    };
    let pack = &opened.plan;
    if pack.name != plan.pack {
        return refused(
            format!("the plan is for the pack {}, not {}", plan.pack, pack.name),
            "give `--pack` the folder of the pack the plan was made for",
        );
    }
    if (pack.version, &pack.fingerprint) != (plan.pack_version, &plan.pack_fingerprint) {
        let version = |version: i32, fingerprint: &str| {
            format!("version {version}, pack.toml {}", &fingerprint[..fingerprint.len().min(12)])
        };
        return refused(
            format!(
                "the plan was made with another {}: then {}, now {}",
                pack.name,
                version(plan.pack_version, &plan.pack_fingerprint),
                version(pack.version, &pack.fingerprint)
            ),
            "verify again with this pack, and make a new plan",
        );
    }
    let is_stored: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM toolkit.parity_run WHERE run_id::text = $1 AND pack = $2)",
    )
    .bind(&plan.parity_run)
    .bind(&plan.pack)
    .fetch_one(&mut *conn)
    .await?;
    let now = database_identity(conn).await?;
    if now != plan.database || !is_stored {
        return refused(
            format!(
                "the plan was made for another database: for {}, this is {now}, {} the \
                 verification it comes from",
                plan.database,
                if is_stored { "with" } else { "without" }
            ),
            "connect to the database that was verified, or verify this one and make a new plan",
        );
    }
    Ok(())
}

struct Work<'w> {
    opened: &'w Arc<OpenedPack>,
    plan: &'w Plan,
    source: Source,
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
            let groups = grouped(self.opened, &self.source, part)?;
            let mut locked = Vec::with_capacity(groups.len());
            for group in &groups {
                locked.push(group.lock(&mut tx).await?);
            }
            if self.source.is_stale(self.opened).await? {
                self.source = Source::read(&mut tx, self.opened, self.plan, stop).await?;
            }
            for (group, locked) in groups.iter().zip(&locked) {
                let fates = group.repair(&mut tx, locked, &self.source, self.writes).await?;
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

/// Actions on the rows of one output, in the plan's order.
pub(super) fn grouped<'g>(
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

pub(super) fn stream_of(opened: &OpenedPack, action: &Action) -> Result<usize> {
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

pub(super) fn output_of<'o>(
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
