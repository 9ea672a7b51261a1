//! Moments, days and clocks, spelled as the source spells its own.

use super::Stored;
use crate::cast::civil::{DAY, POSTGRES_EPOCH, SECOND, civil_of};
use crate::cast::decimal::Decimal;
use crate::cast::options::EpochUnit;
use crate::cast::timestamp::{Reading, Zone};
use crate::cast::value::Value;

/// How many digits a fraction of a second has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fraction {
    /// None where it is zero, else six: Python's `isoformat`.
    Six,
    /// Six, always: `SQLAlchemy`.
    AlwaysSix,
    /// Three where they suffice, else six: JavaScript's `toISOString`.
    Three,
    /// As many as it takes.
    Shortest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OffsetText {
    None,
    Letter,
    /// `+02:00`
    Colon,
    /// `+0200`
    Plain,
    /// `+02`
    Hours,
}

/// How a text writes moments.
#[derive(Debug, Clone, Copy)]
struct Style {
    separator: char,
    fraction: Fraction,
    offset: OffsetText,
    /// Seconds east of UTC.
    seconds: i64,
}

/// `2026-02-06T17:40:01.994514+00:00`
const ISO: Style =
    Style { separator: 'T', fraction: Fraction::Six, offset: OffsetText::Colon, seconds: 0 };

impl Style {
    /// Read from a value of the source; None where it is no timestamp text.
    fn of(like: Value<'_>) -> Option<Self> {
        let Value::Text(text) = like else { return None };
        let text = std::str::from_utf8(text).ok()?;
        let at = text.find(['T', ' '])?;
        let (separator, clock) = (text[at..].chars().next()?, &text[at + 1..]);
        if !clock.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let end = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
        let (clock, offset) = clock.split_at(end);
        let fraction = clock.split_once(['.', ',']).map(|(_, digits)| digits.len());
        let (offset, seconds) = offset_of(offset)?;
        let fraction = match fraction {
            Some(6) if separator == ' ' && offset == OffsetText::None => Fraction::AlwaysSix,
            None | Some(6) => Fraction::Six,
            Some(3) => Fraction::Three,
            Some(_) => Fraction::Shortest,
        };
        Some(Self { separator, fraction, offset, seconds })
    }

    fn naive(self) -> Self {
        Self { offset: OffsetText::None, seconds: 0, ..self }
    }

    /// A local time with what the style puts around it.
    fn text(self, local: i64) -> String {
        let (date, era) = day_text(local.div_euclid(DAY));
        let clock = clock_text(local.rem_euclid(DAY), self.fraction);
        let (sign, offset) =
            if self.seconds < 0 { ('-', -self.seconds) } else { ('+', self.seconds) };
        let (hours, minutes, rest) = (offset / 3600, offset / 60 % 60, offset % 60);
        let offset = match self.offset {
            OffsetText::None => String::new(),
            OffsetText::Letter => "Z".to_owned(),
            _ if rest != 0 => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
            OffsetText::Plain => format!("{sign}{hours:02}{minutes:02}"),
            OffsetText::Hours if minutes == 0 => format!("{sign}{hours:02}"),
            OffsetText::Hours | OffsetText::Colon => format!("{sign}{hours:02}:{minutes:02}"),
        };
        format!("{date}{}{clock}{offset}{era}", self.separator)
    }
}

fn offset_of(text: &str) -> Option<(OffsetText, i64)> {
    if text.is_empty() {
        return Some((OffsetText::None, 0));
    }
    if text.eq_ignore_ascii_case("z") {
        return Some((OffsetText::Letter, 0));
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let part = |at: usize| digits.get(at..at + 2).and_then(|two| two.parse::<i64>().ok());
    let (hours, minutes) = (part(0)?, part(2).unwrap_or(0));
    let seconds = sign * ((hours * 60 + minutes) * 60 + part(4).unwrap_or(0));
    let style = match (text.contains(':'), digits.len()) {
        (true, _) => OffsetText::Colon,
        (false, 2) => OffsetText::Hours,
        _ => OffsetText::Plain,
    };
    Some((style, seconds))
}

/// `YYYY-MM-DD` and what follows at the very end of years before Christ.
fn day_text(days: i64) -> (String, &'static str) {
    let (year, month, day) = civil_of(days);
    let (year, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn clock_text(micros: i64, fraction: Fraction) -> String {
    let (seconds, micros) = (micros / SECOND, micros % SECOND);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match fraction {
        Fraction::Three if micros % 1000 == 0 => format!("{clock}.{:03}", micros / 1000),
        Fraction::AlwaysSix | Fraction::Three => format!("{clock}.{micros:06}"),
        _ if micros == 0 => clock,
        Fraction::Six => format!("{clock}.{micros:06}"),
        Fraction::Shortest => {
            format!("{clock}.{}", format!("{micros:06}").trim_end_matches('0'))
        }
    }
}

fn whole<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// The spelling of an infinity; nothing where the source's way are numbers. None: it is none.
fn infinity(reading: &Reading, micros: i64, like: Value<'_>) -> Option<Vec<Stored>> {
    let text = match micros {
        i64::MAX => "infinity",
        i64::MIN => "-infinity",
        _ => return None,
    };
    let is_text = reading.unit.is_none() || Style::of(like).is_some();
    Some(if is_text { vec![Stored::text(text)] } else { Vec::new() })
}

/// Spellings of a timestamptz.
pub(super) fn instants(reading: &Reading, bytes: &[u8], like: Value<'_>) -> Vec<Stored> {
    let Some(micros) = whole(bytes).map(i64::from_be_bytes) else { return Vec::new() };
    if let Some(found) = infinity(reading, micros, like) {
        return found;
    }
    let mut found = epochs(reading, micros, like);
    let liked = Style::of(like);
    // Where numbers are the source's way, a text in one row would surprise its reader.
    if reading.unit.is_some() && liked.is_none() {
        return found;
    }
    for style in liked.into_iter().chain([ISO]) {
        let local = if style.offset == OffsetText::None {
            reading.zone.as_ref().and_then(|zone| local_of(zone, micros))
        } else {
            micros.checked_add(style.seconds * SECOND)
        };
        found.extend(local.map(|local| Stored::text(style.text(local))));
        // A time the zone's clocks showed twice needs its offset.
        let zone_offset = reading
            .zone
            .as_ref()
            .and_then(|zone| Some((local_of(zone, micros)? - micros) / SECOND));
        if style.offset == OffsetText::None
            && let Some(seconds) = zone_offset
        {
            let style = Style { offset: OffsetText::Colon, seconds, ..style };
            found.extend(micros.checked_add(seconds * SECOND).map(|l| Stored::text(style.text(l))));
        }
    }
    found
}

/// The clock of a zone at a moment.
fn local_of(zone: &Zone, micros: i64) -> Option<i64> {
    let seconds = match zone {
        Zone::Fixed(seconds) => *seconds,
        Zone::Rules(rules) => {
            let since_1970 = micros.checked_add(POSTGRES_EPOCH)?.div_euclid(SECOND);
            let moment = jiff::Timestamp::from_second(since_1970).ok()?;
            i64::from(rules.to_offset(moment).seconds())
        }
    };
    micros.checked_add(seconds * SECOND)
}

/// Spellings of a timestamp without time zone.
pub(super) fn clocks(reading: &Reading, bytes: &[u8], like: Value<'_>) -> Vec<Stored> {
    let Some(micros) = whole(bytes).map(i64::from_be_bytes) else { return Vec::new() };
    if let Some(found) = infinity(reading, micros, like) {
        return found;
    }
    let mut found = epochs(reading, micros, like);
    let liked = Style::of(like);
    if reading.unit.is_none() || liked.is_some() {
        let styles = liked.into_iter().chain([Style { separator: ' ', ..ISO }]);
        found.extend(styles.map(|style| Stored::text(style.naive().text(micros))));
    }
    found
}

/// Spellings of a date.
pub(super) fn dates(reading: &Reading, bytes: &[u8], like: Value<'_>) -> Vec<Stored> {
    let Some(days) = whole(bytes).map(i32::from_be_bytes) else { return Vec::new() };
    let whole = match days {
        i32::MAX => i64::MAX,
        i32::MIN => i64::MIN,
        _ => 0,
    };
    if let Some(found) = infinity(reading, whole, like) {
        return found;
    }
    let days = i64::from(days);
    let mut found =
        days.checked_mul(DAY).map(|micros| epochs(reading, micros, like)).unwrap_or_default();
    if let (Some(style), Some(micros)) = (Style::of(like), days.checked_mul(DAY)) {
        found.push(Stored::text(style.naive().text(micros)));
    }
    if reading.unit.is_none() || matches!(like, Value::Text(_)) {
        let (date, era) = day_text(days);
        found.push(Stored::text(format!("{date}{era}")));
    }
    found
}

/// Spellings of a time of day.
pub(super) fn times(bytes: &[u8], like: Value<'_>) -> Vec<Stored> {
    let Some(micros) = whole(bytes).map(i64::from_be_bytes) else { return Vec::new() };
    let digits = match like {
        Value::Text(text) => {
            text.iter().position(|byte| *byte == b'.').map(|at| text.len() - at - 1)
        }
        _ => None,
    };
    let fraction = match digits {
        None | Some(6) => Fraction::Six,
        Some(3) => Fraction::Three,
        Some(_) => Fraction::Shortest,
    };
    vec![Stored::text(clock_text(micros, fraction))]
}

/// An interval as a number of seconds; nothing where it has days or months.
pub(super) fn seconds(bytes: &[u8], like: Value<'_>) -> Vec<Stored> {
    let Some((micros, rest)) = bytes.split_first_chunk() else { return Vec::new() };
    if rest.iter().any(|byte| *byte != 0) {
        return Vec::new();
    }
    numbers(i128::from(i64::from_be_bytes(*micros)), EpochUnit::S, like)
}

/// A moment as a number of the column's unit; nothing where it has none.
fn epochs(reading: &Reading, micros: i64, like: Value<'_>) -> Vec<Stored> {
    let Some(unit) = reading.unit else { return Vec::new() };
    if let Value::Text(text) = like
        && Decimal::parse(text).is_none()
    {
        return Vec::new();
    }
    numbers(i128::from(micros) + i128::from(POSTGRES_EPOCH), unit, like)
}

/// Microseconds as a number of `unit`: whole, REAL, or text, by what `like` is.
fn numbers(micros: i128, unit: EpochUnit, like: Value<'_>) -> Vec<Stored> {
    let scale = i128::from(unit.micros());
    let (units, rest) = (micros.div_euclid(scale), micros.rem_euclid(scale));
    let text = if rest == 0 {
        units.to_string()
    } else {
        let sign = if micros < 0 { "-" } else { "" };
        let (units, rest) = (
            micros.unsigned_abs() / scale.unsigned_abs(),
            micros.unsigned_abs() % scale.unsigned_abs(),
        );
        let width = scale.to_string().len() - 1;
        format!("{sign}{units}.{}", format!("{rest:0width$}").trim_end_matches('0'))
    };
    let integer = (rest == 0).then(|| i64::try_from(units).ok()).flatten().map(Stored::Integer);
    let real = text.parse().ok().map(Stored::Real);
    let text = Some(Stored::text(text));
    let order = match like {
        Value::Real(_) => [real, integer, text],
        Value::Text(_) => [text, integer, real],
        _ => [integer, real, text],
    };
    order.into_iter().flatten().collect()
}
