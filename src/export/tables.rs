//! Which tables are a pack's, how their rows are read, and what they hold.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;

use super::manifest::{ColumnFacts, TableFacts};
use crate::canonical::{Buckets, Layout, TupleReader, copy_expression};
use crate::cast::PgType;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::migrate::MigrationSet;
use crate::pack::Pack;
use crate::pack::manifest::StreamManifest;
use crate::store::catalog::{Column, Table, split_name};
use crate::store::quote_ident;

/// Pieces of a stream between two looks at whether to stop.
const PIECES_PER_LOOK: u64 = 64;

/// The tables that a pack's streams fill and its migrations make, by name; partitions come with
/// their parents.
pub(crate) async fn of_pack(
    conn: &mut PgConnection,
    pack: &Pack,
    set: Option<&MigrationSet>,
) -> Result<Vec<Table>> {
    let mut targets = BTreeSet::new();
    for output in pack.manifest.streams.iter().flat_map(StreamManifest::views) {
        targets.insert(split_name(output.target.get_ref())?);
    }
    let mut names = targets.clone();
    names.extend(set.into_iter().flat_map(MigrationSet::tables_made));
    let mut tables = Vec::new();
    for name in names {
        let is_target = targets.contains(&name);
        let Some(table) = Table::read(conn, &name.0, &name.1).await? else {
            if is_target {
                let detail = format!("table {}.{} of the pack is not there", name.0, name.1);
                return Err(Error::new(ErrorKind::Pack, detail)
                    .advice("make the pack's tables first: toolkit migrate up --help"));
            }
            continue;
        };
        if table.kind.refusal().is_some() || !is_target && is_partition(conn, &table).await? {
            continue;
        }
        tables.push(table);
    }
    if tables.is_empty() {
        let detail = format!("the pack {} has no tables in this database", pack.name());
        return Err(Error::new(ErrorKind::Pack, detail)
            .advice("make the pack's tables first: toolkit migrate up --help"));
    }
    Ok(tables)
}

async fn is_partition(conn: &mut PgConnection, table: &Table) -> Result<bool> {
    let found = sqlx::query_scalar(
        "SELECT c.relispartition FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_one(conn)
    .await?;
    Ok(found)
}

/// What a table holds, whatever the order of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) rows: u64,
    pub(crate) root: String,
    pub(crate) exact_root: String,
}

/// A table as it is archived: its columns but the generated ones, and its key.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(super) table: Table,
    pub(super) columns: Vec<String>,
    /// Positions of the columns rows are ordered by; none: by all of them.
    pub(super) key: Vec<usize>,
    types: Vec<PgType>,
    declared: Vec<String>,
}

impl Sheet {
    pub(crate) fn of(table: Table) -> Result<Self> {
        let kept: Vec<&Column> = table.columns.iter().filter(|column| !column.generated).collect();
        if kept.is_empty() {
            let detail = format!("table {} has no columns to archive", table.display_name());
            return Err(Error::new(ErrorKind::Pack, detail).advice("drop it, or add a column"));
        }
        let place = |name: &String| kept.iter().position(|c| &c.name == name && c.not_null);
        let mut keys = table.unique_keys.iter();
        let key = keys.find_map(|key| key.iter().map(place).collect::<Option<Vec<usize>>>());
        Ok(Self {
            columns: kept.iter().map(|column| column.name.clone()).collect(),
            types: kept.iter().map(|column| column.ty.clone()).collect(),
            declared: kept.iter().map(|column| column.declared_type.clone()).collect(),
            key: key.unwrap_or_default(),
            table,
        })
    }

    pub(super) fn column_facts(&self) -> Vec<ColumnFacts> {
        let pairs = self.columns.iter().zip(&self.declared);
        pairs.map(|(name, ty)| ColumnFacts { name: name.clone(), ty: ty.clone() }).collect()
    }

    /// Brings the columns into the order an archive has them in, which has the same ones.
    pub(super) fn arrange(&mut self, facts: &TableFacts) {
        let columns = &facts.columns;
        let place = |name: &String| columns.iter().position(|column| &column.name == name);
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        order.sort_by_key(|at| place(&self.columns[*at]));
        self.key = facts.key.iter().filter_map(place).collect();
        self.columns = order.iter().map(|at| self.columns[*at].clone()).collect();
        self.types = order.iter().map(|at| self.types[*at].clone()).collect();
        self.declared = order.iter().map(|at| self.declared[*at].clone()).collect();
    }

    pub(super) fn types(&self) -> &[PgType] {
        &self.types
    }

    pub(super) fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|at| self.columns[*at].clone()).collect()
    }

    /// Reads all rows in key order.
    pub(super) fn copy_statement(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| quote_ident(name)).collect();
        let order: Vec<String> = if self.key.is_empty() {
            columns.iter().map(|column| format!("{column}::text COLLATE \"C\"")).collect()
        } else {
            self.key.iter().map(|at| ordered(&self.types[*at], &columns[*at])).collect()
        };
        format!(
            "COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT",
            columns.join(", "),
            self.table.sql_name(),
            order.join(", ")
        )
    }

    /// Folds all rows, in one pass and no order.
    pub(crate) async fn held(&self, conn: &mut PgConnection, stop: &Stop) -> Result<Held> {
        let columns: Vec<String> = self.columns.iter().map(|name| quote_ident(name)).collect();
        let pairs = || self.types.iter().zip(&columns);
        let mut expressions: Vec<String> =
            pairs().map(|(ty, column)| copy_expression(ty, column)).collect();
        // trim_scale is part of the canonical form, and its text tells 1.0 from 1.00.
        let numerics = pairs().filter(|(ty, _)| matches!(ty, PgType::Numeric(_)));
        let exact: Vec<String> = numerics.map(|(_, column)| format!("{column}::text")).collect();
        let mut types = self.types.clone();
        types.extend(exact.iter().map(|_| PgType::Text(None)));
        expressions.extend(exact);
        let key: Vec<usize> =
            if self.key.is_empty() { (0..self.types.len()).collect() } else { self.key.clone() };
        let canonical = Layout::new(&self.types, key.clone());
        let whole = Layout::new(&types, key);
        let statement = format!(
            "COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)",
            expressions.join(", "),
            self.table.sql_name()
        );
        let (mut root, mut exact_root) = (Buckets::new(), Buckets::new());
        let mut stream = conn.copy_out_raw(&statement).await?;
        let mut reader = TupleReader::default();
        let mut pieces = 0_u64;
        while let Some(piece) = stream.try_next().await? {
            reader.read(&piece, &mut |tuple| {
                let key = canonical.key_digest(tuple);
                root.add(&key, &canonical.row_digest(tuple));
                exact_root.add(&key, &whole.row_digest(tuple));
                Ok(())
            })?;
            pieces += 1;
            if pieces.is_multiple_of(PIECES_PER_LOOK) {
                stop.check()?;
            }
        }
        stop.check()?;
        if !reader.is_complete() {
            let what = format!("{}: the server ended the rows early", self.table.display_name());
            return Err(Error::new(ErrorKind::StoreUnreachable, what));
        }
        Ok(Held {
            rows: root.total().count,
            root: hex::encode(root.root()),
            exact_root: hex::encode(exact_root.root()),
        })
    }

    /// Whether the table has no row at all.
    pub(super) async fn is_empty(&self, conn: &mut PgConnection) -> Result<bool> {
        let statement = format!("SELECT NOT EXISTS (SELECT FROM {})", self.table.sql_name());
        Ok(sqlx::query_scalar(crate::store::sql(statement)).fetch_one(conn).await?)
    }
}

/// An order that is the same in every database: by value where that is so, by bytes of the text
/// where a collation or the order of an extension's type would decide.
fn ordered(ty: &PgType, column: &str) -> String {
    match ty {
        PgType::Bool
        | PgType::Int2
        | PgType::Int4
        | PgType::Int8
        | PgType::Float4
        | PgType::Float8
        | PgType::Numeric(_)
        | PgType::Bytea
        | PgType::Uuid
        | PgType::Timestamptz
        | PgType::Timestamp
        | PgType::Date
        | PgType::Time => column.to_owned(),
        _ => format!("{column}::text COLLATE \"C\""),
    }
}
