//! What a pack may declare of its way back, and what is listed for acknowledgement.

use toolkit::cast::Reverse;
use toolkit::demo::Shape;
use toolkit::pack::reverse::{Listed, listing};

use crate::support::world::World;

fn one<'l>(listed: &'l [Listed], stream: &str, column: Option<&str>) -> &'l Listed {
    let found = listed.iter().find(|one| one.stream == stream && one.column.as_deref() == column);
    found.unwrap_or_else(|| panic!("{stream} {column:?}: {listed:#?}"))
}

#[tokio::test]
async fn every_stream_and_column_of_unified_is_listed_with_its_way_back_and_why() {
    let (world, _) = World::generated(1, &Shape::tiny()).await;
    let opened = world.open().await.unwrap();
    let listed = listing(&opened.plan);
    for (stream, reverse) in [
        ("workflow_runs", Reverse::Equivalent),
        ("workflow_steps", Reverse::Equivalent),
        ("query_cache", Reverse::Equivalent),
        ("token_usage", Reverse::Equivalent),
        ("openalex_cache", Reverse::Equivalent),
        ("citec_cache", Reverse::Equivalent),
        ("reports", Reverse::None),
        ("workstream_comparisons", Reverse::None),
        ("prep_manifests", Reverse::None),
    ] {
        assert_eq!(one(&listed, stream, None).reverse, reverse, "{stream}");
    }
    let way = |stream, column| {
        let found = one(&listed, stream, Some(column));
        (found.source.as_deref(), found.reverse)
    };
    assert_eq!(way("query_cache", "answer"), (Some("answer"), Reverse::Exact));
    assert_eq!(way("query_cache", "created_at"), (Some("created_at"), Reverse::Equivalent));
    assert_eq!(way("workflow_runs", "papers_dir"), (Some("papers_dir"), Reverse::Equivalent));
    // Copies and what only a companion knows have no place of their own.
    assert_eq!(way("workflow_runs", "updated_at"), (None, Reverse::None));
    assert_eq!(way("workflow_runs", "arm"), (None, Reverse::None));
    assert_eq!(way("workflow_steps", "started_at"), (Some("started_at"), Reverse::Equivalent));
    assert_eq!(way("workflow_steps", "created_at"), (None, Reverse::None));
    // Columns that only Postgres has.
    assert_eq!(way("token_usage", "latency_ms"), (None, Reverse::None));
    let none = listed.iter().filter(|one| one.reverse == Reverse::None);
    assert!(none.clone().all(|one| !one.reason.is_empty()), "{:#?}", none.collect::<Vec<_>>());
}

async fn check(declared: &str, columns: &str, target: &str) -> (Option<i32>, String) {
    let pack = format!(
        "[pack]\nname = \"mine\"\nversion = 1\n[[stream]]\nname = \"t\"\n\
         source = {{ sqlite = \"app.sqlite\", table = \"t\" }}\ntarget = \"public.t\"\n\
         key = [\"id\"]\nreverse = \"{declared}\"\n[stream.columns]\n{columns}"
    );
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT)";
    let world = World::own(&pack, target, source).await;
    let source = world.source.to_str().unwrap();
    let checked = world.run(&["pack", "check", "--pack", &world.pack, "--source", source]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    (checked.status.code(), text)
}

#[tokio::test]
async fn a_declaration_stronger_than_the_mapping_is_refused_with_the_columns_that_prevent_it() {
    let columns = "id = \"id\"\nv = \"v\"\nw = \"w\"";
    let target = "CREATE TABLE t (id int8 PRIMARY KEY, v jsonb, w text)";
    let (code, text) = check("exact", columns, target).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("more than its mapping can keep, which is \"equivalent\": v (jsonb"),
        "{text}"
    );
    assert!(!text.contains("w ("), "{text}");
    for weaker in ["equivalent", "none"] {
        assert_eq!(check(weaker, columns, target).await.0, Some(0), "{weaker}");
    }
    let texts = "CREATE TABLE t (id int8 PRIMARY KEY, v text, w text)";
    assert_eq!(check("exact", columns, texts).await.0, Some(0));
}

#[tokio::test]
async fn a_stream_whose_rows_cannot_be_found_again_has_no_way_back() {
    let target = "CREATE TABLE t (id timestamptz PRIMARY KEY, v text, w text)";
    let columns = "id = { from = \"id\", unit = \"s\" }\nv = \"v\"\nw = \"w\"";
    let (code, text) = check("equivalent", columns, target).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("too many spellings to find a row by"), "{text}");
    assert_eq!(check("none", columns, target).await.0, Some(0));
}

#[test]
fn the_mapping_shows_what_is_declared() {
    let shown = crate::support::toolkit().args(["pack", "show"]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("written back after the cutover: equivalent"), "{text}");
    assert!(text.contains("written back after the cutover: none"), "{text}");
}
