//! Reading what runs recorded: rejects and ledger entries; acknowledging and purging rejects.
//!
//! Backfill writes both tables; nothing here changes a record or an entry. Originals were redacted
//! before they were stored; what is read is redacted once more, so that a row written by another
//! hand shows no password either.

mod editable;
mod entries;
mod listing;
mod rejects;

pub use editable::{CorrectedLine, corrected_lines, editable};
pub use entries::{Entry, EntryGroup, EntryList, entry, list_entries};
pub use rejects::{
    Acknowledgement, Purge, Purged, Reject, RejectGroup, RejectList, Which, acknowledge,
    export_rejects, list_rejects, plan_acknowledgement, purge, reject,
};

use serde::Serialize;
use sqlx::PgConnection;

use crate::cast::redact::Redactor;
use crate::error::{Error, ErrorKind, Result};

/// States of a reject, as `toolkit.reject.state` has them.
pub const STATES: &[&str] = &["open", "acknowledged", "retried", "resolved"];

/// Which rows are wanted; None: all.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filter {
    /// Pack.
    pub pack: Option<String>,
    /// Stream.
    pub stream: Option<String>,
    /// Reason of a reject, rule of a ledger entry.
    pub reason: Option<String>,
    /// State of a reject.
    pub state: Option<String>,
}

/// Original bytes, as text where they are text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bytes {
    /// UTF-8.
    Text(String),
    /// Anything else, hexadecimal.
    Hex(String),
}

impl Bytes {
    /// Redacts and decodes stored bytes.
    fn of(stored: Vec<u8>) -> Self {
        // The keyed hash is thrown away, so the key does not matter.
        let redacted = Redactor::new([0; 32]).redact_text(&stored);
        let bytes = redacted.map_or(stored, |redacted| redacted.text);
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Hex(hex::encode(error.as_bytes())),
        }
    }
}

/// Refuses a database without the control schema, before a statement fails on it.
async fn require_tables(conn: &mut PgConnection) -> Result<()> {
    let is_there: bool = sqlx::query_scalar(
        "SELECT to_regclass('toolkit.reject') IS NOT NULL \
         AND to_regclass('toolkit.ledger') IS NOT NULL AND to_regclass('toolkit.run') IS NOT NULL",
    )
    .fetch_one(conn)
    .await?;
    if is_there {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Migration,
        "this database has no control schema `toolkit`: no run has ever recorded anything here",
    )
    .advice("check --database-url (or DATABASE_URL); `toolkit migrate up` makes the schema"))
}

fn not_there(what: &str, id: i64) -> Error {
    Error::new(ErrorKind::Usage, format!("there is no {what} {id}"))
}
