//! Writing an archive: every table in one snapshot, each file whole or not at all, the manifest last.
//!
//! While an export is unfinished, `.export.jsonl` in its folder has a line for each finished file.
//! The next export there keeps such a file where the table's digests are still those of the line
//! and the file's own bytes are too.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;

use super::manifest::{
    ARCHIVE_VERSION, DataFormat, FileFacts, MANIFEST, Manifest, MigrationFacts, PackFacts, SUMS,
    SequenceFacts, TableFacts,
};
use super::tables::{Sheet, of_pack};
use super::{Event, Listener, ROWS_PER_EVENT, csv, jsonl, rows, source_pack, sqlite};
use crate::backfill::positions_of_tables;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::migrate::{self, MigrationSet};
use crate::pack::Pack;
use crate::source::discover::hash_file;
use crate::store::catalog::Table;
use crate::whole_file::{WholeFile, write_whole};

/// Names the files of an unfinished export; whoever holds its lock writes the archive.
const PROGRESS: &str = ".export.jsonl";

/// What files begin with that are still being written.
const TEMPORARY: &str = ".toolkit-";

/// Where and how an archive is written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Its folder.
    pub folder: PathBuf,
    /// How rows are written.
    pub format: DataFormat,
    /// Replace an archive that is there.
    pub overwrite: bool,
    /// A sidecar to take along.
    pub sidecar: Option<PathBuf>,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The archive's folder.
    pub folder: PathBuf,
    /// The pack.
    pub pack: String,
    /// How rows are written.
    pub data_format: DataFormat,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of all files but manifest and digests.
    pub bytes: u64,
    /// SHA-256 of the manifest, which holds the digests of all other files.
    pub manifest_sha256: String,
    /// The tables.
    pub tables: Vec<ExportedTable>,
}

/// A table that was written.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedTable {
    /// `schema.table`
    pub table: String,
    /// Its file.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its file was there from an export that was interrupted.
    pub kept: bool,
}

/// A line of [`PROGRESS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    data_format: DataFormat,
    table: TableFacts,
    file: FileFacts,
}

/// Writes the tables of `pack`, as one snapshot shows them, into a folder.
///
/// Fails with [`ErrorKind::Usage`] where the folder holds something else or a finished archive,
/// with [`ErrorKind::Busy`] where another export writes there, with [`ErrorKind::Migration`] where
/// the migrations of `set` are not all applied.
pub async fn export(
    conn: &mut PgConnection,
    pack: &Pack,
    set: Option<&MigrationSet>,
    options: &ExportOptions,
    stop: &Stop,
    on: &Listener<'_>,
) -> Result<Exported> {
    if let Some(set) = set {
        migrate::require_current_set(conn, set).await?;
    }
    let mut place = Place::begin(options)?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *conn).await?;
    let tables = of_pack(conn, pack, set).await?;
    let sequences = sequences(conn, &tables).await?;
    let written = if options.format == DataFormat::Sqlite {
        Box::pin(place.database(conn, tables, stop, on)).await?
    } else {
        let mut written = Vec::new();
        for (at, table) in tables.into_iter().enumerate() {
            let sheet = Sheet::of(table)?;
            let (file, kept) = place.table(conn, &sheet, at, stop, on).await?;
            written.push(Written { sheet, file, kept });
        }
        written
    };
    sqlx::raw_sql("ROLLBACK").execute(&mut *conn).await?;
    let report = written.iter().map(Written::exported).collect();
    let manifest = place.pack_files(pack, set, written, sequences)?;
    let text = manifest.text()?;
    place.finish(&manifest, &text)?;
    Ok(Exported {
        folder: options.folder.clone(),
        pack: pack.name().to_owned(),
        data_format: options.format,
        rows: manifest.tables.iter().map(|table| table.rows).sum(),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        manifest_sha256: hex::encode(crate::canonical::sha256(text.as_bytes())),
        tables: report,
    })
}

async fn sequences(conn: &mut PgConnection, tables: &[Table]) -> Result<Vec<SequenceFacts>> {
    let positions = positions_of_tables(conn, tables.iter()).await?;
    let facts = positions.into_iter().map(|(name, position)| SequenceFacts {
        name,
        last_value: position.last_value,
        is_called: position.is_called,
    });
    Ok(facts.collect())
}

/// A table whose rows are in a file.
struct Written {
    sheet: Sheet,
    file: Finished,
    kept: bool,
}

impl Written {
    fn exported(&self) -> ExportedTable {
        ExportedTable {
            table: self.file.table.display_name(),
            file: self.file.file.name.clone(),
            rows: self.file.table.rows,
            kept: self.kept,
        }
    }
}

/// The folder of an archive in the making.
struct Place<'o> {
    options: &'o ExportOptions,
    progress: File,
    noted: Vec<Finished>,
}

impl<'o> Place<'o> {
    fn begin(options: &'o ExportOptions) -> Result<Self> {
        let folder = &options.folder;
        check_folder(folder, options.overwrite)?;
        let path = folder.join(PROGRESS);
        for part in ["data", "pack"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(|error| unwritable(&part, error))?;
        }
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let progress = opened.map_err(|error| unwritable(&path, error))?;
        if progress.try_lock().is_err() {
            let detail = format!("another export is writing to {}", folder.display());
            return Err(Error::new(ErrorKind::Busy, detail).advice("wait for it, or name another"));
        }
        // Another export may have ended between the look at the folder and the lock.
        check_folder(folder, options.overwrite)?;
        // What is there from now on is no archive, whatever happens.
        for name in [MANIFEST, SUMS] {
            remove(&folder.join(name))?;
        }
        // A line that was cut off names nothing; what follows it must begin a line of its own.
        let text = fs::read_to_string(&path).map_err(|error| unwritable(&path, error))?;
        let noted = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut this = Self { options, progress, noted };
        if !text.is_empty() && !text.ends_with('\n') {
            this.note(b"\n")?;
        }
        Ok(this)
    }

    fn note(&mut self, line: &[u8]) -> Result<()> {
        let written = self.progress.write_all(line).and_then(|()| self.progress.sync_data());
        written.map_err(|error| unwritable(&self.options.folder.join(PROGRESS), error))
    }

    /// Writes the file of a table, or keeps the one that is there; whether it was kept.
    async fn table(
        &mut self,
        conn: &mut PgConnection,
        sheet: &Sheet,
        at: usize,
        stop: &Stop,
        on: &Listener<'_>,
    ) -> Result<(Finished, bool)> {
        let table = &sheet.table;
        let held = sheet.held(conn, stop).await?;
        on(Event::Table { name: table.display_name(), rows: held.rows });
        let facts = TableFacts {
            schema: table.schema.clone(),
            name: table.name.clone(),
            file: file_name(at, sheet, self.options.format),
            stored_as: None,
            columns: sheet.column_facts(),
            key: sheet.key_names(),
            rows: held.rows,
            root: held.root,
            exact_root: held.exact_root,
        };
        if let Some(kept) = self.kept(&facts) {
            on(Event::Rows(facts.rows));
            on(Event::Done);
            return Ok((kept, true));
        }
        let file = self.write_rows(conn, sheet, &facts, stop, on).await?;
        let finished = Finished { data_format: self.options.format, table: facts, file };
        let mut line = serde_json::to_vec(&finished)
            .map_err(|e| Error::new(ErrorKind::Bug, "a note is not JSON").because(e))?;
        line.push(b'\n');
        self.note(&line)?;
        on(Event::Done);
        Ok((finished, false))
    }

    /// Writes all tables into one file, anew each time: it is the same bytes only as a whole.
    async fn database(
        &self,
        conn: &mut PgConnection,
        tables: Vec<Table>,
        stop: &Stop,
        on: &Listener<'_>,
    ) -> Result<Vec<Written>> {
        let folder = &self.options.folder;
        let mut database = sqlite::Writer::begin(folder)?;
        let mut names = sqlite::Names::default();
        let mut sheets = Vec::new();
        for table in tables {
            let sheet = Sheet::of(table)?;
            let held = sheet.held(conn, stop).await?;
            let name = names.give(&sheet.table.display_name());
            on(Event::Table { name: sheet.table.display_name(), rows: held.rows });
            database.table(&name, &sheet)?;
            let rows = put_rows(conn, &sheet, stop, on, &mut |row| database.row(row)).await?;
            same_rows(&name, held.rows, rows)?;
            on(Event::Done);
            let facts = TableFacts {
                schema: sheet.table.schema.clone(),
                name: sheet.table.name.clone(),
                file: sqlite::DATABASE.to_owned(),
                stored_as: Some(name),
                columns: sheet.column_facts(),
                key: sheet.key_names(),
                rows: held.rows,
                root: held.root,
                exact_root: held.exact_root,
            };
            sheets.push((sheet, facts));
        }
        database.finish()?;
        let (sha256, bytes) = hash_file(&folder.join(sqlite::DATABASE))?;
        let file = FileFacts { name: sqlite::DATABASE.to_owned(), bytes, sha256 };
        let written = sheets.into_iter().map(|(sheet, table)| Written {
            sheet,
            file: Finished { data_format: DataFormat::Sqlite, table, file: file.clone() },
            kept: false,
        });
        Ok(written.collect())
    }

    /// The file of an earlier export, if the table is what it was and the file too.
    fn kept(&self, facts: &TableFacts) -> Option<Finished> {
        let noted = self
            .noted
            .iter()
            .rev()
            .find(|noted| noted.table == *facts && noted.data_format == self.options.format)?;
        let path = self.options.folder.join(&noted.file.name);
        let (sha256, bytes) = hash_file(&path).ok()?;
        (noted.file.sha256 == sha256 && noted.file.bytes == bytes).then(|| noted.clone())
    }

    async fn write_rows(
        &self,
        conn: &mut PgConnection,
        sheet: &Sheet,
        facts: &TableFacts,
        stop: &Stop,
        on: &Listener<'_>,
    ) -> Result<FileFacts> {
        let format = self.options.format;
        let mut file = Summed::begin(&self.options.folder, &facts.file)?;
        let mut line = match format {
            DataFormat::Csv => csv::header(&sheet.columns),
            _ => Vec::new(),
        };
        file.write(&line)?;
        let rows = put_rows(conn, sheet, stop, on, &mut |row| {
            line.clear();
            match format {
                DataFormat::Csv => csv::write(row, &mut line),
                _ => jsonl::write(&sheet.columns, row, &mut line),
            }
            file.write(&line)
        })
        .await?;
        same_rows(&facts.file, facts.rows, rows)?;
        file.finish()
    }

    /// Copies what the pack is, and makes the manifest.
    fn pack_files(
        &self,
        pack: &Pack,
        set: Option<&MigrationSet>,
        written: Vec<Written>,
        sequences: Vec<SequenceFacts>,
    ) -> Result<Manifest> {
        let folder = &self.options.folder;
        let mut files = Vec::new();
        if self.options.format == DataFormat::Sqlite {
            let part = folder.join("origin");
            fs::create_dir_all(&part).map_err(|error| unwritable(&part, error))?;
            files.push(write_small(folder, "origin/pack.toml", pack.text.as_bytes())?);
            let sheets: Vec<_> = written.iter().map(|one| (&one.sheet, &one.file.table)).collect();
            let text = source_pack::manifest(pack, &sheets);
            files.push(write_small(folder, "pack/pack.toml", text.as_bytes())?);
        } else {
            files.push(write_small(folder, "pack/pack.toml", pack.text.as_bytes())?);
        }
        let mut migrations = Vec::new();
        for migration in set.iter().flat_map(|set| &set.migrations) {
            let name = format!("pack/{}", migration.file_name);
            files.push(write_small(folder, &name, migration.sql().as_bytes())?);
            migrations.push(MigrationFacts {
                file: migration.file_name.clone(),
                checksum: migration.checksum().to_string(),
            });
        }
        if let Some(sidecar) = &self.options.sidecar {
            let part = folder.join("sidecar");
            fs::create_dir_all(&part).map_err(|error| unwritable(&part, error))?;
            let bytes =
                fs::read(sidecar).map_err(|error| Error::from(error).context(sidecar.display()))?;
            let name = sidecar.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("sidecar/{name}");
            super::manifest::check_name(&name)?;
            files.push(write_small(folder, &name, &bytes)?);
        }
        let mut tables = Vec::new();
        for Written { file: Finished { table, file, .. }, .. } in written {
            tables.push(table);
            files.push(file);
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        // One file may hold several tables.
        files.dedup();
        Ok(Manifest {
            archive_version: ARCHIVE_VERSION,
            data_format: self.options.format,
            encoding_version: crate::canonical::ENCODING_VERSION,
            pack: PackFacts {
                name: pack.name().to_owned(),
                version: pack.manifest.pack.version,
                fingerprint: pack.fingerprint(),
            },
            migrations,
            tables,
            sequences,
            files,
        })
    }

    /// Removes what is not the archive's, and makes the folder one.
    fn finish(self, manifest: &Manifest, text: &str) -> Result<()> {
        let folder = &self.options.folder;
        let listed: BTreeSet<PathBuf> =
            manifest.files.iter().map(|file| folder.join(&file.name)).collect();
        for part in ["data", "origin", "pack", "sidecar"].map(|part| folder.join(part)) {
            let Ok(entries) = fs::read_dir(&part) else { continue };
            for entry in entries {
                let path = entry.map_err(|error| unwritable(&part, error))?.path();
                if path.is_file() && !listed.contains(&path) {
                    remove(&path)?;
                }
            }
            if !listed.iter().any(|path| path.starts_with(&part)) {
                fs::remove_dir(&part).map_err(|error| unwritable(&part, error))?;
            }
        }
        let entries = fs::read_dir(folder).map_err(|error| unwritable(folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unwritable(folder, error))?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove(&entry.path())?;
            }
        }
        write_whole(&folder.join(SUMS), manifest.sums(text).as_bytes())?;
        write_whole(&folder.join(MANIFEST), text.as_bytes())?;
        remove(&folder.join(PROGRESS))
    }
}

/// Refuses a folder whose content an export has no business with.
fn check_folder(folder: &Path, overwrite: bool) -> Result<()> {
    let refused = |what: &str, advice: &str| {
        Err(Error::new(ErrorKind::Usage, format!("{} {what}", folder.display())).advice(advice))
    };
    if folder.exists() && !folder.is_dir() {
        return refused("is there, and is no folder", "name a folder");
    }
    fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    if folder.join(MANIFEST).exists() {
        if overwrite {
            return Ok(());
        }
        return refused(
            "holds a finished archive",
            "name another folder, or replace it with --overwrite",
        );
    }
    if folder.join(PROGRESS).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(|error| unwritable(folder, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unwritable(folder, error))?;
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            return refused("is not empty, and holds no archive", "name a new or empty folder");
        }
    }
    Ok(())
}

/// `data/001-schema.table.jsonl`: the number makes it unique, whatever the names are made of.
fn file_name(at: usize, sheet: &Sheet, format: DataFormat) -> String {
    const SHOWN_MAX: usize = 100;
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = sheet.table.display_name();
    let shown: String = name.chars().filter(is_plain).take(SHOWN_MAX).collect();
    format!("data/{:03}-{shown}.{}", at + 1, format.extension())
}

/// Hands every row of a table to `put`, in key order; how many there were.
async fn put_rows(
    conn: &mut PgConnection,
    sheet: &Sheet,
    stop: &Stop,
    on: &Listener<'_>,
    put: &mut (dyn FnMut(&rows::Row) -> Result<()> + Send),
) -> Result<u64> {
    let mut number = 0;
    rows::copy_out(conn, &sheet.copy_statement(), stop, &mut |row| {
        number += 1;
        if number % ROWS_PER_EVENT == 0 {
            on(Event::Rows(ROWS_PER_EVENT));
        }
        put(row)
    })
    .await
    .map_err(|error| error.context(sheet.table.display_name()))?;
    on(Event::Rows(number % ROWS_PER_EVENT));
    Ok(number)
}

fn same_rows(name: &str, first: u64, then: u64) -> Result<()> {
    if first == then {
        return Ok(());
    }
    let detail = format!("{name}: one snapshot showed {first} rows, then {then}");
    Err(Error::new(ErrorKind::Bug, detail))
}

fn write_small(folder: &Path, name: &str, bytes: &[u8]) -> Result<FileFacts> {
    let mut file = Summed::begin(folder, name)?;
    file.write(bytes)?;
    file.finish()
}

/// A file whose digest is known when it is written.
struct Summed {
    name: String,
    file: WholeFile,
    hash: Sha256,
    bytes: u64,
}

impl Summed {
    fn begin(folder: &Path, name: &str) -> Result<Self> {
        let file = WholeFile::begin(&folder.join(name))?;
        Ok(Self { name: name.to_owned(), file, hash: Sha256::new(), bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write(bytes)
    }

    fn finish(self) -> Result<FileFacts> {
        self.file.finish()?;
        let sha256 = hex::encode(self.hash.finalize());
        Ok(FileFacts { name: self.name, bytes: self.bytes, sha256 })
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(path, error)),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
        .because(error)
        .advice("name a folder that this user may write to, on a disk with room")
}
