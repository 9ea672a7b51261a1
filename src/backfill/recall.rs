//! Rows that were stored early and lead nowhere, taken out again with all that refers to them.
//!
//! Which rows those are is found in the target, from foreign key to foreign key. The records they
//! came from are read once more, so that each can be judged, and if need be refused, with its
//! place: they go to `toolkit.held_row` as if they had waited there from the beginning. All of it
//! is one transaction.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::chunk::{Chunk, ChunkLimits, RowRef, read_chunk};
use super::early::{EARLY, forward_positions, hold};
use super::held::{self, Settling, WAITING};
use super::merge::{judged, key_match};
use super::orphans::{ORPHAN, positions};
use super::stage::{create_stage, fill_stage};
use super::ties::loose_positions;
use super::write::{Place, SETTINGS, Scene};
use crate::canonical::Digest;
use crate::derive::Deriver;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::join_error;
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::{OutputPlan, PackPlan};
use crate::source::{Position, StreamSource};
use crate::store::catalog::column_list;
use crate::store::{quote_ident, quote_qualified, sql};

/// Takes out every row of the run that is still marked as stored early, and what refers to it.
pub(super) async fn call_back(conn: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
    let plan = &settling.preparation.opened.plan;
    let tables: Vec<Doomed<'_>> = plan
        .streams
        .iter()
        .enumerate()
        .filter_map(|(stream, of)| match of.outputs.as_slice() {
            [output] if !output.is_content => Some(Doomed { stream, output }),
            _ => None,
        })
        .collect();
    let mut tx = conn.begin().await?;
    let settings = format!("{SETTINGS}; SET CONSTRAINTS ALL DEFERRED");
    sqlx::raw_sql(sql(settings)).execute(&mut *tx).await?;
    for table in &tables {
        table.create(&mut tx).await?;
    }
    for table in &tables {
        table.seed(&mut tx, settling).await?;
    }
    while spread(&mut tx, &tables).await? > 0 {}
    for table in &tables {
        table.hold_records(&mut tx, settling).await?;
    }
    for table in &tables {
        table.loosen(&mut tx, settling).await?;
    }
    let mut left: Vec<&Doomed<'_>> = tables.iter().collect();
    while let Some(at) = next_to_go(plan, &left) {
        left.remove(at).take_out(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The table that no other one refers to any more, once circles are open.
fn next_to_go(plan: &PackPlan, left: &[&Doomed<'_>]) -> Option<usize> {
    let is_free = |parent: &&Doomed<'_>| {
        let table = &parent.output.table;
        !left.iter().filter(|child| child.stream != parent.stream).any(|child| {
            let loose = child.loose(plan);
            child.output.table.foreign_keys.iter().any(|key| {
                let is_open = positions(child.output, &key.columns)
                    .is_some_and(|own| own.iter().any(|at| loose.contains(at)));
                !is_open && table.schema == key.parent_schema && table.name == key.parent
            })
        })
    };
    left.iter().position(is_free).or_else(|| left.len().checked_sub(1))
}

/// The rows of one stream's table that have to go, by key, in a temporary table.
struct Doomed<'p> {
    stream: usize,
    output: &'p OutputPlan,
}

impl Doomed<'_> {
    fn name(&self) -> String {
        format!("pg_temp.toolkit_doomed_{}", self.stream)
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.output.key.iter().map(|at| self.output.columns[*at].name.as_str())
    }

    /// `a.key = b.key`, for all columns of the key.
    fn same(&self, a: &str, b: &str) -> String {
        let pairs = self.keys().map(|name| {
            let name = quote_ident(name);
            format!("{a}.{name} = {b}.{name}")
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    async fn create(&self, tx: &mut PgConnection) -> Result<()> {
        let (name, keys) = (self.name(), column_list(self.keys()));
        let temporary = name.trim_start_matches("pg_temp.");
        let statement = format!(
            "CREATE TEMP TABLE {temporary} ON COMMIT DROP AS \
             SELECT {keys}, false AS toolkit_is_held FROM {} WHERE false; \
             ALTER TABLE {name} ADD UNIQUE ({keys})",
            self.output.table.sql_name()
        );
        sqlx::raw_sql(sql(statement)).execute(tx).await?;
        Ok(())
    }

    /// Those that were stored early, and wait now.
    async fn seed(&self, tx: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
        let keys: Vec<String> =
            self.keys().map(|name| format!("t.{}", quote_ident(name))).collect();
        for group in settling.groups(&mut *tx, EARLY).await? {
            if group.stream != self.stream {
                continue;
            }
            let place = settling.place(&group);
            let mut last = 0;
            while let Some(page) = settling.page(&mut *tx, &group, EARLY, last).await? {
                last = page.ids.last().copied().unwrap_or(i64::MAX);
                create_stage(&mut *tx, self.output).await?;
                let rows = page.rows(&group, &|_| Vec::new());
                let stage = fill_stage(&mut *tx, self.output, &rows, &rows.rows).await?;
                let statement = format!(
                    "INSERT INTO {} SELECT {}, true FROM {stage} AS s JOIN {} AS t ON {} \
                     ON CONFLICT DO NOTHING",
                    self.name(),
                    keys.join(", "),
                    self.output.table.sql_name(),
                    key_match(self.output)
                );
                sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?;
                sqlx::query(
                    "UPDATE toolkit.held_row SET state = CASE WHEN reason = $2 THEN 'waiting' \
                     ELSE 'refused' END WHERE id = ANY($1)",
                )
                .bind(&page.ids)
                .bind(ORPHAN)
                .execute(&mut *tx)
                .await?;
                self.count_as_held(&mut *tx, &place, page.ids.len() as u64).await?;
            }
        }
        Ok(())
    }

    async fn count_as_held(
        &self,
        tx: &mut PgConnection,
        place: &Place<'_>,
        rows: u64,
    ) -> Result<()> {
        let mut counts = held::chunk_counts(&mut *tx, place).await?;
        hold(&mut counts.records, rows);
        held::set_counts(tx, place, &counts).await
    }

    /// Reads the stream's records again, and holds those whose rows have to go.
    async fn hold_records(&self, tx: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
        let opened = &settling.preparation.opened;
        let mut left = self.left(tx).await?;
        // First those that are stored as they are derived; then the others.
        for is_exact in [true, false] {
            if left == 0 {
                return Ok(());
            }
            for source in opened.open_sources(self.stream)? {
                let mut source = Some(source);
                for part in parts(tx, settling, self.stream, source.as_ref()).await? {
                    if left == 0 {
                        return Ok(());
                    }
                    left -= self.hold_part(tx, settling, &mut source, part, is_exact).await?;
                }
            }
        }
        if left == 0 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::SourceChanged,
            format!(
                "{left} rows of {} refer to rows that cannot stay, and their records are no longer \
                 in the source",
                self.output.table.display_name()
            ),
        )
        .advice("let the source rest, or read a copy with --snapshot, and start with --restart"))
    }

    async fn left(&self, tx: &mut PgConnection) -> Result<u64> {
        let statement = format!("SELECT count(*) FROM {} WHERE NOT toolkit_is_held", self.name());
        let left: i64 = sqlx::query_scalar(sql(statement)).fetch_one(tx).await?;
        Ok(u64::try_from(left).unwrap_or(0))
    }

    async fn hold_part(
        &self,
        tx: &mut PgConnection,
        settling: &Settling<'_>,
        source: &mut Option<StreamSource>,
        part: Part,
        is_exact: bool,
    ) -> Result<u64> {
        let group = part.group(self.stream);
        let place = settling.place(&group);
        let (mut from, mut records, mut held) = (part.from, part.records, 0);
        while records > 0 {
            settling.stop.check()?;
            let Some(taken) = source.take() else { break };
            let opened = Arc::clone(&settling.preparation.opened);
            let stream = self.stream;
            let limits = ChunkLimits { records_max: records, ..ChunkLimits::default() };
            let after = from.take();
            let (back, chunk) = tokio::task::spawn_blocking(move || {
                let mut source = taken;
                let redactor = Arc::clone(&opened.redactor);
                let mut deriver = Deriver::new(&opened.plan.streams[stream], redactor);
                let chunk =
                    read_chunk(&mut source, after.as_ref(), None, &mut deriver, limits, &|| false);
                (source, chunk)
            })
            .await
            .map_err(join_error)?;
            *source = Some(back);
            let chunk = chunk?;
            records -= chunk.records.len().min(records);
            from.clone_from(&chunk.next);
            held += self.hold_rows(tx, &place, &chunk, is_exact).await?;
            if from.is_none() {
                break;
            }
        }
        if held > 0 {
            self.count_as_held(tx, &place, held).await?;
        }
        Ok(held)
    }

    async fn hold_rows(
        &self,
        tx: &mut PgConnection,
        place: &Place<'_>,
        chunk: &Chunk,
        is_exact: bool,
    ) -> Result<u64> {
        let rows = &chunk.outputs[0];
        if rows.rows.is_empty() {
            return Ok(0);
        }
        create_stage(&mut *tx, self.output).await?;
        let stage = fill_stage(&mut *tx, self.output, rows, &rows.rows).await?;
        let exact = if is_exact {
            let judged = judged(self.output, ConflictRule::TargetWins, &stage);
            format!("AND s.toolkit_ord IN (SELECT ord FROM ({judged}) AS j WHERE class = 'same')")
        } else {
            String::new()
        };
        let statement = format!(
            "SELECT s.toolkit_ord AS ord FROM {stage} AS s JOIN {} AS t ON {} \
             WHERE NOT t.toolkit_is_held {exact} ORDER BY 1",
            self.name(),
            key_match(self.output)
        );
        let mut chosen: Vec<RowRef> = Vec::new();
        let mut met: HashSet<Digest> = HashSet::new();
        for row in sqlx::query(sql(statement)).fetch_all(&mut *tx).await? {
            let at = usize::try_from(row.try_get::<i32, _>("ord")?).unwrap_or(usize::MAX);
            let Some(row) = rows.rows.get(at) else { continue };
            if met.insert(self.output.layout.key_digest(rows.fields(row))) {
                chosen.push(*row);
            }
        }
        if chosen.is_empty() {
            return Ok(0);
        }
        let scene = Scene { stream: place.stream, index: 0, chunk };
        held::store(tx, place, &scene, &chosen, WAITING).await?;
        let stage = fill_stage(&mut *tx, self.output, rows, &chosen).await?;
        let statement = format!(
            "UPDATE {} AS t SET toolkit_is_held = true FROM {stage} AS s WHERE {}",
            self.name(),
            key_match(self.output)
        );
        sqlx::raw_sql(sql(statement)).execute(tx).await?;
        Ok(chosen.len() as u64)
    }

    /// Positions of references that may be NULL meanwhile.
    fn loose(&self, plan: &PackPlan) -> Vec<usize> {
        let mut positions = forward_positions(plan, self.stream);
        positions.extend(loose_positions(self.output));
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// Opens the circles, so that rows can go one table after the other.
    async fn loosen(&self, tx: &mut PgConnection, settling: &Settling<'_>) -> Result<()> {
        let positions = self.loose(&settling.preparation.opened.plan);
        if positions.is_empty() {
            return Ok(());
        }
        let name = |at: &usize| quote_ident(&self.output.columns[*at].name);
        let sets: Vec<String> = positions.iter().map(|at| format!("{} = NULL", name(at))).collect();
        let given: Vec<String> =
            positions.iter().map(|at| format!("t.{} IS NOT NULL", name(at))).collect();
        let statement = format!(
            "UPDATE {} AS t SET {} FROM {} AS d WHERE {} AND ({})",
            self.output.table.sql_name(),
            sets.join(", "),
            self.name(),
            self.same("t", "d"),
            given.join(" OR ")
        );
        sqlx::raw_sql(sql(statement)).execute(tx).await?;
        Ok(())
    }

    async fn take_out(&self, tx: &mut PgConnection) -> Result<()> {
        let statement = format!(
            "DELETE FROM {} AS t USING {} AS d WHERE {}",
            self.output.table.sql_name(),
            self.name(),
            self.same("t", "d")
        );
        sqlx::raw_sql(sql(statement)).execute(tx).await.map_err(Error::from).map_err(|error| {
            error.context(format!(
                "rows of {} that refer to rows that are not there",
                self.output.table.display_name()
            ))
        })?;
        Ok(())
    }
}

/// Adds the rows that refer to those that have to go; how many.
async fn spread(tx: &mut PgConnection, tables: &[Doomed<'_>]) -> Result<u64> {
    let mut found = 0;
    for child in tables {
        for key in &child.output.table.foreign_keys {
            for parent in tables.iter().filter(|parent| {
                let table = &parent.output.table;
                table.schema == key.parent_schema && table.name == key.parent
            }) {
                let columns: Vec<String> = child
                    .output
                    .key
                    .iter()
                    .map(|at| format!("c.{}", quote_ident(&child.output.columns[*at].name)))
                    .collect();
                let leads: Vec<String> = key
                    .columns
                    .iter()
                    .zip(&key.parent_columns)
                    .map(|(own, other)| {
                        format!("c.{} = p.{}", quote_ident(own), quote_ident(other))
                    })
                    .collect();
                let statement = format!(
                    "INSERT INTO {} SELECT DISTINCT {}, false FROM {} AS d JOIN {} AS p ON {} \
                     JOIN {} AS c ON {} ON CONFLICT DO NOTHING",
                    child.name(),
                    columns.join(", "),
                    parent.name(),
                    quote_qualified(&key.parent_schema, &key.parent),
                    parent.same("p", "d"),
                    child.output.table.sql_name(),
                    leads.join(" AND ")
                );
                found += sqlx::raw_sql(sql(statement)).execute(&mut *tx).await?.rows_affected();
            }
        }
    }
    Ok(found)
}

/// A chunk that is done, to be read again.
struct Part {
    source: String,
    span: i32,
    chunk_no: i64,
    from: Option<Position>,
    records: usize,
}

impl Part {
    fn group(&self, stream: usize) -> held::Group {
        held::Group::of(stream, &self.source, self.span, self.chunk_no)
    }
}

async fn parts(
    tx: &mut PgConnection,
    settling: &Settling<'_>,
    stream: usize,
    source: Option<&StreamSource>,
) -> Result<Vec<Part>> {
    let Some(source) = source else { return Ok(Vec::new()) };
    let rows = sqlx::query(
        "SELECT span, chunk_no, range_from::text AS range_from, rows_read FROM toolkit.chunk \
         WHERE run_id = $1::uuid AND stream = $2 AND source = $3 AND status = 'done' \
         ORDER BY span, chunk_no",
    )
    .bind(settling.run_id)
    .bind(&settling.preparation.opened.plan.streams[stream].name)
    .bind(source.name())
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let from: Option<String> = row.try_get("range_from")?;
            let from = from.map(|text| serde_json::from_str(&text)).transpose().map_err(|e| {
                Error::new(ErrorKind::Bug, "a stored position cannot be read").because(e)
            })?;
            let records: Option<i64> = row.try_get("rows_read")?;
            Ok(Part {
                source: source.name().to_owned(),
                span: row.try_get("span")?,
                chunk_no: row.try_get("chunk_no")?,
                from,
                records: usize::try_from(records.unwrap_or(0)).unwrap_or(0),
            })
        })
        .collect()
}
