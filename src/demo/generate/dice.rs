//! Seeded choices, and the two ways the application writes time.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::fmt::Write as _;

/// 2025-11-03T08:00:00Z in microseconds since the Unix epoch: where generated history starts.
pub(super) const HISTORY_START_MICROS: i64 = 1_762_156_800_000_000;
/// History covers 120 days, so that tables partitioned by month get several partitions.
pub(super) const HISTORY_MICROS: i64 = 120 * 86_400 * 1_000_000;

/// A source of choices. Each generated file draws from its own stream of the seed, so that
/// asking for more rows of one table leaves the others as they are.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Self(generator)
    }

    /// A number below `bound`, which must not be 0. The modulo's bias is below 2^-40 for the
    /// bounds used here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(low.abs_diff(high) + 1).cast_signed()
    }

    /// An index into a slice of `len` items; 0 for an empty one.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below((len as u64).max(1))).unwrap_or(0)
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.index(items.len())]
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A double in [0, 1) with all 53 bits of its fraction in use.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 64 hexadecimal digits, as a SHA-256 looks.
    pub(super) fn digest_hex(&mut self) -> String {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        hex::encode(bytes)
    }

    fn uuid(&mut self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A version 4 UUID as 32 digits: how run ids are written.
    pub(super) fn uuid_hex(&mut self) -> String {
        self.uuid().simple().to_string()
    }

    /// A version 4 UUID with dashes: how session and request ids are written.
    pub(super) fn uuid_dashed(&mut self) -> String {
        self.uuid().to_string()
    }

    /// The moment of record `ordinal` of `count`: increasing, spread over the history, with
    /// whole seconds at every 64th record.
    pub(super) fn moment(&mut self, ordinal: usize, count: usize) -> i64 {
        let step = HISTORY_MICROS / i64::try_from(count.max(1)).unwrap_or(i64::MAX);
        let ordinal = i64::try_from(ordinal).unwrap_or(0);
        let jitter = self.between(0, step.max(1) - 1);
        let micros = HISTORY_START_MICROS + ordinal * step + jitter;
        if ordinal % 64 == 63 { whole_second(micros) } else { micros }
    }
}

/// The start of the second that `micros` lies in.
pub(super) fn whole_second(micros: i64) -> i64 {
    micros - micros.rem_euclid(1_000_000)
}

/// `datetime.isoformat()` of Python in UTC: no fraction when the microseconds are 0.
pub(super) fn iso(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let fraction = micros.rem_euclid(1_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = String::with_capacity(32);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let _ = write!(text, ".{fraction:06}");
    }
    text.push_str("+00:00");
    text
}

/// Year, month and day of a day number counted from 1970-01-01, after Howard Hinnant's
/// `civil_from_days`, <https://howardhinnant.github.io/date_algorithms.html>.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_python_writes_it() {
        assert_eq!(iso(HISTORY_START_MICROS), "2025-11-03T08:00:00+00:00");
        assert_eq!(iso(HISTORY_START_MICROS + 7), "2025-11-03T08:00:00.000007+00:00");
        assert_eq!(iso(951_782_400_000_000), "2000-02-29T00:00:00+00:00");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999999+00:00");
    }

    #[test]
    fn streams_of_one_seed_are_independent() {
        let first = Dice::new(1, 1).digest_hex();
        assert_eq!(first, Dice::new(1, 1).digest_hex());
        assert_ne!(first, Dice::new(1, 2).digest_hex());
        assert_ne!(first, Dice::new(2, 1).digest_hex());
    }
}
