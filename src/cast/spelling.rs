//! Types known only as text: the server says how it writes a value.

use std::fmt::Debug;

/// Reads a text as a type and writes it back, as Postgres's own input and output functions do.
pub trait Spelling: Debug + Send + Sync {
    /// How the column's type writes the value that `text` is.
    fn respell(&self, text: &str) -> Result<String, Unspelled>;
}

/// Why there is no spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unspelled {
    /// The text is no value of the type.
    NoValue {
        /// Postgres's code for it.
        sqlstate: String,
    },
    /// The declared length or scale would shorten, pad or round it.
    TooLong,
    /// The server could not be asked; the spelling keeps the error for whoever derives.
    NotAsked,
}
