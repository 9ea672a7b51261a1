//! Rows that refer to a table loaded after them, stored before what they refer to.
//!
//! Where tables refer to one another, one of them comes first. To hold its rows back until the
//! others are there would hold back every row that refers to them, too: often most of the data.
//! So the references that may be NULL are left NULL at first, and a copy of the row waits in
//! `toolkit.held_row`, as `early`, to be filled in when all streams are copied. The row is counted
//! as inserted by its chunk.
//!
//! That a reference leads nowhere is found only then. The row is no row of the target in that
//! case, nor is any that refers to it: [`super::recall`] takes them out again, to be judged like
//! all that wait.
//!
//! Only first loads of tables without triggers do so, only of sources whose records cannot share
//! a key, and only where the source decides: what an unfinished run leaves is then put right by
//! any later one.

use std::collections::{HashMap, HashSet};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::chunk::{OutputRows, RowRef};
use super::counts::RowCounts;
use super::held::{self, Group, Page, Settling};
use super::merge::{Refused, Written};
use super::orphans::{self, ORPHAN, nullable_positions};
use super::stage::{create_stage, is_widest};
use super::triggers;
use super::write::{SETTINGS, Scene, insert_ledger};
use crate::canonical::{fields_of, with_nulls};
use crate::error::Result;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::{OutputPlan, PackPlan, SourceKind};
use crate::store::catalog::Table;
use crate::store::sql;

/// The state of such rows in `toolkit.held_row`.
pub(super) const EARLY: &str = "early";

/// Positions of a stream's references that lead to tables of later streams only, and may be NULL.
/// None, unless everything that refers to the stream's rows can be taken out with them.
pub(super) async fn forward(
    conn: &mut PgConnection,
    plan: &PackPlan,
    run_id: &str,
    stream: usize,
) -> Result<Vec<usize>> {
    let [output] = plan.streams[stream].outputs.as_slice() else { return Ok(Vec::new()) };
    let found = forward_positions(plan, stream);
    if found.is_empty() || output.conflict != ConflictRule::SourceWins || is_widest(output) {
        return Ok(Vec::new());
    }
    let dependents: Vec<(String, String)> =
        sqlx::query_as(include_str!("../sql/held/dependents.sql"))
            .bind(&output.table.schema)
            .bind(&output.table.name)
            .fetch_all(&mut *conn)
            .await?;
    let empty: Vec<String> = sqlx::query_scalar(
        "SELECT stream FROM toolkit.stream_state WHERE run_id = $1::uuid AND initial_load",
    )
    .bind(run_id)
    .fetch_all(conn)
    .await?;
    let can_be_recalled = dependents.iter().all(|(schema, table)| {
        let mut of_table = outputs(plan).filter(|(_, output)| is(&output.table, schema, table));
        let (Some((at, output)), None) = (of_table.next(), of_table.next()) else { return false };
        let stream = &plan.streams[at];
        stream.outputs.len() == 1
            && matches!(stream.source, SourceKind::Sqlite { .. })
            && empty.contains(&stream.name)
            && output.table.triggers.is_empty()
            && output.constants.is_empty()
            && !output.is_content
            && !is_widest(output)
    });
    Ok(if can_be_recalled { found } else { Vec::new() })
}

fn outputs(plan: &PackPlan) -> impl Iterator<Item = (usize, &OutputPlan)> {
    plan.streams
        .iter()
        .enumerate()
        .flat_map(|(at, stream)| stream.outputs.iter().map(move |output| (at, output)))
}

fn is(table: &Table, schema: &str, name: &str) -> bool {
    table.schema == schema && table.name == name
}

/// As [`forward`], by the plan alone.
pub(super) fn forward_positions(plan: &PackPlan, stream: usize) -> Vec<usize> {
    let [output] = plan.streams[stream].outputs.as_slice() else { return Vec::new() };
    nullable_positions(output, |key| {
        let mut parents = outputs(plan)
            .filter(|(_, output)| is(&output.table, &key.parent_schema, &key.parent))
            .peekable();
        parents.peek().is_some() && parents.all(|(at, _)| at > stream)
    })
}

/// A chunk's rows without the references that are filled in later, and which rows have some.
pub(super) struct Loosened {
    pub(super) rows: OutputRows,
    /// The rows as they were derived, by record and element.
    given: HashMap<(u32, u32), RowRef>,
}

impl Loosened {
    pub(super) fn of(rows: &OutputRows, chosen: &[RowRef], early: &[usize]) -> Self {
        let mut loosened = OutputRows::default();
        let mut given = HashMap::new();
        for row in chosen {
            let fields = rows.fields(row);
            let ranges = fields_of(fields);
            let nulled: Vec<usize> =
                early.iter().copied().filter(|at| ranges[*at].is_some()).collect();
            let start = loosened.buffer.len();
            if nulled.is_empty() {
                loosened.buffer.extend_from_slice(fields);
            } else {
                loosened.buffer.extend_from_slice(&with_nulls(fields, &nulled));
                given.insert((row.record, row.element), *row);
            }
            loosened.rows.push(RowRef { start, end: loosened.buffer.len(), ..*row });
        }
        Self { rows: loosened, given }
    }

    /// What was written, told of the rows as they were derived; with those that are to be filled
    /// in. What was refused without its references is tried again with them.
    pub(super) fn settle(
        mut self,
        mut written: Written,
        chosen: &[RowRef],
    ) -> (Written, Vec<RowRef>) {
        let derived: HashMap<(u32, u32), RowRef> =
            chosen.iter().map(|row| ((row.record, row.element), *row)).collect();
        let original = |row: &mut RowRef| {
            if let Some(derived) = derived.get(&(row.record, row.element)) {
                *row = *derived;
            }
        };
        for (row, why) in &mut written.refused {
            original(row);
            if self.given.remove(&(row.record, row.element)).is_some() {
                ORPHAN.clone_into(&mut why.reason);
            }
        }
        for superseded in &mut written.superseded {
            original(&mut superseded.row);
            self.given.remove(&(superseded.row.record, superseded.row.element));
        }
        for row in &mut written.repeated {
            original(row);
            self.given.remove(&(row.record, row.element));
        }
        let mut early: Vec<RowRef> = self.given.into_values().collect();
        early.sort_unstable_by_key(|row| (row.record, row.element));
        (written, early)
    }
}

/// Fills in the references of all rows of the run that were stored early; how many cannot be.
pub(super) async fn fill_in(conn: &mut PgConnection, settling: &Settling<'_>) -> Result<u64> {
    held::undisturbed(conn, settling, EARLY, async |conn| fill_all(conn, settling).await).await
}

async fn fill_all(conn: &mut PgConnection, settling: &Settling<'_>) -> Result<u64> {
    let mut left = 0;
    for group in settling.groups(conn, EARLY).await? {
        let mut last = 0;
        while let Some(mut page) = settling.page(conn, &group, EARLY, last).await? {
            last = page.ids.last().copied().unwrap_or(i64::MAX);
            left += fill_page(conn, settling, &group, &mut page).await?;
        }
    }
    Ok(left)
}

async fn fill_page(
    conn: &mut PgConnection,
    settling: &Settling<'_>,
    group: &Group,
    page: &mut Page,
) -> Result<u64> {
    let place = settling.place(group);
    let output = &place.stream.outputs[group.output];
    let mut tx = conn.begin().await?;
    let settings = format!("{SETTINGS}; SET CONSTRAINTS ALL IMMEDIATE");
    sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
    let silenced = triggers::silence(&mut tx, &place).await?;
    if !output.orphan_null.is_empty() {
        create_stage(&mut tx, output).await?;
        let rows = page.rows(group, &|_| Vec::new());
        let ends = orphans::loose_ends(&mut tx, output, &rows, &rows.rows).await?;
        page.leave_null(ends);
    }
    let rows = page.rows(group, &|_| Vec::new());
    let rule = Some(ConflictRule::SourceWins);
    let written = held::write(&mut tx, &place, group, &rows, rule).await?;
    let refused: Vec<(i64, &Refused)> =
        written.refused.iter().map(|(row, why)| (page.ids[row.record as usize], why)).collect();
    mark(&mut tx, &refused).await?;
    let outcome = page.outcome(&written, rows.rows.iter().map(|row| row.record));
    let scene = Scene { stream: place.stream, index: group.output, chunk: page.chunk() };
    let nulls = page.null_entries(&scene, &outcome);
    if !nulls.is_empty() {
        let mut counts = held::chunk_counts(&mut tx, &place).await?;
        counts.ledgered += nulls.len() as u64;
        held::set_counts(&mut tx, &place, &counts).await?;
        insert_ledger(&mut tx, &place, &nulls).await?;
    }
    let staying: HashSet<i64> = refused.iter().map(|(id, _)| *id).collect();
    let done: Vec<i64> = page.ids.iter().copied().filter(|id| !staying.contains(id)).collect();
    sqlx::query("DELETE FROM toolkit.held_row WHERE id = ANY($1)")
        .bind(done)
        .execute(&mut *tx)
        .await?;
    triggers::restore(&mut tx, &silenced).await?;
    tx.commit().await?;
    Ok(refused.len() as u64)
}

/// Notes why rows cannot be filled in; they stay.
async fn mark(tx: &mut PgConnection, refused: &[(i64, &Refused)]) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.held_row AS h SET reason = m.reason, detail = m.detail \
         FROM unnest($1::int8[], $2::text[], $3::text[]) AS m (id, reason, detail) \
         WHERE h.id = m.id",
    )
    .bind(refused.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, why)| why.reason.clone()).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, why)| why.detail.clone()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Rows that were counted as stored and wait after all.
pub(super) fn hold(counts: &mut RowCounts, rows: u64) {
    let inserted = rows.min(counts.inserted);
    counts.inserted -= inserted;
    let updated = (rows - inserted).min(counts.updated);
    counts.updated -= updated;
    counts.unchanged = counts.unchanged.saturating_sub(rows - inserted - updated);
    counts.held += rows;
}
