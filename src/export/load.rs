//! Loading tables that belong together in one transaction.

use std::path::Path;

use sqlx::postgres::{PgConnection, PgCopyIn};

use super::manifest::{Manifest, TableFacts};
use super::rows::Row;
use super::tables::Sheet;
use super::verify::{RowReader, damaged};
use super::{Event, Listener, ROWS_PER_EVENT};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::store::catalog::{ForeignKey, Table, column_list};
use crate::store::{encode_copy_row, quote_ident, quote_qualified, sql};

/// Bytes sent at once.
const PIECE_BYTES: usize = 1 << 18;

/// Where rows come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) folder: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) stop: &'a Stop,
    pub(super) on: &'a Listener<'a>,
}

/// Loads empty tables in one transaction: all of them, or none.
///
/// The tables' own triggers are off meanwhile, for nobody else: what they would write is in the
/// archive. Foreign keys between the tables are looked at when all rows are there.
pub(super) async fn load(
    conn: &mut PgConnection,
    source: Source<'_>,
    group: &[(&Sheet, &TableFacts)],
) -> Result<()> {
    sqlx::raw_sql("BEGIN").execute(&mut *conn).await?;
    let loaded = load_within(conn, source, group).await;
    if loaded.is_err() {
        // Where the connection is gone, so is the transaction.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *conn).await;
        return loaded;
    }
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(())
}

async fn load_within(
    conn: &mut PgConnection,
    source: Source<'_>,
    group: &[(&Sheet, &TableFacts)],
) -> Result<()> {
    for (sheet, _) in group {
        let name = sheet.table.sql_name();
        let lock = format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE");
        sqlx::raw_sql(sql(lock)).execute(&mut *conn).await?;
        if !sheet.is_empty(conn).await? {
            let detail =
                format!("{} was empty a moment ago, and is not now", sheet.table.display_name());
            return Err(Error::new(ErrorKind::Busy, detail)
                .advice("somebody else writes to it: run the import again when that has ended"));
        }
    }
    let tables: Vec<&Table> = group.iter().map(|(sheet, _)| &sheet.table).collect();
    let circular = circular_keys(&tables);
    for table in &tables {
        triggers(conn, table, false).await.map_err(|error| not_owner(error, table))?;
    }
    for (table, key) in &circular {
        defer(conn, table, key, true).await.map_err(|error| not_owner(error, table))?;
    }
    sqlx::raw_sql("SET CONSTRAINTS ALL DEFERRED").execute(&mut *conn).await?;
    for (sheet, facts) in group {
        copy_in(conn, source, sheet, facts)
            .await
            .map_err(|error| error.context(format!("loading {}", facts.display_name())))?;
    }
    // A table with checks still to be made cannot be altered.
    sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *conn).await?;
    for (table, key) in &circular {
        defer(conn, table, key, false).await?;
    }
    for table in &tables {
        triggers(conn, table, true).await?;
    }
    Ok(())
}

/// Foreign keys between several tables that cannot be deferred as they are.
fn circular_keys<'t>(tables: &[&'t Table]) -> Vec<(&'t Table, &'t ForeignKey)> {
    let mut found = Vec::new();
    for table in tables {
        for key in &table.foreign_keys {
            let is_inside = tables
                .iter()
                .any(|other| other.schema == key.parent_schema && other.name == key.parent);
            // A key into the table itself is looked at when its one COPY ends.
            let is_own = table.schema == key.parent_schema && table.name == key.parent;
            if is_inside && !is_own && !key.deferrable {
                found.push((*table, key));
            }
        }
    }
    found
}

async fn defer(
    conn: &mut PgConnection,
    table: &Table,
    key: &ForeignKey,
    is_deferred: bool,
) -> Result<()> {
    let how = if is_deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "NOT DEFERRABLE" };
    let (table, name) = (table.sql_name(), quote_ident(&key.name));
    let statement = format!("ALTER TABLE {table} ALTER CONSTRAINT {name} {how}");
    sqlx::raw_sql(sql(statement)).execute(conn).await?;
    Ok(())
}

/// `ONLY`: the triggers of partitions stand in the list themselves.
async fn triggers(conn: &mut PgConnection, table: &Table, is_on: bool) -> Result<()> {
    for trigger in &table.triggers {
        let how = match (is_on, trigger.always) {
            (false, _) => "DISABLE",
            (true, true) => "ENABLE ALWAYS",
            (true, false) => "ENABLE",
        };
        let statement = format!(
            "ALTER TABLE ONLY {} {how} TRIGGER {}",
            quote_qualified(&trigger.schema, &trigger.table),
            quote_ident(&trigger.name)
        );
        sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    }
    Ok(())
}

fn not_owner(error: Error, table: &Table) -> Error {
    if error.kind() != ErrorKind::StoreDenied {
        return error;
    }
    error.context(table.display_name()).advice(
        "an import switches the table's triggers off in its own transaction and defers circular \
         foreign keys, which only its owner may: use that role",
    )
}

async fn copy_in(
    conn: &mut PgConnection,
    source: Source<'_>,
    sheet: &Sheet,
    facts: &TableFacts,
) -> Result<()> {
    let Source { folder, manifest, stop, on } = source;
    on(Event::Table { name: facts.display_name(), rows: facts.rows });
    let mut reader = RowReader::open(folder, manifest.data_format, facts)?;
    let statement = format!(
        "COPY {} ({}) FROM STDIN",
        sheet.table.sql_name(),
        column_list(sheet.columns.iter().map(String::as_str))
    );
    let mut copy: PgCopyIn<&mut PgConnection> = conn.copy_in_raw(&statement).await?;
    let sent = send(&mut copy, &mut reader, stop, on).await;
    if let Err(error) = sent {
        // What the server says of rows it refuses is worth more than that it took no more of them.
        return Err(match copy.abort("stopped by the client").await {
            Err(refused) if error.kind() == ErrorKind::StoreFailed => refused.into(),
            _ => error,
        });
    }
    copy.finish().await?;
    let listed = manifest.files.iter().find(|file| file.name == facts.file);
    let is_still = listed.map(|file| reader.ends_as(&file.sha256)).transpose()?;
    if is_still != Some(true) {
        return Err(damaged(format!("{} was changed while it was read", facts.file)));
    }
    on(Event::Done);
    Ok(())
}

async fn send(
    copy: &mut PgCopyIn<&mut PgConnection>,
    reader: &mut RowReader,
    stop: &Stop,
    on: &Listener<'_>,
) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + (64 << 10));
    let mut row = Row::new();
    while reader.next(&mut row)? {
        encode_copy_row(&row, &mut piece);
        if piece.len() >= PIECE_BYTES {
            stop.check()?;
            copy.send(piece.as_slice()).await?;
            piece.clear();
        }
        if reader.rows.is_multiple_of(ROWS_PER_EVENT) {
            on(Event::Rows(ROWS_PER_EVENT));
        }
    }
    stop.check()?;
    on(Event::Rows(reader.rows % ROWS_PER_EVENT));
    copy.send(piece.as_slice()).await?;
    Ok(())
}
