//! Monthly partitions, made before their month begins, and filled from DEFAULT where it holds
//! rows of theirs.

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::wait::{LOCK_TIMEOUT, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::Pack;
use crate::pack::manifest::PartitionManifest;
use crate::pack::upkeep::split_table;
use crate::store::{check_identifier, quote_ident, quote_qualified, sql};

/// A table partitioned by month, and the months it lacks.
#[derive(Debug, Serialize)]
pub struct PartitionPlan {
    /// `schema.table`
    pub table: String,
    /// The column of time.
    pub column: String,
    /// Months without a partition: those ahead, and those DEFAULT holds rows of.
    pub months: Vec<MonthPlan>,
    /// Rows of DEFAULT that stay there: dates before 1970 or more than ten years ahead, months
    /// that another partition covers in part, and infinity.
    pub left_in_default: u64,
    #[serde(skip)]
    schema: String,
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    default: Option<(String, String)>,
    #[serde(skip)]
    columns: Vec<String>,
}

/// A month's partition.
#[derive(Debug, Serialize)]
pub struct MonthPlan {
    /// Its name, in the table's schema.
    pub partition: String,
    /// First day, `2026-02-01` (UTC).
    pub from: String,
    /// First day of the next month.
    pub to: String,
    /// Rows that DEFAULT held of it when the plan was made; once it is made, rows it took over.
    pub rows: u64,
    /// Whether it was made.
    pub is_made: bool,
}

impl PartitionPlan {
    /// How many were made.
    pub(super) fn made(&self) -> usize {
        self.months.iter().filter(|month| month.is_made).count()
    }
}

/// Looks which months lack a partition.
pub(super) async fn plan(
    conn: &mut PgConnection,
    pack: &Pack,
    declared: &PartitionManifest,
) -> Result<PartitionPlan> {
    let table = declared.table.get_ref();
    let place = pack.place(declared.table.span().start);
    let wrong = |what: &str| Error::new(ErrorKind::Pack, format!("{place}: {table} {what}"));
    let (schema, name) = split_table(table).ok_or_else(|| wrong("is not `schema.table`"))?;
    let row = sqlx::query(include_str!("../sql/maintain/partitioned.sql"))
        .bind(schema)
        .bind(name)
        .fetch_optional(&mut *conn)
        .await?
        .ok_or_else(|| wrong("is not partitioned by range of one column of time"))?;
    let column: String = row.try_get("column_name")?;
    let default: Option<String> = row.try_get("default_table")?;
    let default_schema: Option<String> = row.try_get("default_schema")?;
    let mut plan = PartitionPlan {
        table: table.clone(),
        column,
        months: Vec::new(),
        left_in_default: 0,
        schema: schema.to_owned(),
        name: name.to_owned(),
        default: default_schema.zip(default),
        columns: row.try_get("columns")?,
    };
    let held = plan.months_in_default(conn).await?;
    let rows = sqlx::query(include_str!("../sql/maintain/months.sql"))
        .bind(schema)
        .bind(name)
        .bind(i32::try_from(declared.months_ahead).unwrap_or(i32::MAX))
        .bind(held.iter().map(|(month, _)| month.clone()).collect::<Vec<_>>())
        .bind(held.iter().map(|(_, rows)| *rows).collect::<Vec<_>>())
        .fetch_all(&mut *conn)
        .await?;
    let total: i64 = held.iter().map(|(_, rows)| rows).sum();
    for row in rows {
        let partition: String = row.try_get("partition")?;
        check_identifier("partition", &partition)?;
        let rows: i64 = row.try_get("rows")?;
        plan.months.push(MonthPlan {
            partition,
            from: row.try_get("range_from")?,
            to: row.try_get("range_to")?,
            rows: rows.unsigned_abs(),
            is_made: false,
        });
    }
    let moved: u64 = plan.months.iter().map(|month| month.rows).sum();
    plan.left_in_default = total.unsigned_abs().saturating_sub(moved);
    Ok(plan)
}

/// Makes what is missing, a transaction per month.
pub(super) async fn apply(
    conn: &mut PgConnection,
    plan: &mut PartitionPlan,
    stop: &Stop,
) -> Result<()> {
    for at in 0..plan.months.len() {
        let mut tries = 0;
        let moved = loop {
            stop.check()?;
            match plan.make(conn, &plan.months[at]).await {
                Ok(moved) => break moved,
                Err(error) => {
                    let what = format!("{}, {}", plan.table, plan.months[at].partition);
                    pause(&mut tries, &what, error, stop).await?;
                }
            }
        };
        let month = &mut plan.months[at];
        if let Some(moved) = moved {
            (month.is_made, month.rows) = (true, moved);
        }
    }
    Ok(())
}

impl PartitionPlan {
    /// First days of the months that DEFAULT holds rows of, and how many; NULL for what is in no
    /// month.
    async fn months_in_default(
        &self,
        conn: &mut PgConnection,
    ) -> Result<Vec<(Option<String>, i64)>> {
        let Some((schema, table)) = &self.default else { return Ok(Vec::new()) };
        let column = quote_ident(&self.column);
        let statement = format!(
            "SELECT CASE WHEN isfinite({column}) \
             THEN date_trunc('month', {column}::timestamp)::date::text END AS month, \
             count(*) AS rows FROM {} GROUP BY 1",
            quote_qualified(schema, table)
        );
        let rows = sqlx::query(sql(statement)).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get("month")?, row.try_get("rows")?))).collect()
    }

    /// One month, in one transaction; None: somebody else made it.
    async fn make(&self, conn: &mut PgConnection, month: &MonthPlan) -> Result<Option<u64>> {
        let parent = quote_qualified(&self.schema, &self.name);
        let partition = quote_qualified(&self.schema, &month.partition);
        let mut transaction = conn.begin().await?;
        sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
        // Rows change their place, not their content: reverse capture has nothing to learn.
        sqlx::query("SET LOCAL toolkit.replay = 'on'").execute(&mut *transaction).await?;
        // Writers wait here, before they have chosen a partition. One that had chosen DEFAULT
        // would fail once the month is attached ("violates partition constraint").
        let lock = format!("LOCK TABLE ONLY {parent} IN SHARE ROW EXCLUSIVE MODE");
        sqlx::query(sql(lock)).execute(&mut *transaction).await?;
        let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&partition)
            .fetch_one(&mut *transaction)
            .await?;
        if is_there {
            return Ok(None);
        }
        // ATTACH builds the indexes, after the rows.
        let create = format!(
            "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL EXCLUDING INDEXES \
             EXCLUDING IDENTITY)"
        );
        sqlx::query(sql(create)).execute(&mut *transaction).await?;
        let moved = self.move_rows(&mut transaction, month, &partition).await?;
        // Bounds take no parameters; both are dates that the server printed.
        let attach = format!(
            "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ('{}') TO ('{}')",
            month.from, month.to
        );
        sqlx::query(sql(attach)).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some(moved))
    }

    async fn move_rows(
        &self,
        conn: &mut PgConnection,
        month: &MonthPlan,
        partition: &str,
    ) -> Result<u64> {
        let Some((schema, table)) = &self.default else { return Ok(0) };
        let default = quote_qualified(schema, table);
        let lock = format!("LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(sql(lock)).execute(&mut *conn).await?;
        let columns: Vec<String> = self.columns.iter().map(|name| quote_ident(name)).collect();
        let columns = columns.join(", ");
        let column = quote_ident(&self.column);
        let statement = format!(
            "WITH moved AS (DELETE FROM {default} WHERE {column} >= '{}' AND {column} < '{}' \
             RETURNING {columns}) INSERT INTO {partition} ({columns}) SELECT {columns} FROM moved",
            month.from, month.to
        );
        Ok(sqlx::query(sql(statement)).execute(conn).await?.rows_affected())
    }
}
