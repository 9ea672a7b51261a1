//! From entities to what is written of them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use sqlx::PgConnection;

use super::locks::{pending, versions};
use crate::anime::points::{Derived, Entity, load};
use crate::error::Result;
use crate::qdrant::embed::{CARRIED, Carried, Embedder, Text};
use crate::qdrant::point::{Payload, Point, PointId, Vector, With, payload_digest};
use crate::qdrant::target::{Batch, Target};

/// Payload fields that say how the point came to be, not what it is.
const ABOUT_THE_POINT: [&str; 3] = ["version", "embedder", "payload_hash"];

/// What Postgres wants of one entity's point.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) entity: Entity,
    pub(crate) version: i64,
    /// None: it must have no point.
    pub(crate) derived: Option<Derived>,
    /// Outbox rows that this content settles.
    pub(crate) rows: Vec<i64>,
}

/// What was done with the points of some entities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) points: u64,
    pub(crate) payloads: u64,
    pub(crate) removed: u64,
    pub(crate) unchanged: u64,
}

/// The content of entities whose points are locked, and the outbox rows it settles. With
/// `all_versions`, versions come from settled rows too.
pub(crate) async fn contents(
    conn: &mut PgConnection,
    entities: &[Entity],
    all_versions: bool,
) -> Result<Vec<Content>> {
    // Before the load: rows that come later may be of changes it does not see.
    let mut waits = pending(conn, entities).await?;
    let older = if all_versions { versions(conn, entities).await? } else { HashMap::new() };
    let mut derived: HashMap<Entity, Derived> =
        load(conn, entities).await?.into_iter().map(|derived| (derived.entity, derived)).collect();
    let content = |entity: &Entity| {
        let waits = waits.remove(entity).unwrap_or_default();
        let version = older.get(entity).copied().unwrap_or(0).max(waits.version);
        Content { entity: *entity, version, derived: derived.remove(entity), rows: waits.rows }
    };
    Ok(entities.iter().map(content).collect())
}

/// The payload a point has to have but `version` and `embedder`, and its digest.
pub(crate) fn expected(derived: &Derived) -> (Payload, String) {
    let mut payload = derived.payload.clone();
    payload.insert("text_hash".to_owned(), derived.text.digest().into());
    let digest = payload_digest(&payload, &ABOUT_THE_POINT);
    (payload, digest)
}

/// The digest of a stored payload, computed from what is stored.
pub(crate) fn stored_digest(payload: &Payload) -> String {
    payload_digest(payload, &ABOUT_THE_POINT)
}

fn whole(content: &Content, derived: &Derived, embedder: &str) -> Payload {
    let (mut payload, digest) = expected(derived);
    payload.insert("payload_hash".to_owned(), digest.into());
    payload.insert("version".to_owned(), content.version.into());
    payload.insert("embedder".to_owned(), embedder.into());
    payload
}

/// Writes what differs of the entities' points to one collection. Vectors of a point that is there,
/// or in `fallback`, stay unless they are of another text; those of other names always do.
pub(crate) async fn write(
    target: &Target,
    embedder: &Arc<dyn Embedder>,
    contents: &[Content],
    into: &str,
    fallback: Option<&str>,
) -> Result<Written> {
    let ids: Vec<PointId> = contents.iter().map(|content| content.entity.id.into()).collect();
    let existing = by_id(target.store().retrieve(into, &ids, With::PAYLOAD).await?);
    let (mut batch, mut written) = (Batch::default(), Written::default());
    let mut to_embed: Vec<(&Content, &Derived)> = Vec::new();
    for content in contents {
        let id = PointId::from(content.entity.id);
        let found = existing.get(&id);
        match (&content.derived, found) {
            (None, None) => written.unchanged += 1,
            (None, Some(_)) => batch.gone.push(id),
            (Some(derived), found) => {
                match found.and_then(|point| kept_embedder(point, derived, embedder.name())) {
                    None => to_embed.push((content, derived)),
                    Some(by) => {
                        let payload = whole(content, derived, &by);
                        if found.is_some_and(|point| point.payload == payload) {
                            written.unchanged += 1;
                        } else {
                            batch.payloads.push((id, payload));
                        }
                    }
                }
            }
        }
    }
    batch.points = points(target, embedder, &to_embed, (into, &existing), fallback).await?;
    written.points = batch.points.len() as u64;
    written.payloads = batch.payloads.len() as u64;
    written.removed = batch.gone.len() as u64;
    target.write(into, batch).await?;
    Ok(written)
}

/// Who made the point's vector, if it is one of this text that we would make, or keep.
fn kept_embedder(point: &Point, derived: &Derived, embedder: &str) -> Option<String> {
    let field = |name: &str| point.payload.get(name).and_then(Value::as_str);
    let by = field("embedder").filter(|by| *by == embedder || *by == CARRIED)?;
    (field("text_hash")? == derived.text.digest()).then(|| by.to_owned())
}

/// Whole points with a vector of their text.
async fn points(
    target: &Target,
    embedder: &Arc<dyn Embedder>,
    changed: &[(&Content, &Derived)],
    (into, existing): (&str, &HashMap<PointId, Point>),
    fallback: Option<&str>,
) -> Result<Vec<Point>> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let ids = changed.iter().map(|(_, derived)| derived.text.id);
    // Most changes of a text are new points, which are nowhere to be read.
    let (there, absent): (Vec<PointId>, Vec<PointId>) =
        ids.partition(|id| existing.contains_key(id));
    let mut found = by_id(target.store().retrieve(into, &there, With::ALL).await?);
    if let Some(fallback) = fallback {
        found.extend(by_id(target.store().retrieve(fallback, &absent, With::ALL).await?));
    }
    let texts: Vec<Text> = changed.iter().map(|(_, derived)| derived.text.clone()).collect();
    let carried = Carried::new(&found, target.text_vector(), Arc::clone(embedder));
    let embedded = carried.embed(&texts).await?;
    let known = &target.schema().vectors;
    let points = changed.iter().zip(embedded).map(|((content, derived), embedded)| {
        let id = derived.text.id;
        let mut vectors = found.remove(&id).map(|point| point.vectors).unwrap_or_default();
        vectors.retain(|name, _| known.contains_key(name));
        vectors.insert(target.text_vector().to_owned(), Vector::Dense(embedded.vector));
        Point { id, payload: whole(content, derived, &embedded.by), vectors }
    });
    Ok(points.collect())
}

pub(crate) fn by_id(points: Vec<Point>) -> HashMap<PointId, Point> {
    points.into_iter().map(|point| (point.id, point)).collect()
}
