//! The capture of changes in Postgres: row triggers that log the keys of changed rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::canonical::sha256;
use crate::error::Result;
use crate::pack::plan::PackPlan;
use crate::store::catalog::Table;
use crate::store::{quote_ident, quote_literal, quote_qualified, sql};

/// A table whose changes are written back.
#[derive(Debug, Clone)]
pub struct Target {
    /// The table.
    pub table: Arc<Table>,
    /// Columns whose texts the log's keys hold: the keys of all streams that are written back.
    pub key: Vec<String>,
    /// Positions of those streams in the plan.
    pub streams: Vec<usize>,
}

impl Target {
    /// `schema.table`, as the log names it.
    #[must_use]
    pub fn name(&self) -> String {
        self.table.display_name()
    }
}

/// The tables that streams with a way back feed, by name.
#[must_use]
pub fn targets(plan: &PackPlan) -> Vec<Target> {
    let mut found: BTreeMap<String, Target> = BTreeMap::new();
    for (index, stream) in plan.streams.iter().enumerate() {
        let Some(output) = stream.outputs.first().filter(|_| stream.is_reversed()) else {
            continue;
        };
        let target = found.entry(output.table.display_name()).or_insert_with(|| Target {
            table: Arc::clone(&output.table),
            key: Vec::new(),
            streams: Vec::new(),
        });
        target.streams.push(index);
        for position in &output.key {
            let name = &output.columns[*position].name;
            if !target.key.contains(name) {
                target.key.push(name.clone());
            }
        }
    }
    found.into_values().collect()
}

fn row_trigger(pack: &str) -> String {
    format!("toolkit_reverse_row_{pack}")
}

fn truncate_trigger(pack: &str) -> String {
    format!("toolkit_reverse_cut_{pack}")
}

/// The function's name; a hash, because names of tables may be as long as names can be.
fn function(pack: &str, target: &str) -> String {
    let hash = hex::encode(&sha256(format!("{pack}\0{target}").as_bytes())[..8]);
    quote_qualified("toolkit", &format!("reverse_row_{hash}"))
}

/// Installs the capture of every target of the plan; those that have it are left alone. Returns
/// the tables that are captured.
///
/// All in one transaction, or in the caller's, who then sees that nothing is written between the
/// fence and the first captured change. Takes SHARE ROW EXCLUSIVE locks: running writers are
/// waited for.
pub async fn enable(conn: &mut PgConnection, plan: &PackPlan) -> Result<Vec<String>> {
    let mut tx = conn.begin().await?;
    let mut names = Vec::new();
    for target in targets(plan) {
        let name = target.name();
        let function = function(&plan.name, &name);
        sqlx::raw_sql(sql(function_text(&plan.name, &target, &function)?))
            .execute(&mut *tx)
            .await?;
        install(&mut tx, plan, &target, &function).await?;
        sqlx::query(
            "INSERT INTO toolkit.reverse_target (pack, target, key_columns) VALUES ($1, $2, $3) \
             ON CONFLICT (pack, target) DO UPDATE SET key_columns = EXCLUDED.key_columns",
        )
        .bind(&plan.name)
        .bind(&name)
        .bind(&target.key)
        .execute(&mut *tx)
        .await?;
        names.push(name);
    }
    tx.commit().await?;
    Ok(names)
}

/// The application's role needs no right on the schema `toolkit`: the function runs as its owner,
/// with a search path nobody else can put anything into.
fn function_text(pack: &str, target: &Target, function: &str) -> Result<String> {
    let key = |record: &str| -> String {
        let columns = target.key.iter();
        let texts: Vec<String> =
            columns.map(|name| format!("{record}.{}::text", quote_ident(name))).collect();
        format!("ARRAY[{}]::text[]", texts.join(", "))
    };
    let log = |op: &str, columns: &str, values: &str| -> Result<String> {
        Ok(format!(
            "INSERT INTO toolkit.reverse_log (pack, target, op, {columns}) \
             VALUES ({}, {}, '{op}', {values});",
            quote_literal(pack)?,
            quote_literal(&target.name())?
        ))
    };
    let (old, new) = (key("OLD"), key("NEW"));
    let body = format!(
        "BEGIN IF TG_OP = 'INSERT' THEN {} ELSIF TG_OP = 'DELETE' THEN {} ELSE {} END IF; \
         RETURN NULL; END",
        log("I", "new_key", &new)?,
        log("D", "old_key", &old)?,
        log("U", "old_key, new_key", &format!("{old}, {new}"))?,
    );
    Ok(format!(
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql \
         SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET bytea_output = hex AS {}; \
         REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        quote_literal(&body)?
    ))
}

async fn install(
    conn: &mut PgConnection,
    plan: &PackPlan,
    target: &Target,
    function: &str,
) -> Result<()> {
    let table = target.table.sql_name();
    let row = row_trigger(&plan.name);
    let without = |trigger: String| {
        sqlx::query(include_str!("../../sql/reverse/members.sql"))
            .bind(&target.table.schema)
            .bind(&target.table.name)
            .bind(trigger)
    };
    let lacks_row = without(row.clone()).fetch_all(&mut *conn).await?.iter().any(|found| {
        found.try_get::<&str, _>("table").is_ok_and(|name| name == target.table.name)
            && found.try_get::<&str, _>("schema").is_ok_and(|name| name == target.table.schema)
    });
    if lacks_row {
        // Partitions, also those attached later, get it from their parent.
        let statement = format!(
            "CREATE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW \
             WHEN (pg_catalog.current_setting('toolkit.replay', true) IS DISTINCT FROM 'on') \
             EXECUTE FUNCTION {function}()",
            quote_ident(&row)
        );
        sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    }
    let cut = truncate_trigger(&plan.name);
    for found in without(cut.clone()).fetch_all(&mut *conn).await? {
        let table = quote_qualified(found.try_get("schema")?, found.try_get("table")?);
        let statement = format!(
            "CREATE TRIGGER {} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT \
             EXECUTE FUNCTION toolkit.reverse_refuse_truncate()",
            quote_ident(&cut)
        );
        sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Takes the capture out again; what is still in the log stays there.
pub async fn disable(conn: &mut PgConnection, pack: &str) -> Result<()> {
    let mut tx = conn.begin().await?;
    let names = [row_trigger(pack), truncate_trigger(pack)];
    let found = sqlx::query(include_str!("../../sql/reverse/with_trigger.sql"))
        .bind(&names[..])
        .fetch_all(&mut *tx)
        .await?;
    for row in found {
        let table = quote_qualified(row.try_get("schema")?, row.try_get("table")?);
        let trigger = quote_ident(row.try_get("trigger")?);
        let statement = format!("DROP TRIGGER IF EXISTS {trigger} ON {table}");
        sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?;
    }
    let targets: Vec<String> =
        sqlx::query_scalar("DELETE FROM toolkit.reverse_target WHERE pack = $1 RETURNING target")
            .bind(pack)
            .fetch_all(&mut *tx)
            .await?;
    for target in targets {
        let statement = format!("DROP FUNCTION IF EXISTS {}()", function(pack, &target));
        sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Targets that are said to be captured and whose trigger is gone or switched off.
pub(super) async fn missing(conn: &mut PgConnection, pack: &str) -> Result<Vec<String>> {
    let found = sqlx::query(include_str!("../../sql/reverse/installed.sql"))
        .bind(row_trigger(pack))
        .fetch_all(&mut *conn)
        .await?;
    let mut present = Vec::new();
    for row in found {
        let (schema, table): (String, String) = (row.try_get("schema")?, row.try_get("table")?);
        let table = Table { schema, name: table, ..empty() };
        present.push(table.display_name());
    }
    let declared: Vec<String> = sqlx::query_scalar(
        "SELECT target FROM toolkit.reverse_target WHERE pack = $1 ORDER BY target",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    Ok(declared.into_iter().filter(|target| !present.contains(target)).collect())
}

/// A table known only by its name.
fn empty() -> Table {
    Table {
        schema: String::new(),
        name: String::new(),
        columns: Vec::new(),
        unique_keys: Vec::new(),
        kind: crate::store::catalog::Kind::Table,
        triggers: Vec::new(),
        foreign_keys: Vec::new(),
    }
}
