//! What stands in the way of a migration, found before it begins: the server, the machine, the
//! source files, and the pack's phase.
//!
//! Nothing is changed anywhere. A thing that cannot be looked at is said to be unknown.

mod files;
mod machine;
mod phases;
mod server;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{Database, Settings};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::pack::Pack;
use crate::store::{Postgres, redact_url};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Good,
    /// It could not be looked at.
    Unknown,
    /// It works, and will be felt.
    Warning,
    /// Something will fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `server`, `machine`, `source` or `phase`.
    pub area: &'static str,
    /// What: `version`, `disk`, or a file.
    pub what: String,
    /// How it stands.
    pub health: Health,
    /// What was found, as a sentence.
    pub finding: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// What is looked at.
#[derive(Debug, Default)]
pub struct Options {
    /// The pack whose extensions and phase are looked at.
    pub pack: Option<Pack>,
    /// Source files or folders.
    pub sources: Vec<PathBuf>,
}

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The worst of the findings.
    pub health: Health,
    /// The findings, by area.
    pub findings: Vec<Finding>,
}

/// Collects findings.
#[derive(Debug, Default)]
struct Notes(Vec<Finding>);

impl Notes {
    fn add(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        health: Health,
        finding: impl Into<String>,
        advice: Option<String>,
    ) {
        let (what, finding) = (what.into(), finding.into());
        self.0.push(Finding { area, what, health, finding, advice });
    }

    fn good(&mut self, area: &'static str, what: impl Into<String>, finding: impl Into<String>) {
        self.add(area, what, Health::Good, finding, None);
    }

    fn warn(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        finding: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(area, what, Health::Warning, finding, Some(advice.into()));
    }

    fn bad(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        finding: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(area, what, Health::Bad, finding, Some(advice.into()));
    }

    fn unknown(&mut self, area: &'static str, what: impl Into<String>, finding: impl Into<String>) {
        self.add(area, what, Health::Unknown, finding, None);
    }
}

/// Looks at everything. A server that cannot be reached is a finding, not an error.
pub async fn diagnose(settings: &Settings, options: &Options, stop: &Stop) -> Result<Diagnosis> {
    let mut notes = Notes::default();
    machine::look(settings, &options.sources, &mut notes);
    files::look(options, &mut notes);
    match stop.unless(Postgres::connect(settings)).await {
        Ok(postgres) => {
            let looked = look_at_server(settings, &postgres, options, stop, &mut notes).await;
            postgres.close().await?;
            looked?;
        }
        Err(error) if stop.is_requested() => return Err(error),
        Err(error) => {
            let place = match &settings.database {
                Database::Url(url) => redact_url(url),
                Database::Embedded => "the private cluster".to_owned(),
            };
            let advice = error.advice_text().unwrap_or("see `toolkit ping`").to_owned();
            notes.bad("server", "connection", format!("{place}: {}", error.detail()), advice);
        }
    }
    let order = ["server", "machine", "source", "phase"];
    let mut findings = notes.0;
    findings.sort_by_key(|finding| order.iter().position(|area| *area == finding.area));
    let health = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Good);
    Ok(Diagnosis { health, findings })
}

async fn look_at_server(
    settings: &Settings,
    postgres: &Postgres,
    options: &Options,
    stop: &Stop,
    notes: &mut Notes,
) -> Result<()> {
    server::look(postgres, options.pack.as_ref(), notes).await?;
    if let Some(pack) = &options.pack {
        phases::look(settings, postgres, pack, &options.sources, stop, notes).await;
    }
    Ok(())
}
