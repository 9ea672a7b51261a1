//! Sources: `SQLite` files, JSON documents, JSON lines and CSV, always opened read-only.
//!
//! A [`StreamSource`] yields the records of one stream from a stored [`Position`] on, in an order
//! that does not change while the source does not, so that a chunk can be resumed by position.

mod backup;
mod change;
mod database;
pub mod discover;
pub mod documents;
pub(crate) mod holders;
mod lookup;
mod ranges;
pub mod scratch;
pub mod snapshot;
pub mod sqlite;
pub mod survey;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cast::{Refusal, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;

pub(crate) use database::unreadable;
pub use discover::{Discovered, SourceFile, StreamFiles};
pub use lookup::Stored;

/// Where a reader stands: the last record that was handed out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// `SQLite` rowid.
    Rowid(i64),
    /// Primary key of a WITHOUT ROWID table.
    Key(Vec<KeyPart>),
    /// Records seen so far of a source that has no key (a view).
    Ordinal(u64),
    /// A document, by its path below the source folder, and the record inside it.
    Document {
        /// Path with forward slashes.
        path: String,
        /// 0-based record inside the document.
        record: u64,
        /// Offset of the first byte after the record, where the document is read piece by piece.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
}

/// One column of a stored primary key, with its storage class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// INTEGER
    Integer(i64),
    /// REAL, as bits, so that JSON keeps it exact
    Real(u64),
    /// TEXT, hexadecimal
    Text(String),
    /// BLOB, hexadecimal
    Blob(String),
}

/// Where a record stands, for people and for accounting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Locator {
    /// `rowid 17`
    Rowid(i64),
    /// `key (...)`, for tables without rowid
    Key(String),
    /// `row 17` of a view, 1-based
    Ordinal(u64),
    /// the document itself
    Document,
    /// `record 3` of a document, 0-based
    Element(u64),
    /// `line 3` of a CSV or JSONL file, 1-based
    Line(u64),
    /// one that was stored as text
    Stored(String),
}

impl std::fmt::Display for Locator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rowid(id) => write!(f, "rowid {id}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Ordinal(n) => write!(f, "row {n}"),
            Self::Document => f.write_str("document"),
            Self::Element(n) => write!(f, "record {n}"),
            Self::Line(n) => write!(f, "line {n}"),
            Self::Stored(text) => f.write_str(text),
        }
    }
}

/// One record as a source hands it out.
#[derive(Debug)]
pub struct SourceRecord<'a> {
    /// The file it stands in.
    pub file: &'a SourceFile,
    /// Where in the file.
    pub locator: Locator,
    /// Where the reader stands after it.
    pub position: Position,
    /// What it holds.
    pub content: Content<'a>,
}

/// What a record holds.
#[derive(Debug)]
pub enum Content<'a> {
    /// Named columns.
    Columns {
        /// Names, in order; one and the same for all records of a reader.
        names: &'a Arc<[String]>,
        /// Values, in order.
        values: &'a [Value<'a>],
        /// The JSON document beside the record.
        companion: Option<&'a Json>,
    },
    /// A JSON element of a document.
    Json {
        /// The element.
        element: &'a Json,
        /// The whole document; of one that is read element by element, what stands beside the
        /// array of records, which is empty in it.
        root: &'a Json,
        /// The bytes of the element: of the document itself, or of the line.
        bytes: RawBytes<'a>,
    },
    /// A record that could not be read as what it should be.
    Broken {
        /// Its bytes.
        bytes: &'a [u8],
        /// Why.
        refusal: Refusal,
    },
    /// A document whose bytes another document of the stream already has.
    Duplicate {
        /// Path of the first.
        of: &'a str,
        /// Its bytes' SHA-256.
        sha256: &'a str,
    },
}

/// The bytes of a JSON element.
#[derive(Debug, Clone, Copy)]
pub enum RawBytes<'a> {
    /// They are at hand.
    Held(&'a [u8]),
    /// They are all of a large file, which is read again if they are asked for: hardly any is, and
    /// they would stand in memory beside what was made of them.
    OnDisk(&'a SourceFile),
}

impl<'a> RawBytes<'a> {
    /// The bytes; None if the file is no longer what it was, which ends the run elsewhere.
    #[must_use]
    pub fn get(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Held(bytes) => Some(Cow::Borrowed(bytes)),
            Self::OnDisk(file) => documents::unchanged(file).ok().map(Cow::Owned),
        }
    }
}

/// What a visitor wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next record.
    Continue,
    /// No more for now: the reader ends its read transaction and returns.
    Pause,
}

/// Receives records.
pub type Visitor<'v> = dyn FnMut(&SourceRecord<'_>) -> Result<Flow> + 'v;

/// The records of one stream from one source file (`SQLite`) or one set of files (documents).
#[derive(Debug)]
pub enum StreamSource {
    /// A table or view.
    Sqlite(Box<sqlite::TableSource>),
    /// Documents.
    Documents(documents::DocumentSource),
}

impl StreamSource {
    /// Visits the records after `from`; returns the position to go on from, or None at the end.
    ///
    /// It may return before the visitor pauses: a read that keeps a database's writers waiting is
    /// ended after 0.3 s.
    pub fn read(
        &mut self,
        from: Option<&Position>,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        self.read_range(from, None, visit)
    }

    /// Visits the records after `from` up to and including `to`; returns the position to go on
    /// from, or None when `to` or the end is reached. Only tables with a rowid have a `to`.
    pub fn read_range(
        &mut self,
        from: Option<&Position>,
        to: Option<&Position>,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Position>> {
        let next = match (self, to) {
            (Self::Sqlite(table), _) => table.read_range(from, to, visit)?,
            (Self::Documents(documents), None) => documents.read(from, visit)?,
            (Self::Documents(_), Some(_)) => {
                return Err(Error::new(ErrorKind::RunMismatch, "a document has no ranges")
                    .advice("start over with --restart"));
            }
        };
        Ok(next.filter(|next| to != Some(next)))
    }

    /// Name of the source in checkpoints: the file's path, or the patterns of a set of files.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Sqlite(table) => table.name(),
            Self::Documents(documents) => documents.name(),
        }
    }

    /// Another reader of the same records; None for documents, which one reader reads.
    pub fn reopen(&self) -> Result<Option<Self>> {
        match self {
            Self::Sqlite(table) => Ok(Some(Self::Sqlite(Box::new(table.reopen()?)))),
            Self::Documents(_) => Ok(None),
        }
    }

    /// The newest captured change of a `SQLite` file, as what is read from now on will have it;
    /// None: changes are not captured.
    pub fn capture_position(&self) -> Result<Option<i64>> {
        match self {
            Self::Sqlite(table) => table.capture_position(),
            Self::Documents(_) => Ok(None),
        }
    }

    /// About how many records there are, for progress.
    pub fn estimated_records(&self) -> u64 {
        match self {
            Self::Sqlite(table) => table.estimated_records(),
            Self::Documents(documents) => documents.estimated_records(),
        }
    }
}
