//! The whole collection from Postgres anew, searched all the while.
//!
//! A new collection is made and named by the second alias; from then on every worker writes to
//! both. Entities are walked in the order of their ids, each written under its point's lock, so
//! that the walk cannot put an older state over a worker's newer one. What the walk has passed is
//! the workers' care. Then the new collection is verified against Postgres, and the alias moves.
//!
//! Killed anywhere, the old collection is what is searched; the next rebuild starts over, and
//! removes what the killed one left. Vectors of unchanged texts are copied, so starting over costs
//! no embeddings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::batch::{contents, write};
use super::locks::{ensure_bare, locked};
use crate::anime::points::{Entity, window};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::qdrant::embed::{CARRIED, Embedder};
use crate::qdrant::parity::{self, Options as ParityOptions};
use crate::qdrant::point::Filter;
use crate::qdrant::target::{Target, next_alias};
use crate::store::Postgres;

/// How long to wait for points that workers have locked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a rebuild is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The alias that is searched.
    pub name: String,
    /// The collection behind it; None: there is none yet.
    pub current: Option<String>,
    /// Whether `name` is a collection itself, which is going to be replaced by an alias.
    pub adopts: bool,
    /// Entities with a point.
    pub entities: u64,
    /// Points there now.
    pub points: u64,
    /// Points whose vector came with the collection: it is copied, nobody could make it again.
    pub carried: u64,
    /// Collections that killed rebuilds left, which are going to be removed.
    pub leftovers: Vec<String>,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rebuilt {
    /// The plan that was carried out.
    pub plan: Plan,
    /// The new collection.
    pub collection: String,
    /// Entities written to it by the walk.
    pub written: u64,
    /// How long no collection bore the name, in milliseconds; None: not for a moment.
    pub gap_ms: Option<f64>,
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many entities are written.
    Written(u64),
    /// The new collection is compared with Postgres.
    Verifying,
}

/// Looks at both stores; changes nothing.
pub async fn plan(postgres: &Postgres, target: &Target) -> Result<Plan> {
    let store = target.store();
    let name = target.name().to_owned();
    let mut aliases = store.aliases().await?;
    let alias = aliases.remove(&name);
    let next = aliases.remove(&next_alias(&name));
    let is_there = store.schema(&name).await?.is_some();
    let leftovers = store
        .collections()
        .await?
        .into_iter()
        .filter(|one| target.is_fresh_name(one) && Some(one) != alias.as_ref())
        // Searched by another name.
        .filter(|one| !aliases.values().any(|searched| searched == one))
        // Of a killed adoption, the new collection is all there is.
        .filter(|one| is_there || next.as_ref() != Some(one))
        .collect();
    let (mut points, mut carried) = (0, 0);
    if is_there {
        points = store.count(&name, &Filter::default()).await?;
        // In a collection of somebody else's, points do not say who made their vector, and are
        // carried over all; a strict server does not filter by what it has no index for.
        carried = match alias {
            None => points,
            Some(_) => store.count(&name, &Filter::is("embedder", CARRIED)).await?,
        };
    }
    let entities: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM public.anime) + (SELECT count(*) FROM public.episode) \
         + (SELECT count(*) FROM public.character c WHERE NOT EXISTS \
            (SELECT FROM public.character_redirect r WHERE r.from_id = c.id))",
    )
    .fetch_one(postgres.pool())
    .await?;
    Ok(Plan {
        adopts: is_there && alias.is_none(),
        current: alias.or_else(|| is_there.then(|| name.clone())),
        name,
        entities: entities.unsigned_abs(),
        points,
        carried,
        leftovers,
    })
}

/// Carries out a rebuild. A collection that bears the name itself is replaced by an alias only
/// with `adopt`: for the moment between its removal and the alias there is nothing to search.
pub async fn rebuild(
    postgres: &Postgres,
    target: &Target,
    embedder: &Arc<dyn Embedder>,
    adopt: bool,
    stop: &Stop,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Rebuilt> {
    let mut conn = postgres.dedicated().await?;
    only_one(&mut conn).await?;
    if target.store().schema(target.name()).await?.is_none() {
        ensure_bare(&mut conn, target).await?;
    }
    let plan = plan(postgres, target).await?;
    if plan.adopts && !adopt {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{:?} is a collection, not an alias that could be switched", plan.name),
        )
        .advice(
            "with --adopt a new collection is filled and verified, then this one is removed and an \
             alias takes its name; for that moment there is nothing to search",
        ));
    }
    let store = target.store();
    // First the alias: workers must not write to what goes.
    store.remove_alias(&next_alias(target.name())).await?;
    for leftover in &plan.leftovers {
        store.remove(leftover).await?;
    }
    let current = plan.current.clone().unwrap_or_else(|| plan.name.clone());
    let collection = target.fresh_name();
    store.create(&collection, target.schema()).await?;
    store.set_alias(&next_alias(target.name()), &collection).await?;
    let filled = async {
        let walk = Walk { target, embedder, into: &collection, current: &current, stop };
        let written = walk.walk(&mut conn, on_progress).await?;
        store.flush(&collection).await?;
        on_progress(Progress::Verifying);
        verify(postgres, target, &collection, stop).await?;
        Ok(written)
    };
    let written = match filled.await {
        Ok(written) => written,
        Err(error) => {
            // As good as it can be; the next rebuild removes what stays.
            let unnamed = store.remove_alias(&next_alias(target.name())).await;
            if let Err(other) = unnamed.and(store.remove(&collection).await) {
                tracing::warn!("the collection {collection:?} of this rebuild stays: {other}");
            }
            return Err(error);
        }
    };
    let gap_ms = switch(target, &plan, &current, &collection).await?;
    Ok(Rebuilt { plan, collection, written, gap_ms })
}

/// Holds, until the connection closes, what only one rebuild can have.
async fn only_one(conn: &mut PgConnection) -> Result<()> {
    let is_free: bool = sqlx::query_scalar(
        "SELECT pg_try_advisory_lock(hashtextextended('toolkit.qdrant.rebuild', 0))",
    )
    .fetch_one(conn)
    .await?;
    if is_free {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Busy, "another rebuild of the collection is running")
        .advice("wait until it ends"))
}

struct Walk<'a> {
    target: &'a Target,
    embedder: &'a Arc<dyn Embedder>,
    into: &'a str,
    current: &'a str,
    stop: &'a Stop,
}

impl Walk<'_> {
    async fn walk(
        &self,
        conn: &mut PgConnection,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<u64> {
        let (mut after, mut written) = (None, 0);
        loop {
            self.stop.check()?;
            let page = window(conn, after, Uuid::max(), crate::qdrant::PAGE).await?;
            let Some(last) = page.last() else { return Ok(written) };
            after = Some(last.id);
            let mut left = page;
            while !left.is_empty() {
                let done = self.write(conn, &left).await?;
                left.retain(|entity| !done.contains(entity));
                written += done.len() as u64;
                on_progress(Progress::Written(written));
                if !left.is_empty() {
                    self.stop.check()?;
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Writes those of the entities whose points nobody has locked; says which.
    async fn write(&self, conn: &mut PgConnection, entities: &[Entity]) -> Result<Vec<Entity>> {
        let mut transaction = conn.begin().await?;
        let mine = locked(&mut transaction, entities).await?;
        if !mine.is_empty() {
            let contents = contents(&mut transaction, &mine, true).await?;
            write(self.target, self.embedder, &contents, self.into, Some(self.current)).await?;
        }
        // Nothing is marked: what waits in the outbox goes to the old collection too.
        transaction.commit().await?;
        Ok(mine)
    }
}

async fn verify(postgres: &Postgres, target: &Target, collection: &str, stop: &Stop) -> Result<()> {
    let report =
        parity::compare(postgres, target, collection, &ParityOptions::default(), stop).await?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::StoreFailed,
        format!(
            "the new collection {collection:?} differs from Postgres: {} missing, {} extra, {} \
             stale; the alias was not moved",
            report.missing.count, report.extra.count, report.stale.count
        ),
    )
    .advice("run the rebuild again; if it differs again, please report it"))
}

/// Moves the name; returns how long it was nobody's.
async fn switch(
    target: &Target,
    plan: &Plan,
    current: &str,
    collection: &str,
) -> Result<Option<f64>> {
    let store = target.store();
    let mut gap = None;
    if plan.adopts {
        let start = Instant::now();
        store.remove(current).await?;
        store.set_alias(target.name(), collection).await?;
        gap = Some(start.elapsed().as_secs_f64() * 1e3);
    } else {
        store.set_alias(target.name(), collection).await?;
    }
    store.remove_alias(&next_alias(target.name())).await?;
    if !plan.adopts {
        store.remove(current).await?;
    }
    Ok(gap)
}
