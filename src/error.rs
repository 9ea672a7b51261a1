//! One error type: what kind of failure, in which detail, and what to do about it.

use std::fmt;

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is. The kind alone decides whether a retry makes sense and how the
/// process exits; text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line or an argument's value is wrong.
    Usage,
    /// `toolkit.toml` or an environment variable is wrong.
    Config,
    /// `pack.toml` is wrong, or does not fit the database or the sources.
    Pack,
    /// A source file or folder is not there, or there is nothing of the pack in it.
    SourceMissing,
    /// A source is there but cannot be read: permission, corruption, encryption, not SQLite.
    SourceUnreadable,
    /// A source changed while it had to stay still, or is not the one the run started with.
    SourceChanged,
    /// The store did not answer: refused, timed out, connection lost, shutting down.
    StoreUnreachable,
    /// The store answered and refused the credentials or the privilege.
    StoreDenied,
    /// The store refused a statement.
    StoreFailed,
    /// Two transactions stood in each other's way (deadlock, serialization); a retry is right.
    StoreConflict,
    /// The store has no room left (disk, connections, memory).
    StoreExhausted,
    /// A query with a deadline did not finish in time.
    TimedOut,
    /// Migrations diverge, are missing, or failed.
    Migration,
    /// Another command holds what this one needs.
    Busy,
    /// Inputs or settings are not those the run started with.
    RunMismatch,
    /// A person asked to stop (Ctrl-C, `run stop`).
    Interrupted,
    /// Reading or writing a local file failed.
    Io,
    /// A promise of this program does not hold; always worth a bug report.
    Bug,
}

impl ErrorKind {
    /// Whether trying again, unchanged, can succeed.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::StoreUnreachable | Self::StoreConflict | Self::Busy)
    }
}

/// A failure with its kind, a sentence that names the thing at fault, advice, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    detail: String,
    advice: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `kind`; `detail` names file, table, key or column.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), advice: None, source: None }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Prefixes the detail with where it happened.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence without cause and advice.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What to do, if known.
    #[must_use]
    pub fn advice_text(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let kind = kind_of_sqlx(&error);
        let detail = match &error {
            sqlx::Error::Database(db) => format!(
                "PostgreSQL refused a statement: {}{}",
                db.message(),
                db.code().map(|c| format!(" (SQLSTATE {c})")).unwrap_or_default()
            ),
            other => format!("PostgreSQL: {other}"),
        };
        let mut this = Self::new(kind, detail);
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        this.advice = match code.as_deref() {
            Some(code) => advice_for_sqlstate(code),
            None if kind == ErrorKind::StoreUnreachable => Some(ADVICE_AWAY),
            None => None,
        }
        .map(str::to_owned);
        this.because(error)
    }
}

/// What to do when the server went away or is about to come back.
const ADVICE_AWAY: &str = "the server is being stopped, started or repaired, or the connection \
    broke: wait for it, then run the same command again; what was committed is kept";

/// What to do where the server's condition, not the statement, is the reason.
fn advice_for_sqlstate(code: &str) -> Option<&'static str> {
    Some(match code {
        "53100" => {
            "the server has no room left on the disk of the file it names (`SHOW data_directory` \
             and `\\db` in psql say which that is): free some, then run the same command again; \
             what was committed is kept"
        }
        "53200" => "the server is out of memory: give it more, or end what else uses it",
        "53300" | "53400" => {
            "the server has no connection left: end other clients, raise its max_connections or \
             the role's CONNECTION LIMIT, or lower connections_max"
        }
        "25006" => {
            "it is a standby, or default_transaction_read_only is on for this server, database or \
             role: name the primary, or switch that off"
        }
        "57014" => "statement_timeout_ms of the settings limits statements; 0 is no limit",
        "55P03" => {
            "another session holds a lock on it (see pg_locks): wait for that, or raise \
             lock_timeout_ms"
        }
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => ADVICE_AWAY,
        "42P01" | "42703" | "3F000" => {
            "what the toolkit or the pack made in this database is not whole: `toolkit migrate \
             status` says what was applied; restore what was dropped from a backup"
        }
        "42501" => "grant it to the role of the database URL, or use the role that owns it",
        _ => return None,
    })
}

/// SQLSTATE classes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(crate) fn kind_of_sqlx(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(db) => match db.code().as_deref().unwrap_or("") {
            "40001" | "40P01" | "55P03" => ErrorKind::StoreConflict,
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => ErrorKind::StoreUnreachable,
            "28P01" | "28000" | "42501" => ErrorKind::StoreDenied,
            code if code.starts_with("08") => ErrorKind::StoreUnreachable,
            code if code.starts_with("53") => ErrorKind::StoreExhausted,
            _ => ErrorKind::StoreFailed,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => ErrorKind::StoreUnreachable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Config,
        _ => ErrorKind::StoreFailed,
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, error.to_string()).because(error)
    }
}
