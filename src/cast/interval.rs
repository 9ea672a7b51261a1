//! interval: seconds by declaration, or the text Postgres prints.

use super::decimal::{Decimal, NotScaled};
use super::fault::{Changed, Fault};
use super::field::put;
use super::number::truncated;
use super::options::EpochUnit;
use super::source::Source;
use super::timestamp::{micros_of_decimal, micros_of_real};

/// Months, days and microseconds, each with its own sign, as Postgres keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Interval {
    micros: i64,
    days: i32,
    months: i32,
}

/// Writes an interval: from a number of seconds when the cast says so, otherwise from text.
pub(super) fn write_interval(
    source: Source<'_>,
    seconds: bool,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let interval = if seconds {
        Interval { micros: micros_of_seconds(source)?, ..Interval::default() }
    } else {
        let Source::Text(text) = source else {
            return Err(Fault::wrong_type("a number is an interval only by interval_seconds"));
        };
        parse(text).ok_or_else(invalid)?
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&interval.micros.to_be_bytes());
    bytes[8..12].copy_from_slice(&interval.days.to_be_bytes());
    bytes[12..].copy_from_slice(&interval.months.to_be_bytes());
    put(out, bytes);
    Ok(None)
}

fn invalid() -> Fault {
    Fault::new(
        super::fault::Class::Unreadable,
        "invalid_interval",
        "an interval is a number of seconds (cast interval_seconds) or text as 1 day 02:03:04",
    )
}

fn micros_of_seconds(source: Source<'_>) -> Result<i64, Fault> {
    let micros = match source {
        Source::Integer(n) => i128::from(n) * 1_000_000,
        Source::Real(x) if x.fract() == 0.0 && x.is_finite() => {
            truncated(x).saturating_mul(1_000_000)
        }
        Source::Real(x) => micros_of_real(x, EpochUnit::S)?,
        Source::Number(text) => seconds_of_text(text.as_bytes())?,
        Source::Text(text) => seconds_of_text(text)?,
        _ => return Err(invalid()),
    };
    i64::try_from(micros).map_err(|_| {
        Fault::new(super::fault::Class::Unreadable, "invalid_interval", "too many seconds")
    })
}

fn seconds_of_text(text: &[u8]) -> Result<i128, Fault> {
    let decimal = Decimal::parse(text).ok_or_else(invalid)?;
    micros_of_decimal(&decimal, EpochUnit::S)
}

/// `[±N years] [±N mons] [±N days] [±HH:MM:SS[.ffffff]]`, at least one of them.
fn parse(text: &[u8]) -> Option<Interval> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split(' ');
    let mut interval = Interval::default();
    let (mut years, mut months, mut days) = (None, None, None);
    let mut word = words.next();
    while let Some(amount) = word {
        if amount.contains(':') {
            interval.micros = clock(amount)?;
            word = words.next();
            if word.is_some() {
                return None;
            }
            break;
        }
        let amount: i32 = amount.strip_prefix('+').unwrap_or(amount).parse().ok()?;
        // As in Postgres, a unit stands at most once.
        let slot = match words.next()? {
            "year" | "years" => &mut years,
            "mon" | "mons" | "month" | "months" => &mut months,
            "day" | "days" => &mut days,
            _ => return None,
        };
        if slot.replace(amount).is_some() {
            return None;
        }
        word = words.next();
    }
    interval.months = years.unwrap_or(0).checked_mul(12)?.checked_add(months.unwrap_or(0))?;
    interval.days = days.unwrap_or(0);
    Some(interval)
}

fn clock(text: &str) -> Option<i64> {
    let (sign, text) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (hours, rest) = text.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':')?;
    let whole = |digits: &str| -> Option<i64> {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let (hours, minutes) = (whole(hours)?, whole(minutes)?);
    if !seconds.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let seconds = Decimal::parse(seconds.as_bytes())?;
    let micros = match seconds.scaled(6) {
        Ok(micros) => i64::try_from(micros).ok()?,
        Err(NotScaled::Inexact | NotScaled::Beyond) => return None,
    };
    if minutes > 59 || micros >= 60_000_000 {
        return None;
    }
    hours
        .checked_mul(3_600_000_000)?
        .checked_add(minutes * 60_000_000 + micros)
        .map(|total| sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postgres_prints() {
        assert_eq!(
            parse(b"1 year 2 mons -3 days +04:05:06.789"),
            Some(Interval { micros: 14_706_789_000, days: -3, months: 14 })
        );
        assert_eq!(
            parse(b"-00:00:01"),
            Some(Interval { micros: -1_000_000, ..Interval::default() })
        );
        for bad in ["", "1", "1 day ", "1:2", "00:60:00", "1.5 days", "00:00:0.1234567", "x days"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
