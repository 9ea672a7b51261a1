//! Foreign keys of rows that are copied straight into an empty table: looked after by the chunk,
//! with the same end as where Postgres looks row by row.

use std::process::Stdio;
use std::time::Duration;

use crate::support::backfill::Move;

const PARENTS: &str = "CREATE TABLE public.by_int (id integer PRIMARY KEY);
    CREATE TABLE public.by_text (code text PRIMARY KEY);
    CREATE TABLE public.by_uuid (id uuid PRIMARY KEY);
    CREATE TABLE public.by_pair (a integer, b text, PRIMARY KEY (a, b));
    CREATE TABLE public.in_parts (id bigint PRIMARY KEY) PARTITION BY HASH (id);
    CREATE TABLE public.in_parts_0 PARTITION OF public.in_parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE public.in_parts_1 PARTITION OF public.in_parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE public.child (id bigint PRIMARY KEY,
        i integer REFERENCES public.by_int, t varchar(20) REFERENCES public.by_text,
        u uuid REFERENCES public.by_uuid, a integer, b text,
        part bigint REFERENCES public.in_parts, n integer,
        FOREIGN KEY (a, b) REFERENCES public.by_pair);";

const UUID: &str = "0b5c6c1e-1111-4222-8333-444444444444";

/// Rows 1 to 40 have all their parents or none; each of 41 to 45 lacks one; of 46 half a pair is
/// NULL, so that nothing is looked for.
fn children() -> String {
    let mut sql = "CREATE TABLE child (id INTEGER PRIMARY KEY, i INTEGER, t TEXT, u TEXT,
        a INTEGER, b TEXT, part INTEGER, n INTEGER);"
        .to_owned();
    let other = UUID.replace('1', "2");
    for id in 1..=46 {
        let row = match id {
            41 => format!("(41, 9, 'x', '{UUID}', 1, 'x', 1, 41)"),
            42 => format!("(42, 1, 'X', '{UUID}', 1, 'x', 1, 42)"),
            43 => format!("(43, 1, 'x', '{other}', 1, 'x', 1, 43)"),
            44 => format!("(44, 1, 'x', '{UUID}', 1, 'y', 1, 44)"),
            45 => format!("(45, 1, 'x', '{UUID}', 1, 'x', 9, 45)"),
            46 => format!("(46, 1, 'x', '{UUID}', 7, NULL, 1, 46)"),
            id if id % 4 == 0 => format!("({id}, NULL, NULL, NULL, NULL, NULL, NULL, {id})"),
            id => format!("({id}, {}, 'x', '{UUID}', {}, 'x', 1, {id})", id % 2 + 1, id % 3 + 1),
        };
        sql += &format!("INSERT INTO child VALUES {row};");
    }
    sql
}

async fn scene(more: &str, source: &str) -> Move {
    let stream = "[[stream]]\nname = \"child\"\ntarget = \"public.child\"\nkey = [\"id\"]\n\
                  [stream.source]\nsqlite = \"app.sqlite\"\ntable = \"child\"\n";
    let scene = Move::own(&format!("{PARENTS}{more}"), stream, source).await;
    scene
        .execute(&format!(
            "INSERT INTO by_int VALUES (1), (2); INSERT INTO by_text VALUES ('x');
             INSERT INTO by_uuid VALUES ('{UUID}');
             INSERT INTO by_pair SELECT a, 'x' FROM generate_series(1, 3) AS a;
             INSERT INTO in_parts VALUES (1), (2);"
        ))
        .await;
    scene
}

async fn refused(scene: &Move) -> Vec<(String, String)> {
    let rejects = scene.rejects().await;
    let mut rows: Vec<_> = rejects.into_iter().map(|(_, key, _, why)| (key, why)).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn a_row_without_its_parent_is_refused_and_no_other_one_whatever_the_kind_of_key() {
    // The last two have Postgres look itself: their triggers guard more than foreign keys.
    let guards = [
        "",
        "ALTER TABLE public.child ADD CONSTRAINT later UNIQUE (n) DEFERRABLE INITIALLY DEFERRED;",
        "CREATE FUNCTION public.same() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN RETURN NEW; END';
         CREATE TRIGGER seen BEFORE INSERT ON public.child
             FOR EACH ROW EXECUTE FUNCTION public.same();",
    ];
    let mut ends = Vec::new();
    for guard in guards {
        for chunk in ["1", "6", "100"] {
            let scene = scene(guard, &children()).await;
            let report = scene.backfill(1, &["--chunk-records", chunk]);
            assert_eq!(report.six("child"), [41, 0, 0, 0, 0, 5], "{guard} {chunk}");
            let kept = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM child WHERE id > 40";
            assert_eq!(scene.text(kept).await, "46");
            ends.push(refused(&scene).await);
            scene.is_clean();
        }
    }
    assert!(ends[0].len() == 5 && ends[0].iter().all(|(_, why)| why == "orphan"), "{ends:?}");
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[tokio::test]
async fn what_other_triggers_guard_is_guarded_all_the_same() {
    let source = "CREATE TABLE child (id INTEGER PRIMARY KEY, i INTEGER, n INTEGER);
        INSERT INTO child VALUES (1, 1, 5), (2, 1, 5), (3, 2, 6), (4, 2, 7);";
    let unique = "ALTER TABLE public.child ADD CONSTRAINT later UNIQUE (n) DEFERRABLE;";
    let scene = scene(unique, source).await;
    let report = scene.backfill(1, &[]);
    assert_eq!(report.six("child"), [3, 0, 0, 0, 0, 1]);
    assert_eq!(scene.count("child WHERE n = 5").await, 1);
}

#[tokio::test]
async fn a_parent_that_is_deleted_meanwhile_leaves_no_row_that_refers_to_it() {
    let source = "CREATE TABLE child (id INTEGER PRIMARY KEY, i INTEGER, n INTEGER);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        INSERT INTO child SELECT i, i, i FROM n;";
    let scene = scene("", source).await;
    scene.execute("INSERT INTO by_int SELECT generate_series(3, 3000)").await;
    let mut running = scene.backfill_command(&["--chunk-records", "20"]);
    let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for id in (1..=3_000).rev() {
        // Refused where a child is there already.
        let gone = sqlx::query("DELETE FROM by_int WHERE id = $1").bind(id);
        let _ = gone.execute(&scene.pool).await;
    }
    assert!(matches!(running.wait().unwrap().code(), Some(0 | 1)));
    let dangling = "child c WHERE NOT EXISTS (SELECT 1 FROM by_int p WHERE p.id = c.i)";
    assert_eq!(scene.count(dangling).await, 0);
    let stored = scene.count("child").await;
    let refused = i64::try_from(scene.rejects().await.len()).unwrap();
    assert_eq!(stored + refused, 3_000);
}

#[tokio::test]
async fn a_parent_of_many_rows_is_looked_for_once_a_chunk() {
    let source = "CREATE TABLE child (id INTEGER PRIMARY KEY, i INTEGER, n INTEGER);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO child SELECT i, 1 + i % 2, i FROM n;";
    let scene = scene("", source).await;
    let scans = "SELECT idx_scan::text FROM pg_stat_user_tables WHERE relname = 'by_int'";
    let before: i64 = scene.text(scans).await.parse().unwrap();
    let report = scene.backfill(0, &["--chunk-records", "500"]);
    assert_eq!(report.six("child"), [2_000, 0, 0, 0, 0, 0]);
    // The server counts when a session ends.
    let mut after = before;
    for _ in 0..200 {
        after = scene.text(scans).await.parse().unwrap();
        if after > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Two parents in each of four chunks; Postgres itself would have looked 2,000 times.
    assert!((1..100).contains(&(after - before)), "{before} {after}");
}
