//! What of a pack is to be captured, what cannot be, and what will be slow.

use std::path::PathBuf;

use rusqlite::Connection;

use super::keys::{key_columns, table_of};
use super::log::failed;
use super::shape::{Identity, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::pack::plan::{PackPlan, SourceKind, StreamPlan};
use crate::source::SourceFile;
use crate::source::sqlite::Database;
use crate::store::quote_ident;

/// A file and what is to be captured in it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) file: SourceFile,
    pub(super) tables: Vec<WantedTable>,
}

/// A table and the source columns of its keys, as the pack names them.
#[derive(Debug, Clone)]
pub(super) struct WantedTable {
    pub(super) table: String,
    pub(super) keys: Vec<String>,
}

/// What is to be captured.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) files: Vec<Wanted>,
    /// What somebody should know beforehand.
    pub(super) notes: Vec<String>,
}

/// The files and tables of the pack's streams. Changes nothing.
///
/// Errors: every stream whose changes cannot be captured, named together.
pub(super) fn plan(opened: &OpenedPack) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut refused: Vec<Error> = shared_keys(&opened.plan);
    for stream in &opened.plan.streams {
        let Some(table) = table_of(stream) else { continue };
        let Some(found) = opened.discovered.streams.get(&stream.name) else {
            plan.notes.push(format!(
                "stream {}: no file with its table was found, so nothing of it is captured",
                stream.name
            ));
            continue;
        };
        let keys = match key_columns(stream) {
            Ok(keys) => keys,
            Err(error) => {
                refused.push(error);
                continue;
            }
        };
        for file in &found.files {
            let database = Database::open_live(&file.path)?;
            let shown = file.path.display().to_string();
            match Shape::read(database.connection(), &shown, table) {
                Ok(shape) => {
                    let is_shared = found.files.len() > 1;
                    if is_shared || !is_known_by(&shape.identity, &keys) {
                        let name = &file.relative;
                        plan.notes.extend(slow(database.connection(), name, &shape, &keys)?);
                    }
                    plan.add(file, table, &keys);
                }
                Err(error) if error.kind() == ErrorKind::Pack => refused.push(
                    error.context(format!("stream {}: changes cannot be captured", stream.name)),
                ),
                Err(error) => return Err(error),
            }
        }
    }
    match refused.len() {
        0 => Ok(plan),
        1 => Err(refused.remove(0)),
        _ => Err(together(&refused)),
    }
}

impl Plan {
    fn add(&mut self, file: &SourceFile, table: &str, keys: &[String]) {
        let at = self.files.iter().position(|known| known.file.path == file.path);
        let at = at.unwrap_or_else(|| {
            self.files.push(Wanted { file: file.clone(), tables: Vec::new() });
            self.files.len() - 1
        });
        let tables = &mut self.files[at].tables;
        let known = tables.iter_mut().find(|known| known.table.eq_ignore_ascii_case(table));
        let Some(known) = known else {
            tables.push(WantedTable { table: table.to_owned(), keys: keys.to_vec() });
            return;
        };
        for key in keys {
            if !known.keys.iter().any(|name| name.eq_ignore_ascii_case(key)) {
                known.keys.push(key.clone());
            }
        }
    }
}

/// Several refusals as one.
fn together(refused: &[Error]) -> Error {
    let named: Vec<&str> = refused.iter().map(Error::detail).collect();
    let mut advice: Vec<&str> = refused.iter().filter_map(Error::advice_text).collect();
    advice.dedup();
    Error::new(ErrorKind::Pack, named.join("\n")).advice(advice.join("\n"))
}

/// Streams that share keys with a captured one: a row that is deleted in one table may stand in
/// another, where nobody would look for it.
fn shared_keys(plan: &PackPlan) -> Vec<Error> {
    let mut refused = Vec::new();
    for unit in &plan.units {
        let mut streams: Vec<&StreamPlan> =
            unit.feeds.iter().map(|(stream, _)| &plan.streams[*stream]).collect();
        streams.dedup_by(|a, b| a.name == b.name);
        let is_captured =
            streams.iter().any(|stream| matches!(stream.source, SourceKind::Sqlite { .. }));
        if !is_captured || streams.len() < 2 {
            continue;
        }
        let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        refused.push(
            Error::new(
                ErrorKind::Pack,
                format!(
                    "streams {}: changes cannot be captured: all of them feed {}, and a row that \
                     goes from one source may still stand in another",
                    names.join(", "),
                    unit.name
                ),
            )
            .advice(
                "give each a target of its own, or a constant key column that tells them apart \
                 (key = [\"kind\", \"id\"], and in each stream another kind = { value = \"...\" }): \
                 then no row can stand in both; or bring the tables together in the source",
            ),
        );
    }
    refused
}

/// Whether a key is made of just what a row is known by.
fn is_known_by(identity: &Identity, keys: &[String]) -> bool {
    let has = |name: &String| keys.iter().any(|key| key.eq_ignore_ascii_case(name));
    match identity {
        Identity::Rowid { column, .. } => column.as_ref().is_some_and(has),
        Identity::Key { columns } => columns.iter().all(has),
    }
}

/// A note where looking for a key means reading the table.
fn slow(
    connection: &Connection,
    file: &str,
    shape: &Shape,
    keys: &[String],
) -> Result<Option<String>> {
    let table = quote_ident(&shape.name);
    let columns: Vec<String> = shape
        .columns
        .iter()
        .filter(|column| keys.iter().any(|key| key.eq_ignore_ascii_case(column)))
        .map(|column| quote_ident(column))
        .collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let conditions: Vec<String> = columns.iter().map(|column| format!("{column} IS ?")).collect();
    let query =
        format!("EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {}", conditions.join(" AND "));
    let steps: Vec<String> = connection
        .prepare(&query)
        .and_then(|mut statement| {
            let nothing = vec![rusqlite::types::Null; columns.len()];
            let rows =
                statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get(3))?;
            rows.collect()
        })
        .map_err(|error| failed(file, error))?;
    if !steps.iter().any(|step| step.starts_with("SCAN")) {
        return Ok(None);
    }
    let columns = columns.join(", ");
    Ok(Some(format!(
        "{file}: no index helps to find a row of {table} by ({columns}), so the whole table is read \
         for each changed key; CREATE INDEX on {table} ({columns}) first, if it is large"
    )))
}

/// Every `SQLite` file of the pack that was found, once.
#[must_use]
pub fn captured_files(opened: &OpenedPack) -> Vec<SourceFile> {
    let mut files: Vec<SourceFile> = Vec::new();
    for stream in &opened.plan.streams {
        if table_of(stream).is_none() {
            continue;
        }
        for file in
            opened.discovered.streams.get(&stream.name).iter().flat_map(|found| &found.files)
        {
            if !files.iter().any(|known| known.path == file.path) {
                files.push(file.clone());
            }
        }
    }
    files
}

/// The `SQLite` files of a pack, found without a database and without their tables having to fit.
pub fn files_to_disable(pack: &crate::pack::Pack, roots: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let (found, errors) = crate::source::discover::discover_each(pack, roots)?;
    let mut files: Vec<SourceFile> = Vec::new();
    for stream in &pack.manifest.streams {
        if stream.source.table.is_none() {
            continue;
        }
        for file in found.streams.get(stream.name.get_ref()).iter().flat_map(|found| &found.files) {
            if !files.iter().any(|known| known.path == file.path) {
                files.push(file.clone());
            }
        }
    }
    match errors.into_iter().next() {
        Some((_, error)) if files.is_empty() => Err(error),
        _ => Ok(files),
    }
}
