//! One batch, one transaction: deletions, rows, rejects, ledger, what waits, and the cursor.

use std::collections::HashSet;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::control::{self, Held};
use super::read::{Batch, StreamBatch};
use crate::backfill::chunk::OutputRows;
use crate::backfill::unconditional::{
    APPLY_SETTINGS, Field, delete_keys, detach, is_about_data, vacate,
};
use crate::backfill::{Refused, RowRef};
use crate::canonical::Digest;
use crate::capture::log::LogPosition;
use crate::capture::record::{self, Cursor};
use crate::derive::LedgerEntry;
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::pack::plan::OutputPlan;
use crate::store::{capture_lock, sql};

/// What the transaction needs to know beside the batch.
pub(super) struct Scene<'a> {
    pub(super) opened: &'a OpenedPack,
    pub(super) run_id: &'a str,
    pub(super) source: &'a str,
    pub(super) cursor: &'a Cursor,
    /// How far the files were applied that this one shares a stream with, before it was read.
    pub(super) beside: &'a [(String, LogPosition)],
}

/// What it did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) deleted: u64,
    pub(super) rejects: u64,
    pub(super) held: u64,
    /// Another tail was quicker; nothing was done.
    pub(super) is_stale: bool,
}

/// Applies a batch. Everything or nothing is committed.
pub(super) async fn apply(
    conn: &mut PgConnection,
    scene: &Scene<'_>,
    batch: &Batch,
    held: &Held,
) -> Result<Done> {
    match attempt(conn, scene, batch, held, "DEFERRED").await {
        // Deferred constraints speak up at the end, when it is too late to tell whose row it was.
        Err(error) if is_about_data(&error) => attempt(conn, scene, batch, held, "IMMEDIATE").await,
        done => done,
    }
}

async fn attempt(
    conn: &mut PgConnection,
    scene: &Scene<'_>,
    batch: &Batch,
    held: &Held,
    constraints: &str,
) -> Result<Done> {
    let pack = &scene.opened.plan.name;
    let mut tx = conn.begin().await?;
    let settings = format!(
        "{APPLY_SETTINGS}; \
         SET LOCAL idle_in_transaction_session_timeout = '60s'; \
         SET CONSTRAINTS ALL {constraints}"
    );
    sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
    // Whoever writes history holds it shared while a chunk is committed.
    capture_lock::exclusive(&mut tx, pack).await?;
    if !is_current(&mut tx, scene).await? {
        tx.rollback().await?;
        return Ok(Done { is_stale: true, ..Done::default() });
    }
    let is_end = batch.position >= batch.last;
    let judging = Judging {
        is_end,
        has_history: is_end && control::is_history_complete(&mut tx, pack).await?,
        notes_applied: control::is_backfill_unfinished(&mut tx, pack).await?,
    };
    let mut works = works(scene, batch, held);
    let mut done = write(&mut tx, &mut works, judging.is_end && judging.has_history).await?;
    for work in &mut works {
        work.conclude(&mut tx, scene, &judging, batch.position, &mut done).await?;
    }
    sqlx::query(include_str!("../../sql/capture/move_cursor.sql"))
        .bind(pack)
        .bind(scene.source)
        .bind(batch.position)
        .bind(&batch.mark)
        .bind(batch.last)
        .bind(i64::try_from(batch.changes).unwrap_or(i64::MAX))
        .bind(i64::try_from(done.rows + done.deleted).unwrap_or(i64::MAX))
        .bind(batch.waiting_since)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done)
}

/// Locks the cursor; false: it is no longer where the batch begins.
async fn is_current(tx: &mut PgConnection, scene: &Scene<'_>) -> Result<bool> {
    let now: Option<(i64, Option<String>)> = sqlx::query_as(
        "SELECT position, installation::text FROM toolkit.capture_cursor \
         WHERE pack = $1 AND source = $2 FOR UPDATE",
    )
    .bind(&scene.opened.plan.name)
    .bind(scene.source)
    .fetch_optional(&mut *tx)
    .await?;
    let cursor = scene.cursor;
    let is_same = now.is_some_and(|(position, installation)| {
        position == cursor.position && installation.as_ref() == Some(&cursor.installation)
    });
    // What another tail applied of those is newer than what was read of them here.
    Ok(is_same && {
        scene.beside.is_empty() || {
            let names: Vec<&str> = scene.beside.iter().map(|(name, _)| name.as_str()).collect();
            record::positions(tx, &scene.opened.plan.name, &names).await? == scene.beside
        }
    })
}

/// What may be said of a row that Postgres refuses.
pub(super) struct Judging {
    /// Everything that was captured when the batch was read is applied with it.
    pub(super) is_end: bool,
    /// No history is on its way.
    pub(super) has_history: bool,
    /// A backfill has to leave alone what is applied now.
    pub(super) notes_applied: bool,
}

/// One stream's part of the transaction.
pub(super) struct Work<'a> {
    pub(super) field: Field<'a>,
    pub(super) batch: &'a StreamBatch,
    /// Rows that are not stored yet, by output, with what stands against them.
    pub(super) rows: Vec<Vec<(RowRef, Option<Refused>)>>,
    /// Rows that no other change can help.
    pub(super) refused: Vec<(usize, RowRef, Refused)>,
    /// Digests of the keys whose rows are stored.
    pub(super) stored: HashSet<(usize, Digest)>,
    /// Keys to be deleted, as tuples, by output.
    pub(super) keys: Vec<OutputRows>,
    /// Those not deleted yet.
    pub(super) deletes: Vec<Vec<(RowRef, Option<Refused>)>>,
    pub(super) ledger: Vec<LedgerEntry>,
    /// Rows that are stored with NULL for what leads nowhere: their parents may still come.
    pub(super) loosened: Vec<(usize, RowRef, Refused)>,
}

pub(super) fn works<'a>(scene: &Scene<'a>, batch: &'a Batch, held: &Held) -> Vec<Work<'a>> {
    let plan = &scene.opened.plan;
    let mut works: Vec<Work<'a>> = batch
        .streams
        .iter()
        .map(|stream| {
            let field =
                Field { pack: plan, stream: &plan.streams[stream.stream], run_id: scene.run_id };
            Work::new(field, stream)
        })
        .collect();
    for delete in &held.deletes {
        let work = works.iter_mut().find(|work| work.field.stream.name == delete.stream);
        if let Some(work) = work
            && delete.output < work.field.stream.outputs.len()
        {
            let layout = &work.field.stream.outputs[delete.output].layout;
            let digest = layout.key_digest(&delete.fields);
            if !work.batch.keys.contains_key(&(delete.output, digest)) {
                work.add_delete(delete.output, digest, &delete.fields);
            }
        }
    }
    works
}

/// What is tried where nothing else helps.
enum Trick {
    /// Rows that are in each other's way by a unique value.
    Swap,
    /// A row that cannot go because rows refer to it that wait for its successor.
    Detach,
    /// A row that leads nowhere, and may hold NULL instead.
    Loosen,
}

/// Deletes and stores until nothing helps any more. Parents come before children in the order of
/// the streams; a deletion that is refused is tried again after the rows that refer to it changed.
/// `is_all`: what is not there will not come by itself.
pub(super) async fn write(
    tx: &mut PgConnection,
    works: &mut [Work<'_>],
    is_all: bool,
) -> Result<Done> {
    let mut done = Done::default();
    for work in works.iter_mut().rev() {
        work.delete(tx, &mut done).await?;
    }
    let tricks = [Trick::Swap, Trick::Detach, Trick::Loosen];
    let mut tricks = tricks.into_iter().take(if is_all { 3 } else { 2 });
    loop {
        let before = works.iter().map(Work::pending).sum::<usize>();
        for work in works.iter_mut() {
            work.store(tx, &mut done).await?;
        }
        for work in works.iter_mut().rev() {
            work.delete(tx, &mut done).await?;
        }
        let after = works.iter().map(Work::pending).sum::<usize>();
        if after == 0 {
            return Ok(done);
        }
        if after == before {
            match tricks.next() {
                Some(Trick::Swap) => {
                    for work in works.iter_mut() {
                        work.swap(tx, &mut done).await?;
                    }
                }
                Some(Trick::Detach) => {
                    for work in works.iter_mut().rev() {
                        work.detach(tx, &mut done).await?;
                    }
                    for work in works.iter_mut().rev() {
                        work.delete(tx, &mut done).await?;
                    }
                }
                Some(Trick::Loosen) => {
                    for work in works.iter_mut() {
                        work.loosen(tx, &mut done).await?;
                    }
                }
                None => return Ok(done),
            }
        }
    }
}

impl<'a> Work<'a> {
    fn new(field: Field<'a>, batch: &'a StreamBatch) -> Self {
        let count = field.stream.outputs.len();
        let rows: Vec<Vec<(RowRef, Option<Refused>)>> = batch
            .chunk
            .outputs
            .iter()
            .map(|output| output.rows.iter().map(|row| (*row, None)).collect())
            .collect();
        let mut work = Self {
            field,
            batch,
            rows,
            refused: Vec::new(),
            stored: HashSet::new(),
            keys: (0..count).map(|_| OutputRows::default()).collect(),
            deletes: (0..count).map(|_| Vec::new()).collect(),
            ledger: Vec::new(),
            loosened: Vec::new(),
        };
        let mut there: HashSet<(usize, Digest)> = HashSet::new();
        for (index, rows) in batch.chunk.outputs.iter().enumerate() {
            let layout = &field.stream.outputs[index].layout;
            there.extend(rows.rows.iter().map(|row| (index, layout.key_digest(rows.fields(row)))));
        }
        for (place, fields) in &batch.keys {
            if !there.contains(place) {
                work.add_delete(place.0, place.1, fields);
            }
        }
        work
    }

    fn add_delete(&mut self, output: usize, digest: Digest, fields: &[u8]) {
        let row = add_row(&mut self.keys[output], digest, fields);
        self.deletes[output].push((row, None));
    }

    pub(super) fn output(&self, index: usize) -> &'a OutputPlan {
        &self.field.stream.outputs[index]
    }

    fn pending(&self) -> usize {
        self.rows.iter().chain(&self.deletes).map(Vec::len).sum()
    }

    async fn delete(&mut self, tx: &mut PgConnection, done: &mut Done) -> Result<()> {
        for index in (0..self.deletes.len()).rev() {
            let chosen: Vec<RowRef> =
                std::mem::take(&mut self.deletes[index]).into_iter().map(|(row, _)| row).collect();
            let (deleted, refused) =
                delete_keys(tx, self.output(index), &self.keys[index], chosen).await?;
            done.deleted += deleted;
            self.deletes[index] = refused.into_iter().map(|(row, why)| (row, Some(why))).collect();
        }
        Ok(())
    }

    async fn store(&mut self, tx: &mut PgConnection, done: &mut Done) -> Result<()> {
        // A row that is made of a record waits with the record's own row.
        let mut waiting: HashSet<u32> = self
            .refused
            .iter()
            .filter(|(index, ..)| *index == 0)
            .map(|(_, row, _)| row.record)
            .collect();
        for index in 0..self.rows.len() {
            let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rows[index])
                .into_iter()
                .partition(|(row, _)| index > 0 && waiting.contains(&row.record));
            let chosen: Vec<RowRef> = now.into_iter().map(|(row, _)| row).collect();
            self.rows[index] = later;
            if chosen.is_empty() {
                continue;
            }
            self.store_rows(tx, index, chosen, done).await?;
            if index == 0 {
                waiting.extend(self.rows[0].iter().map(|(row, _)| row.record));
                let refused = self.refused.iter().filter(|(index, ..)| *index == 0);
                waiting.extend(refused.map(|(_, row, _)| row.record));
            }
        }
        Ok(())
    }

    async fn store_rows(
        &mut self,
        tx: &mut PgConnection,
        index: usize,
        chosen: Vec<RowRef>,
        done: &mut Done,
    ) -> Result<()> {
        let all = chosen.clone();
        let stored = self.field.store(tx, &self.batch.chunk, index, chosen).await?;
        done.rows += stored.changed;
        let lost: HashSet<(u32, u32)> =
            stored.refused.iter().map(|(row, _)| (row.record, row.element)).collect();
        self.ledger.extend(stored.ledger);
        let rows = &self.batch.chunk.outputs[index];
        let layout = &self.field.stream.outputs[index].layout;
        for row in all.iter().filter(|row| !lost.contains(&(row.record, row.element))) {
            self.stored.insert((index, layout.key_digest(rows.fields(row))));
        }
        for (row, why) in stored.refused {
            if Field::may_pass(&why) {
                self.rows[index].push((row, Some(why)));
            } else {
                self.refused.push((index, row, why));
            }
        }
        Ok(())
    }

    /// Lets go of the rows that waiting rows refer to in the target.
    async fn detach(&mut self, tx: &mut PgConnection, done: &mut Done) -> Result<()> {
        for index in 0..self.rows.len() {
            let orphans: Vec<RowRef> = self.rows[index]
                .iter()
                .filter(|(_, why)| why.as_ref().is_some_and(|why| why.reason == "orphan"))
                .map(|(row, _)| *row)
                .collect();
            if orphans.is_empty() {
                continue;
            }
            let (output, rows) = (self.output(index), &self.batch.chunk.outputs[index]);
            let mut savepoint = tx.begin().await?;
            match detach(&mut savepoint, output, rows, &orphans).await {
                Ok(true) => {
                    savepoint.commit().await?;
                    continue;
                }
                Ok(false) => savepoint.rollback().await?,
                Err(error) if is_about_data(&error) => savepoint.rollback().await?,
                Err(error) => return Err(error),
            }
            if !is_referenced_with_action(tx, output).await? {
                let (deleted, _) = delete_keys(tx, output, rows, orphans).await?;
                done.deleted += deleted;
            }
        }
        Ok(())
    }

    /// Stores rows that lead nowhere with NULL instead, where the pack says so.
    async fn loosen(&mut self, tx: &mut PgConnection, done: &mut Done) -> Result<()> {
        for index in 0..self.rows.len() {
            if self.output(index).orphan_null.is_empty() {
                continue;
            }
            let (chosen, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rows[index])
                .into_iter()
                .partition(|(_, why)| why.as_ref().is_some_and(|why| why.reason == "orphan"));
            self.rows[index] = others;
            let tried: Vec<RowRef> = chosen.iter().map(|(row, _)| *row).collect();
            let stored = self.field.store_loose(tx, &self.batch.chunk, index, tried).await?;
            done.rows += stored.changed;
            self.ledger.extend(stored.ledger);
            let lost: HashSet<(u32, u32)> =
                stored.refused.iter().map(|(row, _)| (row.record, row.element)).collect();
            let layout = &self.output(index).layout;
            for (row, why) in chosen {
                if lost.contains(&(row.record, row.element)) {
                    self.rows[index].push((row, why));
                    continue;
                }
                let fields = self.batch.chunk.outputs[index].fields(&row);
                self.stored.insert((index, layout.key_digest(fields)));
                self.loosened.extend(why.map(|why| (index, row, why)));
            }
        }
        Ok(())
    }

    /// Lets rows change places that are in each other's way by a unique value.
    async fn swap(&mut self, tx: &mut PgConnection, done: &mut Done) -> Result<()> {
        for index in 0..self.rows.len() {
            let collide = |why: &Option<Refused>| {
                why.as_ref().is_some_and(|why| why.reason == "unique_collision")
            };
            let (mut chosen, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rows[index])
                .into_iter()
                .partition(|(_, why)| collide(why));
            self.rows[index] = others;
            // Whoever cannot be stored even so is left out of the second try.
            for _ in 0..2 {
                if chosen.is_empty() {
                    break;
                }
                let refused = self.try_swap(tx, index, &chosen, done).await?;
                if refused.is_empty() {
                    chosen.clear();
                    break;
                }
                let (out, rest): (Vec<_>, Vec<_>) = chosen
                    .into_iter()
                    .partition(|(row, _)| refused.contains(&(row.record, row.element)));
                self.rows[index].extend(out);
                chosen = rest;
            }
            self.rows[index].extend(chosen);
        }
        Ok(())
    }

    /// Stores all rows at once, or none and says which could not be.
    async fn try_swap(
        &mut self,
        tx: &mut PgConnection,
        index: usize,
        chosen: &[(RowRef, Option<Refused>)],
        done: &mut Done,
    ) -> Result<HashSet<(u32, u32)>> {
        let output = self.output(index);
        let rows = &self.batch.chunk.outputs[index];
        let batch: Vec<RowRef> = chosen.iter().map(|(row, _)| *row).collect();
        let all = || batch.iter().map(|row| (row.record, row.element)).collect::<HashSet<_>>();
        let mut savepoint = tx.begin().await?;
        let made = match vacate(&mut savepoint, output, rows, &batch).await {
            Err(error) if !is_about_data(&error) => {
                return Err(error);
            }
            made => made,
        };
        if !matches!(made, Ok(true)) {
            savepoint.rollback().await?;
            savepoint = tx.begin().await?;
            // Rows that refer to these must not go with them.
            if is_referenced_with_action(&mut savepoint, output).await? {
                savepoint.rollback().await?;
                return Ok(all());
            }
            let (_, refused) = delete_keys(&mut savepoint, output, rows, batch.clone()).await?;
            if !refused.is_empty() {
                savepoint.rollback().await?;
                return Ok(refused.iter().map(|(row, _)| (row.record, row.element)).collect());
            }
        }
        let stored = self.field.store(&mut savepoint, &self.batch.chunk, index, batch).await?;
        if !stored.refused.is_empty() {
            savepoint.rollback().await?;
            return Ok(stored.refused.iter().map(|(row, _)| (row.record, row.element)).collect());
        }
        savepoint.commit().await?;
        done.rows += stored.changed;
        self.ledger.extend(stored.ledger);
        for (row, _) in chosen {
            self.stored.insert((index, output.layout.key_digest(rows.fields(row))));
        }
        Ok(HashSet::new())
    }
}

/// Whether deleting a row of the target would change rows that refer to it.
async fn is_referenced_with_action(tx: &mut PgConnection, output: &OutputPlan) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c \
         JOIN pg_catalog.pg_class r ON r.oid = c.confrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
         WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd') \
           AND n.nspname = $1 AND r.relname = $2)",
    )
    .bind(&output.table.schema)
    .bind(&output.table.name)
    .fetch_one(tx)
    .await?)
}

pub(super) fn add_row(rows: &mut OutputRows, digest: Digest, fields: &[u8]) -> RowRef {
    let start = rows.buffer.len();
    rows.buffer.extend_from_slice(fields);
    let row = RowRef {
        start,
        end: rows.buffer.len(),
        record: u32::try_from(rows.rows.len()).unwrap_or(u32::MAX),
        element: 0,
        digest,
    };
    rows.rows.push(row);
    row
}
