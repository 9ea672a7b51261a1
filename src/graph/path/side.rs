//! One of the two searches of a path: what it met, and what it knows of the level after.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use sqlx::Row as _;
use uuid::Uuid;

use super::super::caps::Caps;
use super::super::session::{Id, Session};
use super::super::vocabulary::Types;
use crate::error::Result;

/// A level with more edges than this is searched in the server before any of it is fetched.
pub(super) const FETCHED_EDGES: i64 = 4_000;
/// Edges of a frontier that are fetched ahead, about.
const AHEAD_EDGES: i64 = 2_000;
/// Nodes of a frontier that are looked at one by one.
const LOOKED_AT: usize = 500;
/// Edges from which on a node counts as a hub, the fewer the more nodes there are.
const HUB_EDGES: RangeInclusive<i64> = 8..=64;

/// How a node was come by.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) parent: Uuid,
    pub(super) edge_type: String,
    pub(super) via: Option<Uuid>,
}

/// Edges of one type of one node: its place in the frontier from 1, and where they lead.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) place: i64,
    pub(super) edge_type: String,
    pub(super) to: Vec<(Uuid, Option<Uuid>)>,
}

/// What is known of a side's next level.
#[derive(Debug)]
pub(super) struct Ahead {
    /// All edges of those nodes of the frontier that are no hubs.
    pub(super) edges: Vec<Edges>,
    /// How many edges were looked at for that.
    pub(super) visited: i64,
    /// Places of the hubs.
    pub(super) hubs: Vec<i64>,
}

impl Ahead {
    /// From the first edges, one more than `hub_edges`, of each of so many nodes.
    fn new(mut edges: Vec<Edges>, nodes: usize, hub_edges: i64) -> Self {
        let mut counts = vec![0; nodes];
        for of_node in &edges {
            counts[index(of_node.place)] += i64::try_from(of_node.to.len()).unwrap_or(i64::MAX);
        }
        let is_hub = |place: i64| counts[index(place)] > hub_edges;
        edges.retain(|of_node| !is_hub(of_node.place));
        let places = 1..=i64::try_from(nodes).unwrap_or(i64::MAX);
        let hubs = places.filter(|place| is_hub(*place)).collect();
        Self { edges, visited: counts.iter().sum(), hubs }
    }

    /// Of so many nodes that they are not looked at.
    fn unknown(nodes: usize) -> Self {
        let hubs = (1..=i64::try_from(nodes).unwrap_or(i64::MAX)).collect();
        Self { edges: Vec::new(), visited: 0, hubs }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.hubs.is_empty()
    }
}

/// Where a place of SQL is.
pub(super) fn index(place: i64) -> usize {
    usize::try_from(place - 1).unwrap_or(0)
}

/// One of the two searches.
#[derive(Debug)]
pub(super) struct Side {
    /// Level and origins of each node met.
    pub(super) met: HashMap<Uuid, (u32, Vec<Origin>)>,
    pub(super) frontier: Vec<Uuid>,
    pub(super) level: u32,
    pub(super) types: Types,
    /// None until it is asked.
    pub(super) ahead: Option<Ahead>,
}

/// What the next level of a side takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) edges: i64,
    /// Whether they were counted to the end.
    pub(super) is_whole: bool,
}

impl Side {
    pub(super) fn new(root: Uuid, types: Types) -> Self {
        let met = HashMap::from([(root, (0, Vec::new()))]);
        Self { met, frontier: vec![root], level: 0, types, ahead: None }
    }

    /// Whether the node is on the frontier.
    pub(super) fn has_reached(&self, id: Uuid) -> bool {
        self.met.get(&id).is_some_and(|(level, _)| *level == self.level)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.ahead.as_ref().is_some_and(Ahead::is_whole)
    }

    /// The hubs of the frontier, as far as they are known.
    pub(super) fn hubs(&self) -> Vec<Uuid> {
        let places = self.ahead.iter().flat_map(|ahead| &ahead.hubs);
        places.map(|place| self.frontier[index(*place)]).collect()
    }

    /// How many edges the next level has: counted, or estimated from the first nodes of it.
    pub(super) async fn size(&self, session: &mut Session<'_>) -> Result<Size> {
        let statement = self.types.statement(
            include_str!("../../sql/graph/path_size.sql"),
            include_str!("../../sql/graph/path_size_typed.sql"),
        );
        let asked = sqlx::query(statement).bind(Id::all(&self.frontier)).bind(FETCHED_EDGES + 1);
        let rows = session.all(self.types.bound_to(asked)).await?;
        let Some(row) = rows.first() else { return Ok(Size { edges: 0, is_whole: true }) };
        let (edges, nodes): (i64, i64) = (row.try_get("edges")?, row.try_get("nodes")?);
        if edges <= FETCHED_EDGES {
            return Ok(Size { edges, is_whole: true });
        }
        let of = i64::try_from(self.frontier.len()).unwrap_or(i64::MAX);
        Ok(Size { edges: edges.saturating_mul(of) / nodes.max(1), is_whole: false })
    }

    /// The next level, from edges of the frontier.
    pub(super) fn advance(&mut self, edges: impl IntoIterator<Item = Edges>) {
        self.level += 1;
        self.ahead = None;
        let mut found = Vec::new();
        for of_node in edges {
            let parent = self.frontier[index(of_node.place)];
            for (id, via) in of_node.to {
                let (at, origins) = self.met.entry(id).or_insert_with(|| {
                    found.push(id);
                    (self.level, Vec::new())
                });
                let is_known = origins.iter().any(|origin| origin.parent == parent);
                if *at == self.level && !is_known && origins.len() <= Caps::CHAINS {
                    let edge_type = of_node.edge_type.clone();
                    origins.push(Origin { parent, edge_type, via });
                }
            }
        }
        found.sort_unstable();
        self.frontier = found;
    }

    /// Chains from a node back to the root, up to one more than are wanted.
    pub(super) fn chains(&self, from: Uuid) -> Vec<Vec<Uuid>> {
        let mut chains = vec![vec![from]];
        let levels = self.met.get(&from).map_or(0, |(level, _)| *level);
        for _ in 0..levels {
            let mut longer = Vec::new();
            for chain in &chains {
                let last = chain.last().and_then(|id| self.met.get(id));
                let mut parents: Vec<Uuid> =
                    last.iter().flat_map(|(_, origins)| origins).map(|o| o.parent).collect();
                parents.sort_unstable();
                for parent in parents {
                    if longer.len() > Caps::CHAINS {
                        break;
                    }
                    longer.push(chain.iter().copied().chain([parent]).collect());
                }
            }
            chains = longer;
        }
        chains
    }
}

/// Edges of the nodes, at most `each` of one node.
pub(super) async fn edges_of(
    session: &mut Session<'_>,
    types: &Types,
    nodes: &[Uuid],
    each: i64,
) -> Result<Vec<Edges>> {
    let statement = types.statement(
        include_str!("../../sql/graph/path_step.sql"),
        include_str!("../../sql/graph/path_step_typed.sql"),
    );
    let asked = sqlx::query(statement).bind(Id::all(nodes)).bind(each);
    session.all(types.bound_to(asked)).await?.iter().map(edges_in).collect()
}

/// A row of edges of one node and type.
pub(super) fn edges_in(row: &sqlx::postgres::PgRow) -> Result<Edges> {
    let to_ids: Vec<Id> = row.try_get("to_ids")?;
    let vias: Vec<Option<Id>> = row.try_get("vias")?;
    let via = |at: usize| vias.get(at).copied().flatten().map(|via| via.0);
    let to = to_ids.into_iter().enumerate().map(|(at, id)| (id.0, via(at))).collect();
    Ok(Edges { place: row.try_get("place")?, edge_type: row.try_get("edge_type")?, to })
}

/// Looks at the first edges of the frontiers of those sides of which nothing is known yet, in one
/// statement where they take the same types; how many edges that were.
pub(super) async fn look_ahead(session: &mut Session<'_>, sides: &mut [Side]) -> Result<i64> {
    let mut visited = 0;
    if let [start, end] = sides
        && start.types == Types::All
        && start.ahead.is_none()
        && end.ahead.is_none()
        && start.frontier.len() + end.frontier.len() <= LOOKED_AT
    {
        let nodes = [start.frontier.as_slice(), &end.frontier].concat();
        let hub_edges = hub_edges(nodes.len());
        let edges = edges_of(session, &start.types, &nodes, hub_edges + 1).await?;
        let first = i64::try_from(start.frontier.len()).unwrap_or(i64::MAX);
        let (of_start, mut of_end): (Vec<Edges>, Vec<Edges>) =
            edges.into_iter().partition(|of_node| of_node.place <= first);
        for of_node in &mut of_end {
            of_node.place -= first;
        }
        start.ahead = Some(Ahead::new(of_start, start.frontier.len(), hub_edges));
        end.ahead = Some(Ahead::new(of_end, end.frontier.len(), hub_edges));
        return Ok([start, end].iter().flat_map(|side| &side.ahead).map(|a| a.visited).sum());
    }
    for side in sides.iter_mut().filter(|side| side.ahead.is_none()) {
        let nodes = side.frontier.len();
        let ahead = if nodes > LOOKED_AT {
            Ahead::unknown(nodes)
        } else {
            let hub_edges = hub_edges(nodes);
            let edges = edges_of(session, &side.types, &side.frontier, hub_edges + 1).await?;
            Ahead::new(edges, nodes, hub_edges)
        };
        visited += ahead.visited;
        side.ahead = Some(ahead);
    }
    Ok(visited)
}

fn hub_edges(nodes: usize) -> i64 {
    let share = AHEAD_EDGES / i64::try_from(nodes.max(1)).unwrap_or(i64::MAX);
    share.clamp(*HUB_EDGES.start(), *HUB_EDGES.end())
}
