//! Reads on both stores: the primary's result, the secondary's differences.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};
use toolkit::live::{Cell, Doing, Order, ShadowOptions, ShadowRead};
use toolkit::phase::Phase;

use super::{fence, go_to, router, shop};
use crate::support::world::World;

const ALL: ShadowOptions = ShadowOptions {
    sampling_rate: 1.0,
    budget: Duration::from_secs(20),
    settle_max: Duration::from_secs(20),
};

/// Both stores hold orders 1 and 2, and a backfill has completed.
async fn copied(phase: Phase) -> World {
    let world = shop(phase).await;
    let rows = "INSERT INTO orders VALUES (1, 'ada'), (2, 'bob')";
    world.sqlite(rows);
    world.sql(rows).await;
    world
        .sql(
            "INSERT INTO toolkit.run (run_id, command, pack, status, tool_version) \
             VALUES (gen_random_uuid(), 'backfill', 'shop', 'completed', '0')",
        )
        .await;
    world
}

async fn shadow(world: &World, options: ShadowOptions) -> ShadowRead {
    ShadowRead::start(&router(world).await, &world.source.join("app.sqlite"), options)
        .await
        .unwrap()
}

fn in_sqlite(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<Vec<Cell>>> {
    let mut statement = connection.prepare("SELECT id, customer FROM orders ORDER BY id DESC")?;
    let rows = statement.query_map([], |row| {
        Ok(vec![row.get::<_, i64>(0)?.into(), row.get::<_, String>(1)?.into()])
    })?;
    rows.collect()
}

fn in_postgres(conn: &mut PgConnection) -> Doing<'_, sqlx::Result<Vec<Vec<Cell>>>> {
    Box::pin(async move {
        let rows =
            sqlx::query("SELECT id, customer FROM orders ORDER BY id").fetch_all(conn).await?;
        rows.iter()
            .map(|row| {
                Ok(vec![row.try_get::<i64, _>(0)?.into(), row.try_get::<String, _>(1)?.into()])
            })
            .collect()
    })
}

async fn read(shadow: &ShadowRead, order: Order) -> usize {
    let rows = shadow.read("orders", order, in_sqlite, in_postgres).await.unwrap();
    rows.len()
}

/// `reads/mismatches` as stored, and how many are described.
async fn stored(world: &World) -> String {
    world
        .text(
            "SELECT coalesce(sum(reads) || '/' || sum(mismatches), 'none') || ' ' || \
             (SELECT count(*) FROM toolkit.shadow_mismatch) FROM toolkit.shadow_read",
        )
        .await
}

#[tokio::test]
async fn equal_reads_are_counted_and_a_difference_is_a_mismatch_without_values() {
    let world = copied(Phase::Backfill).await;
    let shadow = shadow(&world, ALL).await;
    assert_eq!(read(&shadow, Order::Ignored).await, 2);
    shadow.flush().await.unwrap();
    assert_eq!(stored(&world).await, "1/0 0");
    // The two reads order their rows differently.
    read(&shadow, Order::Counts).await;
    world.sql("UPDATE orders SET customer = 'secret-eve' WHERE id = 2").await;
    read(&shadow, Order::Ignored).await;
    shadow.flush().await.unwrap();
    assert_eq!(stored(&world).await, "3/2 2");
    let counts = shadow.counts();
    assert_eq!((counts.reads, counts.compared, counts.mismatches), (3, 3, 2));
    let detail =
        world.text("SELECT detail::text FROM toolkit.shadow_mismatch ORDER BY id DESC").await;
    assert!(detail.contains("\"only_in_primary\": 1"), "{detail}");
    assert!(!detail.contains("bob") && !detail.contains("eve"), "{detail}");
}

#[tokio::test]
async fn after_cutover_the_result_is_postgres_and_sqlite_is_compared() {
    let world = copied(Phase::Backfill).await;
    fence(&world, 1);
    go_to(&world, Phase::Cutover).await;
    world.sql("CREATE TABLE IF NOT EXISTS toolkit.reverse_log (id bigint, pack text)").await;
    world.sql("INSERT INTO orders VALUES (3, 'cyd')").await;
    let shadow = shadow(&world, ALL).await;
    assert_eq!(read(&shadow, Order::Ignored).await, 3);
    shadow.flush().await.unwrap();
    assert_eq!(stored(&world).await, "1/1 1");
}

#[tokio::test]
async fn a_change_that_is_still_on_its_way_is_no_mismatch() {
    let world = copied(Phase::Backfill).await;
    world
        .sql(
            "INSERT INTO toolkit.capture_cursor (pack, source, installation, position) \
             VALUES ('shop', 'app.sqlite', '6f1d1ff0-0000-4000-8000-000000000001', 0)",
        )
        .await;
    let shadow = shadow(&world, ALL).await;
    world
        .sqlite("INSERT INTO orders VALUES (3, 'cyd'); INSERT INTO toolkit_capture_log VALUES (1)");
    assert_eq!(read(&shadow, Order::Ignored).await, 3);
    let arrives = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world
            .sql(
                "BEGIN; INSERT INTO orders VALUES (3, 'cyd'); \
                 UPDATE toolkit.capture_cursor SET position = 1; COMMIT",
            )
            .await;
    };
    let (flushed, ()) = tokio::join!(shadow.flush(), arrives);
    flushed.unwrap();
    assert_eq!(stored(&world).await, "1/0 0");
}

#[tokio::test]
async fn a_slow_or_failing_secondary_neither_delays_nor_fails_a_read() {
    let world = copied(Phase::Backfill).await;
    let options = ShadowOptions { budget: Duration::from_millis(50), ..ALL };
    let shadow = shadow(&world, options).await;
    fn sleeps(conn: &mut PgConnection) -> Doing<'_, sqlx::Result<Vec<Vec<Cell>>>> {
        let asleep = sqlx::query("SELECT pg_sleep(600)").execute(conn);
        Box::pin(async move { asleep.await.map(|_| Vec::new()) })
    }
    let rows = shadow.read("slow", Order::Ignored, in_sqlite, sleeps).await.unwrap();
    assert_eq!(rows.len(), 2);
    fn fails(conn: &mut PgConnection) -> Doing<'_, sqlx::Result<Vec<Vec<Cell>>>> {
        let asked = sqlx::query("INSERT INTO orders VALUES (9, 'mallory')").execute(conn);
        Box::pin(async move { asked.await.map(|_| Vec::new()) })
    }
    let rows = shadow.read("writes", Order::Ignored, in_sqlite, fails).await.unwrap();
    assert_eq!(rows.len(), 2);
    shadow.flush().await.unwrap();
    assert_eq!(shadow.counts().unanswered, 2);
    assert_eq!(stored(&world).await, "none 0");
    assert_eq!(world.text("SELECT count(*)::text FROM orders").await, "2");
}

#[tokio::test]
async fn before_history_is_copied_nothing_is_compared() {
    let world = shop(Phase::DualWrite).await;
    world.sqlite("INSERT INTO orders VALUES (1, 'ada')");
    let shadow = shadow(&world, ALL).await;
    assert_eq!(read(&shadow, Order::Ignored).await, 1);
    go_to(&world, Phase::Backfill).await;
    let counts = loop {
        read(&shadow, Order::Ignored).await;
        shadow.flush().await.unwrap();
        if shadow.counts().reads > 3 {
            break shadow.counts();
        }
    };
    assert_eq!((counts.compared, counts.mismatches), (0, 0));
}
