//! What every vector store can do.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::point::{Filter, Payload, Point, PointId, Scored, Vector, With};
use super::schema::Schema;
use crate::error::Result;

/// Some points in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The points.
    pub points: Vec<Point>,
    /// Where the next page starts; None: this was the last.
    pub next: Option<PointId>,
}

/// Collections of points. Every write is applied, and visible to every later read, when it
/// returns; it is durable after [`VectorStore::flush`]. Every operation may be repeated.
///
/// Wherever a collection is named, an alias does too, except in [`VectorStore::create`],
/// [`VectorStore::remove`] and as an alias's target.
///
/// A missing collection fails with [`crate::ErrorKind::StoreFailed`], a store that does not answer
/// with [`crate::ErrorKind::StoreUnreachable`], refused credentials with
/// [`crate::ErrorKind::StoreDenied`].
#[async_trait]
pub trait VectorStore: Send + Sync {
    /// Where it is, without secrets.
    fn describe(&self) -> String;

    /// What the collection is made of; None: there is none of that name.
    async fn schema(&self, collection: &str) -> Result<Option<Schema>>;

    /// Names of all collections, sorted, without aliases.
    async fn collections(&self) -> Result<Vec<String>>;

    /// Makes an empty collection with all its payload indexes; one of that name must not exist.
    async fn create(&self, collection: &str, schema: &Schema) -> Result<()>;

    /// Makes those payload indexes of the schema that are missing.
    async fn ensure_indexes(&self, collection: &str, schema: &Schema) -> Result<()>;

    /// Removes a collection with its points, if it is there.
    async fn remove(&self, collection: &str) -> Result<()>;

    /// All aliases, and the collection each stands for.
    async fn aliases(&self) -> Result<BTreeMap<String, String>>;

    /// The collection an alias stands for; None: no such alias.
    async fn alias(&self, alias: &str) -> Result<Option<String>> {
        Ok(self.aliases().await?.remove(alias))
    }

    /// Points an alias at a collection, atomically, whether it stood for another one or not.
    async fn set_alias(&self, alias: &str, collection: &str) -> Result<()>;

    /// Removes an alias, if it is there.
    async fn remove_alias(&self, alias: &str) -> Result<()>;

    /// Writes whole points: what a point of the same id had is gone.
    async fn upsert(&self, collection: &str, points: Vec<Point>) -> Result<()>;

    /// Replaces payloads; vectors stay. An id without a point is left out, or refused with
    /// [`crate::ErrorKind::StoreFailed`]: stores differ.
    async fn set_payloads(&self, collection: &str, payloads: Vec<(PointId, Payload)>)
    -> Result<()>;

    /// Removes points; ids without one are no failure.
    async fn delete(&self, collection: &str, ids: &[PointId]) -> Result<()>;

    /// Those of the points that are there, in any order.
    async fn retrieve(&self, collection: &str, ids: &[PointId], with: With) -> Result<Vec<Point>>;

    /// A page of at most `limit` points from the id `from` (inclusive), in the order of ids.
    async fn scroll(
        &self,
        collection: &str,
        filter: &Filter,
        from: Option<PointId>,
        limit: u32,
        with: With,
    ) -> Result<Page>;

    /// How many points fulfil the filter, exactly.
    async fn count(&self, collection: &str, filter: &Filter) -> Result<u64>;

    /// The nearest points by the vector named `using`, nearest first.
    async fn search(
        &self,
        collection: &str,
        using: &str,
        vector: Vector,
        filter: &Filter,
        limit: u32,
    ) -> Result<Vec<Scored>>;

    /// Whether a search compares with every vector, so that it takes longer the more there are.
    fn searches_all(&self) -> bool {
        false
    }

    /// Makes every write so far durable.
    async fn flush(&self, collection: &str) -> Result<()>;
}
