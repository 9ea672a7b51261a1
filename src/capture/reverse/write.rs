//! Writing the current rows of a batch into the files, in one transaction of each.

use std::collections::HashMap;

use super::changes::{Candidate, Item, Key, field_at};
use super::file::{SourceRow, bound, is_about_row, is_taken};
use super::tables::{Tables, copy_field};
use super::triggers::Target;
use crate::canonical::display_field;
use crate::cast::{PgType, Reverse, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::pack::plan::OutputPlan;
use crate::store::quote_ident;

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Inserted,
    Updated,
    Deleted,
    /// The file holds it already, or never held it.
    Unchanged,
    /// The file cannot hold it.
    Refused {
        stream: usize,
        reason: String,
        detail: String,
    },
    /// No stream that is written back has it.
    Foreign {
        reason: &'static str,
        detail: String,
    },
}

/// What became of an attempt.
#[derive(Debug, Default)]
pub(super) struct Attempted {
    /// Per item.
    pub(super) fates: Vec<Option<Fate>>,
    /// Per item: columns that Postgres holds otherwise, and that are not written, by stream.
    pub(super) left: Vec<Option<(usize, Vec<String>)>>,
    /// Keys outside of the batch whose rows hold unique values that rows of the batch need:
    /// nothing was kept.
    pub(super) crowded: Vec<(usize, Key)>,
}

/// One row to be written.
#[derive(Debug)]
struct Row<'i> {
    item: usize,
    table: usize,
    candidate: &'i Candidate,
    tuple: &'i [u8],
    /// The row that is there.
    found: Option<SourceRow>,
}

/// How writing one row ended.
enum Written {
    Done(Fate),
    /// Another row has its unique values.
    Taken(String),
}

/// Writes the items; everything or, where `is_trial` or something stands in the way, nothing.
/// Blocking.
pub(super) fn write(
    opened: &OpenedPack,
    targets: &[Target],
    tables: &mut Tables,
    items: &[Item],
    is_trial: bool,
) -> Result<Attempted> {
    let count = items.len();
    let attempted =
        Attempted { fates: vec![None; count], left: vec![None; count], crowded: Vec::new() };
    let mut writer = Writer { opened, targets, tables, items, attempted };
    let done = writer.run();
    let attempted = writer.attempted;
    let keep = done.is_ok() && attempted.crowded.is_empty() && !is_trial;
    for file in &mut tables.files {
        if keep { file.commit()? } else { file.rollback() }
    }
    done.map(|()| attempted)
}

struct Writer<'w> {
    opened: &'w OpenedPack,
    targets: &'w [Target],
    tables: &'w mut Tables,
    items: &'w [Item],
    attempted: Attempted,
}

impl<'w> Writer<'w> {
    fn output(&self, stream: usize) -> &'w OutputPlan {
        &self.opened.plan.streams[stream].outputs[0]
    }

    fn run(&mut self) -> Result<()> {
        self.begin()?;
        self.tables.refresh()?;
        let items = self.items;
        let mut found = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            self.attempted.fates[at] = foreign(item);
            found.push(self.find(item)?);
        }
        self.follow_moves(&mut found);
        for (at, item) in items.iter().enumerate() {
            if self.attempted.fates[at].is_none() && !item.is_present {
                self.delete(at, &found[at])?;
            }
        }
        let mut waiting = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if self.attempted.fates[at].is_none() && item.is_present {
                waiting.extend(self.rows(at, std::mem::take(&mut found[at]))?);
            }
        }
        // A unique value may be free once another row of the batch was written.
        loop {
            let before = waiting.len();
            let mut taken = Vec::new();
            for row in waiting {
                if let Written::Taken(_) = self.put(&row)? {
                    taken.push(row);
                }
            }
            waiting = taken;
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        self.exchange(waiting)
    }

    /// Begins to write in the files of the batch.
    fn begin(&mut self) -> Result<()> {
        let streams = self.items.iter().flat_map(|item| &item.candidates);
        let streams: Vec<usize> = streams.map(|candidate| candidate.stream).collect();
        for at in 0..self.tables.of_streams.len() {
            let (stream, file) =
                (self.tables.of_streams[at].stream, self.tables.of_streams[at].file);
            if streams.contains(&stream) {
                self.tables.files[file].begin()?;
            }
        }
        Ok(())
    }

    /// The rows of all files under the item's key, as (table, candidate, row).
    fn find(&self, item: &Item) -> Result<Vec<(usize, usize, SourceRow)>> {
        let mut found = Vec::new();
        for (number, candidate) in item.candidates.iter().enumerate() {
            let output = self.output(candidate.stream);
            for at in 0..self.tables.of_streams.len() {
                if self.tables.of_streams[at].stream == candidate.stream {
                    let rows = self.tables.find(at, output, candidate)?;
                    found.extend(rows.into_iter().map(|row| (at, number, row)));
                }
            }
        }
        Ok(found)
    }

    /// A row whose key changed is the row it was, with the columns that only the file has.
    fn follow_moves(&self, found: &mut [Vec<(usize, usize, SourceRow)>]) {
        let mut at: HashMap<(usize, &Key), usize> = HashMap::new();
        for (number, item) in self.items.iter().enumerate() {
            at.insert((item.target, &item.key), number);
        }
        for (number, item) in self.items.iter().enumerate() {
            let Some(was) = item.was.as_ref().filter(|_| item.is_present) else { continue };
            let Some(from) = at.get(&(item.target, was)).copied() else { continue };
            if found[number].is_empty() && !self.items[from].is_present {
                let stream =
                    |at: usize, candidate: usize| self.items[at].candidates[candidate].stream;
                let moved = std::mem::take(&mut found[from]);
                for (table, candidate, row) in moved {
                    let same = (0..item.candidates.len())
                        .find(|to| stream(number, *to) == stream(from, candidate));
                    match same {
                        Some(to) => found[number].push((table, to, row)),
                        None => found[from].push((table, candidate, row)),
                    }
                }
            }
        }
    }

    fn delete(&mut self, at: usize, found: &[(usize, usize, SourceRow)]) -> Result<()> {
        for (table, _, row) in found {
            self.remove(*table, row)?;
        }
        let fate = if found.is_empty() { Fate::Unchanged } else { Fate::Deleted };
        self.attempted.fates[at] = Some(fate);
        Ok(())
    }

    fn remove(&self, at: usize, row: &SourceRow) -> Result<()> {
        let table = &self.tables.of_streams[at];
        let file = &self.tables.files[table.file];
        let sql = format!(
            "DELETE FROM main.{} WHERE {}",
            quote_ident(&table.shape.table),
            table.shape.at_place(1)
        );
        file.connection.execute(&sql, bound(&row.place)).map_err(|error| file.fault(error))?;
        Ok(())
    }

    /// The rows to be written for an item: those that are there, in every file, or a new one in
    /// the first file of the first stream.
    fn rows(&mut self, at: usize, found: Vec<(usize, usize, SourceRow)>) -> Result<Vec<Row<'w>>> {
        let item = &self.items[at];
        let row = |table: usize, number: usize, found: Option<SourceRow>| {
            let candidate = &item.candidates[number];
            let tuple = candidate.tuple.as_deref()?;
            Some(Row { item: at, table, candidate, tuple, found })
        };
        if found.is_empty() {
            let stream = item.candidates[0].stream;
            let table = self.tables.of_streams.iter().position(|table| table.stream == stream);
            let Some(table) = table else {
                let what = format!("no file of stream {}", self.opened.plan.streams[stream].name);
                return Err(Error::new(ErrorKind::SourceMissing, what));
            };
            return Ok(row(table, 0, None).into_iter().collect());
        }
        Ok(found
            .into_iter()
            .filter_map(|(table, number, found)| row(table, number, Some(found)))
            .collect())
    }

    /// Writes one row and looks at what it is read as.
    fn put(&mut self, row: &Row<'w>) -> Result<Written> {
        let written = match self.changes(row)? {
            Err(fate) => Written::Done(fate),
            Ok(changes) => {
                let file = self.tables.of_streams[row.table].file;
                self.tables.files[file].run("SAVEPOINT toolkit_row")?;
                let written = self.change(row, &changes)?;
                let is_kept = matches!(
                    written,
                    Written::Done(Fate::Inserted | Fate::Updated | Fate::Unchanged)
                );
                self.tables.files[file].run(if is_kept {
                    "RELEASE toolkit_row"
                } else {
                    "ROLLBACK TO toolkit_row; RELEASE toolkit_row"
                })?;
                written
            }
        };
        if let Written::Done(fate) = &written {
            self.settle(row.item, fate.clone());
        }
        Ok(written)
    }

    /// Of several rows of one item, what is worse counts.
    fn settle(&mut self, item: usize, fate: Fate) {
        let known = &mut self.attempted.fates[item];
        let is_better = matches!(known, Some(Fate::Refused { .. }))
            || (matches!(known, Some(Fate::Updated)) && fate == Fate::Unchanged);
        if !is_better {
            *known = Some(fate);
        }
    }

    /// The columns that differ from what the file's row casts to today, as the file stores them.
    fn changes(&mut self, row: &Row<'w>) -> Result<Result<Vec<(usize, Stored)>, Fate>> {
        let stream = row.candidate.stream;
        let refused = |reason: &str, detail: String| {
            Ok(Err(Fate::Refused { stream, reason: reason.to_owned(), detail }))
        };
        let output = self.output(stream);
        let current = match &row.found {
            Some(found) => self.tables.derive(self.opened, row.table, found)?,
            None => None,
        };
        let ways = &self.opened.plan.streams[stream].way_back.columns;
        let mut changes = Vec::new();
        for (at, (column, way)) in output.columns.iter().zip(ways).enumerate() {
            let Some(name) = &way.source else { continue };
            let wanted = copy_field(row.tuple, at);
            if let (Some(current), Some(found)) = (&current, &row.found) {
                let held = copy_field(current, at);
                let is_kept = output.orphan_null.contains(&at)
                    && field_at(row.tuple, at).is_none()
                    && self.tables.is_orphan(self.opened, row.table, found, &column.name);
                if is_kept || column.cast.is_same(&held, &wanted) {
                    continue;
                }
            }
            let shape = &self.tables.of_streams[row.table].shape;
            let Some(place) = shape.column(name).filter(|place| shape.is_stored[*place]) else {
                return refused(
                    "no_column",
                    format!("the file's table has no column {name} to write"),
                );
            };
            let own = row.found.as_ref().map(|found| found.values[place].clone());
            let like = match own.filter(|value| *value != Stored::Null) {
                Some(own) => own,
                None => self.tables.like(row.table, place, column.cast.ty())?,
            };
            match column.cast.invert(field_at(row.tuple, at), like.value()) {
                Ok(stored) => changes.push((place, stored)),
                Err(refusal) => return refused(refusal.reason, refusal.detail),
            }
        }
        Ok(Ok(changes))
    }

    /// Writes the changes inside the savepoint of the row.
    fn change(&mut self, row: &Row<'w>, changes: &[(usize, Stored)]) -> Result<Written> {
        let stream = row.candidate.stream;
        let table = &self.tables.of_streams[row.table];
        let file = &self.tables.files[table.file];
        let values: Vec<Stored> = changes.iter().map(|(_, value)| value.clone()).collect();
        let names: Vec<String> =
            changes.iter().map(|(at, _)| quote_ident(&table.shape.names[*at])).collect();
        let name = quote_ident(&table.shape.table);
        let done = match &row.found {
            Some(_) if changes.is_empty() => Ok(1),
            Some(found) => {
                let set: Vec<String> = names
                    .iter()
                    .enumerate()
                    .map(|(at, name)| format!("{name} = ?{}", at + 1))
                    .collect();
                let place = table.shape.at_place(values.len() + 1);
                let sql =
                    format!("UPDATE OR ABORT main.{name} SET {} WHERE {place}", set.join(", "));
                let all: Vec<Stored> = values.iter().chain(&found.place).cloned().collect();
                file.connection.execute(&sql, bound(&all))
            }
            None if names.is_empty() => {
                let sql = format!("INSERT OR ABORT INTO main.{name} DEFAULT VALUES");
                file.connection.execute(&sql, [])
            }
            None => {
                let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
                let sql = format!(
                    "INSERT OR ABORT INTO main.{name} ({}) VALUES ({})",
                    names.join(", "),
                    marks.join(", ")
                );
                file.connection.execute(&sql, bound(&values))
            }
        };
        match done {
            Ok(_) => {}
            Err(error) if is_taken(&error) => return Ok(Written::Taken(error.to_string())),
            Err(error) if is_about_row(&error) => {
                let (reason, detail) = ("refused_by_sqlite".to_owned(), error.to_string());
                return Ok(Written::Done(Fate::Refused { stream, reason, detail }));
            }
            Err(error) => return Err(file.fault(error)),
        }
        if let Some(detail) = self.misread(row)? {
            let reason = "not_read_back".to_owned();
            return Ok(Written::Done(Fate::Refused { stream, reason, detail }));
        }
        Ok(Written::Done(match &row.found {
            None => Fate::Inserted,
            Some(_) if changes.is_empty() => Fate::Unchanged,
            Some(_) => Fate::Updated,
        }))
    }

    /// Reads the row as a backfill would and compares: why it is not the row of Postgres, in the
    /// columns that are written. Others that differ are noted.
    fn misread(&mut self, row: &Row<'w>) -> Result<Option<String>> {
        let stream = row.candidate.stream;
        let output = self.output(stream);
        let ways = &self.opened.plan.streams[stream].way_back.columns;
        let found = self.tables.find(row.table, output, row.candidate)?;
        let Some(found) = found.first() else {
            return Ok(Some("the row is not found by its key once it is written".to_owned()));
        };
        let Some(tuple) = self.tables.derive(self.opened, row.table, found)? else {
            return Ok(Some("a backfill would refuse the row as it would be written".to_owned()));
        };
        let mut left = Vec::new();
        for (at, (column, way)) in output.columns.iter().zip(ways).enumerate() {
            if column.cast.is_same(&copy_field(&tuple, at), &copy_field(row.tuple, at)) {
                continue;
            }
            let is_orphan = field_at(row.tuple, at).is_none()
                && self.tables.is_orphan(self.opened, row.table, found, &column.name);
            if is_orphan {
                continue;
            }
            if way.source.is_some() && way.strength.reverse != Reverse::None {
                return Ok(Some(format!(
                    "column {}: what SQLite keeps of it is read as another value",
                    column.name
                )));
            }
            left.push(column.name.clone());
        }
        self.attempted.left[row.item] = (!left.is_empty()).then_some((stream, left));
        Ok(None)
    }

    /// Rows that hold one another's unique values: all are taken out and put in again.
    fn exchange(&mut self, mut waiting: Vec<Row<'w>>) -> Result<()> {
        while !waiting.is_empty() {
            let files: Vec<usize> = (0..self.tables.files.len())
                .filter(|file| !self.tables.files[*file].connection.is_autocommit())
                .collect();
            for file in &files {
                self.tables.files[*file].run("SAVEPOINT toolkit_exchange")?;
            }
            let failed = self.exchange_once(&waiting)?;
            let end = if failed.is_some() {
                "ROLLBACK TO toolkit_exchange; RELEASE toolkit_exchange"
            } else {
                "RELEASE toolkit_exchange"
            };
            for file in &files {
                self.tables.files[*file].run(end)?;
            }
            let Some((at, fate)) = failed else { return Ok(()) };
            if !self.attempted.crowded.is_empty() {
                return Ok(());
            }
            let row = waiting.remove(at);
            self.settle(row.item, fate);
        }
        Ok(())
    }

    /// The first row that does not fit, and why.
    fn exchange_once(&mut self, waiting: &[Row<'w>]) -> Result<Option<(usize, Fate)>> {
        let mut planned = Vec::with_capacity(waiting.len());
        for (at, row) in waiting.iter().enumerate() {
            match self.changes(row)? {
                Err(fate) => return Ok(Some((at, fate))),
                Ok(changes) => planned.push(changes),
            }
        }
        for row in waiting {
            if let Some(found) = &row.found {
                self.remove(row.table, found)?;
            }
        }
        for (at, (row, changes)) in waiting.iter().zip(&planned).enumerate() {
            let shape = &self.tables.of_streams[row.table].shape;
            let mut whole: Vec<(usize, Stored)> = Vec::new();
            if let Some(found) = &row.found {
                let stored = (0..shape.names.len()).filter(|at| shape.is_stored[*at]);
                whole.extend(stored.map(|at| (at, found.values[at].clone())));
            }
            for (place, value) in changes {
                whole.retain(|(at, _)| at != place);
                whole.push((*place, value.clone()));
            }
            match self.insert_whole(row, &whole)? {
                Written::Done(Fate::Inserted) => {
                    let fate = if row.found.is_some() { Fate::Updated } else { Fate::Inserted };
                    self.settle(row.item, fate);
                }
                Written::Done(fate) => return Ok(Some((at, fate))),
                Written::Taken(detail) => {
                    self.find_holders(row, &whole)?;
                    let (stream, reason) = (row.candidate.stream, "unique".to_owned());
                    return Ok(Some((at, Fate::Refused { stream, reason, detail })));
                }
            }
        }
        Ok(None)
    }

    fn insert_whole(&mut self, row: &Row<'w>, whole: &[(usize, Stored)]) -> Result<Written> {
        let shape = &self.tables.of_streams[row.table].shape;
        let rowid = shape.rowid.filter(|_| shape.integer_key.is_none());
        let Some((alias, Some(found))) = rowid.map(|alias| (alias, &row.found)) else {
            let as_new = Row { found: None, ..*row };
            return self.change(&as_new, whole);
        };
        // The rowid is no column of the application's, yet rows are read in its order.
        let names: Vec<String> =
            whole.iter().map(|(at, _)| quote_ident(&shape.names[*at])).collect();
        let values: Vec<Stored> =
            found.place.iter().chain(whole.iter().map(|(_, value)| value)).cloned().collect();
        let marks: Vec<String> = (1..=values.len()).map(|at| format!("?{at}")).collect();
        let sql = format!(
            "INSERT OR ABORT INTO main.{} ({alias}, {}) VALUES ({})",
            quote_ident(&shape.table),
            names.join(", "),
            marks.join(", ")
        );
        let file = &self.tables.files[self.tables.of_streams[row.table].file];
        match file.connection.execute(&sql, bound(&values)) {
            Ok(_) => {}
            Err(error) if is_taken(&error) => return Ok(Written::Taken(error.to_string())),
            Err(error) if is_about_row(&error) => {
                let (stream, reason) = (row.candidate.stream, "refused_by_sqlite".to_owned());
                let detail = error.to_string();
                return Ok(Written::Done(Fate::Refused { stream, reason, detail }));
            }
            Err(error) => return Err(file.fault(error)),
        }
        Ok(Written::Done(match self.misread(row)? {
            None => Fate::Inserted,
            Some(detail) => Fate::Refused {
                stream: row.candidate.stream,
                reason: "not_read_back".to_owned(),
                detail,
            },
        }))
    }

    /// Rows outside of the batch that hold a unique value which `whole` needs: Postgres holds
    /// something else under their keys by now, or it would not have taken this row.
    fn find_holders(&mut self, row: &Row<'w>, whole: &[(usize, Stored)]) -> Result<()> {
        let table = &self.tables.of_streams[row.table];
        let output = self.output(row.candidate.stream);
        for unique in &table.shape.uniques {
            let mut parts = Vec::new();
            let mut values = Vec::new();
            for name in unique {
                let value = table.shape.column(name).and_then(|place| {
                    whole.iter().find(|(at, _)| *at == place).map(|(_, value)| value.clone())
                });
                let Some(value) = value.filter(|value| *value != Stored::Null) else { continue };
                values.push(value);
                parts.push(format!("{} = ?{}", quote_ident(name), values.len()));
            }
            if parts.len() < unique.len() {
                continue;
            }
            let file = &self.tables.files[table.file];
            for holder in table.shape.rows(file, &parts.join(" AND "), &values)? {
                let Some(tuple) = self.tables.derive(self.opened, row.table, &holder)? else {
                    continue;
                };
                let target = self.items[row.item].target;
                let key = key_texts(&self.targets[target], output, &tuple);
                let is_known =
                    self.items.iter().any(|item| item.target == target && item.key == key);
                if !is_known && !self.attempted.crowded.contains(&(target, key.clone())) {
                    self.attempted.crowded.push((target, key));
                }
            }
        }
        Ok(())
    }
}

/// The fate of a key that is nobody's, or not one row's.
fn foreign(item: &Item) -> Option<Fate> {
    let foreign = |reason, detail: &str| Some(Fate::Foreign { reason, detail: detail.to_owned() });
    if item.key.iter().any(Option::is_none) {
        return foreign("null_key", "the key is NULL, so no row can be found by it");
    }
    if item.rows > 1 {
        return foreign("duplicate_key", "Postgres holds several rows under the key");
    }
    if !item.candidates.is_empty() {
        return None;
    }
    if item.is_present {
        return foreign("not_reversible", "no stream that is written back has this row");
    }
    if item.is_old {
        return foreign("not_reversible", "deleted; no stream that is written back had this row");
    }
    Some(Fate::Unchanged)
}

/// The texts of the target's key columns, as the log has them.
fn key_texts(target: &Target, output: &OutputPlan, tuple: &[u8]) -> Key {
    target
        .key
        .iter()
        .map(|name| {
            let at = output.columns.iter().position(|column| column.name == *name)?;
            let (ty, field) = (output.columns[at].cast.ty(), field_at(tuple, at)?);
            // A boolean cast to text is a word.
            Some(match (ty, field) {
                (PgType::Bool, [0]) => "false".to_owned(),
                (PgType::Bool, _) => "true".to_owned(),
                _ => display_field(ty, field),
            })
        })
        .collect()
}
