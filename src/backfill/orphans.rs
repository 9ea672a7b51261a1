//! Rows whose foreign keys lead nowhere, found all at once.
//!
//! Halving a batch down to each of them would try every row alone where most of a batch waits for
//! a table that is loaded later.

use sqlx::postgres::PgConnection;
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
    loop {
        let mut found = 0;
        for key in &output.table.foreign_keys {
            let Some(statement) = removal(output, key, &stage) else { continue };
            for row in sqlx::query(sql(statement)).fetch_all(&mut *savepoint).await? {
                let ord: i32 = row.try_get("ord")?;
                if let Some(slot) = lost.get_mut(usize::try_from(ord).unwrap_or(usize::MAX)) {
                    *slot = Some(missing(key));
                    found += 1;
                }
            }
        }
        // A row taken out may be what another one led to.
        if found == 0 {
            break;
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

/// Deletes the staged rows that `key` leads nowhere; None where the output does not write it.
fn removal(output: &OutputPlan, key: &ForeignKey, stage: &str) -> Option<String> {
    let positions = positions(output, &key.columns)?;
    let values: Vec<String> = positions.iter().map(|at| staged_value(output, *at)).collect();
    let parents: Vec<String> = key.parent_columns.iter().map(|name| quote_ident(name)).collect();
    let is_given: Vec<String> = values.iter().map(|value| format!("{value} IS NOT NULL")).collect();
    let leads = |alias: &str, columns: &[String]| -> String {
        let pairs = columns.iter().zip(&values);
        let parts: Vec<String> =
            pairs.map(|(column, value)| format!("{alias}.{column} = {value}")).collect();
        parts.join(" AND ")
    };
    let mut missing = format!(
        "NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
        quote_qualified(&key.parent_schema, &key.parent),
        leads("p", &parents)
    );
    let is_own = key.parent_schema == output.table.schema && key.parent == output.table.name;
    if let Some(own) = self::positions(output, &key.parent_columns).filter(|_| is_own) {
        let columns: Vec<String> = own
            .iter()
            .map(|at| staged_value(output, *at).trim_start_matches("s.").to_owned())
            .collect();
        missing.push_str(&format!(
            " AND NOT EXISTS (SELECT 1 FROM {stage} AS o WHERE {})",
            leads("o", &columns)
        ));
    }
    Some(format!(
        "DELETE FROM {stage} AS s WHERE {} AND {missing} RETURNING s.toolkit_ord AS ord",
        is_given.join(" AND ")
    ))
}

/// Positions of columns in an output; None where one is not written.
pub(super) fn positions(output: &OutputPlan, columns: &[String]) -> Option<Vec<usize>> {
    columns.iter().map(|name| output.columns.iter().position(|c| c.name == *name)).collect()
}
