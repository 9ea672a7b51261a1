//! At most so many rows, or bytes, a second: a token bucket that all workers of a process draw from.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A chunk under a throttle, in seconds of its rate: what others wait for behind it is short.
const PORTION_SECONDS: f64 = 0.05;

/// The same at low rates, where a chunk is small anyway and its own cost would be most of it.
const SLOW_PORTION_SECONDS: f64 = 0.25;

/// Rows and bytes that are small anyway.
const SMALL_ROWS: f64 = 100.0;
const SMALL_BYTES: f64 = 65_536.0;

/// The largest rate that is told from none.
const PER_SECOND_MAX: f64 = 1e15;

/// How much a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Records read.
    Rows(f64),
    /// Bytes of encoded rows, as `COPY` carries them.
    Bytes(f64),
}

impl Rate {
    fn per_second(self) -> f64 {
        match self {
            Self::Rows(number) | Self::Bytes(number) => number,
        }
    }

    /// What a bucket of this rate holds, one chunk's portion: a twentieth of a second's, at low
    /// rates up to a quarter's, but one row or byte at least. What a slow moment of the server did
    /// not let through is not made up for: that would be a burst when it can least bear one.
    #[must_use]
    pub fn burst(self) -> f64 {
        let small = match self {
            Self::Rows(_) => SMALL_ROWS,
            Self::Bytes(_) => SMALL_BYTES,
        };
        let slow = (self.per_second() * SLOW_PORTION_SECONDS).min(small);
        (self.per_second() * PORTION_SECONDS).max(slow).max(1.0)
    }

    /// The most rows, or bytes, that a chunk should have.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 2.5e14")]
    pub fn portion(self) -> usize {
        self.burst() as usize
    }

    /// What `amount` costs at this rate.
    #[must_use]
    pub fn cost(self, amount: Amount) -> u64 {
        match self {
            Self::Rows(_) => amount.rows,
            Self::Bytes(_) => amount.bytes,
        }
    }
}

/// `5000`, `5000/s`, `20k/s` are rows; `10MB/s`, `512KiB` are bytes.
impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no rate: write rows a second (5000, 5000/s, 20k/s) or bytes a second \
                 (800KB/s, 10MB/s, 1GiB/s)"
            )
        };
        let amount = text.trim();
        let amount = amount.strip_suffix("/s").unwrap_or(amount).trim_end();
        let digits = amount.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = amount[digits.len()..].to_ascii_lowercase();
        let digits = digits.trim_end();
        let is_plain = digits.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
        let number: f64 = digits.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        let (factor, is_bytes) = match unit.as_str() {
            "" | "row" | "rows" => (1.0, false),
            "k" => (1e3, false),
            "m" => (1e6, false),
            "b" => (1.0, true),
            "kb" => (1e3, true),
            "mb" => (1e6, true),
            "gb" => (1e9, true),
            "kib" => (1024.0, true),
            "mib" => (1024.0 * 1024.0, true),
            "gib" => (1024.0 * 1024.0 * 1024.0, true),
            _ => return Err(wrong()),
        };
        let number = number * factor;
        if !(1.0..=PER_SECOND_MAX).contains(&number) {
            return Err(format!("`{text}`: at least one row or byte a second, at most 1e15"));
        }
        Ok(if is_bytes { Self::Bytes(number) } else { Self::Rows(number) })
    }
}

/// As it can be given again.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(number) => write!(f, "{number}/s"),
            Self::Bytes(number) => write!(f, "{number}B/s"),
        }
    }
}

/// What a chunk brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Records read.
    pub rows: u64,
    /// Bytes of encoded rows.
    pub bytes: u64,
}

/// A token bucket. Pure arithmetic: whoever asks says what time it is.
///
/// It fills at `per_second` up to `capacity`. Who takes more than is in it waits until what is
/// missing has come in, and those after it wait for that too. So what is let through in any `t`
/// seconds is at most `capacity + per_second * t`, as long as no portion is larger than `capacity`;
/// a larger one waits for all of itself.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: f64,
    capacity: f64,
    /// Below zero: what was let through in advance, to those who wait for it now.
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket at time zero.
    #[must_use]
    pub fn new(per_second: f64, capacity: f64) -> Self {
        Self { per_second, capacity, level: capacity, at: Duration::ZERO }
    }

    /// Takes `amount` at `now`; returns how long to wait before using it. A clock that goes
    /// backwards stands still.
    pub fn take(&mut self, amount: f64, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.level =
            self.capacity.min(self.level + passed.as_secs_f64() * self.per_second) - amount;
        Duration::try_from_secs_f64((-self.level).max(0.0) / self.per_second)
            .unwrap_or(Duration::from_hours(24))
    }
}

/// A bucket that the workers of a process share, by this machine's clock.
#[derive(Debug)]
pub struct Throttle {
    rate: Rate,
    since: Instant,
    bucket: Mutex<Bucket>,
}

impl Throttle {
    /// Starts with a full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let bucket = Bucket::new(rate.per_second(), rate.burst());
        Self { rate, since: Instant::now(), bucket: Mutex::new(bucket) }
    }

    /// Takes what `amount` costs; returns how long to wait before writing it.
    pub fn take(&self, amount: Amount) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(self.rate.cost(amount) as f64, self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look like chance and are the same each time.
    fn dice(seed: &mut u64) -> u64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    #[test]
    fn in_no_span_of_time_more_is_let_through_than_rate_and_burst_allow() {
        for seed in 1..40_u64 {
            let mut dice_state = seed;
            let rate = Rate::Rows(1.0 + (dice(&mut dice_state) % 100_000) as f64);
            let mut bucket = Bucket::new(rate.per_second(), rate.burst());
            let mut now = Duration::ZERO;
            let mut let_through: Vec<(f64, f64)> = Vec::new();
            for _ in 0..120 {
                // Several workers ask, at once or after breaks of up to two seconds.
                now += Duration::from_millis(
                    [0, 0, 1, 40, 2_000][(dice(&mut dice_state) % 5) as usize],
                );
                let amount = 1.0 + (dice(&mut dice_state) as f64 % rate.burst()).floor();
                let amount = amount.min(rate.burst());
                let wait = bucket.take(amount, now);
                let_through.push(((now + wait).as_secs_f64(), amount));
            }
            for first in 0..let_through.len() {
                let mut sum = 0.0;
                for (at, amount) in &let_through[first..] {
                    sum += amount;
                    let seconds = at - let_through[first].0;
                    let most = rate.burst() + rate.per_second() * seconds;
                    assert!(sum <= most * 1.000_001 + 0.001, "seed {seed}: {sum} > {most}");
                }
            }
        }
    }

    #[test]
    fn what_was_not_used_is_kept_up_to_the_burst_only_and_nothing_is_lost() {
        let mut bucket = Bucket::new(100.0, 25.0);
        assert_eq!(bucket.take(25.0, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.take(50.0, Duration::ZERO), Duration::from_millis(500));
        // The second asks later and waits for the first one's share too.
        assert_eq!(bucket.take(10.0, Duration::from_millis(100)), Duration::from_millis(500));
        // An hour of silence is worth no more than the burst.
        assert_eq!(bucket.take(25.0, Duration::from_hours(1)), Duration::ZERO);
        assert_eq!(bucket.take(1.0, Duration::from_hours(1)), Duration::from_millis(10));
        // A portion beyond the capacity waits for all of itself that is not there.
        let mut bucket = Bucket::new(10.0, 5.0);
        assert_eq!(bucket.take(105.0, Duration::ZERO), Duration::from_secs(10));
    }

    #[test]
    fn portions_are_a_twentieth_of_a_second_and_not_needlessly_small() {
        for (rate, portion) in [
            ("1000000/s", 50_000),
            ("5000/s", 250),
            ("2000/s", 100),
            ("400/s", 100),
            ("60/s", 15),
            ("1/s", 1),
            ("10MB/s", 500_000),
            ("1MB/s", 65_536),
            ("100KB/s", 25_000),
        ] {
            assert_eq!(rate.parse::<Rate>().unwrap().portion(), portion, "{rate}");
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_gives_nothing_away() {
        let mut bucket = Bucket::new(10.0, 10.0);
        bucket.take(10.0, Duration::from_secs(9));
        assert_eq!(bucket.take(10.0, Duration::from_secs(3)), Duration::from_secs(1));
        assert_eq!(bucket.take(10.0, Duration::from_secs(9)), Duration::from_secs(2));
    }

    #[test]
    fn rates_are_rows_or_bytes_and_anything_else_is_refused() {
        for (text, rate) in [
            ("5000", Rate::Rows(5_000.0)),
            ("5000/s", Rate::Rows(5_000.0)),
            ("1.5k/s", Rate::Rows(1_500.0)),
            ("200 rows/s", Rate::Rows(200.0)),
            ("10MB/s", Rate::Bytes(10e6)),
            ("512KiB", Rate::Bytes(524_288.0)),
            ("1 b/s", Rate::Bytes(1.0)),
        ] {
            assert_eq!(text.parse(), Ok(rate), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate), "{rate}");
        }
        for text in [
            "", "/s", "0", "0.5/s", "-5", "MB/s", "5/m", "5 apples", "nan", "inf", "1e3", "9e99",
            "5//s", "1.2.3",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
