//! numeric in its binary send form: base-10000 digits with weight, sign and display scale.

use super::decimal::{Decimal, ShortText};
use super::fault::{Changed, Class, Fault};
use super::field::{begin, end};
use super::note::{Policies, Policy};
use super::number::special_float;
use super::source::Source;

/// Digits before the point and after it that Postgres keeps without a declared precision.
const MAX_INTEGER_DIGITS: i64 = 131_072;
const MAX_SCALE: i64 = 16_383;

/// Writes a numeric, with the scale as written or as declared.
///
/// A value with digits below the declared scale is refused as `scale`; with `overflow =
/// "replace"` it is rounded half away from zero, as Postgres rounds.
pub(super) fn write_numeric(
    typmod: Option<(u16, i16)>,
    source: Source<'_>,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    match source {
        Source::Integer(n) => write_text(typmod, ShortText::integer(n).bytes(), policies, out),
        Source::Real(x) if x.is_finite() => {
            write_text(typmod, ShortText::shortest(x).bytes(), policies, out)
        }
        Source::Real(x) => write_special(typmod, x, policies, out),
        Source::Number(text) => write_text(typmod, text.as_bytes(), policies, out),
        Source::Text(text) => write_text(typmod, text, policies, out),
        _ => Err(Fault::wrong_type("a number is expected")),
    }
}

fn write_text(
    typmod: Option<(u16, i16)>,
    text: &[u8],
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    if let Some(x) = special_float(text) {
        return write_special(typmod, x, policies, out);
    }
    let decimal = Decimal::parse(text).ok_or_else(|| Fault::wrong_type("not a number"))?;
    let Some((precision, scale)) = typmod else {
        let high = decimal.span().map_or(0, |(high, _)| high);
        if high >= MAX_INTEGER_DIGITS || decimal.scale() > MAX_SCALE {
            let what = "numeric holds 131072 digits before the point and 16383 after it";
            return Err(Fault::new(Class::Final, "overflow", what));
        }
        return write_digits(&decimal, decimal.scale(), out).map(|()| None);
    };
    write_declared(&decimal, i64::from(precision), i64::from(scale), policies, out)
}

fn write_declared(
    decimal: &Decimal<'_>,
    precision: i64,
    scale: i64,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    let shown_scale = scale.max(0);
    let Some((high, low)) = decimal.span() else {
        return write_digits(decimal, shown_scale, out).map(|()| None);
    };
    if high < precision - scale && low >= -scale {
        return write_digits(decimal, shown_scale, out).map(|()| None);
    }
    let too_large = high >= precision - scale;
    let reason = if too_large { "overflow" } else { "scale" };
    if policies.overflow != Policy::Replace {
        let what = format!("the column is numeric({precision},{scale})");
        return Err(Fault::new(Class::Overflow, reason, what));
    }
    let rounded = if too_large { None } else { round(decimal, high, precision, scale) };
    let reason = if rounded.is_some() { reason } else { "overflow" };
    let text = rounded.unwrap_or_else(|| bound(decimal.negative, precision, scale));
    let replaced = Decimal::parse(&text)
        .ok_or_else(|| Fault::new(Class::Final, "overflow", "no replacement"))?;
    write_digits(&replaced, shown_scale, out).map(|()| Some(reason))
}

/// Digits rounded to the scale, as decimal text; None when rounding leaves the precision.
fn round(decimal: &Decimal<'_>, high: i64, precision: i64, scale: i64) -> Option<Vec<u8>> {
    let mut digits = vec![0_u8];
    let mut power = high.max(-scale);
    while power >= -scale {
        digits.push(decimal.digit(power));
        power -= 1;
    }
    if decimal.digit(-scale - 1) >= 5 {
        for digit in digits.iter_mut().rev() {
            *digit = (*digit + 1) % 10;
            if *digit != 0 {
                break;
            }
        }
    }
    let first = digits.iter().position(|d| *d != 0).unwrap_or(digits.len() - 1);
    let significant = &digits[first..];
    if i64::try_from(significant.len()).is_ok_and(|n| n > precision) {
        return None;
    }
    Some(spell(decimal.negative, significant, scale))
}

/// The largest magnitude of numeric(precision, scale).
fn bound(negative: bool, precision: i64, scale: i64) -> Vec<u8> {
    let nines = vec![9; usize::try_from(precision).unwrap_or(1)];
    spell(negative, &nines, scale)
}

fn spell(negative: bool, digits: &[u8], scale: i64) -> Vec<u8> {
    let mut text = if negative { b"-".to_vec() } else { Vec::new() };
    text.extend(digits.iter().map(|d| d + b'0'));
    text.extend_from_slice(format!("e{}", -scale).as_bytes());
    text
}

/// `numeric_send`: ndigits, weight, sign, dscale, then base-10000 digits.
fn write_digits(decimal: &Decimal<'_>, scale: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    let at = begin(out);
    let narrow = |n: i64| i16::try_from(n).unwrap_or(i16::MAX).to_be_bytes();
    match decimal.span() {
        None => {
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&narrow(scale));
        }
        Some((high, low)) => {
            let weight = high.div_euclid(4);
            let last = low.div_euclid(4);
            out.extend_from_slice(&narrow(weight - last + 1));
            out.extend_from_slice(&narrow(weight));
            out.extend_from_slice(if decimal.negative { &[0x40, 0] } else { &[0, 0] });
            out.extend_from_slice(&narrow(scale));
            let mut group = weight;
            while group >= last {
                let mut value = 0_u16;
                for power in (0..4).rev() {
                    value = value * 10 + u16::from(decimal.digit(group * 4 + power));
                }
                out.extend_from_slice(&value.to_be_bytes());
                group -= 1;
            }
        }
    }
    end(out, at)
}

/// NaN and infinities; a declared precision excludes infinities.
fn write_special(
    typmod: Option<(u16, i16)>,
    x: f64,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<Changed, Fault> {
    if let (Some((precision, scale)), true) = (typmod, x.is_infinite()) {
        if policies.overflow != Policy::Replace {
            let what = "numeric with a declared precision has no infinity";
            return Err(Fault::new(Class::Overflow, "overflow", what));
        }
        let text = bound(x < 0.0, i64::from(precision), i64::from(scale));
        let replaced = Decimal::parse(&text)
            .ok_or_else(|| Fault::new(Class::Final, "overflow", "no replacement"))?;
        write_digits(&replaced, i64::from(scale).max(0), out)?;
        return Ok(Some("overflow"));
    }
    let sign: u8 = match (x.is_nan(), x > 0.0) {
        (true, _) => 0xC0,
        (false, true) => 0xD0,
        (false, false) => 0xF0,
    };
    // `numeric_send` reads a scale of 32 out of the header bits that mark an infinity.
    let scale = if x.is_nan() { 0 } else { 32 };
    super::field::put(out, [0, 0, 0, 0, sign, 0, 0, scale]);
    Ok(None)
}
