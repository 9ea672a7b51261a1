//! How many bytes a document takes as jsonb, since jsonb refuses what does not fit its offsets.
//!
//! Follows `convertJsonbArray` and `convertJsonbObject` of `src/backend/utils/adt/jsonb_util.c`
//! and `make_result` of `numeric.c`, Postgres 15.

/// Longest string, key or container in bytes (`JENTRY_OFFLENMASK`).
pub(super) const BYTES_MAX: usize = 268_435_455;

/// Elements an array can have while it is read: twice as many 32-byte values would exceed
/// `MaxAllocSize`.
pub(super) const ELEMENTS_MAX: usize = 1 << 24;

/// Members an object can have while it is read, duplicates included; each takes 72 bytes there.
pub(super) const MEMBERS_MAX: usize = 1 << 23;

const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 4;

/// The length of the value's buffer so far.
pub(super) struct StoredSize {
    bytes: usize,
}

impl StoredSize {
    pub(super) fn new() -> Self {
        Self { bytes: HEADER_BYTES }
    }

    /// Begins a container whose elements, keys and values together are `entries`; returns where.
    pub(super) fn enter(&mut self, entries: usize) -> usize {
        let start = self.bytes;
        self.align();
        self.bytes += HEADER_BYTES + ENTRY_BYTES * entries;
        start
    }

    /// Counts a string, or the keys of an object together: strings are not aligned.
    pub(super) fn add_string(&mut self, length: usize) {
        self.bytes += length;
    }

    /// Counts a numeric by its text.
    pub(super) fn add_numeric(&mut self, text: &[u8]) {
        self.align();
        self.bytes += numeric_bytes(text);
    }

    /// Bytes since a container's start.
    pub(super) fn since(&self, start: usize) -> usize {
        self.bytes - start
    }

    /// Forgets what was counted after `mark` was taken.
    pub(super) fn rewind(&mut self, mark: usize) {
        self.bytes = mark;
    }

    pub(super) fn mark(&self) -> usize {
        self.bytes
    }

    fn align(&mut self) {
        self.bytes = self.bytes.next_multiple_of(4);
    }
}

/// Size of a numeric on disk with its four-byte length: digits in groups of four around the point,
/// without the groups of zeros at both ends, behind a short or a long header.
fn numeric_bytes(text: &[u8]) -> usize {
    const GROUP: usize = 4;
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let point = text.iter().position(|&byte| byte == b'.');
    let (integer, fraction) = match point {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let significant = |byte: &u8| *byte != b'0';
    let integer_groups = integer.len().div_ceil(GROUP);
    let group_of_integer = |index: usize| integer_groups - 1 - (integer.len() - 1 - index) / GROUP;
    let group_of_fraction = |index: usize| integer_groups + index / GROUP;
    let first = integer
        .iter()
        .position(significant)
        .map(group_of_integer)
        .or_else(|| fraction.iter().position(significant).map(group_of_fraction));
    let last = fraction
        .iter()
        .rposition(significant)
        .map(group_of_fraction)
        .or_else(|| integer.iter().rposition(significant).map(group_of_integer));
    let (groups, fits_weight) = match (first, last) {
        // The weight of the first group is a signed seven-bit number in the short header.
        (Some(first), Some(last)) => {
            let is_short = if first < integer_groups {
                integer_groups - 1 - first <= 63
            } else {
                first + 1 - integer_groups <= 64
            };
            (last - first + 1, is_short)
        }
        _ => (0, true),
    };
    let header = if fits_weight && fraction.len() <= 63 { 2 } else { 4 };
    HEADER_BYTES + header + 2 * groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from Postgres 15: `select pg_column_size(literal::numeric)`.
    #[test]
    fn numerics_take_what_postgres_says() {
        for (text, expected) in NUMERIC_SIZES {
            assert_eq!(numeric_bytes(text.as_bytes()), *expected, "{text}");
        }
    }

    const NUMERIC_SIZES: &[(&str, usize)] = &[
        ("0", 6),
        ("0.0", 6),
        ("1", 8),
        ("-1", 8),
        ("9999", 8),
        ("10000", 8),
        ("12345", 10),
        ("100000000", 8),
        ("1.5", 10),
        ("0.0001", 8),
        ("0.00001", 8),
        ("0.00010", 8),
        ("1.00", 8),
        ("123456789.123456789", 18),
        ("10000.0001", 12),
        ("0.1000", 8),
    ];

    #[test]
    fn the_short_header_of_numerics_ends_where_postgres_ends_it() {
        let bytes = |text: String| numeric_bytes(text.as_bytes());
        assert_eq!(bytes(format!("1{}", "0".repeat(255))), 8);
        assert_eq!(bytes(format!("1{}", "0".repeat(256))), 10);
        assert_eq!(bytes(format!("0.{}", "0".repeat(63))), 6);
        assert_eq!(bytes(format!("0.{}1", "0".repeat(62))), 8);
        assert_eq!(bytes(format!("0.{}1", "0".repeat(63))), 10);
        assert_eq!(bytes("9".repeat(1000)), 508);
    }
}
