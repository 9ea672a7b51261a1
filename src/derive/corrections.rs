//! Records that a person corrected after they were refused: the source still holds the bad ones.
//!
//! Whoever derives the record of the source leaves out what the correction stands for, with the
//! ledger rule [`CORRECTED`]; parity expects the rows of the correction in its place.

use std::collections::HashMap;

use crate::canonical::{Digest, display_row, sha256};
use crate::cast::redact::Redactor;
use crate::derive::{Derived, Fate, HeldRecord, RowSkip, original_bytes, output_name, row_locator};
use crate::pack::plan::StreamPlan;
use crate::source::SourceRecord;

/// The ledger rule of what a correction stands for.
pub const CORRECTED: &str = "corrected_by_retry";

/// Output name (empty for the record's own), source file, locator.
type Place = (String, String, String);

/// The corrections of one stream.
#[derive(Debug, Default)]
pub struct Corrections {
    by_place: HashMap<Place, Vec<Correction>>,
}

/// What is stored in place of one refused record or row.
#[derive(Debug)]
pub struct Correction {
    /// Identity of what was refused, as the reject has it.
    pub refused: Digest,
    /// What was stored instead.
    pub stored: Corrected,
}

/// What was stored instead.
#[derive(Debug)]
pub enum Corrected {
    /// A record, which goes through the casts.
    Record(Box<HeldRecord>),
    /// Encoded fields of a row that Postgres had refused.
    Row(Vec<u8>),
}

impl Corrections {
    /// Adds a correction.
    pub fn add(&mut self, place: Place, correction: Correction) {
        self.by_place.entry(place).or_default().push(correction);
    }

    /// Whether there are none, the fast path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// The correction of what was refused at a place.
    #[must_use]
    pub fn find(&self, place: &Place, refused: &Digest) -> Option<&Correction> {
        self.by_place.get(place)?.iter().find(|correction| correction.refused == *refused)
    }

    /// Turns what is corrected from refusals and rows into skips.
    pub(super) fn leave_out(
        &self,
        stream: &StreamPlan,
        record: &SourceRecord<'_>,
        redactor: &Redactor,
        out: &mut Derived,
    ) {
        self.leave_out_refusals(stream, record, redactor, out);
        self.leave_out_rows(stream, record, out);
    }

    fn leave_out_refusals(
        &self,
        stream: &StreamPlan,
        record: &SourceRecord<'_>,
        redactor: &Redactor,
        out: &mut Derived,
    ) {
        let mut at = 0;
        while at < out.refusals.len() {
            let (output, element) = (out.refusals[at].output, out.refusals[at].element);
            let place = place(stream, record, output, element);
            let refused = self.by_place.contains_key(&place).then(|| {
                let (bytes, _) = original_bytes(&record.content, redactor);
                sha256(&bytes)
            });
            let Some(refused) = refused.filter(|refused| self.find(&place, refused).is_some())
            else {
                at += 1;
                continue;
            };
            out.refusals.remove(at);
            out.surveyed.retain(|cast| (cast.output, cast.element) != (output, element));
            out.leave_out(output, element, refused);
        }
    }

    fn leave_out_rows(&self, stream: &StreamPlan, record: &SourceRecord<'_>, out: &mut Derived) {
        let mut at = 0;
        while at < out.rows.len() {
            let (output, element) = (out.rows[at].output, out.rows[at].element);
            let place = place(stream, record, output, element);
            let refused = self.by_place.contains_key(&place).then(|| {
                let shown = display_row(&stream.outputs[output], out.fields(&out.rows[at]));
                sha256(serde_json::Value::Object(shown).to_string().as_bytes())
            });
            let Some(refused) = refused.filter(|refused| self.find(&place, refused).is_some())
            else {
                at += 1;
                continue;
            };
            out.rows.remove(at);
            out.notes.retain(|note| note.row != at);
            for note in out.notes.iter_mut().filter(|note| note.row > at) {
                note.row -= 1;
            }
            out.leave_out(output, element, refused);
        }
    }
}

fn place(stream: &StreamPlan, record: &SourceRecord<'_>, output: usize, element: u32) -> Place {
    (
        output_name(stream, output),
        record.file.relative.clone(),
        row_locator(record, &stream.outputs[output], element),
    )
}

impl Derived {
    fn leave_out(&mut self, output: usize, element: u32, refused: Digest) {
        let rule = CORRECTED.to_owned();
        self.skips.push(RowSkip { output, element, rule, original_hash: refused });
        if output == 0 {
            self.fate = Fate::Skipped;
        }
    }

    /// Keeps only what concerns one row.
    pub fn only(&mut self, output: usize, element: u32) {
        let wanted = |o: usize, e: u32| (o, e) == (output, element);
        let kept: Vec<usize> = (0..self.rows.len())
            .filter(|at| wanted(self.rows[*at].output, self.rows[*at].element))
            .collect();
        self.notes.retain(|note| kept.contains(&note.row));
        for note in &mut self.notes {
            note.row = kept.iter().position(|at| *at == note.row).unwrap_or(0);
        }
        self.rows.retain(|row| wanted(row.output, row.element));
        self.skips.retain(|skip| wanted(skip.output, skip.element));
        self.refusals
            .retain(|refused| refused.output == 0 || wanted(refused.output, refused.element));
    }
}
