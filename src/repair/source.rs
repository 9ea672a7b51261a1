//! What the source says of a plan's rows, read again when it changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use crate::canonical::Digest;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::parity::{Accounts, each_row};
use crate::repair::apply::{ACTIONS_AT_ONCE, digest_of, grouped, output_of, stream_of};
use crate::repair::plan::{Action, Operation, Plan};
use crate::source::discover::{Input, discover};

/// What the source says now about the rows of a plan.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Rows to be written, by (stream, digest), with their output.
    pub(super) rows: HashMap<(usize, Digest), (usize, Vec<u8>)>,
    /// Keys to be deleted that the source does yield, by (slice, key digest).
    pub(super) present: HashSet<(usize, Digest)>,
    /// The sources as they were when they were read.
    inputs: Vec<Input>,
}

impl Source {
    /// Reads what the plan needs of the source.
    pub(super) async fn read(
        conn: &mut PgConnection,
        opened: &Arc<OpenedPack>,
        plan: &Plan,
        stop: &Stop,
    ) -> Result<Self> {
        let inputs = inputs_now(opened).await?;
        let mut rows: HashSet<(usize, Digest)> = HashSet::new();
        let mut keys: HashSet<(usize, Digest)> = HashSet::new();
        let mut streams: BTreeSet<usize> = BTreeSet::new();
        for action in &plan.actions {
            if !action.operation.is_of_rows() {
                continue;
            }
            let stream = stream_of(opened, action)?;
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
        let nothing_yet = Self::default();
        for part in deletions.chunks(ACTIONS_AT_ONCE) {
            for group in grouped(opened, &nothing_yet, part)? {
                let held = group.held_keys(conn).await?;
                let held = held.into_iter().filter_map(|held| held.digest);
                keys.extend(held.map(|key| (group.output.unit, key)));
            }
        }
        let mut accounts = Vec::new();
        for stream in streams {
            let name = &opened.plan.streams[stream].name;
            accounts.push((stream, Accounts::load(conn, &opened.plan.name, name).await?));
        }
        let (opened, stop) = (Arc::clone(opened), stop.clone());
        let reading = move || Self::walk(&opened, &accounts, &rows, &keys, &stop);
        let source = tokio::task::spawn_blocking(reading).await.map_err(join_error)??;
        Ok(Self { inputs, ..source })
    }

    /// Whether the sources are no longer what they were when they were read.
    pub(super) async fn is_stale(&self, opened: &Arc<OpenedPack>) -> Result<bool> {
        Ok(inputs_now(opened).await? != self.inputs)
    }

    /// Blocking.
    fn walk(
        opened: &OpenedPack,
        streams: &[(usize, Accounts)],
        rows: &HashSet<(usize, Digest)>,
        keys: &HashSet<(usize, Digest)>,
        stop: &Stop,
    ) -> Result<Self> {
        let mut source = Self::default();
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

/// The sources as they are now: files, sizes, change tokens.
async fn inputs_now(opened: &Arc<OpenedPack>) -> Result<Vec<Input>> {
    let opened = Arc::clone(opened);
    tokio::task::spawn_blocking(move || Ok(discover(&opened.pack, &opened.roots)?.inputs))
        .await
        .map_err(join_error)?
}
