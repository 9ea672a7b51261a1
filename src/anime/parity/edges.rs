//! An entry's relations.

use crate::anime::entry::{Edge, Target};
use crate::anime::parity::compare::{Against, Told};
use crate::anime::parity::found::{Changed, Found, Row};
use crate::anime::parity::standing::Standing;
use crate::anime::parity::values::{covers, leaves, scalar};
use crate::anime::store::edges::{is_same, named};
use crate::anime::store::load::{Stored, StoredEdge};
use crate::anime::urls::{self, Reference};
use crate::json::Json;

pub(super) fn table_of(target: Target) -> &'static str {
    match target {
        Target::Anime => "anime_relation",
        Target::Manga => "anime_manga_relation",
        Target::Work => "anime_work_relation",
    }
}

pub(super) fn compare(
    against: &Against<'_>,
    told: &Told<'_>,
    stored: &Stored,
    found: &mut Found<'_>,
) {
    let references: Vec<Vec<Reference>> = stored
        .edges
        .iter()
        .map(|edge| edge.urls.iter().map(|url| urls::parse(url)).collect())
        .collect();
    let mut met: Vec<Vec<&Edge>> = vec![Vec::new(); stored.edges.len()];
    let any_type = told.standing == Standing::Supplement;
    for edge in &told.entry.edges {
        found.tally(table_of(edge.target)).source += 1;
        let at = (0..stored.edges.len())
            .find(|at| is_same(&stored.edges[*at], &references[*at], edge, any_type));
        match at {
            Some(at) => met[at].push(edge),
            None if is_to_itself(against, told, edge) => found.reviewed += 1,
            None if is_deleted(against, told, edge) => found.reviewed += 1,
            None => {
                let row =
                    row_of(told, edge.target, edge.relation, edge.title.as_deref(), &edge.urls);
                found.missing(row, &edge.urls.join(" "), &told.locator);
            }
        }
    }
    for (at, edge) in stored.edges.iter().enumerate() {
        found.tally(table_of(edge.target)).target += 1;
        let row = row_of(told, edge.target, &edge.relation, edge.title.as_deref(), &edge.urls);
        if !met[at].is_empty() {
            let mut changed = said(edge, &met[at]);
            if told.standing == Standing::Alone {
                changed.extend(unsaid(edge, &met[at]));
            }
            changed.extend(leads(against, edge, &references[at]));
            changed.dedup_by(|one, other| one.0 == other.0);
            found.changed(&row, changed, &told.locator);
        }
    }
    for target in [Target::Anime, Target::Manga, Target::Work] {
        let gone: Vec<&StoredEdge> = stored
            .edges
            .iter()
            .zip(&met)
            .filter(|(edge, met)| edge.target == target && met.is_empty())
            .map(|(edge, _)| edge)
            .collect();
        let rows = gone.iter().map(|edge| named(edge)).collect();
        let is_settled = against.are_settled(told, table_of(target), rows, found);
        for edge in gone.into_iter().filter(|_| !is_settled) {
            let row = row_of(told, target, &edge.relation, edge.title.as_deref(), &edge.urls);
            found.extra(row, &edge.urls.join(" "), &told.locator);
        }
    }
}

/// The resolver removes such an edge, with a ledger entry.
fn is_to_itself(against: &Against<'_>, told: &Told<'_>, edge: &Edge) -> bool {
    against.self_related.contains(&told.id) && edge.target == Target::Anime
}

/// A person accepted that the row of an edge be deleted.
fn is_deleted(against: &Against<'_>, told: &Told<'_>, edge: &Edge) -> bool {
    [Target::Anime, Target::Manga, Target::Work].into_iter().any(|target| {
        let is_it = |row: &Json| {
            let text = |name: &str| row.get(name).and_then(Json::as_str).map(str::to_owned);
            let urls = row.get("urls").into_iter().flat_map(Json::iter);
            let urls: Vec<String> =
                urls.filter_map(|url| url.as_str().map(str::to_owned)).collect();
            let references: Vec<Reference> = urls.iter().map(|url| urls::parse(url)).collect();
            let deleted = StoredEdge {
                id: 0,
                target,
                relation: text("relation_type").unwrap_or_default(),
                title: text("label"),
                urls,
                format: None,
                source_relation_type: None,
                meta: Json::Null,
            };
            is_same(&deleted, &references, edge, told.standing == Standing::Supplement)
        };
        against.queue.deleted(told.anime, table_of(target)).any(is_it)
    })
}

fn row_of(
    told: &Told<'_>,
    target: Target,
    relation: &str,
    title: Option<&str>,
    urls: &[String],
) -> Row {
    let key = if target == Target::Anime { "from_anime_id" } else { "anime_id" };
    let to = urls.first().map(String::as_str).or(title).unwrap_or_default();
    Row::new(table_of(target), &[(key, &told.id), ("relation_type", relation), ("to", to)])
}

/// What the entry says of an edge and the row does not: in its columns, or among what its meta
/// keeps of other items of the same target.
fn said(stored: &StoredEdge, met: &[&Edge]) -> Vec<Changed> {
    let prefix = prefix_of(stored.target);
    let mut changed: Vec<Changed> = Vec::new();
    let text = |text: &Option<String>| text.as_deref().map(Json::from);
    let keeps = |name: &str, value: &Json| is_kept(&stored.meta, name, value);
    let mut column = |name: String, key: &str, value: Option<Json>, held: Option<Json>| {
        if let Some(value) = value
            && !covers(held.as_ref(), &value)
            && !keeps(key, &value)
        {
            changed.push((name, Some(value), held));
        }
    };
    for edge in met {
        let format = edge.format.map(Json::from);
        column(format!("{prefix}_title"), "title", text(&edge.title), text(&stored.title));
        let raw = text(&edge.source_relation_type);
        let held = text(&stored.source_relation_type);
        column("source_relation_type".to_owned(), "relation_type", raw, held);
        column("to_anime_type".to_owned(), "format", format, text(&stored.format));
        let urls = |urls: &[String]| {
            Json::Array(urls.iter().map(|url| Json::from(url.as_str())).collect())
        };
        let (all, held) = (urls(&edge.urls), urls(&stored.urls));
        column(format!("{prefix}_urls"), "url", Some(all), Some(held));
        for (key, value) in edge.meta.clone().rest().members() {
            let key = String::from_utf8_lossy(key).into_owned();
            let held = stored.meta.get(&key).cloned();
            column(format!("meta.{key}"), &key, Some(value.clone()), held);
        }
        for item in &edge.also {
            for (key, value) in item.members() {
                let key = String::from_utf8_lossy(key).into_owned();
                let held = stored.meta.get(&key).cloned();
                column(format!("meta.also.{key}"), &key, Some(value.clone()), held);
            }
        }
    }
    changed
}

/// Whether a member says so at any depth: edges that were united keep each other's meta.
fn is_kept(meta: &Json, name: &str, value: &Json) -> bool {
    covers(meta.get(name), value)
        || meta.iter().any(|item| is_kept(item, name, value))
        || meta.members().iter().any(|(_, member)| is_kept(member, name, value))
}

/// What the row says and the entry, which alone was heard, does not.
fn unsaid(stored: &StoredEdge, met: &[&Edge]) -> Vec<Changed> {
    let prefix = prefix_of(stored.target);
    let mut known: Vec<String> = Vec::new();
    let mut titles: Vec<&str> = Vec::new();
    for edge in met {
        known.extend(edge.urls.iter().cloned());
        known.extend(edge.format.map(str::to_owned));
        known.extend(edge.title.clone());
        known.extend(edge.source_relation_type.clone());
        titles.extend(edge.title.as_deref());
        let add = &mut |_: &str, leaf: &Json| known.push(scalar(leaf));
        leaves(&edge.meta.clone().rest(), &mut String::new(), add);
        edge.also.iter().for_each(|item| leaves(item, &mut String::new(), add));
    }
    let mut changed: Vec<Changed> = Vec::new();
    let mut column = |name: String, value: &str| {
        if !known.iter().any(|known| known == value) {
            changed.push((name, None, Some(Json::from(value))));
        }
    };
    stored.urls.iter().for_each(|url| column(format!("{prefix}_urls"), url));
    if let Some(title) = &stored.title {
        column(format!("{prefix}_title"), title);
    }
    if let Some(format) = &stored.format {
        column("to_anime_type".to_owned(), format);
    }
    if let Some(raw) = &stored.source_relation_type {
        column("source_relation_type".to_owned(), raw);
    }
    leaves(&stored.meta, &mut String::new(), &mut |path, leaf| {
        column(format!("meta{}", path.replace('/', ".")), &scalar(leaf));
    });
    changed
}

/// An edge's primary reference is one of its urls; where it leads, one of its urls does.
fn leads(against: &Against<'_>, edge: &StoredEdge, references: &[Reference]) -> Vec<Changed> {
    let Some(lead) = against.holdings.leads.get(&(edge.target, edge.id)) else {
        return Vec::new();
    };
    let is_own = |(source, id): &(String, String)| {
        references.iter().any(|r| r.source == *source && r.external_id == *id)
    };
    let prefix = prefix_of(edge.target);
    let mut changed = Vec::new();
    let wanted = references.iter().min_by_key(|reference| reference.rank());
    let wanted = wanted.map(|r| Json::from(format!("{} {}", r.source, r.external_id).as_str()));
    if lead.reference.as_ref().is_some_and(|pair| !is_own(pair))
        || lead.reference.is_none() && !references.is_empty()
    {
        let held = lead.reference.as_ref();
        let held = held.map(|(source, id)| Json::from(format!("{source} {id}").as_str()));
        changed.push((format!("{prefix}_ref_external_id"), wanted.clone(), held));
    }
    if let Some(to) = &lead.to
        && !lead.owns.iter().any(is_own)
    {
        let column = match edge.target {
            Target::Anime => "to_anime_id",
            Target::Manga => "manga_id",
            Target::Work => "work_id",
        };
        changed.push((column.to_owned(), wanted, Some(Json::from(to.as_str()))));
    }
    changed
}

fn prefix_of(target: Target) -> &'static str {
    match target {
        Target::Anime => "to",
        Target::Manga => "manga",
        Target::Work => "work",
    }
}
