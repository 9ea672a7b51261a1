//! Bugs planted in a cast on purpose, to see whether verification finds them.

use super::column::ColumnCast;
use super::value::PgType;

/// What a wrong cast does to a value that is not NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The last bit is the other one.
    LastBit,
    /// Text or bytes lose their last byte.
    Truncated,
    /// A moment is read in a zone one hour off.
    ZoneDropped,
    /// Milliseconds are read as seconds.
    UnitMistaken,
    /// The first four bytes of a uuid are in the other order.
    UuidSwapped,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LastBit, Self::Truncated, Self::ZoneDropped, Self::UnitMistaken, Self::UuidSwapped];

    /// Whether a cast to `ty` can have this bug.
    #[must_use]
    pub fn fits(self, ty: &PgType) -> bool {
        match self {
            Self::LastBit => true,
            Self::Truncated => matches!(ty, PgType::Text(_) | PgType::Bytea),
            Self::ZoneDropped | Self::UnitMistaken => *ty == PgType::Timestamptz,
            Self::UuidSwapped => *ty == PgType::Uuid,
        }
    }

    /// Does its work on the COPY field that begins at `start`.
    pub(super) fn distort(self, out: &mut Vec<u8>, start: usize) {
        const EPOCH_2000_MICROS: i64 = 946_684_800_000_000;
        let at = start + 4;
        if out.len() <= at {
            return;
        }
        let moment = |out: &[u8]| out[at..].first_chunk::<8>().map(|b| i64::from_be_bytes(*b));
        match self {
            Self::LastBit => {
                if let Some(last) = out.last_mut() {
                    *last ^= 1;
                }
            }
            Self::Truncated => {
                out.pop();
                let length = u32::try_from(out.len() - at).unwrap_or_default();
                out[start..at].copy_from_slice(&length.to_be_bytes());
            }
            Self::ZoneDropped => {
                if let Some(micros) = moment(out) {
                    let wrong = micros.wrapping_add(3_600_000_000);
                    out[at..at + 8].copy_from_slice(&wrong.to_be_bytes());
                }
            }
            Self::UnitMistaken => {
                if let Some(micros) = moment(out) {
                    let since_1970 = micros.wrapping_add(EPOCH_2000_MICROS);
                    let wrong = since_1970.wrapping_mul(1000).wrapping_sub(EPOCH_2000_MICROS);
                    out[at..at + 8].copy_from_slice(&wrong.to_be_bytes());
                }
            }
            Self::UuidSwapped => out[at..at + 4].reverse(),
        }
    }
}

impl ColumnCast {
    /// Makes this cast wrong. For the verifier's own test, never for work.
    pub fn plant(&mut self, bug: Bug) {
        self.planted = Some(bug);
    }
}
