//! How long no store takes writes at a cutover, under an application that writes 1,000 rows a
//! second through `DualWriter`.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use toolkit::config::Settings;
use toolkit::live::{DualWriter, ReadRouter, Store, WriterOptions};
use toolkit::phase::Route;

use crate::shared::{Fallible, is_short};

/// Writes a second, by so many tasks side by side.
const RATE: u32 = 1_000;
const LANES: u32 = 4;

/// Rows that are there before, for the comparisons to have something to do.
const HISTORY: i64 = 20_000;

/// What the application saw: its newest acknowledged write, how many there were, and the longest
/// time between the last in one store and the first in the other.
struct Seen {
    newest: Option<(Instant, Route)>,
    writes: u64,
    freeze: Duration,
}

/// Measures some cutovers of the example shop, each followed by a rollback.
pub(crate) async fn measure(settings: &Settings, scratch: &Path) -> Fallible<()> {
    let source = scratch.join("shop");
    std::fs::create_dir(&source)?;
    let file = source.join("shop.sqlite");
    make(&file)?;
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
    let tool = |words: &str, more: &[&str]| -> Fallible<serde_json::Value> {
        let mut command = command(settings, words);
        command.arg("--pack").arg(&pack).arg("--source").arg(&source).args(more);
        said(command)
    };
    let mut migrate = command(settings, "migrate up --pack shop");
    migrate.arg("--dir").arg(&pack);
    said(migrate)?;
    tool("dual-write enable", &[])?;
    tool("phase advance", &["--to", "1"])?;
    let router = ReadRouter::start(settings, "shop").await?;
    let options = WriterOptions {
        pragmas: "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL".to_owned(),
        ..WriterOptions::default()
    };
    let writer = Arc::new(DualWriter::open(&router, &file, options).await?);
    let seen = Arc::new(Mutex::new(Seen { newest: None, writes: 0, freeze: Duration::ZERO }));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        lanes.spawn(write(lane, Arc::clone(&writer), Arc::clone(&seen), Arc::clone(&is_over)));
    }
    println!("cutovers under an application that writes {RATE} rows a second:");
    let tool = &tool;
    for round in 0..if is_short() { 1 } else { 3 } {
        tokio::task::block_in_place(|| -> Fallible<()> {
            let mut follow = command(settings, "dual-write run");
            let mut tail = follow.arg("--pack").arg(&pack).arg("--source").arg(&source);
            tail = tail.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut tail = tail.spawn()?;
            let cut_over = || -> Fallible<serde_json::Value> {
                if round == 0 {
                    tool("phase advance", &["--to", "2"])?;
                    tool("backfill", &[])?;
                }
                tool("verify-parity", &["--level", "full"])?;
                seen.lock().unwrap().freeze = Duration::ZERO;
                tool("phase advance", &["--to", "3", "--freeze-max", "60000"])
            };
            let done = cut_over();
            let ended = tail.kill().and_then(|()| tail.wait());
            let done = done?;
            ended?;
            std::thread::sleep(Duration::from_secs(1));
            let (freeze, writes) = {
                let seen = seen.lock().unwrap();
                (seen.freeze.as_millis(), seen.writes)
            };
            println!(
                "  freeze {} ms, {freeze} ms between the last write to SQLite and the first to \
                 Postgres; {} changes compared before the fence, {} behind it; {writes} writes so far",
                done["cutover"]["freeze_ms"],
                done["cutover"]["keys_verified_ahead"],
                done["cutover"]["keys_verified"]
            );
            tool("phase rollback", &["--to", "2"])?;
            Ok(())
        })?;
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(lane) = lanes.join_next().await {
        lane?;
    }
    Ok(())
}

fn make(file: &Path) -> Fallible<()> {
    rusqlite::Connection::open(file)?.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; \
         CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, \
           cents INTEGER NOT NULL, version INTEGER NOT NULL, placed_at TEXT NOT NULL, note TEXT); \
         CREATE TABLE lines (order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE, \
           line INTEGER NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL, \
           PRIMARY KEY (order_id, line)) WITHOUT ROWID; \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HISTORY}) \
         INSERT INTO orders SELECT i, 'customer ' || i % 97, 100, 1, '2026-01-01T00:00:00.000Z', \
         NULL FROM n",
    ))?;
    Ok(())
}

fn command(settings: &Settings, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolkit"));
    command.env_remove("DATABASE_URL").arg("--state-dir").arg(&settings.state_dir);
    command.args(["--format", "json"]).args(words.split(' '));
    command
}

/// Runs a command that has to succeed.
fn said(mut command: Command) -> Fallible<serde_json::Value> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {said}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Changes orders of its own, one after the other, at its part of the rate.
async fn write(
    lane: u32,
    writer: Arc<DualWriter>,
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
) {
    let mut clock =
        tokio::time::interval(Duration::from_secs_f64(f64::from(LANES) / f64::from(RATE)));
    let mut version = 1_i64;
    while !is_over.load(Ordering::Relaxed) {
        clock.tick().await;
        version += 1;
        let id = 1 + (version * i64::from(LANES) + i64::from(lane)) % HISTORY;
        let done = writer.write(move |store| {
            Box::pin(async move {
                match store {
                    Store::Sqlite(file) => {
                        file.run(move |tx| {
                            tx.prepare_cached("UPDATE orders SET version = ?2 WHERE id = ?1")?
                                .execute([id, version])
                        })
                        .await?;
                        Ok::<_, toolkit::Error>(Route::Sqlite)
                    }
                    Store::Postgres(conn) => {
                        sqlx::query("UPDATE shop.orders SET version = $2 WHERE id = $1")
                            .bind(id)
                            .bind(version)
                            .execute(conn)
                            .await?;
                        Ok(Route::Postgres)
                    }
                }
            })
        });
        let Ok(route) = done.await else { continue };
        let mut seen = seen.lock().unwrap();
        let now = Instant::now();
        seen.writes += 1;
        if let Some((before, was)) = seen.newest.replace((now, route))
            && was != route
        {
            seen.freeze = seen.freeze.max(now - before);
        }
    }
}
