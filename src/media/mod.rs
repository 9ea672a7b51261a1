//! Pack `media`: what its import cannot say as a table of casts, smart lists, and the
//! repartitioning of what users track.

pub mod attributes;
pub mod filter;
pub mod import;
pub mod key;
pub mod questions;
pub mod repartition;
pub mod smart_list;
