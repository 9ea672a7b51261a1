//! Rows that hold each other up: stored together, in one transaction.
//!
//! Every reference of these rows leads to a row of the target or of one of them, so they can be
//! there together, though none can come first. Deferrable foreign keys are deferred to the end of
//! the transaction. The others are left NULL at first, where they may be, and filled in when all
//! rows are there. Nobody else sees the rows in between.

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::held::{Page, Settling, WAITING, write};
use super::merge::{Refused, is_about_data};
use super::orphans::{ORPHAN, nullable_positions};
use super::triggers;
use super::write::SETTINGS;
use crate::canonical::fields_of;
use crate::error::{Error, Result};
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::OutputPlan;
use crate::store::sql;

/// A held row that Postgres does not take even in company.
struct Misfit {
    id: i64,
    why: Refused,
}

/// Stores all waiting rows together; where some do not fit, none is stored and those are marked
/// to be refused, so that the others can be judged without them.
pub(super) async fn store(conn: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
    let mut tx = conn.begin().await?;
    let misfits = match attempt(&mut tx, settling).await {
        Ok(misfits) if misfits.is_empty() => {
            match sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *tx).await {
                Ok(_) => {
                    tx.commit().await?;
                    return Ok(());
                }
                Err(error) => {
                    tx.rollback().await?;
                    let error = Error::from(error);
                    if !is_about_data(&error) {
                        return Err(error);
                    }
                    everything(conn, settling, &error).await?
                }
            }
        }
        Ok(misfits) => {
            tx.rollback().await?;
            misfits
        }
        Err(error) => {
            tx.rollback().await?;
            return Err(error);
        }
    };
    for part in misfits.chunks(1000) {
        sqlx::query(
            "UPDATE toolkit.held_row AS h SET state = 'refused', reason = m.reason, \
             detail = m.detail FROM unnest($1::int8[], $2::text[], $3::text[]) \
             AS m (id, reason, detail) WHERE h.id = m.id",
        )
        .bind(part.iter().map(|misfit| misfit.id).collect::<Vec<_>>())
        .bind(part.iter().map(|misfit| misfit.why.reason.clone()).collect::<Vec<_>>())
        .bind(part.iter().map(|misfit| misfit.why.detail.clone()).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Writes everything but the end of the transaction.
async fn attempt(tx: &mut PgConnection, settling: &Settling<'_>) -> Result<Vec<Misfit>> {
    let settings = format!("{SETTINGS}; SET CONSTRAINTS ALL DEFERRED");
    sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
    let mut silenced = Vec::new();
    let mut streams = Vec::new();
    for group in settling.groups(&mut *tx, WAITING).await? {
        if !streams.contains(&group.stream) {
            silenced.extend(triggers::silence(&mut *tx, &settling.place(&group)).await?);
            streams.push(group.stream);
        }
    }
    let mut misfits = Vec::new();
    loop {
        let settled = loosened_round(tx, settling, &mut misfits).await?;
        if !misfits.is_empty() || settled == 0 {
            break;
        }
    }
    if misfits.is_empty() {
        misfits = left_over(tx, settling).await?;
    }
    if misfits.is_empty() {
        fill_in(tx, settling, &mut misfits).await?;
    }
    if misfits.is_empty() {
        triggers::restore(tx, &silenced).await?;
    }
    Ok(misfits)
}

/// Writes every waiting row that can be written now, without the references that may be filled in
/// later; how many went.
async fn loosened_round(
    tx: &mut PgConnection,
    settling: &Settling<'_>,
    misfits: &mut Vec<Misfit>,
) -> Result<usize> {
    let mut settled = 0;
    for group in settling.groups(&mut *tx, WAITING).await? {
        let place = settling.place(&group);
        let output = &place.stream.outputs[group.output];
        let loose = loose_positions(output);
        let mut last = 0;
        while let Some(page) = settling.page(&mut *tx, &group, WAITING, last).await? {
            last = page.ids.last().copied().unwrap_or(i64::MAX);
            let whole = page.rows(&group, &|_| Vec::new());
            let mut rows = page.rows(&group, &|fields| given(fields, &loose));
            let is_loosened: Vec<bool> =
                whole.rows.iter().map(|row| !given(whole.fields(row), &loose).is_empty()).collect();
            let all = std::mem::take(&mut rows.rows);
            for loosened in [false, true] {
                rows.rows = all
                    .iter()
                    .copied()
                    .filter(|row| is_loosened[row.record as usize] == loosened)
                    .collect();
                let mut written = write(&mut *tx, &place, &group, &rows, None).await?;
                note(&page, &written.refused, misfits);
                let tried = rows.rows.iter().map(|row| row.record);
                let mut outcome = page.outcome(&written, tried);
                settled += outcome.done.len();
                if loosened {
                    // Found as it is but for what is filled in: it will have been updated.
                    written.counts.updated += std::mem::take(&mut written.counts.unchanged);
                    let tied: Vec<i64> = outcome.stored.iter().map(|at| page.ids[*at]).collect();
                    tie(&mut *tx, &tied).await?;
                    outcome.keep.clone_from(&outcome.stored);
                }
                settling.account(&mut *tx, &group, &page, &written, &outcome).await?;
            }
        }
    }
    Ok(settled)
}

/// Marks rows as stored but for what is still to be filled in.
async fn tie(tx: &mut PgConnection, ids: &[i64]) -> Result<()> {
    sqlx::query("UPDATE toolkit.held_row SET state = 'tied' WHERE id = ANY($1)")
        .bind(ids)
        .execute(tx)
        .await?;
    Ok(())
}

/// Gives the tied rows their references.
async fn fill_in(
    tx: &mut PgConnection,
    settling: &Settling<'_>,
    misfits: &mut Vec<Misfit>,
) -> Result<()> {
    for group in settling.groups(&mut *tx, "tied").await? {
        let place = settling.place(&group);
        let mut last = 0;
        while let Some(page) = settling.page(&mut *tx, &group, "tied", last).await? {
            last = page.ids.last().copied().unwrap_or(i64::MAX);
            let rows = page.rows(&group, &|_| Vec::new());
            let rule = Some(ConflictRule::SourceWins);
            let written = write(&mut *tx, &place, &group, &rows, rule).await?;
            for (row, why) in &written.refused {
                misfits.push(Misfit { id: page.ids[row.record as usize], why: why.clone() });
            }
            sqlx::query("DELETE FROM toolkit.held_row WHERE id = ANY($1)")
                .bind(&page.ids)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(())
}

/// Positions of references that can be filled in later: nullable, not of the key, and of a foreign
/// key that cannot be deferred.
pub(super) fn loose_positions(output: &OutputPlan) -> Vec<usize> {
    nullable_positions(output, |key| !key.deferrable)
}

/// Those of the positions that are not NULL.
fn given(fields: &[u8], positions: &[usize]) -> Vec<usize> {
    let ranges = fields_of(fields);
    positions.iter().copied().filter(|at| ranges[*at].is_some()).collect()
}

fn note(page: &Page, refused: &[(super::RowRef, Refused)], misfits: &mut Vec<Misfit>) {
    for (row, why) in refused.iter().filter(|(_, why)| why.reason != ORPHAN) {
        misfits.push(Misfit { id: page.ids[row.record as usize], why: why.clone() });
    }
}

/// Rows whose circle cannot be opened.
async fn left_over(tx: &mut PgConnection, settling: &Settling<'_>) -> Result<Vec<Misfit>> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM toolkit.held_row WHERE run_id = $1::uuid AND state = 'waiting' ORDER BY id",
    )
    .bind(settling.run_id)
    .fetch_all(tx)
    .await?;
    let why = Refused {
        reason: ORPHAN.to_owned(),
        detail: "its foreign keys go in a circle of columns that are NOT NULL and not DEFERRABLE, \
                 so that no row of the circle can be stored first"
            .to_owned(),
    };
    Ok(ids.into_iter().map(|id| Misfit { id, why: why.clone() }).collect())
}

/// A check at the very end that nobody can be blamed for: all are refused.
async fn everything(
    conn: &mut PgConnection,
    settling: &Settling<'_>,
    error: &Error,
) -> Result<Vec<Misfit>> {
    let rows = sqlx::query(
        "SELECT id FROM toolkit.held_row WHERE run_id = $1::uuid AND state = 'waiting'",
    )
    .bind(settling.run_id)
    .fetch_all(conn)
    .await?;
    let why = Refused { reason: ORPHAN.to_owned(), detail: error.detail().to_owned() };
    rows.iter().map(|row| Ok(Misfit { id: row.try_get("id")?, why: why.clone() })).collect()
}
