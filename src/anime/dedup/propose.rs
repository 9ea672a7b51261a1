//! Candidates: found by a search for neighbours, scored, stored for review.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::PACK;
use crate::anime::dedup::names::reduced;
use crate::anime::dedup::score::{Scored, Subject, score};
use crate::anime::dedup::{Neighbourhood, Neighbours, Pair};
use crate::anime::doc::stored_json;
use crate::anime::store::identity::uuid_of;
use crate::anime::store::load::texts;
use crate::canonical::sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::json::Json;

/// Neighbours by what they are called: characters that share a name, an alias or a native name in
/// any spelling, and those of one anime whose names begin alike.
#[derive(Debug, Clone, Copy)]
pub struct ByName {
    /// Characters of one name at most; more are a crowd, which is counted and left alone.
    pub crowd_max: usize,
    /// Whether vectors are there, and could not be searched this time.
    pub is_partial: bool,
}

impl Default for ByName {
    fn default() -> Self {
        Self { crowd_max: 30, is_partial: false }
    }
}

/// Letters by which names of one anime begin alike.
const BEGINNING: usize = 3;

impl Neighbours for ByName {
    /// Memory: about 100 bytes per character.
    async fn pairs(&self, conn: &mut PgConnection, stop: &Stop) -> Result<Neighbourhood> {
        let (mut ids, mut keys): (Vec<Uuid>, Vec<(u64, u32)>) = (Vec::new(), Vec::new());
        let mut rows = sqlx::query(
            "SELECT c.id::text AS id, c.name, c.name_native, \
                    ARRAY(SELECT a.alias FROM character_alias a WHERE a.character_id = c.id) \
                        AS aliases, \
                    ARRAY(SELECT l.anime_id::text FROM anime_character l \
                          WHERE l.character_id = c.id) AS anime \
             FROM character c \
             WHERE NOT EXISTS (SELECT FROM character_redirect r WHERE r.from_id = c.id)",
        )
        .fetch(conn);
        while let Some(row) = rows.try_next().await? {
            let place = u32::try_from(ids.len()).map_err(|_| too_many())?;
            if place % 4096 == 0 {
                stop.check()?;
            }
            ids.push(uuid_of(row.try_get("id")?)?);
            let name: String = row.try_get("name")?;
            let native: Option<String> = row.try_get("name_native")?;
            let mut spellings: Vec<String> = row.try_get("aliases")?;
            let anime: Vec<String> = row.try_get("anime")?;
            let own = reduced(&name);
            for word in own.split(' ').filter(|word| word.chars().count() >= BEGINNING) {
                let beginning: String = word.chars().take(BEGINNING).collect();
                for anime in &anime {
                    keys.push((key(&format!("{anime} {beginning}")), place));
                }
            }
            spellings.extend([Some(name), native].into_iter().flatten());
            for spelling in spellings {
                let spelling = reduced(&spelling);
                // One letter is no name, unless it is a word of its own in its script.
                if spelling.len() > 2 {
                    keys.push((key(&spelling), place));
                }
            }
        }
        drop(rows);
        keys.sort_unstable();
        keys.dedup();
        Ok(self.grouped(&ids, &keys))
    }
}

impl ByName {
    fn grouped(self, ids: &[Uuid], keys: &[(u64, u32)]) -> Neighbourhood {
        let mut found = Neighbourhood { is_partial: self.is_partial, ..Neighbourhood::default() };
        for group in keys.chunk_by(|one, other| one.0 == other.0) {
            if group.len() > self.crowd_max {
                found.crowds += 1;
                continue;
            }
            for (at, (_, first)) in group.iter().enumerate() {
                for (_, second) in &group[at + 1..] {
                    let (a, b) = (ids[*first as usize], ids[*second as usize]);
                    let pair = Pair { one: a.min(b), other: a.max(b), nearness: None };
                    found.pairs.push(pair);
                }
            }
        }
        found.pairs.sort_unstable_by_key(|pair| (pair.one, pair.other));
        found.pairs.dedup_by_key(|pair| (pair.one, pair.other));
        found
    }
}

fn key(text: &str) -> u64 {
    sha256(text.as_bytes()).first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
}

fn too_many() -> Error {
    Error::new(ErrorKind::StoreExhausted, "there are more characters than can be compared at once")
}

/// What a search for candidates came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Proposed {
    /// Pairs that were compared.
    pub compared: u64,
    /// Of them, those that score high enough.
    pub candidates: u64,
    /// Candidates that are new, or score otherwise than before.
    pub changed: u64,
    /// Open candidates that are none any more, and were taken away.
    pub withdrawn: u64,
    /// Names that too many bear to be compared.
    pub crowds: u64,
    /// Of the pairs, those that the collection's search found by vectors.
    pub near: u64,
}

/// Pairs scored together.
const PAIRS_AT_ONCE: usize = 500;

/// Finds and stores candidates that score at least `score_min`, in one transaction; open ones that
/// are none any more go, unless the search was partial. `dry_run`: the same, and then taken back.
pub async fn propose(
    conn: &mut PgConnection,
    neighbours: &impl Neighbours,
    score_min: f64,
    dry_run: bool,
    stop: &Stop,
) -> Result<Proposed> {
    crate::migrate::require_current(conn, PACK).await?;
    let mut tx = conn.begin().await?;
    let Neighbourhood { pairs, crowds, near, is_partial } = neighbours.pairs(&mut tx, stop).await?;
    let mut done = Proposed { compared: pairs.len() as u64, crowds, near, ..Proposed::default() };
    sqlx::raw_sql("CREATE TEMPORARY TABLE proposed_pair (one uuid, other uuid) ON COMMIT DROP")
        .execute(&mut *tx)
        .await?;
    for part in pairs.chunks(PAIRS_AT_ONCE) {
        stop.check()?;
        let mut scored: Vec<(Pair, Scored)> = compare(&mut tx, part).await?;
        scored.retain(|(_, scored)| scored.score >= score_min);
        done.candidates += scored.len() as u64;
        done.changed += store(&mut tx, &scored).await?;
    }
    done.withdrawn = sqlx::query(
        "DELETE FROM character_candidate k WHERE k.state = 'open' AND NOT EXISTS \
             (SELECT FROM proposed_pair p WHERE p.one = k.one_id AND p.other = k.other_id) \
         AND NOT $1",
    )
    .bind(is_partial)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(done)
}

async fn store(tx: &mut PgConnection, scored: &[(Pair, Scored)]) -> Result<u64> {
    let ones: Vec<String> = scored.iter().map(|(pair, _)| pair.one.to_string()).collect();
    let others: Vec<String> = scored.iter().map(|(pair, _)| pair.other.to_string()).collect();
    let scores: Vec<f64> = scored.iter().map(|(_, scored)| scored.score).collect();
    let reasons = scored.iter().map(|(_, scored)| crate::backfill::to_json(&scored.reasons));
    let reasons: Vec<String> = reasons.collect::<Result<_>>()?;
    sqlx::query("INSERT INTO proposed_pair SELECT * FROM unnest($1::uuid[], $2::uuid[])")
        .bind(&ones)
        .bind(&others)
        .execute(&mut *tx)
        .await?;
    let done = sqlx::query(include_str!("../../sql/dedup/propose.sql"))
        .bind(ones)
        .bind(others)
        .bind(scores)
        .bind(reasons)
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}

async fn compare(tx: &mut PgConnection, pairs: &[Pair]) -> Result<Vec<(Pair, Scored)>> {
    let mut ids: Vec<Uuid> = pairs.iter().flat_map(|pair| [pair.one, pair.other]).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = sqlx::query(include_str!("../../sql/dedup/subjects.sql"))
        .bind(texts(&ids))
        .fetch_all(tx)
        .await?;
    let mut subjects: HashMap<Uuid, Subject> = HashMap::new();
    for row in rows {
        let (anime, roles): (Vec<String>, Vec<String>) =
            (row.try_get("anime")?, row.try_get("roles")?);
        let roles = roles.into_iter().map(|role| Some(role).filter(|role| !role.is_empty()));
        let pages = stored_json(row.try_get("pages")?)?;
        let page = |(platform, url): &(crate::json::JsonString, Json)| {
            let platform = String::from_utf8_lossy(platform).into_owned();
            url.as_str().map(|url| (platform, url.to_owned()))
        };
        let subject = Subject {
            name: row.try_get("name")?,
            native: row.try_get("name_native")?,
            aliases: row.try_get("aliases")?,
            gender: row.try_get("gender")?,
            age: row.try_get("age")?,
            roles: anime.into_iter().zip(roles).collect(),
            related: row.try_get::<Vec<String>, _>("related")?.into_iter().collect(),
            pages: pages.members().iter().filter_map(page).collect(),
        };
        subjects.insert(uuid_of(row.try_get("id")?)?, subject);
    }
    let scored = |pair: &Pair| {
        let (one, other) = (subjects.get(&pair.one)?, subjects.get(&pair.other)?);
        Some((*pair, score(one, other, pair.nearness)))
    };
    Ok(pairs.iter().filter_map(scored).collect())
}
