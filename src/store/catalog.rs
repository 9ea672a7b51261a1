//! What a Postgres table really is: columns, types, unique keys, partitioning.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::cast::PgType;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{quote_ident, quote_qualified};

/// Columns of a table at most (`MaxHeapAttributeNumber` in `src/include/access/htup_details.h`).
pub const COLUMNS_MAX: usize = 1_600;

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
    /// What kind of relation it is.
    pub kind: Kind,
    /// User triggers that fire on writes.
    pub triggers: Vec<Trigger>,
    /// Foreign keys it declares.
    pub foreign_keys: Vec<ForeignKey>,
}

/// What rows can be kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary table.
    Table,
    /// A partitioned parent.
    Partitioned,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A foreign table.
    Foreign,
}

impl Kind {
    /// What it is, if no rows can be loaded into it.
    #[must_use]
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Table | Self::Partitioned => None,
            Self::View => Some("a view"),
            Self::MaterializedView => Some("a materialized view"),
            Self::Foreign => Some("a foreign table"),
        }
    }
}

/// A user trigger that fires on writes; of a partitioned table, also those of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Schema of the relation it stands on.
    pub schema: String,
    /// The relation it stands on.
    pub table: String,
    /// Name.
    pub name: String,
    /// ENABLE ALWAYS.
    pub always: bool,
    /// BEFORE ... FOR EACH ROW: it may change or drop the rows.
    pub changes_rows: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Constraint.
    pub name: String,
    /// Schema of the referenced table.
    pub parent_schema: String,
    /// Referenced table.
    pub parent: String,
    /// Its own columns.
    pub columns: Vec<String>,
    /// The columns they lead to, in the same order.
    pub parent_columns: Vec<String>,
    /// DEFERRABLE.
    pub deferrable: bool,
    /// MATCH SIMPLE: one NULL and nothing is looked for.
    pub simple: bool,
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
    /// Equal only if the bytes are, by its collation.
    pub deterministic: bool,
    /// Has a default, an identity or a generation expression.
    pub has_default: bool,
    /// The sequence behind serial, identity or a default, qualified and quoted.
    pub sequence: Option<String>,
}

impl Table {
    /// Quoted `schema.table`.
    #[must_use]
    pub fn sql_name(&self) -> String {
        quote_qualified(&self.schema, &self.name)
    }

    /// `schema.table` for people, quoted only where a name could be misread, so that no two tables
    /// are shown alike.
    #[must_use]
    pub fn display_name(&self) -> String {
        let shown = |name: &str| {
            if name.contains('.') || name.starts_with('"') {
                quote_ident(name)
            } else {
                name.to_owned()
            }
        };
        format!("{}.{}", shown(&self.schema), shown(&self.name))
    }

    /// A sentence for each user trigger that fires on rows written to it.
    #[must_use]
    pub fn trigger_sentences(&self) -> Vec<String> {
        let sentence = |trigger: &Trigger| {
            let may = if trigger.changes_rows { ", and may change or drop them" } else { "" };
            let (schema, table) = (&trigger.schema, &trigger.table);
            format!("trigger {} of {schema}.{table} fires on rows written{may}", trigger.name)
        };
        self.triggers.iter().map(sentence).collect()
    }

    /// Whether it is a partitioned parent.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        self.kind == Kind::Partitioned
    }

    /// The column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Refuses a table whose rows the session's role cannot read and write.
    pub async fn require_writable(&self, conn: &mut PgConnection) -> Result<()> {
        let row = sqlx::query(include_str!("../sql/catalog/privileges.sql"))
            .bind(&self.schema)
            .bind(&self.name)
            .fetch_one(conn)
            .await?;
        let role: String = row.try_get("role")?;
        let name = self.display_name();
        let denied = |what: String, advice: String| {
            Err(Error::new(ErrorKind::StoreDenied, what).advice(advice))
        };
        if !row.try_get::<bool, _>("usage")? {
            let schema = quote_ident(&self.schema);
            return denied(
                format!("role {role} may not use the schema of {name}"),
                format!("GRANT USAGE ON SCHEMA {schema} TO {}", quote_ident(&role)),
            );
        }
        let missing: Vec<String> = row.try_get("missing")?;
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return denied(
                format!("role {role} lacks {missing} on {name}"),
                format!("GRANT {missing} ON {} TO {}", self.sql_name(), quote_ident(&role)),
            );
        }
        if row.try_get::<bool, _>("hidden")? {
            return denied(
                format!("row-level security hides rows of {name} from role {role}"),
                "use the table's owner, or a role with BYPASSRLS: what is hidden cannot be compared"
                    .to_owned(),
            );
        }
        Ok(())
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
        let triggers = sqlx::query(include_str!("../sql/catalog/triggers.sql"))
            .bind(schema)
            .bind(name)
            .fetch_all(&mut *conn)
            .await?;
        let foreign_keys = sqlx::query(include_str!("../sql/catalog/foreign_keys.sql"))
            .bind(schema)
            .bind(name)
            .fetch_all(conn)
            .await?;
        Ok(Some(Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns,
            unique_keys: keys,
            kind: match kind.as_str() {
                "p" => Kind::Partitioned,
                "v" => Kind::View,
                "m" => Kind::MaterializedView,
                "f" => Kind::Foreign,
                _ => Kind::Table,
            },
            triggers: triggers.iter().map(trigger_of).collect::<Result<_>>()?,
            foreign_keys: foreign_keys.iter().map(foreign_key_of).collect::<Result<_>>()?,
        }))
    }
}

fn trigger_of(row: &sqlx::postgres::PgRow) -> Result<Trigger> {
    Ok(Trigger {
        schema: row.try_get("schema")?,
        table: row.try_get("table")?,
        name: row.try_get("name")?,
        always: row.try_get("always")?,
        changes_rows: row.try_get::<bool, _>("before")? && row.try_get::<bool, _>("row")?,
    })
}

fn foreign_key_of(row: &sqlx::postgres::PgRow) -> Result<ForeignKey> {
    Ok(ForeignKey {
        name: row.try_get("name")?,
        parent_schema: row.try_get("target_schema")?,
        parent: row.try_get("target_table")?,
        columns: row.try_get("columns")?,
        parent_columns: row.try_get("target_columns")?,
        deferrable: row.try_get("deferrable")?,
        simple: row.try_get("simple")?,
    })
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
        deterministic: row.try_get("deterministic")?,
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

/// Splits `schema.table`; a name without a schema is in `public`. A part that begins with `"` is
/// quoted as in SQL and may hold dots: `"my.schema"."my ""table"""`.
pub fn split_name(name: &str) -> Result<(String, String)> {
    match name_parts(name).as_deref() {
        Some([table]) if !table.is_empty() => Ok(("public".to_owned(), table.clone())),
        Some([schema, table]) if !schema.is_empty() && !table.is_empty() => {
            Ok((schema.clone(), table.clone()))
        }
        _ => Err(Error::new(
            ErrorKind::Pack,
            format!("`{name}` is not a table name of the form schema.table"),
        )
        .advice("a name with a dot is quoted: '\"my.schema\".\"my.table\"'")),
    }
}

/// The parts between dots; None where a quote is not closed before the next dot.
fn name_parts(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix('.')?;
    }
}

/// What stands before the closing quote, and what follows it.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

/// Comma-separated quoted column list.
#[must_use]
pub fn column_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote_ident).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_split_at_dots_that_are_not_quoted() {
        let split = |name: &str| split_name(name).ok();
        let pair = |schema: &str, table: &str| Some((schema.to_owned(), table.to_owned()));
        assert_eq!(split("t"), pair("public", "t"));
        assert_eq!(split("a.t"), pair("a", "t"));
        assert_eq!(split(r#""a.b"."c.d""#), pair("a.b", "c.d"));
        assert_eq!(split(r#"a."x ""y"" .""#), pair("a", r#"x "y" ."#));
        assert_eq!(split(r#"a.x"y"#), pair("a", r#"x"y"#));
        for wrong in ["", ".", "a.", ".a", "a.b.c", r#""a"#, r#""a"b.c"#, r#"a."""#] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
