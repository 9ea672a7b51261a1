//! Points made right again: by rows of the outbox, which workers carry out.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::anime::points::{Entity, EntityType};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::parity::Against;
use crate::qdrant::{Target, open, outbox, parity};
use crate::repair::plan::{Action, Operation, Plan};
use crate::store::Postgres;

/// Points a plan has queued, or would queue.
pub fn points_of(plan: &Plan) -> usize {
    plan.actions.iter().filter(|action| action.operation == Operation::Requeue).count()
}

/// Queues the plan's points to be written anew from Postgres, or removed where it has no such
/// entity; returns how many. A vector that is wrong is marked in the collection, so that the worker
/// makes another: for that Qdrant has to answer.
pub async fn requeue(settings: &Settings, postgres: &Postgres, plan: &Plan) -> Result<u64> {
    let (mut entities, mut broken) = (BTreeSet::new(), Vec::new());
    for action in plan.actions.iter().filter(|action| action.operation == Operation::Requeue) {
        let entity = entity_of(action)?;
        entities.insert(entity);
        if action.columns.iter().any(|column| column.starts_with("vector ")) {
            broken.push(entity);
        }
    }
    let mut conn = postgres.dedicated().await?;
    crate::migrate::require_current(&mut conn, crate::anime::PACK).await?;
    if !broken.is_empty() {
        let target = Target::new(open(settings).await?, settings)?;
        parity::distrust(&mut conn, &target, &broken).await?;
    }
    let entities: Vec<Entity> = entities.into_iter().collect();
    outbox::requeue(&mut conn, &entities).await
}

fn entity_of(action: &Action) -> Result<Entity> {
    let id = action.key.get("id").and_then(|id| Uuid::parse_str(id.as_str()?).ok());
    let slice = action.target.strip_prefix(Against::Qdrant.name());
    let named = slice.and_then(|rest| rest.strip_prefix('.')).and_then(EntityType::of_name);
    // What a point says it is decides nothing: without an entity of that id it goes.
    let entity_type = named.unwrap_or(EntityType::Anime);
    let id = id.ok_or_else(|| {
        let detail = format!("the plan's point of {} has no id", action.target);
        Error::new(ErrorKind::Usage, detail).advice("make a new plan")
    })?;
    Ok(Entity { entity_type, id })
}
