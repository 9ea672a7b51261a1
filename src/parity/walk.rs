//! Walking both sides in the target's type domain: what the source says should be there, and what
//! is there.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;

use crate::canonical::{Digest, TupleReader, copy_expression, display_row, sha256};
use crate::derive::{
    CORRECTED, Corrected, Derived, Deriver, Fate, LedgerEntry, note_entries, output_name,
    reject_entries, row_locator, skip_entries,
};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::pack::plan::{OutputPlan, StreamPlan, Unit};
use crate::parity::accounts::{Accounts, RowAccount};
use crate::source::{Flow, SourceRecord};
use crate::store::{quote_ident, sql};

/// One row the source yields for a unit.
pub(crate) struct Expected<'a> {
    pub(crate) stream: usize,
    pub(crate) output: usize,
    pub(crate) tuple: &'a [u8],
    pub(crate) key: Digest,
    pub(crate) row: Digest,
    /// The recorded decision that the target holds another row, if there is one.
    pub(crate) account: Option<&'a RowAccount>,
    pub(crate) record: &'a SourceRecord<'a>,
    pub(crate) element: u32,
}

impl Expected<'_> {
    /// File and place in it, for people.
    pub(crate) fn place(&self, plan: &OutputPlan) -> String {
        let locator = row_locator(self.record, plan, self.element);
        format!("{}, {locator}", self.record.file.relative)
    }
}

/// Something backfill should have recorded and did not.
#[derive(Debug, Clone)]
pub(crate) struct Unaccounted {
    pub(crate) output: usize,
    pub(crate) what: String,
    pub(crate) source: String,
    pub(crate) locator: String,
}

/// What a walk over one stream counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamTally {
    pub(crate) read: u64,
    pub(crate) rejected: u64,
    pub(crate) skipped: u64,
    pub(crate) superseded: u64,
    pub(crate) ledgered: u64,
    pub(crate) unaccounted: u64,
    pub(crate) examples: Vec<Unaccounted>,
}

/// Examples of unaccounted entries kept in memory.
const EXAMPLES_MAX: usize = 1000;

impl StreamTally {
    fn unaccounted(&mut self, entry: Unaccounted) {
        self.unaccounted += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(entry);
        }
    }
}

/// Derives every record of a stream and hands out the rows that are not accounted as rejected or
/// skipped. Blocking: runs on a thread of its own.
pub(crate) fn walk_source(
    opened: &OpenedPack,
    stream: usize,
    accounts: &Accounts,
    stop: &Stop,
    sink: &mut dyn FnMut(&Expected<'_>) -> Result<()>,
) -> Result<StreamTally> {
    let plan = &opened.plan.streams[stream];
    let mut deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
    let mut derived = Derived::default();
    let mut tally = StreamTally::default();
    let mut corrector = Corrector::new(opened, stream, accounts);
    for mut source in opened.open_sources(stream)? {
        let mut from = None;
        loop {
            let mut in_transaction = 0_u32;
            from = source.read(from.as_ref(), &mut |record| {
                deriver.derive(record, &mut derived)?;
                let walk = RecordWalk { plan, stream, accounts, record, derived: &derived };
                walk.run(&mut tally, deriver.redactor(), sink)?;
                corrector.corrected(record, &derived, &mut tally, sink)?;
                in_transaction += 1;
                // A read transaction ends now and then: in rollback-journal mode it blocks
                // writers.
                Ok(if in_transaction.is_multiple_of(50_000) { Flow::Pause } else { Flow::Continue })
            })?;
            stop.check()?;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(tally)
}

/// Whether a derived row was refused by Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    No,
    Itself,
    WithItsRecord,
}

/// Derives the corrections that stand in place of refused records and rows.
struct Corrector<'p> {
    plan: &'p StreamPlan,
    stream: usize,
    accounts: &'p Accounts,
    deriver: Deriver<'p>,
    derived: Derived,
}

impl<'p> Corrector<'p> {
    fn new(opened: &'p OpenedPack, stream: usize, accounts: &'p Accounts) -> Self {
        let plan = &opened.plan.streams[stream];
        let deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
        Self { plan, stream, accounts, deriver, derived: Derived::default() }
    }

    /// Hands out the rows that the target holds in place of what the source still has.
    fn corrected(
        &mut self,
        record: &SourceRecord<'_>,
        derived: &Derived,
        tally: &mut StreamTally,
        sink: &mut dyn FnMut(&Expected<'_>) -> Result<()>,
    ) -> Result<()> {
        for skip in derived.skips.iter().filter(|skip| skip.rule == CORRECTED) {
            let output = &self.plan.outputs[skip.output];
            let place = (
                output_name(self.plan, skip.output),
                record.file.relative.clone(),
                row_locator(record, output, skip.element),
            );
            let found = self.plan.corrections.find(&place, &skip.original_hash);
            match found.map(|correction| &correction.stored) {
                None => {}
                Some(Corrected::Row(tuple)) => sink(&Expected {
                    stream: self.stream,
                    output: skip.output,
                    tuple,
                    key: output.layout.key_digest(tuple),
                    row: output.layout.row_digest(tuple),
                    account: None,
                    record,
                    element: skip.element,
                })?,
                Some(Corrected::Record(held)) => {
                    let (deriver, derived) = (&mut self.deriver, &mut self.derived);
                    let (plan, stream, accounts) = (self.plan, self.stream, self.accounts);
                    held.with(|record| -> Result<()> {
                        deriver.derive(record, derived)?;
                        if skip.output > 0 {
                            derived.only(skip.output, skip.element);
                        }
                        let walk = RecordWalk { plan, stream, accounts, record, derived };
                        // It was counted as the record of the source that it stands for.
                        let read = tally.read;
                        walk.run(tally, deriver.redactor(), sink)?;
                        tally.read = read;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }
}

struct RecordWalk<'a> {
    plan: &'a StreamPlan,
    stream: usize,
    accounts: &'a Accounts,
    record: &'a SourceRecord<'a>,
    derived: &'a Derived,
}

impl RecordWalk<'_> {
    fn run(
        &self,
        tally: &mut StreamTally,
        redactor: &crate::cast::redact::Redactor,
        sink: &mut dyn FnMut(&Expected<'_>) -> Result<()>,
    ) -> Result<()> {
        let refused = self.refused_rows();
        self.account(tally, redactor, &refused);
        self.rows(tally, &refused, sink)
    }

    /// Positions of the rows that Postgres refused, by record of the rejects; without the
    /// record's own row none of its rows was written.
    fn refused_rows(&self) -> Vec<Refused> {
        if self.accounts.is_plain() {
            return Vec::new();
        }
        let mut refused: Vec<Refused> = Vec::with_capacity(self.derived.rows.len());
        let mut is_lost = false;
        for row in &self.derived.rows {
            let output = &self.plan.outputs[row.output];
            let tuple = self.derived.fields(row);
            let place = self.place(row.output, row.element);
            let is_refused = self.accounts.has_reject(&place, &refused_sha256(output, tuple));
            is_lost |= is_refused && row.output == 0;
            refused.push(match (is_refused, is_lost) {
                (true, _) => Refused::Itself,
                (false, true) => Refused::WithItsRecord,
                (false, false) => Refused::No,
            });
        }
        refused
    }

    fn place(&self, output: usize, element: u32) -> (String, String, String) {
        (
            output_name(self.plan, output),
            self.record.file.relative.clone(),
            row_locator(self.record, &self.plan.outputs[output], element),
        )
    }

    /// Counts the record, and checks that rejects, skips and changed values are recorded.
    fn account(
        &self,
        tally: &mut StreamTally,
        redactor: &crate::cast::redact::Redactor,
        refused: &[Refused],
    ) {
        tally.read += 1;
        match self.derived.fate {
            Fate::Stored => {}
            Fate::Skipped => tally.skipped += 1,
            Fate::Rejected => tally.rejected += 1,
        }
        for (refused, entry) in self.derived.refusals.iter().zip(reject_entries(
            self.plan,
            self.record,
            self.derived,
            redactor,
        )) {
            let place = (entry.output.clone(), entry.source.clone(), entry.locator.clone());
            if refused.output > 0 {
                tally.rejected += 1;
            }
            if !self.accounts.has_reject(&place, &entry.record_sha256) {
                tally.unaccounted(Unaccounted {
                    output: refused.output,
                    what: format!("reject `{}` is not recorded: {}", entry.reason, entry.detail),
                    source: entry.source,
                    locator: entry.locator,
                });
            }
        }
        let notes = note_entries(self.plan, self.record, self.derived);
        for (note, entry) in self.derived.notes.iter().zip(notes) {
            if refused.get(note.row).is_none_or(|refused| *refused == Refused::No) {
                tally.ledgered += 1;
                self.ledgered(tally, entry);
            }
        }
        for entry in skip_entries(self.plan, self.record, self.derived) {
            self.ledgered(tally, entry);
        }
    }

    fn ledgered(&self, tally: &mut StreamTally, entry: LedgerEntry) {
        if self.accounts.has_entry(&entry.hash()) {
            return;
        }
        let output = self.plan.outputs.iter().position(|output| output.name == entry.output);
        tally.unaccounted(Unaccounted {
            output: output.unwrap_or(0),
            what: format!("ledger entry `{}` of {} is not recorded", entry.rule, entry.column),
            source: entry.source,
            locator: entry.locator,
        });
    }

    fn rows(
        &self,
        tally: &mut StreamTally,
        refused: &[Refused],
        sink: &mut dyn FnMut(&Expected<'_>) -> Result<()>,
    ) -> Result<()> {
        for (at, row) in self.derived.rows.iter().enumerate() {
            match refused.get(at) {
                Some(Refused::Itself) => {
                    tally.rejected += 1;
                    continue;
                }
                Some(Refused::WithItsRecord) => continue,
                Some(Refused::No) | None => {}
            }
            let output = &self.plan.outputs[row.output];
            let tuple = self.derived.fields(row);
            let digest = output.layout.row_digest(tuple);
            let mut account = None;
            if !self.accounts.is_plain() {
                let place = self.place(row.output, row.element);
                account = self.accounts.row(&place, &digest);
                match account.map(|account| account.rule.as_str()) {
                    None => {}
                    Some("identical_duplicate") => {
                        tally.skipped += u64::from(row.output == 0);
                        continue;
                    }
                    Some(_) => tally.superseded += u64::from(row.output == 0),
                }
            }
            sink(&Expected {
                stream: self.stream,
                output: row.output,
                tuple,
                key: output.layout.key_digest(tuple),
                row: digest,
                account,
                record: self.record,
                element: row.element,
            })?;
        }
        Ok(())
    }
}

/// Identity of a row that Postgres refused, as backfill recorded it.
fn refused_sha256(output: &OutputPlan, tuple: &[u8]) -> Digest {
    sha256(serde_json::Value::Object(display_row(output, tuple)).to_string().as_bytes())
}

/// Receives a target row: tuple, key digest, row digest.
pub(crate) type TargetSink<'s> = dyn FnMut(&[u8], &Digest, &Digest) -> Result<()> + Send + 's;

/// Streams the rows of a unit in the target and hands out (tuple, key digest, row digest).
pub(crate) async fn walk_target(
    conn: &mut PgConnection,
    unit: &Unit,
    output: &OutputPlan,
    stop: &Stop,
    sink: &mut TargetSink<'_>,
) -> Result<u64> {
    let columns: Vec<String> = output
        .columns
        .iter()
        .map(|column| copy_expression(column.cast.ty(), &quote_ident(&column.name)))
        .collect();
    let statement = format!(
        "COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT binary)",
        columns.join(", "),
        unit.table.sql_name(),
        slice_filter(unit)?
    );
    let mut stream = conn.copy_out_raw(&statement).await?;
    let mut reader = TupleReader::default();
    let mut rows = 0_u64;
    while let Some(piece) = stream.try_next().await? {
        reader.push(&piece);
        while let Some(tuple) = reader.next_tuple()? {
            let key = output.layout.key_digest(tuple);
            let row = output.layout.row_digest(tuple);
            sink(tuple, &key, &row)?;
            rows += 1;
        }
        stop.check()?;
    }
    if !reader.is_complete() {
        return Err(Error::new(
            ErrorKind::StoreUnreachable,
            format!("{}: the server ended the stream of rows early", unit.name),
        ));
    }
    Ok(rows)
}

/// Counts the rows of a table that are in none of `slices`, all of that table.
pub(crate) async fn count_outside(conn: &mut PgConnection, slices: &[&Unit]) -> Result<u64> {
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
    let condition = slice_condition(unit)?;
    Ok(condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default())
}

/// Which rows are a slice's; None: all. COPY takes no parameters, so the constants are literals,
/// quoted by doubling with standard-conforming strings, which every session is pinned to.
fn slice_condition(unit: &Unit) -> Result<Option<String>> {
    let mut parts = Vec::new();
    for (column, value) in &unit.constants {
        if value.contains('\0') {
            return Err(Error::new(ErrorKind::Pack, format!("the constant of {column} holds NUL")));
        }
        parts.push(format!("{}::text = '{}'", quote_ident(column), value.replace('\'', "''")));
    }
    Ok((!parts.is_empty()).then(|| parts.join(" AND ")))
}

/// Begins the one snapshot a verification reads from; returns (LSN, snapshot) as text.
pub(crate) async fn begin_snapshot(conn: &mut PgConnection) -> Result<(String, String)> {
    use sqlx::Row as _;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *conn).await?;
    let row =
        sqlx::query(sql("SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
         ELSE pg_current_wal_lsn() END)::text AS lsn, pg_current_snapshot()::text AS snapshot"
            .to_owned()))
        .fetch_one(conn)
        .await?;
    Ok((row.try_get("lsn")?, row.try_get("snapshot")?))
}

/// Hands out every row a stream's source yields and backfill did not refuse: output, tuple, row
/// digest. Blocking.
pub(crate) fn each_row(
    opened: &OpenedPack,
    stream: usize,
    accounts: &Accounts,
    stop: &Stop,
    visit: &mut dyn FnMut(usize, &[u8], &Digest),
) -> Result<()> {
    walk_source(opened, stream, accounts, stop, &mut |expected| {
        visit(expected.output, expected.tuple, &expected.row);
        Ok(())
    })?;
    Ok(())
}
