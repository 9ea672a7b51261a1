//! Values compared as a reader takes them: lists of an artifact are sets, to the update policy and
//! here.

use std::collections::HashSet;

use crate::anime::doc::{canonical, is_missing};
use crate::json::Json;

/// Whether two values say the same; the order of a list says nothing, how often it has an element
/// does. Null, an empty text and an empty list say as little as no value.
pub(super) fn alike(one: Option<&Json>, other: Option<&Json>) -> bool {
    match (one.filter(|v| !is_missing(Some(v))), other.filter(|v| !is_missing(Some(v)))) {
        (None, None) => true,
        (Some(one), Some(other)) => one == other || unordered(one) == unordered(other),
        _ => false,
    }
}

/// The text of a value with its lists sorted.
fn unordered(value: &Json) -> String {
    canonical(&sorted(value))
}

fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(elements) => {
            let mut elements: Vec<Json> = elements.iter().map(sorted).collect();
            elements.sort_by_cached_key(canonical);
            Json::Array(elements)
        }
        Json::Object(members) => {
            Json::Object(members.iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        other => other.clone(),
    }
}

/// Whether a stored value says all that another says.
pub(super) fn covers(stored: Option<&Json>, said: &Json) -> bool {
    if is_missing(Some(said)) {
        return true;
    }
    let Some(stored) = stored else { return false };
    match (stored, said) {
        (Json::Object(_), Json::Object(members)) => members
            .iter()
            .all(|(key, value)| covers(stored.get(&String::from_utf8_lossy(key)), value)),
        (Json::Array(have), Json::Array(want)) => {
            let have: HashSet<String> = have.iter().map(unordered).collect();
            want.iter().all(|value| have.contains(&unordered(value)))
        }
        _ => alike(Some(stored), Some(said)),
    }
}

/// All scalars of a value, each with the names that lead to it; null says nothing.
pub(super) fn leaves(value: &Json, path: &mut String, on_leaf: &mut dyn FnMut(&str, &Json)) {
    match value {
        Json::Null => {}
        Json::Array(elements) => {
            for element in elements {
                leaves(element, path, on_leaf);
            }
        }
        Json::Object(members) => {
            // Of a repeated key the last counts.
            let mut later = HashSet::new();
            for (key, value) in members.iter().rev() {
                if !later.insert(key) {
                    continue;
                }
                let end = path.len();
                path.push('/');
                path.push_str(&String::from_utf8_lossy(key));
                leaves(value, path, on_leaf);
                path.truncate(end);
            }
        }
        scalar => on_leaf(path, scalar),
    }
}

/// A scalar as it is looked for: numbers by value, moments in UTC by instant.
pub(super) fn scalar(value: &Json) -> String {
    match value {
        // The standard library reads numbers exactly.
        Json::Number(digits) => match digits.parse::<f64>() {
            Ok(number) => format!("{number:e}"),
            Err(_) => digits.to_string(),
        },
        Json::String(text) => {
            let text = String::from_utf8_lossy(text);
            match text.strip_suffix('Z') {
                Some(moment) if moment.len() > 18 && moment.as_bytes()[10] == b'T' => {
                    format!("{moment}+00:00")
                }
                _ => text.into_owned(),
            }
        }
        other => canonical(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Json {
        crate::json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn lists_are_alike_in_any_order_and_only_with_the_same_elements() {
        let is_alike = |one: &str, other: &str| alike(Some(&read(one)), Some(&read(other)));
        assert!(is_alike(r#"[{"a": [1, 2]}, "x"]"#, r#"["x", {"a": [2, 1]}]"#));
        assert!(!is_alike("[1, 1]", "[1]"));
        assert!(!is_alike("1", "\"1\""));
        assert!(alike(Some(&read("[]")), None));
    }

    #[test]
    fn leaves_are_named_by_the_members_that_lead_to_them() {
        let mut found = Vec::new();
        let value = read(r#"{"a": [{"b": 1}, {"b": 2.0}], "c": null, "d": "x", "d": "y"}"#);
        leaves(&value, &mut String::new(), &mut |path, leaf| {
            found.push(format!("{path}={}", scalar(leaf)));
        });
        assert_eq!(found, ["/d=y", "/a/b=1e0", "/a/b=2e0"]);
    }
}
