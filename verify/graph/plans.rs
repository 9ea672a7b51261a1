//! Every statement of the tool can be prepared against a migrated database, and those of the
//! primitives read indexes alone, whatever the statistics say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sqlx::Executor as _;
use toolkit::store::sql;
use toolkit::{graph, migrate};

use super::scene::{self, id};
use crate::support::world::World;

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            found.insert(path);
        }
    }
    found
}

/// Files whose statement names what only their caller knows: templates, whose identifiers are put
/// in, and statements on tables of a moment.
const NOT_ALONE: &[&str] = &[
    "anime/keep_edges.sql",
    "anime/move_edges.sql",
    "anime/rank_edges.sql",
    "capture/remember.sql",
    "demo/tamper.sql",
    "migration_step.sql",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_file_can_be_prepared_against_a_migrated_database() {
    let world = World::builtin("anime", Path::new("nowhere")).await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let others = ["unified", "webtoon"];
    migrate::up(&mut connection, &others, &migrate::Options::default()).await.unwrap();
    world.sql(include_str!("../../migrations/media/V1__media.sql")).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
    let mut failed = Vec::new();
    let mut prepared = 0;
    for path in files(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        match connection.prepare(sqlx::SqlSafeStr::into_sql_str(sql(text))).await {
            Ok(_) => prepared += 1,
            Err(error) if !NOT_ALONE.contains(&name.as_str()) => {
                failed.push(format!("{name}: {error}"));
            }
            Err(_) => {}
        }
    }
    assert!(failed.is_empty() && prepared > 60, "{prepared} prepared\n{}", failed.join("\n"));
}

/// The primitives' statements with their arguments, as psql would take them.
fn statements() -> Vec<(&'static str, &'static str, String)> {
    let (a, b) = (graph::generate::anime(0), graph::generate::anime(1));
    vec![
        ("k_hop", include_str!("../../src/sql/graph/k_hop.sql"), format!("'{a}', 5, 50, 50")),
        (
            "k_hop_typed",
            include_str!("../../src/sql/graph/k_hop_typed.sql"),
            format!("'{a}', 5, 50, 50, ARRAY['OTHER', 'SEQUEL', 'co_appears', 'same_studio']"),
        ),
        (
            "path_step",
            include_str!("../../src/sql/graph/path_step.sql"),
            format!("ARRAY['{a}', '{b}']::uuid[], 60000"),
        ),
        (
            "path_step_typed",
            include_str!("../../src/sql/graph/path_step_typed.sql"),
            format!("ARRAY['{a}']::uuid[], 60000, ARRAY['<studio', 'SEQUEL', 'same_studio']"),
        ),
        (
            "path_size",
            include_str!("../../src/sql/graph/path_size.sql"),
            format!("ARRAY['{a}', '{b}']::uuid[], 60000"),
        ),
        (
            "path_size_typed",
            include_str!("../../src/sql/graph/path_size_typed.sql"),
            format!("ARRAY['{a}']::uuid[], 60000, ARRAY['<studio', 'SEQUEL', 'same_studio']"),
        ),
        (
            "path_meet",
            include_str!("../../src/sql/graph/path_meet.sql"),
            format!("ARRAY['{a}']::uuid[], ARRAY['{b}']::uuid[], 60000"),
        ),
        (
            "path_meet_typed",
            include_str!("../../src/sql/graph/path_meet_typed.sql"),
            format!(
                "ARRAY['{a}']::uuid[], ARRAY['{b}']::uuid[], 60000, \
                 ARRAY['<studio', 'SEQUEL', 'same_studio']"
            ),
        ),
        (
            "path_makers",
            include_str!("../../src/sql/graph/path_makers.sql"),
            format!("ARRAY['{a}']::uuid[], ARRAY['{b}']::uuid[], ARRAY['studio']"),
        ),
        (
            "node_types",
            include_str!("../../src/sql/graph/node_types.sql"),
            format!("ARRAY['{a}']::uuid[]"),
        ),
        (
            "compare_shared",
            include_str!("../../src/sql/graph/compare_shared.sql"),
            format!("'{a}', '{b}', 51, 15000"),
        ),
        (
            "compare_direct",
            include_str!("../../src/sql/graph/compare_direct.sql"),
            format!("'{a}', '{b}', ARRAY['SEQUEL', 'OTHER']"),
        ),
        (
            "path_probe",
            include_str!("../../src/sql/graph/path_probe.sql"),
            format!("ARRAY['{a}', '{b}']::uuid[], ARRAY['{b}']::uuid[]"),
        ),
        (
            "resolve_nodes",
            include_str!("../../src/sql/graph/resolve_nodes.sql"),
            format!("ARRAY['{a}', '{b}']::uuid[]"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_primitive_reads_indexes_alone_before_and_after_analyze() {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let size = graph::generate::Size { anime: 4_000, edges: 120_000, hub_edges: 1_200 };
    // Cold: nothing is known of the tables, and autovacuum does not tell.
    connection.execute("ALTER TABLE graph_edge SET (autovacuum_enabled = off)").await.unwrap();
    let edges = graph::generate::load(&mut connection, 1, size).await.unwrap();
    assert!((100_000..=120_000).contains(&edges), "{edges}");
    for state in ["cold", "analyzed"] {
        if state == "analyzed" {
            connection.execute("ANALYZE").await.unwrap();
        }
        for (name, statement, arguments) in statements() {
            let plan = graph::bench::plan(&mut connection, statement, &arguments).await.unwrap();
            let text = plan.join("\n");
            let of_edges: Vec<&String> =
                plan.iter().filter(|line| line.contains("on graph_edge")).collect();
            assert!(!of_edges.is_empty(), "{state} {name}\n{text}");
            for line in of_edges {
                // That one finds next to nothing, and reads what it finds.
                let is_pair = line.contains("Index Scan using graph_edge_pair_idx");
                let is_fit = line.contains("Index Only Scan") || is_pair && name == "path_probe";
                assert!(is_fit, "{state} {name}\n{text}");
            }
            assert!(!text.contains("Seq Scan on"), "{state} {name}\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_looked_at_no_further_than_a_leaf() {
    let world = scene::world().await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let mut edges = scene::Edges::default();
    (0..12_000).for_each(|number| edges.join(0, 10 + number, ("OTHER", "OTHER")));
    (0..60).for_each(|number| edges.join(1, 20_000 + number, ("OTHER", "OTHER")));
    edges.load(&mut connection).await;
    let statement = include_str!("../../src/sql/graph/k_hop.sql");
    for start in [0, 1] {
        let arguments = format!("'{}', 5, 50, 50", id(start));
        let rows = graph::bench::rows_read(&mut connection, statement, &arguments).await.unwrap();
        assert!((51.0..=60.0).contains(&rows), "{start}: {rows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_ones_own_graph_judges_each_primitive_and_shows_the_slowest_plan() {
    let world = scene::world().await;
    assert_eq!(world.run(&["bench", "graph", "--starts", "5"]).status.code(), Some(2));
    let mut connection = world.postgres.dedicated().await.unwrap();
    let size = graph::generate::Size { anime: 200, edges: 4_000, hub_edges: 100 };
    graph::generate::load(&mut connection, 1, size).await.unwrap();
    let done = world.run(&["--format", "json", "bench", "graph", "--starts", "20"]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let measured = report["measured"].as_array().unwrap();
    assert_eq!(measured.len(), 8);
    for row in measured {
        assert_eq!(row["timed_out_share"], 0.0, "{row}");
    }
    let plan = report["slowest"]["plan"].to_string();
    assert!(plan.contains("Index Only Scan"), "{plan}");
    let code = i32::from(report["holds"] != true);
    assert_eq!(done.status.code(), Some(code));
}
