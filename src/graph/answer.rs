//! What the primitives answer.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

/// Names of nodes, for people.
pub type Names = BTreeMap<Uuid, String>;

/// An entity in the graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// anime, character, episode, manga, `original_work` or company.
    pub entity_type: String,
    /// Its canonical id.
    pub id: Uuid,
}

/// An edge of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rel {
    /// From the node before to the node behind it.
    pub edge_type: String,
    /// What a virtual edge passes: the studio, or the anime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Node>,
}

/// A chain of nodes; `rels[i]` leads from `nodes[i]` to `nodes[i + 1]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Path {
    /// From the start on.
    pub nodes: Vec<Node>,
    /// One less than nodes.
    pub rels: Vec<Rel>,
}

/// A limit that was asked for and is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clamped {
    /// Of the argument.
    pub name: &'static str,
    /// By the caller.
    pub asked: u32,
    /// Instead.
    pub used: u32,
}

/// How an answer came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Meta {
    /// The greatest distance in the answer.
    pub hops_used: u32,
    /// Which limits cut something off.
    pub caps_hit: Vec<&'static str>,
    /// Which limits were asked for beyond what is done, or below 1.
    pub clamped: Vec<Clamped>,
    /// From the first statement to the last, in milliseconds.
    pub elapsed_ms: f64,
    /// Whether there is more than the answer says.
    pub truncated: bool,
}

/// An edge whose target is known by references only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stub {
    /// How it is related.
    pub edge_type: String,
    /// What its target will be.
    pub entity_type: String,
    /// The target's title.
    pub title: Option<String>,
    /// Where the target is described.
    pub urls: Vec<String>,
    /// The platform of its best reference.
    pub ref_source: Option<String>,
    /// Its id there.
    pub ref_external_id: Option<String>,
}

/// Of `neighbors`, `k_hop` and `path`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// In one sentence.
    pub summary: String,
    /// The nodes found, nearest first, each once, the start excepted; of `path`, all nodes on
    /// its chains.
    pub node_ids: Vec<Node>,
    /// How each node was reached, in the order of `node_ids`; of `path`, its chains.
    pub paths: Vec<Path>,
    /// Of `node_ids`; of `path`, of its chains.
    pub count: usize,
    /// Limits and time.
    pub meta: Meta,
    /// Unresolved edges, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<Stub>,
}

impl Answer {
    /// Every node there is a name wanted for.
    #[must_use]
    pub fn all_ids(&self) -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = self.node_ids.iter().map(|node| node.id).collect();
        for path in &self.paths {
            ids.extend(path.nodes.iter().map(|node| node.id));
            ids.extend(path.rels.iter().filter_map(|rel| Some(rel.via.as_ref()?.id)));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
