//! Which partitions there are, and what becomes of them.

use serde::Serialize;
use sqlx::{PgConnection, Row as _};

use super::{Repartition, TABLE};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{quote_ident, quote_qualified};

/// Most partitions; planning a statement looks at each that is not pruned.
pub const MODULUS_MAX: u32 = 4_096;

pub(super) const SCHEMA: &str = "interaction";
pub(super) const NAME: &str = "user_media";

/// One partition and what it is split into.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionSplit {
    /// The partition, without its schema.
    pub partition: String,
    /// Its modulus now.
    pub modulus: u32,
    /// Its remainder now.
    pub remainder: u32,
    /// The modulus of the new ones.
    pub new_modulus: u32,
    /// Remainders of the new ones.
    pub remainders: Vec<u32>,
    /// Rows, as the server's statistics have them.
    pub rows_estimate: u64,
    /// Bytes with indexes.
    pub bytes: u64,
    /// Rows that were moved, once they were.
    pub rows: Option<u64>,
    /// Sum of the rows' SHA-256, once they were moved.
    pub digest: Option<String>,
}

impl PartitionSplit {
    /// `schema.partition`, quoted.
    pub(super) fn quoted(&self) -> String {
        quote_qualified(SCHEMA, &self.partition)
    }

    /// The table that holds the new partitions while they are filled.
    pub(super) fn staging(&self) -> String {
        format!("{NAME}_split{}_of_{}_into_{}", self.remainder, self.modulus, self.new_modulus)
    }

    pub(super) fn quoted_staging(&self) -> String {
        quote_qualified(SCHEMA, &self.staging())
    }

    /// A new partition while it is filled.
    pub(super) fn leaf(&self, remainder: u32) -> String {
        format!("{}_r{remainder}", self.staging())
    }

    pub(super) fn quoted_leaf(&self, remainder: u32) -> String {
        quote_qualified(SCHEMA, &self.leaf(remainder))
    }
}

/// Looks what there is to do. Changes nothing.
///
/// # Errors
/// `Usage` where the table cannot have that modulus, `Migration` where there is no such table.
pub async fn plan(conn: &mut PgConnection, modulus: u32) -> Result<Repartition> {
    if !(2..=MODULUS_MAX).contains(&modulus) {
        let detail = format!("a modulus is from 2 to {MODULUS_MAX}, not {modulus}");
        return Err(Error::new(ErrorKind::Usage, detail));
    }
    crate::migrate::require_current(conn, crate::migrate::CONTROL_PACK).await?;
    let strategy: Option<String> = sqlx::query_scalar(
        "SELECT pg_get_partkeydef(c.oid) FROM pg_class AS c JOIN pg_namespace AS n \
         ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'p'",
    )
    .bind(SCHEMA)
    .bind(NAME)
    .fetch_optional(&mut *conn)
    .await?;
    if strategy.as_deref() != Some("HASH (user_id)") {
        let detail = format!("there is no table {TABLE} that is partitioned by hash of user_id");
        return Err(Error::new(ErrorKind::Migration, detail)
            .advice("run `toolkit migrate up --pack media`"));
    }
    let mut plan = Repartition {
        table: TABLE.to_owned(),
        modulus,
        ready: 0,
        splits: Vec::new(),
        run_id: None,
    };
    for (partition, old, remainder, rows, bytes) in partitions(conn).await? {
        if old == modulus {
            plan.ready += 1;
            continue;
        }
        if old > modulus || !modulus.is_multiple_of(old) {
            let detail = format!(
                "{partition} has the modulus {old}, and partitions can only be split: {modulus} is \
                 no multiple of it"
            );
            return Err(Error::new(ErrorKind::Usage, detail)
                .advice(format!("give a multiple of {old}, such as {}", old.saturating_mul(4))));
        }
        plan.splits.push(PartitionSplit {
            partition,
            modulus: old,
            remainder,
            new_modulus: modulus,
            remainders: (remainder..modulus).step_by(old as usize).collect(),
            rows_estimate: rows,
            bytes,
            rows: None,
            digest: None,
        });
    }
    plan.splits.sort_by_key(|split| (split.modulus, split.remainder));
    Ok(plan)
}

/// Name, modulus, remainder, rows and bytes of every partition.
async fn partitions(conn: &mut PgConnection) -> Result<Vec<(String, u32, u32, u64, u64)>> {
    let rows = sqlx::query(
        "SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid), \
                greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid) \
         FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
         WHERE i.inhparent = ($1 || '.' || $2)::regclass",
    )
    .bind(quote_ident(SCHEMA))
    .bind(quote_ident(NAME))
    .fetch_all(conn)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (name, bound): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let Some((modulus, remainder)) = hash_bound(&bound) else {
            let detail = format!("the partition {name} is `{bound}`, which is no hash bound");
            return Err(Error::new(ErrorKind::Migration, detail));
        };
        let (rows, bytes): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        found.push((name, modulus, remainder, rows.unsigned_abs(), bytes.unsigned_abs()));
    }
    Ok(found)
}

/// `FOR VALUES WITH (modulus 16, remainder 3)`
fn hash_bound(bound: &str) -> Option<(u32, u32)> {
    let inner = bound.strip_prefix("FOR VALUES WITH (")?.strip_suffix(')')?;
    let (modulus, remainder) = inner.split_once(", ")?;
    let modulus = modulus.strip_prefix("modulus ")?.parse().ok()?;
    Some((modulus, remainder.strip_prefix("remainder ")?.parse().ok()?))
}

/// Columns of the table, quoted, and which of them are not its key.
pub(super) async fn columns(conn: &mut PgConnection) -> Result<(Vec<String>, Vec<String>)> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = ($1 || '.' || $2)::regclass \
         AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
    )
    .bind(quote_ident(SCHEMA))
    .bind(quote_ident(NAME))
    .fetch_all(conn)
    .await?;
    let is_key = |name: &String| name == "user_id" || name == "media_id";
    let others = names.iter().filter(|name| !is_key(name)).map(|name| quote_ident(name)).collect();
    Ok((names.iter().map(|name| quote_ident(name)).collect(), others))
}
