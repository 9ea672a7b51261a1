//! This machine: room on the disks, and its binaries.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::Notes;
use crate::config::{Database, Settings};

const AREA: &str = "machine";

/// Below this a run is not worth starting.
const SCARCE: u64 = 512 * 1024 * 1024;

/// What a row takes in Postgres, with its indexes and the write-ahead log, against `SQLite`:
/// three times was the most that the built-in packs took.
const GROWTH: u64 = 3;

pub(super) fn look(settings: &Settings, sources: &[PathBuf], notes: &mut Notes) {
    let needed = total(sources);
    let temporary = std::env::temp_dir();
    room(&temporary, "temporary folder", needed, "set TMPDIR to a folder with more room", notes);
    if matches!(settings.database, Database::Embedded) {
        let state = nearest(&settings.state_dir);
        let advice = "set --state-dir to a folder with more room";
        room(&state, "state folder", needed.saturating_mul(GROWTH), advice, notes);
    }
}

fn room(folder: &Path, what: &str, needed: u64, advice: &str, notes: &mut Notes) {
    let Ok(found) = statvfs(folder) else {
        notes.unknown(AREA, what, format!("cannot see how much room {} has", folder.display()));
        return;
    };
    // The width of these fields differs between systems.
    #[allow(clippy::useless_conversion)]
    let (blocks, size) = (u64::from(found.blocks_available()), u64::from(found.fragment_size()));
    let free = blocks.saturating_mul(size);
    let place = format!("{} has {} free", folder.display(), mib(free));
    if free < SCARCE {
        notes.bad(AREA, what, place, advice);
    } else if free < needed {
        notes.warn(AREA, what, format!("{place}; the sources may need {}", mib(needed)), advice);
    } else {
        notes.good(AREA, what, place);
    }
}

/// Bytes of the files below `sources`; what cannot be seen counts nothing.
fn total(sources: &[PathBuf]) -> u64 {
    sources
        .iter()
        .flat_map(|root| walkdir::WalkDir::new(root).into_iter().flatten())
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// The folder itself, or the nearest above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

pub(super) fn mib(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes / MIB {
        0 => format!("{} KiB", bytes.div_ceil(1024)),
        some @ ..10_240 => format!("{some} MiB"),
        many => format!("{} GiB", many / 1024),
    }
}
