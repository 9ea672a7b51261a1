//! `toolkit ping`: reach the server the settings name.

use std::time::Instant;

use serde::Serialize;

use super::output::facts;
use super::{Outcome, Output, Report};
use crate::config::Settings;
use crate::error::Result;
use crate::store::Postgres;

/// Arguments of `toolkit ping`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Connects as every other command would, so it finds wrong URLs, passwords, certificates, server
versions and encodings before a long run does. Exit code 0: fit for use; 2: not.

Examples:
  toolkit ping
  toolkit --database-url postgres://app@db.example/app?sslmode=require ping")]
pub struct Args {}

/// Runs `toolkit ping`.
pub async fn run(_args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let start = Instant::now();
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    let reached_ms = start.elapsed().as_secs_f64() * 1e3;
    let version: String = sqlx::query_scalar("SELECT pg_catalog.current_setting('server_version')")
        .fetch_one(postgres.pool())
        .await?;
    let report = Ping {
        server: postgres.describe().to_owned(),
        embedded: postgres.embedded_folder().is_some(),
        version,
        version_num: postgres.server_version_num(),
        reached_ms,
    };
    postgres.close().await?;
    output.report(&report)?;
    Ok(Outcome::Success)
}

#[derive(Serialize)]
struct Ping {
    server: String,
    embedded: bool,
    version: String,
    version_num: i32,
    reached_ms: f64,
}

impl Report for Ping {
    fn text(&self) -> String {
        facts([
            ("server", self.server.clone()),
            ("version", self.version.clone()),
            ("reached in", format!("{:.1} ms", self.reached_ms)),
        ])
    }
}
