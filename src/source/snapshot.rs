//! A private copy of a pack's sources, for a run over an application that goes on writing.
//!
//! The copy mirrors the source folders, so that records keep their file names: `SQLite` files are
//! copied as [`super::sqlite`] reads them, committed rows of a `-wal` included; documents and
//! companions are copied too, because a new artifact changes a set of documents as a new row
//! changes a table. It lies in the state folder, readable by its owner alone: it holds whatever the
//! sources hold, secrets included.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::source::discover::{Input, discover, hash_file};
use crate::source::scratch::is_alive;
use crate::source::{Discovered, backup};

/// Written last: a folder without it is no whole snapshot.
const MANIFEST: &str = "snapshot.json";

/// Marks a snapshot's folder, and names the process that made it.
pub(crate) const MAKER: &str = ".toolkit-snapshot";

/// How often a document that changes while it is copied is copied again.
const DOCUMENT_TRIES: u32 = 5;

/// A copy of a pack's sources.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
    manifest: Manifest,
    is_kept: AtomicBool,
}

/// What `snapshot.json` says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    pack: String,
    run_id: String,
    sources: Vec<PathBuf>,
    files: Vec<CopiedFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CopiedFile {
    /// Position of its folder in `sources`.
    source: usize,
    /// Path below it.
    path: String,
    sha256: String,
    bytes: u64,
    is_database: bool,
}

impl Snapshot {
    /// Copies the sources of `pack` below `roots` into `state_dir`. Removed again when dropped,
    /// unless [`Snapshot::keep`] was called. `on_step` is asked now and then, and may end it.
    pub fn make(
        state_dir: &Path,
        pack: &Pack,
        roots: &[PathBuf],
        on_step: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let found = discover(pack, roots)?;
        Self::make_of(state_dir, pack.name(), roots, &wanted(&found), on_step)
    }

    /// Copies one `SQLite` file, for a pack that is yet to be made of it.
    pub fn make_of_file(
        state_dir: &Path,
        pack: &str,
        file: &Path,
        on_step: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let wanted = BTreeMap::from([(file.to_path_buf(), true)]);
        Self::make_of(state_dir, pack, &[file.to_path_buf()], &wanted, on_step)
    }

    fn make_of(
        state_dir: &Path,
        pack: &str,
        roots: &[PathBuf],
        wanted: &BTreeMap<PathBuf, bool>,
        on_step: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let run_id = uuid::Uuid::new_v4().to_string();
        let folder = home(state_dir, pack).join(&run_id);
        make_folder(&folder)?;
        let manifest = Manifest {
            pack: pack.to_owned(),
            run_id,
            sources: roots.to_vec(),
            ..Manifest::default()
        };
        let mut snapshot = Self { folder, manifest, is_kept: AtomicBool::new(false) };
        std::fs::write(snapshot.folder.join(MAKER), std::process::id().to_string())?;
        for root in snapshot.roots() {
            make_folder(&root)?;
        }
        for (path, is_database) in wanted {
            on_step()?;
            if let Some(copied) = snapshot.copy(path, *is_database, roots, on_step)? {
                snapshot.manifest.files.push(copied);
            }
        }
        let text = serde_json::to_vec_pretty(&snapshot.manifest)
            .map_err(|error| Error::new(ErrorKind::Bug, "a manifest is JSON").because(error))?;
        std::fs::write(snapshot.folder.join(MANIFEST), text)?;
        Ok(snapshot)
    }

    /// The snapshot that `run_id` was started with, if its `SQLite` files are still the ones that
    /// the run recorded. (Documents are compared with the run's inputs like any others.)
    pub fn reopen(state_dir: &Path, pack: &str, run_id: &str, recorded: &[Input]) -> Result<Self> {
        let folder = home(state_dir, pack).join(run_id);
        let refused = |why: String| {
            Error::new(ErrorKind::RunMismatch, format!("the copy that run {run_id} read {why}"))
                .advice(format!(
                    "start over with --restart, which makes a new copy, or restore {}",
                    folder.display()
                ))
        };
        let text = std::fs::read(folder.join(MANIFEST))
            .map_err(|error| refused(format!("is not whole: {error}")))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("is not whole: {MANIFEST}: {error}")))?;
        let snapshot = Self { folder: folder.clone(), manifest, is_kept: AtomicBool::new(true) };
        let mut hashes: BTreeMap<PathBuf, String> = BTreeMap::new();
        for input in recorded.iter().filter(|input| input.sha256.is_some()) {
            let Some(copied) = snapshot.database(&input.source) else {
                return Err(refused(format!("holds no {}", input.source)));
            };
            let path = snapshot.root(copied.source).join(&copied.path);
            if !hashes.contains_key(&path) {
                let (sha256, _) = hash_file(&path)
                    .map_err(|error| refused(format!("is not whole: {}", error.detail())))?;
                hashes.insert(path.clone(), sha256);
            }
            if hashes.get(&path) != input.sha256.as_ref() {
                return Err(refused(format!(
                    "is not what it was: the SHA-256 of {} differs",
                    path.display()
                )));
            }
        }
        Ok(snapshot)
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.manifest.run_id
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folders that stand for the sources, in their order.
    #[must_use]
    pub fn roots(&self) -> Vec<PathBuf> {
        (0..self.manifest.sources.len()).map(|at| self.root(at)).collect()
    }

    /// Adds the SHA-256 of the `SQLite` files to what a run records of its inputs.
    pub fn stamp(&self, inputs: &mut [Input]) {
        for input in inputs.iter_mut().filter(|input| !input.source.is_empty()) {
            input.sha256 = self.database(&input.source).map(|copied| copied.sha256.clone());
        }
    }

    /// Leaves it in place for a later process.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Removes what else lies beside it: snapshots of the runs `over`, and what a process that is
    /// gone left half made. Snapshots of other runs (of other databases) stay.
    pub fn remove_others(&self, over: &[String]) -> Result<()> {
        let Some(home) = self.folder.parent() else { return Ok(()) };
        for entry in std::fs::read_dir(home)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == self.manifest.run_id {
                continue;
            }
            if over.contains(&name) || is_left_half_made(&entry.path()) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn root(&self, at: usize) -> PathBuf {
        self.folder.join("files").join(at.to_string())
    }

    fn database(&self, relative: &str) -> Option<&CopiedFile> {
        self.manifest.files.iter().find(|file| file.is_database && file.path == relative)
    }

    /// None: a document that is no longer there.
    fn copy(
        &self,
        path: &Path,
        is_database: bool,
        roots: &[PathBuf],
        on_step: &dyn Fn() -> Result<()>,
    ) -> Result<Option<CopiedFile>> {
        let root = roots.iter().position(|root| path.starts_with(root)).unwrap_or(0);
        let below = path.strip_prefix(&roots[root]).unwrap_or(path);
        let below = if below.as_os_str().is_empty() {
            PathBuf::from(path.file_name().unwrap_or_default())
        } else {
            below.to_path_buf()
        };
        let to = self.root(root).join(&below);
        if let Some(parent) = to.parent() {
            make_folder(parent)?;
        }
        if is_database {
            backup::copy(&super::sqlite::Database::open(path)?, &to, on_step)?;
        } else if !copy_document(path, &to)? {
            return Ok(None);
        }
        std::fs::set_permissions(&to, Permissions::from_mode(0o400))?;
        let (sha256, bytes) = hash_file(&to)?;
        let parts: Vec<_> = below.components().map(|p| p.as_os_str().to_string_lossy()).collect();
        Ok(Some(CopiedFile { source: root, path: parts.join("/"), sha256, bytes, is_database }))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            // Best effort: what is left is known as half made, or as nobody's, by the next run.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Where the snapshots of a pack lie.
fn home(state_dir: &Path, pack: &str) -> PathBuf {
    state_dir.join("snapshots").join(pack)
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        let detail = format!("folder {} cannot be made: {error}", path.display());
        Error::new(ErrorKind::Io, detail).advice("name a state folder with room in --state-dir")
    })
}

/// Every file once, and whether it is a `SQLite` file.
fn wanted(found: &Discovered) -> BTreeMap<PathBuf, bool> {
    let mut wanted = BTreeMap::new();
    for files in found.streams.values() {
        for file in &files.files {
            wanted.insert(file.path.clone(), file.sha256.is_empty());
        }
        for path in files.companions.values() {
            wanted.entry(path.clone()).or_insert(false);
        }
    }
    wanted
}

/// Copies a document that stays the same for as long as that takes; false if it is gone.
fn copy_document(from: &Path, to: &Path) -> Result<bool> {
    let state = || match std::fs::metadata(from) {
        Ok(found) => Ok(Some((found.len(), found.modified().ok()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(super::database::unreadable_io(from, &error)),
    };
    for _ in 0..DOCUMENT_TRIES {
        let Some(before) = state()? else { return Ok(false) };
        match std::fs::copy(from, to) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::from(error).context(from.display())),
        }
        if state()? == Some(before) {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Error::new(
        ErrorKind::SourceChanged,
        format!("{} was being written to each time it was copied", from.display()),
    )
    .advice("stop its writer for a moment, and run again"))
}

fn is_left_half_made(folder: &Path) -> bool {
    let maker = std::fs::read_to_string(folder.join(MAKER)).ok();
    let pid = maker.and_then(|text| text.trim().parse().ok());
    !folder.join(MANIFEST).exists() && pid.is_some_and(|pid| !is_alive(pid))
}
