//! What an application feels of a backfill beside it: latencies of a steady `pgbench` load alone,
//! beside a backfill at full speed, and beside throttled ones, interleaved in several rounds.
//!
//! The load is far below saturation (`--rate`), so its latency is what the server makes of it, and
//! is counted from when a transaction was due. Asked for: throttled, at most 1.2 times its own
//! baseline. Everything runs on one machine, the toolkit's own reading and casting included.
//!
//! `TOOLKIT_BENCH_SHORT=1` runs two rounds of a few seconds; `TOOLKIT_BENCH_RATE=2000/s` is another
//! `--throttle`.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use toolkit::ErrorKind;
use toolkit::backfill::{self, Options};
use toolkit::config::{Database, Settings};
use toolkit::demo::{Shape, generate};
use toolkit::interrupt::Stop;
use toolkit::manners::Manners;
use toolkit::pack::Pack;
use toolkit::store::Postgres;
use toolkit::store::embedded::{Embedded, Programs};

use shared::{Fallible, is_short, median, scratch};

const SCALE: usize = 10;
const CLIENTS: usize = 2;
const TPS: usize = 200;

/// What the load shares the server with.
struct Company {
    name: &'static str,
    /// None: nothing.
    manners: Option<Manners>,
}

/// How it went for the load while a company was there.
#[derive(Default)]
struct Felt {
    averages: Vec<f64>,
    p95s: Vec<f64>,
    average_ratios: Vec<f64>,
    p95_ratios: Vec<f64>,
    /// Records a second that the backfill moved meanwhile.
    rates: Vec<f64>,
}

fn main() -> Fallible<()> {
    let programs = Programs::find(None, None)?;
    let pgbench = programs.path("pgbench");
    if !pgbench.is_file() {
        println!("skipped: {} is not there", pgbench.display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&pgbench))
}

async fn measure(pgbench: &Path) -> Fallible<()> {
    let (rounds, seconds, rows) = if is_short() { (2, 4, 50_000) } else { (7, 20, 400_000) };
    let scratch = scratch()?;
    let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
    let lease = Embedded::new(&settings).acquire().await?;
    let source = scratch.path().join("app");
    eprintln!("generating {rows} token_usage rows, and pgbench's tables at scale {SCALE}");
    generate(&source, 1, &Shape { openalex: 100, citec: 100, ..Shape::scaled(rows, 100) })?;
    let load = Load { pgbench: pgbench.to_owned(), environment: lease.client_environment() };
    load.initialize()?;
    let postgres = Postgres::connect(&settings).await?;
    let mut conn = postgres.dedicated().await?;
    toolkit::migrate::up(&mut conn, &["unified"], &toolkit::migrate::Options::default()).await?;
    let companies = companies()?;
    let mut felt: Vec<Felt> = companies.iter().map(|_| Felt::default()).collect();
    // The first seconds warm the caches and count for nothing.
    load.run(scratch.path(), 3)?.wait()?;
    for _ in 0..rounds {
        let mut baseline = (0.0, 0.0);
        for (company, felt) in companies.iter().zip(&mut felt) {
            empty(&mut conn).await?;
            let beside = Beside { settings: &settings, postgres: &postgres, source: &source };
            let running = load.run(scratch.path(), seconds)?;
            let moved = beside.wait(running, company).await?;
            let (average, p95) = latencies(scratch.path())?;
            if company.manners.is_none() {
                baseline = (average, p95);
            }
            felt.averages.push(average);
            felt.p95s.push(p95);
            felt.average_ratios.push(average / baseline.0);
            felt.p95_ratios.push(p95 / baseline.1);
            felt.rates.push(moved as f64 / seconds as f64);
        }
    }
    show(&companies, felt, rounds, seconds);
    conn.close().await?;
    postgres.close().await?;
    lease.release().await?;
    Ok(())
}

fn companies() -> Fallible<Vec<Company>> {
    let rate = std::env::var("TOOLKIT_BENCH_RATE").unwrap_or_else(|_| "5000/s".to_owned());
    let throttle = Some(rate.parse()?);
    let throttled = Manners { throttle, ..Manners::default() };
    let with_load = Manners { max_load: Some(2), ..throttled.clone() };
    Ok(vec![
        Company { name: "alone", manners: None },
        Company { name: "backfill", manners: Some(Manners::default()) },
        Company { name: "backfill --throttle", manners: Some(throttled) },
        Company { name: "backfill --throttle --max-load 2", manners: Some(with_load) },
    ])
}

fn show(companies: &[Company], felt: Vec<Felt>, rounds: usize, seconds: usize) {
    println!(
        "\npgbench --rate {TPS}, {CLIENTS} clients, scale {SCALE}; medians of {rounds} rounds of \
         {seconds} s; ratios to the baseline of the same round"
    );
    println!(
        "  {:<34} {:>9} {:>7} {:>9} {:>7} {:>10}",
        "beside", "average", "", "p95", "", "records/s"
    );
    for (company, felt) in companies.iter().zip(felt) {
        println!(
            "  {:<34} {:>6.2} ms {:>6.2}x {:>6.2} ms {:>6.2}x {:>10.0}",
            company.name,
            median(felt.averages),
            median(felt.average_ratios),
            median(felt.p95s),
            median(felt.p95_ratios),
            median(felt.rates),
        );
    }
}

async fn empty(conn: &mut PgConnection) -> Fallible<()> {
    sqlx::raw_sql("TRUNCATE observability.token_usage; CHECKPOINT").execute(conn).await?;
    Ok(())
}

/// The steady load.
struct Load {
    pgbench: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Load {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.pgbench);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn initialize(&self) -> Fallible<()> {
        let scale = SCALE.to_string();
        let done = self.command().args(["--initialize", "--quiet", "--scale", &scale]).status()?;
        assert!(done.success(), "pgbench --initialize failed");
        Ok(())
    }

    /// Begins it, with a line per transaction in `folder`.
    fn run(&self, folder: &Path, seconds: usize) -> Fallible<Child> {
        for log in logs(folder)? {
            std::fs::remove_file(log)?;
        }
        let (clients, rate, seconds) = (CLIENTS.to_string(), TPS.to_string(), seconds.to_string());
        Ok(self
            .command()
            .current_dir(folder)
            .args(["--no-vacuum", "--log", "--log-prefix=load", "--jobs=1"])
            .args(["--client", &clients, "--rate", &rate, "--time", &seconds])
            .spawn()?)
    }
}

fn logs(folder: &Path) -> Fallible<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("load.") {
            logs.push(path);
        }
    }
    Ok(logs)
}

/// Average and 95th percentile of the load's transactions, in milliseconds.
fn latencies(folder: &Path) -> Fallible<(f64, f64)> {
    let mut latencies: Vec<f64> = Vec::new();
    for log in logs(folder)? {
        for line in std::fs::read_to_string(log)?.lines() {
            // client, transaction, microseconds, ...; `skipped` cannot be without a latency limit.
            let micros: f64 = line.split(' ').nth(2).unwrap_or_default().parse()?;
            latencies.push(micros / 1e3);
        }
    }
    assert!(!latencies.is_empty(), "pgbench wrote no transactions");
    latencies.sort_by(f64::total_cmp);
    let average = latencies.iter().sum::<f64>() / latencies.len() as f64;
    Ok((average, latencies[(latencies.len() - 1) * 95 / 100]))
}

/// The backfill.
struct Beside<'a> {
    settings: &'a Settings,
    postgres: &'a Postgres,
    source: &'a Path,
}

impl Beside<'_> {
    /// Keeps company with the load until it ends; returns the records moved.
    async fn wait(&self, mut load: Child, company: &Company) -> Fallible<u64> {
        let stop = Stop::new();
        let ended = async {
            loop {
                if let Some(status) = load.try_wait()? {
                    assert!(status.success(), "pgbench failed");
                    stop.request();
                    return Fallible::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (moved, ended) = tokio::join!(self.move_until(&stop, company), ended);
        ended?;
        moved
    }

    async fn move_until(&self, stop: &Stop, company: &Company) -> Fallible<u64> {
        let Some(manners) = &company.manners else { return Ok(0) };
        let moved = std::sync::atomic::AtomicU64::new(0);
        let count = |event: backfill::Event| {
            if let backfill::Event::Chunk { records, .. } = event {
                moved.fetch_add(records, std::sync::atomic::Ordering::Relaxed);
            }
        };
        while !stop.is_requested() {
            let options = Options {
                streams: vec!["token_usage".to_owned()],
                restart: true,
                manners: manners.clone(),
                ..Options::default()
            };
            let pack = Pack::find("unified")?;
            let roots = vec![self.source.to_path_buf()];
            let ready =
                backfill::prepare(self.settings, self.postgres, pack, &roots, options).await?;
            match backfill::run(self.postgres, &ready, stop, &count).await {
                Ok(_) => {
                    let mut conn = self.postgres.dedicated().await?;
                    sqlx::raw_sql("TRUNCATE observability.token_usage").execute(&mut conn).await?;
                    conn.close().await?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved.into_inner())
    }
}
