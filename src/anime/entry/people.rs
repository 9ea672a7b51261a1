//! Characters, and the companies behind an anime.

use uuid::Uuid;

use crate::anime::doc::{Derived, Doc, Members, derived_id, folded_name};
use crate::anime::entry::{Entry, fields};
use crate::anime::urls;
use crate::json::Json;

/// A character of an entry.
#[derive(Debug, Clone)]
pub struct CharacterPart {
    /// The artifact's id.
    pub id: Option<Uuid>,
    /// The id its best page gives it.
    pub page_id: Option<Uuid>,
    /// Its fields, as this entry tells them.
    pub doc: Doc,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What it is in this anime.
    pub role: Option<String>,
    /// Its place in the entry's list.
    pub billing_order: i64,
    /// What belongs to this appearance.
    pub link: Members,
}

impl CharacterPart {
    /// Its id in this anime.
    #[must_use]
    pub fn id_in(&self, anime: Uuid) -> Uuid {
        self.id.or(self.page_id).unwrap_or_else(|| {
            let name = folded_name(self.doc.text("name").unwrap_or_default());
            derived_id(Derived::CharacterName(anime, &name))
        })
    }
}

/// A company in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Company {
    /// By its folded name.
    pub id: Uuid,
    /// As the artifact spells it.
    pub name: String,
    /// What the artifact says of it.
    pub description: Option<String>,
    /// `studio`, `producer` or `licensor`.
    pub role: &'static str,
}

/// Takes the characters out; what cannot be a row stays in `meta.extra_characters`.
pub(super) fn take_characters(entry: &mut Entry, thing: &mut Members) {
    let mut odd = Vec::new();
    for (at, value) in thing.take_array("characters").into_iter().enumerate() {
        match character(&value, at) {
            Some(part) => entry.characters.push(part),
            None => odd.push(value),
        }
    }
    if !odd.is_empty() {
        thing.put("extra_characters", Json::Array(odd));
    }
}

fn character(value: &Json, at: usize) -> Option<CharacterPart> {
    let Json::Object(_) = value else { return None };
    let mut thing = Members::of(value.clone());
    let mut doc = Doc::default();
    fields::take(&mut thing, fields::CHARACTER, &mut doc).ok()?;
    doc.text("name").filter(|name| !name.is_empty())?;
    let id = thing.text("id").and_then(|text| Uuid::parse_str(text).ok());
    if let Some(id) = id {
        fields::take_if_spelled(&mut thing, "id", &id.to_string());
    }
    let pages = thing.get("character_pages").map(Json::members).unwrap_or_default();
    let page = urls::primary(pages.iter().filter_map(|(_, url)| url.as_str()));
    let page_id = page.map(|page| {
        derived_id(Derived::CharacterPage(&format!("{}:{}", page.source, page.external_id)))
    });
    let mut aliases: Vec<String> = Vec::new();
    for list in ["name_variations", "nicknames"] {
        let mut odd = Vec::new();
        for alias in thing.take_array(list) {
            match alias.as_str().filter(|text| text.len() <= ALIAS_BYTES_MAX) {
                Some(text) if aliases.iter().any(|known| known == text) => {}
                Some(text) => aliases.push(text.to_owned()),
                None => odd.push(alias),
            }
        }
        if !odd.is_empty() {
            thing.put(list, Json::Array(odd));
        }
    }
    let mut link = Members::default();
    let role = thing.text("role").map(str::to_owned);
    if role.is_some() {
        thing.take("role");
    }
    fields::take_null(&mut thing, "role");
    if let Some(actors) = thing.take("voice_actors") {
        link.put("voice_actors", actors);
    }
    doc.add_rest("meta", thing);
    let billing_order = i64::try_from(at).unwrap_or(i64::MAX);
    Some(CharacterPart { id, page_id, doc, aliases, role, billing_order, link })
}

/// An alias is part of a key; a B-tree takes no more than about 2.7 KB.
const ALIAS_BYTES_MAX: usize = 2000;

/// `staff_data` stays in `meta` as it is: platforms spell one company in several ways, and say
/// more of it than a company's row holds.
pub(super) fn take_companies(entry: &mut Entry, thing: &Members) {
    let Some(staff) = thing.get("staff_data") else { return };
    for (list, role) in
        [("studios", "studio"), ("producers", "producer"), ("licensors", "licensor")]
    {
        add(entry, staff.get(list), role);
    }
}

/// Of the offline database: names alone.
pub(super) fn take_offline_companies(entry: &mut Entry, thing: &Members) {
    for (list, role) in [("studios", "studio"), ("producers", "producer")] {
        add(entry, thing.get(list), role);
    }
}

fn add(entry: &mut Entry, list: Option<&Json>, role: &'static str) {
    for value in list.into_iter().flat_map(Json::iter) {
        let text = |name: &str| value.get(name).and_then(Json::as_str);
        let Some(name) = value.as_str().or_else(|| text("name")) else { continue };
        if name.trim().is_empty() || name.len() > ALIAS_BYTES_MAX {
            continue;
        }
        let id = derived_id(Derived::Company(&folded_name(name)));
        if entry.companies.iter().all(|known| (known.id, known.role) != (id, role)) {
            let description = text("description").map(str::to_owned);
            entry.companies.push(Company { id, name: name.to_owned(), description, role });
        }
    }
}
