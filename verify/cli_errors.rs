//! What a person sees when something is wrong: which thing, what to do, and never a password.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::Executor;
use toolkit::store::sql;

use crate::support::{TestDatabase, closed_port, stderr, stdout, toolkit, with_database};

fn ping(url: &str) -> Output {
    toolkit().args(["--database-url", url, "ping"]).output().unwrap()
}

fn assert_refused(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(stdout(output), "", "errors belong on standard error");
    assert!(text.starts_with("error: "), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[tokio::test]
async fn a_reachable_server_is_described_without_its_password() {
    let database = TestDatabase::create().await;
    let output = toolkit()
        .args(["--format", "json", "ping"])
        .env("DATABASE_URL", database.url())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["embedded"], false);
    assert!(report["version_num"].as_i64().unwrap() >= 130_000);
}

#[tokio::test]
async fn a_wrong_password_is_named_as_such() {
    let database = TestDatabase::create().await;
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let (user, place) = rest.split_once('@').unwrap();
    let user = user.split(':').next().unwrap();
    let output = ping(&format!("{scheme}://{user}:hunter2@{place}"));
    assert_refused(&output, &["does not let user", user, "help: check user and password"]);
    assert!(!stderr(&output).contains("hunter2"));
}

#[test]
fn an_unreachable_server_is_named_with_host_and_port() {
    let port = closed_port().unwrap();
    let output = ping(&format!("postgres://u:hunter2@127.0.0.1:{port}/d"));
    assert_refused(
        &output,
        &[&format!("no PostgreSQL server answers at 127.0.0.1:{port}"), "refused", "pg_isready"],
    );
}

#[tokio::test]
async fn a_missing_database_comes_with_the_command_that_creates_it() {
    let database = TestDatabase::create().await;
    let output = ping(&with_database(database.url(), "not_there"));
    assert_refused(&output, &["database \"not_there\" does not exist", "createdb"]);
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    let name = format!("ascii_{}", uuid::Uuid::new_v4().simple());
    let create =
        format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    pool.execute(sql(create)).await.unwrap();
    let output = ping(&with_database(database.url(), &name));
    pool.execute(sql(format!("DROP DATABASE {name}"))).await.unwrap();
    assert_refused(&output, &["SQL_ASCII", "--encoding=UTF8"]);
}

#[test]
fn no_failure_prints_the_password_of_a_url() {
    let port = closed_port().unwrap();
    for url in [
        format!("postgres://u:hunter2@127.0.0.1:{port}/d"),
        format!("postgres://127.0.0.1:{port}/d?user=u&password=hunter2"),
        format!("postgres://127.0.0.1:{port}/d?sslpassword=hunter2&nonsense=hunter2"),
        "postgres://u:hunter2@[::1/d".into(),
        "postgres://u:hunter2@host:port/d".into(),
        "postgres://u:hunter2@127.0.0.1/d?sslmode=hunter2x".replace("hunter2x", "sometimes"),
        "mysql://u:hunter2@127.0.0.1/d".into(),
        "host=127.0.0.1 password=hunter2".into(),
        "u:hunter2@127.0.0.1/d".into(),
    ] {
        for log_format in ["text", "json"] {
            let output = toolkit()
                .args(["-vv", "--log-format", log_format, "--database-url", &url, "ping"])
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2));
            let said = stdout(&output) + &stderr(&output);
            assert!(!said.contains("hunter2"), "{url}:\n{said}");
        }
    }
}

#[test]
fn errors_are_one_json_object_with_json_logs() {
    let port = closed_port().unwrap();
    let output = toolkit()
        .args(["--log-format", "json", "ping", "--database-url"])
        .arg(format!("postgres://127.0.0.1:{port}/d"))
        .output()
        .unwrap();
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["kind"], "StoreUnreachable");
    assert!(error["message"].as_str().unwrap().contains(&port.to_string()));
    assert!(error["advice"].is_string() && error["causes"].is_array());
}

#[test]
fn a_typo_in_the_settings_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = "format = \"json\"\n\nlog_fromat = \"json\"\n";
    fs::write(folder.path().join("toolkit.toml"), text).unwrap();
    let output = toolkit().arg("ping").current_dir(folder.path()).output().unwrap();
    assert_refused(&output, &["toolkit.toml, line 3, column 1", "log_fromat"]);
}

#[test]
fn usage_errors_exit_2_and_help_exits_0() {
    for arguments in [&["no-such-command"][..], &["ping", "--no-such-flag"], &[], &["embedded"]] {
        let output = toolkit().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "");
    }
    for arguments in [&["--help"][..], &["embedded", "psql", "--help"], &["--version"]] {
        let output = toolkit().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&output), "");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let database = TestDatabase::create().await;
    let mut ping = toolkit();
    ping.args(["--database-url", database.url(), "ping"]);
    let mut help = toolkit();
    help.arg("--help");
    for mut command in [ping, help] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = with_stdout(&mut command, writer.into());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}

fn with_stdout(command: &mut Command, stdout: Stdio) -> Output {
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn ctrl_c_stops_a_waiting_command_and_is_no_success() {
    // It takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d", silent.local_addr().unwrap());
    let mut command = toolkit();
    command.args(["--database-url", &url, "ping"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let command = command.spawn().unwrap();
    let (_connection, _) = silent.accept().unwrap();
    let pid = Pid::from_raw(i32::try_from(command.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let output = command.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("once more stops at once"), "{text}");
    assert!(text.contains("error: stopped on request"), "{text}");
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_time_set() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let output = toolkit()
        .args(["--database-url", &format!("postgres://u@{address}/d"), "ping"])
        .env("TOOLKIT_CONNECT_TIMEOUT_MS", "200")
        .output()
        .unwrap();
    assert_refused(&output, &[&format!("answers at {address} within 200 ms")]);
}
