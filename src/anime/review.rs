//! The queue of changes that wait for a person: listed, accepted, rejected.

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::anime::PACK;
use crate::anime::doc::{same, stored_json};
use crate::backfill::{release_exclusive, require_exclusive};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::store::{quote_ident, sql};

/// States of a review.
pub const STATES: &[&str] = &["open", "accepted", "rejected", "superseded"];

/// Which reviews are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this state; None: all.
    pub state: Option<String>,
    /// Only this field.
    pub field: Option<String>,
    /// Only what concerns this anime.
    pub anime: Option<uuid::Uuid>,
}

/// A change that waits, or waited, for a person.
#[derive(Debug, Clone, Serialize)]
pub struct Review {
    /// Its number.
    pub id: i64,
    /// `anime`, `character`, `episode`.
    pub entity_type: String,
    /// Whose field it is.
    pub entity_id: String,
    /// Its name or title.
    pub label: Option<String>,
    /// Column, `meta.NAME`, `raw_by_source.NAME`, or a table.
    pub field: String,
    /// `changed`, `fell`, `went_back`, `vanished`, `named_only`.
    pub reason: String,
    /// What was stored.
    pub before: serde_json::Value,
    /// What the artifact says.
    pub after: serde_json::Value,
    /// One of [`STATES`].
    pub state: String,
    /// The artifact that proposed it.
    pub artifact: Option<String>,
    /// When it was queued.
    pub queued_at: String,
    /// Who decided it.
    pub decided_by: Option<String>,
}

/// Reviews, and how many more there are.
#[derive(Debug, Clone, Serialize)]
pub struct Reviews {
    /// The first of them.
    pub reviews: Vec<Review>,
    /// All that were wanted.
    pub total: i64,
}

/// Which reviews are decided.
#[derive(Debug, Clone)]
pub enum Which {
    /// Every open one.
    All,
    /// These.
    Ids(Vec<i64>),
}

/// What was decided.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Decision {
    /// Numbers of the reviews that were decided.
    pub decided: Vec<i64>,
    /// Those that are not open, or not there.
    pub not_open: Vec<i64>,
    /// Those whose field is no longer what was to be replaced; they stay open.
    pub stale: Vec<i64>,
}

/// Lists reviews, newest last.
pub async fn list(conn: &mut PgConnection, filter: &Filter, limit: i64) -> Result<Reviews> {
    require(conn).await?;
    let anime = filter.anime.map(|id| id.to_string());
    let rows = sqlx::query(include_str!("../sql/anime/reviews.sql"))
        .bind(&filter.state)
        .bind(&filter.field)
        .bind(&anime)
        .bind(None::<i64>)
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
    let total = match rows.first() {
        Some(row) => row.try_get("total")?,
        None => 0,
    };
    Ok(Reviews { reviews: rows.iter().map(review).collect::<Result<_>>()?, total })
}

/// One review.
pub async fn show(conn: &mut PgConnection, id: i64) -> Result<Review> {
    require(conn).await?;
    let row = sqlx::query(include_str!("../sql/anime/reviews.sql"))
        .bind(None::<String>)
        .bind(None::<String>)
        .bind(None::<String>)
        .bind(Some(id))
        .bind(1_i64)
        .fetch_optional(conn)
        .await?;
    row.as_ref()
        .map(review)
        .transpose()?
        .ok_or_else(|| Error::new(ErrorKind::Usage, format!("there is no review {id}")))
}

fn review(row: &PgRow) -> Result<Review> {
    let value = |name: &str| -> Result<serde_json::Value> {
        let text: &str = row.try_get(name)?;
        Ok(serde_json::from_str(text).unwrap_or(serde_json::Value::Null))
    };
    Ok(Review {
        id: row.try_get("id")?,
        entity_type: row.try_get("entity_type")?,
        entity_id: row.try_get("entity_id")?,
        label: row.try_get("label")?,
        field: row.try_get("field")?,
        reason: row.try_get("reason")?,
        before: value("before")?,
        after: value("after")?,
        state: row.try_get("state")?,
        artifact: row.try_get("artifact")?,
        queued_at: row.try_get("queued_at")?,
        decided_by: row.try_get("decided_by")?,
    })
}

async fn require(conn: &mut PgConnection) -> Result<()> {
    crate::migrate::require_current(conn, PACK).await
}

/// Accepts or rejects reviews in one transaction. What is accepted is stored; what is rejected is
/// not proposed again. `dry_run`: the same, and then taken back.
pub async fn decide(
    conn: &mut PgConnection,
    which: &Which,
    accept: bool,
    by: &str,
    dry_run: bool,
) -> Result<Decision> {
    require(conn).await?;
    // No ingestion meanwhile: it would merge with what is being replaced.
    require_exclusive(conn, PACK).await?;
    let decided = decide_alone(conn, which, accept, by, dry_run).await;
    release_exclusive(conn, PACK).await?;
    decided
}

async fn decide_alone(
    conn: &mut PgConnection,
    which: &Which,
    accept: bool,
    by: &str,
    dry_run: bool,
) -> Result<Decision> {
    let mut tx = conn.begin().await?;
    let (all, ids) = match which {
        Which::All => (true, Vec::new()),
        Which::Ids(ids) => (false, ids.clone()),
    };
    let rows = sqlx::query(
        "SELECT id, entity_type, entity_id::text AS entity_id, anime_id::text AS anime_id, field, \
                before::text AS before, after::text AS after FROM review_queue \
         WHERE state = 'open' AND ($1 OR id = ANY($2)) ORDER BY id FOR UPDATE",
    )
    .bind(all)
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    let mut decision = Decision::default();
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        if accept && !apply(&mut tx, row).await? {
            decision.stale.push(id);
        } else {
            decision.decided.push(id);
        }
    }
    let found: Vec<i64> = decision.decided.iter().chain(&decision.stale).copied().collect();
    decision.not_open = ids.into_iter().filter(|id| !found.contains(id)).collect();
    sqlx::query(
        "UPDATE review_queue SET state = $2, decided_at = now(), decided_by = $3 \
         WHERE id = ANY($1)",
    )
    .bind(&decision.decided)
    .bind(if accept { "accepted" } else { "rejected" })
    .bind(by)
    .execute(&mut *tx)
    .await?;
    if dry_run {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    Ok(decision)
}

/// Stores what was proposed; false if its field is no longer what it was then.
async fn apply(tx: &mut PgConnection, row: &PgRow) -> Result<bool> {
    let table: &str = row.try_get("entity_type")?;
    let (entity, field): (&str, &str) = (row.try_get("entity_id")?, row.try_get("field")?);
    let (before, after): (&str, &str) = (row.try_get("before")?, row.try_get("after")?);
    if field == "identity" {
        return Ok(true);
    }
    if let Some(statement) = deletion(field) {
        sqlx::query(statement).bind(entity).bind(before).execute(&mut *tx).await?;
        return Ok(true);
    }
    let stored = current(tx, table, entity, field).await?;
    let Some(stored) = stored else { return Ok(false) };
    if !same(&stored, &stored_json(before)?) {
        return Ok(false);
    }
    let is_gone = stored_json(after)?.is_null();
    let quoted = quote_ident(table);
    let set = match field.split_once('.') {
        Some((column @ ("meta" | "raw_by_source"), _)) if is_gone => {
            format!("{column} = {column} - $2::text")
        }
        Some((column @ ("meta" | "raw_by_source"), _)) => {
            format!("{column} = {column} || jsonb_build_object($2::text, $3::jsonb)")
        }
        _ => {
            let column = quote_ident(field);
            // A column that cannot be NULL goes back to what it has by default.
            let value = format!(
                "(jsonb_populate_record(NULL::{quoted}, jsonb_build_object($2::text, $3::jsonb))).{column}"
            );
            match field {
                "episode_count" => format!("{column} = coalesce({value}, 0)"),
                "filler" | "recap" => format!("{column} = coalesce({value}, false)"),
                _ => format!("{column} = {value}"),
            }
        }
    };
    let name = field.split_once('.').map_or(field, |(_, name)| name);
    let statement = format!(
        "UPDATE {quoted} SET {set}, updated_at = now() WHERE id = $1::uuid AND $3::jsonb IS NOT NULL"
    );
    sqlx::query(sql(statement)).bind(entity).bind(name).bind(after).execute(tx).await?;
    Ok(true)
}

async fn current(
    tx: &mut PgConnection,
    table: &str,
    entity: &str,
    field: &str,
) -> Result<Option<Json>> {
    let (column, name) = match field.split_once('.') {
        Some((column, name)) => (column, Some(name)),
        None => (field, None),
    };
    let value = match name {
        Some(_) => format!("t.{} -> $2", quote_ident(column)),
        None => "to_jsonb(t) -> $2".to_owned(),
    };
    let statement = format!(
        "SELECT coalesce({value}, 'null')::text FROM {} t WHERE id = $1::uuid FOR UPDATE",
        quote_ident(table)
    );
    let text: Option<String> = sqlx::query_scalar(sql(statement))
        .bind(entity)
        .bind(name.unwrap_or(field))
        .fetch_optional(tx)
        .await?;
    text.map(|text| stored_json(&text)).transpose()
}

/// How rows that an artifact no longer has are deleted: $1 the anime, $2 the rows.
fn deletion(table: &str) -> Option<&'static str> {
    Some(match table {
        "episode" => {
            "DELETE FROM episode USING jsonb_array_elements($2::jsonb) AS r \
             WHERE anime_id = $1::uuid AND id = (r ->> 'id')::uuid"
        }
        "anime_character" => {
            "DELETE FROM anime_character USING jsonb_array_elements($2::jsonb) AS r \
             WHERE anime_id = $1::uuid AND character_id = (r ->> 'character_id')::uuid"
        }
        "anime_xref" => {
            "DELETE FROM anime_xref x USING jsonb_array_elements($2::jsonb) AS r \
             WHERE x.anime_id = $1::uuid AND x.source = r ->> 'source' \
               AND x.external_id = r ->> 'external_id'"
        }
        "anime_relation" => {
            "DELETE FROM anime_relation USING jsonb_array_elements($2::jsonb) AS r \
             WHERE from_anime_id = $1::uuid AND id = (r ->> 'id')::bigint"
        }
        "anime_manga_relation" => {
            "DELETE FROM anime_manga_relation USING jsonb_array_elements($2::jsonb) AS r \
             WHERE anime_id = $1::uuid AND id = (r ->> 'id')::bigint"
        }
        "anime_work_relation" => {
            "DELETE FROM anime_work_relation USING jsonb_array_elements($2::jsonb) AS r \
             WHERE anime_id = $1::uuid AND id = (r ->> 'id')::bigint"
        }
        _ => return None,
    })
}
