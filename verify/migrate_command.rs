//! `toolkit migrate` as a person or a script runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::support::{TestDatabase, stderr, stdout, toolkit};

fn migrate(database: &TestDatabase, arguments: &[&str]) -> Output {
    toolkit()
        .args(["--database-url", database.url()])
        .args(arguments)
        .current_dir(database.folder())
        .output()
        .expect("toolkit")
}

#[tokio::test]
async fn status_is_1_until_up_is_done_and_a_second_up_says_that_nothing_was_changed() {
    let database = TestDatabase::create().await;
    let pending = migrate(&database, &["migrate", "status"]);
    assert_eq!(pending.status.code(), Some(1), "{}", stderr(&pending));
    assert!(stdout(&pending).contains("pack unified: pending"), "{}", stdout(&pending));

    let plan = migrate(&database, &["--format", "json", "migrate", "plan"]);
    let dry = migrate(&database, &["--format", "json", "migrate", "up", "--dry-run"]);
    assert_eq!(stdout(&plan), stdout(&dry), "a dry run prints the very plan");
    let plan: Value = serde_json::from_str(&stdout(&plan)).expect("JSON");
    assert_eq!(plan["packs"][0]["pack"], "toolkit");
    let packs = plan["packs"].as_array().expect("packs");
    let unified = packs.iter().find(|pack| pack["pack"] == "unified").expect("unified");
    assert_eq!(unified["pending"].as_array().expect("pending").len(), 7);
    assert_eq!(migrate(&database, &["migrate", "status"]).status.code(), Some(1), "still pending");

    let first = migrate(&database, &["migrate", "up"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("pack unified: applied V4__workflow.sql"));
    let second = migrate(&database, &["migrate", "up"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    assert!(stdout(&second).contains("nothing was changed"), "{}", stdout(&second));

    let status = migrate(&database, &["--format", "json", "migrate", "status"]);
    assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
    let status: Value = serde_json::from_str(&stdout(&status)).expect("JSON");
    assert_eq!(status["is_current"], true);
    assert_eq!(status["packs"][1]["entries"][0]["state"], "applied");
}

#[tokio::test]
async fn a_pack_of_ones_own_is_migrated_from_its_folder_and_refused_once_edited() {
    let database = TestDatabase::create().await;
    let file = database.folder().join("V1__mine.sql");
    fs::write(&file, "CREATE TABLE public.mine ();\n").expect("write");
    let folder = database.folder().to_str().expect("UTF-8");
    let up = ["migrate", "up", "--pack", "mine", "--dir", folder];
    let first = migrate(&database, &up);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("pack toolkit: applied V1__control.sql"));
    assert!(stdout(&first).contains("pack mine: applied V1__mine.sql"));

    fs::write(&file, "CREATE TABLE public.mine ();\r\n").expect("write");
    assert_eq!(migrate(&database, &up).status.code(), Some(0), "line endings do not matter");
    fs::write(&file, "CREATE TABLE public.other ();\n").expect("write");
    let refused = migrate(&database, &up);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("V1 (mine)"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("help: restore V1__mine.sql"), "{}", stderr(&refused));
    let status = migrate(&database, &["migrate", "status", "--pack", "mine", "--dir", folder]);
    assert_eq!(status.status.code(), Some(1));
    assert!(stdout(&status).contains("divergent"), "{}", stdout(&status));
}

#[tokio::test]
async fn a_migrator_killed_in_a_migration_leaves_nothing_of_it_and_no_lock() {
    let database = TestDatabase::create().await;
    let sql = "CREATE TABLE public.half (); SELECT pg_sleep(2); CREATE TABLE public.whole ()";
    fs::write(database.folder().join("V1__slow.sql"), sql).expect("write");
    let arguments = ["migrate", "up", "--pack", "mine", "--dir"];
    let mut child = toolkit()
        .args(["--database-url", database.url()])
        .args(arguments)
        .arg(database.folder())
        .spawn()
        .expect("toolkit");
    let mut connection = PgConnection::connect(database.url()).await.expect("connect");
    let sleeping = "SELECT count(*) FROM pg_stat_activity \
                    WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while sqlx::query_scalar::<_, i64>(sleeping).fetch_one(&mut connection).await.expect("look")
        == 0
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().expect("kill");
    child.wait().expect("wait");

    // The server session ends when its statement does; until then it holds the lock, rightly.
    let folder = database.folder().to_str().expect("UTF-8");
    let again = migrate(&database, &[arguments.as_slice(), &[folder]].concat());
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stdout(&again).contains("applied V1__slow.sql"), "{}", stdout(&again));
}

#[test]
#[expect(clippy::print_stderr, reason = "a test says which versions it could not try")]
fn the_schemas_are_made_on_every_postgres_major_this_machine_has() {
    let found = server_folders();
    if found.len() < 2 {
        eprintln!("other majors skipped: this machine has PostgreSQL programs in {found:?} only");
    }
    for programs in found {
        // The server's own user passes through.
        let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").expect("folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("mode");
        let run = |arguments: &[&str]| {
            let output = toolkit()
                .arg("--state-dir")
                .arg(folder.path().join("state"))
                .args(arguments)
                .env("TOOLKIT_POSTGRES_BIN_DIR", &programs)
                .current_dir(folder.path())
                .output()
                .expect("toolkit");
            assert_eq!(
                output.status.code(),
                Some(0),
                "{} {arguments:?}: {}",
                programs.display(),
                stderr(&output)
            );
            stdout(&output)
        };
        assert!(run(&["migrate", "up"]).contains("pack unified: applied V7__compression.sql"));
        assert!(run(&["migrate", "up"]).contains("nothing was changed"));
        let month = "SELECT observability.ensure_token_usage_partition('2026-02-01')";
        run(&["embedded", "psql", "--", "-Atc", month]);
    }
}

/// Folders with a server's programs where distributions put one per major version.
fn server_folders() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| Path::new(bin).join("initdb").exists())
        .collect();
    found.sort();
    found
}
