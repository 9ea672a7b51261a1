//! Naming the row that a refused row collides with in another unique key.

use sqlx::postgres::PgConnection;

use crate::canonical::{display_field, fields_of};
use crate::error::Result;
use crate::pack::plan::OutputPlan;
use crate::store::{quote_ident, sql};

/// A sentence about the constraint, its columns and the target's row that has the same values
/// there; None where they cannot be told (an expression, a column the pack does not write).
pub(super) async fn other_row(
    conn: &mut PgConnection,
    output: &OutputPlan,
    tuple: &[u8],
    constraint: &str,
) -> Result<Option<String>> {
    let columns: Option<Vec<Option<String>>> =
        sqlx::query_scalar(include_str!("../sql/backfill/unique_columns.sql"))
            .bind(&output.table.schema)
            .bind(&output.table.name)
            .bind(constraint)
            .fetch_optional(&mut *conn)
            .await?;
    let Some(columns) = columns.and_then(|all| all.into_iter().collect::<Option<Vec<_>>>()) else {
        return Ok(None);
    };
    let fields = fields_of(tuple);
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    for name in &columns {
        let Some(position) = output.column_names().position(|column| column == name) else {
            return Ok(None);
        };
        let Some(range) = fields[position].clone() else { return Ok(None) };
        values.push(display_field(output.columns[position].cast.ty(), &tuple[range]));
        let declared = output
            .catalog_column(position)
            .map_or_else(|| "text".to_owned(), |column| column.declared_type.clone());
        let number = values.len();
        conditions.push(format!("{} = ${number}::text::{declared}", quote_ident(name)));
    }
    let key: Vec<String> = output
        .key
        .iter()
        .map(|position| format!("{}::text", quote_ident(&output.columns[*position].name)))
        .collect();
    let statement = format!(
        "SELECT ARRAY[{}] FROM {} WHERE {} LIMIT 1",
        key.join(", "),
        output.table.sql_name(),
        conditions.join(" AND ")
    );
    let mut query = sqlx::query_scalar::<_, Vec<Option<String>>>(sql(statement));
    for value in values {
        query = query.bind(value);
    }
    let Some(other) = query.fetch_optional(conn).await? else { return Ok(None) };
    let names = output.key.iter().map(|position| output.columns[*position].name.as_str());
    let parts: Vec<String> = names
        .zip(other)
        .map(|(name, value)| format!("{name}={}", value.unwrap_or_else(|| "NULL".to_owned())))
        .collect();
    Ok(Some(format!(
        "{constraint} ({}) is held by the row {} of {}",
        columns.join(", "),
        parts.join(", "),
        output.table.display_name()
    )))
}
