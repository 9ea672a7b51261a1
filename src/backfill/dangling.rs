//! Which of the rows left over are orphans: judged over all of them at once, in Postgres.
//!
//! The rows that can be stored are the greatest set in which every reference leads to a row of the
//! target or of the set itself; it is found by taking out, again and again, what leads nowhere.
//! Rows that lead to one another thus keep each other, in whatever order they came.

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::held::{Group, Settling};
use super::merge::send;
use super::orphans::{missing, positions};
use crate::canonical::fields_of;
use crate::cast::PgType;
use crate::error::Result;
use crate::pack::plan::OutputPlan;
use crate::store::catalog::ForeignKey;
use crate::store::{quote_ident, quote_qualified, sql};

/// Keys and references of the held rows of one output, in a temporary table.
struct Stage<'p> {
    stream: usize,
    index: usize,
    output: &'p OutputPlan,
    /// Positions of the columns it holds.
    columns: Vec<usize>,
}

impl Stage<'_> {
    fn name(&self) -> String {
        format!("pg_temp.toolkit_held_{}_{}", self.stream, self.index)
    }

    fn value(&self, alias: &str, position: usize) -> String {
        let column = &self.output.columns[position];
        let name = format!("{alias}.{}", quote_ident(&column.name));
        match column.cast.ty() {
            PgType::Other(ty) => format!("{name}::{ty}"),
            _ => name,
        }
    }
}

/// Marks the orphans among the waiting rows: to be refused, or to be stored with NULL. Returns how
/// many there are.
pub(super) async fn judge(
    conn: &mut PgConnection,
    settling: &Settling<'_>,
    groups: &[Group],
) -> Result<u64> {
    let plan = &settling.preparation.opened.plan;
    let mut stages: Vec<Stage<'_>> = Vec::new();
    for group in groups {
        if stages.iter().any(|s| (s.stream, s.index) == (group.stream, group.output)) {
            continue;
        }
        let output = &plan.streams[group.stream].outputs[group.output];
        stages.push(Stage {
            stream: group.stream,
            index: group.output,
            output,
            columns: Vec::new(),
        });
    }
    choose_columns(&mut stages);
    let mut tx = conn.begin().await?;
    for stage in &stages {
        fill(&mut tx, settling, stage, groups).await?;
    }
    let mut total = 0;
    loop {
        let mut found = derived_without_record(&mut tx, settling, &stages).await?;
        for stage in &stages {
            for key in stage.output.table.foreign_keys.iter().filter(|key| key.simple) {
                found += mark(&mut tx, &stages, stage, key).await?;
            }
        }
        total += found;
        if found == 0 {
            break;
        }
    }
    for stage in &stages {
        let drop = format!("DROP TABLE {}", stage.name());
        sqlx::raw_sql(sql(drop)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(total)
}

/// What foreign keys start from in each output, and what those of all outputs lead to.
fn choose_columns(stages: &mut [Stage<'_>]) {
    let mut wanted: Vec<(String, String, Vec<String>)> = Vec::new();
    for stage in stages.iter() {
        for key in stage.output.table.foreign_keys.iter().filter(|key| key.simple) {
            let table = &stage.output.table;
            wanted.push((table.schema.clone(), table.name.clone(), key.columns.clone()));
            let parent = (key.parent_schema.clone(), key.parent.clone());
            wanted.push((parent.0, parent.1, key.parent_columns.clone()));
        }
    }
    for stage in stages {
        for (schema, table, columns) in &wanted {
            if *schema == stage.output.table.schema && *table == stage.output.table.name {
                stage.columns.extend(positions(stage.output, columns).unwrap_or_default());
            }
        }
        stage.columns.sort_unstable();
        stage.columns.dedup();
    }
}

/// Creates the table of an output and fills it page by page.
async fn fill(
    tx: &mut PgConnection,
    settling: &Settling<'_>,
    stage: &Stage<'_>,
    groups: &[Group],
) -> Result<()> {
    let mut columns = vec!["toolkit_id int8".to_owned()];
    let mut names = vec!["toolkit_id".to_owned()];
    for position in &stage.columns {
        let column = &stage.output.columns[*position];
        let ty = match (column.cast.ty(), stage.output.catalog_column(*position)) {
            (PgType::Other(_), _) | (_, None) => "text".to_owned(),
            (_, Some(catalog)) => catalog.declared_type.clone(),
        };
        names.push(quote_ident(&column.name));
        columns.push(format!("{} {ty}", quote_ident(&column.name)));
    }
    let name = stage.name();
    let temporary = name.trim_start_matches("pg_temp.").to_owned();
    let create = format!("CREATE TEMP TABLE {temporary} ({})", columns.join(", "));
    sqlx::raw_sql(sql(create)).execute(&mut *tx).await?;
    let copy = format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let count = i16::try_from(names.len()).unwrap_or(i16::MAX).to_be_bytes();
    for group in groups.iter().filter(|g| (g.stream, g.output) == (stage.stream, stage.index)) {
        let mut last = 0;
        while let Some(page) = settling.page(&mut *tx, group, "all", last).await? {
            last = page.ids.last().copied().unwrap_or(i64::MAX);
            let rows = page.rows(group, &|_| Vec::new());
            let tuples: Vec<Vec<u8>> = rows
                .rows
                .iter()
                .zip(&page.ids)
                .map(|(row, id)| numbered(*id, rows.fields(row), &stage.columns))
                .collect();
            let tuples = tuples.iter().map(|tuple| (count, None, tuple.as_slice()));
            send(&mut *tx, &copy, tuples).await?;
        }
    }
    sqlx::raw_sql(sql(format!("ANALYZE {name}"))).execute(tx).await?;
    Ok(())
}

/// COPY fields: the row's number, then some of its fields.
fn numbered(id: i64, tuple: &[u8], positions: &[usize]) -> Vec<u8> {
    let mut fields = Vec::with_capacity(64);
    fields.extend_from_slice(&8_i32.to_be_bytes());
    fields.extend_from_slice(&id.to_be_bytes());
    let ranges = fields_of(tuple);
    for position in positions {
        match &ranges[*position] {
            None => fields.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(range) => fields.extend_from_slice(&tuple[range.start - 4..range.end]),
        }
    }
    fields
}

/// Takes out what one foreign key leads nowhere, and marks it.
async fn mark(
    tx: &mut PgConnection,
    stages: &[Stage<'_>],
    stage: &Stage<'_>,
    key: &ForeignKey,
) -> Result<u64> {
    let Some(own) = positions(stage.output, &key.columns) else { return Ok(0) };
    let mut conditions: Vec<String> =
        own.iter().map(|at| format!("{} IS NOT NULL", stage.value("s", *at))).collect();
    let pairs = |alias: &str, parents: &[String]| -> String {
        let parts: Vec<String> = parents
            .iter()
            .zip(&own)
            .map(|(parent, at)| format!("{alias}{parent} = {}", stage.value("s", *at)))
            .collect();
        parts.join(" AND ")
    };
    let columns: Vec<String> = key.parent_columns.iter().map(|name| quote_ident(name)).collect();
    let parent = quote_qualified(&key.parent_schema, &key.parent);
    let there = pairs("p.", &columns);
    conditions.push(format!("NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE {there})"));
    for other in stages {
        let table = &other.output.table;
        if table.schema != key.parent_schema || table.name != key.parent {
            continue;
        }
        if let Some(columns) = positions(other.output, &key.parent_columns) {
            let columns: Vec<String> = columns.iter().map(|at| other.value("o", *at)).collect();
            let name = other.name();
            let there = pairs("", &columns);
            conditions.push(format!("NOT EXISTS (SELECT 1 FROM {name} AS o WHERE {there})"));
        }
    }
    let name = stage.name();
    let conditions = conditions.join(" AND ");
    let nulled: Vec<usize> =
        own.iter().copied().filter(|at| stage.output.orphan_null.contains(at)).collect();
    if nulled.is_empty() {
        let statement = format!(
            "WITH gone AS (DELETE FROM {name} AS s WHERE {conditions} RETURNING s.toolkit_id) \
             UPDATE toolkit.held_row AS h SET state = 'refused', reason = $1, detail = $2 \
             FROM gone WHERE h.id = gone.toolkit_id"
        );
        let why = missing(key);
        let query = sqlx::query(sql(statement)).bind(why.reason).bind(why.detail);
        return Ok(query.execute(tx).await?.rows_affected());
    }
    let sets: Vec<String> = nulled
        .iter()
        .map(|at| format!("{} = NULL", quote_ident(&stage.output.columns[*at].name)))
        .collect();
    let numbers: Vec<i32> = nulled.iter().filter_map(|at| i32::try_from(*at).ok()).collect();
    let statement = format!(
        "WITH freed AS (UPDATE {name} AS s SET {} WHERE {conditions} RETURNING s.toolkit_id) \
         UPDATE toolkit.held_row AS h SET nulled = h.nulled || $1::int4[] \
         FROM freed WHERE h.id = freed.toolkit_id",
        sets.join(", ")
    );
    Ok(sqlx::query(sql(statement)).bind(numbers).execute(tx).await?.rows_affected())
}

/// Takes out rows whose record's own row was taken out: they go with it.
async fn derived_without_record(
    tx: &mut PgConnection,
    settling: &Settling<'_>,
    stages: &[Stage<'_>],
) -> Result<u64> {
    let mut found = 0;
    for stage in stages.iter().filter(|stage| stage.index > 0) {
        let statement = format!(
            "DELETE FROM {} AS s USING toolkit.held_row AS d, toolkit.held_row AS m \
             WHERE d.id = s.toolkit_id AND m.run_id = d.run_id AND m.stream = d.stream \
             AND m.source = d.source AND m.span = d.span AND m.chunk_no = d.chunk_no \
             AND m.record = d.record \
             AND m.output = 0 AND m.state = 'refused' AND m.run_id = $1::uuid",
            stage.name()
        );
        let query = sqlx::query(sql(statement)).bind(settling.run_id);
        found += query.execute(&mut *tx).await?.rows_affected();
    }
    Ok(found)
}
