//! Private copies of sources that cannot be read where they are, on disk, gone with their last
//! user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::error::{Error, ErrorKind, Result};

/// Names begin so, and go on with the process id, so that what a killed process left is known.
const PREFIX: &str = "toolkit-source-";

/// Scratch keeps this much free for others.
const LEFT_FREE_BYTES: u64 = 256 << 20;

/// A copy in a folder of its own, readable by its owner alone.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    name: std::ffi::OsString,
}

impl Scratch {
    /// The copy.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }
}

/// By path and change token.
type Copies = BTreeMap<(PathBuf, String), Weak<Scratch>>;

/// The copies that are in use.
static COPIES: Mutex<Copies> = Mutex::new(BTreeMap::new());

/// The copy of `path` as of `token`: one that is in use, or else a new one, made by `make` at the
/// path it is given.
pub(super) fn shared(
    path: &Path,
    token: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<Arc<Scratch>> {
    let key = (path.to_path_buf(), token.to_owned());
    // Held while copying: two who want the same copy make it once.
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    copies.retain(|_, copy| copy.strong_count() > 0);
    if let Some(copy) = copies.get(&key).and_then(Weak::upgrade) {
        return Ok(copy);
    }
    sweep();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let folder =
        tempfile::Builder::new().prefix(&prefix).tempdir_in(folder()).map_err(|error| {
            let detail = format!("no scratch folder in {}: {error}", folder().display());
            Error::new(ErrorKind::Io, detail).advice("name a folder with room in TMPDIR")
        })?;
    let name = path.file_name().unwrap_or_default().to_owned();
    let scratch = Arc::new(Scratch { folder, name });
    make(&scratch.file())?;
    copies.insert(key, Arc::downgrade(&scratch));
    Ok(scratch)
}

/// TMPDIR, else /var/tmp, which is on disk where /tmp may be memory.
fn folder() -> PathBuf {
    let large = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && large.is_dir() {
        return large.to_path_buf();
    }
    std::env::temp_dir()
}

/// The failure of a copy for which there is no room.
pub(super) fn full(source: &Path, error: &std::io::Error) -> Error {
    let place = folder();
    Error::new(
        ErrorKind::Io,
        format!("{} cannot be copied to {}: {error}", source.display(), place.display()),
    )
    .advice("free space there, or set TMPDIR to a folder with room for the file")
}

/// Bytes that scratch can take.
pub(super) fn free_bytes() -> u64 {
    nix::sys::statvfs::statvfs(&folder()).map_or(0, |found| {
        // Types differ between systems.
        #[allow(clippy::useless_conversion, reason = "u32 on some systems")]
        let (blocks, size) =
            (u64::from(found.blocks_available()), u64::from(found.fragment_size()));
        (blocks * size).saturating_sub(LEFT_FREE_BYTES)
    })
}

/// Removes what killed processes left. Best effort: others' copies are not ours to remove.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(folder()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|tail| tail.split_once('-'));
        let owner = owner.and_then(|(pid, _)| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| !is_alive(pid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a process of this id runs.
pub(super) fn is_alive(pid: i32) -> bool {
    !matches!(kill(Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_once_while_it_is_in_use_and_goes_with_its_last_user() {
        let path = Path::new("/source/of-this-test.sqlite");
        let made = std::cell::Cell::new(0);
        let copy = |token: &str| {
            let make = |to: &Path| {
                made.set(made.get() + 1);
                Ok(std::fs::write(to, token)?)
            };
            shared(path, token, make).unwrap()
        };
        let first = copy("one");
        let (again, other) = (copy("one"), copy("two"));
        assert_eq!(made.get(), 2);
        assert_eq!(std::fs::read(other.file()).unwrap(), b"two");
        let place = first.file();
        drop((first, again));
        assert!(!place.exists());
        drop(copy("one"));
        assert_eq!(made.get(), 3);
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        // No process has this id: Linux ends at 2^22.
        let left = folder().join(format!("{PREFIX}2147483000-left"));
        std::fs::create_dir_all(&left).unwrap();
        sweep();
        assert!(!left.exists());
    }
}
