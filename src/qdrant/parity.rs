//! Whether Qdrant holds what Postgres holds: the same ids, payloads, versions and vectors, in both
//! directions, in bounded memory.
//!
//! Both sides are walked in the order of their ids, window by window. What differs is looked at
//! once more under its point's lock. What differs of an entity that has a pending outbox row, or
//! that a worker has just now, is on its way: it is counted by itself.
//!
//! A vector is made anew and compared bit by bit where its embedder is at hand and deterministic.
//! Else its presence, its dimension and, where the store normalises, its length are what is held.

mod compared;
mod judge;
mod mend;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::embed::Embedder;
use super::point::PointId;
use super::target::Target;
use crate::anime::points::{Entity, EntityType};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::parity::Kind;
use crate::store::Postgres;

pub use mend::{distrust, mend};

/// How to compare.
#[derive(Clone)]
pub struct Options {
    /// Differences of each kind that are listed; all are counted.
    pub listed_max: usize,
    /// Makes each vector anew and compares it: for a deterministic embedder.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// How long what is on its way is waited for.
    pub settle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { listed_max: 1_000, embedder: None, settle: Duration::ZERO }
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
    /// Both sides of it.
    pub fields: Vec<FieldDifference>,
}

/// What is wanted, and what there is, of a part of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// A field of the payload, or `vector` and its name.
    pub name: String,
    /// What Postgres wants, as JSON or in words; None: nothing.
    pub wanted: Option<String>,
    /// What the point has.
    pub is: Option<String>,
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
    /// A vector that the store normalises is not of length 1.
    VectorNorm(String),
    /// The vector is not that of the text.
    VectorOther(String),
}

impl Reason {
    fn is_of_a_vector(&self) -> bool {
        !matches!(self, Self::Payload | Self::PayloadHash | Self::Version)
    }
}

/// An entity that differs and is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The entity.
    pub entity: Entity,
    /// How it differs until it has arrived.
    pub kind: Kind,
    /// Both sides of it, of a point that is there.
    pub fields: Vec<FieldDifference>,
}

/// Points and entities of one type, and how many differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Entities with a point.
    pub postgres: u64,
    /// Points.
    pub qdrant: u64,
    /// Entities without a point.
    pub missing: u64,
    /// Points without an entity.
    pub extra: u64,
    /// Points that are not as their entities.
    pub stale: u64,
    /// Entities without a point that are on their way.
    pub missing_yet: u64,
    /// Points that are on their way out.
    pub extra_yet: u64,
    /// Points whose newer content is on its way.
    pub stale_yet: u64,
}

impl Counts {
    fn wait(&mut self, kind: Kind) {
        match kind {
            Kind::Missing => self.missing_yet += 1,
            Kind::Extra => self.extra_yet += 1,
            _ => self.stale_yet += 1,
        }
    }
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
    /// Entities without a point.
    pub missing: Listed<Entity>,
    /// Points without an entity.
    pub extra: Listed<Extra>,
    /// Points that are not as their entities.
    pub stale: Listed<Stale>,
    /// Whatever differs and is on its way.
    pub on_the_way: Listed<Waiting>,
    /// Points whose vector came with the collection and cannot be made anew.
    pub carried: u64,
    /// Points whose vector was made anew and compared.
    pub made_anew: u64,
    /// By type, a digest over the points that are as they should be, in no order.
    pub same: BTreeMap<String, String>,
}

impl Report {
    /// Whether nothing differs; what is on its way does not count.
    pub fn is_clean(&self) -> bool {
        self.missing.count == 0 && self.extra.count == 0 && self.stale.count == 0
    }
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
    walk::compare(postgres, target, collection, options, stop).await
}
