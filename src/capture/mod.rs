//! Dual-write: changes captured in the primary store and applied to the other.

pub mod reverse;
