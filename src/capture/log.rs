//! The capture log of one `SQLite` file: its tables, its state, its positions.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{LOG_TABLE, STATE_TABLE};
use crate::error::{Error, ErrorKind, Result};
use crate::source::holders::holders;

/// Format of the two tables.
pub(super) const FORMAT: i64 = 1;

/// How long a writing application is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A place in a file's log: the number of its last entry.
pub type LogPosition = i64;

/// What the file says about its capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureState {
    /// Random, made when capture was enabled.
    pub installation: String,
    /// The pack it was enabled for.
    pub pack: String,
    /// 0 capture, 1 fenced, 2 replay.
    pub mode: i64,
}

/// Opens a file for writing; it must be there.
pub(super) fn open_for_writing(path: &Path, patience: Duration) -> Result<Connection> {
    let shown = path.display().to_string();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| failed(&shown, e))?;
    connection.busy_timeout(patience).map_err(|e| failed(&shown, e))?;
    Ok(connection)
}

/// What the file says about its capture; None: it is not captured.
pub(super) fn state_in(connection: &Connection, file: &str) -> Result<Option<CaptureState>> {
    if !has_table(connection, file, STATE_TABLE)? {
        return Ok(None);
    }
    let sql = format!("SELECT installation, pack, mode FROM {STATE_TABLE} WHERE only_row = 1");
    connection
        .query_row(&sql, [], |row| {
            Ok(CaptureState { installation: row.get(0)?, pack: row.get(1)?, mode: row.get(2)? })
        })
        .optional()
        .map_err(|error| failed(file, error))
}

/// The number of the newest entry; 0 before the first.
pub(super) fn last_position(connection: &Connection, file: &str) -> Result<LogPosition> {
    let sql = format!("SELECT coalesce(max(seq), 0) FROM {LOG_TABLE}");
    connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed(file, error))
}

/// The newest captured change of a file; None: it is not captured. Takes no lock that outlives it.
pub fn position(path: &Path) -> Result<Option<LogPosition>> {
    let shown = path.display().to_string();
    let database = crate::source::sqlite::Database::open_live(path)?;
    let connection = database.connection();
    if !has_table(connection, &shown, LOG_TABLE)? {
        return Ok(None);
    }
    last_position(connection, &shown).map(Some)
}

/// The oldest captured change that the log of a file still holds; None: it is not captured, or has
/// no entry.
pub(super) fn oldest(path: &Path) -> Result<Option<LogPosition>> {
    let shown = path.display().to_string();
    let database = crate::source::sqlite::Database::open_live(path)?;
    let connection = database.connection();
    if !has_table(connection, &shown, LOG_TABLE)? {
        return Ok(None);
    }
    let sql = format!("SELECT min(seq) FROM {LOG_TABLE}");
    connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed(&shown, error))
}

/// What a file says about its capture; None: it is not captured.
pub fn state(path: &Path) -> Result<Option<CaptureState>> {
    let database = crate::source::sqlite::Database::open_live(path)?;
    state_in(database.connection(), &path.display().to_string())
}

/// As [`state`], for a look that must leave no trace: a file nobody has open is read without locks,
/// as it is on disk.
pub fn glance(path: &Path) -> Result<Option<CaptureState>> {
    let shown = path.display().to_string();
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let is_open = std::fs::metadata(wal).is_ok_and(|wal| wal.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if is_open {
        Connection::open_with_flags(path, flags)
    } else {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte);
        let name: String =
            path.as_os_str()
                .as_encoded_bytes()
                .iter()
                .map(|byte| {
                    if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") }
                })
                .collect();
        let uri = format!("file:{name}?immutable=1");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
    };
    let connection = connection.map_err(|error| failed(&shown, error))?;
    state_in(&connection, &shown)
}

pub(super) fn has_table(connection: &Connection, file: &str, name: &str) -> Result<bool> {
    connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
            [name],
            |row| row.get(0),
        )
        .map_err(|error| failed(file, error))
}

/// A failure of `SQLite` with who is in the way, where that is known.
pub(super) fn failed(file: &str, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let detail = format!("SQLite file {file}: {error}");
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let who = holders(Path::new(file));
            let who = if who.is_empty() { "another process".to_owned() } else { who.join(", ") };
            let what = "holds a lock on it: let its transaction end, then run this command again";
            (ErrorKind::Busy, format!("{who} {what}; nothing was changed"))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => (
            ErrorKind::SourceUnreadable,
            "capture is installed in the file itself: run this as a user who may write the file \
             and its folder"
                .to_owned(),
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Io, "free some room on its disk; nothing was changed".to_owned())
        }
        _ => (ErrorKind::SourceUnreadable, "check the file and its permissions".to_owned()),
    };
    Error::new(kind, detail).advice(advice).because(error)
}

/// Age in seconds of the oldest entry after `position`, by this machine's clock.
pub(super) fn oldest_after(path: &Path, position: LogPosition) -> Result<Option<f64>> {
    let file = path.display().to_string();
    let database = crate::source::sqlite::Database::open_live(path)?;
    let connection = database.connection();
    if !has_table(connection, &file, LOG_TABLE)? {
        return Ok(None);
    }
    connection
        .query_row(
            &format!(
                "SELECT (julianday('now') - at) * 86400.0 FROM {LOG_TABLE} WHERE seq > ?1 \
                 ORDER BY seq LIMIT 1"
            ),
            [position],
            |row| row.get::<_, f64>(0),
        )
        .optional()
        .map(|age| age.map(|age| age.max(0.0)))
        .map_err(|error| failed(&file, error))
}
