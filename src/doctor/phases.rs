//! What is missing for the pack's next phase.

use std::path::PathBuf;

use super::{Health, Notes};
use crate::config::Settings;
use crate::interrupt::Stop;
use crate::pack::Pack;
use crate::phase::{self, IS_KNOWN, Scene, Verdict};
use crate::store::Postgres;

const AREA: &str = "phase";

pub(super) async fn look(
    settings: &Settings,
    postgres: &Postgres,
    pack: &Pack,
    roots: &[PathBuf],
    stop: &Stop,
    notes: &mut Notes,
) {
    if !is_migrated(postgres).await {
        let advice = format!("toolkit migrate up --pack {}", pack.name());
        notes.warn(AREA, pack.name(), "nothing is migrated yet: phase 0", advice);
        return;
    }
    let scene = Scene { settings, postgres, pack, roots: roots.to_vec(), stop };
    let status = match phase::observe(&scene).await {
        Ok(status) => status,
        Err(error) => {
            notes.unknown(AREA, pack.name(), error.detail().to_owned());
            return;
        }
    };
    notes.good(AREA, pack.name(), format!("is in phase {}", status.state.phase));
    for check in status.gate.iter().flat_map(|gate| &gate.checks) {
        let health = match check.verdict {
            Verdict::Met => Health::Good,
            Verdict::Missing => Health::Warning,
            Verdict::Unknown => Health::Unknown,
        };
        notes.add(AREA, check.name, health, &*check.finding, check.advice.clone());
    }
}

async fn is_migrated(postgres: &Postgres) -> bool {
    sqlx::query_scalar(IS_KNOWN).fetch_one(postgres.pool()).await.unwrap_or(false)
}
