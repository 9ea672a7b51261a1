//! JSON and CSV files of a pack, rescanned: what changed by SHA-256 is derived again.
//!
//! Size and modification time say where to look, the hash says whether anything changed; with
//! [`RescanOptions::full`] every file is hashed. A file is applied in one transaction: its rows, the
//! rows that vanished from it, its rejects and ledger, and its entry in `toolkit.capture_file`.
//!
//! * A key that several files yield belongs to one of them, by the output's conflict rule; when
//!   that one changes or goes, the others are derived again.
//! * A file that cannot be read to its end, or holds a record that cannot be parsed, may still be
//!   being written: it is left alone once. If it is the same at the next look, it is what it is,
//!   and its broken records are rejects.
//! * A file that is gone at two looks in a row takes its rows along. Where all files of a stream
//!   are gone at once, nothing is deleted: a folder may be unmounted, and somebody has to look.

mod apply;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use sqlx::postgres::PgConnection;

use self::apply::FileWork;
use crate::error::{ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::source::SourceFile;
use crate::source::discover::{ListedDocument, Listing, hash_file, list_documents};

/// Passes over files that depend on each other.
const PASSES_MAX: usize = 8;

/// How to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct RescanOptions {
    /// Hash every file, whatever its size and time say, and look at unfinished and vanished ones
    /// twice now: for the last time, behind a fence.
    pub full: bool,
}

/// What a rescan found and did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rescan {
    /// Files there are.
    pub files: u64,
    /// Files that were applied.
    pub applied: Vec<String>,
    /// Rows written.
    pub rows: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Records and rows refused.
    pub rejects: u64,
    /// Files that seem to be being written, and why.
    pub unfinished: Vec<(String, String)>,
    /// Files that are gone, with their rows.
    pub vanished: Vec<String>,
    /// What somebody has to look at.
    pub problems: Vec<(String, String)>,
}

impl Rescan {
    /// Whether every file is in the target as it is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unfinished.is_empty() && self.problems.is_empty()
    }
}

/// What is remembered of files between looks: those that seemed unfinished, by the hash they had.
#[derive(Debug, Default)]
pub struct Memory {
    unfinished: HashMap<String, String>,
}

/// A file as it was applied last.
#[derive(Debug, Clone)]
struct Known {
    sha256: String,
    size_bytes: i64,
    modified_ns: i64,
    is_missing: bool,
}

/// Lists the pack's documents. Blocking work is done on a thread of its own.
pub(super) async fn list(opened: &Arc<OpenedPack>) -> Result<Listing> {
    let opened = Arc::clone(opened);
    tokio::task::spawn_blocking(move || list_documents(&opened.pack, &opened.roots))
        .await
        .map_err(join_error)?
}

/// Names of the files that came, changed or went since they were applied.
pub(super) async fn moved(
    conn: &mut PgConnection,
    opened: &OpenedPack,
    listing: &Listing,
    options: RescanOptions,
) -> Result<Vec<String>> {
    let known = known(conn, &opened.plan.name).await?;
    let changes = changed(listing, &known, options.full).await?;
    let mut names: Vec<String> =
        changes.files.iter().map(|changed| changed.listed.name.clone()).collect();
    let there: HashSet<&str> =
        listing.documents.iter().map(|listed| listed.relative.as_str()).collect();
    let gone = known.keys().filter(|name| !there.contains(name.as_str()));
    names.extend(gone.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()));
    Ok(names)
}

/// Looks at every document of the pack and applies what changed.
///
/// Rows of tables that take values from documents beside them are the tail's:
/// [`super::tail::Tail::rescan`] does both.
pub async fn rescan(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    run_id: &str,
    options: RescanOptions,
    memory: &mut Memory,
    stop: &Stop,
) -> Result<Rescan> {
    let listing = list(opened).await?;
    let looking = Looking { opened, run_id, listing: &listing, stop };
    let mut scan = Rescan { files: listing.documents.len() as u64, ..Rescan::default() };
    for _ in 0..=usize::from(options.full) {
        scan = merged(scan);
        looking.apply(conn, options.full, memory, &mut scan).await?;
        let gone = scan.vanished.len();
        vanished(conn, opened, run_id, &listing, &mut scan).await?;
        if scan.vanished.len() > gone {
            // What had given way to them, or was a copy of them, stands for itself now.
            looking.apply(conn, false, memory, &mut scan).await?;
        }
        if scan.is_complete() {
            break;
        }
        if options.full {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(scan)
}

/// What is looked at.
struct Looking<'a> {
    opened: &'a Arc<OpenedPack>,
    run_id: &'a str,
    listing: &'a Listing,
    stop: &'a Stop,
}

impl Looking<'_> {
    /// Applies what changed, and what depends on it, until nothing is left that can be.
    async fn apply(
        &self,
        conn: &mut PgConnection,
        hashes_all: bool,
        memory: &mut Memory,
        scan: &mut Rescan,
    ) -> Result<()> {
        for pass in 0..PASSES_MAX {
            let known = known(conn, &self.opened.plan.name).await?;
            let changed = changed(self.listing, &known, hashes_all && pass == 0).await?;
            let before = scan.applied.len();
            for file in &changed.files {
                self.stop.check()?;
                if pass > 0 && scan.unfinished.iter().any(|(name, _)| *name == file.listed.relative)
                {
                    continue;
                }
                let (opened, run_id) = (self.opened, self.run_id);
                let work = FileWork { opened, run_id, file, all: &changed.hashes };
                apply_one(conn, &work, memory, scan).await?;
            }
            if scan.applied.len() == before {
                break;
            }
        }
        Ok(())
    }
}

/// What was done stays said; what was found is found again.
fn merged(scan: Rescan) -> Rescan {
    Rescan { unfinished: Vec::new(), problems: Vec::new(), ..scan }
}

async fn known(conn: &mut PgConnection, pack: &str) -> Result<BTreeMap<String, Known>> {
    let rows: Vec<(String, String, i64, i64, bool)> = sqlx::query_as(
        "SELECT source, sha256, size_bytes, modified_ns, vanished_at IS NOT NULL \
         FROM toolkit.capture_file WHERE pack = $1",
    )
    .bind(pack)
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(source, sha256, size_bytes, modified_ns, is_missing)| {
            (source, Known { sha256, size_bytes, modified_ns, is_missing })
        })
        .collect())
}

/// A document that is to be applied.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) listed: ListedDocument,
    pub(super) file: SourceFile,
    pub(super) modified_ns: i64,
}

/// The documents that are not as they were applied, and the hashes of all.
struct Changes {
    files: Vec<Changed>,
    hashes: BTreeMap<String, (SourceFile, Vec<String>)>,
}

async fn changed(
    listing: &Listing,
    known: &BTreeMap<String, Known>,
    hashes_all: bool,
) -> Result<Changes> {
    let documents = listing.documents.clone();
    let known = known.clone();
    tokio::task::spawn_blocking(move || {
        let mut changes = Changes { files: Vec::new(), hashes: BTreeMap::new() };
        let mut moved: HashSet<String> = HashSet::new();
        let mut all = Vec::new();
        for listed in documents {
            // One that went away in between is found missing the next time.
            let Ok(found) = std::fs::metadata(&listed.path) else { continue };
            let modified = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let modified_ns =
                modified.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0);
            let size = i64::try_from(found.len()).unwrap_or(i64::MAX);
            let before = known.get(&listed.relative);
            let looks_same = before.is_some_and(|before| {
                before.size_bytes == size && before.modified_ns == modified_ns && !before.is_missing
            });
            let sha256 = match before {
                Some(before) if looks_same && !hashes_all => before.sha256.clone(),
                _ => hash_file(&listed.path)?.0,
            };
            let is_changed = before.is_none_or(|before| {
                before.sha256 != sha256 || before.sha256.is_empty() || before.is_missing
            });
            // An emptied hash asks for the file to be applied again.
            let sha256 = if sha256.is_empty() { hash_file(&listed.path)?.0 } else { sha256 };
            if is_changed {
                moved.insert(sha256.clone());
                moved.extend(before.map(|before| before.sha256.clone()));
            }
            let file = SourceFile {
                path: listed.path.clone(),
                relative: listed.relative.clone(),
                sha256,
                size_bytes: found.len(),
            };
            changes.hashes.insert(listed.relative.clone(), (file.clone(), listed.streams.clone()));
            all.push((Changed { listed, file, modified_ns }, is_changed));
        }
        // Of equal files one is read, the others are its copies: which one may have changed.
        changes.files = all
            .into_iter()
            .filter(|(changed, is_changed)| {
                *is_changed || (changed.file.size_bytes > 0 && moved.contains(&changed.file.sha256))
            })
            .map(|(changed, _)| changed)
            .collect();
        Ok(changes)
    })
    .await
    .map_err(join_error)?
}

async fn apply_one(
    conn: &mut PgConnection,
    work: &FileWork<'_>,
    memory: &mut Memory,
    scan: &mut Rescan,
) -> Result<()> {
    let name = &work.file.listed.relative;
    let is_final = memory.unfinished.get(name) == Some(&work.file.file.sha256);
    match work.apply(conn, is_final).await {
        Ok(Some(done)) => {
            memory.unfinished.remove(name);
            scan.applied.push(name.clone());
            scan.rows += done.rows;
            scan.deleted += done.deleted;
            scan.rejects += done.rejects;
            if done.waits > 0 {
                let why = format!("{} of its rows wait for other rows", done.waits);
                scan.problems.push((name.clone(), why));
            }
        }
        Ok(None) => {
            memory.unfinished.insert(name.clone(), work.file.file.sha256.clone());
            let why = "it cannot be parsed to its end; it may be being written".to_owned();
            scan.unfinished.push((name.clone(), why));
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceUnreadable) =>
        {
            scan.unfinished.push((name.clone(), error.detail().to_owned()));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Files that are no longer there: noted at the first look, gone with their rows at the second.
async fn vanished(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    run_id: &str,
    listing: &Listing,
    scan: &mut Rescan,
) -> Result<()> {
    let pack = &opened.plan.name;
    let there: HashSet<&str> =
        listing.documents.iter().map(|listed| listed.relative.as_str()).collect();
    let streams: HashSet<&str> =
        listing.documents.iter().flat_map(|l| l.streams.iter().map(String::as_str)).collect();
    let rows: Vec<(String, Vec<String>, bool)> = sqlx::query_as(
        "SELECT source, streams, vanished_at IS NOT NULL FROM toolkit.capture_file \
         WHERE pack = $1 ORDER BY source",
    )
    .bind(pack)
    .fetch_all(&mut *conn)
    .await?;
    for (source, of_streams, was_missing) in rows {
        if there.contains(source.as_str()) {
            continue;
        }
        let is_last = of_streams.iter().any(|stream| !streams.contains(stream.as_str()));
        if !was_missing || is_last {
            let problem = if is_last {
                "it is gone, and so is every other file of its stream: nothing was deleted; put \
                 the folder back, or delete its row from toolkit.capture_file once its rows are \
                 dealt with"
            } else {
                "it is gone; if it is still gone at the next look, its rows go, too"
            };
            sqlx::query(
                "UPDATE toolkit.capture_file SET vanished_at = coalesce(vanished_at, now()), \
                 problem = $3 WHERE pack = $1 AND source = $2",
            )
            .bind(pack)
            .bind(&source)
            .bind(problem)
            .execute(&mut *conn)
            .await?;
            scan.problems.push((source, problem.to_owned()));
            continue;
        }
        let done = apply::remove(conn, opened, run_id, &source, &of_streams).await?;
        scan.deleted += done.deleted;
        scan.vanished.push(source);
    }
    Ok(())
}
