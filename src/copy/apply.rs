//! Carrying a plan out, by the code that serves any other pack.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::{MIGRATION, PACK, Plan};
use crate::backfill;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::migrate::{self, MigrationSet, State};
use crate::pack::Pack;
use crate::parity::{self, Verdict};
use crate::phase::{self, Work};
use crate::runs::Forecast;
use crate::source::snapshot::Snapshot;
use crate::store::{Postgres, quote_qualified, sql};

/// Differing lines of two plans a message names.
const LINES_NAMED_MAX: usize = 6;

/// What a copy did.
#[derive(Debug, Serialize)]
pub struct Copied {
    /// What it did it by.
    pub plan: Plan,
    /// Folder of the pack.
    pub folder: PathBuf,
    /// What became of every record.
    pub backfill: backfill::Report,
    /// Whether the target holds what the file holds.
    pub parity: parity::Report,
    /// Whether all of it is there and nothing differs.
    pub is_clean: bool,
}

/// Progress of a copy.
#[derive(Debug, Clone)]
pub enum Event {
    /// How much there is to copy.
    Begun(Forecast),
    /// Of the load.
    Copying(backfill::Event),
    /// Of the comparison after it.
    Comparing(parity::Event),
}

/// How a target stands before a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it is there.
    New,
    /// An earlier copy of this very plan: finished, or to be gone on with.
    Known,
    /// Its bookkeeping is there, and its tables are gone.
    Forgotten,
}

/// Refuses a schema that holds tables of these names from elsewhere. Changes nothing.
pub async fn refuse_foreign(conn: &mut PgConnection, plan: &Plan) -> Result<Standing> {
    let names: Vec<String> = plan.tables.iter().map(|table| table.target.clone()).collect();
    let there: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_catalog.pg_class AS c \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind <> 'i' ORDER BY 1",
    )
    .bind(&plan.schema)
    .bind(&names)
    .fetch_all(&mut *conn)
    .await?;
    let is_recorded = is_recorded(conn, &plan.pack).await?;
    match (is_recorded, there.len()) {
        (false, 0) => Ok(Standing::New),
        (true, 0) => Ok(Standing::Forgotten),
        (true, _) => Ok(Standing::Known),
        (false, _) => {
            let shown: Vec<&str> = there.iter().take(10).map(String::as_str).collect();
            let more = there.len() - shown.len();
            let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
            let detail = format!(
                "schema {} has tables of these names that no copy made: {}{tail}",
                plan.schema,
                shown.join(", ")
            );
            Err(Error::new(ErrorKind::Usage, detail)
                .advice("copy into another schema with --schema NAME; nothing was changed"))
        }
    }
}

async fn is_recorded(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    let history = quote_qualified("toolkit", &format!("migrations_{pack}"));
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&history)
        .fetch_one(&mut *conn)
        .await?;
    if !exists {
        return Ok(false);
    }
    let any = format!("SELECT EXISTS (SELECT 1 FROM {history})");
    Ok(sqlx::query_scalar(sql(any)).fetch_one(conn).await?)
}

/// Refuses a plan that differs from the one the schema was made by; `kept` is the migration as it
/// was written then, if it is still at hand.
pub async fn require_same(conn: &mut PgConnection, plan: &Plan, kept: Option<&str>) -> Result<()> {
    let set = set(plan, &plan.migration)?;
    let status = migrate::status(conn, &set).await?;
    if status.entries.iter().all(|entry| matches!(entry.state, State::Applied | State::Pending)) {
        return Ok(());
    }
    let differs = kept.map(|kept| differing(kept, &plan.migration)).unwrap_or_default();
    let detail = format!(
        "schema {} was copied before, and the plan is another one now{differs}",
        plan.schema
    );
    Err(Error::new(ErrorKind::RunMismatch, detail).advice(format!(
        "give the options of that time (--type, --keep-text, --zone ...), copy into another schema \
         with --schema NAME, or start over: DROP SCHEMA {} CASCADE in psql",
        crate::store::quote_ident(&plan.schema)
    )))
}

/// Lines of the new migration that the old one does not have.
fn differing(kept: &str, now: &str) -> String {
    let old: Vec<&str> = kept.lines().map(str::trim).collect();
    let new: Vec<&str> = now.lines().map(str::trim).filter(|line| !old.contains(line)).collect();
    let shown: Vec<String> =
        new.iter().take(LINES_NAMED_MAX).map(|line| format!("\n    now: {line}")).collect();
    shown.concat()
}

fn set(plan: &Plan, migration: &str) -> Result<MigrationSet> {
    MigrationSet::new(&plan.pack, [(MIGRATION.to_owned(), migration.to_owned())])
}

/// The plan as it was written at an earlier copy, if it differs only in where numbers begin that
/// AUTOINCREMENT gives out: those have moved on in the meantime.
fn as_written(kept: &str, now: &str) -> bool {
    let blank = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| match line.split_once(" (START WITH ") {
            Some((before, after)) => {
                before.to_owned() + after.split_once(')').map_or("", |(_, after)| after)
            }
            None => line.to_owned(),
        });
        lines.collect()
    };
    blank(kept) == blank(now)
}

/// The copy of `file` that a copy beside a writing application reads: that of the run to go on with,
/// and true, else a new one.
pub async fn snapshot(
    settings: &Settings,
    postgres: &Postgres,
    (file, pack): (&Path, &str),
    restart: bool,
    stop: &Stop,
) -> Result<(Arc<Snapshot>, bool)> {
    let mut conn = postgres.dedicated().await?;
    let has_runs: bool = sqlx::query_scalar("SELECT to_regclass('toolkit.run') IS NOT NULL")
        .fetch_one(&mut conn)
        .await?;
    conn.close().await?;
    if has_runs
        && !restart
        && let Some(kept) = backfill::kept_snapshot(postgres, &settings.state_dir, pack).await?
    {
        return Ok((kept, true));
    }
    let made = backfill::make_snapshot_of_file(&settings.state_dir, pack, file, stop).await?;
    Ok((made, false))
}

/// Writes the pack into `folder`, creates the tables, copies every row and compares every row.
///
/// Kill it anywhere and call it again: it goes on where it was. A finished copy is read again,
/// changes nothing, and is verified again. Of `options`, the streams are the plan's; where there is a
/// snapshot, the plan must have been made of it.
pub async fn apply(
    settings: &Settings,
    postgres: &Postgres,
    mut plan: Plan,
    folder: &Path,
    options: &backfill::Options,
    stop: &Stop,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Copied> {
    let mut conn = postgres.dedicated().await?;
    let standing = refuse_foreign(&mut conn, &plan).await?;
    let kept = std::fs::read_to_string(folder.join(MIGRATION)).ok();
    if standing == Standing::Forgotten {
        forget(&mut conn, &plan.pack).await?;
    } else if standing == Standing::Known {
        if let Some(kept) = kept.as_deref().filter(|kept| as_written(kept, &plan.migration)) {
            kept.clone_into(&mut plan.migration);
        }
        require_same(&mut conn, &plan, kept.as_deref()).await?;
    }
    write(&plan, folder)?;
    let set = set(&plan, &plan.migration)?;
    let migrations = migrate::plan(&mut conn, std::slice::from_ref(&set)).await?;
    let migrating = migrate::Options { stop: stop.clone(), ..migrate::Options::default() };
    migrate::apply(&mut conn, &migrations, &migrating).await?;
    conn.close().await?;
    phase::require_named(postgres, &plan.pack, Work::Backfill).await?;
    let pack = Pack::find(&folder.to_string_lossy())?;
    let roots =
        options.snapshot.as_ref().map_or_else(|| vec![plan.source.clone()], |copy| copy.roots());
    let options = backfill::Options {
        streams: Vec::new(),
        restart: options.restart || standing == Standing::Forgotten,
        ..options.clone()
    };
    let preparation = backfill::prepare(settings, postgres, pack.clone(), &roots, options).await?;
    let manners = preparation.options().manners.clone();
    on_event(Event::Begun(preparation.forecast.clone()));
    let on_copying = |event| on_event(Event::Copying(event));
    let copied = backfill::run(postgres, &preparation, stop, &on_copying).await?;
    let opened = crate::pack::open_as_recorded(settings, postgres, pack, &roots).await?;
    let options = parity::Options { manners, ..parity::Options::default() };
    let on_comparing = |event| on_event(Event::Comparing(event));
    let parity = phase::verify(postgres, Arc::new(opened), &options, stop, &on_comparing).await?;
    let is_clean = copied.rejects == 0
        && copied.changed_sources.is_empty()
        && parity.verdict == Verdict::Clean;
    Ok(Copied { plan, folder: folder.to_path_buf(), backfill: copied, parity, is_clean })
}

fn write(plan: &Plan, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::from(error).context(folder.display()))?;
    for (name, text) in [(MIGRATION, &plan.migration), (PACK, &plan.manifest)] {
        crate::whole_file::write_whole(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The bookkeeping of tables that somebody dropped: what it says is there is not.
async fn forget(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let history = quote_qualified("toolkit", &format!("migrations_{pack}"));
    sqlx::raw_sql(sql(format!("DROP TABLE {history}"))).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_moved_on_are_no_other_plan() {
        let kept = "a\n  \"id\" bigint IDENTITY (START WITH 7),\nb";
        assert!(as_written(kept, &kept.replace('7', "12")));
        assert!(!as_written(kept, &kept.replace("bigint", "text")));
    }
}
