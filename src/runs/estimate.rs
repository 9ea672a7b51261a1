//! How long work will take, about, said before it begins.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::manners::Rate;
use crate::preflight::grouped;

/// Records a second where nothing is known: of loads on one machine. Over a network it may be less.
const LOAD_RATE: f64 = 100_000.0;

/// Records a second that a comparison reads of both sides, where nothing is known.
const COMPARISON_RATE: f64 = 200_000.0;

/// What an estimate is worth saying from.
const WORTH_SECONDS: f64 = 5.0;
const WORTH_RECORDS: u64 = 100_000;

/// What there is to do, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Records of the sources, about.
    pub records: u64,
    /// Bytes of the sources.
    pub bytes: u64,
    /// Seconds, about; a throttle included, pauses not.
    pub seconds: f64,
    /// Records a second.
    pub rate: f64,
    /// Where the rate is from.
    pub basis: Basis,
}

/// Where a rate is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The newest run of the pack that is like it.
    EarlierRun(String),
    /// `--throttle`.
    Throttle,
    /// Nothing is known; a usual rate.
    Usual,
}

/// What kind of work it is.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// A backfill.
    Load,
    /// A comparison at this level.
    Comparison(&'a str),
}

/// Asks what earlier runs of `pack` took.
pub async fn forecast(
    conn: &mut PgConnection,
    pack: &str,
    work: Work<'_>,
    (records, bytes): (u64, u64),
    throttle: Option<Rate>,
) -> Result<Forecast> {
    let row = match work {
        Work::Load => sqlx::query(include_str!("../sql/runs/earlier_load.sql")).bind(pack),
        Work::Comparison(level) => {
            sqlx::query(include_str!("../sql/runs/earlier_comparison.sql")).bind(pack).bind(level)
        }
    };
    let known = match row.fetch_optional(conn).await? {
        Some(row) => Some((row.try_get("run")?, row.try_get("rate")?)),
        None => None,
    };
    Ok(Forecast::of(work, (records, bytes), throttle, known))
}

impl Forecast {
    /// Of a load, where no server is asked.
    #[must_use]
    pub fn usual(records: u64, bytes: u64) -> Self {
        Self::of(Work::Load, (records, bytes), None, None)
    }

    fn of(
        work: Work<'_>,
        (records, bytes): (u64, u64),
        throttle: Option<Rate>,
        known: Option<(String, f64)>,
    ) -> Self {
        let (mut rate, mut basis) = match (known, work) {
            (Some((run, rate)), _) => (rate, Basis::EarlierRun(run)),
            (None, Work::Load) => (LOAD_RATE, Basis::Usual),
            (None, Work::Comparison(_)) => (COMPARISON_RATE, Basis::Usual),
        };
        // A throttle on bytes counts encoded rows, which are about as long as the source's.
        let per_record = (bytes as f64 / records.max(1) as f64).max(1.0);
        // A comparison reads each row twice.
        let sides = if matches!(work, Work::Load) { 1.0 } else { 2.0 };
        let most = match throttle {
            None => f64::INFINITY,
            Some(Rate::Rows(rows)) => rows / sides,
            Some(Rate::Bytes(bytes)) => bytes / per_record / sides,
        };
        if most < rate {
            (rate, basis) = (most, Basis::Throttle);
        }
        Self { records, bytes, seconds: records as f64 / rate.max(0.001), rate, basis }
    }

    /// Whether it is long enough to be said.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.seconds >= WORTH_SECONDS || self.records >= WORTH_RECORDS
    }

    /// `1,000,000 records (212 MiB), about 20 s at 52,000/s, as run 3fd0...`
    #[must_use]
    pub fn sentence(&self) -> String {
        let why = match &self.basis {
            Basis::EarlierRun(run) => format!("as run {run} did"),
            Basis::Throttle => "by --throttle".to_owned(),
            Basis::Usual => "a usual rate on one machine; no run like it is known".to_owned(),
        };
        format!(
            "about {} records, {}: {} at {:.0}/s ({why})",
            grouped(self.records),
            size(self.bytes),
            span(self.seconds),
            self.rate
        )
    }
}

/// `95 MiB`
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", grouped(bytes >> 20)),
        _ => format!("{} GiB", grouped(bytes >> 30)),
    }
}

/// `about 40 s`, `about 12 min`, `about 3.5 h`
#[must_use]
pub fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1.0 => "less than a second".to_owned(),
        _ if seconds < 120.0 => format!("about {seconds:.0} s"),
        _ if seconds < 7_200.0 => format!("about {:.0} min", seconds / 60.0),
        _ => format!("about {:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_goes_by_the_slowest_of_what_is_known() {
        let of = |throttle: Option<&str>, known: Option<f64>| {
            let throttle = throttle.map(|text| text.parse().unwrap());
            let known = known.map(|rate| ("r".to_owned(), rate));
            Forecast::of(Work::Load, (1_000_000, 100_000_000), throttle, known)
        };
        assert_eq!((of(None, None).seconds, of(None, None).basis), (10.0, Basis::Usual));
        let earlier = of(None, Some(50_000.0));
        assert_eq!((earlier.seconds, &earlier.basis), (20.0, &Basis::EarlierRun("r".to_owned())));
        let throttled = of(Some("5000/s"), Some(50_000.0));
        assert_eq!((throttled.seconds, throttled.basis), (200.0, Basis::Throttle));
        assert_eq!(Some(of(Some("1MB/s"), None).seconds), Some(100.0));
        assert_eq!(of(Some("500k/s"), Some(50_000.0)).basis, Basis::EarlierRun("r".to_owned()));
        let both_sides =
            Forecast::of(Work::Comparison("full"), (1_000, 0), Some(Rate::Rows(10.0)), None);
        assert_eq!(Some(both_sides.seconds), Some(200.0));
        let sentence = earlier.sentence();
        assert_eq!(
            sentence,
            "about 1,000,000 records, 95 MiB: about 20 s at 50000/s (as run r did)"
        );
        assert!(!Forecast::of(Work::Load, (0, 0), None, None).is_long());
    }

    #[test]
    fn spans_are_told_as_people_do() {
        let told = [0.2, 40.0, 720.0, 12_600.0].map(span);
        assert_eq!(told, ["less than a second", "about 40 s", "about 12 min", "about 3.5 h"]);
    }
}
