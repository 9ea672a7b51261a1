//! A group of entries in one transaction: who they are, what is stored of them, what changes.

pub(super) mod characters;
pub(super) mod edges;
pub(super) mod identity;
pub(super) mod load;
mod rows;
mod table;
pub(super) mod write;

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use uuid::Uuid;

use crate::anime::doc::Doc;
use crate::anime::entry::{Entry, Kind};
use crate::anime::policy::{Policy, Proposal, Voice, merge};
use crate::anime::store::identity::{Identity, identify};
use crate::anime::store::load::{State, Stored};
use crate::anime::store::rows::Rows;
use crate::cast::Refusal;
use crate::error::{Error, ErrorKind, Result};

/// What every entry of an artifact shares.
#[derive(Debug, Clone)]
pub(super) struct Artifact {
    /// Its row in `ingestion_runs`.
    pub(super) run: i64,
    /// When it says it was made, as it says it.
    pub(super) date: Option<String>,
    /// Whether known entries are heard again.
    pub(super) again: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Inserted,
    Updated,
    Unchanged,
    Superseded,
    Rejected(Refusal),
}

/// What a group did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// By position of the entry.
    pub(super) fates: BTreeMap<usize, Fate>,
    /// Rows inserted and updated, by table.
    pub(super) tables: BTreeMap<&'static str, (u64, u64)>,
    /// Derived ids that gave way: position of the entry, the old id.
    pub(super) adopted: Vec<(usize, Uuid)>,
    /// Every anime that an entry is about.
    pub(super) anime: HashSet<Uuid>,
}

/// Whether another group is being written at the same time.
#[derive(Debug, Clone)]
pub(super) enum Turn {
    /// It is not, or it waits for this one.
    First,
    /// It is, and commits first: then it hands out its anime.
    Second(watch::Receiver<Option<HashSet<Uuid>>>),
}

impl Turn {
    /// Until the other group is committed; an error if it was taken back.
    pub(super) async fn come(&self) -> Result<HashSet<Uuid>> {
        let Self::Second(first) = self else { return Ok(HashSet::new()) };
        let mut first = first.clone();
        let done = first.wait_for(Option::is_some).await;
        let anime = done.ok().and_then(|anime| anime.clone());
        anime.ok_or_else(|| Error::new(ErrorKind::Busy, "the group before this one was taken back"))
    }
}

/// A change of a stored anime that waits for a person.
struct Waiting {
    entity_type: &'static str,
    entity_id: Uuid,
    anime_id: Uuid,
    proposal: Proposal,
}

/// Writes a group. Entries of one anime, or that share a source, come one after the other.
pub(super) async fn write_group(
    tx: &mut PgConnection,
    artifact: &Artifact,
    policy: &Policy,
    entries: &[&Entry],
    turn: &Turn,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut left: Vec<usize> = (0..entries.len()).collect();
    while !left.is_empty() {
        let (wave, later) = first_wave(entries, &left);
        let (works, anime): (Vec<usize>, Vec<usize>) =
            wave.into_iter().partition(|at| matches!(entries[*at].kind, Kind::Manga | Kind::Work));
        for (kind, originals) in [(Kind::Manga, &works), (Kind::Work, &works)] {
            let of_kind: Vec<usize> =
                originals.iter().copied().filter(|at| entries[*at].kind == kind).collect();
            write::originals(tx, policy, kind, entries, &of_kind, &mut outcome).await?;
        }
        let rows = Rows::default();
        let wave = Wave { artifact, policy, entries, turn, outcome: &mut outcome, rows };
        left = wave.write(tx, anime).await?;
        left.extend(later);
        left.sort_unstable();
    }
    Ok(outcome)
}

/// Entries that have nothing in common with an earlier one, and those that have.
fn first_wave(entries: &[&Entry], left: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut seen = HashSet::new();
    left.iter().partition(|at| {
        let names = names(entries[**at]);
        let is_alone = names.iter().all(|name| !seen.contains(name));
        seen.extend(names);
        is_alone
    })
}

/// What an entry is known by: entries that share none of it are about different things, as far as
/// they themselves say.
pub(super) fn names(entry: &Entry) -> Vec<String> {
    let references = entry.xrefs.iter().map(|xref| &xref.reference);
    let id = entry.id.or(entry.derived_id);
    references
        .map(|reference| format!("{} {}", reference.source, reference.external_id))
        .chain(id.map(|id| id.to_string()))
        .collect()
}

/// Anime entries that have nothing in common.
struct Wave<'a> {
    artifact: &'a Artifact,
    policy: &'a Policy,
    entries: &'a [&'a Entry],
    turn: &'a Turn,
    outcome: &'a mut Outcome,
    rows: Rows,
}

impl Wave<'_> {
    /// Returns those that turn out to be an anime of an earlier entry: their turn comes later.
    async fn write(mut self, tx: &mut PgConnection, wave: Vec<usize>) -> Result<Vec<usize>> {
        if wave.is_empty() {
            return Ok(Vec::new());
        }
        let identities = identify(tx, self.entries, &wave).await?;
        let mut known: Vec<(usize, Uuid)> = Vec::new();
        let (mut met, mut later) = (HashSet::new(), Vec::new());
        for (at, identity) in wave.into_iter().zip(identities) {
            // All of them are taken in, whichever is met first.
            if identity.anime().into_iter().filter(|id| !met.insert(*id)).count() > 0 {
                later.push(at);
                continue;
            }
            match identity {
                Identity::Known(id) => known.push((at, id)),
                Identity::Adopts { old, id } => {
                    identity::adopt(tx, old, id).await?;
                    self.outcome.adopted.push((at, old));
                    known.push((at, id));
                }
                Identity::Refused(refusal) => {
                    self.outcome.fates.insert(at, Fate::Rejected(refusal));
                }
            }
        }
        self.outcome.anime.extend(&met);
        let states = load::states(tx, &ids(&known)).await?;
        let mut fresh = Vec::new();
        let mut changed = Vec::new();
        for (at, id) in known {
            match states.get(&id) {
                None => fresh.push((at, id)),
                Some(state) => match state.verdict(self.entries[at], self.artifact) {
                    Ok(voice) => changed.push((at, id, voice)),
                    Err(fate) => drop(self.outcome.fates.insert(at, fate)),
                },
            }
        }
        let changed_ids: Vec<Uuid> = changed.iter().map(|(_, id, _)| *id).collect();
        let mut stored = load::stored(tx, &changed_ids).await?;
        let everyone = fresh.iter().map(|(at, id)| (*at, *id, Voice::Newer));
        let everyone: Vec<_> = everyone.chain(changed.iter().copied()).collect();
        let mut people = characters::Cast::load(tx, self.entries, &everyone).await?;
        for (at, id) in fresh {
            self.insert(at, id, &mut people);
        }
        let mut waiting = Vec::new();
        for (at, id, voice) in changed {
            let Some(stored) = stored.remove(&id) else { continue };
            self.update(at, id, voice, &states[&id], stored, &mut people, &mut waiting);
        }
        people.rows(&mut self.rows, &mut waiting);
        self.rows.write(tx, self.turn, &mut self.outcome.tables).await?;
        write::queue(tx, self.artifact.run, &waiting).await?;
        Ok(later)
    }

    fn insert(&mut self, at: usize, id: Uuid, people: &mut characters::Cast) {
        let entry = self.entries[at];
        self.rows.insert_anime(id, &entry.doc);
        for xref in &entry.xrefs {
            self.rows.insert_xref(id, xref);
        }
        for part in &entry.episodes {
            self.rows.insert_episode(id, part);
        }
        for edge in &entry.edges {
            self.rows.insert_edge(id, edge);
        }
        self.rows.companies(id, &entry.companies, true);
        people.appear(entry, id, Voice::Newer, &Stored::default(), &mut self.rows);
        self.rows.state(id, entry, self.artifact, None);
        self.outcome.fates.insert(at, Fate::Inserted);
    }

    #[allow(clippy::too_many_arguments, reason = "what one entry's merge needs, used once")]
    fn update(
        &mut self,
        at: usize,
        id: Uuid,
        voice: Voice,
        state: &State,
        mut stored: Stored,
        people: &mut characters::Cast,
        waiting: &mut Vec<Waiting>,
    ) {
        let entry = self.entries[at];
        let before = self.rows.len();
        let mut said = entry.doc.clone();
        self.new_xrefs(id, entry, &stored, &mut said);
        let merged = merge(&stored.doc, &said, self.policy, voice);
        if merged.is_changed {
            self.rows.update_anime(id, &merged.doc);
        }
        let mut proposals = merged.proposals;
        self.episodes(id, entry, voice, &mut stored, &mut proposals, waiting);
        edges::merge(&mut self.rows, id, entry, voice, &stored, &mut proposals);
        self.rows.companies(id, &entry.companies, false);
        people.appear(entry, id, voice, &stored, &mut self.rows);
        if voice == Voice::Newer {
            proposals.extend(stored.vanished(entry, id, people));
        }
        let is_changed = self.rows.len() > before;
        let heard = Some(&entry.sha256);
        let is_known =
            [&state.payload, &state.supplement].iter().any(|known| known.as_ref() == heard);
        let fate = match (is_changed, is_known) {
            (true, _) => Fate::Updated,
            // Heard again, on request.
            (false, true) => Fate::Unchanged,
            (false, false) => Fate::Superseded,
        };
        self.outcome.fates.insert(at, fate);
        self.rows.state(id, entry, self.artifact, Some((state, voice)));
        waiting.extend(proposals.into_iter().map(|proposal| Waiting {
            entity_type: "anime",
            entity_id: id,
            anime_id: id,
            proposal,
        }));
    }

    /// A platform's first url stays its reference; another one goes to `meta.extra_urls`.
    fn new_xrefs(&mut self, id: Uuid, entry: &Entry, stored: &Stored, said: &mut Doc) {
        let mut extra: Vec<crate::json::Json> =
            said.get("meta.extra_urls").into_iter().flat_map(|urls| urls.iter().cloned()).collect();
        let (listed, mut is_new) = (extra.len(), false);
        for xref in &entry.xrefs {
            match stored.xrefs.get(xref.reference.source) {
                None => self.rows.insert_xref(id, xref),
                Some((_, url)) if *url == xref.url => {}
                Some(_) => {
                    is_new = true;
                    extra.push(crate::json::Json::from(xref.url.as_str()));
                }
            }
        }
        if is_new || listed > 0 {
            said.set("meta.extra_urls", crate::json::Json::Array(extra));
        }
    }

    fn episodes(
        &mut self,
        id: Uuid,
        entry: &Entry,
        voice: Voice,
        stored: &mut Stored,
        proposals: &mut Vec<Proposal>,
        waiting: &mut Vec<Waiting>,
    ) {
        for part in &entry.episodes {
            let Some((episode, before)) = stored.episodes.remove(&part.number) else {
                self.rows.insert_episode(id, part);
                continue;
            };
            let mut said = part.doc.clone();
            if let Some(other) = part.id.filter(|other| *other != episode) {
                said.set("meta.id", crate::json::Json::from(other.to_string().as_str()));
            }
            let merged = merge(&before, &said, &Policy::default(), voice);
            if merged.is_changed {
                self.rows.update_episode(id, episode, &merged.doc);
            }
            waiting.extend(merged.proposals.into_iter().map(|proposal| Waiting {
                entity_type: "episode",
                entity_id: episode,
                anime_id: id,
                proposal,
            }));
        }
        // The offline database has no episodes; only an enriched artifact can miss one.
        let gone =
            stored.episodes.iter().map(|(number, (id, _))| load::gone(*id, &number.to_string()));
        proposals.extend(load::vanished_rows("episode", gone.collect(), voice));
    }
}

fn ids(known: &[(usize, Uuid)]) -> Vec<Uuid> {
    known.iter().map(|(_, id)| *id).collect()
}
