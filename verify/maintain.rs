//! Upkeep: partitions ahead, retention that parity knows of, what the statistics say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::{Value, json};
use toolkit::phase::{self, Phase, Transition, TransitionKind};

use crate::support::world::World;
use crate::support::{stderr, stdout};

const PACK_TOML: &str = "\
[pack]
name = \"log\"
version = 1
[[stream]]
name = \"events\"
target = \"public.events\"
key = [\"id\", \"at\"]
[stream.source]
sqlite = \"app.sqlite\"
table = \"events\"
[[partition]]
table = \"public.events\"
months_ahead = 2
[[retention]]
table = \"public.events\"
column = \"at\"
keep = \"90 days\"
";

const TARGET: &str = "\
CREATE TABLE events (id bigint NOT NULL, at timestamptz NOT NULL, note text,
    PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX events_note_idx ON events (note);
CREATE TABLE events_default PARTITION OF events DEFAULT;";

const SOURCE: &str = "CREATE TABLE events (id INTEGER PRIMARY KEY, at TEXT, note TEXT)";

async fn world() -> World {
    World::own(PACK_TOML, TARGET, SOURCE).await
}

fn maintain(world: &World, more: &[&str]) -> Value {
    let mut arguments = vec!["--format", "json", "maintain", "--pack", &world.pack];
    arguments.extend(more);
    let output = world.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn refused(pack: &str) -> impl Future<Output = String> {
    let pack = pack.to_owned();
    async move {
        let world = World::own(&pack, TARGET, SOURCE).await;
        let output = world.run(&["maintain", "--pack", &world.pack]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        stderr(&output)
    }
}

async fn partitions(world: &World) -> String {
    world
        .text(
            "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i \
             JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass",
        )
        .await
}

#[tokio::test]
async fn months_ahead_have_a_partition_before_they_begin() {
    let world = world().await;
    let planned = maintain(&world, &["--dry-run"]);
    assert_eq!(planned["partitions"][0]["months"].as_array().unwrap().len(), 3);
    assert_eq!(partitions(&world).await, "events_default");
    let done = maintain(&world, &[]);
    assert_eq!(done["partitions"][0]["months"][2]["is_made"], json!(true));
    let names = partitions(&world).await;
    let next = world.text("SELECT to_char(now() + '1 month', '\"events_y\"YYYY\"m\"MM')").await;
    assert!(names.contains(&next), "{names}");
    world.sql("INSERT INTO events VALUES (1, now(), 'now')").await;
    assert_eq!(world.text("SELECT count(*)::text FROM events_default").await, "0");
    assert_eq!(maintain(&world, &[])["partitions"][0]["months"], json!([]));
    assert_eq!(partitions(&world).await, names);
}

#[tokio::test]
async fn rows_of_default_move_to_their_months_while_writers_go_on() {
    let world = Arc::new(world().await);
    world
        .sql(
            "INSERT INTO events SELECT n, date_trunc('month', now()) - (n % 60) * interval '1 day', \
             'old' FROM generate_series(1, 3000) n; \
             INSERT INTO events VALUES (-1, 'infinity', 'for ever'), (-2, '1860-01-01', 'ancient')",
        )
        .await;
    // Whoever logs deletions for SQLite must know that these are none.
    world
        .sql(
            "CREATE TABLE noticed (id bigint); \
             CREATE FUNCTION notice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF current_setting('toolkit.replay', true) IS DISTINCT FROM 'on' THEN \
             INSERT INTO noticed VALUES (OLD.id); END IF; RETURN NULL; END $$; \
             CREATE TRIGGER notice AFTER DELETE ON events FOR EACH ROW EXECUTE FUNCTION notice()",
        )
        .await;
    let (is_over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(10_000)));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (world, is_over, next) =
                (Arc::clone(&world), Arc::clone(&is_over), Arc::clone(&next));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    sqlx::query(
                        "INSERT INTO events SELECT $1, now() - ($1 % 60) * interval '1 day', 'new'",
                    )
                    .bind(id)
                    .execute(world.postgres.pool())
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    let upkeep = {
        let world = Arc::clone(&world);
        tokio::task::spawn_blocking(move || maintain(&world, &[]))
    };
    let done = upkeep.await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(done["partitions"][0]["left_in_default"], json!(2), "{done}");
    let written = next.load(Ordering::Relaxed) - 10_000;
    assert!(written > 0);
    // 1860 is older than the policy keeps.
    let total = world.text("SELECT count(*)::text FROM events").await;
    assert_eq!(total, (3000 + written + 1).to_string());
    assert_eq!(world.text("SELECT string_agg(id::text, ' ') FROM events_default").await, "-1");
    assert_eq!(
        world.text("SELECT string_agg(id::text, ' ') FROM noticed WHERE id > 0").await,
        "NULL"
    );
}

#[tokio::test]
async fn retention_drops_old_partitions_and_deletes_other_old_rows() {
    let world = world().await;
    world
        .sql(
            "INSERT INTO events SELECT n, now() - interval '200 days', 'old' \
             FROM generate_series(1, 50) n; \
             INSERT INTO events SELECT n, now() - interval '1 day', 'new' \
             FROM generate_series(101, 110) n",
        )
        .await;
    maintain(&world, &["--dry-run"]);
    // The first upkeep makes the old month's partition, and deletes its rows all the same.
    let planned = maintain(&world, &["--dry-run"]);
    assert_eq!(planned["retention"][0]["rows"], json!(50));
    let done = maintain(&world, &[]);
    assert_eq!(done["retention"][0]["removed"], json!(50), "{done}");
    world.sql("INSERT INTO events SELECT n, now() - interval '200 days', 'late' FROM generate_series(1, 7) n").await;
    let old = world.text("SELECT tableoid::regclass::text FROM events WHERE note = 'late'").await;
    assert_ne!(old, "events_default");
    let done = maintain(&world, &[]);
    assert_eq!(done["retention"][0]["dropped"][0], json!({ "partition": old, "rows": 7 }));
    assert!(!partitions(&world).await.contains(&old));
    assert_eq!(world.text("SELECT count(*)::text FROM events").await, "10");
    let recorded = world
        .text(
            "SELECT string_agg(rows || ' ' || coalesce(partition, 'rows'), ', ' ORDER BY id) \
             FROM toolkit.retention_removed",
        )
        .await;
    assert_eq!(recorded, format!("50 rows, 7 {old}"));
}

#[tokio::test]
async fn in_phase_3_nothing_is_removed() {
    let world = world().await;
    world.sql("INSERT INTO events VALUES (1, now() - interval '200 days', 'old')").await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    for from in [Phase::Bootstrap, Phase::DualWrite, Phase::Backfill] {
        let to = from.next().unwrap();
        let kind = TransitionKind::Advance;
        let step = Transition { from, to, kind, reason: None, evidence: json!([]) };
        phase::transition(&mut conn, "log", &step).await.unwrap();
    }
    let done = maintain(&world, &[]);
    assert_eq!(done["retention"][0]["removed"], json!(0));
    assert!(done["retention"][0]["held_back"].as_str().unwrap().contains("phase 3"));
    assert_eq!(world.text("SELECT count(*)::text FROM events").await, "1");
    // Partitions are no removal.
    assert_eq!(done["partitions"][0]["months"][0]["is_made"], json!(true));
}

#[tokio::test]
async fn parity_leaves_out_what_retention_removed_and_nothing_else() {
    let world = world().await;
    world.sqlite(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
         INSERT INTO events SELECT i, strftime('%Y-%m-%dT%H:%M:%SZ', 'now', \
         CASE WHEN i <= 25 THEN '-200 days' ELSE '-2 days' END), 'note ' || i FROM n",
    );
    world.backfill().await;
    let done = maintain(&world, &[]);
    assert_eq!(done["retention"][0]["removed"], json!(25));
    let report = world.assert_clean().await;
    let left_out = &report.left_out[0];
    assert_eq!((left_out.source_rows, left_out.target_rows), (25, 0));
    assert!(left_out.rule.starts_with("at before 20"), "{}", left_out.rule);
    assert_eq!((report.units[0].source_rows, report.units[0].target_rows), (15, 15));
    let output = world.verify_parity(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    // A second backfill brings them back, until the next upkeep; that is no difference either.
    world.backfill().await;
    assert_eq!(world.assert_clean().await.left_out[0].target_rows, 25);
    world.sql("DELETE FROM events WHERE id = 30").await;
    let report = world.verify().await;
    assert_eq!((report.differing_rows, report.units[0].missing), (1, 1));
}

#[tokio::test]
async fn a_policy_that_cannot_be_carried_out_is_refused_with_its_line() {
    let error = refused(&PACK_TOML.replace("90 days", "soon")).await;
    assert!(error.contains("line 17") && error.contains("180 days"), "{error}");
    let error = refused(&PACK_TOML.replace("column = \"at\"", "column = \"note\"")).await;
    assert!(error.contains("has no column note of time"), "{error}");
    let error = refused(&PACK_TOML.replace(
        "[[partition]]\ntable = \"public.events\"",
        "[[partition]]\ntable = \"public.events_default\"",
    ))
    .await;
    assert!(error.contains("is not partitioned by range"), "{error}");
    let columns = "[stream.columns]\nid = \"id\"\nnote = \"note\"\n[[partition]]";
    let error = refused(&PACK_TOML.replace("[[partition]]", columns)).await;
    assert!(error.contains("parity could not tell"), "{error}");
}

#[tokio::test]
async fn indexes_without_use_and_tables_never_analyzed_are_named() {
    let world = world().await;
    world.sql("INSERT INTO events SELECT n, now(), 'x' FROM generate_series(1, 100) n").await;
    // Statistics reach the server's collector moments later.
    let upkeep = loop {
        let upkeep = maintain(&world, &["--dry-run"]);
        if upkeep["health"]["needs_analyze"].as_array().is_some_and(|found| !found.is_empty()) {
            break upkeep;
        }
    };
    let unused: Vec<&str> = upkeep["health"]["unused_indexes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|index| index["index"].as_str().unwrap())
        .collect();
    assert_eq!(unused, ["events_note_idx"]);
    let text = stdout(&world.run(&["maintain", "--pack", &world.pack, "--dry-run"]));
    assert!(text.contains("needs ANALYZE: public.events"), "{text}");
    assert!(text.contains("no changes are made"), "{text}");
}
