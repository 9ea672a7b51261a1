//! One chunk, one transaction: rows, rejects, ledger, counts, digest and checkpoint.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::backfill::captured::{self, Applied};
use crate::backfill::chunk::{Chunk, OutputRows, RowRef};
use crate::backfill::content;
use crate::backfill::counts::{Counts, RowCounts};
use crate::backfill::early::{EARLY, Loosened};
use crate::backfill::held::{self, WAITING};
use crate::backfill::lease::LEASE_SECONDS;
use crate::backfill::merge::{self, Refused, Superseded, Written};
use crate::backfill::orphans::ORPHAN;
use crate::backfill::parents::Parents;
use crate::backfill::triggers;
use crate::backfill::twins::{KnownTwins, merge_rule, refuse_twins};
use crate::canonical::fields_of;
use crate::derive::{LedgerEntry, RejectEntry, output_name};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::{OutputPlan, PackPlan, StreamPlan};
use crate::source::Locator;
use crate::store::sql;

/// What a chunk's transaction needs to know beside the chunk.
#[derive(Debug, Clone, Copy)]
// Independent facts about the run, not a state in disguise.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Place<'a> {
    /// The pack.
    pub pack: &'a PackPlan,
    /// The stream.
    pub stream: &'a StreamPlan,
    /// The run.
    pub run_id: &'a str,
    /// The source's name in checkpoints.
    pub source: &'a str,
    /// The pending chunk that this one completes.
    pub span: i32,
    /// Its number in the span.
    pub chunk_no: i64,
    /// Who has the lease.
    pub worker: &'a str,
    /// Whether each output's slice was empty when the stream began.
    pub direct: &'a [bool],
    /// Of each output, the foreign keys that this process looks after in a straight COPY.
    pub parents: &'a [Option<Parents>],
    /// References of the stream's only output that are filled in when all streams are copied.
    pub early: &'a [usize],
    /// Whether all of the stream's slices were empty when it began.
    pub initial_load: bool,
    /// What earlier chunks say about each output.
    pub sifting: &'a [Sifting],
    /// Whether rows whose parents may still come are held back; else they are refused.
    pub holds: bool,
    /// Whether user triggers of the targets are switched off for the transaction.
    pub disable_triggers: bool,
    /// Whether changes of the source are captured, and may be applied meanwhile.
    pub is_captured: bool,
}

/// Whether it pays to sort out unchanged rows before anything wide is sent: as long as the last
/// chunk had some worth it. Where all rows are new or different, asking for their digests first
/// is a tenth of the work, for nothing.
#[derive(Debug)]
pub(super) struct Sifting(AtomicBool);

impl Default for Sifting {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Sifting {
    fn pays(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn learn(&self, counts: &RowCounts) {
        if counts.total() > 0 {
            self.0.store(counts.unchanged * 8 >= counts.total(), Ordering::Relaxed);
        }
    }
}

/// Writes the chunk and returns its counts. Everything or nothing is committed; nothing, and
/// None, where the chunk is no longer this worker's.
pub(super) async fn write_chunk(
    conn: &mut PgConnection,
    place: Place<'_>,
    chunk: &Chunk,
) -> Result<Option<Counts>> {
    match try_chunk(conn, place, chunk, "").await {
        // Deferred constraints speak up at COMMIT, when it is too late to tell whose row it was.
        Err(error) if merge::is_about_data(&error) => {
            try_chunk(conn, place, chunk, "; SET CONSTRAINTS ALL IMMEDIATE").await
        }
        done => done,
    }
}

/// What a transaction that writes rows is set to. What it writes is small against the target: keys
/// are looked up, the target is never scanned whole. Without sequential scans estimates are absurd,
/// and would have every statement compiled.
pub(crate) const SETTINGS: &str = "SET LOCAL synchronous_commit = on; SET LOCAL enable_seqscan = off; \
     SET LOCAL \"toolkit.replay\" = 'on'; \
     SET LOCAL jit = off; SET LOCAL random_page_cost = 1.1; SET LOCAL work_mem = '64MB'";

async fn try_chunk(
    conn: &mut PgConnection,
    place: Place<'_>,
    chunk: &Chunk,
    settings: &'static str,
) -> Result<Option<Counts>> {
    let mut tx = conn.begin().await?;
    let settings = format!(
        "{SETTINGS}; SET LOCAL idle_in_transaction_session_timeout = '{LEASE_SECONDS}s'{settings}"
    );
    sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
    if !claim(&mut tx, &place).await? {
        tx.rollback().await?;
        return Ok(None);
    }
    let applied = captured::applied(&mut tx, &place, chunk).await?;
    let reduced;
    let whole = chunk;
    let mut chunk = chunk;
    if !applied.changes_nothing() {
        reduced = captured::without(chunk, &place, &applied);
        chunk = &reduced;
    }
    let silenced = triggers::silence(&mut tx, &place).await?;
    let done = write_rows_beside(&mut tx, &place, chunk, &applied).await?;
    let counts = done.counts;
    if !counts.is_balanced() {
        return Err(Error::new(
            ErrorKind::Bug,
            format!(
                "stream {}: {} records were read but {} accounted for; the chunk was rolled back",
                place.stream.name,
                counts.read,
                counts.records.total()
            ),
        ));
    }
    let refused: Vec<RejectEntry> = done.refused.into_iter().map(|(_, entry)| entry).collect();
    insert_rejects(&mut tx, &place, &chunk.rejects, "record").await?;
    insert_rejects(&mut tx, &place, &refused, "row").await?;
    insert_ledger(&mut tx, &place, &done.ledger).await?;
    triggers::restore(&mut tx, &silenced).await?;
    checkpoint(&mut tx, &place, whole, &counts).await?;
    tx.commit().await?;
    Ok(Some(counts))
}

/// What became of the rows of a chunk.
pub(super) struct RowsWritten {
    /// The chunk's counts, with what became of its rows.
    pub counts: Counts,
    /// Rows that Postgres refused, with the position of their record.
    pub refused: Vec<(RowRef, RejectEntry)>,
    /// Ledger entries of the rules, and of the values that are stored.
    pub ledger: Vec<LedgerEntry>,
}

/// Writes the rows of a chunk; control rows are the caller's.
pub(super) async fn write_rows(
    tx: &mut PgConnection,
    place: &Place<'_>,
    chunk: &Chunk,
) -> Result<RowsWritten> {
    write_rows_beside(tx, place, chunk, &Applied::default()).await
}

/// The same where the target may hold older versions of some rows, by captured changes.
async fn write_rows_beside(
    tx: &mut PgConnection,
    place: &Place<'_>,
    chunk: &Chunk,
    applied: &Applied,
) -> Result<RowsWritten> {
    let mut counts = chunk.counts.clone();
    let mut rejects: Vec<(RowRef, RejectEntry)> = Vec::new();
    let mut ledger: Vec<LedgerEntry> = chunk.ledger.clone();
    let mut refused_records: HashSet<u32> = HashSet::new();
    let mut refused_rows: HashSet<(usize, u32, u32)> = HashSet::new();
    let mut held_records: HashSet<u32> = HashSet::new();
    let known_twins = KnownTwins::load(tx, place).await?;
    for index in place.stream.writing_order() {
        let output = &place.stream.outputs[index];
        let rows = &chunk.outputs[index];
        let scene = Scene { stream: place.stream, index, chunk };
        let mut chosen: Vec<RowRef> = rows
            .rows
            .iter()
            .filter(|row| output.mention || !refused_records.contains(&row.record))
            .copied()
            .collect();
        let twins = known_twins.take_out(&scene, &mut chosen);
        let found = content::take_held(tx, place, &scene, &mut chosen).await?;
        let mut held = held::with_their_records(&mut chosen, &held_records);
        let untouched = chosen.len() == rows.rows.len();
        let (known, chosen): (Vec<RowRef>, Vec<RowRef>) =
            chosen.into_iter().partition(|row| applied.is_known(index, row));
        let is_plain = untouched && !applied.knows_any() && applied.changes_nothing();
        let mut written = if is_plain && !place.early.is_empty() && !chosen.is_empty() {
            let loosened = Loosened::of(rows, &chosen, place.early);
            let loose = loosened.rows.rows.clone();
            let written = direct_or_merge(tx, place, index, &loosened.rows, loose).await?;
            let (written, early) = loosened.settle(written, &chosen);
            held::store(tx, place, &scene, &early, EARLY).await?;
            written
        } else if place.direct[index] && is_plain && !chosen.is_empty() {
            direct_or_merge(tx, place, index, rows, chosen).await?
        } else {
            sifted_merge(tx, place, index, rows, chosen).await?
        };
        refuse_twins(place, output, &mut written);
        if !known.is_empty() {
            // What is there is an older version of the row; by no rule does it win.
            written.append(
                merge::merge(tx, output, ConflictRule::SourceWins, rows, known, true).await?,
            );
        }
        if place.holds {
            held.extend(held::take_orphans(&mut written));
            written.counts.held += held.len() as u64;
            held::store(tx, place, &scene, &held, WAITING).await?;
        }
        written.counts.add(&twins.counts);
        written.counts.unchanged += found;
        written.refused.extend(twins.refused);
        if index == 0 {
            refused_records.extend(written.refused.iter().map(|(row, _)| row.record));
            held_records.extend(held.iter().map(|row| row.record));
        }
        account(&mut counts, index, output, &written.counts);
        let places = written.refused.iter().map(|(row, _)| (index, row.record, row.element));
        refused_rows.extend(places);
        rejects.extend(written.refused.iter().map(|(row, why)| (*row, scene.reject(row, why))));
        ledger.extend(written.superseded.iter().map(|row| scene.superseded(row)));
        ledger.extend(written.repeated.iter().map(|row| scene.repeated(row)));
    }
    // A value that is not stored is not stored changed: its record is a reject, kept whole.
    for note in &chunk.notes {
        let row = (note.output, note.record, note.element);
        if refused_records.contains(&note.record) || refused_rows.contains(&row) {
            counts.ledgered -= 1;
        } else {
            ledger.push(note.entry.clone());
        }
    }
    Ok(RowsWritten { counts, refused: rejects, ledger })
}

async fn sifted_merge(
    tx: &mut PgConnection,
    place: &Place<'_>,
    index: usize,
    rows: &OutputRows,
    chosen: Vec<RowRef>,
) -> Result<Written> {
    let (output, sifting) = (&place.stream.outputs[index], place.sifting.get(index));
    let rule = merge_rule(place, output);
    let pays = sifting.is_none_or(Sifting::pays);
    let merged = merge::merge(tx, output, rule, rows, chosen, pays).await?;
    if let Some(sifting) = sifting {
        sifting.learn(&merged.counts);
    }
    Ok(merged)
}

async fn direct_or_merge(
    tx: &mut PgConnection,
    place: &Place<'_>,
    index: usize,
    rows: &OutputRows,
    chosen: Vec<RowRef>,
) -> Result<Written> {
    let output = &place.stream.outputs[index];
    let parents = place.parents.get(index).and_then(Option::as_ref);
    let mut savepoint = tx.begin().await?;
    match copied(&mut savepoint, output, rows, parents).await {
        Ok(Some(inserted)) if inserted == chosen.len() as u64 => {
            savepoint.commit().await?;
            let counts = RowCounts { inserted, ..RowCounts::default() };
            return Ok(Written { counts, ..Written::default() });
        }
        Ok(_) => savepoint.rollback().await?,
        Err(error) => {
            savepoint.rollback().await?;
            if !merge::is_about_data(&error) {
                return Err(error);
            }
            tracing::debug!(output = output.name, "straight COPY refused; merging instead");
        }
    }
    merge::merge(tx, output, merge_rule(place, output), rows, chosen, true).await
}

/// How many rows went in; None where one has no parent.
async fn copied(
    savepoint: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    parents: Option<&Parents>,
) -> Result<Option<u64>> {
    let Some(parents) = parents else {
        return merge::copy_direct(savepoint, output, rows).await.map(Some);
    };
    parents.switch_off(savepoint).await?;
    let inserted = merge::copy_direct(savepoint, output, rows).await?;
    Ok(parents.hold(savepoint, rows).await?.then_some(inserted))
}

pub(super) fn account(counts: &mut Counts, index: usize, output: &OutputPlan, rows: &RowCounts) {
    if index == 0 {
        counts.records.add(rows);
    } else {
        counts.derived.entry(output.name.clone()).or_default().add(rows);
    }
}

/// The output at hand, for entries about its rows.
pub(super) struct Scene<'a> {
    pub(super) stream: &'a StreamPlan,
    pub(super) index: usize,
    pub(super) chunk: &'a Chunk,
}

impl Scene<'_> {
    pub(super) fn output(&self) -> &OutputPlan {
        &self.stream.outputs[self.index]
    }

    pub(super) fn locator(&self, row: &RowRef) -> String {
        let record = &self.chunk.records[row.record as usize];
        if self.output().each.is_some() && !matches!(record.locator, Locator::Stored(_)) {
            format!("{}, {} {}", record.locator, self.output().name, row.element)
        } else {
            record.locator.to_string()
        }
    }

    pub(super) fn source(&self, row: &RowRef) -> String {
        self.chunk.records[row.record as usize].source.to_string()
    }

    pub(super) fn fields(&self, row: &RowRef) -> &[u8] {
        self.chunk.outputs[self.index].fields(row)
    }

    fn key(&self, row: &RowRef) -> String {
        if self.output().is_content {
            return String::new();
        }
        let text = crate::canonical::display_key(self.output(), self.fields(row));
        text.chars().take(400).collect()
    }

    /// A row that Postgres refused: kept in its encoded, already redacted form.
    pub(super) fn reject(&self, row: &RowRef, why: &Refused) -> RejectEntry {
        let shown = crate::canonical::display_row(self.output(), self.fields(row));
        let bytes = serde_json::Value::Object(shown).to_string().into_bytes();
        RejectEntry {
            output: output_name(self.stream, self.index),
            source: self.source(row),
            locator: self.locator(row),
            key: Some(self.key(row)).filter(|key| !key.is_empty()),
            column: None,
            reason: why.reason.clone(),
            detail: why.detail.clone(),
            record_sha256: crate::canonical::sha256(&bytes),
            record: Some(bytes),
            secret: false,
        }
    }

    /// The entry of a value that is NULL in the target because it leads nowhere; None: it was
    /// NULL before.
    pub(super) fn nulled(&self, row: &RowRef, position: usize) -> Option<LedgerEntry> {
        let column = &self.output().columns[position];
        let fields = self.fields(row);
        let range = fields_of(fields).get(position).cloned()??;
        let ty = column.cast.ty();
        let original = crate::canonical::display_field(ty, &fields[range]).into_bytes();
        Some(LedgerEntry {
            output: output_name(self.stream, self.index),
            source: self.source(row),
            locator: self.locator(row),
            column: column.name.clone(),
            rule: ORPHAN.to_owned(),
            path: String::new(),
            original_hash: crate::canonical::sha256(&original),
            original: Some(original),
            secret: false,
            target_digest: None,
        })
    }

    pub(super) fn superseded(&self, superseded: &Superseded) -> LedgerEntry {
        self.entry(&superseded.row, superseded.rule, superseded.target_digest)
    }

    pub(super) fn repeated(&self, row: &RowRef) -> LedgerEntry {
        self.entry(row, "identical_duplicate", None)
    }

    fn entry(&self, row: &RowRef, rule: &str, target_digest: Option<[u8; 32]>) -> LedgerEntry {
        LedgerEntry {
            output: output_name(self.stream, self.index),
            source: self.source(row),
            locator: self.locator(row),
            column: String::new(),
            rule: rule.to_owned(),
            path: String::new(),
            original: None,
            original_hash: row.digest,
            secret: false,
            target_digest,
        }
    }
}

/// Locks the pending chunk until the end of the transaction, so that nobody takes it over in
/// between. False: somebody already has, or an earlier try was committed after all, or the run
/// was given up; whatever this worker has read is then not its to write.
async fn claim(tx: &mut PgConnection, place: &Place<'_>) -> Result<bool> {
    let found = sqlx::query(include_str!("../sql/backfill/claim_chunk.sql"))
        .bind(place.run_id)
        .bind(&place.stream.name)
        .bind(place.source)
        .bind(place.span)
        .bind(place.chunk_no)
        .bind(place.worker)
        .fetch_optional(tx)
        .await?;
    Ok(found.is_some())
}

async fn checkpoint(
    tx: &mut PgConnection,
    place: &Place<'_>,
    chunk: &Chunk,
    counts: &Counts,
) -> Result<()> {
    let mut digest = Vec::with_capacity(24 * chunk.outputs.len());
    for output in &chunk.outputs {
        digest.extend_from_slice(&output.digest.count.to_be_bytes());
        digest.extend_from_slice(&output.digest.sum.to_be_bytes());
    }
    let next = chunk.next.as_ref().map(to_json).transpose()?;
    let mode = if place.direct.iter().any(|direct| *direct) { "copy" } else { "merge" };
    sqlx::query(include_str!("../sql/backfill/checkpoint.sql"))
        .bind(place.run_id)
        .bind(&place.stream.name)
        .bind(place.source)
        .bind(place.chunk_no)
        .bind(&next)
        .bind(mode)
        .bind(to_json(counts)?)
        .bind(digest)
        .bind(i64::try_from(counts.read).unwrap_or(i64::MAX))
        .bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX))
        .bind(place.span)
        .bind(LEASE_SECONDS)
        .execute(tx)
        .await?;
    Ok(())
}

/// A value as JSON text for a jsonb parameter.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Bug, "a control row is not JSON").because(e))
}

/// Rows of `toolkit.reject` and `toolkit.ledger` sent at once.
const ENTRIES_AT_ONCE: usize = 1000;

/// Whose rejects and ledger entries they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorded<'a> {
    /// The run.
    pub(crate) run_id: &'a str,
    /// The pack.
    pub(crate) pack: &'a str,
    /// The stream.
    pub(crate) stream: &'a str,
}

impl<'a> Place<'a> {
    fn recorded(&self) -> Recorded<'a> {
        Recorded { run_id: self.run_id, pack: &self.pack.name, stream: &self.stream.name }
    }
}

pub(super) async fn insert_rejects(
    tx: &mut PgConnection,
    place: &Place<'_>,
    rejects: &[RejectEntry],
    shape: &str,
) -> Result<()> {
    record_rejects(tx, place.recorded(), rejects, shape).await
}

/// `shape` is `record` for records as the source has them, `row` for rows of the target.
pub(crate) async fn record_rejects(
    tx: &mut PgConnection,
    place: Recorded<'_>,
    rejects: &[RejectEntry],
    shape: &str,
) -> Result<()> {
    for part in rejects.chunks(ENTRIES_AT_ONCE) {
        let text = |get: fn(&RejectEntry) -> &str| -> Vec<String> {
            part.iter().map(|entry| get(entry).replace('\0', "\u{fffd}")).collect()
        };
        let optional = |get: fn(&RejectEntry) -> Option<&String>| -> Vec<Option<String>> {
            part.iter().map(|entry| get(entry).map(|t| t.replace('\0', "\u{fffd}"))).collect()
        };
        sqlx::query(include_str!("../sql/backfill/insert_rejects.sql"))
            .bind(place.run_id)
            .bind(place.pack)
            .bind(place.stream)
            .bind(text(|entry| &entry.output))
            .bind(text(|entry| &entry.source))
            .bind(text(|entry| &entry.locator))
            .bind(optional(|entry| entry.key.as_ref()))
            .bind(optional(|entry| entry.column.as_ref()))
            .bind(text(|entry| &entry.reason))
            .bind(text(|entry| &entry.detail))
            .bind(part.iter().map(|entry| entry.record.clone()).collect::<Vec<_>>())
            .bind(part.iter().map(|entry| entry.record_sha256.to_vec()).collect::<Vec<_>>())
            .bind(part.iter().map(|entry| entry.secret).collect::<Vec<_>>())
            .bind(shape)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

pub(super) async fn insert_ledger(
    tx: &mut PgConnection,
    place: &Place<'_>,
    ledger: &[LedgerEntry],
) -> Result<()> {
    record_ledger(tx, place.recorded(), ledger).await
}

/// Writes ledger entries; one that is known moves to the run.
pub(crate) async fn record_ledger(
    tx: &mut PgConnection,
    place: Recorded<'_>,
    ledger: &[LedgerEntry],
) -> Result<()> {
    for part in ledger.chunks(ENTRIES_AT_ONCE) {
        let text = |get: fn(&LedgerEntry) -> &str| -> Vec<String> {
            part.iter().map(|entry| get(entry).replace('\0', "\u{fffd}")).collect()
        };
        sqlx::query(include_str!("../sql/backfill/insert_ledger.sql"))
            .bind(place.run_id)
            .bind(place.pack)
            .bind(place.stream)
            .bind(text(|entry| &entry.output))
            .bind(text(|entry| &entry.source))
            .bind(text(|entry| &entry.locator))
            .bind(text(|entry| &entry.column))
            .bind(text(|entry| &entry.rule))
            .bind(text(|entry| &entry.path))
            .bind(part.iter().map(|entry| entry.original.clone()).collect::<Vec<_>>())
            .bind(part.iter().map(|entry| entry.original_hash.to_vec()).collect::<Vec<_>>())
            .bind(part.iter().map(|entry| entry.secret).collect::<Vec<_>>())
            .bind(
                part.iter()
                    .map(|entry| entry.target_digest.map(|digest| digest.to_vec()))
                    .collect::<Vec<_>>(),
            )
            .bind(part.iter().map(|entry| entry.hash().to_vec()).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
