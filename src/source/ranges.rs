//! Ranges of a `SQLite` table: where to split it, and which of its columns tell rows apart.

use std::collections::BinaryHeap;

use rusqlite::OptionalExtension as _;
use rusqlite::types::Value as Stored;

use crate::cast::Value;
use crate::error::Result;
use crate::source::database::unreadable;
use crate::source::sqlite::{RowOrder, TableSource, value_of};
use crate::store::quote_ident;

/// Rows looked at on either end of a segment to guess how densely its rowids lie.
const SAMPLE_ROWS: u32 = 32;

/// Segments looked at per part: more make the parts more equal.
const SEGMENTS_PER_PART: usize = 8;

/// Values of a key read at once, so that no writer waits for long.
const KEYS_AT_ONCE: u32 = 20_000;

/// Rowids from the first to the last that is there, and about how many there are. Ordered by
/// that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    rows: u64,
    first: i64,
    last: i64,
}

impl TableSource {
    /// Another reader of the same rows.
    pub fn reopen(&self) -> Result<Self> {
        Ok(Self {
            database: self.database.reopen()?,
            shape: self.shape.clone(),
            holds_rows: false,
            blocks_writers: self.blocks_writers,
        })
    }

    /// Size of the file when it was found.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shape.file.size_bytes
    }

    /// The column that is the rowid (INTEGER PRIMARY KEY), so that no value occurs twice.
    pub fn integer_key(&self) -> Result<Option<String>> {
        if !matches!(self.shape.order, RowOrder::Rowid(_)) {
            return Ok(None);
        }
        let keys = self.database.strings(
            "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 AND upper(type) = 'INTEGER' \
             AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 1) \
             AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
            [&self.shape.table],
        )?;
        Ok(keys.into_iter().next())
    }

    /// Whether `column` alone is a unique key of the table, NULLs aside, kept in UTF-8.
    pub fn has_unique(&self, column: &str) -> Result<bool> {
        let keys = self.database.strings(
            "SELECT i.name FROM pragma_index_list(?1) AS l, pragma_index_info(l.name) AS i \
             WHERE l.\"unique\" = 1 AND l.partial = 0 \
             AND (SELECT count(*) FROM pragma_index_info(l.name)) = 1 AND i.name IS NOT NULL",
            [&self.shape.table],
        )?;
        Ok(keys.iter().any(|key| key.eq_ignore_ascii_case(column))
            && self.database.strings("PRAGMA encoding", [])? == ["UTF-8"])
    }

    /// Whether all values of a unique column but NULL are such as `is_fit` wants them.
    pub fn all_values(
        &self,
        column: &str,
        is_fit: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> Result<bool> {
        let failed = |error| unreadable(self.database.path(), error);
        let (column, table) = (quote_ident(column), quote_ident(&self.shape.table));
        let mut last = None;
        loop {
            // By the index's own collation and order: under it no two values are equal.
            let after = if last.is_some() { "> ?1" } else { "IS NOT NULL AND ?1 IS NULL" };
            let sql = format!(
                "SELECT {column} FROM {table} WHERE {column} {after} ORDER BY {column} \
                 LIMIT {KEYS_AT_ONCE}"
            );
            let mut statement = self.database.connection.prepare_cached(&sql).map_err(failed)?;
            let mut rows = statement.query([&last]).map_err(failed)?;
            let mut found = 0;
            let mut newest = None;
            while let Some(row) = rows.next().map_err(failed)? {
                found += 1;
                if !is_fit(value_of(row.get_ref(0).map_err(failed)?)) {
                    return Ok(false);
                }
                if found == KEYS_AT_ONCE {
                    newest = Some(row.get::<_, Stored>(0).map_err(failed)?);
                }
            }
            if newest.is_none() {
                return Ok(true);
            }
            last = newest;
        }
    }

    /// The greatest rowid; None where there are no rows, or none with a rowid to be found by.
    pub fn last_rowid(&self) -> Result<Option<i64>> {
        let RowOrder::Rowid(alias) = self.shape.order else { return Ok(None) };
        Probe { source: self, alias }.at("", "DESC")
    }

    /// Splits the rows into at most `parts` ranges of about as many rows each; returns the last
    /// rowid of every range but the last. None where rows have no rowid to be found by.
    ///
    /// Reads a few hundred short stretches, never the whole table: a range is halved by value
    /// and shrunk to the rowids that are there, so that gaps cost nothing.
    pub fn split(&self, parts: usize) -> Result<Option<Vec<i64>>> {
        let RowOrder::Rowid(alias) = self.shape.order else { return Ok(None) };
        let probe = Probe { source: self, alias };
        let (Some(first), Some(last)) = (probe.at("", "ASC")?, probe.at("", "DESC")?) else {
            return Ok(Some(Vec::new()));
        };
        let mut whole: BinaryHeap<Segment> = BinaryHeap::from([probe.segment(first, last)?]);
        while whole.len() < parts.saturating_mul(SEGMENTS_PER_PART) {
            let Some(widest) = whole.pop() else { break };
            if widest.first == widest.last {
                whole.push(widest);
                break;
            }
            // The sum of two i64 fits in i128; the middle lies below the last.
            let middle = i64::try_from((i128::from(widest.first) + i128::from(widest.last)) >> 1)
                .unwrap_or(widest.first);
            let below = probe.at(&format!("<= {middle}"), "DESC")?.unwrap_or(widest.first);
            let above = probe.at(&format!("> {middle}"), "ASC")?.unwrap_or(widest.last);
            whole.push(probe.segment(widest.first, below)?);
            whole.push(probe.segment(above, widest.last)?);
        }
        let mut segments = whole.into_vec();
        segments.sort_unstable_by_key(|segment| segment.first);
        Ok(Some(ends_of_parts(&segments, parts)))
    }
}

/// The last rowid of each of `parts` groups of neighbours but the last group's.
fn ends_of_parts(segments: &[Segment], parts: usize) -> Vec<i64> {
    let total: u128 = segments.iter().map(|segment| u128::from(segment.rows)).sum();
    let (mut seen, mut filled, mut ends) = (0, 0, Vec::new());
    let Some((_, but_last)) = segments.split_last() else { return ends };
    for segment in but_last {
        seen += u128::from(segment.rows);
        let now_filled = seen * parts as u128 / total.max(1);
        if now_filled > filled {
            filled = now_filled;
            ends.push(segment.last);
        }
    }
    ends
}

/// Looks rowids up.
struct Probe<'a> {
    source: &'a TableSource,
    alias: &'static str,
}

impl Probe<'_> {
    /// The first rowid, in this order, that meets the condition.
    fn at(&self, condition: &str, order: &str) -> Result<Option<i64>> {
        let (alias, table) = (self.alias, quote_ident(&self.source.shape.table));
        let within =
            if condition.is_empty() { String::new() } else { format!("WHERE {alias} {condition}") };
        let sql = format!("SELECT {alias} FROM {table} {within} ORDER BY {alias} {order} LIMIT 1");
        let connection = &self.source.database.connection;
        connection
            .query_row(&sql, [], |row| row.get(0))
            .optional()
            .map_err(|error| unreadable(self.source.database.path(), error))
    }

    /// A segment, its rows guessed from how densely they lie at its ends.
    fn segment(&self, first: i64, last: i64) -> Result<Segment> {
        let width = last.abs_diff(first);
        let mut rows = u64::from(first != last) + 1;
        for order in ["ASC", "DESC"] {
            let (alias, table) = (self.alias, quote_ident(&self.source.shape.table));
            let sql = format!(
                "SELECT count(*), min(id), max(id) FROM (SELECT {alias} AS id FROM {table} \
                 WHERE {alias} BETWEEN ?1 AND ?2 ORDER BY {alias} {order} LIMIT {SAMPLE_ROWS})"
            );
            let connection = &self.source.database.connection;
            let (seen, low, high): (i64, i64, i64) = connection
                .query_row(&sql, [first, last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .map_err(|error| unreadable(self.source.database.path(), error))?;
            let seen = seen.unsigned_abs();
            if seen < u64::from(SAMPLE_ROWS) {
                return Ok(Segment { rows: seen, first, last });
            }
            let dense =
                u128::from(seen) * (u128::from(width) + 1) / (u128::from(high.abs_diff(low)) + 1);
            rows = rows.max(u64::try_from(dense).unwrap_or(u64::MAX));
        }
        Ok(Segment { rows, first, last })
    }
}
