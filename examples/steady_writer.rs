//! An application that writes steadily through its own migration.
//!
//! It inserts, changes and deletes the orders of a small shop, a given number a second, and never
//! stops for the migration: changes go to SQLite until the cutover, to Postgres after it, and to
//! SQLite again after a rollback. Each change is announced in a journal before it is made (`?`)
//! and acknowledged in it once it is committed (`!`), one `write` a line, so that what was
//! acknowledged is known even after kill -9.
//!
//! ```text
//! export DATABASE_URL=postgres://app@db.example/app
//! cargo run --example steady_writer -- --file /data/shop.sqlite --journal /data/journal
//!
//! # meanwhile, in another terminal, with P="--pack examples/shop --source /data":
//! toolkit migrate up --pack shop --dir examples/shop
//! toolkit dual-write enable $P; toolkit phase advance --to 1 $P
//! toolkit dual-write run $P &
//! toolkit phase advance --to 2 $P; toolkit backfill $P; toolkit verify-parity $P
//! toolkit phase advance --to 3 $P       # the cutover: the writer says how long it waited
//! toolkit dual-write reverse run $P &
//! toolkit phase rollback --to 2 $P      # and back
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use toolkit::config::{Database, Settings};
use toolkit::live::{
    ApplyAtOnce, Cell, Doing, DualWriter, Order, ReadRouter, ShadowOptions, ShadowRead, Store,
    WriterOptions,
};
use toolkit::pack::Pack;
use toolkit::phase::Route;

/// Writes steadily through a migration
#[derive(Parser)]
struct Args {
    /// The server that the shop moves to
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The shop's file; made if there is none
    #[arg(long)]
    file: PathBuf,
    /// What was announced and acknowledged is appended to this file
    #[arg(long)]
    journal: PathBuf,
    /// Changes a second
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Tasks that write side by side, each orders of its own
    #[arg(long, default_value_t = 4)]
    lanes: u32,
    /// Ends after so many seconds; else when it is killed
    #[arg(long)]
    seconds: Option<u64>,
    /// Seed of what is written
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Applies each change to Postgres at once; this folder holds the pack.toml
    #[arg(long, value_name = "FOLDER")]
    apply: Option<String>,
}

const TABLES: &str = "\
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL,
  cents INTEGER NOT NULL, version INTEGER NOT NULL, placed_at TEXT NOT NULL, note TEXT);
CREATE TABLE IF NOT EXISTS lines (order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
  line INTEGER NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL,
  PRIMARY KEY (order_id, line)) WITHOUT ROWID;";

const PRAGMAS: &str = "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL";

/// What happens to an order.
#[derive(Clone, Copy)]
enum Change {
    /// It is placed, with two lines.
    Place,
    /// Its price changes.
    Reprice,
    /// It is deleted, and its lines with it.
    Delete,
}

impl Change {
    fn letter(self) -> char {
        match self {
            Self::Place => 'i',
            Self::Reprice => 'u',
            Self::Delete => 'd',
        }
    }
}

/// One change of one order. Doing it twice is doing it once, so that a change whose outcome is
/// not known is simply done again.
#[derive(Clone, Copy)]
struct Work {
    change: Change,
    id: i64,
    version: i64,
}

/// Makes the change in the store that is primary.
fn make(work: Work) -> impl for<'s> Fn(Store<'s>) -> Doing<'s, toolkit::Result<Route>> {
    move |store| {
        Box::pin(async move {
            match store {
                Store::Sqlite(file) => {
                    file.run(move |tx| in_sqlite(tx, work)).await?;
                    Ok(Route::Sqlite)
                }
                Store::Postgres(conn) => {
                    in_postgres(conn, work).await?;
                    Ok(Route::Postgres)
                }
            }
        })
    }
}

fn in_sqlite(tx: &rusqlite::Connection, work: Work) -> rusqlite::Result<()> {
    let Work { change, id, version } = work;
    match change {
        Change::Place => {
            tx.prepare_cached(
                "INSERT INTO orders VALUES (?1, 'customer ' || ?1 % 97, ?2 * 100, ?2, \
                 strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), NULL) \
                 ON CONFLICT (id) DO UPDATE SET version = excluded.version",
            )?
            .execute([id, version])?;
            tx.prepare_cached(
                "INSERT INTO lines VALUES (?1, 1, 'tea', 2), (?1, 2, 'pot', 1) \
                 ON CONFLICT (order_id, line) DO NOTHING",
            )?
            .execute([id])?;
        }
        Change::Reprice => {
            let statement = "UPDATE orders SET version = ?2, cents = ?2 * 100, note = 'repriced' \
                             WHERE id = ?1";
            tx.prepare_cached(statement)?.execute([id, version])?;
        }
        Change::Delete => {
            tx.prepare_cached("DELETE FROM orders WHERE id = ?1")?.execute([id])?;
        }
    }
    Ok(())
}

async fn in_postgres(conn: &mut sqlx::PgConnection, work: Work) -> toolkit::Result<()> {
    let Work { change, id, version } = work;
    match change {
        Change::Place => {
            sqlx::query(
                "WITH placed AS (INSERT INTO shop.orders \
                 VALUES ($1, 'customer ' || $1 % 97, $2 * 100, $2, now(), NULL) \
                 ON CONFLICT (id) DO UPDATE SET version = excluded.version) \
                 INSERT INTO shop.lines VALUES ($1, 1, 'tea', 2), ($1, 2, 'pot', 1) \
                 ON CONFLICT (order_id, line) DO NOTHING",
            )
            .bind(id)
            .bind(version)
            .execute(conn)
            .await?;
        }
        Change::Reprice => {
            sqlx::query(
                "UPDATE shop.orders SET version = $2, cents = $2 * 100, note = 'repriced' \
                 WHERE id = $1",
            )
            .bind(id)
            .bind(version)
            .execute(conn)
            .await?;
        }
        Change::Delete => {
            sqlx::query("DELETE FROM shop.orders WHERE id = $1").bind(id).execute(conn).await?;
        }
    }
    Ok(())
}

/// The orders that a lane may change.
fn orders_in_sqlite(tx: &rusqlite::Connection) -> rusqlite::Result<Vec<Vec<Cell>>> {
    let mut statement = tx.prepare("SELECT id, version FROM orders")?;
    let rows = statement.query_map([], |row| {
        Ok(vec![row.get::<_, i64>(0)?.into(), row.get::<_, i64>(1)?.into()])
    })?;
    rows.collect()
}

fn orders_in_postgres(conn: &mut sqlx::PgConnection) -> Doing<'_, sqlx::Result<Vec<Vec<Cell>>>> {
    Box::pin(async move {
        let orders: Vec<(i64, i64)> =
            sqlx::query_as("SELECT id, version FROM shop.orders").fetch_all(conn).await?;
        Ok(orders.into_iter().map(|(id, version)| vec![id.into(), version.into()]).collect())
    })
}

/// Announcements and acknowledgements, and how long the writer had to wait.
struct Journal {
    file: File,
    acknowledged: u64,
    newest: Option<(Instant, Route)>,
    longest_wait: Duration,
}

impl Journal {
    fn line(&mut self, line: &str) -> std::io::Result<()> {
        // One call a line: a killed process leaves whole lines, and perhaps half of the last one.
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    fn acknowledge(&mut self, line: &str, route: Route) -> std::io::Result<()> {
        self.line(line)?;
        let now = Instant::now();
        if let Some((before, was)) = self.newest.replace((now, route)) {
            let wait = now - before;
            self.longest_wait = self.longest_wait.max(wait);
            if was != route {
                let (was, route) = (was.name(), route.name());
                say(&format!("from {was} to {route} within {} ms", wait.as_millis()));
            }
        }
        self.acknowledged += 1;
        Ok(())
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// The highest order that was ever announced: deleted ones do not come back.
fn highest(journal: &Path) -> i64 {
    let Ok(file) = File::open(journal) else { return 0 };
    let ids = BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("? ")?.split(' ').nth(1)?.parse::<i64>().ok());
    ids.max().unwrap_or(0)
}

/// What a lane works with.
struct Lane {
    lanes: u32,
    writer: Arc<DualWriter>,
    journal: Arc<Mutex<Journal>>,
    is_over: Arc<AtomicBool>,
    orders: Vec<(i64, i64)>,
    next: i64,
    dice: ChaCha8Rng,
}

impl Lane {
    async fn work(mut self, rate: u32) -> std::io::Result<()> {
        let pause = Duration::from_secs_f64(f64::from(self.lanes) / f64::from(rate.max(1)));
        let mut clock = tokio::time::interval(pause);
        while !self.is_over.load(Ordering::Relaxed) {
            clock.tick().await;
            let (work, at) = self.choose();
            let what = format!("{} {} {}", work.change.letter(), work.id, work.version);
            self.journal.lock().unwrap().line(&format!("? {what}"))?;
            let route = loop {
                match self.writer.write(make(work)).await {
                    Ok(route) => break route,
                    // Announced and never acknowledged: nobody relies on it.
                    Err(_) if self.is_over.load(Ordering::Relaxed) => return Ok(()),
                    // The store is away, or whether it was done is not known: again.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            self.journal.lock().unwrap().acknowledge(&format!("! {what}"), route)?;
            match (work.change, at) {
                (Change::Place, _) => self.orders.push((work.id, work.version)),
                (Change::Reprice, Some(at)) => self.orders[at].1 = work.version,
                (Change::Delete, Some(at)) => drop(self.orders.swap_remove(at)),
                _ => {}
            }
        }
        Ok(())
    }

    /// As many orders come as go, around a hundred a lane.
    fn choose(&mut self) -> (Work, Option<usize>) {
        let many = self.orders.len();
        let chance = self.dice.random_range(0..100);
        if many == 0 || (chance < 40 && many < 200) {
            let id = self.next;
            self.next += i64::from(self.lanes);
            return (Work { change: Change::Place, id, version: 1 }, None);
        }
        let at = self.dice.random_range(0..many);
        let (id, version) = self.orders[at];
        let change = if chance < 70 || many < 50 { Change::Reprice } else { Change::Delete };
        (Work { change, id, version: version + 1 }, Some(at))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let folder = args.file.parent().unwrap_or(Path::new(".")).to_owned();
    let mut settings =
        Settings::new(Database::Url(args.database_url.clone()), folder.join(".toolkit"));
    settings.connections_max = args.lanes + 4;
    settings.connect_timeout_ms = 2_000;
    if !args.file.exists() {
        rusqlite::Connection::open(&args.file)?.execute_batch(TABLES)?;
    }
    let router = ReadRouter::start(&settings, "shop").await?;
    let apply = match &args.apply {
        Some(folder_of_pack) => Some(ApplyAtOnce {
            pack: Pack::find(folder_of_pack)?,
            roots: vec![folder],
            budget: Duration::from_millis(500),
        }),
        None => None,
    };
    let options = WriterOptions {
        pragmas: PRAGMAS.to_owned(),
        fence_wait_max: Duration::from_mins(1),
        apply,
    };
    let writer = Arc::new(DualWriter::open(&router, &args.file, options).await?);
    let shadow = ShadowRead::start(&router, &args.file, ShadowOptions::default()).await?;
    let orders = all_orders(&shadow).await?;
    let next = highest(&args.journal).max(orders.iter().map(|order| order.0).max().unwrap_or(0));
    let file = File::options().append(true).create(true).open(&args.journal)?;
    let journal = Journal { file, acknowledged: 0, newest: None, longest_wait: Duration::ZERO };
    let journal = Arc::new(Mutex::new(journal));
    let is_over = Arc::new(AtomicBool::new(false));
    say(&format!("writing {} changes a second to {}", args.rate, router.route().name()));
    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..args.lanes {
        let of_lane = |id: i64| id.rem_euclid(args.lanes.into()) == i64::from(number);
        let lane = Lane {
            lanes: args.lanes,
            writer: Arc::clone(&writer),
            journal: Arc::clone(&journal),
            is_over: Arc::clone(&is_over),
            orders: orders.iter().copied().filter(|order| of_lane(order.0)).collect(),
            next: (next + 1..=next + i64::from(args.lanes))
                .find(|id| of_lane(*id))
                .unwrap_or(next + 1),
            dice: ChaCha8Rng::seed_from_u64(args.seed ^ (u64::from(number) << 32)),
        };
        lanes.spawn(lane.work(args.rate));
    }
    let mut stopped = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let begun = Instant::now();
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    while args.seconds.is_none_or(|seconds| begun.elapsed().as_secs() < seconds) {
        tokio::select! {
            _ = clock.tick() => {
                // A read now and then, compared on both stores.
                let _ = all_orders(&shadow).await;
            }
            _ = stopped.recv() => break,
        }
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    let journal = journal.lock().unwrap();
    say(&format!(
        "{} changes acknowledged in {:.1} s, longest wait {} ms; shadow reads {:?}",
        journal.acknowledged,
        begun.elapsed().as_secs_f64(),
        journal.longest_wait.as_millis(),
        shadow.counts()
    ));
    Ok(())
}

async fn all_orders(shadow: &ShadowRead) -> toolkit::Result<Vec<(i64, i64)>> {
    let rows = shadow.read("orders", Order::Ignored, orders_in_sqlite, orders_in_postgres).await?;
    let number = |cell: &Cell| if let Cell::Integer(number) = cell { *number } else { 0 };
    Ok(rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect())
}
