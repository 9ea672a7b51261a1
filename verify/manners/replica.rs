//! `--max-lag` with a replica of this machine's own programs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{stderr, stdout, toolkit};
use crate::torture::cluster::Cluster;

const PACK: &str = "[pack]\nname = \"mine\"\nversion = 1\n\
    [[stream]]\nname = \"items\"\ntarget = \"public.items\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"items\"\n";

const ROWS: u32 = 1_200;

/// A server, its replica, and a file to be moved into them.
struct Scene {
    primary: Cluster,
    replica: Cluster,
    folder: tempfile::TempDir,
}

impl Scene {
    /// None: this machine has no `pg_basebackup`.
    async fn new() -> Option<Self> {
        // A replica that is frozen must not be given up while the test looks.
        let primary = Cluster::start_new(&["wal_sender_timeout=0"]);
        primary.make_database("app", None).await;
        let Some(replica) = Cluster::replica_of(&primary) else {
            println!("skipped: there is no pg_basebackup beside the server's programs");
            return None;
        };
        let scene = Self { primary, replica, folder: tempfile::tempdir().unwrap() };
        for name in ["pack", "source"] {
            fs::create_dir(scene.path(name)).unwrap();
        }
        let table = "CREATE TABLE public.items (id bigint PRIMARY KEY, body text)";
        fs::write(scene.path("pack/V1__items.sql"), table).unwrap();
        fs::write(scene.path("pack/pack.toml"), PACK).unwrap();
        let file = rusqlite::Connection::open(scene.path("source/app.sqlite")).unwrap();
        file.execute_batch(&format!(
            "CREATE TABLE items (id INTEGER PRIMARY KEY, body TEXT);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO items SELECT i, 'body ' || i FROM n"
        ))
        .unwrap();
        let migrated = scene.tool(&["migrate", "up", "--pack", "mine", "--dir", "pack"]);
        let migrated = migrated.wait_with_output().unwrap();
        assert_eq!(migrated.status.code(), Some(0), "{}", stderr(&migrated));
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tool(&self, arguments: &[&str]) -> Child {
        let mut command = toolkit();
        command
            .args(["--database-url", &self.primary.url("app"), "--format", "json"])
            .args(arguments)
            .current_dir(self.folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn backfill(&self) -> Child {
        let throttle = ["--throttle", "400/s", "--chunk-records", "40", "--max-lag", "1s"];
        let what = ["backfill", "--pack", "pack", "--source", "source"];
        self.tool(&[&what[..], &throttle[..]].concat())
    }

    async fn chunks(&self) -> i64 {
        let done = "SELECT count(*)::text FROM toolkit.chunk WHERE status = 'done'";
        self.primary.line("app", done).await.parse().unwrap()
    }

    async fn until(&self, condition: &str) {
        let begun = Instant::now();
        let query = format!("SELECT ({condition})::text");
        while self.primary.line("app", &query).await != "true" {
            assert!(begun.elapsed() < Duration::from_mins(1), "never: {condition}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// It waits, says for what, and writes nothing meanwhile.
    async fn waits(&self, child: &mut Child) {
        let paused = "EXISTS (SELECT FROM toolkit.run_process WHERE state = 'paused' \
                      AND reason ~ 'replica .* is [0-9.]+ s behind, --max-lag 1 s')";
        self.until(paused).await;
        let before = self.chunks().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(self.chunks().await, before, "a chunk was written while the replica lagged");
        assert!(before > 0 && child.try_wait().unwrap().is_none());
    }

    async fn goes_on_to_the_end(&self, child: Child) {
        let output = child.wait_with_output().unwrap();
        let notes = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{}{notes}", stdout(&output));
        assert!(notes.contains("paused: replica") && notes.contains("goes on"), "{notes}");
        let count = "SELECT count(*)::text FROM public.items";
        assert_eq!(self.primary.line("app", count).await, ROWS.to_string());
        let verify = ["verify-parity", "--pack", "pack", "--source", "source"];
        let verified = self.tool(&verify).wait_with_output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "{}", stderr(&verified));
    }
}

#[tokio::test]
async fn a_backfill_waits_for_a_replica_that_replays_too_late() {
    let Some(scene) = Scene::new().await else { return };
    let mut child = scene.backfill();
    scene.until("(SELECT count(*) FROM toolkit.chunk WHERE status = 'done') > 2").await;
    let pause = "SELECT pg_wal_replay_pause()::text";
    scene.replica.line("app", pause).await;
    scene.waits(&mut child).await;
    scene.replica.line("app", "SELECT pg_wal_replay_resume()::text").await;
    scene.goes_on_to_the_end(child).await;
}

#[tokio::test]
async fn a_backfill_waits_for_a_replica_that_has_fallen_silent() {
    let Some(scene) = Scene::new().await else { return };
    let mut child = scene.backfill();
    scene.until("(SELECT count(*) FROM toolkit.chunk WHERE status = 'done') > 2").await;
    let receiver = "SELECT pid::text FROM pg_stat_wal_receiver";
    let receiver: i32 = scene.replica.line("app", receiver).await.parse().unwrap();
    kill(Pid::from_raw(receiver), Signal::SIGSTOP).unwrap();
    scene.waits(&mut child).await;
    kill(Pid::from_raw(receiver), Signal::SIGCONT).unwrap();
    scene.goes_on_to_the_end(child).await;
}
