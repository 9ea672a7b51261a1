//! From a parsed pack and a live catalog to typed plans.

mod slices;
mod source_columns;

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use toml::Spanned;

use self::slices::Slices;
use self::source_columns::{forgotten_columns, list, missing_columns};
use crate::canonical::Layout;
use crate::cast::redact::Redactor;
use crate::cast::{CastOptions, ColumnCast, PgType, Policy, Value};
use crate::derive::Corrections;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::fault::{Fault, first_error};
use crate::pack::manifest::{
    ColumnManifest, Columns, ConflictRule, OneOrMany, OutputView, StreamManifest,
};
use crate::pack::order::copy_order;
use crate::pack::plan::{From, OutputPlan, PackPlan, PlannedColumn, SourceKind, StreamPlan};
use crate::pack::reverse::{overstated, way_back};
use crate::pack::{Pack, builtin, lint, reference};
use crate::store::catalog::{COLUMNS_MAX, Column, Table, split_name};

/// Columns of the tables that were found, by stream name.
pub type SourceColumns = BTreeMap<String, Vec<String>>;

/// What came of compiling a pack: as much of the plan as there can be, and everything that is
/// wrong with the rest.
#[derive(Debug)]
pub struct Compiled {
    /// The streams without faults. Complete, and fit to run, only if there are no faults at all.
    pub plan: PackPlan,
    /// What is wrong, causes before their consequences.
    pub faults: Vec<Fault>,
}

/// Compiles `pack` against the database behind `conn`; any fault is an error.
///
/// `source_columns` completes streams without a column mapping; `redactor` removes secrets.
pub async fn compile(
    pack: &Pack,
    conn: &mut PgConnection,
    source_columns: &SourceColumns,
    redactor: &Arc<Redactor>,
) -> Result<PackPlan> {
    let compiled = compile_all(pack, conn, source_columns, redactor).await?;
    match first_error(pack, &compiled.faults) {
        Some(error) => Err(error),
        None => Ok(compiled.plan),
    }
}

/// Compiles what can be compiled and lists every fault; an error only where the database cannot
/// be asked.
pub async fn compile_all(
    pack: &Pack,
    conn: &mut PgConnection,
    source_columns: &SourceColumns,
    redactor: &Arc<Redactor>,
) -> Result<Compiled> {
    let mut compiler = Compiler {
        pack,
        redactor,
        tables: BTreeMap::new(),
        slices: Slices::default(),
        faults: lint::faults(pack),
    };
    compiler.load_tables(conn).await?;
    let manifests = &pack.manifest.streams;
    let order = copy_order(manifests).unwrap_or_else(|_| (0..manifests.len()).collect());
    let mut streams = Vec::with_capacity(order.len());
    for position in order {
        let stream = &manifests[position];
        let name = stream.name.get_ref();
        let plan = compiler.stream(stream, source_columns.get(name), streams.len());
        let is_faulty =
            compiler.faults.iter().any(|fault| fault.stream.as_deref() == Some(name.as_str()));
        streams.extend(plan.filter(|_| !is_faulty));
    }
    compiler.faults.extend(compiler.slices.overlaps());
    compiler.slices.narrow();
    let plan = PackPlan {
        name: pack.name().to_owned(),
        version: pack.manifest.pack.version,
        fingerprint: pack.fingerprint(),
        streams,
        units: compiler.slices.units,
    };
    Ok(Compiled { plan, faults: compiler.faults })
}

struct Compiler<'a> {
    pack: &'a Pack,
    redactor: &'a Arc<Redactor>,
    tables: BTreeMap<String, Arc<Table>>,
    slices: Slices,
    faults: Vec<Fault>,
}

/// The output at hand: as written, its table, and what its stream reads.
#[derive(Clone, Copy)]
struct Place<'a> {
    stream: &'a StreamManifest,
    view: &'a OutputView<'a>,
    table: &'a Table,
    source_columns: Option<&'a Vec<String>>,
}

impl Place<'_> {
    fn at(&self) -> usize {
        self.view.target.span().start
    }

    fn fault(&self, at: usize, detail: String) -> Fault {
        Fault::new(at, detail).of(self.stream.name.get_ref())
    }
}

impl Compiler<'_> {
    async fn load_tables(&mut self, conn: &mut PgConnection) -> Result<()> {
        for stream in &self.pack.manifest.streams {
            let stream_name = stream.name.get_ref();
            for view in stream.views() {
                let name = view.target.get_ref();
                let at = view.target.span().start;
                self.slices.maps(&view);
                if self.tables.contains_key(name) {
                    continue;
                }
                let (schema, table) = match split_name(name) {
                    Ok(parts) => parts,
                    Err(error) => {
                        let fault = Fault::new(at, error.detail()).of(stream_name);
                        let advice = error.advice_text().map(str::to_owned);
                        self.faults.push(Fault { advice, ..fault });
                        continue;
                    }
                };
                if let Some(table) = Table::read(conn, &schema, &table).await? {
                    if let Some(what) = table.kind.refusal() {
                        let detail = format!("{name} is {what}: no rows can be loaded into it");
                        self.faults.push(Fault::new(at, detail).of(stream_name).advice(
                            "name the table that keeps the rows, and let the other read from it",
                        ));
                        continue;
                    }
                    self.tables.insert(name.clone(), Arc::new(table));
                } else {
                    let detail = format!("the database has no table {name}");
                    let fault = Fault::new(at, detail).of(stream_name);
                    self.faults.push(fault.advice(self.how_to_migrate()));
                }
            }
        }
        Ok(())
    }

    fn how_to_migrate(&self) -> String {
        let name = self.pack.name();
        match &self.pack.folder {
            None => format!("run `toolkit migrate up --pack {name}`"),
            Some(folder) => format!(
                "correct the name, or run `toolkit migrate up --pack {name} --dir {}`",
                folder.display()
            ),
        }
    }

    fn stream(
        &mut self,
        stream: &StreamManifest,
        source_columns: Option<&Vec<String>>,
        index: usize,
    ) -> Option<StreamPlan> {
        let compute = stream.source.compute.as_ref().map(|name| builtin::compute(name.get_ref()));
        let views = stream.views();
        let mut outputs = Vec::new();
        if let Some(source_columns) = source_columns {
            self.faults.extend(missing_columns(stream, source_columns));
            self.faults.extend(forgotten_columns(stream, source_columns, &self.tables));
        }
        for view in &views {
            let Some(table) = self.tables.get(view.target.get_ref()).map(Arc::clone) else {
                continue;
            };
            let place = Place { stream, view, table: &table, source_columns };
            outputs.extend(self.output(&place, &table, (index, outputs.len())));
        }
        if outputs.len() < views.len() {
            return None;
        }
        let source = source_kind(stream)?;
        let declared = stream.reverse.as_ref();
        let way_back = way_back(&source, &outputs, declared.map(|reverse| *reverse.get_ref()));
        if let Some(declared) = declared
            && let Some(why) = overstated(&way_back, &outputs, *declared.get_ref())
        {
            let fault = Fault::new(declared.span().start, why).of(stream.name.get_ref());
            self.faults.push(fault.advice(format!(
                "declare \"{}\", or leave `reverse` out",
                way_back.strongest.reverse.name()
            )));
        }
        Some(StreamPlan {
            name: stream.name.get_ref().clone(),
            source,
            way_back,
            compute: compute.flatten(),
            companion: stream.source.companion.as_ref().map(|name| name.get_ref().clone()),
            outputs,
            corrections: Corrections::default(),
            spelling: None,
        })
    }

    fn output(
        &mut self,
        place: &Place<'_>,
        table: &Arc<Table>,
        feed: (usize, usize),
    ) -> Option<OutputPlan> {
        let view = place.view;
        let columns = self.columns(place)?;
        let key = self.key(place, &columns)?;
        let by = self.conflict_column(place, &columns);
        let types: Vec<PgType> = columns.iter().map(|column| column.cast.ty().clone()).collect();
        let constants = constants(view, &columns, &key);
        let key_names: Vec<&str> = key.iter().map(|k| columns[*k].name.as_str()).collect();
        let key_is_unique = table
            .unique_keys
            .iter()
            .any(|unique| unique.iter().all(|name| key_names.contains(&name.as_str())));
        let orphan_null = self.orphan_null(place, &columns, &key);
        let unit = self.slices.feed(table, &constants, &columns, feed, place.at());
        let pointer = |text: &Spanned<String>| reference::parse(text.get_ref());
        Some(OutputPlan {
            name: view.name.get_ref().clone(),
            columns,
            layout: Layout::new(&types, key.clone()),
            key,
            conflict: view.conflict.rule,
            by,
            each: view.each.map(pointer),
            when: view.when.map(pointer),
            mention: view.mention,
            skip: view.skip.map(|skip| (pointer(&skip.empty), skip.rule.clone())),
            constants,
            orphan_null,
            is_content: view.key.is_content,
            key_is_unique,
            unit,
            table: Arc::clone(table),
        })
    }

    fn columns(&mut self, place: &Place<'_>) -> Option<Vec<PlannedColumn>> {
        let same_name;
        let (table, view) = (place.table, place.view);
        let mapping = if view.columns.is_empty() {
            same_name = same_name_mapping(place);
            &same_name
        } else {
            view.columns
        };
        let table_name = table.display_name();
        if mapping.is_empty() {
            let detail = format!("no column of the source has a name of {table_name}");
            self.faults.push(place.fault(place.at(), detail));
            return None;
        }
        if mapping.len() > COLUMNS_MAX {
            let detail = format!(
                "{} columns are mapped to {table_name}; a PostgreSQL table has at most {COLUMNS_MAX}",
                mapping.len()
            );
            self.faults.push(place.fault(place.at(), detail).advice(
                "map the columns that are needed and `ignore` the others, collect some in a jsonb \
                 column, or split the table into several outputs",
            ));
            return None;
        }
        let before = self.faults.len();
        for (name, entry) in mapping.iter().filter(|(name, _)| table.column(name).is_none()) {
            let detail = format!("{table_name} has no column `{name}`");
            let known = list(table.columns.iter().map(|column| column.name.as_str()));
            let fault = place.fault(entry.span().start, detail);
            self.faults.push(fault.advice(format!("it has: {known}")));
        }
        for column in &table.columns {
            if column.not_null && !column.has_default && !mapping.contains_key(&column.name) {
                let detail = format!(
                    "{table_name}.{} is NOT NULL without a default and is not mapped",
                    column.name
                );
                self.faults.push(place.fault(place.at(), detail).advice(
                    "map it, or give it a constant with `value`, or a default in the database",
                ));
            }
        }
        let mut columns = Vec::with_capacity(mapping.len());
        for column in &table.columns {
            let (planned, at) = match mapping.get(&column.name) {
                Some(entry) => (self.column(table, column, entry.get_ref()), entry.span().start),
                None if self.slices.is_mapped(view, &column.name) => {
                    (null_column(column), place.at())
                }
                None => continue,
            };
            match planned {
                Ok(planned) => columns.push(planned),
                Err(error) => self.faults.push(place.fault(at, error.detail().to_owned())),
            }
        }
        (self.faults.len() == before).then_some(columns)
    }

    fn column(
        &self,
        table: &Table,
        column: &Column,
        entry: &ColumnManifest,
    ) -> Result<PlannedColumn> {
        if column.generated {
            return Err(Error::new(
                ErrorKind::Pack,
                format!(
                    "{} computes the column `{}` itself: leave it out",
                    table.display_name(),
                    column.name
                ),
            ));
        }
        if let Some(rounding) = rounds_time(column) {
            return Err(Error::new(ErrorKind::Pack, rounding));
        }
        let options = entry.options();
        let defaults = &self.pack.manifest.defaults;
        let cast_options = options.cast_options(defaults, &column.ty, !column.not_null);
        let constant = match &options.value {
            None => None,
            Some(text) => Some(constant_field(&column.name, &column.ty, text)?),
        };
        let sources = entry.sources(&column.name);
        let from: Vec<From> = sources.iter().map(|text| reference::parse(text)).collect();
        let redactor = Some(Arc::clone(self.redactor));
        let cast = ColumnCast::new(
            &column.name,
            column.ty.clone(),
            !column.not_null,
            cast_options,
            redactor,
        )?;
        let original = options.original.as_deref().map(reference::parse);
        Ok(PlannedColumn { name: column.name.clone(), from, cast, constant, original })
    }

    fn key(&mut self, place: &Place<'_>, columns: &[PlannedColumn]) -> Option<Vec<usize>> {
        if place.view.key.is_content {
            return Some((0..columns.len()).collect());
        }
        let mut key = Vec::new();
        let wanted = place.view.key;
        for name in wanted.iter() {
            let found = columns.iter().position(|column| column.name == *name.get_ref());
            key.extend(found);
            if found.is_none() {
                let detail = format!("key column `{}` is not mapped", name.get_ref());
                self.faults.push(place.fault(name.span().start, detail));
            }
        }
        // An empty key is a fault of its own already.
        (!key.is_empty() && key.len() == wanted.len()).then_some(key)
    }

    /// Columns whose orphans are stored as NULL; the policy said of a column that cannot be one.
    fn orphan_null(
        &mut self,
        place: &Place<'_>,
        columns: &[PlannedColumn],
        key: &[usize],
    ) -> Vec<usize> {
        let mut found = Vec::new();
        for (position, column) in columns.iter().enumerate() {
            let foreign = &place.table.foreign_keys;
            let leads = foreign.iter().any(|key| key.simple && key.columns.contains(&column.name));
            let may_be_null = leads
                && !key.contains(&position)
                && place.table.column(&column.name).is_some_and(|column| !column.not_null);
            if may_be_null && column.cast.orphan() == Policy::Null {
                found.push(position);
                continue;
            }
            let entry = place.view.columns.get(&column.name);
            let own = entry.and_then(|entry| entry.get_ref().options().on.clone());
            if let Some(entry) = entry
                && own.is_some_and(|on| on.orphan == Policy::Null)
            {
                let detail = format!(
                    "column `{}`: orphan = \"null\" is for nullable columns of a foreign key \
                     outside the `key`",
                    column.name
                );
                self.faults.push(place.fault(entry.span().start, detail));
            }
        }
        found
    }

    fn conflict_column(&mut self, place: &Place<'_>, columns: &[PlannedColumn]) -> Option<usize> {
        let conflict = place.view.conflict;
        let by = conflict.by.as_ref().filter(|_| conflict.rule == ConflictRule::Newer)?;
        let found = columns.iter().position(|column| column.name == *by.get_ref());
        if found.is_none() {
            let detail = format!("conflict column `{}` is not mapped", by.get_ref());
            self.faults.push(place.fault(by.span().start, detail));
        }
        found
    }
}

/// What the stream reads; None where that is a fault already.
fn source_kind(stream: &StreamManifest) -> Option<SourceKind> {
    let source = &stream.source;
    let patterns = |kind: &OneOrMany| (*kind != OneOrMany::None).then(|| kind.to_vec());
    if let Some(files) = patterns(&source.sqlite) {
        let table = source.table.as_ref()?.get_ref().clone();
        return Some(SourceKind::Sqlite { files, table });
    }
    if let Some(patterns) = patterns(&source.json) {
        let records = source.records.as_ref().map(|pointer| pointer.get_ref().clone());
        return Some(SourceKind::Json { patterns, records });
    }
    if let Some(patterns) = patterns(&source.jsonl) {
        return Some(SourceKind::Jsonl { patterns });
    }
    patterns(&source.csv).map(|patterns| SourceKind::Csv { patterns })
}

/// Constant key columns: the stream's slice of the table.
fn constants(
    view: &OutputView<'_>,
    columns: &[PlannedColumn],
    key: &[usize],
) -> Vec<(usize, String)> {
    key.iter()
        .filter_map(|position| match view.columns.get(&columns[*position].name)?.get_ref() {
            ColumnManifest::Full(options) => options.value.clone().map(|value| (*position, value)),
            ColumnManifest::From(_) => None,
        })
        .collect()
}

fn same_name_mapping(place: &Place<'_>) -> Columns {
    let source_name = |name: &str| match place.source_columns {
        None => Some(name.to_owned()),
        Some(all) => all.iter().find(|column| column.eq_ignore_ascii_case(name)).cloned(),
    };
    let columns = place.table.columns.iter().filter(|column| !column.generated);
    columns
        .filter_map(|column| {
            let source = reference::to_column(&source_name(&column.name)?);
            let source = ColumnManifest::From(source);
            Some((column.name.clone(), Spanned::new(place.view.target.span(), source)))
        })
        .collect()
}

/// A time type declared with less than microseconds would round in silence.
fn rounds_time(column: &Column) -> Option<String> {
    let is_time = matches!(
        column.ty,
        PgType::Timestamptz | PgType::Timestamp | PgType::Time | PgType::Interval
    );
    let declared = &column.declared_type;
    (is_time && declared.contains('(') && !declared.contains("(6)")).then(|| {
        format!(
            "{} is {declared}, which rounds in silence: declare it without a precision",
            column.name
        )
    })
}

/// A column that another output of the same slice maps and this one does not.
fn null_column(column: &Column) -> Result<PlannedColumn> {
    if column.not_null {
        return Err(Error::new(
            ErrorKind::Pack,
            format!(
                "another output of the same slice maps `{}`, which is NOT NULL: map it here too",
                column.name
            ),
        ));
    }
    let cast =
        ColumnCast::new(&column.name, column.ty.clone(), true, CastOptions::default(), None)?;
    let constant = Some((-1_i32).to_be_bytes().to_vec());
    Ok(PlannedColumn {
        name: column.name.clone(),
        from: Vec::new(),
        cast,
        constant,
        original: None,
    })
}

fn constant_field(column: &str, ty: &PgType, text: &str) -> Result<Vec<u8>> {
    let cast = ColumnCast::new(column, ty.clone(), false, CastOptions::default(), None)?;
    let mut field = Vec::new();
    cast.encode(Value::Text(text.as_bytes()), &mut field, &mut Vec::new()).map_err(|refusal| {
        let detail = format!("column {column}: the constant `{text}`: {}", refusal.detail);
        Error::new(ErrorKind::Pack, detail)
    })?;
    Ok(field)
}
