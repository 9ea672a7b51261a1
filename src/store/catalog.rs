//! What a Postgres table really is: columns, types, unique keys, partitioning.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::cast::PgType;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{quote_ident, quote_qualified};

/// A table of the target database.
#[derive(Debug, Clone)]
pub struct Table {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns in catalog order.
    pub columns: Vec<Column>,
    /// Unique, immediate, complete (not partial, no expressions) keys by column name.
    pub unique_keys: Vec<Vec<String>>,
    /// Whether it is a partitioned parent.
    pub partitioned: bool,
    /// User triggers that fire on writes, by name.
    pub triggers: Vec<String>,
}

/// A column of the target database.
#[derive(Debug, Clone)]
// Four independent facts of the catalog, not a state in disguise.
#[allow(clippy::struct_excessive_bools)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type with domains resolved to their base.
    pub ty: PgType,
    /// The type as declared, ready for SQL (`numeric(10,2)`, `media.mood`).
    pub declared_type: String,
    /// Refuses NULL.
    pub not_null: bool,
    /// GENERATED ALWAYS AS IDENTITY: needs OVERRIDING SYSTEM VALUE.
    pub identity_always: bool,
    /// GENERATED ALWAYS AS (...) STORED: cannot be written.
    pub generated: bool,
    /// Has a default, an identity or a generation expression.
    pub has_default: bool,
    /// The sequence behind serial and identity, qualified and quoted.
    pub sequence: Option<String>,
}

impl Table {
    /// Quoted `schema.table`.
    #[must_use]
    pub fn sql_name(&self) -> String {
        quote_qualified(&self.schema, &self.name)
    }

    /// Unquoted `schema.table`, for people.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Reads the table from the catalog; None if there is no such table.
    pub async fn read(conn: &mut PgConnection, schema: &str, name: &str) -> Result<Option<Self>> {
        let rows = sqlx::query(include_str!("../sql/catalog/columns.sql"))
            .bind(schema)
            .bind(name)
            .fetch_all(&mut *conn)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = rows.iter().map(column_of).collect::<Result<Vec<_>>>()?;
        let keys =
            sqlx::query_scalar::<_, Vec<String>>(include_str!("../sql/catalog/unique_keys.sql"))
                .bind(schema)
                .bind(name)
                .fetch_all(&mut *conn)
                .await?;
        let kind: String = sqlx::query_scalar(
            "SELECT c.relkind::text FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2",
        )
        .bind(schema)
        .bind(name)
        .fetch_one(&mut *conn)
        .await?;
        let triggers = sqlx::query_scalar(include_str!("../sql/catalog/triggers.sql"))
            .bind(schema)
            .bind(name)
            .fetch_all(conn)
            .await?;
        Ok(Some(Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns,
            unique_keys: keys,
            partitioned: kind == "p",
            triggers,
        }))
    }
}

/// The greatest n of `varchar(n)` (`MaxAttrSize` in `src/include/access/htup_details.h`).
const VARCHAR_LIMIT_MAX: u32 = 10_485_760;

fn column_of(row: &sqlx::postgres::PgRow) -> Result<Column> {
    let base_name: String = row.try_get("base_name")?;
    let base_kind: String = row.try_get("base_kind")?;
    let element_name: String = row.try_get("element_name")?;
    let element_kind: String = row.try_get("element_kind")?;
    let base_type: String = row.try_get("base_type")?;
    let labels: Vec<String> = row.try_get("labels")?;
    let modifier: i32 = row.try_get::<Option<i32>, _>("modifier")?.unwrap_or(-1);
    let ty = if element_name.is_empty() {
        type_of(&base_name, &base_kind, &base_type, &labels, modifier)
    } else {
        let element = base_type.trim_end_matches("[]").to_owned();
        let ty = type_of(&element_name, &element_kind, &element, &labels, modifier);
        match ty {
            PgType::Other(_) | PgType::Enum { .. } | PgType::Ltree => PgType::Other(base_type),
            // Without a limit it would be taken for text, whose arrays COPY tells apart.
            PgType::Text(None) if element_name == "varchar" => {
                PgType::Array(Box::new(PgType::Text(Some(VARCHAR_LIMIT_MAX))))
            }
            known => PgType::Array(Box::new(known)),
        }
    };
    let identity: String = row.try_get("identity")?;
    let generated: String = row.try_get("generated")?;
    Ok(Column {
        name: row.try_get("name")?,
        ty,
        declared_type: row.try_get("declared_type")?,
        not_null: row.try_get("not_null")?,
        identity_always: identity == "a",
        generated: !generated.is_empty(),
        has_default: row.try_get::<bool, _>("has_default")?
            || !identity.is_empty()
            || !generated.is_empty(),
        sequence: row.try_get("sequence")?,
    })
}

fn type_of(name: &str, kind: &str, sql: &str, labels: &[String], modifier: i32) -> PgType {
    if kind == "e" {
        return PgType::Enum { name: sql.to_owned(), labels: labels.to_vec() };
    }
    match name {
        "bool" => PgType::Bool,
        "int2" => PgType::Int2,
        "int4" => PgType::Int4,
        "int8" => PgType::Int8,
        "float4" => PgType::Float4,
        "float8" => PgType::Float8,
        "numeric" => PgType::Numeric(numeric_modifier(modifier)),
        "text" => PgType::Text(None),
        "varchar" => PgType::Text(u32::try_from(modifier - 4).ok()),
        "bytea" => PgType::Bytea,
        "uuid" => PgType::Uuid,
        "timestamptz" => PgType::Timestamptz,
        "timestamp" => PgType::Timestamp,
        "date" => PgType::Date,
        "time" => PgType::Time,
        "interval" => PgType::Interval,
        "json" => PgType::Json,
        "jsonb" => PgType::Jsonb,
        "ltree" => PgType::Ltree,
        "inet" => PgType::Inet,
        _ => PgType::Other(sql.to_owned()),
    }
}

/// `numeric(p,s)`: the modifier is `((p << 16) | (s & 0x7ff)) + 4`, s an 11-bit signed number
/// (`src/backend/utils/adt/numeric.c`, `make_numeric_typmod`).
fn numeric_modifier(modifier: i32) -> Option<(u16, i16)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = u16::try_from((packed >> 16) & 0xffff).ok()?;
    let scale = (packed & 0x7ff) ^ 1024;
    Some((precision, i16::try_from(scale - 1024).ok()?))
}

/// Splits `schema.table`; a name without a schema is in `public`.
pub fn split_name(name: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        [table] if !table.is_empty() => Ok(("public".to_owned(), (*table).to_owned())),
        [schema, table] if !schema.is_empty() && !table.is_empty() => {
            Ok(((*schema).to_owned(), (*table).to_owned()))
        }
        _ => Err(Error::new(
            ErrorKind::Pack,
            format!("`{name}` is not a table name of the form schema.table"),
        )),
    }
}

/// Comma-separated quoted column list.
#[must_use]
pub fn column_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote_ident).collect::<Vec<_>>().join(", ")
}
