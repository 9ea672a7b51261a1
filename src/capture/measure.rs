//! What capture costs the application: its own rows, written to scratch copies of its table with
//! and without triggers.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::Value;
use serde::Serialize;

use super::log::failed;
use super::triggers::{self, Captured};
use super::{LOG_TABLE, STATE_TABLE};
use crate::error::{Error, ErrorKind, Result};
use crate::store::quote_ident;

/// Rows written one by one.
const ROWS: usize = 400;

/// Rows inserted in a round at least, the same ones again and again where there are fewer.
const WRITES_MIN: usize = 800;

/// Rounds, of which the fastest counts: what else the machine does makes writes slower only.
const ROUNDS: usize = 5;

/// What capture costs single-row writes of a table.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// The table.
    pub table: String,
    /// Rows that were written.
    pub rows: usize,
    /// Microseconds a single-row transaction takes without capture, and with it (WAL,
    /// synchronous NORMAL).
    pub plain_us: f64,
    /// The same with capture.
    pub captured_us: f64,
    /// The second by the first.
    pub ratio: f64,
}

/// Measures one table with its first rows; None where it has none.
pub(super) fn measure(source: &Connection, file: &str, table: &Captured) -> Result<Option<Cost>> {
    let rows = sample(source, file, table).map_err(|e| failed(file, e))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let texts: Vec<String> = source
        .prepare(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL \
             AND type IN ('table', 'index') ORDER BY type DESC",
        )
        .and_then(|mut statement| {
            statement.query_map([&table.shape.name], |row| row.get(0))?.collect()
        })
        .map_err(|e| failed(file, e))?;
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (at, best) in best.iter_mut().enumerate() {
            let took = write(&texts, table, &rows, at == 1).map_err(|error| {
                Error::new(ErrorKind::Io, "the scratch copy could not be written").because(error)
            })?;
            *best = took.min(*best);
        }
    }
    let writes = cycles(rows.len()) * rows.len() * 3;
    let micros = |took: Duration| took.as_secs_f64() * 1e6 / writes as f64;
    let (plain_us, captured_us) = (micros(best[0]), micros(best[1]));
    Ok(Some(Cost {
        table: table.shape.name.clone(),
        rows: rows.len(),
        plain_us,
        captured_us,
        ratio: captured_us / plain_us,
    }))
}

/// The columns that can be written, and the first rows.
fn sample(source: &Connection, _file: &str, table: &Captured) -> rusqlite::Result<Vec<Vec<Value>>> {
    let columns = written_columns(source, table)?;
    let names: Vec<String> = columns.iter().map(|name| quote_ident(name)).collect();
    let sql =
        format!("SELECT {} FROM {} LIMIT {ROWS}", names.join(", "), quote_ident(&table.shape.name));
    let mut statement = source.prepare(&sql)?;
    let rows = statement.query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect())?;
    rows.collect()
}

fn written_columns(connection: &Connection, table: &Captured) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?
        .query_map([&table.shape.name], |row| row.get(0))?
        .collect()
}

/// Inserts, updates and deletes every row in a transaction of its own.
fn write(
    texts: &[String],
    table: &Captured,
    rows: &[Vec<Value>],
    is_captured: bool,
) -> rusqlite::Result<Duration> {
    let folder = tempfile::tempdir().map_err(|_| rusqlite::Error::InvalidQuery)?;
    let connection = Connection::open(folder.path().join("scratch.sqlite"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = OFF",
    )?;
    for text in texts {
        connection.execute_batch(text)?;
    }
    if is_captured {
        let columns: Vec<String> =
            (1..=table.values.len()).flat_map(|n| [format!("o{n}"), format!("n{n}")]).collect();
        connection.execute_batch(&format!(
            "CREATE TABLE {STATE_TABLE} (only_row INTEGER PRIMARY KEY, mode INTEGER); \
             INSERT INTO {STATE_TABLE} VALUES (1, 0); \
             CREATE TABLE {LOG_TABLE} (seq INTEGER PRIMARY KEY, stream_table INTEGER, op TEXT, \
             at REAL DEFAULT (julianday('now')), {})",
            columns.join(", ")
        ))?;
        for (_, text) in triggers::texts(table) {
            connection.execute_batch(&text)?;
        }
    }
    let columns = written_columns(&connection, table)?;
    let names: Vec<String> = columns.iter().map(|name| quote_ident(name)).collect();
    let name = quote_ident(&table.shape.name);
    let marks = vec!["?"; columns.len()].join(", ");
    let mut insert = connection
        .prepare(&format!("INSERT INTO {name} ({}) VALUES ({marks})", names.join(", ")))?;
    let row_name = table.shape.identity.sql(&table.values[0]);
    let last = names.last().cloned().unwrap_or_default();
    let by_place = matches!(table.shape.identity, super::Identity::Rowid { .. });
    let found = if by_place { format!("{row_name} = ?1") } else { format!("{row_name} IS ?1") };
    let mut update =
        connection.prepare(&format!("UPDATE {name} SET {last} = {last} WHERE {found}"))?;
    let mut delete = connection.prepare(&format!("DELETE FROM {name} WHERE {found}"))?;
    let started = Instant::now();
    for _ in 0..cycles(rows.len()) {
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            insert.execute(rusqlite::params_from_iter(row))?;
            places.push(if by_place {
                Value::Integer(connection.last_insert_rowid())
            } else {
                let at = columns.iter().position(|name| *name == table.values[0]).unwrap_or(0);
                row[at].clone()
            });
        }
        for place in &places {
            update.execute([place])?;
        }
        for place in &places {
            delete.execute([place])?;
        }
    }
    Ok(started.elapsed())
}

fn cycles(rows: usize) -> usize {
    WRITES_MIN.div_ceil(rows.max(1))
}
