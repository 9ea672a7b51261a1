//! A `SQLite` file that rows are written back to: the one way the toolkit writes into a source
//! after the cutover.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value as SqliteValue, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::cast::{Stored, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::source::sqlite::value_of;
use crate::source::unreadable;
use crate::store::quote_ident;

/// How long a writer of the file is waited for before the step is given up and tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Capture's state while rows are written back: neither captured nor fenced off.
const MODE_REPLAY: i64 = 2;

/// An open file.
///
/// Its connection fires no triggers at all: what they did in the application was done in Postgres
/// by whoever wrote there, and arrives as rows. For the same reason it follows no foreign keys:
/// cascades arrive as the deletions they were.
#[derive(Debug)]
pub(super) struct File {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Capture's mode before this transaction.
    mode: Option<i64>,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| unreadable(path, error))?;
        let file = Self { connection, path: path.to_owned(), mode: None };
        let set = || -> rusqlite::Result<()> {
            file.connection.busy_timeout(PATIENCE)?;
            file.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            file.connection.pragma_update(None, "foreign_keys", false)
        };
        set().map_err(|error| unreadable(path, error))?;
        Ok(file)
    }

    pub(super) fn fault(&self, error: rusqlite::Error) -> Error {
        unreadable(&self.path, error)
    }

    pub(super) fn run(&self, statements: &str) -> Result<()> {
        self.connection.execute_batch(statements).map_err(|error| self.fault(error))
    }

    /// Begins to write, and mutes capture and fence for this transaction only.
    pub(super) fn begin(&mut self) -> Result<()> {
        if !self.connection.is_autocommit() {
            return Ok(());
        }
        self.run("BEGIN IMMEDIATE")?;
        let state = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' \
                     AND name = 'toolkit_capture_state'";
        let has_state: i64 = self
            .connection
            .query_row(state, [], |row| row.get(0))
            .map_err(|error| self.fault(error))?;
        self.mode = None;
        if has_state > 0 {
            let mode = "SELECT mode FROM toolkit_capture_state WHERE only_row = 1";
            let found = self.connection.query_row(mode, [], |row| row.get(0));
            self.mode = match found {
                Ok(mode) => Some(mode),
                Err(rusqlite::Error::QueryReturnedNoRows) => None,
                Err(error) => return Err(self.fault(error)),
            };
            self.set_mode(MODE_REPLAY)?;
        }
        Ok(())
    }

    fn set_mode(&self, mode: i64) -> Result<()> {
        if self.mode.is_none() {
            return Ok(());
        }
        self.connection
            .execute("UPDATE toolkit_capture_state SET mode = ?1 WHERE only_row = 1", [mode])
            .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Ends the transaction; the mode is again what it was.
    pub(super) fn commit(&mut self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        if let Some(mode) = self.mode {
            self.set_mode(mode)?;
        }
        self.run("COMMIT")
    }

    pub(super) fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // What cannot be rolled back is rolled back by closing the file.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    pub(super) fn strings(&self, sql: &str, table: &str) -> Result<Vec<String>> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([table], |row| row.get(0))?;
            rows.collect()
        };
        read().map_err(|error| self.fault(error))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.rollback();
    }
}

/// What a table of a file is like.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) table: String,
    /// All columns, as casts read them.
    pub(super) names: std::sync::Arc<[String]>,
    /// Whether each can be written.
    pub(super) is_stored: Vec<bool>,
    /// Declared types, upper case.
    pub(super) types: Vec<String>,
    /// A free alias of the rowid; None: WITHOUT ROWID.
    pub(super) rowid: Option<&'static str>,
    /// Primary key columns, in order.
    pub(super) key: Vec<String>,
    /// The column that is the rowid.
    pub(super) integer_key: Option<String>,
    /// Column lists of unique indexes and of the primary key.
    pub(super) uniques: Vec<Vec<String>>,
    pub(super) schema_version: i64,
}

impl Shape {
    pub(super) fn read(file: &File, table: &str) -> Result<Self> {
        let names = file.strings(
            "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
            table,
        )?;
        let kinds = file.strings(
            "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
            table,
        )?;
        if names.is_empty() || kinds.first().is_none_or(|kind| kind != "table") {
            let what = format!("{}: `{table}` is no table", file.path.display());
            return Err(Error::new(ErrorKind::SourceUnreadable, what).advice(
                "rows cannot be written back to it: declare the stream reverse = \"none\"",
            ));
        }
        let generated =
            file.strings("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden IN (2, 3)", table)?;
        let types = file.strings(
            "SELECT upper(type) FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
            table,
        )?;
        let key =
            file.strings("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk", table)?;
        let without = file.strings(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND wr = 1 \
             AND name = ?1 COLLATE NOCASE",
            table,
        )?;
        let rowid = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|alias| !names.iter().any(|name| name.eq_ignore_ascii_case(alias)))
            .filter(|_| without.is_empty());
        let integer_key = match key.as_slice() {
            [one] if without.is_empty() => {
                let at = names.iter().position(|name| name == one);
                at.filter(|at| types[*at] == "INTEGER").map(|at| names[at].clone())
            }
            _ => None,
        };
        let mut uniques = Vec::new();
        for index in file.strings(
            "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0",
            table,
        )? {
            let columns = file.strings(
                "SELECT coalesce(name, '') FROM pragma_index_info(?1) ORDER BY seqno",
                &index,
            )?;
            if columns.iter().all(|name| !name.is_empty()) {
                uniques.push(columns);
            }
        }
        uniques.extend(integer_key.iter().map(|name| vec![name.clone()]));
        let schema_version = schema_version(file)?;
        let is_stored = names.iter().map(|name| !generated.contains(name)).collect();
        let table = table.to_owned();
        Ok(Self {
            table,
            names: names.into(),
            is_stored,
            types,
            rowid,
            key,
            integer_key,
            uniques,
            schema_version,
        })
    }

    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known.eq_ignore_ascii_case(name))
    }

    /// The columns by which one row is found again.
    fn place_columns(&self) -> Vec<String> {
        match self.rowid {
            Some(alias) => vec![alias.to_owned()],
            None => self.key.clone(),
        }
    }

    /// `SELECT` of place and columns, without its condition.
    pub(super) fn select(&self) -> String {
        let place = self.place_columns();
        let columns: Vec<String> =
            place.iter().chain(self.names.iter()).map(|name| quote_ident(name)).collect();
        format!("SELECT {} FROM main.{}", columns.join(", "), quote_ident(&self.table))
    }

    /// The condition that finds one row by its place.
    pub(super) fn at_place(&self, first: usize) -> String {
        let columns = self.place_columns();
        let parts: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, name)| format!("{} = ?{}", quote_ident(name), first + at))
            .collect();
        parts.join(" AND ")
    }

    /// Rows of a query made with [`Shape::select`].
    pub(super) fn rows(
        &self,
        file: &File,
        condition: &str,
        parameters: &[Stored],
    ) -> Result<Vec<SourceRow>> {
        let read = || -> rusqlite::Result<Vec<SourceRow>> {
            let sql = format!("{} WHERE {condition}", self.select());
            let mut statement = file.connection.prepare_cached(&sql)?;
            let mut rows = statement.query(bound(parameters))?;
            let place = self.place_columns().len();
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let mut values = Vec::with_capacity(place + self.names.len());
                for at in 0..place + self.names.len() {
                    values.push(Stored::of(value_of(row.get_ref(at)?)).unwrap_or(Stored::Null));
                }
                let columns = values.split_off(place);
                found.push(SourceRow { place: values, values: columns });
            }
            Ok(found)
        };
        read().map_err(|error| file.fault(error))
    }
}

pub(super) fn schema_version(file: &File) -> Result<i64> {
    file.connection
        .query_row("PRAGMA schema_version", [], |row| row.get(0))
        .map_err(|error| file.fault(error))
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceRow {
    /// The rowid, or the primary key.
    pub(super) place: Vec<Stored>,
    /// In the order of the shape's names.
    pub(super) values: Vec<Stored>,
}

impl SourceRow {
    pub(super) fn values(&self) -> Vec<Value<'_>> {
        self.values.iter().map(Stored::value).collect()
    }
}

/// Values as parameters of a statement, text as the bytes it is.
pub(super) fn bound(
    values: &[Stored],
) -> rusqlite::ParamsFromIter<impl Iterator<Item = ToSqlOutput<'_>>> {
    rusqlite::params_from_iter(values.iter().map(|value| match value {
        Stored::Null => ToSqlOutput::Owned(SqliteValue::Null),
        Stored::Integer(number) => ToSqlOutput::Owned(SqliteValue::Integer(*number)),
        Stored::Real(number) => ToSqlOutput::Owned(SqliteValue::Real(*number)),
        Stored::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text)),
        Stored::Blob(blob) => ToSqlOutput::Borrowed(ValueRef::Blob(blob)),
    }))
}

/// Whether the file refused a row, rather than failed.
pub(super) fn is_about_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    )
}

/// Whether another row has one of its unique values.
pub(super) fn is_taken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(
        code,
        Some(
            rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID
        )
    )
}
