//! What may be done to a pack in which phase.

use sqlx::Connection as _;

use super::scene::pack_word;
use super::state::{self, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Pack;
use crate::store::Postgres;

/// Work that only some phases allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// `backfill` from the sources.
    Backfill,
    /// `backfill --historical` from offline copies.
    Historical,
    /// `dual-write enable`.
    Enable,
    /// `dual-write run`; while Postgres is primary it finds nothing to do.
    Tail,
    /// `dual-write disable`.
    RemoveCapture,
    /// Repairs of the target from the source.
    Repair,
    /// `maintain` deleting rows by age.
    Retention,
}

/// Refuses work that the pack's phase does not allow, with what to do instead.
pub async fn require(postgres: &Postgres, pack: &Pack, work: Work) -> Result<()> {
    permit(postgres, pack.name(), &pack_word(pack), work).await
}

/// As [`require`], of a pack that stands in the database alone.
pub async fn require_named(postgres: &Postgres, pack: &str, work: Work) -> Result<()> {
    permit(postgres, pack, pack, work).await
}

/// `typed` is the pack as commands take it.
async fn permit(postgres: &Postgres, pack: &str, typed: &str, work: Work) -> Result<()> {
    let mut conn = postgres.dedicated().await?;
    let state = state::current(&mut conn, pack).await;
    conn.close().await?;
    let phase = state?.phase;
    let Some((what, advice)) = refusal(phase, work, typed) else { return Ok(()) };
    Err(Error::new(ErrorKind::Busy, format!("the pack {pack} is in phase {phase}: {what}"))
        .advice(advice))
}

fn refusal(phase: Phase, work: Work, pack: &str) -> Option<(&'static str, String)> {
    let (is_cutover, is_last) = (phase == Phase::Cutover, phase == Phase::Decommissioned);
    match work {
        Work::Backfill | Work::Repair if is_cutover => Some((
            "Postgres is primary, and older rows of SQLite must not be written over it",
            format!("`toolkit phase rollback --to 2 --pack {pack}` comes first, if it has to be"),
        )),
        Work::Repair if is_last => Some((
            "SQLite is sealed, and Postgres is the only store",
            "there is nothing to repair it from".to_owned(),
        )),
        Work::Historical if !is_last => Some((
            "--historical is for offline copies after decommission",
            "leave --historical out".to_owned(),
        )),
        Work::Enable if is_cutover => Some((
            "applications write to Postgres, and its changes go back by `toolkit dual-write reverse run`",
            format!("`toolkit phase rollback --to 2 --pack {pack}` makes SQLite primary again"),
        )),
        Work::Backfill | Work::Enable | Work::Tail if is_last => Some((
            "SQLite is sealed",
            "offline copies are imported with `toolkit backfill --historical`".to_owned(),
        )),
        Work::RemoveCapture if phase > Phase::Bootstrap && !is_last => Some((
            "the phase rests on capture",
            format!(
                "`toolkit phase rollback --pack {pack}`, down to phase 0, takes capture out itself"
            ),
        )),
        Work::Retention if is_cutover => Some((
            "a rollback has to find every row",
            format!("run it after decommission (`toolkit phase status --pack {pack}`)"),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_allows_what_cannot_harm_its_primary_store() {
        let allowed = |phase, work| refusal(phase, work, "p").is_none();
        for phase in [Phase::Bootstrap, Phase::DualWrite, Phase::Backfill] {
            assert!(allowed(phase, Work::Backfill) && allowed(phase, Work::Enable));
            assert!(!allowed(phase, Work::Historical) && allowed(phase, Work::Retention));
            assert_eq!(allowed(phase, Work::RemoveCapture), phase == Phase::Bootstrap);
        }
        for work in [Work::Backfill, Work::Enable, Work::Repair, Work::Retention] {
            assert!(!allowed(Phase::Cutover, work), "{work:?}");
        }
        assert!(allowed(Phase::Decommissioned, Work::Historical));
        assert!(allowed(Phase::Decommissioned, Work::Retention));
        assert!(!allowed(Phase::Decommissioned, Work::Backfill));
        assert!(!allowed(Phase::Decommissioned, Work::Tail));
        assert!(allowed(Phase::Cutover, Work::Tail));
    }
}
