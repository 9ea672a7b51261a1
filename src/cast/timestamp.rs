//! timestamptz, timestamp, date and time.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::civil::{DAY, POSTGRES_EPOCH, SECOND, civil_of};
use super::decimal::{Decimal, NotScaled};
use super::fault::{Changed, Class, Fault};
use super::field::put;
use super::moment::{Moment, Parsed, parse_clock, parse_common, parse_moment};
use super::number::truncated;
use super::options::{EpochUnit, UnitHint};
use super::source::Source;

/// 4714-11-24 00:00:00 BC, the first microsecond of Postgres's timestamps.
const FIRST: i64 = -211_813_488_000_000_000;
/// 294277-01-01 00:00:00, the first microsecond after them.
const END: i64 = 9_223_371_331_200_000_000;
/// The first day of Postgres's dates, and the first after them (5874898-01-01).
const FIRST_DAY: i64 = -2_451_545;
const END_DAY: i64 = 2_145_031_949;

/// The zone in which timestamps without an offset are read.
#[derive(Debug, Clone)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    /// A zone with rules.
    Rules(TimeZone),
}

impl Zone {
    /// `UTC`, `Z`, an offset as `+02:00`, or a name of the IANA database.
    pub(super) fn named(name: &str) -> Option<Self> {
        if ["UTC", "Z", "GMT", "Etc/UTC"].contains(&name) {
            return Some(Self::Fixed(0));
        }
        if name.starts_with(['+', '-']) {
            let text = format!("2000-01-01T00:00{name}");
            return match parse_moment(text.as_bytes()) {
                Ok(Parsed::Moment(Moment { offset: Some(offset), .. })) => {
                    Some(Self::Fixed(offset))
                }
                _ => None,
            };
        }
        let rules = TimeZone::get(name).ok()?;
        let fixed = rules.to_fixed_offset().ok().map(Offset::seconds);
        Some(fixed.map_or(Self::Rules(rules), |seconds| Self::Fixed(i64::from(seconds))))
    }

    /// Seconds east of UTC at a local time.
    fn offset_at(&self, local: i64) -> Result<i64, Fault> {
        let rules = match self {
            Self::Fixed(seconds) => return Ok(*seconds),
            Self::Rules(rules) => rules,
        };
        let time = civil_time(local)
            .ok_or_else(|| Fault::timestamp("zone rules are known for years -9999 to 9999"))?;
        match rules.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => Ok(i64::from(offset.seconds())),
            AmbiguousOffset::Gap { .. } => Err(Fault::timestamp(
                "the clocks of the declared zone skipped this time; give an offset",
            )),
            AmbiguousOffset::Fold { before, after } => Err(Fault::new(
                Class::Unreadable,
                "ambiguous_timestamp",
                format!(
                    "the clocks of the declared zone showed this time twice, at {before} and \
                     {after}; give an offset"
                ),
            )),
        }
    }
}

/// A local time in jiff's terms; fractions of a second do not matter for an offset.
fn civil_time(local: i64) -> Option<DateTime> {
    let (year, month, day) = civil_of(local.div_euclid(DAY));
    let second = local.rem_euclid(DAY) / SECOND;
    let small = |n: i64| i8::try_from(n).ok();
    DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(second / 3600)?,
        small(second / 60 % 60)?,
        small(second % 60)?,
        0,
    )
    .ok()
}

/// How a timestamp column reads what is not ISO text with an offset.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    pub(super) zone: Option<Zone>,
    pub(super) unit: Option<EpochUnit>,
    /// The cast names an epoch: ISO text is refused.
    pub(super) only_epoch: bool,
    /// Numbers that seem to be of another unit are read all the same.
    pub(super) keeps_mixed: bool,
}

/// Writes timestamptz.
pub(super) fn write_timestamptz(
    source: Source<'_>,
    reading: &Reading,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    // The common shape is no number in any unit.
    let common = match source {
        Source::Text(text) if !reading.only_epoch => parse_common(text),
        _ => None,
    };
    let micros = match common {
        Some(moment) => instant(&moment, reading.zone.as_ref())?,
        None => any_instant(source, reading)?,
    };
    put(out, micros.to_be_bytes());
    Ok(None)
}

fn any_instant(source: Source<'_>, reading: &Reading) -> Result<i64, Fault> {
    match epoch_or_text(source, reading)? {
        EpochOrText::Epoch(micros) => Ok(micros),
        EpochOrText::Text(text) => match parse_moment(text)? {
            Parsed::Infinity => Ok(i64::MAX),
            Parsed::NegativeInfinity => Ok(i64::MIN),
            Parsed::Moment(moment) => instant(&moment, reading.zone.as_ref()),
        },
    }
}

fn instant(moment: &Moment, zone: Option<&Zone>) -> Result<i64, Fault> {
    let local = local_micros(moment)?;
    let offset = match (moment.offset, zone) {
        (Some(offset), _) => offset,
        (None, Some(zone)) => zone.offset_at(local)?,
        (None, None) => {
            let what = "a timestamp without an offset needs a declared zone";
            return Err(Fault::new(Class::Unreadable, "naive_timestamp", what));
        }
    };
    in_range(local.checked_sub(offset * SECOND))
}

/// Writes timestamp without time zone. Epoch numbers are stored as the UTC clock.
pub(super) fn write_timestamp(
    source: Source<'_>,
    reading: &Reading,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let micros = match epoch_or_text(source, reading)? {
        EpochOrText::Epoch(micros) => micros,
        EpochOrText::Text(text) => match parse_moment(text)? {
            Parsed::Infinity => i64::MAX,
            Parsed::NegativeInfinity => i64::MIN,
            Parsed::Moment(Moment { offset: Some(_), .. }) => {
                return Err(Fault::timestamp("a timestamp without time zone has no offset"));
            }
            Parsed::Moment(moment) => in_range(Some(local_micros(&moment)?))?,
        },
    };
    put(out, micros.to_be_bytes());
    Ok(None)
}

fn local_micros(moment: &Moment) -> Result<i64, Fault> {
    let micros =
        moment.days.checked_mul(DAY).and_then(|day| day.checked_add(moment.clock.unwrap_or(0)));
    micros.ok_or_else(out_of_range)
}

fn in_range(micros: Option<i64>) -> Result<i64, Fault> {
    micros.filter(|m| (FIRST..END).contains(m)).ok_or_else(out_of_range)
}

fn out_of_range() -> Fault {
    Fault::timestamp("timestamps reach from 4714-11-24 BC to 294276-12-31")
}

impl Reading {
    /// Refuses a number that is implausible in the column's unit and plausible in another.
    fn refuse_mixed(&self, source: Source<'_>) -> Result<(), Fault> {
        let Some(unit) = self.unit.filter(|_| !self.keeps_mixed) else { return Ok(()) };
        let number = number_of(source);
        match number.and_then(EpochUnit::suggested_by) {
            Some(other) if other != unit => Err(Fault::new(
                Class::Final,
                "mixed_units",
                format!(
                    "the column counts {}, and this number is plausible in {} only",
                    unit.name(),
                    other.name()
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The number a source is, if it is one; near enough to tell units apart.
fn number_of(source: Source<'_>) -> Option<f64> {
    match source {
        Source::Integer(n) => Some(n as f64),
        Source::Real(x) => Some(x),
        Source::Number(text) => text.parse().ok(),
        Source::Text(text) => {
            Decimal::parse(text)?;
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// The unit that a value suggests, if it is a number.
pub(super) fn suggested_unit(source: Source<'_>) -> UnitHint {
    match number_of(source).map(EpochUnit::suggested_by) {
        None => UnitHint::NoNumber,
        Some(None) => UnitHint::NoUnit,
        Some(Some(unit)) => UnitHint::Unit(unit),
    }
}

enum EpochOrText<'a> {
    /// Microseconds since 2000-01-01 UTC.
    Epoch(i64),
    Text(&'a [u8]),
}

fn epoch_or_text<'a>(source: Source<'a>, reading: &Reading) -> Result<EpochOrText<'a>, Fault> {
    let unit = || {
        reading.unit.ok_or_else(|| {
            Fault::wrong_type(
                "a number is a timestamp only with a unit (s, ms, us, or one that can be inferred)",
            )
        })
    };
    reading.refuse_mixed(source)?;
    let since_1970 = match source {
        Source::Integer(n) => i128::from(n) * i128::from(unit()?.micros()),
        Source::Real(x) => micros_of_real(x, unit()?)?,
        Source::Number(text) => {
            let unit = unit()?;
            let decimal = Decimal::parse(text.as_bytes())
                .ok_or_else(|| Fault::timestamp("a timestamp is a finite number"))?;
            micros_of_decimal(&decimal, unit)?
        }
        Source::Text(text) => match (reading.unit, Decimal::parse(text)) {
            (Some(unit), Some(decimal)) => micros_of_decimal(&decimal, unit)?,
            (None, Some(_)) if !text.is_empty() => {
                unit()?;
                0
            }
            _ if reading.only_epoch => {
                return Err(Fault::wrong_type("the cast reads epoch numbers only"));
            }
            _ => return Ok(EpochOrText::Text(text)),
        },
        _ => return Err(Fault::wrong_type("a timestamp is text or a number")),
    };
    let micros = i64::try_from(since_1970 - i128::from(POSTGRES_EPOCH)).ok();
    in_range(micros).map(EpochOrText::Epoch)
}

/// Nearest microsecond of a REAL: below 2^33 seconds its neighbours are less than a microsecond
/// apart, so that the nearest one is what was meant.
pub(super) fn micros_of_real(x: f64, unit: EpochUnit) -> Result<i128, Fault> {
    let limit = match unit {
        EpochUnit::S => 8_589_934_592.0,
        EpochUnit::Ms => 8_796_093_022_208.0,
        EpochUnit::Us => 9_007_199_254_740_992.0,
    };
    if !x.is_finite() {
        return Err(Fault::timestamp("a timestamp is a finite number"));
    }
    if x.abs() >= limit {
        return Err(Fault::precision("a REAL of this size does not hold microseconds"));
    }
    // The whole and the fraction are exact; only the small product rounds.
    let scale = unit.micros();
    let fraction = truncated((x.fract() * scale as f64).round());
    Ok(truncated(x) * i128::from(scale) + fraction)
}

/// Microseconds of a decimal: exact, or the nearest where the digits are those of a float
/// (at most 17) that holds microseconds.
pub(super) fn micros_of_decimal(decimal: &Decimal<'_>, unit: EpochUnit) -> Result<i128, Fault> {
    let scale = unit.decimals();
    match decimal.scaled(scale) {
        Ok(micros) => Ok(micros),
        Err(NotScaled::Beyond) => Err(out_of_range()),
        Err(NotScaled::Inexact) => decimal
            .rounded(scale)
            .filter(|micros| decimal.significant() <= 17 && micros.abs() < 1 << 53)
            .ok_or_else(|| Fault::precision("the target keeps microseconds")),
    }
}

/// Writes date: `YYYY-MM-DD`, a timestamp at midnight without an offset, or with a unit the number
/// of a UTC midnight.
pub(super) fn write_date(
    source: Source<'_>,
    reading: &Reading,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let text = match source {
        Source::Text(text) if reading.unit.is_none() => text,
        _ if reading.unit.is_none() => {
            return Err(Fault::wrong_type("a date is text as YYYY-MM-DD"));
        }
        _ => match epoch_or_text(source, reading)? {
            EpochOrText::Text(text) => text,
            EpochOrText::Epoch(micros) if micros % DAY == 0 => {
                let days = i32::try_from(micros / DAY).map_err(|_| out_of_range())?;
                put(out, days.to_be_bytes());
                return Ok(None);
            }
            EpochOrText::Epoch(_) => return Err(Fault::precision("a date has no time of day")),
        },
    };
    let days = match parse_moment(text)? {
        Parsed::Infinity => i32::MAX,
        Parsed::NegativeInfinity => i32::MIN,
        Parsed::Moment(Moment { offset: Some(_), .. }) => {
            return Err(Fault::timestamp("a date has no offset"));
        }
        Parsed::Moment(Moment { days, clock, .. }) => {
            if clock.is_some_and(|clock| clock != 0) {
                return Err(Fault::precision("a date has no time of day"));
            }
            let days = Some(days).filter(|days| (FIRST_DAY..END_DAY).contains(days));
            days.and_then(|days| i32::try_from(days).ok()).ok_or_else(|| {
                Fault::timestamp("dates reach from 4714-11-24 BC to 5874897-12-31")
            })?
        }
    };
    put(out, days.to_be_bytes());
    Ok(None)
}

/// Writes time without time zone.
pub(super) fn write_time(source: Source<'_>, out: &mut Vec<u8>) -> Result<Changed, Fault> {
    let Source::Text(text) = source else {
        return Err(Fault::wrong_type("a time is text as HH:MM:SS"));
    };
    put(out, parse_clock(text)?.to_be_bytes());
    Ok(None)
}
