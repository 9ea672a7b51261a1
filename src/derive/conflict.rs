//! Which of two rows under one key is the newer.

use crate::canonical::fields_of;
use crate::cast::PgType;
use crate::pack::plan::OutputPlan;

/// Whether the `by` field of `left` is greater than that of `right`; NULL is the oldest.
#[must_use]
pub fn is_newer(output: &OutputPlan, left: &[u8], right: &[u8]) -> bool {
    let Some(by) = output.by else { return false };
    let field = |tuple: &[u8]| fields_of(tuple)[by].clone().map(|range| tuple[range].to_vec());
    match (field(left), field(right)) {
        (Some(left), Some(right)) => {
            order_key(output.columns[by].cast.ty(), &left)
                > order_key(output.columns[by].cast.ty(), &right)
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Bytes whose order is the order of the values: the sign bit of two's complement is flipped.
fn order_key(ty: &PgType, field: &[u8]) -> Vec<u8> {
    let mut bytes = field.to_vec();
    let is_signed = matches!(
        ty,
        PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Timestamptz
            | PgType::Timestamp
            | PgType::Date
    );
    if is_signed && let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
    bytes
}
