//! What is stored of the anime of a wave.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Doc, Members, canonical};
use crate::anime::entry::{Entry, Kind, Target};
use crate::anime::policy::{Proposal, Voice};
use crate::anime::store::characters::Cast;
use crate::anime::store::identity::uuid_of;
use crate::anime::store::{Artifact, Fate};
use crate::error::Result;
use crate::json::Json;

/// A row of `anime_ingestion_state`, or an anime without one.
#[derive(Debug, Clone, Default)]
pub(in crate::anime) struct State {
    pub(in crate::anime) payload: Option<String>,
    pub(in crate::anime) supplement: Option<String>,
    pub(in crate::anime) is_enriched: bool,
    pub(in crate::anime) earlier: Vec<String>,
    pub(in crate::anime) enriched_at: Option<String>,
    pub(in crate::anime) artifact_date: Option<String>,
}

impl State {
    /// Who speaks in an entry of an anime that is stored, or why it need not be heard.
    pub(in crate::anime) fn verdict(
        &self,
        entry: &Entry,
        artifact: &Artifact,
    ) -> Result<Voice, Fate> {
        let is_offline = entry.kind == Kind::Offline;
        let heard = Some(&entry.sha256);
        if is_offline && self.is_enriched {
            let is_known = self.supplement.as_ref() == heard && !artifact.again;
            return if is_known { Err(Fate::Unchanged) } else { Ok(Voice::Supplement) };
        }
        if self.payload.as_ref() == heard {
            return if artifact.again { Ok(Voice::Newer) } else { Err(Fate::Unchanged) };
        }
        if !is_offline && !self.is_enriched {
            return Ok(Voice::Better);
        }
        let order = |stored: &Option<String>, said: &Option<String>| {
            stored.as_ref().zip(said.as_ref()).map(|(stored, said)| said.cmp(stored))
        };
        let enriched = self.enriched_at.as_deref().and_then(instant);
        let said = entry.enriched_at.as_deref().and_then(instant);
        let by_entry = enriched.zip(said).map(|(stored, said)| said.cmp(&stored));
        // Dates of artifacts are ISO: they order as texts.
        let by_artifact = order(&self.artifact_date, &artifact.date);
        let order = by_entry.filter(|order| order.is_ne()).or(by_artifact);
        match order {
            Some(std::cmp::Ordering::Greater) => Ok(Voice::Newer),
            _ if self.earlier.contains(&entry.sha256) => Err(Fate::Superseded),
            Some(std::cmp::Ordering::Less) => Ok(Voice::Older),
            _ => Ok(Voice::Newer),
        }
    }
}

fn instant(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}

/// States of the anime that are stored, whether or not they were ever ingested.
pub(in crate::anime) async fn states(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, State>> {
    let rows = sqlx::query(
        "SELECT a.id::text AS anime, s.last_payload_sha256, s.supplement_sha256, \
                coalesce(s.source_kind, 'enriched') = 'enriched' AS is_enriched, \
                coalesce(s.earlier_payload_sha256, '{}') AS earlier, s.artifact_date, \
                to_char(s.last_enriched_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
                    AS enriched_at \
         FROM anime a LEFT JOIN anime_ingestion_state s ON s.anime_id = a.id \
         WHERE a.id = ANY($1::uuid[])",
    )
    .bind(texts(ids))
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = State {
                payload: row.try_get("last_payload_sha256")?,
                supplement: row.try_get("supplement_sha256")?,
                is_enriched: row.try_get("is_enriched")?,
                earlier: row.try_get("earlier")?,
                enriched_at: row.try_get("enriched_at")?,
                artifact_date: row.try_get("artifact_date")?,
            };
            Ok((uuid_of(row.try_get("anime")?)?, state))
        })
        .collect()
}

/// A stored edge.
#[derive(Debug, Clone)]
pub(in crate::anime) struct StoredEdge {
    pub(in crate::anime) id: i64,
    pub(in crate::anime) target: Target,
    pub(in crate::anime) relation: String,
    pub(in crate::anime) title: Option<String>,
    pub(in crate::anime) urls: Vec<String>,
    pub(in crate::anime) format: Option<String>,
    pub(in crate::anime) source_relation_type: Option<String>,
    pub(in crate::anime) meta: Json,
}

/// What is stored of one anime.
#[derive(Debug, Default)]
pub(in crate::anime) struct Stored {
    pub(in crate::anime) doc: Doc,
    /// By number.
    pub(in crate::anime) episodes: BTreeMap<i64, (Uuid, Doc)>,
    /// By platform: id and url.
    pub(in crate::anime) xrefs: HashMap<String, (String, String)>,
    pub(in crate::anime) edges: Vec<StoredEdge>,
    /// Appearances, by character.
    pub(in crate::anime) links: HashMap<Uuid, Doc>,
}

impl Stored {
    /// Rows beside the anime's own that an enriched artifact no longer has.
    pub(super) fn vanished(&self, entry: &Entry, id: Uuid, people: &Cast) -> Vec<Proposal> {
        let here: Vec<Uuid> =
            entry.characters.iter().map(|part| people.canonical(part.id_in(id))).collect();
        let gone = self.links.keys().filter(|character| !here.contains(character));
        let mut gone: Vec<Json> =
            gone.map(|character| gone_row(*character, "character_id", "")).collect();
        gone.sort_by_key(canonical);
        let mut proposals = Vec::from_iter(vanished_rows("anime_character", gone, Voice::Newer));
        let sources: Vec<&str> = entry.xrefs.iter().map(|xref| xref.reference.source).collect();
        let mut gone: Vec<Json> = self
            .xrefs
            .iter()
            .filter(|(source, _)| !sources.contains(&source.as_str()))
            .map(|(source, (external_id, url))| {
                let mut row = Members::default();
                row.put("source", Json::from(source.as_str()));
                row.put("external_id", Json::from(external_id.as_str()));
                row.put("url", Json::from(url.as_str()));
                row.rest()
            })
            .collect();
        gone.sort_by_key(canonical);
        proposals.extend(vanished_rows("anime_xref", gone, Voice::Newer));
        proposals
    }
}

/// A row that is no longer said, as a proposal names it.
pub(in crate::anime) fn gone(id: Uuid, label: &str) -> Json {
    gone_row(id, "id", label)
}

pub(in crate::anime) fn gone_row(id: Uuid, key: &str, label: &str) -> Json {
    let mut row = Members::default();
    row.put(key, Json::from(id.to_string().as_str()));
    if !label.is_empty() {
        row.put("label", Json::from(label));
    }
    row.rest()
}

/// A proposal to delete rows.
pub(in crate::anime) fn vanished_rows(
    table: &str,
    rows: Vec<Json>,
    voice: Voice,
) -> Option<Proposal> {
    let is_said = voice == Voice::Newer && !rows.is_empty();
    is_said.then(|| Proposal {
        field: table.to_owned(),
        reason: "vanished",
        before: Json::Array(rows.clone()),
        // What is proposed is that these be gone; the digest tells one such proposal from another.
        after: Json::Object(vec![(b"delete".as_slice().into(), Json::Array(rows))]),
    })
}

/// All that is stored of some anime.
pub(in crate::anime) async fn stored(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Stored>> {
    let mut found: HashMap<Uuid, Stored> = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let ids = texts(ids);
    let rows = sqlx::query(include_str!("../../sql/anime/stored.sql"))
        .bind(&ids)
        .fetch_all(&mut *tx)
        .await?;
    for row in rows {
        let stored = found.entry(uuid_of(row.try_get("anime")?)?).or_default();
        let text: &str = row.try_get("row")?;
        match row.try_get("kind")? {
            "anime" => stored.doc = Doc::of_row(text)?,
            "episode" => {
                let mut doc = Doc::of_row(text)?;
                let number = doc.get("episode_number").and_then(Json::as_i64).unwrap_or_default();
                let id = uuid_of(doc.text("id").unwrap_or_default())?;
                doc.0.remove("id");
                stored.episodes.insert(number, (id, doc));
            }
            "link" => {
                let mut doc = Doc::of_row(text)?;
                let id = uuid_of(doc.text("character_id").unwrap_or_default())?;
                doc.0.remove("character_id");
                stored.links.insert(id, doc);
            }
            "xref" => {
                let doc = Doc::of_row(text)?;
                let part = |name: &str| doc.text(name).unwrap_or_default().to_owned();
                stored.xrefs.insert(part("source"), (part("external_id"), part("url")));
            }
            kind => stored.edges.push(edge(kind, text)?),
        }
    }
    Ok(found)
}

fn edge(kind: &str, text: &str) -> Result<StoredEdge> {
    let row = Members::of(crate::anime::doc::stored_json(text)?);
    let text = |name: &str| row.text(name).map(str::to_owned);
    let urls = row.get("urls").into_iter().flat_map(Json::iter);
    Ok(StoredEdge {
        id: row.get("id").and_then(Json::as_i64).unwrap_or_default(),
        target: match kind {
            "manga_edge" => Target::Manga,
            "work_edge" => Target::Work,
            _ => Target::Anime,
        },
        relation: text("relation").unwrap_or_default(),
        title: text("title"),
        urls: urls.filter_map(|url| url.as_str().map(str::to_owned)).collect(),
        format: text("format"),
        source_relation_type: text("source_relation_type"),
        meta: row.get("meta").cloned().unwrap_or_else(|| Json::Object(Vec::new())),
    })
}

pub(in crate::anime) fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}
