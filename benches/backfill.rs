//! Backfill against `psql \copy`, measured side by side in one run on a private server.
//!
//! The baseline is `\copy` of a ready CSV file of the very same rows into a table with the same
//! primary key and indexes: no reading of SQLite, no casts, no checkpoints, no digests.
//!
//! `TOOLKIT_BENCH_SHORT=1` runs a twentieth of the rows; `TOOLKIT_BENCH_LARGE=1` adds ten million
//! rows and compares their cost per row; `TOOLKIT_BENCH_WORKERS=N` is `--workers N`.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use toolkit::backfill::{self, Options};
use toolkit::config::{Database, Settings};
use toolkit::demo::{Shape, generate};
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::store::embedded::Embedded;
use toolkit::store::{Postgres, sql};

use shared::{Fallible, peak_mib, scratch, vacuum, write_csv};

/// One stream under measurement.
struct Case {
    stream: &'static str,
    table: &'static str,
    file: &'static str,
    columns: &'static str,
    rows: usize,
    /// Makes every row of the target differ and be older, so that each is updated.
    age: &'static str,
    /// `fetched_at` and the like need a conversion `\copy` cannot do; there is none here.
    partitioned: bool,
}

fn main() -> Fallible<()> {
    let short = std::env::var_os("TOOLKIT_BENCH_SHORT").is_some();
    let scale = if short { 20 } else { 1 };
    let cases = [
        Case {
            stream: "token_usage",
            table: "observability.token_usage",
            file: "ragonometrics_token_usage.sqlite",
            columns: "id, created_at, model, operation, input_tokens, output_tokens, total_tokens, \
                      session_id, request_id, meta",
            rows: 1_000_000 / scale,
            age: "created_at = created_at - interval '1 day', model = 'older'",
            partitioned: true,
        },
        Case {
            stream: "query_cache",
            table: "retrieval.query_cache",
            file: "ragonometrics_query_cache.sqlite",
            columns: "cache_key, query, paper_path, model, context_hash, answer, created_at",
            rows: 200_000 / scale,
            age: "created_at = created_at - interval '1 day', model = 'older'",
            partitioned: false,
        },
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let scratch = scratch()?;
        let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
        let lease = Embedded::new(&settings).acquire().await?;
        let source = scratch.path().join("app");
        let (tokens, queries) = (cases[0].rows, cases[1].rows);
        eprintln!("generating {tokens} token_usage and {queries} query_cache rows");
        let shape = Shape { openalex: 100, citec: 100, ..Shape::scaled(tokens, queries) };
        generate(&source, 1, &shape)?;
        println!("{:-<98}", "");
        println!("backfill against psql \\copy into the indexed table (same rows, same indexes)");
        for case in &cases {
            measure(case, &settings, &lease.client_environment(), &source, scratch.path()).await?;
        }
        if std::env::var_os("TOOLKIT_BENCH_LARGE").is_some() {
            cost_per_row(&cases[0], &settings, scratch.path(), scale).await?;
        }
        println!("peak resident memory of this process: {} MiB", peak_mib()?);
        lease.release().await?;
        Ok(())
    })
}

async fn measure(
    case: &Case,
    settings: &Settings,
    environment: &[(&'static str, String)],
    source: &Path,
    scratch: &Path,
) -> Fallible<()> {
    let postgres = Postgres::connect(settings).await?;
    let mut conn = postgres.dedicated().await?;
    toolkit::migrate::up(&mut conn, &["unified"], &toolkit::migrate::Options::default()).await?;
    let csv = scratch.join(format!("{}.csv", case.stream));
    let file = source.join("sqlite").join(case.file);
    write_csv(&file, &format!("SELECT {} FROM {}", case.columns, case.stream), &csv)?;
    let bytes = std::fs::metadata(&file)?.len();
    println!("\n{} rows of {} ({} MiB of SQLite)", case.rows, case.table, bytes >> 20);

    let baseline = copy_baseline(&mut conn, case, environment, &csv).await?;
    show("psql \\copy into the indexed table", baseline, baseline);
    let first = run(&postgres, settings, case, source, Load::default()).await?;
    show("toolkit, first load of the empty table", first, baseline);
    let again = run(&postgres, settings, case, source, Load::default()).await?;
    show("toolkit, every row there and unchanged", again, baseline);
    let statement = format!("UPDATE {} SET {}", case.table, case.age);
    sqlx::raw_sql(sql(statement)).execute(&mut conn).await?;
    vacuum(&mut conn, case.table).await?;
    let updated = run(&postgres, settings, case, source, Load::default()).await?;
    show("toolkit, every row there and updated", updated, baseline);
    empty(&mut conn, case).await?;
    let keeping = Load { keep_indexes: true, ..Load::default() };
    let kept = run(&postgres, settings, case, source, keeping).await?;
    show("toolkit, empty table, --keep-indexes", kept, baseline);
    empty(&mut conn, case).await?;
    let alone =
        run(&postgres, settings, case, source, Load { workers: 1, ..Load::default() }).await?;
    show("toolkit, first load, --workers 1", alone, baseline);
    println!("  the default number of workers against one: {:.2}x", first / alone);
    empty(&mut conn, case).await?;
    conn.close().await?;
    postgres.close().await?;
    Ok(())
}

fn show(what: &str, seconds: f64, baseline: f64) {
    println!("  {what:<44} {seconds:>7.2} s   {:>5.2}x", seconds / baseline);
}

/// How a run is asked for.
#[derive(Debug, Clone, Copy)]
struct Load {
    keep_indexes: bool,
    workers: usize,
}

impl Default for Load {
    fn default() -> Self {
        let workers = std::env::var("TOOLKIT_BENCH_WORKERS").ok();
        let workers = workers.and_then(|text| text.parse().ok()).unwrap_or(0);
        Self { keep_indexes: false, workers }
    }
}

/// The first load of one million rows and of ten, by the row.
async fn cost_per_row(
    case: &Case,
    settings: &Settings,
    scratch: &Path,
    scale: usize,
) -> Fallible<()> {
    let postgres = Postgres::connect(settings).await?;
    let mut conn = postgres.dedicated().await?;
    println!("\ncost per row of {}, first load", case.table);
    let mut costs = Vec::new();
    for rows in [1_000_000 / scale, 10_000_000 / scale] {
        let source = scratch.join(format!("rows-{rows}"));
        let shape = Shape { openalex: 100, citec: 100, ..Shape::scaled(rows, 100) };
        generate(&source, 1, &shape)?;
        empty(&mut conn, case).await?;
        let case = Case { rows, ..*case };
        let seconds = run(&postgres, settings, &case, &source, Load::default()).await?;
        let micros = seconds * 1e6 / rows as f64;
        println!("  {rows:>10} rows {seconds:>8.2} s   {micros:>6.2} us a row");
        costs.push(micros);
        std::fs::remove_dir_all(&source)?;
    }
    println!("  ten times the rows cost {:.2}x a row", costs[1] / costs[0]);
    empty(&mut conn, case).await?;
    conn.close().await?;
    postgres.close().await?;
    Ok(())
}

async fn empty(conn: &mut PgConnection, case: &Case) -> Fallible<()> {
    sqlx::raw_sql(sql(format!("TRUNCATE {}; CHECKPOINT", case.table))).execute(conn).await?;
    Ok(())
}

/// A table of the same shape, keys and indexes, filled by `psql \copy`.
async fn copy_baseline(
    conn: &mut PgConnection,
    case: &Case,
    environment: &[(&'static str, String)],
    csv: &Path,
) -> Fallible<f64> {
    let partitioning = if case.partitioned { " PARTITION BY RANGE (created_at)" } else { "" };
    let mut ddl = format!(
        "DROP TABLE IF EXISTS public.baseline; \
         CREATE TABLE public.baseline (LIKE {} INCLUDING ALL){partitioning};",
        case.table
    );
    if case.partitioned {
        ddl.push_str("CREATE TABLE public.baseline_rest PARTITION OF public.baseline DEFAULT;");
    }
    sqlx::raw_sql(sql(ddl)).execute(&mut *conn).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut *conn).await?;
    let command = format!(
        "\\copy public.baseline ({}) FROM '{}' WITH (FORMAT csv, NULL '\\N')",
        case.columns,
        csv.display()
    );
    let started = Instant::now();
    let status = std::process::Command::new("psql")
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", &command])
        .status()?;
    let seconds = started.elapsed().as_secs_f64();
    assert!(status.success(), "psql \\copy failed");
    sqlx::raw_sql("DROP TABLE public.baseline; CHECKPOINT").execute(conn).await?;
    Ok(seconds)
}

async fn run(
    postgres: &Postgres,
    settings: &Settings,
    case: &Case,
    source: &Path,
    load: Load,
) -> Fallible<f64> {
    let roots: Vec<PathBuf> = vec![source.to_path_buf()];
    let started = Instant::now();
    let options = Options {
        streams: vec![case.stream.to_owned()],
        keep_indexes: load.keep_indexes,
        workers: load.workers,
        ..Options::default()
    };
    let pack = Pack::find("unified")?;
    let preparation = backfill::prepare(settings, postgres, pack, &roots, options).await?;
    let report = backfill::run(postgres, &preparation, &Stop::new(), &|_| ()).await?;
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(report.read, case.rows as u64, "rows read");
    assert_eq!(report.rejects, 0, "rejects");
    Ok(seconds)
}
