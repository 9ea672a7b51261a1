//! Installing capture in the files of a pack.

use std::path::PathBuf;

use rusqlite::Connection;
use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::log::{self, FORMAT, failed};
use super::measure::{Cost, measure};
use super::record::{self, CapturedTable, Cursor};
use super::shape::{Identity, Shape};
use super::triggers::{self, Captured};
use super::wanted::{Plan, Wanted, WantedTable, plan};
use super::{LOG_TABLE, STATE_TABLE, TRIGGER_PREFIX, fence};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{OpenedPack, join_error};
use crate::source::SourceFile;
use crate::store::{Postgres, quote_ident};

/// What a caller of [`enable`] decides.
#[derive(Debug, Clone, Default)]
pub struct EnableOptions {
    /// Say what would be done and change nothing.
    pub dry_run: bool,
    /// Measure what capture costs the application, on scratch copies.
    pub measure: bool,
}

/// What became of the files of a pack.
#[derive(Debug, Clone, Serialize)]
pub struct Enabled {
    /// The pack.
    pub pack: String,
    /// Its `SQLite` files.
    pub files: Vec<EnabledFile>,
    /// What is slow, and which streams' changes are not captured here.
    pub notes: Vec<String>,
    /// Whether nothing was changed because nothing was to be.
    pub dry_run: bool,
}

/// One file of an [`Enabled`].
#[derive(Debug, Clone, Serialize)]
pub struct EnabledFile {
    /// Its name in checkpoints.
    pub source: String,
    /// Where it is.
    pub path: PathBuf,
    /// `installed`, `repaired`, `unchanged`.
    pub action: &'static str,
    /// The id it was installed under; None in a dry run of a first installation.
    pub installation: Option<String>,
    /// Its captured tables.
    pub tables: Vec<String>,
    /// What was found otherwise than it should be, and made good.
    pub repaired: Vec<String>,
    /// Changes that may have been missed.
    pub gap: Option<String>,
    /// What capture costs a write, if it was measured.
    pub costs: Vec<Cost>,
}

/// Installs capture in every `SQLite` file of the pack that was found. May be repeated.
///
/// Each file's tables and triggers are made in one transaction. Errors: a stream whose changes
/// cannot be captured, a file captured for another pack, a lock that is not given up.
pub async fn enable(
    postgres: &Postgres,
    opened: &OpenedPack,
    options: &EnableOptions,
) -> Result<Enabled> {
    let pack = opened.plan.name.clone();
    let mut conn = postgres.dedicated().await?;
    let Plan { files, notes } = plan(opened)?;
    let mut enabled =
        Enabled { pack: pack.clone(), files: Vec::new(), notes, dry_run: options.dry_run };
    for wanted in files {
        let cursor = record::cursor(&mut conn, &pack, &wanted.file.relative).await?;
        let (name, asked, known) = (pack.clone(), options.clone(), cursor.clone());
        let file = wanted.file.clone();
        let (mut done, tables, captured) =
            tokio::task::spawn_blocking(move || install(&name, &wanted, known.as_ref(), &asked))
                .await
                .map_err(join_error)??;
        if !enabled.dry_run {
            remember(&mut conn, &pack, &file, &mut done, &tables, cursor.as_ref()).await?;
        }
        if options.measure {
            done.costs = measured(&file, captured).await?;
        }
        enabled.files.push(done);
    }
    conn.close().await?;
    if enabled.files.is_empty() {
        return Err(Error::new(
            ErrorKind::SourceMissing,
            format!("no SQLite file of the pack {pack} was found: there is nothing to capture"),
        )
        .advice("JSON and CSV files need no capture: `toolkit dual-write run` rescans them"));
    }
    Ok(enabled)
}

/// One transaction in one file. Blocking.
fn install(
    pack: &str,
    wanted: &Wanted,
    cursor: Option<&Cursor>,
    options: &EnableOptions,
) -> Result<(EnabledFile, Vec<CapturedTable>, Vec<Captured>)> {
    let shown = wanted.file.path.display().to_string();
    let mut connection = log::open_for_writing(&wanted.file.path, log::PATIENCE)?;
    let tx = fence::immediate(&mut connection, &shown)?;
    let state = log::state_in(&tx, &shown)?;
    if let Some(state) = state.as_ref().filter(|state| state.pack != pack) {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("{shown} is captured for the pack {}, not {pack}", state.pack),
        )
        .advice("`toolkit dual-write disable` for that pack first"));
    }
    let captured = captured(&tx, &shown, wanted)?;
    let had_log = log::has_table(&tx, &shown, LOG_TABLE)?;
    make_tables(&tx, &shown, pack, state.is_none(), &captured)?;
    // What Postgres knows of another installation says nothing of this one's entries.
    let known = state.as_ref().map(|state| state.installation.as_str());
    let cursor = cursor.filter(|cursor| known == Some(cursor.installation.as_str()));
    let repaired = make_triggers(&tx, &shown, &captured, state.is_some() && had_log, cursor)?;
    let tables = captured
        .iter()
        .map(|table| CapturedTable::of(table, &tx, &shown))
        .collect::<Result<Vec<_>>>()?;
    let now = log::state_in(&tx, &shown)?;
    let is_new = state.is_none() || !had_log;
    let action = match () {
        () if is_new => "installed",
        () if repaired.is_empty() => "unchanged",
        () => "repaired",
    };
    let known = state.as_ref().map(|state| &state.installation);
    let installation =
        now.map(|state| state.installation).filter(|_| !options.dry_run || known.is_some());
    let gap = (!repaired.is_empty()).then(|| repaired.join("; "));
    if options.dry_run || (action == "unchanged") {
        tx.rollback().map_err(|e| failed(&shown, e))?;
    } else {
        tx.commit().map_err(|e| failed(&shown, e))?;
    }
    let file = EnabledFile {
        source: wanted.file.relative.clone(),
        path: wanted.file.path.clone(),
        action,
        installation,
        tables: captured.iter().map(|table| table.shape.name.clone()).collect(),
        repaired,
        gap,
        costs: Vec::new(),
    };
    Ok((file, tables, captured))
}

/// Takes seconds: the application has its file back, and whoever follows knows of its capture.
async fn measured(file: &SourceFile, captured: Vec<Captured>) -> Result<Vec<Cost>> {
    let path = file.path.clone();
    let measuring = move || {
        let shown = path.display().to_string();
        let database = crate::source::sqlite::Database::open_live(&path)?;
        captured
            .iter()
            .filter_map(|table| measure(database.connection(), &shown, table).transpose())
            .collect()
    };
    tokio::task::spawn_blocking(measuring).await.map_err(join_error)?
}

/// The tables with their numbers: those they had already, where they had one.
fn captured(connection: &Connection, file: &str, wanted: &Wanted) -> Result<Vec<Captured>> {
    let mut numbers: Vec<(i64, String)> = Vec::new();
    for name in fence::triggers_named(connection, file, TRIGGER_PREFIX)? {
        let number = name[TRIGGER_PREFIX.len()..].split('_').next().and_then(|n| n.parse().ok());
        let table: String = connection
            .query_row("SELECT tbl_name FROM sqlite_schema WHERE name = ?1", [&name], |r| r.get(0))
            .map_err(|e| failed(file, e))?;
        numbers.extend(number.map(|number: i64| (number, table)));
    }
    let mut next = numbers.iter().map(|(number, _)| *number).max().unwrap_or(0) + 1;
    let mut all = Vec::new();
    for WantedTable { table, keys } in &wanted.tables {
        let shape = Shape::read(connection, file, table)?;
        let known = numbers.iter().find(|(_, name)| name.eq_ignore_ascii_case(&shape.name));
        let number = known.map_or(next, |(number, _)| *number);
        next = next.max(number + 1);
        let mut values = shape.identity.names();
        for key in keys {
            let is_rowid = matches!(&shape.identity, Identity::Rowid { column: Some(column), .. }
                if column.eq_ignore_ascii_case(key));
            let found = shape.columns.iter().find(|name| name.eq_ignore_ascii_case(key));
            // An older file may lack a column; the key then has no value from it.
            let Some(found) = found.filter(|_| !is_rowid) else { continue };
            if !values.contains(found) {
                values.push(found.clone());
            }
        }
        all.push(Captured { shape, number, values });
    }
    Ok(all)
}

/// Makes the two tables, or adds to the log the columns it lacks.
fn make_tables(
    connection: &Connection,
    file: &str,
    pack: &str,
    is_new: bool,
    captured: &[Captured],
) -> Result<()> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|e| failed(file, e));
    run(&format!(
        "CREATE TABLE IF NOT EXISTS {STATE_TABLE} (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), \
         format INTEGER NOT NULL, installation TEXT NOT NULL, pack TEXT NOT NULL, \
         mode INTEGER NOT NULL DEFAULT 0)"
    ))?;
    let width = captured.iter().map(|table| table.values.len()).max().unwrap_or(1);
    if is_new || !log::has_table(connection, file, LOG_TABLE)? {
        // Entries of an installation that is half gone say nothing any more.
        run(&format!("DROP TABLE IF EXISTS {LOG_TABLE}; DELETE FROM {STATE_TABLE}"))?;
        // Columns without a type: every value keeps the class it has in its table.
        let columns: Vec<String> = ["o", "n"]
            .iter()
            .flat_map(|letter| (1..=width).map(move |n| format!("{letter}{n}")))
            .collect();
        run(&format!(
            "CREATE TABLE {LOG_TABLE} (seq INTEGER PRIMARY KEY, stream_table INTEGER NOT NULL, \
             op TEXT NOT NULL, at REAL NOT NULL DEFAULT (julianday('now')), {})",
            columns.join(", ")
        ))?;
        connection
            .execute(
                &format!(
                    "INSERT INTO {STATE_TABLE} (only_row, format, installation, pack) \
                     VALUES (1, ?1, ?2, ?3)"
                ),
                (FORMAT, uuid::Uuid::new_v4().to_string(), pack),
            )
            .map_err(|e| failed(file, e))?;
        return Ok(());
    }
    let has: i64 = connection
        .query_row(
            "SELECT count(*) FROM pragma_table_info(?1) WHERE name GLOB 'o[0-9]*'",
            [LOG_TABLE],
            |row| row.get(0),
        )
        .map_err(|e| failed(file, e))?;
    for number in usize::try_from(has).unwrap_or(0) + 1..=width {
        for letter in ["o", "n"] {
            run(&format!("ALTER TABLE {LOG_TABLE} ADD COLUMN {letter}{number}"))?;
        }
    }
    Ok(())
}

/// A trigger as it should be.
struct Wanting<'a> {
    name: String,
    text: String,
    table: &'a str,
    /// Whether entries of the log mean what they meant to the triggers that are there: only what
    /// evicts rows has changed.
    means_the_same: bool,
    /// Whether it was needed when capture was enabled.
    was_needed: bool,
}

/// Makes the triggers what they should be; says what was otherwise, where capture was installed.
fn make_triggers(
    connection: &Connection,
    file: &str,
    captured: &[Captured],
    was_installed: bool,
    cursor: Option<&Cursor>,
) -> Result<Vec<String>> {
    let mut wanted: Vec<Wanting<'_>> = Vec::new();
    for captured in captured {
        let mut tables = cursor.into_iter().flat_map(|cursor| &cursor.tables);
        let known = tables.find(|known| known.number == captured.number);
        let means_the_same = known.is_some_and(|known| {
            known.identity == captured.shape.identity && known.values == captured.values
        });
        let table = captured.shape.name.as_str();
        let texts = triggers::texts(captured).into_iter();
        wanted.extend(texts.map(|(name, text)| {
            let was_needed = known.is_none_or(|known| known.triggers.contains_key(&name));
            Wanting { name, text, table, means_the_same, was_needed }
        }));
    }
    let mut repaired: Vec<String> = Vec::new();
    let mut say = |what: String| {
        if was_installed && !repaired.contains(&what) {
            repaired.push(what);
        }
    };
    for name in fence::triggers_named(connection, file, TRIGGER_PREFIX)? {
        if !wanted.iter().any(|wanted| wanted.name == name) {
            drop_trigger(connection, file, &name)?;
            say(format!("trigger {name} is no longer needed"));
        }
    }
    for Wanting { name, text, table, means_the_same, was_needed } in &wanted {
        let found: Option<String> = rusqlite::OptionalExtension::optional(connection.query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1",
            [name],
            |row| row.get(0),
        ))
        .map_err(|e| failed(file, e))?;
        match found {
            Some(found) if found == *text => continue,
            Some(_) => {
                if !means_the_same {
                    require_applied(connection, file, cursor)?;
                }
                drop_trigger(connection, file, name)?;
                say(format!("triggers of table {table} were others"));
            }
            None if *was_needed => say(format!("triggers of table {table} had vanished")),
            None => say(format!("table {table} had no triggers for a unique index of its own")),
        }
        connection.execute_batch(text).map_err(|e| failed(file, e))?;
    }
    Ok(repaired)
}

/// Entries that other triggers wrote must be applied before theirs are replaced: they mean what
/// those triggers meant.
fn require_applied(connection: &Connection, file: &str, cursor: Option<&Cursor>) -> Result<()> {
    let last = log::last_position(connection, file)?;
    let applied = cursor.map_or(0, |cursor| cursor.position);
    if last <= applied {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::RunMismatch,
        format!(
            "{file} is captured otherwise than this pack needs it, and {} of its changes are not \
             applied",
            last - applied
        ),
    )
    .advice(
        "run `toolkit dual-write run --until-caught-up` with the pack as it was, then enable \
         again; or `dual-write disable --force`, enable, and copy with `toolkit backfill`",
    ))
}

pub(super) fn drop_trigger(connection: &Connection, file: &str, name: &str) -> Result<()> {
    let statement = format!("DROP TRIGGER {}", quote_ident(name));
    connection.execute_batch(&statement).map_err(|e| failed(file, e))
}

/// Records a file's installation in Postgres; another one than before starts at its beginning.
async fn remember(
    conn: &mut PgConnection,
    pack: &str,
    file: &SourceFile,
    done: &mut EnabledFile,
    tables: &[CapturedTable],
    cursor: Option<&Cursor>,
) -> Result<()> {
    if let (Some(cursor), Some(now)) = (cursor, &done.installation)
        && cursor.installation != *now
        && done.gap.is_none()
    {
        done.gap = Some("capture was installed anew".to_owned());
    }
    let tables = serde_json::to_string(tables)
        .map_err(|e| Error::new(ErrorKind::Bug, "a control row is not JSON").because(e))?;
    sqlx::query(include_str!("../sql/capture/remember.sql"))
        .bind(pack)
        .bind(&file.relative)
        .bind(&done.installation)
        .bind(
            std::path::absolute(&file.path)
                .unwrap_or_else(|_| file.path.clone())
                .display()
                .to_string(),
        )
        .bind(tables)
        .bind(&done.gap)
        .execute(conn)
        .await?;
    Ok(())
}
