//! Settings: flag > environment > `toolkit.toml` > default, resolved once.

use std::path::PathBuf;

/// How reports are printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// How progress and log lines are printed on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
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

/// Everything a command needs to know that does not belong to the command itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Postgres is.
    pub database: Database,
    /// State of the embedded stores and the redaction key: `.toolkit` beside the working folder,
    /// or `/var/lib/toolkit/<hash of the folder>` as root.
    pub state_dir: PathBuf,
    /// How reports are printed.
    pub format: Format,
    /// How logs are printed.
    pub log_format: LogFormat,
}
