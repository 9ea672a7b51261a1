//! Random SQL against a captured file, the tail stepping at random moments.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rusqlite::Connection;

use super::scene::Scene;

/// A random statement over a few keys, so that most of them meet.
fn statement(dice: &mut StdRng) -> String {
    let key = |dice: &mut StdRng| format!("'k{}'", dice.random_range(0..6));
    let number = |dice: &mut StdRng| dice.random_range(1..6);
    let or = ["", "OR REPLACE", "OR IGNORE", "OR REPLACE"][dice.random_range(0..4)];
    let rank = match dice.random_range(0..3) {
        0 => "NULL".to_owned(),
        _ => number(dice).to_string(),
    };
    let (a, b, n, m) = (key(dice), key(dice), number(dice), number(dice));
    match dice.random_range(0..17) {
        0 | 1 => format!("INSERT {or} INTO item VALUES ({a}, {b}, {n}, {rank})"),
        2 => format!("UPDATE {or} item SET sku = {a} WHERE sku = {b}"),
        3 => format!("UPDATE {or} item SET rank = {rank}, name = upper({a}) WHERE sku = {b}"),
        4 => format!("DELETE FROM item WHERE sku = {a}"),
        5 => format!(
            "INSERT INTO item VALUES ({a}, {b}, {n}, {rank}) ON CONFLICT (sku) DO UPDATE \
             SET price = excluded.price, rank = excluded.rank"
        ),
        6 => format!("INSERT {or} INTO pair VALUES ({n}, {a}, {b})"),
        7 => format!("UPDATE {or} pair SET a = {n}, note = {a} WHERE a = {m}"),
        8 => format!("DELETE FROM pair WHERE a = {n}"),
        9 => format!("INSERT {or} INTO parent VALUES ({n}, {a})"),
        10 => format!("UPDATE {or} parent SET id = {n} WHERE id = {m}"),
        11 => format!("DELETE FROM parent WHERE id = {n}"),
        12 => format!("INSERT {or} INTO child VALUES ({n}, {m}, {}, {a})", number(dice)),
        13 => format!("UPDATE child SET parent = {n}, id = {m} WHERE id = {n}"),
        14 => format!("INSERT {or} INTO made (n) VALUES ({n})"),
        15 => format!("UPDATE {or} made SET n = {n} WHERE n = {m}"),
        _ => format!("UPDATE loose SET tag = tag || {n}, v = {a} WHERE rowid = {m}"),
    }
}

/// One transaction, with savepoints, that may be rolled back.
fn transaction(application: &Connection, dice: &mut StdRng) {
    let run = |sql: &str| drop(application.execute_batch(sql));
    run("BEGIN");
    for _ in 0..dice.random_range(1..6) {
        let has_savepoint = dice.random_bool(0.3);
        if has_savepoint {
            run("SAVEPOINT s");
        }
        // Most refusals (constraints) leave the transaction as it was.
        run(&statement(dice));
        if has_savepoint {
            run(&statement(dice));
            run(if dice.random_bool(0.5) { "ROLLBACK TO s; RELEASE s" } else { "RELEASE s" });
        }
    }
    run(if dice.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" });
}

#[tokio::test]
async fn random_sql_with_a_tail_at_random_moments_ends_in_parity() {
    let seed = std::env::var("TOOLKIT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("TOOLKIT_TEST_SEED={seed}");
    for round in 0..3 {
        let mut dice = StdRng::seed_from_u64(seed + round);
        let scene = Scene::captured().await;
        let application = scene.application();
        let mut tail = scene.tail(dice.random_range(1..20)).await;
        // History comes somewhere in between.
        let history_at = dice.random_range(0..60);
        for turn in 0..60 {
            if turn == history_at {
                scene.place.backfill(0, &["--max-rejects", "100%"]);
            }
            transaction(&application, &mut dice);
            for _ in 0..dice.random_range(0..3) {
                tail.step().await.unwrap();
            }
        }
        tail.catch_up(None, &toolkit::interrupt::Stop::new()).await.unwrap();
        scene.assert_clean(&format!("seed {seed}, round {round}")).await;
    }
}
