//! A complete source folder of the pack `unified`, drawn from a seed.
//!
//! The folder holds what the application leaves behind: five `SQLite` files under `sqlite/` with
//! its own CREATE statements, and reports, manifests and a comparison under `reports/`. One seed
//! and [`Shape`] always give the same JSON bytes and the same rows; nothing reads a clock.
//!
//! ```text
//! let generated = generate(folder, 7, &Shape::demo())?;
//! let refused = generated.planted(Outcome::Rejected).count();
//! ```

pub mod anime;
mod dice;
mod document;
mod media;
mod prose;
mod quirk;
mod reports;
mod runs;
mod sqlite;
mod tables;
mod webtoon;

pub use media::{MediaShape, media};
pub use quirk::{Outcome, Quirk};
pub use reports::SECRET_MARK;
pub use webtoon::webtoon;

use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Streams of the seed, one per part of the folder.
mod stream {
    pub(super) const PAPERS: u64 = 1;
    pub(super) const RUNS: u64 = 2;
    pub(super) const QUERY_CACHE: u64 = 3;
    pub(super) const TOKEN_USAGE: u64 = 4;
    pub(super) const OPENALEX: u64 = 5;
    pub(super) const CITEC: u64 = 6;
}

/// How much to generate. Planted rows are among those asked for, never on top of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of `workflow_runs`; about seven steps and one report follow from each.
    pub runs: usize,
    /// Rows of `token_usage`.
    pub token_usage: usize,
    /// Rows of `query_cache`, about 1.7 KB each.
    pub query_cache: usize,
    /// Rows of `openalex_cache`, 1 to 5 KB each.
    pub openalex: usize,
    /// Rows of `citec_cache`.
    pub citec: usize,
    /// Whether to plant peculiarities. Without them nothing has to be rejected; passwords in
    /// the reports' database URLs are there either way.
    pub quirks: bool,
    /// Journal mode of the `SQLite` files: WAL, or the rollback journal.
    pub wal: bool,
}

impl Shape {
    /// A few thousand rows, with every peculiarity.
    pub fn demo() -> Self {
        Self {
            runs: 48,
            token_usage: 2_400,
            query_cache: 400,
            openalex: 160,
            citec: 120,
            quirks: true,
            wal: true,
        }
    }

    /// About a hundred rows, with every peculiarity.
    pub fn tiny() -> Self {
        Self {
            runs: 8,
            token_usage: 24,
            query_cache: 14,
            openalex: 6,
            citec: 4,
            quirks: true,
            wal: false,
        }
    }

    /// Volume without peculiarities, for benchmarks.
    pub fn scaled(token_usage: usize, query_cache: usize) -> Self {
        Self {
            runs: 64,
            token_usage,
            query_cache,
            openalex: query_cache / 4,
            citec: query_cache / 4,
            quirks: false,
            wal: false,
        }
    }

    /// The same without peculiarities.
    #[must_use]
    pub fn clean(mut self) -> Self {
        self.quirks = false;
        self
    }
}

/// What a generated folder holds. Without quirks these are the numbers of records the target
/// has to hold afterwards; with quirks, take what [`Generated::quirks`] says from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Rows of `workflow_runs`.
    pub workflow_runs: usize,
    /// Rows of `workflow_steps`.
    pub workflow_steps: usize,
    /// Rows of `query_cache`.
    pub query_cache: usize,
    /// Rows of `token_usage`.
    pub token_usage: usize,
    /// Rows of `openalex_cache`.
    pub openalex: usize,
    /// Rows of `citec_cache`.
    pub citec: usize,
    /// Report files, an empty one and an archived copy included.
    pub reports: usize,
    /// Manifest files.
    pub manifests: usize,
    /// Comparison files.
    pub comparisons: usize,
    /// Questions in reports that are neither empty nor copies.
    pub questions: usize,
    /// Artifacts in reports that are neither empty nor copies.
    pub artifacts: usize,
    /// Reports, neither empty nor copies, that name a workstream.
    pub workstream_links: usize,
    /// Different files with a digest in manifests.
    pub documents: usize,
    /// Files with a digest, counted once per manifest.
    pub run_documents: usize,
}

impl Counts {
    /// Rows of all `SQLite` tables.
    pub fn sqlite_rows(&self) -> usize {
        self.workflow_runs
            + self.workflow_steps
            + self.query_cache
            + self.token_usage
            + self.openalex
            + self.citec
    }

    /// JSON files.
    pub fn files(&self) -> usize {
        self.reports + self.manifests + self.comparisons
    }
}

/// A generated folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The folder, with `sqlite/` and `reports/` in it.
    pub folder: PathBuf,
    /// What it holds.
    pub counts: Counts,
    /// What was planted in it; empty without [`Shape::quirks`]. A table too short for all of
    /// its peculiarities holds the first ones.
    pub quirks: Vec<Quirk>,
}

impl Generated {
    /// The planted peculiarities that have to come to `outcome`.
    pub fn planted(&self, outcome: Outcome) -> impl Iterator<Item = &Quirk> {
        self.quirks.iter().filter(move |quirk| quirk.outcome == outcome)
    }
}

/// What the parts of the generator share.
struct Scene<'a> {
    folder: &'a Path,
    seed: u64,
    wal: bool,
    quirky: bool,
    papers: &'a [prose::Paper],
    counts: Counts,
    quirks: Vec<Quirk>,
}

impl Scene<'_> {
    fn write(&self, file: &str, content: &str) -> Result<()> {
        std::fs::write(self.folder.join(file), content)
            .map_err(|error| Error::from(error).context(file))
    }
}

/// Fills `folder`, which is created if need be and must not hold a generated one yet.
pub fn generate(folder: &Path, seed: u64, shape: &Shape) -> Result<Generated> {
    for part in ["sqlite", "reports"] {
        if folder.join(part).exists() {
            let detail = format!("{} already holds a folder {part}", folder.display());
            return Err(Error::new(ErrorKind::Usage, detail).advice("name an empty folder"));
        }
    }
    for part in ["sqlite", "reports/archived"] {
        let path = folder.join(part);
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::from(error).context(path.display()))?;
    }
    let mut dice = dice::Dice::new(seed, stream::PAPERS);
    let kept = (shape.runs / 2).clamp(12, 4096);
    let papers: Vec<_> = (0..kept).map(|ordinal| prose::paper(&mut dice, ordinal)).collect();
    let mut scene = Scene {
        folder,
        seed,
        wal: shape.wal,
        quirky: shape.quirks,
        papers: &papers,
        counts: Counts::default(),
        quirks: Vec::new(),
    };
    runs::generate(&mut scene, shape.runs)?;
    tables::query_cache(&mut scene, shape.query_cache)?;
    tables::token_usage(&mut scene, shape.token_usage)?;
    tables::openalex(&mut scene, shape.openalex)?;
    tables::citec(&mut scene, shape.citec)?;
    Ok(Generated { folder: folder.to_owned(), counts: scene.counts, quirks: scene.quirks })
}

#[cfg(test)]
mod tests;
