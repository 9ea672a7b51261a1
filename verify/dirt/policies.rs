//! Every policy with every outcome: what is stored, what the ledger keeps, what is refused.

use crate::support::stderr;
use crate::support::world::World;

/// A policy, a column type, and a value that the policy decides about.
struct Case {
    policy: &'static str,
    ty: &'static str,
    dirt: &'static str,
    /// The original in the ledger, hexadecimal.
    original: &'static str,
    reason: &'static str,
    /// What `replace` stores; None: the pack is refused.
    replaced: Option<&'static str>,
    /// What `null` stores.
    nulled: &'static str,
}

const CASES: &[Case] = &[
    Case {
        policy: "nul",
        ty: "text",
        dirt: "'a' || char(0) || 'b'",
        original: "610062",
        reason: "nul",
        replaced: Some("a\u{fffd}b"),
        nulled: "NULL",
    },
    Case {
        policy: "nul",
        ty: "jsonb",
        dirt: r#"'{"a": "\u0000"}'"#,
        original: "00",
        reason: "nul",
        replaced: Some("{\"a\": \"\u{fffd}\"}"),
        nulled: r#"{"a": null}"#,
    },
    Case {
        policy: "nan",
        ty: "bigint",
        dirt: "9e999",
        original: "496e66696e697479",
        reason: "nan",
        replaced: None,
        nulled: "NULL",
    },
    Case {
        policy: "nan",
        ty: "jsonb",
        dirt: r#"'{"a": -Infinity}'"#,
        original: "2d496e66696e697479",
        reason: "nan",
        replaced: Some(r#"{"a": "-Infinity"}"#),
        nulled: r#"{"a": null}"#,
    },
    Case {
        policy: "invalid_utf8",
        ty: "text",
        dirt: "CAST(x'ff41' AS TEXT)",
        original: "ff41",
        reason: "invalid_utf8",
        replaced: Some("\u{fffd}A"),
        nulled: "NULL",
    },
    Case {
        policy: "overflow",
        ty: "smallint",
        dirt: "70000",
        original: "3730303030",
        reason: "overflow",
        replaced: Some("32767"),
        nulled: "NULL",
    },
    Case {
        policy: "overflow",
        ty: "numeric(4,1)",
        dirt: "'1.25'",
        original: "312e3235",
        reason: "scale",
        replaced: Some("1.3"),
        nulled: "NULL",
    },
    Case {
        policy: "too_long",
        ty: "varchar(2)",
        dirt: "'abc'",
        original: "616263",
        reason: "too_long",
        replaced: Some("ab"),
        nulled: "NULL",
    },
    Case {
        policy: "json_duplicate_keys",
        ty: "jsonb",
        dirt: r#"'{"a": 1, "a": 2}'"#,
        original: "31",
        reason: "json_duplicate_keys",
        replaced: Some(r#"{"a": 2}"#),
        nulled: r#"{"a": null}"#,
    },
    Case {
        policy: "unreadable",
        ty: "date",
        dirt: "'soon'",
        original: "736f6f6e",
        reason: "invalid_timestamp",
        replaced: None,
        nulled: "NULL",
    },
    Case {
        policy: "unreadable",
        ty: "macaddr",
        dirt: "'soon'",
        original: "736f6f6e",
        reason: "invalid_literal",
        replaced: None,
        nulled: "NULL",
    },
];

fn pack(columns: &str) -> String {
    format!(
        "[pack]\nname = \"policies\"\nversion = 1\n[[stream]]\nname = \"t\"\n\
         source = {{ sqlite = \"app.sqlite\", table = \"t\" }}\ntarget = \"public.t\"\n\
         key = [\"id\"]\n[stream.columns]\nid = \"id\"\n{columns}"
    )
}

/// A column for each case with this outcome, and a row for each whose dirt it is.
async fn world(cases: &[&Case], outcome: &str) -> World {
    let columns: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| {
            let on = if outcome == "default" {
                String::new()
            } else {
                format!(", on = {{ {} = \"{outcome}\" }}", case.policy)
            };
            format!("c{at} = {{ from = \"c{at}\"{on} }}\n")
        })
        .collect();
    let all = |each: &dyn Fn(usize, &Case) -> String| {
        cases.iter().enumerate().map(|(at, case)| each(at, case)).collect::<Vec<_>>().join(", ")
    };
    let target = format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, {})",
        all(&|at, c| format!("c{at} {}", c.ty))
    );
    let mut source =
        format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {});", all(&|at, _| format!("c{at}")));
    for row in 0..cases.len() {
        let values = all(&|at, c| if at == row { c.dirt.to_owned() } else { "NULL".to_owned() });
        source.push_str(&format!("INSERT INTO t VALUES ({row}, {values});"));
    }
    World::own(&pack(&columns.concat()), &target, &source).await
}

#[tokio::test]
async fn a_policy_refuses_replaces_or_nulls_and_parity_is_clean_afterwards() {
    for outcome in ["default", "reject", "replace", "null"] {
        let cases: Vec<&Case> =
            CASES.iter().filter(|case| outcome != "replace" || case.replaced.is_some()).collect();
        let world = world(&cases, outcome).await;
        let report = world.backfill().await;
        for (row, case) in cases.iter().enumerate() {
            let told = format!("{} on {} = {outcome}", case.policy, case.ty);
            let place = format!("locator = 'rowid {row}'");
            let stored = world.text(&format!("SELECT c{row}::text FROM t WHERE id = {row}")).await;
            let reason =
                world.text(&format!("SELECT reason FROM toolkit.reject WHERE {place}")).await;
            let entry = world
                .text(&format!(
                    "SELECT rule || ' ' || encode(original, 'hex') FROM toolkit.ledger WHERE {place} ORDER BY original LIMIT 1"
                ))
                .await;
            let kept = format!("{} {}", case.reason, case.original);
            match outcome {
                "replace" => {
                    assert_eq!(Some(stored.as_str()), case.replaced, "{told}");
                    assert_eq!((reason.as_str(), entry), ("NULL", kept), "{told}");
                }
                "null" => {
                    assert_eq!(stored, case.nulled, "{told}");
                    assert_eq!((reason.as_str(), entry), ("NULL", kept), "{told}");
                }
                _ => {
                    assert_eq!((reason.as_str(), entry.as_str()), (case.reason, "NULL"), "{told}");
                }
            }
        }
        let rejected = if ["default", "reject"].contains(&outcome) { cases.len() } else { 0 };
        assert_eq!(report.rejects, rejected as u64, "{outcome}");
        world.assert_clean().await;
    }
}

#[tokio::test]
async fn a_policy_that_can_do_nothing_and_an_unredacted_number_are_refused_with_their_line() {
    for (column, said) in [
        ("n = { from = \"n\", on = { unreadable = \"replace\" } }", "reject and null only"),
        ("n = { from = \"n\", on = { nan = \"replace\" } }", "no replacement for NaN"),
        ("m = { from = \"n\", on = { overflow = \"null\" } }", "needs a nullable column"),
        ("n = { from = \"n\", redact = false }", "nothing else is redacted"),
        ("n = { from = \"n\", unit = \"infer\" }", "a unit is for"),
        ("n = { from = \"n\", on = { mixed_units = \"null\" } }", "unknown variant"),
    ] {
        let pack = pack(&format!("{column}\n"));
        let target =
            "CREATE TABLE t (id bigint PRIMARY KEY, n integer, m integer DEFAULT 1 NOT NULL)";
        let source = "CREATE TABLE t (id INTEGER PRIMARY KEY, n)";
        let world = World::own(&pack, target, source).await;
        let source = world.source.to_str().unwrap();
        let output = world.run(&["backfill", "--pack", &world.pack, "--source", source]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{column}: {}", stderr(&output));
        assert!(stderr(&output).contains("line 11"), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn rejects_are_tolerated_by_number_and_by_share_of_the_records_read() {
    let pack = pack("n = \"n\"\n");
    let target = "CREATE TABLE t (id bigint PRIMARY KEY, n integer)";
    let source = "CREATE TABLE t (id INTEGER PRIMARY KEY, n);
        WITH RECURSIVE r(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM r WHERE i < 100)
        INSERT INTO t SELECT i, CASE WHEN i <= 2 THEN 'x' ELSE i END FROM r;";
    let world = World::own(&pack, target, source).await;
    let source = world.source.to_str().unwrap();
    for (most, code) in [
        ("0", 1),
        ("1", 1),
        ("2", 0),
        ("1.9%", 1),
        // Of 100 read; of the 98 that are stored it would be more.
        ("2%", 0),
        ("100%", 0),
        ("0%", 1),
        ("101%", 2),
        ("-1", 2),
        ("2 %", 2),
        ("few", 2),
        ("%", 2),
    ] {
        let most = format!("--max-rejects={most}");
        let arguments = ["backfill", "--pack", &world.pack, "--source", source, &most];
        let output = world.run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{most}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn a_row_that_postgres_refuses_leaves_no_ledger_entry_and_parity_asks_for_none() {
    let pack = "[pack]\nname = \"policies\"\nversion = 1\n[[stream]]\nname = \"t\"\n\
        source = { json = \"*.json\" }\n[[stream.output]]\nname = \"t\"\n\
        target = \"public.t\"\nkey = [\"id\"]\n\
        columns = { id = \"/id\", n = \"/n\", note = { from = \"/note\", on = { nul = \"replace\" } } }\n\
        [[stream.output]]\nname = \"parts\"\ntarget = \"public.parts\"\n\
        key = [\"t\", \"part\"]\neach = \"/parts\"\n\
        columns = { t = \"^/id\", part = \"@key\", text = { from = \"\", on = { nul = \"replace\" } } }\n";
    let target = "CREATE TABLE t (id bigint PRIMARY KEY, n integer CHECK (n < 10), note text);
        CREATE TABLE parts (t bigint, part integer, text text CHECK (text <> 'bad'),
            PRIMARY KEY (t, part));";
    let world = World::own(pack, target, "CREATE TABLE unused (id)").await;
    for (name, text) in [
        ("a.json", r#"{"id": 1, "n": 5, "note": "a\u0000", "parts": ["x\u0000", "bad"]}"#),
        ("b.json", r#"{"id": 2, "n": 50, "note": "b\u0000", "parts": ["y\u0000", "z"]}"#),
    ] {
        std::fs::write(world.source.join(name), text).unwrap();
    }
    let report = world.backfill().await;
    let counts = &report.streams[0].counts;
    assert_eq!((counts.records.inserted, counts.records.rejected), (1, 1));
    assert_eq!(counts.derived["parts"].inserted, 1);
    assert_eq!(counts.ledgered, 2, "of the document that is stored");
    let sources = "SELECT string_agg(DISTINCT source, ' ') FROM toolkit.ledger";
    assert_eq!(world.text(sources).await, "a.json");
    world.assert_clean().await;
}
