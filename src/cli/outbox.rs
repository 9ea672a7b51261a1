//! `toolkit outbox`: bring Postgres's changes to Qdrant, and see how that stands.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::record::on_connection;
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::Result;
use crate::qdrant::embed::{Embedder, embedder};
use crate::qdrant::outbox::{self, Options, Plan, Progress, Rebuilt, Status, Tally};
use crate::qdrant::{Target, open};
use crate::store::Postgres;

/// Arguments of `toolkit outbox`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Every change of an anime, a character or an episode leaves a row in qdrant_outbox, in the same
transaction. Workers write the newest state of those entities to the collection and mark the rows
when Qdrant has it durably. Nothing is lost while Qdrant is away, however long; a row that fails
while others succeed is tried 8 times, over some minutes, and then parked.

Without --qdrant-url or QDRANT_URL the collection is in an embedded Qdrant under the state folder,
which one process can open at a time.

Exit codes: 0 all is written; 1 rows are parked or wait for their next try; 2 could not run.

Examples:
  toolkit outbox drain                      write all that waits, then stop
  toolkit outbox run --workers 4            follow Postgres until Ctrl-C
  toolkit outbox retry                      try parked rows again
  toolkit outbox rebuild --dry-run          what a rebuild would do")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What waits, what failed and why
    Status {
        /// Failed rows shown, at most
        #[arg(long, default_value_t = 20, value_name = "ROWS")]
        limit: u32,
    },
    /// Follow Postgres until Ctrl-C
    Run(Workers),
    /// Write all that is due, then stop
    Drain {
        #[command(flatten)]
        workers: Workers,
        /// Say what waits; nothing is written
        #[arg(long)]
        dry_run: bool,
    },
    /// Make parked rows due again, and those that wait for their next try
    Retry {
        /// Only these rows
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
        /// Count them; nothing is changed
        #[arg(long)]
        dry_run: bool,
    },
    /// Queue every entity again, as after the outbox was lost
    Requeue {
        /// Count them; nothing is changed
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove settled rows, all but the newest of each entity; workers do it by themselves after a day
    Prune {
        /// Only those settled at least so long ago
        #[arg(long, default_value_t = 1, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
        older_than: u32,
        /// Count them; nothing is changed
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the whole collection anew from Postgres, and switch to it
    Rebuild {
        /// Replace a collection that bears the name itself by an alias of that name
        #[arg(long)]
        adopt: bool,
        /// Show what would be done; nothing is changed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Workers {
    /// Workers at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Points per write [default: qdrant.batch of toolkit.toml, or 256]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: Option<u32>,
}

/// Runs `toolkit outbox`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    match args.action {
        Action::Status { limit } => {
            on_connection(settings, output, async |connection| {
                let status = outbox::status(connection, limit).await?;
                output.report(&status)?;
                Ok(outcome(&status))
            })
            .await
        }
        Action::Retry { ids, dry_run } => {
            let ids = (!ids.is_empty()).then_some(ids);
            in_one(settings, output, dry_run, "due again", async |tx| {
                outbox::retry(tx, ids.as_deref()).await
            })
            .await
        }
        Action::Requeue { dry_run } => {
            in_one(settings, output, dry_run, "queued", async |tx| outbox::requeue_all(tx).await)
                .await
        }
        Action::Prune { older_than, dry_run } => {
            let age = Duration::from_secs(u64::from(older_than) * 24 * 3600);
            prune(age, dry_run, settings, output).await
        }
        Action::Run(workers) => work(&workers, false, settings, output).await,
        Action::Drain { dry_run: true, .. } => {
            on_connection(settings, output, async |connection| {
                let status = outbox::status(connection, 0).await?;
                output.report(&status)?;
                output.note("a dry run: nothing was written");
                Ok(outcome(&status))
            })
            .await
        }
        Action::Drain { workers, .. } => work(&workers, true, settings, output).await,
        Action::Rebuild { adopt, dry_run } => rebuild(adopt, dry_run, settings, output).await,
    }
}

/// Rows of the outbox that a command changed, or would change.
#[derive(Debug, Serialize)]
struct Moved {
    rows: u64,
    dry_run: bool,
    #[serde(skip)]
    what: &'static str,
}

impl Report for Moved {
    fn text(&self) -> String {
        let Self { rows, dry_run, what } = self;
        let rows = output::count(*rows, "row");
        if *dry_run {
            return format!("{rows} would be {what}; a dry run: no changes were made");
        }
        format!("{rows} {what}")
    }
}

/// A change in one transaction, which a dry run takes back.
async fn in_one(
    settings: &Settings,
    output: &Output,
    dry_run: bool,
    what: &'static str,
    change: impl AsyncFnOnce(&mut PgConnection) -> Result<u64>,
) -> Result<Outcome> {
    on_connection(settings, output, async |connection| {
        let mut tx = connection.begin().await?;
        let rows = change(&mut tx).await?;
        if dry_run {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        output.report(&Moved { rows, dry_run, what })?;
        Ok(Outcome::Success)
    })
    .await
}

/// Removes settled rows, many transactions long; a dry run takes one back.
async fn prune(
    age: Duration,
    dry_run: bool,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    let what = "removed";
    if dry_run {
        let counted = async |tx: &mut PgConnection| outbox::prune(tx, age, output.stop()).await;
        return in_one(settings, output, dry_run, what, counted).await;
    }
    on_connection(settings, output, async |connection| {
        let rows = outbox::prune(connection, age, output.stop()).await?;
        output.report(&Moved { rows, dry_run, what })?;
        Ok(Outcome::Success)
    })
    .await
}

/// Both stores, and what makes vectors.
struct Stores {
    postgres: Postgres,
    target: Target,
    embedder: Arc<dyn Embedder>,
}

async fn stores(settings: &Settings, output: &Output) -> Result<Stores> {
    let embedder = embedder(settings)?;
    let target = Target::new(open(settings).await?, settings)?;
    let postgres = output.stop().unless(Postgres::connect(settings)).await?;
    Ok(Stores { postgres, target, embedder })
}

async fn work(
    workers: &Workers,
    is_drain: bool,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    let Stores { postgres, target, embedder } = stores(settings, output).await?;
    let batch = workers.batch.unwrap_or(settings.qdrant.batch);
    let options = Options { batch, workers: workers.workers };
    let stop = output.stop();
    let tally = if is_drain {
        outbox::drain(&postgres, &target, &embedder, options, stop).await?
    } else {
        output.note(format!("following into {}; Ctrl-C ends it", target.store().describe()));
        outbox::run(&postgres, &target, &embedder, options, stop).await?
    };
    let mut connection = postgres.dedicated().await?;
    let status = outbox::status(&mut connection, 0).await?;
    drop(connection);
    postgres.close().await?;
    output.report(&tally)?;
    if status.parked_rows > 0 || status.waiting_rows > 0 {
        output.note(format!(
            "{} rows are parked, {} wait for their next try: `toolkit outbox status` says why",
            status.parked_rows, status.waiting_rows
        ));
    }
    Ok(outcome(&status))
}

fn outcome(status: &Status) -> Outcome {
    if status.parked_rows > 0 || status.waiting_rows > 0 {
        Outcome::Differences
    } else {
        Outcome::Success
    }
}

async fn rebuild(
    adopt: bool,
    dry_run: bool,
    settings: &Settings,
    output: &Output,
) -> Result<Outcome> {
    let Stores { postgres, target, embedder } = stores(settings, output).await?;
    if dry_run {
        let plan = outbox::plan(&postgres, &target).await?;
        postgres.close().await?;
        output.report(&plan)?;
        return Ok(Outcome::Success);
    }
    let show = |progress: Progress| match progress {
        Progress::Written(entities) => tracing::debug!(entities, "written"),
        Progress::Verifying => tracing::info!("comparing the new collection with Postgres"),
    };
    let done = outbox::rebuild(&postgres, &target, &embedder, adopt, output.stop(), &show).await?;
    postgres.close().await?;
    output.report(&done)?;
    Ok(Outcome::Success)
}

impl Report for Status {
    fn text(&self) -> String {
        let oldest = self.oldest_seconds.map_or("-".to_owned(), |age| format!("{age:.1} s"));
        let facts = output::facts([
            ("pending rows", self.pending_rows.to_string()),
            ("of entities", self.pending_entities.to_string()),
            ("oldest", oldest),
            ("waiting for a next try", self.waiting_rows.to_string()),
            ("parked", self.parked_rows.to_string()),
        ]);
        if self.troubled.is_empty() {
            return facts;
        }
        let mut rows = output::table(["id", "entity", "version", "tries", "parked", "why"]);
        for row in &self.troubled {
            rows.add_row([
                row.id.to_string(),
                format!("{} {}", row.entity_type, row.entity_id),
                row.version.to_string(),
                row.attempts.to_string(),
                if row.parked { "yes" } else { "" }.to_owned(),
                row.last_error.clone(),
            ]);
        }
        format!("{facts}\n\n{rows}")
    }
}

impl Report for Tally {
    fn text(&self) -> String {
        output::facts([
            ("rows settled", self.rows.to_string()),
            ("points written", self.points.to_string()),
            ("payloads only", self.payloads.to_string()),
            ("points removed", self.removed.to_string()),
            ("right already", self.unchanged.to_string()),
            ("failed", self.failed.to_string()),
        ])
    }
}

impl Report for Plan {
    fn text(&self) -> String {
        let current = self.current.clone().unwrap_or_else(|| "none yet".to_owned());
        let how = match (&self.current, self.adopts) {
            (None, _) => "a new collection behind a new alias",
            (_, true) => {
                "needs --adopt: this collection is removed when its successor is verified, and an \
                 alias takes its name; for that moment there is nothing to search"
            }
            _ => "the alias moves in one step; searches go on all the while",
        };
        let mut facts = vec![
            ("collection", self.name.clone()),
            ("behind it now", current),
            ("entities", self.entities.to_string()),
            ("points now", self.points.to_string()),
            (
                "vectors only it has",
                format!("{}, copied where their text is the same", self.carried),
            ),
            ("switch", how.to_owned()),
        ];
        if !self.leftovers.is_empty() {
            facts.push(("left by killed rebuilds", self.leftovers.join(", ")));
        }
        output::facts(facts)
    }
}

impl Report for Rebuilt {
    fn text(&self) -> String {
        let gap = self
            .gap_ms
            .map_or("none".to_owned(), |gap| format!("{gap:.1} ms without a collection"));
        output::facts([
            ("collection", format!("{} -> {}", self.plan.name, self.collection)),
            ("entities written", self.written.to_string()),
            ("verified", "the same as Postgres".to_owned()),
            ("gap", gap),
        ])
    }
}
