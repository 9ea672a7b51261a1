//! Rows whose foreign keys lead to rows that may still come.
//!
//! A row that Postgres refuses for want of its parent is no reject yet: the parent may stand in a
//! later chunk, in a later stream, or in a circle with the row itself. Such rows wait in
//! `toolkit.held_row`, put there by their chunk's transaction. When all streams are copied they
//! are tried again, round after round until a round stores nothing. What is left is judged as a
//! whole ([`super::dangling`]): a row is an orphan if, of all rows that are stored or can be, none
//! is its parent. Rows that hold each other up are stored together ([`super::ties`]).
//!
//! Each page of rows leaves the table in the transaction that stores, refuses or counts it, and
//! its chunk's counts move with it, so that a process killed anywhere goes on where it was.

use std::collections::HashSet;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::chunk::{Chunk, OutputRows, RecordRef, RowRef};
use super::counts::{Counts, RowCounts};
use super::merge::{Refused, Written, merge};
use super::orphans::ORPHAN;
use super::prepare::Preparation;
use super::twins::{merge_rule, refuse_twins};
use super::write::{Place, SETTINGS, Scene, account, insert_ledger, insert_rejects, to_json};
use super::{captured, dangling, ties, triggers};
use crate::canonical::{Layout, with_nulls};
use crate::derive::LedgerEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::manifest::ConflictRule;
use crate::source::Locator;
use crate::store::{capture_lock, sql};

/// Bytes of held rows in memory at once, but for a single larger row.
const PAGE_BYTES_MAX: i64 = 16 << 20;

/// Takes out the rows whose record's own row is held: they would have nothing to belong to.
pub(super) fn with_their_records(chosen: &mut Vec<RowRef>, held: &HashSet<u32>) -> Vec<RowRef> {
    let (waiting, others) = chosen.drain(..).partition(|row| held.contains(&row.record));
    *chosen = others;
    waiting
}

/// Takes the orphans out of what was refused.
pub(super) fn take_orphans(written: &mut Written) -> Vec<RowRef> {
    let all = std::mem::take(&mut written.refused);
    let (orphans, refused): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, why)| why.reason == ORPHAN);
    written.refused = refused;
    written.counts.rejected -= orphans.len() as u64;
    orphans.into_iter().map(|(row, _)| row).collect()
}

/// The state of rows that wait for their parents.
pub(super) const WAITING: &str = "waiting";

/// Holds rows of a chunk back, in its transaction.
pub(super) async fn store(
    tx: &mut PgConnection,
    place: &Place<'_>,
    scene: &Scene<'_>,
    rows: &[RowRef],
    state: &str,
) -> Result<()> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    for part in rows.chunks(1000) {
        sqlx::query(include_str!("../sql/held/insert.sql"))
            .bind(place.run_id)
            .bind(&place.pack.name)
            .bind(&place.stream.name)
            .bind(place.source)
            .bind(place.chunk_no)
            .bind(i32::try_from(scene.index).unwrap_or(i32::MAX))
            .bind(part.iter().map(|row| number(row.record)).collect::<Vec<_>>())
            .bind(part.iter().map(|row| number(row.element)).collect::<Vec<_>>())
            .bind(part.iter().map(|row| scene.source(row)).collect::<Vec<_>>())
            .bind(part.iter().map(|row| scene.locator(row)).collect::<Vec<_>>())
            .bind(part.iter().map(|row| scene.fields(row).to_vec()).collect::<Vec<_>>())
            .bind(place.span)
            .bind(scene.chunk.position)
            .bind(state)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Held rows of one output of one chunk.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Position of the stream in the plan.
    pub(super) stream: usize,
    pub(super) source: String,
    pub(super) span: i32,
    pub(super) chunk_no: i64,
    pub(super) output: usize,
    initial_load: bool,
}

impl Group {
    /// The records' own rows of a chunk of a first load.
    pub(super) fn of(stream: usize, source: &str, span: i32, chunk_no: i64) -> Self {
        Self { stream, source: source.to_owned(), span, chunk_no, output: 0, initial_load: true }
    }
}

/// Rows of one group that are in memory. Each stands for a record of its own.
pub(super) struct Page {
    pub(super) ids: Vec<i64>,
    /// The rows as they were derived.
    chunk: Chunk,
    /// Columns that are to be NULL because they lead nowhere.
    nulled: Vec<Vec<usize>>,
    why: Vec<Refused>,
    /// How far changes were captured when each was read.
    positions: Vec<i64>,
    layout: Layout,
}

/// Settles all held rows of a run.
pub(super) struct Settling<'a> {
    pub(super) preparation: &'a Preparation,
    pub(super) run_id: &'a str,
    pub(super) stop: &'a Stop,
}

/// Stores or refuses every held row of the run; none is left.
pub(super) async fn settle(conn: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
    undisturbed(conn, settling, WAITING, async |conn| settle_all(conn, settling).await).await
}

/// Does something about the rows of a state. Captured changes wait for as long as this takes, so
/// that none comes in between, and rows that have changed since they were read are let go first.
pub(super) async fn undisturbed<T>(
    conn: &mut PgConnection,
    settling: &Settling<'_>,
    state: &str,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    let pack = &settling.preparation.opened.plan.name;
    if !settling.preparation.is_captured {
        return work(conn).await;
    }
    capture_lock::keep(conn, pack).await?;
    captured::drop_changed(conn, settling, state).await?;
    let done = work(conn).await;
    capture_lock::release(conn, pack).await?;
    done
}

async fn settle_all(conn: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
    // A run that was given up left rows that a later one reads again.
    sqlx::query("DELETE FROM toolkit.held_row WHERE pack = $1 AND run_id <> $2::uuid")
        .bind(&settling.preparation.opened.plan.name)
        .bind(settling.run_id)
        .execute(&mut *conn)
        .await?;
    loop {
        settling.refuse(conn).await?;
        // Backwards first: what waits in a chunk mostly waits for a later one.
        let mut is_backwards = true;
        while settling.round(conn, is_backwards).await? > 0 {
            is_backwards = !is_backwards;
        }
        let groups = settling.groups(conn, WAITING).await?;
        if groups.is_empty() {
            // Derived rows are refused once their records are stored.
            return settling.refuse(conn).await;
        }
        if dangling::judge(conn, settling, &groups).await? == 0 {
            ties::store(conn, settling).await?;
        }
    }
}

impl Settling<'_> {
    /// The groups that have rows of a state, in copy order.
    pub(super) async fn groups(&self, conn: &mut PgConnection, state: &str) -> Result<Vec<Group>> {
        let rows = sqlx::query(
            "SELECT DISTINCT h.stream, h.source, h.span, h.chunk_no, h.output, s.initial_load \
             FROM toolkit.held_row h JOIN toolkit.stream_state s USING (run_id, stream) \
             WHERE h.run_id = $1::uuid AND h.state = $2 \
             ORDER BY h.source, h.span, h.chunk_no, h.output",
        )
        .bind(self.run_id)
        .bind(state)
        .fetch_all(conn)
        .await?;
        let plan = &self.preparation.opened.plan;
        let mut groups = Vec::with_capacity(rows.len());
        for row in rows {
            let name: String = row.try_get("stream")?;
            let Some(stream) = plan.stream_index(&name) else { continue };
            groups.push(Group {
                stream,
                source: row.try_get("source")?,
                span: row.try_get("span")?,
                chunk_no: row.try_get("chunk_no")?,
                output: usize::try_from(row.try_get::<i32, _>("output")?).unwrap_or(0),
                initial_load: row.try_get("initial_load")?,
            });
        }
        groups.sort_by_key(|group| group.stream);
        Ok(groups)
    }

    pub(super) fn place<'s>(&'s self, group: &'s Group) -> Place<'s> {
        let plan = &self.preparation.opened.plan;
        Place {
            pack: plan,
            stream: &plan.streams[group.stream],
            run_id: self.run_id,
            source: &group.source,
            span: group.span,
            chunk_no: group.chunk_no,
            worker: "",
            sifting: &[],
            direct: &[],
            parents: &[],
            early: &[],
            initial_load: group.initial_load,
            holds: true,
            disable_triggers: self.preparation.options.disable_triggers,
            is_captured: self.preparation.is_captured,
        }
    }

    /// The rows of a group in a state after `last`; None: no more.
    pub(super) async fn page(
        &self,
        conn: &mut PgConnection,
        group: &Group,
        state: &str,
        last: i64,
    ) -> Result<Option<Page>> {
        self.stop.check()?;
        let place = self.place(group);
        let rows = sqlx::query(include_str!("../sql/held/page.sql"))
            .bind(self.run_id)
            .bind(&place.stream.name)
            .bind(&group.source)
            .bind(group.chunk_no)
            .bind(i32::try_from(group.output).unwrap_or(i32::MAX))
            .bind(state)
            .bind(last)
            .bind(PAGE_BYTES_MAX)
            .bind(group.span)
            .fetch_all(conn)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut page = Page {
            ids: Vec::with_capacity(rows.len()),
            chunk: Chunk {
                outputs: place.stream.outputs.iter().map(|_| OutputRows::default()).collect(),
                ..Chunk::default()
            },
            nulled: Vec::with_capacity(rows.len()),
            why: Vec::with_capacity(rows.len()),
            positions: Vec::with_capacity(rows.len()),
            layout: place.stream.outputs[group.output].layout.clone(),
        };
        for row in rows {
            page.add(&row, group.output)?;
        }
        Ok(Some(page))
    }

    /// Tries every waiting row once more; how many were stored, superseded or refused.
    async fn round(&self, conn: &mut PgConnection, is_backwards: bool) -> Result<u64> {
        let mut settled = 0;
        let mut groups = self.groups(conn, WAITING).await?;
        if is_backwards {
            groups.reverse();
        }
        for group in groups {
            let mut last = 0;
            while let Some(page) = self.page(conn, &group, WAITING, last).await? {
                last = page.ids.last().copied().unwrap_or(i64::MAX);
                let place = self.place(&group);
                let mut tx = conn.begin().await?;
                let settings = format!("{SETTINGS}; SET CONSTRAINTS ALL IMMEDIATE");
                sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
                let silenced = triggers::silence(&mut tx, &place).await?;
                let rows = page.rows(&group, &|_| Vec::new());
                let written = write(&mut tx, &place, &group, &rows, None).await?;
                let outcome = page.outcome(&written, rows.rows.iter().map(|row| row.record));
                settled += outcome.done.len() as u64;
                self.account(&mut tx, &group, &page, &written, &outcome).await?;
                triggers::restore(&mut tx, &silenced).await?;
                tx.commit().await?;
            }
        }
        Ok(settled)
    }

    /// Turns the rows that were judged into rejects, and forgets what was derived beside them.
    async fn refuse(&self, conn: &mut PgConnection) -> Result<()> {
        for group in self.groups(conn, "refused").await? {
            while let Some(page) = self.page(conn, &group, "refused", 0).await? {
                let mut tx = conn.begin().await?;
                let mut written = Written::default();
                let rows = &page.chunk.outputs[group.output].rows;
                written.counts.rejected = rows.len() as u64;
                written.refused =
                    rows.iter().zip(&page.why).map(|(row, why)| (*row, why.clone())).collect();
                let outcome = page.outcome(&written, rows.iter().map(|row| row.record));
                self.account(&mut tx, &group, &page, &written, &outcome).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Moves the counts of the page's rows from held to what became of them, records what is to
    /// be recorded, and lets the rows go.
    pub(super) async fn account(
        &self,
        tx: &mut PgConnection,
        group: &Group,
        page: &Page,
        written: &Written,
        outcome: &PageOutcome,
    ) -> Result<()> {
        let place = self.place(group);
        let scene = Scene { stream: place.stream, index: group.output, chunk: &page.chunk };
        let original = |row: &RowRef| page.chunk.outputs[group.output].rows[row.record as usize];
        let refused = written.refused.iter().filter(|(_, why)| !page.waits(why));
        let rejects: Vec<_> = refused.map(|(row, why)| scene.reject(&original(row), why)).collect();
        let mut ledger: Vec<LedgerEntry> = Vec::new();
        for row in &written.superseded {
            ledger.push(scene.superseded(&super::Superseded { row: original(&row.row), ..*row }));
        }
        ledger.extend(written.repeated.iter().map(|row| scene.repeated(&original(row))));
        let nulls = page.null_entries(&scene, outcome);
        let mut rows = written.counts;
        rows.rejected = rejects.len() as u64;
        let mut counts = chunk_counts(tx, &place).await?;
        account(&mut counts, group.output, scene.output(), &rows);
        let held = match group.output {
            0 => &mut counts.records.held,
            _ => &mut counts.derived.entry(scene.output().name.clone()).or_default().held,
        };
        *held -= outcome.done.len() as u64;
        counts.ledgered += nulls.len() as u64;
        ledger.extend(nulls);
        insert_rejects(tx, &place, &rejects, "row").await?;
        insert_ledger(tx, &place, &ledger).await?;
        let refused: Vec<u32> = written.refused.iter().map(|(row, _)| row.record).collect();
        let refused: Vec<i64> = refused.iter().map(|record| page.ids[*record as usize]).collect();
        if group.output == 0 && !rejects.is_empty() {
            forget_derived(tx, &place, &refused, &mut counts).await?;
        }
        set_counts(tx, &place, &counts).await?;
        let leave = outcome.done.iter().filter(|at| !outcome.keep.contains(at));
        let done: Vec<i64> = leave.map(|at| page.ids[*at]).collect();
        sqlx::query("DELETE FROM toolkit.held_row WHERE id = ANY($1)")
            .bind(done)
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// Which rows of a page are done with.
#[derive(Debug, Default)]
pub(super) struct PageOutcome {
    /// Positions of the rows that are counted as what they became.
    pub(super) done: Vec<usize>,
    /// Those of them that are stored.
    pub(super) stored: Vec<usize>,
    /// Those that stay in the table, to be filled in.
    pub(super) keep: Vec<usize>,
}

impl Page {
    /// The rows as they were derived; each stands for a record of its own.
    pub(super) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// How far changes were captured when each row was read.
    pub(super) fn positions(&self) -> &[i64] {
        &self.positions
    }

    fn add(&mut self, row: &PgRow, output: usize) -> Result<()> {
        let fields: Vec<u8> = row.try_get("fields")?;
        let file: String = row.try_get("file")?;
        let locator: String = row.try_get("locator")?;
        let record = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        self.ids.push(row.try_get("id")?);
        self.chunk
            .records
            .push(RecordRef { source: file.into(), locator: Locator::Stored(locator) });
        let rows = &mut self.chunk.outputs[output];
        let start = rows.buffer.len();
        rows.buffer.extend_from_slice(&fields);
        let element = u32::try_from(row.try_get::<i32, _>("element")?).unwrap_or(0);
        let digest = self.layout.row_digest(&fields);
        rows.rows.push(RowRef { start, end: rows.buffer.len(), record, element, digest });
        let position: Option<i64> = row.try_get("position")?;
        self.positions.push(position.unwrap_or(i64::MAX));
        let nulled: Vec<i32> = row.try_get("nulled")?;
        self.nulled.push(nulled.iter().filter_map(|at| usize::try_from(*at).ok()).collect());
        let text = |name: &str| row.try_get::<Option<String>, _>(name);
        self.why.push(Refused {
            reason: text("reason")?.unwrap_or_default(),
            detail: text("detail")?.unwrap_or_default(),
        });
        Ok(())
    }

    /// The rows to be written, with NULL where they lead nowhere and where `more` says so.
    pub(super) fn rows(&self, group: &Group, more: &dyn Fn(&[u8]) -> Vec<usize>) -> OutputRows {
        let derived = &self.chunk.outputs[group.output];
        let mut rows = OutputRows::default();
        for (row, nulled) in derived.rows.iter().zip(&self.nulled) {
            let mut fields = with_nulls(derived.fields(row), nulled);
            let loosened = more(&fields);
            if !loosened.is_empty() {
                fields = with_nulls(&fields, &loosened);
            }
            let start = rows.buffer.len();
            rows.buffer.extend_from_slice(&fields);
            let digest = self.layout.row_digest(&fields);
            rows.rows.push(RowRef { start, end: rows.buffer.len(), digest, ..*row });
        }
        rows
    }

    /// Has each row leave some columns NULL.
    pub(super) fn leave_null(&mut self, ends: Vec<Vec<usize>>) {
        for (nulled, more) in self.nulled.iter_mut().zip(ends) {
            nulled.extend(more.into_iter().filter(|at| !nulled.contains(at)).collect::<Vec<_>>());
        }
    }

    /// Whether a refused row goes on waiting.
    fn waits(&self, why: &Refused) -> bool {
        why.reason == ORPHAN && !self.why.iter().any(|judged| judged == why)
    }

    /// What became of the rows that were tried.
    pub(super) fn outcome(
        &self,
        written: &Written,
        tried: impl Iterator<Item = u32>,
    ) -> PageOutcome {
        let waiting: HashSet<u32> = written
            .refused
            .iter()
            .filter(|(_, why)| self.waits(why))
            .map(|(row, _)| row.record)
            .collect();
        let elsewhere: HashSet<u32> = written
            .refused
            .iter()
            .map(|(row, _)| row.record)
            .chain(written.superseded.iter().map(|superseded| superseded.row.record))
            .chain(written.repeated.iter().map(|row| row.record))
            .collect();
        let mut outcome = PageOutcome::default();
        for record in tried {
            if !waiting.contains(&record) {
                outcome.done.push(record as usize);
            }
            if !elsewhere.contains(&record) {
                outcome.stored.push(record as usize);
            }
        }
        outcome
    }

    /// A ledger entry for every reference that is stored as NULL.
    pub(super) fn null_entries(
        &self,
        scene: &Scene<'_>,
        outcome: &PageOutcome,
    ) -> Vec<LedgerEntry> {
        let mut entries = Vec::new();
        for at in &outcome.stored {
            let row = &self.chunk.outputs[scene.index].rows[*at];
            let nulled = self.nulled[*at].iter();
            entries.extend(nulled.filter_map(|position| scene.nulled(row, *position)));
        }
        entries
    }
}

/// Merges rows of a page as their chunk would have, or as it is told.
pub(super) async fn write(
    tx: &mut PgConnection,
    place: &Place<'_>,
    group: &Group,
    rows: &OutputRows,
    rule: Option<ConflictRule>,
) -> Result<Written> {
    let output = &place.stream.outputs[group.output];
    let chosen = rows.rows.clone();
    if let Some(rule) = rule {
        return merge(tx, output, rule, rows, chosen, true).await;
    }
    let mut written = merge(tx, output, merge_rule(place, output), rows, chosen, true).await?;
    refuse_twins(place, output, &mut written);
    Ok(written)
}

pub(super) async fn chunk_counts(tx: &mut PgConnection, place: &Place<'_>) -> Result<Counts> {
    let text: String = sqlx::query_scalar(
        "SELECT counts::text FROM toolkit.chunk WHERE run_id = $1::uuid AND stream = $2 \
         AND source = $3 AND chunk_no = $4 AND span = $5 FOR UPDATE",
    )
    .bind(place.run_id)
    .bind(&place.stream.name)
    .bind(place.source)
    .bind(place.chunk_no)
    .bind(place.span)
    .fetch_one(tx)
    .await?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Bug, "stored counts cannot be read").because(e))
}

/// Replaces the counts of a chunk that is done.
pub(super) async fn set_counts(
    tx: &mut PgConnection,
    place: &Place<'_>,
    counts: &Counts,
) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.chunk SET counts = $5::jsonb WHERE run_id = $1::uuid AND stream = $2 \
         AND source = $3 AND chunk_no = $4 AND span = $6",
    )
    .bind(place.run_id)
    .bind(&place.stream.name)
    .bind(place.source)
    .bind(place.chunk_no)
    .bind(to_json(counts)?)
    .bind(place.span)
    .execute(tx)
    .await?;
    Ok(())
}

/// Rows derived from records that are refused after all are not counted, as in any chunk.
async fn forget_derived(
    tx: &mut PgConnection,
    place: &Place<'_>,
    refused: &[i64],
    counts: &mut Counts,
) -> Result<()> {
    let gone = sqlx::query(
        "DELETE FROM toolkit.held_row d USING toolkit.held_row m \
         WHERE m.id = ANY($1) AND d.output > 0 AND d.run_id = m.run_id AND d.stream = m.stream \
         AND d.source = m.source AND d.span = m.span AND d.chunk_no = m.chunk_no \
         AND d.record = m.record \
         RETURNING d.output",
    )
    .bind(refused)
    .fetch_all(tx)
    .await?;
    for row in gone {
        let output = usize::try_from(row.try_get::<i32, _>("output")?).unwrap_or(0);
        let name = &place.stream.outputs[output].name;
        let rows: &mut RowCounts = counts.derived.entry(name.clone()).or_default();
        rows.held = rows.held.saturating_sub(1);
    }
    Ok(())
}
