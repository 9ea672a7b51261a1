//! The pack `anime`: artifacts become rows, nothing of them is lost, nothing regresses.

mod ingestion;
mod leaves;
mod policy;
mod projections;
mod resolver;
mod schema;
mod sidecar;
mod world;
