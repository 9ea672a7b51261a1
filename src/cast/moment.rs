//! ISO 8601 dates and times, read in place.

use super::civil::{DAY, SECOND, days_of};
use super::fault::Fault;

/// What a date or timestamp text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    Moment(Moment),
    Infinity,
    NegativeInfinity,
}

/// A civil date and clock with the offset written beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Days since 2000-01-01.
    pub(super) days: i64,
    /// Microseconds of the day; None for a date without a clock. 24:00:00 is a whole day.
    pub(super) clock: Option<i64>,
    /// Seconds east of UTC.
    pub(super) offset: Option<i64>,
}

/// Reads bytes from the left.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.rest.first() == Some(&byte);
        if taken {
            self.rest = &self.rest[1..];
        }
        taken
    }

    fn peek_digit(&self) -> bool {
        self.rest.first().is_some_and(u8::is_ascii_digit)
    }

    /// Exactly two digits.
    fn two(&mut self) -> Option<i64> {
        match self.rest {
            [a, b, rest @ ..] if a.is_ascii_digit() && b.is_ascii_digit() => {
                self.rest = rest;
                Some(i64::from(a - b'0') * 10 + i64::from(b - b'0'))
            }
            _ => None,
        }
    }

    /// Up to nine digits: their value and count.
    fn digits(&mut self) -> (i64, usize) {
        let mut value = 0;
        let mut count = 0;
        while count < 9
            && let Some(digit) = self.rest.first().filter(|d| d.is_ascii_digit())
        {
            value = value * 10 + i64::from(digit - b'0');
            count += 1;
            self.rest = &self.rest[1..];
        }
        (value, count)
    }
}

const SHAPE: &str =
    "a timestamp is YYYY-MM-DD, or YYYY-MM-DDTHH:MM[:SS[.ffffff]] with or without an offset";

/// `YYYY-MM-DD[(T| )HH:MM[:SS[(.|,)f{1,9}]][Z|±HH[[:]MM[:SS]]]][ BC]`, `infinity`, `-infinity`.
pub(super) fn parse_moment(text: &[u8]) -> Result<Parsed, Fault> {
    if let Some(moment) = parse_common(text) {
        return Ok(Parsed::Moment(moment));
    }
    parse_any(text)
}

/// `YYYY-MM-DD(T| )HH:MM:SS[.ffffff][Z|+00:00]`, as most programs write it; None where it is
/// anything else, faults included.
pub(super) fn parse_common(text: &[u8]) -> Option<Moment> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b' ', tail @ ..] = *head else {
        return None;
    };
    let [h1, h2, b':', n1, n2, b':', s1, s2] = tail else { return None };
    let [y1, y2, y3, y4] = digits_of([y1, y2, y3, y4])?;
    let [m1, m2, d1, d2] = digits_of([m1, m2, d1, d2])?;
    let [h1, h2, n1, n2, s1, s2] = digits_of([h1, h2, n1, n2, s1, s2])?;
    let (year, month, day) = (y1 * 1000 + y2 * 100 + y3 * 10 + y4, m1 * 10 + m2, d1 * 10 + d2);
    let (hour, minute, second) = (h1 * 10 + h2, n1 * 10 + n2, s1 * 10 + s2);
    let (micros, rest) = match rest {
        [b'.', f1, f2, f3, f4, f5, f6, rest @ ..] => {
            let digits = digits_of([*f1, *f2, *f3, *f4, *f5, *f6])?;
            (digits.into_iter().fold(0, |value, digit| value * 10 + digit), rest)
        }
        rest => (0, rest),
    };
    let offset = match rest {
        b"Z" | b"+00:00" => Some(0),
        b"" => None,
        _ => return None,
    };
    if year == 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_of(year, month, day)?;
    let clock = ((hour * 60 + minute) * 60 + second) * SECOND + micros;
    Some(Moment { days, clock: Some(clock), offset })
}

/// The values of decimal digits.
fn digits_of<const N: usize>(text: [u8; N]) -> Option<[i64; N]> {
    let is_decimal = text.iter().fold(true, |all, byte| all & byte.is_ascii_digit());
    is_decimal.then(|| text.map(|byte| i64::from(byte & 0x0f)))
}

/// Any shape of [`parse_moment`].
fn parse_any(text: &[u8]) -> Result<Parsed, Fault> {
    if !text.first().is_some_and(u8::is_ascii_digit) {
        return infinity(text).ok_or_else(|| Fault::timestamp(SHAPE));
    }
    let mut cursor = Cursor { rest: text };
    let (date, clock, offset, before_christ) = read_moment(&mut cursor)?;
    let (year, month, day) = date;
    let year = match (year, before_christ) {
        (0, _) => return Err(Fault::timestamp("there is no year 0")),
        (year, true) => 1 - year,
        (year, false) => year,
    };
    let days = days_of(year, month, day)
        .ok_or_else(|| Fault::timestamp("there is no such date in the calendar"))?;
    Ok(Parsed::Moment(Moment { days, clock, offset }))
}

type Date = (i64, i64, i64);

fn read_moment(cursor: &mut Cursor<'_>) -> Result<(Date, Option<i64>, Option<i64>, bool), Fault> {
    let shape = || Fault::timestamp(SHAPE);
    let date = read_date(cursor).ok_or_else(shape)?;
    let (mut clock, mut offset) = (None, None);
    if matches!(cursor.rest, [b'T' | b' ', b'0'..=b'9', ..]) {
        cursor.rest = &cursor.rest[1..];
        clock = Some(read_clock(cursor)?);
        offset = read_offset(cursor)?;
    }
    let before_christ = match cursor.rest {
        [] => false,
        b" BC" => true,
        _ => return Err(shape()),
    };
    Ok((date, clock, offset, before_christ))
}

fn read_date(cursor: &mut Cursor<'_>) -> Option<Date> {
    let (year, count) = cursor.digits();
    if !(4..=7).contains(&count) || !cursor.take(b'-') {
        return None;
    }
    let month = cursor.two()?;
    if !cursor.take(b'-') {
        return None;
    }
    Some((year, month, cursor.two()?))
}

/// Microseconds of the day. `:60` is the next minute and `24:00:00` the next day, as in Postgres.
fn read_clock(cursor: &mut Cursor<'_>) -> Result<i64, Fault> {
    let shape = || Fault::timestamp(SHAPE);
    let hour = cursor.two().ok_or_else(shape)?;
    if !cursor.take(b':') {
        return Err(shape());
    }
    let minute = cursor.two().ok_or_else(shape)?;
    let mut second = 0;
    let mut micros = 0;
    if cursor.take(b':') {
        second = cursor.two().ok_or_else(shape)?;
        if cursor.take(b'.') || cursor.take(b',') {
            micros = read_fraction(cursor)?;
        }
    }
    let clock = ((hour * 60 + minute) * 60 + second) * SECOND + micros;
    if hour > 24 || minute > 59 || second > 60 || clock > DAY {
        return Err(Fault::timestamp("there is no such time of day"));
    }
    Ok(clock)
}

fn read_fraction(cursor: &mut Cursor<'_>) -> Result<i64, Fault> {
    let (value, count) = cursor.digits();
    if count == 0 || cursor.peek_digit() {
        return Err(Fault::timestamp("a fraction of a second has 1 to 9 digits"));
    }
    let exponent = u32::try_from(count).unwrap_or(9);
    if exponent <= 6 {
        return Ok(value * 10_i64.pow(6 - exponent));
    }
    let below = 10_i64.pow(exponent - 6);
    if value % below != 0 {
        return Err(Fault::precision("the target keeps microseconds"));
    }
    Ok(value / below)
}

/// Seconds east of UTC; Postgres knows offsets below 16 hours.
fn read_offset(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Fault> {
    if cursor.take(b'Z') || cursor.take(b'z') {
        return Ok(Some(0));
    }
    let sign = match cursor.rest.first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Ok(None),
    };
    cursor.rest = &cursor.rest[1..];
    let shape = || Fault::timestamp("an offset is Z, ±HH, ±HHMM or ±HH:MM[:SS]");
    let hours = cursor.two().ok_or_else(shape)?;
    let (mut minutes, mut seconds) = (0, 0);
    if cursor.take(b':') {
        minutes = cursor.two().ok_or_else(shape)?;
        if cursor.take(b':') {
            seconds = cursor.two().ok_or_else(shape)?;
        }
    } else if cursor.peek_digit() {
        minutes = cursor.two().ok_or_else(shape)?;
    }
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Err(Fault::timestamp("an offset is below 16 hours"));
    }
    Ok(Some(sign * ((hours * 60 + minutes) * 60 + seconds)))
}

fn infinity(text: &[u8]) -> Option<Parsed> {
    if text.eq_ignore_ascii_case(b"infinity") {
        Some(Parsed::Infinity)
    } else if text.eq_ignore_ascii_case(b"-infinity") {
        Some(Parsed::NegativeInfinity)
    } else {
        None
    }
}

/// `HH:MM[:SS[.f{1,9}]]` as microseconds of the day.
pub(super) fn parse_clock(text: &[u8]) -> Result<i64, Fault> {
    let mut cursor = Cursor { rest: text };
    let clock = read_clock(&mut cursor)?;
    if cursor.rest.is_empty() {
        Ok(clock)
    } else {
        Err(Fault::timestamp("a time is HH:MM[:SS[.ffffff]] without an offset"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Moment {
        match parse_moment(text.as_bytes()) {
            Ok(Parsed::Moment(moment)) => moment,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_common_shape_reads_as_any_shape_does() {
        use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};

        use crate::cast::decimal::Decimal;

        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(41);
        let pieces: [&[&str]; 9] = [
            &["2026", "0001", "0000", "9999", "1900", "2024", "12345", "20x6"],
            &["-", "-", "-", "/"],
            &["02", "12", "01", "00", "13", "2"],
            &["-", "-", "-", ""],
            &["06", "28", "29", "30", "31", "00", "32"],
            &["T", " ", "t", ""],
            &["17:40:01", "00:00:00", "23:59:59", "24:00:00", "23:59:60", "25:00:00", "17:40"],
            &["", ".994514", ".000000", ".5", ",994514", ".9945145", ".994514000", ".99451a"],
            &["", "Z", "+00:00", "z", "-00:00", "+01:00", "+00", " BC", "+00:00 BC", " "],
        ];
        let mut common = 0;
        for _ in 0..200_000 {
            let mut text: Vec<u8> = Vec::new();
            for piece in pieces {
                text.extend_from_slice(piece.choose(&mut random).unwrap().as_bytes());
            }
            if random.random_bool(0.1) && !text.is_empty() {
                let at = random.random_range(0..text.len());
                text[at] = random.random();
            }
            let shown = String::from_utf8_lossy(&text);
            let Some(moment) = parse_common(&text) else { continue };
            common += 1;
            assert_eq!(parse_any(&text).unwrap(), Parsed::Moment(moment), "{shown}");
            assert!(Decimal::parse(&text).is_none(), "{shown} is no number");
        }
        assert!(common > 200, "{common} of the common shape");
        for text in
            ["2026-02-06T17:40:01.000001+00:00", "2026-02-06 17:40:01", "2026-02-06T17:40:01Z"]
        {
            assert!(parse_common(text.as_bytes()).is_some(), "{text}");
        }
    }

    fn reason(text: &str) -> &'static str {
        parse_moment(text.as_bytes()).unwrap_err().reason
    }

    #[test]
    fn reads_every_documented_shape() {
        let date = Moment { days: 9533, clock: None, offset: None };
        assert_eq!(moment("2026-02-06"), date);
        let clock = |micros, offset| Moment { clock: Some(micros), offset, ..date };
        assert_eq!(moment("2026-02-06T17:40"), clock(63_600_000_000, None));
        assert_eq!(moment("2026-02-06 17:40:01"), clock(63_601_000_000, None));
        assert_eq!(moment("2026-02-06T17:40:01.5Z"), clock(63_601_500_000, Some(0)));
        assert_eq!(moment("2026-02-06T17:40:01,5+0130"), clock(63_601_500_000, Some(5400)));
        assert_eq!(
            moment("2026-02-06T17:40:01.994514000-05:30:15"),
            clock(63_601_994_514, Some(-19_815))
        );
        assert_eq!(moment("2026-02-06 17:40:01+02"), clock(63_601_000_000, Some(7200)));
        assert_eq!(moment("2026-02-06 24:00:00"), clock(DAY, None));
        assert_eq!(moment("2026-02-06 17:40:60.5"), clock(63_660_500_000, None));
        assert_eq!(moment("0044-03-15 BC").days, days_of(-43, 3, 15).unwrap());
        assert_eq!(moment("12345-01-01").days, days_of(12345, 1, 1).unwrap());
        assert_eq!(parse_moment(b"-Infinity").unwrap(), Parsed::NegativeInfinity);
    }

    #[test]
    fn refuses_with_a_stable_reason() {
        assert_eq!(reason("2026-02-06T17:40:01.9945145Z"), "precision");
        for text in [
            "",
            "now",
            "2026-2-6",
            "20260206",
            "2026-02-30",
            "0000-01-01",
            "2026-02-06T",
            "26-01-01",
            "2026-02-06T25:00",
            "2026-02-06T23:59:60.5",
            "2026-02-06T24:00:01",
            "2026-02-06 17:4",
            "2026-02-06T17:40:01.",
            "2026-02-06T17:40:01.1234567890",
            "2026-02-06T17:40Z ",
            "2026-02-06T17:40+16:00",
            "2026-02-06T17:40+1",
            "2026-02-06T17:40 +01:00",
            "2026-02-06+01",
            " 2026-02-06",
            "2026-02-06T17:61",
            "-2026-02-06",
        ] {
            assert_eq!(reason(text), "invalid_timestamp", "{text:?}");
        }
    }
}
