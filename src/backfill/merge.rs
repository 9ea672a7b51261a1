//! Writing the rows of one output: straight COPY into an empty slice, or COPY into a staging
//! table and a merge that counts what became of each row.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::backfill::chunk::{OutputRows, RowRef};
use crate::backfill::collision::other_row;
use crate::backfill::counts::RowCounts;
use crate::backfill::orphans;
use crate::backfill::stage::{create_stage, fill_stage, stage_rows, staged_value};
use crate::backfill::unchanged::split_unchanged;
use crate::canonical::{COPY_SIGNATURE, Digest, select_expression};
use crate::cast::PgType;
use crate::derive::is_newer;
use crate::error::{Error, Result};
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::OutputPlan;
use crate::store::catalog::column_list;
use crate::store::{quote_ident, sql};

/// Bytes handed to COPY at once.
const COPY_PIECE_BYTES: usize = 256 << 10;

/// What became of the rows of one output, by position in [`OutputRows::rows`].
#[derive(Debug, Default)]
pub struct Written {
    /// Totals.
    pub counts: RowCounts,
    /// Rows the target did not take, and what kept its place.
    pub superseded: Vec<Superseded>,
    /// Rows that repeat another row of the chunk byte for byte.
    pub repeated: Vec<RowRef>,
    /// Rows Postgres refused, with its words.
    pub refused: Vec<(RowRef, Refused)>,
}

impl Written {
    /// Adds what became of other rows of the output.
    pub(super) fn append(&mut self, other: Self) {
        self.counts.add(&other.counts);
        self.superseded.extend(other.superseded);
        self.repeated.extend(other.repeated);
        self.refused.extend(other.refused);
    }
}

/// A row the target did not take.
#[derive(Debug, Clone, Copy)]
pub struct Superseded {
    /// The row.
    pub row: RowRef,
    /// Digest of the target's row, if it is in the target (and not in this chunk).
    pub target_digest: Option<Digest>,
    /// The ledger rule: `superseded` (the target held something newer), `superseded_tie`,
    /// `target_wins`, `superseded_in_source`.
    pub rule: &'static str,
}

/// Why Postgres refused a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stable code.
    pub reason: String,
    /// One sentence.
    pub detail: String,
}

/// Copies all rows straight into the target. On an error nothing is left and the caller merges.
pub(super) async fn copy_direct(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
) -> Result<u64> {
    let statement = format!(
        "COPY {} ({}) FROM STDIN (FORMAT binary)",
        output.table.sql_name(),
        column_list(output.column_names())
    );
    let count = i16::try_from(output.columns.len()).unwrap_or(i16::MAX).to_be_bytes();
    send(conn, &statement, rows.rows.iter().map(|row| (count, None, rows.fields(row)))).await
}

/// Merges rows through a staging table, in savepoints; a batch that Postgres refuses is halved
/// until the rows at fault stand alone. `conflict` is the output's own rule for backfill, and
/// [`ConflictRule::SourceWins`] for whoever writes what it was told. `sifts`: unchanged rows are
/// first sorted out by their keys, which pays where there are any.
pub async fn merge(
    conn: &mut PgConnection,
    output: &OutputPlan,
    conflict: ConflictRule,
    rows: &OutputRows,
    chosen: Vec<RowRef>,
    sifts: bool,
) -> Result<Written> {
    let mut written = Written::default();
    let mut kept = chosen;
    if !output.is_content {
        kept = without_repeats(output, rows, kept, &mut written);
    }
    if sifts && !output.is_content && !kept.is_empty() {
        let (unchanged, others) = split_unchanged(conn, output, rows, kept).await?;
        written.counts.unchanged += unchanged;
        kept = others;
    }
    if kept.is_empty() {
        return Ok(written);
    }
    create_stage(conn, output).await?;
    let mut batches = vec![kept];
    while let Some(batch) = batches.pop() {
        let mut savepoint = conn.begin().await?;
        match merge_batch(&mut savepoint, output, conflict, rows, &batch).await {
            Ok(done) if done.counts.total() == batch.len() as u64 => {
                savepoint.commit().await?;
                written.counts.add(&done.counts);
                written.superseded.extend(done.superseded);
            }
            outcome => {
                savepoint.rollback().await?;
                let mut batch = batch;
                if let Err(error) = &outcome
                    && is_missing_parent(error)
                {
                    let lost = orphans::take_out(conn, output, conflict, rows, &mut batch).await?;
                    if !lost.is_empty() {
                        written.counts.rejected += lost.len() as u64;
                        written.refused.extend(lost);
                        batches.extend((!batch.is_empty()).then_some(batch));
                        continue;
                    }
                }
                let (mut refused, unique) = match outcome {
                    Err(error) if !is_about_data(&error) => return Err(error),
                    Err(error) => (refusal_of(&error), violated_unique(&error)),
                    Ok(_) => (swallowed(output), None),
                };
                if let [row] = batch.as_slice() {
                    if let Some(unique) = unique
                        && let Some(other) =
                            name_other(conn, output, rows.fields(row), &unique).await
                    {
                        refused.detail = format!("{}; {other}", refused.detail);
                    }
                    written.counts.rejected += 1;
                    written.refused.push((*row, refused));
                } else {
                    let mut left = batch;
                    let right = left.split_off(left.len() / 2);
                    batches.push(right);
                    batches.push(left);
                }
            }
        }
    }
    Ok(written)
}

/// Sorts out rows of one chunk that share a key, as the conflict rule says; the first stands for
/// its twins, and two different rows of one record or without a rule are a reject of the later.
fn without_repeats(
    output: &OutputPlan,
    rows: &OutputRows,
    chosen: Vec<RowRef>,
    written: &mut Written,
) -> Vec<RowRef> {
    let mut by_key: HashMap<[u8; 16], usize> = HashMap::with_capacity(chosen.len());
    let mut kept: Vec<RowRef> = Vec::with_capacity(chosen.len());
    for row in chosen {
        let fields = rows.fields(&row);
        let digest = output.layout.key_digest(fields);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        let Some(at) = by_key.get(&short).copied() else {
            by_key.insert(short, kept.len());
            kept.push(row);
            continue;
        };
        let first = kept[at];
        if row.digest == first.digest {
            written.counts.skipped += 1;
            written.repeated.push(row);
        } else if is_reject(output, &first, &row) {
            written.counts.rejected += 1;
            written.refused.push((row, duplicate_key(output)));
        } else {
            let later_wins = output.conflict == ConflictRule::Newer
                && is_newer(output, fields, rows.fields(&first));
            let loser = if later_wins { std::mem::replace(&mut kept[at], row) } else { row };
            written.counts.superseded += 1;
            written.superseded.push(Superseded {
                row: loser,
                target_digest: None,
                rule: "superseded_in_source",
            });
        }
    }
    kept
}

/// Whether the later of two different rows under one key is refused rather than superseded: by
/// default, and always inside one record, unless the rule says that the first stays.
fn is_reject(output: &OutputPlan, first: &RowRef, later: &RowRef) -> bool {
    match output.conflict {
        ConflictRule::SourceWins => true,
        ConflictRule::Newer => first.record == later.record,
        ConflictRule::TargetWins => false,
    }
}

pub(super) fn duplicate_key(output: &OutputPlan) -> Refused {
    let key: Vec<&str> =
        output.key.iter().map(|position| output.columns[*position].name.as_str()).collect();
    Refused {
        reason: "duplicate_key".to_owned(),
        detail: format!(
            "another record of the source has the same ({}) with other content; the first is kept",
            key.join(", ")
        ),
    }
}

/// A row that neither arrived nor was refused.
fn swallowed(output: &OutputPlan) -> Refused {
    Refused {
        reason: "swallowed".to_owned(),
        detail: format!(
            "a trigger or rule of {} dropped the row without an error",
            output.table.display_name()
        ),
    }
}

async fn merge_batch(
    conn: &mut PgConnection,
    output: &OutputPlan,
    conflict: ConflictRule,
    rows: &OutputRows,
    batch: &[RowRef],
) -> Result<Written> {
    let stage = fill_stage(&mut *conn, output, rows, batch).await?;
    let classified =
        sqlx::query(sql(merge_statement(output, conflict, &stage))).fetch_all(&mut *conn).await?;
    let mut written = Written::default();
    for line in classified {
        let class: String = line.try_get("class")?;
        let rows_of_class = u64::try_from(line.try_get::<i64, _>("rows")?).unwrap_or(0);
        match class.as_str() {
            "insert" => written.counts.inserted += rows_of_class,
            "update" => written.counts.updated += rows_of_class,
            "same" => written.counts.unchanged += rows_of_class,
            rule => {
                written.counts.superseded += rows_of_class;
                let ord: i32 = line.try_get("ord")?;
                let digest: Vec<u8> = line.try_get("digest")?;
                written.superseded.push(Superseded {
                    row: batch[usize::try_from(ord).unwrap_or(0)],
                    target_digest: digest.try_into().ok(),
                    rule: match rule {
                        "newer" => "superseded",
                        "tie" => "superseded_tie",
                        _ => "target_wins",
                    },
                });
            }
        }
    }
    Ok(written)
}

/// One statement: classify each staged row against the target, insert, update, and return what
/// became of them. "Same" is byte equality of the row image (`*=`), never SQL equality.
fn merge_statement(output: &OutputPlan, conflict: ConflictRule, stage: &str) -> String {
    let target = output.table.sql_name();
    let value = |position: usize| staged_value(output, position);
    let key_match = key_match(output);
    let columns = column_list(output.column_names());
    let values: Vec<String> = (0..output.columns.len()).map(value).collect();
    let sets: Vec<String> = (0..output.columns.len())
        .filter(|position| !output.is_content && !output.key.contains(position))
        .map(|position| {
            format!("{} = {}", quote_ident(&output.columns[position].name), value(position))
        })
        .collect();
    let overriding = if needs_overriding(output) { " OVERRIDING SYSTEM VALUE" } else { "" };
    let judged = judged(output, conflict, stage);
    let rows = stage_rows(output, stage);
    let update = if sets.is_empty() {
        String::new()
    } else {
        format!(
            ", updated AS (UPDATE {target} AS t SET {} FROM {rows} AS s \
             JOIN judged AS j ON j.ord = s.toolkit_ord \
             WHERE j.class = 'update' AND {key_match} RETURNING 1)",
            sets.join(", ")
        )
    };
    let updated_rows = if sets.is_empty() {
        String::new()
    } else {
        " UNION ALL SELECT 'update', count(*), NULL, NULL FROM updated".to_owned()
    };
    format!(
        "WITH judged AS MATERIALIZED ({judged}), \
         inserted AS (INSERT INTO {target} ({columns}){overriding} \
           SELECT {} FROM {rows} AS s JOIN judged AS j ON j.ord = s.toolkit_ord \
           WHERE j.class = 'insert' ORDER BY s.toolkit_ord RETURNING 1)\
         {update} \
         SELECT 'insert' AS class, count(*) AS rows, NULL::int4 AS ord, NULL::bytea AS digest \
           FROM inserted\
         {updated_rows} \
         UNION ALL SELECT 'same', count(*), NULL, NULL FROM judged WHERE class = 'same' \
         UNION ALL SELECT class, 1, ord, digest FROM judged \
           WHERE class NOT IN ('insert', 'update', 'same')",
        values.join(", ")
    )
}

/// What becomes of each staged row: its number, class, and the digest of what keeps its place.
pub(super) fn judged(output: &OutputPlan, conflict: ConflictRule, stage: &str) -> String {
    let rows = stage_rows(output, stage);
    if output.is_content {
        return format!(
            "SELECT s.toolkit_ord AS ord, 'insert' AS class, NULL::bytea AS digest FROM {rows} AS s"
        );
    }
    let target = output.table.sql_name();
    let key_match = key_match(output);
    let staged: Vec<String> = (0..output.columns.len())
        .map(|position| {
            let value = staged_value(output, position);
            select_expression(output.columns[position].cast.ty(), &value)
        })
        .collect();
    let (staged, held) = (staged.join(", "), held_columns(output));
    let first_key = quote_ident(&output.columns[output.key[0]].name);
    let Verdicts { otherwise, loses } = verdicts(output, conflict);
    format!(
        "SELECT DISTINCT ON (s.toolkit_ord) s.toolkit_ord AS ord, \
           CASE WHEN t.{first_key} IS NULL THEN 'insert' \
                WHEN pg_catalog.record_image_eq(ROW({staged}), ROW({held})) THEN 'same' \
                {otherwise} END AS class, \
           CASE WHEN t.{first_key} IS NOT NULL AND {loses} \
                THEN sha256(record_send(ROW({held}))) END AS digest \
         FROM {rows} AS s LEFT JOIN {target} AS t ON {key_match}"
    )
}

/// A conflict rule as SQL.
struct Verdicts {
    /// The rest of the CASE that classifies a row the target holds with other content.
    otherwise: String,
    /// Whether the staged row gives way: only then is the target's digest worth computing.
    loses: String,
}

fn verdicts(output: &OutputPlan, conflict: ConflictRule) -> Verdicts {
    let (otherwise, loses) = match (conflict, output.by) {
        (ConflictRule::SourceWins, _) | (ConflictRule::Newer, None) => {
            ("ELSE 'update'".to_owned(), "false".to_owned())
        }
        (ConflictRule::TargetWins, _) => ("ELSE 'target_wins'".to_owned(), "true".to_owned()),
        (ConflictRule::Newer, Some(by)) => {
            // Text by its bytes, as everywhere, and not by the collation of a column.
            let by_bytes = match output.columns[by].cast.ty() {
                PgType::Text(_) => " COLLATE \"C\"",
                _ => "",
            };
            let held = format!("t.{}{by_bytes}", quote_ident(&output.columns[by].name));
            let staged = format!("{}{by_bytes}", staged_value(output, by));
            let wins = format!("({staged} > {held} OR ({held} IS NULL AND {staged} IS NOT NULL))");
            let otherwise = format!(
                "WHEN {wins} THEN 'update' \
                 WHEN {held} > {staged} OR ({staged} IS NULL AND {held} IS NOT NULL) \
                 THEN 'newer' ELSE 'tie'"
            );
            (otherwise, format!("NOT coalesce({wins}, false)"))
        }
    };
    Verdicts { otherwise, loses }
}

/// The staged row `s` and the target's row `t` have one key.
pub(super) fn key_match(output: &OutputPlan) -> String {
    let parts: Vec<String> = output
        .key
        .iter()
        .map(|position| {
            let column = quote_ident(&output.columns[*position].name);
            let staged = staged_value(output, *position);
            let equal = format!("t.{column} = {staged}");
            // Where equal is not the same (citext, a collation that ignores case), a row must not
            // be taken for its neighbour.
            let is_exact = match output.columns[*position].cast.ty() {
                PgType::Other(_) => false,
                PgType::Text(_) => {
                    output.catalog_column(*position).is_none_or(|column| column.deterministic)
                }
                _ => true,
            };
            if is_exact {
                return equal;
            }
            format!("{equal} AND t.{column}::text COLLATE \"C\" = ({staged})::text COLLATE \"C\"")
        })
        .collect();
    parts.join(" AND ")
}

/// The canonical columns of the target's row `t`.
pub(super) fn held_columns(output: &OutputPlan) -> String {
    let columns: Vec<String> = output
        .columns
        .iter()
        .map(|column| {
            select_expression(column.cast.ty(), &format!("t.{}", quote_ident(&column.name)))
        })
        .collect();
    columns.join(", ")
}

fn needs_overriding(output: &OutputPlan) -> bool {
    (0..output.columns.len())
        .any(|position| output.catalog_column(position).is_some_and(|c| c.identity_always))
}

/// Whether a straight COPY can carry every column of the output.
#[must_use]
pub(super) fn can_copy_direct(output: &OutputPlan) -> bool {
    output.columns.iter().all(|column| !matches!(column.cast.ty(), PgType::Other(_)))
}

pub(super) async fn send<'r>(
    conn: &mut PgConnection,
    statement: &str,
    rows: impl Iterator<Item = ([u8; 2], Option<u32>, &'r [u8])>,
) -> Result<u64> {
    use sqlx::postgres::PgCopyIn;
    let mut copy: PgCopyIn<&mut PgConnection> = conn.copy_in_raw(statement).await?;
    let mut piece = Vec::with_capacity(COPY_PIECE_BYTES + (64 << 10));
    piece.extend_from_slice(COPY_SIGNATURE);
    piece.extend_from_slice(&[0; 8]);
    for (count, number, fields) in rows {
        piece.extend_from_slice(&count);
        if let Some(number) = number {
            piece.extend_from_slice(&4_i32.to_be_bytes());
            piece.extend_from_slice(&number.to_be_bytes());
        }
        piece.extend_from_slice(fields);
        if piece.len() >= COPY_PIECE_BYTES {
            copy.send(piece.as_slice()).await?;
            piece.clear();
        }
    }
    piece.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(piece.as_slice()).await?;
    Ok(copy.finish().await?)
}

/// Whether Postgres refused values rather than the statement: data exceptions, constraints,
/// triggers that raise, rows too large for an index. Anything else would refuse every row.
#[must_use]
pub fn is_about_data(error: &Error) -> bool {
    let code = database_error(error).and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| {
        ["22", "23", "44"].iter().any(|class| code.starts_with(class))
            || code.starts_with("P0")
            || code == "54000"
    })
}

/// Whether a foreign key led nowhere.
fn is_missing_parent(error: &Error) -> bool {
    database_error(error).and_then(sqlx::error::DatabaseError::code).is_some_and(|c| c == "23503")
}

fn database_error(error: &Error) -> Option<&dyn sqlx::error::DatabaseError> {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<sqlx::Error>())
        .and_then(sqlx::Error::as_database_error)
}

/// The unique constraint or index that a row violates.
fn violated_unique(error: &Error) -> Option<String> {
    let database = database_error(error)?;
    let is_unique = database.code().is_some_and(|code| code == "23505");
    database.constraint().filter(|_| is_unique).map(str::to_owned)
}

/// The row that has the unique key already; a sentence less is no reason to fail.
async fn name_other(
    conn: &mut PgConnection,
    output: &OutputPlan,
    tuple: &[u8],
    constraint: &str,
) -> Option<String> {
    let mut savepoint = conn.begin().await.ok()?;
    let named = other_row(&mut savepoint, output, tuple, constraint).await;
    savepoint.rollback().await.ok()?;
    named.ok().flatten()
}

/// Postgres's refusal of one row, by SQLSTATE.
fn refusal_of(error: &Error) -> Refused {
    let database = database_error(error);
    let code = database.and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    let reason = match code.as_ref() {
        "23505" => "unique_collision",
        "23503" => "orphan",
        "23514" => "check",
        "23502" => "not_null",
        "22001" => "too_long",
        "22003" => "overflow",
        "54000" => "too_large",
        _ => "refused_by_postgres",
    };
    let detail = database
        .and_then(|db| db.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
        .and_then(sqlx::postgres::PgDatabaseError::detail)
        .map(|text| format!(": {text}"))
        .unwrap_or_default();
    Refused { reason: reason.to_owned(), detail: format!("{}{detail}", error.detail()) }
}
