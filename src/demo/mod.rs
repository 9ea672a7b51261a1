//! The seeded generator of source folders, used by the demo, the tests and the benchmarks.

pub mod generate;

pub use generate::{Counts, Generated, Outcome, Quirk, Shape, generate};
