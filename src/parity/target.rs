//! Walking a target: what is there, in one snapshot.

use std::collections::{BTreeMap, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::canonical::{
    BucketSum, Buckets, Digest, Layout, TupleReader, copy_expression, digest_expression,
};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::{Amount, Pace};
use crate::pack::plan::{OutputPlan, Unit};
use crate::parity::spool::{Entry, Origin, Place, short};
use crate::store::{quote_ident, quote_literal, sql};

/// Rows fetched by place in one statement.
const PLACES_AT_ONCE: usize = 1000;

/// Pieces of a stream between two looks at whether to stop.
const PIECES_PER_LOOK: u64 = 64;

/// Bytes of the two COPY fields that say where a row is: `tableoid` and `ctid`.
const PLACE_BYTES: usize = 4 + 4 + 4 + 6;

/// One row the target holds.
pub(super) struct Held<'a> {
    pub(super) tuple: &'a [u8],
    pub(super) place: Place,
    layout: &'a Layout,
}

impl Held<'_> {
    /// Digest of the row's key.
    pub(super) fn key(&self) -> Digest {
        self.layout.key_digest(self.tuple)
    }

    /// Digest of the row.
    pub(super) fn row(&self) -> Digest {
        self.layout.row_digest(self.tuple)
    }

    /// What the second pass needs of it, from its two digests.
    pub(super) fn entry(&self, key: &Digest, row: &Digest) -> Entry {
        Entry { key: short(key), row: short(row), origin: Origin::Target, place: self.place }
    }
}

/// Receives a row of the target.
pub(super) type TargetSink<'s> = dyn FnMut(&Held<'_>) -> Result<()> + Send + 's;

/// A slice of a table to be walked.
#[derive(Clone, Copy)]
pub(super) struct TargetWalk<'a> {
    pub(super) unit: &'a Unit,
    pub(super) output: &'a OutputPlan,
    pub(super) stop: &'a Stop,
    pub(super) pace: &'a Pace,
}

impl TargetWalk<'_> {
    /// Streams all rows; returns how many.
    pub(super) async fn all(
        &self,
        conn: &mut PgConnection,
        sink: &mut TargetSink<'_>,
    ) -> Result<u64> {
        let filter = slice_filter(self.unit)?;
        self.copy(conn, &filter, sink).await
    }

    /// Fetches the rows at these places, in the snapshot they were seen in.
    pub(super) async fn at(
        &self,
        conn: &mut PgConnection,
        places: &[Place],
        sink: &mut TargetSink<'_>,
    ) -> Result<()> {
        let mut by_table: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for place in places {
            let tid = format!("\"({},{})\"", place.at >> 16, place.at & 0xffff);
            by_table.entry(place.within).or_default().push(tid);
        }
        for (table, tids) in by_table {
            for part in tids.chunks(PLACES_AT_ONCE) {
                let filter = format!(
                    " WHERE ctid = ANY ('{{{}}}'::tid[]) AND tableoid = {table}",
                    part.join(",")
                );
                self.copy(conn, &filter, sink).await?;
            }
        }
        Ok(())
    }

    async fn copy(
        &self,
        conn: &mut PgConnection,
        filter: &str,
        sink: &mut TargetSink<'_>,
    ) -> Result<u64> {
        let columns: Vec<String> = self
            .output
            .columns
            .iter()
            .map(|column| copy_expression(column.cast.ty(), &quote_ident(&column.name)))
            .collect();
        let statement = format!(
            "COPY (SELECT {}, tableoid, ctid FROM {}{filter}) TO STDOUT (FORMAT binary)",
            columns.join(", "),
            self.unit.table.sql_name(),
        );
        self.pace.wait(Amount::default(), self.stop).await?;
        let mut stream = conn.copy_out_raw(&statement).await?;
        let mut reader = TupleReader::default();
        let (mut rows, mut pieces) = (0_u64, 0_u64);
        let mut read = Amount::default();
        while let Some(piece) = stream.try_next().await? {
            reader.read(&piece, &mut |tuple| {
                let (tuple, place) = split_place(tuple);
                sink(&Held { tuple, place, layout: &self.output.layout })?;
                rows += 1;
                read.rows += 1;
                read.bytes += tuple.len() as u64;
                Ok(())
            })?;
            pieces += 1;
            // Meanwhile the server waits to send more; its snapshot is open either way.
            if self.pace.is_due(read) {
                self.pace.wait(std::mem::take(&mut read), self.stop).await?;
            }
            // A piece is mostly one row.
            if pieces % PIECES_PER_LOOK == 0 {
                self.stop.check()?;
            }
        }
        self.pace.wait(read, self.stop).await?;
        self.stop.check()?;
        if !reader.is_complete() {
            return Err(Error::new(
                ErrorKind::StoreUnreachable,
                format!("{}: the server ended the stream of rows early", self.unit.name),
            ));
        }
        Ok(rows)
    }

    /// Bucket sums, made by the server: little goes over the network.
    pub(super) async fn sums(&self, conn: &mut PgConnection) -> Result<Buckets> {
        let statement = format!(
            "SELECT bucket, count(*) AS rows, sum(high)::text AS high, sum(low)::text AS low, \
             count(*) FILTER (WHERE low < 0) AS wrapped \
             FROM (SELECT {BUCKET} AS bucket, {} AS high, {} AS low FROM ({}) AS d) AS h \
             GROUP BY bucket",
            half("r", 1),
            half("r", 9),
            self.digests()?
        );
        let mut buckets = Buckets::new();
        let mut rows = sqlx::query(sql(statement)).fetch(conn);
        while let Some(row) = rows.try_next().await? {
            let bucket = usize::try_from(row.try_get::<i32, _>("bucket")?).unwrap_or_default();
            let (high, low): (String, String) = (row.try_get("high")?, row.try_get("low")?);
            let wrapped: i64 = row.try_get("wrapped")?;
            let count: i64 = row.try_get("rows")?;
            let sum = unsigned_sum(&high, &low, wrapped).ok_or_else(|| {
                Error::new(ErrorKind::Bug, "the server's bucket sum is out of range")
            })?;
            buckets.put(bucket, BucketSum { count: count.unsigned_abs(), sum });
            self.stop.check()?;
        }
        Ok(buckets)
    }

    /// The rows of some buckets, by digests made by the server.
    pub(super) async fn entries(
        &self,
        conn: &mut PgConnection,
        buckets: &HashSet<usize>,
    ) -> Result<Vec<Entry>> {
        let wanted: Vec<i32> =
            buckets.iter().map(|bucket| i32::try_from(*bucket).unwrap_or_default()).collect();
        let statement = format!(
            "SELECT k, r, tableoid::bigint AS within, ctid::text AS tid FROM ({}) AS d \
             WHERE {BUCKET} = ANY ($1)",
            self.digests()?
        );
        let mut entries = Vec::new();
        let mut rows = sqlx::query(sql(statement)).bind(wanted).fetch(conn);
        while let Some(row) = rows.try_next().await? {
            let digest = |name| -> Result<Digest> {
                Ok(row.try_get::<Vec<u8>, _>(name)?.try_into().unwrap_or_default())
            };
            let tid: String = row.try_get("tid")?;
            let within: i64 = row.try_get("within")?;
            entries.push(Entry {
                key: short(&digest("k")?),
                row: short(&digest("r")?),
                origin: Origin::Target,
                place: Place {
                    within: u32::try_from(within).unwrap_or_default(),
                    at: parse_tid(&tid).unwrap_or_default(),
                },
            });
            self.stop.check()?;
        }
        Ok(entries)
    }

    /// SELECT of each row's key digest `k`, row digest `r` and place.
    fn digests(&self) -> Result<String> {
        let row = |positions: &[usize]| {
            let columns: Vec<_> = positions
                .iter()
                .map(|position| &self.output.columns[*position])
                .map(|column| (column.cast.ty(), quote_ident(&column.name)))
                .collect();
            digest_expression(&columns)
        };
        let all: Vec<usize> = (0..self.output.columns.len()).collect();
        // OFFSET 0 keeps the planner from computing a digest once for each use of it.
        Ok(format!(
            "SELECT {} AS k, {} AS r, tableoid, ctid FROM {}{} OFFSET 0",
            row(&self.output.key),
            row(&all),
            self.unit.table.sql_name(),
            slice_filter(self.unit)?
        ))
    }
}

/// Bucket of the key digest `k`, as [`Buckets::bucket_of`] has it.
const BUCKET: &str = "((get_byte(k, 0) << 4) | (get_byte(k, 1) >> 4))";

/// Eight bytes of a digest as a signed number.
fn half(digest: &str, from: usize) -> String {
    format!("('x' || encode(substr({digest}, {from}, 8), 'hex'))::bit(64)::bigint")
}

/// The wrapping 128-bit sum from the sums of signed halves and the count of negative low ones.
fn unsigned_sum(high: &str, low: &str, wrapped: i64) -> Option<u128> {
    let (high, low): (i128, i128) = (high.parse().ok()?, low.parse().ok()?);
    let low = low.checked_add(i128::from(wrapped) << 64)?;
    Some((high.cast_unsigned() << 64).wrapping_add(low.cast_unsigned()))
}

/// `(block,offset)`
fn parse_tid(text: &str) -> Option<u64> {
    let (block, offset) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some((block.parse::<u64>().ok()? << 16) | offset.parse::<u64>().ok()?)
}

/// A tuple without its last two fields, and the place they say.
fn split_place(tuple: &[u8]) -> (&[u8], Place) {
    let (tuple, place) = tuple.split_at(tuple.len().saturating_sub(PLACE_BYTES));
    let within = place.get(4..8).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    let mut tid = [0; 8];
    if let Some(bytes) = place.get(12..18) {
        tid[2..].copy_from_slice(bytes);
    }
    (tuple, Place { within: u32::from_be_bytes(within), at: u64::from_be_bytes(tid) })
}

/// Counts the rows of a table that are in none of `slices`, all of that table.
pub(super) async fn count_outside(conn: &mut PgConnection, slices: &[&Unit]) -> Result<u64> {
    let mut conditions = Vec::new();
    for slice in slices {
        match slice_condition(slice)? {
            Some(condition) => conditions.push(format!("({condition}) IS NOT TRUE")),
            None => return Ok(0),
        }
    }
    let Some(first) = slices.first() else { return Ok(0) };
    let statement = format!(
        "SELECT count(*) FROM {} WHERE {}",
        first.table.sql_name(),
        conditions.join(" AND ")
    );
    let rows: i64 = sqlx::query_scalar(sql(statement)).fetch_one(conn).await?;
    Ok(rows.unsigned_abs())
}

fn slice_filter(unit: &Unit) -> Result<String> {
    let mut parts: Vec<String> = slice_condition(unit)?.into_iter().collect();
    // Such rows may be left where a backfill ran again: the source's are not compared either.
    parts.extend(removed_condition(unit)?.map(|condition| format!("({condition}) IS NOT TRUE")));
    if parts.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(" WHERE {}", parts.join(" AND ")))
}

/// Which rows retention removes; None: none.
fn removed_condition(unit: &Unit) -> Result<Option<String>> {
    let mut parts = Vec::new();
    for before in &unit.removed {
        let cutoff = quote_literal(&before.cutoff)?;
        parts.push(format!("{} < {cutoff}::timestamptz", quote_ident(&before.column)));
    }
    Ok((!parts.is_empty()).then(|| parts.join(" OR ")))
}

/// Counts the rows of a slice that are not compared because retention removes such rows.
pub(super) async fn count_removed(conn: &mut PgConnection, unit: &Unit) -> Result<u64> {
    let Some(removed) = removed_condition(unit)? else { return Ok(0) };
    let slice = slice_condition(unit)?.map(|slice| format!(" AND {slice}")).unwrap_or_default();
    let statement =
        format!("SELECT count(*) FROM {} WHERE ({removed}){slice}", unit.table.sql_name());
    let rows: i64 = sqlx::query_scalar(sql(statement)).fetch_one(conn).await?;
    Ok(rows.unsigned_abs())
}

/// Which rows are a slice's; None: all. COPY takes no parameters, so the constants are literals,
/// quoted by doubling with standard-conforming strings, which every session is pinned to.
fn slice_condition(unit: &Unit) -> Result<Option<String>> {
    let mut parts = Vec::new();
    for (column, value) in &unit.constants {
        parts.push(format!("{}::text = {}", quote_ident(column), quote_literal(value)?));
    }
    Ok((!parts.is_empty()).then(|| parts.join(" AND ")))
}

/// Begins the one snapshot a verification reads from, or takes over one that another session
/// exported; returns (LSN, snapshot) as text.
pub(crate) async fn begin_snapshot(
    conn: &mut PgConnection,
    exported: Option<&str>,
) -> Result<(String, String)> {
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *conn).await?;
    if let Some(exported) = exported {
        let statement = format!("SET TRANSACTION SNAPSHOT {}", quote_literal(exported)?);
        sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    }
    let row =
        sqlx::query(sql("SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
         ELSE pg_current_wal_lsn() END)::text AS lsn, pg_current_snapshot()::text AS snapshot"
            .to_owned()))
        .fetch_one(conn)
        .await?;
    Ok((row.try_get("lsn")?, row.try_get("snapshot")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_signed_halves_are_the_wrapping_unsigned_sum() {
        let digests: Vec<u128> = vec![
            0,
            u128::MAX,
            1 << 127,
            (1 << 64) - 1,
            1 << 63,
            0x8000_0000_0000_0000_8000_0000_0000_0000,
            0x1234_5678_9abc_def0_fedc_ba98_7654_3210,
        ];
        let halves = |digest: &u128| {
            let bytes = digest.to_be_bytes();
            let half = |at: usize| i64::from_be_bytes(*bytes[at..].first_chunk().unwrap());
            (half(0), half(8))
        };
        let high: i128 = digests.iter().map(|digest| i128::from(halves(digest).0)).sum();
        let low: i128 = digests.iter().map(|digest| i128::from(halves(digest).1)).sum();
        let wrapped: i64 = digests.iter().map(|digest| i64::from(halves(digest).1 < 0)).sum();
        let expected = digests.iter().fold(0_u128, |sum, digest| sum.wrapping_add(*digest));
        assert_eq!(unsigned_sum(&high.to_string(), &low.to_string(), wrapped), Some(expected));
    }

    #[test]
    fn a_ctid_reads_alike_from_text_and_from_copy() {
        let mut tuple = vec![9, 9];
        tuple.extend_from_slice(&[0, 0, 0, 4, 0, 1, 0, 2, 0, 0, 0, 6, 0, 0, 4, 1, 0, 7]);
        let (rest, place) = split_place(&tuple);
        assert_eq!(rest, [9, 9]);
        assert_eq!(place.within, 0x0001_0002);
        assert_eq!(Some(place.at), parse_tid("(1025,7)"));
    }
}
