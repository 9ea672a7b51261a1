//! Parity: equality of canonical rows, counts and keys between the source and Postgres.
//!
//! Both sides are brought into the target's type domain and folded into 4,096 hash buckets of row
//! digests in one pass, without any ordering. Only buckets that differ are read again, by key, and
//! only rows that differ are fetched whole. What backfill recorded (rejects, skips, superseded
//! rows, ledgered values) is replayed: a recorded change is accounted for, an unrecorded one is a
//! difference.
//!
//! *Differs* and *could not check* are different things: the first is in the [`Report`], the
//! second is an error.

mod accounts;
mod against;
mod chosen;
mod difference;
mod fold;
mod following;
mod independent;
mod junit;
mod limits;
mod marks;
mod page;
mod passes;
mod recorded;
mod report;
mod resolve;
mod sample;
pub mod self_test;
mod settle;
mod spool;
mod store;
mod stored;
mod target;
mod verify;
mod walk;

pub(crate) use accounts::Accounts;
pub use against::{Against, Compared, StoreResult};
pub use chosen::{ChosenRun, WantedFor, chosen_run};
pub(crate) use difference::shorten_pair;
pub use difference::{Difference, Kind};
pub use following::{Answer, Follower, KeysBySlice, Lag, Settle};
pub use independent::{Independent, IndependentResult};
pub use junit::junit;
pub use page::page;
pub(crate) use recorded::snapshot_time;
pub use report::{
    Documents, LeftOut, OutsideSlices, Recorded, Report, SampleBound, StreamResult, UnitResult,
    UnmappedColumns, Verdict,
};
pub(crate) use sample::bound;
pub use settle::Settling;
pub(crate) use store::{Stored, amend, store_report};
pub use stored::{PastRun, Provenance, SampleSettings, StoredRun, StoredSettings, stored_run};
pub(crate) use target::begin_snapshot;
pub(crate) use verify::WAITS_LONG;
pub use verify::{Digests, Event, Level, Options, Purpose, verify, verify_telling};
pub(crate) use walk::each_row;
