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

mod basis;
mod bootstrap;
mod check;
mod evidence;
mod scene;
mod state;

pub use state::{
    CHANNEL, HistoryEntry, Phase, Route, State, Transition, TransitionKind, current, history,
    lock_state, transition,
};
