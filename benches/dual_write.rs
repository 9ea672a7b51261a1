//! What capture costs an application's single-row writes, how fast captured changes arrive, and how
//! long a cutover keeps an application from writing.
//!
//! `cargo bench --bench dual_write`; `TOOLKIT_BENCH_SHORT=1` uses a twentieth of the rows.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout, missing_docs)]

mod freeze;
mod shared;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use toolkit::capture::tail::{Tail, TailOptions};
use toolkit::capture::{self, EnableOptions};
use toolkit::config::{Database, Settings};
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::store::Postgres;
use toolkit::store::embedded::Embedded;

use shared::{Fallible, is_short, scratch};

/// Rounds, side by side; the fastest of each side counts.
const ROUNDS: usize = 5;

fn open(folder: &Path, file: &str) -> Connection {
    let connection = Connection::open(folder.join("sqlite").join(file)).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
    connection
}

/// Inserts, updates and deletes rows of a table, each in a transaction of its own.
fn write(connection: &Connection, statements: &[&str; 3], rows: i64, first: i64) -> [Duration; 3] {
    let mut took = [Duration::ZERO; 3];
    for (statement, took) in statements.iter().zip(&mut took) {
        let mut statement = connection.prepare(statement).unwrap();
        let started = Instant::now();
        for row in first..first + rows {
            statement.execute([row]).unwrap();
        }
        *took = started.elapsed();
    }
    took
}

const TABLES: [(&str, &str, [&str; 3]); 3] = [
    (
        "token_usage (INTEGER PRIMARY KEY)",
        "ragonometrics_token_usage.sqlite",
        [
            "INSERT INTO token_usage (id, created_at, model, operation, input_tokens, \
             output_tokens, total_tokens, session_id, request_id, meta) VALUES (?1, \
             '2026-02-06T17:40:01.994514+00:00', 'gpt-5-mini', 'answer', 1200, 340, 1540, \
             's' || ?1, 'r' || ?1, '{\"k\": 1}')",
            "UPDATE token_usage SET total_tokens = total_tokens + 1 WHERE id = ?1",
            "DELETE FROM token_usage WHERE id = ?1",
        ],
    ),
    (
        "query_cache (TEXT PRIMARY KEY, 2 KB)",
        "ragonometrics_query_cache.sqlite",
        [
            "INSERT OR REPLACE INTO query_cache VALUES (printf('%064x', ?1), 'what is ' || ?1, \
             '/papers/a.pdf', 'gpt-5-mini', printf('%064x', ?1 * 7), printf('%2000c', 'x'), \
             '2026-02-06T17:40:01+00:00')",
            "UPDATE query_cache SET answer = answer || '!' WHERE cache_key = printf('%064x', ?1)",
            "DELETE FROM query_cache WHERE cache_key = printf('%064x', ?1)",
        ],
    ),
    (
        "workflow_steps (composite TEXT key)",
        "ragonometrics_workflow_state.sqlite",
        [
            "INSERT INTO workflow_steps VALUES (printf('%032x', ?1), 'prep', 'running', \
             '2026-02-06T17:40:01+00:00', NULL, '{}')",
            "UPDATE workflow_steps SET status = 'completed' WHERE run_id = printf('%032x', ?1) \
             AND step = 'prep'",
            "DELETE FROM workflow_steps WHERE run_id = printf('%032x', ?1) AND step = 'prep'",
        ],
    ),
];

fn main() -> Fallible<()> {
    let rows: i64 = if is_short() { 1_000 } else { 20_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let scratch = scratch()?;
        let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
        let lease = Embedded::new(&settings).acquire().await?;
        let postgres = Postgres::connect(&settings).await?;
        let mut conn = postgres.dedicated().await?;
        toolkit::migrate::up(&mut conn, &["unified"], &toolkit::migrate::Options::default())
            .await?;
        drop(conn);
        let (plain, captured) = (scratch.path().join("plain"), scratch.path().join("captured"));
        for path in [&plain, &captured] {
            std::fs::create_dir(path)?;
            toolkit::demo::generate(path, 1, &toolkit::demo::Shape::scaled(10, 10))?;
        }
        let roots = [captured.clone()];
        let pack = || Pack::find("unified").unwrap();
        let opened = toolkit::pack::open(&settings, &postgres, pack(), &roots).await.unwrap();
        capture::enable(&postgres, &opened, &EnableOptions::default()).await.unwrap();
        println!("single-row writes, each a transaction (WAL, synchronous NORMAL), {rows} rows:");
        for (name, file, statements) in &TABLES {
            let sides = [open(&plain, file), open(&captured, file)];
            let mut best = [[Duration::MAX; 3]; 2];
            for round in 0..ROUNDS {
                let first = 1_000_000 + i64::try_from(round).unwrap() * rows;
                for (side, best) in sides.iter().zip(&mut best) {
                    let took = write(side, statements, rows, first);
                    for (took, best) in took.iter().zip(best.iter_mut()) {
                        *best = (*best).min(*took);
                    }
                }
            }
            let ratio = |at: usize| best[1][at].as_secs_f64() / best[0][at].as_secs_f64();
            let all = |side: usize| best[side].iter().sum::<Duration>().as_secs_f64();
            println!(
                "  {name}: insert {:.2}x, update {:.2}x, delete {:.2}x; all three {:.2}x \
                 ({:.1} us -> {:.1} us a write)",
                ratio(0),
                ratio(1),
                ratio(2),
                all(1) / all(0),
                all(0) * 1e6 / (3 * rows) as f64,
                all(1) * 1e6 / (3 * rows) as f64,
            );
        }
        throughput(&settings, &postgres, &captured, rows).await;
        freeze::measure(&settings, scratch.path()).await?;
        postgres.close().await?;
        lease.release().await?;
        Ok(())
    })
}

/// How fast a backlog is applied.
async fn throughput(settings: &Settings, postgres: &Postgres, source: &Path, rows: i64) {
    let pack = Pack::find("unified").unwrap();
    let roots = [source.to_path_buf()];
    let mut tail =
        Tail::open(settings, postgres, pack, &roots, TailOptions::default()).await.unwrap();
    tail.catch_up(None, &Stop::new()).await.unwrap();
    for (name, file, statements) in &TABLES {
        let application = open(source, file);
        for (what, statement) in ["inserted", "updated", "deleted"].iter().zip(statements) {
            application.execute_batch("BEGIN").unwrap();
            let mut prepared = application.prepare(statement).unwrap();
            for row in 0..rows {
                prepared.execute([9_000_000 + row]).unwrap();
            }
            drop(prepared);
            application.execute_batch("COMMIT").unwrap();
            let started = Instant::now();
            let applied = tail.catch_up(None, &Stop::new()).await.unwrap();
            let changes: u64 = applied.iter().map(|applied| applied.changes).sum();
            let took = started.elapsed().as_secs_f64();
            println!(
                "  {name}: {changes} {what} rows applied in {took:.2} s, {:.0} a second",
                changes as f64 / took
            );
        }
    }
    tail.close().await.unwrap();
}
