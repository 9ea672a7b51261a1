//! Sources that are huge, and sources that move.

mod memory;
mod moving;
mod streaming;
mod views;
