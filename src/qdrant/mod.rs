//! A Qdrant collection that follows Postgres: points are derived from entities, never edited.
//!
//! [`VectorStore`] is a server over gRPC ([`Server`]) or Qdrant's own engine in this process
//! (`Embedded`, feature `embedded-qdrant`); both pass one conformance suite. [`outbox`] brings
//! changes of entities to the collection, at least once and in the order of their versions;
//! [`parity`] proves that both hold the same.
//!
//! The name of the collection is an alias wherever the toolkit made it: a rebuild fills another
//! collection behind it and switches. A second alias, `<name>--next`, is there while a rebuild
//! runs; whoever writes points writes to both.

pub mod embed;
#[cfg(feature = "embedded-qdrant")]
mod embedded;
mod open;
pub mod outbox;
pub mod parity;
mod point;
mod schema;
mod server;
mod store;
mod target;

#[cfg(feature = "embedded-qdrant")]
pub use embedded::Embedded;
pub use open::{open, open_existing};
pub use point::{
    Condition, Filter, Payload, Point, PointId, Scored, Vector, Vectors, With, payload_digest,
};
pub use schema::{Distance, Index, Schema, VectorKind};
pub use server::Server;
pub use store::{Page, VectorStore};
pub use target::{Target, next_alias};

/// Entities, or points, that are read at once.
const PAGE: u32 = 256;
