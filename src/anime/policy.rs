//! What an artifact may change of what is stored, and what a person decides.

use std::collections::HashSet;

use serde::Deserialize;

use crate::anime::doc::{Doc, canonical, is_missing, same};
use crate::anime::vocabulary::is_forward;
use crate::canonical::sha256;
use crate::json::{Json, JsonString};

/// `[documents.policy]` of `pack.toml`: fields by the rule they follow. Others are applied when
/// they change, and proposed to review when they vanish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A change is proposed.
    pub review: Vec<String>,
    /// A rise is applied, a fall proposed.
    pub rising: Vec<String>,
    /// A step forward is applied, one back proposed.
    pub forward: Vec<String>,
    /// The newest counts as a whole: lists inside do not grow by union.
    pub newest: Vec<String>,
}

/// Who speaks, compared with who spoke last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// The next snapshot of the same kind.
    Newer,
    /// A snapshot that is older than what is stored: it only fills in.
    Older,
    /// The first enriched artifact over an entry of the offline database: it knows better.
    Better,
    /// The offline database over an enriched artifact: it fills in, and is heard on what is watched.
    Supplement,
}

/// A change that is not applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Field, or table.
    pub field: String,
    /// `changed`, `fell`, `went_back`, `vanished`.
    pub reason: &'static str,
    /// What is stored.
    pub before: Json,
    /// What the artifact says.
    pub after: Json,
}

impl Proposal {
    /// Known by what it proposes.
    #[must_use]
    pub fn digest(&self) -> String {
        hex::encode(sha256(canonical(&self.after).as_bytes()))
    }
}

/// What became of an entity.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// What is to be stored.
    pub doc: Doc,
    /// Whether that is another thing than what is stored.
    pub is_changed: bool,
    /// What waits for a person.
    pub proposals: Vec<Proposal>,
}

/// Merges what an artifact says into what is stored.
#[must_use]
pub fn merge(stored: &Doc, said: &Doc, policy: &Policy, voice: Voice) -> Merged {
    let mut merged = Merged { doc: stored.clone(), ..Merged::default() };
    let fields: std::collections::BTreeSet<&String> =
        stored.0.keys().chain(said.0.keys()).collect();
    for field in fields {
        let (before, after) = (stored.get(field), said.get(field));
        let rule = Rule::of(policy, field);
        if rule.misses(after) {
            if let (None, Some(after)) = (before, after.filter(|after| !is_missing(Some(after)))) {
                // It says nothing against anything; nobody shall say that it was not kept.
                merged.apply(field, after.clone());
                continue;
            }
            if !rule.misses(before) && !is_default(field, before) && voice == Voice::Newer {
                merged.propose(field, "vanished", before, after);
            }
            continue;
        }
        let Some(after) = after else { continue };
        let Some(before) = before.filter(|before| !rule.misses(Some(before))) else {
            // An empty value says no more than none, unless it now says something.
            merged.apply(field, after.clone());
            continue;
        };
        if !same(before, after) {
            rule.decide(&mut merged, stored, field, (before, after), voice);
        }
    }
    merged
}

impl Policy {
    /// Whether a value at a path of an entry is the word for nothing being known of its field.
    #[must_use]
    pub fn says_nothing(&self, path: &str, text: &str) -> bool {
        let name = path.strip_prefix("/anime/").or_else(|| path.strip_prefix('/')).unwrap_or(path);
        let is_named = |field: &String| field.strip_prefix("meta.").unwrap_or(field) == name;
        text == "UNKNOWN" && self.review.iter().chain(&self.forward).any(is_named)
    }
}

impl Merged {
    fn apply(&mut self, field: &str, value: Json) {
        self.is_changed = true;
        self.doc.set(field, value);
    }

    fn propose(
        &mut self,
        field: &str,
        reason: &'static str,
        before: Option<&Json>,
        after: Option<&Json>,
    ) {
        let value = |side: Option<&Json>| side.cloned().unwrap_or(Json::Null);
        let (before, after) = (value(before), value(after));
        self.proposals.push(Proposal { field: field.to_owned(), reason, before, after });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Review,
    Rising,
    Forward,
    Newest,
    Grow,
}

impl Rule {
    fn of(policy: &Policy, field: &str) -> Self {
        let has = |list: &[String]| list.iter().any(|name| name == field);
        if has(&policy.review) {
            Self::Review
        } else if has(&policy.rising) {
            Self::Rising
        } else if has(&policy.forward) {
            Self::Forward
        } else if has(&policy.newest) {
            Self::Newest
        } else {
            Self::Grow
        }
    }

    /// A count of 0 and an unknown format or state say nothing.
    fn misses(self, value: Option<&Json>) -> bool {
        let says_nothing = match self {
            Self::Rising => value.and_then(Json::as_f64) == Some(0.0),
            Self::Review | Self::Forward => value.and_then(Json::as_str) == Some("UNKNOWN"),
            _ => false,
        };
        says_nothing || is_missing(value)
    }

    fn decide(
        self,
        merged: &mut Merged,
        stored: &Doc,
        field: &str,
        (before, after): (&Json, &Json),
        voice: Voice,
    ) {
        let is_heard = voice != Voice::Older;
        let (is_safe, reason) = match self {
            Self::Review if voice == Voice::Better => (true, ""),
            Self::Review if voice == Voice::Supplement && is_other_name(stored, after) => return,
            Self::Review => (false, "changed"),
            Self::Rising => (before.as_f64() < after.as_f64(), "fell"),
            Self::Forward => {
                let (from, to) = (before.as_str().unwrap_or(""), after.as_str().unwrap_or(""));
                (is_forward(from, to), "went_back")
            }
            Self::Newest | Self::Grow => {
                let keeps = matches!(voice, Voice::Older | Voice::Supplement);
                let mut union = Union { keeps, replaces: self == Self::Newest, has_lost: false };
                let value = union.of(before, after);
                if union.has_lost && voice == Voice::Newer {
                    // What is added is stored at once, and is what a person decides about.
                    merged.propose(field, "vanished", Some(&value), Some(after));
                }
                if !same(&value, before) {
                    merged.apply(field, value);
                }
                return;
            }
        };
        if is_safe {
            merged.apply(field, after.clone());
        } else if is_heard {
            merged.propose(field, reason, Some(before), Some(after));
        }
    }
}

/// Whether a value is what its column has when nothing was said.
fn is_default(field: &str, value: Option<&Json>) -> bool {
    matches!(field, "filler" | "recap") && value == Some(&Json::Bool(false))
}

/// Whether a title is one of the names the anime has already.
fn is_other_name(stored: &Doc, title: &Json) -> bool {
    let names = ["title_english", "title_japanese"].iter().filter_map(|field| stored.get(field));
    let synonyms = stored.get("meta.synonyms").into_iter().flat_map(Json::iter);
    names.chain(synonyms).any(|name| same(name, title))
}

/// Grows a value: nothing that is stored goes, what is new comes.
struct Union {
    /// Whether what is stored wins where both have a scalar.
    keeps: bool,
    /// Whether lists are replaced, not united.
    replaces: bool,
    /// Whether something that is stored is no longer said.
    has_lost: bool,
}

impl Union {
    fn of(&mut self, before: &Json, after: &Json) -> Json {
        match (before, after) {
            (Json::Object(old), Json::Object(new)) => self.objects(old, new),
            (Json::Array(old), Json::Array(new)) if self.keeps || !self.replaces => {
                self.arrays(old, new)
            }
            _ if self.keeps => before.clone(),
            _ => after.clone(),
        }
    }

    fn objects(&mut self, old: &[(JsonString, Json)], new: &[(JsonString, Json)]) -> Json {
        let find = |members: &[(JsonString, Json)], key: &JsonString| {
            members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone())
        };
        let mut grown = Vec::with_capacity(old.len());
        for (key, before) in old {
            let value = match find(new, key) {
                Some(after) if !is_missing(Some(&after)) && !is_missing(Some(before)) => {
                    self.of(before, &after)
                }
                Some(after) if is_missing(Some(before)) => after,
                _ => {
                    self.has_lost |= !is_missing(Some(before));
                    before.clone()
                }
            };
            grown.push((key.clone(), value));
        }
        let added = new.iter().filter(|(key, _)| find(old, key).is_none());
        grown.extend(added.cloned());
        Json::Object(grown)
    }

    /// The new list if it has all of the old; else the old and what is new, after it.
    fn arrays(&mut self, old: &[Json], new: &[Json]) -> Json {
        let texts = |list: &[Json]| list.iter().map(canonical).collect::<HashSet<_>>();
        let (old_texts, new_texts) = (texts(old), texts(new));
        let is_whole = old_texts.is_subset(&new_texts);
        if !self.keeps && is_whole {
            return Json::Array(new.to_vec());
        }
        self.has_lost |= !is_whole;
        let mut grown = old.to_vec();
        let fresh = new.iter().filter(|value| !old_texts.contains(&canonical(value)));
        grown.extend(fresh.cloned());
        Json::Array(grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(text: &str) -> Doc {
        Doc::of_row(text).unwrap()
    }

    fn policy() -> Policy {
        crate::anime::documents(&crate::pack::Pack::find("anime").unwrap()).unwrap().policy.clone()
    }

    fn kept(stored: &str, said: &str, voice: Voice) -> (String, Vec<String>) {
        let merged = merge(&doc(stored), &doc(said), &policy(), voice);
        let fields: Vec<String> = merged
            .doc
            .0
            .iter()
            .map(|(name, value)| format!("{name}={}", canonical(value)))
            .collect();
        let proposals =
            merged.proposals.iter().map(|p| format!("{} {}", p.field, p.reason)).collect();
        (fields.join(" "), proposals)
    }

    #[test]
    fn safe_steps_are_applied_and_unsafe_ones_wait_for_a_person() {
        let stored = r#"{"title": "A", "status": "ONGOING", "episode_count": 12, "year": null}"#;
        let (kept_doc, proposals) = kept(
            stored,
            r#"{"title": "A", "status": "FINISHED", "episode_count": 13, "year": 2020}"#,
            Voice::Newer,
        );
        assert_eq!(kept_doc, r#"episode_count=13 status="FINISHED" title="A" year=2020"#);
        assert!(proposals.is_empty());
        let (kept_doc, proposals) = kept(
            stored,
            r#"{"title": "B", "status": "UPCOMING", "episode_count": 3, "year": null}"#,
            Voice::Newer,
        );
        assert_eq!(kept_doc, r#"episode_count=12 status="ONGOING" title="A""#);
        assert_eq!(proposals, ["episode_count fell", "status went_back", "title changed"]);
    }

    #[test]
    fn what_vanishes_stays_and_is_proposed_and_lists_only_grow() {
        let stored = r#"{"title": "A", "synopsis": "s", "meta": {"tags": ["x", "y"]}}"#;
        let (kept_doc, proposals) =
            kept(stored, r#"{"title": "A", "meta": {"tags": ["y", "z"]}}"#, Voice::Newer);
        assert_eq!(kept_doc, r#"meta.tags=["x", "y", "z"] synopsis="s" title="A""#);
        assert_eq!(proposals, ["meta.tags vanished", "synopsis vanished"]);
    }

    #[test]
    fn an_older_snapshot_only_fills_in() {
        let stored = r#"{"title": "A", "synopsis": "new", "episode_count": 12}"#;
        let said = r#"{"title": "B", "synopsis": "old", "episode_count": 9, "rating": "G"}"#;
        let (kept_doc, proposals) = kept(stored, said, Voice::Older);
        assert_eq!(kept_doc, r#"episode_count=12 rating="G" synopsis="new" title="A""#);
        assert!(proposals.is_empty());
    }

    #[test]
    fn measurements_are_replaced_but_no_platform_is_forgotten() {
        let stored = r#"{"raw_by_source": {"statistics": {"mal": {"score": 5, "l": [1]}, "kitsu": {"score": 1}}}}"#;
        let said = r#"{"raw_by_source": {"statistics": {"mal": {"score": 6, "l": [2]}}}}"#;
        let (kept_doc, proposals) = kept(stored, said, Voice::Newer);
        assert_eq!(
            kept_doc,
            r#"raw_by_source.statistics={"mal": {"l": [2], "score": 6}, "kitsu": {"score": 1}}"#
        );
        assert_eq!(proposals, ["raw_by_source.statistics vanished"]);
    }

    #[test]
    fn another_known_name_in_the_offline_database_is_no_flip() {
        let stored = r#"{"title": "A", "title_english": "Ay", "meta": {"synonyms": ["Aa"]}}"#;
        for title in ["Ay", "Aa"] {
            let said = format!(r#"{{"title": "{title}"}}"#);
            assert!(kept(stored, &said, Voice::Supplement).1.is_empty());
        }
        assert_eq!(kept(stored, r#"{"title": "Z"}"#, Voice::Supplement).1, ["title changed"]);
    }
}
