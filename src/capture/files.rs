//! JSON and CSV files of a pack, rescanned: what changed by SHA-256 is derived again.
//!
//! Size, times and inode say which files need not be read ([`look`]), the hash says whether one
//! changed. A file is applied in one transaction: its rows, the rows that vanished from it, its
//! rejects and ledger, and its entry in `toolkit.capture_file`.
//!
//! * A key that several files yield belongs to one of them, by the output's conflict rule; when
//!   that one changes or goes, the others are derived again.
//! * A file that cannot be read to its end, or holds a record that cannot be parsed, may still be
//!   being written: it is left alone once. If it is the same at the next look, it is what it is,
//!   and its broken records are rejects.
//! * A file that is gone at two looks in a row takes its rows along. Where all files of a stream
//!   are gone at once, nothing is deleted: a folder may be unmounted, and somebody has to look.

mod apply;
mod known;
mod look;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use sqlx::postgres::PgConnection;

use self::apply::FileWork;
use self::known::{Known, known, vanished};
use self::look::Seen;
pub(super) use self::look::{Document, Looked, look};
use crate::count::counted_are;
use crate::error::{ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::source::SourceFile;
use crate::source::discover::{Listing, list_documents};

/// Passes over files that depend on each other.
const PASSES_MAX: usize = 8;

/// How to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct RescanOptions {
    /// Read every file, whatever its size and times say, once it has been quiet for two seconds;
    /// the next look then reads only what was written in between.
    pub thorough: bool,
    /// Look at unfinished and vanished files twice now: for the last time, behind a fence.
    pub is_last: bool,
}

/// What a rescan found and did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rescan {
    /// Files there are.
    pub files: u64,
    /// How often one was read to find out whether it changed.
    pub read: u64,
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

    /// Rows of the target that are other than before.
    fn written(&self) -> u64 {
        self.rows + self.deleted
    }
}

/// What is remembered of files between looks.
#[derive(Debug, Default)]
pub struct Memory {
    /// Those that seemed unfinished, by the hash they had.
    unfinished: HashMap<String, String>,
    /// All of them, as they were seen.
    files: HashMap<String, Seen>,
}

/// Lists the pack's documents. Blocking work is done on a thread of its own.
async fn list(opened: &Arc<OpenedPack>) -> Result<Listing> {
    let opened = Arc::clone(opened);
    tokio::task::spawn_blocking(move || list_documents(&opened.pack, &opened.roots))
        .await
        .map_err(join_error)?
}

/// Names of the files that came, changed or went since they were applied.
pub(super) async fn moved(
    conn: &mut PgConnection,
    pack: &str,
    looked: &Looked,
) -> Result<Vec<String>> {
    let known = known(conn, pack).await?;
    let changes = changed(looked, &known);
    let mut names: Vec<String> =
        changes.documents.iter().map(|changed| changed.listed.name.clone()).collect();
    let there: HashSet<&str> =
        looked.listing.documents.iter().map(|listed| listed.relative.as_str()).collect();
    let gone = known.keys().filter(|name| !there.contains(name.as_str()));
    names.extend(gone.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()));
    Ok(names)
}

/// Applies the documents of a look that changed. Rows of tables that take values from documents
/// beside them are the tail's: [`super::tail::Tail::rescan`] does both.
pub(super) async fn apply(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    run_id: &str,
    looked: &Looked,
    memory: &mut Memory,
    stop: &Stop,
    scan: &mut Rescan,
) -> Result<()> {
    scan.files = looked.listing.documents.len() as u64;
    scan.read += looked.read;
    // What was done stays said; what was found is found again.
    scan.unfinished.clear();
    scan.problems.clear();
    let looking = Looking { opened, run_id, looked, stop };
    looking.apply(conn, memory, scan).await?;
    let gone = scan.vanished.len();
    vanished(conn, opened, run_id, looked, scan).await?;
    if scan.vanished.len() > gone {
        // What had given way to them, or was a copy of them, stands for itself now.
        looking.apply(conn, memory, scan).await?;
    }
    Ok(())
}

/// What is looked at.
struct Looking<'a> {
    opened: &'a Arc<OpenedPack>,
    run_id: &'a str,
    looked: &'a Looked,
    stop: &'a Stop,
}

impl Looking<'_> {
    /// Applies what changed, and what depends on it, until nothing is left that can be.
    async fn apply(
        &self,
        conn: &mut PgConnection,
        memory: &mut Memory,
        scan: &mut Rescan,
    ) -> Result<()> {
        // Files with rows that wait for others, and how much was written when they were tried.
        let mut waiting: HashMap<String, u64> = HashMap::new();
        for pass in 0..PASSES_MAX {
            let known = known(conn, &self.opened.plan.name).await?;
            let changed = changed(self.looked, &known);
            let mut tried = 0;
            for document in &changed.documents {
                self.stop.check()?;
                let name = &document.listed.relative;
                let is_unfinished = scan.unfinished.iter().any(|(known, _)| known == name);
                // Nothing was written since that could have helped.
                let is_stuck = waiting.get(name) == Some(&scan.written());
                if pass > 0 && (is_unfinished || is_stuck) {
                    continue;
                }
                let (opened, run_id) = (self.opened, self.run_id);
                let work = FileWork { opened, run_id, document, all: &changed.hashes };
                let waits = apply_one(conn, &work, memory, scan).await?;
                tried += 1;
                waiting.remove(name);
                if waits > 0 {
                    waiting.insert(name.clone(), scan.written());
                }
            }
            if tried == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// The documents that are not as they were applied, and the hashes of all.
struct Changes {
    documents: Vec<Document>,
    hashes: BTreeMap<String, (SourceFile, Vec<String>)>,
}

fn changed(looked: &Looked, known: &BTreeMap<String, Known>) -> Changes {
    let mut hashes = BTreeMap::new();
    let mut moved: HashSet<&str> = HashSet::new();
    let mut changed: HashSet<&str> = HashSet::new();
    for Document { listed, file, .. } in &looked.documents {
        let before = known.get(&listed.relative);
        // An emptied hash asks for the file to be applied again.
        if before.is_none_or(|before| before.sha256 != file.sha256 || before.is_missing) {
            changed.insert(&listed.relative);
            moved.insert(&file.sha256);
            moved.extend(before.map(|before| before.sha256.as_str()));
        }
        hashes.insert(listed.relative.clone(), (file.clone(), listed.streams.clone()));
    }
    // Of equal files one is read, the others are its copies: which one may have changed.
    let is_concerned = |one: &&Document| {
        changed.contains(one.listed.relative.as_str())
            || (one.file.size_bytes > 0 && moved.contains(one.file.sha256.as_str()))
    };
    Changes { documents: looked.documents.iter().filter(is_concerned).cloned().collect(), hashes }
}

/// Applies a document; how many of its rows wait for others.
async fn apply_one(
    conn: &mut PgConnection,
    work: &FileWork<'_>,
    memory: &mut Memory,
    scan: &mut Rescan,
) -> Result<u64> {
    let name = &work.document.listed.relative;
    let is_final = memory.unfinished.get(name) == Some(&work.document.file.sha256);
    match work.apply(conn, is_final).await {
        Ok(Some(done)) => {
            memory.unfinished.remove(name);
            if !scan.applied.contains(name) {
                scan.applied.push(name.clone());
            }
            scan.rows += done.rows;
            scan.deleted += done.deleted;
            scan.rejects += done.rejects;
            scan.problems.retain(|(known, _)| known != name);
            if done.waits > 0 {
                let why =
                    format!("{} of it held back by other rows", counted_are(done.waits, "row"));
                scan.problems.push((name.clone(), why));
            }
            return Ok(done.waits);
        }
        Ok(None) => {
            memory.unfinished.insert(name.clone(), work.document.file.sha256.clone());
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
    Ok(0)
}
