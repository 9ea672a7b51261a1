//! Rows as tables of one `SQLite` file that anybody can ask, and that is the same bytes for the same
//! rows.
//!
//! | in Postgres | in the file |
//! |---|---|
//! | smallint, integer, bigint | INTEGER |
//! | boolean | INTEGER 0 or 1 |
//! | real, double precision | REAL; `NaN`, `Infinity`, `-Infinity` and `-0` as TEXT |
//! | bytea | BLOB |
//! | arrays of one dimension that count from 1 | TEXT, a JSON array |
//! | anything else, other arrays too | TEXT, as Postgres prints it: times in UTC, numerics with their scale |

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};
use serde_json::Value as Json;

use super::rows::Row;
use super::tables::Sheet;
use crate::canonical::array;
use crate::cast::PgType;
use crate::error::{Error, ErrorKind, Result};
use crate::store::quote_ident;

/// Its place in an archive.
pub(super) const DATABASE: &str = "data/archive.sqlite";

/// Where it is written before it gets that name.
const UNFINISHED: &str = "data/.toolkit-archive.sqlite";

/// `tkar`, so that `file` and others may know it.
const APPLICATION_ID: i32 = 0x746b_6172;

/// Stands in the header instead of the version of the library that wrote the file; readers do not
/// look at it.
const WRITER_VERSION: u32 = 3_040_000;

/// Offset of that number (<https://www.sqlite.org/fileformat2.html>, section 1.3).
const WRITER_VERSION_AT: u64 = 96;

/// What is read ahead of the server at most.
const AHEAD_ROWS_MAX: usize = 500;
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// The name of the rowid, which no column of the file has.
const ROWID: &str = "_rowid_";

/// How a column's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Integer,
    Boolean,
    Single,
    Double,
    Bytes,
    /// JSON where the array is a plain one; the type of the elements decides how they are spelt.
    Array(Element),
    Text,
}

/// How an array's elements are spelt in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Number,
    Boolean,
    Text,
}

impl Storage {
    pub(super) fn of(ty: &PgType) -> Self {
        match ty {
            PgType::Int2 | PgType::Int4 | PgType::Int8 => Self::Integer,
            PgType::Bool => Self::Boolean,
            PgType::Float4 => Self::Single,
            PgType::Float8 => Self::Double,
            PgType::Bytea => Self::Bytes,
            PgType::Array(element) => match **element {
                PgType::Int2 | PgType::Int4 | PgType::Int8 => Self::Array(Element::Number),
                PgType::Bool => Self::Array(Element::Boolean),
                // JSON null could not be told from NULL.
                PgType::Json | PgType::Jsonb => Self::Text,
                _ => Self::Array(Element::Text),
            },
            _ => Self::Text,
        }
    }

    /// The type that is declared. Floats have none: REAL would turn the text `-0` into a number.
    fn declared(self) -> &'static str {
        match self {
            Self::Integer | Self::Boolean => " INTEGER",
            Self::Single | Self::Double => "",
            Self::Bytes => " BLOB",
            Self::Array(_) => " TEXT_ARRAY",
            Self::Text => " TEXT",
        }
    }

    fn value(self, text: &str) -> Result<Value> {
        let real = |number: f64| {
            let is_kept = number.is_finite() && (number != 0.0 || number.is_sign_positive());
            is_kept.then_some(Value::Real(number))
        };
        let stored = match self {
            Self::Integer => text.parse().ok().map(Value::Integer),
            Self::Boolean => match text {
                "t" => Some(Value::Integer(1)),
                "f" => Some(Value::Integer(0)),
                _ => None,
            },
            Self::Single => {
                let number = text.parse::<f32>().ok();
                number.map(|n| real(n.into()).unwrap_or_else(|| Value::Text(text.to_owned())))
            }
            Self::Double => {
                let number = text.parse::<f64>().ok();
                number.map(|n| real(n).unwrap_or_else(|| Value::Text(text.to_owned())))
            }
            Self::Bytes => {
                text.strip_prefix("\\x").and_then(|text| hex::decode(text).ok()).map(Value::Blob)
            }
            Self::Array(element) => {
                let json = array::elements(text).and_then(|elements| as_json(&elements, element));
                Some(Value::Text(json.unwrap_or_else(|| text.to_owned())))
            }
            Self::Text => Some(Value::Text(text.to_owned())),
        };
        // No value goes into a message.
        stored.ok_or_else(|| Error::new(ErrorKind::Bug, format!("a value is no {self:?}")))
    }
}

/// None where an element is not spelt as its type has it.
fn as_json(elements: &[Option<String>], element: Element) -> Option<String> {
    let elements: Option<Vec<Json>> = elements
        .iter()
        .map(|text| {
            let Some(text) = text else { return Some(Json::Null) };
            match (element, text.as_str()) {
                (Element::Number, number) => number.parse::<i64>().ok().map(Json::from),
                (Element::Boolean, "t") => Some(Json::Bool(true)),
                (Element::Boolean, "f") => Some(Json::Bool(false)),
                (Element::Boolean, _) => None,
                (Element::Text, text) => Some(Json::from(text)),
            }
        })
        .collect();
    Some(Json::Array(elements?).to_string())
}

/// The array literal that a JSON array stands for; None where it is none.
fn from_json(text: &str) -> Option<String> {
    if !text.starts_with('[') {
        return None;
    }
    let elements: Vec<Json> = serde_json::from_str(text).ok()?;
    let elements: Option<Vec<Option<String>>> = elements
        .into_iter()
        .map(|element| match element {
            Json::Null => Some(None),
            Json::Bool(yes) => Some(Some(if yes { "t" } else { "f" }.to_owned())),
            Json::Number(number) => Some(Some(number.to_string())),
            Json::String(text) => Some(Some(text)),
            Json::Array(_) | Json::Object(_) => None,
        })
        .collect();
    Some(array::array(elements?.iter().map(Option::as_deref)))
}

/// Names that `SQLite` tells apart, which folds the case of ASCII letters.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The name itself, or with a number behind it where another has it.
    pub(super) fn give(&mut self, name: &str) -> String {
        let name = if name.to_ascii_lowercase().starts_with("sqlite_") {
            format!("_{name}")
        } else {
            name.to_owned()
        };
        let mut given = name.clone();
        let mut number = 1;
        while !self.0.insert(given.to_ascii_lowercase()) {
            number += 1;
            given = format!("{name}~{number}");
        }
        given
    }
}

/// The columns of a table under the names they have in the file.
pub(super) fn column_names(columns: &[String]) -> Vec<String> {
    let mut names = Names(BTreeSet::from([ROWID.to_owned()]));
    columns.iter().map(|column| names.give(column)).collect()
}

/// A file in the making.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    unfinished: PathBuf,
    path: PathBuf,
    insert: String,
    storage: Vec<Storage>,
}

impl Writer {
    /// Begins it anew, whatever an earlier attempt has left.
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        let (unfinished, path) = (folder.join(UNFINISHED), folder.join(DATABASE));
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::from(error).context(unfinished.display()));
            }
            _ => {}
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&unfinished, flags)
            .map_err(|error| unwritable(&unfinished, error))?;
        // What decides about bytes is said, whatever the library was built with. A killed export
        // begins anew, so that nothing has to be undone.
        let settings = format!(
            "PRAGMA page_size = 4096; PRAGMA encoding = 'UTF-8'; PRAGMA auto_vacuum = NONE; \
             PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; \
             PRAGMA secure_delete = ON; PRAGMA cache_size = -8192; \
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; BEGIN"
        );
        connection.execute_batch(&settings).map_err(|error| unwritable(&unfinished, error))?;
        Ok(Self { connection, unfinished, path, insert: String::new(), storage: Vec::new() })
    }

    /// Makes a table for the rows that follow.
    pub(super) fn table(&mut self, name: &str, sheet: &Sheet) -> Result<()> {
        self.storage = sheet.types().iter().map(Storage::of).collect();
        let names = column_names(&sheet.columns);
        let columns: Vec<String> = names
            .iter()
            .zip(&self.storage)
            .map(|(name, storage)| format!("{}{}", quote_ident(name), storage.declared()))
            .collect();
        let name = quote_ident(name);
        self.connection
            .execute_batch(&format!("CREATE TABLE {name} ({})", columns.join(", ")))
            .map_err(|error| unwritable(&self.unfinished, error))?;
        let places = vec!["?"; columns.len()].join(", ");
        self.insert = format!("INSERT INTO {name} VALUES ({places})");
        Ok(())
    }

    pub(super) fn row(&mut self, row: &Row) -> Result<()> {
        let values: Result<Vec<Value>> = row
            .iter()
            .zip(&self.storage)
            .map(|(value, storage)| match value {
                None => Ok(Value::Null),
                Some(text) => storage.value(text),
            })
            .collect();
        let values = values?;
        let mut insert = self
            .connection
            .prepare_cached(&self.insert)
            .map_err(|error| unwritable(&self.unfinished, error))?;
        insert
            .execute(params_from_iter(values))
            .map_err(|error| unwritable(&self.unfinished, error))?;
        Ok(())
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        let Self { connection, unfinished, path, .. } = self;
        connection.flush_prepared_statement_cache();
        connection.execute_batch("COMMIT").map_err(|error| unwritable(&unfinished, error))?;
        connection.close().map_err(|(_, error)| unwritable(&unfinished, error))?;
        let named = || -> std::io::Result<()> {
            let mut file = File::options().write(true).open(&unfinished)?;
            file.seek(SeekFrom::Start(WRITER_VERSION_AT))?;
            file.write_all(&WRITER_VERSION.to_be_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        named().map_err(|error| Error::from(error).context(path.display()))
    }
}

fn unwritable(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
        .because(error)
        .advice("name a folder that this user may write to, on a disk with room")
}

/// Reads the rows of one table in the order they were written.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    select: String,
    is_array: Vec<bool>,
    last: i64,
    ahead: VecDeque<Row>,
}

/// Columns with their declared types.
type NamesAndTypes = Vec<(String, String)>;

impl Reader {
    /// Opens the table `name` of the file at `path`, which has `columns`.
    pub(super) fn open(path: &Path, name: &str, columns: &[String]) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = || -> rusqlite::Result<(Connection, NamesAndTypes, bool)> {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")?;
            let is_table = connection.query_row(
                "SELECT count(*) = 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1",
                [name],
                |row| row.get(0),
            )?;
            let found = {
                let mut list =
                    connection.prepare("SELECT name, type FROM pragma_table_xinfo(?1)")?;
                let rows = list.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<NamesAndTypes>>()?
            };
            Ok((connection, found, is_table))
        };
        let (connection, found, is_table) = opened().map_err(|error| unreadable(&error))?;
        let expected = column_names(columns);
        if !is_table || !found.iter().map(|(name, _)| name).eq(&expected) {
            return Err(damaged("its tables are not those of the manifest"));
        }
        let list: Vec<String> = expected.iter().map(|name| quote_ident(name)).collect();
        let select = format!(
            "SELECT {ROWID}, {} FROM {} WHERE {ROWID} > ?1 ORDER BY {ROWID} LIMIT {AHEAD_ROWS_MAX}",
            list.join(", "),
            quote_ident(name)
        );
        let is_array = found.iter().map(|(_, ty)| ty == "TEXT_ARRAY").collect();
        Ok(Self { connection, select, is_array, last: i64::MIN, ahead: VecDeque::new() })
    }

    /// Reads the next row; false at the end.
    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool> {
        if self.ahead.is_empty() {
            self.read_ahead()?;
        }
        match self.ahead.pop_front() {
            None => Ok(false),
            Some(next) => {
                *row = next;
                Ok(true)
            }
        }
    }

    fn read_ahead(&mut self) -> Result<()> {
        let mut select =
            self.connection.prepare_cached(&self.select).map_err(|error| unreadable(&error))?;
        let mut rows = select.query([self.last]).map_err(|error| unreadable(&error))?;
        let mut bytes = 0;
        while bytes < AHEAD_BYTES_MAX {
            let Some(found) = rows.next().map_err(|error| unreadable(&error))? else { break };
            self.last = found.get(0).map_err(|error| unreadable(&error))?;
            let mut row = Row::with_capacity(self.is_array.len());
            for (at, is_array) in self.is_array.iter().enumerate() {
                let value = found.get_ref(at + 1).map_err(|error| unreadable(&error))?;
                let text = text_of(value, *is_array)?;
                bytes += text.as_ref().map_or(0, String::len);
                row.push(text);
            }
            self.ahead.push_back(row);
        }
        Ok(())
    }
}

/// The text Postgres reads the value from.
fn text_of(value: ValueRef<'_>, is_array: bool) -> Result<Option<String>> {
    Ok(Some(match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Integer(number) => number.to_string(),
        // The shortest text that is this number and no other.
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Blob(bytes) => format!("\\x{}", hex::encode(bytes)),
        ValueRef::Text(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8"))?;
            match is_array.then(|| from_json(text)).flatten() {
                Some(literal) => literal,
                None => text.to_owned(),
            }
        }
    }))
}

fn unreadable(error: &rusqlite::Error) -> Error {
    damaged(&error.to_string())
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::SourceUnreadable, format!("not a row of this archive: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_sqlite_would_take_for_one_are_given_two() {
        let mut names = Names::default();
        let given: Vec<String> =
            ["a.b", "A.b", "a.B", "sqlite_x.t", "é.x", "É.x"].map(|name| names.give(name)).into();
        assert_eq!(given, ["a.b", "A.b~2", "a.B~3", "_sqlite_x.t", "é.x", "É.x"]);
        assert_eq!(column_names(&["_ROWID_".to_owned(), "x".to_owned()]), ["_ROWID_~2", "x"]);
    }

    #[test]
    fn what_sqlite_has_no_number_for_is_text() {
        for text in ["NaN", "Infinity", "-Infinity", "-0"] {
            assert_eq!(Storage::Double.value(text).unwrap(), Value::Text(text.to_owned()));
            assert_eq!(Storage::Single.value(text).unwrap(), Value::Text(text.to_owned()));
        }
        assert_eq!(Storage::Double.value("0.1").unwrap(), Value::Real(0.1));
        assert_eq!(Storage::Single.value("0.1").unwrap(), Value::Real(f64::from(0.1_f32)));
        assert!(Storage::Integer.value("x").is_err());
    }

    #[test]
    fn plain_arrays_are_json_and_others_stay_what_postgres_prints() {
        let numbers = Storage::Array(Element::Number);
        let texts = Storage::Array(Element::Text);
        let stored = |storage: Storage, text: &str| match storage.value(text).unwrap() {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(stored(numbers, "{1,NULL,-3}"), "[1,null,-3]");
        assert_eq!(
            stored(texts, r#"{NULL,"NULL","",a,"q\"\\"}"#),
            r#"[null,"NULL","","a","q\"\\"]"#
        );
        assert_eq!(stored(numbers, "[2:3]={4,5}"), "[2:3]={4,5}");
        assert_eq!(stored(numbers, "{{1,2},{3,4}}"), "{{1,2},{3,4}}");
        for text in ["[1,null,-3]", "[]"] {
            assert!(from_json(text).is_some(), "{text}");
        }
        assert_eq!(from_json("[2:3]={4,5}"), None);
        assert_eq!(from_json(r#"["a","q\"\\",null]"#).unwrap(), r#"{"a","q\"\\",NULL}"#);
    }
}
