//! Days and clocks of the proleptic Gregorian calendar, as Postgres counts them.
//!
//! Day formulas: Howard Hinnant, <https://howardhinnant.github.io/date_algorithms.html>.

/// Microseconds of a second.
pub(super) const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400 * SECOND;
/// Days from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_DAYS: i64 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub(super) const POSTGRES_EPOCH: i64 = POSTGRES_EPOCH_DAYS * DAY;

/// Days of a civil date since 2000-01-01; None when there is no such date. Year 0 is 1 BC.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 || day > month_length(year, month) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468 - POSTGRES_EPOCH_DAYS)
}

/// Year, month and day of days since 2000-01-01.
pub(super) fn civil_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + POSTGRES_EPOCH_DAYS + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-2_500_000..2_500_000).step_by(37) {
            let (year, month, day) = civil_of(days);
            assert_eq!(days_of(year, month, day), Some(days));
        }
        assert_eq!(days_of(2000, 1, 1), Some(0));
        assert_eq!(days_of(1970, 1, 1), Some(-POSTGRES_EPOCH_DAYS));
    }

    #[test]
    fn impossible_dates_are_none() {
        for (y, m, d) in [(2023, 2, 29), (1900, 2, 29), (2024, 0, 1), (2024, 13, 1), (2024, 4, 31)]
        {
            assert_eq!(days_of(y, m, d), None);
        }
        assert!(days_of(2000, 2, 29).is_some());
    }
}
