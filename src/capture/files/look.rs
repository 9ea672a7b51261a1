//! What the documents hold at this moment, with as little reading as is safe.
//!
//! A hash stands for a file for as long as its size, its times and its inode are the same, if it
//! was taken when they had been the same for [`QUIET`]. The clocks of file systems move in steps of
//! up to two seconds, and a write that follows another within one step leaves no trace in them: a
//! file that was written that recently is read at every look. What is waited for is measured by
//! this process alone, because the clock of a file server may be another.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::known::{Known, confirm, known};
use super::{Memory, RescanOptions, list};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::{OpenedPack, join_error};
use crate::source::SourceFile;
use crate::source::discover::{ListedDocument, Listing, hash_open, unreadable};

/// How long a file must have looked the same for its next hash to stand for it.
const QUIET: Duration = Duration::from_millis(2_100);

/// Files hashed at once at most; each takes a buffer of 64 KiB.
const HASHERS_MAX: usize = 4;

/// What a file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stat {
    pub(super) size: u64,
    pub(super) modified_ns: i64,
    /// Set by every write, and by nothing else that an application can do.
    pub(super) changed_ns: i64,
    pub(super) inode: u64,
}

impl Stat {
    fn of(file: &File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        let ns = |seconds: i64, part: i64| seconds.saturating_mul(1_000_000_000) + part;
        Ok(Self {
            size: found.len(),
            modified_ns: ns(found.mtime(), found.mtime_nsec()),
            changed_ns: ns(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
        })
    }
}

/// A file as this process has seen it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    stat: Stat,
    /// When it was first seen like this.
    since: Instant,
    /// SHA-256 of what it holds.
    sha256: Option<String>,
    /// Whether the hash stands for whatever looks the same.
    settled: bool,
}

/// A document as it is.
#[derive(Debug, Clone)]
pub(in crate::capture) struct Document {
    pub(super) listed: ListedDocument,
    pub(super) file: SourceFile,
    pub(super) stat: Stat,
    pub(super) settled: bool,
}

/// All documents of a pack at one look.
#[derive(Debug)]
pub(in crate::capture) struct Looked {
    pub(in crate::capture) listing: Listing,
    pub(super) documents: Vec<Document>,
    /// How many of them were read.
    pub(super) read: u64,
}

/// Lists the documents and finds out what they hold.
pub(in crate::capture) async fn look(
    conn: &mut PgConnection,
    opened: &Arc<OpenedPack>,
    options: RescanOptions,
    memory: &mut Memory,
    stop: &Stop,
) -> Result<Looked> {
    let listing = list(opened).await?;
    let known = known(conn, &opened.plan.name).await?;
    let paths: Vec<PathBuf> = listing.documents.iter().map(|one| one.path.clone()).collect();
    let looking = move || paths.iter().map(|path| stat(path)).collect::<Result<Vec<_>>>();
    let stats = tokio::task::spawn_blocking(looking).await.map_err(join_error)??;
    let mut files: HashMap<String, Seen> = HashMap::with_capacity(listing.documents.len());
    let mut wanted = Vec::new();
    for (listed, stat) in listing.documents.iter().zip(stats) {
        // One that went away in between is found missing the next time.
        let Some(stat) = stat else { continue };
        let name = &listed.relative;
        let before = memory.files.remove(name).filter(|seen| seen.stat == stat);
        let mut seen = before.unwrap_or_else(|| first_sight(stat, known.get(name)));
        if options.thorough {
            seen.settled = false;
        }
        if !seen.settled || seen.sha256.is_none() {
            wanted.push((name.clone(), listed.path.clone()));
        }
        files.insert(name.clone(), seen);
    }
    memory.files = files;
    if options.thorough {
        let quiet = memory.files.values().map(|seen| seen.since + QUIET).max();
        let pause = quiet.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        stop.unless(async {
            tokio::time::sleep(pause).await;
            Ok(())
        })
        .await?;
    }
    let read = wanted.len() as u64;
    take(memory, hash_all(wanted, stop.clone()).await?);
    let looked = Looked { documents: documents(&listing, memory), listing, read };
    confirm(conn, &opened.plan.name, &known, &looked.documents).await?;
    Ok(looked)
}

/// A file that this process sees for the first time, or sees changed.
fn first_sight(stat: Stat, known: Option<&Known>) -> Seen {
    let trusted = known.filter(|known| known.settled && known.stat == stat);
    Seen {
        stat,
        since: Instant::now(),
        sha256: trusted.map(|known| known.sha256.clone()).filter(|hash| !hash.is_empty()),
        settled: trusted.is_some(),
    }
}

fn documents(listing: &Listing, memory: &Memory) -> Vec<Document> {
    let of = |listed: &ListedDocument| {
        let seen = memory.files.get(&listed.relative)?;
        let file = SourceFile {
            path: listed.path.clone(),
            relative: listed.relative.clone(),
            sha256: seen.sha256.clone()?,
            size_bytes: seen.stat.size,
        };
        Some(Document { listed: listed.clone(), file, stat: seen.stat, settled: seen.settled })
    };
    listing.documents.iter().filter_map(of).collect()
}

/// What a file was found to hold.
struct Hashed {
    name: String,
    sha256: String,
    begun: Instant,
    /// Before and after it was read.
    stats: [Stat; 2],
}

fn take(memory: &mut Memory, hashed: Vec<Hashed>) {
    for Hashed { name, sha256, begun, stats } in hashed {
        let Some(seen) = memory.files.get_mut(&name) else { continue };
        if stats != [seen.stat; 2] {
            seen.stat = stats[1];
            seen.since = Instant::now();
        }
        seen.settled = begun.saturating_duration_since(seen.since) >= QUIET && stats[0] == stats[1];
        seen.sha256 = Some(sha256);
    }
}

/// Hashes files side by side; those that went away are left out.
async fn hash_all(wanted: Vec<(String, PathBuf)>, stop: Stop) -> Result<Vec<Hashed>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let hashing = move || {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<Hashed>> {
            let mut done = Vec::new();
            while let Some((name, path)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                stop.check()?;
                done.extend(hash_one(name, path)?);
            }
            Ok(done)
        };
        std::thread::scope(|scope| {
            let count = cores.min(HASHERS_MAX).min(wanted.len());
            let hashers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::with_capacity(wanted.len());
            for hasher in hashers {
                let ended = hasher.join();
                let done = ended.map_err(|_| Error::new(ErrorKind::Bug, "hashing panicked"))?;
                all.extend(done?);
            }
            Ok(all)
        })
    };
    tokio::task::spawn_blocking(hashing).await.map_err(join_error)?
}

fn hash_one(name: &str, path: &Path) -> Result<Option<Hashed>> {
    let begun = Instant::now();
    let Some(mut file) = open(path)? else { return Ok(None) };
    let failed = |error: std::io::Error| unreadable(path, &error);
    let first = Stat::of(&file).map_err(failed)?;
    let (sha256, _) = hash_open(&mut file, path)?;
    // By its name: it may have been replaced.
    let last = stat(path)?.unwrap_or_default();
    Ok(Some(Hashed { name: name.to_owned(), sha256, begun, stats: [first, last] }))
}

/// None: there is no such file.
fn stat(path: &Path) -> Result<Option<Stat>> {
    // Opened, because a network file system vouches for what it says of a file only then.
    let Some(file) = open(path)? else { return Ok(None) };
    Stat::of(&file).map(Some).map_err(|error| unreadable(path, &error))
}

fn open(path: &Path) -> Result<Option<File>> {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            let what = format!("{} is not a file", path.display());
            return Err(Error::new(ErrorKind::SourceUnreadable, what)
                .advice("move it out of the source folder: reading it might never end"));
        }
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    }
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_for(since: Instant, path: &Path) -> Memory {
        let stat = stat(path).unwrap().unwrap();
        let seen = Seen { stat, since, sha256: None, settled: false };
        Memory { files: HashMap::from([("a".to_owned(), seen)]), ..Memory::default() }
    }

    #[test]
    fn a_hash_stands_for_a_file_only_if_it_had_been_quiet_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let long_ago = Instant::now().checked_sub(QUIET * 2).unwrap();
        for (since, settled) in [(long_ago, true), (Instant::now(), false)] {
            let mut memory = seen_for(since, &path);
            take(&mut memory, vec![hash_one("a", &path).unwrap().unwrap()]);
            assert_eq!(memory.files["a"].settled, settled);
        }
        // Written since it was first seen: quiet begins anew.
        let mut memory = seen_for(long_ago, &path);
        std::fs::write(&path, "other").unwrap();
        take(&mut memory, vec![hash_one("a", &path).unwrap().unwrap()]);
        assert!(!memory.files["a"].settled);
        assert!(memory.files["a"].since > long_ago);
    }

    #[test]
    fn a_time_that_was_set_back_does_not_make_a_file_look_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let before = stat(&path).unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let file = File::options().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, b"two").unwrap();
        let since = Duration::from_nanos(before.modified_ns.cast_unsigned());
        let modified = std::time::UNIX_EPOCH + since;
        file.set_modified(modified).unwrap();
        let after = stat(&path).unwrap().unwrap();
        assert_eq!((after.size, after.modified_ns), (before.size, before.modified_ns));
        assert_ne!(after, before);
    }
}
