//! Moving records into Postgres: chunks with exactly-once effect.
//!
//! A chunk's rows, rejects, ledger entries, counts, digest and checkpoint commit in one
//! transaction, so that a process killed anywhere goes on where it was. [`run`] is the whole
//! command; `--dry-run` stops after [`Preparation`].

pub mod chunk;
mod content;
pub mod counts;
mod dangling;
mod held;
mod indexes;
mod merge;
mod orphans;
mod prepare;
mod resume;
mod run;
mod sequences;
mod stage;
mod stream;
mod ties;
mod triggers;
mod twins;
mod unchanged;
mod write;

pub use chunk::{ChunkLimits, OutputRows, RowRef};
pub use counts::{Counts, RowCounts};
pub use merge::{Refused, Superseded, Written, merge};
pub use prepare::{Options, Preparation, StreamPreparation, prepare};
pub use run::{Event, Report, StreamReport, run};
