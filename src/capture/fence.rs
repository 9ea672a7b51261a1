//! The fence: from its raising on, every write to a captured table of the file fails, whoever
//! makes it, and the log's last position is final.
//!
//! A lock would not do: an application that knows nothing of it goes on writing as soon as the
//! lock is gone. The triggers and the flag that switches them are written in one transaction, so
//! that a crash leaves the file fenced or not, never in between. All three may be repeated.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::log::{self, LogPosition, failed};
use super::{FENCE_PREFIX, LOG_TABLE, STATE_TABLE, TRIGGER_PREFIX};
use crate::error::{Error, ErrorKind, Result};
use crate::store::quote_ident;

/// How an application recognises that its write was refused by the fence.
pub const FENCE_MESSAGE_PREFIX: &str = "toolkit fence:";

/// The whole message.
const FENCE_MESSAGE: &str = "toolkit fence: this database has moved to PostgreSQL";

/// A raised fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The last entry of the log: nothing follows it while the fence stands.
    pub position: LogPosition,
    /// When it was raised, or found standing, by this machine's clock; for people only.
    pub at: SystemTime,
}

/// How a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceState {
    /// Capture is not installed.
    NotCaptured,
    /// Writes pass and are captured.
    Open,
    /// Writes fail.
    Raised,
}

/// Raises the fence: writes to the file's captured tables fail from now on. Waits for the
/// transaction that is writing, 10 s at most.
///
/// Errors: capture is not installed, or the file is locked for longer.
pub fn raise(path: &Path) -> Result<Fenced> {
    raise_within(path, log::PATIENCE)
}

/// As [`raise`], with the patience of the caller.
pub fn raise_within(path: &Path, patience: Duration) -> Result<Fenced> {
    let file = path.display().to_string();
    let mut connection = log::open_for_writing(path, patience)?;
    let tx = immediate(&mut connection, &file)?;
    require_captured(&tx, &file)?;
    for (number, table) in captured_tables(&tx, &file)? {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            let statement = format!(
                "CREATE TRIGGER IF NOT EXISTS {FENCE_PREFIX}{number}_{} BEFORE {event} ON {} \
                 WHEN (SELECT mode FROM {STATE_TABLE} WHERE only_row = 1) = 1 \
                 BEGIN SELECT RAISE(ABORT, '{FENCE_MESSAGE}'); END",
                event.to_lowercase(),
                quote_ident(&table)
            );
            tx.execute_batch(&statement).map_err(|e| failed(&file, e))?;
        }
    }
    set_mode(&tx, &file, 1)?;
    let position = log::last_position(&tx, &file)?;
    tx.commit().map_err(|e| failed(&file, e))?;
    Ok(Fenced { position, at: SystemTime::now() })
}

/// Lifts the fence: writes pass again. A file without one stays as it is.
pub fn lift(path: &Path) -> Result<()> {
    let file = path.display().to_string();
    let mut connection = log::open_for_writing(path, log::PATIENCE)?;
    let tx = immediate(&mut connection, &file)?;
    drop_fence(&tx, &file)?;
    if log::has_table(&tx, &file, STATE_TABLE)? {
        set_mode(&tx, &file, 0)?;
    }
    tx.commit().map_err(|e| failed(&file, e))
}

/// How a file stands.
pub fn state(path: &Path) -> Result<FenceState> {
    Ok(match log::state(path)? {
        None => FenceState::NotCaptured,
        Some(state) if state.mode == 1 => FenceState::Raised,
        Some(_) => FenceState::Open,
    })
}

/// The position of a file's log, read inside `connection`'s own transaction, for whoever has one.
pub fn position_in(connection: &Connection, file: &str) -> Result<LogPosition> {
    log::last_position(connection, file)
}

pub(super) fn drop_fence(connection: &Connection, file: &str) -> Result<()> {
    for name in triggers_named(connection, file, FENCE_PREFIX)? {
        let statement = format!("DROP TRIGGER {}", quote_ident(&name));
        connection.execute_batch(&statement).map_err(|e| failed(file, e))?;
    }
    Ok(())
}

pub(super) fn immediate<'c>(connection: &'c mut Connection, file: &str) -> Result<Transaction<'c>> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failed(file, error))
}

pub(super) fn triggers_named(
    connection: &Connection,
    file: &str,
    prefix: &str,
) -> Result<Vec<String>> {
    let mut statement = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' \
             AND substr(name, 1, length(?1)) = ?1 ORDER BY name",
        )
        .map_err(|e| failed(file, e))?;
    let rows = statement.query_map([prefix], |row| row.get(0)).map_err(|e| failed(file, e))?;
    rows.collect::<Result<_, _>>().map_err(|e| failed(file, e))
}

/// Number and name of every table that has capture triggers.
fn captured_tables(connection: &Connection, file: &str) -> Result<Vec<(i64, String)>> {
    let mut statement = connection
        .prepare(
            "SELECT DISTINCT CAST(substr(name, length(?1) + 1) AS INTEGER), tbl_name \
             FROM sqlite_schema WHERE type = 'trigger' AND substr(name, 1, length(?1)) = ?1 \
             ORDER BY 1",
        )
        .map_err(|e| failed(file, e))?;
    let rows = statement
        .query_map([TRIGGER_PREFIX], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|e| failed(file, e))?;
    rows.collect::<Result<_, _>>().map_err(|e| failed(file, e))
}

fn set_mode(connection: &Connection, file: &str, mode: i64) -> Result<()> {
    connection
        .execute(&format!("UPDATE {STATE_TABLE} SET mode = ?1 WHERE mode <> ?1"), [mode])
        .map_err(|error| failed(file, error))?;
    Ok(())
}

fn require_captured(connection: &Connection, file: &str) -> Result<()> {
    if log::has_table(connection, file, STATE_TABLE)?
        && log::has_table(connection, file, LOG_TABLE)?
    {
        return Ok(());
    }
    Err(Error::new(ErrorKind::SourceChanged, format!("{file}: capture is not installed"))
        .advice("`toolkit dual-write enable` installs it"))
}
