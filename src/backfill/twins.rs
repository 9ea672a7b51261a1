//! Two different records of one source under one key, where no rule says which is right.
//!
//! Within a chunk the merge sees them side by side. Across chunks the first is already in the
//! target when the second comes: in a first load a row that is there under the key can only be
//! the first twin; in a later run the second is known by the reject it left behind. Either way
//! the later is refused, never written over the first.

use std::collections::HashSet;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::chunk::RowRef;
use super::merge::{Written, duplicate_key};
use super::write::{Place, Scene};
use crate::canonical::Digest;
use crate::error::Result;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::OutputPlan;

/// The rule a chunk is merged by: in a first load, whoever is there came from the same source.
pub(super) fn merge_rule(place: &Place<'_>, output: &OutputPlan) -> ConflictRule {
    if place.initial_load && output.conflict == ConflictRule::SourceWins {
        ConflictRule::TargetWins
    } else {
        output.conflict
    }
}

/// Turns rows that gave way to their twin into refusals.
pub(super) fn refuse_twins(place: &Place<'_>, output: &OutputPlan, written: &mut Written) {
    if merge_rule(place, output) == output.conflict {
        return;
    }
    for twin in std::mem::take(&mut written.superseded) {
        written.counts.superseded -= 1;
        written.counts.rejected += 1;
        written.refused.push((twin.row, duplicate_key(output)));
    }
}

/// Places and contents of the rows refused as twins in earlier chunks and runs.
pub(super) struct KnownTwins(HashSet<(String, String, String, Digest)>);

impl KnownTwins {
    /// Reads what is recorded about the stream.
    pub(super) async fn load(conn: &mut PgConnection, place: &Place<'_>) -> Result<Self> {
        let rows = sqlx::query(
            "SELECT output, source, locator, record_sha256 FROM toolkit.reject \
             WHERE pack = $1 AND stream = $2 AND reason = 'duplicate_key' \
             AND state IN ('open', 'acknowledged')",
        )
        .bind(&place.pack.name)
        .bind(&place.stream.name)
        .fetch_all(conn)
        .await?;
        let mut known = HashSet::with_capacity(rows.len());
        for row in rows {
            let digest: Vec<u8> = row.try_get("record_sha256")?;
            known.insert((
                row.try_get("output")?,
                row.try_get("source")?,
                row.try_get("locator")?,
                digest.try_into().unwrap_or_default(),
            ));
        }
        Ok(Self(known))
    }

    /// Takes the known twins out of `chosen`, as refusals.
    pub(super) fn take_out(&self, scene: &Scene<'_>, chosen: &mut Vec<RowRef>) -> Written {
        let mut written = Written::default();
        if self.0.is_empty() || scene.output().conflict != ConflictRule::SourceWins {
            return written;
        }
        chosen.retain(|row| {
            let entry = scene.reject(row, &duplicate_key(scene.output()));
            let is_known =
                self.0.contains(&(entry.output, entry.source, entry.locator, entry.record_sha256));
            if is_known {
                written.counts.rejected += 1;
                written.refused.push((*row, duplicate_key(scene.output())));
            }
            !is_known
        });
        written
    }
}
