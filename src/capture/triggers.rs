//! The text of the triggers that capture changes of one table.
//!
//! AFTER triggers log the keys before and after a change. REPLACE evicts rows that collide on any
//! unique index, or on the rowid, without firing DELETE triggers; so BEFORE triggers log the rows
//! in its way. They log rows that are then not evicted, too (`INSERT OR IGNORE`, an upsert): who
//! reads the log looks at what is there, so a row logged needlessly costs a look and no more.

use super::shape::{Identity, Shape, Term, TermOf, UniqueIndex};
use super::{LOG_TABLE, STATE_TABLE, TRIGGER_PREFIX};
use crate::store::quote_ident;

/// A table that is to be captured.
#[derive(Debug, Clone)]
pub(super) struct Captured {
    pub(super) shape: Shape,
    /// Its number in the log.
    pub(super) number: i64,
    /// What the log keeps of a row: its identity, then what keys in the target are made of.
    pub(super) values: Vec<String>,
}

/// Name and text of every trigger of a table.
pub(super) fn texts(table: &Captured) -> Vec<(String, String)> {
    let mut made = vec![
        trigger(table, "insert", "AFTER INSERT", "", &[table.values_of("i", None, Some("NEW"))]),
        trigger(
            table,
            "update",
            "AFTER UPDATE",
            "",
            &[table.values_of("u", Some("OLD"), Some("NEW"))],
        ),
        trigger(table, "delete", "AFTER DELETE", "", &[table.values_of("d", Some("OLD"), None)]),
    ];
    let evictions = table.evictions(false);
    if !evictions.is_empty() {
        made.push(trigger(table, "evict_insert", "BEFORE INSERT", "", &evictions));
    }
    let evictions = table.evictions(true);
    if !evictions.is_empty() {
        let moved = table.moved();
        made.push(trigger(table, "evict_update", "BEFORE UPDATE", &moved, &evictions));
    }
    made
}

fn trigger(
    table: &Captured,
    what: &str,
    event: &str,
    condition: &str,
    steps: &[String],
) -> (String, String) {
    let name = format!("{TRIGGER_PREFIX}{}_{what}", table.number);
    let text = format!(
        "CREATE TRIGGER {name} {event} ON {} WHEN (SELECT mode FROM {STATE_TABLE} \
         WHERE only_row = 1) = 0{condition} BEGIN {}; END",
        quote_ident(&table.shape.name),
        steps.join("; ")
    );
    (name, text)
}

impl Captured {
    fn column(&self, place: &str, name: &str) -> String {
        format!("{place}.{}", self.shape.identity.sql(name))
    }

    fn target(&self, letters: &[&str]) -> String {
        let columns: Vec<String> = letters
            .iter()
            .flat_map(|letter| (1..=self.values.len()).map(move |n| format!("{letter}{n}")))
            .collect();
        format!("INSERT INTO {LOG_TABLE} (stream_table, op, {})", columns.join(", "))
    }

    /// Logs the row under `old` and `new`.
    fn values_of(&self, op: &str, old: Option<&str>, new: Option<&str>) -> String {
        let sides: Vec<(&str, &str)> =
            [("o", old), ("n", new)].into_iter().filter_map(|(l, p)| Some((l, p?))).collect();
        let letters: Vec<&str> = sides.iter().map(|(letter, _)| *letter).collect();
        let values: Vec<String> = sides
            .iter()
            .flat_map(|(_, place)| self.values.iter().map(|name| self.column(place, name)))
            .collect();
        let target = self.target(&letters);
        format!("{target} VALUES ({}, '{op}', {})", self.number, values.join(", "))
    }

    /// Logs the rows that NEW would evict.
    fn evictions(&self, is_update: bool) -> Vec<String> {
        let mut conditions = Vec::new();
        if let Identity::Rowid { alias, column } = &self.shape.identity {
            // Rows whose keys are made of the rowid alone are logged under it by the change itself.
            if column.is_none() || self.values.len() > 1 {
                conditions.push(format!("c.{alias} = NEW.{alias}"));
            }
        }
        for index in &self.shape.unique {
            if !self.is_identity(index) {
                conditions.push(self.collides(index));
            }
        }
        let not_itself =
            if is_update { format!(" AND NOT ({})", self.is_old()) } else { String::new() };
        let values: Vec<String> = self.values.iter().map(|name| self.column("c", name)).collect();
        conditions
            .into_iter()
            .map(|condition| {
                format!(
                    "{} SELECT {}, 'e', {} FROM {} AS c WHERE {condition}{not_itself}",
                    self.target(&["o"]),
                    self.number,
                    values.join(", "),
                    quote_ident(&self.shape.name)
                )
            })
            .collect()
    }

    /// Whether the index is the primary key of a WITHOUT ROWID table of which all keys are made.
    fn is_identity(&self, index: &UniqueIndex) -> bool {
        let Identity::Key { columns } = &self.shape.identity else { return false };
        let is_exact = |term: &Term| {
            matches!(&term.of, TermOf::Column(name) if columns.contains(name))
                && term.collation.eq_ignore_ascii_case("BINARY")
        };
        self.values.len() == columns.len()
            && index.condition.is_none()
            && index.terms.len() == columns.len()
            && index.terms.iter().all(is_exact)
    }

    /// The row `c` has the index's terms of NEW. NULLs do not collide, and `=` says so.
    fn collides(&self, index: &UniqueIndex) -> String {
        let mut parts: Vec<String> = index
            .terms
            .iter()
            .map(|term| {
                let collation = quote_ident(&term.collation);
                match &term.of {
                    TermOf::Column(name) => {
                        let name = quote_ident(name);
                        format!("c.{name} COLLATE {collation} = NEW.{name}")
                    }
                    TermOf::Expression(text) => {
                        format!("({text}) COLLATE {collation} = ({})", self.of_new(text))
                    }
                }
            })
            .collect();
        if let Some(condition) = &index.condition {
            parts.push(format!("({condition}\n)"));
        }
        parts.join(" AND ")
    }

    /// An expression over the columns of NEW: an index names them without saying whose they are.
    /// Others stay out of it, so that the application may drop them: `SQLite` refuses to drop a
    /// column that a trigger names.
    fn of_new(&self, expression: &str) -> String {
        let columns: Vec<String> = self
            .shape
            .columns
            .iter()
            .filter(|name| may_name(expression, name))
            .map(|name| format!("NEW.{0} AS {0}", quote_ident(name)))
            .collect();
        if columns.is_empty() {
            return format!("SELECT {expression}\n");
        }
        format!("SELECT {expression}\n FROM (SELECT {})", columns.join(", "))
    }

    /// The row `c` is OLD.
    fn is_old(&self) -> String {
        let parts: Vec<String> = self
            .shape
            .identity
            .names()
            .iter()
            .map(|name| {
                format!("{} IS {} COLLATE BINARY", self.column("c", name), self.column("OLD", name))
            })
            .collect();
        parts.join(" AND ")
    }

    /// A condition: an UPDATE that may collide. An index with expressions or a condition may be
    /// touched by any.
    fn moved(&self) -> String {
        let mut names = self.shape.identity.names();
        for index in &self.shape.unique {
            if index.condition.is_some() {
                return String::new();
            }
            for term in &index.terms {
                let TermOf::Column(name) = &term.of else { return String::new() };
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        let parts: Vec<String> = names
            .iter()
            .map(|name| {
                format!(
                    "{} IS NOT {} COLLATE BINARY",
                    self.column("NEW", name),
                    self.column("OLD", name)
                )
            })
            .collect();
        format!(" AND ({})", parts.join(" OR "))
    }
}

/// Whether an expression may name a column: its name is in the text, or is one that would be spelt
/// otherwise there.
fn may_name(expression: &str, column: &str) -> bool {
    let is_plain = |letter: char| !"\"'`[]".contains(letter);
    !column.chars().all(is_plain) || expression.to_lowercase().contains(&column.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::may_name;

    #[test]
    fn a_column_is_left_out_of_an_expression_only_if_it_cannot_be_in_it() {
        assert!(may_name("lower(Name) || '-'", "nAME"));
        assert!(may_name("\"a \"\"b\" + 1", "a \"b"));
        assert!(may_name("[größe] + 1", "größe"));
        assert!(!may_name("lower(name)", "amount"));
    }
}
