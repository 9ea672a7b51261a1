//! Versioned migrations: refinery's planning and history, driven over sqlx.
//!
//! * One history table a pack, `toolkit.migrations_<pack>`; the control schema is a pack of its own
//!   and always comes first.
//! * A migration and its history row are one transaction. Files whose first line is
//!   [`NO_TRANSACTION_HEADER`] are the exception: their statements run one by one, each with a
//!   pending/done row in `toolkit.migration_step`, and an interrupted `CREATE INDEX CONCURRENTLY`
//!   is dropped and redone. Other statements of such a file may run twice when a run is killed
//!   between a statement and its mark, so they must bear that (`IF [NOT] EXISTS`).
//! * A divergent, missing or out-of-order migration is refused, never skipped.
//! * One migrator at a time, by a session advisory lock that is polled: a blocking wait would hold
//!   a snapshot that `CREATE INDEX CONCURRENTLY` in turn waits for.
//! * No statement waits longer than [`Options::lock_timeout`] for a lock, so that a waiting
//!   migration does not queue an application's statements behind it; it is tried again after a
//!   pause, a bounded number of times.

mod apply;
mod drift;
mod history;
mod lexer;
mod lock;
mod optional;
mod plan;
mod set;
mod step;

pub use apply::{Applied, AppliedFile, AppliedStage, Options, apply, up};
pub use drift::{Drift, DriftEntry, DriftKind, drift, not_owned};
pub use optional::{Optional, optional_extensions};
pub use plan::{Entry, Plan, Stage, State, Status};
pub use plan::{plan, require_current, require_current_set, status};
pub use set::{
    Migration, MigrationSet, NO_TRANSACTION_HEADER, builtin, builtin_or_error, builtin_packs,
    from_directory,
};

/// The pack, and schema, of what the toolkit itself remembers.
pub const CONTROL_PACK: &str = "toolkit";
