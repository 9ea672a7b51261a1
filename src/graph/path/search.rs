//! The search for the shortest chains, from both ends.

use std::collections::HashSet;

use sqlx::Row as _;
use uuid::Uuid;

use super::super::caps::Caps;
use super::super::session::{Id, Session};
use super::super::vocabulary::{self, Types, VIRTUAL};
use super::side::{Edges, Origin, Side, edges_in, edges_of, index, look_ahead};
use crate::error::Result;

/// Pairs of nodes that are asked for an edge between them; more cost more than reading edges does.
const PROBED_PAIRS: i64 = 3_000;
/// Edges that are followed without a look at whether the other side has fewer.
const FEW_EDGES: i64 = 32;

pub(super) struct Search {
    sides: [Side; 2],
    budget: i64,
    /// Whether the budget ended.
    pub(super) is_cut: bool,
}

impl Search {
    pub(super) fn new(start: Uuid, end: Uuid, types: &Types, budget: i64) -> Self {
        let sides = [Side::new(start, types.clone()), Side::new(end, types.backwards())];
        Self { sides, budget, is_cut: false }
    }

    /// Looks for edges that join the two sides and takes one of them a level further, until there
    /// are some; the nodes where the sides meet.
    pub(super) async fn run(
        &mut self,
        session: &mut Session<'_>,
        hops_max: u32,
    ) -> Result<Vec<Uuid>> {
        if self.sides[1].met.contains_key(&self.sides[0].frontier[0]) {
            return Ok(vec![self.sides[0].frontier[0]]);
        }
        for left in (0..hops_max).rev() {
            if self.sides.iter().any(|side| side.frontier.is_empty()) {
                break;
            }
            let met = match self.join(session).await? {
                None => self.search(session, left > 0).await?,
                Some(met) => {
                    if met.is_empty() && !self.is_cut && left > 0 {
                        self.widen(session).await?;
                    }
                    met
                }
            };
            if !met.is_empty() || self.is_cut {
                return Ok(met);
            }
        }
        Ok(Vec::new())
    }

    fn visit(&mut self, edges: i64) {
        self.budget -= edges;
        self.is_cut |= self.budget < 0;
    }

    /// Where edges join the two frontiers. Every such edge is one of both ends, there and back: of a
    /// node with few edges it is seen among them, and hubs are asked for theirs. None where that
    /// would cost more than the edges themselves.
    async fn join(&mut self, session: &mut Session<'_>) -> Result<Option<Vec<Uuid>>> {
        if self.sides.iter().all(|side| side.ahead.is_none()) {
            self.look_ahead(session).await?;
        }
        let found = self.join_known(session).await?;
        if found.is_some() || self.sides.iter().all(|side| side.ahead.is_some()) {
            return Ok(found);
        }
        self.look_ahead(session).await?;
        self.join_known(session).await
    }

    async fn look_ahead(&mut self, session: &mut Session<'_>) -> Result<()> {
        let visited = look_ahead(session, &mut self.sides).await?;
        self.visit(visited);
        Ok(())
    }

    /// The same by what is known ahead of one side, or of both.
    async fn join_known(&mut self, session: &mut Session<'_>) -> Result<Option<Vec<Uuid>>> {
        if let Some(side) = self.sides.iter().position(Side::is_whole) {
            let joining = self.joining(side, |_| true);
            return Ok(Some(self.follow(side, joining)));
        }
        let Some(side) = self.sides.iter().position(|side| side.ahead.is_some()) else {
            return Ok(None);
        };
        let (this, other) = (&self.sides[side], &self.sides[1 - side]);
        let hubs = this.hubs();
        // Where nothing is known of the others, any of them may be a hub.
        let targets = other.ahead.as_ref().map_or_else(|| other.frontier.clone(), |_| other.hubs());
        let pairs = i64::try_from(hubs.len().saturating_mul(targets.len())).unwrap_or(i64::MAX);
        if pairs > PROBED_PAIRS || this.types != Types::All {
            return Ok(None);
        }
        let mut forward = self.joining(side, |_| true);
        let is_hub: HashSet<Uuid> = hubs.iter().copied().collect();
        let backward = self.joining(1 - side, |id| is_hub.contains(&id));
        forward.extend(self.probed(session, side, &hubs, &targets).await?);
        self.visit(pairs);
        let mut met = self.follow(side, forward);
        met.extend(self.follow(1 - side, backward));
        Ok(Some(met))
    }

    /// The edges of one side's hubs to those nodes.
    async fn probed(
        &self,
        session: &mut Session<'_>,
        side: usize,
        hubs: &[Uuid],
        targets: &[Uuid],
    ) -> Result<Vec<Edges>> {
        let asked = sqlx::query(include_str!("../../sql/graph/path_probe.sql"))
            .bind(Id::all(hubs))
            .bind(Id::all(targets));
        let places = self.sides[side].ahead.as_ref().map_or(&[][..], |ahead| &ahead.hubs);
        let rows = session.all(asked).await?;
        let edges = rows.iter().map(|row| {
            let mut edges = edges_in(row)?;
            // Its place among the hubs.
            edges.place = places[index(edges.place)];
            Ok(edges)
        });
        edges.collect()
    }

    /// The edges known of one side that lead to those nodes on the other's frontier.
    fn joining(&self, side: usize, is_wanted: impl Fn(Uuid) -> bool) -> Vec<Edges> {
        let (this, other) = (&self.sides[side], &self.sides[1 - side]);
        let known = this.ahead.iter().flat_map(|ahead| &ahead.edges);
        let is_joining = |id: Uuid| other.has_reached(id) && is_wanted(id);
        known
            .map(|of_node| Edges {
                place: of_node.place,
                edge_type: of_node.edge_type.clone(),
                to: of_node.to.iter().copied().filter(|(id, _)| is_joining(*id)).collect(),
            })
            .filter(|of_node| !of_node.to.is_empty())
            .collect()
    }

    /// Follows edges that join the sides; where they lead. None leave the side as it was.
    fn follow(&mut self, side: usize, joining: Vec<Edges>) -> Vec<Uuid> {
        if joining.is_empty() {
            return Vec::new();
        }
        self.sides[side].advance(joining);
        self.sides[side].frontier.clone()
    }

    /// Takes a side one level further, after no edge was found that joins them: the one with fewer
    /// edges, where that is known already.
    async fn widen(&mut self, session: &mut Session<'_>) -> Result<()> {
        let visited = |side: &Side| side.ahead.as_ref().map(|ahead| ahead.visited);
        let is_much = self.sides.iter().filter_map(visited).all(|edges| edges > FEW_EDGES);
        if is_much {
            self.look_ahead(session).await?;
            if self.is_cut {
                return Ok(());
            }
        }
        let whole = self.sides.iter_mut().filter(|side| side.is_whole());
        let fewest = whole.min_by_key(|side| visited(side));
        let Some(side) = fewest else { return self.search(session, true).await.map(|_| ()) };
        let edges = side.ahead.take().map_or_else(Vec::new, |ahead| ahead.edges);
        side.advance(edges);
        Ok(())
    }

    /// Looks for where the sides meet among all edges of the side that has fewer, and takes it
    /// further if that `is_worth_it`.
    async fn search(&mut self, session: &mut Session<'_>, is_worth_it: bool) -> Result<Vec<Uuid>> {
        let sizes = [self.sides[0].size(session).await?, self.sides[1].size(session).await?];
        let side = usize::from(sizes[1].edges < sizes[0].edges);
        if sizes[side].is_whole && sizes[side].edges <= self.budget {
            self.visit(sizes[side].edges);
            return self.advance(side, session).await;
        }
        let met = self.look(side, session).await?;
        if met.is_empty() && !self.is_cut && is_worth_it {
            self.advance(side, session).await?;
        }
        Ok(met)
    }

    /// Takes one side one level further; where it meets the other.
    async fn advance(&mut self, side: usize, session: &mut Session<'_>) -> Result<Vec<Uuid>> {
        let this = &mut self.sides[side];
        let each = i64::from(Caps::VISITED_EDGES);
        let edges = edges_of(session, &this.types, &this.frontier, each).await?;
        this.advance(edges);
        Ok(self.meeting(side))
    }

    /// Where the next level of one side meets the other, found in the server: of the edges looked at
    /// only those that lead there come here. Nothing met leaves the side as it was.
    async fn look(&mut self, side: usize, session: &mut Session<'_>) -> Result<Vec<Uuid>> {
        let (this, other) = (&self.sides[side], &self.sides[1 - side]);
        let statement = this.types.statement(
            include_str!("../../sql/graph/path_meet.sql"),
            include_str!("../../sql/graph/path_meet_typed.sql"),
        );
        // One more than is left tells whether there are more.
        let asked = sqlx::query(statement).bind(Id::all(&this.frontier));
        let asked = asked.bind(Id::all(&other.frontier)).bind(self.budget + 1);
        let rows = session.all(this.types.bound_to(asked)).await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        self.visit(row.try_get("visited")?);
        let places: Vec<i64> = row.try_get("places")?;
        let edge_types: Vec<String> = row.try_get("edge_types")?;
        let to_ids: Vec<Id> = row.try_get("to_ids")?;
        let vias: Vec<Option<Id>> = row.try_get("vias")?;
        let edges = places.into_iter().zip(edge_types).zip(to_ids).enumerate();
        let edges = edges.map(|(at, ((place, edge_type), id))| {
            let via = vias.get(at).copied().flatten().map(|via| via.0);
            Edges { place, edge_type, to: vec![(id.0, via)] }
        });
        Ok(self.follow(side, edges.collect()))
    }

    /// Where the frontier of one side lies on that of the other.
    fn meeting(&self, side: usize) -> Vec<Uuid> {
        let (widened, other) = (&self.sides[side], &self.sides[1 - side]);
        widened.frontier.iter().copied().filter(|id| other.has_reached(*id)).collect()
    }

    /// Node sequences from start to end over `meeting`, and whether there are more.
    pub(super) fn sequences(&self, meeting: &[Uuid]) -> (Vec<Vec<Uuid>>, bool) {
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
    pub(super) fn step(&self, from: Uuid, to: Uuid) -> (Option<String>, Option<Uuid>) {
        let [forward, backward] = &self.sides;
        let origin = |side: &Side, of: Uuid, parent: Uuid| -> Option<Origin> {
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
