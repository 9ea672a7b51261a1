//! Facts about a verification beside the rows: what is recorded about each stream, when the
//! snapshot was taken, and which columns the pack leaves alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::canonical::{BucketSum, Digest};
use crate::error::Result;
use crate::pack::OpenedPack;
use crate::parity::report::{Recorded, UnmappedColumns};

/// Counts and roots of the recorded rejects and ledger entries, by stream.
pub(super) async fn recorded(
    conn: &mut PgConnection,
    opened: &OpenedPack,
) -> Result<HashMap<usize, Recorded>> {
    let mut found = HashMap::new();
    for (index, stream) in opened.plan.streams.iter().enumerate() {
        let (rejects, states) = rejects(conn, &opened.plan.name, &stream.name).await?;
        let ledger = ledger(conn, &opened.plan.name, &stream.name).await?;
        let entry = Recorded {
            rejects: rejects.count,
            rejects_root: root("rejects", rejects),
            reject_states: states,
            ledger: ledger.count,
            ledger_root: root("ledger", ledger),
        };
        found.insert(index, entry);
    }
    Ok(found)
}

/// The sum over a stream's rejects, without their states, and how many are in which state.
async fn rejects(
    conn: &mut PgConnection,
    pack: &str,
    stream: &str,
) -> Result<(BucketSum, BTreeMap<String, u64>)> {
    let mut rows = sqlx::query(
        "SELECT output, source, locator, record_sha256, reason, state FROM toolkit.reject \
         WHERE pack = $1 AND stream = $2",
    )
    .bind(pack)
    .bind(stream)
    .fetch(conn);
    let mut sum = BucketSum::default();
    let mut states = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        *states.entry(row.try_get::<String, _>("state")?).or_default() += 1;
        let mut hash = Sha256::new();
        for column in ["output", "source", "locator", "reason"] {
            part(&mut hash, row.try_get::<&str, _>(column)?.as_bytes());
        }
        part(&mut hash, row.try_get::<&[u8], _>("record_sha256")?);
        sum.add(&hash.finalize().into());
    }
    Ok((sum, states))
}

/// Length first, so that no two sequences of parts give the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

async fn ledger(conn: &mut PgConnection, pack: &str, stream: &str) -> Result<BucketSum> {
    let mut rows =
        sqlx::query("SELECT entry_hash FROM toolkit.ledger WHERE pack = $1 AND stream = $2")
            .bind(pack)
            .bind(stream)
            .fetch(conn);
    let mut sum = BucketSum::default();
    while let Some(row) = rows.try_next().await? {
        sum.add(&crate::canonical::sha256(row.try_get::<&[u8], _>("entry_hash")?));
    }
    Ok(sum)
}

/// SHA-256 of `"toolkit WHAT root 2\n"`, the count as `u64` and the sum as `u128`, big-endian.
fn root(what: &str, sum: BucketSum) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("toolkit {what} root 2\n"));
    hash.update(sum.count.to_be_bytes());
    hash.update(sum.sum.to_be_bytes());
    let root: Digest = hash.finalize().into();
    hex::encode(root)
}

/// When the open snapshot was taken, RFC 3339 in UTC.
pub(crate) async fn snapshot_time(conn: &mut PgConnection) -> Result<String> {
    let time = sqlx::query_scalar(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    Ok(time.fetch_one(conn).await?)
}

/// Columns of the units' tables that no output writes. Where outputs write different columns, a
/// column that any of them writes counts as mapped.
pub(super) fn unmapped_columns(opened: &OpenedPack, units: &[usize]) -> Vec<UnmappedColumns> {
    let mut mapped: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for stream in &opened.plan.streams {
        for output in &stream.outputs {
            mapped.entry(output.table.display_name()).or_default().extend(output.column_names());
        }
    }
    let mut unmapped: Vec<UnmappedColumns> = Vec::new();
    for unit in units {
        let table = &opened.plan.units[*unit].table;
        let name = table.display_name();
        if unmapped.iter().any(|known| known.table == name) {
            continue;
        }
        let columns: Vec<String> = table
            .columns
            .iter()
            .filter(|column| !mapped.get(&name).is_some_and(|all| all.contains(&*column.name)))
            .map(|column| column.name.clone())
            .collect();
        if !columns.is_empty() {
            unmapped.push(UnmappedColumns { table: name, columns });
        }
    }
    unmapped
}
