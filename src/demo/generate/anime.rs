//! Artifacts of the pack `anime`, drawn from a seed: an enriched artifact in all its shapes, and an
//! offline database. Entry N of both is the same anime: they share its urls.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::dice::{Dice, iso};
use super::prose;
use crate::{Error, Result};

const FORMATS: [&str; 6] = ["TV", "MOVIE", "OVA", "ONA", "SPECIAL", "MUSIC"];
const STATES: [&str; 4] = ["FINISHED", "ONGOING", "UPCOMING", "UNKNOWN"];
const SEASONS: [&str; 4] = ["SPRING", "SUMMER", "FALL", "WINTER"];
const TAGS: [&str; 16] = [
    "band",
    "music",
    "school",
    "space",
    "robots",
    "magic",
    "slice of life",
    "comedy",
    "drama",
    "historical",
    "sports",
    "mystery",
    "full cgi",
    "short episodes",
    "primarily female cast",
    "based on a novel",
];
const STUDIOS: [&str; 8] = [
    "Studio Akari",
    "Kumo Works",
    "Nagare",
    "Hoshi Animation",
    "Tsuki Pictures",
    "Kaze",
    "Mori Film",
    "Yama Production",
];
const RELATIONS: [&str; 7] =
    ["SEQUEL", "PREQUEL", "SIDE STORY", "PARENT STORY", "OTHER", "MUSIC", "spin-off"];

/// Which of an anime's urls; each platform has its own number for it.
fn url(platform: usize, anime: usize) -> String {
    match platform {
        0 => format!("https://myanimelist.net/anime/{}", 100_000 + anime),
        1 => format!("https://anilist.co/anime/{}", 200_000 + anime),
        2 => format!("https://anidb.net/anime/{}", 300_000 + anime),
        3 => format!("https://kitsu.app/anime/{}", 400_000 + anime),
        4 => format!("https://anime-planet.com/anime/generated-{anime}"),
        5 => format!("https://anisearch.com/anime/{},generated", 500_000 + anime),
        6 => format!("https://livechart.me/anime/{}", 600_000 + anime),
        _ => format!("https://notify.moe/anime/G{anime}x"),
    }
}

fn some<'a>(dice: &mut Dice, from: &[&'a str], most: u64) -> Vec<&'a str> {
    let wanted = dice.below(most) + 1;
    let mut taken: Vec<&str> = Vec::new();
    for _ in 0..wanted {
        let one = dice.pick(from);
        if !taken.contains(&one) {
            taken.push(one);
        }
    }
    taken
}

/// Entry `at` of `count` of an enriched artifact: nested, flat, with lists of relations or groups.
#[must_use]
pub fn enriched_entry(seed: u64, at: usize, count: usize) -> Value {
    let dice = &mut Dice::new(seed, 1_000 + at as u64);
    let characters: Vec<Value> = (0..dice.below(4)).map(|n| character(dice, at, n)).collect();
    let episodes: Vec<Value> = (0..dice.below(6)).map(|n| episode(dice, n + 1)).collect();
    let mut anime = anime(dice, at, episodes.len());
    let grouped = at % 3 == 1;
    anime.insert("related_anime".to_owned(), related(dice, at, count, grouped));
    anime.insert("relations".to_owned(), originals(dice, at, grouped));
    if at % 5 == 4 {
        anime.insert("characters".to_owned(), characters.into());
        anime.insert("episode_details".to_owned(), episodes.into());
        return anime.into();
    }
    json!({ "anime": anime, "characters": characters, "episodes": episodes })
}

fn anime(dice: &mut Dice, at: usize, episodes: usize) -> Map<String, Value> {
    let title = format!("{} {at}", prose::title(dice, at));
    let sources: Vec<String> =
        (0..8).filter(|platform| *platform == 0 || dice.chance(60)).map(|p| url(p, at)).collect();
    let mut staff = Vec::new();
    for name in some(dice, &STUDIOS, 2) {
        staff.push(json!({ "name": name, "type": "animation_studio" }));
    }
    let value = json!({
        "id": dice.uuid_dashed(),
        "title": title,
        "title_english": if dice.chance(40) { Value::from(format!("{title} (E)")) } else { Value::Null },
        "title_japanese": format!("作品 {at}"),
        "type": dice.pick(&FORMATS),
        "status": dice.pick(&STATES),
        "rating": dice.pick(&["G - All Ages", "PG-13", "R"]),
        "season": dice.pick(&SEASONS),
        "year": dice.between(1990, 2026),
        "month": dice.pick(&["March", "July", "October"]),
        "episode_count": episodes,
        "duration": dice.between(60, 7200),
        "nsfw": dice.chance(5),
        "synopsis": prose::paragraph(dice, 400),
        "background": if dice.chance(20) { prose::sentence(dice) } else { String::new() },
        "sources": sources,
        "genres": some(dice, &["Music", "Drama", "Comedy", "Action"], 3),
        "tags": some(dice, &TAGS, 8),
        "themes": [{ "name": dice.pick(&TAGS), "description": prose::sentence(dice) }],
        "synonyms": [format!("{title}!"), format!("別名{at}")],
        "images": { "covers": [format!("https://img.example/{at}.jpg")], "posters": [] },
        "statistics": {
            "mal": { "score": dice.unit() * 10.0, "members": dice.below(100_000), "ranks": [1, 2.50] },
            "anilist": { "score": dice.unit() * 10.0, "contextual_ranks": [] },
        },
        "score": { "arithmetic_mean": dice.unit() * 10.0, "median": 6.5 },
        "staff_data": { "studios": staff, "producers": [], "production_staff": {
            "directors": [{ "name": prose::author(dice), "staff_ids": { "anilist": dice.below(9_999) } }] } },
        "aired_dates": { "from": iso(dice.moment(at, at + 1)), "string": "Oct 7, 2020" },
        "enrichment_metadata": { "source": "multi-source", "enriched_at": "2025-07-24T19:42:09.282039Z",
                                 "success": true },
        "source_material": dice.pick(&["ORIGINAL", "MANGA", "MIXED MEDIA"]),
        "entity_type": "anime",
    });
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Every third character is one of a few that all anime share.
fn character(dice: &mut Dice, at: usize, n: u64) -> Value {
    let shared = dice.below(12);
    let is_shared = dice.chance(30);
    let number = if is_shared { shared } else { 1_000 + at as u64 * 10 + n };
    let name = format!("Character {number}");
    json!({
        "id": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).to_string(),
        "name": name,
        "name_native": format!("人物{number}"),
        "name_variations": [format!("C{number}")],
        "nicknames": if dice.chance(30) { vec![format!("Nick {number}")] } else { Vec::new() },
        "role": dice.pick(&["Main", "Supporting"]),
        "gender": dice.pick(&["Female", "Male"]),
        "age": if dice.chance(30) { Value::from("14") } else { Value::Null },
        "description": prose::sentence(dice),
        "favorites": dice.below(5_000),
        "voice_actors": [{ "name": prose::author(dice), "language": "Japanese" }],
        "character_pages": { "mal": format!("https://myanimelist.net/character/{number}/x") },
        "character_ids": { "anilist": number },
        "entity_type": "character",
    })
}

fn episode(dice: &mut Dice, number: u64) -> Value {
    json!({
        "id": dice.uuid_dashed(),
        "episode_number": number,
        "season_number": 1,
        "title": prose::sentence(dice),
        "title_romaji": if dice.chance(50) { Value::from("romaji") } else { Value::Null },
        "synopsis": prose::sentence(dice),
        "aired": dice.pick(&["2020-10-06T15:00:00Z", "2020-10-06T15:00:00+09:00", "2020-10-06"]),
        "duration": dice.between(60, 1500),
        "filler": dice.chance(10),
        "recap": dice.chance(5),
        "score": dice.unit() * 5.0,
        "thumbnails": [format!("https://img.example/e{number}.jpg")],
        "episode_pages": { "mal": format!("https://myanimelist.net/e/{number}") },
        "entity_type": "episode",
    })
}

/// Neighbours, by one or two platforms each.
fn related(dice: &mut Dice, at: usize, count: usize, grouped: bool) -> Value {
    let mut items: Vec<(String, &str, Vec<String>)> = Vec::new();
    for step in 0..dice.index(4) {
        let target = (at + step + 1) % (count + 3);
        let platforms = 1 + dice.index(3);
        let urls = (0..platforms).map(|platform| url(platform, target)).collect();
        items.push((format!("Related {target}"), dice.pick(&RELATIONS), urls));
    }
    as_relations(items, grouped)
}

fn originals(dice: &mut Dice, at: usize, grouped: bool) -> Value {
    let mut items = Vec::new();
    if dice.chance(40) {
        let urls = vec![format!("https://myanimelist.net/manga/{}/x", 900_000 + at)];
        items.push((format!("Manga {at}"), "ADAPTATION", urls));
    }
    as_relations(items, grouped)
}

fn as_relations(items: Vec<(String, &str, Vec<String>)>, grouped: bool) -> Value {
    if !grouped {
        let single = |(title, relation, urls): (String, &str, Vec<String>)| {
            let relation = relation.to_owned();
            urls.into_iter()
                .map(move |url| json!({ "title": title, "relation_type": relation, "url": url }))
        };
        return items.into_iter().flat_map(single).collect();
    }
    let mut groups = Map::new();
    for (title, relation, urls) in items {
        let item = json!({ "title": title, "type": "TV", "url": urls });
        if let Value::Array(list) = groups.entry(relation).or_insert_with(|| json!([])) {
            list.push(item);
        }
    }
    groups.into()
}

/// Entry `at` of `count` of an offline database: about 1.5 KB.
#[must_use]
pub fn offline_entry(seed: u64, at: usize, count: usize) -> Value {
    let dice = &mut Dice::new(seed, 2_000_000 + at as u64);
    let title = format!("{} {at}", prose::title(dice, at));
    let sources: Vec<String> =
        (0..8).filter(|platform| *platform == 0 || dice.chance(60)).map(|p| url(p, at)).collect();
    let mut related: Vec<String> = Vec::new();
    for step in 0..dice.index(3) {
        let target = (at + step + 1) % count.max(1);
        related.extend((0..2).map(|platform| url(platform, target)));
    }
    related.retain(|url| !sources.contains(url));
    json!({
        "sources": sources,
        "title": title,
        "type": dice.pick(&FORMATS),
        "episodes": dice.below(26),
        "status": dice.pick(&STATES),
        "animeSeason": { "season": dice.pick(&SEASONS), "year": dice.between(1990, 2026) },
        "picture": format!("https://cdn.example/images/anime/{at}/picture.webp"),
        "thumbnail": format!("https://cdn.example/images/anime/{at}/thumbnail.webp"),
        "duration": { "value": dice.between(60, 7200), "unit": "SECONDS" },
        "score": { "arithmeticGeometricMean": dice.unit() * 10.0, "arithmeticMean": dice.unit() * 10.0,
                   "median": 6.5 },
        "synonyms": (0..dice.below(9)).map(|n| format!("{title} synonym {n}")).collect::<Vec<_>>(),
        "relatedAnime": related,
        "studios": some(dice, &STUDIOS, 2),
        "producers": some(dice, &STUDIOS, 2),
        "tags": some(dice, &TAGS, 14),
    })
}

fn header(kind: &str) -> String {
    format!(
        "\"license\": {{\"name\": \"generated\"}}, \"repository\": \"https://example.org/{kind}\", \
         \"lastUpdate\": \"2026-11-01\""
    )
}

/// Writes an enriched artifact of `count` entries.
pub fn enriched_artifact(path: &Path, seed: u64, count: usize) -> Result<()> {
    document(path, "enriched", (0..count).map(|at| enriched_entry(seed, at, count)))
}

/// Writes an offline database of `count` entries, as JSON lines if the name says so.
pub fn offline_database(path: &Path, seed: u64, count: usize) -> Result<()> {
    let entries = (0..count).map(|at| offline_entry(seed, at, count));
    if path.extension().is_none_or(|end| end != "jsonl") {
        return document(path, "offline", entries);
    }
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "{{{}}}", header("offline"))?;
    for entry in entries {
        writeln!(file, "{entry}")?;
    }
    Ok(file.flush()?)
}

fn document(path: &Path, kind: &str, entries: impl Iterator<Item = Value>) -> Result<()> {
    let unwritable = |error: std::io::Error| Error::from(error).context(path.display());
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(unwritable)?);
    write!(file, "{{{}, \"data\": [", header(kind)).map_err(unwritable)?;
    for (at, entry) in entries.enumerate() {
        let separator = if at > 0 { "," } else { "" };
        write!(file, "{separator}\n{entry}").map_err(unwritable)?;
    }
    file.write_all(b"\n]}\n").and_then(|()| file.flush()).map_err(unwritable)
}
