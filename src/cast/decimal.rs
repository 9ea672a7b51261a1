//! Decimal text, read in place: exact digits without a number type in between.

use std::fmt::{self, Write as _};

/// A decimal as written: `int.frac * 10^exponent`. Digits are ASCII, leading zeros kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    pub(super) negative: bool,
    int: &'a [u8],
    frac: &'a [u8],
    exponent: i64,
}

/// Why a decimal is not an integer of the asked scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotScaled {
    /// Digits below the scale.
    Inexact,
    /// More than `i128` holds.
    Beyond,
}

impl<'a> Decimal<'a> {
    /// `[+-]? (d+ [. d*] | . d+) ([eE] [+-]? d+)?`, which is what Postgres's numeric reads, but
    /// without surrounding space.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (int, rest) = digits(rest);
        let (frac, rest) = match rest.first() {
            Some(b'.') => digits(&rest[1..]),
            _ => (&rest[..0], rest),
        };
        if int.is_empty() && frac.is_empty() {
            return None;
        }
        let exponent = match rest.first() {
            None => 0,
            Some(b'e' | b'E') => exponent(&rest[1..])?,
            Some(_) => return None,
        };
        Some(Self { negative, int, frac, exponent })
    }

    /// Whether it is written without point and exponent.
    pub(super) fn is_plain_integer(&self) -> bool {
        self.frac.is_empty() && self.exponent == 0
    }

    /// Digits after the point as written, the exponent applied; what numeric keeps as its scale.
    pub(super) fn scale(&self) -> i64 {
        (length(self.frac) - self.exponent).max(0)
    }

    /// Powers of ten of the first and of the last digit that is not zero; None for zero.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let all = || self.int.iter().chain(self.frac);
        let top = length(self.int) - 1 + self.exponent;
        let first = all().position(|d| *d != b'0')?;
        let last = match self.frac.iter().rposition(|d| *d != b'0') {
            Some(at) => self.int.len() + at,
            None => self.int.iter().rposition(|d| *d != b'0')?,
        };
        let index = |i: usize| i64::try_from(i).unwrap_or(i64::MAX);
        Some((top - index(first), top - index(last)))
    }

    /// Significant digits, zeros at both ends not counted.
    pub(super) fn significant(&self) -> i64 {
        self.span().map_or(0, |(high, low)| high - low + 1)
    }

    /// The digit at a power of ten.
    pub(super) fn digit(&self, power: i64) -> u8 {
        let index = length(self.int) - 1 + self.exponent - power;
        let Ok(index) = usize::try_from(index) else { return 0 };
        let digit = match self.int.get(index) {
            Some(digit) => Some(digit),
            None => self.frac.get(index - self.int.len()),
        };
        digit.map_or(0, |d| d - b'0')
    }

    /// The value times `10^scale`, when that is an integer.
    pub(super) fn scaled(&self, scale: i64) -> Result<i128, NotScaled> {
        let Some((high, low)) = self.span() else { return Ok(0) };
        if high + scale > 37 {
            return Err(NotScaled::Beyond);
        }
        if low < -scale {
            return Err(NotScaled::Inexact);
        }
        Ok(self.whole(high, -scale))
    }

    /// The value times `10^scale`, rounded half away from zero; None beyond `i128`.
    pub(super) fn rounded(&self, scale: i64) -> Option<i128> {
        let Some((high, _)) = self.span() else { return Some(0) };
        if high + scale > 37 {
            return None;
        }
        let up = i128::from(self.digit(-scale - 1) >= 5);
        Some(self.whole(high, -scale) + if self.negative { -up } else { up })
    }

    fn whole(&self, high: i64, low: i64) -> i128 {
        let mut sum: i128 = 0;
        let mut power = high;
        while power >= low {
            sum = sum * 10 + i128::from(self.digit(power));
            power -= 1;
        }
        if self.negative { -sum } else { sum }
    }

    /// Whether both name the same number.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self.span(), other.span()) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a == b
                    && self.negative == other.negative
                    && (a.1..=a.0).all(|power| self.digit(power) == other.digit(power))
            }
            _ => false,
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

/// Exponents saturate: beyond nine digits every target has long overflowed.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value =
        text.iter().fold(0_i64, |sum, d| (sum * 10 + i64::from(d - b'0')).min(1_000_000_000));
    Some(if negative { -value } else { value })
}

/// Short text on the stack: every `i64`, and every float in its shortest form.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortText {
    bytes: [u8; 40],
    length: usize,
}

impl ShortText {
    fn new() -> Self {
        Self { bytes: [0; 40], length: 0 }
    }

    pub(super) fn integer(n: i64) -> Self {
        let mut text = Self::new();
        // 20 bytes at most, so writing cannot fail.
        let _ = write!(text, "{n}");
        text
    }

    /// The shortest digits that read back as the finite `x`, without a trailing `.0`; of two
    /// equally near ones the even, as Postgres and Python choose.
    pub(super) fn shortest<F: ryu::Float>(x: F) -> Self {
        let mut buffer = ryu::Buffer::new();
        let digits = buffer.format_finite(x);
        let mut text = Self::new();
        // 24 bytes at most.
        let _ = text.write_str(digits.strip_suffix(".0").unwrap_or(digits));
        text
    }

    /// As Postgres prints a float8 since version 12: fixed from 1e-4 to below 1e15, otherwise
    /// with an exponent of at least two digits. Where the shortest decimal lies exactly halfway
    /// between two floats (some above 2^53) Postgres prints one digit more; both read back equal.
    pub(super) fn float8(x: f64) -> Self {
        if !x.is_finite() {
            let mut text = Self::new();
            let name = match (x.is_nan(), x > 0.0) {
                (true, _) => "NaN",
                (false, true) => "Infinity",
                (false, false) => "-Infinity",
            };
            let _ = text.write_str(name);
            return text;
        }
        let shortest = Self::shortest(x);
        if x == 0.0 || (1e-4..1e15).contains(&x.abs()) {
            return shortest;
        }
        let Some(decimal) = Decimal::parse(shortest.bytes()) else { return shortest };
        let (high, low) = decimal.span().unwrap_or((0, 0));
        let mut text = Self::new();
        let _ = write!(text, "{}{}", if x < 0.0 { "-" } else { "" }, decimal.digit(high));
        for (index, power) in (low..high).rev().enumerate() {
            let _ = write!(text, "{}{}", if index == 0 { "." } else { "" }, decimal.digit(power));
        }
        let _ = write!(text, "e{}{:02}", if high < 0 { '-' } else { '+' }, high.abs());
        text
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_numeric_reads() {
        for good in ["0", "-1", "+1.", ".5", "1e5", "1.50E-3", "007"] {
            assert!(Decimal::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "-", ".", "1e", "1e+", " 1", "1 ", "1_0", "0x1", "1.2.3", "e5", "١"] {
            assert!(Decimal::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn scales_only_without_loss() {
        let scaled =
            |text: &'static str, scale| Decimal::parse(text.as_bytes()).unwrap().scaled(scale);
        assert_eq!(scaled("12.0", 0), Ok(12));
        assert_eq!(scaled("1.2e1", 0), Ok(12));
        assert_eq!(scaled("-0.5", 6), Ok(-500_000));
        assert_eq!(scaled("0.99999999999999999999", 0), Err(NotScaled::Inexact));
        assert_eq!(scaled("1e999999999999", 0), Err(NotScaled::Beyond));
        assert_eq!(scaled("0e999999999999", 0), Ok(0));
    }

    #[test]
    fn rounds_half_away_from_zero() {
        let rounded =
            |text: &'static str, scale| Decimal::parse(text.as_bytes()).unwrap().rounded(scale);
        assert_eq!(rounded("1.5", 0), Some(2));
        assert_eq!(rounded("-1.5", 0), Some(-2));
        assert_eq!(rounded("0.5", 0), Some(1));
        assert_eq!(rounded("0.05", 0), Some(0));
        assert_eq!(rounded("1.2345674999", 6), Some(1_234_567));
    }

    #[test]
    fn floats_print_as_postgres_prints_them() {
        let text = |x| String::from_utf8(ShortText::float8(x).bytes().to_vec()).unwrap();
        assert_eq!(text(100.0), "100");
        assert_eq!(text(-0.0), "-0");
        assert_eq!(text(0.1), "0.1");
        assert_eq!(text(1e15), "1e+15");
        assert_eq!(text(1e-5), "1e-05");
        assert_eq!(text(0.0001), "0.0001");
        assert_eq!(text(-1.5e300), "-1.5e+300");
        assert_eq!(text(123_456_789_012_345.6), "123456789012345.6");
        assert_eq!(text(f64::NEG_INFINITY), "-Infinity");
    }
}
