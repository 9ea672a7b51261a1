//! Sorting out rows the target already holds, before anything wide is sent.
//!
//! Only keys travel to the server; it answers with the digests of the rows it has under them. On
//! a rerun that is nearly everything, and nothing has to be staged, compared or written.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::chunk::{OutputRows, RowRef};
use super::merge::{held_columns, is_about_data, key_match, send};
use super::stage::stage_name;
use crate::canonical::{Digest, fields_of};
use crate::cast::PgType;
use crate::error::Result;
use crate::pack::plan::OutputPlan;
use crate::store::{quote_ident, sql};

/// Splits rows into how many the target holds byte for byte, and the others.
pub(super) async fn split_unchanged(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    chosen: Vec<RowRef>,
) -> Result<(u64, Vec<RowRef>)> {
    let mut savepoint = conn.begin().await?;
    let held = match held_digests(&mut savepoint, output, rows, &chosen).await {
        Ok(held) => {
            savepoint.commit().await?;
            held
        }
        // A key the target's own type refuses: the merge finds out which row it is.
        Err(error) if is_about_data(&error) => {
            savepoint.rollback().await?;
            return Ok((0, chosen));
        }
        Err(error) => return Err(error),
    };
    let before = chosen.len();
    let others: Vec<RowRef> = chosen
        .into_iter()
        .enumerate()
        .filter(|(at, row)| held.get(at).copied().flatten() != Some(row.digest))
        .map(|(_, row)| row)
        .collect();
    Ok(((before - others.len()) as u64, others))
}

/// Digests of the target's rows by position of the key; None where several rows share one.
async fn held_digests(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    chosen: &[RowRef],
) -> Result<HashMap<usize, Option<Digest>>> {
    let stage = send_keys(&mut *conn, output, rows, chosen).await?;
    let statement = format!(
        "SELECT s.toolkit_ord AS ord, sha256(record_send(ROW({}))) AS digest \
         FROM {stage} AS s JOIN {} AS t ON {}",
        held_columns(output),
        output.table.sql_name(),
        key_match(output)
    );
    let mut found: HashMap<usize, Option<Digest>> = HashMap::with_capacity(chosen.len());
    for row in sqlx::query(sql(statement)).fetch_all(conn).await? {
        let at = usize::try_from(row.try_get::<i32, _>("ord")?).unwrap_or(usize::MAX);
        let digest: Option<Digest> = row.try_get::<Vec<u8>, _>("digest")?.try_into().ok();
        found.entry(at).and_modify(|seen| *seen = None).or_insert(digest);
    }
    Ok(found)
}

/// Sends the keys, numbered, into a temporary table of this session.
async fn send_keys(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    chosen: &[RowRef],
) -> Result<String> {
    let name = quote_ident(&format!("{}_keys", stage_name(output)));
    let mut columns = Vec::new();
    let mut names = Vec::new();
    for position in &output.key {
        let column = &output.columns[*position];
        let ty = match (column.cast.ty(), output.catalog_column(*position)) {
            (PgType::Other(_), _) | (_, None) => "text".to_owned(),
            (_, Some(catalog)) => catalog.declared_type.clone(),
        };
        names.push(quote_ident(&column.name));
        columns.push(format!("{} {ty}", quote_ident(&column.name)));
    }
    let create = format!(
        "CREATE TEMP TABLE IF NOT EXISTS {name} (toolkit_ord int4, {}) ON COMMIT DELETE ROWS",
        columns.join(", ")
    );
    sqlx::raw_sql("SET LOCAL client_min_messages = warning").execute(&mut *conn).await?;
    sqlx::raw_sql(sql(create)).execute(&mut *conn).await?;
    let stage = format!("pg_temp.{name}");
    sqlx::raw_sql(sql(format!("TRUNCATE {stage}"))).execute(&mut *conn).await?;
    let keys: Vec<Vec<u8>> =
        chosen.iter().map(|row| key_fields(output, rows.fields(row))).collect();
    let statement =
        format!("COPY {stage} (toolkit_ord, {}) FROM STDIN (FORMAT binary)", names.join(", "));
    let count = i16::try_from(output.key.len() + 1).unwrap_or(i16::MAX).to_be_bytes();
    let numbered = keys
        .iter()
        .enumerate()
        .map(|(at, key)| (count, Some(u32::try_from(at).unwrap_or(u32::MAX)), key.as_slice()));
    send(conn, &statement, numbered).await?;
    Ok(stage)
}

/// The COPY fields of a row's key, in key order.
fn key_fields(output: &OutputPlan, tuple: &[u8]) -> Vec<u8> {
    let fields = fields_of(tuple);
    let mut key = Vec::with_capacity(48);
    for position in &output.key {
        match &fields[*position] {
            None => key.extend_from_slice(&(-1_i32).to_be_bytes()),
            // The length stands in the four bytes before the value.
            Some(range) => key.extend_from_slice(&tuple[range.start - 4..range.end]),
        }
    }
    key
}
