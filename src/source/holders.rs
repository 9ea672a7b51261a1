//! Who holds a lock on a file, where the system tells.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// `SQLite` locks bytes from here on: pending, reserved, then 510 shared ones.
/// Source: <https://www.sqlite.org/lockingv3.html> and `os.h` (`PENDING_BYTE`).
const PENDING_BYTE: u64 = 0x4000_0000;

/// Bytes it locks.
const LOCK_BYTES: u64 = 512;

/// The processes that hold a write lock on `path`, as `process 17 (python3)`; empty where nobody
/// knows, as on systems without `/proc/locks`.
pub(crate) fn holders(path: &Path) -> Vec<String> {
    let (Ok(file), Ok(locks)) = (std::fs::metadata(path), std::fs::read_to_string("/proc/locks"))
    else {
        return Vec::new();
    };
    let mut pids = write_holders(&locks, file.ino());
    pids.retain(|pid| *pid != std::process::id());
    pids.iter().map(|pid| described(*pid)).collect()
}

/// Process ids of the write locks on an inode's lock bytes. The device is left out: file systems
/// made of several (btrfs, overlays) show another one there.
fn write_holders(locks: &str, inode: u64) -> Vec<u32> {
    let mut found = Vec::new();
    for line in locks.lines() {
        // 1: POSIX  ADVISORY  WRITE 4711 08:01:131105 1073741824 1073742335
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, "WRITE", pid, place, start, end] = words[..] else { continue };
        let is_here = place.rsplit(':').next().and_then(|text| text.parse().ok()) == Some(inode);
        let start = start.parse::<u64>().unwrap_or(u64::MAX);
        let end = end.parse::<u64>().unwrap_or(u64::MAX);
        let is_lock = start < PENDING_BYTE + LOCK_BYTES && end >= PENDING_BYTE;
        if let Ok(pid) = pid.parse::<u32>()
            && is_here
            && is_lock
            && pid > 0
            && !found.contains(&pid)
        {
            found.push(pid);
        }
    }
    found
}

fn described(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_write_locks_on_the_lock_bytes_of_the_file_count() {
        let locks = "\
            1: POSIX  ADVISORY  WRITE 11 08:01:77 1073741825 1073741825\n\
            2: POSIX  ADVISORY  READ 12 08:01:77 1073741826 1073742335\n\
            3: POSIX  ADVISORY  WRITE 13 08:01:78 1073741824 1073742335\n\
            4: POSIX  ADVISORY  WRITE 14 08:01:77 120 127\n\
            5: FLOCK  ADVISORY  WRITE 15 08:01:77 0 EOF\n\
            6: -> POSIX  ADVISORY  WRITE 16 08:01:77 1073741824 1073742335\n\
            7: POSIX  ADVISORY  WRITE 11 08:01:77 1073741824 1073741824\n";
        assert_eq!(write_holders(locks, 77), [11, 15]);
    }
}
