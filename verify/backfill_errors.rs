//! What stops a backfill: one paragraph, what to do about it, exit 2, nothing changed.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::unistd::{Uid, User, setfsuid};
use toolkit::source::sqlite::Database;

use crate::support::backfill::Move;
use crate::support::{TestDatabase, closed_port, stderr, stdout, toolkit};

const PACK: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"log\"\n";

async fn log() -> Move {
    Move::own(
        "CREATE TABLE public.log (id bigint PRIMARY KEY, body text)",
        PACK,
        "CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO log SELECT i, hex(randomblob(100)) FROM n",
    )
    .await
}

#[track_caller]
fn assert_refused(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{}{text}", stdout(output));
    assert_eq!(stdout(output), "", "errors belong on standard error");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(text.contains("help: "), "no advice in:\n{text}");
    assert!(text.trim().lines().count() <= 6, "more than a paragraph:\n{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

async fn assert_untouched(scene: &Move) {
    assert_eq!(scene.count("toolkit.run").await, 0);
    assert_eq!(scene.count("log").await, 0);
}

fn over(scene: &Move, source: &Path) -> Output {
    scene.command(&["backfill", "--pack", &scene.pack, "--source"]).arg(source).output().unwrap()
}

#[tokio::test]
async fn sources_that_cannot_be_read_are_named_with_advice() {
    let scene = log().await;
    assert_refused(&over(&scene, Path::new("/not/there")), &["/not/there", "--source"]);
    let empty = scene.database.folder().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_refused(&over(&scene, &empty), &["nothing of the pack `mine`", "app.sqlite"]);

    let file = empty.join("app.sqlite");
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/malformed");
    for (fixture, says) in
        [("truncated.sqlite", ""), ("not-a-database.sqlite", "is not a SQLite 3 database")]
    {
        fs::copy(fixtures.join(fixture), &file).unwrap();
        assert_refused(&over(&scene, &empty), &["app.sqlite", says]);
    }
    fs::write(&file, "just text, and a good deal of it, in a file with the wrong name\n").unwrap();
    assert_refused(&over(&scene, &empty), &["is not a SQLite 3 database", "encrypted"]);
    fs::write(&file, "").unwrap();
    assert_refused(&over(&scene, &empty), &["too short"]);

    fs::copy(scene.source.join("app.sqlite"), &file).unwrap();
    let mut damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    let middle = damaged.metadata().unwrap().len() / 2 / 4096 * 4096;
    damaged.seek(SeekFrom::Start(middle)).unwrap();
    damaged.write_all(&[0xAA; 4096]).unwrap();
    assert_refused(&over(&scene, &empty), &["damaged", ".recover"]);

    let other = rusqlite::Connection::open(empty.join("other.sqlite")).unwrap();
    other.execute_batch("CREATE TABLE something (id)").unwrap();
    fs::rename(empty.join("other.sqlite"), &file).unwrap();
    assert_refused(&over(&scene, &empty), &["no table or view `log`", "it has: something"]);
    assert_untouched(&scene).await;
}

#[tokio::test]
async fn a_file_this_user_may_not_read_is_named() {
    let scene = log().await;
    let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("app.sqlite");
    fs::copy(scene.source.join("app.sqlite"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if !Uid::effective().is_root() {
        assert_refused(&over(&scene, folder.path()), &["app.sqlite", "permission"]);
        assert_untouched(&scene).await;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let refused = std::thread::spawn(move || {
        if Uid::effective().is_root() {
            setfsuid(nobody.uid);
        }
        Database::open(&file).map(drop)
    });
    let error = refused.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), toolkit::ErrorKind::SourceUnreadable);
    assert!(error.detail().contains("Permission denied"), "{error}");
    assert!(error.advice_text().unwrap().contains("this user may read it"));
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_and_an_unmigrated_one_says_what_to_run() {
    let scene = log().await;
    let at = |url: &str| {
        toolkit()
            .args(["--database-url", url, "backfill", "--pack", &scene.pack, "--source"])
            .arg(&scene.source)
            .current_dir(scene.database.folder())
            .output()
            .unwrap()
    };
    let port = closed_port().unwrap();
    assert_refused(&at(&format!("postgres://u:hunter2@127.0.0.1:{port}/d")), &["no PostgreSQL"]);
    let (start, end) = scene.database.url().rsplit_once('@').unwrap();
    let wrong = format!("{}:hunter2@{end}", start.rsplit_once(':').unwrap().0);
    let refused = at(&wrong);
    assert_refused(&refused, &["does not let user", "password"]);
    assert!(!stderr(&refused).contains("hunter2"));
    let bare = TestDatabase::create().await;
    assert_refused(&at(bare.url()), &["toolkit migrate up"]);
    assert_untouched(&scene).await;
}

#[tokio::test]
async fn arguments_that_name_nothing_are_refused() {
    let scene = log().await;
    assert_refused(&scene.run(&["--stream", "itmes"]), &["no stream `itmes`", "items"]);
    let unknown = scene.command(&["backfill", "--pack", "nope", "--source", "."]).output().unwrap();
    assert_refused(&unknown, &["no pack `nope`", "unified"]);
    let plan = scene.run(&["--dry-run"]);
    assert_eq!(plan.status.code(), Some(0), "{}", stderr(&plan));
    assert!(stdout(&plan).contains("\"records\": 2000"), "{}", stdout(&plan));
    assert_untouched(&scene).await;
}
