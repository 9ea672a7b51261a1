//! `path`: the shortest chains between two nodes, searched from both ends level by level.
//!
//! No fan-out is cut, or the answer would not be the shortest; instead the edges that are visited
//! have a budget. The side with fewer edges goes on, and where even that has many, the server looks
//! for those that lead to the other side. Both searches keep, per node, the nodes of the level before that lead to it, so
//! that chains are read off where they meet, and no other path is ever enumerated.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::answer::{Answer, Meta, Node, Path, Rel};
use super::caps::{Caps, Clamp};
use super::k_hop::passed;
use super::session::{Id, Session};
use super::vocabulary::{self, MAKERS, Types, VIRTUAL};
use crate::error::Result;

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
    let start = session.resolve(query.start).await?;
    let end = session.resolve(query.end).await?;
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

/// How a node was come by.
#[derive(Debug, Clone)]
struct Origin {
    parent: Uuid,
    edge_type: String,
    via: Option<Uuid>,
}

/// One of the two searches.
#[derive(Debug)]
struct Side {
    /// Level and origins of each node met.
    met: HashMap<Uuid, (u32, Vec<Origin>)>,
    frontier: Vec<Uuid>,
    level: u32,
    types: Types,
}

impl Side {
    fn new(root: Uuid, types: Types) -> Self {
        let met = HashMap::from([(root, (0, Vec::new()))]);
        Self { met, frontier: vec![root], level: 0, types }
    }

    /// How many edges the next level has: counted, or estimated from the first nodes of it.
    async fn size(&self, session: &mut Session<'_>) -> Result<Size> {
        let statement = self.types.statement(
            include_str!("../sql/graph/path_size.sql"),
            include_str!("../sql/graph/path_size_typed.sql"),
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

    /// The next level, from edges by place in the frontier, type, node and what is passed.
    fn advance<'s>(&mut self, steps: impl IntoIterator<Item = (i64, &'s str, Id, Option<Id>)>) {
        self.level += 1;
        let mut found = Vec::new();
        for (place, edge_type, id, via) in steps {
            let parent = self.frontier[usize::try_from(place - 1).unwrap_or(0)];
            let (at, origins) = self.met.entry(id.0).or_insert_with(|| {
                found.push(id.0);
                (self.level, Vec::new())
            });
            let is_known = origins.iter().any(|origin| origin.parent == parent);
            if *at == self.level && !is_known && origins.len() <= Caps::CHAINS {
                let via = via.map(|via| via.0);
                origins.push(Origin { parent, edge_type: edge_type.to_owned(), via });
            }
        }
        found.sort_unstable();
        self.frontier = found;
    }
}

/// A level with more edges than this is searched in the server before any of it is fetched.
const FETCHED_EDGES: i64 = 4_000;

/// What the next level of a side takes.
#[derive(Debug, Clone, Copy)]
struct Size {
    edges: i64,
    /// Whether they were counted to the end.
    is_whole: bool,
}

struct Search {
    sides: [Side; 2],
    budget: i64,
    /// Whether the budget ended.
    is_cut: bool,
}

impl Search {
    fn new(start: Uuid, end: Uuid, types: &Types, budget: i64) -> Self {
        let sides = [Side::new(start, types.clone()), Side::new(end, types.backwards())];
        Self { sides, budget, is_cut: false }
    }

    /// Takes the side with fewer edges a level further until both meet; the nodes where they do, in
    /// order of their ids.
    async fn run(&mut self, session: &mut Session<'_>, hops_max: u32) -> Result<Vec<Uuid>> {
        if self.sides[1].met.contains_key(&self.sides[0].frontier[0]) {
            return Ok(vec![self.sides[0].frontier[0]]);
        }
        for left in (0..hops_max).rev() {
            if self.sides.iter().any(|side| side.frontier.is_empty()) {
                break;
            }
            let sizes = [self.sides[0].size(session).await?, self.sides[1].size(session).await?];
            let side = usize::from(sizes[1].edges < sizes[0].edges);
            let met = if sizes[side].is_whole && sizes[side].edges <= self.budget {
                self.budget -= sizes[side].edges;
                self.widen(side, session).await?
            } else {
                let met = self.look(side, session).await?;
                if met.is_empty() && !self.is_cut && left > 0 {
                    self.widen(side, session).await?;
                }
                met
            };
            if !met.is_empty() || self.is_cut {
                return Ok(met);
            }
        }
        Ok(Vec::new())
    }

    /// Takes one side one level further; where it meets the other.
    async fn widen(&mut self, side: usize, session: &mut Session<'_>) -> Result<Vec<Uuid>> {
        let this = &mut self.sides[side];
        let statement = this.types.statement(
            include_str!("../sql/graph/path_step.sql"),
            include_str!("../sql/graph/path_step_typed.sql"),
        );
        let asked = sqlx::query(statement).bind(Id::all(&this.frontier));
        let asked = asked.bind(i64::from(Caps::VISITED_EDGES));
        let rows = session.all(this.types.bound_to(asked)).await?;
        let mut steps = Vec::new();
        for row in &rows {
            let place: i64 = row.try_get("place")?;
            let edge_type: &str = row.try_get("edge_type")?;
            let vias: Vec<Option<Id>> = row.try_get("vias")?;
            let to_ids: Vec<Id> = row.try_get("to_ids")?;
            for (at, id) in to_ids.into_iter().enumerate() {
                steps.push((place, edge_type, id, vias.get(at).copied().flatten()));
            }
        }
        this.advance(steps);
        Ok(self.meeting(side))
    }

    /// Where the next level of one side meets the other, found in the server: of the edges looked at
    /// only those that lead there come here. Nothing met leaves the side as it was.
    async fn look(&mut self, side: usize, session: &mut Session<'_>) -> Result<Vec<Uuid>> {
        let [this, other] = match &mut self.sides {
            [start, end] if side == 0 => [start, end],
            [start, end] => [end, start],
        };
        let statement = this.types.statement(
            include_str!("../sql/graph/path_meet.sql"),
            include_str!("../sql/graph/path_meet_typed.sql"),
        );
        // One more than is left tells whether there are more.
        let asked = sqlx::query(statement).bind(Id::all(&this.frontier));
        let asked = asked.bind(Id::all(&other.frontier)).bind(self.budget + 1);
        let rows = session.all(this.types.bound_to(asked)).await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        self.budget -= row.try_get::<i64, _>("visited")?;
        self.is_cut = self.budget < 0;
        let places: Vec<i64> = row.try_get("places")?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let edge_types: Vec<String> = row.try_get("edge_types")?;
        let to_ids: Vec<Id> = row.try_get("to_ids")?;
        let vias: Vec<Option<Id>> = row.try_get("vias")?;
        let steps = places.into_iter().zip(&edge_types).zip(to_ids).enumerate();
        let steps = steps.map(|(at, ((place, edge_type), id))| {
            (place, edge_type.as_str(), id, vias.get(at).copied().flatten())
        });
        this.advance(steps);
        Ok(self.meeting(side))
    }

    /// Where the frontier of one side lies on that of the other.
    fn meeting(&self, side: usize) -> Vec<Uuid> {
        let (widened, other) = (&self.sides[side], &self.sides[1 - side]);
        let is_met = |id: &Uuid| other.met.get(id).is_some_and(|(level, _)| *level == other.level);
        widened.frontier.iter().copied().filter(is_met).collect()
    }

    /// Node sequences from start to end over `meeting`, and whether there are more.
    fn sequences(&self, meeting: &[Uuid]) -> (Vec<Vec<Uuid>>, bool) {
        let mut sequences = Vec::new();
        for middle in meeting {
            for before in self.sides[0].chains(*middle) {
                for behind in self.sides[1].chains(*middle) {
                    if sequences.len() == Caps::CHAINS {
                        return (sequences, true);
                    }
                    let mut sequence: Vec<Uuid> = before.iter().rev().copied().collect();
                    sequence.extend(&behind[1..]);
                    sequences.push(sequence);
                }
            }
        }
        (sequences, false)
    }

    /// The type of the step from one node of a sequence to the next; none where it has to be asked.
    fn step(&self, from: Uuid, to: Uuid) -> (Option<String>, Option<Uuid>) {
        let [forward, backward] = &self.sides;
        let origin = |side: &Side, of: Uuid, parent: Uuid| {
            let (_, origins) = side.met.get(&of)?;
            origins.iter().find(|origin| origin.parent == parent).cloned()
        };
        if let Some(origin) = origin(forward, to, from) {
            return (Some(origin.edge_type), origin.via);
        }
        let Some(origin) = origin(backward, from, to) else { return (None, None) };
        let edge_type = match origin.edge_type.as_str() {
            "produced" => None,
            name if VIRTUAL.contains(&name) => Some(name.to_owned()),
            name => {
                Some(name.strip_prefix('<').unwrap_or_else(|| vocabulary::inverse(name)).to_owned())
            }
        };
        (edge_type, origin.via)
    }
}

impl Side {
    /// Chains from a node back to the root, up to one more than are wanted.
    fn chains(&self, from: Uuid) -> Vec<Vec<Uuid>> {
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
        let asked = sqlx::query(include_str!("../sql/graph/node_types.sql")).bind(Id::all(&inner));
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
    let asked = sqlx::query(include_str!("../sql/graph/path_makers.sql"));
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
