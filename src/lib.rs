//! Moves an application's state out of `SQLite` files and JSON/CSV artifacts into `PostgreSQL`,
//! and proves at every step that nothing was lost or changed.
//!
//! # The map of the house
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | arguments, output, one file per command; the only place that prints |
//! | `count` | how many there are of something, in words |
//! | [`config`] | flag > environment > `toolkit.toml` > default, resolved once into `Settings` |
//! | [`error`] | the one error with its kind, detail, advice and cause |
//! | `operator` | who runs this process, and where |
//! | [`whole_file`] | files that are written whole or not at all |
//! | [`interrupt`] | the wish to stop, as a token long work looks at |
//! | [`retry`] | the one retry policy |
//! | [`store`] | connections: Postgres by URL or embedded, `SQLite` read-only |
//! | [`pack`] | `pack.toml`: parse, validate, compile into typed plans |
//! | [`migrate`] | versioned migrations over refinery's traits |
//! | [`source`] | readers: `SQLite`, JSON, CSV, as batches of records |
//! | [`json`] | a lenient JSON reader that names anomalies, and the text jsonb would store |
//! | [`cast`] | source values to Postgres binary values, ledger notes and rejects |
//! | [`canonical`] | the one encoding and digest of rows, in Rust and as SQL |
//! | [`derive`] | source records to the rows they become |
//! | [`backfill`] | plan chunks, lease, copy, merge, checkpoint |
//! | [`capture`] | dual-write: changes captured in `SQLite`, applied to Postgres |
//! | [`copy`] | a `SQLite` file without a pack: types from its values, a pack written for it |
//! | [`backup`] | a dump that was restored and compared |
//! | [`preflight`] | a census of the sources, and what a backfill will make of them |
//! | [`runs`] | the runs of a database: list, show, pause, resume, stop |
//! | [`export`] | a pack's tables as a portable archive, and back |
//! | [`grants`] | the least rights of an application's role, printed, given, checked |
//! | [`ledger`] | reading rejects and ledger entries, acknowledging rejects |
//! | [`parity`] | compare, sample, account, report |
//! | [`certificate`] | what a clean verification proved, as a file that can be checked later |
//! | [`phase`] | the phase machine: gates, evidence, cutover, rollback, acceptance |
//! | [`live`] | for Rust applications in mid-migration: writer, router, shadow reads |
//! | [`manners`] | kind to production: throttle, conditions to wait for, the run's own requests |
//! | [`maintain`] | partitions ahead, retention, what waits for VACUUM or ANALYZE |
//! | [`repair`] | reviewable repair plans and their execution |
//! | [`media`] | the pack `media`: import transforms, smart lists, repartitioning |
//! | [`qdrant`] | a collection that follows Postgres: stores, embeddings, outbox, rebuild, parity |
//! | [`anime`] | the pack `anime`: entries to rows, update policy, resolver, sidecar |
//! | [`doctor`] | what stands in the way: server, machine, source files, phase |
//! | [`query`] | named questions of a pack's documents, answered inside limits |
//! | [`graph`] | bounded graph queries: neighbors, k-hop, path, compare, lineage |
//! | [`unified`] | the Rust transforms of the pack `unified` |
//! | [`webtoon`] | what the pack `webtoon` answers |
//! | [`demo`] | the seeded generator and the narrated demo |
//!
//! Arrows run downward only: `cli` -> capabilities -> `source cast canonical store` ->
//! `error config`.

pub mod anime;
pub mod backfill;
pub mod backup;
pub mod canonical;
pub mod capture;
pub mod cast;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod copy;
mod count;
pub mod demo;
pub mod derive;
pub mod doctor;
pub mod error;
pub mod export;
pub mod grants;
pub mod graph;
pub mod interrupt;
pub mod json;
pub mod ledger;
pub mod live;
pub mod maintain;
pub mod manners;
pub mod media;
pub mod migrate;
mod operator;
pub mod pack;
pub mod parity;
pub mod phase;
pub mod preflight;
pub mod qdrant;
pub mod query;
pub mod repair;
pub mod retry;
pub mod runs;
mod shell;
pub mod source;
pub mod store;
pub mod unified;
pub mod webtoon;
pub mod whole_file;

pub use error::{Error, ErrorKind, Result};
