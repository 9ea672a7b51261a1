//! What is wrong with a pack, where it stands, and what to do about it.

use std::fmt::Write as _;

use crate::error::{Error, ErrorKind};
use crate::pack::Pack;

/// One thing that is wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset in `pack.toml`.
    pub at: usize,
    /// The stream at fault, if it is one.
    pub stream: Option<String>,
    /// One sentence.
    pub detail: String,
    /// What to do, if known.
    pub advice: Option<String>,
}

impl Fault {
    /// A fault at a byte offset of `pack.toml`.
    pub fn new(at: usize, detail: impl Into<String>) -> Self {
        Self { at, stream: None, detail: detail.into(), advice: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says whose fault it is.
    #[must_use]
    pub fn of(mut self, stream: &str) -> Self {
        self.stream = Some(stream.to_owned());
        self
    }

    /// Place and sentence: `pack.toml, line 3: stream `x`: ...`.
    #[must_use]
    pub fn sentence(&self, pack: &Pack) -> String {
        let place = pack.place(self.at);
        match &self.stream {
            Some(stream) => format!("{place}: stream `{stream}`: {}", self.detail),
            None => format!("{place}: {}", self.detail),
        }
    }

    /// As an error; `more` further faults were found.
    #[must_use]
    pub fn error(&self, pack: &Pack, more: usize) -> Error {
        let mut sentence = self.sentence(pack);
        if more > 0 {
            let _ = write!(sentence, "; {more} more: `toolkit pack check` lists them all");
        }
        let error = Error::new(ErrorKind::Pack, sentence);
        match &self.advice {
            Some(advice) => error.advice(advice.clone()),
            None => error,
        }
    }
}

/// The first of `faults` as an error.
pub fn first_error(pack: &Pack, faults: &[Fault]) -> Option<Error> {
    faults.first().map(|first| first.error(pack, faults.len() - 1))
}
