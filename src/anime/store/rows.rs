//! Rows of a wave, by table: those that are new for certain, and those that change what is stored.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Derived, Doc, canonical, derived_id};
use crate::anime::entry::{Company, Edge, Entry, EpisodePart, Kind, Target, Xref};
use crate::anime::policy::Voice;
use crate::anime::store::identity::uuid_of;
use crate::anime::store::load::{State, texts};
use crate::anime::store::table::{
    ALIAS, ANIME, ANIME_COMPANY, ANIME_EDGE, ANIME_EDGE_CHANGE, Batch, CHARACTER, COMPANY, EPISODE,
    LINK, Lines, MANGA_EDGE, MANGA_EDGE_CHANGE, STATE, Table, WORK_EDGE, WORK_EDGE_CHANGE, XREF,
};
use crate::anime::store::{Artifact, Turn};
use crate::canonical::array::array;
use crate::error::Result;

/// All rows of a wave.
#[derive(Debug, Default)]
pub(super) struct Rows {
    anime: Lines,
    anime_changes: Batch,
    episodes: Lines,
    episode_changes: Batch,
    characters: Lines,
    character_changes: Batch,
    aliases: Batch,
    links: Lines,
    link_changes: Batch,
    xrefs: Lines,
    companies: Companies,
    /// Of anime that are new, each once, and of those that may have some already.
    new_anime_companies: Lines,
    anime_companies: Batch,
    edges: [Lines; 3],
    edge_changes: [Batch; 3],
    new_states: Lines,
    states: Batch,
    /// Rows of entities and junctions so far, to see whether an entry changed anything.
    count: usize,
}

#[allow(clippy::unnecessary_wraps, reason = "a row is of texts that may be NULL")]
fn some(value: &(impl ToString + ?Sized)) -> Option<String> {
    Some(value.to_string())
}

/// Tables of edges, and of their changes, by [`place`].
const EDGES: [&Table; 3] = [&ANIME_EDGE, &MANGA_EDGE, &WORK_EDGE];
const EDGE_CHANGES: [&Table; 3] = [&ANIME_EDGE_CHANGE, &MANGA_EDGE_CHANGE, &WORK_EDGE_CHANGE];

fn place(target: Target) -> usize {
    match target {
        Target::Anime => 0,
        Target::Manga => 1,
        Target::Work => 2,
    }
}

impl Rows {
    /// Rows that change an entity or a junction so far.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn doc(table: &Table, fixed: &[Uuid], doc: &Doc) -> Vec<Option<String>> {
        let keys = fixed.iter().map(some);
        let rest = table.columns[fixed.len()..].iter().map(|(name, _)| doc.column(name));
        keys.chain(rest).collect()
    }

    pub(super) fn insert_anime(&mut self, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.anime.push(&ANIME, Self::doc(&ANIME, &[id], doc));
    }

    pub(super) fn update_anime(&mut self, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.anime_changes.push(Self::doc(&ANIME, &[id], doc));
    }

    pub(super) fn insert_episode(&mut self, anime: Uuid, part: &EpisodePart) {
        self.count += 1;
        let id = part.id.unwrap_or_else(|| derived_id(Derived::Episode(anime, part.number)));
        self.episodes.push(&EPISODE, Self::doc(&EPISODE, &[id, anime], &part.doc));
    }

    pub(super) fn update_episode(&mut self, anime: Uuid, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.episode_changes.push(Self::doc(&EPISODE, &[id, anime], doc));
    }

    pub(super) fn insert_character(&mut self, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.characters.push(&CHARACTER, Self::doc(&CHARACTER, &[id], doc));
    }

    pub(super) fn update_character(&mut self, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.character_changes.push(Self::doc(&CHARACTER, &[id], doc));
    }

    pub(super) fn alias(&mut self, character: Uuid, alias: &str) {
        self.aliases.push([some(&character), some(alias)]);
    }

    pub(super) fn link(&mut self, anime: Uuid, character: Uuid, doc: &Doc, is_new: bool) {
        self.count += 1;
        let row = Self::doc(&LINK, &[anime, character], doc);
        if is_new { self.links.push(&LINK, row) } else { self.link_changes.push(row) }
    }

    pub(super) fn insert_xref(&mut self, anime: Uuid, xref: &Xref) {
        self.count += 1;
        let Xref { reference, url } = xref;
        let row = [some(&anime), some(reference.source), some(&reference.external_id), some(url)];
        self.xrefs.push(&XREF, row);
    }

    /// `is_new`: the anime is, so that it has none yet.
    pub(super) fn companies(&mut self, anime: Uuid, companies: &[Company], is_new: bool) {
        let mut had = HashSet::new();
        for Company { id, name, description, role } in companies {
            let known = self.companies.entry(*id).or_insert_with(|| (name.clone(), None));
            if known.1.is_none() {
                known.1.clone_from(description);
            }
            let row = [some(&anime), some(id), some(*role)];
            if !is_new {
                self.anime_companies.push(row);
            } else if had.insert((id, role)) {
                self.new_anime_companies.push(&ANIME_COMPANY, row);
            }
        }
    }

    pub(super) fn insert_edge(&mut self, anime: Uuid, edge: &Edge) {
        self.count += 1;
        let primary = edge.primary();
        let mut row = vec![
            some(&anime),
            some(edge.relation),
            primary.map(|reference| reference.source.to_owned()),
            primary.map(|reference| reference.external_id.clone()),
            edge.title.clone(),
            Some(array_literal(&edge.urls)),
            edge.source_relation_type.clone(),
            Some(canonical(&edge.meta())),
        ];
        if edge.target == Target::Anime {
            row.push(edge.format.map(str::to_owned));
        }
        let place = place(edge.target);
        self.edges[place].push(EDGES[place], row);
    }

    pub(super) fn update_edge(&mut self, edge: &super::load::StoredEdge) {
        self.count += 1;
        let mut row = vec![
            some(&edge.id),
            edge.title.clone(),
            Some(array_literal(&edge.urls)),
            edge.source_relation_type.clone(),
            Some(canonical(&edge.meta)),
        ];
        if edge.target == Target::Anime {
            row.push(edge.format.clone());
        }
        self.edge_changes[place(edge.target)].push(row);
    }

    /// What is known of an anime from now on. `before`: what was, and who speaks.
    pub(super) fn state(
        &mut self,
        id: Uuid,
        entry: &Entry,
        artifact: &Artifact,
        before: Option<(&State, Voice)>,
    ) {
        let is_enriched = entry.kind == Kind::Enriched;
        let mut state = State {
            payload: Some(entry.sha256.clone()),
            supplement: None,
            is_enriched,
            earlier: Vec::new(),
            enriched_at: entry.enriched_at.clone(),
            artifact_date: artifact.date.clone(),
        };
        if let Some((old, voice)) = before {
            let heard = state.payload.take();
            state = State { is_enriched: is_enriched || old.is_enriched, ..old.clone() };
            match voice {
                Voice::Supplement => state.supplement = heard,
                Voice::Older => state.earlier.extend(heard),
                Voice::Newer | Voice::Better => {
                    state.earlier.extend(old.payload.clone());
                    state.payload = heard;
                    state.enriched_at = entry.enriched_at.clone().or(state.enriched_at);
                    state.artifact_date = artifact.date.clone().or(state.artifact_date);
                }
            }
            state.earlier.retain(|known| Some(known) != state.payload.as_ref());
            let surplus = state.earlier.len().saturating_sub(EARLIER_MAX);
            state.earlier.drain(..surplus);
        }
        let row = [
            some(&id),
            some(&artifact.run),
            state.enriched_at,
            state.payload,
            some(if state.is_enriched { "enriched" } else { "offline" }),
            some(&entry.id.is_none()),
            state.artifact_date,
            Some(array_literal(&state.earlier)),
            state.supplement,
            some("ingested"),
            None,
        ];
        match before {
            None => self.new_states.push(&STATE, row),
            Some(_) => self.states.push(row),
        }
    }

    /// Writes all of it, what is referred to first.
    pub(super) async fn write(
        self,
        tx: &mut PgConnection,
        turn: &Turn,
        tables: &mut BTreeMap<&'static str, (u64, u64)>,
    ) -> Result<()> {
        let changes = [
            (self.anime_changes, &ANIME),
            (self.character_changes, &CHARACTER),
            (self.episode_changes, &EPISODE),
            (self.link_changes, &LINK),
        ];
        for (batch, table) in
            changes.into_iter().chain(self.edge_changes.into_iter().zip(EDGE_CHANGES))
        {
            tables.entry(table.name).or_default().1 += batch.update(tx, table).await?;
        }
        let copies = [
            (self.anime, &ANIME),
            (self.characters, &CHARACTER),
            (self.episodes, &EPISODE),
            (self.links, &LINK),
            (self.xrefs, &XREF),
            (self.new_states, &STATE),
        ];
        let mut inserted = Vec::new();
        for (lines, table) in copies.into_iter().chain(self.edges.into_iter().zip(EDGES)) {
            inserted.push((table.name, lines.copy(tx, table).await?));
        }
        for (batch, table) in [(self.aliases, &ALIAS), (self.states, &STATE)] {
            inserted.push((table.name, batch.insert(tx, table).await?));
        }
        inserted.push((COMPANY.name, companies(tx, turn, self.companies).await?));
        let lines = self.new_anime_companies.copy(tx, &ANIME_COMPANY).await?;
        let batch = self.anime_companies.insert(tx, &ANIME_COMPANY).await?;
        inserted.push((ANIME_COMPANY.name, lines + batch));
        for (name, rows) in inserted {
            if name != STATE.name {
                tables.entry(name).or_default().0 += rows;
            }
        }
        Ok(())
    }
}

/// Name and description of companies.
type Companies = BTreeMap<Uuid, (String, Option<String>)>;

/// Writes what of them is new: most are known, and a row that gains nothing is not touched. It is
/// companies alone that groups have in common.
async fn companies(tx: &mut PgConnection, turn: &Turn, mut wanted: Companies) -> Result<u64> {
    let ids: Vec<Uuid> = wanted.keys().copied().collect();
    let known: Vec<(String, bool)> = sqlx::query_as(
        "SELECT id::text, description IS NOT NULL FROM company WHERE id = ANY($1::uuid[])",
    )
    .bind(texts(&ids))
    .fetch_all(&mut *tx)
    .await?;
    for (id, is_described) in known {
        let id = uuid_of(&id)?;
        if is_described || wanted.get(&id).is_some_and(|(_, description)| description.is_none()) {
            wanted.remove(&id);
        }
    }
    if wanted.is_empty() {
        return Ok(0);
    }
    turn.come().await?;
    let mut batch = Batch::default();
    for (id, (name, description)) in wanted {
        batch.push([some(&id), Some(name), description]);
    }
    batch.insert(tx, &COMPANY).await
}

/// How many replaced payloads are remembered.
const EARLIER_MAX: usize = 32;

/// A `text[]` as Postgres reads it.
fn array_literal(texts: &[String]) -> String {
    array(texts.iter().map(|text| Some(text.as_str())))
}
