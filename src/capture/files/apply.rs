//! One file, one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::Document;
use crate::backfill::captured::FILE_PLACE;
use crate::backfill::chunk::{Chunk, OutputRows};
use crate::backfill::unconditional::{APPLY_SETTINGS, Field, Stored, delete_keys};
use crate::backfill::{Refused, RowRef};
use crate::canonical::Digest;
use crate::derive::{Derived, Deriver, LedgerEntry, RejectEntry, key_fields};
use crate::error::Result;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::SourceKind;
use crate::pack::{OpenedPack, join_error};
use crate::source::documents::{DocumentKind, DocumentSource};
use crate::source::{Content, Flow, Position, SourceFile, StreamSource};
use crate::store::{capture_lock, sql};

/// Encoded bytes of a file in memory at once, but for its largest record.
const BYTES_MAX: usize = 8 << 20;

/// A file that is to be applied.
pub(super) struct FileWork<'a> {
    pub(super) opened: &'a Arc<OpenedPack>,
    pub(super) run_id: &'a str,
    pub(super) document: &'a Document,
    /// All documents of the pack, with the streams that read them.
    pub(super) all: &'a BTreeMap<String, (SourceFile, Vec<String>)>,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) deleted: u64,
    pub(super) rejects: u64,
    /// Rows that other rows are in the way of; the file is applied again the next time.
    pub(super) waits: u64,
}

/// The part of one stream.
#[derive(Default)]
struct Part {
    rejects: Vec<RejectEntry>,
    refused: Vec<RejectEntry>,
    ledger: Vec<LedgerEntry>,
    /// Keys of the file's rows, by output: their fields, and whether the target holds them.
    keys: HashMap<(usize, Digest), (Vec<u8>, bool)>,
    /// Keys whose rows were refused: an older one must not stay.
    lost: HashMap<(usize, Digest), Vec<u8>>,
    /// Files whose row had to give way to this one's.
    displaced: HashSet<String>,
}

impl FileWork<'_> {
    fn relative(&self) -> &str {
        &self.document.listed.relative
    }

    /// Applies the file; None: it has a record that cannot be parsed, and may still be being
    /// written (unless `is_final`).
    pub(super) async fn apply(
        &self,
        conn: &mut PgConnection,
        is_final: bool,
    ) -> Result<Option<Done>> {
        let plan = &self.opened.plan;
        let mut tx = begin(conn, &plan.name).await?;
        let mut done = Done::default();
        for name in &self.document.listed.streams {
            let Some(stream) = plan.stream_index(name) else { continue };
            let field = Field { pack: plan, stream: &plan.streams[stream], run_id: self.run_id };
            retire(&mut tx, &field, self.relative()).await?;
            let mut part = Part::default();
            let mut source = Some(self.source(stream));
            let mut from = None;
            while let Some(reading) = source.take() {
                let read = self.read(stream, reading, from.take()).await?;
                if read.is_broken && !is_final {
                    tx.rollback().await?;
                    return Ok(None);
                }
                part.store(&mut tx, &field, self.relative(), &read.chunk, &mut done).await?;
                if read.chunk.next.is_some() {
                    from.clone_from(&read.chunk.next);
                    source = Some(read.source);
                }
            }
            part.conclude(&mut tx, &field, self.relative(), &mut done).await?;
        }
        self.remember(&mut tx, &done).await?;
        tx.commit().await?;
        Ok(Some(done))
    }

    /// A reader of the file, and of its copies, of which one counts.
    fn source(&self, stream: usize) -> StreamSource {
        let plan = &self.opened.plan.streams[stream];
        let is_equal = |(file, streams): &&(SourceFile, Vec<String>)| {
            file.sha256 == self.document.file.sha256 && streams.contains(&plan.name)
        };
        let mut files: Vec<SourceFile> =
            self.all.values().filter(is_equal).map(|(file, _)| file.clone()).collect();
        files.sort_by(|a, b| a.relative.cmp(&b.relative));
        let kind = match &plan.source {
            SourceKind::Jsonl { .. } => DocumentKind::Jsonl,
            SourceKind::Csv { .. } => DocumentKind::Csv,
            SourceKind::Json { records, .. } => {
                DocumentKind::Json { records: records.clone(), beside: plan.root_pointers() }
            }
            SourceKind::Sqlite { .. } => DocumentKind::Json { records: None, beside: Vec::new() },
        };
        StreamSource::Documents(DocumentSource::new(files, kind))
    }

    async fn read(
        &self,
        stream: usize,
        mut source: StreamSource,
        from: Option<Position>,
    ) -> Result<Read> {
        let (opened, name) = (Arc::clone(self.opened), self.relative().to_owned());
        tokio::task::spawn_blocking(move || {
            let plan = &opened.plan.streams[stream];
            let mut deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
            let mut derived = Derived::default();
            let mut chunk = empty(plan.outputs.len());
            let relative: Arc<str> = Arc::from(name.as_str());
            let mut is_broken = false;
            chunk.next = source.read(from.as_ref(), &mut |record| {
                if record.file.relative == name {
                    is_broken |= matches!(record.content, Content::Broken { .. });
                    deriver.derive(record, &mut derived)?;
                    chunk.add(plan, record, &derived, &deriver, &relative);
                }
                let is_full = chunk.bytes >= BYTES_MAX;
                Ok(if is_full { Flow::Pause } else { Flow::Continue })
            })?;
            Ok(Read { source, chunk, is_broken })
        })
        .await
        .map_err(join_error)?
    }

    async fn remember(&self, tx: &mut PgConnection, done: &Done) -> Result<()> {
        let pack = &self.opened.plan.name;
        // Rows that wait are tried again: the hash says that the file is not applied.
        let sha256 = if done.waits > 0 { "" } else { &self.document.file.sha256 };
        sqlx::query(include_str!("../../sql/capture/remember_file.sql"))
            .bind(pack)
            .bind(self.relative())
            .bind(&self.document.listed.streams)
            .bind(sha256)
            .bind(i64::try_from(self.document.file.size_bytes).unwrap_or(i64::MAX))
            .bind(self.document.stat.modified_ns)
            .bind(self.document.stat.changed_ns)
            .bind(self.document.stat.inode.cast_signed())
            .execute(&mut *tx)
            .await?;
        note_file(tx, pack, &self.document.listed.streams, self.relative()).await
    }
}

struct Read {
    source: StreamSource,
    chunk: Chunk,
    is_broken: bool,
}

fn empty(outputs: usize) -> Chunk {
    Chunk { outputs: (0..outputs).map(|_| OutputRows::default()).collect(), ..Chunk::default() }
}

async fn begin<'c>(
    conn: &'c mut PgConnection,
    pack: &str,
) -> Result<sqlx::Transaction<'c, sqlx::Postgres>> {
    let mut tx = conn.begin().await?;
    sqlx::raw_sql(sql(APPLY_SETTINGS.to_owned())).execute(&mut *tx).await?;
    capture_lock::exclusive(&mut tx, pack).await?;
    Ok(tx)
}

/// History of this file that is read by now is older.
async fn note_file(
    tx: &mut PgConnection,
    pack: &str,
    streams: &[String],
    source: &str,
) -> Result<()> {
    for stream in streams {
        sqlx::query(
            "INSERT INTO toolkit.capture_applied AS a (pack, stream, source, place, position) \
             SELECT $1, $2, $3, $4, last_value FROM toolkit.capture_file_position \
             WHERE (SELECT status IN ('running', 'interrupted', 'failed') FROM toolkit.run \
                    WHERE pack = $1 AND command = 'backfill' ORDER BY started_at DESC LIMIT 1) \
             ON CONFLICT (pack, stream, place, source) DO UPDATE SET position = EXCLUDED.position",
        )
        .bind(pack)
        .bind(stream)
        .bind(source)
        .bind(FILE_PLACE)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Decisions about rows of the file are made anew.
async fn retire(tx: &mut PgConnection, field: &Field<'_>, source: &str) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.ledger SET rule = rule || '_before' \
         WHERE pack = $1 AND stream = $2 AND source = $3 \
         AND rule IN ('superseded', 'superseded_tie', 'superseded_in_source', 'target_wins', \
                      'identical_duplicate', 'orphan')",
    )
    .bind(&field.pack.name)
    .bind(&field.stream.name)
    .bind(source)
    .execute(tx)
    .await?;
    Ok(())
}

impl Part {
    async fn store(
        &mut self,
        tx: &mut PgConnection,
        field: &Field<'_>,
        source: &str,
        chunk: &Chunk,
        done: &mut Done,
    ) -> Result<()> {
        let mut lost: HashSet<(usize, u32, u32)> = HashSet::new();
        let mut lost_records: HashSet<u32> = HashSet::new();
        for index in field.stream.writing_order() {
            let (output, rows) = (&field.stream.outputs[index], &chunk.outputs[index]);
            let key = |row: &RowRef| output.layout.key_digest(rows.fields(row));
            let chosen: Vec<RowRef> = rows
                .rows
                .iter()
                .filter(|row| output.mention || !lost_records.contains(&row.record))
                .copied()
                .collect();
            let owners = owners(tx, field, index, source, chosen.iter().map(key)).await?;
            let (contested, free): (Vec<RowRef>, Vec<RowRef>) =
                chosen.into_iter().partition(|row| owners.contains_key(&key(row)));
            let mut refused = Vec::new();
            let stored = field.store(tx, chunk, index, free.clone()).await?;
            self.take(rows, output, index, &free, &stored, &HashMap::new());
            done.rows += stored.changed;
            self.ledger.extend(stored.ledger);
            refused.extend(stored.refused);
            if output.conflict == ConflictRule::SourceWins {
                let why = || Refused {
                    reason: "duplicate_key".to_owned(),
                    detail: "another file has the same key; the first is kept".to_owned(),
                };
                refused.extend(contested.iter().map(|row| (*row, why())));
            } else {
                let stored =
                    field.store_by(tx, chunk, index, contested.clone(), output.conflict).await?;
                self.take(rows, output, index, &contested, &stored, &owners);
                done.rows += stored.changed;
                self.ledger.extend(stored.ledger);
                refused.extend(stored.refused);
            }
            for (row, why) in refused {
                if index == 0 {
                    lost_records.insert(row.record);
                }
                lost.insert((index, row.record, row.element));
                let fields = key_fields(output, rows.fields(&row));
                if !owners.contains_key(&key(&row)) {
                    self.lost.insert((index, key(&row)), fields);
                }
                done.waits += u64::from(Field::may_pass(&why));
                self.refused.push(field.reject(chunk, index, &row, &why));
            }
        }
        self.rejects.extend(chunk.rejects.iter().cloned());
        self.ledger.extend(Field::ledger(chunk, &lost));
        Ok(())
    }

    /// Notes whose the stored keys are.
    fn take(
        &mut self,
        rows: &OutputRows,
        output: &crate::pack::plan::OutputPlan,
        index: usize,
        chosen: &[RowRef],
        stored: &Stored,
        owners: &HashMap<Digest, String>,
    ) {
        let gave_way: HashSet<(u32, u32)> =
            stored.gave_way.iter().map(|row| (row.record, row.element)).collect();
        let refused: HashSet<(u32, u32)> =
            stored.refused.iter().map(|(row, _)| (row.record, row.element)).collect();
        // What a file only names is not the file's, and stays when it goes.
        let owned = if output.mention { &[] } else { chosen };
        for row in owned {
            let place = (row.record, row.element);
            if refused.contains(&place) {
                continue;
            }
            let fields = rows.fields(row);
            let digest = output.layout.key_digest(fields);
            let is_contested = owners.contains_key(&output.layout.key_digest(rows.fields(row)));
            // Of a key that another file owns, this one takes possession only by being newer.
            let may_own =
                !is_contested || (output.conflict == ConflictRule::Newer && stored.changed > 0);
            let owns = may_own && !gave_way.contains(&place);
            if owns && let Some(owner) = owners.get(&digest) {
                self.displaced.insert(owner.clone());
            }
            let entry = self
                .keys
                .entry((index, digest))
                .or_insert_with(|| (key_fields(output, fields), owns));
            entry.1 |= owns;
        }
    }

    /// Deletes what vanished from the file, and writes what is to be remembered of it.
    async fn conclude(
        mut self,
        tx: &mut PgConnection,
        field: &Field<'_>,
        source: &str,
        done: &mut Done,
    ) -> Result<()> {
        let (pack, stream) = (&field.pack.name, &field.stream.name);
        let before: Vec<(i32, Vec<u8>, Vec<u8>, bool)> = sqlx::query_as(
            "SELECT output, key, fields, owns FROM toolkit.capture_file_row \
             WHERE pack = $1 AND stream = $2 AND source = $3",
        )
        .bind(pack)
        .bind(stream)
        .bind(source)
        .fetch_all(&mut *tx)
        .await?;
        for (output, key, fields, owns) in before {
            let index = usize::try_from(output).unwrap_or(usize::MAX);
            let digest: Digest = key.try_into().unwrap_or_default();
            if index < field.stream.outputs.len()
                && owns
                && !self.keys.contains_key(&(index, digest))
            {
                self.lost.insert((index, digest), fields);
            }
        }
        // Of several rows of one key the first is stored: it stays.
        self.lost.retain(|place, _| !self.keys.contains_key(place));
        delete_lost(tx, field, source, &self.lost, done).await?;
        self.displaced.remove(source);
        let displaced: Vec<String> = self.displaced.iter().cloned().collect();
        ask_again(tx, pack, &displaced).await?;
        sqlx::query(
            "DELETE FROM toolkit.capture_file_row WHERE pack = $1 AND stream = $2 AND source = $3",
        )
        .bind(pack)
        .bind(stream)
        .bind(source)
        .execute(&mut *tx)
        .await?;
        self.insert_keys(tx, field, source).await?;
        self.record(tx, field, source, done).await
    }

    async fn insert_keys(
        &self,
        tx: &mut PgConnection,
        field: &Field<'_>,
        source: &str,
    ) -> Result<()> {
        let keys: Vec<_> = self.keys.iter().collect();
        for part in keys.chunks(5_000) {
            let output = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
            sqlx::query(
                "INSERT INTO toolkit.capture_file_row (pack, source, stream, output, key, fields, owns) \
                 SELECT $1, $2, $3, * FROM unnest($4::int[], $5::bytea[], $6::bytea[], $7::boolean[])",
            )
            .bind(&field.pack.name)
            .bind(source)
            .bind(&field.stream.name)
            .bind(part.iter().map(|((at, _), _)| output(*at)).collect::<Vec<_>>())
            .bind(part.iter().map(|((_, key), _)| key.to_vec()).collect::<Vec<_>>())
            .bind(part.iter().map(|(_, (fields, _))| fields.clone()).collect::<Vec<_>>())
            .bind(part.iter().map(|(_, (_, owns))| *owns).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
            // A key has one owner.
            sqlx::query(
                "UPDATE toolkit.capture_file_row SET owns = false \
                 WHERE pack = $1 AND stream = $2 AND source <> $3 AND owns \
                 AND (output, key) IN (SELECT * FROM unnest($4::int[], $5::bytea[]))",
            )
            .bind(&field.pack.name)
            .bind(&field.stream.name)
            .bind(source)
            .bind(
                part.iter()
                    .filter(|(_, (_, o))| *o)
                    .map(|((at, _), _)| output(*at))
                    .collect::<Vec<_>>(),
            )
            .bind(
                part.iter()
                    .filter(|(_, (_, o))| *o)
                    .map(|((_, k), _)| k.to_vec())
                    .collect::<Vec<_>>(),
            )
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }

    async fn record(
        &self,
        tx: &mut PgConnection,
        field: &Field<'_>,
        source: &str,
        done: &mut Done,
    ) -> Result<()> {
        let all = self.rejects.iter().chain(&self.refused);
        let met: Vec<Vec<u8>> = all.map(|entry| entry.record_sha256.to_vec()).collect();
        done.rejects += met.len() as u64;
        resolve(tx, field, source, &met).await?;
        field.insert_rejects(tx, &self.rejects, "record").await?;
        field.insert_rejects(tx, &self.refused, "row").await?;
        sqlx::query(include_str!("../../sql/capture/met_rejects.sql"))
            .bind(&field.pack.name)
            .bind(&field.stream.name)
            .bind(&met)
            .execute(&mut *tx)
            .await?;
        field.insert_ledger(tx, &self.ledger).await
    }
}

/// Rejects of the file that were not met again.
async fn resolve(
    tx: &mut PgConnection,
    field: &Field<'_>,
    source: &str,
    met: &[Vec<u8>],
) -> Result<()> {
    sqlx::query(
        "UPDATE toolkit.reject SET state = 'resolved' WHERE pack = $1 AND stream = $2 \
         AND source = $3 AND state IN ('open', 'acknowledged', 'retried') \
         AND NOT record_sha256 = ANY($4)",
    )
    .bind(&field.pack.name)
    .bind(&field.stream.name)
    .bind(source)
    .bind(met)
    .execute(tx)
    .await?;
    Ok(())
}

/// The files that own these keys, of others than `source`.
async fn owners(
    tx: &mut PgConnection,
    field: &Field<'_>,
    index: usize,
    source: &str,
    keys: impl Iterator<Item = Digest>,
) -> Result<HashMap<Digest, String>> {
    let keys: Vec<Vec<u8>> = keys.map(|key| key.to_vec()).collect();
    let mut found = HashMap::new();
    for part in keys.chunks(5_000) {
        let rows: Vec<(Vec<u8>, String)> = sqlx::query_as(
            "SELECT key, source FROM toolkit.capture_file_row WHERE pack = $1 AND stream = $2 \
             AND output = $3 AND key = ANY($4) AND source <> $5 AND owns",
        )
        .bind(&field.pack.name)
        .bind(&field.stream.name)
        .bind(i32::try_from(index).unwrap_or(i32::MAX))
        .bind(part)
        .bind(source)
        .fetch_all(&mut *tx)
        .await?;
        for (key, owner) in rows {
            found.insert(key.try_into().unwrap_or_default(), owner);
        }
    }
    Ok(found)
}

/// Deletes rows that the file no longer yields; where another file yields the key, that one is
/// asked again.
async fn delete_lost(
    tx: &mut PgConnection,
    field: &Field<'_>,
    source: &str,
    lost: &HashMap<(usize, Digest), Vec<u8>>,
    done: &mut Done,
) -> Result<()> {
    let pack = &field.pack.name;
    // What is made of a record goes before the record.
    for index in (0..field.stream.outputs.len()).rev() {
        let mut rows = OutputRows::default();
        let keys = lost.iter().filter(|((of, _), _)| *of == index);
        for ((_, digest), fields) in keys {
            let start = rows.buffer.len();
            rows.buffer.extend_from_slice(fields);
            let record = u32::try_from(rows.rows.len()).unwrap_or(u32::MAX);
            let end = rows.buffer.len();
            rows.rows.push(RowRef { start, end, record, element: 0, digest: *digest });
        }
        let digests: Vec<Vec<u8>> = rows.rows.iter().map(|row| row.digest.to_vec()).collect();
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT source FROM toolkit.capture_file_row WHERE pack = $1 AND stream = $2 \
             AND output = $3 AND key = ANY($4) AND source <> $5",
        )
        .bind(pack)
        .bind(&field.stream.name)
        .bind(i32::try_from(index).unwrap_or(i32::MAX))
        .bind(&digests)
        .bind(source)
        .fetch_all(&mut *tx)
        .await?;
        ask_again(tx, pack, &others).await?;
        let chosen = rows.rows.clone();
        let (deleted, refused) =
            delete_keys(tx, &field.stream.outputs[index], &rows, chosen).await?;
        done.deleted += deleted;
        done.waits += refused.len() as u64;
    }
    Ok(())
}

/// Has files applied again at once.
async fn ask_again(tx: &mut PgConnection, pack: &str, sources: &[String]) -> Result<()> {
    sqlx::query("UPDATE toolkit.capture_file SET sha256 = '' WHERE pack = $1 AND source = ANY($2)")
        .bind(pack)
        .bind(sources)
        .execute(tx)
        .await?;
    Ok(())
}

/// Takes a file's rows out of the target.
pub(super) async fn remove(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    run_id: &str,
    source: &str,
    streams: &[String],
) -> Result<Done> {
    let plan = &opened.plan;
    let mut tx = begin(conn, &plan.name).await?;
    let mut done = Done::default();
    for name in streams {
        let Some(stream) = plan.stream_index(name) else { continue };
        let field = Field { pack: plan, stream: &plan.streams[stream], run_id };
        retire(&mut tx, &field, source).await?;
        Part::default().conclude(&mut tx, &field, source, &mut done).await?;
    }
    note_file(&mut tx, &plan.name, streams, source).await?;
    // Its copies, if it has any, stand for themselves from now on.
    sqlx::query(
        "WITH gone AS (DELETE FROM toolkit.capture_file WHERE pack = $1 AND source = $2 \
                       RETURNING sha256) \
         UPDATE toolkit.capture_file AS f SET sha256 = '' FROM gone \
         WHERE f.pack = $1 AND f.sha256 = gone.sha256 AND f.source <> $2",
    )
    .bind(&plan.name)
    .bind(source)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done)
}
