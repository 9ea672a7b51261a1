//! `toolkit demo`: the whole job on generated data, told step by step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::{Outcome, Output, Report};
use crate::backfill::{self, Options as BackfillOptions};
use crate::config::{Database, Embedding, Format, Qdrant, Settings};
use crate::demo::{Generated, Shape, generate};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, Pack};
use crate::parity::{self, Options as ParityOptions, Verdict};
use crate::store::Postgres;

/// Arguments of `toolkit demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Generates the state of a small paper-analysis application (five SQLite files, JSON reports and
manifests) with the dirt such files really have, and takes it through the whole job on a private
PostgreSQL server: migrate, backfill, verify; then three rows are tampered with, found, repaired,
and verified again. Then an artifact of the pack anime goes in, and the artifact, its sidecar and
its Qdrant collection are proved the same as Postgres. Everything happens in a scratch folder that is removed at the end. Exit 0 means
that every step came out as it tells.")]
pub struct Args {
    /// Seed of the generated data; the same seed gives the same bytes
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Keep the scratch folder and name it
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let scratch = tempfile::Builder::new().prefix("toolkit-demo-").tempdir()?;
    open_to_server_user(scratch.path())?;
    let folder = scratch.path().to_path_buf();
    let mut own = settings.clone();
    own.database = Database::Embedded;
    own.state_dir = folder.join("state");
    own.format = Format::Table;
    own.qdrant = Qdrant::default();
    own.embedding = Embedding::default();
    let story = Story { settings: own, folder: folder.clone(), output };
    let outcome = story.tell(args.seed).await;
    if args.keep {
        let kept = scratch.keep();
        output.note(format!("kept: {}", kept.display()));
    }
    outcome
}

/// The private server's unprivileged user has to pass through the scratch folder.
fn open_to_server_user(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

pub(super) struct Story<'a> {
    pub(super) settings: Settings,
    pub(super) folder: PathBuf,
    pub(super) output: &'a Output,
}

impl Story<'_> {
    async fn tell(&self, seed: u64) -> Result<Outcome> {
        let generated = self.generate(seed)?;
        let postgres = Postgres::connect(&self.settings).await?;
        let told = Box::pin(self.chapters(&postgres, &generated, seed)).await;
        let closed = postgres.close().await;
        told?;
        closed?;
        self.say(
            "That is the whole job. On your own data it is the same three commands:\n\
             \n  toolkit migrate up --pack PACK\n  toolkit backfill --pack PACK --source FOLDER\n  \
             toolkit verify-parity --pack PACK --source FOLDER",
        )?;
        Ok(Outcome::Success)
    }

    async fn chapters(&self, postgres: &Postgres, generated: &Generated, seed: u64) -> Result<()> {
        self.migrate(postgres).await?;
        let source = &generated.folder;
        self.backfill(postgres, source).await?;
        self.chapter("3. Prove it", &format!(
            "toolkit verify-parity --pack unified --source {}", source.display()),
            "The sources are read again, brought into Postgres's types, and compared row by row in\n\
             one canonical form. What was rejected, skipped or redacted is accounted for by its record.",
        )?;
        self.expect(postgres, source, 0).await?;
        self.tamper(postgres).await?;
        let report = self.expect(postgres, source, 3).await?;
        self.repair(postgres, source, &report.run_id).await?;
        self.expect(postgres, source, 0).await?;
        self.anime(postgres, seed).await
    }

    fn generate(&self, seed: u64) -> Result<Generated> {
        let folder = self.folder.join("app");
        self.chapter(
            "An application's state",
            &format!("(generated with seed {seed} in {})", folder.display()),
            "Five SQLite files and a folder of JSON reports, with the dirt such files really have.",
        )?;
        let generated = generate(&folder, seed, &Shape::demo())?;
        self.say(format!(
            "{} rows in SQLite, {} JSON files, {} peculiarities planted, for instance:",
            generated.counts.sqlite_rows(),
            generated.counts.files(),
            generated.quirks.len()
        ))?;
        for quirk in generated.quirks.iter().step_by((generated.quirks.len() / 6).max(1)) {
            self.say(format!("  - {} in {} ({:?})", quirk.name, quirk.file, quirk.outcome))?;
        }
        Ok(generated)
    }

    async fn migrate(&self, postgres: &Postgres) -> Result<()> {
        self.chapter(
            "1. Bring the schema up",
            "toolkit migrate up --pack unified",
            "A private PostgreSQL server was started for this; with --database-url it would be yours.",
        )?;
        let mut conn = postgres.dedicated().await?;
        let options =
            crate::migrate::Options { stop: self.output.stop().clone(), ..Default::default() };
        let applied = crate::migrate::up(&mut conn, &["unified"], &options).await?;
        self.say(applied.text())
    }

    async fn backfill(&self, postgres: &Postgres, source: &Path) -> Result<()> {
        self.chapter(
            "2. Move the history",
            &format!("toolkit backfill --pack unified --source {}", source.display()),
            "Chunks of rows, their rejects, ledger entries and checkpoint commit together: kill it\n\
             anywhere and run it again. Records Postgres cannot hold are kept whole as rejects, and\n\
             never stop their neighbours.",
        )?;
        let roots = [source.to_path_buf()];
        let pack = Pack::find("unified")?;
        let preparation =
            backfill::prepare(&self.settings, postgres, pack, &roots, BackfillOptions::default())
                .await?;
        let report = backfill::run(postgres, &preparation, self.output.stop(), &|_| ()).await?;
        self.say(report.text())?;
        let mut conn = postgres.dedicated().await?;
        self.say("\nWhat was refused, and why:")?;
        self.query(&mut conn, include_str!("../sql/demo/rejects.sql")).await?;
        self.say("\nWhat was stored changed, and by which rule:")?;
        self.query(&mut conn, include_str!("../sql/demo/ledger.sql")).await
    }

    async fn tamper(&self, postgres: &Postgres) -> Result<()> {
        self.chapter(
            "4. Would it notice?",
            "(three rows are changed behind its back)",
            "One character of an answer, one timestamp by an hour, and one row deleted.",
        )?;
        let mut conn = postgres.dedicated().await?;
        for statement in include_str!("../sql/demo/tamper.sql").split_terminator(";\n") {
            let changed = sqlx::raw_sql(statement).execute(&mut conn).await?.rows_affected();
            if changed != 1 {
                return Err(Error::new(
                    ErrorKind::Bug,
                    format!("tampering changed {changed} rows instead of one: {statement}"),
                ));
            }
        }
        Ok(())
    }

    async fn repair(&self, postgres: &Postgres, source: &Path, run: &str) -> Result<()> {
        self.chapter(
            "5. Repair",
            &format!(
                "toolkit repair plan --run {run} --out repair.json && toolkit repair apply \
                 repair.json --source {}",
                source.display()
            ),
            "The plan is a file to be read first. Each row is checked again before it is touched.",
        )?;
        let mut conn = postgres.dedicated().await?;
        let (plan, _) =
            crate::repair::plan(&mut conn, run, None, &crate::repair::Sides::default()).await?;
        crate::repair::write_plan(&plan, &self.folder.join("repair.json"))?;
        self.say(plan.text())?;
        let opened = Arc::new(self.open(postgres, source).await?);
        let applied = crate::repair::apply(postgres, opened, &plan, self.output.stop()).await?;
        self.say(applied.text())?;
        self.say("\nand verify once more:")
    }

    async fn open(&self, postgres: &Postgres, source: &Path) -> Result<OpenedPack> {
        let pack = Pack::find("unified")?;
        crate::pack::open_as_recorded(&self.settings, postgres, pack, &[source.to_path_buf()]).await
    }

    /// Verifies and holds the story to the number of differing rows.
    async fn expect(
        &self,
        postgres: &Postgres,
        source: &Path,
        differing: u64,
    ) -> Result<parity::Report> {
        let opened = Arc::new(self.open(postgres, source).await?);
        let options = ParityOptions::default();
        let stop: &Stop = self.output.stop();
        let report = parity::verify(postgres, opened, &options, stop).await?;
        if differing == 0 {
            self.say(report.text())?;
        } else {
            self.say(report.findings())?;
        }
        let as_told = report.differing_rows == differing
            && (report.verdict == Verdict::Clean) == (differing == 0);
        if as_told {
            return Ok(report);
        }
        Err(Error::new(
            ErrorKind::Bug,
            format!("expected {differing} differing rows, found {}", report.differing_rows),
        )
        .advice("please report it with the seed"))
    }

    async fn query(&self, conn: &mut PgConnection, statement: &'static str) -> Result<()> {
        let lines: Vec<String> = sqlx::query_scalar(statement).fetch_all(conn).await?;
        for line in lines {
            self.say(format!("  {line}"))?;
        }
        Ok(())
    }

    pub(super) fn chapter(&self, title: &str, command: &str, text: &str) -> Result<()> {
        let rule = "-".repeat(78);
        self.say(format!("\n{rule}\n{title}\n    {command}\n{rule}\n{text}\n"))
    }

    pub(super) fn say(&self, text: impl std::fmt::Display) -> Result<()> {
        self.output.line(text)
    }
}
