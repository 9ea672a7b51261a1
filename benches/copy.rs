//! `toolkit copy` against `psql \copy`, measured side by side in one run on a private server.
//!
//! A copy reads every value to choose the types, creates tables and keys, loads, builds the indexes
//! and compares every row of both sides; the baseline is `\copy` of a ready CSV file of the very same
//! rows into a table of the same types, keys and indexes, and nothing else.
//!
//! `TOOLKIT_BENCH_SHORT=1` runs a twentieth of the rows.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::path::Path;
use std::time::Instant;

use criterion::Criterion;
use sqlx::Connection as _;
use toolkit::config::{Database, Settings};
use toolkit::copy::{Copied, Options, apply, plan};
use toolkit::demo::{Shape, generate};
use toolkit::interrupt::Stop;
use toolkit::store::embedded::Embedded;
use toolkit::store::{Postgres, sql};

use shared::{Fallible, is_short, peak_mib, scratch, write_csv};

fn main() -> Fallible<()> {
    let rows = if is_short() { 50_000 } else { 1_000_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = scratch()?;
    let shape = Shape { openalex: 100, citec: 100, ..Shape::scaled(rows, 100) };
    eprintln!("generating {rows} token_usage rows");
    generate(&folder.path().join("app"), 1, &shape)?;
    let file = folder.path().join("app/sqlite/ragonometrics_token_usage.sqlite");
    runtime.block_on(side_by_side(folder.path(), &file, rows))?;
    println!("peak resident memory of this process: {} MiB", peak_mib()?);
    // The part that is the copy's own, on a sample small enough to repeat.
    let small = Shape { openalex: 100, citec: 100, ..Shape::scaled(10_000, 100) };
    generate(&folder.path().join("small"), 1, &small)?;
    let file = folder.path().join("small/sqlite/ragonometrics_token_usage.sqlite");
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    criterion.bench_function("plan of 10,000 rows", |bencher| {
        bencher.iter(|| plan(&file, &Options::default(), &Stop::new()).expect("a plan"));
    });
    criterion.final_summary();
    Ok(())
}

async fn side_by_side(folder: &Path, file: &Path, rows: usize) -> Fallible<()> {
    let settings = Settings::new(Database::Embedded, folder.join("state"));
    let lease = Embedded::new(&settings).acquire().await?;
    let postgres = Postgres::connect(&settings).await?;
    let (started, options) = (Instant::now(), schema("app"));
    let made = plan(file, &options, &Stop::new())?;
    let planned = started.elapsed().as_secs_f64();
    let copied = copy(&settings, &postgres, made, folder).await?;
    let whole = started.elapsed().as_secs_f64();
    assert!(copied.is_clean, "the copy is clean");
    assert_eq!(copied.backfill.read, rows as u64, "rows read");
    let csv = folder.join("rows.csv");
    write_csv(file, "SELECT * FROM token_usage", &csv)?;
    let environment = lease.client_environment();
    let baseline = baseline(&postgres, &environment, &csv).await?;
    println!("{rows} rows of token_usage");
    for (what, seconds) in [
        ("psql \\copy into the indexed table", baseline),
        ("toolkit copy, all of it", whole),
        ("  of this the census and the plan", planned),
        ("  of this the load with its indexes", copied.backfill.seconds),
        ("  of this the comparison of every row", copied.parity.seconds),
    ] {
        println!("  {what:<40} {seconds:>7.2} s   {:>5.2}x", seconds / baseline);
    }
    postgres.close().await?;
    lease.release().await?;
    Ok(())
}

fn schema(name: &str) -> Options {
    Options { schema: Some(name.to_owned()), ..Options::default() }
}

async fn copy(
    settings: &Settings,
    postgres: &Postgres,
    made: toolkit::copy::Plan,
    folder: &Path,
) -> Fallible<Copied> {
    let pack = folder.join("pack");
    let options = toolkit::backfill::Options::default();
    Ok(apply(settings, postgres, made, &pack, &options, &Stop::new(), &|_| ()).await?)
}

async fn baseline(
    postgres: &Postgres,
    environment: &[(&'static str, String)],
    csv: &Path,
) -> Fallible<f64> {
    let mut conn = postgres.dedicated().await?;
    let ddl = "CREATE TABLE public.baseline (LIKE app.token_usage INCLUDING ALL); CHECKPOINT";
    sqlx::raw_sql(sql(ddl.to_owned())).execute(&mut conn).await?;
    conn.close().await?;
    let command =
        format!("\\copy public.baseline FROM '{}' WITH (FORMAT csv, NULL '\\N')", csv.display());
    let started = Instant::now();
    let status = std::process::Command::new("psql")
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", &command])
        .status()?;
    assert!(status.success(), "psql \\copy failed");
    Ok(started.elapsed().as_secs_f64())
}
