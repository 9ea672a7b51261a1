//! Foreign keys of rows that go straight into an empty table: asked for by the chunk.
//!
//! Postgres looks for the parents of each row on its own, which takes half the time of a first
//! load. Where this session may switch that off for itself, it does so while a chunk is copied,
//! and then finds and locks each parent of the chunk once, as Postgres would have. If one is
//! missing, the chunk is taken back, and its rows are judged in the other way.
//!
//! Only tables do so whose triggers guard nothing but foreign keys.

use std::collections::{BTreeSet, HashMap};

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgConnection, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};

use super::chunk::OutputRows;
use super::orphans::positions;
use crate::canonical::fields_of;
use crate::cast::PgType;
use crate::error::Result;
use crate::pack::plan::OutputPlan;
use crate::store::catalog::ForeignKey;
use crate::store::{quote_ident, quote_qualified, sql};

/// The foreign keys of one output.
#[derive(Debug, Clone)]
pub(super) struct Parents(Vec<Check>);

#[derive(Debug, Clone)]
struct Check {
    /// Its own columns.
    positions: Vec<usize>,
    types: Vec<ArrayType>,
    /// Counts and locks those parents that there are, of distinct ones.
    statement: String,
}

/// Of an array, and of its elements.
#[derive(Debug, Clone, Copy)]
struct ArrayType {
    array: u32,
    element: u32,
}

impl ArrayType {
    fn of(ty: &PgType) -> Option<Self> {
        let (array, element) = match ty {
            PgType::Int2 => (1005, 21),
            PgType::Int4 => (1007, 23),
            PgType::Int8 => (1016, 20),
            PgType::Uuid => (2951, 2950),
            PgType::Text(_) => (1009, 25),
            _ => return None,
        };
        Some(Self { array, element })
    }
}

/// The foreign keys of an output's table; None where Postgres has to look itself.
pub(super) async fn of(conn: &mut PgConnection, output: &OutputPlan) -> Result<Option<Parents>> {
    let keys = &output.table.foreign_keys;
    if keys.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let found: HashMap<String, bool> =
        sqlx::query_as(include_str!("../sql/backfill/only_references.sql"))
            .bind(&output.table.schema)
            .bind(&output.table.name)
            .bind(names)
            .fetch_all(conn)
            .await?
            .into_iter()
            .collect();
    let wanted = keys.iter().filter(|key| !(key.simple && is_always_null(output, key)));
    let checks = wanted.map(|key| Check::of(output, key, *found.get(&key.name)?));
    Ok(checks.collect::<Option<Vec<Check>>>().map(Parents).filter(|_| !found.is_empty()))
}

/// Whether a column of the key is left out, and is NULL by that.
fn is_always_null(output: &OutputPlan, key: &ForeignKey) -> bool {
    key.columns.iter().any(|name| {
        let is_written = output.columns.iter().any(|column| column.name == *name);
        let column = output.table.columns.iter().find(|column| column.name == *name);
        !is_written && column.is_some_and(|column| !column.has_default)
    })
}

impl Check {
    fn of(output: &OutputPlan, key: &ForeignKey, is_partitioned: bool) -> Option<Self> {
        if !key.simple {
            return None;
        }
        let positions = positions(output, &key.columns)?;
        let types: Vec<ArrayType> = positions
            .iter()
            .map(|at| ArrayType::of(output.columns[*at].cast.ty()))
            .collect::<Option<_>>()?;
        let parent = quote_qualified(&key.parent_schema, &key.parent);
        let only = if is_partitioned { "" } else { "ONLY " };
        let statement = match key.parent_columns.as_slice() {
            [column] => format!(
                "SELECT count(*) FROM (SELECT 1 FROM {only}{parent} AS p \
                 WHERE p.{} = ANY ($1) FOR KEY SHARE OF p) AS f",
                quote_ident(column)
            ),
            columns => {
                let numbers = 1..=columns.len();
                let arrays: Vec<String> = numbers.clone().map(|at| format!("${at}")).collect();
                let names: Vec<String> = numbers.map(|at| format!("c{at}")).collect();
                let same: Vec<String> = columns
                    .iter()
                    .zip(&names)
                    .map(|(column, name)| format!("p.{} = v.{name}", quote_ident(column)))
                    .collect();
                format!(
                    "SELECT count(*) FROM (SELECT 1 FROM unnest({}) AS v({}) \
                     JOIN {only}{parent} AS p ON {} FOR KEY SHARE OF p) AS f",
                    arrays.join(", "),
                    names.join(", "),
                    same.join(" AND ")
                )
            }
        };
        Some(Self { positions, types, statement })
    }

    /// Whether each of the rows has its parent, or has no need of one.
    async fn holds(&self, conn: &mut PgConnection, rows: &OutputRows) -> Result<bool> {
        let mut wanted: BTreeSet<Vec<&[u8]>> = BTreeSet::new();
        for row in &rows.rows {
            let fields = rows.fields(row);
            let ranges = fields_of(fields);
            let values = self.positions.iter().map(|at| ranges[*at].clone());
            let values: Option<Vec<&[u8]>> =
                values.map(|range| range.map(|range| &fields[range])).collect();
            wanted.extend(values);
        }
        if wanted.is_empty() {
            return Ok(true);
        }
        let mut query = sqlx::query_scalar::<_, i64>(sql(self.statement.clone()));
        for (at, of) in self.types.iter().enumerate() {
            query = query.bind(Keys::new(*of, wanted.iter().map(|values| values[at])));
        }
        let found = query.fetch_one(conn).await?;
        Ok(usize::try_from(found).is_ok_and(|found| found == wanted.len()))
    }
}

impl Parents {
    /// From here on Postgres looks for no parents in this transaction, or savepoint.
    pub(super) async fn switch_off(&self, conn: &mut PgConnection) -> Result<()> {
        sqlx::raw_sql("SET LOCAL session_replication_role = replica").execute(conn).await?;
        Ok(())
    }

    /// Whether all rows have theirs; from here on Postgres looks for them again.
    pub(super) async fn hold(&self, conn: &mut PgConnection, rows: &OutputRows) -> Result<bool> {
        sqlx::raw_sql("SET LOCAL session_replication_role = origin").execute(&mut *conn).await?;
        for check in &self.0 {
            if !check.holds(conn, rows).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An array of values as COPY carries them.
struct Keys {
    of: ArrayType,
    bytes: Vec<u8>,
}

impl Keys {
    fn new<'v>(of: ArrayType, values: impl ExactSizeIterator<Item = &'v [u8]>) -> Self {
        let length = |length: usize| i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes();
        let mut bytes = Vec::new();
        // One dimension, no NULL, from 1.
        bytes.extend_from_slice(&1_i32.to_be_bytes());
        bytes.extend_from_slice(&0_i32.to_be_bytes());
        bytes.extend_from_slice(&of.element.to_be_bytes());
        bytes.extend_from_slice(&length(values.len()));
        bytes.extend_from_slice(&1_i32.to_be_bytes());
        for value in values {
            bytes.extend_from_slice(&length(value.len()));
            bytes.extend_from_slice(value);
        }
        Self { of, bytes }
    }
}

impl Type<Postgres> for Keys {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1009))
    }
}

impl Encode<'_, Postgres> for Keys {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.of.array)))
    }
}
