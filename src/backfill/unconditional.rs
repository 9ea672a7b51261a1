//! Writing what the source holds now, whatever the target holds: for whoever follows changes.
//!
//! Rows go through the same merge as history, but the source wins. What Postgres refuses is handed
//! back: another change may be on its way that helps.

use std::collections::HashSet;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::chunk::{Chunk, OutputRows, RowRef};
use super::merge::{self, Refused, key_match, merge};
use super::orphans::{self, ORPHAN};
use super::stage::{create_stage, fill_stage};
use super::write::{Place, Scene, insert_ledger, insert_rejects};
use crate::canonical::with_nulls;
use crate::derive::{LedgerEntry, RejectEntry};
use crate::error::Result;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::{OutputPlan, PackPlan, StreamPlan};
use crate::store::{quote_ident, sql};

/// Settings of the transaction.
pub const APPLY_SETTINGS: &str = super::write::SETTINGS;

pub use super::merge::is_about_data;

/// What became of one output's rows.
#[derive(Debug, Default)]
pub struct Stored {
    /// Rows that were new or other than what the target held.
    pub changed: u64,
    /// Rows that were there already.
    pub unchanged: u64,
    /// Rows that another record of the source stands for, with the entries that say so.
    pub gave_way: Vec<RowRef>,
    /// Ledger entries about whole rows.
    pub ledger: Vec<LedgerEntry>,
    /// Rows that Postgres refused.
    pub refused: Vec<(RowRef, Refused)>,
}

/// Where rows are stored.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The pack.
    pub pack: &'a PackPlan,
    /// The stream.
    pub stream: &'a StreamPlan,
    /// The run that rejects and ledger entries belong to.
    pub run_id: &'a str,
}

impl<'a> Field<'a> {
    fn place(&self) -> Place<'a> {
        Place {
            pack: self.pack,
            stream: self.stream,
            run_id: self.run_id,
            source: "",
            span: 0,
            chunk_no: 0,
            worker: "",
            direct: &[],
            parents: &[],
            early: &[],
            initial_load: false,
            sifting: &[],
            holds: false,
            disable_triggers: false,
            is_captured: false,
        }
    }

    /// Stores rows of one output.
    pub async fn store(
        &self,
        tx: &mut PgConnection,
        chunk: &Chunk,
        index: usize,
        chosen: Vec<RowRef>,
    ) -> Result<Stored> {
        self.store_by(tx, chunk, index, chosen, ConflictRule::SourceWins).await
    }

    /// The same by a rule: rows may give way to what the target holds.
    pub async fn store_by(
        &self,
        tx: &mut PgConnection,
        chunk: &Chunk,
        index: usize,
        chosen: Vec<RowRef>,
        rule: ConflictRule,
    ) -> Result<Stored> {
        let output = &self.stream.outputs[index];
        let rows = &chunk.outputs[index];
        let scene = Scene { stream: self.stream, index, chunk };
        let written = merge(tx, output, rule, rows, chosen, true).await?;
        let mut stored = Stored {
            changed: written.counts.inserted + written.counts.updated,
            unchanged: written.counts.unchanged,
            refused: written.refused,
            ..Stored::default()
        };
        for superseded in &written.superseded {
            stored.gave_way.push(superseded.row);
            stored.ledger.push(scene.superseded(superseded));
        }
        for row in &written.repeated {
            stored.gave_way.push(*row);
            stored.ledger.push(scene.repeated(row));
        }
        Ok(stored)
    }

    /// Stores rows that lead nowhere with NULL where the pack says so, each with its ledger
    /// entries; hands back those that are not stored even so.
    pub async fn store_loose(
        &self,
        tx: &mut PgConnection,
        chunk: &Chunk,
        index: usize,
        chosen: Vec<RowRef>,
    ) -> Result<Stored> {
        let output = &self.stream.outputs[index];
        let derived = &chunk.outputs[index];
        let mut stored = Stored::default();
        if output.orphan_null.is_empty() {
            let why = Refused { reason: ORPHAN.to_owned(), detail: String::new() };
            stored.refused.extend(chosen.into_iter().map(|row| (row, why.clone())));
            return Ok(stored);
        }
        create_stage(tx, output).await?;
        let ends = orphans::loose_ends(tx, output, derived, &chosen).await?;
        let mut loose = OutputRows::default();
        for (row, ends) in chosen.iter().zip(&ends) {
            let fields = with_nulls(derived.fields(row), ends);
            let start = loose.buffer.len();
            loose.buffer.extend_from_slice(&fields);
            let digest = output.layout.row_digest(&fields);
            loose.rows.push(RowRef { start, end: loose.buffer.len(), digest, ..*row });
        }
        let rows = loose.rows.clone();
        let written = merge(tx, output, ConflictRule::SourceWins, &loose, rows, true).await?;
        stored.changed = written.counts.inserted + written.counts.updated;
        stored.unchanged = written.counts.unchanged;
        let place = |row: &RowRef| (row.record, row.element);
        let lost: HashSet<(u32, u32)> = written.refused.iter().map(|(r, _)| place(r)).collect();
        let scene = Scene { stream: self.stream, index, chunk };
        for (row, ends) in chosen.iter().zip(&ends).filter(|(row, _)| !lost.contains(&place(row))) {
            stored.ledger.extend(ends.iter().filter_map(|at| scene.nulled(row, *at)));
        }
        let original = |row: &RowRef| chosen.iter().find(|one| place(one) == place(row)).copied();
        let refused = written.refused.into_iter();
        stored.refused = refused.filter_map(|(row, why)| Some((original(&row)?, why))).collect();
        Ok(stored)
    }

    /// Whether the refusal may pass when other rows have changed.
    #[must_use]
    pub fn may_pass(refused: &Refused) -> bool {
        matches!(refused.reason.as_str(), ORPHAN | "unique_collision")
    }

    /// The reject of a row that Postgres refused.
    #[must_use]
    pub fn reject(&self, chunk: &Chunk, index: usize, row: &RowRef, why: &Refused) -> RejectEntry {
        Scene { stream: self.stream, index, chunk }.reject(row, why)
    }

    /// Records rejects: `record` for records as the source has them, `row` for refused rows.
    pub async fn insert_rejects(
        &self,
        tx: &mut PgConnection,
        rejects: &[RejectEntry],
        shape: &str,
    ) -> Result<()> {
        insert_rejects(tx, &self.place(), rejects, shape).await
    }

    /// Records ledger entries.
    pub async fn insert_ledger(
        &self,
        tx: &mut PgConnection,
        entries: &[LedgerEntry],
    ) -> Result<()> {
        insert_ledger(tx, &self.place(), entries).await
    }

    /// Ledger entries of the chunk's stored values and skipped rows, but for those of rows that
    /// are not stored, as (output, record, element).
    #[must_use]
    pub fn ledger(chunk: &Chunk, lost: &HashSet<(usize, u32, u32)>) -> Vec<LedgerEntry> {
        let notes = chunk
            .notes
            .iter()
            .filter(|note| !lost.contains(&(note.output, note.record, note.element)));
        chunk.ledger.iter().cloned().chain(notes.map(|note| note.entry.clone())).collect()
    }
}

/// Deletes the rows of these keys, in savepoints; returns how many were there, and the keys whose
/// rows others refer to. `rows` hold whole tuples that are NULL but for the key.
pub async fn delete_keys(
    tx: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    chosen: Vec<RowRef>,
) -> Result<(u64, Vec<(RowRef, Refused)>)> {
    let mut deleted = 0;
    let mut refused = Vec::new();
    if chosen.is_empty() {
        return Ok((deleted, refused));
    }
    create_stage(tx, output).await?;
    let mut batches = vec![chosen];
    while let Some(mut batch) = batches.pop() {
        let mut savepoint = tx.begin().await?;
        match delete_batch(&mut savepoint, output, rows, &batch).await {
            Ok(count) => {
                savepoint.commit().await?;
                deleted += count;
            }
            Err(error) if merge::is_about_data(&error) => {
                savepoint.rollback().await?;
                if let [row] = batch.as_slice() {
                    let detail = error.detail().to_owned();
                    refused.push((*row, Refused { reason: "referenced".to_owned(), detail }));
                } else {
                    let right = batch.split_off(batch.len() / 2);
                    batches.push(right);
                    batches.push(batch);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((deleted, refused))
}

async fn delete_batch(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    batch: &[RowRef],
) -> Result<u64> {
    let stage = fill_stage(conn, output, rows, batch).await?;
    let statement = format!(
        "DELETE FROM {} AS t USING {stage} AS s WHERE {}",
        output.table.sql_name(),
        key_match(output)
    );
    Ok(sqlx::query(sql(statement)).execute(&mut *conn).await?.rows_affected())
}

/// Makes room for rows that stand in each other's way: sets what is unique and may be NULL to
/// NULL in the rows the target holds under these keys. False: nothing of that kind.
pub async fn vacate(
    tx: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    batch: &[RowRef],
) -> Result<bool> {
    let mut columns: Vec<&str> = Vec::new();
    for key in &output.table.unique_keys {
        let column = key.iter().find(|name| {
            let position = output.columns.iter().position(|column| column.name == **name);
            position.is_some_and(|at| !output.key.contains(&at))
                && output.table.column(name).is_some_and(|column| !column.not_null)
        });
        let is_key = key
            .iter()
            .all(|name| output.key.iter().any(|position| output.columns[*position].name == *name));
        match column {
            Some(column) => columns.push(column),
            None if is_key => {}
            None => return Ok(false),
        }
    }
    if columns.is_empty() {
        return Ok(false);
    }
    set_null(tx, output, rows, batch, &columns).await?;
    Ok(true)
}

/// Lets go of the rows that these rows refer to in the target, so that those can be deleted: sets
/// the references to NULL where they may be. False: some may not.
pub async fn detach(
    tx: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    batch: &[RowRef],
) -> Result<bool> {
    let mut columns: Vec<&str> = Vec::new();
    for key in &output.table.foreign_keys {
        let free = key.columns.iter().find(|name| {
            let position = output.columns.iter().position(|column| column.name == **name);
            position.is_some_and(|at| !output.key.contains(&at))
                && output.table.column(name).is_some_and(|column| !column.not_null)
        });
        match free {
            Some(column) if key.simple => columns.push(column),
            _ => return Ok(false),
        }
    }
    if columns.is_empty() {
        return Ok(false);
    }
    set_null(tx, output, rows, batch, &columns).await?;
    Ok(true)
}

async fn set_null(
    tx: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    batch: &[RowRef],
    columns: &[&str],
) -> Result<()> {
    create_stage(tx, output).await?;
    let stage = fill_stage(tx, output, rows, batch).await?;
    let sets: Vec<String> =
        columns.iter().map(|column| format!("{} = NULL", quote_ident(column))).collect();
    let statement = format!(
        "UPDATE {} AS t SET {} FROM {stage} AS s WHERE {}",
        output.table.sql_name(),
        sets.join(", "),
        key_match(output)
    );
    sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?;
    Ok(())
}
