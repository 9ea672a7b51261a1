//! Sources and surroundings that are not what they should be: one clear error, exit 2, no panic,
//! nothing waited for that never comes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::backfill::{Move, Report};
use crate::support::{stderr, stdout};

const STREAMS: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.log\"\nkey = [\"id\"]\n\
    [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"log\"\n\
    [[stream]]\nname = \"documents\"\ntarget = \"public.document\"\nkey = [\"id\"]\n\
    source = { json = \"*.json\" }\n\
    [stream.columns]\nid = { from = \"/id\" }\n";

const TABLES: &str = "CREATE TABLE public.log (id bigint PRIMARY KEY, body text);
    CREATE TABLE public.document (id bigint PRIMARY KEY)";

const LOG: &str = "CREATE TABLE log (id INTEGER PRIMARY KEY, body TEXT);
    INSERT INTO log VALUES (1, 'one'), (2, 'two')";

async fn scene() -> Move {
    Move::own(TABLES, STREAMS, LOG).await
}

/// A folder of this name beside the source.
fn folder(scene: &Move, name: impl AsRef<OsStr>) -> PathBuf {
    let folder = scene.database.folder().join(Path::new(name.as_ref()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn backfill(scene: &Move, sources: &[&Path], more: &[&str]) -> Output {
    let arguments = ["--format", "json", "backfill", "--pack", scene.pack.as_str()];
    let mut command = scene.command(&arguments);
    for source in sources {
        command.arg("--source").arg(source);
    }
    command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.spawn().unwrap())
}

/// What a command said; one that waits for something that never comes is a failure.
fn ended(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_mins(1) {
            child.kill().unwrap();
            panic!("hangs");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{}{text}", stdout(output));
    assert!(!text.contains("panicked"), "{text}");
    assert!(text.contains("help: "), "no advice in:\n{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_named_and_never_waited_for() {
    let scene = scene().await;
    for (name, file) in [("pipes", "app.sqlite"), ("json pipes", "a.json")] {
        let pipe = folder(&scene, name).join(file);
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for source in [pipe.as_path(), pipe.parent().unwrap()] {
            assert_refused(&backfill(&scene, &[source], &[]), &[file, "a pipe"]);
        }
    }
    let links = folder(&scene, "links");
    symlink(scene.database.folder().join("pipes/app.sqlite"), links.join("app.sqlite")).unwrap();
    assert_refused(&backfill(&scene, &[&links], &[]), &["app.sqlite", "a pipe"]);
    let devices = folder(&scene, "devices");
    symlink("/dev/zero", devices.join("a.json")).unwrap();
    assert_refused(&backfill(&scene, &[&devices], &[]), &["a.json", "device"]);
    let folders = folder(&scene, "folders");
    symlink("/tmp", folders.join("a.json")).unwrap();
    assert_refused(&backfill(&scene, &[&folders], &[]), &["a.json", "a folder"]);
    let sockets = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap();
    let _socket = UnixListener::bind(sockets.path().join("app.sqlite")).unwrap();
    assert_refused(&backfill(&scene, &[sockets.path()], &[]), &["app.sqlite", "a socket"]);
    let loops = folder(&scene, "loops");
    symlink("app.sqlite", loops.join("app.sqlite")).unwrap();
    symlink(".", loops.join("itself")).unwrap();
    assert_refused(&backfill(&scene, &[&loops], &[]), &["app.sqlite", "symbolic links"]);
    let empty = folder(&scene, "empty");
    rusqlite::Connection::open(empty.join("app.sqlite")).unwrap().execute_batch("VACUUM").unwrap();
    assert_refused(&backfill(&scene, &[&empty], &[]), &["app.sqlite"]);
    assert_eq!(scene.count("toolkit.run").await, 0);
}

#[tokio::test]
async fn documents_whose_names_are_no_text_are_all_read_whatever_the_chunks() {
    let scene = scene().await;
    let documents = folder(&scene, "documents");
    for (id, name) in [b"a\xff.json", b"a\xfe.json", b"a\xfd.json"].into_iter().enumerate() {
        let file = documents.join(OsStr::from_bytes(name));
        fs::write(file, format!("{{\"id\": {id}}}")).unwrap();
    }
    for inserted in [3, 0] {
        let output = backfill(&scene, &[&documents], &["--chunk-records", "1"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report = Report::of(&output);
        assert_eq!(report.read("documents"), 3);
        assert_eq!(report.records("documents", "inserted"), inserted);
    }
    assert_eq!(scene.count("document").await, 3);
}

#[tokio::test]
async fn documents_of_one_name_in_two_sources_are_refused_and_one_source_named_twice_is_one() {
    let scene = scene().await;
    let (one, other) = (folder(&scene, "one"), folder(&scene, "other"));
    fs::write(one.join("r.json"), "{\"id\": 1}").unwrap();
    fs::write(other.join("r.json"), "{\"id\": 2}").unwrap();
    let refused = backfill(&scene, &[&one, &other], &["--chunk-records", "1"]);
    assert_refused(&refused, &["two documents are called r.json", "one/r.json", "other/r.json"]);
    assert_eq!(scene.count("toolkit.run").await, 0);

    let above = scene.database.folder().join("other/../one");
    let file = one.join("r.json");
    let output = backfill(&scene, &[&one, &above, &file], &["--chunk-records", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(Report::of(&output).read("documents"), 1);
}

#[tokio::test]
async fn any_path_that_can_be_is_read_and_one_too_long_for_sqlite_is_said() {
    let scene = scene().await;
    let names: [&[u8]; 4] = [b"spa ce?#%20'\"", b"new\nline", b"b\xffyte", b"-dash"];
    for name in names {
        let place = folder(&scene, OsStr::from_bytes(name));
        fs::copy(scene.source.join("app.sqlite"), place.join("app.sqlite")).unwrap();
        // Both kinds of journal, read in place and from a copy.
        for mode in ["DELETE", "WAL"] {
            let file = rusqlite::Connection::open(place.join("app.sqlite")).unwrap();
            let set: String = file
                .query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0))
                .unwrap();
            assert!(set.eq_ignore_ascii_case(mode));
            drop(file);
            let output = backfill(&scene, &[&place], &[]);
            assert_eq!(output.status.code(), Some(0), "{place:?}: {}", stderr(&output));
            assert_eq!(Report::of(&output).read("items"), 2);
        }
    }
    let deep = folder(&scene, vec!["d".repeat(200); 4].join("/"));
    fs::copy(scene.source.join("app.sqlite"), deep.join("app.sqlite")).unwrap();
    let refused = backfill(&scene, &[&deep], &[]);
    assert_refused(&refused, &["longer than SQLite can open", "shorter"]);
}

#[tokio::test]
async fn a_control_schema_that_lost_a_table_is_named_with_advice() {
    let scene = scene().await;
    scene.execute("DROP TABLE toolkit.chunk CASCADE").await;
    assert_refused(&scene.run(&[]), &["toolkit.chunk", "toolkit migrate status"]);
    assert_eq!(scene.count("log").await, 0);
}

#[tokio::test]
async fn a_run_row_that_was_edited_by_hand_is_not_taken_for_the_run_it_was() {
    let scene = scene().await;
    scene.backfill(0, &[]);
    for (edit, says) in [
        ("settings = '[]'", "pack_fingerprint"),
        ("inputs = '{\"no\": 1}'", "is new"),
        ("pack_version = 7, settings = '{}'", "pack_version"),
    ] {
        scene.execute(&format!("UPDATE toolkit.run SET status = 'failed', {edit}")).await;
        assert_refused(&scene.run(&[]), &["unfinished", says, "--restart"]);
    }
    let report = scene.backfill(0, &["--restart"]);
    assert_eq!(report.records("items", "unchanged"), 2);
}

#[tokio::test]
async fn a_folder_for_state_or_scratch_that_cannot_be_is_named() {
    let scene = scene().await;
    let file = rusqlite::Connection::open(scene.source.join("app.sqlite")).unwrap();
    let _: String = file.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    drop(file);
    let run = |name: &str| {
        let mut command = scene.backfill_command(&[]);
        command.env(name, "/dev/null/folder").stdin(Stdio::null());
        ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    assert_refused(&run("TOOLKIT_STATE_DIR"), &["/dev/null/folder", "--state-dir"]);
    assert_eq!(scene.count("toolkit.run").await, 0);
    // Without a copy the closed WAL file is read where it is, and that is said.
    let without_scratch = run("TMPDIR");
    assert_eq!(without_scratch.status.code(), Some(0), "{}", stderr(&without_scratch));
    assert!(stderr(&without_scratch).contains("scratch has no room"));
}
