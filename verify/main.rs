//! The verification harness: one test target, a module per contract. A test's name is the
//! promise it holds.
//!
//! Tests that need Postgres take it from `TOOLKIT_TEST_POSTGRES_URL` (a superuser's URL), else
//! from a server of their own made of this machine's programs, else from Docker.

// Tests print their seeds and what they skip.
#![allow(clippy::print_stdout)]

mod anime;
mod anomalies;
mod backfill;
mod backfill_content;
mod backfill_errors;
mod backfill_faults;
mod backfill_parents;
mod backfill_references;
mod backfill_sequences;
mod backfill_targets;
mod backfill_triggers;
mod backfill_twins;
mod backfill_workers;
mod backup;
mod canonical;
mod cast_oracle;
mod catalogue;
mod certificate;
mod cli_errors;
mod connections;
mod copy;
mod demo;
mod dirt;
mod doctor;
mod dual_write;
mod embedded;
mod export;
mod failures;
mod grants;
mod graph;
mod hostile_schemas;
mod json_oracle;
mod live;
mod live_migration;
mod maintain;
mod manners;
mod media;
mod migrate;
mod migrate_command;
mod migrate_lint;
mod migrate_verify;
mod odd_places;
mod outages;
mod pack_check;
mod parity;
mod parity_report;
mod phase;
mod preflight;
#[cfg(feature = "embedded-qdrant")]
mod qdrant;
mod rejects;
mod repair;
mod reverse;
mod scenarios;
mod sources;
mod support;
mod torture;
mod unified_schema;
mod user_pack;
mod webtoon;
