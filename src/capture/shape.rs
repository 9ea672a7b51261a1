//! What a captured table looks like: what its rows are known by, and what can evict them.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::index_text;
use crate::error::{Error, ErrorKind, Result};

/// A table of a `SQLite` file as capture sees it.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Its name, spelt as in the schema.
    pub(super) name: String,
    /// What a row is known by.
    pub(super) identity: Identity,
    /// Columns that can be read, generated ones included.
    pub(super) columns: Vec<String>,
    /// Its unique indexes.
    pub(super) unique: Vec<UniqueIndex>,
}

/// What a row of a table is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The rowid, by this name; `column` is the INTEGER PRIMARY KEY that keeps it from changing.
    Rowid {
        /// `rowid`, `_rowid_` or `oid`: one that no column has.
        alias: String,
        /// The column that is the rowid.
        column: Option<String>,
    },
    /// The primary key of a WITHOUT ROWID table.
    Key {
        /// Its columns, in key order.
        columns: Vec<String>,
    },
}

impl Identity {
    /// Names under which it is read.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Rowid { alias, .. } => vec![alias.clone()],
            Self::Key { columns } => columns.clone(),
        }
    }

    /// How a column of it is written in SQL: aliases of the rowid must not be quoted.
    pub(super) fn sql(&self, name: &str) -> String {
        match self {
            Self::Rowid { alias, .. } if alias == name => alias.clone(),
            _ => crate::store::quote_ident(name),
        }
    }
}

/// A unique index.
#[derive(Debug, Clone)]
pub(super) struct UniqueIndex {
    pub(super) terms: Vec<Term>,
    /// The condition of a partial one.
    pub(super) condition: Option<String>,
}

/// A term of an index, with its collation.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) of: TermOf,
    pub(super) collation: String,
}

/// What a term is.
#[derive(Debug, Clone)]
pub(super) enum TermOf {
    Column(String),
    Expression(String),
}

impl Shape {
    /// Reads the shape of `table`.
    ///
    /// Errors: a view, a virtual table, a table whose rows nothing tells apart.
    pub(super) fn read(connection: &Connection, file: &str, table: &str) -> Result<Self> {
        let found = connection.query_row(
            "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' \
             AND name = ?1 COLLATE NOCASE",
            [table],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?)),
        );
        let (name, kind, without_rowid) = match found {
            Ok(found) => found,
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                return Err(Error::new(
                    ErrorKind::SourceMissing,
                    format!("{file} has no table `{table}`"),
                ));
            }
            Err(error) => return Err(super::log::failed(file, error)),
        };
        if kind != "table" {
            let detail = format!("{file}: {name} is a {kind}; changes are captured in tables only");
            return Err(Error::new(ErrorKind::Pack, detail).advice(
                "let the stream read the table behind it, or leave the stream out of the pack and \
                 copy it once more with --stream while the application stands still",
            ));
        }
        let texts = |sql: &str| -> Result<Vec<String>> {
            let mut statement = connection.prepare(sql).map_err(|e| super::log::failed(file, e))?;
            let rows = statement.query_map([&name], |row| row.get(0));
            let rows = rows.map_err(|e| super::log::failed(file, e))?;
            rows.collect::<Result<_, _>>().map_err(|e| super::log::failed(file, e))
        };
        let columns =
            texts("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?;
        let identity = if without_rowid {
            let key = "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk";
            Identity::Key { columns: texts(key)? }
        } else {
            let column = texts(
                "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 AND upper(type) = 'INTEGER' \
                 AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 1) \
                 AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
            )?;
            let free = ["rowid", "_rowid_", "oid"]
                .into_iter()
                .find(|alias| !columns.iter().any(|column| column.eq_ignore_ascii_case(alias)));
            let Some(alias) = free else {
                let detail = format!(
                    "{file}: table {name} has columns called rowid, _rowid_ and oid, so that its \
                     rows cannot be found again"
                );
                return Err(Error::new(ErrorKind::Pack, detail).advice("rename one of them"));
            };
            Identity::Rowid { alias: alias.to_owned(), column: column.into_iter().next() }
        };
        let unique = unique_indexes(connection, file, &name)?;
        Ok(Self { name, identity, columns, unique })
    }
}

fn unique_indexes(connection: &Connection, file: &str, table: &str) -> Result<Vec<UniqueIndex>> {
    let failed = |error| super::log::failed(file, error);
    let mut statement = connection
        .prepare(
            "SELECT l.name, s.sql FROM pragma_index_list(?1) AS l \
             LEFT JOIN sqlite_schema AS s ON s.type = 'index' AND s.name = l.name \
             WHERE l.\"unique\" = 1 ORDER BY l.seq DESC",
        )
        .map_err(failed)?;
    let names: Vec<(String, Option<String>)> = statement
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let mut found = Vec::new();
    for (name, sql) in names {
        let text = sql.as_deref().and_then(index_text::parse).unwrap_or_default();
        let mut statement = connection
            .prepare(
                "SELECT name, coll FROM pragma_index_xinfo(?1) WHERE \"key\" = 1 ORDER BY seqno",
            )
            .map_err(failed)?;
        let rows: Vec<(Option<String>, String)> = statement
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(failed)?;
        let terms = rows.into_iter().enumerate().map(|(at, (column, collation))| {
            let of = match column {
                Some(column) => TermOf::Column(column),
                None => TermOf::Expression(text.terms.get(at).cloned().unwrap_or_default()),
            };
            Term { of, collation }
        });
        found.push(UniqueIndex { terms: terms.collect(), condition: text.condition });
    }
    Ok(found)
}
