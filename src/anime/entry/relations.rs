//! Relations: lists and groups of items become edges, each target once per type with all its urls.

use crate::anime::doc::{Members, folded_name};
use crate::anime::entry::Entry;
use crate::anime::urls::{self, Medium, Reference};
use crate::anime::vocabulary::{self, Relation};
use crate::json::Json;

/// What an edge leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// An anime.
    Anime,
    /// A manga.
    Manga,
    /// Another original work.
    Work,
}

/// A relation to something that may not be stored yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// What it leads to.
    pub target: Target,
    /// In the vocabulary.
    pub relation: &'static str,
    /// The target's format.
    pub format: Option<&'static str>,
    /// The target's title.
    pub title: Option<String>,
    /// All urls of the target.
    pub urls: Vec<String>,
    /// What they stand for.
    pub references: Vec<Reference>,
    /// The type as the artifact spells it.
    pub source_relation_type: Option<String>,
    /// What has no column.
    pub meta: Members,
    /// Further items of the same target, as far as they say more.
    pub also: Vec<Json>,
}

impl Edge {
    /// The best reference of the target.
    #[must_use]
    pub fn primary(&self) -> Option<&Reference> {
        self.references.iter().min_by_key(|reference| reference.rank())
    }

    /// What has no column, whole.
    #[must_use]
    pub fn meta(&self) -> Json {
        let mut meta = self.meta.clone();
        if !self.also.is_empty() {
            meta.put("also", Json::Array(self.also.clone()));
        }
        meta.rest()
    }

    /// Whether both mean one target: they share a reference, or a title and no platform on which
    /// they have different ids.
    fn is_same(&self, other: &Self) -> bool {
        if (self.target, self.relation) != (other.target, other.relation) {
            return false;
        }
        if self.references.iter().any(|reference| other.references.contains(reference)) {
            return true;
        }
        let folded = |edge: &Self| edge.title.as_deref().map(folded_name);
        let conflict = |reference: &Reference| {
            reference.source != "url"
                && other.references.iter().any(|known| known.source == reference.source)
        };
        let title = folded(self).filter(|title| !title.is_empty());
        title.is_some() && title == folded(other) && !self.references.iter().any(conflict)
    }

    fn absorb(&mut self, other: Self) {
        for (url, reference) in other.urls.iter().zip(&other.references) {
            if !self.urls.contains(url) {
                self.urls.push(url.clone());
                self.references.push(reference.clone());
            }
        }
        let mut more = other.meta;
        if let Some(title) = other.title.filter(|title| self.title.as_ref() != Some(title)) {
            more.put("title", Json::from(title.as_str()));
        }
        let raw = other.source_relation_type;
        if let Some(raw) = raw.filter(|raw| self.source_relation_type.as_ref() != Some(raw)) {
            more.put("relation_type", Json::from(raw.as_str()));
        }
        if let Some(format) = other.format.filter(|format| self.format != Some(format)) {
            match self.format {
                None => self.format = Some(format),
                Some(_) => more.put("format", Json::from(format)),
            }
        }
        self.also.extend(other.also);
        if !more.is_empty() {
            let more = more.rest();
            if !self.also.contains(&more) {
                self.also.push(more);
            }
        }
    }
}

/// Takes a list of relations out, in either shape; what is no relation stays.
pub(super) fn take(entry: &mut Entry, thing: &mut Members, list: &str) {
    // The offline database's older files call its anime `relations`; they are urls alone.
    let is_works = list == "relations" && entry.kind != super::Kind::Offline;
    let mut odd = Members::default();
    match thing.take(list) {
        None => return,
        Some(Json::Array(items)) => {
            let left: Vec<Json> =
                items.into_iter().filter_map(|item| item_of(entry, item, None, is_works)).collect();
            if !left.is_empty() {
                thing.put(list, Json::Array(left));
            }
        }
        Some(Json::Object(groups)) => {
            for (key, items) in groups {
                let key = String::from_utf8_lossy(&key).into_owned();
                let items = match items {
                    Json::Array(items) => items,
                    one => vec![one],
                };
                let left: Vec<Json> = items
                    .into_iter()
                    .filter_map(|item| item_of(entry, item, Some(&key), is_works))
                    .collect();
                if !left.is_empty() {
                    odd.put(&key, Json::Array(left));
                }
            }
        }
        Some(Json::Null) => {}
        Some(other) => thing.put(list, other),
    }
    if !odd.is_empty() {
        thing.put(list, odd.rest());
    }
}

/// Unites edges that turned out to share a target when others were united with them.
pub(super) fn settle(entry: &mut Entry) {
    let mut at = 0;
    while at < entry.edges.len() {
        let same =
            (at + 1..entry.edges.len()).find(|other| entry.edges[at].is_same(&entry.edges[*other]));
        match same {
            Some(other) => {
                let absorbed = entry.edges.remove(other);
                entry.edges[at].absorb(absorbed);
                // It has more references now, and may be what an earlier one is too.
                at = 0;
            }
            None => at += 1,
        }
    }
}

/// Makes an edge of an item; gives back what is none.
fn item_of(entry: &mut Entry, item: Json, group: Option<&str>, is_works: bool) -> Option<Json> {
    let (mut members, urls) = match item {
        Json::String(_) => (Members::default(), vec![item.as_str()?.to_owned()]),
        Json::Object(_) => {
            let mut members = Members::of(item);
            let urls = take_urls(&mut members);
            if urls.is_empty() && members.text("title").is_none() {
                return Some(members.rest());
            }
            (members, urls)
        }
        other => return Some(other),
    };
    let references: Vec<Reference> = urls.iter().map(|url| urls::parse(url)).collect();
    let raw = members
        .text("relation_type")
        .map(str::to_owned)
        .inspect(|_| drop(members.take("relation_type")));
    let raw = match (raw, group) {
        (Some(own), Some(group)) if own != group => {
            members.put("relation_type", Json::from(own.as_str()));
            Some(group.to_owned())
        }
        (own, group) => own.or_else(|| group.map(str::to_owned)),
    };
    // A bare url of the offline database says nothing of the type: OTHER, not UNKNOWN.
    let word = match (&raw, entry.kind) {
        (None, super::Kind::Offline) => vocabulary::relation(Some("OTHER")),
        _ => vocabulary::relation(raw.as_deref()),
    };
    if word.is_unknown_word {
        entry.unknown_words.extend(raw.clone());
    }
    let stated = members.text("type").map(str::to_owned);
    let target = target_of(&references, stated.as_deref(), is_works);
    let format = format_of(&mut members, stated.as_deref(), word, target);
    let title = members.text("title").map(str::to_owned).inspect(|_| drop(members.take("title")));
    let edge = Edge {
        target,
        relation: word.relation,
        format,
        title,
        urls,
        references,
        source_relation_type: raw,
        meta: members,
        also: Vec::new(),
    };
    match entry.edges.iter_mut().find(|known| known.is_same(&edge)) {
        Some(known) => known.absorb(edge),
        None => entry.edges.push(edge),
    }
    None
}

fn take_urls(members: &mut Members) -> Vec<String> {
    match members.get("url") {
        Some(Json::String(_)) => {
            let url = members.take("url");
            url.as_ref().and_then(Json::as_str).map(str::to_owned).into_iter().collect()
        }
        Some(Json::Array(list)) if list.iter().all(|url| url.as_str().is_some()) => {
            let list = members.take_array("url");
            let mut urls: Vec<String> = Vec::new();
            for url in list.iter().filter_map(Json::as_str) {
                if !urls.iter().any(|known| known == url) {
                    urls.push(url.to_owned());
                }
            }
            urls
        }
        _ => Vec::new(),
    }
}

/// The url knows best; then what the item says; then the list it stands in.
fn target_of(references: &[Reference], stated: Option<&str>, is_works: bool) -> Target {
    let is_other = stated.is_some_and(vocabulary::is_other_work);
    let medium = references.iter().map(|r| r.medium).find(|medium| *medium != Medium::Unsaid);
    match medium {
        Some(Medium::Anime) => Target::Anime,
        _ if !is_works && medium.is_none() => Target::Anime,
        _ if is_other => Target::Work,
        _ => Target::Manga,
    }
}

fn format_of(
    members: &mut Members,
    stated: Option<&str>,
    word: Relation,
    target: Target,
) -> Option<&'static str> {
    if target != Target::Anime {
        return None;
    }
    let read = stated.and_then(vocabulary::format);
    if let Some(format) = read
        && (word.format.is_none() || word.format == Some(format))
        && stated == Some(format)
    {
        members.take("type");
    }
    word.format.or(read)
}
