//! Casts: named, total conversions from a source value to a Postgres binary value.
//!
//! A cast yields a value, a ledger note beside a changed value, or a reject; never a panic, never
//! a silent change. The stored form is the one binary COPY carries: a big-endian `i32` length
//! (`-1` for NULL) and the type's binary send form.

//!
//! | module | casts to |
//! |---|---|
//! | `number`, `numeric` | integers, boolean, floats; numeric |
//! | `text`, `enumeration` | text, varchar, ltree, bytea; enums |
//! | `timestamp`, `moment`, `civil`, `interval` | timestamptz, timestamp, date, time; interval |
//! | `uuid`, `inet`, `array`, `document` | uuid, inet, arrays, json and jsonb |
//!
//! `inverse` goes the other way, for what is written back to `SQLite`.
//! [`column`] chooses between them and applies the policies; [`options`] is what a pack declares.

mod array;
mod civil;
pub mod column;
mod decimal;
mod document;
mod enumeration;
mod fault;
mod field;
mod independent;
mod inet;
mod interval;
mod inverse;
mod moment;
pub mod note;
mod number;
mod numeric;
pub mod options;
mod planted;
pub mod redact;
mod source;
pub mod spelling;
mod text;
mod timestamp;
mod uuid;
mod validate;
pub mod value;

#[cfg(test)]
mod column_tests;

pub use column::ColumnCast;
pub(crate) use document::redact_shown;
pub use independent::Raw;
pub use inverse::{Reverse, Stored, Strength};
pub use note::{MixedUnits, Note, Original, Policies, Policy, Refusal};
pub use options::{CastName, CastOptions, EmptyText, EpochUnit, JsonNull, UnitHint, UnitOption};
pub use planted::Bug;
pub use redact::{Redacted, Redactor};
pub use value::{PgType, Value};
