//! Which process, if any, serves a data folder.
//!
//! `postmaster.pid` outlives a killed server, and its number may by then belong to anything. A
//! server's processes work inside their data folder, so `/proc/<pid>/cwd` tells ours apart.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::{ServerUser, io_error};
use crate::error::{Error, ErrorKind, Result};

/// What `postmaster.pid` says, see `src/include/utils/pidfile.h` of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
    pub(super) listens: bool,
    pub(super) ready: bool,
}

impl PidFile {
    /// None where there is no file or it is not complete (yet).
    pub(super) fn read(data: &Path) -> Result<Option<Self>> {
        let path = data.join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("file", &path, e)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: lines.first()?.parse().ok().filter(|pid| *pid > 0)?,
            port: lines.get(3)?.parse().ok()?,
            socket_dir: PathBuf::from(lines.get(4)?),
            listens: lines.get(5).is_some_and(|addresses| !addresses.is_empty()),
            ready: lines.get(7).is_some_and(|status| *status == "ready"),
        })
    }
}

/// Prints the numbers of those processes that work in folder `$1` and are PostgreSQL's; looks at
/// all, or at number `$2`.
const LOOK: &str = r#"
for process in /proc/${2:-[0-9]*}; do
    [ "$process/cwd" -ef "$1" ] || continue
    read -r name < "$process/comm" || continue
    case $name in post*) echo "${process#/proc/}" ;; esac
done 2> /dev/null
exit 0
"#;

/// Processes of a PostgreSQL server that work in `data`, which is canonical. Zombies are not
/// among them.
pub(super) fn of_data_folder(data: &Path, user: ServerUser) -> Result<Vec<i32>> {
    if user.dropped {
        return look_as(data, user, None);
    }
    let entries = fs::read_dir("/proc").map_err(|e| io_error("folder", Path::new("/proc"), e))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| works_in(*pid, data))
        .collect())
}

/// Whether process `pid` is one of the server of `data`.
pub(super) fn serves(pid: i32, data: &Path, user: ServerUser) -> Result<bool> {
    if !has_proc() {
        return Ok(kill(Pid::from_raw(pid), None).is_ok());
    }
    if user.dropped {
        return Ok(!look_as(data, user, Some(pid))?.is_empty());
    }
    Ok(works_in(pid, data))
}

fn works_in(pid: i32, data: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data)
        && fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("post"))
}

/// A container's root often lacks the right to look into other users' processes
/// (`CAP_SYS_PTRACE`), so the server's own user looks.
fn look_as(data: &Path, user: ServerUser, pid: Option<i32>) -> Result<Vec<i32>> {
    let output = Command::new("/bin/sh")
        .args(["-c", LOOK, "look"])
        .arg(data)
        .args(pid.map(|pid| pid.to_string()))
        .current_dir("/")
        .stdin(Stdio::null())
        .uid(user.uid)
        .gid(user.gid)
        .output()
        .and_then(|output| {
            if output.status.success() { Ok(output) } else { Err(io::Error::other("no answer")) }
        })
        .map_err(|e| {
            Error::new(ErrorKind::Io, format!("processes of user {} cannot be looked at", user.uid))
                .because(e)
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Whether processes can be told apart on this system.
pub(super) fn has_proc() -> bool {
    Path::new("/proc/self/cwd").exists()
}

/// Asks a process to end; one that is gone already is fine.
pub(super) fn terminate(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_as_the_server_writes_it() {
        let text = "4242\n/state/postgres/data\n1700000000\n5432\n/tmp/toolkit-1-ab\n\n  \
                    1234567   65538\nready   \n";
        let file = PidFile::parse(text).unwrap();
        assert_eq!((file.pid, file.port, file.listens, file.ready), (4242, 5432, false, true));
        assert_eq!(file.socket_dir, Path::new("/tmp/toolkit-1-ab"));
        assert!(!PidFile::parse(&text.replace("ready", "starting")).unwrap().ready);
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("4242\n/state"), None);
    }

    #[test]
    fn a_living_process_elsewhere_does_not_serve_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let user = ServerUser { uid: 65534, gid: 65534, dropped: false };
        let dropped = ServerUser { dropped: nix::unistd::Uid::effective().is_root(), ..user };
        for user in [user, dropped] {
            assert!(!serves(own, folder.path(), user).unwrap());
            assert!(of_data_folder(folder.path(), user).unwrap().is_empty());
        }
    }
}
