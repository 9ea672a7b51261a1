//! What comparing reads found: counted here, stored in `toolkit.shadow_read` by the second.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::canonical::Digest;
use crate::error::Result;

/// Mismatches kept in memory while Postgres is away; more are counted, but not described.
const DESCRIBED_MAX: usize = 1_000;

/// What became of the reads of one [`super::ShadowRead`] since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Reads answered by the primary store.
    pub reads: u64,
    /// Reads that were compared to the end: equal, or a mismatch.
    pub compared: u64,
    /// Reads whose results differ while no change was on its way.
    pub mismatches: u64,
    /// Reads whose results went on changing as long as they were looked at.
    pub unsettled: u64,
    /// Reads that were to be compared, and were not, because too many waited.
    pub crowded_out: u64,
    /// Reads that the secondary store did not answer in time, or refused.
    pub unanswered: u64,
}

/// A read that differed, without the values.
#[derive(Debug, Clone)]
pub(super) struct Mismatch {
    pub(super) name: String,
    pub(super) primary: Digest,
    pub(super) secondary: Digest,
    pub(super) detail: serde_json::Value,
}

/// Compared reads and mismatches by the name of the read.
type ByName = BTreeMap<String, (i64, i64)>;

#[derive(Debug, Default)]
struct Found {
    counts: ShadowCounts,
    /// What is not stored yet.
    by_name: ByName,
    described: Vec<Mismatch>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Found>);

impl Tally {
    fn with<T>(&self, change: impl FnOnce(&mut Found) -> T) -> T {
        // Counts stay usable after a panic elsewhere.
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(super) fn counts(&self) -> ShadowCounts {
        self.with(|found| found.counts)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut ShadowCounts)) {
        self.with(|found| change(&mut found.counts));
    }

    pub(super) fn compared(&self, name: &str, mismatch: Option<Mismatch>) {
        self.with(|found| {
            found.counts.compared += 1;
            let of_name = found.by_name.entry(name.to_owned()).or_default();
            of_name.0 += 1;
            let Some(mismatch) = mismatch else { return };
            found.counts.mismatches += 1;
            of_name.1 += 1;
            if found.described.len() < DESCRIBED_MAX {
                found.described.push(mismatch);
            }
        });
    }

    /// Stores what is not stored yet; keeps it where that fails.
    pub(super) async fn store(&self, conn: &mut PgConnection, pack: &str) -> Result<()> {
        let (by_name, described) = self.with(|found| {
            (std::mem::take(&mut found.by_name), std::mem::take(&mut found.described))
        });
        if by_name.is_empty() && described.is_empty() {
            return Ok(());
        }
        let stored = store(conn, pack, &by_name, &described).await;
        if stored.is_err() {
            self.with(|found| {
                for (name, (reads, mismatches)) in by_name {
                    let of_name = found.by_name.entry(name).or_default();
                    of_name.0 += reads;
                    of_name.1 += mismatches;
                }
                found.described.splice(0..0, described);
                found.described.truncate(DESCRIBED_MAX);
            });
        }
        stored
    }
}

async fn store(
    conn: &mut PgConnection,
    pack: &str,
    by_name: &ByName,
    described: &[Mismatch],
) -> Result<()> {
    let mut transaction = conn.begin().await?;
    for (name, (reads, mismatches)) in by_name {
        sqlx::query(include_str!("../sql/live/count_shadow_reads.sql"))
            .bind(pack)
            .bind(name)
            .bind(reads)
            .bind(mismatches)
            .execute(&mut *transaction)
            .await?;
    }
    for mismatch in described {
        sqlx::query(
            "INSERT INTO toolkit.shadow_mismatch \
             (pack, name, primary_digest, secondary_digest, detail) \
             VALUES ($1, $2, $3, $4, $5::jsonb)",
        )
        .bind(pack)
        .bind(&mismatch.name)
        .bind(mismatch.primary.as_slice())
        .bind(mismatch.secondary.as_slice())
        .bind(mismatch.detail.to_string())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}
