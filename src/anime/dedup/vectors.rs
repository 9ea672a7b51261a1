//! Neighbours by their vectors, as the collection's own search finds them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::dedup::nearest::{Search, Vectors};
use crate::anime::dedup::{ByName, Neighbourhood, Neighbours, Pair};
use crate::anime::points::EntityType;
use crate::anime::store::identity::uuid_of;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::qdrant::{Distance, Filter, Point, PointId, Target, Vector, VectorKind, With};

/// Neighbours of one character that are looked at.
const NEIGHBOURS: u32 = 10;
/// Least cosine of two vectors that are worth a comparison.
const NEARNESS_MIN: f32 = 0.5;
/// Points read at once.
const PAGE: u32 = 256;
/// Vectors that others pass by: 25 MB of 384 numbers each.
const BLOCK: u32 = 16_384;
/// Vectors that pass by together.
const PASSING: u32 = 1_024;
/// Searches at once.
const SEARCHES: usize = 8;

/// Neighbours by their vectors, and those [`ByName`] finds: a name in another script is near none
/// of its own.
#[derive(Debug, Clone, Default)]
pub struct ByVector {
    names: ByName,
    /// Cosine by pair, the smaller id first.
    near: HashMap<(Uuid, Uuid), f64>,
}

/// Why a collection cannot be searched for neighbours; None: it can.
pub async fn unsearchable(target: &Target) -> Result<Option<String>> {
    let (place, name) = (target.store().describe(), target.name());
    let Some(schema) = target.store().schema(name).await? else {
        return Ok(Some(format!("{place} has no collection {name:?}")));
    };
    Ok(match schema.vectors.get(target.text_vector()) {
        Some(VectorKind::Dense { distance: Distance::Cosine, .. }) => None,
        _ => Some(format!(
            "the vector {:?} of {name:?} is not one that is compared by cosine",
            target.text_vector()
        )),
    })
}

impl ByVector {
    /// Searches the collection for the neighbours of each character in it; where it has no index to
    /// search by, all are compared with all. Memory: 25 MB there, and about 60 bytes
    /// per pair, and there are at most ten times as many pairs as characters.
    pub async fn search(target: &Target, names: ByName, stop: &Stop) -> Result<Self> {
        if target.store().searches_all() {
            return Ok(Self { names, near: all_pairs(target, stop).await? });
        }
        let characters = Filter::is("entity_type", EntityType::Character.name());
        let (mut near, mut from) = (HashMap::new(), None);
        loop {
            stop.check()?;
            let store = target.store();
            let page = store.scroll(target.name(), &characters, from, PAGE, With::ALL);
            let page = stop.unless(page).await?;
            let searches = page.points.into_iter().map(|point| neighbours(target, point));
            let found = stream::iter(searches).buffer_unordered(SEARCHES).try_concat();
            for (pair, nearness) in stop.unless(found).await? {
                near.insert(pair, nearness);
            }
            from = page.next;
            if from.is_none() {
                return Ok(Self { names, near });
            }
        }
    }
}

/// Compares all characters with all, a block at a time with those of greater ids.
async fn all_pairs(target: &Target, stop: &Stop) -> Result<HashMap<(Uuid, Uuid), f64>> {
    let mut search = Search::new(NEIGHBOURS, NEARNESS_MIN);
    let mut block_from = None;
    loop {
        let (block, block_next) = vectors(target, block_from, BLOCK, stop).await?;
        let block = Arc::new(block);
        let mut from = block_from;
        loop {
            stop.check()?;
            let (passing, next) = vectors(target, from, PASSING, stop).await?;
            let held = Arc::clone(&block);
            let compared = tokio::task::spawn_blocking(move || {
                search.compare(&held, &passing);
                search
            });
            search = compared.await.map_err(crate::pack::join_error)?;
            from = next;
            if from.is_none() {
                break;
            }
        }
        block_from = block_next;
        if block_from.is_none() {
            return Ok(search.pairs());
        }
    }
}

/// Vectors of at most so many characters, and where the next ones begin.
async fn vectors(
    target: &Target,
    mut from: Option<PointId>,
    most: u32,
    stop: &Stop,
) -> Result<(Vectors, Option<PointId>)> {
    let characters = Filter::is("entity_type", EntityType::Character.name());
    let (mut found, mut read) = (Vectors::default(), 0);
    let with = With { payload: false, vectors: true };
    while read < most {
        let (store, limit) = (target.store(), PAGE.min(most - read));
        let page = store.scroll(target.name(), &characters, from, limit, with);
        let page = stop.unless(page).await?;
        for point in page.points {
            read += 1;
            if let (Some(Vector::Dense(vector)), PointId::Uuid(id)) =
                (point.vectors.get(target.text_vector()), point.id)
            {
                found.push(id, vector);
            }
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    Ok((found, from))
}

/// The nearest characters of one, each as a pair with its cosine.
async fn neighbours(target: &Target, point: Point) -> Result<Vec<((Uuid, Uuid), f64)>> {
    let mut vectors = point.vectors;
    let (Some(vector @ Vector::Dense(_)), PointId::Uuid(one)) =
        (vectors.remove(target.text_vector()), point.id)
    else {
        return Ok(Vec::new());
    };
    let characters = Filter::is("entity_type", EntityType::Character.name());
    // It is its own nearest one.
    let limit = NEIGHBOURS + 1;
    let (store, using) = (target.store(), target.text_vector());
    let found = store.search(target.name(), using, vector, &characters, limit).await?;
    let near = found.into_iter().filter(|other| other.score >= NEARNESS_MIN);
    let pair = |other: crate::qdrant::Scored| {
        let id = other.id.uuid().filter(|id| *id != one)?;
        Some(((one.min(id), one.max(id)), f64::from(other.score.min(1.0))))
    };
    Ok(near.filter_map(pair).collect())
}

impl Neighbours for ByVector {
    async fn pairs(&self, conn: &mut PgConnection, stop: &Stop) -> Result<Neighbourhood> {
        let mut found = self.names.pairs(conn, stop).await?;
        let known = characters(conn).await?;
        let mut near = self.near.clone();
        // A point may be of a character that was merged or removed since.
        near.retain(|(one, other), _| known.contains(one) && known.contains(other));
        found.near = near.len() as u64;
        for pair in &mut found.pairs {
            pair.nearness = near.remove(&(pair.one, pair.other));
        }
        let others = near.into_iter().map(|((one, other), nearness)| Pair {
            one,
            other,
            nearness: Some(nearness),
        });
        found.pairs.extend(others);
        found.pairs.sort_unstable_by_key(|pair| (pair.one, pair.other));
        Ok(found)
    }
}

/// Ids of all characters that were not merged.
async fn characters(conn: &mut PgConnection) -> Result<HashSet<Uuid>> {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT c.id::text FROM character c \
         WHERE NOT EXISTS (SELECT FROM character_redirect r WHERE r.from_id = c.id)",
    )
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| uuid_of(id)).collect()
}
