//! Moving records into Postgres: chunks with exactly-once effect.
//!
//! A chunk's rows, rejects, ledger entries, counts, digest and checkpoint commit in one
//! transaction, so that a process killed anywhere goes on where it was. [`run`] is the whole
//! command; `--dry-run` stops after [`Preparation`].
//!
//! | step | once per | where |
//! |---|---|---|
//! | start, resume or join | run | `start` |
//! | split a source into spans, and store them | source | `spans` |
//! | lease a chunk, read it, commit it | chunk, by any worker of any process | `lease`, `stream`, `write` |
//! | indexes, sequences, verdict | run | `finish` |

pub mod captured;
pub mod chunk;
mod collision;
mod content;
pub mod counts;
mod dangling;
mod early;
mod finish;
mod held;
mod indexes;
mod lease;
mod merge;
mod orphans;
mod pack_lock;
mod parents;
mod prepare;
mod recall;
mod resume;
mod retry;
mod run;
mod sequences;
mod snapshot;
mod spans;
mod stage;
mod start;
mod stream;
mod ties;
mod triggers;
mod twins;
mod unchanged;
pub mod unconditional;
mod write;

pub(crate) use crate::retry::{is_passing, pause};
pub use chunk::{ChunkLimits, OutputRows, RowRef};
pub use counts::{Counts, RowCounts};
pub(crate) use merge::is_about_data;
pub use merge::{Refused, Superseded, Written, merge};
pub(crate) use pack_lock::{release_exclusive, require_exclusive};
pub use prepare::{Options, Preparation, StreamPreparation, default_workers, prepare};
pub use retry::{LeftAlone, RefusedAgain, Retry, RetryOptions, retry};
pub(crate) use retry::{begin as begin_retry, end as end_retry, wanted as wanted_rejects};
pub(crate) use write::{Recorded, SETTINGS, record_ledger, record_rejects, to_json};

pub use run::{Event, Report, StreamReport, run};
pub use sequences::{
    Position as SequencePosition, move_sequences_to, positions_of_tables, sequences_of_tables,
    sequences_past_keys,
};
pub use snapshot::{kept_snapshot, make_snapshot, make_snapshot_of_file, newest_snapshot};
