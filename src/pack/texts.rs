//! A row given as Postgres's texts by column, as the fields that casts write.

use serde_json::{Map, Value};
use sqlx::postgres::PgConnection;
use sqlx::{Row as _, ValueRef as _};

use crate::canonical::copy_expression;
use crate::cast::PgType;
use crate::error::{Error, Result};
use crate::pack::plan::OutputPlan;
use crate::store::sql;

/// Encodes a row of `output`; the inner error says in one sentence what cannot be read.
pub async fn fields_of_texts(
    conn: &mut PgConnection,
    output: &OutputPlan,
    texts: &Map<String, Value>,
) -> Result<std::result::Result<Vec<u8>, String>> {
    if let Some(unknown) = texts.keys().find(|name| output.column_names().all(|n| n != *name)) {
        return Ok(Err(format!("the row has no column `{unknown}`")));
    }
    let mut fields = Vec::new();
    for (position, column) in output.columns.iter().enumerate() {
        let text = match texts.get(&column.name) {
            None | Some(Value::Null) => {
                fields.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let (base, declared) = match (column.cast.ty(), output.catalog_column(position)) {
            (PgType::Other(ty), Some(catalog)) => (ty.clone(), catalog.declared_type.clone()),
            (ty, Some(catalog)) => (
                match ty {
                    PgType::Numeric(_) => "numeric".to_owned(),
                    PgType::Text(_) => "text".to_owned(),
                    ty => ty.name(),
                },
                catalog.declared_type.clone(),
            ),
            (ty, None) => (ty.name(), ty.name()),
        };
        // A length or a scale would shorten or round in silence.
        let fits = if declared.contains('(') {
            format!("($1::text::{base}) = ($1::text::{declared})::{base}")
        } else {
            "true".to_owned()
        };
        let value = copy_expression(column.cast.ty(), &format!("($1::text::{base})"));
        let statement = format!("SELECT {value} AS value, {fits} AS fits");
        let row = match sqlx::query(sql(statement)).bind(&text).fetch_one(&mut *conn).await {
            Ok(row) => row,
            Err(error) => {
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                if code.is_some_and(|code| code.starts_with("22")) {
                    return Ok(Err(format!("column {}: no value of {declared}", column.name)));
                }
                return Err(Error::from(error));
            }
        };
        if !row.try_get::<bool, _>("fits")? {
            return Ok(Err(format!("column {}: does not fit into {declared}", column.name)));
        }
        let value = row.try_get_raw("value")?;
        let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
        debug_assert!(!value.is_null(), "a text that is there is a value");
        fields.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        fields.extend_from_slice(bytes);
    }
    Ok(Ok(fields))
}
