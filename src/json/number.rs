//! Number literals: the grammar, and the text Postgres's numeric prints for them.

/// Digits that numeric holds before the decimal point.
const INTEGER_DIGITS_MAX: usize = 131_072;

/// Digits that numeric holds after the decimal point.
const SCALE_MAX: usize = 16_383;

/// `numeric_in` refuses exponents from `INT_MAX / 2` on, even those of zero.
const EXPONENT_BOUND: i64 = i32::MAX as i64 / 2;

/// Whether the literal is one of those only Python writes.
pub(super) fn is_special(text: &str) -> bool {
    matches!(text, "NaN" | "Infinity" | "-Infinity")
}

/// Length of the number literal that `input` begins with, `-Infinity` included; the error is the
/// offset of the fault.
pub(super) fn literal_length(input: &[u8]) -> Result<usize, usize> {
    let digits = |from: usize| {
        let end = from + input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if end == from { Err(from) } else { Ok(end) }
    };
    let start = usize::from(input.first() == Some(&b'-'));
    if start == 1 && input[1..].starts_with(b"Infinity") {
        return delimited(input, "-Infinity".len());
    }
    let mut end = digits(start)?;
    if input[start] == b'0' && end > start + 1 {
        return Err(start);
    }
    if input.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = input.get(end) {
        end += 1;
        if let Some(b'+' | b'-') = input.get(end) {
            end += 1;
        }
        end = digits(end)?;
    }
    delimited(input, end)
}

/// `1a`, `1.2.3` and `1-2` are one wrong word, not a number and something else.
fn delimited(input: &[u8], end: usize) -> Result<usize, usize> {
    match input.get(end) {
        Some(byte) if byte.is_ascii_alphanumeric() || b"+-._".contains(byte) => Err(end),
        _ => Ok(end),
    }
}

/// Why a literal has no numeric text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Not a finite JSON number.
    NotANumber,
    /// More digits before or after the point than numeric holds.
    Overflow,
}

/// Appends what Postgres prints for `literal::numeric` (`numeric_in` and `numeric_out`): the
/// exponent expanded, the written scale kept, no negative zero. Nothing is appended on a misfit.
pub(super) fn push_numeric(out: &mut Vec<u8>, literal: &str) -> Result<(), Misfit> {
    if is_plain_integer(literal.as_bytes()) {
        out.extend_from_slice(literal.as_bytes());
        return Ok(());
    }
    let number = Decimal::read(literal).ok_or(Misfit::NotANumber)?;
    if number.exponent.abs() >= EXPONENT_BOUND {
        return Err(Misfit::Overflow);
    }
    let scale = number.scale();
    let fits = number.integer_digits() <= signed(INTEGER_DIGITS_MAX) && scale <= signed(SCALE_MAX);
    if !fits {
        return Err(Misfit::Overflow);
    }
    number.push(out, usize::try_from(scale).unwrap_or(0));
    Ok(())
}

/// Appends the numeric nearest to a literal that overflows: rounded half away from zero to the
/// largest scale, or the largest magnitude.
pub(super) fn push_nearest_numeric(out: &mut Vec<u8>, literal: &str) {
    let Some(number) = Decimal::read(literal) else { return };
    if !number.is_zero() && number.integer_digits() > signed(INTEGER_DIGITS_MAX) {
        push_largest(out, number.negative);
        return;
    }
    if number.is_zero() || number.scale() <= signed(SCALE_MAX) {
        out.push(b'0');
        return;
    }
    let start = out.len();
    let kept = number.point().saturating_add(signed(SCALE_MAX));
    let rounds_up = number.digit(kept) >= b'5';
    number.push(out, SCALE_MAX);
    if rounds_up && increment(&mut out[start..]) {
        let sign = usize::from(out[start] == b'-');
        out.insert(start + sign, b'1');
    }
    if out[start..].iter().all(|byte| b"-0.".contains(byte)) && out[start] == b'-' {
        out.remove(start);
    }
    let point = out[start..].iter().position(|&byte| byte == b'.').unwrap_or(0);
    let sign = usize::from(out[start] == b'-');
    if point - sign > INTEGER_DIGITS_MAX {
        out.truncate(start);
        push_largest(out, number.negative);
    }
}

fn push_largest(out: &mut Vec<u8>, negative: bool) {
    if negative {
        out.push(b'-');
    }
    out.resize(out.len() + INTEGER_DIGITS_MAX, b'9');
}

/// Adds one in the last place; true when a one has to be put in front.
fn increment(text: &mut [u8]) -> bool {
    for byte in text.iter_mut().rev() {
        match byte {
            b'9' => *byte = b'0',
            b'0'..=b'8' => {
                *byte += 1;
                return false;
            }
            _ => {}
        }
    }
    true
}

/// Digits only, and certain to come out as they went in.
fn is_plain_integer(literal: &[u8]) -> bool {
    let digits = literal.strip_prefix(b"-").unwrap_or(literal);
    let canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == literal.len(),
        [first, ..] => *first != b'0',
    };
    canonical && digits.len() <= INTEGER_DIGITS_MAX && digits.iter().all(u8::is_ascii_digit)
}

/// A literal taken apart: `digits` with the point after `integer_length` of them, times
/// ten to the power of `exponent`.
struct Decimal<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    /// Saturated far beyond what numeric allows.
    exponent: i64,
    /// Index of the first digit that is not zero, over integer and fraction together.
    first_significant: Option<usize>,
}

impl<'a> Decimal<'a> {
    fn read(literal: &'a str) -> Option<Self> {
        let text = literal.as_bytes();
        if is_special(literal) || literal_length(text) != Ok(text.len()) {
            return None;
        }
        let negative = text.first() == Some(&b'-');
        let text = &text[usize::from(negative)..];
        let mantissa_end = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match mantissa_end {
            Some(end) => (&text[..end], saturating_exponent(&text[end + 1..])),
            None => (text, 0),
        };
        let (integer, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
            Some(point) => (&mantissa[..point], &mantissa[point + 1..]),
            None => (mantissa, &[][..]),
        };
        let first_significant = integer.iter().chain(fraction).position(|&digit| digit != b'0');
        Some(Self { negative, integer, fraction, exponent, first_significant })
    }

    fn is_zero(&self) -> bool {
        self.first_significant.is_none()
    }

    /// Index of the first digit after the point once the exponent is expanded; may lie outside.
    fn point(&self) -> i64 {
        signed(self.integer.len()).saturating_add(self.exponent)
    }

    /// Digits before the point, leading zeros not counted.
    fn integer_digits(&self) -> i64 {
        self.first_significant.map_or(0, |first| self.point().saturating_sub(signed(first)))
    }

    /// Digits after the point.
    fn scale(&self) -> i64 {
        signed(self.fraction.len()).saturating_sub(self.exponent).max(0)
    }

    fn digit(&self, index: i64) -> u8 {
        let Ok(index) = usize::try_from(index) else { return b'0' };
        match index.checked_sub(self.integer.len()) {
            None => self.integer[index],
            Some(index) => self.fraction.get(index).copied().unwrap_or(b'0'),
        }
    }

    /// Appends the expanded digits with `scale` of them after the point.
    fn push(&self, out: &mut Vec<u8>, scale: usize) {
        if self.negative && !self.is_zero() {
            out.push(b'-');
        }
        let point = self.point();
        match self.first_significant.map(signed) {
            Some(first) if first < point => {
                out.extend((first..point).map(|index| self.digit(index)));
            }
            _ => out.push(b'0'),
        }
        if scale > 0 {
            out.push(b'.');
            out.extend((0..signed(scale)).map(|index| self.digit(point + index)));
        }
    }
}

fn saturating_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits.strip_prefix(b"+").unwrap_or(digits)),
    };
    let magnitude = digits.iter().fold(0_i64, |value, &digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    // Halved, so that sums with text lengths cannot overflow unnoticed.
    let magnitude = magnitude.min(i64::MAX / 2);
    if negative { -magnitude } else { magnitude }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(literal: &str) -> Result<String, Misfit> {
        let mut out = Vec::new();
        push_numeric(&mut out, literal).map(|()| String::from_utf8(out).unwrap())
    }

    /// Taken from Postgres 15: `select to_jsonb(literal::numeric)`.
    #[test]
    fn literals_print_as_postgres_prints_them() {
        for (literal, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("-0.00e1", "0.0"),
            ("0e10", "0"),
            ("0e-3", "0.000"),
            ("0E+400000", "0"),
            ("1.10", "1.10"),
            ("-1", "-1"),
            ("1e22", "10000000000000000000000"),
            ("1E-5", "0.00001"),
            ("1.5e3", "1500"),
            ("1.50e1", "15.0"),
            ("1.2345e2", "123.45"),
            ("-1.5e-2", "-0.015"),
            ("10e-1", "1.0"),
            ("0.001e3", "1"),
            ("0.0010e3", "1.0"),
            (
                "12345678901234567890.12345678901234567890",
                "12345678901234567890.12345678901234567890",
            ),
        ] {
            assert_eq!(numeric(literal).as_deref(), Ok(expected), "{literal}");
        }
    }

    #[test]
    fn the_limits_of_numeric_are_exact() {
        assert_eq!(numeric("1e131071").map(|text| text.len()), Ok(131_072));
        assert_eq!(numeric("1e131072"), Err(Misfit::Overflow));
        assert_eq!(numeric("0.01e131073").map(|text| text.len()), Ok(131_072));
        assert_eq!(numeric("1e-16383").map(|text| text.len()), Ok(16_385));
        assert_eq!(numeric("1e-16384"), Err(Misfit::Overflow));
        assert_eq!(numeric("0e-16384"), Err(Misfit::Overflow));
        assert_eq!(numeric("0e1073741822").as_deref(), Ok("0"));
        assert_eq!(numeric("0e1073741823"), Err(Misfit::Overflow));
        assert_eq!(numeric("1e99999999999999999999"), Err(Misfit::Overflow));
        assert_eq!(numeric("1e-99999999999999999999"), Err(Misfit::Overflow));
        assert_eq!(numeric(&"9".repeat(131_073)), Err(Misfit::Overflow));
        assert_eq!(numeric("NaN"), Err(Misfit::NotANumber));
        assert_eq!(numeric("1 "), Err(Misfit::NotANumber));
    }

    #[test]
    fn the_nearest_numeric_is_rounded_or_the_bound() {
        let nearest = |literal: &str| {
            let mut out = Vec::new();
            push_nearest_numeric(&mut out, literal);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(nearest("-1e200000"), format!("-{}", "9".repeat(131_072)));
        assert_eq!(nearest("1e-16384"), format!("0.{}", "0".repeat(16_383)));
        assert_eq!(nearest("-5e-16384"), format!("-0.{}1", "0".repeat(16_382)));
        assert_eq!(nearest("-4e-16384"), format!("0.{}", "0".repeat(16_383)));
        assert_eq!(
            nearest(&format!("9.{}", "9".repeat(16_384))),
            format!("10.{}", "0".repeat(16_383))
        );
        assert_eq!(nearest("1e-99999999999999999999"), format!("0.{}", "0".repeat(16_383)));
        assert_eq!(nearest("0e-99999"), "0");
        let full = format!("{}.{}", "9".repeat(131_072), "9".repeat(16_384));
        assert_eq!(nearest(&full), "9".repeat(131_072));
    }
}
