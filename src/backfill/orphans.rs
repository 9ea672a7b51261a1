//! Rows whose foreign keys lead nowhere, found all at once.
//!
//! Halving a batch down to each of them would try every row alone where most of a batch waits for
//! a table that is loaded later.

use std::collections::HashMap;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::chunk::{OutputRows, RowRef};
use super::merge::{Refused, judged};
use super::stage::{fill_stage, is_widest, staged_value};
use crate::error::Result;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::OutputPlan;
use crate::store::catalog::ForeignKey;
use crate::store::{quote_ident, quote_qualified, sql};

/// The reason of a row whose foreign key leads nowhere.
pub(super) const ORPHAN: &str = "orphan";

/// Takes the rows that would be written and whose parents are neither in the target nor in the
/// batch itself out of `batch`.
pub(super) async fn take_out(
    conn: &mut PgConnection,
    output: &OutputPlan,
    conflict: ConflictRule,
    rows: &OutputRows,
    batch: &mut Vec<RowRef>,
) -> Result<Vec<(RowRef, Refused)>> {
    // Rows that are numbered by their place cannot be told apart once some are deleted.
    if is_widest(output) {
        return Ok(Vec::new());
    }
    let mut savepoint = conn.begin().await?;
    let stage = fill_stage(&mut savepoint, output, rows, batch).await?;
    // A row that stays as it is, or gives way, refers to nothing new.
    let settled = format!(
        "DELETE FROM {stage} WHERE toolkit_ord IN (SELECT ord FROM ({}) AS judged \
         WHERE class NOT IN ('insert', 'update'))",
        judged(output, conflict, &stage)
    );
    sqlx::raw_sql(sql(settled)).execute(&mut *savepoint).await?;
    let mut lost: Vec<Option<Refused>> = batch.iter().map(|_| None).collect();
    // By row of the batch that another one leads to, those that lead to it and to nothing else.
    let mut led: HashMap<usize, Vec<(usize, &ForeignKey)>> = HashMap::new();
    let mut fresh = Vec::new();
    for key in &output.table.foreign_keys {
        let Some(Query { nowhere, within }) = query(output, key, &stage) else { continue };
        for row in sqlx::query(sql(nowhere)).fetch_all(&mut *savepoint).await? {
            let at = place(&row, "ord")?;
            if at < lost.len() && lost[at].is_none() {
                lost[at] = Some(missing(key));
                fresh.push(at);
            }
        }
        let Some(within) = within else { continue };
        for row in sqlx::query(sql(within)).fetch_all(&mut *savepoint).await? {
            let (child, parent) = (place(&row, "ord")?, place(&row, "parent")?);
            led.entry(parent).or_default().push((child, key));
        }
    }
    // A row taken out may be what another one led to.
    while let Some(parent) = fresh.pop() {
        for (child, key) in led.remove(&parent).unwrap_or_default() {
            if child < lost.len() && lost[child].is_none() {
                lost[child] = Some(missing(key));
                fresh.push(child);
            }
        }
    }
    savepoint.rollback().await?;
    let all = std::mem::take(batch);
    let mut orphans = Vec::new();
    for (row, lost) in all.into_iter().zip(lost) {
        match lost {
            Some(why) => orphans.push((row, why)),
            None => batch.push(row),
        }
    }
    Ok(orphans)
}

/// Per row of the batch, the columns that may be NULL instead of leading nowhere, and do.
pub(super) async fn loose_ends(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    batch: &[RowRef],
) -> Result<Vec<Vec<usize>>> {
    let mut ends: Vec<Vec<usize>> = batch.iter().map(|_| Vec::new()).collect();
    if output.orphan_null.is_empty() || is_widest(output) {
        return Ok(ends);
    }
    let mut savepoint = conn.begin().await?;
    let stage = fill_stage(&mut savepoint, output, rows, batch).await?;
    for key in output.table.foreign_keys.iter().filter(|key| key.simple) {
        let own = positions(output, &key.columns).unwrap_or_default();
        let loose = own.into_iter().filter(|at| output.orphan_null.contains(at));
        let loose: Vec<usize> = loose.collect();
        let Some(Query { nowhere, .. }) = query(output, key, &stage) else { continue };
        if loose.is_empty() {
            continue;
        }
        for row in sqlx::query(sql(nowhere)).fetch_all(&mut *savepoint).await? {
            if let Some(ends) = ends.get_mut(place(&row, "ord")?) {
                ends.extend(loose.iter().copied());
            }
        }
    }
    savepoint.rollback().await?;
    Ok(ends)
}

/// A row whose parent is missing.
pub(super) fn missing(key: &ForeignKey) -> Refused {
    Refused {
        reason: ORPHAN.to_owned(),
        detail: format!(
            "no row of {}.{} has this ({}): foreign key {}",
            key.parent_schema,
            key.parent,
            key.columns.join(", "),
            key.name
        ),
    }
}

fn place(row: &PgRow, name: &str) -> Result<usize> {
    Ok(usize::try_from(row.try_get::<i32, _>(name)?).unwrap_or(usize::MAX))
}

/// What a foreign key of staged rows leads to.
struct Query {
    /// Selects the rows it leads nowhere.
    nowhere: String,
    /// Selects the rows it leads to another staged row only, with that one's number.
    within: Option<String>,
}

/// None where the output does not write the foreign key.
fn query(output: &OutputPlan, key: &ForeignKey, stage: &str) -> Option<Query> {
    let positions = positions(output, &key.columns)?;
    let values: Vec<String> = positions.iter().map(|at| staged_value(output, *at)).collect();
    let is_given: Vec<String> = values.iter().map(|value| format!("{value} IS NOT NULL")).collect();
    let leads = |columns: &[String]| -> String {
        let pairs = columns.iter().zip(&values);
        let parts: Vec<String> =
            pairs.map(|(column, value)| format!("{column} = {value}")).collect();
        parts.join(" AND ")
    };
    let parents: Vec<String> =
        key.parent_columns.iter().map(|name| format!("p.{}", quote_ident(name))).collect();
    let absent = format!(
        "{} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
        is_given.join(" AND "),
        quote_qualified(&key.parent_schema, &key.parent),
        leads(&parents)
    );
    let is_own = key.parent_schema == output.table.schema && key.parent == output.table.name;
    let own = self::positions(output, &key.parent_columns).filter(|_| is_own);
    let Some(own) = own else {
        let nowhere = format!("SELECT s.toolkit_ord AS ord FROM {stage} AS s WHERE {absent}");
        return Some(Query { nowhere, within: None });
    };
    let columns: Vec<String> =
        own.iter().map(|at| staged_value(output, *at).replacen("s.", "o.", 1)).collect();
    let there = leads(&columns);
    Some(Query {
        nowhere: format!(
            "SELECT s.toolkit_ord AS ord FROM {stage} AS s WHERE {absent} \
             AND NOT EXISTS (SELECT 1 FROM {stage} AS o WHERE {there})"
        ),
        within: Some(format!(
            "SELECT s.toolkit_ord AS ord, o.toolkit_ord AS parent FROM {stage} AS s \
             JOIN {stage} AS o ON {there} WHERE {absent}"
        )),
    })
}

/// Positions of columns in an output; None where one is not written.
pub(super) fn positions(output: &OutputPlan, columns: &[String]) -> Option<Vec<usize>> {
    columns.iter().map(|name| output.columns.iter().position(|c| c.name == *name)).collect()
}

/// Positions of references that may be NULL, and are not of the key, of the foreign keys that are
/// not looked for then and that `is_wanted` wants.
pub(super) fn nullable_positions(
    output: &OutputPlan,
    is_wanted: impl Fn(&ForeignKey) -> bool,
) -> Vec<usize> {
    let keys = output.table.foreign_keys.iter().filter(|key| key.simple && is_wanted(key));
    let mut found: Vec<usize> = keys
        .filter_map(|key| positions(output, &key.columns))
        .flatten()
        .filter(|at| {
            !output.key.contains(at)
                && output.catalog_column(*at).is_some_and(|column| !column.not_null)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
