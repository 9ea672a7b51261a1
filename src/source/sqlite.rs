//! `SQLite` files: opened read-only, read in key order, never blocked for longer than a chunk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};

use crate::cast::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
pub use crate::source::change::change_token;
use crate::source::discover::SourceFile;
use crate::source::{Content, Flow, KeyPart, Locator, Position, SourceRecord, Visitor};
use crate::store::quote_ident;

/// How long a locked database is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Columns of a result at most (`SQLITE_MAX_COLUMN`).
const RESULT_COLUMNS_MAX: usize = 2_000;

/// Files up to this size are read through within a writer's patience, well below a second.
const CHECKED_WHOLE_BYTES: u64 = 64 << 20;

/// The sixteen bytes every `SQLite` 3 file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A `SQLite` file opened for reading.
#[derive(Debug)]
pub struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
    // The copy that is read where the file could not be read in place; lives as long as this.
    scratch: Option<tempfile::TempDir>,
}

impl Database {
    /// Opens `path` read-only. Where `SQLite` cannot read without writing (a hot journal, a WAL
    /// without its index in a read-only folder), file, WAL and journal are copied to scratch.
    pub fn open(path: &Path) -> Result<Self> {
        check_header(path)?;
        if wal_mode_without_wal(path)? && !has_sibling(path, "-shm") {
            return Self::open_quiet_wal(path);
        }
        Self::open_in_place(path)
    }

    fn open_in_place(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| unreadable(path, e))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| unreadable(path, e))?;
        let probe = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        match probe {
            Ok(_) => Ok(Self { connection, path: path.to_path_buf(), scratch: None }),
            Err(error) if needs_scratch(&error) => Self::open_scratch(path),
            Err(error) => Err(unreadable(path, error)),
        }
    }

    /// A cleanly closed WAL database: opening it in place would leave an empty `-wal` beside it,
    /// so it is read through `SQLite`'s URI without touching the folder only if nobody has it
    /// open; a small file is simply copied.
    fn open_quiet_wal(path: &Path) -> Result<Self> {
        const COPY_LIMIT_BYTES: u64 = 256 << 20;
        let size = file_size(path)?;
        if size <= COPY_LIMIT_BYTES { Self::open_scratch(path) } else { Self::open_in_place(path) }
    }

    fn open_scratch(path: &Path) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("toolkit-source-").tempdir()?;
        let name = path.file_name().unwrap_or_default();
        let copy = scratch.path().join(name);
        let before = change_token(path)?;
        for suffix in ["", "-wal", "-journal"] {
            let from = sibling(path, suffix);
            if from.exists() {
                std::fs::copy(&from, sibling(&copy, suffix))
                    .map_err(|e| unreadable_io(&from, &e))?;
            }
        }
        if change_token(path)? != before {
            return Err(Error::new(
                ErrorKind::SourceChanged,
                format!("{} changed while it was copied to scratch", path.display()),
            )
            .advice("stop the application's writes, or run again"));
        }
        let connection = Connection::open(&copy).map_err(|e| unreadable(path, e))?;
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map_err(|e| unreadable(path, e))?;
        Ok(Self { connection, path: path.to_path_buf(), scratch: Some(scratch) })
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
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::SourceUnreadable,
            format!("{} is damaged: {damage}", self.path.display()),
        )
        .advice("recover it first (`sqlite3 FILE .recover`) or use a backup; nothing was changed"))
    }

    /// Whether an open read keeps others from writing.
    fn blocks_writers(&self) -> Result<bool> {
        let is_copy = self.scratch.is_some();
        Ok(!is_copy && self.strings("PRAGMA journal_mode", [])? != ["wal"])
    }

    fn strings(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare(sql).map_err(|e| unreadable(&self.path, e))?;
        let rows = statement
            .query_map(params, |row| row.get::<_, String>(0))
            .map_err(|e| unreadable(&self.path, e))?;
        rows.collect::<Result<_, _>>().map_err(|e| unreadable(&self.path, e))
    }

    fn order_of(&self, table: &str) -> Result<RowOrder> {
        let (kind, without_rowid): (String, bool) = self
            .connection
            .query_row(
                "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 \
                 COLLATE NOCASE",
                [table],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(|e| unreadable(&self.path, e))?;
        if kind == "view" {
            return Ok(RowOrder::Unordered);
        }
        if without_rowid {
            let key = self.strings(
                "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk",
                [table],
            )?;
            return Ok(RowOrder::Key(key));
        }
        let columns = self.columns(table)?;
        let free = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|alias| !columns.iter().any(|column| column.eq_ignore_ascii_case(alias)))
            // A result has no room for the rowid beside all of them.
            .filter(|_| columns.len() < RESULT_COLUMNS_MAX);
        Ok(free.map_or(RowOrder::Unordered, RowOrder::Rowid))
    }
}

/// How the rows of a table are ordered and resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RowOrder {
    /// By this alias of the rowid.
    Rowid(&'static str),
    /// By the primary key of a WITHOUT ROWID table.
    Key(Vec<String>),
    /// No key at all (views): read from the start, counted.
    Unordered,
}

/// The rows of one table or view.
#[derive(Debug)]
pub struct TableSource {
    database: Database,
    file: SourceFile,
    table: String,
    names: Vec<String>,
    order: RowOrder,
    companion: Option<Companion>,
}

/// Finds the JSON document beside a record.
#[derive(Debug)]
struct Companion {
    pattern: String,
    files: BTreeMap<String, PathBuf>,
}

impl TableSource {
    /// Opens `table` of `file`; `companion` is a file name pattern and the files it may name.
    pub fn open(
        file: &SourceFile,
        table: &str,
        companion: Option<(String, BTreeMap<String, PathBuf>)>,
    ) -> Result<Self> {
        let database = Database::open(&file.path)?;
        let names = database.columns(table)?;
        if names.is_empty() {
            return Err(Error::new(
                ErrorKind::SourceMissing,
                format!("{} has no table or view `{table}`", file.path.display()),
            ));
        }
        let order = database.order_of(table)?;
        Ok(Self {
            database,
            file: file.clone(),
            table: table.to_owned(),
            names,
            order,
            companion: companion.map(|(pattern, files)| Companion { pattern, files }),
        })
    }

    /// The file's path below the source folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.relative
    }

    /// Column names, in the order of the values.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.names
    }

    /// The open file.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The column that is the rowid (INTEGER PRIMARY KEY), so that no value occurs twice.
    pub fn integer_key(&self) -> Result<Option<String>> {
        if !matches!(self.order, RowOrder::Rowid(_)) {
            return Ok(None);
        }
        let keys = self.database.strings(
            "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 AND upper(type) = 'INTEGER' \
             AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 1) \
             AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
            [&self.table],
        )?;
        Ok(keys.into_iter().next())
    }

    /// Rows by count, or about as many as the greatest rowid says.
    pub fn estimated_records(&self) -> u64 {
        let table = quote_ident(&self.table);
        // Counting reads a whole B-tree; where that would lock out writers, the greatest rowid
        // must do.
        let is_costly = self.database.blocks_writers().unwrap_or(true)
            && file_size(&self.database.path).is_ok_and(|size| size > CHECKED_WHOLE_BYTES);
        let sql = match &self.order {
            RowOrder::Rowid(alias) if is_costly => format!("SELECT max({alias}) FROM {table}"),
            _ => format!("SELECT count(*) FROM {table}"),
        };
        let count = self.database.connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        count.ok().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
    }

    /// Visits the rows after `from` until the visitor pauses.
    pub fn read(
        &mut self,
        from: Option<&Position>,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let (sql, parameters) = self.statement(from)?;
        let parameters = parameters.iter().map(BoundPart::of).collect::<Result<Vec<_>>>()?;
        let path = self.database.path.clone();
        let mut statement =
            self.database.connection.prepare_cached(&sql).map_err(|e| unreadable(&path, e))?;
        let mut rows = statement
            .query(rusqlite::params_from_iter(parameters.iter()))
            .map_err(|e| unreadable(&path, e))?;
        let skip = usize::from(matches!(self.order, RowOrder::Rowid(_)));
        let mut ordinal = 0_u64;
        let already = match from {
            Some(Position::Ordinal(seen)) => *seen,
            _ => 0,
        };
        while let Some(row) = rows.next().map_err(|e| unreadable(&path, e))? {
            ordinal += 1;
            if ordinal <= already {
                continue;
            }
            let mut values = Vec::with_capacity(self.names.len());
            for at in 0..self.names.len() {
                let value = row.get_ref(at + skip).map_err(|e| unreadable(&path, e))?;
                values.push(value_of(value));
            }
            let (locator, position) = self.place(row, ordinal)?;
            let companion = self.companion_of(&values)?;
            let record = SourceRecord {
                file: &self.file,
                locator,
                position,
                content: Content::Columns {
                    names: &self.names,
                    values: &values,
                    companion: companion.as_ref(),
                },
            };
            if visit(&record)? == Flow::Pause {
                return Ok(Some(record.position));
            }
        }
        Ok(None)
    }

    fn statement(&self, from: Option<&Position>) -> Result<(String, Vec<KeyPart>)> {
        let columns: Vec<String> = self.names.iter().map(|name| quote_ident(name)).collect();
        let columns = columns.join(", ");
        let table = quote_ident(&self.table);
        match (&self.order, from) {
            (RowOrder::Rowid(alias), None) => {
                Ok((format!("SELECT {alias}, {columns} FROM {table} ORDER BY {alias}"), vec![]))
            }
            (RowOrder::Rowid(alias), Some(Position::Rowid(after))) => Ok((
                format!(
                    "SELECT {alias}, {columns} FROM {table} WHERE {alias} > ?1 ORDER BY {alias}"
                ),
                vec![KeyPart::Integer(*after)],
            )),
            (RowOrder::Key(key), None) => {
                let key = binary_order(key);
                Ok((format!("SELECT {columns} FROM {table} ORDER BY {key}"), vec![]))
            }
            (RowOrder::Key(key), Some(Position::Key(after))) if key.len() == after.len() => {
                let marks: Vec<String> = (1..=after.len()).map(|n| format!("?{n}")).collect();
                let key = binary_order(key);
                Ok((
                    format!(
                        "SELECT {columns} FROM {table} WHERE ({key}) > ({}) ORDER BY {key}",
                        marks.join(", ")
                    ),
                    after.clone(),
                ))
            }
            (RowOrder::Unordered, None | Some(Position::Ordinal(_))) => {
                Ok((format!("SELECT {columns} FROM {table}"), vec![]))
            }
            _ => Err(Error::new(
                ErrorKind::SourceChanged,
                format!(
                    "{}: table {} is not keyed as when this run started",
                    self.file.relative, self.table
                ),
            )
            .advice("start over with --restart")),
        }
    }

    fn place(&self, row: &rusqlite::Row<'_>, ordinal: u64) -> Result<(Locator, Position)> {
        match &self.order {
            RowOrder::Rowid(_) => {
                let id = row.get(0).map_err(|e| unreadable(&self.database.path, e))?;
                Ok((Locator::Rowid(id), Position::Rowid(id)))
            }
            RowOrder::Unordered => Ok((Locator::Ordinal(ordinal), Position::Ordinal(ordinal))),
            RowOrder::Key(key) => {
                let mut parts = Vec::with_capacity(key.len());
                let mut shown = Vec::with_capacity(key.len());
                for name in key {
                    let value = row
                        .get_ref(name.as_str())
                        .map_err(|e| unreadable(&self.database.path, e))?;
                    parts.push(key_part(value));
                    shown.push(show_key_part(value));
                }
                Ok((Locator::Key(format!("({})", shown.join(", "))), Position::Key(parts)))
            }
        }
    }

    fn companion_of(&self, values: &[Value<'_>]) -> Result<Option<Json>> {
        let Some(companion) = &self.companion else { return Ok(None) };
        let mut name = companion.pattern.clone();
        for (column, value) in self.names.iter().zip(values) {
            let mark = format!("{{{column}}}");
            if name.contains(&mark) {
                let Value::Text(text) = value else { return Ok(None) };
                name = name.replace(&mark, &String::from_utf8_lossy(text));
            }
        }
        let Some(path) = companion.files.get(&name) else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|e| unreadable_io(path, &e))?;
        // A document that cannot be parsed is refused by its own stream; here it fills nothing.
        Ok(crate::json::parse(&bytes).ok())
    }
}

/// Key columns in byte order, whatever their collation: under NOCASE, `a` would count as read
/// when `A` was, though the key may tell them apart.
fn binary_order(names: &[String]) -> String {
    let columns: Vec<String> =
        names.iter().map(|name| format!("{} COLLATE BINARY", quote_ident(name))).collect();
    columns.join(", ")
}

fn value_of(value: ValueRef<'_>) -> Value<'_> {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(text),
        ValueRef::Blob(blob) => Value::Blob(blob),
    }
}

fn key_part(value: ValueRef<'_>) -> KeyPart {
    match value {
        ValueRef::Integer(number) => KeyPart::Integer(number),
        ValueRef::Real(number) => KeyPart::Real(number.to_bits()),
        ValueRef::Text(text) => KeyPart::Text(hex::encode(text)),
        ValueRef::Blob(blob) => KeyPart::Blob(hex::encode(blob)),
        // A primary key of a WITHOUT ROWID table is NOT NULL by definition.
        ValueRef::Null => KeyPart::Blob(String::new()),
    }
}

fn show_key_part(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
        ValueRef::Blob(blob) => format!("x'{}'", hex::encode(blob)),
    }
}

/// A key part, decoded: text keeps bytes that are not UTF-8, or reading would go on elsewhere.
#[derive(Debug)]
enum BoundPart {
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl BoundPart {
    fn of(part: &KeyPart) -> Result<Self> {
        let decode = |text: &str| {
            hex::decode(text).map_err(|error| {
                Error::new(ErrorKind::RunMismatch, "a stored position cannot be read")
                    .advice("start over with --restart")
                    .because(error)
            })
        };
        Ok(match part {
            KeyPart::Integer(number) => Self::Integer(*number),
            KeyPart::Real(bits) => Self::Real(f64::from_bits(*bits)),
            KeyPart::Text(text) => Self::Text(decode(text)?),
            KeyPart::Blob(blob) => Self::Blob(decode(blob)?),
        })
    }
}

impl rusqlite::ToSql for BoundPart {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(|e| unreadable_io(path, &e))?.len())
}

pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn has_sibling(path: &Path, suffix: &str) -> bool {
    sibling(path, suffix).exists()
}

fn wal_mode_without_wal(path: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut header = [0; 20];
    let mut file = std::fs::File::open(path).map_err(|e| unreadable_io(path, &e))?;
    if file.read_exact(&mut header).is_err() {
        return Ok(false);
    }
    Ok(header[18] == 2 && !has_sibling(path, "-wal"))
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

pub(super) fn unreadable(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Busy,
            "another process holds a write lock on it; run again when its transaction has ended",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::SourceUnreadable,
            "the file is damaged: recover it first (`sqlite3 FILE .recover`) or use a backup",
        ),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::SourceUnreadable,
            "it is another kind of file, or encrypted: decrypt it first",
        ),
        _ => (ErrorKind::SourceUnreadable, "check the file and its permissions"),
    };
    Error::new(kind, format!("SQLite file {}: {error}", path.display()))
        .advice(advice)
        .because(error)
}
