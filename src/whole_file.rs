//! Files that are there whole or not at all: a temporary file beside the target, synced, renamed.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Refuses a file that cannot be written, before the work whose result it is to hold: no folder,
/// no permission, a folder or a device under its name. Leaves nothing behind.
pub fn check_writable(path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|existing| !existing.is_file()) {
        let detail = format!("{} is there, and is not a file", path.display());
        return Err(Error::new(ErrorKind::Usage, detail).advice("name a file"));
    }
    if path.file_name().is_none() {
        let detail = format!("{} names no file", path.display());
        return Err(Error::new(ErrorKind::Usage, detail).advice("name a file"));
    }
    temporary(path).map(drop)
}

/// Writes `bytes` to `path`, replacing a file of that name at once; after an error or a kill the
/// old one, or none, is there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::begin(path)?;
    file.write(bytes)?;
    file.finish()
}

/// A file that is written piece by piece and gets its name at the end.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    buffer: BufWriter<tempfile::NamedTempFile>,
}

impl WholeFile {
    /// Begins it beside its name.
    pub fn begin(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), buffer: BufWriter::new(temporary(path)?) })
    }

    /// Writes a piece.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.write_all(bytes).map_err(|error| unwritable(&self.path, error))
    }

    /// Replaces a file of its name at once.
    pub fn finish(self) -> Result<()> {
        let path = &self.path;
        let file = self.buffer.into_inner().map_err(|e| unwritable(path, e.into_error()))?;
        file.as_file().sync_all().map_err(|error| unwritable(path, error))?;
        file.persist(path).map_err(|error| unwritable(path, error.error))?;
        // The name itself is durable once the folder is.
        let folder = std::fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all());
        folder.map_err(|error| unwritable(path, error))
    }
}

fn temporary(path: &Path) -> Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix(".toolkit-")
        // As any new file's: the umask takes away what the user does not want.
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder_of(path))
        .map_err(|error| unwritable(path, error))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let advice = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "make room on that disk, or name a file on another, and run the same command again"
        }
        _ => "name a file in a folder that exists and that you may write to",
    };
    Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
        .because(error)
        .advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        check_writable(&path).unwrap();
        assert!(!path.exists());
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_refused_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let missing = check_writable(&folder.path().join("no/such/out.json")).unwrap_err();
        assert!(missing.detail().contains("no/such/out.json cannot be written"), "{missing}");
        let taken = check_writable(folder.path()).unwrap_err();
        assert!(taken.detail().ends_with("is not a file"), "{taken}");
    }
}
