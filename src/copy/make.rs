//! The plan of a copy.

mod constraints;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::evidence::{Counted, Evidence, of_table};
use super::expression::{self, Kind, Known};
use super::infer::{Choice, Wishes, asked, choose};
use super::keys::{self, Reference};
use super::names::{Names, pack_of, schema_of};
use super::schema::{Schema, Table, read};
use super::{
    BadText, ColumnPlan, NotCopied, Options, Plan, TablePlan, check_schema, emit, no_such,
};
use crate::cast::{CastName, CastOptions, PgType, Redactor};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::source::sqlite::Database;

/// Columns of a Postgres table at most.
const COLUMNS_MAX: usize = 1_600;

/// Reads what the file declares and every value it holds, and says what a copy would do. Blocking;
/// changes nothing.
///
/// Errors: a file that is not `SQLite` or damaged, tables no Postgres table can hold, names in
/// `options` that the file does not have.
pub fn plan(file: &Path, options: &Options, stop: &Stop) -> Result<Plan> {
    let target = schema_name(file, options)?;
    let (database, schema, census) = std::thread::scope(|scope| {
        // It reads the whole file by itself: beside the census it costs little time.
        let checking = scope.spawn(|| Database::open(file)?.check());
        let counted = counted(file, options, stop);
        checking.join().map_err(|_| {
            Error::new(ErrorKind::Bug, "the thread that checks the file ended unexpectedly")
        })??;
        // Of a damaged file that it is damaged is said, not what came of it.
        counted
    })?;
    let (references, lost) = keys::references(&schema);
    let choices = choices(&schema, &census, &references, options);
    let mut drafts = drafts(&schema, census, choices, options);
    for (table, why) in lost {
        drafts[table].notes.push(why);
    }
    let file_name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    finish(&database, &schema, drafts, &references, options, target, file, &file_name)
}

type Census = Vec<(u64, Vec<Evidence>)>;

/// What the file declares, and what its values allow.
fn counted(file: &Path, options: &Options, stop: &Stop) -> Result<(Database, Schema, Census)> {
    let database = Database::open(file)?;
    let mut schema = read(&database)?;
    choose_tables(&mut schema, options)?;
    check_asked(&schema, options)?;
    let counted = Counted {
        path: file.to_path_buf(),
        zone: options.zone.clone(),
        redactor: Arc::new(Redactor::new([0; 32])),
        stop: stop.clone(),
    };
    let mut census = Vec::with_capacity(schema.tables.len());
    for table in &schema.tables {
        stop.check()?;
        let found = of_table(&counted, &table.name, &table.columns);
        census.push(found.map_err(|error| error.context(format!("table {}", table.name)))?);
    }
    Ok((database, schema, census))
}

/// The schema that a file is copied into.
pub fn schema_name(file: &Path, options: &Options) -> Result<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let target = options.schema.clone().unwrap_or_else(|| schema_of(&stem));
    check_schema(&target)?;
    if !file.is_file() {
        let detail = format!("there is no file {}", file.display());
        return Err(
            Error::new(ErrorKind::SourceMissing, detail).advice("give the path of a SQLite file")
        );
    }
    Ok(target)
}

/// The name of the pack that a copy of a file is written as.
pub fn pack_name(file: &Path, options: &Options) -> Result<String> {
    Ok(pack_of(&schema_name(file, options)?))
}

fn choose_tables(schema: &mut Schema, options: &Options) -> Result<()> {
    let known: Vec<String> = schema.tables.iter().map(|table| table.name.clone()).collect();
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    for name in options.tables.iter().chain(&options.skip) {
        if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(no_such("table", name, &names));
        }
    }
    let is_named = |list: &[String], name: &str| list.iter().any(|n| n.eq_ignore_ascii_case(name));
    let mut left = Vec::new();
    schema.tables.retain(|table| {
        let is_wanted = (options.tables.is_empty() || is_named(&options.tables, &table.name))
            && !is_named(&options.skip, &table.name);
        if !is_wanted {
            left.push(("table", table.name.clone()));
        }
        is_wanted
    });
    schema.others.extend(left);
    for table in &schema.tables {
        if table.columns.len() > COLUMNS_MAX {
            let detail = format!(
                "table `{}` has {} columns; Postgres takes {COLUMNS_MAX} at most",
                table.name,
                table.columns.len()
            );
            return Err(Error::new(ErrorKind::Usage, detail).advice(format!(
                "leave it behind with --skip {}, or copy views of parts of it with a pack",
                table.name
            )));
        }
    }
    Ok(())
}

fn check_asked(schema: &Schema, options: &Options) -> Result<()> {
    for asked in &options.types {
        let names: Vec<&str> = schema.tables.iter().map(|table| table.name.as_str()).collect();
        let table = schema.tables.iter().find(|t| t.name.eq_ignore_ascii_case(&asked.table));
        let table = table.ok_or_else(|| no_such("table", &asked.table, &names))?;
        if table.column_index(&asked.column).is_none() {
            let columns: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            return Err(no_such(&format!("column in {}", table.name), &asked.column, &columns));
        }
    }
    Ok(())
}

type Place = (usize, usize);

/// The type of every column; columns that refer to each other have one type.
fn choices(
    schema: &Schema,
    census: &[(u64, Vec<Evidence>)],
    references: &[Reference],
    options: &Options,
) -> Vec<Vec<Choice>> {
    let mut leads: BTreeMap<Place, Place> = BTreeMap::new();
    let root = |leads: &BTreeMap<Place, Place>, mut place: Place| {
        while let Some(next) = leads.get(&place) {
            place = *next;
        }
        place
    };
    for reference in references {
        for (mine, theirs) in reference.columns.iter().zip(&reference.parent_columns) {
            let from = root(&leads, (reference.table, *mine));
            let to = root(&leads, (reference.parent, *theirs));
            if from != to {
                leads.insert(from, to);
            }
        }
    }
    let mut groups: BTreeMap<Place, Vec<Place>> = BTreeMap::new();
    for (at, table) in schema.tables.iter().enumerate() {
        for column in 0..table.columns.len() {
            groups.entry(root(&leads, (at, column))).or_default().push((at, column));
        }
    }
    let mut found: Vec<Vec<Option<Choice>>> =
        schema.tables.iter().map(|table| vec![None; table.columns.len()]).collect();
    for (lead, members) in groups {
        let choice = of_group(schema, census, lead, &members, options);
        for (at, column) in &members {
            let mut choice = choice.clone();
            if let Some(asked_for) = asked_type(schema, (*at, *column), options) {
                let evidence = &census[*at].1[*column];
                choice = asked(&asked_for, evidence, options.zone.as_deref());
            }
            found[*at][*column] = Some(choice);
        }
    }
    found.into_iter().map(|columns| columns.into_iter().flatten().collect()).collect()
}

fn asked_type(schema: &Schema, (at, column): Place, options: &Options) -> Option<PgType> {
    let table = &schema.tables[at];
    let asked = options.types.iter().find(|asked| {
        asked.table.eq_ignore_ascii_case(&table.name)
            && asked.column.eq_ignore_ascii_case(&table.columns[column].name)
    })?;
    Some(asked.ty.clone())
}

fn of_group(
    schema: &Schema,
    census: &[(u64, Vec<Evidence>)],
    lead: Place,
    members: &[Place],
    options: &Options,
) -> Choice {
    let column = &schema.tables[lead.0].columns[lead.1];
    let mut evidence = Evidence::new(column, options.zone.as_deref());
    for (at, column) in members {
        evidence.merge(&census[*at].1[*column]);
    }
    evidence.census.finish();
    let wishes = Wishes {
        is_unique: members.iter().any(|(at, column)| is_in_key(&schema.tables[*at], *column)),
        keep_text: options.keep_text,
        epochs: options.epochs,
    };
    let mut choice = choose(column, &evidence, wishes);
    let text = &evidence.census.text;
    if text.nul.count + text.invalid_utf8.count > 0 && choice.ty == PgType::Text(None) {
        match options.bad_text {
            BadText::Bytea => {
                choice.ty = PgType::Bytea;
                choice.options.cast = Some(CastName::ByteaText);
                choice.hint = None;
            }
            BadText::Replace => choice.hint = None,
            BadText::Reject => {}
        }
    }
    choice
}

fn is_in_key(table: &Table, column: usize) -> bool {
    table.primary_key.contains(&column)
        || table
            .indexes
            .iter()
            .any(|index| index.unique && index.terms.iter().any(|term| term.column == Some(column)))
}

/// A table on its way to a plan.
pub(super) struct Drafted<'s> {
    pub(super) table: &'s Table,
    pub(super) rows: u64,
    pub(super) target: String,
    pub(super) names: Vec<String>,
    pub(super) choices: Vec<Choice>,
    pub(super) evidence: Vec<Evidence>,
    /// Expressions of columns that Postgres computes.
    pub(super) computed: Vec<Option<String>>,
    /// Columns whose references become NULL where they lead nowhere.
    pub(super) orphan_null: BTreeSet<usize>,
    /// Column sets that are unique.
    pub(super) unique_sets: Vec<BTreeSet<usize>>,
    /// Key columns for the pack.
    pub(super) key: Vec<usize>,
    /// Lines of the CREATE TABLE beside the columns.
    pub(super) constraints: Vec<String>,
    /// Statements after it.
    pub(super) statements: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Drafted<'_> {
    pub(super) fn known(&self) -> Vec<Known> {
        let columns = self.table.columns.iter().enumerate();
        columns
            .map(|(at, column)| Known {
                source: column.name.clone(),
                target: self.names[at].clone(),
                ty: self.choices[at].ty.clone(),
                is_binary: column.collation.is_none(),
            })
            .collect()
    }

    pub(super) fn is_not_null(&self, at: usize) -> bool {
        self.table.columns[at].not_null
            || (self.table.primary_key.contains(&at) && !self.has_null(at))
    }

    pub(super) fn has_null(&self, at: usize) -> bool {
        self.evidence[at].census.classes.null > 0
    }
}

fn drafts<'s>(
    schema: &'s Schema,
    census: Vec<(u64, Vec<Evidence>)>,
    choices: Vec<Vec<Choice>>,
    options: &Options,
) -> Vec<Drafted<'s>> {
    let mut tables = Names::new(options.lower_names);
    let all = schema.tables.iter().zip(census).zip(choices).enumerate();
    all.map(|(at, ((table, (rows, evidence)), choices))| {
        let target = tables.give(&table.name, &format!("table_{}", at + 1));
        let mut columns = Names::new(options.lower_names);
        let names = table.columns.iter().enumerate();
        let names = names
            .map(|(at, c)| columns.give_column(&c.name, &format!("column_{}", at + 1)))
            .collect();
        let mut notes = Vec::new();
        if table.is_opaque {
            notes.push("its CREATE TABLE is not understood: CHECKs are left out".to_owned());
        }
        let mut draft = Drafted {
            table,
            rows,
            target,
            names,
            choices,
            evidence,
            computed: vec![None; table.columns.len()],
            orphan_null: BTreeSet::new(),
            unique_sets: Vec::new(),
            key: Vec::new(),
            constraints: Vec::new(),
            statements: Vec::new(),
            notes,
        };
        renamed(&mut draft);
        compute(&mut draft);
        draft
    })
    .collect()
}

fn renamed(draft: &mut Drafted<'_>) {
    let mut pairs = vec![("table".to_owned(), draft.table.name.clone(), draft.target.clone())];
    let columns = draft.table.columns.iter().zip(&draft.names);
    pairs.extend(columns.map(|(c, to)| ("column".to_owned(), c.name.clone(), to.clone())));
    for (what, from, to) in pairs {
        if !from.eq_ignore_ascii_case(&to) {
            draft.notes.push(format!("{what} `{from}` is called `{to}`"));
        }
    }
}

/// Generated columns that Postgres can compute itself.
fn compute(draft: &mut Drafted<'_>) {
    let known = draft.known();
    let is_generated = |name: &str| {
        draft.table.column_index(name).is_some_and(|at| draft.table.columns[at].generated.is_some())
    };
    let mut found = Vec::new();
    for (at, column) in draft.table.columns.iter().enumerate() {
        let Some(expression) = &column.generated else { continue };
        let why = match expression {
            None => "its expression is not understood".to_owned(),
            Some(tokens) => {
                let uses_another =
                    tokens.iter().filter_map(super::tokens::Token::name).any(is_generated);
                match expression::value(tokens, &known) {
                    Ok(_) if uses_another => "it is made of another generated column".to_owned(),
                    Ok(typed) if has_type(typed.kind, &draft.choices[at].ty) => {
                        found.push((at, Ok(typed.sql)));
                        continue;
                    }
                    Ok(_) => format!("({}) is of another type", expression::text(tokens)),
                    Err(why) => format!("({}): {why}", expression::text(tokens)),
                }
            }
        };
        found.push((at, Err(why)));
    }
    for (at, result) in found {
        let name = &draft.names[at];
        match result {
            Ok(sql) => {
                draft.notes.push(format!("column {name} is computed by Postgres: {sql}"));
                draft.computed[at] = Some(sql);
            }
            Err(why) => draft.notes.push(format!(
                "column {name} is stored with its values, no longer computed: {why}"
            )),
        }
    }
}

fn has_type(kind: Kind, ty: &PgType) -> bool {
    matches!(
        (kind, ty),
        (Kind::Integer, PgType::Int8)
            | (Kind::Text, PgType::Text(_))
            | (Kind::Real, PgType::Float8)
    )
}

// The pieces of one plan; a struct of them would have one user.
#[allow(clippy::too_many_arguments)]
fn finish(
    database: &Database,
    schema: &Schema,
    mut drafts: Vec<Drafted<'_>>,
    references: &[Reference],
    options: &Options,
    target: String,
    file: &Path,
    file_name: &str,
) -> Result<Plan> {
    // Tables and the file's own index names come first; constraints take what is left.
    let mut names = Names::new(options.lower_names);
    for draft in &drafts {
        names.give(&draft.target, "table");
    }
    for draft in &mut drafts {
        constraints::indexes(draft, &target, &mut names);
    }
    for draft in &mut drafts {
        constraints::key(draft, &mut names);
        constraints::checks(draft, &mut names);
        let left_out = emit::defaults_left_out(draft);
        draft.notes.extend(left_out);
    }
    let reached = keys::reach(drafts.len(), references);
    let mut ends = Vec::new();
    let mut after: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); drafts.len()];
    for reference in references {
        let orphans = keys::dangling(database, schema, reference)?;
        let is_circle = reached[reference.parent].contains(&reference.table)
            || reference.parent == reference.table;
        let made = keys::foreign_key(
            &drafts,
            reference,
            is_circle,
            orphans,
            options.dangling,
            &target,
            &mut names,
        );
        let draft = &mut drafts[reference.table];
        match made {
            Err(why) => draft.notes.push(why),
            Ok((kept, said)) => {
                draft.notes.extend(said);
                if kept.orphan_null {
                    draft.orphan_null.extend(&reference.columns);
                }
                ends.push(kept.statement);
                if !is_circle {
                    after[reference.table].insert(reference.parent);
                }
            }
        }
    }
    let pack = pack_of(&target);
    let migration = emit::migration(&drafts, &ends, &target, file_name);
    let manifest = emit::manifest(&drafts, &after, &target, &pack, file_name, options);
    let not_copied = schema.others.iter();
    let not_copied = not_copied
        .map(|(kind, name)| NotCopied { kind: (*kind).to_owned(), name: name.clone() })
        .collect();
    Ok(Plan {
        source: file.to_path_buf(),
        notes: notes(&drafts),
        tables: drafts.into_iter().map(table_plan).collect(),
        schema: target,
        pack,
        not_copied,
        migration,
        manifest,
    })
}

fn notes(drafts: &[Drafted<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    let names = drafts.iter().flat_map(|draft| std::iter::once(&draft.target).chain(&draft.names));
    let mut capitals: Vec<&str> = Vec::new();
    for name in names {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) && !capitals.contains(&name.as_str())
        {
            capitals.push(name);
        }
    }
    if !capitals.is_empty() {
        let more = capitals.len().saturating_sub(5);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!(
            "names with capitals need double quotes in Postgres: {}{tail} (--lower-names makes them \
             lower-case)",
            capitals[..capitals.len() - more].join(", ")
        ));
    }
    notes
}

fn table_plan(draft: Drafted<'_>) -> TablePlan {
    let columns = draft.table.columns.iter().zip(&draft.names).zip(&draft.choices);
    let columns = columns
        .map(|((column, target), choice)| ColumnPlan {
            source: column.name.clone(),
            target: target.clone(),
            declared: column.declared.clone(),
            ty: choice.ty.name(),
            why: choice.why.clone(),
            hint: choice.hint.clone(),
        })
        .collect();
    TablePlan {
        source: draft.table.name.clone(),
        rows: draft.rows,
        key: draft.key.iter().map(|at| draft.names[*at].clone()).collect(),
        columns,
        target: draft.target,
        notes: draft.notes,
    }
}

/// For the pack: what stands beside the natural cast.
pub(super) fn beside_natural(options: &CastOptions) -> bool {
    *options != CastOptions::default()
}
