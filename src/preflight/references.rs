//! Foreign keys of the target: whose rows would find no counterpart.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::canonical::{TupleReader, display_field, fields_of, sha256};
use crate::cast::PgType;
use crate::error::Result;
use crate::pack::plan::{OutputPlan, PackPlan};
use crate::preflight::keys::{Budget, KeySet, Short, short};
use crate::preflight::report::{Place, ReferenceCensus};
use crate::store::catalog::{Table, column_list};
use crate::store::quote_qualified;

/// Different values without a counterpart yet that are remembered until their stream ends.
const PENDING_MAX: usize = 100_000;

/// Every foreign key of the targets, and the keys they may lead to.
#[derive(Debug)]
pub(super) struct References {
    pub(super) budget: Budget,
    parents: Vec<Parent>,
    /// By stream and output.
    children: HashMap<(usize, usize), Vec<Child>>,
}

/// Keys of a referenced table: those in Postgres, and those derived so far.
#[derive(Debug)]
struct Parent {
    schema: String,
    table: String,
    columns: Vec<String>,
    types: Vec<PgType>,
    keys: KeySet,
    /// Outputs that feed it, with the positions of its columns.
    feeds: Vec<(usize, usize, Vec<usize>)>,
}

/// One foreign key of one output.
#[derive(Debug)]
struct Child {
    parent: usize,
    /// Positions of its columns in the output; None where one is not written.
    positions: Option<Vec<usize>>,
    /// Whether rows of the same stream, or of a later one, may be what it leads to.
    waits: bool,
    /// Whether rows of a later stream may be.
    waits_long: bool,
    /// Positions of the columns that are stored as NULL where it leads nowhere.
    nulled: Vec<usize>,
    pending: HashMap<Short, (u64, Place)>,
    census: ReferenceCensus,
}

/// What a row's references lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// One leads nowhere, and the row is refused: constraint and referenced table.
    pub(super) dangling: Option<String>,
    /// Positions of columns that lead nowhere and are stored as NULL.
    pub(super) nulled: Vec<usize>,
}

impl References {
    /// Reads the foreign keys of the chosen streams' targets and the keys already in Postgres.
    pub(super) async fn read(
        conn: &mut PgConnection,
        plan: &PackPlan,
        chosen: &[usize],
    ) -> Result<Self> {
        let mut this =
            Self { budget: Budget::new(), parents: Vec::new(), children: HashMap::new() };
        for stream in chosen {
            for (output, planned) in plan.streams[*stream].outputs.iter().enumerate() {
                let children = this.children_of(conn, plan, chosen, *stream, planned).await?;
                this.children.insert((*stream, output), children);
            }
        }
        for parent in &mut this.parents {
            parent.load(conn, &mut this.budget).await?;
        }
        Ok(this)
    }

    async fn children_of(
        &mut self,
        conn: &mut PgConnection,
        plan: &PackPlan,
        chosen: &[usize],
        stream: usize,
        output: &OutputPlan,
    ) -> Result<Vec<Child>> {
        let rows = sqlx::query(include_str!("../sql/catalog/foreign_keys.sql"))
            .bind(&output.table.schema)
            .bind(&output.table.name)
            .fetch_all(&mut *conn)
            .await?;
        let mut children = Vec::with_capacity(rows.len());
        for row in rows {
            let (schema, table): (String, String) =
                (row.try_get("target_schema")?, row.try_get("target_table")?);
            let columns: Vec<String> = row.try_get("columns")?;
            let target_columns: Vec<String> = row.try_get("target_columns")?;
            let Some(referenced) = Table::read(conn, &schema, &table).await? else { continue };
            let parent = self.parent(plan, chosen, &referenced, target_columns);
            let positions = positions(output, &columns);
            let feeds = &self.parents[parent].feeds;
            let waits = feeds.iter().any(|(feed, _, _)| *feed >= stream);
            let waits_long = feeds.iter().any(|(feed, _, _)| *feed > stream);
            let nulled: Vec<usize> = positions.iter().flatten().copied().collect();
            let nulled = nulled.into_iter().filter(|at| output.orphan_null.contains(at)).collect();
            children.push(Child {
                parent,
                waits,
                waits_long,
                nulled,
                pending: HashMap::new(),
                census: ReferenceCensus {
                    constraint: row.try_get("name")?,
                    target: referenced.display_name(),
                    found: 0,
                    nulls: 0,
                    dangling: crate::preflight::report::Counted::default(),
                    not_checked: 0,
                    not_checked_because: self.parents[parent].why_not(
                        output,
                        positions.as_deref(),
                        &columns,
                    ),
                    columns,
                },
                positions,
            });
        }
        Ok(children)
    }

    /// Position of the parent, made if it is new.
    fn parent(
        &mut self,
        plan: &PackPlan,
        chosen: &[usize],
        referenced: &Table,
        columns: Vec<String>,
    ) -> usize {
        let known = self.parents.iter().position(|parent| {
            parent.schema == referenced.schema
                && parent.table == referenced.name
                && parent.columns == columns
        });
        if let Some(known) = known {
            return known;
        }
        let mut feeds = Vec::new();
        for stream in chosen {
            for (at, output) in plan.streams[*stream].outputs.iter().enumerate() {
                let is_fed = output.table.schema == referenced.schema
                    && output.table.name == referenced.name;
                if let Some(positions) = positions(output, &columns).filter(|_| is_fed) {
                    feeds.push((*stream, at, positions));
                }
            }
        }
        let ty = |name: &String| {
            referenced
                .column(name)
                .map_or_else(|| PgType::Other(String::new()), |column| column.ty.clone())
        };
        self.parents.push(Parent {
            schema: referenced.schema.clone(),
            table: referenced.name.clone(),
            types: columns.iter().map(ty).collect(),
            columns,
            keys: KeySet::default(),
            feeds,
        });
        self.parents.len() - 1
    }

    /// Remembers the keys of a row that will be stored.
    pub(super) fn store(&mut self, stream: usize, output: usize, planned: &OutputPlan, row: &[u8]) {
        for parent in &mut self.parents {
            let feeds = parent.feeds.iter();
            let Some((_, _, positions)) =
                feeds.clone().find(|(s, o, _)| (*s, *o) == (stream, output))
            else {
                continue;
            };
            if let Some(key) = key_of(planned, positions, row) {
                parent.keys.insert(key, &mut self.budget);
            }
        }
    }

    /// Follows the references of a row.
    pub(super) fn follow(
        &mut self,
        stream: usize,
        output: usize,
        planned: &OutputPlan,
        row: &[u8],
        place: &dyn Fn() -> Place,
    ) -> Verdict {
        let Some(children) = self.children.get_mut(&(stream, output)) else {
            return Verdict::default();
        };
        let mut verdict = Verdict::default();
        // References that may still find their row come last: a row that is refused for another
        // one must not wait, and be counted a second time.
        children.sort_by_key(|child| child.waits);
        for child in children {
            if child.waits && verdict.dangling.is_some() {
                continue;
            }
            let parent = &self.parents[child.parent];
            let (Some(positions), None) = (&child.positions, &child.census.not_checked_because)
            else {
                child.census.not_checked += 1;
                continue;
            };
            let Some(key) = key_of(planned, positions, row) else {
                child.census.nulls += 1;
                continue;
            };
            if parent.keys.contains(&key) {
                child.census.found += 1;
            } else if parent.keys.is_partial {
                child.census.not_checked += 1;
            } else if !child.waits {
                child.census.dangling.add(place);
                if child.nulled.is_empty() {
                    verdict.dangling = Some(child.sentence());
                } else {
                    verdict.nulled.extend(&child.nulled);
                }
            } else {
                child.wait_for(key, place);
            }
        }
        verdict
    }

    /// Whether a stream's references can only be judged when later streams have been read.
    pub(super) fn waits_for_later(&self, stream: usize) -> bool {
        let children = self.children.iter().filter(|((s, _), _)| *s == stream);
        children.flat_map(|(_, children)| children).any(|child| child.waits_long)
    }

    /// Ends a stream: what still leads nowhere dangles. Returns, per output, its foreign keys and
    /// the rows that dangle only now, with a sentence and the first place.
    pub(super) fn finish(&mut self, stream: usize, output: usize) -> Finished {
        let children = self.children.remove(&(stream, output)).unwrap_or_default();
        let mut finished = Finished::default();
        for mut child in children {
            let keys = &self.parents[child.parent].keys;
            let pending: Vec<(Short, (u64, Place))> = child.pending.drain().collect();
            for (key, (count, place)) in pending {
                if keys.contains(&key) {
                    child.census.found += count;
                    continue;
                }
                child.census.dangling.count += count;
                let first = child.census.dangling.first.get_or_insert_with(|| place.clone());
                if place.locator < first.locator {
                    *first = place;
                }
            }
            if child.waits && child.census.dangling.count > 0 {
                let first = child.census.dangling.first.clone();
                let place =
                    first.unwrap_or(Place { source: String::new(), locator: String::new() });
                finished.late.push(Late {
                    rows: child.census.dangling.count,
                    first: place,
                    detail: child.sentence(),
                    nulled: child.nulled.clone(),
                });
            }
            finished.references.push(child.census);
        }
        finished
    }
}

/// The references of an output at the end of its stream.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) references: Vec<ReferenceCensus>,
    pub(super) late: Vec<Late>,
}

/// Rows of which one reference turned out to lead nowhere.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) rows: u64,
    pub(super) first: Place,
    pub(super) detail: String,
    /// Columns that are stored as NULL; none: the rows are refused.
    pub(super) nulled: Vec<usize>,
}

impl Child {
    fn sentence(&self) -> String {
        format!(
            "no row of {} has this ({}), neither from the sources nor in the database",
            self.census.target,
            self.census.columns.join(", ")
        )
    }

    fn wait_for(&mut self, key: Short, place: &dyn Fn() -> Place) {
        if let Some((count, _)) = self.pending.get_mut(&key) {
            *count += 1;
        } else if self.pending.len() < PENDING_MAX {
            self.pending.insert(key, (1, place()));
        } else {
            self.census.not_checked += 1;
        }
    }
}

impl Parent {
    /// Why a foreign key cannot be followed.
    fn why_not(
        &self,
        output: &OutputPlan,
        positions: Option<&[usize]>,
        columns: &[String],
    ) -> Option<String> {
        let Some(positions) = positions else {
            return Some(format!("({}) is not all mapped", columns.join(", ")));
        };
        let mut pairs = positions.iter().zip(&self.types);
        pairs
            .any(|(position, ty)| class(output.columns[*position].cast.ty()) != class(ty))
            .then(|| "its columns are of another type than those it leads to".to_owned())
    }

    /// Adds the keys that Postgres holds.
    async fn load(&mut self, conn: &mut PgConnection, budget: &mut Budget) -> Result<()> {
        let limit = budget.left();
        let names = column_list(self.columns.iter().map(String::as_str));
        let statement = format!(
            "COPY (SELECT {names} FROM {} LIMIT {}) TO STDOUT (FORMAT binary)",
            quote_qualified(&self.schema, &self.table),
            limit.saturating_add(1)
        );
        let mut stream = conn.copy_out_raw(&statement).await?;
        let mut reader = TupleReader::default();
        while let Some(piece) = stream.try_next().await? {
            reader.push(&piece);
            while let Some(tuple) = reader.next_tuple()? {
                let fields = fields_of(tuple);
                let fields = self.types.iter().zip(fields);
                let values: Option<Vec<(&PgType, &[u8])>> =
                    fields.map(|(ty, range)| range.map(|range| (ty, &tuple[range]))).collect();
                if let Some(values) = values {
                    self.keys.insert(digest(&values), budget);
                }
            }
        }
        Ok(())
    }
}

fn positions(output: &OutputPlan, columns: &[String]) -> Option<Vec<usize>> {
    columns.iter().map(|name| output.columns.iter().position(|c| c.name == *name)).collect()
}

/// Digest of some fields of a row; None where one is NULL.
fn key_of(output: &OutputPlan, positions: &[usize], row: &[u8]) -> Option<Short> {
    let fields = fields_of(row);
    let values: Option<Vec<(&PgType, &[u8])>> = positions
        .iter()
        .map(|at| Some((output.columns[*at].cast.ty(), &row[fields[*at].clone()?])))
        .collect();
    values.map(|values| digest(&values))
}

/// Types whose values are compared with one another.
fn class(ty: &PgType) -> String {
    match ty {
        PgType::Int2 | PgType::Int4 | PgType::Int8 => "integer".to_owned(),
        PgType::Text(_) => "text".to_owned(),
        PgType::Numeric(_) => "numeric".to_owned(),
        other => other.name(),
    }
}

/// Integers of all widths and numerics of all scales alike where they are equal.
fn digest(values: &[(&PgType, &[u8])]) -> Short {
    let mut text = Vec::with_capacity(64);
    for (ty, bytes) in values {
        let shown = match ty {
            PgType::Int2 | PgType::Int4 | PgType::Int8 => Some(display_field(ty, bytes)),
            PgType::Numeric(_) => Some(trimmed(display_field(ty, bytes))),
            _ => None,
        };
        let bytes = shown.as_ref().map_or(*bytes, String::as_bytes);
        text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        text.extend_from_slice(bytes);
    }
    short(&sha256(&text))
}

fn trimmed(mut text: String) -> String {
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}
