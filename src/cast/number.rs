//! Integers, booleans and floats.

use super::decimal::{Decimal, NotScaled, ShortText};
use super::fault::{Changed, Class, Fault};
use super::field::put;
use super::note::{Policies, Policy};
use super::source::Source;

/// Bounds of an integer type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Width {
    Int2,
    Int4,
    Int8,
}

/// Beyond this magnitude neighbouring integers share one float.
const EXACT_REAL: f64 = 9_007_199_254_740_992.0;

/// An integer in range or not, and whether its source may have lost digits.
struct Whole {
    value: i128,
    inexact: bool,
}

/// Reads an integer and writes it in `width`.
///
/// Text must be a canonical decimal integer, a REAL integral and below 2^53; a JSON number may
/// have a point or an exponent as long as its value is an integer.
pub(super) fn write_integer(
    width: Width,
    source: Source<'_>,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let (min, max) = match width {
        Width::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Width::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Width::Int8 => (i64::MIN, i64::MAX),
    };
    let whole = match source {
        // What nearly all are: nothing to be judged.
        Source::Integer(n) if (min..=max).contains(&n) => {
            put_integer(width, n, out);
            return Ok(None);
        }
        Source::Integer(n) => Whole { value: i128::from(n), inexact: false },
        Source::Real(x) => whole_of_real(x)?,
        Source::Text(text) => Whole { value: canonical_integer(text)?, inexact: false },
        Source::Number(text) => whole_of_number(text)?,
        _ => return Err(Fault::wrong_type("an integer is expected")),
    };
    let stored = i64::try_from(whole.value.clamp(i128::from(min), i128::from(max))).unwrap_or(max);
    let changed = if i128::from(stored) != whole.value {
        Some(("overflow", format!("allowed are {min} to {max}")))
    } else if whole.inexact {
        Some(("inexact", "a REAL of 2^53 or more may have lost digits".to_owned()))
    } else {
        None
    };
    let rule = match changed {
        Some((reason, what)) if policies.overflow != Policy::Replace => {
            return Err(Fault::new(Class::Overflow, reason, what));
        }
        Some((reason, _)) => Some(reason),
        None => None,
    };
    put_integer(width, stored, out);
    Ok(rule)
}

/// Appends an integer that is in the range of its width.
fn put_integer(width: Width, stored: i64, out: &mut Vec<u8>) {
    match width {
        Width::Int8 => put(out, stored.to_be_bytes()),
        Width::Int4 => put(out, i32::try_from(stored).unwrap_or(i32::MAX).to_be_bytes()),
        Width::Int2 => put(out, i16::try_from(stored).unwrap_or(i16::MAX).to_be_bytes()),
    }
}

fn whole_of_real(x: f64) -> Result<Whole, Fault> {
    if !x.is_finite() {
        return Err(no_such_integer());
    }
    if x.fract() != 0.0 {
        return Err(Fault::wrong_type("not an integer"));
    }
    Ok(Whole { value: truncated(x), inexact: x.abs() >= EXACT_REAL })
}

fn no_such_integer() -> Fault {
    Fault::new(Class::Nan, "nan", "an integer column has no NaN and no infinity")
}

/// The integer part; saturates.
#[expect(clippy::cast_possible_truncation, reason = "the integer part is asked for")]
pub(super) fn truncated(x: f64) -> i128 {
    x as i128
}

/// `-?(0|[1-9][0-9]*)`, without `-0`.
fn canonical_integer(text: &[u8]) -> Result<i128, Fault> {
    let not = || Fault::wrong_type("not a decimal integer");
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || (digits[0] == b'0' && (negative || digits.len() > 1)) {
        return Err(not());
    }
    let mut value: i128 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(not());
        }
        // Saturates far beyond every width, so that the range check speaks.
        value = (value * 10 + i128::from(digit - b'0')).min(i128::from(u64::MAX) * 2);
    }
    Ok(if negative { -value } else { value })
}

fn whole_of_number(text: &str) -> Result<Whole, Fault> {
    let Some(decimal) = Decimal::parse(text.as_bytes()) else { return Err(no_such_integer()) };
    match decimal.scaled(0) {
        Ok(value) => Ok(Whole { value, inexact: false }),
        Err(NotScaled::Inexact) => Err(Fault::wrong_type("not an integer")),
        Err(NotScaled::Beyond) => {
            let value = if decimal.negative { i128::MIN } else { i128::MAX };
            Ok(Whole { value, inexact: false })
        }
    }
}

/// Booleans: 0 and 1, JSON booleans, and Postgres's words in any case.
pub(super) fn write_bool(source: Source<'_>, out: &mut Vec<u8>) -> Result<Changed, Fault> {
    const WORDS: [(&str, bool); 12] = [
        ("1", true),
        ("0", false),
        ("t", true),
        ("f", false),
        ("true", true),
        ("false", false),
        ("y", true),
        ("n", false),
        ("yes", true),
        ("no", false),
        ("on", true),
        ("off", false),
    ];
    let value = match source {
        Source::Bool(value) => Some(value),
        Source::Integer(0) | Source::Number("0") => Some(false),
        Source::Integer(1) | Source::Number("1") => Some(true),
        Source::Text(text) => WORDS
            .iter()
            .find(|(word, _)| text.eq_ignore_ascii_case(word.as_bytes()))
            .map(|(_, value)| *value),
        _ => None,
    };
    let value = value.ok_or_else(|| {
        Fault::wrong_type("a boolean is 0, 1, t, f, true, false, yes, no, on or off")
    })?;
    put(out, [u8::from(value)]);
    Ok(None)
}

/// A float and the rule under which it differs from its source.
struct Nearest<F> {
    value: F,
    changed: Option<(&'static str, &'static str)>,
}

impl<F> Nearest<F> {
    fn exact(value: F) -> Self {
        Self { value, changed: None }
    }

    fn unless(exact: bool, value: F, reason: &'static str, what: &'static str) -> Self {
        Self { value, changed: (!exact).then_some((reason, what)) }
    }

    fn decided(self, policies: &Policies) -> Result<(F, Changed), Fault> {
        match self.changed {
            Some((reason, what)) if policies.overflow != Policy::Replace => {
                Err(Fault::new(Class::Overflow, reason, what))
            }
            changed => Ok((self.value, changed.map(|(reason, _)| reason))),
        }
    }
}

const OUT_OF_FLOAT: &str = "outside the range of the target's floats";
const INEXACT_FLOAT: &str = "the target's floats do not hold this number exactly";

/// Double precision: NaN and infinities are kept, `-0` is kept, integers must be exact; the
/// nearest float of a decimal fraction is its value, as for Postgres.
pub(super) fn write_float8(
    source: Source<'_>,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let nearest = match source {
        Source::Real(x) => Nearest::exact(x),
        Source::Integer(n) => {
            let x = n as f64;
            Nearest::unless(truncated(x) == i128::from(n), x, "inexact", INEXACT_FLOAT)
        }
        Source::Number(text) => double_of_text(text.as_bytes())?,
        Source::Text(text) => double_of_text(text)?,
        _ => return Err(Fault::wrong_type("a number is expected")),
    };
    let (value, changed) = nearest.decided(policies)?;
    put(out, if value.is_nan() { NAN8 } else { value.to_be_bytes() });
    Ok(changed)
}

const NAN8: [u8; 8] = 0x7ff8_0000_0000_0000_u64.to_be_bytes();
const NAN4: [u8; 4] = 0x7fc0_0000_u32.to_be_bytes();

fn double_of_text(text: &[u8]) -> Result<Nearest<f64>, Fault> {
    if let Some(x) = special_float(text) {
        return Ok(Nearest::exact(x));
    }
    let (decimal, x) = decimal_and::<f64>(text)?;
    if !x.is_finite() {
        let bound = if decimal.negative { f64::MIN } else { f64::MAX };
        return Ok(Nearest::unless(false, bound, "overflow", OUT_OF_FLOAT));
    }
    if x == 0.0 && decimal.span().is_some() {
        return Ok(Nearest::unless(false, x, "overflow", OUT_OF_FLOAT));
    }
    // Only plain integers of 16 and more digits can be inexact integers.
    if decimal.is_plain_integer() && text.len() > 15 && x.abs() >= EXACT_REAL {
        let printed = format!("{x:.0}");
        let exact = Decimal::parse(printed.as_bytes()).is_some_and(|back| back.same(&decimal));
        return Ok(Nearest::unless(exact, x, "inexact", INEXACT_FLOAT));
    }
    Ok(Nearest::exact(x))
}

/// `NaN`, `inf`, `infinity` with a sign, in any case.
pub(super) fn special_float(text: &[u8]) -> Option<f64> {
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    match text.first()? {
        b'n' | b'N' if is("nan") => Some(f64::NAN),
        b'i' | b'I' if is("inf") || is("infinity") => Some(f64::INFINITY),
        b'+' if is("+inf") || is("+infinity") => Some(f64::INFINITY),
        b'-' if is("-inf") || is("-infinity") => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn decimal_and<F: std::str::FromStr>(text: &[u8]) -> Result<(Decimal<'_>, F), Fault> {
    let decimal = Decimal::parse(text);
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    decimal.zip(number).ok_or_else(|| Fault::wrong_type("not a number"))
}

/// Single precision: a REAL must survive the way there and back; decimal text must be what the
/// single float prints, or exact.
pub(super) fn write_float4(
    source: Source<'_>,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let nearest = match source {
        Source::Real(x) => single_of_double(x),
        Source::Integer(n) => {
            let x = single(n as f64);
            // Rounding twice cannot hide a change: the comparison is with the integer.
            Nearest::unless(truncated(f64::from(x)) == i128::from(n), x, "inexact", INEXACT_FLOAT)
        }
        Source::Number(text) => single_of_text(text.as_bytes())?,
        Source::Text(text) => single_of_text(text)?,
        _ => return Err(Fault::wrong_type("a number is expected")),
    };
    let (value, changed) = nearest.decided(policies)?;
    put(out, if value.is_nan() { NAN4 } else { value.to_be_bytes() });
    Ok(changed)
}

#[expect(clippy::cast_possible_truncation, reason = "callers compare the result with its source")]
fn single(x: f64) -> f32 {
    x as f32
}

fn single_of_double(x: f64) -> Nearest<f32> {
    let value = single(x);
    if x.is_finite() && value.is_infinite() {
        return Nearest::unless(false, f32::MAX.copysign(value), "overflow", OUT_OF_FLOAT);
    }
    let exact = x.is_nan() || f64::from(value).to_bits() == x.to_bits();
    Nearest::unless(exact, value, "inexact", INEXACT_FLOAT)
}

fn single_of_text(text: &[u8]) -> Result<Nearest<f32>, Fault> {
    if let Some(x) = special_float(text) {
        return Ok(Nearest::exact(single(x)));
    }
    let (decimal, value) = decimal_and::<f32>(text)?;
    if !value.is_finite() {
        let bound = f32::MAX.copysign(value);
        return Ok(Nearest::unless(false, bound, "overflow", OUT_OF_FLOAT));
    }
    if value == 0.0 && decimal.span().is_some() {
        return Ok(Nearest::unless(false, value, "overflow", OUT_OF_FLOAT));
    }
    let is_decimal = |printed: &[u8]| Decimal::parse(printed).is_some_and(|p| p.same(&decimal));
    // 149 digits behind the point are all that a single float can have.
    let exact = is_decimal(ShortText::shortest(value).bytes())
        || (text.len() > 9 && is_decimal(format!("{value:.149}").as_bytes()));
    Ok(Nearest::unless(exact, value, "inexact", INEXACT_FLOAT))
}
