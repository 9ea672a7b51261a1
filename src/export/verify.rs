//! An archive is believed when every file of it is what its manifest says.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::manifest::{DataFormat, FileFacts, MANIFEST, Manifest, SUMS, TableFacts};
use super::rows::{ROWS_PER_LOOK, Row};
use super::{csv, jsonl, sqlite};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::migrate::MigrationSet;
use crate::pack::Pack;

/// An archive whose files were all read and found to be what the manifest says.
#[derive(Debug)]
pub struct Archive {
    /// Its folder.
    pub folder: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// Its pack.
    pub pack: Pack,
    /// Its migrations, if it has any.
    pub set: Option<MigrationSet>,
}

/// Reads every file of the archive in `folder` and compares size, SHA-256 and number of rows.
/// Blocking.
pub fn open(folder: &Path, stop: &Stop) -> Result<Archive> {
    let text = manifest_text(folder)?;
    let manifest = Manifest::parse(&text)?;
    check_sums(folder, &manifest, &text)?;
    for file in &manifest.files {
        check_file(folder, file, stop)?;
    }
    for table in &manifest.tables {
        check_rows(folder, manifest.data_format, table, stop)?;
    }
    let pack = read_pack(folder, &manifest)?;
    let set = read_migrations(folder, &manifest)?;
    Ok(Archive { folder: folder.to_path_buf(), manifest, pack, set })
}

fn manifest_text(folder: &Path) -> Result<String> {
    let Ok(metadata) = std::fs::metadata(folder) else {
        let detail = format!("there is no folder {}", folder.display());
        return Err(Error::new(ErrorKind::SourceMissing, detail).advice("name an archive's folder"));
    };
    if !metadata.is_dir() {
        let detail = format!("{} is not a folder", folder.display());
        return Err(Error::new(ErrorKind::Usage, detail).advice("name an archive's folder"));
    }
    if std::fs::symlink_metadata(folder.join(MANIFEST)).is_err() {
        return Err(Error::new(
            ErrorKind::SourceMissing,
            format!("{} is no archive: it has no {MANIFEST}", folder.display()),
        )
        .advice("an export that did not reach its end has none: run the export again"));
    }
    read_text(folder, MANIFEST)
}

/// What `SHA256SUMS` has to say follows from the manifest.
fn check_sums(folder: &Path, manifest: &Manifest, text: &str) -> Result<()> {
    if read_text(folder, SUMS)? == manifest.sums(text) {
        return Ok(());
    }
    Err(damaged(format!(
        "{SUMS} and {MANIFEST} do not agree: one of them was changed after the export"
    )))
}

fn check_file(folder: &Path, facts: &FileFacts, stop: &Stop) -> Result<()> {
    let path = plain_file(folder, &facts.name)?;
    let unreadable = |error| unreadable(&path, error);
    let mut file = File::open(&path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size != facts.bytes {
        return Err(damaged(format!(
            "{} has {size} bytes, and had {} when it was written",
            path.display(),
            facts.bytes
        )));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        stop.check()?;
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    if hex::encode(hash.finalize()) != facts.sha256 {
        return Err(damaged(format!("{} was changed: its SHA-256 is another one", path.display())));
    }
    Ok(())
}

fn check_rows(folder: &Path, format: DataFormat, facts: &TableFacts, stop: &Stop) -> Result<()> {
    let mut reader = RowReader::open(folder, format, facts)?;
    let mut row = Row::new();
    while reader.next(&mut row)? {
        if reader.rows.is_multiple_of(ROWS_PER_LOOK) {
            stop.check()?;
        }
    }
    if reader.rows == facts.rows {
        return Ok(());
    }
    Err(damaged(format!("{} has {} rows, not {}", facts.file, reader.rows, facts.rows)))
}

fn read_pack(folder: &Path, manifest: &Manifest) -> Result<Pack> {
    let file = manifest.pack_file();
    let pack = Pack::find(&folder.join(file).to_string_lossy())?;
    let facts = &manifest.pack;
    let is_same = pack.name() == facts.name
        && pack.manifest.pack.version == facts.version
        && pack.fingerprint() == facts.fingerprint;
    if is_same {
        return Ok(pack);
    }
    Err(damaged(format!("{file} is not of version {} of {}", facts.version, facts.name)))
}

/// Only the files that the manifest lists are migrations.
fn read_migrations(folder: &Path, manifest: &Manifest) -> Result<Option<MigrationSet>> {
    if manifest.migrations.is_empty() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for migration in &manifest.migrations {
        let text = read_text(folder, &format!("pack/{}", migration.file))?;
        files.push((migration.file.clone(), text));
    }
    let set = MigrationSet::new(&manifest.pack.name, files)?;
    for migration in &set.migrations {
        let checksum = migration.checksum().to_string();
        let is_same = |facts: &super::MigrationFacts| {
            facts.file == migration.file_name && facts.checksum == checksum
        };
        if !manifest.migrations.iter().any(is_same) {
            return Err(damaged(format!("migration {} is another one", migration.file_name)));
        }
    }
    Ok(Some(set))
}

/// The path of a file of the archive; no part of it may be a link.
fn plain_file(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut path = folder.to_path_buf();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let found = std::fs::symlink_metadata(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return damaged(format!("{} is missing", path.display()));
            }
            unreadable(&path, error)
        })?;
        let is_right = if parts.peek().is_some() { found.is_dir() } else { found.is_file() };
        if !is_right {
            let what = if found.is_symlink() { "a symbolic link" } else { "no plain file" };
            return Err(damaged(format!("{} is {what}", path.display())));
        }
    }
    Ok(path)
}

fn read_text(folder: &Path, name: &str) -> Result<String> {
    let path = plain_file(folder, name)?;
    std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be read: {error}", path.display()))
        .because(error)
        .advice("see that this user may read it, and that the disk is sound")
}

pub(super) fn damaged(what: String) -> Error {
    Error::new(ErrorKind::SourceUnreadable, what)
        .advice("fetch the archive again, or export again; nothing of it was used")
}

/// Reads the rows of one table.
pub(super) struct RowReader {
    input: Input,
    columns: Vec<String>,
    file: String,
    pub(super) rows: u64,
}

/// A file that is read from its beginning to its end is digested on the way.
enum Input {
    Jsonl(Digesting<BufReader<File>>),
    Csv(Digesting<BufReader<File>>),
    Sqlite { reader: Box<sqlite::Reader>, path: PathBuf, opened: Stamp },
}

/// What changes when a file is written to.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    Ok((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

impl RowReader {
    pub(super) fn open(folder: &Path, format: DataFormat, facts: &TableFacts) -> Result<Self> {
        let path = plain_file(folder, &facts.file)?;
        let columns: Vec<String> = facts.columns.iter().map(|column| column.name.clone()).collect();
        let lines = || -> Result<_> {
            let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
            Ok(Digesting { inner: BufReader::with_capacity(1 << 18, file), hash: Sha256::new() })
        };
        let input = match format {
            DataFormat::Jsonl => Input::Jsonl(lines()?),
            DataFormat::Csv => Input::Csv(lines()?),
            DataFormat::Sqlite => {
                let opened = stamp(&path)?;
                let table = facts.stored_as.as_deref().unwrap_or_default();
                let reader = sqlite::Reader::open(&path, table, &columns)
                    .map_err(|error| error.context(format!("{}, {table}", facts.file)))?;
                Input::Sqlite { reader: Box::new(reader), path, opened }
            }
        };
        let mut this = Self { input, columns, file: facts.file.clone(), rows: 0 };
        if let Input::Csv(input) = &mut this.input {
            let mut header = Row::new();
            let is_there = csv::read(input, &mut header)?;
            let expected: Row = this.columns.iter().cloned().map(Some).collect();
            if !is_there || header != expected {
                let what = format!("{}: its header is not the table's columns", this.file);
                return Err(damaged(what));
            }
        }
        Ok(this)
    }

    /// Reads the next row; false at the end.
    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool> {
        let read = match &mut self.input {
            Input::Jsonl(input) => jsonl::read(input, &self.columns, row),
            Input::Csv(input) => csv::read(input, row),
            Input::Sqlite { reader, .. } => reader.next(row),
        };
        let place = || format!("{}, row {}", self.file, self.rows + 1);
        if !read.map_err(|error| error.context(place()))? {
            return Ok(false);
        }
        if row.len() != self.columns.len() {
            let (has, wants) = (row.len(), self.columns.len());
            return Err(damaged(format!("{}: it has {has} values, not {wants}", place())));
        }
        self.rows += 1;
        Ok(true)
    }

    /// Whether what was read to its end is the file with this SHA-256; of a file with several
    /// tables, which was digested when the archive was opened, whether it was left alone since.
    pub(super) fn ends_as(self, sha256: &str) -> Result<bool> {
        Ok(match self.input {
            Input::Jsonl(input) | Input::Csv(input) => hex::encode(input.hash.finalize()) == sha256,
            Input::Sqlite { path, opened, .. } => stamp(&path)? == opened,
        })
    }
}

struct Digesting<R> {
    inner: R,
    hash: Sha256,
}

impl<R: BufRead> std::io::Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Digesting<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed was filled just before, so that this reads nothing.
        if let Ok(buffer) = self.inner.fill_buf() {
            self.hash.update(&buffer[..amount.min(buffer.len())]);
        }
        self.inner.consume(amount);
    }
}
