//! Sequences behind loaded columns: an INSERT after the run must not meet a key of it.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use crate::backfill::Preparation;
use crate::error::Result;
use crate::pack::plan::OutputPlan;
use crate::store::{quote_ident, sql};

/// Moves the sequence behind every written serial or identity column past its greatest value.
pub(super) async fn set_sequences(
    conn: &mut PgConnection,
    preparation: &Preparation,
) -> Result<BTreeMap<String, i64>> {
    let streams = preparation.streams.iter();
    let plans = streams.map(|stream| &preparation.opened.plan.streams[stream.index]);
    move_sequences(conn, plans.flat_map(|stream| &stream.outputs)).await
}

/// As [`set_sequences`], of the given outputs.
pub(super) async fn move_sequences<'o>(
    conn: &mut PgConnection,
    outputs: impl Iterator<Item = &'o OutputPlan>,
) -> Result<BTreeMap<String, i64>> {
    let mut moved = BTreeMap::new();
    for output in outputs {
        for position in 0..output.columns.len() {
            let Some(column) = output.catalog_column(position) else { continue };
            let Some(sequence) = &column.sequence else { continue };
            let statement = format!(
                "SELECT setval($1::regclass, m.top) FROM (SELECT max({})::bigint AS top FROM {}) m, \
                 LATERAL (SELECT last_value, is_called FROM {sequence}) s \
                 WHERE m.top >= 1 AND (m.top > s.last_value OR (m.top = s.last_value AND NOT s.is_called))",
                quote_ident(&column.name),
                output.table.sql_name()
            );
            let value: Option<i64> = sqlx::query_scalar(sql(statement))
                .bind(sequence)
                .fetch_optional(&mut *conn)
                .await?;
            if let Some(value) = value {
                moved.insert(sequence.clone(), value);
            }
        }
    }
    Ok(moved)
}
