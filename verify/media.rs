//! Pack `media`: files moved whole, keys and attributes in one spelling, lists, typed attributes,
//! and partitions split beside a writer.

mod filters;
mod import;
mod repartition;
