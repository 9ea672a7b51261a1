//! What the triggers in Postgres log, for whom, and what they keep quiet about.

use sqlx::{Connection as _, Executor as _};
use toolkit::capture::reverse;
use toolkit::store::{quote_ident, sql};

use super::Back;
use crate::support::world::World;

#[tokio::test]
async fn a_transaction_that_commits_after_later_numbers_is_not_missed() {
    let back = Back::new().await;
    let mut slow = back.world.postgres.dedicated().await.unwrap();
    slow.execute("BEGIN; UPDATE owners SET name = 'slow' WHERE id = 1").await.unwrap();
    back.world.sql("UPDATE owners SET name = 'quick' WHERE id = 2").await;
    assert_eq!(back.catch_up().await.changes, 1);
    let names = "SELECT name FROM owners WHERE id < 3 ORDER BY id";
    assert_eq!(back.source(names), "Ada quick");
    slow.execute("COMMIT").await.unwrap();
    slow.close().await.unwrap();
    assert_eq!(back.catches_up_clean().await.changes, 1);
    assert_eq!(back.source(names), "slow quick");
}

#[tokio::test]
async fn the_applications_role_needs_no_right_on_the_control_schema() {
    let back = Back::new().await;
    let role = quote_ident(&format!("app_{}", uuid::Uuid::new_v4().simple()));
    back.world
        .sql(&format!(
            "CREATE ROLE {role}; GRANT SELECT, UPDATE ON owners TO {role}; \
             SET ROLE {role}; UPDATE owners SET name = 'by role' WHERE id = 1"
        ))
        .await;
    assert_eq!(back.catches_up_clean().await.updated, 1);
    back.world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn what_the_toolkit_writes_itself_is_not_captured() {
    let back = Back::new().await;
    back.world.sqlite(
        "INSERT INTO owners (id, name, prefs) VALUES (9, 'late', '{}'); \
         UPDATE owners SET name = 'Changed' WHERE id = 1",
    );
    back.world.backfill().await;
    assert_eq!(back.world.text("SELECT name FROM owners WHERE id = 1").await, "Changed");
    assert_eq!(back.log().await, "0");
}

#[tokio::test]
async fn truncate_is_refused_while_it_could_not_be_undone() {
    let back = Back::new().await;
    let mut conn = back.world.postgres.dedicated().await.unwrap();
    let error = conn.execute("TRUNCATE things").await.unwrap_err().to_string();
    assert!(error.contains("TRUNCATE of public.things would not reach SQLite"), "{error}");
    reverse::disable(&mut conn, "mine").await.unwrap();
    conn.execute("TRUNCATE things").await.unwrap();
}

#[tokio::test]
async fn enabling_again_changes_nothing_and_disabling_leaves_nothing_behind() {
    let back = Back::new().await;
    let made = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'toolkit_reverse%')::text \
                || ' ' || (SELECT count(*) FROM pg_proc WHERE proname LIKE 'reverse_row_%')::text";
    assert_eq!(back.world.text(made).await, "4 2");
    back.enable().await;
    assert_eq!(back.world.text(made).await, "4 2");
    let mut conn = back.world.postgres.dedicated().await.unwrap();
    back.world.sql("UPDATE owners SET name = 'x' WHERE id = 1").await;
    back.enable().await;
    assert_eq!(back.log().await, "1", "what waits still waits");
    reverse::disable(&mut conn, "mine").await.unwrap();
    assert_eq!(back.world.text(made).await, "0 0");
}

#[tokio::test]
async fn a_trigger_that_is_switched_off_is_seen() {
    let back = Back::new().await;
    let mut conn = back.world.postgres.dedicated().await.unwrap();
    back.world.sql("UPDATE owners SET name = 'x' WHERE id = 1").await;
    let status = reverse::status(&mut conn, "mine").await.unwrap();
    assert_eq!((status.targets, status.lag_changes, status.missing.len()), (2, 1, 0));
    assert!(!status.running);
    let held = back.open(10).await.unwrap();
    assert!(reverse::status(&mut conn, "mine").await.unwrap().running);
    drop(held);
    back.world.sql("ALTER TABLE things DISABLE TRIGGER toolkit_reverse_row_mine").await;
    let status = reverse::status(&mut conn, "mine").await.unwrap();
    assert_eq!(status.missing, ["public.things"]);
}

#[tokio::test]
async fn two_processes_do_not_apply_one_packs_changes() {
    let back = Back::new().await;
    let _first = back.open(10).await.unwrap();
    let error = back.open(10).await.unwrap_err();
    assert_eq!(error.kind(), toolkit::ErrorKind::Busy);
}

const LEDGER: &str = r#"
[pack]
name = "mine"
version = 1
[[stream]]
name = "usage"
source = { sqlite = "app.sqlite", table = "usage" }
target = "public.usage"
key = ["id"]
"#;

#[tokio::test]
async fn rows_that_move_between_partitions_are_followed_into_later_ones() {
    let world = World::own(
        LEDGER,
        "CREATE TABLE usage (id int8, day date, n int4, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE usage_1 PARTITION OF usage FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE usage_2 PARTITION OF usage FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "CREATE TABLE usage (id INTEGER PRIMARY KEY, day TEXT, n INTEGER);
         INSERT INTO usage VALUES (1, '2026-01-05', 1), (2, '2026-01-06', 2)",
    )
    .await;
    let back = Back::over(world).await;
    back.world.sql("UPDATE usage SET day = '2026-02-05' WHERE id = 1").await;
    assert_eq!(back.catches_up_clean().await.updated, 1);
    back.world
        .sql(
            "CREATE TABLE usage_3 PARTITION OF usage FOR VALUES FROM ('2026-03-01') TO ('2026-04-01'); \
             UPDATE usage SET day = '2026-03-07', n = 7 WHERE id = 2; \
             INSERT INTO usage VALUES (3, '2026-03-01', 3)",
        )
        .await;
    back.catches_up_clean().await;
    let rows = back.source("SELECT * FROM usage ORDER BY id");
    assert_eq!(rows, "1|2026-02-05|1 2|2026-03-07|7 3|2026-03-01|3");
    let mut conn = back.world.postgres.dedicated().await.unwrap();
    let error = conn.execute("TRUNCATE usage_1").await.unwrap_err().to_string();
    assert!(error.contains("would not reach SQLite"), "{error}");
}

#[tokio::test]
async fn writing_back_passes_the_fence_and_leaves_it_up() {
    let back = Back::new().await;
    back.world.sqlite(
        "CREATE TABLE toolkit_capture_state (only_row INTEGER PRIMARY KEY, mode INTEGER NOT NULL);
         INSERT INTO toolkit_capture_state VALUES (1, 1);
         CREATE TABLE toolkit_capture_log (seq INTEGER PRIMARY KEY, what TEXT);
         CREATE TRIGGER toolkit_capture_1 AFTER UPDATE ON owners
         WHEN (SELECT mode FROM toolkit_capture_state) = 0
         BEGIN INSERT INTO toolkit_capture_log (what) VALUES ('echo'); END;
         CREATE TRIGGER toolkit_fence_1 BEFORE UPDATE ON owners
         WHEN (SELECT mode FROM toolkit_capture_state) = 1
         BEGIN SELECT RAISE(ABORT, 'toolkit fence: this database has moved to PostgreSQL'); END;
         CREATE TRIGGER own AFTER UPDATE ON owners BEGIN DELETE FROM things; END",
    );
    back.world.sql("UPDATE owners SET name = 'A' WHERE id = 1").await;
    assert_eq!(back.catches_up_clean().await.updated, 1);
    assert_eq!(back.source("SELECT mode FROM toolkit_capture_state"), "1");
    assert_eq!(back.source("SELECT count(*) FROM toolkit_capture_log"), "0");
    let file = rusqlite::Connection::open(back.world.source.join("app.sqlite")).unwrap();
    let error = file.execute("UPDATE owners SET name = 'no'", []).unwrap_err().to_string();
    assert!(error.contains("toolkit fence:"), "{error}");
    let reverse = back.open(10).await.unwrap();
    assert_eq!(reverse.application_triggers().unwrap(), ["app.sqlite: trigger own"]);
}

#[tokio::test]
async fn finishing_stops_writers_applies_the_rest_and_proves_it() {
    let back = Back::new().await;
    back.world.sql("UPDATE owners SET name = 'last' WHERE id = 1").await;
    let mut reverse = back.open(10).await.unwrap();
    let mut conn = back.world.postgres.dedicated().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let proof = reverse.finish(&mut tx, &toolkit::interrupt::Stop::new()).await.unwrap();
    assert_eq!((proof.applied.updated, proof.changes_left, proof.rejects), (1, 0, 0));
    let mut late = back.world.postgres.dedicated().await.unwrap();
    late.execute(sql("SET lock_timeout = 100".to_owned())).await.unwrap();
    late.execute("UPDATE things SET note = 'late'").await.unwrap_err();
    tx.commit().await.unwrap();
    drop(reverse);
    back.world.assert_clean().await;
}
