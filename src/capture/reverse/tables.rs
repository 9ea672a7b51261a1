//! The tables that rows are written back to, and their rows as the casts read them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::changes::{Candidate, field_at};
use super::file::{File, Shape, SourceRow, schema_version};
use crate::cast::{PgType, Stored, Value};
use crate::derive::{Derived, Deriver};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::OpenedPack;
use crate::pack::plan::{From, OutputPlan, SourceKind};
use crate::source::sqlite::Companion;
use crate::source::{Content, Locator, Position, SourceFile, SourceRecord};
use crate::store::quote_ident;

/// The newest rows in which the source's spelling of a column is looked for.
const SAMPLE_ROWS: u32 = 1000;

/// One table of one file, as one stream reads it.
#[derive(Debug)]
pub(super) struct SourceTable {
    /// Position of the stream in the plan.
    pub(super) stream: usize,
    /// Position in [`Tables::files`].
    pub(super) file: usize,
    pub(super) source: SourceFile,
    companion: Option<Companion>,
    pub(super) shape: Shape,
    /// What a column's values look like, by position.
    likes: HashMap<usize, Stored>,
}

/// Orphans that were stored as NULL, as (stream, source, locator, column): what the source has in
/// their place stays.
pub(super) type Orphans = HashSet<(String, String, String, String)>;

/// All files and tables that are written back to.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) files: Vec<File>,
    pub(super) of_streams: Vec<SourceTable>,
    pub(super) orphans: Arc<Orphans>,
}

impl Tables {
    /// Opens the files of every stream that is written back. Blocking.
    pub(super) fn open(opened: &OpenedPack, orphans: Arc<Orphans>) -> Result<Self> {
        let mut this = Self { files: Vec::new(), of_streams: Vec::new(), orphans };
        let mut known: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (stream, plan) in opened.plan.streams.iter().enumerate() {
            if !plan.is_reversed() {
                continue;
            }
            let SourceKind::Sqlite { table, .. } = &plan.source else { continue };
            let Some(found) = opened.discovered.streams.get(&plan.name) else {
                let what = format!("stream {}: its SQLite file was not found", plan.name);
                return Err(Error::new(ErrorKind::SourceMissing, what).advice(
                    "name the folder that holds it with --source: rows are written there",
                ));
            };
            for source in &found.files {
                let file = match known.get(&source.path) {
                    Some(file) => *file,
                    None => {
                        this.files.push(File::open(&source.path)?);
                        known.insert(source.path.clone(), this.files.len() - 1);
                        this.files.len() - 1
                    }
                };
                let shape = Shape::read(&this.files[file], table)?;
                if shape.rowid.is_none() && shape.key.is_empty() {
                    let what = format!("{}: the rows of {table} have no place", source.relative);
                    return Err(Error::new(ErrorKind::SourceUnreadable, what));
                }
                let companion = plan.companion.clone();
                let companion =
                    companion.map(|pattern| Companion { pattern, files: found.companions.clone() });
                let (source, likes) = (source.clone(), HashMap::new());
                this.of_streams.push(SourceTable { stream, file, source, companion, shape, likes });
            }
        }
        Ok(this)
    }

    /// Reads the shapes again of files whose schema changed.
    pub(super) fn refresh(&mut self) -> Result<()> {
        for table in &mut self.of_streams {
            let file = &self.files[table.file];
            if schema_version(file)? != table.shape.schema_version {
                table.shape = Shape::read(file, &table.shape.table)?;
                table.likes.clear();
            }
        }
        Ok(())
    }

    /// Triggers of the application on tables that are written back: they do not fire.
    pub(super) fn application_triggers(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for table in &self.of_streams {
            let names = self.files[table.file].strings(
                "SELECT name FROM sqlite_schema WHERE type = 'trigger' \
                 AND tbl_name = ?1 COLLATE NOCASE AND name NOT LIKE 'toolkit\\_%' ESCAPE '\\'",
                &table.shape.table,
            )?;
            let relative = &table.source.relative;
            found.extend(names.into_iter().map(|name| format!("{relative}: trigger {name}")));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The rows of a table whose key casts to the candidate's.
    pub(super) fn find(
        &self,
        at: usize,
        output: &OutputPlan,
        candidate: &Candidate,
    ) -> Result<Vec<SourceRow>> {
        let table = &self.of_streams[at];
        let mut conditions = Vec::new();
        let mut parameters = Vec::new();
        for (position, field) in output.key.iter().zip(&candidate.key) {
            let column = &output.columns[*position];
            let Some(From::Column(name)) = column.from.first() else { continue };
            let name = quote_ident(name);
            let mut marks = Vec::new();
            let mut or_null = "";
            for spelling in column.cast.spellings(field.get(4..), Value::Null) {
                if spelling == Stored::Null {
                    or_null = " IS NULL";
                    continue;
                }
                parameters.push(spelling);
                marks.push(format!("?{}", parameters.len()));
            }
            let listed = format!("{name} IN ({})", marks.join(", "));
            conditions.push(if or_null.is_empty() {
                listed
            } else {
                format!("({listed} OR {name}{or_null})")
            });
        }
        let condition =
            if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        let rows = table.shape.rows(&self.files[table.file], &condition, &parameters)?;
        Ok(rows.into_iter().filter(|row| self.has_key(at, output, candidate, row)).collect())
    }

    /// A collation may have found more than the key.
    fn has_key(&self, at: usize, output: &OutputPlan, key: &Candidate, row: &SourceRow) -> bool {
        let shape = &self.of_streams[at].shape;
        output.key.iter().zip(&key.key).all(|(position, field)| {
            let column = &output.columns[*position];
            let Some(From::Column(name)) = column.from.first() else { return true };
            let Some(value) = shape.column(name).map(|at| &row.values[at]) else { return false };
            let (mut out, mut notes) = (Vec::new(), Vec::new());
            column.cast.encode(value.value(), &mut out, &mut notes).is_ok()
                && column.cast.is_same(&out, field)
        })
    }

    /// The row's COPY fields as a backfill would store them; None: it would be refused.
    pub(super) fn derive(
        &self,
        opened: &OpenedPack,
        at: usize,
        row: &SourceRow,
    ) -> Result<Option<Vec<u8>>> {
        let table = &self.of_streams[at];
        let plan = &opened.plan.streams[table.stream];
        let mut deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
        let mut derived = Derived::default();
        let values = row.values();
        let names = &table.shape.names;
        let companion = match &table.companion {
            Some(companion) => companion.of(names, &values)?,
            None => None,
        };
        let record = SourceRecord {
            file: &table.source,
            locator: locator(row, &table.shape),
            position: Position::Ordinal(0),
            content: Content::Columns { names, values: &values, companion: companion.as_ref() },
        };
        deriver.derive(&record, &mut derived)?;
        let first = derived.rows.iter().find(|row| row.output == 0);
        Ok(first.map(|row| derived.fields(row).to_vec()))
    }

    /// Whether the column's NULL stands for what the row has there and led nowhere.
    pub(super) fn is_orphan(
        &self,
        opened: &OpenedPack,
        at: usize,
        row: &SourceRow,
        column: &str,
    ) -> bool {
        if self.orphans.is_empty() {
            return false;
        }
        let table = &self.of_streams[at];
        let stream = opened.plan.streams[table.stream].name.clone();
        let locator = locator(row, &table.shape).to_string();
        self.orphans.contains(&(stream, table.source.relative.clone(), locator, column.to_owned()))
    }

    /// What values of a column look like: the newest one that is not NULL, else one of the class
    /// that its declared type prefers.
    pub(super) fn like(&mut self, at: usize, column: usize, ty: &PgType) -> Result<Stored> {
        let table = &mut self.of_streams[at];
        if let Some(known) = table.likes.get(&column) {
            return Ok(known.clone());
        }
        let file = &self.files[table.file];
        let name = quote_ident(&table.shape.names[column]);
        let order =
            table.shape.rowid.map(|alias| format!(" ORDER BY {alias} DESC")).unwrap_or_default();
        let sql = format!(
            "SELECT c FROM (SELECT {name} AS c FROM main.{}{order} LIMIT {SAMPLE_ROWS}) \
             WHERE c IS NOT NULL LIMIT 1",
            quote_ident(&table.shape.table)
        );
        let found = file.connection.query_row(&sql, [], |row| {
            Ok(Stored::of(crate::source::sqlite::value_of(row.get_ref(0)?)))
        });
        let like = match found {
            Ok(found) => found.unwrap_or(Stored::Null),
            Err(rusqlite::Error::QueryReturnedNoRows) => preferred(&table.shape.types[column], ty),
            Err(error) => return Err(file.fault(error)),
        };
        table.likes.insert(column, like.clone());
        Ok(like)
    }
}

/// What a number is stored as where no row shows it: by the column's affinity
/// (<https://sqlite.org/datatype3.html>, 3.1).
fn preferred(declared: &str, ty: &PgType) -> Stored {
    let is_number = matches!(
        ty,
        PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Float4
            | PgType::Float8
            | PgType::Numeric(_)
    );
    let has = |part: &str| declared.contains(part);
    match () {
        () if !is_number => Stored::Null,
        () if has("INT") => Stored::Integer(0),
        () if has("CHAR") || has("CLOB") || has("TEXT") => Stored::Text(b"0".to_vec()),
        () if has("REAL") || has("FLOA") || has("DOUB") => Stored::Real(0.0),
        () => Stored::Null,
    }
}

fn locator(row: &SourceRow, shape: &Shape) -> Locator {
    match (shape.rowid, row.place.first()) {
        (Some(_), Some(Stored::Integer(id))) => Locator::Rowid(*id),
        _ => {
            let parts: Vec<String> =
                row.place.iter().map(|part| crate::derive::show_value(&part.value())).collect();
            Locator::Key(format!("({})", parts.join(", ")))
        }
    }
}

/// One COPY field of a tuple, length included.
pub(super) fn copy_field(tuple: &[u8], at: usize) -> Vec<u8> {
    match field_at(tuple, at) {
        None => (-1_i32).to_be_bytes().to_vec(),
        Some(bytes) => {
            let mut field = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes().to_vec();
            field.extend_from_slice(bytes);
            field
        }
    }
}
