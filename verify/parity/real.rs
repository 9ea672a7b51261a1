//! The real application's data, where the machine has it (`TOOLKIT_TEST_REAL_DATA` names its
//! folder): at parity, and five tamperings named.

use std::path::{Path, PathBuf};

use crate::support::world::{World, lines};

/// A tampering, its slice and column, and what the found line must begin with.
const TAMPERINGS: &[(&str, &str, &str)] = &[
    (
        "UPDATE retrieval.query_cache SET answer = overlay(answer PLACING '\u{b6}' FROM 9 FOR 1) \
         WHERE cache_key = (SELECT min(cache_key) FROM retrieval.query_cache \
         WHERE length(answer) > 20)",
        "changed retrieval.query_cache",
        " answer: ",
    ),
    (
        "DELETE FROM observability.token_usage \
         WHERE id = (SELECT min(id) FROM observability.token_usage)",
        "missing observability.token_usage",
        "",
    ),
    (
        "INSERT INTO retrieval.query_cache SELECT (q).* FROM (SELECT jsonb_populate_record(q, \
         '{\"cache_key\":\"planted\"}') AS q FROM retrieval.query_cache q LIMIT 1) AS one",
        "extra retrieval.query_cache cache_key=planted",
        "",
    ),
    (
        "UPDATE observability.token_usage SET created_at = created_at + interval '1 hour' \
         WHERE id = (SELECT max(id) FROM observability.token_usage)",
        "changed observability.token_usage",
        " created_at: ",
    ),
    (
        "UPDATE retrieval.query_cache SET paper_path = NULL WHERE paper_path = ''",
        "changed retrieval.query_cache",
        " paper_path: '' -> NULL",
    ),
];

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The data has no empty text anywhere.
fn plant_empty_text(file: &Path) {
    let file = rusqlite::Connection::open(file).unwrap();
    let planted = "UPDATE query_cache SET paper_path = '' WHERE rowid = \
                   (SELECT max(rowid) FROM query_cache)";
    assert_eq!(file.execute(planted, []).unwrap(), 1);
}

#[tokio::test]
async fn real_data_is_at_parity_and_five_tamperings_are_named() {
    let folder = std::env::var_os("TOOLKIT_TEST_REAL_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/unified"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        println!("SKIPPED: {} is not there", folder.display());
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&folder, copy.path());
    plant_empty_text(&copy.path().join("sqlite/ragonometrics_query_cache.sqlite"));
    let world = World::unified(copy.path()).await;
    world.backfill().await;
    let clean = world.assert_clean().await;
    assert!(clean.units.iter().map(|unit| unit.target_rows).sum::<u64>() > 100);
    for (tampering, ..) in TAMPERINGS {
        assert_eq!(world.sql(tampering).await, 1, "{tampering}");
    }
    let report = world.verify().await;
    let found = lines(&report.differences);
    assert_eq!((report.differing_rows, found.len()), (5, 5), "{found:#?}");
    for (tampering, head, column) in TAMPERINGS {
        let named = found.iter().filter(|line| line.starts_with(head) && line.contains(column));
        assert_eq!(named.count(), 1, "{tampering}: {found:#?}");
    }
}
