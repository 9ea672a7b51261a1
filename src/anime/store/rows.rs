//! Rows of a wave, column by column, and the statements that write them: one per table and kind.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::doc::{Derived, Doc, canonical, derived_id};
use crate::anime::entry::{Company, Edge, Entry, EpisodePart, Kind, Target, Xref};
use crate::anime::policy::Voice;
use crate::anime::store::Artifact;
use crate::anime::store::load::State;
use crate::canonical::array::array;
use crate::error::Result;
use crate::store::sql;

/// A column, and the expression that makes it of a text `$`.
type Column = (&'static str, &'static str);

const UUID: &str = "$::uuid";
const TEXT: &str = "$";
const INT: &str = "$::int";
const JSONB: &str = "$::jsonb";

/// How rows of a table are written.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// Columns at the beginning that an update finds its row by.
    key: usize,
    /// What follows an INSERT.
    conflict: &'static str,
}

pub(super) const ANIME: Table = Table {
    name: "anime",
    columns: &[
        ("id", UUID),
        ("title", TEXT),
        ("title_english", TEXT),
        ("title_japanese", TEXT),
        ("type", TEXT),
        ("status", TEXT),
        ("rating", TEXT),
        ("season", TEXT),
        ("year", INT),
        ("episode_count", "coalesce($::int, 0)"),
        ("duration_seconds", INT),
        ("nsfw", "$::boolean"),
        ("synopsis", TEXT),
        ("background", TEXT),
        ("meta", JSONB),
        ("raw_by_source", JSONB),
    ],
    key: 1,
    conflict: "",
};

pub(super) const EPISODE: Table = Table {
    name: "episode",
    columns: &[
        ("id", UUID),
        ("anime_id", UUID),
        ("episode_number", INT),
        ("season_number", INT),
        ("title", TEXT),
        ("title_japanese", TEXT),
        ("title_romaji", TEXT),
        ("synopsis", TEXT),
        ("aired_at", "$::timestamptz"),
        ("duration_seconds", INT),
        ("filler", "coalesce($::boolean, false)"),
        ("recap", "coalesce($::boolean, false)"),
        ("score", "$::numeric"),
        ("meta", JSONB),
        ("raw_by_source", JSONB),
    ],
    key: 2,
    conflict: "",
};

pub(super) const CHARACTER: Table = Table {
    name: "character",
    columns: &[
        ("id", UUID),
        ("name", TEXT),
        ("name_native", TEXT),
        ("description", TEXT),
        ("gender", TEXT),
        ("age", TEXT),
        ("favorites", INT),
        ("meta", JSONB),
        ("raw_by_source", JSONB),
    ],
    key: 1,
    conflict: "",
};

const ALIAS: Table = Table {
    name: "character_alias",
    columns: &[("character_id", UUID), ("alias", TEXT)],
    key: 2,
    conflict: " ON CONFLICT DO NOTHING",
};

pub(super) const LINK: Table = Table {
    name: "anime_character",
    columns: &[
        ("anime_id", UUID),
        ("character_id", UUID),
        ("role", TEXT),
        ("billing_order", INT),
        ("meta", JSONB),
    ],
    key: 2,
    conflict: "",
};

const XREF: Table = Table {
    name: "anime_xref",
    columns: &[("anime_id", UUID), ("source", TEXT), ("external_id", TEXT), ("url", TEXT)],
    key: 2,
    conflict: "",
};

const COMPANY: Table = Table {
    name: "company",
    columns: &[("id", UUID), ("name", TEXT), ("description", TEXT)],
    key: 1,
    conflict: " ON CONFLICT (id) DO UPDATE SET description = EXCLUDED.description \
               WHERE company.description IS NULL AND EXCLUDED.description IS NOT NULL",
};

const ANIME_COMPANY: Table = Table {
    name: "anime_company",
    columns: &[("anime_id", UUID), ("company_id", UUID), ("role", TEXT)],
    key: 3,
    conflict: " ON CONFLICT DO NOTHING",
};

const ANIME_EDGE: Table = Table {
    name: "anime_relation",
    columns: &[
        ("from_anime_id", UUID),
        ("relation_type", TEXT),
        ("to_ref_source", TEXT),
        ("to_ref_external_id", TEXT),
        ("to_title", TEXT),
        ("to_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
        ("to_anime_type", TEXT),
    ],
    key: 0,
    conflict: "",
};

const MANGA_EDGE: Table = Table {
    name: "anime_manga_relation",
    columns: &[
        ("anime_id", UUID),
        ("relation_type", TEXT),
        ("manga_ref_source", TEXT),
        ("manga_ref_external_id", TEXT),
        ("manga_title", TEXT),
        ("manga_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 0,
    conflict: "",
};

const WORK_EDGE: Table = Table {
    name: "anime_work_relation",
    columns: &[
        ("anime_id", UUID),
        ("relation_type", TEXT),
        ("work_ref_source", TEXT),
        ("work_ref_external_id", TEXT),
        ("work_title", TEXT),
        ("work_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 0,
    conflict: "",
};

/// Updates of edges: by number, whatever their target.
const ANIME_EDGE_CHANGE: Table = Table {
    name: "anime_relation",
    columns: &[
        ("id", "$::bigint"),
        ("to_title", TEXT),
        ("to_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
        ("to_anime_type", TEXT),
    ],
    key: 1,
    conflict: "",
};

const MANGA_EDGE_CHANGE: Table = Table {
    name: "anime_manga_relation",
    columns: &[
        ("id", "$::bigint"),
        ("manga_title", TEXT),
        ("manga_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 1,
    conflict: "",
};

const WORK_EDGE_CHANGE: Table = Table {
    name: "anime_work_relation",
    columns: &[
        ("id", "$::bigint"),
        ("work_title", TEXT),
        ("work_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 1,
    conflict: "",
};

const STATE: Table = Table {
    name: "anime_ingestion_state",
    columns: &[
        ("anime_id", UUID),
        ("last_run_id", "$::bigint"),
        ("last_enriched_at", "$::timestamptz"),
        ("last_payload_sha256", TEXT),
        ("source_kind", TEXT),
        ("is_derived_id", "$::boolean"),
        ("artifact_date", TEXT),
        ("earlier_payload_sha256", "$::text[]"),
        ("supplement_sha256", TEXT),
        ("ingestion_status", TEXT),
        ("last_ingested_at", "coalesce($::timestamptz, now())"),
    ],
    key: 1,
    conflict: " ON CONFLICT (anime_id) DO UPDATE SET last_run_id = EXCLUDED.last_run_id, \
        last_enriched_at = EXCLUDED.last_enriched_at, \
        last_payload_sha256 = EXCLUDED.last_payload_sha256, source_kind = EXCLUDED.source_kind, \
        artifact_date = EXCLUDED.artifact_date, \
        earlier_payload_sha256 = EXCLUDED.earlier_payload_sha256, \
        supplement_sha256 = EXCLUDED.supplement_sha256, \
        ingestion_status = EXCLUDED.ingestion_status, \
        last_ingested_at = EXCLUDED.last_ingested_at",
};

impl Table {
    fn source(&self) -> String {
        let arrays: Vec<String> =
            (1..=self.columns.len()).map(|n| format!("${n}::text[]")).collect();
        let names: Vec<String> = (1..=self.columns.len()).map(|n| format!("c{n}")).collect();
        format!("unnest({}) AS r ({})", arrays.join(", "), names.join(", "))
    }

    fn expression(&self, at: usize) -> String {
        self.columns[at].1.replace('$', &format!("r.c{}", at + 1))
    }

    fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = (0..names.len()).map(|at| self.expression(at)).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}{}",
            self.name,
            names.join(", "),
            values.join(", "),
            self.source(),
            self.conflict
        )
    }

    fn update(&self) -> String {
        let set: Vec<String> = (self.key..self.columns.len())
            .map(|at| format!("{} = {}", self.columns[at].0, self.expression(at)))
            .collect();
        let found: Vec<String> = (0..self.key)
            .map(|at| format!("t.{} = {}", self.columns[at].0, self.expression(at)))
            .collect();
        let stamped = ["anime", "episode", "character", "manga", "original_work"];
        let touch = if stamped.contains(&self.name) { ", updated_at = now()" } else { "" };
        format!(
            "UPDATE {} AS t SET {}{touch} FROM {} WHERE {}",
            self.name,
            set.join(", "),
            self.source(),
            found.join(" AND ")
        )
    }
}

/// Texts by column.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<Vec<Option<String>>>);

impl Batch {
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Option<String>>) {
        for (at, value) in row.into_iter().enumerate() {
            if self.0.len() <= at {
                self.0.push(Vec::new());
            }
            self.0[at].push(value);
        }
    }

    pub(super) async fn insert(self, tx: &mut PgConnection, table: &Table) -> Result<u64> {
        self.run(tx, table.insert()).await
    }

    pub(super) async fn update(self, tx: &mut PgConnection, table: &Table) -> Result<u64> {
        self.run(tx, table.update()).await
    }

    /// Runs a statement over all columns.
    pub(super) async fn execute(self, tx: &mut PgConnection, statement: &str) -> Result<()> {
        self.run(tx, statement.to_owned()).await.map(drop)
    }

    async fn run(self, tx: &mut PgConnection, statement: String) -> Result<u64> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let mut query = sqlx::query(sql(statement));
        for column in self.0 {
            query = query.bind(column);
        }
        Ok(query.execute(tx).await?.rows_affected())
    }
}

/// All rows of a wave.
#[derive(Debug, Default)]
pub(super) struct Rows {
    anime: Batch,
    anime_changes: Batch,
    episodes: Batch,
    episode_changes: Batch,
    pub(super) characters: Batch,
    pub(super) character_changes: Batch,
    pub(super) aliases: Batch,
    links: Batch,
    link_changes: Batch,
    xrefs: Batch,
    companies: Batch,
    known_companies: HashSet<Uuid>,
    anime_companies: Batch,
    edges: [Batch; 3],
    edge_changes: [Batch; 3],
    states: Batch,
    /// Rows of entities and junctions so far, to see whether an entry changed anything.
    count: usize,
}

#[allow(clippy::unnecessary_wraps, reason = "a row is of texts that may be NULL")]
fn some(value: &(impl ToString + ?Sized)) -> Option<String> {
    Some(value.to_string())
}

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
        self.anime.push(Self::doc(&ANIME, &[id], doc));
    }

    pub(super) fn update_anime(&mut self, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.anime_changes.push(Self::doc(&ANIME, &[id], doc));
    }

    pub(super) fn insert_episode(&mut self, anime: Uuid, part: &EpisodePart) {
        self.count += 1;
        let id = part.id.unwrap_or_else(|| derived_id(Derived::Episode(anime, part.number)));
        self.episodes.push(Self::doc(&EPISODE, &[id, anime], &part.doc));
    }

    pub(super) fn update_episode(&mut self, anime: Uuid, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.episode_changes.push(Self::doc(&EPISODE, &[id, anime], doc));
    }

    pub(super) fn insert_character(&mut self, id: Uuid, doc: &Doc) {
        self.count += 1;
        self.characters.push(Self::doc(&CHARACTER, &[id], doc));
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
        if is_new { self.links.push(row) } else { self.link_changes.push(row) }
    }

    pub(super) fn insert_xref(&mut self, anime: Uuid, xref: &Xref) {
        self.count += 1;
        let Xref { reference, url } = xref;
        self.xrefs.push([
            some(&anime),
            some(reference.source),
            some(&reference.external_id),
            some(url),
        ]);
    }

    pub(super) fn companies(&mut self, anime: Uuid, companies: &[Company]) {
        for company in companies {
            if self.known_companies.insert(company.id) {
                let Company { id, name, description, .. } = company;
                self.companies.push([some(id), some(name), description.clone()]);
            }
            self.anime_companies.push([some(&anime), some(&company.id), some(company.role)]);
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
        self.edges[place(edge.target)].push(row);
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
        self.states.push([
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
        ]);
    }

    /// Writes all of it, what is referred to first.
    pub(super) async fn write(
        self,
        tx: &mut PgConnection,
        tables: &mut BTreeMap<&'static str, (u64, u64)>,
    ) -> Result<()> {
        let [anime_edges, manga_edges, work_edges] = self.edges;
        let [anime_edge_changes, manga_edge_changes, work_edge_changes] = self.edge_changes;
        let changes = [
            (self.anime_changes, &ANIME),
            (self.character_changes, &CHARACTER),
            (self.episode_changes, &EPISODE),
            (self.link_changes, &LINK),
            (anime_edge_changes, &ANIME_EDGE_CHANGE),
            (manga_edge_changes, &MANGA_EDGE_CHANGE),
            (work_edge_changes, &WORK_EDGE_CHANGE),
        ];
        for (batch, table) in changes {
            tables.entry(table.name).or_default().1 += batch.update(tx, table).await?;
        }
        let inserts = [
            (self.anime, &ANIME),
            (self.characters, &CHARACTER),
            (self.companies, &COMPANY),
            (self.aliases, &ALIAS),
            (self.episodes, &EPISODE),
            (self.links, &LINK),
            (self.xrefs, &XREF),
            (self.anime_companies, &ANIME_COMPANY),
            (anime_edges, &ANIME_EDGE),
            (manga_edges, &MANGA_EDGE),
            (work_edges, &WORK_EDGE),
            (self.states, &STATE),
        ];
        for (batch, table) in inserts {
            let inserted = batch.insert(tx, table).await?;
            if table.name != "anime_ingestion_state" {
                tables.entry(table.name).or_default().0 += inserted;
            }
        }
        Ok(())
    }
}

/// How many replaced payloads are remembered.
const EARLIER_MAX: usize = 32;

/// A `text[]` as Postgres reads it.
fn array_literal(texts: &[String]) -> String {
    array(texts.iter().map(|text| Some(text.as_str())))
}
