//! What is left of a batch: judged, recorded, remembered.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgConnection;

use super::apply::{Done, Judging, Scene, Work, add_row};
use crate::backfill::captured::key_place;
use crate::backfill::chunk::OutputRows;
use crate::backfill::unconditional::{Field, delete_keys};
use crate::backfill::{Refused, RowRef};
use crate::canonical::Digest;
use crate::derive::{RejectEntry, key_fields};
use crate::error::{Error, ErrorKind, Result};

/// Columns of `toolkit.capture_held`, as arrays.
#[derive(Default)]
struct Holding {
    sources: Vec<String>,
    kinds: Vec<&'static str>,
    places: Vec<String>,
    outputs: Vec<i32>,
    fields: Vec<Option<Vec<u8>>>,
    identities: Vec<Option<String>>,
    reasons: Vec<String>,
    details: Vec<String>,
    judged: Vec<bool>,
}

impl Work<'_> {
    /// Judges what is left, and writes what is to be remembered.
    pub(super) async fn conclude(
        &mut self,
        tx: &mut PgConnection,
        scene: &Scene<'_>,
        judging: &Judging,
        position: i64,
        done: &mut Done,
    ) -> Result<()> {
        let mut holding = Holding::default();
        let mut rejects: Vec<RejectEntry> = Vec::new();
        let mut lost: HashSet<(usize, u32, u32)> = HashSet::new();
        let mut gone: HashMap<usize, Vec<(Digest, Vec<u8>)>> = HashMap::new();
        let left = std::mem::take(&mut self.rows);
        let lost_records: HashSet<u32> = self
            .refused
            .iter()
            .filter(|(index, ..)| *index == 0)
            .map(|(_, row, _)| row.record)
            .collect();
        let mut pending: Vec<(usize, RowRef, Refused, bool)> = Vec::new();
        for (index, rows) in left.into_iter().enumerate() {
            for (row, why) in rows {
                // A derived row that waits for its record has nothing against itself.
                let Some(why) = why else {
                    lost.insert((index, row.record, row.element));
                    if lost_records.contains(&row.record) {
                        self.forsake(index, &row, &mut gone);
                    }
                    continue;
                };
                pending.push((index, row, why, true));
            }
        }
        pending.extend(self.refused.drain(..).map(|(index, row, why)| (index, row, why, false)));
        for (index, row, why, waits) in pending {
            lost.insert((index, row.record, row.element));
            let is_judged =
                judging.is_end && (why.reason != "orphan" || judging.has_history) || !waits;
            if is_judged {
                rejects.push(self.field.reject(&self.batch.chunk, index, &row, &why));
                self.forsake(index, &row, &mut gone);
            }
            if waits {
                done.held += 1;
                self.hold(&mut holding, index, &row, &why, is_judged)?;
            }
        }
        for (index, row, why) in &self.loosened {
            // It is there; if what it leads to comes, it is looked at again.
            let why = Refused { reason: "orphan_null".to_owned(), detail: why.detail.clone() };
            self.hold(&mut holding, *index, row, &why, true)?;
        }
        for (index, keys) in gone {
            self.delete_gone(tx, index, keys, done).await?;
        }
        for index in 0..self.deletes.len() {
            for (row, why) in &self.deletes[index] {
                done.held += 1;
                let why = why.as_ref();
                holding.sources.push(scene.source.to_owned());
                holding.kinds.push("delete");
                holding.places.push(key_place(index, &row.digest));
                holding.outputs.push(i32::try_from(index).unwrap_or(i32::MAX));
                holding.fields.push(Some(self.keys[index].fields(row).to_vec()));
                holding.identities.push(None);
                holding.reasons.push(why.map_or("referenced", |why| &why.reason).to_owned());
                holding.details.push(why.map_or("", |why| &why.detail).to_owned());
                holding.judged.push(judging.is_end);
            }
        }
        done.rejects += (rejects.len() + self.batch.chunk.rejects.len()) as u64;
        self.record(tx, &rejects, &lost).await?;
        self.remember(tx, scene, judging, position, holding).await
    }

    /// A row that is refused for good: an earlier one under its key is not what the source holds.
    fn forsake(
        &self,
        index: usize,
        row: &RowRef,
        gone: &mut HashMap<usize, Vec<(Digest, Vec<u8>)>>,
    ) {
        let output = self.output(index);
        let fields = self.batch.chunk.outputs[index].fields(row);
        let digest = output.layout.key_digest(fields);
        if !self.stored.contains(&(index, digest)) {
            gone.entry(index).or_default().push((digest, key_fields(output, fields)));
        }
    }

    async fn delete_gone(
        &mut self,
        tx: &mut PgConnection,
        index: usize,
        keys: Vec<(Digest, Vec<u8>)>,
        done: &mut Done,
    ) -> Result<()> {
        let mut rows = OutputRows::default();
        let chosen: Vec<RowRef> =
            keys.iter().map(|(digest, fields)| add_row(&mut rows, *digest, fields)).collect();
        let (deleted, refused) = delete_keys(tx, self.output(index), &rows, chosen).await?;
        done.deleted += deleted;
        for (row, why) in refused {
            let kept = add_row(&mut self.keys[index], row.digest, rows.fields(&row));
            self.deletes[index].push((kept, Some(why)));
        }
        Ok(())
    }

    fn hold(
        &self,
        holding: &mut Holding,
        index: usize,
        row: &RowRef,
        why: &Refused,
        is_judged: bool,
    ) -> Result<()> {
        let record = row.record as usize;
        let (source, identity) = &self.batch.identities[record];
        let identity = serde_json::to_string(identity)
            .map_err(|e| Error::new(ErrorKind::Bug, "a position is not JSON").because(e))?;
        holding.sources.push(source.clone());
        holding.kinds.push("row");
        holding.places.push(self.batch.chunk.records[record].locator.to_string());
        holding.outputs.push(i32::try_from(index).unwrap_or(i32::MAX));
        holding.fields.push(None);
        holding.identities.push(Some(identity));
        holding.reasons.push(why.reason.clone());
        holding.details.push(why.detail.replace('\0', "\u{fffd}"));
        holding.judged.push(is_judged);
        Ok(())
    }

    /// Rejects and ledger of the records that were looked at.
    async fn record(
        &self,
        tx: &mut PgConnection,
        rejects: &[RejectEntry],
        lost: &HashSet<(usize, u32, u32)>,
    ) -> Result<()> {
        let (sources, locators) = self.places();
        let (pack, stream) = (&self.field.pack.name, &self.field.stream.name);
        let chunk = &self.batch.chunk;
        let met: Vec<Vec<u8>> =
            chunk.rejects.iter().chain(rejects).map(|entry| entry.record_sha256.to_vec()).collect();
        sqlx::query(include_str!("../../sql/capture/resolve_rejects.sql"))
            .bind(pack)
            .bind(stream)
            .bind(&sources)
            .bind(&locators)
            .bind(&met)
            .execute(&mut *tx)
            .await?;
        sqlx::query(include_str!("../../sql/capture/retire_ledger.sql"))
            .bind(pack)
            .bind(stream)
            .bind(&sources)
            .bind(&locators)
            .execute(&mut *tx)
            .await?;
        self.field.insert_rejects(tx, &chunk.rejects, "record").await?;
        self.field.insert_rejects(tx, rejects, "row").await?;
        if !met.is_empty() {
            sqlx::query(include_str!("../../sql/capture/met_rejects.sql"))
                .bind(pack)
                .bind(stream)
                .bind(&met)
                .execute(&mut *tx)
                .await?;
        }
        let mut ledger = Field::ledger(chunk, lost);
        ledger.extend(self.ledger.iter().cloned());
        self.field.insert_ledger(tx, &ledger).await
    }

    fn places(&self) -> (Vec<String>, Vec<String>) {
        self.batch.places.iter().cloned().unzip()
    }

    /// What waits from now on, and what history has to leave alone.
    async fn remember(
        &self,
        tx: &mut PgConnection,
        scene: &Scene<'_>,
        judging: &Judging,
        position: i64,
        holding: Holding,
    ) -> Result<()> {
        let (pack, stream) = (&self.field.pack.name, &self.field.stream.name);
        let (mut sources, mut places) = self.places();
        let settled: Vec<String> = self
            .batch
            .keys
            .keys()
            .chain(&self.stored)
            .map(|(index, digest)| key_place(*index, digest))
            .chain(self.keys.iter().enumerate().flat_map(|(index, keys)| {
                keys.rows.iter().map(move |row| key_place(index, &row.digest))
            }))
            .collect();
        sqlx::query(
            "DELETE FROM toolkit.capture_held WHERE pack = $1 AND stream = $2 AND (\
             kind = 'row' AND (source, place) IN (SELECT * FROM unnest($3::text[], $4::text[])) \
             OR kind = 'delete' AND place = ANY($5))",
        )
        .bind(pack)
        .bind(stream)
        .bind(&sources)
        .bind(&places)
        .bind(&settled)
        .execute(&mut *tx)
        .await?;
        if !holding.places.is_empty() {
            sqlx::query(include_str!("../../sql/capture/hold.sql"))
                .bind(pack)
                .bind(stream)
                .bind(&holding.sources)
                .bind(&holding.kinds)
                .bind(&holding.places)
                .bind(&holding.outputs)
                .bind(&holding.fields)
                .bind(&holding.identities)
                .bind(&holding.reasons)
                .bind(&holding.details)
                .bind(&holding.judged)
                .execute(&mut *tx)
                .await?;
        }
        if judging.notes_applied {
            for place in settled {
                sources.push(scene.source.to_owned());
                places.push(place);
            }
            sqlx::query(include_str!("../../sql/capture/note_applied.sql"))
                .bind(pack)
                .bind(stream)
                .bind(&sources)
                .bind(&places)
                .bind(position)
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }
}
