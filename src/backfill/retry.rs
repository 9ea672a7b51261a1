//! Refused records, as they are or corrected, through the casts, rules and merge of a backfill.
//!
//! A group of records, their control rows and their rejects' new states commit in one
//! transaction, so that a retry that is killed can be given again.

mod item;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use self::item::{Item, Kept, Ready};
use crate::backfill::chunk::{Chunk, OutputRows};
use crate::backfill::pack_lock::require_exclusive;
use crate::backfill::sequences::move_sequences;
use crate::backfill::write::{Place, RowsWritten, insert_ledger, insert_rejects, write_rows};
use crate::config::Settings;
use crate::derive::{CORRECTED, Deriver, LedgerEntry, RejectEntry, held_columns};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::ledger::CorrectedLine;
use crate::pack::compile::SourceColumns;
use crate::pack::plan::StreamPlan;
use crate::pack::{OpenedPack, Pack};
use crate::store::{Postgres, replay};

/// Records tried in one transaction.
const RECORDS_AT_ONCE: usize = 200;

/// Records looked at for the names of a stream's columns.
const NAMED_RECORDS_MAX: i64 = 100;

/// Which rejects are tried again, and how.
#[derive(Debug, Clone, Default)]
pub struct RetryOptions {
    /// Only these rejects; empty: all that are open.
    pub ids: Vec<i64>,
    /// Only these streams; empty: all.
    pub streams: Vec<String>,
    /// Corrected records; None: as they are kept.
    pub corrected: Option<Vec<CorrectedLine>>,
    /// Rows that the target holds under the key of a retried record may be replaced, by the
    /// stream's conflict rule.
    pub replace: bool,
    /// Try everything and keep nothing.
    pub dry_run: bool,
}

/// What became of a retry.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Retry {
    /// The pack.
    pub pack: String,
    /// The run that recorded it; None for a dry run, or where there was nothing to try.
    pub run_id: Option<String>,
    /// Whether nothing was to be kept.
    pub dry_run: bool,
    /// Stored as they were kept: resolved.
    pub resolved: Vec<i64>,
    /// Stored corrected: retried.
    pub retried: Vec<i64>,
    /// Refused again: open, with the new reason.
    pub refused: Vec<RefusedAgain>,
    /// Not tried, and why.
    pub left: Vec<LeftAlone>,
    /// Rows beside the records' own that were refused now: new rejects.
    pub new_rejects: u64,
}

/// A reject that was refused again.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedAgain {
    /// Its number.
    pub id: i64,
    /// Target column at fault.
    pub column: Option<String>,
    /// Stable code.
    pub reason: String,
    /// One sentence.
    pub detail: String,
}

/// A reject that was not tried.
#[derive(Debug, Clone, Serialize)]
pub struct LeftAlone {
    /// Its number.
    pub id: i64,
    /// One sentence.
    pub why: String,
    /// Whether what was asked for is stored already.
    pub is_stored: bool,
}

impl LeftAlone {
    fn new(id: i64, why: impl Into<String>) -> Self {
        Self { id, why: why.into(), is_stored: false }
    }
}

impl Retry {
    /// Whether everything that was asked for is stored, now or since an earlier retry.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty()
            && self.left.iter().all(|left| left.is_stored)
            && self.new_rejects == 0
    }
}

/// Tries rejects of a pack again.
///
/// Errors: a number that is no reject of the pack, a pack that does not fit the database, another
/// backfill of the pack at work.
pub async fn retry(
    settings: &Settings,
    postgres: &Postgres,
    pack: Pack,
    options: &RetryOptions,
    stop: &Stop,
) -> Result<Retry> {
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::migrate::CONTROL_PACK).await?;
    require_exclusive(&mut conn, pack.name()).await?;
    let name = pack.name().to_owned();
    let mut retry = Retry { pack: name.clone(), dry_run: options.dry_run, ..Retry::default() };
    let wanted = wanted(&mut conn, &name, options, &mut retry).await?;
    let columns = column_names(&mut conn, &pack).await?;
    let opened = crate::pack::open_without_sources(settings, postgres, pack, &columns).await?;
    let opened = Arc::new(opened);
    let run_id = uuid::Uuid::new_v4().to_string();
    if !options.dry_run && !wanted.is_empty() {
        begin(&mut conn, &run_id, &name, options).await?;
        retry.run_id = Some(run_id.clone());
    }
    let corrected: HashMap<i64, &CorrectedLine> =
        options.corrected.iter().flatten().map(|line| (line.id, line)).collect();
    for (stream, ids) in &wanted {
        let Some(index) = opened.plan.stream_index(stream) else {
            let why = format!("the pack has no stream `{stream}` any more");
            retry.left.extend(ids.iter().map(|id| LeftAlone::new(*id, why.clone())));
            continue;
        };
        for group in ids.chunks(RECORDS_AT_ONCE) {
            stop.check()?;
            let work = Group {
                opened: &opened,
                stream: &opened.plan.streams[index],
                run_id: &run_id,
                options,
                corrected: &corrected,
            };
            work.run(&mut conn, group, &mut retry).await?;
        }
    }
    if retry.run_id.is_some() {
        let streams = wanted.keys().filter_map(|name| opened.plan.stream_index(name));
        let outputs = streams.flat_map(|index| &opened.plan.streams[index].outputs);
        move_sequences(&mut conn, outputs).await?;
        end(&mut conn, &run_id, &retry).await?;
    }
    conn.close().await?;
    Ok(retry)
}

/// The rejects to be tried, by stream; those that need it no more are left alone.
pub(crate) async fn wanted(
    conn: &mut PgConnection,
    pack: &str,
    options: &RetryOptions,
    retry: &mut Retry,
) -> Result<BTreeMap<String, Vec<i64>>> {
    let mut named = options.ids.clone();
    if let Some(lines) = &options.corrected {
        let all: Vec<i64> = lines.iter().map(|line| line.id).collect();
        named = if named.is_empty() {
            all
        } else {
            named.into_iter().filter(|id| all.contains(id)).collect()
        };
    }
    let is_named = !options.ids.is_empty() || options.corrected.is_some();
    let rows: Vec<(i64, String, String, Option<Vec<u8>>)> = sqlx::query_as(
        "SELECT id, stream, state, CASE WHEN state = 'retried' THEN corrected ELSE record END \
         FROM toolkit.reject WHERE pack = $1 \
         AND (NOT $2 AND state = 'open' OR $2 AND id = ANY($3)) \
         AND (cardinality($4::text[]) = 0 OR stream = ANY($4)) ORDER BY id",
    )
    .bind(pack)
    .bind(is_named)
    .bind(&named)
    .bind(&options.streams)
    .fetch_all(conn)
    .await?;
    let unknown: Vec<String> = named
        .iter()
        .filter(|id| options.streams.is_empty() && !rows.iter().any(|(found, ..)| found == *id))
        .map(ToString::to_string)
        .collect();
    if !unknown.is_empty() {
        let detail = format!("the pack {pack} has no reject {}", unknown.join(", "));
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice(format!("`toolkit rejects list --pack {pack}` shows its rejects")));
    }
    let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (id, stream, state, stored) in rows {
        match state.as_str() {
            "open" | "acknowledged" => wanted.entry(stream).or_default().push(id),
            state => {
                let lines = options.corrected.iter().flatten();
                let line = lines.into_iter().find(|line| line.id == id);
                let is_stored = line.is_none_or(|line| {
                    item::is_same(&line.record, stored.as_deref().unwrap_or_default())
                });
                let why = if is_stored {
                    format!("it is {state} already")
                } else {
                    format!(
                        "it is {state} already, with another record than the file's: change the \
                         row itself, or correct the source and run the backfill again"
                    )
                };
                retry.left.push(LeftAlone { id, why, is_stored });
            }
        }
    }
    Ok(wanted)
}

/// Columns of streams that name none in `pack.toml`, as kept records have them.
async fn column_names(conn: &mut PgConnection, pack: &Pack) -> Result<SourceColumns> {
    let mut columns = SourceColumns::new();
    for stream in &pack.manifest.streams {
        if stream.views().iter().all(|view| !view.columns.is_empty()) {
            continue;
        }
        let name = stream.name.get_ref();
        let records: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT record FROM toolkit.reject WHERE pack = $1 AND stream = $2 \
             AND record IS NOT NULL ORDER BY id LIMIT $3",
        )
        .bind(pack.name())
        .bind(name)
        .bind(NAMED_RECORDS_MAX)
        .fetch_all(&mut *conn)
        .await?;
        let known = columns.entry(name.clone()).or_default();
        for column in records.iter().flat_map(|record| held_columns(record)) {
            if !known.iter().any(|name: &String| name.eq_ignore_ascii_case(&column)) {
                known.push(column);
            }
        }
        if known.is_empty() {
            columns.remove(name);
        }
    }
    Ok(columns)
}

pub(crate) async fn begin(
    conn: &mut PgConnection,
    run_id: &str,
    pack: &str,
    options: &RetryOptions,
) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.run SET status = 'failed', finished_at = now(), \
         error = coalesce(error, 'killed before its end') \
         WHERE pack = $1 AND command = 'rejects retry' AND status = 'running'",
    )
    .bind(pack)
    .execute(&mut *conn)
    .await?;
    let settings = json!({
        "ids": options.ids,
        "streams": options.streams,
        "corrected": options.corrected.as_ref().map(Vec::len),
        "replace": options.replace,
    });
    sqlx::query(include_str!("../sql/ledger/recorded_run.sql"))
        .bind(run_id)
        .bind(pack)
        .bind(settings.to_string())
        .bind("{}")
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i32::try_from(std::process::id()).ok())
        .bind("rejects retry")
        .bind("running")
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn end(conn: &mut PgConnection, run_id: &str, retry: &Retry) -> Result<()> {
    let counts = json!({
        "resolved": retry.resolved.len(),
        "retried": retry.retried.len(),
        "refused": retry.refused.len(),
        "left": retry.left.len(),
        "new_rejects": retry.new_rejects,
    });
    sqlx::query(
        "UPDATE toolkit.run SET status = 'completed', finished_at = now(), counts = $2::jsonb \
         WHERE run_id = $1::uuid",
    )
    .bind(run_id)
    .bind(counts.to_string())
    .execute(conn)
    .await?;
    Ok(())
}

/// Records of one stream that are tried in one transaction.
struct Group<'a> {
    opened: &'a Arc<OpenedPack>,
    stream: &'a StreamPlan,
    run_id: &'a str,
    options: &'a RetryOptions,
    corrected: &'a HashMap<i64, &'a CorrectedLine>,
}

impl Group<'_> {
    async fn run(&self, conn: &mut PgConnection, ids: &[i64], retry: &mut Retry) -> Result<()> {
        let mut tx = conn.begin().await?;
        replay(&mut tx).await?;
        sqlx::raw_sql("SET LOCAL synchronous_commit = on; SET CONSTRAINTS ALL IMMEDIATE")
            .execute(&mut *tx)
            .await?;
        let kept = sqlx::query(include_str!("../sql/ledger/retried.sql"))
            .bind(ids)
            .fetch_all(&mut *tx)
            .await?;
        let mut chunk = Chunk {
            outputs: self.stream.outputs.iter().map(|_| OutputRows::default()).collect(),
            ..Chunk::default()
        };
        let mut items: Vec<Item> = Vec::new();
        for row in &kept {
            let reject = Kept::of(row)?;
            let same = |item: &&Item| item.kept.place() == reject.place();
            if items.iter().find(same).is_some() {
                // Another reason for the same record: it goes with the first.
                continue;
            }
            let line = self.corrected.get(&reject.id).copied();
            match self.ready(&mut tx, reject, line, &mut chunk).await? {
                Ready::Item(item) => items.push(item),
                Ready::Refused(refused) => {
                    self.refuse(&mut tx, &refused).await?;
                    retry.refused.push(refused);
                }
                Ready::Left(left) => retry.left.push(left),
            }
        }
        let direct = vec![false; self.stream.outputs.len()];
        let place = Place {
            pack: &self.opened.plan,
            stream: self.stream,
            run_id: self.run_id,
            source: "",
            span: 0,
            chunk_no: 0,
            worker: "",
            sifting: &[],
            holds: false,
            disable_triggers: false,
            is_captured: false,
            direct: &direct,
            parents: &[],
            early: &[],
            // As in a first load: whoever is there stays, unless the caller says otherwise.
            initial_load: !self.options.replace,
        };
        let done = write_rows(&mut tx, &place, &chunk).await?;
        self.conclude(&mut tx, &place, &chunk, items, done, retry).await?;
        if self.options.dry_run {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(())
    }

    /// Makes rows of a kept or corrected record, on a thread that may wait for the server.
    async fn ready(
        &self,
        tx: &mut PgConnection,
        kept: Kept,
        line: Option<&CorrectedLine>,
        chunk: &mut Chunk,
    ) -> Result<Ready> {
        match item::ready(tx, self.opened, self.stream, kept, line).await? {
            item::Made::Record { mut item, held } => {
                let (opened, name) = (Arc::clone(self.opened), self.stream.name.clone());
                let (output, element) = (item.output, item.element);
                let made = tokio::task::spawn_blocking(move || {
                    let index = opened.plan.stream_index(&name).unwrap_or_default();
                    let stream = &opened.plan.streams[index];
                    let mut deriver = Deriver::new(stream, Arc::clone(&opened.redactor));
                    item::derive(&mut deriver, &held, output, element)
                        .map(|derived| (derived, held))
                });
                let (derived, held) = made.await.map_err(crate::pack::join_error)??;
                if let Some(refused) = item.refusal(self.stream, &derived) {
                    return Ok(Ready::Refused(refused));
                }
                let deriver = Deriver::new(self.stream, Arc::clone(&self.opened.redactor));
                item.take(self.stream, &held, &derived, &deriver, chunk);
                Ok(Ready::Item(item))
            }
            item::Made::Row { mut item, fields } => {
                item.take_row(self.stream, &fields, chunk);
                Ok(Ready::Item(item))
            }
            item::Made::Not(ready) => Ok(ready),
        }
    }

    async fn conclude(
        &self,
        tx: &mut PgConnection,
        place: &Place<'_>,
        chunk: &Chunk,
        items: Vec<Item>,
        done: RowsWritten,
        retry: &mut Retry,
    ) -> Result<()> {
        let mut ledger = done.ledger;
        let mut others: Vec<RejectEntry> = Vec::new();
        let mut failed: HashMap<u32, RejectEntry> = HashMap::new();
        for (row, entry) in done.refused {
            let item = items.iter().find(|item| item.record == row.record);
            if item.is_some_and(|item| item.kept.output == entry.output) {
                failed.insert(row.record, entry);
            } else {
                others.push(entry);
            }
        }
        retry.new_rejects += (others.len() + chunk.rejects.len()) as u64;
        insert_rejects(tx, place, &chunk.rejects, "record").await?;
        insert_rejects(tx, place, &others, "row").await?;
        for item in items {
            if let Some(entry) = failed.remove(&item.record) {
                let refused = RefusedAgain {
                    id: item.kept.id,
                    column: entry.column,
                    detail: match entry.reason.as_str() {
                        "duplicate_key" => "the target already holds another row under its key; \
                             with --replace the stream's conflict rule decides"
                            .to_owned(),
                        _ => entry.detail,
                    },
                    reason: entry.reason,
                };
                self.refuse(tx, &refused).await?;
                retry.refused.push(refused);
                continue;
            }
            self.store(tx, &item).await?;
            if item.corrected.is_some() {
                ledger.push(item.correction());
                retry.retried.push(item.kept.id);
            } else {
                retry.resolved.push(item.kept.id);
            }
        }
        insert_ledger(tx, place, &ledger).await
    }

    /// All open rejects of the record are settled with it, whatever their reasons.
    async fn store(&self, tx: &mut PgConnection, item: &Item) -> Result<()> {
        let state = if item.corrected.is_some() { "retried" } else { "resolved" };
        sqlx::query(
            "UPDATE toolkit.reject SET state = $1, corrected = $2, retried_by = $3::uuid \
             WHERE pack = $4 AND stream = $5 AND output = $6 AND source = $7 AND locator = $8 \
             AND record_sha256 = $9 AND state IN ('open', 'acknowledged')",
        )
        .bind(state)
        .bind(&item.corrected)
        .bind(self.run_id)
        .bind(&self.opened.plan.name)
        .bind(&self.stream.name)
        .bind(&item.kept.output)
        .bind(&item.kept.source)
        .bind(&item.kept.locator)
        .bind(item.kept.sha256.to_vec())
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The reject stays open under the new reason. A twin stays one: a later backfill knows it by
    /// its reason.
    async fn refuse(&self, tx: &mut PgConnection, refused: &RefusedAgain) -> Result<()> {
        sqlx::query(
            "UPDATE toolkit.reject AS r SET state = 'open', detail = $2, column_name = $3, \
             reason = CASE WHEN r.reason = 'duplicate_key' OR EXISTS (\
                 SELECT 1 FROM toolkit.reject AS o WHERE o.id <> r.id AND o.pack = r.pack \
                 AND o.stream = r.stream AND o.output = r.output AND o.source = r.source \
                 AND o.locator = r.locator AND o.record_sha256 = r.record_sha256 \
                 AND o.reason = $4) THEN r.reason ELSE $4 END \
             WHERE r.id = $1",
        )
        .bind(refused.id)
        .bind(refused.detail.replace('\0', "\u{fffd}"))
        .bind(&refused.column)
        .bind(&refused.reason)
        .execute(tx)
        .await?;
        Ok(())
    }
}

impl Item {
    /// What parity looks for where the source still holds the refused record.
    fn correction(&self) -> LedgerEntry {
        LedgerEntry {
            output: self.kept.output.clone(),
            source: self.kept.source.clone(),
            locator: self.kept.locator.clone(),
            column: String::new(),
            rule: CORRECTED.to_owned(),
            path: String::new(),
            original: self.kept.record.clone(),
            original_hash: self.kept.sha256,
            secret: false,
            target_digest: self.digest,
        }
    }
}

impl Kept {
    fn of(row: &sqlx::postgres::PgRow) -> Result<Self> {
        let sha256: Vec<u8> = row.try_get("record_sha256")?;
        Ok(Self {
            id: row.try_get("id")?,
            output: row.try_get("output")?,
            source: row.try_get("source")?,
            locator: row.try_get("locator")?,
            is_unread: row.try_get("is_unread")?,
            record: row.try_get("record")?,
            sha256: sha256.try_into().unwrap_or_default(),
            secret: row.try_get("secret")?,
            shape: row.try_get("shape")?,
        })
    }
}
