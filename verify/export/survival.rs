//! Exports and imports that are ended anywhere.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use toolkit::ErrorKind;
use toolkit::export::{DataFormat, Event, ExportOptions, export, open};
use toolkit::interrupt::Stop;
use toolkit::migrate::from_directory;
use toolkit::pack::Pack;
use toolkit::store::Postgres;

use super::{assert_same, command, done, execute, own, run, text};
use crate::support::{TestDatabase, stderr};

const MIGRATION: &str = "CREATE SCHEMA own;
CREATE TABLE own.a (id int PRIMARY KEY, v text);
CREATE TABLE own.b (id int PRIMARY KEY, a int REFERENCES own.a, v numeric);
CREATE TABLE own.c (id int PRIMARY KEY, v text);";

const ROWS: &str =
    "INSERT INTO own.a SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 8000) n;
INSERT INTO own.b SELECT n, n, n + 0.50 FROM generate_series(1, 8000) n;
INSERT INTO own.c SELECT n, md5(n::text) FROM generate_series(1, 8000) n";

const TARGETS: &[(&str, &str)] = &[("own.a", "id"), ("own.b", "id"), ("own.c", "id")];

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_stopped_keeps_the_files_of_tables_that_did_not_change() {
    let database = own(MIGRATION, TARGETS, ROWS).await;
    let folder = database.folder().join("pack");
    let set = from_directory("own", &folder).unwrap();
    let pack = Pack::find(folder.to_str().unwrap()).unwrap();
    let postgres = Postgres::connect(&database.settings()).await.unwrap();
    let options = ExportOptions {
        folder: database.folder().join("archive"),
        format: DataFormat::Jsonl,
        overwrite: false,
        sidecar: None,
    };
    let (stop, begun) = (Stop::new(), Mutex::new(0));
    let mut conn = postgres.dedicated().await.unwrap();
    let stopped = export(&mut conn, &pack, Some(&set), &options, &stop, &|event| {
        if matches!(event, Event::Table { .. }) {
            *begun.lock().unwrap() += 1;
            if *begun.lock().unwrap() == 3 {
                stop.request();
            }
        }
    })
    .await;
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    let no_archive = open(&options.folder, &Stop::new()).unwrap_err();
    assert_eq!(no_archive.kind(), ErrorKind::SourceMissing);

    // Parity takes this for no difference, and an archive does.
    execute(&database, "UPDATE own.b SET v = 1.5000 WHERE id = 1").await;
    let mut conn = postgres.dedicated().await.unwrap();
    let exported = export(&mut conn, &pack, Some(&set), &options, &Stop::new(), &|_| ()).await;
    let kept: Vec<bool> = exported.unwrap().tables.iter().map(|table| table.kept).collect();
    assert_eq!(kept, [true, false, false]);
    let whole = ExportOptions { folder: database.folder().join("whole"), ..options.clone() };
    let mut conn = postgres.dedicated().await.unwrap();
    export(&mut conn, &pack, Some(&set), &whole, &Stop::new(), &|_| ()).await.unwrap();
    assert_same(&options.folder, &whole.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_hold_something_else_are_left_alone() {
    let database = own(MIGRATION, TARGETS, "INSERT INTO own.a VALUES (1, 'x')").await;
    let pack = database.folder().join("pack");
    let export = |out: &str, more: &[&str]| {
        let arguments = ["export", "--pack", pack.to_str().unwrap(), "--out", out];
        run(&database, &[&arguments[..], more].concat())
    };
    let out = database.folder().join("out");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("mine.txt"), "mine").unwrap();
    let refused = export("out", &["--overwrite"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("is not empty, and holds no archive"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);

    assert!(export("archive", &[]).status.success());
    let refused = export("archive", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--overwrite"), "{}", stderr(&refused));
    execute(&database, "UPDATE own.a SET v = 'y'").await;
    assert!(export("archive", &["--overwrite", "--as", "csv"]).status.success());
    let data = fs::read_to_string(database.folder().join("archive/data/001-own.a.csv")).unwrap();
    assert_eq!(data, "id,v\n1,y\n");
    assert!(!database.folder().join("archive/data/001-own.a.jsonl").exists());

    let unwritable = export("out/mine.txt/archive", &[]);
    assert_eq!(unwritable.status.code(), Some(2));
    assert!(stderr(&unwritable).contains("out/mine.txt/archive"), "{}", stderr(&unwritable));
}

/// Runs a command and kills it after a while.
fn killed(database: &TestDatabase, arguments: &[&str], after: Duration) {
    let mut child = command(database, arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let _ = child.kill();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_an_export_and_an_import_reach_the_same_end_when_run_again() {
    let from = own(MIGRATION, TARGETS, ROWS).await;
    let pack = from.folder().join("pack");
    let whole = from.folder().join("whole");
    let export = |out: &Path| {
        ["export", "--pack", pack.to_str().unwrap(), "--out", out.to_str().unwrap()]
            .map(str::to_owned)
    };
    let began = Instant::now();
    let arguments = export(&whole);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    done(&from, &arguments);
    let undisturbed = began.elapsed();
    for part in [2_u32, 4] {
        let out = from.folder().join(format!("killed{part}"));
        let arguments = export(&out);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        killed(&from, &arguments, undisturbed * part / 6);
        // The manifest is written last: with it, the blow came too late.
        if out.join("manifest.json").exists() {
            continue;
        }
        done(&from, &arguments);
        assert_same(&whole, &out);
    }
    let archive = whole.to_str().unwrap();
    let first = TestDatabase::create().await;
    let began = Instant::now();
    done(&first, &["import", archive]);
    let undisturbed = began.elapsed();
    for part in [2_u32, 4] {
        let to = TestDatabase::create().await;
        killed(&to, &["import", archive], undisturbed * part / 6);
        // The server takes a moment to see that a client is gone.
        let mut imported = run(&to, &["import", archive]);
        for _ in 0..40 {
            if imported.status.success() {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
            imported = run(&to, &["import", archive]);
        }
        assert!(imported.status.success(), "{}", stderr(&imported));
        let out = to.folder().join("out");
        let arguments = export(&out);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        done(&to, &arguments);
        assert_same(&whole, &out);
        assert_eq!(text(&to, "SELECT count(*)::text FROM own.b").await, "8000");
    }
}
