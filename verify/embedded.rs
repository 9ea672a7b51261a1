//! The private cluster: always there when it is needed, never in two minds, gone when unused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use serde_json::Value;

use crate::support::{binary, cleaned, closed_port, copy_program, stderr, stdout};

/// Stops the server of state folder $2 with binary $1 and removes folder $3 when the tests end.
const KEEPER: &str =
    "read -r _ignored; \"$1\" --state-dir \"$2\" embedded stop --now; rm -rf \"$3\"";

/// A state folder of its own, and the user commands run as.
struct Cluster {
    folder: PathBuf,
    binary: PathBuf,
    user: Option<User>,
    keeper: Child,
}

impl Cluster {
    fn of_this_user() -> Self {
        Self::of(None)
    }

    /// Another user where this one is root, else this one.
    fn of_ordinary_user() -> Self {
        Self::of(Uid::effective().is_root().then(|| User::from_name("nobody").unwrap().unwrap()))
    }

    fn of(user: Option<User>) -> Self {
        let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap().keep();
        // The server's user passes through.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
        // The build's folder may be out of other users' reach.
        let own_binary = folder.join("toolkit");
        copy_program(&binary(), &own_binary);
        if let Some(user) = &user {
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let mut keeper = cleaned(Command::new("/bin/sh"));
        keeper
            .args(["-c", KEEPER, "keeper"])
            .args([&own_binary, &folder.join("state"), &folder])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        become_user(&mut keeper, user.as_ref());
        let keeper = keeper.spawn().unwrap();
        Self { folder, binary: own_binary, user, keeper }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = cleaned(Command::new(&self.binary));
        command
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .stdin(Stdio::null());
        become_user(&mut command, self.user.as_ref());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}:\n{}", stderr(&output));
        stdout(&output)
    }

    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}:\n{}", stderr(&output));
        stderr(&output)
    }

    fn query(&self, sql: &str) -> String {
        self.succeeds(&["embedded", "psql", "--", "-X", "-q", "-At", "-c", sql]).trim().to_owned()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.succeeds(&["--format", "json", "embedded", "status"])).unwrap()
    }

    fn pid(&self) -> Option<Pid> {
        self.status()["pid"].as_i64().map(|pid| Pid::from_raw(i32::try_from(pid).unwrap()))
    }

    fn socket_folder(&self) -> PathBuf {
        self.status()["socket_folder"].as_str().unwrap().into()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("state/postgres/data")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn become_user(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "never: {what}");
        sleep(Duration::from_millis(50));
    }
}

fn starts_works_and_leaves_nothing_running(cluster: &Cluster) {
    assert_eq!(cluster.status()["running"], false);
    let ping: Value =
        serde_json::from_str(&cluster.succeeds(&["--format", "json", "ping"])).unwrap();
    assert_eq!(ping["embedded"], true);
    let facts = "SELECT current_setting('server_encoding'), datcollate, \
                 current_setting('listen_addresses'), current_setting('fsync') \
                 FROM pg_database WHERE datname = current_database()";
    assert_eq!(cluster.query(facts), "UTF8|C||on");
    assert_eq!(cluster.status()["running"], false);
    let password = cluster.folder.join("state/postgres/password");
    assert_eq!(fs::metadata(password).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn it_serves_whoever_runs_the_tests() {
    starts_works_and_leaves_nothing_running(&Cluster::of_this_user());
}

#[test]
fn it_serves_an_ordinary_user() {
    starts_works_and_leaves_nothing_running(&Cluster::of_ordinary_user());
}

#[test]
fn commands_that_make_and_use_it_at_once_all_succeed_and_the_last_one_stops_it() {
    let cluster = Cluster::of_ordinary_user();
    let mut commands: Vec<Child> =
        (0..4).map(|_| cluster.command(&["ping"]).stdout(Stdio::null()).spawn().unwrap()).collect();
    for command in &mut commands {
        assert_eq!(command.wait().unwrap().code(), Some(0));
    }
    assert_eq!(cluster.status()["running"], false);
}

#[test]
fn a_started_one_is_shared_and_stays_until_it_is_stopped() {
    let cluster = Cluster::of_this_user();
    cluster.succeeds(&["embedded", "start"]);
    let pid = cluster.pid().unwrap();
    let mut user = cluster
        .command(&["embedded", "psql", "--", "-X"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("in use", || cluster.status()["in_use"] == true);
    cluster.succeeds(&["ping"]);
    assert_eq!(cluster.pid(), Some(pid));

    let answer = cluster.succeeds(&["embedded", "stop"]);
    assert!(answer.contains("in use"), "{answer}");
    drop(user.stdin.take());
    assert_eq!(user.wait().unwrap().code(), Some(0), "a stop breaks no command that uses it");
    assert_eq!(cluster.status()["running"], false);
    assert!(cluster.succeeds(&["embedded", "stop"]).contains("not running"));
}

#[test]
fn a_killed_server_is_started_again_with_all_it_held() {
    let cluster = Cluster::of_this_user();
    cluster.succeeds(&["embedded", "start"]);
    cluster.query("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n");
    let killed = cluster.pid().unwrap();
    kill(killed, Signal::SIGKILL).unwrap();
    assert_eq!(cluster.query("SELECT count(*) FROM kept"), "1000");
    let again = cluster.pid().expect("still kept up");
    assert_ne!(again, killed);
}

#[test]
fn a_pid_file_that_names_another_living_process_does_not_keep_it_from_starting() {
    let cluster = Cluster::of_this_user();
    cluster.succeeds(&["ping"]);
    // As after a reboot: the number belongs to a process of the same user.
    let owner = fs::metadata(cluster.data()).map(|m| {
        use std::os::unix::fs::MetadataExt;
        (m.uid(), m.gid())
    });
    let (uid, gid) = owner.unwrap();
    let mut innocent = Command::new("sleep");
    innocent.arg("60").current_dir("/");
    if Uid::effective().is_root() {
        innocent.uid(uid).gid(gid);
    }
    let mut innocent = innocent.spawn().unwrap();
    let file = cluster.data().join("postmaster.pid");
    let text = format!(
        "{}\n{}\n1700000000\n5432\n/tmp\n\n  1 1\nready   \n",
        innocent.id(),
        cluster.data().display()
    );
    fs::write(&file, text).unwrap();
    chown(&file, Some(uid), Some(gid)).unwrap();

    assert_eq!(cluster.status()["running"], false);
    cluster.succeeds(&["ping"]);
    assert!(innocent.try_wait().unwrap().is_none(), "it must not be harmed");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[test]
fn a_server_left_by_a_killed_command_is_used_and_then_stopped() {
    let cluster = Cluster::of_ordinary_user();
    let mut command = cluster
        .command(&["embedded", "psql", "--", "-X", "-c", "SELECT pg_sleep(600)"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("running", || cluster.pid().is_some());
    command.kill().unwrap();
    command.wait().unwrap();
    let left = cluster.pid().expect("left running");
    let same = cluster.query("SELECT current_setting('data_directory')");
    assert_eq!(Path::new(&same), cluster.data());
    assert_eq!(cluster.status()["running"], false, "pid {left}");
}

#[test]
fn a_lost_socket_folder_is_made_again() {
    let cluster = Cluster::of_this_user();
    cluster.succeeds(&["embedded", "start"]);
    fs::remove_dir_all(cluster.socket_folder()).unwrap();
    cluster.succeeds(&["ping"]);
    assert_eq!(cluster.status()["running"], true);
}

#[test]
fn a_socket_folder_somebody_else_prepared_is_refused() {
    let cluster = Cluster::of_ordinary_user();
    cluster.succeeds(&["ping"]);
    let place = cluster.socket_folder();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), &place).unwrap();
    let text = cluster.refuses(&["ping"]);
    fs::remove_file(&place).unwrap();
    assert!(text.contains("not safe") && text.contains(place.to_str().unwrap()), "{text}");
}

#[test]
fn with_a_listen_port_it_answers_on_loopback_and_wants_the_password() {
    let cluster = Cluster::of_this_user();
    let port = closed_port().unwrap().to_string();
    cluster.succeeds(&["embedded", "start"]);
    cluster.succeeds(&["embedded", "start", "--listen-port", &port]);
    let password = fs::read_to_string(cluster.folder.join("state/postgres/password")).unwrap();
    let url = |password: &str| format!("postgres://toolkit:{password}@127.0.0.1:{port}/toolkit");
    cluster.succeeds(&["--database-url", &url(&password), "ping"]);
    cluster.refuses(&["--database-url", &url("guess"), "ping"]);
    cluster.succeeds(&["embedded", "psql", "--", "-c", "SELECT 1"]);
}

#[test]
fn a_server_that_cannot_start_says_why_from_its_log() {
    let cluster = Cluster::of_this_user();
    cluster.succeeds(&["ping"]);
    let configuration = cluster.data().join("postgresql.conf");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text + "\nno_such_setting = 1\n").unwrap();
    let text = cluster.refuses(&["ping"]);
    assert!(text.contains("did not start") && text.contains("no_such_setting"), "{text}");
}

#[test]
#[cfg(not(feature = "postgres-download"))]
fn without_programs_the_error_says_how_to_get_them() {
    let cluster = Cluster::of_this_user();
    let output = cluster
        .command(&["ping"])
        .env("TOOLKIT_POSTGRES_BIN_DIR", cluster.folder.join("nothing"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("apt-get install postgresql"), "{text}");
    assert!(text.contains("postgres-download"), "{text}");
}
