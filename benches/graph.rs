//! The graph primitives at their caps on a seeded graph (40,000 anime, 1.2 M edges, hubs of 12,000),
//! and on one of ten times as many nodes and edges, on a private server.
//!
//! First every primitive once per start, with percentiles and verdicts; then two other ways to do
//! `k_hop` beside it: the naive CTE with a visited list per path, and a plain query per level. At
//! the end criterion's figures for one random start and one hub.
//!
//! `TOOLKIT_BENCH_SHORT=1` takes a tenth of the nodes, and no tenfold graph.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::time::Duration;

use criterion::Criterion;
use shared::{Fallible, is_short, scratch};
use sqlx::postgres::PgConnection;
use tokio::runtime::Runtime;
use toolkit::config::{Database, Settings};
use toolkit::graph::bench::{self, Benchmark};
use toolkit::graph::generate::{self, Size};
use toolkit::graph::{KHop, PathQuery, compare, k_hop, neighbors, path};
use toolkit::interrupt::Stop;
use toolkit::store::Postgres;
use toolkit::store::embedded::Embedded;

const SEED: u64 = 7;

fn main() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scratch = scratch()?;
    let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
    let lease = runtime.block_on(Embedded::new(&settings).acquire())?;
    let postgres = runtime.block_on(Postgres::connect(&settings))?;
    let mut connection = runtime.block_on(postgres.dedicated())?;
    let options = toolkit::migrate::Options::default();
    runtime.block_on(toolkit::migrate::up(&mut connection, &["anime"], &options))?;
    let (size, starts) = if is_short() {
        (Size { anime: 4_000, edges: 120_000, hub_edges: 1_200 }, 200)
    } else {
        (Size::FULL, 10_000)
    };
    let small = runtime.block_on(measure(&mut connection, size, starts))?;
    runtime.block_on(other_ways(&mut connection, if is_short() { 3 } else { 20 }))?;
    criterion(&runtime, &mut connection);
    if !is_short() {
        let large = runtime.block_on(measure(&mut connection, size.tenfold(), starts))?;
        for (one, ten) in small.measured.iter().zip(&large.measured) {
            println!(
                "{:9} {:6}  p50 {:.2}x  p99 {:.2}x on ten times the edges (at most 1.5x)",
                one.primitive,
                one.starts,
                ten.p50_ms / one.p50_ms,
                ten.p99_ms / one.p99_ms
            );
        }
    }
    runtime.block_on(sqlx::Connection::close(connection))?;
    runtime.block_on(postgres.close())?;
    drop(lease);
    Ok(())
}

async fn measure(connection: &mut PgConnection, size: Size, starts: usize) -> Fallible<Benchmark> {
    eprintln!("generating {} edges", size.edges);
    // Nothing is in Qdrant that the triggers could ask to have removed.
    let empty = "SET session_replication_role = replica;
        TRUNCATE anime, character, company, manga, graph_edge CASCADE;
        RESET session_replication_role";
    sqlx::raw_sql(empty).execute(&mut *connection).await?;
    generate::load(connection, SEED, size).await?;
    sqlx::raw_sql("VACUUM ANALYZE graph_edge").execute(&mut *connection).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut *connection).await?;
    let measured = bench::run(connection, starts, SEED, &Stop::new()).await?;
    println!("{} edges, the greatest hub has {}", measured.edges, measured.hub_edges_max);
    for row in &measured.measured {
        println!(
            "{:9} {:6} n {:6}  p50 {:7.2}  p95 {:7.2}  p99 {:7.2} (ask {:.0})  max {:8.2} ms  \
             over 2 s {:.1} %  truncated {:.1} %",
            row.primitive,
            row.starts,
            row.count,
            row.p50_ms,
            row.p95_ms,
            row.p99_ms,
            row.ask_p99_ms,
            row.max_ms,
            row.timed_out_share * 100.0,
            row.truncated_share * 100.0,
        );
    }
    Ok(measured)
}

async fn other_ways(connection: &mut PgConnection, starts: usize) -> Fallible<()> {
    let nodes = bench::random_starts(connection, starts, SEED).await?;
    let beside = bench::beside(connection, &nodes).await?;
    let show = |name: &str, mut took: Vec<Duration>| {
        took.sort_unstable();
        let late = took.iter().filter(|took| took.as_secs() >= 2).count();
        println!(
            "k_hop, {name}: p50 {:.2} ms, max {:.2} ms, {late} of {} over 2 s",
            took[took.len() / 2].as_secs_f64() * 1e3,
            took[took.len() - 1].as_secs_f64() * 1e3,
            took.len()
        );
    };
    show("naive visited-array CTE", beside.naive);
    show("a plain query per level from Rust", beside.by_level);
    Ok(())
}

fn criterion(runtime: &Runtime, connection: &mut PgConnection) {
    let seconds = if is_short() { 1 } else { 5 };
    let mut criterion = Criterion::default()
        .sample_size(if is_short() { 10 } else { 50 })
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(seconds));
    for (kind, start, other) in [("leaf", 3_001, 3_002), ("hub", 0, 1)] {
        let (start, other) = (generate::anime(start), generate::anime(other));
        criterion.bench_function(&format!("neighbors/{kind}"), |bencher| {
            bencher.iter(|| runtime.block_on(neighbors(connection, start, &[], 50)).unwrap());
        });
        criterion.bench_function(&format!("k_hop/{kind}"), |bencher| {
            bencher.iter(|| runtime.block_on(k_hop(connection, &KHop::new(start))).unwrap());
        });
        criterion.bench_function(&format!("path/{kind}"), |bencher| {
            let query = PathQuery::new(start, other);
            bencher.iter(|| runtime.block_on(path(connection, &query)).unwrap());
        });
        criterion.bench_function(&format!("compare/{kind}"), |bencher| {
            bencher.iter(|| runtime.block_on(compare(connection, start, other, 50)).unwrap());
        });
    }
    criterion.final_summary();
}
