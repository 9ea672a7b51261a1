//! History beside capture: what was changed after a chunk was read, and is applied, stays.
//!
//! While a backfill is unfinished, whoever applies captured changes notes their records and keys in
//! `toolkit.capture_applied`, with their place in the log. A chunk knows how far the log was when
//! it was read, or a little before: rows that were applied from a later place are left alone,
//! deletions included. Chunks hold the pack's capture lock shared while they are committed, the
//! tail holds it alone; so either the chunk sees what was applied, or the tail comes after it.

use std::collections::{HashMap, HashSet};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::chunk::{Chunk, OutputRows, RowRef};
use super::held::{Group, Settling, WAITING};
use super::write::Place;
use crate::canonical::Digest;
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::source::discover::Input;
use crate::source::sqlite;
use crate::store::capture_lock;

/// Places asked for at once.
const PLACES_AT_ONCE: usize = 5_000;

/// The place of a whole file among those that were applied.
pub const FILE_PLACE: &str = "file";

/// How a key is named among the places of `toolkit.capture_applied`.
#[must_use]
pub fn key_place(output: usize, digest: &Digest) -> String {
    format!("key {output} {}", hex::encode(&digest[..16]))
}

/// Whether changes of the pack are captured.
pub(super) async fn is_captured(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM toolkit.capture_cursor \
         WHERE pack = $1 AND installation IS NOT NULL)",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}

/// What must stay as it is where changes are captured: of a captured file its schema and its
/// installation, of documents nothing, because they are rescanned by hash.
pub(super) fn settle_tokens(opened: &OpenedPack, inputs: &mut [Input]) -> Result<()> {
    for input in inputs {
        if input.source.is_empty() {
            "rescanned".clone_into(&mut input.token);
            input.files = 0;
            input.bytes = 0;
            continue;
        }
        let files = opened.discovered.streams.get(&input.stream);
        let file =
            files.and_then(|found| found.files.iter().find(|file| file.relative == input.source));
        if let Some(token) =
            file.map(|file| sqlite::capture_token(&file.path)).transpose()?.flatten()
        {
            input.token = token;
            input.bytes = 0;
        }
    }
    Ok(())
}

/// Waits until whoever applies changes knows of a run that has just begun, and forgets what was
/// noted for earlier ones.
pub(super) async fn announce(conn: &mut PgConnection, pack: &str, is_new: bool) -> Result<()> {
    let mut tx = conn.begin().await?;
    capture_lock::exclusive(&mut tx, pack).await?;
    if is_new {
        sqlx::query("DELETE FROM toolkit.capture_applied WHERE pack = $1")
            .bind(pack)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// What of a chunk was applied from the logs.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Records that changed after the chunk was read.
    records: HashSet<u32>,
    /// Rows whose key was written after the chunk was read, as (output, record, element).
    rows: HashSet<(usize, u32, u32)>,
    /// Rows that the target may hold by the tail's hand, not by an earlier chunk's.
    known: HashSet<(usize, u32, u32)>,
}

impl Applied {
    /// Whether nothing is to be left alone.
    pub(super) fn changes_nothing(&self) -> bool {
        self.records.is_empty() && self.rows.is_empty()
    }

    /// Whether the target's row, if there is one, is an older version of this one and no twin.
    pub(super) fn is_known(&self, output: usize, row: &RowRef) -> bool {
        self.known.contains(&(output, row.record, row.element))
    }

    /// Whether the slice may hold rows of the tail.
    pub(super) fn knows_any(&self) -> bool {
        !self.known.is_empty()
    }
}

/// Takes the lock for the transaction and looks up what was applied of the chunk.
pub(super) async fn applied(
    tx: &mut PgConnection,
    place: &Place<'_>,
    chunk: &Chunk,
) -> Result<Applied> {
    let mut found = Applied::default();
    if !place.is_captured {
        return Ok(found);
    }
    capture_lock::shared(tx, &place.pack.name).await?;
    let noted: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM toolkit.capture_applied WHERE pack = $1 AND stream = $2)",
    )
    .bind(&place.pack.name)
    .bind(&place.stream.name)
    .fetch_one(&mut *tx)
    .await?;
    if !noted {
        return Ok(found);
    }
    let position = chunk.position.unwrap_or(i64::MAX);
    let mut wanted: Vec<(String, Origin)> = Vec::with_capacity(chunk.records.len() * 2);
    let mut files: HashSet<&str> = HashSet::new();
    for (number, record) in chunk.records.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        wanted.push((record.locator.to_string(), Origin::Record(number)));
        files.insert(&record.source);
    }
    wanted.push((FILE_PLACE.to_owned(), Origin::Files));
    for (index, rows) in chunk.outputs.iter().enumerate() {
        let layout = &place.stream.outputs[index].layout;
        for row in &rows.rows {
            let key = layout.key_digest(rows.fields(row));
            let origin = Origin::Row(index, row.record, row.element);
            wanted.push((key_place(index, &key), origin));
        }
    }
    for part in wanted.chunks(PLACES_AT_ONCE) {
        let notes = notes(tx, place, part.iter().map(|(name, _)| name.clone()).collect()).await?;
        for (name, origin) in part {
            for (source, at) in notes.get(name).into_iter().flatten() {
                found.take(chunk, *origin, source, *at, position);
            }
        }
    }
    Ok(found)
}

/// What a place was asked for.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Record(u32),
    Row(usize, u32, u32),
    Files,
}

impl Applied {
    fn take(&mut self, chunk: &Chunk, origin: Origin, source: &str, at: i64, position: i64) {
        match origin {
            Origin::Record(record) => {
                if *chunk.records[record as usize].source == *source && at > position {
                    self.records.insert(record);
                }
            }
            Origin::Files => {
                let records = chunk.records.iter().enumerate();
                let of_file = records.filter(|(_, record)| *record.source == *source);
                if at > position {
                    self.records.extend(of_file.map(|(n, _)| u32::try_from(n).unwrap_or(u32::MAX)));
                }
            }
            Origin::Row(output, record, element) => {
                // Another file's place says nothing about this one's; but who wrote the key for
                // that one looked at all files.
                let is_own = *chunk.records[record as usize].source == *source;
                if !is_own || at > position {
                    self.rows.insert((output, record, element));
                }
                self.known.insert((output, record, element));
            }
        }
    }
}

/// Where these places were applied, by place.
async fn notes(
    tx: &mut PgConnection,
    place: &Place<'_>,
    names: Vec<String>,
) -> Result<HashMap<String, Vec<(String, i64)>>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT place, source, position FROM toolkit.capture_applied \
         WHERE pack = $1 AND stream = $2 AND place = ANY($3)",
    )
    .bind(&place.pack.name)
    .bind(&place.stream.name)
    .bind(names)
    .fetch_all(tx)
    .await?;
    let mut found: HashMap<String, Vec<(String, i64)>> = HashMap::new();
    for (name, source, position) in rows {
        found.entry(name).or_default().push((source, position));
    }
    Ok(found)
}

/// The chunk without what is to be left alone, which counts as superseded.
pub(super) fn without(chunk: &Chunk, place: &Place<'_>, applied: &Applied) -> Chunk {
    let mut kept = Chunk {
        records: chunk.records.clone(),
        counts: chunk.counts.clone(),
        bytes: chunk.bytes,
        next: chunk.next.clone(),
        position: chunk.position,
        ..Chunk::default()
    };
    let places: HashSet<(&str, String)> = applied
        .records
        .iter()
        .map(|record| &chunk.records[*record as usize])
        .map(|record| (&*record.source, record.locator.to_string()))
        .collect();
    // A row of a record names its place behind the record's.
    let is_left = |source: &str, locator: &str| {
        let record = locator.split_once(", ").map_or(locator, |(record, _)| record);
        places.contains(&(source, locator.to_owned()))
            || places.contains(&(source, record.to_owned()))
    };
    let mut counts = std::mem::take(&mut kept.counts);
    let (mut superseded, mut unrejected, mut unskipped) = (applied.records.len() as u64, 0, 0);
    let mut derived = |name: &str, change: &dyn Fn(&mut super::RowCounts)| {
        change(counts.derived.entry(name.to_owned()).or_default());
    };
    for (index, rows) in chunk.outputs.iter().enumerate() {
        let mut output = OutputRows { buffer: rows.buffer.clone(), ..OutputRows::default() };
        output.digest = rows.digest;
        for row in &rows.rows {
            let is_row = applied.rows.contains(&(index, row.record, row.element));
            let is_record = applied.records.contains(&row.record);
            if !is_row && !is_record {
                output.rows.push(*row);
            } else if index > 0 {
                derived(&place.stream.outputs[index].name, &|rows| rows.superseded += 1);
            } else if !is_record {
                superseded += 1;
            }
        }
        kept.outputs.push(output);
    }
    for entry in &chunk.rejects {
        if !is_left(&entry.source, &entry.locator) {
            kept.rejects.push(entry.clone());
        } else if !entry.output.is_empty() {
            derived(&entry.output, &|rows| rows.rejected = rows.rejected.saturating_sub(1));
        } else {
            unrejected += 1;
        }
    }
    for entry in &chunk.ledger {
        if !is_left(&entry.source, &entry.locator) {
            kept.ledger.push(entry.clone());
        } else if !entry.output.is_empty() {
            derived(&entry.output, &|rows| rows.skipped = rows.skipped.saturating_sub(1));
        } else {
            unskipped += 1;
        }
    }
    let (notes, left): (Vec<_>, Vec<_>) = chunk.notes.iter().cloned().partition(|note| {
        !applied.records.contains(&note.record)
            && !applied.rows.contains(&(note.output, note.record, note.element))
    });
    kept.notes = notes;
    counts.ledgered = counts.ledgered.saturating_sub(left.len() as u64);
    counts.records.superseded += superseded;
    counts.records.rejected = counts.records.rejected.saturating_sub(unrejected);
    counts.records.skipped = counts.records.skipped.saturating_sub(unskipped);
    kept.counts = counts;
    kept
}

/// Lets the rows of a state go that have changed since they were read, whether they wait for others
/// or would be filled in: whoever applied them has them. The session holds the capture lock.
pub(super) async fn drop_changed(
    conn: &mut PgConnection,
    settling: &Settling<'_>,
    state: &str,
) -> Result<()> {
    // Of those that wait, also the derived ones that wait for their record.
    let pages = if state == WAITING { "all" } else { state };
    for group in settling.groups(conn, state).await? {
        let mut last = 0;
        while let Some(page) = settling.page(conn, &group, pages, last).await? {
            last = page.ids.last().copied().unwrap_or(i64::MAX);
            drop_page(conn, settling, &group, &page, state).await?;
        }
    }
    Ok(())
}

async fn drop_page(
    conn: &mut PgConnection,
    settling: &Settling<'_>,
    group: &Group,
    page: &super::held::Page,
    state: &str,
) -> Result<()> {
    let place = settling.place(group);
    let mut tx = conn.begin().await?;
    let mut ids = Vec::new();
    let chunk = page.chunk();
    let applied = applied_rows(&mut tx, &place, chunk, page.positions()).await?;
    for (at, id) in page.ids.iter().enumerate() {
        let record = u32::try_from(at).unwrap_or(u32::MAX);
        let is_row = applied.rows.iter().any(|(_, of, _)| *of == record);
        if applied.records.contains(&record) || is_row {
            ids.push(*id);
        }
    }
    // Those stored early are counted as inserted, and were.
    if !ids.is_empty() && state == WAITING {
        let mut counts = super::held::chunk_counts(&mut tx, &place).await?;
        let rows = match group.output {
            0 => &mut counts.records,
            _ => counts.derived.entry(place.stream.outputs[group.output].name.clone()).or_default(),
        };
        rows.held = rows.held.saturating_sub(ids.len() as u64);
        rows.superseded += ids.len() as u64;
        super::held::set_counts(&mut tx, &place, &counts).await?;
    }
    if !ids.is_empty() {
        sqlx::query("DELETE FROM toolkit.held_row WHERE id = ANY($1)")
            .bind(ids)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// As [`applied`], for rows that were read at different times.
async fn applied_rows(
    tx: &mut PgConnection,
    place: &Place<'_>,
    chunk: &Chunk,
    positions: &[i64],
) -> Result<Applied> {
    let all = applied(tx, place, &Chunk { position: Some(i64::MIN), ..chunk.shallow() }).await?;
    if all.changes_nothing() {
        return Ok(all);
    }
    let mut found = Applied::default();
    for (number, position) in positions.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let is_asked = all.records.contains(&number)
            || all.rows.iter().any(|(_, record, _)| *record == number);
        if !is_asked {
            continue;
        }
        let at = Chunk { position: Some(*position), ..chunk.only(number) };
        let own = applied(tx, place, &at).await?;
        if !own.changes_nothing() {
            found.records.insert(number);
        }
    }
    Ok(found)
}
