//! Finding a pack's sources below the folders and files a user names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{Glob, GlobMatcher};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::pack::manifest::{OneOrMany, SourceManifest};
use crate::source::documents::csv_header;
use crate::source::scratch::Scratch;
use crate::source::snapshot::MAKER;
use crate::source::sqlite;

/// A file that belongs to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Path below the source folder, with forward slashes; what checkpoints and rejects name.
    pub relative: String,
    /// SHA-256 of a document's bytes; empty for `SQLite`, whose token says more.
    pub sha256: String,
    /// Size in bytes when it was found.
    pub size_bytes: u64,
}

/// The files of one stream.
#[derive(Debug, Clone, Default)]
pub struct StreamFiles {
    /// In reading order: `SQLite` by the pack's preference, documents by path.
    pub files: Vec<SourceFile>,
    /// Columns of the `SQLite` table or the CSV header, if the stream reads one; of several files,
    /// the columns of all, in the order of their first appearance.
    pub columns: Option<Vec<String>>,
    /// Documents beside records, by file name.
    pub companions: BTreeMap<String, PathBuf>,
    /// Copies that are read in place of `SQLite` files; each is made once while this lives.
    scratch: Vec<Arc<Scratch>>,
}

impl StreamFiles {
    fn add_columns(&mut self, columns: Vec<String>) {
        let known = self.columns.get_or_insert_default();
        for column in columns {
            if !known.iter().any(|name| name.eq_ignore_ascii_case(&column)) {
                known.push(column);
            }
        }
    }
}

/// Everything of a pack that was found.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Files by stream name; streams without any are absent.
    pub streams: BTreeMap<String, StreamFiles>,
    /// Fingerprint of every input, for `toolkit.run.inputs`.
    pub inputs: Vec<Input>,
}

/// One input as a run records it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Input {
    /// Stream name.
    pub stream: String,
    /// File, or the patterns of a set of documents.
    pub source: String,
    /// Change token: for `SQLite` header counters and WAL state, for documents one SHA-256 over
    /// all paths and contents.
    pub token: String,
    /// SHA-256 of the copy that a run with a snapshot reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Files behind it.
    pub files: u64,
    /// Bytes behind it.
    pub bytes: u64,
}

impl Discovered {
    /// Columns of the tables and CSV files, by stream.
    #[must_use]
    pub fn columns(&self) -> BTreeMap<String, Vec<String>> {
        self.streams
            .iter()
            .filter_map(|(name, files)| Some((name.clone(), files.columns.clone()?)))
            .collect()
    }
}

struct Candidate {
    path: PathBuf,
    /// The path, with the root's links resolved.
    identity: PathBuf,
    relative: String,
    name: String,
}

/// Finds the sources of every stream of `pack` below `roots`.
///
/// Errors: a root that is not there or cannot be read, nothing of the pack found, two `SQLite`
/// files of one name, a file that is not `SQLite`.
pub fn discover(pack: &Pack, roots: &[PathBuf]) -> Result<Discovered> {
    let (found, errors) = discover_each(pack, roots)?;
    match errors.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(found),
    }
}

/// As [`discover`], but what is wrong with one stream's files does not keep the others from being
/// found; errors come with the stream's name.
pub fn discover_each(pack: &Pack, roots: &[PathBuf]) -> Result<(Discovered, Vec<(String, Error)>)> {
    let mut candidates = Vec::new();
    for root in roots {
        walk(root, &mut candidates)?;
    }
    candidates.sort_by(|a, b| a.relative.cmp(&b.relative));
    // One folder may be named twice, or with a folder of its own.
    let mut seen = HashSet::new();
    candidates.retain(|candidate| seen.insert(candidate.identity.clone()));
    let mut found = Discovered::default();
    let mut errors = Vec::new();
    for stream in &pack.manifest.streams {
        let name = stream.name.get_ref();
        match stream_files(name, &stream.source, &candidates) {
            Ok(None) => {}
            Ok(Some((files, inputs))) => {
                found.inputs.extend(inputs);
                found.streams.insert(name.clone(), files);
            }
            Err(error) => errors.push((name.clone(), error)),
        }
    }
    if found.streams.is_empty() && errors.is_empty() {
        return Err(nothing_found(pack, roots));
    }
    Ok((found, errors))
}

/// The files of one stream and their fingerprints; None if there are none.
fn stream_files(
    name: &str,
    source: &SourceManifest,
    candidates: &[Candidate],
) -> Result<Option<(StreamFiles, Vec<Input>)>> {
    let mut files = if source.sqlite == OneOrMany::None {
        documents(source, candidates)?
    } else {
        databases(name, source, candidates)?
    };
    if files.files.is_empty() {
        return Ok(None);
    }
    if let Some(pattern) = &source.companion {
        files.companions = companions(pattern.get_ref(), candidates)?;
    }
    let inputs = inputs(name, source, &files)?;
    Ok(Some((files, inputs)))
}

/// A document as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDocument {
    /// Streams that read it.
    pub streams: Vec<String>,
    /// Where it is.
    pub path: PathBuf,
    /// Path below the source folder.
    pub relative: String,
    /// File name.
    pub name: String,
}

/// What a listing of a pack's documents shows.
#[derive(Debug, Default)]
pub struct Listing {
    /// Documents, by path.
    pub documents: Vec<ListedDocument>,
    /// Documents beside records, by stream and file name.
    pub companions: BTreeMap<String, BTreeMap<String, PathBuf>>,
}

impl Listing {
    /// The place of a document in the listing, which it is added to.
    fn place(&mut self, found: &Candidate, places: &mut HashMap<PathBuf, usize>) -> usize {
        *places.entry(found.path.clone()).or_insert_with(|| {
            self.documents.push(ListedDocument {
                streams: Vec::new(),
                path: found.path.clone(),
                relative: found.relative.clone(),
                name: found.name.clone(),
            });
            self.documents.len() - 1
        })
    }
}

/// Lists a pack's documents without reading them.
pub fn list_documents(pack: &Pack, roots: &[PathBuf]) -> Result<Listing> {
    let mut candidates = Vec::new();
    for root in roots {
        walk(root, &mut candidates)?;
    }
    candidates.sort_by(|a, b| a.relative.cmp(&b.relative));
    let mut seen = HashSet::new();
    candidates.retain(|candidate| seen.insert(candidate.identity.clone()));
    let mut listing = Listing::default();
    // Where each path stands in the listing.
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    for stream in &pack.manifest.streams {
        let (name, source) = (stream.name.get_ref(), &stream.source);
        if let Some(pattern) = &source.companion {
            let found = companions(pattern.get_ref(), &candidates)?;
            let paths: HashSet<&PathBuf> = found.values().collect();
            for candidate in candidates.iter().filter(|one| paths.contains(&one.path)) {
                listing.place(candidate, &mut places);
            }
            listing.companions.insert(name.clone(), found);
        }
        let kinds = [&source.json, &source.jsonl, &source.csv];
        let patterns: Vec<String> = kinds.iter().flat_map(|kind| kind.to_vec()).collect();
        let pick = Pick::new(&patterns, &source.except.to_vec())?;
        for candidate in &candidates {
            if pick.takes(&candidate.name) {
                let at = listing.place(candidate, &mut places);
                listing.documents[at].streams.push(name.clone());
            }
        }
    }
    listing.documents.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(listing)
}

fn walk(root: &Path, candidates: &mut Vec<Candidate>) -> Result<()> {
    let kind = std::fs::metadata(root).map_err(|error| {
        let detail = format!("source {} cannot be opened: {error}", root.display());
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            ErrorKind::SourceMissing
        } else {
            ErrorKind::SourceUnreadable
        };
        Error::new(kind, detail)
            .advice("give --source a folder, or a file of the pack; it may be given several times")
    })?;
    let real_root = std::fs::canonicalize(root).map_err(|e| unreadable(root, &e))?;
    if !kind.is_dir() {
        let name = shown_name(root.file_name().unwrap_or_default());
        candidates.push(Candidate {
            path: root.to_path_buf(),
            identity: real_root,
            relative: name.clone(),
            name,
        });
        return Ok(());
    }
    // A state folder below the source's holds copies of it, which are not the source.
    let is_snapshot = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && entry.file_type().is_dir() && entry.path().join(MAKER).exists()
    };
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| !is_snapshot(entry)) {
        let entry = entry.map_err(|error| {
            Error::new(ErrorKind::SourceUnreadable, format!("source folder: {error}"))
                .advice("make the folder readable for this user, or name its readable parts")
        })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let parts: Vec<_> = below.components().map(|part| shown_name(part.as_os_str())).collect();
        candidates.push(Candidate {
            path: entry.path().to_path_buf(),
            identity: real_root.join(below),
            relative: parts.join("/"),
            name: shown_name(entry.file_name()),
        });
    }
    Ok(())
}

/// A file name as text; bytes that are no UTF-8 as `\xFF`, so that different names stay different.
fn shown_name(name: &std::ffi::OsStr) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02X}"));
        }
    }
    shown
}

/// Refuses what cannot be read from its beginning to its end twice: reading a pipe would wait for
/// its writer, a device may have no end.
fn require_file(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
    Err(Error::new(
        ErrorKind::SourceUnreadable,
        format!("{} is {what}, not a file", path.display()),
    )
    .advice("move it out of the source folder, or put the file there that the pack looks for"))
}

/// The documents below `roots`: of a folder those that match a pattern, by pattern and then by
/// path; a file that is named is taken whatever it is called.
pub fn find_documents(patterns: &[String], roots: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let globs = patterns.iter().map(|pattern| matcher(pattern)).collect::<Result<Vec<_>>>()?;
    let mut ranked: Vec<(usize, Candidate)> = Vec::new();
    for root in roots {
        let mut candidates = Vec::new();
        walk(root, &mut candidates)?;
        for candidate in candidates {
            let rank = globs.iter().position(|glob| glob.is_match(&candidate.name));
            if let Some(rank) = rank.or_else(|| root.is_file().then_some(globs.len())) {
                ranked.push((rank, candidate));
            }
        }
    }
    ranked.sort_by(|(a, one), (b, other)| (a, &one.relative).cmp(&(b, &other.relative)));
    let mut seen = HashSet::new();
    ranked.retain(|(_, candidate)| seen.insert(candidate.identity.clone()));
    let mut files: Vec<SourceFile> = Vec::new();
    for (_, candidate) in ranked {
        require_file(&candidate.path)?;
        if files.iter().any(|file| file.relative == candidate.relative) {
            let detail = format!("two documents are called {}", candidate.relative);
            return Err(Error::new(ErrorKind::Usage, detail)
                .advice("give --source the folder above both, so that their names differ"));
        }
        let (sha256, size_bytes) = hash_file(&candidate.path)?;
        let Candidate { path, relative, .. } = candidate;
        files.push(SourceFile { path, relative, sha256, size_bytes });
    }
    Ok(files)
}

/// Which file names are a stream's.
struct Pick {
    patterns: Vec<GlobMatcher>,
    except: Vec<GlobMatcher>,
}

impl Pick {
    fn new(patterns: &[String], except: &[String]) -> Result<Self> {
        let globs =
            |texts: &[String]| texts.iter().map(|text| matcher(text)).collect::<Result<Vec<_>>>();
        Ok(Self { patterns: globs(patterns)?, except: globs(except)? })
    }

    fn takes(&self, name: &str) -> bool {
        let any = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(name));
        any(&self.patterns) && !any(&self.except)
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher> {
    Glob::new(pattern)
        .map(|glob| glob.compile_matcher())
        .map_err(|error| Error::new(ErrorKind::Pack, format!("file pattern `{pattern}`: {error}")))
}

fn databases(
    stream: &str,
    source: &SourceManifest,
    candidates: &[Candidate],
) -> Result<StreamFiles> {
    let mut files = StreamFiles::default();
    for pattern in source.sqlite.to_vec() {
        let glob = matcher(&pattern)?;
        let matches: Vec<&Candidate> =
            candidates.iter().filter(|candidate| glob.is_match(&candidate.name)).collect();
        if let [first, second, ..] = matches.as_slice() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "stream `{stream}`: two files are called {pattern}: {} and {}",
                    first.path.display(),
                    second.path.display()
                ),
            )
            .advice("one application has one such file: name the right folder with --source"));
        }
        for candidate in matches {
            let table = source.table.as_ref().map_or("", |table| table.get_ref().as_str());
            require_file(&candidate.path)?;
            let database = sqlite::Database::open(&candidate.path)?;
            let columns = database.columns(table)?;
            if columns.is_empty() {
                return Err(Error::new(
                    ErrorKind::SourceMissing,
                    format!("{} has no table or view `{table}`", candidate.path.display()),
                )
                .advice(format!("it has: {}", database.tables()?.join(", "))));
            }
            files.add_columns(columns);
            files.scratch.extend(database.scratch());
            files.files.push(SourceFile {
                path: candidate.path.clone(),
                relative: candidate.relative.clone(),
                sha256: String::new(),
                size_bytes: file_size(&candidate.path)?,
            });
        }
    }
    Ok(files)
}

fn documents(source: &SourceManifest, candidates: &[Candidate]) -> Result<StreamFiles> {
    let patterns: Vec<String> =
        [&source.json, &source.jsonl, &source.csv].iter().flat_map(|kind| kind.to_vec()).collect();
    let pick = Pick::new(&patterns, &source.except.to_vec())?;
    let mut files = StreamFiles::default();
    for candidate in candidates {
        if !pick.takes(&candidate.name) {
            continue;
        }
        require_file(&candidate.path)?;
        require_other_name(&files, candidate)?;
        let (sha256, size_bytes) = hash_file(&candidate.path)?;
        let file = SourceFile {
            path: candidate.path.clone(),
            relative: candidate.relative.clone(),
            sha256,
            size_bytes,
        };
        if source.csv != OneOrMany::None && size_bytes > 0 {
            files.add_columns(csv_header(&file)?);
        }
        files.files.push(file);
    }
    Ok(files)
}

/// Checkpoints and rejects name a document by its path below the source folder.
fn require_other_name(files: &StreamFiles, candidate: &Candidate) -> Result<()> {
    let Some(last) = files.files.last().filter(|last| last.relative == candidate.relative) else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Usage,
        format!(
            "two documents are called {}: {} and {}",
            candidate.relative,
            last.path.display(),
            candidate.path.display()
        ),
    )
    .advice("give --source the folder above both, so that their names differ"))
}

fn companions(pattern: &str, candidates: &[Candidate]) -> Result<BTreeMap<String, PathBuf>> {
    let mut any = String::new();
    let mut depth = 0_usize;
    for letter in pattern.chars() {
        match letter {
            '{' => {
                depth += 1;
                any.push('*');
            }
            '}' => depth = depth.saturating_sub(1),
            letter if depth == 0 => any.push(letter),
            _ => {}
        }
    }
    let glob = matcher(&any)?;
    let mut found = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| glob.is_match(&candidate.name)) {
        require_file(&candidate.path)?;
        found.entry(candidate.name.clone()).or_insert_with(|| candidate.path.clone());
    }
    Ok(found)
}

fn inputs(stream: &str, source: &SourceManifest, files: &StreamFiles) -> Result<Vec<Input>> {
    let bytes = |files: &[SourceFile]| files.iter().map(|file| file.size_bytes).sum();
    if source.sqlite == OneOrMany::None {
        let mut hash = Sha256::new();
        for file in &files.files {
            hash.update(file.relative.as_bytes());
            hash.update([0]);
            hash.update(file.sha256.as_bytes());
        }
        return Ok(vec![Input {
            stream: stream.to_owned(),
            source: String::new(),
            token: hex::encode(hash.finalize()),
            sha256: None,
            files: files.files.len() as u64,
            bytes: bytes(&files.files),
        }]);
    }
    files
        .files
        .iter()
        .map(|file| {
            Ok(Input {
                stream: stream.to_owned(),
                source: file.relative.clone(),
                token: sqlite::change_token(&file.path)?,
                sha256: None,
                files: 1,
                bytes: file.size_bytes,
            })
        })
        .collect()
}

fn nothing_found(pack: &Pack, roots: &[PathBuf]) -> Error {
    let mut patterns: Vec<String> = Vec::new();
    for stream in &pack.manifest.streams {
        let source = &stream.source;
        for kind in [&source.sqlite, &source.json, &source.jsonl, &source.csv] {
            patterns.extend(kind.to_vec());
        }
    }
    patterns.dedup();
    let shown: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Error::new(
        ErrorKind::SourceMissing,
        format!("nothing of the pack `{}` was found in {}", pack.name(), shown.join(", ")),
    )
    .advice(format!("looked, in all subfolders, for: {}", patterns.join(", ")))
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.len())
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::SourceUnreadable, format!("{} cannot be read: {error}", path.display()))
        .advice("check the file's permissions")
}

/// SHA-256 (hexadecimal) and size of a file, read in pieces.
pub fn hash_file(path: &Path) -> Result<(String, u64)> {
    let mut file = std::fs::File::open(path).map_err(|e| unreadable(path, &e))?;
    hash_open(&mut file, path)
}

/// The same of a file that is open.
pub(crate) fn hash_open(file: &mut std::fs::File, path: &Path) -> Result<(String, u64)> {
    use std::io::Read as _;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(|e| unreadable(path, &e))?;
        if count == 0 {
            return Ok((hex::encode(hash.finalize()), size));
        }
        size += count as u64;
        hash.update(&buffer[..count]);
    }
}
