//! `compare`: what two entities of one type say differently, and what both are connected with.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::answer::{Meta, Node};
use super::caps::{Caps, Clamp};
use super::k_hop::bound_limit;
use super::session::{Id, Session};
use super::vocabulary;
use crate::error::{Error, ErrorKind, Result};

/// A field whose values differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldDifference {
    /// The column.
    pub field: String,
    /// Of the first.
    pub a: Value,
    /// Of the second.
    pub b: Value,
}

/// What both are connected with by the same type of edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// From both of them.
    pub edge_type: String,
    /// To this.
    pub node: Node,
}

/// What [`compare`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// In one sentence.
    pub summary: String,
    /// The shared nodes, each once.
    pub node_ids: Vec<Node>,
    /// Chains that join the two: over each shared node, and directly.
    pub paths: Vec<super::Path>,
    /// Of `node_ids`.
    pub count: usize,
    /// Limits and time.
    pub meta: Meta,
    /// The two.
    pub entities: [Node; 2],
    /// Fields that are the same in both.
    pub equal_fields: Vec<String>,
    /// Fields that are not.
    pub differences: Vec<FieldDifference>,
    /// Edge types that lead from the first to the second.
    pub direct: Vec<String>,
    /// Shared connections, by edge type and id.
    pub shared: Vec<Shared>,
}

/// Compares two entities of one type; at most `results` shared connections.
///
/// # Errors
/// `Usage` for unknown nodes and for two types, `TimedOut` past the deadline.
pub async fn compare(
    connection: &mut PgConnection,
    a: Uuid,
    b: Uuid,
    results: u32,
) -> Result<Comparison> {
    let mut clamp = Clamp::default();
    let results = clamp.limit("max_results", results, Caps::MAX.results);
    let mut session = Session::begin(connection, "compare").await?;
    let [a, b] = session.resolve([a, b]).await?;
    if a.entity_type != b.entity_type {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{} is of type {}, {} of type {}", a.id, a.entity_type, b.id, b.entity_type),
        )
        .advice("only entities of one type can be compared"));
    }
    let [of_a, of_b] = scalars(&mut session, &a, &b).await?;
    let direct = direct(&mut session, &a, &b).await?;
    session.merge_joins().await?;
    let mut shared = shared(&mut session, &a, &b, results + 1).await?;
    let mut meta = Meta { clamped: clamp.clamped, ..Meta::default() };
    if shared.len() > results as usize {
        shared.truncate(results as usize);
        meta.caps_hit.push("max_results");
        meta.truncated = true;
    }
    meta.elapsed_ms = session.end().await?;
    let names = [name(&of_a, &a), name(&of_b, &b)];
    let (equal_fields, differences) = fields(of_a, &of_b);
    let summary = summary(
        &names,
        &a.entity_type,
        &equal_fields,
        &differences,
        &shared,
        &direct,
        meta.truncated,
    );
    let mut node_ids: Vec<Node> = Vec::new();
    for one in &shared {
        if !node_ids.contains(&one.node) {
            node_ids.push(one.node.clone());
        }
    }
    meta.hops_used = if shared.is_empty() { u32::from(!direct.is_empty()) } else { 2 };
    let paths = paths(&a, &b, &shared, &direct);
    let count = node_ids.len();
    Ok(Comparison {
        summary,
        node_ids,
        paths,
        count,
        meta,
        entities: [a, b],
        equal_fields,
        differences,
        direct,
        shared,
    })
}

fn paths(a: &Node, b: &Node, shared: &[Shared], direct: &[String]) -> Vec<super::Path> {
    let rel = |edge_type: &str| super::Rel { edge_type: edge_type.to_owned(), via: None };
    let straight = direct
        .iter()
        .map(|name| super::Path { nodes: vec![a.clone(), b.clone()], rels: vec![rel(name)] });
    let over = shared.iter().map(|one| super::Path {
        nodes: vec![a.clone(), one.node.clone(), b.clone()],
        rels: vec![rel(&one.edge_type), rel(vocabulary::inverse(&one.edge_type))],
    });
    straight.chain(over).collect()
}

async fn scalars(session: &mut Session<'_>, a: &Node, b: &Node) -> Result<[Map<String, Value>; 2]> {
    let statement = match a.entity_type.as_str() {
        "anime" => include_str!("../sql/graph/scalars_anime.sql"),
        "character" => include_str!("../sql/graph/scalars_character.sql"),
        "episode" => include_str!("../sql/graph/scalars_episode.sql"),
        "manga" => include_str!("../sql/graph/scalars_manga.sql"),
        "original_work" => include_str!("../sql/graph/scalars_original_work.sql"),
        "company" => include_str!("../sql/graph/scalars_company.sql"),
        _ => return Ok([Map::new(), Map::new()]),
    };
    let rows = sqlx::query(statement)
        .bind(Id(a.id))
        .bind(Id(b.id))
        .fetch_all(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))?;
    let mut found = [Map::new(), Map::new()];
    for row in &rows {
        let text: String = row.try_get("scalars")?;
        let fields: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|e| Error::new(ErrorKind::Bug, "to_jsonb gave no JSON object").because(e))?;
        let id = row.try_get::<Id, _>("id")?.0;
        for (node, place) in [a, b].into_iter().zip(&mut found) {
            if node.id == id {
                place.clone_from(&fields);
            }
        }
    }
    Ok(found)
}

async fn shared(session: &mut Session<'_>, a: &Node, b: &Node, limit: u32) -> Result<Vec<Shared>> {
    let rows = sqlx::query(include_str!("../sql/graph/compare_shared.sql"))
        .bind(Id(a.id))
        .bind(Id(b.id))
        .bind(bound_limit(limit))
        .bind(bound_limit(Caps::COMPARED_EDGES))
        .fetch_all(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))?;
    rows.iter()
        .map(|row| {
            let id = row.try_get::<Id, _>("to_id")?.0;
            let node = Node { entity_type: row.try_get("to_type")?, id };
            Ok(Shared { edge_type: row.try_get("edge_type")?, node })
        })
        .collect()
}

async fn direct(session: &mut Session<'_>, a: &Node, b: &Node) -> Result<Vec<String>> {
    let stored = vocabulary::allowed().filter(|name| !vocabulary::VIRTUAL.contains(name));
    let stored: Vec<String> = stored.map(str::to_owned).collect();
    sqlx::query_scalar(include_str!("../sql/graph/compare_direct.sql"))
        .bind(Id(a.id))
        .bind(Id(b.id))
        .bind(stored)
        .fetch_all(session.connection().await?)
        .await
        .map_err(|error| session.failed(error))
}

fn name(fields: &Map<String, Value>, node: &Node) -> String {
    let known = fields.get("title").or_else(|| fields.get("name")).and_then(Value::as_str);
    known.map_or_else(|| node.id.to_string(), |name| format!("{name:?}"))
}

fn fields(
    of_a: Map<String, Value>,
    of_b: &Map<String, Value>,
) -> (Vec<String>, Vec<FieldDifference>) {
    let (mut equal, mut different) = (Vec::new(), Vec::new());
    for (field, a) in of_a {
        let b = of_b.get(&field).cloned().unwrap_or_default();
        if a == b {
            equal.push(field);
        } else {
            different.push(FieldDifference { field, a, b });
        }
    }
    (equal, different)
}

fn summary(
    names: &[String; 2],
    entity_type: &str,
    equal: &[String],
    different: &[FieldDifference],
    shared: &[Shared],
    direct: &[String],
    is_truncated: bool,
) -> String {
    let [a, b] = names;
    let mut by_type: BTreeMap<&str, usize> = BTreeMap::new();
    for one in shared {
        *by_type.entry(&one.edge_type).or_default() += 1;
    }
    let counts: Vec<String> =
        by_type.iter().map(|(edge_type, count)| format!("{count} {edge_type}")).collect();
    let connections = match (shared.len(), is_truncated) {
        (0, _) => "share no connection".to_owned(),
        (count, false) => format!("share {count} connections ({})", counts.join(", ")),
        (count, true) => format!("share more than {count} connections ({})", counts.join(", ")),
    };
    let related = if direct.is_empty() {
        String::new()
    } else {
        format!("; the first leads to the second by {}", direct.join(", "))
    };
    format!(
        "{entity_type} {a} and {b} differ in {} of {} fields and {connections}{related}",
        different.len(),
        equal.len() + different.len()
    )
}
