//! The staging table that rows are sent into before they are merged.

use sqlx::postgres::PgConnection;

use super::chunk::{OutputRows, RowRef};
use super::merge::send;
use crate::cast::PgType;
use crate::error::Result;
use crate::pack::plan::OutputPlan;
use crate::store::catalog::{COLUMNS_MAX, column_list};
use crate::store::{quote_ident, sql};

pub(super) fn stage_name(output: &OutputPlan) -> String {
    let digest = crate::canonical::sha256(
        format!("{}\0{}\0{}", output.table.display_name(), output.name, output.unit).as_bytes(),
    );
    format!("toolkit_stage_{}", hex::encode(&digest[..8]))
}

/// Staging columns: what COPY carries. Types known only as text are cast on the way out.
pub(super) async fn create_stage(conn: &mut PgConnection, output: &OutputPlan) -> Result<()> {
    let columns: Vec<String> = output
        .columns
        .iter()
        .enumerate()
        .map(|(position, column)| {
            let ty = match column.cast.ty() {
                PgType::Other(_) => "text".to_owned(),
                _ => output
                    .catalog_column(position)
                    .map_or_else(|| "text".to_owned(), |c| c.declared_type.clone()),
            };
            format!("{} {ty}", quote_ident(&column.name))
        })
        .collect();
    let name = stage_name(output);
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("pg_temp.{}", quote_ident(&name)))
        .fetch_one(&mut *conn)
        .await?;
    if is_there {
        return Ok(());
    }
    // One stage per connection and output; its rows live for one batch, so compressing wide
    // values in it would be wasted.
    let mut statement = format!(
        "CREATE TEMP TABLE {} ({}{}) ON COMMIT DELETE ROWS;",
        quote_ident(&name),
        if is_widest(output) { "" } else { "toolkit_ord int4, " },
        columns.join(", ")
    );
    for column in output.columns.iter().filter(|column| is_wide(column.cast.ty())) {
        statement.push_str(&format!(
            "ALTER TABLE pg_temp.{} ALTER COLUMN {} SET STORAGE EXTERNAL;",
            quote_ident(&name),
            quote_ident(&column.name)
        ));
    }
    sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    Ok(())
}

fn is_wide(ty: &PgType) -> bool {
    matches!(ty, PgType::Text(_) | PgType::Json | PgType::Jsonb | PgType::Bytea | PgType::Other(_))
}

/// Puts a batch, numbered, into the staging table in place of what was there; its name.
pub(super) async fn fill_stage(
    conn: &mut PgConnection,
    output: &OutputPlan,
    rows: &OutputRows,
    batch: &[RowRef],
) -> Result<String> {
    let stage = format!("pg_temp.{}", quote_ident(&stage_name(output)));
    sqlx::raw_sql(sql(format!("TRUNCATE {stage}"))).execute(&mut *conn).await?;
    let is_widest = is_widest(output);
    let statement = format!(
        "COPY {stage} ({}{}) FROM STDIN (FORMAT binary)",
        if is_widest { "" } else { "toolkit_ord, " },
        column_list(output.column_names())
    );
    let count = output.columns.len() + usize::from(!is_widest);
    let count = i16::try_from(count).unwrap_or(i16::MAX).to_be_bytes();
    let numbered = batch.iter().enumerate().map(|(at, row)| {
        let number = (!is_widest).then(|| u32::try_from(at).unwrap_or(u32::MAX));
        (count, number, rows.fields(row))
    });
    send(conn, &statement, numbered).await?;
    Ok(stage)
}

/// A staged column as a value of the target's type.
pub(super) fn staged_value(output: &OutputPlan, position: usize) -> String {
    let column = &output.columns[position];
    let staged = format!("s.{}", quote_ident(&column.name));
    match column.cast.ty() {
        PgType::Other(ty) => format!("{staged}::{ty}"),
        _ => staged,
    }
}

/// Whether there is no room for a column more, so that rows are numbered by their place.
pub(super) fn is_widest(output: &OutputPlan) -> bool {
    output.columns.len() >= COLUMNS_MAX
}

/// What to read the staged rows from, with their number.
pub(super) fn stage_rows(output: &OutputPlan, stage: &str) -> String {
    if is_widest(output) {
        // Just filled, by one COPY after a TRUNCATE: in the order of their places.
        format!(
            "(SELECT (row_number() OVER (ORDER BY w.ctid) - 1)::int4 AS toolkit_ord, w.* \
             FROM {stage} AS w)"
        )
    } else {
        stage.to_owned()
    }
}
