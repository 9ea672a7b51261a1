//! A pack compiled against a live database: typed plans that both backfill and parity follow.

use std::sync::Arc;

use crate::canonical::{Layout, fields_of};
use crate::cast::{ColumnCast, Refusal, Value};
use crate::derive::Corrections;
use crate::json::Json;
use crate::pack::manifest::ConflictRule;
use crate::pack::reverse::WayBack;
use crate::store::ServerSpelling;
use crate::store::catalog::{Column, Table};

/// A whole pack, ready to run.
#[derive(Debug)]
pub struct PackPlan {
    /// The pack's name.
    pub name: String,
    /// The pack's version.
    pub version: i32,
    /// SHA-256 of `pack.toml`, line endings normalised.
    pub fingerprint: String,
    /// Streams in the order they are copied.
    pub streams: Vec<StreamPlan>,
    /// Slices of target tables that are compared as one.
    pub units: Vec<Unit>,
}

impl PackPlan {
    /// Position of a stream by name.
    #[must_use]
    pub fn stream_index(&self, name: &str) -> Option<usize> {
        self.streams.iter().position(|stream| stream.name == name)
    }
}

/// One stream.
#[derive(Debug)]
pub struct StreamPlan {
    /// Unique name.
    pub name: String,
    /// Where its records come from.
    pub source: SourceKind,
    /// Computes further fields of a record.
    pub compute: Option<ComputeFn>,
    /// Name pattern of a JSON document beside the record; braces name source columns.
    pub companion: Option<String>,
    /// The rows a record becomes; the first output is the record itself.
    pub outputs: Vec<OutputPlan>,
    /// Refused records that were stored corrected.
    pub corrections: Corrections,
    /// Spells the values of types that are known only as text.
    pub spelling: Option<Arc<ServerSpelling>>,
    /// How its records are written back after the cutover.
    pub way_back: WayBack,
}

impl StreamPlan {
    /// Positions of its outputs in the order they are derived and written: mentions first.
    #[must_use]
    pub fn writing_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.outputs.len()).collect();
        order.sort_by_key(|at| !self.outputs[*at].mention);
        order
    }

    /// What its outputs ask of a document as a whole (`^/...`), as pointers into it.
    #[must_use]
    pub fn root_pointers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for output in &self.outputs {
            let columns = output.columns.iter().flat_map(|column| &column.from);
            let skip = output.skip.as_ref().map(|(from, _)| from);
            for from in columns.chain(&output.each).chain(&output.when).chain(skip) {
                if let From::Pointer { scope: Scope::Root, pointer } = from {
                    found.push(pointer.clone());
                }
            }
        }
        found
    }
}

/// Computes fields of a record that a pointer cannot reach, or says why the record is none. A record
/// with columns comes as an object of them.
pub type ComputeFn = fn(&Json) -> std::result::Result<Json, Refusal>;

/// What a stream reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A table or view of one `SQLite` file.
    Sqlite {
        /// Accepted file names, newest first.
        files: Vec<String>,
        /// Table or view.
        table: String,
    },
    /// JSON documents, one a file, or an array of records inside each.
    Json {
        /// File name patterns.
        patterns: Vec<String>,
        /// Pointer to the array of records.
        records: Option<String>,
    },
    /// One JSON record a line.
    Jsonl {
        /// File name patterns.
        patterns: Vec<String>,
    },
    /// CSV with a header.
    Csv {
        /// File name patterns.
        patterns: Vec<String>,
    },
}

/// One target of a stream.
#[derive(Debug)]
pub struct OutputPlan {
    /// Unique within the stream.
    pub name: String,
    /// The target.
    pub table: Arc<Table>,
    /// Written columns, in tuple order.
    pub columns: Vec<PlannedColumn>,
    /// Positions of the key columns.
    pub key: Vec<usize>,
    /// What happens when the target holds another row under the key.
    pub conflict: ConflictRule,
    /// Position of the column that says which is newer.
    pub by: Option<usize>,
    /// One row per element of this array or object.
    pub each: Option<From>,
    /// No row unless this is present and not empty.
    pub when: Option<From>,
    /// No row, and a ledger entry under the rule, if this is missing or empty.
    pub skip: Option<(From, String)>,
    /// A row that many records name: stored once, before them and whatever becomes of them.
    pub mention: bool,
    /// Canonical form of a row.
    pub layout: Layout,
    /// Constant key columns as (position, Postgres text): the stream's slice of the table.
    pub constants: Vec<(usize, String)>,
    /// The target has no key: a row is known by all it holds, and may be there several times.
    pub is_content: bool,
    /// Positions of the columns of foreign keys that become NULL where they lead to no row.
    pub orphan_null: Vec<usize>,
    /// Whether a unique key of the target is covered by the plan's key.
    pub key_is_unique: bool,
    /// Position in [`PackPlan::units`].
    pub unit: usize,
}

impl OutputPlan {
    /// Column names in tuple order.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Catalog entry of a planned column.
    #[must_use]
    pub fn catalog_column(&self, position: usize) -> Option<&Column> {
        self.table.column(&self.columns[position].name)
    }
}

/// One written column.
#[derive(Debug)]
pub struct PlannedColumn {
    /// Target column.
    pub name: String,
    /// Where its value comes from: the first that is not NULL.
    pub from: Vec<From>,
    /// How it is converted.
    pub cast: ColumnCast,
    /// The encoded COPY field of a constant.
    pub constant: Option<Vec<u8>>,
    /// What it was computed from: where that is another text, the ledger keeps it.
    pub original: Option<From>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A column of a `SQLite` or CSV record, by name.
    Column(String),
    /// A JSON pointer.
    Pointer {
        /// Into what.
        scope: Scope,
        /// RFC 6901; empty is the whole.
        pointer: String,
    },
    /// A fact about the source file.
    Meta(Meta),
}

impl std::fmt::Display for From {
    /// As it is written in `pack.toml`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Column(name) => f.write_str(&crate::pack::reference::to_column(name)),
            Self::Pointer { scope: Scope::Element, pointer } => f.write_str(pointer),
            Self::Pointer { scope: Scope::Root, pointer } => write!(f, "^{pointer}"),
            Self::Pointer { scope: Scope::Computed, pointer } => write!(f, "+{pointer}"),
            Self::Meta(Meta::FileSha256) => f.write_str("@sha256"),
            Self::Meta(Meta::FilePath) => f.write_str("@path"),
            Self::Meta(Meta::FileName) => f.write_str("@name"),
            Self::Meta(Meta::ElementKey) => f.write_str("@key"),
        }
    }
}

/// What a pointer points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The element at hand (`/a`); the document itself outside `each`.
    Element,
    /// The whole document, or the companion of a record (`^/a`).
    Root,
    /// The computed fields (`+/a`).
    Computed,
}

/// Facts about a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// SHA-256 of the file's bytes, hexadecimal.
    FileSha256,
    /// Path below the source folder, with forward slashes.
    FilePath,
    /// File name.
    FileName,
    /// Key of the object member, or 0-based position, of the element at hand.
    ElementKey,
}

/// A slice of a target table: all rows with these constants, fed by one or more outputs.
#[derive(Debug)]
pub struct Unit {
    /// For people: `workflow.run_records[record_kind=step]`.
    pub name: String,
    /// The target.
    pub table: Arc<Table>,
    /// Constants that mark the slice, as (column, Postgres text).
    pub constants: Vec<(String, String)>,
    /// The outputs that feed it, as (stream, output) positions in copy order.
    pub feeds: Vec<(usize, usize)>,
    /// What retention removed of its table: such rows are compared no more, on either side.
    pub removed: Vec<RemovedBefore>,
}

/// Retention removed the rows whose column is before a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedBefore {
    /// A column of time.
    pub column: String,
    /// The moment, as Postgres prints a timestamptz in UTC.
    pub cutoff: String,
    /// The same in microseconds since 2000-01-01T00:00:00Z, as Postgres sends it.
    pub cutoff_micros: i64,
}

impl RemovedBefore {
    /// Whether a row of `output`, as COPY fields, is one of those that are removed.
    #[must_use]
    pub fn covers(&self, output: &OutputPlan, tuple: &[u8]) -> bool {
        const DAY_MICROS: i64 = 86_400_000_000;
        let at = output.columns.iter().position(|column| column.name == self.column);
        let Some(at) = at else { return false };
        let Some(range) = fields_of(tuple).get(at).cloned().flatten() else { return false };
        // timestamp and timestamptz have eight bytes of microseconds, date four of days.
        let value = tuple.get(range).unwrap_or_default();
        let micros = if let Ok(bytes) = <[u8; 8]>::try_from(value) {
            i64::from_be_bytes(bytes)
        } else if let Ok(bytes) = <[u8; 4]>::try_from(value) {
            match i32::from_be_bytes(bytes) {
                i32::MAX => i64::MAX,
                i32::MIN => i64::MIN,
                days => i64::from(days).saturating_mul(DAY_MICROS),
            }
        } else {
            return false;
        };
        micros < self.cutoff_micros
    }
}

/// The values of one record, whatever its source.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// Columns of a `SQLite` or CSV record, in the order of their names.
    Columns {
        /// Names, in order.
        names: &'a [String],
        /// Values, in order.
        values: &'a [Value<'a>],
        /// The JSON document beside the record, if there is one.
        companion: Option<&'a Json>,
    },
    /// A JSON element.
    Json {
        /// The element.
        element: &'a Json,
        /// The document it stands in.
        root: &'a Json,
    },
}
