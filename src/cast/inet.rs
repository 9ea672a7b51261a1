//! inet in its binary send form: family, mask bits, is-cidr, length, address.

use std::net::IpAddr;

use super::fault::{Changed, Class, Fault};
use super::field::put;
use super::source::Source;

/// Postgres's own families; they are not the platform's.
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

/// Writes an inet from `address[/bits]`; IPv4 with four parts, IPv6 without a zone.
pub(super) fn write_inet(source: Source<'_>, out: &mut Vec<u8>) -> Result<Changed, Fault> {
    let Source::Text(text) = source else {
        return Err(Fault::wrong_type("an address is text"));
    };
    let (address, bits) = parse(text).ok_or_else(|| {
        Fault::new(Class::Unreadable, "invalid_inet", "an address is 192.0.2.1 or 2001:db8::/32")
    })?;
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            put(out, [FAMILY_V4, bits, 0, 4, a, b, c, d]);
        }
        IpAddr::V6(v6) => {
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&[FAMILY_V6, bits, 0, 16]);
            bytes[4..].copy_from_slice(&v6.octets());
            put(out, bytes);
        }
    }
    Ok(None)
}

fn parse(text: &[u8]) -> Option<(IpAddr, u8)> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(digits) => {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().filter(|bits| *bits <= most)?
        }
    };
    Some((address, bits))
}
