//! One Postgres server for the whole test process, which ends with it.
//!
//! Rust tests have no common end, and a test process may be killed. So the server belongs to a
//! small shell, the keeper, which waits for the end of its standard input: the write end is held
//! by the test process alone, and the kernel closes it however that process ends.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use toolkit::store::embedded::Programs;

const START_MAX: Duration = Duration::from_mins(2);
const PASSWORD: &str = "verify";

/// Makes and runs a cluster in $1 with the programs $2, $3, until standard input ends.
const KEEPER: &str = r#"
folder=$1 initdb=$2 postgres=$3
cd "$folder" || exit 1
"$initdb" -D data -U verify --pwfile password -A scram-sha-256 -E UTF8 --locale C -N || exit 1
"$postgres" -D data -c listen_addresses= -c unix_socket_directories="$folder" \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200 \
    -c shared_buffers=64MB -c max_wal_size=2GB < /dev/null &
server=$!
read -r _ignored
# A shell's background process ignores QUIT until the server has set itself up; TERM ends it then,
# and QUIT, later, without waiting for clients.
kill -TERM "$server"
kill -QUIT "$server"
wait "$server"
cd /
rm -rf "$folder"
"#;

/// Removes container $1 when standard input ends.
const CONTAINER_KEEPER: &str = "read -r _ignored; docker rm --force --volumes \"$1\"";

struct TestServer {
    url: String,
    /// Holds the pipe whose end ends the server.
    _keeper: Option<Child>,
}

/// Superuser's URL of the test server; blocks while it starts.
pub(super) fn url() -> &'static str {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    &SERVER.get_or_init(start).url
}

fn start() -> TestServer {
    if let Ok(url) = std::env::var("TOOLKIT_TEST_POSTGRES_URL")
        && !url.is_empty()
    {
        return TestServer { url, _keeper: None };
    }
    match Programs::find(None, None) {
        Ok(programs) => start_local(&programs),
        Err(e) => start_container().unwrap_or_else(|docker| {
            panic!("tests need Postgres: set TOOLKIT_TEST_POSTGRES_URL; {e}; docker: {docker}")
        }),
    }
}

fn start_local(programs: &Programs) -> TestServer {
    // Not TMPDIR: a socket's path must be short.
    let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap().keep();
    let log = fs::File::create(folder.join("log")).unwrap();
    fs::write(folder.join("password"), PASSWORD).unwrap();

    let mut keeper = Command::new("/bin/sh");
    keeper
        .args(["-c", KEEPER, "keeper"])
        .arg(&folder)
        .args([programs.path("initdb"), programs.path("postgres")])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        // Ctrl-C must reach the tests only, or the server would outlive the folder.
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            keeper.env_remove(name);
        }
    }
    if let Some(user) = unprivileged() {
        for path in [&folder, &folder.join("password")] {
            std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .unwrap();
        }
        keeper.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let mut keeper = keeper.spawn().unwrap();

    let url = format!("postgres://verify:{PASSWORD}@localhost/postgres?host={}", folder.display());
    wait_until_ready(&url, &mut keeper, &folder.join("log"));
    TestServer { url, _keeper: Some(keeper) }
}

/// A user Postgres agrees to run as, where this one is root.
fn unprivileged() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let named = |name| User::from_name(name).ok().flatten();
    Some(named("postgres").or_else(|| named("nobody")).expect("a user postgres or nobody"))
}

fn wait_until_ready(url: &str, keeper: &mut Child, log: &Path) {
    let options = PgConnectOptions::from_str(url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    loop {
        let error = match runtime.block_on(options.connect()) {
            Ok(connection) => return runtime.block_on(connection.close()).unwrap(),
            Err(error) => error,
        };
        let ended = keeper.try_wait().unwrap();
        if ended.is_some() || start.elapsed() > START_MAX {
            let log = fs::read_to_string(log).unwrap_or_default();
            panic!("the test server does not start: {error}\n{log}");
        }
        sleep(Duration::from_millis(50));
    }
}

/// Only where the machine has no programs: a container, removed by its keeper.
fn start_container() -> Result<TestServer, Box<dyn std::error::Error>> {
    use testcontainers::core::{IntoContainerPort, WaitFor};
    use testcontainers::runners::AsyncRunner;
    use testcontainers::{GenericImage, ImageExt};

    // Kept: the container is removed when its handle drops.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let image = GenericImage::new("postgres", "17")
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::message_on_stderr("ready to accept connections"))
        .with_env_var("POSTGRES_USER", "verify")
        .with_env_var("POSTGRES_PASSWORD", PASSWORD)
        .with_cmd(["-c", "fsync=off", "-c", "max_connections=200"]);
    let container = runtime.block_on(image.start())?;
    let port = runtime.block_on(container.get_host_port_ipv4(5432.tcp()))?;
    let mut keeper = Command::new("/bin/sh")
        .args(["-c", CONTAINER_KEEPER, "keeper", container.id()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    std::mem::forget((container, runtime));
    let url = format!("postgres://verify:{PASSWORD}@127.0.0.1:{port}/postgres");
    wait_until_ready(&url, &mut keeper, Path::new("/dev/null"));
    Ok(TestServer { url, _keeper: Some(keeper) })
}

/// A TCP port nobody listens on.
pub(crate) fn closed_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
