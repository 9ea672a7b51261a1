//! What a backfill will meet, counted before anything is copied.
//!
//! [`census`] reads every record of the sources once, through the very casts that a backfill runs,
//! and counts per source column what it holds and per target column what becomes of it. Memory is
//! bounded per column; keys are remembered as 16-byte digests, [`KEYS_MAX`] at most.
//!
//! What only Postgres can decide is not predicted but named in [`Census::left_to_postgres`].

mod census;
mod documents;
mod keys;
mod moments;
mod names;
mod predict;
mod references;
mod report;
mod values;

pub use census::{Event, Options, census};
pub use documents::DocumentCensus;
pub use keys::KEYS_MAX;
pub use moments::{Form, MomentCensus};
pub use names::{FileCensus, NameFinding, NameFindingKind, SourceReference};
pub use report::{
    Census, ColumnCensus, Counted, KeyCensus, OutputCensus, Place, Predicted, Reason,
    ReferenceCensus, RowPrediction, StreamCensus, grouped,
};
pub use values::{Classes, TextCensus, ValueCensus};
