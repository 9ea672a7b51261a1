//! Dual-write: changes of a `SQLite` file are captured in the file itself and applied to Postgres.
//!
//! | step | where |
//! |---|---|
//! | triggers and log in the source, undone to the same schema text | `install`, `triggers`, `shape` |
//! | the log's positions and state | `log` |
//! | writes refused, the log's end final | [`fence`] |
//! | the current state of changed keys into Postgres | `tail` |
//! | JSON and CSV files, by hash | `files` |
//!
//! Capture is state-based: the log says which keys changed, never to what. Whoever applies it
//! looks at what is there now, so that entries may be read late, twice or together.

pub mod fence;
pub mod files;
mod index_text;
mod install;
mod keys;
mod log;
mod measure;
pub mod record;
pub mod reverse;
pub mod run;
mod shape;
mod status;
pub mod tail;
mod triggers;

pub use install::{
    DisableOptions, Disabled, EnableOptions, Enabled, EnabledFile, captured_files, disable, enable,
    files_to_disable,
};
pub use log::{CaptureState, LogPosition, position, state};
pub use measure::Cost;
pub use shape::Identity;
pub use status::{FileStatus, Status, status};

/// The tables of an installation: what it is, and what changed.
pub use crate::source::sqlite::{LOG_TABLE, STATE_TABLE};

/// What the names of capture triggers begin with; the table's number follows.
pub const TRIGGER_PREFIX: &str = "toolkit_capture_";

/// What the names of fence triggers begin with; the table's number follows.
pub const FENCE_PREFIX: &str = "toolkit_fence_";
