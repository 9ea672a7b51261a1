//! The independent leg: values read a second way, by Postgres's own input functions from the
//! source's raw text, so that a wrong cast cannot prove itself right.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;

use crate::canonical::{Digest, display_field, fields_of, select_expression};
use crate::cast::{Raw, redact_shown};
use crate::derive::Deriver;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::manners::Pace;
use crate::pack::plan::OutputPlan;
use crate::pack::{OpenedPack, join_error};
use crate::parity::accounts::Accounts;
use crate::parity::difference::{Difference, Kind, key_of, shorten_pair};
use crate::parity::marks::Marks;
use crate::parity::walk::{Expected, SourceWalk};
use crate::store::sql;

/// Values sent to the server at once, at most.
const BATCH_ROWS: usize = 2000;

/// Bytes of raw values in a batch, but for the last row.
const BATCH_BYTES: usize = 4 << 20;

/// Which records are read a second way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Independent {
    /// So many of each stream, drawn uniformly by this seed.
    Sample {
        /// Records per stream.
        n: u64,
        /// Seed of the draw.
        seed: u64,
    },
    /// Every record.
    All,
}

/// What the second reading of one column said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndependentResult {
    /// Stream.
    pub stream: String,
    /// Target table.
    pub target: String,
    /// Column.
    pub column: String,
    /// Whether there is a second way at all.
    pub has_second_way: bool,
    /// Values read both ways.
    pub checked: u64,
    /// Values a rule of the ledger stored changed, and so not comparable.
    pub by_rule: u64,
    /// Values the second way could not read, though the cast did.
    pub unread: u64,
    /// Values the two ways read differently.
    pub differing: u64,
}

/// A row, as it goes to the second reader.
struct RawRow {
    output: usize,
    tuple: Vec<u8>,
    raw: Vec<Option<Raw>>,
    noted: Vec<usize>,
    place: String,
}

/// What the second reading needs.
pub(super) struct SecondReading<'a> {
    pub(super) opened: &'a Arc<OpenedPack>,
    pub(super) accounts: &'a Arc<Vec<Accounts>>,
    pub(super) marks: &'a Arc<Vec<Marks>>,
    pub(super) stop: &'a Stop,
    pub(super) pace: &'a Pace,
    pub(super) differences_max: usize,
}

impl SecondReading<'_> {
    /// Reads records of a stream a second way; `records` is how many it has.
    pub(super) async fn of_stream(
        &self,
        conn: &mut PgConnection,
        stream: usize,
        records: u64,
        which: Independent,
        differences: &mut Vec<Difference>,
    ) -> Result<Vec<IndependentResult>> {
        let outputs = &self.opened.plan.streams[stream].outputs;
        let mut results: Vec<Vec<IndependentResult>> =
            outputs.iter().map(|output| self.blank(stream, output)).collect();
        let (mut batches, reading) = self.read(stream, records, which);
        while let Some(rows) = batches.recv().await {
            for (index, output) in outputs.iter().enumerate() {
                let rows: Vec<&RawRow> = rows.iter().filter(|row| row.output == index).collect();
                if rows.is_empty() {
                    continue;
                }
                for position in 0..output.columns.len() {
                    let mut column = Column { output, position, result: &mut results[index] };
                    let found = column.check(conn, &rows).await?;
                    for (row, text) in found {
                        if differences.len() < self.differences_max {
                            differences.push(self.difference(stream, output, position, row, text));
                        }
                    }
                }
            }
            self.stop.check()?;
        }
        reading.await.map_err(join_error)??;
        let planned = |result: &IndependentResult| {
            result.checked + result.by_rule + result.unread > 0 || !result.has_second_way
        };
        Ok(results.into_iter().flatten().filter(planned).collect())
    }

    fn blank(&self, stream: usize, output: &OutputPlan) -> Vec<IndependentResult> {
        output
            .columns
            .iter()
            .map(|column| IndependentResult {
                stream: self.opened.plan.streams[stream].name.clone(),
                target: self.opened.plan.units[output.unit].name.clone(),
                column: column.name.clone(),
                has_second_way: column.constant.is_some()
                    || column.cast.independent_sql().is_some(),
                checked: 0,
                by_rule: 0,
                unread: 0,
                differing: 0,
            })
            .collect()
    }

    /// Reads the wanted records on a thread of its own, batch by batch.
    fn read(
        &self,
        stream: usize,
        records: u64,
        which: Independent,
    ) -> (mpsc::Receiver<Vec<RawRow>>, tokio::task::JoinHandle<Result<()>>) {
        let (sender, receiver) = mpsc::channel(1);
        let (opened, accounts) = (Arc::clone(self.opened), Arc::clone(self.accounts));
        let (marks, stop, pace) = (Arc::clone(self.marks), self.stop.clone(), self.pace.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let plan = &opened.plan.streams[stream];
            let mut deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
            let mut batch = Vec::new();
            let mut bytes = 0;
            let send = |batch: &mut Vec<RawRow>| {
                sender.blocking_send(std::mem::take(batch)).map_err(|_| {
                    Error::new(ErrorKind::Interrupted, "the second reading was given up")
                })
            };
            let mut sink = |expected: &Expected<'_>| {
                if expected.account.is_some() || expected.is_corrected {
                    return Ok(());
                }
                let output = &plan.outputs[expected.output];
                let raw = deriver.raw(expected.record, expected.output, expected.element);
                let raw_bytes = raw.iter().flatten().filter_map(|raw| raw.bytes.as_ref());
                bytes += expected.tuple.len() + raw_bytes.map(Vec::len).sum::<usize>();
                batch.push(RawRow {
                    output: expected.output,
                    tuple: expected.tuple.to_vec(),
                    raw,
                    noted: expected.noted_columns(),
                    place: expected.place(output),
                });
                if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                    bytes = 0;
                    send(&mut batch)?;
                }
                Ok(())
            };
            let accounts = &accounts[stream];
            let (stop, pace) = (&stop, &pace);
            let walk = SourceWalk { opened: &opened, stream, accounts, stop, pace };
            match which {
                Independent::Sample { n, seed } if n < records => {
                    walk.at(&drawn(n, records, seed), &marks[stream], &mut sink)?;
                }
                _ => {
                    walk.all(None, &mut sink)?;
                }
            }
            if !batch.is_empty() {
                send(&mut batch)?;
            }
            Ok(())
        });
        (receiver, reading)
    }

    fn difference(
        &self,
        stream: usize,
        output: &OutputPlan,
        position: usize,
        row: &RawRow,
        second: Option<String>,
    ) -> Difference {
        let redactor = &self.opened.redactor;
        let column = &output.columns[position];
        let field = fields_of(&row.tuple)[position].clone();
        let first = field.map(|range| display_field(column.cast.ty(), &row.tuple[range]));
        let hide = |text: String| {
            String::from_utf8_lossy(&redact_shown(text.as_bytes(), redactor)).into_owned()
        };
        let (source_value, target_value) = shorten_pair(second.map(hide), first.map(hide));
        Difference {
            stream: self.opened.plan.streams[stream].name.clone(),
            target: self.opened.plan.units[output.unit].name.clone(),
            kind: Kind::Miscast,
            key: key_of(output, &row.tuple, redactor),
            column: Some(column.name.clone()),
            source_value,
            target_value,
            source_digest: None,
            target_digest: Some(hex::encode(output.layout.row_digest(&row.tuple))),
            locator: Some(row.place.clone()),
            row: None,
            corrected: false,
        }
    }
}

/// `n` of `records` numbers, uniformly, ascending.
fn drawn(n: u64, records: u64, seed: u64) -> Vec<u64> {
    use rand::{Rng as _, SeedableRng as _};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = std::collections::BTreeSet::new();
    // Floyd's algorithm: every subset of n is equally likely.
    for last in records.saturating_sub(n)..records {
        let number = random.random_range(0..=last);
        if !drawn.insert(number) {
            drawn.insert(last);
        }
    }
    drawn.into_iter().collect()
}

/// One column of one output.
struct Column<'a> {
    output: &'a OutputPlan,
    position: usize,
    result: &'a mut Vec<IndependentResult>,
}

impl Column<'_> {
    /// Reads the rows' values a second way; returns those that differ, with what was read.
    async fn check<'r>(
        &mut self,
        conn: &mut PgConnection,
        rows: &[&'r RawRow],
    ) -> Result<Vec<(&'r RawRow, Option<String>)>> {
        let cast = &self.output.columns[self.position].cast;
        let result = &mut self.result[self.position];
        let Some(expression) = cast.independent_sql() else { return Ok(Vec::new()) };
        let comparable: Vec<(&RawRow, &Raw)> = rows
            .iter()
            .filter_map(|row| Some((*row, row.raw.get(self.position)?.as_ref()?)))
            .collect();
        let (noted, plain): (Vec<_>, Vec<_>) =
            comparable.into_iter().partition(|(row, _)| row.noted.contains(&self.position));
        result.by_rule += noted.len() as u64;
        let canonical = select_expression(cast.ty(), "v");
        let statement = format!(
            "SELECT n, sha256(record_send(ROW({canonical}))) AS digest FROM (\
             SELECT n, {expression} AS v FROM unnest($1::bytea[], $2::bool[]) \
             WITH ORDINALITY AS s (raw, is_blob, n) OFFSET 0) AS read"
        );
        let readings = read_apart(conn, &statement, &plain).await?;
        let mut differing = Vec::new();
        for ((row, raw), reading) in plain.iter().zip(readings) {
            let Some(digest) = reading else {
                result.unread += 1;
                continue;
            };
            result.checked += 1;
            let one = std::iter::once(self.position);
            if self.output.layout.digest_of(&row.tuple, one) != digest {
                result.differing += 1;
                differing.push((*row, *raw));
            }
        }
        let mut found = Vec::new();
        for (row, raw) in differing {
            let text = format!(
                "SELECT ({expression})::text FROM (SELECT $1::bytea AS raw, $2::bool AS is_blob) AS s"
            );
            let text: Option<String> = sqlx::query_scalar(sql(text))
                .bind(raw.bytes.as_deref())
                .bind(raw.is_blob)
                .fetch_one(&mut *conn)
                .await?;
            found.push((row, text));
        }
        Ok(found)
    }
}

/// Digests of what the server reads, by position; a value it cannot read costs no other.
async fn read_apart(
    conn: &mut PgConnection,
    statement: &str,
    values: &[(&RawRow, &Raw)],
) -> Result<Vec<Option<Digest>>> {
    let mut digests: BTreeMap<usize, Digest> = BTreeMap::new();
    let mut pending = Vec::from([(0, values.len())]);
    while let Some((start, end)) = pending.pop() {
        let range = start..end;
        if range.is_empty() {
            continue;
        }
        let raw: Vec<Option<&[u8]>> =
            values[range.clone()].iter().map(|(_, raw)| raw.bytes.as_deref()).collect();
        let blobs: Vec<bool> = values[range.clone()].iter().map(|(_, raw)| raw.is_blob).collect();
        // By hand: the snapshot's transaction was begun by hand, so the driver knows of none.
        sqlx::raw_sql("SAVEPOINT toolkit_reading").execute(&mut *conn).await?;
        let query = sqlx::query(sql(statement.to_owned())).bind(raw).bind(blobs);
        match query.fetch_all(&mut *conn).await {
            Ok(rows) => {
                sqlx::raw_sql("RELEASE SAVEPOINT toolkit_reading").execute(&mut *conn).await?;
                for row in rows {
                    let n = usize::try_from(row.try_get::<i64, _>("n")?).unwrap_or(1);
                    let digest: Vec<u8> = row.try_get("digest")?;
                    digests.insert(range.start + n - 1, digest.try_into().unwrap_or_default());
                }
            }
            Err(error) => {
                if !is_data_exception(&error) {
                    return Err(error.into());
                }
                let back =
                    "ROLLBACK TO SAVEPOINT toolkit_reading; RELEASE SAVEPOINT toolkit_reading";
                sqlx::raw_sql(back).execute(&mut *conn).await?;
                if range.len() > 1 {
                    let middle = range.start + range.len() / 2;
                    pending.push((start, middle));
                    pending.push((middle, end));
                }
            }
        }
    }
    Ok((0..values.len()).map(|at| digests.get(&at).copied()).collect())
}

/// SQLSTATE class 22: the value is at fault, not the statement.
fn is_data_exception(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("22"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_has_n_different_numbers_in_order_and_depends_on_the_seed_alone() {
        let one = drawn(100, 1000, 7);
        assert_eq!(one.len(), 100);
        assert!(one.is_sorted_by(|left, right| left < right) && one[99] < 1000);
        assert_eq!(one, drawn(100, 1000, 7));
        assert_ne!(one, drawn(100, 1000, 8));
        assert_eq!(drawn(5, 5, 1), [0, 1, 2, 3, 4]);
    }
}
