//! `neighbors` and `k_hop`: a breadth-first search in one statement.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::answer::{Answer, Meta, Node, Path, Rel, Stub};
use super::caps::{Caps, Clamp};
use super::session::{Id, Session};
use super::vocabulary::Types;
use crate::error::Result;

/// What is asked of [`k_hop`].
#[derive(Debug, Clone)]
pub struct KHop {
    /// Where it starts.
    pub start: Uuid,
    /// Edge types to follow; empty: all that are stored.
    pub edge_types: Vec<String>,
    /// Limits; beyond [`Caps::MAX`] they are clamped.
    pub caps: Caps,
}

impl KHop {
    /// At the greatest limits, all edge types.
    #[must_use]
    pub fn new(start: Uuid) -> Self {
        Self { start, edge_types: Vec::new(), caps: Caps::MAX }
    }
}

/// What is adjacent to `start`, each node once, in the order of edge type and id; at most `limit`.
///
/// # Errors
/// `Usage` for an unknown node or edge type, `TimedOut` past the deadline.
pub async fn neighbors(
    connection: &mut PgConnection,
    start: Uuid,
    edge_types: &[String],
    limit: u32,
) -> Result<Answer> {
    let caps = Caps { hops: 1, results: limit, ..Caps::MAX };
    let query = KHop { start, edge_types: edge_types.to_vec(), caps };
    ask(connection, &query, "neighbors").await
}

/// What lies within some hops of the start: nearest first, each node once with the chain that
/// reached it first, in the order of edge type and id.
///
/// # Errors
/// `Usage` for an unknown node or edge type, `TimedOut` past the deadline.
pub async fn k_hop(connection: &mut PgConnection, query: &KHop) -> Result<Answer> {
    ask(connection, query, "k-hop").await
}

async fn ask(
    connection: &mut PgConnection,
    query: &KHop,
    question: &'static str,
) -> Result<Answer> {
    let types = Types::of(&query.edge_types)?;
    let mut clamp = Clamp::default();
    let caps = Caps {
        hops: clamp.limit("max_hops", query.caps.hops, Caps::MAX.hops),
        results: clamp.limit("max_results", query.caps.results, Caps::MAX.results),
        fanout_per_hop: clamp.limit(
            "max_fanout_per_hop",
            query.caps.fanout_per_hop,
            Caps::MAX.fanout_per_hop,
        ),
    };
    let mut session = Session::begin(connection, question).await?;
    let [start] = session.resolve([query.start]).await?;
    let (statement, bound) = statement(&types);
    let asked = sqlx::query(statement)
        .bind(Id(start.id))
        .bind(bound_limit(caps.hops))
        .bind(bound_limit(caps.results))
        .bind(bound_limit(caps.fanout_per_hop));
    let asked = if bound.is_some() { asked.bind(bound) } else { asked };
    let rows = asked
        .fetch_all(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))?;
    let elapsed_ms = session.end().await?;
    let mut answer = collect(&start, &rows, caps.results as usize)?;
    answer.meta.clamped = clamp.clamped;
    answer.meta.elapsed_ms = elapsed_ms;
    let more = if answer.meta.truncated { ", and more that a cap cut off" } else { "" };
    let (count, hops) = (answer.count, caps.hops);
    let (nodes, hop) =
        (if count == 1 { "node" } else { "nodes" }, if hops == 1 { "hop" } else { "hops" });
    answer.summary =
        format!("{count} {nodes} within {hops} {hop} of {} {}{more}", start.entity_type, start.id);
    Ok(answer)
}

/// The search for these types, and the types as it takes them, if any.
pub(super) fn statement(types: &Types) -> (&'static str, Option<Vec<String>>) {
    let bound = types.bound();
    let statement = match bound {
        None => include_str!("../sql/graph/k_hop.sql"),
        Some(_) => include_str!("../sql/graph/k_hop_typed.sql"),
    };
    (statement, bound)
}

/// Caps are small.
pub(super) fn bound_limit(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

fn collect(start: &Node, rows: &[PgRow], results_max: usize) -> Result<Answer> {
    let mut meta = Meta::default();
    let mut node_ids = Vec::new();
    let mut paths: Vec<Path> = Vec::new();
    let mut place_of: HashMap<Uuid, usize> = HashMap::new();
    let (mut fanout_hit, mut results_hit) = (false, false);
    for row in rows {
        fanout_hit |= row.try_get::<bool, _>("is_cut")?;
        let parent: Id = row.try_get("parent")?;
        let depth: i32 = row.try_get("depth")?;
        let found: Vec<Id> = row.try_get("found")?;
        let entity_types: Vec<String> = row.try_get("entity_types")?;
        let edge_types: Vec<String> = row.try_get("edge_types")?;
        let vias: Vec<Option<Id>> = row.try_get("vias")?;
        for (place, (id, (entity_type, edge_type))) in
            found.into_iter().zip(entity_types.into_iter().zip(edge_types)).enumerate()
        {
            if node_ids.len() == results_max {
                results_hit = true;
                break;
            }
            let before = place_of.get(&parent.0).and_then(|place| paths.get(*place));
            let mut path = before
                .cloned()
                .unwrap_or_else(|| Path { nodes: vec![start.clone()], rels: Vec::new() });
            let via = vias.get(place).copied().flatten().map(|via| passed(&edge_type, via.0));
            let node = Node { entity_type, id: id.0 };
            path.rels.push(Rel { edge_type, via });
            path.nodes.push(node.clone());
            place_of.insert(id.0, node_ids.len());
            node_ids.push(node);
            paths.push(path);
            meta.hops_used = meta.hops_used.max(u32::try_from(depth).unwrap_or(0));
        }
    }
    if results_hit {
        meta.caps_hit.push("max_results");
    }
    if fanout_hit {
        meta.caps_hit.push("max_fanout_per_hop");
    }
    meta.truncated = results_hit || fanout_hit;
    let count = node_ids.len();
    Ok(Answer { summary: String::new(), node_ids, paths, count, meta, stubs: Vec::new() })
}

/// What a virtual edge passes.
pub(super) fn passed(edge_type: &str, id: Uuid) -> Node {
    let entity_type = if edge_type == "same_studio" { "company" } else { "anime" };
    Node { entity_type: entity_type.to_owned(), id }
}

/// Relations of an anime whose targets are not stored yet; no traversal follows them.
///
/// # Errors
/// `Usage` for an unknown node or edge type, `TimedOut` past the deadline.
pub async fn stubs(
    connection: &mut PgConnection,
    start: Uuid,
    edge_types: &[String],
    limit: u32,
) -> Result<Vec<Stub>> {
    let types = Types::of(edge_types)?;
    let limit = limit.clamp(1, Caps::MAX.results);
    let mut session = Session::begin(connection, "stubs").await?;
    let [start] = session.resolve([start]).await?;
    let rows = sqlx::query(include_str!("../sql/graph/stubs.sql"))
        .bind(Id(start.id))
        .bind(types.bound())
        .bind(bound_limit(limit))
        .fetch_all(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))?;
    session.end().await?;
    rows.iter()
        .map(|row| {
            Ok(Stub {
                edge_type: row.try_get("edge_type")?,
                entity_type: row.try_get("entity_type")?,
                title: row.try_get("title")?,
                urls: row.try_get::<Option<Vec<String>>, _>("urls")?.unwrap_or_default(),
                ref_source: row.try_get("ref_source")?,
                ref_external_id: row.try_get("ref_external_id")?,
            })
        })
        .collect()
}
