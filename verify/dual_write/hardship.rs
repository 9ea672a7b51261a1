//! Kills, outages, other writers, other files: what the tail survives and what it refuses.

use std::process::{Command, Stdio};
use std::time::Duration;

use toolkit::capture;
use toolkit::error::ErrorKind;
use toolkit::interrupt::Stop;

use super::scene::Scene;
use crate::support::{stderr, stdout};

fn run(scene: &Scene, more: &[&str]) -> Command {
    let mut command = scene.place.command(&["dual-write", "run", "--pack", &scene.place.pack]);
    command.arg("--source").arg(&scene.place.source).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn status(scene: &Scene) -> (i32, serde_json::Value) {
    let arguments =
        ["--format", "json", "dual-write", "status", "--pack", scene.place.pack.as_str()];
    let output = scene.place.command(&arguments).output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_is_killed_goes_on_where_it_was() {
    let scene = Scene::copied().await;
    let application = scene.application();
    for round in 0..6 {
        let mut child = run(&scene, &["--batch", "3", "--interval", "1"]).spawn().unwrap();
        for n in 0..60 {
            let sql = format!(
                "INSERT OR REPLACE INTO item VALUES ('k{}', 'v{n}', {round}, NULL); \
                 DELETE FROM item WHERE sku = 'k{}'; UPDATE pair SET note = 'r{n}' WHERE a = 1 \
                 AND b = 'x'",
                n % 9,
                (n * 5) % 9
            );
            application.execute_batch(&sql).unwrap();
            std::thread::sleep(Duration::from_millis(3 + round * 2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = run(&scene, &["--until-caught-up"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    scene.assert_clean("after kills").await;
    let (code, status) = status(&scene);
    assert_eq!((code, &status["files"][0]["lag_rows"]), (0, &0.into()), "{status}");
    // Of the applied entries the newest stay: a cutover compares them once more.
    let left: i64 = application
        .query_row("SELECT count(*) FROM toolkit_capture_log", [], |row| row.get(0))
        .unwrap();
    assert!((1..=5_000).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_and_a_second_tail() {
    let scene = Scene::copied().await;
    let application = scene.application();
    let child = run(&scene, &["--interval", "5"]).spawn().unwrap();
    for n in 0..400 {
        if status_holder(&scene).await {
            break;
        }
        assert!(n < 399, "the tail did not begin");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let second = run(&scene, &["--once"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = stderr(&second);
    assert!(said.contains(&format!("process {}", child.id())), "{said}");
    for n in 0..20 {
        application
            .execute("INSERT INTO pair VALUES (?1, 'p', ?2)", (n + 50, format!("s{n}")))
            .unwrap();
        if n % 6 == 5 {
            let ended = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND application_name = 'toolkit'";
            scene.place.text(ended).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // Ctrl-C ends it after its step, and that is no failure.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    nix_interrupt(child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    scene.catch_up(100).await;
    scene.assert_clean("after ended sessions").await;
}

async fn status_holder(scene: &Scene) -> bool {
    let mut conn = scene.postgres.dedicated().await.unwrap();
    capture::status(&mut conn, "mine").await.unwrap().tail.is_some()
}

fn nix_interrupt(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
}

#[tokio::test]
async fn what_python_writes_arrives() {
    let scene = Scene::copied().await;
    let script = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=10)
c.execute('PRAGMA foreign_keys=ON')
for i in range(50):
    c.execute('INSERT OR REPLACE INTO item VALUES (?,?,?,?)', (f'p{i%7}', f'n{i}', i/3, None))
    assert c.execute('UPDATE pair SET note=? WHERE a=1', (None,)).rowcount == 2
    if i % 5 == 0: c.execute('DELETE FROM item WHERE sku=?', (f'p{(i*3)%7}',))
    cur = c.execute('INSERT INTO \"select\" (\"fr\"\"om\") VALUES (?)', ('é\\u2603' * i,))
    assert cur.lastrowid == i + 3, cur.lastrowid
    c.commit()
c.close()
";
    let file = scene.place.source.join("app.sqlite");
    let Ok(output) = Command::new("python3").arg("-c").arg(script).arg(&file).output() else {
        println!("skipped: there is no python3");
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    scene.catch_up(10).await;
    scene.assert_clean("python").await;
}

#[tokio::test]
async fn a_rebuilt_table_halts_until_capture_is_enabled_again() {
    let scene = Scene::copied().await;
    let application = scene.application();
    application
        .execute_batch(
            "CREATE TABLE loose2 (tag TEXT, v TEXT); INSERT INTO loose2 SELECT * FROM loose; \
             DROP TABLE loose; ALTER TABLE loose2 RENAME TO loose; \
             INSERT INTO loose VALUES ('unseen', 'u'); UPDATE item SET price = 5 WHERE sku = 'a'",
        )
        .unwrap();
    let mut tail = scene.tail(100).await;
    let error = tail.step().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceChanged);
    assert!(error.detail().contains("halted: triggers of table loose vanished"), "{error}");
    assert!(error.advice_text().unwrap().contains("dual-write enable"));
    let (code, said) = status(&scene);
    assert_eq!(code, 1);
    assert_eq!(said["files"][0]["halted"], "triggers of table loose vanished");
    scene.enable().await;
    let (code, said) = status(&scene);
    assert_eq!(code, 1, "{said}");
    assert!(said["files"][0]["gap"].as_str().unwrap().contains("loose"), "{said}");
    scene.catch_up(100).await;
    scene.place.backfill(0, &[]);
    scene.assert_clean("after the gap").await;
    let (code, said) = status(&scene);
    assert_eq!(code, 0, "{said}");
    // What makes looking up rows faster is no change.
    application.execute_batch("CREATE INDEX loose_tag ON loose (tag)").unwrap();
    scene.catch_up(100).await;
    // Another unique index is, though no trigger is missing.
    application.execute_batch("CREATE UNIQUE INDEX later ON item (price, sku)").unwrap();
    let mut tail = scene.tail(100).await;
    let error = tail.step().await.unwrap_err();
    assert!(error.detail().contains("halted: table item changed"), "{error}");
}

#[tokio::test]
async fn an_older_copy_of_the_file_is_noticed() {
    let scene = Scene::copied().await;
    let path = scene.place.source.join("app.sqlite");
    let copy = scene.place.source.join("backup");
    let application = scene.application();
    application.execute_batch("INSERT INTO pair VALUES (8, 'o', 'o')").unwrap();
    application.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    application.execute_batch("INSERT INTO pair VALUES (9, 'o', 'p')").unwrap();
    let mut tail = scene.tail(100).await;
    tail.catch_up(None, &Stop::new()).await.unwrap();
    drop(application);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(scene.place.source.join(format!("app.sqlite{suffix}")));
    }
    std::fs::rename(&copy, &path).unwrap();
    // As many changes as were lost, and one more.
    scene
        .application()
        .execute_batch(
            "INSERT INTO pair VALUES (10, 'o', 'q'); INSERT INTO pair VALUES (11, 'o', 'r')",
        )
        .unwrap();
    let error = tail.step().await.unwrap_err();
    assert!(error.detail().contains("older copy"), "{error}");
    assert!(error.advice_text().unwrap().contains("toolkit repair"));
}

#[tokio::test]
async fn a_refused_row_is_a_reject_until_it_is_good_again() {
    let scene = Scene::copied().await;
    let application = scene.application();
    let before = scene.place.count("app.exact").await;
    application.execute_batch("UPDATE exact SET v = 5000 WHERE k = x'00ff'").unwrap();
    scene.catch_up(10).await;
    assert_eq!(scene.place.count("app.exact").await, before - 1, "its old version is gone");
    assert_eq!(scene.place.rejects().await.len(), 1);
    scene.assert_clean("rejected").await;
    application.execute_batch("UPDATE exact SET v = 50 WHERE k = x'00ff'").unwrap();
    scene.catch_up(10).await;
    assert_eq!(scene.place.rejects().await, []);
    scene.assert_clean("good again").await;
    // An orphan is stored when its parent comes, though nobody touched it again.
    application
        .execute_batch(
            "PRAGMA foreign_keys = OFF; INSERT INTO child VALUES (77, 770, NULL, 'early')",
        )
        .unwrap();
    scene.catch_up(10).await;
    assert_eq!(scene.place.rejects().await.len(), 1);
    scene.assert_clean("orphan").await;
    application.execute_batch("INSERT INTO parent VALUES (770, 'late')").unwrap();
    scene.catch_up(10).await;
    assert_eq!(scene.place.rejects().await, []);
    assert_eq!(scene.place.count("toolkit.capture_held").await, 0);
    scene.assert_clean("parent came").await;
}

#[tokio::test]
async fn what_cannot_be_captured_is_refused_with_advice() {
    use crate::support::backfill::Move;
    for (stream, source, what) in [
        (
            "key = 'content'\nsource = { sqlite = 'app.sqlite', table = 't' }",
            "CREATE TABLE t (a TEXT, b TEXT)",
            "key = \"content\"",
        ),
        (
            "key = ['a']\nsource = { sqlite = 'app.sqlite', table = 'v' }",
            "CREATE TABLE t (a TEXT, b TEXT); CREATE VIEW v AS SELECT * FROM t",
            "is a view",
        ),
    ] {
        let toml = format!(
            "[[stream]]\nname = 't'\ntarget = 'app.t'\n{stream}\n[stream.columns]\na = 'a'\nb = 'b'\n"
        );
        let ddl = "CREATE SCHEMA app; CREATE TABLE app.t (a text UNIQUE, b text)";
        let ddl = if what.starts_with("key") { &ddl.replace(" UNIQUE", "") } else { ddl };
        let scene = Move::own(ddl, &toml, source).await;
        let mut command = scene.command(&["dual-write", "enable", "--pack", &scene.pack]);
        let output = command.arg("--source").arg(&scene.source).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(what), "{}", stderr(&output));
        assert!(stderr(&output).contains("help:"), "{}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_waited_for_and_nothing_is_lost() {
    use crate::torture::cluster::Cluster;
    let cluster = Cluster::start_new(&[]);
    cluster.make_database("app", None).await;
    let folder = tempfile::tempdir().unwrap();
    let (pack, source) = (folder.path().join("pack"), folder.path().join("source"));
    std::fs::create_dir(&pack).unwrap();
    std::fs::create_dir(&source).unwrap();
    std::fs::write(
        pack.join("V1__log.sql"),
        "CREATE TABLE public.log (id bigint PRIMARY KEY, body text)",
    )
    .unwrap();
    std::fs::write(
        pack.join("pack.toml"),
        "[pack]\nname = \"mine\"\nversion = 1\n[[stream]]\nname = \"items\"\n\
         target = \"public.log\"\nkey = [\"id\"]\n[stream.source]\nsqlite = \"app.sqlite\"\n\
         table = \"log\"\n",
    )
    .unwrap();
    let application = rusqlite::Connection::open(source.join("app.sqlite")).unwrap();
    application.execute_batch("CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT)").unwrap();
    let tool = |arguments: &[&str]| {
        let mut command = crate::support::toolkit();
        command.args(["--database-url", &cluster.url("app")]).args(arguments);
        command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let done = |arguments: &[&str]| {
        let output = tool(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    };
    done(&["migrate", "up", "--pack", "mine", "--dir", "pack"]);
    let place = ["--pack", "pack", "--source", "source"];
    done(&[&["dual-write", "enable"][..], &place].concat());
    let mut tail =
        tool(&[&["dual-write", "run", "--interval", "5"][..], &place].concat()).spawn().unwrap();
    // A command that cannot begin says so and ends; this one has begun.
    let status = || tool(&["--format", "json", "dual-write", "status", "--pack", "pack"]).output();
    while stdout(&status().unwrap()).contains("\"tail\": null") {
        assert!(tail.try_wait().unwrap().is_none(), "it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    for n in 0..300 {
        application.execute("INSERT INTO log VALUES (?1, 'b')", [n]).unwrap();
        application.execute("DELETE FROM log WHERE id = ?1 - 50", [n]).unwrap();
        if n % 100 == 50 {
            cluster.stop(if n == 50 { "fast" } else { "immediate" });
            std::thread::sleep(Duration::from_millis(300));
            cluster.start();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(tail.try_wait().unwrap().is_none(), "it gave up");
    nix_interrupt(tail.id());
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    done(&[&["dual-write", "run", "--until-caught-up"][..], &place].concat());
    done(&[&["verify-parity", "--level", "full"][..], &place].concat());
}

#[tokio::test]
async fn a_key_that_stands_in_two_files_goes_to_the_newer_row() {
    use crate::support::backfill::Move;
    let ddl = "CREATE SCHEMA app; CREATE TABLE app.t (k text PRIMARY KEY, v text, at timestamptz)";
    let streams = "[[stream]]\nname = 't'\ntarget = 'app.t'\nkey = ['k']\n\
         conflict = { rule = 'newer', by = 'at' }\n\
         source = { sqlite = ['app.sqlite', 'old.sqlite'], table = 't' }\n\
         [stream.columns]\nk = 'k'\nv = 'v'\nat = { from = 'at', zone = 'UTC' }\n";
    let table = "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT, at TEXT);";
    let place = Move::own(ddl, streams, table).await;
    let old = rusqlite::Connection::open(place.source.join("old.sqlite")).unwrap();
    old.execute_batch(&format!(
        "{table} INSERT INTO t VALUES ('both', 'old', '2024-01-01'), ('only', 'old', '2024-01-01')"
    ))
    .unwrap();
    let new = place.sqlite();
    let postgres = toolkit::store::Postgres::connect(&place.database.settings()).await.unwrap();
    let scene = Scene { place, postgres };
    scene.enable().await;
    scene.place.backfill(0, &[]);
    for (file, sql, expected) in [
        (&new, "INSERT INTO t VALUES ('both', 'new', '2025-01-01')", "new"),
        (&old, "UPDATE t SET v = 'older', at = '2023-01-01' WHERE k = 'both'", "new"),
        (&old, "UPDATE t SET v = 'newest', at = '2026-01-01' WHERE k = 'both'", "newest"),
        (&new, "UPDATE t SET v = 'new2', at = '2025-02-01' WHERE k = 'both'", "newest"),
        (&old, "DELETE FROM t WHERE k = 'both'", "new2"),
        (&new, "DELETE FROM t WHERE k = 'both'", "no row"),
    ] {
        file.execute_batch(sql).unwrap();
        scene.catch_up(100).await;
        let held = scene.place.text("SELECT v FROM app.t WHERE k = 'both'").await;
        assert_eq!(held, expected, "{sql}");
        scene.assert_clean(sql).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_between_two_changes_loses_neither() {
    let scene = Scene::copied().await;
    let file = scene.application();
    file.execute_batch("UPDATE item SET price = 10 WHERE sku = 'a'").unwrap();
    scene.catch_up(1).await;
    let applied = "SELECT max(position)::text FROM toolkit.capture_cursor";
    let applied = scene.place.text(applied).await;
    file.execute_batch(
        "UPDATE item SET price = 11 WHERE sku = 'a'; UPDATE item SET price = 12 WHERE sku = 'a'; \
         INSERT INTO item VALUES ('late', 'Lea', 1, 40); DELETE FROM item WHERE sku = 'b'",
    )
    .unwrap();
    // Days earlier than what is applied, and each before the one it follows.
    let back = format!("UPDATE toolkit_capture_log SET at = at - seq WHERE seq > {applied}");
    assert!(file.execute(&back, []).unwrap() >= 4);
    scene.catch_up(1).await;
    let prices = "SELECT string_agg(sku || coalesce(price, 0), ' ' ORDER BY sku) FROM app.item";
    assert_eq!(scene.place.text(prices).await, "a12 c3 late1");
    scene.assert_clean("a clock set back").await;
}
