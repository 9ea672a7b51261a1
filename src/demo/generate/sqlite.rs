//! The application's `SQLite` files: its own CREATE statements, filled in one transaction.

use super::quirk::{Outcome, Quirk};
use crate::{Error, ErrorKind, Result};
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection};
use std::path::Path;

pub(super) const WORKFLOW_STATE: &str = "sqlite/ragonometrics_workflow_state.sqlite";
pub(super) const QUERY_CACHE: &str = "sqlite/ragonometrics_query_cache.sqlite";
pub(super) const TOKEN_USAGE: &str = "sqlite/ragonometrics_token_usage.sqlite";
pub(super) const OPENALEX: &str = "sqlite/ragonometrics_openalex.sqlite";
pub(super) const CITEC: &str = "sqlite/ragonometrics_citec.sqlite";

/// A file, created empty, with its transaction open.
pub(super) struct Writer {
    connection: Connection,
    file: &'static str,
    wal: bool,
}

impl Writer {
    /// Creates `file` below `folder` and runs `schema`.
    pub(super) fn create(
        folder: &Path,
        file: &'static str,
        wal: bool,
        schema: &str,
    ) -> Result<Self> {
        let open = || {
            let connection = Connection::open(folder.join(file))?;
            // A generator that dies leaves a folder to be thrown away: no journal, no fsync.
            connection.pragma_update(None, "journal_mode", "OFF")?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            // Rows are written in the order they are thought of, not parents first.
            connection.pragma_update(None, "foreign_keys", "OFF")?;
            connection.execute_batch("BEGIN")?;
            connection.execute_batch(schema)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| failed(file, error))?;
        Ok(Self { connection, file, wal })
    }

    /// A prepared statement.
    pub(super) fn prepare(&self, sql: &str) -> Result<Insert<'_>> {
        let statement =
            self.connection.prepare_cached(sql).map_err(|error| failed(self.file, error))?;
        Ok(Insert { statement, file: self.file })
    }

    /// Runs `last` (indexes are built faster over finished tables), commits and sets the
    /// journal mode that the application would have left.
    pub(super) fn finish(self, last: &str) -> Result<()> {
        let mode = if self.wal { "WAL" } else { "DELETE" };
        let end = || {
            self.connection.execute_batch(last)?;
            self.connection.execute_batch("COMMIT")?;
            self.connection.pragma_update(None, "journal_mode", mode)
        };
        end().map_err(|error| failed(self.file, error))?;
        self.connection.close().map_err(|(_, error)| failed(self.file, error))
    }
}

/// An INSERT that is run once a row.
pub(super) struct Insert<'c> {
    statement: CachedStatement<'c>,
    file: &'static str,
}

impl Insert<'_> {
    pub(super) fn row<const N: usize>(&mut self, values: &[Value; N]) -> Result<()> {
        let inserted = self.statement.execute(rusqlite::params_from_iter(values));
        inserted.map(drop).map_err(|error| failed(self.file, error))
    }
}

fn failed(file: &str, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write the generated file {file}")).because(error)
}

/// A peculiarity of one row of a table: which column it is in and how the row is changed.
pub(super) struct Plant<const N: usize> {
    pub(super) name: &'static str,
    pub(super) column: &'static str,
    pub(super) outcome: Outcome,
    pub(super) change: fn(&mut [Value; N]),
}

/// Where in a table of `rows` rows the plants are, evenly spread from the first row on; those
/// that do not fit are left out.
pub(super) fn plant_at<const N: usize>(
    plants: &'static [Plant<N>],
    ordinal: usize,
    rows: usize,
) -> Option<&'static Plant<N>> {
    let stride = (rows / plants.len().max(1)).max(1);
    if ordinal.is_multiple_of(stride) { plants.get(ordinal / stride) } else { None }
}

/// The record of a plant at the row `ordinal` (from 0), whose key is `key`.
pub(super) fn planted<const N: usize>(
    plant: &Plant<N>,
    file: &'static str,
    table: &'static str,
    ordinal: usize,
    key: &Value,
) -> Quirk {
    let key = match key {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        _ => String::new(),
    };
    Quirk {
        name: plant.name,
        file: file.to_owned(),
        table: Some(table),
        rowid: i64::try_from(ordinal + 1).ok(),
        key,
        field: Some(plant.column.to_owned()),
        outcome: plant.outcome,
    }
}

pub(super) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}
