//! Archives that are not what they were.

use std::fs;
use std::path::Path;

use super::{done, execute, own, run, text};
use crate::support::{TestDatabase, stderr};

const MIGRATION: &str = "CREATE SCHEMA own; CREATE TABLE own.t (id int PRIMARY KEY, v text);";
const ROWS: &str = "INSERT INTO own.t VALUES (1, 'one'), (2, NULL), (3, '')";
const DATA: &str = "data/001-own.t.jsonl";

type Damage = fn(&Path);

fn edit(folder: &Path, name: &str, from: &str, to: &str) {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Lets the digests say what the manifest says, as a careful forger would.
fn agree(folder: &Path) {
    use sha2::{Digest as _, Sha256};
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert!(sums.contains("manifest.json"));
    let mut lines = String::new();
    for file in manifest["files"].as_array().unwrap() {
        let part = |name: &str| file[name].as_str().unwrap();
        lines.push_str(&format!("{}  {}\n", part("sha256"), part("name")));
    }
    let own = Sha256::digest(fs::read(folder.join("manifest.json")).unwrap());
    lines.push_str(&format!("{}  manifest.json\n", hex::encode(own)));
    fs::write(folder.join("SHA256SUMS"), lines).unwrap();
}

const CASES: &[(&str, Damage, &str)] = &[
    ("a changed byte", |f| edit(f, DATA, "one", "two"), "was changed: its SHA-256"),
    (
        "a truncated file",
        |f| {
            let bytes = fs::read(f.join(DATA)).unwrap();
            fs::write(f.join(DATA), &bytes[..bytes.len() / 2]).unwrap();
        },
        "bytes, and had",
    ),
    ("a missing file", |f| fs::remove_file(f.join(DATA)).unwrap(), "is missing"),
    ("no manifest", |f| fs::remove_file(f.join("manifest.json")).unwrap(), "has no manifest.json"),
    ("an empty manifest", |f| fs::write(f.join("manifest.json"), "").unwrap(), "is no manifest"),
    ("no digests", |f| fs::remove_file(f.join("SHA256SUMS")).unwrap(), "is missing"),
    (
        "an edited manifest",
        |f| edit(f, "manifest.json", "\"rows\": 3", "\"rows\": 4"),
        "do not agree",
    ),
    (
        "a count that is wrong",
        |f| {
            edit(f, "manifest.json", "\"rows\": 3", "\"rows\": 4");
            agree(f);
        },
        "has 3 rows, not 4",
    ),
    (
        "another version",
        |f| {
            edit(f, "manifest.json", "\"archive_version\": 2", "\"archive_version\": 3");
            agree(f);
        },
        "the archive has version 3",
    ),
    (
        "a name that leads out",
        |f| {
            fs::copy(f.join(DATA), f.parent().unwrap().join("outside")).unwrap();
            let text = fs::read_to_string(f.join("manifest.json")).unwrap();
            fs::write(f.join("manifest.json"), text.replace(DATA, "data/../../outside")).unwrap();
            agree(f);
        },
        "no path inside the archive",
    ),
    (
        "a link",
        |f| {
            fs::rename(f.join(DATA), f.parent().unwrap().join("linked")).unwrap();
            std::os::unix::fs::symlink(f.parent().unwrap().join("linked"), f.join(DATA)).unwrap();
        },
        "is a symbolic link",
    ),
    (
        "a folder that is a link",
        |f| {
            let aside = f.parent().unwrap().join("aside");
            fs::rename(f.join("data"), &aside).unwrap();
            std::os::unix::fs::symlink(aside, f.join("data")).unwrap();
        },
        "is a symbolic link",
    ),
    (
        "another pack.toml",
        |f| edit(f, "pack/pack.toml", "version = 1", "version = 2"),
        "its SHA-256",
    ),
    (
        "another version of the pack in the manifest",
        |f| {
            edit(f, "manifest.json", "\"version\": 1", "\"version\": 2");
            agree(f);
        },
        "is not of version 2",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_was_changed_in_any_way_is_refused_before_anything_is_written() {
    let from = own(MIGRATION, &[("own.t", "id")], ROWS).await;
    let pack = from.folder().join("pack");
    let archive = from.folder().join("archive");
    done(&from, &["export", "--pack", pack.to_str().unwrap(), "--out", archive.to_str().unwrap()]);
    let to = TestDatabase::create().await;
    for (name, damage, said) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        for (path, bytes) in super::files(&archive) {
            let path = copy.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        damage(&copy);
        let refused = run(&to, &["import", copy.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2), "{name}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{name}: {}", stderr(&refused));
    }
    assert_eq!(text(&to, "SELECT to_regnamespace('own')::text").await, "NULL");
    assert_eq!(text(&to, "SELECT to_regnamespace('toolkit')::text").await, "NULL");
    // Files that nobody lists are not looked at, migrations among them.
    fs::write(archive.join("pack/V2__more.sql"), "DROP SCHEMA own CASCADE").unwrap();
    assert_eq!(done(&to, &["import", archive.to_str().unwrap()])["rows"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_another_version_of_the_pack_or_another_table_is_refused() {
    let from = own(MIGRATION, &[("own.t", "id")], ROWS).await;
    let pack = from.folder().join("pack");
    let archive = from.folder().join("archive");
    done(&from, &["export", "--pack", pack.to_str().unwrap(), "--out", archive.to_str().unwrap()]);
    let archive = archive.to_str().unwrap();

    let newer = own(MIGRATION, &[("own.t", "id")], "SELECT 1").await;
    let folder = newer.folder().join("pack");
    fs::write(folder.join("V2__more.sql"), "ALTER TABLE own.t ADD COLUMN w int").unwrap();
    done(&newer, &["migrate", "up", "--pack", "own", "--dir", folder.to_str().unwrap()]);
    let refused = run(&newer, &["import", archive]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("V2 (more)"), "{}", stderr(&refused));

    let drifted =
        own(MIGRATION, &[("own.t", "id")], "ALTER TABLE own.t ALTER v TYPE varchar").await;
    let refused = run(&drifted, &["import", archive]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("own.t.v is character varying"), "{}", stderr(&refused));

    let foreign = TestDatabase::create().await;
    execute(&foreign, "CREATE SCHEMA own; CREATE TABLE own.t (id int PRIMARY KEY, v text)").await;
    execute(&foreign, "INSERT INTO own.t VALUES (9, 'mine')").await;
    let refused = run(&foreign, &["import", archive]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("own.t holds rows"), "{}", stderr(&refused));
}
