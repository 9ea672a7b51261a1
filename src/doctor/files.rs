//! Source files: what `SQLite` says of itself in its header, who holds locks, what is beside it.
//!
//! Headers are read as bytes: opening a database can leave files beside it or wait for a lock.
//! Source: <https://www.sqlite.org/fileformat2.html>.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::machine::mib;
use super::{Notes, Options};
use crate::capture;
use crate::source::holders::holders as lock_holders;

const AREA: &str = "source";

/// Files named one by one; the rest is counted.
const NAMED: usize = 50;

/// A write-ahead log that was not checkpointed for long.
const LARGE_WAL: u64 = 256 * 1024 * 1024;

pub(super) fn look(options: &Options, notes: &mut Notes) {
    for root in &options.sources {
        if !root.exists() {
            let advice = "check the path, and that this user may see it";
            notes.bad(AREA, root.display().to_string(), "there is no such file or folder", advice);
            continue;
        }
        let (databases, others) = files(root, notes);
        for path in databases.iter().take(NAMED) {
            database(path, notes);
        }
        if databases.len() > NAMED {
            let more = databases.len() - NAMED;
            notes.unknown(
                AREA,
                root.display().to_string(),
                format!("{more} more databases not looked at"),
            );
        }
        if others > 0 {
            notes.good(AREA, root.display().to_string(), format!("{others} other files, readable"));
        }
    }
}

/// The databases below `root`, and how many other files are there.
fn files(root: &Path, notes: &mut Notes) -> (Vec<PathBuf>, usize) {
    let (mut databases, mut others) = (Vec::new(), 0);
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let advice = "give this user the right to read it";
                let place = error.path().unwrap_or(root).display().to_string();
                notes.bad(AREA, place, format!("cannot be listed: {error}"), advice);
                continue;
            }
        };
        if !entry.file_type().is_file() {
            continue;
        }
        match header(entry.path()) {
            Ok(Some(_)) => databases.push(entry.into_path()),
            Ok(None) => others += 1,
            Err(error) => {
                let place = entry.path().display().to_string();
                let advice = "give this user the right to read it";
                notes.bad(AREA, place, format!("cannot be read: {error}"), advice);
            }
        }
    }
    (databases, others)
}

/// The 100 bytes a database begins with.
fn header(path: &Path) -> std::io::Result<Option<[u8; 100]>> {
    let mut bytes = [0; 100];
    let mut file = File::open(path)?;
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => return Ok(None),
            some => read += some,
        }
    }
    Ok(bytes.starts_with(b"SQLite format 3\0").then_some(bytes))
}

fn database(path: &Path, notes: &mut Notes) {
    let name = path.display().to_string();
    let Ok(Some(bytes)) = header(path) else { return };
    let is_wal = bytes[18] == 2;
    let encoding = match bytes[59] {
        2 => "UTF-16le",
        3 => "UTF-16be",
        _ => "UTF-8",
    };
    let size = std::fs::metadata(path).map_or(0, |found| found.len());
    let journal = if is_wal { "write-ahead log" } else { "rollback journal" };
    notes.good(AREA, &*name, format!("{}, {journal}, {encoding}", mib(size)));
    if !is_wal {
        notes.warn(
            AREA,
            &*name,
            "with a rollback journal, readers and writers wait for each other",
            "PRAGMA journal_mode = WAL, by the application, before dual-write; reads are cut into \
             short ones until then",
        );
    }
    beside(path, is_wal, notes);
    let holders = lock_holders(path);
    if !holders.is_empty() {
        notes.add(
            AREA,
            &*name,
            super::Health::Good,
            format!("write-locked just now by {}", holders.join(", ")),
            None,
        );
    }
    rights(path, notes);
    if let Some(kind) = network_file_system(path) {
        notes.warn(
            AREA,
            &*name,
            format!("is on {kind}, where SQLite's locks cannot be relied on"),
            "run this tool on the host that runs the application",
        );
    }
    match capture::glance(path) {
        Ok(None) => {}
        Ok(Some(state)) if state.mode == 1 => {
            notes.good(AREA, &*name, "is fenced: it has moved to Postgres");
        }
        Ok(Some(_)) => notes.good(AREA, &*name, "its changes are captured"),
        Err(error) => notes.unknown(AREA, &*name, format!("capture: {}", error.detail())),
    }
}

fn beside(path: &Path, is_wal: bool, notes: &mut Notes) {
    let name = path.display().to_string();
    let sibling = |suffix: &str| {
        let mut sibling = path.as_os_str().to_owned();
        sibling.push(suffix);
        std::fs::metadata(PathBuf::from(sibling)).map_or(0, |found| found.len())
    };
    let wal = sibling("-wal");
    if is_wal && wal > LARGE_WAL {
        notes.warn(
            AREA,
            &*name,
            format!("its write-ahead log has grown to {}", mib(wal)),
            "a reader that never ends keeps it from being checkpointed: find it, and run PRAGMA \
             wal_checkpoint(TRUNCATE)",
        );
    }
    if !is_wal && sibling("-journal") > 0 && lock_holders(path).is_empty() {
        notes.warn(
            AREA,
            &*name,
            "a journal lies beside it and nobody holds a lock: its last writer may have crashed",
            "open it once with its application, which rolls the journal back",
        );
    }
}

/// Dual-write writes its triggers into the file, and its folder takes the journal.
fn rights(path: &Path, notes: &mut Notes) {
    let name = path.display().to_string();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    for (what, place) in [("the file", path), ("its folder", folder)] {
        if access(place, AccessFlags::W_OK).is_err() {
            notes.warn(
                AREA,
                &*name,
                format!(
                    "this user may not write to {what}: enough for backfill, not for dual-write"
                ),
                "run dual-write as the application's user",
            );
            return;
        }
    }
}

#[cfg(target_os = "linux")]
fn network_file_system(path: &Path) -> Option<&'static str> {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
    let kind = statfs(path).ok()?.filesystem_type();
    [
        (NFS_SUPER_MAGIC, "NFS"),
        (SMB_SUPER_MAGIC, "SMB"),
        (FUSE_SUPER_MAGIC, "a file system in user space"),
    ]
    .into_iter()
    .find(|(magic, _)| *magic == kind)
    .map(|(_, name)| name)
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}
