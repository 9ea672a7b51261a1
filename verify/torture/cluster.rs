//! A Postgres server that a test may kill, stop, fill up and start again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use toolkit::store::embedded::Programs;
use toolkit::store::{quote_ident, sql};

/// Stops the server of data folder $3 with `pg_ctl` $2 and removes $1 when the test ends, however.
const KEEPER: &str = "read -r _ignored; \"$2\" stop -D \"$3\" -m immediate; rm -rf \"$1\"";

const WAIT_MAX: Duration = Duration::from_mins(1);

/// One cluster, its server running or not.
pub(crate) struct Cluster {
    folder: PathBuf,
    data: PathBuf,
    programs: Programs,
    user: Option<User>,
    settings: String,
    keeper: Child,
}

impl Cluster {
    /// Makes a cluster with `settings` (`name=value`) and starts it.
    pub(crate) fn start_new(settings: &[&str]) -> Self {
        Self::start_new_in(None, settings)
    }

    /// As [`Cluster::start_new`], with its data in a folder that is there already.
    pub(crate) fn start_new_in(data: Option<&Path>, settings: &[&str]) -> Self {
        let this = Self::without_data(data, settings);
        let mut initdb = this.program("initdb");
        initdb.args(["-U", "verify", "-A", "trust", "-E", "UTF8", "--locale", "C", "-N"]);
        let made = initdb.arg("-D").arg(&this.data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        this.start();
        this
    }

    /// Makes a replica that streams from another cluster, and starts it; None without the program
    /// that copies one.
    pub(crate) fn replica_of(primary: &Self) -> Option<Self> {
        let this = Self::without_data(None, &["hot_standby=on"]);
        if !this.programs.path("pg_basebackup").is_file() {
            return None;
        }
        let mut copy = this.program("pg_basebackup");
        copy.args(["-U", "verify", "-h"]).arg(&primary.folder).arg("-D").arg(&this.data);
        let copied = copy
            .args(["--write-recovery-conf", "--no-sync", "--checkpoint=fast"])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        this.start();
        Some(this)
    }

    /// The folders of a cluster, and who removes them.
    fn without_data(data: Option<&Path>, settings: &[&str]) -> Self {
        let programs = Programs::find(None, None).expect("PostgreSQL's programs");
        // Not TMPDIR: a socket's path must be short.
        let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap().keep();
        let user = Uid::effective().is_root().then(|| {
            let named = |name| User::from_name(name).ok().flatten();
            named("postgres").or_else(|| named("nobody")).expect("a user postgres or nobody")
        });
        let data = data.map_or_else(|| folder.join("data"), |place| place.join("data"));
        for path in [Some(folder.as_path()), data.parent()].into_iter().flatten() {
            if let Some(user) = &user {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let mut keeper = Command::new("/bin/sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .arg(programs.path("pg_ctl"))
            .arg(&data)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        become_user(&mut keeper, user.as_ref());
        let keeper = keeper.spawn().unwrap();
        let settings: Vec<String> =
            settings.iter().map(|setting| format!("-c {setting}")).collect();
        Self { folder, data, programs, user, settings: settings.join(" "), keeper }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.path(name));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
        become_user(&mut command, self.user.as_ref());
        command
    }

    /// Starts the server; waits until it takes connections.
    pub(crate) fn start(&self) {
        self.start_with("");
    }

    /// Starts the server with more settings, for this time only.
    pub(crate) fn start_with(&self, more: &str) {
        let begun = Instant::now();
        // Orphans of a killed server hold its shared memory until they notice.
        while !self.processes().is_empty() {
            assert!(begun.elapsed() < WAIT_MAX, "orphans: {:?}", self.processes());
            sleep(Duration::from_millis(5));
        }
        // Its number may still be that of a process nobody has waited for.
        for left in [self.data.join("postmaster.pid"), self.folder.join(".s.PGSQL.5432.lock")] {
            let _ = fs::remove_file(left);
        }
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync=off \
             -c max_connections=40 {} {more}",
            self.folder.display(),
            self.settings
        );
        let log =
            fs::File::options().append(true).create(true).open(self.folder.join("log")).unwrap();
        let status = self
            .program("pg_ctl")
            .args(["start", "--wait", "--silent", "--timeout", "60", "-D"])
            .arg(&self.data)
            .args(["--options", &options])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        assert!(status.success(), "the server does not start:\n{}", self.log());
    }

    /// What the server said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Stops the server: `smart`, `fast` or `immediate`.
    pub(crate) fn stop(&self, mode: &str) {
        let _ = self
            .program("pg_ctl")
            .args(["stop", "--wait", "--silent", "--timeout", "60", "-m", mode, "-D"])
            .arg(&self.data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }

    /// Makes the stopped server one that only repeats another's writes.
    pub(crate) fn make_standby(&self) {
        fs::write(self.data.join("standby.signal"), "").unwrap();
        self.give(&self.data.join("standby.signal"));
    }

    /// Makes a folder that the server owns.
    pub(crate) fn give_folder(&self, folder: &Path) {
        fs::create_dir(folder).unwrap();
        self.give(folder);
    }

    fn give(&self, path: &Path) {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
    }

    /// kill -9 of the postmaster.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.postmaster() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// kill -9 of one process: the server then throws out every session and recovers.
    pub(crate) fn kill_process(pid: i32) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }

    fn postmaster(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    }

    /// Processes that work in the data folder.
    fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == self.data) {
                found.push(pid);
            }
        }
        found
    }

    /// The superuser's URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://verify@localhost/{database}?host={}", self.folder.display())
    }

    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::from_str(&self.url(database)).unwrap();
        let begun = Instant::now();
        loop {
            match options.clone().application_name("verify").connect().await {
                Ok(connection) => return connection,
                Err(error) if begun.elapsed() > WAIT_MAX => panic!("{error}\n{}", self.log()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Runs statements, one after the other.
    pub(crate) async fn execute(&self, database: &str, statements: &[String]) {
        let mut connection = self.connect(database).await;
        for statement in statements {
            connection
                .execute(sql(statement.clone()))
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        connection.close().await.unwrap();
    }

    /// Makes `name` a copy of `template`, or an empty UTF8 database.
    pub(crate) async fn make_database(&self, name: &str, template: Option<&str>) {
        let name = quote_ident(name);
        let template = quote_ident(template.unwrap_or("template0"));
        self.execute(
            "postgres",
            &[
                format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                format!("CREATE DATABASE {name} TEMPLATE {template}"),
            ],
        )
        .await;
    }

    /// A query of one text column.
    pub(crate) async fn lines(&self, database: &str, query: &str) -> Vec<String> {
        let mut connection = self.connect(database).await;
        let found = sqlx::query_scalar(sql(query.to_owned()))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        connection.close().await.unwrap();
        found
    }

    /// The only line of a query.
    pub(crate) async fn line(&self, database: &str, query: &str) -> String {
        self.lines(database, query).await.into_iter().next().unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A frozen or broken server must not keep the tests from ending.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn become_user(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}
