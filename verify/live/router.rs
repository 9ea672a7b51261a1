//! The route: asked for, remembered, followed.

use std::time::Duration;

use toolkit::config::{Database, Settings};
use toolkit::live::ReadRouter;
use toolkit::phase::{Phase, Route};

use super::{PACK, go_to, router, shop};
use crate::torture::cluster::Cluster;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_flip_of_the_route_is_followed_both_ways() {
    let world = shop(Phase::Backfill).await;
    let router = router(&world).await;
    let clone = router.clone();
    assert_eq!(router.route(), Route::Sqlite);
    go_to(&world, Phase::Cutover).await;
    assert_eq!(router.flipped_from(Route::Sqlite, LONG).await.route, Route::Postgres);
    let routed = clone.routed();
    assert_eq!((routed.route, routed.phase), (Route::Postgres, Phase::Cutover));
    assert!(routed.age.is_some() && routed.trouble.is_none());
    go_to(&world, Phase::Backfill).await;
    assert_eq!(router.flipped_from(Route::Postgres, LONG).await.route, Route::Sqlite);
}

#[tokio::test]
async fn a_flip_is_followed_without_any_notification() {
    let world = shop(Phase::Backfill).await;
    let router = router(&world).await;
    // As seen through a pooler that drops LISTEN.
    world
        .sql("UPDATE toolkit.phase SET phase = 3, reads = 'postgres', generation = generation + 1")
        .await;
    assert_eq!(router.flipped_from(Route::Sqlite, LONG).await.route, Route::Postgres);
}

#[tokio::test]
async fn an_older_copy_of_the_database_flips_nothing() {
    let world = shop(Phase::Cutover).await;
    let router = router(&world).await;
    let known = router.routed().generation;
    world.sql("DELETE FROM toolkit.phase").await;
    let routed = loop {
        let routed = router.refresh(LONG).await;
        if routed.trouble.is_some() {
            break routed;
        }
    };
    assert_eq!((routed.route, routed.generation), (Route::Postgres, known));
    assert!(routed.trouble.unwrap().contains("older copy"));
}

#[tokio::test]
async fn while_the_server_is_away_the_last_route_stays_and_grows_old() {
    let cluster = Cluster::start_new(&[]);
    cluster.make_database("app", None).await;
    cluster
        .execute(
            "app",
            &[
                "CREATE SCHEMA toolkit".to_owned(),
                "CREATE TABLE toolkit.phase (pack text PRIMARY KEY, phase smallint, reads text, \
                 generation bigint, entered_at timestamptz DEFAULT now())"
                    .to_owned(),
                format!("INSERT INTO toolkit.phase VALUES ('{PACK}', 3, 'postgres', 7)"),
            ],
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::new(Database::Url(cluster.url("app")), folder.path());
    let router = ReadRouter::start(&settings, PACK).await.unwrap();
    assert_eq!(router.route(), Route::Postgres);
    cluster.stop("immediate");
    let away = loop {
        let routed = router.refresh(LONG).await;
        if routed.trouble.is_some() {
            break routed;
        }
    };
    assert_eq!((away.route, away.generation), (Route::Postgres, 7));
    let later = router.refresh(LONG).await;
    assert!(later.age > away.age, "{later:?} after {away:?}");
    // A start without the server is no failure either: it says that it knows nothing yet.
    let settings = Settings { connect_timeout_ms: 200, ..settings };
    let blind = ReadRouter::start(&settings, PACK).await.unwrap();
    assert_eq!((blind.route(), blind.routed().age), (Route::Sqlite, None));
    cluster.start();
    assert_eq!(blind.flipped_from(Route::Sqlite, LONG).await.route, Route::Postgres);
    while router.refresh(LONG).await.trouble.is_some() {}
    assert_eq!(router.route(), Route::Postgres);
}
