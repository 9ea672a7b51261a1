//! Settings: flag > environment > `toolkit.toml` > default, resolved once.
//!
//! | setting | flag | environment | `toolkit.toml` | default |
//! |---|---|---|---|---|
//! | where Postgres is | `--database-url` | `DATABASE_URL` | `database_url` | `embedded` |
//! | settings file | `--config` | `TOOLKIT_CONFIG` | | `toolkit.toml` here, if there is one |
//! | state folder | `--state-dir` | `TOOLKIT_STATE_DIR` | `state_dir` | see [`default_state_dir`] |
//! | reports | `--format` | `TOOLKIT_FORMAT` | `format` | `table` |
//! | logs | `--log-format` | `TOOLKIT_LOG_FORMAT` | `log_format` | `text` |
//! | longest statement | | `TOOLKIT_STATEMENT_TIMEOUT_MS` | `statement_timeout_ms` | 0: no limit |
//! | longest wait for a lock | | `TOOLKIT_LOCK_TIMEOUT_MS` | `lock_timeout_ms` | 30000 |
//! | longest wait for a server | | `TOOLKIT_CONNECT_TIMEOUT_MS` | `connect_timeout_ms` | 10000 |
//! | pooled connections | | `TOOLKIT_CONNECTIONS_MAX` | `connections_max` | 8 |
//! | server programs | | `TOOLKIT_POSTGRES_BIN_DIR` | `postgres_bin_dir` | searched |
//!
//! Those of the vector store and of embeddings: see [`Qdrant`] and [`Embedding`].
//!
//! An empty environment variable counts as not set. Relative paths in `toolkit.toml` start at
//! that file's folder, all others at the working folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

mod qdrant;

pub use qdrant::{Embedding, Qdrant, QdrantServer, VectorSetting};
use qdrant::{EmbeddingFile, QdrantFile};

/// Name of the settings file looked for in the working folder.
pub const FILE_NAME: &str = "toolkit.toml";

/// How reports are printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// How progress and log lines are printed on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain lines; a progress bar on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where Postgres is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A server by URL. Printed only through [`crate::store::redact_url`].
    Url(String),
    /// The private cluster under the state folder.
    Embedded,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(***)"),
            Self::Embedded => f.write_str("Embedded"),
        }
    }
}

impl Database {
    /// `embedded` asks for the private cluster by name, over a URL from a weaker origin.
    fn parse(text: String) -> Self {
        if text == "embedded" { Self::Embedded } else { Self::Url(text) }
    }
}

/// Everything a command needs to know that does not belong to the command itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Postgres is.
    pub database: Database,
    /// State of the embedded stores and the redaction key: `.toolkit` beside the working folder,
    /// or `/var/lib/toolkit/<hash of the folder>` as root. Absolute.
    pub state_dir: PathBuf,
    /// How reports are printed.
    pub format: Format,
    /// How logs are printed.
    pub log_format: LogFormat,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Longest a statement may run, in milliseconds; 0 is no limit.
    pub statement_timeout_ms: u32,
    /// Longest a statement may wait for a lock, in milliseconds; 0 is no limit.
    pub lock_timeout_ms: u32,
    /// Longest to wait until a server answers, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Most connections the pool opens.
    pub connections_max: u32,
    /// Folder of `postgres`, `initdb` and `pg_ctl` for the private cluster; searched if none.
    pub postgres_bin_dir: Option<PathBuf>,
    /// The vector store, its collection and how it is written.
    pub qdrant: Qdrant,
    /// Where embeddings come from.
    pub embedding: Embedding,
}

impl Settings {
    /// Settings with every default but the store and the state folder.
    pub fn new(database: Database, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            database,
            state_dir: state_dir.into(),
            format: Format::default(),
            log_format: LogFormat::default(),
            verbosity: 0,
            statement_timeout_ms: 0,
            lock_timeout_ms: 30_000,
            connect_timeout_ms: 10_000,
            connections_max: 8,
            postgres_bin_dir: None,
            qdrant: Qdrant::default(),
            embedding: Embedding::default(),
        }
    }

    /// Resolves flags, environment, file and defaults, in that order of strength.
    pub fn resolve(flags: &Flags, surroundings: &Surroundings) -> Result<Self> {
        let env = |name| surroundings.variable(name);
        let file = File::find(flags, surroundings)?;
        let from_cwd = |path: PathBuf| surroundings.folder.join(path);

        let url = flags.database_url.clone().or(env("DATABASE_URL")?).or(file.database_url);
        let state_dir = flags
            .state_dir
            .clone()
            .or(env("TOOLKIT_STATE_DIR")?.map(PathBuf::from))
            .or(file.state_dir)
            .map_or_else(|| default_state_dir(surroundings), |path| Ok(from_cwd(path)))?;
        let database = url.map_or(Database::Embedded, Database::parse);

        let mut settings = Self::new(database, state_dir);
        settings.format =
            first([flags.format, chosen(surroundings, "TOOLKIT_FORMAT")?, file.format]);
        settings.log_format =
            first([flags.log_format, chosen(surroundings, "TOOLKIT_LOG_FORMAT")?, file.log_format]);
        settings.verbosity = flags.verbose;
        settings.postgres_bin_dir = env("TOOLKIT_POSTGRES_BIN_DIR")?
            .map(PathBuf::from)
            .or(file.postgres_bin_dir)
            .map(from_cwd);
        settings.qdrant = Qdrant::resolve(
            flags.qdrant_url.clone().or(env("QDRANT_URL")?).or(file.qdrant_url),
            env("QDRANT_API_KEY")?.or(file.qdrant_api_key),
            file.qdrant,
        )?;
        settings.embedding = Embedding::resolve(
            env("TOOLKIT_EMBEDDING_URL")?,
            env("TOOLKIT_EMBEDDING_MODEL")?,
            env("TOOLKIT_EMBEDDING_API_KEY")?,
            file.embedding,
        )?;
        for (slot, name, in_file) in [
            (
                &mut settings.statement_timeout_ms,
                "TOOLKIT_STATEMENT_TIMEOUT_MS",
                file.statement_timeout_ms,
            ),
            (&mut settings.lock_timeout_ms, "TOOLKIT_LOCK_TIMEOUT_MS", file.lock_timeout_ms),
            (
                &mut settings.connect_timeout_ms,
                "TOOLKIT_CONNECT_TIMEOUT_MS",
                file.connect_timeout_ms,
            ),
            (&mut settings.connections_max, "TOOLKIT_CONNECTIONS_MAX", file.connections_max),
        ] {
            if let Some(value) = number(surroundings, name)?.or(in_file) {
                *slot = value;
            }
        }
        settings.check()
    }

    /// Refuses numbers that no server or pool accepts.
    fn check(self) -> Result<Self> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Config, text));
        if self.connections_max == 0 || self.connections_max > 1_000 {
            return refuse(format!(
                "connections_max is {}; it must be 1 to 1000",
                self.connections_max
            ));
        }
        if self.connect_timeout_ms == 0 {
            return refuse("connect_timeout_ms is 0; no server answers in no time".into());
        }
        // Postgres keeps its timeouts in a signed 32-bit integer.
        for (name, value) in [
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("lock_timeout_ms", self.lock_timeout_ms),
        ] {
            if i32::try_from(value).is_err() {
                return refuse(format!("{name} is {value}; PostgreSQL takes at most {}", i32::MAX));
            }
        }
        Ok(self)
    }
}

/// Options that every command takes, as given.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// PostgreSQL server, or `embedded` for the private cluster
    ///
    /// postgres://user:password@host:port/database, with ?sslmode=require and the like, or
    /// ?host=/folder for a Unix socket. Arguments show in the process list: prefer the
    /// environment or toolkit.toml for passwords. [environment: `DATABASE_URL`; default: embedded]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub database_url: Option<String>,

    /// Qdrant server, or `embedded` for the engine in this process
    ///
    /// `http://host:6334` or `https://...`, the gRPC port. The key comes from `QDRANT_API_KEY` or
    /// toolkit.toml. [environment: `QDRANT_URL`; default: embedded]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub qdrant_url: Option<String>,

    /// Settings file [environment: `TOOLKIT_CONFIG`; default: toolkit.toml here, if present]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,

    /// Folder of the private cluster's state
    ///
    /// [environment: `TOOLKIT_STATE_DIR`; default: .toolkit here; as root
    /// /var/lib/toolkit/<hash of this folder>]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Global options")]
    pub state_dir: Option<PathBuf>,

    /// How reports are printed on standard output [environment: `TOOLKIT_FORMAT`]
    #[arg(long, global = true, value_enum, help_heading = "Global options")]
    pub format: Option<Format>,

    /// How logs, progress and errors are printed on standard error
    /// [environment: `TOOLKIT_LOG_FORMAT`]
    #[arg(long, global = true, value_enum, help_heading = "Global options")]
    pub log_format: Option<LogFormat>,

    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count,
          help_heading = "Global options")]
    pub verbose: u8,
}

/// Looks a variable up.
type Variables = Box<dyn Fn(&str) -> Option<OsString>>;

/// What the process was started in; passed in so that resolution is a pure function of it.
pub struct Surroundings {
    /// The working folder.
    pub folder: PathBuf,
    /// Whether the effective user is root.
    pub root: bool,
    variables: Variables,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Result<Self> {
        let folder = std::env::current_dir().map_err(|e| {
            Error::new(ErrorKind::Io, "the working folder cannot be read").because(e)
        })?;
        Ok(Self::new(folder, nix::unistd::Uid::effective().is_root(), |name| {
            std::env::var_os(name)
        }))
    }

    /// Made-up surroundings.
    pub fn new(
        folder: PathBuf,
        root: bool,
        variables: impl Fn(&str) -> Option<OsString> + 'static,
    ) -> Self {
        Self { folder, root, variables: Box::new(variables) }
    }

    fn variable(&self, name: &str) -> Result<Option<String>> {
        let Some(value) = (self.variables)(name).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        value.into_string().map(Some).map_err(|_| {
            Error::new(ErrorKind::Config, format!("environment variable {name} is not UTF-8"))
        })
    }
}

/// `.toolkit` in the working folder; as root `/var/lib/toolkit/<16 hex digits>`, the start of the
/// SHA-256 of the working folder's canonical path: the server runs as an unprivileged user there
/// and cannot reach into root's home.
pub fn default_state_dir(surroundings: &Surroundings) -> Result<PathBuf> {
    if !surroundings.root {
        return Ok(surroundings.folder.join(".toolkit"));
    }
    let folder = fs::canonicalize(&surroundings.folder).map_err(|e| {
        Error::new(ErrorKind::Io, format!("folder {}", surroundings.folder.display())).because(e)
    })?;
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    Ok(Path::new("/var/lib/toolkit").join(hex::encode(&digest[..8])))
}

/// `toolkit.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database_url: Option<String>,
    state_dir: Option<PathBuf>,
    format: Option<Format>,
    log_format: Option<LogFormat>,
    statement_timeout_ms: Option<u32>,
    lock_timeout_ms: Option<u32>,
    connect_timeout_ms: Option<u32>,
    connections_max: Option<u32>,
    postgres_bin_dir: Option<PathBuf>,
    qdrant_url: Option<String>,
    qdrant_api_key: Option<String>,
    #[serde(default)]
    qdrant: QdrantFile,
    #[serde(default)]
    embedding: EmbeddingFile,
}

impl File {
    /// The named file, which must be there, or the working folder's, which need not.
    fn find(flags: &Flags, surroundings: &Surroundings) -> Result<Self> {
        let named =
            flags.config.clone().or(surroundings.variable("TOOLKIT_CONFIG")?.map(PathBuf::from));
        let path = surroundings.folder.join(named.as_deref().unwrap_or(Path::new(FILE_NAME)));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(e) => {
                let detail = format!("settings file {} cannot be read", path.display());
                return Err(Error::new(ErrorKind::Config, detail).because(e));
            }
        };
        let mut file = Self::parse(&path, &text)?;
        let beside = path.parent().unwrap_or(Path::new("/"));
        for path in [&mut file.state_dir, &mut file.postgres_bin_dir].into_iter().flatten() {
            *path = beside.join(&*path);
        }
        Ok(file)
    }

    /// toml's own error would show the line at fault, and a password with it: only place and
    /// message are taken over.
    fn parse(path: &Path, text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let start = e.span().map_or(0, |span| span.start.min(text.len()));
            let (line, column) = place(text, start);
            let message = e.message().trim_end();
            Error::new(
                ErrorKind::Config,
                format!("{}, line {line}, column {column}: {message}", path.display()),
            )
        })
    }
}

/// Line and column (in characters) of a byte offset, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    (line, 1 + String::from_utf8_lossy(&before[line_start..]).chars().count())
}

fn first<T: Default>(choices: [Option<T>; 3]) -> T {
    choices.into_iter().flatten().next().unwrap_or_default()
}

fn chosen<T: ValueEnum>(surroundings: &Surroundings, name: &str) -> Result<Option<T>> {
    let Some(text) = surroundings.variable(name)? else { return Ok(None) };
    T::from_str(&text, true).map(Some).map_err(|_| {
        let known: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|v| v.to_possible_value().map(|v| v.get_name().to_owned()))
            .collect();
        Error::new(
            ErrorKind::Config,
            format!("environment variable {name} is {text:?}; known are {}", known.join(", ")),
        )
    })
}

fn number(surroundings: &Surroundings, name: &str) -> Result<Option<u32>> {
    let Some(text) = surroundings.variable(name)? else { return Ok(None) };
    u32::from_str(&text).map(Some).map_err(|e| {
        Error::new(
            ErrorKind::Config,
            format!("environment variable {name} is {text:?}, which is not a whole number"),
        )
        .because(e)
    })
}

#[cfg(test)]
mod tests;
