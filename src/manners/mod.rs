//! Being kind to a database that others work with: how fast a run writes, and when it waits.
//!
//! Everything is looked at between chunks. What waits holds no transaction, no lock of a table and
//! no read transaction of a source; its leases are kept alive.

mod conditions;
mod gate;
mod lag;
mod pace;
mod throttle;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use gate::{Gate, Pass};
pub(crate) use pace::Pace;
pub use throttle::{Amount, Bucket, Rate, Throttle};
pub(crate) use watch::{Told, Watch, Watched};

/// What a caller asks for; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// At most so much a second, all workers of this process together.
    pub throttle: Option<Rate>,
    /// Waits while a replica is further behind in replaying.
    pub max_lag: Option<Duration>,
    /// Waits while more sessions than that, of others and of the whole server, are active.
    pub max_load: Option<u32>,
    /// Waits while this file is there.
    pub pause_file: Option<PathBuf>,
    /// Waits while this query says true.
    pub pause_while: Option<String>,
}

impl Manners {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let Self { throttle, max_lag, max_load, pause_file, pause_while } = self;
        throttle.is_none()
            && max_lag.is_none()
            && max_load.is_none()
            && pause_file.is_none()
            && pause_while.is_none()
    }
}
