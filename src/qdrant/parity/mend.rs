//! From differences to outbox rows.

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::anime::points::Entity;
use crate::error::Result;
use crate::qdrant::PAGE;
use crate::qdrant::outbox::{locked, requeue};
use crate::qdrant::parity::{Extra, Reason, Report};
use crate::qdrant::point::{PointId, With};
use crate::qdrant::target::Target;
use crate::store::Postgres;

impl Report {
    /// The listed differences as what the outbox takes; what is on its way is there already.
    pub fn to_requeue(&self) -> Vec<Entity> {
        let stale = self.stale.first.iter().map(|stale| stale.entity);
        let extra = self.extra.first.iter().filter_map(Extra::entity);
        self.missing.first.iter().copied().chain(stale).chain(extra).collect()
    }

    /// Those of them whose vector is at fault.
    pub fn with_broken_vectors(&self) -> Vec<Entity> {
        let is_broken = |reasons: &[Reason]| reasons.iter().any(Reason::is_of_a_vector);
        let broken = self.stale.first.iter().filter(|stale| is_broken(&stale.reasons));
        broken.map(|stale| stale.entity).collect()
    }
}

/// Queues the listed differences to be made good; returns how many rows. Points with a number for
/// an id are left to a rebuild.
pub async fn mend(postgres: &Postgres, target: &Target, report: &Report) -> Result<u64> {
    let mut conn = postgres.dedicated().await?;
    distrust(&mut conn, target, &report.with_broken_vectors()).await?;
    requeue(&mut conn, &report.to_requeue()).await
}

/// Has the vectors of these points made anew when their outbox rows are worked on. Nothing in
/// Postgres tells such points apart: what they say of their text is taken away. They are searched
/// until then.
pub async fn distrust(conn: &mut PgConnection, target: &Target, entities: &[Entity]) -> Result<()> {
    for part in entities.chunks(PAGE as usize) {
        let mut transaction = conn.begin().await?;
        let mine = locked(&mut transaction, part).await?;
        let ids: Vec<PointId> = mine.iter().map(|entity| entity.id.into()).collect();
        let points = target.store().retrieve(target.name(), &ids, With::PAYLOAD).await?;
        let payloads = points.into_iter().map(|mut point| {
            point.payload.remove("text_hash");
            (point.id, point.payload)
        });
        target.store().set_payloads(target.name(), payloads.collect()).await?;
        target.store().flush(target.name()).await?;
        transaction.rollback().await?;
    }
    Ok(())
}
