//! The keys of a record's rows, from no more than the columns they are made of.

use super::{Deriver, context_of, null_key};
use crate::source::SourceRecord;

/// The key that an output's row has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedKey {
    /// Position of the output.
    pub output: usize,
    /// COPY fields of the whole row, NULL but for the key.
    pub fields: Vec<u8>,
}

impl Deriver<'_> {
    /// The keys of the rows that a record with these columns has, whatever its other columns
    /// hold. Outputs that make rows of elements have none, nor has a key that a cast refuses:
    /// no row was ever stored under it.
    pub fn keys(&mut self, record: &SourceRecord<'_>) -> Vec<DerivedKey> {
        let mut found = Vec::new();
        let Some(context) = context_of(record, None) else { return found };
        'outputs: for (index, output) in self.stream.outputs.iter().enumerate() {
            if output.each.is_some() || output.is_content {
                continue;
            }
            let mut fields = Vec::new();
            for (position, column) in output.columns.iter().enumerate() {
                if !output.key.contains(&position) {
                    fields.extend_from_slice(&(-1_i32).to_be_bytes());
                } else if let Some(constant) = &column.constant {
                    fields.extend_from_slice(constant);
                } else {
                    let value = context.first(&column.from);
                    self.scratch.clear();
                    if column.cast.encode(value, &mut fields, &mut self.scratch).is_err() {
                        continue 'outputs;
                    }
                }
            }
            if null_key(output, &fields).is_none() {
                found.push(DerivedKey { output: index, fields });
            }
        }
        found
    }
}

/// The fields of a row, NULL but for its key.
#[must_use]
pub fn key_fields(output: &crate::pack::plan::OutputPlan, fields: &[u8]) -> Vec<u8> {
    let others: Vec<usize> =
        (0..output.columns.len()).filter(|at| !output.key.contains(at)).collect();
    crate::canonical::with_nulls(fields, &others)
}
