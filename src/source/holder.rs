//! Who holds a lock on a file, as far as the system says.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The processes that hold a write lock on `path`, as `process 17 (sqlite3)`; empty where that
/// cannot be known. Source: proc(5), `/proc/locks`.
pub(super) fn holders(path: &Path) -> Vec<String> {
    let (Ok(locks), Ok(file)) = (std::fs::read_to_string("/proc/locks"), std::fs::metadata(path))
    else {
        return Vec::new();
    };
    let inode = file.ino().to_string();
    let mut found: Vec<String> = locks
        .lines()
        .filter_map(|line| {
            // `1: POSIX  ADVISORY  WRITE 17 08:01:1234 1073741824 1073742335`; waiters have `->`.
            let mut parts = line.split_whitespace().skip(1);
            if parts.next() == Some("->") || parts.nth(1) != Some("WRITE") {
                return None;
            }
            let pid = parts.next()?;
            let is_it = parts.next()?.rsplit(':').next() == Some(inode.as_str());
            is_it.then(|| named(pid))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn named(pid: &str) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}
