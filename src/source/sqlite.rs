//! Tables and views of `SQLite` files, read in key order, never blocked for longer than a chunk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::cast::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
pub use crate::source::change::change_token;
pub use crate::source::database::Database;
use crate::source::database::{CHECKED_WHOLE_BYTES, file_size, unreadable, unreadable_io};
use crate::source::discover::SourceFile;
pub use crate::source::lookup::{LOG_TABLE, STATE_TABLE, capture_token};
use crate::source::{Content, Flow, KeyPart, Locator, Position, SourceRecord, Visitor};
use crate::store::quote_ident;

/// Columns of a result at most (`SQLITE_MAX_COLUMN`).
const RESULT_COLUMNS_MAX: usize = 2_000;

impl Database {
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

/// How long one read may keep others from writing: in rollback-journal mode they wait for it.
const LOCK_MAX: Duration = Duration::from_millis(300);

/// Rows between two looks at the clock, which costs as much as casting a value.
const ROWS_PER_LOOK: u32 = 16;

/// Rows that took longer than this are looked at one by one.
const QUICK_ROWS: Duration = Duration::from_millis(10);

/// How long a read has kept others from writing.
struct LockClock {
    started: Instant,
    looked: Duration,
    rows_left: u32,
}

impl LockClock {
    fn start() -> Self {
        Self { started: Instant::now(), looked: Duration::ZERO, rows_left: 0 }
    }

    /// Whether the read should end; asked after every row.
    fn is_over(&mut self) -> bool {
        if self.rows_left > 0 {
            self.rows_left -= 1;
            return false;
        }
        let now = self.started.elapsed();
        let are_quick = now.saturating_sub(self.looked) < QUICK_ROWS;
        self.rows_left = if are_quick { ROWS_PER_LOOK } else { 0 };
        self.looked = now;
        now > LOCK_MAX
    }
}

/// How the rows of a table are ordered and resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// By this alias of the rowid.
    Rowid(&'static str),
    /// By the primary key of a WITHOUT ROWID table.
    Key(Vec<String>),
    /// No key at all (views): evaluated once, and counted.
    Unordered,
}

/// What a table's rows are, whoever reads them.
#[derive(Debug, Clone)]
pub struct TableShape {
    pub(super) file: SourceFile,
    pub(super) table: String,
    pub(super) names: Arc<[String]>,
    pub(super) order: RowOrder,
    pub(super) companion: Option<Companion>,
}

/// The rows of one table or view.
#[derive(Debug)]
pub struct TableSource {
    pub(super) database: Database,
    pub(super) shape: TableShape,
    /// Whether the rows of a view are held in `temp.toolkit_rows`.
    pub(super) holds_rows: bool,
    /// Whether an open read keeps others from writing.
    pub(super) blocks_writers: bool,
}

/// Finds the JSON document beside a record.
#[derive(Debug, Clone)]
pub(crate) struct Companion {
    pub(crate) pattern: String,
    pub(crate) files: BTreeMap<String, PathBuf>,
}

impl Companion {
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The document that the record's values name, if it is there.
    pub(crate) fn of(&self, names: &[String], values: &[Value<'_>]) -> Result<Option<Json>> {
        let mut name = self.pattern.clone();
        for (column, value) in names.iter().zip(values) {
            let mark = format!("{{{column}}}");
            if name.contains(&mark) {
                let Value::Text(text) = value else { return Ok(None) };
                name = name.replace(&mark, &String::from_utf8_lossy(text));
            }
        }
        let Some(path) = self.files.get(&name) else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|e| unreadable_io(path, &e))?;
        // A document that cannot be parsed is refused by its own stream; here it fills nothing.
        Ok(crate::json::parse(&bytes).ok())
    }
}

impl TableShape {
    /// The shape of `table` in a file that is open; `companion` as in [`TableSource::open`].
    pub fn of(
        database: &Database,
        file: &SourceFile,
        table: &str,
        companion: Option<(String, BTreeMap<String, PathBuf>)>,
    ) -> Result<Self> {
        let names: Arc<[String]> = database.columns(table)?.into();
        if names.is_empty() {
            return Err(Error::new(
                ErrorKind::SourceMissing,
                format!("{} has no table or view `{table}`", file.path.display()),
            ));
        }
        Ok(Self {
            file: file.clone(),
            table: table.to_owned(),
            names,
            order: database.order_of(table)?,
            companion: companion.map(|(pattern, files)| Companion { pattern, files }),
        })
    }

    pub(super) fn place(
        &self,
        row: &rusqlite::Row<'_>,
        ordinal: u64,
    ) -> Result<(Locator, Position)> {
        match &self.order {
            RowOrder::Rowid(_) => {
                let id = row.get(0).map_err(|e| unreadable(&self.file.path, e))?;
                Ok((Locator::Rowid(id), Position::Rowid(id)))
            }
            RowOrder::Unordered => Ok((Locator::Ordinal(ordinal), Position::Ordinal(ordinal))),
            RowOrder::Key(key) => {
                let mut parts = Vec::with_capacity(key.len());
                let mut shown = Vec::with_capacity(key.len());
                for name in key {
                    let value =
                        row.get_ref(name.as_str()).map_err(|e| unreadable(&self.file.path, e))?;
                    parts.push(key_part(value));
                    shown.push(show_key_part(value));
                }
                Ok((Locator::Key(format!("({})", shown.join(", "))), Position::Key(parts)))
            }
        }
    }

    pub(super) fn companion_of(&self, values: &[Value<'_>]) -> Result<Option<Json>> {
        let Some(companion) = &self.companion else { return Ok(None) };
        companion.of(&self.names, values)
    }
}

impl TableSource {
    /// Opens `table` of `file`; `companion` is a file name pattern and the files it may name.
    pub fn open(
        file: &SourceFile,
        table: &str,
        companion: Option<(String, BTreeMap<String, PathBuf>)>,
    ) -> Result<Self> {
        let database = Database::open(&file.path)?;
        let shape = TableShape::of(&database, file, table, companion)?;
        // The rows of a view are read from where they are held.
        let blocks_writers = shape.order != RowOrder::Unordered && database.blocks_writers()?;
        Ok(Self { database, shape, holds_rows: false, blocks_writers })
    }

    /// The file's path below the source folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shape.file.relative
    }

    /// Column names, in the order of the values.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.shape.names
    }

    /// The name under which the rowid can be asked for; None where rows are ordered otherwise.
    #[must_use]
    pub fn rowid_name(&self) -> Option<&'static str> {
        match self.shape.order {
            RowOrder::Rowid(name) => Some(name),
            _ => None,
        }
    }

    /// The open file.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Rows by count, or about as many as the greatest rowid says; 0 where nobody can say without
    /// locking writers out.
    pub fn estimated_records(&self) -> u64 {
        let table = quote_ident(&self.shape.table);
        // Counting reads a whole B-tree; where that would lock out writers, the greatest rowid
        // must do.
        let is_costly = self.database.blocks_writers().unwrap_or(true)
            && file_size(&self.database.path).is_ok_and(|size| size > CHECKED_WHOLE_BYTES);
        let sql = match &self.shape.order {
            RowOrder::Rowid(alias) if is_costly => format!("SELECT max({alias}) FROM {table}"),
            _ if is_costly => return 0,
            _ => format!("SELECT count(*) FROM {table}"),
        };
        let count = self.database.connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        count.ok().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
    }

    /// Evaluates a view once, into a temporary table on disk, so that a pause costs nothing and
    /// holds nothing. In rollback-journal mode the evaluation itself would lock writers out for as
    /// long as it takes: there it works on a private copy.
    fn hold_rows(&mut self) -> Result<()> {
        if self.holds_rows || self.shape.order != RowOrder::Unordered {
            return Ok(());
        }
        if self.database.blocks_writers()? {
            self.database = self.database.private_copy()?;
        }
        // Columns without a type: values keep the storage class that the view gives them.
        let held: Vec<String> = (0..self.shape.names.len()).map(|at| format!("c{at}")).collect();
        let names: Vec<String> = self.shape.names.iter().map(|name| quote_ident(name)).collect();
        let statements = format!(
            "PRAGMA temp_store = FILE; CREATE TEMP TABLE toolkit_rows ({}); \
             INSERT INTO temp.toolkit_rows SELECT {} FROM main.{}",
            held.join(", "),
            names.join(", "),
            quote_ident(&self.shape.table)
        );
        let connection = &self.database.connection;
        connection.execute_batch(&statements).map_err(|e| unreadable(&self.database.path, e))?;
        self.holds_rows = true;
        Ok(())
    }

    /// Visits the rows after `from`, up to and including `to`, until the visitor pauses, or until
    /// writers have waited for as long as they should.
    pub fn read_range(
        &mut self,
        from: Option<&Position>,
        to: Option<&Position>,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        self.hold_rows()?;
        let (sql, parameters) = self.statement(from, to)?;
        let parameters = parameters.iter().map(BoundPart::of).collect::<Result<Vec<_>>>()?;
        let path = self.database.path.clone();
        let mut statement =
            self.database.connection.prepare_cached(&sql).map_err(|e| unreadable(&path, e))?;
        let mut rows = statement
            .query(rusqlite::params_from_iter(parameters.iter()))
            .map_err(|e| unreadable(&path, e))?;
        let skip = usize::from(matches!(self.shape.order, RowOrder::Rowid(_)));
        // Held rows are numbered without a gap: a result of the most columns has no room for one.
        let mut ordinal = match from {
            Some(Position::Ordinal(seen)) => *seen,
            _ => 0,
        };
        let mut clock = LockClock::start();
        let mut room: Vec<Value<'static>> = Vec::with_capacity(self.shape.names.len());
        while let Some(row) = rows.next().map_err(|e| unreadable(&path, e))? {
            let mut values = emptied(room);
            for at in 0..self.shape.names.len() {
                let value = row.get_ref(at + skip).map_err(|e| unreadable(&path, e))?;
                values.push(value_of(value));
            }
            let (locator, position) = {
                ordinal += 1;
                self.shape.place(row, ordinal)?
            };
            let companion = self.shape.companion_of(&values)?;
            let record = SourceRecord {
                file: &self.shape.file,
                locator,
                position,
                content: Content::Columns {
                    names: &self.shape.names,
                    values: &values,
                    companion: companion.as_ref(),
                },
            };
            let is_paused = visit(&record)? == Flow::Pause;
            if is_paused || (self.blocks_writers && clock.is_over()) {
                return Ok(Some(record.position));
            }
            drop(record);
            room = emptied(values);
        }
        Ok(None)
    }

    fn statement(
        &self,
        from: Option<&Position>,
        to: Option<&Position>,
    ) -> Result<(String, Vec<KeyPart>)> {
        let columns: Vec<String> = self.shape.names.iter().map(|name| quote_ident(name)).collect();
        let columns = columns.join(", ");
        let table = quote_ident(&self.shape.table);
        match (&self.shape.order, from) {
            (RowOrder::Rowid(alias), None | Some(Position::Rowid(_)))
                if matches!(to, None | Some(Position::Rowid(_))) =>
            {
                let mut conditions = Vec::new();
                let mut values = Vec::new();
                for (sign, position) in [(">", from), ("<=", to)] {
                    if let Some(Position::Rowid(id)) = position {
                        values.push(KeyPart::Integer(*id));
                        conditions.push(format!("{alias} {sign} ?{}", values.len()));
                    }
                }
                let within = if conditions.is_empty() { "" } else { " WHERE " };
                let within = format!("{within}{}", conditions.join(" AND "));
                Ok((
                    format!("SELECT {alias}, {columns} FROM {table}{within} ORDER BY {alias}"),
                    values,
                ))
            }
            _ if to.is_some() => Err(self.keyed_otherwise()),
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
                let seen = match from {
                    Some(Position::Ordinal(seen)) => i64::try_from(*seen).unwrap_or(i64::MAX),
                    _ => 0,
                };
                let sql = "SELECT * FROM temp.toolkit_rows WHERE rowid > ?1 ORDER BY rowid";
                Ok((sql.to_owned(), vec![KeyPart::Integer(seen)]))
            }
            _ => Err(self.keyed_otherwise()),
        }
    }

    fn keyed_otherwise(&self) -> Error {
        Error::new(
            ErrorKind::SourceChanged,
            format!(
                "{}: table {} is not keyed as when this run started",
                self.shape.file.relative, self.shape.table
            ),
        )
        .advice("start over with --restart")
    }
}

/// Key columns in byte order, whatever their collation: under NOCASE, `a` would count as read
/// when `A` was, though the key may tell them apart.
fn binary_order(names: &[String]) -> String {
    let columns: Vec<String> =
        names.iter().map(|name| format!("{} COLLATE BINARY", quote_ident(name))).collect();
    columns.join(", ")
}

/// An empty vector in the same memory, for values that live as long as another row.
fn emptied<'to>(mut values: Vec<Value<'_>>) -> Vec<Value<'to>> {
    values.clear();
    values.into_iter().map(|_| Value::Null).collect()
}

pub(crate) fn value_of(value: ValueRef<'_>) -> Value<'_> {
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

pub(super) fn show_key_part(value: ValueRef<'_>) -> String {
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
