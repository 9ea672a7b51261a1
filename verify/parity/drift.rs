//! One mutation of the target at a time: what is found is that row and that column, and no other.

use toolkit::demo::Shape;

use crate::support::world::{World, lines};

const PACK: &str = r#"
[pack]
name = "mine"
version = 1
[defaults]
zone = "UTC"

[[stream]]
name = "things"
source = { sqlite = "app.sqlite", table = "things" }
target = "public.things"
key = ["id"]

[[stream]]
name = "logs"
source = { sqlite = "app.sqlite", table = "logs" }
target = "public.logs"
key = ["at", "line"]
"#;

const TARGET: &str = "
CREATE TABLE things (id text PRIMARY KEY, note text, doc jsonb, moment timestamptz,
    amount numeric, share float8, count int8, flag bool, ref uuid, tags text[], other text);
CREATE TABLE logs (at int8, line text)";

const SOURCE: &str = r#"
CREATE TABLE things (id TEXT PRIMARY KEY, note TEXT, doc TEXT, moment TEXT, amount TEXT,
    share REAL, count INTEGER, flag INTEGER, ref TEXT, tags TEXT, other TEXT);
CREATE TABLE logs (at INTEGER, line TEXT);
INSERT INTO things VALUES
 ('a', 'Grüße, Welt', '{"k":[1,null],"z":1}', '2024-03-31T01:30:00.123456Z', '1.50', 0.1, 7, 1,
  '6f1d1ff0-0000-4000-8000-000000000001', '["x","y","NULL",null]', 'left'),
 ('b', '', 'null', '2024-03-31T01:30:00+02:00', '-0.000', 0.0, -1, 0,
  '6f1d1ff0-0000-4000-8000-000000000002', '[]', ''),
 ('c', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 ('d', 'é', '{"n":1}', '1999-12-31 23:59:59', '12345678901234567890.12345', 1e300,
  9223372036854775807, 1, '6f1d1ff0-0000-4000-8000-000000000003', '["1","2"]', 'NULL'),
 ('e', 'line' || char(13,10) || 'end', '[]', '0001-01-01 00:00:00', '0', 5e-324, 0, 0, NULL,
  '[""]', 'right');
INSERT INTO logs VALUES (1, 'one'), (2, 'two'), (3, 'three');
"#;

/// A mutation and the lines that name it.
type Case = (&'static str, &'static [&'static str]);

const TEXTS: &[Case] = &[
    (
        "UPDATE things SET note = 'Grüsse, Welt' WHERE id = 'a'",
        &["changed public.things id=a note: 'Grüße, Welt' -> 'Grüsse, Welt'"],
    ),
    (
        "UPDATE things SET note = note || ' ' WHERE id = 'a'",
        &["changed public.things id=a note: 'Grüße, Welt' -> 'Grüße, Welt '"],
    ),
    (
        "UPDATE things SET other = 'Left' WHERE id = 'a'",
        &["changed public.things id=a other: 'left' -> 'Left'"],
    ),
    (
        "UPDATE things SET note = NULL WHERE id = 'b'",
        &["changed public.things id=b note: '' -> NULL"],
    ),
    (
        "UPDATE things SET note = '' WHERE id = 'c'",
        &["changed public.things id=c note: NULL -> ''"],
    ),
    (
        "UPDATE things SET other = 'NULL' WHERE id = 'c'",
        &["changed public.things id=c other: NULL -> 'NULL'"],
    ),
    (
        "UPDATE things SET other = NULL WHERE id = 'd'",
        &["changed public.things id=d other: 'NULL' -> NULL"],
    ),
    (
        "UPDATE things SET note = normalize(note, NFD) WHERE id = 'd'",
        &["changed public.things id=d note: 'é' -> 'e\u{301}'"],
    ),
    (
        "UPDATE things SET note = replace(note, chr(13), '') WHERE id = 'e'",
        &["changed public.things id=e note: 'line\r\nend' -> 'line\nend'"],
    ),
    (
        "UPDATE things SET note = left(note, 5) WHERE id = 'a'",
        &["changed public.things id=a note: 'Grüße, Welt' -> 'Grüße'"],
    ),
    (
        "UPDATE things SET note = other, other = note WHERE id = 'a'",
        &[
            "changed public.things id=a note: 'Grüße, Welt' -> 'left'",
            "changed public.things id=a other: 'left' -> 'Grüße, Welt'",
        ],
    ),
    (
        "UPDATE things SET other = CASE id WHEN 'a' THEN 'right' ELSE 'left' END \
         WHERE id IN ('a', 'e')",
        &[
            "changed public.things id=a other: 'left' -> 'right'",
            "changed public.things id=e other: 'right' -> 'left'",
        ],
    ),
];

const NUMBERS: &[Case] = &[
    (
        "UPDATE things SET moment = moment + interval '1 hour' WHERE id = 'a'",
        &["changed public.things id=a moment: '2024-03-31 01:30:00.123456+00' -> \
           '2024-03-31 02:30:00.123456+00'"],
    ),
    (
        "UPDATE things SET moment = moment + interval '1 microsecond' WHERE id = 'a'",
        &["changed public.things id=a moment: '2024-03-31 01:30:00.123456+00' -> \
           '2024-03-31 01:30:00.123457+00'"],
    ),
    (
        "UPDATE things SET moment = '2024-03-31T01:30:00Z' WHERE id = 'b'",
        &["changed public.things id=b moment: '2024-03-30 23:30:00+00' -> \
           '2024-03-31 01:30:00+00'"],
    ),
    ("UPDATE things SET amount = 1.500 WHERE id = 'a'", &[]),
    ("UPDATE things SET amount = 0 WHERE id = 'b'", &[]),
    (
        "UPDATE things SET amount = 1.51 WHERE id = 'a'",
        &["changed public.things id=a amount: '1.50' -> '1.51'"],
    ),
    (
        "UPDATE things SET amount = amount::float8::numeric WHERE id = 'd'",
        &["changed public.things id=d amount: '12345678901234567890.12345' -> \
           '12345678901234600000'"],
    ),
    (
        "UPDATE things SET share = '-0' WHERE id = 'b'",
        &["changed public.things id=b share: '0' -> '-0'"],
    ),
    (
        "UPDATE things SET share = 0.10000000000000002 WHERE id = 'a'",
        &["changed public.things id=a share: '0.1' -> '0.10000000000000002'"],
    ),
    (
        "UPDATE things SET share = 0 WHERE id = 'e'",
        &["changed public.things id=e share: '5e-324' -> '0'"],
    ),
    (
        "UPDATE things SET count = count - 1 WHERE id = 'd'",
        &["changed public.things id=d count: '9223372036854775807' -> '9223372036854775806'"],
    ),
    (
        "UPDATE things SET count = count + 1 WHERE id = 'b'",
        &["changed public.things id=b count: '-1' -> '0'"],
    ),
    (
        "UPDATE things SET flag = NOT flag WHERE id = 'a'",
        &["changed public.things id=a flag: 't' -> 'f'"],
    ),
    (
        "UPDATE things SET ref = '6f1d1ff0-0000-4000-8000-000000000009' WHERE id = 'b'",
        &["changed public.things id=b ref: '6f1d1ff0-0000-4000-8000-000000000002' -> \
           '6f1d1ff0-0000-4000-8000-000000000009'"],
    ),
];

const TREES: &[Case] = &[
    (r#"UPDATE things SET doc = '{"z":1,"k":[1,null]}' WHERE id = 'a'"#, &[]),
    (
        r#"UPDATE things SET doc = doc || '{"new":0}' WHERE id = 'a'"#,
        &[
            r#"changed public.things id=a doc: '{"k": [1, null], "z": 1}' -> '{"k": [1, null], "z": 1, "new": 0}'"#,
        ],
    ),
    (
        r#"UPDATE things SET doc = '{"n":1.0}' WHERE id = 'd'"#,
        &[r#"changed public.things id=d doc: '{"n": 1}' -> '{"n": 1.0}'"#],
    ),
    (
        "UPDATE things SET doc = NULL WHERE id = 'b'",
        &["changed public.things id=b doc: 'null' -> NULL"],
    ),
    (
        "UPDATE things SET doc = 'null' WHERE id = 'c'",
        &["changed public.things id=c doc: NULL -> 'null'"],
    ),
    (
        "UPDATE things SET tags = '{2,1}' WHERE id = 'd'",
        &["changed public.things id=d tags: '{1,2}' -> '{2,1}'"],
    ),
    (
        "UPDATE things SET tags = '{x,y,NULL,NULL}' WHERE id = 'a'",
        &[r#"changed public.things id=a tags: '{x,y,"NULL",NULL}' -> '{x,y,NULL,NULL}'"#],
    ),
    (
        "UPDATE things SET tags = '{}' WHERE id = 'e'",
        &[r#"changed public.things id=e tags: '{""}' -> '{}'"#],
    ),
    (
        "UPDATE things SET tags = '[0:1]={1,2}' WHERE id = 'd'",
        &["changed public.things id=d tags: '{1,2}' -> '[0:1]={1,2}'"],
    ),
];

const ROWS: &[Case] = &[
    ("DELETE FROM things WHERE id = 'c'", &["missing public.things id=c"]),
    ("INSERT INTO things (id) VALUES ('z')", &["extra public.things id=z"]),
    (
        "UPDATE things SET id = 'B' WHERE id = 'b'",
        &["missing public.things id=b", "extra public.things id=B"],
    ),
    ("INSERT INTO logs SELECT * FROM logs WHERE at = 2", &["duplicate public.logs at=2,line=two"]),
    (
        "UPDATE logs SET line = 'three ' WHERE at = 3",
        &["missing public.logs at=3,line=three", "extra public.logs at=3,line=three "],
    ),
    (
        "DELETE FROM things",
        &[
            "missing public.things id=a",
            "missing public.things id=b",
            "missing public.things id=c",
            "missing public.things id=d",
            "missing public.things id=e",
        ],
    ),
];

async fn hold(world: &World, cases: &[Case], tables: &[&str]) {
    let backup: Vec<String> = tables
        .iter()
        .map(|table| format!("CREATE TABLE IF NOT EXISTS kept_{table} AS TABLE {table}"))
        .collect();
    world.sql(&backup.join(";")).await;
    for (mutation, expected) in cases {
        assert!(world.sql(mutation).await > 0, "{mutation} changes nothing");
        let report = world.verify().await;
        let mut found = lines(&report.differences);
        let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{mutation}");
        for table in tables {
            world
                .sql(&format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept_{table}"))
                .await;
        }
    }
    world.assert_clean().await;
}

#[tokio::test]
async fn every_changed_value_is_named_with_its_row_and_column_and_no_other() {
    let world = World::own(PACK, TARGET, SOURCE).await;
    assert_eq!(world.backfill().await.rejects, 0);
    let report = world.assert_clean().await;
    assert_eq!(report.units.iter().map(|unit| unit.target_rows).sum::<u64>(), 8);
    for cases in [TEXTS, NUMBERS, TREES, ROWS] {
        hold(&world, cases, &["things", "logs"]).await;
    }
}

#[tokio::test]
async fn the_generated_application_is_at_parity_and_a_row_in_the_wrong_slice_is_not() {
    let (world, _) = World::generated(11, &Shape::tiny()).await;
    world.backfill().await;
    world.assert_clean().await;
    let id = world
        .text("SELECT min(id)::text FROM workflow.run_records WHERE record_kind = 'step'")
        .await;
    let key = |id: &str| {
        format!(
            "SELECT format('run_id=%s,record_kind=%s,step=%s,record_key=%s', run_id, record_kind, \
             step, record_key) FROM workflow.run_records WHERE id = {id}"
        )
    };
    let before = world.text(&key(&id)).await;
    for (kind, step) in [("question", "agentic"), ("artifact", "report")] {
        world
            .sql(&format!(
                "UPDATE workflow.run_records SET record_kind = '{kind}', step = '{step}' \
                 WHERE id = {id}"
            ))
            .await;
        let after = world.text(&key(&id)).await;
        let mut found = lines(&world.verify().await.differences);
        found.sort();
        assert_eq!(
            found,
            [
                format!("extra workflow.run_records[record_kind={kind}] {after}"),
                format!("missing workflow.run_records[record_kind=step] {before}"),
            ]
        );
    }
}
