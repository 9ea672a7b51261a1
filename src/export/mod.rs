//! Postgres to a portable archive, and back.
//!
//! An archive is a folder:
//!
//! ```text
//! manifest.json            what it is, written last: a folder without it is no archive
//! SHA256SUMS               of every other file; `sha256sum -c SHA256SUMS` checks it too
//! data/001-SCHEMA.TABLE.jsonl, .csv     a file a table, rows in key order
//! data/archive.sqlite      instead of those: a table a table, and beside it
//! origin/pack.toml         the mapping, while pack/ has that file for its source
//! pack/pack.toml           the mapping
//! pack/V1__*.sql ...       the migrations
//! sidecar/*                a sidecar, where one was given
//! ```
//!
//! Values are the text of Postgres's own output functions in pinned sessions (UTC, ISO, exact
//! floats), so that they come back as they were, the scale of a numeric included. Rows are in the
//! order of the table's key, text by its bytes; nothing of time or place is written: equal data
//! gives equal bytes. Columns that are generated are left out, and computed again on import.
//!
//! [`write`] reads everything in one snapshot and keeps, when it is run again, the files of tables
//! that did not change. [`read`] checks every file before the first write.

mod csv;
mod jsonl;
mod load;
mod manifest;
mod order;
mod read;
mod rows;
mod source_pack;
mod sqlite;
mod tables;
mod verify;
mod write;

pub use manifest::{
    ARCHIVE_VERSION, ColumnFacts, DataFormat, FileFacts, MANIFEST, Manifest, MigrationFacts,
    PackFacts, SUMS, SequenceFacts, TableFacts,
};
pub use read::{Action, ImportOptions, Imported, ImportedTable, import};
pub use verify::{Archive, open};
pub use write::{ExportOptions, Exported, ExportedTable, export};

pub(crate) use tables::{Held, Sheet, of_pack as tables_of_pack};

/// What long work says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It begins with a table of so many rows.
    Table {
        /// `schema.table`
        name: String,
        /// Its rows.
        rows: u64,
    },
    /// So many more rows are done.
    Rows(u64),
    /// The table is done.
    Done,
}

/// Who is told.
pub type Listener<'l> = dyn Fn(Event) + Sync + 'l;

/// Rows between two events.
const ROWS_PER_EVENT: u64 = 1_000;
