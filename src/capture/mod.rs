//! Dual-write: changes of a `SQLite` file are captured in the file itself and applied to Postgres.
//!
//! | step | where |
//! |---|---|
//! | triggers and log in the source, undone to the same schema text | `wanted`, `install`, `remove`, `triggers`, `shape` |
//! | the log's positions and state | `log` |
//! | writes refused, the log's end final | [`fence`] |
//! | the current state of changed keys into Postgres | `tail` |
//! | what a verification has compared of it | [`verified`] |
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
mod remove;
pub mod reverse;
pub mod run;
mod shape;
mod status;
pub mod tail;
mod triggers;
pub mod verified;
mod wanted;

pub use install::{EnableOptions, Enabled, EnabledFile, enable};
pub use log::{CaptureState, LogPosition, glance, position, state};
pub use measure::Cost;
pub use remove::{DisableOptions, Disabled, disable};
pub use shape::Identity;
pub use status::{FileStatus, Status, status};
pub use wanted::{captured_files, files_to_disable};

/// The tables of an installation: what it is, and what changed.
pub use crate::source::sqlite::{LOG_TABLE, STATE_TABLE};

/// What the names of capture triggers begin with; the table's number follows.
pub const TRIGGER_PREFIX: &str = "toolkit_capture_";

/// What the names of fence triggers begin with; the table's number follows.
pub const FENCE_PREFIX: &str = "toolkit_fence_";
