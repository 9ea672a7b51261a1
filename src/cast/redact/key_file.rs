//! The file that holds the redaction key.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rand::TryRngCore as _;
use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};

const KEY_BYTES: usize = 32;

/// Reads the key in `path`; creates it when there is no such file.
pub(super) fn load_or_create(path: &Path) -> Result<[u8; KEY_BYTES]> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    create(path)?;
    // Read back in any case: another process may have been first.
    load(path)?.ok_or_else(|| fault(path, "vanished as soon as it was created"))
}

fn load(path: &Path) -> Result<Option<[u8; KEY_BYTES]>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(path, "cannot be opened").because(error)),
    };
    let metadata = file.metadata().map_err(|error| fault(path, "cannot be read").because(error))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(fault(path, "can be read by others than its owner")
            .advice(format!("chmod 600 {}", path.display())));
    }
    let mut key = [0; KEY_BYTES];
    let read = if metadata.len() == KEY_BYTES as u64 {
        file.read_exact(&mut key)
    } else {
        Err(IoErrorKind::InvalidData.into())
    };
    read.map_err(|error| {
        fault(path, format!("does not hold {KEY_BYTES} bytes but {}", metadata.len()))
            .advice("restore the file; a new key cannot recognise secrets hashed with the old one")
            .because(error)
    })?;
    Ok(Some(key))
}

/// The key is written and synced under a private name (mode 0600 from the start) and then gets
/// its own name in one step that never overwrites, so that no reader sees half a key.
fn create(path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| fault(path, "cannot be created").because(error);
    let mut key = [0; KEY_BYTES];
    rand::rngs::OsRng
        .try_fill_bytes(&mut key)
        .map_err(|error| fault(path, "cannot be created: no random bytes").because(error))?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&key).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        Err(refused) if refused.error.kind() == IoErrorKind::AlreadyExists => Ok(()),
        Err(refused) => Err(failed(refused.error)),
    }
}

fn fault(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("the redaction key {} {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_created_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redaction.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_create(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; KEY_BYTES]));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_cannot_be_right_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redaction.key");
        std::fs::write(&path, b"short").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("redaction.key does not hold 32 bytes but 5"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(error.advice_text().unwrap().starts_with("chmod 600"), "{error}");
        let missing = load_or_create(&folder.path().join("none/key")).unwrap_err().to_string();
        assert!(missing.contains("none/key cannot be created"), "{missing}");
    }
}
