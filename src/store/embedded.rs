//! The private cluster: a PostgreSQL server of this toolkit's own, under its state folder.
//!
//! It is made on first use, starts on demand and stops when its last user is gone, unless
//! `toolkit embedded start` asked it to stay. It listens on a Unix socket in a folder only the
//! server's user (and root) can enter; every user needs the generated password besides.
//!
//! Any number of commands may use it at once. Starting and stopping happen under an exclusive
//! file lock; each user holds a shared lock, its [`Lease`], which the system takes back however
//! the user ends. So kill -9 of a user leaves at most a running server, which the next one finds
//! and uses; kill -9 of the server is repaired by the next start.

mod layout;
mod process;
mod programs;
mod server;

#[cfg(feature = "postgres-download")]
mod download;

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};

use self::layout::{Keep, Layout};
use self::process::PidFile;
pub(crate) use self::programs::ClientPrograms;
pub use self::programs::Programs;
use self::server::Server;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};

/// Superuser of the private cluster.
pub const USER: &str = "toolkit";

/// The one database commands use in it.
pub const DATABASE: &str = "toolkit";

/// The private cluster of a state folder, whether it exists yet or not.
#[derive(Debug, Clone)]
pub struct Embedded {
    state_dir: PathBuf,
    bin_dir: Option<PathBuf>,
}

/// What [`Embedded::status`] knows.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Whether the server runs.
    pub running: bool,
    /// Whether it stays up without users.
    pub kept: bool,
    /// Whether commands use it right now.
    pub in_use: bool,
    /// The server's process.
    pub pid: Option<i32>,
    /// TCP port on 127.0.0.1, if it listens on one.
    pub listen_port: Option<u16>,
    /// The data folder.
    pub data_folder: PathBuf,
    /// The socket's folder.
    pub socket_folder: PathBuf,
    /// What the server says.
    pub log_file: PathBuf,
}

/// What [`Embedded::stop`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// It stopped.
    Stopped,
    /// It was not running.
    WasNotRunning,
    /// It is in use, and stops with the last command that uses it.
    WhenUnused,
}

impl Embedded {
    /// The cluster under the settings' state folder; touches nothing.
    pub fn new(settings: &Settings) -> Self {
        Self { state_dir: settings.state_dir.clone(), bin_dir: settings.postgres_bin_dir.clone() }
    }

    /// Makes and starts the cluster as needed, and holds it up.
    pub async fn acquire(&self) -> Result<Lease> {
        let this = self.clone();
        blocking(move || this.acquire_now(None)).await
    }

    /// Starts the cluster and keeps it up until [`Embedded::stop`], with a TCP port on
    /// 127.0.0.1 where one is given.
    pub async fn start(&self, listen_port: Option<u16>) -> Result<Status> {
        let this = self.clone();
        blocking(move || {
            let lease = this.acquire_now(Some(Keep { port: listen_port }))?;
            lease.end()?;
            this.status_now()
        })
        .await
    }

    /// Ends what [`Embedded::start`] began. A server in use stops with its last user, or at
    /// once, breaking their connections, with `now`.
    pub async fn stop(&self, now: bool) -> Result<Stopped> {
        let this = self.clone();
        blocking(move || this.stop_now(now)).await
    }

    /// How the cluster is; changes nothing.
    pub async fn status(&self) -> Result<Status> {
        let this = self.clone();
        blocking(move || this.status_now()).await
    }

    /// `keep`: set to stay up afterwards.
    fn acquire_now(&self, keep: Option<Keep>) -> Result<Lease> {
        let layout = Layout::create(&self.state_dir)?;
        let _lock = layout.lock()?;
        let file = layout.lease()?;
        file.lock_shared()?;
        let server = Server::new(&layout, self.bin_dir.as_deref())?;
        server.ensure_made()?;
        let port = keep.or(layout.keep()?).and_then(|keep| keep.port);
        let running = server.ensure_running(port, &file)?;
        if keep.is_some() {
            layout.set_keep(Keep { port: running.listens.then_some(running.port) })?;
        }
        let password = Secret(layout.password()?);
        Ok(Lease {
            layout,
            bin_dir: self.bin_dir.clone(),
            port: running.port,
            password,
            file: Some(file),
        })
    }

    fn stop_now(&self, now: bool) -> Result<Stopped> {
        let Some(layout) = Layout::existing(&self.state_dir)? else {
            return Ok(Stopped::WasNotRunning);
        };
        let _lock = layout.lock()?;
        layout.clear_keep()?;
        if Server::running(&layout)?.is_none() {
            return Ok(Stopped::WasNotRunning);
        }
        let lease = layout.lease()?;
        if !now && lease.try_lock().is_err() {
            return Ok(Stopped::WhenUnused);
        }
        Server::new(&layout, self.bin_dir.as_deref())?.stop()?;
        Ok(Stopped::Stopped)
    }

    fn status_now(&self) -> Result<Status> {
        let Some(layout) = Layout::existing(&self.state_dir)? else {
            let root = self.state_dir.join("postgres");
            return Ok(Status {
                running: false,
                kept: false,
                in_use: false,
                pid: None,
                listen_port: None,
                data_folder: root.join("data"),
                socket_folder: PathBuf::new(),
                log_file: root.join("log"),
            });
        };
        let running = Server::running(&layout)?;
        // Looking at the lease disturbs who takes or gives it back, unless the lock is held.
        let in_use = match layout.try_lock()? {
            Some(_lock) => layout.lease()?.try_lock().is_err(),
            None => true,
        };
        Ok(Status {
            running: running.is_some(),
            kept: layout.keep()?.is_some(),
            in_use,
            pid: running.as_ref().map(|file| file.pid),
            listen_port: running.as_ref().filter(|f| f.listens).map(|file: &PidFile| file.port),
            log_file: layout.log_file(),
            data_folder: layout.data,
            socket_folder: layout.socket_dir,
        })
    }
}

/// The right to use the running private cluster. While any lease lives, no other command stops
/// the server; the last one stops it, unless it is kept.
#[derive(Debug)]
pub struct Lease {
    layout: Layout,
    bin_dir: Option<PathBuf>,
    port: u16,
    password: Secret,
    /// None once it was given back.
    file: Option<File>,
}

impl Lease {
    /// How to connect to the toolkit's database.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.layout.socket_dir)
            .port(self.port)
            .username(USER)
            .password(&self.password.0)
            .database(DATABASE)
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging()
    }

    /// The cluster's folder.
    pub fn folder(&self) -> &Path {
        &self.layout.root
    }

    /// libpq's environment, for `psql` and other clients.
    pub fn client_environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", self.layout.socket_dir.display().to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", USER.to_owned()),
            ("PGPASSWORD", self.password.0.clone()),
            ("PGDATABASE", DATABASE.to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
        ]
    }

    /// Fails unless the server behind `connection` serves this very data folder.
    pub async fn verify(&self, connection: &mut PgConnection) -> Result<()> {
        let folder: String =
            sqlx::query_scalar("SELECT pg_catalog.current_setting('data_directory')")
                .fetch_one(connection)
                .await?;
        if Path::new(&folder) == self.layout.data {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StoreDenied,
            format!(
                "the server at {} serves {folder}, not {}",
                self.layout.socket_dir.display(),
                self.layout.data.display()
            ),
        )
        .advice("stop that server, then run the same command again"))
    }

    /// Gives the lease back, and reports where stopping the server fails.
    pub async fn release(self) -> Result<()> {
        blocking(move || self.end()).await
    }

    fn end(mut self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let _lock = self.layout.lock()?;
        file.unlock()?;
        // Whoever else holds it, or the mark of `embedded start`, keeps the server up.
        if file.try_lock().is_err() || self.layout.keep()?.is_some() {
            return Ok(());
        }
        Server::new(&self.layout, self.bin_dir.as_deref())?.stop()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            tracing::warn!(%error, "the private PostgreSQL server was not stopped");
        }
    }
}

/// Text that `Debug` does not show.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(ErrorKind::Bug, "managing the private cluster panicked").because(e)
    })?
}
