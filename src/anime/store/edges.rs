//! An entry's relations against those that are stored.

use uuid::Uuid;

use crate::anime::doc::{Members, canonical, folded_name, same};
use crate::anime::entry::{Edge, Entry, Target};
use crate::anime::policy::{Proposal, Voice};
use crate::anime::store::load::{Stored, StoredEdge, vanished_rows};
use crate::anime::store::rows::Rows;
use crate::anime::urls::{self, Reference};
use crate::json::Json;

/// Adds what is new, and unites the urls of what is known.
pub(super) fn merge(
    rows: &mut Rows,
    anime: Uuid,
    entry: &Entry,
    voice: Voice,
    stored: &Stored,
    proposals: &mut Vec<Proposal>,
) {
    let references: Vec<Vec<Reference>> = stored
        .edges
        .iter()
        .map(|edge| edge.urls.iter().map(|url| urls::parse(url)).collect())
        .collect();
    let mut kept: Vec<StoredEdge> = stored.edges.clone();
    let mut is_met = vec![false; kept.len()];
    let mut is_changed = vec![false; kept.len()];
    for edge in &entry.edges {
        let found = (0..kept.len())
            .find(|at| is_same(&kept[*at], &references[*at], edge, voice == Voice::Supplement));
        match found {
            Some(at) => {
                is_met[at] = true;
                is_changed[at] |= absorb(&mut kept[at], edge, voice);
            }
            None => rows.insert_edge(anime, edge),
        }
    }
    for edge in kept.iter().zip(&is_changed).filter(|(_, changed)| **changed).map(|(edge, _)| edge)
    {
        rows.update_edge(edge);
    }
    for (target, table) in [
        (Target::Anime, "anime_relation"),
        (Target::Manga, "anime_manga_relation"),
        (Target::Work, "anime_work_relation"),
    ] {
        let gone = kept.iter().zip(&is_met).filter(|(edge, met)| !**met && edge.target == target);
        proposals.extend(vanished_rows(table, gone.map(|(edge, _)| named(edge)).collect(), voice));
    }
}

pub(in crate::anime) fn named(edge: &StoredEdge) -> Json {
    let mut row = Members::default();
    row.put("id", crate::anime::doc::number(edge.id));
    row.put("relation_type", Json::from(edge.relation.as_str()));
    if let Some(title) = &edge.title {
        row.put("label", Json::from(title.as_str()));
    }
    row.put("urls", Json::Array(edge.urls.iter().map(|url| Json::from(url.as_str())).collect()));
    row.rest()
}

/// The offline database's bare urls say no type: they are any edge to their target.
pub(in crate::anime) fn is_same(
    stored: &StoredEdge,
    known: &[Reference],
    edge: &Edge,
    any_type: bool,
) -> bool {
    // The resolver may have found that a manga is another original work.
    let is_anime = |target: Target| target == Target::Anime;
    if is_anime(stored.target) != is_anime(edge.target) {
        return false;
    }
    if stored.relation != edge.relation && !any_type {
        return false;
    }
    if edge.references.iter().any(|reference| known.contains(reference)) {
        return true;
    }
    let folded = |title: &Option<String>| title.as_deref().map(folded_name);
    edge.references.is_empty() && known.is_empty() && folded(&stored.title) == folded(&edge.title)
}

/// Whether anything is new.
fn absorb(stored: &mut StoredEdge, edge: &Edge, voice: Voice) -> bool {
    let before =
        (stored.urls.len(), stored.title.clone(), stored.format.clone(), canonical(&stored.meta));
    let raw_before = stored.source_relation_type.clone();
    for url in &edge.urls {
        if !stored.urls.contains(url) {
            stored.urls.push(url.clone());
        }
    }
    let newer = matches!(voice, Voice::Newer | Voice::Better);
    let mut also: Vec<Json> = edge.also.clone();
    let mut more = Members::of(edge.meta.clone().rest());
    if let Some(title) = &edge.title {
        match &stored.title {
            Some(known) if known == title => {}
            // Another spelling of one target: the first stays its title.
            Some(_) => more.put("title", Json::from(title.as_str())),
            None => stored.title = Some(title.clone()),
        }
    }
    match (&stored.source_relation_type, &edge.source_relation_type) {
        (None, Some(raw)) => stored.source_relation_type = Some(raw.clone()),
        (Some(known), Some(raw)) if known != raw => {
            more.put("relation_type", Json::from(raw.as_str()));
        }
        _ => {}
    }
    match (&stored.format, edge.format) {
        (None, Some(format)) => stored.format = Some(format.to_owned()),
        (Some(known), Some(format)) if known != format && newer => {
            more.put("format", Json::from(format));
        }
        _ => {}
    }
    let own = more.rest();
    let has_own = !own.members().is_empty() && !is_part(&own, &stored.meta);
    if has_own {
        also.push(own);
    }
    let mut meta = Members::of(stored.meta.clone());
    let mut list = meta.take_array("also");
    for item in also {
        if !list.iter().any(|known| same(known, &item)) {
            list.push(item);
        }
    }
    if !list.is_empty() {
        meta.put("also", Json::Array(list));
    }
    stored.meta = meta.rest();
    let after =
        (stored.urls.len(), stored.title.clone(), stored.format.clone(), canonical(&stored.meta));
    before != after || raw_before != stored.source_relation_type
}

/// Whether each member is in the other object too.
fn is_part(part: &Json, whole: &Json) -> bool {
    part.members().iter().all(|(key, value)| {
        whole.get(&String::from_utf8_lossy(key)).is_some_and(|known| same(known, value))
    })
}
