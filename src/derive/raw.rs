//! The values of a row before any cast, for a second way to what they mean.

use crate::cast::Raw;
use crate::derive::{Deriver, context_of, resolve};
use crate::source::SourceRecord;

impl Deriver<'_> {
    /// What each column of a row is made of: None for constants, for all where the record has no
    /// such row.
    pub fn raw(
        &mut self,
        record: &SourceRecord<'_>,
        output: usize,
        element: u32,
    ) -> Vec<Option<Raw>> {
        let computed = self.computed(&record.content).ok().flatten();
        let Some(context) = context_of(record, computed.as_ref()) else { return Vec::new() };
        let plan = &self.stream.outputs[output];
        let Some(each) = &plan.each else { return self.raw_row(output, &context) };
        let Some((key, value)) = context.members(each).into_iter().nth(element as usize) else {
            return Vec::new();
        };
        let position = element.to_string();
        let context = resolve::Context {
            element: Some(value),
            element_key: Some(key.unwrap_or(position.as_bytes())),
            ..context
        };
        self.raw_row(output, &context)
    }

    fn raw_row(&mut self, output: usize, context: &resolve::Context<'_>) -> Vec<Option<Raw>> {
        let columns = &self.stream.outputs[output].columns;
        let mut row = Vec::with_capacity(columns.len());
        for column in columns {
            row.push(if column.constant.is_some() {
                None
            } else {
                Some(column.cast.raw(context.first(&column.from)))
            });
        }
        row
    }
}
