//! The one way to a Postgres server: checked, pinned sessions, errors with advice.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::embedded::{Embedded, Lease};
use super::redact_url;
use super::url::percent_decoded;
use crate::config::{Database, Settings};
use crate::error::{Error, ErrorKind, Result};

/// Oldest server version taken, as in `server_version_num`: 13.0.
pub const VERSION_NUM_MIN: i32 = 130_000;

/// A Postgres server that was reached and found fit.
///
/// Every session, pooled or dedicated, is pinned: UTC, UTF8, ISO dates, exact floats,
/// `search_path` `public, pg_temp` (so `pg_catalog` comes first and nothing in the database can
/// shadow it; SQL of this crate names schemas anyway), and `row_security` off, which turns
/// silently hidden rows into an error.
///
/// While it lives, the private cluster, if that is what it is, stays up. [`Postgres::close`]
/// reports what goes wrong at the end; dropping does the same work silently.
pub struct Postgres {
    pool: PgPool,
    connector: Connector,
    version_num: i32,
    description: String,
    // After the pool: the server stops when its users are gone.
    lease: Option<Lease>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold the password.
        f.debug_tuple("Postgres").field(&self.description).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Reaches the server the settings name, starting the private cluster where they name none.
    ///
    /// Fails with [`ErrorKind::StoreUnreachable`] where nothing answers within
    /// `connect_timeout_ms`, [`ErrorKind::StoreDenied`] for refused credentials,
    /// [`ErrorKind::Config`] for an unusable URL, a server below version 13 or a database whose
    /// encoding is not UTF8.
    pub async fn connect(settings: &Settings) -> Result<Self> {
        match &settings.database {
            Database::Url(url) => Self::open(settings, options_of_url(url)?, None).await,
            Database::Embedded => {
                let lease = Embedded::new(settings).acquire().await?;
                let options = lease.connect_options();
                Self::open(settings, options, Some(lease)).await
            }
        }
    }

    /// The same server and role in another database. Where the server is the private cluster, it
    /// stays up only as long as `self` does.
    pub(crate) async fn in_database(&self, settings: &Settings, name: &str) -> Result<Self> {
        Self::open(settings, self.connector.options.clone().database(name), None).await
    }

    async fn open(
        settings: &Settings,
        options: PgConnectOptions,
        lease: Option<Lease>,
    ) -> Result<Self> {
        // Slow-statement logging would put SQL, and with it names from sources, into logs.
        let options = options.application_name("toolkit").disable_statement_logging();
        let session = Session::of(settings);
        let connect_timeout = Duration::from_millis(settings.connect_timeout_ms.into());
        let description = describe(&options, lease.is_some());

        let mut first = connect_once(&options, connect_timeout).await?;
        session.pin(&mut first).await?;
        let version_num = check_server(&mut first, &description).await?;
        if let Some(lease) = &lease {
            lease.verify(&mut first).await?;
        }
        first.close().await?;

        let pool = PgPoolOptions::new()
            .max_connections(settings.connections_max)
            .acquire_timeout(Duration::from_mins(1))
            .after_connect(move |connection, _| Box::pin(session.pin(connection)))
            .connect_lazy_with(options.clone());
        let connector = Connector { options, session, connect_timeout };
        Ok(Self { pool, connector, version_num, description, lease })
    }

    /// The pool; its sessions are pinned.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// `server_version_num`, 150004 for 15.4.
    pub fn server_version_num(&self) -> i32 {
        self.version_num
    }

    /// User, place and database, without the password.
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// The private cluster's folder, if that is what this is.
    pub fn embedded_folder(&self) -> Option<&Path> {
        self.lease.as_ref().map(Lease::folder)
    }

    /// Whether the server is on this host: the private cluster, a socket or a loopback address.
    pub fn is_local(&self) -> bool {
        let host = self.connector.options.get_host();
        let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.lease.is_some()
            || self.connector.options.get_socket().is_some()
            || host.starts_with('/')
            || host.eq_ignore_ascii_case("localhost")
            || is_loopback
    }

    /// The database's name.
    pub(crate) fn database(&self) -> &str {
        let options = &self.connector.options;
        options.get_database().unwrap_or(options.get_username())
    }

    /// libpq's environment for this server, role and database: for `pg_dump` and its like, which
    /// should see no password on their command line.
    pub(crate) fn client_environment(&self) -> Vec<(&'static str, String)> {
        let options = &self.connector.options;
        let host = options.get_socket().map_or_else(
            || options.get_host().trim_matches(['[', ']']).to_owned(),
            |socket| socket.display().to_string(),
        );
        let mut environment = vec![
            ("PGHOST", host),
            ("PGPORT", options.get_port().to_string()),
            ("PGUSER", options.get_username().to_owned()),
            ("PGDATABASE", self.database().to_owned()),
        ];
        // Only the URL tells the rest; names that would have to be escaped are kept out of it.
        let url = options.clone().username("u").database("d").host("h").to_url_lossy();
        if let Some(password) = url.password() {
            environment.push(("PGPASSWORD", percent_decoded(password)));
        }
        for (name, value) in url.query_pairs() {
            let variable = match &*name {
                "sslmode" => "PGSSLMODE",
                "sslrootcert" => "PGSSLROOTCERT",
                "sslcert" => "PGSSLCERT",
                "sslkey" => "PGSSLKEY",
                _ => continue,
            };
            environment.push((variable, value.into_owned()));
        }
        environment
    }

    /// A pinned connection outside the pool, for session-level locks, COPY and replication-like
    /// long reads that must not starve the pool.
    pub async fn dedicated(&self) -> Result<PgConnection> {
        self.connector.dedicated().await
    }

    /// What makes dedicated connections, for tasks of their own. It keeps no server up.
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Closes the pool and gives the private cluster back, which stops if nobody else uses it.
    pub async fn close(self) -> Result<()> {
        self.pool.close().await;
        match self.lease {
            Some(lease) => lease.release().await,
            None => Ok(()),
        }
    }
}

/// Makes pinned connections to a server that was found fit.
#[derive(Clone)]
pub struct Connector {
    options: PgConnectOptions,
    session: Session,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold the password.
        f.debug_struct("Connector").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Connector {
    /// As [`Postgres::dedicated`].
    pub async fn dedicated(&self) -> Result<PgConnection> {
        let mut connection = connect_once(&self.options, self.connect_timeout).await?;
        self.session.pin(&mut connection).await?;
        Ok(connection)
    }

    /// A connection that hears what is notified on `channel`.
    pub async fn listen(&self, channel: &str) -> Result<PgListener> {
        let session = self.session;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.connect_timeout)
            .after_connect(move |connection, _| Box::pin(session.pin(connection)))
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(channel).await?;
        Ok(listener)
    }
}

/// What every session is set to.
#[derive(Debug, Clone, Copy)]
struct Session {
    statement_timeout_ms: u32,
    lock_timeout_ms: u32,
}

impl Session {
    fn of(settings: &Settings) -> Self {
        Self {
            statement_timeout_ms: settings.statement_timeout_ms,
            lock_timeout_ms: settings.lock_timeout_ms,
        }
    }

    /// By statement, not by start-up parameters: those are overruled by nothing but refused by
    /// connection poolers, and a database's or role's own settings would win over defaults.
    async fn pin(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        // Alone and first: a short limit of the role could end what follows.
        sqlx::raw_sql("SET statement_timeout = 0").execute(&mut *connection).await?;
        sqlx::query(include_str!("pin_session.sql"))
            .bind(self.statement_timeout_ms.to_string())
            .bind(self.lock_timeout_ms.to_string())
            .execute(connection)
            .await?;
        Ok(())
    }
}

fn options_of_url(url: &str) -> Result<PgConnectOptions> {
    let shown = redact_url(url);
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::new(ErrorKind::Config, format!("{shown} is not a PostgreSQL URL"))
            .advice("write postgres://user:password@host:port/database"));
    }
    PgConnectOptions::from_str(url).map_err(|e| {
        Error::new(ErrorKind::Config, format!("the database URL {shown} cannot be read"))
            .because(e)
            .advice("write special characters of user and password as %XX ('@' is %40, '/' is %2F)")
    })
}

/// `user@host:port/database`.
fn describe(options: &PgConnectOptions, embedded: bool) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let place = place(options);
    let kind = if embedded { "private cluster " } else { "" };
    format!("{kind}{user}@{place}/{database}")
}

fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// How long a server that starts, or has no connection left, is left alone between two tries.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// Connects within `timeout`. A server that answers that it is starting, recovering or full is
/// asked again until then.
async fn connect_once(options: &PgConnectOptions, timeout: Duration) -> Result<PgConnection> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(e)) if is_passing(&e) && start.elapsed() + RECONNECT_PAUSE < timeout => {
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            Ok(Err(e)) => return Err(explain(options, e)),
            Err(_) => {
                return Err(unreachable(options, &format!(" within {} ms", timeout.as_millis())));
            }
        }
    }
}

/// Whether the server itself says that it will take connections later.
fn is_passing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("57P03" | "53300"))
}

fn unreachable(options: &PgConnectOptions, limit: &str) -> Error {
    let host = options.get_socket().map_or(options.get_host().into(), |s| s.display().to_string());
    Error::new(
        ErrorKind::StoreUnreachable,
        format!("no PostgreSQL server answers at {}{limit}", place(options)),
    )
    .advice(format!(
        "check host and port of the database URL, and the server with `pg_isready -h {host} -p \
         {}`; without a URL a private cluster is used",
        options.get_port()
    ))
}

/// Turns a failed connection into what the operator can act on.
fn explain(options: &PgConnectOptions, error: sqlx::Error) -> Error {
    let place = place(options);
    let user = options.get_username();
    let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
    let mapped = match (&error, code.as_deref()) {
        (_, Some("28P01" | "28000")) => Error::new(
            ErrorKind::StoreDenied,
            format!("PostgreSQL at {place} does not let user {user:?} in"),
        )
        .advice("check user and password of the database URL, and the server's pg_hba.conf"),
        (_, Some("3D000")) => {
            let database = options.get_database().unwrap_or(user);
            Error::new(
                ErrorKind::Config,
                format!("database {database:?} does not exist at {place}"),
            )
            .advice(format!(
                "create it with `createdb -h {} -p {} -U {user} {database}`, or name another one",
                options.get_socket().map_or(options.get_host().into(), |s| s.display().to_string()),
                options.get_port(),
            ))
        }
        (sqlx::Error::Io(_), _) => unreachable(options, ""),
        (sqlx::Error::Tls(_), _) => {
            Error::new(ErrorKind::Config, format!("no TLS connection to {place}")).advice(
                "sslmode=require in the URL insists on TLS, verify-full with sslrootcert=FILE \
                 on a known certificate, disable does without",
            )
        }
        // SASL authentication without a password fails in the driver.
        (sqlx::Error::Configuration(_) | sqlx::Error::Protocol(_), _) => Error::new(
            ErrorKind::StoreDenied,
            format!("no session with PostgreSQL at {place} as user {user:?}"),
        )
        .advice("check user and password of the database URL"),
        _ => return Error::from(error).context(place),
    };
    mapped.because(error)
}

/// Refuses servers on which promises of this crate would not hold; returns the version.
async fn check_server(connection: &mut PgConnection, description: &str) -> Result<i32> {
    let (version, shown, encoding): (i32, String, String) = sqlx::query_as(
        "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, \
                pg_catalog.current_setting('server_version'), \
                pg_catalog.current_setting('server_encoding')",
    )
    .fetch_one(connection)
    .await?;
    if version < VERSION_NUM_MIN {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{description} is PostgreSQL {shown}; version 13 is the oldest supported"),
        )
        .advice("upgrade the server, or use another one"));
    }
    if encoding != "UTF8" {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{description} stores text as {encoding}, which cannot hold every source text"),
        )
        .advice("create a database with `createdb --encoding=UTF8 --template=template0`"));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_description_nor_debug_shows_the_password() {
        let options = options_of_url("postgres://ada:hunter2@db:5433/app").unwrap();
        assert_eq!(describe(&options, false), "ada@db:5433/app");
        let session = Session { statement_timeout_ms: 0, lock_timeout_ms: 0 };
        assert!(!format!("{session:?}").contains("hunter2"));
    }

    #[test]
    fn text_that_is_no_postgres_url_is_refused_without_showing_a_password() {
        for url in ["mysql://u:hunter2@h/d", "host=h password=hunter2", "postgres://u:hunter2@h:x/"]
        {
            let error = options_of_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
}
