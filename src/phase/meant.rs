//! Which phase the operator means, so that a command that is repeated goes no further than that.

use super::state::Phase;
use crate::error::{Error, ErrorKind, Result};

/// Which way a command leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the next phase.
    Advance,
    /// To the phase before.
    Rollback,
}

/// Where the pack stands, seen from what the operator means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there: an earlier command did it.
    There,
    /// One step before it, or the operator named no phase.
    Before,
}

/// Compares the phase that is meant, if one is, with the one that a step leads to.
///
/// Errors with [`ErrorKind::Usage`] where one step does not lead there.
pub(super) fn standing(pack: &str, now: Phase, way: Way, meant: Option<Phase>) -> Result<Standing> {
    let Some(meant) = meant else { return Ok(Standing::Before) };
    if now == meant {
        return Ok(Standing::There);
    }
    let (word, other, leads_to, is_that_way) = match way {
        Way::Advance => ("advance", "rollback", now.next(), meant > now),
        Way::Rollback => ("rollback", "advance", now.previous(), meant < now),
    };
    if leads_to == Some(meant) {
        return Ok(Standing::Before);
    }
    let refused = |why: &str| {
        let said = format!("the pack {pack} is in phase {now}: {why} phase {meant}");
        Error::new(ErrorKind::Usage, said)
    };
    match leads_to {
        Some(first) if is_that_way => {
            let why = format!("{word} goes one phase at a time, and not yet to");
            Err(refused(&why).advice(format!("`--to {}` comes first", first.number())))
        }
        _ => Err(refused(&format!("{word} does not lead to")).advice(format!(
            "`toolkit phase history --pack {pack}` says how it came there; the other way is \
             `toolkit phase {other}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_leads_to_the_phase_that_is_meant_or_is_refused() {
        for now in Phase::ALL {
            for (way, leads_to) in [(Way::Advance, now.next()), (Way::Rollback, now.previous())] {
                assert_eq!(standing("p", now, way, None).unwrap(), Standing::Before);
                for meant in Phase::ALL {
                    match standing("p", now, way, Some(meant)) {
                        Ok(Standing::There) => assert_eq!(meant, now),
                        Ok(Standing::Before) => assert_eq!(leads_to, Some(meant)),
                        Err(error) => {
                            assert!(meant != now && leads_to != Some(meant));
                            assert_eq!(error.kind(), ErrorKind::Usage);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_refused_step_says_what_comes_first() {
        let refused = |now: Phase, way, meant| {
            let error = standing("p", now, way, Some(meant)).unwrap_err();
            format!("{} -> {}", error.detail(), error.advice_text().unwrap_or_default())
        };
        let said = refused(Phase::DualWrite, Way::Rollback, Phase::Backfill);
        assert!(said.contains("rollback does not lead to phase 2 backfill"), "{said}");
        assert!(said.contains("`toolkit phase advance`"), "{said}");
        let said = refused(Phase::Cutover, Way::Rollback, Phase::Bootstrap);
        assert!(said.contains("`--to 2` comes first"), "{said}");
        let said = refused(Phase::Bootstrap, Way::Advance, Phase::Cutover);
        assert!(said.contains("`--to 1` comes first"), "{said}");
        let said = refused(Phase::Decommissioned, Way::Advance, Phase::Backfill);
        assert!(said.contains("`toolkit phase rollback`"), "{said}");
    }
}
