//! The runs of a database, as their own tables tell: what runs, how far it is, and the wish that
//! it pause, go on or stop. A wish is a row; the run's processes look at it about once a second.

mod ask;
pub(crate) mod chore;
mod estimate;
mod list;
mod show;

pub use ask::{Asked, pause, resume, stop};
pub use estimate::{Basis, Forecast, Work, forecast, size, span};
pub use list::{Filter, Run, find, list};
pub use show::{Detail, Process, StreamProgress, show};
