//! `path`: the shortest chains between two nodes, searched from both ends level by level.
//!
//! No fan-out is cut, or the answer would not be the shortest; instead the edges that are visited
//! have a budget. The side with fewer edges goes on. Of the hubs of both sides only those edges are
//! looked up that could join the two, and where even that is much, the server looks for them. Both
//! searches keep, per node, the nodes of the level before that lead to it, so that chains are read
//! off where they meet, and no other path is ever enumerated.

mod search;
mod side;

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::answer::{Answer, Meta, Node, Path, Rel};
use super::caps::{Caps, Clamp};
use super::k_hop::passed;
use super::session::{Id, Session};
use super::vocabulary::{MAKERS, Types};
use crate::error::Result;

use self::search::Search;

/// What is asked of [`path`].
#[derive(Debug, Clone)]
pub struct PathQuery {
    /// Where chains begin.
    pub start: Uuid,
    /// Where they end.
    pub end: Uuid,
    /// Edge types to follow; empty: all that are stored.
    pub edge_types: Vec<String>,
    /// The longest chain; beyond [`Caps::MAX`] it is clamped.
    pub hops_max: u32,
    /// Edges visited at most, those counted to choose a side not among them; beyond [`Caps::VISITED_EDGES`] it is clamped.
    pub visited_edges_max: u32,
}

impl PathQuery {
    /// At the greatest limits, all edge types.
    #[must_use]
    pub fn new(start: Uuid, end: Uuid) -> Self {
        Self {
            start,
            end,
            edge_types: Vec::new(),
            hops_max: Caps::MAX.hops,
            visited_edges_max: Caps::VISITED_EDGES,
        }
    }
}

/// Up to [`Caps::CHAINS`] of the shortest chains from start to end, each node sequence once.
/// Shortest they are, unless `truncated` says that the budget ended first; no chain is an answer.
///
/// # Errors
/// `Usage` for an unknown node or edge type, `TimedOut` past the deadline.
pub async fn path(connection: &mut PgConnection, query: &PathQuery) -> Result<Answer> {
    let types = Types::of(&query.edge_types)?;
    let mut clamp = Clamp::default();
    let hops_max = clamp.limit("max_hops", query.hops_max, Caps::MAX.hops);
    let budget = clamp.limit("max_visited_edges", query.visited_edges_max, Caps::VISITED_EDGES);
    let mut session = Session::begin(connection, "path").await?;
    let [start, end] = session.resolve([query.start, query.end]).await?;
    let mut search = Search::new(start.id, end.id, &types, i64::from(budget));
    let met = search.run(&mut session, hops_max).await?;
    let (sequences, more_chains) = search.sequences(&met);
    let paths = finish(&mut session, &start, &end, sequences, &search, &types).await?;
    let mut meta = Meta { clamped: clamp.clamped, truncated: search.is_cut, ..Meta::default() };
    if search.is_cut {
        meta.caps_hit.push("max_visited_edges");
    }
    if more_chains {
        meta.caps_hit.push("max_chains");
    }
    meta.elapsed_ms = session.end().await?;
    Ok(answer(&start, &end, hops_max, paths, meta))
}

fn answer(start: &Node, end: &Node, hops_max: u32, paths: Vec<Path>, mut meta: Meta) -> Answer {
    let mut node_ids: Vec<Node> = Vec::new();
    for node in paths.iter().flat_map(|path| &path.nodes) {
        if !node_ids.contains(node) {
            node_ids.push(node.clone());
        }
    }
    let length = paths.first().map_or(0, |path| path.rels.len());
    meta.hops_used = u32::try_from(length).unwrap_or(0);
    let ends = format!("{} {} to {} {}", start.entity_type, start.id, end.entity_type, end.id);
    let summary = match (paths.len(), meta.truncated) {
        (0, true) => format!("no chain found from {ends}: the budget of visited edges ended first"),
        (0, false) => format!("no chain of at most {hops_max} hops from {ends}"),
        (1, _) => format!("1 shortest chain, {length} hops, from {ends}"),
        (count, _) => format!("{count} shortest chains, {length} hops each, from {ends}"),
    };
    let count = paths.len();
    Answer { summary, node_ids, paths, count, meta, stubs: Vec::new() }
}

/// Node sequences as chains, with types of nodes and edges.
async fn finish(
    session: &mut Session<'_>,
    start: &Node,
    end: &Node,
    sequences: Vec<Vec<Uuid>>,
    search: &Search,
    types: &Types,
) -> Result<Vec<Path>> {
    let mut entity_types =
        HashMap::from([(start.id, start.entity_type.clone()), (end.id, end.entity_type.clone())]);
    let mut inner: Vec<Uuid> = sequences.iter().flatten().copied().collect();
    inner.sort_unstable();
    inner.dedup();
    inner.retain(|id| !entity_types.contains_key(id));
    if !inner.is_empty() {
        let asked =
            sqlx::query(include_str!("../../sql/graph/node_types.sql")).bind(Id::all(&inner));
        let rows = session.all(asked).await?;
        for row in &rows {
            let entity_type: Option<String> = row.try_get("entity_type")?;
            let id: Id = row.try_get("id")?;
            entity_types.insert(id.0, entity_type.unwrap_or_default());
        }
    }
    let mut unnamed: Vec<(Uuid, Uuid)> = sequences
        .iter()
        .flat_map(|sequence| sequence.windows(2).map(|pair| (pair[0], pair[1])))
        .filter(|(from, to)| search.step(*from, *to).0.is_none())
        .collect();
    unnamed.sort_unstable();
    unnamed.dedup();
    let makers = makers(session, &unnamed, types).await?;
    Ok(sequences
        .into_iter()
        .map(|sequence| {
            let rels = sequence.windows(2).map(|pair| {
                let (edge_type, via) = search.step(pair[0], pair[1]);
                let edge_type = edge_type.or_else(|| makers.get(&(pair[0], pair[1])).cloned());
                let edge_type = edge_type.unwrap_or_else(|| "studio".to_owned());
                let via = via.map(|via| passed(&edge_type, via));
                Rel { edge_type, via }
            });
            let rels = rels.collect();
            let nodes = sequence.iter().map(|id| Node {
                entity_type: entity_types.get(id).cloned().unwrap_or_default(),
                id: *id,
            });
            Path { nodes: nodes.collect(), rels }
        })
        .collect())
}

/// As what anime name the companies that a step back from those led to.
async fn makers(
    session: &mut Session<'_>,
    pairs: &[(Uuid, Uuid)],
    types: &Types,
) -> Result<HashMap<(Uuid, Uuid), String>> {
    if pairs.is_empty() {
        return Ok(HashMap::new());
    }
    let roles = MAKERS.iter().filter(|role| match types {
        Types::All => true,
        Types::Some(names) => names.contains(role),
    });
    let roles: Vec<String> = roles.map(|role| (*role).to_owned()).collect();
    let (anime, companies): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    let asked = sqlx::query(include_str!("../../sql/graph/path_makers.sql"));
    let asked = asked.bind(Id::all(&anime)).bind(Id::all(&companies)).bind(roles);
    let rows = session.all(asked).await?;
    let mut found = HashMap::new();
    for (row, pair) in rows.iter().zip(pairs) {
        if let Some(edge_type) = row.try_get::<Option<String>, _>("edge_type")? {
            found.insert(*pair, edge_type);
        }
    }
    Ok(found)
}
