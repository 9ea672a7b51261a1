//! `toolkit rejects retry` for records of every shape of source.

use serde_json::{Value, json};

use super::retry::{corrected, retry};
use crate::support::world::World;
use crate::support::{stderr, stdout};

/// A stream's name, its source in `pack.toml`, its columns, and its files with three records, of
/// which the second is refused.
struct Shape {
    name: &'static str,
    source: &'static str,
    columns: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const MEMBERS: &str = r#"id = "/id", n = "/n""#;
const COLUMNS: &str = r#"id = "id", n = "n""#;

const SHAPES: &[Shape] = &[
    Shape {
        name: "array",
        source: r#"{ json = "array.json", records = "/items" }"#,
        columns: MEMBERS,
        files: &[(
            "array.json",
            r#"{"made": 1, "items": [{"id": 1, "n": 1}, {"id": 2, "n": "two"}, {"id": 3, "n": 3}]}"#,
        )],
    },
    Shape {
        name: "inner",
        source: r#"{ json = "inner.json", records = "/a/b" }"#,
        columns: MEMBERS,
        files: &[(
            "inner.json",
            r#"{"a": {"b": [{"id": 1, "n": 1}, {"id": 2, "n": "two"}, {"id": 3, "n": 3}]}}"#,
        )],
    },
    Shape {
        name: "any_member",
        source: r#"{ json = "member.json", records = "/*" }"#,
        columns: MEMBERS,
        files: &[(
            "member.json",
            r#"{"Things": [{"id": 1, "n": 1}, {"id": 2, "n": "two"}, {"id": 3, "n": 3}]}"#,
        )],
    },
    Shape {
        name: "any_members",
        source: r#"{ json = "members.json", records = "/*" }"#,
        columns: MEMBERS,
        files: &[(
            "members.json",
            r#"{"A": [{"id": 1, "n": 1}], "B": [{"id": 2, "n": "two"}, {"id": 3, "n": 3}]}"#,
        )],
    },
    Shape {
        name: "any_array",
        source: r#"{ json = "bare.json", records = "/*" }"#,
        columns: MEMBERS,
        files: &[("bare.json", r#"[{"id": 1, "n": 1}, {"id": 2, "n": "two"}, {"id": 3, "n": 3}]"#)],
    },
    Shape {
        name: "lines",
        source: r#"{ jsonl = "lines.jsonl" }"#,
        columns: MEMBERS,
        files: &[(
            "lines.jsonl",
            "{\"id\": 1, \"n\": 1}\n{\"id\": 2, \"n\": \"two\"}\n{\"id\": 3, \"n\": 3}\n",
        )],
    },
    Shape {
        name: "csv",
        source: r#"{ csv = "table.csv" }"#,
        columns: COLUMNS,
        files: &[("table.csv", "id,n\n1,1\n2,two\n3,3\n")],
    },
    Shape {
        name: "whole",
        source: r#"{ json = "whole*.json" }"#,
        columns: MEMBERS,
        files: &[
            ("whole1.json", r#"{"id": 1, "n": 1}"#),
            ("whole2.json", r#"{"id": 2, "n": "two"}"#),
            ("whole3.json", r#"{"id": 3, "n": 3}"#),
        ],
    },
    Shape {
        name: "sqlite",
        source: r#"{ sqlite = "app.sqlite", table = "things" }"#,
        columns: COLUMNS,
        files: &[],
    },
];

const TABLE: &str = "CREATE TABLE things (id INTEGER PRIMARY KEY, n);
    INSERT INTO things VALUES (1, 1), (2, 'two'), (3, 3)";

async fn world(shapes: &[Shape]) -> World {
    let mut pack = "[pack]\nname = \"shapes\"\nversion = 1\n".to_owned();
    let mut target = String::new();
    for Shape { name, source, columns, .. } in shapes {
        pack += &format!(
            "[[stream]]\nname = \"{name}\"\nsource = {source}\n[[stream.output]]\n\
             name = \"{name}\"\ntarget = \"public.{name}\"\nkey = [\"id\"]\n\
             columns = {{ {columns} }}\n"
        );
        target += &format!("CREATE TABLE \"{name}\" (id integer PRIMARY KEY, n integer NOT NULL);");
    }
    let world = World::own(&pack, &target, TABLE).await;
    for (name, text) in shapes.iter().flat_map(|shape| shape.files) {
        std::fs::write(world.source.join(name), text).unwrap();
    }
    world
}

async fn states(world: &World) -> String {
    world.text("SELECT string_agg(DISTINCT state || ' ' || reason, ', ') FROM toolkit.reject").await
}

async fn stored(world: &World, name: &str) -> String {
    let query = format!("SELECT string_agg(id || ':' || n, ' ' ORDER BY id) FROM {name}");
    world.text(&query.replace(name, &format!("\"{name}\""))).await
}

#[tokio::test]
async fn a_corrected_record_of_every_shape_of_source_goes_in_and_its_reject_is_closed() {
    let world = world(SHAPES).await;
    let first = world.backfill().await;
    assert_eq!(first.rejects, SHAPES.len() as u64);
    let as_it_is = retry(&world, &[]);
    assert_eq!((as_it_is.ids("refused"), as_it_is.1), (SHAPES.len(), Some(1)), "{}", as_it_is.0);
    assert_eq!(states(&world).await, "open wrong_type");

    let file = corrected(&world, "broken.jsonl", |line| {
        line["record"] = json!("{\"id\": 2, \"n\": ");
        true
    });
    let broken = retry(&world, &["--file", &file]);
    assert_eq!((broken.ids("refused"), broken.1), (SHAPES.len(), Some(1)), "{}", broken.0);
    for refused in broken.0["refused"].as_array().unwrap() {
        let (reason, detail) = (refused["reason"].as_str(), refused["detail"].as_str().unwrap());
        assert!(matches!(reason, Some("invalid_json" | "invalid_record")), "{refused}");
        let is_clear = ["object of its columns", "line 1", "ends inside"];
        assert!(is_clear.iter().any(|part| detail.contains(part)), "{refused}");
    }

    let file = corrected(&world, "good.jsonl", |line| {
        line["record"]["n"] = json!(2);
        true
    });
    let good = retry(&world, &["--file", &file]);
    assert_eq!((good.ids("retried"), good.1), (SHAPES.len(), Some(0)), "{}", good.0);
    for shape in SHAPES {
        assert_eq!(stored(&world, shape.name).await, "1:1 2:2 3:3", "{}", shape.name);
    }
    let open = "SELECT count(*)::text FROM toolkit.reject WHERE state <> 'retried'";
    assert_eq!(world.text(open).await, "0");
    world.assert_clean().await;
    let again = world.backfill().await;
    assert_eq!(again.rejects, 0, "the corrections stand");
    for stream in &again.streams {
        let records = &stream.counts.records;
        assert_eq!((records.skipped, records.unchanged), (1, 2), "{}", stream.stream);
    }
    world.assert_clean().await;
}

#[tokio::test]
async fn a_row_made_of_a_part_of_a_record_goes_in_alone_once_the_record_is_corrected() {
    let pack = r#"
[pack]
name = "orders"
version = 1
[[stream]]
name = "orders"
source = { json = "orders.json", records = "/orders" }
[[stream.output]]
name = "orders"
target = "public.orders"
key = ["id"]
columns = { id = "/id" }
[[stream.output]]
name = "lines"
target = "public.order_lines"
key = ["item"]
each = "/lines"
columns = { item = "/item", n = "/n" }
"#;
    let target = "CREATE TABLE orders (id integer PRIMARY KEY);
        CREATE TABLE order_lines (item text PRIMARY KEY, n integer NOT NULL);";
    let world = World::own(pack, target, TABLE).await;
    let text = r#"{"orders": [{"id": 1, "lines": [{"item": "a", "n": 1}]},
        {"id": 2, "lines": [{"item": "b", "n": 1}, {"item": "c", "n": "two"}]}]}"#;
    std::fs::write(world.source.join("orders.json"), text).unwrap();
    world.backfill().await;
    let file = corrected(&world, "lines.jsonl", |line| {
        line["record"]["lines"][1]["n"] = json!(2);
        true
    });
    let done = retry(&world, &["--file", &file]);
    assert_eq!((done.ids("retried"), done.1), (1, Some(0)), "{}", done.0);
    let lines = "SELECT string_agg(item || n, ' ' ORDER BY item) FROM order_lines";
    assert_eq!(world.text(lines).await, "a1 b1 c2");
    world.assert_clean().await;
}

#[tokio::test]
async fn what_is_no_record_by_itself_is_left_and_named_so_that_nothing_behind_it_is_hidden() {
    let outer = [Shape {
        name: "outer",
        source: r#"{ json = "outer.json", records = "/items" }"#,
        columns: r#"id = "/id", n = "^/n""#,
        files: &[("outer.json", r#"{"n": 1, "items": [{"id": 1}, {"id": "two"}]}"#)],
    }];
    let cut = [Shape {
        name: "cut",
        source: r#"{ json = "cut.json", records = "/items" }"#,
        columns: MEMBERS,
        files: &[("cut.json", r#"{"items": [{"id": 1, "n": 1} {"id": 2, "n": 2}"#)],
    }];
    let none = [Shape {
        name: "none",
        source: r#"{ json = "none.json", records = "/items" }"#,
        columns: MEMBERS,
        files: &[("none.json", r#"{"item": [{"id": 1, "n": 1}]}"#)],
    }];
    for (shape, why) in
        [(outer, "`^/n` from around"), (cut, "behind which"), (none, "whole document")]
    {
        let world = world(&shape).await;
        assert_eq!(world.backfill().await.rejects, 1);
        let file = corrected(&world, "good.jsonl", |line| {
            line["record"] = json!({"id": 2, "n": 2});
            true
        });
        let left = retry(&world, &["--file", &file]);
        assert_eq!((left.ids("left"), left.1), (1, Some(1)), "{}", left.0);
        let said: &Value = &left.0["left"][0]["why"];
        assert!(said.as_str().unwrap().contains(why), "{said}");
        let state = "SELECT string_agg(state, ' ') FROM toolkit.reject";
        assert_eq!(world.text(state).await, "open", "{why}");
    }
}

#[tokio::test]
async fn a_file_of_corrections_whose_line_is_no_json_is_an_error_that_names_the_line() {
    let world = world(SHAPES).await;
    world.backfill().await;
    let path = world.database.folder().join("torn.jsonl");
    std::fs::write(&path, "{\"id\": 1, \"record\": {\"id\": 2}}\n{\"id\": 2, \"record\": {")
        .unwrap();
    let done =
        world.run(&["rejects", "retry", "--pack", &world.pack, "--file", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2), "{}", stdout(&done));
    assert!(stderr(&done).contains("torn.jsonl, line 2"), "{}", stderr(&done));
}
