//! Partitions split beside writers, killed, and refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use toolkit::ErrorKind;
use toolkit::interrupt::Stop;
use toolkit::media::repartition::{self, Progress};

use crate::support::toolkit;
use crate::support::world::World;

const CONTENT: &str = "SELECT count(*) || ' ' || sum(hashtextextended(u::text, 0)) FROM \
     interaction.user_media AS u";

/// So many users and media; every user tracks every medium.
async fn tracker(users: u32, media: u32) -> World {
    let world = World::builtin("media", Path::new("nowhere")).await;
    world
        .sql(&format!(
            "INSERT INTO users.users (id, email) SELECT md5('u' || n)::uuid, n || '@x'
                 FROM generate_series(1, {users}) AS n;
             INSERT INTO media.media (id, media_type, media_class, title)
                 SELECT md5('m' || n)::uuid, 'anime', 'media.anime', 't' FROM generate_series(1, {media}) AS n;
             INSERT INTO interaction.user_media (user_id, media_id, progress)
                 SELECT u.id, m.id, 0 FROM users.users u, media.media m"
        ))
        .await;
    world
}

async fn bounds(world: &World) -> String {
    world
        .text(
            "SELECT string_agg(bounds || ' ' || n, ', ' ORDER BY bounds) FROM (SELECT \
             substring(pg_get_expr(relpartbound, oid) FROM 'modulus [0-9]+') AS bounds, count(*) AS n \
             FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE 'user_media%' \
             GROUP BY 1) AS b",
        )
        .await
}

/// Nothing of the work is left beside the partitions.
async fn leftovers(world: &World) -> String {
    world
        .text(
            "SELECT ((SELECT count(*) FROM pg_class WHERE relname LIKE '%split%' AND relkind IN ('r', 'p')) \
             + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'toolkit_split%') \
             + (SELECT count(*) FROM pg_proc WHERE proname LIKE '%toolkit_split'))::text",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_partitions_become_sixty_four_and_nothing_written_meanwhile_is_lost() {
    let world = tracker(60, 20).await;
    let stop = Arc::new(AtomicBool::new(false));
    let pool = world.database.pool().await;
    let writer = tokio::spawn({
        let (stop, pool) = (Arc::clone(&stop), pool.clone());
        async move {
            let mut writes = 0_i32;
            while !stop.load(Ordering::Relaxed) {
                writes += 1;
                let mut transaction = pool.begin().await.unwrap();
                let changed = sqlx::query(
                    "WITH gone AS (DELETE FROM interaction.user_media WHERE user_id = md5('u' || $1)::uuid \
                        AND media_id = md5('m' || $2)::uuid RETURNING *) \
                     INSERT INTO interaction.user_media SELECT (g).* FROM \
                        (SELECT gone AS g FROM gone WHERE $1 % 3 > 0) AS s",
                );
                changed
                    .bind(writes % 60 + 1)
                    .bind(writes % 20 + 1)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                sqlx::query(
                    "UPDATE interaction.user_media SET progress = progress + 1, notes = $2 \
                     WHERE user_id = md5('u' || $1)::uuid",
                )
                .bind(writes % 60 + 1)
                .bind(format!("w{writes}"))
                .execute(&mut *transaction)
                .await
                .unwrap();
                if writes % 7 == 0 {
                    transaction.rollback().await.unwrap();
                    continue;
                }
                transaction.commit().await.unwrap();
            }
            writes
        }
    });
    let mut conn = world.postgres.dedicated().await.unwrap();
    let plan = repartition::plan(&mut conn, 64).await.unwrap();
    assert_eq!((plan.splits.len(), &plan.splits[3].remainders), (16, &vec![3, 19, 35, 51]));
    let done = repartition::apply(&mut conn, plan, &Stop::new(), &|_| ()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    assert!(done.splits.iter().all(|split| split.rows.is_some()));
    assert_eq!(bounds(&world).await, "modulus 64 64");
    assert_eq!(leftovers(&world).await, "0");
    // A user's rows all went through the same updates, but for those that were put back or deleted.
    let uneven = "SELECT count(*)::text FROM (SELECT user_id FROM interaction.user_media \
                  GROUP BY user_id HAVING count(DISTINCT (progress, notes)) > 1) AS u";
    assert_eq!(world.text(uneven).await, "0");
    // Indexes, keys and checks are the parent's in every partition.
    let unlike = "SELECT count(*)::text FROM pg_inherits i WHERE inhparent = 'interaction.user_media'::regclass \
        AND ((SELECT count(*) FROM pg_index x JOIN pg_inherits xi ON xi.inhrelid = x.indexrelid \
              WHERE x.indrelid = i.inhrelid) <> 5 \
          OR (SELECT count(*) FROM pg_constraint c WHERE c.conrelid = i.inhrelid AND conparentid <> 0 \
              AND convalidated) <> 3)";
    assert_eq!(world.text(unlike).await, "0");
    let again = repartition::plan(&mut conn, 64).await.unwrap();
    assert_eq!((again.ready, again.splits.len()), (64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repartitioning_that_is_stopped_or_killed_goes_on_where_it_was() {
    let world = tracker(40, 5).await;
    let before = world.text(CONTENT).await;
    let mut conn = world.postgres.dedicated().await.unwrap();
    let plan = repartition::plan(&mut conn, 64).await.unwrap();
    let stop = Stop::new();
    let done = AtomicBool::new(false);
    let after_two = |progress: Progress<'_>| {
        if progress.is_done && done.swap(true, Ordering::Relaxed) {
            stop.request();
        }
    };
    let stopped = repartition::apply(&mut conn, plan, &stop, &after_two).await;
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(
        (bounds(&world).await, leftovers(&world).await),
        ("modulus 16 14, modulus 64 8".to_owned(), "0".to_owned())
    );
    assert_eq!(world.text(CONTENT).await, before);
    // Killed with everything of one partition begun.
    let plan = repartition::plan(&mut conn, 64).await.unwrap();
    let mut child = toolkit()
        .args(["--database-url", world.database.url(), "media", "repartition", "--modulus", "64"])
        .current_dir(world.database.folder())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while leftovers(&world).await == "0" && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(plan);
    world.sql("UPDATE interaction.user_media SET notes = 'between'").await;
    let before = world.text(CONTENT).await;
    // The killed one's session may hold the lock for another moment.
    let mut code = None;
    for _ in 0..50 {
        code = world.run(&["media", "repartition", "--modulus", "64"]).status.code();
        if code == Some(0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(code, Some(0));
    assert_eq!(
        (bounds(&world).await, leftovers(&world).await),
        ("modulus 64 64".to_owned(), "0".to_owned())
    );
    assert_eq!(world.text(CONTENT).await, before);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_modulus_that_cannot_be_is_refused() {
    let world = tracker(4, 4).await;
    let shown = world.run(&["media", "repartition", "--modulus", "64", "--dry-run"]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("p0 p16 p32 p48"));
    assert_eq!(bounds(&world).await, "modulus 16 16");
    for modulus in ["24", "8", "100"] {
        let refused = world.run(&["media", "repartition", "--modulus", modulus]);
        assert_eq!(refused.status.code(), Some(2), "{modulus}");
    }
    let mut other = world.postgres.dedicated().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(hashtextextended('toolkit.media.repartition', 0))")
        .execute(&mut other)
        .await
        .unwrap();
    let mut conn = world.postgres.dedicated().await.unwrap();
    let plan = repartition::plan(&mut conn, 32).await.unwrap();
    let busy = repartition::apply(&mut conn, plan, &Stop::new(), &|_| ()).await;
    assert_eq!(busy.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(bounds(&world).await, "modulus 16 16");
}
