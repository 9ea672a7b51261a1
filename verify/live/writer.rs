//! Changes: one store is primary for each, whatever happens in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::Connection as _;
use toolkit::ErrorKind;
use toolkit::live::{Doing, DualWriter, Store, WriteError, WriterOptions};
use toolkit::phase::Phase;

use super::{
    CAPTURED, PACK_TOML, SOURCE, TARGET, fence, go_to, options, order, orders, router, shop,
};
use crate::support::world::World;

async fn writer(world: &World) -> DualWriter {
    let file = world.source.join("app.sqlite");
    DualWriter::open(&router(world).await, &file, options()).await.unwrap()
}

#[tokio::test]
async fn a_change_goes_to_the_store_that_is_primary() {
    let world = shop(Phase::Backfill).await;
    let writer = writer(&world).await;
    assert_eq!(writer.write(order(1)).await.unwrap(), "sqlite");
    fence(&world, 1);
    go_to(&world, Phase::Cutover).await;
    assert_eq!(writer.write(order(2)).await.unwrap(), "postgres");
    go_to(&world, Phase::Backfill).await;
    fence(&world, 0);
    assert_eq!(writer.write(order(3)).await.unwrap(), "sqlite");
    assert_eq!(orders(&world).await, "sqlite 1,3; postgres 2");
}

#[tokio::test]
async fn a_change_that_meets_the_fence_waits_for_the_flip() {
    let world = shop(Phase::Backfill).await;
    let writer = Arc::new(writer(&world).await);
    fence(&world, 1);
    let tries = Arc::new(AtomicU32::new(0));
    let (counted, shared) = (Arc::clone(&tries), Arc::clone(&writer));
    let change = tokio::spawn(async move {
        let insert = order(1);
        shared
            .write(|store| {
                counted.fetch_add(1, Ordering::Relaxed);
                insert(store)
            })
            .await
    });
    while tries.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    go_to(&world, Phase::Cutover).await;
    assert_eq!(change.await.unwrap().unwrap(), "postgres");
    assert_eq!(orders(&world).await, "sqlite ; postgres 1");
}

#[tokio::test]
async fn a_fence_that_is_lifted_lets_the_change_through_where_it_began() {
    let world = shop(Phase::Backfill).await;
    let writer = writer(&world).await;
    fence(&world, 1);
    let (done, ()) = tokio::join!(writer.write(order(1)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fence(&world, 0);
    });
    assert_eq!(done.unwrap(), "sqlite");
    assert_eq!(orders(&world).await, "sqlite 1; postgres ");
}

#[tokio::test]
async fn a_fence_that_stays_ends_the_wait_with_nothing_written() {
    let world = shop(Phase::Backfill).await;
    let options = WriterOptions { fence_wait_max: Duration::from_millis(100), ..options() };
    let file = world.source.join("app.sqlite");
    let writer = DualWriter::open(&router(&world).await, &file, options).await.unwrap();
    fence(&world, 1);
    let refused = writer.write(order(1)).await.unwrap_err();
    assert!(matches!(refused, WriteError::Fenced { .. }), "{refused}");
    // Also where the change pretends that nothing had happened.
    fn hides(store: Store<'_>) -> Doing<'_, toolkit::Result<()>> {
        let insert = order(2)(store);
        Box::pin(async move {
            drop(insert.await);
            Ok(())
        })
    }
    let refused = writer.write(hides).await.unwrap_err();
    assert!(matches!(refused, WriteError::Fenced { .. }), "{refused}");
    assert_eq!(orders(&world).await, "sqlite ; postgres ");
}

#[tokio::test]
async fn the_route_changes_only_between_changes_in_postgres() {
    let world = shop(Phase::Cutover).await;
    let writer = Arc::new(writer(&world).await);
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    let gates = Arc::new(std::sync::Mutex::new(Some((begun, may_go_on))));
    let shared = Arc::clone(&writer);
    let slow = tokio::spawn(async move {
        shared
            .write(move |store| {
                let gates = gates.lock().unwrap().take();
                Box::pin(async move {
                    let stored = order(1)(store).await?;
                    if let Some((begun, may_go_on)) = gates {
                        begun.send(()).unwrap();
                        may_go_on.await.unwrap();
                    }
                    Ok::<_, toolkit::Error>(stored)
                })
            })
            .await
    });
    is_begun.await.unwrap();
    let rollback = go_to(&world, Phase::Backfill);
    tokio::pin!(rollback);
    // Whoever changes the route asks for the row, and stands in line.
    let waits = async {
        let waiting = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database()";
        while world.text(waiting).await == "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = &mut rollback => panic!("the route changed under a change that was not committed"),
        () = waits => {}
    }
    go_on.send(()).unwrap();
    rollback.await;
    assert_eq!(slow.await.unwrap().unwrap(), "postgres");
    // The router may still believe in Postgres; the row does not.
    assert_eq!(writer.write(order(2)).await.unwrap(), "sqlite");
    assert_eq!(orders(&world).await, "sqlite 2; postgres 1");
}

#[tokio::test]
async fn a_change_that_fails_or_is_given_up_leaves_nothing() {
    let world = shop(Phase::Backfill).await;
    let writer = writer(&world).await;
    fn fails(store: Store<'_>) -> Doing<'_, Result<(), String>> {
        let insert = order(1)(store);
        Box::pin(async move {
            insert.await.map_err(|error| error.to_string())?;
            Err("the application's own".to_owned())
        })
    }
    let refused = writer.write(fails).await.unwrap_err();
    assert!(matches!(refused, WriteError::Refused(error) if error == "the application's own"));
    fn hangs(store: Store<'_>) -> Doing<'_, toolkit::Result<()>> {
        let insert = order(2)(store);
        Box::pin(async move {
            insert.await?;
            std::future::pending().await
        })
    }
    let given_up = tokio::time::timeout(Duration::from_millis(50), writer.write(hangs)).await;
    assert!(given_up.is_err());
    fn ends(store: Store<'_>) -> Doing<'_, toolkit::Result<()>> {
        Box::pin(async move {
            let Store::Sqlite(file) = store else { unreachable!("SQLite is primary") };
            file.run(|tx| tx.execute_batch("ROLLBACK")).await
        })
    }
    let refused = writer.write(ends).await.unwrap_err();
    assert!(matches!(refused, WriteError::Store(error) if error.kind() == ErrorKind::Usage));
    fn panics(store: Store<'_>) -> Doing<'_, toolkit::Result<()>> {
        Box::pin(async move {
            let Store::Sqlite(file) = store else { unreachable!("SQLite is primary") };
            file.run(|_| panic!("planted")).await
        })
    }
    let refused = writer.write(panics).await.unwrap_err();
    assert!(matches!(refused, WriteError::Refused(error) if error.kind() == ErrorKind::Bug));
    assert_eq!(writer.write(order(3)).await.unwrap(), "sqlite");
    assert_eq!(orders(&world).await, "sqlite 3; postgres ");
}

#[tokio::test]
async fn without_capture_no_writer_starts_in_dual_write() {
    let world = World::own(PACK_TOML, TARGET, SOURCE).await;
    let file = world.source.join("app.sqlite");
    let started = DualWriter::open(&router(&world).await, &file, options()).await.unwrap();
    assert_eq!(started.write(order(1)).await.unwrap(), "sqlite");
    go_to(&world, Phase::DualWrite).await;
    let refused = DualWriter::open(&router(&world).await, &file, options()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.advice_text().unwrap().contains("toolkit dual-write enable --pack shop"));
    world.sqlite(CAPTURED);
    DualWriter::open(&router(&world).await, &file, options()).await.unwrap();
    world.sqlite("UPDATE toolkit_capture_state SET pack = 'other'");
    let refused = DualWriter::open(&router(&world).await, &file, options()).await.unwrap_err();
    assert!(refused.detail().contains("captured for the pack other"));
}

#[tokio::test]
async fn without_postgres_changes_in_sqlite_go_on() {
    let world = shop(Phase::DualWrite).await;
    let nowhere = crate::support::closed_port().unwrap();
    let url = format!("postgres://nobody@127.0.0.1:{nowhere}/none");
    let mut settings = world.database.settings();
    settings.database = toolkit::config::Database::Url(url);
    settings.connect_timeout_ms = 200;
    let router = toolkit::live::ReadRouter::start(&settings, super::PACK).await.unwrap();
    let file = world.source.join("app.sqlite");
    let writer = DualWriter::open(&router, &file, options()).await.unwrap();
    assert_eq!(writer.write(order(1)).await.unwrap(), "sqlite");
    // A fenced file may have moved: without Postgres nobody can say.
    fence(&world, 1);
    let refused = DualWriter::open(&router, &file, options()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StoreUnreachable);
}

#[tokio::test]
async fn what_postgres_refuses_at_the_commit_was_not_committed() {
    let world = shop(Phase::Cutover).await;
    world
        .sql("ALTER TABLE orders ADD CONSTRAINT once UNIQUE (customer) DEFERRABLE INITIALLY DEFERRED")
        .await;
    let writer = writer(&world).await;
    writer.write(order(1)).await.unwrap();
    let refused = writer.write(order(2)).await.unwrap_err();
    assert!(matches!(refused, WriteError::Store(_)), "{refused}");
    assert_eq!(orders(&world).await, "sqlite ; postgres 1");
    let mut conn = world.postgres.dedicated().await.unwrap();
    conn.ping().await.unwrap();
}
