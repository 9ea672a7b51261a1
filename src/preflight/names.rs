//! Names of a source that Postgres would not tell apart, cut off, or not take at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::pack::plan::{PackPlan, SourceKind};
use crate::source::discover::{Discovered, SourceFile};
use crate::source::documents::csv_header;
use crate::source::sqlite::Database;

/// Columns of a Postgres table at most (`MaxHeapAttributeNumber`,
/// `src/include/access/htup_details.h`).
const COLUMNS_MAX: usize = 1_600;

/// Bytes of a Postgres identifier at most (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;

/// Names and declared references of one source file.
#[derive(Debug, Clone, Serialize)]
pub struct FileCensus {
    /// File.
    pub file: String,
    /// Tables and views of a `SQLite` file that no stream reads.
    pub unread_tables: Vec<String>,
    /// Names to look at.
    pub names: Vec<NameFinding>,
    /// References that lead nowhere by `SQLite`'s `PRAGMA foreign_key_check`.
    pub broken_references: Vec<SourceReference>,
    /// Why that could not be asked.
    pub references_not_checked: Option<String>,
}

/// Rows of a source whose declared foreign key leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceReference {
    /// Table that declares the key.
    pub table: String,
    /// Table it leads to.
    pub parent: String,
    /// Rows.
    pub rows: u64,
}

/// What is wrong with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameFindingKind {
    /// They differ in letter case only.
    CaseTwins,
    /// They are one name once Postgres has cut them to 63 bytes.
    CutTwins,
    /// Over 63 bytes.
    TooLong,
    /// A table with more columns than a Postgres table can have.
    TooManyColumns,
}

/// Names to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameFinding {
    /// What.
    pub kind: NameFindingKind,
    /// The table whose columns they are; None for tables.
    pub table: Option<String>,
    /// The names, shortened.
    pub names: Vec<String>,
    /// For a person.
    pub detail: String,
}

/// Looks at the names of every file the chosen streams read.
pub(super) fn files(
    plan: &PackPlan,
    discovered: &Discovered,
    chosen: &[usize],
) -> Result<Vec<FileCensus>> {
    let mut tables: BTreeMap<&str, (&SourceFile, BTreeSet<String>)> = BTreeMap::new();
    let mut found = Vec::new();
    for stream in chosen.iter().map(|at| &plan.streams[*at]) {
        let Some(files) = discovered.streams.get(&stream.name) else { continue };
        match &stream.source {
            SourceKind::Sqlite { table, .. } => {
                for file in &files.files {
                    let entry = tables.entry(&file.relative).or_insert((file, BTreeSet::new()));
                    entry.1.insert(table.to_ascii_lowercase());
                }
            }
            SourceKind::Csv { .. } => {
                for file in files.files.iter().filter(|file| file.size_bytes > 0) {
                    found.extend(csv_file(file)?);
                }
            }
            SourceKind::Json { .. } | SourceKind::Jsonl { .. } => {}
        }
    }
    for (file, read) in tables.into_values() {
        // Another pack's stream may be left out of this census, but not be called unread.
        let read = all_read(plan, file, discovered, read);
        found.push(database(file, &read)?);
    }
    Ok(found)
}

/// A CSV file whose header has something to look at.
fn csv_file(file: &SourceFile) -> Result<Option<FileCensus>> {
    let mut names = Vec::new();
    judge("columns", None, &csv_header(file)?, &mut names);
    Ok((!names.is_empty()).then(|| FileCensus {
        file: file.relative.clone(),
        unread_tables: Vec::new(),
        names,
        broken_references: Vec::new(),
        references_not_checked: None,
    }))
}

fn all_read(
    plan: &PackPlan,
    file: &SourceFile,
    discovered: &Discovered,
    mut read: BTreeSet<String>,
) -> BTreeSet<String> {
    for stream in &plan.streams {
        let SourceKind::Sqlite { table, .. } = &stream.source else { continue };
        let files = discovered.streams.get(&stream.name);
        if files.is_some_and(|files| files.files.contains(file)) {
            read.insert(table.to_ascii_lowercase());
        }
    }
    read
}

fn database(file: &SourceFile, read: &BTreeSet<String>) -> Result<FileCensus> {
    let database = Database::open(&file.path)?;
    let tables = database.tables()?;
    let mut names = Vec::new();
    judge("tables", None, &tables, &mut names);
    for table in &tables {
        let columns = database.columns(table)?;
        judge("columns", Some(table), &columns, &mut names);
        if columns.len() > COLUMNS_MAX {
            names.push(NameFinding {
                kind: NameFindingKind::TooManyColumns,
                table: Some(table.clone()),
                names: Vec::new(),
                detail: too_wide(table, columns.len()),
            });
        }
    }
    let (broken_references, references_not_checked) = match database.broken_references() {
        Ok(broken) => (broken, None),
        Err(error) => (Vec::new(), Some(error.detail().to_owned())),
    };
    let is_unread = |table: &String| !read.contains(&table.to_ascii_lowercase());
    Ok(FileCensus {
        file: file.relative.clone(),
        unread_tables: tables.iter().filter(|t| is_unread(t)).map(|t| cut(t)).collect(),
        names,
        broken_references: broken_references
            .into_iter()
            .map(|found| SourceReference {
                table: found.table,
                parent: found.parent,
                rows: found.rows,
            })
            .collect(),
        references_not_checked,
    })
}

/// Refuses tables that the pack reads and no Postgres table can hold, in words that a compiler of
/// packs, which misses some column in the target, does not have.
pub(super) fn refuse_wide_tables(discovered: &Discovered, pack: &crate::pack::Pack) -> Result<()> {
    for stream in &pack.manifest.streams {
        let Some(table) = &stream.source.table else { continue };
        let Some(files) = discovered.streams.get(stream.name.get_ref()) else { continue };
        for file in &files.files {
            let width = Database::open(&file.path)?.columns(table.get_ref())?.len();
            if width > COLUMNS_MAX {
                let detail = format!("{}: {}", file.relative, too_wide(table.get_ref(), width));
                return Err(Error::new(ErrorKind::Pack, detail).advice(
                    "leave columns behind with `ignore`, or make views of the table and a stream \
                     of each",
                ));
            }
        }
    }
    Ok(())
}

fn too_wide(table: &str, columns: usize) -> String {
    format!("table `{}` has {columns} columns; Postgres takes {COLUMNS_MAX} at most", cut(table))
}

fn judge(what: &str, table: Option<&String>, all: &[String], found: &mut Vec<NameFinding>) {
    let place = table.map(|table| format!(" of `{}`", cut(table))).unwrap_or_default();
    let mut push = |kind, names: Vec<&String>, why: &str| {
        let names: Vec<String> = names.into_iter().map(|name| cut(name)).collect();
        let detail = format!("{what}{place} {why}: {}", names.join(", "));
        found.push(NameFinding { kind, table: table.cloned(), names, detail });
    };
    for twins in twins(all, str::to_lowercase) {
        push(NameFindingKind::CaseTwins, twins, "that differ in letter case only");
    }
    let cut_off = |name: &str| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_lowercase();
    for twins in twins(all, cut_off) {
        if twins.iter().any(|name| name.len() > NAME_BYTES_MAX) {
            push(NameFindingKind::CutTwins, twins, "that are one name in their first 63 bytes");
        }
    }
    let long: Vec<&String> = all.iter().filter(|name| name.len() > NAME_BYTES_MAX).collect();
    if !long.is_empty() {
        push(NameFindingKind::TooLong, long, "over 63 bytes, which Postgres cuts off");
    }
}

fn twins(all: &[String], fold: impl Fn(&str) -> String) -> Vec<Vec<&String>> {
    let mut by_name: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for name in all {
        by_name.entry(fold(name)).or_default().push(name);
    }
    by_name.into_values().filter(|names| names.len() > 1).collect()
}

/// A long name by its beginning and end, where twins differ.
fn cut(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let head: String = characters[..24].iter().collect();
    let tail: String = characters[characters.len() - 12..].iter().collect();
    format!("{head}...{tail} ({} bytes)", name.len())
}
