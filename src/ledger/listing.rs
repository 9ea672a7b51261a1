//! Listing and showing: rejects and ledger entries are filtered, counted and cut off alike.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, PgConnection, Postgres};

use super::{Filter, not_there, require_tables};
use crate::error::Result;

/// A table of records of which there are kinds. Both statements take $1 pack, $2 stream,
/// $3 reason or rule, $4 state; the second one also $5 id, $6 most rows, $7 whether the record's
/// bytes are wanted.
pub(super) trait Listed: Sized {
    /// How many there are of a kind.
    type Group: Send;
    /// Counts the kinds.
    const GROUPS: &'static str;
    /// Selects the records.
    const ROWS: &'static str;
    /// What one is called, and how its numbers are found.
    const NAME: (&'static str, &'static str);

    fn group(row: &PgRow) -> Result<Self::Group>;
    fn count(group: &Self::Group) -> i64;
    fn one(row: &PgRow) -> Result<Self>;
}

/// The kinds, the first records, and how many there are.
pub(super) struct Page<T: Listed> {
    pub(super) total: i64,
    pub(super) groups: Vec<T::Group>,
    pub(super) rows: Vec<T>,
    pub(super) more: i64,
}

/// The kinds of all that match and at most `limit` of them, without their bytes.
pub(super) async fn page<T: Listed>(
    conn: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<Page<T>> {
    require_tables(conn).await?;
    // One snapshot, so that the groups add up to what is listed and what is not.
    let mut snapshot = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let groups = sqlx::query(T::GROUPS)
        .bind(&filter.pack)
        .bind(&filter.stream)
        .bind(&filter.reason)
        .bind(&filter.state)
        .fetch_all(&mut *snapshot)
        .await?;
    let rows = select::<T>(filter, None, Some(limit), false).fetch_all(&mut *snapshot).await?;
    snapshot.commit().await?;
    let groups = groups.iter().map(T::group).collect::<Result<Vec<_>>>()?;
    let rows = rows.iter().map(T::one).collect::<Result<Vec<_>>>()?;
    let total: i64 = groups.iter().map(T::count).sum();
    let more = total - i64::try_from(rows.len()).unwrap_or(i64::MAX);
    Ok(Page { total, groups, rows, more })
}

/// One record with its bytes.
pub(super) async fn one<T: Listed>(conn: &mut PgConnection, id: i64) -> Result<T> {
    require_tables(conn).await?;
    let filter = Filter::default();
    let row = select::<T>(&filter, Some(id), None, true).fetch_optional(conn).await?;
    let (what, list) = T::NAME;
    let row = row.ok_or_else(|| {
        not_there(what, id).advice(format!("`toolkit {list} list` shows their numbers"))
    })?;
    T::one(&row)
}

pub(super) fn select<T: Listed>(
    filter: &Filter,
    id: Option<i64>,
    limit: Option<u32>,
    with_bytes: bool,
) -> Query<'_, Postgres, PgArguments> {
    sqlx::query(T::ROWS)
        .bind(&filter.pack)
        .bind(&filter.stream)
        .bind(&filter.reason)
        .bind(&filter.state)
        .bind(id)
        .bind(limit.map(i64::from))
        .bind(with_bytes)
}
