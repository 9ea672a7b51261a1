//! Reading at a pace: the throttle and the conditions of a run for work that only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::{Amount, Gate, Manners, Rate, Told, Watch, Watched};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::store::Connector;

/// Rows between two looks at the gate where nothing limits the rate.
const UNTHROTTLED_ROWS: u64 = 10_000;

/// What readers ask between two portions. Clones share one rate, and one count of what was read.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// None: nothing is ever waited for.
    gate: Option<Gate>,
    rate: Option<Rate>,
    rows: Arc<AtomicU64>,
}

impl Pace {
    /// As fast as it goes.
    pub(crate) fn free() -> Self {
        Self { gate: None, rate: None, rows: Arc::default() }
    }

    /// Behind a gate of these manners; free where there are none.
    pub(crate) fn new(manners: &Manners) -> Self {
        let gate = (!manners.is_none()).then(|| Gate::new(manners));
        Self { gate, rate: manners.throttle, rows: Arc::default() }
    }

    /// Does `work` while the manners' conditions open and close the gate. It is no run: nothing can
    /// be asked of it.
    pub(crate) async fn watched<T>(
        &self,
        connector: Connector,
        manners: &Manners,
        stop: &Stop,
        tell: &(dyn Fn(Told) + Sync),
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(gate) = self.gate.clone() else { return work.await };
        let on = Watched { connector, run_id: None, workers: 1, manners, gate, stop };
        let mut watch = stop.unless(Watch::start(on, tell)).await?;
        let done = tokio::select! {
            done = work => done,
            never = watch.keep(tell) => match never {},
        };
        watch.end().await;
        done
    }

    /// Rows read so far, of all sides.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Whether so much is a portion, after which to [`Pace::wait`].
    pub(crate) fn is_due(&self, read: Amount) -> bool {
        match self.rate {
            None => read.rows >= UNTHROTTLED_ROWS,
            Some(rate) => rate.cost(read) >= rate.portion() as u64,
        }
    }

    /// Whether portions are so small that a reader ends its transaction between two of them.
    pub(crate) fn is_slow(&self) -> bool {
        self.gate.is_some()
    }

    /// Accounts for a portion that was read, and waits until the next may be.
    pub(crate) async fn wait(&self, read: Amount, stop: &Stop) -> Result<()> {
        self.rows.fetch_add(read.rows, Ordering::Relaxed);
        let Some(gate) = &self.gate else { return Ok(()) };
        let admitted = async {
            drop(gate.admit(read).await);
            Ok(())
        };
        stop.unless(admitted).await
    }

    /// The same on a thread that may block.
    pub(crate) fn wait_blocking(&self, read: Amount, stop: &Stop) -> Result<()> {
        if self.gate.is_none() {
            self.rows.fetch_add(read.rows, Ordering::Relaxed);
            return Ok(());
        }
        Handle::current().block_on(self.wait(read, stop))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rows(rows: u64) -> Amount {
        Amount { rows, bytes: 0 }
    }

    #[tokio::test]
    async fn a_reader_waits_for_its_rate_and_for_nothing_without_manners() {
        let free = Pace::free();
        free.wait(rows(1 << 40), &Stop::new()).await.unwrap();
        assert_eq!(free.rows(), 1 << 40);
        assert!(!free.is_due(rows(9_999)) && free.is_due(rows(10_000)));
        let throttle = Some(Rate::Rows(1.0));
        let slow = Pace::new(&Manners { throttle, ..Manners::default() });
        assert!(slow.is_due(rows(1)));
        let waits = slow.clone();
        let stop = Stop::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { waits.wait(rows(1 << 40), &stop).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        stop.request();
        assert!(waiting.await.unwrap().is_err());
    }
}
