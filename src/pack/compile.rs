//! From a parsed pack and a live catalog to typed plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use crate::canonical::Layout;
use crate::cast::redact::Redactor;
use crate::cast::{CastOptions, ColumnCast, PgType, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::manifest::{
    ColumnManifest, ColumnOptions, ConflictManifest, ConflictRule, OneOrMany, OutputManifest,
    StreamManifest,
};
use crate::pack::plan::{
    From, Meta, OutputPlan, PackPlan, PlannedColumn, Scope, SourceKind, StreamPlan, Unit,
};
use crate::pack::{Pack, builtin};
use crate::store::catalog::{Table, split_name};

/// Columns of the `SQLite` tables that were found, by stream name.
pub type SourceColumns = BTreeMap<String, Vec<String>>;

/// Compiles `pack` against the database behind `conn`.
///
/// `source_columns` completes streams without a column mapping; `redactor` removes secrets.
pub async fn compile(
    pack: &Pack,
    conn: &mut PgConnection,
    source_columns: &SourceColumns,
    redactor: &Arc<Redactor>,
) -> Result<PackPlan> {
    let mut compiler = Compiler {
        pack,
        redactor,
        tables: BTreeMap::new(),
        units: Vec::new(),
        slice_columns: BTreeMap::new(),
    };
    compiler.load_tables(conn).await?;
    let order = copy_order(pack)?;
    let mut streams = Vec::with_capacity(order.len());
    for position in order {
        let stream = &pack.manifest.streams[position];
        let columns = source_columns.get(stream.name.get_ref());
        let plan = compiler.stream(stream, columns, streams.len())?;
        streams.push(plan);
    }
    compiler.refuse_overlaps()?;
    Ok(PackPlan {
        name: pack.name().to_owned(),
        version: pack.manifest.pack.version,
        fingerprint: hex::encode(crate::canonical::sha256(
            pack.text.replace("\r\n", "\n").as_bytes(),
        )),
        streams,
        units: compiler.units,
    })
}

struct Compiler<'a> {
    pack: &'a Pack,
    redactor: &'a Arc<Redactor>,
    tables: BTreeMap<String, Arc<Table>>,
    units: Vec<Unit>,
    /// All columns that outputs of one slice map: each output writes every one of them, NULL
    /// where it has nothing, so that the rows of a slice are comparable.
    slice_columns: BTreeMap<String, BTreeSet<String>>,
}

/// One output, whether written inline in the stream or as `[[stream.output]]`.
struct OutputView<'a> {
    name: &'a str,
    target: &'a toml::Spanned<String>,
    key: &'a [String],
    conflict: &'a ConflictManifest,
    columns: &'a BTreeMap<String, ColumnManifest>,
    full: Option<&'a OutputManifest>,
}

impl OutputView<'_> {
    /// Identity of the slice the output writes: the target and the constants of its key.
    fn slice(&self) -> String {
        let mut slice = self.target.get_ref().clone();
        for name in self.key {
            if let Some(ColumnManifest::Full(options)) = self.columns.get(name)
                && let Some(value) = &options.value
            {
                slice.push_str(&format!("\0{name}\0{value}"));
            }
        }
        slice
    }
}

impl Compiler<'_> {
    async fn load_tables(&mut self, conn: &mut PgConnection) -> Result<()> {
        for stream in &self.pack.manifest.streams {
            for view in self.outputs(stream)? {
                let name = view.target.get_ref().clone();
                let at = view.target.span().start;
                self.slice_columns
                    .entry(view.slice())
                    .or_default()
                    .extend(view.columns.keys().cloned());
                if self.tables.contains_key(&name) {
                    continue;
                }
                let (schema, table) =
                    split_name(&name).map_err(|e| self.pack.error_at(at, e.detail()))?;
                let found = Table::read(conn, &schema, &table).await?;
                let table = found.ok_or_else(|| {
                    self.pack
                        .error_at(at, format!("the database has no table {name}"))
                        .advice(format!("run `toolkit migrate up --pack {}`", self.pack.name()))
                })?;
                self.tables.insert(name, Arc::new(table));
            }
        }
        Ok(())
    }

    fn outputs<'s>(&self, stream: &'s StreamManifest) -> Result<Vec<OutputView<'s>>> {
        let at = stream.name.span().start;
        let name = stream.name.get_ref();
        match (&stream.target, stream.outputs.is_empty()) {
            (Some(target), true) => Ok(vec![OutputView {
                name,
                target,
                key: &stream.key,
                conflict: &stream.conflict,
                columns: &stream.columns,
                full: None,
            }]),
            (None, false) => Ok(stream
                .outputs
                .iter()
                .map(|output| OutputView {
                    name: &output.name,
                    target: &output.target,
                    key: &output.key,
                    conflict: &output.conflict,
                    columns: &output.columns,
                    full: Some(output),
                })
                .collect()),
            _ => Err(self.pack.error_at(
                at,
                format!("stream `{name}` needs either `target` or at least one [[stream.output]]"),
            )),
        }
    }

    fn stream(
        &mut self,
        stream: &StreamManifest,
        source_columns: Option<&Vec<String>>,
        index: usize,
    ) -> Result<StreamPlan> {
        let source = self.source_kind(stream)?;
        let compute = match &stream.source.compute {
            None => None,
            Some(name) => Some(builtin::compute(name.get_ref()).ok_or_else(|| {
                self.pack.error_at(
                    name.span().start,
                    format!(
                        "there is no compute function `{}`; known are {}",
                        name.get_ref(),
                        builtin::COMPUTE_NAMES.join(", ")
                    ),
                )
            })?),
        };
        let mut outputs = Vec::new();
        for view in self.outputs(stream)? {
            let plan = self.output(&view, source_columns, (index, outputs.len()))?;
            outputs.push(plan);
        }
        self.refuse_forgotten_columns(stream, source_columns, &outputs)?;
        Ok(StreamPlan {
            name: stream.name.get_ref().clone(),
            source,
            compute,
            companion: stream.source.companion.clone(),
            outputs,
        })
    }

    fn source_kind(&self, stream: &StreamManifest) -> Result<SourceKind> {
        let source = &stream.source;
        let at = stream.name.span().start;
        let name = stream.name.get_ref();
        let kinds = [&source.sqlite, &source.json, &source.jsonl, &source.csv];
        let given = kinds.iter().filter(|kind| ***kind != OneOrMany::None).count();
        if given != 1 {
            return Err(self.pack.error_at(
                at,
                format!("stream `{name}` needs exactly one of sqlite, json, jsonl, csv"),
            ));
        }
        if source.sqlite == OneOrMany::None {
            if source.json != OneOrMany::None {
                let records = source.records.clone();
                return Ok(SourceKind::Json { patterns: source.json.to_vec(), records });
            }
            if source.jsonl != OneOrMany::None {
                return Ok(SourceKind::Jsonl { patterns: source.jsonl.to_vec() });
            }
            return Ok(SourceKind::Csv { patterns: source.csv.to_vec() });
        }
        let table = source.table.clone().ok_or_else(|| {
            self.pack.error_at(at, format!("stream `{name}` reads SQLite: name its `table`"))
        })?;
        Ok(SourceKind::Sqlite { files: source.sqlite.to_vec(), table })
    }

    fn output(
        &mut self,
        view: &OutputView<'_>,
        source_columns: Option<&Vec<String>>,
        place: (usize, usize),
    ) -> Result<OutputPlan> {
        let table = Arc::clone(&self.tables[view.target.get_ref()]);
        let at = view.target.span().start;
        let columns = self.columns(&table, view, source_columns, at)?;
        let position = |name: &str| columns.iter().position(|column| column.name == name);
        let key = view
            .key
            .iter()
            .map(|name| {
                position(name).ok_or_else(|| {
                    self.pack.error_at(at, format!("key column `{name}` is not mapped"))
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if key.is_empty() {
            return Err(self.pack.error_at(
                at,
                format!("`{}` needs a `key`: the target columns that identify a row", view.name),
            ));
        }
        let by = self.conflict_column(view, &columns, at)?;
        let types: Vec<PgType> = columns.iter().map(|column| column.cast.ty().clone()).collect();
        let constants = self.constants(view, &columns, &key);
        let key_names: Vec<&str> = key.iter().map(|k| columns[*k].name.as_str()).collect();
        let key_is_unique = table
            .unique_keys
            .iter()
            .any(|unique| unique.iter().all(|name| key_names.contains(&name.as_str())));
        let unit = self.unit_for(&table, &constants, &columns, place);
        let full = view.full;
        let pointer = |text: &String| parse_from(text);
        Ok(OutputPlan {
            name: view.name.to_owned(),
            columns,
            layout: Layout::new(&types, key.clone()),
            key,
            conflict: view.conflict.rule,
            by,
            each: full.and_then(|output| output.each.as_ref()).map(pointer),
            when: full.and_then(|output| output.when.as_ref()).map(pointer),
            skip: full
                .and_then(|output| output.skip.as_ref())
                .map(|skip| (pointer(&skip.empty), skip.rule.clone())),
            constants,
            key_is_unique,
            unit,
            table,
        })
    }

    fn columns(
        &self,
        table: &Table,
        view: &OutputView<'_>,
        source_columns: Option<&Vec<String>>,
        at: usize,
    ) -> Result<Vec<PlannedColumn>> {
        let same_name;
        let mapping = if view.columns.is_empty() {
            same_name = same_name_mapping(table, source_columns);
            &same_name
        } else {
            view.columns
        };
        if mapping.is_empty() {
            let detail = format!("no column of the source has a name of {}", table.display_name());
            return Err(self.pack.error_at(at, detail));
        }
        for name in mapping.keys() {
            if table.column(name).is_none() {
                return Err(self
                    .pack
                    .error_at(at, format!("{} has no column `{name}`", table.display_name())));
            }
        }
        let missing = table.columns.iter().find(|column| {
            column.not_null && !column.has_default && !mapping.contains_key(&column.name)
        });
        if let Some(column) = missing {
            let detail = format!(
                "{}.{} is NOT NULL without a default and is not mapped",
                table.display_name(),
                column.name
            );
            return Err(self.pack.error_at(at, detail));
        }
        let of_slice = self.slice_columns.get(&view.slice());
        table
            .columns
            .iter()
            .filter_map(|column| {
                let entry = mapping.get(&column.name);
                let is_shared = of_slice.is_some_and(|names| names.contains(&column.name));
                (entry.is_some() || is_shared).then_some((column, entry))
            })
            .map(|(column, entry)| {
                match entry {
                    Some(entry) => self.column(table, column, entry),
                    None => null_column(column),
                }
                .map_err(|e| self.pack.error_at(at, format!("{}: {}", column.name, e.detail())))
            })
            .collect()
    }

    fn column(
        &self,
        table: &Table,
        column: &crate::store::catalog::Column,
        entry: &ColumnManifest,
    ) -> Result<PlannedColumn> {
        if column.generated {
            return Err(Error::new(
                ErrorKind::Pack,
                format!("{} computes this column itself: leave it out", table.display_name()),
            ));
        }
        let shorthand;
        let options: &ColumnOptions = match entry {
            ColumnManifest::From(from) => {
                shorthand =
                    ColumnOptions { from: OneOrMany::One(from.clone()), ..Default::default() };
                &shorthand
            }
            ColumnManifest::Full(options) => options,
        };
        let defaults = &self.pack.manifest.defaults;
        let cast_options = options.cast_options(defaults, &column.ty, !column.not_null);
        let constant = match &options.value {
            None => None,
            Some(text) => Some(constant_field(&column.name, &column.ty, text)?),
        };
        let mut from: Vec<From> =
            options.from.to_vec().iter().map(|text| parse_from(text)).collect();
        if from.is_empty() && constant.is_none() {
            from.push(From::Column(column.name.clone()));
        }
        let redactor = Some(Arc::clone(self.redactor));
        let cast = ColumnCast::new(
            &column.name,
            column.ty.clone(),
            !column.not_null,
            cast_options,
            redactor,
        )?;
        Ok(PlannedColumn { name: column.name.clone(), from, cast, constant })
    }

    fn conflict_column(
        &self,
        view: &OutputView<'_>,
        columns: &[PlannedColumn],
        at: usize,
    ) -> Result<Option<usize>> {
        match (view.conflict.rule, &view.conflict.by) {
            (ConflictRule::Newer, Some(by)) => {
                let position = columns.iter().position(|column| column.name == *by);
                position.map(Some).ok_or_else(|| {
                    self.pack.error_at(at, format!("conflict column `{by}` is not mapped"))
                })
            }
            (ConflictRule::Newer, None) => {
                Err(self.pack.error_at(at, "the conflict rule `newer` needs `by = \"COLUMN\"`"))
            }
            (_, Some(by)) => Err(self.pack.error_at(
                at,
                format!("`by = \"{by}\"` belongs to the conflict rule `newer` only"),
            )),
            (_, None) => Ok(None),
        }
    }

    fn constants(
        &self,
        view: &OutputView<'_>,
        columns: &[PlannedColumn],
        key: &[usize],
    ) -> Vec<(usize, String)> {
        key.iter()
            .filter_map(|position| {
                let entry = view.columns.get(&columns[*position].name)?;
                match entry {
                    ColumnManifest::Full(options) => {
                        options.value.clone().map(|value| (*position, value))
                    }
                    ColumnManifest::From(_) => None,
                }
            })
            .collect()
    }

    fn unit_for(
        &mut self,
        table: &Arc<Table>,
        constants: &[(usize, String)],
        columns: &[PlannedColumn],
        place: (usize, usize),
    ) -> usize {
        let named: Vec<(String, String)> = constants
            .iter()
            .map(|(position, value)| (columns[*position].name.clone(), value.clone()))
            .collect();
        let table_name = table.display_name();
        let found = self
            .units
            .iter()
            .position(|unit| unit.table.display_name() == table_name && unit.constants == named);
        if let Some(found) = found {
            self.units[found].feeds.push(place);
            return found;
        }
        let name = self.slice_name(&table_name, &named);
        self.units.push(Unit {
            name,
            table: Arc::clone(table),
            constants: named,
            feeds: vec![place],
        });
        self.units.len() - 1
    }

    /// `table[column=value]`: the first constant if it tells the slice apart, else all of them.
    fn slice_name(&self, table: &str, constants: &[(String, String)]) -> String {
        let shown = |constants: &[(String, String)]| {
            let parts: Vec<String> =
                constants.iter().map(|(column, value)| format!("{column}={value}")).collect();
            format!("{table}[{}]", parts.join(","))
        };
        let short = match constants {
            [] => table.to_owned(),
            [first, ..] => shown(std::slice::from_ref(first)),
        };
        let is_taken = self.units.iter().any(|unit| unit.name == short);
        if is_taken { shown(constants) } else { short }
    }

    /// Two slices of one table must be equal or disjoint: otherwise a row would belong to both
    /// and "extra" would have no meaning.
    fn refuse_overlaps(&self) -> Result<()> {
        for (at, left) in self.units.iter().enumerate() {
            for right in &self.units[at + 1..] {
                let same_table = left.table.display_name() == right.table.display_name();
                let disjoint = left.constants.iter().any(|(column, value)| {
                    right
                        .constants
                        .iter()
                        .any(|(other, content)| column == other && value != content)
                });
                if same_table && !disjoint {
                    return Err(self
                        .pack
                        .error_at(0, format!("the slices {} and {} overlap", left.name, right.name))
                        .advice(
                            "give both the same constant key columns, or different values of one",
                        ));
                }
            }
        }
        Ok(())
    }

    fn refuse_forgotten_columns(
        &self,
        stream: &StreamManifest,
        source_columns: Option<&Vec<String>>,
        outputs: &[OutputPlan],
    ) -> Result<()> {
        let Some(source_columns) = source_columns else { return Ok(()) };
        let is_used = |name: &str| {
            stream.ignore.iter().any(|ignored| ignored.eq_ignore_ascii_case(name))
                || outputs.iter().flat_map(|output| &output.columns).any(|column| {
                    column.from.iter().any(
                        |from| matches!(from, From::Column(used) if used.eq_ignore_ascii_case(name)),
                    )
                })
        };
        let forgotten: Vec<&str> =
            source_columns.iter().map(String::as_str).filter(|name| !is_used(name)).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        Err(self
            .pack
            .error_at(
                stream.name.span().start,
                format!(
                    "stream `{}` maps nothing from source column {}: its values would vanish",
                    stream.name.get_ref(),
                    forgotten.join(", ")
                ),
            )
            .advice("map it in [stream.columns], or name it in `ignore = [\"...\"]`"))
    }
}

fn same_name_mapping(
    table: &Table,
    source_columns: Option<&Vec<String>>,
) -> BTreeMap<String, ColumnManifest> {
    let found = |name: &str| {
        source_columns.and_then(|all| all.iter().find(|column| column.eq_ignore_ascii_case(name)))
    };
    table
        .columns
        .iter()
        .filter(|column| !column.generated)
        .filter_map(|column| match source_columns {
            None => Some((column.name.clone(), ColumnManifest::From(column.name.clone()))),
            Some(_) => found(&column.name)
                .map(|source| (column.name.clone(), ColumnManifest::From(source.clone()))),
        })
        .collect()
}

/// Reads a `from`: `@fact`, `^/pointer`, `+/pointer`, `/pointer`, the empty text (the whole
/// element), else a column name.
fn parse_from(text: &str) -> From {
    let pointer = |scope, rest: &str| From::Pointer { scope, pointer: rest.to_owned() };
    match text {
        "@sha256" => From::Meta(Meta::FileSha256),
        "@path" => From::Meta(Meta::FilePath),
        "@name" => From::Meta(Meta::FileName),
        "@key" => From::Meta(Meta::ElementKey),
        "" => pointer(Scope::Element, ""),
        _ if text.starts_with("^") => pointer(Scope::Root, &text[1..]),
        _ if text.starts_with("+/") => pointer(Scope::Computed, &text[1..]),
        _ if text.starts_with('/') => pointer(Scope::Element, text),
        _ => From::Column(text.to_owned()),
    }
}

/// A column that another output of the same slice maps and this one does not.
fn null_column(column: &crate::store::catalog::Column) -> Result<PlannedColumn> {
    if column.not_null {
        return Err(Error::new(
            ErrorKind::Pack,
            "another output of the same slice maps this column, and it is NOT NULL: map it here too",
        ));
    }
    let cast =
        ColumnCast::new(&column.name, column.ty.clone(), true, CastOptions::default(), None)?;
    let constant = Some((-1_i32).to_be_bytes().to_vec());
    Ok(PlannedColumn { name: column.name.clone(), from: Vec::new(), cast, constant })
}

fn constant_field(column: &str, ty: &PgType, text: &str) -> Result<Vec<u8>> {
    let cast = ColumnCast::new(column, ty.clone(), false, CastOptions::default(), None)?;
    let mut field = Vec::new();
    cast.encode(Value::Text(text.as_bytes()), &mut field, &mut Vec::new()).map_err(|refusal| {
        Error::new(ErrorKind::Pack, format!("the constant `{text}`: {}", refusal.detail))
    })?;
    Ok(field)
}

/// File order, moved back only where `after` demands it.
fn copy_order(pack: &Pack) -> Result<Vec<usize>> {
    let streams = &pack.manifest.streams;
    let mut order: Vec<usize> = Vec::with_capacity(streams.len());
    while order.len() < streams.len() {
        let ready = (0..streams.len()).find(|candidate| {
            !order.contains(candidate)
                && streams[*candidate]
                    .after
                    .iter()
                    .all(|name| order.iter().any(|done| streams[*done].name.get_ref() == name))
        });
        match ready {
            Some(next) => order.push(next),
            None => {
                let stuck = (0..streams.len()).find(|at| !order.contains(at)).unwrap_or_default();
                let stream = &streams[stuck];
                return Err(pack.error_at(
                    stream.name.span().start,
                    format!(
                        "stream `{}` waits for {} in a circle, or for a stream that is not there",
                        stream.name.get_ref(),
                        stream.after.join(", ")
                    ),
                ));
            }
        }
    }
    Ok(order)
}
