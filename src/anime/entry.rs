//! One entry of an artifact in the target's terms. Nothing is looked up: what an entry becomes
//! depends on the entry alone, but for ids that another row already has.
//!
//! Every member that a column holds exactly as it was is taken out of the entry; what is left goes
//! to `meta` or `raw_by_source`, so that nothing is lost.

mod fields;
mod people;
mod relations;

use uuid::Uuid;

use crate::anime::doc::{Derived, Doc, Members, checked, derived_id};
use crate::anime::urls::{self, Medium, Reference};
use crate::anime::vocabulary;
use crate::canonical::sha256;
use crate::cast::redact::Redactor;
use crate::cast::{Note, Original, Refusal};
use crate::json::Json;

pub use people::{CharacterPart, Company};
pub use relations::{Edge, Target};

/// What kind of entry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An anime of an enriched artifact, nested or flat.
    Enriched,
    /// An anime of the offline database.
    Offline,
    /// A manga.
    Manga,
    /// A novel, a game or another original.
    Work,
}

/// The id by which a platform knows the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xref {
    /// Platform and id.
    pub reference: Reference,
    /// As the artifact spells it.
    pub url: String,
}

/// An episode of an entry.
#[derive(Debug, Clone)]
pub struct EpisodePart {
    /// The artifact's id.
    pub id: Option<Uuid>,
    /// Unique within the anime.
    pub number: i64,
    /// Its fields.
    pub doc: Doc,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// SHA-256 of its canonical JSON, hexadecimal.
    pub sha256: String,
    /// The id the artifact gives it.
    pub id: Option<Uuid>,
    /// The id its best url gives it.
    pub derived_id: Option<Uuid>,
    /// Its fields.
    pub doc: Doc,
    /// One per platform.
    pub xrefs: Vec<Xref>,
    /// By number, each once.
    pub episodes: Vec<EpisodePart>,
    /// Each once.
    pub characters: Vec<CharacterPart>,
    /// Relations, each target once per type.
    pub edges: Vec<Edge>,
    /// Each once per role.
    pub companies: Vec<Company>,
    /// When it was enriched, as RFC 3339.
    pub enriched_at: Option<String>,
    /// Relation types of no vocabulary.
    pub unknown_words: Vec<String>,
}

/// What a record of an artifact is.
#[derive(Debug)]
pub enum Read {
    /// An entry.
    Entry(Box<Entry>),
    /// The header line of JSON lines.
    Header(Json),
}

/// Reads a record, or says why it cannot be stored. `is_first_line`: of JSON lines, where the
/// header stands.
pub fn read(
    record: &Json,
    is_first_line: bool,
    redactor: &Redactor,
    notes: &mut Vec<Note>,
) -> Result<Read, Refusal> {
    let canonical = checked(record, Some(redactor), notes)?;
    let Json::Object(_) = record else {
        return Err(Refusal::new("wrong_type", "an entry is a JSON object"));
    };
    let has_secret = notes.iter().any(|note| matches!(note.original, Original::Secret(_)));
    let whole = if has_secret {
        // The text without its secrets is the entry from here on.
        let clean = crate::json::parse(&canonical);
        Members::of(clean.map_err(|error| Refusal::new("invalid_json", error.to_string()))?)
    } else {
        Members::of(record.clone())
    };
    let is_header = whole.get("title").is_none()
        && ["lastUpdate", "license", "repository", "enrichmentInfo"]
            .iter()
            .any(|name| whole.get(name).is_some());
    if is_first_line && is_header {
        return Ok(Read::Header(whole.rest()));
    }
    let mut entry = Entry {
        kind: kind_of(&whole),
        sha256: hex::encode(sha256(&canonical)),
        id: None,
        derived_id: None,
        doc: Doc::default(),
        xrefs: Vec::new(),
        episodes: Vec::new(),
        characters: Vec::new(),
        edges: Vec::new(),
        companies: Vec::new(),
        enriched_at: None,
        unknown_words: Vec::new(),
    };
    let (mut thing, beside) = flat(whole, entry.kind);
    entry.take_id(&mut thing)?;
    match entry.kind {
        Kind::Enriched => entry.enriched(thing)?,
        Kind::Offline => entry.offline(thing)?,
        Kind::Manga => entry.original(thing, false)?,
        Kind::Work => entry.original(thing, true)?,
    }
    if !beside.is_empty() {
        // Members of a nested entry beside those that are known.
        let mut rest = Members::default();
        rest.put("beside_entry", beside.rest());
        entry.doc.add_rest("meta", rest);
    }
    Ok(Read::Entry(Box::new(entry)))
}

fn kind_of(whole: &Members) -> Kind {
    let is_object = |key: &str| matches!(whole.get(key), Some(Json::Object(_)));
    if is_object("manga") {
        return Kind::Manga;
    }
    if is_object("original_work") {
        return Kind::Work;
    }
    if is_object("anime") {
        return Kind::Enriched;
    }
    let is_offline = ["animeSeason", "relatedAnime", "picture", "thumbnail"]
        .iter()
        .any(|name| whole.get(name).is_some())
        || matches!(whole.get("episodes"), Some(Json::Number(_)));
    if is_offline && whole.get("id").is_none() { Kind::Offline } else { Kind::Enriched }
}

/// The entry's own members, with characters and episodes among them, and what stood beside.
fn flat(mut whole: Members, kind: Kind) -> (Members, Members) {
    let wrapper = match kind {
        Kind::Manga => "manga",
        Kind::Work => "original_work",
        Kind::Enriched if matches!(whole.get("anime"), Some(Json::Object(_))) => "anime",
        _ => return (whole, Members::default()),
    };
    let mut thing = Members::of(whole.take(wrapper).unwrap_or(Json::Null));
    for part in ["characters", "episodes", "episode_details"] {
        // An inner list of the same name stays the entry's own.
        if thing.get(part).is_none()
            && let Some(value) = whole.take(part)
        {
            thing.put(part, value);
        }
    }
    (thing, whole)
}

impl Entry {
    fn take_id(&mut self, thing: &mut Members) -> Result<(), Refusal> {
        let Some(text) = thing.text("id") else { return Ok(()) };
        let id = Uuid::parse_str(text).map_err(|_| {
            Refusal::new("invalid_uuid", format!("the entry's id {text:?} is no UUID"))
        })?;
        self.id = Some(id);
        fields::take_if_spelled(thing, "id", &id.to_string());
        Ok(())
    }

    fn enriched(&mut self, mut thing: Members) -> Result<(), Refusal> {
        fields::take(&mut thing, fields::ANIME, &mut self.doc)?;
        self.worded(&mut thing, "type", vocabulary::format);
        self.worded(&mut thing, "status", vocabulary::status);
        self.season(&mut thing, "season");
        self.enriched_at = thing
            .get("enrichment_metadata")
            .and_then(|meta| meta.get("enriched_at"))
            .and_then(Json::as_str)
            .filter(|text| fields::moment(text).is_some())
            .map(str::to_owned);
        self.take_sources(&mut thing, Medium::Manga)?;
        for list in ["related_anime", "relations"] {
            relations::take(self, &mut thing, list);
        }
        relations::settle(self);
        people::take_companies(self, &thing);
        people::take_characters(self, &mut thing);
        self.take_episodes(&mut thing);
        self.raw_by_source(&mut thing, &["statistics"]);
        self.doc.add_rest("meta", thing);
        Ok(())
    }

    fn offline(&mut self, mut thing: Members) -> Result<(), Refusal> {
        fields::take(&mut thing, fields::OFFLINE, &mut self.doc)?;
        self.worded(&mut thing, "type", vocabulary::format);
        self.worded(&mut thing, "status", vocabulary::status);
        if let Some(season) = thing.take("animeSeason") {
            let mut season = Members::of(season);
            self.season(&mut season, "season");
            fields::take(&mut season, fields::SEASON, &mut self.doc)?;
            if !season.is_empty() {
                thing.put("animeSeason", season.rest());
            }
        }
        fields::offline_duration(&mut thing, &mut self.doc);
        self.take_sources(&mut thing, Medium::Manga)?;
        for list in ["relatedAnime", "relations"] {
            relations::take(self, &mut thing, list);
        }
        relations::settle(self);
        people::take_offline_companies(self, &thing);
        self.doc.add_rest("meta", thing);
        Ok(())
    }

    fn original(&mut self, mut thing: Members, is_work: bool) -> Result<(), Refusal> {
        fields::take(&mut thing, fields::ORIGINAL, &mut self.doc)?;
        if is_work {
            let kind = ["kind", "type"].iter().find_map(|name| thing.text(name).map(str::to_owned));
            self.doc.set("kind", Json::from(kind.as_deref().unwrap_or("UNKNOWN")));
        }
        self.take_sources(&mut thing, Medium::Anime)?;
        self.raw_by_source(&mut thing, &["statistics"]);
        self.doc.add_rest("meta", thing);
        Ok(())
    }

    /// A column whose words are the vocabulary's. The raw word stays in `meta` where it is another.
    fn worded(
        &mut self,
        thing: &mut Members,
        key: &str,
        vocabulary: fn(&str) -> Option<&'static str>,
    ) {
        let word = thing.text(key).and_then(vocabulary).unwrap_or("UNKNOWN");
        self.doc.set(key, Json::from(word));
        fields::take_if_spelled(thing, key, word);
        fields::take_null(thing, key);
    }

    fn season(&mut self, thing: &mut Members, key: &str) {
        if let Some(season) = thing.text(key).and_then(vocabulary::season) {
            self.doc.set("season", Json::from(season));
            fields::take_if_spelled(thing, key, season);
        }
        fields::take_null(thing, key);
    }

    /// The first url of each platform is its reference; the others go to `meta.extra_urls`.
    fn take_sources(&mut self, thing: &mut Members, other: Medium) -> Result<(), Refusal> {
        let mut extra = Vec::new();
        let mut odd = Vec::new();
        for source in thing.take_array("sources") {
            let Some(url) = source.as_str().filter(|url| !url.is_empty()) else {
                odd.push(source);
                continue;
            };
            let reference = urls::parse(url);
            let is_taken = self.xrefs.iter().any(|xref| xref.reference.source == reference.source);
            if self.xrefs.iter().any(|xref| xref.url == url) {
            } else if is_taken || reference.medium == other {
                extra.push(source);
            } else {
                self.xrefs.push(Xref { reference, url: url.to_owned() });
            }
        }
        if !odd.is_empty() {
            thing.put("sources", Json::Array(odd));
        }
        if !extra.is_empty() {
            thing.put("extra_urls", Json::Array(extra));
        }
        let best = self.xrefs.iter().min_by_key(|xref| xref.reference.rank());
        self.derived_id = best.map(|xref| {
            let url = format!("{}:{}", xref.reference.source, xref.reference.external_id);
            derived_id(match self.kind {
                Kind::Manga => Derived::Manga(&url),
                Kind::Work => Derived::Work(&url),
                _ => Derived::Anime(&url),
            })
        });
        if self.id.is_none() && self.derived_id.is_none() {
            return Err(Refusal::new(
                "no_identity",
                "the entry has neither an id nor a source url",
            ));
        }
        Ok(())
    }

    /// The first episode of each number is a row; what cannot be one stays in `meta`.
    fn take_episodes(&mut self, thing: &mut Members) {
        let list =
            if thing.get("episode_details").is_some() { "episode_details" } else { "episodes" };
        let mut odd = Vec::new();
        for value in thing.take_array(list) {
            match fields::episode(&value) {
                Some(part) if self.episodes.iter().all(|known| known.number != part.number) => {
                    self.episodes.push(part);
                }
                _ => odd.push(value),
            }
        }
        if !odd.is_empty() {
            thing.put("extra_episodes", Json::Array(odd));
        }
    }

    fn raw_by_source(&mut self, thing: &mut Members, names: &[&str]) {
        let mut raw = Members::default();
        for name in names {
            if let Some(value) = thing.take(name) {
                raw.put(name, value);
            }
        }
        self.doc.add_rest("raw_by_source", raw);
    }
}
