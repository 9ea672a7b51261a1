//! Indexes, the key and checks of a drafted table.

use std::collections::BTreeSet;

use super::Drafted;
use crate::cast::PgType;
use crate::copy::expression;
use crate::copy::keys::{self, KEY_COLUMNS_MAX};
use crate::copy::names::Names;
use crate::copy::schema::Index;

/// UNIQUE constraints and indexes.
pub(super) fn indexes(draft: &mut Drafted<'_>, schema: &str, names: &mut Names) {
    let qualified = crate::store::quote_qualified(schema, &draft.target);
    // Names that were given by a person are kept before any is made up.
    let (named, unnamed): (Vec<&Index>, Vec<&Index>) =
        draft.table.indexes.iter().partition(|index| index.name.is_some());
    for index in named.into_iter().chain(unnamed) {
        match keys::index(draft, index, &qualified, names) {
            Err(why) => draft.notes.push(why),
            Ok(statement) => {
                let is_plain = index.condition.is_none()
                    && index.terms.iter().all(|term| {
                        let is_text = |at: usize| matches!(draft.choices[at].ty, PgType::Text(_));
                        let is_binary = term.collation.eq_ignore_ascii_case("BINARY");
                        term.column.is_some_and(|at| is_binary || !is_text(at))
                    });
                if index.unique && is_plain {
                    draft.unique_sets.push(index.terms.iter().filter_map(|t| t.column).collect());
                }
                draft.statements.push(statement);
            }
        }
    }
    let columns = draft.table.columns.iter().enumerate();
    for (at, column) in columns {
        if let (Some(collation), PgType::Text(_)) = (&column.collation, &draft.choices[at].ty) {
            draft.notes.push(format!(
                "column {} has the collation {collation}; in Postgres = and ORDER BY compare its \
                 bytes (unique indexes under NOCASE are on lower())",
                draft.names[at]
            ));
        }
    }
}

/// The primary key, and by what the pack knows a row.
pub(super) fn key(draft: &mut Drafted<'_>, names: &mut Names) {
    let declared = draft.table.primary_key.clone();
    let plain = format!("{}_pkey", draft.target);
    let columns = |draft: &Drafted<'_>, at: &[usize]| -> String {
        let quoted: Vec<String> =
            at.iter().map(|at| crate::store::quote_ident(&draft.names[*at])).collect();
        quoted.join(", ")
    };
    let nulls = declared.iter().any(|at| draft.has_null(*at));
    if !declared.is_empty() && declared.len() <= KEY_COLUMNS_MAX {
        let name = crate::store::quote_ident(&names.give(&plain, "pkey"));
        let list = columns(draft, &declared);
        draft.unique_sets.push(declared.iter().copied().collect());
        if nulls {
            draft.constraints.push(format!("CONSTRAINT {name} UNIQUE ({list})"));
            draft.notes.push(format!(
                "the primary key ({list}) holds NULL, so it is a UNIQUE constraint here"
            ));
        } else {
            draft.constraints.push(format!("CONSTRAINT {name} PRIMARY KEY ({list})"));
            draft.key = declared;
            return;
        }
    }
    let usable = |set: &BTreeSet<usize>| {
        set.len() <= KEY_COLUMNS_MAX
            && set
                .iter()
                .all(|at| draft.table.columns[*at].not_null && draft.computed[*at].is_none())
    };
    let found = draft.unique_sets.iter().find(|set| usable(set)).cloned();
    match found {
        Some(set) => draft.key = set.into_iter().collect(),
        None => draft
            .notes
            .push("no key: rows are known by all they hold, and equal ones are counted".to_owned()),
    }
}

/// CHECK constraints, or why they are left out.
pub(super) fn checks(draft: &mut Drafted<'_>, names: &mut Names) {
    let known = draft.known();
    for (name, tokens) in &draft.table.checks {
        let text = expression::text(tokens);
        match expression::condition(tokens, &known) {
            Ok(sql) => {
                let instead = format!("{}_check", draft.target);
                let name = names.give(name.as_deref().unwrap_or(&instead), &instead);
                let name = crate::store::quote_ident(&name);
                draft.constraints.push(format!("CONSTRAINT {name} CHECK ({sql})"));
            }
            Err(why) => draft.notes.push(format!("CHECK ({text}) left out: {why}")),
        }
    }
}
