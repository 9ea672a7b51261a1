//! `toolkit demo`: the whole job on generated data, by itself, for whoever starts it.
//! `TOOLKIT_TEST_DEMO_SEEDS` tells more of its stories.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::{Uid, User};

use crate::support::{binary, cleaned, copy_program, stderr, stdout};

/// Holds a finished demo to its story; what it leaves behind is nothing.
fn hold(done: &Output, seed: u64) {
    let told = stdout(done);
    assert_eq!(done.status.code(), Some(0), "seed {seed}: {}\n{told}", stderr(done));
    let verdicts: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("PARITY: ") || line.starts_with("DIFFERENCES: "))
        .collect();
    assert_eq!(verdicts.len(), 4, "seed {seed}: {told}");
    assert!(verdicts[3].starts_with("PARITY: Postgres agrees in "), "seed {seed}: {told}");
    assert!(verdicts[0].starts_with("PARITY: all "), "seed {seed}: {told}");
    assert!(verdicts[1].starts_with("DIFFERENCES: 3 rows differ "), "seed {seed}: {told}");
    assert!(verdicts[2].starts_with("PARITY: all "), "seed {seed}: {told}");
    let named = |kind: &str| told.lines().filter(|line| line.starts_with(kind)).count();
    assert_eq!((named("CHANGED "), named("MISSING "), named("EXTRA ")), (2, 1, 0), "{told}");
    let after_verdict = told.rsplit("PARITY: Postgres agrees ").next().unwrap();
    assert!(after_verdict.lines().count() < 10, "the verdict ends the story: {after_verdict}");
    assert!(!told.contains("hunter"), "seed {seed}: a secret was printed");

    let scratch = scratch_of(&told);
    assert!(!scratch.exists(), "{} is left", scratch.display());
    assert_eq!(processes_naming(&scratch), Vec::<String>::new(), "a server is left");
}

/// The folder the demo says it works in.
fn scratch_of(told: &str) -> PathBuf {
    let (_, rest) = told.split_once(" in /").expect("the demo names its folder");
    let app = format!("/{}", rest.split_once(')').unwrap().0);
    let scratch = Path::new(&app).parent().unwrap().to_path_buf();
    assert!(scratch.file_name().unwrap().to_string_lossy().starts_with("toolkit-demo-"));
    scratch
}

/// Command lines and working directories that mention the folder.
fn processes_naming(folder: &Path) -> Vec<String> {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let line = fs::read(process.path().join("cmdline")).ok()?;
            let here = fs::read_link(process.path().join("cwd")).unwrap_or_default();
            let text = format!("{} {}", String::from_utf8_lossy(&line), here.display());
            text.contains(&name).then_some(text)
        })
        .collect()
}

fn demo(folder: &Path, seed: u64) -> Output {
    let mut command = cleaned(Command::new(binary()));
    let seed = seed.to_string();
    command.args(["demo", "--seed", &seed]).current_dir(folder).output().expect("toolkit")
}

#[test]
fn the_demo_finds_exactly_its_three_rows_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let last = std::env::var("TOOLKIT_TEST_DEMO_SEEDS")
        .map_or(2, |text| text.parse().expect("TOOLKIT_TEST_DEMO_SEEDS is a number"));
    for seed in 1..=last {
        hold(&demo(folder.path(), seed), seed);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_ordinary_user_sees_the_same_demo_as_root() {
    if !Uid::effective().is_root() {
        println!("SKIPPED: only root can become another user; the other test is this one's");
        return;
    }
    let user = User::from_name("nobody").ok().flatten().expect("a user nobody");
    let folder = tempfile::Builder::new().prefix("verify-").tempdir_in("/tmp").unwrap();
    // The build's own folder may be closed to others.
    let program = folder.path().join("toolkit");
    copy_program(&binary(), &program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    let mut command = cleaned(Command::new(&program));
    let done = command
        .args(["demo", "--seed", "4"])
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env_remove("TMPDIR")
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .output()
        .expect("toolkit");
    hold(&done, 4);
}
