//! What a `SQLite` file declares.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};

use super::tokens::{Declared, Token, declared, tokens};
use crate::error::Result;
use crate::source::sqlite::Database;
use crate::source::unreadable;

/// A file's tables, and what else it holds.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    /// Kind and name of what is not copied.
    pub(super) others: Vec<(&'static str, String)>,
}

/// One table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Positions of the primary key's columns.
    pub(super) primary_key: Vec<usize>,
    /// The primary key is the rowid, which `SQLite` gives out.
    pub(super) is_rowid_key: bool,
    /// The last number AUTOINCREMENT gave out.
    pub(super) given_out: Option<i64>,
    pub(super) indexes: Vec<Index>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    /// Name and expression.
    pub(super) checks: Vec<(Option<String>, Vec<Token>)>,
    /// The statement could not be read beyond what pragmas tell.
    pub(super) is_opaque: bool,
}

impl Table {
    pub(super) fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// The declared type, as written.
    pub(super) declared: String,
    pub(super) not_null: bool,
    /// The default, as written.
    pub(super) default: Option<String>,
    /// A generated column; its expression, if it is understood.
    #[expect(clippy::option_option, reason = "there is one, and it may not be understood")]
    pub(super) generated: Option<Option<Vec<Token>>>,
    /// `NOCASE`, `RTRIM` or an application's own; None: BINARY.
    pub(super) collation: Option<String>,
}

/// An index or a UNIQUE constraint.
#[derive(Debug)]
pub(super) struct Index {
    /// None: it belongs to a constraint.
    pub(super) name: Option<String>,
    pub(super) unique: bool,
    /// Its terms.
    pub(super) terms: Vec<Term>,
    /// The condition of a partial index; the inner None: not understood.
    #[expect(clippy::option_option, reason = "there is one, and it may not be understood")]
    pub(super) condition: Option<Option<Vec<Token>>>,
}

/// One term of an index.
#[derive(Debug)]
pub(super) struct Term {
    /// A column, or None for an expression.
    pub(super) column: Option<usize>,
    /// The expression, if it is understood.
    pub(super) expression: Option<Vec<Token>>,
    pub(super) descending: bool,
    pub(super) collation: String,
}

/// A foreign key.
#[derive(Debug)]
pub(super) struct ForeignKey {
    pub(super) columns: Vec<usize>,
    pub(super) parent: String,
    /// The parent's columns; none: its primary key.
    pub(super) parent_columns: Vec<String>,
    pub(super) on_update: String,
    pub(super) on_delete: String,
    pub(super) deferred: bool,
}

/// Reads what the file declares.
pub(super) fn read(database: &Database) -> Result<Schema> {
    schema(database.connection()).map_err(|error| unreadable(database.path(), error))
}

fn schema(connection: &Connection) -> rusqlite::Result<Schema> {
    let mut found = Schema::default();
    let mut list = connection.prepare(
        "SELECT l.name, l.type, l.wr, s.sql FROM pragma_table_list AS l \
         LEFT JOIN sqlite_schema AS s ON s.name = l.name AND s.type = 'table' \
         WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND l.name NOT LIKE 'toolkit\\_%' ESCAPE '\\' ORDER BY s.rowid, l.name",
    )?;
    let rows = list.query_map([], |row| {
        let sql: Option<String> = row.get(3)?;
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?, sql))
    })?;
    for row in rows {
        let (name, kind, without_rowid, sql) = row?;
        match kind.as_str() {
            "table" => found.tables.push(table(connection, name, without_rowid, sql.as_deref())?),
            "view" => found.others.push(("view", name)),
            "shadow" => found.others.push(("shadow table", name)),
            _ => found.others.push(("virtual table", name)),
        }
    }
    let mut triggers = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE \
                  'toolkit\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    for name in triggers.query_map([], |row| row.get::<_, String>(0))? {
        found.others.push(("trigger", name?));
    }
    Ok(found)
}

fn table(
    connection: &Connection,
    name: String,
    without_rowid: bool,
    sql: Option<&str>,
) -> rusqlite::Result<Table> {
    let read = sql.and_then(declared);
    let is_opaque = read.is_none();
    let said = read.unwrap_or_default();
    let (columns, primary_key) = columns(connection, &name, &said)?;
    let mut table = Table {
        is_rowid_key: false,
        given_out: None,
        indexes: Vec::new(),
        foreign_keys: Vec::new(),
        checks: said.checks,
        name,
        columns,
        primary_key,
        is_opaque,
    };
    let has_key_index = indexes(connection, &mut table)?;
    table.is_rowid_key = matches!(table.primary_key.as_slice(), [only]
        if table.columns[*only].declared.eq_ignore_ascii_case("INTEGER"))
        && !without_rowid
        && !has_key_index;
    if said.autoincrement {
        let given_out = connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [&table.name], |row| {
                row.get::<_, i64>(0)
            })
            .optional();
        table.given_out = Some(given_out.ok().flatten().unwrap_or(0));
    }
    foreign_keys(connection, &mut table, &said.deferred)?;
    Ok(table)
}

fn columns(
    connection: &Connection,
    table: &str,
    said: &Declared,
) -> rusqlite::Result<(Vec<Column>, Vec<usize>)> {
    let mut info = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) \
         WHERE hidden <> 1 ORDER BY cid",
    )?;
    let (mut found, mut key) = (Vec::new(), Vec::new());
    let mut rows = info.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, hidden): (String, i64) = (row.get(0)?, row.get(5)?);
        let own = |(column, _): &&(String, _)| column.eq_ignore_ascii_case(&name);
        let expression =
            said.generated.iter().find(|(column, _)| column.eq_ignore_ascii_case(&name));
        let collation = said.collations.iter().find(own).map(|(_, collation)| collation.clone());
        let rank: i64 = row.get(4)?;
        if rank > 0 {
            key.push((rank, found.len()));
        }
        // A generated column's type ends with what made it one.
        let declared: String = row.get(1)?;
        let declared = match declared.to_ascii_uppercase().find("GENERATED ALWAYS") {
            Some(at) => declared[..at].trim().to_owned(),
            None => declared,
        };
        found.push(Column {
            declared,
            not_null: row.get(2)?,
            default: row.get(3)?,
            generated: (hidden > 1).then(|| expression.map(|(_, tokens)| tokens.clone())),
            collation: collation.filter(|collation| collation != "BINARY"),
            name,
        });
    }
    key.sort_unstable();
    Ok((found, key.into_iter().map(|(_, at)| at).collect()))
}

/// Fills the indexes; whether one of them is the primary key's own.
fn indexes(connection: &Connection, table: &mut Table) -> rusqlite::Result<bool> {
    let mut list = connection.prepare(
        "SELECT l.name, l.\"unique\", l.origin, s.sql FROM pragma_index_list(?1) AS l \
         LEFT JOIN sqlite_schema AS s ON s.name = l.name AND s.type = 'index' ORDER BY l.seq DESC",
    )?;
    let listed: Vec<(String, bool, String, Option<String>)> = list
        .query_map([&table.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut has_key_index = false;
    for (name, unique, origin, sql) in listed {
        if origin == "pk" {
            has_key_index = true;
            continue;
        }
        let read = sql.as_deref().and_then(index_parts);
        let mut terms = Vec::new();
        let mut info = connection.prepare(
            "SELECT cid, name, \"desc\", coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno",
        )?;
        let mut rows = info.query([&name])?;
        while let Some(row) = rows.next()? {
            let column: Option<String> = row.get(1)?;
            let at = terms.len();
            let expression = read.as_ref().and_then(|read| read.terms.get(at).cloned());
            terms.push(Term {
                column: column.and_then(|column| table.column_index(&column)),
                expression,
                descending: row.get(2)?,
                collation: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            });
        }
        let is_partial = sql
            .as_deref()
            .and_then(tokens)
            .is_none_or(|tokens| tokens.iter().any(|token| token.is("WHERE")))
            && sql.is_some();
        let condition = is_partial.then(|| read.and_then(|read| read.condition));
        let name = (origin == "c").then_some(name);
        table.indexes.push(Index { name, unique, terms, condition });
    }
    Ok(has_key_index)
}

struct IndexParts {
    terms: Vec<Vec<Token>>,
    condition: Option<Vec<Token>>,
}

/// The terms and condition of a CREATE INDEX, terms without collation and direction.
fn index_parts(sql: &str) -> Option<IndexParts> {
    let all = tokens(sql)?;
    let open = all.iter().position(|token| *token == Token::Sign("("))?;
    let end = open + super::tokens::closing(&all[open..])?;
    let terms = super::tokens::parts(&all[open + 1..end]).into_iter().map(|term| {
        let is_end = |token: &Token| ["COLLATE", "ASC", "DESC"].iter().any(|word| token.is(word));
        let length = term.iter().position(is_end).unwrap_or(term.len());
        term[..length].to_vec()
    });
    let condition = match all.get(end + 1) {
        Some(token) if token.is("WHERE") => Some(all[end + 2..].to_vec()),
        _ => None,
    };
    Some(IndexParts { terms: terms.collect(), condition })
}

fn foreign_keys(
    connection: &Connection,
    table: &mut Table,
    deferred: &[bool],
) -> rusqlite::Result<()> {
    let mut list = connection.prepare(
        "SELECT id, \"table\", \"from\", \"to\", on_update, on_delete \
         FROM pragma_foreign_key_list(?1) ORDER BY id DESC, seq",
    )?;
    let mut by_id: BTreeMap<std::cmp::Reverse<i64>, ForeignKey> = BTreeMap::new();
    let mut rows = list.query([&table.name])?;
    while let Some(row) = rows.next()? {
        let (id, from): (i64, String) = (row.get(0)?, row.get(2)?);
        let entry = by_id.entry(std::cmp::Reverse(id)).or_insert(ForeignKey {
            columns: Vec::new(),
            parent: row.get(1)?,
            parent_columns: Vec::new(),
            on_update: row.get(4)?,
            on_delete: row.get(5)?,
            deferred: false,
        });
        entry.columns.extend(table.column_index(&from));
        entry.parent_columns.extend(row.get::<_, Option<String>>(3)?);
    }
    // Ids count from the last declared key back to the first.
    table.foreign_keys = by_id.into_values().collect();
    if table.foreign_keys.len() == deferred.len() {
        for (key, deferred) in table.foreign_keys.iter_mut().zip(deferred) {
            key.deferred = *deferred;
        }
    }
    Ok(())
}
