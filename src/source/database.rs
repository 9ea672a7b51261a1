//! Opening `SQLite` files: read-only, without leaving anything beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::source::change::change_token;
use crate::source::holders::holders;
use crate::source::scratch::{self, Scratch};

/// How long a locked database is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Files up to this size are read through within a writer's patience, well below a second.
pub(super) const CHECKED_WHOLE_BYTES: u64 = 64 << 20;

/// The sixteen bytes every `SQLite` 3 file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A `SQLite` file opened for reading.
#[derive(Debug)]
pub struct Database {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    // The copy that is read where the file could not be read in place; lives as long as this.
    scratch: Option<Arc<Scratch>>,
}

impl Database {
    /// Opens `path` read-only. Where `SQLite` cannot read without writing (a hot journal, a WAL
    /// without its index in a read-only folder), or would leave files behind (a cleanly closed
    /// WAL database), file, WAL and journal are copied to scratch and read there.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, BUSY_TIMEOUT)
    }

    /// As [`Database::open`], but a locked database is waited for as long as `patience` says.
    pub fn open_within(path: &Path, patience: Duration) -> Result<Self> {
        Self::open_with_room(path, patience, scratch::free_bytes())
    }

    /// As [`Database::open_within`] where scratch has `room` bytes: a cleanly closed WAL database
    /// that does not fit is read in place, which leaves an empty `-wal` and an `-shm` beside it.
    /// To remove them is for their application alone: it may have just opened them.
    pub fn open_with_room(path: &Path, patience: Duration, room: u64) -> Result<Self> {
        check_header(path)?;
        check_length(path)?;
        if is_quiet_wal(path)? {
            if file_size(path)? <= room {
                return Self::open_scratch(path, patience);
            }
            tracing::warn!(
                file = %path.display(),
                "scratch has no room for a copy: an empty -wal will be left beside the file"
            );
        }
        Self::open_in_place(path, patience)
    }

    /// Opens a captured file where it is, whatever that leaves beside it: its capture was written
    /// there by leave of its operator. What is read is what its application wrote last.
    pub fn open_live(path: &Path) -> Result<Self> {
        check_header(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| unreadable(path, e))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| unreadable(path, e))?;
        connection.pragma_update(None, "query_only", true).map_err(|e| unreadable(path, e))?;
        probe(&connection).map_err(|e| unreadable(path, e))?;
        Ok(Self { connection, path: path.to_path_buf(), scratch: None })
    }

    /// The connection, for what only capture asks.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn open_in_place(path: &Path, patience: Duration) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| unreadable(path, e))?;
        connection.busy_timeout(patience).map_err(|e| unreadable(path, e))?;
        match probe(&connection) {
            Ok(()) => Ok(Self { connection, path: path.to_path_buf(), scratch: None }),
            Err(error) if needs_scratch(&error) => Self::open_scratch(path, patience),
            Err(error) => Err(unreadable(path, error)),
        }
    }

    fn open_scratch(path: &Path, patience: Duration) -> Result<Self> {
        let token = change_token(path)?;
        let scratch = scratch::shared(path, &token, |copy| {
            for suffix in ["", "-wal", "-journal"] {
                let from = sibling(path, suffix);
                if from.exists() {
                    std::fs::copy(&from, sibling(copy, suffix)).map_err(|e| match e.kind() {
                        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                            scratch::full(&from, &e)
                        }
                        _ => unreadable_io(&from, &e),
                    })?;
                }
            }
            if change_token(path)? == token {
                return Ok(());
            }
            Err(Error::new(
                ErrorKind::SourceChanged,
                format!("{} changed while it was copied to scratch", path.display()),
            )
            .advice("stop the application's writes, or run again"))
        })?;
        let connection = Connection::open(scratch.file()).map_err(|e| unreadable(path, e))?;
        connection.busy_timeout(patience).map_err(|e| unreadable(path, e))?;
        probe(&connection).map_err(|e| unreadable(path, e))?;
        Ok(Self { connection, path: path.to_path_buf(), scratch: Some(scratch) })
    }

    /// The same database as a private copy, made so that its application can go on writing.
    pub(super) fn private_copy(&self) -> Result<Self> {
        let token = change_token(&self.path)?;
        let scratch = scratch::shared(&self.path, &token, |copy| {
            crate::source::backup::copy(self, copy, &|| Ok(()))
        })?;
        let connection = Connection::open(scratch.file()).map_err(|e| unreadable(&self.path, e))?;
        Ok(Self { connection, path: self.path.clone(), scratch: Some(scratch) })
    }

    /// What has to live as long as the database may be opened again without another copy.
    #[must_use]
    pub fn scratch(&self) -> Option<Arc<Scratch>> {
        self.scratch.clone()
    }

    /// Another reader of the same file, or of the same copy of it.
    pub(super) fn reopen(&self) -> Result<Self> {
        let Some(scratch) = &self.scratch else { return Self::open(&self.path) };
        let connection = Connection::open(scratch.file()).map_err(|e| unreadable(&self.path, e))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| unreadable(&self.path, e))?;
        Ok(Self { connection, path: self.path.clone(), scratch: Some(Arc::clone(scratch)) })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of tables and views, for messages.
    pub fn tables(&self) -> Result<Vec<String>> {
        self.strings(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
            [],
        )
    }

    /// The texts of everything the file declares, in a fixed order; what the toolkit itself put
    /// there is left out.
    pub fn declarations(&self) -> Result<Vec<String>> {
        self.strings(
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema \
             WHERE name NOT LIKE 'toolkit\\_%' ESCAPE '\\' \
             AND tbl_name NOT LIKE 'toolkit\\_%' ESCAPE '\\' \
             AND name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' AND name <> 'sqlite_sequence' \
             ORDER BY type, name",
            [],
        )
    }

    /// Columns of a table or view, generated ones included; empty if there is none of that name.
    pub fn columns(&self, table: &str) -> Result<Vec<String>> {
        self.strings(
            "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
            [table],
        )
    }

    /// Reads the whole file's structure, so that damage is found before anything is copied.
    ///
    /// A large file in rollback-journal mode is not read through at once: that would lock its
    /// application out of writing. Damage in it is found where it is read.
    pub fn check(&self) -> Result<()> {
        if self.blocks_writers()? && file_size(&self.path)? > CHECKED_WHOLE_BYTES {
            return Ok(());
        }
        let state = FileState::of(&self.path)?;
        if CHECKED.lock().is_ok_and(|checked| checked.contains(&state)) {
            return Ok(());
        }
        // Findings about values are for casts, which judge them one by one; they must not hide
        // damage behind them.
        let about_values = |finding: &str| {
            finding == "ok"
                || finding.starts_with("CHECK constraint failed in")
                || ["NULL", "TEXT", "NUMERIC", "non-"]
                    .iter()
                    .any(|class| finding.starts_with(class) && finding.contains(" value in "))
        };
        let findings = self.strings("PRAGMA quick_check(1000)", [])?;
        let Some(damage) = findings.into_iter().find(|finding| !about_values(finding)) else {
            if FileState::of(&self.path)? == state
                && let Ok(mut checked) = CHECKED.lock()
            {
                checked.insert(state);
            }
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::SourceUnreadable,
            format!("{} is damaged: {damage}", self.path.display()),
        )
        .advice("recover it first (`sqlite3 FILE .recover`) or use a backup; nothing was changed"))
    }

    /// Whether an open read keeps others from writing. Nobody writes to a copy, nor to a file that
    /// has no write permission, such as a snapshot's.
    pub(super) fn blocks_writers(&self) -> Result<bool> {
        let is_sealed = std::fs::metadata(&self.path).is_ok_and(|m| m.permissions().readonly());
        let is_private = self.scratch.is_some() || is_sealed;
        Ok(!is_private && self.strings("PRAGMA journal_mode", [])? != ["wal"])
    }

    pub(super) fn strings(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare(sql).map_err(|e| unreadable(&self.path, e))?;
        let rows = statement
            .query_map(params, |row| row.get::<_, String>(0))
            .map_err(|e| unreadable(&self.path, e))?;
        rows.collect::<Result<_, _>>().map_err(|e| unreadable(&self.path, e))
    }
}

pub(super) fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(|e| unreadable_io(path, &e))?.len())
}

pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A WAL database that its application has closed: opening it would make a `-wal` anew.
fn is_quiet_wal(path: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut header = [0; 20];
    let mut file = std::fs::File::open(path).map_err(|e| unreadable_io(path, &e))?;
    if file.read_exact(&mut header).is_err() {
        return Ok(false);
    }
    let is_open = ["-wal", "-shm"].iter().any(|suffix| sibling(path, suffix).exists());
    Ok(header[18] == 2 && !is_open)
}

fn probe(connection: &Connection) -> rusqlite::Result<()> {
    let count = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(count, [], |row| row.get::<_, i64>(0)).map(|_| ())
}

/// Files that this process has read through, as they were then: a copy plans, loads and compares the
/// same file, and each would read all of it for damage first.
static CHECKED: Mutex<BTreeSet<FileState>> = Mutex::new(BTreeSet::new());

/// A file, and whatever tells that it was written to since.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileState {
    path: PathBuf,
    inode: (u64, u64),
    modified: Option<std::time::SystemTime>,
    token: String,
}

impl FileState {
    fn of(path: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(path).map_err(|e| unreadable_io(path, &e))?;
        Ok(Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
            inode: (found.dev(), found.ino()),
            modified: found.modified().ok(),
            token: change_token(path)?,
        })
    }
}

fn check_header(path: &Path) -> Result<()> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path).map_err(|e| unreadable_io(path, &e))?;
    let mut magic = [0; 16];
    match file.read_exact(&mut magic) {
        Ok(()) if &magic == MAGIC => Ok(()),
        Ok(()) => Err(Error::new(
            ErrorKind::SourceUnreadable,
            format!("{} is not a SQLite 3 database", path.display()),
        )
        .advice(
            "its first bytes are not `SQLite format 3`: it is another kind of file, or encrypted \
             (decrypt it first); nothing was changed",
        )),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::new(
            ErrorKind::SourceUnreadable,
            format!("{} is too short to be a SQLite database", path.display()),
        )
        .advice("the application never wrote to it, or it was cut off; use a backup")),
        Err(error) => Err(unreadable_io(path, &error)),
    }
}

/// `SQLite`'s own limit, which it reports as a file that cannot be opened.
fn check_length(path: &Path) -> Result<()> {
    const PATH_BYTES_MAX: usize = 512 - "-journal".len();
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    if full.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::SourceUnreadable,
        format!("the path of {} is longer than SQLite can open", path.display()),
    )
    .advice(format!(
        "give it a shorter one, of at most {PATH_BYTES_MAX} bytes, by a move or a link"
    )))
}

fn needs_scratch(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
    )
}

pub(super) fn unreadable_io(path: &Path, error: &std::io::Error) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::NotFound {
        ErrorKind::SourceMissing
    } else {
        ErrorKind::SourceUnreadable
    };
    Error::new(kind, format!("{} cannot be read: {error}", path.display()))
        .advice("check that the file is there and that this user may read it")
}

pub(crate) fn unreadable(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let who = holders(path);
            let who = if who.is_empty() { "another process".to_owned() } else { who.join(", ") };
            let what = "holds a write lock on it; run again when its transaction has ended";
            (ErrorKind::Busy, format!("{who} {what}"))
        }
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::SourceUnreadable,
            "the file is damaged: recover it first (`sqlite3 FILE .recover`) or use a backup"
                .to_owned(),
        ),
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Io,
            "there is no room for its copy: --state-dir names another folder for snapshots, \
             TMPDIR another one for scratch"
                .to_owned(),
        ),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::SourceUnreadable,
            "it is another kind of file, or encrypted: decrypt it first".to_owned(),
        ),
        _ => (ErrorKind::SourceUnreadable, "check the file and its permissions".to_owned()),
    };
    Error::new(kind, format!("SQLite file {}: {error}", path.display()))
        .advice(advice)
        .because(error)
}
