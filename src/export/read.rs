//! Bringing an archive into a database.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::load::{Source, load};
use super::manifest::TableFacts;
use super::tables::{Held, Sheet};
use super::verify::Archive;
use super::{Listener, order};
use crate::backfill::{
    SequencePosition, move_sequences_to, release_exclusive, require_exclusive, sequences_of_tables,
};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::migrate::{self, MigrationSet, State};
use crate::store::catalog::Table;

/// How an archive is imported.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
}

/// What is done with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is empty, or not there yet: its rows are loaded.
    Load,
    /// It holds the archive's rows already.
    Skip,
}

/// What became of an archive.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The pack.
    pub pack: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Every table holds what the archive says; of a dry run, nothing speaks against it.
    pub is_equal: bool,
    /// Migrations that were applied, or would be.
    pub migrations: Vec<String>,
    /// Rows of all tables.
    pub rows: u64,
    /// The tables, in the order they are loaded.
    pub tables: Vec<ImportedTable>,
    /// Sequences that were moved past the keys, or to where they stood, with their new value.
    pub sequences: BTreeMap<String, i64>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// A table of an archive in the database.
#[derive(Debug, Clone, Serialize)]
pub struct ImportedTable {
    /// `schema.table`
    pub table: String,
    /// What was done, or would be.
    pub action: Action,
    /// Rows in the archive.
    pub rows: u64,
    /// Rows in the database; None in a dry run.
    pub held_rows: Option<u64>,
    /// Whether its digests are those of the archive; None in a dry run.
    pub is_equal: Option<bool>,
}

/// Brings an archive that was found sound into a database: applies its migrations, loads its
/// tables, moves sequences past their keys and to where they stood, and compares every table's digests with the archive's.
///
/// Tables that hold the archive's rows are left alone, so that an import that was interrupted goes
/// on. Fails with [`ErrorKind::Usage`] where a table holds other rows, with
/// [`ErrorKind::RunMismatch`] where the database has another version of the pack.
pub async fn import(
    conn: &mut PgConnection,
    archive: &Archive,
    options: &ImportOptions,
    stop: &Stop,
    on: &Listener<'_>,
) -> Result<Imported> {
    let pack = archive.manifest.pack.name.clone();
    check_version(archive)?;
    check_phase(conn, &pack).await?;
    require_exclusive(conn, &pack).await?;
    let imported = import_alone(conn, archive, options, stop, on).await;
    // The session ends with an error anyway, and the lock with it.
    let released = release_exclusive(conn, &pack).await;
    let imported = imported?;
    released?;
    Ok(imported)
}

async fn import_alone(
    conn: &mut PgConnection,
    archive: &Archive,
    options: &ImportOptions,
    stop: &Stop,
    on: &Listener<'_>,
) -> Result<Imported> {
    let manifest = &archive.manifest;
    let pending = pending(conn, archive.set.as_ref()).await?;
    if !pending.is_empty() {
        // Before anything is changed: a database with data is brought up to date by its owner.
        require_empty(conn, archive).await?;
    }
    let mut report = Imported {
        pack: manifest.pack.name.clone(),
        dry_run: options.dry_run,
        is_equal: true,
        migrations: pending,
        rows: manifest.tables.iter().map(|table| table.rows).sum(),
        tables: Vec::new(),
        sequences: BTreeMap::new(),
        notes: notes(archive),
    };
    if options.dry_run && !report.migrations.is_empty() {
        report.tables = manifest.tables.iter().map(|facts| planned(facts, Action::Load)).collect();
        return Ok(report);
    }
    if let Some(set) = &archive.set {
        let plan = migrate::plan(conn, std::slice::from_ref(set)).await?;
        let options = migrate::Options { stop: stop.clone(), ..migrate::Options::default() };
        migrate::apply(conn, &plan, &options).await?;
    }
    let sheets = sheets(conn, archive).await?;
    let actions = actions(conn, &sheets, &manifest.tables, stop).await?;
    let catalog: Vec<Table> = sheets.iter().map(|sheet| sheet.table.clone()).collect();
    let groups = order::groups(&catalog);
    if options.dry_run {
        let order = groups.into_iter().flatten();
        report.tables = order.map(|at| planned(&manifest.tables[at], actions[at])).collect();
        return Ok(report);
    }
    let source = Source { folder: &archive.folder, manifest, stop, on };
    for group in &groups {
        stop.check()?;
        let to_load: Vec<_> = group
            .iter()
            .filter(|at| actions[**at] == Action::Load)
            .map(|at| (&sheets[*at], &manifest.tables[*at]))
            .collect();
        if !to_load.is_empty() {
            load(conn, source, &to_load).await?;
        }
    }
    let (moved, more) = sequences_of_tables(conn, catalog.iter()).await?;
    report.sequences = moved;
    report.notes.extend(more);
    // What was given out and deleted again, or is no key, is known from nowhere else.
    let wanted = archived_positions(archive);
    let (moved, more) = move_sequences_to(conn, catalog.iter(), &wanted).await?;
    report.sequences.extend(moved);
    report.notes.extend(more);
    for at in groups.into_iter().flatten() {
        let facts = &manifest.tables[at];
        let held = sheets[at].held(conn, stop).await?;
        let is_equal = is_same(&held, facts);
        report.is_equal &= is_equal;
        report.tables.push(ImportedTable {
            held_rows: Some(held.rows),
            is_equal: Some(is_equal),
            ..planned(facts, actions[at])
        });
    }
    Ok(report)
}

fn archived_positions(archive: &Archive) -> BTreeMap<String, SequencePosition> {
    let sequences = archive.manifest.sequences.iter();
    let position = |facts: &super::SequenceFacts| SequencePosition {
        last_value: facts.last_value,
        is_called: facts.is_called,
    };
    sequences.map(|facts| (facts.name.clone(), position(facts))).collect()
}

fn planned(facts: &TableFacts, action: Action) -> ImportedTable {
    let table = facts.display_name();
    ImportedTable { table, action, rows: facts.rows, held_rows: None, is_equal: None }
}

fn is_same(held: &Held, facts: &TableFacts) -> bool {
    held.rows == facts.rows && held.root == facts.root && held.exact_root == facts.exact_root
}

/// A built-in pack's archive must be one that this version of the toolkit can go on with.
fn check_version(archive: &Archive) -> Result<()> {
    let facts = &archive.manifest.pack;
    let other = |what: String| {
        Err(Error::new(ErrorKind::RunMismatch, what)
            .advice("import it with the version of the toolkit that wrote it"))
    };
    let Some(own) = migrate::builtin(&facts.name) else { return Ok(()) };
    let own_pack = crate::pack::Pack::find(&facts.name)?;
    let own_version = own_pack.manifest.pack.version;
    if facts.version > own_version {
        return other(format!(
            "the archive holds version {} of the pack {}; this toolkit has version {own_version}",
            facts.version, facts.name
        ));
    }
    for migration in archive.set.iter().flat_map(|set| &set.migrations) {
        let same = own.migrations.iter().find(|own| own.version() == migration.version());
        if same.is_none_or(|same| same.checksum() != migration.checksum()) {
            return other(format!(
                "the archive's migration {} is none of this toolkit's pack {}",
                migration.file_name, facts.name
            ));
        }
    }
    Ok(())
}

/// What is imported goes past the capture of changes.
async fn check_phase(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let phase = crate::phase::current(conn, pack).await?.phase;
    if phase.number() == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!("the pack {pack} is in phase {} here: its tables follow a source", phase.number()),
    )
    .advice("import into another database"))
}

/// The archive's migrations that are not applied yet. Refuses a database with other ones.
async fn pending(conn: &mut PgConnection, set: Option<&MigrationSet>) -> Result<Vec<String>> {
    let Some(set) = set else { return Ok(Vec::new()) };
    let status = migrate::status(conn, set).await?;
    if let Some(newer) = status.entries.iter().find(|entry| entry.state == State::Missing) {
        return Err(Error::new(
            ErrorKind::RunMismatch,
            format!(
                "this database has migration V{} ({}) of the pack {}, and the archive has not",
                newer.version, newer.name, set.pack
            ),
        )
        .advice(
            "import into an empty database, bring that up to date with `toolkit migrate up`, and \
             export again",
        ));
    }
    status.check()?;
    let waits = status.entries.into_iter().filter(|entry| entry.state == State::Pending);
    Ok(waits.filter_map(|entry| entry.file_name).collect())
}

/// Refuses to migrate a database that has rows in the archive's tables.
async fn require_empty(conn: &mut PgConnection, archive: &Archive) -> Result<()> {
    for facts in &archive.manifest.tables {
        let Some(table) = Table::read(conn, &facts.schema, &facts.name).await? else { continue };
        if Sheet::of(table)?.is_empty(conn).await? {
            continue;
        }
        let name = facts.display_name();
        return Err(Error::new(
            ErrorKind::RunMismatch,
            format!("{name} holds rows, and migrations of the archive are not applied here"),
        )
        .advice(format!(
            "bring this database up to date first (toolkit migrate up --pack {} --help), or import \
             into an empty one",
            archive.manifest.pack.name
        )));
    }
    Ok(())
}

/// The database's tables, as the archive has them.
async fn sheets(conn: &mut PgConnection, archive: &Archive) -> Result<Vec<Sheet>> {
    let mut sheets = Vec::new();
    for facts in &archive.manifest.tables {
        let name = facts.display_name();
        let other = |what: String| {
            Error::new(ErrorKind::RunMismatch, what)
                .advice("the table must be as it was where the archive was made")
        };
        let table = Table::read(conn, &facts.schema, &facts.name).await?;
        let table = table.ok_or_else(|| {
            other(format!("there is no table {name}, and no migration of the archive makes it"))
        })?;
        if let Some(what) = table.kind.refusal() {
            return Err(other(format!("{name} is {what}")));
        }
        let mut sheet = Sheet::of(table)?;
        let here = sheet.column_facts();
        for column in &facts.columns {
            match here.iter().find(|own| own.name == column.name) {
                Some(own) if own == column => {}
                Some(own) => {
                    let (column, archived) = (&own.name, &column.ty);
                    return Err(other(format!(
                        "{name}.{column} is {} here, and {archived} in the archive",
                        own.ty
                    )));
                }
                None => {
                    return Err(other(format!("{name} has no column {} to write", column.name)));
                }
            }
        }
        if let Some(more) = here.iter().find(|own| !facts.columns.contains(own)) {
            return Err(other(format!("{name} has a column {} that the archive lacks", more.name)));
        }
        sheet.arrange(facts);
        sheets.push(sheet);
    }
    Ok(sheets)
}

/// What is to be done with each table; refuses those that hold other rows, all of them at once.
async fn actions(
    conn: &mut PgConnection,
    sheets: &[Sheet],
    facts: &[TableFacts],
    stop: &Stop,
) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    let mut others = Vec::new();
    for (sheet, facts) in sheets.iter().zip(facts) {
        if facts.rows > 0 && sheet.is_empty(conn).await? {
            actions.push(Action::Load);
            continue;
        }
        let held = sheet.held(conn, stop).await?;
        if !is_same(&held, facts) {
            others.push(format!("{} ({} rows)", facts.display_name(), held.rows));
        }
        actions.push(Action::Skip);
    }
    if others.is_empty() {
        return Ok(actions);
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!("these tables hold other rows than the archive: {}", others.join(", ")),
    )
    .advice("import into an empty database, or empty these tables first; no row was written"))
}

fn notes(archive: &Archive) -> Vec<String> {
    let files = archive.manifest.files.iter();
    let sidecars = files.filter(|file| file.name.starts_with("sidecar/"));
    sidecars
        .map(|file| {
            format!(
                "{} is left in the archive: the state it holds was imported with the tables",
                file.name
            )
        })
        .collect()
}
