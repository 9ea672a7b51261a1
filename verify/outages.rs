//! Servers that go away, come back, are full, refuse to write or end what takes long: a backfill
//! waits and goes on, or ends with exit 2 and the command that resumes it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use crate::support::backfill::{Move, Report};
use crate::support::{stderr, stdout, toolkit};
use crate::torture::cluster::Cluster;

const STREAM: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"log\"\n";

const TABLE: &str = "CREATE TABLE public.log (id bigint PRIMARY KEY, body text)";

fn rows(count: u32) -> String {
    format!(
        "CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO log SELECT i, hex(randomblob(100)) FROM n"
    )
}

/// A pack of one table on a server of its own.
struct Scene {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(ddl: &str, count: u32) -> Self {
        let scene = Self { cluster: Cluster::start_new(&[]), folder: tempfile::tempdir().unwrap() };
        scene.cluster.make_database("app", None).await;
        let pack = scene.path("pack");
        fs::create_dir(&pack).unwrap();
        fs::create_dir(scene.path("source")).unwrap();
        fs::write(pack.join("V1__log.sql"), ddl).unwrap();
        let header = "[pack]\nname = \"mine\"\nversion = 1\n";
        fs::write(pack.join("pack.toml"), format!("{header}{STREAM}")).unwrap();
        let file = rusqlite::Connection::open(scene.path("source/app.sqlite")).unwrap();
        file.execute_batch(&rows(count)).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn migrate(&self) {
        let output =
            self.tool(&["migrate", "up", "--pack", "mine", "--dir", "pack"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = toolkit();
        command
            .args(["--database-url", &self.cluster.url("app"), "--format", "json"])
            .args(arguments)
            .current_dir(self.folder.path());
        command
    }

    fn backfill(&self) -> Command {
        let arguments = ["backfill", "--pack", "pack", "--source", "source"];
        let mut command = self.tool(&arguments);
        command.args(["--chunk-records", "100"]);
        command
    }

    fn start(&self) -> Child {
        self.backfill().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn reaches(&self, chunks: i64) {
        let begun = Instant::now();
        let query = "SELECT count(*)::text FROM toolkit.chunk WHERE status = 'done'";
        while self.cluster.line("app", query).await.parse::<i64>().unwrap() < chunks {
            assert!(begun.elapsed() < Duration::from_mins(1), "no {chunks} chunks");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn count(&self) -> String {
        self.cluster.line("app", "SELECT count(*)::text FROM public.log").await
    }

    fn assert_parity(&self) {
        let arguments =
            ["verify-parity", "--pack", "pack", "--source", "source", "--level", "full"];
        let output = self.tool(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    }
}

#[track_caller]
fn assert_says(output: &Output, code: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{}{text}", stdout(output));
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[tokio::test]
async fn a_server_restarted_in_mid_chunk_is_waited_for_and_the_run_goes_on() {
    let scene = Scene::new(TABLE, 12_000).await;
    scene.migrate();
    let mut child = scene.start();
    for (mode, chunks) in [("fast", 3), ("immediate", 30)] {
        scene.reaches(chunks).await;
        scene.cluster.stop(mode);
        assert!(child.try_wait().unwrap().is_none(), "it gave up, or was too fast");
        thread::sleep(Duration::from_millis(700));
        scene.cluster.start();
    }
    let output = child.wait_with_output().unwrap();
    assert_says(&output, 0, &["retrying"]);
    assert_eq!(scene.count().await, "12000");
    scene.assert_parity();
}

#[tokio::test]
async fn a_server_that_stays_away_ends_the_run_with_the_command_that_resumes_it() {
    let scene = Scene::new(TABLE, 12_000).await;
    scene.migrate();
    let child = scene.start();
    scene.reaches(3).await;
    scene.cluster.kill();
    let output = child.wait_with_output().unwrap();
    let resume = "resume with: toolkit backfill --pack pack --source source";
    assert_says(&output, 2, &["retrying", "help: ", resume]);
    scene.cluster.start();
    let resumed = scene.backfill().output().unwrap();
    assert_says(&resumed, 0, &[]);
    assert!(stdout(&resumed).contains("\"resumed\": true"), "{}", stdout(&resumed));
    scene.assert_parity();
}

/// Answers every client with one error, and counts them.
fn refusing(code: &'static str, message: &'static str) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            let mut client = client;
            let _ = client.read(&mut [0; 1024]);
            let mut body = Vec::new();
            for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
                body.push(field);
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
            body.push(0);
            let length = u32::try_from(body.len() + 4).unwrap();
            let mut answer = vec![b'E'];
            answer.extend_from_slice(&length.to_be_bytes());
            answer.extend_from_slice(&body);
            let _ = client.write_all(&answer);
        }
    });
    (port, asked)
}

#[test]
fn a_server_that_starts_or_is_full_is_asked_again_until_the_time_set_is_over() {
    for (code, message, advice) in [
        ("57P03", "the database system is starting up", "wait for it"),
        ("57P03", "the database system is in recovery mode", "wait for it"),
        ("53300", "sorry, too many clients already", "max_connections"),
    ] {
        let (port, asked) = refusing(code, message);
        let output = toolkit()
            .args(["--database-url", &format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable")])
            .arg("ping")
            .env("TOOLKIT_CONNECT_TIMEOUT_MS", "700")
            .output()
            .unwrap();
        assert_says(&output, 2, &[message, "help: ", advice]);
        assert!(asked.load(Ordering::Relaxed) > 1, "{message}: not asked again");
    }
}

#[tokio::test]
async fn a_recovering_standby_and_a_read_only_database_are_refused_in_words() {
    let scene = Move::own(TABLE, STREAM, &rows(10)).await;
    let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only \
               = on', current_database()); END $$";
    scene.execute(set).await;
    assert_says(&scene.run(&[]), 2, &["read-only transaction", "default_transaction_read_only"]);

    let scene = Scene::new(TABLE, 10).await;
    scene.migrate();
    scene.cluster.stop("fast");
    scene.cluster.make_standby();
    scene.cluster.start();
    assert_says(&scene.backfill().output().unwrap(), 2, &["read-only transaction", "standby"]);
    assert_eq!(scene.count().await, "0");
}

#[tokio::test]
async fn time_limits_of_role_and_database_do_not_end_a_run() {
    let scene = Move::own(TABLE, STREAM, &rows(5000)).await;
    let limits = [
        ("statement_timeout", 500),
        ("lock_timeout", 500),
        ("idle_in_transaction_session_timeout", 1),
    ];
    let set: Vec<String> = limits
        .iter()
        .map(|(limit, ms)| {
            format!("EXECUTE format('ALTER DATABASE %I SET {limit} = {ms}', current_database());")
        })
        .collect();
    scene.execute(&format!("DO $$ BEGIN {} END $$", set.concat())).await;
    let output = scene.run(&["--chunk-records", "500"]);
    assert_says(&output, 0, &[]);
    assert!(!stderr(&output).contains("retrying"), "{}", stderr(&output));
    assert_eq!(Report::of(&output).records("items", "inserted"), 5000);
}

/// A file system of `megabytes`, unmounted in the end.
struct Disk(PathBuf);

impl Disk {
    /// None where mounting is not permitted.
    fn mount(folder: &Path, megabytes: u32) -> Option<Self> {
        if !Uid::effective().is_root() {
            return None;
        }
        fs::create_dir(folder).unwrap();
        let disk = Self(folder.to_owned());
        disk.options(&format!("size={megabytes}m,mode=777")).then_some(disk)
    }

    fn resize(&self, megabytes: u32) {
        assert!(self.options(&format!("remount,size={megabytes}m")));
    }

    fn options(&self, options: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0);
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_full_disk_of_the_target_is_named_and_the_run_is_resumed_when_there_is_room() {
    // Not below a test's own folder: the server's user passes through.
    let place = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let Some(disk) = Disk::mount(&place.path().join("disk"), 2) else {
        println!("skipped: a small disk takes root and the permission to mount");
        return;
    };
    let space = disk.0.join("space");
    let scene = Scene::new(&format!("{TABLE} TABLESPACE small"), 12_000).await;
    scene.cluster.give_folder(&space);
    let make = format!("CREATE TABLESPACE small LOCATION '{}'", space.display());
    scene.cluster.execute("app", &[make]).await;
    scene.migrate();
    let full = scene.backfill().output().unwrap();
    let resume = "resume with: toolkit backfill --pack pack --source source";
    assert_says(
        &full,
        2,
        &["No space left on device", "pg_tblspc", "no room left on the disk", resume],
    );
    let done = "SELECT coalesce(sum(rows_read), 0)::text FROM toolkit.chunk WHERE status = 'done'";
    let stored = scene.count().await;
    assert_eq!(stored, scene.cluster.line("app", done).await, "a chunk is half done");
    assert_ne!(stored, "0");
    disk.resize(64);
    let resumed = scene.backfill().output().unwrap();
    assert_says(&resumed, 0, &[]);
    assert!(stdout(&resumed).contains("\"resumed\": true"), "{}", stdout(&resumed));
    scene.assert_parity();
}

#[tokio::test]
async fn without_room_in_the_scratch_folder_a_source_is_read_where_it_is_and_that_is_said() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&place.path().join("disk"), 1) else {
        println!("skipped: a small disk takes root and the permission to mount");
        return;
    };
    // Closed in WAL mode: it is read from a copy.
    let source = format!("PRAGMA journal_mode = WAL; {}", rows(20_000));
    let scene = Move::own(TABLE, STREAM, &source).await;
    let mut command = scene.backfill_command(&[]);
    let output = command.env("TMPDIR", &disk.0).output().unwrap();
    assert_says(&output, 0, &["scratch has no room for a copy"]);
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0, "what was copied is left");
}
