//! The real application's data, where the machine has it: at parity, and five tamperings named.

use std::path::Path;

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
        "UPDATE retrieval.query_cache SET paper_path = NULL \
         WHERE cache_key = (SELECT max(cache_key) FROM retrieval.query_cache WHERE cache_key < 'p')",
        "changed retrieval.query_cache",
        " paper_path: ",
    ),
];

#[tokio::test]
async fn real_data_is_at_parity_and_five_tamperings_are_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/unified");
    if !folder.is_dir() {
        println!("SKIPPED: {} is not there", folder.display());
        return;
    }
    let world = World::unified(&folder).await;
    world.backfill().await;
    let clean = world.assert_clean().await;
    assert!(clean.units.iter().map(|unit| unit.target_rows).sum::<u64>() > 100);
    for (tampering, head, column) in TAMPERINGS {
        assert_eq!(world.sql(tampering).await, 1, "{tampering}");
        let found = lines(&world.verify().await.differences);
        let new = found.iter().filter(|line| line.starts_with(head) && line.contains(column));
        assert_eq!(new.count(), 1, "{tampering}: {found:#?}");
    }
    assert_eq!(world.verify().await.differing_rows, 5);
}
