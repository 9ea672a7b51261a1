//! The verification harness: one test target, a module per contract. A test's name is the
//! promise it holds.
//!
//! Tests that need Postgres take it from `TOOLKIT_TEST_POSTGRES_URL` (a superuser's URL), else
//! from a server of their own made of this machine's programs, else from Docker.

// Tests print their seeds and what they skip.
#![allow(clippy::print_stdout)]

mod backfill;
mod backfill_errors;
mod backfill_faults;
mod backfill_targets;
mod backfill_twins;
mod canonical;
mod cast_oracle;
mod cli_errors;
mod connections;
mod demo;
mod dirt;
mod embedded;
mod json_oracle;
mod migrate;
mod migrate_command;
mod pack_check;
mod parity;
mod preflight;
mod rejects;
mod repair;
mod support;
mod unified_schema;
mod user_pack;
