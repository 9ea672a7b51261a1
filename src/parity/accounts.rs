//! What backfill recorded about a stream: the rejects and ledger entries that parity replays.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::canonical::{Digest, display_field, fields_of, sha256};
use crate::error::Result;
use crate::pack::plan::OutputPlan;

/// Rules of the ledger that say a source row is not the one in the target.
const ROW_RULES: &[&str] =
    &["superseded", "superseded_tie", "superseded_in_source", "target_wins", "identical_duplicate"];

/// The rule of the ledger that says a reference led nowhere and is stored as NULL.
const ORPHAN_RULE: &str = "orphan";

/// Place of a row: output name (empty for the record's own), source file, locator.
pub(crate) type Place = (String, String, String);

/// The recorded decisions about one stream.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Identities of all ledger entries, first 16 bytes.
    entries: HashSet<[u8; 16]>,
    /// Decisions about whole rows.
    rows: HashMap<Place, Vec<RowAccount>>,
    /// References stored as NULL because they led nowhere: column and hash of the original.
    orphans: HashMap<Place, Vec<(String, Digest)>>,
    /// Rejected rows and records.
    rejects: HashMap<Place, Vec<Digest>>,
}

/// A recorded decision that the target holds another row than the source's.
#[derive(Debug, Clone)]
pub(crate) struct RowAccount {
    /// The ledger rule.
    pub(crate) rule: String,
    /// Digest of the source's row it was about.
    pub(crate) row: Digest,
    /// Digest of the target's row at that time.
    pub(crate) target: Option<Digest>,
}

impl Accounts {
    /// Reads what is recorded about a stream.
    pub(crate) async fn load(conn: &mut PgConnection, pack: &str, stream: &str) -> Result<Self> {
        let mut accounts = Self::default();
        let mut ledger = sqlx::query(
            "SELECT output, source, locator, column_name, rule, original_hash, target_digest, entry_hash \
             FROM toolkit.ledger WHERE pack = $1 AND stream = $2",
        )
        .bind(pack)
        .bind(stream)
        .fetch(&mut *conn);
        while let Some(row) = ledger.try_next().await? {
            let entry: Vec<u8> = row.try_get("entry_hash")?;
            if let Some(short) = entry.first_chunk::<16>() {
                accounts.entries.insert(*short);
            }
            let rule: String = row.try_get("rule")?;
            if rule != ORPHAN_RULE && !ROW_RULES.contains(&rule.as_str()) {
                continue;
            }
            let original: Vec<u8> = row.try_get("original_hash")?;
            if rule == ORPHAN_RULE {
                let column: Option<String> = row.try_get("column_name")?;
                let place =
                    (row.try_get("output")?, row.try_get("source")?, row.try_get("locator")?);
                let entry = (column.unwrap_or_default(), original.try_into().unwrap_or_default());
                accounts.orphans.entry(place).or_default().push(entry);
                continue;
            }
            let target: Option<Vec<u8>> = row.try_get("target_digest")?;
            let place = (row.try_get("output")?, row.try_get("source")?, row.try_get("locator")?);
            accounts.rows.entry(place).or_default().push(RowAccount {
                rule,
                row: original.try_into().unwrap_or_default(),
                target: target.and_then(|digest| digest.try_into().ok()),
            });
        }
        drop(ledger);
        let mut rejects = sqlx::query(
            "SELECT output, source, locator, record_sha256 FROM toolkit.reject \
             WHERE pack = $1 AND stream = $2 AND state IN ('open', 'acknowledged')",
        )
        .bind(pack)
        .bind(stream)
        .fetch(conn);
        while let Some(row) = rejects.try_next().await? {
            let place = (row.try_get("output")?, row.try_get("source")?, row.try_get("locator")?);
            let digest: Vec<u8> = row.try_get("record_sha256")?;
            accounts.rejects.entry(place).or_default().push(digest.try_into().unwrap_or_default());
        }
        Ok(accounts)
    }

    /// Whether a ledger entry of this identity is stored.
    pub(crate) fn has_entry(&self, hash: &Digest) -> bool {
        hash.first_chunk::<16>().is_some_and(|short| self.entries.contains(short))
    }

    /// The decision about a source row, if one was recorded about exactly this content.
    pub(crate) fn row(&self, place: &Place, row: &Digest) -> Option<&RowAccount> {
        self.rows.get(place)?.iter().find(|account| account.row == *row)
    }

    /// Whether nothing at all is recorded about whole rows or rejects: the fast path.
    pub(crate) fn is_plain(&self) -> bool {
        self.rows.is_empty() && self.rejects.is_empty() && self.orphans.is_empty()
    }

    /// Positions of the references of a row that are recorded as stored NULL, with just these
    /// values.
    pub(crate) fn nulled(&self, place: &Place, output: &OutputPlan, tuple: &[u8]) -> Vec<usize> {
        let Some(entries) = self.orphans.get(place) else { return Vec::new() };
        let ranges = fields_of(tuple);
        let is_nulled = |at: &usize| {
            let column = &output.columns[*at];
            let Some(range) = ranges[*at].clone() else { return false };
            let value = display_field(column.cast.ty(), &tuple[range]);
            let hash = sha256(value.as_bytes());
            entries.iter().any(|(name, original)| *name == column.name && *original == hash)
        };
        output.orphan_null.iter().copied().filter(is_nulled).collect()
    }

    /// Whether decisions about whole rows are recorded.
    pub(crate) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Whether a reject of this place and content is stored.
    pub(crate) fn has_reject(&self, place: &Place, record: &Digest) -> bool {
        self.rejects.get(place).is_some_and(|records| records.contains(record))
    }
}
