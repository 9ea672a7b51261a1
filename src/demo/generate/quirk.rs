//! What was planted, where, and what a migration has to make of it.

/// What a planted record or value has to become under the default policies (refuse what the
/// target cannot hold).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Stored as it is.
    Stored,
    /// Stored, with a ledger entry for what was changed or left out.
    Ledgered,
    /// Not stored, and kept whole as a reject.
    Rejected,
    /// Not stored because a rule says so, with a ledger entry that names the rule.
    Skipped,
}

/// One planted peculiarity.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quirk {
    /// Stable name, as `nul_in_text`.
    pub name: &'static str,
    /// The file below the generated folder, with `/` as separator.
    pub file: String,
    /// The `SQLite` table; None for a JSON file.
    pub table: Option<&'static str>,
    /// The row's `rowid`; None for a JSON file.
    pub rowid: Option<i64>,
    /// The record's key: primary key columns joined by `/` (a NULL one is empty), or a run id.
    pub key: String,
    /// The column, or the JSON pointer inside the file; None for the record or file as a whole.
    pub field: Option<String>,
    /// What has to become of it.
    pub outcome: Outcome,
}

impl Quirk {
    /// A quirk of a JSON file as a whole.
    pub(super) fn of_file(
        name: &'static str,
        file: String,
        run_id: &str,
        outcome: Outcome,
    ) -> Self {
        Self { name, file, table: None, rowid: None, key: run_id.to_owned(), field: None, outcome }
    }

    /// The same, at a JSON pointer.
    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.field = Some(pointer.into());
        self
    }
}
