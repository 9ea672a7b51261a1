//! Ledger entries: list, show.

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::listing::{self, Listed};
use super::{Bytes, Filter};
use crate::error::Result;

/// Ledger entries of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryGroup {
    /// Pack.
    pub pack: Option<String>,
    /// Stream.
    pub stream: Option<String>,
    /// The rule.
    pub rule: String,
    /// Target column; None for whole rows.
    pub column: Option<String>,
    /// How many.
    pub count: i64,
}

/// One ledger entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// The newest run that met it.
    pub run_id: String,
    /// Pack.
    pub pack: Option<String>,
    /// Stream.
    pub stream: Option<String>,
    /// Output; empty for the record's own row.
    pub output: String,
    /// Source file.
    pub source: String,
    /// Place in it.
    pub locator: String,
    /// The source's key, as far as it is known.
    pub key: Option<String>,
    /// Target column; None for whole rows.
    pub column: Option<String>,
    /// The rule.
    pub rule: String,
    /// JSON pointer inside the value.
    pub path: Option<String>,
    /// Whether the original is a secret, of which only a keyed hash is kept.
    pub secret: bool,
    /// Size of the original; None for secrets and whole rows.
    pub original_bytes: Option<i64>,
    /// SHA-256 of the original, or the keyed hash of a secret.
    pub original_hash: String,
    /// Digest of the target's row that was kept instead.
    pub target_digest: Option<String>,
    /// When it was met first.
    pub created_at: String,
    /// The original, where one entry is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<Bytes>,
}

/// The answer to [`list_entries`].
#[derive(Debug, Serialize)]
pub struct EntryList {
    /// What was asked for; its `reason` is the rule.
    pub filter: Filter,
    /// All that match.
    pub total: i64,
    /// By pack, stream, rule and column.
    pub groups: Vec<EntryGroup>,
    /// The first of them, without their originals.
    pub entries: Vec<Entry>,
    /// How many more match.
    pub more: i64,
}

impl Listed for Entry {
    type Group = EntryGroup;
    const GROUPS: &'static str = include_str!("../sql/ledger/entry_groups.sql");
    const ROWS: &'static str = include_str!("../sql/ledger/entries.sql");
    const NAME: (&'static str, &'static str) = ("ledger entry", "ledger");

    fn group(row: &PgRow) -> Result<EntryGroup> {
        Ok(EntryGroup {
            pack: row.try_get("pack")?,
            stream: row.try_get("stream")?,
            rule: row.try_get("rule")?,
            column: row.try_get("column_name")?,
            count: row.try_get("count")?,
        })
    }

    fn count(group: &EntryGroup) -> i64 {
        group.count
    }

    fn one(row: &PgRow) -> Result<Self> {
        let secret: bool = row.try_get("secret")?;
        let original: Option<Vec<u8>> = row.try_get("original")?;
        Ok(Self {
            id: row.try_get("id")?,
            run_id: row.try_get("run_id")?,
            pack: row.try_get("pack")?,
            stream: row.try_get("stream")?,
            output: row.try_get("output")?,
            source: row.try_get("source")?,
            locator: row.try_get("locator")?,
            key: row.try_get("record_key")?,
            column: row.try_get("column_name")?,
            rule: row.try_get("rule")?,
            path: row.try_get("path")?,
            secret,
            original_bytes: row.try_get("original_bytes")?,
            original_hash: row.try_get("original_hash")?,
            target_digest: row.try_get("target_digest")?,
            created_at: row.try_get("created_at")?,
            original: original.filter(|_| !secret).map(Bytes::of),
        })
    }
}

/// The entries' kinds and at most `limit` of the entries themselves; `filter.reason` is the rule,
/// `filter.state` has no meaning here.
pub async fn list_entries(
    conn: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<EntryList> {
    let page = listing::page::<Entry>(conn, filter, limit).await?;
    let (total, groups, more) = (page.total, page.groups, page.more);
    Ok(EntryList { filter: filter.clone(), total, groups, entries: page.rows, more })
}

/// One entry with its original.
pub async fn entry(conn: &mut PgConnection, id: i64) -> Result<Entry> {
    listing::one(conn, id).await
}
