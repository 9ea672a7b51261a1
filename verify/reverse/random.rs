//! Any writes at all in Postgres, with the applier stepping in between: both stores end equal.
//! `TOOLKIT_TEST_SEED` replays a failure.

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sqlx::{Executor as _, PgConnection};
use toolkit::demo::Shape;
use toolkit::store::sql;

use super::Back;
use crate::support::world::World;

fn seed() -> u64 {
    let seed = std::env::var("TOOLKIT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("TOOLKIT_TEST_SEED={seed}");
    seed
}

/// Sessions with transactions of their own; a statement that fails takes only itself back.
struct Sessions {
    sessions: Vec<(PgConnection, bool)>,
}

impl Sessions {
    async fn new(world: &World, count: usize) -> Self {
        let mut sessions = Vec::new();
        for _ in 0..count {
            let mut conn = world.postgres.dedicated().await.unwrap();
            conn.execute("SET lock_timeout = '20ms'").await.unwrap();
            sessions.push((conn, false));
        }
        Self { sessions }
    }

    /// Runs a statement in some session, which may begin or end a transaction around it.
    async fn run(&mut self, dice: &mut ChaCha8Rng, statement: String) {
        let at = dice.random_range(0..self.sessions.len());
        let (conn, is_open) = &mut self.sessions[at];
        if !*is_open && dice.random_bool(0.4) {
            conn.execute("BEGIN; SET CONSTRAINTS ALL DEFERRED").await.unwrap();
            *is_open = true;
        }
        if *is_open {
            conn.execute("SAVEPOINT s").await.unwrap();
        }
        let failed = conn.execute(sql(statement)).await.is_err();
        if *is_open && (failed || dice.random_bool(0.1)) {
            conn.execute("ROLLBACK TO s").await.unwrap();
        }
        if *is_open && dice.random_bool(0.3) {
            // A deferred check may refuse the whole transaction.
            let end = if dice.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" };
            let _ = conn.execute(end).await;
            *is_open = false;
        }
    }

    async fn end(mut self) {
        for (conn, is_open) in &mut self.sessions {
            if *is_open {
                let _ = conn.execute("COMMIT").await;
            }
        }
    }
}

async fn drive(
    back: &Back,
    dice: &mut ChaCha8Rng,
    steps: usize,
    any: fn(&mut ChaCha8Rng) -> String,
) {
    let mut sessions = Sessions::new(&back.world, 3).await;
    let mut reverse = None;
    for _ in 0..steps {
        let statement = any(dice);
        sessions.run(dice, statement).await;
        if dice.random_bool(0.15) {
            let batch = dice.random_range(1..9);
            // A killed applier is one that is dropped and opened again.
            if reverse.is_none() || dice.random_bool(0.2) {
                drop(reverse.take());
                reverse = back.open(batch).await.ok();
            }
            if let Some(reverse) = &mut reverse {
                reverse.step().await.unwrap();
            }
        }
    }
    sessions.end().await;
    drop(reverse);
    back.catches_up_clean().await;
}

fn any_of_mine(dice: &mut ChaCha8Rng) -> String {
    let id = dice.random_range(1..14);
    let other = dice.random_range(1..14);
    let name = dice.random_range(0..12);
    let code = ["x", "y", "Z", "ü", ""].choose(dice).unwrap();
    let text =
        ["NULL", "''", "'one'", "E'a\\nb'", "'π'", "repeat('long ', 900)"].choose(dice).unwrap();
    let price = ["NULL", "1.50", "0", "-12345678901234567890.000001", "1e-7"].choose(dice).unwrap();
    let done = ["NULL", "true", "false"].choose(dice).unwrap();
    let at = [
        "NULL",
        "'2026-05-01 12:00:00.000001+02'",
        "'1969-12-31 23:59:59.999999+00'",
        "'infinity'",
        "'0044-03-15 10:00:00+00 BC'",
        "now()",
    ]
    .choose(dice)
    .unwrap();
    let json = ["'{}'", "'null'", "'[1, \"\\u00e9\", 1e3]'", "'{\"z\": 1, \"a\": {}}'"]
        .choose(dice)
        .unwrap();
    match dice.random_range(0..12) {
        0 | 1 => format!(
            "INSERT INTO owners (id, name, seen_at, prefs) VALUES ({id}, 'n{name}', {at}, {json})"
        ),
        2 => format!("UPDATE owners SET seen_at = {at}, prefs = {json} WHERE id = {id}"),
        3 => format!("UPDATE owners SET name = 'n{name}' WHERE id = {id}"),
        4 => format!("UPDATE owners SET id = {other} WHERE id = {id}"),
        5 => format!("DELETE FROM owners WHERE id = {id}"),
        6 => format!(
            "UPDATE owners o SET name = p.name FROM owners p WHERE o.id IN ({id}, {other}) \
             AND p.id IN ({id}, {other}) AND p.id <> o.id"
        ),
        7..=9 => format!(
            "INSERT INTO things VALUES ({id}, '{code}', {text}, {price}, {done}) \
             ON CONFLICT (owner, code) DO UPDATE SET note = EXCLUDED.note, price = EXCLUDED.price"
        ),
        10 => format!("UPDATE things SET code = '{code}', owner = {other} WHERE owner = {id}"),
        _ => format!("DELETE FROM things WHERE owner = {id} AND code <> '{code}'"),
    }
}

#[tokio::test]
async fn any_writes_in_any_sessions_end_in_parity() {
    let seed = seed();
    for round in 0..3 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed + round);
        let back = Back::new().await;
        drive(&back, &mut dice, 150, any_of_mine).await;
    }
}

/// Writes as the unified application's: runs and steps, caches, usage.
fn any_of_unified(dice: &mut ChaCha8Rng) -> String {
    let some = |table: &str, key: &str, dice: &mut ChaCha8Rng| {
        let at = dice.random_range(0..1_000_000);
        format!("(SELECT {key} FROM {table} ORDER BY md5({key}::text || '{at}') LIMIT 1)")
    };
    let number = dice.random_range(0..20);
    let month = dice.random_range(1..13);
    let status = ["running", "completed", "failed"].choose(dice).unwrap();
    let json = ["{}", "null", "[1, 2.50]", "{\"citations\": 3, \"ä\": null}"].choose(dice).unwrap();
    let at = format!("'2026-{month:02}-03 10:00:00.{number:06}+00'");
    match dice.random_range(0..10) {
        0 => format!(
            "INSERT INTO retrieval.query_cache (cache_key, query, paper_path, model, context_hash, answer, created_at) \
             VALUES ('k{number}', 'q', 'p', 'm', 'c', 'answer {number}', {at}) \
             ON CONFLICT (cache_key) DO UPDATE SET answer = EXCLUDED.answer || '+', created_at = {at}"
        ),
        1 => format!(
            "DELETE FROM retrieval.query_cache WHERE cache_key = {}",
            some("retrieval.query_cache", "cache_key", dice)
        ),
        2 => format!(
            "INSERT INTO observability.token_usage (created_at, model, operation, input_tokens, \
             output_tokens, total_tokens, meta, step, cost_usd_total) \
             VALUES ({at}, 'gpt', 'chat', {number}, 0, {number}, '{json}', 'prep', 0.1)"
        ),
        3 => format!(
            "UPDATE observability.token_usage SET created_at = {at}, total_tokens = 3000000000 \
             WHERE id = {}",
            some("observability.token_usage", "id", dice)
        ),
        4 => format!(
            "INSERT INTO enrichment.openalex_cache (cache_key, work_id, query, response, fetched_at) \
             VALUES ('k{number}', 'W1', 'q', '{json}', date_trunc('second', {at}::timestamptz)) \
             ON CONFLICT (cache_key) DO UPDATE SET response = EXCLUDED.response"
        ),
        5 => format!(
            "UPDATE enrichment.citec_cache SET response = '{json}', fetched_at = '2026-{month:02}-01Z' \
             WHERE cache_key = {}",
            some("enrichment.citec_cache", "cache_key", dice)
        ),
        6 => format!(
            "INSERT INTO workflow.run_records (run_id, record_kind, step, record_key, status, \
             metadata_json, papers_dir, created_at, updated_at) \
             VALUES ('r{number}', 'run', '', 'main', '{status}', '{json}', '/p', {at}, {at}) \
             ON CONFLICT (run_id, record_kind, step, record_key) DO UPDATE SET status = EXCLUDED.status"
        ),
        7 => format!(
            "INSERT INTO workflow.run_records (run_id, record_kind, step, record_key, status, \
             output_json, started_at, created_at, updated_at) \
             VALUES ('r{number}', 'step', 'prep', 'main', '{status}', '{json}', {at}, {at}, {at}) \
             ON CONFLICT (run_id, record_kind, step, record_key) DO UPDATE SET \
             output_json = EXCLUDED.output_json, finished_at = {at}, updated_at = {at}"
        ),
        8 => format!(
            "UPDATE workflow.run_records SET status = '{status}', metadata_json = '{json}' \
             WHERE record_kind = 'run' AND run_id = {}",
            some("workflow.run_records", "run_id", dice)
        ),
        _ => format!(
            "DELETE FROM workflow.run_records WHERE record_kind IN ('run', 'step') AND run_id = {}",
            some("workflow.run_records", "run_id", dice)
        ),
    }
}

#[tokio::test]
async fn any_writes_of_the_unified_application_end_in_parity() {
    let seed = seed();
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let (world, _) = World::generated(seed, &Shape { quirks: false, ..Shape::tiny() }).await;
    let back = Back::over(world).await;
    drive(&back, &mut dice, 150, any_of_unified).await;
}
