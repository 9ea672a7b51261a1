//! Casts: named, total conversions from a source value to a Postgres binary value.
//!
//! A cast yields a value, a ledger note beside a changed value, or a reject; never a panic, never
//! a silent change. The stored form is the one binary COPY carries: a big-endian `i32` length
//! (`-1` for NULL) and the type's binary send form.

pub mod note;
pub mod redact;
pub mod value;

pub use note::{Note, Original, Policies, Policy, Refusal};
pub use redact::{Redacted, Redactor};
pub use value::{PgType, Value};
