//! Qdrant: one conformance suite for every store, embeddings, outbox, rebuild, parity.

mod conformance;
mod embeddings;
mod front;
mod kills;
mod outbox;
mod parity;
mod rebuild;
mod refusals;
mod server;
mod stores;
mod tls;
mod world;
