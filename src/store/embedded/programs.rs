//! Where PostgreSQL's programs are on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, ErrorKind, Result};

/// Oldest major version taken.
const MAJOR_MIN: u32 = 13;

/// The folder of one installation's `postgres`, `initdb`, `pg_ctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
    major: u32,
}

impl Programs {
    /// Finds an installation: in `folder` if given, else on PATH, by `pg_config`, and in the
    /// places packages use. The newest wins, or with `major` that very version, the only one
    /// that can read a data folder it made.
    pub fn find(folder: Option<&Path>, major: Option<u32>) -> Result<Self> {
        let candidates = folder.map_or_else(usual_folders, |f| vec![f.to_owned()]);
        let mut found: Vec<Self> = candidates.iter().filter_map(|f| Self::inspect(f)).collect();
        found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
        let chosen = match major {
            Some(major) => found.iter().find(|programs| programs.major == major),
            None => found.iter().find(|programs| programs.major >= MAJOR_MIN),
        };
        match chosen {
            Some(programs) => Ok(programs.clone()),
            None => Self::install(major, &not_found(folder, major, &found)),
        }
    }

    /// Major version, 15 for 15.4.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    fn inspect(folder: &Path) -> Option<Self> {
        let complete = |folder: &Path| {
            ["postgres", "initdb", "pg_ctl"].iter().all(|name| folder.join(name).is_file())
        };
        // A link on PATH leads to the folder that also holds the share files' siblings.
        let real = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = real.parent().filter(|f| complete(f)).unwrap_or(folder);
        if !complete(folder) {
            return None;
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder: folder.to_owned(), major })
    }

    #[cfg(not(feature = "postgres-download"))]
    fn install(_major: Option<u32>, why: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::StoreUnreachable, why).advice(
            "name a server with --database-url, install the programs (Debian, Ubuntu: `apt-get \
             install postgresql`), name their folder in TOOLKIT_POSTGRES_BIN_DIR, or build \
             toolkit with the cargo feature `postgres-download`",
        ))
    }

    #[cfg(feature = "postgres-download")]
    fn install(major: Option<u32>, why: &str) -> Result<Self> {
        super::download::install(major)
            .and_then(|folder| {
                Self::inspect(&folder).ok_or_else(|| {
                    Error::new(
                        ErrorKind::StoreUnreachable,
                        format!("the downloaded programs in {} do not run", folder.display()),
                    )
                })
            })
            .map_err(|e| e.context(why))
    }
}

/// `pg_dump` and `pg_restore` of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientPrograms {
    pub(crate) pg_dump: PathBuf,
    pub(crate) pg_restore: PathBuf,
    /// Major version, 15 for 15.4.
    pub(crate) major: u32,
}

impl ClientPrograms {
    /// Finds those that can dump a server of `version_num`: in `folder` if given, else where
    /// [`Programs::find`] looks. The server's own version is best, since a newer one may write what
    /// that server cannot read back; an older one refuses to dump it.
    pub(crate) fn find(folder: Option<&Path>, version_num: i32) -> Result<Self> {
        let wanted = u32::try_from(version_num / 10_000).unwrap_or(MAJOR_MIN);
        let candidates = folder.map_or_else(usual_folders, |f| vec![f.to_owned()]);
        let mut found: Vec<Self> = candidates.iter().filter_map(|f| Self::inspect(f)).collect();
        found.sort_by_key(|programs| programs.major);
        if let Some(fit) = found.iter().find(|programs| programs.major >= wanted) {
            return Ok(fit.clone());
        }
        let searched = match folder {
            Some(folder) => format!(" in {}", folder.display()),
            None => " on this machine".to_owned(),
        };
        let older: Vec<String> =
            found.iter().map(|one| format!("{} ({})", one.pg_dump.display(), one.major)).collect();
        let older = match older.as_slice() {
            [] => String::new(),
            some => format!(", only {}", some.join(", ")),
        };
        let detail = format!(
            "the server is PostgreSQL {wanted}; no pg_dump and pg_restore of {wanted} or newer \
             were found{searched}{older}"
        );
        Err(Error::new(ErrorKind::Config, detail).advice(format!(
            "install them (Debian, Ubuntu: `apt-get install postgresql-client-{wanted}`), or name \
             their folder in TOOLKIT_POSTGRES_BIN_DIR"
        )))
    }

    fn inspect(folder: &Path) -> Option<Self> {
        let (pg_dump, pg_restore) = (folder.join("pg_dump"), folder.join("pg_restore"));
        if !pg_dump.is_file() || !pg_restore.is_file() {
            return None;
        }
        let output = Command::new(&pg_dump).arg("--version").stdin(Stdio::null()).output().ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { pg_dump, pg_restore, major })
    }
}

/// `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`, `... 18beta1`.
fn major_of(text: &str) -> Option<u32> {
    let version = text.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

fn not_found(folder: Option<&Path>, major: Option<u32>, found: &[Programs]) -> String {
    let wanted = match major {
        Some(major) => format!("PostgreSQL {major}, which the private cluster was made with,"),
        None => format!("PostgreSQL {MAJOR_MIN} or newer"),
    };
    let searched = match folder {
        Some(folder) => format!(" in {}", folder.display()),
        None => " on this machine".to_owned(),
    };
    let others: Vec<String> =
        found.iter().map(|p| format!("{} in {}", p.major, p.folder.display())).collect();
    if others.is_empty() {
        format!("no programs of {wanted} were found{searched}")
    } else {
        format!("no programs of {wanted} were found{searched}, only {}", others.join(", "))
    }
}

fn usual_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    // Debian and Ubuntu, Red Hat and SUSE, Homebrew.
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/lib", "postgresql", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
    ] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(suffix)),
        );
    }
    folders.push("/usr/local/pgsql/bin".into());
    folders.retain(|folder| folder.is_absolute());
    folders.sort();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    #[cfg(not(feature = "postgres-download"))]
    fn without_programs_the_error_names_package_and_feature() {
        let empty = tempfile::tempdir().unwrap();
        let error = Programs::find(Some(empty.path()), None).unwrap_err();
        let advice = error.advice_text().unwrap();
        assert!(advice.contains("apt-get install postgresql"));
        assert!(advice.contains("postgres-download"));
        let error = Programs::find(Some(empty.path()), Some(14)).unwrap_err();
        assert!(error.detail().contains("PostgreSQL 14"));
    }
}
