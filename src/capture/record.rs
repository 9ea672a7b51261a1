//! What Postgres remembers of each captured file: its tables as they were, and its cursor.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::log::{LogPosition, failed};
use super::shape::Identity;
use super::{TRIGGER_PREFIX, triggers};
use crate::error::{Error, ErrorKind, Result};

/// A captured table as it was when capture was enabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedTable {
    /// Its number in the log.
    pub number: i64,
    /// Its name.
    pub table: String,
    /// What its rows are known by.
    pub identity: Identity,
    /// What the log keeps: the identity's columns, then those that keys are made of.
    pub values: Vec<String>,
    /// Digest of its own text and its unique indexes.
    pub schema: String,
    /// Digests of its capture triggers' texts, by name.
    pub triggers: BTreeMap<String, String>,
}

/// A file's row of `toolkit.capture_cursor`, as far as code needs it.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// The installation that the position belongs to.
    pub installation: String,
    /// The last entry that is applied.
    pub position: LogPosition,
    /// When that entry was written.
    pub mark: Option<String>,
    /// Its captured tables.
    pub tables: Vec<CapturedTable>,
}

impl CapturedTable {
    pub(super) fn of(
        captured: &triggers::Captured,
        connection: &Connection,
        file: &str,
    ) -> Result<Self> {
        let triggers = triggers::texts(captured)
            .into_iter()
            .map(|(name, text)| (name, digest(text.as_bytes())))
            .collect();
        Ok(Self {
            number: captured.number,
            table: captured.shape.name.clone(),
            identity: captured.shape.identity.clone(),
            values: captured.values.clone(),
            schema: schema_digest(connection, file, &captured.shape.name)?,
            triggers,
        })
    }

    /// What is no longer as it was; None: nothing.
    pub(super) fn difference(&self, connection: &Connection, file: &str) -> Result<Option<String>> {
        let found = trigger_digests(connection, file, self.number)?;
        let is_missing = |name: &&String| !found.contains_key(*name);
        if self.triggers.keys().any(|name| is_missing(&name)) {
            return Ok(Some(format!("triggers of table {} vanished", self.table)));
        }
        if found != self.triggers {
            return Ok(Some(format!("triggers of table {} changed", self.table)));
        }
        if schema_digest(connection, file, &self.table)? != self.schema {
            return Ok(Some(format!("table {} changed", self.table)));
        }
        Ok(None)
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(&crate::canonical::sha256(bytes)[..16])
}

/// Digest of the texts of a table and its unique indexes: others change neither what a row is known
/// by nor what evicts it, and an application makes them as it likes.
fn schema_digest(connection: &Connection, file: &str, table: &str) -> Result<String> {
    let mut statement = connection
        .prepare_cached(
            "SELECT type, name, coalesce(sql, '') FROM sqlite_schema \
             WHERE tbl_name = ?1 COLLATE NOCASE AND (type = 'table' OR type = 'index' \
             AND (sql IS NULL OR sql LIKE 'CREATE UNIQUE %')) ORDER BY type, name",
        )
        .map_err(|e| failed(file, e))?;
    let rows = statement
        .query_map([table], |row| {
            let parts: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
            Ok(parts.join("\0"))
        })
        .and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>)
        .map_err(|e| failed(file, e))?;
    Ok(digest(rows.join("\0\0").as_bytes()))
}

/// Digests of the texts of a table's capture triggers, by name.
fn trigger_digests(
    connection: &Connection,
    file: &str,
    number: i64,
) -> Result<BTreeMap<String, String>> {
    let mut statement = connection
        .prepare_cached(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' \
             AND substr(name, 1, length(?1)) = ?1",
        )
        .map_err(|e| failed(file, e))?;
    let rows = statement
        .query_map([format!("{TRIGGER_PREFIX}{number}_")], |row| {
            Ok((row.get::<_, String>(0)?, digest(row.get::<_, String>(1)?.as_bytes())))
        })
        .map_err(|e| failed(file, e))?;
    rows.collect::<Result<_, _>>().map_err(|e| failed(file, e))
}

/// How far these files are applied, by name.
pub(super) async fn positions(
    conn: &mut PgConnection,
    pack: &str,
    sources: &[&str],
) -> Result<Vec<(String, LogPosition)>> {
    Ok(sqlx::query_as(
        "SELECT source, position FROM toolkit.capture_cursor \
         WHERE pack = $1 AND source = ANY ($2) ORDER BY source",
    )
    .bind(pack)
    .bind(sources)
    .fetch_all(conn)
    .await?)
}

/// The cursor of a file; None: Postgres knows nothing of its capture.
pub async fn cursor(conn: &mut PgConnection, pack: &str, source: &str) -> Result<Option<Cursor>> {
    let row = sqlx::query(
        "SELECT installation::text AS installation, position, mark, tables::text AS tables \
         FROM toolkit.capture_cursor WHERE pack = $1 AND source = $2 AND installation IS NOT NULL",
    )
    .bind(pack)
    .bind(source)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let tables: String = row.try_get("tables")?;
    let tables = serde_json::from_str(&tables).map_err(|error| {
        Error::new(ErrorKind::RunMismatch, format!("{source}: what was captured cannot be read"))
            .advice("run `toolkit dual-write enable` again with this version")
            .because(error)
    })?;
    Ok(Some(Cursor {
        installation: row.try_get("installation")?,
        position: row.try_get("position")?,
        mark: row.try_get("mark")?,
        tables,
    }))
}

/// Which time changes of the pack may have been missed last, as a mark that later times do not
/// share; None: they never were.
pub async fn newest_gap(conn: &mut PgConnection, pack: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(
        "SELECT extract(epoch FROM max(gap_at))::text FROM toolkit.capture_cursor \
         WHERE pack = $1 AND installation IS NOT NULL",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}

/// Whether changes of any file of the pack are captured.
pub async fn is_captured(conn: &mut PgConnection, pack: &str) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM toolkit.capture_cursor \
         WHERE pack = $1 AND installation IS NOT NULL)",
    )
    .bind(pack)
    .fetch_one(conn)
    .await?)
}
