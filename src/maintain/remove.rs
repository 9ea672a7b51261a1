//! Retention: rows older than a policy allows are removed, whole partitions where that is
//! possible, else a part at a time; what was removed is recorded for parity.

use serde::Serialize;
use sqlx::postgres::{PgConnection, PgTransaction};
use sqlx::{Connection as _, Row as _};

use super::wait::{LOCK_TIMEOUT, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::Pack;
use crate::pack::manifest::{RetentionManifest, StreamManifest};
use crate::pack::upkeep::{interval, split_table};
use crate::phase::Phase;
use crate::store::{quote_ident, quote_qualified, sql};

/// Rows removed in one transaction.
const ROWS_AT_ONCE: i64 = 5_000;

/// What one policy removes.
#[derive(Debug, Serialize)]
pub struct RetentionPlan {
    /// `schema.table`
    pub table: String,
    /// The column of time.
    pub column: String,
    /// How long rows are kept.
    pub keep: String,
    /// Rows before this are removed, as Postgres prints a timestamptz in UTC.
    pub cutoff: String,
    /// Why nothing is removed, if nothing is.
    pub held_back: Option<String>,
    /// Partitions whose rows are all before the cut-off.
    pub dropped: Vec<PartitionToDrop>,
    /// Rows before the cut-off in other places, when the plan was made.
    pub rows: u64,
    /// Rows that were removed, dropped partitions' included; 0 before it was applied.
    pub removed: u64,
    #[serde(skip)]
    parent: (String, String),
}

/// A partition that is dropped whole.
#[derive(Debug, Serialize)]
pub struct PartitionToDrop {
    /// Its name.
    pub partition: String,
    /// Its rows.
    pub rows: u64,
    #[serde(skip)]
    schema: String,
}

/// Counts what a policy would remove.
pub(super) async fn plan(
    conn: &mut PgConnection,
    pack: &Pack,
    declared: &RetentionManifest,
    phase: Phase,
) -> Result<RetentionPlan> {
    let (table, column) = (declared.table.get_ref(), declared.column.get_ref());
    let place = pack.place(declared.table.span().start);
    let wrong = |what: &str| Error::new(ErrorKind::Pack, format!("{place}: {table} {what}"));
    let (schema, name) = split_table(table).ok_or_else(|| wrong("is not `schema.table`"))?;
    let keep =
        interval(declared.keep.get_ref()).ok_or_else(|| wrong("has no time to keep rows for"))?;
    let known: Option<String> = sqlx::query_scalar(include_str!("../sql/maintain/time_column.sql"))
        .bind(schema)
        .bind(name)
        .bind(column)
        .bind(&keep)
        .fetch_optional(&mut *conn)
        .await?;
    let cutoff = known.ok_or_else(|| wrong(&format!("has no column {column} of time")))?;
    if !is_mapped(pack, table, column) {
        return Err(wrong(&format!(
            "is filled by a stream that has no value for {column}: parity could not tell which \
             records retention removed"
        ))
        .advice("map the column in that stream, or choose another one"));
    }
    let mut plan = RetentionPlan {
        table: table.clone(),
        column: column.clone(),
        keep: declared.keep.get_ref().clone(),
        cutoff,
        held_back: held_back(phase),
        dropped: Vec::new(),
        rows: 0,
        removed: 0,
        parent: (schema.to_owned(), name.to_owned()),
    };
    for (leaf, is_old) in plan.places(conn).await? {
        let held = plan.count(conn, &leaf, is_old).await?;
        if is_old {
            let (schema, partition) = leaf;
            plan.dropped.push(PartitionToDrop { partition, rows: held, schema });
        } else {
            plan.rows += held;
        }
    }
    Ok(plan)
}

/// In phase 3 a removal in Postgres would be written back to `SQLite`, and a rollback would have
/// lost rows.
fn held_back(phase: Phase) -> Option<String> {
    (phase == Phase::Cutover).then(|| {
        "nothing is removed in phase 3, so that a rollback loses nothing: run it again in phase 4"
            .to_owned()
    })
}

/// Whether every stream that fills the table maps the column. A stream without a mapping takes all
/// columns of the same name.
fn is_mapped(pack: &Pack, table: &str, column: &str) -> bool {
    let mut views = pack.manifest.streams.iter().flat_map(StreamManifest::views);
    views.all(|view| {
        view.target.get_ref() != table
            || view.columns.is_empty()
            || view.columns.contains_key(column)
    })
}

/// Removes what the plan says.
pub(super) async fn apply(
    conn: &mut PgConnection,
    pack: &str,
    run_id: &str,
    plan: &mut RetentionPlan,
    stop: &Stop,
) -> Result<()> {
    if plan.held_back.is_some() {
        return Ok(());
    }
    let removal = Removal { pack, run_id };
    for at in 0..plan.dropped.len() {
        let mut tries = 0;
        let dropped = loop {
            stop.check()?;
            match removal.drop_partition(conn, plan, &plan.dropped[at]).await {
                Ok(dropped) => break dropped,
                Err(error) => {
                    let what = format!("{}, {}", plan.table, plan.dropped[at].partition);
                    pause(&mut tries, &what, error, stop).await?;
                }
            }
        };
        if let Step::HeldBack = plan.count_step(&dropped) {
            return Ok(());
        }
        if let Step::Removed(rows) = dropped {
            plan.dropped[at].rows = rows;
        }
    }
    // Looked for anew: rows may have moved from DEFAULT to their months meanwhile.
    for (leaf, _) in plan.places(conn).await? {
        let mut tries = 0;
        loop {
            stop.check()?;
            let step = match removal.delete_some(conn, plan, &leaf).await {
                Ok(step) => step,
                Err(error) => {
                    pause(&mut tries, &plan.table.clone(), error, stop).await?;
                    continue;
                }
            };
            match plan.count_step(&step) {
                Step::HeldBack => return Ok(()),
                Step::Removed(0) => break,
                Step::Removed(_) => {}
            }
        }
    }
    Ok(())
}

/// What one transaction did.
#[derive(Debug, Clone, Copy)]
enum Step {
    Removed(u64),
    /// The pack was cut over meanwhile.
    HeldBack,
}

impl RetentionPlan {
    fn count_step(&mut self, step: &Step) -> Step {
        match step {
            Step::Removed(rows) => self.removed += rows,
            Step::HeldBack => self.held_back = held_back(Phase::Cutover),
        }
        *step
    }

    /// `column < cutoff`, the cut-off as $1.
    fn is_old(&self) -> String {
        format!("{} < $1::timestamptz", quote_ident(&self.column))
    }

    /// The tables that hold its rows, and whether all of theirs are before the cut-off.
    async fn places(&self, conn: &mut PgConnection) -> Result<Vec<((String, String), bool)>> {
        let rows = sqlx::query(include_str!("../sql/maintain/leaves.sql"))
            .bind(&self.parent.0)
            .bind(&self.parent.1)
            .bind(&self.column)
            .bind(&self.cutoff)
            .fetch_all(conn)
            .await?;
        rows.iter()
            .map(|row| {
                let leaf = (row.try_get("leaf_schema")?, row.try_get("leaf")?);
                Ok((leaf, row.try_get("is_old")?))
            })
            .collect()
    }

    async fn count(
        &self,
        conn: &mut PgConnection,
        (schema, name): &(String, String),
        whole: bool,
    ) -> Result<u64> {
        let table = quote_qualified(schema, name);
        let condition =
            if whole { "$1::timestamptz IS NOT NULL".to_owned() } else { self.is_old() };
        let statement = format!("SELECT count(*) FROM ONLY {table} WHERE {condition}");
        let rows: i64 =
            sqlx::query_scalar(sql(statement)).bind(&self.cutoff).fetch_one(conn).await?;
        Ok(rows.unsigned_abs())
    }
}

struct Removal<'a> {
    pack: &'a str,
    run_id: &'a str,
}

impl Removal<'_> {
    /// A transaction that keeps the phase as it is; None in phase 3.
    async fn begin<'c>(&self, conn: &'c mut PgConnection) -> Result<Option<PgTransaction<'c>>> {
        let mut transaction = conn.begin().await?;
        sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
        // After a rollback the fence of the targets lets only the toolkit write.
        sqlx::query("SET LOCAL toolkit.replay = 'on'").execute(&mut *transaction).await?;
        let phase: Option<i16> =
            sqlx::query_scalar("SELECT phase FROM toolkit.phase WHERE pack = $1 FOR SHARE")
                .bind(self.pack)
                .fetch_optional(&mut *transaction)
                .await?;
        let is_cut_over = phase == Some(Phase::Cutover.number());
        Ok((!is_cut_over).then_some(transaction))
    }

    async fn drop_partition(
        &self,
        conn: &mut PgConnection,
        plan: &RetentionPlan,
        old: &PartitionToDrop,
    ) -> Result<Step> {
        let Some(mut transaction) = self.begin(conn).await? else { return Ok(Step::HeldBack) };
        let parent = quote_qualified(&plan.parent.0, &plan.parent.1);
        let partition = quote_qualified(&old.schema, &old.partition);
        // In this order, as every writer has it.
        for lock in [format!("LOCK TABLE ONLY {parent}"), format!("LOCK TABLE {partition}")] {
            sqlx::query(sql(format!("{lock} IN ACCESS EXCLUSIVE MODE")))
                .execute(&mut *transaction)
                .await?;
        }
        let place = (old.schema.clone(), old.partition.clone());
        let rows = plan.count(&mut transaction, &place, true).await?;
        let statement = format!("DROP TABLE {partition}");
        sqlx::query(sql(statement)).execute(&mut *transaction).await?;
        self.record(&mut transaction, plan, rows, Some(&old.partition)).await?;
        transaction.commit().await?;
        Ok(Step::Removed(rows))
    }

    async fn delete_some(
        &self,
        conn: &mut PgConnection,
        plan: &RetentionPlan,
        (schema, name): &(String, String),
    ) -> Result<Step> {
        let Some(mut transaction) = self.begin(conn).await? else { return Ok(Step::HeldBack) };
        let table = quote_qualified(schema, name);
        // Rows that somebody works on are left to the next upkeep.
        let statement = format!(
            "DELETE FROM ONLY {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY {table} \
             WHERE {} LIMIT {ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED))",
            plan.is_old()
        );
        let rows = sqlx::query(sql(statement))
            .bind(&plan.cutoff)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if rows > 0 {
            self.record(&mut transaction, plan, rows, None).await?;
        }
        transaction.commit().await?;
        Ok(Step::Removed(rows))
    }

    /// One line per policy and run, and one per dropped partition.
    async fn record(
        &self,
        conn: &mut PgConnection,
        plan: &RetentionPlan,
        rows: u64,
        partition: Option<&str>,
    ) -> Result<()> {
        sqlx::query(include_str!("../sql/maintain/record_removed.sql"))
            .bind(self.pack)
            .bind(&plan.parent.0)
            .bind(&plan.parent.1)
            .bind(&plan.column)
            .bind(&plan.cutoff)
            .bind(&plan.keep)
            .bind(i64::try_from(rows).unwrap_or(i64::MAX))
            .bind(partition)
            .bind(self.run_id)
            .execute(conn)
            .await?;
        Ok(())
    }
}
