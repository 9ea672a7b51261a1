//! Folders, files, owners and locks of the private cluster.
//!
//! ```text
//! <state>/postgres/data      the cluster, owned by the server's user
//!                  password  of the superuser, readable by the toolkit's user only
//!                  log       what the server says
//!                  lock      held while starting and stopping
//!                  lease     held, shared, by every user of the server
//!                  keep      present after `embedded start`; holds the TCP port, if any
//! /tmp/toolkit-<uid>-<hash>  the socket: a path of at most 107 bytes, whatever <state> is
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// Longest wait for another command that starts or stops the server.
const LOCK_WAIT_MAX: Duration = Duration::from_mins(3);

/// Room for a socket's path, with its NUL byte: `sockaddr_un.sun_path` on Linux.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Who the server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether that is another user than this process's: root drops its rights.
    pub(super) dropped: bool,
}

impl ServerUser {
    /// This user; for root the owner of the existing cluster, else `postgres`, else `nobody`.
    fn of(data: &Path) -> Result<Self> {
        let own = Uid::effective();
        if !own.is_root() {
            let gid = nix::unistd::Gid::effective().as_raw();
            return Ok(Self { uid: own.as_raw(), gid, dropped: false });
        }
        if let Ok(owner) = fs::metadata(data)
            && owner.uid() != 0
        {
            return Ok(Self { uid: owner.uid(), gid: owner.gid(), dropped: true });
        }
        let named = |name| User::from_name(name).ok().flatten().filter(|u| !u.uid.is_root());
        named("postgres")
            .or_else(|| named("nobody"))
            .map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), dropped: true })
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    "PostgreSQL refuses to run as root, and there is no user postgres or nobody",
                )
                .advice("create a user `postgres`, run as an ordinary user, or name a server")
            })
    }

    fn may_enter(self, folder: &fs::Metadata) -> bool {
        let mode = folder.mode();
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }
}

/// The wish that the server stays up without users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep {
    /// TCP port to listen on.
    pub(super) port: Option<u16>,
}

/// The places of one state folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) user: ServerUser,
}

impl Layout {
    /// The layout of a state folder that was used before.
    pub(super) fn existing(state_dir: &Path) -> Result<Option<Self>> {
        if state_dir.join("postgres/lock").exists() {
            Self::at(state_dir).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Creates what is missing.
    pub(super) fn create(state_dir: &Path) -> Result<Self> {
        let root = state_dir.join("postgres");
        // As root the server's user must pass through, but not look around.
        let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
        let fresh = !state_dir.exists();
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&root)
            .map_err(|e| io_error("state folder", &root, e))?;
        if fresh {
            // Beside a repository's files, a password must not be committed.
            let ignore = state_dir.join(".gitignore");
            fs::write(&ignore, "*\n").map_err(|e| io_error("file", &ignore, e))?;
        }
        let layout = Self::at(state_dir)?;
        layout.check_way()?;
        Ok(layout)
    }

    fn at(state_dir: &Path) -> Result<Self> {
        let state_dir =
            fs::canonicalize(state_dir).map_err(|e| io_error("state folder", state_dir, e))?;
        let root = state_dir.join("postgres");
        let data = root.join("data");
        let user = ServerUser::of(&data)?;
        let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
        // Not TMPDIR: it differs between sessions and may be long.
        let socket_dir =
            PathBuf::from(format!("/tmp/toolkit-{}-{}", user.uid, hex::encode(&digest[..6])));
        Ok(Self { root, data, socket_dir, user })
    }

    /// The server's user must reach the data folder.
    fn check_way(&self) -> Result<()> {
        if !self.user.dropped {
            return Ok(());
        }
        for folder in self.root.ancestors() {
            let metadata = fs::metadata(folder).map_err(|e| io_error("folder", folder, e))?;
            if !self.user.may_enter(&metadata) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "the server runs as user {} and cannot pass through {}",
                        self.user.uid,
                        folder.display()
                    ),
                )
                .advice(
                    "leave --state-dir out (root's default is under /var/lib/toolkit), or \
                         name a folder every user may pass through",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.root.join("log")
    }

    fn keep_file(&self) -> PathBuf {
        self.root.join("keep")
    }

    /// The lock, if nobody else holds it.
    pub(super) fn try_lock(&self) -> Result<Option<File>> {
        let path = self.root.join("lock");
        let file = open_private(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(io_error("lock", &path, e)),
        }
    }

    /// Waits until no other command starts or stops the server.
    pub(super) fn lock(&self) -> Result<File> {
        let start = Instant::now();
        loop {
            if let Some(file) = self.try_lock()? {
                return Ok(file);
            }
            if start.elapsed() > LOCK_WAIT_MAX {
                let seconds = LOCK_WAIT_MAX.as_secs();
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("the private cluster is being started or stopped for {seconds} s now"),
                )
                .advice(format!("find who holds {}", self.root.join("lock").display())));
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// The lease, not yet held. Taken and given up under [`Layout::lock`] only.
    pub(super) fn lease(&self) -> Result<File> {
        open_private(&self.root.join("lease"))
    }

    /// The marker of `embedded start`, if it is set.
    pub(super) fn keep(&self) -> Result<Option<Keep>> {
        let path = self.keep_file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Keep { port: text.trim().parse().ok() })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("file", &path, e)),
        }
    }

    pub(super) fn set_keep(&self, keep: Keep) -> Result<()> {
        let text = keep.port.map(|p| p.to_string()).unwrap_or_default();
        write_private(&self.keep_file(), &text)
    }

    pub(super) fn clear_keep(&self) -> Result<()> {
        let path = self.keep_file();
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("file", &path, e)),
            _ => Ok(()),
        }
    }

    pub(super) fn password(&self) -> Result<String> {
        let path = self.password_file();
        let mut text = String::new();
        File::open(&path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|e| io_error("password file", &path, e))?;
        Ok(text.trim().to_owned())
    }

    /// The socket's folder, private to the server's user; made anew where it is missing.
    ///
    /// /tmp is everyone's: what is there already is trusted only if it is a folder, no link,
    /// and belongs to that user.
    pub(super) fn prepare_socket_dir(&self) -> Result<()> {
        let folder = &self.socket_dir;
        let longest = folder.join(".s.PGSQL.65535.lock");
        if longest.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let detail = format!("socket path {} is too long", longest.display());
            return Err(Error::new(ErrorKind::Bug, detail));
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => self.give(folder)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io_error("socket folder", folder, e)),
        }
        let found =
            fs::symlink_metadata(folder).map_err(|e| io_error("socket folder", folder, e))?;
        // Made by root and not yet given away: a start was killed in between.
        let unfinished = self.user.dropped && found.uid() == 0;
        if !found.is_dir() || (found.uid() != self.user.uid && !unfinished) {
            return Err(Error::new(
                ErrorKind::StoreDenied,
                format!(
                    "{} is not a folder of user {}, so the server's socket is not safe there",
                    folder.display(),
                    self.user.uid
                ),
            )
            .advice("find out who made it, and remove it"));
        }
        if unfinished {
            self.give(folder)?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .map_err(|e| io_error("socket folder", folder, e))
    }

    /// Gives a file or folder to the server's user.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        if !self.user.dropped {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.user.uid), Some(self.user.gid))
            .map_err(|e| io_error("owner of", path, e))
    }
}

/// Whether nobody but the holder of `lease` uses the server; needs [`Layout::lock`], because
/// the lease is let go for a moment. Afterwards it is held, shared, again.
pub(super) fn is_alone(lease: &File) -> Result<bool> {
    lease.unlock()?;
    let alone = match lease.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(e)) => return Err(e.into()),
    };
    lease.lock_shared()?;
    Ok(alone)
}

/// Opens a file that only this user may read, without changing what is in it.
pub(super) fn open_private(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| io_error("file", path, e))
}

/// Writes a file that only this user may read; a reader sees the old or the new text.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // tempfile creates with mode 0600.
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(|e| io_error("folder", folder, e))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(|e| io_error("file", path, e))?;
    file.persist(path).map_err(|e| io_error("file", path, e.error))?;
    Ok(())
}

pub(super) fn io_error(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{what} {}", path.display())).because(error)
}
