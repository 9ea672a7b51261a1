//! The pack `anime`: artifacts become rows, nothing of them is lost, nothing regresses.

mod dedup;
#[cfg(feature = "embedded-qdrant")]
mod derived;
mod dirt;
mod ingestion;
mod leaves;
mod pairs;
mod parity;
mod policy;
mod projections;
mod resolver;
mod schema;
mod sidecar;
mod world;
