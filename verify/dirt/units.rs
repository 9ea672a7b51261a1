//! `unit = "infer"`: the unit of numeric timestamps is what most numbers of the column suggest.

use crate::support::world::World;
use crate::support::{stderr, stdout};

const TARGET: &str = "CREATE TABLE seen (id bigint PRIMARY KEY, at timestamptz, day date)";

fn pack(at: &str) -> String {
    format!(
        "[pack]\nname = \"units\"\nversion = 1\n[[stream]]\nname = \"seen\"\n\
         source = {{ sqlite = \"app.sqlite\", table = \"seen\" }}\ntarget = \"public.seen\"\n\
         key = [\"id\"]\n[stream.columns]\nid = \"id\"\n\
         at = {{ from = \"at\", {at} }}\nday = {{ from = \"day\", unit = \"infer\" }}\n"
    )
}

/// Five moments in milliseconds (as INTEGER, REAL and text), one in seconds, one of ISO text.
const SOURCE: &str = "CREATE TABLE seen (id INTEGER PRIMARY KEY, at, day);
INSERT INTO seen VALUES (1, 1751362200000, 1751328000), (2, 1751362200500.0, NULL),
    (3, '1751362200250', NULL), (4, 1751362200, NULL), (5, '2025-07-01T09:30:00Z', '2025-07-01'),
    (6, 12, NULL), (7, 1751362200001, NULL), (8, 1751362200002, NULL);";

#[tokio::test]
async fn the_unit_of_most_numbers_is_used_shown_and_recorded_and_the_others_are_refused() {
    let world = World::own(&pack("unit = \"infer\""), TARGET, SOURCE).await;
    let source = world.source.to_str().unwrap();
    let said = "unit of seen.at inferred: milliseconds (1 plausible in seconds, 5 in \
                milliseconds, 0 in microseconds, 1 in none)";
    for (arguments, code) in [
        (&["pack", "check", "--pack", &world.pack, "--source", source][..], 1),
        (&["backfill", "--pack", &world.pack, "--source", source, "--dry-run"], 0),
        (&["backfill", "--pack", &world.pack, "--source", source, "--preflight"], 1),
        (&["backfill", "--pack", &world.pack, "--source", source], 1),
    ] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        let text = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let recorded = "SELECT settings -> 'inferred_units' -> 0 ->> 'unit' FROM toolkit.run";
    assert_eq!(world.text(recorded).await, "ms");
    let reject = "SELECT string_agg(locator || ' ' || reason, ', ') FROM toolkit.reject";
    assert_eq!(world.text(reject).await, "rowid 4 mixed_units");
    let stored = "SELECT string_agg(id || ' ' || (extract(epoch FROM at)::numeric * 1000)::bigint, \
                  ', ' ORDER BY id) FROM seen";
    let wanted = "1 1751362200000, 2 1751362200500, 3 1751362200250, 5 1751362200000, 6 12, \
                  7 1751362200001, 8 1751362200002";
    assert_eq!(world.text(stored).await, wanted);
    let days = "SELECT string_agg(DISTINCT day::text, ',') FROM seen";
    assert_eq!(world.text(days).await, "2025-07-01");
    world.assert_clean().await;
}

#[tokio::test]
async fn parity_reads_numbers_as_the_load_did_even_when_most_have_changed_since() {
    let world = World::own(&pack("unit = \"infer\""), TARGET, SOURCE).await;
    world.backfill().await;
    let flood: Vec<String> = (100..120).map(|id| format!("({id}, 17513622{id}, NULL)")).collect();
    world.sqlite(&format!("INSERT INTO seen VALUES {}", flood.join(", ")));
    let output = world.verify_parity(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // The new ones alone, refused and not recorded: none of the loaded rows differs.
    assert_eq!(report["differing_rows"], 20, "{report}");
}

#[tokio::test]
async fn mixed_units_are_kept_where_the_pack_says_so() {
    let at = "unit = \"s\", on = { mixed_units = \"keep\" }";
    let world = World::own(&pack(at), TARGET, SOURCE).await;
    world.backfill().await;
    let far = "SELECT at::text FROM seen WHERE id = 1";
    assert!(world.text(far).await.starts_with("57468-"), "{}", world.text(far).await);
    assert_eq!(
        world.text("SELECT at::text FROM seen WHERE id = 4").await,
        "2025-07-01 09:30:00+00"
    );
    world.assert_clean().await;
}

#[tokio::test]
async fn a_column_that_speaks_for_no_unit_refuses_its_numbers() {
    let source = "CREATE TABLE seen (id INTEGER PRIMARY KEY, at, day);
        INSERT INTO seen VALUES (1, 1751362200000, NULL), (2, 1751362200, NULL), (3, NULL, 12);";
    let world = World::own(&pack("unit = \"infer\""), TARGET, source).await;
    let report = world.backfill().await;
    assert_eq!(report.rejects, 3);
    assert_eq!(report.inferred_units[0].unit, None);
    assert!(report.inferred_units[0].sentence().contains("cannot be inferred"));
    world.assert_clean().await;
}
