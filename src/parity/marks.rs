//! Marks in a stream, so that single records can be read again without reading all before them.

use crate::source::Position;

/// Marks kept at most; beyond it every second one is dropped.
const MARKS_MAX: usize = 1 << 16;

/// Records between two marks, at first.
const STRIDE: u64 = 64;

/// Where reading can begin.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// 0-based number, in the stream, of the record that is read next from here.
    pub(crate) ordinal: u64,
    /// Which of the stream's sources.
    pub(crate) source: usize,
    /// Where in it; None: at its beginning.
    pub(crate) position: Option<Position>,
}

/// The marks of one stream.
#[derive(Debug)]
pub(crate) struct Marks {
    marks: Vec<Mark>,
    stride: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self { marks: Vec::new(), stride: STRIDE }
    }
}

impl Marks {
    /// Whether a mark should be set before record `ordinal`.
    pub(crate) fn are_due(&self, ordinal: u64) -> bool {
        ordinal.is_multiple_of(self.stride)
    }

    /// Sets a mark before record `ordinal`.
    pub(crate) fn set(&mut self, ordinal: u64, source: usize, position: Option<Position>) {
        self.marks.push(Mark { ordinal, source, position });
        if self.marks.len() > MARKS_MAX {
            self.stride *= 2;
            let stride = self.stride;
            // The beginning of a source is no multiple, and always kept.
            self.marks.retain(|m| m.position.is_none() || m.ordinal.is_multiple_of(stride));
        }
    }

    /// The last mark from which record `ordinal` can be reached.
    pub(crate) fn before(&self, ordinal: u64) -> Option<&Mark> {
        let after = self.marks.partition_point(|mark| mark.ordinal <= ordinal);
        self.marks[..after].last()
    }

    /// Whether a mark leads to `wanted` sooner than reading on from `now`.
    pub(crate) fn is_nearer(&self, wanted: u64, now: u64) -> bool {
        self.before(wanted).is_some_and(|mark| mark.ordinal > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_leads_to_every_record_however_many_there_are() {
        let mut marks = Marks::default();
        let sources = [0_u64, 5_000_000, 5_000_001];
        for ordinal in 0..9_000_000_u64 {
            if let Some(source) = sources.iter().position(|first| *first == ordinal) {
                marks.set(ordinal, source, None);
            }
            if marks.are_due(ordinal + 1) {
                let source = sources.iter().filter(|first| **first <= ordinal).count() - 1;
                marks.set(ordinal + 1, source, Some(Position::Ordinal(ordinal)));
            }
        }
        assert!(marks.marks.len() <= MARKS_MAX);
        for wanted in [0, 1, 63, 64, 4_999_999, 5_000_000, 5_000_001, 8_999_999] {
            let mark = marks.before(wanted).unwrap();
            let source = sources.iter().filter(|first| **first <= wanted).count() - 1;
            assert!(mark.ordinal <= wanted && mark.source <= source, "{wanted}: {mark:?}");
        }
    }
}
