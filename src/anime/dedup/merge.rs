//! Merging two characters, and taking it back exactly.

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::anime::PACK;
use crate::backfill::{release_exclusive, require_exclusive};
use crate::error::{Error, ErrorKind, Result};

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merged {
    /// Its number; None for a dry run.
    pub merge: Option<i64>,
    /// The character that leads on from now on.
    pub from: String,
    /// What it became.
    pub into: String,
    /// Appearances that moved.
    pub moved: u64,
    /// Appearances in anime where both were: one row, which keeps what the other said.
    pub united: u64,
    /// Names that became aliases.
    pub aliases: u64,
}

/// Merges `from` into `into`, in one transaction. Both are followed to where earlier merges led
/// them. `dry_run`: the same, and then taken back.
///
/// Errors: one of them is not there, both are one already, an ingestion is at work.
pub async fn merge(
    conn: &mut PgConnection,
    (from, into): (Uuid, Uuid),
    candidate: Option<i64>,
    by: &str,
    dry_run: bool,
) -> Result<Merged> {
    crate::migrate::require_current(conn, PACK).await?;
    require_exclusive(conn, PACK).await?;
    let done = merge_alone(conn, (from, into), candidate, by, dry_run).await;
    release_exclusive(conn, PACK).await?;
    done
}

async fn merge_alone(
    conn: &mut PgConnection,
    (from, into): (Uuid, Uuid),
    candidate: Option<i64>,
    by: &str,
    dry_run: bool,
) -> Result<Merged> {
    let mut tx = conn.begin().await?;
    let (from, into) = (end_of(&mut tx, from).await?, end_of(&mut tx, into).await?);
    if from == into {
        let detail = format!("both are one character already: {into}");
        return Err(Error::new(ErrorKind::Usage, detail));
    }
    // Nobody gives either an appearance meanwhile.
    sqlx::query("SELECT id FROM character WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE")
        .bind(vec![from.clone(), into.clone()])
        .execute(&mut *tx)
        .await?;
    let merge: i64 = sqlx::query_scalar(
        "INSERT INTO character_merge (from_id, to_id, candidate_id, merged_by) \
         VALUES ($1::uuid, $2::uuid, $3, $4) RETURNING id",
    )
    .bind(&from)
    .bind(&into)
    .bind(candidate)
    .bind(by)
    .fetch_one(&mut *tx)
    .await?;
    let mut place = 0;
    let mut done = Merged {
        merge: Some(merge),
        from: from.clone(),
        into: into.clone(),
        moved: 0,
        united: 0,
        aliases: 0,
    };
    for (statement, count) in [
        (include_str!("../../sql/dedup/unite_links.sql"), &mut done.united),
        (include_str!("../../sql/dedup/move_links.sql"), &mut done.moved),
        (include_str!("../../sql/dedup/add_aliases.sql"), &mut done.aliases),
    ] {
        let rows = sqlx::query(statement).bind(&from).bind(&into).fetch_all(&mut *tx).await?;
        for row in rows {
            let table: &str = row.try_get("table_name")?;
            let (before, after): (Option<&str>, Option<&str>) =
                (row.try_get("before")?, row.try_get("after")?);
            // A united row is two records: the row that stays, and the one that went.
            *count += u64::from(after.is_some());
            record(&mut tx, (merge, place), table, (before, after)).await?;
            place += 1;
        }
    }
    sqlx::query(
        "INSERT INTO character_redirect (from_id, to_id, reason, decided_by) \
         VALUES ($1::uuid, $2::uuid, $3, $4)",
    )
    .bind(&from)
    .bind(&into)
    .bind(format!("merge {merge}"))
    .bind(by)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE character_candidate SET state = 'merged', decided_at = now(), decided_by = $2 \
         WHERE id = $1",
    )
    .bind(candidate)
    .bind(by)
    .execute(&mut *tx)
    .await?;
    if dry_run {
        tx.rollback().await?;
        done.merge = None;
    } else {
        tx.commit().await?;
    }
    Ok(done)
}

/// Where redirects lead; an error if that character is not there.
async fn end_of(tx: &mut PgConnection, id: Uuid) -> Result<String> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT c.id::text FROM character c WHERE c.id = canonical_character($1::uuid)",
    )
    .bind(id.to_string())
    .fetch_optional(tx)
    .await?;
    found.ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("there is no character {id}"))
            .advice("`toolkit dedup review` lists candidates with their ids")
    })
}

async fn record(
    tx: &mut PgConnection,
    (merge, place): (i64, i32),
    table: &str,
    (before, after): (Option<&str>, Option<&str>),
) -> Result<()> {
    sqlx::query(
        "INSERT INTO character_merge_row (merge_id, place, table_name, before, after) \
         VALUES ($1, $2, $3, $4::jsonb, $5::jsonb)",
    )
    .bind(merge)
    .bind(place)
    .bind(table)
    .bind(before)
    .bind(after)
    .execute(tx)
    .await?;
    Ok(())
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// The merge's number.
    pub merge: i64,
    /// The character that is itself again.
    pub from: String,
    /// What it had become.
    pub into: String,
    /// Rows that are what they were.
    pub restored: u64,
    /// Rows that changed since, and stay as they are.
    pub left: Vec<String>,
}

/// Takes a merge back, in one transaction: every row it changed is what it was. Rows that changed
/// since are an error that names them, and with `force` left as they are.
///
/// Errors: no such merge, one taken back already, a later one that builds on it.
pub async fn undo(
    conn: &mut PgConnection,
    merge: i64,
    by: &str,
    force: bool,
    dry_run: bool,
) -> Result<Undone> {
    crate::migrate::require_current(conn, PACK).await?;
    require_exclusive(conn, PACK).await?;
    let done = undo_alone(conn, merge, by, force, dry_run).await;
    release_exclusive(conn, PACK).await?;
    done
}

async fn undo_alone(
    conn: &mut PgConnection,
    merge: i64,
    by: &str,
    force: bool,
    dry_run: bool,
) -> Result<Undone> {
    let mut tx = conn.begin().await?;
    let (from, into) = standing(&mut tx, merge).await?;
    let mut done =
        Undone { merge, from: from.clone(), into: into.clone(), restored: 0, left: Vec::new() };
    sqlx::query("SELECT id FROM character WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE")
        .bind(vec![from.clone(), into.clone()])
        .execute(&mut *tx)
        .await?;
    // The point of the old character comes back with its rows.
    sqlx::query("DELETE FROM character_redirect WHERE from_id = $1::uuid AND to_id = $2::uuid")
        .bind(&from)
        .bind(&into)
        .execute(&mut *tx)
        .await?;
    let rows = sqlx::query(
        "SELECT table_name, before::text AS before, after::text AS after \
         FROM character_merge_row WHERE merge_id = $1 ORDER BY place DESC",
    )
    .bind(merge)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let table: &str = row.try_get("table_name")?;
        let sides = (row.try_get("before")?, row.try_get("after")?);
        if restore(&mut tx, table, sides).await? {
            done.restored += 1;
        } else {
            let (before, after): (Option<&str>, Option<&str>) = sides;
            done.left.push(format!("{table} {}", after.or(before).unwrap_or_default()));
        }
    }
    if !done.left.is_empty() && !force {
        let detail = format!(
            "{} rows changed since merge {merge}: {}",
            done.left.len(),
            done.left.join("; ")
        );
        return Err(Error::new(ErrorKind::StoreConflict, detail)
            .advice("--force leaves them as they are, and restores the others"));
    }
    sqlx::query("UPDATE character_merge SET undone_at = now(), undone_by = $2 WHERE id = $1")
        .bind(merge)
        .bind(by)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE character_candidate k SET state = 'open', decided_at = NULL, decided_by = NULL \
         FROM character_merge m WHERE m.id = $1 AND k.id = m.candidate_id AND k.state = 'merged'",
    )
    .bind(merge)
    .execute(&mut *tx)
    .await?;
    if dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(done)
}

/// The characters of a merge that stands and that no later one builds on.
async fn standing(tx: &mut PgConnection, merge: i64) -> Result<(String, String)> {
    let row = sqlx::query(
        "SELECT from_id::text AS from_id, to_id::text AS to_id, undone_at IS NOT NULL AS is_undone \
         FROM character_merge WHERE id = $1 FOR UPDATE",
    )
    .bind(merge)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("there is no merge {merge}"))
            .advice("`toolkit dedup review --state merged` lists them")
    })?;
    if row.try_get("is_undone")? {
        let detail = format!("merge {merge} was taken back already");
        return Err(Error::new(ErrorKind::Usage, detail));
    }
    let (from, into): (String, String) = (row.try_get("from_id")?, row.try_get("to_id")?);
    let later: Option<i64> = sqlx::query_scalar(
        "SELECT max(id) FROM character_merge WHERE id > $1 AND undone_at IS NULL \
         AND (from_id IN ($2::uuid, $3::uuid) OR to_id IN ($2::uuid, $3::uuid))",
    )
    .bind(merge)
    .bind(&from)
    .bind(&into)
    .fetch_one(&mut *tx)
    .await?;
    if let Some(later) = later {
        let detail = format!("merge {later} was made after it, of the same characters");
        return Err(Error::new(ErrorKind::Usage, detail)
            .advice(format!("take that one back first: toolkit dedup undo {later}")));
    }
    Ok((from, into))
}

/// Puts a row back as it was; false if it is no longer what the merge made of it.
async fn restore(
    tx: &mut PgConnection,
    table: &str,
    (before, after): (Option<&str>, Option<&str>),
) -> Result<bool> {
    let statement = match table {
        "anime_character" => include_str!("../../sql/dedup/restore_link.sql"),
        _ => include_str!("../../sql/dedup/restore_alias.sql"),
    };
    let done: i64 = sqlx::query_scalar(statement).bind(before).bind(after).fetch_one(tx).await?;
    Ok(done == 1)
}
