//! One anime: what its entry says against what is stored of it.

use std::collections::HashSet;

use uuid::Uuid;

use crate::anime::doc::Doc;
use crate::anime::entry::{Entry, Kind};
use crate::anime::parity::found::{Changed, Found, Row};
use crate::anime::parity::shared::Shared;
use crate::anime::parity::standing::{Queue, Standing};
use crate::anime::parity::stored::Holdings;
use crate::anime::parity::values::{alike, covers, leaves, scalar};
use crate::anime::parity::{edges, people};
use crate::anime::policy::{Policy, Voice, merge};
use crate::anime::store::load::{Stored, gone, vanished_rows};
use crate::json::Json;

/// An entry and where it belongs.
pub(super) struct Told<'a> {
    pub(super) entry: &'a Entry,
    pub(super) anime: Uuid,
    pub(super) id: String,
    pub(super) standing: Standing,
    pub(super) locator: String,
}

/// What entries of a group are compared with.
pub(super) struct Against<'a> {
    pub(super) policy: &'a Policy,
    pub(super) holdings: &'a Holdings,
    pub(super) queue: &'a Queue,
    /// Anime whose edges to themselves were taken away.
    pub(super) self_related: &'a HashSet<String>,
}

/// A row's fields on both sides.
pub(super) struct Sides<'a> {
    pub(super) entity: (&'static str, Uuid),
    pub(super) stored: &'a Doc,
    pub(super) said: &'a Doc,
    pub(super) policy: &'a Policy,
    pub(super) standing: Standing,
}

impl Against<'_> {
    /// Compares an entry with all rows of its anime.
    pub(super) fn entry(
        &self,
        told: &Told<'_>,
        whole: &Json,
        shared: &mut Shared,
        found: &mut Found<'_>,
    ) {
        let none = Stored::default();
        let stored = self.holdings.stored.get(&told.anime).unwrap_or(&none);
        let before = found.total();
        self.anime(told, stored, found);
        self.xrefs(told, stored, found);
        self.episodes(told, stored, found);
        self.companies(told, shared, found);
        people::compare(self, told, stored, shared, found);
        edges::compare(self, told, stored, found);
        if found.total() == before {
            self.second_reading(told, whole, stored, found);
        }
    }

    fn anime(&self, told: &Told<'_>, stored: &Stored, found: &mut Found<'_>) {
        let tally = found.tally("anime");
        (tally.source, tally.target) = (tally.source + 1, tally.target + 1);
        let row = Row::new("anime", &[("id", &told.id)]);
        let mut said = told.entry.doc.clone();
        let listed = stored.doc.get("meta.extra_urls");
        let mut extra: Vec<Json> =
            said.get("meta.extra_urls").into_iter().flat_map(Json::iter).cloned().collect();
        for xref in &told.entry.xrefs {
            // Another url of a platform that had its reference already.
            let url = Json::from(xref.url.as_str());
            if listed.is_some_and(|listed| covers(Some(listed), &Json::Array(vec![url.clone()])))
                && !extra.contains(&url)
            {
                extra.push(url);
            }
        }
        if !extra.is_empty() {
            said.set("meta.extra_urls", Json::Array(extra));
        }
        let sides = Sides {
            entity: ("anime", told.anime),
            stored: &stored.doc,
            said: &said,
            policy: self.policy,
            standing: told.standing,
        };
        let changed = self.fields(&sides, found);
        found.changed(&row, changed, &told.locator);
    }

    /// Columns in which a row is not what it would be if the entry were heard again, and nothing
    /// accounts for it.
    pub(super) fn fields(&self, sides: &Sides<'_>, found: &mut Found<'_>) -> Vec<Changed> {
        let Sides { entity, stored, said, policy, standing } = sides;
        let voice = standing.voice();
        let merged = merge(stored, said, policy, voice);
        let mut changed = Vec::new();
        for (field, value) in &said.0 {
            if alike(stored.get(field), merged.doc.get(field)) {
                continue;
            }
            if self.queue.accepts(*entity, field, value, stored.get(field)) {
                found.reviewed += 1;
            } else {
                changed.push((field.clone(), said.get(field).cloned(), stored.get(field).cloned()));
            }
        }
        for proposal in &merged.proposals {
            let value = stored.get(&proposal.field);
            if self.queue.explains(*entity, proposal, value, (said, policy, voice)) {
                found.reviewed += 1;
                continue;
            }
            // What several artifacts told may be further than this one, and more.
            let is_further = ["fell", "went_back", "vanished"].contains(&proposal.reason);
            if is_further && *standing != Standing::Alone {
                found.elsewhere += 1;
                continue;
            }
            let said = said.get(&proposal.field).cloned();
            changed.push((proposal.field.clone(), said, value.cloned()));
        }
        changed
    }

    fn xrefs(&self, told: &Told<'_>, stored: &Stored, found: &mut Found<'_>) {
        let tally = found.tally("anime_xref");
        tally.source += told.entry.xrefs.len() as u64;
        tally.target += stored.xrefs.len() as u64;
        let row =
            |source: &str| Row::new("anime_xref", &[("anime_id", &told.id), ("source", source)]);
        let more = stored.doc.get("meta.extra_urls");
        for xref in &told.entry.xrefs {
            let reference = &xref.reference;
            let Some((external_id, url)) = stored.xrefs.get(reference.source) else {
                let is_it = |row: &Json| {
                    let is =
                        |name: &str, text: &str| row.get(name).and_then(Json::as_str) == Some(text);
                    is("source", reference.source) && is("external_id", &reference.external_id)
                };
                if self.queue.deleted(told.anime, "anime_xref").any(is_it) {
                    found.reviewed += 1;
                } else {
                    found.missing(row(reference.source), &xref.url, &told.locator);
                }
                continue;
            };
            let url_said = Json::from(xref.url.as_str());
            if *url != xref.url && covers(more, &Json::Array(vec![url_said.clone()])) {
                found.elsewhere += 1;
                continue;
            }
            let pairs = [
                ("external_id", reference.external_id.as_str(), external_id),
                ("url", xref.url.as_str(), url),
            ];
            let differing = pairs.into_iter().filter(|(_, said, stored)| said != stored);
            let columns = differing.map(|(column, said, stored)| {
                let value = |text: &str| Some(Json::from(text));
                (column.to_owned(), value(said), value(stored))
            });
            found.changed(&row(reference.source), columns.collect(), &told.locator);
        }
        let said: Vec<&str> = told.entry.xrefs.iter().map(|x| x.reference.source).collect();
        let beyond = stored.xrefs.iter().filter(|(source, _)| !said.contains(&source.as_str()));
        for (source, (_, url)) in beyond {
            if told.standing == Standing::Alone {
                found.extra(row(source), url, &told.locator);
            } else {
                found.elsewhere += 1;
            }
        }
    }

    fn episodes(&self, told: &Told<'_>, stored: &Stored, found: &mut Found<'_>) {
        let tally = found.tally("episode");
        tally.source += told.entry.episodes.len() as u64;
        tally.target += stored.episodes.len() as u64;
        let row = |number: i64| {
            let number = number.to_string();
            Row::new("episode", &[("anime_id", &told.id), ("episode_number", &number)])
        };
        let mut met = HashSet::new();
        for part in &told.entry.episodes {
            let Some((id, held)) = stored.episodes.get(&part.number) else {
                let number = part.number.to_string();
                let is_it =
                    |row: &Json| row.get("label").and_then(Json::as_str) == Some(number.as_str());
                if self.queue.deleted(told.anime, "episode").any(is_it) {
                    found.reviewed += 1;
                } else {
                    let title = part.doc.text("title").unwrap_or_default();
                    found.missing(row(part.number), title, &told.locator);
                }
                continue;
            };
            met.insert(part.number);
            let mut said = part.doc.clone();
            if let Some(other) = part.id.filter(|other| other != id) {
                said.set("meta.id", Json::from(other.to_string().as_str()));
            }
            let sides = Sides {
                entity: ("episode", *id),
                stored: held,
                said: &said,
                policy: &Policy::default(),
                standing: told.standing,
            };
            let changed = self.fields(&sides, found);
            found.changed(&row(part.number), changed, &told.locator);
        }
        let beyond: Vec<_> =
            stored.episodes.iter().filter(|(number, _)| !met.contains(*number)).collect();
        let gone = beyond.iter().map(|(number, (id, _))| gone(*id, &number.to_string()));
        let is_settled = self.are_settled(told, "episode", gone.collect(), found);
        for (number, (_, held)) in beyond.into_iter().filter(|_| !is_settled) {
            found.extra(row(*number), held.text("title").unwrap_or_default(), &told.locator);
        }
    }

    /// Whether rows beyond an entry are accounted for: by the queue, or by other artifacts.
    pub(super) fn are_settled(
        &self,
        told: &Told<'_>,
        table: &str,
        rows: Vec<Json>,
        found: &mut Found<'_>,
    ) -> bool {
        let count = rows.len() as u64;
        let Some(proposal) = vanished_rows(table, rows, Voice::Newer) else { return true };
        if self.queue.has_rows(told.anime, &proposal) {
            found.reviewed += count;
            return true;
        }
        if told.standing != Standing::Alone {
            found.elsewhere += count;
            return true;
        }
        false
    }

    fn companies(&self, told: &Told<'_>, shared: &mut Shared, found: &mut Found<'_>) {
        let none = Vec::new();
        let stored = self.holdings.companies.get(&told.anime).unwrap_or(&none);
        let tally = found.tally("anime_company");
        tally.source += told.entry.companies.len() as u64;
        tally.target += stored.len() as u64;
        let row = |id: &Uuid, role: &str| {
            let id = id.to_string();
            Row::new(
                "anime_company",
                &[("anime_id", &told.id), ("company_id", &id), ("role", role)],
            )
        };
        for company in &told.entry.companies {
            let held = stored
                .iter()
                .find(|held| (held.id, held.role.as_str()) == (company.id, company.role));
            shared.company_said(company);
            match held {
                None => found.missing(row(&company.id, company.role), &company.name, &told.locator),
                Some(held) => {
                    shared.company_held(held.id);
                    if let (Some(said), None) = (&company.description, &held.description) {
                        let row = Row::new("company", &[("id", &company.id.to_string())]);
                        let said = Some(Json::from(said.as_str()));
                        let change = ("description".to_owned(), said, None);
                        found.changed(&row, vec![change], &told.locator);
                    }
                }
            }
        }
        for held in stored {
            let is_said = told
                .entry
                .companies
                .iter()
                .any(|said| (said.id, said.role) == (held.id, held.role.as_str()));
            match (is_said, told.standing) {
                (true, _) => {}
                (false, Standing::Alone) => {
                    found.extra(row(&held.id, &held.role), &held.name, &told.locator);
                }
                _ => found.elsewhere += 1,
            }
        }
    }

    /// Every leaf of the entry, as the artifact has it, is among the leaves of the anime's rows.
    /// This way to the entry knows nothing of columns.
    fn second_reading(
        &self,
        told: &Told<'_>,
        whole: &Json,
        stored: &Stored,
        found: &mut Found<'_>,
    ) {
        if !matches!(told.standing, Standing::Alone | Standing::Newest) {
            return;
        }
        let mut held = self.held(told, stored);
        held.insert(told.id.clone());
        let is_watched = told.standing == Standing::Newest;
        let mut lost: Vec<(String, String)> = Vec::new();
        leaves(whole, &mut String::new(), &mut |path, leaf| {
            let text = scalar(leaf);
            found.leaves.0 += 1;
            // Several artifacts let a count rise and a state go on.
            let is_further = is_watched
                && ["/status", "/episode_count", "/episodes"].iter().any(|end| path.ends_with(end));
            let is_nothing = is_watched && self.policy.says_nothing(path, &text);
            if !held.contains(&text) && !is_further && !is_nothing && !text.is_empty() {
                lost.push((path.to_owned(), text));
            }
        });
        for (path, leaf) in lost {
            found.lost(Row::new("anime", &[("id", &told.id)]), path, &leaf, &told.locator);
        }
    }

    fn held(&self, told: &Told<'_>, stored: &Stored) -> HashSet<String> {
        let mut held = HashSet::new();
        let mut add = |value: &Json| {
            leaves(value, &mut String::new(), &mut |_, leaf| {
                held.insert(scalar(leaf));
            });
        };
        let docs = std::iter::once(&stored.doc)
            .chain(stored.episodes.values().map(|(_, doc)| doc))
            .chain(stored.links.values());
        docs.flat_map(|doc| doc.0.values()).for_each(&mut add);
        let queued = self.queue.proposed.get(&told.anime);
        queued.into_iter().flatten().for_each(&mut add);
        for edge in &stored.edges {
            add(&edge.meta);
            let texts = [Some(&edge.relation), edge.title.as_ref(), edge.format.as_ref()];
            let texts = texts.into_iter().flatten().chain(&edge.source_relation_type);
            for text in texts.chain(&edge.urls) {
                add(&Json::from(text.as_str()));
            }
        }
        for (external_id, url) in stored.xrefs.values() {
            add(&Json::from(external_id.as_str()));
            add(&Json::from(url.as_str()));
        }
        for (id, _) in stored.episodes.values() {
            add(&Json::from(id.to_string().as_str()));
        }
        for company in self.holdings.companies.get(&told.anime).into_iter().flatten() {
            add(&Json::from(company.name.as_str()));
        }
        for part in &told.entry.characters {
            let named = part.id_in(told.anime);
            add(&Json::from(named.to_string().as_str()));
            let Some(character) = self.holdings.characters.get(&named) else { continue };
            let own = self.holdings.merged.get(&named).into_iter();
            own.flat_map(|own| own.0.values()).for_each(&mut add);
            character.doc.0.values().for_each(&mut add);
            character.aliases.iter().for_each(|alias| add(&Json::from(alias.as_str())));
        }
        // The entry's own edge to itself was taken away, with a ledger entry that holds it.
        if self.self_related.contains(&told.id) {
            for edge in &told.entry.edges {
                edge.urls.iter().for_each(|url| add(&Json::from(url.as_str())));
                for text in edge.title.iter().chain(&edge.source_relation_type) {
                    add(&Json::from(text.as_str()));
                }
            }
        }
        if told.entry.kind == Kind::Offline && stored.doc.get("duration_seconds").is_some() {
            // The column's name says it.
            held.insert("SECONDS".to_owned());
        }
        held
    }
}

/// Compares a manga or another original work: its row, and a reference for each of its urls.
pub(super) fn original(
    row: &Row,
    entry: &Entry,
    stored: &Doc,
    xrefs: &[(String, String)],
    policy: &Policy,
    locator: &str,
    found: &mut Found<'_>,
) {
    let merged = merge(stored, &entry.doc, policy, Voice::Newer);
    let fields =
        entry.doc.0.keys().filter(|field| !alike(stored.get(field), merged.doc.get(field)));
    let proposed = merged.proposals.iter().map(|proposal| &proposal.field);
    let fields: std::collections::BTreeSet<&String> = fields.chain(proposed).collect();
    let value = |doc: &Doc, field: &String| doc.get(field).cloned();
    let beside = "meta.extra_urls";
    let changed: Vec<Changed> = fields
        .into_iter()
        // Urls of platforms that had one already are kept there by the row alone.
        .filter(|field| *field != beside || entry.doc.get(beside).is_some())
        .map(|field| (field.clone(), value(&entry.doc, field), value(stored, field)))
        .collect();
    found.changed(row, changed, locator);
    let more = stored.get(beside);
    for xref in &entry.xrefs {
        let url = Json::Array(vec![Json::from(xref.url.as_str())]);
        let is_kept = xrefs.iter().any(|(_, url)| *url == xref.url) || covers(more, &url);
        if !is_kept {
            let table = if row.table == "manga" { "manga_xref" } else { "original_work_xref" };
            found.missing(
                Row::new(table, &[("source", xref.reference.source)]),
                &xref.url,
                locator,
            );
        }
    }
}

impl Against<'_> {
    /// Compares how many rows there are, where an entry says how many there should be.
    pub(super) fn count(&self, told: &Told<'_>, found: &mut Found<'_>) {
        let none = Stored::default();
        let stored = self.holdings.stored.get(&told.anime).unwrap_or(&none);
        let companies = self.holdings.companies.get(&told.anime).map_or(0, Vec::len);
        let entry = told.entry;
        let people: HashSet<Uuid> = entry
            .characters
            .iter()
            .map(|part| part.id_in(told.anime))
            .map(|named| self.holdings.characters.get(&named).map_or(named, |known| known.id))
            .collect();
        for (table, said, held) in [
            ("anime", 1, 1),
            ("episode", entry.episodes.len(), stored.episodes.len()),
            ("anime_character", people.len(), stored.links.len()),
            ("anime_xref", entry.xrefs.len(), stored.xrefs.len()),
            ("anime_company", entry.companies.len(), companies),
        ] {
            let tally = found.tally(table);
            tally.source += said as u64;
            tally.target += held as u64;
            let deleted = self.queue.deleted(told.anime, table).count();
            tally.missing += said.saturating_sub(held + deleted) as u64;
            if told.standing == Standing::Alone {
                tally.extra += held.saturating_sub(said) as u64;
            }
        }
    }
}
