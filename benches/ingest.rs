//! Ingestion of an offline database against `COPY` of the very same documents into one jsonb column,
//! measured side by side in one run on a private server.
//!
//! The baseline parses nothing but JSON and keeps no key, no reference, no relation and no state.
//! `TOOLKIT_BENCH_SHORT=1` takes a tenth of the 40,000 entries.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::path::Path;
use std::time::Instant;

use shared::{Fallible, is_short, median, peak_mib, scratch};
use sqlx::postgres::PgConnection;
use toolkit::anime::ingest::{Options, prepare, run};
use toolkit::config::{Database, Settings};
use toolkit::demo::generate::anime::offline_database;
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::store::Postgres;
use toolkit::store::embedded::Embedded;

const ROUNDS: usize = 3;

fn main() -> Fallible<()> {
    let entries = if is_short() { 4_000 } else { 40_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(entries))
}

async fn measure(entries: usize) -> Fallible<()> {
    let scratch = scratch()?;
    let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
    let lease = Embedded::new(&settings).acquire().await?;
    let path = scratch.path().join("anime-offline-database.jsonl");
    eprintln!("generating {entries} entries");
    offline_database(&path, 1, entries)?;
    let bytes = std::fs::metadata(&path)?.len();
    let postgres = Postgres::connect(&settings).await?;
    let mut conn = postgres.dedicated().await?;
    toolkit::migrate::up(&mut conn, &["anime"], &toolkit::migrate::Options::default()).await?;
    let (mut copies, mut firsts, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    let mut resolved = Vec::new();
    for _ in 0..ROUNDS {
        copies.push(copy(&mut conn, &path).await?);
        empty(&mut conn).await?;
        firsts.push(ingest(&settings, &postgres, &path, false).await?);
        let clock = Instant::now();
        toolkit::anime::resolve::resolve(&mut conn, false).await?;
        resolved.push(clock.elapsed().as_secs_f64());
        seconds.push(ingest(&settings, &postgres, &path, true).await?);
    }
    let (copied, first, second) = (median(copies), median(firsts), median(seconds));
    let rate = |seconds: f64| entries as f64 / seconds;
    println!("{entries} entries, {} MiB", bytes >> 20);
    println!("COPY into one jsonb column   {copied:6.2} s  {:8.0} entries/s", rate(copied));
    println!("first ingestion              {first:6.2} s  {:8.0} entries/s", rate(first));
    println!("resolving its relations      {:6.2} s", median(resolved));
    println!("second, all known            {second:6.2} s  {:8.0} entries/s", rate(second));
    println!("ingestion / COPY (entries/s) {:6.2}   (at least 0.30)", copied / first);
    println!("peak memory of this process  {:6} MiB", peak_mib()?);
    sqlx::Connection::close(conn).await?;
    postgres.close().await?;
    drop(lease);
    Ok(())
}

/// Takes away what an earlier round stored.
async fn empty(conn: &mut PgConnection) -> Fallible<()> {
    for statement in [
        "DELETE FROM anime",
        "DELETE FROM company",
        "DELETE FROM qdrant_outbox",
        "DELETE FROM ingestion_runs",
        "VACUUM (FULL, ANALYZE)",
        "CHECKPOINT",
    ] {
        sqlx::raw_sql(statement).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Seconds of a `COPY` of the documents, a line each.
async fn copy(conn: &mut PgConnection, path: &Path) -> Fallible<f64> {
    let text = std::fs::read_to_string(path)?;
    // JSON lines have no tab and no raw newline; a backslash has a meaning in COPY's text.
    let escaped = text.replace('\\', "\\\\");
    sqlx::raw_sql("DROP TABLE IF EXISTS documents; CREATE TABLE documents (document jsonb)")
        .execute(&mut *conn)
        .await?;
    let clock = Instant::now();
    let mut copying = conn.copy_in_raw("COPY documents (document) FROM STDIN").await?;
    for piece in escaped.as_bytes().chunks(1 << 20) {
        copying.send(piece).await?;
    }
    copying.finish().await?;
    Ok(clock.elapsed().as_secs_f64())
}

/// Seconds of a run.
async fn ingest(
    settings: &Settings,
    postgres: &Postgres,
    path: &Path,
    resolves: bool,
) -> Fallible<f64> {
    let pack = Pack::find("anime")?;
    let options = Options { restart: true, resolves, ..Options::default() };
    let clock = Instant::now();
    let ready = prepare(settings, postgres, &pack, &[path.to_path_buf()], options).await?;
    let report = run(postgres, &ready, &Stop::new(), &|_| ()).await?;
    assert_eq!(report.total.counts.rejects(), 0, "{report:#?}");
    Ok(clock.elapsed().as_secs_f64())
}
