//! Tables without a key: rows are appended, known by all they hold.
//!
//! What a table held when the run began is remembered as digests with how often each was there; a
//! record whose digest was there often enough is unchanged, any further one is inserted. What the
//! run itself inserts needs no memory: a chunk's rows commit with its checkpoint, so no record
//! comes twice. Real duplicates of the source thus keep their number, in a second run, after a
//! kill and after `--restart`.
//!
//! It takes one pass over the table when a run begins, and about 100 bytes in
//! `toolkit.content_row` for every different row it holds, until the run is completed. Rows that
//! others write to the table in the meantime are not seen.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::chunk::RowRef;
use super::merge::held_columns;
use super::prepare::slice_condition;
use super::write::{Place, Scene};
use crate::canonical::Digest;
use crate::error::Result;
use crate::pack::plan::{OutputPlan, PackPlan};
use crate::store::sql;

/// Remembers what the slices of tables without a key hold, before the first stream of the run
/// that feeds them writes.
pub(super) async fn remember(
    conn: &mut PgConnection,
    run_id: &str,
    plan: &PackPlan,
    outputs: &[OutputPlan],
) -> Result<()> {
    for output in outputs.iter().filter(|output| output.is_content) {
        let unit = &plan.units[output.unit].name;
        let mut tx = conn.begin().await?;
        // A row of its own says that it has been done.
        let is_first = sqlx::query(
            "INSERT INTO toolkit.content_row (run_id, unit, digest, held) \
             VALUES ($1::uuid, $2, '', 0) ON CONFLICT DO NOTHING",
        )
        .bind(run_id)
        .bind(unit)
        .execute(&mut *tx)
        .await?;
        if is_first.rows_affected() > 0 {
            let (condition, values) = slice_condition(output, 3);
            let statement = format!(
                "INSERT INTO toolkit.content_row (run_id, unit, digest, held) \
                 SELECT $1::uuid, $2, sha256(record_send(ROW({}))), count(*) FROM {} AS t \
                 WHERE {condition} GROUP BY 3",
                held_columns(output),
                output.table.sql_name()
            );
            let mut query = sqlx::query(sql(statement)).bind(run_id).bind(unit);
            for value in values {
                query = query.bind(value);
            }
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Forgets what the runs of a pack remembered.
pub(super) async fn forget(conn: &mut PgConnection, pack: &str) -> Result<()> {
    sqlx::query(
        "DELETE FROM toolkit.content_row AS c USING toolkit.run AS r \
         WHERE r.run_id = c.run_id AND r.pack = $1",
    )
    .bind(pack)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the rows that were there when the run began out of `chosen`; how many.
pub(super) async fn take_held(
    tx: &mut PgConnection,
    place: &Place<'_>,
    scene: &Scene<'_>,
    chosen: &mut Vec<RowRef>,
) -> Result<u64> {
    if !scene.output().is_content || chosen.is_empty() {
        return Ok(0);
    }
    let layout = &scene.output().layout;
    let digests: Vec<Digest> =
        chosen.iter().map(|row| layout.row_digest(scene.fields(row))).collect();
    let mut copies: HashMap<Digest, i64> = HashMap::with_capacity(digests.len());
    for digest in &digests {
        *copies.entry(*digest).or_default() += 1;
    }
    let mut asked: Vec<(Digest, i64)> = copies.into_iter().collect();
    asked.sort_unstable();
    let rows = sqlx::query(include_str!("../sql/backfill/take_content.sql"))
        .bind(place.run_id)
        .bind(&place.pack.units[scene.output().unit].name)
        .bind(asked.iter().map(|(digest, _)| digest.to_vec()).collect::<Vec<_>>())
        .bind(asked.iter().map(|(_, copies)| *copies).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    let mut left: HashMap<Digest, i64> = HashMap::with_capacity(rows.len());
    for row in rows {
        let digest: Vec<u8> = row.try_get("digest")?;
        left.insert(digest.try_into().unwrap_or_default(), row.try_get("left_over")?);
    }
    let before = chosen.len();
    let mut digests = digests.iter();
    chosen.retain(|_| {
        let Some(left) = digests.next().and_then(|digest| left.get_mut(digest)) else {
            return true;
        };
        *left -= 1;
        *left < 0
    });
    Ok((before - chosen.len()) as u64)
}
