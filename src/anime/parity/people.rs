//! An entry's characters and their appearances.

use std::collections::HashSet;

use uuid::Uuid;

use crate::anime::doc::Doc;
use crate::anime::entry::CharacterPart;
use crate::anime::parity::compare::{Against, Sides, Told};
use crate::anime::parity::found::{Changed, Found, Row};
use crate::anime::parity::shared::Shared;
use crate::anime::parity::standing::Standing;
use crate::anime::parity::values::covers;
use crate::anime::policy::Policy;
use crate::anime::store::characters::{StoredCharacter, link_of};
use crate::anime::store::load::{Stored, gone_row};
use crate::json::Json;

pub(super) fn compare(
    against: &Against<'_>,
    told: &Told<'_>,
    stored: &Stored,
    shared: &mut Shared,
    found: &mut Found<'_>,
) {
    let mut met: HashSet<Uuid> = HashSet::new();
    for part in &told.entry.characters {
        let named = part.id_in(told.anime);
        let Some(character) = against.holdings.characters.get(&named) else {
            let name = part.doc.text("name").unwrap_or_default();
            found.missing(
                Row::new("character", &[("id", &named.to_string())]),
                name,
                &told.locator,
            );
            continue;
        };
        shared.character_said(character, part);
        let link = stored.links.get(&character.id);
        if met.insert(character.id) {
            appearance(against, told, (part, character, link), found);
        }
        tells(against, told, (part, character, link), found);
    }
    let tally = found.tally("anime_character");
    tally.source += met.len() as u64;
    tally.target += stored.links.len() as u64;
    let mut beyond: Vec<Uuid> =
        stored.links.keys().filter(|id| !met.contains(*id)).copied().collect();
    beyond.sort_unstable();
    let gone = beyond.iter().map(|id| gone_row(*id, "character_id", "")).collect();
    let is_settled = against.are_settled(told, "anime_character", gone, found);
    for id in beyond.into_iter().filter(|_| !is_settled) {
        let role = stored.links.get(&id).and_then(|link| link.text("role")).unwrap_or_default();
        found.extra(row(told, id), role, &told.locator);
    }
}

fn row(told: &Told<'_>, character: Uuid) -> Row {
    let character = character.to_string();
    Row::new("anime_character", &[("anime_id", &told.id), ("character_id", &character)])
}

type Seen<'a> = (&'a CharacterPart, &'a StoredCharacter, Option<&'a Doc>);

/// The link: role, billing, and what the entry says of this appearance alone.
fn appearance(
    against: &Against<'_>,
    told: &Told<'_>,
    (part, character, link): Seen<'_>,
    found: &mut Found<'_>,
) {
    let Some(link) = link else {
        let ids = [character.id.to_string(), character.named.to_string()];
        let is_it = |row: &Json| {
            let deleted = row.get("character_id").and_then(Json::as_str);
            ids.iter().any(|id| deleted == Some(id.as_str()))
        };
        if against.queue.deleted(told.anime, "anime_character").any(is_it) {
            found.reviewed += 1;
            return;
        }
        let role = part.role.as_deref().unwrap_or_default();
        return found.missing(row(told, character.id), role, &told.locator);
    };
    // What the character's row does not say is compared with the row; a merge keeps what the other
    // row of the anime said.
    let mut own = link.clone();
    own.0.retain(|field, _| !KEPT_BESIDE.contains(&field.as_str()));
    let said = link_of(part);
    let sides = Sides {
        entity: ("character", character.id),
        stored: &own,
        said: &said,
        policy: &Policy::default(),
        standing: told.standing,
    };
    let changed = against.fields(&sides, found);
    let merged = link.get("meta.merged");
    let kept = |(field, said, _): &Changed| {
        let said = said.as_ref();
        merged.into_iter().flat_map(Json::iter).any(|row| {
            said.is_some_and(|said| {
                covers(row.pointer(&format!("/{}", field.replace('.', "/"))), said)
            })
        })
    };
    found.changed(
        &row(told, character.id),
        changed.into_iter().filter(|change| !kept(change)).collect(),
        &told.locator,
    );
}

/// Members of a link's meta that are not of its entry's spelling.
const KEPT_BESIDE: [&str; 3] = ["meta.differs", "meta.repeats", "meta.merged"];

/// The character: its row says what the entry says, or the link keeps how it differs.
fn tells(
    against: &Against<'_>,
    told: &Told<'_>,
    (part, character, link): Seen<'_>,
    found: &mut Found<'_>,
) {
    let own = against.holdings.merged.get(&character.named);
    let id = character.id.to_string();
    let differs = link.and_then(|link| link.get("meta.differs"));
    let repeats = link.and_then(|link| link.get("meta.repeats"));
    let mut changed: Vec<Changed> = Vec::new();
    for (field, value) in &part.doc.0 {
        let stored = character.doc.get(field);
        let is_kept = covers(stored, value)
            || covers(own.and_then(|own| own.get(field)), value)
            || covers(differs.and_then(|differs| differs.get(field)), value)
            || repeats.into_iter().flat_map(Json::iter).any(|one| covers(one.get(field), value));
        let is_accepted =
            || against.queue.accepts(("character", character.id), field, value, stored);
        if !is_kept && told.standing != Standing::Earlier && !is_accepted() {
            changed.push((field.clone(), Some(value.clone()), stored.cloned()));
        }
    }
    found.changed(&Row::new("character", &[("id", &id)]), changed, &told.locator);
    for alias in part.aliases.iter().filter(|alias| !character.aliases.contains(*alias)) {
        let row = Row::new("character_alias", &[("character_id", &id), ("alias", alias)]);
        found.missing(row, "", &told.locator);
    }
}
