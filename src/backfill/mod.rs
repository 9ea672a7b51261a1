//! Moving records into Postgres: chunks with exactly-once effect.
//!
//! A chunk's rows, rejects, ledger entries, counts, digest and checkpoint commit in one
//! transaction, so that a process killed anywhere goes on where it was. [`run`] is the whole
//! command; `--dry-run` stops after [`Preparation`].

pub mod chunk;
mod collision;
pub mod counts;
mod indexes;
mod merge;
mod prepare;
mod resume;
mod retry;
mod run;
mod sequences;
mod stream;
mod twins;
mod unchanged;
mod write;

pub use chunk::{ChunkLimits, OutputRows, RowRef};
pub use counts::{Counts, RowCounts};
pub use merge::{Refused, Superseded, Written, merge};
pub use prepare::{Options, Preparation, StreamPreparation, prepare};
pub use retry::{LeftAlone, RefusedAgain, Retry, RetryOptions, retry};
pub use run::{Event, Report, StreamReport, run};
