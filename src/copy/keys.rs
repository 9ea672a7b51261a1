//! Keys, indexes and references: which of them Postgres can have, and which rows stand in the way.

use std::collections::BTreeSet;

use super::Dangling;
use super::expression::{self, Kind, Known};
use super::make::Drafted;
use super::names::Names;
use super::schema::{Index, Schema};
use super::tokens::Token;
use crate::cast::PgType;
use crate::error::Result;
use crate::preflight::grouped;
use crate::source::sqlite::Database;
use crate::source::unreadable;
use crate::store::{quote_ident, quote_qualified};

/// Columns of an index at most (`INDEX_MAX_KEYS`).
pub(super) const KEY_COLUMNS_MAX: usize = 32;

/// Bytes of an indexed text that always fit (a third of a page, less what may not compress).
const INDEXED_BYTES_MAX: u64 = 2_600;

/// A foreign key with both ends found.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) table: usize,
    pub(super) columns: Vec<usize>,
    pub(super) parent: usize,
    pub(super) parent_columns: Vec<usize>,
    /// Position in the table's own list.
    pub(super) at: usize,
}

/// Finds both ends of every foreign key; the others in words, by table.
pub(super) fn references(schema: &Schema) -> (Vec<Reference>, Vec<(usize, String)>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for (table, child) in schema.tables.iter().enumerate() {
        for (at, key) in child.foreign_keys.iter().enumerate() {
            let names: Vec<&str> =
                key.columns.iter().map(|at| child.columns[*at].name.as_str()).collect();
            let what = format!("foreign key ({}) to {}", names.join(", "), key.parent);
            let parent = schema
                .tables
                .iter()
                .position(|parent| parent.name.eq_ignore_ascii_case(&key.parent));
            let Some(parent) = parent else {
                lost.push((table, format!("{what} left out: that table is not copied")));
                continue;
            };
            let other = &schema.tables[parent];
            let parent_columns: Option<Vec<usize>> = if key.parent_columns.is_empty() {
                Some(other.primary_key.clone())
            } else {
                key.parent_columns.iter().map(|name| other.column_index(name)).collect()
            };
            match parent_columns {
                Some(parent_columns)
                    if parent_columns.len() == key.columns.len() && !parent_columns.is_empty() =>
                {
                    let columns = key.columns.clone();
                    found.push(Reference { table, columns, parent, parent_columns, at });
                }
                _ => lost.push((table, format!("{what} left out: its columns do not match"))),
            }
        }
    }
    (found, lost)
}

/// Rows of the child whose reference leads to no row that Postgres would call equal.
pub(super) fn dangling(database: &Database, schema: &Schema, reference: &Reference) -> Result<u64> {
    let (child, parent) = (&schema.tables[reference.table], &schema.tables[reference.parent]);
    let pairs = reference.columns.iter().zip(&reference.parent_columns);
    let equal: Vec<String> = pairs
        .map(|(mine, theirs)| {
            let theirs = quote_ident(&parent.columns[*theirs].name);
            let mine = quote_ident(&child.columns[*mine].name);
            format!("p.{theirs} = c.{mine} COLLATE BINARY")
        })
        .collect();
    let given: Vec<String> = reference
        .columns
        .iter()
        .map(|at| format!("c.{} IS NOT NULL", quote_ident(&child.columns[*at].name)))
        .collect();
    let statement = format!(
        "SELECT count(*) FROM {} AS c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
        quote_ident(&child.name),
        given.join(" AND "),
        quote_ident(&parent.name),
        equal.join(" AND ")
    );
    let rows = database
        .connection()
        .query_row(&statement, [], |row| row.get::<_, i64>(0))
        .map_err(|error| unreadable(database.path(), error))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// The statement of an index, or why it is left out.
pub(super) fn index(
    drafted: &Drafted<'_>,
    index: &Index,
    qualified: &str,
    names: &mut Names,
) -> std::result::Result<String, String> {
    let table = drafted.table;
    let shown = index.name.clone().unwrap_or_else(|| "UNIQUE constraint".to_owned());
    let left_out = |why: String| format!("{shown} left out: {why}");
    if index.terms.len() > KEY_COLUMNS_MAX {
        return Err(left_out(format!("more than {KEY_COLUMNS_MAX} columns")));
    }
    let known = drafted.known();
    let mut terms = Vec::new();
    for term in &index.terms {
        let sql = match (term.column, &term.expression) {
            (Some(at), _) => column_term(drafted, at, &term.collation),
            (None, Some(tokens)) => expression_term(tokens, &term.collation, &known),
            (None, None) => Err("its expression is not understood".to_owned()),
        };
        let order = if term.descending { " DESC" } else { "" };
        terms.push(sql.map_err(left_out)? + order);
    }
    let condition = match &index.condition {
        None => String::new(),
        Some(None) => return Err(left_out("its condition is not understood".to_owned())),
        Some(Some(tokens)) => {
            let condition = expression::condition(tokens, &known)
                .map_err(|why| left_out(format!("WHERE {}: {why}", expression::text(tokens))))?;
            format!(" WHERE {condition}")
        }
    };
    let instead = format!("{}_idx", drafted.target);
    let name = names.give(index.name.as_deref().unwrap_or(&instead), &instead);
    let unique = if index.unique { "UNIQUE " } else { "" };
    debug_assert!(!table.columns.is_empty());
    Ok(format!(
        "CREATE {unique}INDEX {} ON {qualified} ({}){condition};",
        quote_ident(&name),
        terms.join(", ")
    ))
}

fn column_term(drafted: &Drafted<'_>, at: usize, collation: &str) -> Result2 {
    let (choice, census) = (&drafted.choices[at], &drafted.evidence[at].census);
    let name = &drafted.table.columns[at].name;
    let is_varied = matches!(choice.ty, PgType::Text(_) | PgType::Bytea | PgType::Jsonb);
    if let Some((_, longest)) = census.text.bytes.filter(|_| is_varied)
        && longest > INDEXED_BYTES_MAX
    {
        return Err(format!(
            "values of {name} have up to {} bytes, more than a B-tree holds",
            grouped(longest)
        ));
    }
    let sql = quote_ident(&drafted.names[at]);
    match collation.to_ascii_uppercase().as_str() {
        "BINARY" | "" => Ok(sql),
        _ if !matches!(choice.ty, PgType::Text(_)) => Ok(sql),
        // SQLite's NOCASE knows the 26 letters of ASCII, and so does "C".
        "NOCASE" => Ok(format!("lower({sql} COLLATE \"C\")")),
        other => Err(format!("there is no collation {other} in Postgres")),
    }
}

type Result2 = std::result::Result<String, String>;

fn expression_term(tokens: &[Token], collation: &str, known: &[Known]) -> Result2 {
    let why = |why: String| format!("({}): {why}", expression::text(tokens));
    let typed = expression::value(tokens, known).map_err(why)?;
    if !["BINARY", ""].contains(&collation.to_ascii_uppercase().as_str()) {
        return Err(format!("({}) has the collation {collation}", expression::text(tokens)));
    }
    if matches!(typed.kind, Kind::Null) {
        return Err("it indexes NULL".to_owned());
    }
    Ok(format!("({})", typed.sql))
}

/// Which tables can be reached from which over references; a table reaches itself only in a circle.
pub(super) fn reach(tables: usize, references: &[Reference]) -> Vec<BTreeSet<usize>> {
    let mut reached: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); tables];
    for (start, found) in reached.iter_mut().enumerate() {
        let mut next = vec![start];
        while let Some(table) = next.pop() {
            for reference in references.iter().filter(|reference| reference.table == table) {
                if found.insert(reference.parent) {
                    next.push(reference.parent);
                }
            }
        }
    }
    reached
}

/// What a reference becomes.
pub(super) struct Kept {
    /// `ALTER TABLE ... ADD ...`
    pub(super) statement: String,
    /// Columns that become NULL where they lead nowhere.
    pub(super) orphan_null: bool,
}

/// The statement of a foreign key; the error says why it is left out.
pub(super) fn foreign_key(
    drafts: &[Drafted<'_>],
    reference: &Reference,
    is_circle: bool,
    orphans: u64,
    dangling: Dangling,
    schema: &str,
    names: &mut Names,
) -> std::result::Result<(Kept, Option<String>), String> {
    let (child, parent) = (&drafts[reference.table], &drafts[reference.parent]);
    let key = &child.table.foreign_keys[reference.at];
    let columns = |draft: &Drafted<'_>, at: &[usize]| -> Vec<String> {
        at.iter().map(|at| quote_ident(&draft.names[*at])).collect()
    };
    let (mine, theirs) =
        (columns(child, &reference.columns), columns(parent, &reference.parent_columns));
    let what = format!("foreign key ({}) to {}", mine.join(", "), parent.target);
    let are_alike = reference
        .columns
        .iter()
        .zip(&reference.parent_columns)
        .all(|(mine, theirs)| child.choices[*mine].ty == parent.choices[*theirs].ty);
    if !are_alike {
        return Err(format!("{what} left out: its columns have different types"));
    }
    let wanted: BTreeSet<usize> = reference.parent_columns.iter().copied().collect();
    if !parent.unique_sets.contains(&wanted) {
        return Err(format!("{what} left out: nothing makes those columns unique there"));
    }
    if reference.columns.iter().any(|at| child.computed[*at].is_some()) {
        return Err(format!("{what} left out: a computed column refers"));
    }
    let is_nullable = reference.columns.iter().all(|at| !child.is_not_null(*at));
    let rows = grouped(orphans);
    let how = if is_circle || key.deferred {
        let when = if key.deferred { "DEFERRED" } else { "IMMEDIATE" };
        format!(" DEFERRABLE INITIALLY {when}")
    } else {
        String::new()
    };
    let action = |word: &str, action: &str| match action {
        "NO ACTION" | "" => String::new(),
        action => format!(" ON {word} {action}"),
    };
    let plain = format!("{}_{}_fkey", child.target, child.names[reference.columns[0]]);
    let definition = format!(
        "FOREIGN KEY ({}) REFERENCES {} ({}){}{}{how}",
        mine.join(", "),
        quote_qualified(schema, &parent.target),
        theirs.join(", "),
        action("UPDATE", &key.on_update),
        action("DELETE", &key.on_delete)
    );
    let table = quote_qualified(schema, &child.target);
    let mut said = None;
    let mut orphan_null = false;
    if orphans > 0 {
        match dangling {
            Dangling::Keep => {
                return Err(format!(
                    "{what} left out: {rows} rows lead nowhere; when they are mended: ALTER TABLE \
                     {table} ADD {definition}  (or copy with --dangling reject or null)"
                ));
            }
            Dangling::Null if is_nullable => {
                orphan_null = true;
                said = Some(format!("{what}: {rows} references lead nowhere and become NULL"));
            }
            Dangling::Null | Dangling::Reject => {
                said = Some(format!("{what}: {rows} rows lead nowhere and are rejected"));
            }
        }
    }
    if is_circle && !key.deferred {
        let circle = format!("{what} is DEFERRABLE, for rows that refer to each other");
        said = Some(said.map_or(circle.clone(), |said| format!("{said}; {circle}")));
    }
    let name = quote_ident(&names.give(&plain, "fkey"));
    let statement = format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition};");
    Ok((Kept { statement, orphan_null }, said))
}
