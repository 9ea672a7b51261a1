//! The phase machine: where a pack stands between `SQLite` and Postgres, on what evidence, and
//! how it moves.
//!
//! | phase | what it means |
//! |---|---|
//! | 0 bootstrap | the target's schema is being made |
//! | 1 dual-write | changes in `SQLite` are captured and applied to Postgres |
//! | 2 backfill | history is copied and compared |
//! | 3 read cutover | Postgres is primary; its changes are applied back to `SQLite` |
//! | 4 decommission | `SQLite` is sealed |
//!
//! `toolkit.phase` holds one row per pack; its `reads` is the route, and the commit that changes
//! it is the moment one store stops being primary and the other begins.

mod accept;
mod advance;
mod backup;
mod basis;
mod bootstrap;
mod check;
mod cutover;
mod decommission;
mod engines;
mod evidence;
mod facts;
mod fault;
mod files;
mod lock;
mod meant;
mod permits;
mod position;
mod recover;
mod reversal;
mod rollback;
mod scene;
mod state;
mod target_fence;
mod verify;

pub use accept::{Acceptance, Criterion, accept};
pub use advance::{AdvanceOptions, Advanced, Status, advance, observe, status};
pub use backup::record_backup;
pub use basis::Basis;
pub(crate) use bootstrap::migrations;
pub use check::{Check, Gate, Verdict};
pub use cutover::{CutoverOptions, CutoverReport, CutoverStep};
pub use decommission::SealedFile;
pub use facts::Reading;
pub use permits::{Work, require, require_named};
pub use recover::{Recovered, recover};
pub use rollback::{PlannedRollback, RollbackOptions, RolledBack, rollback};
pub use scene::Scene;
pub(crate) use state::IS_KNOWN;
pub use state::{
    CHANNEL, HistoryEntry, Phase, Route, State, Transition, TransitionKind, current, history,
    lock_state, transition,
};
pub use verify::verify;
