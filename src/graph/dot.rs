//! Answers as Graphviz documents.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::answer::{Names, Node, Path};
use super::lineage::Lineage;

/// The nodes and edges of `paths` as a directed graph that `dot` reads.
#[must_use]
pub fn dot(start: Option<&Node>, nodes: &[Node], paths: &[Path], names: &Names) -> String {
    let mut text = String::from("digraph toolkit {\n  rankdir=LR;\n  node [shape=box];\n");
    let on_paths = paths.iter().flat_map(|path| &path.nodes);
    let all: BTreeSet<&Node> = on_paths.chain(nodes).chain(start).collect();
    for node in all {
        let name = names.get(&node.id).map_or_else(|| node.id.to_string(), Clone::clone);
        let label = quoted(&format!("{name}\n{}", node.entity_type));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {} [label={label}];", quoted(&node.id.to_string()));
    }
    let mut edges = BTreeSet::new();
    for path in paths {
        for (pair, rel) in path.nodes.windows(2).zip(&path.rels) {
            let style = if rel.via.is_some() { ", style=dashed" } else { "" };
            edges.insert(format!(
                "  {} -> {} [label={}{style}];\n",
                quoted(&pair[0].id.to_string()),
                quoted(&pair[1].id.to_string()),
                quoted(&rel.edge_type)
            ));
        }
    }
    text.extend(edges);
    text.push('}');
    text
}

/// A lineage as a directed graph that `dot` reads.
#[must_use]
pub fn lineage_dot(lineage: &Lineage) -> String {
    let mut text = String::from("digraph toolkit {\n  rankdir=LR;\n  node [shape=box];\n");
    let parents: std::collections::HashMap<&str, &str> =
        lineage.steps.iter().rev().map(|step| (step.id.as_str(), step.kind.as_str())).collect();
    let key = |kind: &str, id: &str| quoted(&format!("{kind} {id}"));
    for step in &lineage.steps {
        let name = step.label.as_deref().unwrap_or(&step.id);
        let label = quoted(&format!("{name}\n{}", step.kind));
        let _ = writeln!(text, "  {} [label={label}];", key(&step.kind, &step.id));
        let Some(parent) = &step.parent else { continue };
        let kind = parents.get(parent.as_str()).copied().unwrap_or(step.kind.as_str());
        let style = if step.problem.is_some() { ", color=red" } else { "" };
        let _ = writeln!(
            text,
            "  {} -> {} [label={}{style}];",
            key(kind, parent),
            key(&step.kind, &step.id),
            quoted(&step.relation)
        );
    }
    text.push('}');
    text
}

/// A quoted identifier of the DOT language: a quote is escaped, and so is a backslash, which
/// would otherwise begin an escape of labels; control characters go.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for letter in name.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            letter if letter.is_control() => text.push(' '),
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_its_quotes() {
        assert_eq!(quoted("a\"b\\\n]; x\u{1b}"), "\"a\\\"b\\\\\\n]; x \"");
    }
}
