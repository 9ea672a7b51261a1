//! Questions about a `SQLite` file as a whole.

use crate::error::Result;
use crate::source::database::{Database, unreadable};

/// Rows whose foreign key leads nowhere, by `SQLite`'s own declarations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenReference {
    /// Table that declares the key.
    pub table: String,
    /// Table it leads to.
    pub parent: String,
    /// Rows without a counterpart.
    pub rows: u64,
}

impl Database {
    /// Counts the rows whose declared foreign keys lead nowhere; `SQLite` lets them in unless the
    /// application asked it not to. Errors where a declaration itself is wrong.
    pub fn broken_references(&self) -> Result<Vec<BrokenReference>> {
        let broken = |error| unreadable(self.path(), error);
        let mut statement = self
            .connection
            .prepare(
                "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check \
                 GROUP BY 1, 2 ORDER BY 1, 2",
            )
            .map_err(broken)?;
        let rows = statement
            .query_map([], |row| {
                Ok(BrokenReference {
                    table: row.get(0)?,
                    parent: row.get(1)?,
                    rows: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                })
            })
            .map_err(broken)?;
        rows.collect::<std::result::Result<_, _>>().map_err(broken)
    }
}
