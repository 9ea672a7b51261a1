//! The outbox worker against a plain loop that upserts the same batches, both with hashed vectors
//! and a flush per batch. Asked for: at least 0.8 times the loop.

mod shared;

use std::sync::Arc;
use std::time::Instant;

use shared::{Fallible, is_short, median, peak_mib, scratch};
use toolkit::anime::points::{load, window};
use toolkit::config::{Database, Settings};
use toolkit::interrupt::Stop;
use toolkit::qdrant::embed::{Embedder, embedder};
use toolkit::qdrant::outbox::{self, Options};
use toolkit::qdrant::{Point, Target, Vector, open};
use toolkit::store::{Postgres, sql};
use uuid::Uuid;

const BATCH: u32 = 256;

fn main() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Fallible<()> {
    let (entities, rounds) = if is_short() { (2_000, 1) } else { (20_000, 3) };
    let folder = scratch()?;
    let settings = Settings::new(Database::Embedded, folder.path().join("state"));
    let postgres = Postgres::connect(&settings).await?;
    let mut conn = postgres.dedicated().await?;
    toolkit::migrate::up(&mut conn, &["anime"], &toolkit::migrate::Options::default()).await?;
    sqlx::raw_sql(sql(format!(
        "INSERT INTO public.anime (id, title, title_english, type, status, synopsis, meta) \
         SELECT gen_random_uuid(), 'Title ' || n, 'English ' || n * 7, 'TV', 'FINISHED', \
                repeat(md5(n::text) || ' ', 12), '{{\"genres\": [\"Drama\", \"Action\"]}}' \
         FROM generate_series(1, {entities}) n"
    )))
    .execute(&mut conn)
    .await?;
    let target = Target::new(open(&settings).await?, &settings)?;
    let embedder = embedder(&settings)?;
    target.ensure().await?;

    let (mut plain, mut worker) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        empty(&target).await?;
        plain.push(loop_of_upserts(&postgres, &target, &embedder).await?);
        empty(&target).await?;
        sqlx::raw_sql("DELETE FROM public.qdrant_outbox").execute(&mut conn).await?;
        outbox::requeue_all(&mut conn).await?;
        shared::vacuum(&mut conn, "public.qdrant_outbox").await?;
        let start = Instant::now();
        let options = Options { batch: BATCH, workers: 2 };
        let tally = outbox::drain(&postgres, &target, &embedder, options, &Stop::new()).await?;
        assert_eq!(tally.points, entities);
        worker.push(start.elapsed().as_secs_f64());
    }
    let rate = |seconds: f64| entities as f64 / seconds;
    let (plain, worker) = (rate(median(plain)), rate(median(worker)));
    #[allow(clippy::print_stdout)]
    {
        println!("plain upserts  {plain:>9.0} points/s");
        println!("outbox worker  {worker:>9.0} points/s, {:.2} of it", worker / plain);
        println!("peak memory    {:>9} MiB", peak_mib()?);
    }
    postgres.close().await?;
    Ok(())
}

async fn empty(target: &Target) -> Fallible<()> {
    let store = target.store();
    if let Some(collection) = store.alias(target.name()).await? {
        store.remove_alias(target.name()).await?;
        store.remove(&collection).await?;
    }
    Ok(target.ensure().await?)
}

/// Reads, embeds, upserts and flushes; no outbox, no locks, no comparison with what is there.
async fn loop_of_upserts(
    postgres: &Postgres,
    target: &Target,
    embedder: &Arc<dyn Embedder>,
) -> Fallible<f64> {
    let mut conn = postgres.dedicated().await?;
    let start = Instant::now();
    let mut after = None;
    loop {
        let page = window(&mut conn, after, Uuid::max(), BATCH).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        let derived = load(&mut conn, &page).await?;
        let texts: Vec<_> = derived.iter().map(|one| one.text.clone()).collect();
        let made = embedder.embed(&texts).await?;
        let points = derived.into_iter().zip(made).map(|(derived, made)| Point {
            id: derived.entity.id.into(),
            payload: derived.payload,
            vectors: [(target.text_vector().to_owned(), Vector::Dense(made.vector))].into(),
        });
        target.store().upsert(target.name(), points.collect()).await?;
        target.store().flush(target.name()).await?;
    }
    Ok(start.elapsed().as_secs_f64())
}
