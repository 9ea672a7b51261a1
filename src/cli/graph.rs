//! `toolkit graph`: bounded questions to the graph, and its projection kept right.

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::record::{on_connection, shown};
use super::{Outcome, Output, Report, output};
use crate::config::{Format, Settings};
use crate::error::Result;
use crate::graph::lineage::{self, Lineage, Subject};
use crate::graph::reconcile::{self, Reconciled};
use crate::graph::{
    self, Answer, Caps, Comparison, KHop, Meta, Names, Node, Path, PathQuery, Stub,
};

/// Arguments of `toolkit graph`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Nodes are anime, characters, episodes, manga, original works and companies, by their ids (also as
anime:ID). A merged character answers as the one it was merged into. Zero results are a success.

Edge types: the relation types (SEQUEL, SIDE_STORY, ...; reversed, those without an inverse are
TYPE_OF), features / appears_in, studio | producer | licensor / produced, adapted_from /
was_adapted_to, has_episode / episode_of; and two virtual ones, same_studio and co_appears, which are
followed only where they are named. Without --edge-types all stored ones are.

However it is asked, nothing exceeds 5 hops, 50 results and 50 edges looked at per node; what was
asked beyond that is clamped and said. Each call has 2 s in the server; a timeout exits 2.

Examples:
  toolkit graph neighbors ID --stubs
  toolkit graph k-hop ID --edge-types SEQUEL,PREQUEL --max-hops 3
  toolkit graph path ID ID --dot | dot -Tsvg > path.svg
  toolkit --format json graph compare ID ID
  toolkit graph lineage artifact ID --down
  toolkit graph reconcile --repair")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What is adjacent to a node
    Neighbors {
        /// The node
        #[arg(value_name = "NODE", value_parser = node_id)]
        start: Uuid,
        #[command(flatten)]
        following: Following,
        /// Most nodes
        #[arg(long, value_name = "N", default_value_t = Caps::MAX.results)]
        limit: u32,
        /// Also relations whose target is not stored yet, with title and urls
        #[arg(long)]
        stubs: bool,
    },
    /// What lies within some hops of a node, nearest first
    KHop {
        /// The node
        #[arg(value_name = "NODE", value_parser = node_id)]
        start: Uuid,
        #[command(flatten)]
        following: Following,
        /// Most steps from the node
        #[arg(long, value_name = "N", default_value_t = Caps::MAX.hops)]
        max_hops: u32,
        /// Most nodes
        #[arg(long, value_name = "N", default_value_t = Caps::MAX.results)]
        max_results: u32,
        /// Most edges looked at per node
        #[arg(long, value_name = "N", default_value_t = Caps::MAX.fanout_per_hop)]
        max_fanout_per_hop: u32,
    },
    /// The shortest chains between two nodes, up to 10
    Path {
        /// Where they begin
        #[arg(value_name = "NODE", value_parser = node_id)]
        start: Uuid,
        /// Where they end
        #[arg(value_name = "NODE", value_parser = node_id)]
        end: Uuid,
        #[command(flatten)]
        following: Following,
        /// The longest chain
        #[arg(long, value_name = "N", default_value_t = Caps::MAX.hops)]
        max_hops: u32,
    },
    /// What two entities of one type say differently, and what they share
    Compare {
        /// The first
        #[arg(value_name = "NODE", value_parser = node_id)]
        a: Uuid,
        /// The second
        #[arg(value_name = "NODE", value_parser = node_id)]
        b: Uuid,
        /// Most shared connections
        #[arg(long, value_name = "N", default_value_t = Caps::MAX.results)]
        max_results: u32,
        /// Print a Graphviz document
        #[arg(long)]
        dot: bool,
    },
    /// What came from what, in the other packs
    Lineage {
        /// Whose
        subject: SubjectName,
        /// Its id
        id: String,
        /// Of an artifact: what was derived from it, not what it was derived from
        #[arg(long)]
        down: bool,
        /// Most steps; of media, hops
        #[arg(long, value_name = "N")]
        max_steps: Option<u32>,
        /// Print a Graphviz document
        #[arg(long)]
        dot: bool,
    },
    /// Find edges that are missing or too many; exits 1 where there are and none is repaired
    Reconcile {
        /// Add and remove them
        #[arg(long)]
        repair: bool,
    },
    /// Make all edges anew from the junction tables
    Rebuild {
        /// Say what would change and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Following {
    /// Edge types to follow, separated by commas
    #[arg(long, visible_alias = "edges", value_name = "TYPE,...", value_delimiter = ',')]
    edge_types: Vec<String>,
    /// Print a Graphviz document
    #[arg(long)]
    dot: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SubjectName {
    /// Pack webtoon
    Artifact,
    /// Pack webtoon: a style preset
    Style,
    /// Pack unified
    Run,
    /// Pack unified: a paper
    Document,
    /// Pack media
    Media,
}

/// `ID` or `TYPE:ID`.
fn node_id(given: &str) -> std::result::Result<Uuid, String> {
    let id = given.rsplit(':').next().unwrap_or(given);
    Uuid::try_parse(id).map_err(|_| format!("no uuid: {id:?}"))
}

/// Runs `toolkit graph`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Reconcile { repair } => reconcile_edges(repair, settings, output).await,
        Action::Rebuild { dry_run } => rebuild(dry_run, settings, output).await,
        question => {
            on_connection(settings, output, async |connection| {
                ask(question, connection, output).await
            })
            .await?;
            Ok(Outcome::Success)
        }
    }
}

async fn ask(action: Action, connection: &mut sqlx::PgConnection, output: &Output) -> Result<()> {
    let (answer, dot) = match action {
        Action::Neighbors { start, following, limit, stubs } => {
            let mut answer =
                graph::neighbors(connection, start, &following.edge_types, limit).await?;
            if stubs {
                answer.stubs =
                    graph::stubs(connection, start, &following.edge_types, limit).await?;
            }
            (answer, following.dot)
        }
        Action::KHop { start, following, max_hops, max_results, max_fanout_per_hop } => {
            let caps =
                Caps { hops: max_hops, results: max_results, fanout_per_hop: max_fanout_per_hop };
            let query = KHop { start, edge_types: following.edge_types, caps };
            (graph::k_hop(connection, &query).await?, following.dot)
        }
        Action::Path { start, end, following, max_hops } => {
            let query = PathQuery {
                edge_types: following.edge_types,
                hops_max: max_hops,
                ..PathQuery::new(start, end)
            };
            (graph::path(connection, &query).await?, following.dot)
        }
        Action::Compare { a, b, max_results, dot } => {
            let comparison = graph::compare(connection, a, b, max_results).await?;
            return compared(comparison, dot, connection, output).await;
        }
        Action::Lineage { subject, id, down, max_steps, dot } => {
            return traced(subject, &id, down, max_steps, dot, connection, output).await;
        }
        Action::Reconcile { .. } | Action::Rebuild { .. } => return Ok(()),
    };
    if !dot && output.format() == Format::Json {
        return output.json(&answer);
    }
    let names = graph::names(connection, &answer.all_ids()).await?;
    if dot {
        return output.line(graph::dot(None, &answer.node_ids, &answer.paths, &names));
    }
    output.line(answer_text(&answer, &names))
}

async fn compared(
    comparison: Comparison,
    dot: bool,
    connection: &mut sqlx::PgConnection,
    output: &Output,
) -> Result<()> {
    if !dot && output.format() == Format::Json {
        return output.json(&comparison);
    }
    let [a, b] = &comparison.entities;
    let mut ids: Vec<Uuid> = comparison.node_ids.iter().map(|node| node.id).collect();
    ids.extend([a.id, b.id]);
    let names = graph::names(connection, &ids).await?;
    if dot {
        return output.line(graph::dot(None, &[a.clone(), b.clone()], &comparison.paths, &names));
    }
    output.line(comparison_text(&comparison, &names))
}

async fn traced(
    subject: SubjectName,
    id: &str,
    down: bool,
    max_steps: Option<u32>,
    dot: bool,
    connection: &mut sqlx::PgConnection,
    output: &Output,
) -> Result<()> {
    let (subject, steps) = match (subject, down) {
        (SubjectName::Artifact, false) => (Subject::ArtifactUp, lineage::STEPS_MAX),
        (SubjectName::Artifact, true) => (Subject::ArtifactDown, lineage::STEPS_MAX),
        (SubjectName::Style, _) => (Subject::Style, lineage::STEPS_MAX),
        (SubjectName::Run, _) => (Subject::Run, lineage::STEPS_MAX),
        (SubjectName::Document, _) => (Subject::Document, lineage::STEPS_MAX),
        (SubjectName::Media, _) => (Subject::Media, Caps::MAX.hops),
    };
    let found = lineage::trace(connection, subject, id, max_steps.unwrap_or(steps)).await?;
    if dot { output.line(graph::lineage_dot(&found)) } else { output.report(&found) }
}

async fn reconcile_edges(repair: bool, settings: &Settings, output: &Output) -> Result<Outcome> {
    let found = on_connection(settings, output, async |connection| {
        reconcile::reconcile(connection, repair).await
    })
    .await?;
    output.report(&found)?;
    Ok(if found.drift.is_empty() || found.repaired {
        Outcome::Success
    } else {
        Outcome::Differences
    })
}

async fn rebuild(dry_run: bool, settings: &Settings, output: &Output) -> Result<Outcome> {
    if dry_run {
        let found = on_connection(settings, output, async |connection| {
            reconcile::reconcile(connection, false).await
        })
        .await?;
        output.report(&found)?;
        return Ok(Outcome::Success);
    }
    let (before, after) =
        on_connection(settings, output, async |connection| reconcile::rebuild(connection).await)
            .await?;
    output.report(&Rebuilt { edges_before: before, edges: after })?;
    Ok(Outcome::Success)
}

#[derive(Debug, Serialize)]
struct Rebuilt {
    edges_before: i64,
    edges: i64,
}

impl Report for Rebuilt {
    fn text(&self) -> String {
        format!("{} edges, there were {}", self.edges, self.edges_before)
    }
}

fn named(node: &Node, names: &Names) -> String {
    let name = names.get(&node.id).map_or_else(String::new, |name| shown(name));
    if name.is_empty() { format!("{} {}", node.entity_type, node.id) } else { name }
}

fn chain_text(path: &Path, names: &Names) -> String {
    let mut text = path.nodes.first().map_or_else(String::new, |node| named(node, names));
    for (rel, node) in path.rels.iter().zip(&path.nodes[1..]) {
        let via =
            rel.via.as_ref().map_or_else(String::new, |via| format!(" ({})", named(via, names)));
        text.push_str(&format!(" -{}{via}-> {}", rel.edge_type, named(node, names)));
    }
    text
}

fn answer_text(answer: &Answer, names: &Names) -> String {
    let mut text = answer.summary.clone();
    // Chains of a path search begin and end alike, and are longer than node_ids.
    let is_search = answer.paths.len() == answer.node_ids.len();
    if !answer.paths.is_empty() {
        let mut table = output::table(["hops", "type", "id", "how it was reached"]);
        for path in &answer.paths {
            let Some(last) = path.nodes.last() else { continue };
            table.add_row([
                path.rels.len().to_string(),
                last.entity_type.clone(),
                last.id.to_string(),
                chain_text(path, names),
            ]);
        }
        if !is_search {
            table = output::table(["hops", "chain"]);
            for path in &answer.paths {
                table.add_row([path.rels.len().to_string(), chain_text(path, names)]);
            }
        }
        text.push_str(&format!("\n\n{}", table.trim_fmt()));
    }
    if !answer.stubs.is_empty() {
        text.push_str(&format!("\n\nnot stored yet:\n{}", stubs_text(&answer.stubs)));
    }
    text.push_str(&format!("\n\n{}", meta_text(&answer.meta)));
    text
}

fn stubs_text(stubs: &[Stub]) -> String {
    let mut table = output::table(["edge", "type", "title", "urls"]);
    for stub in stubs {
        let reference = match (&stub.ref_source, &stub.ref_external_id) {
            (Some(source), Some(id)) if stub.urls.is_empty() => format!("{source} {id}"),
            _ => stub.urls.join(" "),
        };
        table.add_row([
            stub.edge_type.clone(),
            stub.entity_type.clone(),
            shown(stub.title.as_deref().unwrap_or_default()),
            shown(&reference),
        ]);
    }
    table.trim_fmt()
}

fn meta_text(meta: &Meta) -> String {
    let mut text = format!("{:.1} ms", meta.elapsed_ms);
    for clamped in &meta.clamped {
        text.push_str(&format!("; {} {} became {}", clamped.name, clamped.asked, clamped.used));
    }
    if !meta.caps_hit.is_empty() {
        text.push_str(&format!("; cut off by {}", meta.caps_hit.join(", ")));
    }
    text
}

fn comparison_text(comparison: &Comparison, names: &Names) -> String {
    let mut text = comparison.summary.clone();
    if !comparison.differences.is_empty() {
        let mut table = output::table(["field", "first", "second"]);
        for difference in &comparison.differences {
            let cell = |value: &serde_json::Value| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let short: String = text.chars().take(120).collect();
                if short.len() < text.len() {
                    format!("{}...", shown(&short))
                } else {
                    shown(&text)
                }
            };
            table.add_row([difference.field.clone(), cell(&difference.a), cell(&difference.b)]);
        }
        text.push_str(&format!("\n\n{}", table.trim_fmt()));
    }
    if !comparison.shared.is_empty() {
        let mut table = output::table(["both", "type", "id", "name"]);
        for shared in &comparison.shared {
            table.add_row([
                shared.edge_type.clone(),
                shared.node.entity_type.clone(),
                shared.node.id.to_string(),
                named(&shared.node, names),
            ]);
        }
        text.push_str(&format!("\n\n{}", table.trim_fmt()));
    }
    text.push_str(&format!("\n\n{}", meta_text(&comparison.meta)));
    text
}

impl Report for Lineage {
    fn text(&self) -> String {
        let mut table = output::table(["depth", "relation", "kind", "id", "label", "problem"]);
        for step in &self.steps {
            table.add_row([
                step.depth.to_string(),
                step.relation.clone(),
                step.kind.clone(),
                shown(&step.id),
                shown(step.label.as_deref().unwrap_or_default()),
                step.problem.clone().unwrap_or_default(),
            ]);
        }
        let effective = self
            .effective
            .as_ref()
            .map_or_else(String::new, |config| format!("\n\neffective config: {config}"));
        format!("{}\n\n{}{effective}\n\n{}", self.summary, table.trim_fmt(), meta_text(&self.meta))
    }
}

impl Report for Reconciled {
    fn text(&self) -> String {
        if self.drift.is_empty() {
            return format!("{} edges, as the junction tables have them", self.edges);
        }
        let mut table = output::table(["drift", "edge", "junction", "edges", "one of them"]);
        for drift in &self.drift {
            table.add_row([
                drift.drift.clone(),
                shown(&drift.edge_type),
                shown(&drift.origin),
                drift.edges.to_string(),
                shown(&drift.example),
            ]);
        }
        let end = if self.repaired {
            format!(
                "repaired: {} removed, {} added, {} edges now",
                self.removed, self.added, self.edges
            )
        } else {
            format!("{} edges; --repair makes them as the junction tables have them", self.edges)
        };
        format!("{}\n\n{end}", table.trim_fmt())
    }
}
