//! `toolkit doctor`: what stands in the way.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::doctor::{self, Diagnosis, Health, Options};
use crate::error::Result;
use crate::pack::Pack;

/// Arguments of `toolkit doctor`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Looks at the server (version, encoding, grants, extensions, lz4, durability, connections, a pooler in
the way, clock), at this machine (room on the disks), at source files (journal mode, locks, rights)
and at what the pack's next phase asks for. Nothing is changed.

Exit codes: 0 nothing will fail (there may be warnings), 1 something will, 2 could not run.

Examples:
  toolkit doctor
  toolkit doctor --source /data/app
  toolkit doctor --pack unified --source /data/app --format json")]
pub struct Args {
    /// Built-in pack, or the folder of your own pack.toml: its extensions and its phase, too
    #[arg(long)]
    pack: Option<String>,
    /// Source file or folder; may be repeated
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let pack = args.pack.as_deref().map(Pack::find).transpose()?;
    let options = Options { pack, sources: args.source };
    let diagnosis = doctor::diagnose(settings, &options, output.stop()).await?;
    output.report(&diagnosis)?;
    Ok(if diagnosis.health == Health::Bad { Outcome::Differences } else { Outcome::Success })
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Good => "ok",
        Health::Unknown => "unknown",
        Health::Warning => "WARNING",
        Health::Bad => "BAD",
    }
}

impl Report for Diagnosis {
    fn text(&self) -> String {
        let mut table = output::table(["AREA", "WHAT", "", "FINDING"]);
        for finding in &self.findings {
            table.add_row([finding.area, &finding.what, word(finding.health), &finding.finding]);
        }
        let mut lines = vec![table.trim_fmt(), String::new()];
        let mut said = BTreeSet::new();
        for finding in &self.findings {
            let Some(advice) = &finding.advice else { continue };
            if !said.insert(advice) {
                continue;
            }
            let alike = self.findings.iter().filter(|other| other.advice == finding.advice).count();
            let more = if alike > 1 { format!(" and {} more", alike - 1) } else { String::new() };
            lines.push(format!("{} {}{more}: {advice}", word(finding.health), finding.what));
        }
        let count = |health| self.findings.iter().filter(|found| found.health == health).count();
        let (bad, warnings, unknown) =
            (count(Health::Bad), count(Health::Warning), count(Health::Unknown));
        let verdict = if bad == 0 { "nothing will fail" } else { "something will fail" };
        lines.push(format!("{verdict}: {bad} bad, {warnings} warnings, {unknown} unknown"));
        lines.join("\n")
    }
}
