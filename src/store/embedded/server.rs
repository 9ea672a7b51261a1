//! Making, starting and stopping the private cluster's server. Everything here blocks, and needs
//! [`Layout::lock`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::distr::Alphanumeric;

use super::layout::{Layout, io_error, is_alone, open_private, write_private};
use super::process::{self, PidFile};
use super::programs::Programs;
use super::{DATABASE, USER};
use crate::error::{Error, ErrorKind, Result};

/// Longest wait for a start or a stop: recovery after a crash replays up to `max_wal_size`.
const WAIT_MAX: Duration = Duration::from_mins(2);

/// The socket's number where no TCP port is asked for.
const SOCKET_PORT: u16 = 5432;

/// The log is started anew beyond this size.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Settings every cluster is made with. Server messages of level ERROR quote row values, which
/// must not reach a log: clients get them anyway.
const CONFIGURATION: &str = "
# toolkit
listen_addresses = ''
max_connections = 100
shared_buffers = 128MB
max_wal_size = 2GB
checkpoint_timeout = 15min
wal_compression = on
fsync = on
full_page_writes = on
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_statement = none
";

pub(super) struct Server<'a> {
    layout: &'a Layout,
    programs: Programs,
}

impl<'a> Server<'a> {
    /// Finds the programs: of the cluster's own version where there is one already.
    pub(super) fn new(layout: &'a Layout, folder: Option<&Path>) -> Result<Self> {
        let version_file = layout.data.join("PG_VERSION");
        let major = match fs::read_to_string(&version_file) {
            Ok(text) => text.trim().parse().ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(io_error("file", &version_file, e)),
        };
        Ok(Self { layout, programs: Programs::find(folder, major)? })
    }

    /// Makes the cluster and its database, unless they are there. The data folder gets its name
    /// last, so that a start killed in between is simply begun again.
    pub(super) fn ensure_made(&self) -> Result<()> {
        let layout = self.layout;
        if layout.data.exists() {
            return Ok(());
        }
        tracing::info!(folder = %layout.data.display(), "making a private PostgreSQL cluster");
        let staging = layout.root.join("data.new");
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|e| io_error("folder", &staging, e))?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&staging)
            .map_err(|e| io_error("folder", &staging, e))?;
        layout.give(&staging)?;
        layout.prepare_socket_dir()?;

        let password: String =
            rand::rng().sample_iter(&Alphanumeric).take(32).map(char::from).collect();
        write_private(&layout.password_file(), &password)?;
        // initdb takes a password from a file only, and the server's user must read it.
        let password_copy = layout.socket_dir.join("initial-password");
        let made = self
            .copy_password(&password_copy, &password)
            .and_then(|()| self.initdb(&staging, &password_copy));
        fs::remove_file(&password_copy).map_err(|e| io_error("file", &password_copy, e))?;
        made?;

        append(&staging.join("postgresql.conf"), CONFIGURATION)?;
        self.create_database(&staging)?;
        fs::rename(&staging, &layout.data).map_err(|e| io_error("folder", &staging, e))
    }

    fn copy_password(&self, path: &Path, password: &str) -> Result<()> {
        let _ = fs::remove_file(path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(password.as_bytes()))
            .map_err(|e| io_error("file", path, e))?;
        self.layout.give(path)
    }

    fn initdb(&self, data: &Path, password_file: &Path) -> Result<()> {
        let output = self.output(
            self.command("initdb")
                .arg("--pgdata")
                .arg(data)
                .arg("--pwfile")
                .arg(password_file)
                .args(["--username", USER, "--encoding", "UTF8", "--locale", "C"])
                .args(["--auth", "scram-sha-256", "--data-checksums"]),
        )?;
        refuse_failure("initdb", &output, output.status.success())
    }

    /// In single-user mode: the cluster needs no server to be completed.
    fn create_database(&self, data: &Path) -> Result<()> {
        let mut child = self
            .command("postgres")
            .args(["--single", "-D"])
            .arg(data)
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| self.not_run("postgres", e))?;
        if let Some(mut input) = child.stdin.take() {
            writeln!(input, "CREATE DATABASE {DATABASE};")?;
        }
        let output = child.wait_with_output()?;
        // Single-user mode ends with 0 after a refused statement.
        let refused = String::from_utf8_lossy(&output.stderr).contains("ERROR:");
        refuse_failure("postgres --single", &output, output.status.success() && !refused)
    }

    /// The running server, if there is one and it serves this very data folder.
    pub(super) fn running(layout: &Layout) -> Result<Option<PidFile>> {
        match PidFile::read(&layout.data)? {
            Some(file) if process::serves(file.pid, &layout.data, layout.user)? => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    /// Starts the server unless it runs, reachable, with the wanted TCP port; a running one is
    /// started anew for that only while nobody else holds a lease.
    pub(super) fn ensure_running(&self, port: Option<u16>, lease: &File) -> Result<PidFile> {
        if Self::running(self.layout)?.is_some() {
            let file = self.wait_until_ready()?;
            let socket = self.layout.socket_dir.join(format!(".s.PGSQL.{}", file.port));
            let fits = port.is_none_or(|port| file.listens && file.port == port);
            if fits && file.socket_dir == self.layout.socket_dir && socket.exists() {
                return Ok(file);
            }
            if !is_alone(lease)? {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "the private server must be started anew (its socket is gone, or another \
                     port is wanted), but other commands use it",
                )
                .advice("wait until they are done"));
            }
            self.stop()?;
        }
        self.start(port)
    }

    fn start(&self, port: Option<u16>) -> Result<PidFile> {
        let layout = self.layout;
        self.clear_leftovers()?;
        layout.prepare_socket_dir()?;
        let mut log = open_private(&layout.log_file())?;
        if log.metadata()?.len() > LOG_BYTES_MAX {
            log.set_len(0)?;
        }
        let log_start = log.metadata()?.len();
        // Nothing below needs quoting in the shell that pg_ctl uses: the data folder, which
        // might, goes by environment, the log by descriptor.
        let options = format!(
            "-c listen_addresses={} -c port={} -c unix_socket_directories={}",
            port.map_or("''", |_| "127.0.0.1"),
            port.unwrap_or(SOCKET_PORT),
            layout.socket_dir.display()
        );
        let status = self
            .command("pg_ctl")
            .args(["start", "--wait", "--silent", "--timeout"])
            .arg(WAIT_MAX.as_secs().to_string())
            .args(["--options", &options])
            .env("PGDATA", &layout.data)
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .status()
            .map_err(|e| self.not_run("pg_ctl", e))?;
        match Self::running(layout)? {
            Some(file) if status.success() && file.ready => Ok(file),
            running => Err(self.not_started(running.is_some(), &tail(&mut log, log_start))),
        }
    }

    fn not_started(&self, running: bool, log: &str) -> Error {
        if !running {
            let _ = fs::remove_dir(&self.layout.socket_dir);
        }
        Error::new(
            ErrorKind::StoreUnreachable,
            format!("the private PostgreSQL server did not start\n{log}"),
        )
        .advice(format!("the whole log is in {}", self.layout.log_file().display()))
    }

    /// Stops the server if it runs, whatever uses it.
    pub(super) fn stop(&self) -> Result<()> {
        if Self::running(self.layout)?.is_none() {
            return Ok(());
        }
        for mode in ["fast", "immediate"] {
            let output = self.output(
                self.command("pg_ctl")
                    .args(["stop", "--wait", "--silent", "--mode", mode, "--timeout"])
                    .arg(WAIT_MAX.as_secs().to_string())
                    .env("PGDATA", &self.layout.data),
            )?;
            if Self::running(self.layout)?.is_none() {
                // Empty now; where it is not, the next start looks after it.
                let _ = fs::remove_dir(&self.layout.socket_dir);
                return Ok(());
            }
            if mode == "immediate" {
                refuse_failure("pg_ctl stop", &output, false)?;
            }
        }
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<PidFile> {
        let start = Instant::now();
        while start.elapsed() < WAIT_MAX {
            match Self::running(self.layout)? {
                Some(file) if file.ready => return Ok(file),
                Some(_) => sleep(Duration::from_millis(50)),
                None => return self.start(self.layout.keep()?.and_then(|keep| keep.port)),
            }
        }
        Err(Error::new(
            ErrorKind::StoreUnreachable,
            format!("the private PostgreSQL server is not ready after {} s", WAIT_MAX.as_secs()),
        )
        .advice(format!("its log is {}", self.layout.log_file().display())))
    }

    /// Removes what a killed server left: its `postmaster.pid`, which would keep a new one from
    /// starting if the number was given to another process, and its socket. Before that, its
    /// orphaned sessions must be gone: they still write to the data folder.
    fn clear_leftovers(&self) -> Result<()> {
        if !process::has_proc() {
            return Ok(());
        }
        let data = &self.layout.data;
        let start = Instant::now();
        loop {
            let orphans = process::of_data_folder(data, self.layout.user)?;
            if orphans.is_empty() {
                break;
            }
            if start.elapsed() > WAIT_MAX / 4 {
                return Err(Error::new(
                    ErrorKind::StoreUnreachable,
                    format!(
                        "processes {orphans:?} of a killed server still use {}",
                        data.display()
                    ),
                )
                .advice("end them, then run the same command again"));
            }
            if start.elapsed() > Duration::from_secs(2) {
                orphans.into_iter().for_each(process::terminate);
            }
            sleep(Duration::from_millis(50));
        }
        remove_if_there(&data.join("postmaster.pid"))?;
        for entry in fs::read_dir(&self.layout.socket_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A program, run as the server's user, out of reach of Ctrl-C, and without this process's
    /// settings: PG* would change what it does, `DATABASE_URL` is none of its business.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.path(program));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["PG", "LC_", "LANG", "DATABASE_URL", "TOOLKIT_"].iter().any(|p| text.starts_with(p))
            {
                command.env_remove(&name);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0);
        if self.layout.user.dropped {
            command.uid(self.layout.user.uid).gid(self.layout.user.gid);
        }
        command
    }

    fn output(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.output().map_err(|e| self.not_run(&program, e))
    }

    fn not_run(&self, program: &str, error: io::Error) -> Error {
        Error::new(
            ErrorKind::StoreUnreachable,
            format!(
                "{program} of PostgreSQL {} cannot be run as user {}",
                self.programs.major(),
                self.layout.user.uid
            ),
        )
        .because(error)
    }
}

fn refuse_failure(what: &str, output: &Output, success: bool) -> Result<()> {
    if success {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(
        ErrorKind::StoreUnreachable,
        format!("{what} failed ({})\n{}", output.status, last_lines(&text)),
    ))
}

/// The end of what was logged since `start`.
fn tail(log: &mut File, start: u64) -> String {
    let mut bytes = Vec::new();
    let read = log.seek(SeekFrom::Start(start)).and_then(|_| log.read_to_end(&mut bytes));
    match read {
        Ok(_) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(e) => format!("    (log not readable: {e})"),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(15)..];
    last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn append(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| io_error("file", path, e))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("file", path, e)),
        _ => Ok(()),
    }
}
