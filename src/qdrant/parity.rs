//! Whether Qdrant holds what Postgres holds: the same ids, payloads, versions and vectors, in both
//! directions, in bounded memory.
//!
//! Both sides are walked in the order of their ids, window by window. What differs is looked at
//! once more under its point's lock; an entity that has a pending outbox row, or that a worker has
//! just now, is pending and no difference.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::PAGE;
use super::embed::{CARRIED, Embedder};
use super::outbox::{Content, contents, expected, locked, requeue, stored_digest};
use super::point::{Filter, Point, PointId, Vector, With};
use super::target::Target;
use crate::anime::points::{Entity, EntityType, window};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::store::Postgres;

/// Cosine of a vector made anew and the stored one is 1 within this: stores normalise.
const COSINE_TOLERANCE: f32 = 1e-3;

/// How to compare.
#[derive(Clone)]
pub struct Options {
    /// Differences of each kind that are listed; all are counted.
    pub listed_max: usize,
    /// Makes each vector anew and compares it: for a deterministic embedder.
    pub embedder: Option<Arc<dyn Embedder>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { listed_max: 1_000, embedder: None }
    }
}

/// Differences of one kind: how many, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed<T> {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, one: T, max: usize) {
        self.count += 1;
        if self.first.len() < max {
            self.first.push(one);
        }
    }
}

/// A point that no entity has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Extra {
    /// Its id.
    pub id: PointId,
    /// What its payload says it is.
    pub entity_type: Option<String>,
}

impl Extra {
    /// As what the outbox can remove it; a point with a number for an id only a rebuild can.
    pub fn entity(&self) -> Option<Entity> {
        let named = self.entity_type.as_deref().and_then(EntityType::of_name);
        let id = self.id.uuid()?;
        Some(Entity { entity_type: named.unwrap_or(EntityType::Anime), id })
    }
}

/// A point that is not as its entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stale {
    /// The entity.
    pub entity: Entity,
    /// What differs.
    pub reasons: Vec<Reason>,
}

/// How a point differs from its entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The payload is another one.
    Payload,
    /// The payload's own digest is not that of the payload.
    PayloadHash,
    /// It is of another version than the newest settled one.
    Version,
    /// A vector that every point must have is not there.
    VectorMissing(String),
    /// A vector has not as many numbers as the collection says, or one that is not finite.
    VectorShape(String),
    /// The vector is not that of the text.
    VectorOther(String),
}

/// Points and entities of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Entities with a point.
    pub postgres: u64,
    /// Points.
    pub qdrant: u64,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The collection that was compared.
    pub collection: String,
    /// By `entity_type`; points without a known one under `other`.
    pub counts: BTreeMap<String, Counts>,
    /// Exact count of the collection's points, asked for at the end.
    pub points: u64,
    /// Entities whose point is still on its way.
    pub pending: u64,
    /// Entities without a point.
    pub missing: Listed<Entity>,
    /// Points without an entity.
    pub extra: Listed<Extra>,
    /// Points that are not as their entities.
    pub stale: Listed<Stale>,
    /// Points whose vector came with the collection and cannot be made anew.
    pub carried: u64,
}

impl Report {
    /// Whether nothing differs; what is pending does not count.
    pub fn is_clean(&self) -> bool {
        self.missing.count == 0 && self.extra.count == 0 && self.stale.count == 0
    }

    /// The listed differences as what [`super::outbox::requeue`] takes.
    pub fn to_requeue(&self) -> Vec<Entity> {
        let stale = self.stale.first.iter().map(|stale| stale.entity);
        let extra = self.extra.first.iter().filter_map(Extra::entity);
        self.missing.first.iter().copied().chain(stale).chain(extra).collect()
    }
}

/// Queues the listed differences to be made good; returns how many rows. Points whose vector is at
/// fault are told apart by nothing in Postgres: what they say of their text is taken away, so that
/// the worker makes the vector anew, and they are searched until then. Points with a number for an
/// id are left to a rebuild.
pub async fn mend(postgres: &Postgres, target: &Target, report: &Report) -> Result<u64> {
    let is_vector = |reason: &Reason| {
        matches!(reason, Reason::VectorMissing(_) | Reason::VectorShape(_) | Reason::VectorOther(_))
    };
    let broken: Vec<Entity> = report
        .stale
        .first
        .iter()
        .filter(|stale| stale.reasons.iter().any(is_vector))
        .map(|stale| stale.entity)
        .collect();
    let mut conn = postgres.dedicated().await?;
    for part in broken.chunks(PAGE as usize) {
        let mut transaction = conn.begin().await?;
        let mine = locked(&mut transaction, part).await?;
        let ids: Vec<PointId> = mine.iter().map(|entity| entity.id.into()).collect();
        let points = target.store().retrieve(target.name(), &ids, With::PAYLOAD).await?;
        let payloads = points.into_iter().map(|mut point| {
            point.payload.remove("text_hash");
            (point.id, point.payload)
        });
        target.store().set_payloads(target.name(), payloads.collect()).await?;
        target.store().flush(target.name()).await?;
        transaction.rollback().await?;
    }
    requeue(&mut conn, &report.to_requeue()).await
}

/// Compares the collection that is searched.
pub async fn verify(
    postgres: &Postgres,
    target: &Target,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    compare(postgres, target, target.name(), options, stop).await
}

/// Compares any collection.
pub async fn compare(
    postgres: &Postgres,
    target: &Target,
    collection: &str,
    options: &Options,
    stop: &Stop,
) -> Result<Report> {
    let comparison = Comparison { target, collection, options };
    let mut report = Report { collection: collection.to_owned(), ..Report::default() };
    for kind in EntityType::ALL {
        report.counts.insert(kind.name().to_owned(), Counts::default());
    }
    let mut conn = postgres.dedicated().await?;
    let (mut after, mut from) = (None, None);
    loop {
        stop.check()?;
        let seen = comparison.window(&mut conn, after, from, &mut report).await?;
        let Some(until) = seen.until else { break };
        after = Some(until);
        from = Some(PointId::Uuid(Uuid::from_u128(until.as_u128() + 1)));
    }
    report.points = target.store().count(collection, &Filter::default()).await?;
    Ok(report)
}

/// How far a window reached; None: to the end.
struct Seen {
    until: Option<Uuid>,
}

struct Comparison<'a> {
    target: &'a Target,
    collection: &'a str,
    options: &'a Options,
}

impl Comparison<'_> {
    /// Compares what both sides have between `after` and where the shorter page ends.
    async fn window(
        &self,
        conn: &mut PgConnection,
        after: Option<Uuid>,
        from: Option<PointId>,
        report: &mut Report,
    ) -> Result<Seen> {
        let store = self.target.store();
        let nothing = Filter::default();
        let page = store.scroll(self.collection, &nothing, from, PAGE, With::ALL).await?;
        let last_uuid = page.points.iter().rev().find_map(|point| point.id.uuid());
        let mut until = match (&page.next, last_uuid) {
            (None, _) => Uuid::max(),
            (Some(_), Some(last)) => last,
            // Nothing but numbers, which come before all UUIDs.
            (Some(_), None) => Uuid::nil(),
        };
        let entities = window(conn, after, until, PAGE).await?;
        if entities.len() == PAGE as usize {
            until = entities.last().map_or(until, |entity| entity.id);
        }
        let mut points: HashMap<PointId, Point> = HashMap::new();
        for point in page.points {
            if point.id.uuid().is_none_or(|id| id <= until) {
                count_point(report, &point);
                points.insert(point.id, point);
            }
        }
        for entity in &entities {
            report.counts.entry(entity.entity_type.name().to_owned()).or_default().postgres += 1;
        }
        let is_last = until == Uuid::max();
        self.compare(conn, &entities, points, report).await?;
        Ok(Seen { until: (!is_last).then_some(until) })
    }

    /// First at a glance, then what differs once more under locks.
    async fn compare(
        &self,
        conn: &mut PgConnection,
        entities: &[Entity],
        mut points: HashMap<PointId, Point>,
        report: &mut Report,
    ) -> Result<()> {
        let contents = contents(conn, entities, true).await?;
        let mut doubtful = Vec::new();
        for content in &contents {
            let point = points.remove(&content.entity.id.into());
            let verdict = self.judge(content, point.as_ref()).await?;
            if verdict != Verdict::Same || !content.rows.is_empty() {
                doubtful.push(content.entity);
            }
        }
        for point in points.into_values() {
            let extra = Extra { id: point.id, entity_type: entity_type(&point) };
            match extra.entity() {
                Some(entity) => doubtful.push(entity),
                None => report.extra.push(extra, self.options.listed_max),
            }
        }
        if doubtful.is_empty() { Ok(()) } else { self.look_again(conn, &doubtful, report).await }
    }

    async fn look_again(
        &self,
        conn: &mut PgConnection,
        entities: &[Entity],
        report: &mut Report,
    ) -> Result<()> {
        let mut transaction = conn.begin().await?;
        let mine = locked(&mut transaction, entities).await?;
        report.pending += (entities.len() - mine.len()) as u64;
        let ids: Vec<PointId> = mine.iter().map(|entity| entity.id.into()).collect();
        let found = self.target.store().retrieve(self.collection, &ids, With::ALL).await?;
        let found: HashMap<PointId, Point> =
            found.into_iter().map(|point| (point.id, point)).collect();
        let max = self.options.listed_max;
        for content in contents(&mut transaction, &mine, true).await? {
            let point = found.get(&content.entity.id.into());
            let verdict = self.judge(&content, point).await?;
            if !content.rows.is_empty() {
                report.pending += 1;
                continue;
            }
            match verdict {
                Verdict::Same => {}
                Verdict::Missing => report.missing.push(content.entity, max),
                Verdict::Extra => {
                    let entity_type = point.and_then(entity_type);
                    let id = content.entity.id.into();
                    report.extra.push(Extra { id, entity_type }, max);
                }
                Verdict::Stale(reasons) => {
                    report.stale.push(Stale { entity: content.entity, reasons }, max);
                }
            }
        }
        Ok(transaction.rollback().await?)
    }

    async fn judge(&self, content: &Content, point: Option<&Point>) -> Result<Verdict> {
        let (derived, point) = match (&content.derived, point) {
            (None, None) => return Ok(Verdict::Same),
            (Some(_), None) => return Ok(Verdict::Missing),
            (None, Some(_)) => return Ok(Verdict::Extra),
            (Some(derived), Some(point)) => (derived, point),
        };
        let mut reasons = Vec::new();
        let (_, wanted) = expected(derived);
        let text = |name: &str| point.payload.get(name).and_then(|value| value.as_str());
        let is = stored_digest(&point.payload);
        if is != wanted {
            reasons.push(Reason::Payload);
        } else if text("payload_hash") != Some(&wanted) {
            reasons.push(Reason::PayloadHash);
        }
        let version = point.payload.get("version").and_then(serde_json::Value::as_i64);
        // Rows that were removed leave nothing to compare with.
        if content.version != 0 && version != Some(content.version) {
            reasons.push(Reason::Version);
        }
        self.judge_vectors(point, &mut reasons);
        let name = self.target.text_vector();
        if let (Some(embedder), Some(stored)) = (&self.options.embedder, point.vectors.get(name))
            && text("embedder") == Some(embedder.name())
        {
            let made = embedder.embed(std::slice::from_ref(&derived.text)).await?;
            let made = made.into_iter().next().map(|made| Vector::Dense(made.vector));
            if !made.is_some_and(|made| made.is_near(stored, COSINE_TOLERANCE)) {
                reasons.push(Reason::VectorOther(name.to_owned()));
            }
        }
        Ok(if reasons.is_empty() { Verdict::Same } else { Verdict::Stale(reasons) })
    }

    /// The text vector must be there; all that are there must be of the collection's sizes.
    fn judge_vectors(&self, point: &Point, reasons: &mut Vec<Reason>) {
        for (name, kind) in &self.target.schema().vectors {
            match point.vectors.get(name) {
                None if name == self.target.text_vector() => {
                    reasons.push(Reason::VectorMissing(name.clone()));
                }
                None => {}
                Some(vector) => {
                    let size = kind.size().and_then(|size| usize::try_from(size).ok());
                    if !is_shaped(vector, size) {
                        reasons.push(Reason::VectorShape(name.clone()));
                    }
                }
            }
        }
    }
}

fn is_shaped(vector: &Vector, size: Option<usize>) -> bool {
    let fits = |numbers: &[f32]| {
        size.is_none_or(|size| numbers.len() == size) && numbers.iter().all(|one| one.is_finite())
    };
    match vector {
        Vector::Dense(numbers) | Vector::Sparse { values: numbers, .. } => fits(numbers),
        Vector::Multi(rows) => rows.iter().all(|row| fits(row)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Missing,
    Extra,
    Stale(Vec<Reason>),
}

fn entity_type(point: &Point) -> Option<String> {
    point.payload.get("entity_type").and_then(|value| value.as_str()).map(str::to_owned)
}

fn count_point(report: &mut Report, point: &Point) {
    let named = entity_type(point).filter(|name| EntityType::of_name(name).is_some());
    let name = named.unwrap_or_else(|| "other".to_owned());
    report.counts.entry(name).or_default().qdrant += 1;
    let by = point.payload.get("embedder").and_then(|value| value.as_str());
    report.carried += u64::from(by == Some(CARRIED));
}
