//! Full parity against reading each of the two stores once, measured side by side in one run.
//!
//! The baselines are `sqlite3 FILE 'SELECT * ...'` into /dev/null and `COPY ... TO '/dev/null'`:
//! no casts, no digests, no comparison. `TOOLKIT_BENCH_SHORT=1` takes a twentieth of the rows.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use shared::{Fallible, is_short, load, median, peak_mib, scratch, vacuum};
use toolkit::config::{Database, Settings};
use toolkit::demo::{Shape, generate};
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::parity::{Digests, Level, Options, verify};
use toolkit::store::embedded::Embedded;
use toolkit::store::{Postgres, sql};

const TABLE: &str = "observability.token_usage";
const ROUNDS: usize = 3;
const DIFFERENCES: usize = 1000;

fn main() -> Fallible<()> {
    let rows = if is_short() { 50_000 } else { 1_000_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(rows))
}

async fn measure(rows: usize) -> Fallible<()> {
    let scratch = scratch()?;
    let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
    let lease = Embedded::new(&settings).acquire().await?;
    let source = scratch.path().join("app");
    eprintln!("generating {rows} rows of token_usage");
    generate(&source, 1, &Shape { openalex: 10, citec: 10, ..Shape::scaled(rows, 10) })?;
    let postgres = Postgres::connect(&settings).await?;
    load(&settings, &postgres, &source, &["token_usage"]).await?;
    let mut conn = postgres.dedicated().await?;
    vacuum(&mut conn, TABLE).await?;

    let file = source.join("sqlite/ragonometrics_token_usage.sqlite");
    let mut dumps = Vec::new();
    let mut copies = Vec::new();
    let mut clean = Vec::new();
    let mut in_server = Vec::new();
    for _ in 0..ROUNDS {
        dumps.push(read_sqlite(&file)?);
        let started = Instant::now();
        let copy = format!("COPY (SELECT * FROM {TABLE}) TO '/dev/null'");
        sqlx::raw_sql(sql(copy)).execute(&mut conn).await?;
        copies.push(started.elapsed().as_secs_f64());
        clean.push(parity(&settings, &postgres, &source, Digests::Client, 0).await?);
        in_server.push(parity(&settings, &postgres, &source, Digests::Server, 0).await?);
    }
    let (dump, copy, clean) = (median(dumps), median(copies), median(clean));
    let slower = dump.max(copy);
    println!("{:-<86}", "");
    println!("full parity of {rows} rows, SQLite against Postgres");
    show("sqlite3 reads its file once", dump, slower, "of the slower store");
    show("COPY reads the table once", copy, slower, "");
    show("verify-parity --level full, no difference", clean, slower, "of the slower store");
    show("the same with --digest server", median(in_server), slower, "of the slower store");

    let scattered = format!(
        "UPDATE {TABLE} SET total_tokens = total_tokens + 1 WHERE id % {} = 0",
        rows / DIFFERENCES
    );
    sqlx::raw_sql(sql(scattered)).execute(&mut conn).await?;
    vacuum(&mut conn, TABLE).await?;
    let mut found = Vec::new();
    for _ in 0..ROUNDS {
        let expected = DIFFERENCES as u64;
        found.push(parity(&settings, &postgres, &source, Digests::Client, expected).await?);
    }
    show("the same, finding 1,000 differences", median(found), clean, "of finding none");
    println!("peak resident memory of this process: {} MiB", peak_mib()?);
    sqlx::Connection::close(conn).await?;
    postgres.close().await?;
    lease.release().await?;
    Ok(())
}

fn show(what: &str, seconds: f64, baseline: f64, unit: &str) {
    println!("  {what:<44} {seconds:>7.2} s   {:>5.2}x {unit}", seconds / baseline);
}

fn read_sqlite(file: &Path) -> Fallible<f64> {
    let started = Instant::now();
    let status = Command::new("sqlite3")
        .arg("-readonly")
        .arg(file)
        .arg("SELECT * FROM token_usage")
        .stdout(Stdio::null())
        .status()?;
    assert!(status.success(), "sqlite3 failed");
    Ok(started.elapsed().as_secs_f64())
}

async fn parity(
    settings: &Settings,
    postgres: &Postgres,
    source: &Path,
    digests: Digests,
    expected: u64,
) -> Fallible<f64> {
    let roots: Vec<PathBuf> = vec![source.to_path_buf()];
    let started = Instant::now();
    let pack = Pack::find("unified")?;
    let opened = Arc::new(toolkit::pack::open(settings, postgres, pack, &roots).await?);
    let options = Options {
        level: Level::Full,
        streams: vec!["token_usage".to_owned()],
        differences_max: DIFFERENCES,
        digests,
        ..Options::default()
    };
    let report = verify(postgres, opened, &options, &Stop::new()).await?;
    assert_eq!(report.differing_rows, expected, "differing rows");
    Ok(started.elapsed().as_secs_f64())
}
