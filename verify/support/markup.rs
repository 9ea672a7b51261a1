//! A strict reader of the HTML and XML the toolkit writes: tags balance, attributes are quoted,
//! `<`, `>` and `&` stand for nothing but themselves.

use std::collections::BTreeMap;

/// An element in document order, with the text directly and deeply in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// All text inside, entities resolved.
    pub(crate) text: String,
    /// Where its tag begins.
    pub(crate) at: usize,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.attribute("class").split(' ').any(|one| one == class)
    }
}

/// Elements that have no end tag in HTML.
const VOID: [&str; 2] = ["meta", "input"];

/// Reads a document; panics where it is not well-formed.
pub(crate) fn elements(document: &str) -> Vec<Element> {
    let mut all: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut rest = document;
    while let Some(start) = rest.find('<') {
        let text = unescape(&rest[..start]);
        for index in &open {
            all[*index].text.push_str(&text);
        }
        let at = document.len() - rest.len() + start;
        rest = &rest[start..];
        let end = rest.find('>').unwrap_or_else(|| panic!("an open tag: {}", near(rest)));
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['!', '?']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let index = open.pop().unwrap_or_else(|| panic!("</{name}> closes nothing"));
            assert_eq!(all[index].name, name, "near {}", near(&document[at..]));
            continue;
        }
        let (tag, closes) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let element = element(tag, at);
        let name = element.name.clone();
        all.push(element);
        if name == "script" || name == "style" {
            let end = rest.find(&format!("</{name}>")).expect("the end of raw text");
            let last = all.len() - 1;
            rest[..end].clone_into(&mut all[last].text);
            rest = &rest[end + name.len() + 3..];
        } else if !closes && !VOID.contains(&name.as_str()) {
            open.push(all.len() - 1);
        }
    }
    assert!(!rest.contains('>'), "{}", near(rest));
    assert!(open.is_empty(), "unclosed: {}", all[open[0]].name);
    all
}

fn near(text: &str) -> String {
    text.chars().take(120).collect()
}

fn element(tag: &str, at: usize) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "<{tag}>");
    let mut element = Element { name: name.to_owned(), at, ..Element::default() };
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => {
                assert!(!after.starts_with('='), "an unquoted attribute in <{tag}>");
                ("", after)
            }
        };
        element.attributes.insert(name.to_owned(), unescape(value));
        rest = after;
    }
    element
}

fn unescape(text: &str) -> String {
    assert!(!text.contains(['<', '>']), "stray markup: {}", near(text));
    let mut plain = String::new();
    let mut parts = text.split('&');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (entity, after) = part.split_once(';').expect("an entity's end");
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            other => panic!("&{other};"),
        });
        plain.push_str(after);
    }
    plain
}
