//! A group of entries in one transaction with its rejects, ledger entries, counts and checkpoint.

use std::collections::{BTreeMap, HashSet};

use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use serde::{Deserialize, Serialize};

use crate::anime::entry::Entry;
use crate::anime::ingest::reader::{Item, ItemContent};
use crate::anime::policy::Policy;
use crate::anime::store::{Artifact, Fate, Outcome, Turn, write_group};
use crate::backfill::{
    Counts, Recorded, RowCounts, SETTINGS, is_about_data, record_ledger, record_rejects, to_json,
};
use crate::canonical::sha256;
use crate::cast::{Original, Refusal};
use crate::derive::{LedgerEntry, RejectEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::store::sql;

/// The one stream of the pack, in `toolkit.chunk`, rejects and ledger.
pub(in crate::anime) const STREAM: &str = "entries";

/// What became of the entries of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryCounts {
    /// Entries, and rows by table.
    #[serde(flatten)]
    pub counts: Counts,
    /// Relation types of no vocabulary, stored as OTHER.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown_words: BTreeMap<String, u64>,
}

impl EntryCounts {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (word, count) in &other.unknown_words {
            *self.unknown_words.entry(word.clone()).or_default() += count;
        }
    }
}

/// Where a group stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) run_id: &'a str,
    pub(super) pack: &'a str,
    /// The artifact's path below its source folder.
    pub(super) file: &'a str,
    pub(super) artifact: &'a Artifact,
    pub(super) policy: &'a Policy,
    /// Records that are stored corrected: met again, they are left out.
    pub(super) corrected: &'a HashSet<[u8; 32]>,
    /// The group's number in its file.
    pub(super) number: i64,
}

/// A group, or what Postgres refused it for: values, not the statement.
pub(super) enum Written {
    Done(EntryCounts),
    Refused(Error),
}

/// What a transaction holds that is not committed yet.
pub(super) enum Staged {
    Ready { counts: EntryCounts, anime: HashSet<Uuid> },
    Refused(Error),
}

/// Writes a group; nothing of it if Postgres refuses a value. `refused`: an entry that it refused
/// alone, and why.
pub(super) async fn write(
    conn: &mut PgConnection,
    place: Place<'_>,
    items: &[&Item],
    refused: Option<&Refusal>,
) -> Result<Written> {
    let mut tx = conn.begin().await?;
    let counts = match stage(&mut tx, place, items, refused, &Turn::First).await? {
        Staged::Ready { counts, .. } => counts,
        Staged::Refused(error) => {
            tx.rollback().await?;
            return Ok(Written::Refused(error));
        }
    };
    match tx.commit().await.map_err(Error::from) {
        Ok(()) => Ok(Written::Done(counts)),
        Err(error) if is_about_data(&error) => Ok(Written::Refused(error)),
        Err(error) => Err(error),
    }
}

/// Writes a group in a transaction, all but the COMMIT.
pub(super) async fn stage(
    tx: &mut PgConnection,
    place: Place<'_>,
    items: &[&Item],
    refused: Option<&Refusal>,
    turn: &Turn,
) -> Result<Staged> {
    // A group is small against the tables: its keys are looked up one by one. Without statistics the
    // server would rather read whole indexes, longer with every group.
    let settings =
        format!("{SETTINGS}; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off");
    sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
    if let Some(counts) = committed(tx, place).await? {
        // The answer to an earlier COMMIT was lost, not the COMMIT.
        return Ok(Staged::Ready { counts, anime: HashSet::new() });
    }
    let mut entries: Vec<&Entry> = Vec::new();
    let mut places: Vec<usize> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if let (ItemContent::Entry(entry), None) = (&item.content, refused) {
            entries.push(entry);
            places.push(at);
        }
    }
    let outcome = match write_group(tx, place.artifact, place.policy, &entries, turn).await {
        Ok(outcome) => outcome,
        Err(error) if is_about_data(&error) => return Ok(Staged::Refused(error)),
        Err(error) => return Err(error),
    };
    let recorded = Recorded { run_id: place.run_id, pack: place.pack, stream: STREAM };
    let (counts, rejects) = account(place, items, &places, &outcome, refused);
    if !counts.counts.is_balanced() {
        let detail = "an entry ended in no count; its group was rolled back";
        return Err(Error::new(ErrorKind::Bug, detail));
    }
    record_rejects(tx, recorded, &rejects, "record").await?;
    record_ledger(tx, recorded, &ledger(place, items, &places, &outcome)).await?;
    checkpoint(tx, place, items, &counts).await?;
    Ok(Staged::Ready { counts, anime: outcome.anime })
}

fn account(
    place: Place<'_>,
    items: &[&Item],
    places: &[usize],
    outcome: &Outcome,
    refused: Option<&Refusal>,
) -> (EntryCounts, Vec<RejectEntry>) {
    let mut sum = EntryCounts::default();
    sum.counts.read = items.len() as u64;
    let records = &mut sum.counts.records;
    let mut rejects = Vec::new();
    for (position, item_at) in places.iter().enumerate() {
        let item = items[*item_at];
        match outcome.fates.get(&position) {
            Some(Fate::Inserted) => records.inserted += 1,
            Some(Fate::Updated) => records.updated += 1,
            Some(Fate::Unchanged) => records.unchanged += 1,
            Some(Fate::Superseded) => records.superseded += 1,
            Some(Fate::Rejected(refusal)) => {
                refuse(place, item, refusal, records, &mut rejects);
                continue;
            }
            None => continue,
        }
        sum.counts.ledgered += item.notes.len() as u64;
        if let ItemContent::Entry(entry) = &item.content {
            for word in &entry.unknown_words {
                *sum.unknown_words.entry(word.clone()).or_default() += 1;
            }
        }
    }
    sum.counts.ledgered += outcome.adopted.len() as u64;
    for item in items {
        let why = match &item.content {
            ItemContent::Refused(refusal) => Some(refusal),
            ItemContent::Entry(_) => refused,
        };
        if let Some(refusal) = why {
            refuse(place, item, refusal, records, &mut rejects);
        }
    }
    for (table, (inserted, updated)) in &outcome.tables {
        if inserted + updated > 0 {
            let rows = RowCounts { inserted: *inserted, updated: *updated, ..RowCounts::default() };
            sum.counts.derived.insert((*table).to_owned(), rows);
        }
    }
    (sum, rejects)
}

/// A reject, unless what it would be is stored corrected already, by its ledger entry.
fn refuse(
    place: Place<'_>,
    item: &Item,
    refusal: &Refusal,
    records: &mut RowCounts,
    rejects: &mut Vec<RejectEntry>,
) {
    if place.corrected.contains(&sha256(&item.bytes)) {
        records.skipped += 1;
    } else {
        records.rejected += 1;
        rejects.push(reject(place, item, refusal));
    }
}

fn reject(place: Place<'_>, item: &Item, refusal: &Refusal) -> RejectEntry {
    let key = match &item.content {
        ItemContent::Entry(entry) => entry.id.or(entry.derived_id).map(|id| id.to_string()),
        ItemContent::Refused(_) => None,
    };
    RejectEntry {
        output: String::new(),
        source: place.file.to_owned(),
        locator: item.locator.clone(),
        key,
        column: None,
        reason: refusal.reason.to_owned(),
        detail: refusal.detail.clone(),
        record: Some(item.bytes.clone()),
        record_sha256: sha256(&item.bytes),
        secret: item.has_secret,
    }
}

/// Values that are stored changed, and ids that gave way; none of what is not stored.
fn ledger(
    place: Place<'_>,
    items: &[&Item],
    places: &[usize],
    outcome: &Outcome,
) -> Vec<LedgerEntry> {
    let blank = |item: &Item, rule: &str, path: String| LedgerEntry {
        output: String::new(),
        source: place.file.to_owned(),
        locator: item.locator.clone(),
        column: String::new(),
        rule: rule.to_owned(),
        path,
        original: None,
        original_hash: [0; 32],
        secret: false,
        target_digest: None,
    };
    let mut entries = Vec::new();
    for (position, item_at) in places.iter().enumerate() {
        let item = items[*item_at];
        if matches!(outcome.fates.get(&position), None | Some(Fate::Rejected(_))) {
            continue;
        }
        for note in &item.notes {
            let mut entry = blank(item, note.rule, note.path.clone().unwrap_or_default());
            match &note.original {
                Original::Bytes(bytes) => {
                    entry.original_hash = sha256(bytes);
                    entry.original = Some(bytes.clone());
                }
                Original::Secret(hash) => (entry.original_hash, entry.secret) = (*hash, true),
            }
            entries.push(entry);
        }
    }
    for (position, old) in &outcome.adopted {
        let old = old.to_string();
        let item = items[places[*position]];
        let mut entry = blank(item, "id_adopted", String::new());
        entry.original_hash = sha256(old.as_bytes());
        entry.original = Some(old.into_bytes());
        entries.push(entry);
    }
    entries
}

async fn committed(tx: &mut PgConnection, place: Place<'_>) -> Result<Option<EntryCounts>> {
    let row = sqlx::query(
        "SELECT counts::text AS counts FROM toolkit.chunk WHERE run_id = $1::uuid \
         AND stream = $2 AND source = $3 AND span = 0 AND chunk_no = $4",
    )
    .bind(place.run_id)
    .bind(STREAM)
    .bind(place.file)
    .bind(place.number)
    .fetch_optional(tx)
    .await?;
    row.map(|row| counts_of(row.try_get("counts")?)).transpose()
}

pub(super) fn counts_of(text: &str) -> Result<EntryCounts> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::Bug, "stored counts cannot be read").because(error))
}

async fn checkpoint(
    tx: &mut PgConnection,
    place: Place<'_>,
    items: &[&Item],
    counts: &EntryCounts,
) -> Result<()> {
    let last = items.last().map(|item| to_json(&item.position)).transpose()?;
    let bytes: usize = items.iter().map(|item| item.bytes.len()).sum();
    sqlx::query(
        "INSERT INTO toolkit.chunk (run_id, stream, source, chunk_no, range_to, status, mode, \
             counts, rows_read, bytes_read, committed_at) \
         VALUES ($1::uuid, $2, $3, $4, $5::jsonb, 'done', $6, $7::jsonb, $8, $9, now())",
    )
    .bind(place.run_id)
    .bind(STREAM)
    .bind(place.file)
    .bind(place.number)
    .bind(last)
    .bind("merge")
    .bind(to_json(counts)?)
    .bind(i64::try_from(items.len()).unwrap_or(i64::MAX))
    .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
    .execute(tx)
    .await?;
    Ok(())
}

/// Why Postgres refused an entry.
pub(in crate::anime) fn refusal_of(error: &Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(sqlx::Error::Database(refused)) = one.downcast_ref::<sqlx::Error>() {
            let reason = match refused.code().as_deref() {
                Some("23505") => "unique_violation",
                Some("23503") => "orphan",
                Some("23514") => "check_violation",
                Some("23502") => "null_not_allowed",
                Some("54000") => "too_large",
                _ => "refused_by_postgres",
            };
            let constraint = refused.constraint().map(|name| format!(" ({name})"));
            let detail = format!("{}{}", refused.message(), constraint.unwrap_or_default());
            return Refusal::new(reason, detail);
        }
        cause = one.source();
    }
    Refusal::new("refused_by_postgres", error.detail().to_owned())
}
