//! Times, intervals, addresses and arrays as the literals Postgres prints.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::canonical::array::push_quoted;
use crate::canonical::display_field;
use crate::cast::PgType;

const SECOND_MICROS: i64 = 1_000_000;

/// `HH:MM:SS[.ffffff]` of microseconds, which may be more than a day.
pub(super) fn clock(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (seconds, fraction) =
        (micros / SECOND_MICROS.unsigned_abs(), micros % SECOND_MICROS.unsigned_abs());
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{sign}{hours:02}:{minutes:02}:{:02}{fraction}", seconds % 60)
}

/// `14 mons -3 days 01:02:03`: months, days and time, each with its sign.
pub(super) fn interval(bytes: &[u8]) -> Option<String> {
    let micros = i64::from_be_bytes(*bytes.first_chunk()?);
    let days = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let months = i32::from_be_bytes(*bytes.get(12..)?.first_chunk()?);
    let mut parts = Vec::new();
    if months != 0 {
        parts.push(format!("{months} mons"));
    }
    if days != 0 {
        parts.push(format!("{days} days"));
    }
    if micros != 0 || parts.is_empty() {
        parts.push(clock(micros));
    }
    Some(parts.join(" "))
}

/// `192.0.2.1/24`, without the mask where it is the whole address.
pub(super) fn inet(bytes: &[u8]) -> Option<String> {
    let [family, bits, _is_cidr, _length, address @ ..] = bytes else { return None };
    let (address, most) = match family {
        2 => (Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string(), 32),
        3 => (Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string(), 128),
        _ => return None,
    };
    Some(if *bits == most { address } else { format!("{address}/{bits}") })
}

/// `{a,"b c",NULL}` of an array's binary form; lower bounds other than 1 go before it.
pub(super) fn array(element: &PgType, bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let dimensions = usize::try_from(word(&mut rest)?).ok()?;
    let (_has_null, _element_oid) = (word(&mut rest)?, word(&mut rest)?);
    if dimensions == 0 {
        return Some("{}".to_owned());
    }
    let mut sizes = Vec::new();
    let mut bounds = String::new();
    let mut is_plain = true;
    // Postgres knows six dimensions at most.
    for _ in 0..dimensions.min(6) {
        let (size, lower) = (word(&mut rest)?, word(&mut rest)?);
        is_plain &= lower == 1;
        bounds.push_str(&format!("[{lower}:{}]", i64::from(lower) + i64::from(size) - 1));
        sizes.push(usize::try_from(size).ok()?);
    }
    let mut shown = if is_plain { String::new() } else { format!("{bounds}=") };
    elements(element, &sizes, &mut rest, &mut shown)?;
    Some(shown)
}

fn elements(element: &PgType, sizes: &[usize], rest: &mut &[u8], shown: &mut String) -> Option<()> {
    let (size, inner) = sizes.split_first()?;
    shown.push('{');
    for at in 0..*size {
        if at > 0 {
            shown.push(',');
        }
        if !inner.is_empty() {
            elements(element, inner, rest, shown)?;
            continue;
        }
        match usize::try_from(word(rest)?) {
            Err(_) => shown.push_str("NULL"),
            Ok(length) => {
                let (field, after) = rest.split_at_checked(length)?;
                *rest = after;
                push_element(shown, &display_field(element, field));
            }
        }
    }
    shown.push('}');
    Some(())
}

/// Quoted where `array_out` quotes.
fn push_element(shown: &mut String, text: &str) {
    let special = |c: char| {
        matches!(c, '"' | '\\' | '{' | '}' | ',' | ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
    };
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        shown.push_str(text);
        return;
    }
    push_quoted(shown, text);
}

fn word(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}
