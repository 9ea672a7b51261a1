//! Breadth-first search in this process, over petgraph, with the same caps and the same order.

use std::collections::{HashMap, HashSet, VecDeque};

use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use toolkit::graph::{Caps, KHop, PathQuery, k_hop, path};
use uuid::Uuid;

use super::scene::{self, Edges, id};

struct Oracle {
    graph: DiGraph<Uuid, &'static str>,
    nodes: HashMap<Uuid, NodeIndex>,
}

/// Depth, parent and edge type of a node found.
type Found = Vec<(Uuid, u32, Uuid, String)>;

impl Oracle {
    fn of(edges: &Edges) -> Self {
        let mut oracle = Self { graph: DiGraph::new(), nodes: HashMap::new() };
        for (from, name, to) in &edges.0 {
            let [from, to] = [*from, *to].map(|number| {
                let node = id(number);
                *oracle.nodes.entry(node).or_insert_with(|| oracle.graph.add_node(node))
            });
            oracle.graph.add_edge(from, to, name);
        }
        oracle
    }

    /// Edges of one stored type, sorted by target.
    fn of_type(&self, node: Uuid, name: &str) -> Vec<Uuid> {
        let edges = self.graph.edges(self.nodes[&node]).filter(|edge| *edge.weight() == name);
        let mut targets: Vec<Uuid> = edges.map(|edge| self.graph[edge.target()]).collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// Two steps as one: the first `fanout` nodes between, the first edges back of each.
    fn over(&self, node: Uuid, there: &str, back: &str, fanout: usize) -> Vec<Uuid> {
        let mut found = Vec::new();
        let between = self.of_type(node, there);
        for middle in between.into_iter().take(fanout) {
            let mut targets: Vec<Uuid> = match back {
                // Only who names it studio, not all that it produced.
                "<studio" => self
                    .of_type(middle, "produced")
                    .into_iter()
                    .filter(|anime| self.of_type(*anime, "studio").contains(&middle))
                    .collect(),
                name => self.of_type(middle, name),
            };
            targets.retain(|target| *target != node);
            for target in targets.into_iter().take(fanout + 1) {
                if !found.contains(&target) {
                    found.push(target);
                }
            }
        }
        found
    }

    /// What leaves a node, in order, one more than may be looked at.
    fn leaving(&self, node: Uuid, types: &[&'static str], fanout: usize) -> Vec<(String, Uuid)> {
        let mut edges: Vec<(String, Uuid)> = Vec::new();
        if types.is_empty() {
            let all = self.graph.edges(self.nodes[&node]);
            edges = all.map(|e| ((*e.weight()).to_owned(), self.graph[e.target()])).collect();
            edges.sort();
            edges.dedup();
        }
        for name in types {
            let targets = match *name {
                "same_studio" => self.over(node, "studio", "<studio", fanout),
                "co_appears" => self.over(node, "appears_in", "features", fanout),
                name => self.of_type(node, name),
            };
            edges.extend(targets.into_iter().map(|target| ((*name).to_owned(), target)));
        }
        edges.truncate(fanout + 1);
        edges
    }

    fn k_hop(&self, start: Uuid, types: &[&'static str], caps: Caps) -> (Found, bool) {
        let fanout = caps.fanout_per_hop as usize;
        let mut seen = HashSet::from([start]);
        let mut queue = VecDeque::from([(start, 0)]);
        let (mut found, mut cut): (Found, bool) = (Vec::new(), false);
        while let Some((node, depth)) = queue.pop_front() {
            let enough = caps.results as usize + usize::from(!cut);
            if depth == caps.hops || found.len() >= enough {
                break;
            }
            let leaving = self.leaving(node, types, fanout);
            cut |= leaving.len() > fanout;
            for (name, target) in leaving.into_iter().take(fanout) {
                if seen.insert(target) {
                    found.push((target, depth + 1, node, name));
                    queue.push_back((target, depth + 1));
                }
            }
        }
        cut |= found.len() > caps.results as usize;
        found.truncate(caps.results as usize);
        (found, cut)
    }

    /// Shortest distances, without any cap.
    fn distances(&self, start: Uuid, types: &[&'static str]) -> HashMap<Uuid, u32> {
        let allowed = |name: &&str| types.is_empty() || types.contains(name);
        let graph =
            self.graph.filter_map(|_, node| Some(*node), |_, name| allowed(name).then_some(*name));
        let found = dijkstra(&graph, self.nodes[&start], None, |_| 1_u32);
        found.into_iter().map(|(node, distance)| (graph[node], distance)).collect()
    }
}

fn cases() -> usize {
    std::env::var("TOOLKIT_ORACLE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_400)
}

const TYPES: [&[&str]; 7] = [
    &[],
    &[],
    &["SEQUEL"],
    &["OTHER", "SPIN_OFF", "SPIN_OFF_OF"],
    &["co_appears", "same_studio"],
    &["features", "produced", "studio"],
    &["PREQUEL", "SEQUEL", "producer", "produced"],
];

fn text(types: &[&str]) -> Vec<String> {
    types.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn k_hop_finds_what_a_breadth_first_search_with_the_same_caps_finds_in_the_same_order() {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let seed = 20_261_121;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let per_graph = 60;
    let (mut unlimited, mut limited) = (0, 0);
    for round in 0..cases() / per_graph {
        let nodes = [2, 5, 30, 300, 900][rng.random_range(0..5)];
        let edges = Edges::of_shape(&mut rng, round % 6, nodes);
        edges.load(&mut connection).await;
        let oracle = Oracle::of(&edges);
        let all: Vec<Uuid> = oracle.graph.node_weights().copied().collect();
        if all.is_empty() {
            continue;
        }
        for case in 0..per_graph {
            let start = all[rng.random_range(0..all.len())];
            let types = TYPES[rng.random_range(0..TYPES.len())];
            let caps = Caps {
                hops: rng.random_range(1..=5),
                results: if rng.random_bool(0.5) { 50 } else { rng.random_range(1..=50) },
                fanout_per_hop: if rng.random_bool(0.5) { 50 } else { rng.random_range(1..=8) },
            };
            let query = KHop { start, edge_types: text(types), caps };
            let answer = k_hop(&mut connection, &query).await.unwrap();
            let (wanted, cut) = oracle.k_hop(start, types, caps);
            let found: Found = answer
                .node_ids
                .iter()
                .zip(&answer.paths)
                .map(|(node, path)| {
                    let length = path.rels.len();
                    assert_eq!((path.nodes[0].id, path.nodes[length].id), (start, node.id));
                    let depth = u32::try_from(length).unwrap();
                    let rel = path.rels[length - 1].edge_type.clone();
                    (node.id, depth, path.nodes[length - 1].id, rel)
                })
                .collect();
            let place = format!("seed {seed}, round {round}, case {case}: {query:?}");
            assert_eq!(found, wanted, "{place}");
            assert_eq!(answer.meta.truncated, cut, "{place}");
            let is_virtual = types.contains(&"same_studio");
            if !cut && !is_virtual {
                // Nothing was cut: the distances of the whole graph.
                let mut distances = oracle.distances(start, types);
                distances.retain(|_, distance| (1..=caps.hops).contains(distance));
                let depths: HashMap<Uuid, u32> =
                    found.iter().map(|(node, depth, ..)| (*node, *depth)).collect();
                assert_eq!(depths, distances, "{place}");
                unlimited += 1;
            }
            limited += usize::from(cut);
        }
    }
    assert!(unlimited > cases() / 10 && limited > cases() / 10, "{unlimited} {limited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn path_finds_the_shortest_chains_or_says_that_its_budget_ended() {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let seed = 7_2026;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let per_graph = 60;
    let (mut found_some, mut found_none, mut cut) = (0, 0, 0);
    for round in 0..cases() / per_graph / 2 {
        let nodes = [2, 8, 40, 300, 900][rng.random_range(0..5)];
        let edges = Edges::of_shape(&mut rng, round % 6, nodes);
        edges.load(&mut connection).await;
        let oracle = Oracle::of(&edges);
        let all: Vec<Uuid> = oracle.graph.node_weights().copied().collect();
        if all.is_empty() {
            continue;
        }
        for case in 0..per_graph {
            let start = all[rng.random_range(0..all.len())];
            let end = all[rng.random_range(0..all.len())];
            let types = TYPES[rng.random_range(0..TYPES.len())];
            if types.contains(&"same_studio") {
                continue;
            }
            let hops_max = rng.random_range(1..=5);
            let visited_edges_max =
                if rng.random_bool(0.8) { 60_000 } else { rng.random_range(1..40) };
            let query =
                PathQuery { start, end, edge_types: text(types), hops_max, visited_edges_max };
            let answer = path(&mut connection, &query).await.unwrap();
            let place = format!("seed {seed}, round {round}, case {case}: {query:?}");
            let wanted =
                oracle.distances(start, types).get(&end).copied().filter(|d| *d <= hops_max);
            for chain in &answer.paths {
                assert_eq!(Some(u32::try_from(chain.rels.len()).unwrap()), wanted, "{place}");
                assert_eq!((chain.nodes[0].id, chain.nodes.last().unwrap().id), (start, end));
                for (pair, rel) in chain.nodes.windows(2).zip(&chain.rels) {
                    let targets = oracle.of_type(pair[0].id, &rel.edge_type);
                    assert!(targets.contains(&pair[1].id), "{place}: {chain:?}");
                    assert!(types.is_empty() || types.contains(&rel.edge_type.as_str()), "{place}");
                }
            }
            let sequences: HashSet<Vec<Uuid>> = answer
                .paths
                .iter()
                .map(|chain| chain.nodes.iter().map(|node| node.id).collect())
                .collect();
            assert_eq!(sequences.len(), answer.paths.len(), "{place}");
            if answer.meta.truncated {
                cut += 1;
                continue;
            }
            assert_eq!(answer.paths.is_empty(), wanted.is_none(), "{place}");
            // All shortest chains, or ten of them.
            let all_shortest = wanted.map_or(0, |length| oracle.chains(start, end, types, length));
            assert_eq!(answer.paths.len(), all_shortest.min(10), "{place}");
            found_some += usize::from(wanted.is_some());
            found_none += usize::from(wanted.is_none());
        }
    }
    assert!(found_some > 100 && found_none > 100 && cut > 20, "{found_some} {found_none} {cut}");
}

impl Oracle {
    /// How many node sequences of this shortest length there are.
    fn chains(&self, start: Uuid, end: Uuid, types: &[&'static str], length: u32) -> usize {
        let mut ways: HashMap<Uuid, usize> = HashMap::from([(start, 1)]);
        for _ in 0..length {
            let mut next: HashMap<Uuid, usize> = HashMap::new();
            for (node, count) in ways {
                let edges = self.graph.edges(self.nodes[&node]);
                let targets: HashSet<Uuid> = edges
                    .filter(|edge| types.is_empty() || types.contains(edge.weight()))
                    .map(|edge| self.graph[edge.target()])
                    .collect();
                for target in targets {
                    let ways = next.entry(target).or_default();
                    *ways = ways.saturating_add(count);
                }
            }
            ways = next;
        }
        ways.get(&end).copied().unwrap_or(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_edge_is_one_hop_of_a_path_and_names_what_it_passes() {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let mut edges = Edges::default();
    // 1 and 2 share studio 10, 2 and 3 share studio 11; 4 is only produced by 11.
    for (anime, company) in [(1, 10), (2, 10), (2, 11), (3, 11)] {
        edges.join(anime, company, ("studio", "produced"));
    }
    edges.join(4, 11, ("producer", "produced"));
    edges.load(&mut connection).await;
    let types = text(&["same_studio"]);
    let query = PathQuery { edge_types: types.clone(), ..PathQuery::new(id(1), id(3)) };
    let answer = path(&mut connection, &query).await.unwrap();
    assert_eq!((answer.count, answer.meta.hops_used), (1, 2));
    let via: Vec<Uuid> =
        answer.paths[0].rels.iter().map(|rel| rel.via.as_ref().unwrap().id).collect();
    assert_eq!(via, [id(10), id(11)]);
    let none = PathQuery { edge_types: types.clone(), ..PathQuery::new(id(1), id(4)) };
    assert_eq!(path(&mut connection, &none).await.unwrap().count, 0);
    let query = KHop { edge_types: types, ..KHop::new(id(2)) };
    let answer = k_hop(&mut connection, &query).await.unwrap();
    assert_eq!((answer.count, answer.meta.hops_used), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_of_a_hundred_thousand_nodes_is_answered_as_the_oracle_does() {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let edges = Edges::of_shape(&mut rng, 0, 100_000);
    edges.load(&mut connection).await;
    let oracle = Oracle::of(&edges);
    for number in (0..20).chain(90_000..90_020) {
        if !oracle.nodes.contains_key(&id(number)) {
            continue;
        }
        let answer = k_hop(&mut connection, &KHop::new(id(number))).await.unwrap();
        let (wanted, _) = oracle.k_hop(id(number), &[], Caps::MAX);
        let found: Vec<Uuid> = answer.node_ids.iter().map(|node| node.id).collect();
        assert_eq!(found, wanted.iter().map(|found| found.0).collect::<Vec<_>>(), "{number}");
    }
}
