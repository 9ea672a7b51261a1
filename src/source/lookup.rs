//! Rows of a captured table, found by what the capture log says of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

use crate::cast::Value;
use crate::error::Result;
use crate::source::database::{Database, unreadable};
use crate::source::discover::SourceFile;
use crate::source::sqlite::{
    Companion, RowOrder, TableShape, TableSource, show_key_part, value_of,
};
use crate::source::{Content, Locator, SourceRecord};
use crate::store::quote_ident;

/// A value of a `SQLite` file, kept with its class. Text keeps bytes that are not UTF-8.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// NULL
    Null,
    /// INTEGER
    Integer(i64),
    /// REAL
    Real(f64),
    /// TEXT
    Text(Vec<u8>),
    /// BLOB
    Blob(Vec<u8>),
}

impl Stored {
    /// As `SQLite` hands it out.
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(blob) => Self::Blob(blob.to_vec()),
        })
    }
}

impl rusqlite::ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.as_ref()))
    }
}

impl TableShape {
    /// The file it stands in.
    #[must_use]
    pub fn file(&self) -> &SourceFile {
        &self.file
    }

    /// Column names, in the order of the values.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Looks for the documents beside its records among other files from now on.
    pub fn set_companions(&mut self, files: BTreeMap<String, PathBuf>) {
        if let Some(companion) = &mut self.companion {
            companion.files = files;
        }
    }

    /// The name pattern of the documents beside its records.
    #[must_use]
    pub fn companion_pattern(&self) -> Option<&str> {
        self.companion.as_ref().map(Companion::pattern)
    }

    /// The place of the row of this identity, whether or not it is there.
    #[must_use]
    pub fn locator_of(&self, identity: &[Stored]) -> Locator {
        match (&self.order, identity) {
            (RowOrder::Rowid(_), [Stored::Integer(rowid)]) => Locator::Rowid(*rowid),
            _ => {
                let shown: Vec<String> =
                    identity.iter().map(|value| show_key_part(value.as_ref())).collect();
                Locator::Key(format!("({})", shown.join(", ")))
            }
        }
    }

    /// Whether an index serves a search by all of these columns, or by the first of them.
    pub fn finds_quickly(&self, database: &Database, columns: &[String]) -> Result<bool> {
        let leading = database.strings(
            "SELECT i.name FROM pragma_index_list(?1) AS l, pragma_index_info(l.name) AS i \
             WHERE i.seqno = 0 AND l.partial = 0 AND i.name IS NOT NULL",
            [&self.table],
        )?;
        Ok(columns
            .iter()
            .any(|column| leading.iter().any(|name| name.eq_ignore_ascii_case(column))))
    }

    /// Visits the rows whose `columns` hold `values`; a column that is the alias of the rowid is
    /// given as it is. Collations of the columns apply: more rows than the exact ones may come.
    pub fn visit_where(
        &self,
        database: &Database,
        columns: &[String],
        values: &[Stored],
        visit: &mut dyn FnMut(&SourceRecord<'_>) -> Result<()>,
    ) -> Result<()> {
        let conditions: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let is_alias = matches!(self.order, RowOrder::Rowid(alias) if alias == name);
                let name = if is_alias { name.clone() } else { quote_ident(name) };
                format!("{name} IS ?{}", at + 1)
            })
            .collect();
        let names: Vec<String> = self.names.iter().map(|name| quote_ident(name)).collect();
        let alias = match &self.order {
            RowOrder::Rowid(alias) => format!("{alias}, "),
            RowOrder::Key(_) | RowOrder::Unordered => String::new(),
        };
        let sql = format!(
            "SELECT {alias}{} FROM {} WHERE {}",
            names.join(", "),
            quote_ident(&self.table),
            conditions.join(" AND ")
        );
        let failed = |error| unreadable(&self.file.path, error);
        let mut statement = database.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(failed)?;
        let skip = usize::from(!alias.is_empty());
        while let Some(row) = rows.next().map_err(failed)? {
            let mut values: Vec<Value<'_>> = Vec::with_capacity(self.names.len());
            for at in 0..self.names.len() {
                values.push(value_of(row.get_ref(at + skip).map_err(failed)?));
            }
            let (locator, position) = self.place(row, 0)?;
            let companion = self.companion_of(&values)?;
            visit(&SourceRecord {
                file: &self.file,
                locator,
                position,
                content: Content::Columns {
                    names: &self.names,
                    values: &values,
                    companion: companion.as_ref(),
                },
            })?;
        }
        Ok(())
    }
}

/// The log of captured changes, as `capture` makes it.
pub const LOG_TABLE: &str = "toolkit_capture_log";

/// The table that says what the log belongs to.
pub const STATE_TABLE: &str = "toolkit_capture_state";

impl Database {
    fn is_captured(&self) -> Result<bool> {
        let found = self.strings(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN (?1, ?2)",
            [LOG_TABLE, STATE_TABLE],
        )?;
        Ok(found.len() == 2)
    }
}

impl TableSource {
    /// The newest captured change; None: changes are not captured.
    pub fn capture_position(&self) -> Result<Option<i64>> {
        if !self.database.is_captured()? {
            return Ok(None);
        }
        let sql = format!("SELECT coalesce(max(seq), 0) FROM {LOG_TABLE}");
        let found = self.database.connection.query_row(&sql, [], |row| row.get(0));
        found.map(Some).map_err(|error| unreadable(&self.shape.file.path, error))
    }
}

/// What must stay as it is of a file whose changes are captured: its schema, which VACUUM counts
/// up, too (it may give rows other rowids), and the installation. None: they are not captured.
pub fn capture_token(path: &std::path::Path) -> Result<Option<String>> {
    let database = Database::open(path)?;
    if !database.is_captured()? {
        return Ok(None);
    }
    let sql = format!("SELECT installation FROM {STATE_TABLE} WHERE only_row = 1");
    let installation = database.strings(&sql, [])?.join("");
    let version: i64 = database
        .connection
        .query_row("PRAGMA schema_version", [], |row| row.get(0))
        .map_err(|error| unreadable(path, error))?;
    Ok(Some(format!("captured {installation} schema={version}")))
}
