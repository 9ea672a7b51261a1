//! Folders for copies of sources, which no kill leaves behind for long.
//!
//! A folder is removed with the value that made it. What was killed before it could do so left its
//! folder unlocked: whoever makes the next one removes it. The lock is the system's, so it ends
//! with its process however that ends, and no clock decides what is old.

use std::fs::File;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// What every name begins with.
const PREFIX: &str = "toolkit-source-";

/// The file in it that its owner holds a lock on.
const LOCK: &str = ".lock";

/// A private folder below the system's temporary one.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    // Unlocked after the folder is gone.
    _lock: File,
}

impl Scratch {
    /// Makes a folder, and removes those of processes that were killed.
    pub(super) fn create() -> Result<Self> {
        let place = std::env::temp_dir();
        sweep(&place);
        let unusable = |error: std::io::Error| {
            Error::new(
                ErrorKind::Io,
                format!("no scratch folder can be made in {}: {error}", place.display()),
            )
            .advice("free space there, or set TMPDIR to a folder that can be written")
        };
        // Between the folder and its lock another process may take it for a dead one's.
        for _ in 0..10 {
            let folder =
                tempfile::Builder::new().prefix(PREFIX).tempdir_in(&place).map_err(unusable)?;
            let path = folder.path().join(LOCK);
            let Ok(lock) = File::create(&path) else { continue };
            if lock.try_lock().is_ok() && path.exists() {
                return Ok(Self { folder, _lock: lock });
            }
        }
        Err(unusable(std::io::Error::other("it is removed by somebody at once")))
    }

    /// The failure of a copy for which there is no room.
    pub(super) fn full(&self, source: &Path, error: &std::io::Error) -> Error {
        let place = self.folder.path().parent().unwrap_or(self.path());
        Error::new(
            ErrorKind::Io,
            format!("{} cannot be copied to {}: {error}", source.display(), place.display()),
        )
        .advice("free space there, or set TMPDIR to a folder with room for the file")
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        empty(self.folder.path());
    }
}

/// Removes the copies and then the lock, so that whoever is killed here leaves a folder that is
/// locked by nobody, or an empty one.
fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() != LOCK {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_file(folder.join(LOCK));
}

/// Removes the folders below `place` whose owners are gone. Others' folders stay: they cannot be
/// opened, or not be removed.
fn sweep(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // Held until the folder is gone: its maker may be about to lock it.
        let lock = File::open(entry.path().join(LOCK));
        match &lock {
            Ok(lock) if lock.try_lock().is_ok() => empty(&entry.path()),
            Ok(_) => continue,
            Err(_) => {}
        }
        // Without a lock only an empty one goes: its maker was killed, or makes another.
        let _ = std::fs::remove_dir(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_killed_are_removed_and_those_of_the_living_stay() {
        let place = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let folder = place.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("app.sqlite"), "rows").unwrap();
            (File::create(folder.join(LOCK)).unwrap(), folder)
        };
        let (living, stays) = made("toolkit-source-living");
        living.lock().unwrap();
        let (killed, goes) = made("toolkit-source-killed");
        drop(killed);
        let unlocked = place.path().join("toolkit-source-unlocked");
        std::fs::create_dir(&unlocked).unwrap();
        let (_other, alien) = made("something-else");
        sweep(place.path());
        assert!(stays.exists() && alien.exists());
        assert!(!goes.exists() && !unlocked.exists());
    }
}
